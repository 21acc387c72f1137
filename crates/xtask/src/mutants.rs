//! Mutation testing: small faults put into the appraisal, each of which a test must notice.
//!
//! A fault that no test notices is a missing test, or no fault: the latter are explained in
//! `docs/long-runs/mutants-explained.md`, and anything else fails the stage.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::test::{Length, NOT_RUN, Tally, note};
use crate::tool::Tool;
use crate::{cargo, process};

const TOOL: Tool = Tool { name: "cargo-mutants", version: "27.1.0", arguments: &[] };

/// What is mutated together, and which tests must notice.
struct Shard {
    name: &'static str,
    package: &'static str,
    files: &'static [&'static str],
    tests: &'static [&'static str],
}

/// The appraisal first.
const SHARDS: &[Shard] = &[
    Shard {
        name: "tcb",
        package: "confide-verifier",
        files: &["crates/verifier/src/tcb.rs"],
        tests: VERIFIER,
    },
    Shard {
        name: "tdx",
        package: "confide-verifier",
        files: &["crates/verifier/src/tdx.rs"],
        tests: VERIFIER,
    },
    Shard {
        name: "appraise",
        package: "confide-verifier",
        files: &["crates/verifier/src/appraise.rs", "crates/verifier/src/document.rs"],
        tests: VERIFIER,
    },
    Shard {
        name: "platform",
        package: "confide-verifier",
        files: &[
            "crates/verifier/src/platform.rs",
            "crates/verifier/src/references.rs",
            "crates/verifier/src/signed.rs",
        ],
        tests: VERIFIER,
    },
    Shard {
        name: "policy",
        package: "confide-policy",
        files: &["crates/policy/src/*.rs"],
        tests: &["--lib"],
    },
];

/// The tests of the verifier that take seconds.
const VERIFIER: &[&str] = &[
    "--lib",
    "--test",
    "own_cases",
    "--test",
    "tdx_corpus",
    "--test",
    "documents",
    "--test",
    "attacks",
    "--test",
    "policy",
    "--test",
    "references",
    "--test",
    "memo",
];

/// Why a mutant that no test notices is no fault.
const EXPLAINED: &str = "docs/long-runs/mutants-explained.md";

/// Runs every shard in the long form. In CI it does not run, and says so.
///
/// # Errors
/// When a mutant is neither noticed by a test nor explained.
pub(crate) fn run(length: Length) -> Result<Tally> {
    if length == Length::Ci {
        note(format!("{NOT_RUN}mutation testing takes hours and belongs to the long form"));
        return Ok(Tally { not_run: 1, ..Tally::default() });
    }
    let tool = TOOL.installed()?;
    let explained = explained()?;
    let mut tally = Tally::default();
    for shard in SHARDS {
        let found = shard.run(&tool)?;
        let open: Vec<&String> = found.missed.iter().filter(|mutant| !explained.contains(*mutant)).collect();
        note(format!(
            "mutants: {}: {} caught, {} time out, {} do not compile, {} explained, {} open",
            shard.name,
            found.caught,
            found.timeout,
            found.unviable,
            found.missed.len() - open.len(),
            open.len()
        ));
        for mutant in &open {
            note(format!("mutants: open: {mutant}"));
        }
        tally = [tally, Tally { passed: found.caught as u64, failed: open.len() as u64, ..Tally::default() }]
            .into_iter()
            .sum();
    }
    Ok(tally)
}

/// What became of a shard's mutants.
struct Found {
    missed: Vec<String>,
    caught: usize,
    timeout: usize,
    unviable: usize,
}

impl Shard {
    fn run(&self, tool: &Path) -> Result<Found> {
        let out = cargo::root().join("target/mutants").join(self.name);
        let _ = std::fs::remove_dir_all(&out);
        std::fs::create_dir_all(&out)?;
        let mut command = Command::new(tool);
        command.current_dir(cargo::root()).args(["mutants", "--no-shuffle", "--colors", "never"]);
        command.args(["--minimum-test-timeout", "120", "--package", self.package, "--output"]).arg(&out);
        for file in self.files {
            command.args(["--file", file]);
        }
        command.arg("--").args(self.tests);
        // The corpus lies beside the repository, not beside the copy that is mutated.
        command.env("CONFIDE_CORPUS", corpus());
        let status = command.status().with_context(|| format!("starting {}", process::shown(&command)))?;
        // 2: mutants were missed; 3: some timed out. Both are in the lists.
        ensure!(matches!(status.code(), Some(0 | 2 | 3)), "{} ended with {status}", process::shown(&command));
        let list = |name: &str| lines(&out.join("mutants.out").join(name));
        Ok(Found {
            missed: list("missed.txt")?.iter().map(|line| without_place(line)).collect(),
            caught: list("caught.txt")?.len(),
            timeout: list("timeout.txt")?.len(),
            unviable: list("unviable.txt")?.len(),
        })
    }
}

fn corpus() -> std::ffi::OsString {
    std::env::var_os("CONFIDE_CORPUS").unwrap_or_else(|| cargo::root().join("../shared/corpus").into())
}

fn lines(file: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// `FILE:LINE:COLUMN: WHAT` without line and column, which change with every edit.
fn without_place(mutant: &str) -> String {
    let mut parts = mutant.splitn(4, ':');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(file), Some(_), Some(_), Some(what)) => format!("{file}:{what}"),
        _ => mutant.to_owned(),
    }
}

/// The mutants that the page of explanations names, in backquotes at the start of a list's item.
fn explained() -> Result<BTreeSet<String>> {
    let text = std::fs::read_to_string(cargo::root().join(EXPLAINED))?;
    Ok(text
        .lines()
        .filter_map(|line| line.strip_prefix("- `")?.split_once("`: "))
        .map(|(mutant, _)| mutant.to_owned())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mutant_is_named_without_its_line() {
        assert_eq!(
            without_place("crates/verifier/src/tcb.rs:12:3: replace a -> bool with true"),
            "crates/verifier/src/tcb.rs: replace a -> bool with true"
        );
    }

    #[test]
    fn the_files_of_every_shard_exist_and_every_explanation_is_of_one() {
        for shard in SHARDS {
            for file in shard.files {
                let path = cargo::root().join(file.replace("*.rs", "lib.rs"));
                assert!(path.is_file(), "{}", path.display());
            }
        }
        for mutant in explained().unwrap() {
            let file = mutant.split(':').next().unwrap().to_owned();
            assert!(cargo::root().join(&file).is_file(), "{mutant}");
        }
    }
}
