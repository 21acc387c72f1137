//! `cargo deny`: banned crates, licences and sources, as `deny.toml` says.

use std::process::Command;

use anyhow::Result;

use crate::tool::Tool;
use crate::{cargo, process};

const TOOL: Tool = Tool { name: "cargo-deny", version: "0.20.2", arguments: &["--no-default-features"] };

/// Runs the checks, after installing the tool where it is missing.
///
/// # Errors
/// When the tool cannot be installed, or finds something.
pub(crate) fn run() -> Result<()> {
    let mut command = Command::new(TOOL.installed()?);
    process::run(
        command.current_dir(cargo::root()).args(["--locked", "check", "bans", "licenses", "sources"]),
    )
}
