//! ECDSA keys: derived from a seed, or read from the committed PEM files.

use aws_lc_rs::encoding::{AsBigEndian, EcPrivateKeyBin};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair};
use sha2::{Digest, Sha256, Sha384};

use crate::ecdsa::{self, Curve};
use crate::{SimulatorError, der};

/// A key that signs raw messages as `r ‖ s` and X.509 objects, always the same for the same message.
#[derive(Debug)]
pub(crate) struct SigningKey {
    curve: Curve,
    private: Vec<u8>,
    /// The uncompressed point.
    public: Vec<u8>,
}

impl SigningKey {
    /// The key that this label and seed always give.
    pub(crate) fn derive(curve: Curve, label: &str, seed: u64) -> Result<Self, SimulatorError> {
        Self::new(curve, derive_scalar(curve, label, seed))
    }

    /// A committed key, PKCS#8 PEM.
    pub(crate) fn from_pem(curve: Curve, pem: &str) -> Result<Self, SimulatorError> {
        let algorithm = match curve {
            Curve::P256 => &ECDSA_P256_SHA256_FIXED_SIGNING,
            Curve::P384 => &ECDSA_P384_SHA384_FIXED_SIGNING,
        };
        let pkcs8 = rcgen::KeyPair::from_pem(pem)?;
        let key = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.serialized_der());
        let key = key.map_err(|_| SimulatorError::Key)?;
        let private: EcPrivateKeyBin<'_> =
            key.private_key().as_be_bytes().map_err(|_| SimulatorError::Key)?;
        Self::new(curve, private.as_ref().to_vec())
    }

    fn new(curve: Curve, private: Vec<u8>) -> Result<Self, SimulatorError> {
        let public = curve.public_key(&private)?;
        Ok(Self { curve, private, public })
    }

    /// The public point without its 0x04 prefix: 64 bytes on P-256, 96 on P-384.
    pub(crate) fn public_point(&self) -> &[u8] {
        &self.public[1..]
    }

    /// `r ‖ s`, big endian, each as long as the curve's scalar.
    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        ecdsa::sign(self.curve, &self.private, message)
    }

    /// `r ‖ s` over the SHA-256 of the message, which NVIDIA's P-384 keys sign in revocation lists.
    pub(crate) fn sign_sha256(&self, message: &[u8]) -> Vec<u8> {
        ecdsa::sign_digest(self.curve, &self.private, &Sha256::digest(message))
    }

    /// `Ecdsa-Sig-Value` (RFC 3279 section 2.2.3) of `r ‖ s`.
    pub(crate) fn encoded(signature: &[u8]) -> Vec<u8> {
        let (r, s) = signature.split_at(signature.len() / 2);
        der::sequence(&[der::unsigned(r), der::unsigned(s)])
    }
}

impl rcgen::PublicKeyData for SigningKey {
    fn der_bytes(&self) -> &[u8] {
        &self.public
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        match self.curve {
            Curve::P256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            Curve::P384 => &rcgen::PKCS_ECDSA_P384_SHA384,
        }
    }
}

impl rcgen::SigningKey for SigningKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(Self::encoded(&Self::sign(self, message)))
    }
}

/// A private scalar below the order of either curve: hashed label and seed with the top bit cleared.
fn derive_scalar(curve: Curve, label: &str, seed: u64) -> Vec<u8> {
    let mut scalar = seeded(label, seed)[..curve.scalar_length()].to_vec();
    scalar[0] &= 0x7f;
    scalar
}

/// 48 bytes that this label and seed always give.
pub(crate) fn seeded(label: &str, seed: u64) -> [u8; 48] {
    Sha384::new()
        .chain_update(b"confide-simulator/v1")
        .chain_update((label.len() as u64).to_be_bytes())
        .chain_update(label)
        .chain_update(seed.to_be_bytes())
        .finalize()
        .into()
}

/// The first `N` bytes of [`seeded`], `N` at most 48.
pub(crate) fn seeded_array<const N: usize>(label: &str, seed: u64) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&seeded(label, seed)[..N]);
    out
}
