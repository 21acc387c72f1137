//! The client against a guest in this process: attest first, then send, and over nothing but attested channels.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use confide_client::{
    ALGORITHMS, ApiKey, Appraised, ChatRequest, Client, ClientError, PolicyText, Request, Turn,
};
use confide_policy::Loaded;
use confide_record::Agreement;
use confide_testkit::guest::{self, Attestation, Chat, Guest, Listening, MODEL, Tls, WORDS};
use confide_verifier::Outcome;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const SECRET: &str = "the secret question";
const KEY: &str = "sk-secret-key";
const LONG: u64 = 300;

fn client(guest: &Listening, attest: &str, max_age_seconds: u64) -> Client {
    let policy = PolicyText::parse(guest::policy(attest, max_age_seconds), Loaded::AsDanger).unwrap();
    Client::builder(&guest.url(), policy).unwrap().build()
}

fn question() -> ChatRequest {
    ChatRequest::new(MODEL).turn(Turn::user(SECRET)).api_key(ApiKey::bearer(KEY).unwrap())
}

/// Waits until `done`, at most for ten seconds.
async fn until(what: &str, done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(10), "waited for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn assert_nothing_given_away(guest: &Guest) {
    for secret in [SECRET, KEY, MODEL, "/v1/", "chat"] {
        assert!(!guest.saw(secret.as_bytes()), "the guest saw {secret:?}");
    }
}

#[tokio::test]
async fn a_question_is_answered_after_the_guest_is_attested() {
    let guest = Guest::new(0).unwrap().listen().await.unwrap();
    let client = client(&guest, "per-key", LONG);
    let answer = client.chat(question()).await.unwrap();
    assert_eq!(answer.content, WORDS.concat());
    assert_eq!((answer.model.as_str(), answer.finish_reason.as_deref()), (MODEL, Some("stop")));
    assert_eq!(answer.usage.unwrap().total_tokens, 9);
    assert!(answer.verdict.result().simulated);
    assert_eq!(answer.verdict.claims().model.name, MODEL);
    let requests = guest.guest.requests();
    let lines: Vec<&str> = requests.iter().map(|request| request.line.as_str()).collect();
    assert_eq!(lines, ["POST /.well-known/confide/attestation", "POST /v1/chat/completions"]);
    assert!(requests[1].headers.contains(&("authorization".to_owned(), format!("Bearer {KEY}"))));
    assert!(guest.guest.saw(SECRET.as_bytes()), "the control: this guest is given the question");
}

#[tokio::test]
async fn a_streamed_answer_comes_in_pieces() {
    let guest = Guest::new(0).unwrap().listen().await.unwrap();
    let client = client(&guest, "per-key", LONG);
    let mut stream = client.chat_stream(question()).await.unwrap();
    let (mut text, mut finish, mut usage) = (String::new(), None, None);
    while let Some(piece) = stream.next().await.unwrap() {
        text.extend(piece.content);
        finish = finish.or(piece.finish_reason);
        usage = usage.or(piece.usage);
    }
    assert_eq!((text, finish.as_deref()), (WORDS.concat(), Some("stop")));
    assert_eq!(usage.unwrap().completion_tokens, 4);
    drop(stream);
    assert_eq!(client.models().await.unwrap(), [MODEL]);
    assert_eq!((guest.guest.attestations(), guest.guest.seen().len()), (1, 1), "one connection for all");
}

#[tokio::test]
async fn a_guest_that_is_refused_is_told_nothing() {
    for (attestation, code, outcome, status) in [
        (Attestation::OtherExporter, "report_data", Outcome::Rejected, 10),
        (Attestation::OtherKey, "report_data", Outcome::Rejected, 10),
        (Attestation::ForeignSigner, "quote_signature", Outcome::Rejected, 10),
        (Attestation::Fixed(b"\xa0".to_vec()), "document_format", Outcome::Malformed, 30),
        (Attestation::Fixed(Vec::new()), "document_format", Outcome::Malformed, 30),
    ] {
        let guest = Guest::new(0).unwrap().attesting(attestation).listen().await.unwrap();
        let client = client(&guest, "per-key", LONG);
        let Err(error) = client.chat(question()).await else { panic!("{code}: answered") };
        assert_eq!((error.code(), error.exit_status()), (code, status), "{error}");
        let ClientError::Rejected(appraised) = &error else { panic!("{error:?}") };
        assert_eq!(appraised.result.outcome, outcome);
        assert_nothing_given_away(&guest.guest);
    }
}

#[tokio::test]
async fn a_peer_that_is_no_guest_is_told_nothing() {
    for (attestation, code, status) in [
        (Attestation::Status(404), "attestation_status", 1),
        (Attestation::MediaType("text/html"), "attestation_media_type", 30),
        (Attestation::TooLarge, "evidence_too_large", 30),
        (Attestation::Torn, "connection_failed", 1),
    ] {
        let guest = Guest::new(0).unwrap().attesting(attestation).listen().await.unwrap();
        let Err(error) = client(&guest, "per-key", LONG).chat(question()).await else {
            panic!("{code}: answered")
        };
        assert_eq!((error.code(), error.exit_status()), (code, status), "{error}");
        assert_nothing_given_away(&guest.guest);
    }
    for (tls, code, status) in [
        (Tls::OtherKey, "tls_key_not_held", 10),
        (Tls::Version12, "tls_version", 10),
        (Tls::None, "tls_failed", 1),
    ] {
        let guest = Guest::with_tls(0, tls).unwrap().listen().await.unwrap();
        let Err(error) = client(&guest, "per-key", LONG).chat(question()).await else {
            panic!("{code}: answered")
        };
        assert_eq!((error.code(), error.exit_status()), (code, status), "{error}");
        assert_nothing_given_away(&guest.guest);
    }
}

#[tokio::test]
async fn no_byte_of_the_request_leaves_while_the_evidence_is_awaited() {
    let guest = Guest::new(0).unwrap().attesting(Attestation::Silent).listen().await.unwrap();
    let client = client(&guest, "per-key", LONG);
    let asking = tokio::spawn(async move { client.chat(question()).await.is_ok() });
    until("the attestation request", || guest.guest.attestations() == 1).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_nothing_given_away(&guest.guest);
    assert_eq!(guest.guest.requests().len(), 1);
    asking.abort();
}

#[tokio::test]
async fn plain_http_is_refused() {
    let policy = PolicyText::parse(guest::policy("per-key", LONG), Loaded::AsDanger).unwrap();
    let error = Client::builder("http://127.0.0.1:8443", policy).err().unwrap();
    assert_eq!((error.code(), error.exit_status()), ("plain_http_refused", 2));
}

#[tokio::test]
async fn a_guest_that_is_not_there_is_a_network_fault() {
    let guest = Guest::new(0).unwrap().listen().await.unwrap();
    let client = client(&guest, "per-key", LONG);
    drop(guest);
    tokio::time::sleep(Duration::from_millis(50)).await;
    let error = client.verdict().await.unwrap_err();
    assert_eq!(error.exit_status(), 1, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_share_one_attestation_of_their_key() {
    let guest = Guest::new(0).unwrap().listen().await.unwrap();
    let client = client(&guest, "per-key", LONG);
    assert_eq!(ask_at_once(&client, 8).await, vec![Some(WORDS.concat()); 8]);
    assert_eq!(guest.guest.attestations(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_share_a_refusal_too() {
    let guest = Guest::new(0).unwrap().attesting(Attestation::OtherKey).listen().await.unwrap();
    let client = client(&guest, "per-key", LONG);
    assert_eq!(ask_at_once(&client, 8).await, vec![None; 8]);
    assert!(guest.guest.attestations() < 8, "{} attestations", guest.guest.attestations());
    assert_nothing_given_away(&guest.guest);
}

async fn ask_at_once(client: &Client, count: usize) -> Vec<Option<String>> {
    let asked = (0..count).map(|_| {
        let client = client.clone();
        tokio::spawn(async move { client.chat(question()).await.ok().map(|answer| answer.content) })
    });
    let mut answers = Vec::new();
    for asked in asked.collect::<Vec<_>>() {
        answers.push(asked.await.unwrap());
    }
    answers
}

#[tokio::test(flavor = "multi_thread")]
async fn every_connection_is_attested_where_the_policy_says_so() {
    let guest = Guest::new(0).unwrap().listen().await.unwrap();
    let client = client(&guest, "every-connection", LONG);
    assert!(ask_at_once(&client, 4).await.iter().all(Option::is_some));
    let seen = guest.guest.seen();
    assert_eq!(guest.guest.attestations(), seen.len());
    for connection in &seen {
        assert_eq!(connection.requests[0].line, "POST /.well-known/confide/attestation");
    }
}

#[tokio::test]
async fn a_connection_that_the_guest_closed_is_replaced_without_a_new_attestation() {
    let guest = Guest::new(0).unwrap().chatting(Chat::Close).listen().await.unwrap();
    let client = client(&guest, "per-key", LONG);
    for _ in 0..3 {
        assert_eq!(client.chat(question()).await.unwrap().content, WORDS.concat());
        // Until the end of the connection has been seen, a request could be lost in it: that is no retry's business.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!((guest.guest.attestations(), guest.guest.seen().len()), (1, 3));
}

#[tokio::test]
async fn another_guest_at_the_same_address_is_attested_anew() {
    let first = Guest::new(0).unwrap().chatting(Chat::Close).listen().await.unwrap();
    let client = client(&first, "per-key", LONG);
    client.chat(question()).await.unwrap();
    let address = first.address;
    drop(first);
    tokio::time::sleep(Duration::from_millis(50)).await;
    let second = listen_again(Guest::new(1).unwrap().chatting(Chat::Close), address).await;
    client.chat(question()).await.unwrap();
    assert_eq!(second.guest.attestations(), 1);
    drop(second);
    // The second guest closes its connection behind its answer.
    tokio::time::sleep(Duration::from_millis(50)).await;

    let impostor = listen_again(Guest::new(2).unwrap().attesting(Attestation::OtherKey), address).await;
    assert_eq!(client.chat(question()).await.err().map(|error| error.code()), Some("report_data"));
    assert_nothing_given_away(&impostor.guest);
}

async fn listen_again(guest: Guest, address: std::net::SocketAddr) -> Listening {
    let start = Instant::now();
    loop {
        match guest.clone().listen_on(address).await {
            Ok(listening) => return listening,
            Err(error) if start.elapsed() > Duration::from_secs(10) => panic!("{error}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

#[tokio::test]
async fn a_verdict_in_use_is_renewed_before_it_ends() {
    let guest = Guest::new(0).unwrap().listen().await.unwrap();
    let client = client(&guest, "per-key", 4);
    client.chat(question()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    client.chat(question()).await.unwrap();
    until("the renewal", || guest.guest.attestations() == 2).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    client.chat(question()).await.unwrap();
    assert_eq!(guest.guest.attestations(), 2, "no request waited for an attestation of its own");
    assert_eq!(guest.guest.seen().len(), 1, "attested again on the live connection");
}

#[tokio::test]
async fn a_guest_that_fails_the_renewal_is_given_nothing_more() {
    let guest = Guest::new(0).unwrap().listen().await.unwrap();
    let client = client(&guest, "per-key", 4);
    client.chat(question()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    client.chat(question()).await.unwrap();
    let _ = guest.guest.clone().attesting(Attestation::OtherKey);
    until("the renewal", || guest.guest.attestations() == 2).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let before = guest.guest.requests().len();
    assert_eq!(client.chat(question()).await.err().map(|error| error.code()), Some("report_data"));
    assert_eq!(guest.guest.requests().len(), before + 1, "only one more attestation request");
}

#[tokio::test]
async fn an_unused_verdict_is_left_to_end() {
    let guest = Guest::new(0).unwrap().listen().await.unwrap();
    let client = client(&guest, "per-key", 3);
    client.chat(question()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(3500)).await;
    assert_eq!(guest.guest.attestations(), 1, "an idle client asks for no quotes");
    client.chat(question()).await.unwrap();
    assert_eq!(guest.guest.attestations(), 2);
}

#[tokio::test]
async fn a_verdict_under_one_policy_is_none_under_another() {
    let guest = Guest::new(0).unwrap().listen().await.unwrap();
    client(&guest, "per-key", LONG).chat(question()).await.unwrap();
    let text = guest::policy("per-key", LONG);
    let model = text.lines().find(|line| line.starts_with("model = ")).unwrap();
    let stricter = text.replace(model, &format!("model = {{ any_of = [\"{}\"] }}", "11".repeat(32)));
    let policy = PolicyText::parse(stricter, Loaded::AsDanger).unwrap();
    let other = Client::builder(&guest.url(), policy).unwrap().build();
    let before = guest.guest.requests().len();
    assert_eq!(other.chat(question()).await.err().map(|error| error.code()), Some("model_manifest"));
    let asked = guest.guest.requests().split_off(before);
    assert_eq!(
        (asked.len(), guest.guest.attestations()),
        (1, 2),
        "it asked for evidence of its own, and no more"
    );
}

#[tokio::test]
async fn a_guests_error_is_told_in_its_words() {
    let guest = Guest::new(0).unwrap().chatting(Chat::Refuse(404)).listen().await.unwrap();
    let client = client(&guest, "per-key", LONG);
    let error = client.chat(question()).await.err().unwrap();
    assert_eq!(error.to_string(), "the guest answered 404: refused (no_such_model)");
    assert_eq!((error.code(), error.exit_status()), ("upstream_error", 1));
}

#[tokio::test]
async fn a_stream_that_breaks_is_an_error_and_not_an_end() {
    let guest = Guest::new(0).unwrap().chatting(Chat::Torn).listen().await.unwrap();
    let client = client(&guest, "per-key", LONG);
    let mut stream = client.chat_stream(question()).await.unwrap();
    let mut pieces = 0;
    let error = loop {
        match stream.next().await {
            Ok(Some(_)) => pieces += 1,
            Ok(None) => panic!("a broken stream has no end"),
            Err(error) => break error,
        }
    };
    assert_eq!((pieces, error.code()), (2, "connection_failed"));
    let _ = guest.guest.clone().chatting(Chat::Answer);
    assert!(client.chat(question()).await.is_ok());
}

#[tokio::test]
async fn every_appraisal_is_observed_and_its_record_replays() {
    let guest = Guest::new(0).unwrap().listen().await.unwrap();
    let records = Arc::new(Mutex::new(Vec::new()));
    let policy = PolicyText::parse(guest::policy("per-key", LONG), Loaded::AsDanger).unwrap();
    let kept = Arc::clone(&records);
    let builder = Client::builder(&guest.url(), policy).unwrap().on_appraisal(move |appraised| {
        let mut records = kept.lock().unwrap();
        let record = appraised.recording().record(&appraised.result, records.last());
        records.push(record);
    });
    let client = builder.build();
    client.verdict().await.unwrap();
    let latest = client.latest_appraisal().unwrap();
    assert!(latest.result.accepted());

    let refused = Guest::new(0).unwrap().attesting(Attestation::OtherKey).listen().await.unwrap();
    let policy = PolicyText::parse(guest::policy("per-key", LONG), Loaded::AsDanger).unwrap();
    let kept = Arc::clone(&records);
    let builder = Client::builder(&refused.url(), policy).unwrap().on_appraisal(move |appraised| {
        let mut records = kept.lock().unwrap();
        let record = appraised.recording().record(&appraised.result, records.last());
        records.push(record);
    });
    builder.build().verdict().await.unwrap_err();

    let records = records.lock().unwrap();
    assert_eq!(records.len(), 2);
    assert_eq!(records[1].prev, records[0].hash());
    for (index, (record, code)) in records.iter().zip([None, Some("report_data")]).enumerate() {
        let replayed = confide_record::replay(index, record, &ALGORITHMS).unwrap();
        assert_eq!((replayed.agreement, replayed.result.code), (Agreement::Same, code));
    }
}

/// A client that records with `recorder`.
fn recording(
    guest: &Listening,
    attest: &str,
    recorder: impl Fn(&Appraised) -> io::Result<()> + Send + Sync + 'static,
) -> Client {
    let policy = PolicyText::parse(guest::policy(attest, LONG), Loaded::AsDanger).unwrap();
    Client::builder(&guest.url(), policy).unwrap().record_appraisals(recorder).build()
}

#[tokio::test]
async fn an_appraisal_that_cannot_be_recorded_opens_nothing() {
    let guest = Guest::new(0).unwrap().listen().await.unwrap();
    let works = Arc::new(AtomicBool::new(false));
    let disk = Arc::clone(&works);
    let client = recording(&guest, "per-key", move |_| {
        if disk.load(Ordering::Relaxed) { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) }
    });
    let error = client.chat(question()).await.err().unwrap();
    assert_eq!((error.code(), error.exit_status()), ("not_recorded", 1), "{error}");
    assert_nothing_given_away(&guest.guest);
    assert!(client.latest_appraisal().unwrap().result.accepted(), "it is the record that is missing");

    // A refused guest is refused, recorded or not.
    let _ = guest.guest.clone().attesting(Attestation::OtherKey);
    assert_eq!(client.chat(question()).await.err().unwrap().code(), "not_recorded");
    works.store(true, Ordering::Relaxed);
    assert_eq!(client.chat(question()).await.err().unwrap().code(), "report_data");
    assert_nothing_given_away(&guest.guest);

    let _ = guest.guest.clone().attesting(Attestation::Honest);
    assert!(client.chat(question()).await.is_ok());
    assert!(guest.guest.saw(SECRET.as_bytes()), "the control: what is recorded opens a channel");
}

/// However slow the recorder is: whoever attests waits for its own record, and none is dropped.
#[tokio::test(flavor = "multi_thread")]
async fn appraisals_are_recorded_before_anything_rests_on_them_and_none_is_lost() {
    const CLIENTS: usize = 12;
    let guest = Guest::new(0).unwrap().listen().await.unwrap();
    let (records, watched) = (Arc::new(Mutex::new(Vec::new())), guest.guest.clone());
    let kept = Arc::clone(&records);
    let client = recording(&guest, "every-connection", move |appraised| {
        std::thread::sleep(Duration::from_millis(20));
        let mut records = kept.lock().unwrap();
        let asked = watched.requests().len() - watched.attestations();
        assert!(asked <= records.len(), "{asked} requests were sent, and {} records made", records.len());
        records.push(appraised.challenge.nonce);
        Ok(())
    });
    let asking: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let client = client.clone();
            // Leases that are held at the same time need a connection each.
            tokio::spawn(async move { client.lease().await })
        })
        .collect();
    let mut leases = Vec::new();
    for lease in asking {
        leases.push(lease.await.unwrap().unwrap());
    }
    for lease in leases {
        lease.send(Request::get("/v1/models").unwrap()).await.unwrap();
    }
    let mut records = records.lock().unwrap().clone();
    records.sort_unstable();
    records.dedup();
    assert_eq!((records.len(), guest.guest.attestations()), (CLIENTS, CLIENTS));
}
