//! The JSON of a LUKS2 header (LUKS2 On-Disk Format Specification 1.1.3, section 3), of which a volume has exactly two forms.

use std::fmt;
use std::marker::PhantomData;

use confide_evidence::pem::{base64, base64_text};
use confide_release::{Profile, VolumeId};
use serde::de::{DeserializeOwned, Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::binary::{BINARY, COPY_U64};
use crate::error::VolumeError;
use crate::header::{HEADER_BYTES, KEYSLOTS};

/// The one cipher, of segments and of keyslots.
pub(crate) const CIPHER: &str = "aes-xts-plain64";
/// Bytes of its key.
pub(crate) const CIPHER_KEY: usize = 64;
/// Bytes of the key of a `state` volume's tags, which follows the cipher's.
const TAG_KEY: usize = 32;
/// Bytes of a sector of the segment.
pub(crate) const SECTOR: u64 = 4096;
/// Stripes of a split key (LUKS2 specification, section 3.2.2: always 4000).
pub(crate) const STRIPES: usize = 4000;
/// Iterations of PBKDF2 that are written: cryptsetup's least. The secret has 512 random bits, so that none are needed.
pub(crate) const ITERATIONS: u32 = 1000;
/// The most iterations that are read: a tenth of a second's work.
const MAX_ITERATIONS: u64 = 100_000;
/// Bytes of every salt, and of the digest of the volume key.
pub(crate) const SALT: usize = 32;
/// Where the data of a volume begin at the latest: reserve that `cryptsetup reencrypt` asks for, twice.
const MAX_SEGMENT_OFFSET: u64 = 64 * 1024 * 1024;
/// What keyslot areas and headers are aligned to.
const BLOCK: u64 = 4096;
/// The unit of the segment's offset.
const SEGMENT_UNIT: u64 = 1024 * 1024;
/// The most objects of a kind (LUKS2 specification, section 3: 32 keyslots, 32 tokens).
const MAX_OBJECTS: u32 = 32;
/// The type of our token.
const TOKEN: &str = "confide";
/// The longest address in a token, in bytes: a DNS name and a port.
const MAX_ADDRESS: usize = 262;
/// The integrity of `state`, as LUKS2 names it.
const TAGS: &str = "hmac(sha256)";
/// The most characters of an unknown value that an error shows.
const SHOWN: usize = 96;

/// Bytes of a profile's volume key.
pub(crate) const fn key_size(profile: Profile) -> usize {
    match profile {
        Profile::Model => CIPHER_KEY,
        Profile::State => CIPHER_KEY + TAG_KEY,
    }
}

/// Bytes of a profile's keyslot area: the split key, filled up to a block.
pub(crate) const fn area_size(profile: Profile) -> u64 {
    match profile {
        Profile::Model => 258_048,
        Profile::State => 385_024,
    }
}

const _: () = assert!((CIPHER_KEY * STRIPES).next_multiple_of(4096) == 258_048);
const _: () = assert!(((CIPHER_KEY + TAG_KEY) * STRIPES).next_multiple_of(4096) == 385_024);

/// Where a volume's owner said that its broker is, and how it calls the volume. A hint: whoever holds the disk can write it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hint {
    broker: String,
    volume: VolumeId,
}

impl Hint {
    /// A hint of an address, such as `broker.example:8443`, and a name.
    ///
    /// # Errors
    /// [`VolumeError::Token`] for an address that is empty, longer than 262 bytes or not of printable ASCII.
    pub fn new(broker: &str, volume: VolumeId) -> Result<Self, VolumeError> {
        let plain = broker.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\');
        if broker.is_empty() || broker.len() > MAX_ADDRESS || !plain {
            return Err(VolumeError::Token { field: "broker" });
        }
        Ok(Self { broker: broker.to_owned(), volume })
    }

    /// The broker's address.
    #[must_use]
    pub fn broker(&self) -> &str {
        &self.broker
    }

    /// The volume's name.
    #[must_use]
    pub fn volume(&self) -> &VolumeId {
        &self.volume
    }
}

/// All that a header says, once it is known to be of its profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Metadata {
    /// Where the encrypted data begin, in bytes.
    pub(crate) segment_offset: u64,
    /// Bytes of the area of all keyslots, which begins behind the two headers.
    pub(crate) keyslots_size: u64,
    pub(crate) keyslot: Keyslot,
    pub(crate) digest: KeyDigest,
    pub(crate) hint: Option<Hint>,
}

/// Where and how the volume key is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Keyslot {
    /// Its number.
    pub(crate) id: u32,
    /// Where its area begins, in bytes.
    pub(crate) offset: u64,
    pub(crate) salt: [u8; SALT],
    pub(crate) iterations: u32,
}

/// What tells the right volume key from a wrong one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyDigest {
    pub(crate) salt: [u8; SALT],
    pub(crate) iterations: u32,
    pub(crate) digest: [u8; SALT],
}

impl Metadata {
    /// Reads the JSON of a header.
    pub(crate) fn parse(text: &[u8], profile: Profile) -> Result<Self, VolumeError> {
        let root: Root = strict(text)?;
        let keyslots_size = root.config.check()?;
        let (segment_id, segment) = root.segments.only("segments")?;
        let (keyslot_id, keyslot) = root.keyslots.only("keyslots")?;
        let (_, digest) = root.digests.only("digests")?;
        let segment_offset = segment_offset(&segment, keyslots_size, profile)?;
        let keyslot = Keyslot::parse(keyslot_id, &keyslot, keyslots_size, profile)?;
        let digest = KeyDigest::parse(&digest, keyslot_id, segment_id)?;
        let hint = hint(root.tokens, keyslot_id)?;
        Ok(Self { segment_offset, keyslots_size, keyslot, digest, hint })
    }

    /// The JSON text that [`Metadata::parse`] reads.
    pub(crate) fn to_json(&self, profile: Profile) -> Vec<u8> {
        let id = self.keyslot.id.to_string();
        let mut segment = json!({
            "type": "crypt",
            "offset": self.segment_offset.to_string(),
            "size": "dynamic",
            "iv_tweak": "0",
            "encryption": CIPHER,
            "sector_size": SECTOR,
        });
        if let (Profile::State, Some(fields)) = (profile, segment.as_object_mut()) {
            let tags = json!({"type": TAGS, "journal_encryption": "none", "journal_integrity": "none"});
            fields.insert("integrity".to_owned(), tags);
        }
        let keyslot = json!({
            "type": "luks2",
            "key_size": key_size(profile),
            "af": {"type": "luks1", "stripes": STRIPES, "hash": "sha256"},
            "area": {
                "type": "raw",
                "offset": self.keyslot.offset.to_string(),
                "size": area_size(profile).to_string(),
                "encryption": CIPHER,
                "key_size": CIPHER_KEY,
            },
            "kdf": {
                "type": "pbkdf2",
                "hash": "sha256",
                "iterations": self.keyslot.iterations,
                "salt": base64_text(&self.keyslot.salt),
            },
        });
        let digest = json!({
            "type": "pbkdf2",
            "keyslots": [id],
            "segments": ["0"],
            "hash": "sha256",
            "iterations": self.digest.iterations,
            "salt": base64_text(&self.digest.salt),
            "digest": base64_text(&self.digest.digest),
        });
        let tokens = self.hint.as_ref().map_or_else(|| json!({}), |hint| json!({"0": token(hint, &id)}));
        let size = COPY_U64.saturating_sub(BINARY_U64).to_string();
        let root = json!({
            "keyslots": {id.as_str(): keyslot},
            "tokens": tokens,
            "segments": {"0": segment},
            "digests": {"0": digest},
            "config": {"json_size": size, "keyslots_size": self.keyslots_size.to_string()},
        });
        root.to_string().into_bytes()
    }
}

/// [`BINARY`] as it is counted in headers.
const BINARY_U64: u64 = 4096;
const _: () = assert!(BINARY == 4096);

fn token(hint: &Hint, keyslot: &str) -> Value {
    let (broker, volume) = (hint.broker(), hint.volume().as_str());
    json!({"type": TOKEN, "keyslots": [keyslot], "broker": broker, "volume": volume})
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Root {
    keyslots: Objects,
    tokens: Objects,
    segments: Objects,
    digests: Objects,
    config: Config,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    json_size: Decimal,
    keyslots_size: Decimal,
    #[serde(default)]
    flags: Vec<String>,
    #[serde(default)]
    requirements: Requirements,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Requirements {
    #[serde(default)]
    mandatory: Vec<String>,
}

impl Config {
    /// Bytes of the area of all keyslots.
    fn check(&self) -> Result<u64, VolumeError> {
        if !self.requirements.mandatory.is_empty() {
            return Err(VolumeError::Requirement { what: "requirements" });
        }
        if !self.flags.is_empty() {
            return Err(VolumeError::Requirement { what: "flags" });
        }
        number("json_size", self.json_size.0, COPY_U64.saturating_sub(BINARY_U64))?;
        aligned("keyslots_size", self.keyslots_size.0, BLOCK)?;
        Ok(self.keyslots_size.0)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Segment {
    #[serde(rename = "type")]
    _type: String,
    offset: Decimal,
    #[serde(rename = "size")]
    _size: Size,
    iv_tweak: Decimal,
    encryption: String,
    sector_size: u64,
    integrity: Option<Tags>,
    #[serde(default)]
    flags: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tags {
    #[serde(rename = "type")]
    kind: String,
    journal_encryption: String,
    journal_integrity: String,
}

/// The one segment: where it begins.
fn segment_offset(raw: &RawValue, keyslots_size: u64, profile: Profile) -> Result<u64, VolumeError> {
    let segment: Segment = typed("segment", raw, "crypt")?;
    if !segment.flags.is_empty() {
        return Err(VolumeError::Requirement { what: "segment flags" });
    }
    cipher("segment", &segment.encryption)?;
    number("sector_size", segment.sector_size, SECTOR)?;
    number("iv_tweak", segment.iv_tweak.0, 0)?;
    let none = |journal: &str| journal == "none";
    let fits = match (&segment.integrity, profile) {
        (None, Profile::Model) => true,
        (Some(tags), Profile::State) => {
            tags.kind == TAGS && none(&tags.journal_encryption) && none(&tags.journal_integrity)
        }
        _ => false,
    };
    if !fits {
        let found = segment.integrity.map(|tags| shown(&tags.kind));
        return Err(VolumeError::Integrity { found, profile });
    }
    aligned("segment's offset", segment.offset.0, SEGMENT_UNIT)?;
    let (found, most) = (segment.offset.0, MAX_SEGMENT_OFFSET);
    let least = KEYSLOTS.saturating_add(keyslots_size).max(HEADER_BYTES);
    if !(least..=most).contains(&found) {
        return Err(VolumeError::SegmentOffset { found, least, most });
    }
    Ok(found)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawKeyslot {
    #[serde(rename = "type")]
    _type: String,
    key_size: u64,
    af: Box<RawValue>,
    area: Box<RawValue>,
    kdf: Box<RawValue>,
    #[serde(default, rename = "priority")]
    _priority: Option<u8>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Split {
    #[serde(rename = "type")]
    _type: String,
    stripes: u64,
    hash: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Area {
    #[serde(rename = "type")]
    _type: String,
    offset: Decimal,
    size: Decimal,
    encryption: String,
    key_size: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Kdf {
    #[serde(rename = "type")]
    _type: String,
    hash: String,
    iterations: u64,
    salt: String,
}

impl Keyslot {
    fn parse(id: u32, raw: &RawValue, keyslots_size: u64, profile: Profile) -> Result<Self, VolumeError> {
        let keyslot: RawKeyslot = typed("keyslot", raw, "luks2")?;
        let split: Split = typed("keyslot's split", &keyslot.af, "luks1")?;
        let area: Area = typed("keyslot's area", &keyslot.area, "raw")?;
        let kdf: Kdf = typed("keyslot's key derivation", &keyslot.kdf, "pbkdf2")?;
        number("keyslot's key_size", keyslot.key_size, wide(key_size(profile)))?;
        number("stripes", split.stripes, wide(STRIPES))?;
        hash("keyslot's split", &split.hash)?;
        cipher("keyslot", &area.encryption)?;
        number("keyslot area's key_size", area.key_size, wide(CIPHER_KEY))?;
        hash("keyslot", &kdf.hash)?;
        let iterations = iterations("keyslot", kdf.iterations)?;
        let salt = bytes("keyslot's salt", &kdf.salt)?;
        let offset = area.bounds(keyslots_size, profile)?;
        Ok(Self { id, offset, salt, iterations })
    }
}

impl Area {
    /// Where it begins; it has the one size, and lies between the headers and the data, in what was read.
    fn bounds(&self, keyslots_size: u64, profile: Profile) -> Result<u64, VolumeError> {
        let (offset, found, expected) = (self.offset.0, self.size.0, area_size(profile));
        if found != expected {
            return Err(VolumeError::AreaSize { found, expected });
        }
        aligned("keyslot area's offset", offset, BLOCK)?;
        let end = KEYSLOTS.saturating_add(keyslots_size).min(HEADER_BYTES);
        if offset < KEYSLOTS || offset.saturating_add(expected) > end {
            return Err(VolumeError::AreaBounds { offset, end });
        }
        Ok(offset)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawDigest {
    #[serde(rename = "type")]
    _type: String,
    keyslots: Vec<String>,
    segments: Vec<String>,
    hash: String,
    iterations: u64,
    salt: String,
    digest: String,
}

impl KeyDigest {
    fn parse(raw: &RawValue, keyslot: u32, segment: u32) -> Result<Self, VolumeError> {
        let digest: RawDigest = typed("digest", raw, "pbkdf2")?;
        hash("digest", &digest.hash)?;
        let iterations = iterations("digest", digest.iterations)?;
        let names = |found: &[String], id: u32| found == [id.to_string()];
        if !names(&digest.keyslots, keyslot) || !names(&digest.segments, segment) {
            return Err(VolumeError::Reference { what: "digest" });
        }
        let salt = bytes("digest's salt", &digest.salt)?;
        Ok(Self { salt, iterations, digest: bytes("digest", &digest.digest)? })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Token {
    #[serde(rename = "type")]
    _type: String,
    keyslots: Vec<String>,
    broker: String,
    volume: String,
}

/// What our token says; a header need not have one.
fn hint(tokens: Objects, keyslot: u32) -> Result<Option<Hint>, VolumeError> {
    for (_, raw) in &tokens.0 {
        let found = kind(raw)?;
        if found != TOKEN {
            return Err(VolumeError::ForeignToken { found: shown(&found), expected: TOKEN });
        }
    }
    if tokens.0.is_empty() {
        return Ok(None);
    }
    let (_, raw) = tokens.only("tokens")?;
    let token: Token = typed("token", &raw, TOKEN)?;
    if !(token.keyslots.is_empty() || token.keyslots == [keyslot.to_string()]) {
        return Err(VolumeError::Reference { what: "token" });
    }
    let volume = token.volume.parse().map_err(|_| VolumeError::Token { field: "volume" })?;
    Hint::new(&token.broker, volume).map(Some)
}

/// Objects by their numbers.
struct Objects(Vec<(u32, Box<RawValue>)>);

impl Objects {
    fn only(self, what: &'static str) -> Result<(u32, Box<RawValue>), VolumeError> {
        let found = self.0.len();
        let [only] =
            <[_; 1]>::try_from(self.0).map_err(|_| VolumeError::Count { what, found, expected: 1 })?;
        Ok(only)
    }
}

impl<'de> Deserialize<'de> for Objects {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectsVisitor)
    }
}

struct ObjectsVisitor;

impl<'de> Visitor<'de> for ObjectsVisitor {
    type Value = Objects;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("objects by their numbers")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Objects, A::Error> {
        let mut objects: Vec<(u32, Box<RawValue>)> = Vec::new();
        while let Some((Decimal(key), value)) = map.next_entry::<Decimal, Box<RawValue>>()? {
            let key = u32::try_from(key).ok().filter(|key| *key < MAX_OBJECTS);
            let key = key.ok_or_else(|| A::Error::custom("an object's number is too large"))?;
            if objects.iter().any(|(other, _)| *other == key) {
                return Err(A::Error::custom("two objects have one number"));
            }
            objects.push((key, value));
        }
        Ok(Objects(objects))
    }
}

/// A number in decimal digits, in a string, as LUKS2 writes those of 64 bits.
#[derive(Clone, Copy)]
struct Decimal(u64);

impl<'de> Deserialize<'de> for Decimal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Text::<Decimal>(PhantomData))
    }
}

/// `dynamic`, up to the end of the disk, or bytes. What a volume has is released by its broker; this is not used.
struct Size;

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Text::<Size>(PhantomData))
    }
}

/// What is read from a string.
trait FromText: Sized {
    const EXPECTED: &'static str;
    fn from_text(text: &str) -> Option<Self>;
}

impl FromText for Decimal {
    const EXPECTED: &'static str = "a decimal number in a string";

    fn from_text(text: &str) -> Option<Self> {
        let number: u64 = text.parse().ok()?;
        (number.to_string() == text).then_some(Self(number))
    }
}

impl FromText for Size {
    const EXPECTED: &'static str = "\"dynamic\" or a decimal number in a string";

    fn from_text(text: &str) -> Option<Self> {
        (text == "dynamic" || Decimal::from_text(text).is_some()).then_some(Self)
    }
}

struct Text<T>(PhantomData<T>);

impl<T: FromText> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::EXPECTED)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        T::from_text(text).ok_or_else(|| E::custom(format_args!("not {}", T::EXPECTED)))
    }
}

/// Reads JSON of a closed type.
fn strict<T: DeserializeOwned>(text: &[u8]) -> Result<T, VolumeError> {
    serde_json::from_slice(text).map_err(|error| VolumeError::Json { reason: shown(&error.to_string()) })
}

/// The `type` of an object, whatever else it has.
fn kind(raw: &RawValue) -> Result<String, VolumeError> {
    #[derive(Deserialize)]
    struct Kind {
        r#type: String,
    }
    strict::<Kind>(raw.get().as_bytes()).map(|kind| kind.r#type)
}

/// Reads an object of a closed type, once its `type` is the expected one.
fn typed<T: DeserializeOwned>(
    what: &'static str,
    raw: &RawValue,
    expected: &'static str,
) -> Result<T, VolumeError> {
    let found = kind(raw)?;
    if found != expected {
        return Err(VolumeError::Type { what, found: shown(&found), expected });
    }
    strict(raw.get().as_bytes())
}

/// The beginning of a hostile text, in printable ASCII.
fn shown(text: &str) -> String {
    text.chars().take(SHOWN).flat_map(char::escape_default).collect()
}

fn number(what: &'static str, found: u64, expected: u64) -> Result<(), VolumeError> {
    if found == expected { Ok(()) } else { Err(VolumeError::Number { what, found, expected }) }
}

fn aligned(what: &'static str, found: u64, unit: u64) -> Result<(), VolumeError> {
    if found.is_multiple_of(unit) { Ok(()) } else { Err(VolumeError::Alignment { what, found, unit }) }
}

fn cipher(what: &'static str, found: &str) -> Result<(), VolumeError> {
    if found == CIPHER {
        return Ok(());
    }
    let found = shown(found);
    if found.to_ascii_lowercase().contains("null") {
        return Err(VolumeError::NullCipher { what, found });
    }
    Err(VolumeError::Cipher { what, found, expected: CIPHER })
}

fn hash(what: &'static str, found: &str) -> Result<(), VolumeError> {
    if found == "sha256" { Ok(()) } else { Err(VolumeError::Hash { what, found: shown(found) }) }
}

fn iterations(what: &'static str, found: u64) -> Result<u32, VolumeError> {
    let (least, most) = (u64::from(ITERATIONS), MAX_ITERATIONS);
    let fits = (least..=most).contains(&found);
    let narrow = u32::try_from(found).ok().filter(|_| fits);
    narrow.ok_or(VolumeError::Iterations { what, found, least, most })
}

/// 32 bytes in canonical base64.
fn bytes(what: &'static str, text: &str) -> Result<[u8; SALT], VolumeError> {
    let bytes = base64(text).ok().filter(|bytes| base64_text(bytes) == text);
    let bytes = bytes.ok_or_else(|| VolumeError::Json { reason: format!("the {what} is no base64") })?;
    let found = bytes.len();
    bytes.try_into().map_err(|_| VolumeError::Length { what, found, expected: SALT })
}

fn wide(number: usize) -> u64 {
    u64::try_from(number).expect("usize has at most 64 bits")
}

#[cfg(test)]
mod tests;
