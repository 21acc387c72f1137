//! Appraisal of NVIDIA devices with manifests and OCSP answers: one GPU, and eight GPUs with four switches.
//!
//! `cargo xtask bench` runs it, and reads one line for each contender: name, median, 10th and 90th percentile in
//! microseconds, separated by tabs. The contenders take turns, so that a change of the machine's speed meets all of them.
#![expect(clippy::print_stdout, reason = "a program that measures")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use confide_client::ALGORITHMS;
use confide_evidence::document::{DeviceEvidence, Endorsements, NvidiaEndorsements};
use confide_evidence::nvidia::{DeviceChain, Report, device_of};
use confide_policy::{AppraisalPolicy, Expect, Loaded, Require};
use confide_testkit::gpu::GpuEvidence;
use confide_verifier::{Inputs, PreparedDevices, Subject, evaluate};
use rustls::pki_types::UnixTime;

const WARM_UP: usize = 2;
const ROUNDS: usize = 60;
/// 2026-10-01.
const NOW: u64 = 1_790_812_800;
const NONCE: [u8; 32] = [7; 32];
const POLICY: &str = include_str!("../../../policies/danger-simulator.toml");

fn main() -> Result<()> {
    let one = Case::new(&GpuEvidence::hopper(NONCE, NOW)?)?;
    let node = Case::new(&GpuEvidence::machine(8, 4, NONCE, NOW)?)?;
    let contenders: [(&str, &dyn Fn() -> Result<()>); 5] = [
        ("one P-384 verification, aws-lc-rs", &|| one.verify_report()),
        ("one GPU, cold", &|| one.appraise(None)),
        ("one GPU, prepared endorsements", &|| one.appraise(Some(&one.prepared))),
        ("eight GPUs and four switches, cold", &|| node.appraise(None)),
        ("eight GPUs and four switches, prepared endorsements", &|| node.appraise(Some(&node.prepared))),
    ];
    let mut samples = contenders.map(|_| Vec::with_capacity(ROUNDS));
    for round in 0..WARM_UP + ROUNDS {
        for ((_, run), samples) in contenders.iter().zip(&mut samples) {
            // What the others left in caches is not this contender's to pay.
            run()?;
            let took = time_of(run)?;
            if round >= WARM_UP {
                samples.push(took);
            }
        }
    }
    for ((name, _), samples) in contenders.iter().zip(&mut samples) {
        samples.sort_unstable();
        let percentile = |percent: usize| samples[samples.len() * percent / 100].as_secs_f64() * 1e6;
        println!("{name}\t{:.1}\t{:.1}\t{:.1}", percentile(50), percentile(10), percentile(90));
    }
    Ok(())
}

fn time_of(run: &dyn Fn() -> Result<()>) -> Result<Duration> {
    let started = Instant::now();
    run()?;
    Ok(started.elapsed())
}

/// Devices and what they are appraised with, in memory before the clock starts.
struct Case {
    devices: Vec<DeviceEvidence>,
    nonces: Vec<[u8; 32]>,
    endorsements: Endorsements,
    prepared: PreparedDevices,
    policy: AppraisalPolicy,
    /// The leaf's key of the first device.
    key: Vec<u8>,
    /// The DER of the first report's signature.
    signature: Vec<u8>,
}

impl Case {
    fn new(evidence: &GpuEvidence) -> Result<Self> {
        let devices: Vec<DeviceEvidence> = evidence
            .devices
            .iter()
            .map(|device| device_of(&device.report, device.chain.as_bytes()))
            .collect::<Result<_, _>>()?;
        let bytes = |files: &[Vec<u8>]| files.iter().cloned().map(Into::into).collect();
        let nvidia = NvidiaEndorsements {
            crls: Vec::new(),
            ocsp: bytes(&evidence.answers),
            rims: bytes(&evidence.manifests),
        };
        let mut policy = AppraisalPolicy::parse(POLICY, Loaded::AsDanger)?;
        (policy.devices.rim, policy.devices.revocation) = (Require::Required, Require::Required);
        policy.devices.gpu_count = Expect::Waive("any number".into());
        policy.devices.mode = Expect::Waive("any mode".into());
        policy.devices.vbios_floor = confide_policy::Floor::Waive("any version".into());
        let key = DeviceChain::parse(devices[0].chain.as_bytes())?.leaf().public_key.clone();
        let (r, s) = Report::parse(devices[0].report.as_bytes())?.signature.split_at(48);
        let signature = der_signature(r, s);
        Ok(Self {
            nonces: vec![NONCE; devices.len()],
            prepared: PreparedDevices::new(&nvidia),
            endorsements: Endorsements { nvidia: Some(nvidia), ..Endorsements::default() },
            devices,
            policy,
            key,
            signature,
        })
    }

    fn appraise(&self, prepared: Option<&PreparedDevices>) -> Result<()> {
        let inputs = Inputs {
            subject: Subject::Devices {
                devices: &self.devices,
                nonces: &self.nonces,
                rim_at: None,
                nras: None,
            },
            endorsements: &self.endorsements,
            prepared: None,
            prepared_devices: prepared,
            memo: None,
            second_opinion: None,
            references: None,
            policy: &self.policy,
            challenge: None,
            now: UnixTime::since_unix_epoch(Duration::from_secs(NOW)),
            algorithms: &ALGORITHMS,
        };
        let result = evaluate(&inputs);
        ensure!(result.is_ok(), "the devices were not accepted: {result:?}");
        black_box(result)?;
        Ok(())
    }

    /// The unit that the other times are held against.
    fn verify_report(&self) -> Result<()> {
        let report = Report::parse(self.devices[0].report.as_bytes())?;
        let held = ALGORITHMS.ecdsa_p384_sha384.verify_signature(&self.key, report.signed, &self.signature);
        ensure!(held.is_ok(), "the report's signature does not hold");
        Ok(())
    }
}

/// Ecdsa-Sig-Value (RFC 3279 section 2.2.3).
fn der_signature(r: &[u8], s: &[u8]) -> Vec<u8> {
    let integer = |digits: &[u8]| {
        let start = digits.iter().position(|byte| *byte != 0).unwrap_or(digits.len() - 1);
        let mut content = digits[start..].to_vec();
        if content[0] >= 0x80 {
            content.insert(0, 0);
        }
        [vec![0x02, content.len() as u8], content].concat()
    };
    let body = [integer(r), integer(s)].concat();
    [vec![0x30, body.len() as u8], body].concat()
}
