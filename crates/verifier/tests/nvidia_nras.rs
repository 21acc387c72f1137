//! What NVIDIA's attestation service says of devices, as a second opinion: machines, attacks, the recorded answers.
#![allow(clippy::unwrap_used, clippy::print_stderr, clippy::disallowed_methods, reason = "tests read files")]

mod algorithms;
#[path = "../../evidence/tests/support/nvidia_corpus.rs"]
mod corpus;
mod devices;

use algorithms::{AWS, RING};
use confide_evidence::document::{DeviceEvidence, DeviceKind, NvidiaEndorsements};
use confide_evidence::hex;
use confide_evidence::nvidia::{NrasAnswer, Report, decoded, device_of};
use confide_evidence::record::NrasOpinion;
use confide_policy::{AppraisalPolicy, Require};
use confide_simulator::{NrasDevice, NrasFlaw, NrasOptions, SimulatedNode};
use confide_verifier::{AttestationResult, Outcome, Status};
use devices::{With, status};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// 2026-10-01, inside every device certificate's window.
const NOW: i64 = 1_790_812_800;
const NONCE: [u8; 32] = [0x41; 32];

/// The policy that accepts the simulator, without manifests and revocation, for that many GPUs of a mode.
fn policy(gpus: usize, mode: &str) -> AppraisalPolicy {
    let text = include_str!("../../../policies/danger-simulator.toml");
    let text = text.replace("gpu_count = { any_of = [1] }", &format!("gpu_count = {{ any_of = [{gpus}] }}"));
    let text = text.replace("mode = { any_of = [\"spt\"] }", &format!("mode = {{ any_of = [\"{mode}\"] }}"));
    let mut policy = AppraisalPolicy::parse_recorded(&text).unwrap();
    policy.devices.vbios_floor = confide_policy::Floor::Waive("a switch has none in this test".into());
    policy.devices.nras = Require::Required;
    policy
}

fn no_endorsements() -> NvidiaEndorsements {
    NvidiaEndorsements { crls: Vec::new(), ocsp: Vec::new(), rims: Vec::new() }
}

/// A machine's evidence under one nonce.
fn evidence(node: &SimulatedNode) -> Vec<DeviceEvidence> {
    let device = |kind, chain: String, report: Vec<u8>| DeviceEvidence {
        kind,
        chain: chain.into_bytes().into(),
        report: report.into(),
    };
    let gpus = node.gpus.iter().map(|gpu| device(DeviceKind::NvidiaGpu, gpu.chain_pem(), gpu.report(NONCE)));
    let switches = node
        .switches
        .iter()
        .map(|switch| device(DeviceKind::NvidiaSwitch, switch.chain_pem(), switch.report(NONCE)));
    gpus.chain(switches).collect()
}

/// The service's answers about GPUs and switches, each of one request.
fn asked(node: &SimulatedNode) -> [NrasOptions; 2] {
    let time = u64::try_from(NOW).unwrap();
    let gpus = node.gpus.iter().map(NrasDevice::gpu).collect();
    let switches = node.switches.iter().map(NrasDevice::switch).collect();
    [NrasOptions::new(NONCE, time, gpus), NrasOptions::new(NONCE, time, switches)]
}

fn opinion(answers: &[NrasOptions]) -> NrasOpinion {
    NrasOpinion {
        jwks: answers[0].jwks().unwrap().into_bytes().into(),
        answers: answers.iter().map(|answer| answer.answer().unwrap().into_bytes().into()).collect(),
    }
}

fn appraise(
    policy: &AppraisalPolicy,
    devices: &[DeviceEvidence],
    opinion: Option<&NrasOpinion>,
) -> AttestationResult {
    let with = With {
        nonces: vec![NONCE; devices.len()],
        endorsements: no_endorsements(),
        policy,
        algorithms: &AWS,
        now: NOW,
        rim_at: None,
    };
    let result = with.appraise_with(devices, opinion);
    let other = With { algorithms: &RING, ..with }.appraise_with(devices, opinion);
    assert_eq!(result.to_json(), other.to_json(), "both backends");
    result
}

#[test]
fn a_machine_of_gpus_and_switches_has_two_answers() {
    let node = SimulatedNode::ppcie(8, 4).unwrap();
    let (devices, policy, answers) = (evidence(&node), policy(8, "ppcie"), asked(&node));
    let result = appraise(&policy, &devices, Some(&opinion(&answers)));
    assert_eq!(result.code, None, "{}", result.to_json());
    assert_eq!((status(&result, "nras"), result.simulated), (vec![Status::Pass], true));
    assert_eq!(result.valid_until.as_deref(), Some("2026-10-01T00:59:59Z"), "no longer than the tokens");
    // The switches' alone, the GPUs' alone, and those of the GPUs twice.
    let [gpus, switches] = &answers;
    for some in [vec![switches.clone()], vec![gpus.clone()], vec![gpus.clone(), gpus.clone()]] {
        let result = appraise(&policy, &devices, Some(&opinion(&some)));
        assert_eq!(result.code, Some("nras_devices"), "{}", some.len());
    }
    // A GPU's serial number under a switch's name.
    let mut misnamed = answers.clone();
    misnamed[1].devices[0].serial = answers[0].devices[0].serial.clone();
    misnamed[0].devices[0].serial = answers[1].devices[0].serial.clone();
    assert_eq!(appraise(&policy, &devices, Some(&opinion(&misnamed))).code, Some("nras_devices"));
    let result = appraise(&policy, &devices, None);
    assert_eq!((result.code, status(&result, "nras")), (Some("nras"), vec![Status::Fail]));
}

#[test]
fn tokens_that_change_places_are_refused() {
    let node = SimulatedNode::ppcie(8, 4).unwrap();
    let (devices, policy, honest) = (evidence(&node), policy(8, "ppcie"), asked(&node));
    let mut exchanged = honest.clone();
    exchanged[0].flaw = NrasFlaw::ExchangedTokens;
    assert_eq!(appraise(&policy, &devices, Some(&opinion(&exchanged))).code, Some("nras_digest"));
    // A device's token in place of the overall one: both are signed by the service's key.
    let answer = honest[0].answer().unwrap();
    let bundle: serde_json::Value = serde_json::from_str(&answer).unwrap();
    let overall = bundle[0][1].as_str().unwrap();
    let in_its_place = answer.replace(overall, bundle[1]["GPU-0"].as_str().unwrap());
    let mut given = opinion(&honest);
    given.answers[0] = in_its_place.into_bytes().into();
    assert_eq!(appraise(&policy, &devices, Some(&given)).code, Some("nras_format"));
    // The overall token of another moment, with the same devices and nonce.
    let mut later = honest[0].clone();
    later.issued_at -= 1;
    let of_later: serde_json::Value = serde_json::from_str(&later.answer().unwrap()).unwrap();
    given.answers[0] = answer.replace(overall, of_later[0][1].as_str().unwrap()).into_bytes().into();
    assert_eq!(appraise(&policy, &devices, Some(&given)).code, Some("nras_digest"));
}

#[test]
fn more_tokens_than_devices_may_be_are_refused_before_a_signature_is_looked_at() {
    let node = SimulatedNode::ppcie(8, 4).unwrap();
    let (devices, policy) = (evidence(&node), policy(8, "ppcie"));
    let [gpus, _] = asked(&node);
    let five = vec![gpus; 5];
    let result = appraise(&policy, &devices, Some(&opinion(&five)));
    assert_eq!((result.code, result.outcome), (Some("nras_format"), Outcome::Malformed));
    assert_eq!(status(&result, "nras_signature"), [Status::NotRun]);
    for count in [0, 33] {
        let given = NrasOpinion { jwks: vec![].into(), answers: vec![vec![].into(); count] };
        assert_eq!(appraise(&policy, &devices, Some(&given)).code, Some("nras_format"), "{count}");
    }
}

#[test]
fn vendor_policies_trust_nvidias_authorities_alone() {
    let node = SimulatedNode::ppcie(1, 1).unwrap();
    let devices = &evidence(&node)[..1];
    let [gpus, _] = asked(&node);
    let mut policy = policy(1, "ppcie");
    if let Some(danger) = &mut policy.danger {
        danger.nras_root_spki_sha256 =
            AppraisalPolicy::client().nras_roots().into_iter().map(confide_policy::HexBytes).collect();
    }
    let result = appraise(&policy, devices, Some(&opinion(&[gpus])));
    assert_eq!(status(&result, "nras_anchor"), [Status::Fail]);
}

#[test]
fn every_recorded_answer_gets_its_verdict() {
    let Some(folder) = corpus::folder_for("2 recorded answers of NVIDIA's attestation service") else {
        return;
    };
    let sdk = folder.join("nvidia-attestation-sdk");
    let read = |path: &str| std::fs::read(folder.join(path)).unwrap();
    // Issuer, folder and report of the device that the answer is about, and a second in the answer's hour.
    let cases = [
        (
            "nras/hopper-claims-v3-detached-eat.json",
            "https://nras.attestation.nvidia.com",
            ("google-go-nvattest-tools/hopper-550.90.07-full", "report.bin"),
            1_749_601_900,
        ),
        (
            "nras/switch-detached-eat-STAGING.json",
            "https://nras.attestation-stg.nvidia.com",
            ("nvidia-attestation-sdk/ls10-96.10.55.00.01", "report.hex"),
            1_751_155_100,
        ),
    ];
    for (file, issuer, (of, report), now) in cases {
        let bytes = std::fs::read(sdk.join(file)).unwrap();
        let answer = NrasAnswer::parse(&bytes).unwrap();
        let [device] = &answer.devices[..] else { panic!("one device") };
        // What the index says of it: the digest holds, and who says it.
        let digest: [u8; 32] = Sha256::digest(&device.token.compact).into();
        assert_eq!(answer.overall.digests[&device.name], digest, "{file}");
        assert_eq!((answer.overall.stamp.issuer.as_str(), answer.overall.result), (issuer, true));
        assert!(device.against.is_empty() && device.signature && !device.warning, "{:?}", device.against);
        // It is about a device whose evidence is recorded, too.
        let report = decoded(&read(&format!("{of}/{report}"))).unwrap();
        let evidence = device_of(&report, &read(&format!("{of}/chain.pem"))).unwrap();
        let nonce = *Report::parse(&report).unwrap().nonce;
        assert_eq!((device.stamp.nonce, device.firmware.is_empty()), (nonce, false));
        let mut policy = AppraisalPolicy::inspect();
        let waived = || Require::Waive("no manifests in this test".into());
        (policy.devices.rim, policy.devices.revocation) = (waived(), waived());
        let with = With {
            nonces: vec![nonce],
            endorsements: no_endorsements(),
            policy: &policy,
            algorithms: &AWS,
            now,
            rim_at: None,
        };
        let devices = [evidence];
        let alone = with.appraise(&devices);
        // A switch without its machine is refused for that, and for nothing else.
        let refused = alone.checks.iter().filter(|check| check.status == Status::Fail);
        assert!(refused.map(|check| check.code).all(|code| code == "device_topology"), "{}", alone.to_json());
        // The key set of that day is not recorded: the signature cannot be verified, and nothing is believed. So also the token
        // of staging is refused for its key, and its issuer is not looked at.
        let node = SimulatedNode::ppcie(1, 1).unwrap();
        let jwks = asked(&node)[0].jwks().unwrap().into_bytes().into();
        let given = NrasOpinion { jwks, answers: vec![bytes.into()] };
        let result = with.appraise_with(&devices, Some(&given));
        assert_eq!(result.outcome, Outcome::Rejected, "{file}");
        assert_eq!(status(&result, "nras_format"), [Status::Pass]);
        assert_eq!(status(&result, "nras_key"), [Status::Fail]);
        assert_eq!(status(&result, "nras_issuer"), [Status::NotRun]);
        assert_eq!(status(&result, "nras"), [Status::NotRun]);
    }
}

/// An unsigned big-endian number in decimal.
fn decimal(bytes: &[u8]) -> String {
    let mut digits = vec![0u8];
    for byte in bytes {
        let mut carry = u32::from(*byte);
        for digit in &mut digits {
            carry += u32::from(*digit) * 256;
            *digit = u8::try_from(carry % 10).unwrap();
            carry /= 10;
        }
        while carry > 0 {
            digits.push(u8::try_from(carry % 10).unwrap());
            carry /= 10;
        }
    }
    digits.iter().rev().map(|digit| char::from(b'0' + digit)).collect()
}

#[test]
fn recorded_answers_are_read_as_they_were_recorded_decoded() {
    let Some(folder) = corpus::folder_for("2 recorded answers of NVIDIA's attestation service, decoded")
    else {
        return;
    };
    let nras = folder.join("nvidia-attestation-sdk/nras");
    for (answer, decoded, firmware) in [
        ("hopper-claims-v3-detached-eat.json", "hopper-claims-v3-decoded.json", "x-nvidia-gpu-vbios-version"),
        ("switch-detached-eat-STAGING.json", "switch-decoded-STAGING.json", "x-nvidia-switch-bios-version"),
    ] {
        let answer = NrasAnswer::parse(&std::fs::read(nras.join(answer)).unwrap()).unwrap();
        let claims: Value = serde_json::from_slice(&std::fs::read(nras.join(decoded)).unwrap()).unwrap();
        let [device] = &answer.devices[..] else { panic!("one device") };
        let claims = &claims[device.name.to_string()];
        let stamp = &device.stamp;
        assert_eq!(claims["iss"], stamp.issuer.as_str(), "{decoded}");
        assert_eq!(claims["eat_nonce"], hex::encode(&stamp.nonce), "{decoded}");
        assert_eq!(claims["ueid"], decimal(&device.serial), "{decoded}");
        assert_eq!(claims["measres"], device.measurements.as_str(), "{decoded}");
        assert_eq!(claims[firmware], device.firmware.as_str(), "{decoded}");
        assert_eq!(claims["x-nvidia-gpu-driver-version"].as_str(), device.driver.as_deref(), "{decoded}");
    }
}
