//! `confide collateral fetch --report`, and `verify snp` and `record snp` without certificates: from the service to a verdict.
#![allow(clippy::unwrap_used, clippy::panic, dead_code, missing_docs, reason = "tests")]

mod support;

use confide_evidence::time::format_seconds;
use confide_testkit::snp::{SnpEvidence, SnpOptions, SnpProduct, SnpSigningKey};
use confide_testkit::vendor::{Endpoint, ListeningVendor, Manner, Misdeed, Vendor};
use serde_json::json;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{SystemTime, UNIX_EPOCH};
use support::{json, status, stderr, stdout};
use tempfile::TempDir;

/// AMD's service and a report whose key it endorses.
struct Rig {
    service: ListeningVendor,
    evidence: SnpEvidence,
    folder: TempDir,
    time: u64,
}

impl Rig {
    async fn new(product: SnpProduct, signing_key: SnpSigningKey) -> Self {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let evidence = SnpEvidence::of(SnpOptions { product, signing_key, ..SnpOptions::at(time) }).unwrap();
        let vendor = Vendor::new(Manner::Pcs).unwrap().endorsing_report(&evidence);
        let folder = tempfile::tempdir().unwrap();
        let rig = Self { service: vendor.listen().await.unwrap(), evidence, folder, time };
        std::fs::write(rig.path("report"), &rig.evidence.report).unwrap();
        std::fs::write(rig.path("kds.pem"), rig.service.vendor.certificate()).unwrap();
        rig
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn confide(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_confide"));
        for name in ["HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR"] {
            command.env_remove(name);
        }
        command.env("NO_COLOR", "1").env("XDG_CACHE_HOME", self.path("cache")).args(words);
        command.arg("--report").arg(self.path("report"));
        command
    }

    fn fetch(&self) -> Command {
        self.asking(&["collateral", "fetch"])
    }

    /// A command that asks this service.
    fn asking(&self, words: &[&str]) -> Command {
        let mut command = self.confide(words);
        command.args(["--kds", &self.service.url(), "--kds-certificate"]).arg(self.path("kds.pem"));
        command
    }

    /// A command that appraises the report now, without certificates from files.
    fn appraise(&self, words: &[&str]) -> Command {
        let mut command = self.asking(words);
        command.args(["--json", "--at", &format_seconds(self.time.try_into().unwrap())]);
        command.args(["--danger-policy", POLICY]);
        command
    }

    fn verify(&self) -> Command {
        self.appraise(&["verify", "snp"])
    }
}

const POLICY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../policies/danger-simulator.toml");

fn refused(command: &mut Command, expected: i32, code: &str) {
    let told = stderr(&run(command, expected));
    assert!(told.contains(&format!("[{code}]")), "{told}");
}

fn run(command: &mut Command, expected: i32) -> Output {
    let output = command.output().unwrap();
    assert_eq!(status(&output), expected, "{command:?}\n{}\n{}", stdout(&output), stderr(&output));
    output
}

#[tokio::test(flavor = "multi_thread")]
async fn fetched_endorsements_verify() {
    for product in SnpProduct::ALL {
        for signing_key in [SnpSigningKey::Vcek, SnpSigningKey::Vlek] {
            let rig = Rig::new(product, signing_key).await;
            let (certificates, list) = (rig.path("chain.pem"), rig.path("list.der"));
            let mut fetch = rig.fetch();
            fetch.arg("--json").arg("--out").arg(&certificates).arg("--out-crl").arg(&list);
            let shown = json(&run(&mut fetch, 0));
            assert_eq!(shown["product"], product.name());
            let vlek = signing_key == SnpSigningKey::Vlek;
            assert_eq!(shown["signing_key"], if vlek { "VLEK" } else { "VCEK" });
            let parts = shown["parts"].as_array().unwrap();
            assert_eq!(parts.len(), if vlek { 3 } else { 4 });
            assert!(parts.iter().all(|part| part["state"] == "valid"), "{shown}");
            let mut verify = rig.confide(&["verify", "snp", "--json"]);
            verify.arg("--cert").arg(&certificates);
            if vlek {
                std::fs::write(rig.path("vlek.der"), &rig.evidence.certificates[0]).unwrap();
                verify.arg(rig.path("vlek.der"));
            }
            verify.arg("--crl").arg(&list).args(["--at", &format_seconds(rig.time.try_into().unwrap())]);
            let verdict = json(&run(verify.args(["--danger-policy", POLICY]), 0));
            assert_eq!((&verdict["outcome"], &verdict["simulated"]), (&json!("accepted"), &json!(true)));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_fetched_is_kept_and_shown() {
    let rig = Rig::new(SnpProduct::Genoa, SnpSigningKey::Vcek).await;
    let told = stdout(&run(&mut rig.fetch(), 0));
    assert!(told.starts_with("VCEK of Genoa\ncertificate SEV-VCEK: valid, from "), "{told}");
    run(rig.fetch().arg("--offline"), 0);
    assert_eq!(rig.service.vendor.requests().len(), 3);
    let mut show = Command::new(env!("CARGO_BIN_EXE_confide"));
    show.args(["collateral", "show"]).env("XDG_CACHE_HOME", rig.path("cache"));
    let shown = stdout(&run(&mut show, 0));
    assert!(shown.contains(": 3 objects\n") && shown.contains("VCEK certificate of the Genoa "), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_have_their_exit_status_and_code() {
    let rig = Rig::new(SnpProduct::Genoa, SnpSigningKey::Vcek).await;
    rig.service.vendor.always(Endpoint::Vcek, Misdeed::Status(404, None));
    refused(&mut rig.fetch(), 1, "endorsement_not_found");
    rig.service.vendor.reform();
    refused(rig.fetch().args(["--offline", "--cache"]).arg(rig.path("empty")), 1, "endorsement_offline");
    refused(rig.fetch().args(["--product", "Milan"]), 30, "snp_report_platform");
    let change = |offset: usize, value: u8| {
        let mut report = rig.evidence.report.clone();
        report[offset] = value;
        std::fs::write(rig.path("report"), report).unwrap();
    };
    change(0, 6);
    refused(&mut rig.fetch(), 20, "snp_report_format");
    change(0, 2);
    refused(&mut rig.fetch(), 30, "snp_report_platform");
    run(rig.fetch().args(["--product", "Genoa"]), 0);
    std::fs::write(rig.path("report"), b"no report").unwrap();
    refused(&mut rig.fetch(), 30, "snp_report_format");
    for wrong in [["--product", "Rome"], ["--ca", "platform"], ["--quote", "file"]] {
        assert_eq!(status(&rig.fetch().args(wrong).output().unwrap()), 2, "{wrong:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_is_verified_without_files_and_then_offline() {
    for product in SnpProduct::ALL {
        let rig = Rig::new(product, SnpSigningKey::Vcek).await;
        let output = run(&mut rig.verify(), 0);
        let verdict = json(&output);
        assert_eq!((&verdict["outcome"], &verdict["simulated"]), (&json!("accepted"), &json!(true)));
        let list =
            verdict["checks"].as_array().unwrap().iter().find(|check| check["code"] == "snp_revocation");
        assert_eq!(list.unwrap()["status"], "pass", "the list is fetched beside the certificates");
        assert_eq!(rig.service.vendor.requests().len(), 3);
        // The same verdict as from files.
        let (certificates, list) = (rig.path("chain.pem"), rig.path("list.der"));
        run(rig.fetch().arg("--out").arg(&certificates).arg("--out-crl").arg(&list), 0);
        let mut from_files = rig.confide(&["verify", "snp", "--json", "--danger-policy", POLICY]);
        from_files.args(["--at", &format_seconds(rig.time.try_into().unwrap())]);
        from_files.arg("--cert").arg(&certificates).arg("--crl").arg(&list);
        assert_eq!(run(&mut from_files, 0).stdout, output.stdout);
        assert_eq!(run(rig.verify().arg("--offline"), 0).stdout, output.stdout);
        assert_eq!(rig.service.vendor.requests().len(), 3, "what is fresh is not asked for again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_fetched_is_recorded_and_replayed_without_a_service() {
    let rig = Rig::new(SnpProduct::Turin, SnpSigningKey::Vcek).await;
    let out = rig.path("appraisals.confide");
    let recorded = run(rig.appraise(&["record", "snp"]).arg("--out").arg(&out), 0);
    let asked = rig.service.vendor.requests().len();
    let mut replay = Command::new(env!("CARGO_BIN_EXE_confide"));
    replay.args(["replay", "--json"]).arg(&out).env("XDG_CACHE_HOME", rig.path("empty"));
    assert_eq!(run(&mut replay, 0).stdout, recorded.stdout);
    assert_eq!(rig.service.vendor.requests().len(), asked);
    let bytes = std::fs::read(&out).unwrap();
    let record = confide_evidence::record::read_all(&bytes).next().unwrap().unwrap();
    let endorsements = record.endorsements.snp.unwrap();
    assert_eq!((endorsements.certificates.len(), endorsements.crls.len()), (3, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_fetched_is_verified_and_not_believed() {
    let rig = Rig::new(SnpProduct::Genoa, SnpSigningKey::Vcek).await;
    let flipped = |der: &[u8]| {
        let mut der = der.to_vec();
        *der.last_mut().unwrap() ^= 1;
        der
    };
    let SnpEvidence { certificates: [key, ..], list, .. } = &rig.evidence;
    for (endpoint, body, code) in [
        (Endpoint::Vcek, flipped(key), "snp_key_signature"),
        (Endpoint::AmdCrl, flipped(list), "snp_crl_signature"),
    ] {
        rig.service.vendor.always(endpoint, Misdeed::Body(body));
        let verdict = json(&run(rig.verify().arg("--cache").arg(rig.path(code)), 10));
        assert_eq!(verdict["code"], code);
        rig.service.vendor.reform();
    }
    run(&mut rig.verify(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_fetched_is_no_verdict() {
    let rig = Rig::new(SnpProduct::Genoa, SnpSigningKey::Vcek).await;
    for command in [rig.verify(), rig.appraise(&["record", "snp", "--out", "/dev/null"])] {
        let with = |more: &[&str]| {
            let mut again = Command::new(command.get_program());
            again.args(command.get_args()).args(more);
            for (name, value) in command.get_envs() {
                match value {
                    Some(value) => again.env(name, value),
                    None => again.env_remove(name),
                };
            }
            again
        };
        refused(&mut with(&["--offline"]), 1, "endorsement_offline");
        rig.service.vendor.always(Endpoint::AmdCrl, Misdeed::Status(404, None));
        let empty = rig.folder.path().join("empty");
        refused(&mut with(&["--cache", empty.to_str().unwrap()]), 1, "endorsement_not_found");
        rig.service.vendor.reform();
        refused(&mut with(&["--product", "Milan"]), 30, "snp_report_platform");
    }
    let asked = rig.service.vendor.requests().len();
    let report = |change: fn(&mut Vec<u8>)| {
        let mut report = rig.evidence.report.clone();
        change(&mut report);
        std::fs::write(rig.path("report"), report).unwrap();
    };
    // Bytes that are no report: the verdict says so, and nobody is asked.
    report(|report| report.truncate(7));
    assert_eq!(json(&run(&mut rig.verify(), 30))["code"], "snp_report_format");
    report(|report| report[0] = 9);
    assert_eq!(json(&run(&mut rig.verify(), 20))["code"], "snp_report_format");
    report(|report| report[0x48] = 1 << 2);
    refused(&mut rig.verify(), 2, "snp_vlek_certificate");
    report(|report| report[0] = 2);
    refused(&mut rig.verify(), 30, "snp_report_platform");
    assert_eq!(rig.service.vendor.requests().len(), asked);
    // With its product a report of version 2 is asked about; this one is no longer signed.
    let verdict = json(&run(rig.verify().args(["--product", "Genoa"]), 10));
    assert_eq!(verdict["code"], "snp_report_signature");
}
