//! A device's measurements against the golden values of its manifests.

use super::endorsements::Manifest;
use confide_evidence::hex;
use confide_evidence::nvidia::{Activity, Measurement, Report, Rim, Toggle};
use std::collections::BTreeSet;

/// The index that is not compared while the video decoder is off.
const NVDEC0_INDEX: u8 = 35;
/// As many mismatches as a verdict tells one by one, with both values. Of the others, at most 60, it gives the indices: there are
/// 64 of them, and no two manifests share one.
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
    actual: &'r [u8; 48],
}

/// The active measurements of a manifest that a report does not have. A measurement for which the report has no block is
/// told as one of zeros.
pub(super) fn differing<'r>(report: &'r Report<'r>, rim: &'r Rim) -> Vec<Difference<'r>> {
    compared(report, rim)
        .filter_map(|measurement| {
            let actual = value(report, measurement.index);
            (!measurement.alternatives.contains(actual)).then_some(Difference { measurement, actual })
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
fn value<'r>(report: &'r Report<'r>, index: u8) -> &'r [u8; 48] {
    const NONE: &[u8; 48] = &[0; 48];
    let block = report.blocks.iter().find(|block| block.index.checked_sub(1) == Some(index));
    block.map_or(NONE, |block| block.value)
}

/// How a device's measurements compare with its manifests: those of a GPU's driver and VBIOS, or that of a switch.
pub(super) fn compare(report: &Report<'_>, manifests: &[&Manifest]) -> Result<String, Mismatch> {
    let mut seen = BTreeSet::new();
    for manifest in manifests {
        for measurement in active(&manifest.rim) {
            if !seen.insert(measurement.index) {
                let index = measurement.index;
                return Err(Mismatch::plain(format!("both manifests have a value for index {index}")));
            }
        }
        let (found, least) = (active(&manifest.rim).count(), least(manifest));
        if found < least {
            let name = manifest.describe();
            return Err(Mismatch::plain(format!(
                "{found} active values in manifest {name}, expected at least {least}"
            )));
        }
    }
    let count = manifests.iter().map(|manifest| compared(report, &manifest.rim).count()).sum::<usize>();
    let (mut told, mut others, mut affected) = (Vec::new(), Vec::new(), Vec::new());
    for manifest in manifests {
        let differing = differing(report, &manifest.rim);
        if !differing.is_empty() {
            affected.push((*manifest, differing.len()));
        }
        for difference in differing {
            if told.len() < TOLD {
                told.push(difference.describe(manifest));
            } else {
                others.push(difference.measurement.index.to_string());
            }
        }
    }
    let all = told.len().saturating_add(others.len());
    if all == 0 {
        return Ok(format!("{count} measurements equal their golden values"));
    }
    if !others.is_empty() {
        told.push(format!("{} more differ, of index {}", others.len(), others.join(", ")));
    }
    Err(Mismatch {
        actual: format!("{all} of {count} differ: {}", told.join("; ")),
        remedy: remedy(&affected),
    })
}

impl Difference<'_> {
    /// The measurement, what it is and what it should be.
    fn describe(&self, manifest: &Manifest) -> String {
        let Self { measurement, actual } = self;
        let golden: Vec<String> = measurement.alternatives.iter().map(|value| hex::encode(value)).collect();
        format!(
            "index {} ({}) is {}, manifest {} has {}",
            measurement.index,
            measurement.name,
            hex::encode(*actual),
            manifest.describe(),
            golden.join(" or ")
        )
    }
}

/// What differs, and what it usually means.
#[derive(Debug)]
pub(super) struct Mismatch {
    pub(super) actual: String,
    pub(super) remedy: Option<String>,
}

impl Mismatch {
    fn plain(actual: String) -> Self {
        Self { actual, remedy: None }
    }
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
