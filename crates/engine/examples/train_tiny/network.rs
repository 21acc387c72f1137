//! The decoder with gradients. Written apart from the engine's: candle's fast norm, rotary embedding and
//! softmax have no backward pass, so that the slow forms are used here.

use std::collections::{BTreeMap, HashMap};
use std::f32::consts::TAU;

use anyhow::Result;
use candle_core::{D, DType, Device, Tensor, Var};
use candle_nn::{ops, rotary_emb};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::files::{EPSILON, ROPE_THETA, Shape};

/// Trainable weights under their Hugging Face names.
pub(crate) struct Network {
    shape: Shape,
    weights: BTreeMap<String, Var>,
    cosines: Tensor,
    sines: Tensor,
    mask: Tensor,
}

impl Network {
    /// Draws the initial weights from `seed`.
    pub(crate) fn new(shape: Shape, seed: u64) -> Result<Self> {
        let device = &Device::Cpu;
        let mut random = StdRng::seed_from_u64(seed);
        let mut weights = BTreeMap::new();
        for (name, dims) in tensors(shape) {
            let tensor = if name.ends_with("norm.weight") {
                Tensor::ones(dims, DType::F32, device)?
            } else {
                let count = dims.iter().product();
                let deviation = deviation(&name, shape);
                let values: Vec<f32> = (0..count).map(|_| deviation * normal(&mut random)).collect();
                Tensor::from_vec(values, dims, device)?
            };
            weights.insert(name, Var::from_tensor(&tensor)?);
        }
        let (cosines, sines) = rotations(shape)?;
        Ok(Self { shape, weights, cosines, sines, mask: mask(shape.row)? })
    }

    pub(crate) fn parameters(&self) -> usize {
        self.weights.values().map(|weight| weight.elem_count()).sum()
    }

    /// Weights that decay, and norms, which do not.
    pub(crate) fn groups(&self) -> (Vec<Var>, Vec<Var>) {
        let (norms, decaying): (Vec<_>, Vec<_>) =
            self.weights.iter().partition(|(name, _)| name.ends_with("norm.weight"));
        let variables = |group: Vec<(&String, &Var)>| group.into_iter().map(|(_, var)| var.clone()).collect();
        (variables(decaying), variables(norms))
    }

    /// Logits after the tokens of `rows` at the flat positions `wanted`.
    pub(crate) fn logits(&self, rows: &Tensor, wanted: &Tensor) -> Result<Tensor> {
        let (batch, length) = rows.dims2()?;
        let embedding = self.weight("model.embed_tokens");
        let hidden = self.shape.hidden;
        let mut stream = embedding.index_select(&rows.flatten_all()?, 0)?.reshape((batch, length, hidden))?;
        for layer in 0..self.shape.layers {
            let name = |part: &str| format!("model.layers.{layer}.{part}");
            let normed = self.norm(&stream, &name("input_layernorm"))?;
            stream = (stream + self.attend(&normed, layer)?)?;
            let normed = self.norm(&stream, &name("post_attention_layernorm"))?;
            let gate = linear(&normed, self.weight(&name("mlp.gate_proj")))?.silu()?;
            let up = linear(&normed, self.weight(&name("mlp.up_proj")))?;
            stream = (stream + linear(&(gate * up)?, self.weight(&name("mlp.down_proj")))?)?;
        }
        let stream = stream.reshape((batch * length, hidden))?.index_select(wanted, 0)?;
        Ok(self.norm(&stream, "model.norm")?.matmul(&embedding.t()?)?)
    }

    /// The weights in bf16, as they are stored.
    pub(crate) fn stored(&self) -> Result<HashMap<String, Tensor>> {
        let stored = |(name, weight): (&String, &Var)| Ok((name.clone(), weight.to_dtype(DType::BF16)?));
        self.weights.iter().map(stored).collect()
    }

    fn attend(&self, inputs: &Tensor, layer: usize) -> Result<Tensor> {
        let Shape { hidden, heads, shared_heads, .. } = self.shape;
        let (batch, length, _) = inputs.dims3()?;
        let width = hidden / heads;
        let project = |part: &str, heads: usize| -> Result<Tensor> {
            let name = format!("model.layers.{layer}.self_attn.{part}");
            let projected = linear(inputs, self.weight(&name))?.reshape((batch, length, heads, width))?;
            Ok(projected.transpose(1, 2)?.contiguous()?)
        };
        let query = rotary_emb::rope_slow(&project("q_proj", heads)?, &self.cosines, &self.sines)?;
        let key = rotary_emb::rope_slow(&project("k_proj", shared_heads)?, &self.cosines, &self.sines)?;
        let repeat = |shared: Tensor| -> Result<Tensor> {
            let times = heads / shared_heads;
            let all = shared.unsqueeze(2)?.broadcast_as((batch, shared_heads, times, length, width))?;
            Ok(all.reshape((batch, heads, length, width))?.contiguous()?)
        };
        let (key, value) = (repeat(key)?, repeat(project("v_proj", shared_heads)?)?);
        let scores = (query.matmul(&key.t()?)? * (1.0 / (width as f64).sqrt()))?;
        let weights = ops::softmax(&scores.broadcast_add(&self.mask)?, D::Minus1)?;
        let mixed = weights.matmul(&value)?.transpose(1, 2)?.reshape((batch, length, hidden))?;
        linear(&mixed, self.weight(&format!("model.layers.{layer}.self_attn.o_proj")))
    }

    fn norm(&self, inputs: &Tensor, name: &str) -> Result<Tensor> {
        Ok(ops::rms_norm_slow(inputs, self.weight(name), EPSILON as f32)?)
    }

    fn weight(&self, name: &str) -> &Tensor {
        self.weights[&format!("{name}.weight")].as_tensor()
    }
}

fn tensors(shape: Shape) -> Vec<(String, Vec<usize>)> {
    let Shape { hidden, intermediate, .. } = shape;
    let pair = hidden / shape.heads * shape.shared_heads;
    let mut tensors = vec![
        ("model.embed_tokens.weight".to_owned(), vec![shape.vocabulary, hidden]),
        ("model.norm.weight".to_owned(), vec![hidden]),
    ];
    for layer in 0..shape.layers {
        let parts = [
            ("input_layernorm", vec![hidden]),
            ("post_attention_layernorm", vec![hidden]),
            ("self_attn.q_proj", vec![hidden, hidden]),
            ("self_attn.k_proj", vec![pair, hidden]),
            ("self_attn.v_proj", vec![pair, hidden]),
            ("self_attn.o_proj", vec![hidden, hidden]),
            ("mlp.gate_proj", vec![intermediate, hidden]),
            ("mlp.up_proj", vec![intermediate, hidden]),
            ("mlp.down_proj", vec![hidden, intermediate]),
        ];
        tensors.extend(parts.map(|(part, dims)| (format!("model.layers.{layer}.{part}.weight"), dims)));
    }
    tensors
}

/// Standard deviation of the initial weights of a tensor. What adds to the stream starts smaller, the
/// deeper the model.
fn deviation(name: &str, shape: Shape) -> f32 {
    if name.contains("embed_tokens") {
        0.02
    } else if name.contains("o_proj") || name.contains("down_proj") {
        0.04 / (2.0 * shape.layers as f32).sqrt()
    } else {
        0.04
    }
}

/// A standard normal value (Box and Muller).
fn normal(random: &mut StdRng) -> f32 {
    let radius = (-2.0 * (1.0 - random.random::<f32>()).ln()).sqrt();
    radius * (TAU * random.random::<f32>()).cos()
}

fn linear(inputs: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let (batch, length, width) = inputs.dims3()?;
    let outputs = inputs.reshape((batch * length, width))?.matmul(&weight.t()?)?;
    Ok(outputs.reshape((batch, length, weight.dim(0)?))?)
}

/// Cosines and sines of every position of a row, `[row, head width / 2]`.
fn rotations(shape: Shape) -> Result<(Tensor, Tensor)> {
    let half = shape.hidden / shape.heads / 2;
    let angles: Vec<f32> = (0..shape.row)
        .flat_map(|position| {
            (0..half).map(move |pair| position as f32 / ROPE_THETA.powf(pair as f32 / half as f32))
        })
        .collect();
    let angles = Tensor::from_vec(angles, (shape.row, half), &Device::Cpu)?;
    Ok((angles.cos()?, angles.sin()?))
}

/// Hides the future.
fn mask(row: usize) -> Result<Tensor> {
    let hidden = (0..row * row).map(|index| if index % row > index / row { -1e9f32 } else { 0.0 });
    Ok(Tensor::from_vec(hidden.collect::<Vec<_>>(), (1, 1, row, row), &Device::Cpu)?)
}
