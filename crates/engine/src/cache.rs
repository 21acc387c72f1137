//! The key-value cache of one sequence.

use zeroize::Zeroize as _;

use crate::config::ModelConfig;
use crate::error::EngineError;

/// Keys and values of every layer for one sequence, allocated once for its whole length and overwritten
/// with zeros when it is dropped: they let whoever reads them reconstruct the prompt.
pub struct KvCache {
    /// Per layer: keys, then values, each `[key_value_head][position][head_dim]`.
    layers: Vec<(Vec<f32>, Vec<f32>)>,
    heads: usize,
    head_dim: usize,
    capacity: usize,
    length: usize,
}

impl KvCache {
    /// Room for `capacity` tokens of a model.
    ///
    /// # Errors
    /// [`EngineError::OutOfMemory`].
    pub fn new(config: &ModelConfig, capacity: usize) -> Result<Self, EngineError> {
        let (heads, head_dim) = (config.key_value_heads, config.head_dim);
        let values = heads.checked_mul(head_dim).and_then(|row| row.checked_mul(capacity));
        let values = values.ok_or(EngineError::OutOfMemory { bytes: usize::MAX })?;
        let layers = (0..config.layers)
            .map(|_| Ok((zeros(values)?, zeros(values)?)))
            .collect::<Result<_, EngineError>>()?;
        Ok(Self { layers, heads, head_dim, capacity, length: 0 })
    }

    /// Tokens in the cache.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether the cache holds no token.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Tokens that the cache has room for.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Stores key and value of one token, `heads * head_dim` values each, at `position`.
    pub(crate) fn store(&mut self, layer: usize, position: usize, key: &[f32], value: &[f32]) {
        let (head_dim, capacity) = (self.head_dim, self.capacity);
        let (keys, values) = &mut self.layers[layer];
        for head in 0..self.heads {
            let from = head * head_dim..(head + 1) * head_dim;
            let start = (head * capacity + position) * head_dim;
            keys[start..start + head_dim].copy_from_slice(&key[from.clone()]);
            values[start..start + head_dim].copy_from_slice(&value[from]);
        }
    }

    /// Keys and values of one head for the first `length` tokens, `length * head_dim` values each.
    pub(crate) fn head(&self, layer: usize, head: usize, length: usize) -> (&[f32], &[f32]) {
        let (keys, values) = &self.layers[layer];
        let start = head * self.capacity * self.head_dim;
        let range = start..start + length * self.head_dim;
        (&keys[range.clone()], &values[range])
    }

    /// Counts `tokens` more as stored.
    pub(crate) fn advance(&mut self, tokens: usize) {
        self.length += tokens;
    }
}

impl Drop for KvCache {
    fn drop(&mut self) {
        for (keys, values) in &mut self.layers {
            keys.zeroize();
            values.zeroize();
        }
    }
}

fn zeros(values: usize) -> Result<Vec<f32>, EngineError> {
    let mut vector = Vec::new();
    let bytes = values.saturating_mul(size_of::<f32>());
    vector.try_reserve_exact(values).map_err(|_| EngineError::OutOfMemory { bytes })?;
    vector.resize(values, 0.0);
    Ok(vector)
}
