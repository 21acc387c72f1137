//! What a policy says of the platform behind a quote whose signatures hold: TCB status and graces, age of the collateral,
//! lists of hardware, and what the next TCB recovery brings.

use crate::check::{Checks, Rule, Status, Told, told};
use crate::result::PckResult;
use crate::rules;
use crate::tcb::Assessment;
use crate::text::Text;
use confide_evidence::bytes::Bytes;
use confide_evidence::tdx::{PckExtension, TcbStatus};
use confide_evidence::time::format_seconds;
use confide_policy::{
    AgeLimit, AppraisalPolicy, Expect, Grace, HardwareList, HexBytes, Listing, Minimum, covering,
};

/// What is found where a certificate has no such flag, as those of the Processor CA have none.
const NOT_STATED: &str = "not stated in the PCK certificate";

/// Issue dates and evaluation numbers of collateral, in seconds since the Unix epoch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Issued {
    pub(crate) tcb_info: i64,
    pub(crate) qe_identity: i64,
    pub(crate) pck_crl: i64,
    pub(crate) root_crl: i64,
    pub(crate) tcb_info_number: u32,
    pub(crate) qe_identity_number: u32,
}

/// Until when what the policy accepts here holds, in seconds since the Unix epoch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Horizon(pub(crate) Option<i64>);

impl Horizon {
    fn limit(&mut self, end: i64) {
        self.0 = Some(self.0.map_or(end, |so_far| so_far.min(end)));
    }
}

/// Holds the converged TCB status against the policy's list and its graces.
pub(crate) fn tcb_status(
    assessment: &Assessment,
    policy: &AppraisalPolicy,
    now: i64,
    horizon: &mut Horizon,
    checks: &mut Checks,
) {
    let rule = &rules::TCB_STATUS;
    let actual = assessment.explain();
    let (listed, accepted) = match &policy.tdx.tcb_status {
        Expect::AnyOf(list) => (list.as_slice(), statuses(list)),
        Expect::Waive(reason) if assessment.status.is_some() => return checks.waive(rule, reason, actual),
        Expect::Waive(_) => (&[][..], "some TCB level: the policy waives which".into()),
    };
    match assessment.status {
        Some(status) if listed.contains(&status) => checks.push(rule, Status::Pass, accepted, actual),
        found => match found.and_then(|status| graces(policy, status, assessment, listed)) {
            Some(graces) if graces.iter().all(|grace| !grace.ended(now)) => {
                graces.iter().for_each(|grace| horizon.limit(grace.until.0));
                let reasons: Vec<String> = graces.into_iter().map(describe).collect();
                checks.waive(rule, &reasons.join("; ").into(), actual);
            }
            Some(graces) => {
                let ended: Vec<String> = graces
                    .iter()
                    .filter(|grace| grace.ended(now))
                    .map(|grace| format!("the grace {:?} for it ended at {}", grace.name, grace.until))
                    .collect();
                checks.push(rule, Status::Fail, format!("{accepted}; {}", ended.join("; ")), actual);
            }
            None => checks.push(rule, Status::Fail, accepted, actual),
        },
    }
    checks.advise(|| assessment.remedy());
}

/// Notes what the TCB under the running TD is, beside that of its launch.
pub(crate) fn present_tcb(found: Result<Text, String>, checks: &mut Checks) {
    match found {
        Ok(actual) => checks.pass(&rules::PRESENT_TCB, actual),
        Err(actual) => checks.fail(&rules::PRESENT_TCB, actual),
    }
}

/// The graces that together cover a platform. Those for certain advisories cover none of which also a part falls short
/// that no advisory names.
fn graces<'p>(
    policy: &'p AppraisalPolicy,
    status: TcbStatus,
    assessment: &Assessment,
    listed: &[TcbStatus],
) -> Option<Vec<&'p Grace>> {
    let open = &assessment.advisory_ids;
    if !open.is_empty() && assessment.falls_short_unnamed(listed) {
        return None;
    }
    covering(&policy.tdx.grace, status, open)
}

fn describe(grace: &Grace) -> String {
    let advisories: Vec<&str> = grace.advisories.iter().map(String::as_str).collect();
    let of = if advisories.is_empty() {
        "without a named advisory".to_owned()
    } else {
        format!("with {}", advisories.join(", "))
    };
    format!(
        "the grace {:?} accepts {} {of} until {}: {}",
        grace.name, grace.status, grace.until, grace.reason
    )
}

fn statuses(list: &[TcbStatus]) -> Text {
    match list {
        [] => "no TCB status: the policy names none".into(),
        [one] => one.name().into(),
        list => {
            let list = list.to_vec();
            Text::later_in_full(move || list.iter().map(|one| one.name()).collect::<Vec<_>>().join(" or "))
        }
    }
}

/// Holds evaluation numbers and ages of the collateral against the policy.
pub(crate) fn collateral(
    issued: &Issued,
    policy: &AppraisalPolicy,
    now: i64,
    horizon: &mut Horizon,
    checks: &mut Checks,
) {
    let tdx = &policy.tdx;
    let (info, identity) = (issued.tcb_info_number, issued.qe_identity_number);
    let actual = Text::later(move || format!("TCB info {info}, QE identity {identity}"));
    match &tdx.tcb_evaluation {
        Minimum::Waive(reason) => checks.waive(&rules::TCB_EVALUATION, reason, actual),
        Minimum::AtLeast(bound) => {
            let lowest = issued.tcb_info_number.min(issued.qe_identity_number);
            let status = if lowest >= *bound { Status::Pass } else { Status::Fail };
            let bound = *bound;
            let wanted = Text::later_in_full(move || format!("at least {bound}"));
            checks.push(&rules::TCB_EVALUATION, status, wanted, actual);
        }
    }
    let ages: [(&'static Rule, &AgeLimit, i64); 4] = [
        (&rules::TCB_INFO_AGE, &tdx.tcb_info_age, issued.tcb_info),
        (&rules::QE_IDENTITY_AGE, &tdx.qe_identity_age, issued.qe_identity),
        (&rules::PCK_CRL_AGE, &tdx.pck_crl_age, issued.pck_crl),
        (&rules::ROOT_CRL_AGE, &tdx.root_crl_age, issued.root_crl),
    ];
    for (rule, limit, issued) in ages {
        age(rule, limit, issued, now, horizon, checks);
    }
}

/// Holds the age of one signed object against its limit.
pub(crate) fn age(
    rule: &'static Rule,
    limit: &AgeLimit,
    issued: i64,
    now: i64,
    horizon: &mut Horizon,
    checks: &mut Checks,
) {
    let old = now.saturating_sub(issued);
    let (days, tenths) =
        (old.div_euclid(86_400), old.rem_euclid(86_400).saturating_mul(10).div_euclid(86_400));
    let actual =
        Text::later(move || format!("issued at {}, {days}.{tenths} days ago", format_seconds(issued)));
    match limit {
        AgeLimit::Waive(reason) => checks.waive(rule, reason, actual),
        AgeLimit::AtMostDays(days) => {
            let most = i64::from(*days).saturating_mul(86_400);
            let status = if old <= most { Status::Pass } else { Status::Fail };
            horizon.limit(issued.saturating_add(most));
            let days = *days;
            let wanted = Text::later_in_full(move || format!("at most {days} days old"));
            checks.push(rule, status, wanted, actual);
        }
    }
}

/// Holds the platform's PPID and FMSPC against the policy's lists.
pub(crate) fn hardware(extension: &PckExtension, policy: &AppraisalPolicy, checks: &mut Checks) {
    // A certificate without the field is no PCK certificate and has been refused. One of all zeros names no platform.
    let ppid = (extension.ppid != [0; 16]).then_some(HexBytes(extension.ppid));
    listed(&rules::PPID, &policy.tdx.ppid, ppid, checks);
    listed(&rules::PLATFORM_KIND, &policy.tdx.fmspc, Some(HexBytes(extension.fmspc)), checks);
}

/// Holds what the PCK certificate says of the kind of platform against the policy.
pub(crate) fn kind(extension: &PckExtension, policy: &AppraisalPolicy, checks: &mut Checks) {
    let expected = &policy.tdx.platform;
    checks.expect(&rules::SGX_TYPE, &expected.sgx_type, &extension.sgx_type);
    let flags = extension.configuration.unwrap_or_default();
    stated(&rules::DYNAMIC_PLATFORM, &expected.dynamic_platform, flags.dynamic_platform, checks);
    stated(&rules::CACHED_KEYS, &expected.cached_keys, flags.cached_keys, checks);
    stated(&rules::SMT_ENABLED, &expected.smt_enabled, flags.smt_enabled, checks);
    let instance = extension.platform_instance_id.map(HexBytes);
    stated(&rules::PLATFORM_INSTANCE, &expected.instance_id, instance, checks);
}

/// What a PCK certificate says, for the verdict.
pub(crate) fn result(extension: &PckExtension, ca: PckCa) -> PckResult {
    let configuration = extension.configuration.unwrap_or_default();
    PckResult {
        ca: ca.name(),
        fmspc: Bytes(extension.fmspc),
        pce_id: Bytes(extension.pce_id),
        ppid: Bytes(extension.ppid),
        sgx_type: extension.sgx_type.name(),
        sgx_components: Bytes(extension.components),
        pce_svn: extension.pce_svn,
        cpu_svn: Bytes(extension.cpu_svn),
        platform_instance_id: extension.platform_instance_id.map(Bytes),
        dynamic_platform: configuration.dynamic_platform,
        cached_keys: configuration.cached_keys,
        smt_enabled: configuration.smt_enabled,
    }
}

/// A field that only certificates of the Platform CA state: what is not stated is none of the values of a policy.
fn stated<T>(rule: &'static Rule, expected: &Expect<T>, found: Option<T>, checks: &mut Checks)
where
    T: PartialEq + std::fmt::Display + Clone + Send + Sync + 'static,
{
    match (expected, found) {
        (_, Some(found)) => checks.expect(rule, expected, &found),
        (Expect::Waive(reason), None) => checks.waive(rule, reason, NOT_STATED),
        (Expect::AnyOf(_), None) => checks.fail(rule, NOT_STATED),
    }
}

/// Whether a PCK certificate has the fields that its CA's certificates have (PCK Certificate Profile 1.5, section 1.3.5).
pub(crate) fn fits_its_ca(extension: &PckExtension, ca: PckCa) -> Result<(), String> {
    let named = (extension.platform_instance_id.is_some(), extension.configuration.is_some());
    match (ca, named) {
        (PckCa::Platform, (true, true)) | (PckCa::Processor, (false, false)) => Ok(()),
        (PckCa::Platform, _) => {
            Err("a certificate of the Platform CA without platform instance or configuration".to_owned())
        }
        (PckCa::Processor, _) => {
            Err("a certificate of the Processor CA with platform instance or configuration".to_owned())
        }
    }
}

/// Intel's CAs of PCK certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PckCa {
    /// Of platforms whose packages can change.
    Platform,
    /// Of single packages.
    Processor,
}

impl PckCa {
    /// By the CA's common name, which the root has signed.
    pub(crate) fn named(common_name: &str) -> Result<Self, String> {
        if common_name.ends_with("PCK Platform CA") {
            Ok(Self::Platform)
        } else if common_name.ends_with("PCK Processor CA") {
            Ok(Self::Processor)
        } else {
            Err(format!("{common_name} is neither a PCK Platform CA nor a PCK Processor CA"))
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Platform => "platform",
            Self::Processor => "processor",
        }
    }
}

/// Holds an identifier of hardware against a list; nothing stands for evidence that names none.
pub(crate) fn listed<T: PartialEq + Told>(
    rule: &'static Rule,
    list: &HardwareList<T>,
    found: Option<T>,
    checks: &mut Checks,
) {
    let actual = found.as_ref().map_or_else(|| "none is named".into(), told);
    listed_as(rule, list, found.as_ref(), actual, checks);
}

/// As [`listed`], with what the verdict shows as found.
pub(crate) fn listed_as<T: PartialEq>(
    rule: &'static Rule,
    list: &HardwareList<T>,
    found: Option<&T>,
    actual: Text,
    checks: &mut Checks,
) {
    match list.listing(found) {
        Listing::Waived(reason) => checks.waive(rule, reason, actual),
        Listing::Allowed => checks.pass(rule, actual),
        Listing::NotListed => checks.fail(rule, format!("{actual}, which the policy does not list")),
        Listing::Denied if found.is_none() => {
            checks.fail(rule, format!("{actual}, and the policy denies some"));
        }
        Listing::Denied => checks.fail(rule, format!("{actual}, which the policy denies")),
    }
}

/// What the early collateral makes of a platform.
#[derive(Debug, Clone)]
pub(crate) struct Coming {
    pub(crate) assessment: Assessment,
    /// Its evaluation data number.
    pub(crate) number: u32,
    /// TCB info and QE identity have the standard ones' numbers.
    pub(crate) same_numbers: bool,
    /// The earliest end of its windows and age limits, in seconds since the Unix epoch.
    pub(crate) until: i64,
}

/// Tells what the early collateral makes of the platform, and holds it against the policy where that asks for it.
pub(crate) fn early(
    standard: &Assessment,
    early: Result<Coming, Text>,
    policy: &AppraisalPolicy,
    horizon: &mut Horizon,
    checks: &mut Checks,
) -> Option<&'static str> {
    let rule = &rules::EARLY_TCB_STATUS;
    let status = early.as_ref().ok().and_then(|coming| coming.assessment.status);
    let name = early.as_ref().ok().map(|coming| coming.assessment.status_name());
    let actual = match &early {
        Err(why) => why.clone(),
        Ok(Coming { assessment, number, same_numbers, .. }) => {
            let (before, number, same) = (standard.status_name(), *number, *same_numbers);
            let (after, why) = (assessment.status_name(), assessment.explain());
            let change = assessment.status != standard.status;
            Text::later(move || match (change, same) {
                (true, _) => format!(
                    "TCB recovery coming: {before} becomes {after} with evaluation data number {number}: {why}"
                ),
                (false, true) => format!(
                    "no TCB recovery is announced, or the standard set was given for the early one: both have \
                     evaluation data number {number}: {why}"
                ),
                (false, false) => format!("no change with evaluation data number {number}: {why}"),
            })
        }
    };
    match (&policy.tdx.early_tcb_status, status) {
        (Expect::Waive(reason), _) => checks.waive(rule, reason, actual),
        (Expect::AnyOf(list), Some(status)) if list.contains(&status) => {
            checks.push(rule, Status::Pass, statuses(list), actual);
            if let Ok(coming) = &early {
                horizon.limit(coming.until);
            }
        }
        (Expect::AnyOf(list), _) => {
            checks.push(rule, Status::Fail, statuses(list), actual);
            checks.advise(|| early.ok()?.assessment.remedy());
        }
    }
    name
}
