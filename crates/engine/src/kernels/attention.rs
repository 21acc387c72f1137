//! Attention over pages of keys and values.

#![expect(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "lengths of slices that are in memory, and the size of a head as a number"
)]

use super::instructions::InstructionSet;
use super::rows::{add_weighted_with, scores_with, softmax_with};

/// Attention of a row of queries whose heads share one head of keys and values.
///
/// `query` and `into` have `head_dim` numbers for each of the heads. Each page has keys and values of the same tokens,
/// oldest first, `head_dim` numbers a token; the pages together have all tokens that the row may see. A score is divided
/// by the square root of `head_dim`. Without tokens the result is 0.
///
/// The result depends on the query and the tokens alone, and not on how they are divided into pages. `scores` is room to
/// work in, and holds what follows from the query afterwards.
///
/// # Panics
/// `query` or a page is not whole heads, or `into` is not as long as `query`, or a page's values are not as many as its
/// keys.
pub fn attend<'a>(
    query: &[f32],
    head_dim: usize,
    pages: impl Iterator<Item = (&'a [f32], &'a [f32])> + Clone,
    into: &mut [f32],
    scores: &mut Vec<f32>,
) {
    attend_with(InstructionSet::best(), query, head_dim, pages, into, scores);
}

fn attend_with<'a>(
    instructions: InstructionSet,
    query: &[f32],
    head_dim: usize,
    pages: impl Iterator<Item = (&'a [f32], &'a [f32])> + Clone,
    into: &mut [f32],
    scores: &mut Vec<f32>,
) {
    assert!(
        head_dim > 0 && query.len().is_multiple_of(head_dim),
        "{} numbers of heads of {head_dim}",
        query.len()
    );
    assert_eq!(into.len(), query.len(), "numbers of the query's heads");
    into.fill(0.0);
    let mut tokens = 0;
    for (keys, values) in pages.clone() {
        assert!(keys.len().is_multiple_of(head_dim), "{} numbers of keys of {head_dim}", keys.len());
        assert_eq!(keys.len(), values.len(), "numbers of keys and values");
        tokens += keys.len() / head_dim;
    }
    if tokens == 0 {
        return;
    }
    scores.clear();
    scores.resize(query.len() / head_dim * tokens, 0.0);
    let scale = 1.0 / (head_dim as f32).sqrt();
    let mut start = 0;
    for (keys, _) in pages.clone() {
        let end = start + keys.len() / head_dim;
        for (query, scores) in query.chunks_exact(head_dim).zip(scores.chunks_exact_mut(tokens)) {
            if let Some(scores) = scores.get_mut(start..end) {
                scores_with(instructions, query, keys, scale, scores);
            }
        }
        start = end;
    }
    for scores in scores.chunks_exact_mut(tokens) {
        softmax_with(instructions, scores);
    }
    let mut start = 0;
    for (_, values) in pages {
        let end = start + values.len() / head_dim;
        for (scores, into) in scores.chunks_exact(tokens).zip(into.chunks_exact_mut(head_dim)) {
            if let Some(weights) = scores.get(start..end) {
                add_weighted_with(instructions, weights, values, into);
            }
        }
        start = end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    /// The same in 64 bits, of one head.
    fn exact(query: &[f32], keys: &[f32], values: &[f32]) -> Vec<f64> {
        let width = query.len();
        let score = |key: &[f32]| {
            let products = query.iter().zip(key).map(|(one, other)| f64::from(*one) * f64::from(*other));
            (products.sum::<f64>() / (width as f64).sqrt()).exp()
        };
        let weights: Vec<f64> = keys.chunks(width).map(score).collect();
        let all: f64 = weights.iter().sum();
        let mixed = |column: usize| {
            let values = values.chunks(width).map(|value| f64::from(value[column]));
            weights.iter().zip(values).map(|(weight, value)| weight / all * value).sum()
        };
        (0..width).map(mixed).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_shape_in_any_pages(
            heads in 1usize..5, head_dim in 1usize..150, tokens in 1usize..90, page in 1usize..40, seed: u64,
        ) {
            let mut random = StdRng::seed_from_u64(seed);
            let mut numbers = |count: usize| -> Vec<f32> {
                (0..count).map(|_| random.random_range(-1.5..1.5)).collect()
            };
            let (query, keys, values) =
                (numbers(heads * head_dim), numbers(tokens * head_dim), numbers(tokens * head_dim));
            let pages = keys.chunks(page * head_dim).zip(values.chunks(page * head_dim));
            for set in InstructionSet::available() {
                let (mut into, mut whole) = (vec![7.0; query.len()], vec![0.0; query.len()]);
                let mut scores = vec![3.0; 5];
                attend_with(set, &query, head_dim, pages.clone(), &mut into, &mut scores);
                attend_with(set, &query, head_dim, std::iter::once((&*keys, &*values)), &mut whole, &mut scores);
                prop_assert_eq!(&into, &whole, "pages, {}", set.name());
                for (query, into) in query.chunks(head_dim).zip(into.chunks(head_dim)) {
                    for (found, expected) in into.iter().zip(exact(query, &keys, &values)) {
                        prop_assert!((f64::from(*found) - expected).abs() < 1e-5, "{} of {}", found, expected);
                    }
                }
            }
        }
    }

    #[test]
    fn heads_are_computed_as_if_alone() {
        let numbers: Vec<f32> = (0..37 * 64).map(|index| (index * 7 % 31) as f32 / 31.0 - 0.4).collect();
        let page = || std::iter::once((&numbers[..], &numbers[..]));
        let (mut both, mut one, mut scores) = ([0.0; 128], [0.0; 64], Vec::new());
        attend(&numbers[..128], 64, page(), &mut both, &mut scores);
        for head in 0..2 {
            attend(&numbers[head * 64..][..64], 64, page(), &mut one, &mut scores);
            assert_eq!(both[head * 64..][..64], one);
        }
    }

    #[test]
    fn without_tokens_nothing_is_mixed() {
        let mut into = [1.0; 4];
        attend(&[1.0; 4], 2, std::iter::empty(), &mut into, &mut Vec::new());
        attend(&[1.0; 4], 2, std::iter::once((&[][..], &[][..])), &mut into, &mut Vec::new());
        assert_eq!(into, [0.0; 4]);
    }

    #[test]
    #[should_panic(expected = "numbers of keys and values")]
    fn keys_need_values() {
        attend(&[1.0; 2], 2, std::iter::once((&[0.0; 4][..], &[0.0; 2][..])), &mut [0.0; 2], &mut Vec::new());
    }
}
