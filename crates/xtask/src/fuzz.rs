//! Fuzzing: every parser, and the appraisal with its time.
//!
//! Two forms run the same functions, those of the crate `confide-fuzz`. The stable one makes random changes of the kept
//! corpus, without coverage; it is what CI runs. The other is `cargo fuzz`, which needs a nightly toolchain.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};

use crate::test::{Length, Tally, counted, note, with_simulator};
use crate::tool::Tool;
use crate::{cargo, process};

const TOOL: Tool = Tool { name: "cargo-fuzz", version: "0.13.2", arguments: &[] };

/// How long the stable form changes the corpus of each target.
const CI: Duration = Duration::from_millis(700);
/// The same where the long form finds no nightly toolchain.
const LONG: Duration = Duration::from_secs(60);
/// How long `cargo fuzz` runs each target.
const COVERAGE: Duration = Duration::from_secs(180);

/// Runs the form that fits: `cargo fuzz` in the long form where there is a nightly toolchain, else the stable one.
///
/// # Errors
/// When a target finds something; the message names the input.
pub(crate) fn run(length: Length) -> Result<Tally> {
    match length {
        Length::Ci => stable(CI),
        Length::Long if !nightly()? => {
            note("fuzz: no nightly toolchain is installed: the stable form, without coverage".to_owned());
            Ok([compiled()?, stable(LONG)?].into_iter().sum())
        }
        Length::Long => coverage(),
    }
}

fn stable(each: Duration) -> Result<Tally> {
    let seed = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    note(format!("fuzz: stable form, without coverage: each target for {each:?}, seed {seed}"));
    let mut command = with_simulator("test")?;
    command.args(["--test", "smoke", "no_target_panics_on_its_corpus_and_on_changes_of_it"]);
    command.env("CONFIDE_FUZZ_MILLISECONDS", each.as_millis().to_string());
    command.env("CONFIDE_FUZZ_SEED", seed.to_string());
    counted(&mut command)
}

/// Whether rustup has a nightly toolchain.
fn nightly() -> Result<bool> {
    let Ok(output) = Command::new("rustup").args(["toolchain", "list"]).output() else { return Ok(false) };
    Ok(String::from_utf8(output.stdout)?.lines().any(|line| line.starts_with("nightly")))
}

/// Compiles the targets of `cargo fuzz` with the toolchain that is there, so that they are known to fit the functions.
fn compiled() -> Result<Tally> {
    locked()?;
    let mut command = cargo::command();
    process::run(command.args(["check", "--bins", "--manifest-path"]).arg(folder().join("Cargo.toml")))?;
    Ok(Tally::ONE)
}

fn folder() -> PathBuf {
    cargo::root().join("tests/fuzz")
}

/// Gives the targets' workspace the versions of this one. Cargo adds what is not in it, libFuzzer.
fn locked() -> Result<()> {
    std::fs::copy(cargo::root().join("Cargo.lock"), folder().join("Cargo.lock"))?;
    Ok(())
}

fn coverage() -> Result<Tally> {
    let tool = TOOL.installed()?;
    locked()?;
    let seeds = seeds()?;
    note(format!("fuzz: cargo fuzz on the nightly toolchain: each target for {COVERAGE:?}"));
    let folder = folder();
    let names = targets(&folder)?;
    for name in &names {
        let line = one(&tool, &folder, &seeds.join(name), name)?;
        note(format!("fuzz: {name}: {line}"));
    }
    Ok(Tally { passed: names.len() as u64, ..Tally::default() })
}

/// Writes the seeds of every target, and returns the folder with a folder for each.
fn seeds() -> Result<PathBuf> {
    let folder = cargo::root().join("target/fuzz-seeds");
    let mut command = cargo::command();
    command.args(["run", "--locked", "--package", "confide-fuzz", "--features", "danger-simulator"]);
    process::run(command.args(["--example", "seeds", "--"]).arg(&folder))?;
    Ok(folder)
}

/// The targets' names: those of their files.
fn targets(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder.join("fuzz_targets"))? {
        let path = entry?.path();
        names.push(path.file_stem().context("a file")?.to_string_lossy().into_owned());
    }
    names.sort();
    ensure!(!names.is_empty(), "no target in {}", folder.display());
    Ok(names)
}

/// Runs one target and returns libFuzzer's last words. New inputs go to `target/fuzz-corpus`, not to the kept corpus:
/// `tests/fuzz/README.md` says how they get there.
fn one(tool: &Path, folder: &Path, seeds: &Path, name: &str) -> Result<String> {
    let found = cargo::root().join("target/fuzz-corpus").join(name);
    let kept = folder.join("corpus").join(name);
    std::fs::create_dir_all(&found)?;
    let mut command = Command::new(tool);
    command.current_dir(cargo::root()).env("RUSTUP_TOOLCHAIN", "nightly").env_remove("CARGO");
    // Sixteen units compile in half the time of one, and what they make is hardly slower.
    command.args(["run", "--sanitizer", "none", "--codegen-units", "16", "--fuzz-dir"]).arg(folder).arg(name);
    command.arg(&found).arg(seeds).arg(kept);
    command.arg("--").arg(format!("-max_total_time={}", COVERAGE.as_secs()));
    command.args(["-max_len=262144", "-timeout=10", "-rss_limit_mb=4096", "-print_final_stats=1"]);
    let output = command.stdout(Stdio::inherit()).stderr(Stdio::piped()).output();
    let output = output.with_context(|| format!("starting {}", process::shown(&command)))?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    if !output.status.success() {
        let tail: Vec<&str> = text.lines().rev().take(30).collect();
        bail!("{name} found something:\n{}", tail.into_iter().rev().collect::<Vec<_>>().join("\n"));
    }
    let figures = text.lines().rev().find(|line| line.contains("DONE") || line.starts_with("Done"));
    Ok(figures.unwrap_or("no figures").trim().to_owned())
}
