//! Whose TLS certificates are trusted.
//!
//! Endorsements are signed by their vendors, so that TLS decides nothing about a verdict: it keeps those on the way from
//! learning which platform is asked about, and from holding back what is new.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use confide_evidence::pem;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::error::{Fault, SetupError};

/// The one protocol inside.
const HTTP_1_1: &[u8] = b"http/1.1";

/// Whose TLS certificates are trusted.
#[derive(Clone, Debug)]
pub struct Trust(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Web,
    Pinned(Arc<ClientConfig>),
}

impl Trust {
    /// The web authorities of this machine: those of the system, or those in the files that `SSL_CERT_FILE` and
    /// `SSL_CERT_DIR` name. They are read when they are first needed.
    #[must_use]
    pub fn web() -> Self {
        Self(Kind::Web)
    }

    /// Exactly these certificates, PEM: the service must present one of them and hold its key. Names and dates in it
    /// carry no trust, and what it may have signed has none.
    ///
    /// # Errors
    /// [`SetupError::Pin`], which names `path`.
    pub fn pinned(pem: &[u8], path: &Path) -> Result<Self, SetupError> {
        let refused = |reason: String| SetupError::Pin { path: path.to_owned(), reason };
        let pinned = pem::certificates(pem).map_err(|error| refused(error.to_string()))?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = Pinned { certificates: pinned, provider: Arc::clone(&provider) };
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| SetupError::Tls(error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        Ok(Self(Kind::Pinned(speaking_http(config))))
    }

    /// The TLS configuration.
    pub(crate) fn config(&self) -> Result<Arc<ClientConfig>, Fault> {
        match &self.0 {
            Kind::Pinned(config) => Ok(Arc::clone(config)),
            Kind::Web => web().clone().ok_or(Fault::NoRoots),
        }
    }
}

/// `None` where this machine has no web authorities.
fn web() -> &'static Option<Arc<ClientConfig>> {
    static WEB: OnceLock<Option<Arc<ClientConfig>>> = OnceLock::new();
    WEB.get_or_init(|| {
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::warn!(%error, "certificates of web authorities cannot be read");
        }
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            return None;
        }
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .ok()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Some(speaking_http(config))
    })
}

fn speaking_http(mut config: ClientConfig) -> Arc<ClientConfig> {
    config.alpn_protocols = vec![HTTP_1_1.to_vec()];
    Arc::new(config)
}

/// Accepts certificates that are, byte for byte, among those pinned.
#[derive(Debug)]
struct Pinned {
    certificates: Vec<Vec<u8>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.certificates.iter().any(|pinned| pinned == end_entity.as_ref()) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_a_certificate_pins_nothing() {
        for text in ["", "no certificate"] {
            let error = Trust::pinned(text.as_bytes(), Path::new("pccs.pem")).unwrap_err();
            assert_eq!(error.code(), "endorser_certificate");
            assert!(error.to_string().starts_with("pccs.pem: "), "{error}");
        }
    }
}
