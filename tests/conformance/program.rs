//! Running the program over many cases.

use serde_json::Value;
use std::io::{Seek as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

/// What the program said of a stream of cases.
pub(crate) struct Run {
    pub(crate) status: i32,
    /// One object for each case.
    pub(crate) reports: Vec<Value>,
    pub(crate) stderr: String,
}

/// Runs `confide conformance` with these flags over this standard input.
pub(crate) fn conformance(flags: &[&str], base: &Path, input: &str) -> Run {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(input.as_bytes()).unwrap();
    file.rewind().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_confide"))
        .arg("conformance")
        .args(flags)
        .arg("--base")
        .arg(base)
        .stdin(Stdio::from(file))
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    Run {
        status: output.status.code().unwrap(),
        reports: text.lines().map(|line| serde_json::from_str(line).unwrap()).collect(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Asserts that every one of `count` cases is met.
pub(crate) fn assert_met(run: &Run, count: usize) {
    let unmet: Vec<String> = run
        .reports
        .iter()
        .filter(|report| report["met"] != true)
        .map(|report| format!("{}: {} {}", report["case"], report["differences"], report["error"]))
        .collect();
    assert!(unmet.is_empty(), "{} cases are not met:\n{}\n{}", unmet.len(), unmet.join("\n"), run.stderr);
    assert_eq!((run.reports.len(), run.status), (count, 0), "{}", run.stderr);
}
