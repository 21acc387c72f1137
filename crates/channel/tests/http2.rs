//! HTTP/2 on an attested channel: the same rules for what is sent, and several requests at a time.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod common;

use common::{LONG, connect_offering, judge, open_http2, opened, policy};
use confide_channel::{
    Answer, AttestedChannel, Challenged, ChannelError, Prompt, Protocols, Request, VerdictCache,
};
use confide_policy::Attest;
use confide_testkit::guest::{Attestation, Chat, Guest, Raw, Then, WORDS};
use http_body_util::BodyExt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

const SECRET: &str = "the secret question";
/// Requests that the guest takes at a time.
const STREAMS: u32 = 10;
/// Frames (RFC 9113 section 6) in raw answers are for this stream: the attestation request was on the first one.
const SECOND: u32 = 3;

fn guest() -> Guest {
    Guest::new(0).unwrap().with_http2(STREAMS)
}

fn prompt() -> Request {
    Request::post("/v1/chat/completions", Prompt::from(format!("{{\"stream\":true,\"x\":\"{SECRET}\"}}")))
        .unwrap()
}

async fn whole(mut answer: Answer) -> Result<String, ChannelError> {
    let body = (&mut answer.body).collect().await?.to_bytes();
    Ok(String::from_utf8(body.to_vec()).unwrap())
}

async fn until(what: &str, done: impl Fn() -> bool) {
    for _ in 0..1000 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("waited for {what}");
}

#[tokio::test]
async fn only_the_attestation_request_leaves_before_a_verdict() {
    let guest = guest();
    let (channel, served) = connect_offering(&guest, Protocols::Http2OrHttp1).await;
    let challenged = channel.unwrap().attest().await.unwrap();
    assert_eq!(guest.requests().len(), 1);
    drop(challenged.channel);
    served.await.unwrap();
    let requests = guest.requests();
    let [request] = &requests[..] else { panic!("{} requests", requests.len()) };
    assert_eq!(request.line, "POST /.well-known/confide/attestation");
    assert_eq!(request.authority.as_deref(), Some("guest.invalid:8443"));
    let mut headers: Vec<_> =
        request.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    headers.sort_unstable();
    assert_eq!(
        headers,
        [
            ("accept", "application/vnd.confide.evidence+cbor"),
            ("content-length", "41"),
            ("content-type", "application/cbor"),
        ]
    );
    let plaintext = &guest.seen()[0].plaintext;
    assert!(plaintext.len() < 400, "{} bytes: preface, settings, window, one request", plaintext.len());
}

#[tokio::test]
async fn several_requests_share_one_connection_and_one_verdict() {
    let gate = Arc::new(Semaphore::new(0));
    let guest = guest().chatting(Chat::Gated(Arc::clone(&gate)));
    let channel = open_http2(&guest, Attest::EveryConnection, LONG).await;
    let mut answers = Vec::new();
    for _ in 0..5 {
        let shared = channel.share().unwrap();
        assert!(Arc::ptr_eq(shared.verdict(), channel.verdict()) && shared.is_beside(&channel));
        answers.push(shared.send(prompt()).await.unwrap());
    }
    assert_eq!(guest.requests().len(), 6, "all are under way: none has been answered to its end");
    gate.add_permits(1000);
    for answer in answers {
        assert!(whole(answer).await.unwrap().ends_with("data: [DONE]\n\n"));
    }
    assert_eq!((guest.attestations(), guest.seen().len()), (1, 1));
    assert!(guest.saw(SECRET.as_bytes()), "the control");
}

#[tokio::test]
async fn no_more_requests_share_a_connection_than_the_peer_allows() {
    let guest = guest();
    let channel = open_http2(&guest, Attest::PerKey, LONG).await;
    let shares: Vec<_> = std::iter::from_fn(|| channel.share()).take(1000).collect();
    assert_eq!(shares.len(), usize::try_from(STREAMS).unwrap() - 1, "one place is the channel's own");
    drop(shares);
    assert!(channel.share().is_some(), "places are free again");
    let generous = Guest::new(0).unwrap().with_http2(1_000_000);
    let channel = open_http2(&generous, Attest::PerKey, LONG).await;
    assert_eq!(std::iter::from_fn(|| channel.share()).take(1000).collect::<Vec<_>>().len(), 99);
}

#[tokio::test]
async fn a_channel_over_http_1_1_is_not_shared() {
    for (guest, protocols) in [(Guest::new(0).unwrap(), Protocols::Http2OrHttp1), (guest(), Protocols::Http1)]
    {
        let connection = connect_offering(&guest, protocols).await.0.unwrap();
        let channel = opened(connection.attest().await.unwrap(), Attest::PerKey, LONG);
        assert!(!channel.is_multiplexed() && channel.share().is_none());
        assert!(channel.challenge_beside().is_none());
        assert_eq!(channel.send(prompt()).await.unwrap().status, 200);
    }
}

#[tokio::test]
async fn a_cancelled_request_ends_no_other() {
    let gate = Arc::new(Semaphore::new(1));
    let guest = guest().chatting(Chat::Gated(Arc::clone(&gate)));
    let channel = open_http2(&guest, Attest::PerKey, LONG).await;
    let kept = channel.share().unwrap().send(prompt()).await.unwrap();
    let dropped = channel.share().unwrap().send(prompt()).await.unwrap();
    drop(dropped);
    // Not even a head comes.
    let _ = guest.clone().chatting(Chat::Raw(Raw { bytes: Vec::new(), then: Then::Wait }));
    let waiting = channel.share().unwrap();
    let aborted = tokio::spawn(async move { waiting.send(prompt()).await.map(|_| ()) });
    until("the third request", || guest.requests().len() == 4).await;
    aborted.abort();
    assert!(aborted.await.unwrap_err().is_cancelled());
    let _ = guest.clone().chatting(Chat::Answer);
    gate.add_permits(1000);
    assert!(whole(kept).await.unwrap().ends_with("data: [DONE]\n\n"));
    assert_eq!(channel.send(prompt()).await.unwrap().status, 200, "nor the connection");
    assert_eq!(guest.seen().len(), 1);
}

#[tokio::test]
async fn a_live_connection_is_attested_again_beside_its_requests() {
    let gate = Arc::new(Semaphore::new(0));
    let guest = guest().chatting(Chat::Gated(Arc::clone(&gate)));
    let channel = open_http2(&guest, Attest::EveryConnection, LONG).await;
    let under_way = channel.share().unwrap().send(prompt()).await.unwrap();
    let again = channel.challenge_beside().unwrap().await.unwrap();
    let younger = opened(again, Attest::EveryConnection, LONG);
    assert!(younger.is_beside(&channel) && !Arc::ptr_eq(younger.verdict(), channel.verdict()));
    drop(channel);
    gate.add_permits(1000);
    assert!(whole(under_way).await.unwrap().contains(WORDS[3].trim_end_matches('.')));
    assert_eq!(younger.send(prompt()).await.unwrap().status, 200);
    assert_eq!((guest.attestations(), guest.seen().len()), (2, 1));
}

/// A connection whose peer allows one request at a time: an answer that has it until the gate opens, and a handle with a
/// verdict of its own of this age, in seconds.
async fn full(gate: &Arc<Semaphore>, age: u64) -> (Guest, Answer, AttestedChannel) {
    let guest = Guest::new(0).unwrap().with_http2(1).chatting(Chat::Gated(Arc::clone(gate)));
    let channel = open_http2(&guest, Attest::PerKey, LONG).await;
    let beside = opened(channel.challenge_beside().unwrap().await.unwrap(), Attest::PerKey, age);
    let first = channel.send(prompt()).await.unwrap();
    assert_eq!(guest.requests().len(), 3, "two attestations and the first request");
    (guest, first, beside)
}

/// One whose head is all of it, and one with a body.
fn both() -> [Request; 2] {
    [Request::get("/v1/models").unwrap(), prompt()]
}

#[tokio::test]
async fn a_request_that_the_peer_holds_back_is_sent_while_the_verdict_holds() {
    for request in both() {
        let gate = Arc::new(Semaphore::new(0));
        let (guest, first, beside) = full(&gate, LONG).await;
        let waiting = tokio::spawn(beside.send(request));
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(guest.requests().len(), 3, "it waits");
        gate.add_permits(1000);
        whole(first).await.unwrap();
        assert_eq!(waiting.await.unwrap().unwrap().status, 200);
    }
}

#[tokio::test]
async fn a_request_that_the_peer_holds_back_beyond_its_verdict_is_not_sent() {
    for request in both() {
        let gate = Arc::new(Semaphore::new(0));
        let (guest, first, beside) = full(&gate, 2).await;
        let sent = tokio::time::timeout(Duration::from_secs(20), beside.send(request));
        let Err(failure) = sent.await.expect("it does not wait beyond the verdict") else { panic!("sent") };
        assert!(matches!(failure.error, ChannelError::VerdictExpired), "{}", failure.error);
        gate.add_permits(1000);
        assert!(whole(first).await.is_err(), "the connection has ended");
        assert_eq!(guest.requests().len(), 3);
    }
}

#[tokio::test]
async fn a_request_that_was_given_up_is_not_sent_beyond_its_verdict() {
    for request in both() {
        let gate = Arc::new(Semaphore::new(0));
        let (guest, first, beside) = full(&gate, LONG).await;
        let verdict = Arc::clone(beside.verdict());
        let waiting = tokio::spawn(beside.send(request));
        tokio::time::sleep(Duration::from_millis(100)).await;
        waiting.abort();
        assert!(waiting.await.is_err_and(|error| error.is_cancelled()));
        let mut cache = VerdictCache::default();
        cache.insert(Arc::clone(&verdict));
        cache.revoke(verdict.spki());
        // What is waited for is told at once.
        tokio::time::sleep(Duration::from_millis(200)).await;
        gate.add_permits(1000);
        assert!(whole(first).await.is_err(), "the connection has ended");
        assert_eq!(guest.requests().len(), 3);
    }
}

#[tokio::test]
async fn evidence_is_bound_to_the_connection_and_not_to_a_stream() {
    let guest = guest();
    let challenged =
        async || connect_offering(&guest, Protocols::Http2OrHttp1).await.0.unwrap().attest().await.unwrap();
    let (first, second) = (challenged().await, challenged().await);
    let policy = policy(Attest::PerKey, LONG);
    let witness = judge(&first.channel, &first.document, first.challenge, &policy).unwrap();
    let refused = AttestedChannel::open(second.channel, witness, Attest::PerKey).unwrap_err();
    assert!(matches!(refused, ChannelError::NonceMismatch), "{refused}");
    for attestation in [Attestation::OtherExporter, Attestation::OtherNonce, Attestation::OtherKey] {
        let _ = guest.clone().attesting(attestation.clone());
        let Challenged { channel, document, challenge } = challenged().await;
        let rejected = judge(&channel, &document, challenge, &policy).unwrap_err();
        assert_eq!(rejected.code(), "report_data", "{attestation:?}");
    }
    assert!(!guest.saw(SECRET.as_bytes()));
}

#[tokio::test]
async fn a_request_of_which_nothing_was_written_comes_back_and_fits_the_other_protocol() {
    let both = [Protocols::Http1, Protocols::Http2OrHttp1];
    for (first, second) in [(both[1], both[0]), (both[0], both[1])] {
        let guest = guest();
        let (connection, served) = connect_offering(&guest, first).await;
        let channel = opened(connection.unwrap().attest().await.unwrap(), Attest::PerKey, LONG);
        served.abort();
        until("the end of the connection", || channel.is_closed()).await;
        let Err(failure) = channel.send(prompt()).await else { panic!("sent over a closed connection") };
        let unsent = failure.unsent.unwrap();
        let connection = connect_offering(&guest, second).await.0.unwrap();
        let other = opened(connection.attest().await.unwrap(), Attest::PerKey, LONG);
        assert_eq!(other.send(unsent).await.unwrap().status, 200);
        let request = guest.requests().pop().unwrap();
        let has = |name: &str, value: &str| request.headers.contains(&(name.to_owned(), value.to_owned()));
        assert_eq!(has("host", "guest.invalid:8443"), second == Protocols::Http1);
        assert_eq!(request.authority.is_some(), second != Protocols::Http1);
        assert!(has("te", "trailers"), "{:?}", request.headers);
    }
}

/// A frame (RFC 9113 section 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// `:status: 200`, the eighth entry of the static table (RFC 7541 appendix A).
const STATUS_200: &[u8] = &[0x88];
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn head() -> Vec<u8> {
    frame(1, END_HEADERS, SECOND, STATUS_200)
}

/// What comes of these frames in the place of an answer.
async fn answered(frames: Vec<u8>, then: Then) -> Result<String, ChannelError> {
    let guest = guest().chatting(Chat::Raw(Raw { bytes: frames, then }));
    let channel = open_http2(&guest, Attest::PerKey, LONG).await;
    match channel.send(prompt()).await {
        Ok(answer) => whole(answer).await,
        Err(failure) => Err(failure.error),
    }
}

#[tokio::test]
async fn a_stream_that_is_cut_short_is_an_error() {
    let begun = [head(), frame(0, 0, SECOND, b"half")].concat();
    let ended = [begun.clone(), frame(0, END_STREAM, SECOND, b" and half")].concat();
    assert_eq!(answered(ended.clone(), Then::Wait).await.unwrap(), "half and half", "the control");
    for then in [Then::Close, Then::Cut] {
        assert_eq!(answered(ended.clone(), then).await.unwrap(), "half and half", "{then:?}");
        assert_eq!(answered(begun.clone(), then).await.unwrap_err().code(), "connection_failed", "{then:?}");
    }
    // hyper takes the first of these for an end; the second is CANCEL, the third INTERNAL_ERROR.
    for (reason, code) in [(0, "answer_cut"), (8, "connection_failed"), (2, "connection_failed")] {
        let reset = frame(3, 0, SECOND, &u32::to_be_bytes(reason));
        let refused = answered([begun.clone(), reset].concat(), Then::Wait).await.unwrap_err();
        assert_eq!(refused.code(), code, "reset with {reason}: {refused}");
    }
    let goaway = frame(7, 0, 0, &[1_u32.to_be_bytes(), 0_u32.to_be_bytes()].concat());
    let refused = answered([begun, goaway].concat(), Then::Wait).await.unwrap_err();
    assert_eq!(refused.code(), "answer_cut", "a goodbye that leaves the request out: {refused}");
    // A length of nine was announced (`content-length`, the 28th entry).
    let announced = frame(1, END_HEADERS, SECOND, &[STATUS_200, &[0x0f, 0x0d, 0x01, b'9']].concat());
    let short = [announced.clone(), frame(0, END_STREAM, SECOND, b"four")].concat();
    assert!(answered(short, Then::Wait).await.is_err());
    // Who has said all that was announced may reset the stream without an error (RFC 9113 section 8.1).
    let early = [announced, frame(0, 0, SECOND, b"all of it"), frame(3, 0, SECOND, &[0; 4])].concat();
    assert_eq!(answered(early, Then::Wait).await.unwrap(), "all of it");
}

#[tokio::test]
async fn what_breaks_the_rules_of_http_2_ends_the_connection() {
    let pushed = [&4_u32.to_be_bytes()[..], &[0x82, 0x87, 0x84, 0x41, 0x01, b'a']].concat();
    // Header fields that a byte each brings back from the table: 4 MiB of them in 64 KiB.
    let entry = [&[0x40, 0x01, b'x', 0x7f, 0xa1, 0x1e][..], &[b'y'; 4000]].concat();
    let bomb = [&entry[..], &[0xbe; 10_000]].concat();
    for (what, frames) in [
        ("a push", frame(5, END_HEADERS, SECOND, &pushed)),
        ("an answer nobody asked for", frame(1, END_HEADERS | END_STREAM, 99, STATUS_200)),
        ("data before a head", frame(0, END_STREAM, SECOND, b"x")),
        ("a frame that is too long", vec![0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 3]),
        ("a table index beyond the table", frame(1, END_HEADERS | END_STREAM, SECOND, &[0xff, 0xff, 0x03])),
        ("header fields that unfold", frame(1, END_HEADERS, SECOND, &[STATUS_200, &bomb].concat())),
        (
            "continuations without end",
            [frame(1, 0, SECOND, STATUS_200), frame(9, 0, SECOND, &[0x00, 1, b'x', 1, b'y']).repeat(100_000)]
                .concat(),
        ),
    ] {
        let answer = tokio::time::timeout(Duration::from_secs(20), answered(frames, Then::Wait)).await;
        let refused = answer.unwrap_or_else(|_| panic!("{what}: still waiting")).unwrap_err();
        assert_eq!(refused.code(), "connection_failed", "{what}: {refused}");
    }
}

#[tokio::test]
async fn an_answer_behind_many_pings_is_read() {
    // As many as a socket holds.
    let pings = frame(6, 0, 0, &[7; 8]).repeat(2000);
    let answer = [pings, head(), frame(0, END_STREAM, SECOND, b"at last")].concat();
    assert_eq!(answered(answer, Then::Wait).await.unwrap(), "at last");
}
