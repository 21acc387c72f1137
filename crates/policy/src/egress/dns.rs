//! Who is asked for the addresses of names.

use super::HostName;
use serde::Deserialize;
use std::net::IpAddr;

/// The most upstreams. One is asked, and a few stand in for it.
const MAX_UPSTREAMS: usize = 4;
/// The most addresses of an upstream: public services have two of IPv4 and two of IPv6.
const MAX_UPSTREAM_ADDRESSES: usize = 8;
/// The longest path of a DoH service, in bytes. Most are `/dns-query`.
const MAX_DNS_PATH: usize = 128;

/// The table `[dns]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DnsForm {
    upstreams: Vec<DnsUpstream>,
}

impl DnsForm {
    /// The upstreams in the order in which they are asked.
    pub(super) fn upstreams(self) -> Result<Vec<DnsUpstream>, usize> {
        match self.upstreams.len() {
            1..=MAX_UPSTREAMS => Ok(self.upstreams),
            other => Err(other),
        }
    }
}

/// A DNS resolver that is asked over TLS and shows a certificate for its name.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "UpstreamForm")]
pub struct DnsUpstream {
    /// DNS over TLS or over HTTPS.
    pub protocol: DnsProtocol,
    /// The name for which its certificate must be.
    pub name: HostName,
    /// Its addresses, 1 to 8. They are not trusted: the certificate is.
    pub addresses: Vec<IpAddr>,
    /// Its port.
    pub port: u16,
}

/// How a resolver is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DnsProtocol {
    /// DNS over TLS (RFC 7858).
    Tls,
    /// DNS over HTTPS (RFC 8484).
    Https {
        /// The path of its URI, such as `/dns-query`.
        path: String,
    },
}

impl DnsProtocol {
    /// The word in policies.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Tls => "tls",
            Self::Https { .. } => "https",
        }
    }
}

/// The table as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UpstreamForm {
    protocol: ProtocolWord,
    name: HostName,
    addresses: Vec<IpAddr>,
    port: Option<u16>,
    path: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum ProtocolWord {
    Tls,
    Https,
}

impl TryFrom<UpstreamForm> for DnsUpstream {
    type Error = String;

    fn try_from(form: UpstreamForm) -> Result<Self, String> {
        let UpstreamForm { protocol, name, addresses, port, path } = form;
        let (protocol, usual) = match (protocol, path) {
            (ProtocolWord::Tls, None) => (DnsProtocol::Tls, 853),
            (ProtocolWord::Tls, Some(_)) => {
                return Err("path goes with protocol = \"https\" alone".to_owned());
            }
            (ProtocolWord::Https, path) => {
                let path = path.unwrap_or_else(|| "/dns-query".to_owned());
                (DnsProtocol::Https { path: plain(path)? }, 443)
            }
        };
        let port = port.unwrap_or(usual);
        if port == 0 {
            return Err("port is 0, expected 1 to 65535".to_owned());
        }
        let nobody = |address: &IpAddr| address.is_unspecified() || address.is_multicast();
        if !(1..=MAX_UPSTREAM_ADDRESSES).contains(&addresses.len()) || addresses.iter().any(nobody) {
            return Err(format!("expected 1 to {MAX_UPSTREAM_ADDRESSES} addresses, each of one machine"));
        }
        Ok(Self { protocol, name, addresses, port })
    }
}

/// A path that needs no escapes in a request line.
fn plain(path: String) -> Result<String, String> {
    let safe = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
    match path.len() <= MAX_DNS_PATH && path.starts_with('/') && path.bytes().all(safe) {
        true => Ok(path),
        false => {
            Err(format!("path: expected / and then letters, digits and /-._~, at most {MAX_DNS_PATH} bytes"))
        }
    }
}
