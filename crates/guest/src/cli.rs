//! Command line.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

use confide_engine::process::ChildError;

use crate::config::Config;
use crate::error::GuestError;
use crate::serve;

/// Serve a model from inside a confidential VM, over attested TLS
///
/// Exit status: 0 done, 2 wrong usage or configuration, 1 anything else, such as a file that cannot be read.
#[derive(Debug, Parser)]
#[command(name = "confide-guest", version, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure the boot, load the model, draw keys and serve until SIGTERM or SIGINT
    Serve {
        /// Configuration file, TOML
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Read a configuration file and say whether `serve` would take it
    ///
    /// Nothing but the file is looked at: whether platform, model folder and address are there shows when the guest starts.
    Check {
        /// Configuration file, TOML
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Run the engine of a guest: `serve` starts this with a socket as standard input
    #[command(hide = true)]
    Engine {
        /// Model folder
        model: PathBuf,
    },
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

/// The command-line interface, for completions, manual pages and tests.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs the program.
#[must_use]
pub fn run() -> ExitCode {
    match Cli::parse().command.run() {
        Ok(()) => ExitCode::SUCCESS,
        // The guest that started this engine was told, and says it.
        Err(error @ GuestError::EngineChild(ChildError::Model(_))) => error.exit_code(),
        Err(error) => {
            // Nobody is left to tell when standard error is closed.
            let _ = writeln!(io::stderr(), "error: {} [{}]", error.sentence(), error.code());
            if let Some(action) = error.action() {
                let _ = writeln!(io::stderr(), "  {action}");
            }
            error.exit_code()
        }
    }
}

impl Command {
    fn run(self) -> Result<(), GuestError> {
        match self {
            Self::Serve { config } => serve::run(Config::load(&config)?),
            Self::Check { config } => {
                Config::load(&config)?;
                writeln!(io::stdout(), "{}: valid", config.display()).map_err(GuestError::Output)
            }
            Self::Engine { model } => Ok(confide_engine::process::run_child(&model)?),
            Self::Completions { shell } => {
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut command(), "confide-guest", &mut script);
                io::stdout().write_all(&script).map_err(GuestError::Output)
            }
            Self::Man { dir: Some(dir) } => {
                let fault = |source| GuestError::Manual { folder: dir.display().to_string(), source };
                std::fs::create_dir_all(&dir).map_err(fault)?;
                clap_mangen::generate_to(command(), &dir).map_err(fault)
            }
            Self::Man { dir: None } => {
                clap_mangen::Man::new(command()).render(&mut io::stdout()).map_err(GuestError::Output)
            }
        }
    }
}
