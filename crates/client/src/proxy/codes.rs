//! Codes of the endpoint's own.

/// Stable codes of the local endpoint, beside those of clients ([`crate::CODES`]) and of requests that are no HTTP
/// ([`confide_service::refusals::CODES`]): code, what it means, what to do.
pub const CODES: &[(&str, &str, &str)] = &[
    (
        "origin_refused",
        "a browser sent the request for a web page of another origin",
        "call the endpoint from a program, or from a page on this machine",
    ),
    (
        "host_refused",
        "the request names another host than the local endpoint",
        "use the address that the endpoint printed as base_url; it is no proxy for the web",
    ),
    (
        "host_malformed",
        "the request has no Host field, or several",
        "send one Host field, as HTTP/1.1 asks for",
    ),
    ("unknown_path", "the endpoint has nothing at this path", "use a path below /v1/, or /confide/verdict"),
    (
        "method_not_allowed",
        "the path does not take this method",
        "use the method in the Allow field of the answer",
    ),
    ("body_too_large", "the request body is larger than 32 MiB", "send a shorter prompt"),
    (
        "body_timed_out",
        "the request body did not arrive in time",
        "send the whole body without a pause of 30 seconds",
    ),
    ("body_unreadable", "the request body ended early", "send as many bytes as Content-Length announces"),
    (
        "listen_not_loopback",
        "the address to listen on is reachable from other machines",
        "listen on 127.0.0.1, or give --danger-listen-anywhere where you want exactly that",
    ),
    (
        "listen_failed",
        "the system does not give the address to listen on",
        "choose another port, or end what uses it",
    ),
];

#[cfg(test)]
mod tests {
    use super::CODES;

    /// The sources of the endpoint name no code in quotes that is not listed, and none is listed that they do not name.
    #[test]
    fn every_code_is_listed() {
        let sources =
            [include_str!("forward.rs"), include_str!("gate.rs"), include_str!("server.rs")].concat();
        for (code, meaning, what_to_do) in CODES {
            assert!(sources.contains(&format!("\"{code}\"")), "{code} is no code of the endpoint");
            assert!(!meaning.is_empty() && !what_to_do.is_empty(), "{code}");
        }
        let after = sources.split("Fault::refused(").skip(1).filter_map(|call| call.split('"').nth(1));
        let named = after.filter(|text| text.chars().all(|one| one.is_ascii_lowercase() || one == '_'));
        for code in named {
            assert!(CODES.iter().any(|(listed, ..)| *listed == code), "{code} is not listed");
        }
    }
}
