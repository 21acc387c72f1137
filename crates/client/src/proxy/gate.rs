//! Which local requests are taken: those of programs, not those that a web page made a browser send.

use http::uri::Authority;
use http::{HeaderMap, Uri, header};
use std::net::{IpAddr, SocketAddr};

/// Why a request is refused before anything else is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// A browser sends it for a page of another origin.
    Origin,
    /// It names another host than this one: a page whose name was made to point here (DNS rebinding).
    Host,
}

impl Refusal {
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::Origin => "origin_refused",
            Self::Host => "host_refused",
        }
    }

    pub(super) fn message(self) -> &'static str {
        match self {
            Self::Origin => "requests of web pages from other origins are refused",
            Self::Host => "the Host field names another host than this local endpoint",
        }
    }
}

/// Looks at `Origin`, `Sec-Fetch-Site` and `Host`.
pub(super) fn check(headers: &HeaderMap, local: SocketAddr) -> Result<(), Refusal> {
    check_origin(headers)?;
    check_host(headers, local)
}

fn check_origin(headers: &HeaderMap) -> Result<(), Refusal> {
    if headers.get("sec-fetch-site").is_some_and(|site| site == "cross-site") {
        return Err(Refusal::Origin);
    }
    for origin in headers.get_all(header::ORIGIN) {
        let uri = origin.to_str().ok().and_then(|text| text.parse::<Uri>().ok());
        if !uri.as_ref().and_then(Uri::host).is_some_and(is_loopback) {
            return Err(Refusal::Origin);
        }
    }
    Ok(())
}

/// A listener that is reachable from elsewhere cannot know all its names; one on loopback can.
fn check_host(headers: &HeaderMap, local: SocketAddr) -> Result<(), Refusal> {
    if !local.ip().is_loopback() {
        return Ok(());
    }
    for host in headers.get_all(header::HOST) {
        let authority = host.to_str().ok().and_then(|text| text.parse::<Authority>().ok());
        if !authority.as_ref().is_some_and(|authority| is_loopback(authority.host())) {
            return Err(Refusal::Host);
        }
    }
    Ok(())
}

/// Whether a host of a URL is this machine by its form alone: `localhost`, names beneath it (RFC 6761 section 6.3) and
/// loopback addresses.
fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
    match host.parse::<IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => host == "localhost" || host.ends_with(".localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCAL: &str = "127.0.0.1:8787";

    fn checked(fields: &[(&'static str, &str)]) -> Result<(), Refusal> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        check(&headers, LOCAL.parse().unwrap())
    }

    #[test]
    fn programs_and_local_pages_are_taken() {
        for fields in [
            &[("host", "127.0.0.1:8787")][..],
            &[("host", "localhost:8787"), ("origin", "http://localhost:3000")],
            &[("host", "[::1]:8787"), ("origin", "http://127.0.0.1")],
            &[("host", "app.localhost"), ("origin", "http://[::1]:1"), ("sec-fetch-site", "same-site")],
        ] {
            assert_eq!(checked(fields), Ok(()), "{fields:?}");
        }
    }

    #[test]
    fn pages_of_other_origins_are_refused() {
        for origin in [
            "https://evil.example",
            "http://localhost.evil.example",
            "http://127.0.0.1.evil.example:8787",
            "http://evillocalhost",
            "null",
            "",
            "http://10.0.0.1",
        ] {
            let fields = [("host", LOCAL), ("origin", origin)];
            assert_eq!(checked(&fields), Err(Refusal::Origin), "{origin:?}");
        }
        assert_eq!(checked(&[("host", LOCAL), ("sec-fetch-site", "cross-site")]), Err(Refusal::Origin));
        let two = [("host", LOCAL), ("origin", "http://localhost"), ("origin", "https://evil.example")];
        assert_eq!(checked(&two), Err(Refusal::Origin));
    }

    #[test]
    fn rebound_names_are_refused_on_loopback() {
        for host in ["evil.example:8787", "192.0.2.1", "", "localhost.evil.example"] {
            assert_eq!(checked(&[("host", host)]), Err(Refusal::Host), "{host:?}");
        }
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, "gateway.example".parse().unwrap());
        assert_eq!(check(&headers, "192.0.2.1:8787".parse().unwrap()), Ok(()));
    }
}
