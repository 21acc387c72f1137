//! Weights as the kernels read them.
//!
//! The rows of 16 outputs lie interleaved, so that one register holds a number of each: a *group*. Of a quantised
//! format, each 4 bytes of a line are 4 (or, of nibbles, 8) consecutive weights of one output. No format takes more
//! bytes than in its file, but for outputs that fill up the last group and scales that fill up the last line of a group.
//!
//! | format | lines of a group |
//! |---|---|
//! | `F32` | one for each column: 16 `f32` |
//! | `F16` | one for two columns: 16 binary16 of the first, 16 of the second |
//! | `BF16` | one for two columns: 16 pairs of both |
//! | `Q8_0` | for each two blocks one of both's scales; then 8 of weights, plus 128 each, for each |
//! | `Q4_K` | for each block one of 16 `d` and 16 `dmin`; 3 of the 12 bytes of scales and minima; 32 of nibbles, each of which holds a quad in its lower and the next quad in its upper halves |
//! | `Q6_K` | for each two blocks one of both's `d`; then for each 4 of scales and, for each 16 columns, one of the upper bits, 2 to a quad, and 2 of nibbles as in `Q4_K` |

#![expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "offsets within rows whose length `Matrix::new` checked, and bits of weights, for any values of them"
)]

use super::format::Format;
use super::half::{from_bf16, from_f16};
use super::line::{LINE, Line};

/// Outputs of a group.
pub(super) const GROUP: usize = 16;
/// Lines of a block of 32 columns in `Q8_0`, without its scales.
pub(super) const Q8_0_LINES: usize = 8;
/// Lines of a block of 256 columns in `Q4_K`.
pub(super) const Q4K_LINES: usize = 1 + Q4K_SCALE_LINES + 32;
/// Lines of 12 bytes of scales and minima in 6 bits each.
pub(super) const Q4K_SCALE_LINES: usize = 3;
/// Lines of a block of 256 columns in `Q6_K`, without its `d`.
pub(super) const Q6K_LINES: usize = Q6K_SCALE_LINES + 16 * 3;
/// Lines of 16 scales.
pub(super) const Q6K_SCALE_LINES: usize = 4;

/// Lines of two blocks of `Q8_0`, and at the end of a group of one.
pub(super) const Q8_0_PAIR: usize = 1 + 2 * Q8_0_LINES;
/// Lines of two blocks of `Q6_K`, and at the end of a group of one.
pub(super) const Q6K_PAIR: usize = 1 + 2 * Q6K_LINES;

/// Lines of a group of `columns`.
pub(super) fn lines(format: Format, columns: usize) -> usize {
    let blocks = columns / format.block();
    match format {
        Format::F32 => columns,
        Format::F16 | Format::Bf16 => columns.div_ceil(2),
        Format::Q8_0 => blocks * Q8_0_LINES + blocks.div_ceil(2),
        Format::Q4K => blocks * Q4K_LINES,
        Format::Q6K => blocks * Q6K_LINES + blocks.div_ceil(2),
    }
}

/// Writes up to 16 rows, as they lie in a file, into the zeroed lines of a group.
pub(super) fn pack(format: Format, columns: usize, rows: &[u8], group: &mut [Line]) {
    let row_bytes = columns / format.block() * format.block_bytes();
    for (output, row) in rows.chunks_exact(row_bytes.max(1)).enumerate() {
        match format {
            Format::F32 => pack_f32(output, row, group),
            Format::F16 => pack_f16(output, row, group),
            Format::Bf16 => pack_bf16(output, row, group),
            Format::Q8_0 => pack_q8_0(output, row, group),
            Format::Q4K => pack_q4k(output, row, group),
            Format::Q6K => pack_q6k(output, row, group),
        }
    }
}

/// The numbers of one output of a group.
pub(super) fn unpack(format: Format, output: usize, group: &[Line], into: &mut [f32]) {
    match format {
        Format::F32 => unpack_f32(output, group, into),
        Format::F16 => unpack_f16(output, group, into),
        Format::Bf16 => unpack_bf16(output, group, into),
        Format::Q8_0 => unpack_q8_0(output, group, into),
        Format::Q4K => unpack_q4k(output, group, into),
        Format::Q6K => unpack_q6k(output, group, into),
    }
}

fn pack_f32(output: usize, row: &[u8], group: &mut [Line]) {
    for (number, line) in row.as_chunks::<4>().0.iter().zip(group) {
        line.0[4 * output..][..4].copy_from_slice(number);
    }
}

fn unpack_f32(output: usize, group: &[Line], into: &mut [f32]) {
    for (value, line) in into.iter_mut().zip(group) {
        *value = f32::from_bits(word(line, output));
    }
}

fn pack_f16(output: usize, row: &[u8], group: &mut [Line]) {
    for (pair, line) in row.chunks(4).zip(group) {
        for (number, half) in pair.chunks_exact(2).zip(line.0.chunks_exact_mut(LINE / 2)) {
            half[2 * output..][..2].copy_from_slice(number);
        }
    }
}

fn unpack_f16(output: usize, group: &[Line], into: &mut [f32]) {
    for (column, value) in into.iter_mut().enumerate() {
        *value = from_f16(half(&group[column / 2], column % 2 * GROUP + output));
    }
}

fn pack_bf16(output: usize, row: &[u8], group: &mut [Line]) {
    for (pair, line) in row.chunks(4).zip(group) {
        line.0[4 * output..][..pair.len()].copy_from_slice(pair);
    }
}

fn unpack_bf16(output: usize, group: &[Line], into: &mut [f32]) {
    for (column, value) in into.iter_mut().enumerate() {
        *value = from_bf16(half(&group[column / 2], 2 * output + column % 2));
    }
}

fn pack_q8_0(output: usize, row: &[u8], group: &mut [Line]) {
    for (blocks, lines) in row.chunks(2 * 34).zip(group.chunks_mut(Q8_0_PAIR)) {
        put_header(&mut lines[0], output, blocks.chunks_exact(34).map(|block| [block[0], block[1]]));
        let quads = blocks.chunks_exact(34).flat_map(|block| block[2..].chunks_exact(4));
        for (quad, line) in quads.zip(&mut lines[1..]) {
            for (weight, byte) in quad.iter().zip(&mut line.0[4 * output..][..4]) {
                *byte = weight ^ 0x80;
            }
        }
    }
}

fn unpack_q8_0(output: usize, group: &[Line], into: &mut [f32]) {
    for (column, value) in into.iter_mut().enumerate() {
        let lines = &group[column / 64 * Q8_0_PAIR..];
        let byte = lines[1 + column % 64 / 4].0[4 * output + column % 4];
        *value = header(&lines[0], column % 64 / 32, output) * f32::from((byte ^ 0x80) as i8);
    }
}

fn pack_q4k(output: usize, row: &[u8], group: &mut [Line]) {
    for (block, lines) in row.as_chunks::<144>().0.iter().zip(group.as_chunks_mut::<Q4K_LINES>().0) {
        lines[0].0[2 * output..][..2].copy_from_slice(&block[..2]);
        lines[0].0[LINE / 2 + 2 * output..][..2].copy_from_slice(&block[2..4]);
        for (bytes, line) in block[4..16].chunks_exact(4).zip(&mut lines[1..]) {
            line.0[4 * output..][..4].copy_from_slice(bytes);
        }
        let nibbles = &block[16..];
        for column in 0..256 {
            // 64 columns share 32 bytes: the first half of them has the lower nibbles.
            let byte = nibbles[column / 64 * 32 + column % 32];
            let nibble = (byte >> (column % 64 / 32 * 4)) & 0xf;
            put_nibble(&mut lines[1 + Q4K_SCALE_LINES + column / 8], output, column, nibble);
        }
    }
}

fn unpack_q4k(output: usize, group: &[Line], into: &mut [f32]) {
    for (block, lines) in into.as_chunks_mut::<256>().0.iter_mut().zip(group.as_chunks::<Q4K_LINES>().0) {
        let (d, dmin) = (from_f16(half(&lines[0], output)), from_f16(half(&lines[0], GROUP + output)));
        let (scales, minima) = scales_and_minima([1, 2, 3].map(|line| word(&lines[line], output)));
        for (column, value) in block.iter_mut().enumerate() {
            let nibble = nibble(&lines[1 + Q4K_SCALE_LINES + column / 8], output, column);
            let (scale, minimum) = (scales[column / 32], minima[column / 32]);
            *value = d * f32::from(scale) * f32::from(nibble) - dmin * f32::from(minimum);
        }
    }
}

/// The 8 scales and the 8 minima of a block of `Q4_K` from its 12 bytes, as three words.
pub(super) fn scales_and_minima([first, second, third]: [u32; 3]) -> ([u8; 8], [u8; 8]) {
    let scales = [first & 0x3f3f_3f3f, third & 0x0f0f_0f0f | (first >> 2) & 0x3030_3030];
    let minima = [second & 0x3f3f_3f3f, (third >> 4) & 0x0f0f_0f0f | (second >> 2) & 0x3030_3030];
    let bytes = |words: [u32; 2]| (u64::from(words[0]) | u64::from(words[1]) << 32).to_le_bytes();
    (bytes(scales), bytes(minima))
}

fn pack_q6k(output: usize, row: &[u8], group: &mut [Line]) {
    for (blocks, lines) in row.chunks(2 * 210).zip(group.chunks_mut(Q6K_PAIR)) {
        put_header(&mut lines[0], output, blocks.chunks_exact(210).map(|block| [block[208], block[209]]));
        for (block, lines) in blocks.chunks_exact(210).zip(lines[1..].chunks_exact_mut(Q6K_LINES)) {
            pack_q6k_block(output, block, lines);
        }
    }
}

fn pack_q6k_block(output: usize, block: &[u8], lines: &mut [Line]) {
    for (bytes, line) in block[192..208].chunks_exact(4).zip(lines.iter_mut()) {
        line.0[4 * output..][..4].copy_from_slice(bytes);
    }
    {
        for column in 0..256 {
            // 128 columns share 64 bytes of nibbles and 32 of upper bits: a quarter of them each two of these bits.
            let (half, quarter, within) = (column / 128, column % 128 / 32, column % 32);
            let nibble = (block[half * 64 + quarter % 2 * 32 + within] >> (quarter / 2 * 4)) & 0xf;
            let upper = (block[128 + half * 32 + within] >> (2 * quarter)) & 3;
            let lines = &mut lines[Q6K_SCALE_LINES + column / 16 * 3..][..3];
            lines[0].0[4 * output + column % 4] |= upper << (column % 16 / 4 * 2);
            put_nibble(&mut lines[1 + column % 16 / 8], output, column, nibble);
        }
    }
}

fn unpack_q6k(output: usize, group: &[Line], into: &mut [f32]) {
    for (column, value) in into.iter_mut().enumerate() {
        let pair = &group[column / 512 * Q6K_PAIR..];
        let (block, part) = (column % 512 / 256, column % 256 / 16);
        let lines = &pair[1 + block * Q6K_LINES..];
        let scale = lines[part / 4].0[4 * output + part % 4] as i8;
        let lines = &lines[Q6K_SCALE_LINES + part * 3..][..3];
        let upper = (lines[0].0[4 * output + column % 4] >> (column % 16 / 4 * 2)) & 3;
        let nibble = nibble(&lines[1 + column % 16 / 8], output, column);
        *value =
            header(&pair[0], block, output) * f32::from(scale) * f32::from((upper << 4 | nibble) as i8 - 32);
    }
}

/// Puts the nibble of a column into its line of 8 columns.
fn put_nibble(line: &mut Line, output: usize, column: usize, nibble: u8) {
    line.0[4 * output + column % 4] |= nibble << (column % 8 / 4 * 4);
}

fn nibble(line: &Line, output: usize, column: usize) -> u8 {
    (line.0[4 * output + column % 4] >> (column % 8 / 4 * 4)) & 0xf
}

/// Puts the binary16 of one or two blocks into their line.
fn put_header(line: &mut Line, output: usize, halves: impl Iterator<Item = [u8; 2]>) {
    for (half, bytes) in halves.enumerate() {
        line.0[2 * (half * GROUP + output)..][..2].copy_from_slice(&bytes);
    }
}

/// The binary16 of the first or the second block that a line is for.
pub(super) fn header(line: &Line, block: usize, output: usize) -> f32 {
    from_f16(half(line, block * GROUP + output))
}

/// The 16 bits at an index of a line.
pub(super) fn half(line: &Line, index: usize) -> u16 {
    u16::from_le_bytes([line.0[2 * index], line.0[2 * index + 1]])
}

/// The 32 bits at an index of a line.
pub(super) fn word(line: &Line, index: usize) -> u32 {
    u32::from(half(line, 2 * index)) | u32::from(half(line, 2 * index + 1)) << 16
}
