//! Kernels for AVX-512 with VNNI.
//!
//! One register holds a number of each output of a group. `vpdpbusd` multiplies 4 weights of each output, unsigned,
//! with 4 numbers of a row, signed, that a load spreads to all lanes.

#![expect(unsafe_code, reason = "loads and stores of whole registers; each block says why it is sound")]
#![expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "loops over arrays of known sizes"
)]

use std::arch::asm;
use std::arch::x86_64::*;

use super::activations::{Form, MAX_TILE};
use super::format::Format;
use super::kernel::{Block, Products};
use super::line::{LINE, Line};
use super::pack::{GROUP, Q4K_LINES, Q6K_LINES, Q6K_PAIR, Q8_0_LINES, Q8_0_PAIR};
use super::quantised::Quantised;

/// How many lines before its use a line is asked for: about what comes from memory while one is on its way. The
/// processor's own guesses end with each page.
const AHEAD: usize = 32;

/// Multiplies a block of up to 12 rows.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn multiply(block: &Block<'_>, into: &mut Products) {
    match block.rows {
        1 => rows::<1>(block, into),
        2 => rows::<2>(block, into),
        3 => rows::<3>(block, into),
        4 => rows::<4>(block, into),
        5 => rows::<5>(block, into),
        6 => rows::<6>(block, into),
        7 => rows::<7>(block, into),
        8 => rows::<8>(block, into),
        9 => rows::<9>(block, into),
        10 => rows::<10>(block, into),
        11 => rows::<11>(block, into),
        12 => rows::<12>(block, into),
        _ => unreachable!("tiles have from 1 to 12 rows"),
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn rows<const R: usize>(block: &Block<'_>, into: &mut Products) {
    let sums = match (block.format, block.form) {
        (Format::Q8_0, Form::Quantised(tile)) => q8_0::<R>(block.group, tile),
        (Format::Q4K, Form::Quantised(tile)) => q4k::<R>(block.group, tile),
        (Format::Q6K, Form::Quantised(tile)) => q6k::<R>(block.group, tile),
        (Format::F16, Form::Dense(tile)) => f16::<R>(block.group, tile),
        (Format::Bf16, Form::Dense(tile)) => bf16::<R>(block.group, tile),
        (_, Form::Dense(tile)) => f32::<R>(block.group, tile),
        (_, Form::Quantised(_)) => unreachable!("activations are quantised for quantised formats alone"),
    };
    for (products, sum) in into.iter_mut().zip(sums) {
        store(sum, products);
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn q8_0<const R: usize>(group: &[Line], tile: &Quantised) -> [__m512; R] {
    let mut sums = [_mm512_setzero_ps(); R];
    let numbers = tile.quads.as_chunks::<R>().0.as_chunks::<Q8_0_LINES>().0;
    let of_rows = tile.scales.as_chunks::<R>().0.iter().zip(tile.offsets.as_chunks::<R>().0);
    let mut blocks = numbers.iter().zip(of_rows);
    for pair in group.chunks(Q8_0_PAIR) {
        let [header, weights @ ..] = pair else { break };
        for (index, lines) in weights.as_chunks::<Q8_0_LINES>().0.iter().enumerate() {
            let Some((quads, (scales, offsets))) = blocks.next() else { break };
            let mut products = spread(offsets);
            for (line, quad) in lines.iter().zip(quads) {
                add(&mut products, load(line), quad);
            }
            let d = widened(header, index);
            for row in 0..R {
                let scale = _mm512_mul_ps(d, _mm512_set1_ps(scales[row]));
                sums[row] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(products[row]), scale, sums[row]);
            }
        }
    }
    sums
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn q4k<const R: usize>(group: &[Line], tile: &Quantised) -> [__m512; R] {
    let mut sums = [_mm512_setzero_ps(); R];
    let blocks =
        group.as_chunks::<Q4K_LINES>().0.iter().zip(tile.quads.as_chunks::<R>().0.as_chunks::<64>().0);
    let of_rows = tile.scales.as_chunks::<R>().0.iter().zip(tile.sums.as_chunks::<R>().0.as_chunks::<4>().0);
    for ((lines, quads), (scales, of_parts)) in blocks.zip(of_rows) {
        let [header, first, second, third, nibbles @ ..] = lines;
        let (weight_scales, minima) = scales_and_minima([load(first), load(second), load(third)]);
        let mut products = [_mm512_setzero_si512(); R];
        let parts = nibbles.as_chunks::<4>().0.iter().zip(quads.as_chunks::<8>().0);
        for (part, (lines, quads)) in parts.enumerate() {
            let mut of_part = [_mm512_setzero_si512(); R];
            for (line, [lower, upper]) in lines.iter().zip(quads.as_chunks::<2>().0) {
                let line = load(line);
                add(&mut of_part, _mm512_and_si512(line, bytes(0x0f)), lower);
                add(&mut of_part, _mm512_and_si512(_mm512_srli_epi32::<4>(line), bytes(0x0f)), upper);
            }
            let scale = weight_scales[part];
            for row in 0..R {
                products[row] = _mm512_add_epi32(products[row], _mm512_mullo_epi32(of_part[row], scale));
            }
        }
        let (d, dmin) = (widened(header, 0), widened(header, 1));
        for row in 0..R {
            let mut least = _mm512_setzero_si512();
            for (minima, of_parts) in minima.iter().zip(of_parts) {
                least = _mm512_dpwssd_epi32(least, *minima, _mm512_set1_epi32(of_parts[row]));
            }
            let product = _mm512_mul_ps(d, _mm512_cvtepi32_ps(products[row]));
            let product = _mm512_fnmadd_ps(dmin, _mm512_cvtepi32_ps(least), product);
            sums[row] = _mm512_fmadd_ps(product, _mm512_set1_ps(scales[row]), sums[row]);
        }
    }
    sums
}

/// From the 12 bytes of each output in three words: its 8 scales, one a register, and its 8 minima, two `i16` in a
/// word, 0 and 2, 1 and 3, 4 and 6, 5 and 7.
#[target_feature(enable = "avx512f")]
fn scales_and_minima([first, second, third]: [__m512i; 3]) -> ([__m512i; 8], [__m512i; 4]) {
    let six = bytes(0x3f);
    let lower = |words| _mm512_and_si512(words, bytes(0x0f));
    let upper = |words| _mm512_and_si512(_mm512_srli_epi32::<2>(words), bytes(0x30));
    let scales = [_mm512_and_si512(first, six), _mm512_or_si512(lower(third), upper(first))];
    let minima =
        [_mm512_and_si512(second, six), _mm512_or_si512(lower(_mm512_srli_epi32::<4>(third)), upper(second))];
    let byte = _mm512_set1_epi32(0xff);
    let alternate = _mm512_set1_epi32(0x00ff_00ff);
    let mut all = [_mm512_setzero_si512(); 8];
    let mut pairs = [_mm512_setzero_si512(); 4];
    for half in 0..2 {
        all[4 * half] = _mm512_and_si512(scales[half], byte);
        all[4 * half + 1] = _mm512_and_si512(_mm512_srli_epi32::<8>(scales[half]), byte);
        all[4 * half + 2] = _mm512_and_si512(_mm512_srli_epi32::<16>(scales[half]), byte);
        all[4 * half + 3] = _mm512_srli_epi32::<24>(scales[half]);
        pairs[2 * half] = _mm512_and_si512(minima[half], alternate);
        pairs[2 * half + 1] = _mm512_and_si512(_mm512_srli_epi32::<8>(minima[half]), alternate);
    }
    (all, pairs)
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn q6k<const R: usize>(group: &[Line], tile: &Quantised) -> [__m512; R] {
    let mut sums = [_mm512_setzero_ps(); R];
    let numbers = tile.quads.as_chunks::<R>().0.as_chunks::<64>().0;
    let of_rows =
        tile.scales.as_chunks::<R>().0.iter().zip(tile.offsets.as_chunks::<R>().0.as_chunks::<16>().0);
    let mut blocks = numbers.iter().zip(of_rows);
    for pair in group.chunks(Q6K_PAIR) {
        let [header, weights @ ..] = pair else { break };
        for (index, lines) in weights.as_chunks::<Q6K_LINES>().0.iter().enumerate() {
            let Some((quads, (scales, offsets))) = blocks.next() else { break };
            let [first, second, third, fourth, lines @ ..] = lines;
            let mut products = [_mm512_setzero_si512(); R];
            let of_words = [first, second, third, fourth].into_iter().zip(lines.as_chunks::<12>().0);
            let of_words = of_words.zip(quads.as_chunks::<16>().0).zip(offsets.as_chunks::<4>().0);
            for (((scales, lines), quads), offsets) in of_words {
                let mut scales = load(scales);
                let parts = lines.as_chunks::<3>().0.iter().zip(quads.as_chunks::<4>().0).zip(offsets);
                for (([upper, lower, next], quads), offsets) in parts {
                    let (upper, lower, next) = (load(upper), load(lower), load(next));
                    let mut of_part = spread(offsets);
                    add(&mut of_part, six_bits(lower, _mm512_slli_epi32::<4>(upper)), &quads[0]);
                    add(
                        &mut of_part,
                        six_bits(_mm512_srli_epi32::<4>(lower), _mm512_slli_epi32::<2>(upper)),
                        &quads[1],
                    );
                    add(&mut of_part, six_bits(next, upper), &quads[2]);
                    add(
                        &mut of_part,
                        six_bits(_mm512_srli_epi32::<4>(next), _mm512_srli_epi32::<2>(upper)),
                        &quads[3],
                    );
                    let scale = _mm512_srai_epi32::<24>(_mm512_slli_epi32::<24>(scales));
                    scales = _mm512_srli_epi32::<8>(scales);
                    for row in 0..R {
                        products[row] =
                            _mm512_add_epi32(products[row], _mm512_mullo_epi32(of_part[row], scale));
                    }
                }
            }
            let d = widened(header, index);
            for row in 0..R {
                let scale = _mm512_mul_ps(d, _mm512_set1_ps(scales[row]));
                sums[row] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(products[row]), scale, sums[row]);
            }
        }
    }
    sums
}

/// Bytes of 4 bits of one and 2 bits of the other.
#[inline]
#[target_feature(enable = "avx512f")]
fn six_bits(lower: __m512i, upper: __m512i) -> __m512i {
    _mm512_or_si512(_mm512_and_si512(lower, bytes(0x0f)), _mm512_and_si512(upper, bytes(0x30)))
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn f32<const R: usize>(group: &[Line], tile: &[f32]) -> [__m512; R] {
    let mut sums = [[_mm512_setzero_ps(); R]; 2];
    let (columns, (pairs, last)) = (tile.as_chunks::<R>().0, group.as_chunks::<2>());
    for ([even, odd], numbers) in pairs.iter().zip(columns.as_chunks::<2>().0) {
        add_dense(&mut sums, [_mm512_castsi512_ps(load(even)), _mm512_castsi512_ps(load(odd))], numbers);
    }
    if let ([line], [.., numbers]) = (last, columns) {
        add_dense(&mut sums, [_mm512_castsi512_ps(load(line)), _mm512_setzero_ps()], &[*numbers, [0.0; R]]);
    }
    total(sums)
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn f16<const R: usize>(group: &[Line], tile: &[f32]) -> [__m512; R] {
    let mut sums = [[_mm512_setzero_ps(); R]; 2];
    let (pairs, last) = tile.as_chunks::<R>().0.as_chunks::<2>();
    for (line, numbers) in group.iter().zip(pairs) {
        add_dense(&mut sums, [widened(line, 0), widened(line, 1)], numbers);
    }
    if let ([.., line], [numbers]) = (group, last) {
        add_dense(&mut sums, [widened(line, 0), _mm512_setzero_ps()], &[*numbers, [0.0; R]]);
    }
    total(sums)
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn bf16<const R: usize>(group: &[Line], tile: &[f32]) -> [__m512; R] {
    let mut sums = [[_mm512_setzero_ps(); R]; 2];
    let (pairs, last) = tile.as_chunks::<R>().0.as_chunks::<2>();
    for (line, numbers) in group.iter().zip(pairs) {
        let line = load(line);
        let even = _mm512_slli_epi32::<16>(line);
        let odd = _mm512_and_si512(line, _mm512_set1_epi32(0xffff_0000_u32.cast_signed()));
        add_dense(&mut sums, [_mm512_castsi512_ps(even), _mm512_castsi512_ps(odd)], numbers);
    }
    if let ([.., line], [numbers]) = (group, last) {
        let even = _mm512_castsi512_ps(_mm512_slli_epi32::<16>(load(line)));
        add_dense(&mut sums, [even, _mm512_setzero_ps()], &[*numbers, [0.0; R]]);
    }
    total(sums)
}

/// Adds the products of two columns, each to sums of its own.
#[inline]
#[target_feature(enable = "avx512f")]
fn add_dense<const R: usize>(sums: &mut [[__m512; R]; 2], weights: [__m512; 2], numbers: &[[f32; R]; 2]) {
    for column in 0..2 {
        for row in 0..R {
            let number = _mm512_set1_ps(numbers[column][row]);
            sums[column][row] = _mm512_fmadd_ps(weights[column], number, sums[column][row]);
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn total<const R: usize>([mut even, odd]: [[__m512; R]; 2]) -> [__m512; R] {
    for row in 0..R {
        even[row] = _mm512_add_ps(even[row], odd[row]);
    }
    even
}

/// Adds the products of 4 weights of each output with 4 numbers of each row.
///
/// Assembly, because the compiler loads the numbers of all rows at once, more than there are registers for, and puts
/// the products of one row after the other, where each waits for the last.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
fn add<const R: usize>(products: &mut [__m512i; R], weights: __m512i, quads: &[i32; R]) {
    macro_rules! rows {
        ($($row:literal)*) => { $(
            if let Some(sum) = products.get_mut($row) {
                // SAFETY: it reads one of the quads, which are as many as the products, and changes nothing but the sum.
                unsafe {
                    asm!(
                        "vpdpbusd {sum}, {weights}, dword ptr [{quads} + {offset}]{{1to16}}",
                        sum = inout(zmm_reg) *sum,
                        weights = in(zmm_reg) weights,
                        quads = in(reg) quads,
                        offset = const 4 * $row,
                        options(pure, readonly, nostack, preserves_flags),
                    );
                }
            }
        )* };
    }
    const { assert!(R <= MAX_TILE) };
    rows!(0 1 2 3 4 5 6 7 8 9 10 11);
}

#[inline]
#[target_feature(enable = "avx512f")]
fn spread<const R: usize>(numbers: &[i32; R]) -> [__m512i; R] {
    let mut spread = [_mm512_setzero_si512(); R];
    for row in 0..R {
        spread[row] = _mm512_set1_epi32(numbers[row]);
    }
    spread
}

#[inline]
#[target_feature(enable = "avx512f")]
fn bytes(byte: i8) -> __m512i {
    _mm512_set1_epi8(byte)
}

/// The 16 binary16 of the first or the second half of a line.
#[inline]
#[target_feature(enable = "avx512f")]
fn widened(line: &Line, half: usize) -> __m512 {
    let half = &line.0.as_chunks::<{ LINE / 2 }>().0[half];
    // SAFETY: the reference is to the 32 bytes that are read.
    _mm512_cvtph_ps(unsafe { _mm256_loadu_si256(std::ptr::from_ref(half).cast()) })
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(line: &Line) -> __m512i {
    // Asking for memory ahead of its use reads nothing, wherever it is.
    _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(line).wrapping_add(AHEAD).cast());
    // SAFETY: a line is 64 bytes at a multiple of 64.
    unsafe { _mm512_load_si512(std::ptr::from_ref(line).cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store(sums: __m512, into: &mut [f32; GROUP]) {
    // SAFETY: the reference is to the 64 bytes that are written.
    unsafe { _mm512_storeu_ps(into.as_mut_ptr(), sums) };
}
