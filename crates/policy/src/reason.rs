//! Why a field is waived.

use serde::{Deserialize, Deserializer};
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// What verdicts write before a reason.
const WAIVED: &str = "waived: ";

/// The reason of a waiver. Every verdict repeats it: it is kept in the words of a verdict, to be shared and not copied.
#[derive(Clone, PartialEq, Eq)]
pub struct Reason(Arc<str>);

impl Reason {
    /// The reason itself, as the policy writes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.get(WAIVED.len()..).unwrap_or_default()
    }

    /// As verdicts write it: `waived: ` and the reason.
    #[must_use]
    pub fn in_verdicts(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }
}

impl From<&str> for Reason {
    fn from(reason: &str) -> Self {
        Self([WAIVED, reason].concat().into())
    }
}

impl From<String> for Reason {
    fn from(reason: String) -> Self {
        reason.as_str().into()
    }
}

impl Deref for Reason {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Debug for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), formatter)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Reason {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_read_as_it_is_written_and_told_as_a_waiver() {
        let reason = Reason::from("a quote alone");
        assert_eq!((reason.as_str(), &*reason.in_verdicts()), ("a quote alone", "waived: a quote alone"));
        assert_eq!(
            (format!("{reason}"), format!("{reason:?}")),
            ("a quote alone".into(), "\"a quote alone\"".into())
        );
        assert_eq!(Reason::from(String::new()).as_str(), "");
    }
}
