//! How a broker says no.

use serde::{Deserialize, Serialize};

/// The largest refusal that a guest reads, in bytes. A code, a sentence and two values: a few hundred are usual.
pub const MAX_REFUSAL: usize = 64 * 1024;

/// The body of every answer of a broker that is no success: `application/json`, in the form of OpenAI's API, as guests and
/// clients of Confide answer too.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
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

    /// The JSON object for an answer of this HTTP status, which decides `type`: `rate_limit_error`, `server_error` or
    /// `invalid_request_error`. `param` is always `null`: no field of a message is named.
    #[must_use]
    pub fn to_json(&self, status: u16) -> Vec<u8> {
        let kind = match status {
            429 => "rate_limit_error",
            500.. => "server_error",
            _ => "invalid_request_error",
        };
        let error = Written { kind, param: None, fault: &self.error };
        serde_json::to_vec(&WrittenBody { error }).expect("strings always serialise")
    }

    /// Reads a refusal; `None` where the body is none, as a stranger's is. `type` and `param` are not looked at, and need not be
    /// there.
    #[must_use]
    pub fn from_json(body: &[u8]) -> Option<Self> {
        (body.len() <= MAX_REFUSAL).then(|| serde_json::from_slice(body).ok()).flatten()
    }
}

/// The body with what the API's form has beside [`Fault`].
#[derive(Serialize)]
struct WrittenBody<'a> {
    error: Written<'a>,
}

#[derive(Serialize)]
struct Written<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    param: Option<&'static str>,
    #[serde(flatten)]
    fault: &'a Fault,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_has_the_form_of_the_api() {
        let refusal = Refusal::new("volume_revoked", "the volume is revoked");
        for (status, kind) in [
            (400, "invalid_request_error"),
            (403, "invalid_request_error"),
            (429, "rate_limit_error"),
            (500, "server_error"),
            (503, "server_error"),
        ] {
            let json: serde_json::Value = serde_json::from_slice(&refusal.to_json(status)).unwrap();
            let expected = serde_json::json!({ "error": {
                "code": "volume_revoked", "message": "the volume is revoked", "param": null, "type": kind,
            } });
            assert_eq!(json, expected, "{status}");
        }
        // As brokers before this form wrote it.
        let old = br#"{"error":{"code":"volume_revoked","message":"the volume is revoked"}}"#;
        assert_eq!(Refusal::from_json(old), Some(refusal));
    }

    #[test]
    fn a_refusal_is_read_as_it_is_written_and_a_strangers_page_is_none() {
        let refusal = Refusal::new("volume_revoked", "the volume is revoked");
        assert_eq!(Refusal::from_json(&refusal.to_json(403)), Some(refusal));
        for body in [&b"<html>"[..], b"{}", b"{\"error\":\"x\"}", b""] {
            assert_eq!(Refusal::from_json(body), None);
        }
        let long = Refusal::new("x", "y".repeat(MAX_REFUSAL));
        assert_eq!(Refusal::from_json(&long.to_json(403)), None);
    }
}
