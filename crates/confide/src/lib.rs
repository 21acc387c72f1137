//! `confide`: verify confidential inference on your own machine, then use it.
//!
//! How it ends: [`VERDICT_STATUSES`] and [`WORK_STATUSES`], which `docs/exit-statuses.md` describes.

#![cfg_attr(
    not(test),
    warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)
)]

mod amd;
mod audit;
mod chat;
mod cli;
mod codes;
mod collateral;
mod config;
mod conformance;
mod cross_check;
mod doctor;
mod endorser;
mod gpu;
mod guest;
mod help;
mod input;
mod inspect;
mod live;
mod log;
mod manual;
mod policy;
mod proxy;
pub mod readers;
mod record;
mod recorder;
mod references;
pub mod render;
mod replay;
mod rim;
mod settings;
mod snp;
mod status;
mod verify;

pub use cli::command;
pub use codes::CODES;
pub use doctor::DOCTOR;
pub use settings::{SETTINGS, Setting};
pub use status::{Failure, Status, VERDICT_STATUSES, WORK_STATUSES};

use std::ffi::OsString;
use std::process::ExitCode;

/// Runs the program with the process's arguments.
#[must_use]
pub fn run() -> ExitCode {
    let given: Vec<OsString> = std::env::args_os().collect();
    let done = cli::Cli::read(given.clone()).and_then(|(command, named)| {
        let told = |failure| named.iter().fold(failure, |failure, named| named.tell(failure));
        command.run().map_err(told)
    });
    match done.and_then(|status| render::unwritten().map_or(Ok(status), Err)) {
        Ok(status) => status.into(),
        Err(failure) => {
            render::failure(&failure);
            if settings::asks_for_json(&command(), &given) {
                render::failure_as_json(&failure);
            }
            failure.status().into()
        }
    }
}
