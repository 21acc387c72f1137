//! What the guest's programs and the client's read off a wire: names, connections and requests at the egress broker, answers of the
//! host's quoting service, bodies that pass the local endpoint, and the file that tells it of instances.

use confide_client::readers as client;
use confide_egress::readers as egress;
use confide_evidence::text::steers;
use confide_service::config::MAX_CONFIG;
use std::collections::BTreeSet;

/// The name that answers of resolvers are about.
const ASKED: &str = "api.example.com";
/// The most bytes of a connection that are sent to the proxy: a head of 16 KiB, and as much again.
const MAX_SENT: usize = 32 * 1024;
/// The most bytes of a stream of events that are read here, twice: the longest event, and a quarter more.
const MAX_EVENTS: usize = 1280 * 1024;

/// A resolver's answer, and a question of the workload's. What is replied to a question answers it.
pub(crate) fn dns(bytes: &[u8]) {
    if let Some((addresses, chain)) = egress::dns_answer(bytes, ASKED) {
        assert!(addresses.len() <= 64 && chain.len() <= 8, "{addresses:?} by {chain:?}");
        let distinct: BTreeSet<_> = chain.iter().map(String::as_str).chain([ASKED]).collect();
        assert_eq!(distinct.len(), chain.len() + 1, "no name leads to itself");
        assert!(chain.iter().all(|name| is_name(name)), "{chain:?}");
    }
    if let Some((name, [address, none, failed, refused])) = egress::dns_question(bytes) {
        assert!(is_name(&name), "{name:?}");
        assert_eq!(address[..2], bytes[..2], "the number is that of the question");
        if let Some((addresses, chain)) = egress::dns_answer(&none, &name) {
            assert!(addresses.is_empty() && chain.is_empty());
        }
        assert!(
            egress::dns_answer(&failed, &name).is_none() && egress::dns_answer(&refused, &name).is_none()
        );
    }
}

/// As it is read: in lower case, of letters, digits, hyphens and underscores.
fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
    name.len() <= 253
        && name.split('.').all(|label| (1..=63).contains(&label.len()) && label.bytes().all(plain))
}

/// What a connection begins with that the workload's own TLS goes over, and, as text, an authority.
pub(crate) fn server_name(bytes: &[u8]) {
    if let Some(name) = egress::server_name(bytes) {
        assert!(!name.is_empty() && name.is_ascii(), "{name:?}");
        let _ = egress::host_and_port(&name);
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some((host, port)) = egress::host_and_port(text) {
        let written = port.map_or_else(|| host.clone(), |port| format!("{host}:{port}"));
        assert_eq!(egress::host_and_port(&written), Some((host, port)), "it is read as it is written");
    }
}

/// Requests to the egress broker, none of which is let through.
pub(crate) fn proxied(bytes: &[u8]) {
    let said = egress::proxied(&bytes[..bytes.len().min(MAX_SENT)]);
    assert!(said.is_empty() || (said.starts_with(b"HTTP/1.") && matches!(said[9], b'4' | b'5')), "{said:?}");
}

/// A message of the host's quoting service: the quote stands at its end.
pub(crate) fn quoting_answer(bytes: &[u8]) {
    if let Some(quote) = confide_attester::readers::quote_of_answer(bytes) {
        assert!(bytes.ends_with(quote) && bytes.len() - quote.len() >= 24);
        let announced = u32::from_le_bytes(bytes[20..24].try_into().expect("four bytes"));
        assert_eq!(usize::try_from(announced), Ok(quote.len()));
    }
}

/// Where instances are said to be.
pub(crate) fn discovery(bytes: &[u8]) {
    let Some(found) = client::discovered(bytes) else { return };
    assert!(bytes.len() <= MAX_CONFIG);
    let distinct: BTreeSet<&String> = found.iter().collect();
    assert_eq!(distinct.len(), found.len(), "{found:?}");
    assert!(found.iter().all(|url| url.starts_with("https://")), "{found:?}");
}

/// Server-sent events: however they are cut, they are the same.
pub(crate) fn event_stream(bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(MAX_EVENTS)];
    let whole = client::events([bytes]);
    let (first, second) = bytes.split_at(bytes.len() / 2);
    assert_eq!(client::events([first, second]), whole, "the cut matters");
}

/// JSON that passes: the model of a request, and an error of a guest, which moves no terminal.
pub(crate) fn api_body(bytes: &[u8]) {
    if client::model_of_a_request(bytes).is_some() {
        assert!(bytes.trim_ascii_start().starts_with(b"{"), "it is an object");
    }
    let told = client::error_of_a_guest(bytes);
    assert!(told.len() < 8 * 1024 && !told.contains(steers), "{told:?}");
}

/// Valid inputs, each target's own.
pub(crate) fn seeds(target: &str) -> Vec<Vec<u8>> {
    let texts = |texts: &[&str]| texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    match target {
        "dns" => vec![question(), answer()],
        "server_name" => {
            let mut seeds: Vec<Vec<u8>> =
                texts(&["api.example.com:443", "192.0.2.1:80", "[2001:db8::1]:65535"]);
            seeds.push(client_hello());
            seeds
        }
        "proxied_request" => texts(&[
            "GET http://api.example.com/v1?x=1 HTTP/1.1\r\nHost: api.example.com\r\n\r\n",
            "POST https://api.example.com/ HTTP/1.1\r\nHost: api.example.com\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            "PUT http://192.0.2.1:8080/ HTTP/1.1\r\nHost: 192.0.2.1:8080\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\nabc",
            "CONNECT api.example.com:443 HTTP/1.1\r\nHost: api.example.com:443\r\nProxy-Authorization: Basic eA==\r\n\r\n\u{16}\u{3}\u{1}",
            "CONNECT [2001:db8::1]:443 HTTP/1.0\r\n\r\n",
        ]),
        "quoting_answer" => vec![quoting(&[]), quoting(&[9; 32])],
        "discovery_file" => texts(&[
            "",
            "[[instance]]\nurl = \"https://a.example:8443\"\n[[instance]]\nurl = \"https://[::1]\"\n",
        ]),
        "event_stream" => texts(&[
            "data: {\"choices\":[]}\n\ndata: [DONE]\n\n",
            ": comment\r\nevent: x\r\ndata: a\r\ndata:b\r\n\r\ndata\r\rid: 1\n\n",
        ]),
        _ => texts(&[
            r#"{"model":"tiny","messages":[{"role":"user","content":"é"}]}"#,
            r#"{"messages":[],"model":"Qwen\/Qwen3"}"#,
            r#"{"error":{"message":"no \u001b[2Jmodel","type":"x","param":null,"code":"model_not_found"}}"#,
        ]),
    }
}

/// RFC 1035 section 4.1: header, then the question.
fn asking(flags: u16, answers: u16) -> Vec<u8> {
    let fields = [7, flags, 1, answers, 0, 0].map(u16::to_be_bytes).concat();
    [fields, named(ASKED), vec![0, 1, 0, 1]].concat()
}

fn named(name: &str) -> Vec<u8> {
    let labels = name.split('.').flat_map(|label| {
        let length = u8::try_from(label.len()).expect("a short label");
        [&[length][..], label.as_bytes()].concat()
    });
    labels.chain([0]).collect()
}

fn question() -> Vec<u8> {
    asking(0x0100, 0)
}

/// An alias, by a pointer to the question's name, and the address that it leads to.
fn answer() -> Vec<u8> {
    let record = |owner: &[u8], kind: u8, data: &[u8]| {
        let length = u8::try_from(data.len()).expect("short data");
        [owner, &[0, kind, 0, 1, 0, 0, 0, 60, 0, length], data].concat()
    };
    let alias = record(&[0xc0, 12], 5, &named("edge.example.net"));
    [asking(0x8180, 2), alias, record(&named("edge.example.net"), 1, &[192, 0, 2, 1])].concat()
}

/// RFC 8446 section 4.1.2, of TLS 1.3 alone, with X25519.
fn client_hello() -> Vec<u8> {
    let vector = |size: usize, bytes: &[u8]| {
        let length = u32::try_from(bytes.len()).expect("a short vector").to_be_bytes();
        [&length[4 - size..], bytes].concat()
    };
    let extension = |kind: u8, data: &[u8]| [vec![0, kind], vector(2, data)].concat();
    let name = [vec![0], vector(2, ASKED.as_bytes())].concat();
    let share = [vec![0, 29], vector(2, &[7; 32])].concat();
    let extensions = [
        extension(0, &vector(2, &name)),
        extension(10, &vector(2, &[0, 29])),
        extension(13, &vector(2, &[8, 7, 4, 3])),
        extension(43, &vector(1, &[3, 4])),
        extension(51, &vector(2, &share)),
    ]
    .concat();
    let hello = [
        &[3, 3][..],
        &[5; 32],
        &vector(1, &[]),
        &vector(2, &[0x13, 1]),
        &vector(1, &[0]),
        &vector(2, &extensions),
    ]
    .concat();
    let message = [vec![1], vector(3, &hello)].concat();
    [vec![22, 3, 1], vector(2, &message)].concat()
}

/// An answer with this identifier of a key, and a short quote.
fn quoting(id: &[u8]) -> Vec<u8> {
    let quote = [4; 40];
    let number = |number: usize| u32::try_from(number).expect("a short message").to_le_bytes();
    let size = 24 + id.len() + quote.len();
    let numbers = [1, size, 0, id.len(), quote.len()].map(number).concat();
    [&[1, 0, 1, 0][..], &numbers, id, &quote].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seeds_are_what_their_targets_read() {
        let [question, answer] = &seeds("dns")[..] else { panic!("a question and an answer") };
        let (name, [reply, ..]) = egress::dns_question(question).unwrap();
        assert_eq!(name, ASKED);
        assert_eq!(
            egress::dns_answer(&reply, ASKED).unwrap().0,
            ["198.18.0.1".parse::<std::net::IpAddr>().unwrap()]
        );
        let (addresses, chain) = egress::dns_answer(answer, ASKED).unwrap();
        assert_eq!((addresses.len(), chain), (1, vec!["edge.example.net".to_owned()]));
        assert_eq!(egress::server_name(&client_hello()).as_deref(), Some(ASKED));
        for text in seeds("server_name").iter().take(3) {
            assert!(egress::host_and_port(std::str::from_utf8(text).unwrap()).is_some());
        }
        for request in seeds("proxied_request") {
            let said = String::from_utf8(egress::proxied(&request)).unwrap();
            assert!(said.contains("\"code\":\"host_not_listed\""), "{said}");
        }
        for message in seeds("quoting_answer") {
            assert_eq!(confide_attester::readers::quote_of_answer(&message), Some(&[4; 40][..]));
        }
        let counts: Vec<_> =
            seeds("discovery_file").iter().map(|file| client::discovered(file).unwrap().len()).collect();
        assert_eq!(counts, [0, 2]);
        let events: Vec<_> =
            seeds("event_stream").iter().map(|stream| client::events([&stream[..]]).unwrap().len()).collect();
        assert_eq!(events, [2, 2]);
        let [one, other, error] = &seeds("api_body")[..] else { panic!("two requests and an error") };
        let models = [one, other].map(|body| client::model_of_a_request(body).unwrap());
        assert_eq!(models, ["tiny", "Qwen/Qwen3"]);
        assert!(client::error_of_a_guest(error).contains("(model_not_found)"));
    }
}
