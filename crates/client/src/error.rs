//! Why a client could not do what it was asked to.

use crate::appraised::Appraised;
use crate::endpoint::EndpointError;
use crate::receipts::ReceiptError;
use confide_channel::{ChannelError, RequestError};
use confide_endorser::EndorserError;
use confide_verifier::{Check, Outcome};
use std::borrow::Cow;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;

/// Why a client could not do what it was asked to.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The address of the guest.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// The guest could not be reached.
    #[error("connecting to {to}: {source}")]
    Dial {
        /// Host and port.
        to: String,
        /// Why.
        source: Arc<io::Error>,
    },
    /// The guest did not answer the dial in time.
    #[error("connecting to {to} took longer than {} seconds", limit.as_secs_f32())]
    DialTimedOut {
        /// Host and port.
        to: String,
        /// How long it may take.
        limit: Duration,
    },
    /// The channel could not be opened or broke.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// The guest stapled no collateral that is valid, and there is none elsewhere. Nothing of the request was sent.
    #[error("the guest staples no valid collateral, and there is none elsewhere: {0}")]
    Endorsements(#[from] EndorserError),
    /// The appraisal could not be recorded, and a client that records rests on nothing that is not. Nothing of the request
    /// was sent.
    #[error("the appraisal could not be recorded: {0}")]
    NotRecorded(Arc<io::Error>),
    /// The evidence was not accepted. Nothing of the request was sent.
    #[error("the guest's {}evidence was not accepted: {}", simulated(.0), rejection(.0))]
    Rejected(Arc<Appraised>),
    /// The request cannot be sent over HTTP.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The guest answered with an error.
    #[error("the guest answered {status}: {message}{}", shown(.code.as_deref()))]
    Answered {
        /// HTTP status.
        status: u16,
        /// The guest's code, made printable.
        code: Option<String>,
        /// The guest's sentence, made printable.
        message: String,
    },
    /// The receipt for the answer is missing, does not hold or could not be kept.
    #[error(transparent)]
    Receipt(#[from] ReceiptError),
    /// The guest's answer is not what the API describes.
    #[error("the guest's answer is not as expected: {0}")]
    Answer(&'static str),
    /// A [client that blocks](crate::blocking) was used on a thread of a runtime. Nothing was sent.
    #[error("a client that blocks cannot wait on a thread of an asynchronous runtime")]
    InsideRuntime,
    /// The system gave no thread for the runtime of a [client that blocks](crate::blocking).
    #[error("the runtime of a client that blocks: {0}")]
    Runtime(Arc<io::Error>),
    /// The appraisal itself failed: a bug of ours.
    #[error("internal error: the appraisal did not finish")]
    Internal,
}

/// Stable codes of [`ClientError`] beside those of channels ([`confide_channel::CODES`]) and of checks
/// ([`confide_verifier::rules::ALL`]): code, what it means, what to do.
pub const CODES: &[(&str, &str, &str)] = &[
    (
        "plain_http_refused",
        "the address of the guest begins with http://",
        "give the guest's address as https://HOST:PORT; nothing was sent",
    ),
    (
        "invalid_url",
        "the address of the guest is not one",
        "give the guest's address as https://HOST:PORT; nothing was sent",
    ),
    (
        "dial_failed",
        "the guest could not be reached",
        "check that the guest is up and that the address is right; no prompt was sent",
    ),
    (
        "rejected",
        "the evidence was not accepted, and no check says why",
        "report it: this is an error of this program; no prompt was sent",
    ),
    (
        "not_recorded",
        "the appraisal could not be recorded, so that nothing was sent",
        "see the cause in the message; appraisals are recorded before anything rests on them",
    ),
    (
        "invalid_request",
        "the request cannot be sent over HTTP",
        "correct the path or header field that the message names",
    ),
    (
        "upstream_error",
        "the guest answered with an error",
        "see the guest's own code and sentence in the message",
    ),
    (
        "invalid_answer",
        "the guest's answer is not what the API describes",
        "report it to the guest's operator; the prompt had been sent",
    ),
    (
        "inside_runtime",
        "a client that blocks was used on a thread of an asynchronous runtime",
        "use the asynchronous client there, or a thread of its own for the one that blocks; nothing was sent",
    ),
    (
        "client_runtime",
        "the system gave no thread for a client that blocks",
        "free memory or threads, and try again; nothing was sent",
    ),
    (
        "receipt_missing",
        "the guest gave no receipt for its answer, and this client asks for one",
        "ask the guest's operator for a guest that signs receipts, or do not require them; the prompt had been sent",
    ),
    (
        "receipt_malformed",
        "the guest's receipt cannot be read",
        "do not rely on the answer; report it to the guest's operator",
    ),
    (
        "receipt_invalid",
        "the guest's receipt is not about this request, this answer and the appraised guest",
        "do not rely on the answer: octets were altered, or another guest answered; report it to the guest's operator",
    ),
    (
        "receipt_repeated",
        "the guest's receipt has a number that an earlier one of the same boot had",
        "do not rely on the answer: the guest's keys or its count may exist twice; report it to the guest's operator",
    ),
    (
        "receipt_not_kept",
        "the guest's receipt holds and could not be kept, so that the answer was withheld",
        "see the cause in the message; receipts are kept before the end of an answer is handed over",
    ),
    (
        "internal",
        "the appraisal itself failed",
        "report it: this is an error of this program; no prompt was sent",
    ),
];

impl ClientError {
    /// A stable code: for rejected evidence that of the first check that failed.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Endpoint(error) => error.code(),
            Self::Dial { .. } => "dial_failed",
            Self::DialTimedOut { .. } => "timed_out",
            Self::Channel(error) => error.code(),
            Self::Endorsements(error) => error.code(),
            Self::NotRecorded(_) => "not_recorded",
            Self::Rejected(appraised) => appraised.result.code.unwrap_or("rejected"),
            Self::Request(_) => "invalid_request",
            Self::Answered { .. } => "upstream_error",
            Self::Receipt(error) => error.code(),
            Self::Answer(_) => "invalid_answer",
            Self::InsideRuntime => "inside_runtime",
            Self::Runtime(_) => "client_runtime",
            Self::Internal => "internal",
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn what_to_do(&self) -> Option<Cow<'static, str>> {
        if let Self::Rejected(appraised) = self {
            return failed(appraised).and_then(|check| Some(check.remedy.as_ref()?.to_string().into()));
        }
        if let Self::Endorsements(error) = self {
            return Some(error.hint().into());
        }
        let mut known = CODES.iter().chain(confide_channel::CODES);
        known.find(|(code, ..)| *code == self.code()).map(|(_, _, what_to_do)| Cow::Borrowed(*what_to_do))
    }

    /// The exit status of a program that ends with this error: 2 wrong usage, 10 rejected, 20 unsupported format, 30
    /// malformed input, 1 everything else, network faults among it.
    #[must_use]
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::Endpoint(_) | Self::Request(_) => 2,
            Self::Rejected(appraised) => match appraised.result.outcome {
                Outcome::Unsupported => 20,
                Outcome::Malformed => 30,
                Outcome::Accepted | Outcome::Rejected => 10,
            },
            Self::Channel(error) => channel_exit_status(error),
            Self::Receipt(ReceiptError::NotKept(_)) => 1,
            Self::Receipt(ReceiptError::Malformed(_)) => 30,
            Self::Receipt(_) => 10,
            _ => 1,
        }
    }
}

fn channel_exit_status(error: &ChannelError) -> u8 {
    match error {
        ChannelError::KeyNotHeld
        | ChannelError::TlsVersion
        | ChannelError::KeyMismatch
        | ChannelError::NonceMismatch
        | ChannelError::ExporterMismatch
        | ChannelError::EveryConnection
        | ChannelError::VerdictExpired
        | ChannelError::VerdictRevoked => 10,
        ChannelError::AttestationMediaType | ChannelError::DocumentTooLarge => 30,
        _ => 1,
    }
}

fn shown(code: Option<&str>) -> String {
    code.map(|code| format!(" ({code})")).unwrap_or_default()
}

fn simulated(appraised: &Appraised) -> &'static str {
    if appraised.result.simulated { "SIMULATED " } else { "" }
}

fn rejection(appraised: &Appraised) -> String {
    match failed(appraised) {
        Some(check) => format!("{}: expected {}, found {}", check.code, check.expected, check.actual),
        None => appraised.result.code.unwrap_or("no check failed").to_owned(),
    }
}

/// The check that the verdict's code names.
fn failed(appraised: &Appraised) -> Option<&Check> {
    let result = &appraised.result;
    result.checks.iter().find(|check| Some(check.code) == result.code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn io_error() -> Arc<io::Error> {
        Arc::new(io::Error::other("broken"))
    }

    /// One of each that needs no appraisal and no endorser, whose errors have codes and hints of their own. A new variant does not compile here before it is in the list below.
    fn every() -> Vec<ClientError> {
        let known = |error: ClientError| match &error {
            ClientError::Endpoint(_)
            | ClientError::Dial { .. }
            | ClientError::DialTimedOut { .. }
            | ClientError::Channel(_)
            | ClientError::Endorsements(_)
            | ClientError::NotRecorded(_)
            | ClientError::Rejected(_)
            | ClientError::Request(_)
            | ClientError::Answered { .. }
            | ClientError::Receipt(_)
            | ClientError::Answer(_)
            | ClientError::InsideRuntime
            | ClientError::Runtime(_)
            | ClientError::Internal => error,
        };
        let to = || "guest.example:443".to_owned();
        let endpoints = [
            EndpointError::PlainHttp,
            EndpointError::Scheme,
            EndpointError::Malformed,
            EndpointError::UserInfo,
            EndpointError::Path,
        ];
        let others = [
            ClientError::Dial { to: to(), source: io_error() },
            ClientError::DialTimedOut { to: to(), limit: Duration::from_secs(1) },
            ClientError::Channel(ChannelError::KeyNotHeld),
            ClientError::NotRecorded(io_error()),
            ClientError::Request(RequestError::Target),
            ClientError::Answered { status: 404, code: None, message: "no".to_owned() },
            ClientError::Answer("not as expected"),
            ClientError::InsideRuntime,
            ClientError::Runtime(io_error()),
            ClientError::Internal,
        ];
        let receipts = [
            ReceiptError::Missing,
            ReceiptError::Malformed("short".to_owned()),
            ReceiptError::Invalid(confide_verifier::ReceiptFault::Signature),
            ReceiptError::Repeated { sequence: 0 },
            ReceiptError::NotKept(io_error()),
        ];
        let endpoints = endpoints.into_iter().map(ClientError::from);
        endpoints.chain(receipts.into_iter().map(ClientError::from)).chain(others).map(known).collect()
    }

    #[test]
    fn every_code_is_listed_and_says_what_to_do() {
        for error in every() {
            assert!(error.what_to_do().is_some(), "{}", error.code());
        }
        let codes: Vec<&str> = every().iter().map(ClientError::code).collect();
        for (code, meaning, what_to_do) in CODES {
            assert!(codes.contains(code) || *code == "rejected", "{code} is no code of a client");
            assert!(!meaning.is_empty() && !what_to_do.is_empty(), "{code}");
        }
    }
}
