//! From logits to a token.

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde::{Deserialize, Serialize};

use crate::kernels::softmax;
use crate::request::RequestFault;

/// Largest temperature, as in OpenAI's API.
pub const MAX_TEMPERATURE: f32 = 2.0;

/// How tokens are drawn. Checked when it is made, also when it is decoded.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Raw", into = "Raw")]
pub struct Sampling {
    temperature: f32,
    top_p: f32,
    seed: Option<u64>,
}

impl Sampling {
    /// Always the most probable token, the lowest one of equals: the same weights on the same processor give
    /// the same answer.
    pub fn greedy() -> Self {
        Self { temperature: 0.0, top_p: 1.0, seed: None }
    }

    /// Draws with `temperature` (0 is greedy) among the most probable tokens that together reach probability
    /// `top_p`. With a `seed`, equal requests draw equally; without, from the operating system.
    ///
    /// # Errors
    /// `temperature` is not between 0 and [`MAX_TEMPERATURE`]; `top_p` is not above 0 and at most 1.
    pub fn new(temperature: f32, top_p: f32, seed: Option<u64>) -> Result<Self, RequestFault> {
        if !(0.0..=MAX_TEMPERATURE).contains(&temperature) {
            return Err(RequestFault::Temperature { value: temperature });
        }
        if !(top_p > 0.0 && top_p <= 1.0) {
            return Err(RequestFault::TopP { value: top_p });
        }
        Ok(Self { temperature, top_p, seed })
    }
}

#[derive(Serialize, Deserialize)]
struct Raw {
    temperature: f32,
    top_p: f32,
    seed: Option<u64>,
}

impl TryFrom<Raw> for Sampling {
    type Error = RequestFault;

    fn try_from(raw: Raw) -> Result<Self, RequestFault> {
        Self::new(raw.temperature, raw.top_p, raw.seed)
    }
}

impl From<Sampling> for Raw {
    fn from(Sampling { temperature, top_p, seed }: Sampling) -> Self {
        Self { temperature, top_p, seed }
    }
}

/// Draws the tokens of one completion.
pub struct Sampler {
    sampling: Sampling,
    random: StdRng,
}

impl Sampler {
    /// Starts from the seed of `sampling`, or from the operating system's random source.
    pub fn new(sampling: Sampling) -> Self {
        let random = sampling.seed.map_or_else(StdRng::from_os_rng, StdRng::seed_from_u64);
        Self { sampling, random }
    }

    /// Draws a token from `logits`, one per token, which must be finite and not empty.
    pub fn draw(&mut self, mut logits: Vec<f32>) -> u32 {
        if self.sampling.temperature == 0.0 {
            return argmax(&logits);
        }
        logits.iter_mut().for_each(|logit| *logit /= self.sampling.temperature);
        // A tiny temperature overflows to infinities, whose softmax is not a number: it means greedy.
        if logits.iter().any(|logit| !logit.is_finite()) {
            return argmax(&logits);
        }
        softmax(&mut logits);
        let candidates = nucleus(&logits, self.sampling.top_p);
        // In f64: over a large vocabulary the roundings of f32 add up to more than many a token's probability.
        let total: f64 = candidates.iter().map(|(_, probability)| f64::from(*probability)).sum();
        pick(&candidates, self.random.random::<f64>() * total)
    }
}

/// The candidate in whose share of the sum of all probabilities `place` lies. Where roundings put it behind the last share,
/// the most probable one.
fn pick(candidates: &[(u32, f32)], place: f64) -> u32 {
    let mut left = place;
    for (token, probability) in candidates {
        left -= f64::from(*probability);
        if left < 0.0 {
            return *token;
        }
    }
    let most_probable = candidates.iter().max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)));
    most_probable.map_or(0, |(token, _)| *token)
}

/// The most probable tokens that together reach `top_p`, most probable first.
fn nucleus(probabilities: &[f32], top_p: f32) -> Vec<(u32, f32)> {
    let mut candidates: Vec<(u32, f32)> = (0..).zip(probabilities.iter().copied()).collect();
    if top_p >= 1.0 {
        return candidates;
    }
    candidates.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let mut sum = 0.0;
    let kept = candidates.iter().take_while(|(_, probability)| {
        let below = sum < top_p;
        sum += probability;
        below
    });
    let kept = kept.count().max(1);
    candidates.truncate(kept);
    candidates
}

/// The first of the largest logits.
fn argmax(logits: &[f32]) -> u32 {
    let mut best = (0, f32::NEG_INFINITY);
    for (token, logit) in (0..).zip(logits) {
        if *logit > best.1 {
            best = (token, *logit);
        }
    }
    best.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draws(sampling: Sampling, logits: &[f32]) -> Vec<u32> {
        let mut sampler = Sampler::new(sampling);
        (0..200).map(|_| sampler.draw(logits.to_vec())).collect()
    }

    #[test]
    fn greedy_takes_the_first_of_equals() {
        assert_eq!(Sampler::new(Sampling::greedy()).draw(vec![0.0, 3.0, 3.0, 1.0]), 1);
    }

    #[test]
    fn a_seed_repeats() {
        let sampling = |seed| Sampling::new(1.0, 1.0, Some(seed)).unwrap();
        let logits = [0.1, 0.2, 0.3, 0.4];
        assert_eq!(draws(sampling(7), &logits), draws(sampling(7), &logits));
        assert_ne!(draws(sampling(7), &logits), draws(sampling(8), &logits));
    }

    #[test]
    fn the_nucleus_excludes_the_tail() {
        let logits = [5.0, 5.0, 0.0, -20.0];
        let drawn = draws(Sampling::new(1.0, 0.9, Some(1)).unwrap(), &logits);
        assert!(drawn.iter().all(|token| *token < 2));
        assert!(drawn.contains(&0) && drawn.contains(&1));
    }

    #[test]
    fn frequencies_follow_the_probabilities() {
        let drawn = draws(Sampling::new(1.0, 1.0, Some(1)).unwrap(), &[0.0, 3f32.ln()]);
        let ones = drawn.iter().filter(|token| **token == 1).count();
        assert!((130..170).contains(&ones), "{ones} of 200, expected about 150");
    }

    #[test]
    fn a_place_behind_all_shares_draws_the_most_probable_token_and_none_of_no_probability() {
        let candidates = [(0, 0.25), (1, 0.5), (2, 0.25), (3, 0.0)];
        for (place, token) in [(0.0, 0), (0.25, 1), (0.7499, 1), (0.75, 2), (0.999, 2), (1.0, 1), (2.0, 1)] {
            assert_eq!(pick(&candidates, place), token, "{place}");
        }
    }

    #[test]
    fn a_large_vocabulary_is_drawn_from_evenly() {
        // With sums in f32 the last tokens of so many would be drawn far too often or never.
        let logits = vec![0.0; 60_000];
        let drawn = draws(Sampling::new(1.0, 1.0, Some(3)).unwrap(), &logits);
        let upper = drawn.iter().filter(|token| **token >= 30_000).count();
        assert!((70..130).contains(&upper), "{upper} of 200, expected about 100");
        assert!(drawn.iter().filter(|token| **token == 59_999).count() < 2);
    }

    #[test]
    fn a_tiny_temperature_is_greedy() {
        let drawn = draws(Sampling::new(f32::MIN_POSITIVE, 1.0, Some(1)).unwrap(), &[1.0, 2.0, 1.5]);
        assert!(drawn.iter().all(|token| *token == 1));
    }

    #[test]
    fn values_out_of_range_are_refused() {
        for (temperature, top_p) in
            [(-0.1, 1.0), (2.1, 1.0), (f32::NAN, 1.0), (1.0, 0.0), (1.0, 1.1), (1.0, f32::NAN)]
        {
            assert!(Sampling::new(temperature, top_p, None).is_err(), "{temperature} {top_p}");
        }
    }

    #[test]
    fn decoding_checks_too() {
        let bytes =
            cbor4ii::serde::to_vec(Vec::new(), &Raw { temperature: 9.0, top_p: 1.0, seed: None }).unwrap();
        assert!(cbor4ii::serde::from_slice::<Sampling>(&bytes).is_err());
    }
}
