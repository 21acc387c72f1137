//! What this program reads that anybody may have written, as functions of bytes: what fuzzers run.

use crate::references;

/// Whether the state file of signed reference values can be read. One that cannot is an error, as it guards against older
/// files.
#[must_use]
pub fn reads_reference_state(bytes: &[u8]) -> bool {
    references::reads(bytes)
}
