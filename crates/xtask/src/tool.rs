//! Cargo's helpers that are programs of their own: built once under `target/tools`.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::{cargo, process};

/// A published program.
pub(crate) struct Tool {
    pub(crate) name: &'static str,
    /// The release that our configuration is written for.
    pub(crate) version: &'static str,
    /// Further arguments of `cargo install`.
    pub(crate) arguments: &'static [&'static str],
}

impl Tool {
    /// The program, built where it is missing or of another version. What it does takes seconds, or starts other programs,
    /// so it is built without optimisation: that takes a fifth of the time.
    ///
    /// # Errors
    /// When it cannot be installed.
    pub(crate) fn installed(&self) -> Result<PathBuf> {
        let Self { name, version, arguments } = self;
        let tools = cargo::root().join("target/tools");
        let program = tools.join("bin").join(name);
        if self.present(&program).as_deref() != Some(*version) {
            println!("installing {name} {version} under target/tools");
            let mut command = cargo::command();
            command.args(["install", name, "--version", version, "--locked", "--force"]);
            command.args(*arguments).arg("--root").arg(&tools);
            command.env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0");
            command.env("CARGO_PROFILE_RELEASE_DEBUG", "0");
            command.env("CARGO_PROFILE_RELEASE_LTO", "off");
            process::run(&mut command)?;
        }
        Ok(program)
    }

    /// The version of the program that is there. Cargo's helpers answer as themselves or as Cargo's command.
    fn present(&self, program: &PathBuf) -> Option<String> {
        let asked = |arguments: &[&str]| {
            let output = Command::new(program).args(arguments).output().ok()?;
            let text = String::from_utf8(output.stdout).ok()?;
            text.split_whitespace().nth(1).map(str::to_owned)
        };
        asked(&["--version"]).or_else(|| asked(&[self.name.strip_prefix("cargo-")?, "--version"]))
    }
}
