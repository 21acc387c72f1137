//! What this program reads that anybody may have written, as functions of bytes: what fuzzers run.

use crate::conformance;
use crate::inspect;
use crate::references;
use std::path::PathBuf;

/// The line that `confide conformance --danger` prints for a case, of which no file is there.
#[must_use]
pub fn conformance_case(text: &str) -> String {
    conformance::line(text, PathBuf::from("/nonexistent"))
}

/// Whether the state file of signed reference values can be read. One that cannot is an error, as it guards against older
/// files.
#[must_use]
pub fn reads_reference_state(bytes: &[u8]) -> bool {
    references::reads(bytes)
}

/// The lines that `confide inspect` prints of a file, as text and as JSON; none where it has no form.
#[must_use]
pub fn inspected(bytes: &[u8]) -> Vec<String> {
    inspect::lines(bytes)
}
