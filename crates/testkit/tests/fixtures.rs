//! The committed cases of the conformance suite are what their recipes make.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use confide_testkit::fixtures::{make_all, read_all};
use std::path::Path;

#[test]
fn every_committed_case_is_what_its_recipe_makes() {
    for (suite, least) in [("tdx", 500), ("snp", 300), ("nvidia", 300)] {
        let suite = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(suite);
        let (made, there) = (make_all(&suite).unwrap(), read_all(&suite).unwrap());
        let differing: Vec<_> =
            made.keys().chain(there.keys()).filter(|path| made.get(*path) != there.get(*path)).collect();
        assert!(differing.is_empty(), "`cargo xtask fixtures` makes other files: {differing:?}");
        assert!(made.len() > least, "{}", made.len());
        let bytes: usize = made.values().map(Vec::len).sum();
        assert!(bytes < 5 << 20, "the folder stays small: {bytes} bytes");
    }
}
