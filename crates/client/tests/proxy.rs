//! The proxy between a plain local program and a guest in this process.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

mod endpoint;

use confide_client::proxy::{Access, Exposure, Proxy, ProxyError};
use confide_testkit::guest::{self, Attestation, Chat, Guest, Listening, Raw, Then};
use endpoint::{CHAT, Endpoint, SECRET, error, fields, fleet, send, was_only_attested, whole};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

/// A proxy in front of a guest.
struct Rig {
    guest: Listening,
    endpoint: Endpoint,
    address: SocketAddr,
}

impl Rig {
    async fn new(guest: Guest) -> Self {
        let guest = guest.listen().await.unwrap();
        let endpoint = Endpoint::new(of(&guest.url())).await;
        Self { guest, address: endpoint.address, endpoint }
    }

    async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> endpoint::Answer {
        self.endpoint.send(method, path, headers, body).await
    }

    async fn ask(&self) -> endpoint::Answer {
        self.endpoint.ask(guest::MODEL).await
    }

    async fn verdict(&self) -> endpoint::Answer {
        self.send("GET", &format!("/_confide/verdicts/{}", self.guest.address), &[], vec![]).await
    }

    /// Waits until it says that it drains.
    async fn drains(&self) {
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while self.endpoint.get("/_confide/health/ready").await.0 != 503 {
            assert!(std::time::Instant::now() < deadline, "it does not drain");
        }
    }

    async fn attested(&self) {
        self.endpoint.until(self.guest.address, "attested").await;
    }
}

fn of(url: &str) -> confide_client::Fleet {
    fleet(guest::policy("per-key", 300), &[url.to_owned()]).build().unwrap()
}

fn question() -> Vec<u8> {
    endpoint::question(guest::MODEL)
}

/// Everything that the proxy answers to these bytes.
async fn raw(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

/// The same, of a peer that keeps its side open: the last request asks for the connection to be closed.
async fn raw_open(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let reading = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await;
    reading.expect("the connection is closed").unwrap();
    String::from_utf8(answer).unwrap()
}

fn invalid(code: &str) -> (String, String) {
    ("invalid_request_error".to_owned(), code.to_owned())
}

#[tokio::test]
async fn requests_and_answers_pass_through() {
    let rig = Rig::new(Guest::new(0).unwrap()).await;
    let headers = [
        ("content-type", "application/json"),
        ("authorization", "Bearer sk-1"),
        ("user-agent", "a-program/1"),
        ("cookie", "a=b"),
        ("x-stainless-os", "Linux"),
        ("origin", "http://localhost:3000"),
    ];
    let answer = rig.send("POST", &format!("{CHAT}?x=1"), &headers, question()).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["x-confide-verdict"], "accepted, SIMULATED");
    assert_eq!(answer.headers()["x-confide-simulated"], "true");
    let body: Value = serde_json::from_slice(&whole(answer).await).unwrap();
    assert_eq!(body["choices"][0]["message"]["content"], guest::WORDS.concat());
    let models: Value =
        serde_json::from_slice(&whole(rig.send("GET", "/v1/models", &[], vec![]).await).await).unwrap();
    assert_eq!(models["data"][0]["id"], guest::MODEL);

    let requests = rig.guest.guest.requests();
    let lines: Vec<&str> = requests.iter().map(|request| request.line.as_str()).collect();
    let expected =
        ["POST /.well-known/confide/attestation", "POST /v1/chat/completions?x=1", "GET /v1/models"];
    assert_eq!(lines, expected);
    assert_eq!(requests[1].body, question());
    let mut names: Vec<&str> = requests[1].headers.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    let needed = ["authorization", "connection", "content-length", "content-type", "host", "te"];
    assert_eq!(names, needed, "no more than is needed");
}

#[tokio::test]
async fn a_stream_passes_piece_by_piece_and_unchanged() {
    let gate = Arc::new(Semaphore::new(1));
    let rig = Rig::new(Guest::new(0).unwrap().chatting(Chat::Gated(Arc::clone(&gate)))).await;
    let answer = rig.ask().await;
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let mut body = answer.into_body();
    let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert!(first.starts_with(b"data: {") && first.ends_with(b"\n\n"), "{first:?}");
    gate.add_permits(100);
    let rest = body.collect().await.unwrap().to_bytes();
    let text = String::from_utf8([first, rest].concat()).unwrap();
    assert_eq!(text.matches("data: ").count(), guest::WORDS.len() + 3);
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
}

#[tokio::test]
async fn a_refused_guest_gets_no_byte_of_a_prompt() {
    let rig = Rig::new(Guest::new(0).unwrap().attesting(Attestation::OtherExporter)).await;
    let answer = rig.ask().await;
    assert_eq!(answer.headers()["x-should-retry"], "false");
    let told = fields(answer, 502).await;
    assert_eq!(
        (&told["type"], &told["code"], &told["check"]),
        (&json!("attestation_error"), &json!("attestation_failed"), &json!("report_data"))
    );
    let message = told["message"].as_str().unwrap();
    assert!(message.contains("expected ") && message.contains(", found "), "{message}");
    let guest = &rig.guest.guest;
    assert!(!guest.saw(SECRET.as_bytes()) && !guest.saw(b"chat"));
    assert_eq!(guest.requests().len(), guest.attestations());

    let verdict = rig.verdict().await;
    assert_eq!(verdict.status(), 502);
    let verdict: Value = serde_json::from_slice(&whole(verdict).await).unwrap();
    assert_eq!((&verdict["outcome"], &verdict["code"]), (&json!("rejected"), &json!("report_data")));

    let _ = guest.clone().attesting(Attestation::Honest);
    rig.attested().await;
    assert_eq!(rig.ask().await.status(), 200, "a guest that mends its ways is served");
    assert!(guest.saw(SECRET.as_bytes()), "the control: an accepted guest sees the prompt");
}

#[tokio::test]
async fn the_guest_is_attested_before_the_body_is_read() {
    let rig = Rig::new(Guest::new(0).unwrap().attesting(Attestation::OtherKey)).await;
    let mut stream = TcpStream::connect(rig.address).await.unwrap();
    let head = format!("POST {CHAT} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 502", "answered though no byte of the body was sent");
    assert!(was_only_attested(&rig.guest.guest) && rig.guest.guest.attestations() > 0);
}

#[tokio::test]
async fn network_faults_are_errors_of_the_api() {
    let gone = Guest::new(0).unwrap().listen().await.unwrap().address;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let endpoint = Endpoint::new(of(&format!("https://{gone}"))).await;
    let answer = endpoint.ask(guest::MODEL).await;
    assert_eq!(answer.headers()["retry-after"], "1");
    let told = fields(answer, 503).await;
    assert_eq!((&told["type"], &told["code"]), (&json!("upstream_error"), &json!("no_attested_instances")));
    assert_eq!(told["check"], "dial_failed", "of the only instance the reason's code, too");
    let message = told["message"].as_str().unwrap();
    assert!(message.contains(&format!("{gone} is unreachable (dial_failed)")), "{message}");
    let path = format!("/_confide/verdicts/{gone}");
    let told = error(send(endpoint.address, "GET", &path, &[], vec![]).await, 503).await;
    assert_eq!(told, ("upstream_error".to_owned(), "no_verdict".to_owned()));

    let rig = Rig::new(Guest::new(0).unwrap().attesting(Attestation::Status(503))).await;
    let told = fields(rig.ask().await, 503).await;
    assert_eq!(told["code"], "no_attested_instances");
    assert!(told["message"].as_str().unwrap().contains("(attestation_status)"), "{told}");
}

#[tokio::test]
async fn a_guests_errors_pass_through() {
    let rig = Rig::new(Guest::new(0).unwrap().chatting(Chat::Refuse(404))).await;
    let answer = rig.ask().await;
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["x-confide-verdict"]),
        (404, &"accepted, SIMULATED".parse().unwrap())
    );
    let body: Value = serde_json::from_slice(&whole(answer).await).unwrap();
    assert_eq!(body["error"]["code"], "no_such_model");
}

#[tokio::test]
async fn a_stream_that_breaks_between_events_ends_with_an_error_event() {
    let rig = Rig::new(Guest::new(0).unwrap().chatting(Chat::Torn)).await;
    let answer = rig.ask().await;
    assert_eq!(answer.status(), 200);
    let body = String::from_utf8(whole(answer).await).unwrap();
    assert_eq!((body.matches("data: ").count(), body.contains("[DONE]")), (3, false), "{body}");
    let event = body.strip_suffix("\n\n").unwrap().rsplit("data: ").next().unwrap();
    let event: Value = serde_json::from_str(event).unwrap();
    assert_eq!(event["error"]["code"], "connection_failed", "{body}");
    let _ = rig.guest.guest.clone().chatting(Chat::Answer);
    assert_eq!(rig.ask().await.status(), 200);
}

/// The part of an event was of no use to anybody: the error stands in its place.
#[tokio::test]
async fn a_stream_that_breaks_within_an_event_ends_with_an_error_event() {
    let rig = Rig::new(Guest::new(0).unwrap().chatting(Chat::TornEvent)).await;
    let answer = rig.ask().await;
    assert_eq!(answer.status(), 200);
    let body = String::from_utf8(whole(answer).await).unwrap();
    let events: Vec<&str> = body.strip_suffix("\n\n").unwrap().split("\n\n").collect();
    let [piece, event] = events[..] else { panic!("{body}") };
    assert!(piece.contains("chat.completion.chunk"), "{body}");
    let event: Value = serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap();
    assert_eq!(event["error"]["code"], "connection_failed", "{body}");
}

/// Its beginning has been passed on by then, and nothing of ours can follow it.
#[tokio::test]
async fn a_stream_that_breaks_within_a_very_long_event_breaks_here() {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    let event = format!("{head}30000\r\ndata: {}", "x".repeat(0x2_0000));
    let raw = Raw { bytes: event.into(), then: Then::Close };
    let rig = Rig::new(Guest::new(0).unwrap().chatting(Chat::Raw(raw))).await;
    let answer = rig.ask().await;
    assert_eq!(answer.status(), 200);
    assert!(answer.into_body().collect().await.is_err(), "a truncated answer must not look whole");
}

/// The guest's kernel answers, and nothing else does.
#[tokio::test]
async fn a_stream_in_which_the_guest_falls_silent_ends_with_an_error_event() {
    let gate = Arc::new(Semaphore::new(2));
    let rig = Rig::new(Guest::new(0).unwrap().chatting(Chat::Gated(Arc::clone(&gate)))).await;
    let mut body = rig.ask().await.into_body();
    let mut text = Vec::new();
    while text.windows(6).filter(|window| window == b"data: ").count() < 2 {
        text.extend(body.frame().await.unwrap().unwrap().into_data().unwrap());
    }
    // From here on the clock leaps to whatever is waited for next.
    tokio::time::pause();
    let begun = tokio::time::Instant::now();
    let rest = body.collect().await.unwrap().to_bytes();
    let silent = begun.elapsed();
    assert!((Duration::from_secs(590)..Duration::from_secs(620)).contains(&silent), "{silent:?}");
    let event = std::str::from_utf8(&rest).unwrap().strip_prefix("data: ").unwrap().trim_end();
    let event: Value = serde_json::from_str(event).unwrap();
    assert_eq!(event["error"]["code"], "timed_out", "{event}");
    let message = event["error"]["message"].as_str().unwrap();
    assert!(message.contains("the next piece of the answer took longer than 600 seconds"), "{message}");
}

/// Where its events end is not to be seen here: none of it waits, and nothing of ours follows it.
#[tokio::test]
async fn a_compressed_stream_is_passed_on_as_it_comes() {
    let answer = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-encoding: gzip\r\n\
                  transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n";
    for then in [Then::Wait, Then::Close] {
        let raw = Raw { bytes: answer.into(), then };
        let rig = Rig::new(Guest::new(0).unwrap().chatting(Chat::Raw(raw))).await;
        let mut body = rig.ask().await.into_body();
        let first = tokio::time::timeout(Duration::from_secs(20), body.frame()).await.expect("it comes");
        assert_eq!(first.unwrap().unwrap().into_data().unwrap(), "abc");
        if then == Then::Close {
            assert!(body.collect().await.is_err(), "a truncated answer must not look whole");
        }
    }
}

/// An error event would fill up what is announced, and its end would be missing.
#[tokio::test]
async fn a_stream_of_announced_length_that_breaks_off_breaks_here() {
    let answer =
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 40\r\n\r\ndata: {}\n\n";
    let raw = Raw { bytes: answer.into(), then: Then::Close };
    let rig = Rig::new(Guest::new(0).unwrap().chatting(Chat::Raw(raw))).await;
    let answer = rig.ask().await;
    assert_eq!(answer.status(), 200);
    assert!(answer.into_body().collect().await.is_err(), "a truncated answer must not look whole");
}

#[tokio::test]
async fn bad_requests_are_refused_before_anything_is_asked() {
    let rig = Rig::new(Guest::new(0).unwrap()).await;
    let local = rig.address.to_string();
    for (method, path, headers, status, code) in [
        ("POST", CHAT, vec![("origin", "https://evil.example")], 403, "origin_refused"),
        ("GET", "/_confide/status", vec![("origin", "null")], 403, "origin_refused"),
        ("GET", "/_confide/health/live", vec![("host", "evil.example")], 403, "host_refused"),
        ("GET", "/v1/models", vec![("sec-fetch-site", "cross-site")], 403, "origin_refused"),
        ("GET", "/v1/models", vec![("host", "evil.example:8787")], 403, "host_refused"),
        ("GET", "/v1/models", vec![("host", "localhost"), ("host", "localhost")], 400, "host_malformed"),
        ("GET", "http://api.example/v1/models", vec![], 403, "host_refused"),
        ("CONNECT", "api.example:443", vec![], 403, "host_refused"),
        ("CONNECT", "127.0.0.1:443", vec![], 404, "unknown_path"),
        ("OPTIONS", CHAT, vec![("origin", "http://localhost")], 405, "method_not_allowed"),
        ("TRACE", CHAT, vec![], 405, "method_not_allowed"),
        ("BREW", CHAT, vec![("host", local.as_str())], 405, "method_not_allowed"),
        ("POST", "/_confide/status", vec![], 405, "method_not_allowed"),
        ("GET", "/confide/verdict", vec![], 404, "unknown_path"),
        ("GET", "/_confide/verdicts/a.example", vec![], 404, "unknown_instance"),
        ("GET", "/", vec![], 404, "unknown_path"),
        ("POST", "/.well-known/confide/attestation", vec![], 404, "unknown_path"),
        ("POST", "/v1/../admin", vec![], 400, "path_ambiguous"),
        ("GET", "/v1//models", vec![], 400, "path_ambiguous"),
        ("GET", "/v1/files/%2e%2E/x", vec![], 400, "path_ambiguous"),
        ("GET", "/v1/files/100%", vec![], 400, "path_ambiguous"),
    ] {
        let told = error(rig.send(method, path, &headers, vec![]).await, status).await;
        assert_eq!(told, invalid(code), "{method} {path} {headers:?}");
    }
    assert!(was_only_attested(&rig.guest.guest));
}

#[tokio::test]
async fn bodies_beyond_the_limit_are_refused() {
    let rig = Rig::new(Guest::new(0).unwrap()).await;
    let mut stream = TcpStream::connect(rig.address).await.unwrap();
    let head = format!("POST {CHAT} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 33554433\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
    assert!(was_only_attested(&rig.guest.guest));

    let stream = TcpStream::connect(rig.address).await.unwrap();
    let (mut reader, mut writer) = stream.into_split();
    let head = format!("POST {CHAT} HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n");
    writer.write_all(head.as_bytes()).await.unwrap();
    let flood = tokio::spawn(async move {
        let chunk = [&b"100000\r\n"[..], &vec![b'a'; 1 << 20], b"\r\n"].concat();
        while writer.write_all(&chunk).await.is_ok() {}
    });
    reader.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413", "however long the body turns out to be");
    drop(reader);
    flood.abort();
    assert!(!rig.guest.guest.saw(&[b'a'; 64]));
}

#[tokio::test]
async fn what_is_no_http_is_told_so_and_harms_nothing() {
    let rig = Rig::new(Guest::new(0).unwrap()).await;
    let long = [b"GET /v1/models HTTP/1.1\r\nx: ".to_vec(), vec![b'a'; 100_000]].concat();
    for (garbage, status, code) in [
        (&b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n"[..], 400, "malformed_http"),
        (b"GET\r\n\r\n", 400, "malformed_http"),
        (b"\0\0\0\0\r\n\r\n", 400, "malformed_http"),
        (b"GET /v1/models HTTP/9.9\r\n\r\n", 400, "malformed_http"),
        (b"POST /v1/x HTTP/1.1\r\ntransfer-encoding: chunked, gzip\r\n\r\n", 400, "malformed_http"),
        (&long, 431, "request_head_too_large"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", 505, "http_version_unsupported"),
        (b"GET /v1/models HTTP/1.1\r\nhost: local", 400, "malformed_http"),
    ] {
        let answer = raw(rig.address, garbage).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
        let body: Value = serde_json::from_str(body).unwrap();
        assert_eq!(
            (&body["error"]["code"], &body["error"]["type"]),
            (&json!(code), &json!("invalid_request_error"))
        );
    }
    assert!(was_only_attested(&rig.guest.guest));
    assert_eq!(rig.ask().await.status(), 200, "the proxy stays up");
}

#[tokio::test(start_paused = true)]
async fn a_head_that_does_not_come_in_time_is_told_so() {
    let rig = Rig::new(Guest::new(0).unwrap()).await;
    let mut stream = TcpStream::connect(rig.address).await.unwrap();
    stream.write_all(b"GET /v1/models HTTP/1.1\r\nx: ").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{head}");
    let body: Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["error"]["code"], "request_head_timed_out");
    assert!(was_only_attested(&rig.guest.guest));
}

#[tokio::test]
async fn a_redirect_of_the_guest_is_not_passed_on() {
    for status in ["301 Moved", "303 See Other", "307 Temporary Redirect", "308 Permanent Redirect", "600 x"]
    {
        let answer =
            format!("HTTP/1.1 {status}\r\nlocation: http://evil.example/v1\r\ncontent-length: 0\r\n\r\n");
        let raw = Raw { bytes: answer.into_bytes(), then: Then::Wait };
        let rig = Rig::new(Guest::new(0).unwrap().chatting(Chat::Raw(raw))).await;
        let answer = rig.ask().await;
        assert!(!answer.headers().contains_key("location"));
        let told = error(answer, 502).await;
        assert_eq!(told, ("upstream_error".to_owned(), "invalid_answer".to_owned()), "{status}");
    }
}

/// OpenAI's clients would read `{"a":` for the whole answer where the length were passed on.
#[tokio::test]
async fn an_answers_framing_is_this_endpoints_own() {
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n7\r\n{\"a\":1}\r\n0\r\n\r\n";
    let raw = Raw { bytes: answer.into(), then: Then::Wait };
    let rig = Rig::new(Guest::new(0).unwrap().chatting(Chat::Raw(raw))).await;
    let answer = rig.ask().await;
    assert_eq!(answer.status(), 200);
    assert!(!answer.headers().contains_key("content-length"));
    assert_eq!(whole(answer).await, b"{\"a\":1}");
}

/// The chunks count, and nothing behind them is believed (RFC 9112 section 6.1).
#[tokio::test]
async fn a_body_with_two_lengths_smuggles_nothing() {
    let rig = Rig::new(Guest::new(0).unwrap()).await;
    let hidden = "GET /v1/models HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let request = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n{hidden}",
        15 + hidden.len()
    );
    let answer = raw_open(rig.address, &request).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.matches("HTTP/1.1 ").count() == 1, "{answer}");
    let requests = rig.guest.guest.requests();
    let lines: Vec<&str> = requests.iter().map(|request| request.line.as_str()).collect();
    assert_eq!(lines[1..], ["POST /v1/chat/completions"]);
    assert_eq!(requests[1].body, b"hello");
    let length = ("content-length".to_owned(), "5".to_owned());
    assert!(requests[1].headers.contains(&length), "{:?}", requests[1].headers);
    assert!(requests[1].headers.iter().all(|(name, _)| name != "transfer-encoding"));
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_their_order() {
    let rig = Rig::new(Guest::new(0).unwrap()).await;
    let request = "GET /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n\
        GET /v2/nothing HTTP/1.1\r\nhost: localhost\r\n\r\n\
        nonsense\r\n\r\n";
    let answer = raw(rig.address, request.as_bytes()).await;
    let statuses: Vec<&str> = answer.split("HTTP/1.1 ").skip(1).map(|one| &one[..3]).collect();
    assert_eq!(statuses, ["200", "404", "400"], "{answer}");
    assert!(answer.ends_with(r#""code":"malformed_http"}}"#), "{answer}");
}

#[tokio::test]
async fn a_program_of_http_1_0_is_served() {
    let rig = Rig::new(Guest::new(0).unwrap()).await;
    let answer = raw_open(rig.address, "GET /v1/models HTTP/1.0\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.0 200 OK\r\n") && answer.contains(guest::MODEL), "{answer}");
    let answer = raw_open(rig.address, "GET /v1/models HTTP/1.1\r\nconnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("host_malformed"), "{answer}");
}

/// A program that waits to be asked for its body is asked only once the guest is accepted.
#[tokio::test]
async fn a_body_is_asked_for_after_the_verdict() {
    let rig = Rig::new(Guest::new(0).unwrap().attesting(Attestation::OtherKey)).await;
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\ncontent-length: 2\r\nconnection: close\r\n\r\n"
    );
    let answer = raw_open(rig.address, &head).await;
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    let _ = rig.guest.guest.clone().attesting(Attestation::Honest);
    rig.attested().await;
    let mut stream = TcpStream::connect(rig.address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).await.unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"{}").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
}

#[tokio::test]
async fn a_program_that_leaves_ends_its_request() {
    let gate = Arc::new(Semaphore::new(1));
    let rig = Rig::new(Guest::new(0).unwrap().chatting(Chat::Gated(Arc::clone(&gate)))).await;
    let mut stream = TcpStream::connect(rig.address).await.unwrap();
    let body = String::from_utf8(question()).unwrap();
    let request =
        format!("POST {CHAT} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut first = [0; 15];
    stream.read_exact(&mut first).await.unwrap();
    drop(stream);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let _ = rig.guest.guest.clone().chatting(Chat::Answer);
    assert_eq!(rig.ask().await.status(), 200);
    assert_eq!(
        rig.guest.guest.seen().len(),
        2,
        "the connection with the rest of the answer is not used again"
    );
}

#[tokio::test]
async fn the_verdict_can_be_asked_for() {
    let rig = Rig::new(Guest::new(0).unwrap()).await;
    rig.attested().await;
    let answer = rig.verdict().await;
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["content-type"]),
        (200, &"application/json".parse().unwrap())
    );
    let verdict: Value = serde_json::from_slice(&whole(answer).await).unwrap();
    assert_eq!((&verdict["outcome"], &verdict["simulated"]), (&json!("accepted"), &json!(true)));
    assert!(verdict["checks"].as_array().unwrap().len() > 10);
}

#[tokio::test]
async fn only_loopback_is_listened_on_unless_asked_and_with_a_token() {
    let guest = Guest::new(0).unwrap().listen().await.unwrap();
    let anywhere = SocketAddr::from(([0, 0, 0, 0], 0));
    let bound = |access, exposure| Proxy::bind(of(&guest.url()), access, anywhere, exposure);
    let refused = bound(Access::open().token("t"), Exposure::Loopback).await.err().unwrap();
    assert!(matches!(refused, ProxyError::NotLoopback(_)), "{refused}");
    let refused = bound(Access::open(), Exposure::Anybody).await.err().unwrap();
    assert_eq!((matches!(refused, ProxyError::TokenMissing(_)), refused.code()), (true, "token_missing"));
    assert!(bound(Access::open().token("t"), Exposure::Anybody).await.is_ok());
}

#[tokio::test]
async fn a_dot_within_a_segment_is_passed_on_as_it_is_written() {
    let rig = Rig::new(Guest::new(0).unwrap()).await;
    for path in ["/v1/files/a%2Eb", "/v1/files/a.b", "/v1/files/.c/..d?x=../y", "/v1/files/a%2Fb/"] {
        assert_eq!(
            rig.send("GET", path, &[], vec![]).await.headers()["x-confide-verdict"],
            "accepted, SIMULATED"
        );
        assert_eq!(rig.guest.guest.requests().last().unwrap().line, format!("GET {path}"));
    }
}

/// What is let through of a request, and what is not: both stand in the documentation.
#[tokio::test]
async fn fields_that_carry_meaning_pass_and_those_that_tell_of_the_person_do_not() {
    const PASS: [&str; 18] = [
        "accept",
        "content-disposition",
        "content-encoding",
        "content-language",
        "content-range",
        "content-type",
        "idempotency-key",
        "if-match",
        "if-modified-since",
        "if-none-match",
        "if-range",
        "if-unmodified-since",
        "openai-beta",
        "openai-organization",
        "openai-project",
        "range",
        "x-client-request-id",
        "x-request-id",
    ];
    const STAY: [&str; 11] = [
        "accept-encoding",
        "accept-language",
        "cookie",
        "forwarded",
        "from",
        "proxy-authorization",
        "referer",
        "traceparent",
        "user-agent",
        "x-forwarded-for",
        "x-stainless-os",
    ];
    let rig = Rig::new(Guest::new(0).unwrap()).await;
    let fields: Vec<(&str, &str)> =
        [&PASS[..], &STAY].concat().into_iter().map(|name| (name, "a-value")).collect();
    let fields = [&fields[..], &[("openai-beta", "another")]].concat();
    assert_eq!(
        rig.send("PUT", "/v1/files/1", &fields, b"{}".to_vec()).await.headers()["x-confide-verdict"],
        "accepted, SIMULATED"
    );
    let requests = rig.guest.guest.requests();
    let seen = &requests.last().unwrap().headers;
    for name in PASS {
        let value = if name == "openai-beta" { "a-value, another" } else { "a-value" };
        let found: Vec<&str> =
            seen.iter().filter(|(found, _)| found == name).map(|(_, value)| value.as_str()).collect();
        assert_eq!(found, [value], "{name}");
    }
    for name in STAY {
        assert!(seen.iter().all(|(found, _)| found != name), "{name}: {seen:?}");
    }
    let page = include_str!("../../../docs/proxy.md");
    let listed = |names: &[&str], heading: &str| {
        let row =
            page.lines().find(|line| line.starts_with(heading)).unwrap_or_else(|| panic!("no row {heading}"));
        let row = row.to_ascii_lowercase();
        for name in names {
            let family = format!("`{}-*`", name.split('-').next().unwrap());
            assert!(row.contains(&format!("`{name}`")) || row.contains(&family), "{name}: {row}");
        }
    };
    listed(&PASS, "| of a request, passed |");
    listed(&STAY, "| of a request, kept back |");
}

#[tokio::test]
async fn of_a_file_its_part_and_version_are_passed_on() {
    let told = "HTTP/1.1 206 Partial Content\r\ncontent-type: text/plain\r\ncontent-range: bytes 0-1/9\r\naccept-ranges: bytes\r\n\
        etag: \"1\"\r\nlast-modified: Sun, 06 Nov 1994 08:49:37 GMT\r\ncontent-disposition: attachment\r\nopenai-version: 2020-10-01\r\n\
        set-cookie: a=b\r\naccess-control-allow-origin: *\r\ncontent-length: 2\r\n\r\nab";
    let rig =
        Rig::new(Guest::new(0).unwrap().chatting(Chat::Raw(Raw { bytes: told.into(), then: Then::Wait })))
            .await;
    let answer = rig.ask().await;
    assert_eq!(answer.status(), 206);
    let page = include_str!("../../../docs/proxy.md").to_ascii_lowercase();
    let row = page.lines().find(|line| line.starts_with("| of an answer, passed |")).unwrap();
    for (name, value) in [
        ("content-range", "bytes 0-1/9"),
        ("accept-ranges", "bytes"),
        ("etag", "\"1\""),
        ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT"),
        ("content-disposition", "attachment"),
        ("openai-version", "2020-10-01"),
    ] {
        assert_eq!(answer.headers()[name], value, "{name}");
        assert!(
            row.contains(&format!("`{name}`")) || name.starts_with("openai-") && row.contains("`openai-*`"),
            "{name}"
        );
    }
    assert!(!answer.headers().contains_key("set-cookie"));
    assert!(!answer.headers().contains_key("access-control-allow-origin"));
    assert_eq!(whole(answer).await, b"ab");

    let same = "HTTP/1.1 304 Not Modified\r\netag: \"1\"\r\n\r\n";
    let rig =
        Rig::new(Guest::new(0).unwrap().chatting(Chat::Raw(Raw { bytes: same.into(), then: Then::Wait })))
            .await;
    let answer = rig.ask().await;
    assert_eq!((answer.status().as_u16(), &answer.headers()["etag"]), (304, &"\"1\"".parse().unwrap()));
}

#[tokio::test]
async fn of_a_body_that_is_not_sent_the_length_is_told() {
    let told = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 4321\r\n\r\n";
    let raw = Raw { bytes: told.into(), then: Then::Wait };
    let rig = Rig::new(Guest::new(0).unwrap().chatting(Chat::Raw(raw))).await;
    let request = "HEAD /v1/files/1/content HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let answer = raw_open(rig.address, request).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
    assert_eq!(answer.matches("content-length: 4321\r\n").count(), 1, "{answer}");
}

/// However the head is cut into pieces on its way.
#[tokio::test]
async fn the_limit_of_a_head_is_exact() {
    const MOST: usize = 64 * 1024;
    let rig = Rig::new(Guest::new(0).unwrap()).await;
    rig.attested().await;
    let head = |length: usize| {
        let (begin, end) =
            ("GET /v1/models HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nx: ", "\r\n\r\n");
        format!("{begin}{}{end}", "a".repeat(length - begin.len() - end.len()))
    };
    for (length, pieces, status) in [
        (MOST, 1, 200),
        (MOST, 3, 200),
        (MOST + 1, 1, 431),
        (MOST + 1, 3, 431),
        (MOST + 100, 1, 431),
        (2 * MOST, 1, 431),
    ] {
        let (head, mut stream) = (head(length), TcpStream::connect(rig.address).await.unwrap());
        stream.set_nodelay(true).unwrap();
        for piece in head.as_bytes().chunks(length.div_ceil(pieces)) {
            stream.write_all(piece).await.unwrap();
            tokio::time::sleep(Duration::from_millis(if pieces > 1 { 20 } else { 0 })).await;
        }
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{length} in {pieces}: {answer}");
        assert_eq!(
            answer.contains(r#""code":"request_head_too_large""#),
            status == 431,
            "{length} in {pieces}: {answer}"
        );
    }
}

#[tokio::test]
async fn a_shutdown_lets_open_answers_end() {
    let gate = Arc::new(Semaphore::new(1));
    let mut rig = Rig::new(Guest::new(0).unwrap().chatting(Chat::Gated(Arc::clone(&gate)))).await;
    let answer = rig.ask().await;
    drop(rig.endpoint.stop.take());
    rig.drains().await;
    gate.add_permits(100);
    assert!(whole(answer).await.ends_with(b"data: [DONE]\n\n"));
    let served = tokio::time::timeout(Duration::from_secs(5), rig.endpoint.served);
    assert_eq!(served.await.expect("the server ends").unwrap(), 0);
    assert!(TcpStream::connect(rig.address).await.is_err(), "no longer listening");
}

#[tokio::test]
async fn while_it_drains_health_is_told_and_nothing_new_is_taken() {
    let gate = Arc::new(Semaphore::new(1));
    let mut rig = Rig::new(Guest::new(0).unwrap().chatting(Chat::Gated(Arc::clone(&gate)))).await;
    let answer = rig.ask().await;
    let (mut idle, mut sent) = (TcpStream::connect(rig.address).await.unwrap(), Vec::new());
    drop(rig.endpoint.stop.take());
    rig.drains().await;
    for (path, status, word) in
        [("live", 200, "live"), ("ready", 503, "draining"), ("attested", 200, "attested")]
    {
        let answer = rig.send("GET", &format!("/_confide/health/{path}"), &[], vec![]).await;
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["connection"]),
            (status, &"close".parse().unwrap()),
            "{path}"
        );
        let told: Value = serde_json::from_slice(&whole(answer).await).unwrap();
        assert_eq!(told["status"], word, "{path}");
    }
    assert_eq!(rig.endpoint.status().await["state"], "draining");
    let asked = rig.guest.guest.requests().len();
    for (method, path) in [("POST", CHAT), ("GET", "/v1/models"), ("GET", "/v1/files/1")] {
        let refused = rig.send(method, path, &[], question()).await;
        assert_eq!(
            (&refused.headers()["connection"], &refused.headers()["retry-after"]),
            (&"close".parse().unwrap(), &"1".parse().unwrap())
        );
        assert_eq!(
            error(refused, 503).await,
            ("server_error".to_owned(), "endpoint_draining".to_owned()),
            "{method} {path}"
        );
    }
    // So is what comes over a connection that was there before.
    idle.write_all(b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    idle.read_to_end(&mut sent).await.unwrap();
    assert!(String::from_utf8(sent).unwrap().contains(r#""code":"endpoint_draining""#));
    assert_eq!(rig.guest.guest.requests().len(), asked);
    gate.add_permits(100);
    assert!(whole(answer).await.ends_with(b"data: [DONE]\n\n"), "the open answer is none of this");
    assert_eq!(rig.endpoint.served.await.unwrap(), 0);
}

#[tokio::test]
async fn what_is_still_under_way_at_the_end_of_a_drain_is_told_so_and_counted() {
    let gate = Arc::new(Semaphore::new(2));
    let mut rig = Rig::new(Guest::new(0).unwrap().chatting(Chat::Gated(Arc::clone(&gate)))).await;
    let mut stream = rig.ask().await.into_body();
    let mut text = Vec::new();
    while text.windows(6).filter(|window| window == b"data: ").count() < 2 {
        text.extend(stream.frame().await.unwrap().unwrap().into_data().unwrap());
    }
    // An answer of a file, whose length the guest has announced.
    let begun =
        "HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ncontent-length: 40\r\n\r\nbegun";
    let _ = rig.guest.guest.clone().chatting(Chat::Raw(Raw { bytes: begun.into(), then: Then::Wait }));
    let mut file = rig.ask().await.into_body();
    assert_eq!(file.frame().await.unwrap().unwrap().into_data().unwrap(), b"begun"[..]);
    // A request that has no answer yet.
    let _ = rig.guest.guest.clone().chatting(Chat::Raw(Raw { bytes: Vec::new(), then: Then::Wait }));
    let asked = rig.guest.guest.requests().len();
    let address = rig.address;
    let unanswered = tokio::spawn(async move { send(address, "POST", CHAT, &[], question()).await });
    let guest = rig.guest.guest.clone();
    endpoint::eventually("the guest has the request", || guest.requests().len() > asked).await;

    drop(rig.endpoint.stop.take());
    rig.drains().await;
    drop(rig.endpoint.cut.take());
    let rest = stream.collect().await.unwrap().to_bytes();
    let event =
        std::str::from_utf8(&rest).unwrap().strip_prefix("data: ").unwrap().strip_suffix("\n\n").unwrap();
    let event: Value = serde_json::from_str(event).unwrap();
    assert_eq!(
        (&event["error"]["type"], &event["error"]["code"]),
        (&json!("server_error"), &json!("endpoint_ended"))
    );
    assert!(file.collect().await.is_err(), "a truncated answer must not look whole");
    let told = error(unanswered.await.unwrap(), 503).await;
    assert_eq!(told, ("server_error".to_owned(), "endpoint_ended".to_owned()));
    assert_eq!(rig.endpoint.served.await.unwrap(), 3);
    assert!(TcpStream::connect(rig.address).await.is_err(), "no longer listening");
}

/// The guest never pauses, so that nothing but the cut ends the stream.
#[tokio::test]
async fn a_stream_without_pause_or_end_is_cut() {
    let mut rig = Rig::new(Guest::new(0).unwrap().chatting(Chat::Endless)).await;
    let mut stream = rig.ask().await.into_body();
    stream.frame().await.unwrap().unwrap();
    drop((rig.endpoint.stop.take(), rig.endpoint.cut.take()));
    let mut last = Vec::new();
    while let Some(frame) = stream.frame().await {
        match frame {
            Ok(frame) => last = frame.into_data().unwrap().to_vec(),
            // It stood within an event.
            Err(_) => last = b"endpoint_ended".to_vec(),
        }
    }
    assert!(String::from_utf8(last).unwrap().contains("endpoint_ended"));
    assert_eq!(rig.endpoint.served.await.unwrap(), 1);
}
