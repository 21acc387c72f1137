//! The proxy that the environment names.
//!
//! `https_proxy`, else `HTTPS_PROXY`: `http://[user:password@]host[:port]`, asked with CONNECT, so that it sees host names
//! and sizes alone. `no_proxy`, else `NO_PROXY`: a list, separated by commas, of hosts that are reached directly: `*` for
//! all, names (they and what is beneath them), addresses, networks such as `10.0.0.0/8`; each may end in `:port`.

use std::fmt;
use std::net::IpAddr;

use confide_evidence::pem::base64_text;
use confide_evidence::percent;
use http::Uri;

use crate::error::SetupError;
use crate::url::{BaseUrl, port, unbracketed};

/// The proxy that the environment names, and the hosts that are reached without it.
#[derive(Clone, Debug, Default)]
pub struct ProxySettings {
    proxy: Option<Proxy>,
    direct: Vec<Direct>,
}

/// A proxy that is asked with CONNECT (RFC 9110 section 9.3.6).
#[derive(Clone)]
pub(crate) struct Proxy {
    host: String,
    port: u16,
    /// Value of `Proxy-Authorization`.
    authorization: Option<String>,
}

/// Hosts that are reached directly.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Direct {
    host: DirectHost,
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum DirectHost {
    All,
    /// A name and what is beneath it; lower case, without a leading dot.
    Domain(String),
    /// An address and how many of its leading bits count.
    Network(IpAddr, u32),
}

impl ProxySettings {
    /// Every host is reached directly.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// What this process's environment names.
    ///
    /// # Errors
    /// [`SetupError::Proxy`] where it names a proxy that this crate does not speak to.
    pub fn from_environment() -> Result<Self, SetupError> {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    /// As [`from_environment`](Self::from_environment), for the given variables.
    ///
    /// # Errors
    /// As there.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self, SetupError> {
        let first = |names: [&'static str; 2]| {
            names.into_iter().find_map(|name| {
                let value = variable(name)?.trim().to_owned();
                (!value.is_empty()).then_some((name, value))
            })
        };
        let proxy = match first(["https_proxy", "HTTPS_PROXY"]) {
            Some((name, text)) => {
                Some(Proxy::parse(&text).map_err(|reason| SetupError::Proxy { variable: name, reason })?)
            }
            None => None,
        };
        let direct = first(["no_proxy", "NO_PROXY"])
            .map(|(_, list)| list.split(',').filter_map(|entry| Direct::parse(entry.trim())).collect())
            .unwrap_or_default();
        Ok(Self { proxy, direct })
    }

    /// The proxy for a service.
    pub(crate) fn proxy_for(&self, base: &BaseUrl) -> Option<&Proxy> {
        let (host, port) = base.dial_address();
        let proxy = self.proxy.as_ref()?;
        (!self.direct.iter().any(|direct| direct.covers(host, port))).then_some(proxy)
    }
}

impl Proxy {
    fn parse(text: &str) -> Result<Self, &'static str> {
        let with_scheme = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let uri: Uri = with_scheme.parse().map_err(|_| "not a URL")?;
        if uri.scheme_str() != Some("http") {
            return Err("only proxies at http:// addresses are spoken to");
        }
        let authority = uri.authority().ok_or("not a URL")?.as_str();
        let (user, place) = match authority.rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, authority),
        };
        let bracketed = uri.host().unwrap_or_default();
        let port = port(place.strip_prefix(bracketed).unwrap_or_default(), 80).map_err(|_| "no port")?;
        let host = unbracketed(bracketed);
        if host.is_empty() {
            return Err("no host");
        }
        let authorization = user.map(basic).transpose()?;
        Ok(Self { host, port, authorization })
    }

    /// Host and port, to be dialled.
    pub(crate) fn dial_address(&self) -> (&str, u16) {
        (&self.host, self.port)
    }

    /// Value of `Proxy-Authorization`, where the proxy wants one.
    pub(crate) fn authorization(&self) -> Option<&str> {
        self.authorization.as_deref()
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Without the password.
impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({self})")
    }
}

/// Basic credentials (RFC 7617) of the percent-encoded user information of a URL.
fn basic(user: &str) -> Result<String, &'static str> {
    let credentials = percent::decode(user.as_bytes()).ok_or("broken percent-encoding")?;
    let credentials =
        if credentials.contains(&b':') { credentials } else { [&credentials[..], b":"].concat() };
    Ok(format!("Basic {}", base64_text(&credentials)))
}

impl Direct {
    /// `None` for an entry that names nothing.
    fn parse(entry: &str) -> Option<Self> {
        if entry == "*" {
            return Some(Self { host: DirectHost::All, port: None });
        }
        if let Some(network) = network(entry) {
            return Some(Self { host: network, port: None });
        }
        let (host, port) = match entry.rsplit_once(':') {
            Some((host, port)) => (host, Some(port.parse().ok()?)),
            None => (entry, None),
        };
        let host = match network(&unbracketed(host)) {
            Some(network) => network,
            None => DirectHost::Domain(host.trim_start_matches("*.").trim_matches('.').to_ascii_lowercase()),
        };
        (host != DirectHost::Domain(String::new())).then_some(Self { host, port })
    }

    fn covers(&self, host: &str, port: u16) -> bool {
        let host_is_covered = match &self.host {
            DirectHost::All => true,
            DirectHost::Domain(domain) => {
                let host = host.trim_end_matches('.').to_ascii_lowercase();
                host.strip_suffix(domain.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            }
            DirectHost::Network(network, bits) => {
                host.parse().is_ok_and(|address| leading_bits_equal(address, *network, *bits))
            }
        };
        host_is_covered && self.port.is_none_or(|only| only == port)
    }
}

/// `10.0.0.0/8`, or an address alone.
fn network(text: &str) -> Option<DirectHost> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits.parse::<u32>().ok()?)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let bits = bits.unwrap_or(most);
    (bits <= most).then_some(DirectHost::Network(address, bits))
}

fn leading_bits_equal(one: IpAddr, other: IpAddr, bits: u32) -> bool {
    match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => {
            let differing = u32::from(one) ^ u32::from(other);
            differing.leading_zeros() >= bits
        }
        (IpAddr::V6(one), IpAddr::V6(other)) => {
            let differing = u128::from(one) ^ u128::from(other);
            differing.leading_zeros() >= bits
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)]) -> Result<ProxySettings, SetupError> {
        ProxySettings::from_variables(|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    fn proxy_for(variables: &[(&str, &str)], url: &str) -> Option<String> {
        settings(variables).unwrap().proxy_for(&url.parse().unwrap()).map(ToString::to_string)
    }

    #[test]
    fn the_proxy_of_the_environment() {
        for (value, expected) in [
            ("http://proxy.example:3128", "proxy.example:3128"),
            ("http://proxy.example/", "proxy.example:80"),
            ("proxy.example:3128", "proxy.example:3128"),
            ("http://[::1]:3128", "::1:3128"),
            ("http://name:word@proxy.example:3128", "proxy.example:3128"),
        ] {
            let found = proxy_for(&[("HTTPS_PROXY", value)], "https://a.example");
            assert_eq!(found.as_deref(), Some(expected), "{value}");
        }
        assert_eq!(proxy_for(&[], "https://a.example"), None);
        assert_eq!(proxy_for(&[("HTTPS_PROXY", " ")], "https://a.example"), None);
        let both = [("HTTPS_PROXY", "http://upper.example:1"), ("https_proxy", "http://lower.example:2")];
        assert_eq!(proxy_for(&both, "https://a.example").as_deref(), Some("lower.example:2"));
    }

    #[test]
    fn credentials_are_sent_and_not_shown() {
        let found = settings(&[("HTTPS_PROXY", "http://name:p%40ss@proxy.example")]).unwrap();
        // printf 'name:p@ss' | base64
        assert_eq!(found.proxy.as_ref().unwrap().authorization(), Some("Basic bmFtZTpwQHNz"));
        assert!(!format!("{found:?}").contains("bmFt"), "{found:?}");
        let error = settings(&[("HTTPS_PROXY", "socks5://name:secret@proxy.example")]).unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
    }

    #[test]
    fn proxies_that_are_not_spoken_to_are_refused() {
        for value in
            ["https://proxy.example", "socks5://proxy.example", "http://", "http://a:0", "http://u%2@a"]
        {
            let error = settings(&[("HTTPS_PROXY", value)]).unwrap_err();
            assert_eq!(error.code(), "endorser_proxy", "{value}");
        }
    }

    #[test]
    fn hosts_that_are_reached_directly() {
        let through = |no_proxy: &str, url: &str| {
            proxy_for(&[("HTTPS_PROXY", "http://p:1"), ("NO_PROXY", no_proxy)], url).is_some()
        };
        for (no_proxy, url) in [
            ("*", "https://a.example"),
            ("a.example", "https://a.example"),
            ("b.example, .A.example", "https://x.a.example"),
            ("*.a.example", "https://x.a.example"),
            ("a.example:8081", "https://a.example:8081"),
            ("127.0.0.1", "https://127.0.0.1:8081"),
            ("10.0.0.0/8", "https://10.2.3.4"),
            ("fd00::/8", "https://[fd00::7]"),
            ("[::1]:8081", "https://[::1]:8081"),
            ("::1", "https://[::1]"),
        ] {
            assert!(!through(no_proxy, url), "{no_proxy} covers {url}");
        }
        for (no_proxy, url) in [
            ("", "https://a.example"),
            (",,", "https://a.example"),
            ("example.org", "https://a.example"),
            ("a.example", "https://xa.example"),
            ("a.example:8081", "https://a.example"),
            ("10.0.0.0/8", "https://11.2.3.4"),
            ("10.0.0.0/33", "https://10.0.0.0"),
            ("0.0.0.0/0", "https://[::1]"),
            ("::1", "https://[::2]"),
        ] {
            assert!(through(no_proxy, url), "{no_proxy} does not cover {url}");
        }
    }
}
