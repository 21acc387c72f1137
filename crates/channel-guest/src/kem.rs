//! X-Wing (draft-connolly-cfrg-xwing-kem-09): ML-KEM-768 and X25519 together.

use aws_lc_rs::agreement::{self, UnparsedPublicKey, X25519};
use aws_lc_rs::digest::{Context, SHA3_256};
use aws_lc_rs::kem::{DecapsulationKey, ML_KEM_768};
use confide_evidence::bytes::Bytes;
use confide_evidence::document::{KemAlgorithm, KemKey};
use zeroize::Zeroizing;

use crate::error::ChannelError;

/// Bytes of an X-Wing ciphertext: ML-KEM-768 (1088) ‖ X25519 (32).
pub const KEM_CIPHERTEXT: usize = MLKEM_CIPHERTEXT + 32;

const MLKEM_CIPHERTEXT: usize = 1088;
const MLKEM_PUBLIC: usize = 1184;
/// XWingLabel, section 5.3.
const LABEL: &[u8; 6] = br"\.//^\";

/// A shared secret, overwritten with zeros when dropped.
pub type SharedSecret = Zeroizing<[u8; 32]>;

/// The guest's decapsulation key. Both halves live in the cryptographic library, which clears them when freed; there
/// is no way to read them.
pub struct XWingSecret {
    mlkem: DecapsulationKey,
    x25519: agreement::PrivateKey,
    public: Bytes<1216>,
}

impl XWingSecret {
    /// Draws a key from the system's random source.
    pub(crate) fn draw() -> Result<Self, ChannelError> {
        let mlkem = DecapsulationKey::generate(&ML_KEM_768).map_err(|_| ChannelError::Keys)?;
        let x25519 = agreement::PrivateKey::generate(&X25519).map_err(|_| ChannelError::Keys)?;
        let encapsulation = mlkem.encapsulation_key().map_err(|_| ChannelError::Keys)?;
        let mlkem_public = encapsulation.key_bytes().map_err(|_| ChannelError::Keys)?;
        let x25519_public = x25519.compute_public_key().map_err(|_| ChannelError::Keys)?;
        let public = [mlkem_public.as_ref(), x25519_public.as_ref()].concat();
        let public = Bytes::try_from(public).map_err(|_| ChannelError::Keys)?;
        Ok(Self { mlkem, x25519, public })
    }

    /// The public half, for the key set.
    pub fn public(&self) -> KemKey {
        KemKey { alg: KemAlgorithm::XWing, public: self.public }
    }

    /// The secret that a sender encapsulated to this key (section 5.5).
    ///
    /// # Errors
    /// [`ChannelError::Decapsulation`] when the X25519 half is a point of low order. Any other foreign ciphertext
    /// gives a secret that nobody knows, as FIPS 203 has it.
    pub fn decapsulate(&self, ciphertext: &[u8; KEM_CIPHERTEXT]) -> Result<SharedSecret, ChannelError> {
        let (to_mlkem, to_x25519) = ciphertext.split_at(MLKEM_CIPHERTEXT);
        let mlkem = self.mlkem.decapsulate(to_mlkem.into()).map_err(|_| ChannelError::Decapsulation)?;
        let own = &self.public.as_bytes()[MLKEM_PUBLIC..];
        let peer = UnparsedPublicKey::new(&X25519, to_x25519);
        agreement::agree(&self.x25519, peer, ChannelError::Decapsulation, |x25519| {
            Ok(combine(mlkem.as_ref(), x25519, to_x25519, own))
        })
    }
}

/// The combiner of section 5.3.
fn combine(mlkem: &[u8], x25519: &[u8], ciphertext: &[u8], public: &[u8]) -> SharedSecret {
    let mut hash = Context::new(&SHA3_256);
    for part in [mlkem, x25519, ciphertext, public, LABEL.as_slice()] {
        hash.update(part);
    }
    let mut secret = Zeroizing::new([0; 32]);
    secret.copy_from_slice(hash.finish().as_ref());
    secret
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::kem::EncapsulationKey;

    /// Section 5.4, from the public key alone.
    fn encapsulate(public: &KemKey) -> ([u8; KEM_CIPHERTEXT], SharedSecret) {
        let (to_mlkem, to_x25519) = public.public.as_bytes().split_at(MLKEM_PUBLIC);
        let (mlkem_ciphertext, mlkem) =
            EncapsulationKey::new(&ML_KEM_768, to_mlkem).unwrap().encapsulate().unwrap();
        let ephemeral = agreement::PrivateKey::generate(&X25519).unwrap();
        let ephemeral_public = ephemeral.compute_public_key().unwrap();
        let peer = UnparsedPublicKey::new(&X25519, to_x25519);
        let secret = agreement::agree(&ephemeral, peer, (), |x25519| {
            Ok(combine(mlkem.as_ref(), x25519, ephemeral_public.as_ref(), to_x25519))
        });
        let ciphertext = [mlkem_ciphertext.as_ref(), ephemeral_public.as_ref()].concat();
        (ciphertext.try_into().unwrap(), secret.unwrap())
    }

    #[test]
    fn both_sides_get_the_same_secret() {
        let key = XWingSecret::draw().unwrap();
        let (ciphertext, secret) = encapsulate(&key.public());
        assert_eq!(*key.decapsulate(&ciphertext).unwrap(), *secret);
    }

    #[test]
    fn another_key_or_a_changed_ciphertext_gives_another_secret() {
        let key = XWingSecret::draw().unwrap();
        let (mut ciphertext, secret) = encapsulate(&key.public());
        assert_ne!(*XWingSecret::draw().unwrap().decapsulate(&ciphertext).unwrap(), *secret);
        for index in [0, MLKEM_CIPHERTEXT] {
            ciphertext[index] ^= 1;
            assert_ne!(*key.decapsulate(&ciphertext).unwrap(), *secret);
            ciphertext[index] ^= 1;
        }
    }

    #[test]
    fn a_point_of_low_order_is_refused() {
        let key = XWingSecret::draw().unwrap();
        let (mut ciphertext, _) = encapsulate(&key.public());
        ciphertext[MLKEM_CIPHERTEXT..].fill(0);
        assert!(matches!(key.decapsulate(&ciphertext), Err(ChannelError::Decapsulation)));
    }
}
