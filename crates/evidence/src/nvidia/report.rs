//! SPDM reports: request, measurement blocks, opaque data, signature.

use thiserror::Error;

use super::opaque::{Mode, Opaque, OpaqueError};
use crate::read::{Reader, Short};

/// The largest report accepted, in bytes: NVML's buffer (`NVML_CC_GPU_ATTESTATION_REPORT_SIZE`).
pub const MAX_REPORT: usize = 0x2000;

/// SPDM version 1.1, the first byte of request and response.
const SPDM_1_1: u8 = 0x11;
/// SPDM request code GET_MEASUREMENTS (DSP0274 1.1.0 table 30).
const GET_MEASUREMENTS: u8 = 0xe0;
/// Request parameter 1: the responder signs.
const SIGNATURE_REQUESTED: u8 = 0x01;
/// Request parameter 2: all measurement blocks.
const ALL_BLOCKS: u8 = 0xff;
/// SlotIDParam of the request: a device has one certificate chain, in the first slot.
const SLOT: u8 = 0;
/// SPDM response code MEASUREMENTS (DSP0274 1.1.0 table 33).
const MEASUREMENTS: u8 = 0x60;
/// Length of a measurement block: a seven-byte header and a SHA-384 value.
const BLOCK: usize = 55;
/// MeasurementSpecification: DMTF.
const DMTF: u8 = 0x01;
/// Size of the DMTF body of a block.
const DMTF_BODY: u16 = 51;
/// DMTF measurement value type that NVIDIA's devices write: mutable firmware as a digest.
const MUTABLE_FIRMWARE: u8 = 0x01;
/// Size of a measurement value: SHA-384.
const VALUE: u16 = 48;
/// Number of measurement blocks of a GPU.
const GPU_BLOCKS: u8 = 64;
/// Number of measurement blocks of an LS10 switch.
const SWITCH_BLOCKS: u8 = 31;

/// Why a report could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ReportError {
    /// The report is larger than [`MAX_REPORT`].
    #[error("a report of {0} bytes, at most {MAX_REPORT} are accepted")]
    TooLarge(usize),
    /// The report ends inside a field.
    #[error("{field} at offset {offset} needs {needed} bytes, {left} are left")]
    Truncated {
        /// The field.
        field: &'static str,
        /// Its offset from the start of the report, in bytes.
        offset: usize,
        /// Bytes that it needs.
        needed: usize,
        /// Bytes that are there.
        left: usize,
    },
    /// A well-formed value that this parser does not know.
    #[error("{field} is {found:#04x}, supported is {supported}")]
    Unsupported {
        /// The field.
        field: &'static str,
        /// Its value.
        found: u8,
        /// What is supported.
        supported: &'static str,
    },
    /// A field that must have one value has another.
    #[error("{field} is {found:#x}, expected {expected:#x}")]
    Unexpected {
        /// The field.
        field: &'static str,
        /// Its value.
        found: u32,
        /// What it must be.
        expected: u32,
    },
    /// Bytes follow the signature.
    #[error("{0} bytes follow the signature")]
    TrailingBytes(usize),
    /// The opaque data cannot be read.
    #[error("opaque data: {0}")]
    Opaque(#[from] OpaqueError),
}

impl ReportError {
    /// Whether the bytes are well formed but of a kind that is not supported.
    #[must_use]
    pub fn is_unsupported(&self) -> bool {
        match self {
            Self::Unsupported { .. } => true,
            Self::Opaque(error) => error.is_unsupported(),
            _ => false,
        }
    }
}

fn truncated(field: &'static str) -> impl Fn(Short) -> ReportError {
    move |short| ReportError::Truncated {
        field,
        offset: short.offset,
        needed: short.needed,
        left: short.left,
    }
}

/// What kind of device reports; the number of measurement blocks says which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DeviceKind {
    /// A GPU: 64 blocks.
    Gpu,
    /// An LS10 NVSwitch: 31 blocks.
    Switch,
}

/// One measurement block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block<'a> {
    /// Index, counted from 1. RIM index `i` belongs to block `i + 1`.
    pub index: u8,
    /// SHA-384 value; all zero where the device measures nothing.
    pub value: &'a [u8; 48],
}

/// An attestation report. Borrowed from the bytes that it was read from.
#[derive(Debug, Clone)]
pub struct Report<'a> {
    /// GPU or switch.
    pub kind: DeviceKind,
    /// The nonce of the request: the caller's, unchanged.
    pub nonce: &'a [u8; 32],
    /// The measurement blocks, with indices from 1 without gaps.
    pub blocks: Vec<Block<'a>>,
    /// The responder's own nonce, which only makes signatures differ.
    pub responder_nonce: &'a [u8; 32],
    /// NVIDIA's fields.
    pub opaque: Opaque<'a>,
    /// Everything that the leaf key signs: request and response up to the signature.
    pub signed: &'a [u8],
    /// ECDSA P-384 with SHA-384 over [`Report::signed`], `r ‖ s`, each 48 bytes big endian.
    pub signature: &'a [u8; 96],
}

impl<'a> Report<'a> {
    /// Parses request ‖ response; nothing may follow.
    ///
    /// # Errors
    /// [`ReportError`]; [`ReportError::is_unsupported`] tells unknown formats from malformed bytes.
    pub fn parse(input: &'a [u8]) -> Result<Self, ReportError> {
        if input.len() > MAX_REPORT {
            return Err(ReportError::TooLarge(input.len()));
        }
        let mut reader = Reader::new(input);
        let nonce = request(&mut reader)?;
        let (kind, blocks) = measurements(&mut reader)?;
        let responder_nonce = reader.array().map_err(truncated("responder nonce"))?;
        let size = reader.u16().map_err(truncated("opaque length"))?;
        let opaque = reader.take(usize::from(size)).map_err(truncated("opaque data"))?;
        let signed = input.get(..reader.offset()).unwrap_or(input);
        let signature = reader.array().map_err(truncated("signature"))?;
        if !reader.rest().is_empty() {
            return Err(ReportError::TrailingBytes(reader.rest().len()));
        }
        let opaque = Opaque::parse(opaque, kind)?;
        Ok(Self { kind, nonce, blocks, responder_nonce, opaque, signed, signature })
    }

    /// The mode of a GPU by its signed fields; `None` where they do not say.
    #[must_use]
    pub fn mode(&self) -> Option<Mode> {
        self.opaque.mode()
    }
}

/// The GET_MEASUREMENTS request: its nonce.
fn request<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8; 32], ReportError> {
    version(reader, "request version")?;
    exactly(reader, "request code", GET_MEASUREMENTS)?;
    exactly(reader, "request parameter 1", SIGNATURE_REQUESTED)?;
    exactly(reader, "request parameter 2", ALL_BLOCKS)?;
    let nonce = reader.array().map_err(truncated("nonce"))?;
    exactly(reader, "slot", SLOT)?;
    Ok(nonce)
}

/// The MEASUREMENTS response up to and including the measurement record.
fn measurements<'a>(reader: &mut Reader<'a>) -> Result<(DeviceKind, Vec<Block<'a>>), ReportError> {
    version(reader, "response version")?;
    exactly(reader, "response code", MEASUREMENTS)?;
    exactly(reader, "response parameter 1", 0)?;
    exactly(reader, "response parameter 2", 0)?;
    let [count] = *reader.array().map_err(truncated("number of blocks"))?;
    let kind = match count {
        GPU_BLOCKS => DeviceKind::Gpu,
        SWITCH_BLOCKS => DeviceKind::Switch,
        found => {
            let supported = "64 (GPU) or 31 (LS10 switch)";
            return Err(ReportError::Unsupported { field: "number of blocks", found, supported });
        }
    };
    let [a, b, c] = *reader.array().map_err(truncated("measurement record length"))?;
    let (found, expected) = (u32::from_le_bytes([a, b, c, 0]), record_length(count));
    if found != expected {
        return Err(ReportError::Unexpected { field: "measurement record length", found, expected });
    }
    let blocks = (1..=count).map(|index| block(reader, index)).collect::<Result<_, _>>()?;
    Ok((kind, blocks))
}

/// Length of a record of `count` blocks, in bytes.
fn record_length(count: u8) -> u32 {
    u32::from(count).saturating_mul(u32::try_from(BLOCK).unwrap_or(u32::MAX))
}

fn block<'a>(reader: &mut Reader<'a>, index: u8) -> Result<Block<'a>, ReportError> {
    exactly(reader, "block index", index)?;
    exactly(reader, "measurement specification", DMTF)?;
    exactly_u16(reader, "block size", DMTF_BODY)?;
    exactly(reader, "measurement value type", MUTABLE_FIRMWARE)?;
    exactly_u16(reader, "measurement value size", VALUE)?;
    let value = reader.array().map_err(truncated("measurement value"))?;
    Ok(Block { index, value })
}

fn version(reader: &mut Reader<'_>, field: &'static str) -> Result<(), ReportError> {
    match *reader.array().map_err(truncated(field))? {
        [SPDM_1_1] => Ok(()),
        [found] => Err(ReportError::Unsupported { field, found, supported: "0x11 (SPDM 1.1)" }),
    }
}

fn exactly(reader: &mut Reader<'_>, field: &'static str, expected: u8) -> Result<(), ReportError> {
    let [found] = *reader.array().map_err(truncated(field))?;
    if found == expected {
        return Ok(());
    }
    Err(ReportError::Unexpected { field, found: found.into(), expected: expected.into() })
}

fn exactly_u16(reader: &mut Reader<'_>, field: &'static str, expected: u16) -> Result<(), ReportError> {
    let found = reader.u16().map_err(truncated(field))?;
    if found == expected {
        return Ok(());
    }
    Err(ReportError::Unexpected { field, found: found.into(), expected: expected.into() })
}
