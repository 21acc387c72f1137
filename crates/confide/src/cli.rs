//! Command line.

use crate::collateral::CollateralCommand;
use crate::input::{self, PolicyFlags};
use crate::log::LogFlags;
use crate::render::Shown;
use crate::rim::RimCommand;
use crate::settings::Named;
use crate::status::{Failure, Status};
use crate::{
    audit, chat, config, conformance, doctor, help, inspect, manual, policy, proxy, record, render, replay,
    settings, verify,
};
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use rustls_pki_types::UnixTime;
use std::ffi::OsString;
use std::path::PathBuf;

/// Verify confidential inference on your own machine, then use it
#[derive(Debug, Parser)]
#[command(name = "confide", version, max_term_width = 110)]
pub(crate) struct Cli {
    /// Configuration file, whose settings stand for flags that are not given; without it the one that CONFIDE_CONFIG names,
    /// else confide/config.toml in $XDG_CONFIG_HOME or ~/.config
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

// A variant's own comment would hide that of its arguments, whose further paragraphs are for `--help`.
#[derive(Debug, Subcommand)]
enum Command {
    Verify(Box<verify::Verify>),
    Chat(chat::Chat),
    Proxy(proxy::Proxy),
    Record(Box<record::RecordCommand>),
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
    #[command(subcommand)]
    Config(config::ConfigCommand),
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
    help::with_examples(Cli::command())
}

impl Cli {
    /// Reads the process's arguments and the settings that stand for those that are not given, and gives the files that
    /// settings name. Wrong usage ends the process, and so does a question for help.
    ///
    /// # Errors
    /// A configuration that cannot be used.
    pub(crate) fn read(given: Vec<OsString>) -> Result<(Self, Vec<Named>), Failure> {
        let (words, named) = settings::with_settings(&command(), given)?;
        let parsed = command().try_get_matches_from(words);
        let parsed = parsed.and_then(|matches| Self::from_arg_matches(&matches));
        Ok((parsed.unwrap_or_else(|error| error.exit()), named))
    }

    pub(crate) fn run(self) -> Result<Status, Failure> {
        let log = match &self.command {
            Command::Verify(command) => Some(command.log()),
            Command::Chat(command) => Some(&command.log),
            Command::Proxy(command) => Some(&command.log),
            Command::Record(command) => Some(command.log()),
            _ => None,
        };
        log.unwrap_or(&LogFlags::default()).install()?;
        match self.command {
            Command::Verify(command) => command.run(),
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
            Command::Config(command) => command.run(self.config.as_deref()),
            Command::Completions { shell } => {
                // The generator panics where it cannot write: a closed pipe must not make it.
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut command(), "confide", &mut script);
                render::bytes(&script);
                Ok(Status::Accepted)
            }
            Command::Man { dir } => manual::run(dir.as_deref()),
        }
    }
}
