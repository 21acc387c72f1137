//! Cargo and the folders it knows.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// The workspace root: two folders above this package.
pub(crate) fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.ancestors().nth(2).map(Path::to_path_buf).expect("crates/xtask lies two folders below the root")
}

/// A `cargo` command in the workspace root: the Cargo that started this program, where one did.
pub(crate) fn command() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// The standard output of one Cargo command.
///
/// # Errors
/// When Cargo cannot be started or fails; its standard error is in the message.
pub(crate) fn output(arguments: &[&str]) -> Result<String> {
    let output = command().args(arguments).output().context("starting cargo")?;
    if !output.status.success() {
        bail!("cargo {} failed:\n{}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
    }
    String::from_utf8(output.stdout).context("cargo's output is not UTF-8")
}

/// The names of the workspace's packages.
///
/// # Errors
/// When `cargo metadata` fails.
pub(crate) fn workspace_packages() -> Result<Vec<String>> {
    let text = output(&["metadata", "--format-version", "1", "--no-deps"])?;
    let metadata: Value = serde_json::from_str(&text)?;
    let packages = metadata["packages"].as_array().context("cargo metadata without packages")?;
    packages
        .iter()
        .map(|package| Ok(package["name"].as_str().context("a package without a name")?.to_owned()))
        .collect()
}
