//! The attacks: what the attacker does to the evidence of an honest guest.
//!
//! The simulator's roots are public, so the attacker signs with them as an operator could who owns a genuine machine:
//! all signatures of a forged document hold, and only what the attack is about is wrong.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use confide_evidence::bytes::{ByteString, Bytes};
use confide_evidence::document::{
    AttestationRequest, CpuEvidence, DeviceEvidence, DeviceKind, Endorsements, EvidenceDocument, KeySet,
    devices_digest,
};
use confide_evidence::event::{EventLog, LoadedModel, RuntimeEvent};
use confide_evidence::tdx::{Padding, Quote, collateral_from_json};
use confide_evidence::transcript::{Binding, Transcript};
use confide_simulator::{PlatformOptions, SimulatedGpu, SimulatedPlatform, SimulatedTd, TdMeasurements};

/// What an attacker does with the evidence of an honest guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Attack {
    /// Passes it on untouched: evidence of another instance.
    Relay,
    /// Runs a model of which one byte differs: a manifest with one byte changed, claimed, measured and signed.
    Manifest,
    /// Replaces the first GPU's evidence with that of a second GPU, made for this very exchange and validly signed.
    GpuSwap,
    /// Puts another GPU into the measured one's place: its evidence is asked for, signed and quoted as it should be, and
    /// only the certificate in the measured events tells.
    GpuReplaced,
    /// Sends evidence again that the honest guest made for an earlier nonce.
    Replay,
    /// Sends evidence of this very exchange that was made and signed for another use: the release of disk keys.
    Reflection,
    /// Puts message and receipt keys of its own beside a quote that is bound to its own connection.
    KeySwap,
    /// None at all: everything is bound to its own connection, as an honest guest would do. The control that shows
    /// that a victim refuses the others for what is wrong with them.
    Honest,
}

/// Seeds of the GPUs that belong to the attacker alone.
const FOREIGN_GPU: u64 = 1_000_000;
/// Seed of the GPU that the honest guest measured.
const MEASURED_GPU: u64 = 0;

impl Attack {
    /// What the honest guest is asked when a victim asks this.
    pub(super) fn request(self, victim: &[u8]) -> Vec<u8> {
        match self {
            Self::Replay => AttestationRequest { nonce: Bytes([0x11; 32]) }.encode(),
            _ => victim.to_vec(),
        }
    }

    /// The document that a victim with this binding gets, made from an honest one.
    pub(super) fn evidence(self, honest: Vec<u8>, binding: Binding) -> Result<Vec<u8>> {
        if matches!(self, Self::Relay | Self::Replay) {
            return Ok(honest);
        }
        let mut document = EvidenceDocument::decode(&honest).context("the honest guest's evidence")?;
        if self == Self::Manifest {
            change_manifest(&mut document)?;
        }
        let (binding, first) = match (self, binding) {
            (Self::Reflection, Binding::Serve { nonce, .. }) => (Binding::KeyRelease { nonce }, MEASURED_GPU),
            (Self::GpuReplaced, _) => (binding, FOREIGN_GPU),
            _ => (binding, MEASURED_GPU),
        };
        bind(&mut document, binding, first)?;
        if self == Self::GpuSwap {
            let first = document.devices.first_mut().context("the honest guest has no GPU")?;
            *first = gpu_evidence(FOREIGN_GPU, binding.gpu_nonce(0))?;
        }
        if let (Self::KeySwap, KeySet::Serving(keys)) = (self, &mut document.key_set) {
            keys.kem.public = Bytes([0x22; 1216]);
            keys.receipt.public = Bytes([0x22; 32]);
        }
        Ok(document.encode()?)
    }
}

/// Flips one bit of the model manifest's digest, in the claims and in the event.
fn change_manifest(document: &mut EvidenceDocument) -> Result<()> {
    let manifest = &mut document.claims.model.manifest;
    manifest.0[0] ^= 1;
    let manifest = *manifest;
    let mut events = EventLog::new();
    for event in document.events.events() {
        events.push(match event {
            RuntimeEvent::Model(_) => RuntimeEvent::Model(LoadedModel { manifest }),
            other => other.clone(),
        })?;
    }
    document.events = events;
    Ok(())
}

/// Signs GPU reports and quote anew, so that all of them are bound to `binding`. The first GPU is that of the seed
/// `first`.
fn bind(document: &mut EvidenceDocument, binding: Binding, first: u64) -> Result<()> {
    for (position, device) in (0_u32..).zip(&mut document.devices) {
        let evidence = gpu_evidence(first + u64::from(position), binding.gpu_nonce(position))?;
        if first == MEASURED_GPU {
            device.report = evidence.report;
        } else {
            *device = evidence;
        }
    }
    let transcript = Transcript {
        binding,
        keyset: document.key_set.digest(),
        devices: devices_digest(&document.devices),
        claims: document.claims.digest(),
        boot_id: document.boot_id,
    };
    let measurements = measurements(document)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let platform = SimulatedPlatform::new(PlatformOptions::at(now))?;
    let report = SimulatedTd::new(measurements).report(transcript.report_data());
    document.batch = None;
    document.cpu = CpuEvidence::Tdx { quote: ByteString(platform.quote(&report)) };
    let collateral = collateral_from_json(platform.collateral_json().as_bytes())?;
    document.endorsements = Some(Endorsements { tdx: Some(collateral), ..Endorsements::default() });
    Ok(())
}

/// What the honest guest's quote measures, with RTMR3 as the document's events make it.
fn measurements(document: &EvidenceDocument) -> Result<TdMeasurements> {
    let CpuEvidence::Tdx { quote } = &document.cpu else { bail!("the honest guest is no TD") };
    let body = Quote::parse(quote.as_bytes(), Padding::Refused)?.report;
    let [rtmr0, rtmr1, rtmr2, _] = body.rtmr;
    Ok(TdMeasurements {
        td_attributes: *body.td_attributes,
        xfam: *body.xfam,
        mrtd: *body.mr_td,
        mrconfigid: *body.mr_config_id,
        mrowner: *body.mr_owner,
        mrownerconfig: *body.mr_owner_config,
        rtmr: [*rtmr0, *rtmr1, *rtmr2, document.events.replay()],
        ..TdMeasurements::default()
    })
}

fn gpu_evidence(seed: u64, nonce: [u8; 32]) -> Result<DeviceEvidence> {
    let gpu = SimulatedGpu::new(seed)?;
    Ok(DeviceEvidence {
        kind: DeviceKind::NvidiaGpu,
        chain: ByteString(gpu.chain_pem().into_bytes()),
        report: ByteString(gpu.report(nonce)),
    })
}
