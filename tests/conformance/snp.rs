//! The checks of SEV-SNP reports and the cases that they have.

use confide_verifier::rules;
use std::collections::BTreeSet;

/// Checks that are noted in failure alone.
const FAILURES: [&str; 3] = ["snp_endorsements_present", "snp_certificate_file", "snp_crl_file"];

#[test]
fn every_check_of_a_report_passes_in_one_case_and_fails_in_another() {
    let run = super::fixtures::run("snp");
    let (mut passes, mut fails) = (BTreeSet::new(), BTreeSet::new());
    for verdict in run.reports.iter().map(|report| &report["verdict"]) {
        fails.extend(verdict["code"].as_str().map(str::to_owned));
        if verdict["outcome"] == "accepted" {
            let checks = verdict["checks"].as_array().unwrap().iter();
            let passed = checks.filter(|check| check["status"] == "pass");
            passes.extend(passed.map(|check| check["code"].as_str().unwrap().to_owned()));
        }
    }
    let codes: Vec<&str> =
        rules::ALL.iter().map(|rule| rule.code).filter(|code| code.starts_with("snp_")).collect();
    assert!(codes.len() > 60, "{codes:?}");
    for code in codes {
        assert!(fails.contains(code), "no case in which {code} is the first to fail");
        assert!(passes.contains(code) || FAILURES.contains(&code), "no accepted case in which {code} passes");
    }
}
