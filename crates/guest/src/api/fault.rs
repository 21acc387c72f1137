//! Errors in the form of OpenAI's API: `{"error": {"message", "type", "param", "code"}}`.

use std::time::Duration;

use confide_engine::protocol::{Blame, Failure};
use confide_service::Phase;
use http::header::{ALLOW, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};
use serde::Serialize;

use super::body::Body;
use super::json::Kind;

/// Seconds after which a client may try again where nobody knows better.
const RETRY_SECONDS: u64 = 5;
/// Characters of a client's own text that an error repeats.
const MAX_ECHO: usize = 80;

/// Why a request is not answered with what it asked for.
///
/// Some variants repeat names that the client chose, and any text may be content: implements neither `Debug` nor
/// `Display`. Logs take [`code`](Self::code).
#[non_exhaustive]
pub enum Fault {
    /// The path is none of ours.
    UnknownRoute,
    /// The path does not take the method.
    MethodNotAllowed {
        /// The methods that it takes.
        allowed: &'static str,
    },
    /// `Content-Type` is not JSON.
    MediaType,
    /// `Content-Encoding` is not `identity`.
    ContentEncoding,
    /// The body did not arrive in time.
    BodyTimedOut {
        /// How long it may take.
        limit: Duration,
    },
    /// The body ended before its announced length, or its framing is broken.
    BodyUnreadable,
    /// The request is too large.
    TooLarge {
        /// Bytes that it may have.
        limit: usize,
    },
    /// The body is not UTF-8.
    NotUtf8 {
        /// Offset of the first wrong byte.
        offset: usize,
    },
    /// The body is not JSON.
    NotJson {
        /// Line, from 1.
        line: usize,
        /// Column in bytes, from 1.
        column: usize,
    },
    /// A string has an escape that stands for no character: half of a surrogate pair.
    Escape {
        /// The parameter.
        param: String,
    },
    /// A parameter appears twice: two readers could read two different requests.
    Duplicate {
        /// The parameter.
        param: String,
    },
    /// A parameter is required.
    Missing {
        /// The parameter.
        param: String,
    },
    /// A parameter has the wrong type.
    Type {
        /// The parameter.
        param: String,
        /// What it must be.
        expected: &'static str,
        /// What it is.
        found: Kind,
    },
    /// A parameter has a value that is not allowed.
    Value {
        /// The parameter.
        param: String,
        /// What is allowed.
        reason: String,
    },
    /// No API that we know has this parameter.
    UnknownParameter {
        /// The parameter.
        param: String,
    },
    /// OpenAI's API has this parameter; it would change the answer and is not supported here.
    UnsupportedParameter {
        /// The parameter.
        param: String,
        /// What is supported.
        supported: &'static str,
    },
    /// The model is not served here.
    UnknownModel {
        /// The one that is.
        known: String,
    },
    /// The engine refused the request.
    Refused {
        /// Its code: `request_invalid` or `chat_template_refused`.
        code: &'static str,
        /// Its sentence, without text of the request.
        message: String,
    },
    /// Prompt and completion do not fit the context.
    ContextTooLong {
        /// The engine's sentence with the counts.
        message: String,
    },
    /// As many requests run and wait as may.
    Overloaded {
        /// Seconds after which to try again.
        retry_after: u64,
    },
    /// The program does not take requests now.
    NotReady(Phase),
    /// The engine is gone.
    EngineUnavailable,
    /// The engine failed.
    EngineFailed,
    /// A bug of ours, or an operating system without random numbers.
    Internal,
}

impl Fault {
    /// Stable code, listed in `docs/errors.md`.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownRoute => "unknown_route",
            Self::MethodNotAllowed { .. } => "method_not_allowed",
            Self::MediaType => "unsupported_media_type",
            Self::ContentEncoding => "unsupported_content_encoding",
            Self::BodyTimedOut { .. } => "request_timeout",
            Self::BodyUnreadable => "request_unreadable",
            Self::TooLarge { .. } => "request_too_large",
            Self::NotUtf8 { .. } => "invalid_utf8",
            Self::NotJson { .. } | Self::Escape { .. } => "invalid_json",
            Self::Duplicate { .. } => "duplicate_parameter",
            Self::Missing { .. } => "missing_parameter",
            Self::Type { .. } => "invalid_type",
            Self::Value { .. } => "invalid_value",
            Self::UnknownParameter { .. } => "unknown_parameter",
            Self::UnsupportedParameter { .. } => "unsupported_parameter",
            Self::UnknownModel { .. } => "model_not_found",
            Self::Refused { code, .. } => code,
            Self::ContextTooLong { .. } => "context_length_exceeded",
            Self::Overloaded { .. } => "server_overloaded",
            Self::NotReady(_) => "not_ready",
            Self::EngineUnavailable => "engine_unavailable",
            Self::EngineFailed => "engine_failed",
            Self::Internal => "internal_error",
        }
    }

    /// The status of the answer.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::UnknownRoute | Self::UnknownModel { .. } => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::MediaType | Self::ContentEncoding => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::BodyTimedOut { .. } => StatusCode::REQUEST_TIMEOUT,
            Self::TooLarge { .. } | Self::ContextTooLong { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Overloaded { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::NotReady(_) | Self::EngineUnavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::EngineFailed | Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// OpenAI's `type`.
    fn kind(&self) -> &'static str {
        match self.status() {
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            status if status.is_server_error() => "server_error",
            _ => "invalid_request_error",
        }
    }

    /// The parameter that is at fault.
    fn param(&self) -> Option<&str> {
        match self {
            Self::Escape { param }
            | Self::Duplicate { param }
            | Self::Missing { param }
            | Self::Type { param, .. }
            | Self::Value { param, .. }
            | Self::UnknownParameter { param }
            | Self::UnsupportedParameter { param, .. } => Some(param),
            Self::UnknownModel { .. } => Some("model"),
            Self::ContextTooLong { .. } | Self::Refused { code: "chat_template_refused", .. } => {
                Some("messages")
            }
            _ => None,
        }
    }

    fn message(&self) -> String {
        match self {
            Self::UnknownRoute => "there is nothing at this path".to_owned(),
            Self::MethodNotAllowed { allowed } => format!("this path takes {allowed} only"),
            Self::MediaType => "the body must be application/json".to_owned(),
            Self::ContentEncoding => "a compressed body is not supported".to_owned(),
            Self::BodyTimedOut { limit } => format!("the body took longer than {} seconds", limit.as_secs()),
            Self::BodyUnreadable => "the body ended early".to_owned(),
            Self::TooLarge { limit } => format!("the request has more than {limit} bytes"),
            Self::NotUtf8 { offset } => format!("the body is not UTF-8 at byte {offset}"),
            Self::NotJson { line, column } => format!("the body is not JSON at line {line}, column {column}"),
            Self::Escape { param } => format!("{} has an escape that stands for no character", echo(param)),
            Self::Duplicate { param } => format!("{} appears twice", echo(param)),
            Self::Missing { param } => format!("{param} is required"),
            Self::Type { param, expected, found } => {
                format!("{} must be {expected}, and is {}", echo(param), found.as_str())
            }
            Self::Value { param, reason } => format!("{}: {reason}", echo(param)),
            Self::UnknownParameter { param } => format!("{} is not a parameter of this API", echo(param)),
            Self::UnsupportedParameter { param, supported } => {
                format!("{} is not supported here ({supported})", echo(param))
            }
            Self::UnknownModel { known } => {
                format!("this model is not served here; the one that is: {known}")
            }
            Self::Refused { message, .. } | Self::ContextTooLong { message } => message.clone(),
            Self::Overloaded { .. } => "as many requests run and wait as this server allows".to_owned(),
            Self::NotReady(phase) => format!("the server takes no requests: it is {}", phase.as_str()),
            Self::EngineUnavailable => "the engine is not running".to_owned(),
            Self::EngineFailed => "the engine failed on this request".to_owned(),
            Self::Internal => "an error of this server".to_owned(),
        }
    }

    fn retry_after(&self) -> Option<u64> {
        match self {
            Self::Overloaded { retry_after } => Some(*retry_after),
            Self::NotReady(_) | Self::EngineUnavailable => Some(RETRY_SECONDS),
            _ => None,
        }
    }

    /// The body of the answer, also the data of a stream's last event.
    pub(super) fn to_json(&self) -> Vec<u8> {
        let message = self.message();
        let param = self.param().map(echo);
        let error =
            Fields { message: &message, kind: self.kind(), param: param.as_deref(), code: self.code() };
        serde_json::to_vec(&Envelope { error }).expect("strings always serialise")
    }

    /// The whole answer.
    pub(super) fn into_response(self) -> Response<Body> {
        let mut response = Body::json(self.status(), self.to_json());
        let headers = response.headers_mut();
        if let Self::MethodNotAllowed { allowed } = self {
            headers.insert(ALLOW, HeaderValue::from_static(allowed));
        }
        if let Some(seconds) = self.retry_after() {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<Failure> for Fault {
    fn from(failure: Failure) -> Self {
        match (failure.code.as_str(), failure.blame) {
            ("context_length_exceeded", _) => Self::ContextTooLong { message: failure.message },
            ("request_too_large", _) => Self::TooLarge { limit: confide_engine::protocol::MAX_FRAME },
            ("chat_template_refused", _) => {
                Self::Refused { code: "chat_template_refused", message: failure.message }
            }
            (_, Blame::Request) => Self::Refused { code: "request_invalid", message: failure.message },
            ("engine_busy", _) => Self::Overloaded { retry_after: RETRY_SECONDS },
            ("engine_exited" | "engine_protocol", _) => Self::EngineUnavailable,
            (_, Blame::Engine) => Self::EngineFailed,
        }
    }
}

#[derive(Serialize)]
struct Envelope<'a> {
    error: Fields<'a>,
}

#[derive(Serialize)]
struct Fields<'a> {
    message: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    param: Option<&'a str>,
    code: &'a str,
}

/// A client's text as an error repeats it: not too much of it, and nothing that a terminal obeys.
fn echo(text: &str) -> String {
    text.chars().take(MAX_ECHO).map(|one| if one.is_control() { '\u{fffd}' } else { one }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_is_that_of_the_openai_api() {
        let fault = Fault::Type { param: "stream".into(), expected: "a boolean", found: Kind::String };
        let expected = r#"{"error":{"message":"stream must be a boolean, and is a string","type":"invalid_request_error","param":"stream","code":"invalid_type"}}"#;
        assert_eq!(String::from_utf8(fault.to_json()).unwrap(), expected);
    }

    #[test]
    fn what_is_repeated_is_short_and_printable() {
        let fault = Fault::UnknownParameter { param: format!("\x1b[2J{}", "x".repeat(1000)) };
        let json = String::from_utf8(fault.to_json()).unwrap();
        assert!(json.len() < 400 && !json.contains("\\u001b"), "{json}");
    }

    #[test]
    fn failures_of_the_engine_get_a_status() {
        let fault =
            |code: &str, blame| Fault::from(Failure { code: code.into(), message: "m".into(), blame });
        for (code, blame, status, expected) in [
            ("context_length_exceeded", Blame::Request, 413, "context_length_exceeded"),
            ("request_too_large", Blame::Request, 413, "request_too_large"),
            ("request_invalid", Blame::Request, 400, "request_invalid"),
            ("chat_template_refused", Blame::Request, 400, "chat_template_refused"),
            ("made_up", Blame::Request, 400, "request_invalid"),
            ("engine_busy", Blame::Engine, 429, "server_overloaded"),
            ("engine_exited", Blame::Engine, 503, "engine_unavailable"),
            ("engine_protocol", Blame::Engine, 503, "engine_unavailable"),
            ("model_not_finite", Blame::Engine, 500, "engine_failed"),
            ("made_up", Blame::Engine, 500, "engine_failed"),
        ] {
            let fault = fault(code, blame);
            assert_eq!((fault.status().as_u16(), fault.code()), (status, expected), "{code}");
            let retried = matches!(status, 429 | 503);
            assert_eq!(fault.into_response().headers().contains_key(RETRY_AFTER), retried, "{code}");
        }
    }
}
