//! The program that the kernel runs before each system call of a workload: classic BPF over `struct seccomp_data`.
//!
//! Linux, `Documentation/userspace-api/seccomp_filter.rst`; numbers of `arch/x86/entry/syscalls/syscall_64.tbl`.

#![expect(
    clippy::as_conversions,
    clippy::arithmetic_side_effects,
    reason = "a program of constants, which C headers give signed; it reads nothing of anybody"
)]

use libc::{
    BPF_ABS, BPF_ALU, BPF_AND, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_RET, BPF_W, c_long,
    sock_filter,
};

/// Whose calls are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    /// A workload, under a supervisor that hears of what it is refused.
    Workload(Reach),
    /// The guest that serves, under nobody.
    Guest(Quotes),
}

/// How a guest gets its quotes, which decides whether it opens sockets of vsock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quotes {
    /// From the kernel.
    Kernel,
    /// From the host's service, over vsock.
    Vsock,
}

/// What a workload may open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// No socket, no program: what has all that it needs already.
    Nothing,
    /// Unix sockets, and TCP and UDP in its own network, which leads to the egress broker alone.
    Broker,
}

/// `AUDIT_ARCH_X86_64`: the numbers below are of no other.
const ARCHITECTURE: u32 = 0xc000_003e;
/// Calls of the x32 ABI have this bit. Their numbers overlap with the others only by half.
const X32: u32 = 0x4000_0000;

/// Offsets into `struct seccomp_data`.
const NUMBER_AT: u32 = 0;
const ARCHITECTURE_AT: u32 = 4;
/// The lower half of an argument: what the kernel takes an `int` from. All flags that are looked at lie in it.
const fn argument(index: u32) -> u32 {
    16 + 8 * index
}

/// What the kernel does with a call.
#[derive(Clone, Copy)]
enum Verdict {
    Allow,
    /// The call fails with `EPERM`, and the supervisor hears of it.
    Refuse,
    /// The call fails with this error. It outranks [`Verdict::Refuse`] of any other filter, so that no filter of the
    /// workload's own decides it.
    Error(i32),
    /// The process ends.
    Kill,
}

impl Verdict {
    const fn value(self) -> u32 {
        match self {
            Self::Allow => libc::SECCOMP_RET_ALLOW,
            Self::Refuse => libc::SECCOMP_RET_USER_NOTIF,
            Self::Error(error) => libc::SECCOMP_RET_ERRNO | error as u32,
            Self::Kill => libc::SECCOMP_RET_KILL_PROCESS,
        }
    }
}

/// Refused whatever the arguments are: ways around the network namespace, into other processes or into the kernel.
pub(super) const REFUSED: &[(c_long, &str)] = &[
    // Sockets that no filter of calls sees.
    (libc::SYS_io_uring_setup, "io_uring_setup"),
    (libc::SYS_io_uring_enter, "io_uring_enter"),
    (libc::SYS_io_uring_register, "io_uring_register"),
    // Other namespaces.
    (libc::SYS_unshare, "unshare"),
    (libc::SYS_setns, "setns"),
    // Programs in the kernel.
    (libc::SYS_bpf, "bpf"),
    (libc::SYS_init_module, "init_module"),
    (libc::SYS_finit_module, "finit_module"),
    (libc::SYS_delete_module, "delete_module"),
    (libc::SYS_kexec_load, "kexec_load"),
    (libc::SYS_kexec_file_load, "kexec_file_load"),
    (libc::SYS_perf_event_open, "perf_event_open"),
    (libc::SYS_userfaultfd, "userfaultfd"),
    // Other processes.
    (libc::SYS_ptrace, "ptrace"),
    (libc::SYS_process_vm_readv, "process_vm_readv"),
    (libc::SYS_process_vm_writev, "process_vm_writev"),
    (libc::SYS_process_madvise, "process_madvise"),
    (libc::SYS_pidfd_getfd, "pidfd_getfd"),
    (libc::SYS_kcmp, "kcmp"),
    // The file system.
    (libc::SYS_mount, "mount"),
    (libc::SYS_umount2, "umount2"),
    (libc::SYS_pivot_root, "pivot_root"),
    (libc::SYS_chroot, "chroot"),
    (libc::SYS_open_tree, "open_tree"),
    (libc::SYS_move_mount, "move_mount"),
    (libc::SYS_fsopen, "fsopen"),
    (libc::SYS_fsconfig, "fsconfig"),
    (libc::SYS_fsmount, "fsmount"),
    (libc::SYS_fspick, "fspick"),
    (libc::SYS_mount_setattr, "mount_setattr"),
    (libc::SYS_name_to_handle_at, "name_to_handle_at"),
    (libc::SYS_open_by_handle_at, "open_by_handle_at"),
    (libc::SYS_quotactl, "quotactl"),
    (libc::SYS_swapon, "swapon"),
    (libc::SYS_swapoff, "swapoff"),
    (libc::SYS_acct, "acct"),
    // The machine.
    (libc::SYS_reboot, "reboot"),
    (libc::SYS_settimeofday, "settimeofday"),
    (libc::SYS_clock_settime, "clock_settime"),
    (libc::SYS_clock_adjtime, "clock_adjtime"),
    (libc::SYS_adjtimex, "adjtimex"),
    (libc::SYS_sethostname, "sethostname"),
    (libc::SYS_setdomainname, "setdomainname"),
    (libc::SYS_iopl, "iopl"),
    (libc::SYS_ioperm, "ioperm"),
    (libc::SYS_syslog, "syslog"),
    (libc::SYS_personality, "personality"),
    // Keyrings, which namespaces do not part.
    (libc::SYS_add_key, "add_key"),
    (libc::SYS_request_key, "request_key"),
    (libc::SYS_keyctl, "keyctl"),
];

/// Refused where only [`Reach::Nothing`] is allowed, and to the guest.
pub(super) const PROGRAMS: &[(c_long, &str)] =
    &[(libc::SYS_execve, "execve"), (libc::SYS_execveat, "execveat")];

/// Refused to a guest that serves: it has its one listener, starts threads alone, and stays the user that it is.
const BEGINNINGS: &[(c_long, &str)] = &[
    (libc::SYS_listen, "listen"),
    (libc::SYS_fork, "fork"),
    (libc::SYS_vfork, "vfork"),
    (libc::SYS_setuid, "setuid"),
    (libc::SYS_setgid, "setgid"),
    (libc::SYS_setreuid, "setreuid"),
    (libc::SYS_setregid, "setregid"),
    (libc::SYS_setresuid, "setresuid"),
    (libc::SYS_setresgid, "setresgid"),
    (libc::SYS_setfsuid, "setfsuid"),
    (libc::SYS_setfsgid, "setfsgid"),
    (libc::SYS_setgroups, "setgroups"),
    (libc::SYS_capset, "capset"),
];

/// Namespaces that `clone` could make.
const NAMESPACES: u32 = (libc::CLONE_NEWUSER
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP) as u32;

/// The type of a socket without `SOCK_NONBLOCK` and `SOCK_CLOEXEC` (`SOCK_TYPE_MASK` in the kernel).
pub(super) const SOCKET_TYPE: u32 = 0xf;

impl Caller {
    /// What happens to a call that is refused to it. Nobody would answer for a guest.
    fn refusal(self) -> [sock_filter; 1] {
        [end(match self {
            Self::Workload(_) => Verdict::Refuse,
            Self::Guest(_) => Verdict::Error(libc::EPERM),
        })]
    }

    /// What is refused to it beside [`REFUSED`].
    fn refused_too(self) -> [&'static [(c_long, &'static str)]; 2] {
        match self {
            Self::Workload(Reach::Broker) => [&[], &[]],
            Self::Workload(Reach::Nothing) => [PROGRAMS, &[]],
            Self::Guest(_) => [PROGRAMS, BEGINNINGS],
        }
    }
}

/// The program for this caller.
pub(super) fn program(caller: Caller) -> Vec<sock_filter> {
    let refuse = caller.refusal();
    let mut program = vec![load(ARCHITECTURE_AT)];
    program.extend(unless(BPF_JEQ, ARCHITECTURE, &[end(Verdict::Kill)]));
    program.push(load(NUMBER_AT));
    program.extend(when(BPF_JGE, X32, &[end(Verdict::Kill)]));
    let [programs, beginnings] = caller.refused_too();
    for (number, _) in REFUSED.iter().chain(programs).chain(beginnings) {
        program.extend(when_called(*number, &refuse));
    }
    // Its flags lie in memory, which the caller may change after they were looked at. Whoever gets this error uses `clone`.
    program.extend(when_called(libc::SYS_clone3, &[end(Verdict::Error(libc::ENOSYS))]));
    let processes = match caller {
        Caller::Workload(_) => vec![],
        Caller::Guest(_) => unless(BPF_JSET, libc::CLONE_THREAD as u32, &refuse),
    };
    let clone =
        [vec![load(argument(0))], when(BPF_JSET, NAMESPACES, &refuse), processes, vec![end(Verdict::Allow)]];
    program.extend(when_called(libc::SYS_clone, &clone.concat()));
    // A filter of the workload's own with a supervisor of its own could let through what is refused here.
    program.extend(when_called(libc::SYS_seccomp, &[end(Verdict::Error(libc::EPERM))]));
    let own_filter = when(BPF_JEQ, libc::PR_SET_SECCOMP as u32, &[end(Verdict::Error(libc::EPERM))]);
    let prctl = [vec![load(argument(0))], own_filter, vec![end(Verdict::Allow)]];
    program.extend(when_called(libc::SYS_prctl, &prctl.concat()));
    // Keys pressed in somebody else's name.
    let pressing = when(BPF_JEQ, libc::TIOCSTI as u32, &refuse);
    let console = when(BPF_JEQ, TIOCLINUX, &refuse);
    let ioctl = [vec![load(argument(1))], pressing, console, vec![end(Verdict::Allow)]];
    program.extend(when_called(libc::SYS_ioctl, &ioctl.concat()));
    program.extend(when_called(libc::SYS_socket, &sockets(caller)));
    let pair = [
        vec![load(argument(0))],
        when(BPF_JEQ, libc::AF_UNIX as u32, &[end(Verdict::Allow)]),
        refuse.to_vec(),
    ];
    program.extend(when_called(libc::SYS_socketpair, &pair.concat()));
    program.push(end(Verdict::Allow));
    program
}

/// Selections and keys of a virtual console (ioctl_console(2)).
const TIOCLINUX: u32 = 0x541c;

/// What follows `socket(family, type, protocol)`.
fn sockets(caller: Caller) -> Vec<sock_filter> {
    let refuse = caller.refusal();
    if caller == Caller::Workload(Reach::Nothing) {
        return refuse.to_vec();
    }
    let vsock: &[i32] = if caller == Caller::Guest(Quotes::Vsock) { &[libc::AF_VSOCK] } else { &[] };
    let any_of = |values: &[i32], then: &[sock_filter]| -> Vec<sock_filter> {
        values.iter().flat_map(|value| when(BPF_JEQ, *value as u32, then)).collect()
    };
    let allow = [end(Verdict::Allow)];
    let netlink = [vec![load(argument(2))], any_of(&[libc::NETLINK_ROUTE], &allow), refuse.to_vec()];
    // Of the type that a protocol goes with: no raw socket, no ping, no SCTP, no MPTCP.
    let protocols =
        |protocol: i32| [vec![load(argument(2))], any_of(&[0, protocol], &allow), refuse.to_vec()].concat();
    let internet = [
        vec![load(argument(1)), statement(BPF_ALU | BPF_AND | BPF_K, SOCKET_TYPE)],
        when(BPF_JEQ, libc::SOCK_STREAM as u32, &protocols(libc::IPPROTO_TCP)),
        when(BPF_JEQ, libc::SOCK_DGRAM as u32, &protocols(libc::IPPROTO_UDP)),
        refuse.to_vec(),
    ]
    .concat();
    [
        vec![load(argument(0))],
        any_of(&[libc::AF_UNIX], &allow),
        any_of(vsock, &allow),
        when(BPF_JEQ, libc::AF_NETLINK as u32, &netlink.concat()),
        any_of(&[libc::AF_INET, libc::AF_INET6], &internet),
        refuse.to_vec(),
    ]
    .concat()
}

/// `then`, if the call that is loaded is this one.
fn when_called(number: c_long, then: &[sock_filter]) -> Vec<sock_filter> {
    when(BPF_JEQ, number as u32, then)
}

/// `then`, if what is loaded compares so with `value`; it must end in a verdict.
fn when(comparison: u32, value: u32, then: &[sock_filter]) -> Vec<sock_filter> {
    compared(comparison, value, (0, length(then)), then)
}

fn unless(comparison: u32, value: u32, then: &[sock_filter]) -> Vec<sock_filter> {
    compared(comparison, value, (length(then), 0), then)
}

fn compared(comparison: u32, value: u32, (holds, fails): (u8, u8), then: &[sock_filter]) -> Vec<sock_filter> {
    let jump = sock_filter { code: (BPF_JMP | BPF_K | comparison) as u16, jt: holds, jf: fails, k: value };
    std::iter::once(jump).chain(then.iter().copied()).collect()
}

/// How far a jump goes that leaves these out: no branch here has a hundred instructions.
fn length(instructions: &[sock_filter]) -> u8 {
    u8::try_from(instructions.len()).expect("branches are short")
}

fn load(offset: u32) -> sock_filter {
    statement(BPF_LD | BPF_W | BPF_ABS, offset)
}

fn end(verdict: Verdict) -> sock_filter {
    statement(BPF_RET | BPF_K, verdict.value())
}

fn statement(code: u32, k: u32) -> sock_filter {
    sock_filter { code: code as u16, jt: 0, jf: 0, k }
}
