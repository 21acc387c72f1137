//! What every long-running program needs and no domain shapes.
//!
//! Layer 4. [`close_to_debuggers`] is what a process that holds keys or prompts does first. [`config`] reads TOML into closed types, with errors that name the field and the line. [`logging`]
//! writes events to standard error, as text or JSON, and keeps what other crates say at `debug` and `trace` out,
//! so that no log level shows content. [`Lifecycle`] tells whether the program is starting, ready or draining,
//! and counts the work that a drain waits for. [`refusals`] gives the answers of an HTTP server to requests that no
//! service has seen the form of OpenAI's API. [`metrics`] counts, and tells it as Prometheus reads. [`WriteLimit`] gives up peers that do not read.

#![cfg_attr(
    not(test),
    warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)
)]

mod closed;
pub mod config;
mod lifecycle;
pub mod logging;
pub mod metrics;
pub mod refusals;
mod write_limit;

pub use closed::close_to_debuggers;
pub use config::ConfigError;
pub use lifecycle::{Lifecycle, Phase, Work};
pub use write_limit::WriteLimit;
