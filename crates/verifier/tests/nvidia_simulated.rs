//! Simulated GPUs: accepted under the danger policy that names their root, refused for each thing that is wrong.
#![allow(clippy::unwrap_used, reason = "tests")]

use algorithms::AWS;
use confide_evidence::bytes::Bytes;
use confide_evidence::document::NvidiaEndorsements;
use confide_evidence::document::{DeviceEvidence, DeviceKind};
use confide_evidence::nvidia::{Activity, DeviceChain, Rim};
use confide_policy::{AppraisalPolicy, Expect, Floor, HexBytes, Loaded, Machine, Machines, Require};
use confide_simulator::{
    DeviceDeviation, GpuOptions, RimActivity, RimOptions, SimulatedGpu, SimulatedSwitch, SwitchOptions,
};
use confide_verifier::{
    AttestationResult, DeviceOutcome, MAX_DIFFERENCES, MeasurementDifference, Outcome, Status,
};
use devices::{With, status};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

mod algorithms;
mod devices;

/// 2026-10-01.
const NOW: i64 = 1_790_812_800;
/// 2020-01-01, before the device certificates.
const EARLY: i64 = 1_577_836_800;

fn nonce(position: u32) -> [u8; 32] {
    [u8::try_from(position).unwrap().wrapping_add(0x40); 32]
}

fn danger() -> AppraisalPolicy {
    let text = include_str!("../../../policies/danger-simulator.toml");
    let mut policy = AppraisalPolicy::parse(text, Loaded::AsDanger).unwrap();
    // The demonstration's guest has one GPU; these tests are about more.
    policy.devices.gpu_count = Expect::Waive("any number in this test".into());
    policy
}

fn evidence(gpu: &SimulatedGpu, position: u32) -> DeviceEvidence {
    DeviceEvidence {
        kind: DeviceKind::NvidiaGpu,
        chain: gpu.chain_pem().into_bytes().into(),
        report: gpu.report(nonce(position)).into(),
    }
}

fn gpu(seed: u64) -> DeviceEvidence {
    evidence(&SimulatedGpu::new(seed).unwrap(), 0)
}

fn appraise(devices: &[DeviceEvidence]) -> AttestationResult {
    under(&danger(), devices, NOW)
}

fn under(policy: &AppraisalPolicy, devices: &[DeviceEvidence], now: i64) -> AttestationResult {
    let nonces = (0..).take(devices.len()).map(nonce).collect();
    let endorsements = NvidiaEndorsements { crls: Vec::new(), ocsp: Vec::new(), rims: Vec::new() };
    With { nonces, endorsements, policy, algorithms: &AWS, now, rim_at: None }.appraise(devices)
}

#[test]
fn a_simulated_gpu_is_accepted_under_the_danger_policy_and_called_simulated() {
    let result = appraise(&[gpu(0)]);
    assert_eq!((result.outcome, result.code), (Outcome::Accepted, None), "{:?}", result.checks);
    assert!(result.simulated);
    let [device] = &result.devices[..] else { panic!("one device") };
    assert_eq!((device.kind, device.outcome, device.code), ("nvidia-gpu", DeviceOutcome::Accepted, None));
    let facts = device.facts.as_ref().unwrap();
    assert_eq!((facts.family.as_str(), facts.mode.as_str()), ("GH100", "spt"));
    assert_eq!(facts.driver.as_deref(), Some("580.95.05"));
    assert_eq!(facts.vbios.as_deref(), Some("96.00.D0.00.02"));
    // Without manifests nothing was compared: neither list says that nothing differs.
    assert_eq!((&facts.differences, &facts.without_golden_value), (&None, &None));
    for code in ["device_rim", "device_revocation"] {
        assert_eq!(status(&result, code), [Status::NotRun], "{code}");
    }
}

#[test]
fn no_ordinary_policy_accepts_a_simulated_gpu() {
    for policy in [AppraisalPolicy::inspect(), AppraisalPolicy::client()] {
        let result = under(&policy, &[gpu(0)], NOW);
        assert_eq!(result.code, Some("device_root_anchor"), "{}", policy.name);
        let [device] = &result.devices[..] else { panic!("one device") };
        assert_eq!((device.outcome, device.code), (DeviceOutcome::Rejected, result.code));
        assert_eq!(device.facts, None, "nothing is told of a report that nobody vouches for");
    }
}

#[test]
fn a_report_of_another_gpu_does_not_fit_the_chain() {
    let mut swapped = gpu(0);
    swapped.report = gpu(1).report;
    assert_eq!(appraise(&[swapped]).code, Some("device_report_signature"));
}

#[test]
fn a_gpu_declared_as_a_switch_is_refused() {
    let declared = DeviceEvidence { kind: DeviceKind::NvidiaSwitch, ..gpu(0) };
    assert_eq!(appraise(&[declared]).code, Some("device_family"));
}

#[test]
fn a_replayed_nonce_is_refused() {
    let gpu = SimulatedGpu::new(0).unwrap();
    let result = appraise(&[evidence(&gpu, 1)]);
    assert_eq!(result.code, Some("device_nonce"));
    assert!(result.devices[0].facts.is_some(), "the device itself is authentic");
    assert_eq!(result.devices[0].code, Some("device_nonce"));
}

#[test]
fn firmware_ids_must_match_and_be_there() {
    for report_fwid in [Some([9; 48]), None] {
        let options = GpuOptions { report_fwid, ..GpuOptions::hopper(0) };
        let gpu = SimulatedGpu::with_options(options).unwrap();
        assert_eq!(appraise(&[evidence(&gpu, 0)]).code, Some("device_fwid"));
    }
}

#[test]
fn contradicting_and_unknown_modes_are_refused() {
    for (feature_flag, protected_pcie) in [(2, 0x55), (0, 0xaa), (7, 0x55)] {
        let options = GpuOptions { feature_flag, protected_pcie, ..GpuOptions::hopper(0) };
        let gpu = SimulatedGpu::with_options(options).unwrap();
        assert_eq!(
            appraise(&[evidence(&gpu, 0)]).code,
            Some("device_mode"),
            "{feature_flag} {protected_pcie:#x}"
        );
    }
}

#[test]
fn a_mode_that_the_chip_does_not_have_is_refused() {
    let mode = |options: GpuOptions, feature_flag| {
        let gpu = SimulatedGpu::with_options(GpuOptions { feature_flag, ..options }).unwrap();
        let mut policy = danger();
        policy.devices.mode = Expect::Waive("any mode in this test".into());
        let result = under(&policy, &[evidence(&gpu, 0)], NOW);
        let check = result.checks.into_iter().find(|check| check.code == "device_mode").unwrap();
        (check.status, check.actual.to_string())
    };
    let protected = || GpuOptions { protected_pcie: 0xaa, ..GpuOptions::hopper(0) };
    for (options, flag, name) in [
        (GpuOptions::hopper(0), 0, "spt"),
        (protected(), 2, "ppcie"),
        (GpuOptions::blackwell(0), 0, "spt"),
        (GpuOptions::blackwell(0), 1, "mpt"),
        (GpuOptions::gb20x(0), 0, "spt"),
    ] {
        assert_eq!(mode(options, flag), (Status::Pass, format!("device 0: {name}")));
    }
    for (options, flag, name) in [
        (GpuOptions::hopper(0), 1, "mpt, which no GH100 has"),
        (GpuOptions::blackwell(0), 2, "ppcie, which no GB100 has"),
        (GpuOptions::gb20x(0), 2, "ppcie, which no GB20X has"),
    ] {
        assert_eq!(mode(options, flag), (Status::Fail, format!("device 0: mode {name}")));
    }
    let switch = |added_records| {
        let options = SwitchOptions { added_records, ..SwitchOptions::ls10(0) };
        let switch = SimulatedSwitch::with_options(options).unwrap();
        let device = DeviceEvidence {
            kind: DeviceKind::NvidiaSwitch,
            chain: switch.chain_pem().into_bytes().into(),
            report: switch.report(nonce(0)).into(),
        };
        status(&appraise(&[device]), "device_mode")
    };
    assert_eq!(switch(vec![]), [Status::Pass]);
    assert_eq!(switch(vec![(36, vec![2, 0])]), [Status::Fail], "a switch has no mode of its own");
}

#[test]
fn two_gpus_are_accepted_and_the_same_one_twice_is_not() {
    let (first, second) = (SimulatedGpu::new(0).unwrap(), SimulatedGpu::new(1).unwrap());
    assert_eq!(appraise(&[evidence(&first, 0), evidence(&second, 1)]).code, None);
    assert_eq!(appraise(&[evidence(&first, 0), evidence(&first, 1)]).code, Some("device_distinct"));
    // Other certificates of the same device.
    let mut options = GpuOptions::hopper(0);
    options.leaf_window.from += 1;
    let again = SimulatedGpu::with_options(options).unwrap();
    assert_ne!(again.certificates()[0], first.certificates()[0]);
    let result = appraise(&[evidence(&first, 0), evidence(&again, 1)]);
    assert_eq!(result.code, Some("device_distinct"));
}

#[test]
fn each_identity_of_a_device_occurs_once() {
    let first = SimulatedGpu::new(0).unwrap();
    for (deviation, shared) in [
        (DeviceDeviation { leaf_key_seed: Some(0), ..DeviceDeviation::default() }, "key"),
        (DeviceDeviation { leaf_serial_seed: Some(0), ..DeviceDeviation::default() }, "serial"),
        (DeviceDeviation { brom_seed: Some(0), ..DeviceDeviation::default() }, "BROM serial"),
    ] {
        let options = GpuOptions { deviation: Box::new(deviation), ..GpuOptions::hopper(1) };
        let second = SimulatedGpu::with_options(options).unwrap();
        // The other two are its own.
        let identities = |gpu: &SimulatedGpu| {
            let chain = DeviceChain::parse(gpu.chain_pem().as_bytes()).unwrap();
            let (leaf, brom) = (chain.leaf(), chain.brom());
            [
                ("key", leaf.spki.clone()),
                ("serial", leaf.serial.clone()),
                ("BROM serial", brom.serial.clone()),
            ]
        };
        let same: Vec<&str> = identities(&first)
            .iter()
            .zip(&identities(&second))
            .filter(|(one, other)| one == other)
            .map(|(one, _)| one.0)
            .collect();
        assert_eq!(same, [shared]);
        assert_eq!(appraise(&[evidence(&second, 0)]).code, None, "{shared}: it is a device");
        let result = appraise(&[evidence(&first, 0), evidence(&second, 1)]);
        assert_eq!(result.code, Some("device_distinct"), "{shared}");
        let check = result.checks.iter().find(|check| check.code == "device_distinct").unwrap();
        assert_eq!(check.actual.to_string(), format!("device 1 has the {shared} of another"));
        // Each by itself is as it should be.
        assert!(result.devices.iter().all(|device| device.outcome == DeviceOutcome::Accepted), "{shared}");
    }
}

/// The text of the check of the family, on a device with these certificates.
fn family(device: DeviceEvidence) -> (Status, String) {
    let result = appraise(&[device]);
    let check = result.checks.into_iter().find(|check| check.code == "device_family").unwrap();
    (check.status, check.actual.to_string())
}

#[test]
fn each_name_and_number_of_the_certificates_is_that_of_the_chip_that_reports() {
    let name = |name: &str| Some(name.to_owned());
    let none = DeviceDeviation::default;
    for (deviation, expected) in [
        (none(), Ok("GH100")),
        (
            DeviceDeviation { leaf_name: name("GH200 A01 GSP FMC LF"), ..none() },
            Err("an unknown family, GH200 A01 GSP FMC LF SIMULATED"),
        ),
        (
            DeviceDeviation { brom_name: name("GB100 A01 GSP BROM"), ..none() },
            Err("a certificate for GH100 under GB100 A01 GSP BROM SIMULATED"),
        ),
        (
            DeviceDeviation { leaf_name: name("GH100 A01 FSP FMC LF"), ..none() },
            Err("a key of another unit than the GSP: GH100 A01 FSP FMC LF SIMULATED"),
        ),
        (
            DeviceDeviation {
                leaf_name: name("LS_10 A01 GSP FMC LF"),
                brom_name: name("LS_10 A01 GSP BROM"),
                ..none()
            },
            Err("the report of another kind of device than LS_10"),
        ),
        (
            DeviceDeviation { brom_serial_prefix: Some(0x50), ..none() },
            Err("the report of another kind of device than GH100"),
        ),
        (
            DeviceDeviation { brom_serial_prefix: Some(0x42), ..none() },
            Err("the report of another kind of device than GH100"),
        ),
    ] {
        let options = GpuOptions { deviation: Box::new(deviation), ..GpuOptions::hopper(0) };
        let gpu = SimulatedGpu::with_options(options).unwrap();
        let expected = match expected {
            Ok(text) => (Status::Pass, format!("device 0: {text}")),
            Err(text) => (Status::Fail, format!("device 0: {text}")),
        };
        assert_eq!(family(evidence(&gpu, 0)), expected);
    }
    assert_eq!(family(switch(|_| ())), (Status::Pass, "device 0: LS_10".to_owned()));
}

#[test]
fn devices_by_themselves_must_be_of_one_registered_machine() {
    let (first, second) = (SimulatedGpu::new(0).unwrap(), SimulatedGpu::new(1).unwrap());
    let brom = |gpu: &SimulatedGpu| {
        let chain = DeviceChain::parse(gpu.chain_pem().as_bytes()).unwrap();
        HexBytes(chain.brom().serial.as_slice().try_into().unwrap())
    };
    let machine = |name: &str, ppid: u8, devices: Vec<HexBytes<9>>| Machine {
        name: name.into(),
        ppid: HexBytes([ppid; 16]),
        devices,
    };
    let devices = [evidence(&first, 0), evidence(&second, 1)];
    let (one, other) = (brom(&first), brom(&second));
    for (machines, code) in [
        (vec![], None),
        (vec![machine("a", 1, vec![one, other])], None),
        (vec![machine("a", 1, vec![one]), machine("b", 2, vec![other])], Some("device_registry")),
        (vec![machine("a", 1, vec![other])], Some("device_registry")),
        (vec![machine("a", 1, vec![])], Some("device_registry")),
    ] {
        let mut policy = danger();
        policy.devices.machine = Machines(machines);
        let result = under(&policy, &devices, NOW);
        assert_eq!(result.code, code, "{:#?}", policy.devices.machine);
        assert_eq!(result.platform_binding, None, "no CPU's evidence says where they are");
    }
}

/// The check of [`mismatched`].
fn mismatch(indices: &[u8]) -> confide_verifier::Check {
    let (result, _) = mismatched(indices);
    result.checks.into_iter().find(|check| check.code == "device_measurements").unwrap()
}

/// A GPU with other values at these indices: the verdict on it with the manifests of an unchanged one, and these.
fn mismatched(indices: &[u8]) -> (AttestationResult, Vec<Vec<u8>>) {
    let measurements = indices.iter().map(|index| (*index, [0xaa; 48])).collect();
    let gpu = SimulatedGpu::with_options(GpuOptions { measurements, ..GpuOptions::hopper(0) }).unwrap();
    let time = u64::try_from(NOW).unwrap();
    let rims: Vec<Vec<u8>> = gpu.rims(time).iter().map(|rim| rim.encode().unwrap()).collect();
    let given = rims.iter().cloned().map(Into::into).collect();
    let mut policy = danger();
    policy.devices.rim = Require::Required;
    let with = With {
        nonces: vec![nonce(0)],
        endorsements: NvidiaEndorsements { crls: Vec::new(), ocsp: Vec::new(), rims: given },
        policy: &policy,
        algorithms: &AWS,
        now: NOW,
        rim_at: None,
    };
    (with.appraise(&[evidence(&gpu, 0)]), rims)
}

#[test]
fn a_mismatch_says_what_it_usually_means() {
    assert_eq!(mismatch(&[]).status, Status::Pass);
    for (indices, remedy) in [
        // Of the VBIOS.
        (&[9][..], "fetch the newest issue of the VBIOS manifest"),
        (&[8, 9], "fetch the newest issue of the VBIOS manifest"),
        (&[4, 5, 6], "supply the manifest of the VBIOS that the device runs"),
        // Of the driver.
        (&[22], "fetch the newest issue of the driver's manifest"),
        (&[22, 25], "fetch the newest issue of the driver's manifest"),
        (&[22, 25, 26], "have the operator install an unchanged driver"),
        // Of both: what differs most says it.
        (&[9, 22, 25, 26], "have the operator install an unchanged driver"),
        (&[4, 5, 6, 22], "supply the manifest of the VBIOS that the device runs"),
    ] {
        let check = mismatch(indices);
        assert_eq!(check.status, Status::Fail, "{indices:?}");
        let actual = check.actual.to_string();
        let expected = format!("device 0: {} of 33 differ: index ", indices.len());
        assert!(actual.starts_with(&expected), "{indices:?}: {actual}");
        let told = check.remedy.unwrap().to_string();
        assert!(told.starts_with(remedy), "{indices:?}: {told}");
    }
}

#[test]
fn a_mismatch_names_every_index_that_differs() {
    let told = |indices: &[u8]| mismatch(indices).actual.to_string();
    let four = told(&[4, 5, 9, 22]);
    for name in
        ["index 22 (Measurement_22) is ", "; index 4 (", "; index 5 (", "; index 9 (Measurement_9) is "]
    {
        assert!(four.contains(name), "{name}: {four}");
    }
    assert!(!four.contains("more"), "{four}");
    // The driver's manifest is compared first.
    let more = told(&[4, 5, 6, 8, 9, 22]);
    assert!(more.starts_with("device 0: 6 of 33 differ: index 22 ("), "{more}");
    assert!(more.ends_with("; 2 more differ, of index 8, 9"), "{more}");
    let all: Vec<u8> = (0..64).collect();
    let all = told(&all);
    assert!(all.starts_with("device 0: 33 of 33 differ: "), "{all}");
    let (_, indices) = all.rsplit_once("; 29 more differ, of index ").unwrap();
    assert_eq!(indices.split(", ").count(), 29, "{all}");
}

#[test]
fn the_result_of_a_device_lists_every_difference_with_its_values_and_its_manifest() {
    let all: Vec<u8> = (0..64).collect();
    for indices in [&[][..], &[9], &[4, 5, 6, 8, 9, 22], &all[..]] {
        let (result, rims) = mismatched(indices);
        let [device] = &result.devices[..] else { panic!("one device") };
        let facts = device.facts.as_ref().unwrap();
        let mut expected = Vec::new();
        for document in &rims {
            let rim = Rim::parse(document).unwrap();
            let active = rim.measurements.iter().filter(|golden| golden.activity == Activity::Active);
            // The decoder is off, so that the value of index 35 is not compared.
            for golden in active.filter(|golden| indices.contains(&golden.index) && golden.index != 35) {
                expected.push(MeasurementDifference {
                    index: golden.index,
                    name: golden.name.clone(),
                    golden: golden.alternatives.iter().copied().map(Bytes).collect(),
                    actual: Some(Bytes([0xaa; 48])),
                    manifest_version: rim.colloquial_version.clone(),
                    manifest_sha256: Bytes(Sha256::digest(document).into()),
                });
            }
        }
        let differences = facts.differences.as_ref().unwrap();
        assert_eq!(*differences, expected, "{indices:?}");
        assert!(differences.len() <= MAX_DIFFERENCES);
        if indices.len() == 64 {
            assert_eq!(differences.len(), 33);
        }
        let code = if indices.is_empty() { None } else { Some("device_measurements") };
        assert_eq!((result.code, device.code), (code, code), "{indices:?}");
        // So does the JSON, whatever the check's text leaves out.
        let verdict: Value = serde_json::from_str(&result.to_json()).unwrap();
        let listed = verdict["devices"][0]["differences"].as_array().unwrap();
        assert_eq!(listed.len(), expected.len());
        for (listed, expected) in listed.iter().zip(&expected) {
            assert_eq!(listed["index"], expected.index);
            assert_eq!(listed["name"], *expected.name);
            assert_eq!(listed["golden"].as_array().unwrap().len(), expected.golden.len());
            assert_eq!(listed["actual"], "aa".repeat(48));
            assert_eq!(listed["manifest_version"], *expected.manifest_version);
            assert_eq!(listed["manifest_sha256"], expected.manifest_sha256.to_string());
        }
    }
}

#[test]
fn blocks_that_hold_a_value_for_which_nobody_vouches_are_listed() {
    let without = |indices: &[u8]| {
        let (result, _) = mismatched(indices);
        result.devices[0].facts.as_ref().unwrap().without_golden_value.clone().unwrap()
    };
    let usual = [47, 48, 49, 50, 51, 52];
    assert_eq!(without(&[]), usual);
    // In the order of the indices; values that differ from golden ones are listed elsewhere.
    assert_eq!(without(&[60, 13, 9]), [&[13][..], &usual, &[60]].concat());
    let (result, _) = mismatched(&[60, 13]);
    assert_eq!((result.outcome, result.code), (Outcome::Accepted, None), "they are told, and refuse nothing");
    // Every index is in one of the two sets, but for 35: it has a golden value and is not compared.
    let all: Vec<u8> = (0..64).collect();
    let (result, _) = mismatched(&all);
    let facts = result.devices[0].facts.as_ref().unwrap();
    let differing = facts.differences.as_ref().unwrap().iter().map(|difference| difference.index);
    let mut both: Vec<u8> = differing.chain(without(&all)).collect();
    both.sort_unstable();
    assert_eq!(both, all.into_iter().filter(|index| *index != 35).collect::<Vec<_>>());
}

#[test]
fn a_golden_value_for_a_block_that_a_report_does_not_have_is_a_mismatch() {
    let switch = SimulatedSwitch::new(0).unwrap();
    let mut rim = switch.rim(u64::try_from(NOW).unwrap());
    let golden = rim.measurement(31).unwrap();
    (golden.activity, golden.alternatives) = (RimActivity::Active, vec![[7; 48], [0; 48]]);
    let mut policy = danger();
    policy.devices.vbios_floor = Floor::Waive("a switch has none in this test".into());
    policy.devices.switches_with_gpus = Require::Waive("switches alone".into());
    let verdict = |rim: &RimOptions| {
        let rims = vec![rim.encode().unwrap().into()];
        let with = With {
            nonces: vec![nonce(0)],
            endorsements: NvidiaEndorsements { crls: Vec::new(), ocsp: Vec::new(), rims },
            policy: &policy,
            algorithms: &AWS,
            now: NOW,
            rim_at: None,
        };
        let device = DeviceEvidence {
            kind: DeviceKind::NvidiaSwitch,
            chain: switch.chain_pem().into_bytes().into(),
            report: switch.report(nonce(0)).into(),
        };
        with.appraise(&[device])
    };
    assert_eq!(verdict(&switch.rim(u64::try_from(NOW).unwrap())).code, None);
    let result = verdict(&rim);
    assert_eq!(result.code, Some("device_measurements"));
    let check = result.checks.iter().find(|check| check.code == "device_measurements").unwrap();
    let told = check.actual.to_string();
    let start =
        "device 0: 1 of 32 differ: index 31 (Measurement_31) is in no block of the report, manifest LS10 ";
    assert!(told.starts_with(start), "{told}");
    let differences = result.devices[0].facts.as_ref().unwrap().differences.as_ref().unwrap();
    let [difference] = &differences[..] else { panic!("{differences:?}") };
    assert_eq!((difference.index, difference.actual), (31, None));
    assert_eq!(difference.golden, [Bytes([7; 48]), Bytes([0; 48])]);
    // One that is not active says nothing.
    rim.measurement(31).unwrap().activity = RimActivity::Inactive;
    assert_eq!(verdict(&rim).code, None);
}

/// A switch of a simulated machine, changed.
fn switch(change: impl Fn(&mut SwitchOptions)) -> DeviceEvidence {
    let mut options = SwitchOptions::ls10(0);
    change(&mut options);
    let switch = SimulatedSwitch::with_options(options).unwrap();
    DeviceEvidence {
        kind: DeviceKind::NvidiaSwitch,
        chain: switch.chain_pem().into_bytes().into(),
        report: switch.report(nonce(0)).into(),
    }
}

#[test]
fn a_waiver_is_for_switches_without_any_gpu_and_for_nothing_else() {
    let mut strict = danger();
    strict.devices.vbios_floor = Floor::Waive("a switch has none in this test".into());
    let mut waiving = strict.clone();
    waiving.devices.switches_with_gpus = Require::Waive("switches alone".into());
    let topology = |policy: &AppraisalPolicy, devices: &[DeviceEvidence]| {
        let result = under(policy, devices, NOW);
        (result.code, status(&result, "device_topology")[0])
    };
    let refused = (Some("device_topology"), Status::Fail);
    let alone = [switch(|_| ())];
    assert_eq!(topology(&strict, &alone), refused);
    assert_eq!(topology(&waiving, &alone), (None, Status::Waived));
    assert_eq!(under(&waiving, &alone, NOW).platform_binding, None);
    for wrong in [switch(|options| options.lock_status = 0), switch(|options| options.device_pdi = [1; 8])] {
        assert_eq!(topology(&waiving, &[wrong]), refused);
    }
    // GPUs are there: those of no protected mode have no switches, and those of a protected one need theirs.
    let mut beside = [gpu(0), switch(|_| ())];
    let options = GpuOptions::hopper(0);
    beside[1].report = SimulatedSwitch::new(0).unwrap().report(nonce(1)).into();
    assert_eq!(topology(&waiving, &beside), refused);
    let protected = GpuOptions { protected_pcie: 0xaa, feature_flag: 2, ..options };
    let mut ppcie = waiving.clone();
    ppcie.devices.mode = Expect::Waive("any mode in this test".into());
    let protected = evidence(&SimulatedGpu::with_options(protected).unwrap(), 0);
    assert_eq!(topology(&ppcie, &[protected]), refused);
    // A set without switches passes for itself; that the policy waives the rule shows.
    assert_eq!(topology(&waiving, &[gpu(0)]), (None, Status::Waived));
}

#[test]
fn svn_and_flags_of_the_certificate_are_told() {
    let facts = |options| {
        let gpu = SimulatedGpu::with_options(options).unwrap();
        let result = under(&danger(), &[evidence(&gpu, 0)], NOW);
        let facts = result.devices[0].facts.clone().unwrap();
        (facts.svn, facts.tcb_flags)
    };
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    assert_eq!(facts(GpuOptions::hopper(0)), (None, vec![]), "its certificate has no TcbInfo");
    let usual = names(&["notConfigured", "fixedWidth"]);
    assert_eq!(facts(GpuOptions::blackwell(0)), (Some("01".into()), usual));
    let other = GpuOptions { tcb_svn: 7, tcb_flags: [0x10, 0, 0, 0], ..GpuOptions::blackwell(0) };
    assert_eq!(facts(other), (Some("07".into()), names(&["debug"])));
}

#[test]
fn gpus_of_one_node_are_alike() {
    let other = GpuOptions { driver_version: "570.00.01".into(), ..GpuOptions::hopper(1) };
    let (first, second) = (SimulatedGpu::new(0).unwrap(), SimulatedGpu::with_options(other).unwrap());
    assert_eq!(appraise(&[evidence(&first, 0), evidence(&second, 1)]).code, Some("device_uniform"));
    // Other families; and other chips of one family.
    let made = |options| SimulatedGpu::with_options(options).unwrap();
    let blackwell = |seed| GpuOptions { driver_version: "590.48.01".into(), ..GpuOptions::blackwell(seed) };
    let hopper = GpuOptions { driver_version: "590.48.01".into(), ..GpuOptions::hopper(0) };
    let sibling = GpuOptions { chip_info: "GB203".into(), ..GpuOptions::gb20x(1) };
    for (first, second, code) in [
        (blackwell(0), blackwell(1), None),
        (hopper, blackwell(1), Some("device_uniform")),
        (GpuOptions::gb20x(0), GpuOptions::gb20x(1), None),
        (GpuOptions::gb20x(0), sibling, Some("device_uniform")),
        (blackwell(0), GpuOptions::gb20x(1), Some("device_uniform")),
    ] {
        let devices = [evidence(&made(first), 0), evidence(&made(second), 1)];
        let mut policy = danger();
        policy.devices.vbios_floor = Floor::Waive("chips of several branches in this test".into());
        assert_eq!(under(&policy, &devices, NOW).code, code);
    }
}

#[test]
fn chains_in_another_order_or_length_are_refused() {
    let evidence = gpu(0);
    let pem = String::from_utf8(evidence.chain.as_bytes().to_vec()).unwrap();
    let certificates: Vec<&str> = pem.split_inclusive("-----END CERTIFICATE-----\n").collect();
    assert_eq!(certificates.len(), 5);
    let with_chain = |certificates: &[&str]| DeviceEvidence {
        chain: certificates.concat().into_bytes().into(),
        ..evidence.clone()
    };
    let code = |certificates: &[&str]| appraise(&[with_chain(certificates)]).code;
    assert_eq!(code(&certificates), None);
    assert_eq!(code(&certificates[..4]), Some("device_chain_format"));
    let reversed: Vec<&str> = certificates.iter().rev().copied().collect();
    assert_eq!(code(&reversed), Some("device_root_anchor"));
    let mut crossed = certificates.clone();
    crossed.swap(1, 2);
    assert_eq!(code(&crossed), Some("device_chain_signatures"));
    let mut foreign = certificates;
    let other = gpu(1);
    let other = String::from_utf8(other.chain.as_bytes().to_vec()).unwrap();
    foreign[1] = other.split_inclusive("-----END CERTIFICATE-----\n").nth(1).unwrap();
    assert_eq!(code(&foreign), Some("device_chain_signatures"), "another device's BROM");
}

#[test]
fn certificates_are_not_valid_before_their_window() {
    let result = under(&danger(), &[gpu(0)], EARLY);
    assert_eq!(result.code, Some("device_validity"));
}

#[test]
fn unsupported_and_malformed_reports_have_outcomes_of_their_own() {
    let gpu = SimulatedGpu::new(0).unwrap();
    let report = gpu.report(nonce(0));
    let with = |report: Vec<u8>| {
        appraise(&[DeviceEvidence {
            kind: DeviceKind::NvidiaGpu,
            chain: gpu.chain_pem().into_bytes().into(),
            report: report.into(),
        }])
    };
    let cases: [(Vec<u8>, Outcome); 4] = [
        ([&report[..], &[0]].concat(), Outcome::Malformed),
        (report[..report.len() - 1].to_vec(), Outcome::Malformed),
        ([&[0x12], &report[1..]].concat(), Outcome::Unsupported),
        (gpu.resign(&nvdaod(&report)), Outcome::Unsupported),
    ];
    for (report, outcome) in cases {
        let result = with(report);
        assert_eq!((result.outcome, result.code), (outcome, Some("device_report_format")));
        let of_device =
            if outcome == Outcome::Malformed { DeviceOutcome::Malformed } else { DeviceOutcome::Unsupported };
        assert_eq!((result.devices[0].outcome, result.devices[0].code), (of_device, result.code));
    }
}

/// The report with NVIDIA's newer opaque header in place of the first record's first bytes.
fn nvdaod(report: &[u8]) -> Vec<u8> {
    let mut report = report.to_vec();
    let opaque = 37 + 8 + 64 * 55 + 32 + 2;
    report[opaque..opaque + 6].copy_from_slice(b"NVDAOD");
    report
}

#[test]
fn checks_after_a_failure_are_listed_as_not_run() {
    let mut swapped = gpu(0);
    swapped.report = gpu(1).report;
    let result = appraise(&[swapped]);
    for code in
        ["device_validity", "device_nonce", "device_fwid", "device_rim", "device_distinct", "device_topology"]
    {
        assert_eq!(status(&result, code), [Status::NotRun], "{code}");
    }
}
