//! DCAP collateral: TCB info, QE identity, and the `QuoteCollateralV3` JSON file that carries them.
//!
//! TCB info and QE identity are signed over their exact bytes as served: those bytes are kept, never re-serialised
//! (Intel SGX/TDX Provisioning Certification Service API v4).

use crate::bytes::{ByteString, Bytes};
use crate::document::{EarlyTcb, TdxCollateral};
use crate::pem::PemError;
use crate::x509::X509Error;
use crate::{hex, time};
use serde::{Deserialize, Deserializer, Serialize};
use thiserror::Error;

/// The largest TCB info or QE identity accepted, in bytes. Recorded ones are under 32 KiB.
pub const MAX_SIGNED_JSON: usize = 512 * 1024;
/// The largest collateral file accepted, in bytes.
/// Recorded ones have tens of KiB; revocation lists stand there in hexadecimal digits.
pub const MAX_COLLATERAL: usize = 4 * 1024 * 1024;
/// The most TCB levels, module identities or advisory ids in one list. Recorded lists have fewer than 32.
pub const MAX_LEVELS: usize = 256;

/// Why collateral could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CollateralError {
    /// Larger than its limit.
    #[error("{what} of {size} bytes, at most {limit} are accepted")]
    TooLarge {
        /// What was read.
        what: &'static str,
        /// Its size in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// Not JSON of the expected form.
    #[error("{what}: {reason}")]
    Json {
        /// What was read.
        what: &'static str,
        /// The JSON reader's words, with line and column.
        reason: String,
    },
    /// An issuer chain that is none.
    #[error("{what}: {source}")]
    Chain {
        /// Which chain.
        what: &'static str,
        /// Why.
        source: PemError,
    },
    /// A certificate or revocation list that is none.
    #[error("{what}: {source}")]
    X509 {
        /// What was read.
        what: &'static str,
        /// Why.
        source: X509Error,
    },
    /// A revocation list that does not say when the next one comes.
    #[error("{0} has no nextUpdate")]
    NoNextUpdate(&'static str),
    /// More list entries than [`MAX_LEVELS`], or none where one is needed.
    #[error("{0} has a list of unacceptable length")]
    ListLength(&'static str),
}

/// A TCB status by Intel's exact name (PCS API v4, `tcbStatus`), or one that Intel's verification library derives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum TcbStatus {
    /// The TCB is current.
    UpToDate,
    /// Current, but the software must be hardened against an advisory.
    SWHardeningNeeded,
    /// Current, but the platform's configuration may expose it.
    ConfigurationNeeded,
    /// Both of the above.
    ConfigurationAndSWHardeningNeeded,
    /// The TD started on an outdated TCB and the platform has since been updated: relaunch the TD.
    TDRelaunchAdvised,
    /// As above, and the configuration may expose it.
    TDRelaunchAdvisedConfigurationNeeded,
    /// The TCB is outdated.
    OutOfDate,
    /// The TCB is outdated, and the configuration may expose it.
    OutOfDateConfigurationNeeded,
    /// The TCB is revoked.
    Revoked,
}

impl TcbStatus {
    /// Intel's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::UpToDate => "UpToDate",
            Self::SWHardeningNeeded => "SWHardeningNeeded",
            Self::ConfigurationNeeded => "ConfigurationNeeded",
            Self::ConfigurationAndSWHardeningNeeded => "ConfigurationAndSWHardeningNeeded",
            Self::TDRelaunchAdvised => "TDRelaunchAdvised",
            Self::TDRelaunchAdvisedConfigurationNeeded => "TDRelaunchAdvisedConfigurationNeeded",
            Self::OutOfDate => "OutOfDate",
            Self::OutOfDateConfigurationNeeded => "OutOfDateConfigurationNeeded",
            Self::Revoked => "Revoked",
        }
    }
}

impl std::fmt::Display for TcbStatus {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name())
    }
}

/// TCB info, version 3, for TDX.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TcbInfo {
    /// `TDX`.
    pub id: String,
    /// 3.
    pub version: u32,
    /// Start of validity, seconds since the Unix epoch.
    #[serde(deserialize_with = "date")]
    pub issue_date: i64,
    /// End of validity, seconds since the Unix epoch.
    #[serde(deserialize_with = "date")]
    pub next_update: i64,
    /// FMSPC of the platforms it covers.
    #[serde(deserialize_with = "hex_array")]
    pub fmspc: [u8; 6],
    /// PCEID of the platforms it covers.
    #[serde(rename = "pceId", deserialize_with = "hex_array")]
    pub pce_id: [u8; 2],
    /// How TCB levels compare: 0 is the only type defined.
    pub tcb_type: u32,
    /// Rises with each TCB recovery.
    pub tcb_evaluation_data_number: u32,
    /// Identity of TDX modules with major version 0.
    #[serde(default)]
    pub tdx_module: Option<TdxModule>,
    /// Identities of later TDX modules by major version.
    #[serde(default)]
    pub tdx_module_identities: Vec<TdxModuleIdentity>,
    /// TCB levels, best first.
    pub tcb_levels: Vec<TcbLevel>,
}

/// Who signs the TDX module, and its SEAM attributes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TdxModule {
    /// Expected MRSIGNERSEAM.
    #[serde(rename = "mrsigner", deserialize_with = "hex_array")]
    pub mr_signer: [u8; 48],
    /// Expected SEAMATTRIBUTES under the mask.
    #[serde(deserialize_with = "hex_array")]
    pub attributes: [u8; 8],
    /// Which bits of SEAMATTRIBUTES count.
    #[serde(deserialize_with = "hex_array")]
    pub attributes_mask: [u8; 8],
}

/// The identity of TDX modules of one major version.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "FlatModuleIdentity")]
pub struct TdxModuleIdentity {
    /// `TDX_` and the major version as two hexadecimal digits.
    pub id: String,
    /// Signer and attributes.
    pub module: TdxModule,
    /// Levels by ISV SVN, best first.
    pub tcb_levels: Vec<IsvLevel>,
}

/// A module identity as it stands in TCB info. (`serde(flatten)` would read every field twice.)
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FlatModuleIdentity {
    id: String,
    #[serde(rename = "mrsigner", deserialize_with = "hex_array")]
    mr_signer: [u8; 48],
    #[serde(deserialize_with = "hex_array")]
    attributes: [u8; 8],
    #[serde(deserialize_with = "hex_array")]
    attributes_mask: [u8; 8],
    tcb_levels: Vec<IsvLevel>,
}

impl From<FlatModuleIdentity> for TdxModuleIdentity {
    fn from(flat: FlatModuleIdentity) -> Self {
        let FlatModuleIdentity { id, mr_signer, attributes, attributes_mask, tcb_levels } = flat;
        Self { id, module: TdxModule { mr_signer, attributes, attributes_mask }, tcb_levels }
    }
}

/// A TCB level of a platform.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TcbLevel {
    /// Its components.
    pub tcb: TcbComponents,
    /// Date of the level, seconds since the Unix epoch.
    #[serde(deserialize_with = "date")]
    pub tcb_date: i64,
    /// Its status.
    pub tcb_status: TcbStatus,
    /// Advisories that apply.
    #[serde(rename = "advisoryIDs", default)]
    pub advisory_ids: Vec<String>,
}

/// The security version numbers of a platform TCB level.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct TcbComponents {
    /// SGX components 1 to 16.
    #[serde(rename = "sgxtcbcomponents", deserialize_with = "components")]
    pub sgx: [u8; 16],
    /// PCESVN.
    #[serde(rename = "pcesvn")]
    pub pce_svn: u16,
    /// TDX components 1 to 16.
    #[serde(rename = "tdxtcbcomponents", deserialize_with = "components")]
    pub tdx: [u8; 16],
}

/// A level of an enclave or TDX module.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IsvLevel {
    /// Its security version number.
    pub tcb: IsvTcb,
    /// Date of the level, seconds since the Unix epoch.
    #[serde(deserialize_with = "date")]
    pub tcb_date: i64,
    /// Its status.
    pub tcb_status: TcbStatus,
    /// Advisories that apply.
    #[serde(rename = "advisoryIDs", default)]
    pub advisory_ids: Vec<String>,
}

/// The TCB of an enclave or TDX module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct IsvTcb {
    /// ISV security version number.
    #[serde(rename = "isvsvn")]
    pub isv_svn: u16,
}

/// QE identity, version 2.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QeIdentity {
    /// `TD_QE`.
    pub id: String,
    /// 2.
    pub version: u32,
    /// Start of validity, seconds since the Unix epoch.
    #[serde(deserialize_with = "date")]
    pub issue_date: i64,
    /// End of validity, seconds since the Unix epoch.
    #[serde(deserialize_with = "date")]
    pub next_update: i64,
    /// Rises with each TCB recovery.
    pub tcb_evaluation_data_number: u32,
    /// Expected MISCSELECT under the mask, in memory order.
    #[serde(rename = "miscselect", deserialize_with = "hex_array")]
    pub misc_select: [u8; 4],
    /// Which bits of MISCSELECT count.
    #[serde(rename = "miscselectMask", deserialize_with = "hex_array")]
    pub misc_select_mask: [u8; 4],
    /// Expected ATTRIBUTES under the mask.
    #[serde(deserialize_with = "hex_array")]
    pub attributes: [u8; 16],
    /// Which bits of ATTRIBUTES count.
    #[serde(deserialize_with = "hex_array")]
    pub attributes_mask: [u8; 16],
    /// Expected MRSIGNER.
    #[serde(rename = "mrsigner", deserialize_with = "hex_array")]
    pub mr_signer: [u8; 32],
    /// Expected ISVPRODID.
    #[serde(rename = "isvprodid")]
    pub isv_prod_id: u16,
    /// Levels by ISV SVN, best first.
    pub tcb_levels: Vec<IsvLevel>,
}

impl TcbInfo {
    /// Reads the signed inner object of a TCB info answer. Trust comes from its signature alone.
    ///
    /// # Errors
    /// [`CollateralError`].
    pub fn parse(json: &str) -> Result<Self, CollateralError> {
        const WHAT: &str = "TCB info";
        let parsed: Self = signed_json(WHAT, json)?;
        check_list(WHAT, &parsed.tcb_levels)?;
        if parsed.tdx_module_identities.len() > MAX_LEVELS {
            return Err(CollateralError::ListLength(WHAT));
        }
        for identity in &parsed.tdx_module_identities {
            check_list(WHAT, &identity.tcb_levels)?;
        }
        Ok(parsed)
    }
}

impl QeIdentity {
    /// Reads the signed inner object of a QE identity answer. Trust comes from its signature alone.
    ///
    /// # Errors
    /// [`CollateralError`].
    pub fn parse(json: &str) -> Result<Self, CollateralError> {
        const WHAT: &str = "QE identity";
        let parsed: Self = signed_json(WHAT, json)?;
        check_list(WHAT, &parsed.tcb_levels)?;
        Ok(parsed)
    }
}

fn check_list<T>(what: &'static str, list: &[T]) -> Result<(), CollateralError> {
    if (1..=MAX_LEVELS).contains(&list.len()) { Ok(()) } else { Err(CollateralError::ListLength(what)) }
}

fn signed_json<'a, T: Deserialize<'a>>(what: &'static str, json: &'a str) -> Result<T, CollateralError> {
    if json.len() > MAX_SIGNED_JSON {
        return Err(CollateralError::TooLarge { what, size: json.len(), limit: MAX_SIGNED_JSON });
    }
    serde_json::from_str(json).map_err(|error| CollateralError::Json { what, reason: error.to_string() })
}

/// The de-facto JSON file of DCAP collateral.
#[derive(Serialize, Deserialize)]
struct QuoteCollateralV3 {
    pck_crl_issuer_chain: String,
    #[serde(with = "hex_bytes")]
    root_ca_crl: Vec<u8>,
    #[serde(with = "hex_bytes")]
    pck_crl: Vec<u8>,
    tcb_info_issuer_chain: String,
    tcb_info: String,
    #[serde(with = "hex_bytes")]
    tcb_info_signature: Vec<u8>,
    qe_identity_issuer_chain: String,
    qe_identity: String,
    #[serde(with = "hex_bytes")]
    qe_identity_signature: Vec<u8>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pck_certificate_chain: Option<String>,
    /// Ours: other readers leave it alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    early: Option<EarlyFile>,
}

/// The early set in a collateral file.
#[derive(Serialize, Deserialize)]
struct EarlyFile {
    tcb_info: String,
    #[serde(with = "hex_bytes")]
    tcb_info_signature: Vec<u8>,
    qe_identity: String,
    #[serde(with = "hex_bytes")]
    qe_identity_signature: Vec<u8>,
}

/// Reads collateral from the de-facto JSON form `QuoteCollateralV3`: chains as PEM, revocation lists and signatures as
/// hexadecimal, signed objects as strings of their exact bytes. One field is ours: `early` holds TCB info and QE identity
/// of the next TCB recovery, each with its signature. Other fields are ignored.
///
/// # Errors
/// [`CollateralError`], with line and column of what is wrong.
pub fn collateral_from_json(json: &[u8]) -> Result<TdxCollateral, CollateralError> {
    const WHAT: &str = "the collateral file";
    if json.len() > MAX_COLLATERAL {
        return Err(CollateralError::TooLarge { what: WHAT, size: json.len(), limit: MAX_COLLATERAL });
    }
    let json_error = |reason: String| CollateralError::Json { what: WHAT, reason };
    let file: QuoteCollateralV3 =
        serde_json::from_slice(json).map_err(|error| json_error(error.to_string()))?;
    let signature = |bytes: Vec<u8>, name: &str| {
        let size = bytes.len();
        bytes.try_into().map(Bytes).map_err(|_| json_error(format!("{name} of {size} bytes, expected 64")))
    };
    let early = file.early.map(|early| {
        Ok(EarlyTcb {
            tcb_info: early.tcb_info,
            qe_identity: early.qe_identity,
            tcb_info_signature: signature(early.tcb_info_signature, "early.tcb_info_signature")?,
            qe_identity_signature: signature(early.qe_identity_signature, "early.qe_identity_signature")?,
        })
    });
    Ok(TdxCollateral {
        early: early.transpose()?,
        pck_crl: ByteString(file.pck_crl),
        tcb_info: file.tcb_info,
        qe_identity: file.qe_identity,
        root_ca_crl: ByteString(file.root_ca_crl),
        tcb_info_signature: signature(file.tcb_info_signature, "tcb_info_signature")?,
        pck_crl_issuer_chain: file.pck_crl_issuer_chain,
        qe_identity_signature: signature(file.qe_identity_signature, "qe_identity_signature")?,
        tcb_info_issuer_chain: file.tcb_info_issuer_chain,
        pck_certificate_chain: file.pck_certificate_chain,
        qe_identity_issuer_chain: file.qe_identity_issuer_chain,
    })
}

/// Writes collateral in the form that [`collateral_from_json`] reads: one line and a line end.
///
/// # Panics
/// Never: strings and hexadecimal digits always serialise.
#[must_use]
pub fn collateral_to_json(collateral: &TdxCollateral) -> String {
    let file = QuoteCollateralV3 {
        pck_crl_issuer_chain: collateral.pck_crl_issuer_chain.clone(),
        root_ca_crl: collateral.root_ca_crl.as_bytes().to_vec(),
        pck_crl: collateral.pck_crl.as_bytes().to_vec(),
        tcb_info_issuer_chain: collateral.tcb_info_issuer_chain.clone(),
        tcb_info: collateral.tcb_info.clone(),
        tcb_info_signature: collateral.tcb_info_signature.as_bytes().to_vec(),
        qe_identity_issuer_chain: collateral.qe_identity_issuer_chain.clone(),
        qe_identity: collateral.qe_identity.clone(),
        qe_identity_signature: collateral.qe_identity_signature.as_bytes().to_vec(),
        pck_certificate_chain: collateral.pck_certificate_chain.clone(),
        early: collateral.early.as_ref().map(|early| EarlyFile {
            tcb_info: early.tcb_info.clone(),
            tcb_info_signature: early.tcb_info_signature.as_bytes().to_vec(),
            qe_identity: early.qe_identity.clone(),
            qe_identity_signature: early.qe_identity_signature.as_bytes().to_vec(),
        }),
    };
    let mut json = serde_json::to_string(&file).expect("strings and hexadecimal digits always serialise");
    json.push('\n');
    json
}

fn date<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    let text = String::deserialize(deserializer)?;
    time::parse_seconds(&text)
        .ok_or_else(|| serde::de::Error::custom(format!("{text:?} is not an RFC 3339 time")))
}

fn hex_array<'de, D: Deserializer<'de>, const N: usize>(deserializer: D) -> Result<[u8; N], D::Error> {
    let text = String::deserialize(deserializer)?;
    hex::decode_array(&text)
        .ok_or_else(|| serde::de::Error::custom(format!("not {N} bytes of hexadecimal digits")))
}

fn components<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 16], D::Error> {
    #[derive(Deserialize)]
    struct Component {
        svn: u8,
    }
    let list = Vec::<Component>::deserialize(deserializer)?;
    let svns: Vec<u8> = list.iter().map(|component| component.svn).collect();
    svns.try_into().map_err(|_| serde::de::Error::custom("a TCB level needs 16 components"))
}

mod hex_bytes {
    use crate::hex;
    use serde::de::{Error, Visitor};
    use serde::{Deserializer, Serializer};
    use std::fmt;

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        deserializer.deserialize_str(Digits)
    }

    /// Decodes digits where they stand: there can be megabytes of them.
    struct Digits;

    impl Visitor<'_> for Digits {
        type Value = Vec<u8>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string of hexadecimal digits")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Vec<u8>, E> {
            hex::decode(text).ok_or_else(|| E::custom("not hexadecimal digits"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collateral(pck_certificate_chain: Option<String>) -> TdxCollateral {
        TdxCollateral {
            early: None,
            pck_crl: vec![1, 0xfe].into(),
            tcb_info: "{\"id\" : \"TDX\"}".to_owned(),
            qe_identity: "{}".to_owned(),
            root_ca_crl: vec![].into(),
            tcb_info_signature: Bytes([3; 64]),
            pck_crl_issuer_chain: "a\nb\n".to_owned(),
            pck_certificate_chain,
            qe_identity_signature: Bytes([4; 64]),
            tcb_info_issuer_chain: "c".to_owned(),
            qe_identity_issuer_chain: "d".to_owned(),
        }
    }

    #[test]
    fn a_written_file_is_read_as_the_same_collateral() {
        for chain in [None, Some("chain".to_owned())] {
            let collateral = collateral(chain.clone());
            let json = collateral_to_json(&collateral);
            assert_eq!(json.contains("pck_certificate_chain"), chain.is_some());
            assert_eq!(collateral_from_json(json.as_bytes()).unwrap(), collateral);
        }
    }

    #[test]
    fn the_early_set_stands_in_the_file_where_there_is_one() {
        let early = EarlyTcb {
            tcb_info: "{\"early\":1}".to_owned(),
            qe_identity: "{}".to_owned(),
            tcb_info_signature: Bytes([5; 64]),
            qe_identity_signature: Bytes([6; 64]),
        };
        let collateral = TdxCollateral { early: Some(early), ..collateral(None) };
        let json = collateral_to_json(&collateral);
        assert_eq!(collateral_from_json(json.as_bytes()).unwrap(), collateral);
        let short = json.replace(&"05".repeat(64), "05");
        let error = collateral_from_json(short.as_bytes()).unwrap_err().to_string();
        assert!(error.contains("early.tcb_info_signature of 1 bytes, expected 64"), "{error}");
    }
}
