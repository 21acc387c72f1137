//! The codes that cases name, and the checks that have cases.

use super::fixtures::SUITES;
use confide_verifier::rules;
use serde_json::Value;
use std::collections::BTreeSet;

/// The last check of a bare quote: [`rules::ALL`] has them in the order of an appraisal, the quote's first.
const LAST_OF_A_QUOTE: &str = "report_data";

/// Checks that no verdict has as passed.
const NEVER_PASS: [&str; 4] = [
    // Noted where collateral is missing, or its file cannot be read.
    "collateral_present",
    "collateral_file",
    // Agreement is a check of its own, cross_check.
    "cross_check_inputs",
    "cross_check_disagrees",
];

/// Checks that no verdict has as failed: bytes behind a quote that are not zero are a quote_format.
const NEVER_FAIL: [&str; 1] = ["quote_padding"];

/// Every check up to the quote's report data passes in a case that is accepted, and is the first that fails in another.
#[test]
fn every_check_of_a_quote_passes_in_one_case_and_fails_in_another() {
    let run = super::fixtures::run("tdx");
    let (mut passes, mut fails) = (BTreeSet::new(), BTreeSet::new());
    for verdict in run.reports.iter().map(|report| &report["verdict"]) {
        fails.extend(verdict["code"].as_str().map(str::to_owned));
        if verdict["outcome"] == "accepted" {
            let checks = verdict["checks"].as_array().unwrap().iter();
            let passed = checks.filter(|check| check["status"] == "pass");
            passes.extend(passed.map(|check| check["code"].as_str().unwrap().to_owned()));
        }
    }
    let end = rules::ALL.iter().position(|rule| rule.code == LAST_OF_A_QUOTE).unwrap();
    let of_quotes: Vec<&str> = rules::ALL[..=end].iter().map(|rule| rule.code).collect();
    assert!(of_quotes.len() > 60 && of_quotes.contains(&"boot_log"), "{of_quotes:?}");
    let without = |having: &BTreeSet<String>, excepted: &[&str]| -> Vec<&str> {
        let wanted = of_quotes.iter().copied().filter(|code| !excepted.contains(code));
        wanted.filter(|code| !having.contains(*code)).collect()
    };
    assert_eq!(without(&passes, &NEVER_PASS), [""; 0], "no accepted case in which these pass");
    assert_eq!(without(&fails, &NEVER_FAIL), [""; 0], "no case in which these are the first to fail");
    assert!(NEVER_PASS.iter().all(|code| !passes.contains(*code)), "some of these pass: {NEVER_PASS:?}");
    assert!(NEVER_FAIL.iter().all(|code| !fails.contains(*code)), "some of these fail: {NEVER_FAIL:?}");
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
