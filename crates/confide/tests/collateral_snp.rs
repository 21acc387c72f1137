//! `confide collateral fetch --report`: from the service to an accepted verdict.
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
        let mut command = self.confide(&["collateral", "fetch"]);
        command.args(["--kds", &self.service.url(), "--kds-certificate"]).arg(self.path("kds.pem"));
        command
    }
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
            let policy = concat!(env!("CARGO_MANIFEST_DIR"), "/../../policies/danger-simulator.toml");
            let verdict = json(&run(verify.args(["--danger-policy", policy]), 0));
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
    let refused = |command: &mut Command, expected: i32, code: &str| {
        let told = stderr(&run(command, expected));
        assert!(told.contains(&format!("[{code}]")), "{told}");
    };
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
