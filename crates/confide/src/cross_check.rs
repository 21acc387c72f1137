//! `--cross-check`: what dcap-qvl, a verifier by other authors, finds for the same quote.
//!
//! It is asked for its findings alone: whether signatures and windows hold, and the TCB status. The verdict stays that
//! of `confide-verifier`, which rejects where the two differ. Nothing reaches it that nobody has signed: it is asked once
//! every signature of the quote and its collateral holds here, and a panic of it is a refusal.

use crate::input::ALGORITHMS;
use confide_client::{ClientBuilder, Question};
use confide_evidence::document::{CpuEvidence, Endorsements, EvidenceDocument, TdxCollateral};
use confide_evidence::pem;
use confide_evidence::record::{Finding, SecondOpinion, opinion_inputs};
use confide_evidence::x509::Certificate;
use confide_policy::AppraisalPolicy;
use confide_verifier::{AttestationResult, Inputs, Status, Subject, evaluate, rules};
use dcap_qvl::QuoteCollateralV3;
use dcap_qvl::config::{Config, CryptoProvider};
use dcap_qvl::signature::DerSigEncoder;
use dcap_qvl::verify::QuoteVerifier;
use dcap_qvl::x509::X509CertBackend;
use rustls_pki_types::{SignatureVerificationAlgorithm, UnixTime};
use sha2::{Digest as _, Sha256, Sha384};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Name and version of the second verifier, as in `Cargo.lock`.
const VERIFIER: &str = "dcap-qvl 0.7.1";
/// The most bytes of a refusal that a verdict and a record keep. The longest of dcap-qvl's have about 200.
const MAX_REFUSAL: usize = 1024;

/// Whether to ask.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct CrossCheck {
    /// Have dcap-qvl appraise the quote, too, and reject where the two differ
    #[arg(long)]
    cross_check: bool,
}

/// dcap-qvl's own parsers with this program's cryptography.
struct Native;

impl Config for Native {
    type X509 = X509CertBackend;
    type SigEncoder = DerSigEncoder;
    type Crypto = Native;
}

impl CryptoProvider for Native {
    fn sig_algo() -> &'static dyn SignatureVerificationAlgorithm {
        webpki::aws_lc_rs::ECDSA_P256_SHA256
    }

    fn sha256(data: &[u8]) -> [u8; 32] {
        Sha256::digest(data).into()
    }

    fn sha384(data: &[u8]) -> [u8; 48] {
        Sha384::digest(data).into()
    }
}

impl CrossCheck {
    /// The opinion on a bare quote, where one is asked for.
    pub(crate) fn on_quote(
        self,
        quote: &[u8],
        collateral: &TdxCollateral,
        policy: &AppraisalPolicy,
        now: UnixTime,
    ) -> Option<SecondOpinion> {
        self.cross_check.then(|| opinion(quote, collateral, policy, now))
    }

    /// The opinion on the quote of an evidence document, where one is asked for. There is none on a document that is
    /// malformed, has no TDX quote or comes without collateral: such a document is not accepted in any case.
    pub(crate) fn on_document(
        self,
        document: &[u8],
        endorsements: &Endorsements,
        policy: &AppraisalPolicy,
        now: UnixTime,
    ) -> Option<SecondOpinion> {
        let document = self.cross_check.then(|| EvidenceDocument::decode(document).ok())??;
        answer(&Question { document: &document, endorsements, policy, now })
    }

    /// Lets a client ask before each of its appraisals, where an opinion is asked for.
    pub(crate) fn watch(self, builder: ClientBuilder) -> ClientBuilder {
        if self.cross_check { builder.second_verifier(answer) } else { builder }
    }
}

fn answer(question: &Question<'_>) -> Option<SecondOpinion> {
    let CpuEvidence::Tdx { quote } = &question.document.cpu else { return None };
    let stapled = question.document.endorsements.as_ref().and_then(|stapled| stapled.tdx.as_ref());
    let collateral = question.endorsements.tdx.as_ref().or(stapled)?;
    Some(opinion(quote.as_bytes(), collateral, question.policy, question.now))
}

fn opinion(
    quote: &[u8],
    collateral: &TdxCollateral,
    policy: &AppraisalPolicy,
    now: UnixTime,
) -> SecondOpinion {
    let found = match unsigned(&ours(quote, collateral, policy, now)) {
        Some(why) => Finding::NotAsked(why),
        None => guarded(|| verify(quote, collateral, policy, now)),
    };
    let inputs = opinion_inputs(quote, collateral, now.as_secs());
    SecondOpinion { found, inputs, verifier: VERIFIER.to_owned() }
}

/// What this program's own verifier finds for the quote by itself.
fn ours(
    quote: &[u8],
    collateral: &TdxCollateral,
    policy: &AppraisalPolicy,
    now: UnixTime,
) -> AttestationResult {
    let endorsements = Endorsements { tdx: Some(collateral.clone()), ..Endorsements::default() };
    let inputs = Inputs {
        subject: Subject::Quote(quote),
        endorsements: &endorsements,
        prepared: None,
        prepared_devices: None,
        memo: None,
        second_opinion: None,
        references: None,
        policy,
        challenge: None,
        now,
        algorithms: &ALGORITHMS,
    };
    evaluate(&inputs).unwrap_or_else(|rejection| *rejection.result)
}

/// Why no signature vouches for the bytes, where that is so. The quote's own is the last one that is verified.
fn unsigned(ours: &AttestationResult) -> Option<String> {
    let code = rules::QUOTE_SIGNATURE.code;
    let signed = ours.checks.iter().any(|check| check.code == code && check.status == Status::Pass);
    let why =
        || format!("no signature vouches for the evidence, refused here by {}", ours.code.unwrap_or(code));
    (!signed).then(why)
}

/// The finding of another verifier, whose panics are refusals.
fn guarded(verify: impl FnOnce() -> Result<String, String>) -> Finding {
    let found = catch_unwind(AssertUnwindSafe(verify)).unwrap_or_else(|_| Err("it panicked".to_owned()));
    match found {
        Ok(status) => Finding::Status(status),
        Err(mut why) => {
            why.truncate(why.floor_char_boundary(MAX_REFUSAL));
            Finding::Refused(why)
        }
    }
}

/// Intel's status name, or why the quote is refused. Debug TDs and service TDs are the policy's to decide about.
fn verify(
    quote: &[u8],
    collateral: &TdxCollateral,
    policy: &AppraisalPolicy,
    now: UnixTime,
) -> Result<String, String> {
    let root =
        pinned_root(collateral, policy).ok_or("the collateral has no root certificate that is pinned")?;
    QuoteVerifier::<Native>::new_with_config(root)
        .allow_service_td(true)
        .allow_debug(true)
        .verify(quote, &theirs(collateral), now.as_secs())
        .map(|report| report.status)
        .map_err(|error| format!("{error:#}"))
}

/// The collateral's own root certificate, if its key is a trust anchor of the policy.
fn pinned_root(collateral: &TdxCollateral, policy: &AppraisalPolicy) -> Option<Vec<u8>> {
    let root = pem::certificates(collateral.pck_crl_issuer_chain.as_bytes()).ok()?.pop()?;
    let spki: [u8; 32] = Sha256::digest(Certificate::parse(&root).ok()?.spki).into();
    policy.tdx_roots().contains(&spki).then_some(root)
}

/// Without the optional PCK chain, which would take the place of the quote's own.
fn theirs(collateral: &TdxCollateral) -> QuoteCollateralV3 {
    QuoteCollateralV3 {
        pck_crl_issuer_chain: collateral.pck_crl_issuer_chain.clone(),
        root_ca_crl: collateral.root_ca_crl.as_bytes().to_vec(),
        pck_crl: collateral.pck_crl.as_bytes().to_vec(),
        tcb_info_issuer_chain: collateral.tcb_info_issuer_chain.clone(),
        tcb_info: collateral.tcb_info.clone(),
        tcb_info_signature: collateral.tcb_info_signature.as_bytes().to_vec(),
        qe_identity_issuer_chain: collateral.qe_identity_issuer_chain.clone(),
        qe_identity: collateral.qe_identity.clone(),
        qe_identity_signature: collateral.qe_identity_signature.as_bytes().to_vec(),
        pck_certificate_chain: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_of_the_second_verifier_is_a_refusal() {
        assert_eq!(guarded(|| panic!("a bug")), Finding::Refused("it panicked".to_owned()));
        assert_eq!(guarded(|| Ok("UpToDate".to_owned())), Finding::Status("UpToDate".to_owned()));
        assert_eq!(guarded(|| Err("no".to_owned())), Finding::Refused("no".to_owned()));
    }

    #[test]
    fn the_second_verifier_is_named_by_its_locked_version() {
        let (name, version) = VERIFIER.split_once(' ').unwrap();
        let locked = format!("name = \"{name}\"\nversion = \"{version}\"\n");
        assert!(include_str!("../../../Cargo.lock").contains(&locked));
    }
}
