//! Who is meant: the authority of a request's target and its field Host.

use std::net::{IpAddr, Ipv6Addr};

use confide_policy::egress::{Host, HostName};

/// Reads `host`, `host:port`, `192.0.2.1:443` or `[2001:db8::1]:443` (RFC 3986 section 3.2). None where it has user
/// information, is a name that no rule can hold, or spells an address otherwise than with four decimal numbers.
pub(crate) fn parse(text: &str) -> Option<(Host, Option<u16>)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, behind) = rest.split_once(']')?;
            let host = Host::Ip(IpAddr::V6(address.parse::<Ipv6Addr>().ok()?));
            match behind.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if behind.is_empty() => (host, None),
                None => return None,
            }
        }
        None => match text.split_once(':') {
            Some((name, port)) => (host(name)?, Some(port)),
            None => (host(text)?, None),
        },
    };
    let port = match port {
        Some(digits) => Some(number(digits)?),
        None => None,
    };
    Some((host, port))
}

fn host(text: &str) -> Option<Host> {
    if let Ok(address) = text.parse() {
        return Some(Host::Ip(IpAddr::V4(address)));
    }
    HostName::parse(&text.to_ascii_lowercase()).ok().map(Host::Name)
}

/// A port in its one spelling.
fn number(digits: &str) -> Option<u16> {
    let number: u16 = digits.parse().ok()?;
    (number != 0 && number.to_string() == digits).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_authority_has_one_reading_or_none() {
        for (text, host, port) in [
            ("api.example.com", "api.example.com", None),
            ("API.example.com:443", "api.example.com", Some(443)),
            ("192.0.2.1:80", "192.0.2.1", Some(80)),
            ("[2001:db8::1]", "[2001:db8::1]", None),
            ("[2001:db8::1]:65535", "[2001:db8::1]", Some(65535)),
        ] {
            let (found, found_port) = parse(text).unwrap();
            assert_eq!((found.to_string().as_str(), found_port), (host, port), "{text}");
        }
        for text in [
            "",
            ":",
            ":443",
            "api.example.com:",
            "api.example.com:0",
            "api.example.com:0443",
            "api.example.com:+443",
            "api.example.com:65536",
            "api.example.com:443:443",
            "api.example.com.:443",
            "user@api.example.com:443",
            "api.example.com@evil.example:443",
            "localhost:443",
            "2001:db8::1",
            "[2001:db8::1",
            "[2001:db8::1]443",
            "[192.0.2.1]:443",
            "[fe80::1%eth0]:443",
            "0x7f.1:443",
            "127.1:443",
            "017700000001:443",
            "3232235777:443",
            "api.example.com :443",
            "api.example.com\u{0}.evil.example:443",
            "*.example.com:443",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest! {
        /// What is read is written in one way, and read from it again.
        #[test]
        fn what_is_read_is_read_again(text in "[a-zA-Z0-9.:@\\[\\]/ -]{0,40}|[a-z]{1,5}\\.[a-z]{1,5}(:[0-9]{0,6})?") {
            if let Some((host, port)) = parse(&text) {
                let written = port.map_or_else(|| host.to_string(), |port| format!("{host}:{port}"));
                prop_assert!(written.eq_ignore_ascii_case(&text) || matches!(host, Host::Ip(IpAddr::V6(_))));
                prop_assert_eq!(parse(&written), Some((host, port)));
            }
        }
    }
}
