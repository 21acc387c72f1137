//! `--event-log`: a boot event log beside a bare quote, verified, recorded, replayed and inspected.
#![allow(clippy::unwrap_used, clippy::panic, dead_code, missing_docs, reason = "tests")]

mod support;

use confide_evidence::record::Subject;
use confide_simulator::{PlatformOptions, SimulatedBootLog, SimulatedPlatform, SimulatedTd};
use serde_json::{Value, json};
use std::path::PathBuf;
use support::{Sample, confide, json, run, status, stderr, stdout};
use tempfile::TempDir;

const TIME: &str = "2026-10-01T00:00:00Z";
const SECONDS: u64 = 1_790_812_800;

/// A simulated quote, its collateral, its boot event log, and a policy for them, in files.
struct Scene {
    folder: TempDir,
}

impl Scene {
    fn new() -> Self {
        let scene = Self { folder: tempfile::tempdir().unwrap() };
        let platform = SimulatedPlatform::new(PlatformOptions::at(SECONDS)).unwrap();
        scene.write("quote", &platform.quote(&SimulatedTd::default().report([7; 64])));
        scene.write("collateral", platform.collateral_json().as_bytes());
        scene.write("log", &SimulatedBootLog::default().table(65_536));
        let policy = include_str!("../../../policies/danger-simulator.toml")
            .replace("{ from = \"document\" }", "{ waive = \"a bare quote\" }");
        scene.write("danger-quote.toml", policy.as_bytes());
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    /// A log that lacks the last event.
    fn write_shorter_log(&self) {
        let mut log = SimulatedBootLog::default();
        log.events.pop();
        self.write("log", &log.to_bytes());
    }

    fn flags(&self, more: &[(&str, &str)]) -> Vec<String> {
        let files = [
            ("--quote", "quote"),
            ("--collateral", "collateral"),
            ("--danger-policy", "danger-quote.toml"),
            ("--event-log", "log"),
        ];
        let files = files
            .iter()
            .chain(more)
            .flat_map(|(flag, name)| [(*flag).to_owned(), self.path(name).display().to_string()]);
        files.chain(["--at".to_owned(), TIME.to_owned()]).collect()
    }
}

fn check(verdict: &Value, code: &str) -> Value {
    let checks = verdict["checks"].as_array().unwrap();
    checks.iter().find(|check| check["code"] == code).unwrap_or_else(|| panic!("{code}: {verdict}")).clone()
}

#[test]
fn a_log_that_replays_is_accepted_and_another_is_rejected() {
    let scene = Scene::new();
    let accepted = run(&["verify", "quote"], scene.flags(&[]), &["--json"]);
    assert_eq!(status(&accepted), 0, "{}", stdout(&accepted));
    assert_eq!(check(&json(&accepted), "boot_log")["status"], "pass");
    scene.write_shorter_log();
    let rejected = run(&["verify", "quote"], scene.flags(&[]), &["--json"]);
    assert_eq!((status(&rejected), &json(&rejected)["code"]), (10, &json!("boot_log")));
    let found = check(&json(&rejected), "boot_log");
    assert!(found["actual"].as_str().unwrap().starts_with("RTMR1 replays to "), "{found}");
    assert!(found["remedy"].as_str().unwrap().contains("the log of this very boot"), "{found}");
}

#[test]
fn a_file_that_is_no_log_is_malformed_and_a_missing_one_a_fault() {
    let scene = Scene::new();
    scene.write("log", b"no log at all, and no padding either");
    let malformed = run(&["verify", "quote"], scene.flags(&[]), &["--json"]);
    assert_eq!((status(&malformed), &json(&malformed)["code"]), (30, &json!("boot_log_format")));
    scene.write("log", &vec![0xff; 1024 * 1024 + 1]);
    let large = run(&["verify", "quote"], scene.flags(&[]), &["--json"]);
    assert_eq!((status(&large), &json(&large)["code"]), (30, &json!("boot_log_format")));
    std::fs::remove_file(scene.path("log")).unwrap();
    let missing = run(&["verify", "quote"], scene.flags(&[]), &[]);
    assert_eq!(status(&missing), 1);
    assert!(stderr(&missing).contains("[file_unreadable]"), "{}", stderr(&missing));
}

#[test]
fn without_a_policy_a_log_counts_where_it_is_given() {
    let sample = Sample::version_4();
    let without = sample.verify(&["--json"]);
    assert_eq!(status(&without), 0);
    assert_eq!(check(&json(&without), "boot_log")["status"], "not_run");
    let scene = Scene::new();
    let foreign = sample.verify(&["--json", "--event-log", scene.path("log").to_str().unwrap()]);
    assert_eq!((status(&foreign), &json(&foreign)["code"]), (10, &json!("boot_log")));
}

#[test]
fn a_record_keeps_the_log_and_replays_it() {
    let scene = Scene::new();
    for _ in 0..2 {
        let recorded = run(&["record", "quote"], scene.flags(&[("--out", "records")]), &["--json"]);
        let expected = check(&json(&recorded), "boot_log")["status"].clone();
        let replayed = confide(&["replay", "--json", scene.path("records").to_str().unwrap()]);
        assert_eq!(status(&replayed), status(&recorded), "{}", stderr(&replayed));
        let last: Value = serde_json::from_str(stdout(&replayed).lines().last().unwrap()).unwrap();
        assert_eq!(check(&last, "boot_log")["status"], expected);
        scene.write_shorter_log();
    }
    let records = confide_record::read(&std::fs::read(scene.path("records")).unwrap()).unwrap();
    assert_eq!(records.len(), 2);
    assert!(records.iter().all(|record| matches!(record.subject, Subject::QuoteWithLog { .. })));
    // Another log under the recorded outcome is found.
    let [mut first, second] = <[_; 2]>::try_from(records).unwrap();
    first.subject = second.subject;
    scene.write("records", &first.encode());
    let replayed = confide(&["replay", scene.path("records").to_str().unwrap()]);
    assert_eq!(status(&replayed), 10);
    assert!(stderr(&replayed).contains("[replay_mismatch]"), "{}", stderr(&replayed));
}

fn inspect(scene: &Scene, name: &str) -> Value {
    let output = confide(&["inspect", "--json", scene.path(name).to_str().unwrap()]);
    assert_eq!(status(&output), 0, "{}", stderr(&output));
    json(&output)
}

#[test]
fn inspect_shows_the_events_of_a_log() {
    let scene = Scene::new();
    let shown = inspect(&scene, "log");
    assert_eq!(shown["events"].as_array().unwrap().len(), 20);
    let event = &shown["events"][9];
    assert_eq!((&event["event"], &event["register"]), (&json!(10), &json!("RTMR0")));
    assert_eq!(
        (&event["type"], &event["description"]),
        (&json!("EV_PLATFORM_CONFIG_FLAGS"), &json!("ACPI DATA"))
    );
    assert_eq!(
        (&event["data_is_measured"], &shown["events"][15]["data_is_measured"]),
        (&json!(false), &json!(true))
    );
    run(&["record", "quote"], scene.flags(&[("--out", "records")]), &[]);
    assert_eq!(shown["form"], "boot event log");
    assert_eq!(inspect(&scene, "records")["boot_log"]["events"], shown["events"]);
    scene.write("nothing", b"nothing that is known");
    let unknown = confide(&["inspect", scene.path("nothing").to_str().unwrap()]);
    assert_eq!(status(&unknown), 30);
    assert!(
        stderr(&unknown).contains("of no form that is known (as an evidence document: "),
        "{}",
        stderr(&unknown)
    );
}

#[test]
fn inspect_escapes_what_a_log_says() {
    let scene = Scene::new();
    let mut log = SimulatedBootLog::default();
    log.events[18].data = "Exit\u{202e} Boot\x1b[2J\" Services".into();
    scene.write("log", &log.to_bytes());
    let output = confide(&["inspect", "--json", scene.path("log").to_str().unwrap()]);
    assert!(stdout(&output).bytes().all(|byte| byte == b'\n' || (b' '..=b'~').contains(&byte)));
    assert_eq!(json(&output)["events"][18]["data_is_measured"], json!(false));
}

#[test]
fn inspect_names_every_bit_of_a_quote_and_what_its_certificate_says() {
    let shown = confide(&["inspect", "--json", Sample::version_5().quote.to_str().unwrap()]);
    assert_eq!(status(&shown), 0, "{}", stderr(&shown));
    let quote = json(&shown);
    assert_eq!((&quote["version"], &quote["body"]), (&json!(5), &json!("TD 1.5, extended")));
    let report = &quote["report"];
    assert_eq!(report["td_attributes"], json!({ "value": "0000001000000000", "bits": "SEPT_VE_DISABLE" }));
    assert_eq!(report["xfam"]["bits"], "X87, SSE, AVX, OPMASK, ZMM_HI256, HI16_ZMM, PKRU, TILECFG, TILEDATA");
    assert_eq!(report["seam_attributes"]["bits"], "none");
    assert_eq!(report["extended"]["vm_id"], 0);
    assert_eq!(report["extended"]["td_id"].as_str().unwrap().len(), 64);
    let pck = &quote["pck_certificate"];
    assert_eq!((&pck["sgx_type"], &pck["smt_enabled"]), (&json!("scalable"), &json!(true)));
    assert_eq!(pck["ppid"].as_str().unwrap().len(), 32);
}
