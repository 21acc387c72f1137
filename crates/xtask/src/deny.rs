//! `cargo deny`: banned crates, licences and sources, as `deny.toml` says.

use std::path::PathBuf;

use anyhow::Result;

use crate::{cargo, process};

/// The release that the configuration is written for.
const VERSION: &str = "0.20.2";

/// Runs the checks, after installing the tool where it is missing.
///
/// # Errors
/// When the tool cannot be installed, or finds something.
pub(crate) fn run() -> Result<()> {
    let tool = installed()?;
    let mut command = std::process::Command::new(tool);
    process::run(
        command.current_dir(cargo::root()).args(["--locked", "check", "bans", "licenses", "sources"]),
    )
}

/// The tool under `target/tools`, built there once. It runs for seconds, so it is built without optimisation:
/// that takes a fifth of the time.
fn installed() -> Result<PathBuf> {
    let tools = cargo::root().join("target/tools");
    let tool = tools.join("bin/cargo-deny");
    if version(&tool).as_deref() != Some(VERSION) {
        println!("installing cargo-deny {VERSION} under target/tools");
        let mut command = cargo::command();
        command.args([
            "install",
            "cargo-deny",
            "--version",
            VERSION,
            "--locked",
            "--no-default-features",
            "--force",
        ]);
        command.arg("--root").arg(&tools);
        command.env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0");
        command.env("CARGO_PROFILE_RELEASE_DEBUG", "0");
        command.env("CARGO_PROFILE_RELEASE_LTO", "off");
        process::run(&mut command)?;
    }
    Ok(tool)
}

fn version(tool: &PathBuf) -> Option<String> {
    let output = std::process::Command::new(tool).arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.split_whitespace().nth(1).map(str::to_owned)
}
