//! The codes that cases name.

use super::fixtures::SUITES;
use confide_verifier::rules;
use serde_json::Value;

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
