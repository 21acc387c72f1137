//! TDX quotes, versions 4 and 5 (Intel TDX DCAP Quoting Library API, appendix A.3 and A.4).

use crate::read::{Reader, Short};
use crate::tdx::TdAttributes;
use thiserror::Error;

/// The largest bare quote accepted, in bytes: a file may pad a quote with zeros up to this size.
///
/// Recorded quotes are under 8 KiB; the quoting services' buffers are 8 KiB or 16 KiB.
pub const MAX_QUOTE: usize = 16 * 1024;
/// The largest QE authentication data accepted, in bytes. Intel's quoting enclave writes 32.
pub const MAX_QE_AUTH_DATA: usize = 1024;

/// Length of the quote header, in bytes.
pub const HEADER: usize = 48;
/// Length of the TD report body of TDX 1.0, in bytes.
pub const TD_REPORT_10: usize = 584;
/// Length of the TD report body of TDX 1.5, in bytes.
pub const TD_REPORT_15: usize = 648;
/// Length of the extended TD report body of TDX 1.5, in bytes.
pub const TD_REPORT_15_EXTENDED: usize = 885;
/// Length of an SGX report body (the quoting enclave's), in bytes.
pub const SGX_REPORT: usize = 384;

const TEE_TYPE_TDX: u32 = 0x0000_0081;
const ATTESTATION_KEY_ECDSA_P256: u16 = 2;
/// Intel's quoting enclave vendor id, 939a7233-f79c-4ca9-940a-0db3957f0607.
const INTEL_QE_VENDOR: [u8; 16] =
    [0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9, 0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07];
const BODY_TD_10: u16 = 2;
const BODY_TD_15: u16 = 3;
const BODY_TD_15_EXTENDED: u16 = 4;
/// Certification data: a PEM chain of the PCK certificate, leaf first.
const CERTIFICATION_PCK_CHAIN: u16 = 5;
/// Certification data: the QE report, which carries certification data of its own.
const CERTIFICATION_QE_REPORT: u16 = 6;

/// Why a quote could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum QuoteError {
    /// The file is larger than [`MAX_QUOTE`].
    #[error("a quote of {0} bytes, at most {MAX_QUOTE} are accepted")]
    TooLarge(usize),
    /// The quote ends inside a field.
    #[error("{field} at offset {offset} needs {needed} bytes, {left} are left")]
    Truncated {
        /// The field.
        field: &'static str,
        /// Its offset from the start of its structure, in bytes.
        offset: usize,
        /// Bytes that it needs.
        needed: usize,
        /// Bytes that are there.
        left: usize,
    },
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
    /// The quoting enclave's vendor is not Intel.
    #[error("the QE vendor id is not Intel's 939a7233-f79c-4ca9-940a-0db3957f0607")]
    ForeignQuotingEnclave,
    /// A length field contradicts the structure that it measures.
    #[error("{field} says {found} bytes, expected {expected}")]
    WrongLength {
        /// The field.
        field: &'static str,
        /// Its value.
        found: usize,
        /// What fits.
        expected: usize,
    },
    /// QE authentication data larger than [`MAX_QE_AUTH_DATA`].
    #[error("QE authentication data of {0} bytes, at most {MAX_QE_AUTH_DATA} are accepted")]
    AuthDataTooLarge(usize),
    /// Non-zero bytes behind the quote.
    #[error("byte {offset} behind the quote's end is not zero")]
    TrailingBytes {
        /// Offset from the start of the file, in bytes.
        offset: usize,
    },
}

impl QuoteError {
    /// Whether the bytes are well formed but of a kind that is not supported.
    #[must_use]
    pub fn is_unsupported(&self) -> bool {
        matches!(self, Self::Unsupported { .. } | Self::ForeignQuotingEnclave)
    }
}

fn truncated(field: &'static str) -> impl Fn(Short) -> QuoteError {
    move |short| QuoteError::Truncated { field, offset: short.offset, needed: short.needed, left: short.left }
}

/// A TDX quote. Borrowed from the bytes that it was read from.
#[derive(Debug, Clone)]
pub struct Quote<'a> {
    /// Quote version: 4 or 5.
    pub version: u16,
    /// Bytes 8 to 11 of the header. Reserved, and zero in every recorded quote; those of SGX quotes of version 3 had the SVNs
    /// of quoting enclave and PCE there.
    pub reserved: &'a [u8; 4],
    /// Free 20 bytes of the header, set by the quoting enclave. Intel's writes an id into the first 16 that it derives for
    /// its platform, or zeros.
    pub user_data: &'a [u8; 20],
    /// The TD report.
    pub report: TdReport<'a>,
    /// Everything that the attestation key signs: header, body descriptor (v5) and body.
    pub signed: &'a [u8],
    /// Signature, key and certification data.
    pub signature: QuoteSignature<'a>,
    /// Number of zero bytes behind the quote.
    pub padding: usize,
}

/// Which layout a TD report body has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyKind {
    /// TDX 1.0, 584 bytes.
    Td10,
    /// TDX 1.5, 648 bytes.
    Td15,
    /// TDX 1.5 extended, 885 bytes.
    Td15Extended,
}

/// The body of a TD report. All measurements are SHA-384.
#[derive(Debug, Clone)]
pub struct TdReport<'a> {
    /// Layout.
    pub kind: BodyKind,
    /// TEE_TCB_SVN: security version numbers of TDX module and platform that the TD started with.
    pub tee_tcb_svn: &'a [u8; 16],
    /// MRSEAM: measurement of the TDX module.
    pub mr_seam: &'a [u8; 48],
    /// MRSIGNERSEAM: signer of the TDX module, zero for Intel's.
    pub mr_signer_seam: &'a [u8; 48],
    /// SEAMATTRIBUTES, little endian.
    pub seam_attributes: &'a [u8; 8],
    /// TDATTRIBUTES, little endian.
    pub td_attributes: &'a [u8; 8],
    /// XFAM, little endian.
    pub xfam: &'a [u8; 8],
    /// MRTD: measurement of the initial contents of the TD.
    pub mr_td: &'a [u8; 48],
    /// MRCONFIGID.
    pub mr_config_id: &'a [u8; 48],
    /// MROWNER.
    pub mr_owner: &'a [u8; 48],
    /// MROWNERCONFIG.
    pub mr_owner_config: &'a [u8; 48],
    /// RTMR0 to RTMR3.
    pub rtmr: [&'a [u8; 48]; 4],
    /// REPORTDATA.
    pub report_data: &'a [u8; 64],
    /// Fields of TDX 1.5.
    pub td15: Option<Td15<'a>>,
}

/// What TDX 1.5 adds to a TD report.
#[derive(Debug, Clone)]
pub struct Td15<'a> {
    /// TEE_TCB_SVN_2: what the platform has now.
    pub tee_tcb_svn_2: &'a [u8; 16],
    /// MRSERVICETD: measurement of the service TDs bound to the TD.
    pub mr_service_td: &'a [u8; 48],
    /// Fields of the extended form.
    pub extended: Option<Td15Extended<'a>>,
}

/// What the extended form adds to a TD report of TDX 1.5: 237 bytes, in this order. The fields from the initial service
/// TD hash on are zero but for a TD with the attribute SERVTD_EXT, whose MRSERVICETD then is the initial hash.
#[derive(Debug, Clone)]
pub struct Td15Extended<'a> {
    /// Index of the VM that asked for the report: 0 for a TD that is not partitioned, or for its L1 VMM.
    pub vm_id: u8,
    /// Statistically unique id of this instance of the TD, drawn anew at each launch.
    pub td_id: &'a [u8; 32],
    /// Hash over the information about devices assigned to the TD.
    pub device_info: &'a [u8; 48],
    /// Hash of the service TDs that were bound when the TD was created.
    pub init_service_td: &'a [u8; 48],
    /// Attributes of the service TD that was bound when the TD was created.
    pub init_service_td_attributes: &'a [u8; 8],
    /// CPUSVN of the platform that the TD was created on.
    pub init_cpu_svn: &'a [u8; 16],
    /// TEE_TCB_SVN of the platform that the TD was created on.
    pub init_tee_tcb_svn: &'a [u8; 16],
    /// FMSPC of the platform that the TD was created on, in its 12-byte form.
    pub init_fmspc: &'a [u8; 12],
    /// Hash of the service TDs that are bound now.
    pub current_service_td: &'a [u8; 48],
    /// Attributes of the service TD that is bound now.
    pub current_service_td_attributes: &'a [u8; 8],
}

impl TdReport<'_> {
    /// TDATTRIBUTES, bit by bit.
    #[must_use]
    pub fn attributes(&self) -> TdAttributes {
        TdAttributes::from_bytes(self.td_attributes)
    }

    /// The debug bit (TDATTRIBUTES bit 0): the host can read the TD's memory.
    #[must_use]
    pub fn is_debug(&self) -> bool {
        self.attributes().is_debug()
    }

    /// The migratable bit (TDATTRIBUTES bit 29).
    #[must_use]
    pub fn is_migratable(&self) -> bool {
        self.attributes().is_migratable()
    }
}

/// The signature data of a quote with an ECDSA P-256 attestation key.
#[derive(Debug, Clone)]
pub struct QuoteSignature<'a> {
    /// Signature by the attestation key over [`Quote::signed`]: r ‖ s.
    pub quote_signature: &'a [u8; 64],
    /// The attestation key: x ‖ y on P-256.
    pub attestation_key: &'a [u8; 64],
    /// The quoting enclave's SGX report, as signed by the PCK.
    pub qe_report_bytes: &'a [u8; SGX_REPORT],
    /// Its fields.
    pub qe_report: SgxReport<'a>,
    /// Signature by the PCK over the QE report: r ‖ s.
    pub qe_report_signature: &'a [u8; 64],
    /// QE authentication data.
    pub qe_auth_data: &'a [u8],
    /// PEM chain: PCK leaf, intermediate, root.
    pub pck_chain: &'a [u8],
    /// Everything from the attestation key to the QE authentication data, as it stands in the quote: with `pck_chain`
    /// the part that a platform repeats in its quotes.
    pub enclave_part: &'a [u8],
}

/// Fields of an SGX report body (Intel SDM volume 3D, section 38.15), those that QE identity covers.
#[derive(Debug, Clone)]
pub struct SgxReport<'a> {
    /// CPUSVN.
    pub cpu_svn: &'a [u8; 16],
    /// MISCSELECT.
    pub misc_select: u32,
    /// ATTRIBUTES: flags and XFRM.
    pub attributes: &'a [u8; 16],
    /// MRENCLAVE.
    pub mr_enclave: &'a [u8; 32],
    /// MRSIGNER.
    pub mr_signer: &'a [u8; 32],
    /// ISVPRODID.
    pub isv_prod_id: u16,
    /// ISVSVN.
    pub isv_svn: u16,
    /// REPORTDATA.
    pub report_data: &'a [u8; 64],
    /// CET_ATTRIBUTES, of enclaves with control-flow enforcement.
    pub cet_attributes: u8,
    /// ISVEXTPRODID, of enclaves with key separation and sharing (KSS), as the three below.
    pub isv_ext_prod_id: &'a [u8; 16],
    /// CONFIGID.
    pub config_id: &'a [u8; 64],
    /// CONFIGSVN.
    pub config_svn: u16,
    /// ISVFAMILYID.
    pub isv_family_id: &'a [u8; 16],
    /// Bytes 21 to 31, 96 to 127, 160 to 191 and 262 to 303, which are reserved.
    pub reserved: [&'a [u8]; 4],
}

/// What may stand behind a quote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Padding {
    /// Zero bytes, as quoting services leave them in their fixed-size buffers.
    Zeros,
    /// Nothing.
    Refused,
}

impl<'a> Quote<'a> {
    /// Reads a quote from the whole of `input`.
    ///
    /// Nothing about the quote is trusted yet: the caller verifies its signatures.
    ///
    /// # Errors
    /// [`QuoteError`]; [`QuoteError::is_unsupported`] tells unknown kinds from malformed bytes.
    pub fn parse(input: &'a [u8], padding: Padding) -> Result<Self, QuoteError> {
        if input.len() > MAX_QUOTE {
            return Err(QuoteError::TooLarge(input.len()));
        }
        let mut reader = Reader::new(input);
        let Header { version, reserved, user_data } = header(&mut reader)?;
        let kind = body_kind(version, &mut reader)?;
        let report = td_report(kind, &mut reader)?;
        let signed = input.get(..reader.offset()).unwrap_or_default();
        let signature = signature_data(&mut reader)?;
        let padding = trailing(&reader, padding)?;
        Ok(Self { version, reserved, user_data, report, signed, signature, padding })
    }
}

/// What a quote's header says, beside what is the same in every quote that is read here.
struct Header<'a> {
    version: u16,
    reserved: &'a [u8; 4],
    user_data: &'a [u8; 20],
}

fn header<'a>(reader: &mut Reader<'a>) -> Result<Header<'a>, QuoteError> {
    let short = truncated("the quote header");
    let version = reader.u16().map_err(&short)?;
    if !matches!(version, 4 | 5) {
        return Err(QuoteError::Unsupported {
            field: "the quote version",
            found: u32::from(version),
            supported: "4 and 5",
        });
    }
    let key_type = reader.u16().map_err(&short)?;
    if key_type != ATTESTATION_KEY_ECDSA_P256 {
        return Err(QuoteError::Unsupported {
            field: "the attestation key type",
            found: u32::from(key_type),
            supported: "2 (ECDSA P-256)",
        });
    }
    let tee_type = reader.u32().map_err(&short)?;
    if tee_type != TEE_TYPE_TDX {
        return Err(QuoteError::Unsupported {
            field: "the TEE type",
            found: tee_type,
            supported: "129 (TDX)",
        });
    }
    let reserved = reader.array().map_err(&short)?;
    if reader.array::<16>().map_err(&short)? != &INTEL_QE_VENDOR {
        return Err(QuoteError::ForeignQuotingEnclave);
    }
    Ok(Header { version, reserved, user_data: reader.array().map_err(&short)? })
}

fn body_kind(version: u16, reader: &mut Reader<'_>) -> Result<BodyKind, QuoteError> {
    if version == 4 {
        return Ok(BodyKind::Td10);
    }
    let short = truncated("the body descriptor");
    let body_type = reader.u16().map_err(&short)?;
    let (kind, expected) = match body_type {
        BODY_TD_10 => (BodyKind::Td10, TD_REPORT_10),
        BODY_TD_15 => (BodyKind::Td15, TD_REPORT_15),
        BODY_TD_15_EXTENDED => (BodyKind::Td15Extended, TD_REPORT_15_EXTENDED),
        other => {
            return Err(QuoteError::Unsupported {
                field: "the body type",
                found: u32::from(other),
                supported: "2, 3 and 4",
            });
        }
    };
    let found = length(reader.u32().map_err(&short)?);
    if found == expected {
        Ok(kind)
    } else {
        Err(QuoteError::WrongLength { field: "the body size", found, expected })
    }
}

fn td_report<'a>(kind: BodyKind, reader: &mut Reader<'a>) -> Result<TdReport<'a>, QuoteError> {
    td_report_fields(kind, reader).map_err(truncated("the TD report"))
}

fn td_report_fields<'a>(kind: BodyKind, reader: &mut Reader<'a>) -> Result<TdReport<'a>, Short> {
    Ok(TdReport {
        kind,
        tee_tcb_svn: reader.array()?,
        mr_seam: reader.array()?,
        mr_signer_seam: reader.array()?,
        seam_attributes: reader.array()?,
        td_attributes: reader.array()?,
        xfam: reader.array()?,
        mr_td: reader.array()?,
        mr_config_id: reader.array()?,
        mr_owner: reader.array()?,
        mr_owner_config: reader.array()?,
        rtmr: [reader.array()?, reader.array()?, reader.array()?, reader.array()?],
        report_data: reader.array()?,
        td15: match kind {
            BodyKind::Td10 => None,
            BodyKind::Td15 | BodyKind::Td15Extended => Some(td15(kind, reader)?),
        },
    })
}

fn td15<'a>(kind: BodyKind, reader: &mut Reader<'a>) -> Result<Td15<'a>, Short> {
    Ok(Td15 {
        tee_tcb_svn_2: reader.array()?,
        mr_service_td: reader.array()?,
        extended: if kind == BodyKind::Td15Extended { Some(td15_extended(reader)?) } else { None },
    })
}

fn td15_extended<'a>(reader: &mut Reader<'a>) -> Result<Td15Extended<'a>, Short> {
    let [vm_id] = *reader.array()?;
    Ok(Td15Extended {
        vm_id,
        td_id: reader.array()?,
        device_info: reader.array()?,
        init_service_td: reader.array()?,
        init_service_td_attributes: reader.array()?,
        init_cpu_svn: reader.array()?,
        init_tee_tcb_svn: reader.array()?,
        init_fmspc: reader.array()?,
        current_service_td: reader.array()?,
        current_service_td_attributes: reader.array()?,
    })
}

fn signature_data<'a>(reader: &mut Reader<'a>) -> Result<QuoteSignature<'a>, QuoteError> {
    let short = truncated("the signature data");
    let size = reader.u32().map_err(&short)?;
    let signature_data = reader.take(length(size)).map_err(&short)?;
    let mut data = Reader::new(signature_data);
    let quote_signature = data.array().map_err(&short)?;
    let enclave_start = data.offset();
    let attestation_key = data.array().map_err(&short)?;
    let certification = certification_data(CERTIFICATION_QE_REPORT, "the certification data", &mut data)?;
    let short = truncated("the QE report certification data");
    let certification_start = data.offset().saturating_sub(certification.len());
    let mut inner = Reader::new(certification);
    let qe_report_bytes = inner.array().map_err(&short)?;
    let qe_report_signature = inner.array().map_err(&short)?;
    let auth_size = inner.u16().map_err(&short)?;
    if usize::from(auth_size) > MAX_QE_AUTH_DATA {
        return Err(QuoteError::AuthDataTooLarge(usize::from(auth_size)));
    }
    let qe_auth_data = inner.take(usize::from(auth_size)).map_err(&short)?;
    let enclave_end = certification_start.saturating_add(inner.offset());
    let enclave_part = signature_data.get(enclave_start..enclave_end).unwrap_or_default();
    let pck_chain = certification_data(CERTIFICATION_PCK_CHAIN, "the inner certification data", &mut inner)?;
    Ok(QuoteSignature {
        quote_signature,
        attestation_key,
        qe_report_bytes,
        qe_report: sgx_report(qe_report_bytes)?,
        qe_report_signature,
        qe_auth_data,
        pck_chain,
        enclave_part,
    })
}

/// Reads one certification data structure that must fill the rest of its reader.
fn certification_data<'a>(
    expected: u16,
    field: &'static str,
    reader: &mut Reader<'a>,
) -> Result<&'a [u8], QuoteError> {
    let short = truncated(field);
    let kind = reader.u16().map_err(&short)?;
    let found = length(reader.u32().map_err(&short)?);
    if kind != expected {
        return Err(QuoteError::Unsupported {
            field,
            found: u32::from(kind),
            supported: if expected == CERTIFICATION_QE_REPORT {
                "type 6 (QE report)"
            } else {
                "type 5 (PCK chain)"
            },
        });
    }
    let left = reader.rest().len();
    if found > left {
        return Err(QuoteError::Truncated { field, offset: reader.offset(), needed: found, left });
    }
    if found < left {
        return Err(QuoteError::WrongLength { field, found, expected: left });
    }
    reader.take(found).map_err(short)
}

fn sgx_report(bytes: &[u8; SGX_REPORT]) -> Result<SgxReport<'_>, QuoteError> {
    sgx_report_fields(&mut Reader::new(bytes)).map_err(truncated("the QE report"))
}

/// The REPORT structure without its MAC (Intel SDM volume 3D).
fn sgx_report_fields<'a>(reader: &mut Reader<'a>) -> Result<SgxReport<'a>, Short> {
    let cpu_svn = reader.array()?; // 0
    let misc_select = reader.u32()?; // 16
    let [cet_attributes] = *reader.array()?; // 20
    let behind_cet_attributes = reader.take(11)?; // 21
    let isv_ext_prod_id = reader.array()?; // 32
    let attributes = reader.array()?; // 48
    let mr_enclave = reader.array()?; // 64
    let behind_mr_enclave = reader.take(32)?; // 96
    let mr_signer = reader.array()?; // 128
    let behind_mr_signer = reader.take(32)?; // 160
    let config_id = reader.array()?; // 192
    let isv_prod_id = reader.u16()?; // 256
    let isv_svn = reader.u16()?; // 258
    let config_svn = reader.u16()?; // 260
    let behind_config_svn = reader.take(42)?; // 262
    let isv_family_id = reader.array()?; // 304
    let report_data = reader.array()?; // 320
    Ok(SgxReport {
        cpu_svn,
        misc_select,
        attributes,
        mr_enclave,
        mr_signer,
        isv_prod_id,
        isv_svn,
        report_data,
        cet_attributes,
        isv_ext_prod_id,
        config_id,
        config_svn,
        isv_family_id,
        reserved: [behind_cet_attributes, behind_mr_enclave, behind_mr_signer, behind_config_svn],
    })
}

fn trailing(reader: &Reader<'_>, padding: Padding) -> Result<usize, QuoteError> {
    let rest = reader.rest();
    let offending = match padding {
        Padding::Refused => rest.first().map(|_| 0),
        Padding::Zeros => rest.iter().position(|byte| *byte != 0),
    };
    match offending {
        Some(at) => Err(QuoteError::TrailingBytes { offset: reader.offset().saturating_add(at) }),
        None => Ok(rest.len()),
    }
}

fn length(field: u32) -> usize {
    usize::try_from(field).unwrap_or(usize::MAX)
}

// Offsets of Intel's structures, asserted where a change of a field would move them.
const _: () = {
    assert!(HEADER == 2 + 2 + 4 + 4 + 16 + 20);
    assert!(TD_REPORT_10 == 16 + 48 + 48 + 8 + 8 + 8 + 48 * 4 + 48 * 4 + 64);
    assert!(TD_REPORT_15 == TD_REPORT_10 + 16 + 48);
    assert!(TD_REPORT_15_EXTENDED == TD_REPORT_15 + 1 + 32 + 48 + 48 + 8 + 16 + 16 + 12 + 48 + 8);
    assert!(SGX_REPORT == 16 + 4 + 1 + 11 + 16 + 16 + 32 + 32 + 32 + 32 + 64 + 2 + 2 + 2 + 42 + 16 + 64);
};
