//! Rotation: a new secret, and with it a new header, whose digest the broker counts as the next generation.
//!
//! The steps are *prepare* (nothing is written; the broker stores digest and secret as prepared), *write* (the new keyslot beside
//! the old one, then the new header as the secondary copy), *commit* (in the broker's database) and *settle* (the new header as
//! the primary copy, the old keyslot overwritten). Whenever this is interrupted, the image holds the header that the broker has as
//! committed or, before the commit, that and the prepared one; [`settle`] with the committed digest ends every such state, and may
//! be done again.
//!
//! All of that is of one program at a time ([`Image`](crate::Image)): two that take each other for interrupted ones would write over
//! what the broker has committed.
//!
//! Re-keying protects from whoever learns the old secret and does not have the old header. Who copied the old header can still
//! derive the volume key from it and the old secret: the broker refuses to release that secret, but whoever has it needs no
//! broker. [`reencrypt`] makes an image under a new volume key.

use std::fmt;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use confide_evidence::bytes::Digest;
use confide_release::{Profile, Secret, Verity};
use sha2::Sha256;
use sha2::digest::Digest as _;

use crate::binary::{Draft, Place};
use crate::draw::Draw;
use crate::error::{self, VolumeError};
use crate::header::{HEADER_BYTES, HeaderCopy, KEYSLOTS};
use crate::image::Image;
use crate::json::{Hint, ITERATIONS, Keyslot, Metadata, area_size};
use crate::keyslot::{self, VolumeKey};
use crate::{pack, write as beginning};

/// What an image is written through. What was written may be lost or torn until a [`BlockDevice::sync`] after it returns.
pub trait BlockDevice {
    /// Fills `buffer` from `offset` on.
    ///
    /// # Errors
    /// What the system says, also where the device ends before.
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// Writes all bytes from `offset` on.
    ///
    /// # Errors
    /// What the system says.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Returns once everything that was written is where it lasts.
    ///
    /// # Errors
    /// What the system says.
    fn sync(&mut self) -> io::Result<()>;
}

/// A rotation of which nothing is written yet.
pub struct Prepared {
    profile: Profile,
    committed: Digest,
    secret: Secret,
    header: Digest,
    offset: u64,
    area: Vec<u8>,
    draft: Draft,
    salt: [u8; 64],
}

impl Prepared {
    /// What will open the volume.
    #[must_use]
    pub fn secret(&self) -> &Secret {
        &self.secret
    }

    /// The header that will open.
    #[must_use]
    pub fn header(&self) -> Digest {
        self.header
    }
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Prepared({} after {})", self.header, self.committed)
    }
}

/// Makes the next header of a volume, with a new secret for the same volume key. Only reads.
///
/// # Errors
/// [`VolumeError::RolledBack`] where the image does not hold the committed header, [`VolumeError::SecretWrong`],
/// [`VolumeError::Random`], [`VolumeError::Io`].
pub fn prepare(
    device: &mut impl BlockDevice,
    profile: Profile,
    committed: &Digest,
    secret: &Secret,
    draw: &mut Draw,
) -> Result<Prepared, VolumeError> {
    let copy = read(device)?;
    let header = copy.check(profile, &[*committed])?;
    let key = header.unlock(secret)?;
    let old = header.metadata();
    let offset = free_area(old, profile)?;
    let id = if old.keyslot.id == 0 { 1 } else { 0 };
    let keyslot = Keyslot { id, offset, salt: draw.array()?, iterations: ITERATIONS };
    let secret = beginning::secret(draw)?;
    let area = keyslot::seal(&keyslot, &key, &secret, draw)?;
    let metadata = Metadata { keyslot, ..old.clone() };
    let place = holding(&copy, profile, committed)?;
    let current = copy.copy(place)?;
    let next = current.sequence().checked_add(1).ok_or(VolumeError::BinaryField { field: "seqid" })?;
    let draft = current.rewritten(next, &metadata.to_json(profile));
    let salt = draw.array()?;
    let header = digest(&draft, &area);
    Ok(Prepared { profile, committed: *committed, secret, header, offset, area, draft, salt })
}

/// Writes what is prepared beside what is committed. When this returns, both open, also after a power failure, and the broker may
/// commit.
///
/// # Errors
/// [`VolumeError::RolledBack`] where the image no longer holds the committed header, [`VolumeError::Io`].
pub fn write(device: &mut impl BlockDevice, prepared: &Prepared) -> Result<(), VolumeError> {
    let Prepared { profile, committed, header, offset, area, draft, salt, .. } = prepared;
    settle(device, *profile, committed)?;
    device.write_at(*offset, area).map_err(error::io("write"))?;
    // The header names the keyslot, so the keyslot comes first.
    device.sync().map_err(error::io("write"))?;
    let copy = draft.at(Place::Secondary, salt);
    device.write_at(Place::Secondary.offset(), copy.as_slice()).map_err(error::io("write"))?;
    device.sync().map_err(error::io("write"))?;
    let written = read(device)?.header(Place::Secondary, *profile)?.digest();
    if written == *header { Ok(()) } else { Err(VolumeError::RolledBack { found: written }) }
}

/// Whether an image holds what an earlier call of [`write`] has written of a rotation. It lasts then, and the broker may commit: the
/// process that wrote it may have ended before it was synced.
///
/// # Errors
/// [`VolumeError::Io`].
pub fn written(
    device: &mut impl BlockDevice,
    profile: Profile,
    prepared: &Digest,
) -> Result<bool, VolumeError> {
    if read(device)?.check(profile, &[*prepared]).is_err() {
        return Ok(false);
    }
    device.sync().map_err(error::io("write"))?;
    Ok(true)
}

/// Leaves an image with the committed header alone, in both places, and with no keyslot but its own. To be done after a commit, to
/// give up what was prepared, and after an interruption; doing it again changes nothing.
///
/// # Errors
/// [`VolumeError::RolledBack`] where neither copy is the committed one, [`VolumeError::Io`].
pub fn settle(
    device: &mut impl BlockDevice,
    profile: Profile,
    committed: &Digest,
) -> Result<(), VolumeError> {
    let copy = read(device)?;
    let place = holding(&copy, profile, committed)?;
    let header = copy.header(place, profile)?;
    let other = if place == Place::Primary { Place::Secondary } else { Place::Primary };
    if !copy.header(other, profile).is_ok_and(|found| found.digest() == *committed) {
        let mirrored = copy.copy(place)?.draft().at(other, &salt_of(committed));
        device.write_at(other.offset(), mirrored.as_slice()).map_err(error::io("write"))?;
        device.sync().map_err(error::io("write"))?;
    }
    let metadata = header.metadata();
    let kept = metadata.keyslot.offset;
    let kept_end = kept.saturating_add(area_size(profile));
    let end = KEYSLOTS.saturating_add(metadata.keyslots_size).min(HEADER_BYTES);
    let mut wiped = false;
    for (from, to) in [(KEYSLOTS, kept), (kept_end, end)] {
        let length = to.saturating_sub(from);
        if copy.part(from, length).iter().any(|byte| *byte != 0) {
            let zeros = vec![0; usize::try_from(length).expect("areas are small")];
            device.write_at(from, &zeros).map_err(error::io("write"))?;
            wiped = true;
        }
    }
    if wiped {
        device.sync().map_err(error::io("write"))?;
    }
    Ok(())
}

/// What a broker must know of an image that was encrypted anew. Size and tree are those of the old image.
#[derive(Debug)]
pub struct Reencrypted {
    /// The new image.
    pub image: Image,
    /// What opens it.
    pub secret: Secret,
    /// The header that opens.
    pub header: Digest,
}

/// Writes a `model` image again under a new volume key, a new secret and a new header, to a file that does not exist yet. The old
/// image stays as it is, and opens until the broker commits the new header.
///
/// `size` is in bytes, those behind the header. Every block of the new image is held against the tree before it has its name: who
/// commits it forgets the secret of the old one.
///
/// # Errors
/// [`VolumeError::Exists`], [`VolumeError::Verity`] for an image with a block that is damaged or was changed, and those of
/// [`prepare`].
pub fn reencrypt(
    from: &mut Image,
    to: &Path,
    committed: &Digest,
    secret: &Secret,
    (size, verity): (u64, &Verity),
    draw: &mut Draw,
) -> Result<Reencrypted, VolumeError> {
    if to.exists() {
        return Err(VolumeError::Exists { path: to.to_owned() });
    }
    let header = read(from)?.check(Profile::Model, &[*committed])?;
    let old_sectors = header.unlock(secret)?.sectors();
    if !size.is_multiple_of(crate::verity::BLOCK) {
        return Err(VolumeError::Released { what: "size", found: size });
    }
    let key = VolumeKey::draw(Profile::Model, draw)?;
    let sectors = key.sectors();
    let image = tempfile::NamedTempFile::new_in(pack::folder(to)).map_err(error::io("make"))?;
    image.as_file().set_len(HEADER_BYTES.saturating_add(size)).map_err(error::io("write"))?;
    pack::copied(from.file(), header.data_offset(), image.as_file(), size, |first, part| {
        old_sectors.decrypt(first, 4096, part);
        sectors.encrypt(first, 4096, part);
    })?;
    let secret = beginning::secret(draw)?;
    let hint: Option<&Hint> = header.hint();
    let made = beginning::beginning(&key, &secret, hint, draw)?;
    image.as_file().write_all_at(&made.bytes, 0).map_err(error::io("write"))?;
    image.as_file().sync_all().map_err(error::io("write"))?;
    pack::check(image.path(), &made.digest, &secret, verity)?;
    let image = pack::persist(image, to)?;
    Ok(Reencrypted { image, secret, header: made.digest })
}

/// Reads the beginning of an image.
///
/// # Errors
/// [`VolumeError::Io`] where it cannot be read, or is shorter than [`HEADER_BYTES`].
pub fn read(device: &mut impl BlockDevice) -> Result<HeaderCopy, VolumeError> {
    let mut bytes = vec![0; usize::try_from(HEADER_BYTES).expect("1 MiB fits")];
    device.read_at(0, &mut bytes).map_err(error::io("read"))?;
    Ok(HeaderCopy::from_bytes(bytes.try_into().expect("the vector has this length")))
}

/// Where the copy with a digest is: the primary one, else the secondary one.
fn holding(copy: &HeaderCopy, profile: Profile, digest: &Digest) -> Result<Place, VolumeError> {
    let header = copy.check(profile, &[*digest])?;
    let holds = |place: &Place| copy.header(*place, profile).is_ok_and(|found| found == header);
    let place = Place::BOTH.into_iter().find(holds);
    place.ok_or(VolumeError::RolledBack { found: header.digest() })
}

/// Where the next keyslot goes: not over the one that is used.
fn free_area(old: &Metadata, profile: Profile) -> Result<u64, VolumeError> {
    let size = area_size(profile);
    let used = old.keyslot.offset;
    let end = KEYSLOTS.saturating_add(old.keyslots_size).min(HEADER_BYTES);
    let apart = |offset: &u64| {
        let this_end = offset.saturating_add(size);
        this_end <= end && (this_end <= used || used.saturating_add(size) <= *offset)
    };
    let places = [KEYSLOTS, used.saturating_add(size)];
    places.into_iter().find(apart).ok_or(VolumeError::AreaBounds { offset: used, end })
}

/// The digest of a header that is not written yet, wherever it will be.
fn digest(draft: &Draft, area: &[u8]) -> Digest {
    let bytes = draft.at(Place::Primary, &[0; 64]);
    let mut hasher = Sha256::new();
    draft_hash(&bytes, &mut hasher);
    hasher.update(area);
    Digest::from(<[u8; 32]>::from(hasher.finalize()))
}

fn draft_hash(bytes: &[u8; crate::binary::COPY], hasher: &mut Sha256) {
    crate::binary::Copy::parse(bytes, Place::Primary).expect("our own header is one").hash_into(hasher);
}

/// The salt of a copy, which nothing depends on; LUKS2 has it so that equal headers differ in their checksums.
fn salt_of(committed: &Digest) -> [u8; 64] {
    let mut salt = [0; 64];
    for (to, from) in salt.iter_mut().zip(committed.as_bytes().iter().cycle()) {
        *to = *from;
    }
    salt
}

#[cfg(test)]
mod power_failures;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_of_both_profiles_are_rotated_there_and_back_and_keep_their_key_and_hint() {
        for profile in [Profile::Model, Profile::State] {
            let draw = &mut Draw::danger_seeded([1; 32]);
            let key = VolumeKey::draw(profile, draw).unwrap();
            let mut secret = beginning::secret(draw).unwrap();
            let hint = Hint::new("broker.example:8443", "weights".parse().unwrap()).unwrap();
            let made = beginning::beginning(&key, &secret, Some(&hint), draw).unwrap();
            let file = tempfile::NamedTempFile::new().unwrap();
            file.as_file().write_all_at(&made.bytes, 0).unwrap();
            let mut file = Image::lock(file.reopen().unwrap(), file.path()).unwrap();
            let (mut committed, mut places) = (made.digest, Vec::new());
            for _ in 0..3 {
                let prepared = prepare(&mut file, profile, &committed, &secret, draw).unwrap();
                write(&mut file, &prepared).unwrap();
                let copy = read(&mut file).unwrap();
                copy.check(profile, &[committed]).unwrap().unlock(&secret).unwrap();
                settle(&mut file, profile, &prepared.header()).unwrap();
                (committed, secret) = (prepared.header(), prepared.secret);
                let header = read(&mut file).unwrap().check(profile, &[committed]).unwrap();
                assert_eq!(header.unlock(&secret).unwrap().expose(), key.expose(), "{profile}");
                assert_eq!(header.hint(), Some(&hint));
                places.push(header.metadata().keyslot.offset);
            }
            let second = KEYSLOTS + area_size(profile);
            assert_eq!(places, [second, KEYSLOTS, second], "{profile}");
        }
    }
}
