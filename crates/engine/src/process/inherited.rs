//! What a child was given without having been asked.

use std::io;
use std::os::fd::RawFd;

/// The last of the standard streams.
const STANDARD_ERROR: RawFd = 2;

/// Closes every descriptor but the standard streams. Whoever started this process, or the guest before it, may have left
/// files, sockets or pipes open to all of its children.
///
/// To be called before this process has opened anything: it would lose that, too.
///
/// # Errors
/// `/proc/self/fd` cannot be read.
pub(super) fn close_inherited() -> io::Result<()> {
    let entries = std::fs::read_dir("/proc/self/fd")?;
    let open = entries.map(|entry| number(&entry?)).collect::<io::Result<Vec<RawFd>>>()?;
    for descriptor in open.into_iter().filter(|descriptor| *descriptor > STANDARD_ERROR) {
        // Nothing of this process owns these descriptors, as it has opened nothing yet. One of them was the folder's own,
        // which is closed already: closing it again is an error without effect while there is one thread. Linux releases
        // the others whatever the error (close(2)).
        let _released = nix::unistd::close(descriptor);
    }
    Ok(())
}

/// The descriptor that an entry of the folder stands for.
fn number(entry: &std::fs::DirEntry) -> io::Result<RawFd> {
    let name = entry.file_name();
    let number = name.to_str().and_then(|name| name.parse().ok());
    number.ok_or_else(|| io::Error::other(format!("/proc/self/fd has the entry {}", name.display())))
}
