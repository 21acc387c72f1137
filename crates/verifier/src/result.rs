//! Attestation results: data that auditors replay, programs render and nobody draws authority from.

use crate::check::Check;
use confide_evidence::bytes::Bytes;
use confide_evidence::nvidia::MAX_MEASUREMENTS;
use confide_evidence::text::escape_json;
use serde::Serialize;
use thiserror::Error;

/// How an appraisal ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Every check passed or is waived by the policy.
    Accepted,
    /// At least one check failed.
    Rejected,
    /// The evidence is of a format that this version does not appraise.
    Unsupported,
    /// The evidence is not well formed.
    Malformed,
}

/// The attestation result (RFC 9334 section 8.4): every check with what was expected and what was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AttestationResult {
    /// How the appraisal ended.
    pub outcome: Outcome,
    /// Stable code of the first check that failed.
    pub code: Option<&'static str>,
    /// Whether the evidence's chain ended in another trust anchor than the vendor's.
    pub simulated: bool,
    /// `tdx` or `sev-snp`, once the evidence has been parsed.
    pub platform: Option<&'static str>,
    /// Name of the appraisal policy.
    pub policy: String,
    /// Time of the appraisal, RFC 3339.
    pub time: String,
    /// Another time that manifests and the revocation of their signers were held against, RFC 3339; absent where all of
    /// the appraisal has one time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rim_time: Option<String>,
    /// Intel's status name or `NoMatchingTcbLevel`; nothing where signatures, chains or windows do not hold.
    pub tcb_status: Option<&'static str>,
    /// Date of the platform's TCB level, RFC 3339: from then on the platform is behind where the status is not the best.
    pub tcb_date: Option<String>,
    /// Advisories of the TCB levels that the platform has reached.
    pub advisory_ids: Vec<String>,
    /// The status name that the next TCB recovery brings, by the early collateral; nothing where that is not given or not
    /// usable.
    pub early_tcb_status: Option<&'static str>,
    /// Name of the reference set that the evidence matches; nothing where the policy takes no value from one.
    pub reference_set: Option<String>,
    /// What the PCK certificate says of the platform; nothing where signatures do not hold.
    pub pck: Option<PckResult>,
    /// Measurements of the quote or report.
    pub measurements: Option<Measurements>,
    /// Report data of the quote or report.
    pub report_data: Option<Bytes<64>>,
    /// Until when the verdict may be relied on, RFC 3339; nothing where it was not accepted.
    pub valid_until: Option<String>,
    /// How the GPUs are tied to the CPU's evidence: `shared_transcript` where it covers their reports, `topology` where they
    /// are tied to each other besides, `registered_hardware` where the policy's registry has them beside this CPU. Nothing
    /// where a document's report data did not pass, waived or not: then no evidence of the CPU covers them.
    pub platform_binding: Option<&'static str>,
    /// The result of each device that was given, in order: also of one that is not authentic, and of one that was not looked at.
    pub devices: Vec<DeviceResult>,
    /// All checks, in the order in which they were made.
    pub checks: Vec<Check>,
    /// What this verdict does not show.
    pub assumptions: Vec<&'static str>,
}

/// What a PCK certificate says of its platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PckResult {
    /// Who has issued it: `platform` or `processor`.
    pub ca: &'static str,
    /// FMSPC.
    pub fmspc: Bytes<6>,
    /// PCEID.
    pub pce_id: Bytes<2>,
    /// PPID.
    pub ppid: Bytes<16>,
    /// SGX type: `standard`, `scalable` or `scalable-with-integrity`.
    pub sgx_type: &'static str,
    /// SGX TCB components.
    pub sgx_components: Bytes<16>,
    /// PCESVN.
    pub pce_svn: u16,
    /// CPUSVN.
    pub cpu_svn: Bytes<16>,
    /// Platform instance id, of platforms under the Platform CA.
    pub platform_instance_id: Option<Bytes<16>>,
    /// Whether packages can be added, of platforms under the Platform CA.
    pub dynamic_platform: Option<bool>,
    /// Whether Intel caches the platform's root keys, of platforms under the Platform CA.
    pub cached_keys: Option<bool>,
    /// Whether simultaneous multithreading is on, of platforms under the Platform CA.
    pub smt_enabled: Option<bool>,
}

/// What the CPU's evidence measures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum Measurements {
    /// Of a TDX quote.
    Tdx(Box<TdxMeasurements>),
    /// Of an SEV-SNP report.
    Snp(Box<SnpMeasurements>),
}

impl Measurements {
    /// Those of a TDX quote.
    #[must_use]
    pub fn tdx(&self) -> Option<&TdxMeasurements> {
        match self {
            Self::Tdx(measurements) => Some(measurements),
            Self::Snp(_) => None,
        }
    }

    /// Those of an SEV-SNP report.
    #[must_use]
    pub fn snp(&self) -> Option<&SnpMeasurements> {
        match self {
            Self::Snp(measurements) => Some(measurements),
            Self::Tdx(_) => None,
        }
    }
}

/// Measurements of an SEV-SNP report. Names are AMD's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SnpMeasurements {
    /// MEASUREMENT.
    pub measurement: Bytes<48>,
    /// HOST_DATA.
    pub host_data: Bytes<32>,
    /// FAMILY_ID.
    pub family_id: Bytes<16>,
    /// IMAGE_ID.
    pub image_id: Bytes<16>,
    /// GUEST_SVN.
    pub guest_svn: u32,
    /// ID_KEY_DIGEST.
    pub id_key_digest: Bytes<48>,
    /// AUTHOR_KEY_DIGEST.
    pub author_key_digest: Bytes<48>,
    /// REPORT_ID.
    pub report_id: Bytes<32>,
    /// REPORT_ID_MA.
    pub report_id_ma: Bytes<32>,
    /// CHIP_ID.
    pub chip_id: Bytes<64>,
    /// VMPL of the requester.
    pub vmpl: u32,
    /// POLICY, as a number in 16 hexadecimal digits.
    pub policy: String,
    /// PLATFORM_INFO, as a number in 16 hexadecimal digits.
    pub platform_info: String,
    /// REPORTED_TCB in memory order.
    pub reported_tcb: Bytes<8>,
    /// COMMITTED_TCB in memory order.
    pub committed_tcb: Bytes<8>,
    /// CURRENT_TCB in memory order.
    pub current_tcb: Bytes<8>,
    /// LAUNCH_TCB in memory order.
    pub launch_tcb: Bytes<8>,
    /// Version of the firmware that runs.
    pub current_firmware: String,
    /// Version below which the firmware cannot be rolled back.
    pub committed_firmware: String,
    /// LAUNCH_MIT_VECTOR, as a number, of reports from version 5 on.
    pub launch_mit_vector: Option<String>,
    /// CURRENT_MIT_VECTOR, as a number, of reports from version 5 on.
    pub current_mit_vector: Option<String>,
}

/// Measurements of a TDX quote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TdxMeasurements {
    /// MRTD.
    pub mr_td: Bytes<48>,
    /// RTMR0.
    pub rtmr0: Bytes<48>,
    /// RTMR1.
    pub rtmr1: Bytes<48>,
    /// RTMR2.
    pub rtmr2: Bytes<48>,
    /// RTMR3.
    pub rtmr3: Bytes<48>,
    /// MRSEAM.
    pub mr_seam: Bytes<48>,
    /// MRSIGNERSEAM.
    pub mr_signer_seam: Bytes<48>,
    /// MRCONFIGID.
    pub mr_config_id: Bytes<48>,
    /// MROWNER.
    pub mr_owner: Bytes<48>,
    /// MROWNERCONFIG.
    pub mr_owner_config: Bytes<48>,
    /// MRSERVICETD, of TD 1.5 reports.
    pub mr_service_td: Option<Bytes<48>>,
    /// TDATTRIBUTES in memory order.
    pub td_attributes: Bytes<8>,
    /// XFAM in memory order.
    pub xfam: Bytes<8>,
    /// SEAMATTRIBUTES in memory order.
    pub seam_attributes: Bytes<8>,
    /// TEE_TCB_SVN.
    pub tee_tcb_svn: Bytes<16>,
    /// TEE_TCB_SVN_2, of TD 1.5 reports.
    pub tee_tcb_svn_2: Option<Bytes<16>>,
}

/// What became of one device, by its own checks and those of its manifests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceOutcome {
    /// Authentic, and each of them passed or is waived. The node's verdict may be another: a set has rules of its own.
    Accepted,
    /// One of them failed.
    Rejected,
    /// Its evidence is of a form or version that is not supported.
    Unsupported,
    /// Its evidence is not well formed.
    Malformed,
    /// It was not looked at, because the CPU's evidence does not cover it.
    NotRun,
}

/// The result of one device: each that was given has one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeviceResult {
    /// Position in the list of devices, from 0.
    pub position: u32,
    /// `nvidia-gpu` or `nvidia-switch`, as the evidence declares. Where `device_family` passed, the report says the same.
    pub kind: &'static str,
    /// What became of it.
    pub outcome: DeviceOutcome,
    /// Code of the first of its own checks that failed, or else of the first of its manifests'.
    pub code: Option<&'static str>,
    /// What its signed report says of it. One whose evidence is not authentic has no facts.
    #[serde(flatten)]
    pub facts: Option<DeviceFacts>,
}

/// What a device's signed report and its certificates say of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeviceFacts {
    /// Serial number of the device's leaf certificate, in hexadecimal digits.
    pub serial: String,
    /// Chip family by the certificate.
    pub family: String,
    /// Driver version by the report.
    pub driver: Option<String>,
    /// VBIOS or switch firmware version by the report.
    pub vbios: Option<String>,
    /// `spt`, `mpt`, `ppcie` or `unknown`, by signed fields.
    pub mode: String,
    /// Security version number of the leaf's TcbInfo, in hexadecimal digits, where the certificate has one.
    pub svn: Option<String>,
    /// Operational flags of the leaf's TcbInfo, by the TCG's names.
    pub tcb_flags: Vec<String>,
    /// The manifests that its measurements were held against: a GPU's of driver and VBIOS, a switch's of its firmware.
    pub manifests: Vec<ManifestResult>,
    /// Every measurement that is none of the manifests' golden values, in their order; at most [`MAX_DIFFERENCES`]. Nothing
    /// where measurements were not compared: there is no manifest, or not both hold, or they are none to compare with.
    pub differences: Option<Vec<MeasurementDifference>>,
    /// Indices, from 0 and sorted, of the report's blocks that hold another value than zeros and for which the manifests have
    /// no active golden value: nobody vouches for these, and no rule forbids them. Nothing as above.
    pub without_golden_value: Option<Vec<u8>>,
}

/// The most differences that a device's result lists. A manifest has at most as many measurements as a report has blocks, and
/// where two manifests have a value for one index nothing is compared.
pub const MAX_DIFFERENCES: usize = MAX_MEASUREMENTS;

/// A measurement of a device that is none of its golden values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MeasurementDifference {
    /// Index of the manifest, from 0; the report's block is one higher.
    pub index: u8,
    /// NVIDIA's name of it.
    pub name: String,
    /// The golden values, SHA-384: the block should have one of them.
    pub golden: Vec<Bytes<48>>,
    /// The block's value, SHA-384; nothing where the report has no such block.
    pub actual: Option<Bytes<48>>,
    /// The version that the manifest with these golden values is of.
    pub manifest_version: String,
    /// SHA-256 of its file, by which issues of one id are told apart.
    pub manifest_sha256: Bytes<32>,
}

/// A reference integrity manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ManifestResult {
    /// The version of the driver or firmware.
    pub version: String,
    /// The tag's id.
    pub tag_id: String,
    /// SHA-256 of the file, by which issues of one id are told apart.
    pub sha256: Bytes<32>,
}

impl AttestationResult {
    /// Canonical JSON text: the bytes that records keep and replays reproduce. Nothing in it steers a terminal: what
    /// evidence chose is escaped.
    ///
    /// # Panics
    /// Never: the type has no maps and no floating point numbers.
    #[must_use]
    pub fn to_json(&self) -> String {
        escape_json(serde_json::to_string(self).expect("strings, lists and structs always serialise"))
    }

    /// Whether every check passed or is waived.
    #[must_use]
    pub fn accepted(&self) -> bool {
        self.outcome == Outcome::Accepted
    }
}

/// Evidence that was not accepted, with the whole result.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{}", self.sentence())]
pub struct Rejection {
    /// The result, whose outcome is not [`Outcome::Accepted`].
    pub result: Box<AttestationResult>,
}

impl Rejection {
    /// Stable code of the first check that failed.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.result.code.unwrap_or("internal")
    }

    fn sentence(&self) -> String {
        let failed = self.result.checks.iter().find(|check| Some(check.code) == self.result.code);
        match failed {
            Some(check) => format!("{}: expected {}, found {}", check.code, check.expected, check.actual),
            None => "evidence was not accepted".to_owned(),
        }
    }
}

/// What no verdict of this version shows.
pub(crate) const CPU_ASSUMPTIONS: [&str; 2] = [
    "physical interposers on memory buses can extract attestation keys: the machine's owner is assumed not to have opened it",
    "the vendor's keys, the TDX module and the processor behave as documented",
];

/// What no verdict of this version over SEV-SNP evidence shows.
pub(crate) const SNP_ASSUMPTIONS: [&str; 2] = [
    "physical interposers on memory buses and attacks on the secure processor can extract signing keys: the machine's owner is assumed not to have done so",
    "the vendor's keys, the SEV-SNP firmware and the processor behave as documented",
];

/// What verdicts over GPU evidence add.
pub(crate) const GPU_ASSUMPTIONS: [&str; 3] = [
    "without TDISP no evidence proves that a GPU sits in the CPU's chassis: the CPU quote covers the GPU's report, not its place",
    "a manifest names chip and version but no board: that of another board with the same version may have been used",
    "sizes, timing and counts are visible to the host",
];

/// What no verdict over devices by themselves shows.
pub(crate) const DEVICES_ASSUMPTION: &str = "no CPU evidence is part of this verdict: it does not show which machine or guest uses these devices, or that they are in use at all, and nonces are taken as they are given, whoever drew them, whenever that was";

/// What verdicts over documents add under a policy that lets further connections ride on them.
pub(crate) const PER_KEY_ASSUMPTION: &str = "further connections to the same TLS key are not attested while this verdict holds: the guest is assumed to keep its key to itself";

/// What verdicts over documents add where the log of events has `no-volumes`: no broker's signed answer set the guest's clock.
pub(crate) const HOST_TIME_ASSUMPTION: &str = "the guest's time is untrusted: no broker gave it, so that the host chose when the guest's own statements, receipts among them, say that they were made, and at what time it appraised its GPUs";

/// What verdicts over documents add where a broker gave keys and time, and the policy names none.
pub(crate) const UNNAMED_BROKER_ASSUMPTION: &str = "the guest's time is untrusted: a broker gave it that the policy does not name; whoever runs that broker, which may be the host, chose when the guest's own statements, receipts among them, say that they were made, and at what time it appraised its GPUs, and knows the keys of its volumes";

/// First assumption of everything that ended in another anchor than a vendor's.
pub(crate) const SIMULATED: &str = "SIMULATED: the chain ends in a test root whose private key is public; this is no evidence of any hardware";
