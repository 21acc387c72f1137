//! Command line.

use crate::collateral::CollateralCommand;
use crate::input::{self, PolicyFlags};
use crate::render::Shown;
use crate::rim::RimCommand;
use crate::status::{Failure, Status};
use crate::{
    audit, chat, conformance, doctor, gpu, inspect, policy, proxy, record, render, replay, snp, verify,
};
use clap::{CommandFactory as _, Parser, Subcommand};
use rustls_pki_types::UnixTime;
use std::path::PathBuf;

/// Verify confidential inference on your own machine, then use it
///
/// Exit status: 0 accepted or done, 10 rejected, 20 unsupported format, 30 malformed input, 2 wrong usage, 1 internal
/// error (unreadable file, network fault).
#[derive(Debug, Parser)]
#[command(name = "confide", version, max_term_width = 110)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

// A variant's own comment would hide that of its arguments, whose further paragraphs are for `--help`.
#[derive(Debug, Subcommand)]
enum Command {
    /// Appraise evidence from files, at a given time
    #[command(subcommand)]
    Verify(Verify),
    Chat(chat::Chat),
    Proxy(proxy::Proxy),
    Record(record::RecordCommand),
    Replay(replay::Replay),
    Audit(audit::Audit),
    Inspect(inspect::Inspect),
    #[command(subcommand)]
    Collateral(CollateralCommand),
    #[command(subcommand)]
    Rim(RimCommand),
    /// Work with appraisal policies
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    Conformance(conformance::Conformance),
    Doctor(Box<doctor::Doctor>),
    /// Print a shell completion script
    Completions {
        /// Shell
        shell: clap_complete::Shell,
    },
    /// Print the manual pages, or write them to a folder
    Man {
        /// Folder to write one page per command to; it is made where it is missing
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
enum Verify {
    Quote(verify::Quote),
    Snp(snp::Snp),
    Gpu(gpu::Gpu),
    Document(verify::Document),
}

/// When the appraisal takes place, and how it is shown.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Appraising {
    /// Time of the appraisal, RFC 3339
    #[arg(long, value_name = "TIME", value_parser = input::time)]
    pub(crate) at: UnixTime,
    #[command(flatten)]
    pub(crate) policy: PolicyFlags,
    #[command(flatten)]
    pub(crate) shown: Shown,
}

/// The command-line interface, for completions, manual pages and tests.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

impl Cli {
    pub(crate) fn run(self) -> Result<Status, Failure> {
        match self.command {
            Command::Verify(Verify::Quote(command)) => command.run(),
            Command::Verify(Verify::Snp(command)) => command.run(),
            Command::Verify(Verify::Gpu(command)) => command.run(),
            Command::Verify(Verify::Document(command)) => command.run(),
            Command::Chat(command) => command.run(),
            Command::Proxy(command) => command.run(),
            Command::Record(command) => command.run(),
            Command::Replay(command) => command.run(),
            Command::Audit(command) => command.run(),
            Command::Inspect(command) => command.run(),
            Command::Collateral(command) => command.run(),
            Command::Rim(command) => command.run(),
            Command::Policy(command) => command.run(),
            Command::Conformance(command) => command.run(),
            Command::Doctor(command) => command.run(),
            Command::Completions { shell } => {
                // The generator panics where it cannot write: a closed pipe must not make it.
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut command(), "confide", &mut script);
                render::bytes(&script);
                Ok(Status::Accepted)
            }
            Command::Man { dir } => manual(dir),
        }
    }
}

fn manual(dir: Option<PathBuf>) -> Result<Status, Failure> {
    if let Some(dir) = dir {
        let fault = |error: std::io::Error| {
            Failure::new(Status::Internal, "file_unwritable", format!("{}: {error}", dir.display()))
        };
        std::fs::create_dir_all(&dir).map_err(fault)?;
        clap_mangen::generate_to(command(), &dir).map_err(fault)?;
        return Ok(Status::Accepted);
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(command())
        .render(&mut page)
        .map_err(|error| Failure::new(Status::Internal, "file_unwritable", error.to_string()))?;
    render::bytes(&page);
    Ok(Status::Accepted)
}
