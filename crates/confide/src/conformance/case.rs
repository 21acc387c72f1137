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
use serde_json::value::RawValue;
use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;

/// The schema of cases that this build reads.
const SCHEMA: u32 = 1;

/// One case of the suite, but for its [`Evidence`].
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Case<'a> {
    /// [`SCHEMA`].
    #[serde(rename = "schema")]
    _schema: u32,
    /// A name for reports.
    pub(super) name: String,
    /// Why the verdict must be as expected.
    #[serde(rename = "why")]
    _why: String,
    /// Read once its kind is known: serde would lose the places of what stands before the kind.
    #[serde(borrow)]
    evidence: &'a RawValue,
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
#[derive(Debug)]
pub(super) enum Evidence {
    /// A bare TDX quote, with or without the boot event log of its machine.
    TdxQuote(TdxQuote),
    /// A bare SEV-SNP attestation report.
    SnpReport(SnpReport),
    /// An evidence document, for a challenge.
    Document(Document),
    /// NVIDIA devices without a CPU.
    NvidiaDevices(NvidiaDevices),
    /// A kind of a later version.
    Unknown,
}

/// The field that says which of the following an object is.
#[derive(Debug, Deserialize)]
struct Kind {
    kind: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TdxQuote {
    #[serde(rename = "kind")]
    _kind: String,
    pub(super) quote: Blob,
    #[serde(default, deserialize_with = "present")]
    pub(super) boot_log: Option<Blob>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SnpReport {
    #[serde(rename = "kind")]
    _kind: String,
    pub(super) report: Blob,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Document {
    #[serde(rename = "kind")]
    _kind: String,
    pub(super) document: Blob,
    #[serde(default, deserialize_with = "present")]
    pub(super) challenge: Option<Object<Challenge>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NvidiaDevices {
    #[serde(rename = "kind")]
    _kind: String,
    pub(super) devices: Vec<Object<Device>>,
    /// Another time for manifests and the revocation of their signers, RFC 3339.
    #[serde(default, deserialize_with = "present")]
    pub(super) rim_time: Option<String>,
    /// What NVIDIA's attestation service says of the devices.
    #[serde(default, deserialize_with = "present")]
    pub(super) nras: Option<Object<Nras>>,
}

/// Answers of NVIDIA's attestation service, and the key set that they are verified under.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nras {
    pub(super) jwks: Blob,
    pub(super) answers: Vec<Blob>,
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
    #[serde(deserialize_with = "finding")]
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
    /// NVIDIA's reference integrity manifests, one in a file.
    #[serde(default)]
    pub(super) nvidia_rims: Vec<Blob>,
    /// NVIDIA's OCSP answers, one in a file.
    #[serde(default)]
    pub(super) nvidia_ocsp: Vec<Blob>,
    /// NVIDIA's revocation lists, one in a file.
    #[serde(default)]
    pub(super) nvidia_crls: Vec<Blob>,
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
#[derive(Debug)]
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

/// Bytes, in one of five forms.
#[derive(Debug)]
pub(super) enum Blob {
    /// Hexadecimal digits.
    Hex(ByteString),
    /// Base64 (RFC 4648 section 4).
    Base64(Base64),
    /// The bytes of this text.
    Text(String),
    /// The bytes of this JSON value without white space: as text, because a tree of many small values takes long to make.
    Json(Box<RawValue>),
    /// A file below the base folder.
    File(String),
}

/// Bytes from base64.
#[derive(Debug)]
pub(super) struct Base64(pub(super) Vec<u8>);

impl<'a> Case<'a> {
    /// Reads a case, `text`, which is a part of `input`.
    ///
    /// # Errors
    /// `case_malformed` with line and column of the input, `case_unsupported` for another schema.
    pub(super) fn parse(text: &'a str, input: &Input<'_>) -> Result<(Self, Evidence), Failure> {
        #[derive(Deserialize)]
        struct Head {
            schema: u32,
        }
        let Object(Head { schema }) = read(text, input)?;
        if schema != SCHEMA {
            return Err(unsupported(format!("a case of schema {schema}, this build reads {SCHEMA}")));
        }
        let Object(case): Object<Self> = read(text, input)?;
        let evidence = Evidence::parse(case.evidence.get(), input)?;
        Ok((case, evidence))
    }
}

impl Evidence {
    fn parse(text: &str, input: &Input<'_>) -> Result<Self, Failure> {
        let Object(Kind { kind }) = read(text, input)?;
        Ok(match kind.as_str() {
            "tdx-quote" => Self::TdxQuote(read(text, input)?),
            "snp-report" => Self::SnpReport(read(text, input)?),
            "document" => Self::Document(read(text, input)?),
            "nvidia-devices" => Self::NvidiaDevices(read(text, input)?),
            _ => Self::Unknown,
        })
    }
}

/// Reads the JSON `text`, which is a part of `input`: errors name the place there.
fn read<'a, T: Deserialize<'a>>(text: &'a str, input: &Input<'_>) -> Result<T, Failure> {
    serde_json::from_str(text).map_err(|error| malformed(input.placed(&error, text)))
}

/// All that cases are read from. It knows in which line the last error began, so that the next one is looked for from
/// there: where every case is malformed, the whole is still looked at once.
#[derive(Debug)]
pub(super) struct Input<'i> {
    bytes: &'i [u8],
    seen: Cell<Place>,
}

/// A place of the input.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    /// In bytes.
    offset: usize,
    /// Line ends before it.
    lines: usize,
    /// Where its line begins.
    line_start: usize,
}

impl<'i> Input<'i> {
    pub(super) fn new(bytes: &'i [u8]) -> Self {
        Self { bytes, seen: Cell::default() }
    }

    /// An error of reading `text`, a part of the input, with line and column of the input.
    fn placed(&self, error: &serde_json::Error, text: &str) -> String {
        let told = error.to_string();
        let place = format!(" at line {} column {}", error.line(), error.column());
        let Some(told) = told.strip_suffix(&place) else { return told };
        let begin = self.place(text.as_ptr().addr().saturating_sub(self.bytes.as_ptr().addr()));
        let line = begin.lines.saturating_add(error.line());
        // Only what stands on the line on which the part begins moves to the right.
        let shift = if error.line() == 1 { begin.offset.saturating_sub(begin.line_start) } else { 0 };
        format!("{told} at line {line} column {}", error.column().saturating_add(shift))
    }

    fn place(&self, offset: usize) -> Place {
        let seen = self.seen.get();
        let from = if seen.offset <= offset { seen } else { Place::default() };
        let between = self.bytes.get(from.offset..offset).unwrap_or_default();
        let last = between.iter().rposition(|byte| *byte == b'\n');
        let place = Place {
            offset: from.offset.saturating_add(between.len()),
            lines: from.lines.saturating_add(between.iter().filter(|byte| **byte == b'\n').count()),
            line_start: last
                .map_or(from.line_start, |last| from.offset.saturating_add(last).saturating_add(1)),
        };
        self.seen.set(place);
        place
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

// An object with exactly one of several fields is read as a structure of all of them: of an enumeration, serde does not name a
// second field.

/// The one that is given.
fn one<T, const FORMS: usize>(forms: [Option<T>; FORMS]) -> Option<T> {
    let mut given = forms.into_iter().flatten();
    given.next().filter(|_| given.next().is_none())
}

impl<'de> Deserialize<'de> for Policy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Fields {
            #[serde(default, deserialize_with = "present")]
            text: Option<String>,
            #[serde(default, deserialize_with = "present")]
            file: Option<String>,
            #[serde(default, deserialize_with = "present")]
            builtin: Option<Builtin>,
        }
        let Object(Fields { text, file, builtin }) = Object::deserialize(deserializer)?;
        one([text.map(Self::Text), file.map(Self::File), builtin.map(Self::Builtin)])
            .ok_or_else(|| serde::de::Error::custom("expected exactly one of text, file and builtin"))
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Fields {
            #[serde(default, deserialize_with = "present")]
            hex: Option<ByteString>,
            #[serde(default, deserialize_with = "present")]
            base64: Option<Base64>,
            #[serde(default, deserialize_with = "present")]
            text: Option<String>,
            #[serde(default, deserialize_with = "present")]
            json: Option<Box<RawValue>>,
            #[serde(default, deserialize_with = "present")]
            file: Option<String>,
        }
        let Object(Fields { hex, base64, text, json, file }) = Object::deserialize(deserializer)?;
        one([
            hex.map(Self::Hex),
            base64.map(Self::Base64),
            text.map(Self::Text),
            json.map(Self::Json),
            file.map(Self::File),
        ])
        .ok_or_else(|| serde::de::Error::custom("expected exactly one of hex, base64, text, json and file"))
    }
}

/// What another verifier found, in the form of records.
fn finding<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Finding, D::Error> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "kebab-case")]
    struct Fields {
        #[serde(default, deserialize_with = "present")]
        status: Option<String>,
        #[serde(default, deserialize_with = "present")]
        refused: Option<String>,
        #[serde(default, deserialize_with = "present")]
        not_asked: Option<String>,
    }
    let Object(Fields { status, refused, not_asked }) = Object::deserialize(deserializer)?;
    one([status.map(Finding::Status), refused.map(Finding::Refused), not_asked.map(Finding::NotAsked)])
        .ok_or_else(|| serde::de::Error::custom("expected exactly one of status, refused and not-asked"))
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        pem::base64(&text).map(Self).map_err(|_| serde::de::Error::custom("not canonical base64"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A case whose evidence names its kind last.
    const CASE: &str = r#"{
        "schema": 1,
        "name": "n",
        "why": "w",
        "evidence": {
            "boot_log": { "hex": "00" },
            "quote": { "hex": "00" },
            "kind": "tdx-quote"
        },
        "policy": { "builtin": "inspect" },
        "time": "2026-01-01T00:00:00Z",
        "expected": {
            "outcome": "accepted"
        }
    }"#;

    fn told(case: &str, before: &str) -> String {
        let input = format!("{before}{case}");
        match Case::parse(&input[before.len()..], &Input::new(input.as_bytes())) {
            Ok(_) => "read".to_owned(),
            Err(failure) => failure.message().to_owned(),
        }
    }

    #[test]
    fn an_error_names_the_line_of_the_field() {
        assert_eq!(told(CASE, ""), "read");
        for (from, to, line, what) in [
            (r#""boot_log": { "hex": "00" }"#, r#""boot_log": { "hex": "0" }"#, 6, "not hexadecimal"),
            (r#""boot_log": { "hex": "00" }"#, r#""boot_log": { "oct": "0" }"#, 6, "unknown field `oct`"),
            (r#""boot_log": { "hex": "00" }"#, r#""boot_log": {}"#, 6, "exactly one of hex, base64, text"),
            (
                r#""boot_log": { "hex": "00" }"#,
                r#""boot_log": { "hex": "00", "text": "" }"#,
                6,
                "exactly one of hex, base64, text",
            ),
            (r#""boot_log": { "hex": "00" }"#, r#""boot_log": { "hex": null }"#, 6, "null"),
            (r#""boot_log": { "hex": "00" }"#, r#""boot_log": "00""#, 6, "expected an object"),
            (r#""quote": { "hex": "00" }"#, r#""quote": { "base64": "A" }"#, 7, "not canonical base64"),
            (r#""quote": { "hex": "00" }"#, r#""quote": null"#, 7, "expected an object"),
            (r#""boot_log": { "hex": "00" }"#, r#""bootlog": { "hex": "00" }"#, 6, "unknown field `bootlog`"),
            (r#""kind": "tdx-quote""#, r#""kind": 1"#, 8, "`1`"),
            (r#""inspect""#, r#""expect""#, 10, "`expect`"),
            (r#""builtin""#, r#""build""#, 10, "unknown field `build`"),
            (r#""builtin": "inspect""#, "", 10, "exactly one of text, file and builtin"),
            (r#""outcome""#, r#""result""#, 13, "unknown field `result`"),
            (r#""why""#, r#""because""#, 4, "unknown field `because`"),
        ] {
            let bad = CASE.replace(from, to);
            assert_ne!(bad, CASE);
            assert!(told(&bad, "").contains(&format!(" at line {line} column ")), "{to}: {}", told(&bad, ""));
            assert!(told(&bad, "").contains(what), "{to}: {}", told(&bad, ""));
            let behind = told(&bad, "{}\n\n  ");
            assert!(behind.contains(&format!(" at line {} column ", line + 2)), "{to}: {behind}");
        }
    }

    #[test]
    fn an_unknown_field_of_every_object_is_named_with_its_line() {
        let behind = |more: &str| CASE.replace(r#""policy":"#, &format!("{more},\n\"policy\":"));
        let evidence = |evidence: &str| {
            let (before, rest) = CASE.split_once("\"evidence\": ").unwrap();
            let (_, after) = rest.split_once("},\n        \"policy\"").unwrap();
            format!("{before}\"evidence\": {evidence},\n\"policy\"{after}")
        };
        // MORE is where the unknown field goes.
        for (what, case) in [
            ("the case", behind(r#""endorsements": {}MORE"#)),
            ("a quote", evidence(r#"{ "kind": "tdx-quote", "quote": { "hex": "00" }MORE }"#)),
            ("a report", evidence(r#"{ "kind": "snp-report", "report": { "hex": "00" }MORE }"#)),
            ("a document", evidence(r#"{ "kind": "document", "document": { "hex": "00" }MORE }"#)),
            (
                "a challenge",
                evidence(
                    r#"{ "kind": "document", "document": { "hex": "00" },
                    "challenge": { "role": "serve", "nonce": "DIGEST"MORE } }"#,
                ),
            ),
            ("devices", evidence(r#"{ "kind": "nvidia-devices", "devices": []MORE }"#)),
            (
                "an opinion on them",
                evidence(
                    r#"{ "kind": "nvidia-devices", "devices": [],
                    "nras": { "jwks": { "hex": "00" }, "answers": []MORE } }"#,
                ),
            ),
            (
                "a device",
                evidence(
                    r#"{ "kind": "nvidia-devices", "devices": [ { "kind": "nvidia-gpu", "nonce": "DIGEST",
                    "report": { "hex": "00" }, "chain": { "hex": "00" }MORE } ] }"#,
                ),
            ),
            ("the endorsements", behind(r#""endorsements": { "tdx_collateral": { "hex": "00" }MORE }"#)),
            (
                "the second opinion",
                behind(r#""second_opinion": { "found": { "status": "UpToDate" }, "verifier": "v"MORE }"#),
            ),
            (
                "the references",
                behind(r#""references": { "file": { "hex": "00" }, "signature": { "hex": "00" }MORE }"#),
            ),
            (
                "what was seen of them",
                behind(
                    r#""references": { "file": { "hex": "00" }, "signature": { "hex": "00" },
                    "last_seen": { "digest": "DIGEST", "version": 1MORE } }"#,
                ),
            ),
            (
                "the second opinion's finding",
                behind(r#""second_opinion": { "found": { "status": "UpToDate"MORE }, "verifier": "v" }"#),
            ),
            ("bytes", behind(r#""endorsements": { "tdx_collateral": { "json": { "a": [1] }MORE } }"#)),
            ("a list of bytes", behind(r#""endorsements": { "nvidia_rims": [ { "file": "f"MORE } ] }"#)),
            ("the policy", CASE.replace(r#""inspect""#, r#""inspect"MORE"#)),
            ("the expectation", CASE.replace(r#""accepted""#, r#""accepted"MORE"#)),
        ] {
            let case = case.replace("DIGEST", &"11".repeat(32));
            assert_eq!(told(&case.replace("MORE", ""), ""), "read", "{what}");
            let bad = case.replace("MORE", ",\n\"foo\": 1");
            let line = 1 + bad.lines().position(|line| line.contains("foo")).unwrap();
            let told = told(&bad, "");
            assert!(told.contains("unknown field `foo`"), "{what}: {told}");
            assert!(told.contains(&format!(" at line {line} column ")), "{what}, line {line}: {told}");
        }
    }

    #[test]
    fn columns_count_from_the_start_of_the_line() {
        let one_line = CASE.replace('\n', " ").replace(r#""hex": "00" }, "#, r#""hex": "0" }, "#);
        let column = |before: &str| {
            let told = told(&one_line, before);
            told.rsplit(' ').next().and_then(|column| column.parse::<usize>().ok()).unwrap()
        };
        assert!(column("") > 80);
        assert_eq!(column("{}\n  "), column("") + 2);
        assert_eq!(column("{}  "), column("") + 4);
    }

    #[test]
    fn places_are_found_in_any_order() {
        let text = "{}\n{}  {}\n\n {}\n";
        let input = Input::new(text.as_bytes());
        for offset in [0, 3, 7, 12, 14, 15, 7, 7, 0, 12] {
            let before = &text[..offset];
            let line_start = before.rfind('\n').map_or(0, |end| end + 1);
            let place = input.place(offset);
            let found = (place.offset, place.lines, place.line_start);
            assert_eq!(found, (offset, before.matches('\n').count(), line_start));
        }
    }

    #[test]
    fn evidence_is_an_object_with_a_kind() {
        for (evidence, expected) in [
            (r#"["tdx-quote", { "hex": "00" }]"#, "expected an object"),
            ("{}", "missing field `kind`"),
            (r#"{ "kind": "tdx-quote" }"#, "missing field `quote`"),
            (r#"{ "kind": "of-later", "more": 1 }"#, "read"),
        ] {
            let (before, rest) = CASE.split_once("\"evidence\": ").unwrap();
            let (_, after) = rest.split_once("},\n        \"policy\"").unwrap();
            let case = format!("{before}\"evidence\": {evidence},\n        \"policy\"{after}");
            assert!(told(&case, "").contains(expected), "{evidence}: {}", told(&case, ""));
        }
    }
}
