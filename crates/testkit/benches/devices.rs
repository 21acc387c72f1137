//! Appraisal of NVIDIA devices with manifests and OCSP answers: one GPU, eight GPUs with four switches, and, where the corpus
//! of recorded evidence is there (`$CONFIDE_CORPUS` or `../shared/corpus`), a recorded H100 with what is recorded of its
//! endorsements.
//!
//! `cargo xtask bench` runs it, and reads one line for each contender: name, median, 10th and 90th percentile in
//! microseconds, separated by tabs. The contenders take turns, so that a change of the machine's speed meets all of them.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program that measures")]

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use confide_client::ALGORITHMS;
use confide_evidence::document::{DeviceEvidence, Endorsements, NvidiaEndorsements};
use confide_evidence::nvidia::{DeviceChain, Report, decoded, device_of};
use confide_policy::{AppraisalPolicy, Expect, Loaded, Require};
use confide_testkit::gpu::GpuEvidence;
use confide_verifier::{Inputs, PreparedDevices, Subject, evaluate};
use rustls::pki_types::UnixTime;

const WARM_UP: usize = 2;
const ROUNDS: usize = 60;
/// 2026-10-01.
const NOW: u64 = 1_790_812_800;
/// 2025-08-21T12:00:00Z, when the recorded answers about the H100's certificates hold.
const RECORDED: u64 = 1_755_777_600;
/// 2025-10-24T12:00:00Z, when those about its manifests' signers do.
const RECORDED_RIMS: u64 = 1_761_307_200;
const NONCE: [u8; 32] = [7; 32];
const POLICY: &str = include_str!("../../../policies/danger-simulator.toml");

/// What is measured.
type Contender<'a> = Box<dyn Fn() -> Result<()> + 'a>;

fn main() -> Result<()> {
    let one = Case::new(&GpuEvidence::hopper(NONCE, NOW)?)?;
    let node = Case::new(&GpuEvidence::machine(8, 4, NONCE, NOW)?)?;
    let recorded = recorded_hopper()?;
    let mut contenders: Vec<(&str, Contender<'_>)> = vec![
        ("one P-384 verification, aws-lc-rs", Box::new(|| one.verify_report())),
        ("one GPU, cold", Box::new(|| one.appraise(None))),
        ("one GPU, prepared endorsements", Box::new(|| one.appraise(Some(&one.prepared)))),
        ("eight GPUs and four switches, cold", Box::new(|| node.appraise(None))),
        (
            "eight GPUs and four switches, prepared endorsements",
            Box::new(|| node.appraise(Some(&node.prepared))),
        ),
    ];
    if let Some(case) = &recorded {
        contenders.push(("a recorded H100, cold", Box::new(|| case.appraise(None))));
        let prepared = "a recorded H100, prepared endorsements";
        contenders.push((prepared, Box::new(|| case.appraise(Some(&case.prepared)))));
    }
    let mut samples = vec![Vec::with_capacity(ROUNDS); contenders.len()];
    for round in 0..WARM_UP + ROUNDS {
        for ((_, run), samples) in contenders.iter().zip(&mut samples) {
            // What the others left in caches is not this contender's to pay.
            run()?;
            let took = time_of(run.as_ref())?;
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
    now: UnixTime,
    /// Another time for manifests.
    rim_at: Option<UnixTime>,
    /// The leaf's key of the first device.
    key: Vec<u8>,
    /// The DER of the first report's signature.
    signature: Vec<u8>,
}

/// The recorded H100 with the manifests of its driver and VBIOS and seven OCSP answers; nothing where there is no corpus.
fn recorded_hopper() -> Result<Option<Case>> {
    let root = std::env::var_os("CONFIDE_CORPUS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus"), PathBuf::from);
    let folder = root.join("nvidia/google-go-nvattest-tools/hopper-550.90.07-full");
    if !folder.is_dir() {
        eprintln!("not run: the appraisal of a recorded H100: no corpus at {}", root.display());
        return Ok(None);
    }
    let read = |name: &str| std::fs::read(folder.join(name)).with_context(|| name.to_owned());
    let device = device_of(&read("report.bin")?, &read("chain.pem")?)?;
    let nonce = *Report::parse(device.report.as_bytes())?.nonce;
    let rims = ["NV_GPU_DRIVER_GH100_550.90.07.xml", "NV_GPU_VBIOS_1010_0200_882_96009F0001.xml"];
    let mut ocsp = Vec::new();
    for entry in std::fs::read_dir(folder.join("ocsp"))? {
        ocsp.push(decoded(&std::fs::read(entry?.path())?)?.into());
    }
    ensure!(ocsp.len() == 7, "{} recorded OCSP answers", ocsp.len());
    let nvidia = NvidiaEndorsements {
        crls: Vec::new(),
        ocsp,
        rims: rims.iter().map(|name| Ok(read(name)?.into())).collect::<Result<_>>()?,
    };
    let mut case = Case::of(vec![device], vec![nonce], nvidia, AppraisalPolicy::inspect())?;
    (case.now, case.rim_at) = (at(RECORDED), Some(at(RECORDED_RIMS)));
    Ok(Some(case))
}

fn at(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

impl Case {
    /// Simulated devices.
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
        let nonces = vec![NONCE; devices.len()];
        Self::of(devices, nonces, nvidia, policy)
    }

    fn of(
        devices: Vec<DeviceEvidence>,
        nonces: Vec<[u8; 32]>,
        nvidia: NvidiaEndorsements,
        policy: AppraisalPolicy,
    ) -> Result<Self> {
        let key = DeviceChain::parse(devices[0].chain.as_bytes())?.leaf().public_key.clone();
        let (r, s) = Report::parse(devices[0].report.as_bytes())?.signature.split_at(48);
        let signature = der_signature(r, s);
        Ok(Self {
            nonces,
            prepared: PreparedDevices::new(&nvidia),
            endorsements: Endorsements { nvidia: Some(nvidia), ..Endorsements::default() },
            devices,
            policy,
            now: at(NOW),
            rim_at: None,
            key,
            signature,
        })
    }

    fn appraise(&self, prepared: Option<&PreparedDevices>) -> Result<()> {
        let inputs = Inputs {
            subject: Subject::Devices {
                devices: &self.devices,
                nonces: &self.nonces,
                rim_at: self.rim_at,
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
            now: self.now,
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
