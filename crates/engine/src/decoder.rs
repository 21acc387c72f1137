//! The decoder: embedding, layers of attention and feed-forward, output projection.
//!
//! Matrix products run in candle; norms, rotary embedding and attention are plain loops over slices. Every
//! sequence is computed on its own, so that its logits do not depend on what else the engine serves.

#![expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "computes over rows whose sizes `config` bounds and `weights` checks; it reads no bytes of anybody"
)]

use candle_core::{Device, Tensor};

use crate::cache::KvCache;
use crate::config::{Family, ModelConfig};
use crate::error::EngineError;
use crate::rope::{Rope, Rotation};
use crate::weights::Weights;

/// Independent sums of a dot product, so that it can use vector registers.
const LANES: usize = 8;

/// A Llama, Qwen2 or Qwen3 decoder with `f32` weights.
pub struct Decoder {
    config: ModelConfig,
    embedding: Tensor,
    layers: Vec<Layer>,
    norm: Vec<f32>,
    head: Linear,
    rope: Rope,
}

struct Layer {
    attention_norm: Vec<f32>,
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    /// Norms over each head of query and key (Qwen3).
    head_norms: Option<(Vec<f32>, Vec<f32>)>,
    feed_norm: Vec<f32>,
    gate: Linear,
    up: Linear,
    down: Linear,
}

/// `x · Wᵀ + b`.
struct Linear {
    /// Transposed view, `[inputs, outputs]`.
    weight: Tensor,
    bias: Option<Vec<f32>>,
}

impl Decoder {
    /// Builds the decoder of `config` from its tensors.
    ///
    /// # Errors
    /// A tensor is missing: `weights` were loaded for another configuration.
    pub fn new(config: ModelConfig, mut weights: Weights) -> Result<Self, EngineError> {
        let embedding = weights.take("model.embed_tokens.weight")?;
        let head = if config.tied_embeddings { embedding.clone() } else { weights.take("lm_head.weight")? };
        let layers = (0..config.layers).map(|index| Layer::new(&config, index, &mut weights));
        Ok(Self {
            layers: layers.collect::<Result<_, _>>()?,
            norm: vector(&mut weights, "model.norm.weight")?,
            head: Linear { weight: head.t()?, bias: None },
            rope: Rope::new(&config),
            embedding,
            config,
        })
    }

    /// The configuration.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Runs `tokens`, which follow those already in `cache`, and returns the logits after the last of them:
    /// one per row of the vocabulary.
    ///
    /// # Errors
    /// No tokens, a token outside the vocabulary, no room or memory in `cache`, or logits that are not finite.
    pub fn forward(&self, tokens: &[u32], cache: &mut KvCache) -> Result<Vec<f32>, EngineError> {
        let (start, rows) = (cache.len(), tokens.len());
        if rows == 0 || rows > cache.capacity() - start {
            let (context, completion) = (cache.capacity(), 0);
            return Err(EngineError::ContextTooLong { prompt: start + rows, completion, context });
        }
        cache.reserve(rows)?;
        let rotations: Vec<Rotation> = (start..start + rows).map(|position| self.rope.at(position)).collect();
        let mut stream = values(&self.embedding.index_select(&Tensor::new(tokens, &Device::Cpu)?, 0)?)?;
        for (index, layer) in self.layers.iter().enumerate() {
            let normed = rms_norm(&stream, &layer.attention_norm, self.config.norm_epsilon);
            add(&mut stream, &self.attend(index, layer, &normed, &rotations, cache)?);
            let normed = rms_norm(&stream, &layer.feed_norm, self.config.norm_epsilon);
            add(&mut stream, &layer.feed_forward(&normed, rows)?);
        }
        cache.advance(rows);
        let last = &stream[(rows - 1) * self.config.hidden..];
        let logits = self.head.forward(&rms_norm(last, &self.norm, self.config.norm_epsilon), 1)?;
        if logits.iter().all(|logit| logit.is_finite()) { Ok(logits) } else { Err(EngineError::NotFinite) }
    }

    /// Attention of one layer over `rows` normed inputs, which are stored in `cache` on the way.
    fn attend(
        &self,
        index: usize,
        layer: &Layer,
        inputs: &[f32],
        rotations: &[Rotation],
        cache: &mut KvCache,
    ) -> Result<Vec<f32>, EngineError> {
        let (rows, start) = (rotations.len(), cache.len());
        let (head_dim, heads, shared) =
            (self.config.head_dim, self.config.heads, self.config.key_value_heads);
        let mut query = layer.query.forward(inputs, rows)?;
        let mut key = layer.key.forward(inputs, rows)?;
        let value = layer.value.forward(inputs, rows)?;
        if let Some((query_norm, key_norm)) = &layer.head_norms {
            query = rms_norm(&query, query_norm, self.config.norm_epsilon);
            key = rms_norm(&key, key_norm, self.config.norm_epsilon);
        }
        let (query_row, key_row) = (heads * head_dim, shared * head_dim);
        for (row, rotation) in rotations.iter().enumerate() {
            rotation.apply(&mut query[row * query_row..(row + 1) * query_row]);
            rotation.apply(&mut key[row * key_row..(row + 1) * key_row]);
            let range = row * key_row..(row + 1) * key_row;
            cache.store(index, start + row, &key[range.clone()], &value[range]);
        }
        let mut mixed = vec![0.0; rows * query_row];
        for (unit, output) in mixed.chunks_exact_mut(head_dim).enumerate() {
            let (row, head) = (unit / heads, unit % heads);
            let seen = cache.head(index, head / (heads / shared), start + row + 1);
            attend_one(&query[unit * head_dim..(unit + 1) * head_dim], seen, output);
        }
        layer.output.forward(&mixed, rows)
    }
}

impl Layer {
    fn new(config: &ModelConfig, index: usize, weights: &mut Weights) -> Result<Self, EngineError> {
        let name = |part: &str| format!("model.layers.{index}.{part}");
        let load = match config.family {
            Family::Qwen2 => Linear::with_bias,
            Family::Llama | Family::Qwen3 => Linear::without_bias,
        };
        let head_norms = match config.family {
            Family::Qwen3 => Some((
                vector(weights, &name("self_attn.q_norm.weight"))?,
                vector(weights, &name("self_attn.k_norm.weight"))?,
            )),
            Family::Llama | Family::Qwen2 => None,
        };
        Ok(Self {
            attention_norm: vector(weights, &name("input_layernorm.weight"))?,
            query: load(weights, &name("self_attn.q_proj"))?,
            key: load(weights, &name("self_attn.k_proj"))?,
            value: load(weights, &name("self_attn.v_proj"))?,
            output: Linear::without_bias(weights, &name("self_attn.o_proj"))?,
            head_norms,
            feed_norm: vector(weights, &name("post_attention_layernorm.weight"))?,
            gate: Linear::without_bias(weights, &name("mlp.gate_proj"))?,
            up: Linear::without_bias(weights, &name("mlp.up_proj"))?,
            down: Linear::without_bias(weights, &name("mlp.down_proj"))?,
        })
    }

    /// SwiGLU: `down(silu(gate(x)) * up(x))`.
    fn feed_forward(&self, inputs: &[f32], rows: usize) -> Result<Vec<f32>, EngineError> {
        let mut gate = self.gate.forward(inputs, rows)?;
        let up = self.up.forward(inputs, rows)?;
        for (gate, up) in gate.iter_mut().zip(&up) {
            *gate *= up / (1.0 + (-*gate).exp());
        }
        self.down.forward(&gate, rows)
    }
}

impl Linear {
    fn without_bias(weights: &mut Weights, name: &str) -> Result<Self, EngineError> {
        Ok(Self { weight: weights.take(&format!("{name}.weight"))?.t()?, bias: None })
    }

    fn with_bias(weights: &mut Weights, name: &str) -> Result<Self, EngineError> {
        let bias = vector(weights, &format!("{name}.bias"))?;
        Ok(Self { bias: Some(bias), ..Self::without_bias(weights, name)? })
    }

    /// Applies the projection to `rows` rows.
    fn forward(&self, inputs: &[f32], rows: usize) -> Result<Vec<f32>, EngineError> {
        let inputs = Tensor::from_slice(inputs, (rows, inputs.len() / rows), &Device::Cpu)?;
        let mut outputs = values(&inputs.matmul(&self.weight)?)?;
        if let Some(bias) = &self.bias {
            outputs.chunks_exact_mut(bias.len()).for_each(|row| add(row, bias));
        }
        Ok(outputs)
    }
}

/// Attention of one query head over the keys and values that it may see, in parts, oldest first.
fn attend_one<'a>(
    query: &[f32],
    seen: impl Iterator<Item = (&'a [f32], &'a [f32])> + Clone,
    output: &mut [f32],
) {
    let width = query.len();
    let scale = 1.0 / (width as f32).sqrt();
    let keys = seen.clone().flat_map(|(keys, _)| keys.chunks_exact(width));
    let mut weights: Vec<f32> = keys.map(|key| dot(query, key) * scale).collect();
    softmax(&mut weights);
    let values = seen.flat_map(|(_, values)| values.chunks_exact(width));
    for (weight, value) in weights.iter().zip(values) {
        for (sum, value) in output.iter_mut().zip(value) {
            *sum += weight * value;
        }
    }
}

/// Dot product, summed in [`LANES`] parts in a fixed order.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (a_parts, b_parts) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f32 = a_parts.remainder().iter().zip(b_parts.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a_parts.zip(b_parts) {
        for ((lane, a), b) in lanes.iter_mut().zip(a).zip(b) {
            *lane += a * b;
        }
    }
    lanes.iter().sum::<f32>() + rest
}

/// Turns scores into weights that sum to one.
pub(crate) fn softmax(scores: &mut [f32]) {
    let max = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    scores.iter_mut().for_each(|score| *score = (*score - max).exp());
    let sum: f32 = scores.iter().sum();
    scores.iter_mut().for_each(|score| *score /= sum);
}

/// Root-mean-square norm of each row of `weight.len()` values.
fn rms_norm(rows: &[f32], weight: &[f32], epsilon: f32) -> Vec<f32> {
    let mut normed = rows.to_vec();
    for row in normed.chunks_exact_mut(weight.len()) {
        let mean = dot(row, row) / weight.len() as f32;
        let scale = 1.0 / (mean + epsilon).sqrt();
        row.iter_mut().zip(weight).for_each(|(value, weight)| *value *= scale * weight);
    }
    normed
}

fn add(sum: &mut [f32], other: &[f32]) {
    sum.iter_mut().zip(other).for_each(|(sum, other)| *sum += other);
}

fn values(tensor: &Tensor) -> Result<Vec<f32>, EngineError> {
    Ok(tensor.flatten_all()?.to_vec1()?)
}

fn vector(weights: &mut Weights, name: &str) -> Result<Vec<f32>, EngineError> {
    values(&weights.take(name)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dot_handles_widths_that_are_no_multiple_of_the_lanes() {
        let ones = [1.0f32; 37];
        assert_eq!(dot(&ones, &ones), 37.0);
    }

    #[test]
    fn softmax_sums_to_one_and_survives_large_scores() {
        let mut scores = [1000.0, 1000.0, -1000.0];
        softmax(&mut scores);
        assert_eq!(scores, [0.5, 0.5, 0.0]);
    }
}
