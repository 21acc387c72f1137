//! Rows of numbers in 8 bits each.

#![expect(unsafe_code, reason = "calls of functions for instructions that the processor was found to have")]
#![expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "offsets within rows of one width, and sums of at most 256 numbers of 8 bits"
)]

use super::instructions::{InstructionSet, Kind};

/// The rows of a tile, interleaved: each table has, for each place in a row, a number of every row.
pub(super) struct Quantised {
    /// 4 numbers of 8 bits, from −127 to 127, the first in the lowest.
    pub(super) quads: Vec<i32>,
    /// What the numbers of a block are to be multiplied with.
    pub(super) scales: Vec<f32>,
    /// What makes up for what is added to weights so that they are not negative: −128 times the sum of a block of
    /// 32, or −32 times the sum of 16 numbers in blocks of 256.
    pub(super) offsets: Vec<i32>,
    /// In blocks of 256, the sums of 32 numbers, two `i16` in a word: 0 and 2, 1 and 3, 4 and 6, 5 and 7.
    pub(super) sums: Vec<i32>,
}

impl Quantised {
    /// Quantises rows of `width` numbers in blocks of 32 or 256, of which a row has a whole number.
    ///
    /// A block with a number that is not finite becomes one whose every product is not a number.
    pub(super) fn new<'a>(
        rows: impl ExactSizeIterator<Item = &'a [f32]>,
        width: usize,
        block: usize,
        instructions: InstructionSet,
    ) -> Self {
        let (count, blocks) = (rows.len(), width / block);
        let (offsets, sums) = if block == 32 { (1, 0) } else { (16, 4) };
        let mut made = Self {
            quads: vec![0; count * width / 4],
            scales: vec![0.0; count * blocks],
            offsets: vec![0; count * blocks * offsets],
            sums: vec![0; count * blocks * sums],
        };
        for (row, numbers) in rows.enumerate() {
            match (instructions.kind(), block) {
                (Kind::Portable, 32) => made.put_by_32(row, count, numbers),
                (Kind::Portable, _) => made.put_by_256(row, count, numbers),
                // SAFETY: `instructions` exist only where the processor has them, for all below.
                #[cfg(target_arch = "x86_64")]
                (Kind::Avx2, 32) => unsafe { made.put_by_32_avx2(row, count, numbers) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                (Kind::Avx2, _) => unsafe { made.put_by_256_avx2(row, count, numbers) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                (Kind::Avx512, 32) => unsafe { made.put_by_32_avx512(row, count, numbers) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                (Kind::Avx512, _) => unsafe { made.put_by_256_avx512(row, count, numbers) },
                #[cfg(not(target_arch = "x86_64"))]
                (Kind::Avx2 | Kind::Avx512, _) => unreachable!("instructions that were not found"),
            }
        }
        made
    }

    /// Puts one of `count` rows into its places.
    #[inline(always)]
    fn put_by_32(&mut self, row: usize, count: usize, numbers: &[f32]) {
        for (index, block) in numbers.as_chunks::<32>().0.iter().enumerate() {
            let (scale, bytes) = quantise(block);
            self.scales[index * count + row] = scale;
            self.offsets[index * count + row] = -128 * sum(&bytes);
            self.put_quads(index * 8 * count + row, count, &bytes);
        }
    }

    #[inline(always)]
    fn put_by_256(&mut self, row: usize, count: usize, numbers: &[f32]) {
        for (index, block) in numbers.as_chunks::<256>().0.iter().enumerate() {
            let (scale, bytes) = quantise(block);
            self.scales[index * count + row] = scale;
            let mut sums = [0; 16];
            for (total, part) in sums.iter_mut().zip(bytes.as_chunks::<16>().0) {
                *total = sum(part);
            }
            for (part, total) in sums.iter().enumerate() {
                self.offsets[(index * 16 + part) * count + row] = -32 * total;
            }
            for (word, first) in [0, 1, 4, 5].into_iter().enumerate() {
                let pair = [first, first + 2].map(|part| sums[2 * part] + sums[2 * part + 1]);
                self.sums[(index * 4 + word) * count + row] = pair[0] & 0xffff | pair[1] << 16;
            }
            self.put_quads(index * 64 * count + row, count, &bytes);
        }
    }

    #[inline(always)]
    fn put_quads(&mut self, start: usize, count: usize, bytes: &[i8]) {
        let places = self.quads[start..].iter_mut().step_by(count);
        for (place, quad) in places.zip(bytes.as_chunks::<4>().0) {
            *place = i32::from_le_bytes(quad.map(|byte| byte as u8));
        }
    }
}

/// The same functions, compiled for other instructions.
#[cfg(target_arch = "x86_64")]
impl Quantised {
    #[target_feature(enable = "avx2,fma")]
    fn put_by_32_avx2(&mut self, row: usize, count: usize, numbers: &[f32]) {
        self.put_by_32(row, count, numbers);
    }

    #[target_feature(enable = "avx2,fma")]
    fn put_by_256_avx2(&mut self, row: usize, count: usize, numbers: &[f32]) {
        self.put_by_256(row, count, numbers);
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    fn put_by_32_avx512(&mut self, row: usize, count: usize, numbers: &[f32]) {
        self.put_by_32(row, count, numbers);
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    fn put_by_256_avx512(&mut self, row: usize, count: usize, numbers: &[f32]) {
        self.put_by_256(row, count, numbers);
    }
}

/// The scale of a block, and its numbers as multiples of it, rounded to even.
#[inline(always)]
fn quantise<const N: usize>(block: &[f32; N]) -> (f32, [i8; N]) {
    let mut largest = 0;
    for number in block {
        largest = u32::max(largest, number.to_bits() & !SIGN);
    }
    let magnitude = f32::from_bits(largest);
    if !magnitude.is_finite() || magnitude < SMALLEST {
        return (if magnitude.is_finite() { 0.0 } else { f32::NAN }, [0; N]);
    }
    let inverse = 127.0 / magnitude;
    let mut bytes = [0; N];
    for (byte, number) in bytes.iter_mut().zip(block) {
        *byte = (number * inverse + ROUNDS).to_bits() as i8;
    }
    (magnitude / 127.0, bytes)
}

#[inline(always)]
fn sum(bytes: &[i8]) -> i32 {
    bytes.iter().map(|byte| i32::from(*byte)).sum()
}

const SIGN: u32 = 1 << 31;
/// Below it a block is 0: the inverse of its scale could not be told from infinity.
const SMALLEST: f32 = 1e-36;
/// 1.5 · 2²³: a number added to it is rounded to an integer, whose lowest byte is that of the sum.
const ROUNDS: f32 = 12_582_912.0;
