//! What NVIDIA says of devices: reference manifests, OCSP answers, revocation lists.

use super::chain;
use super::known::Known;
use crate::check::Checks;
use crate::result::Outcome;
use crate::rules;
use crate::signature::{Algorithms, SignatureFault};
use confide_evidence::document::NvidiaEndorsements;
use confide_evidence::nvidia::{DriverVersion, Rim, VbiosVersion};
use confide_evidence::ocsp::{OcspError, OcspResponse};
use confide_evidence::x509::Crl;
use sha2::{Digest as _, Sha256, Sha384};
use std::sync::{Arc, OnceLock};

/// NVIDIA's endorsements, parsed once to be used for many devices. Which signatures hold is remembered.
///
/// It carries no verdict about time or trust: windows and anchors are held against each appraisal's.
#[derive(Debug, Default)]
pub struct PreparedDevices {
    pub(super) manifests: Vec<Arc<Manifest>>,
    pub(super) answers: Vec<Answer>,
    /// Answers that say no more than that the responder has none.
    pub(super) unanswered: usize,
    pub(super) lists: Vec<List>,
    pub(super) known: Known,
    rim_fault: Option<Fault>,
    ocsp_fault: Option<Fault>,
    crl_fault: Option<Fault>,
}

/// An OCSP answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) response: OcspResponse,
    /// SHA-256 of the signed part, which is looked at for each certificate that it names.
    pub(super) digest: [u8; 32],
}

/// A revocation list.
#[derive(Debug)]
pub(super) struct List {
    pub(super) crl: Crl,
    /// SHA-256 of the signed part, which may be long and is looked at for each device.
    pub(super) digest: [u8; 32],
}

/// A reference integrity manifest. What holds of its bytes always is looked at once.
#[derive(Debug)]
pub(crate) struct Manifest {
    pub(super) rim: Rim,
    pub(super) of: Option<Firmware>,
    /// SHA-256 of the file, by which issues of one id are told apart.
    pub(super) sha256: [u8; 32],
    /// Whether the digest that is signed is that of the content.
    pub(super) digest_holds: Result<(), String>,
    /// Whether its certificates issue one another and may be used so.
    chain: OnceLock<Result<String, String>>,
    /// Whether the leaf has signed it.
    signature: OnceLock<Result<(), SignatureFault>>,
}

/// What tells endorsements apart: SHA-256 of everything in them.
#[derive(Debug)]
pub(crate) struct Fingerprint {
    /// Of each manifest, in order.
    pub(crate) manifests: Vec<[u8; 32]>,
    /// Of all of them.
    pub(crate) whole: [u8; 32],
}

impl Fingerprint {
    pub(crate) fn new(endorsements: &NvidiaEndorsements) -> Self {
        let NvidiaEndorsements { crls, ocsp, rims } = endorsements;
        let manifests: Vec<[u8; 32]> = rims.iter().map(|rim| Sha256::digest(rim.as_bytes()).into()).collect();
        let number = |length: usize| u64::try_from(length).unwrap_or(u64::MAX).to_be_bytes();
        let mut whole = Sha256::new();
        whole.update(number(manifests.len()));
        manifests.iter().for_each(|manifest| whole.update(manifest));
        for list in [ocsp, crls] {
            whole.update(number(list.len()));
            for bytes in list {
                whole.update(number(bytes.as_bytes().len()));
                whole.update(bytes.as_bytes());
            }
        }
        Self { manifests, whole: whole.finalize().into() }
    }
}

/// What a manifest has the measurements of, by the form of its version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Firmware {
    Driver(DriverVersion),
    Vbios(VbiosVersion),
}

#[derive(Debug)]
struct Fault {
    text: String,
    unsupported: Unsupported,
}

/// Whether what cannot be read is of another format, or broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unsupported {
    Yes,
    No,
}

impl PreparedDevices {
    /// Parses endorsements. What cannot be read is told by the verdict, which then rejects.
    #[must_use]
    pub fn new(endorsements: &NvidiaEndorsements) -> Self {
        Self::recalling(endorsements, &[])
    }

    /// As [`Self::new`], with those of the manifests that were read before, by their position.
    pub(crate) fn recalling(endorsements: &NvidiaEndorsements, recalled: &[Option<Arc<Manifest>>]) -> Self {
        let mut prepared = Self::default();
        for (index, bytes) in endorsements.rims.iter().enumerate() {
            if let Some(Some(manifest)) = recalled.get(index) {
                prepared.manifests.push(Arc::clone(manifest));
                continue;
            }
            match Manifest::parse(bytes.as_bytes()) {
                Ok(manifest) => prepared.manifests.push(Arc::new(manifest)),
                Err(fault) => keep(&mut prepared.rim_fault, "manifest", index, fault),
            }
        }
        for (index, bytes) in endorsements.ocsp.iter().enumerate() {
            match OcspResponse::parse(bytes.as_bytes()) {
                Ok(response) => {
                    let digest = Sha256::digest(&response.tbs).into();
                    prepared.answers.push(Answer { response, digest });
                }
                Err(OcspError::Unsuccessful(_)) => {
                    prepared.unanswered = prepared.unanswered.saturating_add(1);
                }
                Err(error) => {
                    let fault = Fault { text: error.to_string(), unsupported: Unsupported::No };
                    keep(&mut prepared.ocsp_fault, "answer", index, fault);
                }
            }
        }
        for (index, bytes) in endorsements.crls.iter().enumerate() {
            match Crl::parse(bytes.as_bytes()) {
                Ok(crl) => {
                    let digest = Sha256::digest(&crl.tbs).into();
                    prepared.lists.push(List { crl, digest });
                }
                Err(error) => {
                    let fault = Fault { text: error.to_string(), unsupported: Unsupported::No };
                    keep(&mut prepared.crl_fault, "list", index, fault);
                }
            }
        }
        prepared
    }

    /// The manifests whose chains and signatures are known to hold, by the SHA-256 of their files.
    pub(crate) fn verified_manifests(&self) -> impl Iterator<Item = ([u8; 32], &Arc<Manifest>)> {
        self.manifests
            .iter()
            .filter(|manifest| manifest.is_verified())
            .map(|manifest| (manifest.sha256, manifest))
    }

    /// Notes what was given, and how evidence ends that comes with endorsements that cannot be read.
    pub(super) fn note(&self, checks: &mut Checks) -> Option<Outcome> {
        let mut outcome = None;
        for (rule, count, what, fault) in [
            (&rules::RIM_FORMAT, self.manifests.len(), "manifests", &self.rim_fault),
            (
                &rules::OCSP_FORMAT,
                self.answers.len().saturating_add(self.unanswered),
                "answers",
                &self.ocsp_fault,
            ),
            (&rules::DEVICE_CRL_FORMAT, self.lists.len(), "lists", &self.crl_fault),
        ] {
            match fault {
                Some(Fault { text, unsupported }) => {
                    checks.fail(rule, text.clone());
                    outcome = outcome.or(Some(match unsupported {
                        Unsupported::Yes => Outcome::Unsupported,
                        Unsupported::No => Outcome::Malformed,
                    }));
                }
                None if count > 0 => checks.pass(rule, format!("{count} {what}")),
                None => {}
            }
        }
        outcome
    }
}

/// Keeps the first fault of a kind.
fn keep(first: &mut Option<Fault>, what: &str, index: usize, fault: Fault) {
    first.get_or_insert_with(|| Fault { text: format!("{what} {index}: {}", fault.text), ..fault });
}

impl Manifest {
    fn parse(bytes: &[u8]) -> Result<Self, Fault> {
        let rim = Rim::parse(bytes).map_err(|error| Fault {
            unsupported: if error.is_unsupported() { Unsupported::Yes } else { Unsupported::No },
            text: error.to_string(),
        })?;
        let version = &rim.colloquial_version;
        let driver = version.parse().map(Firmware::Driver);
        let of = driver.ok().or_else(|| version.parse().map(Firmware::Vbios).ok());
        let found: [u8; 48] = Sha384::digest(&rim.content).into();
        let digest_holds = if found == rim.digest {
            Ok(())
        } else {
            Err("the content was changed after it was signed: its digest is another one".to_owned())
        };
        Ok(Self {
            of,
            sha256: Sha256::digest(bytes).into(),
            digest_holds,
            chain: OnceLock::new(),
            signature: OnceLock::new(),
            rim,
        })
    }

    /// Whether its certificates issue one another and may be used so. Nothing here is about time or trust.
    pub(super) fn chain_holds(&self, known: &Known, algorithms: &Algorithms) -> Result<String, String> {
        let certificates = &self.rim.certificates;
        let verify = |_, issuer: &_, subject: &_| known.certificate(issuer, subject, algorithms);
        let look = || chain::signatures(certificates, verify).and_then(|_| chain::usage(certificates));
        self.chain.get_or_init(look).clone()
    }

    /// Whether its leaf has signed it.
    pub(super) fn signature_holds(
        &self,
        known: &Known,
        algorithms: &Algorithms,
    ) -> Result<(), SignatureFault> {
        let Rim { certificates: [leaf, ..], signed_info, signature, .. } = &self.rim;
        *self.signature.get_or_init(|| known.p384_raw(leaf, signed_info, signature, algorithms))
    }

    fn is_verified(&self) -> bool {
        self.digest_holds.is_ok()
            && matches!(self.chain.get(), Some(Ok(_)))
            && matches!(self.signature.get(), Some(Ok(())))
    }

    /// How verdicts call it: product, version and the first half of the file's SHA-256.
    pub(super) fn describe(&self) -> String {
        let Rim { product, colloquial_version, .. } = &self.rim;
        let (half, _) = self.sha256.split_at(16);
        format!("{product} {colloquial_version}, SHA-256 {}…", confide_evidence::hex::encode(half))
    }
}

/// Why the bytes of a manifest cannot be used, for those who read one file: nothing where they can.
#[must_use]
pub fn manifest_fault(bytes: &[u8]) -> Option<String> {
    Rim::parse(bytes).err().map(|error| error.to_string())
}
