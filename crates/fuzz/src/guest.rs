//! An honest simulated guest, whose parts the fuzzer changes.

use crate::ways::COLLATERAL;
use confide_evidence::bytes::{ByteString, Bytes};
use confide_evidence::document::{
    Build, Changing, Claims, CpuEvidence, DeviceEvidence, DeviceKind, Egress, Endorsements, Engine,
    EvidenceDocument, Gpus, KemAlgorithm, KemKey, KeySet, Model, Platform, ReceiptAlgorithm, ReceiptKey,
    ServingKeys, VERSION, devices_digest,
};
use confide_evidence::event::{
    Boot, Configuration, DeviceInUse, DevicesInUse, EventLog, LoadedModel, RuntimeEvent,
};
use confide_evidence::hash::sha256;
use confide_evidence::pem;
use confide_evidence::record::RecordedChallenge;
use confide_evidence::transcript::{Binding, Role, Transcript};
use confide_policy::{AppraisalPolicy, Loaded};
use confide_simulator::{PlatformOptions, SimulatedBootLog, SimulatedGpu, SimulatedPlatform, SimulatedTd};
use confide_verifier::Algorithms;
use rustls_pki_types::UnixTime;
use std::sync::LazyLock;
use std::time::Duration;

/// 2026-10-01.
pub(crate) const NOW: u64 = 1_790_812_800;
const NONCE: Bytes<32> = Bytes([1; 32]);
const EXPORTER: Bytes<32> = Bytes([2; 32]);
const SPKI: Bytes<32> = Bytes([3; 32]);

pub(crate) static ALGORITHMS: Algorithms = Algorithms {
    ecdsa_p256_sha256: webpki::aws_lc_rs::ECDSA_P256_SHA256,
    ecdsa_p384_sha384: webpki::aws_lc_rs::ECDSA_P384_SHA384,
    ecdsa_p384_sha256: webpki::aws_lc_rs::ECDSA_P384_SHA256,
    ed25519: webpki::aws_lc_rs::ED25519,
    rsa_pss_sha384: webpki::aws_lc_rs::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
    rsa_pkcs1_sha256: webpki::aws_lc_rs::RSA_PKCS1_2048_8192_SHA256,
};

/// The policy that accepts simulated evidence.
pub(crate) const POLICY: &str = include_str!("../../../policies/danger-simulator.toml");

/// [`POLICY`] for documents.
pub(crate) static FOR_DOCUMENTS: LazyLock<AppraisalPolicy> = LazyLock::new(|| policy(&documents(&[])));

/// [`POLICY`] for bare quotes.
pub(crate) static FOR_QUOTES: LazyLock<AppraisalPolicy> = LazyLock::new(|| policy(&quotes(&[])));

pub(crate) static PLATFORM: LazyLock<SimulatedPlatform> =
    LazyLock::new(|| SimulatedPlatform::new(PlatformOptions::at(NOW)).expect("usual options"));

pub(crate) static GPU: LazyLock<SimulatedGpu> =
    LazyLock::new(|| SimulatedGpu::new(0).expect("usual options"));

/// Text of [`POLICY`] for any model and configuration, with other values.
pub(crate) fn documents(values: &[(&str, &str)]) -> String {
    let waived =
        [("model", "{ waive = \"any model\" }"), ("configuration", "{ waive = \"any configuration\" }")];
    with_values(&[&waived, values].concat())
}

/// Text of [`POLICY`] without what binds a quote to its document, with other values.
pub(crate) fn quotes(values: &[(&str, &str)]) -> String {
    let waived = [
        ("boot_log", "\"when-given\""),
        ("rtmr3", "{ waive = \"a bare quote\" }"),
        ("report_data", "{ waive = \"a bare quote\" }"),
    ];
    with_values(&[&waived, values].concat())
}

fn with_values(values: &[(&str, &str)]) -> String {
    let lines = POLICY.lines().map(|line| {
        let replaced =
            line.split_once(" = ").and_then(|(key, _)| values.iter().find(|(name, _)| *name == key));
        replaced.map_or_else(|| line.to_owned(), |(key, value)| format!("{key} = {value}"))
    });
    lines.collect::<Vec<_>>().join("\n")
}

pub(crate) fn policy(text: &str) -> AppraisalPolicy {
    AppraisalPolicy::parse(text, Loaded::AsDanger).expect("the committed policy with other values")
}

pub(crate) fn now() -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(NOW))
}

pub(crate) fn challenge() -> RecordedChallenge {
    RecordedChallenge {
        role: Role::Serve,
        spki: ByteString(SPKI.0.to_vec()),
        nonce: NONCE,
        exporter: ByteString(EXPORTER.0.to_vec()),
    }
}

/// The parts of a document that its quote covers.
#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) claims: Claims,
    pub(crate) events: Vec<RuntimeEvent>,
    pub(crate) devices: Vec<DeviceEvidence>,
    pub(crate) key_set: KeySet,
    pub(crate) boot_id: Bytes<16>,
}

pub(crate) fn binding() -> Binding {
    Binding::Serve { nonce: NONCE, exporter: EXPORTER, tls_spki: SPKI }
}

/// Signing costs more than appraising: made once.
static HONEST: LazyLock<Parts> = LazyLock::new(Parts::made);

impl Parts {
    pub(crate) fn honest() -> Self {
        HONEST.clone()
    }

    fn made() -> Self {
        let build = Build { image: None, version: "0.1.0".into(), revision: "fuzz".into() };
        let device = gpu(&GPU, 0);
        let chain = pem::certificates(device.chain.as_bytes()).expect("the simulator's chain");
        let in_use = DeviceInUse { mode: "spt".into(), certificate: sha256(&chain[0]) };
        let boot_id = Bytes([4; 16]);
        Self {
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
                RuntimeEvent::Boot(Boot { build, boot_id, broker_key: None }),
                RuntimeEvent::Configuration(Configuration { digest: Bytes([6; 32]) }),
                RuntimeEvent::NoVolumes,
                RuntimeEvent::Model(LoadedModel { manifest: Bytes([5; 32]) }),
                RuntimeEvent::Devices(DevicesInUse { devices: vec![in_use] }),
                RuntimeEvent::Open,
            ],
            devices: vec![device],
            key_set: KeySet::Serving(ServingKeys {
                kem: KemKey { alg: KemAlgorithm::XWing, public: Bytes([8; 1216]) },
                receipt: ReceiptKey { alg: ReceiptAlgorithm::Ed25519, public: Bytes([9; 32]) },
                not_after: NOW + 86_400,
            }),
            boot_id,
        }
    }

    /// The document that the guest's TD quotes.
    pub(crate) fn document(&self) -> EvidenceDocument {
        let mut events = EventLog::new();
        let mut td = SimulatedTd::default();
        for event in &self.events {
            td.extend_rtmr3(&event.digest());
            // The fuzzer may have put events out of order, which a log does not take.
            let _ = events.push(event.clone());
        }
        let transcript = Transcript {
            binding: binding(),
            keyset: self.key_set.digest(),
            devices: devices_digest(&self.devices),
            claims: self.claims.digest(),
            boot_id: self.boot_id,
        };
        let quote = PLATFORM.quote(&td.report(transcript.report_data()));
        EvidenceDocument {
            cpu: CpuEvidence::Tdx { quote: ByteString(quote) },
            batch: None,
            claims: self.claims.clone(),
            events,
            boot_id: self.boot_id,
            devices: self.devices.clone(),
            key_set: self.key_set.clone(),
            version: VERSION,
            boot_log: Some(ByteString(SimulatedBootLog::default().to_bytes())),
            platform: Platform::Tdx,
            endorsements: Some(Endorsements { tdx: Some(COLLATERAL.clone()), ..Endorsements::default() }),
        }
    }
}

pub(crate) fn gpu(gpu: &SimulatedGpu, position: u32) -> DeviceEvidence {
    DeviceEvidence {
        kind: DeviceKind::NvidiaGpu,
        chain: ByteString(gpu.chain_pem().into_bytes()),
        report: ByteString(gpu.report(binding().gpu_nonce(position))),
    }
}
