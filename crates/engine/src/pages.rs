//! Memory of keys and values, in pages that sequences take and give back.
//!
//! A sequence that may fill a long context, but does not, costs what it uses; one that is cancelled frees its
//! pages at once. Pages let whoever reads them reconstruct a prompt, so that they are overwritten with zeros when
//! they are given back, before anybody else can have them.

#![expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "computes over rows whose sizes `config` bounds and `weights` checks; it reads no bytes of anybody"
)]

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use zeroize::Zeroize as _;

use crate::config::ModelConfig;
use crate::error::EngineError;

/// Tokens of a page.
pub const PAGE_TOKENS: usize = 32;

/// All pages of one model. Clones share it.
#[derive(Clone)]
pub struct PagePool(Arc<Shared>);

struct Shared {
    shape: Shape,
    limit: usize,
    state: Mutex<State>,
}

#[derive(Clone, Copy)]
struct Shape {
    layers: usize,
    heads: usize,
    head_dim: usize,
}

impl Shape {
    /// Values of one head's keys, or values, in one layer of a page.
    fn head(self) -> usize {
        PAGE_TOKENS * self.head_dim
    }

    /// Values of a page.
    fn page(self) -> usize {
        self.layers * 2 * self.heads * self.head()
    }

    /// Where the keys of `head` in `layer` begin; its values are [`Self::values`] behind them.
    fn keys(self, layer: usize, head: usize) -> usize {
        (layer * 2 * self.heads + head) * self.head()
    }

    fn values(self) -> usize {
        self.heads * self.head()
    }
}

/// Pages that nobody holds, all zeros, and the number of those that somebody does.
#[derive(Default)]
struct State {
    free: Vec<Vec<f32>>,
    used: usize,
}

impl PagePool {
    /// A pool for a model of at most `bytes`, and at least one page. Memory is taken when pages are first used, and kept.
    pub fn new(config: &ModelConfig, bytes: usize) -> Self {
        let shape = Shape { layers: config.layers, heads: config.key_value_heads, head_dim: config.head_dim };
        let limit = (bytes / (shape.page() * size_of::<f32>())).max(1);
        Self(Arc::new(Shared { shape, limit, state: Mutex::default() }))
    }

    /// Pages that the pool may have.
    pub fn limit(&self) -> usize {
        self.0.limit
    }

    /// Pages that sequences hold, and those that are kept for their next prompts.
    pub fn used(&self) -> usize {
        self.0.lock().used
    }

    /// Pages that can still be taken.
    pub fn free(&self) -> usize {
        self.limit() - self.used()
    }

    /// Bytes of one page.
    pub fn page_bytes(&self) -> usize {
        self.0.shape.page() * size_of::<f32>()
    }

    /// Takes a page of zeros.
    ///
    /// # Errors
    /// [`EngineError::OutOfMemory`]: all are in use, or the system has no memory.
    fn take(&self) -> Result<Page, EngineError> {
        let mut state = self.0.lock();
        let missing = EngineError::OutOfMemory { bytes: self.page_bytes() };
        if state.used >= self.0.limit {
            return Err(missing);
        }
        let floats = match state.free.pop() {
            Some(floats) => floats,
            None => zeros(self.0.shape.page()).ok_or(missing)?,
        };
        state.used += 1;
        Ok(Page { floats, pool: Arc::clone(&self.0) })
    }
}

impl Shared {
    /// Nothing that can panic runs under the lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keys and values of [`PAGE_TOKENS`] tokens in every layer, `[layer][keys, values][head][token][head_dim]`. Zeroed
/// and given back when dropped.
pub(crate) struct Page {
    floats: Vec<f32>,
    pool: Arc<Shared>,
}

impl Drop for Page {
    fn drop(&mut self) {
        // As a slice: the vector keeps its length.
        self.floats.as_mut_slice().zeroize();
        let mut state = self.pool.lock();
        state.used -= 1;
        state.free.push(std::mem::take(&mut self.floats));
    }
}

/// The key-value cache of one sequence.
pub struct KvCache {
    pool: PagePool,
    pages: Vec<Arc<Page>>,
    capacity: usize,
    length: usize,
}

impl KvCache {
    /// A cache for up to `capacity` tokens. Takes no pages yet.
    pub fn new(pool: &PagePool, capacity: usize) -> Self {
        Self { pool: pool.clone(), pages: Vec::new(), capacity, length: 0 }
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

    /// Pages that it must take for `tokens` more.
    pub(crate) fn pages_for(&self, tokens: usize) -> usize {
        (self.length + tokens).div_ceil(PAGE_TOKENS) - self.pages.len()
    }

    /// Tokens that fit into the pages that it holds.
    pub(crate) fn room(&self) -> usize {
        self.pages.len() * PAGE_TOKENS - self.length
    }

    /// Takes pages for `tokens` more.
    ///
    /// # Errors
    /// [`EngineError::OutOfMemory`]. The cache holds what it held, and perhaps some pages more.
    pub(crate) fn reserve(&mut self, tokens: usize) -> Result<(), EngineError> {
        for _ in 0..self.pages_for(tokens) {
            self.pages.push(Arc::new(self.pool.take()?));
        }
        Ok(())
    }

    /// Begins with the full pages that another sequence with the same first tokens computed.
    pub(crate) fn begin_with(&mut self, pages: Vec<Arc<Page>>) {
        self.length = pages.len() * PAGE_TOKENS;
        self.pages = pages;
    }

    /// Forgets everything and gives all pages back.
    pub(crate) fn clear(&mut self) {
        self.pages.clear();
        self.length = 0;
    }

    /// The pages that are full, oldest first. They are not written any more.
    pub(crate) fn full_pages(&self) -> &[Arc<Page>] {
        &self.pages[..self.length / PAGE_TOKENS]
    }

    /// Stores key and value of one token, `heads * head_dim` values each, at a reserved `position` behind those that count.
    pub(crate) fn store(&mut self, layer: usize, position: usize, key: &[f32], value: &[f32]) {
        let shape = self.pool.0.shape;
        let page = Arc::get_mut(&mut self.pages[position / PAGE_TOKENS]);
        let floats = &mut page.expect("pages are shared when they are full, and not written then").floats;
        let within = position % PAGE_TOKENS * shape.head_dim;
        for (head, (key, value)) in
            key.chunks_exact(shape.head_dim).zip(value.chunks_exact(shape.head_dim)).enumerate()
        {
            let start = shape.keys(layer, head) + within;
            floats[start..start + shape.head_dim].copy_from_slice(key);
            let start = start + shape.values();
            floats[start..start + shape.head_dim].copy_from_slice(value);
        }
    }

    /// Keys and values of one head for the first `length` tokens, in parts of whole tokens, oldest first.
    pub(crate) fn head(
        &self,
        layer: usize,
        head: usize,
        length: usize,
    ) -> impl Iterator<Item = (&[f32], &[f32])> + Clone {
        let shape = self.pool.0.shape;
        let start = shape.keys(layer, head);
        self.pages.iter().zip((0..length).step_by(PAGE_TOKENS)).map(move |(page, first)| {
            let floats = (length - first).min(PAGE_TOKENS) * shape.head_dim;
            let behind = start + shape.values();
            (&page.floats[start..start + floats], &page.floats[behind..behind + floats])
        })
    }

    /// Counts `tokens` more as stored.
    pub(crate) fn advance(&mut self, tokens: usize) {
        self.length += tokens;
    }
}

fn zeros(values: usize) -> Option<Vec<f32>> {
    let mut vector = Vec::new();
    vector.try_reserve_exact(values).ok()?;
    vector.resize(values, 0.0);
    Some(vector)
}
