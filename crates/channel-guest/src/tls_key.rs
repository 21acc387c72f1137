//! The TLS key: drawn in the cryptographic library, never serialised.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use confide_evidence::bytes::Digest;
use confide_evidence::hash::sha256;
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyUsagePurpose, PublicKeyData};
use rustls::sign::{CertifiedKey, Signer, SigningKey};
use rustls::{SignatureAlgorithm, SignatureScheme};

use crate::error::ChannelError;

/// An ECDSA P-256 key. Clones share it.
#[derive(Clone)]
pub(crate) struct TlsKey(Arc<EcdsaKeyPair>);

impl TlsKey {
    /// Draws a key from the system's random source.
    pub(crate) fn draw() -> Result<Self, ChannelError> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).map_err(|_| ChannelError::Keys)?;
        Ok(Self(Arc::new(pair)))
    }

    /// SHA-256 of the DER SubjectPublicKeyInfo.
    pub(crate) fn spki(&self) -> Digest {
        sha256(&self.subject_public_key_info())
    }

    /// The key with a self-signed certificate, whose names and dates carry no trust.
    pub(crate) fn certified(&self) -> Result<CertifiedKey, ChannelError> {
        let mut parameters = CertificateParams::new(vec!["confide-guest.invalid".to_owned()])?;
        parameters.distinguished_name.push(DnType::CommonName, "confide-guest");
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = parameters.self_signed(self)?;
        Ok(CertifiedKey::new(vec![certificate.der().clone()], Arc::new(self.clone())))
    }

    fn signature(&self, message: &[u8]) -> Option<Vec<u8>> {
        let signature = self.0.sign(&SystemRandom::new(), message).ok()?;
        Some(signature.as_ref().to_vec())
    }
}

impl fmt::Debug for TlsKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TlsKey({})", self.spki())
    }
}

impl PublicKeyData for TlsKey {
    fn der_bytes(&self) -> &[u8] {
        self.0.public_key().as_ref()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

impl rcgen::SigningKey for TlsKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.signature(message).ok_or(rcgen::Error::RemoteKeyError)
    }
}

impl SigningKey for TlsKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        offered.contains(&Signer::scheme(self)).then(|| -> Box<dyn Signer> { Box::new(self.clone()) })
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

impl Signer for TlsKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        self.signature(message).ok_or_else(|| rustls::Error::General("the TLS key cannot sign".to_owned()))
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ECDSA_NISTP256_SHA256
    }
}
