//! The committed vectors of the digests of policies and of rules.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

#[allow(unreachable_pub, reason = "shared with the example that prints the vectors")]
mod samples;

#[test]
fn the_committed_vectors_are_what_this_code_computes() {
    let committed = include_str!("../../../docs/protocol/egress-vectors.json");
    assert!(committed == samples::file(), "docs/protocol/egress-vectors.json differs: cargo xtask fixtures");
}
