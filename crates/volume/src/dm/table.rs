//! Tables of one target each.

use std::fs::{File, Metadata};
use std::io::{Seek as _, SeekFrom};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use confide_release::Verity;

use crate::error::{VolumeError, io};

/// Bytes of a sector of device-mapper's tables.
pub(crate) const SECTOR: u64 = 512;
/// Bytes of the tag of a sector: HMAC-SHA-256.
const TAG: u32 = 32;

/// A block device by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Disk {
    major: u32,
    minor: u32,
}

impl Disk {
    pub(crate) const fn new(major: u32, minor: u32) -> Self {
        Self { major, minor }
    }

    /// An open disk, and its size in bytes.
    pub(crate) fn of(file: &mut File, path: &Path) -> Result<(Self, u64), VolumeError> {
        let metadata = file.metadata().map_err(io("read"))?;
        if !metadata.file_type().is_block_device() {
            return Err(VolumeError::NoDisk { path: path.to_owned() });
        }
        let size = file.seek(SeekFrom::End(0)).map_err(io("read"))?;
        Ok((Self::numbered(&metadata), size))
    }

    fn numbered(metadata: &Metadata) -> Self {
        let number = metadata.rdev();
        Self::new(libc::major(number), libc::minor(number))
    }
}

impl std::fmt::Display for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

/// How dm-integrity keeps sectors and their tags together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Journal {
    /// Both go through a journal: every sector is written twice, and none is lost.
    Kept,
    /// Written in place: a sector whose tag was not written yet cannot be read after a crash.
    None,
}

/// A table of one target over all of a mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Table {
    target: &'static str,
    sectors: u64,
    parameters: String,
}

impl Table {
    /// AES-XTS (Linux, dm-crypt.rst). `key` names a logon key of 64 bytes; `offset` and `size` are in bytes.
    pub(crate) fn crypt(key: &str, disk: Disk, offset: u64, size: u64) -> Self {
        let start = in_sectors(offset);
        let parameters = format!("aes-xts-plain64 :64:logon:{key} 0 {disk} {start} 1 sector_size:4096");
        Self { target: "crypt", sectors: in_sectors(size), parameters }
    }

    /// AES-XTS with HMAC-SHA-256 over dm-integrity (Linux, dm-crypt.rst). `key` names a logon key of 96 bytes: the cipher's, then
    /// that of the tags.
    pub(crate) fn authenticated_crypt(key: &str, disk: Disk, size: u64) -> Self {
        let parameters = format!(
            "capi:authenc(hmac(sha256),xts(aes))-plain64 :96:logon:{key} 0 {disk} 0 2 integrity:{TAG}:aead sector_size:4096"
        );
        Self { target: "crypt", sectors: in_sectors(size), parameters }
    }

    /// Sectors with tags, which dm-crypt makes (Linux, dm-integrity.rst).
    pub(crate) fn integrity(journal: Journal, disk: Disk, offset: u64, size: u64) -> Self {
        let (start, mode) = (in_sectors(offset), journal.mode());
        let parameters = format!("{disk} {start} {TAG} {mode} 2 block_size:4096 fix_padding");
        Self { target: "integrity", sectors: in_sectors(size), parameters }
    }

    /// A hash tree, which begins one block behind the data (Linux, verity.rst). A block without its hash is `EIO`.
    pub(crate) fn verity(disk: Disk, verity: &Verity) -> Self {
        let Verity { root, salt, data_blocks } = verity;
        let tree = data_blocks.saturating_add(1);
        let parameters = format!("1 {disk} {disk} 4096 4096 {data_blocks} {tree} sha256 {root} {salt}");
        let sectors = in_sectors(data_blocks.saturating_mul(crate::verity::BLOCK));
        Self { target: "verity", sectors, parameters }
    }

    pub(crate) fn target(&self) -> &'static str {
        self.target
    }

    pub(super) fn sectors(&self) -> u64 {
        self.sectors
    }

    pub(super) fn parameters(&self) -> &str {
        &self.parameters
    }
}

impl Journal {
    const fn mode(self) -> char {
        match self {
            Self::Kept => 'J',
            Self::None => 'D',
        }
    }
}

fn in_sectors(bytes: u64) -> u64 {
    bytes.div_euclid(SECTOR)
}

#[cfg(test)]
mod tests {
    use super::*;
    use confide_evidence::bytes::Bytes;

    const VERITY: Verity = Verity { root: Bytes([0xab; 32]), salt: Bytes([1; 32]), data_blocks: 300 };
    const DISK: Disk = Disk::new(254, 16);

    #[test]
    fn a_model_is_decrypted_in_sectors_of_4096_bytes_behind_its_header() {
        let table = Table::crypt("confide:model", DISK, 1 << 20, 8 << 20);
        assert_eq!((table.target, table.sectors), ("crypt", 16384));
        let expected = "aes-xts-plain64 :64:logon:confide:model 0 254:16 2048 1 sector_size:4096";
        assert_eq!(table.parameters, expected);
    }

    #[test]
    fn a_state_is_decrypted_with_tags_of_32_bytes() {
        let table = Table::authenticated_crypt("confide:s", DISK, 4096);
        let expected = "capi:authenc(hmac(sha256),xts(aes))-plain64 :96:logon:confide:s 0 254:16 0 2 \
                        integrity:32:aead sector_size:4096";
        assert_eq!((table.sectors, table.parameters.as_str()), (8, expected));
    }

    #[test]
    fn a_state_has_a_journal_and_scratch_has_none() {
        let parameters = |journal| Table::integrity(journal, DISK, 1 << 20, 1 << 20).parameters;
        assert_eq!(parameters(Journal::Kept), "254:16 2048 32 J 2 block_size:4096 fix_padding");
        assert_eq!(parameters(Journal::None), "254:16 2048 32 D 2 block_size:4096 fix_padding");
    }

    #[test]
    fn a_tree_begins_one_block_behind_the_data() {
        let table = Table::verity(DISK, &VERITY);
        let (root, salt) = ("ab".repeat(32), "01".repeat(32));
        let expected = format!("1 254:16 254:16 4096 4096 300 301 sha256 {root} {salt}");
        assert_eq!((table.target, table.sectors, table.parameters), ("verity", 2400, expected));
    }

    #[test]
    fn a_file_is_no_disk() {
        let mut file = tempfile::tempfile().unwrap();
        let error = Disk::of(&mut file, Path::new("/x")).unwrap_err();
        assert!(matches!(error, VolumeError::NoDisk { .. }));
    }
}
