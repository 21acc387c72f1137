//! Errors in the form of OpenAI's API: `{"error": {"message", "type", "param", "code"}}`.

use std::time::Duration;

use confide_engine::codes as engine;
use confide_engine::protocol::{Blame, Failure};
use confide_evidence::text::steers;
use confide_service::Phase;
use http::header::{ALLOW, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};
use serde::Serialize;

use super::body::Body;
use super::json::Kind;
use crate::codes;

/// Seconds after which a client may try again where nobody knows better.
pub(super) const RETRY_SECONDS: u64 = 5;
/// Characters of a client's own text that an error repeats. Enough to find the place in the request.
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
        /// Its code: `request_invalid`, `chat_template_refused` or `control_token_in_message`.
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
    /// Stable code, one of [`crate::codes::CODES`] or [`confide_engine::codes::CODES`].
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownRoute => codes::UNKNOWN_ROUTE,
            Self::MethodNotAllowed { .. } => codes::METHOD_NOT_ALLOWED,
            Self::MediaType => codes::UNSUPPORTED_MEDIA_TYPE,
            Self::ContentEncoding => codes::UNSUPPORTED_CONTENT_ENCODING,
            Self::BodyTimedOut { .. } => codes::REQUEST_TIMEOUT,
            Self::BodyUnreadable => codes::REQUEST_UNREADABLE,
            Self::TooLarge { .. } => engine::REQUEST_TOO_LARGE,
            Self::NotUtf8 { .. } => codes::INVALID_UTF8,
            Self::NotJson { .. } | Self::Escape { .. } => codes::INVALID_JSON,
            Self::Duplicate { .. } => codes::DUPLICATE_PARAMETER,
            Self::Missing { .. } => codes::MISSING_PARAMETER,
            Self::Type { .. } => codes::INVALID_TYPE,
            Self::Value { .. } => codes::INVALID_VALUE,
            Self::UnknownParameter { .. } => codes::UNKNOWN_PARAMETER,
            Self::UnsupportedParameter { .. } => codes::UNSUPPORTED_PARAMETER,
            Self::UnknownModel { .. } => codes::MODEL_NOT_FOUND,
            Self::Refused { code, .. } => code,
            Self::ContextTooLong { .. } => engine::CONTEXT_LENGTH_EXCEEDED,
            Self::Overloaded { .. } => codes::SERVER_OVERLOADED,
            Self::NotReady(_) => codes::NOT_READY,
            Self::EngineUnavailable => codes::ENGINE_UNAVAILABLE,
            Self::EngineFailed => codes::ENGINE_FAILED,
            Self::Internal => codes::INTERNAL_ERROR,
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
            Self::ContextTooLong { .. }
            | Self::Refused {
                code: engine::CHAT_TEMPLATE_REFUSED | engine::CONTROL_TOKEN_IN_MESSAGE, ..
            } => Some("messages"),
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
            (engine::CONTEXT_LENGTH_EXCEEDED, _) => Self::ContextTooLong { message: failure.message },
            (engine::REQUEST_TOO_LARGE, _) => Self::TooLarge { limit: confide_engine::protocol::MAX_FRAME },
            (engine::CHAT_TEMPLATE_REFUSED, _) => {
                Self::Refused { code: engine::CHAT_TEMPLATE_REFUSED, message: failure.message }
            }
            (engine::CONTROL_TOKEN_IN_MESSAGE, _) => {
                Self::Refused { code: engine::CONTROL_TOKEN_IN_MESSAGE, message: failure.message }
            }
            (_, Blame::Request) => Self::Refused { code: engine::REQUEST_INVALID, message: failure.message },
            (engine::ENGINE_BUSY, _) => Self::Overloaded { retry_after: RETRY_SECONDS },
            (engine::ENGINE_EXITED | engine::ENGINE_PROTOCOL | engine::ENGINE_STALLED, _) => {
                Self::EngineUnavailable
            }
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
    text.chars().take(MAX_ECHO).map(|one| if steers(one) { '\u{fffd}' } else { one }).collect()
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

    /// One fault of each variant: a new one does not compile until it is here.
    fn every_fault() -> Vec<Fault> {
        let param = || "p".to_owned();
        let all = vec![
            Fault::UnknownRoute,
            Fault::MethodNotAllowed { allowed: "POST" },
            Fault::MediaType,
            Fault::ContentEncoding,
            Fault::BodyTimedOut { limit: Duration::from_secs(1) },
            Fault::BodyUnreadable,
            Fault::TooLarge { limit: 1 },
            Fault::NotUtf8 { offset: 1 },
            Fault::NotJson { line: 1, column: 1 },
            Fault::Escape { param: param() },
            Fault::Duplicate { param: param() },
            Fault::Missing { param: param() },
            Fault::Type { param: param(), expected: "a string", found: Kind::Null },
            Fault::Value { param: param(), reason: "r".into() },
            Fault::UnknownParameter { param: param() },
            Fault::UnsupportedParameter { param: param(), supported: "none is" },
            Fault::UnknownModel { known: "m".into() },
            Fault::Refused { code: engine::REQUEST_INVALID, message: "m".into() },
            Fault::ContextTooLong { message: "m".into() },
            Fault::Overloaded { retry_after: 1 },
            Fault::NotReady(Phase::Starting),
            Fault::EngineUnavailable,
            Fault::EngineFailed,
            Fault::Internal,
        ];
        for fault in &all {
            match fault {
                Fault::UnknownRoute
                | Fault::MethodNotAllowed { .. }
                | Fault::MediaType
                | Fault::ContentEncoding
                | Fault::BodyTimedOut { .. }
                | Fault::BodyUnreadable
                | Fault::TooLarge { .. }
                | Fault::NotUtf8 { .. }
                | Fault::NotJson { .. }
                | Fault::Escape { .. }
                | Fault::Duplicate { .. }
                | Fault::Missing { .. }
                | Fault::Type { .. }
                | Fault::Value { .. }
                | Fault::UnknownParameter { .. }
                | Fault::UnsupportedParameter { .. }
                | Fault::UnknownModel { .. }
                | Fault::Refused { .. }
                | Fault::ContextTooLong { .. }
                | Fault::Overloaded { .. }
                | Fault::NotReady(_)
                | Fault::EngineUnavailable
                | Fault::EngineFailed
                | Fault::Internal => {}
            }
        }
        all
    }

    #[test]
    fn every_fault_has_a_listed_code_a_sentence_and_a_status_of_an_error() {
        for fault in every_fault() {
            let code = fault.code();
            let listed = codes::CODES.iter().chain(engine::CODES).any(|(listed, ..)| *listed == code);
            assert!(listed, "{code}");
            assert!(!fault.message().is_empty() && fault.status().as_u16() >= 400, "{code}");
        }
    }

    #[test]
    fn what_is_repeated_is_short_and_printable() {
        let fault = Fault::UnknownParameter { param: format!("\x1b[2J\u{202e}{}", "x".repeat(1000)) };
        let json = String::from_utf8(fault.to_json()).unwrap();
        assert!(json.len() < 400 && !json.contains("\\u001b") && !json.contains(steers), "{json}");
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
            ("engine_stalled", Blame::Engine, 503, "engine_unavailable"),
            ("control_token_in_message", Blame::Request, 400, "control_token_in_message"),
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
