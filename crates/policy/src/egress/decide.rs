//! Whether a destination is allowed, and by which rule.

use super::{EgressPolicy, HostName, Phase, Rule, To, Transport};
use std::fmt;
use std::net::IpAddr;

/// Where somebody wants to go.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// To a host by its name.
    Name(HostName),
    /// To an address, whoever is there.
    Ip(IpAddr),
}

/// Where somebody wants to go, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// Whom.
    pub host: Host,
    /// Which port.
    pub port: u16,
    /// Over what.
    pub transport: Transport,
}

/// What the policy says of a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision<'a> {
    /// It is allowed, as this rule says and within its caps.
    Allowed(&'a Rule),
    /// It is not.
    Denied(Denial),
}

/// Why a destination is not allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Denial {
    /// No rule is for this host.
    Host,
    /// Rules for this host are over another protocol.
    Transport,
    /// Rules for this host are for other ports.
    Port,
}

impl Denial {
    /// The stable code of drop records.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Host => "host_not_listed",
            Self::Transport => "protocol_not_listed",
            Self::Port => "port_not_listed",
        }
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Host => "no rule of this phase is for this host",
            Self::Transport => "the rules for this host are over another protocol",
            Self::Port => "the rules for this host are for other ports",
        })
    }
}

impl fmt::Display for Host {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(formatter, "{name}"),
            Self::Ip(IpAddr::V6(address)) => write!(formatter, "[{address}]"),
            Self::Ip(address) => write!(formatter, "{address}"),
        }
    }
}

/// `api.example.com:443/tcp`, `[2001:db8::1]:53/udp`.
impl fmt::Display for Destination {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}/{}", self.host, self.port, self.transport.name())
    }
}

impl EgressPolicy {
    /// What the policy says of a destination. Of the rules that are for host, protocol and port the most specific one decides: an
    /// exact name before a wildcard, a smaller network before a larger one. A name is never looked up: rules with `cidr` are for
    /// those who ask for an address.
    #[must_use]
    pub fn decide(&self, phase: Phase, destination: &Destination) -> Decision<'_> {
        let rules = self.rules(phase);
        let of_host = || rules.iter().filter(|rule| rule.to.matches(&destination.host));
        let over_it = || of_host().filter(|rule| rule.transport() == destination.transport);
        let to_it = over_it().filter(|rule| rule.ports.contains(&destination.port));
        match to_it.max_by_key(|rule| rule.to.specificity()) {
            Some(rule) => Decision::Allowed(rule),
            None if of_host().next().is_none() => Decision::Denied(Denial::Host),
            None if over_it().next().is_none() => Decision::Denied(Denial::Transport),
            None => Decision::Denied(Denial::Port),
        }
    }
}

impl To {
    /// Whether the rule is for this host.
    fn matches(&self, host: &Host) -> bool {
        match (self, host) {
            (Self::Name { pattern, .. }, Host::Name(name)) => pattern.matches(name),
            (Self::Network { network, .. }, Host::Ip(address)) => network.matches(*address),
            _ => false,
        }
    }
}
