//! The attestation report (56860, ATTESTATION_REPORT), versions 2 to 5.

use super::{FirmwareVersion, GuestPolicy, KeyInfo, PlatformInfo};
use crate::read::{Reader, Short};
use thiserror::Error;

/// Length of a report, in bytes.
pub const REPORT: usize = 1184;
/// Length of the part that is signed, from the start, in bytes.
pub const SIGNED: usize = 0x2a0;

/// ECDSA on P-384 with SHA-384 (56860, chapter 10).
const ECDSA_P384_SHA384: u32 = 1;
/// Length of R and of S in a signature, in bytes; a value on P-384 has 48.
const COORDINATE: usize = 72;

/// Why a report could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ReportError {
    /// Another size than [`REPORT`].
    #[error("a report of {0} bytes, expected {REPORT}")]
    Length(usize),
    /// A well-formed value that this parser does not know.
    #[error("{field} is {found}, supported is {supported}")]
    Unsupported {
        /// The field.
        field: &'static str,
        /// Its value.
        found: u32,
        /// What is supported.
        supported: &'static str,
    },
    /// Bytes that nothing signs and that must be zero.
    #[error("byte {offset:#x} behind the signature's numbers is not zero")]
    SignaturePadding {
        /// Offset from the start of the report, in bytes.
        offset: usize,
    },
}

impl ReportError {
    /// Whether the bytes are well formed but of a kind that is not supported.
    #[must_use]
    pub fn is_unsupported(&self) -> bool {
        matches!(self, Self::Unsupported { .. })
    }
}

/// An attestation report. Borrowed from the bytes that it was read from.
#[derive(Debug, Clone)]
pub struct Report<'a> {
    /// VERSION: 2 to 5.
    pub version: u32,
    /// GUEST_SVN, from the id block.
    pub guest_svn: u32,
    /// POLICY.
    pub policy: GuestPolicy,
    /// FAMILY_ID, from the id block.
    pub family_id: &'a [u8; 16],
    /// IMAGE_ID, from the id block.
    pub image_id: &'a [u8; 16],
    /// VMPL of the report's requester; 0xffffffff where the host asked.
    pub vmpl: u32,
    /// CURRENT_TCB, laid out as the product has it.
    pub current_tcb: [u8; 8],
    /// PLATFORM_INFO.
    pub platform_info: PlatformInfo,
    /// SIGNING_KEY, MASK_CHIP_KEY and AUTHOR_KEY_EN.
    pub key_info: KeyInfo,
    /// REPORT_DATA: the guest's own 64 bytes.
    pub report_data: &'a [u8; 64],
    /// MEASUREMENT: launch digest, SHA-384.
    pub measurement: &'a [u8; 48],
    /// HOST_DATA: 32 bytes of the host's choice at launch.
    pub host_data: &'a [u8; 32],
    /// ID_KEY_DIGEST: SHA-384 of the key that signed the id block.
    pub id_key_digest: &'a [u8; 48],
    /// AUTHOR_KEY_DIGEST: SHA-384 of the key that certified the id key.
    pub author_key_digest: &'a [u8; 48],
    /// REPORT_ID: random, of this guest.
    pub report_id: &'a [u8; 32],
    /// REPORT_ID_MA: of the guest's migration agent; all ones where there is none.
    pub report_id_ma: &'a [u8; 32],
    /// REPORTED_TCB: the version that the signing key was derived for.
    pub reported_tcb: [u8; 8],
    /// CPUID_FAM_ID and CPUID_MOD_ID, combined family and model, from version 3 on.
    pub family_model: Option<(u8, u8)>,
    /// CPUID_STEP, from version 3 on.
    pub stepping: Option<u8>,
    /// CHIP_ID: unique to the chip, all zero where masked.
    pub chip_id: &'a [u8; 64],
    /// COMMITTED_TCB: the firmware cannot be rolled back below it.
    pub committed_tcb: [u8; 8],
    /// Version of the firmware that runs.
    pub current_firmware: FirmwareVersion,
    /// Version of the firmware below which it cannot be rolled back.
    pub committed_firmware: FirmwareVersion,
    /// LAUNCH_TCB: CURRENT_TCB when the guest was launched or imported.
    pub launch_tcb: [u8; 8],
    /// LAUNCH_MIT_VECTOR: mitigations in force at launch, from version 5 on.
    pub launch_mitigations: Option<u64>,
    /// CURRENT_MIT_VECTOR: mitigations in force now, from version 5 on.
    pub current_mitigations: Option<u64>,
    /// Everything that is signed.
    pub signed: &'a [u8],
    /// R of the signature, big endian.
    pub r: [u8; 48],
    /// S of the signature, big endian.
    pub s: [u8; 48],
    /// First reserved field that is not zero: its offset in bytes.
    nonzero_reserved: Option<usize>,
}

impl<'a> Report<'a> {
    /// Reads a report.
    ///
    /// # Errors
    /// [`ReportError`]: size, version, signature algorithm, unsigned bytes that are not zero.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ReportError> {
        let length = ReportError::Length(bytes.len());
        if bytes.len() != REPORT {
            return Err(length);
        }
        let (signed, signature) = bytes.split_at_checked(SIGNED).ok_or(length)?;
        let (r, s) = numbers(signature)?;
        let mut body = Body { reader: Reader::new(signed), nonzero_reserved: None };
        body.read(signed, r, s).map_err(|_| length)?
    }

    /// Whether CHIP_ID is masked: all zero.
    #[must_use]
    pub fn masks_chip_id(&self) -> bool {
        self.chip_id.iter().all(|byte| *byte == 0)
    }

    /// The first reserved field with another value than it must have, by name or offset. TCB versions are not among
    /// them: their layout is the product's.
    #[must_use]
    pub fn broken_reserved(&self) -> Option<String> {
        if self.policy.breaks_reserved_bits() {
            return Some(format!("POLICY {:#x}", self.policy.0));
        }
        if self.platform_info.breaks_reserved_bits() {
            return Some(format!("PLATFORM_INFO {:#x}", self.platform_info.0));
        }
        if self.key_info.breaks_reserved_bits() {
            return Some(format!("the word at 0x48, {:#x}", self.key_info.0));
        }
        if !self.key_info.author_key() && self.author_key_digest.iter().any(|byte| *byte != 0) {
            return Some("AUTHOR_KEY_DIGEST, with AUTHOR_KEY_EN off".to_owned());
        }
        self.nonzero_reserved.map(|offset| format!("the reserved field at {offset:#x}"))
    }
}

/// R and S of a signature field (56860, chapter 10): little endian in 72 bytes each, the rest zero.
fn numbers(signature: &[u8]) -> Result<([u8; 48], [u8; 48]), ReportError> {
    let mut reader = Reader::new(signature);
    let short = |_: Short| ReportError::Length(signature.len());
    let mut number = || {
        let start = reader.offset();
        let field = reader.array::<COORDINATE>().map_err(short)?;
        let (value, padding) = field.split_first_chunk::<48>().ok_or(ReportError::Length(COORDINATE))?;
        zeros(padding, start.saturating_add(48))?;
        let mut value = *value;
        value.reverse();
        Ok(value)
    };
    let (r, s) = (number()?, number()?);
    zeros(reader.rest(), reader.offset())?;
    Ok((r, s))
}

fn zeros(bytes: &[u8], start: usize) -> Result<(), ReportError> {
    match bytes.iter().position(|byte| *byte != 0) {
        Some(at) => {
            let offset = SIGNED.saturating_add(start).saturating_add(at);
            Err(ReportError::SignaturePadding { offset })
        }
        None => Ok(()),
    }
}

struct Body<'a> {
    reader: Reader<'a>,
    nonzero_reserved: Option<usize>,
}

impl<'a> Body<'a> {
    /// Reads the signed part, field after field. The outer error cannot occur: the size has been checked.
    fn read(
        &mut self,
        signed: &'a [u8],
        r: [u8; 48],
        s: [u8; 48],
    ) -> Result<Result<Report<'a>, ReportError>, Short> {
        let version = self.reader.u32()?;
        if !(2..=5).contains(&version) {
            return Ok(unsupported("VERSION", version, "2 to 5"));
        }
        let guest_svn = self.reader.u32()?;
        let policy = GuestPolicy(self.u64()?);
        let family_id = self.reader.array()?;
        let image_id = self.reader.array()?;
        let vmpl = self.reader.u32()?;
        let algorithm = self.reader.u32()?;
        if algorithm != ECDSA_P384_SHA384 {
            return Ok(unsupported("SIGNATURE_ALGO", algorithm, "1, ECDSA P-384 with SHA-384"));
        }
        let current_tcb = *self.reader.array()?;
        let platform_info = PlatformInfo(self.u64()?);
        let key_info = KeyInfo(self.reader.u32()?);
        self.reserved(4)?;
        let report_data = self.reader.array()?;
        let measurement = self.reader.array()?;
        let host_data = self.reader.array()?;
        let id_key_digest = self.reader.array()?;
        let author_key_digest = self.reader.array()?;
        let report_id = self.reader.array()?;
        let report_id_ma = self.reader.array()?;
        let reported_tcb = *self.reader.array()?;
        let cpuid = self.cpuid(version)?;
        let chip_id = self.reader.array()?;
        let committed_tcb = *self.reader.array()?;
        let current_firmware = FirmwareVersion::from_bytes(*self.reader.array()?);
        self.reserved(1)?;
        let committed_firmware = FirmwareVersion::from_bytes(*self.reader.array()?);
        self.reserved(1)?;
        let launch_tcb = *self.reader.array()?;
        let (launch_mitigations, current_mitigations) = self.mitigations(version)?;
        self.reserved(self.reader.rest().len())?;
        Ok(Ok(Report {
            version,
            guest_svn,
            policy,
            family_id,
            image_id,
            vmpl,
            current_tcb,
            platform_info,
            key_info,
            report_data,
            measurement,
            host_data,
            id_key_digest,
            author_key_digest,
            report_id,
            report_id_ma,
            reported_tcb,
            family_model: cpuid.map(|[family, model, _]| (family, model)),
            stepping: cpuid.map(|[.., stepping]| stepping),
            chip_id,
            committed_tcb,
            current_firmware,
            committed_firmware,
            launch_tcb,
            launch_mitigations,
            current_mitigations,
            signed,
            r,
            s,
            nonzero_reserved: self.nonzero_reserved,
        }))
    }

    /// Family, model and stepping; 24 reserved bytes before version 3.
    fn cpuid(&mut self, version: u32) -> Result<Option<[u8; 3]>, Short> {
        if version < 3 {
            self.reserved(24)?;
            return Ok(None);
        }
        let cpuid = *self.reader.array()?;
        self.reserved(21)?;
        Ok(Some(cpuid))
    }

    /// The mitigation vectors; reserved bytes before version 5.
    fn mitigations(&mut self, version: u32) -> Result<(Option<u64>, Option<u64>), Short> {
        if version < 5 {
            return Ok((None, None));
        }
        Ok((Some(self.u64()?), Some(self.u64()?)))
    }

    fn u64(&mut self) -> Result<u64, Short> {
        Ok(u64::from_le_bytes(*self.reader.array()?))
    }

    fn reserved(&mut self, length: usize) -> Result<(), Short> {
        let offset = self.reader.offset();
        if self.reader.take(length)?.iter().any(|byte| *byte != 0) {
            self.nonzero_reserved.get_or_insert(offset);
        }
        Ok(())
    }
}

fn unsupported<T>(field: &'static str, found: u32, supported: &'static str) -> Result<T, ReportError> {
    Err(ReportError::Unsupported { field, found, supported })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A report of zeros but for what every report has.
    fn bytes(version: u8) -> Vec<u8> {
        let mut bytes = vec![0; REPORT];
        bytes[0] = version;
        bytes[0x0a] = 2;
        bytes[0x34] = 1;
        bytes
    }

    #[test]
    fn fields_stand_at_their_offsets() {
        let mut bytes = bytes(5);
        let fields = [
            0x04, 0x10, 0x20, 0x30, 0x38, 0x40, 0x48, 0x50, 0x90, 0xc0, 0xe0, 0x110, 0x140, 0x160, 0x180,
            0x188, 0x18a, 0x1a0, 0x1e0, 0x1e8, 0x1ec, 0x1f0, 0x1f8, 0x200, 0x2a0, 0x2e8,
        ];
        for (value, offset) in (1..).zip(fields) {
            bytes[offset] = value;
        }
        let report = Report::parse(&bytes).unwrap();
        let first = |bytes: &[u8]| u32::from(bytes[0]);
        let found = [
            report.guest_svn,
            first(report.family_id),
            first(report.image_id),
            report.vmpl,
            first(&report.current_tcb),
            first(&report.platform_info.0.to_le_bytes()),
            report.key_info.0,
            first(report.report_data),
            first(report.measurement),
            first(report.host_data),
            first(report.id_key_digest),
            first(report.author_key_digest),
            first(report.report_id),
            first(report.report_id_ma),
            first(&report.reported_tcb),
            u32::from(report.family_model.unwrap().0),
            u32::from(report.stepping.unwrap()),
            first(report.chip_id),
            first(&report.committed_tcb),
            u32::from(report.current_firmware.build),
            u32::from(report.committed_firmware.build),
            first(&report.launch_tcb),
            first(&report.launch_mitigations.unwrap().to_le_bytes()),
            first(&report.current_mitigations.unwrap().to_le_bytes()),
            u32::from(report.r[47]),
            u32::from(report.s[47]),
        ];
        assert_eq!(found.to_vec(), (1..=26).collect::<Vec<_>>());
        assert_eq!(report.signed, &bytes[..SIGNED]);
    }

    #[test]
    fn other_sizes_versions_and_algorithms_are_refused() {
        for size in [0, 4, SIGNED, REPORT - 1, REPORT + 1, 4000] {
            assert_eq!(Report::parse(&vec![0; size]).unwrap_err(), ReportError::Length(size));
        }
        for version in [0, 1, 6, 255] {
            assert!(Report::parse(&bytes(version)).unwrap_err().is_unsupported(), "{version}");
        }
        let mut algorithm = bytes(2);
        algorithm[0x34] = 2;
        assert!(Report::parse(&algorithm).unwrap_err().is_unsupported());
    }

    #[test]
    fn no_unsigned_byte_can_be_changed() {
        let clean = bytes(3);
        for offset in
            (SIGNED..REPORT).filter(|at| !(0..48).contains(&((at - SIGNED) % 72)) || at - SIGNED >= 144)
        {
            let mut bytes = clean.clone();
            bytes[offset] = 1;
            assert_eq!(Report::parse(&bytes).unwrap_err(), ReportError::SignaturePadding { offset });
        }
    }

    #[test]
    fn reserved_bytes_are_those_of_the_version() {
        for version in 2..=5 {
            let clean = bytes(version);
            assert_eq!(Report::parse(&clean).unwrap().broken_reserved(), None);
            let reserved = |at: usize| match at {
                0x4c..0x50 | 0x18b..0x1a0 | 0x1eb | 0x1ef | 0x208..SIGNED => true,
                0x188..0x18b => version < 3,
                0x1f8..0x208 => version < 5,
                // The digest of an author key that is off, the reserved bits of words.
                0x110..0x140 | 0x0b | 0x0c..0x10 | 0x41..0x4c => true,
                _ => false,
            };
            for at in (0..SIGNED).filter(|at| !(0..4).contains(at) && !(0x34..0x38).contains(at)) {
                let mut bytes = clean.clone();
                bytes[at] |= 0x80;
                let broken = Report::parse(&bytes).unwrap().broken_reserved();
                assert_eq!(broken.is_some(), reserved(at), "version {version}, byte {at:#x}: {broken:?}");
            }
            let mut policy = clean;
            policy[0x0a] = 0;
            assert!(Report::parse(&policy).unwrap().broken_reserved().unwrap().contains("POLICY"));
        }
    }

    proptest! {
        #[test]
        fn no_input_panics(mut bytes in prop::collection::vec(any::<u8>(), REPORT), version in 0_u8..8) {
            bytes[..4].copy_from_slice(&[version, 0, 0, 0]);
            let _ = Report::parse(&bytes).map(|report| report.broken_reserved());
        }
    }
}
