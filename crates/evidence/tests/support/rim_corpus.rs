//! Reads the recorded RIMs and what the corpus' `INDEX.md` says of them, and judges digests and signatures.
#![allow(dead_code, reason = "each test binary uses its own part")]
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests")]
#![allow(clippy::disallowed_methods, reason = "the corpus lies in files")]

use std::path::{Path, PathBuf};

use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED, UnparsedPublicKey};
use confide_evidence::nvidia::Rim;
use confide_evidence::x509::KeyAlgorithm;
use sha2::{Digest as _, Sha384};

/// Number of RIMs in the index, which a test names when it cannot run.
pub(crate) const RIMS: usize = 37;
/// Number of Google's parser cases.
pub(crate) const CASES: usize = 23;

/// Whether the digest is that of the content, and the signature the leaf's over SignedInfo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) digest: bool,
    pub(crate) signature: bool,
}

/// One recorded RIM and what the index computed of it.
#[derive(Debug, Clone)]
pub(crate) struct Recorded {
    /// Path in the corpus.
    pub(crate) source: String,
    pub(crate) document: Vec<u8>,
    pub(crate) verdict: Verdict,
    pub(crate) version: String,
    /// Whether the chain ends in NVIDIA's root for manifests.
    pub(crate) pinned: bool,
    /// Common name of the signer.
    pub(crate) leaf: String,
    /// First and last day of the signer's certificate, as `2024-02-23`.
    pub(crate) window: [String; 2],
    /// Measurements that are compared.
    pub(crate) active: usize,
}

/// The NVIDIA part of the corpus, or a line that says what is not run.
pub(crate) fn folder(what: &str) -> Option<PathBuf> {
    let root = std::env::var_os("CONFIDE_CORPUS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus"), PathBuf::from);
    let folder = root.join("nvidia");
    if folder.join("INDEX.md").is_file() {
        return Some(folder);
    }
    eprintln!("not run: {what} of {RIMS} recorded RIMs: no corpus at {}", root.display());
    None
}

/// Every RIM that the index lists.
pub(crate) fn rims(folder: &Path) -> Vec<Recorded> {
    lines(folder)
        .into_iter()
        .filter(|line| line.kind == "rim")
        .map(|line| {
            let fields: Vec<&str> = line.computed.split("; ").collect();
            let after =
                |start: &str| fields.iter().find_map(|field| field.strip_prefix(start)).unwrap().to_owned();
            let leaf = after("leaf ");
            let (leaf, window) = leaf.rsplit_once(' ').unwrap();
            let (from, until) = window.split_once("..").unwrap();
            Recorded {
                document: std::fs::read(&line.file).unwrap(),
                verdict: Verdict { digest: after("digest ") == "OK", signature: after("signature ") == "OK" },
                version: after("tag version "),
                pinned: after("issued by pinned RIM root ") == "True",
                leaf: leaf.to_owned(),
                window: [from.to_owned(), until.to_owned()],
                active: after("active ").parse().unwrap(),
                source: line.source,
            }
        })
        .collect()
}

/// Google's parser cases: names and documents.
pub(crate) fn cases(folder: &Path) -> Vec<(String, Vec<u8>)> {
    lines(folder)
        .into_iter()
        .filter(|line| line.kind == "xml" && line.source.ends_with(".xml"))
        .map(|line| (line.source.rsplit('/').next().unwrap().to_owned(), std::fs::read(&line.file).unwrap()))
        .collect()
}

/// Compares the digest and verifies the signature with the leaf's key.
pub(crate) fn judge(rim: &Rim) -> Verdict {
    let [leaf, ..] = &rim.certificates;
    let key = UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, &leaf.public_key);
    Verdict {
        digest: Sha384::digest(&rim.content).as_slice() == rim.digest,
        signature: leaf.key_algorithm == KeyAlgorithm::P384
            && key.verify(&rim.signed_info, &rim.signature).is_ok(),
    }
}

struct Line {
    file: PathBuf,
    source: String,
    kind: String,
    computed: String,
}

fn lines(folder: &Path) -> Vec<Line> {
    let index = std::fs::read_to_string(folder.join("INDEX.md")).unwrap();
    let (mut section, mut found) = (PathBuf::new(), Vec::new());
    for line in index.lines() {
        if let Some(name) = line.strip_prefix("## ") {
            section = folder.join(name);
            continue;
        }
        let columns: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, path, _, _, _, kind, _, computed, ..] = columns.as_slice() else { continue };
        let file = section.join(path);
        let source = file.strip_prefix(folder).unwrap().display().to_string();
        found.push(Line { file, source, kind: (*kind).to_owned(), computed: (*computed).to_owned() });
    }
    found
}
