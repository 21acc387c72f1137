//! Lower and upper bounds.

use crate::{Expectation, Says};
use serde::Deserialize;

/// A number that must not be below a bound: `{ at_least = 19 }` or `{ waive = "reason" }`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Minimum {
    /// At least this.
    AtLeast(u32),
    /// Not looked at, for this reason.
    Waive(String),
}

/// An age that must not be above a bound: `{ at_most_days = 14 }` or `{ waive = "reason" }`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum AgeLimit {
    /// At most so many days of 86,400 seconds.
    AtMostDays(u32),
    /// Not looked at, for this reason.
    Waive(String),
}

impl Expectation for Minimum {
    fn waiver(&self) -> Option<&str> {
        match self {
            Self::Waive(reason) => Some(reason),
            Self::AtLeast(_) => None,
        }
    }

    fn says(&self) -> Says {
        match self {
            Self::AtLeast(bound) => Says::AtLeast(u64::from(*bound)),
            Self::Waive(reason) => Says::Waived(reason.clone()),
        }
    }
}

impl Expectation for AgeLimit {
    fn waiver(&self) -> Option<&str> {
        match self {
            Self::Waive(reason) => Some(reason),
            Self::AtMostDays(_) => None,
        }
    }

    fn says(&self) -> Says {
        match self {
            Self::AtMostDays(bound) => Says::AtMost(u64::from(*bound)),
            Self::Waive(reason) => Says::Waived(reason.clone()),
        }
    }
}

impl AgeLimit {
    /// The limit in seconds, where there is one.
    #[must_use]
    pub fn seconds(&self) -> Option<i64> {
        match self {
            Self::AtMostDays(days) => Some(i64::from(*days).saturating_mul(86_400)),
            Self::Waive(_) => None,
        }
    }
}
