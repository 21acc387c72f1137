//! What NVIDIA's services are asked for, and whether an answer is that.

use std::fmt;

use bytes::Bytes;
use confide_evidence::hex;
use confide_evidence::nvidia::Rim;
use confide_evidence::ocsp::OcspResponse;
use confide_evidence::tdx::{CollateralWindow, crl_window};
use confide_evidence::x509::Crl;

use super::crl::NvidiaCrl;
use super::id::RimId;
use super::request::OcspSubject;
use super::rim::rim_document;
use super::service::Nvidia;
use super::store::slug;
use crate::error::Fault;
use crate::fetch::Ask;

/// How far a responder's clock may be ahead of this one's, in seconds: an answer is of the moment in which it was asked for.
const AHEAD: i64 = 300;

pub(super) const CRL_WHAT: &str = "the revocation list";

/// What NVIDIA's services are asked for.
#[derive(Clone, Copy, Debug)]
pub enum NvidiaObject<'a> {
    /// The RIM of an id.
    Rim(&'a RimId),
    /// An OCSP answer about a certificate.
    Ocsp(OcspSubject<'a>),
    /// A revocation list.
    Crl(NvidiaCrl),
}

/// What a file of a store holds, read.
#[derive(Clone, Debug)]
pub(super) enum Content {
    /// A RIM and the id under which it is kept.
    Rim(RimId, Box<Rim>),
    /// An OCSP answer.
    Ocsp(OcspResponse),
    /// A revocation list.
    Crl(Crl),
}

impl NvidiaObject<'_> {
    pub(super) fn request<'n>(&self, nvidia: &'n Nvidia) -> Ask<'n> {
        match self {
            Self::Rim(id) => nvidia.rim(id),
            Self::Ocsp(subject) => nvidia.ocsp(subject),
            Self::Crl(list) => nvidia.crl(*list),
        }
    }

    /// The object in an answer, which is what was asked for: its bytes and what they hold. No signature is verified.
    pub(super) fn read(&self, answer: &Bytes) -> Result<(Vec<u8>, Content), Fault> {
        match self {
            Self::Rim(id) => {
                let document = rim_document(id, answer)?;
                let rim = Rim::parse(&document)?;
                Ok((document, Content::Rim((*id).clone(), Box::new(rim))))
            }
            Self::Ocsp(subject) => {
                let response = OcspResponse::parse(answer)?;
                if response.single(&subject.certificate.serial, subject.issuer).is_none() {
                    let asked = format!("the certificate {}", hex::encode(&subject.certificate.serial));
                    return Err(Fault::Other { asked, found: about(&response) });
                }
                Ok((answer.to_vec(), Content::Ocsp(response)))
            }
            Self::Crl(list) => {
                crl_window(CRL_WHAT, answer)?;
                let crl = Crl::parse(answer)?;
                if !list.is_issued_by(&crl.issuer_common_name) {
                    let found = format!("a list of {}", crl.issuer_common_name);
                    return Err(Fault::Other { asked: list.issuer().to_owned(), found });
                }
                Ok((answer.to_vec(), Content::Crl(crl)))
            }
        }
    }

    /// Whether what a file holds is this object. For what it was kept as, is not asked: a certificate has many answers.
    pub(super) fn is(&self, content: &Content) -> bool {
        match (self, content) {
            (Self::Rim(id), Content::Rim(found, _)) => *id == found,
            (Self::Ocsp(subject), Content::Ocsp(response)) => {
                response.single(&subject.certificate.serial, subject.issuer).is_some()
            }
            (Self::Crl(list), Content::Crl(crl)) => list.is_issued_by(&crl.issuer_common_name),
            _ => false,
        }
    }
}

/// What an answer is about, for an error.
fn about(response: &OcspResponse) -> String {
    let serials: Vec<String> =
        response.responses.iter().map(|single| hex::encode(&single.cert_id.serial)).collect();
    format!("{} of perhaps another issuer", serials.join(", "))
}

impl Content {
    /// When it is valid: a RIM while its signer's certificate is, an answer or a list until the next one.
    pub(super) fn window(&self) -> CollateralWindow {
        let window = |part: String, from, until| CollateralWindow { part, from, until };
        match self {
            Self::Rim(id, rim) => {
                let [signer, ..] = &rim.certificates;
                window(format!("RIM {id}"), signer.not_before, signer.not_after)
            }
            Self::Ocsp(response) => {
                // Without a next update it is of its moment alone (RFC 6960 section 4.2.2.1).
                let until =
                    |one: &confide_evidence::ocsp::SingleResponse| one.next_update.unwrap_or(one.this_update);
                let from = response.responses.iter().map(|one| one.this_update).max();
                let until = response.responses.iter().map(until).min();
                let part = format!("OCSP answer about {}", self.group());
                window(part, from.unwrap_or(i64::MAX), until.unwrap_or(i64::MIN))
            }
            Self::Crl(crl) => {
                let until = crl.next_update.unwrap_or(crl.this_update);
                window(format!("CRL of {}", crl.issuer_common_name), crl.this_update, until)
            }
        }
    }

    /// The folder that it is kept in, beneath that of its kind: a file name.
    pub(super) fn group(&self) -> String {
        match self {
            Self::Rim(id, _) => id.to_string(),
            Self::Ocsp(response) => {
                let first = response.responses.first().map(|one| hex::encode(&one.cert_id.serial));
                first.unwrap_or_default()
            }
            Self::Crl(crl) => slug(&crl.issuer_common_name),
        }
    }
}

/// Whether an object is of the time `at`.
pub(super) fn check_window(window: &CollateralWindow, at: i64) -> Result<(), Fault> {
    let CollateralWindow { from, until, .. } = *window;
    if from.saturating_sub(AHEAD) <= at && at <= until {
        return Ok(());
    }
    Err(Fault::NotValid { from, until, at })
}

impl fmt::Display for NvidiaObject<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rim(id) => write!(f, "RIM {id}"),
            Self::Ocsp(subject) => subject.fmt(f),
            Self::Crl(list) => list.fmt(f),
        }
    }
}
