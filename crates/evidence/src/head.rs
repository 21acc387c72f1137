//! The signed head of a folder of records: how far its two chains went, kept elsewhere.

use serde::{Deserialize, Serialize};

use crate::bytes::{Bytes, Digest};
use crate::cbor::{self, CborError};
use crate::document::encode_own;
use crate::hash::length_prefixed;

/// First field of what a head's signature covers.
pub const HEAD_DOMAIN: &[u8] = b"confide/record-head/v1";
/// The largest head, in bytes. All its fields have a fixed size, about 250 together.
pub const MAX_HEAD: usize = 512;

/// How far the chains of a folder went at a time. What is appended later leaves it valid: it speaks of a prefix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedHead {
    /// When it was signed, Unix seconds.
    pub time: u64,
    /// The chain of records.
    pub records: ChainHead,
    /// The chain of kept receipts.
    pub receipts: ChainHead,
    /// Ed25519 over [`Self::signing_input`].
    pub signature: Bytes<64>,
}

/// How far a chain went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChainHead {
    /// Hash of the last entry; [`crate::record::FIRST`] where there is none.
    pub last: Digest,
    /// How many entries there are.
    pub count: u64,
}

impl SignedHead {
    /// Reads a head.
    ///
    /// # Errors
    /// Anything but the canonical encoding of a head.
    pub fn decode(bytes: &[u8]) -> Result<Self, CborError> {
        cbor::from_canonical_within(bytes, MAX_HEAD)
    }

    /// The canonical encoding.
    pub fn encode(&self) -> Vec<u8> {
        encode_own(self)
    }

    /// What the signature covers.
    pub fn signing_input(&self) -> Vec<u8> {
        let Self { time, records, receipts, .. } = self;
        length_prefixed(&[
            HEAD_DOMAIN,
            &time.to_be_bytes(),
            &records.count.to_be_bytes(),
            &records.last.0,
            &receipts.count.to_be_bytes(),
            &receipts.last.0,
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> SignedHead {
        let chain = |fill, count| ChainHead { last: Bytes([fill; 32]), count };
        SignedHead { time: 1, records: chain(2, 3), receipts: chain(4, 5), signature: Bytes([6; 64]) }
    }

    #[test]
    fn a_head_reads_back_at_its_largest() {
        let most = |chain| ChainHead { count: u64::MAX, ..chain };
        let head = head();
        let head =
            SignedHead { time: u64::MAX, records: most(head.records), receipts: most(head.receipts), ..head };
        assert_eq!(SignedHead::decode(&head.encode()), Ok(head));
    }

    #[test]
    fn every_field_is_signed_and_no_two_can_be_exchanged() {
        let base = head();
        let other = |chain: ChainHead| ChainHead { last: Bytes([0; 32]), ..chain };
        let more = |chain: ChainHead| ChainHead { count: chain.count + 1, ..chain };
        let variants = [
            SignedHead { time: 0, ..base.clone() },
            SignedHead { records: other(base.records), ..base.clone() },
            SignedHead { records: more(base.records), ..base.clone() },
            SignedHead { receipts: other(base.receipts), ..base.clone() },
            SignedHead { receipts: more(base.receipts), ..base.clone() },
            SignedHead { records: base.receipts, receipts: base.records, ..base.clone() },
        ];
        for variant in variants {
            assert_ne!(variant.signing_input(), base.signing_input(), "{variant:?}");
        }
    }
}
