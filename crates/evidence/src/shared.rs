//! One document for the connections that share a quote: all but the path in the batch is encoded once.

use crate::bytes::Bytes;
use crate::document::{DocumentError, EvidenceDocument, encode_own};
use crate::transcript::{BatchPath, MAX_BATCH, MAX_BATCH_PATH};

/// An evidence document of role `batch` without its path.
///
/// docs/protocol: a batch has up to [`MAX_BATCH`] connections, and the document of each differs from the others in the one
/// field `batch`.
#[derive(Clone, Debug)]
pub struct SharedDocument {
    before: Vec<u8>,
    after: Vec<u8>,
}

impl SharedDocument {
    /// Encodes everything but the path; what `document` has in its place counts for nothing.
    ///
    /// # Errors
    /// Those of [`EvidenceDocument::encode`] with the longest path.
    pub fn new(document: EvidenceDocument) -> Result<Self, DocumentError> {
        let path = vec![Bytes([0; 64]); MAX_BATCH_PATH];
        let longest = BatchPath { path, size: MAX_BATCH, index: MAX_BATCH.saturating_sub(1) };
        let document = EvidenceDocument { batch: Some(longest.clone()), ..document };
        let whole = document.encode()?;
        // The head of a map of fewer than 24 fields is a byte; its first field is `cpu`, its second `batch`.
        let first = [vec![0], encode_own("cpu"), encode_own(&document.cpu), encode_own("batch")].concat();
        let (before, rest) =
            whole.split_at_checked(first.len()).expect("a document begins with its CPU evidence");
        let path = encode_own(&longest);
        let after = rest.strip_prefix(path.as_slice()).expect("the path in the batch comes second");
        Ok(Self { before: before.to_vec(), after: after.to_vec() })
    }

    /// The canonical encoding of the document with this path.
    pub fn encode(&self, path: &BatchPath) -> Vec<u8> {
        [self.before.as_slice(), &encode_own(path), &self.after].concat()
    }
}
