//! Lower and upper bounds.

use crate::{Expectation, Reason, Says, form};
use serde::{Deserialize, Deserializer};

/// A number that must not be below a bound: `{ at_least = 19 }` or `{ waive = "reason" }`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Minimum {
    /// At least this.
    AtLeast(u32),
    /// Not looked at, for this reason.
    Waive(Reason),
}

/// An age that must not be above a bound: `{ at_most_days = 14 }` or `{ waive = "reason" }`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgeLimit {
    /// At most so many days of 86,400 seconds.
    AtMostDays(u32),
    /// Not looked at, for this reason.
    Waive(Reason),
}

impl<'de> Deserialize<'de> for Minimum {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Form {
            at_least: Option<u32>,
            waive: Option<Reason>,
        }
        let form = Form::deserialize(deserializer)?;
        form::one([form.at_least.map(Self::AtLeast), form.waive.map(Self::Waive)], "at_least, waive")
    }
}

impl<'de> Deserialize<'de> for AgeLimit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Form {
            at_most_days: Option<u32>,
            waive: Option<Reason>,
        }
        let form = Form::deserialize(deserializer)?;
        form::one(
            [form.at_most_days.map(Self::AtMostDays), form.waive.map(Self::Waive)],
            "at_most_days, waive",
        )
    }
}

impl Expectation for Minimum {
    fn waiver(&self) -> Option<&Reason> {
        match self {
            Self::Waive(reason) => Some(reason),
            Self::AtLeast(_) => None,
        }
    }

    fn says(&self) -> Says {
        match self {
            Self::AtLeast(bound) => Says::AtLeast(u64::from(*bound)),
            Self::Waive(reason) => Says::Waived(reason.to_string()),
        }
    }
}

impl Expectation for AgeLimit {
    fn waiver(&self) -> Option<&Reason> {
        match self {
            Self::Waive(reason) => Some(reason),
            Self::AtMostDays(_) => None,
        }
    }

    fn says(&self) -> Says {
        match self {
            Self::AtMostDays(bound) => Says::AtMost(u64::from(*bound)),
            Self::Waive(reason) => Says::Waived(reason.to_string()),
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
