//! Child processes: run to the end, with what they print shown and read.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context, Result, bail};

use crate::cargo;

/// Runs a command with its output on this terminal.
///
/// # Errors
/// When it cannot be started or ends with another status than 0.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("starting {}", shown(command)))?;
    require(command, status)
}

/// Runs a command, shows each line of its standard output and hands it to `read`.
///
/// # Errors
/// When it cannot be started or its output cannot be read; the exit status is the caller's to judge.
pub(crate) fn run_reading(command: &mut Command, mut read: impl FnMut(&str)) -> Result<ExitStatus> {
    read_lines(command, |line| {
        println!("{line}");
        read(line);
    })
}

/// Runs a command and hands each line of its standard output to `read`, unshown.
///
/// # Errors
/// As [`run_reading`].
pub(crate) fn read_lines(command: &mut Command, mut read: impl FnMut(&str)) -> Result<ExitStatus> {
    let spawned = command.stdout(Stdio::piped()).spawn();
    let mut child = spawned.with_context(|| format!("starting {}", shown(command)))?;
    let stdout = child.stdout.take().expect("standard output was piped");
    for line in BufReader::new(stdout).split(b'\n') {
        let line = line.with_context(|| format!("reading the output of {}", shown(command)))?;
        read(&String::from_utf8_lossy(&line));
    }
    child.wait().with_context(|| format!("waiting for {}", shown(command)))
}

/// Runs a command and returns its standard output; its standard error stays on this terminal.
///
/// # Errors
/// When it cannot be started, ends with another status than 0, or prints other bytes than UTF-8.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command.stderr(Stdio::inherit()).output();
    let output = output.with_context(|| format!("starting {}", shown(command)))?;
    require(command, output.status)?;
    String::from_utf8(output.stdout).with_context(|| format!("the output of {}", shown(command)))
}

/// Today's date, UTC, as in 2026-11-21.
///
/// # Errors
/// When `date` fails.
pub(crate) fn date() -> Result<String> {
    line(Command::new("date").args(["--utc", "+%Y-%m-%d"]))
}

/// The commit of the working tree, with `-dirty` where it has changes.
///
/// # Errors
/// When `git` fails.
pub(crate) fn commit() -> Result<String> {
    line(Command::new("git").current_dir(cargo::root()).args([
        "describe",
        "--always",
        "--dirty",
        "--abbrev=12",
    ]))
}

/// The one line that a command prints.
///
/// # Errors
/// As [`output`].
pub(crate) fn line(command: &mut Command) -> Result<String> {
    Ok(output(command)?.trim().to_owned())
}

/// The command line, as a person would type it.
pub(crate) fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

/// Whether a command ended with the status 0.
///
/// # Errors
/// Where it did not.
pub(crate) fn require(command: &Command, status: ExitStatus) -> Result<()> {
    if !status.success() {
        bail!("{} ended with {status}", shown(command));
    }
    Ok(())
}
