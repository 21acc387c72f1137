//! Pages of earlier prompts, kept for the next prompt of the same key-holder.
//!
//! Never across key-holders: whoever shares a cache with others can find out by the time of an answer what they
//! asked. A page is found by the key-holder, every token before it and its own tokens, compared as they are and not
//! by a hash that somebody could meet on purpose.

#![expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "counts pages, of which there are as many as memory holds, and cuts tokens into parts of a page"
)]

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::pages::{PAGE_TOKENS, Page};

/// Who may use what an earlier request of theirs computed: an opaque name, one for each key of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyHolder(pub [u8; 16]);

/// The pages that are kept.
#[derive(Default)]
pub(crate) struct PrefixCache {
    pages: HashMap<Place, Kept>,
    /// Counts uses.
    clock: u64,
    /// Counts pages that were ever kept, to name them.
    names: u64,
}

/// A name of a kept page; zero is the beginning of a prompt.
type Name = u64;
const BEGINNING: Name = 0;

/// Where a page stands: whose it is, what is before it, and what it holds.
#[derive(Clone, PartialEq, Eq, Hash, Zeroize, ZeroizeOnDrop)]
struct Place {
    #[zeroize(skip)]
    holder: KeyHolder,
    before: Name,
    tokens: Vec<u32>,
}

impl Place {
    fn new(holder: KeyHolder, before: Name, tokens: &[u32]) -> Self {
        Self { holder, before, tokens: tokens.to_vec() }
    }
}

struct Kept {
    name: Name,
    page: Arc<Page>,
    used: u64,
    /// Pages that stand behind it.
    followers: usize,
}

impl PrefixCache {
    /// The pages with which a prompt begins, oldest first. At least one token of it is left over, to be computed.
    pub(crate) fn find(&mut self, holder: KeyHolder, prompt: &[u32]) -> Vec<Arc<Page>> {
        self.clock += 1;
        let mut before = BEGINNING;
        let mut found = Vec::new();
        for tokens in prompt[..prompt.len().saturating_sub(1)].chunks_exact(PAGE_TOKENS) {
            let Some(kept) = self.pages.get_mut(&Place::new(holder, before, tokens)) else { break };
            kept.used = self.clock;
            before = kept.name;
            found.push(Arc::clone(&kept.page));
        }
        found
    }

    /// Keeps the full pages of a sequence whose tokens begin with `tokens`.
    pub(crate) fn keep(&mut self, holder: KeyHolder, tokens: &[u32], pages: &[Arc<Page>]) {
        self.clock += 1;
        let mut before: Option<Place> = None;
        let mut name = BEGINNING;
        for (tokens, page) in tokens.chunks_exact(PAGE_TOKENS).zip(pages) {
            let place = Place::new(holder, name, tokens);
            if let Some(kept) = self.pages.get_mut(&place) {
                kept.used = self.clock;
                name = kept.name;
            } else {
                self.names += 1;
                name = self.names;
                let kept = Kept { name, page: Arc::clone(page), used: self.clock, followers: 0 };
                self.pages.insert(place.clone(), kept);
                if let Some(before) = before.and_then(|before| self.pages.get_mut(&before)) {
                    before.followers += 1;
                }
            }
            before = Some(place);
        }
    }

    /// Gives up the page that was not used for longest, of those that no sequence holds and no other page stands behind.
    /// Returns whether there was one.
    pub(crate) fn give_up_one(&mut self) -> bool {
        let idle =
            self.pages.iter().filter(|(_, kept)| kept.followers == 0 && Arc::strong_count(&kept.page) == 1);
        let Some((place, _)) = idle.min_by_key(|(_, kept)| (kept.used, kept.name)) else { return false };
        let place = place.clone();
        self.pages.remove(&place);
        if let Some(before) = self.pages.values_mut().find(|kept| kept.name == place.before) {
            before.followers -= 1;
        }
        true
    }

    /// Pages that are kept.
    pub(crate) fn len(&self) -> usize {
        self.pages.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ModelConfig;
    use crate::pages::{KvCache, PagePool};

    const A: KeyHolder = KeyHolder([1; 16]);
    const B: KeyHolder = KeyHolder([2; 16]);

    fn pool(pages: usize) -> PagePool {
        let config = ModelConfig::parse(
            br#"{"architectures": ["LlamaForCausalLM"], "hidden_size": 8, "intermediate_size": 8,
            "num_hidden_layers": 1, "num_attention_heads": 1, "vocab_size": 8, "max_position_embeddings": 512}"#,
        );
        let config = config.unwrap();
        let pool = PagePool::new(&config, 0);
        PagePool::new(&config, pages * pool.page_bytes())
    }

    /// A sequence of `tokens` in a cache.
    fn sequence(pool: &PagePool, tokens: &[u32]) -> KvCache {
        let mut cache = KvCache::new(pool, tokens.len());
        cache.reserve(tokens.len()).unwrap();
        cache.advance(tokens.len());
        cache
    }

    fn tokens(length: usize, salt: u32) -> Vec<u32> {
        (0..length as u32).map(|index| index * 7 + salt).collect()
    }

    #[test]
    fn the_longest_common_beginning_is_found_and_one_token_is_left_over() {
        let pool = pool(10);
        let mut cache = PrefixCache::default();
        let prompt = tokens(3 * PAGE_TOKENS, 0);
        cache.keep(A, &prompt, sequence(&pool, &prompt).full_pages());
        assert_eq!(cache.find(A, &prompt).len(), 2, "the last page holds the token that must be computed");
        assert_eq!(cache.find(A, &tokens(3 * PAGE_TOKENS + 1, 0)).len(), 3);
        let mut other = tokens(3 * PAGE_TOKENS + 1, 0);
        other[PAGE_TOKENS] += 1;
        assert_eq!(cache.find(A, &other).len(), 1, "the second page differs");
        assert_eq!(cache.find(A, &tokens(PAGE_TOKENS, 0)).len(), 0);
        assert_eq!(cache.find(A, &[]).len(), 0);
    }

    #[test]
    fn nothing_is_found_of_another_key_holder() {
        let pool = pool(10);
        let mut cache = PrefixCache::default();
        let prompt = tokens(2 * PAGE_TOKENS, 0);
        cache.keep(A, &prompt, sequence(&pool, &prompt).full_pages());
        assert_eq!(cache.find(B, &tokens(3 * PAGE_TOKENS, 0)).len(), 0);
        assert_eq!(cache.find(A, &tokens(3 * PAGE_TOKENS, 0)).len(), 2);
    }

    #[test]
    fn what_was_not_used_for_longest_is_given_up_first_and_never_from_the_middle() {
        let pool = pool(6);
        let mut cache = PrefixCache::default();
        let (old, new) = (tokens(2 * PAGE_TOKENS, 0), tokens(2 * PAGE_TOKENS, 1));
        cache.keep(A, &old, sequence(&pool, &old).full_pages());
        cache.keep(A, &new, sequence(&pool, &new).full_pages());
        assert_eq!((cache.len(), pool.used()), (4, 4));
        let longer = |salt| tokens(2 * PAGE_TOKENS + 1, salt);
        cache.find(A, &longer(0));
        assert!(cache.give_up_one());
        assert_eq!((cache.find(A, &longer(1)).len(), cache.find(A, &longer(0)).len()), (1, 2));
        assert!(cache.give_up_one() && cache.give_up_one() && cache.give_up_one());
        assert!(!cache.give_up_one());
        assert_eq!((cache.len(), pool.used()), (0, 0));
    }

    #[test]
    fn a_page_that_a_sequence_holds_is_not_given_up() {
        let pool = pool(6);
        let mut cache = PrefixCache::default();
        let prompt = tokens(PAGE_TOKENS, 0);
        let sequence = sequence(&pool, &prompt);
        cache.keep(A, &prompt, sequence.full_pages());
        assert!(!cache.give_up_one());
        drop(sequence);
        assert!(cache.give_up_one());
        assert_eq!(pool.used(), 0);
    }

    #[test]
    fn the_same_tokens_are_kept_once() {
        let pool = pool(6);
        let mut cache = PrefixCache::default();
        let prompt = tokens(2 * PAGE_TOKENS, 0);
        let (first, second) = (sequence(&pool, &prompt), sequence(&pool, &prompt));
        cache.keep(A, &prompt, first.full_pages());
        cache.keep(A, &prompt, second.full_pages());
        drop((first, second));
        assert_eq!((cache.len(), pool.used()), (2, 2));
        while cache.give_up_one() {}
        assert_eq!(cache.len(), 0);
    }
}
