//! NVIDIA's libraries NVML and NSCQ for tests: a shared library with the functions that attestation calls.
//!
//! It answers from a scenario: a JSON file of a [`Scenario`] whose path stands in the environment variable [`VARIABLE`],
//! read once by the first call. Each call is written to a journal beside that file ([`journal`]), in order, so that a test
//! sees what was done to the GPUs. Structures and numbers are written here anew from NVIDIA's headers and shared with no
//! caller.
//!
//! Simulated devices sign the caller's nonce under keys that everybody has; recorded ones give the same bytes to every
//! nonce. Neither is a GPU: only a `danger` constructor loads this library.

mod nscq;
mod nvml;
mod scenario;
mod state;

use std::path::{Path, PathBuf};

pub use scenario::{Device, Effect, Fault, Machine, Scenario, Source};

/// The environment variable that names the scenario's file.
pub const VARIABLE: &str = "CONFIDE_NVIDIA_EMULATOR";

/// The journal of a scenario: one line for each call, its name and, where it has one, its number.
#[must_use]
pub fn journal(scenario: &Path) -> PathBuf {
    scenario.with_extension("journal")
}

/// The shared library beside a test's own program, where Cargo builds it.
///
/// # Errors
/// When the program's path is unknown, or the library is not there.
pub fn library() -> std::io::Result<PathBuf> {
    let program = std::env::current_exe()?;
    let library = program.with_file_name(format!(
        "{}confide_nvidia_emulator{}",
        std::env::consts::DLL_PREFIX,
        std::env::consts::DLL_SUFFIX
    ));
    if library.is_file() {
        return Ok(library);
    }
    let said = format!("{} is not there: build it with Cargo", library.display());
    Err(std::io::Error::new(std::io::ErrorKind::NotFound, said))
}
