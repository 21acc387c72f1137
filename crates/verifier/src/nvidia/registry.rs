//! The devices of a node against the operator's registry of machines.

use super::Cpu;
use super::device::Device;
use crate::check::Checks;
use crate::rules;
use confide_evidence::hex;
use confide_policy::{Machine, Machines};

/// Checks that a set of authentic devices is registered for its CPU, where the policy has a registry.
pub(super) fn appraise(devices: &[Device<'_>], cpu: Cpu, machines: &Machines, checks: &mut Checks) {
    if machines.0.is_empty() {
        return;
    }
    match registered(devices, cpu, machines) {
        Ok(actual) => checks.pass(&rules::DEVICE_REGISTRY, actual),
        Err(actual) => checks.fail(&rules::DEVICE_REGISTRY, actual),
    }
}

/// The CPU is a machine's and all devices are that machine's; without a CPU's evidence, that they are all of one machine.
fn registered(devices: &[Device<'_>], cpu: Cpu, machines: &Machines) -> Result<String, String> {
    let (machine, shown) = match cpu {
        Cpu::Tdx(ppid) => {
            let ppid = ppid
                .filter(|ppid| *ppid != [0; 16])
                .ok_or("the PCK certificate names no platform, the policy registers some")?;
            let shown = format!("PPID {}", hex::encode(&ppid));
            let machine = machines.of_platform(&ppid);
            (machine.ok_or_else(|| format!("{shown}, which no registered machine has"))?, shown)
        }
        Cpu::NoEvidence => {
            let first = devices.iter().find_map(|device| machines.of_device(&device.chain.brom().serial));
            (first.ok_or("none of the devices is registered")?, "no CPU evidence".to_owned())
        }
    };
    all_in(devices, machine)?;
    Ok(format!("{shown}, {} devices of {}", devices.len(), machine.name))
}

/// Every device is installed in the machine.
fn all_in(devices: &[Device<'_>], machine: &Machine) -> Result<(), String> {
    match devices.iter().find(|device| !machine.has(&device.chain.brom().serial)) {
        None => Ok(()),
        Some(device) => Err(format!(
            "device {}: BROM serial {}, which is not registered for {}",
            device.position,
            hex::encode(&device.chain.brom().serial),
            machine.name
        )),
    }
}
