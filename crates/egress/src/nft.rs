//! The program `nft`, which puts rules into force.

use std::io::{self, Write as _};
use std::process::{Command, Stdio};

use crate::namespace::NetworkThread;
use crate::plan::Ruleset;

/// Where it lies.
const PROGRAM: &str = "/usr/sbin/nft";

/// Puts rules into force in this thread's network: all of them, in the place of those that were there, or none.
///
/// # Errors
/// Those of the system, and what the program says.
pub(crate) fn load(rules: &Ruleset) -> io::Result<()> {
    run(&["-f", "-"], rules.text().as_bytes()).map(drop)
}

/// The rules that are in force in this thread's network, as the program writes them: without what they have counted, and without
/// names for numbers.
fn in_force() -> io::Result<String> {
    run(&["--stateless", "--numeric", "list", "ruleset"], b"")
}

/// Whether these rules, and no others, are in force in this thread's network. What the program writes depends on its version and
/// the kernel's: the rules are put into force where nobody else is, and what it writes there is compared.
///
/// # Errors
/// Those of the system, and what the program says.
pub(crate) fn is_in_force(rules: &Ruleset) -> io::Result<bool> {
    let found = in_force()?;
    let rules = rules.clone();
    let nowhere = NetworkThread::start("rules")?;
    let expected = nowhere.run(move || load(&rules).and_then(|()| in_force()))??;
    Ok(found == expected)
}

/// Runs the program with `input`, and without a variable of the environment; returns what it writes.
fn run(arguments: &[&str], input: &[u8]) -> io::Result<String> {
    let mut command = Command::new(PROGRAM);
    command.args(arguments).env_clear();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{PROGRAM}: {error}"));
    let mut child = command.spawn().map_err(named)?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input).map_err(named)?;
    }
    let output = child.wait_with_output().map_err(named)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let line = said.lines().next().unwrap_or_default();
        return Err(io::Error::other(format!("{PROGRAM}: {}: {line}", output.status)));
    }
    String::from_utf8(output.stdout).map_err(io::Error::other)
}
