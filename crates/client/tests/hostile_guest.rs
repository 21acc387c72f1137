//! Guests that misbehave below HTTP: whatever they write, the client ends with an error or with the whole answer, and
//! never gives them more than it would give an honest one.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use confide_client::{ApiKey, ChatRequest, Client, PolicyText, Prompt, Request, Turn};
use confide_policy::Loaded;
use confide_service::logging;
use confide_testkit::guest::{self, Attestation, Chat, Guest, Listening, MODEL, Raw, Then, WORDS};
use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;

const SECRET: &str = "the secret question";
const KEY: &str = "sk-secret-key";
const LONG: u64 = 300;

fn client_of(url: &str, attest: &str, max_age_seconds: u64) -> Client {
    let policy = PolicyText::parse(guest::policy(attest, max_age_seconds), Loaded::AsDanger).unwrap();
    Client::builder(url, policy).unwrap().build()
}

fn client(guest: &Listening) -> Client {
    client_of(&guest.url(), "per-key", LONG)
}

fn question() -> ChatRequest {
    ChatRequest::new(MODEL).turn(Turn::user(SECRET)).api_key(ApiKey::bearer(KEY).unwrap())
}

fn raw(bytes: impl Into<Vec<u8>>, then: Then) -> Raw {
    Raw { bytes: bytes.into(), then }
}

/// A completion that says `content`.
fn completion(content: &str) -> String {
    serde_json::json!({
        "model": MODEL,
        "choices": [{ "message": { "role": "assistant", "content": content }, "finish_reason": "stop" }],
    })
    .to_string()
}

fn with_length(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn assert_nothing_given_away(guest: &Guest) {
    for secret in [SECRET, KEY, MODEL, "/v1/", "chat"] {
        assert!(!guest.saw(secret.as_bytes()), "the guest saw {secret:?}");
    }
}

async fn until(what: &str, done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(10), "waited for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn broken_answers_are_errors() {
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let whole = completion("half?");
    let (first, _) = whole.split_at(whole.len() / 2);
    let nested = with_length(&"[".repeat(100_000));
    for (what, answer, code) in [
        (
            "a head without end",
            raw(format!("HTTP/1.1 200 OK\r\nx: {}", "a".repeat(300_000)), Then::Wait),
            "connection_failed",
        ),
        (
            "fields without number",
            raw(format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(65)), Then::Wait),
            "connection_failed",
        ),
        ("no HTTP", raw("\x16\x03\x01 hello\r\n\r\n", Then::Wait), "connection_failed"),
        ("HTTP/0.9", raw(whole.clone(), Then::Close), "connection_failed"),
        ("another version", raw("HTTP/2 200 OK\r\n\r\n", Then::Wait), "connection_failed"),
        (
            "two lengths",
            raw("HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab", Then::Wait),
            "connection_failed",
        ),
        (
            "a length beyond numbers",
            raw("HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\n", Then::Wait),
            "connection_failed",
        ),
        (
            "less than announced",
            raw(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{first}", whole.len()), Then::Close),
            "connection_failed",
        ),
        ("a chunk size that is none", raw(format!("{chunked}zz\r\n"), Then::Wait), "connection_failed"),
        (
            "a chunk size beyond numbers",
            raw(format!("{chunked}fffffffffffffffff\r\n"), Then::Wait),
            "connection_failed",
        ),
        ("a chunk without its end", raw(format!("{chunked}2\r\n{{}}zz"), Then::Wait), "connection_failed"),
        (
            "no last chunk",
            raw(format!("{chunked}{:x}\r\n{whole}\r\n", whole.len()), Then::Close),
            "connection_failed",
        ),
        (
            "an extension without end",
            raw(format!("{chunked}2;{}", "x".repeat(100_000)), Then::Wait),
            "connection_failed",
        ),
        (
            "trailers without end",
            raw(format!("{chunked}0\r\nx: {}", "a".repeat(300_000)), Then::Wait),
            "connection_failed",
        ),
        (
            "cut off by the network",
            raw(format!("HTTP/1.1 200 OK\r\n\r\n{whole}"), Then::Cut),
            "connection_failed",
        ),
        (
            "another protocol",
            raw("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", Then::Close),
            "upstream_error",
        ),
        ("nested JSON", raw(nested, Then::Wait), "invalid_answer"),
        ("no JSON", raw(with_length("<html>"), Then::Wait), "invalid_answer"),
        (
            "JSON of another shape",
            raw(with_length("{\"model\":1,\"choices\":{}}"), Then::Wait),
            "invalid_answer",
        ),
        ("no choice", raw(with_length("{\"model\":\"m\",\"choices\":[]}"), Then::Wait), "invalid_answer"),
    ] {
        let guest = Guest::new(0).unwrap().chatting(Chat::Raw(answer)).listen().await.unwrap();
        let answered = tokio::time::timeout(Duration::from_secs(20), client(&guest).chat(question())).await;
        let error = answered.expect(what).err().unwrap_or_else(|| panic!("{what}: answered"));
        assert_eq!(error.code(), code, "{what}: {error}");
        assert!(!error.to_string().contains(SECRET) && !format!("{error:?}").contains(SECRET), "{what}");
    }
}

#[tokio::test]
async fn an_answer_that_ends_with_the_connection_is_whole_only_with_tls_goodbye() {
    let answer = format!("HTTP/1.1 200 OK\r\n\r\n{}", completion("all of it"));
    let guest = Guest::new(0).unwrap().chatting(Chat::Raw(raw(answer, Then::Close))).listen().await.unwrap();
    assert_eq!(client(&guest).chat(question()).await.unwrap().content, "all of it");
}

#[tokio::test]
async fn interim_answers_are_passed_over() {
    let answer =
        format!("{}{}", "HTTP/1.1 100 Continue\r\n\r\n".repeat(1000), with_length(&completion("at last")));
    let guest = Guest::new(0).unwrap().chatting(Chat::Raw(raw(answer, Then::Wait))).listen().await.unwrap();
    assert_eq!(client(&guest).chat(question()).await.unwrap().content, "at last");
}

#[tokio::test]
async fn an_answer_without_end_is_given_up() {
    let guest = Guest::new(0).unwrap().chatting(Chat::Endless).listen().await.unwrap();
    let error = client(&guest).chat(question()).await.err().unwrap();
    assert_eq!(error.to_string(), "the guest's answer is not as expected: too large");
}

#[tokio::test]
async fn an_error_that_never_ends_is_told_without_its_sentence() {
    let answer = raw("HTTP/1.1 500 Oops\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{\r\n", Then::Wait);
    let guest = Guest::new(0).unwrap().chatting(Chat::Raw(answer)).listen().await.unwrap();
    let error = client(&guest).chat(question()).await.err().unwrap();
    assert_eq!(error.to_string(), "the guest answered 500: Internal Server Error");
}

#[tokio::test]
async fn a_second_answer_is_not_that_of_the_next_request() {
    let two = [with_length(&completion("first")), with_length(&completion("smuggled"))].concat();
    let guest = Guest::new(0).unwrap().chatting(Chat::Raw(raw(two, Then::Wait))).listen().await.unwrap();
    let client = client(&guest);
    assert_eq!(client.chat(question()).await.unwrap().content, "first");
    let _ = guest.guest.clone().chatting(Chat::Answer);
    for _ in 0..3 {
        assert_eq!(client.chat(question()).await.unwrap().content, WORDS.concat());
    }
    assert_eq!(guest.guest.seen().len(), 2, "the connection was given up");
}

#[tokio::test]
async fn what_a_peer_says_unasked_is_no_evidence() {
    for eager in [
        "HTTP/1.1 200 OK\r\ncontent-type: application/vnd.confide.evidence+cbor\r\ncontent-length: 1\r\n\r\n\u{0}",
        "HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n",
        "nonsense",
    ] {
        let guest =
            Guest::new(0).unwrap().attesting(Attestation::Eager(eager.into())).listen().await.unwrap();
        let error = client(&guest).chat(question()).await.err().unwrap();
        let codes = ["connection_failed", "document_format", "attestation_status"];
        assert!(codes.contains(&error.code()), "{eager:?}: {error}");
        assert_nothing_given_away(&guest.guest);
    }
}

#[tokio::test]
async fn broken_evidence_is_refused_and_told_nothing() {
    let media = "content-type: application/vnd.confide.evidence+cbor\r\n";
    for (what, answer) in [
        ("a head without end", raw(format!("HTTP/1.1 200 OK\r\nx: {}", "a".repeat(300_000)), Then::Wait)),
        (
            "less than announced",
            raw(format!("HTTP/1.1 200 OK\r\n{media}content-length: 9\r\n\r\n\u{0}"), Then::Close),
        ),
        ("cut off by the network", raw(format!("HTTP/1.1 200 OK\r\n{media}\r\n\u{0}"), Then::Cut)),
        (
            "a chunk size that is none",
            raw(format!("HTTP/1.1 200 OK\r\n{media}transfer-encoding: chunked\r\n\r\nzz\r\n"), Then::Wait),
        ),
    ] {
        let guest = Guest::new(0).unwrap().attesting(Attestation::Raw(answer)).listen().await.unwrap();
        let error = client(&guest).chat(question()).await.err().unwrap();
        assert_eq!(error.code(), "connection_failed", "{what}: {error}");
        assert_nothing_given_away(&guest.guest);
    }
    let redirect =
        raw("HTTP/1.1 307 x\r\nlocation: https://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n", Then::Wait);
    let guest = Guest::new(0).unwrap().attesting(Attestation::Raw(redirect)).listen().await.unwrap();
    assert_eq!(client(&guest).chat(question()).await.err().unwrap().code(), "attestation_status");
    assert_nothing_given_away(&guest.guest);
}

/// The testkit's guest gives tickets and offers early data.
#[tokio::test]
async fn tls_sessions_are_not_resumed() {
    let guest = Guest::new(0).unwrap().chatting(Chat::Close).listen().await.unwrap();
    let client = client(&guest);
    for _ in 0..3 {
        client.chat(question()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let seen = guest.guest.seen();
    assert_eq!(seen.len(), 3);
    assert!(seen.iter().all(|connection| !connection.resumed));
}

/// Two guests behind one address: the first connection reaches one that never attests.
#[tokio::test]
async fn a_peer_that_is_slow_to_attest_holds_up_nobody_who_reached_another() {
    let silent = Guest::new(0).unwrap().attesting(Attestation::Silent);
    let honest = Guest::new(1).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let balancer = tokio::spawn({
        let (silent, honest) = (silent.clone(), honest.clone());
        async move {
            for guest in std::iter::once(silent).chain(std::iter::repeat(honest)) {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(async move { guest.serve(stream).await });
            }
        }
    });
    let client = client_of(&url, "per-key", LONG);
    let stuck = tokio::spawn({
        let client = client.clone();
        async move { client.chat(question()).await.is_ok() }
    });
    until("the silent peer's attestation request", || silent.attestations() == 1).await;
    let answered = tokio::time::timeout(Duration::from_secs(10), client.chat(question())).await;
    assert_eq!(answered.expect("not held up").unwrap().content, WORDS.concat());
    assert_nothing_given_away(&silent);
    stuck.abort();
    balancer.abort();
}

#[tokio::test]
async fn a_refused_renewal_ends_every_channel_of_the_key() {
    let guest = Guest::new(0).unwrap().listen().await.unwrap();
    let client = client_of(&guest.url(), "per-key", 4);
    client.verdict().await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    // One channel on loan, a second one idle: the second one is asked for new evidence.
    let lease = client.lease().await.unwrap();
    client.chat(question()).await.unwrap();
    let _ = guest.guest.clone().attesting(Attestation::OtherKey);
    until("the renewal", || guest.guest.attestations() == 2).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(
        lease.verdict().left(confide_channel::Moment::now()).is_zero(),
        "revoked before its time is over"
    );
    let before = guest.guest.requests().len();
    let request = Request::post("/v1/chat/completions", Prompt::from(SECRET.to_owned())).unwrap();
    let Err(error) = lease.send(request).await else { panic!("sent to a guest that is no longer accepted") };
    assert_eq!(error.code(), "report_data", "{error}");
    let after = guest.guest.requests();
    assert!(after[before..].iter().all(|request| request.line.ends_with("/attestation")), "no prompt");
}

#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// All of a client's work is on this thread, whose events are written down at the finest level.
#[tokio::test]
async fn no_log_holds_a_prompt_a_key_or_an_answer() {
    let memory = Memory::default();
    let kept = memory.clone();
    let filter = "trace".parse().unwrap();
    let subscriber =
        logging::subscriber(logging::Format::Json, filter, logging::Colours::Plain, move || kept.clone());
    let listening = tracing::subscriber::set_default(subscriber);
    let guest = Guest::new(0).unwrap().listen().await.unwrap();
    let client = client_of(&guest.url(), "per-key", 4);
    client.chat(question()).await.unwrap();
    let echoed = serde_json::json!({ "error": { "message": SECRET, "code": KEY } }).to_string();
    for answer in [
        raw(with_length(&completion(SECRET)).replace("200 OK", "500 Oops"), Then::Close),
        raw(with_length(&echoed).replace("200 OK", "400 Bad"), Then::Close),
        raw(SECRET, Then::Close),
    ] {
        let _ = guest.guest.clone().chatting(Chat::Raw(answer));
        client.chat(question()).await.err().unwrap();
    }
    until("the renewal", || guest.guest.attestations() == 2).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    drop(listening);
    let log = String::from_utf8(memory.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains("verdict renewed"), "the control: events are written down: {log}");
    for secret in [SECRET, KEY, WORDS[0], "/v1/chat"] {
        assert!(!log.contains(secret), "{secret:?} in {log}");
    }
}
