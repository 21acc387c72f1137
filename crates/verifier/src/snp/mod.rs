//! Appraisal of SEV-SNP attestation reports against the certificates of the key that signs them.
//!
//! Authenticity comes first and stops at the first signature that does not hold: root, issuer, signing key, lists, report.
//! Then come the windows, and what report and certificates say is held against each other and against the policy; these
//! checks are independent of each other and all run.

mod chain;
mod reference;

use crate::appraise::Progress;
use crate::check::{Checks, Rule, Stop};
use crate::platform::{self, Horizon};
use crate::references::Columns;
use crate::result::{Measurements, Outcome, SnpMeasurements};
use crate::rules;
use crate::signature::ecdsa_sig_value;
use crate::tdx::{QuoteFindings, Window, in_windows};
use crate::text::Text;
use chain::Chain;
use confide_evidence::bytes::Bytes;
use confide_evidence::hex;
use confide_evidence::snp::{EndorsementKey, Product, Report, SigningKey, TcbVersion};
use confide_evidence::time::seconds;
use confide_policy::AgeLimit;
use std::fmt::Write as _;

/// What authenticity covers, for marking what was not reached.
static AUTHENTICITY: &[&Rule] = &[
    &rules::SNP_ENDORSEMENTS_FORMAT,
    &rules::SNP_CHAIN_FORM,
    &rules::SNP_ROOT_ANCHOR,
    &rules::SNP_ROOT_SIGNATURE,
    &rules::SNP_ISSUER_SIGNATURE,
    &rules::SNP_KEY_SIGNATURE,
    &rules::SNP_CRL_SIGNATURE,
    &rules::SNP_REVOCATION,
    &rules::SNP_KEY_EXTENSIONS,
    &rules::SNP_KEY_KIND,
    &rules::SNP_REPORT_SIGNATURE,
    &rules::SNP_VALIDITY,
];

/// Appraises a bare report with the endorsements of the inputs.
pub(crate) fn bare_report(bytes: &[u8], progress: &mut Progress<'_>) -> Result<(), Stop> {
    let report = parse(bytes, progress)?;
    let authentic = authentic(&report, progress);
    if authentic.is_err() {
        progress.checks.not_reached(AUTHENTICITY);
    }
    let Authentic { key, product, oldest_list } = authentic?;
    let levels = Levels::of(&report, key.product);
    consistency(&report, &levels, &key, product, &mut progress.checks);
    let policy = &progress.inputs.policy.snp;
    list_age(oldest_list, &policy.crl_age, progress);
    let mut columns = Columns::default();
    reference::columns(&report, policy, &mut columns);
    let choice = columns.choose(&progress.candidates());
    choice.report(&mut progress.checks);
    progress.reference_set = choice.matched().map(ToString::to_string);
    reference::values(&report, &levels, &key, policy, &choice, &mut progress.checks);
    Ok(())
}

fn parse<'r>(bytes: &'r [u8], progress: &mut Progress<'_>) -> Result<Report<'r>, Stop> {
    match Report::parse(bytes) {
        Ok(report) => {
            progress.platform = Some("sev-snp");
            progress.measurements = Some(Measurements::Snp(Box::new(measurements(&report))));
            progress.report_data = Some(Bytes(*report.report_data));
            progress.checks.pass(&rules::SNP_REPORT_FORMAT, format!("version {}", report.version));
            Ok(report)
        }
        Err(error) => {
            let outcome = if error.is_unsupported() { Outcome::Unsupported } else { Outcome::Malformed };
            progress.outcome = Some(outcome);
            progress.checks.fail(&rules::SNP_REPORT_FORMAT, error.to_string());
            Err(Stop)
        }
    }
}

/// What authenticity gives.
struct Authentic {
    /// What the certificate says of the signing key.
    key: EndorsementKey,
    /// The product of its chain.
    product: Product,
    /// When the oldest of the root's revocation lists was issued, seconds since the Unix epoch.
    oldest_list: Option<i64>,
}

/// The chain up to a pinned root, the report's signature under it, and their windows, which are noted and stop nothing.
fn authentic(report: &Report<'_>, progress: &mut Progress<'_>) -> Result<Authentic, Stop> {
    let inputs = progress.inputs;
    let Some(endorsements) = inputs.endorsements.snp.as_ref().filter(|found| !found.certificates.is_empty())
    else {
        progress.checks.fail(&rules::SNP_ENDORSEMENTS_PRESENT, "none");
        return Err(Stop);
    };
    let checks = &mut progress.checks;
    let (certificates, lists) = match chain::parse(endorsements) {
        Ok(parsed) => parsed,
        Err(error) => {
            progress.outcome = Some(Outcome::Malformed);
            checks.fail(&rules::SNP_ENDORSEMENTS_FORMAT, error);
            return Err(Stop);
        }
    };
    let count = |count: usize, what: &str| format!("{count} {what}");
    checks.pass(
        &rules::SNP_ENDORSEMENTS_FORMAT,
        format!("{}, {}", count(certificates.len(), "certificates"), count(lists.len(), "lists")),
    );
    let chain = checks.need(&rules::SNP_CHAIN_FORM, Chain::assemble(certificates), Chain::describe)?;
    progress.quote =
        QuoteFindings { simulated: chain.anchor(inputs.policy, checks)?, ..QuoteFindings::default() };
    chain.signatures(inputs.algorithms, checks)?;
    chain.revocation(&lists, &inputs.policy.snp.revocation, inputs.algorithms, checks)?;
    let key = EndorsementKey::from_certificate(&chain.key).map_err(|error| error.to_string());
    let key = checks.need(&rules::SNP_KEY_EXTENSIONS, key, |key| {
        format!("{} of {}, {}", key.kind, key.product, key.tcb)
    })?;
    checks.need(&rules::SNP_KEY_KIND, signing_key(report, key.kind), |kind| kind.name())?;
    let signature = inputs
        .algorithms
        .ecdsa_p384_sha384
        .verify_signature(&chain.key.public_key, report.signed, &ecdsa_sig_value(&report.r, &report.s))
        .map_err(|_| "the signature does not verify");
    checks.need(&rules::SNP_REPORT_SIGNATURE, signature, |()| "verified")?;
    let mut windows = chain.windows();
    windows.extend(lists.iter().map(|list| Window {
        what: "a revocation list",
        not_before: list.this_update,
        // RFC 5280 section 5.1.2.5 makes nextUpdate mandatory: a list without it is never current.
        not_after: list.next_update.unwrap_or(i64::MIN),
    }));
    progress.endorsed_until = windows.iter().map(|window| window.not_after).min();
    note(&rules::SNP_VALIDITY, in_windows(|| windows.iter(), seconds(inputs.now)), checks);
    let oldest_list = chain.lists_of_root(&lists).map(|list| list.this_update).min();
    Ok(Authentic { key, product: chain.product, oldest_list })
}

/// Holds the age of the root's lists against its limit; without a list nothing is as young as that.
fn list_age(oldest: Option<i64>, limit: &AgeLimit, progress: &mut Progress<'_>) {
    let rule = &rules::SNP_CRL_AGE;
    match (oldest, limit) {
        (Some(issued), limit) => {
            let mut horizon = Horizon(progress.endorsed_until);
            platform::age(
                rule,
                limit,
                issued,
                seconds(progress.inputs.now),
                &mut horizon,
                &mut progress.checks,
            );
            progress.endorsed_until = horizon.0;
        }
        (None, AgeLimit::Waive(reason)) => {
            progress.checks.waive(rule, reason, "no list of the ARK was given")
        }
        (None, AgeLimit::AtMostDays(_)) => progress.checks.fail(rule, "no list of the ARK was given"),
    }
}

/// The kind of key that signs the report is the one that the certificate is for.
fn signing_key(report: &Report<'_>, certified: SigningKey) -> Result<SigningKey, String> {
    if report.key_info.masks_chip_key() {
        return Err("MASK_CHIP_KEY is set: the firmware does not sign".to_owned());
    }
    let named = match report.key_info.signing_key() {
        0 => SigningKey::Vcek,
        1 => SigningKey::Vlek,
        7 => return Err("a report that no key signs".to_owned()),
        other => return Err(format!("signing key {other}, which is reserved")),
    };
    if named == certified {
        Ok(named)
    } else {
        Err(format!("signed by a {named}, the certificate is a {certified}'s"))
    }
}

/// The four TCB versions of a report, in the layout of its product.
struct Levels {
    reported: TcbVersion,
    committed: TcbVersion,
    current: TcbVersion,
    launch: TcbVersion,
    /// The first of them whose reserved bytes are not zero.
    broken: Option<&'static str>,
}

impl Levels {
    fn of(report: &Report<'_>, product: Product) -> Self {
        let mut broken = None;
        let mut read = |name, bytes| {
            let (levels, zero) = TcbVersion::from_bytes(product, bytes);
            if !zero {
                broken.get_or_insert(name);
            }
            levels
        };
        let reported = read("REPORTED_TCB", report.reported_tcb);
        let committed = read("COMMITTED_TCB", report.committed_tcb);
        let current = read("CURRENT_TCB", report.current_tcb);
        let launch = read("LAUNCH_TCB", report.launch_tcb);
        Self { reported, committed, current, launch, broken }
    }
}

/// What an authentic report and an authentic certificate must have in common, and what no firmware reports.
fn consistency(
    report: &Report<'_>,
    levels: &Levels,
    key: &EndorsementKey,
    product: Product,
    checks: &mut Checks,
) {
    note(&rules::SNP_PRODUCT_BINDING, one_product(report, key, product), checks);
    let binding = if key.tcb == levels.reported {
        Ok(levels.reported.to_string())
    } else {
        Err(format!("reported {}; certified {}", levels.reported, key.tcb))
    };
    note(&rules::SNP_TCB_BINDING, binding, checks);
    note(&rules::SNP_HARDWARE_ID, one_chip(report, key), checks);
    note(&rules::SNP_TCB_ORDER, possible(report, levels), checks);
    let broken =
        report.broken_reserved().or_else(|| levels.broken.map(|name| format!("reserved bytes of {name}")));
    note(&rules::SNP_RESERVED, broken.map_or_else(|| Ok("as they must be".to_owned()), Err), checks);
}

fn note(rule: &'static Rule, found: Result<impl Into<Text>, String>, checks: &mut Checks) {
    match found {
        Ok(actual) => checks.pass(rule, actual),
        Err(actual) => checks.fail(rule, actual),
    }
}

fn one_product(report: &Report<'_>, key: &EndorsementKey, product: Product) -> Result<String, String> {
    if key.product != product {
        return Err(format!("a {} of {} in a chain of {product}", key.kind, key.product));
    }
    let Some((family, model)) = report.family_model else {
        return Ok(format!("{product}, by the certificates: a report of version 2 names none"));
    };
    match Product::from_cpuid(family, model) {
        Some(found) if found == product => Ok(product.to_string()),
        Some(found) => Err(format!("a report of {found}, certificates of {product}")),
        None => Err(format!("family {family:#x} and model {model:#x}, certificates of {product}")),
    }
}

fn one_chip(report: &Report<'_>, key: &EndorsementKey) -> Result<String, String> {
    match &key.hardware_id {
        None => Ok("a VLEK, which names no chip".to_owned()),
        Some(_) if report.masks_chip_id() => Ok("masked in the report".to_owned()),
        Some(id) if id.chip_id() == *report.chip_id => Ok(hex::encode(report.chip_id)),
        Some(id) => Err(format!("{}, certified {}", hex::encode(report.chip_id), hex::encode(&id.chip_id()))),
    }
}

/// 56860: SNP_CONFIG refuses a reported version above the current one, SNP_COMMIT commits the current one. LAUNCH_TCB may
/// be of another platform, where a migration agent moved the guest.
fn possible(report: &Report<'_>, levels: &Levels) -> Result<String, String> {
    let Levels { reported, committed, current, .. } = levels;
    let mut above = String::new();
    for (name, lower) in [("REPORTED_TCB", reported), ("COMMITTED_TCB", committed)] {
        if !current.reaches(lower) {
            let _ = write!(above, "{name} {lower}; ");
        }
    }
    let (now, least) = (report.current_firmware, report.committed_firmware);
    if least > now {
        let _ = write!(above, "committed version {least}; ");
    }
    if above.is_empty() {
        Ok("in order".to_owned())
    } else {
        Err(format!("{above}current {current}, version {now}"))
    }
}

fn measurements(report: &Report<'_>) -> SnpMeasurements {
    SnpMeasurements {
        measurement: Bytes(*report.measurement),
        host_data: Bytes(*report.host_data),
        family_id: Bytes(*report.family_id),
        image_id: Bytes(*report.image_id),
        guest_svn: report.guest_svn,
        id_key_digest: Bytes(*report.id_key_digest),
        author_key_digest: Bytes(*report.author_key_digest),
        report_id: Bytes(*report.report_id),
        report_id_ma: Bytes(*report.report_id_ma),
        chip_id: Bytes(*report.chip_id),
        vmpl: report.vmpl,
        policy: format!("{:#018x}", report.policy.0),
        platform_info: format!("{:#018x}", report.platform_info.0),
        reported_tcb: Bytes(report.reported_tcb),
        committed_tcb: Bytes(report.committed_tcb),
        current_tcb: Bytes(report.current_tcb),
        launch_tcb: Bytes(report.launch_tcb),
        current_firmware: report.current_firmware.to_string(),
        committed_firmware: report.committed_firmware.to_string(),
        launch_mit_vector: report.launch_mitigations.map(|vector| format!("{vector:#018x}")),
        current_mit_vector: report.current_mitigations.map(|vector| format!("{vector:#018x}")),
    }
}
