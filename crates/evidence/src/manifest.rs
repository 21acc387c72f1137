//! The model manifest: which files a model is made of, by the SHA-256 of every 4 MiB chunk.
//!
//! This module does no I/O: callers feed the same bytes that they load to [`FileHasher`].

use std::mem;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::bytes::{Bytes, Digest};
use crate::cbor::{self, CborError};
use crate::document::encode_own;
use crate::hash::sha256;

/// Bytes of every chunk but a file's last.
pub const CHUNK: u64 = 4 * 1024 * 1024;
/// The most files of a model. The largest published checkpoints have under 1,000.
pub const MAX_FILES: usize = 4096;
/// The longest path, in bytes. Published checkpoints have file names of under 100 in at most two folders.
pub const MAX_PATH: usize = 512;
/// The largest manifest, in bytes: room for models of 4 TiB.
pub const MAX_MANIFEST: usize = 64 * 1024 * 1024;

/// The files of a model, sorted by path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<ManifestEntry>", into = "Vec<ManifestEntry>")]
pub struct ModelManifest(Vec<ManifestEntry>);

impl ModelManifest {
    /// A manifest of `entries`, given in any order.
    ///
    /// # Errors
    /// No file at all, too many, a path that is not plain and relative, a repeated path, or a size that does not fit
    /// the number of chunks.
    pub fn new(mut entries: Vec<ManifestEntry>) -> Result<Self, ManifestError> {
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        Self::from_sorted(entries)
    }

    /// Reads a manifest.
    ///
    /// # Errors
    /// Anything but the canonical encoding of a valid manifest.
    pub fn decode(bytes: &[u8]) -> Result<Self, CborError> {
        if bytes.len() > MAX_MANIFEST {
            return Err(CborError::TooLarge { limit: MAX_MANIFEST, actual: bytes.len() });
        }
        cbor::from_canonical(bytes)
    }

    /// The canonical encoding.
    pub fn encode(&self) -> Vec<u8> {
        encode_own(self)
    }

    /// SHA-256 of the canonical encoding.
    pub fn digest(&self) -> Digest {
        sha256(&self.encode())
    }

    /// The files, sorted by path.
    pub fn entries(&self) -> &[ManifestEntry] {
        &self.0
    }

    fn from_sorted(entries: Vec<ManifestEntry>) -> Result<Self, ManifestError> {
        if entries.is_empty() || entries.len() > MAX_FILES {
            return Err(ManifestError::Count(entries.len()));
        }
        for entry in &entries {
            entry.check()?;
        }
        for (earlier, later) in entries.iter().zip(entries.iter().skip(1)) {
            if earlier.path >= later.path {
                return Err(ManifestError::Order(later.path.clone()));
            }
        }
        Ok(Self(entries))
    }
}

impl From<ModelManifest> for Vec<ManifestEntry> {
    fn from(manifest: ModelManifest) -> Self {
        manifest.0
    }
}

impl TryFrom<Vec<ManifestEntry>> for ModelManifest {
    type Error = ManifestError;

    fn try_from(entries: Vec<ManifestEntry>) -> Result<Self, Self::Error> {
        Self::from_sorted(entries)
    }
}

/// One file: `[path, size, [SHA-256 of each chunk]]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(String, u64, Vec<Digest>)", into = "(String, u64, Vec<Digest>)")]
pub struct ManifestEntry {
    /// Path below the model's directory, `/` between components.
    pub path: String,
    /// Size in bytes.
    pub size: u64,
    /// SHA-256 of each chunk of [`CHUNK`] bytes, the last one shorter; none for an empty file.
    pub chunks: Vec<Digest>,
}

impl ManifestEntry {
    fn check(&self) -> Result<(), ManifestError> {
        check_path(&self.path)?;
        if u64::try_from(self.chunks.len()) != Ok(self.size.div_ceil(CHUNK)) {
            return Err(ManifestError::ChunkCount {
                path: self.path.clone(),
                size: self.size,
                chunks: self.chunks.len(),
            });
        }
        Ok(())
    }
}

impl From<(String, u64, Vec<Digest>)> for ManifestEntry {
    fn from((path, size, chunks): (String, u64, Vec<Digest>)) -> Self {
        Self { path, size, chunks }
    }
}

impl From<ManifestEntry> for (String, u64, Vec<Digest>) {
    fn from(entry: ManifestEntry) -> Self {
        (entry.path, entry.size, entry.chunks)
    }
}

/// Refuses paths that are not plain: absolute, empty, with `.`, `..`, empty components, backslashes or control
/// characters.
///
/// # Errors
/// [`ManifestError::Path`].
pub fn check_path(path: &str) -> Result<(), ManifestError> {
    let plain = path.len() <= MAX_PATH
        && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
        && !path.chars().any(|character| character == '\\' || character.is_control());
    if plain { Ok(()) } else { Err(ManifestError::Path(path.to_owned())) }
}

/// Computes the entry of one file from its bytes, given in order and in pieces of any size.
#[derive(Clone, Debug)]
pub struct FileHasher {
    path: String,
    size: u64,
    chunks: Vec<Digest>,
    current: Sha256,
}

impl FileHasher {
    /// A hasher for the file at `path`.
    ///
    /// # Errors
    /// When the path is not plain, see [`check_path`].
    pub fn new(path: &str) -> Result<Self, ManifestError> {
        check_path(path)?;
        Ok(Self { path: path.to_owned(), size: 0, chunks: Vec::new(), current: Sha256::new() })
    }

    /// Takes the next bytes of the file.
    pub fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = usize::try_from(CHUNK.saturating_sub(self.size % CHUNK)).unwrap_or(usize::MAX);
            let (head, rest) = bytes.split_at(room.min(bytes.len()));
            self.current.update(head);
            self.size = self.size.saturating_add(u64::try_from(head.len()).unwrap_or(u64::MAX));
            if self.size.is_multiple_of(CHUNK) {
                self.end_chunk();
            }
            bytes = rest;
        }
    }

    /// The file's entry.
    pub fn finish(mut self) -> ManifestEntry {
        if !self.size.is_multiple_of(CHUNK) {
            self.end_chunk();
        }
        ManifestEntry { path: self.path, size: self.size, chunks: self.chunks }
    }

    fn end_chunk(&mut self) {
        let digest = mem::take(&mut self.current).finalize();
        self.chunks.push(Bytes(digest.into()));
    }
}

/// Why files are no model manifest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// No file, or more than [`MAX_FILES`].
    #[error("a model of {0} files (1 to {MAX_FILES} are allowed)")]
    Count(usize),
    /// A path that is not plain and relative.
    #[error("path {0:?} is not plain and relative")]
    Path(String),
    /// A path that repeats, or stands after one that sorts behind it.
    #[error("path {0:?} is repeated or out of order")]
    Order(String),
    /// The number of chunks does not follow from the size.
    #[error("{path:?} has {size} bytes but {chunks} chunks")]
    ChunkCount {
        /// The file.
        path: String,
        /// Its size in bytes.
        size: u64,
        /// Its chunks.
        chunks: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(path: &str) -> ManifestEntry {
        let mut hasher = FileHasher::new(path).unwrap();
        hasher.update(path.as_bytes());
        hasher.finish()
    }

    #[test]
    fn entries_are_sorted_and_round_trip() {
        let manifest = ModelManifest::new(vec![entry("b"), entry("a/c"), entry("a")]).unwrap();
        let paths: Vec<_> = manifest.entries().iter().map(|entry| entry.path.as_str()).collect();
        assert_eq!(paths, ["a", "a/c", "b"]);
        assert_eq!(ModelManifest::decode(&manifest.encode()), Ok(manifest));
    }

    #[test]
    fn unsorted_and_repeated_entries_are_refused_on_decoding() {
        for entries in [vec![entry("b"), entry("a")], vec![entry("a"), entry("a")], vec![]] {
            let bytes = cbor::to_canonical(&entries).unwrap();
            assert!(matches!(ModelManifest::decode(&bytes), Err(CborError::Shape(_))));
        }
        assert_eq!(ModelManifest::new(vec![entry("a"), entry("a")]), Err(ManifestError::Order("a".into())));
        assert_eq!(ModelManifest::new(vec![]), Err(ManifestError::Count(0)));
    }

    #[test]
    fn paths_that_are_not_plain_are_refused() {
        let long = "a".repeat(MAX_PATH + 1);
        for path in
            ["", "/etc", "a/", "a//b", ".", "..", "a/../b", "./a", "a\\b", "a\0", "a\nb", long.as_str()]
        {
            assert_eq!(check_path(path), Err(ManifestError::Path(path.into())));
        }
        for path in ["config.json", "weights/model-00001.safetensors", "...", "ü"] {
            assert_eq!(check_path(path), Ok(()));
        }
    }

    #[test]
    fn a_size_that_does_not_fit_its_chunks_is_refused() {
        let wrong = ManifestEntry { path: "a".into(), size: CHUNK + 1, chunks: vec![Bytes([0; 32])] };
        assert!(matches!(ModelManifest::new(vec![wrong]), Err(ManifestError::ChunkCount { chunks: 1, .. })));
    }

    #[test]
    fn chunks_end_at_four_mebibytes() {
        let bytes = vec![7u8; CHUNK as usize * 2];
        for (size, chunks) in [(0, 0), (1, 1), (CHUNK - 1, 1), (CHUNK, 1), (CHUNK + 1, 2), (CHUNK * 2, 2)] {
            let mut hasher = FileHasher::new("w").unwrap();
            hasher.update(&bytes[..size as usize]);
            let entry = hasher.finish();
            assert_eq!((entry.size, entry.chunks.len()), (size, chunks));
            assert!(entry.check().is_ok());
        }
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(pieces: Vec<Vec<u8>>) {
            let mut hasher = FileHasher::new("w").unwrap();
            pieces.iter().for_each(|piece| hasher.update(piece));
            let mut whole = FileHasher::new("w").unwrap();
            whole.update(&pieces.concat());
            prop_assert_eq!(hasher.finish(), whole.finish());
        }
    }
}
