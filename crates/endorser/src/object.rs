//! One endorsement: what is asked for, what came, and whether it is that.

use std::fmt;

use confide_evidence::hex;
use confide_evidence::pem::{self, PemError};
use confide_evidence::tdx::{
    CollateralError, CollateralWindow, QeIdentity, SignedObject, TcbInfo, crl_answer, crl_window,
    issuer_chain, qe_identity_answer, tcb_info_answer,
};
use confide_evidence::x509::{Certificate, Crl};

use crate::error::Fault;
use crate::fetch::{Answer, Get};
use crate::intel::{Intel, Set};
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
}

/// What came, in the form in which it is kept. It may be anything: [`Wanted::check`] reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Object {
    /// Lists as DER, signed objects as the whole answer.
    pub(crate) body: Vec<u8>,
    /// Issuer chain, PEM.
    pub(crate) chain: Option<String>,
}

const TCB_INFO_CHAIN: &str = "tcb-info-issuer-chain";
const QE_IDENTITY_CHAIN: &str = "sgx-enclave-identity-issuer-chain";
const PCK_CRL_CHAIN: &str = "sgx-pck-crl-issuer-chain";

const ROOT_CA_CRL_WHAT: &str = "root CA CRL";
const PCK_CRL_WHAT: &str = "PCK CRL";

impl Wanted {
    /// The request.
    pub(crate) fn request(self, intel: &Intel) -> Get<'_> {
        match self {
            Self::RootCaCrl => intel.root_ca_crl(),
            Self::PckCrl(ca) => intel.pck_crl(ca),
            Self::TcbInfo(fmspc, set) => intel.tcb_info(fmspc, set),
            Self::QeIdentity(set) => intel.qe_identity(set),
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
        })
    }

    /// Whether an object is what is asked for, and when it and its issuer chain are valid. No signature is verified.
    pub(crate) fn check(self, object: &Object) -> Result<CollateralWindow, Fault> {
        let chain = certificates(object)?;
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
        };
        Ok(chain.iter().fold(own, |window, certificate| CollateralWindow {
            from: window.from.max(certificate.not_before),
            until: window.until.min(certificate.not_after),
            ..window
        }))
    }

    /// A file name for it, without an extension.
    pub(crate) fn file_stem(self) -> String {
        match self {
            Self::RootCaCrl => "root-ca-crl".to_owned(),
            Self::PckCrl(ca) => format!("pck-crl-{ca}"),
            Self::TcbInfo(fmspc, set) => format!("tdx-tcb-info-{}-{set}", hex::encode(&fmspc)),
            Self::QeIdentity(set) => format!("tdx-qe-identity-{set}"),
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
        } else {
            Self::QeIdentity(stem.strip_prefix("tdx-qe-identity-")?.parse().ok()?)
        };
        (found.file_stem() == stem).then_some(found)
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RootCaCrl => f.write_str(ROOT_CA_CRL_WHAT),
            Self::PckCrl(ca) => write!(f, "{PCK_CRL_WHAT} of the {ca} CA"),
            Self::TcbInfo(fmspc, set) => write!(f, "TCB info of FMSPC {} ({set})", hex::encode(fmspc)),
            Self::QeIdentity(set) => write!(f, "QE identity ({set})"),
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

    /// The issuer chain, empty where there is none.
    pub(crate) fn chain(&self) -> &str {
        self.chain.as_deref().unwrap_or_default()
    }
}

fn certificates(object: &Object) -> Result<Vec<Certificate>, Fault> {
    let Some(chain) = &object.chain else { return Ok(Vec::new()) };
    let what = "the issuer chain";
    let chain = pem::certificates(chain.as_bytes())
        .map_err(|source: PemError| CollateralError::Chain { what, source })?;
    chain
        .iter()
        .map(|der| Certificate::parse(der).map_err(|source| CollateralError::X509 { what, source }.into()))
        .collect()
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
        ];
        for wanted in all {
            let stem = wanted.file_stem();
            assert!(stem.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'), "{stem}");
            assert_eq!(Wanted::of_file_stem(&stem), Some(wanted), "{stem}");
        }
        for other in ["", "root", "pck-crl-", "tdx-tcb-info-90C06F0000ff-early", "tdx-qe-identity-017"] {
            assert_eq!(Wanted::of_file_stem(other), None, "{other}");
        }
    }
}
