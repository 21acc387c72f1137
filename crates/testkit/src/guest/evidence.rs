//! The guest's machine and what it attests.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use confide_evidence::bytes::{ByteString, Bytes, Digest};
use confide_evidence::document::{
    Build, Changing, Claims, CpuEvidence, DeviceEvidence, DeviceKind, Egress, Endorsements, Engine,
    EvidenceDocument, Gpus, KemAlgorithm, KemKey, KeySet, Model, Platform, ReceiptAlgorithm, ReceiptKey,
    ServingKeys, TdxCollateral, VERSION, devices_digest,
};
use confide_evidence::event::{
    Boot, Configuration, DeviceInUse, DevicesInUse, EventLog, LoadedModel, RuntimeEvent,
};
use confide_evidence::hash::sha256;
use confide_evidence::pem;
use confide_evidence::tdx::collateral_from_json;
use confide_evidence::transcript::{BatchTree, Binding, Transcript};
use confide_simulator::{
    PlatformOptions, QuoteFlaw, SimulatedBootLog, SimulatedGpu, SimulatedPlatform, SimulatedTd,
};

use super::receipt::Signer;
use super::{MODEL, Receipts};

/// How long the guest's keys last, in seconds.
const KEYS_LAST: u64 = 86_400;

/// The simulator's policy for verdicts of `max_age_seconds`, attesting `attest` (`per-key`, `every-connection`).
#[must_use]
pub fn policy(attest: &str, max_age_seconds: u64) -> String {
    policy_for(attest, max_age_seconds, &[MODEL])
}

/// The same, for guests that serve one of these models.
#[must_use]
pub fn policy_for(attest: &str, max_age_seconds: u64, models: &[&str]) -> String {
    let models: Vec<String> = models.iter().map(|model| format!("\"{}\"", manifest(model))).collect();
    let text = include_str!("../../../../policies/danger-simulator.toml");
    let lines = text.lines().map(|line| match line.split_once(" = ") {
        Some(("max_age_seconds", _)) => format!("max_age_seconds = {max_age_seconds}"),
        Some(("attest", _)) => format!("attest = \"{attest}\""),
        Some(("model", _)) => format!("model = {{ any_of = [{}] }}", models.join(", ")),
        Some(("configuration", _)) => format!("configuration = {{ any_of = [\"{}\"] }}", configuration()),
        _ => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The digest that stands for the manifest of a model.
#[must_use]
pub fn manifest(model: &str) -> Digest {
    sha256(model.as_bytes())
}

fn configuration() -> Digest {
    sha256(b"testkit")
}

/// What is stapled to a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Staple {
    Valid,
    Nothing,
    Over,
}

/// A simulated platform with one GPU, booted.
pub(super) struct Machine {
    platform: SimulatedPlatform,
    /// The same platform two months ago: its collateral of then is over.
    before: SimulatedPlatform,
    gpu: SimulatedGpu,
    /// Everything but quote, GPU report and endorsements.
    template: EvidenceDocument,
    signer: Signer,
}

impl Machine {
    pub(super) fn new(seed: u64, model: &str) -> Result<Self> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let platform = SimulatedPlatform::new(PlatformOptions { seed, ..PlatformOptions::at(now) })?;
        let before = PlatformOptions { seed, ..PlatformOptions::at(now - 60 * 86_400) };
        let before = SimulatedPlatform::new(before)?;
        let gpu = SimulatedGpu::new(seed)?;
        let signer = Signer::new()?;
        let template = template(seed, now, &gpu, signer.public()?, model)?;
        Ok(Self { platform, before, gpu, template, signer })
    }

    /// The value of a receipt's field; nothing where the guest sends none.
    pub(super) fn receipt(
        &self,
        receipts: Receipts,
        request: &[u8],
        response: &[u8],
    ) -> Result<Option<String>> {
        self.signer.sign(receipts, &self.template, request, response)
    }

    /// The model that it serves.
    pub(super) fn model(&self) -> &str {
        &self.template.claims.model.name
    }

    /// An honest document, but for what `flaws` break in the quote.
    pub(super) fn document(&self, binding: Binding, flaws: &[QuoteFlaw], staple: Staple) -> Result<Vec<u8>> {
        let mut document = self.template.clone();
        document.devices = vec![DeviceEvidence {
            kind: DeviceKind::NvidiaGpu,
            chain: ByteString(self.gpu.chain_pem().into_bytes()),
            report: ByteString(self.gpu.report(binding.gpu_nonce(0))),
        }];
        let transcript = Transcript {
            binding,
            keyset: document.key_set.digest(),
            devices: devices_digest(&document.devices),
            claims: document.claims.digest(),
            boot_id: document.boot_id,
        };
        let mut td = SimulatedTd::default();
        for event in document.events.events() {
            td.extend_rtmr3(&event.digest());
        }
        let report = td.report(transcript.report_data());
        document.cpu = CpuEvidence::Tdx { quote: ByteString(self.platform.flawed_quote(&report, flaws)) };
        let stapled = match staple {
            Staple::Valid => Some(&self.platform),
            Staple::Over => Some(&self.before),
            Staple::Nothing => None,
        };
        if let Some(platform) = stapled {
            let collateral = collateral_from_json(platform.collateral_json().as_bytes())?;
            document.endorsements = Some(Endorsements { tdx: Some(collateral), ..Endorsements::default() });
        }
        Ok(document.encode()?)
    }

    /// The documents of the connections with these leaves, which share a quote.
    pub(super) fn batch(&self, leaves: Vec<Bytes<64>>, tls_spki: Digest) -> Result<Vec<Vec<u8>>> {
        let size = leaves.len();
        let tree = BatchTree::new(leaves)?;
        let shared = self.document(Binding::Batch { root: tree.root(), tls_spki }, &[], Staple::Valid)?;
        let shared = EvidenceDocument::decode(&shared)?;
        let documents = (0..size).map(|place| EvidenceDocument { batch: tree.path(place), ..shared.clone() });
        documents.map(|document| Ok(document.encode()?)).collect()
    }

    /// What endorses the platform, as services give it: the PCK chain stands in the quote.
    pub(super) fn collateral(&self) -> Result<TdxCollateral> {
        let collateral = collateral_from_json(self.platform.collateral_json().as_bytes())?;
        Ok(TdxCollateral { pck_certificate_chain: None, ..collateral })
    }
}

fn template(
    seed: u64,
    now: u64,
    gpu: &SimulatedGpu,
    receipt: Bytes<32>,
    model: &str,
) -> Result<EvidenceDocument> {
    let mut boot_id = [0x0b; 16];
    boot_id[8..].copy_from_slice(&seed.to_be_bytes());
    let claims = claims(now, model);
    Ok(EvidenceDocument {
        cpu: CpuEvidence::Tdx { quote: ByteString::default() },
        batch: None,
        events: events(&claims, Bytes(boot_id), gpu)?,
        claims,
        boot_id: Bytes(boot_id),
        devices: Vec::new(),
        key_set: KeySet::Serving(ServingKeys {
            kem: KemKey { alg: KemAlgorithm::XWing, public: Bytes([3; 1216]) },
            receipt: ReceiptKey { alg: ReceiptAlgorithm::Ed25519, public: receipt },
            not_after: now + KEYS_LAST,
        }),
        version: VERSION,
        boot_log: Some(ByteString(SimulatedBootLog::default().to_bytes())),
        platform: Platform::Tdx,
        endorsements: None,
    })
}

fn claims(now: u64, model: &str) -> Claims {
    Claims {
        gpus: Gpus { count: 1, ready: true, dev_tools: false, environment: "SIMULATED".to_owned() },
        build: Build { image: None, version: "0.0.0".to_owned(), revision: "testkit".to_owned() },
        model: Model { name: model.to_owned(), manifest: manifest(model) },
        egress: Egress::open(),
        engine: Engine { kind: "builtin".to_owned(), flags: Vec::new(), environment: Vec::new() },
        volumes: Vec::new(),
        changing: Changing { drops: 0, locked_at: None, guest_time: now },
        configuration: configuration(),
    }
}

fn events(claims: &Claims, boot_id: Bytes<16>, gpu: &SimulatedGpu) -> Result<EventLog> {
    let chain = pem::certificates(gpu.chain_pem().as_bytes())?;
    let leaf = chain.first().context("the simulated GPU has no certificate")?;
    let device = DeviceInUse { mode: "spt".to_owned(), certificate: sha256(leaf) };
    let mut events = EventLog::new();
    for event in [
        RuntimeEvent::Boot(Boot { build: claims.build.clone(), boot_id, broker_key: None }),
        RuntimeEvent::Configuration(Configuration { digest: claims.configuration }),
        RuntimeEvent::NoVolumes,
        RuntimeEvent::Model(LoadedModel { manifest: claims.model.manifest }),
        RuntimeEvent::Devices(DevicesInUse { devices: vec![device] }),
        RuntimeEvent::Open,
    ] {
        events.push(event)?;
    }
    Ok(events)
}
