//! Recorded devices with their recorded manifests and OCSP answers: the whole appraisal.
#![allow(clippy::unwrap_used, clippy::print_stderr, clippy::disallowed_methods, reason = "tests read files")]

mod algorithms;
#[path = "../../evidence/tests/support/nvidia_corpus.rs"]
mod corpus;
mod devices;

use algorithms::AWS;
use confide_evidence::document::{DeviceEvidence, DeviceKind, NvidiaEndorsements};
use confide_evidence::nvidia::{Report, decoded, device_of, evidence_list};
use confide_policy::{AppraisalPolicy, Require};
use confide_verifier::{AttestationResult, Outcome, Status};
use devices::{With, status};
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
    assert_eq!(result.devices[0].manifests.len(), 2);
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
    assert_eq!(result.code, Some("device_topology"), "a switch without its GPUs is no machine");
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
    let actual = compared.actual.to_string();
    assert!(actual.starts_with("device 0: 1 of 12 differ: index 9 ("), "{actual}");
    for part in [" is ", ", manifest GH100 96.00.74.00.20, SHA-256 ", " has "] {
        assert!(actual.contains(part), "{part}: {actual}");
    }
    let remedy = compared.remedy.as_ref().unwrap().to_string();
    assert!(remedy.contains("newest issue"), "{remedy}");
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
