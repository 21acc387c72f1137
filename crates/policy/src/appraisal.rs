//! The appraisal policy of clients, brokers and inspections.

use crate::{Danger, Expect, ExpectBound, HexBytes, Require};
use confide_evidence::tdx::TcbStatus;
use serde::Deserialize;
use thiserror::Error;

/// The largest policy file accepted, in bytes.
pub const MAX_POLICY: usize = 1024 * 1024;
/// The policy schema that this build reads.
pub const SCHEMA: u32 = 1;

/// The policy of `verify quote` where none is named: signatures, chains and TCB status of a bare quote.
pub const INSPECT: &str = include_str!("../../../policies/inspect.toml");
/// The strict policy of clients where none is named.
pub const CLIENT: &str = include_str!("../../../policies/client.toml");

/// How a policy came to be loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loaded {
    /// By the ordinary flag: a `[danger]` table is an error.
    Normally,
    /// By the explicit danger flag: a `[danger]` table is required.
    AsDanger,
}

/// Why a policy could not be loaded.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// Larger than [`MAX_POLICY`].
    #[error("a policy of {0} bytes, at most {MAX_POLICY} are accepted")]
    TooLarge(usize),
    /// Not TOML of the expected form. The message names line, column and field.
    #[error("{0}")]
    Toml(String),
    /// Another schema.
    #[error("policy schema {0}, this build reads {SCHEMA}")]
    Schema(u32),
    /// A waiver or danger table without a reason.
    #[error("{0} is waived without a reason")]
    NoReason(&'static str),
    /// A waiver that only a danger policy may hold.
    #[error("{0} may be waived by a danger policy alone (policies/danger-*.toml)")]
    DangerousWaiver(&'static str),
    /// A danger policy behind the ordinary flag.
    #[error("a policy with a [danger] table is loaded by --danger-policy alone")]
    DangerNotAsked,
    /// An ordinary policy behind the danger flag.
    #[error("--danger-policy takes a policy with a [danger] table")]
    NotDanger,
    /// This build has no simulator feature.
    #[error("this build refuses danger policies: it was made without the danger-simulator feature")]
    DangerNotBuilt,
    /// A danger policy that names roots of one kind only would mix simulator and vendor anchors.
    #[error(
        "a danger policy names both tdx_root_spki_sha256 and gpu_root_spki_sha256: simulator and vendor anchors are not mixed"
    )]
    MixedAnchors,
    /// A vendor's root in a danger table.
    #[error("a danger policy names a vendor's root: simulator and vendor anchors are not mixed")]
    VendorAnchor,
    /// A limit out of range.
    #[error("{field} is {found}, expected {expected}")]
    Range {
        /// The field.
        field: &'static str,
        /// Its value.
        found: u64,
        /// What is accepted.
        expected: &'static str,
    },
}

/// What a verdict needs.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppraisalPolicy {
    /// [`SCHEMA`].
    pub schema: u32,
    /// A name for verdicts.
    pub name: String,
    /// Other trust anchors than the vendors'.
    pub danger: Option<Danger>,
    /// The CPU's quote.
    pub tdx: TdxPolicy,
    /// Devices of the evidence document.
    pub devices: DevicePolicy,
    /// Claims of the evidence document.
    pub claims: ClaimsPolicy,
    /// How long a verdict holds.
    pub freshness: FreshnessPolicy,
}

/// Expectations of a TDX quote.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TdxPolicy {
    /// TCB statuses that are accepted, by Intel's names.
    pub tcb_status: Expect<TcbStatus>,
    /// TDATTRIBUTES debug bit.
    pub debug: Expect<bool>,
    /// TDATTRIBUTES migratable bit.
    pub migratable: Expect<bool>,
    /// TDATTRIBUTES, all 8 bytes in memory order.
    pub td_attributes: Expect<HexBytes<8>>,
    /// XFAM, all 8 bytes in memory order.
    pub xfam: Expect<HexBytes<8>>,
    /// MRSEAM.
    pub mr_seam: Expect<HexBytes<48>>,
    /// MRTD.
    pub mr_td: Expect<HexBytes<48>>,
    /// RTMR0: firmware configuration, among it ACPI tables that the host supplies.
    pub rtmr0: Expect<HexBytes<48>>,
    /// RTMR1: kernel.
    pub rtmr1: Expect<HexBytes<48>>,
    /// RTMR2: command line and initial file system.
    pub rtmr2: Expect<HexBytes<48>>,
    /// RTMR3: runtime events.
    pub rtmr3: ExpectBound<HexBytes<48>>,
    /// MRCONFIGID.
    pub mr_config_id: Expect<HexBytes<48>>,
    /// MROWNER.
    pub mr_owner: Expect<HexBytes<48>>,
    /// MROWNERCONFIG.
    pub mr_owner_config: Expect<HexBytes<48>>,
    /// MRSERVICETD, of bodies that have it.
    pub mr_service_td: Expect<HexBytes<48>>,
    /// REPORTDATA.
    pub report_data: ExpectBound<HexBytes<64>>,
}

/// Expectations of the devices in an evidence document.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DevicePolicy {
    /// How many GPUs there are.
    pub gpu_count: Expect<u32>,
    /// The firmware id of the report equals the certificate's.
    pub fwid: Require,
    /// Measurements equal a signed reference manifest's.
    pub rim: Require,
    /// Revocation status of device certificates is known and good.
    pub revocation: Require,
    /// Certificate fingerprints equal those of the `devices` runtime event.
    pub event: Require,
}

/// Expectations of the claims in an evidence document.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClaimsPolicy {
    /// Static claims equal the runtime events that RTMR3 covers.
    pub events: Require,
    /// `locked` or `open`.
    pub egress_mode: Expect<String>,
    /// Digest of the egress policy, SHA-256.
    pub egress_policy: Expect<HexBytes<32>>,
    /// Each egress rule that lets the host see or answer must be in this set.
    pub host_visible: Expect<String>,
    /// Digest of the model manifest, SHA-256.
    pub model: Expect<HexBytes<32>>,
    /// `builtin` or `external`.
    pub engine: Expect<String>,
    /// Digest of the guest's deciding configuration, SHA-256.
    pub configuration: Expect<HexBytes<32>>,
    /// Digest of the guest image, SHA-256.
    pub image: Expect<HexBytes<32>>,
    /// Verity root of every volume that holds code or weights, SHA-256.
    pub verity_roots: Expect<HexBytes<32>>,
    /// GPU development tools mode.
    pub gpu_dev_tools: Expect<bool>,
    /// GPU environment, `PROD` on real hardware.
    pub gpu_environment: Expect<String>,
}

/// How long a verdict holds, and when to attest again.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FreshnessPolicy {
    /// Longest age of a verdict, in seconds, 1 to 86400.
    pub max_age_seconds: u64,
    /// When further connections attest again.
    pub attest: Attest,
    /// Whether quotes shared by several clients are accepted.
    pub batch: Batch,
}

/// When connections after the first attest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Attest {
    /// Each connection.
    EveryConnection,
    /// Connections to the same TLS key ride on its verdict while that holds.
    PerKey,
}

/// Whether the role `batch` is accepted in place of `serve`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Batch {
    /// Accepted.
    Accept,
    /// Refused.
    Refuse,
}

/// SHA-256 of the DER SubjectPublicKeyInfo of the Intel SGX Root CA
/// (Intel_SGX_Provisioning_Certification_RootCA.cer, serial 22650cd65a9d3489f383b49552bf501b392706ac, 2018-05-21 to 2049-12-31).
pub const INTEL_SGX_ROOT_SPKI_SHA256: [u8; 32] = [
    0xa0, 0xaf, 0x03, 0x12, 0x89, 0xf5, 0xd5, 0xd4, 0x13, 0x2f, 0x91, 0x86, 0x06, 0x8a, 0x7f, 0xc1, 0x36,
    0x28, 0x63, 0x3b, 0xa2, 0x35, 0x77, 0x74, 0x72, 0xe2, 0x9b, 0x6b, 0x6c, 0x67, 0xa4, 0x9e,
];
/// SHA-256 of the DER SubjectPublicKeyInfo of the NVIDIA Device Identity CA (serial 2d3670b1ca100411c1fec0e82a065b54).
pub const NVIDIA_DEVICE_ROOT_SPKI_SHA256: [u8; 32] = [
    0xa9, 0x0c, 0x4e, 0xb5, 0xac, 0xfd, 0x3e, 0x3d, 0x03, 0xa2, 0x5d, 0xb6, 0xa2, 0x6b, 0x84, 0xf7, 0x20,
    0xad, 0x05, 0x03, 0x19, 0x6c, 0x62, 0x7c, 0x21, 0xdd, 0xd4, 0x8d, 0xd8, 0x5b, 0x06, 0xa4,
];

impl AppraisalPolicy {
    /// Reads and checks a policy.
    ///
    /// # Errors
    /// [`PolicyError`]; a TOML error names line, column and field.
    pub fn parse(text: &str, loaded: Loaded) -> Result<Self, PolicyError> {
        let policy = Self::read(text)?;
        match (loaded, &policy.danger) {
            (Loaded::Normally, Some(_)) => Err(PolicyError::DangerNotAsked),
            (Loaded::AsDanger, None) => Err(PolicyError::NotDanger),
            _ => Ok(policy),
        }
    }

    /// Reads the policy text of a record, whichever flag it was once loaded by.
    ///
    /// # Errors
    /// [`PolicyError`].
    pub fn parse_recorded(text: &str) -> Result<Self, PolicyError> {
        Self::read(text)
    }

    /// The built-in `policies/inspect.toml`.
    ///
    /// # Panics
    /// Never: a test reads it.
    #[must_use]
    pub fn inspect() -> Self {
        Self::parse(INSPECT, Loaded::Normally).expect("the built-in policy is read by a test")
    }

    /// The built-in `policies/client.toml`.
    ///
    /// # Panics
    /// Never: a test reads it.
    #[must_use]
    pub fn client() -> Self {
        Self::parse(CLIENT, Loaded::Normally).expect("the built-in policy is read by a test")
    }

    fn read(text: &str) -> Result<Self, PolicyError> {
        if text.len() > MAX_POLICY {
            return Err(PolicyError::TooLarge(text.len()));
        }
        let policy: Self = toml::from_str(text).map_err(|error| PolicyError::Toml(error.to_string()))?;
        policy.check()?;
        Ok(policy)
    }

    fn check(&self) -> Result<(), PolicyError> {
        if self.schema != SCHEMA {
            return Err(PolicyError::Schema(self.schema));
        }
        let age = self.freshness.max_age_seconds;
        if !(1..=86_400).contains(&age) {
            let field = "freshness.max_age_seconds";
            return Err(PolicyError::Range { field, found: age, expected: "1 to 86400" });
        }
        if let Some((field, _)) = self.waivers().into_iter().find(|(_, reason)| reason.trim().is_empty()) {
            return Err(PolicyError::NoReason(field));
        }
        match &self.danger {
            Some(danger) => danger.check(),
            None => match self.waivers().into_iter().find(|(field, _)| DANGER_ONLY.contains(field)) {
                Some((field, _)) => Err(PolicyError::DangerousWaiver(field)),
                None => Ok(()),
            },
        }
    }

    /// Every waiver of the policy: field and reason.
    #[must_use]
    pub fn waivers(&self) -> Vec<(&'static str, &str)> {
        let (tdx, devices, claims) = (&self.tdx, &self.devices, &self.claims);
        [
            ("tdx.tcb_status", tdx.tcb_status.waiver()),
            ("tdx.debug", tdx.debug.waiver()),
            ("tdx.migratable", tdx.migratable.waiver()),
            ("tdx.td_attributes", tdx.td_attributes.waiver()),
            ("tdx.xfam", tdx.xfam.waiver()),
            ("tdx.mr_seam", tdx.mr_seam.waiver()),
            ("tdx.mr_td", tdx.mr_td.waiver()),
            ("tdx.rtmr0", tdx.rtmr0.waiver()),
            ("tdx.rtmr1", tdx.rtmr1.waiver()),
            ("tdx.rtmr2", tdx.rtmr2.waiver()),
            ("tdx.rtmr3", tdx.rtmr3.waiver()),
            ("tdx.mr_config_id", tdx.mr_config_id.waiver()),
            ("tdx.mr_owner", tdx.mr_owner.waiver()),
            ("tdx.mr_owner_config", tdx.mr_owner_config.waiver()),
            ("tdx.mr_service_td", tdx.mr_service_td.waiver()),
            ("tdx.report_data", tdx.report_data.waiver()),
            ("devices.gpu_count", devices.gpu_count.waiver()),
            ("devices.fwid", devices.fwid.waiver()),
            ("devices.rim", devices.rim.waiver()),
            ("devices.revocation", devices.revocation.waiver()),
            ("devices.event", devices.event.waiver()),
            ("claims.events", claims.events.waiver()),
            ("claims.egress_mode", claims.egress_mode.waiver()),
            ("claims.egress_policy", claims.egress_policy.waiver()),
            ("claims.host_visible", claims.host_visible.waiver()),
            ("claims.model", claims.model.waiver()),
            ("claims.engine", claims.engine.waiver()),
            ("claims.configuration", claims.configuration.waiver()),
            ("claims.image", claims.image.waiver()),
            ("claims.verity_roots", claims.verity_roots.waiver()),
            ("claims.gpu_dev_tools", claims.gpu_dev_tools.waiver()),
            ("claims.gpu_environment", claims.gpu_environment.waiver()),
        ]
        .into_iter()
        .filter_map(|(field, reason)| Some((field, reason?)))
        .collect()
    }

    /// Whether a reference value lets a TD through that the host can debug or migrate.
    #[must_use]
    pub fn admits_debug_or_migration(&self) -> bool {
        let admits =
            |expect: &Expect<bool>| matches!(expect, Expect::AnyOf(values) if values.contains(&true));
        admits(&self.tdx.debug) || admits(&self.tdx.migratable)
    }

    /// Roots that a TDX quote's chain may end in, as SHA-256 of the SubjectPublicKeyInfo.
    #[must_use]
    pub fn tdx_roots(&self) -> Vec<[u8; 32]> {
        match &self.danger {
            Some(danger) => danger.tdx_root_spki_sha256.iter().map(|root| root.0).collect(),
            None => vec![INTEL_SGX_ROOT_SPKI_SHA256],
        }
    }

    /// Roots that a GPU's device chain may end in, as SHA-256 of the SubjectPublicKeyInfo.
    #[must_use]
    pub fn gpu_roots(&self) -> Vec<[u8; 32]> {
        match &self.danger {
            Some(danger) => danger.gpu_root_spki_sha256.iter().map(|root| root.0).collect(),
            None => vec![NVIDIA_DEVICE_ROOT_SPKI_SHA256],
        }
    }
}

/// Waivers that no policy but a danger policy may hold, whatever kind of evidence it is for.
///
/// `debug`, `rim` and `revocation`: binding.md and the first milestone's scope. A waiver of `mr_td` or `rtmr0` to `rtmr2`
/// is allowed for inspection, but the verifier mints no witness under one.
const DANGER_ONLY: [&str; 6] =
    ["tdx.debug", "tdx.tcb_status", "devices.rim", "devices.revocation", "devices.fwid", "devices.event"];

impl Danger {
    fn check(&self) -> Result<(), PolicyError> {
        if !cfg!(feature = "danger-simulator") {
            return Err(PolicyError::DangerNotBuilt);
        }
        if self.reason.trim().is_empty() {
            return Err(PolicyError::NoReason("danger"));
        }
        if self.tdx_root_spki_sha256.is_empty() || self.gpu_root_spki_sha256.is_empty() {
            return Err(PolicyError::MixedAnchors);
        }
        let vendors = [INTEL_SGX_ROOT_SPKI_SHA256, NVIDIA_DEVICE_ROOT_SPKI_SHA256];
        let named = self.tdx_root_spki_sha256.iter().chain(&self.gpu_root_spki_sha256);
        if named.into_iter().any(|root| vendors.contains(&root.0)) {
            return Err(PolicyError::VendorAnchor);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_policies_are_read() {
        assert_eq!(AppraisalPolicy::inspect().name, "inspect");
        assert_eq!(AppraisalPolicy::client().name, "client");
    }

    #[test]
    fn an_unknown_field_is_named_with_its_line() {
        let text = INSPECT.replace("[freshness]", "[freshness]\nmaximum = 3");
        let error = AppraisalPolicy::parse(&text, Loaded::Normally).unwrap_err().to_string();
        assert!(error.contains("maximum") && error.contains("line "), "{error}");
    }

    #[test]
    fn a_missing_field_is_an_error() {
        let text = INSPECT.replace("mr_td =", "# mr_td =");
        let error = AppraisalPolicy::parse(&text, Loaded::Normally).unwrap_err().to_string();
        assert!(error.contains("mr_td"), "{error}");
    }

    #[test]
    fn a_waiver_needs_a_reason() {
        let text =
            INSPECT.replace("mr_td = { waive = \"no reference values given\" }", "mr_td = { waive = \" \" }");
        assert_eq!(AppraisalPolicy::parse(&text, Loaded::Normally), Err(PolicyError::NoReason("tdx.mr_td")));
    }

    #[test]
    fn debug_is_waived_by_danger_policies_alone() {
        let text = INSPECT.replace("debug = { any_of = [false] }", "debug = { waive = \"trust me\" }");
        assert_eq!(
            AppraisalPolicy::parse(&text, Loaded::Normally),
            Err(PolicyError::DangerousWaiver("tdx.debug"))
        );
    }

    #[test]
    fn schema_and_range_are_checked() {
        let schema = INSPECT.replace("schema = 1", "schema = 2");
        assert_eq!(AppraisalPolicy::parse(&schema, Loaded::Normally), Err(PolicyError::Schema(2)));
        let age = INSPECT.replace("max_age_seconds = 300", "max_age_seconds = 0");
        assert!(matches!(
            AppraisalPolicy::parse(&age, Loaded::Normally),
            Err(PolicyError::Range { found: 0, .. })
        ));
    }

    const DANGER: &str = r#"
[danger]
reason = "a test"
tdx_root_spki_sha256 = ["1111111111111111111111111111111111111111111111111111111111111111"]
gpu_root_spki_sha256 = ["2222222222222222222222222222222222222222222222222222222222222222"]
"#;

    #[test]
    fn danger_needs_its_flag_and_its_feature() {
        let text = format!("{INSPECT}{DANGER}");
        if cfg!(feature = "danger-simulator") {
            assert_eq!(AppraisalPolicy::parse(&text, Loaded::Normally), Err(PolicyError::DangerNotAsked));
            assert_eq!(AppraisalPolicy::parse(INSPECT, Loaded::AsDanger), Err(PolicyError::NotDanger));
            assert!(AppraisalPolicy::parse(&text, Loaded::AsDanger).is_ok());
        } else {
            assert_eq!(AppraisalPolicy::parse(&text, Loaded::AsDanger), Err(PolicyError::DangerNotBuilt));
        }
    }

    #[cfg(feature = "danger-simulator")]
    #[test]
    fn anchors_are_not_mixed() {
        let one = format!("{INSPECT}{DANGER}")
            .replace("[\"2222222222222222222222222222222222222222222222222222222222222222\"]", "[]");
        assert_eq!(AppraisalPolicy::parse(&one, Loaded::AsDanger), Err(PolicyError::MixedAnchors));
        let vendor = format!("{INSPECT}{DANGER}").replace(
            "2222222222222222222222222222222222222222222222222222222222222222",
            &confide_evidence::hex::encode(&NVIDIA_DEVICE_ROOT_SPKI_SHA256),
        );
        assert_eq!(AppraisalPolicy::parse(&vendor, Loaded::AsDanger), Err(PolicyError::VendorAnchor));
    }
}
