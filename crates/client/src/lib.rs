//! The client's SDK: fetch evidence, appraise it, open an attested channel, send.
//!
//! ```no_run
//! use confide_client::{ChatRequest, Client, PolicyText, Turn};
//! use confide_policy::Loaded;
//!
//! # async fn ask() -> Result<(), Box<dyn std::error::Error>> {
//! let policy = PolicyText::parse(std::fs::read_to_string("policies/client.toml")?, Loaded::Normally)?;
//! let client = Client::builder("https://guest.example:8443", policy)?.build();
//! let model = client.verdict().await?.claims().model.name.clone();
//! let answer = client.chat(ChatRequest::new(&model).turn(Turn::user("What is an RTMR?"))).await?;
//! println!("{}", answer.content);
//! # Ok(())
//! # }
//! ```
//!
//! Nothing of a request leaves the client before the peer's evidence has been accepted: a [`Client`] holds
//! [`AttestedChannel`](confide_channel::AttestedChannel)s alone, and they alone take a request. It reads the system
//! clock; the crates beneath it do not. It has no global state: two clients share nothing.
//!
//! `examples/ask.rs` takes the place of a plain HTTP client; [`blocking`] is for programs without an asynchronous runtime.

#![cfg_attr(
    not(test),
    warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)
)]
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]

mod appraised;
pub mod blocking;
mod chat;
mod client;
mod endorsing;
mod endpoint;
mod error;
pub mod fleet;
mod keys;
mod open_files;
mod openai;
mod policy;
mod pool;
pub mod proxy;
#[doc(hidden)]
pub mod readers;
mod receipts;
mod refusals;
mod response;
mod sse;

pub use appraised::Appraised;
pub use chat::{ChatAnswer, ChatRequest, ChatStream, Delta, Speaker, Turn, Usage};
pub use client::{Client, ClientBuilder, Question};
pub use confide_channel::{ApiKey, Prompt, Protocols, Request, Verdict};
pub use endorsing::Endorsing;
pub use endpoint::{Endpoint, EndpointError};
pub use error::{CODES, ClientError};
pub use fleet::Fleet;
pub use policy::PolicyText;
pub use pool::Lease;
pub use receipts::{ReceiptError, Receipts, VerifiedReceipt};
pub use response::{Response, ResponseBody};

use confide_verifier::Algorithms;

/// The signature algorithms of native programs: those of aws-lc-rs.
pub const ALGORITHMS: Algorithms = Algorithms {
    ecdsa_p256_sha256: webpki::aws_lc_rs::ECDSA_P256_SHA256,
    ecdsa_p384_sha384: webpki::aws_lc_rs::ECDSA_P384_SHA384,
    ecdsa_p384_sha256: webpki::aws_lc_rs::ECDSA_P384_SHA256,
    ed25519: webpki::aws_lc_rs::ED25519,
    rsa_pss_sha384: webpki::aws_lc_rs::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
    rsa_pkcs1_sha256: webpki::aws_lc_rs::RSA_PKCS1_2048_8192_SHA256,
};
