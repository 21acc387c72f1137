//! `confide collateral`, and the commands that fetch what no file and no guest gives them.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    dead_code,
    missing_docs,
    reason = "tests"
)]

mod support;

use confide_evidence::tdx::{collateral_from_json, collateral_to_json};
use confide_evidence::time::format_seconds;
use confide_testkit::guest::{Attestation, Guest};
use confide_testkit::vendor::{
    ConnectProxy, Endpoint, ListeningVendor, Manner, Misdeed, Platform, PlatformOptions, Vendor, Window,
};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use support::{Sample, json, status, stderr, stdout};
use tempfile::TempDir;

const DAY: u64 = 86_400;

/// A PCCS that endorses a simulated platform, a quote of it, and a policy that accepts the quote.
struct Rig {
    service: ListeningVendor,
    platform: Platform,
    folder: TempDir,
}

impl Rig {
    async fn new() -> Self {
        Self::with(|_| ()).await
    }

    async fn with(change: impl FnOnce(&mut PlatformOptions)) -> Self {
        let platform = Platform::new(change).unwrap();
        let vendor = Vendor::new(Manner::Pccs).unwrap().endorsing("standard", platform.served());
        let service = vendor.listen().await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let rig = Self { service, platform, folder };
        std::fs::write(rig.path("quote.bin"), &rig.platform.quote).unwrap();
        std::fs::write(rig.path("pccs.pem"), rig.vendor().certificate()).unwrap();
        std::fs::write(rig.path("roots.pem"), rig.vendor().authority()).unwrap();
        std::fs::write(rig.path("danger-quote.toml"), policy()).unwrap();
        rig
    }

    fn vendor(&self) -> &Vendor {
        &self.service.vendor
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn asked(&self) -> usize {
        self.vendor().requests().len()
    }

    /// `confide` with a cache of its own and no proxy.
    fn confide(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_confide"));
        for name in ["HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR"] {
            command.env_remove(name);
        }
        command.env("NO_COLOR", "1").env("XDG_CACHE_HOME", self.path("cache")).args(words);
        command
    }

    /// The same, asking the PCCS whose certificate is pinned.
    fn pinned(&self, words: &[&str]) -> Command {
        let mut command = self.confide(words);
        command.args(["--pccs", &self.service.url(), "--pccs-certificate"]).arg(self.path("pccs.pem"));
        command
    }

    fn fetch(&self) -> Command {
        let mut command = self.pinned(&["collateral", "fetch", "--json"]);
        command.arg("--quote").arg(self.path("quote.bin"));
        command
    }

    fn verifying(&self, mut command: Command, at: u64) -> Command {
        command.arg("--quote").arg(self.path("quote.bin"));
        command.arg("--danger-policy").arg(self.path("danger-quote.toml"));
        command.args(["--json", "--at", &format_seconds(at.try_into().unwrap())]);
        command
    }

    /// `confide verify quote` now, fetching.
    fn verify(&self) -> Command {
        self.verifying(self.pinned(&["verify", "quote"]), now())
    }
}

/// The simulator's policy, for a bare quote of a TD in which nothing runs.
fn policy() -> String {
    confide_testkit::guest::policy("per-key", 300)
        .replace("boot_log = \"required\"", "boot_log = { waive = \"a bare quote has none\" }")
        .replace(
            "rtmr3 = { from = \"document\" }",
            &format!("rtmr3 = {{ any_of = [\"{}\"] }}", "0".repeat(96)),
        )
        .replace(
            "report_data = { from = \"document\" }",
            &format!("report_data = {{ any_of = [\"{}\"] }}", "0".repeat(128)),
        )
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn run(command: &mut Command, expected: i32) -> Output {
    let output = command.output().unwrap();
    assert_eq!(status(&output), expected, "{command:?}\n{}\n{}", stdout(&output), stderr(&output));
    output
}

/// Runs a command that must fail with a code.
fn refused(command: &mut Command, expected: i32, code: &str) -> String {
    let output = run(command, expected);
    let told = stderr(&output);
    assert!(told.contains(&format!("[{code}]")), "{command:?}: {told}");
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn fetched_collateral_verifies() {
    let rig = Rig::new().await;
    let file = rig.path("collateral.json");
    run(rig.fetch().arg("--out").arg(&file), 0);
    let written = collateral_from_json(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(written, rig.platform.served());
    assert_eq!(rig.asked(), 4);

    let mut from_file = rig.confide(&["verify", "quote", "--offline", "--collateral"]);
    from_file.arg(&file).env("XDG_CACHE_HOME", rig.path("empty"));
    let from_file = json(&run(&mut rig.verifying(from_file, now()), 0));
    assert_eq!((&from_file["outcome"], &from_file["simulated"]), (&json!("accepted"), &json!(true)));

    // Without a file: from the cache, also offline; and from the service where there is no cache.
    let cached = json(&run(rig.verify().arg("--offline"), 0));
    assert_eq!((&cached["tcb_status"], rig.asked()), (&json!("UpToDate"), 4));
    let fetched = json(&run(rig.verify().env("XDG_CACHE_HOME", rig.path("other")), 0));
    assert_eq!((&fetched["outcome"], rig.asked()), (&json!("accepted"), 8));
}

/// Whoever made a file must not choose what this machine asks for.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_asked_about_a_quote_that_no_platform_has_signed() {
    let rig = Rig::new().await;
    let mut quote = rig.platform.quote.clone();
    quote[200] ^= 1;
    std::fs::write(rig.path("quote.bin"), quote).unwrap();
    let verdict = json(&run(&mut rig.verify(), 10));
    assert_eq!((&verdict["code"], rig.asked()), (&json!("quote_signature"), 0), "{verdict}");
    // Who asks for it by name means it.
    run(&mut rig.fetch(), 0);
    assert_eq!(rig.asked(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verdict_names_what_the_next_tcb_recovery_brings() {
    let rig = Rig::new().await;
    let next = Platform::new(|options| {
        options.evaluation_data_number = 21;
        for level in &mut options.tcb_levels {
            level.verdict.status = "OutOfDate".to_owned();
        }
    });
    let _same = rig.vendor().clone().endorsing("early", next.unwrap().served());
    let file = rig.path("both.json");
    let shown = json(&run(rig.fetch().args(["--update", "both", "--out"]).arg(&file), 0));
    assert_eq!(shown["tcb_evaluation_data_number"], json!(20));
    assert_eq!(shown["early_tcb_evaluation_data_number"], json!(21));
    let written = json(&run(rig.confide(&["collateral", "show", "--json"]).arg(&file), 0));
    assert_eq!(written["early_tcb_evaluation_data_number"], json!(21), "the file keeps it");
    let verdict = json(&run(rig.verify().args(["--update", "both"]), 0));
    assert_eq!(
        (&verdict["tcb_status"], &verdict["early_tcb_status"]),
        (&json!("UpToDate"), &json!("OutOfDate")),
        "{verdict}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_fetched_is_verified_and_not_believed() {
    let rig = Rig::new().await;
    let mut signature = rig.platform.served();
    signature.tcb_info_signature.0[7] ^= 1;
    let _forged = rig.vendor().clone().endorsing("standard", signature);
    run(&mut rig.fetch(), 0);
    let verdict = json(&run(&mut rig.verify(), 10));
    assert_eq!(verdict["code"], json!("tcb_info_signature"), "{verdict}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_platform_can_be_named() {
    let rig = Rig::new().await;
    let named =
        |fmspc: &str, ca: &str| rig.pinned(&["collateral", "fetch", "--json", "--fmspc", fmspc, "--ca", ca]);
    let shown = json(&run(&mut named("53494D000000", "platform"), 0));
    assert_eq!(shown["fmspc"], json!("53494d000000"));
    let told = refused(&mut named("00906ea10000", "platform"), 1, "endorsement_not_found");
    assert!(told.contains("TCB info of FMSPC 00906ea10000 (standard) from 127.0.0.1:"), "{told}");
    for words in [
        &["--fmspc", "53494D000000"][..],
        &["--ca", "platform"],
        &[],
        &["--fmspc", "53494D0000", "--ca", "platform"],
        &["--fmspc", "53494D000000", "--ca", "root"],
        &["--quote", "x", "--fmspc", "53494D000000", "--ca", "platform"],
    ] {
        run(rig.confide(&["collateral", "fetch"]).args(words), 2);
    }
    let mut no_quote = rig.pinned(&["collateral", "fetch"]);
    refused(no_quote.arg("--quote").arg(rig.path("pccs.pem")), 20, "quote_format");
}

#[tokio::test(flavor = "multi_thread")]
async fn network_faults_end_with_1_and_say_what_to_do() {
    let rig = Rig::new().await;
    let cases = [
        (Misdeed::Status(404, None), "endorsement_not_found"),
        (Misdeed::Status(429, Some(("retry-after", "9999".to_owned()))), "endorsement_busy"),
        (Misdeed::MediaType("text/html"), "endorsement_malformed"),
        (Misdeed::RawChain, "endorsement_malformed"),
        (Misdeed::Status(302, None), "endorsement_redirected"),
    ];
    for (misdeed, code) in cases {
        rig.vendor().always(Endpoint::TcbInfo, misdeed);
        for command in [&mut rig.fetch(), &mut rig.verify()] {
            let told = refused(command, 1, code);
            assert_eq!(told.lines().count(), 2, "{told}");
        }
    }
    let mut nobody = rig.confide(&["collateral", "fetch", "--pccs", "https://127.0.0.1:1", "--quote"]);
    refused(nobody.arg(rig.path("quote.bin")), 1, "endorsement_unreachable");
}

#[tokio::test(flavor = "multi_thread")]
async fn offline_means_that_nobody_is_asked() {
    let rig = Rig::new().await;
    let told = refused(rig.verify().arg("--offline"), 1, "endorsement_offline");
    assert!(told.contains("leave --offline away"), "{told}");
    refused(rig.fetch().arg("--offline"), 1, "endorsement_offline");
    assert_eq!(rig.asked(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_past_time_needs_a_file() {
    let rig = Rig::new().await;
    let year_ago = now() - 365 * DAY;
    let past = rig.verifying(rig.pinned(&["verify", "quote"]), year_ago);
    let told = refused(&mut { past }, 1, "endorsement_not_yet_valid");
    assert!(told.contains("give the collateral of that time as a file"), "{told}");
    let mut past = rig.fetch();
    refused(
        past.args(["--at", &format_seconds(year_ago.try_into().unwrap())]),
        1,
        "endorsement_not_yet_valid",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_trusts_the_web_authorities_or_the_pinned_certificate() {
    let rig = Rig::new().await;
    let url = rig.service.url().replace("127.0.0.1", "localhost");
    let web = || {
        let mut command = rig.confide(&["collateral", "fetch", "--pccs", &url, "--quote"]);
        command.arg(rig.path("quote.bin"));
        command
    };
    let told = refused(&mut web(), 1, "endorsement_tls");
    assert!(told.contains("--pccs-certificate FILE"), "{told}");
    run(web().env("SSL_CERT_FILE", rig.path("roots.pem")).env("XDG_CACHE_HOME", rig.path("web")), 0);
    refused(
        web().env("SSL_CERT_FILE", rig.path("nonesuch.pem")).env("SSL_CERT_DIR", rig.path("nonesuch")),
        1,
        "endorsement_tls",
    );
    let mut other = web();
    std::fs::write(rig.path("other.pem"), Vendor::new(Manner::Pccs).unwrap().certificate()).unwrap();
    other.arg("--pccs-certificate").arg(rig.path("other.pem")).env("XDG_CACHE_HOME", rig.path("other"));
    refused(&mut other, 1, "endorsement_tls");
    refused(web().arg("--pccs-certificate").arg(rig.path("quote.bin")), 30, "endorser_certificate");
    run(rig.confide(&["collateral", "fetch", "--pccs", "http://127.0.0.1:1", "--quote", "x"]).arg("x"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_proxy_of_the_environment_is_used() {
    let rig = Rig::new().await;
    let proxy = ConnectProxy::listen(200).await.unwrap();
    run(rig.fetch().env("HTTPS_PROXY", proxy.url()), 0);
    assert_eq!(proxy.seen().len(), 4);
    let elsewhere = |name: &str| {
        let mut command = rig.fetch();
        command.env("XDG_CACHE_HOME", rig.path(name));
        command
    };
    run(elsewhere("a").env("HTTPS_PROXY", proxy.url()).env("NO_PROXY", "127.0.0.1"), 0);
    assert_eq!(proxy.seen().len(), 4);
    refused(elsewhere("b").env("HTTPS_PROXY", "socks5://name:word@proxy.example"), 1, "endorser_proxy");
    // What is in the cache needs no proxy.
    run(rig.fetch().env("HTTPS_PROXY", "socks5://proxy.example"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_ask_once() {
    let rig = Rig::new().await;
    for endpoint in [Endpoint::TcbInfo, Endpoint::QeIdentity, Endpoint::PckCrl, Endpoint::RootCaCrl] {
        rig.vendor().always(endpoint, Misdeed::Late(Duration::from_millis(700)));
    }
    let children: Vec<_> = (0..4).map(|_| rig.fetch().stdout(Stdio::null()).spawn().unwrap()).collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(rig.asked(), 4, "{:?}", rig.vendor().requests());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_shown_of_a_file() {
    let present = now();
    let rig = Rig::with(|options| {
        options.windows.pck_crl = Window { from: present - DAY, until: present + DAY };
    })
    .await;
    let file = rig.path("collateral.json");
    std::fs::write(&file, collateral_to_json(&rig.platform.collateral)).unwrap();
    let show = |at: u64, words: &[&str]| {
        let mut command = rig.confide(&["collateral", "show"]);
        command.arg(&file).args(["--at", &format_seconds(at.try_into().unwrap())]).args(words);
        run(&mut command, 0)
    };
    let text = stdout(&show(present, &[]));
    let until = format_seconds((present + DAY).try_into().unwrap());
    assert!(text.starts_with("FMSPC: 53494d000000\ntcbEvaluationDataNumber: 20 of the TCB info, 20 of the QE identity\nTCB info: valid, from "), "{text}");
    assert!(text.ends_with(&format!("expires first: PCK CRL, {until}\n")), "{text}");
    let shown = json(&show(present + 2 * DAY, &["--json"]));
    let states: Vec<(&Value, &Value)> =
        shown["parts"].as_array().unwrap().iter().map(|part| (&part["part"], &part["state"])).collect();
    assert_eq!(states[3], (&json!("PCK CRL"), &json!("over")));
    assert_eq!(states[0], (&json!("TCB info"), &json!("valid")));
    assert_eq!((&shown["expires_first"], &shown["valid_until"]), (&json!("PCK CRL"), &json!(until)));
    let early = json(&show(present - 2 * DAY, &["--json"]));
    assert_eq!(early["parts"][0]["state"], json!("not yet valid"));
    let mut broken = rig.confide(&["collateral", "show"]);
    refused(broken.arg(rig.path("quote.bin")), 30, "collateral_file");
    refused(&mut rig.confide(&["collateral", "show", "/nonexistent"]), 1, "file_unreadable");
}

#[test]
fn recorded_collateral_is_shown() {
    let sample = Sample::version_4();
    let path = sample.collateral.display().to_string();
    let output = support::confide(&["collateral", "show", &path, "--at", sample.time, "--json"]);
    let shown = json(&output);
    assert_eq!(status(&output), 0, "{}", stderr(&output));
    assert!(shown["parts"].as_array().unwrap().iter().all(|part| part["state"] == "valid"), "{shown}");
    assert!(shown["tcb_evaluation_data_number"].as_u64().unwrap() > 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cache_is_shown_and_pruned() {
    let rig = Rig::new().await;
    let run = |words: &[&str]| stdout(&run(&mut rig.confide(words), 0));
    let folder = rig.path("cache/confide/endorsements").display().to_string();
    assert_eq!(run(&["collateral", "show"]), format!("{folder}: 0 objects\n"));
    self::run(&mut rig.fetch(), 0);
    let listed: Value = serde_json::from_str(&run(&["collateral", "show", "--json"])).unwrap();
    let objects = listed["objects"].as_array().unwrap();
    assert_eq!((objects.len(), &listed["cache"]), (4, &json!(folder)));
    assert!(objects[0]["service"].as_str().unwrap().starts_with("pccs-127.0.0.1-"));
    assert!(run(&["collateral", "show"]).contains("TCB info of FMSPC 53494d000000 (standard): valid, from "));
    assert!(run(&["collateral", "prune"]).starts_with(&format!("{folder}: 0 objects of 0 bytes removed")));
    let pruned: Value = serde_json::from_str(&run(&["collateral", "prune", "--json"])).unwrap();
    assert_eq!(pruned, json!({ "cache": folder, "removed": { "objects": 0, "bytes": 0 } }));
    assert!(run(&["collateral", "prune", "--all"]).starts_with(&format!("{folder}: 4 objects of ")));
    assert_eq!(run(&["collateral", "show"]), format!("{folder}: 0 objects\n"));
    let mut homeless = rig.confide(&["collateral", "prune"]);
    refused(homeless.env_remove("XDG_CACHE_HOME").env_remove("HOME"), 2, "cache_unknown");
}

#[tokio::test(flavor = "multi_thread")]
async fn guests_that_staple_nothing_are_appraised_with_what_is_fetched() {
    let guest = Guest::new(0).unwrap().attesting(Attestation::Unstapled);
    let vendor = Vendor::new(Manner::Pccs).unwrap().endorsing("standard", guest.collateral().unwrap());
    let (guest, service) = (guest.listen().await.unwrap(), vendor.listen().await.unwrap());
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("pccs.pem"), service.vendor.certificate()).unwrap();
    std::fs::write(path("danger-test.toml"), confide_testkit::guest::policy("per-key", 300)).unwrap();
    let command = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_confide"));
        let url =
            if words[0] == "record" { vec![guest.url()] } else { vec!["--url".to_owned(), guest.url()] };
        command.args(words).args(url).arg("--danger-policy").arg(path("danger-test.toml"));
        command.args(["--pccs", &service.url(), "--pccs-certificate"]).arg(path("pccs.pem"));
        command.env("NO_COLOR", "1").env("XDG_CACHE_HOME", path("cache"));
        command
    };
    refused_verdict(command(&["chat", "--offline", "a question"]), "collateral_present");
    run(&mut command(&["chat", "a question"]), 0);
    assert_eq!(service.vendor.requests().len(), 4);
    run(&mut command(&["chat", "--offline", "a question"]), 0);
    let record = path("record.cbor");
    run(command(&["record"]).arg("--out").arg(&record), 0);
    let replay = |record: &PathBuf, status| {
        let mut replay = Command::new(env!("CARGO_BIN_EXE_confide"));
        run(replay.arg("replay").arg(record), status)
    };
    replay(&record, 0);

    // Where nothing can be fetched there is no verdict, and what the guest showed is on record all the same.
    service.vendor.always(Endpoint::TcbInfo, Misdeed::Status(404, None));
    let record = path("refused.cbor");
    let mut fetching = command(&["record"]);
    refused(
        fetching.arg("--out").arg(&record).env("XDG_CACHE_HOME", path("empty")),
        1,
        "endorsement_not_found",
    );
    assert!(stdout(&replay(&record, 10)).contains("collateral_present"));
}

fn refused_verdict(mut command: Command, code: &str) {
    let told = stderr(&run(&mut command, 10));
    assert!(told.starts_with(&format!("SIMULATED REJECTED ({code})")), "{told}");
}
