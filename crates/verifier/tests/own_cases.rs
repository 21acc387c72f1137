//! The cases of `fixtures/tdx` in this crate alone, without the program that users run (`tests/conformance`): what must be
//! noticed first when a check is broken, and with prepared collateral, too.
#![allow(clippy::unwrap_used, missing_docs, clippy::disallowed_methods, reason = "a test that reads files")]

mod algorithms;
mod cases;

use algorithms::{AWS, RING};
use cases::Suite;
use confide_evidence::bytes::ByteString;
use confide_evidence::bytes::Bytes;
use confide_evidence::document::{Endorsements, TdxCollateral};
use confide_evidence::record::{RecordedChallenge, RecordedReferences, SecondOpinion};
use confide_evidence::tdx::{Padding, Quote, collateral_from_json};
use confide_evidence::time::parse_rfc3339;
use confide_evidence::transcript::Role;
use confide_policy::AppraisalPolicy;
use confide_simulator::{PlatformOptions, QuoteFlaw, SimulatedPlatform, SimulatedTd, TdMeasurements};
use confide_verifier::{
    Algorithms, AttestationResult, Inputs, PreparedCollateral, PreparedReferences, Status, Subject, evaluate,
    malformed_collateral, verify_origin,
};
use rustls_pki_types::UnixTime;
use serde::de::DeserializeOwned;
use serde_json::Value;

const SUITE: Suite = Suite("tdx");

fn read<T: DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).unwrap()
}

fn challenge(case: &Value) -> Option<RecordedChallenge> {
    let challenge = case["evidence"].get("challenge")?;
    let role = challenge["role"].as_str().unwrap();
    let roles = [Role::Serve, Role::Batch, Role::KeyRelease];
    Some(RecordedChallenge {
        role: roles.into_iter().find(|one| one.name() == role).unwrap(),
        spki: read(&challenge["spki"]),
        nonce: read(&challenge["nonce"]),
        exporter: read(&challenge["exporter"]),
    })
}

/// The case's opinion, of the case's inputs unless it names others.
fn second_opinion(opinion: &Value, inputs: &Inputs<'_>) -> SecondOpinion {
    let over = opinion.get("inputs").map(read).or_else(|| inputs.opinion_digest());
    SecondOpinion {
        found: read(&opinion["found"]),
        inputs: over.unwrap_or(Bytes([0; 32])),
        verifier: read(&opinion["verifier"]),
    }
}

fn references(case: &Value) -> Option<RecordedReferences> {
    let given = case.get("references")?;
    Some(RecordedReferences {
        file: ByteString(SUITE.file(&given["file"])),
        last_seen: given.get("last_seen").map(read),
        signature: read(&given["signature"]["hex"]),
    })
}

fn collateral(case: &Value) -> Result<Option<TdxCollateral>, confide_evidence::tdx::CollateralError> {
    let given = |name: &str| {
        let bytes = SUITE.named(&case["endorsements"][name]);
        bytes.map(|bytes| collateral_from_json(&bytes)).transpose()
    };
    let early = given("tdx_early_collateral")?.map(TdxCollateral::into_early);
    Ok(given("tdx_collateral")?.map(|standard| TdxCollateral { early, ..standard }))
}

/// The verdict on a case; the second one is made with prepared collateral.
fn verdicts(case: &Value) -> Vec<AttestationResult> {
    verdicts_by(case, &AWS)
}

fn verdicts_by(case: &Value, algorithms: &Algorithms) -> Vec<AttestationResult> {
    let policy = SUITE.policy(case);
    let now = parse_rfc3339(case["time"].as_str().unwrap()).unwrap();
    let tdx = match collateral(case) {
        Ok(tdx) => tdx,
        Err(error) => return vec![malformed_collateral(&error, &policy, now)],
    };
    let evidence = &case["evidence"];
    let bytes = SUITE.named(&evidence["quote"]).or_else(|| SUITE.named(&evidence["document"])).unwrap();
    let log = SUITE.named(&evidence["boot_log"]);
    let subject = match (evidence["kind"].as_str().unwrap(), &log) {
        ("tdx-quote", Some(boot_log)) => Subject::QuoteWithLog { quote: &bytes, boot_log },
        ("tdx-quote", None) => Subject::Quote(&bytes),
        _ => Subject::Document(&bytes),
    };
    let prepared = tdx.as_ref().map(|tdx| PreparedCollateral::new(tdx, &policy, algorithms));
    let endorsements = Endorsements { tdx, ..Endorsements::default() };
    let references = references(case).map(|given| PreparedReferences::new(&given, &policy, algorithms));
    let challenge = challenge(case);
    let with = |prepared| {
        let inputs = Inputs {
            subject,
            endorsements: &endorsements,
            prepared,
            prepared_devices: None,
            memo: None,
            second_opinion: None,
            references: references.as_ref(),
            policy: &policy,
            challenge: challenge.as_ref(),
            now,
            algorithms,
        };
        let opinion = case.get("second_opinion").map(|opinion| second_opinion(opinion, &inputs));
        let inputs = Inputs { second_opinion: opinion.as_ref(), ..inputs };
        evaluate(&inputs).unwrap_or_else(|rejection| *rejection.result)
    };
    let plain = with(None);
    prepared.iter().map(|prepared| with(Some(prepared))).chain([plain]).collect()
}

#[test]
fn every_case_gets_the_verdict_that_it_expects() {
    let mut wrong = Vec::new();
    let cases = SUITE.cases();
    for case in &cases {
        let expected = &case["expected"];
        for result in verdicts(case) {
            let verdict: Value = serde_json::from_str(&result.to_json()).unwrap();
            for field in ["outcome", "code", "tcb_status", "advisory_ids", "simulated"] {
                if expected.get(field).is_some_and(|value| *value != verdict[field]) {
                    wrong.push(format!("{} {field}: {}", case["name"], verdict[field]));
                }
            }
            for (code, status) in expected["checks"].as_object().into_iter().flatten() {
                let checks = verdict["checks"].as_array().unwrap().iter();
                let found: Vec<&Value> =
                    checks.filter(|check| check["code"] == **code).map(|check| &check["status"]).collect();
                let as_expected = match status.as_str().unwrap() {
                    "absent" => found.is_empty(),
                    _ => !found.is_empty() && found.iter().all(|one| *one == status),
                };
                if !as_expected {
                    wrong.push(format!("{} check {code}: {found:?}", case["name"]));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    let least = Suite::only().map_or(201, |_| 1);
    assert!(cases.len() >= least, "{}", cases.len());
}

#[test]
fn ring_and_aws_lc_rs_give_the_same_verdict_bytes() {
    let mut compared = 0;
    for case in SUITE.cases() {
        let [one, other] = [&AWS, &RING].map(|algorithms| verdicts_by(&case, algorithms));
        assert_eq!(one.len(), other.len(), "{}", case["name"]);
        for (one, other) in one.iter().zip(&other) {
            assert_eq!(one.to_json(), other.to_json(), "{}", case["name"]);
            compared += 1;
        }
    }
    assert!(compared > 400, "{compared}");
}

/// A quote with endorsements and time alone.
fn bare<'a>(
    quote: &'a [u8],
    endorsements: &'a Endorsements,
    policy: &'a AppraisalPolicy,
    now: UnixTime,
) -> Inputs<'a> {
    Inputs {
        subject: Subject::Quote(quote),
        endorsements,
        prepared: None,
        prepared_devices: None,
        memo: None,
        second_opinion: None,
        references: None,
        policy,
        challenge: None,
        now,
        algorithms: &AWS,
    }
}

/// The 384 bytes of the report, each with another value before the PCK signs it: all but those of MRENCLAVE and CPUSVN, which
/// are the policy's, and ATTRIBUTES under the mask are refused, and by the checks that are about them.
#[test]
fn no_byte_of_a_quoting_enclaves_report_goes_unlooked_at() {
    let case = SUITE.cases().into_iter().find(|case| case["name"] == "accept-v4").unwrap();
    let (policy, now) = (SUITE.policy(&case), parse_rfc3339(case["time"].as_str().unwrap()).unwrap());
    let platform = SimulatedPlatform::new(PlatformOptions::at(now.as_secs())).unwrap();
    let report = SimulatedTd::new(TdMeasurements::default()).report([7; 64]);
    let endorsements = Endorsements { tdx: collateral(&case).unwrap(), ..Endorsements::default() };
    let mut refused = 0;
    for at in 0..384 {
        let quote = platform.flawed_quote(&report, &[QuoteFlaw::QeReportByte(at)]);
        let inputs = bare(&quote, &endorsements, &policy, now);
        let result = evaluate(&inputs).unwrap_or_else(|rejection| *rejection.result);
        let expected = match at {
            0..16 => Some("qe_cpu_svn"),
            64..96 => Some("qe_mr_enclave"),
            // XFRM, which Intel's mask leaves out.
            56..64 => None,
            // ISVSVN 5 and 260 are above the best level of 4.
            258 | 259 => None,
            320..384 => Some("attestation_key_binding"),
            _ => Some("qe_identity"),
        };
        let waived = |code: &str| {
            result.checks.iter().any(|check| check.code == code && check.status == Status::Waived)
        };
        assert_eq!(result.code, expected.filter(|code| !waived(code)), "byte {at}");
        refused += usize::from(!result.accepted());
    }
    assert_eq!(refused, 358);
}

/// What breaks a quote by itself is noticed without collateral, and nothing else is.
#[test]
fn the_origin_of_a_quote_is_verified_without_collateral() {
    let own = ["pck_signature", "qe_report_signature", "attestation_key_binding", "quote_signature"];
    let (mut held, mut broken) = (0, 0);
    for case in SUITE.cases().iter().filter(|case| case["evidence"]["kind"] == "tdx-quote") {
        let bytes = SUITE.file(&case["evidence"]["quote"]);
        let Ok(quote) = Quote::parse(&bytes, Padding::Zeros) else { continue };
        let policy = SUITE.policy(case);
        let found = verify_origin(&quote, &policy, &AWS).map_err(|check| check.code);
        let endorsements = Endorsements::default();
        let now = parse_rfc3339(case["time"].as_str().unwrap()).unwrap();
        let inputs = bare(&bytes, &endorsements, &policy, now);
        let without = evaluate(&inputs).unwrap_err().result;
        assert_eq!(without.code, Some(found.err().unwrap_or("collateral_present")), "{}", case["name"]);
        let anchored = !matches!(found, Err("pck_chain_form" | "root_anchor"));
        assert_eq!(without.simulated, anchored, "{}", case["name"]);
        let code = case["expected"]["code"].as_str();
        match code {
            Some(code) if own.contains(&code) => {
                assert_eq!(found, Err(code), "{}", case["name"]);
                broken += 1;
            }
            None => {
                assert_eq!(found, Ok(()), "{}", case["name"]);
                held += 1;
            }
            Some(_) => {}
        }
    }
    assert!(held > 20 && broken > 5, "{held} {broken}");
}
