//! Appraisal policies: `policies/*.toml` to closed types.
//!
//! A policy says what a verdict needs. Every field that a verdict can rest on has an expectation: a set of values, the
//! value that the verifier recomputes, or a waiver with its reason, which every verdict repeats. Nothing is optional, so
//! nothing is left unlooked at by omission.
//!
//! This crate is pure: no clock, file, network, environment or random source.

#![cfg_attr(
    not(test),
    warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)
)]

mod anchor;
mod appraisal;
mod bound;
mod broker;
mod claims;
mod danger;
mod devices;
pub mod egress;
mod error;
mod expect;
mod field;
mod floor;
mod form;
mod freshness;
mod grace;
mod hardware;
mod machine;
mod models;
mod moment;
mod reason;
mod reference;
mod says;
mod snp;
mod tdx;

pub use anchor::*;
pub use appraisal::*;
pub use bound::*;
pub use broker::*;
pub use claims::*;
pub use danger::*;
pub use devices::*;
pub use error::*;
pub use expect::*;
pub use field::*;
pub use floor::*;
pub use freshness::*;
pub use grace::*;
pub use hardware::*;
pub use machine::*;
pub use models::*;
pub use moment::*;
pub use reason::*;
pub use reference::*;
pub use says::*;
pub use snp::*;
pub use tdx::*;
