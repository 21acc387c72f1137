//! Kernels in plain Rust.

#![expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "loops over arrays of known sizes, and sums that `Quantised` bounds"
)]

use super::activations::Form;
use super::format::Format;
use super::half::{from_bf16, from_f16};
use super::kernel::{Block, Products};
use super::line::Line;
use super::pack::{
    self, GROUP, Q4K_LINES, Q4K_SCALE_LINES, Q6K_LINES, Q6K_PAIR, Q6K_SCALE_LINES, Q8_0_LINES, Q8_0_PAIR,
};
use super::quantised::Quantised;

pub(super) fn multiply(block: &Block<'_>, into: &mut Products) {
    for (row, sums) in into.iter_mut().enumerate().take(block.rows) {
        *sums = match (block.format, block.form) {
            (Format::Q8_0, Form::Quantised(tile)) => q8_0(block.group, Row { tile, row, rows: block.rows }),
            (Format::Q4K, Form::Quantised(tile)) => q4k(block.group, Row { tile, row, rows: block.rows }),
            (Format::Q6K, Form::Quantised(tile)) => q6k(block.group, Row { tile, row, rows: block.rows }),
            (format, Form::Dense(tile)) => dense(format, block.group, &tile[row..], block.rows),
            (_, Form::Quantised(_)) => unreachable!("activations are quantised for quantised formats alone"),
        };
    }
}

/// One row of a quantised tile.
#[derive(Clone, Copy)]
struct Row<'a> {
    tile: &'a Quantised,
    row: usize,
    rows: usize,
}

impl Row<'_> {
    fn blocks(self) -> usize {
        self.tile.scales.len() / self.rows
    }

    fn scale(self, block: usize) -> f32 {
        self.tile.scales[block * self.rows + self.row]
    }

    fn offset(self, index: usize) -> i32 {
        self.tile.offsets[index * self.rows + self.row]
    }

    fn quad(self, index: usize) -> [i32; 4] {
        self.tile.quads[index * self.rows + self.row].to_le_bytes().map(|byte| i32::from(byte as i8))
    }

    /// The sums of 32 numbers each of a block of 256.
    fn sums(self, block: usize) -> [i32; 8] {
        let mut sums = [0; 8];
        for (word, first) in [0, 1, 4, 5].into_iter().enumerate() {
            let pair = self.tile.sums[(block * 4 + word) * self.rows + self.row];
            (sums[first], sums[first + 2]) = (i32::from(pair as i16), pair >> 16);
        }
        sums
    }
}

fn q8_0(group: &[Line], row: Row<'_>) -> [f32; GROUP] {
    let mut sums = [0.0; GROUP];
    for block in 0..row.blocks() {
        let pair = &group[block / 2 * Q8_0_PAIR..];
        let lines = &pair[1 + block % 2 * Q8_0_LINES..][..Q8_0_LINES];
        let mut products = [row.offset(block); GROUP];
        for (index, line) in lines.iter().enumerate() {
            add(&mut products, &line.0, row.quad(block * 8 + index));
        }
        for (output, (sum, product)) in sums.iter_mut().zip(products).enumerate() {
            *sum += pack::header(&pair[0], block % 2, output) * row.scale(block) * product as f32;
        }
    }
    sums
}

fn q4k(group: &[Line], row: Row<'_>) -> [f32; GROUP] {
    let mut sums = [0.0; GROUP];
    for (block, lines) in group.as_chunks::<Q4K_LINES>().0.iter().enumerate() {
        let (header, nibbles) = lines.split_at(1 + Q4K_SCALE_LINES);
        let mut products = [[0; GROUP]; 8];
        for (index, line) in nibbles.iter().enumerate() {
            let (lower, upper) = (line.0.map(|byte| byte & 0xf), line.0.map(|byte| byte >> 4));
            add(&mut products[index / 4], &lower, row.quad(block * 64 + 2 * index));
            add(&mut products[index / 4], &upper, row.quad(block * 64 + 2 * index + 1));
        }
        let of_parts = row.sums(block);
        for (output, sum) in sums.iter_mut().enumerate() {
            let words = [1, 2, 3].map(|line| pack::word(&header[line], output));
            let (scales, minima) = pack::scales_and_minima(words);
            let (mut product, mut least) = (0, 0);
            for part in 0..8 {
                product += i32::from(scales[part]) * products[part][output];
                least += i32::from(minima[part]) * of_parts[part];
            }
            let (d, dmin) = (pack::half(&header[0], output), pack::half(&header[0], GROUP + output));
            *sum += row.scale(block) * (from_f16(d) * product as f32 - from_f16(dmin) * least as f32);
        }
    }
    sums
}

fn q6k(group: &[Line], row: Row<'_>) -> [f32; GROUP] {
    let mut sums = [0.0; GROUP];
    for block in 0..row.blocks() {
        let pair = &group[block / 2 * Q6K_PAIR..];
        let (scales, parts) = pair[1 + block % 2 * Q6K_LINES..][..Q6K_LINES].split_at(Q6K_SCALE_LINES);
        let mut products = [0; GROUP];
        for (part, [upper, first, second]) in parts.as_chunks::<3>().0.iter().enumerate() {
            let mut of_part = [row.offset(block * 16 + part); GROUP];
            for (quad, nibbles) in [first, first, second, second].into_iter().enumerate() {
                let mut weights = nibbles.0;
                for (weight, upper) in weights.iter_mut().zip(upper.0) {
                    *weight = (*weight >> (quad % 2 * 4)) & 0xf | ((upper >> (2 * quad)) & 3) << 4;
                }
                add(&mut of_part, &weights, row.quad(block * 64 + part * 4 + quad));
            }
            for (output, (product, of_part)) in products.iter_mut().zip(of_part).enumerate() {
                *product += i32::from(scales[part / 4].0[4 * output + part % 4] as i8) * of_part;
            }
        }
        for (output, (sum, product)) in sums.iter_mut().zip(products).enumerate() {
            *sum += pack::header(&pair[0], block % 2, output) * row.scale(block) * product as f32;
        }
    }
    sums
}

/// Adds the products of 4 numbers with 4 weights of each output.
fn add(products: &mut [i32; GROUP], weights: &[u8; 4 * GROUP], quad: [i32; 4]) {
    for (product, weights) in products.iter_mut().zip(weights.as_chunks::<4>().0) {
        for (weight, number) in weights.iter().zip(quad) {
            *product += i32::from(*weight) * number;
        }
    }
}

/// Even and odd columns have sums of their own. `tile` begins with the row; its numbers are `rows` apart.
fn dense(format: Format, group: &[Line], tile: &[f32], rows: usize) -> [f32; GROUP] {
    let mut sums = [[0.0; GROUP]; 2];
    for (column, number) in tile.iter().step_by(rows).enumerate() {
        for (output, sum) in sums[column % 2].iter_mut().enumerate() {
            let weight = match format {
                Format::F16 => from_f16(pack::half(&group[column / 2], column % 2 * GROUP + output)),
                Format::Bf16 => from_bf16(pack::half(&group[column / 2], 2 * output + column % 2)),
                _ => f32::from_bits(pack::word(&group[column], output)),
            };
            *sum += weight * number;
        }
    }
    let [even, odd] = sums;
    std::array::from_fn(|output| even[output] + odd[output])
}
