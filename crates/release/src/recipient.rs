//! The key that a booting guest draws, and to which its broker seals.

use confide_evidence::bytes::Bytes;
use confide_evidence::document::{KemAlgorithm, KemKey};
use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::XWing;
use hpke::{Deserializable as _, Kem, OpModeR, OpModeS, Serializable as _};
use zeroize::Zeroizing;

type PrivateKey = <XWing as Kem>::PrivateKey;
type PublicKey = <XWing as Kem>::PublicKey;
type Encapsulated = <XWing as Kem>::EncappedKey;

/// The `info` of every sealing (RFC 9180 section 5.1): these bytes serve no other purpose.
const INFO: &[u8] = b"confide/release/v1";

/// HPKE (RFC 9180) in base mode with X-Wing (KEM 0x647a), HKDF-SHA256 and ChaCha20Poly1305: the recipient's half. Drawn once a
/// boot, overwritten with zeros when dropped; there is no way to read, store or copy it.
pub struct RecipientKey {
    private: PrivateKey,
    public: KemKey,
}

impl RecipientKey {
    /// Draws a key from the system's random source.
    #[must_use]
    pub fn draw() -> Self {
        let (private, public) = XWing::gen_keypair();
        Self::of(private, &public)
    }

    fn of(private: PrivateKey, public: &PublicKey) -> Self {
        let bytes = public.to_bytes();
        let public = Bytes::try_from(bytes.as_slice()).expect("an X-Wing key has 1216 bytes");
        Self { private, public: KemKey { alg: KemAlgorithm::XWing, public } }
    }

    /// The key of a test vector.
    #[cfg(test)]
    pub(crate) fn of_seed(seed: &[u8]) -> Self {
        let private = PrivateKey::from_bytes(seed).unwrap();
        let public = XWing::sk_to_pk(&private);
        Self::of(private, &public)
    }

    /// The public half, which the evidence of role `key-release` binds.
    #[must_use]
    pub const fn public(&self) -> &KemKey {
        &self.public
    }

    /// What was sealed to this key under `aad`; `None` where anything differs.
    pub(crate) fn open(
        &self,
        encapsulated: &[u8],
        ciphertext: &[u8],
        aad: &[u8],
    ) -> Option<Zeroizing<Vec<u8>>> {
        let encapsulated = Encapsulated::from_bytes(encapsulated).ok()?;
        hpke::single_shot_open::<ChaCha20Poly1305, HkdfSha256, XWing>(
            &OpModeR::Base,
            &self.private,
            &encapsulated,
            INFO,
            ciphertext,
            aad,
        )
        .ok()
        .map(Zeroizing::new)
    }
}

/// Seals `plaintext` to `recipient`: the encapsulated key (1120 bytes), and the ciphertext, 16 bytes longer.
pub(crate) fn seal(recipient: &KemKey, plaintext: &[u8], aad: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let KemAlgorithm::XWing = recipient.alg else { return None };
    let key = PublicKey::from_bytes(recipient.public.as_bytes()).ok()?;
    let (encapsulated, ciphertext) = hpke::single_shot_seal::<ChaCha20Poly1305, HkdfSha256, XWing>(
        &OpModeS::Base,
        &key,
        INFO,
        plaintext,
        aad,
    )
    .ok()?;
    Some((encapsulated.to_bytes().to_vec(), ciphertext))
}
