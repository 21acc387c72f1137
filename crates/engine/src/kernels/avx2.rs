//! Kernels for AVX2 with FMA and F16C.
//!
//! Two registers hold a number of each output of a group. `vpmaddubsw` multiplies unsigned with signed bytes and adds
//! two products in 16 bits, so sums are widened before they can be too large for these.

#![expect(unsafe_code, reason = "loads and stores of whole registers; each block says why it is sound")]
#![expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "loops over arrays of known sizes"
)]

use std::arch::x86_64::*;

use super::activations::Form;
use super::format::Format;
use super::kernel::{Block, Products};
use super::line::{LINE, Line};
use super::pack::{GROUP, Q4K_LINES, Q6K_LINES, Q6K_PAIR, Q8_0_LINES, Q8_0_PAIR};
use super::quantised::Quantised;

/// The lower and the upper 8 outputs of a group.
const HALVES: usize = 2;

/// Multiplies a block of up to 4 rows.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn multiply(block: &Block<'_>, into: &mut Products) {
    match block.rows {
        1 => rows::<1>(block, into),
        2 => rows::<2>(block, into),
        3 => rows::<3>(block, into),
        4 => rows::<4>(block, into),
        _ => unreachable!("tiles have from 1 to 4 rows"),
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn rows<const R: usize>(block: &Block<'_>, into: &mut Products) {
    let mut sums = [[_mm256_setzero_ps(); HALVES]; R];
    match (block.format, block.form) {
        (Format::Q8_0, Form::Quantised(tile)) => q8_0(block.group, tile, &mut sums),
        (Format::Q4K, Form::Quantised(tile)) => q4k(block.group, tile, &mut sums),
        (Format::Q6K, Form::Quantised(tile)) => q6k(block.group, tile, &mut sums),
        (format, Form::Dense(tile)) => dense(format, block.group, tile, &mut sums),
        (_, Form::Quantised(_)) => unreachable!("activations are quantised for quantised formats alone"),
    }
    for (products, halves) in into.iter_mut().zip(sums) {
        for (products, sum) in products.as_chunks_mut::<8>().0.iter_mut().zip(halves) {
            store(sum, products);
        }
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn q8_0<const R: usize>(group: &[Line], tile: &Quantised, sums: &mut [[__m256; HALVES]; R]) {
    let numbers = tile.quads.as_chunks::<R>().0.as_chunks::<Q8_0_LINES>().0;
    let mut blocks = numbers.iter().zip(tile.scales.as_chunks::<R>().0);
    for pair in group.chunks(Q8_0_PAIR) {
        let [header, weights @ ..] = pair else { break };
        for (index, lines) in weights.as_chunks::<Q8_0_LINES>().0.iter().enumerate() {
            let Some((quads, scales)) = blocks.next() else { break };
            let d = widened(header, index);
            for half in 0..HALVES {
                let mut products = [_mm256_setzero_si256(); R];
                for (line, quad) in lines.iter().zip(quads) {
                    // 128 was added to the weights. At most 128 · 127 · 2 fits into 16 bits with its sign.
                    let weights = _mm256_xor_si256(load(line, half), _mm256_set1_epi8(i8::MIN));
                    let magnitudes = _mm256_abs_epi8(weights);
                    for row in 0..R {
                        let numbers = _mm256_sign_epi8(_mm256_set1_epi32(quad[row]), weights);
                        products[row] =
                            _mm256_add_epi32(products[row], pairs(_mm256_maddubs_epi16(magnitudes, numbers)));
                    }
                }
                for row in 0..R {
                    let scale = _mm256_mul_ps(d[half], _mm256_set1_ps(scales[row]));
                    sums[row][half] =
                        _mm256_fmadd_ps(_mm256_cvtepi32_ps(products[row]), scale, sums[row][half]);
                }
            }
        }
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn q4k<const R: usize>(group: &[Line], tile: &Quantised, sums: &mut [[__m256; HALVES]; R]) {
    let blocks =
        group.as_chunks::<Q4K_LINES>().0.iter().zip(tile.quads.as_chunks::<R>().0.as_chunks::<64>().0);
    let of_rows = tile.scales.as_chunks::<R>().0.iter().zip(tile.sums.as_chunks::<R>().0.as_chunks::<4>().0);
    for ((lines, quads), (scales, of_parts)) in blocks.zip(of_rows) {
        let [header, first, second, third, nibbles @ ..] = lines;
        let (d, dmin) = (widened(header, 0), widened(header, 1));
        for half in 0..HALVES {
            let words = [load(first, half), load(second, half), load(third, half)];
            let (weight_scales, minima) = scales_and_minima(words);
            let mut products = [_mm256_setzero_si256(); R];
            let parts = nibbles.as_chunks::<4>().0.iter().zip(quads.as_chunks::<8>().0);
            for (part, (lines, quads)) in parts.enumerate() {
                // At most 15 · 127 · 2 · 8, which fits into 16 bits.
                let mut of_part = [_mm256_setzero_si256(); R];
                for (line, [lower, upper]) in lines.iter().zip(quads.as_chunks::<2>().0) {
                    let line = load(line, half);
                    add(&mut of_part, _mm256_and_si256(line, bytes(0x0f)), lower);
                    add(&mut of_part, _mm256_and_si256(_mm256_srli_epi32::<4>(line), bytes(0x0f)), upper);
                }
                for row in 0..R {
                    let scaled = _mm256_madd_epi16(of_part[row], weight_scales[part]);
                    products[row] = _mm256_add_epi32(products[row], scaled);
                }
            }
            for row in 0..R {
                let mut least = _mm256_setzero_si256();
                for (minima, of_parts) in minima.iter().zip(of_parts) {
                    let scaled = _mm256_madd_epi16(*minima, _mm256_set1_epi32(of_parts[row]));
                    least = _mm256_add_epi32(least, scaled);
                }
                let product = _mm256_mul_ps(d[half], _mm256_cvtepi32_ps(products[row]));
                let product = _mm256_fnmadd_ps(dmin[half], _mm256_cvtepi32_ps(least), product);
                sums[row][half] = _mm256_fmadd_ps(product, _mm256_set1_ps(scales[row]), sums[row][half]);
            }
        }
    }
}

/// From the 12 bytes of each output in three words: its 8 scales, one a register, twice in a word; and its 8 minima,
/// two in a word, 0 and 2, 1 and 3, 4 and 6, 5 and 7.
#[target_feature(enable = "avx2")]
fn scales_and_minima([first, second, third]: [__m256i; 3]) -> ([__m256i; 8], [__m256i; 4]) {
    let six = bytes(0x3f);
    let lower = |words| _mm256_and_si256(words, bytes(0x0f));
    let upper = |words| _mm256_and_si256(_mm256_srli_epi32::<2>(words), bytes(0x30));
    let scales = [_mm256_and_si256(first, six), _mm256_or_si256(lower(third), upper(first))];
    let minima =
        [_mm256_and_si256(second, six), _mm256_or_si256(lower(_mm256_srli_epi32::<4>(third)), upper(second))];
    let (single, alternate) = (_mm256_set1_epi32(0xff), _mm256_set1_epi32(0x00ff_00ff));
    let mut all = [_mm256_setzero_si256(); 8];
    let mut couples = [_mm256_setzero_si256(); 4];
    for half in 0..2 {
        // A byte of a word, twice in 16 bits each.
        for (part, bits) in [0, 8, 16, 24].into_iter().enumerate() {
            let byte = _mm256_and_si256(_mm256_srl_epi32(scales[half], _mm_cvtsi32_si128(bits)), single);
            all[4 * half + part] = _mm256_or_si256(byte, _mm256_slli_epi32::<16>(byte));
        }
        couples[2 * half] = _mm256_and_si256(minima[half], alternate);
        couples[2 * half + 1] = _mm256_and_si256(_mm256_srli_epi32::<8>(minima[half]), alternate);
    }
    (all, couples)
}

#[target_feature(enable = "avx2,fma,f16c")]
fn q6k<const R: usize>(group: &[Line], tile: &Quantised, sums: &mut [[__m256; HALVES]; R]) {
    let numbers = tile.quads.as_chunks::<R>().0.as_chunks::<64>().0;
    let of_rows =
        tile.scales.as_chunks::<R>().0.iter().zip(tile.offsets.as_chunks::<R>().0.as_chunks::<16>().0);
    let mut blocks = numbers.iter().zip(of_rows);
    for pair in group.chunks(Q6K_PAIR) {
        let [header, weights @ ..] = pair else { break };
        for (index, lines) in weights.as_chunks::<Q6K_LINES>().0.iter().enumerate() {
            let Some((quads, (scales, offsets))) = blocks.next() else { break };
            let [first, second, third, fourth, lines @ ..] = lines;
            let d = widened(header, index);
            for half in 0..HALVES {
                let mut products = [_mm256_setzero_si256(); R];
                let of_words = [first, second, third, fourth].into_iter().zip(lines.as_chunks::<12>().0);
                let of_words = of_words.zip(quads.as_chunks::<16>().0).zip(offsets.as_chunks::<4>().0);
                for (((scales, lines), quads), offsets) in of_words {
                    let mut scales = load(scales, half);
                    let parts = lines.as_chunks::<3>().0.iter().zip(quads.as_chunks::<4>().0).zip(offsets);
                    for (([upper, lower, next], quads), offsets) in parts {
                        let (upper, lower, next) = (load(upper, half), load(lower, half), load(next, half));
                        // At most 63 · 127 · 2 · 2 each, which fits into 16 bits with its sign.
                        let mut of_part = [[_mm256_setzero_si256(); R]; 2];
                        let weights = [
                            six_bits(lower, _mm256_slli_epi32::<4>(upper)),
                            six_bits(_mm256_srli_epi32::<4>(lower), _mm256_slli_epi32::<2>(upper)),
                            six_bits(next, upper),
                            six_bits(_mm256_srli_epi32::<4>(next), _mm256_srli_epi32::<2>(upper)),
                        ];
                        for (index, (weights, quad)) in weights.into_iter().zip(quads).enumerate() {
                            add(&mut of_part[index / 2], weights, quad);
                        }
                        let scale = _mm256_srai_epi32::<24>(_mm256_slli_epi32::<24>(scales));
                        scales = _mm256_srli_epi32::<8>(scales);
                        for row in 0..R {
                            let sum = _mm256_add_epi32(pairs(of_part[0][row]), pairs(of_part[1][row]));
                            let sum = _mm256_add_epi32(sum, _mm256_set1_epi32(offsets[row]));
                            products[row] = _mm256_add_epi32(products[row], _mm256_mullo_epi32(sum, scale));
                        }
                    }
                }
                for row in 0..R {
                    let scale = _mm256_mul_ps(d[half], _mm256_set1_ps(scales[row]));
                    sums[row][half] =
                        _mm256_fmadd_ps(_mm256_cvtepi32_ps(products[row]), scale, sums[row][half]);
                }
            }
        }
    }
}

/// Bytes of 4 bits of one and 2 bits of the other.
#[inline]
#[target_feature(enable = "avx2")]
fn six_bits(lower: __m256i, upper: __m256i) -> __m256i {
    _mm256_or_si256(_mm256_and_si256(lower, bytes(0x0f)), _mm256_and_si256(upper, bytes(0x30)))
}

/// Even and odd columns have sums of their own.
#[expect(clippy::needless_range_loop, reason = "the half is an argument of the loads as well")]
#[target_feature(enable = "avx2,fma,f16c")]
fn dense<const R: usize>(format: Format, group: &[Line], tile: &[f32], sums: &mut [[__m256; HALVES]; R]) {
    let columns = tile.as_chunks::<R>().0;
    for half in 0..HALVES {
        let mut parts = [[_mm256_setzero_ps(); R]; 2];
        match format {
            Format::F16 => {
                for (line, numbers) in group.iter().zip(columns.chunks(2)) {
                    add_dense(&mut parts, [widened(line, 0)[half], widened(line, 1)[half]], numbers);
                }
            }
            Format::Bf16 => {
                for (line, numbers) in group.iter().zip(columns.chunks(2)) {
                    let line = load(line, half);
                    let even = _mm256_slli_epi32::<16>(line);
                    let odd = _mm256_and_si256(line, _mm256_set1_epi32(0xffff_0000_u32.cast_signed()));
                    add_dense(&mut parts, [_mm256_castsi256_ps(even), _mm256_castsi256_ps(odd)], numbers);
                }
            }
            _ => {
                for (lines, numbers) in group.chunks(2).zip(columns.chunks(2)) {
                    let (even, odd) = (&lines[0], lines.get(1).unwrap_or(&Line::ZERO));
                    let weights = [load(even, half), load(odd, half)].map(|line| _mm256_castsi256_ps(line));
                    add_dense(&mut parts, weights, numbers);
                }
            }
        }
        for row in 0..R {
            sums[row][half] = _mm256_add_ps(parts[0][row], parts[1][row]);
        }
    }
}

/// Adds the products of one or two columns, each to sums of its own.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn add_dense<const R: usize>(sums: &mut [[__m256; R]; 2], weights: [__m256; 2], numbers: &[[f32; R]]) {
    for (column, numbers) in numbers.iter().enumerate() {
        for row in 0..R {
            sums[column][row] =
                _mm256_fmadd_ps(weights[column], _mm256_set1_ps(numbers[row]), sums[column][row]);
        }
    }
}

/// Adds the products of 4 weights of each output with 4 numbers of each row, in 16 bits.
#[inline]
#[target_feature(enable = "avx2")]
fn add<const R: usize>(products: &mut [__m256i; R], weights: __m256i, quads: &[i32; R]) {
    for row in 0..R {
        let product = _mm256_maddubs_epi16(weights, _mm256_set1_epi32(quads[row]));
        products[row] = _mm256_add_epi16(products[row], product);
    }
}

/// Sums of two numbers of 16 bits each.
#[inline]
#[target_feature(enable = "avx2")]
fn pairs(numbers: __m256i) -> __m256i {
    _mm256_madd_epi16(numbers, _mm256_set1_epi16(1))
}

#[inline]
#[target_feature(enable = "avx2")]
fn bytes(byte: i8) -> __m256i {
    _mm256_set1_epi8(byte)
}

/// The 16 binary16 of the first or the second half of a line.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn widened(line: &Line, half: usize) -> [__m256; HALVES] {
    let quarters = &line.0.as_chunks::<{ LINE / 4 }>().0[half * 2..][..HALVES];
    let mut wide = [_mm256_setzero_ps(); HALVES];
    for (wide, quarter) in wide.iter_mut().zip(quarters) {
        // SAFETY: the reference is to the 16 bytes that are read.
        *wide = _mm256_cvtph_ps(unsafe { _mm_loadu_si128(std::ptr::from_ref(quarter).cast()) });
    }
    wide
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(line: &Line, half: usize) -> __m256i {
    let bytes = &line.0.as_chunks::<{ LINE / 2 }>().0[half];
    // SAFETY: the reference is to the 32 bytes that are read.
    unsafe { _mm256_loadu_si256(std::ptr::from_ref(bytes).cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn store(sums: __m256, into: &mut [f32; GROUP / HALVES]) {
    // SAFETY: the reference is to the 32 bytes that are written.
    unsafe { _mm256_storeu_ps(into.as_mut_ptr(), sums) };
}
