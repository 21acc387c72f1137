//! The table `[freshness]`: how long a verdict holds.

use crate::PolicyError;
use serde::Deserialize;

/// How long a verdict holds, and when to attest again.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FreshnessPolicy {
    /// Longest age of a verdict, in seconds, 1 to 86400.
    pub max_age_seconds: u64,
    /// When further connections attest again.
    pub attest: Attest,
    /// Whether quotes shared by several clients are accepted.
    pub batch: Batch,
}

impl FreshnessPolicy {
    pub(crate) fn check(&self) -> Result<(), PolicyError> {
        let found = self.max_age_seconds;
        if (1..=86_400).contains(&found) {
            return Ok(());
        }
        Err(PolicyError::Range { field: "freshness.max_age_seconds", found, expected: "1 to 86400" })
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
