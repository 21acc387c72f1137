//! Receipts: what a serving guest signs for every response.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::bytes::{Bytes, Digest};
use crate::cbor::{self, CborError};
use crate::document::encode_own;
use crate::hash::{length_prefixed, sha256, sha256_of};

/// First field of what a receipt's signature covers.
pub const RECEIPT_DOMAIN: &[u8] = b"confide/receipt/v1";
/// First field of the hash of a kept receipt.
pub const KEPT_RECEIPT_DOMAIN: &[u8] = b"confide/kept-receipt/v1";
/// Field name, in lower case, under which a guest sends a receipt: a header field of a whole answer, a trailer field (RFC
/// 9110 section 6.5) of a streamed one. Its value is the receipt in base64 (RFC 4648 section 4, with padding).
pub const RECEIPT_FIELD: &str = "x-confide-receipt";
/// The largest receipt, in bytes. All its fields but the request id have a fixed size, about 500 together.
pub const MAX_RECEIPT: usize = 1024;
/// The largest kept receipt, in bytes: a receipt and under 256 bytes of its own.
pub const MAX_KEPT_RECEIPT: usize = 2 * MAX_RECEIPT;

/// A receipt as the client gets it. Both bodies are the client's own: it hashes what it sent and what it received.
///
/// It says that this boot of the guest, with this model and configuration, answered exactly this request with exactly this
/// response. Only answers that are whole have one: a stream that was cut short, or that ends with an error, has none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// Random bytes that keep the body hashes from revealing a short prompt; for the client only.
    pub salt: Bytes<32>,
    /// When the response ended, Unix seconds of the guest's clock.
    pub time: u64,
    /// Tokens used.
    pub usage: Usage,
    /// The guest's boot.
    pub boot_id: Bytes<16>,
    /// [`crate::document::KeySet::digest`] of the key set with the key that signed.
    pub key_set: Digest,
    /// Digest of the model manifest.
    pub manifest: Digest,
    /// Counts the receipts of this boot, from 0, in the order of signing. A guest answers many clients: what one of them
    /// lacks between two of its numbers went to others, or did not arrive. A number that two receipts of one boot have says
    /// that the guest's keys or its count exist twice.
    pub sequence: u64,
    /// Ed25519 over [`Receipt::signing_input`].
    pub signature: Bytes<64>,
    /// The request's id.
    pub request_id: String,
    /// Digest of the deciding configuration.
    pub configuration: Digest,
}

/// Tokens that one response used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: u64,
    /// Tokens of the completion.
    pub completion_tokens: u64,
}

impl Receipt {
    /// Reads a receipt.
    ///
    /// # Errors
    /// Anything but the canonical encoding of a receipt.
    pub fn decode(bytes: &[u8]) -> Result<Self, CborError> {
        cbor::from_canonical_within(bytes, MAX_RECEIPT)
    }

    /// The canonical encoding.
    pub fn encode(&self) -> Vec<u8> {
        encode_own(self)
    }

    /// What the signature covers, given the hashes of the exact body octets ([`salted_hash`] under this salt of their
    /// SHA-256).
    pub fn signing_input(&self, request: &Digest, response: &Digest) -> Vec<u8> {
        length_prefixed(&[
            RECEIPT_DOMAIN,
            &self.boot_id.0,
            &self.key_set.0,
            self.request_id.as_bytes(),
            &self.sequence.to_be_bytes(),
            &request.0,
            &response.0,
            &self.manifest.0,
            &self.configuration.0,
            &encode_own(&self.usage),
            &self.time.to_be_bytes(),
        ])
    }
}

/// SHA-256 of a body's octets, as they come. Not `Debug`: it stands for content.
#[derive(Clone, Default)]
pub struct BodyHasher(Sha256);

impl BodyHasher {
    /// Takes further octets.
    pub fn update(&mut self, octets: &[u8]) {
        self.0.update(octets);
    }

    /// The hash of all octets so far.
    pub fn finish(self) -> Digest {
        Digest::from(<[u8; 32]>::from(self.0.finalize()))
    }
}

/// SHA-256 of salt ‖ `body`, the SHA-256 of a body's octets: who streams a body needs not know the salt before its end.
pub fn salted_hash(salt: &Bytes<32>, body: &Digest) -> Digest {
    sha256(&[salt.0, body.0].concat())
}

/// A receipt as a client keeps it: with the salted hashes of the bodies, so that its signature can be verified without them,
/// and with the record of the appraisal that vouches for its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeptReceipt {
    /// [`Self::hash`] of the kept receipt before this one; [`crate::record::FIRST`] in the first of a file.
    pub prev: Digest,
    /// When the request was sent, Unix seconds of the client's clock.
    pub sent: u64,
    /// [`crate::record::Record::hash`] of the record of the appraisal that the channel rested on.
    pub record: Digest,
    /// The receipt.
    pub receipt: Receipt,
    /// [`salted_hash`] of the request's body.
    pub request: Digest,
    /// [`salted_hash`] of the response's body.
    pub response: Digest,
}

impl KeptReceipt {
    /// Reads a kept receipt.
    ///
    /// # Errors
    /// Anything but the canonical encoding of one of at most [`MAX_KEPT_RECEIPT`] bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, CborError> {
        cbor::from_canonical_within(bytes, MAX_KEPT_RECEIPT)
    }

    /// The canonical encoding.
    pub fn encode(&self) -> Vec<u8> {
        encode_own(self)
    }

    /// SHA-256 of the length-prefixed (domain, canonical kept receipt): `prev` of the next one.
    pub fn hash(&self) -> Digest {
        sha256_of(&[KEPT_RECEIPT_DOMAIN, &self.encode()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receipt() -> Receipt {
        Receipt {
            salt: Bytes([1; 32]),
            time: 2,
            usage: Usage { prompt_tokens: 3, completion_tokens: 4 },
            boot_id: Bytes([5; 16]),
            key_set: Bytes([6; 32]),
            manifest: Bytes([7; 32]),
            sequence: 8,
            signature: Bytes([9; 64]),
            request_id: "r".into(),
            configuration: Bytes([10; 32]),
        }
    }

    #[test]
    fn receipts_round_trip() {
        assert_eq!(Receipt::decode(&receipt().encode()), Ok(receipt()));
    }

    #[test]
    fn every_field_but_salt_and_signature_is_signed_directly() {
        let (request, response) = (Bytes([11; 32]), Bytes([12; 32]));
        let input = |receipt: &Receipt| receipt.signing_input(&request, &response);
        let base = receipt();
        let usage = Usage { prompt_tokens: 4, completion_tokens: 3 };
        let variants = [
            Receipt { time: 0, ..base.clone() },
            Receipt { usage, ..base.clone() },
            Receipt { boot_id: Bytes([0; 16]), ..base.clone() },
            Receipt { key_set: Bytes([0; 32]), ..base.clone() },
            Receipt { manifest: Bytes([0; 32]), ..base.clone() },
            Receipt { sequence: 0, ..base.clone() },
            Receipt { request_id: "s".into(), ..base.clone() },
            Receipt { configuration: Bytes([0; 32]), ..base.clone() },
        ];
        for variant in variants {
            assert_ne!(input(&variant), input(&base), "{variant:?}");
        }
        assert_ne!(base.signing_input(&response, &request), input(&base));
        let body = sha256(b"body");
        let mut hasher = BodyHasher::default();
        [&b"bo"[..], b"", b"dy"].iter().for_each(|piece| hasher.update(piece));
        assert_eq!(hasher.finish(), body);
        assert_ne!(salted_hash(&Bytes([0; 32]), &body), salted_hash(&base.salt, &body));
    }

    #[test]
    fn a_kept_receipt_reads_back_and_its_hash_covers_every_field() {
        let digest = |fill| Bytes([fill; 32]);
        let kept = KeptReceipt {
            prev: digest(1),
            sent: 2,
            record: digest(3),
            receipt: receipt(),
            request: digest(4),
            response: digest(5),
        };
        assert_eq!(KeptReceipt::decode(&kept.encode()), Ok(kept.clone()));
        let variants = [
            KeptReceipt { prev: digest(0), ..kept.clone() },
            KeptReceipt { sent: 0, ..kept.clone() },
            KeptReceipt { record: digest(0), ..kept.clone() },
            KeptReceipt { receipt: Receipt { salt: digest(0), ..receipt() }, ..kept.clone() },
            KeptReceipt { request: digest(0), ..kept.clone() },
            KeptReceipt { response: digest(0), ..kept.clone() },
        ];
        for variant in variants {
            assert_ne!(variant.hash(), kept.hash(), "{variant:?}");
        }
    }

    #[test]
    fn the_longest_receipt_can_be_kept() {
        let spare = MAX_RECEIPT - receipt().encode().len() - 2;
        let receipt = Receipt { request_id: "r".repeat(spare + 1), ..receipt() };
        assert_eq!(receipt.encode().len(), MAX_RECEIPT);
        let digest = Bytes([0xff; 32]);
        let (prev, record, request, response) = (digest, digest, digest, digest);
        let kept = KeptReceipt { prev, sent: u64::MAX, record, receipt, request, response };
        assert_eq!(KeptReceipt::decode(&kept.encode()), Ok(kept));
    }
}
