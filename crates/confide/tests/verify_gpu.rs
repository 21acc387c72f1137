//! `confide verify gpu`, `record gpu` and `replay` as a user meets them: recorded and simulated devices, exit statuses, bad
//! input.
#![allow(clippy::unwrap_used, clippy::panic, dead_code, missing_docs, reason = "tests")]

#[path = "../../evidence/tests/support/nvidia_corpus.rs"]
mod corpus;
mod support;

use confide_evidence::hex;
use confide_evidence::pem;
use confide_evidence::record::{Record, Subject, read_all};
use confide_simulator::{NrasDevice, NrasOptions, SimulatedGpu};
use confide_testkit::gpu::{GpuEvidence, GpuRevocationList, OcspOptions, evidence_list};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Output;
use support::{Sample, confide, json, run, status, stderr, stdout};

/// When the simulated devices are asked, Unix seconds, and as the flags have it.
const TIME: u64 = 1_790_812_800;
const AT: &str = "2026-10-01T00:00:00Z";
const NONCE: [u8; 32] = [0x41; 32];

const HOPPER: &str = "google-go-nvattest-tools/hopper-550.90.07-full";
/// When the OCSP answers about the recorded Hopper's certificates hold, and when those about its manifests' signers do.
const HOPPER_AT: [&str; 4] = ["--at", "2025-08-21T12:00:00Z", "--rim-at", "2025-10-24T12:00:00Z"];
const MACHINE: &str = "nvidia-nvtrust/ppcie-8gpu-4switch";
const SDK: &str = "nvidia-attestation-sdk";

/// Files in a folder of their own, and the flags that name them.
struct Folder {
    folder: tempfile::TempDir,
    flags: Vec<String>,
}

impl Folder {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), flags: Vec::new() }
    }

    /// A simulated Hopper as `report` and `chain`, with `rim0`, `rim1`, `ocsp0` and so on, and `crl0` and so on.
    fn hopper() -> Self {
        let evidence = GpuEvidence::hopper(NONCE, TIME).unwrap();
        let mut folder = Self::new();
        folder.add("--report", "report", &evidence.devices[0].report);
        folder.add("--chain", "chain", evidence.devices[0].chain.as_bytes());
        folder.word("--nonce", &hex::encode(&NONCE));
        folder.endorsed(&evidence);
        folder.dangerous(|policy| policy)
    }

    /// The same Hopper as `gpus`, an evidence list.
    fn listed() -> Self {
        let evidence = GpuEvidence::hopper(NONCE, TIME).unwrap();
        let mut folder = Self::new();
        folder.add("--evidence", "gpus", evidence.list().as_bytes());
        folder.endorsed(&evidence);
        folder.dangerous(|policy| policy)
    }

    /// A simulated machine of eight GPUs and four switches as `gpus` and `switches`, evidence lists, with what endorses it.
    fn machine() -> Self {
        let evidence = GpuEvidence::machine(8, 4, NONCE, TIME).unwrap();
        let (of_gpus, of_switches) = evidence.devices.split_at(8);
        let mut folder = Self::new();
        folder.add("--evidence", "gpus", evidence_list(of_gpus).as_bytes());
        folder.add("--evidence", "switches", evidence_list(of_switches).as_bytes());
        folder.endorsed(&evidence);
        folder.dangerous(|policy| {
            let policy = policy.replace("gpu_count = { any_of = [1] }", "gpu_count = { any_of = [8] }");
            let policy = policy.replace("mode = { any_of = [\"spt\"] }", "mode = { any_of = [\"ppcie\"] }");
            line(&policy, "vbios_floor", "{ waive = \"a switch has none in this test\" }")
        })
    }

    fn endorsed(&mut self, evidence: &GpuEvidence) {
        for (flag, name, files) in [
            ("--rim", "rim", &evidence.manifests),
            ("--ocsp", "ocsp", &evidence.answers),
            ("--crl", "crl", &evidence.lists),
        ] {
            for (at, bytes) in files.iter().enumerate() {
                self.add(flag, &format!("{name}{at}"), bytes);
            }
        }
    }

    /// The danger policy, which here needs manifests and revocation.
    fn dangerous(mut self, change: impl Fn(String) -> String) -> Self {
        let text = include_str!("../../../policies/danger-simulator.toml").to_owned();
        let text = line(&line(&text, "rim", "\"required\""), "revocation", "\"required\"");
        self.add("--danger-policy", "danger-gpu.toml", change(text).as_bytes());
        self.word("--at", AT);
        self
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn word(&mut self, flag: &str, word: &str) {
        self.flags.extend([flag.to_owned(), word.to_owned()]);
    }

    fn add(&mut self, flag: &str, name: &str, bytes: &[u8]) {
        std::fs::write(self.path(name), bytes).unwrap();
        self.word(flag, &self.path(name).display().to_string());
    }

    /// Takes a flag and the word behind it away, of which `is` names one.
    fn without(&mut self, is: impl Fn(&str, &str) -> bool) {
        let pairs: Vec<String> = std::mem::take(&mut self.flags);
        let kept = pairs.chunks(2).filter(|pair| !is(&pair[0], pair[1].rsplit('/').next().unwrap()));
        self.flags = kept.flatten().cloned().collect();
    }

    fn verify(&self, more: &[&str]) -> Output {
        run(&["verify", "gpu"], self.flags.clone(), more)
    }

    fn change(&self, name: &str, change: impl Fn(&mut Vec<u8>)) {
        let mut bytes = std::fs::read(self.path(name)).unwrap();
        change(&mut bytes);
        std::fs::write(self.path(name), bytes).unwrap();
    }
}

/// A policy with another value of a field of `[devices]`.
fn line(policy: &str, field: &str, value: &str) -> String {
    let (before, table) = policy.split_once("[devices]\n").unwrap();
    let (devices, after) = table.split_once("\n[").unwrap();
    let lines = devices.lines().map(|line| match line.split_once(" = ") {
        Some((name, _)) if name == field => format!("{field} = {value}\n"),
        _ => format!("{line}\n"),
    });
    let changed: String = lines.collect();
    assert_ne!(changed.trim_end(), devices.trim_end(), "{field}");
    format!("{before}[devices]\n{changed}\n[{after}")
}

fn recorded(what: &str) -> Option<PathBuf> {
    corpus::folder(&format!("verify gpu, {what},"))
}

fn words(folder: &Path, pairs: &[(&str, &str)]) -> Vec<String> {
    pairs
        .iter()
        .flat_map(|(flag, file)| [(*flag).to_owned(), folder.join(file).display().to_string()])
        .collect()
}

/// The flags of a recorded device with report and chain.
fn device(folder: &Path, report: &str) -> Vec<String> {
    let mut flags = words(folder, &[("--report", report), ("--chain", "chain.pem")]);
    let bytes = confide_evidence::nvidia::decoded(&std::fs::read(folder.join(report)).unwrap()).unwrap();
    // The nonce stands in the request, behind its header.
    flags.extend(["--nonce".to_owned(), hex::encode(&bytes[4..36])]);
    flags
}

/// The flags of the recorded Hopper with all that endorses it.
fn hopper(corpus: &Path) -> Vec<String> {
    let folder = corpus.join(HOPPER);
    let mut flags = device(&folder, "report.bin");
    flags.extend(words(
        &folder,
        &[
            ("--rim", "NV_GPU_DRIVER_GH100_550.90.07.xml"),
            ("--rim", "NV_GPU_VBIOS_1010_0200_882_96009F0001.xml"),
        ],
    ));
    let answers = std::fs::read_dir(folder.join("ocsp")).unwrap();
    let mut answers: Vec<_> = answers.map(|entry| entry.unwrap().path().display().to_string()).collect();
    answers.sort();
    assert_eq!(answers.len(), 7);
    flags.push("--ocsp".to_owned());
    flags.extend(answers);
    flags
}

fn check(verdict: &Value, code: &str) -> Value {
    let checks = verdict["checks"].as_array().unwrap();
    checks.iter().find(|check| check["code"] == code).unwrap_or_else(|| panic!("no check {code}")).clone()
}

fn keys(verdict: &Value) -> BTreeSet<&str> {
    verdict.as_object().unwrap().keys().map(String::as_str).collect()
}

/// The verdict, behind which an error stands.
fn first(output: &Output) -> Value {
    serde_json::from_str(&support::verdict(output)).unwrap()
}

#[test]
fn a_recorded_hopper_is_accepted_with_its_recorded_manifests_and_answers() {
    let Some(corpus) = recorded("a Hopper") else { return };
    let output = run(&["verify", "gpu", "--json"], hopper(&corpus), &HOPPER_AT);
    let verdict = json(&output);
    assert_eq!(status(&output), 0, "{}{}", stdout(&output), stderr(&output));
    assert_eq!((&verdict["outcome"], &verdict["code"]), (&json!("accepted"), &Value::Null));
    assert_eq!((&verdict["platform"], &verdict["simulated"]), (&Value::Null, &json!(false)));
    assert_eq!(verdict["policy"], "inspect");
    assert_eq!(verdict["time"], "2025-08-21T12:00:00Z");
    assert_eq!(verdict["rim_time"], "2025-10-24T12:00:00Z");
    for code in
        ["gpu_count", "device_cc_mode", "device_driver_floor", "device_vbios", "device_unknown_records"]
    {
        let found = check(&verdict, code);
        let waived = (&json!("waived"), &json!("waived: no reference values given"));
        assert_eq!((&found["status"], &found["expected"]), waived, "{code}");
    }
    assert_eq!(
        verdict["valid_until"], "2025-08-22T06:47:07Z",
        "until the first answer about the device ends"
    );
    let measured = check(&verdict, "device_measurements");
    assert_eq!(measured["actual"], "device 0: 32 measurements equal their golden values");
    assert_eq!(verdict["devices"][0]["driver"], "550.90.07");
    assert_eq!(verdict["devices"][0]["manifests"].as_array().unwrap().len(), 2);
    assert_eq!(stderr(&output), "", "a nonce was given");
    let tree = stdout(&run(&["verify", "gpu"], hopper(&corpus), &HOPPER_AT));
    assert!(tree.starts_with("ACCEPTED\n"), "{tree}");
    for part in [
        "├─ time of manifests: 2025-10-24T12:00:00Z\n",
        "├─ device: 0 nvidia-gpu GH100 550.90.07, mode spt, serial 53c22ba15e5d68088282da074ed9fb37aa585771\n",
        "├─ its manifests: 550.90.07, 96.00.9F.00.01\n",
        "no CPU evidence is part of this verdict",
    ] {
        assert!(tree.contains(part), "{part}{tree}");
    }
    let output = run(&["verify", "gpu", "--json"], hopper(&corpus), &HOPPER_AT[..2]);
    assert_eq!((status(&output), &json(&output)["code"]), (10, &json!("rim_revocation")));
    assert!(!keys(&json(&output)).contains("rim_time"));
}

#[test]
fn a_recorded_switch_is_authentic_and_needs_the_revocation_of_its_manifest() {
    let Some(corpus) = recorded("a switch") else { return };
    let folder = corpus.join(SDK).join("ls10-96.10.55.00.01");
    let mut flags = device(&folder, "report.hex");
    flags.extend(words(&folder, &[("--rim", "NV_SWITCH_BIOS_5612_0002_890_9610550001.xml")]));
    let output = run(&["verify", "gpu", "--json"], flags, &["--at", "2026-06-01T00:00:00Z"]);
    let verdict = json(&output);
    // No answer about its signers is recorded, so that it is no measure yet: no ordinary policy waives that.
    assert_eq!((status(&output), &verdict["code"]), (10, &json!("rim_revocation")), "{}", stdout(&output));
    for code in ["device_report_signature", "device_nonce", "rim_root_anchor", "rim_chain", "rim_signature"] {
        assert_eq!(check(&verdict, code)["status"], "pass", "{code}");
    }
    assert_eq!(check(&verdict, "rim_validity")["status"], "pass");
    assert_eq!(check(&verdict, "device_topology")["status"], "fail", "a switch alone is no machine");
    assert_eq!(verdict["devices"][0]["kind"], "nvidia-switch");
    assert_eq!(verdict["devices"][0]["vbios"], "96.10.55.00.01");
}

#[test]
fn a_policy_that_takes_switches_alone_lacks_nothing_but_what_is_not_recorded() {
    let Some(corpus) = recorded("a switch alone") else { return };
    let folder = corpus.join(SDK).join("ls10-96.10.55.00.01");
    let strict = include_str!("../../../policies/inspect.toml");
    let alone =
        strict.replace("\n[devices]\n", "\n[devices]\nswitches_with_gpus = { waive = \"a switch alone\" }\n");
    assert_ne!(alone, strict);
    let verdict = |policy: &str| {
        let written = Folder::new();
        std::fs::write(written.path("policy.toml"), policy).unwrap();
        let mut flags = device(&folder, "report.hex");
        flags.extend(words(&folder, &[("--rim", "NV_SWITCH_BIOS_5612_0002_890_9610550001.xml")]));
        flags.extend(words(written.folder.path(), &[("--policy", "policy.toml")]));
        json(&run(&["verify", "gpu", "--json"], flags, &["--at", "2026-06-01T00:00:00Z"]))
    };
    let failed = |verdict: &Value| -> Vec<String> {
        let checks = verdict["checks"].as_array().unwrap().iter();
        let failed = checks.filter(|check| check["status"] == "fail");
        failed.map(|check| check["code"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(failed(&verdict(strict)), ["rim_revocation", "device_revocation", "device_topology"]);
    let alone = verdict(&alone);
    assert_eq!(failed(&alone), ["rim_revocation", "device_revocation"]);
    let topology = check(&alone, "device_topology");
    assert_eq!(
        (&topology["status"], &topology["expected"]),
        (&json!("waived"), &json!("waived: a switch alone"))
    );
}

#[test]
fn the_recorded_lists_of_a_machine_are_one_machine_in_any_order() {
    let Some(corpus) = recorded("a machine") else { return };
    let (gpus, switches) = ("gpu_evidence.json", "switch_evidence.json");
    let verify = |files: &[&str], more: &[&str]| {
        let mut flags = vec!["--evidence".to_owned()];
        flags.extend(files.iter().map(|file| corpus.join(MACHINE).join(file).display().to_string()));
        flags.extend(["--at", "2026-06-01T00:00:00Z"].map(str::to_owned));
        run(&["verify", "gpu", "--json"], flags, more)
    };
    let ends = |verdict: &Value, code: &str| -> BTreeSet<String> {
        let checks = verdict["checks"].as_array().unwrap().iter();
        let of = checks.filter(|check| check["code"] == code);
        of.map(|check| check["status"].as_str().unwrap().to_owned()).collect()
    };
    let only = |status: &str| BTreeSet::from([status.to_owned()]);
    let output = verify(&[gpus, switches], &[]);
    let verdict = json(&output);
    // Of these devices no manifests are recorded.
    assert_eq!((status(&output), &verdict["code"]), (10, &json!("device_rim")), "{}", stdout(&output));
    for code in
        ["device_report_signature", "device_nonce", "device_fwid", "device_topology", "device_distinct"]
    {
        assert_eq!(ends(&verdict, code), only("pass"), "{code}");
    }
    let devices = verdict["devices"].as_array().unwrap();
    assert_eq!(devices.len(), 12);
    assert!(devices.iter().all(|device| device["code"] == "device_rim" && device["outcome"] == "rejected"));
    assert_eq!(verdict["platform_binding"], "topology");
    assert_eq!(verify(&[switches, gpus], &[]).stdout, output.stdout);
    assert!(stderr(&output).starts_with("note: without --nonce"), "{}", stderr(&output));
    let alone = json(&verify(&[gpus], &[]));
    assert_eq!(ends(&alone, "device_topology"), only("fail"));
    let nonce = "4760e30534a0621357d458b1a7936551b5dc4cd1e69718adf7ed9fb0252a537e";
    let asked = verify(&[gpus, switches], &["--nonce", nonce]);
    assert_eq!((asked.stdout.as_slice(), stderr(&asked)), (output.stdout.as_slice(), String::new()));
    let asked = json(&verify(&[gpus, switches], &["--nonce", &"00".repeat(32)]));
    assert_eq!((&asked["code"], ends(&asked, "device_nonce")), (&json!("device_nonce"), only("fail")));
    // The reports of the devices twice are not twice as many devices.
    assert_eq!(ends(&json(&verify(&[gpus, gpus], &[])), "device_distinct"), only("fail"));
    let many = verify(&[gpus, gpus, gpus, gpus, switches], &[]);
    assert_eq!((status(&many), &json(&many)["code"]), (30, &json!("gpu_evidence_file")));
    assert_eq!(check(&json(&many), "gpu_evidence_file")["actual"], "36 devices, at most 32 are accepted");
}

#[test]
fn recorded_evidence_that_must_be_refused_is_refused_for_its_own_reason() {
    let Some(corpus) = recorded("refused evidence") else { return };
    let sdk = corpus.join(SDK);
    let at = ["--at", "2026-06-01T00:00:00Z"];
    for (report, chain) in [
        (sdk.join("negative/report-bad-signature.hex"), sdk.join("hopper-535.86.09/chain.pem")),
        (sdk.join("negative/switch-report-bad-signature.hex"), sdk.join("ls10-96.10.55.00.01/chain.pem")),
        // Report and chain of two switches of one machine.
        (
            corpus.join("google-go-nvattest-tools/ls10-1234/report.bin"),
            corpus.join("google-go-nvattest-tools/ls10-1234/chain.pem"),
        ),
        // Of two GPUs.
        (sdk.join("hopper-spt-580.159.03/report.hex"), sdk.join("hopper-535.86.09/chain.pem")),
    ] {
        let bytes = confide_evidence::nvidia::decoded(&std::fs::read(&report).unwrap()).unwrap();
        let flags = ["--report", report.to_str().unwrap(), "--chain", chain.to_str().unwrap()];
        let flags = flags.map(str::to_owned).into_iter();
        let flags = flags.chain(["--nonce".to_owned(), hex::encode(&bytes[4..36])]).collect();
        let output = run(&["verify", "gpu", "--json"], flags, &at);
        let found = (status(&output), json(&output)["code"].clone());
        assert_eq!(found, (10, json!("device_report_signature")), "{}", report.display());
    }
    // Another nonce than the report's.
    let mut flags = hopper(&corpus);
    let place = flags.iter().position(|flag| flag == "--nonce").unwrap();
    flags[place + 1] = "00".repeat(32);
    let output = run(&["verify", "gpu", "--json"], flags, &HOPPER_AT);
    assert_eq!((status(&output), &json(&output)["code"]), (10, &json!("device_nonce")));
    // An older manifest of the right id, whose signers' revocation is not known: it is no measure.
    let mut flags = device(&sdk.join("hopper-spt-580.159.03"), "report.hex");
    flags.extend(words(&corpus, &[("--rim", "nvidia-nvtrust/rim/1010_0205_862_9600740020_PROD.swidtag")]));
    let output = run(&["verify", "gpu", "--json"], flags, &["--at", "2024-06-15T00:00:00Z"]);
    assert_eq!((status(&output), &json(&output)["code"]), (10, &json!("rim_revocation")));
    assert_eq!(check(&json(&output), "device_measurements")["status"], "not_run");
}

#[test]
fn a_stale_manifest_is_named_with_the_index_that_differs() {
    let folder = Folder::hopper();
    let gpu = SimulatedGpu::new(0).unwrap();
    let [_, vbios] = gpu.rims(TIME);
    let place = (0..2).map(|at| format!("rim{at}")).find(|name| {
        let text = std::fs::read_to_string(folder.path(name)).unwrap();
        text.contains(&format!("\"{}\"", vbios.tag_id))
    });
    let mut stale = vbios;
    let measurement = stale.measurement(9).unwrap();
    measurement.alternatives = vec![[0x99; 48]];
    std::fs::write(folder.path(&place.unwrap()), stale.encode().unwrap()).unwrap();
    let output = folder.verify(&["--json"]);
    assert_eq!((status(&output), &json(&output)["code"]), (10, &json!("device_measurements")));
    let measured = check(&json(&output), "device_measurements");
    let actual = measured["actual"].as_str().unwrap();
    assert!(actual.starts_with("device 0: 1 of ") && actual.contains(" differ: index 9 ("), "{actual}");
    let tree = stdout(&folder.verify(&[]));
    assert!(tree.starts_with("SIMULATED REJECTED (device_measurements)\n"), "{tree}");
    assert!(tree.contains("index 9 (") && tree.contains("newest issue"), "{tree}");
}

#[test]
fn a_recorded_hoppers_appraisal_is_replayed_byte_for_byte() {
    let Some(corpus) = recorded("a Hopper's record") else { return };
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("appraisals.confide");
    let more = [&HOPPER_AT[..], &["--json", "--out", out.to_str().unwrap()]].concat();
    let recorded = run(&["record", "gpu"], hopper(&corpus), &more);
    assert_eq!(status(&recorded), 0, "{}", stderr(&recorded));
    let replayed = confide(&["replay", "--json", out.to_str().unwrap()]);
    assert_eq!((status(&replayed), replayed.stdout), (0, recorded.stdout));
}

#[test]
fn simulated_devices_are_accepted_by_the_danger_policy_alone_and_called_simulated() {
    let mut folder = Folder::hopper();
    let output = folder.verify(&["--json"]);
    let verdict = json(&output);
    assert_eq!(status(&output), 0, "{}{}", stdout(&output), stderr(&output));
    assert_eq!(verdict["simulated"], true);
    for code in ["device_rim", "device_measurements", "device_revocation", "rim_revocation", "device_nonce"] {
        assert_eq!(check(&verdict, code)["status"], "pass", "{code}");
    }
    let tree = stdout(&folder.verify(&[]));
    assert!(tree.starts_with("SIMULATED ACCEPTED\n"), "{tree}");
    assert!(tree.contains("├─ device: 0 nvidia-gpu GH100 580.95.05, mode spt, serial "), "{tree}");
    assert!(!tree.contains("time of manifests"), "{tree}");
    folder.without(|flag, _| flag == "--danger-policy");
    let output = folder.verify(&["--json"]);
    let verdict = json(&output);
    assert_eq!((status(&output), &verdict["code"]), (10, &json!("device_root_anchor")));
    let refused =
        json!([{ "position": 0, "kind": "nvidia-gpu", "outcome": "rejected", "code": "device_root_anchor" }]);
    assert_eq!((&verdict["policy"], &verdict["devices"]), (&json!("inspect"), &refused));
    let tree = stdout(&folder.verify(&[]));
    assert!(tree.contains("├─ device: 0 nvidia-gpu: rejected (device_root_anchor)\n"), "{tree}");
    let count = check(&verdict, "gpu_count");
    assert_eq!(
        (&count["status"], &count["expected"]),
        (&json!("waived"), &json!("waived: no reference values given"))
    );
}

#[test]
fn a_verdict_has_the_keys_of_one_over_a_quote_and_of_two_clocks_one_more() {
    let quote = json(&Sample::version_4().verify(&["--json"]));
    let folder = Folder::hopper();
    let accepted = folder.verify(&["--json"]);
    let second_clock = folder.verify(&["--json", "--rim-at", "2026-10-01T01:00:00Z"]);
    assert_eq!(status(&second_clock), 0, "{}", stdout(&second_clock));
    let rejected = folder.verify(&["--json", "--rim-at", "2026-12-01T00:00:00Z"]);
    let malformed = {
        let folder = Folder::hopper();
        folder.change("report", Vec::clear);
        folder.verify(&["--json"])
    };
    let unsupported = {
        let folder = Folder::hopper();
        folder.change("report", |report| report[37] = 0x12);
        folder.verify(&["--json"])
    };
    for (output, expected) in [(&accepted, 0), (&malformed, 30), (&unsupported, 20)] {
        assert_eq!(status(output), expected, "{}", stdout(output));
        assert_eq!(keys(&json(output)), keys(&quote));
    }
    for (output, expected) in [(&second_clock, 0), (&rejected, 10)] {
        assert_eq!(status(output), expected, "{}", stdout(output));
        let mut with = keys(&quote);
        with.insert("rim_time");
        assert_eq!(keys(&json(output)), with);
    }
    assert_eq!(json(&second_clock)["rim_time"], "2026-10-01T01:00:00Z");
    assert_eq!(json(&rejected)["code"], "rim_revocation");
    let ear = json(&folder.verify(&["--format", "ear"]));
    assert!(ear["submods"].is_object(), "{ear}");
}

#[test]
fn a_simulated_machine_is_accepted_by_its_lists_and_not_by_half_of_it() {
    let mut folder = Folder::machine();
    let output = folder.verify(&["--json"]);
    let verdict = json(&output);
    assert_eq!(status(&output), 0, "{}{}", stdout(&output), stderr(&output));
    assert_eq!(verdict["platform_binding"], "topology");
    let devices = verdict["devices"].as_array().unwrap();
    assert_eq!(devices.len(), 12);
    assert!(devices.iter().all(|device| device["code"].is_null() && device["outcome"] == "accepted"));
    assert!(stderr(&output).starts_with("note: without --nonce"), "{}", stderr(&output));
    let asked = folder.verify(&["--nonce", &hex::encode(&NONCE)]);
    assert_eq!((status(&asked), stderr(&asked)), (0, String::new()));
    let other = folder.verify(&["--json", "--nonce", &"42".repeat(32)]);
    assert_eq!((status(&other), &json(&other)["code"]), (10, &json!("device_nonce")));
    folder.without(|_, file| file == "switches");
    let half = folder.verify(&["--json"]);
    assert_eq!((status(&half), &json(&half)["code"]), (10, &json!("device_topology")));
}

#[test]
fn files_may_be_binary_hexadecimal_base64_or_pem() {
    type Encode = fn(&[u8], &str) -> Vec<u8>;
    let encodings: [(&str, Encode); 3] = [
        ("hexadecimal", |bytes, _| format!("{}\n", hex::encode(bytes)).into_bytes()),
        ("base64", |bytes, _| format!("{}\n", pem::base64_text(bytes)).into_bytes()),
        ("PEM", |bytes, label| {
            let lines: String = pem::base64_text(bytes)
                .as_bytes()
                .chunks(64)
                .map(|line| format!("{}\n", std::str::from_utf8(line).unwrap()))
                .collect();
            format!("-----BEGIN {label}-----\n{lines}-----END {label}-----\n").into_bytes()
        }),
    ];
    let expected = Folder::hopper().verify(&["--json"]).stdout;
    for (what, encode) in encodings {
        for (prefix, label) in
            [("report", "SPDM REPORT"), ("rim", "RIM"), ("ocsp", "OCSP RESPONSE"), ("crl", "X509 CRL")]
        {
            let folder = Folder::hopper();
            for entry in std::fs::read_dir(folder.folder.path()).unwrap() {
                let name = entry.unwrap().file_name().into_string().unwrap();
                if name.starts_with(prefix) {
                    folder.change(&name, |bytes| *bytes = encode(bytes, label));
                }
            }
            let output = folder.verify(&["--json"]);
            assert_eq!(output.stdout, expected, "{prefix} as {what}: {}", stdout(&output));
        }
    }
    // A chain is PEM already: that, or the certificates' DER, may stand in either of the two others.
    for (what, encode) in
        [("binary", None), ("hexadecimal", Some(encodings[0].1)), ("base64", Some(encodings[1].1))]
    {
        for binary in [false, true] {
            let folder = Folder::hopper();
            folder.change("chain", |chain| {
                let content = if binary { pem::certificates(chain).unwrap().concat() } else { chain.clone() };
                *chain = encode.map_or(content.clone(), |encode| encode(&content, ""));
            });
            assert_eq!(folder.verify(&["--json"]).stdout, expected, "a chain as {what}, DER: {binary}");
        }
    }
    let folder = Folder::hopper();
    folder.change("rim0", |rim| *rim = hex::encode(rim).into_bytes());
    folder.change("rim0", |digits| digits.truncate(digits.len() - 1));
    let output = folder.verify(&["--json"]);
    assert_eq!((status(&output), &json(&output)["code"]), (30, &json!("rim_format")), "half a byte");
}

#[test]
fn answers_or_lists_will_do_and_neither_will_not() {
    for kept in ["--ocsp", "--crl"] {
        let mut folder = Folder::hopper();
        folder.without(|flag, _| ["--ocsp", "--crl"].contains(&flag) && flag != kept);
        assert_eq!(status(&folder.verify(&[])), 0, "{kept}");
    }
    let mut folder = Folder::hopper();
    folder.without(|flag, _| ["--ocsp", "--crl"].contains(&flag));
    let output = folder.verify(&["--json"]);
    assert_eq!((status(&output), &json(&output)["code"]), (10, &json!("rim_revocation")));
    assert_eq!(check(&json(&output), "device_revocation")["status"], "fail");
    let mut folder = Folder::hopper();
    folder.without(|flag, _| flag == "--rim");
    let output = folder.verify(&["--json"]);
    assert_eq!((status(&output), &json(&output)["code"]), (10, &json!("device_rim")));
    // What is revoked by one is revoked, whatever the others say.
    let folder = Folder::hopper();
    let evidence = GpuEvidence::hopper(NONCE, TIME).unwrap();
    let certificates = &evidence.devices[0].certificates;
    for (flag, bytes, code) in [
        (
            "--ocsp",
            OcspOptions::revoked(TIME, Some(1)).answer(&certificates[1]).unwrap(),
            "device_revocation",
        ),
        ("--ocsp", OcspOptions::revoked(TIME, Some(6)).answer(&certificates[1]).unwrap(), "device_hold"),
        (
            "--crl",
            GpuRevocationList::of(&certificates[2], Some(1), TIME).sign(&certificates[3]).unwrap(),
            "device_revocation",
        ),
    ] {
        std::fs::write(folder.path("more"), bytes).unwrap();
        let output = folder.verify(&["--json", flag, folder.path("more").to_str().unwrap()]);
        // Manifests have a check of this code, too.
        let verdict = json(&output);
        let failed = |check: &Value| check["code"] == code && check["status"] == "fail";
        assert!(verdict["checks"].as_array().unwrap().iter().any(failed), "{code}: {}", stdout(&output));
        assert_eq!(status(&output), 10, "{code}");
    }
}

#[test]
fn bad_input_has_its_exit_status() {
    type Change = fn(&mut Vec<u8>);
    let file = "gpu_evidence_file";
    let cases: [(&str, &str, Change, i32, &str); 29] = [
        ("a flipped measurement", "report", |bytes| bytes[60] ^= 1, 10, "device_report_signature"),
        (
            "a flipped signature",
            "report",
            |bytes| *bytes.last_mut().unwrap() ^= 1,
            10,
            "device_report_signature",
        ),
        ("another nonce", "report", |bytes| bytes[4] ^= 1, 10, "device_report_signature"),
        ("a response of SPDM 1.2", "report", |bytes| bytes[37] = 0x12, 20, file),
        ("a request of SPDM 1.2", "report", |bytes| bytes[0] = 0x12, 20, file),
        ("a certificate for a report", "report", |bytes| *bytes = vec![0x30, 3, 2, 1, 0], 30, file),
        ("an empty report", "report", Vec::clear, 30, file),
        ("a truncated report", "report", |bytes| bytes.truncate(1000), 30, file),
        ("a trailing byte", "report", |bytes| bytes.push(0), 30, file),
        ("an oversized report", "report", |bytes| bytes.resize(1 << 20, 0), 30, file),
        ("text for a report", "report", |bytes| *bytes = b"no report at all".to_vec(), 30, file),
        ("0xff for a report", "report", |bytes| bytes.fill(0xff), 30, file),
        ("half a byte of a report", "report", |bytes| *bytes = b"11e".to_vec(), 30, file),
        ("an empty chain", "chain", Vec::clear, 30, file),
        ("text for a chain", "chain", |bytes| *bytes = b"no chain at all".to_vec(), 30, file),
        ("an oversized chain", "chain", |bytes| bytes.resize(1 << 20, b'\n'), 30, file),
        ("a truncated chain", "chain", |bytes| bytes.truncate(3000), 30, "device_chain_format"),
        (
            "a flipped chain",
            "chain",
            |bytes| {
                let mut ders = pem::certificates(bytes).unwrap();
                *ders[0].last_mut().unwrap() ^= 1;
                *bytes = pem::encode(&ders).into_bytes();
            },
            10,
            "device_chain_signatures",
        ),
        (
            "a changed manifest",
            "rim0",
            |bytes| {
                *bytes = String::from_utf8(bytes.clone()).unwrap().replacen("r1", "r2", 1).into_bytes();
            },
            10,
            "rim_signature",
        ),
        (
            "a manifest with another signature method",
            "rim0",
            |bytes| {
                *bytes = String::from_utf8(bytes.clone())
                    .unwrap()
                    .replace("ecdsa-sha384", "ecdsa-sha256")
                    .into_bytes();
            },
            20,
            "rim_format",
        ),
        ("an empty manifest", "rim0", Vec::clear, 30, "rim_format"),
        ("a truncated manifest", "rim1", |bytes| bytes.truncate(5000), 30, "rim_format"),
        ("an oversized manifest", "rim1", |bytes| bytes.resize(1 << 20, b' '), 30, "rim_format"),
        ("a flipped answer", "ocsp0", |bytes| *bytes.last_mut().unwrap() ^= 1, 0, ""),
        ("text for an answer", "ocsp1", |bytes| *bytes = b"text".to_vec(), 30, "ocsp_format"),
        ("an oversized answer", "ocsp2", |bytes| bytes.resize(1 << 20, b' '), 30, "ocsp_format"),
        ("a trailing byte behind an answer", "ocsp2", |bytes| bytes.push(1), 30, "ocsp_format"),
        ("an empty list", "crl0", Vec::clear, 30, "device_crl_format"),
        ("an oversized list", "crl0", |bytes| bytes.resize(4 << 20, b' '), 30, "device_crl_format"),
    ];
    for (what, file, change, expected, code) in cases {
        let folder = Folder::hopper();
        folder.change(file, change);
        let output = folder.verify(&["--json"]);
        let verdict = json(&output);
        let found = (status(&output), verdict["code"].as_str().unwrap_or_default());
        assert_eq!(found, (expected, code), "{what}: {}", stderr(&output));
    }
}

#[test]
fn bad_lists_have_their_exit_status() {
    type Change = fn(&mut Value);
    let cases: [(&str, Change, i32, &str); 11] = [
        ("nothing is changed", |_| (), 0, ""),
        ("no device", |list| *list = json!([]), 30, "gpu_evidence_file"),
        ("no list", |list| *list = json!({}), 30, "gpu_evidence_file"),
        ("an unknown field", |list| list[0]["more"] = json!(1), 30, "gpu_evidence_file"),
        ("another version", |list| list[0]["version"] = json!("2.0"), 20, "gpu_evidence_file"),
        ("an unknown architecture", |list| list[0]["arch"] = json!("RUBIN"), 20, "gpu_evidence_file"),
        ("a short nonce", |list| list[0]["nonce"] = json!("41"), 30, "gpu_evidence_file"),
        ("another nonce", |list| list[0]["nonce"] = json!("42".repeat(32)), 10, "device_nonce"),
        ("a report that is no base64", |list| list[0]["evidence"] = json!("*"), 30, "gpu_evidence_file"),
        ("no report", |list| list[0]["evidence"] = json!(""), 30, "device_report_format"),
        ("a GPU called a switch", |list| list[0]["arch"] = json!("LS10"), 10, "gpu_count"),
    ];
    for (what, change, expected, code) in cases {
        let folder = Folder::listed();
        folder.change("gpus", |bytes| {
            let mut list = serde_json::from_slice(bytes).unwrap();
            change(&mut list);
            *bytes = list.to_string().into_bytes();
        });
        let output = folder.verify(&["--json"]);
        let verdict = json(&output);
        let found = (status(&output), verdict["code"].as_str().unwrap_or_default());
        assert_eq!(found, (expected, code), "{what}: {}{}", stdout(&output), stderr(&output));
    }
}

#[test]
fn unreadable_files_are_internal_errors_and_wrong_flags_are_usage() {
    for file in ["report", "chain", "rim0", "ocsp0", "crl0"] {
        let folder = Folder::hopper();
        std::fs::remove_file(folder.path(file)).unwrap();
        let output = folder.verify(&["--json"]);
        assert_eq!(status(&output), 1, "{file}");
        assert!(stderr(&output).contains("[file_unreadable]"), "{}", stderr(&output));
    }
    let folder = Folder::hopper();
    let report = folder.path("report").display().to_string();
    let nonce = hex::encode(&NONCE);
    for words in [
        &[][..],
        &["--rim", &report],
        &["--report", &report, "--nonce", &nonce],
        &["--report", &report, "--chain", &report],
        &["--chain", &report, "--nonce", &nonce],
        &["--evidence", &report, "--report", &report, "--chain", &report, "--nonce", &nonce],
        &["--evidence", &report, "--chain", &report],
        &["--evidence", &report, "--nonce", "41"],
        &["--evidence", &report, "--rim-at", "noon"],
    ] {
        let words = [&["verify", "gpu", "--at", AT], words].concat();
        assert_eq!(status(&confide(&words)), 2, "{words:?}");
    }
    for (flag, limit) in [("--rim", 32), ("--ocsp", 128), ("--crl", 32)] {
        let many: Vec<&str> = std::iter::once(flag).chain(vec![report.as_str(); limit + 1]).collect();
        let output = folder.verify(&many);
        assert_eq!(status(&output), 2, "{flag}");
        assert!(stderr(&output).contains("[too_many_files]"), "{}", stderr(&output));
    }
}

#[test]
fn a_recorded_appraisal_is_replayed_byte_for_byte() {
    for folder in [Folder::hopper(), Folder::machine()] {
        let out = folder.path("appraisals.confide");
        let record = |more: &[&str]| {
            let more = [&["--json", "--out", out.to_str().unwrap()], more].concat();
            run(&["record", "gpu"], folder.flags.clone(), &more)
        };
        let recorded = record(&[]);
        assert_eq!(status(&recorded), 0, "{}", stderr(&recorded));
        assert_eq!(recorded.stdout, folder.verify(&["--json"]).stdout);
        // A refused appraisal with a second clock is recorded, too.
        let clock = ["--rim-at", "2026-12-01T00:00:00Z"];
        assert_eq!(status(&record(&clock)), 10);
        let replayed = confide(&["replay", "--json", out.to_str().unwrap()]);
        assert_eq!(status(&replayed), 10, "that of the last verdict: {}", stderr(&replayed));
        let verdicts: Vec<&[u8]> = replayed.stdout.split_inclusive(|byte| *byte == b'\n').collect();
        let again = folder.verify(&[&["--json"], &clock[..]].concat());
        assert_eq!(verdicts, [&recorded.stdout[..], &again.stdout]);
        let shown = confide(&["inspect", "--json", out.to_str().unwrap()]);
        assert!(stdout(&shown).contains("\"rim_time\""), "{}", stdout(&shown));
        // The inputs decide, not what is stored.
        let bytes = std::fs::read(&out).unwrap();
        let mut records: Vec<_> = read_all(&bytes).collect::<Result<_, _>>().unwrap();
        records.truncate(1);
        match &mut records[0].subject {
            Subject::Devices { nonces, devices, rim_time, .. } => {
                assert_eq!((nonces.len(), *rim_time), (devices.len(), None));
                nonces[0] = [0x42; 32];
            }
            other => panic!("{other:?}"),
        }
        std::fs::write(&out, records[0].encode()).unwrap();
        let replayed = confide(&["replay", "--json", out.to_str().unwrap()]);
        assert_eq!(status(&replayed), 10);
        assert!(stderr(&replayed).contains("[replay_mismatch]"), "{}", stderr(&replayed));
        assert_eq!(first(&replayed)["code"], "device_nonce");
    }
}

/// What the attestation service says of the simulated Hopper, as `nras` and `jwks`.
fn with_opinion(mut folder: Folder, change: impl Fn(&mut NrasOptions)) -> Folder {
    let device = NrasDevice::gpu(&SimulatedGpu::new(0).unwrap());
    let mut options = NrasOptions::new(NONCE, TIME, vec![device]);
    change(&mut options);
    folder.add("--nras", "nras", options.answer().unwrap().as_bytes());
    folder.add("--jwks", "jwks", options.jwks().unwrap().as_bytes());
    folder
}

#[test]
fn what_nvidias_service_says_is_appraised_recorded_and_replayed() {
    let agreeing = with_opinion(Folder::hopper(), |_| {});
    let refusing = with_opinion(Folder::hopper(), |options| {
        options.overall.push(("x-nvidia-overall-att-result".to_owned(), Some(json!(false))));
    });
    for (folder, expected, code) in [(agreeing, 0, "nras"), (refusing, 10, "nras_disagrees")] {
        let output = folder.verify(&["--json"]);
        assert_eq!(status(&output), expected, "{}", stderr(&output));
        let ended = if expected == 0 { "pass" } else { "fail" };
        assert_eq!(check(&json(&output), code)["status"], ended);
        let out = folder.path("appraisals.confide");
        let more = ["--json", "--out", out.to_str().unwrap()];
        let recorded = run(&["record", "gpu"], folder.flags.clone(), &more);
        assert_eq!(recorded.stdout, output.stdout, "{}", stderr(&recorded));
        let replayed = confide(&["replay", "--json", out.to_str().unwrap()]);
        assert_eq!((status(&replayed), &replayed.stdout), (expected, &output.stdout));
        // The inputs decide: without the opinion the verdict is another.
        let bytes = std::fs::read(&out).unwrap();
        let mut records: Vec<_> = read_all(&bytes).collect::<Result<_, _>>().unwrap();
        match &mut records[0].subject {
            Subject::Devices { nras, .. } => assert!(nras.take().is_some_and(|nras| nras.answers.len() == 1)),
            other => panic!("{other:?}"),
        }
        std::fs::write(&out, records[0].encode()).unwrap();
        let replayed = confide(&["replay", "--json", out.to_str().unwrap()]);
        assert!(stderr(&replayed).contains("[replay_mismatch]"), "{}", stderr(&replayed));
        assert_eq!(check(&first(&replayed), "nras")["status"], "waived");
    }
}

#[test]
fn answers_and_key_set_of_nvidias_service_are_given_together() {
    for missing in ["--nras", "--jwks"] {
        let mut folder = with_opinion(Folder::hopper(), |_| {});
        folder.without(|flag, _| flag == missing);
        assert_eq!(status(&folder.verify(&[])), 2, "{missing}");
    }
    let folder = with_opinion(Folder::hopper(), |_| {});
    let nras = folder.path("nras").display().to_string();
    let many: Vec<&str> = std::iter::once("--nras").chain(vec![nras.as_str(); 32]).collect();
    let output = folder.verify(&many);
    assert!(status(&output) == 2 && stderr(&output).contains("[too_many_files]"), "{}", stderr(&output));
    folder.change("nras", |bytes| bytes.truncate(100));
    let output = folder.verify(&["--json"]);
    assert_eq!((status(&output), &json(&output)["code"]), (30, &json!("nras_format")));
}

#[test]
fn changed_inputs_give_what_verify_gives_for_them() {
    type Change = Box<dyn Fn(&mut Record)>;
    let mut folder = Folder::hopper();
    let out = folder.path("appraisals.confide");
    let recorded = run(&["record", "gpu"], folder.flags.clone(), &["--json", "--out", out.to_str().unwrap()]);
    assert_eq!(status(&recorded), 0, "{}", stderr(&recorded));
    let bytes = std::fs::read(&out).unwrap();
    let original: Vec<Record> = read_all(&bytes).collect::<Result<_, _>>().unwrap();
    folder.without(|flag, _| ["--danger-policy", "--at"].contains(&flag));
    let text = std::fs::read_to_string(folder.path("danger-gpu.toml")).unwrap();
    let policy = |name: &str, field: &str, value: &str| {
        let (text, path) = (line(&text, field, value), folder.path(name));
        std::fs::write(&path, &text).unwrap();
        (text, path.display().to_string())
    };
    let (stricter, strict_path) = policy("danger-strict.toml", "gpu_count", "{ any_of = [8] }");
    let (looser, loose_path) = policy("danger-loose.toml", "mode", "{ any_of = [\"spt\", \"ppcie\"] }");
    let same = folder.path("danger-gpu.toml").display().to_string();
    let verify = |policy: &str, at: &str| {
        run(&["verify", "gpu", "--json", "--danger-policy", policy, "--at", at], folder.flags.clone(), &[])
    };
    let cases: [(&str, Change, Output, Option<&str>); 4] = [
        (
            "a stricter policy",
            Box::new(move |record| record.policy.clone_from(&stricter)),
            verify(&strict_path, AT),
            Some("gpu_count"),
        ),
        (
            "a looser policy",
            Box::new(move |record| record.policy.clone_from(&looser)),
            verify(&loose_path, AT),
            None,
        ),
        (
            "a later time",
            Box::new(|record| record.time += 365 * 86_400),
            verify(&same, "2027-10-01T00:00:00Z"),
            Some("rim_revocation"),
        ),
        (
            "an earlier time",
            Box::new(|record| record.time -= 365 * 86_400),
            verify(&same, "2025-10-01T00:00:00Z"),
            Some("rim_revocation"),
        ),
    ];
    for (what, change, verified, code) in cases {
        assert_eq!(json(&verified)["code"].as_str(), code, "{what}: {}", stderr(&verified));
        let expected = status(&verified);
        assert_ne!(stdout(&verified), stdout(&recorded), "{what}");
        let mut records = original.clone();
        change(&mut records[0]);
        let replay = |record: &Record| {
            std::fs::write(&out, record.encode()).unwrap();
            confide(&["replay", "--json", out.to_str().unwrap()])
        };
        let replayed = replay(&records[0]);
        assert_eq!((status(&replayed), support::verdict(&replayed)), (10, stdout(&verified)), "{what}");
        assert!(stderr(&replayed).contains("[replay_mismatch]"), "{what}: {}", stderr(&replayed));
        records[0].outcome = None;
        let replayed = replay(&records[0]);
        assert_eq!((status(&replayed), stdout(&replayed)), (expected, stdout(&verified)), "{what}");
        assert!(!stderr(&replayed).contains("replay_mismatch"), "{what}");
    }
}

#[test]
fn what_cannot_be_read_is_not_recorded() {
    let folder = Folder::hopper();
    folder.change("report", |bytes| *bytes = b"text".to_vec());
    let out = folder.path("appraisals.confide");
    let output = run(&["record", "gpu"], folder.flags.clone(), &["--out", out.to_str().unwrap()]);
    assert_eq!(status(&output), 30);
    assert!(stderr(&output).contains("[gpu_evidence_file]") && !out.exists(), "{}", stderr(&output));
}
