//! A device's measurements against the golden values of its manifests.

use super::endorsements::Manifest;
use crate::result::{MAX_DIFFERENCES, MeasurementDifference};
use confide_evidence::bytes::Bytes;
use confide_evidence::hex;
use confide_evidence::nvidia::{Activity, Measurement, Report, Rim, Toggle};
use std::collections::BTreeSet;

/// The index that is not compared while the video decoder is off.
const NVDEC0_INDEX: u8 = 35;
/// As many mismatches as the text of a check tells one by one, with both values. Of the others it gives the indices; the
/// device's result lists all of them.
const TOLD: usize = 4;

/// Active measurements of a Hopper driver's manifest: 21 in that of 550.90.07, 22 in newer ones.
const HOPPER_DRIVER: usize = 21;
/// Active measurements of a Hopper VBIOS's manifest: 12 in every recorded one.
const HOPPER_VBIOS: usize = 12;
/// Active measurements of the one recorded manifest of a Blackwell VBIOS, which is signed under another root.
const BLACKWELL_VBIOS: usize = 20;
/// Active measurements of an LS10 firmware's manifest: every block of the report.
const SWITCH: usize = 31;

/// A measurement that is none of its golden values.
#[derive(Debug, Clone, Copy)]
pub(super) struct Difference<'r> {
    measurement: &'r Measurement,
    /// Nothing where the report has no block for it.
    actual: Option<&'r [u8; 48]>,
}

/// The active measurements of a manifest that a report does not have. One for which the report has no block is none of any
/// value, that of zeros among them.
pub(super) fn differing<'r>(report: &'r Report<'r>, rim: &'r Rim) -> Vec<Difference<'r>> {
    compared(report, rim)
        .filter_map(|measurement| {
            let actual = value(report, measurement.index);
            let is_golden = actual.is_some_and(|actual| measurement.alternatives.contains(actual));
            (!is_golden).then_some(Difference { measurement, actual })
        })
        .collect()
}

/// The active measurements of a manifest that are compared.
pub(super) fn compared<'r>(
    report: &Report<'_>,
    rim: &'r Rim,
) -> impl Iterator<Item = &'r Measurement> + use<'r> {
    let decoder_is_off = report.opaque.nvdec0 == Some(Toggle::Disabled);
    active(rim).filter(move |measurement| !(decoder_is_off && measurement.index == NVDEC0_INDEX))
}

fn active(rim: &Rim) -> impl Iterator<Item = &Measurement> {
    rim.measurements.iter().filter(|measurement| measurement.activity == Activity::Active)
}

/// Manifest index i is block i + 1 of the report.
fn value<'r>(report: &'r Report<'r>, index: u8) -> Option<&'r [u8; 48]> {
    let block = report.blocks.iter().find(|block| block.index.checked_sub(1) == Some(index));
    block.map(|block| block.value)
}

/// How a device's measurements compare with its manifests: those of a GPU's driver and VBIOS, or that of a switch.
#[derive(Debug)]
pub(super) struct Comparison {
    /// How many golden values were compared.
    count: usize,
    /// In the order of the manifests and of their indices, at most [`MAX_DIFFERENCES`].
    pub(super) differences: Vec<MeasurementDifference>,
    /// Indices of blocks that hold a value and for which no manifest has an active one, sorted.
    pub(super) without_golden_value: Vec<u8>,
    /// What the differences are, told in short, and what they usually mean.
    pub(super) mismatch: Option<Mismatch>,
}

impl Comparison {
    /// What the check says where nothing differs.
    pub(super) fn equal(&self) -> String {
        format!("{} measurements equal their golden values", self.count)
    }
}

/// Compares a report with manifests. An error says why these manifests are nothing to compare with.
pub(super) fn compare(report: &Report<'_>, manifests: &[&Manifest]) -> Result<Comparison, String> {
    let mut seen = BTreeSet::new();
    for manifest in manifests {
        for measurement in active(&manifest.rim) {
            if !seen.insert(measurement.index) {
                return Err(format!("both manifests have a value for index {}", measurement.index));
            }
        }
        let (found, least) = (active(&manifest.rim).count(), least(manifest));
        if found < least {
            let name = manifest.describe();
            return Err(format!("{found} active values in manifest {name}, expected at least {least}"));
        }
    }
    let count = manifests.iter().map(|manifest| compared(report, &manifest.rim).count()).sum::<usize>();
    let (mut all, mut affected) = (Vec::new(), Vec::new());
    for manifest in manifests {
        let differing = differing(report, &manifest.rim);
        if !differing.is_empty() {
            affected.push((*manifest, differing.len()));
        }
        all.extend(differing.into_iter().map(|difference| (difference, *manifest)));
    }
    let listed = all.iter().take(MAX_DIFFERENCES);
    Ok(Comparison {
        count,
        differences: listed.map(|(difference, manifest)| difference.listed(manifest)).collect(),
        without_golden_value: without_golden_value(report, &seen),
        mismatch: (!all.is_empty())
            .then(|| Mismatch { actual: told(&all, count), remedy: remedy(&affected) }),
    })
}

/// Blocks that hold another value than zeros and whose index is none of these.
fn without_golden_value(report: &Report<'_>, golden: &BTreeSet<u8>) -> Vec<u8> {
    let filled = report.blocks.iter().filter(|block| *block.value != [0; 48]);
    filled.filter_map(|block| block.index.checked_sub(1)).filter(|index| !golden.contains(index)).collect()
}

/// Some of the differences in full, of the others the indices.
fn told(all: &[(Difference<'_>, &Manifest)], count: usize) -> String {
    let mut told: Vec<String> =
        all.iter().take(TOLD).map(|(difference, manifest)| difference.describe(manifest)).collect();
    let others: Vec<String> =
        all.iter().skip(TOLD).map(|(difference, _)| difference.measurement.index.to_string()).collect();
    if !others.is_empty() {
        told.push(format!("{} more differ, of index {}", others.len(), others.join(", ")));
    }
    format!("{} of {count} differ: {}", all.len(), told.join("; "))
}

impl Difference<'_> {
    /// The measurement, what it is and what it should be.
    fn describe(&self, manifest: &Manifest) -> String {
        let Self { measurement, actual } = self;
        let golden: Vec<String> = measurement.alternatives.iter().map(|value| hex::encode(value)).collect();
        let actual = actual.map_or("in no block of the report".to_owned(), |actual| hex::encode(actual));
        format!(
            "index {} ({}) is {actual}, manifest {} has {}",
            measurement.index,
            measurement.name,
            manifest.describe(),
            golden.join(" or ")
        )
    }

    /// As a device's result has it.
    fn listed(&self, manifest: &Manifest) -> MeasurementDifference {
        let Self { measurement, actual } = self;
        MeasurementDifference {
            index: measurement.index,
            name: measurement.name.clone(),
            golden: measurement.alternatives.iter().copied().map(Bytes).collect(),
            actual: actual.copied().map(Bytes),
            manifest_version: manifest.rim.colloquial_version.clone(),
            manifest_sha256: Bytes(manifest.sha256),
        }
    }
}

/// What differs, and what it usually means.
#[derive(Debug)]
pub(super) struct Mismatch {
    pub(super) actual: String,
    pub(super) remedy: Option<String>,
}

/// The fewest active measurements of a genuine manifest of this product.
fn least(manifest: &Manifest) -> usize {
    use super::endorsements::Firmware::{Driver, Vbios};
    match (manifest.rim.product.as_str(), manifest.of) {
        ("GH100", Some(Driver(_))) => HOPPER_DRIVER,
        ("GH100", Some(Vbios(_))) => HOPPER_VBIOS,
        ("LS10", _) => SWITCH,
        ("GB100", Some(Vbios(_))) => BLACKWELL_VBIOS,
        // Of the other Blackwell manifests none is recorded: a number that is made up would refuse genuine ones.
        _ => 1,
    }
}

/// What a mismatch usually means: a value or two differ from a stale issue of the right manifest, many from another
/// firmware's.
fn remedy(affected: &[(&Manifest, usize)]) -> Option<String> {
    use super::endorsements::Firmware::Driver;
    let (manifest, count) = affected.iter().max_by_key(|(_, count)| *count)?;
    let of_driver = matches!(manifest.of, Some(Driver(_)));
    Some(match (of_driver, *count) {
        (false, 1..=2) => "fetch the newest issue of the VBIOS manifest: NVIDIA has issued the same id again with other values; if it has these, too, do not trust the device",
        (false, _) => "supply the manifest of the VBIOS that the device runs: this one is of another board or build; if there is none, do not trust the device",
        (true, 1..=2) => "fetch the newest issue of the driver's manifest, and have the operator install the driver unchanged",
        (true, _) => "have the operator install an unchanged driver that NVIDIA has signed a manifest for: the driver was updated or changed without its manifest",
    }.to_owned())
}
