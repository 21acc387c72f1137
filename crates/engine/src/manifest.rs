//! The model manifest: which bytes the engine runs.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Bytes of a model file that one hash of the manifest covers: 4 MiB. The last chunk of a file is shorter;
/// an empty file has no chunks.
pub const CHUNK_SIZE: usize = 4 * 1024 * 1024;

/// SHA-256 of one chunk of a model file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChunkHash(#[serde(with = "serde_bytes")] pub [u8; 32]);

impl ChunkHash {
    /// Hashes one chunk.
    pub fn of(chunk: &[u8]) -> Self {
        Self(Sha256::digest(chunk).into())
    }
}

/// One file of a model: `[path, size in bytes, [SHA-256 of each 4 MiB chunk]]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestEntry(String, u64, Vec<ChunkHash>);

impl ManifestEntry {
    /// Measures the whole content of the file `path`.
    pub fn measure(path: impl Into<String>, content: &[u8]) -> Self {
        let size = u64::try_from(content.len()).expect("a length in memory fits 64 bits");
        Self(path.into(), size, content.chunks(CHUNK_SIZE).map(ChunkHash::of).collect())
    }

    /// Path inside the model folder, with `/` between its parts.
    pub fn path(&self) -> &str {
        &self.0
    }

    /// Size in bytes.
    pub fn size(&self) -> u64 {
        self.1
    }

    /// Hashes of the chunks, in file order.
    pub fn chunks(&self) -> &[ChunkHash] {
        &self.2
    }
}

/// Every file of a model, sorted by path.
///
/// The digest of this list is what the guest claims and extends into RTMR3. Whoever relies on it compares
/// it with a reference value; the engine only reports which bytes it read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<ManifestEntry>")]
pub struct Manifest(Vec<ManifestEntry>);

impl From<Vec<ManifestEntry>> for Manifest {
    fn from(mut entries: Vec<ManifestEntry>) -> Self {
        entries.sort_by(|a, b| a.path().cmp(b.path()));
        Self(entries)
    }
}

impl Manifest {
    /// The entries, sorted by path.
    pub fn entries(&self) -> &[ManifestEntry] {
        &self.0
    }

    /// The entry of `path`.
    pub fn entry(&self, path: &str) -> Option<&ManifestEntry> {
        self.0.iter().find(|entry| entry.path() == path)
    }

    /// Canonical CBOR (RFC 8949 section 4.2.1): `[* [path: tstr, size: uint, [* bstr .size 32]]]`.
    pub fn canonical(&self) -> Vec<u8> {
        cbor4ii::serde::to_vec(Vec::new(), self).expect("strings, integers and byte strings always encode")
    }

    /// SHA-256 of the canonical encoding.
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.canonical()).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_bytes_are_the_documented_ones() {
        let manifest =
            Manifest::from(vec![ManifestEntry::measure("b", b"confide"), ManifestEntry::measure("a", b"")]);
        let mut expected = vec![0x82, 0x83, 0x61, b'a', 0x00, 0x80, 0x83, 0x61, b'b', 0x07, 0x81, 0x58, 0x20];
        expected.extend_from_slice(&Sha256::digest(b"confide"));
        assert_eq!(manifest.canonical(), expected);
        assert_eq!(manifest.digest(), <[u8; 32]>::from(Sha256::digest(&expected)));
    }

    #[test]
    fn chunks_end_at_four_mebibytes() {
        let content = vec![7u8; CHUNK_SIZE + 1];
        let entry = ManifestEntry::measure("model.safetensors", &content);
        assert_eq!(entry.chunks(), [ChunkHash::of(&content[..CHUNK_SIZE]), ChunkHash::of(&[7])]);
        assert_eq!(entry.size(), 4 * 1024 * 1024 + 1);
    }

    #[test]
    fn decoding_gives_the_same_manifest() {
        let manifest =
            Manifest::from(vec![ManifestEntry::measure("a", b"x"), ManifestEntry::measure("b", b"y")]);
        let decoded: Manifest = cbor4ii::serde::from_slice(&manifest.canonical()).unwrap();
        assert_eq!(decoded, manifest);
    }
}
