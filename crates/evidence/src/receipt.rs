//! Receipts: what a serving guest signs for every response.

use serde::{Deserialize, Serialize};

use crate::bytes::{Bytes, Digest};
use crate::cbor::{self, CborError};
use crate::document::encode_own;
use crate::hash::{length_prefixed, sha256};

/// First field of what a receipt's signature covers.
pub const RECEIPT_DOMAIN: &[u8] = b"confide/receipt/v1";
/// The largest receipt, in bytes. All its fields but the request id have a fixed size, about 500 together.
pub const MAX_RECEIPT: usize = 1024;

/// A receipt as the client gets it. Both bodies are the client's own: it hashes what it sent and what it received.
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
    /// Counts responses of this boot, from 0.
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

    /// What the signature covers, given the hashes of the exact body octets ([`salted_hash`] under this salt).
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

/// SHA-256 of salt ‖ body.
pub fn salted_hash(salt: &Bytes<32>, body: &[u8]) -> Digest {
    sha256(&[salt.0.as_slice(), body].concat())
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
        assert_ne!(salted_hash(&Bytes([0; 32]), b"body"), salted_hash(&base.salt, b"body"));
    }
}
