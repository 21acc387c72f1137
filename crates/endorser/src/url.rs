//! Where a service listens.

use std::fmt;
use std::str::FromStr;

use http::Uri;
use http::uri::Authority;

/// What is often written behind a service's address, and which this crate appends itself.
const API_SUFFIXES: [&str; 2] = ["/sgx/certification/v4", "/tdx/certification/v4"];

/// A service's address: `https://host[:port][/prefix]`. There is no other scheme.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl {
    authority: Authority,
    host: String,
    port: u16,
    /// Empty, or a path that begins with a slash and does not end in one.
    prefix: String,
}

/// Why a text is no address of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UrlError {
    /// Another scheme, or none.
    #[error("the address does not begin with https://")]
    Scheme,
    /// Not a URL.
    #[error("the address is not a URL")]
    Malformed,
    /// A user name or password, which a URL shows to everybody.
    #[error("the address holds a user name or password")]
    UserInfo,
    /// A query.
    #[error("the address has a query")]
    Query,
}

impl BaseUrl {
    /// Host and port, as the `Host` field names them.
    #[must_use]
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Host without brackets, and port, to be dialled.
    #[must_use]
    pub fn dial_address(&self) -> (&str, u16) {
        (&self.host, self.port)
    }

    /// The request target of a path, which begins with a slash, beneath this address.
    pub(crate) fn target(&self, path: &str) -> String {
        format!("{}{path}", self.prefix)
    }
}

impl FromStr for BaseUrl {
    type Err = UrlError;

    /// A trailing slash and the path of the API itself (`/sgx/certification/v4`) are dropped: they are often written
    /// behind the address of a PCCS.
    fn from_str(text: &str) -> Result<Self, UrlError> {
        let uri: Uri = text.parse().map_err(|_| UrlError::Malformed)?;
        if uri.scheme_str() != Some("https") {
            return Err(UrlError::Scheme);
        }
        if uri.query().is_some() {
            return Err(UrlError::Query);
        }
        let authority = uri.authority().cloned().ok_or(UrlError::Malformed)?;
        if authority.as_str().contains('@') {
            return Err(UrlError::UserInfo);
        }
        let bracketed = authority.host();
        let port = port(authority.as_str().strip_prefix(bracketed).unwrap_or_default(), 443)?;
        let host = unbracketed(bracketed);
        if host.is_empty() {
            return Err(UrlError::Malformed);
        }
        Ok(Self { port, prefix: prefix(uri.path()), authority, host })
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}{}", self.authority, self.prefix)
    }
}

fn prefix(path: &str) -> String {
    let path = path.trim_end_matches('/');
    let stripped = API_SUFFIXES.iter().find_map(|suffix| path.strip_suffix(suffix));
    stripped.unwrap_or(path).trim_end_matches('/').to_owned()
}

/// A host without the brackets of an IPv6 address (RFC 3986 section 3.2.2).
pub(crate) fn unbracketed(host: &str) -> String {
    host.trim_start_matches('[').trim_end_matches(']').to_owned()
}

/// Reads what follows the host. [`Authority::port`] takes a port out of range for none at all.
pub(crate) fn port(rest: &str, default: u16) -> Result<u16, UrlError> {
    match rest.strip_prefix(':') {
        None if rest.is_empty() => Ok(default),
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            digits.parse().ok().filter(|port| *port != 0).ok_or(UrlError::Malformed)
        }
        _ => Err(UrlError::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_services() {
        for (text, host, port, shown) in [
            ("https://pccs.example", "pccs.example", 443, "https://pccs.example"),
            ("https://pccs.example:8081/", "pccs.example", 8081, "https://pccs.example:8081"),
            (
                "https://pccs.example:8081/sgx/certification/v4/",
                "pccs.example",
                8081,
                "https://pccs.example:8081",
            ),
            ("https://a.example/b/tdx/certification/v4", "a.example", 443, "https://a.example/b"),
            ("https://a.example/cache/", "a.example", 443, "https://a.example/cache"),
            ("https://[::1]:8081", "::1", 8081, "https://[::1]:8081"),
        ] {
            let base: BaseUrl = text.parse().unwrap();
            assert_eq!((base.dial_address(), base.to_string()), ((host, port), shown.to_owned()), "{text}");
        }
        let base: BaseUrl = "https://a.example/cache/".parse().unwrap();
        assert_eq!(base.target("/x?y=1"), "/cache/x?y=1");
    }

    #[test]
    fn refused_addresses() {
        for (text, error) in [
            ("http://pccs.example", UrlError::Scheme),
            ("pccs.example:8081", UrlError::Scheme),
            ("", UrlError::Malformed),
            ("https://", UrlError::Malformed),
            ("https://pccs.example:0", UrlError::Malformed),
            ("https://pccs.example:", UrlError::Malformed),
            ("https://pccs.example:65536", UrlError::Malformed),
            ("https://name:word@pccs.example", UrlError::UserInfo),
            ("https://pccs.example/?token=1", UrlError::Query),
        ] {
            assert_eq!(text.parse::<BaseUrl>(), Err(error), "{text:?}");
        }
    }
}
