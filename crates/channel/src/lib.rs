//! Attested TLS, the client's half.
//!
//! A connection passes through three types, and only the last one takes a [`Prompt`]:
//!
//! | type | what it can send |
//! |---|---|
//! | [`UnattestedChannel`] | the attestation request, again where the peer asks to wait |
//! | [`ChallengedChannel`] | nothing: its evidence is being appraised |
//! | [`AttestedChannel`] | requests, while its verdict holds |
//!
//! [`AttestedChannel::open`] takes the witness that [`confide_verifier::appraise`] minted and compares the nonce, TLS
//! exporter and key in it with the live connection, so that a witness made from recorded values opens nothing.
//! [`AttestedChannel::ride`] opens a further connection to a key whose verdict still holds, where the policy says
//! `per-key`. This crate neither dials nor retries: it is given a stream.
//!
//! The connection speaks HTTP/1.1 or HTTP/2, as [`Protocols`] offers. All of this holds for both: evidence is bound to
//! the TLS connection, and what is above it changes nothing. Over HTTP/2 several requests may be under way at a time:
//! [`AttestedChannel::share`] gives a further handle on the same connection with the same verdict.
//!
//! Each forgery below stands beside a twin that differs in one line and compiles: nothing else in it is wrong.
//!
//! An unattested channel takes no request:
//!
//! ```compile_fail,E0599
//! # use confide_channel::{AttestedChannel, Request, UnattestedChannel};
//! # async fn early(early: UnattestedChannel, attested: AttestedChannel, request: Request) {
//! early.send(request).await;
//! # }
//! ```
//!
//! ```
//! # use confide_channel::{AttestedChannel, Request, UnattestedChannel};
//! # async fn early(early: UnattestedChannel, attested: AttestedChannel, request: Request) {
//! attested.send(request).await;
//! # }
//! ```
//!
//! ```compile_fail,E0599
//! # use confide_channel::{AttestedChannel, Request, ChallengedChannel};
//! # async fn early(early: ChallengedChannel, attested: AttestedChannel, request: Request) {
//! early.send(request).await;
//! # }
//! ```
//!
//! ```
//! # use confide_channel::{AttestedChannel, Request, ChallengedChannel};
//! # async fn early(early: ChallengedChannel, attested: AttestedChannel, request: Request) {
//! attested.send(request).await;
//! # }
//! ```
//!
//! An attested channel cannot be built from the outside, nor can the verdict that further connections ride on:
//!
//! ```compile_fail,E0451
//! # use confide_channel::{AttestedChannel, Verdict};
//! # use std::sync::Arc;
//! # fn forge(verdict: Arc<Verdict>, genuine: AttestedChannel) -> AttestedChannel {
//! AttestedChannel { verdict, ..genuine }
//! # }
//! ```
//!
//! ```
//! # use confide_channel::{AttestedChannel, Verdict};
//! # use std::sync::Arc;
//! # fn forge(verdict: Arc<Verdict>, genuine: AttestedChannel) -> AttestedChannel {
//! genuine
//! # }
//! ```
//!
//! ```compile_fail,E0616
//! # use confide_channel::{AttestedChannel, Verdict};
//! # use std::sync::Arc;
//! # fn change(mut channel: AttestedChannel, other: Arc<Verdict>) -> AttestedChannel {
//! channel.verdict = other;
//! # channel
//! # }
//! ```
//!
//! ```
//! # use confide_channel::{AttestedChannel, Verdict};
//! # use std::sync::Arc;
//! # fn change(mut channel: AttestedChannel, other: Arc<Verdict>) -> AttestedChannel {
//! # channel
//! # }
//! ```
//!
//! ```compile_fail,E0451
//! # use confide_channel::Verdict;
//! # use confide_verifier::Attested;
//! # fn forge(attested: Attested, genuine: Verdict) -> Verdict {
//! Verdict { attested, ..genuine }
//! # }
//! ```
//!
//! ```
//! # use confide_channel::Verdict;
//! # use confide_verifier::Attested;
//! # fn forge(attested: Attested, genuine: Verdict) -> Verdict {
//! genuine
//! # }
//! ```
//!
//! ```compile_fail,E0599
//! # use confide_channel::Verdict;
//! # fn default() -> Verdict {
//! Verdict::default()
//! # }
//! ```
//!
//! ```
//! # use confide_channel::Verdict;
//! # fn default() -> Verdict {
//! unreachable!()
//! # }
//! ```
//!
//! A witness opens one channel:
//!
//! ```compile_fail,E0382
//! use confide_channel::{AttestedChannel, ChallengedChannel};
//! use confide_policy::Attest;
//! # use confide_verifier::Attested;
//! # fn reuse(first: ChallengedChannel, second: ChallengedChannel, attested: Attested) {
//! AttestedChannel::open(first, attested, Attest::PerKey);
//! AttestedChannel::open(second, attested, Attest::PerKey);
//! # }
//! ```
//!
//! ```
//! use confide_channel::{AttestedChannel, ChallengedChannel};
//! use confide_policy::Attest;
//! # use confide_verifier::Attested;
//! # fn reuse(first: ChallengedChannel, second: ChallengedChannel, attested: Attested) {
//! AttestedChannel::open(first, attested, Attest::PerKey);
//! # }
//! ```
//!
//! Only an attested channel is shared:
//!
//! ```compile_fail,E0599
//! # use confide_channel::{AttestedChannel, UnattestedChannel};
//! # fn share(early: UnattestedChannel, attested: AttestedChannel) {
//! early.share();
//! # }
//! ```
//!
//! ```
//! # use confide_channel::{AttestedChannel, UnattestedChannel};
//! # fn share(early: UnattestedChannel, attested: AttestedChannel) {
//! attested.share();
//! # }
//! ```
//!
//! A handle on a channel carries one request at a time, and takes it: whoever wants to send it again says so
//! ([`Request::again`]), and again to an attested channel:
//!
//! ```compile_fail,E0382
//! # use confide_channel::{AttestedChannel, Request};
//! # async fn twice(channel: AttestedChannel, a: Request, b: Request) {
//! let first = channel.send(a);
//! let second = channel.send(b);
//! # }
//! ```
//!
//! ```
//! # use confide_channel::{AttestedChannel, Request};
//! # async fn twice(channel: AttestedChannel, a: Request, b: Request) {
//! let first = channel.send(a);
//! # }
//! ```
//!
//! A prompt is neither shown nor copied:
//!
//! ```compile_fail,E0277
//! # use confide_channel::Prompt;
//! # fn show(prompt: Prompt) {
//! println!("{prompt:?}");
//! # }
//! ```
//!
//! ```
//! # use confide_channel::Prompt;
//! # fn show(prompt: Prompt) {
//! drop(prompt);
//! # }
//! ```
//!
//! ```compile_fail,E0277
//! # use confide_channel::Prompt;
//! # fn show(prompt: Prompt) {
//! println!("{prompt}");
//! # }
//! ```
//!
//! ```
//! # use confide_channel::Prompt;
//! # fn show(prompt: Prompt) {
//! drop(prompt);
//! # }
//! ```
//!
//! ```compile_fail,E0599
//! # use confide_channel::Prompt;
//! # fn copy(prompt: Prompt) {
//! let copy = prompt.clone();
//! # }
//! ```
//!
//! ```
//! # use confide_channel::Prompt;
//! # fn copy(prompt: Prompt) {
//! let moved = prompt;
//! # }
//! ```
//!
//! ```compile_fail,E0277
//! # use confide_channel::Request;
//! # fn show(request: Request) {
//! println!("{request:?}");
//! # }
//! ```
//!
//! ```
//! # use confide_channel::Request;
//! # fn show(request: Request) {
//! drop(request);
//! # }
//! ```

#![cfg_attr(
    not(test),
    warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)
)]
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]

mod answer;
mod attested;
mod clock;
mod error;
mod live;
mod protocol;
mod request;
mod tls;
mod unattested;
mod verdict;

pub use answer::{Answer, AnswerBody};
pub use attested::{AttestedChannel, SendError};
pub use clock::Moment;
pub use error::{CODES, ChannelError};
pub use live::KeyExchange;
pub use protocol::Protocols;
pub use request::{ApiKey, Prompt, Request, RequestError};
pub use unattested::{Challenged, ChallengedChannel, UnattestedChannel};
pub use verdict::{Verdict, VerdictCache};

use std::time::Duration;

/// How long one handshake may take.
pub const HANDSHAKE_LIMIT: Duration = Duration::from_secs(15);
/// How long a guest may take over its evidence. A quote waits for others on its host and each GPU signs a report of its
/// own, a second or more each.
pub const ATTESTATION_LIMIT: Duration = Duration::from_secs(60);
