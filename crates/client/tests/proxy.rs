//! The proxy between a plain local program and a guest in this process.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use bytes::Bytes;
use confide_client::proxy::{Exposure, Proxy, ProxyError};
use confide_client::{Client, PolicyText};
use confide_policy::Loaded;
use confide_testkit::guest::{self, Attestation, Chat, Guest, Listening, Raw, Then};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;

const SECRET: &str = "the secret question";
const CHAT: &str = "/v1/chat/completions";

/// A proxy in front of a guest.
struct Rig {
    guest: Listening,
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    served: JoinHandle<()>,
}

impl Rig {
    async fn new(guest: Guest) -> Self {
        let guest = guest.listen().await.unwrap();
        let proxy = Proxy::bind(client(&guest.url()), loopback(), Exposure::Loopback).await.unwrap();
        let address = proxy.address();
        let (stop, stopped) = oneshot::channel();
        let served = tokio::spawn(proxy.serve(async { drop(stopped.await) }));
        Self { guest, address, stop: Some(stop), served }
    }

    async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Answer {
        send(self.address, method, path, headers, body).await
    }

    async fn ask(&self) -> Answer {
        self.send("POST", CHAT, &[("content-type", "application/json")], question()).await
    }
}

type Answer = http::Response<hyper::body::Incoming>;

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn client(url: &str) -> Client {
    let policy = PolicyText::parse(guest::policy("per-key", 300), Loaded::AsDanger).unwrap();
    Client::builder(url, policy).unwrap().build()
}

fn question() -> Vec<u8> {
    json!({ "model": "m", "messages": [{ "role": "user", "content": SECRET }] }).to_string().into_bytes()
}

async fn send(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Vec<u8>,
) -> Answer {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake::<_, Full<Bytes>>(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut request = http::Request::builder().method(method).uri(path);
    if !headers.iter().any(|(name, _)| *name == "host") {
        request = request.header("host", address.to_string());
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    sender.send_request(request.body(Full::from(body)).unwrap()).await.unwrap()
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

async fn whole(answer: Answer) -> Vec<u8> {
    answer.into_body().collect().await.unwrap().to_bytes().to_vec()
}

/// Holds an answer against the form of the OpenAI API's errors; gives type and code.
async fn error(answer: Answer, status: u16) -> (String, String) {
    assert_eq!(answer.status(), status);
    assert_eq!(answer.headers()["content-type"], "application/json");
    assert!(!answer.headers().contains_key("x-confide-verdict"));
    let body: Value = serde_json::from_slice(&whole(answer).await).unwrap();
    let fields = body["error"].as_object().unwrap();
    let mut names: Vec<&str> = fields.keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["code", "message", "param", "type"]);
    assert!(fields["param"].is_null() && !fields["message"].as_str().unwrap().is_empty());
    (fields["type"].as_str().unwrap().to_owned(), fields["code"].as_str().unwrap().to_owned())
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
    let told = error(answer, 502).await;
    assert_eq!(told, ("attestation_error".to_owned(), "report_data".to_owned()));
    let guest = &rig.guest.guest;
    assert!(!guest.saw(SECRET.as_bytes()) && !guest.saw(b"chat"));
    assert_eq!(guest.requests().len(), guest.attestations());

    let verdict = rig.send("GET", "/confide/verdict", &[], vec![]).await;
    assert_eq!(verdict.status(), 502);
    let verdict: Value = serde_json::from_slice(&whole(verdict).await).unwrap();
    assert_eq!((&verdict["outcome"], &verdict["code"]), (&json!("rejected"), &json!("report_data")));

    let _ = guest.clone().attesting(Attestation::Honest);
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
    assert_eq!(rig.guest.guest.attestations(), 1);
}

#[tokio::test]
async fn network_faults_are_errors_of_the_api() {
    let rig = Rig::new(Guest::new(0).unwrap()).await;
    let gone = {
        let guest = Guest::new(0).unwrap().listen().await.unwrap();
        guest.url()
    };
    tokio::time::sleep(Duration::from_millis(50)).await;
    let proxy = Proxy::bind(client(&gone), loopback(), Exposure::Loopback).await.unwrap();
    let address = proxy.address();
    tokio::spawn(proxy.serve(std::future::pending()));
    let told = error(send(address, "POST", CHAT, &[], question()).await, 502).await;
    assert_eq!(told, ("upstream_error".to_owned(), "dial_failed".to_owned()));
    let told = error(send(address, "GET", "/confide/verdict", &[], vec![]).await, 502).await;
    assert_eq!(told.1, "dial_failed");

    let _ = rig.guest.guest.clone().attesting(Attestation::Status(503));
    let told = error(rig.ask().await, 502).await;
    assert_eq!(told, ("upstream_error".to_owned(), "attestation_status".to_owned()));
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

#[tokio::test]
async fn an_answer_that_breaks_within_an_event_breaks_here() {
    let rig = Rig::new(Guest::new(0).unwrap().chatting(Chat::TornEvent)).await;
    let answer = rig.ask().await;
    assert_eq!(answer.status(), 200);
    assert!(answer.into_body().collect().await.is_err(), "a truncated answer must not look whole");
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
        ("GET", "/confide/verdict", vec![("origin", "null")], 403, "origin_refused"),
        ("GET", "/v1/models", vec![("sec-fetch-site", "cross-site")], 403, "origin_refused"),
        ("GET", "/v1/models", vec![("host", "evil.example:8787")], 403, "host_refused"),
        ("GET", "/v1/models", vec![("host", "localhost"), ("host", "localhost")], 400, "host_malformed"),
        ("GET", "http://api.example/v1/models", vec![], 403, "host_refused"),
        ("CONNECT", "api.example:443", vec![], 403, "host_refused"),
        ("CONNECT", "127.0.0.1:443", vec![], 404, "unknown_path"),
        ("OPTIONS", CHAT, vec![("origin", "http://localhost")], 405, "method_not_allowed"),
        ("TRACE", CHAT, vec![], 405, "method_not_allowed"),
        ("GET", CHAT, vec![("upgrade", "websocket"), ("connection", "upgrade")], 405, "method_not_allowed"),
        ("GET", CHAT, vec![("host", local.as_str())], 405, "method_not_allowed"),
        ("PUT", "/v1/models", vec![], 405, "method_not_allowed"),
        ("GET", "/", vec![], 404, "unknown_path"),
        ("POST", "/.well-known/confide/attestation", vec![], 404, "unknown_path"),
        ("POST", "/v1/../admin", vec![], 404, "unknown_path"),
    ] {
        let told = error(rig.send(method, path, &headers, vec![]).await, status).await;
        assert_eq!(told, invalid(code), "{method} {path} {headers:?}");
    }
    assert!(rig.guest.guest.seen().is_empty(), "the guest was not even dialled");
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
    assert!(rig.guest.guest.seen().is_empty());

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
    assert!(rig.guest.guest.seen().is_empty(), "the guest was not even dialled");
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
    assert!(rig.guest.guest.seen().is_empty(), "the guest was not even dialled");
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
        GET /v1/nothing HTTP/1.1\r\nhost: localhost\r\n\r\n\
        nonsense\r\n\r\n";
    let answer = raw(rig.address, request.as_bytes()).await;
    let statuses: Vec<&str> = answer.split("HTTP/1.1 ").skip(1).map(|one| &one[..3]).collect();
    assert_eq!(statuses, ["200", "405", "400"], "{answer}");
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
    let answer = rig.send("GET", "/confide/verdict", &[], vec![]).await;
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["content-type"]),
        (200, &"application/json".parse().unwrap())
    );
    let verdict: Value = serde_json::from_slice(&whole(answer).await).unwrap();
    assert_eq!((&verdict["outcome"], &verdict["simulated"]), (&json!("accepted"), &json!(true)));
    assert!(verdict["checks"].as_array().unwrap().len() > 10);
}

#[tokio::test]
async fn only_loopback_is_listened_on_unless_asked() {
    let guest = Guest::new(0).unwrap().listen().await.unwrap();
    let anywhere = SocketAddr::from(([0, 0, 0, 0], 0));
    let refused = Proxy::bind(client(&guest.url()), anywhere, Exposure::Loopback).await.err().unwrap();
    assert!(matches!(refused, ProxyError::NotLoopback(_)), "{refused}");
}

#[tokio::test]
async fn a_shutdown_lets_open_answers_end() {
    let gate = Arc::new(Semaphore::new(1));
    let mut rig = Rig::new(Guest::new(0).unwrap().chatting(Chat::Gated(Arc::clone(&gate)))).await;
    let answer = rig.ask().await;
    drop(rig.stop.take());
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(TcpStream::connect(rig.address).await.is_err(), "no longer listening");
    gate.add_permits(100);
    assert!(whole(answer).await.ends_with(b"data: [DONE]\n\n"));
    tokio::time::timeout(Duration::from_secs(5), rig.served).await.expect("the server ends").unwrap();
}
