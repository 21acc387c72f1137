//! `cargo xtask fixtures`: the protocol vectors, the cases of the conformance suite, made anew from their recipes, and records of
//! some of them.

use std::process::Command;

use anyhow::Result;

use crate::{cargo, process};

/// The folders of `fixtures` that hold recipes.
const SUITES: [&str; 3] = ["tdx", "snp", "nvidia"];

/// What prints protocol vectors, and the file that holds them.
const VECTORS: [(&str, &str); 3] = [
    ("vectors", "docs/protocol/vectors.json"),
    ("release_vectors", "docs/protocol/release-vectors.json"),
    ("egress_vectors", "docs/protocol/egress-vectors.json"),
];

/// Writes what differs from what the recipes make, and removes what they do not make; then the records.
///
/// # Errors
/// When a recipe cannot be made; the message names it.
pub(crate) fn run() -> Result<()> {
    let mut build = cargo::command();
    build.args(["build", "--locked", "--workspace", "--bins"]);
    build.args(VECTORS.iter().flat_map(|(example, _)| ["--example", example]));
    process::run(build.args(["--features", &cargo::danger_features()?]))?;
    for (example, file) in VECTORS {
        let example = cargo::root().join("target/debug/examples").join(example);
        std::fs::write(cargo::root().join(file), process::output(&mut Command::new(example))?)?;
    }
    for suite in SUITES {
        let mut command = Command::new(cargo::root().join("target/debug/confide-fixtures"));
        process::run(command.arg(cargo::root().join("fixtures").join(suite)))?;
    }
    let mut records = cargo::command();
    records.args(["test", "--quiet", "--locked", "--workspace", "--features", &cargo::danger_features()?]);
    records.args(["--test", "record_fixtures", "every_committed_record_file"]);
    process::run(records.env("CONFIDE_WRITE_FIXTURES", "1"))
}
