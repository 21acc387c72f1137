//! Whoever adds a reader of bytes adds a target that runs it.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs,
    reason = "tests"
)]

use std::path::Path;

/// The crates whose readers take what others wrote.
const CRATES: [&str; 12] = [
    "attester",
    "channel",
    "channel-guest",
    "client",
    "confide",
    "egress",
    "endorser",
    "evidence",
    "policy",
    "record",
    "release",
    "volume",
];

/// Readers that no target names, and why.
const WITHOUT: [(&str, &str); 2] = [
    ("from_canonical", "`from_canonical_within` without its limit, for what was read already"),
    ("Trust::pinned", "`pem::certificates`, of a file of one's own configuration"),
];

/// The Rust files below a folder, but for tests in files of their own.
fn files(folder: &Path, found: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            files(&path, found);
        } else if name.ends_with(".rs") && !name.ends_with("tests.rs") {
            found.push((name, std::fs::read_to_string(&path).unwrap()));
        }
    }
}

/// The public functions of a file that read bytes, as a caller names them: those that take bytes, or parse a text, and may find
/// that it is none; in a file `readers.rs` all.
fn readers(file: &str, text: &str) -> Vec<String> {
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    let mut found = Vec::new();
    for (at, _) in code.match_indices("pub fn ") {
        let signature = code[at + "pub fn ".len()..].split(['{', ';']).next().unwrap();
        let (takes, gives) = signature.split_once("->").unwrap_or((signature, ""));
        let name = takes.split(['(', '<']).next().unwrap();
        let bytes = takes.contains("&[u8]") || takes.contains("&'a [u8]");
        let reads = bytes || (name.starts_with("parse") && takes.contains("&str"));
        let refuses = gives.contains("Result<") || gives.contains("Option<");
        if file != "readers.rs" && (takes.contains("self") || !reads || !refuses) {
            continue;
        }
        let indented = code[..at].ends_with(' ');
        found.push(if indented { format!("{}::{name}", implemented(&code[..at])) } else { name.to_owned() });
    }
    found
}

/// The type of the last `impl` that begins in a text.
fn implemented(text: &str) -> &str {
    let line = text.rsplit_once("\nimpl").unwrap().1.lines().next().unwrap();
    let line = if line.starts_with('<') { line.split_once("> ").unwrap().1 } else { line.trim_start() };
    let line = line.split_once(" for ").map_or(line, |(_, of)| of);
    line.split(['<', ' ']).next().unwrap()
}

#[test]
fn every_public_reader_of_bytes_is_run_by_a_target() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let (mut sources, mut targets) = (Vec::new(), Vec::new());
    for name in CRATES {
        files(&crates.join(name).join("src"), &mut sources);
    }
    files(&crates.join("fuzz/src"), &mut targets);
    let targets: String = targets.into_iter().map(|(_, text)| text).collect();
    let found: Vec<String> = sources.iter().flat_map(|(file, text)| readers(file, text)).collect();
    assert!(found.len() > 60, "{found:?}");
    for known in ["Quote::parse", "EvidenceDocument::decode", "certificates", "HostName::parse", "dns_answer"]
    {
        assert!(found.iter().any(|name| name == known), "{known} is not found: {found:?}");
    }
    let runs = |name: &str| targets.contains(&format!("{name}(")) || targets.contains(&format!("{name})"));
    let without: Vec<&String> = found.iter().filter(|name| !runs(name)).collect();
    let excused: Vec<&str> = WITHOUT.iter().map(|(name, _)| *name).collect();
    let missing: Vec<_> = without.iter().filter(|name| !excused.contains(&name.as_str())).collect();
    assert!(missing.is_empty(), "no target runs {missing:?}");
    for name in excused {
        assert!(without.iter().any(|found| *found == name), "{name} needs no excuse");
    }
}
