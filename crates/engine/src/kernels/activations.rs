//! Rows of numbers that are multiplied with matrices.

#![expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "offsets within rows of one width"
)]

use std::sync::OnceLock;

use super::format::Format;
use super::instructions::{InstructionSet, Kind};
use super::quantised::Quantised;
use super::threads::Threads;

/// Rows of `f32`, one after the other, for products with one or more matrices.
///
/// A matrix of a quantised format is multiplied with a quantised form of the rows, which is made at the first such
/// product and shared by the following ones: 8 bits a number, with a scale for each 32 (`Q8_0`) or 256 numbers
/// (`Q4_K`, `Q6_K`). All others take the numbers as they are.
pub struct Activations {
    values: Vec<f32>,
    width: usize,
    rows: usize,
    /// Those that the first product used: how the rows are divided into tiles depends on them.
    instructions: OnceLock<InstructionSet>,
    dense: OnceLock<Vec<Vec<f32>>>,
    by_32: OnceLock<Vec<Quantised>>,
    by_256: OnceLock<Vec<Quantised>>,
}

/// Some of the rows, those that one call of a kernel takes.
#[derive(Clone, Copy)]
pub(super) struct Tile {
    /// The first row.
    pub(super) start: usize,
    pub(super) rows: usize,
}

/// What a kernel reads of a tile: for each place in a row, the numbers of all its rows.
#[derive(Clone, Copy)]
pub(super) enum Form<'a> {
    Dense(&'a [f32]),
    Quantised(&'a Quantised),
}

/// The most rows of a tile. With AVX-512 that many sums fit into registers beside what they are made of.
pub(super) const MAX_TILE: usize = 12;

impl Activations {
    /// Rows of `width` numbers.
    ///
    /// # Panics
    /// `values` is not made of whole rows.
    pub fn new(values: Vec<f32>, width: usize) -> Self {
        assert!(
            width > 0 && values.len().is_multiple_of(width),
            "{} numbers in rows of {width}",
            values.len()
        );
        Self {
            rows: values.len() / width,
            values,
            width,
            instructions: OnceLock::new(),
            dense: OnceLock::new(),
            by_32: OnceLock::new(),
            by_256: OnceLock::new(),
        }
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Numbers of a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The instructions that all products with these rows use: those of the threads of the first one.
    pub(super) fn instructions(&self, threads: &Threads) -> InstructionSet {
        *self.instructions.get_or_init(|| threads.instructions())
    }

    /// The rows in as few tiles of about the same size as there are registers for, with what a product with a
    /// matrix of that format reads of each.
    pub(super) fn tiles(&self, format: Format, threads: &Threads) -> Vec<(Tile, Form<'_>)> {
        let instructions = self.instructions(threads);
        let most = match instructions.kind() {
            Kind::Avx512 => MAX_TILE,
            Kind::Avx2 | Kind::Portable => 4,
        };
        let count = self.rows.div_ceil(most);
        let tiles = (0..count).map(|index| self.tile(index, count));
        match format {
            Format::F32 | Format::F16 | Format::Bf16 if self.rows == 1 => {
                tiles.map(|tile| (tile, Form::Dense(&self.values))).collect()
            }
            Format::F32 | Format::F16 | Format::Bf16 => {
                let forms =
                    self.dense.get_or_init(|| self.each_tile(count, threads, |tile| self.interleaved(tile)));
                tiles.zip(forms.iter().map(|form| Form::Dense(form))).collect()
            }
            Format::Q8_0 => {
                let forms = self.by_32.get_or_init(|| {
                    self.each_tile(count, threads, |tile| self.quantised(tile, 32, instructions))
                });
                tiles.zip(forms.iter().map(Form::Quantised)).collect()
            }
            Format::Q4K | Format::Q6K => {
                let forms = self.by_256.get_or_init(|| {
                    self.each_tile(count, threads, |tile| self.quantised(tile, 256, instructions))
                });
                tiles.zip(forms.iter().map(Form::Quantised)).collect()
            }
        }
    }

    fn tile(&self, index: usize, count: usize) -> Tile {
        let at = |index| index * self.rows / count;
        Tile { start: at(index), rows: at(index + 1) - at(index) }
    }

    fn each_tile<T: Send + Sync>(
        &self,
        count: usize,
        threads: &Threads,
        make: impl Fn(Tile) -> T + Sync,
    ) -> Vec<T> {
        let made: Vec<OnceLock<T>> = (0..count).map(|_| OnceLock::new()).collect();
        threads.run(count, &|index| {
            made[index].get_or_init(|| make(self.tile(index, count)));
        });
        made.into_iter().filter_map(OnceLock::into_inner).collect()
    }

    fn interleaved(&self, tile: Tile) -> Vec<f32> {
        let mut values = vec![0.0; tile.rows * self.width];
        for (row, numbers) in self.rows_of(tile).enumerate() {
            for (value, number) in values[row..].iter_mut().step_by(tile.rows).zip(numbers) {
                *value = *number;
            }
        }
        values
    }

    fn quantised(&self, tile: Tile, block: usize, instructions: InstructionSet) -> Quantised {
        Quantised::new(self.rows_of(tile), self.width, block, instructions)
    }

    fn rows_of(&self, tile: Tile) -> impl ExactSizeIterator<Item = &[f32]> {
        self.values[tile.start * self.width..][..tile.rows * self.width].chunks_exact(self.width)
    }
}
