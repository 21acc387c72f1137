//! The canonical form of an egress policy, whose digest is measured.

use super::{DnsProtocol, DnsUpstream, EGRESS_FORMAT, EgressPolicy, Rule};
use confide_evidence::bytes::Digest;
use confide_evidence::cbor;
use confide_evidence::hash::sha256;
use serde::Serialize;

/// Fields in canonical order: shorter names first (RFC 8949 section 4.2.1).
#[derive(Serialize)]
struct CanonicalPolicy<'a> {
    dns: Vec<CanonicalUpstream<'a>>,
    log: &'static str,
    name: &'a str,
    format: &'static str,
    serving: Vec<CanonicalRule>,
    bootstrap: Vec<CanonicalRule>,
}

#[derive(Serialize)]
struct CanonicalUpstream<'a> {
    name: &'a str,
    path: Option<&'a str>,
    port: u16,
    protocol: &'static str,
    addresses: Vec<String>,
}

#[derive(Serialize)]
struct CanonicalRule {
    to: String,
    how: &'static str,
    ports: Vec<u16>,
    connections: u32,
    total_bytes: u64,
    bytes_per_second: u64,
}

impl EgressPolicy {
    /// SHA-256 of the canonical CBOR of the policy: comments, the order of rules and of ports, and whether a default is written
    /// out make no difference. The order of DNS upstreams and of their addresses, in which they are asked, does.
    ///
    /// # Panics
    /// Never: every policy can be encoded.
    #[must_use]
    pub fn digest(&self) -> Digest {
        sha256(&self.canonical())
    }

    fn canonical(&self) -> Vec<u8> {
        let form = CanonicalPolicy {
            dns: self.dns.iter().map(upstream).collect(),
            log: self.log.name(),
            name: self.name.as_str(),
            format: EGRESS_FORMAT,
            serving: self.serving.iter().map(rule).collect(),
            bootstrap: self.bootstrap.iter().map(rule).collect(),
        };
        cbor::to_canonical(&form).expect("the fields stand in canonical order")
    }
}

fn upstream(upstream: &DnsUpstream) -> CanonicalUpstream<'_> {
    let path = match &upstream.protocol {
        DnsProtocol::Tls => None,
        DnsProtocol::Https { path } => Some(path.as_str()),
    };
    CanonicalUpstream {
        name: upstream.name.as_str(),
        path,
        port: upstream.port,
        protocol: upstream.protocol.name(),
        addresses: upstream.addresses.iter().map(ToString::to_string).collect(),
    }
}

fn rule(rule: &Rule) -> CanonicalRule {
    CanonicalRule {
        to: rule.to.whom(),
        how: rule.to.how(),
        ports: rule.ports.clone(),
        connections: rule.caps.connections,
        total_bytes: rule.caps.total_bytes,
        bytes_per_second: rule.caps.bytes_per_second,
    }
}
