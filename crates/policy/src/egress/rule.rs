//! One rule: where to, how, and how much.

use super::{NamePattern, Network};
use serde::Deserialize;
use std::fmt;

/// The most ports of one rule. Services have one or two.
const MAX_PORTS: usize = 16;
/// The most connections at a time that a rule may allow: as many as a peer's port numbers tell apart.
const MAX_CONNECTIONS: u32 = 65_535;
/// The most bytes, a second or in all, that a rule may allow: 1 PiB, which no link of today brings in a day.
const MAX_BYTES: u64 = 1 << 50;
/// Connections at a time where the rule does not say: a few clients with a few connections each.
pub const DEFAULT_CONNECTIONS: u32 = 64;
/// Bytes a second where the rule does not say: 16 MiB, about a link of 100 Mbit/s.
pub const DEFAULT_BYTES_PER_SECOND: u64 = 16 << 20;
/// Bytes in all where the rule does not say: 1 GiB. Who fetches models says how much that is.
pub const DEFAULT_TOTAL_BYTES: u64 = 1 << 30;

/// What is allowed to go where.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "RuleForm")]
pub struct Rule {
    /// The destination, and how it is reached.
    pub to: To,
    /// TCP or UDP ports, ascending, 1 to 16 of them.
    pub ports: Vec<u16>,
    /// How much.
    pub caps: Caps,
}

/// Destinations of a rule, and how they are reached.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum To {
    /// Hosts by their names, over TCP.
    Name {
        /// Which names.
        pattern: NamePattern,
        /// Who makes sure that it is this host.
        mode: Mode,
    },
    /// Addresses. Nobody makes sure who answers there: the host is the network.
    Network {
        /// Which addresses.
        network: Network,
        /// Over what.
        transport: Transport,
    },
}

/// Who makes sure that the host behind a name is the one that is meant. What comes later is weaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The egress broker: it originates TLS and validates the server's certificate for the name.
    Terminate,
    /// The workload, if anybody: it originates TLS, and the broker looks at the name in its first message (SNI) alone. The host sees
    /// the name, and whoever serves another name at the same address can be reached under this one (domain fronting).
    Passthrough,
    /// Nobody: the host sees and may answer everything.
    Plain,
}

/// The protocol below the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// How much a rule may be used, by all of its destinations and ports together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Caps {
    /// Connections at a time.
    pub connections: u32,
    /// Bytes a second, sent and received together.
    pub bytes_per_second: u64,
    /// Bytes since the phase began, sent and received together.
    pub total_bytes: u64,
}

impl Rule {
    /// Whether the host sees what goes there, or may answer in the place of who is meant.
    #[must_use]
    pub fn is_host_visible(&self) -> bool {
        !matches!(self.to, To::Name { mode: Mode::Terminate, .. })
    }

    /// Over what the destination is reached.
    #[must_use]
    pub fn transport(&self) -> Transport {
        match self.to {
            To::Name { .. } => Transport::Tcp,
            To::Network { transport, .. } => transport,
        }
    }
}

impl Caps {
    /// Whether these are at most those.
    pub(super) fn within(&self, other: &Self) -> bool {
        self.connections <= other.connections
            && self.bytes_per_second <= other.bytes_per_second
            && self.total_bytes <= other.total_bytes
    }
}

impl Mode {
    /// The word in policies and claims.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Terminate => "terminate",
            Self::Passthrough => "passthrough",
            Self::Plain => "plain",
        }
    }
}

impl Transport {
    /// The word in policies and claims.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

impl To {
    /// How the destination is reached: a word of [`Mode`] or of [`Transport`].
    pub(super) fn how(&self) -> &'static str {
        match self {
            Self::Name { mode, .. } => mode.name(),
            Self::Network { transport, .. } => transport.name(),
        }
    }

    /// The destinations as they stand in the policy.
    pub(super) fn whom(&self) -> String {
        match self {
            Self::Name { pattern, .. } => pattern.to_string(),
            Self::Network { network, .. } => network.to_string(),
        }
    }
}

/// As it stands in claims, logs and errors, and the same for equal destinations: `terminate api.example.com:443`,
/// `tcp 192.0.2.0/24:80,443`.
impl fmt::Display for Rule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}:", self.to.how(), self.to.whom())?;
        for (place, port) in self.ports.iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            write!(formatter, "{comma}{port}")?;
        }
        Ok(())
    }
}

/// The table as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleForm {
    name: Option<String>,
    cidr: Option<String>,
    ports: Vec<u16>,
    mode: Option<Mode>,
    protocol: Option<Transport>,
    connections: Option<u32>,
    bytes_per_second: Option<u64>,
    total_bytes: Option<u64>,
}

impl TryFrom<RuleForm> for Rule {
    type Error = String;

    fn try_from(form: RuleForm) -> Result<Self, String> {
        let RuleForm { name, cidr, ports, mode, protocol, connections, bytes_per_second, total_bytes } = form;
        let to = match (name, cidr) {
            (Some(_), None) if protocol.is_some() => {
                return Err("protocol goes with cidr alone: names are reached over TCP".to_owned());
            }
            (Some(name), None) => {
                let pattern = NamePattern::parse(&name)?;
                To::Name { pattern, mode: mode.unwrap_or(Mode::Terminate) }
            }
            (None, Some(_)) if mode.is_some() => {
                return Err("mode goes with name alone: nothing says who an address is".to_owned());
            }
            (None, Some(cidr)) => {
                let transport = protocol.ok_or("a rule with cidr needs protocol = \"tcp\" or \"udp\"")?;
                To::Network { network: Network::parse(&cidr)?, transport }
            }
            _ => return Err("expected exactly one of name, cidr".to_owned()),
        };
        let caps = Caps {
            connections: connections.unwrap_or(DEFAULT_CONNECTIONS),
            bytes_per_second: bytes_per_second.unwrap_or(DEFAULT_BYTES_PER_SECOND),
            total_bytes: total_bytes.unwrap_or(DEFAULT_TOTAL_BYTES),
        };
        within("connections", u64::from(caps.connections), u64::from(MAX_CONNECTIONS))?;
        within("bytes_per_second", caps.bytes_per_second, MAX_BYTES)?;
        within("total_bytes", caps.total_bytes, MAX_BYTES)?;
        Ok(Self { to, ports: ascending(ports)?, caps })
    }
}

/// A cap of nothing would be a rule that allows nothing.
fn within(field: &str, found: u64, most: u64) -> Result<(), String> {
    match (1..=most).contains(&found) {
        true => Ok(()),
        false => Err(format!("{field} is {found}, expected 1 to {most}")),
    }
}

fn ascending(mut ports: Vec<u16>) -> Result<Vec<u16>, String> {
    if !(1..=MAX_PORTS).contains(&ports.len()) || ports.contains(&0) {
        return Err(format!("expected 1 to {MAX_PORTS} ports, each from 1 to 65535"));
    }
    let given = ports.len();
    ports.sort_unstable();
    ports.dedup();
    match ports.len() == given {
        true => Ok(ports),
        false => Err("ports: one stands there twice".to_owned()),
    }
}
