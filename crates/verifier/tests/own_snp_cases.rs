//! The cases of `fixtures/snp` in this crate alone, without the program that users run (`tests/conformance`).
#![allow(clippy::unwrap_used, missing_docs, clippy::disallowed_methods, reason = "a test that reads files")]

mod algorithms;
mod cases;

use algorithms::{AWS, RING};
use cases::Suite;
use confide_evidence::bytes::ByteString;
use confide_evidence::document::{Endorsements, SnpEndorsements};
use confide_evidence::record::RecordedReferences;
use confide_evidence::snp::{FileError, certificates, revocation_lists};
use confide_evidence::time::parse_rfc3339;
use confide_verifier::{
    Algorithms, AttestationResult, Inputs, PreparedReferences, Rule, Subject, evaluate, malformed_file, rules,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

const SUITE: Suite = Suite("snp");

fn read<T: DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).unwrap()
}

fn references(case: &Value) -> Option<RecordedReferences> {
    let given = case.get("references")?;
    Some(RecordedReferences {
        file: ByteString(SUITE.file(&given["file"])),
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
        found.extend(split(&SUITE.file(named)).map_err(|error| (rule, error))?.into_iter().map(ByteString));
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
    let (policy, report) = (SUITE.policy(case), SUITE.file(&case["evidence"]["report"]));
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
    let cases = SUITE.cases();
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
    let cases = SUITE.cases();
    for case in &cases {
        let [one, other] = [&AWS, &RING].map(|algorithms| verdict(case, algorithms).to_json());
        assert_eq!(one, other, "{}", case["name"]);
    }
    assert!(cases.len() > 160, "{}", cases.len());
}
