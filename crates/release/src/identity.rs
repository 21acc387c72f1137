//! The broker's identity key.

use std::fmt;

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use confide_evidence::bytes::ByteString;

/// What stands before the 32 bytes of the key: SubjectPublicKeyInfo of Ed25519 (RFC 8410 section 4).
const PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// Bytes of the key itself (RFC 8032 section 5.1.5).
const KEY: usize = 32;

/// An Ed25519 key that signs a broker's answers and its TLS certificate. The guest measures it in the event `boot` before it
/// asks for anything.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct IdentityKey([u8; KEY]);

/// Why bytes are no identity key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected the DER SubjectPublicKeyInfo of an Ed25519 key (RFC 8410), {LENGTH} bytes", LENGTH = IdentityKey::LENGTH)]
pub struct IdentityKeyError;

impl IdentityKey {
    /// Bytes of [`IdentityKey::to_der`].
    pub const LENGTH: usize = PREFIX.len() + KEY;

    /// The key of 32 bytes (RFC 8032 section 5.1.5).
    #[must_use]
    pub const fn from_raw(key: [u8; 32]) -> Self {
        Self(key)
    }

    /// Reads a DER SubjectPublicKeyInfo (RFC 8410 section 4), as a certificate has it.
    ///
    /// # Errors
    /// [`IdentityKeyError`] for anything else.
    pub fn from_der(der: &[u8]) -> Result<Self, IdentityKeyError> {
        let key = der.strip_prefix(&PREFIX).ok_or(IdentityKeyError)?;
        key.try_into().map(Self).map_err(|_| IdentityKeyError)
    }

    /// The DER SubjectPublicKeyInfo, 44 bytes: what the event `boot` measures.
    #[must_use]
    pub fn to_der(&self) -> ByteString {
        [PREFIX.as_slice(), &self.0].concat().into()
    }

    /// Whether `signature` is this key's over `message` (RFC 8032 section 5.1.7).
    #[must_use]
    pub fn signed(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.0).verify(message, signature).is_ok()
    }
}

impl fmt::Debug for IdentityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IdentityKey({:?})", self.to_der())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_as_it_is_written_and_nothing_else_is() {
        let key = IdentityKey::from_raw([7; 32]);
        let der = key.to_der();
        assert_eq!(der.as_bytes().len(), IdentityKey::LENGTH);
        assert_eq!(IdentityKey::from_der(der.as_bytes()), Ok(key));
        for index in 0..PREFIX.len() {
            let mut other = der.as_bytes().to_vec();
            other[index] ^= 1;
            assert_eq!(IdentityKey::from_der(&other), Err(IdentityKeyError), "byte {index}");
        }
        assert!(IdentityKey::from_der(&der.as_bytes()[..43]).is_err());
        assert!(IdentityKey::from_der(&[der.as_bytes(), &[0]].concat()).is_err());
    }
}
