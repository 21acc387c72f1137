//! Model to tokens: the engine that is built into the measured guest.
//!
//! Layer 5. [`Engine`] loads a decoder in Hugging Face layout or in GGUF (Llama, Qwen2 or Qwen3 family) and answers
//! [`ChatRequest`]s on the CPU, one [`Generation`] each; a [`Batch`] runs many of them together, over keys and values in pages.
//! What a request gets does not depend on what runs beside it, bit for bit. [`process`] runs the engine in a child
//! process that holds one Unix socket and read-only model files; keys and TLS stay in the parent.
//!
//! What is measured is what runs: [`MeasuredFiles`] reads each model file once, into private memory, hashes
//! those bytes into the [`ModelManifest`] and hands the same bytes to the loader. Weights are never mapped from
//! a disk that the host can rewrite after the check.
//!
//! Prompts and completions implement neither `Debug` nor `Display`, so that they cannot reach a log:
//!
//! ```compile_fail,E0277
//! fn log(request: &confide_engine::ChatRequest) {
//!     println!("{request:?}");
//! }
//! ```
//!
//! ```
//! fn log(request: &confide_engine::ChatRequest) {
//! }
//! ```
//!
//! ```compile_fail,E0277
//! fn log(message: &confide_engine::Message) {
//!     println!("{message}");
//! }
//! ```
//!
//! ```
//! fn log(message: &confide_engine::Message) {
//! }
//! ```
//!
//! Their memory, the key-value cache and the token buffers are overwritten when they are freed. Activations,
//! and the copies that the tokenizer and the template engine make while they work, are not.

#![cfg_attr(
    not(test),
    warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)
)]

mod batch;
pub mod codes;
mod config;
mod decoder;
mod engine;
mod error;
mod files;
pub mod gguf;
mod guard;
pub mod kernels;
mod pages;
mod plan;
mod prefix;
pub mod process;
pub mod protocol;
mod request;
mod rope;
mod sampling;
mod shield;
mod stop;
mod template;
mod tokenizer;
mod waiting;
mod weights;

pub use batch::{Batch, Load, MAX_ACTIVE, MAX_WAITING, Outcome};
pub use confide_evidence::manifest::{ManifestEntry, ModelManifest};
pub use config::{Family, ModelConfig, Pairs, RopeScaling};
pub use decoder::{Decoder, Run};
pub use engine::{Engine, Generation, ModelInfo, Resources, Step};
pub use error::{EngineError, ManifestDifference};
pub use files::{MAX_MODEL_FILES, MeasuredFiles, MemoryFiles, ModelDirectory, ModelFiles};
pub use pages::{KvCache, PAGE_TOKENS, PagePool};
pub use prefix::KeyHolder;
pub use request::{
    ChatRequest, FinishReason, MAX_MESSAGES, MAX_STOP_BYTES, MAX_STOPS, Message, RequestFault, StopStrings,
    Usage,
};
pub use sampling::{MAX_TEMPERATURE, Sampler, Sampling};
pub use template::ChatTemplate;
pub use tokenizer::{Detokenizer, TextTokenizer};
pub use weights::{TensorSpec, Weights};
