//! A header in memory: read once, believed only where its digest was released.

use std::fmt;
use std::io::{Read, Seek, SeekFrom};

use confide_evidence::bytes::{Bytes, Digest};
use confide_release::{Profile, Secret};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::binary::{COPY, COPY_U64, Copy, Place};
use crate::error::{VolumeError, io};
use crate::json::{Hint, Metadata, area_size};
use crate::keyslot::{self, VolumeKey};

/// What is read of a disk before it is opened, in bytes: both copies of the header, and every keyslot that may be used.
pub const HEADER_BYTES: u64 = 1024 * 1024;
const HEADER_LENGTH: usize = 1024 * 1024;

/// Where keyslots begin, in bytes: behind both copies of the header.
pub(crate) const KEYSLOTS: u64 = 2 * COPY_U64;

/// The first [`HEADER_BYTES`] of a disk, read once. A host that answers a second read with other bytes changes nothing.
///
/// LUKS2 keeps its header twice. Here each copy stands for itself, with the keyslot that it names: one that is torn or does not
/// have a released digest is passed over, the other may open, and a guest repairs neither. So a rotation can write the new header
/// beside the old one, and is never between the two ([`crate::rotate`]).
pub struct HeaderCopy {
    bytes: Box<[u8; HEADER_LENGTH]>,
}

impl HeaderCopy {
    /// Reads the beginning of a disk or an image.
    ///
    /// # Errors
    /// [`VolumeError::Io`] where it cannot be read, or is shorter than [`HEADER_BYTES`].
    pub fn read(device: &mut (impl Read + Seek)) -> Result<Self, VolumeError> {
        device.seek(SeekFrom::Start(0)).map_err(io("read"))?;
        let mut bytes = vec![0; HEADER_LENGTH];
        device.read_exact(&mut bytes).map_err(io("read"))?;
        Ok(Self::from_bytes(bytes.try_into().expect("the vector has this length")))
    }

    pub(crate) fn from_bytes(bytes: Box<[u8; HEADER_LENGTH]>) -> Self {
        Self { bytes }
    }

    /// The header that opens: the primary copy where its digest is among the released ones, else the secondary one. Both are held
    /// to the grammar of the profile before their digests count.
    ///
    /// # Errors
    /// [`VolumeError::RolledBack`] for a header of which no digest was released. What the grammar refused, where the primary copy
    /// is not of the profile at all.
    pub fn check(&self, profile: Profile, released: &[Digest]) -> Result<Header, VolumeError> {
        let found = Place::BOTH.map(|place| self.header(place, profile));
        let opens = |header: &&Header| released.contains(&header.digest);
        if let Some(header) = found.iter().filter_map(|header| header.as_ref().ok()).find(opens) {
            return Ok(header.clone());
        }
        let [primary, _] = found;
        Err(VolumeError::RolledBack { found: primary?.digest })
    }

    /// The primary copy, for the owner who adds a volume to a broker. It opens nothing: nobody released it.
    ///
    /// # Errors
    /// What the grammar refuses.
    pub fn primary(&self, profile: Profile) -> Result<Unreleased, VolumeError> {
        self.header(Place::Primary, profile).map(Unreleased)
    }

    pub(crate) fn header(&self, place: Place, profile: Profile) -> Result<Header, VolumeError> {
        let copy = self.copy(place)?;
        let metadata = Metadata::parse(copy.json()?, profile)?;
        let area = self.part(metadata.keyslot.offset, area_size(profile));
        let mut hasher = Sha256::new();
        copy.hash_into(&mut hasher);
        hasher.update(area);
        let digest = Bytes(hasher.finalize().into());
        let uuid = copy.uuid().to_owned();
        Ok(Header { profile, digest, uuid, metadata, area: area.to_vec() })
    }

    pub(crate) fn copy(&self, place: Place) -> Result<Copy<'_>, VolumeError> {
        let bytes: &[u8; COPY] =
            self.part(place.offset(), COPY_U64).try_into().expect("a copy has this length");
        Copy::parse(bytes, place)
    }

    /// Bytes of what was read.
    pub(crate) fn part(&self, offset: u64, length: u64) -> &[u8] {
        let range = |from: u64| usize::try_from(from).unwrap_or(usize::MAX);
        let (from, end) = (range(offset), range(offset.saturating_add(length)));
        self.bytes.get(from..end).expect("what a header of the grammar names lies in what was read")
    }
}

impl fmt::Debug for HeaderCopy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HeaderCopy(..)")
    }
}

/// What a header says of itself.
#[derive(Debug)]
pub struct Unreleased(Header);

impl Unreleased {
    /// As [`Header::digest`].
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.0.digest()
    }

    /// As [`Header::uuid`].
    #[must_use]
    pub fn uuid(&self) -> &str {
        self.0.uuid()
    }

    /// As [`Header::hint`].
    #[must_use]
    pub fn hint(&self) -> Option<&Hint> {
        self.0.hint()
    }

    /// As [`Header::data_offset`].
    #[must_use]
    pub fn data_offset(&self) -> u64 {
        self.0.data_offset()
    }
}

/// A header of its profile whose digest is a released one. Only [`HeaderCopy::check`] makes it, and only it gives a key:
///
/// ```compile_fail
/// use confide_volume::{Header, Unreleased, VolumeError, VolumeKey};
/// fn open(found: &Unreleased, secret: &confide_release::Secret) -> Result<VolumeKey, VolumeError> {
///     found.unlock(secret)
/// }
/// ```
/// ```
/// use confide_volume::{Header, Unreleased, VolumeError, VolumeKey};
/// fn open(found: &Header, secret: &confide_release::Secret) -> Result<VolumeKey, VolumeError> {
///     found.unlock(secret)
/// }
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Header {
    profile: Profile,
    digest: Digest,
    uuid: String,
    metadata: Metadata,
    area: Vec<u8>,
}

impl Header {
    /// SHA-256 of every byte that the guest uses: the copy of the header, 16 KiB, with zeros in the place of what differs between
    /// the two copies and decides nothing (magic, salt, offset, checksum), then the area of the keyslot.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// How the volume is protected.
    #[must_use]
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// The volume's UUID, in its text form.
    #[must_use]
    pub fn uuid(&self) -> &str {
        &self.uuid
    }

    /// What the volume says of its broker. Only a hint.
    #[must_use]
    pub fn hint(&self) -> Option<&Hint> {
        self.metadata.hint.as_ref()
    }

    /// Where the encrypted data begin, in bytes: a multiple of 1 MiB, at most 64 MiB.
    #[must_use]
    pub fn data_offset(&self) -> u64 {
        self.metadata.segment_offset
    }

    /// The volume key, by PBKDF2, the keyslot's AES-XTS and the split of the key (LUKS2 specification, section 4).
    ///
    /// # Errors
    /// [`VolumeError::SecretWrong`] where what comes out does not have the header's digest of the key, which is compared in
    /// constant time.
    pub fn unlock(&self, secret: &Secret) -> Result<VolumeKey, VolumeError> {
        let area = Zeroizing::new(self.area.clone());
        keyslot::open(self.profile, &self.metadata, area, secret)
    }

    pub(crate) fn metadata(&self) -> &Metadata {
        &self.metadata
    }
}

impl fmt::Debug for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { profile, digest, uuid, .. } = self;
        f.debug_struct("Header")
            .field("profile", profile)
            .field("digest", digest)
            .field("uuid", uuid)
            .finish()
    }
}

#[cfg(test)]
mod tests;
