//! Manifests that match what simulated devices report: which measurements are compared and with what.

use super::rim::{RimActivity, RimOptions, RimProduct};
use crate::tdx::simulated_measurement;

/// What a manifest says about the measurements that it compares.
pub(super) struct Golden<'a> {
    pub(super) product: RimProduct,
    /// The report's blocks, which manifest index 0 starts.
    pub(super) blocks: &'a [[u8; 48]],
    /// Indices, from 0, that the manifest compares.
    pub(super) active: &'a [u8],
    /// Indices that have several alternatives, and how many.
    pub(super) alternatives: &'a [(u8, u8)],
    /// The index that names none of what the report shows.
    pub(super) unmatched: Option<u8>,
}

impl Golden<'_> {
    /// The manifest of this id and version, good at this time.
    pub(super) fn manifest(&self, id: &str, version: &str, now_unix: u64) -> RimOptions {
        let mut options = RimOptions::new(self.product, id, version, now_unix);
        for measurement in &mut options.measurements {
            let index = measurement.index;
            if self.active.contains(&index) {
                measurement.activity = RimActivity::Active;
                measurement.alternatives = self.values(index);
                if (1..=3).contains(&index) {
                    measurement.name = format!("HashedMeasurement_{index}_FSP");
                }
            }
        }
        options
    }

    /// The block's value among those that no device shows.
    fn values(&self, index: u8) -> Vec<[u8; 48]> {
        let count = self.alternatives.iter().find(|(of, _)| *of == index).map_or(1, |(_, count)| *count);
        let other =
            |at| simulated_measurement(&format!("{} index {index} alternative {at}", self.product.name()));
        let shown = if self.unmatched == Some(index) { None } else { Some(index % count) };
        (0..count)
            .map(|at| if shown == Some(at) { self.blocks[usize::from(index)] } else { other(at) })
            .collect()
    }
}
