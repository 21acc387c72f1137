#![expect(unsafe_code, reason = "calls as a hostile program makes them, past every library")]

use std::io;
use std::sync::mpsc;

use libc::{c_long, syscall};

use super::*;

type Call = fn() -> c_long;

/// A raw call that takes at most three arguments.
macro_rules! call {
    ($number:ident $(, $argument:expr)*) => {
        // SAFETY: every pointer among the arguments is null or of a static, and no call here changes memory or closes files.
        || unsafe { syscall(libc::$number $(, $argument)*) }
    };
}

/// Calls that must be refused, and how the record names them.
const HOSTILE: &[(&str, Call)] = &[
    ("socket(AF_VSOCK, SOCK_STREAM, 0)", call!(SYS_socket, libc::AF_VSOCK, libc::SOCK_STREAM, 0)),
    (
        "socket(AF_VSOCK, SOCK_STREAM, 0)",
        call!(SYS_socket, libc::AF_VSOCK, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0),
    ),
    ("socket(AF_PACKET, SOCK_RAW, 768)", call!(SYS_socket, libc::AF_PACKET, libc::SOCK_RAW, 0x300)),
    ("socket(AF_INET, SOCK_RAW, 1)", call!(SYS_socket, libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP)),
    (
        "socket(AF_INET, SOCK_RAW, 255)",
        call!(SYS_socket, libc::AF_INET, libc::SOCK_RAW | libc::SOCK_NONBLOCK, 255),
    ),
    (
        "socket(AF_INET, SOCK_DGRAM, 1)",
        call!(SYS_socket, libc::AF_INET, libc::SOCK_DGRAM, libc::IPPROTO_ICMP),
    ),
    (
        "socket(AF_INET6, SOCK_DGRAM, 58)",
        call!(SYS_socket, libc::AF_INET6, libc::SOCK_DGRAM, libc::IPPROTO_ICMPV6),
    ),
    (
        "socket(AF_INET, SOCK_STREAM, 132)",
        call!(SYS_socket, libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_SCTP),
    ),
    (
        "socket(AF_INET, SOCK_SEQPACKET, 132)",
        call!(SYS_socket, libc::AF_INET, libc::SOCK_SEQPACKET, libc::IPPROTO_SCTP),
    ),
    (
        "socket(AF_INET, SOCK_STREAM, 262)",
        call!(SYS_socket, libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_MPTCP),
    ),
    (
        "socket(AF_INET, SOCK_DGRAM, 136)",
        call!(SYS_socket, libc::AF_INET, libc::SOCK_DGRAM, libc::IPPROTO_UDPLITE),
    ),
    (
        "socket(AF_NETLINK, SOCK_RAW, 12)",
        call!(SYS_socket, libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_NETFILTER),
    ),
    ("socket(AF_ALG, SOCK_SEQPACKET, 0)", call!(SYS_socket, libc::AF_ALG, libc::SOCK_SEQPACKET, 0)),
    ("socket(AF_XDP, SOCK_RAW, 0)", call!(SYS_socket, libc::AF_XDP, libc::SOCK_RAW, 0)),
    // The kernel takes the lower half of the register.
    (
        "socket(AF_VSOCK, SOCK_STREAM, 0)",
        call!(SYS_socket, (1_u64 << 32) | libc::AF_VSOCK as u64, libc::SOCK_STREAM, 0),
    ),
    ("socketpair(AF_TIPC, SOCK_STREAM, 0)", call!(SYS_socketpair, libc::AF_TIPC, libc::SOCK_STREAM, 0)),
    ("io_uring_setup", call!(SYS_io_uring_setup, 1, 0)),
    ("io_uring_enter", call!(SYS_io_uring_enter, -1, 0, 0)),
    ("io_uring_register", call!(SYS_io_uring_register, -1, 0, 0)),
    ("unshare(0x50000000)", call!(SYS_unshare, libc::CLONE_NEWUSER | libc::CLONE_NEWNET)),
    ("setns", call!(SYS_setns, -1, 0)),
    ("clone(0x40000000)", call!(SYS_clone, libc::CLONE_NEWNET, 0, 0)),
    ("clone(0x10000011)", call!(SYS_clone, libc::CLONE_NEWUSER | libc::SIGCHLD, 0, 0)),
    ("bpf", call!(SYS_bpf, 0, 0, 0)),
    ("ptrace", call!(SYS_ptrace, libc::PTRACE_ATTACH, 1, 0)),
    ("process_vm_readv", call!(SYS_process_vm_readv, 1, 0, 0)),
    ("pidfd_getfd", call!(SYS_pidfd_getfd, -1, 0, 0)),
    ("mount", call!(SYS_mount, 0, 0, 0)),
    ("kexec_load", call!(SYS_kexec_load, 0, 0, 0)),
    ("finit_module", call!(SYS_finit_module, -1, 0, 0)),
    ("perf_event_open", call!(SYS_perf_event_open, 0, 0, 0)),
    ("userfaultfd", call!(SYS_userfaultfd, 0)),
    ("keyctl", call!(SYS_keyctl, 0, -1, 0)),
    ("ioctl(0, 0x5412)", call!(SYS_ioctl, 0, libc::TIOCSTI, 0)),
    ("ioctl(0, 0x541c)", call!(SYS_ioctl, 0, TIOCLINUX, 0)),
];

const TIOCLINUX: c_long = 0x541c;

/// What a workload with a broker needs.
const ORDINARY: &[Call] = &[
    call!(SYS_socket, libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0),
    call!(SYS_socket, libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_TCP),
    call!(SYS_socket, libc::AF_INET, libc::SOCK_DGRAM, libc::IPPROTO_UDP),
    call!(SYS_socket, libc::AF_UNIX, libc::SOCK_STREAM, 0),
    call!(SYS_socket, libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_ROUTE),
    call!(SYS_getpid),
    call!(SYS_prctl, libc::PR_GET_DUMPABLE),
];

fn errno() -> Option<i32> {
    io::Error::last_os_error().raw_os_error()
}

/// Runs `workload` on a confined thread of its own, and returns its answer with all that its supervisor heard.
fn confined<T: Send + 'static>(
    reach: Reach,
    workload: impl FnOnce() -> T + Send + 'static,
) -> (T, Vec<Attempt>) {
    let (to_supervisor, supervisor) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        to_supervisor.send(confine(reach).unwrap()).unwrap();
        workload()
    });
    let supervisor: Supervisor = supervisor.recv().unwrap();
    let mut heard = Vec::new();
    while let Some(attempt) = supervisor.next().unwrap() {
        heard.push(attempt);
    }
    (thread.join().unwrap(), heard)
}

#[test]
fn what_a_hostile_workload_asks_for_is_refused_and_told() {
    for (name, call) in HOSTILE {
        let (answer, heard) = confined(Reach::Broker, move || (call(), errno()));
        assert_eq!(answer, (-1, Some(libc::EPERM)), "{name}");
        let [attempt] = heard.as_slice() else { panic!("{name}: {heard:?}") };
        assert_eq!(attempt.to_string(), *name);
        assert!(attempt.thread > 0);
    }
}

/// The same calls without the filter fail otherwise or not at all: it is the filter that refuses them.
#[test]
fn unconfined_most_of_them_are_the_kernels_to_decide() {
    let sockets = HOSTILE.iter().filter(|(name, _)| name.starts_with("socket(AF_VSOCK"));
    let mut opened = 0;
    for (name, call) in sockets {
        match call() {
            -1 => println!("not run: {name} without the filter: {}", io::Error::last_os_error()),
            _ => opened += 1,
        }
    }
    // This one every kernel has.
    let (_, netlink) = HOSTILE.iter().find(|(name, _)| *name == "socket(AF_NETLINK, SOCK_RAW, 12)").unwrap();
    assert!(netlink() >= 0 || errno() == Some(libc::EPROTONOSUPPORT), "{opened} opened");
}

#[test]
fn ordinary_calls_pass_and_nobody_hears_of_them() {
    let (answers, heard) = confined(Reach::Broker, || ORDINARY.iter().map(|call| call()).collect::<Vec<_>>());
    assert!(answers.iter().all(|answer| *answer >= 0), "{answers:?}");
    assert!(heard.is_empty(), "{heard:?}");
}

#[test]
fn who_may_reach_nothing_opens_no_socket_and_runs_no_program() {
    let (opened, heard) = confined(Reach::Nothing, || {
        let sockets = ORDINARY[..5].iter().map(|call| (call(), errno())).collect::<Vec<_>>();
        let program = std::process::Command::new("/bin/true").status().map_err(|error| error.kind());
        (sockets, program)
    });
    assert!(opened.0.iter().all(|answer| *answer == (-1, Some(libc::EPERM))), "{opened:?}");
    assert_eq!(opened.1.unwrap_err(), io::ErrorKind::PermissionDenied);
    let calls: Vec<_> = heard.iter().map(|attempt| attempt.call).collect();
    assert_eq!(calls[..5], ["socket"; 5]);
    assert!(calls[5..].contains(&"execve"), "{calls:?}");
}

/// A workload with a supervisor of its own could answer for ours.
#[test]
fn no_filter_is_put_beside_it() {
    let (answers, heard) = confined(Reach::Broker, || {
        let mut allow = libc::sock_filter {
            code: (libc::BPF_RET | libc::BPF_K) as u16,
            jt: 0,
            jf: 0,
            k: libc::SECCOMP_RET_ALLOW,
        };
        let program = libc::sock_fprog { len: 1, filter: &raw mut allow };
        // SAFETY: the program is one instruction, which outlives both calls.
        unsafe {
            let own = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
            let first = syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, own, &raw const program);
            let first = (first, errno());
            let second =
                syscall(libc::SYS_prctl, libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program);
            [first, (second, errno())]
        }
    });
    assert_eq!(answers, [(-1, Some(libc::EPERM)); 2]);
    assert!(heard.is_empty(), "{heard:?}");
}

#[test]
fn threads_and_children_of_a_confined_thread_are_confined() {
    let (_, vsock) = HOSTILE[0];
    let (answer, heard) = confined(Reach::Broker, move || {
        let inner = std::thread::spawn(move || (vsock(), errno())).join().unwrap();
        let child = std::process::Command::new("python3")
            .args(["-c", "import socket; socket.socket(socket.AF_PACKET, socket.SOCK_RAW)"])
            .output();
        (inner, child.map(|output| String::from_utf8_lossy(&output.stderr).into_owned()))
    });
    assert_eq!(answer.0, (-1, Some(libc::EPERM)));
    let said = answer.1.unwrap();
    assert!(said.contains("PermissionError: [Errno 1]"), "{said}");
    let told: Vec<_> = heard.iter().map(ToString::to_string).collect();
    assert_eq!(told, ["socket(AF_VSOCK, SOCK_STREAM, 0)", "socket(AF_PACKET, SOCK_RAW, 0)"]);
}

/// With nobody left who listens, what must be refused fails, too.
#[test]
fn without_a_supervisor_refused_calls_fail() {
    let (_, vsock) = HOSTILE[0];
    let answer = std::thread::spawn(move || {
        drop(confine(Reach::Broker).unwrap());
        (vsock(), errno())
    });
    assert_eq!(answer.join().unwrap(), (-1, Some(libc::ENOSYS)));
}

#[test]
fn a_thread_has_one_supervisor() {
    let second = std::thread::spawn(|| {
        let _first = confine(Reach::Broker).unwrap();
        confine(Reach::Broker).map(drop).map_err(|error| error.raw_os_error())
    });
    assert_eq!(second.join().unwrap(), Err(Some(libc::EPERM)));
}

#[test]
fn calls_of_another_architecture_end_the_process() {
    // x32: getpid of that interface.
    let child = std::process::Command::new("python3")
        .args(["-c", "import ctypes, sys; l = ctypes.CDLL(None); l.syscall(0x40000000 + 39); sys.exit(7)"])
        .status();
    assert_eq!(child.unwrap().code(), Some(7), "without the filter it goes on");
    let (status, _) = confined(Reach::Broker, || {
        std::process::Command::new("python3")
            .args([
                "-c",
                "import ctypes, sys; l = ctypes.CDLL(None); l.syscall(0x40000000 + 39); sys.exit(7)",
            ])
            .status()
            .unwrap()
    });
    use std::os::unix::process::ExitStatusExt as _;
    assert_eq!(status.signal(), Some(libc::SIGSYS));
}

/// What a guest does no more once it serves.
const BEGINNINGS: &[(&str, Call)] = &[
    ("listen", call!(SYS_listen, -1, 1)),
    ("fork", call!(SYS_fork)),
    ("vfork", call!(SYS_vfork)),
    ("setuid", call!(SYS_setuid, -1)),
    ("setgid", call!(SYS_setgid, -1)),
    ("setreuid", call!(SYS_setreuid, -1, -1)),
    ("setregid", call!(SYS_setregid, -1, -1)),
    ("setresuid", call!(SYS_setresuid, -1, -1, -1)),
    ("setresgid", call!(SYS_setresgid, -1, -1, -1)),
    ("setfsuid", call!(SYS_setfsuid, -1)),
    ("setfsgid", call!(SYS_setfsgid, -1)),
    ("setgroups", call!(SYS_setgroups, 0, 0)),
    ("capset", call!(SYS_capset, 0, 0)),
    ("clone(SIGCHLD)", call!(SYS_clone, libc::SIGCHLD, 0, 0)),
    ("execve", call!(SYS_execve, 0, 0, 0)),
    ("execveat", call!(SYS_execveat, -1, 0, 0, 0, 0)),
    ("seccomp", call!(SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, 0)),
];

/// Of all these calls those that were not refused.
fn passed(calls: &[(&'static str, Call)]) -> Vec<&'static str> {
    calls
        .iter()
        .filter(|(_, call)| (call(), errno()) != (-1, Some(libc::EPERM)))
        .map(|(name, _)| *name)
        .collect()
}

/// All threads of a process are confined at once, so that this runs in processes of its own.
#[test]
fn a_guest_that_serves_keeps_its_threads_and_sockets_and_begins_nothing() {
    const NAME: &str = "seccomp::tests::a_guest_that_serves_keeps_its_threads_and_sockets_and_begins_nothing";
    const QUOTES: &str = "CONFIDE_TEST_QUOTES";
    let quotes = match std::env::var(QUOTES).as_deref() {
        Ok("vsock") => Quotes::Vsock,
        Ok(_) => Quotes::Kernel,
        Err(_) => {
            for quotes in ["vsock", "kernel"] {
                let program = std::env::current_exe().unwrap();
                let mut process = std::process::Command::new(program);
                let output = process.args(["--exact", NAME, "--nocapture"]).env(QUOTES, quotes).output();
                let output = output.unwrap();
                let said = String::from_utf8_lossy(&output.stdout);
                let wrong = String::from_utf8_lossy(&output.stderr);
                assert!(output.status.success() && said.contains("1 passed"), "{quotes}: {said}{wrong}");
            }
            return;
        }
    };
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let all = || {
        let hostile: Vec<_> = passed(HOSTILE).into_iter().filter(|name| !name.contains("AF_VSOCK")).collect();
        (hostile, passed(BEGINNINGS))
    };
    let (confined, wait) = mpsc::channel();
    let earlier = std::thread::spawn(move || {
        wait.recv().unwrap();
        all()
    });
    confine_guest(quotes).unwrap();
    confined.send(()).unwrap();
    let nothing = (vec![], vec![]);
    assert_eq!(earlier.join().unwrap(), nothing, "a thread from before");
    assert_eq!(all(), nothing);
    assert_eq!(std::thread::spawn(all).join().unwrap(), nothing, "a thread from after");
    let vsock = passed(HOSTILE).into_iter().filter(|name| name.starts_with("socket(AF_VSOCK")).count();
    assert_eq!(vsock > 0, quotes == Quotes::Vsock);
    assert_eq!(
        std::process::Command::new("/bin/true").status().unwrap_err().kind(),
        io::ErrorKind::PermissionDenied
    );
    assert!(ORDINARY.iter().all(|call| call() >= 0));
    let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    assert_eq!(listener.accept().unwrap().1, client.local_addr().unwrap());
}
