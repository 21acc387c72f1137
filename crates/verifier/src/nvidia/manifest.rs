//! Reference integrity manifests: which of those given a device's measurements are held against.
//!
//! A manifest counts if its chain ends in a pinned root, its leaf has signed it, its signers are those of its product, and
//! neither time nor revocation speaks against it. Several issues of one id may be given: the best one counts.

use super::chain;
use super::endorsements::{Firmware, Manifest, PreparedDevices};
use super::measurements;
use super::revocation::{self, Standing};
use crate::check::{Checks, Rule, Status};
use crate::rules;
use crate::signature::Algorithms;
use confide_evidence::hex;
use confide_evidence::nvidia::{Edition, Report};
use confide_evidence::time::format_seconds;
use confide_policy::{AppraisalPolicy, NVIDIA_RIM_ROOTS, Require};
use sha2::{Digest as _, Sha256};
use std::cell::OnceCell;
use std::cmp::Reverse;

/// What manifests are appraised with.
#[derive(Clone, Copy)]
pub(super) struct Means<'a> {
    pub(super) prepared: &'a PreparedDevices,
    pub(super) policy: &'a AppraisalPolicy,
    pub(super) algorithms: &'a Algorithms,
    /// Seconds since the Unix epoch.
    pub(super) at: i64,
}

/// The rules of a manifest, in order: the first that fails ends it.
pub(super) static RULES: [&Rule; 7] = [
    &rules::RIM_ROOT_ANCHOR,
    &rules::RIM_CHAIN,
    &rules::RIM_SIGNATURE,
    &rules::RIM_PRODUCT,
    &rules::RIM_VALIDITY,
    &rules::RIM_REVOCATION,
    &rules::DEVICE_HOLD,
];

/// How one rule of a manifest ended.
#[derive(Debug, Clone)]
struct Finding {
    status: Status,
    /// The reason of a waiver.
    waiver: Option<String>,
    actual: String,
}

/// A manifest with what its rules say of it.
#[derive(Debug)]
pub(super) struct Assessed<'p> {
    pub(super) manifest: &'p Manifest,
    findings: Vec<Finding>,
    /// The first end of what it rests on, seconds since the Unix epoch.
    pub(super) until: i64,
    /// Its chain ends in another root than NVIDIA's.
    pub(super) simulated: bool,
}

impl Assessed<'_> {
    /// Whether every rule holds.
    pub(super) fn holds(&self) -> bool {
        self.findings.len() == RULES.len()
            && self.findings.iter().all(|finding| finding.status != Status::Fail)
    }

    /// The first rule that does not hold.
    pub(super) fn code(&self) -> Option<&'static str> {
        RULES.get(self.rank()).map(|rule| rule.code)
    }

    /// How many rules hold before the first that does not.
    fn rank(&self) -> usize {
        let failed = self.findings.iter().position(|finding| finding.status == Status::Fail);
        failed.unwrap_or(RULES.len())
    }

    /// Notes its rules.
    pub(super) fn note(&self, checks: &mut Checks) {
        let name = self.manifest.describe();
        let mut findings = self.findings.iter();
        for rule in RULES {
            match findings.next() {
                Some(Finding { status, waiver, actual }) => {
                    let actual = format!("manifest {name}: {actual}");
                    match waiver {
                        Some(reason) => checks.push(rule, *status, reason.clone(), actual),
                        None => checks.push(rule, *status, rule.expected, actual),
                    }
                }
                None => {
                    checks.not_run(rule, format!("manifest {name}: not reached: an earlier check failed"))
                }
            }
        }
    }
}

/// Appraises a manifest for itself.
fn assess<'p>(manifest: &'p Manifest, means: &Means<'p>) -> Assessed<'p> {
    let certificates = &manifest.rim.certificates;
    let [.., root] = certificates;
    let spki: [u8; 32] = Sha256::digest(&root.spki).into();
    let mut until = chain::not_after(certificates);
    let simulated = !NVIDIA_RIM_ROOTS.contains(&spki);
    let mut findings: Vec<Finding> = Vec::with_capacity(RULES.len());
    let anchored = if means.policy.rim_roots().contains(&spki) { Ok(()) } else { Err(()) };
    let told = format!("{} with SPKI SHA-256 {}", root.common_name, hex::encode(&spki));
    let steps: [&dyn Fn() -> Result<String, String>; 5] = [
        &|| anchored.map(|()| told.clone()).map_err(|()| told.clone()),
        &|| manifest.chain_holds(&means.prepared.known, means.algorithms),
        &|| signature(manifest, means),
        &|| product(manifest),
        &|| chain::validity(certificates, means.at),
    ];
    for step in steps {
        let found = step();
        let failed = found.is_err();
        let status = if failed { Status::Fail } else { Status::Pass };
        let (Ok(actual) | Err(actual)) = found;
        findings.push(Finding { status, waiver: None, actual });
        if failed {
            return Assessed { manifest, findings, until, simulated };
        }
    }
    let standings = standings(certificates, means.prepared, means.at, means.algorithms);
    let devices = &means.policy.devices;
    let (revocation, end) = revocation(&standings, &devices.revocation);
    until = until.min(end);
    let failed = revocation.status == Status::Fail;
    findings.push(revocation);
    if !failed {
        findings.push(hold(&standings, &devices.not_on_hold));
    }
    Assessed { manifest, findings, until, simulated }
}

/// What is known of each certificate but the root.
fn standings(
    certificates: &[confide_evidence::x509::Certificate],
    prepared: &PreparedDevices,
    now: i64,
    algorithms: &Algorithms,
) -> Vec<Standing> {
    let pairs = certificates.iter().zip(certificates.iter().skip(1));
    pairs.map(|(subject, issuer)| revocation::standing(subject, issuer, prepared, now, algorithms)).collect()
}

/// None is revoked and nothing is missing. Until when that holds.
fn revocation(standings: &[Standing], required: &Require) -> (Finding, i64) {
    let (found, until) = known(standings);
    let finding = match (found, required) {
        (Ok(actual), _) => Finding { status: Status::Pass, waiver: None, actual },
        (Err(Unknown::Missing(actual)), Require::Waive(reason)) => {
            Finding { status: Status::NotRun, waiver: Some(format!("waived: {reason}")), actual }
        }
        (Err(Unknown::Missing(actual) | Unknown::Revoked(actual)), _) => {
            Finding { status: Status::Fail, waiver: None, actual }
        }
    };
    (finding, until)
}

/// Why the certificates of a chain are not known to be good.
pub(super) enum Unknown {
    /// One is revoked: no waiver helps.
    Revoked(String),
    /// Nothing that holds now tells of one.
    Missing(String),
}

/// Whether every certificate is known not to be revoked, and until when that holds, in seconds since the Unix epoch.
pub(super) fn known(standings: &[Standing]) -> (Result<String, Unknown>, i64) {
    let mut until = i64::MAX;
    let mut missing = None;
    for standing in standings {
        match standing {
            Standing::Good { until: end } | Standing::Hold { until: Some(end), .. } => {
                until = until.min(*end)
            }
            Standing::Hold { why, until: None } => missing = missing.or(Some(why.clone())),
            Standing::Revoked(why) => return (Err(Unknown::Revoked(why.clone())), until),
            Standing::Missing(why) => missing = missing.or(Some(why.clone())),
        }
    }
    match missing {
        Some(why) => (Err(Unknown::Missing(why)), until),
        None if until == i64::MAX => (Ok("none is revoked".to_owned()), until),
        None => (Ok(format!("none is revoked, until {}", format_seconds(until))), until),
    }
}

fn hold(standings: &[Standing], required: &Require) -> Finding {
    let (status, actual) = match held(standings) {
        Held::None => (Status::Pass, "none is on hold".to_owned()),
        Held::Unknown(actual) => (Status::NotRun, actual),
        Held::One(actual) => (Status::Fail, actual),
    };
    match required {
        Require::Required => Finding { status, waiver: None, actual },
        // The policy does not ask, and every verdict says so.
        Require::Waive(reason) => {
            Finding { status: Status::Waived, waiver: Some(format!("waived: {reason}")), actual }
        }
    }
}

/// Whether a certificate of a chain is on hold.
pub(super) enum Held {
    /// None is.
    None,
    /// None is known to be, and of one nothing is known.
    Unknown(String),
    /// This one is.
    One(String),
}

/// The first certificate that is on hold, or else the first of which nothing is known.
pub(super) fn held(standings: &[Standing]) -> Held {
    let mut unknown = None;
    for standing in standings {
        match standing {
            Standing::Hold { why, .. } => return Held::One(why.clone()),
            Standing::Missing(why) => unknown = unknown.or(Some(why)),
            Standing::Good { .. } | Standing::Revoked(_) => {}
        }
    }
    unknown.map_or(Held::None, |why| Held::Unknown(format!("not known: {why}")))
}

/// The leaf has signed the manifest, and what it has signed is the content.
fn signature(manifest: &Manifest, means: &Means<'_>) -> Result<String, String> {
    manifest.digest_holds.clone()?;
    let [leaf, ..] = &manifest.rim.certificates;
    manifest
        .signature_holds(&means.prepared.known, means.algorithms)
        .map(|()| format!("signed by {} (serial {})", leaf.common_name, hex::encode(&leaf.serial)))
        .map_err(|_| "the signature does not verify under the leaf certificate".to_owned())
}

/// The manifest's name is its product, and so are the authorities that its signer stands under.
fn product(manifest: &Manifest) -> Result<String, String> {
    let rim = &manifest.rim;
    let [_, third, second, _] = &rim.certificates;
    if rim.name != rim.product {
        return Err(format!("a manifest named {} of the product {}", rim.name, rim.product));
    }
    for authority in [third, second] {
        let mut words = authority.common_name.split(' ');
        if words.clone().any(|word| word.eq_ignore_ascii_case("debug")) {
            return Err(format!("{}, which is not for production", authority.common_name));
        }
        if !words.any(|word| is_product(word, &rim.product)) {
            return Err(format!("a manifest of {} under {}", rim.product, authority.common_name));
        }
    }
    Ok(format!("{} under {} and {}", rim.product, third.common_name, second.common_name))
}

/// Whether a word of an authority's name says this product: `GH100`, `GB100-CC`, or a whole family as in `GB1XX`.
fn is_product(word: &str, product: &str) -> bool {
    let word = word.strip_suffix("-CC").unwrap_or(word);
    word.len() == product.len()
        && !word.starts_with('X')
        && word
            .bytes()
            .zip(product.bytes())
            .all(|(one, other)| one == other || (one == b'X' && other.is_ascii_digit()))
}

/// What makes one manifest better for a device than another: rules that hold, measurements that do not differ, measurements
/// that are compared.
type Merit = (usize, Reverse<usize>, usize);

/// The manifests that were given, each appraised once, when a device first needs it.
pub(super) struct Manifests<'p> {
    means: Means<'p>,
    assessed: Vec<OnceCell<Assessed<'p>>>,
}

impl<'p> Manifests<'p> {
    pub(super) fn new(means: Means<'p>) -> Self {
        Self { means, assessed: means.prepared.manifests.iter().map(|_| OnceCell::new()).collect() }
    }

    /// The manifest for one firmware of a device that does best: of those whose rules hold the one that most measurements
    /// agree with, else the one that comes farthest.
    pub(super) fn best(
        &self,
        report: &Report<'_>,
        product: &str,
        edition: Edition,
        firmware: Firmware,
    ) -> Option<&Assessed<'p>> {
        let fitting = self.means.prepared.manifests.iter().zip(&self.assessed).filter(|(manifest, _)| {
            manifest.of == Some(firmware)
                && manifest.rim.product == product
                && manifest.rim.edition == edition
        });
        let mut best: Option<(&Assessed<'p>, Merit)> = None;
        for (manifest, assessed) in fitting {
            let assessed = assessed.get_or_init(|| assess(manifest, &self.means));
            let differing = measurements::differing(report, &manifest.rim).len();
            // Of two that agree as well, the one that says more.
            let merit =
                (assessed.rank(), Reverse(differing), measurements::compared(report, &manifest.rim).count());
            if best.as_ref().is_none_or(|(_, before)| merit > *before) {
                best = Some((assessed, merit));
            }
        }
        best.map(|(assessed, _)| assessed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_name_their_product_or_its_family() {
        for (word, product) in
            [("GH100", "GH100"), ("GB100-CC", "GB100"), ("GB1XX", "GB100"), ("LS10", "LS10")]
        {
            assert!(is_product(word, product), "{word} {product}");
        }
        for (word, product) in [
            ("GH100", "GB100"),
            ("GB1XX", "GB202"),
            ("XXXXX", "GH100"),
            ("GH10", "GH100"),
            ("GH100-DEBUG", "GH100"),
        ] {
            assert!(!is_product(word, product), "{word} {product}");
        }
    }

    #[test]
    fn a_revoked_certificate_outweighs_one_without_an_answer() {
        let missing = Standing::Missing("a".to_owned());
        let revoked = Standing::Revoked("b".to_owned());
        assert!(matches!(known(&[missing.clone(), revoked]).0, Err(Unknown::Revoked(_))));
        assert!(matches!(known(&[missing, Standing::Good { until: 7 }]), (Err(Unknown::Missing(_)), 7)));
        assert_eq!(known(&[Standing::Good { until: 9 }, Standing::Good { until: 7 }]).1, 7);
        let hold = |until| Standing::Hold { why: "c".to_owned(), until };
        assert!(matches!(known(&[hold(Some(5))]), (Ok(_), 5)));
        assert!(matches!(known(&[hold(None)]).0, Err(Unknown::Missing(_))), "what became of it is unknown");
    }
}
