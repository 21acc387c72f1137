//! Recorded devices with their recorded manifests and OCSP answers: the whole appraisal.
#![allow(clippy::unwrap_used, clippy::print_stderr, clippy::disallowed_methods, reason = "tests read files")]

mod algorithms;
#[path = "../../evidence/tests/support/nvidia_corpus.rs"]
mod corpus;
mod devices;
#[path = "../../evidence/tests/support/rim_corpus.rs"]
mod manifests;

use algorithms::AWS;
use confide_evidence::document::{DeviceEvidence, DeviceKind, NvidiaEndorsements};
use confide_evidence::nvidia::{Activity, Edition, Report, Rim, decoded, device_of, evidence_list};
use confide_evidence::time::parse_seconds;
use confide_policy::{AppraisalPolicy, Expect, HexBytes, Loaded, NVIDIA_RIM_ROOTS, Require};
use confide_simulator::{GpuOptions, SimulatedGpu, SimulatedSwitch, SwitchOptions};
use confide_verifier::{AttestationResult, DeviceFacts, Outcome, Status};
use devices::{With, status};
use manifests::{Recorded, Verdict};
use sha2::{Digest as _, Sha256};
use std::path::Path;

/// 2025-08-21T12:00:00Z, when the OCSP answers of the recorded Hopper's device certificates hold.
const DEVICE_CLOCK: i64 = 1_755_777_600;
/// 2025-10-24T12:00:00Z, when those of its manifests' signers do.
const RIM_CLOCK: i64 = 1_761_307_200;
/// 2026-06-01, in the window of the recorded switch's manifest.
const SWITCH_CLOCK: i64 = 1_780_272_000;
/// 2024-06-15, in the windows of the manifests that NVIDIA's verifier carries.
const OLD_CLOCK: i64 = 1_718_409_600;

const HOPPER: &str = "google-go-nvattest-tools/hopper-550.90.07-full";
const SWITCH: &str = "nvidia-attestation-sdk/ls10-96.10.55.00.01";
const STALE: &str = "nvidia-attestation-sdk/hopper-spt-580.159.03";

fn file(folder: &Path, name: &str) -> Vec<u8> {
    decoded(&std::fs::read(folder.join(name)).unwrap()).unwrap()
}

fn rims(folder: &Path, names: &[&str]) -> Vec<Vec<u8>> {
    names.iter().map(|name| std::fs::read(folder.join(name)).unwrap()).collect()
}

fn ocsp(folder: &Path) -> Vec<Vec<u8>> {
    let entries = std::fs::read_dir(folder.join("ocsp")).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| decoded(&std::fs::read(path).unwrap()).unwrap()).collect()
}

fn endorsements(rims: Vec<Vec<u8>>, ocsp: Vec<Vec<u8>>) -> NvidiaEndorsements {
    NvidiaEndorsements {
        crls: Vec::new(),
        ocsp: ocsp.into_iter().map(Into::into).collect(),
        rims: rims.into_iter().map(Into::into).collect(),
    }
}

/// A device of a folder with a report and a chain, and the nonce that it answers.
fn device(folder: &Path, report: &str) -> (DeviceEvidence, [u8; 32]) {
    let report = file(folder, report);
    let nonce = *Report::parse(&report).unwrap().nonce;
    (device_of(&report, &std::fs::read(folder.join("chain.pem")).unwrap()).unwrap(), nonce)
}

fn hopper_rims() -> [&'static str; 2] {
    ["NV_GPU_DRIVER_GH100_550.90.07.xml", "NV_GPU_VBIOS_1010_0200_882_96009F0001.xml"]
}

fn without_revocation() -> AppraisalPolicy {
    let mut policy = AppraisalPolicy::inspect();
    policy.devices.revocation = Require::Waive("no answers are recorded".into());
    policy
}

/// What the report of the one device says.
fn facts(result: &AttestationResult) -> &DeviceFacts {
    let [device] = &result.devices[..] else { panic!("{} devices", result.devices.len()) };
    device.facts.as_ref().unwrap()
}

fn check<'r>(result: &'r AttestationResult, code: &str) -> &'r confide_verifier::Check {
    result.checks.iter().find(|check| check.code == code).unwrap_or_else(|| panic!("no check {code}"))
}

#[test]
fn a_recorded_hopper_is_accepted_with_its_manifests_and_answers() {
    let Some(corpus) = corpus::folder("endorsed devices") else { return };
    let folder = corpus.join(HOPPER);
    let (device, nonce) = device(&folder, "report.bin");
    let policy = AppraisalPolicy::inspect();
    let whole = With {
        nonces: vec![nonce],
        endorsements: endorsements(rims(&folder, &hopper_rims()), ocsp(&folder)),
        policy: &policy,
        algorithms: &AWS,
        now: DEVICE_CLOCK,
        rim_at: Some(RIM_CLOCK),
    };
    let result = whole.appraise(std::slice::from_ref(&device));
    assert_eq!((result.outcome, result.code), (Outcome::Accepted, None), "{:#?}", result.checks);
    assert!(!result.simulated);
    assert_eq!(result.rim_time.as_deref(), Some("2025-10-24T12:00:00Z"));
    assert_eq!(result.valid_until.as_deref(), Some("2025-08-22T06:47:07Z"), "the first device answer to end");
    let compared = check(&result, "device_measurements");
    assert_eq!(compared.actual.to_string(), "device 0: 32 measurements equal their golden values");
    let facts = facts(&result);
    assert_eq!(facts.manifests.len(), 2);
    assert_eq!(facts.differences.as_deref(), Some(&[][..]));
    assert_eq!(
        facts.without_golden_value.as_deref(),
        Some(&[][..]),
        "its manifests vouch for all that it measures"
    );
    assert_eq!(status(&result, "rim_revocation"), [Status::Pass; 2]);

    // One clock: the answers of the signers do not hold at the devices' time, and the other way round.
    let one = With { rim_at: None, ..whole.clone() };
    assert_eq!(one.appraise(std::slice::from_ref(&device)).code, Some("rim_revocation"));
    let one = With { rim_at: None, now: RIM_CLOCK, ..whole.clone() };
    assert_eq!(one.appraise(std::slice::from_ref(&device)).code, Some("device_revocation"));

    // Every answer is needed: without it, its certificate is not known to be good.
    for left_out in 0..whole.endorsements.ocsp.len() {
        let mut fewer = whole.clone();
        fewer.endorsements.ocsp.remove(left_out);
        let code = fewer.appraise(std::slice::from_ref(&device)).code;
        assert!(matches!(code, Some("device_revocation" | "rim_revocation")), "{left_out}: {code:?}");
    }
    // And every manifest.
    for left_out in 0..2 {
        let mut fewer = whole.clone();
        fewer.endorsements.rims.remove(left_out);
        assert_eq!(fewer.appraise(std::slice::from_ref(&device)).code, Some("device_rim"), "{left_out}");
    }
    // What is changed in them is noticed, wherever it is.
    let (mut changed, mut malformed) = (0, 0);
    for index in 0..whole.endorsements.ocsp.len() {
        let original = whole.endorsements.ocsp[index].as_bytes().to_vec();
        for position in (0..original.len()).step_by(23) {
            let mut bytes = original.clone();
            bytes[position] ^= 1;
            let mut with = whole.clone();
            with.endorsements.ocsp[index] = bytes.into();
            let result = with.appraise(std::slice::from_ref(&device));
            assert_ne!(result.outcome, Outcome::Accepted, "answer {index}, byte {position}");
            changed += 1;
            malformed += usize::from(result.outcome == Outcome::Malformed);
        }
    }
    for index in 0..2 {
        let original = whole.endorsements.rims[index].as_bytes().to_vec();
        for position in (0..original.len()).step_by(211) {
            let mut bytes = original.clone();
            bytes[position] ^= 1;
            let mut with = whole.clone();
            with.endorsements.rims[index] = bytes.into();
            let result = with.appraise(std::slice::from_ref(&device));
            assert_ne!(result.outcome, Outcome::Accepted, "manifest {index}, byte {position}");
            changed += 1;
            malformed += usize::from(result.outcome == Outcome::Malformed);
        }
    }
    eprintln!("{changed} changed bytes in answers and manifests noticed, {malformed} of them as malformed");
    assert!(changed > 300 && malformed < changed);
}

#[test]
fn a_recorded_switch_has_all_31_measurements_of_its_manifest() {
    let Some(corpus) = corpus::folder("endorsed switches") else { return };
    let folder = corpus.join(SWITCH);
    let (device, nonce) = device(&folder, "report.hex");
    assert_eq!(device.kind, DeviceKind::NvidiaSwitch);
    let policy = without_revocation();
    let with = With {
        nonces: vec![nonce],
        endorsements: endorsements(rims(&folder, &["NV_SWITCH_BIOS_5612_0002_890_9610550001.xml"]), vec![]),
        policy: &policy,
        algorithms: &AWS,
        now: SWITCH_CLOCK,
        rim_at: None,
    };
    let result = with.appraise(std::slice::from_ref(&device));
    let compared = check(&result, "device_measurements");
    assert_eq!(compared.status, Status::Pass);
    assert_eq!(compared.actual.to_string(), "device 0: 31 measurements equal their golden values");
    assert_eq!(facts(&result).without_golden_value.as_deref(), Some(&[][..]), "a manifest has all 31");
    assert_eq!(result.code, Some("device_topology"), "a switch without its GPUs is no machine");
    // The index accepts the switch for itself, and so does a policy that says so.
    let mut alone = policy.clone();
    alone.devices.switches_with_gpus = Require::Waive("a switch is looked at alone".into());
    let accepted = With { policy: &alone, ..with.clone() }.appraise(std::slice::from_ref(&device));
    assert_eq!((accepted.outcome, accepted.code), (Outcome::Accepted, None), "{:#?}", accepted.checks);
    let waived = check(&accepted, "device_topology");
    assert_eq!(waived.status, Status::Waived);
    assert_eq!(waived.expected.to_string(), "waived: a switch is looked at alone");
    assert_eq!(waived.actual.to_string(), "1 switches without a GPU");
    assert_eq!(accepted.platform_binding, None, "nothing ties the switch to a machine");
    let early = With { now: SWITCH_CLOCK - 30 * 86_400, ..with };
    assert_eq!(early.appraise(&[device]).code, Some("rim_validity"));
}

#[test]
fn a_stale_issue_of_a_manifest_is_named_with_the_index_and_both_values() {
    let Some(corpus) = corpus::folder("stale manifests") else { return };
    let (device, nonce) = device(&corpus.join(STALE), "report.hex");
    let policy = without_revocation();
    let stale = "nvidia-nvtrust/rim/1010_0205_862_9600740020_PROD.swidtag";
    let with = With {
        nonces: vec![nonce],
        endorsements: endorsements(rims(&corpus, &[stale]), vec![]),
        policy: &policy,
        algorithms: &AWS,
        now: OLD_CLOCK,
        rim_at: None,
    };
    let result = with.appraise(&[device]);
    // No manifest of the driver is recorded.
    assert_eq!(result.code, Some("device_rim"));
    let compared = check(&result, "device_measurements");
    assert_eq!(compared.status, Status::Fail);
    let listed = facts(&result).differences.as_ref().unwrap();
    let [difference] = &listed[..] else { panic!("{listed:?}") };
    let version = difference.manifest_version.as_str();
    assert_eq!((difference.index, version), (9, "96.00.74.00.20"));
    let actual = compared.actual.to_string();
    assert!(actual.starts_with("device 0: 1 of 12 differ: index 9 ("), "{actual}");
    for part in [" is ", ", manifest GH100 96.00.74.00.20, SHA-256 ", " has "] {
        assert!(actual.contains(part), "{part}: {actual}");
    }
    let remedy = compared.remedy.as_ref().unwrap().to_string();
    assert!(remedy.contains("newest issue"), "{remedy}");
}

#[test]
fn a_signed_manifest_of_other_values_is_named_with_the_index() {
    let Some(corpus) = corpus::folder("manifests of other values") else { return };
    let sdk = corpus.join("nvidia-attestation-sdk");
    let (device, nonce) = device(&sdk.join("hopper-535.86.09"), "report.hex");
    let policy = without_revocation();
    let other = "NV_GPU_VBIOS_1010_0200_882_96005E0001_measurement_mismatch.xml";
    let with = With {
        nonces: vec![nonce],
        endorsements: endorsements(rims(&sdk.join("negative"), &[other]), vec![]),
        policy: &policy,
        algorithms: &AWS,
        now: OLD_CLOCK,
        rim_at: None,
    };
    let result = with.appraise(&[device]);
    assert_eq!(status(&result, "rim_signature"), [Status::Pass]);
    let actual = check(&result, "device_measurements").actual.to_string();
    assert!(actual.starts_with("device 0: 1 of ") && actual.contains(" differ: index 9 ("), "{actual}");
}

#[test]
fn manifests_that_must_be_refused_are_refused_for_their_own_reason() {
    let Some(corpus) = corpus::folder("refused manifests") else { return };
    let negative = "nvidia-attestation-sdk/negative";
    for (folder, report, manifest, now, code) in [
        (
            "nvidia-attestation-sdk/hopper-535.86.09",
            "report.hex",
            "NV_GPU_DRIVER_GH100_535.86.09_measurement_mismatch.xml",
            1_750_000_000,
            "rim_signature",
        ),
        (
            "nvidia-attestation-sdk/hopper-570.124.03",
            "report.hex",
            "NV_GPU_DRIVER_GH100_570.124.03_expired.xml",
            1_750_000_000,
            "rim_signature",
        ),
    ] {
        let (device, nonce) = device(&corpus.join(folder), report);
        let policy = without_revocation();
        let rims = rims(&corpus.join(negative), &[manifest]);
        let with = With {
            nonces: vec![nonce],
            endorsements: endorsements(rims, vec![]),
            policy: &policy,
            algorithms: &AWS,
            now,
            rim_at: None,
        };
        let result = with.appraise(&[device]);
        assert_eq!(status(&result, code), [Status::Fail], "{manifest}: {:#?}", result.checks);
        assert_eq!(status(&result, "device_measurements"), [Status::NotRun], "{manifest}");
    }
}

#[test]
fn recorded_lists_of_machines_are_read_and_accepted_but_for_their_manifests() {
    let Some(corpus) = corpus::folder("evidence lists") else { return };
    let lists = |names: &[&str]| {
        let mut all = Vec::new();
        for name in names {
            all.extend(evidence_list(&std::fs::read(corpus.join(name)).unwrap()).unwrap());
        }
        all
    };
    let folder = "nvidia-nvtrust/ppcie-8gpu-4switch";
    let listed = lists(&[&format!("{folder}/gpu_evidence.json"), &format!("{folder}/switch_evidence.json")]);
    let mut policy = without_revocation();
    policy.devices.rim = Require::Waive("no manifests are recorded".into());
    let with = With {
        nonces: listed.iter().map(|listed| listed.nonce).collect(),
        endorsements: endorsements(vec![], vec![]),
        policy: &policy,
        algorithms: &AWS,
        now: SWITCH_CLOCK,
        rim_at: None,
    };
    let devices: Vec<_> = listed.into_iter().map(|listed| listed.device).collect();
    let result = with.appraise(&devices);
    assert_eq!(result.code, None, "{:#?}", result.checks);
    assert_eq!(result.platform_binding, Some("topology"));
    let short = With { nonces: with.nonces[..11].to_vec(), ..with };
    assert_eq!(
        short.appraise(&devices).code,
        Some("device_nonce"),
        "a device without a nonce answers nobody"
    );
}

/// The rules of a manifest, in order, behind which none runs where one fails.
const MANIFEST_RULES: [&str; 6] =
    ["rim_root_anchor", "rim_chain", "rim_signature", "rim_product", "rim_validity", "rim_revocation"];

/// Simulated devices under NVIDIA's own root for manifests: they need exactly the manifest that is asked about.
fn for_recorded_manifests() -> AppraisalPolicy {
    let text = include_str!("../../../policies/danger-simulator.toml");
    let mut policy = AppraisalPolicy::parse(text, Loaded::AsDanger).unwrap();
    let roots = NVIDIA_RIM_ROOTS.iter().map(|root| HexBytes(*root)).collect();
    policy.danger.as_mut().unwrap().rim_root_spki_sha256 = roots;
    policy.devices.gpu_count = Expect::Waive("switches are asked about, too".into());
    policy.devices.rim = Require::Required;
    policy.devices.revocation = Require::Waive("no answers are recorded".into());
    policy
}

/// A device that reports the chip and version that a manifest is for.
fn device_for(rim: &Rim, nonce: [u8; 32]) -> DeviceEvidence {
    let version = rim.colloquial_version.clone();
    if rim.edition == Edition::Switch {
        let options = SwitchOptions { bios_version: version, ..SwitchOptions::ls10(0) };
        let switch = SimulatedSwitch::with_options(options).unwrap();
        let (chain, report) = (switch.chain_pem().into_bytes().into(), switch.report(nonce).into());
        return DeviceEvidence { kind: DeviceKind::NvidiaSwitch, chain, report };
    }
    assert_eq!(rim.product, "GH100");
    let mut options = GpuOptions::hopper(0);
    // The decoder is on, so that no measurement is left out.
    options.nvdec0 = 0xaa;
    let parts: Vec<&str> = version.split('.').collect();
    match parts.as_slice() {
        [one, two, three, four, five] => {
            // VBIOS_VERSION holds them as bytes 3, 2, 1, 0 and 4.
            let [b3, b2, b1, b0, b4] =
                [one, two, three, four, five].map(|part| u8::from_str_radix(part, 16).unwrap());
            options.vbios_version = [b0, b1, b2, b3, b4, 0, 0, 0];
        }
        _ => options.driver_version = version,
    }
    evidence_of(&SimulatedGpu::with_options(options).unwrap(), nonce)
}

fn evidence_of(gpu: &SimulatedGpu, nonce: [u8; 32]) -> DeviceEvidence {
    let (chain, report) = (gpu.chain_pem().into_bytes().into(), gpu.report(nonce).into());
    DeviceEvidence { kind: DeviceKind::NvidiaGpu, chain, report }
}

/// What a device's verdict says of the one manifest that was given for it, at a time.
fn verdict_on(recorded: &Recorded, policy: &AppraisalPolicy, now: i64) -> AttestationResult {
    let nonce = [7; 32];
    let device = match Rim::parse(&recorded.document) {
        Ok(rim) => device_for(&rim, nonce),
        // No manifest for any device.
        Err(_) => evidence_of(&SimulatedGpu::new(0).unwrap(), nonce),
    };
    let with = With {
        nonces: vec![nonce],
        endorsements: endorsements(vec![recorded.document.clone()], vec![]),
        policy,
        algorithms: &AWS,
        now,
        rim_at: None,
    };
    with.appraise(&[device])
}

/// How each rule of the manifest ended.
fn rules_of(result: &AttestationResult) -> Vec<Status> {
    MANIFEST_RULES.iter().flat_map(|code| status(result, code)).collect()
}

/// That the rules before this one hold, this one does not, and none behind it was reached.
fn fails_at(code: &str) -> Vec<Status> {
    let place = MANIFEST_RULES.iter().position(|rule| *rule == code).unwrap();
    let status = |index: usize| match index.cmp(&place) {
        std::cmp::Ordering::Less => Status::Pass,
        std::cmp::Ordering::Equal => Status::Fail,
        std::cmp::Ordering::Greater => Status::NotRun,
    };
    (0..MANIFEST_RULES.len()).map(status).collect()
}

#[test]
fn every_recorded_manifest_gets_the_verdict_of_the_index() {
    let Some(corpus) = manifests::folder("verdicts") else { return };
    let policy = for_recorded_manifests();
    let mut codes = std::collections::BTreeMap::<&str, usize>::new();
    for recorded in manifests::rims(&corpus) {
        let source = &recorded.source;
        let day = |day: &str| parse_seconds(&format!("{day}T12:00:00Z")).unwrap();
        let [from, until] = [day(&recorded.window[0]), day(&recorded.window[1])];
        let inside = from.midpoint(until);
        let expected = match (recorded.pinned, recorded.verdict) {
            // Its chain has no certificate to end in.
            (false, _) => "rim_format",
            (true, Verdict { digest: true, signature: true }) => "holds",
            (true, _) => "rim_signature",
        };
        *codes.entry(expected).or_default() += 1;
        let result = verdict_on(&recorded, &policy, inside);
        if expected == "rim_format" {
            assert_eq!((result.outcome, result.code), (Outcome::Malformed, Some(expected)), "{source}");
            assert!(rules_of(&result).is_empty() && facts(&result).manifests.is_empty(), "{source}");
            continue;
        }
        assert_eq!(facts(&result).manifests[0].version, recorded.version, "{source}");
        if expected == "rim_signature" {
            assert_eq!(rules_of(&result), fails_at(expected), "{source}: {:#?}", result.checks);
            assert_eq!(status(&result, "device_measurements"), [Status::NotRun], "{source}");
            assert_eq!(facts(&result).differences, None, "{source}");
            continue;
        }
        // Nothing is recorded about revocation, and the policy of this test waives it.
        let mut holds = vec![Status::Pass; MANIFEST_RULES.len()];
        *holds.last_mut().unwrap() = Status::NotRun;
        assert_eq!(rules_of(&result), holds, "{source}: {:#?}", result.checks);
        // It is compared, and a simulated device has none of its values.
        assert_eq!(status(&result, "device_measurements"), [Status::Fail], "{source}");
        let compared = check(&result, "device_measurements").actual.to_string();
        let active = format!(" of {} differ", recorded.active);
        assert!(compared.contains(&active), "{source}: {active}: {compared}");
        // The device's result lists them all, with what the manifest says.
        let listed = facts(&result).differences.as_ref().unwrap();
        let told = format!("device 0: {} of {} differ", listed.len(), recorded.active);
        assert!(compared.starts_with(&told), "{source}: {told}: {compared}");
        let rim = Rim::parse(&recorded.document).unwrap();
        for difference in listed {
            let golden = rim.measurements.iter().find(|golden| golden.index == difference.index).unwrap();
            assert_eq!(golden.activity, Activity::Active, "{source}");
            assert_eq!(difference.name, golden.name, "{source}");
            let values: Vec<_> = difference.golden.iter().map(|value| value.0).collect();
            assert_eq!(values, golden.alternatives, "{source}");
            let actual = difference.actual.map(|value| value.0);
            assert!(actual.is_some_and(|actual| !golden.alternatives.contains(&actual)), "{source}");
            assert_eq!(difference.manifest_version, recorded.version, "{source}");
            let digest: [u8; 32] = Sha256::digest(&recorded.document).into();
            assert_eq!(difference.manifest_sha256.0, digest, "{source}");
        }
        for outside in [from - 2 * 86_400, until + 2 * 86_400] {
            let result = verdict_on(&recorded, &policy, outside);
            assert_eq!(rules_of(&result), fails_at("rim_validity"), "{source} at {outside}");
        }
    }
    eprintln!("{} recorded manifests: {codes:?}", codes.values().sum::<usize>());
    assert_eq!(codes, [("holds", 31), ("rim_format", 1), ("rim_signature", 5)].into());
}
