//! The programs, built for the demo and for the tests that run them.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

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
                    _ => ("debug", "simulator", &["confide", "confide-guest", "confide-attacker"]),
                }
            }
            Flavour::Plain => {
                // Other features are another build of every dependency. These programs only refuse: they need no speed.
                command.args(["--profile", "plain", "--package", "confide", "--package", "confide-guest"]);
                ("plain", "plain", &["confide", "confide-guest"])
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

    pub(crate) fn attacker(&self) -> Command {
        self.command("confide-attacker")
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.folder.join(name));
        command.current_dir(cargo::root());
        command
    }
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
    use super::diagnostic;

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
}
