//! Appraisal of NVIDIA device evidence: each device by itself, its manifests and revocation, then the devices as a set.
//!
//! A device is authentic once its chain ends in a pinned root and its leaf key has signed the report; the first check of
//! these that fails stops the device. What follows are independent checks of signed fields. The manifests that fit the
//! devices' versions are appraised once for all of them; measurements are held against those that hold. A manifest or an
//! answer that is not given is never good.

mod chain;
mod device;
mod endorsements;
mod known;
mod manifest;
mod measurements;
mod node;
mod nras;
mod registry;
mod revocation;

use crate::Algorithms;
use crate::check::Checks;
use crate::document::NOT_COVERED;
use crate::result::{DeviceOutcome, DeviceResult, Outcome};
use crate::rules;
use confide_evidence::document::DeviceEvidence;
use confide_evidence::event::DeviceInUse;
use confide_evidence::hex;
use confide_evidence::nvidia::{DeviceChain, Report};
use confide_evidence::record::NrasOpinion;
use confide_policy::{AppraisalPolicy, CcMode};
use device::{Chosen, Device};
use manifest::{Manifests, Means};
use nras::Ours;
use sha2::{Digest as _, Sha256};

pub(crate) use endorsements::{Fingerprint, Manifest};
pub use endorsements::{PreparedDevices, manifest_fault};
pub use known::MAX_KNOWN_SIGNATURES;

/// What the appraisal of a node's devices found, beside its checks.
#[derive(Debug, Clone, Default)]
pub(crate) struct DeviceFindings {
    /// The result of each device, in order.
    pub(crate) devices: Vec<DeviceResult>,
    /// A chain ended in another anchor than NVIDIA's.
    pub(crate) simulated: bool,
    /// GPUs and switches are tied to each other by certified identities.
    pub(crate) topology: bool,
    /// The earliest end of what the verdict rests on, seconds since the Unix epoch.
    pub(crate) valid_until: Option<i64>,
    /// Where evidence that is not supported or not well formed is the first failure of the appraisal.
    pub(crate) outcome: Option<Outcome>,
    /// Which machine it is: SHA-256 of the SubjectPublicKeyInfo of the first device's leaf, where that device is authentic.
    pub(crate) machine: Option<[u8; 32]>,
}

/// The CPU whose evidence covers devices.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Cpu {
    /// None: they are appraised by themselves.
    NoEvidence,
    /// One with a PCK certificate of this PPID. Nothing where no certificate holds.
    Tdx(Option<[u8; 16]>),
}

/// What devices are appraised with.
#[derive(Clone, Copy)]
pub(crate) struct Node<'a> {
    pub(crate) devices: &'a [DeviceEvidence],
    /// The nonce that the device at a position must have been asked with.
    pub(crate) nonce: &'a dyn Fn(u32) -> Option<[u8; 32]>,
    /// The CPU that they are said to be beside.
    pub(crate) cpu: Cpu,
    pub(crate) prepared: &'a PreparedDevices,
    pub(crate) policy: &'a AppraisalPolicy,
    pub(crate) algorithms: &'a Algorithms,
    /// Seconds since the Unix epoch.
    pub(crate) now: i64,
    /// Another time for manifests, in seconds since the Unix epoch.
    pub(crate) rim_at: Option<i64>,
    /// What NVIDIA's attestation service says of the devices.
    pub(crate) nras: Option<&'a NrasOpinion>,
}

/// Appraises every device, then the devices as a set.
pub(crate) fn appraise_devices(node: &Node<'_>, checks: &mut Checks) -> DeviceFindings {
    let prepared = node.prepared;
    let mut findings = DeviceFindings::default();
    if node.devices.is_empty() {
        return findings;
    }
    let authentic = authentic(node, checks, &mut findings);
    findings.machine = authentic.first().filter(|first| first.position == 0).map(Device::machine);
    let first = checks.first_failure().is_none();
    let unreadable = prepared.note(checks).filter(|_| first);
    findings.outcome = findings.outcome.or(unreadable);
    let means = Means {
        prepared,
        policy: node.policy,
        algorithms: node.algorithms,
        at: node.rim_at.unwrap_or(node.now),
    };
    let manifests = Manifests::new(means);
    let chosen: Vec<_> = authentic.iter().map(|device| device.manifests(&manifests)).collect();
    note_manifests(&chosen, checks);
    let mut compared = Vec::new();
    for (device, chosen) in authentic.iter().zip(&chosen) {
        let mark = checks.mark();
        let measured = device.check_measurements(chosen, &means, checks);
        compared.push(measured.compared);
        let until = device.check_revocation(&Means { at: node.now, ..means }, checks);
        let of_manifests = chosen.iter().flatten().find_map(|assessed| assessed.code());
        let failed = checks.first_failure_since(mark);
        findings.valid_until = earliest(findings.valid_until, until);
        for assessed in chosen.iter().flatten().filter(|assessed| assessed.holds()) {
            findings.simulated |= assessed.simulated;
            if node.rim_at.is_none() {
                findings.valid_until = earliest(findings.valid_until, assessed.until);
            }
        }
        if let Some(result) = findings.devices.iter_mut().find(|result| result.position == device.position) {
            result.facts = Some(device.facts(chosen, measured));
            note_failure(result, of_manifests.or(failed));
        }
    }
    if authentic.len() == node.devices.len() {
        node::appraise(&authentic, &node.policy.devices, checks);
        registry::appraise(&authentic, node.cpu, &node.policy.devices.machine, checks);
    } else {
        set_not_run(node.policy, "not reached: a device is not authentic", checks);
    }
    nras::appraise(node, &Ours { devices: &authentic, compared: &compared }, checks, &mut findings);
    findings.topology = node::is_protected(&authentic) && checks.has_passed(&rules::DEVICE_TOPOLOGY);
    findings
}

/// Notes a check that failed, where none did before it.
fn note_failure(result: &mut DeviceResult, failed: Option<&'static str>) {
    if result.code.is_none() && failed.is_some() {
        (result.outcome, result.code) = (DeviceOutcome::Rejected, failed);
    }
}

/// The result of a device of which nothing is known yet.
fn unknown(position: u32, evidence: &DeviceEvidence, outcome: DeviceOutcome) -> DeviceResult {
    DeviceResult { position, kind: evidence.kind.name(), outcome, code: None, facts: None }
}

/// The devices whose chain and signature hold. Each device has a result afterwards.
fn authentic<'a>(node: &Node<'a>, checks: &mut Checks, findings: &mut DeviceFindings) -> Vec<Device<'a>> {
    let Node { devices, nonce, prepared, policy, algorithms, now, .. } = *node;
    let mut authentic = Vec::new();
    for (position, evidence) in (0..).zip(devices) {
        let first = checks.first_failure().is_none();
        let mark = checks.mark();
        let mut result = unknown(position, evidence, DeviceOutcome::Accepted);
        let nonce = nonce(position);
        let inputs = device::Inputs { position, nonce, policy, algorithms, known: &prepared.known, now };
        match device::appraise(evidence, &inputs, checks) {
            Ok(device) => {
                findings.simulated |= device.simulated;
                findings.valid_until = earliest(findings.valid_until, device.not_after());
                authentic.push(device);
                note_failure(&mut result, checks.first_failure_since(mark));
            }
            Err(ended) => {
                findings.simulated |= ended.simulated;
                if first {
                    findings.outcome = ended.outcome;
                }
                note_failure(&mut result, checks.first_failure_since(mark));
                result.outcome = match ended.outcome {
                    Some(Outcome::Unsupported) => DeviceOutcome::Unsupported,
                    Some(Outcome::Malformed) => DeviceOutcome::Malformed,
                    _ => DeviceOutcome::Rejected,
                };
            }
        }
        findings.devices.push(result);
    }
    authentic
}

/// Notes each manifest that a device is held against, once.
fn note_manifests(chosen: &[Chosen<'_, '_>], checks: &mut Checks) {
    let mut noted: Vec<[u8; 32]> = Vec::new();
    for assessed in chosen.iter().flatten().flatten() {
        if !noted.contains(&assessed.manifest.sha256) {
            noted.push(assessed.manifest.sha256);
            assessed.note(checks);
        }
    }
}

/// Marks the checks of devices that the CPU's evidence does not cover. Gives the result of each.
pub(crate) fn not_covered(
    devices: &[DeviceEvidence],
    policy: &AppraisalPolicy,
    checks: &mut Checks,
) -> Vec<DeviceResult> {
    let mut results = Vec::new();
    for (position, evidence) in (0..).zip(devices) {
        device::not_run(position, NOT_COVERED, checks);
        results.push(unknown(position, evidence, DeviceOutcome::NotRun));
    }
    if !devices.is_empty() {
        set_not_run(policy, NOT_COVERED, checks);
        checks.not_run(&rules::NRAS, NOT_COVERED);
    }
    results
}

/// Marks the checks of devices as a set as not run.
fn set_not_run(policy: &AppraisalPolicy, why: &'static str, checks: &mut Checks) {
    let registry = (!policy.devices.machine.0.is_empty()).then_some(&rules::DEVICE_REGISTRY);
    node::RULES.into_iter().chain(registry).for_each(|rule| checks.not_run(rule, why));
}

fn earliest(so_far: Option<i64>, end: i64) -> Option<i64> {
    Some(so_far.map_or(end, |so_far| so_far.min(end)))
}

/// Whether the devices are those of the runtime event, in order: the leaf certificate and the signed mode of each.
pub(crate) fn in_use(devices: &[DeviceEvidence], event: &[DeviceInUse]) -> Result<String, String> {
    if devices.len() != event.len() {
        return Err(format!("{} devices, the event names {}", devices.len(), event.len()));
    }
    for (position, (evidence, expected)) in devices.iter().zip(event).enumerate() {
        is_in_use(evidence, expected).map_err(|actual| format!("device {position}: {actual}"))?;
    }
    Ok(format!("{} devices", devices.len()))
}

/// Whether a device is the one that the event names. That its report is signed is checked for itself.
fn is_in_use(evidence: &DeviceEvidence, expected: &DeviceInUse) -> Result<(), String> {
    let chain = DeviceChain::parse(evidence.chain.as_bytes()).map_err(|error| error.to_string())?;
    let found: [u8; 32] = Sha256::digest(&chain.leaf().der).into();
    if found != *expected.certificate.as_bytes() {
        let found = hex::encode(&found);
        return Err(format!("certificate {found}, the event names {}", expected.certificate));
    }
    let report = Report::parse(evidence.report.as_bytes()).map_err(|error| error.to_string())?;
    let mode = CcMode::from(report.mode()).name();
    if mode != expected.mode {
        return Err(format!("mode {mode} in the signed report, the event says {}", expected.mode));
    }
    Ok(())
}
