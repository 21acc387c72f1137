//! Evidence of devices as files hold it: NVIDIA's JSON lists, and single reports, chains and answers in any encoding.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;
use thiserror::Error;

use super::chain::CHAIN_LENGTH;
use super::report::{self, MAX_REPORT, Report, ReportError};
use crate::bytes::ByteString;
use crate::document::{DeviceEvidence, DeviceKind, MAX_DEVICES};
use crate::hex;
use crate::pem::{self, MAX_PEM, PemError};
use crate::x509::{MAX_CRL, whole_sequence};

/// The largest evidence list accepted, in bytes. NVIDIA's recorded one of eight GPUs has 97 KiB: [`MAX_DEVICES`] have
/// under 400 KiB.
pub const MAX_EVIDENCE_LIST: usize = 1024 * 1024;
/// The largest file that [`decoded`] accepts, in bytes: the largest revocation list in hexadecimal, with line ends.
pub const MAX_DECODED: usize = 3 * MAX_CRL;

/// First byte of an SPDM 1.1 report; no text has it.
const SPDM: u8 = 0x11;
const PEM: &[u8] = b"-----BEGIN ";

/// Why an evidence list could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ListError {
    /// Larger than [`MAX_EVIDENCE_LIST`].
    #[error("an evidence list of {0} bytes, at most {MAX_EVIDENCE_LIST} are accepted")]
    TooLarge(usize),
    /// Not a JSON list.
    #[error("an evidence list that is no JSON list: {0}")]
    Json(String),
    /// No device at all.
    #[error("an evidence list without a device")]
    Empty,
    /// More devices than [`MAX_DEVICES`].
    #[error("an evidence list of {0} devices, at most {MAX_DEVICES} are accepted")]
    TooMany(usize),
    /// One item is wrong.
    #[error("item {index} of an evidence list: {source}")]
    Item {
        /// Its position, from 0.
        index: usize,
        /// Why.
        source: ItemError,
    },
}

/// Why an item of an evidence list could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ItemError {
    /// Not the JSON object of an item: a field twice, missing, unknown or of another type.
    #[error("{0}")]
    Json(String),
    /// Another version of the form than 1.0.
    #[error("version {0:?} is not supported")]
    Version(String),
    /// The nonce is not 32 bytes in hexadecimal.
    #[error("the nonce is not 64 hexadecimal digits")]
    Nonce,
    /// A field that is not base64.
    #[error("the field {0} is not base64")]
    Base64(&'static str),
    /// A field that is larger than the parsers of its content accept.
    #[error("the field {field} holds {size} bytes, at most {limit} are accepted")]
    TooLarge {
        /// The field.
        field: &'static str,
        /// Its size, decoded.
        size: usize,
        /// The limit.
        limit: usize,
    },
}

/// Why a file holds no evidence.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FileError {
    /// Larger than [`MAX_DECODED`].
    #[error("a file of {0} bytes, at most {MAX_DECODED} are accepted")]
    TooLarge(usize),
    /// Nothing but white space.
    #[error("an empty file")]
    Empty,
    /// An odd number of hexadecimal digits.
    #[error("a file of hexadecimal digits with half a byte at its end")]
    Hexadecimal,
    /// Letters of base64, wrongly padded.
    #[error("a file whose base64 is broken")]
    Base64,
    /// Broken PEM.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// Neither binary evidence nor an encoding of it.
    #[error("neither an SPDM report nor DER, and no hexadecimal digits, base64 or PEM of them")]
    Neither,
    /// The report cannot be read, so that nothing says what device it is of.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// The chain holds more or fewer certificates.
    #[error("a device chain of another number of certificates than {CHAIN_LENGTH}")]
    Chain,
}

/// The architecture that a list names, in NVIDIA's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[non_exhaustive]
pub enum Architecture {
    /// HOPPER: GPUs.
    Hopper,
    /// BLACKWELL: GPUs.
    Blackwell,
    /// LS10: switches.
    Ls10,
}

impl Architecture {
    /// NVIDIA's name in lists.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Hopper => "HOPPER",
            Self::Blackwell => "BLACKWELL",
            Self::Ls10 => "LS10",
        }
    }

    /// What devices of the architecture are.
    #[must_use]
    pub fn kind(self) -> DeviceKind {
        match self {
            Self::Hopper | Self::Blackwell => DeviceKind::NvidiaGpu,
            Self::Ls10 => DeviceKind::NvidiaSwitch,
        }
    }
}

/// One device of a list. Nothing says yet that report, chain, nonce and architecture fit each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedDevice {
    /// What the list says that the device is.
    pub arch: Architecture,
    /// The nonce that the list says was asked with.
    pub nonce: [u8; 32],
    /// Report and chain; the kind is that of `arch`.
    pub device: DeviceEvidence,
}

/// An item as NVIDIA's tools write it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Item<'a> {
    arch: Architecture,
    #[serde(borrow)]
    nonce: Cow<'a, str>,
    #[serde(borrow)]
    evidence: Cow<'a, str>,
    #[serde(borrow)]
    certificate: Cow<'a, str>,
    /// Of the form of the item. Newer tools write it.
    #[serde(borrow, default)]
    version: Option<Cow<'a, str>>,
    /// What NVML said, which nobody signed: not kept. The report has the signed ones.
    #[serde(default, rename = "driver_version")]
    _driver_version: Option<Cow<'a, str>>,
    #[serde(default, rename = "vbios_version")]
    _vbios_version: Option<Cow<'a, str>>,
}

/// Reads a list of devices as NVIDIA's attestation SDK and nvtrust serialise it: JSON
/// `[{"arch", "nonce", "evidence", "certificate"}]` with `arch` HOPPER, BLACKWELL or LS10, the nonce in hexadecimal,
/// `evidence` the report in base64 and `certificate` the PEM chain in base64. Items may also have `version` ("1.0"), and
/// `driver_version` and `vbios_version`, which nobody signed and which are left away; any other field is refused, and a
/// field that occurs twice.
///
/// Google's recordings of Python objects (`{"gpus": …, "nvswitches": …}`) have another form, which is not read.
///
/// # Errors
/// [`ListError`]; one that an item causes names it.
pub fn evidence_list(json: &[u8]) -> Result<Vec<ListedDevice>, ListError> {
    if json.len() > MAX_EVIDENCE_LIST {
        return Err(ListError::TooLarge(json.len()));
    }
    let items: Vec<&RawValue> =
        serde_json::from_slice(json).map_err(|error| ListError::Json(error.to_string()))?;
    match items.len() {
        0 => return Err(ListError::Empty),
        found if found > MAX_DEVICES => return Err(ListError::TooMany(found)),
        _ => {}
    }
    let numbered = items.into_iter().enumerate();
    numbered.map(|(index, item)| listed(item).map_err(|source| ListError::Item { index, source })).collect()
}

fn listed(item: &RawValue) -> Result<ListedDevice, ItemError> {
    let item: Item<'_> =
        serde_json::from_str(item.get()).map_err(|error| ItemError::Json(error.to_string()))?;
    if let Some(other) = item.version.filter(|version| version != "1.0") {
        return Err(ItemError::Version(other.chars().take(32).collect()));
    }
    let nonce = hex::decode_array(&item.nonce).ok_or(ItemError::Nonce)?;
    let report = field("evidence", &item.evidence, MAX_REPORT)?;
    let chain = field("certificate", &item.certificate, MAX_PEM)?;
    let device = DeviceEvidence { kind: item.arch.kind(), chain: chain.into(), report: report.into() };
    Ok(ListedDevice { arch: item.arch, nonce, device })
}

fn field(field: &'static str, text: &str, limit: usize) -> Result<Vec<u8>, ItemError> {
    let bytes = pem::base64(text).map_err(|_| ItemError::Base64(field))?;
    if bytes.len() > limit {
        return Err(ItemError::TooLarge { field, size: bytes.len(), limit });
    }
    Ok(bytes)
}

/// The evidence of one device out of two files: a report and a chain, each in any encoding of [`decoded`]. The report
/// says whether it is a GPU's or a switch's. The chain becomes PEM where it is not.
///
/// # Errors
/// [`FileError`]. Whether the chain is one shows when it is parsed.
pub fn device_of(report: &[u8], chain: &[u8]) -> Result<DeviceEvidence, FileError> {
    let report = decoded(report)?;
    let kind = match Report::parse(&report)?.kind {
        report::DeviceKind::Gpu => DeviceKind::NvidiaGpu,
        report::DeviceKind::Switch => DeviceKind::NvidiaSwitch,
    };
    Ok(DeviceEvidence { kind, chain: ByteString(chain_pem(chain)?), report: ByteString(report) })
}

fn chain_pem(file: &[u8]) -> Result<Vec<u8>, FileError> {
    if file.len() <= MAX_DECODED && file.trim_ascii_start().starts_with(PEM) {
        return Ok(file.to_vec());
    }
    let bytes = match text_decoded(file)? {
        Some(bytes) if bytes.starts_with(PEM) => return Ok(bytes),
        Some(bytes) => bytes,
        None => file.to_vec(),
    };
    let certificates = der_values(&bytes)?;
    Ok(pem::encode(&certificates).into_bytes())
}

/// The certificates of a chain, one after the other.
fn der_values(bytes: &[u8]) -> Result<Vec<Vec<u8>>, FileError> {
    if !is_der(bytes) {
        return Err(FileError::Neither);
    }
    let (mut rest, mut found) = (bytes, Vec::new());
    while let Some((value, after)) = whole_sequence(rest) {
        found.push(value.to_vec());
        rest = after;
        if found.len() > CHAIN_LENGTH {
            break;
        }
    }
    if found.len() == CHAIN_LENGTH { Ok(found) } else { Err(FileError::Chain) }
}

/// The binary content of a file that holds an SPDM report, a revocation list, an OCSP answer or certificates: as it is,
/// or as hexadecimal digits, base64 or PEM of it. What it is shows by its content, in this order:
///
/// 1. it begins with `-----BEGIN ` behind white space: PEM, with one label throughout. Of several blocks the contents
///    follow each other;
/// 2. all of it is hexadecimal digits and white space: hexadecimal. So DER that is nothing but such digits is not
///    recognised, nor base64 without any other letter, both of which nothing real is;
/// 3. all of it is letters of base64 and white space: base64;
/// 4. it begins with 0x11 (SPDM 1.1) or is DER values (SEQUENCEs) throughout: the file itself.
///
/// What is decoded must begin as in 4 as well, or with PEM, which is decoded in turn.
///
/// # Errors
/// [`FileError`].
pub fn decoded(file: &[u8]) -> Result<Vec<u8>, FileError> {
    if file.len() > MAX_DECODED {
        return Err(FileError::TooLarge(file.len()));
    }
    let bytes = match pem_decoded(file)? {
        Some(bytes) => bytes,
        None => match text_decoded(file)? {
            Some(text) => pem_decoded(&text)?.unwrap_or(text),
            None => file.to_vec(),
        },
    };
    if bytes.first() == Some(&SPDM) || is_der(&bytes) { Ok(bytes) } else { Err(FileError::Neither) }
}

/// The contents of PEM blocks of one label; nothing where the text is no PEM.
fn pem_decoded(file: &[u8]) -> Result<Option<Vec<u8>>, FileError> {
    let text = file.trim_ascii_start();
    let Some(label) = text.strip_prefix(PEM) else { return Ok(None) };
    let end = label.iter().position(|byte| *byte == b'-').ok_or(PemError::Unterminated)?;
    let label =
        label.get(..end).and_then(|label| std::str::from_utf8(label).ok()).ok_or(PemError::NotText)?;
    Ok(Some(pem::labelled(text, label)?.concat()))
}

/// The bytes of hexadecimal digits or base64; nothing where the file is neither.
fn text_decoded(file: &[u8]) -> Result<Option<Vec<u8>>, FileError> {
    if file.len() > MAX_DECODED {
        return Err(FileError::TooLarge(file.len()));
    }
    let mut letters = file.iter().filter(|byte| !byte.is_ascii_whitespace()).peekable();
    if letters.peek().is_none() {
        return Err(FileError::Empty);
    }
    if letters.clone().all(u8::is_ascii_hexdigit) {
        let digits: String = letters.map(|byte| char::from(*byte)).collect();
        return hex::decode(&digits).map(Some).ok_or(FileError::Hexadecimal);
    }
    if letters.all(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(byte)) {
        let text = std::str::from_utf8(file).map_err(|_| FileError::Base64)?;
        return pem::base64(text).map(Some).map_err(|_| FileError::Base64);
    }
    Ok(None)
}

/// Whether bytes are DER values throughout, each a SEQUENCE.
fn is_der(mut rest: &[u8]) -> bool {
    let empty = rest.is_empty();
    while let Some((_, after)) = whole_sequence(rest) {
        rest = after;
    }
    !empty && rest.is_empty()
}
