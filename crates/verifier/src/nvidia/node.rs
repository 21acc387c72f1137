//! The devices of a node as a set: distinct, alike, and in protected PCIe mode one machine.

use super::device::Device;
use crate::check::{Checks, Rule};
use crate::rules;
use confide_evidence::nvidia::{DeviceKind, Mode};
use confide_policy::{CcMode, DevicePolicy};
use std::collections::BTreeSet;

/// The NVSwitches of a machine with eight GPUs, the only kind that has a protected PCIe mode.
const SWITCHES: usize = 4;

/// The rules of a set of devices, in order.
pub(super) static RULES: [&Rule; 3] =
    [&rules::DEVICE_DISTINCT, &rules::DEVICE_UNIFORM, &rules::DEVICE_TOPOLOGY];

/// Checks a set of authentic devices.
pub(super) fn appraise(devices: &[Device<'_>], policy: &DevicePolicy, checks: &mut Checks) {
    let found = [distinct(devices), uniform(devices)];
    for (rule, found) in [&rules::DEVICE_DISTINCT, &rules::DEVICE_UNIFORM].into_iter().zip(found) {
        match found {
            Ok(actual) => checks.pass(rule, actual),
            Err(actual) => checks.fail(rule, actual),
        }
    }
    let rule = &rules::DEVICE_TOPOLOGY;
    match (topology(devices), policy.switches_with_gpus.waiver()) {
        (Ok(actual), None) => checks.pass(rule, actual),
        (Ok(actual) | Err(Amiss::NoGpu(actual)), Some(reason)) => checks.waive(rule, reason, actual),
        (Err(Amiss::NoGpu(actual)), None) | (Err(Amiss::Other(actual)), _) => checks.fail(rule, actual),
    }
}

/// What is wrong with how devices name each other.
enum Amiss {
    /// There are switches and no GPU at all: no one's list can be held against anything.
    NoGpu(String),
    /// All else, which no policy waives.
    Other(String),
}

/// No leaf key, leaf serial number or BROM serial number occurs twice.
fn distinct(devices: &[Device<'_>]) -> Result<String, String> {
    let mut seen = BTreeSet::new();
    for device in devices {
        let (leaf, brom) = (device.chain.leaf(), device.chain.brom());
        for identity in [("key", &leaf.spki), ("serial", &leaf.serial), ("BROM serial", &brom.serial)] {
            if !seen.insert(identity) {
                return Err(format!("device {} has the {} of another", device.position, identity.0));
            }
        }
    }
    Ok(format!("{} devices", devices.len()))
}

/// All GPUs have one chip family, mode and driver.
fn uniform(devices: &[Device<'_>]) -> Result<String, String> {
    let facts = |device: &Device<'_>| {
        let family = device.chain.family().map_or("unknown", |family| family.name());
        let driver = device.report.opaque.driver_version.unwrap_or("unknown").to_owned();
        let chip = device.report.opaque.chip_info.map(|chip| format!(" ({chip})")).unwrap_or_default();
        format!("{family}{chip}, mode {}, driver {driver}", CcMode::from(device.report.mode()))
    };
    let found: BTreeSet<String> = of_kind(devices, DeviceKind::Gpu).map(facts).collect();
    let listed = found.iter().cloned().collect::<Vec<_>>().join("; ");
    match found.len() {
        0 => Ok("no GPUs".to_owned()),
        1 => Ok(listed),
        _ => Err(listed),
    }
}

fn of_kind<'d, 'a>(devices: &'d [Device<'a>], kind: DeviceKind) -> impl Iterator<Item = &'d Device<'a>> {
    devices.iter().filter(move |device| device.report.kind == kind)
}

/// In protected PCIe mode GPUs and locked switches name each other by the PDIs that their certificates bear.
///
/// Without the certificates the lists would only be consistent strings: with them, a device of another machine fits no
/// list.
fn topology(devices: &[Device<'_>]) -> Result<String, Amiss> {
    let switches = certified(devices, DeviceKind::Switch);
    if of_kind(devices, DeviceKind::Gpu).next().is_none() && !switches.is_empty() {
        of_kind(devices, DeviceKind::Switch).try_for_each(own).map_err(Amiss::Other)?;
        return Err(Amiss::NoGpu(format!("{} switches without a GPU", switches.len())));
    }
    linked(devices, &switches).map_err(Amiss::Other)
}

/// GPUs and the switches between them, which have these PDIs.
fn linked(devices: &[Device<'_>], switches: &BTreeSet<[u8; 8]>) -> Result<String, String> {
    if !is_protected(devices) {
        return match switches.len() {
            0 => Ok("no protected PCIe mode".to_owned()),
            count => Err(format!("{count} switches without a GPU in protected PCIe mode")),
        };
    }
    if switches.len() != SWITCHES {
        return Err(format!("{} switches, a machine in protected PCIe mode has {SWITCHES}", switches.len()));
    }
    let gpus = certified(devices, DeviceKind::Gpu);
    for gpu in of_kind(devices, DeviceKind::Gpu) {
        let listed = gpu.report.opaque.switch_pdis.unwrap_or_default();
        if reversed(listed) != *switches {
            return Err(format!("device {} lists other switches than the document has", gpu.position));
        }
    }
    for switch in of_kind(devices, DeviceKind::Switch) {
        own(switch)?;
        let listed = switch.report.opaque.switch_gpus.map(|gpus| gpus.pdis).unwrap_or_default();
        if listed.iter().copied().collect::<BTreeSet<_>>() != gpus {
            return Err(format!("device {} lists other GPUs than the document has", switch.position));
        }
    }
    Ok(format!("{} GPUs and {} switches name each other", gpus.len(), switches.len()))
}

/// What a switch says of itself alone: the PDI that its certificate bears, and that it is locked.
fn own(switch: &Device<'_>) -> Result<(), String> {
    let opaque = &switch.report.opaque;
    if opaque.device_pdi.copied() != switch.chain.pdi().map(|(_, pdi)| pdi) {
        return Err(format!("device {} reports another PDI than its certificate", switch.position));
    }
    if opaque.lock_switch_status != Some(1) {
        return Err(format!("device {} is a switch that is not locked", switch.position));
    }
    Ok(())
}

/// Whether a GPU says that it is in protected PCIe mode.
pub(super) fn is_protected(devices: &[Device<'_>]) -> bool {
    of_kind(devices, DeviceKind::Gpu).any(|gpu| gpu.report.mode() == Some(Mode::ProtectedPcie))
}

/// PDIs that certificates bear.
fn certified(devices: &[Device<'_>], kind: DeviceKind) -> BTreeSet<[u8; 8]> {
    of_kind(devices, kind).filter_map(|device| device.chain.pdi()).map(|(_, pdi)| pdi).collect()
}

/// A GPU's list of switch PDIs: reversed bytes, zero where a link is disabled.
fn reversed(listed: &[[u8; 8]]) -> BTreeSet<[u8; 8]> {
    let in_order = listed.iter().map(|pdi| {
        let mut pdi = *pdi;
        pdi.reverse();
        pdi
    });
    in_order.filter(|pdi| *pdi != [0; 8]).collect()
}
