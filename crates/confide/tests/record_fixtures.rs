//! `fixtures/records`: appraisals of simulated evidence as records, which every build must replay to the same bytes.
#![allow(clippy::unwrap_used, clippy::panic, dead_code, missing_docs, reason = "tests")]

mod support;

use confide_evidence::bytes::{ByteString, Bytes};
use confide_evidence::document::{
    DeviceEvidence, DeviceKind, Endorsements, NvidiaEndorsements, SnpEndorsements,
};
use confide_evidence::hex;
use confide_evidence::record::{Record, RecordedChallenge, Subject, read_all};
use confide_evidence::tdx::collateral_from_json;
use confide_evidence::time::parse_rfc3339;
use confide_evidence::transcript::Role;
use confide_policy::AppraisalPolicy;
use confide_record::Recording;
use confide_verifier::{Inputs, evaluate};
use serde_json::Value;
use std::path::{Path, PathBuf};
use support::{confide, status, stderr, stdout};

/// Set by `cargo xtask fixtures`: the files are written instead of compared.
const WRITE: &str = "CONFIDE_WRITE_FIXTURES";
/// The most bytes of all files together.
const MOST: usize = 300 * 1024;

/// Each file, the committed cases that its records are of, and the status that its replay ends with.
const FILES: [(&str, &[&str], i32); 4] = [
    ("quotes.cbor", &["tdx/accept-v4", "tdx/quote_signature-mrtd-flipped"], 10),
    ("documents.cbor", &["tdx/accept-document-shared-quote"], 0),
    ("reports.cbor", &["snp/accept-version-3"], 0),
    ("devices.cbor", &["nvidia/accept-an-answer-by-sha-1"], 0),
];

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
}

fn committed(name: &str) -> PathBuf {
    fixtures().join("records").join(name)
}

/// The folder of a suite.
struct Suite(PathBuf);

impl Suite {
    fn bytes(&self, blob: &Value) -> Vec<u8> {
        std::fs::read(self.0.join(blob["file"].as_str().unwrap())).unwrap()
    }

    fn blob(&self, blob: &Value) -> ByteString {
        ByteString(self.bytes(blob))
    }

    fn list(&self, blobs: &Value) -> Vec<ByteString> {
        blobs.as_array().into_iter().flatten().map(|blob| self.blob(blob)).collect()
    }

    fn subject(&self, evidence: &Value) -> Subject {
        match evidence["kind"].as_str().unwrap() {
            "tdx-quote" => Subject::Quote(self.blob(&evidence["quote"])),
            "document" => Subject::Document(self.blob(&evidence["document"])),
            "snp-report" => Subject::SnpReport(self.blob(&evidence["report"])),
            "nvidia-devices" => {
                let devices = evidence["devices"].as_array().unwrap();
                let device = |device: &Value| DeviceEvidence {
                    kind: match device["kind"].as_str().unwrap() {
                        "nvidia-gpu" => DeviceKind::NvidiaGpu,
                        _ => DeviceKind::NvidiaSwitch,
                    },
                    chain: self.blob(&device["chain"]),
                    report: self.blob(&device["report"]),
                };
                Subject::Devices {
                    nonces: devices.iter().map(|device| array(&device["nonce"])).collect(),
                    devices: devices.iter().map(device).collect(),
                    rim_time: None,
                    nras: None,
                }
            }
            other => panic!("{other}"),
        }
    }

    fn endorsements(&self, given: &Value) -> Endorsements {
        let tdx = given.get("tdx_collateral").map(|blob| collateral_from_json(&self.bytes(blob)).unwrap());
        let snp = given.get("snp_certificates").map(|certificates| SnpEndorsements {
            certificates: self.list(certificates),
            crls: self.list(&given["snp_crls"]),
        });
        let nvidia = NvidiaEndorsements {
            rims: self.list(&given["nvidia_rims"]),
            ocsp: self.list(&given["nvidia_ocsp"]),
            crls: self.list(&given["nvidia_crls"]),
        };
        let nvidia = (nvidia != NvidiaEndorsements::default()).then_some(nvidia);
        Endorsements { tdx, snp, nvidia }
    }
}

fn array(text: &Value) -> [u8; 32] {
    hex::decode_array(text.as_str().unwrap()).unwrap()
}

fn challenge(given: &Value) -> RecordedChallenge {
    let field = |name: &str| ByteString(hex::decode(given[name].as_str().unwrap_or_default()).unwrap());
    let roles = [Role::Serve, Role::Batch, Role::KeyRelease];
    RecordedChallenge {
        role: roles.into_iter().find(|role| role.name() == given["role"]).unwrap(),
        spki: field("spki"),
        nonce: Bytes(array(&given["nonce"])),
        exporter: field("exporter"),
    }
}

/// The record of a committed case, behind another one.
fn recorded(case: &str, previous: Option<&Record>) -> Record {
    let (suite, name) = case.split_once('/').unwrap();
    let suite = Suite(fixtures().join(suite));
    let text = std::fs::read_to_string(suite.0.join(name).join("case.json")).unwrap();
    let case: Value = serde_json::from_str(&text).unwrap();
    for unread in ["references", "second_opinion"] {
        assert!(case.get(unread).is_none(), "{name}: {unread} is not read here");
    }
    let policy = String::from_utf8(suite.bytes(&case["policy"])).unwrap();
    let recording = Recording {
        subject: suite.subject(&case["evidence"]),
        endorsements: suite.endorsements(&case["endorsements"]),
        policy: &policy,
        challenge: case["evidence"].get("challenge").map(challenge),
        time: parse_rfc3339(case["time"].as_str().unwrap()).unwrap(),
        references: None,
        second_opinion: None,
    };
    let parsed = AppraisalPolicy::parse_recorded(&policy).unwrap();
    let result = evaluate(&Inputs {
        subject: confide_record::borrowed(&recording.subject),
        endorsements: &recording.endorsements,
        prepared: None,
        prepared_devices: None,
        memo: None,
        second_opinion: None,
        references: None,
        policy: &parsed,
        challenge: recording.challenge.as_ref(),
        now: recording.time,
        algorithms: &confide_client::ALGORITHMS,
    });
    let result = result.unwrap_or_else(|rejection| *rejection.result);
    assert_eq!(result.code, case["expected"]["code"].as_str(), "{name}");
    recording.record(&result, previous)
}

fn made(cases: &[&str]) -> Vec<u8> {
    let (mut bytes, mut previous) = (Vec::new(), None);
    for case in cases {
        let record = recorded(case, previous.as_ref());
        bytes.extend(record.encode());
        previous = Some(record);
    }
    bytes
}

#[test]
fn every_committed_record_file_is_what_its_cases_make() {
    let mut size = 0;
    for (name, cases, _) in FILES {
        let bytes = made(cases);
        size += bytes.len();
        if std::env::var_os(WRITE).is_some() {
            std::fs::write(committed(name), bytes).unwrap();
            continue;
        }
        assert!(
            std::fs::read(committed(name)).unwrap_or_default() == bytes,
            "fixtures/records/{name} is another one: `cargo xtask fixtures` writes it"
        );
    }
    assert!(size < MOST, "the folder stays small: {size} bytes");
    let mut there: Vec<String> = std::fs::read_dir(fixtures().join("records"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "README.md")
        .collect();
    there.sort();
    let mut names = FILES.map(|(name, ..)| name);
    names.sort_unstable();
    assert_eq!(there, names);
    let readme = std::fs::read_to_string(committed("README.md")).unwrap();
    for (name, cases, status) in FILES {
        assert!(readme.contains(&format!("| `{name}` | ")), "{name}");
        assert!(readme.contains(&format!(" | {status} |")), "{name}");
        assert!(cases.iter().all(|case| readme.contains(&format!("`{case}`"))), "{name}");
    }
}

#[test]
fn every_committed_record_replays_to_the_identical_bytes() {
    for (name, cases, expected) in FILES {
        let path = committed(name);
        let replayed = confide(&["replay", "--json", path.to_str().unwrap()]);
        assert_eq!(status(&replayed), expected, "{name}: {}", stderr(&replayed));
        let records: Vec<Record> =
            read_all(&std::fs::read(&path).unwrap()).collect::<Result<_, _>>().unwrap();
        assert_eq!(records.len(), cases.len());
        let stored: Vec<&str> = records.iter().map(|record| record.outcome.as_deref().unwrap()).collect();
        assert_eq!(stdout(&replayed).lines().collect::<Vec<_>>(), stored, "{name}");
        assert!(stored.iter().all(|verdict| verdict.contains("\"simulated\":true")), "{name}");
    }
}
