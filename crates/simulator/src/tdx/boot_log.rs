//! The event log that a simulated TD's firmware leaves: the crypto-agile form of the TCG PC Client Platform Firmware
//! Profile (1.06, section 10), as OVMF writes it for a TD that boots a kernel directly.

use sha2::{Digest, Sha384};

use super::report::simulated_measurement;

/// EV_NO_ACTION, the type of the header event.
const NO_ACTION: u32 = 3;
/// EV_SEPARATOR.
const SEPARATOR: u32 = 4;
/// EV_EVENT_TAG.
const EVENT_TAG: u32 = 6;
/// EV_PLATFORM_CONFIG_FLAGS.
const PLATFORM_CONFIG_FLAGS: u32 = 0x0a;
/// EV_EFI_VARIABLE_DRIVER_CONFIG.
const VARIABLE_DRIVER_CONFIG: u32 = 0x8000_0001;
/// EV_EFI_VARIABLE_BOOT.
const VARIABLE_BOOT: u32 = 0x8000_0002;
/// EV_EFI_BOOT_SERVICES_APPLICATION.
const BOOT_SERVICES_APPLICATION: u32 = 0x8000_0003;
/// EV_EFI_ACTION.
const EFI_ACTION: u32 = 0x8000_0007;
/// EV_EFI_PLATFORM_FIRMWARE_BLOB2.
const FIRMWARE_BLOB2: u32 = 0x8000_000a;
/// EV_EFI_HANDOFF_TABLES2.
const HANDOFF_TABLES2: u32 = 0x8000_000b;

/// TCG identifier of SHA-384.
const SHA384: u16 = 0x000c;
/// EFI_GLOBAL_VARIABLE, 8be4df61-93ca-11d2-aa0d-00e098032b8c.
const GLOBAL_VARIABLE: [u8; 16] =
    [0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c];
/// EFI_IMAGE_SECURITY_DATABASE, d719b2cb-3d3a-4596-a3bc-dad00e67656f.
const SECURITY_DATABASE: [u8; 16] =
    [0xcb, 0xb2, 0x19, 0xd7, 0x3a, 0x3d, 0x96, 0x45, 0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65, 0x6f];

/// One event: register index (0 is MRTD, 1 to 4 are RTMR0 to RTMR3), type, SHA-384 digest and data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootEvent {
    /// Register index.
    pub register: u32,
    /// Event type.
    pub event_type: u32,
    /// What the register is extended with.
    pub digest: [u8; 48],
    /// What the firmware says about it.
    pub data: Vec<u8>,
}

/// A boot event log. Public and mutable, so that tests can break each event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimulatedBootLog {
    /// The events behind the header, in their order.
    pub events: Vec<BootEvent>,
}

impl Default for SimulatedBootLog {
    /// The boot of every simulated TD: its digests are of nothing, and most say SIMULATED.
    fn default() -> Self {
        let events = vec![
            measured(1, HANDOFF_TABLES2, handoff_table(), "TD hand-off block"),
            measured(1, FIRMWARE_BLOB2, firmware_blob(), "firmware volume"),
            hashed(1, VARIABLE_DRIVER_CONFIG, variable(GLOBAL_VARIABLE, "SecureBoot", &[0])),
            hashed(1, VARIABLE_DRIVER_CONFIG, variable(GLOBAL_VARIABLE, "PK", &[])),
            hashed(1, VARIABLE_DRIVER_CONFIG, variable(GLOBAL_VARIABLE, "KEK", &[])),
            hashed(1, VARIABLE_DRIVER_CONFIG, variable(SECURITY_DATABASE, "db", &[])),
            hashed(1, VARIABLE_DRIVER_CONFIG, variable(SECURITY_DATABASE, "dbx", &[])),
            hashed(1, SEPARATOR, vec![0; 4]),
            measured(1, PLATFORM_CONFIG_FLAGS, b"ACPI DATA".to_vec(), "ACPI loader script"),
            measured(1, PLATFORM_CONFIG_FLAGS, b"ACPI DATA".to_vec(), "ACPI root pointer"),
            measured(1, PLATFORM_CONFIG_FLAGS, b"ACPI DATA".to_vec(), "ACPI tables"),
            measured(2, BOOT_SERVICES_APPLICATION, kernel_image(), "kernel image"),
            measured(1, VARIABLE_BOOT, variable(GLOBAL_VARIABLE, "BootOrder", &[0, 0]), "BootOrder"),
            measured(1, VARIABLE_BOOT, variable(GLOBAL_VARIABLE, "Boot0000", &[1; 62]), "Boot0000"),
            hashed(2, EFI_ACTION, b"Calling EFI Application from Boot Option".to_vec()),
            hashed(2, SEPARATOR, vec![0; 4]),
            measured(3, EVENT_TAG, tag(0x8f3b_22ed, b"LOADED_IMAGE::LoadOptions\0"), "command line"),
            measured(3, EVENT_TAG, tag(0x8f3b_22ec, b"Linux initrd\0"), "initial file system"),
            hashed(2, EFI_ACTION, b"Exit Boot Services Invocation".to_vec()),
            hashed(2, EFI_ACTION, b"Exit Boot Services Returned with Success".to_vec()),
        ];
        Self { events }
    }
}

impl SimulatedBootLog {
    /// RTMR0 to RTMR3 as these events extend them from zero.
    #[must_use]
    pub fn replay(&self) -> [[u8; 48]; 4] {
        let mut registers = [[0; 48]; 4];
        for event in self.events.iter().filter(|event| event.event_type != NO_ACTION) {
            let place = event.register.checked_sub(1).and_then(|at| registers.get_mut(at as usize));
            if let Some(register) = place {
                *register =
                    Sha384::new().chain_update(*register).chain_update(event.digest).finalize().into();
            }
        }
        registers
    }

    /// The log, header and events, without padding.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = header();
        for event in &self.events {
            out.extend(event.register.to_le_bytes());
            out.extend(event.event_type.to_le_bytes());
            out.extend(1_u32.to_le_bytes());
            out.extend(SHA384.to_le_bytes());
            out.extend(event.digest);
            out.extend((event.data.len() as u32).to_le_bytes());
            out.extend(&event.data);
        }
        out
    }

    /// The log in its table of `size` bytes, as the kernel shows it: OVMF fills what is left with 0xff.
    #[must_use]
    pub fn table(&self, size: usize) -> Vec<u8> {
        let mut out = self.to_bytes();
        out.resize(size.max(out.len()), 0xff);
        out
    }
}

/// The header event: TCG_PCClientPCREvent around TCG_EfiSpecIdEvent, with the register index that OVMF writes.
fn header() -> Vec<u8> {
    let mut specification = b"Spec ID Event03\0".to_vec();
    // Platform class; specification version 2.0, errata 0; 64-bit UINTN.
    specification.extend([0, 0, 0, 0, 0, 2, 0, 2]);
    specification.extend(1_u32.to_le_bytes());
    specification.extend(SHA384.to_le_bytes());
    specification.extend(48_u16.to_le_bytes());
    // No vendor information.
    specification.push(0);
    let mut out = 1_u32.to_le_bytes().to_vec();
    out.extend(NO_ACTION.to_le_bytes());
    out.extend([0; 20]);
    out.extend((specification.len() as u32).to_le_bytes());
    out.extend(specification);
    out
}

/// An event over something that the log does not show.
fn measured(register: u32, event_type: u32, data: Vec<u8>, what: &str) -> BootEvent {
    BootEvent { register, event_type, digest: simulated_measurement(what), data }
}

/// An event whose digest is the hash of its data.
fn hashed(register: u32, event_type: u32, data: Vec<u8>) -> BootEvent {
    BootEvent { register, event_type, digest: Sha384::digest(&data).into(), data }
}

/// UEFI_HANDOFF_TABLE_POINTERS2 with one table.
fn handoff_table() -> Vec<u8> {
    let mut data = b"\x09TdxTable\0".to_vec();
    data.extend(1_u64.to_le_bytes());
    data.extend(&simulated_measurement("hand-off table GUID")[..16]);
    data.extend(0x80_9000_u64.to_le_bytes());
    data
}

/// UEFI_PLATFORM_FIRMWARE_BLOB2.
fn firmware_blob() -> Vec<u8> {
    let description = b"SIMULATED firmware volume";
    let mut data = vec![description.len() as u8];
    data.extend(description);
    data.extend(0xffc0_0000_u64.to_le_bytes());
    data.extend(0x0040_0000_u64.to_le_bytes());
    data
}

/// UEFI_VARIABLE_DATA.
fn variable(guid: [u8; 16], name: &str, value: &[u8]) -> Vec<u8> {
    let mut data = guid.to_vec();
    data.extend((name.len() as u64).to_le_bytes());
    data.extend((value.len() as u64).to_le_bytes());
    data.extend(utf16(name));
    data.extend(value);
    data
}

/// UEFI_IMAGE_LOAD_EVENT with a device path of one file and its end.
fn kernel_image() -> Vec<u8> {
    let file = utf16("\\SIMULATED.EFI\0");
    let mut path = vec![4, 4];
    path.extend((file.len() as u16 + 4).to_le_bytes());
    path.extend(file);
    path.extend([0x7f, 0xff, 4, 0]);
    let mut data = [0x7ae4_5018_u64, 17_008_712, 0, path.len() as u64].map(u64::to_le_bytes).concat();
    data.extend(path);
    data
}

/// TCG_PCClientTaggedEvent.
fn tag(id: u32, content: &[u8]) -> Vec<u8> {
    let mut data = id.to_le_bytes().to_vec();
    data.extend((content.len() as u32).to_le_bytes());
    data.extend(content);
    data
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TdMeasurements;

    #[test]
    fn a_td_has_booted_what_its_log_says() {
        let replayed = SimulatedBootLog::default().replay();
        assert_eq!(TdMeasurements::default().rtmr, replayed);
        assert_eq!(replayed[3], [0; 48], "the boot leaves RTMR3 to the runtime");
        assert!(replayed[..3].iter().all(|register| register != &[0; 48]));
    }

    #[test]
    fn a_table_is_padded_to_its_size() {
        let log = SimulatedBootLog::default();
        let table = log.table(65_536);
        assert_eq!((table.len(), table[65_535]), (65_536, 0xff));
        assert!(table.starts_with(&log.to_bytes()));
        assert_eq!(log.table(0), log.to_bytes());
        assert_eq!(&table[32..48], b"Spec ID Event03\0");
    }
}
