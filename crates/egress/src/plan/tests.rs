use super::*;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use crate::far_side::{
    FarSide, connect, fragment, fragment6, in_a_network_of_its_own, load, raw_socket, send, sh,
};

const POLICY: &str = r#"
format = "confide-egress-policy/1"
name = "test"
log = "drops"
[dns]
upstreams = [{ protocol = "tls", name = "dns.example.net", addresses = ["9.9.9.9", "2620:fe::fe"] }]
[[bootstrap]]
name = "a.example"
ports = [443]
[[bootstrap]]
name = "*.b.example"
ports = [443, 8443]
[[bootstrap]]
cidr = "198.51.100.0/25"
ports = [80, 8080]
protocol = "tcp"
[[bootstrap]]
cidr = "2001:db8::/32"
ports = [80]
protocol = "tcp"
[[serving]]
cidr = "198.51.100.0/25"
ports = [80]
protocol = "tcp"
"#;

fn policy() -> EgressPolicy {
    EgressPolicy::parse(POLICY).unwrap()
}

const NETWORK: GuestNetwork = GuestNetwork { serving_port: 8443, key_broker: None };

fn with_key_broker() -> GuestNetwork {
    GuestNetwork { key_broker: Some("10.0.2.2:7443".parse().unwrap()), ..NETWORK }
}

fn accepted(rules: &Ruleset) -> Vec<&str> {
    rules.text().lines().filter(|line| line.ends_with("accept")).map(str::trim).collect()
}

#[test]
fn every_hook_drops_and_only_what_is_named_passes() {
    let denied = guest(&EgressPolicy::deny_all(), Phase::Serving, with_key_broker()).unwrap();
    let expected = [
        "iifname \"lo\" accept",
        "tcp dport 8443 accept",
        "ip saddr 10.0.2.2 tcp sport 7443 ct direction reply ct state established accept",
        "oifname \"lo\" accept",
        "tcp sport 8443 ct direction reply ct state established accept",
        "meta skuid { 0, 991 } ip daddr 10.0.2.2 tcp dport 7443 accept",
    ];
    assert_eq!(accepted(&denied), expected);
    assert_eq!(denied.text().matches("policy drop;").count(), 3);
    assert_eq!(denied.text().matches("counter drop").count(), 5);
    let alone = guest(&EgressPolicy::deny_all(), Phase::Serving, NETWORK).unwrap();
    assert!(!alone.text().contains("skuid"));
    assert_ne!(alone.digest(), denied.digest());
}

#[test]
fn the_egress_broker_gets_what_the_phase_allows_and_no_more() {
    let of_broker = |phase| {
        let rules = guest(&policy(), phase, NETWORK).unwrap();
        let lines = rules.text().lines().map(str::trim);
        lines.filter_map(|line| line.strip_prefix("meta skuid 990 ").map(str::to_owned)).collect::<Vec<_>>()
    };
    let [v4, v6] = public();
    let (names, names6) =
        (format!("{v4} tcp dport {{ 443, 8443 }} accept"), format!("{v6} tcp dport {{ 443, 8443 }} accept"));
    assert!(
        v4.starts_with("ip daddr != { 0.0.0.0/8, 10.0.0.0/8, ")
            && v4.ends_with(", 198.51.100.0/24, 203.0.113.0/24, 224.0.0.0/3 }")
    );
    assert_eq!(
        v6,
        "ip6 daddr 2000::/3 ip6 daddr != { 2001::/23, 2001:db8::/32, 3fff::/20, 2002::/16, 2620:4f:8000::/48 }"
    );
    let expected = [
        "ip daddr 198.51.100.0/25 tcp dport { 80, 8080 } accept",
        "ip6 daddr 2001:db8::/32 tcp dport { 80 } accept",
        "ip daddr 9.9.9.9 tcp dport 853 accept",
        "ip6 daddr 2620:fe::fe tcp dport 853 accept",
        &names,
        &names6,
    ];
    assert_eq!(of_broker(Phase::Bootstrap), expected);
    // No name, so no resolver either.
    assert_eq!(of_broker(Phase::Serving), ["ip daddr 198.51.100.0/25 tcp dport { 80 } accept"]);
}

#[test]
fn rules_are_the_same_for_the_same_policy_in_another_order() {
    let parts: Vec<&str> = POLICY.split("[[bootstrap]]").collect();
    let [head, a, b, c, rest] = parts.as_slice() else { panic!("four bootstrap rules") };
    let (d, serving) = rest.split_once("[[serving]]").unwrap();
    let last = format!("{a}[[serving]]{serving}");
    let turned = [head, d, c, b, last.as_str()].join("[[bootstrap]]");
    assert_ne!(turned, POLICY);
    let turned = EgressPolicy::parse(&turned).unwrap();
    for phase in [Phase::Bootstrap, Phase::Serving] {
        assert_eq!(guest(&turned, phase, NETWORK), guest(&policy(), phase, NETWORK));
    }
}

#[test]
fn a_rule_that_nobody_carries_out_makes_no_rules() {
    let udp = EgressPolicy::parse(
        &POLICY
            .replace("ports = [80, 8080]\nprotocol = \"tcp\"", "ports = [80, 8080]\nprotocol = \"udp\"")
            .replace("[[serving]]\ncidr = \"198.51.100.0/25\"\nports = [80]\nprotocol = \"tcp\"\n", ""),
    )
    .unwrap();
    let error = guest(&udp, Phase::Bootstrap, NETWORK).unwrap_err();
    assert_eq!(error, PlanError::Udp("udp 198.51.100.0/25:80,8080".into()));
    assert!(guest(&udp, Phase::Serving, NETWORK).is_ok());
}

/// The rules with the egress broker's user as whom the test runs: the network of its own has no other user than root.
fn as_root(rules: &Ruleset) -> String {
    rules.text().replace("skuid 990", "skuid 0")
}

#[test]
fn the_guests_network_lets_out_what_the_policy_allows() {
    in_a_network_of_its_own("plan::tests::the_guests_network_lets_out_what_the_policy_allows", || {
        let far = FarSide::new();
        let attempts: [(&str, &dyn Fn()); 14] = [
            ("cidr", &|| connect("198.51.100.1:80")),
            ("cidr, second port", &|| connect("198.51.100.1:8080")),
            ("cidr of IPv6", &|| connect("[2001:db8::1]:80")),
            ("resolver", &|| connect("9.9.9.9:853")),
            ("public address on a port of names", &|| connect("1.2.3.4:8443")),
            ("public address of IPv6", &|| connect("[2606:4700::1]:443")),
            ("key broker", &|| connect("10.0.2.2:7443")),
            // From here on nothing may pass.
            ("key broker, other port", &|| connect("10.0.2.2:7444")),
            ("private address on a port of names", &|| connect("10.1.0.3:443")),
            ("metadata service", &|| connect("169.254.169.254:443")),
            ("resolver, other port", &|| connect("9.9.9.9:53")),
            ("outside the cidr", &|| connect("198.51.100.128:80")),
            ("unique local address", &|| connect("[fd00::2]:443")),
            ("public address, other port", &|| connect("1.2.3.4:22")),
        ];
        let others: [(&str, &dyn Fn()); 6] = [
            ("UDP", &|| send("198.51.100.1:80")),
            ("QUIC", &|| send("1.2.3.4:443")),
            ("DNS", &|| send("9.9.9.9:53")),
            ("UDP of IPv6", &|| send("[2606:4700::1]:443")),
            ("ICMP", &|| raw_socket(1)),
            ("SCTP", &|| raw_socket(132)),
        ];
        // Unprotected, each reaches the far side, or would prove nothing.
        for (what, attempt) in attempts.iter().chain(&others) {
            assert!(far.hears(attempt), "{what} does not reach the far side unprotected");
        }
        let rules = guest(&policy(), Phase::Bootstrap, with_key_broker()).unwrap();
        load(&as_root(&rules));
        for (place, (what, attempt)) in attempts.iter().enumerate() {
            assert_eq!(far.hears(attempt), place < 7, "{what}");
        }
        for (what, attempt) in &others {
            assert!(!far.hears(attempt), "{what}");
        }
        // The same as another user than the egress broker's.
        load(rules.text());
        for (what, attempt) in &attempts {
            assert_eq!(far.hears(attempt), *what == "key broker", "{what}");
        }
        let serving = guest(&policy(), Phase::Serving, NETWORK).unwrap();
        load(&as_root(&serving));
        for (what, attempt) in attempts.iter().chain(&others) {
            assert_eq!(far.hears(attempt), *what == "cidr", "{what}");
        }
    });
}

#[test]
fn the_guests_network_is_entered_by_the_serving_port_alone() {
    in_a_network_of_its_own("plan::tests::the_guests_network_is_entered_by_the_serving_port_alone", || {
        let far = FarSide::new();
        let serving = TcpListener::bind("0.0.0.0:8443").unwrap();
        let other = TcpListener::bind("0.0.0.0:22").unwrap();
        let both = [(8443, &serving), (22, &other)];
        for (port, _) in both {
            assert!(far.reaches("10.0.2.15", port), "{port} before there are rules");
        }
        // A connection from before the rules.
        far.sh("(timeout 20 bash -c 'exec 3<>/dev/tcp/10.0.2.15/22; sleep 15' >/dev/null 2>&1 &)");
        let (mut old, _) = loop {
            let accepted = other.accept().unwrap();
            if !accepted.0.peer_addr().unwrap().ip().is_loopback() && still_open(&accepted.0) {
                break accepted;
            }
        };
        let rules = guest(&EgressPolicy::deny_all(), Phase::Serving, NETWORK).unwrap();
        load(rules.text());
        assert!(far.reaches("10.0.2.15", 8443) && !far.reaches("10.0.2.15", 22));
        assert!(!far.hears(|| old.write_all(b"secret").unwrap()), "a connection from before the lock");
        // What arrives in pieces has no ports to look at.
        for (what, to, rule) in [("IPv4", "10.0.2.15", 0), ("IPv6", "fd00::15", 1)] {
            let before = counters("fragments")[rule];
            far.sh(&format!("timeout 2 bash -c 'head -c 5000 /dev/zero > /dev/udp/{to}/8443'"));
            std::thread::sleep(Duration::from_millis(50));
            assert!(
                counters("fragments")[rule] > before,
                "fragments of {what} are dropped before they are put together"
            );
        }
        // Nothing passes through the guest.
        sh("echo 1 > /proc/sys/net/ipv4/ip_forward");
        far.sh("ip route add 10.9.0.0/24 via 10.0.2.15");
        let through = "timeout 1 bash -c 'echo x > /dev/udp/10.9.0.1/9'";
        load("flush ruleset");
        assert!(far.hears(|| drop(far.sh(through))), "the guest would pass on what it is sent");
        load(rules.text());
        assert!(!far.hears(|| drop(far.sh(through))));
        assert_eq!(counters("forward").len(), 1);
        assert!(counters("forward")[0] > 0);
    });
}

/// The kernel asks for a neighbour once a packet is to leave, which it is not before `output` has let it through. So no rules on ARP are
/// needed to keep questions in that nobody may ask.
#[test]
fn no_neighbour_is_asked_for_by_what_may_not_leave() {
    in_a_network_of_its_own("plan::tests::no_neighbour_is_asked_for_by_what_may_not_leave", || {
        let far = FarSide::new();
        far.sh("nft add table arp seen; nft add chain arp seen c '{ type filter hook input priority 0; }'");
        // The kernel asks again for a few seconds, so that each address is counted for itself.
        let asked = |address: &str, attempt: &dyn Fn()| {
            far.sh(&format!(
                "nft flush chain arp seen c; nft add rule arp seen c arp daddr ip {address} counter"
            ));
            attempt();
            std::thread::sleep(Duration::from_millis(100));
            !far.sh("nft list table arp seen").contains("counter packets 0 ")
        };
        // Nobody has these addresses, so that each is asked for.
        assert!(asked("10.0.2.71", &|| connect("10.0.2.71:443")), "unprotected");
        assert!(asked("10.0.2.72", &|| send("10.0.2.72:53")), "unprotected");
        let rules = guest(&policy(), Phase::Bootstrap, with_key_broker()).unwrap();
        load(&as_root(&rules));
        assert!(!asked("10.0.2.73", &|| connect("10.0.2.73:443")), "a connection to a neighbour");
        assert!(!asked("10.0.2.74", &|| send("10.0.2.74:53")), "a datagram to a neighbour");
        sh("ip neigh del 10.0.2.2 dev near");
        assert!(!asked("10.0.2.2", &|| connect("10.0.2.2:7444")), "another port of the key broker's machine");
        assert!(asked("10.0.2.2", &|| connect("10.0.2.2:7443")), "the key broker");
    });
}

/// Whether the peer has not closed yet: one that has probed the port is gone by now.
fn still_open(stream: &TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut stream = stream;
    !matches!(stream.read(&mut [0]), Ok(0))
}

/// What the rules of a chain have counted, in packets.
fn counters(chain: &str) -> Vec<u64> {
    let listed = sh(&format!("nft list chain inet confide {chain}"));
    let counts = listed.split("counter packets ").skip(1);
    counts.map(|count| count.split(' ').next().unwrap().parse().unwrap()).collect()
}

/// What is dropped in the workload's network before it arrives anywhere.
fn dropped() -> u64 {
    counters("output").into_iter().chain(counters("fragments")).sum()
}

#[test]
fn the_workloads_network_leads_to_the_egress_broker_alone() {
    in_a_network_of_its_own("plan::tests::the_workloads_network_leads_to_the_egress_broker_alone", || {
        sh("ip link set lo up; ip route add local default dev lo; ip -6 route add local default dev lo");
        load(workload(Some(LISTENERS)).text());
        let listeners = [format!("127.0.0.1:{}", LISTENERS.tcp), format!("[::1]:{}", LISTENERS.tcp)];
        let [tcp4, tcp6] = listeners.map(|address| TcpListener::bind(address).unwrap());
        // TCP to anywhere ends at the broker, which learns where it was to go, and speaks both ways.
        for (listener, to) in [
            (&tcp4, "1.2.3.4:443"),
            (&tcp4, "10.0.2.2:22"),
            (&tcp4, "169.254.169.254:80"),
            (&tcp4, "8.8.8.8:53"),
            (&tcp4, "192.0.2.1:15001"),
            (&tcp6, "[2606:4700::1]:443"),
            (&tcp6, "[fd00::2]:22"),
        ] {
            let mut workload =
                TcpStream::connect_timeout(&to.parse().unwrap(), Duration::from_secs(5)).unwrap();
            let (mut broker, _) = listener.accept().unwrap();
            assert_eq!(original(&broker), to.parse().unwrap());
            workload.write_all(b"ask").unwrap();
            let mut buffer = [0; 3];
            broker.read_exact(&mut buffer).unwrap();
            broker.write_all(b"say").unwrap();
            workload.read_exact(&mut buffer).unwrap();
            assert_eq!(&buffer, b"say", "{to}");
        }
        // Questions to any resolver do, too.
        let names = UdpSocket::bind(("127.0.0.1", LISTENERS.dns)).unwrap();
        names.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let workload = UdpSocket::bind("0.0.0.0:0").unwrap();
        workload.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        workload.connect("8.8.8.8:53").unwrap();
        workload.send(b"question").unwrap();
        let mut buffer = [0; 8];
        let (_, from) = names.recv_from(&mut buffer).unwrap();
        names.send_to(b"answered", from).unwrap();
        assert_eq!(workload.recv(&mut buffer).unwrap(), 8);
        assert_eq!(&buffer, b"answered");
        // Processes of the workload reach each other.
        let own = TcpListener::bind("127.0.0.1:0").unwrap();
        TcpStream::connect(own.local_addr().unwrap()).unwrap();
        assert_eq!(dropped(), 0);
    });
}

/// Where a redirected connection was to go.
fn original(stream: &TcpStream) -> SocketAddr {
    if stream.local_addr().unwrap().is_ipv4() {
        rustix::net::sockopt::ip_original_dst(stream).unwrap().into()
    } else {
        rustix::net::sockopt::ipv6_original_dst(stream).unwrap().into()
    }
}

#[test]
fn all_else_in_the_workloads_network_is_dropped_and_counted() {
    in_a_network_of_its_own("plan::tests::all_else_in_the_workloads_network_is_dropped_and_counted", || {
        sh("ip link set lo up; ip route add local default dev lo; ip -6 route add local default dev lo");
        // Unprotected, what is sent to any address arrives, for every address is local.
        let everywhere = UdpSocket::bind("0.0.0.0:4444").unwrap();
        everywhere.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        send("1.2.3.4:4444");
        assert_eq!(everywhere.recv(&mut [0; 8]).unwrap(), 1);
        load(workload(Some(LISTENERS)).text());
        let attempts: [(&str, &dyn Fn()); 10] = [
            ("a fragment", &fragment),
            ("a fragment of IPv6", &fragment6),
            ("UDP", &|| send("1.2.3.4:4444")),
            ("QUIC", &|| send("1.2.3.4:443")),
            ("DNS of IPv6 on another port", &|| send("[2606:4700::1]:5353")),
            ("UDP of IPv6", &|| send("[2606:4700::1]:443")),
            ("SCTP", &|| raw_socket(132)),
            ("ICMP", &|| raw_socket(1)),
            ("a raw packet of TCP", &|| raw_socket(6)),
            ("an unknown protocol", &|| raw_socket(253)),
        ];
        for (what, attempt) in attempts {
            let before = dropped();
            attempt();
            // A packet of TCP without a connection is no beginning of one, so that it is not redirected.
            assert!(dropped() > before, "{what} has no drop");
        }
        assert_eq!(counters("fragments"), [1, 1]);
        assert!(everywhere.recv(&mut [0; 8]).is_err(), "a byte has passed");
    });
}
