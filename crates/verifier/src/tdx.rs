//! Appraisal of TDX quotes against DCAP collateral.
//!
//! Three stages. Authenticity of the collateral ([`PreparedCollateral`]) does not depend on time or quote and is kept
//! between appraisals. Authenticity of the quote follows. Both stop at the first signature that does not hold. Then come
//! windows, identities and the TCB levels that rest on both, and at last the policy's reference values. From the windows on
//! nothing stops: a failure is noted, what rests on it is not run, and everything else is reported.

mod origin;

pub(crate) use origin::origin;
pub use origin::verify_origin;

use crate::check::{Check, Checks, Rule, Status, Stop, told};
use crate::memo::{Known, Memo};
use crate::platform::{self, Coming, Horizon, Issued, PckCa};
use crate::references::{Choice, Columns, Found, Of};
use crate::result::PckResult;
use crate::rules;
use crate::signature::{Algorithms, SignatureFault};
use crate::tcb;
use crate::text::Text;
use confide_evidence::document::{EarlyTcb, TdxCollateral};
use confide_evidence::pem;
use confide_evidence::tdx::{
    PckError, PckExtension, QeIdentity, Quote, SeamAttributes, TcbInfo, Td15Extended, TdAttributes, TdReport,
    Xfam,
};
use confide_evidence::time::format_seconds;
use confide_evidence::x509::{Certificate, Crl, KeyAlgorithm};
use confide_policy::{
    AppraisalPolicy, Expect, ExpectBound, ExpectReference, ExtendedPolicy, HexBytes,
    INTEL_SGX_ROOT_SPKI_SHA256, QuotePolicy, TdxPolicy,
};
use sha2::{Digest as _, Sha256};
use std::sync::Arc;

/// SHA-256 of the Intel SGX Root CA certificate (serial 22650cd65a9d3489f383b49552bf501b392706ac): these very bytes need
/// no check of their self-signature.
const INTEL_SGX_ROOT_CERTIFICATE_SHA256: [u8; 32] = [
    0x44, 0xa0, 0x19, 0x6b, 0x2b, 0x99, 0xf8, 0x89, 0xb8, 0xe1, 0x49, 0xe9, 0x5b, 0x80, 0x7a, 0x35, 0x0e,
    0x74, 0x24, 0x96, 0x43, 0x99, 0xe8, 0x85, 0xa7, 0xcb, 0xb8, 0xcc, 0xfa, 0xb6, 0x74, 0xd3,
];

/// How the common names of Intel's TCB signing certificates end. The root has issued others besides, for other uses.
const TCB_SIGNING: &str = "SGX TCB Signing";
/// How the common names of PCK certificates end.
const PCK: &str = "SGX PCK Certificate";

/// What a TD 1.0 report says of MRSERVICETD.
const NO_SERVICE_TD: &str = "a TD 1.0 report, which does not state it";

/// Key usage and basic constraints, which [`is_ca`] and [`is_signer`] process.
pub(crate) const PROCESSED_EXTENSIONS: [&str; 2] = ["2.5.29.15", "2.5.29.19"];

/// What the rules of collateral and quote authenticity cover, for marking those not reached.
static AUTHENTICITY: &[&Rule] = &[
    &rules::COLLATERAL_FORMAT,
    &rules::ROOT_ANCHOR,
    &rules::ROOT_SIGNATURE,
    &rules::PCK_CA_SIGNATURE,
    &rules::TCB_SIGNER_SIGNATURE,
    &rules::ROOT_CRL_SIGNATURE,
    &rules::PCK_CRL_SIGNATURE,
    &rules::CA_REVOCATION,
    &rules::TCB_INFO_SIGNATURE,
    &rules::QE_IDENTITY_SIGNATURE,
    &rules::TCB_INFO_KIND,
    &rules::QE_IDENTITY_KIND,
    &rules::PCK_CHAIN_FORM,
    &rules::PCK_SIGNATURE,
    &rules::PCK_REVOCATION,
    &rules::PCK_EXTENSION,
    &rules::QE_REPORT_SIGNATURE,
    &rules::ATTESTATION_KEY_BINDING,
    &rules::QUOTE_SIGNATURE,
    &rules::VALIDITY,
    &rules::FMSPC,
    &rules::QE_IDENTITY,
    &rules::TDX_MODULE_IDENTITY,
    &rules::TCB_STATUS,
    &rules::PRESENT_TCB,
];

/// What rests on the TCB levels that were reached, and the module's identity, which rests on TCB info of its platform.
static OF_A_LEVEL: &[&Rule] =
    &[&rules::TDX_MODULE_IDENTITY, &rules::TCB_STATUS, &rules::PRESENT_TCB, &rules::EARLY_TCB_STATUS];

/// What the appraisal of a quote found, beside its checks.
#[derive(Debug, Clone, Default)]
pub(crate) struct QuoteFindings {
    /// Intel's status name, `NoMatchingTcbLevel`, or nothing where authenticity does not hold, a window is over, or the
    /// collateral is of something else.
    pub(crate) tcb_status: Option<&'static str>,
    /// Date of the platform's TCB level, seconds since the Unix epoch.
    pub(crate) tcb_date: Option<i64>,
    pub(crate) advisory_ids: Vec<String>,
    /// What the PCK certificate says, once every signature of the quote holds.
    pub(crate) pck: Option<PckResult>,
    /// The status by the early collateral, where that is given and usable.
    pub(crate) early_tcb_status: Option<&'static str>,
    /// The earliest end of a validity window, seconds since the Unix epoch.
    pub(crate) valid_until: Option<i64>,
    /// The chain ended in another anchor than Intel's.
    pub(crate) simulated: bool,
    /// The platform, once every signature of the quote holds and where the memo does not know all of it.
    pub(crate) platform: Option<Arc<Platform>>,
}

/// What a quote is appraised with, beside its collateral.
#[derive(Clone, Copy)]
pub(crate) struct Means<'a> {
    pub(crate) policy: &'a AppraisalPolicy,
    /// Seconds since the Unix epoch.
    pub(crate) now: i64,
    pub(crate) algorithms: &'a Algorithms,
    pub(crate) memo: Option<&'a Memo>,
}

/// A PCK certificate with the authorities that it was held against.
#[derive(Debug)]
pub(crate) struct Platform {
    pck: Certificate,
    extension: Result<PckExtension, PckError>,
    /// The PCK CA certificate.
    ca: Arc<Certificate>,
    root: Arc<Certificate>,
}

impl Platform {
    /// Whether the PCK certificate is the same. Of an ECDSA signature anybody can write a second form that holds as well.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.pck.tbs() == other.pck.tbs()
    }

    /// Whether the authorities are those of this collateral.
    pub(crate) fn is_under(&self, collateral: &PreparedCollateral) -> bool {
        let same =
            |contents: &Contents| self.ca.der == contents.pck_ca.der && self.root.der == contents.root.der;
        collateral.contents.as_ref().is_some_and(same)
    }
}

/// A validity window with a name, both ends inclusive, in seconds since the Unix epoch.
#[derive(Debug, Clone)]
pub(crate) struct Window {
    pub(crate) what: &'static str,
    pub(crate) not_before: i64,
    pub(crate) not_after: i64,
}

impl Window {
    pub(crate) fn of_certificate(what: &'static str, certificate: &Certificate) -> Self {
        Self { what, not_before: certificate.not_before, not_after: certificate.not_after }
    }
}

/// Collateral whose form and signatures have been checked once, to be used for many quotes.
///
/// It carries no verdict about time: windows are held against the time of each appraisal.
#[derive(Debug, Clone)]
pub struct PreparedCollateral {
    checks: Vec<Check>,
    /// The trust anchors that it was held against: under others it says nothing.
    anchors: Vec<[u8; 32]>,
    /// The chain ended in another anchor than Intel's, whether or not the rest holds.
    simulated: bool,
    contents: Option<Contents>,
}

#[derive(Debug, Clone)]
struct Contents {
    root: Arc<Certificate>,
    pck_ca: Arc<Certificate>,
    /// Base64 bodies of both in the collateral: a quote that repeats them needs no decoding.
    bodies: [String; 2],
    pck_crl: Crl,
    tcb_info: TcbInfo,
    qe_identity: QeIdentity,
    windows: Vec<Window>,
    root_crl_issued: i64,
    /// What the next TCB recovery brings, or why it is unusable.
    early: Result<Early, Text>,
}

/// The early set of TCB info and QE identity, whose signatures hold.
#[derive(Debug, Clone)]
struct Early {
    tcb_info: TcbInfo,
    qe_identity: QeIdentity,
    windows: [Window; 2],
}

impl Contents {
    fn issued(&self) -> Issued {
        Issued {
            tcb_info: self.tcb_info.issue_date,
            qe_identity: self.qe_identity.issue_date,
            pck_crl: self.pck_crl.this_update,
            root_crl: self.root_crl_issued,
            tcb_info_number: self.tcb_info.tcb_evaluation_data_number,
            qe_identity_number: self.qe_identity.tcb_evaluation_data_number,
        }
    }
}

impl PreparedCollateral {
    /// Checks form, chains and signatures of collateral, up to a root whose key `policy` accepts.
    ///
    /// Every appraisal whose policy has other trust anchors refuses it.
    #[must_use]
    pub fn new(collateral: &TdxCollateral, policy: &AppraisalPolicy, algorithms: &Algorithms) -> Self {
        let mut checks = Checks::default();
        let (anchors, mut simulated) = (policy.tdx_roots(), false);
        let contents = prepare(collateral, &anchors, algorithms, &mut checks, &mut simulated).ok();
        Self { checks: checks.into_shared_list(), anchors, simulated, contents }
    }

    /// Whether it was held against these trust anchors.
    pub(crate) fn is_under(&self, anchors: &[[u8; 32]]) -> bool {
        self.anchors == anchors
    }
}

/// The chains and lists of collateral, parsed.
struct Parsed {
    root: Arc<Certificate>,
    pck_ca: Arc<Certificate>,
    bodies: [String; 2],
    tcb_signer: Arc<Certificate>,
    tcb_root: Arc<Certificate>,
    qe_signer: Arc<Certificate>,
    qe_root: Arc<Certificate>,
    root_crl: Crl,
    pck_crl: Crl,
}

fn prepare(
    collateral: &TdxCollateral,
    roots: &[[u8; 32]],
    algorithms: &Algorithms,
    checks: &mut Checks,
    simulated: &mut bool,
) -> Result<Contents, Stop> {
    let parsed = checks.need(&rules::COLLATERAL_FORMAT, parse(collateral), |_| "well formed".to_owned())?;
    *simulated = anchor(&parsed, roots, checks)? != INTEL_SGX_ROOT_SPKI_SHA256;
    root_signature(&parsed.root, algorithms, checks)?;
    chains(&parsed, algorithms, checks)?;
    signed_objects(collateral, &parsed, algorithms, checks)?;
    let tcb_info = checks.need(&rules::TCB_INFO_KIND, tcb_info(&collateral.tcb_info), |info| {
        format!("TCB info of evaluation data number {}", info.tcb_evaluation_data_number)
    })?;
    let qe_identity =
        checks.need(&rules::QE_IDENTITY_KIND, qe_identity(&collateral.qe_identity), |identity| {
            format!("QE identity of evaluation data number {}", identity.tcb_evaluation_data_number)
        })?;
    let windows = windows(&parsed, &tcb_info, &qe_identity);
    let early = early(collateral, &parsed, algorithms);
    let Parsed { root, pck_ca, bodies, pck_crl, root_crl, .. } = parsed;
    let root_crl_issued = root_crl.this_update;
    Ok(Contents { root, pck_ca, bodies, pck_crl, tcb_info, qe_identity, windows, root_crl_issued, early })
}

fn parse(collateral: &TdxCollateral) -> Result<Parsed, String> {
    let mut chains = Chains::default();
    let [(pck_ca, ca_body), (root, root_body)] =
        chains.parse("the PCK CRL issuer chain", &collateral.pck_crl_issuer_chain)?;
    let [(tcb_signer, _), (tcb_root, _)] =
        chains.parse("the TCB info issuer chain", &collateral.tcb_info_issuer_chain)?;
    let [(qe_signer, _), (qe_root, _)] =
        chains.parse("the QE identity issuer chain", &collateral.qe_identity_issuer_chain)?;
    let crl = |what: &str, der: &[u8]| Crl::parse(der).map_err(|error| format!("{what}: {error}"));
    Ok(Parsed {
        root,
        pck_ca,
        bodies: [ca_body.to_owned(), root_body.to_owned()],
        tcb_signer,
        tcb_root,
        qe_signer,
        qe_root,
        root_crl: crl("the root CRL", collateral.root_ca_crl.as_bytes())?,
        pck_crl: crl("the PCK CRL", collateral.pck_crl.as_bytes())?,
    })
}

/// Chains of collateral. They repeat their root, and often a whole chain: each certificate is read once.
#[derive(Default)]
struct Chains<'c> {
    /// By the base64 body.
    known: Vec<(&'c str, Arc<Certificate>)>,
}

impl<'c> Chains<'c> {
    /// The certificates of a chain of `N`, each with its base64 body.
    fn parse<const N: usize>(
        &mut self,
        what: &str,
        text: &'c str,
    ) -> Result<[(Arc<Certificate>, &'c str); N], String> {
        let bodies = pem::bodies(text.as_bytes()).map_err(|error| format!("{what}: {error}"))?;
        let certificates: Vec<_> = bodies
            .into_iter()
            .map(|body| Ok((self.certificate(body)?, body)))
            .collect::<Result<_, String>>()
            .map_err(|error| format!("{what}: {error}"))?;
        let found = certificates.len();
        certificates.try_into().map_err(|_| format!("{what} has {found} certificates, expected {N}"))
    }

    fn certificate(&mut self, body: &'c str) -> Result<Arc<Certificate>, String> {
        if let Some((_, known)) = self.known.iter().find(|(known, _)| *known == body) {
            return Ok(Arc::clone(known));
        }
        let der = pem::base64(body).map_err(|error| error.to_string())?;
        let certificate = Arc::new(Certificate::parse(&der).map_err(|error| error.to_string())?);
        self.known.push((body, Arc::clone(&certificate)));
        Ok(certificate)
    }
}

/// The root's key is pinned, and all chains end in the same root. Gives the SHA-256 of its SubjectPublicKeyInfo.
fn anchor(parsed: &Parsed, roots: &[[u8; 32]], checks: &mut Checks) -> Result<[u8; 32], Stop> {
    let root = &parsed.root;
    let spki: [u8; 32] = Sha256::digest(&root.spki).into();
    let pinned = if !roots.contains(&spki) {
        Err(format!("{} with SPKI SHA-256 {}", root.common_name, HexBytes(spki)))
    } else if parsed.tcb_root.der != root.der || parsed.qe_root.der != root.der {
        Err("the collateral's chains end in different root certificates".to_owned())
    } else {
        Ok(())
    };
    checks.need(&rules::ROOT_ANCHOR, pinned, |()| root.common_name.clone())?;
    Ok(spki)
}

fn root_signature(root: &Certificate, algorithms: &Algorithms, checks: &mut Checks) -> Result<(), Stop> {
    let known = <[u8; 32]>::from(Sha256::digest(&root.der)) == INTEL_SGX_ROOT_CERTIFICATE_SHA256;
    let signed = if known { Ok(()) } else { issued_by(root, root, algorithms) };
    checks.need(&rules::ROOT_SIGNATURE, signed, |()| "self-signed".to_owned())
}

fn chains(parsed: &Parsed, algorithms: &Algorithms, checks: &mut Checks) -> Result<(), Stop> {
    let Parsed { root, pck_ca, tcb_signer, qe_signer, root_crl, pck_crl, .. } = parsed;
    let ca = issued_in_profile(root, pck_ca, algorithms)
        .and_then(|()| is_ca(pck_ca))
        .and_then(|()| PckCa::named(&pck_ca.common_name).map(drop));
    checks.need(&rules::PCK_CA_SIGNATURE, ca, |()| pck_ca.common_name.clone())?;
    let signer = issued_in_profile(root, tcb_signer, algorithms)
        .and_then(|()| {
            if qe_signer.der == tcb_signer.der {
                Ok(())
            } else {
                issued_in_profile(root, qe_signer, algorithms)
            }
        })
        .and_then(|()| is_signer(tcb_signer, TCB_SIGNING))
        .and_then(|()| is_signer(qe_signer, TCB_SIGNING));
    checks.need(&rules::TCB_SIGNER_SIGNATURE, signer, |()| tcb_signer.common_name.clone())?;
    let list = names_key_of(root, "the list", root_crl.authority_key_id.as_deref())
        .and_then(|()| list_issued_by(root, root_crl, algorithms));
    checks.need(&rules::ROOT_CRL_SIGNATURE, list, |()| issued_on(root_crl))?;
    let list = names_key_of(pck_ca, "the list", pck_crl.authority_key_id.as_deref())
        .and_then(|()| list_issued_by(pck_ca, pck_crl, algorithms));
    checks.need(&rules::PCK_CRL_SIGNATURE, list, |()| issued_on(pck_crl))?;
    let revoked =
        [pck_ca, tcb_signer, qe_signer].into_iter().find(|certificate| root_crl.revokes(&certificate.serial));
    let revoked = match revoked {
        Some(certificate) => Err(format!("{} is revoked", certificate.common_name)),
        None => Ok(()),
    };
    checks.need(&rules::CA_REVOCATION, revoked, |()| "none is revoked".to_owned())
}

fn issued_on(list: &Crl) -> String {
    let number =
        list.number.as_deref().map(|number| format!(", number {}", confide_evidence::hex::encode(number)));
    format!("issued {}{}", format_seconds(list.this_update), number.unwrap_or_default())
}

/// As [`issued_by`], of a certificate that names its issuer's key as well (Intel SGX PCK Certificate and CRL Profile 1.5,
/// section 1.3).
fn issued_in_profile(
    issuer: &Certificate,
    subject: &Certificate,
    algorithms: &Algorithms,
) -> Result<(), String> {
    names_key_of(issuer, &subject.common_name, subject.authority_key_id())
        .and_then(|()| issued_by(issuer, subject, algorithms))
}

/// Every certificate and list of Intel's names the key that signs it, by the identifier that the key's certificate has.
fn names_key_of(issuer: &Certificate, what: &str, named: Option<&[u8]>) -> Result<(), String> {
    match (named, issuer.subject_key_id()) {
        (Some(named), Some(key)) if named == key => Ok(()),
        (Some(_), Some(_)) => Err(format!("{what} names another key than that of {}", issuer.common_name)),
        (None, _) => Err(format!("{what} does not name the key of its issuer")),
        (_, None) => Err(format!("{} does not name its own key", issuer.common_name)),
    }
}

fn signed_objects(
    collateral: &TdxCollateral,
    parsed: &Parsed,
    algorithms: &Algorithms,
    checks: &mut Checks,
) -> Result<(), Stop> {
    let TdxCollateral { tcb_info, tcb_info_signature, qe_identity, qe_identity_signature, .. } = collateral;
    let signed = signed_json(&parsed.tcb_signer, tcb_info, tcb_info_signature.as_bytes(), algorithms);
    checks.need(&rules::TCB_INFO_SIGNATURE, signed, |()| "verified".to_owned())?;
    let signed = signed_json(&parsed.qe_signer, qe_identity, qe_identity_signature.as_bytes(), algorithms);
    checks.need(&rules::QE_IDENTITY_SIGNATURE, signed, |()| "verified".to_owned())
}

fn signed_json(
    signer: &Certificate,
    text: &str,
    signature: &[u8; 64],
    algorithms: &Algorithms,
) -> Result<(), String> {
    p256_key(signer)
        .and_then(|()| algorithms.p256_raw_point(&signer.public_key, text.as_bytes(), signature))
        .map_err(|fault| fault.describe().to_owned())
}

/// The early set, under the signing certificates of the standard one. It decides nothing unless the policy asks for it, so
/// that what is wrong with it is kept beside the collateral and does not spoil that.
fn early(collateral: &TdxCollateral, parsed: &Parsed, algorithms: &Algorithms) -> Result<Early, Text> {
    let Some(early) = &collateral.early else { return Err("no early collateral was given".into()) };
    let EarlyTcb { tcb_info: info, tcb_info_signature, qe_identity: identity, qe_identity_signature } = early;
    let of = |what: &str, fault: String| Text::from(format!("early {what}: {fault}")).shared();
    signed_json(&parsed.tcb_signer, info, tcb_info_signature.as_bytes(), algorithms)
        .map_err(|fault| of("TCB info", fault))?;
    signed_json(&parsed.qe_signer, identity, qe_identity_signature.as_bytes(), algorithms)
        .map_err(|fault| of("QE identity", fault))?;
    let tcb_info = tcb_info(info).map_err(|fault| of("TCB info", fault))?;
    let qe_identity = qe_identity(identity).map_err(|fault| of("QE identity", fault))?;
    let windows = [
        Window {
            what: "the early TCB info",
            not_before: tcb_info.issue_date,
            not_after: tcb_info.next_update,
        },
        Window {
            what: "the early QE identity",
            not_before: qe_identity.issue_date,
            not_after: qe_identity.next_update,
        },
    ];
    Ok(Early { tcb_info, qe_identity, windows })
}

impl Early {
    /// What this set makes of a platform, if it is of the present day and no earlier than the standard set: a host could
    /// give an older one, which knows of nothing that is coming.
    fn assess(
        &self,
        quote: &Quote<'_>,
        extension: &PckExtension,
        standard: &Issued,
        policy: &AppraisalPolicy,
        now: i64,
    ) -> Result<Coming, Text> {
        let (report, info, identity) = (&quote.signature.qe_report, &self.tcb_info, &self.qe_identity);
        in_windows(|| self.windows.iter(), now)?;
        let number = info.tcb_evaluation_data_number;
        for (what, early, standard) in [
            ("TCB info", number, standard.tcb_info_number),
            ("QE identity", identity.tcb_evaluation_data_number, standard.qe_identity_number),
        ] {
            if early < standard {
                return Err(format!(
                    "early {what} of evaluation data number {early}, the standard one has {standard}"
                )
                .into());
            }
        }
        let mut until = self.windows.iter().map(|window| window.not_after).min().unwrap_or(now);
        for (window, limit) in
            self.windows.iter().zip([&policy.tdx.tcb_info_age, &policy.tdx.qe_identity_age])
        {
            let Some(end) = limit.seconds().map(|limit| window.not_before.saturating_add(limit)) else {
                continue;
            };
            if now > end {
                return Err(format!("{} is older than the policy allows", window.what).into());
            }
            until = until.min(end);
        }
        covers(info, extension)?;
        tcb::qe_matches(report, identity)?;
        tcb::module_matches(&quote.report, info)?;
        let assessment = tcb::assess(&quote.report, report, extension, info, identity);
        let same_numbers = [number, identity.tcb_evaluation_data_number]
            == [standard.tcb_info_number, standard.qe_identity_number];
        Ok(Coming { assessment, number, same_numbers, until })
    }
}

fn p256_key(certificate: &Certificate) -> Result<(), SignatureFault> {
    if certificate.key_algorithm == KeyAlgorithm::P256 { Ok(()) } else { Err(SignatureFault::Algorithm) }
}

fn tcb_info(json: &str) -> Result<TcbInfo, String> {
    let info = TcbInfo::parse(json).map_err(|error| error.to_string())?;
    match (info.id.as_str(), info.version, info.tcb_type) {
        ("TDX", 3, 0) => Ok(info),
        (id, version, kind) => Err(format!("id {id}, version {version}, type {kind}")),
    }
}

fn qe_identity(json: &str) -> Result<QeIdentity, String> {
    let identity = QeIdentity::parse(json).map_err(|error| error.to_string())?;
    match (identity.id.as_str(), identity.version) {
        ("TD_QE", 2) => Ok(identity),
        (id, version) => Err(format!("id {id}, version {version}")),
    }
}

fn windows(parsed: &Parsed, tcb_info: &TcbInfo, qe_identity: &QeIdentity) -> Vec<Window> {
    // RFC 5280 section 5.1.2.5 makes nextUpdate mandatory in this profile: a list without it is never current.
    let of_list = |what, list: &Crl| Window {
        what,
        not_before: list.this_update,
        not_after: list.next_update.unwrap_or(i64::MIN),
    };
    vec![
        Window::of_certificate("the root certificate", &parsed.root),
        Window::of_certificate("the PCK CA certificate", &parsed.pck_ca),
        Window::of_certificate("the TCB signing certificate", &parsed.tcb_signer),
        Window::of_certificate("the QE identity signing certificate", &parsed.qe_signer),
        of_list("the root CRL", &parsed.root_crl),
        of_list("the PCK CRL", &parsed.pck_crl),
        Window { what: "TCB info", not_before: tcb_info.issue_date, not_after: tcb_info.next_update },
        Window {
            what: "QE identity",
            not_before: qe_identity.issue_date,
            not_after: qe_identity.next_update,
        },
    ]
}

pub(crate) fn issued_by(
    issuer: &Certificate,
    subject: &Certificate,
    algorithms: &Algorithms,
) -> Result<(), String> {
    if subject.issuer != issuer.subject {
        return Err(format!("{} names another issuer than {}", subject.common_name, issuer.common_name));
    }
    is_ca(issuer)?;
    understood(subject, &PROCESSED_EXTENSIONS)?;
    algorithms
        .certificate(issuer, subject)
        .map_err(|fault| format!("{}: {}", subject.common_name, fault.describe()))
}

/// RFC 5280 section 4.2: a critical extension that is not processed is a refusal.
pub(crate) fn understood(certificate: &Certificate, processed: &[&str]) -> Result<(), String> {
    let mut extensions = certificate.extensions.iter();
    match extensions.find(|found| found.critical && !processed.contains(&found.oid.as_ref())) {
        Some(found) => Err(format!("{} has the critical extension {}", certificate.common_name, found.oid)),
        None => Ok(()),
    }
}

pub(crate) fn is_ca(certificate: &Certificate) -> Result<(), String> {
    let signs = certificate.key_usage.is_some_and(|usage| usage.key_cert_sign);
    let ca = certificate.basic_constraints.is_some_and(|constraints| constraints.ca);
    if signs && ca { Ok(()) } else { Err(format!("{} is not a CA certificate", certificate.common_name)) }
}

/// A certificate for signatures, with the end of its common name that says of what.
fn is_signer(certificate: &Certificate, name: &str) -> Result<(), String> {
    if !certificate.common_name.ends_with(name) {
        return Err(format!("{} is no certificate of {name}", certificate.common_name));
    }
    let signs = certificate.key_usage.is_some_and(|usage| usage.digital_signature);
    let ca = certificate.basic_constraints.is_some_and(|constraints| constraints.ca);
    if signs && !ca {
        Ok(())
    } else {
        Err(format!("{} is not a signing certificate", certificate.common_name))
    }
}

pub(crate) fn list_issued_by(
    issuer: &Certificate,
    list: &Crl,
    algorithms: &Algorithms,
) -> Result<(), String> {
    if list.issuer != issuer.subject {
        return Err(format!("issued by another CA than {}", issuer.common_name));
    }
    if !issuer.key_usage.is_some_and(|usage| usage.crl_sign) {
        return Err(format!("{} may not sign revocation lists", issuer.common_name));
    }
    if let Some(oid) = list.critical_extensions.first() {
        return Err(format!("a critical extension {oid} that is not understood"));
    }
    algorithms
        .issued(issuer, list.signature_algorithm, &list.tbs, &list.signature)
        .map_err(|fault| fault.describe().to_owned())
}

/// Appraises a quote: authenticity, windows, identities, TCB status. The policy's reference values are
/// [`reference_values`]. It has ended early where a signature or what signatures rest on does not hold, and nothing that
/// the quote says counts then.
pub(crate) fn appraise_quote(
    quote: &Quote<'_>,
    collateral: &PreparedCollateral,
    means: &Means<'_>,
    checks: &mut Checks,
) -> (QuoteFindings, Result<(), Stop>) {
    let mut findings = QuoteFindings { simulated: collateral.simulated, ..QuoteFindings::default() };
    let ended = match &collateral.contents {
        _ if !collateral.is_under(&means.policy.tdx_roots()) => {
            checks.fail(&rules::ROOT_ANCHOR, "collateral that was prepared under other trust anchors");
            Err(Stop)
        }
        None => {
            checks.extend(&collateral.checks);
            Err(Stop)
        }
        Some(contents) => {
            checks.extend(&collateral.checks);
            let known = means.memo.and_then(|memo| memo.platform(quote, collateral));
            appraise_with(quote, contents, known, means, checks, &mut findings)
        }
    };
    if ended.is_err() {
        checks.not_reached(AUTHENTICITY);
    }
    (findings, ended)
}

fn appraise_with(
    quote: &Quote<'_>,
    contents: &Contents,
    known: Option<Known>,
    means: &Means<'_>,
    checks: &mut Checks,
    findings: &mut QuoteFindings,
) -> Result<(), Stop> {
    let Means { policy, now, algorithms, .. } = *means;
    let platform = pck_certificate(quote, contents, known.as_ref(), algorithms, checks)?;
    let (extension, ca) = pck_extension(&platform, contents, checks)?;
    quote_signatures(quote, &platform.pck, known.as_ref(), algorithms, checks)?;
    findings.pck = Some(platform::result(extension, ca));
    if !known.is_some_and(|known| known.enclave) {
        findings.platform = Some(Arc::clone(&platform));
    }
    let of_pck = Window::of_certificate("the PCK certificate", &platform.pck);
    let windows = || contents.windows.iter().chain([&of_pck]);
    findings.valid_until = windows().map(|window| window.not_after).min();
    let founded = standing(quote, contents, extension, in_windows(windows, now), checks);
    let (mut horizon, issued) = (Horizon(findings.valid_until), contents.issued());
    if founded {
        let report = &quote.signature.qe_report;
        let assessment =
            tcb::assess(&quote.report, report, extension, &contents.tcb_info, &contents.qe_identity);
        findings.tcb_status = Some(assessment.status_name());
        findings.tcb_date = assessment.date;
        platform::tcb_status(&assessment, policy, now, &mut horizon, checks);
        platform::present_tcb(tcb::present(&quote.report, &assessment), checks);
        let early = contents.early.as_ref().map_err(Clone::clone);
        let early = early.and_then(|early| early.assess(quote, extension, &issued, policy, now));
        findings.early_tcb_status = platform::early(&assessment, early, policy, &mut horizon, checks);
        findings.advisory_ids = assessment.advisory_ids;
    } else {
        checks.not_reached(OF_A_LEVEL);
    }
    platform::collateral(&issued, policy, now, &mut horizon, checks);
    platform::hardware(extension, policy, checks);
    platform::kind(extension, policy, checks);
    findings.valid_until = horizon.0;
    Ok(())
}

/// Whether TCB levels can be read off: the time lies in all windows, and collateral, quoting enclave and TDX module belong
/// together. No signature fails where one of these does: it is noted, and everything is looked at that does not rest on it.
fn standing(
    quote: &Quote<'_>,
    contents: &Contents,
    extension: &PckExtension,
    current: Result<Text, String>,
    checks: &mut Checks,
) -> bool {
    let current = checks.need_text(&rules::VALIDITY, current);
    let covered = checks.need_text(&rules::FMSPC, covers(&contents.tcb_info, extension));
    let enclave = tcb::qe_matches(&quote.signature.qe_report, &contents.qe_identity);
    let enclave = checks.need_text(&rules::QE_IDENTITY, enclave);
    // TCB info of another platform says nothing of this one's module.
    let module = covered.and_then(|()| {
        let module = tcb::module_matches(&quote.report, &contents.tcb_info);
        checks.need_text(&rules::TDX_MODULE_IDENTITY, module)
    });
    [current, enclave, module].iter().all(Result::is_ok)
}

/// What the PCK certificate says of the platform, if it says what certificates of its CA do.
fn pck_extension<'p>(
    platform: &'p Platform,
    contents: &Contents,
    checks: &mut Checks,
) -> Result<(&'p PckExtension, PckCa), Stop> {
    let found = platform.extension.as_ref().map_err(ToString::to_string).and_then(|extension| {
        let ca = PckCa::named(&contents.pck_ca.common_name)?;
        platform::fits_its_ca(extension, ca)?;
        Ok((extension, ca))
    });
    checks.need(&rules::PCK_EXTENSION, found, |(extension, ca)| {
        let (fmspc, pce_id, ca) = (HexBytes(extension.fmspc), HexBytes(extension.pce_id), ca.name());
        Text::later(move || format!("FMSPC {fmspc}, PCEID {pce_id}, {ca} CA"))
    })
}

/// The quote's own chain: PCK certificate, the collateral's PCK CA, the collateral's root. What is known of these very
/// bytes is not computed again; revocation is asked each time.
fn pck_certificate(
    quote: &Quote<'_>,
    contents: &Contents,
    known: Option<&Known>,
    algorithms: &Algorithms,
    checks: &mut Checks,
) -> Result<Arc<Platform>, Stop> {
    let found = match known {
        Some(known) => Ok(Arc::clone(&known.platform)),
        None => pck_chain(quote, contents).map(Arc::new),
    };
    let platform = checks.need(&rules::PCK_CHAIN_FORM, found, |platform| {
        let platform = Arc::clone(platform);
        Text::later(move || platform.pck.common_name.clone())
    })?;
    let pck = &platform.pck;
    let signed = match known {
        Some(_) => Ok(()),
        None => issued_in_profile(&contents.pck_ca, pck, algorithms).and_then(|()| is_signer(pck, PCK)),
    };
    checks.need(&rules::PCK_SIGNATURE, signed, |()| {
        let ca = Arc::clone(&contents.pck_ca);
        Text::later(move || format!("issued by {}", ca.common_name))
    })?;
    let revoked = if contents.pck_crl.revokes(&pck.serial) {
        Err(format!("serial {} is revoked", confide_evidence::hex::encode(&pck.serial)))
    } else {
        Ok(())
    };
    checks.need(&rules::PCK_REVOCATION, revoked, |()| "not revoked")?;
    Ok(platform)
}

fn pck_chain(quote: &Quote<'_>, contents: &Contents) -> Result<Platform, String> {
    let bodies = pem::bodies(quote.signature.pck_chain).map_err(|error| error.to_string())?;
    let [pck, ca, root]: [&str; 3] =
        bodies.try_into().map_err(|bodies: Vec<_>| format!("{} certificates", bodies.len()))?;
    let [ca_body, root_body] = &contents.bodies;
    let (ca_der, root_der) = (&contents.pck_ca.der, &contents.root.der);
    if !is_same(root, root_body, root_der)? {
        return Err("another root certificate than the collateral's".to_owned());
    }
    if !is_same(ca, ca_body, ca_der)? {
        return Err("another PCK CA certificate than the collateral's".to_owned());
    }
    let pck = pem::base64(pck).map_err(|error| error.to_string())?;
    let pck = Certificate::parse_owned(pck).map_err(|error| error.to_string())?;
    if pck.key_algorithm != KeyAlgorithm::P256 {
        return Err("a PCK that is not on P-256".to_owned());
    }
    let extension = PckExtension::from_certificate(&pck);
    Ok(Platform { pck, extension, ca: Arc::clone(&contents.pck_ca), root: Arc::clone(&contents.root) })
}

/// Whether a base64 body is that of a certificate, which is known by one body and its DER.
fn is_same(body: &str, known: &str, der: &[u8]) -> Result<bool, String> {
    Ok(body == known || pem::base64(body).map_err(|error| error.to_string())? == der)
}

fn quote_signatures(
    quote: &Quote<'_>,
    pck: &Certificate,
    known: Option<&Known>,
    algorithms: &Algorithms,
    checks: &mut Checks,
) -> Result<(), Stop> {
    let signature = &quote.signature;
    let enclave_known = known.is_some_and(|known| known.enclave);
    let qe_report = if enclave_known {
        Ok(())
    } else {
        let (report, signed) = (signature.qe_report_bytes, signature.qe_report_signature);
        algorithms.p256_raw_point(&pck.public_key, report, signed).map_err(SignatureFault::describe)
    };
    checks.need(&rules::QE_REPORT_SIGNATURE, qe_report, |()| "verified")?;
    let binding = if enclave_known { Ok(()) } else { key_binding(quote) };
    checks.need(&rules::ATTESTATION_KEY_BINDING, binding, |()| "bound")?;
    let body = algorithms
        .p256_raw(signature.attestation_key, quote.signed, signature.quote_signature)
        .map_err(SignatureFault::describe);
    checks.need(&rules::QUOTE_SIGNATURE, body, |()| "verified")
}

fn key_binding(quote: &Quote<'_>) -> Result<(), &'static str> {
    let signature = &quote.signature;
    let digest =
        Sha256::new().chain_update(signature.attestation_key).chain_update(signature.qe_auth_data).finalize();
    let (bound, rest) = signature.qe_report.report_data.split_at(32);
    if bound != digest.as_slice() {
        return Err("the QE report binds another attestation key");
    }
    if rest.iter().any(|byte| *byte != 0) {
        return Err("the second half of the QE report data is not zero");
    }
    Ok(())
}

pub(crate) fn in_windows<'w, I: Iterator<Item = &'w Window>>(
    windows: impl Fn() -> I,
    now: i64,
) -> Result<Text, String> {
    for window in windows() {
        if now < window.not_before {
            let start = format_seconds(window.not_before);
            return Err(format!("at {}, {} begins at {start}", format_seconds(now), window.what));
        }
        if now > window.not_after {
            let end = format_seconds(window.not_after);
            return Err(format!("at {}, {} ended at {end}", format_seconds(now), window.what));
        }
    }
    let earliest = windows().min_by_key(|window| window.not_after);
    let (what, end) = earliest.map_or(("nothing", now), |window| (window.what, window.not_after));
    Ok(Text::later(move || {
        format!("at {}, {what} is the first to end, at {}", format_seconds(now), format_seconds(end))
    }))
}

fn covers(info: &TcbInfo, extension: &PckExtension) -> Result<Text, Text> {
    let (fmspc, pce_id) = (HexBytes(extension.fmspc), HexBytes(extension.pce_id));
    if info.fmspc == extension.fmspc && info.pce_id == extension.pce_id {
        return Ok(Text::later(move || format!("platform {fmspc} {pce_id}")));
    }
    let (covered, of) = (HexBytes(info.fmspc), HexBytes(info.pce_id));
    Err(Text::later(move || format!("platform {fmspc} {pce_id}, TCB info {covered} {of}")))
}

/// Holds the fields of a quote whose signatures hold against the policy's reference values. `document` has the values
/// that the verifier recomputed from an evidence document.
pub(crate) fn reference_values(
    quote: &Quote<'_>,
    policy: &AppraisalPolicy,
    choice: &Choice<'_>,
    document: Option<&Recomputed>,
    checks: &mut Checks,
) {
    let (report, tdx) = (&quote.report, &policy.tdx);
    quoting_enclave(quote, &tdx.quote, checks);
    attributes(report, tdx, checks);
    checks.expect(&rules::MR_SEAM, &tdx.mr_seam, &HexBytes(*report.mr_seam));
    checks.expect(&rules::MR_SIGNER_SEAM, &tdx.mr_signer_seam, &HexBytes(*report.mr_signer_seam));
    let seam = named(report.seam_attributes, SeamAttributes::from_bytes(report.seam_attributes));
    let seam_attributes = [HexBytes(*report.seam_attributes)];
    checks.expect_each(&rules::SEAM_ATTRIBUTES, &tdx.seam_attributes, &seam_attributes, seam);
    for Measured { rule, expected, found, of, .. } in measured(quote, policy) {
        choice.expect(rule, expected, &found, of, checks);
    }
    let rtmr3 = HexBytes(*report.rtmr[3]);
    bound(&rules::RTMR3, &tdx.rtmr3, document.map(|recomputed| HexBytes(recomputed.rtmr3)), rtmr3, checks);
    checks.expect(&rules::MR_CONFIG_ID, &tdx.mr_config_id, &HexBytes(*report.mr_config_id));
    checks.expect(&rules::MR_OWNER, &tdx.mr_owner, &HexBytes(*report.mr_owner));
    checks.expect(&rules::MR_OWNER_CONFIG, &tdx.mr_owner_config, &HexBytes(*report.mr_owner_config));
    service_td(report, tdx, checks);
    let report_data = document.map(|recomputed| HexBytes(recomputed.report_data));
    bound(&rules::REPORT_DATA, &tdx.report_data, report_data, HexBytes(*report.report_data), checks);
}

/// A measurement that reference sets have values for.
struct Measured<'p> {
    field: &'static str,
    rule: &'static Rule,
    expected: &'p ExpectReference<HexBytes<48>>,
    found: Found<48>,
    of: Of<48>,
}

fn measured<'p>(quote: &Quote<'_>, policy: &'p AppraisalPolicy) -> [Measured<'p>; 4] {
    let (report, tdx) = (&quote.report, &policy.tdx);
    let [rtmr0, rtmr1, rtmr2, _] = report.rtmr;
    let one = |field, rule, expected, value: &[u8; 48], of| Measured {
        field,
        rule,
        expected,
        found: Found::One(Some(HexBytes(*value))),
        of,
    };
    [
        one("mr_td", &rules::MR_TD, &tdx.mr_td, report.mr_td, |set| &set.mr_td),
        one("rtmr0", &rules::RTMR0, &tdx.rtmr0, rtmr0, |set| &set.rtmr0),
        one("rtmr1", &rules::RTMR1, &tdx.rtmr1, rtmr1, |set| &set.rtmr1),
        one("rtmr2", &rules::RTMR2, &tdx.rtmr2, rtmr2, |set| &set.rtmr2),
    ]
}

/// The measurements that the policy takes from reference sets.
pub(crate) fn columns(quote: &Quote<'_>, policy: &AppraisalPolicy, columns: &mut Columns<'_>) {
    for Measured { field, expected, found, of, .. } in measured(quote, policy) {
        columns.add(field, expected, found, of);
    }
}

/// What the quoting enclave says of itself and of its platform, beside what QE identity covers.
fn quoting_enclave(quote: &Quote<'_>, policy: &QuotePolicy, checks: &mut Checks) {
    let enclave = &quote.signature.qe_report;
    checks.expect(&rules::QUOTE_RESERVED, &policy.reserved, &HexBytes(*quote.reserved));
    checks.expect(&rules::QUOTE_USER_DATA, &policy.user_data, &HexBytes(*quote.user_data));
    checks.expect(&rules::QE_MR_ENCLAVE, &policy.mr_enclave, &HexBytes(*enclave.mr_enclave));
    checks.expect(&rules::QE_CPU_SVN, &policy.cpu_svn, &HexBytes(*enclave.cpu_svn));
}

fn attributes(report: &TdReport<'_>, tdx: &TdxPolicy, checks: &mut Checks) {
    let (attributes, xfam) = (report.attributes(), Xfam::from_bytes(report.xfam));
    checks.expect(&rules::TD_DEBUG, &tdx.debug, &attributes.is_debug());
    checks.expect(&rules::TD_MIGRATABLE, &tdx.migratable, &attributes.is_migratable());
    let shown = named(report.td_attributes, attributes);
    checks.expect_each(&rules::TD_ATTRIBUTES, &tdx.td_attributes, &[HexBytes(*report.td_attributes)], shown);
    checks.expect_each(&rules::XFAM, &tdx.xfam, &[HexBytes(*report.xfam)], named(report.xfam, xfam));
    let reserved = match (attributes.reserved(), xfam.reserved()) {
        (0, 0) => Ok("none is set"),
        (0, bits) => Err(format!("XFAM: {}", Xfam(bits))),
        (bits, 0) => Err(format!("TDATTRIBUTES: {}", TdAttributes(bits))),
        (one, other) => Err(format!("TDATTRIBUTES: {}; XFAM: {}", TdAttributes(one), Xfam(other))),
    };
    checks.require(&rules::TD_RESERVED_BITS, &tdx.reserved_bits, reserved);
}

/// The bytes of a bit field and the names of its bits.
fn named(bytes: &[u8; 8], names: impl std::fmt::Display + Send + Sync + 'static) -> Text {
    let bytes = HexBytes(*bytes);
    Text::later(move || format!("{bytes} ({names})"))
}

/// Who may act for the TD from outside: service TDs, and in the extended form everything else that this form adds.
fn service_td(report: &TdReport<'_>, tdx: &TdxPolicy, checks: &mut Checks) {
    let Some(td15) = &report.td15 else {
        return match &tdx.mr_service_td {
            Expect::Waive(reason) => checks.waive(&rules::MR_SERVICE_TD, reason, NO_SERVICE_TD),
            // A TD 1.0 body does not state it, so that it meets no expectation but that there is none.
            Expect::AnyOf(values) if values.contains(&HexBytes([0; 48])) => {
                checks.pass(&rules::MR_SERVICE_TD, NO_SERVICE_TD)
            }
            expected => {
                checks.expect_each(&rules::MR_SERVICE_TD, expected, &[HexBytes([0; 48])], NO_SERVICE_TD)
            }
        };
    };
    let bound = HexBytes(*td15.mr_service_td);
    let Some(extended) = &td15.extended else {
        return checks.expect(&rules::MR_SERVICE_TD, &tdx.mr_service_td, &bound);
    };
    let (created, now) = (HexBytes(*extended.init_service_td), HexBytes(*extended.current_service_td));
    let shown = Text::later(move || format!("{bound}, at creation {created}, now {now}"));
    // Without SERVTD_EXT the extended fields say nothing: they must be empty.
    let counts = report.attributes().has_extended_service_td();
    let consistent = counts || [created.0, now.0] == [[0; 48]; 2];
    let held = if counts { vec![bound, created, now] } else { vec![bound] };
    match &tdx.mr_service_td {
        Expect::AnyOf(_) if !consistent => {
            checks.fail(&rules::MR_SERVICE_TD, format!("{shown}, without the attribute SERVTD_EXT"))
        }
        expected => checks.expect_each(&rules::MR_SERVICE_TD, expected, &held, shown),
    }
    extended_fields(extended, &tdx.extended, checks);
}

fn extended_fields(report: &Td15Extended<'_>, policy: &ExtendedPolicy, checks: &mut Checks) {
    checks.expect(&rules::TD_VM_ID, &policy.vm_id, &report.vm_id);
    checks.expect(&rules::TD_ID, &policy.td_id, &HexBytes(*report.td_id));
    checks.expect(&rules::DEVICE_INFO, &policy.device_info, &HexBytes(*report.device_info));
    let attributes = [report.init_service_td_attributes, report.current_service_td_attributes]
        .map(|bytes| HexBytes(*bytes));
    let [created, now] = attributes;
    let shown = Text::later(move || format!("at creation {created}, now {now}"));
    checks.expect_each(&rules::SERVICE_TD_ATTRIBUTES, &policy.service_td_attributes, &attributes, shown);
    checks.expect(&rules::INIT_CPU_SVN, &policy.init_cpu_svn, &HexBytes(*report.init_cpu_svn));
    checks.expect(&rules::INIT_TEE_TCB_SVN, &policy.init_tee_tcb_svn, &HexBytes(*report.init_tee_tcb_svn));
    checks.expect(&rules::INIT_FMSPC, &policy.init_fmspc, &HexBytes(*report.init_fmspc));
}

/// What the verifier recomputes from an evidence document and its own challenge.
#[derive(Debug, Clone)]
pub(crate) struct Recomputed {
    pub(crate) report_data: [u8; 64],
    pub(crate) rtmr3: [u8; 48],
}

/// Holds a field that the verifier recomputes from a document against that value. Reference values of the policy come on
/// top: they never take the place of what binds a document to its challenge.
pub(crate) fn bound<const N: usize>(
    rule: &'static Rule,
    expected: &ExpectBound<HexBytes<N>>,
    recomputed: Option<HexBytes<N>>,
    actual: HexBytes<N>,
    checks: &mut Checks,
) {
    match (expected, recomputed) {
        (ExpectBound::Waive(reason), _) => checks.waive(rule, reason, told(&actual)),
        (ExpectBound::From(_) | ExpectBound::AnyOf(_), Some(value)) if value != actual => {
            checks.compare(rule, &value, &actual)
        }
        (ExpectBound::AnyOf(values), _) => checks.expect(rule, &Expect::AnyOf(values.clone()), &actual),
        (ExpectBound::From(_), Some(value)) => checks.compare(rule, &value, &actual),
        (ExpectBound::From(_), None) => {
            let expected = "recomputed from an evidence document; a bare quote has none";
            checks.push(rule, Status::Fail, expected, actual.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use confide_evidence::pem;
    use confide_evidence::x509::Extension;
    use confide_simulator::{PlatformOptions, SimulatedPlatform};

    fn chain(text: &str) -> Vec<Certificate> {
        let ders = pem::certificates(text.as_bytes()).unwrap();
        ders.iter().map(|der| Certificate::parse(der).unwrap()).collect()
    }

    fn platform() -> SimulatedPlatform {
        SimulatedPlatform::new(PlatformOptions::at(1_790_812_800)).unwrap()
    }

    #[test]
    fn a_certificate_or_list_that_names_another_key_than_its_issuers_is_refused() {
        let algorithms = crate::signature::tests::algorithms();
        let platform = platform();
        let chain = chain(&platform.collateral().pck_crl_issuer_chain);
        let [ca, root] = [&chain[0], &chain[1]];
        assert_eq!(issued_in_profile(root, ca, &algorithms), Ok(()));
        let list = Crl::parse(&platform.collateral().pck_crl).unwrap();
        assert_eq!(list.number.as_deref(), Some(&[1][..]));
        assert_eq!(names_key_of(ca, "the list", list.authority_key_id.as_deref()), Ok(()));
        let refused = names_key_of(root, "the list", list.authority_key_id.as_deref()).unwrap_err();
        assert!(refused.contains("another key than that of SIMULATED SGX Root CA"), "{refused}");
        let mut without = ca.clone();
        without.extensions.retain(|extension| extension.oid != "2.5.29.35");
        let refused = issued_in_profile(root, &without, &algorithms).unwrap_err();
        assert!(refused.contains("does not name the key of its issuer"), "{refused}");
        let mut unnamed = root.clone();
        unnamed.extensions.retain(|extension| extension.oid != "2.5.29.14");
        let refused = issued_in_profile(&unnamed, ca, &algorithms).unwrap_err();
        assert!(refused.contains("does not name its own key"), "{refused}");
        let mut another = root.clone();
        for extension in another.extensions.iter_mut().filter(|extension| extension.oid == "2.5.29.14") {
            *extension.value.last_mut().unwrap() ^= 1;
        }
        assert!(issued_in_profile(&another, ca, &algorithms).unwrap_err().contains("another key"));
    }

    #[test]
    fn a_certificate_for_another_use_signs_neither_tcb_info_nor_quotes() {
        let platform = platform();
        let signer = chain(&platform.collateral().tcb_info_issuer_chain).remove(0);
        assert_eq!(is_signer(&signer, TCB_SIGNING), Ok(()));
        assert!(is_signer(&signer, PCK).unwrap_err().contains("is no certificate of SGX PCK Certificate"));
        let pck = chain(&platform.collateral().pck_certificate_chain).remove(0);
        assert_eq!(is_signer(&pck, PCK), Ok(()));
        assert!(is_signer(&pck, TCB_SIGNING).is_err());
    }

    #[test]
    fn an_unknown_critical_extension_is_not_understood() {
        let mut certificate = Certificate::parse(confide_simulator::tdx_root_certificate()).unwrap();
        assert_eq!(understood(&certificate, &PROCESSED_EXTENSIONS), Ok(()));
        let mut extension = Extension { oid: "1.2.3".into(), critical: false, value: Vec::new() };
        certificate.extensions.push(extension.clone());
        assert_eq!(understood(&certificate, &PROCESSED_EXTENSIONS), Ok(()));
        extension.critical = true;
        certificate.extensions.push(extension);
        assert!(understood(&certificate, &PROCESSED_EXTENSIONS).unwrap_err().contains("1.2.3"));
    }
}
