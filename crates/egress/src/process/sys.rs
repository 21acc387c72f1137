//! The call that closes what a process was given.
#![expect(unsafe_code, reason = "no safe call exists for it; it says why it is sound")]

use std::io;

use libc::{c_long, c_uint};

/// The first descriptor behind the standard streams.
const BEHIND_STANDARD_STREAMS: c_uint = 3;

/// Closes every descriptor but the standard streams (close_range(2)): whoever started this process may have left some open. To be
/// called before this process has opened anything: it would lose that, too.
pub(super) fn close_inherited() -> io::Result<()> {
    // SAFETY: no memory is touched. Nothing of this process owns these descriptors, as it has opened nothing yet.
    let answer: c_long =
        unsafe { libc::syscall(libc::SYS_close_range, BEHIND_STANDARD_STREAMS, c_uint::MAX, 0) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
