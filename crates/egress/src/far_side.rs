//! For tests of rules: a network of the test's own, and what is beyond it.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::namespace::NetworkThread;

/// Set where a test runs within a network of its own: to its name.
const WITHIN: &str = "CONFIDE_EGRESS_NETWORK";

/// The name of the test that runs within a network of its own, in a process of its own; none where several run.
pub(crate) fn within() -> Option<String> {
    std::env::var(WITHIN).ok()
}

/// Runs the test of this name again in a network of its own, as its root. Nothing there reaches the machine.
pub(crate) fn in_a_network_of_its_own(test: &str, within: fn()) {
    within_network(&["-rn"], test, within);
}

/// As [`in_a_network_of_its_own`], where there are other users, too: that takes the machine's own root.
pub(crate) fn in_a_network_with_users(test: &str, within: fn()) {
    within_network(&["-n", "setpriv", "--reuid=0", "--regid=0", "--clear-groups"], test, within);
}

fn within_network(enter: &[&str], test: &str, within: fn()) {
    if self::within().is_some() {
        return within();
    }
    let probe = "ip link set lo up && nft list ruleset && ip link add name near type veth peer name far";
    let probe = Command::new("unshare").args(enter).args(["sh", "-c", probe]).output();
    match probe {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            println!("not run: {test}: no network of its own with nft and veth here: {}", said.trim());
            return;
        }
        Err(error) => {
            println!("not run: {test}: no unshare here: {error}");
            return;
        }
    }
    let this = std::env::current_exe().unwrap();
    let mut command = Command::new("unshare");
    command.args(enter).arg(this).args(["--exact", test, "--nocapture"]);
    let output = command.env(WITHIN, test).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("1 passed"), "{said}");
    for line in said.lines().filter(|line| line.starts_with(NOT_TESTABLE)) {
        println!("{line}");
    }
}

/// How a line begins in which a test says what this kernel cannot do, and is therefore not tried on it.
pub(crate) const NOT_TESTABLE: &str = "not testable here: ";

pub(crate) fn sh(script: &str) -> String {
    let output = Command::new("sh").args(["-ec", script]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn load(rules: &str) {
    let mut nft = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    nft.stdin.take().unwrap().write_all(rules.as_bytes()).unwrap();
    assert!(nft.wait().unwrap().success(), "{rules}");
}

/// The far side: another network behind the device `near`, which counts what arrives.
pub(crate) struct FarSide(pub(crate) NetworkThread);

impl FarSide {
    pub(crate) fn new() -> Self {
        sh("ip link set lo up; ip link add name near type veth peer name far");
        let far = Self(NetworkThread::start("far").unwrap());
        let thread = far.0.run(rustix::thread::gettid).unwrap().as_raw_nonzero();
        sh(&format!(
            "ip link set far netns {thread}
             ip addr add 10.0.2.15/24 dev near; ip -6 addr add fd00::15/64 dev near nodad; ip link set near up"
        ));
        far.sh(
            "ip link set lo up; ip addr add 10.0.2.2/24 dev far; ip -6 addr add fd00::2/64 dev far nodad; ip link set far up
             printf 'table inet far {\\n chain c {\\n  type filter hook prerouting priority -450;\\n  iifname \"far\" meta l4proto { icmpv6 } icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit, mld2-listener-report } accept\\n  iifname \"far\" counter\\n }\\n}\\n' | nft -f -",
        );
        let mac = |listed: String| {
            let behind = listed.split_once("link/ether ").unwrap().1;
            behind.split_once(' ').unwrap().0.to_owned()
        };
        let (here, there) = (mac(sh("ip -o link show near")), mac(far.sh("ip -o link show far")));
        // Neighbours are not asked for: rules on packets, not on ARP and ND, are what is looked at.
        sh(&format!(
            "ip neigh replace 10.0.2.2 lladdr {there} dev near; ip -6 neigh replace fd00::2 lladdr {there} dev near
             ip route add default via 10.0.2.2; ip -6 route add default via fd00::2 dev near"
        ));
        far.sh(&format!("ip -6 neigh replace fd00::15 lladdr {here} dev far"));
        far
    }

    /// What a script says that runs there.
    pub(crate) fn sh(&self, script: &str) -> String {
        let script = script.to_owned();
        self.0.run(move || sh(&script)).unwrap()
    }

    /// Packets that have arrived.
    pub(crate) fn packets(&self) -> u64 {
        let listed = self.0.run(|| Command::new("nft").args(["list", "ruleset"]).output().unwrap()).unwrap();
        let rules = String::from_utf8(listed.stdout).unwrap();
        let count = rules.split("counter packets ").nth(1).unwrap_or_else(|| panic!("{rules}"));
        count.split(' ').next().unwrap().parse().unwrap()
    }

    /// Whether what `attempt` sends arrives.
    pub(crate) fn hears(&self, attempt: impl FnOnce()) -> bool {
        let before = self.packets();
        attempt();
        [20, 80].into_iter().any(|milliseconds| {
            std::thread::sleep(Duration::from_millis(milliseconds));
            self.packets() != before
        })
    }

    /// Whether a connection from the far side is taken.
    pub(crate) fn reaches(&self, to: &str, port: u16) -> bool {
        let script = format!("timeout 1 bash -c 'exec 3<>/dev/tcp/{to}/{port}'");
        let tried = self
            .0
            .run(move || Command::new("sh").args(["-c", &script]).stderr(Stdio::null()).status())
            .unwrap();
        tried.unwrap().success()
    }
}

pub(crate) fn connect(to: &str) {
    let _ = TcpStream::connect_timeout(&to.parse().unwrap(), Duration::from_millis(100));
}

pub(crate) fn send(to: &str) {
    let to: SocketAddr = to.parse().unwrap();
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let _ = UdpSocket::bind(any).unwrap().send_to(b"x", to);
}

/// Sends a packet of zeros of a protocol to 1.2.3.4, as root may.
pub(crate) fn raw_socket(protocol: u8) {
    raw_packet("1.2.3.4:0", protocol, &[0; 16]);
}

fn raw_packet(to: &str, protocol: u8, packet: &[u8]) {
    use rustix::net::{AddressFamily, Protocol, RawProtocol, SendFlags, SocketType, sendto, socket};
    let to: SocketAddr = to.parse().unwrap();
    let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let protocol = Protocol::from_raw(RawProtocol::new(u32::from(protocol)).unwrap());
    let socket = socket(family, SocketType::RAW, Some(protocol)).unwrap();
    let _ = sendto(&socket, packet, SendFlags::empty(), &to);
}

/// The first piece of a packet of UDP, with its header (RFC 791 section 3.1): "more fragments" is set.
pub(crate) fn fragment() {
    let header = [0x45, 0, 0, 28, 0, 1, 0x20, 0, 64, 17, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4];
    raw_packet("1.2.3.4:0", 255, &[&header[..], &[0; 8]].concat());
}

/// The first piece of a packet of UDP: a fragment header (RFC 8200 section 4.5) with the flag M.
pub(crate) fn fragment6() {
    raw_packet("[2606:4700::1]:0", 44, &[17, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
}
