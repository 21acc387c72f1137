//! The opaque data of a report in its classic form: records of type, size, value.

use std::collections::BTreeSet;

use thiserror::Error;

use super::report::DeviceKind;
use crate::read::{Reader, Short};

/// First bytes of the newer form, which this parser does not read.
const NVDAOD: &[u8] = b"NVDAOD";
/// The newest OPAQUE_DATA_VERSION (field 34) that is read.
const OPAQUE_VERSION: u16 = 1;

/// Record types that are read. Names are NVIDIA's (`OpaqueDataType` of the attestation SDK).
mod id {
    pub(super) const DRIVER_VERSION: u16 = 3;
    pub(super) const VBIOS_VERSION: u16 = 6;
    pub(super) const NVDEC0_STATUS: u16 = 11;
    pub(super) const CHIP_SKU: u16 = 15;
    pub(super) const PROJECT: u16 = 17;
    pub(super) const PROJECT_SKU: u16 = 18;
    pub(super) const FWID: u16 = 20;
    pub(super) const PROTECTED_PCIE_STATUS: u16 = 21;
    /// On a GPU its switches' PDIs, on a switch its own.
    pub(super) const PDI: u16 = 22;
    pub(super) const LOCK_SWITCH_STATUS: u16 = 25;
    pub(super) const SWITCH_GPU_PDIS: u16 = 26;
    pub(super) const OPAQUE_DATA_VERSION: u16 = 34;
    pub(super) const CHIP_INFO: u16 = 35;
    pub(super) const FEATURE_FLAG: u16 = 36;
}

/// Whether NVIDIA's table of the classic form has this type of record. 255, its INVALID, is no type of a record.
fn is_known(id: u16) -> bool {
    matches!(id, 1..=27 | 32..=36)
}

/// Why opaque data could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum OpaqueError {
    /// The newer form with the header `NVDAOD`.
    #[error("the NVDAOD form is not supported")]
    UnsupportedForm,
    /// A newer version of the classic form.
    #[error("opaque data version {0}, at most {OPAQUE_VERSION} is supported")]
    UnsupportedVersion(u16),
    /// A record ends behind the opaque data.
    #[error("the record at offset {offset} needs {needed} bytes, {left} are left")]
    Truncated {
        /// Offset of the missing part from the start of the opaque data, in bytes.
        offset: usize,
        /// Bytes that it needs.
        needed: usize,
        /// Bytes that are there.
        left: usize,
    },
    /// Two records have the same type.
    #[error("two records of type {0}")]
    Duplicate(u16),
    /// A record that is read has a size that its type does not have.
    #[error("the record of type {id} has {found} bytes")]
    Size {
        /// The record's type.
        id: u16,
        /// Its size, in bytes.
        found: usize,
    },
    /// A record that is read has a value that its type does not have.
    #[error("the record of type {id} has the value {found:#04x}")]
    Value {
        /// The record's type.
        id: u16,
        /// The value.
        found: u8,
    },
    /// A record that is text holds something other than printable ASCII and final NULs.
    #[error("the record of type {0} is not text")]
    NotText(u16),
}

impl OpaqueError {
    /// Whether the bytes are of a form that is not supported, rather than malformed.
    #[must_use]
    pub fn is_unsupported(&self) -> bool {
        matches!(self, Self::UnsupportedForm | Self::UnsupportedVersion(_))
    }
}

impl From<Short> for OpaqueError {
    fn from(short: Short) -> Self {
        Self::Truncated { offset: short.offset, needed: short.needed, left: short.left }
    }
}

/// One record as it stands in the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Type.
    pub id: u16,
    /// Value.
    pub value: &'a [u8],
}

/// A status that the firmware writes as 0xaa or 0x55.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Toggle {
    /// 0xaa.
    Enabled,
    /// 0x55.
    Disabled,
}

/// How a GPU takes part in a confidential VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mode {
    /// SPT: one GPU passed through.
    SinglePassthrough,
    /// MPT: several Blackwell GPUs with encrypted NVLink.
    MultiPassthrough,
    /// PPCIE: eight Hopper GPUs with attested switches and NVLink in the clear.
    ProtectedPcie,
    /// Another value of FEATURE_FLAG.
    Unknown(u16),
}

/// What a switch says about the GPUs at its ports (record 26).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SwitchGpus<'a> {
    /// PDIs of eight GPUs.
    pub pdis: &'a [[u8; 8]],
    /// Per port an index into `pdis`, 0xff where the port is unused.
    pub ports: &'a [u8; 64],
}

/// NVIDIA's fields. A field that the report does not carry is `None`.
#[derive(Debug, Clone, Default)]
pub struct Opaque<'a> {
    /// Every record in order, also those that no field below reads and those of unknown type.
    pub records: Vec<Record<'a>>,
    /// DRIVER_VERSION of a GPU, for example `580.159.03`.
    pub driver_version: Option<&'a str>,
    /// VBIOS_VERSION, for example `96.00.74.00.20` (GPU) or `96.10.55.00.01` (switch).
    pub vbios_version: Option<String>,
    /// NVDEC0_STATUS: where disabled, measurement 35 has no golden value.
    pub nvdec0: Option<Toggle>,
    /// CHIP_SKU.
    pub chip_sku: Option<&'a str>,
    /// PROJECT.
    pub project: Option<&'a str>,
    /// PROJECT_SKU.
    pub project_sku: Option<&'a str>,
    /// FWID: digest of the measured firmware layer that holds the leaf key. Drivers before 550 and switches have none.
    pub fwid: Option<&'a [u8; 48]>,
    /// PROTECTED_PCIE_STATUS (Hopper).
    pub protected_pcie: Option<Toggle>,
    /// A GPU's SWITCH_PDI: per NVLink the switch's PDI in reverse byte order, zero where the link is disabled.
    pub switch_pdis: Option<&'a [[u8; 8]]>,
    /// A switch's DEVICE_PDI.
    pub device_pdi: Option<&'a [u8; 8]>,
    /// A switch's LOCK_SWITCH_STATUS, little endian; 1 is locked.
    pub lock_switch_status: Option<u16>,
    /// A switch's SWITCH_GPU_PDIS.
    pub switch_gpus: Option<SwitchGpus<'a>>,
    /// OPAQUE_DATA_VERSION; missing means 0.
    pub version: Option<u16>,
    /// CHIP_INFO of Blackwell, for example `GB100`.
    pub chip_info: Option<&'a str>,
    /// FEATURE_FLAG.
    pub feature_flag: Option<u16>,
}

impl<'a> Opaque<'a> {
    /// Reads every record, and the fields that this kind of device has.
    pub(super) fn parse(input: &'a [u8], kind: DeviceKind) -> Result<Self, OpaqueError> {
        if input.starts_with(NVDAOD) {
            return Err(OpaqueError::UnsupportedForm);
        }
        let mut opaque = Self { records: records(input)?, ..Self::default() };
        for record in opaque.records.clone() {
            opaque.read(record, kind)?;
        }
        match opaque.version {
            Some(version) if version > OPAQUE_VERSION => Err(OpaqueError::UnsupportedVersion(version)),
            _ => Ok(opaque),
        }
    }

    fn read(&mut self, record: Record<'a>, kind: DeviceKind) -> Result<(), OpaqueError> {
        match (record.id, kind) {
            (id::DRIVER_VERSION, _) => self.driver_version = Some(record.text()?),
            (id::VBIOS_VERSION, DeviceKind::Gpu) => self.vbios_version = Some(gpu_vbios(record.array()?)),
            (id::VBIOS_VERSION, DeviceKind::Switch) => self.vbios_version = Some(record.text()?.to_owned()),
            (id::NVDEC0_STATUS, _) => self.nvdec0 = Some(record.toggle()?),
            (id::CHIP_SKU, _) => self.chip_sku = Some(record.text()?),
            (id::PROJECT, _) => self.project = Some(record.text()?),
            (id::PROJECT_SKU, _) => self.project_sku = Some(record.text()?),
            (id::FWID, _) => self.fwid = Some(record.array()?),
            (id::PROTECTED_PCIE_STATUS, _) => self.protected_pcie = Some(record.toggle()?),
            (id::PDI, DeviceKind::Gpu) => self.switch_pdis = Some(record.pdis::<144>()?),
            (id::PDI, DeviceKind::Switch) => self.device_pdi = Some(record.array()?),
            (id::LOCK_SWITCH_STATUS, _) => self.lock_switch_status = Some(record.u16()?),
            (id::SWITCH_GPU_PDIS, DeviceKind::Switch) => self.switch_gpus = Some(record.switch_gpus()?),
            (id::OPAQUE_DATA_VERSION, _) => self.version = Some(record.u16()?),
            (id::CHIP_INFO, _) => self.chip_info = Some(record.text()?),
            (id::FEATURE_FLAG, _) => self.feature_flag = Some(record.u16()?),
            _ => {}
        }
        Ok(())
    }

    /// The record of this type.
    #[must_use]
    pub fn record(&self, id: u16) -> Option<&'a [u8]> {
        self.records.iter().find(|record| record.id == id).map(|record| record.value)
    }

    /// The types of records that NVIDIA's table does not have, in the order of the records: nobody knows what they say.
    #[must_use]
    pub fn unknown_ids(&self) -> Vec<u16> {
        self.records.iter().map(|record| record.id).filter(|id| !is_known(*id)).collect()
    }

    /// FEATURE_FLAG where present, else PROTECTED_PCIE_STATUS, which Hopper alone has.
    pub(super) fn mode(&self) -> Option<Mode> {
        match (self.feature_flag, self.protected_pcie) {
            (Some(0), _) | (None, Some(Toggle::Disabled)) => Some(Mode::SinglePassthrough),
            (Some(1), _) => Some(Mode::MultiPassthrough),
            (Some(2), _) | (None, Some(Toggle::Enabled)) => Some(Mode::ProtectedPcie),
            (Some(other), _) => Some(Mode::Unknown(other)),
            (None, None) => None,
        }
    }
}

/// All records, no type twice, nothing left over.
fn records(input: &[u8]) -> Result<Vec<Record<'_>>, OpaqueError> {
    let mut reader = Reader::new(input);
    let (mut records, mut seen) = (Vec::new(), BTreeSet::new());
    while !reader.rest().is_empty() {
        let id = reader.u16()?;
        let size = reader.u16()?;
        let value = reader.take(usize::from(size))?;
        if !seen.insert(id) {
            return Err(OpaqueError::Duplicate(id));
        }
        records.push(Record { id, value });
    }
    Ok(records)
}

impl<'a> Record<'a> {
    fn size(&self) -> OpaqueError {
        OpaqueError::Size { id: self.id, found: self.value.len() }
    }

    fn array<const N: usize>(&self) -> Result<&'a [u8; N], OpaqueError> {
        self.value.try_into().map_err(|_| self.size())
    }

    fn u16(&self) -> Result<u16, OpaqueError> {
        self.array().map(|bytes| u16::from_le_bytes(*bytes))
    }

    fn toggle(&self) -> Result<Toggle, OpaqueError> {
        match *self.array()? {
            [0xaa] => Ok(Toggle::Enabled),
            [0x55] => Ok(Toggle::Disabled),
            [found] => Err(OpaqueError::Value { id: self.id, found }),
        }
    }

    /// Printable ASCII without the NULs that end it.
    fn text(&self) -> Result<&'a str, OpaqueError> {
        let text = std::str::from_utf8(self.value).map_err(|_| OpaqueError::NotText(self.id))?;
        let text = text.trim_end_matches('\0');
        if text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') {
            return Ok(text);
        }
        Err(OpaqueError::NotText(self.id))
    }

    /// PDIs of eight bytes that fill exactly `N` bytes.
    fn pdis<const N: usize>(&self) -> Result<&'a [[u8; 8]], OpaqueError> {
        match self.array::<N>()?.as_chunks() {
            (pdis, []) => Ok(pdis),
            _ => Err(self.size()),
        }
    }

    fn switch_gpus(&self) -> Result<SwitchGpus<'a>, OpaqueError> {
        let (pdis, ports) = self.value.split_first_chunk::<64>().ok_or_else(|| self.size())?;
        let pdis = Record { id: self.id, value: pdis }.pdis::<64>()?;
        Ok(SwitchGpus { pdis, ports: ports.try_into().map_err(|_| self.size())? })
    }
}

/// Bytes 3, 2, 1, 0 and 4 as upper-case hexadecimal, joined by dots; bytes 5 to 7 are not part of the name.
fn gpu_vbios([b0, b1, b2, b3, b4, ..]: &[u8; 8]) -> String {
    format!("{b3:02X}.{b2:02X}.{b1:02X}.{b0:02X}.{b4:02X}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(id: u16, value: &[u8]) -> Vec<u8> {
        let size = u16::try_from(value.len()).unwrap();
        [&id.to_le_bytes()[..], &size.to_le_bytes(), value].concat()
    }

    fn gpu(records: &[(u16, &[u8])]) -> Result<Option<Mode>, OpaqueError> {
        let bytes: Vec<u8> = records.iter().flat_map(|(id, value)| record(*id, value)).collect();
        Opaque::parse(&bytes, DeviceKind::Gpu).map(|opaque| opaque.mode())
    }

    #[test]
    fn unknown_records_are_kept() {
        let bytes = [record(4711, b"x"), record(3, b"580.95.05\0")].concat();
        let opaque = Opaque::parse(&bytes, DeviceKind::Gpu).unwrap();
        assert_eq!(opaque.record(4711), Some(&b"x"[..]));
        assert_eq!(opaque.driver_version, Some("580.95.05"));
        assert_eq!(opaque.records.len(), 2);
    }

    #[test]
    fn unknown_types_of_records_are_listed() {
        let known: Vec<u8> = (1..=27)
            .chain([32, 33])
            .filter(|id| ![3, 6, 11, 15, 17, 18, 20, 21, 22, 25].contains(id))
            .flat_map(|id| record(id, b"x"))
            .collect();
        let opaque = Opaque::parse(&known, DeviceKind::Gpu).unwrap();
        assert!(opaque.unknown_ids().is_empty(), "of {} records", opaque.records.len());
        let ids = [37, 5, 255, 0, 28];
        let bytes: Vec<u8> = ids.into_iter().flat_map(|id| record(id, b"x")).collect();
        let opaque = Opaque::parse(&bytes, DeviceKind::Gpu).unwrap();
        assert_eq!(opaque.unknown_ids(), [37, 255, 0, 28]);
    }

    #[test]
    fn unsupported_is_not_malformed() {
        assert_eq!(gpu(&[(34, &[2, 0])]), Err(OpaqueError::UnsupportedVersion(2)));
        let new = Opaque::parse(b"NVDAOD\0\0\x01\x00\0\0", DeviceKind::Gpu).unwrap_err();
        assert_eq!(new, OpaqueError::UnsupportedForm);
        assert!(new.is_unsupported());
    }

    #[test]
    fn malformed_records_are_named() {
        assert_eq!(gpu(&[(3, b"1\0"), (3, b"1\0")]), Err(OpaqueError::Duplicate(3)));
        assert_eq!(gpu(&[(20, &[0; 47])]), Err(OpaqueError::Size { id: 20, found: 47 }));
        assert_eq!(gpu(&[(21, &[0x54])]), Err(OpaqueError::Value { id: 21, found: 0x54 }));
        assert_eq!(gpu(&[(11, &[])]), Err(OpaqueError::Size { id: 11, found: 0 }));
        assert_eq!(gpu(&[(3, b"1\x002\0")]), Err(OpaqueError::NotText(3)));
        assert_eq!(gpu(&[(22, &[0; 8])]), Err(OpaqueError::Size { id: 22, found: 8 }));
        let cut = record(3, b"580");
        let cut = Opaque::parse(&cut[..cut.len() - 1], DeviceKind::Gpu).unwrap_err();
        assert_eq!(cut, OpaqueError::Truncated { offset: 4, needed: 3, left: 2 });
        let header = Opaque::parse(&[3, 0, 1], DeviceKind::Gpu).unwrap_err();
        assert_eq!(header, OpaqueError::Truncated { offset: 2, needed: 2, left: 1 });
    }

    #[test]
    fn modes_come_from_the_feature_flag_before_protected_pcie() {
        assert_eq!(gpu(&[]), Ok(None));
        assert_eq!(gpu(&[(21, &[0x55])]), Ok(Some(Mode::SinglePassthrough)));
        assert_eq!(gpu(&[(21, &[0xaa])]), Ok(Some(Mode::ProtectedPcie)));
        assert_eq!(gpu(&[(36, &[1, 0])]), Ok(Some(Mode::MultiPassthrough)));
        assert_eq!(gpu(&[(36, &[7, 0])]), Ok(Some(Mode::Unknown(7))));
    }

    #[test]
    fn vbios_versions_of_gpus_are_five_bytes_in_a_mixed_order() {
        assert_eq!(gpu_vbios(&[0x00, 0x74, 0x00, 0x96, 0x20, 0, 0, 0]), "96.00.74.00.20");
    }

    proptest! {
        #[test]
        fn no_input_panics_and_records_cover_the_input(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            for kind in [DeviceKind::Gpu, DeviceKind::Switch] {
                if let Ok(opaque) = Opaque::parse(&bytes, kind) {
                    let again: Vec<u8> = opaque.records.iter().flat_map(|r| record(r.id, r.value)).collect();
                    prop_assert_eq!(&again, &bytes);
                }
            }
        }
    }
}
