//! Programs that the tests compare with.

use std::ffi::OsStr;
use std::process::{Command, Stdio};

/// Runs a program of Debian's cryptsetup-bin, and returns its standard output; its failure where it fails.
pub(crate) fn tried(program: &str, arguments: &[&dyn AsRef<OsStr>]) -> Result<Vec<u8>, String> {
    let mut command = Command::new(program);
    command.args(arguments.iter().map(|one| one.as_ref())).stdin(Stdio::null());
    command.env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin").env("LC_ALL", "C");
    let output =
        command.output().unwrap_or_else(|error| panic!("install cryptsetup-bin: {program}: {error}"));
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(format!("{program}: {} {}", output.status, String::from_utf8_lossy(&output.stderr)))
}

/// [`tried`], where it must succeed.
pub(crate) fn run(program: &str, arguments: &[&dyn AsRef<OsStr>]) -> Vec<u8> {
    tried(program, arguments).unwrap_or_else(|error| panic!("{error}"))
}
