//! `confide verify snp`, `record snp` and `replay` as a user meets them: recorded reports, exit statuses, bad input.
#![allow(clippy::unwrap_used, clippy::panic, dead_code, missing_docs, reason = "tests")]

mod support;

use confide_evidence::record::{Subject, read_all};
use confide_testkit::snp::SnpEvidence;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::Output;
use support::{confide, json, package, run, status, stderr, stdout};

/// Evidence in a folder of its own: `report`, `vek` (DER), `chain` (PEM, issuer first) and `crl`.
struct Folder {
    folder: tempfile::TempDir,
    time: &'static str,
    danger: bool,
}

impl Folder {
    /// The recorded Milan report of version 2 that the published crate `sev` brings along.
    fn recorded() -> Self {
        let data = package("sev").join("tests/certs_data");
        let folder = tempfile::tempdir().unwrap();
        let digits = std::fs::read_to_string(data.join("report_milan.hex")).unwrap();
        let digits: String = digits.chars().filter(char::is_ascii_hexdigit).collect();
        let report = confide_evidence::hex::decode(&digits).unwrap();
        std::fs::write(folder.path().join("report"), &report[report.len() - 1184..]).unwrap();
        std::fs::copy(data.join("vcek_milan.der"), folder.path().join("vek")).unwrap();
        std::fs::copy(data.join("cert_chain_milan"), folder.path().join("chain")).unwrap();
        Self { folder, time: "2024-01-01T00:00:00Z", danger: false }
    }

    /// A simulated Genoa report with a revocation list.
    fn simulated() -> Self {
        let SnpEvidence { report, certificates: [key, issuer, root], list, .. } =
            SnpEvidence::at(1_780_000_000).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let chain = confide_evidence::pem::encode(&[issuer, root]);
        for (name, bytes) in [("report", report), ("vek", key), ("chain", chain.into_bytes()), ("crl", list)]
        {
            std::fs::write(folder.path().join(name), bytes).unwrap();
        }
        Self { folder, time: "2026-05-29T00:00:00Z", danger: true }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn flags(&self) -> Vec<String> {
        let path = |name| self.path(name).display().to_string();
        let mut flags = vec!["--report".into(), path("report"), "--cert".into(), path("vek"), path("chain")];
        flags.extend(["--at".into(), self.time.into()]);
        if self.path("crl").exists() {
            flags.extend(["--crl".into(), path("crl")]);
        }
        if self.danger {
            let policy = concat!(env!("CARGO_MANIFEST_DIR"), "/../../policies/danger-simulator.toml");
            flags.extend(["--danger-policy".into(), policy.into()]);
        }
        flags
    }

    fn verify(&self, more: &[&str]) -> Output {
        run(&["verify", "snp"], self.flags(), more)
    }

    fn change(&self, name: &str, change: impl Fn(&mut Vec<u8>)) {
        let mut bytes = std::fs::read(self.path(name)).unwrap();
        change(&mut bytes);
        std::fs::write(self.path(name), bytes).unwrap();
    }
}

fn check(verdict: &Value, code: &str) -> Value {
    let checks = verdict["checks"].as_array().unwrap();
    checks.iter().find(|check| check["code"] == code).unwrap_or_else(|| panic!("no check {code}")).clone()
}

#[test]
fn a_recorded_report_is_accepted_up_to_amds_root() {
    let output = Folder::recorded().verify(&["--json"]);
    let verdict = json(&output);
    assert_eq!(status(&output), 0, "{}", stdout(&output));
    assert_eq!((&verdict["outcome"], &verdict["code"]), (&json!("accepted"), &Value::Null));
    assert_eq!((&verdict["platform"], &verdict["simulated"]), (&json!("sev-snp"), &json!(false)));
    assert_eq!(verdict["tcb_status"], Value::Null, "Intel's status names are not AMD's");
    assert_eq!(verdict["measurements"]["measurement"].as_str().unwrap().len(), 96);
    assert_eq!(verdict["report_data"].as_str().unwrap().len(), 128);
    assert_eq!(check(&verdict, "snp_root_anchor")["actual"], "ARK-Milan");
    assert_eq!(check(&verdict, "snp_revocation")["status"], "not_run");
    assert_eq!(check(&verdict, "snp_measurement")["expected"], "waived: no reference values given");
    assert_eq!(check(&verdict, "snp_debug")["status"], "pass");
}

#[test]
fn a_verdict_is_exported_as_ear_claims() {
    let ear = json(&Folder::recorded().verify(&["--format", "ear"]));
    let snp = &ear["submods"]["sev-snp"];
    // Without a revocation list nothing is affirmed.
    assert_eq!(snp["ear_trustworthiness_vector"], json!({ "hardware": 0 }));
    assert_eq!((&snp["ear_status"], &ear["ear_status"]), (&json!("none"), &json!("none")));
    let simulated = json(&Folder::simulated().verify(&["--format", "ear"]));
    assert_eq!(simulated["submods"]["sev-snp"]["ear_trustworthiness_vector"], json!({ "hardware": 97 }));
    let broken = Folder::recorded();
    broken.change("report", |report| report[0x90] ^= 1);
    let broken = json(&broken.verify(&["--format", "ear"]));
    assert_eq!(broken["submods"]["sev-snp"]["ear_trustworthiness_vector"], json!({ "hardware": 99 }));
}

#[test]
fn certificates_come_as_der_or_pem_in_any_order_and_the_root_may_be_missing() {
    let folder = Folder::recorded();
    let text = std::fs::read_to_string(folder.path("chain")).unwrap();
    let chain = confide_evidence::pem::certificates(text.as_bytes()).unwrap();
    let key = std::fs::read(folder.path("vek")).unwrap();
    let [issuer, root] = <[Vec<u8>; 2]>::try_from(chain).unwrap();
    let all = confide_evidence::pem::encode(&[root.clone(), key.clone(), issuer.clone()]);
    let files: [(&str, Vec<u8>); 4] = [
        ("all.pem", all.into_bytes()),
        ("two.der", [key.clone(), issuer.clone()].concat()),
        ("issuer.der", issuer),
        ("root.der", root),
    ];
    for (name, bytes) in files {
        std::fs::write(folder.path(name), bytes).unwrap();
    }
    for certificates in [
        &["all.pem"][..],
        &["two.der"],
        &["two.der", "root.der"],
        &["vek", "issuer.der"],
        &["root.der", "issuer.der", "vek"],
        &["all.pem", "two.der"],
    ] {
        let mut flags: Vec<String> = vec!["--report".into(), folder.path("report").display().to_string()];
        for name in certificates {
            flags.extend(["--cert".into(), folder.path(name).display().to_string()]);
        }
        flags.extend(["--at".into(), folder.time.into()]);
        let output = run(&["verify", "snp"], flags, &["--json"]);
        assert_eq!(status(&output), 0, "{certificates:?}: {}", stdout(&output));
    }
}

#[test]
fn the_tree_names_every_check() {
    let output = Folder::recorded().verify(&[]);
    let tree = stdout(&output);
    assert!(tree.starts_with("ACCEPTED\n") && !tree.contains('\x1b'), "{tree}");
    for code in ["snp_report_signature", "snp_tcb_binding", "snp_hardware_id", "MEASUREMENT", "snp_reserved"]
    {
        assert!(tree.contains(code), "{code}");
    }
}

#[test]
fn simulated_reports_are_accepted_by_the_danger_policy_alone() {
    let mut folder = Folder::simulated();
    let output = folder.verify(&["--json"]);
    assert_eq!(status(&output), 0, "{}", stdout(&output));
    assert_eq!(json(&output)["simulated"], true);
    assert_eq!(check(&json(&output), "snp_revocation")["status"], "pass");
    assert!(stdout(&folder.verify(&[])).starts_with("SIMULATED ACCEPTED\n"));
    folder.danger = false;
    let output = folder.verify(&["--json"]);
    assert_eq!((status(&output), &json(&output)["code"]), (10, &json!("snp_root_anchor")));
    let mut recorded = Folder::recorded();
    recorded.danger = true;
    let output = recorded.verify(&["--json"]);
    assert_eq!((status(&output), &json(&output)["code"]), (10, &json!("snp_root_anchor")));
}

#[test]
fn bad_input_has_its_exit_status() {
    type Change = fn(&mut Vec<u8>);
    let cases: [(&str, &str, Change, i32, &str); 19] = [
        ("a flipped measurement", "report", |bytes| bytes[0x90] ^= 1, 10, "snp_report_signature"),
        ("a flipped signature", "report", |bytes| bytes[0x2a0] ^= 1, 10, "snp_report_signature"),
        ("an unsigned byte", "report", |bytes| bytes[0x49f] = 1, 30, "snp_report_format"),
        ("an empty report", "report", Vec::clear, 30, "snp_report_format"),
        ("a truncated report", "report", |bytes| bytes.truncate(1183), 30, "snp_report_format"),
        ("a trailing byte", "report", |bytes| bytes.push(0), 30, "snp_report_format"),
        ("an oversized report", "report", |bytes| bytes.resize(1 << 20, 0), 30, "snp_report_format"),
        ("a report of version 6", "report", |bytes| bytes[0] = 6, 20, "snp_report_format"),
        ("text", "report", |bytes| *bytes = b"no report at all".repeat(74), 30, "snp_report_format"),
        ("not UTF-8", "report", |bytes| bytes.fill(0xff), 30, "snp_report_format"),
        ("an empty certificate", "vek", Vec::clear, 30, "snp_certificate_file"),
        ("text for a certificate", "vek", |bytes| *bytes = b"text".to_vec(), 30, "snp_certificate_file"),
        ("a truncated certificate", "vek", |bytes| bytes.truncate(700), 30, "snp_certificate_file"),
        ("a byte behind a certificate", "vek", |bytes| bytes.push(0), 30, "snp_certificate_file"),
        ("an oversized certificate", "vek", |bytes| bytes.resize(1 << 20, 0x30), 30, "snp_certificate_file"),
        ("a sequence that is none", "vek", |bytes| *bytes = vec![0x30, 1, 0], 30, "snp_endorsements_format"),
        ("a flipped certificate", "vek", |bytes| bytes[1000] ^= 1, 10, "snp_key_signature"),
        ("text for a list", "crl", |bytes| *bytes = b"text".to_vec(), 30, "snp_crl_file"),
        ("a flipped list", "crl", |bytes| *bytes.last_mut().unwrap() ^= 1, 10, "snp_crl_signature"),
    ];
    for (what, file, change, expected, code) in cases {
        let folder = Folder::simulated();
        folder.change(file, change);
        let output = folder.verify(&["--json"]);
        assert_eq!((status(&output), &json(&output)["code"]), (expected, &json!(code)), "{what}");
    }
}

#[test]
fn unreadable_files_are_internal_errors_and_wrong_flags_are_usage() {
    for file in ["report", "vek", "chain", "crl"] {
        let folder = Folder::simulated();
        let flags = folder.flags();
        std::fs::remove_file(folder.path(file)).unwrap();
        let output = run(&["verify", "snp"], flags, &["--json"]);
        assert_eq!(status(&output), 1, "{file}");
        assert!(stderr(&output).contains("[file_unreadable]"), "{}", stderr(&output));
    }
    let report = Folder::recorded().path("report").display().to_string();
    let usages = [
        &["verify", "snp"][..],
        &["verify", "snp", "--report", &report, "--crl", &report, "--at", "2024-01-01T00:00:00Z"],
        &["verify", "snp", "--at", "2024-01-01T00:00:00Z", "--cert", &report],
        &["verify", "snp", "--report", &report, "--cert", "--at", "2024-01-01T00:00:00Z"],
    ];
    for arguments in usages {
        assert_eq!(status(&confide(arguments)), 2, "{arguments:?}");
    }
}

#[test]
fn a_strict_policy_names_what_differs_and_needs_a_list() {
    let client = concat!(env!("CARGO_MANIFEST_DIR"), "/../../policies/client.toml");
    let output = Folder::recorded().verify(&["--json", "--policy", client]);
    assert_eq!((status(&output), &json(&output)["code"]), (10, &json!("snp_revocation")));
    let folder = Folder::recorded();
    let path = folder.path("policy.toml");
    let text = include_str!("../../../policies/inspect.toml");
    let (before, table) = text.split_once("[snp]\n").unwrap();
    let line = "reported_tcb = { waive = \"no reference values given\" }";
    let floor =
        "reported_tcb = { at_least = { Milan = { bootloader = 3, tee = 0, snp = 9, microcode = 115 } } }";
    std::fs::write(&path, format!("{before}[snp]\n{}", table.replacen(line, floor, 1))).unwrap();
    let output = folder.verify(&["--json", "--policy", path.to_str().unwrap()]);
    assert_eq!((status(&output), &json(&output)["code"]), (10, &json!("snp_reported_tcb")));
    let check = check(&json(&output), "snp_reported_tcb");
    assert_eq!(check["expected"], "at least boot loader 3, TEE 0, SNP 9, microcode 115");
    assert_eq!(check["actual"], "boot loader 3, TEE 0, SNP 8, microcode 115");
    assert!(check["remedy"].as_str().unwrap().contains("firmware"), "{check}");
}

#[test]
fn a_field_without_an_expectation_is_an_error_of_the_policy() {
    let folder = Folder::recorded();
    let path = folder.path("policy.toml");
    let text = include_str!("../../../policies/inspect.toml");
    std::fs::write(&path, text.replace("\nvmpl = {", "\n# vmpl = {")).unwrap();
    let output = folder.verify(&["--json", "--policy", path.to_str().unwrap()]);
    assert_eq!(status(&output), 30);
    assert!(stderr(&output).contains("vmpl"), "{}", stderr(&output));
}

#[test]
fn a_recorded_appraisal_is_replayed_byte_for_byte() {
    for folder in [Folder::recorded(), Folder::simulated()] {
        let out = folder.path("appraisals.confide");
        let record = |folder: &Folder| {
            run(&["record", "snp"], folder.flags(), &["--json", "--out", out.to_str().unwrap()])
        };
        let recorded = record(&folder);
        assert_eq!(status(&recorded), 0, "{}", stderr(&recorded));
        assert_eq!(recorded.stdout, folder.verify(&["--json"]).stdout);
        // A refused report is recorded, too.
        folder.change("report", |bytes| bytes[0x90] ^= 1);
        assert_eq!(status(&record(&folder)), 10);
        let replayed = confide(&["replay", "--json", out.to_str().unwrap()]);
        assert_eq!(status(&replayed), 10, "that of the last verdict: {}", stderr(&replayed));
        let verdicts: Vec<&[u8]> = replayed.stdout.split_inclusive(|byte| *byte == b'\n').collect();
        assert_eq!(verdicts, [&recorded.stdout[..], &folder.verify(&["--json"]).stdout]);
        // The inputs decide, not what is stored.
        let bytes = std::fs::read(&out).unwrap();
        let mut records: Vec<_> = read_all(&bytes).collect::<Result<_, _>>().unwrap();
        assert!(matches!(&records[0].subject, Subject::SnpReport(report) if report.as_bytes().len() == 1184));
        let shown = confide(&["inspect", "--json", out.to_str().unwrap()]);
        assert!(stdout(&shown).contains("\"snp_report\""), "{}", stdout(&shown));
        assert!(stdout(&shown).contains("\"broken_reserved\":null"), "{}", stdout(&shown));
        records.truncate(1);
        records[0].time += 40 * 365 * 86_400;
        std::fs::write(&out, records[0].encode()).unwrap();
        let replayed = confide(&["replay", "--json", out.to_str().unwrap()]);
        assert_eq!(status(&replayed), 10);
        assert!(stderr(&replayed).contains("[replay_mismatch]"), "{}", stderr(&replayed));
        let verdict: serde_json::Value = serde_json::from_str(&support::verdict(&replayed)).unwrap();
        assert_eq!(verdict["code"], "snp_validity");
    }
}

#[test]
fn what_cannot_be_read_is_not_recorded() {
    let folder = Folder::simulated();
    folder.change("vek", |bytes| *bytes = b"text".to_vec());
    let out = folder.path("appraisals.confide");
    let output = run(&["record", "snp"], folder.flags(), &["--out", out.to_str().unwrap()]);
    assert_eq!(status(&output), 30);
    assert!(stderr(&output).contains("[snp_certificate_file]") && !out.exists(), "{}", stderr(&output));
}

fn inspect(path: &std::path::Path, more: &[&str]) -> Output {
    let words = [&["inspect", path.to_str().unwrap()][..], more].concat();
    confide(&words)
}

#[test]
fn inspect_shows_a_report_field_by_field_and_judges_nothing() {
    let folder = Folder::recorded();
    let shown = inspect(&folder.path("report"), &["--json"]);
    assert_eq!(status(&shown), 0, "{}", stderr(&shown));
    let report = json(&shown);
    let verdict = json(&folder.verify(&["--json"]));
    let measured = &verdict["measurements"];
    for field in
        ["measurement", "host_data", "family_id", "image_id", "id_key_digest", "report_id", "chip_id"]
    {
        assert_eq!(report[field], measured[field], "{field}");
    }
    assert_eq!(report["reported_tcb"]["value"], measured["reported_tcb"]);
    assert_eq!((&report["version"], &report["vmpl"]), (&json!(2), &json!(0)));
    assert_eq!(report["policy"]["value"], measured["policy"]);
    assert_eq!((&report["policy"]["smt"], &report["policy"]["debug"]), (&json!(true), &json!(false)));
    assert_eq!(report["signing_key"], "VCEK");
    // A report of version 2 names no product, and has no mitigations.
    for absent in ["product", "cpuid", "launch_mitigations", "broken_reserved"] {
        assert_eq!(report[absent], Value::Null, "{absent}");
    }
    let simulated = Folder::simulated();
    let report = json(&inspect(&simulated.path("report"), &["--json"]));
    assert_eq!((&report["product"], &report["version"]), (&json!("Genoa"), &json!(5)));
    assert_eq!(report["reported_tcb"]["levels"], "boot loader 10, TEE 2, SNP 27, microcode 84");
    assert_eq!(report["launch_mitigations"], "0x3f");
    assert_eq!(report["platform_info"]["alias_check"], json!(true));
    let text = stdout(&inspect(&simulated.path("report"), &[]));
    for line in [
        "version: 5",
        "policy.debug: false",
        "reported_tcb.levels: boot loader 10, TEE 2, SNP 27, microcode 84",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    assert_eq!(text.lines().count(), leaves(&report), "as many as JSON has");
}

fn leaves(value: &Value) -> usize {
    value.as_object().map_or(1, |inner| inner.values().map(leaves).sum())
}

#[test]
fn inspect_shows_what_verify_refuses_and_names_what_is_no_report() {
    let shown = |change: fn(&mut Vec<u8>)| {
        let folder = Folder::simulated();
        folder.change("report", change);
        let output = inspect(&folder.path("report"), &["--json"]);
        (status(&output), output)
    };
    // Unsigned, reserved and foreign values are shown as they stand.
    let (code, output) = shown(|report| {
        report[0x90] ^= 1;
        report[0x48] = 3 << 2;
        report[0x0f] = 0x80;
        report[0x188] = 0x7f;
    });
    let report = json(&output);
    assert_eq!((code, &report["signing_key"]), (0, &json!("reserved (3)")));
    assert_eq!(report["broken_reserved"], "POLICY 0x8000000000030000");
    assert_eq!((&report["product"], &report["cpuid"]["family"]), (&Value::Null, &json!(0x7f)));
    assert_eq!(report["reported_tcb"]["levels"], Value::Null);
    type Change = fn(&mut Vec<u8>);
    let bad: [(&str, Change); 9] = [
        ("empty", Vec::clear),
        ("a byte short", |report| report.truncate(1183)),
        ("a byte more", |report| report.push(0)),
        ("two reports", |report| report.extend(report.clone())),
        ("oversized", |report| report.resize(1 << 20, 0)),
        ("version 0", |report| report[0] = 0),
        ("version 6", |report| report[0] = 6),
        ("a signature of another algorithm", |report| report[0x34] = 9),
        ("bytes behind the signature", |report| report[0x49f] = 1),
    ];
    for (what, change) in bad {
        let (code, output) = shown(change);
        assert_eq!(code, 30, "{what}: {}", stdout(&output));
        assert_eq!(json(&output)["error"]["code"], "document_format", "{what}: {}", stdout(&output));
        assert!(stderr(&output).contains("[document_format]"), "{what}: {}", stderr(&output));
        assert!(!stderr(&output).contains("panicked"), "{what}");
    }
}
