//! The audit log of a broker: what its entries and signed heads are made of.
//!
//! An entry is canonical CBOR. Its hash is the `prev` of the next one: edits, gaps and exchanged entries are found in the log
//! itself, truncation and rewriting against a [`SignedHead`] that was kept elsewhere.

use confide_evidence::bytes::{Bytes, Digest};
use confide_evidence::cbor::{self, CborError};
use confide_evidence::hash::{length_prefixed, sha256};
use serde::{Deserialize, Serialize};

use crate::identity::IdentityKey;
use crate::message::own;

/// First field of every entry's hash.
const ENTRY_DOMAIN: &[u8] = b"confide/broker-audit/v1";
/// First field of what a head's signature covers.
const HEAD_DOMAIN: &[u8] = b"confide/broker-audit-head/v1";
/// The largest entry, in bytes: 64 volumes and as many records.
pub const MAX_ENTRY: usize = 32 * 1024;
/// The largest head, in bytes: its fields have fixed sizes, under 200 together.
pub const MAX_SIGNED_HEAD: usize = 256;

/// What an entry tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// Keys were released to a guest.
    Released,
    /// A request for keys was refused.
    Refused,
    /// A guest has formatted a volume.
    Formatted,
    /// Somebody reports that a boot has failed. Nothing vouches for it.
    FailureReported,
    /// A volume was added.
    VolumeAdded,
    /// A volume has another policy.
    PolicyChanged,
    /// A version was prepared.
    RotationPrepared,
    /// The prepared version holds.
    RotationCommitted,
    /// The prepared version was given up.
    RotationAbandoned,
    /// A volume was revoked.
    VolumeRevoked,
}

impl What {
    /// The word in lists.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Released => "released",
            Self::Refused => "refused",
            Self::Formatted => "formatted",
            Self::FailureReported => "failure-reported",
            Self::VolumeAdded => "volume-added",
            Self::PolicyChanged => "policy-changed",
            Self::RotationPrepared => "rotation-prepared",
            Self::RotationCommitted => "rotation-committed",
            Self::RotationAbandoned => "rotation-abandoned",
            Self::VolumeRevoked => "volume-revoked",
        }
    }
}

/// One decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its place, from 0.
    pub seq: u64,
    /// The stable code of a refusal or a reported failure.
    pub code: Option<String>,
    /// Who asked, an IP address; none for what was done at the broker itself.
    pub peer: Option<String>,
    /// Hash of the entry before; 32 zero bytes in the first.
    pub prev: Digest,
    /// When it was decided, Unix seconds.
    pub time: u64,
    /// What was decided.
    pub what: What,
    /// The challenge.
    pub nonce: Option<Bytes<32>>,
    /// The guest's boot, where evidence or a report names it.
    pub boot_id: Option<Bytes<16>>,
    /// Digests of the records of the appraisals, one for each policy.
    pub records: Vec<Digest>,
    /// The volumes, with the generations that were released or changed.
    pub volumes: Vec<(String, Vec<u64>)>,
    /// SHA-256 of the evidence document, or of the policy that was set.
    pub document: Option<Digest>,
    /// One sentence.
    pub sentence: Option<String>,
}

impl Entry {
    /// The canonical encoding.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        own(self)
    }

    /// Reads an entry.
    ///
    /// # Errors
    /// Anything but its canonical encoding of at most [`MAX_ENTRY`] bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, CborError> {
        cbor::from_canonical_within(bytes, MAX_ENTRY)
    }

    /// SHA-256 of the length-prefixed (domain, canonical entry).
    #[must_use]
    pub fn hash(&self) -> Digest {
        sha256(&length_prefixed(&[ENTRY_DOMAIN, &self.encode()]))
    }
}

/// How far a log went at a time, signed by the broker's identity key. Later entries leave it valid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedHead {
    /// Hash of the last entry; 32 zero bytes where there is none.
    pub last: Digest,
    /// When it was signed, Unix seconds.
    pub time: u64,
    /// How many entries there are.
    pub count: u64,
    /// Ed25519 over [`Self::signing_input`].
    pub signature: Bytes<64>,
}

impl SignedHead {
    /// What the signature covers.
    #[must_use]
    pub fn signing_input(last: &Digest, time: u64, count: u64) -> Vec<u8> {
        length_prefixed(&[HEAD_DOMAIN, &time.to_be_bytes(), &count.to_be_bytes(), &last.0])
    }

    /// The canonical encoding.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        own(self)
    }

    /// Reads a head. Its signature is still to be verified ([`Self::signed_by`]).
    ///
    /// # Errors
    /// Anything but its canonical encoding.
    pub fn decode(bytes: &[u8]) -> Result<Self, CborError> {
        cbor::from_canonical_within(bytes, MAX_SIGNED_HEAD)
    }

    /// The same head, where it is signed by this key.
    #[must_use]
    pub fn signed_by(self, key: &IdentityKey) -> Option<Self> {
        let input = Self::signing_input(&self.last, self.time, self.count);
        key.signed(&input, &self.signature.0).then_some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        Entry {
            seq: 4,
            code: Some("volume_revoked".to_owned()),
            peer: Some("192.0.2.1".to_owned()),
            prev: Bytes([5; 32]),
            time: 7,
            what: What::Refused,
            nonce: Some(Bytes([1; 32])),
            boot_id: Some(Bytes([2; 16])),
            records: vec![Bytes([6; 32])],
            volumes: vec![("model".to_owned(), vec![1, 2])],
            document: Some(Bytes([3; 32])),
            sentence: Some("no".to_owned()),
        }
    }

    #[test]
    fn an_entry_reads_back_and_every_field_is_part_of_its_hash() {
        let entry = entry();
        assert_eq!(Entry::decode(&entry.encode()), Ok(entry.clone()));
        let others = [
            Entry { seq: 5, ..entry.clone() },
            Entry { code: None, ..entry.clone() },
            Entry { peer: None, ..entry.clone() },
            Entry { prev: Bytes([0; 32]), ..entry.clone() },
            Entry { time: 8, ..entry.clone() },
            Entry { what: What::Released, ..entry.clone() },
            Entry { nonce: None, ..entry.clone() },
            Entry { boot_id: None, ..entry.clone() },
            Entry { records: vec![], ..entry.clone() },
            Entry { volumes: vec![], ..entry.clone() },
            Entry { document: None, ..entry.clone() },
            Entry { sentence: None, ..entry.clone() },
        ];
        for other in others {
            assert_ne!(other.hash(), entry.hash(), "{other:?}");
        }
    }

    #[test]
    fn the_largest_entry_can_be_read() {
        let volumes = vec![("v".repeat(64), vec![u64::MAX, u64::MAX]); 64];
        let records = vec![Bytes([0; 32]); 64];
        let sentence = Some("s".repeat(1024));
        let entry = Entry { seq: u64::MAX, volumes, records, sentence, ..entry() };
        assert_eq!(Entry::decode(&entry.encode()), Ok(entry));
    }

    #[test]
    fn what_is_cut_trailed_or_too_long_is_refused() {
        let whole = entry().encode();
        for length in 0..whole.len() {
            assert!(Entry::decode(&whole[..length]).is_err(), "{length} bytes");
        }
        assert!(Entry::decode(&[whole, vec![0]].concat()).is_err());
        let long = Entry { sentence: Some("s".repeat(MAX_ENTRY)), ..entry() };
        assert!(Entry::decode(&long.encode()).is_err());
    }

    #[test]
    fn a_head_reads_back_and_no_two_of_its_fields_can_be_exchanged() {
        let head = SignedHead { last: Bytes([0; 32]), time: 1, count: 2, signature: Bytes([3; 64]) };
        assert_eq!(SignedHead::decode(&head.encode()), Ok(head));
        let input = SignedHead::signing_input;
        let base = input(&Bytes([0; 32]), 1, 2);
        assert!(base != input(&Bytes([0; 32]), 2, 1) && base != input(&Bytes([1; 32]), 1, 2));
    }
}
