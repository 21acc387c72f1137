//! Every recorded NVIDIA report that verifies is authentic here too, and nothing else is.
#![allow(clippy::unwrap_used, clippy::print_stderr, clippy::disallowed_methods, reason = "tests read files")]

mod algorithms;
#[path = "../../evidence/tests/support/nvidia_corpus.rs"]
mod corpus;
mod devices;

use algorithms::{AWS, RING};
use aws_lc_rs::signature::{ECDSA_P384_SHA384_ASN1, UnparsedPublicKey};
use std::collections::BTreeMap;

use confide_evidence::document::NvidiaEndorsements;
use confide_evidence::document::{DeviceEvidence, DeviceKind as DocumentKind};
use confide_evidence::nvidia::{DeviceKind, Report};
use confide_evidence::pem;
use confide_evidence::x509::{Certificate, KeyAlgorithm};
use confide_policy::{AppraisalPolicy, NVIDIA_DEVICE_ROOTS, NVIDIA_NRAS_ISSUERS, NVIDIA_RIM_ROOTS};
use confide_verifier::{Algorithms, AttestationResult, DeviceOutcome, Outcome, Status};
use corpus::Item;
use devices::{With, status};
use sha2::{Digest as _, Sha256};

/// 2026-10-01, inside every device certificate's window.
const NOW: i64 = 1_790_812_800;

fn device(item: &Item) -> DeviceEvidence {
    let kind = match Report::parse(&item.report).map(|report| report.kind) {
        Ok(DeviceKind::Switch) => DocumentKind::NvidiaSwitch,
        _ => DocumentKind::NvidiaGpu,
    };
    DeviceEvidence { kind, chain: item.chain.clone().into(), report: item.report.clone().into() }
}

/// The built-in policy without manifests and revocation.
fn policy() -> AppraisalPolicy {
    let mut policy = AppraisalPolicy::inspect();
    let reason = || confide_policy::Require::Waive("no manifests in this test".into());
    (policy.devices.rim, policy.devices.revocation) = (reason(), reason());
    policy
}

/// Appraises devices that answer the nonce in the first one's report.
fn appraise(devices: &[DeviceEvidence], algorithms: &Algorithms) -> AttestationResult {
    under(&policy(), devices, algorithms)
}

fn under(policy: &AppraisalPolicy, devices: &[DeviceEvidence], algorithms: &Algorithms) -> AttestationResult {
    let nonce = Report::parse(devices[0].report.as_bytes()).map(|report| *report.nonce).unwrap_or_default();
    let nonces = vec![nonce; devices.len()];
    let endorsements = NvidiaEndorsements { crls: Vec::new(), ocsp: Vec::new(), rims: Vec::new() };
    With { nonces, endorsements, policy, algorithms, now: NOW, rim_at: None }.appraise(devices)
}

#[test]
fn genuine_reports_verify_and_broken_ones_do_not() {
    let Some(folder) = corpus::folder("report verification") else { return };
    let (mut genuine, mut broken) = (0, 0);
    for item in corpus::items(&folder) {
        let result = appraise(&[device(&item)], &AWS);
        assert!(!result.simulated, "{}", item.source);
        if item.genuine {
            genuine += 1;
            for code in
                ["device_root_anchor", "device_chain_signatures", "device_report_signature", "device_nonce"]
            {
                assert_eq!(status(&result, code), [Status::Pass], "{}: {code}", item.source);
            }
            let [device] = &result.devices[..] else { panic!("{}", item.source) };
            assert!(device.facts.is_some(), "{}", item.source);
        } else {
            broken += 1;
            assert_eq!(result.code, Some("device_report_signature"), "{}", item.source);
            assert_eq!(result.outcome, Outcome::Rejected);
            let [device] = &result.devices[..] else { panic!("{}", item.source) };
            assert_eq!((device.position, device.outcome), (0, DeviceOutcome::Rejected), "{}", item.source);
            assert_eq!(device.code, Some("device_report_signature"), "{}", item.source);
            assert_eq!(device.facts, None, "no fact is told of a report that does not verify");
        }
    }
    eprintln!("{genuine} recorded reports verified, {broken} broken ones rejected");
    assert_eq!((genuine, broken), (52, 3));
}

#[test]
fn verdicts_on_single_devices_follow_the_index() {
    let Some(folder) = corpus::folder("device verdicts") else { return };
    let mut codes: BTreeMap<&str, usize> = BTreeMap::new();
    let mut switches = 0;
    for item in corpus::items(&folder) {
        let result = appraise(&[device(&item)], &AWS);
        let [of_device] = &result.devices[..] else { panic!("{}", item.source) };
        let mode = of_device.facts.as_ref().map(|facts| facts.mode.as_str());
        let expected = match item.expected.get("fwid").map(String::as_str) {
            _ if !item.genuine => Some("device_report_signature"),
            // The 535 driver reports no firmware id; switches never do.
            Some("absent") if item.expected["board"] != "LS10" => Some("device_fwid"),
            // One device of a protected PCIe machine does not make the machine; neither does a switch alone.
            _ if mode == Some("ppcie") || of_device.kind == "nvidia-switch" => Some("device_topology"),
            _ => None,
        };
        assert_eq!(result.code, expected, "{}", item.source);
        // That a machine is incomplete is not the device's own fault.
        let own = expected.filter(|code| *code != "device_topology");
        assert_eq!(of_device.code, own, "{}", item.source);
        assert_eq!(of_device.outcome == DeviceOutcome::Accepted, own.is_none(), "{}", item.source);
        if item.genuine && of_device.kind == "nvidia-switch" {
            let mut alone = policy();
            alone.devices.switches_with_gpus = confide_policy::Require::Waive("a switch alone".into());
            assert_eq!(under(&alone, &[device(&item)], &AWS).code, None, "{}", item.source);
            switches += 1;
        }
        *codes.entry(result.code.unwrap_or("accepted")).or_default() += 1;
    }
    eprintln!("{codes:?}, {switches} switches accepted by a policy that takes them alone");
    assert!(switches > 0);
}

#[test]
fn swapped_chains_are_rejected() {
    let Some(folder) = corpus::folder("chain swaps") else { return };
    let items: Vec<_> = corpus::items(&folder).into_iter().filter(|item| item.genuine).collect();
    let mut swapped = 0;
    for (item, other) in items.iter().zip(items.iter().cycle().skip(1)) {
        if leaf(item) == leaf(other) {
            continue;
        }
        let mut device = device(item);
        device.chain = other.chain.clone().into();
        let result = appraise(&[device], &AWS);
        assert_eq!(result.code, Some("device_report_signature"), "{} under {}", item.source, other.source);
        swapped += 1;
    }
    eprintln!("{swapped} reports under foreign chains rejected");
    assert!(swapped > 30);
}

#[test]
fn a_recorded_switchs_report_holds_under_its_own_chain_alone() {
    let Some(folder) = corpus::folder("the chains of switches") else { return };
    let items = corpus::items(&folder);
    let report =
        items.iter().find(|item| item.source.starts_with("google-go-nvattest-tools/ls10-1234/")).unwrap();
    let of_machine = items.iter().filter(|item| {
        item.source.starts_with("google-go-nvattest-tools/ppcie-8gpu-4switch/")
            && Report::parse(&item.report).is_ok_and(|report| report.kind == DeviceKind::Switch)
    });
    let mut verdicts = Vec::new();
    for chain in of_machine {
        let mut device = device(report);
        device.chain = chain.chain.clone().into();
        verdicts.extend(status(&appraise(&[device], &AWS), "device_report_signature"));
    }
    // The index: it is the second switch of this machine.
    assert_eq!(verdicts, [Status::Fail, Status::Pass, Status::Fail, Status::Fail]);
}

#[test]
fn a_signer_of_manifests_is_no_trust_anchor() {
    let Some(folder) = corpus::folder_for("the recorded signer that must not be a trust anchor") else {
        return;
    };
    let file = folder.join("nvidia-attestation-sdk/negative/rim-wrong-root.crt");
    let der = pem::certificates(&std::fs::read(file).unwrap()).unwrap().remove(0);
    let key = Sha256::digest(&Certificate::parse(&der).unwrap().spki);
    let anchors = [NVIDIA_RIM_ROOTS, NVIDIA_DEVICE_ROOTS, NVIDIA_NRAS_ISSUERS].concat();
    assert!(anchors.len() >= 4 && !anchors.contains(&key.into()));
}

/// SHA-256 of the key of the one certificate in a file.
fn key_of(file: &std::path::Path) -> [u8; 32] {
    let ders = pem::certificates(&std::fs::read(file).unwrap()).unwrap();
    let [der] = &ders[..] else { panic!("{} certificates in {}", ders.len(), file.display()) };
    let certificate = Certificate::parse(der).unwrap();
    assert_eq!(certificate.subject, certificate.issuer, "{}", file.display());
    let key = UnparsedPublicKey::new(&ECDSA_P384_SHA384_ASN1, &certificate.public_key);
    key.verify(certificate.tbs(), &certificate.signature).unwrap();
    Sha256::digest(&certificate.spki).into()
}

#[test]
fn the_roots_that_nvidias_tools_carry_are_the_pinned_anchors() {
    let Some(folder) = corpus::folder_for("the recorded trust anchors of NVIDIA's tools") else { return };
    for (file, anchors) in [
        ("nvidia-attestation-sdk/roots/rim_root.crt", NVIDIA_RIM_ROOTS),
        ("nvidia-nvtrust/roots/verifier_RIM_root.pem", NVIDIA_RIM_ROOTS),
        ("nvidia-nvtrust/roots/verifier_device_root.pem", NVIDIA_DEVICE_ROOTS),
    ] {
        assert_eq!([key_of(&folder.join(file))], *anchors, "{file}");
    }
}

#[test]
fn the_certificate_of_googles_parser_test_is_no_trust_anchor() {
    let Some(folder) = corpus::folder_for("the certificate of Google's parser test") else { return };
    let folder = folder.join("google-go-nvattest-tools/rim-parser-cases");
    let text = std::fs::read_to_string(folder.join("test_valid_root_cert.dat")).unwrap();
    let ders = pem::certificates(text.as_bytes()).unwrap();
    let [der] = &ders[..] else { panic!("{} certificates", ders.len()) };
    // It is that of the signed XML beside it, which is no manifest, and has a key of another kind than any of NVIDIA's.
    let signed = std::fs::read_to_string(folder.join("valid_signed_xml.xml")).unwrap();
    let base64: String = text.lines().filter(|line| !line.starts_with("-----")).collect();
    let joined: String = signed.split_whitespace().collect();
    assert!(joined.contains(&format!("<ds:X509Certificate>{base64}</ds:X509Certificate>")));
    let certificate = Certificate::parse(der).unwrap();
    assert_eq!(certificate.key_algorithm, KeyAlgorithm::Rsa2048);
    let key: [u8; 32] = Sha256::digest(&certificate.spki).into();
    let anchors = [NVIDIA_RIM_ROOTS, NVIDIA_DEVICE_ROOTS, NVIDIA_NRAS_ISSUERS].concat();
    assert!(!anchors.contains(&key));
}

fn leaf(item: &Item) -> Vec<u8> {
    confide_evidence::nvidia::DeviceChain::parse(&item.chain).unwrap().leaf().der.clone()
}

#[test]
fn recorded_machines_are_accepted_as_a_set_and_mixtures_are_not() {
    let Some(folder) = corpus::folder("machines") else { return };
    let items = corpus::items(&folder);
    let machine = |prefix: &str| -> Vec<DeviceEvidence> {
        items.iter().filter(|item| item.source.starts_with(prefix)).map(device).collect()
    };
    let nvidia = machine("nvidia-nvtrust/ppcie-8gpu-4switch/");
    let google = machine("google-go-nvattest-tools/ppcie-8gpu-4switch/");
    let mpt = machine("google-go-nvattest-tools/blackwell-mpt-8gpu/");
    for (name, devices) in [("nvidia", &nvidia), ("google", &google), ("mpt", &mpt)] {
        let result = appraise(devices, &AWS);
        assert_eq!(result.code, None, "{name}: {:?}", result.checks);
        assert_eq!(result.devices.len(), devices.len());
    }
    let mut foreign_gpu = nvidia.clone();
    foreign_gpu[0] = google[0].clone();
    let result = appraise(&foreign_gpu, &AWS);
    assert_eq!(status(&result, "device_topology"), [Status::Fail]);
    let mut foreign_switches = nvidia[..8].to_vec();
    foreign_switches.extend_from_slice(&google[8..]);
    assert_eq!(status(&appraise(&foreign_switches, &AWS), "device_topology"), [Status::Fail]);
    assert_eq!(appraise(&nvidia[..8], &AWS).code, Some("device_topology"), "switches are missing");
    assert_eq!(appraise(&nvidia[1..], &AWS).code, Some("device_topology"), "a GPU is missing");
    let copies = machine("nvidia-attestation-sdk/evidence/multi_switch_ls10.json");
    assert_eq!(copies.len(), 4);
    assert_eq!(appraise(&copies, &AWS).code, Some("device_distinct"), "four copies of one switch");
}

#[test]
fn both_backends_give_the_same_checks() {
    let Some(folder) = corpus::folder("backends") else { return };
    for item in corpus::items(&folder) {
        let devices = [device(&item)];
        assert_eq!(appraise(&devices, &AWS).checks, appraise(&devices, &RING).checks, "{}", item.source);
    }
}

#[test]
fn every_flipped_bit_of_a_report_is_noticed() {
    let Some(folder) = corpus::folder("flipped bits") else { return };
    let items = corpus::items(&folder);
    let mut flipped = 0;
    for item in items.iter().filter(|item| item.genuine).step_by(10) {
        let nonces = vec![*Report::parse(&item.report).unwrap().nonce];
        let endorsements = NvidiaEndorsements { crls: Vec::new(), ocsp: Vec::new(), rims: Vec::new() };
        let policy = policy();
        let with = With { nonces, endorsements, policy: &policy, algorithms: &AWS, now: NOW, rim_at: None };
        for position in (0..item.report.len()).step_by(41) {
            let mut device = device(item);
            let mut report = item.report.clone();
            report[position] ^= 1 << (position % 8);
            device.report = report.into();
            let result = with.appraise(&[device]);
            let [device] = &result.devices[..] else { panic!("{}", item.source) };
            assert_eq!(device.facts, None, "{}: a flipped bit at byte {position}", item.source);
            assert_ne!(device.outcome, DeviceOutcome::Accepted);
            assert_eq!(device.code, result.code, "{}: byte {position}", item.source);
            assert_ne!(result.outcome, Outcome::Accepted);
            flipped += 1;
        }
    }
    eprintln!("{flipped} flipped bits noticed");
}

#[test]
fn the_strict_policy_accepts_no_device_without_manifests_and_revocation() {
    let Some(folder) = corpus::folder("strict policy") else { return };
    let items = corpus::items(&folder);
    let item = items.iter().find(|item| item.source.contains("hopper-550.90.07-full")).unwrap();
    let result = under(&AppraisalPolicy::inspect(), &[device(item)], &AWS);
    assert_eq!(result.code, Some("device_rim"));
    assert_eq!(status(&result, "device_revocation"), [Status::Fail]);
}
