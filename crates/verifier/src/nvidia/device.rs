//! One device: chain, report signature, nonce, versions, firmware id; then measurements and revocation.

use super::chain;
use super::endorsements::Firmware;
use super::known::Known;
use super::manifest::{self, Assessed, Held, Manifests, Means, Unknown};
use super::measurements::{self, Comparison, Mismatch};
use super::revocation;
use crate::check::{Checks, Rule, Status};
use crate::platform::listed_as;
use crate::result::{DeviceFacts, ManifestResult, Outcome};
use crate::rules;
use crate::signature::Algorithms;
use confide_evidence::bytes::Bytes;
use confide_evidence::document::{DeviceEvidence, DeviceKind as DocumentKind};
use confide_evidence::hex;
use confide_evidence::nvidia::{
    DeviceChain, DeviceKind, DriverVersion, Edition, Family, Fwid, Mode, OperationalFlag, Report, TcbInfo,
    Toggle, VbiosVersion,
};
use confide_evidence::x509::Certificate;
use confide_policy::{AppraisalPolicy, CcMode, Expect, Floor, NVIDIA_DEVICE_ROOTS, Require};
use sha2::{Digest as _, Sha256};

/// The rules of one device, in order.
static RULES: [&Rule; 22] = [
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
    &rules::DEVICE_CC_MODE,
    &rules::DEVICE_DRIVER_FLOOR,
    &rules::DEVICE_DRIVER,
    &rules::DEVICE_VBIOS_FLOOR,
    &rules::DEVICE_VBIOS,
    &rules::DEVICE_UNKNOWN_RECORDS,
    &rules::DEVICE_FWID,
    &rules::DEVICE_TCB_FLAGS,
    &rules::DEVICE_RIM,
    &rules::DEVICE_MEASUREMENTS,
    &rules::DEVICE_REVOCATION,
    &rules::DEVICE_HOLD,
];

/// What a device is appraised for.
pub(super) struct Inputs<'a> {
    pub(super) position: u32,
    pub(super) nonce: Option<[u8; 32]>,
    pub(super) policy: &'a AppraisalPolicy,
    pub(super) algorithms: &'a Algorithms,
    pub(super) known: &'a Known,
    pub(super) now: i64,
}

/// The manifests of driver and VBIOS that a device is held against.
pub(super) type Chosen<'m, 'p> = [Option<&'m Assessed<'p>>; 2];

/// What came of holding a device's measurements against manifests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compared {
    Same,
    Different,
    /// There is no manifest, or one that does not hold.
    NotRun,
}

/// What came of a device's measurements, and what its result says of them.
pub(super) struct Measured {
    pub(super) compared: Compared,
    /// Nothing where they were not compared.
    comparison: Option<Comparison>,
}

impl Measured {
    const NOT_RUN: Self = Self { compared: Compared::NotRun, comparison: None };
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
    let chain = parse_chain(evidence, log)?;
    let (anchor, vendor) = anchor(chain.root(), inputs.policy);
    log.note(&rules::DEVICE_ROOT_ANCHOR, anchor)?;
    log.simulated = vendor == Vendor::Other;
    let certificates = chain.certificates();
    let verify = |index, issuer: &_, subject: &_| match index {
        // Leaf and BROM are the device's own; what is above them is shared by many.
        0 | 1 => inputs.algorithms.certificate(issuer, subject),
        _ => inputs.known.authority(issuer, subject, inputs.algorithms),
    };
    let signed = chain::signatures(certificates, verify);
    if let ([_, _, authorities @ ..], true) = (certificates, signed.is_ok()) {
        inputs.known.keep_authorities(authorities);
    }
    log.note(&rules::DEVICE_CHAIN_SIGNATURES, signed)?;
    log.note(&rules::DEVICE_CHAIN_USAGE, chain::usage(certificates))?;
    let signed = report_signature(&report, chain.leaf(), inputs);
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

fn parse_chain(evidence: &DeviceEvidence, log: &mut Log<'_>) -> Result<DeviceChain, Stop> {
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
    let vendor = if NVIDIA_DEVICE_ROOTS.contains(&found) { Vendor::Nvidia } else { Vendor::Other };
    let pinned = policy.gpu_roots().contains(&found);
    let actual = format!("{} with SPKI SHA-256 {}", root.common_name, hex::encode(&found));
    (if pinned { Ok(actual) } else { Err(actual) }, vendor)
}

fn report_signature(report: &Report<'_>, leaf: &Certificate, inputs: &Inputs<'_>) -> Result<String, String> {
    inputs
        .algorithms
        .p384_raw(&leaf.public_key, report.signed, report.signature)
        .map(|()| format!("signed by {}", hex::encode(&leaf.serial)))
        .map_err(|_| "the signature does not verify under the leaf certificate".to_owned())
}

impl Device<'_> {
    /// Independent checks of signed fields: all run.
    fn check_fields(&self, inputs: &Inputs<'_>, log: &mut Log<'_>) {
        let policy = &inputs.policy.devices;
        let window = chain::validity(self.chain.certificates(), inputs.now);
        log.independent(&rules::DEVICE_VALIDITY, window);
        log.independent(&rules::DEVICE_NONCE, self.nonce(inputs.nonce.as_ref()));
        log.independent(&rules::DEVICE_FAMILY, self.family());
        log.independent(&rules::DEVICE_MODE, self.mode());
        if self.report.kind == DeviceKind::Gpu {
            let mode = CcMode::from(self.report.mode());
            let shown = log.actual(mode.name());
            log.checks.expect_each(&rules::DEVICE_CC_MODE, &policy.mode, &[mode], shown);
            self.driver(inputs, log);
        }
        self.vbios(inputs, log);
        self.unknown_records(&policy.unknown_records, log);
        log.require(&rules::DEVICE_FWID, &policy.fwid, self.fwid());
        log.independent(&rules::DEVICE_TCB_FLAGS, self.tcb_flags());
    }

    /// The driver that the report names, against the policy's floor and lists.
    fn driver(&self, inputs: &Inputs<'_>, log: &mut Log<'_>) {
        let policy = &inputs.policy.devices;
        let found = self.driver_version();
        let shown = log.actual(self.report.opaque.driver_version.unwrap_or("no driver is named"));
        let reaches = |floor: &DriverVersion| found.is_some_and(|found| found >= *floor);
        floor(&rules::DEVICE_DRIVER_FLOOR, &policy.driver_floor, reaches, shown.clone(), log.checks);
        listed_as(&rules::DEVICE_DRIVER, &policy.driver, found.as_ref(), shown.into(), log.checks);
    }

    fn vbios(&self, inputs: &Inputs<'_>, log: &mut Log<'_>) {
        let policy = &inputs.policy.devices;
        let found = self.vbios_version();
        let shown = log.actual(self.report.opaque.vbios_version.as_deref().unwrap_or("no VBIOS is named"));
        let reaches = |floors: &confide_policy::VbiosFloors| {
            found.is_some_and(|found| floors.of(found).is_some_and(|floor| found >= floor))
        };
        floor(&rules::DEVICE_VBIOS_FLOOR, &policy.vbios_floor, reaches, shown.clone(), log.checks);
        listed_as(&rules::DEVICE_VBIOS, &policy.vbios, found.as_ref(), shown.into(), log.checks);
    }

    fn unknown_records(&self, expected: &Expect<u16>, log: &mut Log<'_>) {
        let ids = self.report.opaque.unknown_ids();
        let told: Vec<String> = ids.iter().map(ToString::to_string).collect();
        let shown = if told.is_empty() { "none".to_owned() } else { told.join(", ") };
        let shown = log.actual(&shown);
        match expected {
            // Nothing is there that the policy could name.
            Expect::AnyOf(_) if ids.is_empty() => log.checks.pass(&rules::DEVICE_UNKNOWN_RECORDS, shown),
            _ => log.checks.expect_each(&rules::DEVICE_UNKNOWN_RECORDS, expected, &ids, shown),
        }
    }

    /// Nothing in the leaf's TcbInfo says that the firmware runs in debug, recovery or another insecure mode.
    fn tcb_flags(&self) -> Result<String, String> {
        let Some(Fwid::TcbInfo(info)) = self.chain.fwid() else {
            return Ok("the certificate names no flags".to_owned());
        };
        let flags = info.operational_flags().ok_or("the certificate's TcbInfo names no flags")?;
        let names: Vec<String> = flags.iter().map(ToString::to_string).collect();
        let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        // NVIDIA sets the two on production devices, where they mean nothing bad.
        let harmless = [OperationalFlag::NotConfigured, OperationalFlag::FixedWidth];
        if flags.iter().all(|flag| harmless.contains(flag)) { Ok(names) } else { Err(names) }
    }

    fn driver_version(&self) -> Option<DriverVersion> {
        self.report.opaque.driver_version.and_then(|version| version.parse().ok())
    }

    fn vbios_version(&self) -> Option<VbiosVersion> {
        self.report.opaque.vbios_version.as_deref().and_then(|version| version.parse().ok())
    }

    /// The product as manifests name it.
    fn product(&self) -> Option<&str> {
        match self.chain.family()? {
            Family::Ls10 => Some("LS10"),
            Family::Gb20x => self.report.opaque.chip_info,
            family => Some(family.name()),
        }
    }

    /// The manifests that the device is held against: a GPU's of driver and VBIOS, a switch's of its firmware.
    pub(super) fn manifests<'m, 'p>(&self, manifests: &'m Manifests<'p>) -> Chosen<'m, 'p> {
        let Some(product) = self.product() else { return [None, None] };
        let edition = match self.report.kind {
            DeviceKind::Gpu => Edition::Gpu,
            DeviceKind::Switch => Edition::Switch,
        };
        let best = |firmware| manifests.best(&self.report, product, edition, firmware);
        let driver = self.driver_version().filter(|_| self.report.kind == DeviceKind::Gpu);
        let vbios = self.vbios_version().and_then(|version| best(Firmware::Vbios(version)));
        [driver.and_then(|version| best(Firmware::Driver(version))), vbios]
    }

    /// Holds the measurements against the manifests that were found.
    pub(super) fn check_measurements(
        &self,
        chosen: &Chosen<'_, '_>,
        means: &Means<'_>,
        checks: &mut Checks,
    ) -> Measured {
        let name = format!("device {}", self.position);
        let [driver, vbios] = chosen;
        let missing = [
            (driver.is_none() && self.report.kind == DeviceKind::Gpu).then(|| {
                format!("driver {}", self.report.opaque.driver_version.unwrap_or("without a version"))
            }),
            vbios.is_none().then(|| {
                let version = self.report.opaque.vbios_version.as_deref();
                format!("VBIOS or firmware {}", version.unwrap_or("without a version"))
            }),
        ];
        let missing: Vec<String> = missing.into_iter().flatten().collect();
        let found: Vec<&Assessed<'_>> = chosen.iter().flatten().copied().collect();
        if !missing.is_empty() {
            let product = self.product().unwrap_or("an unknown product");
            let given = means.prepared.manifests.len();
            let actual = format!(
                "{name}: no manifest for {product}, {}, among the {given} that were given",
                missing.join(" and ")
            );
            absent(&rules::DEVICE_RIM, &means.policy.devices.rim, actual, checks);
        } else {
            let named: Vec<String> = found.iter().map(|found| found.manifest.describe()).collect();
            checks.pass(&rules::DEVICE_RIM, format!("{name}: {}", named.join(" and ")));
        }
        if found.is_empty() {
            checks.not_run(&rules::DEVICE_MEASUREMENTS, format!("{name}: there is no manifest"));
            return Measured::NOT_RUN;
        }
        if !found.iter().all(|found| found.holds()) {
            let why = format!("{name}: not reached: a manifest does not hold");
            checks.not_run(&rules::DEVICE_MEASUREMENTS, why);
            return Measured::NOT_RUN;
        }
        let manifests: Vec<_> = found.iter().map(|found| found.manifest).collect();
        let comparison = match measurements::compare(&self.report, &manifests) {
            Ok(comparison) => comparison,
            Err(actual) => {
                checks.fail(&rules::DEVICE_MEASUREMENTS, format!("{name}: {actual}"));
                return Measured { compared: Compared::Different, comparison: None };
            }
        };
        let compared = match &comparison.mismatch {
            None => {
                checks.pass(&rules::DEVICE_MEASUREMENTS, format!("{name}: {}", comparison.equal()));
                Compared::Same
            }
            Some(Mismatch { actual, remedy }) => {
                checks.fail(&rules::DEVICE_MEASUREMENTS, format!("{name}: {actual}"));
                checks.advise(|| remedy.clone());
                Compared::Different
            }
        };
        Measured { compared, comparison: Some(comparison) }
    }

    /// What tells the machine whose first device it is from others: SHA-256 of the leaf's SubjectPublicKeyInfo.
    pub(super) fn machine(&self) -> [u8; 32] {
        Sha256::digest(&self.chain.leaf().spki).into()
    }

    /// What is known of the certificates between leaf and root: NVIDIA answers for them alone. Until when that holds, in
    /// seconds since the Unix epoch.
    pub(super) fn check_revocation(&self, means: &Means<'_>, checks: &mut Checks) -> i64 {
        let Means { prepared, policy, algorithms, at } = *means;
        let name = format!("device {}", self.position);
        let certificates = self.chain.certificates();
        let pairs = certificates.iter().zip(certificates.iter().skip(1)).skip(1);
        let standings: Vec<_> = pairs
            .map(|(subject, issuer)| revocation::standing(subject, issuer, prepared, at, algorithms))
            .collect();
        let (found, until) = manifest::known(&standings);
        match found {
            Ok(actual) => checks.pass(&rules::DEVICE_REVOCATION, format!("{name}: {actual}")),
            Err(Unknown::Revoked(actual)) => {
                checks.fail(&rules::DEVICE_REVOCATION, format!("{name}: {actual}"));
            }
            Err(Unknown::Missing(actual)) => {
                absent(
                    &rules::DEVICE_REVOCATION,
                    &policy.devices.revocation,
                    format!("{name}: {actual}"),
                    checks,
                );
            }
        }
        let required = &policy.devices.not_on_hold;
        match (manifest::held(&standings), required) {
            (Held::Unknown(actual), Require::Required) => {
                checks.not_run(&rules::DEVICE_HOLD, format!("{name}: {actual}"));
            }
            (Held::None, _) => checks.require(
                &rules::DEVICE_HOLD,
                required,
                Ok::<_, String>(format!("{name}: none is on hold")),
            ),
            (Held::One(actual) | Held::Unknown(actual), _) => {
                checks.require(&rules::DEVICE_HOLD, required, Err::<String, _>(format!("{name}: {actual}")));
            }
        }
        until
    }

    fn nonce(&self, expected: Option<&[u8; 32]>) -> Result<String, String> {
        let expected = expected.ok_or("nobody has asked this device")?;
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
        let brom = &self.chain.brom().common_name;
        if brom.split(' ').next() != Some(family.name()) {
            return Err(format!("a certificate for {} under {brom}", family.name()));
        }
        let responder = if self.report.kind == DeviceKind::Gpu { "GSP" } else { "FSP" };
        if self.chain.leaf().common_name.split(' ').nth(2) != Some(responder) {
            return Err(format!(
                "a key of another unit than the {responder}: {}",
                self.chain.leaf().common_name
            ));
        }
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

    /// FEATURE_FLAG is known, does not contradict PROTECTED_PCIE_STATUS, and says a mode that the chip has.
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
            (Some(mode), _) if !self.has_mode(mode) => {
                let family = self.chain.family().map_or("unknown", Family::name);
                Err(format!("mode {}, which no {family} has", CcMode::from(Some(mode))))
            }
            (mode, _) => Ok(CcMode::from(mode).name().to_owned()),
        }
    }

    /// Whether devices of this family have the mode: Hopper alone has the protected PCIe mode, Blackwell alone several GPUs
    /// with encrypted links, and a switch says none. What family it is, is checked for itself.
    fn has_mode(&self, mode: Mode) -> bool {
        match (self.chain.family(), mode) {
            (None, _) => true,
            (Some(Family::Ls10), _) | (Some(Family::Gh100), Mode::MultiPassthrough) => false,
            (Some(Family::Gb100 | Family::Gb20x), Mode::ProtectedPcie) => false,
            (Some(Family::Gh100 | Family::Gb100 | Family::Gb20x), _) => true,
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
        chain::not_after(self.chain.certificates())
    }

    fn tcb_info(&self) -> Option<&TcbInfo> {
        match self.chain.fwid() {
            Some(Fwid::TcbInfo(info)) => Some(info),
            _ => None,
        }
    }

    /// Facts of the device, none of which counts where its checks fail.
    pub(super) fn facts(&self, chosen: &Chosen<'_, '_>, measured: Measured) -> DeviceFacts {
        let comparison = measured.comparison.map(|found| (found.differences, found.without_golden_value));
        let (differences, without_golden_value) = comparison.unzip();
        DeviceFacts {
            serial: hex::encode(&self.chain.leaf().serial),
            family: self.chain.family().map_or("unknown", Family::name).to_owned(),
            driver: self.report.opaque.driver_version.map(str::to_owned),
            vbios: self.report.opaque.vbios_version.clone(),
            mode: CcMode::from(self.report.mode()).name().to_owned(),
            svn: self.tcb_info().and_then(|info| info.svn.as_deref()).map(hex::encode),
            tcb_flags: self
                .tcb_info()
                .and_then(|info| info.operational_flags())
                .map(|flags| flags.iter().map(ToString::to_string).collect())
                .unwrap_or_default(),
            manifests: chosen
                .iter()
                .flatten()
                .map(|found| ManifestResult {
                    version: found.manifest.rim.colloquial_version.clone(),
                    tag_id: found.manifest.rim.tag_id.clone(),
                    sha256: Bytes(found.manifest.sha256),
                })
                .collect(),
            differences,
            without_golden_value,
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

/// What is not there: only a waiver keeps it from failing.
fn absent(rule: &'static Rule, required: &Require, actual: String, checks: &mut Checks) {
    match required {
        Require::Required => checks.fail(rule, actual),
        Require::Waive(reason) => checks.push(rule, Status::NotRun, format!("waived: {reason}"), actual),
    }
}

/// Holds a version against its floor.
fn floor<T: std::fmt::Display>(
    rule: &'static Rule,
    floor: &Floor<T>,
    reaches: impl Fn(&T) -> bool,
    shown: String,
    checks: &mut Checks,
) {
    match floor {
        Floor::Waive(reason) => checks.waive(rule, reason, shown),
        Floor::AtLeast(least) => {
            let status = if reaches(least) { Status::Pass } else { Status::Fail };
            checks.push(rule, status, format!("at least {least}"), shown);
        }
    }
}
