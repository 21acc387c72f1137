//! What the trial quote says of the platform, and what Intel says of that.

use super::finding::{APPRAISAL, COLLATERAL, Finding, PLATFORM, SIGNATURE, TCB};
use crate::endorser::{self, EndorserFlags};
use crate::input::{ALGORITHMS, LoadedPolicy};
use crate::status::Failure;
use crate::verify;
use confide_attester::kernel::{Place, Trial};
use confide_endorser::Endorser;
use confide_evidence::document::{Endorsements, TdxCollateral};
use confide_evidence::hex;
use confide_evidence::snp;
use confide_evidence::tdx::{CollateralWindow, Padding, Quote, collateral_windows};
use confide_evidence::time::format_seconds;
use confide_verifier::{AttestationResult, Inputs, Status, Subject, rules};
use rustls_pki_types::UnixTime;

/// The checks of a verdict that a trial quote cannot meet: it answers no challenge, and comes with no runtime events.
const OF_DOCUMENTS: [&str; 4] =
    [rules::REPORT_DATA.code, rules::RTMR3.code, rules::EARLY_TCB_STATUS.code, rules::TCB_STATUS.code];

/// What the findings rest on.
pub(super) struct Asking<'a> {
    pub(super) endorser: &'a Endorser,
    pub(super) flags: &'a EndorserFlags,
    pub(super) policy: &'a LoadedPolicy,
    pub(super) boot_log: Option<Vec<u8>>,
    pub(super) now: UnixTime,
}

/// What was found, and when Intel's collateral is valid.
pub(super) struct Told {
    pub(super) findings: Vec<Finding>,
    pub(super) windows: Vec<CollateralWindow>,
    pub(super) simulated: bool,
}

impl Told {
    fn of(findings: Vec<Finding>) -> Self {
        Self { findings, windows: Vec::new(), simulated: false }
    }
}

/// The findings of a machine that gave no quote.
pub(super) fn without_quote(place: Place) -> Told {
    let all = [SIGNATURE, PLATFORM, COLLATERAL, TCB, APPRAISAL];
    Told::of(match place {
        Place::TdxGuest | Place::SnpGuest => all.map(|check| check.not_run("there is no quote")).into(),
        Place::TdxHost => all
            .map(|check| {
                check.not_run_do("a quote tells, and only guests have one", "run it in a guest of this host")
            })
            .into(),
        Place::SnpHost => all.map(|check| check.not_applicable("guests' reports tell")).into(),
        Place::Other => all.map(|check| check.not_applicable("no TEE was found")).into(),
    })
}

/// The findings of a report of SEV-SNP. What it is worth, policies say: AMD publishes no list of current versions.
pub(super) fn of_snp(trial: &Trial) -> Told {
    let verify = "`confide verify snp` holds a report against its certificates and a policy's floors";
    let platform = match snp::Report::parse(&trial.evidence) {
        Ok(report) if report.report_data == &trial.report_data => PLATFORM.ok(format!(
            "report of version {}, REPORTED_TCB {}, CURRENT_TCB {}",
            report.version,
            hex::encode(&report.reported_tcb),
            hex::encode(&report.current_tcb)
        )),
        Ok(_) => PLATFORM.fail_do("the report signs other report data", INTERFERENCE),
        Err(error) => PLATFORM
            .fail_do(format!("no SEV-SNP report: {error}"), "use a kernel whose driver gives such reports"),
    };
    Told::of(vec![
        SIGNATURE.not_applicable(verify),
        platform,
        COLLATERAL.not_applicable("Intel's is of TDX; `confide collateral fetch --report` fetches AMD's"),
        TCB.not_applicable("AMD publishes no list of current versions: a policy's floors decide"),
        APPRAISAL.not_applicable(verify),
    ])
}

const INTERFERENCE: &str =
    "power the virtual machine off and boot it again; do not use a host that answers other requests";

/// The findings of a quote.
pub(super) async fn of_quote(trial: &Trial, asking: &Asking<'_>) -> Told {
    let quote = &trial.evidence;
    let platform = match endorser::platform(quote) {
        Ok(Some(platform)) => PLATFORM.ok(platform.to_string()),
        Ok(None) => PLATFORM.fail("what the quoting service gave is no TDX quote"),
        Err(failure) => PLATFORM.fail(failure.message()),
    };
    let parsed = Quote::parse(quote, Padding::Zeros);
    if parsed.is_ok_and(|parsed| parsed.report.report_data != &trial.report_data) {
        let after = [COLLATERAL, TCB, APPRAISAL]
            .map(|check| check.not_run("the quote is not the one that was asked for"));
        let signature =
            SIGNATURE.fail_do("the quote signs other report data than it was asked for", INTERFERENCE);
        return Told::of([vec![signature, platform], after.into()].concat());
    }
    let signed = match endorser::signed_platform(quote, &asking.policy.policy) {
        Ok(Some(platform)) => platform,
        Ok(None) | Err(_) => {
            let refused = verdict(trial, None, asking);
            let why = first_failure(&refused)
                .unwrap_or_else(|| "the signatures do not hold up to an accepted root".to_owned());
            let after =
                [COLLATERAL, TCB, APPRAISAL].map(|check| check.not_run("the quote's signatures do not hold"));
            return Told::of([vec![SIGNATURE.fail(why), platform], after.into()].concat());
        }
    };
    let signature = SIGNATURE.ok("the signatures hold up to an accepted root");
    let collateral = asking.endorser.tdx(signed, asking.flags.update(), asking.now).await;
    let collateral = match collateral {
        Ok(collateral) => collateral,
        Err(error) => {
            let failure: Failure = endorser::failure(&error);
            let remedy = failure.what_to_do().map(str::to_owned).unwrap_or_default();
            let finding = COLLATERAL.warn_do(format!("{} [{}]", failure.message(), failure.code()), remedy);
            let after = [TCB, APPRAISAL].map(|check| check.not_run("there is no collateral"));
            let findings = [vec![signature, platform, finding], after.into()].concat();
            return Told { simulated: asking.policy.policy.danger.is_some(), ..Told::of(findings) };
        }
    };
    let windows = collateral_windows(&collateral).unwrap_or_default();
    let fetched = match windows.iter().min_by_key(|window| window.until) {
        Some(first) => {
            format!("expires first: {}, {}", first.part, format_seconds(first.until))
        }
        None => "it cannot be read".to_owned(),
    };
    let result = verdict(trial, Some(collateral), asking);
    let findings = vec![signature, platform, COLLATERAL.ok(fetched), tcb(&result), appraisal(&result)];
    Told { findings, windows, simulated: result.simulated }
}

/// The quote's appraisal under the policy.
fn verdict(trial: &Trial, tdx: Option<TdxCollateral>, asking: &Asking<'_>) -> AttestationResult {
    let endorsements = Endorsements { tdx, ..Endorsements::default() };
    let subject = match &asking.boot_log {
        Some(boot_log) => Subject::QuoteWithLog { quote: &trial.evidence, boot_log },
        None => Subject::Quote(&trial.evidence),
    };
    verify::evaluated(&Inputs {
        subject,
        endorsements: &endorsements,
        prepared: None,
        prepared_devices: None,
        memo: None,
        second_opinion: None,
        references: asking.policy.prepared(),
        policy: &asking.policy.policy,
        challenge: None,
        now: asking.now,
        algorithms: &ALGORITHMS,
    })
}

fn first_failure(result: &AttestationResult) -> Option<String> {
    let failed = result.checks.iter().find(|check| check.status == Status::Fail)?;
    Some(format!("{}: {}", failed.code, failed.actual))
}

fn tcb(result: &AttestationResult) -> Finding {
    let Some(check) = result.checks.iter().find(|check| check.code == rules::TCB_STATUS.code) else {
        return TCB.not_run("the appraisal did not reach the TCB");
    };
    let status = result.tcb_status.unwrap_or("no status");
    let mut found = status.to_owned();
    if !result.advisory_ids.is_empty() {
        found.push_str(&format!(", advisories {}", result.advisory_ids.join(", ")));
    }
    let early = result.early_tcb_status.filter(|early| Some(*early) != result.tcb_status);
    let (early_note, early_remedy) = match early {
        Some(early) => (format!("; becomes {early} with the next TCB recovery"), remedy(early)),
        None => (String::new(), None),
    };
    found.push_str(&early_note);
    match check.status {
        Status::NotRun => {
            let why = first_failure(result).unwrap_or_else(|| check.actual.to_string());
            TCB.fail_do(format!("no status: {why}"), APPRAISED)
        }
        Status::Fail => {
            let actual = format!("{found} ({})", check.actual);
            TCB.fail_do(actual, remedy(status).unwrap_or(UPDATE))
        }
        Status::Pass | Status::Waived => match remedy(status).or(early_remedy) {
            Some(remedy) => TCB.warn_do(found, remedy),
            None => TCB.ok(found),
        },
    }
}

const APPRAISED: &str = "do what the check named here asks for: docs/errors.md has it";
const UPDATE: &str =
    "have the operator bring BIOS, microcode, TDX module and quoting enclave of the host up to date";

/// What to do about a TCB status (Intel PCS API v4, "TCB Info"); nothing about the best one.
fn remedy(status: &str) -> Option<&'static str> {
    Some(match status {
        "UpToDate" => return None,
        "SWHardeningNeeded" => {
            "use an image whose software is hardened against the advisories, and accept this status in the policy"
        }
        "ConfigurationNeeded" => {
            "have the operator change the BIOS as the advisories say (often: switch hyper-threading off), or accept this \
             status in the policy"
        }
        "ConfigurationAndSWHardeningNeeded" => {
            "have the operator change the BIOS as the advisories say, use an image that is hardened against them, or accept \
             this status in the policy"
        }
        "TDRelaunchAdvised" => {
            "power this virtual machine off and start it anew: the host was updated under it"
        }
        "TDRelaunchAdvisedConfigurationNeeded" => {
            "have the operator change the BIOS as the advisories say, then power this virtual machine off and start it anew"
        }
        "OutOfDate" => UPDATE,
        "OutOfDateConfigurationNeeded" => {
            "have the operator bring BIOS, microcode, TDX module and quoting enclave of the host up to date, and change the \
             BIOS as the advisories say"
        }
        "Revoked" => "do not use this platform: Intel has revoked its TCB",
        _ => UPDATE,
    })
}

fn appraisal(result: &AttestationResult) -> Finding {
    let failed: Vec<_> = result
        .checks
        .iter()
        .filter(|check| check.status == Status::Fail && !OF_DOCUMENTS.contains(&check.code))
        .collect();
    let policy = &result.policy;
    let Some(first) = failed.first() else {
        return APPRAISAL.ok(format!("policy {policy}: every other check of the quote passes or is waived"));
    };
    let codes: Vec<String> =
        failed.iter().map(|check| format!("{} ({})", check.code, check.actual)).collect();
    let found = format!("policy {policy}: {}", codes.join("; "));
    match &first.remedy {
        Some(remedy) => APPRAISAL.fail_do(found, remedy.to_string()),
        None => APPRAISAL.fail(found),
    }
}
