//! The operator's registry: which devices are installed in which machine.

use crate::{Expectation, HexBytes, PolicyError, Says};
use serde::Deserialize;
use std::collections::BTreeSet;

/// One machine: its CPU and the devices that its operator has installed beside it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// Its name in verdicts, unique.
    pub name: String,
    /// PPID of the platform's PCK certificates, 16 bytes, not all zeros.
    pub ppid: HexBytes<16>,
    /// Serial numbers of the BROM certificates of its GPUs and switches, 9 bytes: 41 (GPU) or 50 (switch), then the PDI.
    pub devices: Vec<HexBytes<9>>,
}

/// The registry of machines. An empty one says nothing: any device may be beside any CPU.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Machines(pub Vec<Machine>);

impl Machines {
    /// The machine with a CPU of this PPID.
    #[must_use]
    pub fn of_platform(&self, ppid: &[u8; 16]) -> Option<&Machine> {
        self.0.iter().find(|machine| machine.ppid.0 == *ppid)
    }

    /// The machine that a device is installed in, by the serial number of its BROM certificate.
    #[must_use]
    pub fn of_device(&self, serial: &[u8]) -> Option<&Machine> {
        self.0.iter().find(|machine| machine.has(serial))
    }

    /// No name, PPID or device stands twice: a CPU and a device are each in one machine.
    pub(crate) fn check(&self) -> Result<(), PolicyError> {
        let (mut names, mut platforms, mut devices) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let twice = |field, found: String| Err(PolicyError::Name { field, found });
        for machine in &self.0 {
            if machine.name.trim().is_empty() || !names.insert(&machine.name) {
                return twice("devices.machine.name", machine.name.clone());
            }
            if machine.ppid.0 == [0; 16] || !platforms.insert(machine.ppid.0) {
                return twice("devices.machine.ppid", machine.ppid.to_string());
            }
            for device in &machine.devices {
                if !devices.insert(device.0) {
                    return twice("devices.machine.devices", device.to_string());
                }
            }
        }
        Ok(())
    }
}

impl Machine {
    /// Whether a device is installed in it, by the serial number of its BROM certificate.
    #[must_use]
    pub fn has(&self, serial: &[u8]) -> bool {
        self.devices.iter().any(|device| device.0.as_slice() == serial)
    }
}

impl Expectation for Machines {
    fn says(&self) -> Says {
        if self.0.is_empty() {
            return Says::All;
        }
        let pairs = self.0.iter().flat_map(|machine| {
            machine.devices.iter().map(move |device| format!("{device} beside PPID {}", machine.ppid))
        });
        Says::any_of(pairs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AppraisalPolicy, CLIENT, Change, Loaded};

    fn machine(name: &str, ppid: u8, devices: &[u8]) -> Machine {
        let devices = devices.iter().map(|device| HexBytes([*device; 9])).collect();
        Machine { name: name.into(), ppid: HexBytes([ppid; 16]), devices }
    }

    #[test]
    fn a_registry_is_read_and_found_in() {
        let text = format!(
            "{CLIENT}\n[[devices.machine]]\nname = \"a\"\nppid = \"{}\"\ndevices = [\"{}\"]\n",
            "01".repeat(16),
            "41".repeat(9)
        );
        let machines = AppraisalPolicy::parse(&text, Loaded::Normally).unwrap().devices.machine;
        assert_eq!(machines.of_platform(&[1; 16]).unwrap().name, "a");
        assert_eq!(machines.of_device(&[0x41; 9]).unwrap().name, "a");
        assert_eq!((machines.of_platform(&[2; 16]), machines.of_device(&[0x41; 8])), (None, None));
        assert_eq!(AppraisalPolicy::client().devices.machine, Machines::default());
    }

    #[test]
    fn a_cpu_and_a_device_are_each_in_one_machine() {
        let check = |machines: &[Machine]| match Machines(machines.to_vec()).check() {
            Err(PolicyError::Name { field, .. }) => Some(field),
            found => found.map(|()| None).unwrap(),
        };
        let first = machine("a", 1, &[1, 2]);
        assert_eq!(check(&[first.clone(), machine("b", 2, &[3])]), None);
        for (other, field) in [
            (machine("a", 2, &[3]), "devices.machine.name"),
            (machine(" ", 2, &[3]), "devices.machine.name"),
            (machine("b", 1, &[3]), "devices.machine.ppid"),
            (machine("b", 0, &[3]), "devices.machine.ppid"),
            (machine("b", 2, &[2]), "devices.machine.devices"),
            (machine("b", 2, &[3, 3]), "devices.machine.devices"),
        ] {
            assert_eq!(check(&[first.clone(), other]), Some(field));
        }
    }

    #[test]
    fn a_first_machine_is_stricter_and_a_second_one_looser() {
        let none = Machines::default().says();
        let one = Machines(vec![machine("a", 1, &[1])]).says();
        let two = Machines(vec![machine("a", 1, &[1]), machine("b", 2, &[2])]).says();
        let moved = Machines(vec![machine("a", 2, &[1])]).says();
        assert_eq!(none.change_to(&one), Change::Stricter);
        assert_eq!(one.change_to(&two), Change::Looser);
        assert_eq!(one.change_to(&moved), Change::Other);
        assert_eq!(two.change_to(&none), Change::Looser);
    }
}
