//! What a broker knows of a volume, and releases.

use std::fmt;

use confide_evidence::bytes::{Bytes, Digest};
use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::{Zeroize as _, Zeroizing};

use crate::error::ReleaseError;

/// The most volumes of one boot: as many as an event lists.
pub const MAX_VOLUMES: usize = confide_evidence::event::MAX_LISTED;
/// The most bytes of a volume's name. It is part of names of device-mapper, which have at most 127.
const MAX_NAME: usize = 64;

/// The name of a volume: 1 to 64 bytes of `a-z`, `0-9`, `.`, `_` and `-`, the first one a letter or a digit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VolumeId(String);

/// Why text is no name of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a volume's name has 1 to 64 bytes of a-z, 0-9, '.', '_' and '-', the first one a letter or a digit")]
pub struct VolumeIdError;

impl VolumeId {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for VolumeId {
    type Error = VolumeIdError;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let first = name.bytes().next().is_some_and(letter);
        let rest = name.bytes().all(|byte| letter(byte) || matches!(byte, b'.' | b'_' | b'-'));
        if first && rest && name.len() <= MAX_NAME { Ok(Self(name)) } else { Err(VolumeIdError) }
    }
}

impl std::str::FromStr for VolumeId {
    type Err = VolumeIdError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        name.to_owned().try_into()
    }
}

impl From<VolumeId> for String {
    fn from(id: VolumeId) -> Self {
        id.0
    }
}

impl fmt::Display for VolumeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A keyslot's secret, 64 random bytes: overwritten with zeros when dropped, shown nowhere.
pub struct Secret(Zeroizing<[u8; 64]>);

impl Secret {
    /// Takes the secret.
    #[must_use]
    pub const fn new(bytes: Zeroizing<[u8; 64]>) -> Self {
        Self(bytes)
    }

    /// The bytes, for a key derivation alone.
    #[must_use]
    pub fn expose(&self) -> &[u8; 64] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.expose())
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(SecretVisitor)
    }
}

/// Copies into the array that is overwritten later, and nowhere else.
struct SecretVisitor;

impl Visitor<'_> for SecretVisitor {
    type Value = Secret;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("64 bytes")
    }

    fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Secret, E> {
        if bytes.len() != 64 {
            return Err(E::invalid_length(bytes.len(), &self));
        }
        let mut secret = Zeroizing::new([0; 64]);
        secret.copy_from_slice(bytes);
        Ok(Secret(secret))
    }

    fn visit_byte_buf<E: serde::de::Error>(self, mut bytes: Vec<u8>) -> Result<Secret, E> {
        let secret = self.visit_bytes(&bytes);
        bytes.zeroize();
        secret
    }
}

/// How a volume is protected. There are no others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// Read-only: AES-XTS, and dm-verity inside it, whose root the broker holds.
    Model,
    /// Writable: authenticated encryption over dm-integrity.
    State,
}

impl Profile {
    /// `model` or `state`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::State => "state",
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The hash tree of a volume `model` (Linux, Documentation/admin-guide/device-mapper/verity.rst): format 1, SHA-256, data and
/// hash blocks of 4096 bytes. Behind the data stands one block with a superblock, which nobody reads; the tree begins after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verity {
    /// The root hash.
    pub root: Bytes<32>,
    /// Stands before each block that is hashed.
    pub salt: Bytes<32>,
    /// Blocks of data, of 4096 bytes.
    pub data_blocks: u64,
}

/// One state of a volume's header that opens.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Version {
    /// SHA-256 of all header and keyslot bytes that the guest uses; `None` for a volume that is yet to be formatted.
    pub header: Option<Digest>,
    /// The keyslot's secret under that header.
    pub secret: Secret,
    /// Counts rotations, from 1.
    pub generation: u64,
}

/// What a broker seals for one volume.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VolumeSecrets {
    /// Bytes of the opened device: for `model` the file system, the superblock's block and the hash tree.
    pub size: u64,
    /// The hash tree of `model`.
    pub verity: Option<Verity>,
    /// How it is protected.
    pub profile: Profile,
    /// The committed version and, while a rotation is under way, the prepared one after it. No other opens.
    pub versions: Vec<Version>,
    /// For `state`, as long as the broker knows of no header: the guest formats the volume, and says so with this token.
    pub format_token: Option<Bytes<32>>,
}

/// Bytes that hold any [`VolumeSecrets`] in their encoding, so that no copy is left behind by growing.
const ENCODED: usize = 1024;

impl VolumeSecrets {
    /// The version whose header has this digest.
    #[must_use]
    pub fn version(&self, header: &Digest) -> Option<&Version> {
        self.versions.iter().find(|version| version.header.as_ref() == Some(header))
    }

    /// The canonical encoding, which is overwritten when it is dropped.
    ///
    /// # Panics
    /// Never: a vector takes any bytes.
    #[must_use]
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let room = Vec::with_capacity(ENCODED);
        Zeroizing::new(cbor4ii::serde::to_vec(room, self).expect("a vector takes any bytes"))
    }

    /// Reads what the broker sealed. [`ReleaseAnswer::verify`](crate::ReleaseAnswer::verify) has held its signature.
    ///
    /// # Errors
    /// [`ReleaseError::Rule`] for anything but the canonical encoding of secrets that keep every rule.
    pub fn decode(bytes: &[u8]) -> Result<Self, ReleaseError> {
        let shape = |_| ReleaseError::Rule("the sealed secrets of a volume have another shape");
        let secrets: Self = cbor4ii::serde::from_slice(bytes).map_err(shape)?;
        if secrets.encode().as_slice() != bytes {
            return Err(ReleaseError::Rule("the sealed secrets of a volume are not canonical"));
        }
        secrets.check()?;
        Ok(secrets)
    }

    /// What holds for every volume.
    ///
    /// # Errors
    /// [`ReleaseError::Rule`] with the rule that is broken.
    pub fn check(&self) -> Result<(), ReleaseError> {
        let unformatted = self.versions.iter().filter(|version| version.header.is_none()).count();
        let broken = match (self.profile, &self.versions[..]) {
            (_, []) => Some("a volume has a version"),
            (_, [_, _, _, ..]) => Some("a volume has at most two versions"),
            (_, [one, other]) if one.generation >= other.generation => Some("generations grow"),
            (Profile::Model, _) if self.verity.is_none() => Some("a volume `model` has a hash tree"),
            (Profile::State, _) if self.verity.is_some() => Some("a volume `state` has no hash tree"),
            (Profile::Model, _) if unformatted > 0 => Some("a volume `model` has a header"),
            (_, [_, _]) if unformatted > 0 => Some("a volume that is yet to be formatted has one version"),
            _ if (unformatted > 0) != self.format_token.is_some() => {
                Some("a token to format a volume is there exactly where it is yet to be formatted")
            }
            _ => None,
        };
        broken.map_or(Ok(()), |rule| Err(ReleaseError::Rule(rule)))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn secret(byte: u8) -> Secret {
        Secret::new(Zeroizing::new([byte; 64]))
    }

    pub(crate) fn version(generation: u64) -> Version {
        let header = Some(Bytes([u8::try_from(generation).unwrap(); 32]));
        Version { header, secret: secret(9), generation }
    }

    pub(crate) fn model() -> VolumeSecrets {
        let verity = Some(Verity { root: Bytes([1; 32]), salt: Bytes([2; 32]), data_blocks: 3 });
        let versions = vec![version(1), version(2)];
        VolumeSecrets { size: 4096, verity, profile: Profile::Model, versions, format_token: None }
    }

    fn unformatted() -> VolumeSecrets {
        let versions = vec![Version { header: None, ..version(1) }];
        let format_token = Some(Bytes([4; 32]));
        VolumeSecrets { size: 4096, verity: None, profile: Profile::State, versions, format_token }
    }

    #[test]
    fn secrets_are_read_as_they_are_written_within_the_room_for_them() {
        for secrets in [model(), unformatted()] {
            let bytes = secrets.encode();
            assert!(bytes.len() < ENCODED / 2, "{} bytes", bytes.len());
            let again = VolumeSecrets::decode(&bytes).unwrap();
            assert_eq!(again.encode(), bytes);
            assert_eq!(confide_evidence::cbor::to_canonical(&again).unwrap(), *bytes);
        }
    }

    #[test]
    fn what_is_cut_or_trailed_is_refused() {
        let bytes = model().encode();
        for length in 0..bytes.len() {
            assert!(VolumeSecrets::decode(&bytes[..length]).is_err(), "{length} bytes");
        }
        assert!(VolumeSecrets::decode(&[bytes.as_slice(), &[0]].concat()).is_err());
    }

    #[test]
    fn a_version_is_found_by_its_header() {
        let secrets = model();
        assert_eq!(secrets.version(&Bytes([2; 32])).unwrap().generation, 2);
        assert!(secrets.version(&Bytes([3; 32])).is_none());
        assert!(unformatted().version(&Bytes([1; 32])).is_none());
    }

    #[test]
    fn every_rule_of_a_volume_is_held() {
        assert!(model().check().is_ok() && unformatted().check().is_ok());
        let three = || vec![version(1), version(2), version(3)];
        let bare = || vec![Version { header: None, ..version(1) }];
        let broken = [
            VolumeSecrets { versions: vec![], ..model() },
            VolumeSecrets { versions: three(), ..model() },
            VolumeSecrets { versions: vec![version(2), version(1)], ..model() },
            VolumeSecrets { versions: vec![version(1), version(1)], ..model() },
            VolumeSecrets { verity: None, ..model() },
            VolumeSecrets { profile: Profile::State, ..model() },
            VolumeSecrets { versions: bare(), ..model() },
            VolumeSecrets { format_token: Some(Bytes([0; 32])), ..model() },
            VolumeSecrets { format_token: None, ..unformatted() },
            VolumeSecrets { versions: vec![version(1)], ..unformatted() },
            VolumeSecrets { versions: bare().into_iter().chain([version(2)]).collect(), ..unformatted() },
        ];
        for secrets in broken {
            assert!(
                matches!(VolumeSecrets::decode(&secrets.encode()), Err(ReleaseError::Rule(_))),
                "{secrets:?}"
            );
        }
    }

    #[test]
    fn names_are_short_and_plain() {
        for name in ["a", "model-1", "0.weights_x", &"v".repeat(64)] {
            assert_eq!(name.parse::<VolumeId>().unwrap().as_str(), name);
        }
        for name in ["", "-a", ".", "../a", "A", "a b", "a/b", "é", &"v".repeat(65)] {
            assert_eq!(name.parse::<VolumeId>(), Err(VolumeIdError), "{name:?}");
        }
    }

    #[test]
    fn no_secret_is_shown() {
        assert!(!format!("{:?}", model()).contains("9, 9"));
    }
}
