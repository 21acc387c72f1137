//! `docs/errors.md`, `docs/limits.md` and `docs/ear.md` are what the code says: `cargo xtask docs` writes them.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod codes;
mod ear;
mod limits;
mod source;

use std::path::{Path, PathBuf};

/// Set by `cargo xtask docs`: the files are written instead of compared.
const WRITE: &str = "CONFIDE_WRITE_DOCS";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Holds the committed file against the text, or writes it.
fn hold(name: &str, text: &str) {
    let path = root().join("docs").join(name);
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(&path, text).unwrap();
        return;
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == text, "docs/{name} differs from what the code says; run: cargo xtask docs");
}

/// The cells of a table are one line each.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}
