//! The receipts of a guest: honest, or wrong in one chosen way.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Result, anyhow};
use confide_evidence::bytes::Bytes;
use confide_evidence::document::EvidenceDocument;
use confide_evidence::hash::sha256;
use confide_evidence::pem::base64_text;
use confide_evidence::receipt::{Receipt, Usage, salted_hash};
use rcgen::{KeyPair, PublicKeyData as _, SigningKey as _};

use super::Receipts;

/// Signs receipts of one guest.
pub(super) struct Signer {
    own: KeyPair,
    other: KeyPair,
    signed: AtomicU64,
}

impl Signer {
    pub(super) fn new() -> Result<Self> {
        let [own, other] =
            [KeyPair::generate_for(&rcgen::PKCS_ED25519), KeyPair::generate_for(&rcgen::PKCS_ED25519)];
        Ok(Self { own: own?, other: other?, signed: AtomicU64::new(0) })
    }

    /// The key that the key set has.
    pub(super) fn public(&self) -> Result<Bytes<32>> {
        Bytes::try_from(self.own.der_bytes()).map_err(|_| anyhow!("an Ed25519 key has 32 bytes"))
    }

    /// The value of the field for these bodies; nothing where the guest sends none.
    pub(super) fn sign(
        &self,
        receipts: Receipts,
        document: &EvidenceDocument,
        request: &[u8],
        response: &[u8],
    ) -> Result<Option<String>> {
        let salt = Bytes([0x5a; 32]);
        let flipped = |Bytes(mut bytes): Bytes<32>| {
            bytes[0] ^= 1;
            Bytes(bytes)
        };
        let claims = &document.claims;
        let mut receipt = Receipt {
            salt,
            time: SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs(),
            usage: Usage { prompt_tokens: 5, completion_tokens: 4 },
            boot_id: document.boot_id,
            key_set: document.key_set.digest(),
            manifest: claims.model.manifest,
            sequence: self.signed.fetch_add(1, Ordering::Relaxed),
            signature: Bytes([0; 64]),
            request_id: "chatcmpl-1".to_owned(),
            configuration: claims.configuration,
        };
        let mut bodies = [request, response].map(|body| salted_hash(&salt, &sha256(body)));
        let mut key = &self.own;
        match receipts {
            Receipts::None | Receipts::Withheld => return Ok(None),
            Receipts::Garbage => return Ok(Some("AAAA".to_owned())),
            Receipts::Honest => {}
            Receipts::OtherKey => key = &self.other,
            Receipts::OtherBoot => receipt.boot_id.0[0] ^= 1,
            Receipts::OtherKeySet => receipt.key_set = flipped(receipt.key_set),
            Receipts::OtherManifest => receipt.manifest = flipped(receipt.manifest),
            Receipts::OtherConfiguration => receipt.configuration = flipped(receipt.configuration),
            Receipts::OtherRequest => bodies[0] = salted_hash(&salt, &sha256(&[request, b" "].concat())),
            Receipts::OtherResponse => bodies[1] = salted_hash(&salt, &sha256(&[response, b" "].concat())),
            Receipts::OneNumber => receipt.sequence = 7,
        }
        let signature = key.sign(&receipt.signing_input(&bodies[0], &bodies[1]))?;
        receipt.signature = signature.try_into().map_err(|_| anyhow!("an Ed25519 signature has 64 bytes"))?;
        Ok(Some(base64_text(&receipt.encode())))
    }
}
