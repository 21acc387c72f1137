//! Stub until the real ones are merged.
#![expect(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions, reason = "stub")]
use candle_core::{DType, Device, Tensor};

/// Threads.
pub struct Threads(usize);
impl Threads {
    /// So many.
    pub fn new(count: usize) -> Self {
        Self(count)
    }
    /// How many.
    pub fn count(&self) -> usize {
        self.0
    }
    /// Runs.
    pub fn run(&self, tasks: usize, work: &(dyn Fn(usize) + Sync)) {
        (0..tasks).for_each(work);
    }
}
/// Format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// f32
    F32,
    /// f16
    F16,
    /// bf16
    Bf16,
    /// q8_0
    Q8_0,
    /// q4_k
    Q4K,
    /// q6_k
    Q6K,
}
impl Format {
    /// Bytes.
    pub fn bytes(self, rows: usize, columns: usize) -> Option<usize> {
        let n = rows.checked_mul(columns)?;
        Some(match self {
            Self::F32 => n * 4,
            Self::F16 | Self::Bf16 => n * 2,
            Self::Q8_0 => n / 32 * 34,
            Self::Q4K => n / 256 * 144,
            Self::Q6K => n / 256 * 210,
        })
    }
}
/// Error.
#[derive(Debug, thiserror::Error)]
#[error("matrix")]
pub struct MatrixError;
/// Matrix.
pub struct Matrix {
    outputs: usize,
    inputs: usize,
    v: Vec<f32>,
}
impl Matrix {
    /// New.
    pub fn new(
        format: Format,
        outputs: usize,
        inputs: usize,
        bytes: &[u8],
        _threads: &Threads,
    ) -> Result<Self, MatrixError> {
        use candle_core::quantized::{GgmlDType, ggml_file::qtensor_from_ggml};
        if format.bytes(outputs, inputs) != Some(bytes.len()) {
            return Err(MatrixError);
        }
        let d = Device::Cpu;
        let q = |t| qtensor_from_ggml(t, bytes, vec![outputs, inputs], &d).and_then(|q| q.dequantize(&d));
        let t = match format {
            Format::F32 => Tensor::from_raw_buffer(bytes, DType::F32, &[outputs, inputs], &d),
            Format::F16 => Tensor::from_raw_buffer(bytes, DType::F16, &[outputs, inputs], &d),
            Format::Bf16 => Tensor::from_raw_buffer(bytes, DType::BF16, &[outputs, inputs], &d),
            Format::Q8_0 => q(GgmlDType::Q8_0),
            Format::Q4K => q(GgmlDType::Q4K),
            Format::Q6K => q(GgmlDType::Q6K),
        };
        let v = t.and_then(|t| t.to_dtype(DType::F32)?.flatten_all()?.to_vec1()).map_err(|_| MatrixError)?;
        Ok(Self { outputs, inputs, v })
    }
    /// Rows.
    pub fn outputs(&self) -> usize {
        self.outputs
    }
    /// Columns.
    pub fn inputs(&self) -> usize {
        self.inputs
    }
    /// Row.
    pub fn row(&self, index: usize, into: &mut [f32]) {
        into.copy_from_slice(&self.v[index * self.inputs..(index + 1) * self.inputs]);
    }
    /// Product.
    pub fn multiply(&self, x: &Activations, into: &mut [f32], _threads: &Threads) {
        for (x, o) in x.values.chunks_exact(self.inputs).zip(into.chunks_exact_mut(self.outputs)) {
            for (w, o) in self.v.chunks_exact(self.inputs).zip(o) {
                *o = dot(x, w);
            }
        }
    }
}
/// Activations.
pub struct Activations {
    values: Vec<f32>,
    width: usize,
}
impl Activations {
    /// New.
    pub fn new(values: Vec<f32>, width: usize) -> Self {
        Self { values, width }
    }
    /// Rows.
    pub fn rows(&self) -> usize {
        self.values.len() / self.width
    }
}
/// Dot.
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0f32; 16];
    let (a_parts, b_parts) = (a.chunks_exact(16), b.chunks_exact(16));
    let rest: f32 = a_parts.remainder().iter().zip(b_parts.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a_parts.zip(b_parts) {
        for ((lane, a), b) in lanes.iter_mut().zip(a).zip(b) {
            *lane += a * b;
        }
    }
    lanes.iter().sum::<f32>() + rest
}
/// Norm.
pub fn rms_norm(row: &mut [f32], weight: &[f32], epsilon: f32) {
    let mean = dot(row, row) / weight.len() as f32;
    let scale = 1.0 / (mean + epsilon).sqrt();
    row.iter_mut().zip(weight).for_each(|(value, weight)| *value *= scale * weight);
}
/// Softmax.
pub fn softmax(scores: &mut [f32]) {
    let max = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    scores.iter_mut().for_each(|score| *score = (*score - max).exp());
    let sum: f32 = scores.iter().sum();
    scores.iter_mut().for_each(|score| *score /= sum);
}
/// Attend.
pub fn attend<'a>(
    query: &[f32],
    head_dim: usize,
    pages: impl Iterator<Item = (&'a [f32], &'a [f32])> + Clone,
    into: &mut [f32],
    scores: &mut Vec<f32>,
) {
    let scale = 1.0 / (head_dim as f32).sqrt();
    for (query, output) in query.chunks_exact(head_dim).zip(into.chunks_exact_mut(head_dim)) {
        scores.clear();
        for (keys, _) in pages.clone() {
            scores.extend(keys.chunks_exact(head_dim).map(|key| dot(query, key) * scale));
        }
        softmax(scores);
        output.fill(0.0);
        let values = pages.clone().flat_map(|(_, values)| values.chunks_exact(head_dim));
        for (weight, value) in scores.iter().zip(values) {
            for (sum, value) in output.iter_mut().zip(value) {
                *sum += weight * value;
            }
        }
    }
}
