//! The transcript that a CPU quote signs, GPU nonces and the batch tree.
//!
//! All hashes are over length-prefixed fields ([`crate::hash::length_prefixed`]). Nothing here is taken from a peer's
//! word: whoever relies on a quote recomputes these values from what it itself uses.

use serde::{Deserialize, Serialize};

use crate::bytes::{Bytes, Digest};
use crate::hash::{sha256_of, sha512_of};

/// First field of the transcript.
pub const REPORT_DATA_DOMAIN: &[u8] = b"confide/report-data/v1";
/// First field of every GPU nonce.
pub const GPU_NONCE_DOMAIN: &[u8] = b"confide/gpu-nonce/v1";
/// First field of a leaf of the batch tree.
pub const BATCH_LEAF_DOMAIN: &[u8] = b"confide/batch/v1/leaf";
/// First field of an inner node of the batch tree.
pub const BATCH_NODE_DOMAIN: &[u8] = b"confide/batch/v1/node";

/// Label of the TLS exporter (RFC 8446 section 7.5) of an attested connection; the context is the nonce, the length
/// 32 bytes.
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-confide-attest-v1";

/// The most leaves of a batch tree. docs/protocol: more clients than wait while one quote is made.
pub const MAX_BATCH: u64 = 4096;
/// The longest path of a batch tree: log2 of [`MAX_BATCH`].
pub const MAX_BATCH_PATH: usize = 12;

/// What a quote is for. A quote made for one role is useless for another.
///
/// `relayed` is reserved and refused: it is no value of this type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// One connection to a serving guest.
    Serve,
    /// Several connections to a serving guest that share a quote.
    Batch,
    /// A booting guest that asks for volume keys.
    KeyRelease,
}

impl Role {
    /// The role's name, as field 2 of the transcript has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Serve => "serve",
            Self::Batch => "batch",
            Self::KeyRelease => "key-release",
        }
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Fields 2 to 5 of the transcript: role, nonce, channel, TLS key. Each role has exactly the fields that it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// Role `serve`.
    Serve {
        /// Chosen by the client.
        nonce: Bytes<32>,
        /// The TLS exporter of this very connection, under [`EXPORTER_LABEL`].
        exporter: Bytes<32>,
        /// SHA-256 of the DER SubjectPublicKeyInfo of the guest's TLS key.
        tls_spki: Digest,
    },
    /// Role `batch`.
    Batch {
        /// Root of the batch tree.
        root: Bytes<64>,
        /// SHA-256 of the DER SubjectPublicKeyInfo of the guest's TLS key.
        tls_spki: Digest,
    },
    /// Role `key-release`.
    KeyRelease {
        /// Chosen by the broker.
        nonce: Bytes<32>,
    },
}

impl Binding {
    /// Field 2.
    pub fn role(&self) -> Role {
        match self {
            Self::Serve { .. } => Role::Serve,
            Self::Batch { .. } => Role::Batch,
            Self::KeyRelease { .. } => Role::KeyRelease,
        }
    }

    /// Field 3: 32 bytes, for `batch` 64.
    pub fn nonce(&self) -> &[u8] {
        match self {
            Self::Serve { nonce, .. } | Self::KeyRelease { nonce } => &nonce.0,
            Self::Batch { root, .. } => &root.0,
        }
    }

    /// Field 4: 32 bytes for `serve`, else empty.
    pub fn channel(&self) -> &[u8] {
        match self {
            Self::Serve { exporter, .. } => &exporter.0,
            Self::Batch { .. } | Self::KeyRelease { .. } => &[],
        }
    }

    /// Field 5: 32 bytes, for `key-release` empty.
    pub fn tls_spki(&self) -> &[u8] {
        match self {
            Self::Serve { tls_spki, .. } | Self::Batch { tls_spki, .. } => &tls_spki.0,
            Self::KeyRelease { .. } => &[],
        }
    }

    /// The nonce that the device at `position` of the one device list signs.
    pub fn gpu_nonce(&self, position: u32) -> [u8; 32] {
        let role = self.role().name().as_bytes();
        let position = position.to_be_bytes();
        sha256_of(&[GPU_NONCE_DOMAIN, role, self.nonce(), self.channel(), &position]).0
    }
}

/// Everything that the report data of a CPU quote binds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transcript {
    /// Fields 2 to 5.
    pub binding: Binding,
    /// Field 6: [`crate::document::KeySet::digest`].
    pub keyset: Digest,
    /// Field 7: [`crate::document::devices_digest`].
    pub devices: Digest,
    /// Field 8: [`crate::document::Claims::digest`].
    pub claims: Digest,
    /// Field 9: random bytes drawn once at boot.
    pub boot_id: Bytes<16>,
}

impl Transcript {
    /// The 64 bytes of report data: SHA-512 of the nine length-prefixed fields.
    pub fn report_data(&self) -> [u8; 64] {
        sha512_of(&[
            REPORT_DATA_DOMAIN,
            self.binding.role().name().as_bytes(),
            self.binding.nonce(),
            self.binding.channel(),
            self.binding.tls_spki(),
            &self.keyset.0,
            &self.devices.0,
            &self.claims.0,
            &self.boot_id.0,
        ])
    }
}

/// Leaf of the batch tree for one connection.
pub fn batch_leaf(nonce: &Bytes<32>, exporter: &Bytes<32>) -> Bytes<64> {
    Bytes(sha512_of(&[BATCH_LEAF_DOMAIN, &nonce.0, &exporter.0]))
}

fn batch_node(left: &Bytes<64>, right: &Bytes<64>) -> Bytes<64> {
    Bytes(sha512_of(&[BATCH_NODE_DOMAIN, &left.0, &right.0]))
}

/// A batch tree, shaped as RFC 9162 section 2.1 has it.
#[derive(Clone, Debug)]
pub struct BatchTree {
    /// The leaves, then what pairs of them hash to, up to below the root. A last node without a partner stands in the next
    /// level as it is, which gives the shape of the RFC: the left part holds the largest power of two below the count.
    levels: Vec<Vec<Bytes<64>>>,
    root: Bytes<64>,
    size: u64,
}

impl BatchTree {
    /// The tree over `leaves`: one hash for each but one.
    ///
    /// # Errors
    /// When there is no leaf, or more than [`MAX_BATCH`].
    pub fn new(leaves: Vec<Bytes<64>>) -> Result<Self, BatchError> {
        let refused = BatchError::Size(leaves.len());
        let Ok(size @ 1..=MAX_BATCH) = u64::try_from(leaves.len()) else { return Err(refused) };
        let mut levels = Vec::new();
        let mut level = leaves;
        loop {
            match level.as_slice() {
                [] => return Err(refused),
                [root] => return Ok(Self { root: *root, levels, size }),
                _ => {}
            }
            let next = level.chunks(2).flat_map(|nodes| match nodes {
                [left, right] => Some(batch_node(left, right)),
                alone => alone.first().copied(),
            });
            let next = next.collect();
            levels.push(std::mem::replace(&mut level, next));
        }
    }

    /// The root, which role `batch` signs as field 3.
    pub fn root(&self) -> Bytes<64> {
        self.root
    }

    /// The path of the leaf at `index`; `None` when there is no such leaf. No hash is computed.
    pub fn path(&self, index: usize) -> Option<BatchPath> {
        let place = u64::try_from(index).ok().filter(|place| *place < self.size)?;
        let mut at = index;
        let sibling = |level: &Vec<Bytes<64>>| {
            let sibling = level.get(at ^ 1).copied();
            at /= 2;
            sibling
        };
        let path = self.levels.iter().filter_map(sibling).collect();
        Some(BatchPath { path, size: self.size, index: place })
    }
}

/// Where one connection stands in the batch tree that a quote signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchPath {
    /// Sibling hashes, from the leaf upwards; at most [`MAX_BATCH_PATH`].
    pub path: Vec<Bytes<64>>,
    /// Leaves of the tree; at most [`MAX_BATCH`].
    pub size: u64,
    /// Position of the leaf, from 0.
    pub index: u64,
}

impl BatchPath {
    /// The root that follows from `leaf` and this path, RFC 9162 section 2.1.3.2.
    ///
    /// # Errors
    /// When size, index and length of the path do not fit each other.
    pub fn root(&self, leaf: &Bytes<64>) -> Result<Bytes<64>, BatchError> {
        if self.size > MAX_BATCH || self.index >= self.size {
            return Err(BatchError::Index { index: self.index, size: self.size });
        }
        let (mut node, mut last) = (self.index, self.size.saturating_sub(1));
        let mut root = *leaf;
        for sibling in &self.path {
            if last == 0 {
                return Err(BatchError::PathLength(self.path.len()));
            }
            if node & 1 == 1 || node == last {
                root = batch_node(sibling, &root);
                while node & 1 == 0 && node != 0 {
                    node >>= 1;
                    last >>= 1;
                }
            } else {
                root = batch_node(&root, sibling);
            }
            node >>= 1;
            last >>= 1;
        }
        if last == 0 { Ok(root) } else { Err(BatchError::PathLength(self.path.len())) }
    }
}

/// Why a batch tree or path is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// A tree of no leaf, or of more than [`MAX_BATCH`].
    #[error("a batch of {0} connections (1 to {MAX_BATCH} are allowed)")]
    Size(usize),
    /// The index is not in the tree, or the tree is too large.
    #[error("batch index {index} of {size} (at most {MAX_BATCH})")]
    Index {
        /// The index.
        index: u64,
        /// The tree's size.
        size: u64,
    },
    /// The path is longer or shorter than its index and size ask for.
    #[error("batch path of {0} hashes does not fit its index and size")]
    PathLength(usize),
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn leaves(count: usize) -> Vec<Bytes<64>> {
        (0..count).map(|i| batch_leaf(&Bytes([i as u8; 32]), &Bytes([(i >> 8) as u8; 32]))).collect()
    }

    fn serve() -> Binding {
        Binding::Serve { nonce: Bytes([1; 32]), exporter: Bytes([2; 32]), tls_spki: Bytes([3; 32]) }
    }

    fn transcript(binding: Binding) -> Transcript {
        Transcript {
            binding,
            keyset: Bytes([4; 32]),
            devices: Bytes([5; 32]),
            claims: Bytes([6; 32]),
            boot_id: Bytes([7; 16]),
        }
    }

    #[test]
    fn every_field_changes_the_report_data() {
        let base = transcript(serve());
        let (nonce, exporter, tls_spki) = (Bytes([1; 32]), Bytes([2; 32]), Bytes([3; 32]));
        let other = Bytes([9; 32]);
        let variants = [
            Transcript { binding: Binding::Serve { nonce: other, exporter, tls_spki }, ..base },
            Transcript { binding: Binding::Serve { nonce, exporter: other, tls_spki }, ..base },
            Transcript { binding: Binding::Serve { nonce, exporter, tls_spki: other }, ..base },
            Transcript { binding: Binding::KeyRelease { nonce }, ..base },
            Transcript { binding: Binding::Batch { root: Bytes([1; 64]), tls_spki }, ..base },
            Transcript { keyset: other, ..base },
            Transcript { devices: other, ..base },
            Transcript { claims: other, ..base },
            Transcript { boot_id: Bytes([9; 16]), ..base },
        ];
        for variant in variants {
            assert_ne!(variant.report_data(), base.report_data(), "{variant:?}");
        }
    }

    #[test]
    fn gpu_nonces_differ_by_position_and_role() {
        let key_release = Binding::KeyRelease { nonce: Bytes([1; 32]) };
        assert_ne!(serve().gpu_nonce(0), serve().gpu_nonce(1));
        assert_ne!(serve().gpu_nonce(0), key_release.gpu_nonce(0));
    }

    /// RFC 9162 section 2.1.1, word for word: the left part holds the largest power of two below the count.
    fn root_by_definition(leaves: &[Bytes<64>]) -> Bytes<64> {
        match leaves {
            [leaf] => *leaf,
            _ => {
                let (left, right) = leaves.split_at(leaves.len().div_ceil(2).next_power_of_two());
                batch_node(&root_by_definition(left), &root_by_definition(right))
            }
        }
    }

    #[test]
    fn roots_are_those_of_the_definition() {
        for count in (1..=66).chain([1023, 1024, 1025, 4095, 4096]) {
            let tree = BatchTree::new(leaves(count)).unwrap();
            assert_eq!(tree.root(), root_by_definition(&leaves(count)), "{count}");
        }
    }

    #[test]
    fn every_leaf_of_small_trees_leads_to_the_root() {
        for count in 1..=66 {
            let tree = BatchTree::new(leaves(count)).unwrap();
            for (index, leaf) in leaves(count).iter().enumerate() {
                let path = tree.path(index).unwrap();
                assert!(path.path.len() <= MAX_BATCH_PATH);
                assert_eq!(path.root(leaf), Ok(tree.root()), "{index} of {count}");
            }
            assert!(tree.path(count).is_none());
        }
    }

    #[test]
    fn the_largest_tree_has_the_longest_path() {
        let tree = BatchTree::new(leaves(4096)).unwrap();
        assert_eq!(tree.path(4095).unwrap().path.len(), MAX_BATCH_PATH);
        assert_eq!(BatchTree::new(leaves(4097)).unwrap_err(), BatchError::Size(4097));
        assert_eq!(BatchTree::new(vec![]).unwrap_err(), BatchError::Size(0));
    }

    #[test]
    fn paths_that_do_not_fit_are_refused() {
        let leaf = leaves(1)[0];
        let path = |path: Vec<Bytes<64>>, size, index| BatchPath { path, size, index }.root(&leaf);
        assert_eq!(path(vec![], 0, 0), Err(BatchError::Index { index: 0, size: 0 }));
        assert_eq!(path(vec![], 1, 1), Err(BatchError::Index { index: 1, size: 1 }));
        assert_eq!(path(vec![], 4097, 1), Err(BatchError::Index { index: 1, size: 4097 }));
        assert_eq!(path(vec![leaf], 1, 0), Err(BatchError::PathLength(1)));
        assert_eq!(path(vec![leaf], 4, 0), Err(BatchError::PathLength(1)));
        assert_eq!(path(vec![leaf; 13], 4096, 0), Err(BatchError::PathLength(13)));
    }

    proptest! {
        #[test]
        fn a_path_of_another_place_or_leaf_misses_the_root(count in 2usize..300, seed: u64, flip in 0usize..512) {
            let index = (seed % count as u64) as usize;
            let tree = BatchTree::new(leaves(count)).unwrap();
            let path = tree.path(index).unwrap();
            let mut leaf = leaves(count)[index];
            leaf.0[flip / 8] ^= 1 << (flip % 8);
            prop_assert_ne!(path.root(&leaf), Ok(tree.root()));
            let elsewhere = BatchPath { index: (path.index + 1) % path.size, ..path };
            prop_assert_ne!(elsewhere.root(&leaves(count)[index]), Ok(tree.root()));
        }
    }

    #[test]
    fn the_relayed_role_is_refused() {
        let relayed = crate::cbor::to_canonical("relayed").unwrap();
        assert!(crate::cbor::from_canonical::<Role>(&relayed).is_err());
        let serve = crate::cbor::to_canonical("serve").unwrap();
        assert_eq!(crate::cbor::from_canonical::<Role>(&serve), Ok(Role::Serve));
    }
}
