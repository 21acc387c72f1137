//! One device: chain, report signature, nonce, firmware id.

use crate::check::{Checks, Rule, Status};
use crate::result::{DeviceResult, Outcome};
use crate::rules;
use crate::signature::{Algorithms, ecdsa_sig_value};
use confide_evidence::document::{DeviceEvidence, DeviceKind as DocumentKind};
use confide_evidence::hex;
use confide_evidence::nvidia::{DeviceChain, DeviceKind, Family, Fwid, Mode, Report, Toggle};
use confide_evidence::time::format_seconds;
use confide_evidence::x509::{Certificate, KeyAlgorithm, SignatureAlgorithm};
use confide_policy::{AppraisalPolicy, NVIDIA_DEVICE_ROOT_SPKI_SHA256, Require};
use sha2::{Digest as _, Sha256};

/// Key usage and basic constraints: the only critical extensions that device certificates have.
const KNOWN_CRITICAL: [&str; 2] = ["2.5.29.15", "2.5.29.19"];

/// The rules of one device, in order.
static RULES: [&Rule; 13] = [
    &rules::DEVICE_REPORT_FORMAT,
    &rules::DEVICE_CHAIN_FORMAT,
    &rules::DEVICE_ROOT_ANCHOR,
    &rules::DEVICE_CHAIN_SIGNATURES,
    &rules::DEVICE_CHAIN_USAGE,
    &rules::DEVICE_REPORT_SIGNATURE,
    &rules::DEVICE_VALIDITY,
    &rules::DEVICE_NONCE,
    &rules::DEVICE_FAMILY,
    &rules::DEVICE_MODE,
    &rules::DEVICE_FWID,
    &rules::DEVICE_RIM,
    &rules::DEVICE_REVOCATION,
];

/// What a device is appraised for.
pub(super) struct Inputs<'a> {
    pub(super) position: u32,
    pub(super) nonce: [u8; 32],
    pub(super) policy: &'a AppraisalPolicy,
    pub(super) algorithms: &'a Algorithms,
    pub(super) now: i64,
}

/// A device whose chain and report signature hold.
pub(super) struct Device<'a> {
    pub(super) position: u32,
    /// What the document calls the device.
    declared: DocumentKind,
    pub(super) report: Report<'a>,
    pub(super) chain: DeviceChain,
    pub(super) simulated: bool,
}

/// The device's evidence is not authentic. The failure stands in the checks.
pub(super) struct Ended {
    /// Where the bytes are not supported or not well formed.
    pub(super) outcome: Option<Outcome>,
    /// The chain nevertheless ended in another anchor than NVIDIA's.
    pub(super) simulated: bool,
}

/// A check failed on which the rest of the device rests.
struct Stop {
    outcome: Option<Outcome>,
}

/// Appraises one device; an error means that it is not authentic.
pub(super) fn appraise<'a>(
    evidence: &'a DeviceEvidence,
    inputs: &Inputs<'_>,
    checks: &mut Checks,
) -> Result<Device<'a>, Ended> {
    let mut log = Log { position: inputs.position, done: 0, simulated: false, checks };
    match authenticate(evidence, inputs, &mut log) {
        Ok(device) => {
            device.check_fields(inputs, &mut log);
            Ok(device)
        }
        Err(Stop { outcome }) => {
            log.not_reached();
            Err(Ended { outcome, simulated: log.simulated })
        }
    }
}

/// Marks all checks of a device as not run.
pub(super) fn not_run(position: u32, why: &str, checks: &mut Checks) {
    for rule in RULES {
        checks.not_run(rule, format!("device {position}: {why}"));
    }
}

/// The checks of one device: each names the device that it is about.
struct Log<'c> {
    position: u32,
    done: usize,
    simulated: bool,
    checks: &'c mut Checks,
}

impl Log<'_> {
    fn actual(&self, text: &str) -> String {
        format!("device {}: {text}", self.position)
    }

    fn note(&mut self, rule: &'static Rule, found: Result<String, String>) -> Result<(), Stop> {
        self.done = self.done.saturating_add(1);
        match found {
            Ok(actual) => self.checks.pass(rule, self.actual(&actual)),
            Err(actual) => {
                self.checks.fail(rule, self.actual(&actual));
                return Err(Stop { outcome: None });
            }
        }
        Ok(())
    }

    /// An independent check: its failure stops nothing.
    fn independent(&mut self, rule: &'static Rule, found: Result<String, String>) {
        // The failure is recorded, and the verdict's outcome follows from the record.
        let _stands_in_checks = self.note(rule, found);
    }

    fn require(&mut self, rule: &'static Rule, require: &Require, found: Result<String, String>) {
        let found = found.map(|text| self.actual(&text)).map_err(|text| self.actual(&text));
        self.checks.require(rule, require, found);
    }

    /// A check that this version cannot make: only a waiver keeps it from failing.
    fn cannot(&mut self, rule: &'static Rule, require: &Require, why: &str) {
        let actual = self.actual(why);
        match require {
            Require::Required => self.checks.fail(rule, actual),
            Require::Waive(reason) => {
                self.checks.push(rule, Status::NotRun, format!("waived: {reason}"), actual);
            }
        }
    }

    fn not_reached(&mut self) {
        let actual = self.actual("not reached: an earlier check failed");
        for rule in RULES.iter().skip(self.done) {
            self.checks.not_run(rule, actual.clone());
        }
    }
}

/// Form, anchor, chain, report signature: the first failure ends the device.
fn authenticate<'a>(
    evidence: &'a DeviceEvidence,
    inputs: &Inputs<'_>,
    log: &mut Log<'_>,
) -> Result<Device<'a>, Stop> {
    let report = report(evidence, log)?;
    let chain = chain(evidence, log)?;
    let (anchor, vendor) = anchor(chain.root(), inputs.policy);
    log.note(&rules::DEVICE_ROOT_ANCHOR, anchor)?;
    log.simulated = vendor == Vendor::Other;
    log.note(&rules::DEVICE_CHAIN_SIGNATURES, signatures(&chain, inputs.algorithms))?;
    log.note(&rules::DEVICE_CHAIN_USAGE, usage(&chain))?;
    let signed = report_signature(&report, chain.leaf(), inputs.algorithms);
    log.note(&rules::DEVICE_REPORT_SIGNATURE, signed)?;
    Ok(Device { position: inputs.position, declared: evidence.kind, report, chain, simulated: log.simulated })
}

fn report<'a>(evidence: &'a DeviceEvidence, log: &mut Log<'_>) -> Result<Report<'a>, Stop> {
    match Report::parse(evidence.report.as_bytes()) {
        Ok(report) => {
            log.note(&rules::DEVICE_REPORT_FORMAT, Ok(format!("{} blocks", report.blocks.len())))?;
            Ok(report)
        }
        Err(error) => {
            let outcome = if error.is_unsupported() { Outcome::Unsupported } else { Outcome::Malformed };
            log.independent(&rules::DEVICE_REPORT_FORMAT, Err(error.to_string()));
            Err(Stop { outcome: Some(outcome) })
        }
    }
}

fn chain(evidence: &DeviceEvidence, log: &mut Log<'_>) -> Result<DeviceChain, Stop> {
    match DeviceChain::parse(evidence.chain.as_bytes()) {
        Ok(chain) => {
            let leaf = chain.leaf().common_name.clone();
            log.note(&rules::DEVICE_CHAIN_FORMAT, Ok(leaf))?;
            Ok(chain)
        }
        Err(error) => {
            log.independent(&rules::DEVICE_CHAIN_FORMAT, Err(error.to_string()));
            Err(Stop { outcome: Some(Outcome::Malformed) })
        }
    }
}

/// Whose root it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Vendor {
    Nvidia,
    Other,
}

/// The root's key is NVIDIA's, or one that a danger policy names in its place.
fn anchor(root: &Certificate, policy: &AppraisalPolicy) -> (Result<String, String>, Vendor) {
    let found: [u8; 32] = Sha256::digest(&root.spki).into();
    let vendor = if found == NVIDIA_DEVICE_ROOT_SPKI_SHA256 { Vendor::Nvidia } else { Vendor::Other };
    let pinned = match &policy.danger {
        None => vendor == Vendor::Nvidia,
        Some(danger) => danger.gpu_root_spki_sha256.iter().any(|root| root.0 == found),
    };
    let actual = format!("{} with SPKI SHA-256 {}", root.common_name, hex::encode(&found));
    (if pinned { Ok(actual) } else { Err(actual) }, vendor)
}

/// Every certificate is issued by the next in name and signature, the root by itself; P-384 with SHA-384 throughout.
fn signatures(chain: &DeviceChain, algorithms: &Algorithms) -> Result<String, String> {
    let certificates = chain.certificates();
    let issuers = certificates.iter().skip(1).chain(std::iter::once(chain.root()));
    for (index, (subject, issuer)) in certificates.iter().zip(issuers).enumerate() {
        if subject.key_algorithm != KeyAlgorithm::P384
            || subject.signature_algorithm != SignatureAlgorithm::EcdsaSha384
        {
            return Err(format!("certificate {index} is not ECDSA P-384 with SHA-384"));
        }
        if subject.issuer != issuer.subject {
            return Err(format!("certificate {index} names another issuer than {}", issuer.common_name));
        }
        algorithms
            .certificate(issuer, subject)
            .map_err(|fault| format!("certificate {index}: {}", fault.describe()))?;
    }
    Ok(format!("{} signatures", certificates.len()))
}

/// CA certificates above a leaf that signs, with no critical extension that is not looked at (RFC 5280 section 4.2).
fn usage(chain: &DeviceChain) -> Result<String, String> {
    for (index, certificate) in chain.certificates().iter().enumerate() {
        let unknown = certificate
            .extensions
            .iter()
            .find(|extension| extension.critical && !KNOWN_CRITICAL.contains(&extension.oid.as_ref()));
        if let Some(unknown) = unknown {
            return Err(format!("certificate {index} has the critical extension {}", unknown.oid));
        }
        let fits = match index.checked_sub(1) {
            None => is_signer(certificate),
            Some(below) => is_authority(certificate, below),
        };
        if !fits {
            return Err(format!("certificate {index} may not be used as it is"));
        }
    }
    Ok("a signing leaf below four authorities".to_owned())
}

fn is_signer(leaf: &Certificate) -> bool {
    let signs = leaf.key_usage.is_some_and(|usage| usage.digital_signature && !usage.key_cert_sign);
    signs && !leaf.basic_constraints.is_some_and(|constraints| constraints.ca)
}

/// A CA that allows `below` further CAs beneath it.
fn is_authority(certificate: &Certificate, below: usize) -> bool {
    let below = u32::try_from(below).unwrap_or(u32::MAX);
    let allows = certificate
        .basic_constraints
        .is_some_and(|constraints| constraints.ca && constraints.path_len.is_none_or(|limit| limit >= below));
    allows && certificate.key_usage.is_some_and(|usage| usage.key_cert_sign)
}

fn report_signature(
    report: &Report<'_>,
    leaf: &Certificate,
    algorithms: &Algorithms,
) -> Result<String, String> {
    let (r, s) = report.signature.split_at(48);
    algorithms
        .ecdsa_p384_sha384
        .verify_signature(&leaf.public_key, report.signed, &ecdsa_sig_value(r, s))
        .map(|()| format!("signed by {}", hex::encode(&leaf.serial)))
        .map_err(|_| "the signature does not verify under the leaf certificate".to_owned())
}

impl Device<'_> {
    /// Independent checks of signed fields: all run.
    fn check_fields(&self, inputs: &Inputs<'_>, log: &mut Log<'_>) {
        let policy = &inputs.policy.devices;
        log.independent(&rules::DEVICE_VALIDITY, self.validity(inputs.now));
        log.independent(&rules::DEVICE_NONCE, self.nonce(&inputs.nonce));
        log.independent(&rules::DEVICE_FAMILY, self.family());
        log.independent(&rules::DEVICE_MODE, self.mode());
        log.require(&rules::DEVICE_FWID, &policy.fwid, self.fwid());
        log.cannot(&rules::DEVICE_RIM, &policy.rim, "not run: measurements are not compared yet");
        log.cannot(&rules::DEVICE_REVOCATION, &policy.revocation, "not run: revocation is not looked up yet");
    }

    /// Now lies in every certificate's window. The windows need not nest: genuine leaves begin before their root.
    fn validity(&self, now: i64) -> Result<String, String> {
        for (index, certificate) in self.chain.certificates().iter().enumerate() {
            let (from, until) = (certificate.not_before, certificate.not_after);
            if now < from || now > until {
                let (from, until) = (format_seconds(from), format_seconds(until));
                return Err(format!("certificate {index} is valid from {from} to {until}"));
            }
        }
        Ok(format!("until {}", format_seconds(self.not_after())))
    }

    fn nonce(&self, expected: &[u8; 32]) -> Result<String, String> {
        if self.report.nonce == expected {
            return Ok(hex::encode(expected));
        }
        Err(format!("{}, expected {}", hex::encode(self.report.nonce), hex::encode(expected)))
    }

    /// Document, certificate, report and a Blackwell's CHIP_INFO name the same product.
    fn family(&self) -> Result<String, String> {
        let declared = match self.declared {
            DocumentKind::NvidiaGpu => Some(DeviceKind::Gpu),
            DocumentKind::NvidiaSwitch => Some(DeviceKind::Switch),
            _ => None,
        };
        if declared != Some(self.report.kind) {
            return Err(format!("the report of a {:?}, declared as {:?}", self.report.kind, self.declared));
        }
        let family = self
            .chain
            .family()
            .ok_or_else(|| format!("an unknown family, {}", self.chain.leaf().common_name))?;
        let pdi = self.chain.pdi().map(|(kind, _)| kind);
        if family.kind() != self.report.kind || pdi != Some(self.report.kind) {
            return Err(format!("the report of another kind of device than {}", family.name()));
        }
        match self.report.opaque.chip_info {
            Some(chip) if !carries(family, chip) => {
                Err(format!("chip {chip} under a certificate for {}", family.name()))
            }
            _ => Ok(family.name().to_owned()),
        }
    }

    /// FEATURE_FLAG is known and does not contradict PROTECTED_PCIE_STATUS.
    fn mode(&self) -> Result<String, String> {
        let opaque = &self.report.opaque;
        match (self.report.mode(), opaque.protected_pcie) {
            (Some(Mode::Unknown(flag)), _) => Err(format!("unknown feature flag {flag}")),
            (Some(Mode::ProtectedPcie), Some(Toggle::Disabled)) => {
                Err("feature flag on, protected PCIe off".to_owned())
            }
            (Some(Mode::SinglePassthrough | Mode::MultiPassthrough), Some(Toggle::Enabled)) => {
                Err("feature flag off, protected PCIe on".to_owned())
            }
            (mode, _) => Ok(mode_name(mode).to_owned()),
        }
    }

    /// The firmware that holds the leaf key is the one that the device measured.
    fn fwid(&self) -> Result<String, String> {
        let certified = self.chain.fwid().ok_or("the leaf certificate has no firmware id")?;
        if let Fwid::Composite { spki, .. } = certified
            && *spki != self.chain.brom().spki
        {
            return Err("the firmware id extension names another key than the BROM's".to_owned());
        }
        match (self.report.kind, self.report.opaque.fwid, certified.digest()) {
            (DeviceKind::Switch, None, _) => Ok("switch reports carry none".to_owned()),
            (_, Some(report), Some(certificate)) if report == certificate => Ok(hex::encode(report)),
            (_, Some(report), Some(_)) => {
                Err(format!("{}, which the certificate does not name", hex::encode(report)))
            }
            _ => Err("the report carries none".to_owned()),
        }
    }

    /// End of the first certificate to expire, seconds since the Unix epoch.
    pub(super) fn not_after(&self) -> i64 {
        self.chain.certificates().iter().map(|certificate| certificate.not_after).min().unwrap_or(i64::MIN)
    }

    pub(super) fn result(&self) -> DeviceResult {
        let kind = match self.report.kind {
            DeviceKind::Gpu => "nvidia-gpu",
            DeviceKind::Switch => "nvidia-switch",
        };
        DeviceResult {
            kind: kind.to_owned(),
            serial: hex::encode(&self.chain.leaf().serial),
            family: self.chain.family().map_or("unknown", Family::name).to_owned(),
            driver: self.report.opaque.driver_version.map(str::to_owned),
            vbios: self.report.opaque.vbios_version.clone(),
            mode: mode_name(self.report.mode()).to_owned(),
        }
    }
}

/// Whether a certificate family covers the chip that CHIP_INFO names: GB20X covers GB202 and its siblings.
fn carries(family: Family, chip: &str) -> bool {
    match family {
        Family::Gb20x => chip.strip_prefix("GB20").is_some_and(|digit| digit.len() == 1),
        Family::Gh100 | Family::Gb100 | Family::Ls10 => chip == family.name(),
    }
}

/// The mode in results.
pub(super) fn mode_name(mode: Option<Mode>) -> &'static str {
    match mode {
        Some(Mode::SinglePassthrough) => "spt",
        Some(Mode::MultiPassthrough) => "mpt",
        Some(Mode::ProtectedPcie) => "ppcie",
        Some(Mode::Unknown(_)) | None => "unknown",
    }
}
