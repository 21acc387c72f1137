//! Bytes to fields and back.
//!
//! This crate is pure: no clock, file, network, environment or random source. It decides nothing; it parses, encodes
//! and hashes what the attester sends and what the verifier appraises. Words follow RFC 9334 (RATS).
#![cfg_attr(
    not(test),
    warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)
)]
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]

pub mod boot_log;
pub mod bytes;
pub mod cbor;
pub mod configuration;
pub mod document;
pub mod event;
pub mod hash;
pub mod head;
pub mod hex;
pub mod manifest;
pub mod nvidia;
pub mod ocsp;
pub mod pem;
pub mod percent;
mod read;
pub mod receipt;
pub mod record;
pub mod shared;
pub mod snp;
pub mod tdx;
pub mod text;
pub mod time;
pub mod transcript;
pub mod x509;
