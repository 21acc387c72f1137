//! The table `[freshness]`: how long a verdict holds.

use crate::{Expectation, Field, PolicyError, Says};
use serde::Deserialize;

/// How long a verdict holds, and when to attest again.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FreshnessPolicy {
    /// Longest age of a verdict, in seconds.
    pub max_age_seconds: MaxAge,
    /// When further connections attest again.
    pub attest: Attest,
    /// Whether quotes shared by several clients are accepted.
    pub batch: Batch,
}

impl FreshnessPolicy {
    pub(crate) fn check(&self) -> Result<(), PolicyError> {
        let MaxAge(found) = self.max_age_seconds;
        if (1..=86_400).contains(&found) {
            return Ok(());
        }
        Err(PolicyError::Range { field: "freshness.max_age_seconds", found, expected: "1 to 86400" })
    }

    /// Every setting of the table, in the order of the type.
    pub(crate) fn fields(&self) -> Vec<Field<'_>> {
        let Self { max_age_seconds, attest, batch } = self;
        vec![
            Field::setting("freshness.max_age_seconds", "the age of a verdict in seconds", max_age_seconds),
            Field::setting("freshness.attest", "attestation of further connections", attest),
            Field::new("freshness.batch", "challenge", "a quote that several clients share", batch),
        ]
    }
}

/// A longest age in seconds, 1 to 86400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct MaxAge(pub u64);

impl Expectation for MaxAge {
    fn says(&self) -> Says {
        Says::AtMost(self.0)
    }
}

/// When connections after the first attest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Attest {
    /// Each connection.
    EveryConnection,
    /// Connections to the same TLS key ride on its verdict while that holds.
    PerKey,
}

/// Whether the role `batch` is accepted in place of `serve`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Batch {
    /// Accepted.
    Accept,
    /// Refused.
    Refuse,
}

impl Expectation for Attest {
    fn says(&self) -> Says {
        let (word, meaning, looseness) = match self {
            Self::EveryConnection => ("every-connection", "each connection attests", 0),
            Self::PerKey => ("per-key", "connections to the same TLS key ride on its verdict", 1),
        };
        Says::Choice { word, meaning, looseness }
    }
}

impl Expectation for Batch {
    fn says(&self) -> Says {
        let (word, meaning, looseness) = match self {
            Self::Refuse => ("refuse", "refused", 0),
            Self::Accept => ("accept", "accepted", 1),
        };
        Says::Choice { word, meaning, looseness }
    }
}
