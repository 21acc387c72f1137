//! GPUs and switches from NVIDIA's libraries to the ready state, over the emulated libraries.
//!
//! The emulator's machine is a process's: each test runs its part in a process of its own, this same program asked for
//! that test alone, with the scenario in its environment.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use confide_attester::gpu::{
    AppraisalError, Appraised, Collected, Deadlines, EnvironmentKind, Found, GpuError, Libraries, MultiGpu,
    Node, Ready, Survey,
};
use confide_attester::{Attester, CODES, SimulatedMachine};
use confide_evidence::bytes::Bytes;
use confide_evidence::document::{
    Build, Changing, Claims, DeviceEvidence, DeviceKind, Egress, Engine, Gpus, KemAlgorithm, KemKey, KeySet,
    Model,
};
use confide_evidence::event::{Boot, Configuration, LoadedModel, RuntimeEvent};
use confide_evidence::hash::sha256;
use confide_evidence::nvidia::{DeviceChain, Report};
use confide_evidence::pem;
use confide_evidence::transcript::Binding;
use confide_nvidia_emulator::{Device, Effect, Scenario, Source, VARIABLE, journal, library};
use confide_simulator::{SimulatedGpu, SimulatedNode};

const REPORT: &str = "nvmlDeviceGetConfComputeGpuAttestationReport";
const CERTIFICATE: &str = "nvmlDeviceGetConfComputeGpuCertificate";
const COUNT: &str = "nvmlDeviceGetCount_v2";
const SETTINGS: &str = "nvmlSystemGetConfComputeSettings";
const READY: &str = "nvmlSystemGetConfComputeGpusReadyState";
const SET_READY: &str = "nvmlSystemSetConfComputeGpusReadyState";

/// The environment variable that tells a process of its own its case.
const CASE: &str = "CONFIDE_NVML_TEST_CASE";

/// The signed mode of each device.
fn modes<W>(node: &Node<Ready<W>>) -> Vec<&str> {
    node.devices_in_use().devices.iter().map(|device| device.mode.as_str()).collect()
}

/// What NVML was told to do about the ready state, in order.
type Told = Vec<u32>;

/// Runs `part` with the scenario's machine in a process of its own.
fn emulated(test: &str, scenario: &Scenario, part: impl Fn()) {
    emulated_each(test, &[(scenario.clone(), ())], |()| part());
}

/// Runs `part` with each case, in a process of its own with the machine of that case.
fn emulated_each<T>(test: &str, cases: &[(Scenario, T)], part: impl Fn(&T)) {
    if let Ok(case) = std::env::var(CASE) {
        return part(&cases[case.parse::<usize>().unwrap()].1);
    }
    assert!(!cases.is_empty());
    let folder = tempfile::tempdir().unwrap();
    let begin = |(case, (scenario, _)): (usize, &(Scenario, T))| {
        let path = folder.path().join(format!("{case}.json"));
        std::fs::write(&path, serde_json::to_vec(scenario).unwrap()).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", test, "--nocapture"]).env(VARIABLE, &path).env(CASE, case.to_string());
        (path, command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    };
    // All at once: most of what takes time waits.
    let begun: Vec<_> = cases.iter().enumerate().map(begin).collect();
    for (path, process) in begun {
        let output = process.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let case = path.file_stem().unwrap().to_string_lossy();
        assert!(
            output.status.success() && said.contains("1 passed"),
            "case {case}: {said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(journal(&path).is_file(), "case {case}: the emulator was not asked");
    }
}

fn libraries() -> Libraries {
    let library = library().unwrap();
    Libraries { nvml: library.clone(), nscq: library }
}

fn deadlines() -> Deadlines {
    Deadlines { start: Duration::from_secs(60), call: Duration::from_secs(60) }
}

fn find() -> Result<Node<Found>, GpuError> {
    Node::danger_find_with(libraries(), deadlines())
}

/// A nonce that tells its position.
fn nonce(position: u32) -> [u8; 32] {
    sha256(&position.to_le_bytes()).0
}

fn collect() -> Result<Node<Collected>, GpuError> {
    find().and_then(|node| node.collect(nonce))
}

fn ready() -> Result<Node<Ready<&'static str>>, GpuError> {
    accepted(collect()?).set_ready()
}

fn accepted(node: Node<Collected>) -> Node<Appraised<&'static str>> {
    node.appraise(|_, _| Ok::<_, String>("accepted")).unwrap()
}

fn calls() -> Vec<String> {
    let path = PathBuf::from(std::env::var_os(VARIABLE).unwrap());
    std::fs::read_to_string(journal(&path)).unwrap().lines().map(str::to_owned).collect()
}

fn told() -> Told {
    let told = |line: &String| line.strip_prefix(SET_READY).map(|number| number.trim().parse().unwrap());
    calls().iter().filter_map(told).collect()
}

/// The code of an error, which must be a listed one.
fn code<T>(result: Result<T, GpuError>) -> &'static str {
    let error = result.map(drop).unwrap_err();
    assert!(CODES.iter().any(|(listed, ..)| *listed == error.code()), "{error}");
    error.code()
}

/// Evidence of simulated GPUs: each signs its own nonce, under its own chain.
fn check_gpus(evidence: &[DeviceEvidence]) {
    for (position, device) in (0..).zip(evidence) {
        let gpu = SimulatedGpu::new(u64::from(position)).unwrap();
        assert_eq!(device.kind, DeviceKind::NvidiaGpu);
        assert_eq!(device.chain.as_bytes(), gpu.chain_pem().as_bytes());
        assert_eq!(device.report.as_bytes(), gpu.report(nonce(position)));
    }
}

fn build() -> Build {
    Build { image: None, version: "1".into(), revision: "r".into() }
}

fn claims(gpus: Gpus) -> Claims {
    Claims {
        gpus,
        build: build(),
        model: Model { name: "m".into(), manifest: Bytes([1; 32]) },
        egress: Egress::open(),
        engine: Engine { kind: "builtin".into(), flags: vec![], environment: vec![] },
        volumes: vec![],
        changing: Changing { drops: 0, locked_at: None, guest_time: 1 },
        configuration: Bytes([1; 32]),
    }
}

/// One GPU and four switches.
fn small_pcie() -> Scenario {
    Scenario::protected_pcie(1, 4)
}

fn one() -> Scenario {
    Scenario::of_gpus(1)
}

#[test]
fn one_gpu_becomes_ready_after_its_appraisal_and_not_before() {
    emulated("one_gpu_becomes_ready_after_its_appraisal_and_not_before", &one(), || {
        let node = collect().unwrap();
        assert_eq!((node.gpus(), node.switches()), (1, 0));
        assert!(!node.claims().ready);
        let node = node
            .appraise(|evidence, environment| {
                assert_eq!(evidence.len(), 1);
                check_gpus(evidence);
                assert_eq!(environment.kind, EnvironmentKind::Prod);
                assert_eq!(environment.multi_gpu, MultiGpu::Single);
                assert_eq!(told(), [] as [u32; 0]);
                Ok::<_, String>(7)
            })
            .unwrap();
        assert_eq!(told(), [] as [u32; 0]);
        assert_eq!(*node.witness(), 7);
        let node = node.set_ready().unwrap();
        assert_eq!(told(), [1]);
        assert_eq!(*node.witness(), 7);
        let claims = node.claims();
        assert_eq!((claims.count, claims.ready, claims.dev_tools), (1, true, false));
        assert_eq!(claims.environment, "PROD");
        let chain = DeviceChain::parse(SimulatedGpu::new(0).unwrap().chain_pem().as_bytes()).unwrap();
        let [device] = &node.devices_in_use().devices[..] else { panic!("one device") };
        assert_eq!((device.mode.as_str(), device.certificate), ("spt", sha256(&chain.leaf().der)));
        check_gpus(&node.evidence(nonce).unwrap());
        node.stop().unwrap();
        assert_eq!(told(), [1, 0]);
    });
}

#[test]
fn a_survey_looks_at_gpus_that_no_node_takes_and_changes_nothing() {
    let name = "a_survey_looks_at_gpus_that_no_node_takes_and_changes_nothing";
    let off = Scenario { feature: 0, ..one() };
    let cases = [
        (Scenario { ready: 1, ..Scenario::of_gpus(2) }, Some(true)),
        (Scenario { ready: 0, ..Scenario::of_gpus(2) }, Some(false)),
        (one().with(REPORT, 1, Effect::Return(15)), None),
        (off, None),
        (Scenario { dev_tools: 1, ..one() }, None),
    ];
    emulated_each(name, &cases, |whole| {
        let survey = Survey::danger_take_with(nonce, libraries(), deadlines()).unwrap();
        assert_eq!(survey.driver.as_deref(), Some("580.95.05"));
        assert!(survey.architectures.iter().all(|number| *number == Some(9)));
        let evidence = survey.evidence.and_then(Result::ok);
        match whole {
            Some(ready) => {
                assert_eq!(survey.ready.unwrap().unwrap(), *ready);
                check_gpus(&evidence.unwrap());
            }
            None => assert!(evidence.is_none()),
        }
        assert_eq!(told(), [] as [u32; 0], "the ready state is left alone");
    });
}

#[test]
fn a_machine_without_gpus_has_nothing_to_make_ready() {
    emulated("a_machine_without_gpus_has_nothing_to_make_ready", &Scenario::of_gpus(0), || {
        let node = ready().unwrap();
        assert_eq!(node.evidence(nonce).unwrap(), []);
        let claims = node.claims();
        assert_eq!((claims.count, claims.ready, claims.environment.as_str()), (0, false, ""));
        assert_eq!(node.devices_in_use().devices, []);
        node.stop().unwrap();
        assert_eq!(told(), [] as [u32; 0]);
    });
}

#[test]
fn eight_gpus_sign_a_nonce_of_their_own_each() {
    emulated("eight_gpus_sign_a_nonce_of_their_own_each", &Scenario::of_gpus(8), || {
        let node = ready().unwrap();
        let evidence = node.evidence(nonce).unwrap();
        assert_eq!(evidence.len(), 8);
        check_gpus(&evidence);
        assert_eq!(told(), [1]);
    });
}

#[test]
fn switches_report_behind_the_gpus_in_the_protected_pcie_mode() {
    let test = "switches_report_behind_the_gpus_in_the_protected_pcie_mode";
    emulated(test, &Scenario::protected_pcie(8, 4), || {
        let node = ready().unwrap();
        assert_eq!((node.gpus(), node.switches()), (8, 4));
        assert_eq!(node.environment().multi_gpu, MultiGpu::ProtectedPcie);
        assert_eq!(node.claims().count, 8);
        assert_eq!(modes(&node), [["ppcie"; 8].as_slice(), &["unknown"; 4]].concat());
        let played = SimulatedNode::ppcie(8, 4).unwrap();
        let gpus = played.gpus.iter().map(|gpu| gpu.chain_pem());
        let chains: Vec<_> = gpus.chain(played.switches.iter().map(|switch| switch.chain_pem())).collect();
        let gpus = (0..8).map(|at| played.gpus[at].report(nonce(at as u32)));
        let switches = (0..4).map(|at| played.switches[at].report(nonce(8 + at as u32)));
        let reports: Vec<_> = gpus.chain(switches).collect();
        let evidence = node.evidence(nonce).unwrap();
        assert_eq!(evidence.len(), 12);
        for (at, device) in evidence.iter().enumerate() {
            let kind = if at < 8 { DeviceKind::NvidiaGpu } else { DeviceKind::NvidiaSwitch };
            assert_eq!(device.kind, kind);
            assert_eq!(device.chain.as_bytes(), chains[at].as_bytes());
            assert_eq!(device.report.as_bytes(), reports[at]);
        }
    });
}

#[test]
fn eight_blackwells_with_encrypted_links_become_ready_without_switches() {
    let test = "eight_blackwells_with_encrypted_links_become_ready_without_switches";
    emulated(test, &Scenario::multi_passthrough(8), || {
        let node = ready().unwrap();
        assert_eq!((node.gpus(), node.switches()), (8, 0));
        assert_eq!(node.environment().multi_gpu, MultiGpu::NvLinkEncryption);
        assert_eq!(modes(&node), ["mpt"; 8]);
        assert_eq!(told(), [1]);
    });
}

#[test]
fn switches_are_not_looked_for_in_another_mode() {
    let scenario = Scenario { multi_gpu: 2, feature: 1, ..Scenario::protected_pcie(8, 4) };
    emulated("switches_are_not_looked_for_in_another_mode", &scenario, || {
        let node = collect().unwrap();
        assert_eq!((node.gpus(), node.switches()), (8, 0));
        assert!(!calls().iter().any(|call| call.starts_with("nscq")));
    });
}

#[test]
fn without_nscq_no_switches_are_found_and_the_appraisal_sees_it() {
    let test = "without_nscq_no_switches_are_found_and_the_appraisal_sees_it";
    emulated(test, &Scenario::protected_pcie(8, 4), || {
        let nscq = PathBuf::from("libconfide-none.so.2");
        let node = Node::danger_find_with(Libraries { nscq, ..libraries() }, deadlines()).unwrap();
        let refused = node.collect(nonce).unwrap().appraise(|evidence, environment| {
            assert_eq!((evidence.len(), environment.multi_gpu), (8, MultiGpu::ProtectedPcie));
            Err::<(), _>("no switches")
        });
        assert!(matches!(refused, Err(AppraisalError::Refused("no switches"))));
    });
}

#[test]
fn a_missing_nvml_is_an_error() {
    let libraries = Libraries { nvml: "libconfide-none.so.1".into(), ..Libraries::default() };
    assert_eq!(code(Node::danger_find_with(libraries, deadlines())), "gpu_library_missing");
}

#[test]
fn a_driver_without_the_functions_is_too_old() {
    let libraries = Libraries { nvml: "libc.so.6".into(), ..Libraries::default() };
    assert_eq!(code(Node::danger_find_with(libraries, deadlines())), "gpu_driver_old");
}

#[test]
fn a_switch_library_without_the_functions_is_too_old() {
    emulated("a_switch_library_without_the_functions_is_too_old", &small_pcie(), || {
        let nscq = PathBuf::from("libc.so.6");
        let found = Node::danger_find_with(Libraries { nscq, ..libraries() }, deadlines());
        assert_eq!(code(found), "gpu_driver_old");
    });
}

#[test]
fn a_refused_node_is_set_back_and_says_why() {
    emulated("a_refused_node_is_set_back_and_says_why", &one(), || {
        let refused = collect().unwrap().appraise(|_, _| Err::<(), _>("the reason"));
        let error = refused.map(drop).unwrap_err();
        assert_eq!(error.code(), "gpu_refused");
        assert_eq!(error.to_string(), "the GPUs were refused: the reason");
        assert_eq!(told(), [0]);
    });
}

#[test]
fn an_appraisal_that_panics_leaves_the_gpus_not_ready() {
    emulated("an_appraisal_that_panics_leaves_the_gpus_not_ready", &one(), || {
        let node = collect().unwrap();
        let appraisal =
            move || node.appraise(|_, _| -> Result<(), String> { panic!("of this test") }).map(drop);
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(appraisal)).is_err());
        assert!(!told().contains(&1));
    });
}

#[test]
fn gpus_that_something_else_made_ready_are_set_back_first() {
    let scenario = Scenario { ready: 1, ..one() };
    emulated("gpus_that_something_else_made_ready_are_set_back_first", &scenario, || {
        let node = find().unwrap();
        assert_eq!(told(), [0]);
        assert!(!node.claims().ready);
        let reported = calls().iter().any(|call| call == REPORT);
        assert!(!reported, "no device was asked before");
    });
}

#[test]
fn a_node_that_is_dropped_takes_the_ready_state_with_it() {
    emulated("a_node_that_is_dropped_takes_the_ready_state_with_it", &one(), || {
        drop(collect().unwrap());
        assert_eq!(told(), [] as [u32; 0], "never ready");
        drop(ready().unwrap());
        assert_eq!(told(), [1, 0]);
    });
}

#[test]
fn gpus_without_the_confidential_mode_are_refused() {
    let off = Scenario { feature: 0, ..one() };
    let cases = [
        (off.clone(), ()),
        // Such a driver may know no ready state and no settings.
        (off.with(READY, 1, Effect::Return(3)), ()),
        (one().with(READY, 1, Effect::Return(3)).with(SETTINGS, 1, Effect::Return(3)), ()),
    ];
    emulated_each("gpus_without_the_confidential_mode_are_refused", &cases, |()| {
        assert_eq!(code(find()), "gpu_mode_off");
        assert!(!told().contains(&1));
    });
}

#[test]
fn gpus_with_device_tools_are_refused_and_not_ready() {
    let scenario = Scenario { dev_tools: 1, ready: 1, ..one() };
    emulated("gpus_with_device_tools_are_refused_and_not_ready", &scenario, || {
        assert_eq!(code(find()), "gpu_dev_tools_on");
        assert_eq!(told(), [0]);
    });
}

#[test]
fn the_simulation_environment_is_named_in_the_claims() {
    let scenario = Scenario { environment: 1, ..one() };
    emulated("the_simulation_environment_is_named_in_the_claims", &scenario, || {
        assert_eq!(collect().unwrap().claims().environment, "SIM");
    });
}

#[test]
fn numbers_without_a_meaning_are_refused() {
    let cases = [
        (Scenario { environment: 9, ..one() }, "environment"),
        (Scenario { feature: u32::MAX, ..one() }, "ccFeature"),
        (Scenario { multi_gpu: 3, ..one() }, "multiGpuMode"),
        (Scenario { dev_tools: 2, ..one() }, "devToolsMode"),
        (one().with(READY, 1, Effect::Number(2)), "the ready state"),
    ];
    emulated_each("numbers_without_a_meaning_are_refused", &cases, |name| {
        let error = find().map(drop).unwrap_err();
        assert!(matches!(error, GpuError::Value { field, .. } if field == *name), "{error}");
        assert_eq!(error.code(), "gpu_value_unknown");
        assert!(!told().contains(&1));
    });
}

#[test]
fn sizes_that_their_buffers_do_not_have_are_refused() {
    let of = |call: &str, most: u32| {
        [0, most + 1, u32::MAX].map(|size| (one().with(call, 1, Effect::Number(size)), (most, size)))
    };
    let cases = [of(REPORT, 0x2000), of(CERTIFICATE, 0x1400)].concat();
    emulated_each("sizes_that_their_buffers_do_not_have_are_refused", &cases, |&(buffer, size)| {
        let error = collect().map(drop).unwrap_err();
        assert!(
            matches!(error, GpuError::Size { found, most, .. } if found == size && most == buffer as usize),
            "{error}"
        );
        assert_eq!(error.code(), "gpu_size_invalid");
        assert_eq!(told(), [0]);
    });
}

#[test]
fn a_size_that_fills_its_buffer_is_taken() {
    let of = |call: &str, most: u32| one().with(call, 1, Effect::Number(most));
    let cases = [(of(REPORT, 0x2000), "report"), (of(CERTIFICATE, 0x1400), "chain")];
    emulated_each("a_size_that_fills_its_buffer_is_taken", &cases, |kind| {
        let evidence = find().unwrap().evidence(nonce).unwrap();
        let (report, chain) = (evidence[0].report.as_bytes().len(), evidence[0].chain.as_bytes().len());
        match *kind {
            "report" => assert_eq!(report, 0x2000),
            _ => assert_eq!(chain, 0x1400),
        }
    });
}

#[test]
fn counts_that_lie_or_change_are_refused() {
    let cases = [
        (1, 33, "gpu_too_many"),
        (1, u32::MAX, "gpu_too_many"),
        // Counted when found, before and after the evidence, and before the ready state.
        (2, 1, "gpu_count_changed"),
        (2, 3, "gpu_count_changed"),
        (2, 0, "gpu_count_changed"),
        (3, 1, "gpu_count_changed"),
        (4, 1, "gpu_count_changed"),
    ];
    let cases = cases.map(|(from, count, expected)| {
        (Scenario::of_gpus(2).with(COUNT, from, Effect::Number(count)), expected)
    });
    emulated_each("counts_that_lie_or_change_are_refused", &cases, |expected| {
        assert_eq!(code(ready()), *expected);
        assert!(!told().contains(&1));
    });
}

#[test]
fn more_devices_than_a_document_lists_are_refused() {
    let cases = [(28, true), (29, false)].map(|(gpus, fits)| (Scenario::protected_pcie(gpus, 4), fits));
    emulated_each("more_devices_than_a_document_lists_are_refused", &cases, |fits| match find() {
        Ok(node) => assert!(*fits && node.gpus() + node.switches() == 32),
        Err(error) => assert!(!fits && error.code() == "gpu_too_many", "{error}"),
    });
}

#[test]
fn a_gpu_that_vanishes_between_calls_ends_the_node() {
    let cases = [REPORT, CERTIFICATE, "nvmlDeviceGetHandleByIndex_v2"]
        .map(|call| (Scenario::of_gpus(2).with(call, 2, Effect::Return(15)), call));
    emulated_each("a_gpu_that_vanishes_between_calls_ends_the_node", &cases, |lost| {
        let error = collect().map(drop).unwrap_err();
        assert!(matches!(error, GpuError::Lost { device: 1, code: 15, call } if call == *lost), "{error}");
        assert_eq!(error.code(), "gpu_lost");
        assert_eq!(told(), [0]);
    });
}

#[test]
fn a_gpu_that_vanishes_from_a_ready_node_ends_its_service() {
    // One report to collect, and none any more afterwards.
    let scenario = one().with(REPORT, 2, Effect::Return(15));
    emulated("a_gpu_that_vanishes_from_a_ready_node_ends_its_service", &scenario, || {
        let node = ready().unwrap();
        assert_eq!(told(), [1]);
        assert_eq!(code(node.evidence(nonce)), "gpu_lost");
        assert_eq!(told(), [1, 0]);
        assert!(!node.claims().ready);
        assert_eq!(code(node.evidence(nonce)), "gpu_ended");
    });
}

#[test]
fn a_mode_that_changes_before_the_ready_state_is_refused() {
    // Read when found, before and after the evidence, and before the ready state.
    let cases = [2, 3, 4].map(|from| (one().with(SETTINGS, from, Effect::Number(1)), ()));
    emulated_each("a_mode_that_changes_before_the_ready_state_is_refused", &cases, |()| {
        assert_eq!(code(ready()), "gpu_dev_tools_on");
        assert_eq!(told(), [0]);
    });
}

#[test]
fn the_error_of_each_call_is_told_and_leaves_the_gpus_not_ready() {
    let calls = [
        "nvmlInit_v2",
        COUNT,
        "nvmlDeviceGetHandleByIndex_v2",
        SETTINGS,
        CERTIFICATE,
        REPORT,
        READY,
        SET_READY,
    ];
    let cases = calls.map(|call| (one().with(call, 1, Effect::Return(999)), call));
    emulated_each("the_error_of_each_call_is_told_and_leaves_the_gpus_not_ready", &cases, |call| {
        let error = ready().map(drop).unwrap_err();
        let said = error.to_string();
        if *call == SET_READY {
            assert!(matches!(error, GpuError::StillReady { .. }), "{said}");
        } else {
            assert_eq!(error.code(), "gpu_call_failed", "{said}");
            assert!(said.contains(*call) && said.contains("999 (unknown)"), "{said}");
            assert!(!told().contains(&1));
        }
    });
}

#[test]
fn a_ready_state_that_does_not_read_as_set_is_taken_back() {
    // Read when found, after the set, and after the set back.
    let scenario = one().with(READY, 2, Effect::Number(0));
    emulated("a_ready_state_that_does_not_read_as_set_is_taken_back", &scenario, || {
        assert_eq!(code(ready()), "gpu_ready_state");
        assert_eq!(told(), [1, 0]);
    });
}

#[test]
fn gpus_that_stay_ready_after_a_failure_are_an_error_of_their_own() {
    let scenario = one().with(REPORT, 2, Effect::Return(15)).with(SET_READY, 2, Effect::Return(4));
    emulated("gpus_that_stay_ready_after_a_failure_are_an_error_of_their_own", &scenario, || {
        let node = ready().unwrap();
        let error = node.evidence(nonce).unwrap_err();
        assert_eq!(error.code(), "gpu_still_ready");
        let GpuError::StillReady { reason, unset } = &error else { panic!("{error}") };
        assert_eq!((reason.code(), unset.code()), ("gpu_lost", "gpu_call_failed"));
        assert!(node.claims().ready, "what is true is claimed");
    });
}

#[test]
fn calls_that_hang_end_at_their_deadline() {
    let calls = ["nvmlInit_v2", COUNT, SETTINGS, CERTIFICATE, REPORT, READY, SET_READY];
    let switches = ["nscq_session_create", "uuid", "certificate", "attestation_report"];
    let hangs = |call| (small_pcie().with(call, 1, Effect::Hang), call);
    let cases: Vec<_> = calls.into_iter().chain(switches).map(hangs).collect();
    emulated_each("calls_that_hang_end_at_their_deadline", &cases, |call| {
        let short = Duration::from_millis(1500);
        let begun = Instant::now();
        let node = Node::danger_find_with(libraries(), Deadlines { start: short, call: short });
        let ended = node.and_then(|node| accepted(node.collect(nonce)?).set_ready());
        let error = ended.map(drop).unwrap_err();
        if *call == SET_READY {
            assert_eq!(error.code(), "gpu_still_ready", "{error}");
        } else {
            assert_eq!(error.code(), "gpu_driver_hung", "{call}: {error}");
            assert!(!told().contains(&1));
        }
        assert!(begun.elapsed() < short * 20);
    });
}

#[test]
fn a_hanging_report_of_a_ready_node_sets_it_back() {
    let scenario = one().with(REPORT, 2, Effect::Hang);
    emulated("a_hanging_report_of_a_ready_node_sets_it_back", &scenario, || {
        let short = Deadlines { call: Duration::from_millis(1500), ..deadlines() };
        let node = Node::danger_find_with(libraries(), short).unwrap();
        let node = accepted(node.collect(nonce).unwrap()).set_ready().unwrap();
        assert_eq!(code(node.evidence(nonce)), "gpu_driver_hung");
        assert_eq!(told(), [1, 0]);
        assert_eq!(code(node.evidence(nonce)), "gpu_ended");
    });
}

#[test]
fn the_faults_of_switches_are_told() {
    let cases = [
        ("nscq_session_create", Effect::Return(1), "gpu_call_failed"),
        ("nscq_session_create", Effect::Number(0), "gpu_value_unknown"),
        ("nscq_session_set_input", Effect::Return(-5), "gpu_call_failed"),
        ("nscq_uuid_to_label", Effect::Return(-2), "gpu_call_failed"),
        ("uuid", Effect::Return(-7), "gpu_call_failed"),
        ("uuid", Effect::Answer(-8), "gpu_call_failed"),
        ("uuid", Effect::Times(20), "gpu_too_many"),
        ("certificate", Effect::Return(-1), "gpu_call_failed"),
        ("certificate", Effect::Answer(-7), "gpu_call_failed"),
        ("certificate", Effect::Times(0), "switch_answer_invalid"),
        ("certificate", Effect::Times(2), "switch_answer_invalid"),
        ("certificate", Effect::Number(0), "gpu_size_invalid"),
        ("certificate", Effect::Number(0x1401), "gpu_size_invalid"),
        ("certificate", Effect::Number(u32::MAX), "gpu_size_invalid"),
        ("attestation_report", Effect::Return(1), "gpu_call_failed"),
        ("attestation_report", Effect::Answer(1), "gpu_call_failed"),
        ("attestation_report", Effect::Times(0), "switch_answer_invalid"),
        ("attestation_report", Effect::Times(50), "switch_answer_invalid"),
        ("attestation_report", Effect::Number(0), "gpu_size_invalid"),
        ("attestation_report", Effect::Number(0x2001), "gpu_size_invalid"),
        ("attestation_report", Effect::Number(u32::MAX), "gpu_size_invalid"),
    ];
    let cases = cases.map(|(call, effect, expected)| (small_pcie().with(call, 1, effect), expected));
    emulated_each("the_faults_of_switches_are_told", &cases, |expected| {
        let error = ready().map(drop).unwrap_err();
        assert_eq!(error.code(), *expected, "{error}");
        assert!(!told().contains(&1));
    });
}

#[test]
fn switches_that_come_go_or_have_no_name_are_refused() {
    // Listed when found, before and after the evidence, and before the ready state.
    let changes = [(2, 0), (2, 2), (3, 0), (3, 2), (4, 0), (4, 2)];
    let changed = changes
        .map(|(from, times)| (small_pcie().with("uuid", from, Effect::Times(times)), "gpu_count_changed"));
    let labels = ["", "../SWX", &"S".repeat(64)].map(|label| {
        let switches = vec![Device { label: label.to_owned(), source: Source::Simulated }];
        (Scenario { switches, ..small_pcie() }, "switch_answer_invalid")
    });
    let cases: Vec<_> = changed.into_iter().chain(labels).collect();
    emulated_each("switches_that_come_go_or_have_no_name_are_refused", &cases, |expected| {
        assert_eq!(code(ready()), *expected);
        assert!(!told().contains(&1));
    });
}

#[test]
fn the_nonces_of_a_node_are_asked_for_once_each_and_in_order() {
    emulated("the_nonces_of_a_node_are_asked_for_once_each_and_in_order", &Scenario::of_gpus(3), || {
        let next = AtomicU32::new(0);
        let counting = |position: u32| {
            assert_eq!(next.fetch_add(1, Ordering::Relaxed), position);
            nonce(position)
        };
        check_gpus(&find().unwrap().evidence(counting).unwrap());
        assert_eq!(next.into_inner(), 3);
    });
}

#[test]
fn accepted_evidence_that_cannot_be_read_is_not_made_ready() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let gpu = SimulatedGpu::new(0).unwrap();
    let (report, chain) = (file("report", &gpu.report([0; 32])), file("chain", gpu.chain_pem().as_bytes()));
    let other = file("other", b"something else");
    let of = |report: &Path, chain: &Path| {
        let source = Source::Recorded { report: report.to_owned(), chain: chain.to_owned() };
        (Scenario { gpus: vec![source], ..one() }, ())
    };
    let cases = [of(&other, &chain), of(&report, &other)];
    emulated_each("accepted_evidence_that_cannot_be_read_is_not_made_ready", &cases, |()| {
        let appraised = collect().unwrap().appraise(|_, _| Ok::<_, String>(()));
        assert_eq!(appraised.map(drop).unwrap_err().code(), "gpu_evidence_unreadable");
        assert_eq!(told(), [0]);
    });
}

#[test]
fn a_ready_node_reports_in_the_evidence_document() {
    emulated("a_ready_node_reports_in_the_evidence_document", &Scenario::of_gpus(2), || {
        let machine = SimulatedMachine { seed: 1, gpus: 0, quote_time: Duration::ZERO };
        let attester = Attester::simulated(machine).unwrap().with_gpus(ready().unwrap());
        let digest = Bytes([1; 32]);
        for event in [
            RuntimeEvent::Boot(Boot { build: build(), boot_id: Bytes([7; 16]), broker_key: None }),
            RuntimeEvent::Configuration(Configuration { digest }),
            RuntimeEvent::NoVolumes,
            RuntimeEvent::Model(LoadedModel { manifest: digest }),
            RuntimeEvent::Devices(attester.devices_in_use()),
            RuntimeEvent::Open,
        ] {
            attester.measure(event).unwrap();
        }
        let claims = claims(attester.gpus());
        assert_eq!(
            (claims.gpus.count, claims.gpus.ready, claims.gpus.environment.as_str()),
            (2, true, "PROD")
        );
        assert_eq!(attester.devices_in_use().devices.len(), 2);
        let binding = Binding::Serve { nonce: digest, exporter: digest, tls_spki: digest };
        let keys = KeySet::Recipient(KemKey { alg: KemAlgorithm::XWing, public: Bytes([3; 1216]) });
        let document = attester.attest(&binding, &keys, &claims).unwrap();
        for (position, device) in (0..).zip(&document.devices) {
            let gpu = SimulatedGpu::new(u64::from(position)).unwrap();
            assert_eq!(device.report.as_bytes(), gpu.report(binding.gpu_nonce(position)));
        }
        assert_eq!(document.devices.len(), 2);
    });
}

#[test]
fn a_found_node_reports_for_the_release_of_keys_and_takes_no_work() {
    let test = "a_found_node_reports_for_the_release_of_keys_and_takes_no_work";
    emulated(test, &Scenario::of_gpus(2), || {
        let machine = SimulatedMachine { seed: 1, gpus: 0, quote_time: Duration::ZERO };
        let attester = Attester::simulated(machine).unwrap();
        let digest = Bytes([1; 32]);
        let boot = Boot { build: build(), boot_id: Bytes([7; 16]), broker_key: None };
        attester.measure(RuntimeEvent::Boot(boot)).unwrap();
        attester.measure(RuntimeEvent::Configuration(Configuration { digest })).unwrap();
        let node = find().unwrap();
        let binding = Binding::KeyRelease { nonce: digest };
        let keys = KeySet::Recipient(KemKey { alg: KemAlgorithm::XWing, public: Bytes([3; 1216]) });
        let claims = claims(node.claims());
        assert_eq!((claims.gpus.count, claims.gpus.ready), (2, false));
        let document = attester.attest_with(&binding, &keys, &claims, &node).unwrap();
        for (position, device) in (0..).zip(&document.devices) {
            let gpu = SimulatedGpu::new(u64::from(position)).unwrap();
            assert_eq!(device.report.as_bytes(), gpu.report(binding.gpu_nonce(position)));
        }
        assert_eq!(document.devices.len(), 2);
        assert!(!told().contains(&1));
    });
}

#[test]
fn a_node_that_ended_gives_no_evidence_document() {
    let scenario = one().with(REPORT, 2, Effect::Return(15));
    emulated("a_node_that_ended_gives_no_evidence_document", &scenario, || {
        let machine = SimulatedMachine { seed: 1, gpus: 0, quote_time: Duration::ZERO };
        let attester = Attester::simulated(machine).unwrap().with_gpus(ready().unwrap());
        let binding = Binding::KeyRelease { nonce: Bytes([1; 32]) };
        let keys = KeySet::Recipient(KemKey { alg: KemAlgorithm::XWing, public: Bytes([3; 1216]) });
        let claims = claims(attester.gpus());
        assert_eq!(attester.attest(&binding, &keys, &claims).unwrap_err().code(), "gpu_lost");
        assert!(!attester.gpus().ready);
        assert_eq!(told(), [1, 0]);
    });
}

#[test]
fn a_recorded_node_of_eight_gpus_and_four_switches_is_collected_as_it_was() {
    let test = "a_recorded_node_of_eight_gpus_and_four_switches_is_collected_as_it_was";
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus");
    let root = std::env::var_os("CONFIDE_CORPUS").map_or_else(beside, PathBuf::from);
    let recorded = root.join("nvidia/nvidia-nvtrust/ppcie-8gpu-4switch");
    if !recorded.is_dir() {
        eprintln!("not run: the collection of 12 recorded devices: no corpus at {}", root.display());
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let list = |name: &str| {
        let list: Vec<serde_json::Value> =
            serde_json::from_slice(&std::fs::read(recorded.join(name)).unwrap()).unwrap();
        let write = |(position, item): (usize, &serde_json::Value)| {
            let file = |kind: &str, bytes: &str| {
                let path = folder.path().join(format!("{name}-{position}-{kind}"));
                std::fs::write(&path, pem::base64(bytes).unwrap()).unwrap();
                path
            };
            Source::Recorded {
                report: file("report", item["evidence"].as_str().unwrap()),
                chain: file("chain", item["certificate"].as_str().unwrap()),
            }
        };
        list.iter().enumerate().map(write).collect::<Vec<_>>()
    };
    let (gpus, switches) = (list("gpu_evidence.json"), list("switch_evidence.json"));
    let named = |(position, source): (usize, Source)| Device { label: format!("SWX-{position}"), source };
    let switches = switches.into_iter().enumerate().map(named).collect();
    let scenario = Scenario { gpus, switches, ..Scenario::protected_pcie(8, 4) };
    emulated(test, &scenario, || {
        let node = collect()
            .unwrap()
            .appraise(|evidence, _| {
                let of = |kind| evidence.iter().filter(|device| device.kind == kind).count();
                assert_eq!((of(DeviceKind::NvidiaGpu), of(DeviceKind::NvidiaSwitch)), (8, 4));
                for device in evidence {
                    let report = Report::parse(device.report.as_bytes()).unwrap();
                    assert_eq!(report.nonce[..3], [0x47, 0x60, 0xe3], "the recorded nonce");
                }
                Ok::<_, String>(())
            })
            .unwrap()
            .set_ready()
            .unwrap();
        assert_eq!(modes(&node), [["ppcie"; 8].as_slice(), &["unknown"; 4]].concat());
    });
}
