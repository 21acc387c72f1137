//! The two kernel interfaces that have no safe call: device-mapper's ioctl and the keyring.
#![expect(unsafe_code, reason = "no safe call exists for them; each one says why it is sound")]

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd as _;

use super::ioctl::{Call, HEADER};

/// The keyring of this thread alone (`KEY_SPEC_THREAD_KEYRING`).
const THREAD_KEYRING: libc::c_long = -1;

/// Device-mapper's control device.
pub(super) struct Control(File);

impl Control {
    pub(super) fn open() -> io::Result<Self> {
        OpenOptions::new().read(true).write(true).open("/dev/mapper/control").map(Self)
    }

    /// Makes a call; the kernel's answer is in its buffer.
    pub(super) fn call(&self, call: &mut Call) -> io::Result<()> {
        let length = u32::try_from(call.buffer.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        let stated = call.buffer.get(12..16).and_then(|field| field.first_chunk());
        if call.buffer.len() < HEADER || stated != Some(&length.to_ne_bytes()) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // SAFETY: the descriptor is open for as long as `self` is borrowed. The request's size is that of `struct dm_ioctl`, and
        // the kernel reads and writes no more than `data_size` bytes from the pointer on, which were just found to be the
        // length of this buffer. The buffer is borrowed mutably, so nobody else sees it.
        let answer = unsafe {
            libc::ioctl(self.0.as_raw_fd(), call.command.request().into(), call.buffer.as_mut_ptr())
        };
        if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// A key in this thread's keyring, which the kernel uses and shows to nobody. Unlinked when dropped: what uses it by then keeps a
/// copy of its own.
pub(crate) struct LogonKey {
    description: String,
    id: libc::c_long,
}

impl LogonKey {
    /// Adds a key under a description, of which the part before a colon names its user (`logon` keys need one).
    pub(crate) fn add(description: String, key: &[u8]) -> io::Result<Self> {
        let name = CString::new(description.as_str()).map_err(|_| io::ErrorKind::InvalidInput)?;
        // SAFETY: both texts end in a zero, the key is readable for its length, and all of them outlive the call, which copies
        // them.
        let id = unsafe {
            libc::syscall(
                libc::SYS_add_key,
                c"logon".as_ptr(),
                name.as_ptr(),
                key.as_ptr(),
                key.len(),
                THREAD_KEYRING,
            )
        };
        if id < 0 { Err(io::Error::last_os_error()) } else { Ok(Self { description, id }) }
    }

    pub(crate) fn description(&self) -> &str {
        &self.description
    }
}

impl Drop for LogonKey {
    fn drop(&mut self) {
        let unlink = libc::c_long::from(libc::KEYCTL_UNLINK);
        // SAFETY: KEYCTL_UNLINK takes two numbers and no pointer.
        // That it fails is nothing to act on: the keyring ends with its thread.
        let _ = unsafe { libc::syscall(libc::SYS_keyctl, unlink, self.id, THREAD_KEYRING) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dm::ioctl::Command;

    #[test]
    fn a_call_whose_buffer_is_not_as_long_as_it_says_is_not_made() {
        let control = Control(File::open("/dev/null").unwrap());
        let mut short = Call::of(Command::Create, "n", false);
        short.buffer.truncate(HEADER - 1);
        assert_eq!(control.call(&mut short).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        let mut cut = Call::of(Command::Create, "n", false);
        cut.buffer.truncate(HEADER);
        assert_eq!(control.call(&mut cut).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        // One that is goes to the kernel, which knows no such call of /dev/null.
        let whole = control.call(&mut Call::of(Command::Create, "n", false)).unwrap_err();
        assert_eq!(whole.raw_os_error(), Some(libc::ENOTTY));
    }
}
