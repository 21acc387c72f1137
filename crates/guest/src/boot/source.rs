//! Where the configuration of a boot comes from: the image, where it is measured, or a disk of the host's.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::error::BootError;
use crate::config::Config;
use crate::error::GuestError;

/// In the image.
const FILE: &str = "/etc/confide/guest.toml";
/// The serial of the host's disk, as `/sys/block/*/serial` has it.
const SERIAL: &str = "config";
/// Where the kernel lists disks.
const DISKS: &str = "/sys/block";
/// How long a disk or another device may take to come.
pub(crate) const DEVICE_TIME: Duration = Duration::from_secs(30);
/// Between two looks at whether it is there.
pub(crate) const LOOK: Duration = Duration::from_millis(20);
/// The largest disk or file, in bytes. Our own configurations have under 4 KiB.
pub(crate) const MAX_CONFIGURATION: usize = 64 * 1024;

/// Reads the configuration that `named` names, or else that of the image, or else that of the host's disk.
///
/// # Errors
/// When there is none; when it is too large, or no configuration.
pub(crate) fn read(named: Option<&Path>) -> Result<Config, GuestError> {
    let path = match named {
        Some(path) => path.to_owned(),
        None if Path::new(FILE).exists() => FILE.into(),
        None => disk(Path::new(DISKS), DEVICE_TIME)?,
    };
    let bytes = content(&path)?;
    Config::parse(&bytes, &path)
}

/// The host's disk. Its serial is the host's word, as is all that is on it.
fn disk(disks: &Path, patience: Duration) -> Result<PathBuf, BootError> {
    let begun = Instant::now();
    loop {
        let found = fs::read_dir(disks).into_iter().flatten().flatten().find(|disk| {
            fs::read_to_string(disk.path().join("serial")).is_ok_and(|serial| serial.trim_end() == SERIAL)
        });
        if let Some(disk) = found {
            return Ok(Path::new("/dev").join(disk.file_name()));
        }
        if begun.elapsed() > patience {
            let seconds = patience.as_secs();
            return Err(BootError::NoConfiguration { file: FILE.into(), serial: SERIAL, seconds });
        }
        std::thread::sleep(LOOK);
    }
}

/// The text on a disk or in a file: what stands before the first zero. A disk is read once; behind its text it has zeros alone.
fn content(path: &Path) -> Result<Vec<u8>, BootError> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(MAX_CONFIGURATION).unwrap_or(u64::MAX).saturating_add(1);
    let read = File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes));
    read.map_err(|source| BootError::System { action: "read", path: path.to_owned(), source })?;
    let invalid = |reason| BootError::ConfigurationDisk { path: path.to_owned(), reason };
    if bytes.len() > MAX_CONFIGURATION {
        return Err(invalid("expected at most 65536 bytes, found more"));
    }
    let text = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    if bytes.iter().skip(text).any(|byte| *byte != 0) {
        return Err(invalid("expected zeros behind the text, found other bytes"));
    }
    bytes.truncate(text);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use confide_evidence::bytes::Bytes;
    use confide_release::Failure;
    use proptest::prelude::*;
    use proptest::sample::Index;

    fn on_disk(bytes: &[u8]) -> Result<Vec<u8>, BootError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        fs::write(&path, bytes).unwrap();
        content(&path)
    }

    #[test]
    fn a_disk_holds_a_text_and_zeros() {
        assert_eq!(on_disk(b"listen = 1\n\0\0\0").unwrap(), b"listen = 1\n");
        assert_eq!(on_disk(b"listen = 1").unwrap(), b"listen = 1");
        assert_eq!(on_disk(&vec![b'#'; MAX_CONFIGURATION]).unwrap().len(), MAX_CONFIGURATION);
        assert_eq!(on_disk(&[0; 512]).unwrap(), b"");
    }

    #[test]
    fn a_disk_with_anything_else_is_refused() {
        for bytes in
            [&b"a = 1\0b = 2"[..], &vec![b'#'; MAX_CONFIGURATION + 1], &vec![0; MAX_CONFIGURATION + 1]]
        {
            let refused = on_disk(bytes).unwrap_err();
            assert_eq!(refused.code(), "configuration_disk_invalid");
        }
        let refused = content(Path::new("/nonexistent")).unwrap_err();
        assert_eq!(refused.code(), "system_failed");
    }

    /// What a boot makes of a disk: a configuration, or an error with a code that can be told.
    fn told(bytes: &[u8]) -> Result<(), TestCaseError> {
        let parsed = on_disk(bytes).map_err(GuestError::from);
        let parsed = parsed.and_then(|text| Config::parse(&text, Path::new("/dev/vdb")));
        if let Err(error) = parsed {
            let failure = Failure::new(error.code(), Bytes([0; 16]), &error.sentence());
            prop_assert!(Failure::decode(&failure.encode()).is_ok(), "{failure:?}");
        }
        Ok(())
    }

    const SAMPLE: &str = include_str!("../../../../deploy/guest.toml");

    proptest! {
        #[test]
        fn any_bytes_of_a_disk_are_a_configuration_or_an_error(bytes: Vec<u8>) {
            told(&bytes)?;
        }

        #[test]
        fn any_change_of_the_sample_is_a_configuration_or_an_error(
            place: Index, length in 0_usize..40, piece in "[a-z0-9_.=\"\\[\\]{}# \n/\u{0}-]{0,24}",
        ) {
            let mut bytes = SAMPLE.as_bytes().to_vec();
            let begin = place.index(bytes.len());
            let end = (begin + length).min(bytes.len());
            bytes.splice(begin..end, piece.into_bytes());
            told(&bytes)?;
        }
    }

    #[test]
    fn the_disk_of_the_configuration_is_known_by_its_serial() {
        let disks = tempfile::tempdir().unwrap();
        for (disk, serial) in [("vda", "model"), ("vdb", "config"), ("vdc", "config2")] {
            fs::create_dir(disks.path().join(disk)).unwrap();
            fs::write(disks.path().join(disk).join("serial"), format!("{serial}\n")).unwrap();
        }
        assert_eq!(disk(disks.path(), Duration::ZERO).unwrap(), Path::new("/dev/vdb"));
        fs::remove_dir_all(disks.path().join("vdb")).unwrap();
        let refused = disk(disks.path(), Duration::ZERO).unwrap_err();
        assert_eq!(refused.code(), "configuration_missing");
    }
}
