//! GPUs and switches of a guest, over the emulated libraries: appraised by the guest itself, made ready, served, appraised by
//! a client, and set back; and everything that keeps them from the ready state and stops the guest.
#![cfg(feature = "danger-simulator")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, dead_code, reason = "tests")]

mod harness;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use confide_client::{Client, ClientError, PolicyText};
use confide_evidence::document::NvidiaEndorsements;
use confide_evidence::event::RuntimeEvent;
use confide_evidence::hash::sha256;
use confide_nvidia_emulator::{Effect, Scenario, VARIABLE, journal, library};
use confide_policy::Loaded;
use confide_simulator::{GpuOptions, GpuRevocationList, NodeOptions, OcspOptions, RimOptions, SimulatedNode};
use harness::{Connection, Guest, Installation, model_files, signal};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;

const COUNT: &str = "nvmlDeviceGetCount_v2";
const REPORT: &str = "nvmlDeviceGetConfComputeGpuAttestationReport";
const CERTIFICATE: &str = "nvmlDeviceGetConfComputeGpuCertificate";
const SET_READY: &str = "nvmlSystemSetConfComputeGpusReadyState";

/// The files of a folder of endorsements.
type Files = BTreeMap<String, Vec<u8>>;

/// What the emulated libraries play, what endorses it, and a configuration that names both.
struct Machine {
    folder: TempDir,
}

/// When these tests began, so that what is endorsed twice has the same bytes.
fn now() -> u64 {
    static NOW: LazyLock<u64> =
        LazyLock::new(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs());
    *NOW
}

/// The simulated devices that the emulator plays for [`Scenario::of_gpus`].
fn hoppers(count: u64) -> SimulatedNode {
    let gpus = (0..count).map(GpuOptions::hopper).collect();
    SimulatedNode::with_options(NodeOptions { gpus, switches: Vec::new() }).unwrap()
}

/// The manifests of a node's devices, each once, by their id.
fn manifests(node: &SimulatedNode) -> BTreeMap<String, RimOptions> {
    let gpus = node.gpus.iter().flat_map(|gpu| gpu.rims(now()));
    let switches = node.switches.iter().map(|switch| switch.rim(now()));
    gpus.chain(switches).map(|manifest| (manifest.id.clone(), manifest)).collect()
}

/// One answer for each certificate of the node's devices and of the manifests' signers.
fn answers(node: &SimulatedNode, options: &OcspOptions) -> Files {
    let gpus = node.gpus.iter().map(|gpu| gpu.certificates().to_vec());
    let switches = node.switches.iter().map(|switch| switch.certificates().to_vec());
    let signers = manifests(node).into_values().map(|manifest| manifest.certificates().unwrap());
    let chains = gpus.chain(switches).chain(signers);
    let answers = chains.flat_map(|chain| options.answers(&chain).unwrap());
    answers.map(|answer| (format!("{}.ocsp", sha256(&answer)), answer)).collect()
}

/// Everything that endorses a node.
fn endorsements(node: &SimulatedNode) -> Files {
    let manifests = manifests(node).into_values();
    let files = manifests.map(|manifest| (format!("{}.xml", manifest.id), manifest.encode().unwrap()));
    files.chain(answers(node, &OcspOptions::good(now()))).collect()
}

/// The danger policy for so many GPUs in this mode, which asks for all that NVIDIA says of them.
fn policy(gpus: usize, mode: &str) -> String {
    let text = include_str!("../../../policies/danger-simulator.toml");
    let lines = text.lines().map(|line| match line.split_once(" = ") {
        Some(("model", _)) => "model = { waive = \"a random model\" }".to_owned(),
        Some(("configuration", _)) => "configuration = { waive = \"a random model\" }".to_owned(),
        Some(("gpu_count", _)) => format!("gpu_count = {{ any_of = [{gpus}] }}"),
        Some(("mode", _)) => format!("mode = {{ any_of = [\"{mode}\"] }}"),
        Some(("vbios_floor", _)) => {
            "vbios_floor = { at_least = [\"96.00.5E.00.01\", \"96.10.52.00.00\"] }".to_owned()
        }
        Some((field @ ("rim" | "revocation"), _)) => format!("{field} = \"required\""),
        Some(("gpu_environment", _)) => "gpu_environment = { any_of = [\"PROD\"] }".to_owned(),
        _ => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n")
}

impl Machine {
    fn new(scenario: &Scenario, policy: &str, files: &Files) -> Self {
        let machine = Self { folder: tempfile::tempdir().unwrap() };
        std::fs::write(machine.scenario(), serde_json::to_vec(scenario).unwrap()).unwrap();
        std::fs::write(machine.path("policy.toml"), policy).unwrap();
        std::fs::create_dir(machine.path("gpus")).unwrap();
        machine.endorse(files);
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn scenario(&self) -> PathBuf {
        self.path("scenario.json")
    }

    fn endorse(&self, files: &Files) {
        for (name, bytes) in files {
            std::fs::write(self.path("gpus").join(name), bytes).unwrap();
        }
    }

    fn tables(&self) -> String {
        let library = library().unwrap();
        format!(
            "[gpus]\npolicy = \"{}\"\nendorsements = \"{}\"\ndeadline_seconds = 60\nrefresh_seconds = 1\n\
             [simulated]\nnvml = \"{2}\"\nnscq = \"{2}\"\n",
            self.path("policy.toml").display(),
            self.path("gpus").display(),
            library.display(),
        )
    }

    fn start(&self) -> Guest {
        self.start_with("")
    }

    fn start_with(&self, tables: &str) -> Guest {
        let installation = Installation::new(&model_files(7), &format!("{tables}{}", self.tables()));
        Guest::started_with(installation, |command| {
            command.env(VARIABLE, self.scenario());
        })
    }

    /// Exit status and standard error of a guest that does not serve.
    fn refused(&self) -> (Option<i32>, String) {
        let installation = Installation::new(&model_files(7), &self.tables());
        let mut program = harness::program();
        program.arg("serve").arg("--config").arg(installation.config()).env(VARIABLE, self.scenario());
        let output = program.output().unwrap();
        assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    }

    /// What the driver was told about the ready state, in order.
    fn told(&self) -> Vec<u32> {
        let calls = std::fs::read_to_string(journal(&self.scenario())).unwrap_or_default();
        let told = calls.lines().filter_map(|line| line.strip_prefix(SET_READY));
        told.map(|number| number.trim().parse().unwrap()).collect()
    }

    fn client(&self, guest: &Guest) -> Client {
        let policy = std::fs::read_to_string(self.path("policy.toml")).unwrap();
        let policy = PolicyText::parse(policy, Loaded::AsDanger).unwrap();
        Client::builder(&guest.url(), policy).unwrap().build()
    }
}

fn one() -> Machine {
    Machine::new(&Scenario::of_gpus(1), &policy(1, "spt"), &endorsements(&hoppers(1)))
}

fn code<T>(outcome: Result<T, ClientError>) -> String {
    outcome.map_or_else(|error| error.code().to_owned(), |_| "ok".to_owned())
}

/// What is stapled to a document now.
async fn stapled(guest: &Guest) -> NvidiaEndorsements {
    let (document, _) = Connection::open(guest.address).await.attest(1).await;
    document.endorsements.unwrap().nvidia.unwrap()
}

/// A client of a guest with these devices finds them as the guest did, by what is stapled alone.
async fn serves(machine: &Machine, devices: usize, mode: &str) {
    let mut guest = machine.start();
    assert_eq!(machine.told(), [1]);
    let verdict = machine.client(&guest).verdict().await.unwrap();
    let result = verdict.result();
    assert_eq!(result.devices.len(), devices);
    assert!(result.simulated);
    for code in ["device_measurements", "device_revocation", "rim_revocation", "devices_event", "gpu_claims"]
    {
        assert!(result.checks.iter().any(|check| check.code == code), "{code}");
    }
    let (document, binding) = Connection::open(guest.address).await.attest(1).await;
    assert_eq!(document.claims.gpus.environment, "PROD");
    assert!(document.claims.gpus.ready && !document.claims.gpus.dev_tools);
    for (position, device) in (0..).zip(&document.devices) {
        let nonce = device.report.as_bytes()[4..36].to_vec();
        assert_eq!(nonce, binding.gpu_nonce(position), "device {position}");
    }
    let events = document.events.events();
    let in_use = events.iter().find_map(|event| match event {
        RuntimeEvent::Devices(devices) => Some(devices.devices.clone()),
        _ => None,
    });
    let in_use = in_use.unwrap();
    assert_eq!(in_use.len(), devices);
    assert_eq!(in_use[0].mode, mode);
    assert!(guest.log().contains("GPUs accepted"), "{}", guest.log());
    signal("TERM", guest.pid());
    assert!(guest.ended().success(), "{}", guest.log());
    assert_eq!(machine.told(), [1, 0], "set back when the guest ends");
}

#[tokio::test]
async fn a_gpu_that_the_guest_accepted_serves_and_is_appraised_by_clients() {
    serves(&one(), 1, "spt").await;
}

#[tokio::test]
async fn eight_gpus_and_four_switches_serve_as_one_node() {
    let node = SimulatedNode::ppcie(8, 4).unwrap();
    let machine = Machine::new(&Scenario::protected_pcie(8, 4), &policy(8, "ppcie"), &endorsements(&node));
    serves(&machine, 12, "ppcie").await;
}

/// A guest with this machine ends with the code, says what was found and what to do, and has made no GPU ready.
fn refused_with(machine: &Machine, expected: &str) {
    let (status, told) = machine.refused();
    assert_eq!(status, Some(1), "{expected}: {told}");
    let (last, action) = told.trim_end().rsplit_once('\n').unwrap();
    let error = last.lines().last().unwrap();
    assert!(error.starts_with("error: ") && error.ends_with(&format!("[{expected}]")), "{expected}: {told}");
    assert!(action.starts_with("  ") && action.trim().len() > 10, "{expected}: {told}");
    assert!(!machine.told().contains(&1), "{expected}: {told}");
}

#[test]
fn gpus_whose_driver_fails_stop_the_guest_before_they_are_ready() {
    let one = || Scenario::of_gpus(1);
    let pcie = || Scenario::protected_pcie(8, 4);
    let cases = [
        (Scenario { feature: 0, ..one() }, "gpu_mode_off"),
        (Scenario { dev_tools: 1, ..one() }, "gpu_dev_tools_on"),
        (Scenario::of_gpus(0), "gpus_missing"),
        (one().with(REPORT, 1, Effect::Return(15)), "gpu_lost"),
        (one().with(COUNT, 2, Effect::Number(0)), "gpu_count_changed"),
        (one().with(REPORT, 1, Effect::Number(0x2001)), "gpu_size_invalid"),
        (one().with(CERTIFICATE, 1, Effect::Number(u32::MAX)), "gpu_size_invalid"),
        (pcie().with(REPORT, 8, Effect::Return(999)), "gpu_call_failed"),
    ];
    for (scenario, expected) in cases {
        let node = hoppers(1);
        refused_with(&Machine::new(&scenario, &policy(1, "spt"), &endorsements(&node)), expected);
    }
}

#[test]
fn a_gpu_that_does_not_become_ready_stops_the_guest() {
    let scenario = Scenario::of_gpus(1).with("nvmlSystemGetConfComputeGpusReadyState", 2, Effect::Number(0));
    let machine = Machine::new(&scenario, &policy(1, "spt"), &endorsements(&hoppers(1)));
    let (status, told) = machine.refused();
    assert_eq!(status, Some(1));
    assert!(told.contains("[gpu_ready_state]"), "{told}");
    assert_eq!(machine.told(), [1, 0], "and is set back");
}

#[test]
fn gpus_that_the_policy_does_not_accept_stop_the_guest_before_they_are_ready() {
    let node = hoppers(1);
    let whole = endorsements(&node);
    let spt = policy(1, "spt");
    let with = |policy: &str, files: &Files| Machine::new(&Scenario::of_gpus(1), policy, files);

    let mut other = manifests(&node);
    let golden = other.values_mut().next().unwrap();
    let changed = golden
        .measurements
        .iter_mut()
        .find(|measurement| matches!(measurement.activity, confide_simulator::RimActivity::Active));
    changed.unwrap().alternatives = vec![[0x11; 48]];
    let name = format!("{}.xml", golden.id);
    let mut wrong = whole.clone();
    assert!(wrong.insert(name.clone(), golden.encode().unwrap()).is_some());
    refused_with(&with(&spt, &wrong), "device_measurements");

    let mut missing = whole.clone();
    missing.remove(&name).unwrap();
    refused_with(&with(&spt, &missing), "device_rim");

    let revoked = OcspOptions::revoked(now(), Some(1)).answer(&node.gpus[0].certificates()[1]).unwrap();
    let good = OcspOptions::good(now()).answer(&node.gpus[0].certificates()[1]).unwrap();
    let mut answered: Files = whole.clone().into_iter().filter(|(_, bytes)| *bytes != good).collect();
    answered.insert("revoked.ocsp".into(), revoked);
    refused_with(&with(&spt, &answered), "device_revocation");

    let certificates = node.gpus[0].certificates();
    let list = GpuRevocationList::of(&certificates[1], Some(1), now()).sign(&certificates[2]).unwrap();
    let mut listed = whole.clone();
    listed.insert("revoked.crl".into(), list);
    refused_with(&with(&spt, &listed), "device_revocation");

    let unanswered: Files = whole.clone().into_iter().filter(|(name, _)| name.ends_with(".xml")).collect();
    refused_with(&with(&spt, &unanswered), "rim_revocation");

    refused_with(&with(&policy(2, "spt"), &whole), "gpu_count");
    refused_with(&with(&policy(1, "ppcie"), &whole), "device_cc_mode");
    let ordinary = include_str!("../../../policies/client.toml");
    refused_with(&with(ordinary, &whole), "device_root_anchor");
}

#[test]
fn a_node_without_its_switches_stops_the_guest_before_it_is_ready() {
    let node = SimulatedNode::ppcie(8, 4).unwrap();
    let scenario = Scenario::protected_pcie(8, 4).with("uuid", 1, Effect::Times(0));
    let machine = Machine::new(&scenario, &policy(8, "ppcie"), &endorsements(&node));
    refused_with(&machine, "device_topology");
}

#[tokio::test]
async fn a_gpu_that_vanishes_later_ends_the_guest() {
    let scenario = Scenario::of_gpus(1).with(REPORT, 2, Effect::Return(15));
    let machine = Machine::new(&scenario, &policy(1, "spt"), &endorsements(&hoppers(1)));
    let mut guest = machine.start();
    assert_eq!(machine.told(), [1]);
    assert_ne!(code(machine.client(&guest).verdict().await), "ok");
    assert_eq!(guest.ended().code(), Some(1), "{}", guest.log());
    assert!(guest.log().contains("[gpu_lost]"), "{}", guest.log());
    assert_eq!(machine.told(), [1, 0]);
}

#[tokio::test]
async fn a_guest_whose_gpu_vanishes_ends_at_once_whatever_time_the_host_gives_requests() {
    let scenario = Scenario::of_gpus(1).with(REPORT, 2, Effect::Return(15));
    let machine = Machine::new(&scenario, &policy(1, "spt"), &endorsements(&hoppers(1)));
    let mut guest = machine.start_with("[limits]\ndrain_seconds = 300\nread_seconds = 300\n");
    // A request that never comes to its end.
    let mut stream = harness::connect(guest.address).await.unwrap();
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 40\r\n\r\n{";
    stream.write_all(head.as_bytes()).await.unwrap();
    assert_ne!(code(machine.client(&guest).verdict().await), "ok");
    let begun = Instant::now();
    assert_eq!(guest.ended().code(), Some(1), "{}", guest.log());
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert!(guest.log().contains("[gpu_lost]"), "{}", guest.log());
    assert_eq!(machine.told(), [1, 0]);
}

#[test]
fn a_guest_that_is_ended_while_its_gpus_are_asked_makes_none_ready() {
    let scenario = Scenario::of_gpus(1).with(REPORT, 1, Effect::Hang);
    let machine = Machine::new(&scenario, &policy(1, "spt"), &endorsements(&hoppers(1)));
    let tables = machine.tables().replace("deadline_seconds = 60", "deadline_seconds = 10");
    let installation = Installation::new(&model_files(7), &tables);
    let mut program = harness::program();
    program.arg("serve").arg("--config").arg(installation.config()).env(VARIABLE, machine.scenario());
    let mut guest = program.spawn().unwrap();
    let begun = Instant::now();
    let asked =
        || std::fs::read_to_string(journal(&machine.scenario())).is_ok_and(|calls| calls.contains(REPORT));
    while !asked() {
        assert!(begun.elapsed() < Duration::from_secs(60), "no GPU is asked");
        std::thread::sleep(Duration::from_millis(10));
    }
    signal("TERM", guest.id());
    assert!(guest.wait().unwrap().success());
    assert!(!machine.told().contains(&1));
}

#[test]
fn a_guest_that_loses_its_engine_sets_its_gpus_back() {
    let machine = one();
    let mut guest = machine.start();
    signal("KILL", guest.engine());
    assert_eq!(guest.ended().code(), Some(1), "{}", guest.log());
    assert_eq!(machine.told(), [1, 0]);
}

#[tokio::test]
async fn endorsements_are_stapled_and_read_again() {
    let machine = one();
    let guest = machine.start();
    let first = stapled(&guest).await;
    let files = endorsements(&hoppers(1));
    assert_eq!((first.rims.len(), first.ocsp.len() + 2), (2, files.len()));
    assert_eq!(code(machine.client(&guest).verdict().await), "ok");

    std::fs::write(machine.path("gpus/broken.xml"), b"<half").unwrap();
    until(&guest, |guest| guest.log().contains("[gpu_endorsements_invalid]") || told(guest)).await;
    assert_eq!(stapled(&guest).await, first, "what there is stays");
    std::fs::remove_file(machine.path("gpus/broken.xml")).unwrap();

    let certificates = hoppers(1).gpus[0].certificates().to_vec();
    let list = GpuRevocationList::of(&certificates[1], Some(1), now()).sign(&certificates[2]).unwrap();
    machine.endorse(&Files::from([("revoked.crl".to_owned(), list.clone())]));
    let begun = Instant::now();
    while stapled(&guest).await.crls != [list.clone().into()] {
        assert!(begun.elapsed() < Duration::from_secs(60), "{}", guest.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(code(machine.client(&guest).verdict().await), "device_revocation", "clients see it");
}

fn told(guest: &Guest) -> bool {
    guest.log().contains("endorsements of the GPUs not read again")
}

async fn until(guest: &Guest, holds: impl Fn(&Guest) -> bool) {
    let begun = Instant::now();
    while !holds(guest) {
        assert!(begun.elapsed() < Duration::from_secs(60), "{}", guest.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Exit status and standard error of `serve` with these tables on a platform.
fn configured(platform: &str, tables: &str) -> (Option<i32>, String) {
    let installation = Installation::new(&model_files(7), tables);
    let text = std::fs::read_to_string(installation.config()).unwrap();
    let text = text.replace("\"simulated\"", &format!("\"{platform}\""));
    std::fs::write(installation.config(), text).unwrap();
    let output = harness::program().arg("serve").arg("--config").arg(installation.config()).output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

fn gpus(policy: &Path, endorsements: &Path) -> String {
    let (policy, endorsements) = (policy.display(), endorsements.display());
    format!("[gpus]\npolicy = \"{policy}\"\nendorsements = \"{endorsements}\"\n")
}

#[test]
fn what_the_operator_got_wrong_is_told_before_the_boot() {
    let machine = one();
    let (policy, folder) = (machine.path("policy.toml"), machine.path("gpus"));
    let client = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies/client.toml");
    std::fs::write(machine.path("broken.toml"), "schema = 1\n").unwrap();
    std::fs::create_dir(machine.path("junk")).unwrap();
    std::fs::write(machine.path("junk/page.html"), "<html></html>").unwrap();
    let unknown = format!("{}ocsp = true\n", gpus(&client, &folder));
    let cases = [
        ("tdx", gpus(&policy, &folder), "gpu_policy_danger", "policy.toml"),
        ("tdx", gpus(&machine.path("none.toml"), &folder), "gpu_policy_unreadable", "none.toml"),
        ("tdx", gpus(&machine.path("broken.toml"), &folder), "gpu_policy_invalid", "broken.toml"),
        ("tdx", gpus(&client, &machine.path("none")), "gpu_endorsements_unreadable", "none"),
        ("tdx", gpus(&client, &machine.path("junk")), "gpu_endorsements_invalid", "page.html"),
        ("tdx", unknown, "config_unknown_field", "guest.toml:9:1: gpus.ocsp"),
        ("simulated", gpus(&policy, &folder), "simulated_gpus", "nvml"),
        ("tdx", machine.tables(), "simulated_table", "[simulated]"),
    ];
    for (platform, tables, code, named) in cases {
        let (status, told) = configured(platform, &tables);
        let expected = if code.ends_with("_unreadable") { 1 } else { 2 };
        assert_eq!(status, Some(expected), "{code}: {told}");
        assert!(told.contains(&format!("[{code}]")) && told.contains(named), "{code}: {told}");
    }
}
