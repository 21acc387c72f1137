//! The cases of `fixtures/nvidia` in this crate alone, without the program that users run (`tests/conformance`).
#![allow(clippy::unwrap_used, missing_docs, clippy::disallowed_methods, reason = "a test that reads files")]

mod algorithms;
mod cases;

use algorithms::{AWS, RING};
use cases::Suite;
use confide_evidence::bytes::{ByteString, Bytes};
use confide_evidence::document::{DeviceEvidence, DeviceKind, Endorsements, NvidiaEndorsements};
use confide_evidence::record::NrasOpinion;
use confide_evidence::time::parse_rfc3339;
use confide_policy::AppraisalPolicy;
use confide_verifier::{
    Algorithms, AttestationResult, DeviceOutcome, Inputs, MAX_DEVICE_ENDORSEMENTS, Memo, Outcome,
    PreparedDevices, Status, Subject, evaluate, rules,
};
use rustls_pki_types::UnixTime;
use serde_json::Value;
use std::collections::BTreeSet;

const SUITE: Suite = Suite("nvidia");

fn files(value: &Value) -> Vec<ByteString> {
    value.as_array().into_iter().flatten().map(|value| SUITE.file(value).into()).collect()
}

fn device(value: &Value) -> (DeviceEvidence, [u8; 32]) {
    let kind = match value["kind"].as_str().unwrap() {
        "nvidia-gpu" => DeviceKind::NvidiaGpu,
        "nvidia-switch" => DeviceKind::NvidiaSwitch,
        other => panic!("{other}"),
    };
    let nonce: Bytes<32> = serde_json::from_value(value["nonce"].clone()).unwrap();
    let (chain, report) = (SUITE.file(&value["chain"]).into(), SUITE.file(&value["report"]).into());
    (DeviceEvidence { kind, chain, report }, nonce.0)
}

/// What a case appraises, read.
struct Given {
    devices: Vec<DeviceEvidence>,
    nonces: Vec<[u8; 32]>,
    rim_at: Option<UnixTime>,
    nras: Option<NrasOpinion>,
    endorsements: Endorsements,
    prepared: PreparedDevices,
    policy: AppraisalPolicy,
    now: UnixTime,
}

impl Given {
    fn read(case: &Value) -> Self {
        let time = |value: &Value| value.as_str().map(|time| parse_rfc3339(time).unwrap());
        let (devices, nonces) = case["evidence"]["devices"].as_array().unwrap().iter().map(device).unzip();
        let given = &case["endorsements"];
        let nvidia = NvidiaEndorsements {
            crls: files(&given["nvidia_crls"]),
            ocsp: files(&given["nvidia_ocsp"]),
            rims: files(&given["nvidia_rims"]),
        };
        let nras = case["evidence"].get("nras");
        let opinion = |nras: &Value| NrasOpinion {
            jwks: SUITE.file(&nras["jwks"]).into(),
            answers: files(&nras["answers"]),
        };
        Self {
            devices,
            nonces,
            rim_at: time(&case["evidence"]["rim_time"]),
            nras: nras.map(opinion),
            prepared: PreparedDevices::new(&nvidia),
            endorsements: Endorsements { nvidia: Some(nvidia), ..Endorsements::default() },
            policy: SUITE.policy(case),
            now: time(&case["time"]).unwrap(),
        }
    }

    fn verdict(
        &self,
        algorithms: &Algorithms,
        prepared_devices: Option<&PreparedDevices>,
        memo: Option<&Memo>,
    ) -> AttestationResult {
        let inputs = Inputs {
            subject: Subject::Devices {
                devices: &self.devices,
                nonces: &self.nonces,
                rim_at: self.rim_at,
                nras: self.nras.as_ref(),
            },
            endorsements: &self.endorsements,
            prepared: None,
            prepared_devices,
            memo,
            second_opinion: None,
            references: None,
            policy: &self.policy,
            challenge: None,
            now: self.now,
            algorithms,
        };
        evaluate(&inputs).unwrap_or_else(|rejection| *rejection.result)
    }
}

/// The verdicts on a case: with endorsements as they are given, and with prepared ones.
fn verdicts(case: &Value) -> [AttestationResult; 2] {
    verdicts_by(case, &AWS)
}

fn verdicts_by(case: &Value, algorithms: &Algorithms) -> [AttestationResult; 2] {
    let given = Given::read(case);
    [None, Some(&given.prepared)].map(|prepared| given.verdict(algorithms, prepared, None))
}

/// Where the verdict is not as the case expects.
fn differences(case: &Value, verdict: &Value) -> Vec<String> {
    let (expected, name) = (&case["expected"], &case["name"]);
    let mut wrong = Vec::new();
    for field in ["outcome", "code", "simulated"] {
        if expected.get(field).is_some_and(|value| *value != verdict[field]) {
            wrong.push(format!("{name} {field}: {}", verdict[field]));
        }
    }
    if let Some(devices) = expected.get("devices") {
        let (devices, found) = (devices.as_array().unwrap(), verdict["devices"].as_array().unwrap());
        assert_eq!(devices.len(), found.len(), "{name}");
        for (position, (device, found)) in devices.iter().zip(found).enumerate() {
            for (field, value) in device.as_object().unwrap() {
                if found.get(field) != Some(value) {
                    wrong.push(format!("{name} device {position} {field}: {:?}", found.get(field)));
                }
            }
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
            wrong.push(format!("{name} check {code}: {found:?}"));
        }
    }
    wrong
}

#[test]
fn every_case_gets_the_verdict_that_it_expects() {
    let mut wrong = Vec::new();
    let cases = SUITE.cases();
    for case in &cases {
        let expected = &case["expected"];
        assert!(expected.get("outcome").is_some() && expected.get("code").is_some(), "{}", case["name"]);
        for result in verdicts(case) {
            let verdict: Value = serde_json::from_str(&result.to_json()).unwrap();
            let found = differences(case, &verdict);
            if !found.is_empty() && std::env::var_os("SHOW").is_some() {
                eprintln!("{}: {:#}", case["name"], verdict["checks"]);
            }
            wrong.extend(found);
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    println!("fixtures/nvidia: {} cases met", cases.len());
    let least = Suite::only().map_or(151, |_| 1);
    assert!(cases.len() >= least, "{}", cases.len());
}

/// What became of each device is told by its own object, whatever became of the others.
#[test]
fn every_device_that_was_given_has_a_result_of_its_own() {
    let mut seen = BTreeSet::new();
    for case in SUITE.cases() {
        let given = Given::read(&case);
        let [result, _] = verdicts(&case);
        let name = &case["name"];
        assert_eq!(result.devices.len(), given.devices.len(), "{name}");
        for (position, device) in (0..).zip(&result.devices) {
            assert_eq!(device.position, position, "{name}");
            let of_device = |actual: &str| {
                actual.starts_with(&format!("device {position}:")) || actual.starts_with("manifest ")
            };
            let noted = result.checks.iter().any(|check| {
                check.status == Status::Fail && Some(check.code) == device.code && of_device(&check.actual)
            });
            assert_eq!(
                noted,
                device.outcome != DeviceOutcome::Accepted,
                "{name} device {position}: {device:?}"
            );
            seen.insert((device.facts.is_some(), format!("{:?}", device.outcome)));
        }
        let all = result.devices.iter().all(|device| device.outcome == DeviceOutcome::Accepted);
        assert!(all || result.outcome != Outcome::Accepted, "{name}");
    }
    let expected = [
        (false, "Malformed"),
        (false, "Rejected"),
        (false, "Unsupported"),
        (true, "Accepted"),
        (true, "Rejected"),
    ];
    assert_eq!(seen, expected.map(|(facts, outcome)| (facts, outcome.to_owned())).into());
}

#[test]
fn one_bad_device_changes_nothing_in_the_results_of_the_others() {
    let case = SUITE.cases().into_iter().find(|case| case["name"] == "accept-ppcie").unwrap();
    let mut given = Given::read(&case);
    let sound = given.verdict(&AWS, None, None);
    assert_eq!((sound.outcome, sound.devices.len()), (Outcome::Accepted, 12));
    for (position, changed) in [(0, "bad signature"), (5, "cut"), (11, "bad signature")] {
        let kept = given.devices[position].report.clone();
        let mut report = kept.as_bytes().to_vec();
        match changed {
            "cut" => report.truncate(100),
            _ => *report.last_mut().unwrap() ^= 1,
        }
        given.devices[position].report = report.into();
        let result = given.verdict(&AWS, None, None);
        let expected = match changed {
            "cut" => (DeviceOutcome::Malformed, Some("device_report_format")),
            _ => (DeviceOutcome::Rejected, Some("device_report_signature")),
        };
        let device = &result.devices[position];
        assert_eq!((device.outcome, device.code), expected);
        assert_eq!((device.kind, &device.facts), (sound.devices[position].kind, &None));
        for (other, (of_sound, of_this)) in sound.devices.iter().zip(&result.devices).enumerate() {
            assert!(
                other == position || of_sound == of_this,
                "device {other} beside {position}: {of_this:?}"
            );
        }
        given.devices[position].report = kept;
    }
}

#[test]
fn a_memo_of_all_cases_changes_no_byte_of_a_verdict() {
    let (memo, cases) = (Memo::new(), SUITE.cases());
    let mut known = 0;
    for case in &cases {
        let given = Given::read(case);
        let alone = given.verdict(&AWS, None, None).to_json();
        // The first is of what other cases have left, the second of its own.
        for turn in 0..2 {
            let with = given.verdict(&AWS, None, Some(&memo)).to_json();
            assert_eq!(with, alone, "{} turn {turn}", case["name"]);
        }
        let rims = files(&case["endorsements"]["nvidia_rims"]);
        known += rims.iter().filter(|rim| memo.knows_manifest(rim.as_bytes())).count();
    }
    assert!(cases.len() > 150 && known > 100, "{known} manifests of {} cases are known", cases.len());
    assert!((1..=MAX_DEVICE_ENDORSEMENTS).contains(&memo.device_endorsements()), "{memo:?}");
}

/// Checks of devices that no accepted case has as passed, and why.
const NEVER_PASS: [(&str, &str); 2] = [
    ("gpu_evidence_file", "noted where there is no evidence to read"),
    ("nras_disagrees", "agreement is a check of its own, nras"),
];

/// Checks of devices that a document's guest makes, which `fixtures/tdx` has cases for.
const OF_GUESTS: [&str; 2] = ["devices_event", "device_info"];

/// What a check's code begins with that is about devices by themselves.
const DEVICES: [&str; 6] = ["device_", "rim_", "ocsp_", "gpu_count", "gpu_evidence_file", "nras"];

#[test]
fn every_check_of_devices_passes_in_one_case_and_fails_in_another() {
    let (mut passes, mut fails) = (BTreeSet::new(), BTreeSet::new());
    for case in SUITE.cases() {
        let [result, _] = verdicts(&case);
        fails.extend(result.code);
        if result.accepted() {
            let passed = result.checks.iter().filter(|check| check.status == confide_verifier::Status::Pass);
            passes.extend(passed.map(|check| check.code));
        }
    }
    let codes: Vec<&str> = rules::ALL
        .iter()
        .map(|rule| rule.code)
        .filter(|code| DEVICES.iter().any(|start| code.starts_with(start)) && !OF_GUESTS.contains(code))
        .collect();
    let without = |having: &BTreeSet<&str>| -> Vec<&str> {
        codes.iter().copied().filter(|code| !having.contains(code)).collect()
    };
    assert_eq!(without(&passes), NEVER_PASS.map(|(code, _)| code), "no accepted case in which these pass");
    assert!(
        without(&fails).is_empty(),
        "no case in which these are the first to fail: {:?}",
        without(&fails)
    );
    assert!(codes.len() > 30, "{codes:?}");
}

#[test]
fn the_names_of_cases_say_what_must_happen() {
    for case in SUITE.cases() {
        let (name, expected) = (case["name"].as_str().unwrap(), &case["expected"]);
        match expected["code"].as_str() {
            None => assert!(name.starts_with("accept-"), "{name}"),
            Some(code) => assert!(name.starts_with(&format!("{code}-")), "{name}: {code}"),
        }
        assert_eq!(expected["outcome"] == "accepted", expected["code"].is_null(), "{name}");
        assert!(case["why"].as_str().unwrap().len() > 10, "{name} does not say why");
    }
}

#[test]
fn ring_and_aws_lc_rs_give_the_same_verdict_bytes() {
    let mut compared = 0;
    for case in SUITE.cases() {
        let [one, other] = [&AWS, &RING].map(|algorithms| verdicts_by(&case, algorithms));
        for (one, other) in one.iter().zip(&other) {
            assert_eq!(one.to_json(), other.to_json(), "{}", case["name"]);
            compared += 1;
        }
    }
    assert!(compared > 300, "{compared}");
}
