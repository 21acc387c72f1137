//! Errors in the form of the OpenAI API: `{"error": {message, type, param, code}}`.

use crate::error::ClientError;
use confide_evidence::text::{escape_json, steers};
use http::StatusCode;
use serde::{Deserialize, Serialize};

/// The longest text of a peer that is repeated, in characters. A sentence or two.
const MAX_TEXT: usize = 500;

/// An error in the form of the OpenAI API.
#[derive(Debug, Serialize)]
pub(crate) struct ErrorBody<'a> {
    error: ErrorFields<'a>,
}

#[derive(Debug, Serialize)]
struct ErrorFields<'a> {
    message: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    param: Option<&'a str>,
    code: &'a str,
    /// An extension: the code of the check that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    check: Option<&'a str>,
}

impl<'a> ErrorBody<'a> {
    pub(crate) fn new(kind: &'a str, code: &'a str, message: &'a str) -> Self {
        Self { error: ErrorFields { message, kind, param: None, code, check: None } }
    }

    /// Names the check that failed.
    pub(crate) fn check(mut self, check: Option<&'a str>) -> Self {
        self.error.check = check;
        self
    }

    pub(crate) fn to_json(&self) -> Vec<u8> {
        escape_json(serde_json::to_string(self).expect("strings always serialise")).into_bytes()
    }
}

/// Reads an error that a guest answered. Whatever its form, the status is told.
pub(crate) fn read_error(status: StatusCode, body: &[u8]) -> ClientError {
    let (code, message) = match serde_json::from_slice::<PeerError>(body) {
        Ok(PeerError { error }) => (error.code.map(|code| printable(&code)), printable(&error.message)),
        Err(_) => (None, status.canonical_reason().unwrap_or("an error without a message").to_owned()),
    };
    ClientError::Answered { status: status.as_u16(), code, message }
}

/// An error that comes in place of a piece of a stream.
pub(crate) fn stream_error(data: &[u8]) -> Option<ClientError> {
    serde_json::from_slice::<PeerError>(data).is_ok().then(|| read_error(StatusCode::OK, data))
}

#[derive(Deserialize)]
struct PeerError {
    error: PeerFields,
}

#[derive(Deserialize)]
struct PeerFields {
    message: String,
    #[serde(default)]
    code: Option<String>,
}

/// A peer's text without what a terminal would obey, and not too much of it.
fn printable(text: &str) -> String {
    text.chars().take(MAX_TEXT).map(|one| if steers(one) { ' ' } else { one }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_is_that_of_the_openai_api() {
        let body = ErrorBody::new("attestation_error", "report_data", "refused").to_json();
        let expected =
            r#"{"error":{"message":"refused","type":"attestation_error","param":null,"code":"report_data"}}"#;
        assert_eq!(String::from_utf8(body).unwrap(), expected);
        let named = ErrorBody::new("a", "b", "c").check(Some("report_data")).to_json();
        assert!(named.ends_with(br#""code":"b","check":"report_data"}}"#));
    }

    #[test]
    fn an_error_holds_nothing_that_a_terminal_obeys() {
        let body = ErrorBody::new("x", "y", "found \u{9b}2J\u{1b}[2J\u{202e}").to_json();
        let text = String::from_utf8(body).unwrap();
        assert!(text.contains(r"found \u009b2J\u001b[2J\u202e") && !text.contains(steers), "{text:?}");
    }

    #[test]
    fn a_peers_error_is_read_and_made_printable() {
        let body = b"{\"error\":{\"message\":\"no \\u001b[2Jmodel\",\"type\":\"x\",\"param\":null,\"code\":\"model_not_found\"}}";
        let error = read_error(StatusCode::NOT_FOUND, body);
        assert_eq!(error.to_string(), "the guest answered 404: no  [2Jmodel (model_not_found)");
    }

    #[test]
    fn an_error_of_another_form_keeps_its_status() {
        for body in [&b""[..], b"<html>", b"{\"error\":\"x\"}", b"\xff"] {
            let error = read_error(StatusCode::BAD_GATEWAY, body);
            assert_eq!(
                (error.code(), error.to_string()),
                ("upstream_error", "the guest answered 502: Bad Gateway".into())
            );
        }
    }
}
