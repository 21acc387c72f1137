//! The call that gives a thread a network of its own.
#![expect(unsafe_code, reason = "the safe form of the call is deprecated; it says why it is sound")]

use std::io;

use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Gives this thread a network of its own. Other threads of the process keep theirs.
pub(super) fn leave_network() -> io::Result<()> {
    // SAFETY: of all that unshare(2) parts, only the table of descriptors would let threads see each other's; it stays shared.
    Ok(unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?)
}
