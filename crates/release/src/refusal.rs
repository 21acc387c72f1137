//! How a broker says no.

use serde::{Deserialize, Serialize};

/// The largest refusal that a guest reads, in bytes. A code, a sentence and two values: a few hundred are usual.
pub const MAX_REFUSAL: usize = 64 * 1024;

/// The body of every answer of a broker that is no success: `application/json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// What is wrong.
    pub error: Fault,
}

/// What is wrong. It names no secret, and no other volume than those of the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Stable code: that of the check which refused the evidence, or one of the broker's own.
    pub code: String,
    /// One sentence.
    pub message: String,
    /// What was expected, where a check says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// What was found, where a check says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actual: Option<String>,
}

impl Refusal {
    /// A refusal without values.
    #[must_use]
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        let error = Fault { code: code.to_owned(), message: message.into(), expected: None, actual: None };
        Self { error }
    }

    /// The JSON object.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings always serialise")
    }

    /// Reads a refusal; `None` where the body is none, as a stranger's is.
    #[must_use]
    pub fn from_json(body: &[u8]) -> Option<Self> {
        (body.len() <= MAX_REFUSAL).then(|| serde_json::from_slice(body).ok()).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_read_as_it_is_written_and_a_strangers_page_is_none() {
        let refusal = Refusal::new("volume_revoked", "the volume is revoked");
        assert_eq!(Refusal::from_json(&refusal.to_json()), Some(refusal));
        for body in [&b"<html>"[..], b"{}", b"{\"error\":\"x\"}", b""] {
            assert_eq!(Refusal::from_json(body), None);
        }
        let long = Refusal::new("x", "y".repeat(MAX_REFUSAL));
        assert_eq!(Refusal::from_json(&long.to_json()), None);
    }
}
