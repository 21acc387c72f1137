//! The TLS configuration of an attested connection: version 1.3 alone, no resumption, no early data.

use crate::protocol::Protocols;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, Error, PeerIncompatible, PeerMisbehaved, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::sync::{Arc, LazyLock};

/// The protocols inside the channel, by their names in ALPN (RFC 7301, RFC 9113 section 3.2).
pub(crate) const HTTP_1_1: &[u8] = b"http/1.1";
pub(crate) const HTTP_2: &[u8] = b"h2";

/// Signature schemes of a guest's TLS key. It draws the key in memory at each start: there are no old keys to serve.
const SCHEMES: [SignatureScheme; 3] = [
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::ECDSA_NISTP384_SHA384,
    SignatureScheme::ED25519,
];

/// The configuration: nothing in it depends on the peer.
pub(crate) fn client_config(protocols: Protocols) -> Arc<ClientConfig> {
    static HTTP1: LazyLock<Arc<ClientConfig>> = LazyLock::new(|| Arc::new(build(&[HTTP_1_1])));
    static BOTH: LazyLock<Arc<ClientConfig>> = LazyLock::new(|| Arc::new(build(&[HTTP_2, HTTP_1_1])));
    Arc::clone(match protocols {
        Protocols::Http1 => &HTTP1,
        Protocols::Http2OrHttp1 => &BOTH,
    })
}

fn build(protocols: &[&[u8]]) -> ClientConfig {
    let provider = CryptoProvider {
        kx_groups: vec![aws_lc_rs::kx_group::X25519MLKEM768, aws_lc_rs::kx_group::X25519],
        ..aws_lc_rs::default_provider()
    };
    let verifier = HeldKey { algorithms: provider.signature_verification_algorithms };
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the provider has cipher suites and key exchanges of TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    config
}

/// Verifies that the peer holds the key of the certificate that it presents, and nothing else about it: names and dates
/// of a guest's certificate carry no trust. What the key is worth, its evidence tells.
#[derive(Debug)]
struct HeldKey {
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for HeldKey {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        ParsedCertificate::try_from(end_entity)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if !SCHEMES.contains(&dss.scheme) {
            return Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into());
        }
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        SCHEMES.to_vec()
    }
}

/// SHA-256 of the DER SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7) of a certificate, as the parser reads it that
/// also verified the handshake.
pub(crate) fn spki_digest(certificate: &CertificateDer<'_>) -> Result<[u8; 32], Error> {
    let spki = ParsedCertificate::try_from(certificate)?.subject_public_key_info();
    Ok(confide_evidence::hash::sha256(&spki).0)
}
