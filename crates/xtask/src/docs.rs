//! `cargo xtask docs`: the documents that are written from the code.

use anyhow::Result;

use crate::{cargo, process};

/// Writes `docs/errors.md`, `docs/limits.md` and `docs/ear.md`. The tests that do it hold the files against the code at
/// any other time.
///
/// # Errors
/// When the tests cannot be built or find a code or limit without a text.
pub(crate) fn run() -> Result<()> {
    let mut command = cargo::command();
    command.args(["test", "--quiet", "--locked", "--workspace", "--features", &cargo::danger_features()?]);
    // One thread: one test reads what another one writes.
    command.args(["--test", "generated_docs", "--", "--test-threads", "1"]);
    command.env("CONFIDE_WRITE_DOCS", "1");
    process::run(&mut command)
}
