//! Attestation results as EAR claims (draft-ietf-rats-ear-04), unsigned JSON, for relying parties that read them.
//!
//! The trustworthiness vector (draft-ietf-rats-ar4si, section 2.3) is derived from the checks of a verdict and says
//! nothing that they do not: an affirming claim needs every check of its [`Basis`] to have passed, so a waiver or a check
//! that did not run leaves the claim out. `docs/ear.md` has the table.

use crate::check::{Check, Rule, Status};
use crate::result::{AttestationResult, Outcome};
use crate::rules;
use confide_evidence::time::parse_seconds;
use serde::Serialize;
use std::collections::BTreeMap;

/// The profile that the claims follow.
const PROFILE: &str = "tag:ietf.org,2026:rats/ear#04";
/// Who makes the verifier.
const DEVELOPER: &str = "https://github.com/confide-tee/confide";
/// Which one this is.
const BUILD: &str = concat!("confide-verifier ", env!("CARGO_PKG_VERSION"));

/// The submodule of devices.
const DEVICES: &str = "nvidia";
/// The submodule of SEV-SNP reports.
const SNP: &str = "sev-snp";

/// What an affirming claim rests on. A failed check of any of the lists takes it away, and so does one that did not run.
#[derive(Debug)]
pub struct Basis {
    /// The submodule: the platform, or `nvidia` for all devices together.
    pub submodule: &'static str,
    /// The claim's name in the trustworthiness vector.
    pub claim: &'static str,
    /// The claim's value (draft-ietf-rats-ar4si, section 2.3.4).
    pub value: i8,
    /// What the value means.
    pub meaning: &'static str,
    /// What must be there and have passed.
    pub rules: &'static [&'static Rule],
    /// What must have passed where the evidence states it: a waiver takes the claim away.
    pub stated: &'static [&'static Rule],
    /// What must have passed where the policy asks for it, which narrows what other checks leave: a waiver does not count.
    pub asked: &'static [&'static Rule],
}

impl Basis {
    /// The checks of all lists.
    pub fn all(&self) -> impl Iterator<Item = &'static Rule> {
        self.rules.iter().chain(self.stated).chain(self.asked).copied()
    }
}

/// Every affirming claim that a verdict can give. What stands in no row is never claimed: `instance-identity`,
/// `file-system`, `storage-opaque` and `sourced-data`.
pub static BASES: &[Basis] = &[
    Basis {
        submodule: "tdx",
        claim: "hardware",
        value: 2,
        meaning: "genuine and supported hardware and firmware, at TCB status UpToDate",
        rules: &[
            &rules::QUOTE_FORMAT,
            &rules::COLLATERAL_FORMAT,
            &rules::ROOT_ANCHOR,
            &rules::ROOT_SIGNATURE,
            &rules::PCK_CA_SIGNATURE,
            &rules::TCB_SIGNER_SIGNATURE,
            &rules::ROOT_CRL_SIGNATURE,
            &rules::PCK_CRL_SIGNATURE,
            &rules::CA_REVOCATION,
            &rules::TCB_INFO_SIGNATURE,
            &rules::QE_IDENTITY_SIGNATURE,
            &rules::TCB_INFO_KIND,
            &rules::QE_IDENTITY_KIND,
            &rules::PCK_CHAIN_FORM,
            &rules::PCK_SIGNATURE,
            &rules::PCK_REVOCATION,
            &rules::PCK_EXTENSION,
            &rules::QE_REPORT_SIGNATURE,
            &rules::ATTESTATION_KEY_BINDING,
            &rules::QUOTE_SIGNATURE,
            &rules::VALIDITY,
            &rules::FMSPC,
            &rules::QE_IDENTITY,
            &rules::TDX_MODULE_IDENTITY,
            &rules::TCB_STATUS,
            &rules::PRESENT_TCB,
        ],
        stated: &[],
        asked: &[
            &rules::EARLY_TCB_STATUS,
            &rules::TCB_EVALUATION,
            &rules::TCB_INFO_AGE,
            &rules::QE_IDENTITY_AGE,
            &rules::PCK_CRL_AGE,
            &rules::ROOT_CRL_AGE,
            &rules::PPID,
            &rules::PLATFORM_KIND,
            &rules::SGX_TYPE,
            &rules::DYNAMIC_PLATFORM,
            &rules::CACHED_KEYS,
            &rules::SMT_ENABLED,
            &rules::PLATFORM_INSTANCE,
            &rules::QUOTE_RESERVED,
            &rules::QUOTE_USER_DATA,
            &rules::QE_MR_ENCLAVE,
            &rules::QE_CPU_SVN,
            &rules::MR_SEAM,
        ],
    },
    Basis {
        submodule: "tdx",
        claim: "configuration",
        value: 2,
        meaning: "a known and approved configuration of the TD",
        rules: &[
            &rules::TD_DEBUG,
            &rules::TD_MIGRATABLE,
            &rules::TD_ATTRIBUTES,
            &rules::XFAM,
            &rules::TD_RESERVED_BITS,
            &rules::MR_SIGNER_SEAM,
            &rules::SEAM_ATTRIBUTES,
            &rules::MR_CONFIG_ID,
            &rules::MR_OWNER,
            &rules::MR_OWNER_CONFIG,
            &rules::MR_SERVICE_TD,
        ],
        stated: &[
            &rules::TD_VM_ID,
            &rules::DEVICE_INFO,
            &rules::SERVICE_TD_ATTRIBUTES,
            &rules::INIT_CPU_SVN,
            &rules::INIT_TEE_TCB_SVN,
            &rules::INIT_FMSPC,
        ],
        asked: &[
            &rules::EGRESS_MODE,
            &rules::EGRESS_POLICY,
            &rules::EGRESS_ALLOWED,
            &rules::EGRESS_HOST_VISIBLE,
            &rules::MODEL_MANIFEST,
            &rules::CONFIGURATION,
            &rules::GUEST_BROKER,
        ],
    },
    Basis {
        submodule: "tdx",
        claim: "executables",
        value: 3,
        meaning: "only approved executables have been loaded during the boot",
        rules: &[&rules::MR_TD, &rules::RTMR0, &rules::RTMR1, &rules::RTMR2],
        stated: &[],
        asked: &[
            &rules::RTMR3,
            &rules::REFERENCE_SIGNATURE,
            &rules::REFERENCE_FILE,
            &rules::REFERENCE_VERSION,
            &rules::REFERENCE_WINDOW,
            &rules::REFERENCE_SET,
            &rules::BOOT_LOG_FORMAT,
            &rules::BOOT_LOG,
            &rules::BOOT_EVENTS,
            &rules::EVENT_LOG,
            &rules::EVENT_CLAIMS,
            &rules::ENGINE_KIND,
            &rules::IMAGE,
            &rules::VERITY_ROOTS,
        ],
    },
    Basis {
        submodule: "tdx",
        claim: "runtime-opaque",
        value: 2,
        meaning: "memory is encrypted and opaque to the host, where hardware is affirmed, too",
        rules: &[&rules::TD_DEBUG, &rules::TD_MIGRATABLE],
        stated: &[],
        asked: &[],
    },
    Basis {
        submodule: SNP,
        claim: "hardware",
        value: 2,
        meaning: "genuine and supported hardware and firmware, at or above the policy's floors",
        rules: &[
            &rules::SNP_REPORT_FORMAT,
            &rules::SNP_ENDORSEMENTS_FORMAT,
            &rules::SNP_CHAIN_FORM,
            &rules::SNP_ROOT_ANCHOR,
            &rules::SNP_ROOT_SIGNATURE,
            &rules::SNP_ISSUER_SIGNATURE,
            &rules::SNP_KEY_SIGNATURE,
            &rules::SNP_CRL_SIGNATURE,
            &rules::SNP_REVOCATION,
            &rules::SNP_KEY_EXTENSIONS,
            &rules::SNP_KEY_KIND,
            &rules::SNP_PRODUCT_BINDING,
            &rules::SNP_REPORT_SIGNATURE,
            &rules::SNP_VALIDITY,
            &rules::SNP_TCB_BINDING,
            &rules::SNP_HARDWARE_ID,
            &rules::SNP_TCB_ORDER,
            &rules::SNP_RESERVED,
            &rules::SNP_PRODUCT,
            &rules::SNP_REPORTED_TCB,
            &rules::SNP_COMMITTED_TCB,
            &rules::SNP_CURRENT_TCB,
            &rules::SNP_LAUNCH_TCB,
            &rules::SNP_PROVISIONAL_FIRMWARE,
            &rules::SNP_PLATFORM_ALIAS_CHECK,
        ],
        stated: &[],
        asked: &[
            &rules::SNP_REPORT_VERSION,
            &rules::SNP_CRL_AGE,
            &rules::SNP_SIGNING_KEY,
            &rules::SNP_CSP_ID,
            &rules::SNP_PLATFORM_ECC,
            &rules::SNP_PLATFORM_IOMMU_WRITE_SAFE,
            &rules::SNP_CURRENT_FIRMWARE,
            &rules::SNP_COMMITTED_FIRMWARE,
            &rules::SNP_LAUNCH_MITIGATIONS,
            &rules::SNP_CURRENT_MITIGATIONS,
            &rules::SNP_MASKED_CHIP_ID,
            &rules::SNP_CHIP_ID,
        ],
    },
    Basis {
        submodule: SNP,
        claim: "configuration",
        value: 2,
        meaning: "a known and approved configuration of guest and platform",
        rules: &[
            &rules::SNP_DEBUG,
            &rules::SNP_MIGRATION_AGENT,
            &rules::SNP_CXL,
            &rules::SNP_VMPL,
            &rules::SNP_PLATFORM_TIO,
            &rules::SNP_HOST_DATA,
            &rules::SNP_FAMILY_ID,
            &rules::SNP_IMAGE_ID,
            &rules::SNP_AUTHOR_KEY,
            &rules::SNP_ID_KEY_DIGEST,
            &rules::SNP_AUTHOR_KEY_DIGEST,
            &rules::SNP_REPORT_ID_MA,
        ],
        stated: &[],
        asked: &[
            &rules::SNP_SMT,
            &rules::SNP_SINGLE_SOCKET,
            &rules::SNP_AES_256_XTS,
            &rules::SNP_RAPL_DISABLED,
            &rules::SNP_CIPHERTEXT_HIDING,
            &rules::SNP_PAGE_SWAP_DISABLED,
            &rules::SNP_ABI,
            &rules::SNP_PLATFORM_SMT,
            &rules::SNP_PLATFORM_TSME,
            &rules::SNP_PLATFORM_RAPL_DISABLED,
            &rules::SNP_PLATFORM_CIPHERTEXT_HIDING,
        ],
    },
    Basis {
        submodule: SNP,
        claim: "executables",
        value: 3,
        meaning: "only approved executables have been loaded at launch",
        rules: &[&rules::SNP_MEASUREMENT],
        stated: &[],
        asked: &[&rules::SNP_GUEST_SVN],
    },
    Basis {
        submodule: SNP,
        claim: "runtime-opaque",
        value: 2,
        meaning: "memory is encrypted and opaque to the host, where hardware is affirmed, too",
        rules: &[&rules::SNP_DEBUG, &rules::SNP_MIGRATION_AGENT],
        stated: &[],
        asked: &[],
    },
    Basis {
        submodule: DEVICES,
        claim: "hardware",
        value: 2,
        meaning: "genuine devices and firmware, none of them revoked",
        rules: &[
            &rules::DEVICE_REPORT_FORMAT,
            &rules::DEVICE_CHAIN_FORMAT,
            &rules::DEVICE_ROOT_ANCHOR,
            &rules::DEVICE_CHAIN_SIGNATURES,
            &rules::DEVICE_CHAIN_USAGE,
            &rules::DEVICE_REPORT_SIGNATURE,
            &rules::DEVICE_VALIDITY,
            &rules::DEVICE_NONCE,
            &rules::DEVICE_FAMILY,
            &rules::DEVICE_FWID,
            &rules::DEVICE_TCB_FLAGS,
            &rules::DEVICE_REVOCATION,
            &rules::DEVICE_HOLD,
            &rules::DEVICE_DISTINCT,
        ],
        stated: &[&rules::OCSP_FORMAT, &rules::DEVICE_CRL_FORMAT],
        asked: &[&rules::DEVICE_REGISTRY],
    },
    Basis {
        submodule: DEVICES,
        claim: "configuration",
        value: 2,
        meaning: "a known and approved confidential-computing mode",
        rules: &[
            &rules::DEVICE_MODE,
            &rules::DEVICE_UNIFORM,
            &rules::DEVICE_TOPOLOGY,
            &rules::GPU_DEV_TOOLS,
            &rules::GPU_ENVIRONMENT,
        ],
        stated: &[&rules::DEVICE_CC_MODE],
        asked: &[
            &rules::DEVICE_UNKNOWN_RECORDS,
            &rules::GPU_COUNT,
            &rules::GPU_CLAIMS,
            &rules::DEVICES_EVENT,
        ],
    },
    Basis {
        submodule: DEVICES,
        claim: "executables",
        value: 3,
        meaning: "driver and firmware are those of signed reference manifests",
        rules: &[
            &rules::RIM_FORMAT,
            &rules::DEVICE_RIM,
            &rules::RIM_ROOT_ANCHOR,
            &rules::RIM_CHAIN,
            &rules::RIM_SIGNATURE,
            &rules::RIM_PRODUCT,
            &rules::RIM_VALIDITY,
            &rules::RIM_REVOCATION,
            &rules::DEVICE_MEASUREMENTS,
        ],
        stated: &[],
        asked: &[
            &rules::DEVICE_DRIVER_FLOOR,
            &rules::DEVICE_DRIVER,
            &rules::DEVICE_VBIOS_FLOOR,
            &rules::DEVICE_VBIOS,
        ],
    },
];

/// Checks on which no affirming claim rests, and why. Where one of them fails, the evidence is rejected and the status
/// `contraindicated` all the same.
pub static UNCLAIMED: &[(&Rule, &str)] = &[
    (&rules::GPU_EVIDENCE_FILE, "a file that cannot be read has no submodule to claim anything of"),
    (&rules::QUOTE_PADDING, "of bytes behind the quote nothing is claimed"),
    (&rules::DOCUMENT_FORMAT, "a document that cannot be read has no submodule to claim anything of"),
    (&rules::DOCUMENT_PLATFORM, "a document of another platform has no submodule to claim anything of"),
    (&rules::COLLATERAL_PRESENT, "noted where there is no collateral, and so no claim"),
    (&rules::COLLATERAL_FILE, "noted where the collateral cannot be read, and so no claim"),
    (&rules::CROSS_CHECK, "of another verifier, and not of the evidence"),
    (&rules::CROSS_CHECK_INPUTS, "of another verifier, and not of the evidence"),
    (&rules::CROSS_CHECK_DISAGREES, "of another verifier, and not of the evidence"),
    (&rules::NRAS_FORMAT, "of another verifier, and not of the evidence"),
    (&rules::NRAS_KEY, "of another verifier, and not of the evidence"),
    (&rules::NRAS_ANCHOR, "of another verifier, and not of the evidence"),
    (&rules::NRAS_CHAIN, "of another verifier, and not of the evidence"),
    (&rules::NRAS_SIGNATURE, "of another verifier, and not of the evidence"),
    (&rules::NRAS_ISSUER, "of another verifier, and not of the evidence"),
    (&rules::NRAS_VALIDITY, "of another verifier, and not of the evidence"),
    (&rules::NRAS_NONCE, "of another verifier, and not of the evidence"),
    (&rules::NRAS_DIGEST, "of another verifier, and not of the evidence"),
    (&rules::NRAS_DEVICES, "of another verifier, and not of the evidence"),
    (&rules::NRAS, "of another verifier, and not of the evidence"),
    (&rules::NRAS_DISAGREES, "of another verifier, and not of the evidence"),
    (&rules::TD_ID, "names an instance, and `instance-identity` is never claimed"),
    (&rules::REPORT_DATA, "binds the evidence to its challenge, for which the vector has no claim"),
    (&rules::CHALLENGE, "binds the evidence to its challenge, for which the vector has no claim"),
    (&rules::KEY_SET, "of the guest's keys, for which the vector has no claim"),
    (&rules::WITNESS, "of the policy, and not of the evidence"),
    (&rules::SNP_ENDORSEMENTS_PRESENT, "noted where there are no certificates, and so no claim"),
    (&rules::SNP_CERTIFICATE_FILE, "noted where a certificate cannot be read, and so no claim"),
    (&rules::SNP_CRL_FILE, "noted where a revocation list cannot be read, and so no claim"),
    (&rules::SNP_REPORT_ID, "names an instance, and `instance-identity` is never claimed"),
    (&rules::SNP_REPORT_DATA, "binds the report to its challenge, for which the vector has no claim"),
];

/// Signatures of the evidence itself: where one of them does not hold, nothing that it says counts.
static EVIDENCE_SIGNATURES: &[&Rule] = &[
    &rules::PCK_SIGNATURE,
    &rules::QE_REPORT_SIGNATURE,
    &rules::ATTESTATION_KEY_BINDING,
    &rules::QUOTE_SIGNATURE,
    &rules::SNP_KEY_SIGNATURE,
    &rules::SNP_REPORT_SIGNATURE,
    &rules::DEVICE_CHAIN_SIGNATURES,
    &rules::DEVICE_REPORT_SIGNATURE,
];
static REVOCATIONS: &[&Rule] =
    &[&rules::CA_REVOCATION, &rules::PCK_REVOCATION, &rules::SNP_REVOCATION, &rules::DEVICE_REVOCATION];
static ANCHORS: &[&Rule] = &[&rules::ROOT_ANCHOR, &rules::SNP_ROOT_ANCHOR, &rules::DEVICE_ROOT_ANCHOR];
/// What says that SEV-SNP firmware is older than the policy allows, or lacks a mitigation. TDX has its TCB status.
static SNP_AGED: &[&Rule] = &[
    &rules::SNP_REPORTED_TCB,
    &rules::SNP_COMMITTED_TCB,
    &rules::SNP_CURRENT_TCB,
    &rules::SNP_LAUNCH_TCB,
    &rules::SNP_CURRENT_FIRMWARE,
    &rules::SNP_COMMITTED_FIRMWARE,
    &rules::SNP_PROVISIONAL_FIRMWARE,
    &rules::SNP_LAUNCH_MITIGATIONS,
    &rules::SNP_CURRENT_MITIGATIONS,
    &rules::SNP_PLATFORM_ALIAS_CHECK,
    &rules::SNP_PLATFORM_IOMMU_WRITE_SAFE,
];

/// No claim: the evidence does not suffice.
const NO_CLAIM: i8 = 0;
/// The evidence could not be read.
const UNEXPECTED: i8 = 1;
/// Known vulnerabilities, of hardware or configuration.
const VULNERABLE: i8 = 32;
/// Executables that the policy does not list.
const UNRECOGNISED_EXECUTABLES: i8 = 33;
/// Recognised and not acceptable.
const CONTRAINDICATED: i8 = 96;
/// Hardware that is not recognised.
const UNRECOGNISED_HARDWARE: i8 = 97;
/// A signature of the evidence does not hold.
const BROKEN_SIGNATURE: i8 = 99;

/// A trustworthiness tier, the better one first. No claim is worse than an affirming one: whoever asks for affirming gets
/// it from a full appraisal alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Tier {
    Affirming,
    None,
    Warning,
    Contraindicated,
}

impl Tier {
    fn of(value: i8) -> Self {
        match value {
            2..=31 => Self::Affirming,
            32..=95 => Self::Warning,
            96.. => Self::Contraindicated,
            _ => Self::None,
        }
    }
}

#[derive(Serialize)]
struct Ear<'r> {
    eat_profile: &'static str,
    ear_status: Tier,
    iat: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    exp: Option<i64>,
    ear_verifier_id: VerifierId,
    submods: BTreeMap<&'static str, Appraisal<'r>>,
}

#[derive(Serialize)]
struct VerifierId {
    developer: &'static str,
    build: &'static str,
}

#[derive(Serialize)]
struct Appraisal<'r> {
    ear_status: Tier,
    ear_trustworthiness_vector: BTreeMap<&'static str, i8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ear_appraisal_policy_ids: Option<[&'r str; 1]>,
    ear_verifier_claims: VerifierClaims<'r>,
}

/// What the vector cannot say.
#[derive(Serialize)]
struct VerifierClaims<'r> {
    outcome: Outcome,
    code: Option<&'static str>,
    simulated: bool,
    tcb_status: Option<&'static str>,
    advisory_ids: &'r [String],
    early_tcb_status: Option<&'static str>,
    reference_set: Option<&'r str>,
    failed: Vec<&'static str>,
    waived: Vec<&'static str>,
    not_run: Vec<&'static str>,
    assumptions: &'r [&'static str],
}

impl AttestationResult {
    /// The result as an unsigned EAR claims-set, JSON.
    ///
    /// # Panics
    /// Never: the type has maps with text keys only and no floating point numbers.
    #[must_use]
    pub fn to_ear(&self) -> String {
        serde_json::to_string(&ear(self)).expect("text keys, strings and integers always serialise")
    }
}

fn ear(result: &AttestationResult) -> Ear<'_> {
    let mut submods = BTreeMap::new();
    let platform = result.platform.unwrap_or("evidence");
    submods.insert(platform, appraisal(result, platform));
    if !result.devices.is_empty() {
        submods.insert(DEVICES, appraisal(result, DEVICES));
    }
    Ear {
        eat_profile: PROFILE,
        ear_status: submods.values().map(|appraisal| appraisal.ear_status).max().unwrap_or(Tier::None),
        iat: parse_seconds(&result.time).unwrap_or_default(),
        exp: result.valid_until.as_deref().and_then(parse_seconds),
        ear_verifier_id: VerifierId { developer: DEVELOPER, build: BUILD },
        submods,
    }
}

fn appraisal<'r>(result: &'r AttestationResult, submodule: &'static str) -> Appraisal<'r> {
    let vector = vector(result, submodule);
    let whole = BASES.iter().filter(|basis| basis.submodule == submodule);
    let complete = whole.clone().count() > 0 && whole.clone().all(|basis| vector.contains_key(basis.claim));
    let worst = vector.values().map(|value| Tier::of(*value)).max().unwrap_or(Tier::None);
    let least = match result.outcome {
        Outcome::Accepted if complete => Tier::Affirming,
        Outcome::Accepted | Outcome::Malformed | Outcome::Unsupported => Tier::None,
        Outcome::Rejected => Tier::Contraindicated,
    };
    Appraisal {
        ear_status: worst.max(least),
        ear_trustworthiness_vector: vector,
        ear_appraisal_policy_ids: (!result.policy.is_empty()).then_some([result.policy.as_str()]),
        ear_verifier_claims: VerifierClaims {
            outcome: result.outcome,
            code: result.code,
            simulated: result.simulated,
            tcb_status: result.tcb_status,
            advisory_ids: &result.advisory_ids,
            early_tcb_status: result.early_tcb_status,
            reference_set: result.reference_set.as_deref(),
            failed: codes(result, Status::Fail),
            waived: codes(result, Status::Waived),
            not_run: codes(result, Status::NotRun),
            assumptions: &result.assumptions,
        },
    }
}

/// The codes of all checks that ended like this, each once, in order.
fn codes(result: &AttestationResult, status: Status) -> Vec<&'static str> {
    let mut codes = Vec::new();
    for check in result.checks.iter().filter(|check| check.status == status) {
        if !codes.contains(&check.code) {
            codes.push(check.code);
        }
    }
    codes
}

/// At least one claim, as the drafts ask: `hardware` without an assertion where there is nothing to say.
fn vector(result: &AttestationResult, submodule: &str) -> BTreeMap<&'static str, i8> {
    if matches!(result.outcome, Outcome::Malformed | Outcome::Unsupported) {
        return BTreeMap::from([("hardware", UNEXPECTED)]);
    }
    let hardware = hardware(result, submodule);
    let mut vector = BTreeMap::from([("hardware", hardware.unwrap_or(NO_CLAIM))]);
    // What evidence says without a genuine platform behind it is worth nothing.
    if hardware.is_none_or(|value| value >= UNRECOGNISED_HARDWARE) {
        return vector;
    }
    let claims = [
        ("configuration", configuration(result, submodule)),
        ("executables", executables(result, submodule)),
        ("runtime-opaque", runtime_opaque(result, submodule, hardware)),
    ];
    vector.extend(claims.into_iter().filter_map(|(claim, value)| Some((claim, value?))));
    vector
}

fn hardware(result: &AttestationResult, submodule: &str) -> Option<i8> {
    let of_submodule = |rules: &[&'static Rule]| -> Vec<&'static Rule> {
        rules
            .iter()
            .copied()
            .filter(|rule| basis(submodule, "hardware").is_some_and(|basis| names(basis, rule)))
            .collect()
    };
    if any_fails(result, &of_submodule(EVIDENCE_SIGNATURES)) {
        return Some(BROKEN_SIGNATURE);
    }
    if result.simulated || any_fails(result, &of_submodule(ANCHORS)) {
        return Some(UNRECOGNISED_HARDWARE);
    }
    if any_fails(result, &of_submodule(REVOCATIONS)) {
        return Some(CONTRAINDICATED);
    }
    let affirmed = affirmed(result, submodule, "hardware");
    match submodule {
        // Outside of the windows nothing is known of the platform, as without a TCB status of TDX.
        SNP if any_fails(result, &[&rules::SNP_VALIDITY]) => return None,
        DEVICES => return affirmed,
        SNP if any_fails(result, SNP_AGED) => return Some(VULNERABLE),
        SNP => return affirmed,
        _ => {}
    }
    match result.tcb_status? {
        "UpToDate" => affirmed,
        "Revoked" => Some(CONTRAINDICATED),
        "NoMatchingTcbLevel" => Some(UNRECOGNISED_HARDWARE),
        _ => Some(VULNERABLE),
    }
}

fn configuration(result: &AttestationResult, submodule: &str) -> Option<i8> {
    if basis(submodule, "configuration").is_some_and(|basis| fails(result, basis)) {
        return Some(CONTRAINDICATED);
    }
    let needed = result.tcb_status.is_some_and(|status| status.contains("Configuration"));
    if submodule != DEVICES && needed {
        return Some(VULNERABLE);
    }
    affirmed(result, submodule, "configuration")
}

fn executables(result: &AttestationResult, submodule: &str) -> Option<i8> {
    if basis(submodule, "executables").is_some_and(|basis| fails(result, basis)) {
        return Some(UNRECOGNISED_EXECUTABLES);
    }
    // Manifests that were good at another time than the appraisal's are no approval at this one.
    affirmed(result, submodule, "executables").filter(|_| submodule != DEVICES || result.rim_time.is_none())
}

/// What counts is the bit, not whether a policy lets it pass.
fn runtime_opaque(result: &AttestationResult, submodule: &str, hardware: Option<i8>) -> Option<i8> {
    let basis = basis(submodule, "runtime-opaque")?;
    if checks(result, basis.rules).any(|check| check.actual == "true") {
        return Some(CONTRAINDICATED);
    }
    let genuine = hardware.is_some_and(|value| Tier::of(value) == Tier::Affirming);
    affirmed(result, submodule, "runtime-opaque").filter(|_| genuine)
}

fn basis(submodule: &str, claim: &str) -> Option<&'static Basis> {
    BASES.iter().find(|basis| basis.submodule == submodule && basis.claim == claim)
}

fn names(basis: &Basis, rule: &Rule) -> bool {
    basis.rules.iter().any(|one| one.code == rule.code)
}

/// The claim's affirming value, if every check of its basis is there and has passed, and those of what evidence may state
/// and policies may ask for besides.
fn affirmed(result: &AttestationResult, submodule: &str, claim: &str) -> Option<i8> {
    let basis = basis(submodule, claim)?;
    let there = |rule: &&'static Rule| checks(result, std::slice::from_ref(rule)).next().is_some();
    let passed = |rules| checks(result, rules).all(|check| check.status == Status::Pass);
    let narrowed =
        checks(result, basis.asked).all(|check| matches!(check.status, Status::Pass | Status::Waived));
    let affirmed = basis.rules.iter().all(there) && passed(basis.rules) && passed(basis.stated) && narrowed;
    affirmed.then_some(basis.value)
}

fn fails(result: &AttestationResult, basis: &Basis) -> bool {
    [basis.rules, basis.stated, basis.asked].into_iter().any(|rules| any_fails(result, rules))
}

fn any_fails(result: &AttestationResult, rules: &[&'static Rule]) -> bool {
    checks(result, rules).any(|check| check.status == Status::Fail)
}

fn checks<'r>(result: &'r AttestationResult, rules: &'r [&'static Rule]) -> impl Iterator<Item = &'r Check> {
    result.checks.iter().filter(|check| rules.iter().any(|rule| rule.code == check.code))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Checks;
    use crate::result::{DeviceOutcome, DeviceResult};

    /// Everything passed, nothing waived, as a verdict of the submodule's platform has it.
    fn perfect_of(submodule: &str) -> AttestationResult {
        match submodule {
            SNP => {
                AttestationResult { platform: Some(SNP), tcb_status: None, devices: Vec::new(), ..perfect() }
            }
            _ => perfect(),
        }
    }

    /// Everything passed, nothing waived.
    fn perfect() -> AttestationResult {
        let mut checks = Checks::default();
        for rule in rules::ALL {
            checks.pass(rule, if rule.code == "td_debug" { "false" } else { "right" });
        }
        AttestationResult {
            outcome: Outcome::Accepted,
            code: None,
            simulated: false,
            platform: Some("tdx"),
            policy: "test".to_owned(),
            time: "2026-10-01T00:00:00Z".to_owned(),
            rim_time: None,
            tcb_status: Some("UpToDate"),
            tcb_date: None,
            advisory_ids: Vec::new(),
            early_tcb_status: None,
            reference_set: None,
            pck: None,
            measurements: None,
            report_data: None,
            valid_until: Some("2026-10-01T00:05:00Z".to_owned()),
            platform_binding: None,
            devices: vec![DeviceResult {
                position: 0,
                kind: "nvidia-gpu",
                outcome: DeviceOutcome::Accepted,
                code: None,
                facts: None,
            }],
            checks: checks.into_list(),
            assumptions: Vec::new(),
        }
    }

    fn with(rule: &Rule, status: Status) -> AttestationResult {
        of_with("tdx", rule, status)
    }

    fn of_with(submodule: &str, rule: &Rule, status: Status) -> AttestationResult {
        let mut result = perfect_of(submodule);
        for check in result.checks.iter_mut().filter(|check| check.code == rule.code) {
            check.status = status;
        }
        if status == Status::Fail {
            (result.outcome, result.code) = (Outcome::Rejected, Some(rule.code));
        }
        result
    }

    fn claim(result: &AttestationResult, basis: &Basis) -> Tier {
        let ear = ear(result);
        let value = ear.submods[basis.submodule].ear_trustworthiness_vector.get(basis.claim).copied();
        value.map_or(Tier::None, Tier::of)
    }

    #[test]
    fn a_full_appraisal_without_a_waiver_is_affirming() {
        let result = perfect();
        let ear = ear(&result);
        assert_eq!(ear.ear_status, Tier::Affirming);
        assert_eq!((ear.iat, ear.exp), (1_790_812_800, Some(1_790_813_100)));
        let tdx = &ear.submods["tdx"];
        let expected = [("configuration", 2), ("executables", 3), ("hardware", 2), ("runtime-opaque", 2)];
        assert_eq!(tdx.ear_trustworthiness_vector, BTreeMap::from(expected));
        let devices = [("configuration", 2), ("executables", 3), ("hardware", 2)];
        assert_eq!(ear.submods["nvidia"].ear_trustworthiness_vector, BTreeMap::from(devices));
    }

    /// No claim is stronger than the checks: each check of a basis, in each state but passed, takes the claim away. What
    /// evidence may state and a policy may ask for may be absent; what a policy may ask for may be waived, too.
    #[test]
    fn every_check_that_did_not_pass_takes_its_claims_away() {
        let lists = |basis: &'static Basis| {
            [(basis.rules, "always"), (basis.stated, "stated"), (basis.asked, "asked")]
        };
        for basis in BASES {
            assert_eq!(claim(&perfect_of(basis.submodule), basis), Tier::Affirming, "{}", basis.claim);
            let named = |(rules, list): (&'static [&'static Rule], &'static str)| {
                rules.iter().map(move |rule| (*rule, list))
            };
            for (rule, list) in lists(basis).into_iter().flat_map(named) {
                for status in [Status::Fail, Status::Waived, Status::NotRun] {
                    let stays = (status, list) == (Status::Waived, "asked");
                    let result = of_with(basis.submodule, rule, status);
                    let what = format!("{} {} {status:?}", basis.claim, rule.code);
                    assert_eq!(claim(&result, basis) == Tier::Affirming, stays, "{what}");
                    assert_eq!(ear(&result).ear_status == Tier::Affirming, stays, "{what}");
                }
                let mut absent = perfect_of(basis.submodule);
                absent.checks.retain(|check| check.code != rule.code);
                let stays = list != "always";
                assert_eq!(claim(&absent, basis) == Tier::Affirming, stays, "{} absent", rule.code);
            }
        }
    }

    /// A new check belongs to a claim, or says why it belongs to none.
    #[test]
    fn every_check_is_assigned_to_a_claim_or_to_none_with_a_reason() {
        let unclaimed = |rule: &Rule| UNCLAIMED.iter().any(|(one, _)| one.code == rule.code);
        for rule in rules::ALL {
            let claimed = BASES.iter().any(|basis| basis.all().any(|one| one.code == rule.code));
            assert_ne!(claimed, unclaimed(rule), "{}: of a claim, or of none", rule.code);
        }
        for (rule, why) in UNCLAIMED {
            assert!(why.len() > 10, "{} has no reason", rule.code);
        }
        for basis in BASES {
            let mut codes: Vec<&str> = basis.all().map(|rule| rule.code).collect();
            let count = codes.len();
            codes.sort_unstable();
            codes.dedup();
            assert_eq!(codes.len(), count, "{} {} names a check twice", basis.submodule, basis.claim);
        }
    }

    #[test]
    fn an_sev_snp_report_has_a_whole_vector_of_its_own() {
        let result = perfect_of(SNP);
        let ear = ear(&result);
        assert_eq!(ear.ear_status, Tier::Affirming);
        let expected = [("configuration", 2), ("executables", 3), ("hardware", 2), ("runtime-opaque", 2)];
        assert_eq!(ear.submods["sev-snp"].ear_trustworthiness_vector, BTreeMap::from(expected));
        assert_eq!(ear.submods.len(), 1);
    }

    #[test]
    fn sev_snp_firmware_below_a_floor_is_vulnerable_and_a_revoked_key_is_not_acceptable() {
        for (rule, hardware) in [
            (&rules::SNP_REPORTED_TCB, 32),
            (&rules::SNP_PLATFORM_ALIAS_CHECK, 32),
            (&rules::SNP_REVOCATION, 96),
            (&rules::SNP_ROOT_ANCHOR, 97),
            (&rules::SNP_REPORT_SIGNATURE, 99),
            (&rules::SNP_VALIDITY, 0),
        ] {
            let result = of_with(SNP, rule, Status::Fail);
            let vector = &ear(&result).submods["sev-snp"].ear_trustworthiness_vector;
            assert_eq!(vector["hardware"], hardware, "{}", rule.code);
            assert!(!vector.contains_key("runtime-opaque"), "{}", rule.code);
        }
        // Outside of the windows nothing else is claimed, whatever the firmware's levels are.
        let mut result = of_with(SNP, &rules::SNP_VALIDITY, Status::Fail);
        for check in result.checks.iter_mut().filter(|check| check.code == "snp_reported_tcb") {
            check.status = Status::Fail;
        }
        let vector = &ear(&result).submods["sev-snp"].ear_trustworthiness_vector;
        assert_eq!(*vector, BTreeMap::from([("hardware", 0)]));
        let result = of_with(SNP, &rules::SNP_MEASUREMENT, Status::Fail);
        assert_eq!(ear(&result).submods["sev-snp"].ear_trustworthiness_vector["executables"], 33);
    }

    #[test]
    fn a_rejection_is_contraindicated_whichever_check_failed() {
        for rule in rules::ALL {
            assert_eq!(ear(&with(rule, Status::Fail)).ear_status, Tier::Contraindicated, "{}", rule.code);
        }
    }

    #[test]
    fn simulated_evidence_is_no_hardware() {
        let result = AttestationResult { simulated: true, ..perfect() };
        let ear = ear(&result);
        assert_eq!(ear.ear_status, Tier::Contraindicated);
        for appraisal in ear.submods.values() {
            assert_eq!(appraisal.ear_trustworthiness_vector, BTreeMap::from([("hardware", 97)]));
        }
    }

    #[test]
    fn what_cannot_be_read_is_unexpected_evidence() {
        let result = AttestationResult {
            outcome: Outcome::Malformed,
            platform: None,
            devices: Vec::new(),
            ..perfect()
        };
        let ear = ear(&result);
        assert_eq!(ear.ear_status, Tier::None);
        assert_eq!(ear.submods["evidence"].ear_trustworthiness_vector, BTreeMap::from([("hardware", 1)]));
    }

    #[test]
    fn hardware_and_configuration_follow_the_tcb_status() {
        for (status, hardware, configuration) in [
            ("UpToDate", 2, Some(2)),
            ("SWHardeningNeeded", 32, Some(2)),
            ("ConfigurationNeeded", 32, Some(32)),
            ("OutOfDate", 32, Some(2)),
            ("TDRelaunchAdvisedConfigurationNeeded", 32, Some(32)),
            ("Revoked", 96, Some(2)),
            ("NoMatchingTcbLevel", 97, None),
        ] {
            let result = AttestationResult { tcb_status: Some(status), ..perfect() };
            let ear = ear(&result);
            let vector = &ear.submods["tdx"].ear_trustworthiness_vector;
            assert_eq!(vector["hardware"], hardware, "{status}");
            assert_eq!(vector.get("configuration").copied(), configuration, "{status}");
            assert_eq!(vector.contains_key("runtime-opaque"), status == "UpToDate", "{status}");
        }
    }

    #[test]
    fn what_the_host_can_debug_or_migrate_is_visible_whatever_a_policy_accepts() {
        for (submodule, rule) in [
            ("tdx", &rules::TD_DEBUG),
            ("tdx", &rules::TD_MIGRATABLE),
            (SNP, &rules::SNP_DEBUG),
            (SNP, &rules::SNP_MIGRATION_AGENT),
        ] {
            let mut result = perfect_of(submodule);
            for check in result.checks.iter_mut().filter(|check| check.code == rule.code) {
                check.actual = "true".into();
            }
            let vector = &ear(&result).submods[submodule].ear_trustworthiness_vector;
            assert_eq!(vector["runtime-opaque"], 96, "{}", rule.code);
        }
    }

    #[test]
    fn a_broken_signature_says_so() {
        for (rule, submodule) in
            [(&rules::QUOTE_SIGNATURE, "tdx"), (&rules::DEVICE_REPORT_SIGNATURE, "nvidia")]
        {
            let result = with(rule, Status::Fail);
            let vector = &ear(&result).submods[submodule].ear_trustworthiness_vector;
            assert_eq!(*vector, BTreeMap::from([("hardware", 99)]), "{}", rule.code);
        }
    }
}
