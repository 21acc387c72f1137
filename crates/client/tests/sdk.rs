//! The SDK in other programs: its example, and clients that block.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use confide_client::{ChatRequest, Client, ClientError, PolicyText, Request, Turn, blocking};
use confide_policy::Loaded;
use confide_testkit::guest::{self, Attestation, Chat, Guest, Listening, MODEL, WORDS};

#[expect(dead_code, reason = "the example's own main reads the command line")]
#[path = "../examples/ask.rs"]
mod example;

const SECRET: &str = "the secret question";

fn policy() -> PolicyText {
    PolicyText::parse(guest::policy("per-key", 300), Loaded::AsDanger).unwrap()
}

fn question() -> ChatRequest {
    ChatRequest::new(MODEL).turn(Turn::user(SECRET))
}

/// A runtime for the guest, and the guest on it; the test's own thread has none.
fn listening(guest: Guest) -> (tokio::runtime::Runtime, Listening) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let guest = runtime.block_on(guest.listen()).unwrap();
    (runtime, guest)
}

fn client(guest: &Listening) -> blocking::Client {
    blocking::Client::new(Client::builder(&guest.url(), policy()).unwrap().build()).unwrap()
}

#[tokio::test]
async fn the_example_asks_a_guest_that_is_attested_and_tells_another_one_nothing() {
    let guest = Guest::new(0).unwrap().listen().await.unwrap();
    assert_eq!(example::ask(&guest.url(), policy(), SECRET).await.unwrap(), WORDS.concat());
    assert!(guest.guest.saw(SECRET.as_bytes()));
    let other = Guest::new(0).unwrap().attesting(Attestation::OtherExporter).listen().await.unwrap();
    let refused = example::ask(&other.url(), policy(), SECRET).await.unwrap_err();
    assert_eq!(refused.code(), "report_data");
    let said = example::told(&refused);
    assert!(said.starts_with("error: the guest's SIMULATED evidence was not accepted: "), "{said}");
    let what_to_do = refused.what_to_do().unwrap();
    assert!(said.ends_with(&format!(" [report_data]\n  {what_to_do}")), "{said}");
    assert!(!other.guest.saw(SECRET.as_bytes()));
}

#[test]
fn the_example_replaces_a_plain_client_in_ten_lines() {
    let text = include_str!("../examples/ask.rs");
    let from = text.find("pub(crate) async fn ask(").unwrap();
    let lines = text[from..].lines().take_while(|line| *line != "}").count() + 1;
    assert!(lines <= 10, "{lines}");
}

#[test]
fn a_client_that_blocks_does_what_the_other_one_does() {
    let (_runtime, guest) = listening(Guest::new(0).unwrap());
    let client = client(&guest);
    assert_eq!(client.verdict().unwrap().claims().model.name, MODEL);
    assert_eq!(client.chat(question()).unwrap().content, WORDS.concat());
    let mut stream = client.chat_stream(question()).unwrap();
    let mut text = String::new();
    while let Some(piece) = stream.next().unwrap() {
        text.extend(piece.content);
    }
    assert_eq!(text, WORDS.concat());
    assert!(stream.verdict().result().simulated);
    drop(stream);
    assert_eq!(client.models().unwrap(), [MODEL]);
    let answer = client.send(Request::get("/v1/models").unwrap()).unwrap();
    assert_eq!(answer.status, 200);
    assert!(answer.body.windows(MODEL.len()).any(|window| window == MODEL.as_bytes()));
    assert_eq!((guest.guest.attestations(), guest.guest.seen().len()), (1, 1), "one connection for all");
}

#[test]
fn a_client_that_blocks_tells_a_refused_guest_nothing_and_calls_a_cut_stream_an_error() {
    let (_runtime, guest) = listening(Guest::new(0).unwrap().attesting(Attestation::OtherKey));
    let Err(error) = client(&guest).chat(question()) else { panic!("answered") };
    assert_eq!(error.code(), "report_data");
    assert!(!guest.guest.saw(SECRET.as_bytes()));
    let (_runtime, guest) = listening(Guest::new(0).unwrap().chatting(Chat::Torn));
    let mut stream = client(&guest).chat_stream(question()).unwrap();
    let error = loop {
        match stream.next() {
            Ok(Some(_)) => {}
            Ok(None) => panic!("a cut stream ended well"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.exit_status(), 1, "{error}");
}

#[tokio::test]
async fn a_client_that_blocks_refuses_a_runtimes_thread_and_may_be_dropped_there() {
    let guest = Guest::new(0).unwrap().listen().await.unwrap();
    let client = client(&guest);
    let Err(error) = client.chat(question()) else { panic!("it waited on a runtime's thread") };
    assert!(matches!(error, ClientError::InsideRuntime), "{error}");
    assert_eq!((error.code(), error.what_to_do().is_some()), ("inside_runtime", true));
    drop(client);
    assert!(guest.guest.seen().is_empty(), "nobody was asked");
}
