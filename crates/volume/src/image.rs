//! Images, on which one program works at a time.

use std::fmt;
use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use crate::error::{self, VolumeError};
use crate::rotate::BlockDevice;

/// An image on which this program alone works, until it is dropped.
///
/// The lock is an exclusive one of flock(2), which `cryptsetup` asks for, too. It binds programs that ask for it, on one machine or,
/// where the file system carries locks (NFS does), on all that have mounted it. A disk that two machines share carries none.
pub struct Image(File);

impl Image {
    /// Takes an open image, whose name is told where it is refused. To be asked for before anything of the image is believed: what it
    /// holds, and what a database says of a rotation, is then of no program that still runs.
    ///
    /// # Errors
    /// [`VolumeError::Locked`] where another program has it, [`VolumeError::Io`] where the file system knows no locks.
    pub fn lock(file: File, path: &Path) -> Result<Self, VolumeError> {
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => Err(VolumeError::Locked { path: path.to_owned() }),
            Err(TryLockError::Error(source)) => Err(error::io("lock")(source)),
        }
    }

    pub(crate) fn file(&self) -> &File {
        &self.0
    }
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Image(..)")
    }
}

impl BlockDevice for Image {
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(buffer, offset)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_had_by_one_alone_until_that_is_dropped() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path();
        let held = Image::lock(File::open(path).unwrap(), path).unwrap();
        let refused = Image::lock(File::open(path).unwrap(), path).unwrap_err();
        assert_eq!(refused.code(), "volume_locked");
        assert!(refused.to_string().contains(path.to_str().unwrap()), "{refused}");
        drop(held);
        Image::lock(File::open(path).unwrap(), path).unwrap();
    }
}
