//! The stages of `cargo xtask test`, in the order in which they run.

use std::process::Command;

use anyhow::{Result, bail};

use super::tally::Tally;
use super::{Length, Stage};
use crate::{cargo, deny, layers, process, python};

pub(super) const STAGES: &[Stage] = &[
    Stage { name: "fmt", about: "rustfmt leaves nothing to change", run: fmt },
    Stage { name: "layers", about: "no upward arrow between crates", run: layers },
    Stage { name: "clippy", about: "no lint, in any target", run: clippy },
    Stage { name: "test", about: "unit and integration tests", run: tests },
    Stage { name: "doctests", about: "examples, and forgeries that must not compile", run: doctests },
    Stage { name: "vectors", about: "protocol vectors, recomputed in Python", run: vectors },
    Stage { name: "deny", about: "banned crates, licences, sources", run: deny },
];

fn fmt(_: Length) -> Result<Tally> {
    process::run(cargo::command().args(["fmt", "--all", "--check"]))?;
    Ok(Tally::ONE)
}

fn layers(_: Length) -> Result<Tally> {
    layers::run()?;
    Ok(Tally::ONE)
}

fn clippy(_: Length) -> Result<Tally> {
    let mut command = with_simulator("clippy")?;
    process::run(command.args(["--all-targets", "--", "-D", "warnings"]))?;
    Ok(Tally::ONE)
}

fn tests(length: Length) -> Result<Tally> {
    let mut command = with_simulator("test")?;
    command.args(["--lib", "--bins", "--tests", "--examples", "--no-fail-fast"]);
    if length == Length::Long {
        command.env("CONFIDE_LONG", "1");
    }
    counted(&mut command)
}

fn doctests(_: Length) -> Result<Tally> {
    counted(with_simulator("test")?.args(["--doc", "--no-fail-fast"]))
}

fn vectors(_: Length) -> Result<Tally> {
    process::run(python::command().arg("docs/protocol/check_vectors.py"))?;
    Ok(Tally::ONE)
}

fn deny(_: Length) -> Result<Tally> {
    deny::run()?;
    Ok(Tally::ONE)
}

/// A Cargo command over the workspace, built with the simulator as tests and the demo need it.
fn with_simulator(subcommand: &str) -> Result<Command> {
    let mut command = cargo::command();
    command.args([subcommand, "--locked", "--workspace", "--features", &cargo::danger_features()?]);
    Ok(command)
}

/// Runs test programs and adds up what they report.
fn counted(command: &mut Command) -> Result<Tally> {
    let mut tallies = Vec::new();
    let status = process::run_reading(command, |line| tallies.extend(Tally::of_line(line)))?;
    let sum: Tally = tallies.into_iter().sum();
    if !status.success() && sum.failed == 0 {
        bail!("{} ended with {status}", process::shown(command));
    }
    Ok(sum)
}
