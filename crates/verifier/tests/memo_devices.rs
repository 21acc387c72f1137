//! A memo of NVIDIA's endorsements changes the time of an appraisal and nothing else, and nobody but the owners of accepted
//! devices writes it.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests, one of which shares a memo between threads"
)]

mod algorithms;

use algorithms::AWS;
use confide_evidence::bytes::ByteString;
use confide_evidence::document::{DeviceEvidence, DeviceKind, Endorsements, NvidiaEndorsements};
use confide_policy::{AppraisalPolicy, Loaded, Require};
use confide_simulator::{GpuOptions, OcspOptions, SimulatedGpu};
use confide_verifier::{
    AttestationResult, Inputs, MAX_DEVICE_ENDORSEMENTS, MAX_KEPT_ENDORSEMENTS, Memo, Subject, evaluate,
};
use rustls_pki_types::UnixTime;
use std::time::Duration;

/// 2026-10-01.
const NOW: u64 = 1_790_812_800;
const DAY: u64 = 86_400;
const NONCE: [u8; 32] = [0x40; 32];

/// One simulated GPU and what it is appraised with.
#[derive(Clone)]
struct Case {
    device: DeviceEvidence,
    endorsements: NvidiaEndorsements,
    policy: AppraisalPolicy,
    now: u64,
}

impl Case {
    fn of_seed(seed: u64) -> Self {
        Self::with_answers(GpuOptions::hopper(seed), OcspOptions::good)
    }

    fn with_answers(options: GpuOptions, answer: fn(u64) -> OcspOptions) -> Self {
        let gpu = SimulatedGpu::with_options(options).unwrap();
        let rims = gpu.rims(NOW);
        let signers = rims[0].certificates().unwrap();
        let mut ocsp = OcspOptions::good(NOW).answers(&signers).unwrap();
        ocsp.extend(answer(NOW).answers(gpu.certificates()).unwrap());
        let bytes = |list: Vec<Vec<u8>>| list.into_iter().map(ByteString).collect();
        Self {
            device: DeviceEvidence {
                kind: DeviceKind::NvidiaGpu,
                chain: gpu.chain_pem().into_bytes().into(),
                report: gpu.report(NONCE).into(),
            },
            endorsements: NvidiaEndorsements {
                crls: Vec::new(),
                ocsp: bytes(ocsp),
                rims: bytes(rims.iter().map(|rim| rim.encode().unwrap()).collect()),
            },
            policy: danger(),
            now: NOW,
        }
    }

    fn verdict(&self, memo: Option<&Memo>) -> AttestationResult {
        let endorsements =
            Endorsements { nvidia: Some(self.endorsements.clone()), ..Endorsements::default() };
        let inputs = Inputs {
            subject: Subject::Devices {
                devices: std::slice::from_ref(&self.device),
                nonces: &[NONCE],
                rim_at: None,
                nras: None,
            },
            endorsements: &endorsements,
            prepared: None,
            prepared_devices: None,
            memo,
            second_opinion: None,
            references: None,
            policy: &self.policy,
            challenge: None,
            now: UnixTime::since_unix_epoch(Duration::from_secs(self.now)),
            algorithms: &AWS,
        };
        evaluate(&inputs).unwrap_or_else(|rejection| *rejection.result)
    }

    /// The verdict with the memo, which is the one without it.
    fn same_verdict(&self, memo: &Memo) -> AttestationResult {
        let with = self.verdict(Some(memo));
        assert_eq!(with.to_json(), self.verdict(None).to_json());
        with
    }

    fn accept(&self, memo: &Memo) {
        let found = self.same_verdict(memo);
        assert!(found.accepted(), "{:?} {:?}", found.code, found.checks);
    }

    /// The same with other bytes that say nothing, as many as the number: an answer may be given twice.
    fn spelt(&self, number: usize) -> Self {
        let mut spelt = self.clone();
        let again = spelt.endorsements.ocsp[0].clone();
        spelt.endorsements.ocsp.extend(vec![again; number]);
        spelt
    }

    /// How many of its manifests the memo knows.
    fn known(&self, memo: &Memo) -> usize {
        self.endorsements.rims.iter().filter(|rim| memo.knows_manifest(rim.as_bytes())).count()
    }
}

fn danger() -> AppraisalPolicy {
    let text = include_str!("../../../policies/danger-simulator.toml");
    let mut policy = AppraisalPolicy::parse(text, Loaded::AsDanger).unwrap();
    (policy.devices.rim, policy.devices.revocation) = (Require::Required, Require::Required);
    policy
}

fn with_driver(seed: u64, driver: &str) -> Case {
    let options = GpuOptions { driver_version: driver.into(), ..GpuOptions::hopper(seed) };
    Case::with_answers(options, OcspOptions::good)
}

#[test]
fn endorsements_of_accepted_devices_are_kept() {
    let (memo, case) = (Memo::new(), Case::of_seed(1));
    assert_eq!((memo.device_endorsements(), case.known(&memo)), (0, 0));
    for _ in 0..3 {
        case.accept(&memo);
        assert_eq!((memo.device_endorsements(), case.known(&memo)), (1, 2));
    }
}

#[test]
fn a_manifest_is_known_beside_other_answers_and_by_its_exact_bytes_alone() {
    let (memo, case) = (Memo::new(), Case::of_seed(1));
    case.accept(&memo);
    let mut other = case.spelt(1);
    assert_eq!(other.known(&memo), 2);
    other.accept(&memo);
    // A digit of the second manifest's first hash.
    let manifest = &mut other.endorsements.rims[1].0;
    let at = manifest.windows(7).position(|text| text == b"Hash0=\"").unwrap() + 7;
    manifest[at] = if manifest[at] == b'0' { b'1' } else { b'0' };
    assert_eq!(other.known(&memo), 1);
    assert_eq!(other.same_verdict(&memo).code, Some("rim_signature"));
    assert_eq!(other.known(&memo), 1);
}

#[test]
fn nothing_is_kept_of_endorsements_of_rejected_devices() {
    let (memo, case) = (Memo::new(), Case::of_seed(1));
    let mut late = case.clone();
    late.now += 30 * DAY;
    let mut elsewhere = case.clone();
    elsewhere.policy = AppraisalPolicy::inspect();
    let mut replayed = case.clone();
    replayed.device.report = SimulatedGpu::new(1).unwrap().report([1; 32]).into();
    let mut forged = case.clone();
    *forged.device.report.0.last_mut().unwrap() ^= 1;
    let revoked = Case::with_answers(GpuOptions::hopper(1), |now| OcspOptions::revoked(now, None));
    for (rejected, code) in [
        (late, "rim_revocation"),
        (elsewhere, "device_root_anchor"),
        (replayed, "device_nonce"),
        (forged, "device_report_signature"),
        (revoked, "device_revocation"),
    ] {
        let found = rejected.same_verdict(&memo);
        assert!(!found.accepted());
        assert!(found.checks.iter().any(|check| check.code == code), "{code} {:?}", found.code);
        assert_eq!((memo.device_endorsements(), case.known(&memo)), (0, 0), "{code}");
    }
}

#[test]
fn known_endorsements_are_held_against_time_revocation_and_policy_each_time() {
    let (memo, case) = (Memo::new(), Case::of_seed(1));
    case.accept(&memo);
    let mut late = case.clone();
    late.now += 30 * DAY;
    assert_eq!(late.same_verdict(&memo).code, Some("rim_revocation"));
    let revoked = Case::with_answers(GpuOptions::hopper(1), |now| OcspOptions::revoked(now, None));
    assert_eq!(revoked.known(&memo), 2);
    assert_eq!(revoked.same_verdict(&memo).code, Some("device_revocation"));
    let mut elsewhere = case.clone();
    elsewhere.policy = AppraisalPolicy::inspect();
    assert_eq!(elsewhere.same_verdict(&memo).code, Some("device_root_anchor"));
    // Another root of manifests: what is known of the chain does not make its root trusted.
    let text = include_str!("../../../policies/danger-simulator.toml");
    let root = confide_evidence::hex::encode(&confide_simulator::RIM_ROOT_SPKI_SHA256);
    assert!(text.contains(&root), "the policy names the simulator's root of manifests");
    let mut distrusting = case.clone();
    distrusting.policy =
        AppraisalPolicy::parse(&text.replace(&root, &"00".repeat(32)), Loaded::AsDanger).unwrap();
    distrusting.policy.devices.rim = Require::Required;
    assert_eq!(distrusting.same_verdict(&memo).code, Some("rim_root_anchor"));
    case.accept(&memo);
}

#[test]
fn a_machine_displaces_its_own_endorsements_alone() {
    let (memo, other) = (Memo::new(), with_driver(2, "590.48.01"));
    other.accept(&memo);
    let case = Case::of_seed(1);
    for number in 0..MAX_DEVICE_ENDORSEMENTS + 3 {
        case.spelt(number).accept(&memo);
        assert_eq!((memo.device_endorsements(), other.known(&memo)), (2, 2), "{number}");
    }
}

#[test]
fn the_endorsements_of_the_machine_used_least_recently_make_way() {
    let memo = Memo::new();
    let (first, second) = (with_driver(100, "590.48.01"), with_driver(101, "590.48.02"));
    let cases: Vec<Case> =
        (0..MAX_DEVICE_ENDORSEMENTS).map(|seed| Case::of_seed(u64::try_from(seed).unwrap())).collect();
    first.accept(&memo);
    second.accept(&memo);
    let (last, rest) = cases.split_last().unwrap();
    rest[1..].iter().for_each(|case| case.accept(&memo));
    assert_eq!(memo.device_endorsements(), MAX_DEVICE_ENDORSEMENTS);
    first.accept(&memo);
    // The memo is not written by those who are refused, though they show what it knows.
    let mut refused = second.clone();
    refused.now += 30 * DAY;
    assert!(!refused.same_verdict(&memo).accepted());
    last.accept(&memo);
    assert_eq!(memo.device_endorsements(), MAX_DEVICE_ENDORSEMENTS);
    // The driver's manifest was of this machine alone, that of the VBIOS is of all.
    assert_eq!((first.known(&memo), second.known(&memo)), (2, 1));
}

#[test]
fn endorsements_of_more_bytes_than_are_kept_are_appraised_all_the_same() {
    let (memo, mut case) = (Memo::new(), Case::of_seed(1));
    let manifest = case.endorsements.rims[0].clone();
    let times = MAX_KEPT_ENDORSEMENTS / manifest.0.len() + 1;
    case.endorsements.rims.extend(vec![manifest; times]);
    case.accept(&memo);
    assert_eq!((memo.device_endorsements(), case.known(&memo)), (0, 0));
}

#[test]
fn threads_share_a_memo() {
    let (memo, cases) = (Memo::new(), [Case::of_seed(1), Case::of_seed(1).spelt(1), Case::of_seed(2)]);
    let alone = cases.each_ref().map(|case| case.verdict(None).to_json());
    std::thread::scope(|scope| {
        for start in 0..4 {
            let (memo, cases, alone) = (&memo, &cases, &alone);
            scope.spawn(move || {
                for turn in 0..6 {
                    let place = (start + turn) % cases.len();
                    assert_eq!(cases[place].verdict(Some(memo)).to_json(), alone[place]);
                }
            });
        }
    });
    assert_eq!(memo.device_endorsements(), 2);
}
