//! The client over HTTP/2: what shares a connection shares its verdict, and what the policy says of connections holds.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use confide_client::{ChatRequest, Client, PolicyText, Protocols, Turn};
use confide_policy::Loaded;
use confide_testkit::guest::{self, Attestation, Chat, Guest, Listening, MODEL, Place, Race, WORDS};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

const SECRET: &str = "the secret question";
const LONG: u64 = 300;

fn client(guest: &Listening, attest: &str, max_age_seconds: u64, protocols: Option<Protocols>) -> Client {
    let policy = PolicyText::parse(guest::policy(attest, max_age_seconds), Loaded::AsDanger).unwrap();
    let builder = Client::builder(&guest.url(), policy).unwrap();
    match protocols {
        Some(protocols) => builder.protocols(protocols).build(),
        None => builder.build(),
    }
}

async fn guest(streams: u32) -> Listening {
    Guest::new(0).unwrap().with_http2(streams).listen().await.unwrap()
}

fn question() -> ChatRequest {
    ChatRequest::new(MODEL).turn(Turn::user(SECRET))
}

/// Waits until `done`, at most for ten seconds.
async fn until(what: &str, done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(10), "waited for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn ask(client: &Client) -> JoinHandle<Result<String, &'static str>> {
    let client = client.clone();
    tokio::spawn(async move {
        let mut stream = client.chat_stream(question()).await.map_err(|error| error.code())?;
        let mut text = String::new();
        while let Some(piece) = stream.next().await.map_err(|error| error.code())? {
            text.extend(piece.content);
        }
        Ok(text)
    })
}

/// Asks many times at once while no answer goes on, and gives them all.
async fn ask_at_once(client: &Client, guest: &Guest, count: usize) -> Vec<Result<String, &'static str>> {
    let gate = Arc::new(Semaphore::new(0));
    let guest = guest.clone().chatting(Chat::Gated(Arc::clone(&gate)));
    let questions = || guest.requests().len() - guest.attestations();
    let before = questions();
    let asked: Vec<_> = (0..count).map(|_| ask(client)).collect();
    until("all questions", || questions() == before + count).await;
    gate.add_permits(1000);
    let mut answers = Vec::new();
    for asked in asked {
        answers.push(asked.await.unwrap());
    }
    answers
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_at_the_same_time_share_one_attestation_under_every_connection() {
    let guest = guest(100).await;
    let client = client(&guest, "every-connection", LONG, None);
    assert_eq!(ask_at_once(&client, &guest.guest, 20).await, vec![Ok(WORDS.concat()); 20]);
    assert_eq!(ask_at_once(&client, &guest.guest, 20).await, vec![Ok(WORDS.concat()); 20]);
    assert_eq!((guest.guest.attestations(), guest.guest.seen().len()), (1, 1));
    assert!(guest.guest.saw(SECRET.as_bytes()), "the control");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_beyond_what_a_connection_takes_have_further_ones_each_attested() {
    let guest = guest(4).await;
    let client = client(&guest, "every-connection", LONG, None);
    assert!(ask_at_once(&client, &guest.guest, 10).await.iter().all(Result::is_ok));
    let seen = guest.guest.seen();
    assert!((3..=4).contains(&seen.len()), "{} connections", seen.len());
    for connection in &seen {
        assert_eq!(connection.requests[0].line, "POST /.well-known/confide/attestation");
    }
    assert_eq!(guest.guest.attestations(), seen.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_policy_prefers_a_protocol_and_the_builder_chooses_one() {
    for (attest, chosen, multiplexed) in [
        ("per-key", None, false),
        ("every-connection", None, true),
        ("per-key", Some(Protocols::Http2OrHttp1), true),
        ("every-connection", Some(Protocols::Http1), false),
    ] {
        let guest = guest(100).await;
        let client = client(&guest, attest, LONG, chosen);
        assert!(ask_at_once(&client, &guest.guest, 4).await.iter().all(Result::is_ok));
        let requests = guest.guest.requests();
        assert!(
            requests.iter().all(|request| request.authority.is_some() == multiplexed),
            "{attest} {chosen:?}"
        );
        assert_eq!(guest.guest.seen().len() == 1, multiplexed, "{attest} {chosen:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_without_http_2_is_spoken_to_as_before() {
    let guest = Guest::new(0).unwrap().listen().await.unwrap();
    let client = client(&guest, "every-connection", LONG, None);
    for _ in 0..2 {
        assert!(ask_at_once(&client, &guest.guest, 4).await.iter().all(Result::is_ok));
    }
    assert_eq!(guest.guest.attestations(), guest.guest.seen().len());
    assert!(guest.guest.requests().iter().all(|request| request.authority.is_none()));
    // Another instance behind the same address may speak it: its connections are shared at once.
    let _ = guest.guest.clone().with_http2(100);
    let before = guest.guest.seen().len();
    assert!(ask_at_once(&client, &guest.guest, 20).await.iter().all(Result::is_ok));
    for _ in 0..3 {
        assert!(ask_at_once(&client, &guest.guest, 20).await.iter().all(Result::is_ok));
    }
    let after = guest.guest.seen();
    let shared = |connection: &guest::Seen| connection.requests.iter().any(|one| one.authority.is_some());
    assert!(
        after[before..].iter().all(shared) && after.len() - before <= 20,
        "{} more",
        after.len() - before
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_at_the_same_time_shares_a_refusal_too() {
    let guest = guest(100).await;
    let _ = guest.guest.clone().attesting(Attestation::OtherKey);
    let client = client(&guest, "every-connection", LONG, None);
    let asked: Vec<_> = (0..8).map(|_| ask(&client)).collect();
    for asked in asked {
        assert_eq!(asked.await.unwrap(), Err("report_data"));
    }
    assert!(guest.guest.attestations() < 8, "{} attestations", guest.guest.attestations());
    assert!(!guest.guest.saw(SECRET.as_bytes()));
}

/// The one connection of the verdict has a request under way all the time.
#[tokio::test(flavor = "multi_thread")]
async fn a_verdict_is_renewed_beside_the_requests_under_way() {
    for attest in ["every-connection", "per-key"] {
        let gate = Arc::new(Semaphore::new(0));
        let guest = guest(100).await;
        let _ = guest.guest.clone().chatting(Chat::Gated(Arc::clone(&gate)));
        let client = client(&guest, attest, 4, Some(Protocols::Http2OrHttp1));
        let long = ask(&client);
        until("the question", || guest.guest.requests().len() == 2).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        let second = ask(&client);
        until("the renewal", || guest.guest.attestations() == 2).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let third = ask(&client);
        until("the third question", || guest.guest.requests().len() == 5).await;
        gate.add_permits(1000);
        for asked in [long, second, third] {
            assert_eq!(asked.await.unwrap(), Ok(WORDS.concat()), "{attest}");
        }
        assert_eq!((guest.guest.attestations(), guest.guest.seen().len()), (2, 1), "{attest}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_fails_the_renewal_is_given_nothing_more() {
    let guest = guest(100).await;
    let client = client(&guest, "every-connection", 4, None);
    assert!(ask(&client).await.unwrap().is_ok());
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(ask(&client).await.unwrap().is_ok());
    let _ = guest.guest.clone().attesting(Attestation::OtherKey);
    until("the renewal", || guest.guest.attestations() == 2).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let before = guest.guest.requests().len();
    assert_eq!(ask(&client).await.unwrap(), Err("report_data"));
    assert_eq!(guest.guest.requests().len(), before + 1, "one more attestation request alone");
}

/// Two clients in one batch. Each recomputes its own leaf.
#[tokio::test(flavor = "multi_thread")]
async fn each_client_of_a_batch_has_its_own_place_in_it() {
    for (place, expected) in [(Place::Own, Ok(WORDS.concat())), (Place::Other, Err("report_data"))] {
        let guest = Guest::new(0).unwrap().attesting(Attestation::Batched(Race::new(place)));
        let guest = guest.listen().await.unwrap();
        let clients = [(); 2].map(|()| client(&guest, "per-key", LONG, None));
        let asked = [ask(&clients[0]), ask(&clients[1])];
        for asked in asked {
            assert_eq!(asked.await.unwrap(), expected, "{place:?}");
        }
        assert_eq!(guest.guest.attestations(), 2);
        assert_eq!(guest.guest.saw(SECRET.as_bytes()), place == Place::Own);
    }
}
