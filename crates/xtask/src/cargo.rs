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
///
/// What Cargo tells this program of its own package is taken out of the environment: build scripts that watch such
/// variables (ring's does) would run again, and all that depends on them, whenever Cargo is started from a shell next.
pub(crate) fn command() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    for (name, _) in std::env::vars_os().filter(|(name, _)| of_this_package(&name.to_string_lossy())) {
        command.env_remove(name);
    }
    command
}

/// Whether Cargo sets this variable for the package that it runs (The Cargo Book, Environment Variables).
fn of_this_package(name: &str) -> bool {
    name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
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
    members()?.iter().map(|package| name(package).map(str::to_owned)).collect()
}

/// `PACKAGE/danger-simulator` for each of the workspace's packages that has this feature: what tests and the
/// demo are built with.
///
/// # Errors
/// When `cargo metadata` fails.
pub(crate) fn danger_features() -> Result<String> {
    let members = members()?;
    let with = members.iter().filter(|package| package["features"].get(DANGER).is_some());
    let features: Result<Vec<_>> = with.map(|package| Ok(format!("{}/{DANGER}", name(package)?))).collect();
    Ok(features?.join(","))
}

/// The folder of one published package of the dependency graph.
///
/// # Errors
/// When `cargo metadata` fails or knows no such package.
pub(crate) fn package_folder(package: &str) -> Result<PathBuf> {
    let text = output(&["metadata", "--format-version", "1", "--filter-platform", PLATFORM])?;
    let metadata: Value = serde_json::from_str(&text)?;
    let packages = metadata["packages"].as_array().context("cargo metadata without packages")?;
    let found = packages.iter().find(|candidate| candidate["name"] == package);
    let manifest = found.and_then(|found| found["manifest_path"].as_str());
    let manifest = manifest.with_context(|| format!("no package {package} in the dependency graph"))?;
    Ok(Path::new(manifest).parent().context("a manifest without a folder")?.to_path_buf())
}

const DANGER: &str = "danger-simulator";
const PLATFORM: &str = "x86_64-unknown-linux-gnu";

fn members() -> Result<Vec<Value>> {
    let text = output(&["metadata", "--format-version", "1", "--no-deps"])?;
    let mut metadata: Value = serde_json::from_str(&text)?;
    match metadata["packages"].take() {
        Value::Array(packages) => Ok(packages),
        _ => bail!("cargo metadata without packages"),
    }
}

fn name(package: &Value) -> Result<&str> {
    package["name"].as_str().context("a package without a name")
}
