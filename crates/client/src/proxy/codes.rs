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
    ("unknown_path", "the endpoint has nothing at this path", "use a path below /v1/ or /_confide/"),
    (
        "path_ambiguous",
        "the path could mean another one: it has an empty segment, one of dots alone, or a percent sign without two \
         hexadecimal digits",
        "write the path without `//`, `/./` and `/../`, and a percent sign as %25; a dot within a segment is taken",
    ),
    (
        "endpoint_draining",
        "the endpoint was told to end: it finishes what it has and takes nothing new",
        "ask again when it is back, or another endpoint; OpenAI's clients ask again by themselves",
    ),
    (
        "endpoint_ended",
        "the endpoint was told to end, and the answer was not whole in time",
        "ask again when it is back; --drain-seconds gives answers more time",
    ),
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
        "invalid_api_key",
        "the endpoint asks for a token, and the request does not have it",
        "send the token of --token-file as the API key: Authorization: Bearer TOKEN",
    ),
    (
        "attestation_failed",
        "the evidence of the only instance is not accepted: `check` has the code of the check that failed",
        "look up that code; nothing of the request was sent, and the instance is tried again by itself",
    ),
    (
        "no_attested_instances",
        "no instance that could have the model is attested: the message has the reason of each",
        "see the reasons, or /_confide/status; instances are tried again by themselves, and Retry-After says when",
    ),
    (
        "upstream_overloaded",
        "every attested instance that has the model asked to be left alone, or has as many requests as it may have",
        "ask again after the time in Retry-After; OpenAI's clients do so by themselves",
    ),
    (
        "model_not_found",
        "no attested instance has the model that the request names, and none that is not attested may come to have it",
        "name one of /v1/models; under a policy with the table [models] a name stands for the files that it lists",
    ),
    (
        "model_required",
        "the request names no model in a JSON body, and the instances have several",
        "name the model in a JSON body, or send such requests to an endpoint of one model",
    ),
    (
        "unknown_instance",
        "there is no instance of this name",
        "use a name of /_confide/status: host and port, percent-encoded where it has brackets",
    ),
    (
        "instance_overloaded",
        "the instance answered 503 or 429 and is left alone for the time that it asked for",
        "it is asked again by itself; where it happens often, add instances or let the guest take more requests",
    ),
    (
        "no_verdict",
        "the instance has shown no evidence yet",
        "see /_confide/status for the reason; it is tried again by itself",
    ),
    (
        "token_missing",
        "the address to listen on is reachable from other machines, and no token is asked for",
        "give --token-file FILE with a token that local programs then send as their API key",
    ),
    (
        "listen_not_loopback",
        "the address to listen on is reachable from other machines",
        "listen on 127.0.0.1, or give --danger-listen-anywhere where you want exactly that",
    ),
    (
        "listen_failed",
        "the system does not give the address to listen on",
        "choose another port, or end what uses it; ports below 1024 are for root",
    ),
];

#[cfg(test)]
mod tests {
    use super::CODES;

    /// The sources of the endpoint name no code in quotes that is not listed, and none is listed that they do not name.
    #[test]
    fn every_code_is_listed() {
        let sources = [
            include_str!("forward.rs"),
            include_str!("gate.rs"),
            include_str!("own.rs"),
            include_str!("passed.rs"),
            include_str!("server.rs"),
        ]
        .concat();
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
