//! Why a channel could not be opened or used.

use std::io;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;

/// Why a channel could not be opened or used. Nothing of a request left the client before the channel was open.
#[derive(Debug, Clone, Error)]
#[non_exhaustive]
pub enum ChannelError {
    /// The operating system gave no random bytes.
    #[error("the operating system's random source failed: {0}")]
    Random(getrandom::Error),
    /// The TLS handshake failed.
    #[error("TLS handshake: {0}")]
    Handshake(#[source] Arc<io::Error>),
    /// The peer does not hold the key of the certificate that it presented (RFC 8446 section 4.4.3).
    #[error("the peer does not hold the key of its certificate: CertificateVerify does not verify")]
    KeyNotHeld,
    /// The peer speaks another TLS version than 1.3.
    #[error("the peer does not speak TLS 1.3")]
    TlsVersion,
    /// A step took too long.
    #[error("{step} took longer than {} seconds", limit.as_secs_f32())]
    TimedOut {
        /// The step.
        step: &'static str,
        /// How long it may take.
        limit: Duration,
    },
    /// The connection ended or broke.
    #[error("connection: {0}")]
    Connection(#[source] Arc<hyper::Error>),
    /// The peer broke its answer off without saying so.
    #[error("the peer broke its answer off")]
    AnswerCut,
    /// The peer has no evidence now, and asks to come again later than is waited for.
    #[error("the peer cannot attest now: it asks to come again in {} seconds", after.as_secs())]
    AttestationPostponed {
        /// When it asks to come again.
        after: Duration,
    },
    /// The peer answered the attestation request with another status than 200.
    #[error("the peer answered the attestation request with status {0}")]
    AttestationStatus(u16),
    /// The peer's answer to the attestation request is no evidence document by its media type.
    #[error("the peer's answer is not of media type {}", confide_evidence::document::MEDIA_TYPE)]
    AttestationMediaType,
    /// The peer's evidence document is too large.
    #[error("the peer's evidence document is larger than {} bytes", confide_evidence::document::MAX_DOCUMENT)]
    DocumentTooLarge,
    /// The verdict is about another TLS key than this connection's.
    #[error("the verdict is about another TLS key than the one on this connection")]
    KeyMismatch,
    /// The verdict is about another challenge than this connection's.
    #[error("the verdict is about another nonce than the one sent on this connection")]
    NonceMismatch,
    /// The verdict is about another connection.
    #[error("the verdict is about another connection: its TLS exporter is not this connection's")]
    ExporterMismatch,
    /// The policy wants each connection attested.
    #[error("the policy wants every connection attested, so that none rides on an earlier verdict")]
    EveryConnection,
    /// The verdict's time is over.
    #[error("the verdict no longer holds")]
    VerdictExpired,
    /// Later evidence for the same key was refused.
    #[error("the verdict is revoked: later evidence for the same key was not accepted")]
    VerdictRevoked,
}

/// Stable codes of [`ChannelError`]: code, what it means, what to do.
pub const CODES: &[(&str, &str, &str)] = &[
    (
        "random_source_failed",
        "the operating system gave no random bytes for a nonce",
        "check that the system's random source works; nothing was sent",
    ),
    (
        "tls_failed",
        "the TLS handshake failed",
        "check that the address is that of a Confide guest and that nothing between ends TLS; nothing was sent",
    ),
    (
        "tls_key_not_held",
        "the peer does not hold the key of the certificate that it shows",
        "somebody between you and the guest shows its certificate; do not use this address; nothing was sent",
    ),
    (
        "tls_version",
        "the peer speaks another TLS version than 1.3",
        "check that the address is that of a Confide guest; nothing was sent",
    ),
    ("timed_out", "a step took too long", "check that the guest is up and reachable, and try again"),
    (
        "connection_failed",
        "the connection ended or broke",
        "try again; a request that had been sent may have been worked on",
    ),
    (
        "answer_cut",
        "the peer reset its answer before the end of it",
        "try again; what came of the answer is not the whole of it",
    ),
    (
        "attestation_postponed",
        "the guest cannot attest now, and asks to come again later than is waited for",
        "try again later, or ask another instance; no prompt was sent",
    ),
    (
        "attestation_status",
        "the peer answered the attestation request with another status than 200",
        "read the guest's log where it is yours: it may be overloaded or without evidence; no prompt was sent",
    ),
    (
        "attestation_media_type",
        "the peer's answer to the attestation request is no evidence document by its media type",
        "check that the address is that of a Confide guest; no prompt was sent",
    ),
    (
        "evidence_too_large",
        "the peer's evidence document is larger than 4 MiB",
        "check that the address is that of a Confide guest; no prompt was sent",
    ),
    (
        "channel_key_mismatch",
        "the verdict is about another TLS key than the connection's",
        "attest the connection itself; nothing was sent on it",
    ),
    (
        "channel_nonce_mismatch",
        "the verdict is about another nonce than the one sent on the connection",
        "open each channel with the witness of its own appraisal; nothing was sent on it",
    ),
    (
        "channel_exporter_mismatch",
        "the verdict is about another connection: its TLS exporter differs",
        "open each channel with the witness of its own appraisal; nothing was sent on it",
    ),
    (
        "attest_every_connection",
        "the policy wants every connection attested, so that none rides on an earlier verdict",
        "attest the connection, or say per-key under freshness in the policy",
    ),
    (
        "verdict_expired",
        "the verdict's time is over",
        "attest again; clients of this crate do so by themselves",
    ),
    (
        "verdict_revoked",
        "later evidence for the same key was not accepted",
        "see why the later evidence was refused; nothing more is sent to this guest until it is accepted again",
    ),
];

impl ChannelError {
    /// A stable code, one of [`CODES`].
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Random(_) => "random_source_failed",
            Self::Handshake(_) => "tls_failed",
            Self::KeyNotHeld => "tls_key_not_held",
            Self::TlsVersion => "tls_version",
            Self::TimedOut { .. } => "timed_out",
            Self::Connection(_) => "connection_failed",
            Self::AnswerCut => "answer_cut",
            Self::AttestationPostponed { .. } => "attestation_postponed",
            Self::AttestationStatus(_) => "attestation_status",
            Self::AttestationMediaType => "attestation_media_type",
            Self::DocumentTooLarge => "evidence_too_large",
            Self::KeyMismatch => "channel_key_mismatch",
            Self::NonceMismatch => "channel_nonce_mismatch",
            Self::ExporterMismatch => "channel_exporter_mismatch",
            Self::EveryConnection => "attest_every_connection",
            Self::VerdictExpired => "verdict_expired",
            Self::VerdictRevoked => "verdict_revoked",
        }
    }

    pub(crate) fn connection(error: hyper::Error) -> Self {
        Self::Connection(Arc::new(error))
    }

    pub(crate) fn handshake(error: io::Error) -> Self {
        use rustls::{CertificateError, Error, PeerIncompatible};
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
        match tls {
            Some(Error::InvalidCertificate(CertificateError::BadSignature)) => Self::KeyNotHeld,
            Some(Error::PeerIncompatible(
                PeerIncompatible::ServerDoesNotSupportTls12Or13
                | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
            )) => Self::TlsVersion,
            _ => Self::Handshake(Arc::new(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One of each. A new variant does not compile here before it stands in the list below.
    fn every() -> Vec<ChannelError> {
        let known = |error: ChannelError| match &error {
            ChannelError::Random(_)
            | ChannelError::Handshake(_)
            | ChannelError::KeyNotHeld
            | ChannelError::TlsVersion
            | ChannelError::TimedOut { .. }
            | ChannelError::Connection(_)
            | ChannelError::AnswerCut
            | ChannelError::AttestationPostponed { .. }
            | ChannelError::AttestationStatus(_)
            | ChannelError::AttestationMediaType
            | ChannelError::DocumentTooLarge
            | ChannelError::KeyMismatch
            | ChannelError::NonceMismatch
            | ChannelError::ExporterMismatch
            | ChannelError::EveryConnection
            | ChannelError::VerdictExpired
            | ChannelError::VerdictRevoked => error,
        };
        [
            ChannelError::Random(getrandom::Error::UNSUPPORTED),
            ChannelError::Handshake(Arc::new(io::Error::other("broken"))),
            ChannelError::KeyNotHeld,
            ChannelError::TlsVersion,
            ChannelError::TimedOut { step: "a step", limit: Duration::from_secs(1) },
            ChannelError::AnswerCut,
            ChannelError::AttestationPostponed { after: Duration::from_secs(1) },
            ChannelError::AttestationStatus(404),
            ChannelError::AttestationMediaType,
            ChannelError::DocumentTooLarge,
            ChannelError::KeyMismatch,
            ChannelError::NonceMismatch,
            ChannelError::ExporterMismatch,
            ChannelError::EveryConnection,
            ChannelError::VerdictExpired,
            ChannelError::VerdictRevoked,
        ]
        .into_iter()
        .map(known)
        .collect()
    }

    #[test]
    fn every_code_is_listed_and_says_what_to_do() {
        let mut codes: Vec<&str> = every().iter().map(ChannelError::code).collect();
        // hyper's errors cannot be made by hand: tests of broken connections hold this one.
        codes.push("connection_failed");
        let mut listed: Vec<&str> = CODES.iter().map(|(code, ..)| *code).collect();
        codes.sort_unstable();
        listed.sort_unstable();
        assert_eq!(codes, listed);
        for (code, meaning, what_to_do) in CODES {
            assert!(!meaning.is_empty() && !what_to_do.is_empty(), "{code}");
        }
    }
}
