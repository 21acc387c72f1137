//! `confide rim` as a user meets it: from NVIDIA's services, played by a local one, through a store that is carried on to a
//! verdict.
#![allow(clippy::unwrap_used, clippy::panic, dead_code, missing_docs, reason = "tests")]

mod support;

use confide_evidence::time::format_seconds;
use confide_simulator::{SimulatedGpu, SimulatedNode};
use confide_testkit::gpu::GpuEvidence;
use confide_testkit::vendor::{Endpoint, ListeningVendor, Manner, Misdeed, Vendor};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{SystemTime, UNIX_EPOCH};
use support::{json, status, stderr, stdout};
use tempfile::TempDir;

/// NVIDIA's services, and the evidence of a simulated Hopper as `evidence.json`.
struct Rig {
    service: ListeningVendor,
    evidence: GpuEvidence,
    folder: TempDir,
    time: u64,
}

impl Rig {
    async fn new() -> Self {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let node = SimulatedNode { gpus: vec![SimulatedGpu::new(0).unwrap()], switches: Vec::new() };
        let evidence = GpuEvidence::of(&node, [0x41; 32], time).unwrap();
        let vendor = Vendor::new(Manner::Pcs).unwrap().endorsing_node(&node, time).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let rig = Self { service: vendor.listen().await.unwrap(), evidence, folder, time };
        std::fs::write(rig.path("evidence.json"), rig.evidence.list()).unwrap();
        std::fs::write(rig.path("nvidia.pem"), rig.service.vendor.certificate()).unwrap();
        rig
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn vendor(&self) -> &Vendor {
        &self.service.vendor
    }

    /// A command about the store of this name.
    fn rim(&self, words: &[&str], store: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_confide"));
        for name in ["HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR"] {
            command.env_remove(name);
        }
        command.env("NO_COLOR", "1").arg("rim").args(words).arg("--store").arg(self.path(store));
        command
    }

    fn fetch(&self, words: &[&str]) -> Command {
        let mut command = self.rim(&["fetch"], "store");
        let url = self.service.url();
        command
            .args(words)
            .args(["--rim-service", &url, "--service-certificate"])
            .arg(self.path("nvidia.pem"));
        for (flag, service) in [("--ocsp", "--ocsp-service"), ("--crl", "--crl-service")] {
            if words.contains(&flag) {
                command.args([service, &url]);
            }
        }
        command
    }

    /// As above, for the evidence, with all that there is.
    fn fetch_all(&self) -> Command {
        let mut command = self.fetch(&["--ocsp", "--crl", "--json"]);
        command.arg("--evidence").arg(self.path("evidence.json"));
        command
    }
}

fn run(command: &mut Command, expected: i32) -> Output {
    let output = command.output().unwrap();
    assert_eq!(status(&output), expected, "{command:?}\n{}\n{}", stdout(&output), stderr(&output));
    output
}

/// The objects that a command tells of, of one kind.
fn of_kind<'a>(told: &'a Value, kind: &str) -> Vec<&'a Value> {
    told["objects"].as_array().unwrap().iter().filter(|object| object["kind"] == kind).collect()
}

/// The danger policy, which here needs manifests and revocation.
fn policy() -> String {
    let text = include_str!("../../../policies/danger-simulator.toml");
    let (before, table) = text.split_once("[devices]\n").unwrap();
    let needed = |line: &str| match line.split_once(" = ") {
        Some((field @ ("rim" | "revocation"), _)) => format!("{field} = \"required\"\n"),
        _ => format!("{line}\n"),
    };
    format!("{before}[devices]\n{}", table.lines().map(needed).collect::<String>())
}

fn files(told: &Value, kind: &str) -> Vec<String> {
    of_kind(told, kind).iter().map(|object| object["file"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_fetched_and_carried_on_verifies_the_devices() {
    let rig = Rig::new().await;
    let told = json(&run(&mut rig.fetch_all(), 0));
    let (rims, answers, lists) = (of_kind(&told, "rim"), of_kind(&told, "ocsp"), of_kind(&told, "crl"));
    assert_eq!((rims.len(), answers.len(), lists.len()), (2, rig.evidence.answers.len(), 3), "{told}");
    assert!(told["objects"].as_array().unwrap().iter().all(|object| object["state"] == "added"), "{told}");
    run(&mut rig.rim(&["import", rig.path("store").to_str().unwrap()], "carried"), 0);
    let listed = json(&run(&mut rig.rim(&["list", "--json"], "carried"), 0));
    assert_eq!(listed["objects"].as_array().unwrap().len(), 5 + rig.evidence.answers.len());
    std::fs::write(rig.path("danger-gpu.toml"), policy()).unwrap();
    let verify = |kinds: &[(&str, &str)]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_confide"));
        command.args(["verify", "gpu", "--json", "--at", &format_seconds(rig.time.try_into().unwrap())]);
        command.arg("--evidence").arg(rig.path("evidence.json"));
        command.arg("--danger-policy").arg(rig.path("danger-gpu.toml"));
        for (flag, kind) in kinds {
            command.arg(flag).args(files(&listed, kind));
        }
        command.output().unwrap()
    };
    let accepted = verify(&[("--rim", "rim"), ("--ocsp", "ocsp")]);
    assert_eq!(status(&accepted), 0, "{}{}", stdout(&accepted), stderr(&accepted));
    assert_eq!(json(&accepted)["outcome"], "accepted");
    assert_eq!(status(&verify(&[("--rim", "rim")])), 10, "without answers or lists");
    assert_eq!(status(&verify(&[("--ocsp", "ocsp")])), 10, "without manifests");
    // NVIDIA's lists do not do alone, and are read beside the answers.
    let lists_alone = verify(&[("--rim", "rim"), ("--crl", "crl")]);
    assert_eq!((status(&lists_alone), &json(&lists_alone)["code"]), (10, &json!("rim_revocation")));
    let beside = json(&verify(&[("--rim", "rim"), ("--ocsp", "ocsp"), ("--crl", "crl")]));
    let read = |check: &&Value| check["code"] == "device_crl_format";
    let read = beside["checks"].as_array().unwrap().iter().find(read).unwrap();
    assert_eq!((&beside["outcome"], &read["actual"]), (&json!("accepted"), &json!("3 lists")));
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_from_a_store_verify_devices_without_any_answer() {
    let rig = Rig::new().await;
    run(&mut rig.fetch(&["--evidence", rig.path("evidence.json").to_str().unwrap()]), 0);
    for (number, list) in rig.evidence.lists.iter().enumerate() {
        std::fs::write(rig.path(&format!("{number}.crl")), list).unwrap();
        let path = rig.path(&format!("{number}.crl"));
        run(&mut rig.rim(&["import", path.to_str().unwrap()], "store"), 0);
    }
    let listed = json(&run(&mut rig.rim(&["list", "--json"], "store"), 0));
    std::fs::write(rig.path("danger-gpu.toml"), policy()).unwrap();
    let verify = |lists: &[String]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_confide"));
        command.args(["verify", "gpu", "--json", "--at", &format_seconds(rig.time.try_into().unwrap())]);
        command.arg("--evidence").arg(rig.path("evidence.json"));
        command.arg("--danger-policy").arg(rig.path("danger-gpu.toml"));
        command.arg("--rim").args(files(&listed, "rim")).arg("--crl").args(lists);
        command.output().unwrap()
    };
    let lists = files(&listed, "crl");
    assert_eq!(lists.len(), rig.evidence.lists.len());
    let accepted = verify(&lists);
    assert_eq!(status(&accepted), 0, "{}{}", stdout(&accepted), stderr(&accepted));
    for left_out in 0..lists.len() {
        let mut fewer = lists.clone();
        let name = fewer.remove(left_out);
        assert_eq!(status(&verify(&fewer)), 10, "without {name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_exported_is_taken_in_elsewhere_with_its_dates() {
    let rig = Rig::new().await;
    run(&mut rig.fetch_all(), 0);
    let list = |store: &str| {
        let mut listed =
            json(&run(&mut rig.rim(&["list", "--json", "--at", "2030-01-01T00:00:00Z"], store), 0));
        let objects = listed["objects"].as_array_mut().unwrap();
        // Where the files lie is all that differs.
        objects.iter_mut().for_each(|object| drop(object.as_object_mut().unwrap().remove("file")));
        objects.clone()
    };
    let (export, evidence) = (rig.path("usb"), rig.path("evidence.json"));
    let told = json(&run(&mut rig.rim(&["export", "--json", "--to", export.to_str().unwrap()], "store"), 0));
    assert!(told["objects"].as_array().unwrap().iter().all(|object| object["state"] == "added"), "{told}");
    run(&mut rig.rim(&["import", export.to_str().unwrap()], "elsewhere"), 0);
    let all = list("store");
    assert!(all.len() > 3 && all.iter().all(|object| !object["fetched"].is_null()), "{all:?}");
    assert_eq!((list("usb"), list("elsewhere")), (all.clone(), all.clone()));
    let again = json(&run(&mut rig.rim(&["export", "--json", "--to", export.to_str().unwrap()], "store"), 0));
    assert!(again["objects"].as_array().unwrap().iter().all(|object| object["state"] == "known"), "{again}");

    // Of the manifests one alone, and what the devices need.
    let id = "NV_GPU_DRIVER_GH100_580.95.05";
    let one = rig.path("one");
    run(&mut rig.rim(&["export", "--id", id, "--to", one.to_str().unwrap()], "store"), 0);
    let rims: Vec<Value> = list("one").into_iter().filter(|object| object["kind"] == "rim").collect();
    assert_eq!((rims.len(), &rims[0]["id"]), (1, &json!(id)));
    assert_eq!(list("one").len(), all.len() - 1, "every answer and list");
    let words =
        ["export", "--evidence", evidence.to_str().unwrap(), "--to", rig.path("two").to_str().unwrap()]
            .map(str::to_owned);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    run(&mut rig.rim(&words, "store"), 0);
    assert_eq!(list("two"), all);
    let refused = run(&mut rig.rim(&words, "one"), 1);
    let message = stderr(&refused);
    assert!(message.contains("[store_rim_missing]") && message.contains("NV_GPU_VBIOS_"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_not_there_is_no_empty_one() {
    let rig = Rig::new().await;
    let to = rig.path("to");
    let export = ["export", "--to", to.to_str().unwrap()];
    for words in [&["list"][..], &["prune"], &["prune", "--all"], &export] {
        let refused = stderr(&run(&mut rig.rim(words, "mistyped"), 1));
        assert!(refused.contains("[store_missing]") && refused.contains("no such folder"), "{refused}");
    }
    assert!(!to.exists() && !rig.path("mistyped").exists());
    std::fs::create_dir(rig.path("empty")).unwrap();
    for words in [&["list"][..], &["prune"], &export] {
        let told = stdout(&run(&mut rig.rim(words, "empty"), 0));
        assert!(told.contains(": 0 objects"), "{words:?}: {told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_says_what_it_did() {
    let rig = Rig::new().await;
    run(&mut rig.fetch(&["--evidence", rig.path("evidence.json").to_str().unwrap()]), 0);
    let usb = rig.path("usb");
    for (added, word) in [(2, "added"), (0, "known")] {
        let told = stdout(&run(&mut rig.rim(&["export", "--to", usb.to_str().unwrap()], "store"), 0));
        let (first, rest) = told.split_once('\n').unwrap();
        assert_eq!(first, format!("{}: 2 objects, {added} of them added", usb.display()));
        assert_eq!(rest.matches(&format!("{word}: rim ")).count(), 2, "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_is_not_asked_for_again_and_listed() {
    let rig = Rig::new().await;
    let id = "NV_GPU_DRIVER_GH100_580.95.05";
    let told = stdout(&run(&mut rig.fetch(&["--id", id]), 0));
    assert!(told.starts_with(&format!("added: rim {id}: GH100 580.95.05, signer ")), "{told}");
    let told = stdout(&run(&mut rig.fetch(&["--id", id]), 0));
    assert!(told.starts_with(&format!("fresh: rim {id}: ")), "{told}");
    assert_eq!(rig.vendor().requests(), [format!("/v1/rim/{id}")]);
    let listed = stdout(&run(&mut rig.rim(&["list"], "store"), 0));
    let lines: Vec<&str> = listed.lines().collect();
    assert_eq!(lines.len(), 2, "{listed}");
    assert!(lines[0].ends_with(": 1 objects"), "{listed}");
    assert!(lines[1].contains(": valid, from ") && lines[1].contains(", 0 days ago, SHA-256 "), "{listed}");
    let later = json(&run(&mut rig.rim(&["list", "--json", "--at", "2099-01-01T00:00:00Z"], "store"), 0));
    let one = &later["objects"][0];
    assert_eq!((&one["validity"], &one["id"], &one["kind"]), (&json!("over"), &json!(id), &json!("rim")));
    for field in ["product", "version", "signer", "from", "until", "sha256", "fetched", "age", "file"] {
        assert!(!one[field].is_null(), "{field}: {one}");
    }
    assert!(Path::new(one["file"].as_str().unwrap()).is_file());
    let removed = stdout(&run(&mut rig.rim(&["prune"], "store"), 0));
    assert!(removed.contains(": 0 objects of 0 bytes removed"), "{removed}");
    let removed = json(&run(&mut rig.rim(&["prune", "--json"], "store"), 0));
    assert_eq!(removed["removed"], json!({ "objects": 0, "bytes": 0 }));
    let removed = stdout(&run(&mut rig.rim(&["prune", "--all"], "store"), 0));
    assert!(removed.contains(": 1 object of "), "{removed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_object_that_is_not_to_be_had_keeps_none_of_the_others_away() {
    let rig = Rig::new().await;
    let missing = "NV_GPU_DRIVER_GH100_550.90.07";
    let mut fetch = rig.fetch_all();
    let output = run(fetch.args(["--id", missing]), 1);
    let told = json(&output);
    assert_eq!(of_kind(&told, "rim").len(), 2, "{told}");
    assert_eq!(told["failures"].as_array().unwrap().len(), 1, "{told}");
    let message = stderr(&output);
    assert!(message.contains(missing) && message.contains("[endorsement_not_found]"), "{message}");
    rig.vendor().always(Endpoint::Rim, Misdeed::MediaType("text/html"));
    std::fs::remove_dir_all(rig.path("store")).unwrap();
    let refused = run(&mut rig.fetch_all(), 1);
    assert!(stderr(&refused).contains("[endorsement_malformed]"), "{}", stderr(&refused));
    assert!(of_kind(&json(&refused), "rim").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_has_its_status_and_code() {
    let rig = Rig::new().await;
    std::fs::write(rig.path("broken.json"), "[{}]").unwrap();
    let mut fetch = rig.fetch(&["--evidence", rig.path("broken.json").to_str().unwrap()]);
    assert!(stderr(&run(&mut fetch, 30)).contains("[gpu_evidence_file]"));
    for words in [&["--id", "../x"][..], &[], &["--ocsp"]] {
        run(&mut rig.fetch(words), 2);
    }
    let mut without = Command::new(env!("CARGO_BIN_EXE_confide"));
    run(without.args(["rim", "list"]), 2);
    std::fs::write(rig.path("vbios.xml"), &rig.evidence.manifests[1]).unwrap();
    std::fs::write(rig.path("text.crl"), "text").unwrap();
    for (name, code) in [("vbios.xml", "store_rim_unnamed"), ("text.crl", "store_file_unknown")] {
        let path = rig.path(name);
        let refused = run(&mut rig.rim(&["import", path.to_str().unwrap()], "store"), 30);
        assert!(stderr(&refused).contains(&format!("[{code}]")), "{}", stderr(&refused));
    }
    std::fs::write(rig.path("NV_GPU_DRIVER_GH100_580.95.05.xml"), &rig.evidence.manifests[1]).unwrap();
    let path = rig.path("NV_GPU_DRIVER_GH100_580.95.05.xml");
    let refused = stderr(&run(&mut rig.rim(&["import", path.to_str().unwrap()], "store"), 30));
    assert!(refused.contains("[endorsement_other_object]"), "{refused}");
    assert!(
        refused.contains("under the id that it was asked for") && !refused.contains("address"),
        "{refused}"
    );
    // A folder in which nothing is recognised is no silent success.
    std::fs::create_dir(rig.path("other")).unwrap();
    std::fs::write(rig.path("other").join("answer.dat"), "text").unwrap();
    let refused = stderr(&run(&mut rig.rim(&["import", rig.path("other").to_str().unwrap()], "store"), 30));
    assert!(refused.contains("[store_file_unknown]") && refused.contains("swidtag"), "{refused}");
    let missing = rig.path("missing");
    let refused = run(&mut rig.rim(&["import", missing.to_str().unwrap()], "store"), 1);
    assert!(stderr(&refused).contains("[store_failed]"));
}
