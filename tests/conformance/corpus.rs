//! The recorded evidence of the corpus as cases.

#[path = "../../crates/evidence/tests/support/nvidia_corpus.rs"]
mod nvidia;
#[path = "../../crates/verifier/tests/corpus/mod.rs"]
mod recorded;

use super::program::{assert_met, conformance};
use confide_evidence::hex;
use confide_evidence::nvidia::{DeviceKind, Report};
use confide_evidence::time::format_seconds;
use confide_evidence::x509::Certificate;
use nvidia::Item;
use recorded::{Corpus, Row, quote_collateral_v3};
use serde_json::{Value, json};
use std::path::Path;

/// A row of either TDX table as a case, under the policy that inspects quotes.
fn tdx_case(corpus: &Corpus, row: &Row, why: &str, expected: Value) -> Value {
    let collateral = corpus.collateral(row).tdx.unwrap();
    json!({
        "schema": 1,
        "name": row.id(),
        "why": why,
        "evidence": { "kind": "tdx-quote", "quote": { "file": row.field("quote") } },
        "endorsements": { "tdx_collateral": { "text": quote_collateral_v3(&collateral) } },
        "policy": { "builtin": "inspect" },
        "time": format_seconds(i64::try_from(row.seconds()).unwrap()),
        "expected": expected,
    })
}

fn run(corpus: &Path, cases: &[Value]) {
    let texts: Vec<String> = cases.iter().map(ToString::to_string).collect();
    assert_met(&conformance(&[], corpus, &texts.join("\n")), cases.len());
}

#[test]
fn every_recorded_tdx_case_is_met() {
    let Some(corpus) = Corpus::open("723 TDX cases of the conformance suite") else { return };
    let cases: Vec<Value> = corpus
        .rows("tdx-cases.tsv")
        .iter()
        .map(|row| {
            let status = row.field("expected");
            let expected = if status.starts_with("REJECT:") {
                json!({ "outcome": "rejected", "tcb_status": null, "simulated": false })
            } else {
                // The status is Intel's library's; the policy then accepts UpToDate alone.
                let mut expected = json!({ "outcome": "accepted", "code": null, "tcb_status": status });
                if status != "UpToDate" {
                    expected["outcome"] = json!("rejected");
                    expected["code"] = json!("tcb_status");
                }
                // The oracle recorded no advisories for some rows.
                let advisories = row.field("advisories");
                if !advisories.is_empty() {
                    expected["advisory_ids"] = advisories.split(',').collect();
                }
                expected
            };
            tdx_case(&corpus, row, "Intel's verification library gave this status", expected)
        })
        .collect();
    run(corpus.path(), &cases);
    println!("TDX corpus: {} cases met", cases.len());
    assert_eq!(cases.len(), 723);
}

/// Logs that name no quote, and the one that names `3f49cfeb…`, which the corpus does not have.
const LOGS_WITHOUT_A_QUOTE: usize = 12;

#[test]
fn every_recorded_log_is_held_against_its_recorded_quote() {
    let Some(corpus) = Corpus::open("2 boot event logs of the conformance suite") else { return };
    let quotes = corpus.rows("tdx-cases.tsv");
    let (mut cases, mut alone) = (Vec::new(), Vec::new());
    for log in corpus.rows("ccel.tsv") {
        let file = log.field("file");
        let row = log.field("matches_quote").split_once(':').and_then(|(quote, digits)| {
            let up_to_date = |row: &&Row| row.id().starts_with(quote) && row.field("expected") == "UpToDate";
            Some((quotes.iter().find(up_to_date)?, digits))
        });
        let Some((row, digits)) = row else {
            alone.push(format!("{file} ({})", log.field("matches_quote")));
            continue;
        };
        let why = format!("the registers of {} that {file} replays to: {digits}", row.field("quote"));
        let expected = if digits == "1111" {
            json!({ "outcome": "accepted", "code": null, "checks": { "boot_log_format": "pass", "boot_log": "pass" } })
        } else {
            json!({ "outcome": "rejected", "code": "boot_log", "checks": { "boot_log_format": "pass", "boot_log": "fail" } })
        };
        let mut case = tdx_case(&corpus, row, &why, expected);
        case["evidence"]["boot_log"] = json!({ "file": file });
        cases.push(case);
    }
    run(corpus.path(), &cases);
    println!(
        "boot event logs: {} cases met; not in the corpus are the quotes of {}",
        cases.len(),
        alone.join(", ")
    );
    assert_eq!((cases.len(), alone.len()), (2, LOGS_WITHOUT_A_QUOTE));
}

/// What Intel's library accepts and this verifier does not, with the decision behind it in docs/specification.md.
const STRICTER: [&str; 4] = [
    "inner cert type=1",
    "64 0xFF bytes appended",
    "chain order reversed (leaf last)",
    "TCB Info svn edited",
];

#[test]
fn every_recorded_tdx_mutation_is_met() {
    let Some(corpus) = Corpus::open("269 TDX mutations of the conformance suite") else { return };
    let cases: Vec<Value> = corpus
        .rows("tdx-mutations.tsv")
        .iter()
        .map(|row| {
            let what = row.field("what");
            let intel_accepts = !row.field("intel_verdict").starts_with("REJECT");
            let expected = if intel_accepts && !STRICTER.contains(&what) {
                json!({ "outcome": "accepted", "code": null, "tcb_status": row.field("intel_verdict") })
            } else {
                json!({ "outcome": ["rejected", "malformed", "unsupported"] })
            };
            tdx_case(&corpus, row, what, expected)
        })
        .collect();
    run(corpus.path(), &cases);
    println!("TDX corpus: {} mutations met", cases.len());
    assert_eq!(cases.len(), 269);
}

/// Devices that answer the nonce in the first one's report, under the policy that waives nothing of them.
fn nvidia_case(name: &str, why: &str, items: &[&Item], expected: Value) -> Value {
    let nonce = Report::parse(&items[0].report).map(|report| *report.nonce).unwrap_or_default();
    let devices: Vec<Value> = items
        .iter()
        .map(|item| {
            let kind = match Report::parse(&item.report).map(|report| report.kind) {
                Ok(DeviceKind::Switch) => "nvidia-switch",
                _ => "nvidia-gpu",
            };
            json!({
                "kind": kind,
                "nonce": hex::encode(&nonce),
                "report": { "hex": hex::encode(&item.report) },
                "chain": { "hex": hex::encode(&item.chain) },
            })
        })
        .collect();
    json!({
        "schema": 1, "name": name, "why": why,
        "evidence": { "kind": "nvidia-devices", "devices": devices },
        "policy": { "builtin": "inspect" },
        "time": "2026-10-01T00:00:00Z",
        "expected": expected,
    })
}

#[test]
fn every_recorded_nvidia_device_is_met() {
    let Some(folder) = nvidia::folder("NVIDIA cases of the conformance suite") else { return };
    let items = nvidia::items(&folder);
    let mut cases: Vec<Value> = items
        .iter()
        .map(|item| {
            let expected = if item.genuine {
                json!({
                    "outcome": "rejected",
                    // The 535 driver reports no firmware id; switches never do. No manifests are given.
                    "code": match item.expected.get("fwid").map(String::as_str) {
                        Some("absent") if item.expected["board"] != "LS10" => "device_fwid",
                        _ => "device_rim",
                    },
                    "checks": {
                        "device_root_anchor": "pass", "device_chain_signatures": "pass",
                        "device_report_signature": "pass", "device_nonce": "pass", "device_rim": "fail",
                    },
                })
            } else {
                json!({ "outcome": "rejected", "code": "device_report_signature" })
            };
            nvidia_case(&item.source, "as the corpus' index says", &[item], expected)
        })
        .collect();
    cases.extend(machines(&items));
    cases.extend(opinions(&items));
    run(&folder, &cases);
    println!("NVIDIA corpus: {} cases met", cases.len());
    assert_eq!(cases.len(), nvidia::REPORTS + 7 + 2);
}

/// Recorded answers of NVIDIA's attestation service about recorded devices. The key set of their days is not recorded, so that
/// nothing that they say is believed: one is of production, one of staging.
fn opinions(items: &[Item]) -> Vec<Value> {
    let jwks = include_str!("../../fixtures/nvidia/accept-nras/jwks.json");
    let answers = [
        (
            "google-go-nvattest-tools/hopper-550.90.07-full/",
            "hopper-claims-v3-detached-eat.json",
            "refused by nras_key: no key of that day is recorded",
        ),
        (
            "nvidia-attestation-sdk/ls10-96.10.55.00.01/",
            "switch-detached-eat-STAGING.json",
            "refused by nras_key, as no key of that day is recorded, before nras_issuer, which would refuse NVIDIA's staging \
             service: who issued a token that nobody is known to have signed decides nothing",
        ),
    ];
    let case = |(device, answer, why): (&str, &str, &str)| {
        let item = items.iter().find(|item| item.source.starts_with(device)).unwrap();
        let expected = json!({
            "outcome": "rejected",
            "checks": {
                "device_report_signature": "pass", "nras_format": "pass", "nras_key": "fail",
                "nras_signature": "not_run", "nras_issuer": "not_run", "nras": "not_run",
            },
        });
        let mut case = nvidia_case(answer, why, &[item], expected);
        let answer = format!("nvidia-attestation-sdk/nras/{answer}");
        case["evidence"]["nras"] = json!({ "jwks": { "text": jwks }, "answers": [{ "file": answer }] });
        case
    };
    answers.map(case).to_vec()
}

/// Recorded machines as they are, and mixed.
fn machines(items: &[Item]) -> Vec<Value> {
    let machine = |prefix: &str| -> Vec<&Item> {
        items.iter().filter(|item| item.source.starts_with(prefix)).collect()
    };
    let nvidia = machine("nvidia-nvtrust/ppcie-8gpu-4switch/");
    let google = machine("google-go-nvattest-tools/ppcie-8gpu-4switch/");
    let mpt = machine("google-go-nvattest-tools/blackwell-mpt-8gpu/");
    let copies = machine("nvidia-attestation-sdk/evidence/multi_switch_ls10.json");
    let mixed = [&nvidia[..8], &google[8..]].concat();
    let set = |distinct: &str, topology: &str| {
        json!({
            "outcome": "rejected",
            "checks": { "device_distinct": distinct, "device_uniform": "pass", "device_topology": topology },
        })
    };
    vec![
        nvidia_case("machine of eight GPUs and four switches", "one machine", &nvidia, set("pass", "pass")),
        nvidia_case("another such machine", "one machine", &google, set("pass", "pass")),
        nvidia_case("eight GPUs without switches", "one machine", &mpt, set("pass", "pass")),
        nvidia_case("GPUs of one, switches of the other", "two machines", &mixed, set("pass", "fail")),
        nvidia_case("no switches", "half a machine", &nvidia[..8], set("pass", "fail")),
        nvidia_case("a GPU is missing", "not a whole machine", &nvidia[1..], set("pass", "fail")),
        nvidia_case("four copies of one switch", "one switch", &copies, set("fail", "fail")),
    ]
}

/// The certificates of the SEV-SNP table: file and contents.
fn snp_certificates(corpus: &Corpus) -> Vec<(String, Certificate)> {
    let rows = corpus.rows("snp-certificates.tsv");
    let read = |row: &Row| Certificate::parse(&corpus.read(row, "file")).unwrap();
    rows.iter().map(|row| (row.field("file").to_owned(), read(row))).collect()
}

/// A recorded report under the certificate of a key, at a time at which that is valid, under the policy that inspects reports.
fn snp_case(
    name: &str,
    report: &str,
    key: &(String, Certificate),
    certificates: &[(String, Certificate)],
    expected: Value,
) -> Value {
    let (file, certificate) = key;
    let issuer = certificates.iter().find(|(_, found)| found.subject == certificate.issuer).unwrap();
    json!({
        "schema": 1,
        "name": name,
        "why": "as the corpus' table says of its signature and chain",
        "evidence": { "kind": "snp-report", "report": { "file": report } },
        "endorsements": { "snp_certificates": [{ "file": file }, { "file": issuer.0 }] },
        "policy": { "builtin": "inspect" },
        "time": format_seconds(certificate.not_before + 86_400),
        "expected": expected,
    })
}

#[test]
fn every_recorded_snp_report_is_met() {
    let Some(corpus) = Corpus::open("30 SEV-SNP reports of the conformance suite") else { return };
    let certificates = snp_certificates(&corpus);
    let is_key =
        |(_, found): &&(String, Certificate)| ["SEV-VCEK", "SEV-VLEK"].contains(&found.common_name.as_str());
    let keys: Vec<_> = certificates.iter().filter(is_key).collect();
    let (mut cases, mut accepted, mut altered) = (Vec::new(), 0, 0);
    for row in corpus.rows("snp-reports.tsv") {
        let report = row.field("file");
        if !row.field("expected").starts_with("accept") {
            // Nobody has signed it.
            altered += 1;
            cases.extend(keys.iter().map(|key| {
                let expected = json!({ "outcome": ["rejected", "malformed"], "simulated": false });
                snp_case(&format!("{report} under {}", key.0), report, key, &certificates, expected)
            }));
            continue;
        }
        // POLICY bit 19: the policy accepts no guests that the host may debug.
        let debug = u64::from_str_radix(row.field("policy"), 16).unwrap() >> 19 & 1 == 1;
        let checks = json!({
            "snp_root_anchor": "pass", "snp_issuer_signature": "pass", "snp_key_signature": "pass",
            "snp_report_signature": "pass", "snp_tcb_binding": "pass", "snp_hardware_id": "pass",
            "snp_validity": "pass", "snp_debug": if debug { "fail" } else { "pass" },
        });
        let expected = if debug {
            json!({ "outcome": "rejected", "code": "snp_debug", "simulated": false, "checks": checks })
        } else {
            accepted += 1;
            json!({ "outcome": "accepted", "code": null, "simulated": false, "checks": checks })
        };
        let key = keys.iter().find(|key| key.0 == row.field("vcek")).unwrap();
        cases.push(snp_case(report, report, key, &certificates, expected));
    }
    run(corpus.path(), &cases);
    println!("SEV-SNP corpus: {} cases met, of 30 reports {accepted} accepted", cases.len());
    assert_eq!((accepted, altered, cases.len()), (27, 2, 28 + 2 * keys.len()));
}
