//! Rotary position embedding, in the half-split layout of Hugging Face checkpoints.

#![expect(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "computes over rows whose sizes `config` bounds and `weights` checks; it reads no bytes of anybody"
)]

use std::f64::consts::TAU;

use crate::config::{ModelConfig, Pairs, RopeScaling};

/// The angular frequencies of a model's heads.
pub(crate) struct Rope {
    /// Radians per position for each of the `head_dim / 2` pairs.
    frequencies: Vec<f64>,
    pairs: Pairs,
}

impl Rope {
    pub(crate) fn new(config: &ModelConfig) -> Self {
        let width = config.head_dim as f64;
        let frequency = |pair: usize| config.rope_theta.powf(-2.0 * pair as f64 / width);
        let scaled = |pair| scale(pair, frequency(pair), &config.rope_scaling);
        Self { frequencies: (0..config.head_dim / 2).map(scaled).collect(), pairs: config.rope_pairs }
    }

    /// Cosines and sines of `position`.
    pub(crate) fn at(&self, position: usize) -> Rotation {
        #[expect(clippy::cast_possible_truncation, reason = "heads are f32")]
        let pairs = self.frequencies.iter().map(|frequency| {
            let (sine, cosine) = (frequency * position as f64).sin_cos();
            (cosine as f32, sine as f32)
        });
        Rotation { turns: pairs.collect(), pairs: self.pairs }
    }
}

/// The rotation of one position.
pub(crate) struct Rotation {
    /// Cosine and sine of each pair.
    turns: Vec<(f32, f32)>,
    pairs: Pairs,
}

impl Rotation {
    /// Turns every head of one row, `head_dim` values each, in place.
    pub(crate) fn apply(&self, row: &mut [f32]) {
        for head in row.chunks_exact_mut(2 * self.turns.len()) {
            match self.pairs {
                Pairs::Halves => {
                    let (low, high) = head.split_at_mut(self.turns.len());
                    for ((a, b), (cosine, sine)) in low.iter_mut().zip(high).zip(&self.turns) {
                        (*a, *b) = (*a * cosine - *b * sine, *b * cosine + *a * sine);
                    }
                }
                Pairs::Neighbours => {
                    let (pairs, _) = head.as_chunks_mut::<2>();
                    for ([a, b], (cosine, sine)) in pairs.iter_mut().zip(&self.turns) {
                        (*a, *b) = (*a * cosine - *b * sine, *b * cosine + *a * sine);
                    }
                }
            }
        }
    }
}

/// The frequency of a pair after stretching.
fn scale(pair: usize, frequency: f64, scaling: &RopeScaling) -> f64 {
    match scaling {
        RopeScaling::Unscaled => frequency,
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => {
            let turns = *original_context as f64 * frequency / TAU;
            let kept = ((turns - low_freq_factor) / (high_freq_factor - low_freq_factor)).clamp(0.0, 1.0);
            frequency * (kept + (1.0 - kept) / factor)
        }
        RopeScaling::Factors(factors) => {
            factors.get(pair).map_or(frequency, |factor| frequency / f64::from(*factor))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llama3_keeps_high_and_divides_low_frequencies() {
        let scaling = RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_context: 8192,
        };
        assert_eq!(scale(0, 1.0, &scaling), 1.0);
        assert_eq!(scale(0, 1e-6, &scaling), 1e-6 / 8.0);
        let middle = TAU * 2.5 / 8192.0;
        assert!((scale(0, middle, &scaling) - middle * (0.5 + 0.5 / 8.0)).abs() < 1e-12);
    }

    #[test]
    fn position_zero_changes_nothing() {
        let rotation = Rope { frequencies: vec![1.0, 0.5], pairs: Pairs::Halves }.at(0);
        let mut row = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];
        rotation.apply(&mut row);
        assert_eq!(row, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
    }

    #[test]
    fn halves_and_neighbours_turn_the_same_pairs_in_their_places() {
        let turned = |pairs, mut row: [f32; 4]| {
            Rope { frequencies: vec![1.0, 0.5], pairs }.at(3).apply(&mut row);
            row
        };
        let [a, b, c, d] = turned(Pairs::Halves, [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(turned(Pairs::Neighbours, [1.0, 3.0, 2.0, 4.0]), [a, c, b, d]);
    }

    #[test]
    fn factors_divide_the_frequency_of_their_pair() {
        let scaling = RopeScaling::Factors(vec![1.0, 4.0]);
        assert_eq!((scale(0, 0.5, &scaling), scale(1, 0.5, &scaling)), (0.5, 0.125));
    }
}
