//! dm-verity's hash trees (Linux, Documentation/admin-guide/device-mapper/verity.rst): format 1, SHA-256, blocks of 4096 bytes.
//!
//! A volume holds its data, one block with a superblock that nobody here reads, and the tree. Root, salt and the number of blocks
//! come from the broker's signed answer.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt as _;

use confide_evidence::bytes::Bytes;
use confide_release::Verity;
use sha2::{Digest as _, Sha256};

use crate::error::{VolumeError, io};

/// Bytes of a block, of data and of the tree.
pub const BLOCK: u64 = 4096;
pub(crate) const BLOCK_LENGTH: usize = 4096;
/// Bytes of a hash.
const HASH: usize = 32;
/// Hashes in a block.
const HASHES: u64 = 128;
/// Bytes of the blocks under one block of the tree.
const CHILDREN: usize = 128 * BLOCK_LENGTH;
/// The fewest blocks of data that are looked at: a tree of fewer has no level.
const LEAST: u64 = 2;
/// The most: volumes of 64 TiB.
const MOST: u64 = 1 << 34;

/// Blocks of the tree that hash the blocks of the level below it, or the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Level {
    /// Its first block, counted from the beginning of the data.
    first: u64,
    blocks: u64,
}

/// The level of the data, then those of the tree, up to the one of a single block.
fn levels(data_blocks: u64) -> Result<Vec<Level>, VolumeError> {
    if !(LEAST..=MOST).contains(&data_blocks) {
        return Err(VolumeError::Released { what: "number of blocks", found: data_blocks });
    }
    let mut levels = vec![Level { first: 0, blocks: data_blocks }];
    let mut blocks = data_blocks;
    while blocks > 1 {
        blocks = blocks.div_ceil(HASHES);
        levels.push(Level { first: 0, blocks });
    }
    // The level of the single block comes first, the one that hashes the data last.
    let mut next = data_blocks.saturating_add(1);
    for level in levels.iter_mut().skip(1).rev() {
        level.first = next;
        next = next.saturating_add(level.blocks);
    }
    Ok(levels)
}

/// Bytes of data, superblock and tree.
///
/// # Errors
/// [`VolumeError::Released`] for fewer than 2 or more than 2³⁴ blocks.
pub fn size(data_blocks: u64) -> Result<u64, VolumeError> {
    let tree: u64 = levels(data_blocks)?.iter().map(|level| level.blocks).fold(1, u64::saturating_add);
    Ok(tree.saturating_mul(BLOCK))
}

/// Reads a whole volume and holds every block, of data and of the tree, against the root.
///
/// For images on their owner's machine: what is read again later may be another thing. A guest reads through dm-verity, see
/// [`crate::verify_tree`].
///
/// # Errors
/// [`VolumeError::Verity`] with the first block that does not have its hash; [`VolumeError::Released`] for a number of blocks that
/// no tree has; [`VolumeError::Io`].
pub fn check(volume: &mut (impl Read + Seek), verity: &Verity) -> Result<(), VolumeError> {
    check_blocks(verity, |block, buffer| {
        volume.seek(SeekFrom::Start(block.saturating_mul(BLOCK)))?;
        volume.read_exact(buffer)
    })
}

/// [`check`], of blocks by their number.
pub(crate) fn check_blocks(
    verity: &Verity,
    mut read: impl FnMut(u64, &mut [u8]) -> io::Result<()>,
) -> Result<(), VolumeError> {
    let levels = levels(verity.data_blocks)?;
    let mut parents = vec![0; BLOCK_LENGTH];
    let mut children = vec![0; CHILDREN];
    let top = levels.last().expect("there are two levels at least");
    read(top.first, &mut parents).map_err(io("read"))?;
    if hash(&verity.salt, &parents) != verity.root.0 {
        return Err(VolumeError::Verity { block: top.first });
    }
    for pair in levels.windows(2).rev() {
        let [below, level] = pair else { continue };
        for at in 0..level.blocks {
            read(level.first.saturating_add(at), &mut parents).map_err(io("read"))?;
            let (first, blocks) = below.under(at);
            let length = usize::try_from(blocks.saturating_mul(BLOCK)).unwrap_or(CHILDREN);
            let children = children.get_mut(..length).expect("128 blocks are under one at most");
            read(first, children).map_err(io("read"))?;
            let hashed = children.chunks_exact(BLOCK_LENGTH).zip(parents.chunks_exact(HASH));
            for (block, (child, expected)) in (first..).zip(hashed) {
                if hash(&verity.salt, child) != *expected {
                    return Err(VolumeError::Verity { block });
                }
            }
        }
    }
    Ok(())
}

impl Level {
    /// The blocks of this level that one block of the next level hashes: the first one, and how many.
    fn under(&self, parent: u64) -> (u64, u64) {
        let skipped = parent.saturating_mul(HASHES);
        (self.first.saturating_add(skipped), self.blocks.saturating_sub(skipped).min(HASHES))
    }
}

/// Writes superblock and tree behind data that begin at `base` of a file.
pub(crate) fn build(
    file: &File,
    base: u64,
    data_blocks: u64,
    salt: Bytes<32>,
    uuid: &[u8; 16],
) -> Result<Verity, VolumeError> {
    let at = |block: u64| base.saturating_add(block.saturating_mul(BLOCK));
    let levels = levels(data_blocks)?;
    file.write_all_at(&superblock(data_blocks, &salt, uuid), at(data_blocks)).map_err(io("write"))?;
    let mut children = vec![0; CHILDREN];
    let mut root = Bytes([0; 32]);
    for pair in levels.windows(2) {
        let [below, level] = pair else { continue };
        for parent in 0..level.blocks {
            let (first, blocks) = below.under(parent);
            let length = usize::try_from(blocks.saturating_mul(BLOCK)).unwrap_or(CHILDREN);
            let children = children.get_mut(..length).expect("128 blocks are under one at most");
            file.read_exact_at(children, at(first)).map_err(io("read"))?;
            let mut block: Vec<u8> =
                children.chunks_exact(BLOCK_LENGTH).flat_map(|child| hash(&salt, child)).collect();
            block.resize(BLOCK_LENGTH, 0);
            file.write_all_at(&block, at(level.first.saturating_add(parent))).map_err(io("write"))?;
            root = Bytes(hash(&salt, &block));
        }
    }
    Ok(Verity { root, salt, data_blocks })
}

/// The superblock of `veritysetup`, for people who look at a volume with it.
fn superblock(data_blocks: u64, salt: &Bytes<32>, uuid: &[u8; 16]) -> Vec<u8> {
    let mut block = b"verity\0\0".to_vec();
    block.extend(1_u32.to_le_bytes()); // version
    block.extend(1_u32.to_le_bytes()); // hash type
    block.extend(uuid);
    block.extend(b"sha256");
    block.resize(64, 0);
    block.extend(4096_u32.to_le_bytes()); // data block
    block.extend(4096_u32.to_le_bytes()); // hash block
    block.extend(data_blocks.to_le_bytes());
    block.extend(32_u16.to_le_bytes()); // salt
    block.resize(88, 0);
    block.extend(salt.as_bytes());
    block.resize(BLOCK_LENGTH, 0);
    block
}

fn hash(salt: &Bytes<32>, block: &[u8]) -> [u8; HASH] {
    Sha256::new().chain_update(salt).chain_update(block).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    /// A volume of blocks that all differ.
    fn volume(data_blocks: u64) -> (Vec<u8>, Verity) {
        let file = tempfile::tempfile().unwrap();
        for block in 0..data_blocks {
            let bytes: Vec<u8> = block.to_le_bytes().into_iter().cycle().take(BLOCK_LENGTH).collect();
            file.write_all_at(&bytes, block * BLOCK).unwrap();
        }
        let verity = build(&file, 0, data_blocks, Bytes([9; 32]), &[1; 16]).unwrap();
        let mut bytes = Vec::new();
        (&file).rewind().unwrap();
        (&file).read_to_end(&mut bytes).unwrap();
        (bytes, verity)
    }

    #[test]
    fn trees_of_one_to_three_levels_hold() {
        for blocks in [2, 127, 128, 129, 300, 16_384, 16_385] {
            let (bytes, verity) = volume(blocks);
            assert_eq!(bytes.len() as u64, size(blocks).unwrap(), "{blocks}");
            check(&mut Cursor::new(bytes), &verity).unwrap();
        }
    }

    #[test]
    fn a_changed_bit_anywhere_but_in_the_superblock_names_its_block() {
        let (bytes, verity) = volume(300);
        for block in [0, 150, 299, 301, 302, 303] {
            let mut bytes = bytes.clone();
            bytes[block * BLOCK_LENGTH + 5] ^= 1;
            let error = check(&mut Cursor::new(bytes), &verity).unwrap_err();
            assert!(
                matches!(error, VolumeError::Verity { block: found } if found == block as u64),
                "{error}"
            );
        }
        let mut unread = bytes;
        unread[300 * BLOCK_LENGTH] ^= 1;
        check(&mut Cursor::new(unread), &verity).unwrap();
    }

    #[test]
    fn another_root_salt_or_number_of_blocks_is_refused() {
        let (bytes, verity) = volume(300);
        for wrong in [
            Verity { root: Bytes([0; 32]), ..verity },
            Verity { salt: Bytes([0; 32]), ..verity },
            Verity { data_blocks: 299, ..verity },
            Verity { data_blocks: 0, ..verity },
            Verity { data_blocks: u64::MAX, ..verity },
        ] {
            assert!(check(&mut Cursor::new(&bytes), &wrong).is_err(), "{wrong:?}");
        }
        assert!(check(&mut Cursor::new(&bytes[..bytes.len() - 1]), &verity).is_err(), "cut");
    }
}
