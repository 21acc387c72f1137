//! `cargo xtask train-tiny`: the model of `fixtures/models/tiny`, from its committed text and seed.

use anyhow::Result;

use crate::{cargo, process};

/// Trains the model in place; its README says what to expect.
///
/// # Errors
/// When the training program fails.
pub(crate) fn run() -> Result<()> {
    let mut command = cargo::command();
    process::run(command.args(["run", "--locked", "--package", "confide-engine", "--example", "train_tiny"]))
}
