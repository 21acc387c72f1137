//! A cache line, the unit in which repacked weights are kept.

/// Bytes of a line: those of one register of AVX-512, and of a line of the caches.
pub(super) const LINE: usize = 64;

/// 64 bytes that start at a multiple of 64.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Line(pub(super) [u8; LINE]);

const _: () = assert!(size_of::<Line>() == LINE && align_of::<Line>() == LINE);

impl Line {
    pub(super) const ZERO: Self = Self([0; LINE]);
}
