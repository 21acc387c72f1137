//! The committed vectors of the messages, the signature's input and the audit log.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

#[allow(unreachable_pub, reason = "shared with the example that prints the vectors")]
mod samples;

#[test]
fn the_committed_vectors_are_what_this_code_computes() {
    let committed = include_str!("../../../docs/protocol/release-vectors.json");
    assert!(committed == samples::file(), "docs/protocol/release-vectors.json differs: cargo xtask fixtures");
}
