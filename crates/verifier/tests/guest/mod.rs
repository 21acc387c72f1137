//! A simulated guest and the verdicts on its evidence documents.

use crate::algorithms::AWS;
use confide_evidence::bytes::{ByteString, Bytes};
use confide_evidence::document::{
    Build, Changing, Claims, CpuEvidence, DeviceEvidence, DeviceKind, Egress, Endorsements, Engine,
    EvidenceDocument, Gpus, KemAlgorithm, KemKey, KeySet, Model, Platform, ReceiptAlgorithm, ReceiptKey,
    ServingKeys, devices_digest,
};
use confide_evidence::event::{
    Boot, Configuration, DeviceInUse, DevicesInUse, EventLog, LoadedModel, RuntimeEvent,
};
use confide_evidence::nvidia::DeviceChain;
use confide_evidence::record::RecordedChallenge;
use confide_evidence::tdx::collateral_from_json;
use confide_evidence::transcript::{Binding, Transcript};
use confide_policy::{AppraisalPolicy, Loaded};
use confide_simulator::{
    PlatformOptions, SimulatedBootLog, SimulatedGpu, SimulatedPlatform, SimulatedTd, TdMeasurements,
};
use confide_verifier::{Appraisal, AttestationResult, Challenge, Inputs, Subject, evaluate};
use rustls_pki_types::UnixTime;
use std::time::Duration;

/// 2026-10-01.
pub(crate) const NOW: u64 = 1_790_812_800;
pub(crate) const NONCE: [u8; 32] = [0x11; 32];
pub(crate) const EXPORTER: [u8; 32] = [2; 32];
pub(crate) const SPKI: [u8; 32] = [3; 32];
pub(crate) const BOOT_ID: Bytes<16> = Bytes([4; 16]);

pub(crate) const DANGER: &str = include_str!("../../../../policies/danger-simulator.toml");

/// A variant of the danger policy, for any model and configuration.
pub(crate) fn danger(text: &str) -> AppraisalPolicy {
    let lines = text.lines().map(|line| match line.split_once(" = ") {
        Some(("model", list)) if list.starts_with("{ any_of") => "model = { waive = \"a test\" }",
        Some(("configuration", list)) if list.starts_with("{ any_of") => {
            "configuration = { waive = \"a test\" }"
        }
        _ => line,
    });
    AppraisalPolicy::parse(&lines.collect::<Vec<_>>().join("\n"), Loaded::AsDanger).unwrap()
}

pub(crate) fn now() -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(NOW))
}

pub(crate) fn serve() -> Binding {
    Binding::Serve { nonce: Bytes(NONCE), exporter: Bytes(EXPORTER), tls_spki: Bytes(SPKI) }
}

pub(crate) fn challenge() -> RecordedChallenge {
    Challenge::serve(NONCE, EXPORTER, SPKI).recorded()
}

/// A simulated guest with one GPU, whose parts a test may change before or after the quote is made.
pub(crate) struct Guest {
    pub(crate) platform: SimulatedPlatform,
    pub(crate) gpu: SimulatedGpu,
    pub(crate) claims: Claims,
    pub(crate) events: Vec<RuntimeEvent>,
    pub(crate) keys: KeySet,
    pub(crate) binding: Binding,
    pub(crate) measurements: TdMeasurements,
}

impl Guest {
    pub(crate) fn new() -> Self {
        let gpu = SimulatedGpu::new(7).unwrap();
        let build = Build { image: None, version: "0.1.0".into(), revision: "test".into() };
        let leaf = DeviceChain::parse(gpu.chain_pem().as_bytes()).unwrap().leaf().der.clone();
        let device = DeviceInUse { mode: "spt".into(), certificate: confide_evidence::hash::sha256(&leaf) };
        Self {
            platform: SimulatedPlatform::new(PlatformOptions::at(NOW)).unwrap(),
            gpu,
            claims: Claims {
                gpus: Gpus { count: 1, ready: true, dev_tools: false, environment: "SIMULATED".into() },
                build: build.clone(),
                model: Model { name: "tiny".into(), manifest: Bytes([5; 32]) },
                egress: Egress::open(),
                engine: Engine { kind: "builtin".into(), flags: Vec::new(), environment: Vec::new() },
                volumes: Vec::new(),
                changing: Changing { drops: 0, locked_at: None, guest_time: NOW },
                configuration: Bytes([6; 32]),
            },
            events: vec![
                RuntimeEvent::Boot(Boot { build, boot_id: BOOT_ID, broker_key: None }),
                RuntimeEvent::Configuration(Configuration { digest: Bytes([6; 32]) }),
                RuntimeEvent::NoVolumes,
                RuntimeEvent::Model(LoadedModel { manifest: Bytes([5; 32]) }),
                RuntimeEvent::Devices(DevicesInUse { devices: vec![device] }),
                RuntimeEvent::Open,
            ],
            keys: KeySet::Serving(ServingKeys {
                kem: KemKey { alg: KemAlgorithm::XWing, public: Bytes([8; 1216]) },
                receipt: ReceiptKey { alg: ReceiptAlgorithm::Ed25519, public: Bytes([9; 32]) },
                not_after: NOW + 86_400,
            }),
            binding: serve(),
            measurements: TdMeasurements::default(),
        }
    }

    pub(crate) fn device(gpu: &SimulatedGpu, binding: &Binding) -> DeviceEvidence {
        DeviceEvidence {
            kind: DeviceKind::NvidiaGpu,
            chain: ByteString(gpu.chain_pem().into_bytes()),
            report: ByteString(gpu.report(binding.gpu_nonce(0))),
        }
    }

    pub(crate) fn document(&self) -> EvidenceDocument {
        self.document_of(vec![Self::device(&self.gpu, &self.binding)])
    }

    /// A document with these devices, which the quote covers.
    pub(crate) fn document_of(&self, devices: Vec<DeviceEvidence>) -> EvidenceDocument {
        let mut events = EventLog::new();
        let mut td = SimulatedTd::new(self.measurements.clone());
        for event in &self.events {
            events.push(event.clone()).unwrap();
            td.extend_rtmr3(&event.digest());
        }
        let transcript = Transcript {
            binding: self.binding,
            keyset: self.keys.digest(),
            devices: devices_digest(&devices),
            claims: self.claims.digest(),
            boot_id: BOOT_ID,
        };
        let quote = self.platform.quote(&td.report(transcript.report_data()));
        let tdx = collateral_from_json(self.platform.collateral_json().as_bytes()).unwrap();
        EvidenceDocument {
            cpu: CpuEvidence::Tdx { quote: ByteString(quote) },
            batch: None,
            claims: self.claims.clone(),
            events,
            boot_id: BOOT_ID,
            devices,
            key_set: self.keys.clone(),
            version: 1,
            boot_log: Some(ByteString(SimulatedBootLog::default().to_bytes())),
            platform: Platform::Tdx,
            endorsements: Some(Endorsements { tdx: Some(tdx), ..Endorsements::default() }),
        }
    }
}

pub(crate) fn verdict(
    document: &EvidenceDocument,
    challenge: Option<&RecordedChallenge>,
    policy: &AppraisalPolicy,
) -> AttestationResult {
    verdict_of(&document.encode().unwrap(), challenge, policy)
}

pub(crate) fn verdict_of(
    document: &[u8],
    challenge: Option<&RecordedChallenge>,
    policy: &AppraisalPolicy,
) -> AttestationResult {
    let inputs = Inputs {
        subject: Subject::Document(document),
        endorsements: &Endorsements::default(),
        prepared: None,
        prepared_devices: None,
        memo: None,
        second_opinion: None,
        references: None,
        policy,
        challenge,
        now: now(),
        algorithms: &AWS,
    };
    evaluate(&inputs).unwrap_or_else(|rejection| *rejection.result)
}

/// An appraisal of a document and what it staples, as a client asks for a witness.
pub(crate) fn minting<'a>(
    document: &'a [u8],
    endorsements: &'a Endorsements,
    policy: &'a AppraisalPolicy,
) -> Appraisal<'a> {
    Appraisal {
        document,
        endorsements,
        prepared: None,
        prepared_devices: None,
        memo: None,
        second_opinion: None,
        references: None,
        policy,
        now: now(),
        algorithms: &AWS,
    }
}

/// Codes of all checks that failed.
pub(crate) fn failures(result: &AttestationResult) -> Vec<&str> {
    result
        .checks
        .iter()
        .filter(|check| check.status == confide_verifier::Status::Fail)
        .map(|check| check.code)
        .collect()
}
