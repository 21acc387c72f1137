//! Opening: keys into the kernel, tables of our own, a block device out.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use confide_evidence::bytes::Digest;
use confide_release::{Profile, Secret, Verity, VolumeId};

use crate::dm::{Disk, Journal, LogonKey, Mapping, Mode, Table};
use crate::draw::Draw;
use crate::error::{VolumeError, io};
use crate::header::{HEADER_BYTES, Header, HeaderCopy};
use crate::json::{Hint, SECTOR};
use crate::keyslot::VolumeKey;
use crate::{verity, write};

/// Bytes that are read or written at once.
const CHUNK: usize = 1024 * 1024;
/// What is zeroed where dm-integrity keeps its superblock, so that the kernel makes a new one.
const SUPERBLOCK: usize = 64 * 1024;
/// Where a superblock of dm-integrity says how many sectors it provides (Linux, `drivers/md/dm-integrity.c`).
const PROVIDED: std::ops::Range<usize> = 16..24;

/// A volume that the kernel decrypts and checks. It stays open when this value ends: see [`OpenVolume::close`].
#[derive(Debug)]
#[must_use = "the volume stays open"]
pub struct OpenVolume {
    layers: Vec<Mapping>,
    path: PathBuf,
    size: u64,
}

impl std::fmt::Debug for Mapping {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.path().display())
    }
}

impl OpenVolume {
    /// The decrypted block device.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Closes it. No file system of it may be mounted.
    ///
    /// # Errors
    /// [`VolumeError::Mapping`] where it is in use.
    pub fn close(self) -> Result<(), VolumeError> {
        self.layers.into_iter().rev().try_for_each(Mapping::remove)
    }

    /// All layers, from the disk up: none is removed from here on.
    fn of(layers: Vec<Mapping>, size: u64) -> Self {
        let path = layers.last().map(Mapping::path).unwrap_or_default();
        Self { layers: layers.into_iter().map(Mapping::keep).collect(), path, size }
    }
}

/// Opens a `model` for reading: AES-XTS, and on it the hash tree whose root the broker released. `size` is in bytes, of data,
/// superblock and tree.
///
/// That a block is not the one that was written is found when it is read: read all of it ([`verify_tree`]) before anything
/// depends on it.
///
/// # Errors
/// [`VolumeError::Integrity`] for a header or key of the other profile, [`VolumeError::Released`] for a size that does not hold
/// the tree, [`VolumeError::TooSmall`] for a disk that does not hold the size, and what the kernel refuses.
pub fn open_model(
    device: &Path,
    header: &Header,
    key: &VolumeKey,
    tree: &Verity,
    size: u64,
    name: &VolumeId,
) -> Result<OpenVolume, VolumeError> {
    of_profile(header, key, Profile::Model)?;
    let needed = verity::size(tree.data_blocks)?;
    if !size.is_multiple_of(SECTOR) || needed > size {
        return Err(VolumeError::Released { what: "size", found: size });
    }
    let mut file = File::open(device).map_err(io("open"))?;
    let disk = sized(&mut file, device, header.data_offset(), size)?;
    let kernel_key = logon(name, key)?;
    let table = Table::crypt(kernel_key.description(), disk, header.data_offset(), size);
    let crypt = Mapping::create(format!("confide-{name}+crypt"), &table, Mode::ReadOnly)?;
    let table = Table::verity(crypt.disk(), tree);
    let verity = Mapping::create(format!("confide-{name}"), &table, Mode::ReadOnly)?;
    Ok(OpenVolume::of(vec![crypt, verity], tree.data_blocks.saturating_mul(verity::BLOCK)))
}

/// Opens a `state` for reading and writing: dm-integrity with its journal, and on it AES-XTS with HMAC-SHA-256. `size` is in
/// bytes, those that it was formatted with or fewer.
///
/// # Errors
/// As [`open_model`].
pub fn open_state(
    device: &Path,
    header: &Header,
    key: &VolumeKey,
    size: u64,
    name: &VolumeId,
) -> Result<OpenVolume, VolumeError> {
    of_profile(header, key, Profile::State)?;
    authenticated(device, key, Journal::Kept, header.data_offset(), size, name)
}

/// Makes a disk a `state` of `size` bytes under `secret`, and leaves it open: all zeros, without a file system. What was on the
/// disk is lost. The digest is that of the header, which the broker is to be told. Takes time in proportion to the size, because
/// every sector is written once, so that each has its tag.
///
/// Tags take 32 bytes of 4096 and the journal at most 64 MiB; the size must leave room for them and for 1 MiB of header. Where the
/// guest ends before this returns, the disk has no header, and is formatted anew at the next boot.
///
/// # Errors
/// [`VolumeError::Released`] for a size that is 0 or no multiple of 4096, [`VolumeError::TooSmall`], what the kernel refuses.
pub fn format_state(
    device: &Path,
    secret: &Secret,
    hint: Option<&Hint>,
    size: u64,
    name: &VolumeId,
) -> Result<(OpenVolume, Digest), VolumeError> {
    let draw = &mut Draw::system();
    let key = VolumeKey::draw(Profile::State, draw)?;
    let mut file = OpenOptions::new().read(true).write(true).open(device).map_err(io("open"))?;
    sized(&mut file, device, HEADER_BYTES, size)?;
    erase(&file, 0)?;
    erase(&file, HEADER_BYTES)?;
    file.sync_all().map_err(io("write"))?;
    let volume = authenticated(device, &key, Journal::Kept, HEADER_BYTES, size, name)?;
    let formatted = zeroed(&volume).and_then(|()| headed(&mut file, &key, secret, hint, draw));
    match formatted {
        Ok(digest) => Ok((volume, digest)),
        Err(error) => {
            // The failure that led here is the one that is told.
            let _ = volume.close();
            Err(error)
        }
    }
}

/// Opens a disk under a random key that exists in memory alone, with tags and without a journal: all zeros, without a file system.
/// What was on the disk is lost, and what will be is lost with the guest. Takes time in proportion to the size.
///
/// # Errors
/// [`VolumeError::NoDisk`], [`VolumeError::TooSmall`], what the kernel refuses.
pub fn open_scratch(device: &Path, name: &VolumeId) -> Result<OpenVolume, VolumeError> {
    let key = VolumeKey::draw(Profile::State, &mut Draw::system())?;
    let mut file = OpenOptions::new().read(true).write(true).open(device).map_err(io("open"))?;
    let disk = sized(&mut file, device, 0, SECTOR)?;
    erase(&file, 0)?;
    file.sync_all().map_err(io("write"))?;
    // Closed, so that the zeros are not read from a cache below.
    drop(file);
    // The kernel writes a superblock, which says how many sectors there are beside their tags. It decides the size alone, which
    // the kernel checks when it is used.
    let probe = Table::integrity(Journal::None, disk, 0, SECTOR);
    Mapping::create(format!("confide-{name}+integrity"), &probe, Mode::Writable)?.remove()?;
    let size = provided(device)?;
    let volume = authenticated(device, &key, Journal::None, 0, size, name)?;
    match zeroed(&volume) {
        Ok(()) => Ok(volume),
        Err(error) => {
            // The failure that led here is the one that is told.
            let _ = volume.close();
            Err(error)
        }
    }
}

/// Reads all of an open volume, so that a block that was changed is found before anything depends on it. `progress` is told the
/// bytes that were read so far, after each MiB.
///
/// # Errors
/// [`VolumeError::Corrupted`] with the offset of the first block that cannot be read.
pub fn verify_tree(device: &Path, mut progress: impl FnMut(u64)) -> Result<(), VolumeError> {
    let mut file = File::open(device).map_err(io("open"))?;
    let mut buffer = vec![0; CHUNK];
    let mut offset = 0_u64;
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => offset = offset.saturating_add(u64::try_from(read).unwrap_or(0)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(source) => return Err(VolumeError::Corrupted { offset: exact(&file, offset), source }),
        }
        progress(offset);
    }
}

/// The first block from an offset on that cannot be read: a failed read says no more than where it began.
fn exact(file: &File, from: u64) -> u64 {
    let mut block = vec![0; verity::BLOCK_LENGTH];
    let blocks = (0..256_u64).map(|at| from.saturating_add(at.saturating_mul(verity::BLOCK)));
    let mut unread = blocks.filter(|offset| file.read_at(&mut block, *offset).is_err());
    unread.next().unwrap_or(from)
}

/// dm-integrity, and on it AES-XTS with HMAC-SHA-256.
fn authenticated(
    device: &Path,
    key: &VolumeKey,
    journal: Journal,
    offset: u64,
    size: u64,
    name: &VolumeId,
) -> Result<OpenVolume, VolumeError> {
    if size == 0 || !size.is_multiple_of(SECTOR) {
        return Err(VolumeError::Released { what: "size", found: size });
    }
    let mut file = File::open(device).map_err(io("open"))?;
    let disk = sized(&mut file, device, offset, size)?;
    let table = Table::integrity(journal, disk, offset, size);
    let integrity = Mapping::create(format!("confide-{name}+integrity"), &table, Mode::Writable)?;
    let kernel_key = logon(name, key)?;
    let table = Table::authenticated_crypt(kernel_key.description(), integrity.disk(), size);
    let crypt = Mapping::create(format!("confide-{name}"), &table, Mode::Writable)?;
    Ok(OpenVolume::of(vec![integrity, crypt], size))
}

/// Puts the key where the kernel finds it for the next table. The name is the volume's own, so that no other key is found.
fn logon(name: &VolumeId, key: &VolumeKey) -> Result<LogonKey, VolumeError> {
    LogonKey::add(format!("confide:{name}"), key.expose()).map_err(|source| VolumeError::Keyring { source })
}

fn of_profile(header: &Header, key: &VolumeKey, profile: Profile) -> Result<(), VolumeError> {
    if header.profile() == profile && key.profile() == profile {
        return Ok(());
    }
    Err(VolumeError::Integrity { found: Some(header.profile().to_string()), profile })
}

/// The disk of a file, which holds `size` bytes behind `offset`.
fn sized(file: &mut File, device: &Path, offset: u64, size: u64) -> Result<Disk, VolumeError> {
    let (disk, whole) = Disk::of(file, device)?;
    let found = whole.saturating_sub(offset);
    if found < size { Err(VolumeError::TooSmall { found, needed: size }) } else { Ok(disk) }
}

/// Zeros where a header or a superblock begins.
fn erase(file: &File, offset: u64) -> Result<(), VolumeError> {
    file.write_all_at(&vec![0; SUPERBLOCK], offset).map_err(io("write"))
}

/// Writes zeros to all of an open volume.
fn zeroed(volume: &OpenVolume) -> Result<(), VolumeError> {
    let mut file = OpenOptions::new().write(true).open(volume.path()).map_err(io("open"))?;
    let zeros = vec![0; CHUNK];
    let mut left = usize::try_from(volume.size()).unwrap_or(usize::MAX);
    while left > 0 {
        let part = zeros.get(..left.min(CHUNK)).unwrap_or(&zeros);
        file.write_all(part).map_err(io("write"))?;
        left = left.saturating_sub(part.len());
    }
    file.sync_all().map_err(io("write"))
}

/// Writes the header of a new `state`, and reads it again as the next boot will.
fn headed(
    file: &mut File,
    key: &VolumeKey,
    secret: &Secret,
    hint: Option<&Hint>,
    draw: &mut Draw,
) -> Result<Digest, VolumeError> {
    let made = write::beginning(key, secret, hint, draw)?;
    file.write_all_at(&made.bytes, 0).map_err(io("write"))?;
    file.sync_all().map_err(io("write"))?;
    HeaderCopy::read(file)?.check(Profile::State, &[made.digest])?;
    Ok(made.digest)
}

/// Bytes that a superblock of dm-integrity at the beginning of a disk provides.
fn provided(device: &Path) -> Result<u64, VolumeError> {
    let mut file = File::open(device).map_err(io("open"))?;
    let mut superblock = [0; 32];
    file.seek(SeekFrom::Start(0)).map_err(io("read"))?;
    file.read_exact(&mut superblock).map_err(io("read"))?;
    let field = superblock.get(PROVIDED).and_then(|field| field.first_chunk());
    let sectors = u64::from_le_bytes(*field.expect("the field lies in what was read"));
    let size = sectors.saturating_mul(crate::dm::SECTOR);
    let size = size.saturating_sub(size.checked_rem(SECTOR).unwrap_or(0));
    if !superblock.starts_with(b"integrt\0") || size == 0 {
        return Err(VolumeError::TooSmall { found: size, needed: SECTOR });
    }
    Ok(size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use confide_evidence::bytes::Bytes;

    fn name() -> VolumeId {
        "weights".parse().unwrap()
    }

    fn header(profile: Profile) -> (Header, VolumeKey) {
        let draw = &mut Draw::danger_seeded([1; 32]);
        let key = VolumeKey::draw(profile, draw).unwrap();
        let secret = write::secret(draw).unwrap();
        let made = write::beginning(&key, &secret, None, draw).unwrap();
        let copy = HeaderCopy::read(&mut io::Cursor::new(made.bytes)).unwrap();
        (copy.check(profile, &[made.digest]).unwrap(), key)
    }

    const TREE: Verity = Verity { root: Bytes([0; 32]), salt: Bytes([0; 32]), data_blocks: 300 };

    #[test]
    fn a_file_that_is_no_disk_is_refused_by_every_kind_of_volume() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(16 << 20).unwrap();
        let path = file.path();
        let (model, model_key) = header(Profile::Model);
        let (state, state_key) = header(Profile::State);
        let secret = write::secret(&mut Draw::system()).unwrap();
        let refused = [
            open_model(path, &model, &model_key, &TREE, 4 << 20, &name()).map(drop),
            open_state(path, &state, &state_key, 4 << 20, &name()).map(drop),
            format_state(path, &secret, None, 4 << 20, &name()).map(drop),
            open_scratch(path, &name()).map(drop),
        ];
        for error in refused {
            assert!(matches!(error, Err(VolumeError::NoDisk { .. })), "{error:?}");
        }
    }

    #[test]
    fn a_header_of_the_other_profile_opens_nothing() {
        let path = Path::new("/dev/null");
        let (model, model_key) = header(Profile::Model);
        let (state, state_key) = header(Profile::State);
        let refused = [
            open_model(path, &state, &model_key, &TREE, 4 << 20, &name()).map(drop),
            open_model(path, &model, &state_key, &TREE, 4 << 20, &name()).map(drop),
            open_state(path, &model, &state_key, 4 << 20, &name()).map(drop),
        ];
        for error in refused {
            assert!(matches!(error, Err(VolumeError::Integrity { .. })), "{error:?}");
        }
    }

    #[test]
    fn a_size_that_does_not_hold_the_tree_or_is_no_multiple_of_a_block_is_refused() {
        let path = Path::new("/dev/null");
        let (model, key) = header(Profile::Model);
        let whole = verity::size(300).unwrap();
        for size in [0, whole - 4096, whole + 1] {
            let error = open_model(path, &model, &key, &TREE, size, &name()).map(drop);
            assert!(matches!(error, Err(VolumeError::Released { what: "size", .. })), "{size}: {error:?}");
        }
        let (state, key) = header(Profile::State);
        for size in [0, 5000] {
            let error = open_state(path, &state, &key, size, &name()).map(drop);
            assert!(matches!(error, Err(VolumeError::Released { what: "size", .. })), "{size}: {error:?}");
        }
    }

    #[test]
    fn all_of_a_volume_is_read_and_told() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(3 << 20).unwrap();
        let mut told = Vec::new();
        verify_tree(file.path(), |bytes| told.push(bytes)).unwrap();
        assert_eq!(told, [1 << 20, 2 << 20, 3 << 20]);
    }
}
