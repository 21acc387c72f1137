//! The appraisal policy of clients, brokers and inspections.

use crate::field::Listed;
use crate::{
    ClaimsPolicy, Danger, DevicePolicy, Expect, Field, FreshnessPolicy, HexBytes, INTEL_SGX_ROOT_SPKI_SHA256,
    Models, NVIDIA_DEVICE_ROOTS, NVIDIA_NRAS_ISSUERS, NVIDIA_RIM_ROOTS, PolicyError, ReferenceSets, Says,
    SignedReferences, SnpPolicy, TdxPolicy, Waived, amd_root_spki_sha256, reference,
};
use confide_evidence::document::Platform;
use confide_evidence::snp::Product;
use serde::Deserialize;
use std::borrow::Cow;

/// The largest policy file accepted, in bytes. Ours have under 8 KiB; a thousand reference sets of 400 bytes fit.
pub const MAX_POLICY: usize = 1024 * 1024;
/// The policy schema that this build reads.
pub const SCHEMA: u32 = 1;

/// The policy of `verify quote` where none is named: signatures, chains and TCB status of a bare quote.
pub const INSPECT: &str = include_str!("../../../policies/inspect.toml");
/// The strict policy of clients where none is named.
pub const CLIENT: &str = include_str!("../../../policies/client.toml");
/// The strict policy of brokers where none is named.
pub const KEY_RELEASE: &str = include_str!("../../../policies/key-release.toml");

/// How a policy came to be loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loaded {
    /// By the ordinary flag: a `[danger]` table is an error.
    Normally,
    /// By the explicit danger flag: a `[danger]` table is required.
    AsDanger,
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
    /// The CPU's SEV-SNP report.
    pub snp: SnpPolicy,
    /// Devices of the evidence document.
    pub devices: DevicePolicy,
    /// Claims of the evidence document.
    pub claims: ClaimsPolicy,
    /// How long a verdict holds.
    pub freshness: FreshnessPolicy,
    /// Values that belong together, by the name of their set.
    #[serde(default)]
    pub reference: ReferenceSets,
    /// A signed file of further reference sets.
    pub signed_references: Option<SignedReferences>,
    /// Which models requests may name. Without the table, any that a guest claims.
    pub models: Option<Models>,
}

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
        self.freshness.check()?;
        self.tdx.check()?;
        self.devices.machine.check()?;
        if let Some(signed) = &self.signed_references {
            signed.check()?;
        }
        if let Some(models) = &self.models {
            models.check()?;
        }
        let waivers = self.waivers();
        if let Some((field, _)) = waivers.iter().find(|(_, reason)| reason.trim().is_empty()) {
            return Err(PolicyError::NoReason(field.to_string()));
        }
        match (&self.danger, self.tdx.admits_revoked()) {
            (Some(danger), _) => danger.check(),
            (None, Some(field)) => Err(PolicyError::AcceptsRevoked(field)),
            (None, None) => match waivers.iter().find(|(field, _)| DANGER_ONLY.contains(&field.as_ref())) {
                Some((field, _)) => Err(PolicyError::DangerousWaiver(field.to_string())),
                None => Ok(()),
            },
        }
    }

    /// Every waiver of the policy: field and reason.
    #[must_use]
    pub fn waivers(&self) -> Vec<(Cow<'static, str>, &str)> {
        let fields = self.tdx.fields().into_iter().chain(self.snp.listed().into_iter().map(Field::from));
        let listed = self.devices.listed().into_iter().chain(self.claims.listed());
        let fields = fields.chain(listed.map(Field::from));
        fields.filter_map(|field| field.waiver().map(|reason| (field.path, reason.as_str()))).collect()
    }

    /// Takes each field that is waived, with the reason, but for the table of the platform that evidence is not of.
    pub fn each_waived<'p>(&'p self, platform: Platform, mut take: impl FnMut(Waived<'p>)) {
        let mut waived = |listed: Listed<'p>| listed.waived().into_iter().for_each(&mut take);
        match platform {
            Platform::SevSnp => self.snp.listed().into_iter().for_each(&mut waived),
            _ => self.tdx.each_listed(&mut waived),
        }
        self.devices.listed().into_iter().for_each(&mut waived);
        self.claims.listed().into_iter().for_each(&mut waived);
    }

    /// Each field of the table `[devices]` that is waived, with the reason.
    pub fn waived_of_devices(&self) -> impl Iterator<Item = Waived<'_>> {
        self.devices.listed().into_iter().filter_map(Listed::waived)
    }

    /// Every field of the tables, table by table.
    #[must_use]
    pub fn fields(&self) -> Vec<Field<'_>> {
        let mut fields = self.anchors();
        fields.extend(self.tdx.fields());
        fields.extend(self.snp.listed().into_iter().map(Field::from));
        fields.extend(self.devices.listed().map(Field::from));
        fields.extend(self.claims.listed().map(Field::from));
        fields.extend(self.freshness.fields());
        fields.extend(reference::fields(&self.reference));
        fields.extend(self.signed_references.iter().flat_map(SignedReferences::fields));
        fields.push(Field::setting("models", "the model of a request", &self.models));
        fields
    }

    /// The vendors' roots, or those of the table `[danger]`.
    fn anchors(&self) -> Vec<Field<'_>> {
        let roots = |roots: Vec<[u8; 32]>| Says::any_of(roots.into_iter().map(HexBytes));
        vec![
            Field::owned(
                "danger.tdx_root_spki_sha256",
                "root_anchor",
                "the SHA-256 of the key of the root that the quote's chain ends in",
                roots(self.tdx_roots()),
            ),
            Field::owned(
                "danger.gpu_root_spki_sha256",
                "device_root_anchor",
                "the SHA-256 of the key of the root that a GPU's chain ends in",
                roots(self.gpu_roots()),
            ),
            Field::owned(
                "danger.rim_root_spki_sha256",
                "rim_root_anchor",
                "the SHA-256 of the key of the root that a reference manifest's chain ends in",
                roots(self.rim_roots()),
            ),
            Field::owned(
                "danger.nras_root_spki_sha256",
                "nras_anchor",
                "the SHA-256 of the key that issued the certificate of NVIDIA's attestation service",
                roots(self.nras_roots()),
            ),
            Field::owned(
                "danger.snp_root_spki_sha256",
                "snp_root_anchor",
                "the SHA-256 of the key of the root that an SEV-SNP report's chain ends in",
                roots(self.snp_roots()),
            ),
        ]
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

    /// Roots that an SEV-SNP report's chain may end in, as SHA-256 of the SubjectPublicKeyInfo.
    #[must_use]
    pub fn snp_roots(&self) -> Vec<[u8; 32]> {
        match &self.danger {
            Some(danger) => danger.snp_root_spki_sha256.iter().map(|root| root.0).collect(),
            None => Product::ALL.into_iter().filter_map(amd_root_spki_sha256).collect(),
        }
    }

    /// Whether an SEV-SNP report of this product may be under the root with this SHA-256 of its SubjectPublicKeyInfo:
    /// AMD's roots are each for one product.
    #[must_use]
    pub fn trusts_snp_root(&self, product: Product, spki: &[u8; 32]) -> bool {
        match &self.danger {
            Some(_) => self.snp_roots().contains(spki),
            None => amd_root_spki_sha256(product) == Some(*spki),
        }
    }

    /// Roots that a GPU's device chain may end in, as SHA-256 of the SubjectPublicKeyInfo.
    #[must_use]
    pub fn gpu_roots(&self) -> Vec<[u8; 32]> {
        match &self.danger {
            Some(danger) => danger.gpu_root_spki_sha256.iter().map(|root| root.0).collect(),
            None => NVIDIA_DEVICE_ROOTS.to_vec(),
        }
    }

    /// Roots that the chain of a reference manifest may end in, as SHA-256 of the SubjectPublicKeyInfo.
    #[must_use]
    pub fn rim_roots(&self) -> Vec<[u8; 32]> {
        match &self.danger {
            Some(danger) => danger.rim_root_spki_sha256.iter().map(|root| root.0).collect(),
            None => NVIDIA_RIM_ROOTS.to_vec(),
        }
    }

    /// Authorities that may issue the certificates of NVIDIA's attestation service, as SHA-256 of the
    /// SubjectPublicKeyInfo.
    #[must_use]
    pub fn nras_roots(&self) -> Vec<[u8; 32]> {
        match &self.danger {
            Some(danger) => danger.nras_root_spki_sha256.iter().map(|root| root.0).collect(),
            None => NVIDIA_NRAS_ISSUERS.to_vec(),
        }
    }
}

/// Waivers that no policy but a danger policy may hold, whatever kind of evidence it is for.
///
/// Under a waiver of one of these, evidence proves nothing of what a verdict says. A waiver of `mr_td` or `rtmr0` to `rtmr2`
/// is allowed for inspection, but the verifier mints no witness under one.
const DANGER_ONLY: [&str; 7] = [
    "snp.debug",
    "tdx.debug",
    "tdx.tcb_status",
    "devices.rim",
    "devices.revocation",
    "devices.fwid",
    "devices.event",
];

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(feature = "danger-simulator")]
    use crate::vendor_roots;

    #[test]
    fn built_in_policies_are_read() {
        assert_eq!(AppraisalPolicy::inspect().name, "inspect");
        assert_eq!(AppraisalPolicy::client().name, "client");
    }

    /// An unknown field in each table of the policies that we ship, and in the table form of each word.
    #[test]
    fn an_unknown_field_is_named_with_its_line() {
        let mut tables = 0;
        for text in [INSPECT, CLIENT, KEY_RELEASE] {
            for (place, line) in text.lines().enumerate() {
                let changed = match line.split_once(" = ") {
                    _ if line.starts_with('#') => continue,
                    None if line.starts_with('[') => format!("{line}\nfoo = 1"),
                    Some((_, value)) if value.ends_with(" }") => {
                        format!("{}, foo = 1 }}", line.strip_suffix(" }").unwrap())
                    }
                    Some((field, "\"required\"" | "\"when-given\"")) => {
                        format!("{field} = {{ waive = \"a reason\", foo = 1 }}")
                    }
                    Some((field, "\"all\"")) => format!("{field} = {{ any_of = [], foo = 1 }}"),
                    _ => continue,
                };
                tables += 1;
                let lines = text.lines().enumerate();
                let lines = lines.map(|(at, line)| if at == place { changed.as_str() } else { line });
                let text = lines.collect::<Vec<_>>().join("\n");
                let error = AppraisalPolicy::parse(&text, Loaded::Normally).unwrap_err().to_string();
                let number = place + 1 + usize::from(line.starts_with('['));
                assert!(error.contains("unknown field `foo`"), "{changed}: {error}");
                assert!(error.contains(&format!("line {number}")), "{changed}, line {number}: {error}");
            }
        }
        assert!(tables > 100, "{tables} tables");
    }

    /// The tables that neither of those has.
    #[test]
    fn an_unknown_field_of_a_table_that_may_be_left_away_is_named_with_its_line() {
        let floor = |floors: &str| {
            CLIENT.replace(
                "reported_tcb = { at_least = {} }",
                &format!("reported_tcb = {{ at_least = {{ {floors} }} }}"),
            )
        };
        let behind = |more: &str| format!("{CLIENT}\n{more}");
        let grace = "[[tdx.grace]]\nname = \"a\"\nstatus = \"OutOfDate\"\nadvisories = []\nuntil = 2026-12-31\n\
                     reason = \"a\"\n";
        let signed = "[signed_references]\nname = \"a\"\nkeys = []\nminimum_version = 1\n";
        let levels = "bootloader = 1, tee = 0, snp = 1, microcode = 1";
        let events =
            "boot_events = { any_of = [\n{ name = \"a\", rtmr0 = [], rtmr1 = [], rtmr2 = [], foo = 1 } ] }";
        for (what, text) in [
            ("the policy", CLIENT.replace("schema = 1\n", "schema = 1\nfoo = 1\n")),
            ("a table of the policy", behind("[foo]\n")),
            ("a table of a table", behind("[tdx.foo]\n")),
            ("a grace", behind(&format!("{grace}foo = 1\n"))),
            ("the second grace", behind(&format!("{grace}{grace}foo = 1\n"))),
            (
                "a machine",
                behind(&format!(
                    "[[devices.machine]]\nname = \"a\"\nppid = \"{}\"\ndevices = []\nfoo = 1\n",
                    "01".repeat(16)
                )),
            ),
            ("the danger table", behind("[danger]\nreason = \"a\"\nfoo = []\n")),
            ("a reference set", behind("[reference.mine]\nmr_td = []\nfoo = []\n")),
            ("the signed references", behind(&format!("{signed}sets = \"all\"\nfoo = 1\n"))),
            ("the sets taken", behind(&format!("{signed}sets = {{ any_of = [], foo = 1 }}\n"))),
            ("a list of boot events", {
                let waived = CLIENT.lines().find(|line| line.starts_with("boot_events = ")).unwrap();
                CLIENT.replace(waived, events)
            }),
            ("the products of a floor", floor("foo = {}")),
            ("Milan's levels", floor(&format!("Milan = {{ {levels}, foo = 1 }}"))),
            ("Turin's levels", floor(&format!("Turin = {{ fmc = 1, {levels}, foo = 1 }}"))),
            ("a list of hardware", {
                CLIENT.replace("fmspc = { waive", "fmspc = { any_of = [], foo = 1, waive")
            }),
        ] {
            let error = AppraisalPolicy::parse(&text, Loaded::Normally).unwrap_err().to_string();
            let line = 1 + text.lines().position(|line| line.contains("foo")).unwrap();
            assert!(error.contains("unknown field `foo`"), "{what}: {error}");
            assert!(error.contains(&format!("line {line},")), "{what}, line {line}: {error}");
        }
    }

    #[test]
    fn a_table_has_one_expectation_and_a_word_is_one_of_the_words() {
        for (field, value, expected) in [
            ("mr_td", "{}", "exactly one of any_of, from, waive"),
            ("mr_td", "{ any_of = [], waive = \"x\" }", "exactly one of any_of, from, waive"),
            ("debug", "{ any_of = [false], waive = \"x\" }", "exactly one of any_of, waive"),
            ("tcb_evaluation", "{}", "exactly one of at_least, waive"),
            ("tcb_info_age", "{ at_most_days = 3, waive = \"x\" }", "exactly one of at_most_days, waive"),
            ("fwid", "\"demanded\"", "\"required\" or { waive"),
            ("fwid", "true", "\"required\" or { waive"),
            ("boot_log", "\"all\"", "\"when-given\" or { waive"),
        ] {
            let lines = CLIENT.lines().map(|line| match line.split_once(" = ") {
                Some((name, _)) if name == field => format!("{field} = {value}"),
                _ => line.to_owned(),
            });
            let text = lines.collect::<Vec<_>>().join("\n");
            assert_ne!(text, CLIENT.trim_end(), "{field}");
            let error = AppraisalPolicy::parse(&text, Loaded::Normally).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains("line "), "{field} = {value}: {error}");
        }
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
        assert_eq!(
            AppraisalPolicy::parse(&text, Loaded::Normally),
            Err(PolicyError::NoReason("tdx.mr_td".to_owned()))
        );
    }

    /// The policy text with a waiver of one field, given as `TABLE.NAME`.
    fn waiving(text: &str, field: &str) -> String {
        let (table, name) = field.split_once('.').unwrap();
        let (header, mut within, mut waived) = (format!("[{table}]"), false, 0);
        let mut changed = String::new();
        for line in text.lines() {
            within = if line.starts_with('[') { line == header } else { within };
            if within && line.split_once(" = ").is_some_and(|(found, _)| found == name) {
                waived += 1;
                changed += &format!("{name} = {{ waive = \"trust me\" }}\n");
            } else {
                changed += &format!("{line}\n");
            }
        }
        assert_eq!(waived, 1, "{field}");
        changed
    }

    #[test]
    fn what_danger_policies_alone_may_waive_is_refused_in_any_other() {
        for text in [INSPECT, CLIENT, KEY_RELEASE] {
            assert!(AppraisalPolicy::parse(&waiving(text, "tdx.ppid"), Loaded::Normally).is_ok());
            for field in DANGER_ONLY {
                assert_eq!(
                    AppraisalPolicy::parse(&waiving(text, field), Loaded::Normally),
                    Err(PolicyError::DangerousWaiver(field.to_owned()))
                );
            }
        }
    }

    #[cfg(feature = "danger-simulator")]
    #[test]
    fn danger_policies_may_waive_it() {
        for field in DANGER_ONLY {
            let text = format!("{}{DANGER}", waiving(INSPECT, field));
            let policy = AppraisalPolicy::parse(&text, Loaded::AsDanger).unwrap();
            assert!(policy.waivers().iter().any(|(waived, _)| waived == field), "{field}");
        }
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
rim_root_spki_sha256 = ["4444444444444444444444444444444444444444444444444444444444444444"]
nras_root_spki_sha256 = ["5555555555555555555555555555555555555555555555555555555555555555"]
snp_root_spki_sha256 = ["3333333333333333333333333333333333333333333333333333333333333333"]
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
        let text = format!("{INSPECT}{DANGER}");
        for digit in ["1", "2", "3", "4"] {
            let root = digit.repeat(64);
            let one = text.replace(&format!("[\"{root}\"]"), "[]");
            assert_eq!(AppraisalPolicy::parse(&one, Loaded::AsDanger), Err(PolicyError::MixedAnchors));
            for vendor in vendor_roots() {
                let vendor = text.replace(&root, &confide_evidence::hex::encode(&vendor));
                assert_eq!(AppraisalPolicy::parse(&vendor, Loaded::AsDanger), Err(PolicyError::VendorAnchor));
            }
        }
    }
}
