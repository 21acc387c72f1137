//! Attestation results: data that auditors replay, programs render and nobody draws authority from.

use crate::check::Check;
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
    /// Measurements of the quote or report, in hexadecimal digits.
    pub measurements: Option<Measurements>,
    /// Report data of the quote or report, 64 bytes in hexadecimal digits.
    pub report_data: Option<String>,
    /// Until when the verdict may be relied on, RFC 3339; nothing where it was not accepted.
    pub valid_until: Option<String>,
    /// How the GPUs are tied to the CPU's evidence.
    pub platform_binding: Option<&'static str>,
    /// Facts of each device's signed report.
    pub devices: Vec<DeviceResult>,
    /// All checks, in the order in which they were made.
    pub checks: Vec<Check>,
    /// What this verdict does not show.
    pub assumptions: Vec<&'static str>,
}

/// What a PCK certificate says of its platform. Byte strings are hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PckResult {
    /// Who has issued it: `platform` or `processor`.
    pub ca: &'static str,
    /// FMSPC, 6 bytes.
    pub fmspc: String,
    /// PCEID, 2 bytes.
    pub pce_id: String,
    /// PPID, 16 bytes.
    pub ppid: String,
    /// SGX type: `standard`, `scalable` or `scalable-with-integrity`.
    pub sgx_type: &'static str,
    /// SGX TCB components, 16 bytes.
    pub sgx_components: String,
    /// PCESVN.
    pub pce_svn: u16,
    /// CPUSVN, 16 bytes.
    pub cpu_svn: String,
    /// Platform instance id, 16 bytes, of platforms under the Platform CA.
    pub platform_instance_id: Option<String>,
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
    /// MEASUREMENT, 48 bytes.
    pub measurement: String,
    /// HOST_DATA, 32 bytes.
    pub host_data: String,
    /// FAMILY_ID, 16 bytes.
    pub family_id: String,
    /// IMAGE_ID, 16 bytes.
    pub image_id: String,
    /// GUEST_SVN.
    pub guest_svn: u32,
    /// ID_KEY_DIGEST, 48 bytes.
    pub id_key_digest: String,
    /// AUTHOR_KEY_DIGEST, 48 bytes.
    pub author_key_digest: String,
    /// REPORT_ID, 32 bytes.
    pub report_id: String,
    /// REPORT_ID_MA, 32 bytes.
    pub report_id_ma: String,
    /// CHIP_ID, 64 bytes.
    pub chip_id: String,
    /// VMPL of the requester.
    pub vmpl: u32,
    /// POLICY, as a number in 16 hexadecimal digits.
    pub policy: String,
    /// PLATFORM_INFO, as a number in 16 hexadecimal digits.
    pub platform_info: String,
    /// REPORTED_TCB, 8 bytes in memory order.
    pub reported_tcb: String,
    /// COMMITTED_TCB, 8 bytes in memory order.
    pub committed_tcb: String,
    /// CURRENT_TCB, 8 bytes in memory order.
    pub current_tcb: String,
    /// LAUNCH_TCB, 8 bytes in memory order.
    pub launch_tcb: String,
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
    /// MRTD, 48 bytes.
    pub mr_td: String,
    /// RTMR0, 48 bytes.
    pub rtmr0: String,
    /// RTMR1, 48 bytes.
    pub rtmr1: String,
    /// RTMR2, 48 bytes.
    pub rtmr2: String,
    /// RTMR3, 48 bytes.
    pub rtmr3: String,
    /// MRSEAM, 48 bytes.
    pub mr_seam: String,
    /// MRSIGNERSEAM, 48 bytes.
    pub mr_signer_seam: String,
    /// MRCONFIGID, 48 bytes.
    pub mr_config_id: String,
    /// MROWNER, 48 bytes.
    pub mr_owner: String,
    /// MROWNERCONFIG, 48 bytes.
    pub mr_owner_config: String,
    /// MRSERVICETD, 48 bytes, of TD 1.5 reports.
    pub mr_service_td: Option<String>,
    /// TDATTRIBUTES, 8 bytes in memory order.
    pub td_attributes: String,
    /// XFAM, 8 bytes in memory order.
    pub xfam: String,
    /// SEAMATTRIBUTES, 8 bytes in memory order.
    pub seam_attributes: String,
    /// TEE_TCB_SVN, 16 bytes.
    pub tee_tcb_svn: String,
    /// TEE_TCB_SVN_2, 16 bytes, of TD 1.5 reports.
    pub tee_tcb_svn_2: Option<String>,
}

/// What a device's signed report says of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeviceResult {
    /// `nvidia-gpu` or `nvidia-switch`.
    pub kind: String,
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
pub(crate) const GPU_ASSUMPTIONS: [&str; 2] = [
    "without TDISP no evidence proves that a GPU sits in the CPU's chassis: the CPU quote covers the GPU's report, not its place",
    "sizes, timing and counts are visible to the host",
];

/// First assumption of everything that ended in another anchor than a vendor's.
pub(crate) const SIMULATED: &str = "SIMULATED: the chain ends in a test root whose private key is public; this is no evidence of any hardware";
