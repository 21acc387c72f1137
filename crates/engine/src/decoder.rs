//! The decoder: embedding, layers of attention and feed-forward, output projection.
//!
//! One step runs tokens of many sequences at once, so that weights are read from memory once for all of them. What a
//! sequence gets does not depend on what else runs: every row of a product is summed in an order of its own
//! ([`kernels`](crate::kernels)), and nothing else mixes rows.

#![expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "computes over rows whose sizes `config` bounds and `weights` checks; it reads no bytes of anybody"
)]

use std::sync::{Arc, Mutex, PoisonError};

use crate::config::{Family, ModelConfig};
use crate::error::EngineError;
use crate::kernels::{self, Activations, Matrix, Threads};
use crate::pages::KvCache;
use crate::rope::{Rope, Rotation};
use crate::weights::Weights;

/// A Llama, Qwen2 or Qwen3 decoder.
pub struct Decoder {
    config: ModelConfig,
    embedding: Arc<Matrix>,
    layers: Vec<Layer>,
    norm: Vec<f32>,
    head: Arc<Matrix>,
    rope: Rope,
    threads: Threads,
}

/// The next tokens of one sequence.
pub struct Run<'a> {
    /// What the sequence has computed. The tokens are added to it.
    pub cache: &'a mut KvCache,
    /// The tokens, at least one.
    pub tokens: &'a [u32],
    /// Whether the logits after the last of them are wanted.
    pub logits: bool,
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
    weight: Arc<Matrix>,
    bias: Option<Vec<f32>>,
}

/// Where a row of a step comes from.
struct Row {
    run: usize,
    position: usize,
    rotation: Rotation,
}

impl Decoder {
    /// Builds the decoder of `config` from its tensors, to compute on `threads`.
    ///
    /// # Errors
    /// A tensor is missing: `weights` were loaded for another configuration.
    pub fn new(config: ModelConfig, mut weights: Weights, threads: Threads) -> Result<Self, EngineError> {
        let embedding = weights.matrix("model.embed_tokens.weight")?;
        let head =
            if config.tied_embeddings { Arc::clone(&embedding) } else { weights.matrix("lm_head.weight")? };
        let layers = (0..config.layers).map(|index| Layer::new(&config, index, &mut weights));
        Ok(Self {
            layers: layers.collect::<Result<_, _>>()?,
            norm: weights.vector("model.norm.weight")?,
            head,
            rope: Rope::new(&config),
            embedding,
            config,
            threads,
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
    /// As [`step`](Self::step), and where the logits are not finite.
    pub fn forward(&self, tokens: &[u32], cache: &mut KvCache) -> Result<Vec<f32>, EngineError> {
        let mut logits = self.step(&mut [Run { cache, tokens, logits: true }])?;
        logits.pop().flatten().ok_or(EngineError::NotFinite)
    }

    /// Runs the tokens of several sequences together. Returns for each the logits after its last token, one per row of
    /// the vocabulary: nothing where they are not wanted, or are not finite.
    ///
    /// # Errors
    /// A run without tokens, with a token outside the vocabulary, or without room or memory in its cache. No sequence has
    /// then gone on.
    pub fn step(&self, runs: &mut [Run<'_>]) -> Result<Vec<Option<Vec<f32>>>, EngineError> {
        for run in runs.iter_mut() {
            self.check(run)?;
            run.cache.reserve(run.tokens.len())?;
        }
        let rows = self.rows(runs);
        let width = self.config.hidden;
        let mut stream = vec![0.0; rows.len() * width];
        let tokens = runs.iter().flat_map(|run| run.tokens);
        for (row, token) in stream.chunks_exact_mut(width).zip(tokens) {
            self.embedding.row(index(*token), row);
        }
        for (number, layer) in self.layers.iter().enumerate() {
            let normed = self.normed(&stream, &layer.attention_norm);
            add(&mut stream, &self.attend(number, layer, &normed, &rows, runs));
            let normed = self.normed(&stream, &layer.feed_norm);
            add(&mut stream, &layer.feed_forward(&normed, &self.threads));
        }
        let logits = self.logits(&stream, runs);
        runs.iter_mut().for_each(|run| run.cache.advance(run.tokens.len()));
        Ok(logits)
    }

    fn check(&self, run: &Run<'_>) -> Result<(), EngineError> {
        let (length, capacity) = (run.cache.len(), run.cache.capacity());
        if run.tokens.is_empty() || run.tokens.len() > capacity.saturating_sub(length) {
            let prompt = length.saturating_add(run.tokens.len());
            return Err(EngineError::ContextTooLong { prompt, completion: 0, context: capacity });
        }
        let vocabulary = self.config.vocabulary;
        match run.tokens.iter().find(|token| index(**token) >= vocabulary) {
            Some(token) => Err(EngineError::TokenUnknown { token: *token, vocabulary }),
            None => Ok(()),
        }
    }

    fn rows(&self, runs: &[Run<'_>]) -> Vec<Row> {
        let of_run = |(run, Run { cache, tokens, .. }): (usize, &Run<'_>)| {
            let start = cache.len();
            (start..start + tokens.len()).map(move |position| Row {
                run,
                position,
                rotation: self.rope.at(position),
            })
        };
        runs.iter().enumerate().flat_map(of_run).collect()
    }

    fn normed(&self, stream: &[f32], weight: &[f32]) -> Activations {
        Activations::new(rms_norm(stream, weight, self.config.norm_epsilon), self.config.hidden)
    }

    /// The logits of the last row of each run that wants them.
    fn logits(&self, stream: &[f32], runs: &[Run<'_>]) -> Vec<Option<Vec<f32>>> {
        let width = self.config.hidden;
        let mut behind = 0;
        let mut last = Vec::new();
        for run in runs {
            behind += run.tokens.len();
            if run.logits {
                last.extend_from_slice(&stream[(behind - 1) * width..behind * width]);
            }
        }
        if last.is_empty() {
            return runs.iter().map(|_| None).collect();
        }
        let vocabulary = self.config.vocabulary;
        let mut all = vec![0.0; last.len() / width * vocabulary];
        self.head.multiply(&self.normed(&last, &self.norm), &mut all, &self.threads);
        let mut wanted = all.chunks_exact(vocabulary);
        let logits = |run: &Run<'_>| if run.logits { wanted.next() } else { None };
        let finite = |logits: &&[f32]| logits.iter().all(|logit| logit.is_finite());
        runs.iter().map(logits).map(|logits| logits.filter(finite).map(<[f32]>::to_vec)).collect()
    }

    /// Attention of one layer over normed inputs, whose keys and values are stored on the way.
    fn attend(
        &self,
        number: usize,
        layer: &Layer,
        inputs: &Activations,
        rows: &[Row],
        runs: &mut [Run<'_>],
    ) -> Vec<f32> {
        let (head_dim, shared) = (self.config.head_dim, self.config.key_value_heads);
        let (query_row, key_row) = (self.config.heads * head_dim, shared * head_dim);
        let mut query = layer.query.forward(inputs, &self.threads);
        let mut key = layer.key.forward(inputs, &self.threads);
        let value = layer.value.forward(inputs, &self.threads);
        if let Some((query_norm, key_norm)) = &layer.head_norms {
            query = rms_norm(&query, query_norm, self.config.norm_epsilon);
            key = rms_norm(&key, key_norm, self.config.norm_epsilon);
        }
        for (index, row) in rows.iter().enumerate() {
            row.rotation.apply(&mut query[index * query_row..(index + 1) * query_row]);
            let range = index * key_row..(index + 1) * key_row;
            row.rotation.apply(&mut key[range.clone()]);
            runs[row.run].cache.store(number, row.position, &key[range.clone()], &value[range]);
        }
        let group = query_row / shared;
        let mut mixed = vec![0.0; rows.len() * query_row];
        let runs = &*runs;
        each_chunk(&self.threads, &mut mixed, group, &|unit, output, scores| {
            let (row, head) = (&rows[unit / shared], unit % shared);
            let seen = runs[row.run].cache.head(number, head, row.position + 1);
            kernels::attend(&query[unit * group..(unit + 1) * group], head_dim, seen, output, scores);
        });
        layer.output.forward(&Activations::new(mixed, query_row), &self.threads)
    }
}

/// Fills the part with that index, with room to work in.
type FillChunk<'a> = dyn Fn(usize, &mut [f32], &mut Vec<f32>) + Sync + 'a;

/// Fills each part of `values` on one of `threads`. Every part is filled by itself, so that it does not matter by which.
fn each_chunk(threads: &Threads, values: &mut [f32], length: usize, fill: &FillChunk<'_>) {
    let chunks = values.len() / length;
    let open = Mutex::new(values.chunks_exact_mut(length).enumerate());
    threads.run(chunks.min(threads.count()), &|_| {
        let mut scratch = Vec::new();
        loop {
            // The lock is not held while a chunk is filled.
            let next = open.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some((index, chunk)) = next else { return };
            fill(index, chunk, &mut scratch);
        }
    });
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
                weights.vector(&name("self_attn.q_norm.weight"))?,
                weights.vector(&name("self_attn.k_norm.weight"))?,
            )),
            Family::Llama | Family::Qwen2 => None,
        };
        Ok(Self {
            attention_norm: weights.vector(&name("input_layernorm.weight"))?,
            query: load(weights, &name("self_attn.q_proj"))?,
            key: load(weights, &name("self_attn.k_proj"))?,
            value: load(weights, &name("self_attn.v_proj"))?,
            output: Linear::without_bias(weights, &name("self_attn.o_proj"))?,
            head_norms,
            feed_norm: weights.vector(&name("post_attention_layernorm.weight"))?,
            gate: Linear::without_bias(weights, &name("mlp.gate_proj"))?,
            up: Linear::without_bias(weights, &name("mlp.up_proj"))?,
            down: Linear::without_bias(weights, &name("mlp.down_proj"))?,
        })
    }

    /// SwiGLU: `down(silu(gate(x)) * up(x))`.
    fn feed_forward(&self, inputs: &Activations, threads: &Threads) -> Vec<f32> {
        let mut gate = self.gate.forward(inputs, threads);
        let up = self.up.forward(inputs, threads);
        kernels::silu_multiply(&mut gate, &up);
        self.down.forward(&Activations::new(gate, self.gate.weight.outputs()), threads)
    }
}

impl Linear {
    fn without_bias(weights: &mut Weights, name: &str) -> Result<Self, EngineError> {
        Ok(Self { weight: weights.matrix(&format!("{name}.weight"))?, bias: None })
    }

    fn with_bias(weights: &mut Weights, name: &str) -> Result<Self, EngineError> {
        let bias = weights.vector(&format!("{name}.bias"))?;
        Ok(Self { bias: Some(bias), ..Self::without_bias(weights, name)? })
    }

    /// Applies the projection to every row.
    fn forward(&self, inputs: &Activations, threads: &Threads) -> Vec<f32> {
        let mut outputs = vec![0.0; inputs.rows() * self.weight.outputs()];
        self.weight.multiply(inputs, &mut outputs, threads);
        if let Some(bias) = &self.bias {
            outputs.chunks_exact_mut(bias.len()).for_each(|row| add(row, bias));
        }
        outputs
    }
}

/// Root-mean-square norm of each row of `weight.len()` values.
fn rms_norm(rows: &[f32], weight: &[f32], epsilon: f32) -> Vec<f32> {
    let mut normed = rows.to_vec();
    for row in normed.chunks_exact_mut(weight.len()) {
        kernels::rms_norm(row, weight, epsilon);
    }
    normed
}

fn add(sum: &mut [f32], other: &[f32]) {
    sum.iter_mut().zip(other).for_each(|(sum, other)| *sum += other);
}

/// A token as the row of a matrix.
fn index(token: u32) -> usize {
    usize::try_from(token).unwrap_or(usize::MAX)
}
