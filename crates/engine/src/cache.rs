//! The key-value cache of one sequence.

#![expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "computes over rows whose sizes `config` bounds and `weights` checks; it reads no bytes of anybody"
)]

use zeroize::Zeroize as _;

use crate::config::ModelConfig;
use crate::error::EngineError;

/// Tokens that the cache grows by.
const BLOCK: usize = 128;

/// Keys and values of every layer for one sequence. They let whoever reads them reconstruct the prompt, so
/// that they are overwritten with zeros when the cache is dropped.
///
/// Memory is taken in blocks of tokens as the sequence grows: a request that may fill a long context, but
/// does not, costs what it uses.
pub struct KvCache {
    /// Blocks of each layer, oldest first.
    layers: Vec<Vec<Block>>,
    heads: usize,
    head_dim: usize,
    capacity: usize,
    length: usize,
}

/// Keys and values of [`BLOCK`] tokens in one layer, each `[key_value_head][token][head_dim]`.
struct Block {
    keys: Vec<f32>,
    values: Vec<f32>,
}

impl KvCache {
    /// A cache for up to `capacity` tokens of a model. Takes no memory yet.
    pub fn new(config: &ModelConfig, capacity: usize) -> Self {
        let layers = (0..config.layers).map(|_| Vec::new()).collect();
        let (heads, head_dim) = (config.key_value_heads, config.head_dim);
        Self { layers, heads, head_dim, capacity, length: 0 }
    }

    /// Tokens in the cache.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether the cache holds no token.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Tokens that the cache may hold.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Takes memory for `tokens` more.
    ///
    /// # Errors
    /// [`EngineError::OutOfMemory`]. The cache stays as it was.
    pub(crate) fn reserve(&mut self, tokens: usize) -> Result<(), EngineError> {
        let blocks = (self.length + tokens).div_ceil(BLOCK);
        let values = self.heads * self.head_dim * BLOCK;
        for layer in &mut self.layers {
            while layer.len() < blocks {
                layer.push(Block { keys: zeros(values)?, values: zeros(values)? });
            }
        }
        Ok(())
    }

    /// Stores key and value of one token, `heads * head_dim` values each, at a reserved `position`.
    pub(crate) fn store(&mut self, layer: usize, position: usize, key: &[f32], value: &[f32]) {
        let head_dim = self.head_dim;
        let block = &mut self.layers[layer][position / BLOCK];
        for head in 0..self.heads {
            let from = head * head_dim..(head + 1) * head_dim;
            let start = (head * BLOCK + position % BLOCK) * head_dim;
            block.keys[start..start + head_dim].copy_from_slice(&key[from.clone()]);
            block.values[start..start + head_dim].copy_from_slice(&value[from]);
        }
    }

    /// Keys and values of one head for the first `length` tokens, in parts of whole tokens, oldest first.
    pub(crate) fn head(
        &self,
        layer: usize,
        head: usize,
        length: usize,
    ) -> impl Iterator<Item = (&[f32], &[f32])> + Clone {
        let (head_dim, start) = (self.head_dim, head * BLOCK * self.head_dim);
        self.layers[layer].iter().zip((0..length).step_by(BLOCK)).map(move |(block, first)| {
            let range = start..start + (length - first).min(BLOCK) * head_dim;
            (&block.keys[range.clone()], &block.values[range])
        })
    }

    /// Counts `tokens` more as stored.
    pub(crate) fn advance(&mut self, tokens: usize) {
        self.length += tokens;
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        self.keys.zeroize();
        self.values.zeroize();
    }
}

fn zeros(values: usize) -> Result<Vec<f32>, EngineError> {
    let mut vector = Vec::new();
    let bytes = values.saturating_mul(size_of::<f32>());
    vector.try_reserve_exact(values).map_err(|_| EngineError::OutOfMemory { bytes })?;
    vector.resize(values, 0.0);
    Ok(vector)
}
