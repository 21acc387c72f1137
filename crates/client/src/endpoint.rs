//! Where a guest listens.

use http::Uri;
use http::uri::Authority;
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// A guest's address: `https://host[:port]`. There is no other scheme.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    authority: Authority,
    host: String,
    port: u16,
}

/// Why a text is no address of a guest.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// `http`: nothing is sent in the clear.
    #[error("plain http is refused: a guest is reached by https alone")]
    PlainHttp,
    /// Another scheme, or none.
    #[error("the address does not begin with https://")]
    Scheme,
    /// Not a URL.
    #[error("the address is not a URL")]
    Malformed,
    /// A user name or password, which a URL shows to everybody.
    #[error("the address holds a user name or password")]
    UserInfo,
    /// A path or query: the API stands at the root.
    #[error("the address has a path or query; give https://host:port alone")]
    Path,
}

impl EndpointError {
    /// A stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::PlainHttp => "plain_http_refused",
            _ => "invalid_url",
        }
    }
}

impl Endpoint {
    /// Host and port, as SNI and the `Host` field name them.
    #[must_use]
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Host without brackets, and port, to be dialled.
    #[must_use]
    pub fn dial_address(&self) -> (&str, u16) {
        (&self.host, self.port)
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let uri: Uri = text.parse().map_err(|_| EndpointError::Malformed)?;
        match uri.scheme_str() {
            Some("https") => {}
            Some("http") => return Err(EndpointError::PlainHttp),
            _ => return Err(EndpointError::Scheme),
        }
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(EndpointError::Path);
        }
        let authority = uri.authority().cloned().ok_or(EndpointError::Malformed)?;
        if authority.as_str().contains('@') {
            return Err(EndpointError::UserInfo);
        }
        let host = authority.host();
        let port = port(authority.as_str().strip_prefix(host).unwrap_or_default())?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            return Err(EndpointError::Malformed);
        }
        Ok(Self { authority, host, port })
    }
}

/// Reads what follows the host. [`Authority::port`] takes a port out of range for none at all.
fn port(rest: &str) -> Result<u16, EndpointError> {
    match rest.strip_prefix(':') {
        None if rest.is_empty() => Ok(443),
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            digits.parse().ok().filter(|port| *port != 0).ok_or(EndpointError::Malformed)
        }
        _ => Err(EndpointError::Malformed),
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}", self.authority)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn https_addresses() {
        for (text, host, port) in [
            ("https://guest.example", "guest.example", 443),
            ("https://guest.example:8443/", "guest.example", 8443),
            ("https://127.0.0.1:1", "127.0.0.1", 1),
            ("https://[::1]:8443", "::1", 8443),
            ("HTTPS://guest.example", "guest.example", 443),
        ] {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!(endpoint.dial_address(), (host, port), "{text}");
        }
    }

    #[test]
    fn refused_addresses() {
        for (text, error) in [
            ("http://guest.example", EndpointError::PlainHttp),
            ("HTTP://guest.example:8443", EndpointError::PlainHttp),
            ("guest.example", EndpointError::Scheme),
            ("/v1", EndpointError::Scheme),
            ("ftp://guest.example", EndpointError::Scheme),
            ("https://guest.example/v1", EndpointError::Path),
            ("https://guest.example/?key=1", EndpointError::Path),
            ("https://name:word@guest.example", EndpointError::UserInfo),
            ("https://guest.example:0", EndpointError::Malformed),
            ("https://guest.example:", EndpointError::Malformed),
            ("https://guest.example:65536", EndpointError::Malformed),
            ("https://", EndpointError::Malformed),
            ("", EndpointError::Malformed),
            ("https://a b", EndpointError::Malformed),
        ] {
            assert_eq!(text.parse::<Endpoint>(), Err(error), "{text:?}");
        }
    }
}
