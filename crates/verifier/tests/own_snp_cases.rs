//! The cases of `fixtures/snp` in this crate alone, without the program that users run (`tests/conformance`).
#![allow(clippy::unwrap_used, missing_docs, clippy::disallowed_methods, reason = "a test that reads files")]

mod algorithms;

use algorithms::{AWS, RING};
use confide_evidence::bytes::ByteString;
use confide_evidence::document::{Endorsements, SnpEndorsements};
use confide_evidence::record::RecordedReferences;
use confide_evidence::snp::{FileError, certificates, revocation_lists};
use confide_evidence::time::parse_rfc3339;
use confide_policy::AppraisalPolicy;
use confide_verifier::{
    Algorithms, AttestationResult, Inputs, PreparedReferences, Rule, Subject, evaluate, malformed_file, rules,
};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/snp")
}

fn cases() -> Vec<Value> {
    let mut folders: Vec<PathBuf> =
        std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    folders
        .iter()
        .filter_map(|folder| std::fs::read_to_string(folder.join("case.json")).ok())
        .map(|text| serde_json::from_str(&text).unwrap())
        .collect()
}

/// A file that a case names.
fn file(value: &Value) -> Vec<u8> {
    std::fs::read(folder().join(value["file"].as_str().unwrap())).unwrap()
}

fn read<T: DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).unwrap()
}

fn policy(case: &Value) -> AppraisalPolicy {
    match case["policy"]["builtin"].as_str() {
        Some("inspect") => AppraisalPolicy::inspect(),
        Some("client") => AppraisalPolicy::client(),
        _ => AppraisalPolicy::parse_recorded(&String::from_utf8(file(&case["policy"])).unwrap()).unwrap(),
    }
}

fn references(case: &Value) -> Option<RecordedReferences> {
    let given = case.get("references")?;
    Some(RecordedReferences {
        file: ByteString(file(&given["file"])),
        last_seen: given.get("last_seen").map(read),
        signature: read(&given["signature"]["hex"]),
    })
}

/// The DER of each element of a file.
type Split = fn(&[u8]) -> Result<Vec<Vec<u8>>, FileError>;

/// What several files hold, else the rule that one of them breaks.
fn elements(
    files: &Value,
    split: Split,
    rule: &'static Rule,
) -> Result<Vec<ByteString>, (&'static Rule, FileError)> {
    let mut found = Vec::new();
    for named in files.as_array().into_iter().flatten() {
        found.extend(split(&file(named)).map_err(|error| (rule, error))?.into_iter().map(ByteString));
    }
    Ok(found)
}

fn endorsements(given: &Value) -> Result<Option<SnpEndorsements>, (&'static Rule, FileError)> {
    let [of_key, lists] = ["snp_certificates", "snp_crls"].map(|name| &given[name]);
    if of_key.is_null() && lists.is_null() {
        return Ok(None);
    }
    Ok(Some(SnpEndorsements {
        certificates: elements(of_key, certificates, &rules::SNP_CERTIFICATE_FILE)?,
        crls: elements(lists, revocation_lists, &rules::SNP_CRL_FILE)?,
    }))
}

fn verdict(case: &Value, algorithms: &Algorithms) -> AttestationResult {
    assert_eq!(case["evidence"]["kind"], "snp-report", "{}", case["name"]);
    assert!(case.get("second_opinion").is_none(), "{}: no opinion is formed on a report", case["name"]);
    let (policy, report) = (policy(case), file(&case["evidence"]["report"]));
    let now = parse_rfc3339(case["time"].as_str().unwrap()).unwrap();
    let snp = match endorsements(&case["endorsements"]) {
        Ok(snp) => snp,
        Err((rule, error)) => return malformed_file(rule, error.to_string(), &policy, now),
    };
    let references = references(case).map(|given| PreparedReferences::new(&given, &policy, algorithms));
    let inputs = Inputs {
        subject: Subject::SnpReport(&report),
        endorsements: &Endorsements { snp, ..Endorsements::default() },
        prepared: None,
        prepared_devices: None,
        memo: None,
        second_opinion: None,
        references: references.as_ref(),
        policy: &policy,
        challenge: None,
        now,
        algorithms,
    };
    evaluate(&inputs).unwrap_or_else(|rejection| *rejection.result)
}

#[test]
fn every_case_gets_the_verdict_that_it_expects() {
    let cases = cases();
    for case in &cases {
        let (expected, verdict) = (&case["expected"], verdict(case, &AWS).to_json());
        let verdict: Value = serde_json::from_str(&verdict).unwrap();
        for field in ["outcome", "code", "simulated"] {
            if let Some(value) = expected.get(field) {
                assert_eq!(*value, verdict[field], "{} {field}", case["name"]);
            }
        }
    }
    assert!(cases.len() > 160, "{}", cases.len());
}

#[test]
fn ring_and_aws_lc_rs_give_the_same_verdict_bytes() {
    let cases = cases();
    for case in &cases {
        let [one, other] = [&AWS, &RING].map(|algorithms| verdict(case, algorithms).to_json());
        assert_eq!(one, other, "{}", case["name"]);
    }
    assert!(cases.len() > 160, "{}", cases.len());
}
