//! Python: the independent check of the protocol vectors, and the OpenAI client.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::packages::{self, TO_MAKE_ENVIRONMENTS, TO_RUN_PYTHON};
use crate::{cargo, process};

/// The packages of the virtual environment, with their versions.
const REQUIREMENTS: &str = "tests/python/requirements.txt";

/// A `python3` command in the workspace root, after installing Python where it is missing.
///
/// # Errors
/// When it cannot be installed.
pub(crate) fn command() -> Result<Command> {
    packages::require(TO_RUN_PYTHON)?;
    let mut command = Command::new("python3");
    command.current_dir(cargo::root());
    Ok(command)
}

/// The interpreter of a virtual environment under `target/venv` that holds what `tests/python` needs.
///
/// # Errors
/// When the environment cannot be made; on Debian that needs the package `python3-venv`.
pub(crate) fn environment() -> Result<PathBuf> {
    let root = cargo::root();
    let venv = root.join("target/venv");
    let interpreter = venv.join("bin/python");
    let requirements = std::fs::read(root.join(REQUIREMENTS)).context(REQUIREMENTS)?;
    let installed = venv.join("requirements.txt");
    if std::fs::read(&installed).is_ok_and(|bytes| bytes == requirements) {
        return Ok(interpreter);
    }
    let mut python = command()?;
    packages::require(TO_MAKE_ENVIRONMENTS)?;
    println!("making a Python environment in target/venv");
    process::run(python.args(["-m", "venv", "--clear"]).arg(&venv))?;
    let mut pip = Command::new(&interpreter);
    pip.current_dir(&root).args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"]);
    process::run(pip.arg(REQUIREMENTS))?;
    std::fs::write(&installed, requirements)?;
    Ok(interpreter)
}
