//! Attested TLS, the client's half.
//!
//! A connection passes through three types, and only the last one takes a [`Prompt`]:
//!
//! | type | what it can send |
//! |---|---|
//! | [`UnattestedChannel`] | the attestation request, once |
//! | [`ChallengedChannel`] | nothing: its evidence is being appraised |
//! | [`AttestedChannel`] | requests, while its verdict holds |
//!
//! [`AttestedChannel::open`] takes the witness that [`confide_verifier::appraise`] minted and compares the nonce, TLS
//! exporter and key in it with the live connection, so that a witness made from recorded values opens nothing.
//! [`AttestedChannel::ride`] opens a further connection to a key whose verdict still holds, where the policy says
//! `per-key`. This crate neither dials nor retries: it is given a stream.
//!
//! An unattested channel takes no request:
//!
//! ```compile_fail,E0599
//! # async fn early(channel: confide_channel::UnattestedChannel, request: confide_channel::Request) {
//! channel.send(request).await;
//! # }
//! ```
//!
//! ```compile_fail,E0599
//! # async fn early(channel: confide_channel::ChallengedChannel, request: confide_channel::Request) {
//! channel.send(request).await;
//! # }
//! ```
//!
//! An attested channel cannot be built from the outside, nor can the verdict that further connections ride on:
//!
//! ```compile_fail
//! # fn forge(verdict: std::sync::Arc<confide_channel::Verdict>) {
//! let forged = confide_channel::AttestedChannel { verdict };
//! # }
//! ```
//!
//! ```compile_fail
//! # fn forge(attested: confide_verifier::Attested) {
//! let forged = confide_channel::Verdict { attested };
//! # }
//! ```
//!
//! ```compile_fail,E0599
//! # fn default() {
//! let forged = confide_channel::Verdict::default();
//! # }
//! ```
//!
//! A witness opens one channel:
//!
//! ```compile_fail,E0382
//! use confide_channel::{AttestedChannel, ChallengedChannel};
//! use confide_policy::Attest;
//! # fn reuse(first: ChallengedChannel, second: ChallengedChannel, attested: confide_verifier::Attested) {
//! AttestedChannel::open(first, attested, Attest::PerKey);
//! AttestedChannel::open(second, attested, Attest::PerKey);
//! # }
//! ```
//!
//! A channel carries one request at a time, and a prompt is sent once:
//!
//! ```compile_fail,E0382
//! # async fn twice(channel: confide_channel::AttestedChannel, a: confide_channel::Request, b: confide_channel::Request) {
//! let first = channel.send(a);
//! let second = channel.send(b);
//! # }
//! ```
//!
//! A prompt is neither shown nor copied:
//!
//! ```compile_fail,E0277
//! # fn show(prompt: confide_channel::Prompt) {
//! println!("{prompt:?}");
//! # }
//! ```
//!
//! ```compile_fail,E0277
//! # fn show(prompt: confide_channel::Prompt) {
//! println!("{prompt}");
//! # }
//! ```
//!
//! ```compile_fail,E0599
//! # fn copy(prompt: confide_channel::Prompt) {
//! let copy = prompt.clone();
//! # }
//! ```
//!
//! ```compile_fail,E0277
//! # fn show(request: confide_channel::Request) {
//! println!("{request:?}");
//! # }
//! ```
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]

mod answer;
mod attested;
mod clock;
mod error;
mod live;
mod request;
mod tls;
mod unattested;
mod verdict;

pub use answer::{Answer, AnswerBody};
pub use attested::{AttestedChannel, SendError};
pub use clock::Moment;
pub use error::{CODES, ChannelError};
pub use live::KeyExchange;
pub use request::{ApiKey, Prompt, Request, RequestError};
pub use unattested::{Challenged, ChallengedChannel, UnattestedChannel};
pub use verdict::{Verdict, VerdictCache};

use std::time::Duration;

/// How long one handshake may take.
pub const HANDSHAKE_LIMIT: Duration = Duration::from_secs(15);
/// How long a guest may take over its evidence. A quote waits for others on its host and each GPU signs a report of its
/// own, a second or more each.
pub const ATTESTATION_LIMIT: Duration = Duration::from_secs(60);
