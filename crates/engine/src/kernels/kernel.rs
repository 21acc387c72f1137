//! The product of a group of outputs with a tile of rows, by the instructions there are.

#![expect(unsafe_code, reason = "calls of functions for instructions that the processor was found to have")]

use super::activations::{Form, MAX_TILE};
#[cfg(target_arch = "x86_64")]
use super::avx2;
#[cfg(target_arch = "x86_64")]
use super::avx512;
use super::format::Format;
use super::instructions::{InstructionSet, Kind};
use super::line::Line;
use super::pack::GROUP;
use super::portable;

/// For each row of a tile, the products with the 16 outputs of a group.
pub(super) type Products = [[f32; GROUP]; MAX_TILE];

/// A group of outputs and a tile of rows: what a kernel multiplies.
///
/// The order in which a kernel adds up one product depends on nothing but the length of a row.
#[derive(Clone, Copy)]
pub(super) struct Block<'a> {
    pub(super) format: Format,
    /// The lines of the group, as [`pack`](super::pack) lays them out for rows as long as those of the tile.
    pub(super) group: &'a [Line],
    /// The rows' numbers, in the form for the format.
    pub(super) form: Form<'a>,
    /// How many rows, from 1 to as many as the instructions take.
    pub(super) rows: usize,
}

impl Block<'_> {
    /// Multiplies, into as many products as there are rows.
    pub(super) fn multiply(&self, instructions: InstructionSet, into: &mut Products) {
        match instructions.kind() {
            Kind::Portable => portable::multiply(self, into),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `instructions` exist only where the processor has them.
            Kind::Avx2 => unsafe { avx2::multiply(self, into) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Kind::Avx512 => unsafe { avx512::multiply(self, into) },
            #[cfg(not(target_arch = "x86_64"))]
            Kind::Avx2 | Kind::Avx512 => unreachable!("instructions that were not found"),
        }
    }
}
