//! The program `confide-guest`: attested inference inside a confidential VM.
//!
//! Layer 7. `serve` measures its boot, loads a model into the child process `confide-guest engine`, draws keys in memory,
//! and answers an OpenAI-compatible API over attested TLS alone. Keys, TLS and evidence stay in the parent; the child
//! holds one socket and the model.
//!
//! Where the configuration has a table of GPUs, `serve` appraises them before they take work: a guest does not judge itself,
//! its own GPUs excepted.
//!
//! Text of prompts and completions is never logged.

pub mod api;
mod attestation;
mod batches;
mod boot;
mod cli;
pub mod codes;
mod config;
mod endorsements;
mod error;
#[cfg(feature = "danger-simulator")]
mod fixed;
mod gpu_endorsements;
mod gpus;
mod http2;
mod marking;
pub mod receipts;
mod serve;
mod server;

pub use cli::{command, run};
pub use config::Config;
