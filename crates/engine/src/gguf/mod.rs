//! Models in one GGUF file, as llama.cpp and its quantisers write them.
//!
//! The format: `gguf.md` of the ggml project, versions 2 and 3, little endian. Nothing of the file is trusted: every
//! length is compared with the bytes that are there before anything is reserved for it.

mod file;
mod model;
mod tokens;

pub use file::{Gguf, Tensor, TensorType, Value, Values};
pub(crate) use model::{Parts, load};
