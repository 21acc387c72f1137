//! Appraisal of NVIDIA device evidence: each device by itself, then the node's devices as a set.
//!
//! A device is authentic once its chain ends in a pinned root and its leaf key has signed the report; the first check of
//! these that fails stops the device. What follows are independent checks of signed fields. Measurements are not yet
//! held against reference manifests (RIM), and revocation is not yet looked up: both read `not_run`, and fail where the
//! policy requires them.

mod device;
mod node;

use crate::Algorithms;
use crate::check::{Check, Checks};
use crate::document::NOT_COVERED;
use crate::result::{DeviceResult, Outcome};
use confide_evidence::document::DeviceEvidence;
use confide_evidence::event::DeviceInUse;
use confide_evidence::hex;
use confide_evidence::nvidia::{DeviceChain, Report};
use confide_policy::AppraisalPolicy;
use sha2::{Digest as _, Sha256};

/// What the appraisal of a node's devices found, beside its checks.
#[derive(Debug, Clone, Default)]
pub(crate) struct DeviceFindings {
    /// Facts of the devices whose signatures hold.
    pub(crate) devices: Vec<DeviceResult>,
    /// A chain ended in another anchor than NVIDIA's.
    pub(crate) simulated: bool,
    /// The earliest end of a device certificate, seconds since the Unix epoch.
    pub(crate) valid_until: Option<i64>,
    /// Where evidence that is not supported or not well formed is the first failure of the appraisal.
    pub(crate) outcome: Option<Outcome>,
}

/// The appraisal of devices without a CPU's evidence.
#[derive(Debug, Clone)]
pub struct NodeResult {
    /// How it ended.
    pub outcome: Outcome,
    /// Stable code of the first check that failed.
    pub code: Option<&'static str>,
    /// Whether a chain ended in another trust anchor than NVIDIA's.
    pub simulated: bool,
    /// Facts of the devices whose signatures hold, in the order of the evidence.
    pub devices: Vec<DeviceResult>,
    /// All checks, device by device, then those of the set.
    pub checks: Vec<Check>,
}

/// Appraises devices on their own, to data that carries no authority.
///
/// `nonce` gives the nonce that the device at a position must have been asked with; `now` is in seconds since the Unix
/// epoch.
#[must_use]
pub fn evaluate(
    devices: &[DeviceEvidence],
    nonce: &dyn Fn(u32) -> [u8; 32],
    policy: &AppraisalPolicy,
    algorithms: &Algorithms,
    now: i64,
) -> NodeResult {
    let mut checks = Checks::default();
    let found = appraise_devices(devices, nonce, policy, algorithms, now, &mut checks);
    let code = checks.first_failure();
    let outcome = found.outcome.unwrap_or(if code.is_some() { Outcome::Rejected } else { Outcome::Accepted });
    let (simulated, devices) = (found.simulated, found.devices);
    NodeResult { outcome, code, simulated, devices, checks: checks.into_list() }
}

/// Appraises every device of a document, then the devices as a set.
pub(crate) fn appraise_devices(
    devices: &[DeviceEvidence],
    nonce: &dyn Fn(u32) -> [u8; 32],
    policy: &AppraisalPolicy,
    algorithms: &Algorithms,
    now: i64,
    checks: &mut Checks,
) -> DeviceFindings {
    let mut findings = DeviceFindings::default();
    let mut authentic = Vec::new();
    for (position, evidence) in (0..).zip(devices) {
        let first = checks.first_failure().is_none();
        let inputs = device::Inputs { position, nonce: nonce(position), policy, algorithms, now };
        match device::appraise(evidence, &inputs, checks) {
            Ok(device) => {
                findings.simulated |= device.simulated;
                findings.valid_until = earliest(findings.valid_until, device.not_after());
                findings.devices.push(device.result());
                authentic.push(device);
            }
            Err(ended) => {
                findings.simulated |= ended.simulated;
                if first {
                    findings.outcome = ended.outcome;
                }
            }
        }
    }
    if devices.is_empty() {
        return findings;
    }
    if authentic.len() == devices.len() {
        node::appraise(&authentic, checks);
    } else {
        for rule in node::RULES {
            checks.not_run(rule, "not reached: a device is not authentic");
        }
    }
    findings
}

/// Marks the checks of devices that the CPU's evidence does not cover.
pub(crate) fn not_covered(devices: &[DeviceEvidence], checks: &mut Checks) {
    for (position, _) in (0..).zip(devices) {
        device::not_run(position, NOT_COVERED, checks);
    }
    if !devices.is_empty() {
        node::RULES.into_iter().for_each(|rule| checks.not_run(rule, NOT_COVERED));
    }
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
    let mode = device::mode_name(report.mode());
    if mode != expected.mode {
        return Err(format!("mode {mode} in the signed report, the event says {}", expected.mode));
    }
    Ok(())
}
