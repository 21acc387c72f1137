//! The finding of another verifier, held against ours.
//!
//! Agreement means: the same TCB status, or a refusal on both sides. Anything else is a rejection, a difference that is
//! known and explained included: whoever asks for a second opinion wants to hear of it.

use crate::check::Checks;
use crate::rules;
use confide_evidence::record::{Finding, SecondOpinion};
use confide_policy::Require;

/// TCB statuses that other verifiers report as a refusal.
const REFUSALS: [&str; 2] = ["NoMatchingTcbLevel", "Revoked"];

/// What `dcap-qvl` says where it refuses outright what is the policy's here, or Intel's to say: TD attributes, SEAM
/// attributes, the length of QE authentication data, the status of a TDX module.
const OUTRIGHT: [&str; 9] = [
    "SEPT_VE_DISABLE",
    "Reserved bits",
    "TD migration",
    "TD profiling",
    "Debug mode",
    "SERVTD_EXT",
    "SEAMATTRIBUTES has bits set outside mask",
    "QE auth data length",
    "Unrecognized TCB status",
];

/// Rules by which this verifier is stricter than `dcap-qvl` (docs/differential.md).
const STRICTER: [&str; 12] = [
    "quote_format",
    "collateral_format",
    "root_anchor",
    "root_signature",
    "pck_ca_signature",
    "pck_chain_form",
    "pck_extension",
    "attestation_key_binding",
    "fmspc",
    "tcb_info_kind",
    "qe_identity_kind",
    "validity",
];

/// Compares `ours`, the TCB status where signatures, chains and windows hold, with the second opinion.
pub(crate) fn compare(
    ours: Option<&'static str>,
    opinion: Option<&SecondOpinion>,
    require: &Require,
    checks: &mut Checks,
) {
    let Some(opinion) = opinion else {
        return checks.require(&rules::CROSS_CHECK, require, Err("no second verifier was asked".to_owned()));
    };
    let verifier = &opinion.verifier;
    match (ours, &opinion.found) {
        (Some(ours), Finding::Status(theirs)) if ours == theirs => {
            checks.pass(&rules::CROSS_CHECK, format!("{verifier} finds {theirs}, too"));
        }
        (None, Finding::Refused(why)) => {
            checks.pass(&rules::CROSS_CHECK, format!("{verifier} refuses the quote, too: {why}"));
        }
        (Some(ours), Finding::Refused(why)) if REFUSALS.contains(&ours) => {
            checks.pass(&rules::CROSS_CHECK, format!("{verifier} refuses the quote, {ours} here: {why}"));
        }
        (ours, theirs) => {
            let failed = checks.first_failure();
            let known = known(ours, failed, theirs).map(|why| format!("; {why}")).unwrap_or_default();
            let here = match (ours, failed) {
                (Some(status), _) => format!("TCB status {status}"),
                (None, Some(code)) => format!("refused by {code}"),
                (None, None) => "no TCB status".to_owned(),
            };
            let there = match theirs {
                Finding::Status(status) => format!("TCB status {status}"),
                Finding::Refused(why) => format!("refused: {why}"),
            };
            checks.fail(&rules::CROSS_CHECK_DISAGREES, format!("here {here}, {verifier}: {there}{known}"));
        }
    }
}

/// Why the two differ, where that is known and decided (docs/differential.md).
fn known(ours: Option<&str>, failed: Option<&str>, theirs: &Finding) -> Option<&'static str> {
    match (ours, theirs) {
        (Some(_), Finding::Refused(why)) => OUTRIGHT.iter().any(|name| why.contains(name)).then_some(
            "a known difference: what is left to policy or collateral here is refused outright there",
        ),
        (None, Finding::Status(_)) => failed.filter(|code| STRICTER.contains(code)).map(|_| {
            "a known difference: every byte of quote, certificates and TCB info must hold here, not there"
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{Check, Status};

    fn opinion(found: Finding) -> SecondOpinion {
        SecondOpinion { found, verifier: "other 1.0".to_owned() }
    }

    fn status(name: &str) -> Finding {
        Finding::Status(name.to_owned())
    }

    fn refused(why: &str) -> Finding {
        Finding::Refused(why.to_owned())
    }

    fn check(ours: Option<&'static str>, found: Finding) -> Check {
        let mut checks = Checks::default();
        compare(ours, Some(&opinion(found)), &Require::Required, &mut checks);
        checks.into_list().remove(0)
    }

    #[test]
    fn the_same_status_or_two_refusals_agree() {
        for (ours, found) in [
            (Some("UpToDate"), status("UpToDate")),
            (None, refused("bad signature")),
            (Some("NoMatchingTcbLevel"), refused("no level")),
            (Some("Revoked"), refused("revoked")),
        ] {
            let check = check(ours, found);
            assert_eq!((check.code, check.status), ("cross_check", Status::Pass), "{ours:?}");
            assert!(check.actual.contains("other 1.0"), "{}", check.actual);
        }
    }

    #[test]
    fn a_difference_rejects_and_names_both() {
        for (ours, found, texts) in [
            (
                Some("UpToDate"),
                status("OutOfDate"),
                ["TCB status UpToDate", "other 1.0: TCB status OutOfDate"],
            ),
            (Some("UpToDate"), refused("bad signature"), ["TCB status UpToDate", "refused: bad signature"]),
            (None, status("UpToDate"), ["no TCB status", "other 1.0: TCB status UpToDate"]),
            (Some("Revoked"), status("UpToDate"), ["Revoked", "UpToDate"]),
        ] {
            let check = check(ours, found);
            assert_eq!((check.code, check.status), ("cross_check_disagrees", Status::Fail), "{ours:?}");
            assert!(texts.iter().all(|text| check.actual.contains(text)), "{}", check.actual);
            assert!(!check.actual.contains("known difference"), "{}", check.actual);
        }
    }

    #[test]
    fn a_known_difference_rejects_and_is_named() {
        let check = check(Some("UpToDate"), refused("SEPT_VE_DISABLE is not enabled"));
        assert_eq!((check.code, check.status), ("cross_check_disagrees", Status::Fail));
        assert!(check.actual.contains("known difference"), "{}", check.actual);
        let mut checks = Checks::default();
        checks.fail(&rules::PCK_CHAIN_FORM, "four certificates");
        compare(None, Some(&opinion(status("UpToDate"))), &Require::Required, &mut checks);
        let check = checks.into_list().remove(1);
        assert!(check.actual.contains("refused by pck_chain_form"), "{}", check.actual);
        assert!(check.actual.contains("known difference"), "{}", check.actual);
    }

    #[test]
    fn the_policy_decides_about_the_absence_of_an_opinion_alone() {
        let waive = Require::Waive("not asked for".to_owned());
        for (require, status) in [(&Require::Required, Status::Fail), (&waive, Status::Waived)] {
            let mut checks = Checks::default();
            compare(Some("UpToDate"), None, require, &mut checks);
            let check = checks.into_list().remove(0);
            assert_eq!((check.code, check.status), ("cross_check", status));
        }
        let mut checks = Checks::default();
        compare(Some("UpToDate"), Some(&opinion(status("OutOfDate"))), &waive, &mut checks);
        assert_eq!(checks.first_failure(), Some("cross_check_disagrees"));
    }
}
