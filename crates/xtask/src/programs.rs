//! The programs, built for the demo and for the tests that run them.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::test::with_simulator;
use crate::{cargo, process};

/// How the programs are built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flavour {
    /// With the feature `danger-simulator`, and with the attacker: for demo and tests.
    Simulator,
    /// As [`Self::Simulator`], without the attacker, and optimised as what ships: for benchmarks.
    Optimised,
    /// As they ship.
    Plain,
}

/// The programs' files. They are copies, because Cargo keeps one file for both flavours.
pub(crate) struct Programs {
    folder: PathBuf,
}

impl Programs {
    /// Builds the programs; Cargo shows its progress.
    ///
    /// # Errors
    /// When something does not compile.
    pub(crate) fn build(flavour: Flavour) -> Result<Self> {
        let mut command = cargo::command();
        command.args(["build", "--locked", "--bins"]);
        let (profile, folder, names): (_, _, &[_]) = match flavour {
            Flavour::Simulator | Flavour::Optimised => {
                // An example makes Cargo unite the features of dev-dependencies too: the programs and the tests then
                // share one build of every dependency.
                command.args([
                    "--workspace",
                    "--example",
                    "vectors",
                    "--features",
                    &cargo::danger_features()?,
                ]);
                match flavour {
                    Flavour::Optimised => {
                        command.arg("--release");
                        ("release", "optimised", &["confide", "confide-guest"])
                    }
                    _ => {
                        let programs = &[
                            "confide",
                            "confide-guest",
                            "confide-broker",
                            "confide-attacker",
                            "confide-host",
                        ];
                        ("debug", "simulator", programs)
                    }
                }
            }
            Flavour::Plain => {
                // Other features are another build of every dependency. These programs only refuse: they need no speed.
                let programs = &["confide", "confide-guest", "confide-broker"];
                command.args(["--profile", "plain"]);
                command.args(programs.iter().flat_map(|program| ["--package", program]));
                ("plain", "plain", programs)
            }
        };
        match flavour {
            Flavour::Simulator | Flavour::Optimised => process::run(&mut command)?,
            Flavour::Plain => build_without_warnings(&mut command)?,
        }
        let root = cargo::root();
        let folder = root.join("target/programs").join(folder);
        std::fs::create_dir_all(&folder)?;
        for name in names {
            replace(&root.join("target").join(profile).join(name), &folder.join(name))?;
        }
        Ok(Self { folder })
    }

    /// The programs that [`Self::build`] left.
    pub(crate) fn built(flavour: Flavour) -> Self {
        let folder = match flavour {
            Flavour::Simulator => "simulator",
            Flavour::Optimised => "optimised",
            Flavour::Plain => "plain",
        };
        Self { folder: cargo::root().join("target/programs").join(folder) }
    }

    /// Where the programs lie, under their own names.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn confide(&self) -> Command {
        self.command("confide")
    }

    pub(crate) fn guest(&self) -> Command {
        self.command("confide-guest")
    }

    pub(crate) fn broker(&self) -> Command {
        self.command("confide-broker")
    }

    pub(crate) fn host(&self) -> Command {
        self.command("confide-host")
    }

    pub(crate) fn attacker(&self) -> Command {
        self.command("confide-attacker")
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.folder.join(name));
        command.current_dir(cargo::root());
        command
    }
}

/// Builds the unit tests of one package, with the features that all tests are built with, and returns their program.
///
/// # Errors
/// When something does not compile.
pub(crate) fn build_unit_tests(package: &str) -> Result<PathBuf> {
    // Features are those of all selected packages together: with fewer of them, dependencies would be built again.
    let mut command = with_simulator("test")?;
    let mut found = None;
    let status = process::read_lines(command.args(["--lib", "--no-run", "--message-format=json"]), |line| {
        if let Some((_, rendered)) = diagnostic(line) {
            eprint!("{rendered}");
        }
        found = found.take().or_else(|| unit_tests(line, package));
    })?;
    process::require(&command, status)?;
    let program = found.with_context(|| format!("Cargo names no unit tests of {package}"))?;
    let kept = built_unit_tests(package);
    std::fs::create_dir_all(kept.parent().context("a folder above it")?)?;
    replace(&program, &kept)?;
    Ok(kept)
}

/// What [`build_unit_tests`] left.
pub(crate) fn built_unit_tests(package: &str) -> PathBuf {
    cargo::root().join("target/programs/tests").join(package)
}

/// The program of a package's unit tests, where a line of Cargo's JSON names it.
fn unit_tests(line: &str, package: &str) -> Option<PathBuf> {
    let message: Value = serde_json::from_str(line).ok()?;
    let ours = message["target"]["name"].as_str()? == package.replace('-', "_")
        && message["profile"]["test"].as_bool()?
        && message["target"]["kind"] == serde_json::json!(["lib"]);
    ours.then(|| message["executable"].as_str().map(PathBuf::from)).flatten()
}

/// Runs a build that must have no warning. Clippy looks at the workspace with all features alone: what is unused in the
/// programs as they ship shows here. Cargo repeats the warnings of what it need not build again.
fn build_without_warnings(command: &mut Command) -> Result<()> {
    let mut warnings = 0_usize;
    let status = process::read_lines(command.arg("--message-format=json"), |line| {
        if let Some((level, rendered)) = diagnostic(line) {
            eprint!("{rendered}");
            warnings += usize::from(level == "warning");
        }
    })?;
    process::require(command, status)?;
    ensure!(warnings == 0, "{warnings} warnings of {}", process::shown(command));
    Ok(())
}

/// Level and text of a compiler's message, where a line of Cargo's JSON is one.
fn diagnostic(line: &str) -> Option<(String, String)> {
    let message: Value = serde_json::from_str(line).ok()?;
    let message = message.get("message").filter(|_| message["reason"] == "compiler-message")?;
    Some((message["level"].as_str()?.to_owned(), message["rendered"].as_str()?.to_owned()))
}

/// Copies a program beside its old copy and renames it, because a running program cannot be written to.
fn replace(from: &PathBuf, to: &PathBuf) -> Result<()> {
    let new = to.with_extension("new");
    std::fs::copy(from, &new).with_context(|| format!("copying {}", from.display()))?;
    std::fs::rename(&new, to).with_context(|| format!("replacing {}", to.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_told_from_everything_else_that_cargo_says() {
        let warning =
            r#"{"reason":"compiler-message","message":{"level":"warning","rendered":"warning: unused\n"}}"#;
        assert_eq!(diagnostic(warning), Some(("warning".to_owned(), "warning: unused\n".to_owned())));
        for other in [
            r#"{"reason":"compiler-artifact","executable":null}"#,
            r#"{"reason":"build-finished","success":true}"#,
            "no JSON",
        ] {
            assert_eq!(diagnostic(other), None, "{other}");
        }
    }

    #[test]
    fn the_program_of_a_packages_unit_tests_is_told_from_others() {
        let line = |name: &str, kind: &str, test: bool| {
            format!(
                r#"{{"reason":"compiler-artifact","target":{{"name":"{name}","kind":["{kind}"]}},"profile":{{"test":{test}}},"executable":"/target/{name}"}}"#
            )
        };
        assert_eq!(unit_tests(&line("a_b", "lib", true), "a-b"), Some("/target/a_b".into()));
        for other in [
            line("a_c", "lib", true),
            line("a_b", "bin", true),
            line("a_b", "lib", false),
            "no JSON".to_owned(),
        ] {
            assert_eq!(unit_tests(&other, "a-b"), None, "{other}");
        }
    }
}
