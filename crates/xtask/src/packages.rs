//! Debian packages that a task needs.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::process;

/// A command that succeeds where a package is there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Needed {
    pub(crate) probe: &'static [&'static str],
    pub(crate) package: &'static str,
}

/// What it takes to compile and link the programs.
pub(crate) const TO_BUILD: &[Needed] = &[
    Needed { probe: &["cc", "--version"], package: "gcc" },
    Needed { probe: &["test", "-e", "/usr/include/stdlib.h"], package: "libc6-dev" },
];

/// What tests compare with, or run against.
pub(crate) const TO_TEST: &[Needed] = &[
    // Pages of long runs and of benchmarks name the commit.
    Needed { probe: &["git", "--version"], package: "git" },
    Needed { probe: &["openssl", "version"], package: "openssl" },
    // The server alone: tests of the broker start one of their own.
    Needed { probe: &["sh", "-c", "ls /usr/lib/postgresql/*/bin/initdb"], package: "postgresql" },
    Needed { probe: &["/usr/sbin/cryptsetup", "--version"], package: "cryptsetup-bin" },
    Needed { probe: &["/usr/sbin/mke2fs", "-V"], package: "e2fsprogs" },
    // Networks of a test's own, and attackers in them.
    Needed { probe: &["/usr/sbin/nft", "--version"], package: "nftables" },
    Needed { probe: &["ip", "-V"], package: "iproute2" },
    Needed { probe: &["unshare", "--version"], package: "util-linux" },
    Needed { probe: &["python3", "--version"], package: "python3" },
];

/// What it takes to run a Python script of the standard library alone.
pub(crate) const TO_RUN_PYTHON: &[Needed] =
    &[Needed { probe: &["python3", "--version"], package: "python3" }];

/// What it takes to make a Python environment, beside that.
pub(crate) const TO_MAKE_ENVIRONMENTS: &[Needed] =
    &[Needed { probe: &["python3", "-c", "import ensurepip, venv"], package: "python3-venv" }];

/// What it takes to boot guests: their kernel and QEMU are fetched, and never installed.
pub(crate) const TO_BOOT: &[Needed] = &[
    Needed { probe: &["gcc-12", "--version"], package: "gcc-12" },
    Needed { probe: &["make", "--version"], package: "make" },
    // The kernel's own build programs need it.
    Needed { probe: &["test", "-e", "/usr/lib/x86_64-linux-gnu/libelf.so.1"], package: "libelf1" },
    Needed { probe: &["strip", "--version"], package: "binutils" },
    Needed { probe: &["/sbin/depmod", "--version"], package: "kmod" },
    Needed { probe: &["xz", "--version"], package: "xz-utils" },
    Needed { probe: &["zstd", "--version"], package: "zstd" },
    Needed { probe: &["/usr/sbin/nft", "--version"], package: "nftables" },
    Needed { probe: &["/usr/sbin/mke2fs", "-V"], package: "e2fsprogs" },
    Needed { probe: &["ip", "-V"], package: "iproute2" },
    Needed { probe: &["unshare", "--version"], package: "util-linux" },
];

/// What it takes beside that to run attacks in a guest, which gets the files of Debian's packages.
pub(crate) const TO_ATTACK: &[Needed] =
    &[Needed { probe: &["/usr/bin/python3", "--version"], package: "python3" }];

/// Installs what is missing: as root by apt-get; else the error is the one line to run.
///
/// # Errors
/// When something is missing and cannot be installed.
pub(crate) fn require(needed: &[Needed]) -> Result<()> {
    let missing: Vec<_> = needed.iter().filter(|one| !one.is_there()).map(|one| one.package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if let Some(advice) = advice(&missing, Path::new("/usr/bin/apt-get").exists(), is_root()?) {
        bail!(advice);
    }
    process::run(Command::new("apt-get").args(["update", "--quiet"]))?;
    process::run(Command::new("apt-get").args(INSTALL).args(missing).env("DEBIAN_FRONTEND", "noninteractive"))
}

const INSTALL: [&str; 3] = ["install", "--yes", "--no-install-recommends"];

/// What to say of missing packages where they cannot be installed from here.
fn advice(missing: &[&str], has_apt: bool, is_root: bool) -> Option<String> {
    let names = missing.join(" ");
    match (has_apt, is_root) {
        (false, _) => Some(format!("missing, by their Debian names: {names}")),
        (true, false) => {
            let install = INSTALL.join(" ");
            Some(format!("Debian packages are missing; run: sudo apt-get {install} {names}"))
        }
        (true, true) => None,
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_cannot_install_is_told_the_one_line_to_run() {
        let missing = ["gcc", "python3-venv"];
        assert_eq!(advice(&missing, true, true), None, "root installs");
        let told = advice(&missing, true, false).unwrap();
        let line = "sudo apt-get install --yes --no-install-recommends gcc python3-venv";
        assert_eq!(told, format!("Debian packages are missing; run: {line}"));
        let elsewhere = advice(&missing, false, true).unwrap();
        assert_eq!(elsewhere, "missing, by their Debian names: gcc python3-venv");
    }

    #[test]
    fn a_package_is_missing_where_its_probe_fails() {
        let needed = |probe| Needed { probe, package: "nothing" };
        assert!(needed(&["true"]).is_there());
        assert!(!needed(&["false"]).is_there());
        assert!(!needed(&["/nonexistent/program"]).is_there());
    }
}
