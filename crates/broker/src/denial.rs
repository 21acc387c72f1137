//! What a broker answers instead of what it was asked for.

use confide_release::Refusal;
use http::StatusCode;

use crate::codes;
use crate::error::{BrokerError, store_code};
use crate::kek::KekError;
use crate::store::StoreError;

/// An answer that is no success: the status, what the peer is told, and when it may ask again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// 4xx for what the peer can change, 5xx for what it cannot.
    pub status: StatusCode,
    /// The body.
    pub refusal: Refusal,
    /// Seconds after which asking again may help.
    pub retry_after: Option<u64>,
}

impl Denial {
    /// A decision against the peer: 403, and an entry of the audit log.
    pub(crate) fn refused(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, code, message)
    }

    /// The same, in the words of an appraisal.
    pub(crate) fn of(refusal: Refusal) -> Self {
        Self { status: StatusCode::FORBIDDEN, refusal, retry_after: None }
    }

    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, refusal: Refusal::new(code, message), retry_after: None }
    }

    pub(crate) fn busy(code: &'static str, message: &'static str, retry_after: u64) -> Self {
        let retry_after = Some(retry_after);
        Self { retry_after, ..Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message) }
    }

    /// A fault of ours. The peer is told that there is one; the log has the cause.
    pub(crate) fn fault(error: &BrokerError) -> Self {
        tracing::error!(code = error.code(), error = error.sentence(), "cannot answer");
        Self {
            retry_after: Some(10),
            ..Self::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                codes::BROKER_FAULT,
                "the broker cannot answer: its log names the cause",
            )
        }
    }

    /// Whether this is a decision about keys, which the audit log keeps.
    pub(crate) fn is_decision(&self) -> bool {
        self.status == StatusCode::FORBIDDEN || self.status == StatusCode::CONFLICT
    }
}

impl From<StoreError> for Denial {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Conflict => {
                Self::busy(store_code(&error), "the volume was changed again and again meanwhile", 2)
            }
            StoreError::Full => {
                let message = "as many challenges are open as may be, of all or of this network";
                Self::busy(store_code(&error), message, 5)
            }
            error => Self::fault(&error.into()),
        }
    }
}

impl From<KekError> for Denial {
    fn from(error: KekError) -> Self {
        match error {
            KekError::Store(error) => error.into(),
            error => Self::fault(&error.into()),
        }
    }
}
