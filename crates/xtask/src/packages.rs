//! Debian packages that a task needs.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::process;

/// A command that succeeds where a package is there.
pub(crate) struct Needed {
    pub(crate) probe: &'static [&'static str],
    pub(crate) package: &'static str,
}

/// What it takes to compile and link the programs.
pub(crate) const TO_BUILD: &[Needed] = &[
    Needed { probe: &["cc", "--version"], package: "gcc" },
    Needed { probe: &["test", "-e", "/usr/include/stdlib.h"], package: "libc6-dev" },
];

/// What tests compare with.
pub(crate) const TO_TEST: &[Needed] = &[Needed { probe: &["openssl", "version"], package: "openssl" }];

/// What it takes to run a Python script of the standard library alone.
pub(crate) const TO_RUN_PYTHON: &[Needed] =
    &[Needed { probe: &["python3", "--version"], package: "python3" }];

/// What it takes to make a Python environment, beside that.
pub(crate) const TO_MAKE_ENVIRONMENTS: &[Needed] =
    &[Needed { probe: &["python3", "-c", "import ensurepip, venv"], package: "python3-venv" }];

/// Installs what is missing: as root by apt-get; else the error is the one line to run.
///
/// # Errors
/// When something is missing and cannot be installed.
pub(crate) fn require(needed: &[Needed]) -> Result<()> {
    let missing: Vec<_> = needed.iter().filter(|one| !one.is_there()).map(|one| one.package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !Path::new("/usr/bin/apt-get").exists() {
        bail!("missing, by their Debian names: {}", missing.join(" "));
    }
    let install = ["install", "--yes", "--no-install-recommends"];
    if !is_root()? {
        bail!("Debian packages are missing; run: sudo apt-get {} {}", install.join(" "), missing.join(" "));
    }
    process::run(Command::new("apt-get").args(["update", "--quiet"]))?;
    process::run(Command::new("apt-get").args(install).args(missing).env("DEBIAN_FRONTEND", "noninteractive"))
}

impl Needed {
    fn is_there(&self) -> bool {
        let Some((program, arguments)) = self.probe.split_first() else { return true };
        Command::new(program).args(arguments).output().is_ok_and(|output| output.status.success())
    }
}

fn is_root() -> Result<bool> {
    Ok(process::line(Command::new("id").arg("-u"))? == "0")
}
