//! Norms, sums and weights of rows of numbers.
//!
//! Each function is plain Rust that is compiled for every set of instructions. It adds up in 16 lanes, and these in a
//! fixed order: the result for a row depends on the row alone.

#![expect(unsafe_code, reason = "calls of functions for instructions that the processor was found to have")]
#![expect(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing,
    reason = "sums of numbers with a floating point, and offsets within slices whose lengths are compared"
)]

use super::instructions::{InstructionSet, Kind};

/// Sums that are added to by turns.
const LANES: usize = 16;

/// The sum of the products of two rows' numbers.
///
/// # Panics
/// The rows are not equally long.
pub fn dot(one: &[f32], other: &[f32]) -> f32 {
    dot_with(InstructionSet::best(), one, other)
}

/// Turns scores into weights that sum to one: their exponentials, over the sum of these.
///
/// One that is not a number makes all weights that.
pub fn softmax(scores: &mut [f32]) {
    softmax_with(InstructionSet::best(), scores);
}

/// Divides a row by its root mean square, to whose square `epsilon` is added, and multiplies it with the weights.
///
/// # Panics
/// There are not as many weights as numbers.
pub fn rms_norm(row: &mut [f32], weights: &[f32], epsilon: f32) {
    rms_norm_with(InstructionSet::best(), row, weights, epsilon);
}

/// Replaces each number x of `gate` by x · σ(x) · y, where y is the number of `up` in the same place and σ the logistic
/// function: the middle of a SwiGLU.
///
/// # Panics
/// The slices are not equally long.
pub fn silu_multiply(gate: &mut [f32], up: &[f32]) {
    silu_multiply_with(InstructionSet::best(), gate, up);
}

/// Compiles a function for each set of instructions, under another name, and calls the one for a set.
macro_rules! compiled {
    ($(#[$doc:meta])* $with:ident is $body:ident($($name:ident: $type:ty),*) $(-> $result:ty)?) => {
        $(#[$doc])*
        pub(super) fn $with(instructions: InstructionSet, $($name: $type),*) $(-> $result)? {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2($($name: $type),*) $(-> $result)? {
                $body::<true>($($name),*)
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512vl,fma")]
            fn avx512($($name: $type),*) $(-> $result)? {
                $body::<true>($($name),*)
            }
            match instructions.kind() {
                Kind::Portable => $body::<false>($($name),*),
                #[cfg(target_arch = "x86_64")]
                // SAFETY: `instructions` exist only where the processor has them.
                Kind::Avx2 => unsafe { avx2($($name),*) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: as above.
                Kind::Avx512 => unsafe { avx512($($name),*) },
                #[cfg(not(target_arch = "x86_64"))]
                Kind::Avx2 | Kind::Avx512 => unreachable!("instructions that were not found"),
            }
        }
    };
}

compiled!(dot_with is dot_in(one: &[f32], other: &[f32]) -> f32);
compiled!(softmax_with is softmax_in(scores: &mut [f32]));
compiled!(rms_norm_with is rms_norm_in(row: &mut [f32], weights: &[f32], epsilon: f32));
compiled!(silu_multiply_with is silu_multiply_in(gate: &mut [f32], up: &[f32]));
compiled!(
    /// Writes the products of a query with each of some keys, multiplied with `scale`.
    scores_with is scores_in(query: &[f32], keys: &[f32], scale: f32, into: &mut [f32])
);
compiled!(
    /// Adds some rows, each multiplied with its weight.
    add_weighted_with is add_weighted_in(weights: &[f32], rows: &[f32], into: &mut [f32])
);

#[inline(always)]
fn dot_in<const FUSED: bool>(one: &[f32], other: &[f32]) -> f32 {
    assert_eq!(one.len(), other.len(), "numbers of two rows");
    let ((ones, rest_of_one), (others, rest_of_other)) =
        (one.as_chunks::<LANES>(), other.as_chunks::<LANES>());
    let mut lanes = [0.0; LANES];
    for (ones, others) in ones.iter().zip(others) {
        for lane in 0..LANES {
            lanes[lane] = fused::<FUSED>(ones[lane], others[lane], lanes[lane]);
        }
    }
    for ((one, other), lane) in rest_of_one.iter().zip(rest_of_other).zip(&mut lanes) {
        *lane = fused::<FUSED>(*one, *other, *lane);
    }
    total(lanes)
}

#[inline(always)]
fn softmax_in<const FUSED: bool>(scores: &mut [f32]) {
    let (chunks, rest) = scores.as_chunks::<LANES>();
    let mut largest = [f32::NEG_INFINITY; LANES];
    for chunk in chunks.iter().map(<[f32; LANES]>::as_slice).chain([rest]) {
        for (lane, score) in largest.iter_mut().zip(chunk) {
            *lane = if *score > *lane { *score } else { *lane };
        }
    }
    let largest =
        largest.into_iter().fold(f32::NEG_INFINITY, |one, other| if other > one { other } else { one });
    let mut sums = [0.0; LANES];
    let (chunks, rest) = scores.as_chunks_mut::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            chunk[lane] = exponential::<FUSED>(chunk[lane] - largest);
            sums[lane] += chunk[lane];
        }
    }
    for (score, sum) in rest.iter_mut().zip(&mut sums) {
        *score = exponential::<FUSED>(*score - largest);
        *sum += *score;
    }
    let scale = 1.0 / total(sums);
    for score in scores {
        *score *= scale;
    }
}

#[inline(always)]
fn rms_norm_in<const FUSED: bool>(row: &mut [f32], weights: &[f32], epsilon: f32) {
    assert_eq!(row.len(), weights.len(), "numbers of a row and weights");
    let mean = dot_in::<FUSED>(row, row) / row.len() as f32;
    let scale = 1.0 / (mean + epsilon).sqrt();
    for (number, weight) in row.iter_mut().zip(weights) {
        *number = *number * scale * weight;
    }
}

#[inline(always)]
fn silu_multiply_in<const FUSED: bool>(gate: &mut [f32], up: &[f32]) {
    assert_eq!(gate.len(), up.len(), "numbers of two rows");
    for (gate, up) in gate.iter_mut().zip(up) {
        *gate = *gate / (1.0 + exponential::<FUSED>(-*gate)) * up;
    }
}

#[inline(always)]
fn scores_in<const FUSED: bool>(query: &[f32], keys: &[f32], scale: f32, into: &mut [f32]) {
    for (score, key) in into.iter_mut().zip(keys.chunks_exact(query.len())) {
        *score = dot_in::<FUSED>(query, key) * scale;
    }
}

/// By as many columns at a time as stay in registers.
#[inline(always)]
fn add_weighted_in<const FUSED: bool>(weights: &[f32], rows: &[f32], into: &mut [f32]) {
    let width = into.len();
    let (wide, rest) = into.as_chunks_mut::<{ 4 * LANES }>();
    let mut start = 0;
    for sums in wide {
        add_columns::<FUSED, { 4 * LANES }>(weights, rows, width, start, sums);
        start += 4 * LANES;
    }
    let (narrow, rest) = rest.as_chunks_mut::<LANES>();
    for sums in narrow {
        add_columns::<FUSED, LANES>(weights, rows, width, start, sums);
        start += LANES;
    }
    for sum in rest.as_chunks_mut::<1>().0 {
        add_columns::<FUSED, 1>(weights, rows, width, start, sum);
        start += 1;
    }
}

#[inline(always)]
fn add_columns<const FUSED: bool, const N: usize>(
    weights: &[f32],
    rows: &[f32],
    width: usize,
    start: usize,
    into: &mut [f32; N],
) {
    let mut sums = *into;
    for (weight, row) in weights.iter().zip(rows.chunks_exact(width)) {
        let Some(numbers) = row[start..].first_chunk::<N>() else { return };
        for lane in 0..N {
            sums[lane] = fused::<FUSED>(*weight, numbers[lane], sums[lane]);
        }
    }
    *into = sums;
}

/// e to the power of a number, to 3 parts in 10 million; 0 below −87 and infinity above 88.
///
/// It is 2ⁿ · eʳ, where n is whole and r at most ln 2 / 2 from 0, and eʳ the first terms of its series.
#[inline(always)]
fn exponential<const FUSED: bool>(number: f32) -> f32 {
    let shifted = fused::<FUSED>(number, std::f32::consts::LOG2_E, ROUNDS);
    let whole = shifted - ROUNDS;
    let rest = fused::<FUSED>(whole, -LN_2_LOWER, fused::<FUSED>(whole, -LN_2_UPPER, number));
    let mut power = 1.0 / 5040.0;
    for factor in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        power = fused::<FUSED>(power, rest, factor);
    }
    let power = power * f32::from_bits(shifted.to_bits().wrapping_add(127) << 23);
    if number < LEAST {
        0.0
    } else if number > MOST {
        f32::INFINITY
    } else {
        power
    }
}

/// `one * other + sum`, rounded once where there is an instruction for it.
#[inline(always)]
fn fused<const FUSED: bool>(one: f32, other: f32, sum: f32) -> f32 {
    if FUSED { one.mul_add(other, sum) } else { one * other + sum }
}

/// Halves are added to each other until one number is left.
#[inline(always)]
fn total(mut lanes: [f32; LANES]) -> f32 {
    for half in [8, 4, 2, 1] {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
    }
    lanes[0]
}

/// 1.5 · 2²³: a number added to it is rounded to an integer, which is in the lowest bits of the sum.
const ROUNDS: f32 = 12_582_912.0;
/// ln 2 to 9 bits, so that its multiples are exact.
const LN_2_UPPER: f32 = 355.0 / 512.0;
/// What is missing of ln 2.
const LN_2_LOWER: f32 = -2.121_944_4e-4;
/// Below it the power would have no exponent of its own.
const LEAST: f32 = -87.0;
/// Above it the power would have none.
const MOST: f32 = 88.0;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn close(found: f32, expected: f64, bound: f64) -> bool {
        (f64::from(found) - expected).abs() <= bound
    }

    #[test]
    fn exponentials_are_those_of_64_bits() {
        for step in -87_000..=88_000_i32 {
            let number = step as f32 / 1000.0;
            let expected = f64::from(number).exp();
            for found in [exponential::<false>(number), exponential::<true>(number)] {
                assert!(close(found, expected, 3e-7 * expected), "e^{number} is {expected}, not {found}");
            }
        }
        for (number, expected) in
            [(f32::NEG_INFINITY, 0.0), (-1000.0, 0.0), (1000.0, f32::INFINITY), (0.0, 1.0)]
        {
            assert_eq!(exponential::<false>(number), expected);
            assert_eq!(exponential::<true>(number), expected);
        }
        assert!(exponential::<true>(f32::NAN).is_nan() && exponential::<false>(f32::NAN).is_nan());
    }

    #[test]
    fn scores_that_are_large_or_not_numbers() {
        for set in InstructionSet::available() {
            let mut scores = [1000.0, 1000.0, -1000.0];
            softmax_with(set, &mut scores);
            assert_eq!(scores, [0.5, 0.5, 0.0]);
            for length in [1, 15, 40] {
                let mut scores = vec![1.0; length];
                scores[length / 2] = f32::NAN;
                softmax_with(set, &mut scores);
                assert!(scores.iter().all(|score| score.is_nan()), "{scores:?}");
            }
            softmax_with(set, &mut []);
        }
    }

    #[test]
    #[should_panic(expected = "numbers of two rows")]
    fn rows_of_different_lengths_have_no_product() {
        dot(&[1.0], &[1.0, 2.0]);
    }

    proptest! {
        #[test]
        fn rows_of_any_length_against_64_bits(row in prop::collection::vec((-9.0_f32..9.0, -3.0_f32..3.0), 1..200)) {
            let (numbers, weights): (Vec<f32>, Vec<f32>) = row.into_iter().unzip();
            let wide: Vec<f64> = numbers.iter().copied().map(f64::from).collect();
            let count = wide.len() as f64;
            let product: f64 = wide.iter().zip(&weights).map(|(one, other)| one * f64::from(*other)).sum();
            let mean = wide.iter().map(|number| number * number).sum::<f64>() / count + 1e-5;
            let exponentials: f64 = wide.iter().map(|number| number.exp()).sum();
            for set in InstructionSet::available() {
                prop_assert!(close(dot_with(set, &numbers, &weights), product, 1e-5 * count));
                let (mut normed, mut silu, mut softer) = (numbers.clone(), numbers.clone(), numbers.clone());
                rms_norm_with(set, &mut normed, &weights, 1e-5);
                silu_multiply_with(set, &mut silu, &weights);
                softmax_with(set, &mut softer);
                for (index, (number, weight)) in wide.iter().zip(&weights).enumerate() {
                    let weight = f64::from(*weight);
                    prop_assert!(close(normed[index], number / mean.sqrt() * weight, 1e-5));
                    prop_assert!(close(silu[index], number / (1.0 + (-number).exp()) * weight, 2e-5));
                    prop_assert!(close(softer[index], number.exp() / exponentials, 2e-6));
                }
            }
        }
    }
}
