//! Why a client could not do what it was asked to.

use crate::appraised::Appraised;
use crate::endpoint::EndpointError;
use confide_channel::{ChannelError, RequestError};
use confide_endorser::EndorserError;
use confide_verifier::Outcome;
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
    /// The guest's answer is not what the API describes.
    #[error("the guest's answer is not as expected: {0}")]
    Answer(&'static str),
    /// The appraisal itself failed: a bug of ours.
    #[error("internal error: the appraisal did not finish")]
    Internal,
}

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
            Self::Rejected(appraised) => appraised.result.code.unwrap_or("rejected"),
            Self::Request(_) => "invalid_request",
            Self::Answered { .. } => "upstream_error",
            Self::Answer(_) => "invalid_answer",
            Self::Internal => "internal",
        }
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
        | ChannelError::VerdictExpired => 10,
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
    let result = &appraised.result;
    match result.checks.iter().find(|check| Some(check.code) == result.code) {
        Some(check) => format!("{}: expected {}, found {}", check.code, check.expected, check.actual),
        None => result.code.unwrap_or("no check failed").to_owned(),
    }
}
