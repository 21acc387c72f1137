//! The rules that the kernel keeps, as text for `nft -f -`. Nothing here is put into force:
//! [`Enforcement`](crate::Enforcement) does that.
//!
//! There are two networks. The guest's own has the device to the outside: nothing leaves it but answers to clients, what root
//! asks of the key broker, and what the egress broker may ask for by the policy. The workload's has only `lo`, with local routes
//! for every address: all that it asks for over TCP ends at the egress broker, which learns the address that was meant, and
//! everything else is dropped and recorded.
//!
//! The egress broker resolves names itself, so that addresses are not known when the rules are written. They therefore let its
//! user through to every public address on the ports of rules with names, and do not hold a set of addresses that fills while the
//! guest serves: a process that could add to the set could change the rules, and after the lock there is to be none.

#[cfg(test)]
mod tests;

use std::fmt::{Display, Write as _};
use std::net::{IpAddr, SocketAddr};

use confide_evidence::bytes::Digest;
use confide_evidence::hash::sha256;
use confide_policy::egress::{DnsUpstream, EgressPolicy, Network, Phase, To, Transport};

use crate::address::{GLOBAL_V6, SPECIAL_V4, SPECIAL_V6};

/// User of the egress broker: nobody else's.
pub const BROKER_USER: u32 = 990;
/// User that the guest serves as, once it needs root's files no more: nobody else's.
pub const SERVING_USER: u32 = 991;
/// The group of netlink to which the kernel tells what it drops (`NFLOG`): in the workload's network all of it, in the guest's own
/// what was to leave or to pass through. What arrives there unasked is counted alone, for its sender is the host.
pub const LOG_GROUP: u16 = 990;
/// Where the egress broker listens within the workload's network.
pub const LISTENERS: Listeners = Listeners { tcp: 15_001, dns: 15_053 };
/// Where it listens there as a proxy, on 127.0.0.1 and ::1.
pub const PROXY_PORT: u16 = 3128;

/// Why there are no rules for a policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// A rule for UDP.
    #[error("{0:?} is over UDP, and the egress broker carries TCP alone: remove the rule")]
    Udp(String),
}

/// Rules for `nft -f -`, which takes all of them or none. The same for the same arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruleset(String);

impl Ruleset {
    /// The rules.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }

    /// SHA-256 of the text.
    #[must_use]
    pub fn digest(&self) -> Digest {
        sha256(self.0.as_bytes())
    }
}

/// What there is to reach and to be reached in the guest's own network, beside the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestNetwork {
    /// The port of clients.
    pub serving_port: u16,
    /// Whom root may ask for the keys of volumes. While it serves, [`SERVING_USER`] tells it why this boot ends.
    pub key_broker: Option<SocketAddr>,
}

/// The rules of the guest's own network.
///
/// # Errors
/// [`PlanError`] where the policy has a rule in this phase that nobody carries out.
pub fn guest(policy: &EgressPolicy, phase: Phase, network: GuestNetwork) -> Result<Ruleset, PlanError> {
    let mut input = String::new();
    let mut output = String::new();
    let port = network.serving_port;
    line(&mut input, format_args!("tcp dport {port} accept"));
    line(&mut output, format_args!("tcp sport {port} {ANSWER} accept"));
    let mut exit = |user: &dyn Display, to: String, port: &str| {
        let from = to.replace("daddr", "saddr");
        line(&mut input, format_args!("{from} tcp sport {port} {ANSWER} accept"));
        line(&mut output, format_args!("meta skuid {user} {to} tcp dport {port} accept"));
    };
    if let Some(broker) = network.key_broker {
        let users = match phase {
            Phase::Bootstrap => "0".to_owned(),
            Phase::Serving => format!("{{ 0, {SERVING_USER} }}"),
        };
        exit(&users, format!("{} daddr {}", family(broker.ip()), broker.ip()), &broker.port().to_string());
    }
    let rules = policy.rules(phase);
    let mut ports_of_names = Vec::new();
    for rule in rules {
        match &rule.to {
            To::Network { transport: Transport::Udp, .. } => return Err(PlanError::Udp(rule.to_string())),
            To::Network { network, .. } => exit(&BROKER_USER, addresses(network), &set(rule.ports.iter())),
            To::Name { .. } => ports_of_names.extend(&rule.ports),
        }
    }
    if !ports_of_names.is_empty() {
        for upstream in policy.dns() {
            resolver(upstream, &mut exit);
        }
        ports_of_names.sort_unstable();
        ports_of_names.dedup();
        let ports = set(ports_of_names.iter());
        let [v4, v6] = public();
        exit(&BROKER_USER, v4, &ports);
        exit(&BROKER_USER, v6, &ports);
    }
    let drop = told_drop();
    Ok(Ruleset(format!(
        "flush ruleset\n\
         table inet confide {{\n\
         \tchain fragments {{\n\
         \t\ttype filter hook prerouting priority {BEFORE_REASSEMBLY}; policy accept;\n\
         {FRAGMENTS}\
         \t}}\n\
         \tchain input {{\n\
         \t\ttype filter hook input priority filter; policy drop;\n\
         \t\tiifname \"lo\" accept\n\
         {input}\
         \t\tcounter drop\n\
         \t}}\n\
         \tchain forward {{\n\
         \t\ttype filter hook forward priority filter; policy drop;\n\
         \t\t{drop}\n\
         \t}}\n\
         \tchain output {{\n\
         \t\ttype filter hook output priority filter; policy drop;\n\
         \t\toifname \"lo\" accept\n\
         {output}\
         \t\t{drop}\n\
         \t}}\n\
         }}\n"
    )))
}

/// Where the egress broker listens within the workload's network, on 127.0.0.1 and ::1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listeners {
    /// For every connection over TCP. The kernel says for each which address was meant (`SO_ORIGINAL_DST`).
    pub tcp: u16,
    /// For every question to port 53 over UDP.
    pub dns: u16,
}

/// The rules of the workload's network. They are the same for every policy: what is allowed, the egress broker decides. Where there
/// is none, TCP and questions are dropped as all else is.
///
/// What the workload's processes say to each other on 127.0.0.0/8 and ::1 passes: it leads nowhere else.
#[must_use]
pub fn workload(broker: Option<Listeners>) -> Ruleset {
    let drop = told_drop();
    let fragments = FRAGMENTS.replace("counter drop", &drop);
    let to_broker = broker.map_or_else(String::new, |Listeners { tcp, dns }| {
        format!(
            "\tchain to_broker {{\n\
             \t\ttype nat hook output priority -100; policy accept;\n\
             \t\tip daddr 127.0.0.0/8 accept\n\
             \t\tip6 daddr ::1 accept\n\
             \t\tmeta l4proto tcp redirect to :{tcp}\n\
             \t\tudp dport 53 redirect to :{dns}\n\
             \t}}\n"
        )
    });
    let within = format!(
        "\t\tip daddr 127.0.0.0/8 meta l4proto {{ tcp, udp }} accept\n\
         \t\tip6 daddr ::1 meta l4proto {{ tcp, udp }} accept\n\
         \t\tmeta l4proto {{ tcp, udp }} {ANSWER} accept\n\
         \t\t{drop}\n"
    );
    Ruleset(format!(
        "flush ruleset\n\
         table inet confide {{\n\
         \tchain fragments {{\n\
         \t\ttype filter hook output priority {BEFORE_REASSEMBLY}; policy accept;\n\
         {fragments}\
         \t}}\n\
         {to_broker}\
         \tchain input {{\n\
         \t\ttype filter hook input priority filter; policy drop;\n\
         {within}\
         \t}}\n\
         \tchain forward {{\n\
         \t\ttype filter hook forward priority filter; policy drop;\n\
         \t\t{drop}\n\
         \t}}\n\
         \tchain output {{\n\
         \t\ttype filter hook output priority filter; policy drop;\n\
         {within}\
         \t}}\n\
         }}\n"
    ))
}

/// What answers within a connection that was let through the other way. Ports and addresses of it are always named beside it: of a
/// connection from before the rules the kernel takes for the beginning what it sees first.
const ANSWER: &str = "ct direction reply ct state established";
/// Connection tracking puts fragments together at -400.
const BEFORE_REASSEMBLY: i32 = -450;
/// Pieces of packets, whose ports nobody sees: all but "more fragments" and an offset of zero of IPv4, and IPv6's fragment header.
const FRAGMENTS: &str = "\t\tip frag-off & 0x3fff != 0 counter drop\n\t\texthdr frag exists counter drop\n";

/// Drops what no rule before it lets through, and tells of it.
fn told_drop() -> String {
    format!("log group {LOG_GROUP} snaplen 128 counter drop")
}

fn line(chain: &mut String, rule: std::fmt::Arguments<'_>) {
    writeln!(chain, "\t\t{rule}").expect("a string takes what is written to it");
}

fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "ip" } else { "ip6" }
}

fn addresses(network: &Network) -> String {
    format!("{} daddr {network}", family(network.address()))
}

/// The addresses that names may lead to, of each family.
fn public() -> [String; 2] {
    let (global, bits) = GLOBAL_V6;
    [
        format!("ip daddr != {{ {} }}", ranges(&SPECIAL_V4)),
        format!("ip6 daddr {global}/{bits} ip6 daddr != {{ {} }}", ranges(&SPECIAL_V6)),
    ]
}

/// `10.0.0.0/8, 127.0.0.0/8`.
fn ranges<A: Display>(ranges: &[(A, u32)]) -> String {
    let ranges: Vec<String> = ranges.iter().map(|(first, bits)| format!("{first}/{bits}")).collect();
    ranges.join(", ")
}

fn resolver(upstream: &DnsUpstream, exit: &mut impl FnMut(&dyn Display, String, &str)) {
    for address in &upstream.addresses {
        let address = address.to_canonical();
        exit(&BROKER_USER, format!("{} daddr {address}", family(address)), &upstream.port.to_string());
    }
}

/// An anonymous set: `{ 80, 443 }`.
fn set<'a>(ports: impl Iterator<Item = &'a u16>) -> String {
    let ports: Vec<String> = ports.map(ToString::to_string).collect();
    format!("{{ {} }}", ports.join(", "))
}
