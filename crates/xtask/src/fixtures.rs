//! `cargo xtask fixtures`: the cases of the conformance suite, made anew from their recipes, and records of some of them.

use std::process::Command;

use anyhow::Result;

use crate::{cargo, process};

/// The folders of `fixtures` that hold recipes.
const SUITES: [&str; 3] = ["tdx", "snp", "nvidia"];

/// Writes what differs from what the recipes make, and removes what they do not make; then the records.
///
/// # Errors
/// When a recipe cannot be made; the message names it.
pub(crate) fn run() -> Result<()> {
    let mut build = cargo::command();
    build.args(["build", "--locked", "--workspace", "--bins", "--example", "vectors"]);
    process::run(build.args(["--features", &cargo::danger_features()?]))?;
    for suite in SUITES {
        let mut command = Command::new(cargo::root().join("target/debug/confide-fixtures"));
        process::run(command.arg(cargo::root().join("fixtures").join(suite)))?;
    }
    let mut records = cargo::command();
    records.args(["test", "--quiet", "--locked", "--workspace", "--features", &cargo::danger_features()?]);
    records.args(["--test", "record_fixtures", "every_committed_record_file"]);
    process::run(records.env("CONFIDE_WRITE_FIXTURES", "1"))
}
