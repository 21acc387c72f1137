//! `confide policy`: checking, comparing, explaining and signing.

mod check;
mod diff;
mod explain;
pub(crate) mod sign;

use crate::input::{self, LoadedPolicy};
use crate::status::{Failure, Status};
use clap::Subcommand;
use confide_policy::Loaded;
use rustls_pki_types::UnixTime;
use std::path::{Path, PathBuf};

/// Work with appraisal policies.
#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Read policy files and say what they waive
    ///
    /// Beside waivers and graces it warns of what accepts nothing or is not looked at. Files named danger-*.toml are
    /// read as danger policies.
    Check {
        /// Policy files
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Time at which graces are looked at, RFC 3339; without it, now
        #[arg(long, value_name = "TIME", value_parser = input::time)]
        at: Option<UnixTime>,
    },
    /// Say what changes for whoever goes from one policy to another, field by field
    ///
    /// Exit status: 0 where the second policy accepts nothing that the first refuses, 10 where it is looser or cannot be
    /// compared in some field.
    Diff {
        /// The policy before
        before: PathBuf,
        /// The policy after
        after: PathBuf,
    },
    /// Say in sentences what a policy accepts
    Explain {
        /// Policy file
        file: PathBuf,
    },
    /// Sign a file of reference values
    ///
    /// The signature covers the exact bytes of the file and is written beside it, as FILE.sig. Printed is the public key
    /// as policies name it.
    Sign {
        /// Private key: Ed25519 or ECDSA P-256, PKCS#8, PEM or DER
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// File of reference values
        file: PathBuf,
    },
}

impl PolicyCommand {
    pub(crate) fn run(self) -> Result<Status, Failure> {
        match self {
            Self::Check { files, at } => {
                files.iter().try_for_each(|file| check::run(file, at.unwrap_or_else(input::now)))?;
                Ok(Status::Accepted)
            }
            Self::Diff { before, after } => diff::run(&before, &after),
            Self::Explain { file } => explain::run(&file),
            Self::Sign { key, file } => sign::run(&key, &file),
        }
    }
}

/// Reads a policy, a danger policy by its name.
fn read(file: &Path) -> Result<LoadedPolicy, Failure> {
    let name = file.file_name().and_then(|name| name.to_str());
    if name.is_some_and(|name| name.starts_with("danger-")) {
        input::load_danger(file)
    } else {
        input::load(file, Loaded::Normally)
    }
}
