//! The calls of landlock(7), and the rights that they know by bits (`include/uapi/linux/landlock.h`).
#![expect(unsafe_code, reason = "no safe call exists for them; each one says why it is sound")]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::ptr;

use libc::{c_int, c_long};

pub(super) const EXECUTE: u64 = 1;
pub(super) const WRITE_FILE: u64 = 1 << 1;
pub(super) const READ_FILE: u64 = 1 << 2;
pub(super) const READ_DIR: u64 = 1 << 3;
pub(super) const REMOVE_DIR: u64 = 1 << 4;
pub(super) const REMOVE_FILE: u64 = 1 << 5;
pub(super) const MAKE_DIR: u64 = 1 << 7;
pub(super) const MAKE_REG: u64 = 1 << 8;
/// All of version 1.
pub(super) const FIRST: u64 = (1 << 13) - 1;
/// Since version 2.
pub(super) const REFER: u64 = 1 << 13;
/// Since version 3.
pub(super) const TRUNCATE: u64 = 1 << 14;
/// Since version 5.
pub(super) const IOCTL_DEV: u64 = 1 << 15;
/// Those that a file may have that is no folder.
pub(super) const OF_FILES: u64 = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV;

/// Since version 4.
pub(super) const BIND_TCP: u64 = 1;
pub(super) const CONNECT_TCP: u64 = 1 << 1;

/// `LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET`, since version 6.
const ABSTRACT_SOCKETS: u64 = 1;

const CREATE_RULESET_VERSION: c_int = 1;
const RULE_PATH_BENEATH: c_int = 1;
const RULE_NET_PORT: c_int = 2;

/// `struct landlock_ruleset_attr`, as version 6 has it.
#[repr(C)]
struct Handled {
    files: u64,
    tcp: u64,
    scoped: u64,
}

/// `struct landlock_path_beneath_attr`.
#[repr(C, packed)]
struct Beneath {
    allowed: u64,
    parent: i32,
}

/// `struct landlock_net_port_attr`.
#[repr(C)]
struct Port {
    allowed: u64,
    port: u64,
}

const _: () = assert!(size_of::<Handled>() == 24 && size_of::<Beneath>() == 12 && size_of::<Port>() == 16);

/// The version of the interface.
pub(super) fn version() -> io::Result<u32> {
    // SAFETY: with this flag and no attributes, the kernel reads no memory.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            ptr::null::<Handled>(),
            0_usize,
            CREATE_RULESET_VERSION,
        )
    };
    u32::try_from(checked(answer)?).map_err(io::Error::other)
}

/// A ruleset that forbids these rights to files and, as far as the version knows them, all of TCP and abstract sockets of others.
pub(super) fn ruleset(version: u32, files: u64) -> io::Result<OwnedFd> {
    let handled = Handled { files, tcp: BIND_TCP | CONNECT_TCP, scoped: ABSTRACT_SOCKETS };
    // Earlier kernels know the first fields alone.
    let known = match version {
        ..=3 => 8,
        4 | 5 => 16,
        6.. => size_of::<Handled>(),
    };
    // SAFETY: the kernel reads the first `known` bytes of `handled`, which has as many.
    let answer =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, ptr::from_ref(&handled), known, 0) };
    let descriptor = c_int::try_from(checked(answer)?).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Allows rights to a file, or to all that is below a folder.
pub(super) fn allow_beneath(ruleset: &OwnedFd, parent: &File, allowed: u64) -> io::Result<()> {
    let rule = Beneath { allowed, parent: parent.as_raw_fd() };
    let rule = ptr::from_ref(&rule);
    // SAFETY: the kernel reads one such structure from where `rule` points; the descriptor in it is open.
    checked(unsafe {
        libc::syscall(libc::SYS_landlock_add_rule, ruleset.as_raw_fd(), RULE_PATH_BENEATH, rule, 0)
    })
    .map(drop)
}

/// Allows rights to a TCP port.
pub(super) fn allow_port(ruleset: &OwnedFd, port: u16, allowed: u64) -> io::Result<()> {
    let rule = Port { allowed, port: port.into() };
    let rule = ptr::from_ref(&rule);
    // SAFETY: the kernel reads one such structure from where `rule` points.
    checked(unsafe {
        libc::syscall(libc::SYS_landlock_add_rule, ruleset.as_raw_fd(), RULE_NET_PORT, rule, 0)
    })
    .map(drop)
}

/// Puts the ruleset into force for this thread. It must have `no_new_privs`, or CAP_SYS_ADMIN.
pub(super) fn restrict(ruleset: &OwnedFd) -> io::Result<()> {
    // SAFETY: the kernel reads no memory.
    checked(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0) }).map(drop)
}

fn checked(answer: c_long) -> io::Result<c_long> {
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}
