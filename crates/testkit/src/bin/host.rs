//! The host of virtual machines that play TDX guests: its SIMULATED quoting service, and what it does to disks and
//! to what passes between guests and their broker.
#![expect(clippy::print_stdout, reason = "a program that reports to its caller")]

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use confide_testkit::disk;
use confide_testkit::quoting::{Behaviour, Launch, QuotingService, listen};
use confide_testkit::replay::Replaying;
use confide_testkit::swapped::Swapped;

/// Plays the host of virtual machines: signs SIMULATED quotes over what they are really started with, changes their disks and replays what their broker said
#[derive(Parser)]
#[command(name = "confide-host")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Write the event log that firmware would leave of a launch, and print the measurements as one JSON object
    Measure {
        /// The kernel
        #[arg(long, value_name = "FILE")]
        kernel: PathBuf,
        /// The initial file system
        #[arg(long, value_name = "FILE")]
        initrd: PathBuf,
        /// The kernel's command line
        #[arg(long, value_name = "TEXT")]
        command_line: String,
        /// Where in memory the log lies, in bytes
        #[arg(long)]
        address: u64,
        /// Folder for `log.bin`, the log, and `ccel.bin`, the body of the table that points to it
        #[arg(long, value_name = "DIR")]
        folder: PathBuf,
    },
    /// Write what endorses the platform, as collateral in JSON
    Collateral {
        /// When the platform is up to date, Unix seconds
        #[arg(long, value_name = "SECONDS")]
        at: u64,
        /// Where to write it
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Print a line, and serve the virtual machines that connect
    Quote {
        /// The socket to make
        #[arg(long, value_name = "FILE")]
        socket: PathBuf,
        /// When the platform is up to date, Unix seconds
        #[arg(long, value_name = "SECONDS")]
        at: u64,
        /// What to do with requests
        #[arg(long, value_enum, default_value_t)]
        behaviour: Behaviour,
    },
    /// Print a line, and serve a disk to one virtual machine by NBD: its first bytes are another disk's once they were read
    Swap {
        /// What is read at first
        #[arg(long, value_name = "FILE")]
        first: PathBuf,
        /// What the first bytes are later
        #[arg(long, value_name = "FILE")]
        later: PathBuf,
        /// How many bytes
        #[arg(long)]
        beginning: u64,
        /// The socket to make
        #[arg(long, value_name = "FILE")]
        socket: PathBuf,
        /// A file to make once the first bytes are others
        #[arg(long, value_name = "FILE")]
        told: PathBuf,
    },
    /// Print a line, and stand between guests and their broker with its own key: later boots are given what the first one had
    Replay {
        /// Where to listen
        #[arg(long, value_name = "ADDRESS")]
        listen: SocketAddr,
        /// The broker
        #[arg(long, value_name = "ADDRESS")]
        broker: SocketAddr,
        /// Its identity key
        #[arg(long, value_name = "FILE")]
        identity: PathBuf,
    },
    /// Rewrite the headers of a LUKS2 volume so that it names no cipher
    NullCipher {
        /// The volume
        #[arg(value_name = "FILE")]
        volume: PathBuf,
    },
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    match Arguments::parse().task {
        Task::Measure { kernel, initrd, command_line, address, folder } => {
            let launch = Launch::measure(&kernel, &initrd, &command_line)?;
            let (log, pointer) = launch.event_log_tables(address);
            write(&folder.join("log.bin"), &log)?;
            write(&folder.join("ccel.bin"), &pointer)?;
            println!("{}", launch.reference_values());
            Ok(())
        }
        Task::Collateral { at, out } => {
            let service = QuotingService::new(Behaviour::Honest, at)?;
            write(&out, service.collateral().as_bytes())
        }
        Task::Quote { socket, at, behaviour } => {
            let mut service = QuotingService::new(behaviour, at)?;
            let listener = listen(&socket)?;
            println!("listens");
            service.serve(&listener).await
        }
        Task::Swap { first, later, beginning, socket, told } => {
            let (first, later) = (fs::File::open(first)?, fs::File::open(later)?);
            let mut disk = Swapped::new(first, later, beginning, Some(told))?;
            let listener = std::os::unix::net::UnixListener::bind(socket)?;
            println!("listens");
            disk.serve(listener.accept()?.0)
        }
        Task::Replay { listen, broker, identity } => {
            let replaying = Replaying::new(broker, &identity)?;
            let listener = tokio::net::TcpListener::bind(listen).await?;
            println!("listens");
            replaying.serve(listener).await
        }
        Task::NullCipher { volume } => disk::null_cipher(&volume),
    }
}

fn write(file: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(file, bytes).with_context(|| format!("writing {}", file.display()))
}
