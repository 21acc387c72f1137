//! `cargo xtask train-tiny`: the model of `fixtures/models/tiny`, from its committed text and seed.

use anyhow::Result;

use crate::{cargo, process};

/// How much freed memory glibc's allocator keeps, in bytes: all of it.
const KEPT: &str = "4294967296";

/// Trains the model in place; its README says what to expect.
///
/// # Errors
/// When the training program fails.
pub(crate) fn run() -> Result<()> {
    let mut command = cargo::command();
    // Each step's tensors take the place of the last one's: a sixth of the time went into giving the pages back.
    command.env("MALLOC_MMAP_THRESHOLD_", KEPT).env("MALLOC_TRIM_THRESHOLD_", KEPT);
    process::run(command.args(["run", "--locked", "--package", "confide-engine", "--example", "train_tiny"]))
}
