//! The codes that cases name, and the checks that have cases.

use super::fixtures::SUITES;
use confide_verifier::rules;
use serde_json::Value;
use std::collections::BTreeSet;

/// Checks that no accepted case has as passed, and why.
const NEVER_PASS: [(&str, &str); 9] = [
    ("collateral_present", "noted where collateral is missing"),
    ("collateral_file", "noted where the file of collateral cannot be read"),
    ("cross_check_inputs", "agreement is a check of its own, cross_check"),
    ("cross_check_disagrees", "agreement is a check of its own, cross_check"),
    ("snp_endorsements_present", "noted where there are no certificates"),
    ("snp_certificate_file", "noted where a certificate cannot be read"),
    ("snp_crl_file", "noted where a revocation list cannot be read"),
    ("gpu_evidence_file", "noted where there is no evidence to read"),
    ("nras_disagrees", "agreement is a check of its own, nras"),
];

/// Checks that are the first to fail in no case, and why.
const NEVER_FAIL: [(&str, &str); 2] = [
    ("quote_padding", "bytes behind a quote that are not zero are a quote_format"),
    (
        "witness",
        "the cases' policies are danger policies, which may leave a witness open; of others a unit test of appraise.rs",
    ),
];

/// Every check passes in a case that is accepted, and is the first that fails in another.
#[test]
fn every_check_passes_in_one_case_and_fails_in_another() {
    let (mut passes, mut fails) = (BTreeSet::new(), BTreeSet::new());
    for suite in SUITES {
        for verdict in super::fixtures::run(suite).reports.iter().map(|report| &report["verdict"]) {
            fails.extend(verdict["code"].as_str().map(str::to_owned));
            if verdict["outcome"] == "accepted" {
                let checks = verdict["checks"].as_array().unwrap().iter();
                let passed = checks.filter(|check| check["status"] == "pass");
                passes.extend(passed.map(|check| check["code"].as_str().unwrap().to_owned()));
            }
        }
    }
    let without = |having: &BTreeSet<String>| -> Vec<&str> {
        rules::ALL.iter().map(|rule| rule.code).filter(|code| !having.contains(*code)).collect()
    };
    assert_eq!(without(&passes), sorted(&NEVER_PASS), "no accepted case in which these pass");
    assert_eq!(without(&fails), sorted(&NEVER_FAIL), "no case in which these are the first to fail");
    println!("{} checks: {} pass, {} fail first", rules::ALL.len(), passes.len(), fails.len());
}

/// The codes of exceptions, in the order of the rules.
fn sorted(exceptions: &[(&str, &str)]) -> Vec<&'static str> {
    assert!(exceptions.iter().all(|(_, why)| why.len() > 10), "an exception has a reason");
    let excepted = |code: &&str| exceptions.iter().any(|(exception, _)| exception == code);
    let codes: Vec<&str> = rules::ALL.iter().map(|rule| rule.code).filter(excepted).collect();
    assert_eq!(
        codes.len(),
        exceptions.len(),
        "an exception that is no check, or stands twice: {exceptions:?}"
    );
    codes
}

#[test]
fn every_named_check_of_a_case_exists() {
    for suite in SUITES {
        for (name, text) in super::fixtures::cases(suite) {
            let case: Value = serde_json::from_str(&text).unwrap();
            let checks = case["expected"]["checks"].as_object().cloned().unwrap_or_default();
            let code = case["expected"]["code"].as_str().map(str::to_owned);
            for code in checks.keys().chain(&code) {
                assert!(rules::ALL.iter().any(|rule| rule.code == code), "{name}: no check is called {code}");
            }
        }
    }
}
