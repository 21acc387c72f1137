//! Our own cases.

use super::program::{Run, assert_met, conformance};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// The suites' folders.
pub(crate) const SUITES: [&str; 3] = ["tdx", "snp", "nvidia"];

pub(crate) fn folder(suite: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(suite)
}

/// The texts of a suite's cases, by name.
pub(crate) fn cases(suite: &str) -> Vec<(String, String)> {
    let mut cases: Vec<(String, String)> = std::fs::read_dir(folder(suite))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("case.json").is_file())
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, std::fs::read_to_string(path.join("case.json")).unwrap())
        })
        .collect();
    cases.sort();
    cases
}

/// The program's reports on a suite.
pub(crate) fn run(suite: &str) -> Run {
    let texts: Vec<String> = cases(suite).into_iter().map(|(_, text)| text).collect();
    conformance(&["--danger"], &folder(suite), &texts.concat())
}

#[test]
fn every_case_of_our_own_is_met() {
    for suite in SUITES {
        let cases = cases(suite);
        let run = run(suite);
        assert_met(&run, cases.len());
        for ((name, _), report) in cases.iter().zip(&run.reports) {
            assert_eq!(report["case"], **name, "a case bears its folder's name");
        }
        println!("fixtures/{suite}: {} cases met", cases.len());
    }
}

#[test]
fn every_case_says_why_and_expects_a_code() {
    for suite in SUITES {
        for (name, text) in cases(suite) {
            let case: Value = serde_json::from_str(&text).unwrap();
            assert!(case["why"].as_str().unwrap().len() > 10, "{name} does not say why");
            let expected = &case["expected"];
            let accepted = expected["outcome"] == "accepted";
            assert_eq!(accepted, expected["code"].is_null(), "{name}: a refusal has a code");
            assert_eq!(accepted, name.starts_with("accept-"), "{name}: the name says what must happen");
        }
    }
}
