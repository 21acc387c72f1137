//! ECDSA keys: derived from a seed, or read from the committed PEM files.

use aws_lc_rs::agreement;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
    KeyPair as _,
};
use sha2::{Digest, Sha384};

use crate::SimulatorError;

/// The two curves of the two vendors.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Curve {
    /// Intel: ECDSA P-256 with SHA-256.
    P256,
    /// NVIDIA: ECDSA P-384 with SHA-384.
    P384,
}

impl Curve {
    /// Length of a private scalar and of each signature half, in bytes.
    fn scalar_length(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
        }
    }

    fn signing(self) -> &'static EcdsaSigningAlgorithm {
        match self {
            Self::P256 => &ECDSA_P256_SHA256_FIXED_SIGNING,
            Self::P384 => &ECDSA_P384_SHA384_FIXED_SIGNING,
        }
    }

    fn agreement(self) -> &'static agreement::Algorithm {
        match self {
            Self::P256 => &agreement::ECDH_P256,
            Self::P384 => &agreement::ECDH_P384,
        }
    }
}

/// A key that signs raw messages as `r ‖ s` and X.509 objects.
#[derive(Debug)]
pub(crate) struct SigningKey {
    raw: EcdsaKeyPair,
    x509: rcgen::KeyPair,
}

impl SigningKey {
    /// The key that this label and seed always give.
    pub(crate) fn derive(curve: Curve, label: &str, seed: u64) -> Result<Self, SimulatorError> {
        let private = derive_scalar(curve, label, seed);
        let public = agreement::PrivateKey::from_private_key(curve.agreement(), &private)
            .map_err(|_| SimulatorError::Key)?
            .compute_public_key()
            .map_err(|_| SimulatorError::Key)?;
        let raw = EcdsaKeyPair::from_private_key_and_public_key(curve.signing(), &private, public.as_ref())
            .map_err(|_| SimulatorError::Key)?;
        let pkcs8 = raw.to_pkcs8v1().map_err(|_| SimulatorError::Key)?;
        let x509 = rcgen::KeyPair::try_from(pkcs8.as_ref())?;
        Ok(Self { raw, x509 })
    }

    /// A committed P-256 key, PKCS#8 PEM.
    pub(crate) fn from_pem(pem: &str) -> Result<Self, SimulatorError> {
        let x509 = rcgen::KeyPair::from_pem(pem)?;
        let raw = EcdsaKeyPair::from_pkcs8(Curve::P256.signing(), x509.serialized_der())
            .map_err(|_| SimulatorError::Key)?;
        Ok(Self { raw, x509 })
    }

    /// The key as rcgen wants it.
    pub(crate) fn x509(&self) -> &rcgen::KeyPair {
        &self.x509
    }

    /// The public point without its 0x04 prefix: 64 bytes on P-256, 96 on P-384.
    pub(crate) fn public_point(&self) -> &[u8] {
        &self.raw.public_key().as_ref()[1..]
    }

    /// `r ‖ s`, big endian, each as long as the curve's scalar.
    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.raw
            .sign(&SystemRandom::new(), message)
            .expect("ECDSA signing with a valid key needs only the operating system's random source")
            .as_ref()
            .to_vec()
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
