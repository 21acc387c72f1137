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
/// The largest file that [`decoded`] and [`decoded_rim`] accept, in bytes: the largest revocation list in hexadecimal, with line ends.
pub const MAX_DECODED: usize = 3 * MAX_CRL;

/// First byte of an SPDM 1.1 report; no text has it.
const SPDM: u8 = 0x11;
/// Second byte of a report in any version of SPDM: the request GET_MEASUREMENTS (DSP0274 section 10.11).
const GET_MEASUREMENTS: u8 = 0xe0;
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
    /// Another architecture than those of [`Architecture`].
    #[error("the architecture {0:?} is not supported: HOPPER, BLACKWELL and LS10 are")]
    Architecture(String),
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
    /// DER where a report is expected: certificates, an OCSP answer or a revocation list.
    #[error(
        "expected an SPDM report, found DER: a chain of certificates, an OCSP answer or a revocation list"
    )]
    NotReport,
    /// Neither XML nor an encoding of it.
    #[error("neither an XML document nor hexadecimal digits, base64 or PEM of one")]
    Document,
    /// The report cannot be read, so that nothing says what device it is of.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// The chain holds more or fewer certificates.
    #[error("a device chain of another number of certificates than {CHAIN_LENGTH}")]
    Chain,
}

/// The architecture that a list names, in NVIDIA's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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

    fn of(name: &str) -> Option<Self> {
        [Self::Hopper, Self::Blackwell, Self::Ls10].into_iter().find(|one| one.name() == name)
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
    #[serde(borrow)]
    arch: Cow<'a, str>,
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
    let arch = Architecture::of(&item.arch)
        .ok_or_else(|| ItemError::Architecture(item.arch.chars().take(32).collect()))?;
    let nonce = hex::decode_array(&item.nonce).ok_or(ItemError::Nonce)?;
    let report = field("evidence", &item.evidence, MAX_REPORT)?;
    let chain = field("certificate", &item.certificate, MAX_PEM)?;
    let device = DeviceEvidence { kind: arch.kind(), chain: chain.into(), report: report.into() };
    Ok(ListedDevice { arch, nonce, device })
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
    if is_der(&report) {
        return Err(FileError::NotReport);
    }
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
/// 4. it begins with 0x11 (SPDM 1.1), or as a report of another version 1 of SPDM, or is DER values (SEQUENCEs) throughout: the
///    file itself.
///
/// What is decoded must begin as in 4 as well, or with PEM, which is decoded in turn.
///
/// # Errors
/// [`FileError`].
pub fn decoded(file: &[u8]) -> Result<Vec<u8>, FileError> {
    let bytes = unwrapped(file)?;
    let is_report = matches!(&bytes[..], [SPDM, ..] | [0x10..=0x1f, GET_MEASUREMENTS, ..]);
    if is_report || is_der(&bytes) { Ok(bytes) } else { Err(FileError::Neither) }
}

/// The XML document of a file that holds a reference integrity manifest: as it is, or as hexadecimal digits, base64 or
/// PEM of it, which show as in [`decoded`]. Either begins with `<` behind white space, so that no document is taken for
/// an encoding. Files of at most [`MAX_DECODED`] bytes; how large the document may be is
/// [`Rim::parse`](super::Rim::parse)'s to say.
///
/// # Errors
/// [`FileError`], of which [`FileError::Document`] where what is there is no XML.
pub fn decoded_rim(file: &[u8]) -> Result<Vec<u8>, FileError> {
    let document = unwrapped(file)?;
    let is_xml = document.trim_ascii_start().starts_with(b"<");
    if is_xml { Ok(document) } else { Err(FileError::Document) }
}

/// What stands in PEM, in hexadecimal digits or in base64, or the file itself.
fn unwrapped(file: &[u8]) -> Result<Vec<u8>, FileError> {
    if file.len() > MAX_DECODED {
        return Err(FileError::TooLarge(file.len()));
    }
    if let Some(bytes) = pem_decoded(file)? {
        return Ok(bytes);
    }
    match text_decoded(file)? {
        Some(text) => Ok(pem_decoded(&text)?.unwrap_or(text)),
        None => Ok(file.to_vec()),
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A member of an item, as JSON.
    type Member = (&'static str, String);

    fn members() -> Vec<Member> {
        let text = |bytes: &[u8]| format!("\"{}\"", pem::base64_text(bytes));
        vec![
            ("arch", "\"HOPPER\"".to_owned()),
            ("nonce", format!("\"{}\"", "0a".repeat(32))),
            ("evidence", text(b"a report")),
            ("certificate", text(b"a chain")),
        ]
    }

    fn item(members: &[Member]) -> String {
        let members: Vec<String> =
            members.iter().map(|(name, value)| format!("\"{name}\": {value}")).collect();
        format!("{{{}}}", members.join(", "))
    }

    /// A list whose second item has a member in the place of one of the same name, or beside the others.
    fn with(name: &'static str, value: &str) -> Result<Vec<ListedDevice>, ListError> {
        let mut changed = members();
        match changed.iter_mut().find(|(found, _)| *found == name) {
            Some((_, old)) => *old = value.to_owned(),
            None => changed.push((name, value.to_owned())),
        }
        evidence_list(format!("[{}, {}]", item(&members()), item(&changed)).as_bytes())
    }

    fn refused(name: &'static str, value: &str) -> ItemError {
        match with(name, value) {
            Err(ListError::Item { index: 1, source }) => source,
            other => panic!("{name} {value}: {other:?}"),
        }
    }

    #[test]
    fn items_become_devices_of_the_kind_of_their_architecture() {
        for (name, arch, kind) in [
            ("HOPPER", Architecture::Hopper, DeviceKind::NvidiaGpu),
            ("BLACKWELL", Architecture::Blackwell, DeviceKind::NvidiaGpu),
            ("LS10", Architecture::Ls10, DeviceKind::NvidiaSwitch),
        ] {
            let list = with("arch", &format!("\"{name}\"")).unwrap();
            let device =
                DeviceEvidence { kind, chain: b"a chain"[..].into(), report: b"a report"[..].into() };
            assert_eq!(list[1], ListedDevice { arch, nonce: [10; 32], device });
            assert_eq!(arch.name(), name);
        }
    }

    #[test]
    fn what_nobody_signed_is_left_away() {
        let plain = with("version", "\"1.0\"").unwrap();
        for name in ["driver_version", "vbios_version"] {
            assert_eq!(with(name, "\"any text\"").unwrap(), plain);
            assert!(matches!(refused(name, "[]"), ItemError::Json(_)), "text alone");
        }
    }

    #[test]
    fn what_is_wrong_in_an_item_is_named() {
        assert_eq!(refused("version", "\"2.0\""), ItemError::Version("2.0".to_owned()));
        assert_eq!(refused("arch", "\"RUBIN\""), ItemError::Architecture("RUBIN".to_owned()));
        assert_eq!(refused("arch", "\"hopper\""), ItemError::Architecture("hopper".to_owned()));
        for nonce in ["", "0a", &"0a".repeat(33), &"0x".repeat(32), &"0a ".repeat(32)] {
            assert_eq!(refused("nonce", &format!("\"{nonce}\"")), ItemError::Nonce, "{nonce}");
        }
        assert_eq!(refused("evidence", "\"A\""), ItemError::Base64("evidence"));
        assert_eq!(refused("certificate", "\"-\""), ItemError::Base64("certificate"));
        for (field, limit) in [("evidence", MAX_REPORT), ("certificate", MAX_PEM)] {
            let of = |size: usize| format!("\"{}\"", pem::base64_text(&vec![0; size]));
            assert!(with(field, &of(limit)).is_ok());
            let expected = ItemError::TooLarge { field, size: limit + 1, limit };
            assert_eq!(refused(field, &of(limit + 1)), expected);
        }
        for (name, value) in [("arch", "1"), ("nonce", "1"), ("uuid", "\"x\"")] {
            assert!(matches!(refused(name, value), ItemError::Json(_)), "{name} {value}");
        }
        let error = with("uuid", "\"x\"").unwrap_err().to_string();
        assert!(error.starts_with("item 1 of an evidence list: unknown field `uuid`"), "{error}");
    }

    #[test]
    fn members_that_are_missing_or_there_twice_are_refused() {
        let of = |members: &[Member]| evidence_list(format!("[{}]", item(members)).as_bytes());
        assert_eq!(of(&members()).unwrap().len(), 1);
        for at in 0..4 {
            let mut fewer = members();
            fewer.remove(at);
            assert!(
                matches!(of(&fewer), Err(ListError::Item { index: 0, source: ItemError::Json(_) })),
                "{at}"
            );
            let twice = [members(), vec![members()[at].clone()]].concat();
            assert!(
                matches!(of(&twice), Err(ListError::Item { index: 0, source: ItemError::Json(_) })),
                "{at}"
            );
        }
        let twice = [members(), vec![("driver_version", "\"1\"".to_owned()); 2]].concat();
        let error = of(&twice).unwrap_err().to_string();
        assert!(error.contains("duplicate field `driver_version`"), "{error}");
    }

    #[test]
    fn lists_are_bounded() {
        let of =
            |count: usize| evidence_list(format!("[{}]", vec![item(&members()); count].join(",")).as_bytes());
        assert_eq!(of(MAX_DEVICES).unwrap().len(), MAX_DEVICES);
        assert_eq!(of(MAX_DEVICES + 1), Err(ListError::TooMany(MAX_DEVICES + 1)));
        assert_eq!(of(0), Err(ListError::Empty));
        let large = vec![b' '; MAX_EVIDENCE_LIST + 1];
        assert_eq!(evidence_list(&large), Err(ListError::TooLarge(large.len())));
        for other in ["", "{}", "null", "[{}", "[{}] x", "{\"gpus\": []}"] {
            assert!(matches!(evidence_list(other.as_bytes()), Err(ListError::Json(_))), "{other}");
        }
    }

    /// DER, so short that its digits could be DER themselves.
    const DER: &[u8] = &[0x30, 3, 2, 1, 7];

    fn pem_of(values: &[&[u8]], label: &str) -> String {
        pem::encode(&values.iter().map(|value| value.to_vec()).collect::<Vec<_>>())
            .replace("CERTIFICATE", label)
    }

    #[test]
    fn files_are_what_their_content_shows() {
        let report = [&[0x11, 0xe0][..], &[0xff; 70]].concat();
        for binary in [DER, &report, &DER.repeat(3)] {
            let digits = hex::encode(binary);
            let base64 = pem::base64_text(binary);
            let texts = [
                digits.clone(),
                digits.to_uppercase(),
                format!(" {}\r\n{}\n", &digits[..6], &digits[6..]),
                base64.clone(),
                format!("\n{}\n\t{}\r\n", &base64[..4], &base64[4..]),
            ];
            for text in texts {
                assert_eq!(decoded(text.as_bytes()).as_deref(), Ok(binary), "{text}");
            }
            assert_eq!(decoded(binary).as_deref(), Ok(binary));
        }
        for label in ["CERTIFICATE", "X509 CRL", "OCSP RESPONSE"] {
            let text = pem_of(&[DER, DER], label);
            assert_eq!(decoded(text.as_bytes()), Ok(DER.repeat(2)), "{label}");
            let of_text = pem::base64_text(format!("\n {text}").as_bytes());
            assert_eq!(decoded(of_text.as_bytes()), Ok(DER.repeat(2)), "base64 of PEM");
        }
    }

    #[test]
    fn digits_that_are_der_as_well_are_digits() {
        // '0' is the tag of a SEQUENCE and '0' its length of 48.
        let text = format!("00{}", "0".repeat(48));
        assert!(is_der(text.as_bytes()));
        assert_eq!(decoded(text.as_bytes()), Err(FileError::Neither), "25 zeros are no evidence");
        let text = format!("300f{}", "0".repeat(30));
        assert_eq!(decoded(text.as_bytes()).unwrap().len(), 17);
    }

    #[test]
    fn a_long_row_of_values_takes_no_longer_than_its_length() {
        // The square of it would take minutes.
        let row = [0x30, 0].repeat(MAX_DECODED / 2);
        assert_eq!(decoded(&row).unwrap().len(), row.len());
        assert_eq!(chain_pem(&row), Err(FileError::Chain));
    }

    #[test]
    fn files_that_hold_nothing_known_are_refused() {
        assert_eq!(decoded(b""), Err(FileError::Empty));
        assert_eq!(decoded(b" \r\n"), Err(FileError::Empty));
        assert_eq!(decoded(b"30030201070"), Err(FileError::Hexadecimal));
        assert_eq!(decoded(b"MAMCAQc"), Err(FileError::Base64), "without its padding");
        assert_eq!(decoded(b"=MAMCAQc="), Err(FileError::Base64));
        assert_eq!(decoded(b"cafe"), Err(FileError::Neither), "bytes of no known kind");
        assert_eq!(decoded(b"{\"a\": 1}"), Err(FileError::Neither));
        assert_eq!(decoded(&[0x30, 3, 2, 1]), Err(FileError::Neither), "cut");
        assert_eq!(decoded(&[DER, &[0]].concat()), Err(FileError::Neither), "a byte behind");
        assert_eq!(decoded(&[0x22, 0xe0, 0xff]), Err(FileError::Neither), "SPDM 2.2, which nobody knows");
        let later = [0x12, 0xe0, 0xff];
        assert_eq!(decoded(&later).as_deref(), Ok(&later[..]));
        let error = device_of(&later, b"").unwrap_err();
        assert!(matches!(&error, FileError::Report(error) if error.is_unsupported()), "SPDM 1.2: {error:?}");
        assert_eq!(device_of(DER, b""), Err(FileError::NotReport));
        let large = vec![0x11; MAX_DECODED + 1];
        assert_eq!(decoded(&large), Err(FileError::TooLarge(large.len())));
        assert_eq!(device_of(&large, b""), Err(FileError::TooLarge(large.len())));
        let mixed = [pem_of(&[DER], "X509 CRL"), pem_of(&[DER], "CERTIFICATE")].concat();
        assert_eq!(decoded(mixed.as_bytes()), Err(FileError::Pem(PemError::Stray)), "two labels");
        assert_eq!(decoded(b"-----BEGIN X"), Err(FileError::Pem(PemError::Unterminated)));
        let no_der = pem_of(&[b"text"], "CERTIFICATE");
        assert_eq!(decoded(no_der.as_bytes()), Err(FileError::Neither));
    }

    #[test]
    fn manifests_are_xml_in_any_encoding() {
        for document in [&b"<a>x</a>"[..], b"\n <a/>\n", b"<"] {
            let base64 = pem::base64_text(document);
            let in_pem = pem_of(&[document], "RIM");
            let encodings = [hex::encode(document), hex::encode(document).to_uppercase(), base64, in_pem];
            for text in encodings {
                assert_eq!(decoded_rim(text.as_bytes()).as_deref(), Ok(document), "{text}");
                assert_eq!(decoded_rim(format!(" {text}\r\n").as_bytes()).as_deref(), Ok(document), "{text}");
            }
            assert_eq!(decoded_rim(document).as_deref(), Ok(document));
        }
    }

    #[test]
    fn what_is_no_manifest_in_any_encoding_is_refused() {
        assert_eq!(decoded_rim(b" "), Err(FileError::Empty));
        for other in [DER, b"{}", b"a<b/>", b"\xef\xbb\xbf<a/>"] {
            assert_eq!(decoded_rim(other), Err(FileError::Document), "{other:?}");
            assert_eq!(decoded_rim(hex::encode(other).as_bytes()), Err(FileError::Document), "{other:?}");
        }
        assert_eq!(decoded_rim(b"3c612f3"), Err(FileError::Hexadecimal));
        assert_eq!(decoded_rim(b"PGEvPg="), Err(FileError::Base64));
        assert_eq!(decoded_rim(b"-----BEGIN RIM"), Err(FileError::Pem(PemError::Unterminated)));
        let large = vec![b'<'; MAX_DECODED + 1];
        assert_eq!(decoded_rim(&large), Err(FileError::TooLarge(large.len())));
    }

    #[test]
    fn chains_become_pem() {
        let five = pem_of(&[DER; 5], "CERTIFICATE").into_bytes();
        assert_eq!(chain_pem(&five).as_ref(), Ok(&five));
        let inside = pem::base64_text(&five);
        assert_eq!(chain_pem(inside.as_bytes()).as_ref(), Ok(&five));
        assert_eq!(chain_pem(&DER.repeat(5)).as_ref(), Ok(&five));
        assert_eq!(chain_pem(hex::encode(&DER.repeat(5)).as_bytes()).as_ref(), Ok(&five));
        for other in [1, 4, 6, 100] {
            assert_eq!(chain_pem(&DER.repeat(other)), Err(FileError::Chain), "{other} values");
        }
        assert_eq!(chain_pem(b"cafe"), Err(FileError::Neither));
        assert_eq!(chain_pem(b""), Err(FileError::Empty));
        assert!(matches!(device_of(&[0x11], &five), Err(FileError::Report(_))), "a report says its kind");
    }

    proptest! {
        #[test]
        fn no_input_panics_and_what_is_decoded_stays(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = evidence_list(&bytes);
            if let Ok(found) = decoded(&bytes) {
                prop_assert!(matches!(found[..], [SPDM, ..] | [0x10..=0x1f, 0xe0, ..]) || is_der(&found));
            }
        }

        #[test]
        fn every_encoding_of_der_is_decoded(content in prop::collection::vec(any::<u8>(), 0..100)) {
            let der = [&[0x30, u8::try_from(content.len()).unwrap()][..], &content].concat();
            // What is all digits of hexadecimal would be read as those.
            prop_assume!(!der.iter().all(|byte| byte.is_ascii_alphanumeric() || byte.is_ascii_whitespace()));
            for text in [hex::encode(&der), pem_of(&[&der], "ANY LABEL")] {
                prop_assert_eq!(decoded(text.as_bytes()), Ok(der.clone()));
            }
            let base64 = pem::base64_text(&der);
            // It begins with M: never digits of hexadecimal alone.
            prop_assert_eq!(decoded(base64.as_bytes()), Ok(der));
        }
    }
}
