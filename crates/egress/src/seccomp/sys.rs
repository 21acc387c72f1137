//! The calls of seccomp(2) and seccomp_unotify(2).
#![expect(unsafe_code, reason = "no safe call exists for them; each one says why it is sound")]

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::ptr;

use libc::{
    c_int, c_long, c_ulong, seccomp_notif, seccomp_notif_resp, seccomp_notif_sizes, sock_filter, sock_fprog,
};

/// Puts a filter before the calls of this thread and of all that it starts, and returns the end at which refused calls are told.
pub(super) fn install(program: &mut [sock_filter]) -> io::Result<OwnedFd> {
    same_sizes()?;
    let answer = set_filter(program, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER)?;
    let descriptor = c_int::try_from(answer).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Puts a filter before the calls of all threads of this process and of all that they start.
pub(super) fn install_for_all(program: &mut [sock_filter]) -> io::Result<()> {
    match set_filter(program, libc::SECCOMP_FILTER_FLAG_TSYNC)? {
        0 => Ok(()),
        thread => Err(io::Error::other(format!("thread {thread} has a filter of its own"))),
    }
}

/// `SECCOMP_SET_MODE_FILTER` with these flags, which say what is returned.
fn set_filter(program: &mut [sock_filter], flags: c_ulong) -> io::Result<c_long> {
    let len = u16::try_from(program.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let program = sock_fprog { len, filter: program.as_mut_ptr() };
    // SAFETY: `program` points to `len` instructions, which live until the call returns; the kernel only reads them.
    let answer = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, ptr::from_ref(&program))
    };
    checked(answer)
}

/// The kernel's structures must not be larger than ours (seccomp_unotify(2), `SECCOMP_GET_NOTIF_SIZES`).
fn same_sizes() -> io::Result<()> {
    let mut sizes = seccomp_notif_sizes { seccomp_notif: 0, seccomp_notif_resp: 0, seccomp_data: 0 };
    // SAFETY: the kernel writes one such structure to where `sizes` lies, which is ours alone.
    checked(unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_NOTIF_SIZES, 0, ptr::from_mut(&mut sizes))
    })?;
    let fits = usize::from(sizes.seccomp_notif) <= size_of::<seccomp_notif>()
        && usize::from(sizes.seccomp_notif_resp) <= size_of::<seccomp_notif_resp>();
    fits.then_some(())
        .ok_or_else(|| io::Error::other("this kernel tells more of a refused call than is known here"))
}

/// The next refused call. Its thread waits until it is [refused](refuse).
pub(super) fn receive(listener: BorrowedFd<'_>) -> io::Result<seccomp_notif> {
    // SAFETY: a structure of integers alone, for which zeros are a value.
    let mut notification: seccomp_notif = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one `seccomp_notif`, which is not larger than ours (`same_sizes`), to where `notification` lies.
    checked(c_long::from(unsafe {
        libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, ptr::from_mut(&mut notification))
    }))?;
    Ok(notification)
}

/// Lets a refused call fail with `EPERM`. It is never let through: `SECCOMP_USER_NOTIF_FLAG_CONTINUE` is not used.
pub(super) fn refuse(listener: BorrowedFd<'_>, id: u64) -> io::Result<()> {
    let mut answer = seccomp_notif_resp { id, val: 0, error: -libc::EPERM, flags: 0 };
    // SAFETY: the kernel reads one `seccomp_notif_resp`, which is not larger than ours (`same_sizes`), from where `answer` lies.
    checked(c_long::from(unsafe {
        libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, ptr::from_mut(&mut answer))
    }))?;
    Ok(())
}

fn checked(answer: c_long) -> io::Result<c_long> {
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}
