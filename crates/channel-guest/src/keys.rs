//! The keys of a serving guest.

use std::sync::Arc;

use ::aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use confide_evidence::bytes::{Bytes, Digest};
use confide_evidence::document::{KeySet, ReceiptAlgorithm, ReceiptKey, ServingKeys};
use confide_evidence::event::ServingEvents;
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::NoServerSessionStorage;
use rustls::sign::SingleCertAndKey;

use crate::error::ChannelError;
use crate::kem::XWingSecret;
use crate::tls_key::TlsKey;

/// The protocols inside the channel, the preferred one first: a client that does not want HTTP/2 does not offer it.
const PROTOCOLS: [&[u8]; 2] = [HTTP_2, b"http/1.1"];
/// HTTP/2 over TLS (RFC 9113 section 3.2).
pub(crate) const HTTP_2: &[u8] = b"h2";

/// TLS, message and receipt keys of one boot. They live and end with the process: there is no way to read, store or
/// copy them.
pub struct GuestKeys {
    tls: TlsKey,
    kem: XWingSecret,
    receipt: Ed25519KeyPair,
    key_set: KeySet,
}

impl GuestKeys {
    /// Draws the keys from the system's random source.
    ///
    /// They exist only after `open`: `_measured` is the complete log of a serving guest, which nothing but
    /// [`EventLog::serving`](confide_evidence::event::EventLog::serving) makes. `not_after` is when clients must stop
    /// relying on them, Unix seconds.
    ///
    /// # Errors
    /// [`ChannelError::Keys`].
    pub fn draw(_measured: &ServingEvents<'_>, not_after: u64) -> Result<Self, ChannelError> {
        let tls = TlsKey::draw()?;
        let kem = XWingSecret::draw()?;
        let receipt = Ed25519KeyPair::generate().map_err(|_| ChannelError::Keys)?;
        let public = Bytes::try_from(receipt.public_key().as_ref()).map_err(|_| ChannelError::Keys)?;
        let key_set = KeySet::Serving(ServingKeys {
            kem: kem.public(),
            receipt: ReceiptKey { alg: ReceiptAlgorithm::Ed25519, public },
            not_after,
        });
        Ok(Self { tls, kem, receipt, key_set })
    }

    /// The public keys, for the evidence document.
    pub fn key_set(&self) -> &KeySet {
        &self.key_set
    }

    /// SHA-256 of the DER SubjectPublicKeyInfo of the TLS key.
    pub fn tls_spki(&self) -> Digest {
        self.tls.spki()
    }

    /// The key to which clients encrypt messages.
    pub fn kem(&self) -> &XWingSecret {
        &self.kem
    }

    /// Ed25519 (RFC 8032) over [`Receipt::signing_input`](confide_evidence::receipt::Receipt::signing_input).
    pub fn sign_receipt(&self, signing_input: &[u8]) -> Bytes<64> {
        let signature = self.receipt.sign(signing_input);
        Bytes::try_from(signature.as_ref()).expect("Ed25519 signatures have 64 bytes")
    }

    /// TLS 1.3 alone, hybrid key exchange first, no tickets, resumption or early data.
    pub(crate) fn server_config(&self) -> Result<ServerConfig, ChannelError> {
        let provider = CryptoProvider {
            kx_groups: vec![aws_lc_rs::kx_group::X25519MLKEM768, aws_lc_rs::kx_group::X25519],
            ..aws_lc_rs::default_provider()
        };
        let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(ChannelError::Configuration)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(self.tls.certified()?)));
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.max_early_data_size = 0;
        Ok(config)
    }
}
