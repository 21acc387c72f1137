//! TLS to the outside: version 1.3, certificates validated for the name that the policy lists.
//!
//! No session is resumed and no early data sent: each connection sees the server's certificate again.

use std::sync::Arc;

use confide_evidence::pem;
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};

use crate::error::EgressError;

/// Inside the connections that carry the workload's requests.
pub(crate) const HTTP_1_1: &[u8] = b"http/1.1";
/// Inside connections to DNS over HTTPS (RFC 8484 section 5.2 recommends it).
pub(crate) const HTTP_2: &[u8] = b"h2";
/// Inside connections to DNS over TLS (registered by RFC 7858 for ALPN as `dot`).
pub(crate) const DOT: &[u8] = b"dot";

/// The authorities that may say who a server is.
#[derive(Clone, Debug)]
pub struct Roots(Arc<RootCertStore>);

impl Roots {
    /// Mozilla's list of web authorities, as it was when this program was built. It is a part of the program, and thus of what is
    /// measured: no file of the image or of the host adds to it.
    #[must_use]
    pub fn web() -> Self {
        Self(Arc::new(RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() }))
    }

    /// Exactly the authorities in a text of PEM.
    ///
    /// # Errors
    /// [`EgressError::Roots`], where there is none or one cannot be read.
    pub fn pem(text: &[u8]) -> Result<Self, EgressError> {
        let certificates = pem::certificates(text).map_err(|error| EgressError::Roots(error.to_string()))?;
        let mut roots = RootCertStore::empty();
        for certificate in certificates {
            roots.add(certificate.into()).map_err(|error| EgressError::Roots(error.to_string()))?;
        }
        if roots.is_empty() {
            return Err(EgressError::Roots("there is no certificate in it".to_owned()));
        }
        Ok(Self(Arc::new(roots)))
    }

    /// The configuration for servers that speak one protocol.
    pub(crate) fn config(&self, protocol: &[u8]) -> Arc<ClientConfig> {
        let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("the provider has cipher suites and key exchanges of TLS 1.3")
            .with_root_certificates(Arc::clone(&self.0))
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.to_vec()];
        config.resumption = Resumption::disabled();
        config.enable_early_data = false;
        Arc::new(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_are_those_of_the_text_or_none() {
        assert!(!Roots::web().0.is_empty());
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let pem = rcgen::CertificateParams::default().self_signed(&key).unwrap().pem();
        assert_eq!(Roots::pem(pem.as_bytes()).unwrap().0.len(), 1);
        let junk = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for text in ["", "no certificate", junk, &format!("{pem}{junk}")] {
            assert!(Roots::pem(text.as_bytes()).is_err(), "{text}");
        }
    }
}
