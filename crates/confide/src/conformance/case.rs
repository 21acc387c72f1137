//! A case: evidence, endorsements, policy, time, and what must come of them.

use super::expected::Expected;
use crate::status::{Failure, Status};
use confide_evidence::bytes::{ByteString, Bytes, Digest};
use confide_evidence::pem;
use confide_evidence::record::{Finding, SecondOpinion, SeenReferences};
use confide_evidence::transcript::Role;
use confide_verifier::Inputs;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::fmt;
use std::marker::PhantomData;

/// The schema of cases that this build reads.
const SCHEMA: u32 = 1;

/// One case of the suite.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Case {
    /// [`SCHEMA`].
    #[serde(rename = "schema")]
    _schema: u32,
    /// A name for reports.
    pub(super) name: String,
    /// Why the verdict must be as expected.
    #[serde(rename = "why")]
    _why: String,
    #[serde(deserialize_with = "object")]
    pub(super) evidence: Evidence,
    #[serde(default, deserialize_with = "object")]
    pub(super) endorsements: Endorsements,
    /// What another verifier found for the same quote.
    #[serde(default, deserialize_with = "present")]
    pub(super) second_opinion: Option<Object<Opinion>>,
    pub(super) policy: Policy,
    /// The signed file of reference values that the policy names.
    #[serde(default, deserialize_with = "present")]
    pub(super) references: Option<Object<References>>,
    /// RFC 3339.
    pub(super) time: String,
    #[serde(deserialize_with = "object")]
    pub(super) expected: Expected,
}

/// The evidence, by its kind.
#[derive(Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", rename_all_fields = "snake_case", deny_unknown_fields)]
pub(super) enum Evidence {
    /// A bare TDX quote, with or without the boot event log of its machine.
    TdxQuote {
        quote: Blob,
        #[serde(default, deserialize_with = "present")]
        boot_log: Option<Blob>,
    },
    /// A bare SEV-SNP attestation report.
    SnpReport { report: Blob },
    /// An evidence document, for a challenge.
    Document {
        document: Blob,
        #[serde(default, deserialize_with = "present")]
        challenge: Option<Object<Challenge>>,
    },
    /// NVIDIA devices without a CPU.
    NvidiaDevices { devices: Vec<Object<Device>> },
    /// A kind of a later version.
    #[serde(other)]
    Unknown,
}

/// What the relying party asked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Challenge {
    #[serde(deserialize_with = "role")]
    pub(super) role: Role,
    pub(super) nonce: Bytes<32>,
    /// Empty for the role `key-release`.
    #[serde(default)]
    pub(super) exporter: ByteString,
    /// Empty for the role `key-release`.
    #[serde(default)]
    pub(super) spki: ByteString,
}

/// One device and the nonce that it was asked with.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Device {
    pub(super) kind: DeviceKind,
    pub(super) nonce: Bytes<32>,
    pub(super) report: Blob,
    /// PEM, leaf first.
    pub(super) chain: Blob,
}

/// As which a device is declared.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum DeviceKind {
    NvidiaGpu,
    NvidiaSwitch,
}

/// What another verifier found.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Opinion {
    found: Finding,
    /// Digest of what it was formed over, where that is not what the case has.
    #[serde(default, deserialize_with = "present")]
    inputs: Option<Digest>,
    verifier: String,
}

impl Opinion {
    /// The opinion on these inputs.
    pub(super) fn on(&self, inputs: &Inputs<'_>) -> SecondOpinion {
        let over = self.inputs.or_else(|| inputs.opinion_digest()).unwrap_or(Bytes([0; 32]));
        SecondOpinion { found: self.found.clone(), inputs: over, verifier: self.verifier.clone() }
    }
}

/// Endorsements beside those that a document staples.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Endorsements {
    /// `QuoteCollateralV3` JSON.
    #[serde(default, deserialize_with = "present")]
    pub(super) tdx_collateral: Option<Blob>,
    /// As `tdx_collateral`, fetched with `update=early`: the TCB info and QE identity of the next TCB recovery.
    #[serde(default, deserialize_with = "present")]
    pub(super) tdx_early_collateral: Option<Blob>,
    /// Files with AMD's certificates of the key that signs a report, PEM or DER.
    #[serde(default, deserialize_with = "present")]
    pub(super) snp_certificates: Option<Vec<Blob>>,
    /// Files with AMD's revocation lists, DER or PEM.
    #[serde(default, deserialize_with = "present")]
    pub(super) snp_crls: Option<Vec<Blob>>,
}

/// A signed file of reference values.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct References {
    /// TOML, the exact bytes that are signed.
    pub(super) file: Blob,
    pub(super) signature: Blob,
    /// The newest file of the series that was accepted before.
    #[serde(default, deserialize_with = "present")]
    pub(super) last_seen: Option<Object<SeenReferences>>,
}

/// The appraisal policy.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Policy {
    /// TOML.
    Text(String),
    /// A TOML file below the base folder.
    File(String),
    /// One that is built in: `inspect` or `client`.
    Builtin(Builtin),
}

/// A policy that every build has.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Builtin {
    Inspect,
    Client,
}

/// Bytes, in one of four forms.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Blob {
    /// Hexadecimal digits.
    Hex(ByteString),
    /// Base64 (RFC 4648 section 4).
    Base64(Base64),
    /// The bytes of this text.
    Text(String),
    /// The bytes of this JSON value without white space.
    Json(serde_json::Value),
    /// A file below the base folder.
    File(String),
}

/// Bytes from base64.
#[derive(Debug)]
pub(super) struct Base64(pub(super) Vec<u8>);

impl Case {
    /// Reads a case.
    ///
    /// # Errors
    /// `case_malformed` with line and column, `case_unsupported` for another schema.
    pub(super) fn parse(text: &str) -> Result<Self, Failure> {
        #[derive(Deserialize)]
        struct Head {
            schema: u32,
        }
        let json = |error: serde_json::Error| malformed(error.to_string());
        let Object(Head { schema }) = serde_json::from_str(text).map_err(json)?;
        if schema != SCHEMA {
            return Err(unsupported(format!("a case of schema {schema}, this build reads {SCHEMA}")));
        }
        serde_json::from_str(text).map(|Object(case)| case).map_err(json)
    }
}

pub(super) fn malformed(message: String) -> Failure {
    Failure::new(Status::Malformed, "case_malformed", message)
}

pub(super) fn unsupported(message: String) -> Failure {
    Failure::new(Status::Unsupported, "case_unsupported", message)
}

/// What is read from a JSON object alone: serde also takes a struct's fields from a list.
#[derive(Debug)]
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData)).map(Self)
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = T;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map))
    }
}

fn object<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    Object::deserialize(deserializer).map(|Object(value)| value)
}

/// A field that may be left out, and is not `null`.
pub(super) fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

fn role<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Role, D::Error> {
    let name = String::deserialize(deserializer)?;
    [Role::Serve, Role::Batch, Role::KeyRelease]
        .into_iter()
        .find(|role| role.name() == name)
        .ok_or_else(|| serde::de::Error::custom("expected serve, batch or key-release"))
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        pem::base64(&text).map(Self).map_err(|_| serde::de::Error::custom("not canonical base64"))
    }
}
