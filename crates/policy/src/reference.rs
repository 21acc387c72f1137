//! Reference sets: values that belong together, under one name, in the policy or in a signed file.

use crate::form::{self, WordOrTable};
use crate::{Expectation, Field, HexBytes, PolicyError, Says, Since, Until};
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;
use std::fmt;

/// The largest file of reference values accepted, in bytes: as many as a policy.
pub const MAX_REFERENCE_FILE: usize = crate::MAX_POLICY;
/// First field of every file of reference values. It keeps a signature over anything else from being taken for one.
pub const REFERENCE_FORMAT: &str = "confide-reference-values/1";
/// Most characters of a name. A name is part of one line of a verdict.
const MAX_NAME: usize = 64;

/// The name of a reference set or of a series of reference files: 1 to 64 letters, digits, `.`, `_` and `-` of ASCII.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name(String);

impl Name {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(plain) {
            Ok(Self(text))
        } else {
            let expected = "1 to 64 letters, digits, '.', '_' and '-'";
            Err(serde::de::Error::custom(format!("the name {text:?} is not made of {expected}")))
        }
    }
}

/// Values that belong together, such as those of one release of an image. Evidence matches a set in every field that the
/// policy takes from reference sets, or it does not match it: a mixture of two sets matches neither.
///
/// A field without a value matches nothing. A set has the fields of one platform as a rule: a TD's and a guest's claims, or
/// those of an SEV-SNP report ([`SNP_REFERENCE_FIELDS`]).
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReferenceSet {
    /// MRTD.
    pub mr_td: Vec<HexBytes<48>>,
    /// RTMR0. The same image has one for each shape of its virtual machine.
    pub rtmr0: Vec<HexBytes<48>>,
    /// RTMR1.
    pub rtmr1: Vec<HexBytes<48>>,
    /// RTMR2.
    pub rtmr2: Vec<HexBytes<48>>,
    /// SHA-256 of the egress policy.
    pub egress_policy: Vec<HexBytes<32>>,
    /// SHA-256 of the model manifest.
    pub model: Vec<HexBytes<32>>,
    /// SHA-256 of the guest's deciding configuration.
    pub configuration: Vec<HexBytes<32>>,
    /// SHA-256 of the guest image.
    pub image: Vec<HexBytes<32>>,
    /// Verity roots of the volumes that hold code or weights.
    pub verity_roots: Vec<HexBytes<32>>,
    /// MEASUREMENT of an SEV-SNP guest. The same image has one for each number of processors.
    pub measurement: Vec<HexBytes<48>>,
    /// HOST_DATA.
    pub host_data: Vec<HexBytes<32>>,
    /// FAMILY_ID.
    pub family_id: Vec<HexBytes<16>>,
    /// IMAGE_ID.
    pub image_id: Vec<HexBytes<16>>,
    /// ID_KEY_DIGEST.
    pub id_key_digest: Vec<HexBytes<48>>,
    /// AUTHOR_KEY_DIGEST.
    pub author_key_digest: Vec<HexBytes<48>>,
}

/// The fields of a [`ReferenceSet`] that SEV-SNP reports are held against, and nothing else is.
pub const SNP_REFERENCE_FIELDS: [&str; 6] =
    ["measurement", "host_data", "family_id", "image_id", "id_key_digest", "author_key_digest"];

/// Reference sets by name.
pub type ReferenceSets = BTreeMap<Name, ReferenceSet>;

impl ReferenceSet {
    /// Each field that has values, with its name.
    fn values(&self) -> Vec<(&'static str, &dyn Expectation)> {
        let Self {
            mr_td,
            rtmr0,
            rtmr1,
            rtmr2,
            egress_policy,
            model,
            configuration,
            image,
            verity_roots,
            measurement,
            host_data,
            family_id,
            image_id,
            id_key_digest,
            author_key_digest,
        } = self;
        let all: [(&'static str, &dyn Expectation, bool); 15] = [
            ("mr_td", mr_td, mr_td.is_empty()),
            ("rtmr0", rtmr0, rtmr0.is_empty()),
            ("rtmr1", rtmr1, rtmr1.is_empty()),
            ("rtmr2", rtmr2, rtmr2.is_empty()),
            ("egress_policy", egress_policy, egress_policy.is_empty()),
            ("model", model, model.is_empty()),
            ("configuration", configuration, configuration.is_empty()),
            ("image", image, image.is_empty()),
            ("verity_roots", verity_roots, verity_roots.is_empty()),
            ("measurement", measurement, measurement.is_empty()),
            ("host_data", host_data, host_data.is_empty()),
            ("family_id", family_id, family_id.is_empty()),
            ("image_id", image_id, image_id.is_empty()),
            ("id_key_digest", id_key_digest, id_key_digest.is_empty()),
            ("author_key_digest", author_key_digest, author_key_digest.is_empty()),
        ];
        all.into_iter().filter(|(.., empty)| !empty).map(|(name, values, _)| (name, values)).collect()
    }

    /// Whether the set has a value for a field, by the field's name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.names().contains(&name)
    }

    /// Names of the fields that have a value.
    #[must_use]
    pub fn names(&self) -> Vec<&'static str> {
        self.values().into_iter().map(|(name, _)| name).collect()
    }
}

impl<const N: usize> Expectation for Vec<HexBytes<N>> {
    fn says(&self) -> Says {
        Says::any_of(self)
    }
}

/// Fields of reference sets.
pub(crate) fn fields(sets: &ReferenceSets) -> Vec<Field<'_>> {
    let mut fields = Vec::new();
    for (name, set) in sets {
        for (field, values) in set.values() {
            let subject = format!("the {field} of the reference set {name}");
            fields.push(Field::named(format!("reference.{name}.{field}"), "reference_set", subject, values));
        }
    }
    fields
}

/// Which file of reference values is taken, and whose.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedReferences {
    /// Name of the series of files: a key that signs several series cannot exchange them.
    pub name: Name,
    /// Keys, one of which must have signed the file.
    pub keys: Vec<ReferenceKey>,
    /// The lowest version accepted.
    pub minimum_version: u64,
    /// Which of the file's sets are taken.
    pub sets: TakenSets,
}

impl SignedReferences {
    pub(crate) fn check(&self) -> Result<(), PolicyError> {
        if self.keys.is_empty() {
            return Err(PolicyError::NoKey);
        }
        Ok(())
    }

    pub(crate) fn fields(&self) -> Vec<Field<'_>> {
        let Self { name, keys, minimum_version, sets } = self;
        vec![
            Field::owned(
                "signed_references.name",
                "reference_file",
                "the name of the signed file of reference values",
                Says::any_of([name]),
            ),
            Field::owned(
                "signed_references.keys",
                "reference_signature",
                "the key that signs the file of reference values",
                Says::any_of(keys),
            ),
            Field::owned(
                "signed_references.minimum_version",
                "reference_version",
                "the version of the file of reference values",
                Says::AtLeast(*minimum_version),
            ),
            Field::new(
                "signed_references.sets",
                "reference_set",
                "the reference set of the signed file",
                sets,
            ),
        ]
    }
}

/// Which sets of a signed file are taken: `"all"` or `{ any_of = [...] }`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TakenSets {
    /// Every one.
    All,
    /// Those of these names.
    AnyOf(Vec<Name>),
}

impl TakenSets {
    /// Whether a set of this name is taken.
    #[must_use]
    pub fn takes(&self, name: &Name) -> bool {
        match self {
            Self::All => true,
            Self::AnyOf(names) => names.contains(name),
        }
    }
}

impl Expectation for TakenSets {
    fn says(&self) -> Says {
        match self {
            Self::All => Says::All,
            Self::AnyOf(names) => Says::any_of(names),
        }
    }
}

/// The table form of [`TakenSets`].
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Names {
    any_of: Vec<Name>,
}

impl WordOrTable for TakenSets {
    type Table = Names;
    const EXPECTED: &'static str = "\"all\" or { any_of = [names] }";

    fn word(word: &str) -> Option<Self> {
        (word == "all").then_some(Self::All)
    }

    fn table(table: Names) -> Self {
        Self::AnyOf(table.any_of)
    }
}

impl<'de> Deserialize<'de> for TakenSets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        form::word_or_table(deserializer)
    }
}

/// A public key that signs files of reference values, written as the hexadecimal digits of its DER SubjectPublicKeyInfo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReferenceKey {
    /// Ed25519 (RFC 8410): 32 bytes.
    Ed25519([u8; 32]),
    /// ECDSA on P-256 with SHA-256 (RFC 5480): the uncompressed point.
    EcdsaP256([u8; 65]),
}

/// SubjectPublicKeyInfo of an Ed25519 key up to the key (RFC 8410 section 4).
pub(crate) const ED25519_SPKI: [u8; 12] =
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// SubjectPublicKeyInfo of a P-256 key up to the uncompressed point (RFC 5480 section 2.1.1).
const P256_SPKI: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

impl ReferenceKey {
    /// Reads the DER SubjectPublicKeyInfo of an Ed25519 or an uncompressed P-256 key.
    #[must_use]
    pub fn from_spki(der: &[u8]) -> Option<Self> {
        if let Some(key) = der.strip_prefix(&ED25519_SPKI) {
            return key.try_into().ok().map(Self::Ed25519);
        }
        let point: [u8; 65] = der.strip_prefix(&P256_SPKI)?.try_into().ok()?;
        (point[0] == 0x04).then_some(Self::EcdsaP256(point))
    }

    /// The DER SubjectPublicKeyInfo.
    #[must_use]
    pub fn spki(&self) -> Vec<u8> {
        match self {
            Self::Ed25519(key) => [&ED25519_SPKI[..], key].concat(),
            Self::EcdsaP256(point) => [&P256_SPKI[..], point].concat(),
        }
    }

    /// Name of the signature algorithm.
    #[must_use]
    pub fn algorithm(&self) -> &'static str {
        match self {
            Self::Ed25519(_) => "Ed25519",
            Self::EcdsaP256(_) => "ECDSA P-256",
        }
    }
}

impl fmt::Display for ReferenceKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&confide_evidence::hex::encode(&self.spki()))
    }
}

impl<'de> Deserialize<'de> for ReferenceKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        confide_evidence::hex::decode(&text).and_then(|der| Self::from_spki(&der)).ok_or_else(|| {
            let expected = "the DER SubjectPublicKeyInfo of an Ed25519 or P-256 key in hexadecimal digits";
            serde::de::Error::custom(format!("{text:?} is not {expected}"))
        })
    }
}

/// Reference values as their publisher signs them: a TOML file with a detached signature over its exact bytes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReferenceFile {
    /// [`REFERENCE_FORMAT`].
    pub format: ReferenceFormat,
    /// Name of the series.
    pub name: Name,
    /// Rises with each file of the series.
    pub version: u64,
    /// Its first second.
    pub issued: Since,
    /// Its last second.
    pub expires: Until,
    /// The sets.
    pub reference: ReferenceSets,
}

impl ReferenceFile {
    /// Reads the file. Trust comes from its signature alone.
    ///
    /// # Errors
    /// [`PolicyError::TooLarge`], and [`PolicyError::Toml`] with line, column and field.
    pub fn parse(bytes: &[u8]) -> Result<Self, PolicyError> {
        if bytes.len() > MAX_REFERENCE_FILE {
            return Err(PolicyError::TooLarge(bytes.len()));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| PolicyError::Toml("not UTF-8 text".to_owned()))?;
        toml::from_str(text).map_err(|error| PolicyError::Toml(error.to_string()))
    }
}

/// The first field of a file of reference values, which is [`REFERENCE_FORMAT`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReferenceFormat;

impl<'de> Deserialize<'de> for ReferenceFormat {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let found = String::deserialize(deserializer)?;
        if found == REFERENCE_FORMAT {
            return Ok(Self);
        }
        Err(serde::de::Error::custom(format!("format {found:?}, expected {REFERENCE_FORMAT:?}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
format = "confide-reference-values/1"
name = "acme"
version = 3
issued = 2026-10-01
expires = 2027-01-31

[reference.release-1]
mr_td = ["111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111"]
"#;

    fn refused(from: &str, to: &str) -> String {
        assert!(FILE.contains(from), "{from}");
        ReferenceFile::parse(FILE.replace(from, to).as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn a_file_is_read() {
        let file = ReferenceFile::parse(FILE.as_bytes()).unwrap();
        assert_eq!((file.name.as_str(), file.version), ("acme", 3));
        assert_eq!(file.expires.to_string(), "2027-01-31T23:59:59Z");
        let set = file.reference.values().next().unwrap();
        assert!(set.has("mr_td") && !set.has("rtmr0") && !set.has("nonesuch"));
    }

    #[test]
    fn the_fields_of_a_report_are_fields_of_a_set() {
        let fields = SNP_REFERENCE_FIELDS.map(|field| match field {
            "measurement" | "id_key_digest" | "author_key_digest" => (field, 48),
            "host_data" => (field, 32),
            _ => (field, 16),
        });
        let lines: String =
            fields.map(|(field, size)| format!("{field} = [\"{}\"]\n", "11".repeat(size))).concat();
        let text = format!("{FILE}\n[reference.snp-1]\n{lines}");
        let file = ReferenceFile::parse(text.as_bytes()).unwrap();
        let names: Vec<_> = file.reference.values().map(ReferenceSet::names).collect();
        assert_eq!(names, [vec!["mr_td"], SNP_REFERENCE_FIELDS.to_vec()]);
        let short = text.replacen(&"11".repeat(32), &"11".repeat(31), 1);
        assert!(ReferenceFile::parse(short.as_bytes()).is_err(), "a value of another size");
    }

    #[test]
    fn a_file_of_another_format_or_with_an_unknown_field_is_refused() {
        assert!(refused("values/1", "values/2").contains("confide-reference-values/2"));
        assert!(refused("format =", "# format =").contains("format"));
        for (told, line, field) in [
            (refused("version = 3", "version = 3\nmaximum = 4"), "line 5,", "`maximum`"),
            (refused("mr_td", "mrtd"), "line 9,", "`mrtd`"),
        ] {
            assert!(told.contains(line) && told.contains(field), "{told}");
        }
        assert!(refused("name = \"acme\"", "name = \"a b\"").contains("a b"));
        assert!(refused("expires =", "# expires =").contains("expires"));
        let large = vec![b'#'; MAX_REFERENCE_FILE + 1];
        assert_eq!(ReferenceFile::parse(&large), Err(PolicyError::TooLarge(large.len())));
        assert!(ReferenceFile::parse(&[0xff]).is_err());
    }

    #[test]
    fn a_key_is_a_subject_public_key_info_and_nothing_else() {
        let ed25519 = [&ED25519_SPKI[..], &[7; 32]].concat();
        assert_eq!(ReferenceKey::from_spki(&ed25519), Some(ReferenceKey::Ed25519([7; 32])));
        let mut point = [7; 65];
        point[0] = 4;
        let p256 = [&P256_SPKI[..], &point].concat();
        let key = ReferenceKey::from_spki(&p256).unwrap();
        assert_eq!((&key, key.spki()), (&ReferenceKey::EcdsaP256(point), p256.clone()));
        let mut compressed = p256.clone();
        compressed[26] = 2;
        for bad in
            [&ed25519[1..], &ed25519[..43], &[&ed25519[..], &[0]].concat(), &compressed, &p256[..90], &[]]
        {
            assert_eq!(ReferenceKey::from_spki(bad), None, "{bad:?}");
        }
    }
}
