//! Command line.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

use confide_attester::Nature;
use confide_egress::run_broker;
use confide_egress::seccomp::{self, Reach};
use confide_engine::process::{ChildError, run_child};

use crate::boot::{self, BootError, Way, settings};
use crate::config::Config;
use crate::egress::EgressCommand;
use crate::error::GuestError;
use crate::{marking, serve};

/// Serve a model from inside a confidential VM, over attested TLS
///
/// Exit status: 0 done, 2 wrong usage or configuration, 30 an egress policy (--policy) that is malformed, 1 anything else, such as a
/// file that cannot be read; `egress test` says with 10 that a destination is denied.
#[derive(Debug, Parser)]
#[command(name = "confide-guest", version, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure the boot, load the model, draw keys and serve until SIGTERM or SIGINT
    // The manual's own synopsis would name no value.
    #[command(override_usage = "confide-guest serve --config <FILE>")]
    Serve {
        /// Configuration file, TOML
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Set up the virtual machine that this runs in, open its volumes with keys from a broker, and serve
    ///
    /// For an image: it sets the clock, replaces the firewall's rules and mounts volumes of the machine it runs on, and then gives
    /// up its privileges. It tells each step on standard output, and why it ended on the console and to the broker. Named `init`
    /// and started as process 1, the program mounts what an image needs, loads its modules and closes the kernel before that,
    /// and switches the machine off afterwards.
    Boot {
        /// Configuration, a file or a disk; by default /etc/confide/guest.toml, or else the disk whose serial is `config`
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Read a configuration file and say whether `serve` or `boot` would take it
    ///
    /// Nothing is looked at but the file and the egress policy that it names: whether platform, model folder and address are there shows when the guest starts. The
    /// digests are those that policies name: of the deciding settings, and of the egress policy under `boot`. An egress policy is read
    /// from the path that the configuration names, on the machine that this runs on: off the image, give its text in the field
    /// `inline` of [egress], which has the same digests.
    #[command(override_usage = "confide-guest check --config <FILE>")]
    Check {
        /// Configuration file, TOML
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    #[command(subcommand)]
    Egress(EgressCommand),
    /// Run the engine of a guest: `serve` starts this with a socket as standard input
    #[command(hide = true)]
    Engine {
        /// Model folder
        model: PathBuf,
    },
    /// Run the egress broker of a guest: `boot` starts this with a socket as standard input
    #[command(hide = true)]
    EgressBroker {
        /// As `log.format` of the guest's configuration
        #[arg(long)]
        log_format: String,
        /// As `log.filter` of the guest's configuration
        #[arg(long)]
        log_filter: String,
        /// Whether the guest is simulated, which its log lines say
        #[arg(long)]
        simulated: bool,
    },
    /// Print a shell completion script
    Completions {
        /// Shell
        shell: clap_complete::Shell,
    },
    /// Print the manual pages, or write them to a folder
    #[command(override_usage = "confide-guest man [--dir <DIR>]")]
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
    if boot::init::is_process_one() {
        return boot::init::run();
    }
    match Cli::parse().command.run() {
        Ok(status) => status,
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

/// Says that a file is a configuration, and by which digests policies know it.
fn check(path: &Path) -> Result<(), GuestError> {
    let config = Config::load(path)?;
    let mut text = format!("{}: valid\n", path.display());
    if !config.needs_boot() {
        text.push_str(&format!("configuration under serve: {}\n", settings(&config, Way::Serve).digest()));
    }
    match config.check_boot() {
        Ok(()) => {
            text.push_str(&format!("configuration under boot: {}\n", settings(&config, Way::Boot).digest()));
            text.push_str(&format!("egress policy under boot: {}\n", config.egress_policy().digest()));
        }
        Err(error) if config.needs_boot() => return Err(error),
        Err(error) => {
            text.push_str(&format!("refused under boot: {} [{}]\n", error.sentence(), error.code()))
        }
    }
    io::stdout().write_all(text.as_bytes()).map_err(GuestError::Output)
}

impl Command {
    fn run(self) -> Result<ExitCode, GuestError> {
        match self {
            Self::Serve { config } => serve::run(&Config::load(&config)?),
            Self::Boot { config } => boot::run(config.as_deref()),
            Self::Check { config } => check(&config),
            Self::Egress(command) => return command.run(),
            Self::Engine { model } => {
                Ok(run_child(&model, || seccomp::confine(Reach::Nothing).map(Into::into))?)
            }
            Self::EgressBroker { log_format, log_filter, simulated } => {
                let nature = if simulated { Nature::Simulated } else { Nature::Hardware };
                marking::install(log_format.parse()?, log_filter.parse()?, nature)?;
                Ok(run_broker().map_err(BootError::from)?)
            }
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
        .map(|()| ExitCode::SUCCESS)
    }
}
