//! `confide`: verify confidential inference on your own machine, then use it.
//!
//! Exit status of every form of `verify`, and of what attests first: 0 accepted, 10 rejected, 20 unsupported format,
//! 30 malformed input, 2 wrong usage, 1 internal error (unreadable file, network fault).

mod amd;
mod audit;
mod chat;
mod cli;
mod codes;
mod collateral;
mod conformance;
mod cross_check;
mod doctor;
mod endorser;
mod gpu;
mod guest;
mod input;
mod inspect;
mod policy;
mod proxy;
pub mod readers;
mod record;
mod record_live;
mod recorder;
mod references;
pub mod render;
mod replay;
mod rim;
mod snp;
mod status;
mod verify;

pub use cli::command;
pub use codes::CODES;
pub use doctor::DOCTOR;
pub use status::Failure;

use clap::Parser as _;
use std::process::ExitCode;

/// Runs the program with the process's arguments.
#[must_use]
pub fn run() -> ExitCode {
    let cli = cli::Cli::parse();
    match cli.run().and_then(|status| render::unwritten().map_or(Ok(status), Err)) {
        Ok(status) => status.into(),
        Err(failure) => {
            render::failure(&failure);
            failure.status().into()
        }
    }
}
