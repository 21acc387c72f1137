//! The stages of `cargo xtask test`, in the order in which they run.

use std::path::PathBuf;
use std::process::{Command, ExitStatus};

use anyhow::{Result, bail, ensure};

use super::tally::Tally;
use super::{Length, Stage};
use crate::packages::{TO_BOOT, TO_BUILD, TO_MAKE_ENVIRONMENTS, TO_RUN_PYTHON, TO_TEST};
use crate::programs::{Flavour, Programs};
use crate::running::{self, Running};
use crate::{cargo, demo, deny, failover, fuzz, kills, layers, load, mutants, plain, process, python, vm};

pub(super) const STAGES: &[Stage] = &[
    Stage { name: "fmt", about: "rustfmt leaves nothing to change", needs: &[], run: fmt },
    Stage { name: "layers", about: "no upward arrow between crates", needs: &[], run: layers },
    Stage { name: "clippy", about: "no lint, in any target", needs: &[TO_BUILD], run: clippy },
    Stage { name: "test", about: "unit and integration tests", needs: &[TO_BUILD, TO_TEST], run: tests },
    Stage {
        name: "fuzz",
        about: "every parser and the appraisal on changed inputs, with their time",
        needs: &[TO_BUILD],
        run: fuzz::run,
    },
    Stage {
        name: "doctests",
        about: "examples, and forgeries that must not compile",
        needs: &[TO_BUILD],
        run: doctests,
    },
    Stage {
        name: "vectors",
        about: "protocol vectors, recomputed in Python",
        needs: &[TO_RUN_PYTHON],
        run: vectors,
    },
    Stage {
        name: "configs",
        about: "policies and sample configurations, read by the programs that use them",
        needs: &[TO_BUILD],
        run: configs,
    },
    Stage {
        name: "openai",
        about: "the unmodified OpenAI client against the proxy",
        needs: &[TO_BUILD, TO_RUN_PYTHON, TO_MAKE_ENVIRONMENTS],
        run: openai,
    },
    Stage {
        name: "plain",
        about: "programs without the simulator have no warning and refuse everything simulated",
        needs: &[TO_BUILD],
        run: plain,
    },
    Stage {
        name: "demo",
        about: "the demo, whose attacks must fail and whose control must not",
        needs: &[TO_BUILD],
        run: demo,
    },
    Stage {
        name: "load",
        about: "many clients at once, some of them rude",
        needs: &[TO_BUILD],
        run: load::run,
    },
    Stage {
        name: "kills",
        about: "the guest killed while it answers, an impostor in its place",
        needs: &[TO_BUILD],
        run: kills::run,
    },
    Stage {
        name: "failover",
        about: "streams through one proxy whose guests are killed and come back, an attacker among them",
        needs: &[TO_BUILD],
        run: failover::run,
    },
    Stage {
        name: "vm",
        about: "guests that boot in QEMU, get their keys from a broker and serve, or say why not",
        needs: &[TO_BUILD, TO_BOOT],
        run: vm::run,
    },
    Stage {
        name: "mutants",
        about: "faults put into the appraisal, which tests must notice: a few known ones, all in the long form",
        needs: &[TO_BUILD],
        run: mutants::run,
    },
    Stage { name: "deny", about: "banned crates, licences, sources", needs: &[TO_BUILD], run: deny },
];

/// How a line begins in which a test says what it could not run here, and why: for want of something on this machine, or of something in
/// its kernel, so that it is tried on the guest's alone.
pub(crate) const LACKING: [&str; 2] = ["not run: ", "not testable here: "];

/// Whether a line is such a one.
pub(super) fn lacks(line: &str) -> bool {
    LACKING.iter().any(|begin| line.starts_with(begin))
}

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
        // Property tests read it, also those that run more cases than the default of 256.
        command.env("PROPTEST_CASES", "50000");
    }
    counted(&mut command)
}

fn doctests(_: Length) -> Result<Tally> {
    counted(with_simulator("test")?.args(["--doc", "--no-fail-fast"]))
}

fn vectors(_: Length) -> Result<Tally> {
    process::run(python::command()?.arg("docs/protocol/check_vectors.py"))?;
    Ok(Tally::ONE)
}

fn configs(_: Length) -> Result<Tally> {
    let programs = Programs::build(Flavour::Simulator)?;
    let policies = toml_files("policies")?;
    process::run(programs.confide().args(["policy", "check"]).args(&policies))?;
    let of_egress = toml_files("policies/egress")?;
    for policy in &of_egress {
        for phase in ["bootstrap", "serving"] {
            let mut guest = programs.guest();
            process::run(guest.args(["egress", "plan", "--phase", phase, "--policy"]).arg(policy))?;
        }
    }
    let samples = toml_files("deploy")?;
    for sample in &samples {
        // Each program has its own; what is no broker's is a guest's.
        let of_a_broker = sample.file_stem().is_some_and(|name| name.to_string_lossy().starts_with("broker"));
        let mut program = if of_a_broker { programs.broker() } else { programs.guest() };
        process::run(program.args(["check", "--config"]).arg(sample))?;
    }
    Ok(Tally { passed: (policies.len() + of_egress.len() + samples.len()) as u64, ..Tally::default() })
}

/// The TOML files of a folder and of those in it. It must have some, and so must each of these.
fn toml_files(folder: &str) -> Result<Vec<PathBuf>> {
    let (mut files, mut folders) = (Vec::new(), vec![cargo::root().join(folder)]);
    while let Some(folder) = folders.pop() {
        let before = files.len();
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "toml") {
                files.push(path);
            }
        }
        ensure!(files.len() > before, "no TOML file in {}", folder.display());
    }
    files.sort();
    Ok(files)
}

fn openai(_: Length) -> Result<Tally> {
    let interpreter = python::environment()?;
    let programs = Programs::build(Flavour::Simulator)?;
    let folder = running::folder("openai")?;
    let guest = Running::guest(&programs, &folder)?;
    let policy = cargo::root().join("policies/danger-simulator.toml");
    let proxy = Running::proxy(&programs, guest.address(), &policy, &folder)?;
    let mut command = Command::new(interpreter);
    command.current_dir(cargo::root()).arg("tests/python/test_openai_client.py");
    command.env("CONFIDE_BASE_URL", format!("http://{}/v1", proxy.address()));
    let mut tally = Tally::default();
    let status = process::run_reading(&mut command, |line| tally.update_from_unittest(line))?;
    judged(&command, status, tally)
}

fn deny(_: Length) -> Result<Tally> {
    deny::run()?;
    Ok(Tally::ONE)
}

fn demo(_: Length) -> Result<Tally> {
    demo::run()?;
    Ok(Tally::ONE)
}

fn plain(_: Length) -> Result<Tally> {
    plain::run()
}

/// A Cargo command over the workspace, built with the simulator as tests and the demo need it.
pub(crate) fn with_simulator(subcommand: &str) -> Result<Command> {
    let mut command = cargo::command();
    command.args([subcommand, "--locked", "--workspace", "--features", &cargo::danger_features()?]);
    Ok(command)
}

/// Runs test programs and adds up what they report. What a test prints is shown also where it passes: figures, and
/// lines that say what it could not run. What failed tests print is repeated at the end of all stages.
pub(crate) fn counted(command: &mut Command) -> Result<Tally> {
    tallied(command.args(["--", "--show-output"]))
}

/// As [`counted`], for any program that reports as a Rust test program does.
pub(crate) fn tallied(command: &mut Command) -> Result<Tally> {
    let mut tallies = Vec::new();
    let mut failures = Failures::default();
    let status = process::run_reading(command, |line| {
        tallies.extend(Tally::of_line(line));
        if failures.hold(line) {
            super::failure(line.to_owned());
        }
        if lacks(line) {
            tallies.push(Tally { not_run: 1, ..Tally::default() });
            super::note(line.to_owned());
        }
    })?;
    judged(command, status, tallies.into_iter().sum())
}

/// Finds what a test program says of its failed tests: from the first line `failures:` to its summary.
#[derive(Default)]
struct Failures {
    reading: bool,
}

impl Failures {
    /// Whether the line is part of it.
    fn hold(&mut self, line: &str) -> bool {
        self.reading |= line == "failures:";
        let held = self.reading;
        self.reading &= !line.starts_with("test result: ");
        held
    }
}

/// The tests that a program counted. One that counted none, or failed without a failed test, did not work.
fn judged(command: &Command, status: ExitStatus, tally: Tally) -> Result<Tally> {
    if status.success() != (tally.failed == 0) || tally == Tally::default() {
        bail!("{} ended with {status} after {} tests", process::shown(command), tally.passed + tally.failed);
    }
    Ok(tally)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_found_in_the_folders_below_as_well() {
        let found = toml_files("policies").unwrap();
        let of_egress = toml_files("policies/egress").unwrap();
        let policies = cargo::root().join("policies");
        for file in ["inspect.toml", "egress/deny-all.toml", "egress/example.toml"] {
            assert!(found.contains(&policies.join(file)), "{file}: {found:?}");
        }
        assert!(of_egress.iter().all(|file| found.contains(file)));
        assert!(toml_files("docs/benchmarks").is_err(), "nothing there is TOML");
    }

    #[test]
    fn what_failed_tests_print_is_held() {
        let lines = [
            ("test a ... ok", false),
            ("failures:", true),
            ("---- b stdout ----", true),
            ("failures:", true),
            ("    b", true),
            ("test result: FAILED. 1 passed; 1 failed; 0 ignored", true),
            ("test c ... ok", false),
        ];
        let mut failures = Failures::default();
        for (line, held) in lines {
            assert_eq!(failures.hold(line), held, "{line}");
        }
    }
}
