//! Which local requests are taken: those of programs, not those that a web page made a browser send.

use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, StatusCode, Uri, Version, header};
use std::net::{IpAddr, SocketAddr};

/// Why a request is refused before anything else is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// A browser sends it for a page of another origin.
    Origin,
    /// It names another host than this one: a page whose name was made to point here (DNS rebinding), or a program that
    /// takes this endpoint for a proxy of the web.
    Host,
    /// It names no host, or several (RFC 9112 section 3.2).
    HostField,
}

impl Refusal {
    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::Origin | Self::Host => StatusCode::FORBIDDEN,
            Self::HostField => StatusCode::BAD_REQUEST,
        }
    }

    pub(super) fn code(self) -> &'static str {
        match self {
            Self::Origin => "origin_refused",
            Self::Host => "host_refused",
            Self::HostField => "host_malformed",
        }
    }

    pub(super) fn message(self) -> &'static str {
        match self {
            Self::Origin => "requests of web pages from other origins are refused",
            Self::Host => "the request names another host than this local endpoint",
            Self::HostField => "a request must have one Host field",
        }
    }
}

/// Looks at `Origin`, `Sec-Fetch-Site`, `Host` and the host in the target.
pub(super) fn check(request: &Parts, local: SocketAddr) -> Result<(), Refusal> {
    check_origin(&request.headers)?;
    check_host_field(request)?;
    check_host(request, local)
}

/// What browsers say of the page that a request is for (Fetch Metadata section 2.4): its own, of another port or name
/// of the same site, or nobody's.
const SAME_SITE: [&str; 3] = ["same-origin", "same-site", "none"];

fn check_origin(headers: &HeaderMap) -> Result<(), Refusal> {
    let site = headers.get_all("sec-fetch-site").iter();
    if site.into_iter().any(|site| !SAME_SITE.iter().any(|same| site == same)) {
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

fn check_host_field(request: &Parts) -> Result<(), Refusal> {
    match (request.headers.get_all(header::HOST).iter().count(), request.version) {
        (1, _) | (0, Version::HTTP_10) => Ok(()),
        _ => Err(Refusal::HostField),
    }
}

/// A listener that is reachable from elsewhere cannot know all its names; one on loopback can. A host in the target goes
/// before the field (RFC 9112 section 3.2.2), so that neither may name another.
fn check_host(request: &Parts, local: SocketAddr) -> Result<(), Refusal> {
    if !local.ip().is_loopback() {
        return Ok(());
    }
    let here = |authority: &Authority| !authority.as_str().contains('@') && is_loopback(authority.host());
    if request.uri.authority().is_some_and(|authority| !here(authority)) {
        return Err(Refusal::Host);
    }
    for host in request.headers.get_all(header::HOST) {
        let authority = host.to_str().ok().and_then(|text| text.parse::<Authority>().ok());
        if !authority.as_ref().is_some_and(here) {
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

    fn request(target: &str, version: Version, fields: &[(&'static str, &str)]) -> Parts {
        let mut request = http::Request::builder().uri(target).version(version);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn checked(fields: &[(&'static str, &str)]) -> Result<(), Refusal> {
        check(&request("/v1/models", Version::HTTP_11, fields), LOCAL.parse().unwrap())
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
            "http://localhost@evil.example",
            "http://evillocalhost",
            "chrome-extension://abcdefghijklmnop",
            "file://",
            "null",
            "",
            "http://10.0.0.1",
        ] {
            let fields = [("host", LOCAL), ("origin", origin)];
            assert_eq!(checked(&fields), Err(Refusal::Origin), "{origin:?}");
        }
        for fields in [
            &[("host", LOCAL), ("sec-fetch-site", "cross-site")][..],
            &[("host", LOCAL), ("sec-fetch-site", "same-origin"), ("sec-fetch-site", "cross-site")],
            &[("host", LOCAL), ("sec-fetch-site", "of a later standard")],
            &[("host", LOCAL), ("origin", "http://localhost"), ("origin", "https://evil.example")],
        ] {
            assert_eq!(checked(fields), Err(Refusal::Origin), "{fields:?}");
        }
    }

    #[test]
    fn rebound_names_are_refused_on_loopback() {
        for host in
            ["evil.example:8787", "192.0.2.1", "0.0.0.0:8787", "", "localhost.evil.example", "a@localhost"]
        {
            assert_eq!(checked(&[("host", host)]), Err(Refusal::Host), "{host:?}");
        }
        let elsewhere = request("/v1/models", Version::HTTP_11, &[("host", "gateway.example")]);
        assert_eq!(check(&elsewhere, "192.0.2.1:8787".parse().unwrap()), Ok(()));
    }

    #[test]
    fn a_target_that_names_another_host_is_refused() {
        let checked = |target: &str| {
            check(&request(target, Version::HTTP_11, &[("host", LOCAL)]), LOCAL.parse().unwrap())
        };
        assert_eq!(checked("http://127.0.0.1:8787/v1/models"), Ok(()));
        for target in ["http://api.example/v1/models", "https://localhost.evil.example/", "api.example:443"] {
            assert_eq!(checked(target), Err(Refusal::Host), "{target}");
        }
    }

    #[test]
    fn a_request_has_one_host_field() {
        assert_eq!(checked(&[]), Err(Refusal::HostField));
        assert_eq!(checked(&[("host", LOCAL), ("host", LOCAL)]), Err(Refusal::HostField));
        let old = request("/v1/models", Version::HTTP_10, &[]);
        assert_eq!(check(&old, LOCAL.parse().unwrap()), Ok(()), "HTTP/1.0 has no such field");
    }
}
