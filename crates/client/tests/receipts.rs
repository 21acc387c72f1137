//! Receipts: those of an honest guest hold and are kept, and none of a dishonest one passes.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use bytes::Bytes;
use confide_client::fleet::{FleetError, ModelChoice, Repeat};
use confide_client::proxy::{Access, Exposure, Proxy};
use confide_client::{
    Appraised, ChatRequest, Client, ClientBuilder, ClientError, Fleet, PolicyText, Prompt, Protocols,
    ReceiptError, Receipts, Request, Turn, VerifiedReceipt,
};
use confide_evidence::document::EvidenceDocument;
use confide_evidence::hash::sha256;
use confide_evidence::receipt::salted_hash;
use confide_policy::Loaded;
use confide_testkit::guest::{self, Chat, Guest, Listening, MODEL, Receipts as Signing, WORDS};
use confide_verifier::Voucher;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpStream;

const CHAT: &str = "/v1/chat/completions";
/// Every way of signing that no client takes, and the code that it gets.
const WRONG: [(Signing, &str); 9] = [
    (Signing::OtherKey, "receipt_invalid"),
    (Signing::OtherBoot, "receipt_invalid"),
    (Signing::OtherKeySet, "receipt_invalid"),
    (Signing::OtherManifest, "receipt_invalid"),
    (Signing::OtherConfiguration, "receipt_invalid"),
    (Signing::OtherRequest, "receipt_invalid"),
    (Signing::OtherResponse, "receipt_invalid"),
    (Signing::Garbage, "receipt_malformed"),
    (Signing::OneNumber, "receipt_repeated"),
];

fn builder(guest: &Listening) -> ClientBuilder {
    let policy = PolicyText::parse(guest::policy("per-key", 300), Loaded::AsDanger).unwrap();
    Client::builder(&guest.url(), policy).unwrap()
}

async fn guest(signing: Signing) -> Listening {
    Guest::new(0).unwrap().with_http2(100).signing(signing).listen().await.unwrap()
}

fn question() -> ChatRequest {
    ChatRequest::new(MODEL).turn(Turn::user("What is an RTMR?"))
}

/// The whole text of a streamed answer.
async fn streamed(client: &Client) -> Result<String, ClientError> {
    let mut stream = client.chat_stream(question()).await?;
    let mut text = String::new();
    while let Some(piece) = stream.next().await? {
        text.extend(piece.content);
    }
    Ok(text)
}

type Shelf<T> = Arc<Mutex<Vec<T>>>;

fn shelf<T: Send + 'static>() -> (Shelf<T>, impl Fn(T) -> io::Result<()> + Send + Sync) {
    let shelf = Shelf::default();
    let put = Arc::clone(&shelf);
    (shelf, move |one| {
        put.lock().unwrap().push(one);
        Ok(())
    })
}

#[tokio::test]
async fn receipts_are_verified_and_given_to_whoever_keeps_them() {
    for protocols in [Protocols::Http1, Protocols::Http2OrHttp1] {
        are_verified_and_given_to_whoever_keeps_them(protocols).await;
    }
}

async fn are_verified_and_given_to_whoever_keeps_them(protocols: Protocols) {
    let guest = Guest::new(0).unwrap().signing(Signing::Honest).with_http2(8).listen().await.unwrap();
    let (receipts, keep) = shelf::<VerifiedReceipt>();
    let (appraisals, record) = shelf::<Appraised>();
    let client = builder(&guest)
        .protocols(protocols)
        .receipts(Receipts::Required)
        .record_appraisals(move |appraised| record(appraised.clone()))
        .keep_receipts(move |receipt| keep(receipt.clone()))
        .build();
    assert_eq!(client.chat(question()).await.unwrap().content, WORDS.concat());
    assert_eq!(streamed(&client).await.unwrap(), WORDS.concat());
    // What has no body needs none.
    assert_eq!(client.models().await.unwrap(), [MODEL]);
    let receipts = receipts.lock().unwrap();
    let sequences: Vec<u64> = receipts.iter().map(|kept| kept.receipt.sequence).collect();
    assert_eq!(sequences, [0, 1]);
    let appraisals = appraisals.lock().unwrap();
    let document = EvidenceDocument::decode(&appraisals[0].document).unwrap();
    let requests = guest.guest.requests();
    for (kept, asked) in receipts.iter().zip(&requests[1..]) {
        assert_eq!(kept.nonce, appraisals[0].challenge.nonce);
        assert!(appraisals[0].time <= kept.sent);
        assert_eq!(kept.bodies.request, salted_hash(&kept.receipt.salt, &sha256(&asked.body)));
        let voucher = Voucher::of(&document);
        voucher.check(&kept.receipt, &kept.bodies, &confide_client::ALGORITHMS).unwrap();
    }
    assert_eq!(guest.guest.seen().len(), 1, "one connection for all: each answer was read to its end");
}

#[tokio::test]
async fn an_answer_with_a_wrong_receipt_is_not_handed_over() {
    let both = [Protocols::Http1, Protocols::Http2OrHttp1];
    for ((signing, code), protocols) in WRONG.into_iter().flat_map(|wrong| both.map(|one| (wrong, one))) {
        let guest = guest(signing).await;
        let client = builder(&guest).protocols(protocols).build();
        let repeated = signing == Signing::OneNumber;
        // The first of those that have one number is the one that has it.
        assert_eq!(client.chat(question()).await.map(|_| ()).is_ok(), repeated, "{signing:?}");
        let Err(error) = client.chat(question()).await else { panic!("{signing:?}: answered") };
        assert_eq!(error.code(), code, "{signing:?}: {error}");
        let error = streamed(&client).await.unwrap_err();
        assert_eq!(error.code(), code, "{signing:?}, streamed: {error}");
        let expected = if code == "receipt_malformed" { 30 } else { 10 };
        assert_eq!(error.exit_status(), expected);
    }
}

#[tokio::test]
async fn whoever_sends_by_themselves_gets_the_error_in_the_place_of_the_end() {
    let guest = guest(Signing::OtherKey).await;
    let client = builder(&guest).build();
    let send = |stream: bool| {
        let body = json!({ "model": MODEL, "messages": [], "stream": stream }).to_string();
        client.send(Request::post(CHAT, Prompt::from(body)).unwrap())
    };
    // Short and whole: nothing of it is handed over.
    assert!(matches!(send(false).await, Err(ClientError::Receipt(ReceiptError::Invalid(_)))));
    let mut body = send(true).await.unwrap().body;
    let mut text = Vec::new();
    let error = loop {
        match body.frame().await.expect("the error comes before the end") {
            Ok(frame) => text.extend(frame.into_data().unwrap()),
            Err(error) => break error,
        }
    };
    assert_eq!(error.code(), "receipt_invalid");
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains(WORDS[3]) && !text.contains("[DONE]"), "{text}");
    assert!(body.frame().await.is_none());
}

#[tokio::test]
async fn a_missing_receipt_is_an_error_where_it_is_required_or_was_announced() {
    for (signing, receipts, whole, stream) in [
        (Signing::None, Receipts::WherePresent, true, true),
        (Signing::None, Receipts::Required, false, false),
        (Signing::Withheld, Receipts::WherePresent, true, false),
        (Signing::Withheld, Receipts::Required, false, false),
    ] {
        let guest = guest(signing).await;
        let client = builder(&guest).receipts(receipts).build();
        let answers = [client.chat(question()).await.map(|_| ()), streamed(&client).await.map(|_| ())];
        for (answer, expected) in answers.into_iter().zip([whole, stream]) {
            let code = answer.err().map(|error| error.code());
            assert_eq!(code, (!expected).then_some("receipt_missing"), "{signing:?}, {receipts:?}");
        }
    }
    // An error of the guest is told as what it is.
    let guest = Guest::new(0).unwrap().chatting(Chat::Refuse(404)).listen().await.unwrap();
    let client = builder(&guest).receipts(Receipts::Required).build();
    assert_eq!(client.chat(question()).await.err().unwrap().code(), "upstream_error");
}

/// A guest signs a streamed answer's receipt for who takes trailer fields.
#[tokio::test]
async fn a_guest_that_is_not_asked_for_receipts_is_not_told_that_trailer_fields_are_taken() {
    for (receipts, signing, told) in [
        (Receipts::WherePresent, Signing::None, true),
        (Receipts::Required, Signing::Honest, true),
        (Receipts::NotAsked, Signing::None, false),
    ] {
        let guest = Guest::new(0).unwrap().signing(signing).listen().await.unwrap();
        let client = builder(&guest).receipts(receipts).build();
        assert_eq!(streamed(&client).await.unwrap(), WORDS.concat());
        assert_eq!(guest.guest.saw(b"te: trailers"), told, "{receipts:?}");
    }
    // One that comes all the same, with the head of an answer, is verified.
    let guest = guest(Signing::OtherKey).await;
    let client = builder(&guest).receipts(Receipts::NotAsked).build();
    assert_eq!(client.chat(question()).await.err().unwrap().code(), "receipt_invalid");
}

#[tokio::test]
async fn an_answer_whose_receipt_cannot_be_kept_is_withheld() {
    let guest = guest(Signing::Honest).await;
    let client = builder(&guest).keep_receipts(|_| Err(io::Error::other("the disk is full"))).build();
    let answers = [client.chat(question()).await.map(|_| ()), streamed(&client).await.map(|_| ())];
    for answer in answers {
        let error = answer.unwrap_err();
        assert_eq!((error.code(), error.exit_status()), ("receipt_not_kept", 1));
        assert!(error.to_string().contains("the disk is full"));
    }
}

#[tokio::test]
async fn a_stream_that_is_cut_short_has_no_receipt() {
    let guest = Guest::new(0).unwrap().signing(Signing::Honest).chatting(Chat::Torn).listen().await.unwrap();
    let (receipts, keep) = shelf::<VerifiedReceipt>();
    let client = builder(&guest).keep_receipts(move |receipt| keep(receipt.clone())).build();
    assert_eq!(streamed(&client).await.unwrap_err().code(), "connection_failed");
    assert!(receipts.lock().unwrap().is_empty());
}

/// A guest behind two addresses, of which each is asked once.
#[tokio::test]
async fn a_number_is_taken_once_from_whatever_address_of_a_fleet_it_comes() {
    for (signing, code) in [(Signing::Honest, None), (Signing::OneNumber, Some("receipt_repeated"))] {
        let one = guest(signing).await;
        let two = one.guest.clone().listen().await.unwrap();
        let policy = PolicyText::parse(guest::policy("per-key", 300), Loaded::AsDanger).unwrap();
        let fleet = Fleet::builder(move |endpoint| Client::builder(&endpoint.to_string(), policy.clone()));
        let fleet = fleet.max_in_flight(1).upstream(&one.url()).unwrap().upstream(&two.url()).unwrap();
        let fleet = fleet.build().unwrap();
        while fleet.instances().iter().any(|one| one.view().verdict.is_none()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let (mut answers, mut slots) = (Vec::new(), Vec::new());
        for _ in 0..2 {
            let body = json!({ "model": MODEL, "messages": [] }).to_string();
            let request = Request::post(CHAT, Prompt::from(body)).unwrap();
            let delivery = fleet.send(ModelChoice::Named(MODEL), Repeat::Never, request).await;
            answers.push(delivery.as_ref().err().map(|error| match error {
                FleetError::Client(error) => error.code(),
                other => panic!("{other}"),
            }));
            // As long as it is held, the other address is asked.
            slots.push(delivery.map(|delivery| delivery.slot));
        }
        assert_eq!(answers, [None, code], "{signing:?}");
    }
}

/// What a local program gets of the proxy: status, fields and body, or nothing of a body that breaks off.
async fn ask(address: SocketAddr, stream: bool) -> (u16, http::HeaderMap, String) {
    let tcp = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake::<_, Full<Bytes>>(TokioIo::new(tcp)).await.unwrap();
    tokio::spawn(connection);
    let body = json!({ "model": MODEL, "messages": [], "stream": stream }).to_string();
    let request = http::Request::post(CHAT).header("host", address.to_string()).header("te", "trailers");
    let answer = sender.send_request(request.body(Full::from(body)).unwrap()).await.unwrap();
    let (head, body) = answer.into_parts();
    let body = body.collect().await.unwrap();
    assert!(body.trailers().is_none());
    (head.status.as_u16(), head.headers, String::from_utf8(body.to_bytes().to_vec()).unwrap())
}

#[tokio::test]
async fn the_proxy_hands_over_no_answer_with_a_wrong_receipt_and_no_receipt_either() {
    for signing in [Signing::Honest, Signing::OtherResponse] {
        let guest = self::guest(signing).await;
        let policy = PolicyText::parse(guest::policy("per-key", 300), Loaded::AsDanger).unwrap();
        let fleet = Fleet::builder(move |endpoint| {
            Ok(Client::builder(&endpoint.to_string(), policy.clone())?.receipts(Receipts::Required))
        });
        let fleet = fleet.upstream(&guest.url()).unwrap().build().unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let proxy = Proxy::bind(fleet, Access::open(), address, Exposure::Loopback).await.unwrap();
        let address = proxy.address();
        let serving = tokio::spawn(proxy.serve(std::future::pending::<std::future::Pending<()>>()));
        let (status, fields, body) = ask(address, false).await;
        assert!(fields.keys().all(|name| name != "x-confide-receipt" && name != "trailer"));
        let body: Value = serde_json::from_str(&body).unwrap();
        let (streamed, fields, events) = ask(address, true).await;
        assert!(fields.keys().all(|name| name != "x-confide-receipt" && name != "trailer"));
        assert_eq!(streamed, 200);
        if signing == Signing::Honest {
            assert_eq!((status, &body["choices"][0]["message"]["content"]), (200, &json!(WORDS.concat())));
            assert!(events.ends_with("data: [DONE]\n\n"), "{events}");
        } else {
            assert_eq!((status, &body["error"]["code"]), (502, &json!("receipt_invalid")));
            assert!(!events.contains("[DONE]"), "{events}");
            let last = events.trim_end().rsplit("data: ").next().unwrap();
            let last: Value = serde_json::from_str(last).unwrap();
            assert_eq!(last["error"]["code"], "receipt_invalid");
        }
        serving.abort();
    }
}
