//! A matrix of weights.

#![expect(unsafe_code, reason = "threads write columns of the same rows; each block says why it is sound")]
#![expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "offsets within a matrix whose size was checked and whose bytes are in memory"
)]

use std::marker::PhantomData;
use std::sync::{Mutex, PoisonError};

use super::activations::{Activations, MAX_TILE};
use super::format::Format;
use super::kernel::Block;
use super::line::{LINE, Line};
use super::pack::{self, GROUP};
use super::threads::Threads;

/// Weights of so many bytes make a task: enough to outweigh handing it out, few enough that threads end together.
const TASK_BYTES: usize = 96 * 1024;
/// Products of a tile and a group that make a task as well, however small the group: about 20 µs.
const TASK_TILES: usize = 16;

/// A matrix of outputs × inputs, laid out for the kernels.
///
/// It takes the bytes of its file, rounded up to whole cache lines and to 16 outputs.
pub struct Matrix {
    format: Format,
    outputs: usize,
    inputs: usize,
    /// Lines of a group of 16 outputs.
    stride: usize,
    lines: Vec<Line>,
}

/// Why bytes are not a matrix.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MatrixError {
    /// The rows of a quantised matrix are made of blocks of that many numbers.
    #[error("a matrix in {} of {outputs} rows and {inputs} columns cannot be: rows are not whole blocks of {}, or it is empty or too large", .format.name(), .format.block())]
    Shape {
        /// The format.
        format: Format,
        /// Rows.
        outputs: usize,
        /// Columns.
        inputs: usize,
    },
    /// There are more or fewer bytes than the matrix has.
    #[error("a matrix takes {expected} bytes, but {found} are there")]
    Length {
        /// Bytes of such a matrix.
        expected: usize,
        /// Bytes that were given.
        found: usize,
    },
}

impl Matrix {
    /// Takes a matrix from its bytes, as they lie in a file of safetensors or GGUF: row by row, a row for each output.
    /// Any bytes of the right number are a matrix.
    ///
    /// # Errors
    /// `bytes` are not as many as the shape needs, the columns are not whole blocks of the format, or there are no
    /// rows or columns.
    pub fn new(
        format: Format,
        outputs: usize,
        inputs: usize,
        bytes: &[u8],
        threads: &Threads,
    ) -> Result<Self, MatrixError> {
        let shape = MatrixError::Shape { format, outputs, inputs };
        let expected = format.bytes(outputs, inputs).filter(|bytes| *bytes > 0).ok_or(shape)?;
        if bytes.len() != expected {
            return Err(MatrixError::Length { expected, found: bytes.len() });
        }
        let stride = pack::lines(format, inputs);
        let mut lines = vec![Line::ZERO; outputs.div_ceil(GROUP) * stride];
        let groups = lines.chunks_exact_mut(stride).zip(bytes.chunks(expected / outputs * GROUP));
        let groups: Vec<_> = groups.map(Mutex::new).collect();
        threads.run(groups.len(), &|group| {
            let mut group = groups[group].lock().unwrap_or_else(PoisonError::into_inner);
            let (lines, rows) = &mut *group;
            pack::pack(format, inputs, rows, lines);
        });
        drop(groups);
        Ok(Self { format, outputs, inputs, stride, lines })
    }

    /// Rows of the matrix: numbers of a product.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Columns of the matrix: numbers of a row that it is multiplied with.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// The format.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Bytes of memory that the weights take.
    pub fn bytes(&self) -> usize {
        self.lines.len() * LINE
    }

    /// The weights of one output, as the format defines them.
    ///
    /// # Panics
    /// There is no such output, or `into` is not as long as a row.
    pub fn row(&self, output: usize, into: &mut [f32]) {
        assert!(output < self.outputs, "row {output} of {}", self.outputs);
        assert_eq!(into.len(), self.inputs, "numbers of a row");
        pack::unpack(self.format, output % GROUP, self.group(output / GROUP), into);
    }

    /// Multiplies each row of `inputs` with the matrix: number `output` of the product of row `row` is
    /// `into[row * outputs + output]`.
    ///
    /// Each of these depends on its row and its output alone, bit for bit, and not on the other rows or on the threads.
    ///
    /// # Panics
    /// The rows of `inputs` are not as long as those of the matrix, or `into` is not as long as all the products.
    pub fn multiply(&self, inputs: &Activations, into: &mut [f32], threads: &Threads) {
        assert_eq!(inputs.width(), self.inputs, "numbers of a row");
        assert_eq!(into.len(), inputs.rows() * self.outputs, "numbers of the products");
        let (tiles, instructions) = (inputs.tiles(self.format, threads), inputs.instructions(threads));
        let groups = self.outputs.div_ceil(GROUP);
        let by_bytes = TASK_BYTES / (self.stride * LINE);
        let each = by_bytes.min(TASK_TILES / tiles.len().max(1)).max(1);
        let into = Columns::new(into, self.outputs);
        threads.run(groups.div_ceil(each), &|task| {
            let mut products = [[0.0; GROUP]; MAX_TILE];
            for index in task * each..groups.min((task + 1) * each) {
                let group = self.group(index);
                let width = GROUP.min(self.outputs - index * GROUP);
                for (tile, form) in &tiles {
                    let block = Block { format: self.format, group, form: *form, rows: tile.rows };
                    block.multiply(instructions, &mut products);
                    for (row, products) in products.iter().enumerate().take(tile.rows) {
                        // SAFETY: a group belongs to one task, and this is the only write to its columns.
                        unsafe { into.write(tile.start + row, index * GROUP, &products[..width]) };
                    }
                }
            }
        });
    }

    fn group(&self, index: usize) -> &[Line] {
        &self.lines[index * self.stride..][..self.stride]
    }
}

/// Rows of numbers that several threads write, each its columns.
struct Columns<'a> {
    start: *mut f32,
    length: usize,
    width: usize,
    borrow: PhantomData<&'a mut [f32]>,
}

// SAFETY: it is a borrowed slice of `f32`, which threads may share: `write` asks that no two write the same number.
unsafe impl Sync for Columns<'_> {}

impl<'a> Columns<'a> {
    fn new(values: &'a mut [f32], width: usize) -> Self {
        Self { start: values.as_mut_ptr(), length: values.len(), width, borrow: PhantomData }
    }

    /// Writes numbers of a row, from a column on.
    ///
    /// # Safety
    /// No other thread writes these numbers as long as this value lives.
    unsafe fn write(&self, row: usize, column: usize, values: &[f32]) {
        let start = row * self.width + column;
        assert!(start <= self.length && values.len() <= self.length - start);
        // SAFETY: the numbers lie within the slice, which is borrowed mutably for as long as this value lives; by the
        // contract nobody else writes them, and nobody reads through this value.
        unsafe { std::ptr::copy_nonoverlapping(values.as_ptr(), self.start.add(start), values.len()) };
    }
}
