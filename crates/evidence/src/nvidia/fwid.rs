//! The certificate extension that names the measured firmware layer of the leaf key, in both of its forms.

use std::fmt;

use thiserror::Error;

use crate::x509::{Certificate, der_value};

/// TCG RIoT CompositeDeviceID, as Hopper and LS10 write it.
const COMPOSITE_DEVICE_ID: &str = "2.23.133.5.4.1";
/// TCG DICE TcbInfo (DICE Attestation Architecture 1.0, section 6.1.1), as Blackwell writes it.
const TCB_INFO: &str = "2.23.133.5.4.1.1";
/// Content octets of the OID of SHA-384, 2.16.840.1.101.3.4.2.2.
const SHA384: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02];

/// The most bits of `flags`: the last one that the TCG names is 31.
pub const MAX_FLAGS: usize = 32;

const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const OBJECT_IDENTIFIER: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
/// Context tag 6, constructed: the fwids of a TcbInfo. Other fields are primitive.
const FWIDS: u8 = 0xa6;

/// Why a firmware id extension could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FwidError {
    /// The certificate carries both forms.
    #[error("both a CompositeDeviceID and a TcbInfo extension")]
    Both,
    /// The DER is not that of the form.
    #[error("{0} is not encoded as its form says")]
    Der(&'static str),
    /// A digest of another algorithm than SHA-384.
    #[error("a firmware id of another digest than SHA-384")]
    Digest,
    /// A TcbInfo without any firmware id.
    #[error("a TcbInfo without a firmware id")]
    Missing,
}

/// A firmware id extension.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fwid {
    /// CompositeDeviceID: the issuer's key and one digest.
    Composite {
        /// SubjectPublicKeyInfo that the extension names, DER: the BROM's on genuine devices.
        spki: Vec<u8>,
        /// SHA-384 of the firmware layer.
        digest: [u8; 48],
    },
    /// DICE TcbInfo.
    TcbInfo(TcbInfo),
}

/// The fields of a DICE TcbInfo, all as they stand.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TcbInfo {
    /// `vendor`, UTF-8.
    pub vendor: Option<String>,
    /// `model`, UTF-8.
    pub model: Option<String>,
    /// `version`, UTF-8.
    pub version: Option<String>,
    /// `svn`: content octets of the INTEGER.
    pub svn: Option<Vec<u8>>,
    /// `layer`: content octets of the INTEGER.
    pub layer: Option<Vec<u8>>,
    /// `index`: content octets of the INTEGER.
    pub index: Option<Vec<u8>>,
    /// `fwids`: SHA-384 digests; the first is the firmware layer's.
    pub fwids: Vec<[u8; 48]>,
    /// `flags`: content octets of the BIT STRING, the first of them the count of unused bits; at most [`MAX_FLAGS`] bits.
    pub flags: Option<Vec<u8>>,
    /// `vendorInfo`.
    pub vendor_info: Option<Vec<u8>>,
    /// `type`.
    pub kind: Option<Vec<u8>>,
}

/// What a measured layer says of its own operation: a bit of `OperationalFlags` (TCG DICE Attestation Architecture 1.1,
/// DiceTcbInfo).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum OperationalFlag {
    /// notConfigured (0).
    NotConfigured,
    /// notSecure (1).
    NotSecure,
    /// recovery (2).
    Recovery,
    /// debug (3).
    Debug,
    /// notReplayProtected (4).
    NotReplayProtected,
    /// notIntegrityProtected (5).
    NotIntegrityProtected,
    /// notRuntimeMeasured (6).
    NotRuntimeMeasured,
    /// notImmutable (7).
    NotImmutable,
    /// notTcb (8).
    NotTcb,
    /// A bit without a name, 9 to 30.
    Unnamed(u8),
    /// fixedWidth (31): it says nothing but that all 32 bits are written.
    FixedWidth,
}

impl OperationalFlag {
    fn of(bit: u8) -> Self {
        match bit {
            0 => Self::NotConfigured,
            1 => Self::NotSecure,
            2 => Self::Recovery,
            3 => Self::Debug,
            4 => Self::NotReplayProtected,
            5 => Self::NotIntegrityProtected,
            6 => Self::NotRuntimeMeasured,
            7 => Self::NotImmutable,
            8 => Self::NotTcb,
            31 => Self::FixedWidth,
            other => Self::Unnamed(other),
        }
    }
}

impl fmt::Display for OperationalFlag {
    /// The TCG's name, or the number of the bit.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::NotConfigured => "notConfigured",
            Self::NotSecure => "notSecure",
            Self::Recovery => "recovery",
            Self::Debug => "debug",
            Self::NotReplayProtected => "notReplayProtected",
            Self::NotIntegrityProtected => "notIntegrityProtected",
            Self::NotRuntimeMeasured => "notRuntimeMeasured",
            Self::NotImmutable => "notImmutable",
            Self::NotTcb => "notTcb",
            Self::FixedWidth => "fixedWidth",
            Self::Unnamed(bit) => return write!(formatter, "bit {bit}"),
        })
    }
}

impl TcbInfo {
    /// The bits that `flags` sets, by their numbers; `None` where the extension has no flags.
    #[must_use]
    pub fn operational_flags(&self) -> Option<Vec<OperationalFlag>> {
        let (_, octets) = self.flags.as_deref()?.split_first()?;
        let bits = octets.iter().flat_map(|octet| (0..8).map(move |place| octet & (0x80 >> place) != 0));
        // Bit 0 of a BIT STRING is the highest of its first octet (X.690 section 8.6.2).
        Some((0..).zip(bits).filter(|(_, set)| *set).map(|(bit, _)| OperationalFlag::of(bit)).collect())
    }
}

impl Fwid {
    /// Reads the extension of a certificate; `None` where it has none.
    ///
    /// # Errors
    /// [`FwidError`].
    pub fn of(certificate: &Certificate) -> Result<Option<Self>, FwidError> {
        match (certificate.extension(COMPOSITE_DEVICE_ID), certificate.extension(TCB_INFO)) {
            (None, None) => Ok(None),
            (Some(_), Some(_)) => Err(FwidError::Both),
            (Some(found), None) => composite(&found.value).map(Some),
            (None, Some(found)) => tcb_info(&found.value).map(|info| Some(Self::TcbInfo(info))),
        }
    }

    /// SHA-384 of the firmware layer that holds the leaf key.
    #[must_use]
    pub fn digest(&self) -> Option<&[u8; 48]> {
        match self {
            Self::Composite { digest, .. } => Some(digest),
            Self::TcbInfo(info) => info.fwids.first(),
        }
    }
}

/// SEQUENCE { INTEGER 1, SubjectPublicKeyInfo, SEQUENCE { OID, OCTET STRING } }.
fn composite(input: &[u8]) -> Result<Fwid, FwidError> {
    const WHAT: FwidError = FwidError::Der("CompositeDeviceID");
    let body = whole(input, SEQUENCE).ok_or(WHAT)?;
    let (version, rest) = value(body, INTEGER).ok_or(WHAT)?;
    if version != [1] {
        return Err(WHAT);
    }
    let (_, after) = value(rest, SEQUENCE).ok_or(WHAT)?;
    let spki_length = rest.len().checked_sub(after.len()).ok_or(WHAT)?;
    let spki = rest.get(..spki_length).ok_or(WHAT)?.to_vec();
    let fwid = whole(after, SEQUENCE).ok_or(WHAT)?;
    Ok(Fwid::Composite { spki, digest: digest(fwid)? })
}

/// SEQUENCE of optional fields with implicit context tags in ascending order.
fn tcb_info(input: &[u8]) -> Result<TcbInfo, FwidError> {
    const WHAT: FwidError = FwidError::Der("TcbInfo");
    let mut rest = whole(input, SEQUENCE).ok_or(WHAT)?;
    let mut info = TcbInfo::default();
    let mut last = None;
    while !rest.is_empty() {
        let (tag, content, after) = der_value(rest).ok_or(WHAT)?;
        let number = tag & 0x1f;
        if last.is_some_and(|last| number <= last) {
            return Err(WHAT);
        }
        last = Some(number);
        rest = after;
        match tag {
            0x80 => info.vendor = Some(utf8(content)?),
            0x81 => info.model = Some(utf8(content)?),
            0x82 => info.version = Some(utf8(content)?),
            0x83 => info.svn = Some(content.to_vec()),
            0x84 => info.layer = Some(content.to_vec()),
            0x85 => info.index = Some(content.to_vec()),
            FWIDS => info.fwids = fwids(content)?,
            0x87 => info.flags = Some(flags(content).ok_or(WHAT)?),
            0x88 => info.vendor_info = Some(content.to_vec()),
            0x89 => info.kind = Some(content.to_vec()),
            _ => return Err(WHAT),
        }
    }
    if info.fwids.is_empty() {
        return Err(FwidError::Missing);
    }
    Ok(info)
}

/// The content octets of a BIT STRING of at most [`MAX_FLAGS`] bits, whose unused bits are zero (X.690 section 11.2).
fn flags(content: &[u8]) -> Option<Vec<u8>> {
    let (unused, octets) = content.split_first()?;
    let last = octets.last().copied().unwrap_or_default();
    let padding = 1_u8.checked_shl(u32::from(*unused))?.wrapping_sub(1);
    let empty = octets.is_empty() && *unused > 0;
    (octets.len() <= MAX_FLAGS / 8 && last & padding == 0 && !empty).then(|| content.to_vec())
}

fn fwids(mut rest: &[u8]) -> Result<Vec<[u8; 48]>, FwidError> {
    let mut fwids = Vec::new();
    while !rest.is_empty() {
        let (fwid, after) = value(rest, SEQUENCE).ok_or(FwidError::Der("fwids"))?;
        fwids.push(digest(fwid)?);
        rest = after;
    }
    Ok(fwids)
}

/// The content of FWID: OID of SHA-384, OCTET STRING of 48 bytes.
fn digest(fwid: &[u8]) -> Result<[u8; 48], FwidError> {
    const WHAT: FwidError = FwidError::Der("FWID");
    let (algorithm, rest) = value(fwid, OBJECT_IDENTIFIER).ok_or(WHAT)?;
    if algorithm != SHA384 {
        return Err(FwidError::Digest);
    }
    whole(rest, OCTET_STRING).ok_or(WHAT)?.try_into().map_err(|_| FwidError::Digest)
}

/// Content of the value at the front, if it has this tag, and what follows.
fn value(input: &[u8], expected: u8) -> Option<(&[u8], &[u8])> {
    let (tag, content, rest) = der_value(input)?;
    (tag == expected).then_some((content, rest))
}

/// Content of the only value of the input.
fn whole(input: &[u8], expected: u8) -> Option<&[u8]> {
    value(input, expected).filter(|(_, rest)| rest.is_empty()).map(|(content, _)| content)
}

fn utf8(content: &[u8]) -> Result<String, FwidError> {
    String::from_utf8(content.to_vec()).map_err(|_| FwidError::Der("TcbInfo"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = content.len();
        let head = match length {
            0..=0x7f => vec![tag, length as u8],
            0x80..=0xff => vec![tag, 0x81, length as u8],
            _ => vec![tag, 0x82, (length >> 8) as u8, length as u8],
        };
        [head, content.to_vec()].concat()
    }

    fn fwid(digest: &[u8]) -> Vec<u8> {
        tlv(SEQUENCE, &[tlv(OBJECT_IDENTIFIER, SHA384), tlv(OCTET_STRING, digest)].concat())
    }

    #[test]
    fn composite_device_ids_are_read_whole() {
        let spki = tlv(SEQUENCE, b"not looked into");
        let good = tlv(SEQUENCE, &[tlv(INTEGER, &[1]), spki.clone(), fwid(&[7; 48])].concat());
        assert_eq!(composite(&good), Ok(Fwid::Composite { spki: spki.clone(), digest: [7; 48] }));
        assert_eq!(composite(&[good, vec![0]].concat()), Err(FwidError::Der("CompositeDeviceID")));
        let short = tlv(SEQUENCE, &[tlv(INTEGER, &[1]), spki.clone(), fwid(&[7; 47])].concat());
        assert_eq!(composite(&short), Err(FwidError::Digest));
        let version = tlv(SEQUENCE, &[tlv(INTEGER, &[2]), spki, fwid(&[7; 48])].concat());
        assert_eq!(composite(&version), Err(FwidError::Der("CompositeDeviceID")));
    }

    #[test]
    fn tcb_infos_have_their_fields_in_order_and_a_firmware_id() {
        let ids = tlv(FWIDS, &[fwid(&[1; 48]), fwid(&[0; 48])].concat());
        let good = tlv(SEQUENCE, &[tlv(0x80, b"NVIDIA"), tlv(0x83, &[1]), ids.clone()].concat());
        let info = tcb_info(&good).unwrap();
        assert_eq!(info.vendor.as_deref(), Some("NVIDIA"));
        assert_eq!(info.fwids, [[1; 48], [0; 48]]);
        let disordered = tlv(SEQUENCE, &[ids.clone(), tlv(0x80, b"NVIDIA")].concat());
        assert_eq!(tcb_info(&disordered), Err(FwidError::Der("TcbInfo")));
        let twice = tlv(SEQUENCE, &[ids.clone(), ids].concat());
        assert_eq!(tcb_info(&twice), Err(FwidError::Der("TcbInfo")));
        assert_eq!(tcb_info(&tlv(SEQUENCE, &tlv(0x80, b"NVIDIA"))), Err(FwidError::Missing));
        assert_eq!(tcb_info(&tlv(SEQUENCE, &tlv(0x8a, b""))), Err(FwidError::Der("TcbInfo")));
    }

    #[test]
    fn operational_flags_are_counted_from_the_highest_bit() {
        use OperationalFlag::*;
        let flags = |content: &[u8]| {
            let ids = tlv(FWIDS, &fwid(&[1; 48]));
            tcb_info(&tlv(SEQUENCE, &[ids, tlv(0x87, content)].concat())).map(|info| info.operational_flags())
        };
        assert_eq!(TcbInfo::default().operational_flags(), None);
        assert_eq!(flags(&[0, 0x80, 0, 0, 1]), Ok(Some(vec![NotConfigured, FixedWidth])), "NVIDIA's");
        assert_eq!(flags(&[0]), Ok(Some(vec![])));
        assert_eq!(flags(&[4, 0x70]), Ok(Some(vec![NotSecure, Recovery, Debug])));
        assert_eq!(
            flags(&[0, 0x0f, 0xc0]),
            Ok(Some(vec![
                NotReplayProtected,
                NotIntegrityProtected,
                NotRuntimeMeasured,
                NotImmutable,
                NotTcb,
                Unnamed(9)
            ]))
        );
        let names: Vec<String> = [Debug, Unnamed(9)].iter().map(ToString::to_string).collect();
        assert_eq!(names, ["debug", "bit 9"]);
        for wrong in [&[][..], &[1], &[8, 0], &[255, 0], &[4, 0x78], &[1, 0x81], &[0, 0, 0, 0, 0, 0]] {
            assert_eq!(flags(wrong), Err(FwidError::Der("TcbInfo")), "{wrong:?}");
        }
    }
}
