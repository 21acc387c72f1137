//! A local endpoint in front of several guests in this process.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

mod endpoint;

use confide_client::fleet::{Backoff, Fleet, InstanceState, ModelChoice, Repeat};
use confide_client::proxy::Access;
use confide_client::{Client, PolicyText, Request};
use confide_evidence::document::MAX_DOCUMENT;
use confide_policy::Loaded;
use confide_testkit::guest::{self, Attestation, Chat, Guest, Listening, Raw, Then};
use endpoint::{
    Answer, CHAT, Endpoint, SECRET, error, eventually, fields, fleet, question, was_only_attested, whole,
};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

const ONE: &str = "model-one";
const TWO: &str = "model-two";

/// A policy for guests with either model.
fn policy() -> String {
    guest::policy_for("per-key", 300, &[ONE, TWO])
}

/// The same, with a table of models.
fn policy_with(models: &[(&str, &[&str])]) -> String {
    let row = |(name, of): &(&str, &[&str])| {
        let digests: Vec<String> = of.iter().map(|model| format!("\"{}\"", guest::manifest(model))).collect();
        format!("\"{name}\" = [{}]\n", digests.join(", "))
    };
    format!("{}\n[models]\n{}", policy(), models.iter().map(row).collect::<String>())
}

fn urls(guests: &[&Listening]) -> Vec<String> {
    guests.iter().map(|guest| guest.url()).collect()
}

async fn guest(seed: u64, model: &str) -> Listening {
    Guest::serving(seed, model).unwrap().listen().await.unwrap()
}

/// An endpoint in front of these guests, each of which is attested.
async fn before(guests: &[&Listening]) -> Endpoint {
    let endpoint = Endpoint::new(fleet(policy(), &urls(guests)).build().unwrap()).await;
    for guest in guests {
        endpoint.until(guest.address, "attested").await;
    }
    endpoint
}

/// How many chat requests a guest got.
fn asked(guest: &Listening) -> usize {
    guest.guest.requests().iter().filter(|request| request.line == format!("POST {CHAT}")).count()
}

/// The model that an answer says it comes from.
async fn model_of(answer: Answer) -> String {
    assert_eq!(answer.status(), 200);
    let answer: Value = serde_json::from_slice(&whole(answer).await).unwrap();
    answer["model"].as_str().unwrap().to_owned()
}

fn instead(answer: &str, then: Then) -> Chat {
    Chat::Raw(Raw { bytes: answer.into(), then })
}

/// Two guests with the same model, the first of which answers chats with `first`; and an endpoint before them.
async fn pair(first: Chat) -> (Listening, Listening, Endpoint) {
    let (one, two) = (guest(0, ONE).await, guest(1, ONE).await);
    let endpoint = before(&[&one, &two]).await;
    let _ = one.guest.clone().chatting(first);
    (one, two, endpoint)
}

#[tokio::test]
async fn a_request_goes_to_an_instance_that_is_attested_to_have_its_model() {
    let (one, two) = (guest(0, ONE).await, guest(1, TWO).await);
    let endpoint = before(&[&one, &two]).await;
    for model in [ONE, TWO, ONE, TWO, TWO] {
        assert_eq!(model_of(endpoint.ask(model).await).await, model);
    }
    assert_eq!((asked(&one), asked(&two)), (2, 3));
    let told = fields(endpoint.ask("model-three").await, 404).await;
    assert_eq!((&told["type"], &told["code"]), (&json!("invalid_request_error"), &json!("model_not_found")));
    assert!(told["message"].as_str().unwrap().contains("there are model-one, model-two"), "{told}");
    assert_eq!((asked(&one), asked(&two)), (2, 3), "nobody was asked");
}

#[tokio::test]
async fn a_name_of_the_policys_table_stands_for_its_manifests_and_no_other_name_is_taken() {
    let (one, two) = (guest(0, ONE).await, guest(1, TWO).await);
    let policy =
        policy_with(&[("small", &[ONE]), ("swapped", &[TWO]), (ONE, &[TWO]), ("nobody", &["another"])]);
    let endpoint = Endpoint::new(fleet(policy, &urls(&[&one, &two])).build().unwrap()).await;
    for guest in [&one, &two] {
        endpoint.until(guest.address, "attested").await;
    }
    assert_eq!(model_of(endpoint.ask("small").await).await, ONE);
    assert_eq!(model_of(endpoint.ask("swapped").await).await, TWO);
    assert_eq!(model_of(endpoint.ask(ONE).await).await, TWO, "whatever a guest calls its model");
    for name in [TWO, "nobody", "Small", ""] {
        let told = error(endpoint.ask(name).await, 404).await;
        assert_eq!(told.1, "model_not_found", "{name}");
    }
    let (status, models) = endpoint.get("/v1/models").await;
    let names: Vec<&str> =
        models["data"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect();
    assert_eq!((status, names), (200, vec![ONE, "small", "swapped"]));
}

/// With the table a single instance is asked no question about models either.
#[tokio::test]
async fn the_table_counts_for_a_single_instance_too() {
    let one = guest(0, ONE).await;
    let endpoint =
        Endpoint::new(fleet(policy_with(&[("small", &[ONE])]), &urls(&[&one])).build().unwrap()).await;
    assert_eq!(model_of(endpoint.ask("small").await).await, ONE);
    assert_eq!(error(endpoint.ask(ONE).await, 404).await.1, "model_not_found");
    let (_, models) = endpoint.get("/v1/models").await;
    assert_eq!(models["data"][0]["id"], "small");
    assert!(one.guest.requests().iter().all(|request| !request.line.contains("/v1/models")));
}

#[tokio::test]
async fn models_are_listed_from_verdicts_and_not_from_what_guests_say() {
    let (one, two) = (guest(0, ONE).await, guest(1, TWO).await);
    let refused =
        Guest::serving(2, "model-three").unwrap().attesting(Attestation::OtherKey).listen().await.unwrap();
    let endpoint = Endpoint::new(fleet(policy(), &urls(&[&one, &two, &refused])).build().unwrap()).await;
    for guest in [&one, &two] {
        endpoint.until(guest.address, "attested").await;
    }
    let answer = endpoint.send("GET", "/v1/models", &[], vec![]).await;
    assert_eq!(answer.headers()["x-confide-simulated"], "true");
    let listed: Value = serde_json::from_slice(&whole(answer).await).unwrap();
    let model = |name: &str| {
        json!({
            "id": name, "object": "model", "created": 0, "owned_by": "confide",
            "manifest": guest::manifest(name).to_string(),
        })
    };
    assert_eq!(listed, json!({ "object": "list", "data": [model(ONE), model(TWO)] }));
    assert_eq!(endpoint.get("/v1/models/model%2Dtwo").await, (200, model(TWO)));
    let absent = endpoint.send("GET", "/v1/models/model-three", &[], vec![]).await;
    assert_eq!(error(absent, 404).await.1, "model_not_found");
    let answer = endpoint.send("DELETE", "/v1/models/model-two", &[], vec![]).await;
    assert_eq!(answer.headers()["allow"], "GET, HEAD");
    assert_eq!(error(answer, 405).await.1, "method_not_allowed");
    let head = endpoint.send("HEAD", "/v1/models", &[], vec![]).await;
    assert_eq!((head.status().as_u16(), whole(head).await.len()), (200, 0));
    for guest in [&one, &two, &refused] {
        assert!(was_only_attested(&guest.guest), "nobody was asked");
    }
}

#[tokio::test]
async fn an_instance_whose_evidence_is_refused_gets_no_byte_of_any_request_and_the_others_serve() {
    let good = guest(0, ONE).await;
    let bad = Guest::serving(1, ONE).unwrap().attesting(Attestation::OtherExporter).listen().await.unwrap();
    let endpoint = Endpoint::new(fleet(policy(), &urls(&[&bad, &good])).build().unwrap()).await;
    endpoint.until(good.address, "attested").await;
    endpoint.until(bad.address, "quarantined").await;
    for _ in 0..8 {
        assert_eq!(model_of(endpoint.ask(ONE).await).await, ONE);
    }
    assert_eq!(asked(&good), 8);
    assert!(was_only_attested(&bad.guest), "not a byte of a prompt");
    let instance = endpoint.instance(bad.address).await;
    assert_eq!((&instance["reason"]["code"], &instance["verdict"]), (&json!("report_data"), &Value::Null));
    assert!(instance["reason"]["message"].as_str().unwrap().contains("expected "), "{instance}");
    assert!(instance["reason"]["what_to_do"].is_string() && instance["quarantines"].as_u64() >= Some(1));

    let told = fields(endpoint.ask(TWO).await, 404).await;
    assert_eq!(told["code"], "model_not_found");
    let message = told["message"].as_str().unwrap();
    assert!(message.ends_with(&format!("; {} is quarantined (report_data)", bad.address)), "{message}");

    let _ = bad.guest.clone().attesting(Attestation::Honest);
    endpoint.until(bad.address, "attested").await;
    let told = fields(endpoint.ask(TWO).await, 404).await;
    assert!(!told["message"].as_str().unwrap().contains("quarantined"), "now all are attested: {told}");
}

#[tokio::test]
async fn a_quarantined_instance_is_tried_again_after_its_time_and_not_for_those_who_ask() {
    let bad = Guest::serving(0, ONE).unwrap().attesting(Attestation::OtherKey).listen().await.unwrap();
    let never = Backoff { first: Duration::from_secs(3600), longest: Duration::from_secs(3600) };
    let endpoint = Endpoint::new(fleet(policy(), &urls(&[&bad])).quarantine(never).build().unwrap()).await;
    for _ in 0..5 {
        let told = fields(endpoint.ask(ONE).await, 502).await;
        assert_eq!((&told["code"], &told["check"]), (&json!("attestation_failed"), &json!("report_data")));
    }
    assert_eq!(bad.guest.attestations(), 1);
    let instance = endpoint.instance(bad.address).await;
    assert!(instance["retry_in_seconds"].as_f64().unwrap() > 3000.0, "{instance}");
}

/// Whoever answers at a listed address may show the largest document there is, again and again.
#[tokio::test]
async fn refused_evidence_fills_no_disk() {
    let large = Attestation::Fixed(vec![0; MAX_DOCUMENT]);
    let one = Guest::serving(0, ONE).unwrap().attesting(large).listen().await.unwrap();
    let policy = PolicyText::parse(policy(), Loaded::AsDanger).unwrap();
    let records = Arc::new(AtomicUsize::new(0));
    let kept = Arc::clone(&records);
    let begin = move |endpoint: &confide_client::Endpoint| {
        let records = Arc::clone(&kept);
        let builder = Client::builder(&endpoint.to_string(), policy.clone())?;
        Ok(builder.record_appraisals(move |_| {
            records.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }))
    };
    let soon = Backoff { first: Duration::from_millis(1), longest: Duration::from_millis(1) };
    let fleet = Fleet::builder(begin).quarantine(soon).unreachable(soon).upstream(&one.url()).unwrap();
    let endpoint = Endpoint::new(fleet.build().unwrap()).await;
    let client = endpoint.fleet.instances()[0].client().clone();
    eventually("some are not recorded", || client.unrecorded_refusals() > 2).await;
    assert_eq!(records.load(Ordering::Relaxed), 16, "64 MiB");
    let metrics = endpoint.metrics().await;
    let counted =
        samples(&metrics)[&format!("confide_unrecorded_refusals_total{{instance=\"{}\"}}", one.address)];
    assert!(counted > 2.0, "{metrics}");
    assert!(endpoint.instance(one.address).await["unrecorded_refusals"].as_u64().unwrap() > 2);
    // An appraisal on which something rests is recorded all the same.
    let _ = one.guest.clone().attesting(Attestation::Honest);
    endpoint.until(one.address, "attested").await;
    assert_eq!(records.load(Ordering::Relaxed), 17);
}

#[tokio::test]
async fn nobody_attested_is_told_with_each_reason_and_when_to_ask_again() {
    let bad = Guest::serving(0, ONE).unwrap().attesting(Attestation::ForeignSigner).listen().await.unwrap();
    let gone = guest(1, ONE).await.address;
    let urls = [bad.url(), format!("https://{gone}")];
    let endpoint = Endpoint::new(fleet(policy(), &urls).build().unwrap()).await;
    let answer = endpoint.ask(ONE).await;
    assert!(answer.headers()["retry-after"].to_str().unwrap().parse::<u64>().unwrap() >= 1);
    let told = fields(answer, 503).await;
    assert_eq!((&told["type"], &told["code"]), (&json!("upstream_error"), &json!("no_attested_instances")));
    let message = told["message"].as_str().unwrap();
    assert!(message.contains(&format!("{} is quarantined (", bad.address)), "{message}");
    assert!(message.contains(&format!("{gone} is unreachable (dial_failed)")), "{message}");
    assert!(was_only_attested(&bad.guest));
}

#[tokio::test]
async fn an_overloaded_instance_is_left_alone_and_another_one_answers() {
    for status in ["503 Service Unavailable", "429 Too Many Requests"] {
        let refusal = format!("HTTP/1.1 {status}\r\nretry-after: 30\r\ncontent-length: 0\r\n\r\n");
        let (one, two, endpoint) = pair(instead(&refusal, Then::Wait)).await;
        for _ in 0..6 {
            assert_eq!(model_of(endpoint.ask(ONE).await).await, ONE, "{status}");
        }
        assert_eq!((asked(&one), asked(&two)), (1, 6), "asked once, and left alone for 30 seconds");
        let instance = endpoint.instance(one.address).await;
        assert_eq!(instance["state"], "overloaded");
        assert_eq!(instance["reason"]["code"], "instance_overloaded");
        assert!(instance["reason"]["what_to_do"].is_string(), "{instance}");
        let wait = instance["retry_in_seconds"].as_f64().unwrap();
        assert!((25.0..=37.5).contains(&wait), "30 seconds and a random part: {wait}");
        let metrics = endpoint.metrics().await;
        let count =
            format!("confide_failovers_total{{instance=\"{}\",reason=\"overloaded\"}} 1\n", one.address);
        assert!(metrics.contains(&count), "{metrics}");
    }
}

#[tokio::test]
async fn when_all_are_overloaded_the_program_is_told_when_to_ask_again() {
    let refusal = "HTTP/1.1 503 Service Unavailable\r\nretry-after: 20\r\ncontent-length: 0\r\n\r\n";
    let (one, two, endpoint) = pair(instead(refusal, Then::Wait)).await;
    let _ = two.guest.clone().chatting(instead(refusal, Then::Wait));
    for _ in 0..3 {
        let answer = endpoint.ask(ONE).await;
        let wait: u64 = answer.headers()["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((15..=26).contains(&wait), "{wait}");
        let told = error(answer, 429).await;
        assert_eq!(told, ("upstream_error".to_owned(), "upstream_overloaded".to_owned()));
    }
    assert_eq!((asked(&one), asked(&two)), (1, 1));
}

#[tokio::test]
async fn an_overload_ends_and_the_instance_is_asked_again() {
    let refusal = "HTTP/1.1 429 Too Many Requests\r\nretry-after-ms: 150\r\ncontent-length: 0\r\n\r\n";
    let one = guest(0, ONE).await;
    let endpoint = before(&[&one]).await;
    let _ = one.guest.clone().chatting(instead(refusal, Then::Close));
    assert_eq!(error(endpoint.ask(ONE).await, 429).await.1, "upstream_overloaded");
    let _ = one.guest.clone().chatting(Chat::Answer);
    endpoint.until(one.address, "attested").await;
    assert_eq!(model_of(endpoint.ask(ONE).await).await, ONE);
}

#[tokio::test]
async fn a_connection_that_is_lost_before_the_answer_begins_leads_to_another_instance() {
    for then in [Then::Close, Then::Cut] {
        let (one, two, endpoint) = pair(instead("", then)).await;
        for _ in 0..4 {
            assert_eq!(model_of(endpoint.ask(ONE).await).await, ONE);
        }
        assert!(asked(&one) >= 1 && asked(&two) == 4, "{} {}", asked(&one), asked(&two));
        let metrics = endpoint.metrics().await;
        assert!(metrics.contains("reason=\"connection_failed\"} "), "{metrics}");
    }
}

/// It asks to come again in a second, each time; a request waits for a tenth of what a single instance is given.
#[tokio::test]
async fn an_instance_that_cannot_attest_now_is_not_waited_for_where_another_can_answer() {
    let (one, two) = (guest(0, guest::MODEL).await, guest(1, guest::MODEL).await);
    let gate = Arc::new(Semaphore::new(0));
    let guests = [&one, &two];
    for guest in guests {
        let _ = guest.guest.clone().chatting(Chat::Gated(Arc::clone(&gate)));
    }
    let policy = guest::policy("every-connection", 300);
    let endpoint = Endpoint::new(fleet(policy, &urls(&guests)).build().unwrap()).await;
    for guest in guests {
        endpoint.until(guest.address, "attested").await;
    }
    // One request at each has the connection that is attested; the next one there needs another.
    let answers = [endpoint.ask(guest::MODEL).await, endpoint.ask(guest::MODEL).await];
    assert_eq!((asked(&one), asked(&two)), (1, 1));
    let _ = one.guest.clone().attesting(Attestation::Busy(Arc::new(AtomicUsize::new(usize::MAX))));
    let begun = Instant::now();
    let more = [endpoint.ask(guest::MODEL).await, endpoint.ask(guest::MODEL).await];
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert_eq!((asked(&one), asked(&two)), (1, 3));
    let metrics = endpoint.metrics().await;
    let failover =
        format!("confide_failovers_total{{instance=\"{}\",reason=\"timed_out\"}} 1\n", one.address);
    assert!(metrics.contains(&failover), "{metrics}");
    gate.add_permits(1000);
    for answer in answers.into_iter().chain(more) {
        assert!(whole(answer).await.ends_with(b"data: [DONE]\n\n"));
    }
}

#[tokio::test]
async fn an_instance_that_is_gone_is_passed_over() {
    let (one, two, endpoint) = pair(Chat::Close).await;
    let gone = one.address;
    // The next request finds the connection closed and nobody who listens.
    for _ in 0..2 {
        let _ = endpoint.ask(ONE).await;
    }
    drop(one);
    for _ in 0..6 {
        assert_eq!(model_of(endpoint.ask(ONE).await).await, ONE);
    }
    assert!(asked(&two) >= 6);
    endpoint.until(gone, "unreachable").await;
    assert_eq!(endpoint.instance(gone).await["reason"]["code"], "dial_failed");
}

/// Nobody asks for it: the break says that the instance is lost, and the dial that follows what has become of it. The
/// connection on which it was attested is there all the while, and counts for nothing.
#[tokio::test]
async fn an_instance_that_breaks_off_amid_an_answer_is_dialled_before_it_gets_anything_more() {
    let one = guest(0, ONE).await;
    let (address, guest) = (one.address, one.guest.clone());
    let fleet = fleet(policy(), &urls(&[&one])).build().unwrap();
    let instance = Arc::clone(&fleet.instances()[0]);
    let send = async || {
        let body = String::from_utf8(question(ONE)).unwrap();
        let request = Request::post(CHAT, body.into()).unwrap();
        fleet.send(ModelChoice::Named(ONE), Repeat::Harmless, request).await.unwrap()
    };
    let idle = send().await;
    let _ = guest.clone().chatting(Chat::Torn);
    let torn = send().await;
    let _ = idle.response.body.collect().await.unwrap();
    let connections = guest.seen().len();
    assert!(torn.response.body.collect().await.is_err());
    assert_eq!(instance.view().state, InstanceState::Unreachable, "at once");
    fleet.attested().await.unwrap();
    let found = (guest.seen().len(), guest.attestations());
    assert_eq!(found, (connections + 1, 1), "dialled, and the verdict holds");

    let torn = send().await;
    drop(one);
    eventually("nobody listens", || std::net::TcpStream::connect(address).is_err()).await;
    assert!(torn.response.body.collect().await.is_err());
    let code = || instance.view().reason.map(|error| error.code());
    eventually("it is dialled", || code() == Some("dial_failed")).await;
}

/// An answer of which the program has seen the head is never begun anew.
#[tokio::test]
async fn once_an_answer_has_begun_nobody_else_is_asked() {
    for chat in [Chat::Torn, Chat::TornEvent] {
        let (one, two) = (guest(0, ONE).await, guest(1, ONE).await);
        let endpoint = before(&[&one, &two]).await;
        for guest in [&one, &two] {
            let _ = guest.guest.clone().chatting(chat.clone());
        }
        let answer = endpoint.ask(ONE).await;
        assert_eq!(answer.status(), 200);
        let body = answer.into_body().collect().await.map(|body| body.to_bytes());
        assert!(body.as_ref().map_or(true, |body| !body.ends_with(b"[DONE]\n\n")), "{chat:?}: {body:?}");
        assert_eq!(asked(&one) + asked(&two), 1, "{chat:?}");
    }
}

/// What may change something at a guest is not sent to another one after a guest may have seen it.
#[tokio::test]
async fn what_is_not_repeatable_is_sent_once() {
    let (one, two) = (guest(0, ONE).await, guest(1, ONE).await);
    let endpoint = before(&[&one, &two]).await;
    for guest in [&one, &two] {
        let _ = guest.guest.clone().chatting(instead("", Then::Cut));
    }
    let answer = endpoint.send("POST", "/v1/files", &[], question(ONE)).await;
    assert_eq!(error(answer, 502).await, ("upstream_error".to_owned(), "connection_failed".to_owned()));
    let seen = |guest: &Listening| {
        guest.guest.requests().iter().filter(|request| request.line == "POST /v1/files").count()
    };
    assert_eq!(seen(&one) + seen(&two), 1);
}

/// Neither status says that nothing came of the request: the program is told, and nobody else is asked.
#[tokio::test]
async fn what_is_not_repeatable_is_sent_once_though_the_guest_is_overloaded() {
    for (status, line) in [(503, "503 Service Unavailable"), (429, "429 Too Many Requests")] {
        let (one, two) = (guest(0, ONE).await, guest(1, ONE).await);
        let endpoint = before(&[&one, &two]).await;
        let refusal = format!("HTTP/1.1 {line}\r\nretry-after: 30\r\ncontent-length: 4\r\n\r\nlate");
        for guest in [&one, &two] {
            let _ = guest.guest.clone().chatting(instead(&refusal, Then::Wait));
        }
        for (method, target) in [("POST", "/v1/files"), ("PATCH", "/v1/files/7")] {
            let answer = endpoint.send(method, target, &[], question(ONE)).await;
            assert_eq!(answer.status().as_u16(), status);
            assert_eq!(answer.headers()["retry-after"], "30");
            assert_eq!(whole(answer).await, b"late", "the guest's own words");
            let seen = |guest: &Listening| {
                let line = format!("{method} {target}");
                guest.guest.requests().iter().filter(|request| request.line == line).count()
            };
            assert_eq!(seen(&one) + seen(&two), 1, "{method} {status}");
        }
        // Each was asked once: the first that said so is left alone.
        for guest in [&one, &two] {
            assert_eq!(endpoint.instance(guest.address).await["state"], "overloaded");
        }
    }
}

/// Until an instance has been attested it may have any model, if only it can be reached.
#[tokio::test]
async fn a_model_that_an_instance_may_come_to_have_is_asked_for_again() {
    let (one, bad) = (guest(0, ONE).await, Guest::serving(1, TWO).unwrap().attesting(Attestation::OtherKey));
    let (gone, bad) = (guest(2, TWO).await.address, bad.listen().await.unwrap());
    let with = async |urls: Vec<String>| {
        let endpoint = Endpoint::new(fleet(policy(), &urls).build().unwrap()).await;
        endpoint.until(one.address, "attested").await;
        endpoint
    };
    let endpoint = with(vec![one.url(), format!("https://{gone}")]).await;
    endpoint.until(gone, "unreachable").await;
    let told = fields(endpoint.ask(TWO).await, 503).await;
    assert_eq!(told["code"], "no_attested_instances");
    assert!(
        told["message"].as_str().unwrap().contains(&format!("{gone} is unreachable (dial_failed)")),
        "{told}"
    );
    // Whoever shows evidence that is refused has nothing to offer.
    let endpoint = with(vec![one.url(), bad.url()]).await;
    endpoint.until(bad.address, "quarantined").await;
    assert_eq!(error(endpoint.ask(TWO).await, 404).await.1, "model_not_found");
}

/// An instance that was attested may come back with what it had, whatever keeps it away.
#[tokio::test]
async fn a_model_that_was_attested_is_missed_and_no_other_one() {
    let (one, two) = (guest(0, ONE).await, guest(1, TWO).await);
    let endpoint = before(&[&one, &two]).await;
    let _ = two.guest.clone().chatting(Chat::Close);
    assert_eq!(model_of(endpoint.ask(TWO).await).await, TWO);
    let gone = two.address;
    drop(two);
    eventually("nobody listens", || std::net::TcpStream::connect(gone).is_err()).await;
    for _ in 0..2 {
        assert_eq!(error(endpoint.ask(TWO).await, 503).await.1, "no_attested_instances");
    }
    endpoint.until(gone, "unreachable").await;
    assert_eq!(error(endpoint.ask("model-three").await, 404).await.1, "model_not_found");

    let two = guest(1, TWO).await;
    let policy = guest::policy_for("per-key", 3, &[ONE, TWO]);
    let endpoint = Endpoint::new(fleet(policy, &urls(&[&one, &two])).build().unwrap()).await;
    endpoint.until(two.address, "attested").await;
    let _ = two.guest.clone().attesting(Attestation::OtherKey);
    endpoint.until(two.address, "quarantined").await;
    assert_eq!(error(endpoint.ask(TWO).await, 503).await.1, "no_attested_instances");
    let told = fields(endpoint.ask("model-three").await, 404).await;
    assert!(told["message"].as_str().unwrap().contains("is quarantined (report_data)"), "{told}");
}

/// Of a name in the table a guest may be expected, and of no other.
#[tokio::test]
async fn a_name_that_the_policys_table_does_not_map_is_not_found_though_an_address_is_dead() {
    let (one, gone) = (guest(0, ONE).await, guest(1, TWO).await.address);
    let policy = policy_with(&[("small", &[ONE]), ("large", &[TWO]), ("none", &[])]);
    let urls = [one.url(), format!("https://{gone}")];
    let endpoint = Endpoint::new(fleet(policy, &urls).build().unwrap()).await;
    endpoint.until(one.address, "attested").await;
    endpoint.until(gone, "unreachable").await;
    assert_eq!(error(endpoint.ask("large").await, 503).await.1, "no_attested_instances");
    for name in ["none", ONE, TWO, "model-three"] {
        assert_eq!(error(endpoint.ask(name).await, 404).await.1, "model_not_found", "{name}");
    }
}

#[tokio::test]
async fn a_body_without_a_readable_model_goes_where_all_have_the_same_one() {
    let (one, two) = (guest(0, ONE).await, guest(1, TWO).await);
    let endpoint = before(&[&one, &two]).await;
    let upload = [("content-type", "multipart/form-data; boundary=b")];
    let body = || b"--b\r\ncontent-disposition: form-data; name=\"file\"\r\n\r\nx\r\n--b--\r\n".to_vec();
    let told = fields(endpoint.send("POST", "/v1/audio/transcriptions", &upload, body()).await, 400).await;
    assert_eq!((&told["type"], &told["code"]), (&json!("invalid_request_error"), &json!("model_required")));
    assert!(told["message"].as_str().unwrap().contains("model-one, model-two"), "{told}");
    for guest in [&one, &two] {
        assert!(was_only_attested(&guest.guest));
    }
    let (three, four) = (guest(2, ONE).await, guest(3, ONE).await);
    let same = before(&[&three, &four]).await;
    let answer = same.send("POST", "/v1/audio/transcriptions", &upload, body()).await;
    assert_eq!(answer.status(), 200);
    assert!(three.guest.saw(b"form-data") || four.guest.saw(b"form-data"));
}

/// Behind the one address there is a second guest, which answers as soon as the first is busy.
#[tokio::test]
async fn a_body_without_a_readable_model_stays_with_the_model_that_was_looked_for() {
    let gate = Arc::new(Semaphore::new(0));
    let one = Guest::serving(0, ONE).unwrap().chatting(Chat::Gated(Arc::clone(&gate)));
    let two = Guest::serving(1, TWO).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let guests = [one.clone(), two.clone()];
    tokio::spawn(async move {
        for turn in 0.. {
            let (stream, _) = listener.accept().await.unwrap();
            let guest = guests[turn.min(1)].clone();
            tokio::spawn(async move { guest.serve(stream).await });
        }
    });
    let endpoint = Endpoint::new(fleet(policy(), &[format!("https://{address}")]).build().unwrap()).await;
    endpoint.until(address, "attested").await;
    let body = || SECRET.as_bytes().to_vec();
    // It has the connection on which the first guest was attested, and keeps it.
    let busy = endpoint.send("POST", CHAT, &[], body()).await;
    let told = error(endpoint.send("POST", CHAT, &[], body()).await, 400).await;
    assert_eq!(told.1, "model_required");
    assert!(was_only_attested(&two) && two.attestations() == 1, "it was reached, and told nothing");
    gate.add_permits(1000);
    assert!(whole(busy).await.ends_with(b"data: [DONE]\n\n") && one.saw(SECRET.as_bytes()));
}

#[tokio::test]
async fn a_body_without_a_readable_model_goes_to_none_that_the_table_does_not_name() {
    let (one, two) = (guest(0, ONE).await, guest(1, TWO).await);
    let table = || policy_with(&[("small", &[ONE])]);
    let endpoint = Endpoint::new(fleet(table(), &urls(&[&one, &two])).build().unwrap()).await;
    for guest in [&one, &two] {
        endpoint.until(guest.address, "attested").await;
    }
    for _ in 0..4 {
        let answer = endpoint.send("POST", "/v1/audio/transcriptions", &[], b"sound".to_vec()).await;
        assert_eq!(model_of(answer).await, ONE);
    }
    let alone = Endpoint::new(fleet(table(), &urls(&[&two])).build().unwrap()).await;
    alone.until(two.address, "attested").await;
    let told =
        fields(alone.send("POST", "/v1/audio/transcriptions", &[], b"sound".to_vec()).await, 404).await;
    assert_eq!(told["code"], "model_not_found");
    assert_eq!(told["message"], "no attested instance has a model of the policy's table");
    assert!(was_only_attested(&two.guest));
}

#[tokio::test]
async fn every_method_of_the_api_passes_through_with_its_body() {
    let one = guest(0, ONE).await;
    let endpoint = before(&[&one]).await;
    for (method, body) in [
        ("GET", ""),
        ("HEAD", ""),
        ("POST", "post"),
        ("PUT", "put"),
        ("PATCH", "patch"),
        ("DELETE", "delete"),
    ] {
        let answer = endpoint.send(method, "/v1/files/7?x=1", &[], body.into()).await;
        assert_eq!(
            (answer.status().as_u16(), method == "HEAD"),
            (200, whole(answer).await.is_empty()),
            "{method}"
        );
    }
    let requests = one.guest.requests();
    let seen: Vec<(&str, &str)> = requests[1..]
        .iter()
        .map(|request| (request.line.as_str(), std::str::from_utf8(&request.body).unwrap()))
        .collect();
    let expected = [
        ("GET /v1/files/7?x=1", ""),
        ("HEAD /v1/files/7?x=1", ""),
        ("POST /v1/files/7?x=1", "post"),
        ("PUT /v1/files/7?x=1", "put"),
        ("PATCH /v1/files/7?x=1", "patch"),
        ("DELETE /v1/files/7?x=1", "delete"),
    ];
    assert_eq!(seen, expected);
    let answer = endpoint.send("OPTIONS", CHAT, &[("origin", "http://localhost")], vec![]).await;
    assert_eq!(answer.headers()["allow"], "GET, HEAD, POST, PUT, PATCH, DELETE");
    assert!(answer.headers().keys().all(|name| !name.as_str().starts_with("access-control-")));
}

#[tokio::test]
async fn fields_that_concern_one_connection_are_not_forwarded() {
    let one = guest(0, ONE).await;
    let endpoint = before(&[&one]).await;
    let headers = [
        ("connection", "keep-alive, X-Request-Id"),
        ("x-request-id", "7"),
        ("te", "gzip"),
        ("proxy-authorization", "Basic x"),
        ("keep-alive", "timeout=5"),
        ("accept", "a/b"),
    ];
    let _ = endpoint.send("POST", CHAT, &headers, question(ONE)).await;
    let request = one.guest.requests().pop().unwrap();
    let mut names: Vec<&str> = request.headers.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["accept", "connection", "content-length", "host", "te"]);
    // The channel's own: it takes receipts in trailers.
    let value = |name: &str| request.headers.iter().find(|(found, _)| found == name).unwrap().1.clone();
    assert_eq!((value("connection"), value("te")), ("te".to_owned(), "trailers".to_owned()));
}

#[tokio::test]
async fn a_large_body_reaches_the_guest_whole_after_a_failover() {
    let (one, two, endpoint) = pair(instead("", Then::Cut)).await;
    let content = "0123456789abcdef".repeat(1 << 19);
    let body = json!({ "model": ONE, "messages": [{ "role": "user", "content": content }] }).to_string();
    for _ in 0..2 {
        let answer = endpoint.send("POST", CHAT, &[], body.clone().into_bytes()).await;
        assert_eq!(model_of(answer).await, ONE);
    }
    assert!(asked(&one) >= 1);
    let last = two.guest.requests().pop().unwrap();
    assert!(last.body == body.as_bytes(), "8 MiB, byte for byte");
}

#[tokio::test]
async fn no_more_requests_are_under_way_at_an_instance_than_may_be() {
    let gate = Arc::new(Semaphore::new(0));
    let one = guest(0, ONE).await;
    let endpoint = Endpoint::new(fleet(policy(), &urls(&[&one])).max_in_flight(2).build().unwrap()).await;
    endpoint.until(one.address, "attested").await;
    let _ = one.guest.clone().chatting(Chat::Gated(Arc::clone(&gate)));
    let (first, second) = (endpoint.ask(ONE).await, endpoint.ask(ONE).await);
    assert_eq!(endpoint.instance(one.address).await["in_flight"], 2);
    let answer = endpoint.ask(ONE).await;
    assert!(answer.headers().contains_key("retry-after"));
    assert_eq!(error(answer, 429).await.1, "upstream_overloaded");
    drop(first);
    eventually("one is over", || endpoint.fleet.instances()[0].in_flight() == 1).await;
    let third = endpoint.ask(ONE).await;
    gate.add_permits(1000);
    for answer in [second, third] {
        assert!(whole(answer).await.ends_with(b"data: [DONE]\n\n"));
    }
    eventually("all are over", || endpoint.fleet.instances()[0].in_flight() == 0).await;
}

#[tokio::test]
async fn the_least_busy_instance_is_asked() {
    let gate = Arc::new(Semaphore::new(0));
    let (one, two, endpoint) = pair(Chat::Gated(Arc::clone(&gate))).await;
    let _ = two.guest.clone().chatting(Chat::Gated(Arc::clone(&gate)));
    let mut open = Vec::new();
    for _ in 0..8 {
        open.push(endpoint.ask(ONE).await);
    }
    assert_eq!((asked(&one), asked(&two)), (4, 4));
    gate.add_permits(1000);
    for answer in open {
        assert_eq!(answer.status(), 200);
    }
}

/// Before the head of an answer and within it: a program that leaves takes its request with it.
#[tokio::test]
async fn a_program_that_leaves_takes_its_request_with_it() {
    let gate = Arc::new(Semaphore::new(1));
    for chat in [instead("", Then::Wait), Chat::Gated(Arc::clone(&gate))] {
        let one = guest(0, ONE).await;
        let endpoint = before(&[&one]).await;
        let _ = one.guest.clone().chatting(chat);
        let mut stream = TcpStream::connect(endpoint.address).await.unwrap();
        let body = String::from_utf8(question(ONE)).unwrap();
        let head =
            format!("POST {CHAT} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n", body.len());
        stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
        eventually("it is asked", || asked(&one) == 1).await;
        assert_eq!(endpoint.fleet.instances()[0].in_flight(), 1);
        drop(stream);
        eventually("the request is over", || endpoint.fleet.instances()[0].in_flight() == 0).await;
    }
    // The guest's own task ends, which waits for permits to send the rest.
    gate.add_permits(1);
    eventually("the guest is told", || Arc::strong_count(&gate) <= 3).await;
}

#[tokio::test]
async fn a_token_is_asked_for_and_never_shown_to_guests() {
    let one = guest(0, ONE).await;
    let access = Access::open().token("t0ken").guests_key("sk-guest").unwrap();
    let endpoint = Endpoint::guarded(fleet(policy(), &urls(&[&one])).build().unwrap(), access).await;
    let paths = [
        "/_confide/status",
        "/_confide/metrics",
        "/_confide/health/ready",
        "/_confide/health/attested",
        "/v1/models",
    ];
    for given in [None, Some("Bearer wrong"), Some("Basic t0ken"), Some("Bearer t0ken2")] {
        let headers: Vec<(&str, &str)> = given.iter().map(|value| ("authorization", *value)).collect();
        for path in paths {
            let answer = endpoint.send("GET", path, &headers, vec![]).await;
            assert_eq!(answer.headers()["www-authenticate"], "Bearer");
            assert_eq!(
                error(answer, 401).await,
                ("invalid_request_error".to_owned(), "invalid_api_key".to_owned())
            );
        }
        let answer = endpoint.send("POST", CHAT, &headers, question(ONE)).await;
        assert_eq!(error(answer, 401).await.1, "invalid_api_key");
    }
    assert!(was_only_attested(&one.guest));
    let live = endpoint.send("GET", "/_confide/health/live", &[], vec![]).await;
    assert_eq!(live.status(), 200, "probes know no token");
    let headers = [("authorization", "Bearer t0ken")];
    assert_eq!(endpoint.send("POST", CHAT, &headers, question(ONE)).await.status(), 200);
    let request = one.guest.requests().pop().unwrap();
    assert!(request.headers.contains(&("authorization".to_owned(), "Bearer sk-guest".to_owned())));
    assert!(!one.guest.saw(b"t0ken"));
}

#[tokio::test]
async fn health_has_three_answers() {
    let one = Guest::serving(0, ONE).unwrap().attesting(Attestation::OtherNonce).listen().await.unwrap();
    let mut endpoint = Endpoint::new(fleet(policy(), &urls(&[&one])).build().unwrap()).await;
    endpoint.until(one.address, "quarantined").await;
    assert_eq!(endpoint.get("/_confide/health/live").await, (200, json!({ "status": "live" })));
    assert_eq!(endpoint.get("/_confide/health/ready").await, (200, json!({ "status": "ready" })));
    let unattested = json!({ "status": "unattested", "attested": 0, "instances": 1 });
    assert_eq!(endpoint.get("/_confide/health/attested").await, (503, unattested));
    let _ = one.guest.clone().attesting(Attestation::Honest);
    endpoint.until(one.address, "attested").await;
    let attested = json!({ "status": "attested", "evidence": "SIMULATED", "attested": 1, "instances": 1 });
    assert_eq!(endpoint.get("/_confide/health/attested").await, (200, attested));

    // While the endpoint drains, a request under way is still answered, and a probe whose connection was open, too: one whose
    // head had begun is told so.
    let gate = Arc::new(Semaphore::new(0));
    let _ = one.guest.clone().chatting(Chat::Gated(Arc::clone(&gate)));
    let mut stream = TcpStream::connect(endpoint.address).await.unwrap();
    let body = String::from_utf8(question(ONE)).unwrap();
    let ask =
        format!("POST {CHAT} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    stream.write_all(ask.as_bytes()).await.unwrap();
    let mut probe = TcpStream::connect(endpoint.address).await.unwrap();
    probe.write_all(b"GET /_confide/health/ready HTTP/1.1\r\nhost: localhost\r\n").await.unwrap();
    eventually("it is asked", || asked(&one) == 1).await;
    // What was written is taken up before the shutdown: else an idle connection would be closed.
    tokio::time::sleep(Duration::from_millis(100)).await;
    drop(endpoint.stop.take());
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while endpoint.get("/_confide/health/ready").await != (503, json!({ "status": "draining" })) {
        assert!(std::time::Instant::now() < deadline, "it does not drain");
    }
    probe.write_all(b"\r\n").await.unwrap();
    let mut told = String::new();
    probe.read_to_string(&mut told).await.unwrap();
    assert!(told.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{told}");
    assert!(told.ends_with(r#"{"status":"draining"}"#), "{told}");
    gate.add_permits(1000);
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("data: [DONE]"), "{answer}");
}

#[tokio::test]
async fn the_status_tells_of_every_instance() {
    let (one, two) = (guest(0, ONE).await, guest(1, TWO).await);
    let endpoint = before(&[&one, &two]).await;
    assert_eq!(endpoint.ask(TWO).await.status(), 200);
    let status = endpoint.status().await;
    assert_eq!((&status["state"], &status["models"]), (&json!("ready"), &json!([ONE, TWO])));
    assert_eq!(status["instances"].as_array().unwrap().len(), 2);
    let instance = endpoint.instance(two.address).await;
    let verdict = &instance["verdict"];
    assert_eq!((&instance["url"], &instance["in_flight"]), (&json!(two.url()), &json!(0)));
    assert_eq!((&verdict["model"], &verdict["simulated"]), (&json!(TWO), &json!(true)));
    assert_eq!((&status["evidence"], &verdict["evidence"]), (&json!("SIMULATED"), &json!("SIMULATED")));
    assert_eq!(verdict["manifest"], guest::manifest(TWO).to_string());
    let left = verdict["left_seconds"].as_u64().unwrap();
    assert!((200..=300).contains(&left) && verdict["age_seconds"].as_u64().unwrap() < 60, "{verdict}");
    assert!(verdict["valid_until"].as_str().unwrap().ends_with('Z') && instance["reason"].is_null());
    let collateral = verdict["collateral_left_seconds"].as_u64().unwrap();
    assert!(
        collateral > 2 * 86_400 && verdict["collateral_until"].as_str().unwrap().ends_with('Z'),
        "{verdict}"
    );
    assert_eq!(verdict["also_at"], json!([]));

    let path = format!("/_confide/verdicts/{}", two.address).replace(':', "%3A");
    let (found, verdict) = endpoint.get(&path).await;
    assert_eq!((found, &verdict["outcome"], &verdict["simulated"]), (200, &json!("accepted"), &json!(true)));
}

/// Whatever tells of an instance whose verdict is about simulated evidence has the word, or the field of answers; what
/// rests on no verdict has neither.
#[tokio::test]
async fn what_rests_on_a_simulated_verdict_says_so() {
    let one = Guest::serving(0, ONE).unwrap().attesting(Attestation::OtherNonce).listen().await.unwrap();
    let endpoint = Endpoint::new(fleet(policy(), &urls(&[&one])).build().unwrap()).await;
    endpoint.until(one.address, "quarantined").await;
    let told = async |path: &str| {
        let answer = endpoint.send("GET", path, &[], vec![]).await;
        let marked = answer.headers().get("x-confide-simulated").cloned();
        (marked.is_some_and(|value| value == "true"), String::from_utf8(whole(answer).await).unwrap())
    };
    let paths = ["/_confide/status", "/_confide/metrics", "/_confide/health/attested"];
    for path in paths {
        let (marked, text) = told(path).await;
        let quarantined = text.replace("the guest's SIMULATED evidence was not accepted", "");
        assert!(
            !marked && !quarantined.contains("evidence=") && !quarantined.contains("SIMULATED"),
            "{path}: {text}"
        );
    }
    let _ = one.guest.clone().attesting(Attestation::Honest);
    endpoint.until(one.address, "attested").await;
    for path in paths {
        let (marked, text) = told(path).await;
        assert!(marked && text.contains("\"SIMULATED\"") && !text.contains("genuine"), "{path}: {text}");
    }
    let (marked, verdict) = told(&format!("/_confide/verdicts/{}", one.address)).await;
    assert!(marked && verdict.contains("\"simulated\":true"), "{verdict}");
    for path in ["/_confide/health/live", "/_confide/health/ready"] {
        assert!(!told(path).await.0, "{path}");
    }
}

/// Read by a parser that knows nothing of the writer.
#[tokio::test]
async fn the_metrics_are_in_the_text_format_and_say_what_happened() {
    let (one, two) = (guest(0, ONE).await, guest(1, TWO).await);
    let bad = Guest::serving(2, ONE).unwrap().attesting(Attestation::OtherKey).listen().await.unwrap();
    let gone = guest(3, ONE).await.address;
    let mut urls = urls(&[&one, &two, &bad]);
    urls.push(format!("https://{gone}"));
    let endpoint = Endpoint::new(fleet(policy(), &urls).build().unwrap()).await;
    for (address, state) in [
        (one.address, "attested"),
        (two.address, "attested"),
        (bad.address, "quarantined"),
        (gone, "unreachable"),
    ] {
        endpoint.until(address, state).await;
    }
    let received = whole(endpoint.ask(TWO).await).await.len();
    let text = endpoint.metrics().await;
    let samples = samples(&text);
    let value = |name: &str, labels: &str| {
        let key = format!("{name}{{{labels}}}");
        samples.get(&key).copied().unwrap_or_else(|| panic!("no {key} in\n{text}"))
    };
    let [one, two, bad, gone] =
        [one.address, two.address, bad.address, gone].map(|address| format!("instance=\"{address}\""));
    for (instance, state) in [(&one, "attested"), (&bad, "quarantined"), (&gone, "unreachable")] {
        assert_eq!(value("confide_instance_state", &format!("{instance},state=\"{state}\"")), 1.0);
    }
    assert_eq!(value("confide_instance_state", &format!("{one},state=\"quarantined\"")), 0.0);
    assert_eq!(value("confide_verdict_evidence", &format!("{two},evidence=\"SIMULATED\"")), 1.0);
    assert_eq!(value("confide_verdicts_total", &format!("{one},outcome=\"accepted\",code=\"\"")), 1.0);
    assert!(
        value("confide_verdicts_total", &format!("{bad},outcome=\"rejected\",code=\"report_data\"")) >= 1.0
    );
    assert!(value("confide_attestation_errors_total", &format!("{gone},code=\"dial_failed\"")) >= 1.0);
    assert!(value("confide_quarantines_total", &bad) >= 1.0);
    assert!((200.0..=300.0).contains(&value("confide_verdict_left_seconds", &two)));
    assert!(value("confide_verdict_age_seconds", &two) < 60.0);
    let collateral = value("confide_collateral_left_seconds", &two);
    assert!(collateral > 2.0 * 86_400.0, "neither the evidence's age nor its keys end it: {collateral}");
    assert_eq!(value("confide_attestation_seconds_count", &two), 1.0);
    assert_eq!(value("confide_attestation_seconds_bucket", &format!("{two},le=\"+Inf\"")), 1.0);
    assert!(value("confide_attestation_seconds_sum", &two) > 0.0);
    assert_eq!(value("confide_first_byte_seconds_count", &two), 1.0);
    assert_eq!(value("confide_sent_bytes_total", &two), question(TWO).len() as f64);
    assert_eq!(value("confide_received_bytes_total", &two), received as f64);
    assert_eq!(value("confide_in_flight", &two), 0.0);
    assert_eq!(value("confide_sent_bytes_total", &one), 0.0);
    assert!(!text.contains(SECRET));
}

/// Every sample of a page in the text format 0.0.4, each of a family whose type and help stand before it.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let mut kinds = BTreeMap::new();
    let mut samples = BTreeMap::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert!(kinds.insert(name, kind).is_none(), "twice: {line}");
            assert_eq!(name.ends_with("_total"), kind == "counter", "{line}");
            continue;
        }
        if line.starts_with("# HELP ") {
            continue;
        }
        let (key, value) = line.rsplit_once(' ').unwrap();
        let name = key.split('{').next().unwrap();
        let of_histogram = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
        let known = kinds.contains_key(name)
            || of_histogram.is_some_and(|name| kinds.get(name) == Some(&"histogram"));
        assert!(known, "a sample without a type: {line}");
        assert!(samples.insert(key.to_owned(), value.parse().unwrap()).is_none(), "twice: {line}");
    }
    samples
}

#[tokio::test]
async fn a_guest_behind_two_addresses_is_attested_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("fleet.toml");
    std::fs::write(&file, "").unwrap();
    let (one, three) = (guest(0, ONE).await, guest(1, ONE).await);
    let two = one.guest.clone().listen().await.unwrap();
    let builder = fleet(policy(), &urls(&[&one, &three])).discovery(file.clone());
    let endpoint = Endpoint::new(builder.build().unwrap()).await;
    for guest in [&one, &three] {
        endpoint.until(guest.address, "attested").await;
    }
    std::fs::write(&file, format!("[[instance]]\nurl = \"{}\"\n", two.url())).unwrap();
    eventually("it is discovered", || endpoint.fleet.instances().len() == 3).await;
    endpoint.until(two.address, "attested").await;
    for _ in 0..6 {
        assert_eq!(model_of(endpoint.ask(ONE).await).await, ONE);
    }
    assert_eq!((one.guest.attestations(), three.guest.attestations()), (1, 1));
    let [first, second, other] = [&one, &two, &three].map(|guest| guest.address);
    for (address, elsewhere) in [(first, vec![second]), (second, vec![first]), (other, vec![])] {
        let verdict = endpoint.instance(address).await["verdict"].clone();
        let elsewhere: Vec<String> = elsewhere.iter().map(ToString::to_string).collect();
        assert_eq!(verdict["also_at"], json!(elsewhere), "{verdict}");
        let (status, verdict) = endpoint.get(&format!("/_confide/verdicts/{address}")).await;
        assert_eq!((status, &verdict["outcome"]), (200, &json!("accepted")));
    }
}

#[tokio::test]
async fn a_discovery_file_suggests_addresses_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("fleet.toml");
    let (one, two) = (guest(0, ONE).await, guest(1, TWO).await);
    let bad = Guest::serving(2, ONE).unwrap().attesting(Attestation::OtherKey).listen().await.unwrap();
    let entry = |guest: &Listening| format!("[[instance]]\nurl = \"{}\"\n", guest.url());
    std::fs::write(&file, entry(&one)).unwrap();
    let events = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&events);
    let builder = fleet(policy(), &[]).discovery(file.clone());
    let builder = builder.on_event(move |event| heard.lock().unwrap().push(event.to_string()));
    let endpoint = Endpoint::new(builder.build().unwrap()).await;
    endpoint.until(one.address, "attested").await;
    assert_eq!(model_of(endpoint.ask(ONE).await).await, ONE);
    assert_eq!(error(endpoint.ask(TWO).await, 404).await.1, "model_not_found");

    let used = async |used: u8| {
        let (status, metrics) = (endpoint.status().await, endpoint.metrics().await);
        assert!(metrics.contains(&format!("\nconfide_discovery_used {used}\n")), "{metrics}");
        status["discovery_error"].as_str().map(str::to_owned)
    };
    assert_eq!(used(1).await, None);
    let heard = |words: &str| events.lock().unwrap().iter().any(|event: &String| event.contains(words));
    std::fs::write(&file, entry(&one) + &entry(&two) + &entry(&bad)).unwrap();
    eventually("two is added", || heard(&format!("{} added by the discovery file", two.address))).await;
    endpoint.until(two.address, "attested").await;
    endpoint.until(bad.address, "quarantined").await;
    assert_eq!(model_of(endpoint.ask(TWO).await).await, TWO);
    for _ in 0..4 {
        assert_eq!(model_of(endpoint.ask(ONE).await).await, ONE);
    }
    assert!(was_only_attested(&bad.guest), "an address that the file names is attested like any other");

    for (hostile, why) in [
        (entry(&bad) + "model = \"model-one\"\n", "unknown field `model`"),
        (entry(&bad) + "[policy]\n", "unknown field `policy`"),
        (format!("[[instance]]\nurl = \"http://{}\"\n", bad.address), "plain http is refused"),
        (entry(&bad) + &entry(&bad), "is listed twice"),
        ("[[instance]".to_owned(), "fleet.toml:1:"),
    ] {
        std::fs::write(&file, &hostile).unwrap();
        eventually(why, || heard(why)).await;
        assert!(used(0).await.unwrap().contains(why), "{why}");
        assert_eq!(
            endpoint.status().await["instances"].as_array().unwrap().len(),
            3,
            "what it said before goes on"
        );
        assert_eq!(model_of(endpoint.ask(ONE).await).await, ONE);
    }
    std::fs::remove_file(&file).unwrap();
    eventually("it is missed", || heard("the configuration cannot be read")).await;
    assert_eq!(model_of(endpoint.ask(TWO).await).await, TWO);
    std::fs::write(&file, entry(&two)).unwrap();
    eventually("one is removed", || heard(&format!("{} removed from the discovery file", one.address))).await;
    assert_eq!(error(endpoint.ask(ONE).await, 404).await.1, "model_not_found");
    assert_eq!(model_of(endpoint.ask(TWO).await).await, TWO);
    assert_eq!(used(1).await, None, "a file that can be used again is no error any more");
}

/// Of one address behind which there are two guests, a request goes to the one whose own verdict has its model.
#[tokio::test]
async fn a_verdict_about_another_key_at_the_same_address_attests_no_model() {
    let (one, two) = (Guest::serving(0, ONE).unwrap(), Guest::serving(1, TWO).unwrap());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let guests = [one.clone(), two.clone()];
    tokio::spawn(async move {
        for turn in 0.. {
            let (stream, _) = listener.accept().await.unwrap();
            let guest = guests[turn % 2].clone();
            tokio::spawn(async move { guest.serve(stream).await });
        }
    });
    let endpoint = Endpoint::new(fleet(policy(), &[format!("https://{address}")]).build().unwrap()).await;
    endpoint.until(address, "attested").await;
    let mut answered = 0;
    let mut turns: Vec<_> = Vec::new();
    for _ in 0..6 {
        turns.push(async { (ONE, endpoint.ask(ONE).await) });
    }
    for turn in turns {
        let (asked, answer) = turn.await;
        match answer.status().as_u16() {
            200 => {
                answered += 1;
                assert_eq!(model_of(answer).await, asked);
            }
            status => assert!(status == 404 || status == 503, "{status}"),
        }
    }
    assert!(answered > 0 && !two.saw(SECRET.as_bytes()), "{answered}");
    assert!(one.saw(SECRET.as_bytes()));
}

#[tokio::test]
async fn changes_are_told_once_each() {
    let one = guest(0, ONE).await;
    let events = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&events);
    let builder = fleet(guest::policy_for("per-key", 2, &[ONE]), &urls(&[&one]));
    let builder = builder.on_event(move |event| heard.lock().unwrap().push(event.to_string()));
    let endpoint = Endpoint::new(builder.build().unwrap()).await;
    endpoint.until(one.address, "attested").await;
    let _ = one.guest.clone().attesting(Attestation::OtherKey);
    endpoint.until(one.address, "quarantined").await;
    let refusals = one.guest.attestations();
    eventually("it is refused again", || one.guest.attestations() > refusals + 2).await;
    let _ = one.guest.clone().attesting(Attestation::Honest);
    endpoint.until(one.address, "attested").await;
    let events = events.lock().unwrap().clone();
    assert_eq!(events.len(), 2, "{events:?}");
    assert!(
        events[0].contains(&format!("{} quarantined (report_data) for 0.0 s: ", one.address)),
        "{events:?}"
    );
    assert_eq!(events[1], format!("{} recovered: its evidence is accepted", one.address));
}

/// Nobody has to ask for it: verdicts are renewed while no request comes.
#[tokio::test]
async fn an_idle_fleet_stays_attested() {
    let one = guest(0, ONE).await;
    let endpoint =
        Endpoint::new(fleet(guest::policy_for("per-key", 3, &[ONE]), &urls(&[&one])).build().unwrap()).await;
    endpoint.until(one.address, "attested").await;
    for _ in 0..50 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let state = endpoint.instance(one.address).await["state"].clone();
        assert!(state == "attested" || state == "pending", "{state}");
    }
    assert!(one.guest.attestations() >= 2, "{}", one.guest.attestations());
    assert_eq!(endpoint.ask(ONE).await.status(), 200);
}

#[tokio::test]
async fn a_policy_that_attests_every_connection_holds_for_each_of_a_fleet() {
    let gate = Arc::new(Semaphore::new(0));
    let (one, two) = (guest(0, ONE).await, guest(1, ONE).await);
    let policy = guest::policy_for("every-connection", 300, &[ONE]);
    let endpoint = Endpoint::new(fleet(policy, &urls(&[&one, &two])).build().unwrap()).await;
    for guest in [&one, &two] {
        endpoint.until(guest.address, "attested").await;
        let _ = guest.guest.clone().chatting(Chat::Gated(Arc::clone(&gate)));
    }
    let mut open = Vec::new();
    for _ in 0..6 {
        open.push(endpoint.ask(ONE).await);
    }
    for guest in [&one, &two] {
        assert_eq!((asked(guest), guest.guest.attestations()), (3, 3), "one for each connection");
    }
    gate.add_permits(1000);
    for answer in open {
        assert!(whole(answer).await.ends_with(b"data: [DONE]\n\n"));
    }
}
