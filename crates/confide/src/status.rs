//! Exit statuses, and failures that are not verdicts.

use crate::codes;
use confide_verifier::{AttestationResult, Outcome};
use std::borrow::Cow;
use std::process::ExitCode;

/// How the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// 0: accepted, or done.
    Accepted,
    /// 1: internal error, unreadable file, network fault.
    Internal,
    /// 2: wrong usage.
    Usage,
    /// 10: rejected.
    Rejected,
    /// 20: unsupported format.
    Unsupported,
    /// 30: malformed input.
    Malformed,
}

impl Status {
    /// The number that the process ends with.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Accepted => 0,
            Self::Internal => 1,
            Self::Usage => 2,
            Self::Rejected => 10,
            Self::Unsupported => 20,
            Self::Malformed => 30,
        }
    }
}

/// What the statuses mean of a command that appraises.
pub const VERDICT_STATUSES: &[(&str, Status)] = &[
    ("accepted", Status::Accepted),
    ("rejected", Status::Rejected),
    ("unsupported format", Status::Unsupported),
    ("malformed input", Status::Malformed),
    ("wrong usage", Status::Usage),
    ("internal error (unreadable file, network fault)", Status::Internal),
];

/// What the statuses mean of a command that gives no verdict.
pub const WORK_STATUSES: &[(&str, Status)] = &[
    ("done", Status::Accepted),
    ("unsupported format", Status::Unsupported),
    ("malformed input", Status::Malformed),
    ("wrong usage", Status::Usage),
    ("internal error (unreadable file, network fault)", Status::Internal),
];

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        Self::from(status.number())
    }
}

impl From<&AttestationResult> for Status {
    fn from(result: &AttestationResult) -> Self {
        match result.outcome {
            Outcome::Accepted => Self::Accepted,
            Outcome::Rejected => Self::Rejected,
            Outcome::Unsupported => Self::Unsupported,
            Outcome::Malformed => Self::Malformed,
        }
    }
}

/// A failure that is no verdict: a stable code, what happened, and what to do.
#[derive(Debug)]
pub struct Failure {
    status: Status,
    code: &'static str,
    message: String,
    hint: Option<Cow<'static, str>>,
}

impl Failure {
    /// A failure with a stable code. Of a message that a file has made longer than 4 KiB the beginning is kept.
    pub fn new(status: Status, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: shortened(message.into(), MAX_MESSAGE), hint: None }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(self, hint: impl Into<Cow<'static, str>>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// The same failure, with these words before what happened.
    #[must_use]
    pub(crate) fn behind(self, words: &str) -> Self {
        Self { message: format!("{words}{}", self.message), ..self }
    }

    /// The same failure of a program that was at work: it ends with 1, whatever the status that it would have begun with.
    #[must_use]
    pub(crate) fn at_work(self) -> Self {
        Self { status: Status::Internal, ..self }
    }

    /// The exit status.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status
    }

    /// The stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// What happened.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What to do about it: advice for the case, or else what the list of codes has.
    #[must_use]
    pub fn what_to_do(&self) -> Option<&str> {
        self.hint.as_deref().or_else(|| codes::what_to_do(self.code))
    }
}
/// The longest message of a failure, in bytes. As much as a verdict tells of what a check found.
const MAX_MESSAGE: usize = 4096;

/// The beginning of a message, of so many bytes, and how long the whole is: readers of files repeat lines of them.
pub(crate) fn shortened(mut message: String, most: usize) -> String {
    let whole = message.len();
    if whole > most {
        message.truncate(message.floor_char_boundary(most));
        message.push_str(&format!(" ... ({whole} bytes)"));
    }
    message
}
