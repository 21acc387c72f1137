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
}

impl ChannelError {
    /// A stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Random(_) => "random_source_failed",
            Self::Handshake(_) => "tls_failed",
            Self::KeyNotHeld => "tls_key_not_held",
            Self::TlsVersion => "tls_version",
            Self::TimedOut { .. } => "timed_out",
            Self::Connection(_) => "connection_failed",
            Self::AttestationStatus(_) => "attestation_status",
            Self::AttestationMediaType => "attestation_media_type",
            Self::DocumentTooLarge => "evidence_too_large",
            Self::KeyMismatch => "channel_key_mismatch",
            Self::NonceMismatch => "channel_nonce_mismatch",
            Self::ExporterMismatch => "channel_exporter_mismatch",
            Self::EveryConnection => "attest_every_connection",
            Self::VerdictExpired => "verdict_expired",
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
