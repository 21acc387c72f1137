//! One endorsement: what is asked for, what came, and whether it is that.

use std::fmt;

use confide_evidence::hex;
use confide_evidence::pem::{self, PemError};
use confide_evidence::snp::{EndorsementKey, Product, SigningKey, TcbVersion};
use confide_evidence::tdx::{
    CollateralError, CollateralWindow, QeIdentity, SignedObject, TcbInfo, crl_answer, crl_window,
    issuer_chain, qe_identity_answer, tcb_info_answer,
};
use confide_evidence::x509::{Certificate, Crl};

use crate::amd::{Services, segment};
use crate::error::Fault;
use crate::fetch::{Answer, Ask};
use crate::intel::Set;
use crate::platform::PckCa;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Wanted {
    /// The CRL of Intel's root CA.
    RootCaCrl,
    /// The CRL of a PCK CA.
    PckCrl(PckCa),
    /// TCB info of an FMSPC, for TDX.
    TcbInfo([u8; 6], Set),
    /// Identity of the TD quoting enclave.
    QeIdentity(Set),
    /// The certificate of a chip's VCEK at a TCB version, in the product's layout.
    Vcek(Product, [u8; 64], [u8; 8]),
    /// AMD's certificates above a kind of signing key: ASK or ASVK, and ARK.
    AmdChain(Product, SigningKey),
    /// The CRL of a product's ARK, beside those certificates.
    AmdCrl(Product, SigningKey),
}

/// What came, in the form in which it is kept. It may be anything: [`Wanted::check`] reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Object {
    /// Lists and VCEK certificates as DER, signed objects and AMD's chains as the whole answer.
    pub(crate) body: Vec<u8>,
    /// Issuer chain, PEM.
    pub(crate) chain: Option<String>,
}

const TCB_INFO_CHAIN: &str = "tcb-info-issuer-chain";
const QE_IDENTITY_CHAIN: &str = "sgx-enclave-identity-issuer-chain";
const PCK_CRL_CHAIN: &str = "sgx-pck-crl-issuer-chain";

const ROOT_CA_CRL_WHAT: &str = "root CA CRL";
const PCK_CRL_WHAT: &str = "PCK CRL";
const ARK_CRL_WHAT: &str = "CRL of the ARK";
const VCEK_WHAT: &str = "VCEK certificate";
const AMD_CHAIN_WHAT: &str = "chain of the ARK";

impl Wanted {
    /// The request.
    pub(crate) fn request(self, services: &Services) -> Ask<'_> {
        let Services { intel, amd, .. } = services;
        match self {
            Self::RootCaCrl => intel.root_ca_crl(),
            Self::PckCrl(ca) => intel.pck_crl(ca),
            Self::TcbInfo(fmspc, set) => intel.tcb_info(fmspc, set),
            Self::QeIdentity(set) => intel.qe_identity(set),
            Self::Vcek(product, chip_id, tcb) => amd.vcek(product, &chip_id, tcb),
            Self::AmdChain(product, key) => amd.chain(product, key),
            Self::AmdCrl(product, key) => amd.crl(product, key),
        }
    }

    /// What the objects of its service are kept under.
    pub(crate) fn cache_name(self, services: &Services) -> String {
        match self {
            Self::Vcek(..) | Self::AmdChain(..) | Self::AmdCrl(..) => services.amd.cache_name(),
            _ => services.intel.cache_name(),
        }
    }

    /// Reads the form of an answer. What it says is not looked at yet.
    pub(crate) fn read(self, answer: &Answer) -> Result<Object, Fault> {
        let chain = |field| {
            issuer_chain(answer.header(field)?).map_err(|source| Fault::IssuerChain { field, source })
        };
        Ok(match self {
            Self::RootCaCrl => Object { body: crl_answer(ROOT_CA_CRL_WHAT, &answer.body)?, chain: None },
            Self::PckCrl(_) => {
                let chain = Some(chain(PCK_CRL_CHAIN)?);
                Object { body: crl_answer(PCK_CRL_WHAT, &answer.body)?, chain }
            }
            Self::TcbInfo(..) => Object { body: answer.body.to_vec(), chain: Some(chain(TCB_INFO_CHAIN)?) },
            Self::QeIdentity(_) => {
                Object { body: answer.body.to_vec(), chain: Some(chain(QE_IDENTITY_CHAIN)?) }
            }
            Self::AmdCrl(..) => Object { body: crl_answer(ARK_CRL_WHAT, &answer.body)?, chain: None },
            Self::Vcek(..) | Self::AmdChain(..) => Object { body: answer.body.to_vec(), chain: None },
        })
    }

    /// Whether an object is what is asked for, and when it and its issuer chain are valid. No signature is verified.
    pub(crate) fn check(self, object: &Object) -> Result<CollateralWindow, Fault> {
        let chain = object.issuers()?;
        let own = match self {
            Self::RootCaCrl => crl_window(ROOT_CA_CRL_WHAT, &object.body)?,
            Self::PckCrl(ca) => {
                check_issuer(ca, &object.body, &chain)?;
                crl_window(PCK_CRL_WHAT, &object.body)?
            }
            Self::TcbInfo(fmspc, set) => {
                let info = TcbInfo::parse(&tcb_info_answer(&object.body)?.text)?;
                let found = format!("{} {}", info.id, hex::encode(&info.fmspc));
                same(format!("TDX {}", hex::encode(&fmspc)), found)?;
                check_number(set, info.tcb_evaluation_data_number)?;
                CollateralWindow { part: self.to_string(), from: info.issue_date, until: info.next_update }
            }
            Self::QeIdentity(set) => {
                let identity = QeIdentity::parse(&qe_identity_answer(&object.body)?.text)?;
                same("TD_QE".to_owned(), identity.id)?;
                check_number(set, identity.tcb_evaluation_data_number)?;
                CollateralWindow {
                    part: self.to_string(),
                    from: identity.issue_date,
                    until: identity.next_update,
                }
            }
            Self::Vcek(product, chip_id, tcb) => {
                let certificate = Certificate::parse(&object.body)?;
                check_vcek(&certificate, product, &chip_id, tcb)?;
                window(self.to_string(), &certificate)
            }
            Self::AmdChain(product, key) => {
                let chain = object.amd_chain()?;
                let names: Vec<&str> = chain.iter().map(|found| found.common_name.as_str()).collect();
                same(format!("{}, ARK-{product}", key.issuer_common_name(product)), names.join(", "))?;
                chain.iter().map(|found| window(self.to_string(), found)).fold(
                    CollateralWindow { part: self.to_string(), from: i64::MIN, until: i64::MAX },
                    narrower,
                )
            }
            Self::AmdCrl(product, _) => {
                let what = |source| CollateralError::X509 { what: ARK_CRL_WHAT, source };
                let list = Crl::parse(&object.body).map_err(what)?;
                same(format!("ARK-{product}"), list.issuer_common_name)?;
                crl_window(ARK_CRL_WHAT, &object.body)?
            }
        };
        Ok(chain.iter().map(|certificate| window(String::new(), certificate)).fold(own, narrower))
    }

    /// A file name for it, without an extension.
    pub(crate) fn file_stem(self) -> String {
        match self {
            Self::RootCaCrl => "root-ca-crl".to_owned(),
            Self::PckCrl(ca) => format!("pck-crl-{ca}"),
            Self::TcbInfo(fmspc, set) => format!("tdx-tcb-info-{}-{set}", hex::encode(&fmspc)),
            Self::QeIdentity(set) => format!("tdx-qe-identity-{set}"),
            Self::Vcek(product, chip_id, tcb) => {
                format!("vcek-{product}-{}-{}", hex::encode(&chip_id), hex::encode(&tcb))
            }
            Self::AmdChain(product, key) => format!("{}-chain-{product}", segment(key)),
            Self::AmdCrl(product, key) => format!("{}-crl-{product}", segment(key)),
        }
    }

    /// What [`file_stem`](Self::file_stem) was made from; `None` for any other name.
    pub(crate) fn of_file_stem(stem: &str) -> Option<Self> {
        let found = if stem == "root-ca-crl" {
            Self::RootCaCrl
        } else if let Some(ca) = stem.strip_prefix("pck-crl-") {
            Self::PckCrl(ca.parse().ok()?)
        } else if let Some(rest) = stem.strip_prefix("tdx-tcb-info-") {
            let (fmspc, set) = rest.split_once('-')?;
            Self::TcbInfo(hex::decode_array(fmspc)?, set.parse().ok()?)
        } else if let Some(wanted) = Self::of_amd(stem) {
            wanted
        } else {
            Self::QeIdentity(stem.strip_prefix("tdx-qe-identity-")?.parse().ok()?)
        };
        (found.file_stem() == stem).then_some(found)
    }

    fn of_amd(stem: &str) -> Option<Self> {
        let (key, rest) = [SigningKey::Vcek, SigningKey::Vlek]
            .into_iter()
            .find_map(|key| Some((key, stem.strip_prefix(segment(key))?.strip_prefix('-')?)))?;
        if let Some(product) = rest.strip_prefix("chain-") {
            return Some(Self::AmdChain(Product::from_name(product)?, key));
        }
        if let Some(product) = rest.strip_prefix("crl-") {
            return Some(Self::AmdCrl(Product::from_name(product)?, key));
        }
        let (product, rest) = rest.split_once('-')?;
        let (chip_id, tcb) = rest.split_once('-')?;
        Some(Self::Vcek(Product::from_name(product)?, hex::decode_array(chip_id)?, hex::decode_array(tcb)?))
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RootCaCrl => f.write_str(ROOT_CA_CRL_WHAT),
            Self::PckCrl(ca) => write!(f, "{PCK_CRL_WHAT} of the {ca} CA"),
            Self::TcbInfo(fmspc, set) => write!(f, "TCB info of FMSPC {} ({set})", hex::encode(fmspc)),
            Self::QeIdentity(set) => write!(f, "QE identity ({set})"),
            Self::Vcek(product, chip_id, tcb) => {
                let (levels, _) = TcbVersion::from_bytes(*product, *tcb);
                let chip: String = hex::encode(chip_id).chars().take(16).collect();
                write!(f, "{VCEK_WHAT} of the {product} {chip}… at {levels}")
            }
            Self::AmdChain(product, key) => write!(f, "{AMD_CHAIN_WHAT} of {product} ({})", segment(*key)),
            Self::AmdCrl(product, key) => write!(f, "{ARK_CRL_WHAT} of {product} ({})", segment(*key)),
        }
    }
}

impl Object {
    /// The signed object of an answer with TCB info.
    pub(crate) fn tcb_info(&self) -> Result<SignedObject, CollateralError> {
        tcb_info_answer(&self.body)
    }

    /// The signed object of an answer with the QE identity.
    pub(crate) fn qe_identity(&self) -> Result<SignedObject, CollateralError> {
        qe_identity_answer(&self.body)
    }

    /// The certificates of an answer with AMD's chain.
    pub(crate) fn amd_chain(&self) -> Result<Vec<Certificate>, CollateralError> {
        let what = AMD_CHAIN_WHAT;
        let chain =
            pem::certificates(&self.body).map_err(|source| CollateralError::Chain { what, source })?;
        let parsed = chain.iter().map(|der| Certificate::parse(der));
        parsed.collect::<Result<_, _>>().map_err(|source| CollateralError::X509 { what, source })
    }

    /// The certificates of the issuer chain, none where there is none.
    pub(crate) fn issuers(&self) -> Result<Vec<Certificate>, Fault> {
        let Some(chain) = &self.chain else { return Ok(Vec::new()) };
        let what = "the issuer chain";
        let chain = pem::certificates(chain.as_bytes())
            .map_err(|source: PemError| CollateralError::Chain { what, source })?;
        chain
            .iter()
            .map(|der| {
                Certificate::parse(der).map_err(|source| CollateralError::X509 { what, source }.into())
            })
            .collect()
    }

    /// The issuer chain, empty where there is none.
    pub(crate) fn chain(&self) -> &str {
        self.chain.as_deref().unwrap_or_default()
    }
}

/// The list is of the CA that its chain begins with, and that is the one that was asked about.
fn check_issuer(ca: PckCa, der: &[u8], chain: &[Certificate]) -> Result<(), Fault> {
    let list = Crl::parse(der).map_err(|source| CollateralError::X509 { what: PCK_CRL_WHAT, source })?;
    let issuer = chain.first().map(|certificate| (certificate.common_name.as_str(), &certificate.subject));
    let asked = ca.common_name();
    match issuer {
        Some((name, subject)) if *subject == list.issuer => {
            if name.ends_with(asked) {
                Ok(())
            } else {
                same(asked.to_owned(), name.to_owned())
            }
        }
        _ => same(asked.to_owned(), "a list of another issuer than its chain begins with".to_owned()),
    }
}

/// The certificate is of this chip at these levels.
fn check_vcek(
    certificate: &Certificate,
    product: Product,
    chip_id: &[u8; 64],
    tcb: [u8; 8],
) -> Result<(), Fault> {
    let key = EndorsementKey::from_certificate(certificate)?;
    let chip = |kind: SigningKey, product: Product, chip_id: Option<[u8; 64]>| {
        let id = chip_id.map_or_else(|| "no chip".to_owned(), |id| hex::encode(&id));
        format!("a {kind} of {product}, {id}")
    };
    same(
        chip(SigningKey::Vcek, product, Some(*chip_id)),
        chip(key.kind, key.product, key.hardware_id.map(|id| id.chip_id())),
    )?;
    same(TcbVersion::from_bytes(product, tcb).0.to_string(), key.tcb.to_string())
}

fn window(part: String, certificate: &Certificate) -> CollateralWindow {
    CollateralWindow { part, from: certificate.not_before, until: certificate.not_after }
}

/// The time that lies in both, named as the first.
fn narrower(one: CollateralWindow, other: CollateralWindow) -> CollateralWindow {
    CollateralWindow { from: one.from.max(other.from), until: one.until.min(other.until), ..one }
}

fn check_number(set: Set, found: u32) -> Result<(), Fault> {
    match set {
        Set::Number(asked) => {
            let number = |number| format!("tcbEvaluationDataNumber {number}");
            same(number(asked), number(found))
        }
        _ => Ok(()),
    }
}

fn same(asked: String, found: String) -> Result<(), Fault> {
    if asked == found { Ok(()) } else { Err(Fault::Other { asked, found }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_tell_what_is_in_the_file() {
        let all = [
            Wanted::RootCaCrl,
            Wanted::PckCrl(PckCa::Platform),
            Wanted::PckCrl(PckCa::Processor),
            Wanted::TcbInfo([0x90, 0xc0, 0x6f, 0, 0, 0xff], Set::Standard),
            Wanted::TcbInfo([0; 6], Set::Number(17)),
            Wanted::QeIdentity(Set::Early),
            Wanted::Vcek(Product::Turin, [0xab; 64], [1, 2, 3, 4, 0, 0, 0, 81]),
            Wanted::AmdChain(Product::Milan, SigningKey::Vcek),
            Wanted::AmdChain(Product::Genoa, SigningKey::Vlek),
            Wanted::AmdCrl(Product::Turin, SigningKey::Vlek),
        ];
        for wanted in all {
            let stem = wanted.file_stem();
            assert!(stem.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'), "{stem}");
            assert_eq!(Wanted::of_file_stem(&stem), Some(wanted), "{stem}");
        }
        for other in [
            "",
            "root",
            "pck-crl-",
            "tdx-tcb-info-90C06F0000ff-early",
            "tdx-qe-identity-017",
            "vcek",
            "vlek-crl-milan",
            "vcek-Milan-00-00",
        ] {
            assert_eq!(Wanted::of_file_stem(other), None, "{other}");
        }
    }
}
