//! The second layer around a workload: what it may not ask the kernel for at all.
//!
//! A network namespace and its rules do not see everything: `AF_VSOCK` passes both, io_uring opens sockets without
//! `socket(2)`, and another namespace would have no rules. A filter of system calls refuses these, and a supervisor
//! outside of the workload hears of each refused call. The filter can be neither removed nor loosened: it holds for all that
//! the workload starts, and the workload can put no filter of its own beside it, whose supervisor could let calls through.

mod program;
mod sys;

use std::fmt;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use libc::{c_int, c_long, seccomp_notif};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::thread::set_no_new_privs;

use program::{Caller, PROGRAMS, REFUSED, SOCKET_TYPE};
pub use program::{Quotes, Reach};

/// Confines this thread, for good, and all that it starts from now on. Threads that run already are not confined: this is the
/// first thing that a workload's process does.
///
/// Whoever supervises the workload gets what is returned, and the workload must keep no copy of it.
///
/// # Errors
/// The kernel's: it has no seccomp filters (`ENOSYS`, `EINVAL`), or this thread has a supervisor already (`EBUSY`).
pub fn confine(reach: Reach) -> io::Result<Supervisor> {
    set_no_new_privs(true)?;
    sys::install(&mut program::program(Caller::Workload(reach))).map(Supervisor)
}

/// Confines every thread of this process, for good, to what a guest does that serves: no program and no process is started any more,
/// nothing new is listened on, and what a workload may not ask the kernel for is refused to the guest, too (`EPERM`). Sockets are
/// those of a workload with a broker, and those by which quotes come.
///
/// The list says what is refused, not what is allowed: vendors' libraries run in the process, and what they call changes with
/// each driver.
///
/// # Errors
/// The kernel's; also where a thread has a filter of its own.
pub fn confine_guest(quotes: Quotes) -> io::Result<()> {
    set_no_new_privs(true)?;
    sys::install_for_all(&mut program::program(Caller::Guest(quotes)))
}

/// Hears of the calls that a workload was refused.
#[derive(Debug)]
pub struct Supervisor(OwnedFd);

impl Supervisor {
    /// Refuses the next call of the workload that must be refused, and tells which it was; `None` once all of the workload has
    /// ended. Until then a refused call waits for this.
    ///
    /// # Errors
    /// The kernel's.
    pub fn next(&self) -> io::Result<Option<Attempt>> {
        loop {
            let mut ends = [PollFd::new(&self.0, PollFlags::IN)];
            match poll(&mut ends, None) {
                Err(rustix::io::Errno::INTR) => continue,
                answer => answer?,
            };
            let [end] = &ends;
            if !end.revents().contains(PollFlags::IN) {
                return Ok(None);
            }
            let notification = match sys::receive(self.0.as_fd()) {
                Ok(notification) => notification,
                // Whoever called was killed in between, or a signal came.
                Err(error) if gone(&error) => continue,
                Err(error) => return Err(error),
            };
            match sys::refuse(self.0.as_fd(), notification.id) {
                Err(error) if !gone(&error) => return Err(error),
                // Also what was tried by somebody who is gone was tried.
                _ => return Ok(Some(Attempt::of(&notification))),
            }
        }
    }
}

impl From<OwnedFd> for Supervisor {
    fn from(listener: OwnedFd) -> Self {
        Self(listener)
    }
}

impl From<Supervisor> for OwnedFd {
    fn from(supervisor: Supervisor) -> Self {
        supervisor.0
    }
}

fn gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINTR))
}

/// A refused call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The thread that called, as the supervisor's process namespace numbers it; 0 where it is not in it.
    pub thread: u32,
    /// The call's name.
    pub call: &'static str,
    /// Its arguments as they stood in registers. Pointers among them point into the workload's memory.
    pub arguments: [u64; 6],
}

impl Attempt {
    fn of(notification: &seccomp_notif) -> Self {
        let number = notification.data.nr;
        Self { thread: notification.pid, call: name(number), arguments: notification.data.args }
    }
}

impl fmt::Display for Attempt {
    /// The call with those arguments for which it was refused: `socket(AF_VSOCK, SOCK_STREAM, 0)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, second, third, ..] = self.arguments;
        match self.call {
            "socket" | "socketpair" => {
                let kind = int(second) & SOCKET_TYPE;
                let (family, kind) = (named(FAMILIES, int(first)), named(TYPES, kind));
                write!(f, "{}({family}, {kind}, {})", self.call, int(third))
            }
            "clone" | "unshare" => write!(f, "{}({first:#x})", self.call),
            "ioctl" => write!(f, "ioctl({}, {:#x})", int(first).cast_signed(), int(second)),
            call => f.write_str(call),
        }
    }
}

fn name(number: c_int) -> &'static str {
    let others = [
        (libc::SYS_clone, "clone"),
        (libc::SYS_ioctl, "ioctl"),
        (libc::SYS_socket, "socket"),
        (libc::SYS_socketpair, "socketpair"),
    ];
    let mut all = REFUSED.iter().chain(PROGRAMS).chain(&others);
    all.find(|(known, _)| *known == c_long::from(number)).map_or("another call", |(_, name)| name)
}

/// Of address_families(7): those that a program is likely to try.
const FAMILIES: &[(c_int, &str)] = &[
    (libc::AF_UNIX, "AF_UNIX"),
    (libc::AF_INET, "AF_INET"),
    (libc::AF_INET6, "AF_INET6"),
    (libc::AF_NETLINK, "AF_NETLINK"),
    (libc::AF_PACKET, "AF_PACKET"),
    (libc::AF_ALG, "AF_ALG"),
    (libc::AF_VSOCK, "AF_VSOCK"),
    (libc::AF_XDP, "AF_XDP"),
    (libc::AF_BLUETOOTH, "AF_BLUETOOTH"),
    (libc::AF_CAN, "AF_CAN"),
    (libc::AF_TIPC, "AF_TIPC"),
];

const TYPES: &[(c_int, &str)] = &[
    (libc::SOCK_STREAM, "SOCK_STREAM"),
    (libc::SOCK_DGRAM, "SOCK_DGRAM"),
    (libc::SOCK_RAW, "SOCK_RAW"),
    (libc::SOCK_RDM, "SOCK_RDM"),
    (libc::SOCK_SEQPACKET, "SOCK_SEQPACKET"),
    (libc::SOCK_DCCP, "SOCK_DCCP"),
];

/// What the kernel takes of an argument for an `int`: its lower half.
#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    reason = "the upper half is not looked at"
)]
fn int(argument: u64) -> u32 {
    argument as u32
}

/// A constant's name, or the number where it has none here.
fn named(names: &[(c_int, &'static str)], value: u32) -> String {
    let known = names.iter().find(|(known, _)| known.cast_unsigned() == value);
    known.map_or_else(|| value.to_string(), |(_, name)| (*name).to_owned())
}

#[cfg(test)]
mod tests;
