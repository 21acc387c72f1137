//! `confide policy`: checking, comparing, explaining and signing.

mod check;
mod diff;
mod egress;
mod explain;
pub(crate) mod sign;

use crate::input::{self, LoadedPolicy};
use crate::render;
use crate::status::{Failure, Status};
use clap::Subcommand;
use confide_evidence::text::escape_json;
use confide_policy::Loaded;
use rustls_pki_types::UnixTime;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Work with appraisal policies.
#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Read policy files and say what they waive
    ///
    /// Beside waivers and graces it warns of what accepts nothing or is not looked at. Files named danger-*.toml are
    /// read as danger policies. Of an egress policy, which a file is by its field `format`, it tells the digest by which other
    /// policies know it, and warns of rules by which the host sees what leaves a guest or may answer it.
    Check {
        /// Policy files
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Time at which graces are looked at, RFC 3339; without it, now
        #[arg(long, value_name = "TIME", value_parser = input::time)]
        at: Option<UnixTime>,
        /// Print one JSON object a line for each file
        #[arg(long)]
        json: bool,
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
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Say in sentences what a policy accepts
    Explain {
        /// Policy file
        file: PathBuf,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
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
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
}

impl PolicyCommand {
    pub(crate) fn run(self) -> Result<Status, Failure> {
        match self {
            Self::Check { files, at, json } => {
                let (at, form) = (at.unwrap_or_else(input::now), Form::of(json));
                files.iter().try_for_each(|file| check::run(file, form, at))?;
                Ok(Status::Accepted)
            }
            Self::Diff { before, after, json } => diff::run(&before, &after, Form::of(json)),
            Self::Explain { file, json } => explain::run(&file, Form::of(json)),
            Self::Sign { key, file, json } => sign::run(&key, &file, Form::of(json)),
        }
    }
}

/// How a command prints what it finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Lines to read.
    Text,
    /// One JSON object on a line.
    Json,
}

impl Form {
    fn of(json: bool) -> Self {
        if json { Self::Json } else { Self::Text }
    }
}

/// Prints one JSON object on a line.
fn print(value: &Value) {
    render::line(&escape_json(value.to_string()));
}

/// Reads a policy, a danger policy by its name.
fn read(file: &Path) -> Result<LoadedPolicy, Failure> {
    if is_danger(file) { input::load_danger(file) } else { input::load(file, Loaded::Normally) }
}

/// Reads the policy text of a file, a danger policy by the file's name.
fn parse(file: &Path, text: String) -> Result<LoadedPolicy, Failure> {
    if is_danger(file) {
        input::check_danger_name(file)?;
        input::parse(file, text, Loaded::AsDanger)
    } else {
        input::parse(file, text, Loaded::Normally)
    }
}

fn is_danger(file: &Path) -> bool {
    let name = file.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| name.starts_with("danger-"))
}
