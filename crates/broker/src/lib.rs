//! The program `confide-broker`: releases the keys of volumes to attested guests alone.
//!
//! Layer 7. A guest that boots asks for a challenge, answers it with evidence of the role `key-release`, and gets the secrets
//! of its volumes sealed to a key that the evidence is bound to, in an answer that the broker's identity key signs. The
//! identity key is what the guest measures before anything else, and what the broker's TLS certificate is made of.
//!
//! Every decision stands in the audit log before it is told, with the record of the appraisal that explains it. Keys lie in
//! the database sealed under a key-encryption key, and nowhere else. No secret is logged, shown or told.

#![cfg_attr(
    not(test),
    warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)
)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests"))]

mod appraisal;
pub mod audit;
mod broker;
mod cli;
pub mod codes;
mod config;
mod denial;
mod endorsements;
mod error;
mod help;
pub mod identity;
mod image;
pub mod kek;
mod notes;
pub mod owner;
mod policy;
mod rate;
mod serve;
mod server;
pub mod store;
mod terms;
mod volumes;

pub use broker::{Broker, DangerPolicies};
pub use cli::{command, run};
pub use config::Config;
pub use denial::Denial;
pub use error::BrokerError;
