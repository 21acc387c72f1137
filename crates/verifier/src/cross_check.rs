//! The finding of another verifier, held against ours.
//!
//! Agreement means: the same TCB status, or a refusal on both sides. Anything else is a rejection, a difference that is
//! known and explained included: whoever asks for a second opinion wants to hear of it.

use crate::check::Checks;
use crate::rules;
use crate::text::Text;
use confide_evidence::bytes::Digest;
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
const STRICTER: [&str; 13] = [
    "quote_format",
    "collateral_format",
    "root_anchor",
    "root_signature",
    "pck_ca_signature",
    "pck_chain_form",
    "pck_extension",
    "attestation_key_binding",
    "fmspc",
    "qe_identity",
    "tcb_info_kind",
    "qe_identity_kind",
    "validity",
];

/// Compares `ours`, the TCB status where signatures, chains and windows hold, with the second opinion, which must be of the
/// inputs with the digest `over`.
pub(crate) fn compare(
    ours: Option<&'static str>,
    opinion: Option<&SecondOpinion>,
    over: impl FnOnce() -> Option<Digest>,
    require: &Require,
    checks: &mut Checks,
) {
    let Some(opinion) = opinion else {
        let found = Err::<Text, _>("no second verifier was asked");
        return checks.require(&rules::CROSS_CHECK, require, found);
    };
    let verifier = &opinion.verifier;
    let over = over();
    if over != Some(opinion.inputs) {
        let over = over.map_or_else(|| "no collateral beside the quote".to_owned(), |over| over.to_string());
        let actual = format!("{verifier} was asked about {}, this is {over}", opinion.inputs);
        return checks.fail(&rules::CROSS_CHECK_INPUTS, actual);
    }
    match (ours, &opinion.found) {
        (_, Finding::NotAsked(why)) => {
            let actual = format!("{verifier} was not asked: {why}");
            if checks.first_failure().is_some() {
                // Refused as it is: no opinion would change that.
                checks.not_run(&rules::CROSS_CHECK, actual);
            } else {
                checks.require(&rules::CROSS_CHECK, require, Err::<Text, _>(actual));
            }
        }
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
                Finding::NotAsked(why) => format!("not asked: {why}"),
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
        (Some(ours), Finding::Status(theirs))
            if ours.starts_with("OutOfDate") && theirs.starts_with("TDRelaunchAdvised") =>
        {
            Some("a known difference: a relaunch is advised by all of Intel's conditions here, by fewer there")
        }
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
    use confide_evidence::bytes::Bytes;

    const INPUTS: Digest = Bytes([1; 32]);

    fn opinion(found: Finding) -> SecondOpinion {
        SecondOpinion { found, inputs: INPUTS, verifier: "other 1.0".to_owned() }
    }

    /// As [`super::compare`], over the inputs of [`opinion`].
    fn compare(
        ours: Option<&'static str>,
        opinion: Option<&SecondOpinion>,
        require: &Require,
        checks: &mut Checks,
    ) {
        super::compare(ours, opinion, || Some(INPUTS), require, checks);
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
        let outright = check(Some("UpToDate"), refused("SEPT_VE_DISABLE is not enabled"));
        assert_eq!((outright.code, outright.status), ("cross_check_disagrees", Status::Fail));
        assert!(outright.actual.contains("known difference"), "{}", outright.actual);
        let relaunch = check(Some("OutOfDate"), status("TDRelaunchAdvised"));
        assert_eq!((relaunch.code, relaunch.status), ("cross_check_disagrees", Status::Fail));
        assert!(relaunch.actual.contains("known difference"), "{}", relaunch.actual);
        let mut checks = Checks::default();
        checks.fail(&rules::PCK_CHAIN_FORM, "four certificates");
        compare(None, Some(&opinion(status("UpToDate"))), &Require::Required, &mut checks);
        let check = checks.into_list().remove(1);
        assert!(check.actual.contains("refused by pck_chain_form"), "{}", check.actual);
        assert!(check.actual.contains("known difference"), "{}", check.actual);
    }

    #[test]
    fn an_opinion_of_other_inputs_is_refused_whatever_it_says() {
        for over in [None, Some(Bytes([2; 32]))] {
            for found in
                [status("UpToDate"), refused("bad signature"), Finding::NotAsked("a test".to_owned())]
            {
                let mut checks = Checks::default();
                let waive = Require::Waive("not asked for".into());
                super::compare(Some("UpToDate"), Some(&opinion(found)), || over, &waive, &mut checks);
                assert_eq!(checks.first_failure(), Some("cross_check_inputs"), "{over:?}");
            }
        }
    }

    #[test]
    fn an_opinion_that_was_not_asked_for_is_missing_unless_the_evidence_is_refused_anyway() {
        let not_asked = opinion(Finding::NotAsked("its signatures do not hold".to_owned()));
        let waive = Require::Waive("not asked for".into());
        for (require, status) in [(&Require::Required, Status::Fail), (&waive, Status::Waived)] {
            let mut checks = Checks::default();
            compare(Some("UpToDate"), Some(&not_asked), require, &mut checks);
            let check = checks.into_list().remove(0);
            assert_eq!((check.code, check.status), ("cross_check", status));
        }
        let mut checks = Checks::default();
        checks.fail(&rules::QUOTE_SIGNATURE, "the signature does not verify");
        compare(None, Some(&not_asked), &Require::Required, &mut checks);
        let check = checks.into_list().remove(1);
        assert_eq!((check.code, check.status), ("cross_check", Status::NotRun));
        assert!(check.actual.contains("its signatures do not hold"), "{}", check.actual);
    }

    #[test]
    fn the_policy_decides_about_the_absence_of_an_opinion_alone() {
        let waive = Require::Waive("not asked for".into());
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
