//! Products of matrices with rows of numbers on the processor: the work of a decoder.
//!
//! [`Matrix`] holds weights as files have them, laid out anew for vector instructions; [`Activations`] the rows that
//! are multiplied with it, on [`Threads`]; [`attend`], [`rms_norm`] and the like compute what lies between. The instructions are found once, at run time: [`InstructionSet`].
//!
//! What one row and one output give is bit for bit the same whatever rows are computed with it, and on however many
//! threads: an answer does not depend on what else is asked at the time.
//!
//! ```
//! use confide_engine::kernels::{Activations, Format, Matrix, Threads};
//!
//! let threads = Threads::new(2);
//! let weights: Vec<u8> = [1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0].into_iter().flat_map(f32::to_le_bytes).collect();
//! let matrix = Matrix::new(Format::F32, 3, 2, &weights, &threads)?;
//! let mut products = [0.0; 3];
//! matrix.multiply(&Activations::new(vec![10.0, 1.0], 2), &mut products, &threads);
//! assert_eq!(products, [12.0, 34.0, 56.0]);
//! # Ok::<(), confide_engine::kernels::MatrixError>(())
//! ```

mod activations;
mod attention;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod format;
mod half;
mod instructions;
mod kernel;
mod line;
mod matrix;
mod pack;
mod portable;
mod quantised;
mod rows;
#[cfg(test)]
mod tests;
mod threads;

pub use activations::Activations;
pub use attention::attend;
pub use format::Format;
pub use instructions::InstructionSet;
pub use matrix::{Matrix, MatrixError};
pub use rows::{dot, rms_norm, silu_multiply, softmax};
pub use threads::Threads;
