//! What a process of ours may open: files by their folders, TCP by its ports (Linux, `Documentation/userspace-api/landlock.rst`).
//!
//! A thread restricts itself, for good, and what it starts from then on. Later versions of the kernel's interface can be asked for
//! more: what this kernel has is used, and [`Version`] says how much that is.

mod sys;

use std::fs::File;
use std::io;
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;

/// Everything that may still be opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Openings {
    /// Files, or folders with all that is below them. What does not exist, or is out of this user's reach, is left out.
    pub paths: Vec<(PathBuf, Access)>,
    /// TCP ports that may be bound to; 0 stands for any that the kernel chooses.
    pub bind: Vec<u16>,
    /// TCP ports that may be connected to, at any address.
    pub connect: Vec<u16>,
}

/// What may be done with files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// They are read, listed and run.
    Read,
    /// They are read and written, too, devices controlled, and folders made and removed: what pseudo file systems need.
    Use,
    /// Files and folders are made, changed and removed.
    Change,
}

/// The kernel's interface, from 1 on; later ones than 6 are used as 6 is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(u32);

impl Version {
    /// The first that restricts TCP (Linux 6.7).
    pub const TCP: Self = Self(4);

    /// That of this kernel; `None` where it has no Landlock, or has it switched off.
    ///
    /// # Errors
    /// The kernel's, where it is about something else.
    pub fn of_kernel() -> io::Result<Option<Self>> {
        match sys::version() {
            Ok(version) => Ok(Some(Self(version))),
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EOPNOTSUPP)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Its number.
    #[must_use]
    pub fn number(self) -> u32 {
        self.0
    }

    /// All rights to files that it knows.
    fn files(self) -> u64 {
        let since = [(2, sys::REFER), (3, sys::TRUNCATE), (5, sys::IOCTL_DEV)];
        let later = since.into_iter().filter(|(version, _)| self.0 >= *version).map(|(_, right)| right);
        later.fold(sys::FIRST, |rights, right| rights | right)
    }

    fn rights(self, access: Access) -> u64 {
        let read = sys::EXECUTE | sys::READ_FILE | sys::READ_DIR;
        let used = read | sys::WRITE_FILE | sys::TRUNCATE | sys::IOCTL_DEV | sys::MAKE_DIR | sys::REMOVE_DIR;
        let rights = match access {
            Access::Read => read,
            Access::Use => used,
            Access::Change => (used | sys::MAKE_REG | sys::REMOVE_FILE) & !(sys::EXECUTE | sys::IOCTL_DEV),
        };
        rights & self.files()
    }
}

/// Restricts this thread to `openings`, and all that it starts from now on. Threads that run already are not restricted. Where the
/// kernel has no Landlock nothing is, and `None` is returned.
///
/// # Errors
/// The kernel's.
pub fn restrict(openings: &Openings) -> io::Result<Option<Version>> {
    let Some(version) = Version::of_kernel()? else { return Ok(None) };
    let ruleset = sys::ruleset(version.0, version.files())?;
    for (path, access) in &openings.paths {
        let opened = match open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
            Ok(opened) => File::from(opened),
            Err(Errno::NOENT | Errno::ACCESS | Errno::NOTDIR) => continue,
            Err(error) => return Err(error.into()),
        };
        let of_files = if opened.metadata()?.is_dir() { u64::MAX } else { sys::OF_FILES };
        sys::allow_beneath(&ruleset, &opened, version.rights(*access) & of_files)?;
    }
    if version >= Version::TCP {
        for port in &openings.bind {
            sys::allow_port(&ruleset, *port, sys::BIND_TCP)?;
        }
        for port in &openings.connect {
            sys::allow_port(&ruleset, *port, sys::CONNECT_TCP)?;
        }
    }
    rustix::thread::set_no_new_privs(true)?;
    sys::restrict(&ruleset)?;
    Ok(Some(version))
}

#[cfg(test)]
mod tests;
