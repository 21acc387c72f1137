//! The program `confide-guest`: attested inference inside a confidential VM.
//!
//! Layer 7. `serve` measures its boot, loads a model into the child process `confide-guest engine`, draws keys in memory,
//! and answers an OpenAI-compatible API over attested TLS alone. Keys, TLS and evidence stay in the parent; the child
//! holds one socket and the model. `boot` comes before that in an image: it sets up the machine, gets the keys of volumes from
//! a broker, locks egress and opens the volumes. As `/init` the program is the image's process 1.
//!
//! Where the configuration has a table of GPUs, `serve` appraises them before they take work: a guest does not judge itself,
//! its own GPUs excepted.
//!
//! Text of prompts and completions is never logged.

#![cfg_attr(
    not(test),
    warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)
)]

pub mod api;
mod attestation;
mod batches;
mod boot;
mod cli;
pub mod codes;
mod config;
mod confinement;
mod egress;
mod endorsements;
mod error;
#[cfg(feature = "danger-simulator")]
mod fixed;
mod gpu_staple;
mod gpus;
mod http2;
mod marking;
pub mod receipts;
mod serve;
mod server;
mod status;
mod supervision;

pub use boot::BootError;
pub use cli::{command, run};
pub use config::Config;
