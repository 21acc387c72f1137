//! Attested TLS, the guest's half.
//!
//! Layer 4. [`GuestKeys`] are drawn in memory once the event `open` is measured; they are never stored, exported or
//! shared. [`Acceptor`] ends TLS 1.3 with them, and each [`GuestConnection`] gives the
//! [`Binding`](confide_evidence::transcript::Binding) of a nonce to this very connection, which the attester signs.
//!
//! This crate knows evidence and judges nothing.

#![cfg_attr(
    not(test),
    warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)
)]

mod acceptor;
mod error;
mod kem;
mod keys;
mod tls_key;

pub use acceptor::{Acceptor, BoundNonce, ConnectionExporter, GuestConnection, Protocol};
pub use error::ChannelError;
pub use kem::{KEM_CIPHERTEXT, SharedSecret, XWingSecret};
pub use keys::GuestKeys;
