//! `confide-guest serve` on the simulated platform, as a process.
#![cfg(feature = "danger-simulator")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout, reason = "tests")]

mod harness;

use std::collections::BTreeSet;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use confide_client::{ALGORITHMS, ChatRequest, Protocols, Receipts, Turn, VerifiedReceipt};
use confide_egress::landlock::Version;
use confide_evidence::document::{
    ATTESTATION_PATH, AttestationRequest, CpuEvidence, KemKey, KeySet, MAX_REQUEST, ServingKeys,
    devices_digest,
};
use confide_evidence::event::RuntimeEvent;
use confide_evidence::hash::sha256;
use confide_evidence::manifest::{FileHasher, ModelManifest};
use confide_evidence::pem;
use confide_evidence::tdx::{Padding, Quote};
use confide_evidence::transcript::{Binding, Role, Transcript, batch_leaf};
use confide_evidence::{bytes::Bytes, document::EvidenceDocument};
use confide_guest::api::ROUTES;
use confide_verifier::Voucher;
use harness::{Connection, Guest, Installation, MODEL, checkpoint, connect, model_files, signal};
use http::{Method, StatusCode};
use rustix::process::{Resource, getrlimit};
use rustix::thread::{CapabilitySet, capabilities};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const CBOR: &str = "application/cbor";
const JSON: &str = "application/json";
const CHAT: &str = "/v1/chat/completions";

fn question(text: &str, tokens: u32) -> Value {
    json!({
        "model": MODEL, "messages": [{ "role": "user", "content": text }], "temperature": 0, "max_tokens": tokens
    })
}

/// That the quote and each device have signed what binds them to the connection of `binding`, alone or in a batch.
fn assert_bound(document: &EvidenceDocument, binding: Binding) {
    let binding = match (&document.batch, binding) {
        (Some(path), Binding::Serve { nonce, exporter, tls_spki }) => {
            Binding::Batch { root: path.root(&batch_leaf(&nonce, &exporter)).unwrap(), tls_spki }
        }
        _ => binding,
    };
    let CpuEvidence::Tdx { quote } = &document.cpu else { panic!("{:?}", document.cpu) };
    let quote = Quote::parse(quote.as_bytes(), Padding::Refused).unwrap();
    let transcript = Transcript {
        binding,
        keyset: document.key_set.digest(),
        devices: devices_digest(&document.devices),
        claims: document.claims.digest(),
        boot_id: document.boot_id,
    };
    assert_eq!(quote.report.report_data, &transcript.report_data());
    assert_eq!(quote.report.rtmr[3], &document.events.replay());
    for (position, device) in (0u32..).zip(&document.devices) {
        assert_eq!(device.report.as_bytes()[4..36], binding.gpu_nonce(position));
    }
}

#[tokio::test]
async fn a_client_appraises_the_guest_and_gets_its_answers() {
    let guest = Guest::start("");
    let client = guest.client();
    let verdict = client.verdict().await.unwrap();
    assert!(verdict.result().simulated);
    assert_eq!(client.models().await.unwrap(), [MODEL]);
    let ask = || ChatRequest::new(MODEL).turn(Turn::user("What is an RTMR?")).temperature(0.0).max_tokens(12);
    let whole = client.chat(ask()).await.unwrap();
    assert_eq!(whole.finish_reason.as_deref(), Some("length"));
    assert_eq!(whole.usage.unwrap().completion_tokens, 12);
    let mut stream = client.chat_stream(ask()).await.unwrap();
    let mut streamed = String::new();
    let mut usage = None;
    while let Some(delta) = stream.next().await.unwrap() {
        streamed.push_str(&delta.content.unwrap_or_default());
        usage = usage.or(delta.usage);
    }
    assert_eq!((streamed, usage), (whole.content, whole.usage));
}

#[tokio::test]
async fn a_document_is_bound_to_its_connection_and_says_what_runs() {
    let guest = Guest::start("");
    let mut connection = Connection::open(guest.address).await;
    let (document, binding) = connection.attest(1).await;
    assert_bound(&document, binding);
    document.check_events(Role::Serve).unwrap();
    let (again, other_binding) = connection.attest(2).await;
    assert_bound(&again, other_binding);
    assert_eq!(again.key_set, document.key_set);
    let mut elsewhere = Connection::open(guest.address).await;
    let (third, third_binding) = elsewhere.attest(1).await;
    assert_bound(&third, third_binding);
    assert_ne!(third_binding, binding, "two connections export different values for one nonce");

    let claims = &document.claims;
    assert_eq!((claims.model.name.as_str(), claims.engine.kind.as_str()), (MODEL, "builtin"));
    assert_eq!((claims.gpus.count, claims.gpus.environment.as_str()), (1, "SIMULATED"));
    let RuntimeEvent::Devices(devices) = &document.events.events()[4] else { panic!("no devices event") };
    let leaf = pem::certificates(document.devices[0].chain.as_bytes()).unwrap().remove(0);
    assert_eq!(devices.devices[0].certificate, sha256(&leaf));
    assert!(document.key_set.serving().unwrap().not_after > claims.changing.guest_time);
    assert!(document.endorsements.unwrap().tdx.is_some());
}

#[tokio::test]
async fn the_manifest_is_of_the_files_that_run() {
    let mut files = model_files(7);
    files.insert("notes/readme.txt".to_owned(), b"measured as well".to_vec());
    let guest = Guest::with(Installation::new(&files, ""));
    let (document, _) = Connection::open(guest.address).await.attest(1).await;
    let entries = files.iter().map(|(path, content)| {
        let mut hasher = FileHasher::new(path).unwrap();
        hasher.update(content);
        hasher.finish()
    });
    let expected = ModelManifest::new(entries.collect()).unwrap().digest();
    assert_eq!(document.claims.model.manifest, expected);
    assert_eq!(guest.ready["manifest"], expected.to_string());
    let RuntimeEvent::Model(model) = &document.events.events()[3] else { panic!("no model event") };
    assert_eq!(model.manifest, expected);
}

#[tokio::test]
async fn two_boots_share_no_secret_and_two_machines_no_device() {
    let guests = ["", "[simulated]\nseed = 2\ngpus = 2\n"].map(Guest::start);
    let mut documents = Vec::new();
    for guest in &guests {
        documents.push(Connection::open(guest.address).await.attest(1).await.0);
    }
    assert_ne!(documents[0].boot_id, documents[1].boot_id);
    assert_ne!(documents[0].key_set, documents[1].key_set);
    assert_eq!(documents[0].claims.configuration, documents[1].claims.configuration);
    let leaves: BTreeSet<_> = documents
        .iter()
        .flat_map(|document| &document.devices)
        .map(|device| pem::certificates(device.chain.as_bytes()).unwrap().remove(0))
        .collect();
    assert_eq!(leaves.len(), 3);
}

#[tokio::test]
async fn the_kem_key_is_drawn_anew_at_each_boot_and_signed_with_the_key_set() {
    let guests = ["", ""].map(Guest::start);
    let mut attested = Vec::new();
    for guest in &guests {
        attested.push(Connection::open(guest.address).await.attest(1).await);
    }
    let keys = |document: &EvidenceDocument| document.key_set.serving().unwrap().clone();
    let [(one, binding), (other, _)] = &attested[..] else { panic!("two guests") };
    let kem = [one, other].map(|document| keys(document).kem.public);
    // Either half by itself: ML-KEM-768 and X25519.
    for half in [0..1184, 1184..1216] {
        let [one, other] = kem.each_ref().map(|kem| &kem.as_bytes()[half.clone()]);
        assert_ne!(one, other);
        assert_ne!(one, vec![0; one.len()]);
    }
    // It is the same on every connection, and what the quote signs is hashed from it.
    let (again, _) = Connection::open(guests[0].address).await.attest(2).await;
    assert_eq!(keys(&again).kem.public, kem[0]);
    let quoted = |kem: &KemKey| {
        let ServingKeys { receipt, not_after, .. } = keys(one);
        let keyset = KeySet::Serving(ServingKeys { kem: kem.clone(), receipt, not_after }).digest();
        let CpuEvidence::Tdx { quote } = &one.cpu else { panic!("{:?}", one.cpu) };
        let transcript = Transcript {
            binding: *binding,
            keyset,
            devices: devices_digest(&one.devices),
            claims: one.claims.digest(),
            boot_id: one.boot_id,
        };
        Quote::parse(quote.as_bytes(), Padding::Refused).unwrap().report.report_data
            == &transcript.report_data()
    };
    assert!(quoted(&keys(one).kem));
    assert!(!quoted(&keys(other).kem));
    let mut flipped = *kem[0].as_bytes();
    flipped[1215] ^= 1;
    assert!(!quoted(&KemKey { public: Bytes(flipped), ..keys(one).kem }));
}

#[tokio::test]
async fn many_connections_attest_at_the_same_time() {
    let guest = Guest::start("");
    let address = guest.address;
    let attesting: Vec<_> = (0..24u8)
        .map(|fill| tokio::spawn(async move { Connection::open(address).await.attest(fill).await }))
        .collect();
    for attested in attesting {
        let (document, binding) = attested.await.unwrap();
        assert_bound(&document, binding);
    }
}

#[tokio::test]
async fn who_asks_while_the_devices_work_shares_a_quote() {
    // 32 GPUs take a while to report.
    let guest = Guest::start("[simulated]\ngpus = 32\n");
    let address = guest.address;
    let mut connections = Vec::new();
    for _ in 0..24 {
        connections.push(Connection::open(address).await);
    }
    let attesting: Vec<_> = (0u8..)
        .zip(connections)
        .map(|(fill, mut connection)| tokio::spawn(async move { connection.attest(fill).await }))
        .collect();
    let (mut quotes, mut sizes) = (BTreeSet::new(), BTreeSet::new());
    for attested in attesting {
        let (document, binding) = attested.await.unwrap();
        assert_bound(&document, binding);
        let CpuEvidence::Tdx { quote } = &document.cpu else { panic!("{:?}", document.cpu) };
        quotes.insert(quote.as_bytes().to_vec());
        sizes.insert(document.batch.map_or(1, |batch| batch.size));
    }
    assert!(quotes.len() < 24, "{} quotes", quotes.len());
    assert!(sizes.last().is_some_and(|size| *size > 1), "{sizes:?}");
}

/// The client recomputes its leaf from its own nonce and its own exporter, and the root from the path.
#[tokio::test(flavor = "multi_thread")]
async fn clients_accept_a_shared_quote_each_in_its_own_place() {
    let guest = Guest::start("[simulated]\ngpus = 32\n");
    let clients: Vec<_> = (0..12).map(|_| guest.client()).collect();
    let asking: Vec<_> = clients
        .iter()
        .map(|client| {
            let client = client.clone();
            tokio::spawn(async move { client.verdict().await.map(drop) })
        })
        .collect();
    for asked in asking {
        asked.await.unwrap().unwrap();
    }
    let (mut places, mut shared) = (BTreeSet::new(), 0);
    for client in clients {
        let appraised = client.latest_appraisal().unwrap();
        let document = EvidenceDocument::decode(&appraised.document).unwrap();
        let CpuEvidence::Tdx { quote } = &document.cpu else { panic!("{:?}", document.cpu) };
        shared += usize::from(document.batch.is_some());
        let place = document.batch.map_or(0, |batch| batch.index);
        assert!(places.insert((quote.as_bytes().to_vec(), place)), "two clients in one place");
    }
    assert!(shared > 1, "{shared} of 12 shared a quote");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_share_a_connection_and_its_verdict_over_http_2() {
    let guest = Guest::start("");
    let client = guest.client_offering(Protocols::Http2OrHttp1);
    let verdict = client.verdict().await.unwrap();
    let ask = |tokens| {
        let client = client.clone();
        tokio::spawn(async move {
            let question = ChatRequest::new(MODEL).turn(Turn::user("abc")).max_tokens(tokens);
            let mut stream = client.chat_stream(question).await.unwrap();
            let mut text = String::new();
            while let Some(piece) = stream.next().await.unwrap() {
                text.extend(piece.content);
            }
            text
        })
    };
    let (kept, dropped) = ([ask(40), ask(40), ask(40)], ask(200));
    tokio::time::sleep(Duration::from_millis(50)).await;
    dropped.abort();
    for asked in kept {
        assert!(!asked.await.unwrap().is_empty(), "one that is dropped ends no other");
    }
    let answer = client.send(confide_client::Request::get("/v1/models").unwrap()).await.unwrap();
    assert!(std::ptr::eq(&raw const *answer.verdict, &raw const *verdict), "they rest on one verdict");
    assert_eq!((answer.status, answer.headers.get("connection")), (StatusCode::OK, None));
}

/// What one connection may carry at a time is no more than connections could.
#[tokio::test(flavor = "multi_thread")]
async fn requests_over_http_2_have_as_many_places_as_connections() {
    let guest = Guest::start("[limits]\nconnections = 1\n");
    let client = guest.client_offering(Protocols::Http2OrHttp1);
    client.verdict().await.unwrap();
    let models = async || client.send(confide_client::Request::get("/v1/models").unwrap()).await.unwrap();
    assert_eq!(models().await.status, StatusCode::OK);
    let long = tokio::spawn({
        let client = client.clone();
        async move { client.chat(ChatRequest::new(MODEL).turn(Turn::user("abc")).max_tokens(200)).await }
    });
    let refused = loop {
        let answer = models().await;
        if answer.status != StatusCode::OK || long.is_finished() {
            break answer;
        }
    };
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
    assert!(refused.headers.contains_key("retry-after"));
    assert!(!long.await.unwrap().unwrap().content.is_empty());
    assert_eq!(models().await.status, StatusCode::OK, "the place is free again");
}

/// Also once its head is there: what an answer keeps, it keeps until the last of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_streamed_answer_over_http_2_keeps_its_place_to_its_end() {
    let guest = Guest::start("[limits]\nconnections = 1\n");
    let client = guest.client_offering(Protocols::Http2OrHttp1);
    let models = async || client.send(confide_client::Request::get("/v1/models").unwrap()).await.unwrap();
    let question = ChatRequest::new(MODEL).turn(Turn::user("abc")).max_tokens(200);
    let mut stream = client.chat_stream(question).await.unwrap();
    assert!(stream.next().await.unwrap().is_some());
    assert_eq!(models().await.status, StatusCode::TOO_MANY_REQUESTS);
    let mut last = None;
    while let Some(piece) = stream.next().await.unwrap() {
        last = piece.finish_reason.or(last);
    }
    assert_eq!(last.as_deref(), Some("length"));
    assert_eq!(models().await.status, StatusCode::OK, "the place is free again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_over_http_2_lets_a_running_answer_end() {
    let mut guest = Guest::start("");
    let client = guest.client_offering(Protocols::Http2OrHttp1);
    let question = ChatRequest::new(MODEL).turn(Turn::user("abc")).max_tokens(200);
    let mut stream = client.chat_stream(question).await.unwrap();
    assert!(stream.next().await.unwrap().is_some());
    signal("TERM", guest.pid());
    let mut last = None;
    while let Some(piece) = stream.next().await.unwrap() {
        last = piece.finish_reason.or(last);
    }
    assert_eq!(last.as_deref(), Some("length"));
    assert!(guest.ended().success(), "{}", guest.log());
    assert!(client.models().await.is_err());
}

#[tokio::test]
async fn attestations_beyond_the_limit_are_refused() {
    let guest = Guest::start("[limits]\nattestations = 1\n[simulated]\ngpus = 32\n");
    let address = guest.address;
    let body = AttestationRequest { nonce: Bytes([1; 32]) }.encode();
    let mut connections = Vec::new();
    for _ in 0..16 {
        connections.push(Connection::open(address).await);
    }
    let attesting: Vec<_> = connections
        .into_iter()
        .map(|mut connection| {
            let body = body.clone();
            tokio::spawn(async move { connection.post(ATTESTATION_PATH, CBOR, body).await })
        })
        .collect();
    let mut statuses = BTreeSet::new();
    for attested in attesting {
        let answer = attested.await.unwrap();
        if answer.status != StatusCode::OK {
            assert_eq!(answer.refusal(), (503, "attestation_overloaded".to_owned()));
            assert!(answer.headers.contains_key("retry-after"));
        }
        statuses.insert(answer.status);
    }
    assert_eq!(statuses, BTreeSet::from([StatusCode::OK, StatusCode::SERVICE_UNAVAILABLE]));
}

#[tokio::test]
async fn bad_attestation_requests_get_their_errors_and_the_connection_stays() {
    let guest = Guest::start("");
    let mut connection = Connection::open(guest.address).await;
    let good = AttestationRequest { nonce: Bytes([1; 32]) }.encode();
    let malformed = (400, "malformed_attestation_request");
    /// Method, path, body, and the status and code that answer it.
    type Case<'a> = (&'a str, &'a str, Vec<u8>, (u16, &'a str));
    let cases: Vec<Case<'_>> = vec![
        ("POST", CBOR, vec![], malformed),
        ("POST", CBOR, good[..good.len() - 1].to_vec(), malformed),
        ("POST", CBOR, [good.as_slice(), &[0]].concat(), malformed),
        ("POST", CBOR, b"{\"nonce\":\"00\"}".to_vec(), malformed),
        ("POST", CBOR, [&b"\xbf"[..], &good[1..], b"\xff"].concat(), malformed),
        ("POST", CBOR, vec![0xff; MAX_REQUEST], malformed),
        ("POST", CBOR, vec![0; MAX_REQUEST + 1], (413, "request_too_large")),
        ("POST", JSON, good.clone(), (415, "unsupported_media_type")),
        ("POST", "", good.clone(), (415, "unsupported_media_type")),
        ("GET", CBOR, vec![], (405, "method_not_allowed")),
    ];
    for (method, media_type, body, (status, code)) in cases {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let media_type = Some(media_type).filter(|media_type| !media_type.is_empty());
        let shown = format!("{method} {media_type:?} {} bytes", body.len());
        let answer = connection.send(harness::request(method, ATTESTATION_PATH, media_type, body)).await;
        assert_eq!(answer.refusal(), (status, code.to_owned()), "{shown}");
    }
    let (document, binding) = connection.attest(9).await;
    assert_bound(&document, binding);
}

#[tokio::test]
async fn bad_requests_to_the_api_get_their_errors_and_the_guest_stays() {
    let mut guest = Guest::start("[limits]\nbody_bytes = 20000\n");
    let mut connection = Connection::open(guest.address).await;
    let good = question("abc", 2);
    let with = |name: &str, value: Value| {
        let mut body = good.clone();
        body[name] = value;
        body.to_string().into_bytes()
    };
    let cases: Vec<(&str, Vec<u8>, u16, &str)> = vec![
        ("truncated", good.to_string().into_bytes()[..20].to_vec(), 400, "invalid_json"),
        ("empty", vec![], 400, "invalid_json"),
        ("not UTF-8", b"{\"model\":\"\xff\"}".to_vec(), 400, "invalid_utf8"),
        ("an array", b"[]".to_vec(), 400, "invalid_type"),
        ("wrong type", with("messages", json!("hi")), 400, "invalid_type"),
        ("unknown model", with("model", json!("gpt-5")), 404, "model_not_found"),
        (
            "oversized",
            with("messages", json!([{ "role": "user", "content": "x".repeat(20_001) }])),
            413,
            "request_too_large",
        ),
        (
            "too long for the context",
            with("messages", json!([{ "role": "user", "content": "x".repeat(300) }])),
            413,
            "context_length_exceeded",
        ),
    ];
    for (what, body, status, code) in cases {
        let answer = Connection::open(guest.address).await.post(CHAT, JSON, body).await;
        assert_eq!(answer.refusal(), (status, code.to_owned()), "{what}");
    }
    let known = connection.chat(&serde_json::from_slice(&with("model", json!("gpt-5"))).unwrap()).await;
    assert!(known.json()["error"]["message"].as_str().unwrap().contains(MODEL));
    for (method, path, status) in [
        (Method::GET, CHAT, 405),
        (Method::POST, "/v1/models", 405),
        (Method::GET, "/", 404),
        (Method::PUT, "/x", 404),
    ] {
        let answer = connection.send(harness::request(method, path, None, vec![])).await;
        assert_eq!(answer.refusal().0, status, "{path}");
    }
    assert!(guest.is_running());
    assert_eq!(connection.chat(&good).await.status, StatusCode::OK);
}

#[tokio::test]
async fn what_leaves_the_guest_is_seen_in_numbers_by_clients_and_whole_by_root() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("run/status.sock");
    let guest = Guest::start(&format!("[status]\nsocket = \"{}\"\n", socket.display()));
    let page = Connection::open(guest.address).await.get("/metrics").await;
    assert_eq!(page.status, StatusCode::OK);
    assert_eq!(page.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let page = String::from_utf8(page.body).unwrap();
    assert!(page.contains("\nconfide_egress_locked 0\n"), "{page}");
    assert!(page.contains("\nconfide_egress_refused_calls_total 0\n"), "{page}");
    let asked = |words: &[&str]| {
        let mut command = harness::program();
        command.args(["egress", "status", "--socket"]).arg(&socket).args(words);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(asked(&[]).starts_with("egress: open\n"), "{}", asked(&[]));
    let report: Value = serde_json::from_str(&asked(&["--json"])).unwrap();
    assert_eq!((&report["mode"], &report["refused_calls"]), (&json!("open"), &json!(0)));
    // Also a guest that was killed leaves its place to the next one.
    drop(guest);
    let next = Guest::start(&format!("[status]\nsocket = \"{}\"\n", socket.display()));
    assert!(asked(&[]).starts_with("egress: open\n"));
    drop(next);
    let output = harness::program().args(["egress", "status", "--socket"]).arg(&socket).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("[status_unreachable]"));
}

/// Where programs have what is for their makers: profiles, dumps, settings, switches.
const DEBUGGING: &[&str] = &[
    "/",
    "/admin",
    "/api",
    "/config",
    "/console",
    "/debug",
    "/debug/pprof/",
    "/debug/pprof/heap",
    "/debug/vars",
    "/docs",
    "/dump",
    "/env",
    "/heap",
    "/info",
    "/internal",
    "/log",
    "/logs",
    "/openapi.json",
    "/profile",
    "/quit",
    "/reload",
    "/server_info",
    "/shutdown",
    "/stats",
    "/status",
    "/threads",
    "/tokenize",
    "/trace",
    "/v1/completions",
    "/v1/embeddings",
    "/version",
    "/.well-known/confide",
];

#[tokio::test]
async fn there_is_nothing_at_any_path_but_those_of_the_one_table() {
    let table: Vec<_> = ROUTES.iter().map(|place| (place.path, place.methods)).collect();
    let expected = [
        (ATTESTATION_PATH, "POST"),
        ("/v1/models", "GET, HEAD"),
        ("/v1/models/", "GET, HEAD"),
        (CHAT, "POST"),
        ("/healthz", "GET, HEAD"),
        ("/readyz", "GET, HEAD"),
        ("/metrics", "GET, HEAD"),
    ];
    assert_eq!(table, expected, "who adds a route says here that it is for clients");
    let guest = Guest::start("");
    let mut connection = Connection::open(guest.address).await;
    for (path, methods) in table {
        let whole = if path.ends_with('/') { format!("{path}{MODEL}") } else { path.to_owned() };
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"] {
            let listed = methods.split(", ").any(|one| one == method);
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let answer = connection.send(harness::request(method.clone(), &whole, None, vec![])).await;
            assert_ne!(answer.status, StatusCode::NOT_FOUND, "{method} {whole}");
            assert_eq!(answer.status != StatusCode::METHOD_NOT_ALLOWED, listed, "{method} {whole}");
        }
    }
    let beside = expected.iter().flat_map(|(path, _)| {
        let path = path.trim_end_matches('/');
        [format!("{path}."), format!("/{path}"), format!("/debug{path}"), path[..path.len() - 1].to_owned()]
    });
    for path in DEBUGGING.iter().map(|path| (*path).to_owned()).chain(beside) {
        for method in [Method::GET, Method::POST] {
            let answer = connection.send(harness::request(method.clone(), &path, None, vec![])).await;
            assert_eq!(answer.refusal(), (404, "unknown_route".to_owned()), "{method} {path}");
        }
    }
}

#[tokio::test]
async fn the_api_answers_in_one_piece_and_in_a_stream() {
    let guest = Guest::start("");
    let mut connection = Connection::open(guest.address).await;
    assert_eq!(connection.get("/healthz").await.status, StatusCode::OK);
    assert_eq!(connection.get("/readyz").await.json()["status"], "ready");
    let models = connection.get("/v1/models").await.json();
    assert_eq!((&models["object"], &models["data"][0]["id"]), (&"list".into(), &MODEL.into()));
    let whole = connection.chat(&question("abc", 5)).await.json();
    assert_eq!(whole["usage"]["completion_tokens"], 5);
    let mut body = question("abc", 5);
    body["stream"] = true.into();
    let stream = connection.chat(&body).await;
    assert!(stream.headers["content-type"].to_str().unwrap().starts_with("text/event-stream"));
    let text = String::from_utf8(stream.body).unwrap();
    let events: Vec<&str> =
        text.split_terminator("\n\n").map(|event| event.strip_prefix("data: ").unwrap()).collect();
    assert_eq!(events.last(), Some(&"[DONE]"));
    let chunks: Vec<Value> =
        events[..events.len() - 1].iter().map(|event| serde_json::from_str(event).unwrap()).collect();
    let content: String =
        chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(content, whole["choices"][0]["message"]["content"].as_str().unwrap());
}

#[tokio::test]
async fn without_tls_nothing_is_answered() {
    let mut guest = Guest::start("[limits]\nread_seconds = 4\n");
    for bytes in
        [&b"POST /v1/chat/completions HTTP/1.1\r\n\r\n"[..], b"GET /healthz HTTP/1.1\r\n\r\n", &[0; 100]]
    {
        let mut stream = TcpStream::connect(guest.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        assert!(!answer.starts_with(b"HTTP"), "{answer:02x?}");
    }
    let mut silent = TcpStream::connect(guest.address).await.unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(20), silent.read_to_end(&mut answer)).await;
    assert!(matches!(read, Ok(Ok(0)) | Ok(Err(_))), "a peer that says nothing is dropped");
    assert!(guest.is_running());
    Connection::open(guest.address).await.attest(1).await;
}

#[tokio::test]
async fn a_body_that_does_not_come_is_given_up() {
    let guest = Guest::start("[limits]\nread_seconds = 4\n");
    for path in [ATTESTATION_PATH, CHAT] {
        let media_type = if path == CHAT { JSON } else { CBOR };
        let mut stream = harness::connect(guest.address).await.unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: {media_type}\r\ncontent-length: 40\r\n\r\n{{"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = vec![0; 12];
        tokio::time::timeout(Duration::from_secs(20), stream.read_exact(&mut answer)).await.unwrap().unwrap();
        assert_eq!(String::from_utf8(answer).unwrap(), "HTTP/1.1 408", "{path}");
    }
}

#[tokio::test]
async fn every_log_line_says_simulated_and_none_holds_a_prompt() {
    for format in ["text", "json"] {
        let guest = Guest::start(&format!("[log]\nformat = \"{format}\"\nfilter = \"trace\"\n"));
        let mut connection = Connection::open(guest.address).await;
        let answer = connection.chat(&question("PROMPT-MARKER", 8)).await.json();
        let completion = answer["choices"][0]["message"]["content"].as_str().unwrap();
        connection.chat(&json!({ "model": "PROMPT-MARKER", "messages": "PROMPT-MARKER" })).await;
        connection.attest(1).await;
        let log = guest.log();
        assert!(log.lines().count() >= 2, "{log}");
        for line in log.lines() {
            assert!(line.contains("SIMULATED"), "{line}");
        }
        assert!(!log.contains("PROMPT-MARKER"), "{log}");
        assert!(completion.len() < 4 || !log.contains(completion), "{log}");
        assert_eq!(guest.ready["platform"], "SIMULATED");
    }
}

#[tokio::test]
async fn sigterm_lets_a_running_answer_end() {
    let mut guest = Guest::start("");
    let mut connection = Connection::open(guest.address).await;
    let mut body = question("abc", 200);
    body["stream"] = true.into();
    let pid = guest.pid();
    let answering = tokio::spawn(async move { connection.chat(&body).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    signal("TERM", pid);
    let answer = answering.await.unwrap();
    assert!(answer.body.ends_with(b"data: [DONE]\n\n"));
    assert!(guest.ended().success(), "{}", guest.log());
}

#[tokio::test]
async fn the_guest_ends_with_its_engine() {
    let mut guest = Guest::start("");
    signal("KILL", guest.engine());
    let status = guest.ended();
    assert_eq!(status.code(), Some(1));
    assert!(guest.log().contains("[engine_exited]"), "{}", guest.log());
}

#[test]
fn the_engine_process_has_no_environment_one_socket_and_no_file_to_write() {
    // Whoever starts a guest may leave files open to all of its children.
    let folder = tempfile::tempdir().unwrap();
    let stray = folder.path().canonicalize().unwrap().join("stray");
    let file = std::fs::File::create(&stray).unwrap();
    rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty()).unwrap();
    let guest = Guest::start("");
    assert!(Open::all(guest.pid()).iter().any(|file| file.path == stray), "the guest itself has it");
    let engine = guest.engine();
    let environment = std::fs::read_to_string(format!("/proc/{engine}/environ")).unwrap();
    assert_eq!(environment, "");
    let open = Open::all(engine);
    let sockets: BTreeSet<&Path> =
        open.iter().filter(|file| file.is("socket:")).map(|file| file.path.as_path()).collect();
    assert_eq!(sockets.len(), 1, "{open:?}");
    let inode = sockets.first().and_then(|path| path.to_str()?.strip_prefix("socket:[")?.strip_suffix(']'));
    let unix = std::fs::read_to_string(format!("/proc/{engine}/net/unix")).unwrap();
    assert!(
        unix.lines().any(|line| line.split_whitespace().nth(6) == inode),
        "{inode:?} is of no unix socket"
    );
    let model = guest.installation.model().canonicalize().unwrap();
    for file in open.iter().filter(|file| !file.is("socket:")) {
        let to_nowhere = file.path == Path::new("/dev/null");
        let model_to_read = file.path.starts_with(&model) && file.access == Open::READ_ONLY;
        assert!(to_nowhere || model_to_read, "{file:?} of {open:?}");
    }
    // Not the guest's log, which under `boot` is the host's console.
    for stream in [1, 2] {
        let leads_to = std::fs::read_link(format!("/proc/{engine}/fd/{stream}")).unwrap();
        assert_eq!(leads_to, Path::new("/dev/null"), "standard stream {stream}");
    }
    let own = std::fs::read_link(format!("/proc/{}/fd/2", guest.pid())).unwrap();
    assert_eq!(own, guest.installation.log().canonicalize().unwrap(), "the guest itself has it");
    // What was mapped is no descriptor any more: of files, nothing is shared with other processes and writable.
    let maps = std::fs::read_to_string(format!("/proc/{engine}/maps")).unwrap();
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        let (permissions, path) = (words.nth(1).unwrap(), words.nth(3).unwrap_or_default());
        let writes = path.starts_with('/') && permissions.contains('w') && permissions.ends_with('s');
        assert!(!writes, "{line}");
    }
}

#[test]
fn the_engine_is_confined_by_a_filter_of_system_calls_in_all_its_threads() {
    let guest = Guest::start("");
    let engine = guest.engine();
    let threads = std::fs::read_dir(format!("/proc/{engine}/task")).unwrap();
    let mut seen = 0;
    for thread in threads {
        let status = std::fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
        let value = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        // proc_pid_status(5): 2 is SECCOMP_MODE_FILTER.
        assert_eq!((value("NoNewPrivs:"), value("Seccomp:")), (Some("1"), Some("2")), "{status}");
        seen += 1;
    }
    assert!(seen > 0);
}

#[test]
fn the_guest_itself_is_confined_in_all_its_threads_and_its_memory_locked() {
    let guest = Guest::start("");
    let process = format!("/proc/{}", guest.pid());
    let may_lock = may_lock_memory();
    if !may_lock {
        println!("not run: locked memory: this user may lock only so much, and has no CAP_IPC_LOCK");
    }
    assert_eq!(guest.log().contains("memory is NOT locked"), !may_lock, "{}", guest.log());
    let mut seen = 0;
    for thread in std::fs::read_dir(format!("{process}/task")).unwrap() {
        let status = std::fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
        let value = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        // proc_pid_status(5): 2 is SECCOMP_MODE_FILTER.
        assert_eq!((value("NoNewPrivs:"), value("Seccomp:")), (Some("1"), Some("2")), "{status}");
        let locked: u64 = value("VmLck:").unwrap().trim_end_matches(" kB").parse().unwrap();
        assert_eq!(locked > 0, may_lock, "{status}");
        seen += 1;
    }
    assert!(seen > 2, "the main thread, the supervisor of the engine and those that serve");
    let limits = std::fs::read_to_string(format!("{process}/limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"]);
    let confines = Version::of_kernel().unwrap().is_some_and(|version| version >= Version::TCP);
    if !confines {
        println!("not run: confinement to files and ports: this kernel has no Landlock of version 4");
    }
    let log = guest.log();
    assert!(log.contains("confined to the files and ports"), "{log}");
    assert_eq!(log.contains("NOT confined to the files and ports"), !confines, "{log}");
}

/// Whether this process, and what it starts, may lock all of its memory: no limit holds (getrlimit(2)), or none has to.
fn may_lock_memory() -> bool {
    let held = capabilities(None).unwrap().effective;
    getrlimit(Resource::Memlock).maximum.is_none()
        || held.intersects(CapabilitySet::IPC_LOCK | CapabilitySet::SYS_RESOURCE)
}

/// An open descriptor of another process.
#[derive(Debug)]
struct Open {
    path: PathBuf,
    /// O_ACCMODE of its flags.
    access: u32,
}

impl Open {
    const ACCESS: u32 = 0o3;
    const READ_ONLY: u32 = 0;

    /// Those of a process, but for what it closes meanwhile.
    fn all(process: u32) -> Vec<Self> {
        let entries = std::fs::read_dir(format!("/proc/{process}/fd")).unwrap();
        entries.filter_map(|entry| Self::of(process, entry.unwrap().file_name().to_str().unwrap())).collect()
    }

    fn of(process: u32, descriptor: &str) -> Option<Self> {
        let path = std::fs::read_link(format!("/proc/{process}/fd/{descriptor}")).ok()?;
        let about = std::fs::read_to_string(format!("/proc/{process}/fdinfo/{descriptor}")).ok()?;
        let flags = about.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim();
        Some(Self { path, access: u32::from_str_radix(flags, 8).unwrap() & Self::ACCESS })
    }

    fn is(&self, kind: &str) -> bool {
        self.path.to_str().is_some_and(|path| path.starts_with(kind))
    }
}

#[test]
fn a_descriptor_that_can_be_written_is_told_from_one_that_cannot() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let written = std::fs::File::create(&path).unwrap();
    let read = std::fs::File::open(&path).unwrap();
    let of = |file: &std::fs::File| Open::of(std::process::id(), &file.as_raw_fd().to_string()).unwrap();
    assert_eq!(of(&read).path, path.canonicalize().unwrap());
    assert!(of(&read).access == Open::READ_ONLY && of(&written).access != Open::READ_ONLY);
}

#[test]
fn a_model_that_does_not_load_ends_the_guest_with_its_code() {
    let cases = [
        (
            model_files(7).into_iter().filter(|(name, _)| name != "config.json").collect(),
            "model_file_missing",
        ),
        (
            model_files(7)
                .into_iter()
                .map(|(name, bytes)| (name, bytes[..bytes.len() / 2].to_vec()))
                .collect(),
            "invalid",
        ),
        (checkpoint::Files::new(), "model_unreadable"),
    ];
    for (files, code) in cases {
        let installation = Installation::new(&files, "");
        let output =
            harness::program().arg("serve").arg("--config").arg(installation.config()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(output.stdout.is_empty());
        // Said once, by the guest, and then what to do. A panic in a library says its place before.
        let lines: Vec<&str> = said.lines().collect();
        let at = lines.iter().position(|line| line.starts_with("error: ")).unwrap();
        assert!(lines[at].contains(code), "{said}");
        assert!(lines[at + 1].starts_with("  "), "what to do: {said}");
        assert_eq!(lines.len(), at + 2, "{said}");
    }
}

/// Sends bytes on a connection of their own and returns all that comes back.
async fn raw(guest: &Guest, bytes: &[u8]) -> String {
    let mut stream = harness::connect(guest.address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(harness::PATIENCE, stream.read_to_end(&mut answer)).await.unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn requests_that_are_no_http_get_an_error_with_a_code() {
    let guest = Guest::start("[limits]\nread_seconds = 4\n");
    for path in [ATTESTATION_PATH, CHAT] {
        let long = format!("POST {path}?{} HTTP/1.1\r\n\r\n", "x".repeat(70_000));
        let large = format!("POST {path} HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "x".repeat(70_000));
        let many = format!("POST {path} HTTP/1.1\r\nhost: x\r\n{}\r\n", "x: y\r\n".repeat(100));
        let lengths =
            format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\ncontent-length: 5\r\n\r\n1234");
        let binary = format!("POST {path} HTTP/1.1\r\nhost: x\r\n\0: \u{1}\r\n\r\n");
        for (bytes, status, code) in [
            (b"\x16\x03\x01\x02\x00".to_vec(), 400, "malformed_http"),
            (lengths.into_bytes(), 400, "malformed_http"),
            (binary.into_bytes(), 400, "malformed_http"),
            (long.into_bytes(), 431, "request_head_too_large"),
            (large.into_bytes(), 431, "request_head_too_large"),
            (many.into_bytes(), 431, "request_head_too_large"),
            (
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec(),
                505,
                "http_version_unsupported",
            ),
            (format!("POST {path} HTTP/1.1\r\nx: ").into_bytes(), 408, "request_head_timed_out"),
        ] {
            let answer = raw(&guest, &bytes).await;
            let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned();
            let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{shown}: {answer:?}"));
            assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{shown}: {head}");
            let error: Value = serde_json::from_str(body).unwrap();
            assert_eq!(error["error"]["code"], code, "{shown}");
        }
    }
    Connection::open(guest.address).await.attest(1).await;
}

#[tokio::test]
async fn broken_chunks_get_an_error_and_what_follows_is_no_request() {
    let guest = Guest::start("[limits]\nread_seconds = 4\n");
    for chunks in [
        "zz\r\n{}\r\n0\r\n\r\n",
        "ffffffffffffffffff\r\n{}\r\n",
        "-1\r\n{}\r\n0\r\n\r\n",
        "2\r\n{}xx0\r\n\r\n",
    ] {
        let request = format!(
            "POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-type: {JSON}\r\ntransfer-encoding: chunked\r\n\r\n{chunks}GET \
             /healthz HTTP/1.1\r\nhost: x\r\n\r\n"
        );
        let answer = raw(&guest, request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{chunks:?}: {answer}");
        assert!(answer.contains("\"code\":\"request_unreadable\""), "{chunks:?}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{chunks:?}: {answer}");
    }
}

#[tokio::test]
async fn connections_that_say_nothing_lose_their_places() {
    let guest = Guest::start("[limits]\nconnections = 3\nread_seconds = 4\n");
    let mut silent = Vec::new();
    for _ in 0..3 {
        silent.push(harness::connect(guest.address).await.unwrap());
    }
    let served = async { Connection::open(guest.address).await.get("/healthz").await.status };
    let status = tokio::time::timeout(harness::PATIENCE, served).await.expect("a place is free again");
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test]
async fn a_peer_that_does_not_read_loses_its_place() {
    let guest = Guest::start("[limits]\nconnections = 1\nread_seconds = 4\n");
    let (_deaf, mut speaking) = tokio::io::split(harness::connect(guest.address).await.unwrap());
    // More answers than the buffers between the two hold, none of which is read.
    let asking = tokio::spawn(async move {
        let requests = "GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n".repeat(1000);
        while speaking.write_all(requests.as_bytes()).await.is_ok() {}
    });
    let served = async { Connection::open(guest.address).await.get("/healthz").await.status };
    let status = tokio::time::timeout(harness::PATIENCE, served).await.expect("the place is free again");
    assert_eq!(status, StatusCode::OK);
    tokio::time::timeout(harness::PATIENCE, asking).await.expect("its connection is closed").unwrap();
}

#[tokio::test]
async fn a_message_that_spells_a_control_token_is_characters_to_the_engine() {
    let guest = Guest::start("");
    let mut connection = Connection::open(guest.address).await;
    // The end token of this model is written <|end|>; all other tokens are bytes, and the template adds one.
    for text in ["<|end|>", "a<|end|>b<|end|>", "<|end"] {
        let answer = connection.chat(&question(text, 1)).await.json();
        assert_eq!(answer["usage"]["prompt_tokens"], text.len() + 1, "{text}");
    }
}

#[tokio::test]
async fn a_prompt_as_large_as_a_body_may_be_is_refused_and_the_guest_stays() {
    let mut guest = Guest::start("");
    let mut connection = Connection::open(guest.address).await;
    for piece in ["a", " ", "<|end|>", "\u{1f510}"] {
        let content = piece.repeat(4_000_000 / piece.len());
        let answer = connection.chat(&question(&content, 1)).await;
        assert_eq!(answer.refusal(), (413, "context_length_exceeded".to_owned()), "{piece:?}");
    }
    assert_eq!(connection.chat(&question("abc", 1)).await.status, StatusCode::OK);
    assert!(guest.is_running());
}

#[tokio::test]
async fn a_hung_engine_ends_the_guest() {
    let mut guest = Guest::start("[limits]\nengine_seconds = 1\n");
    let mut connection = Connection::open(guest.address).await;
    assert_eq!(connection.chat(&question("abc", 1)).await.status, StatusCode::OK);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(guest.is_running(), "an engine without requests is not hung");
    let engine = guest.engine();
    signal("STOP", engine);
    let answer = connection.chat(&question("abc", 100)).await;
    assert_eq!(answer.refusal(), (503, "engine_unavailable".to_owned()));
    assert_eq!(guest.ended().code(), Some(1));
    assert!(guest.log().contains("[engine_stalled]"), "{}", guest.log());
    let gone =
        || std::fs::read_to_string(format!("/proc/{engine}/stat")).map_or(true, |stat| stat.contains(") Z "));
    let begun = std::time::Instant::now();
    while !gone() {
        assert!(begun.elapsed() < harness::PATIENCE, "the hung engine was not killed");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_guest_without_its_engine_ends_at_once_whatever_time_the_host_gives_requests() {
    let mut guest = Guest::start("[limits]\ndrain_seconds = 300\nread_seconds = 300\n");
    // A request that never comes to its end.
    let mut stream = harness::connect(guest.address).await.unwrap();
    let head =
        format!("POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-type: {JSON}\r\ncontent-length: 40\r\n\r\n{{");
    stream.write_all(head.as_bytes()).await.unwrap();
    Connection::open(guest.address).await.attest(1).await;
    signal("KILL", guest.engine());
    let begun = std::time::Instant::now();
    assert_eq!(guest.ended().code(), Some(1));
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert!(guest.log().contains("[engine_exited]"), "{}", guest.log());
}

#[tokio::test]
async fn an_engine_dies_with_a_killed_guest_also_while_it_hangs() {
    let mut guest = Guest::start("");
    let engine = guest.engine();
    signal("STOP", engine);
    signal("KILL", guest.pid());
    guest.ended();
    let begun = std::time::Instant::now();
    while std::fs::read_to_string(format!("/proc/{engine}/stat")).is_ok_and(|stat| !stat.contains(") Z ")) {
        assert!(begun.elapsed() < harness::PATIENCE, "the engine outlives its guest");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn what_clients_say_stays_in_memory() {
    const MARK: &str = "zq7-marked-prompt";
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys");
    let temporary = folder.path().join("tmp");
    std::fs::create_dir(&temporary).unwrap();
    let trace = Installation::new(&model_files(7), "[log]\nfilter = \"trace\"\n");
    let guest = Guest::started_with(trace, |command| {
        command.env("SSLKEYLOGFILE", &keys).env("TMPDIR", &temporary).env("RUST_LOG", "trace");
    });
    let completions = marked(&guest, MARK).await;
    for pid in [guest.pid(), guest.engine()] {
        for file in ["environ", "cmdline"] {
            let held = std::fs::read(format!("/proc/{pid}/{file}")).unwrap();
            assert!(!String::from_utf8_lossy(&held).contains(MARK), "{file}");
        }
        let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{core}");
    }
    assert!(!keys.exists(), "TLS secrets were written to a file that the environment names");
    assert_eq!(std::fs::read_dir(&temporary).unwrap().count(), 0, "a temporary file was left");
    // Everything that there is of the guest: its log, its configuration, its model, and what it might have made beside them.
    let mut files = 0;
    for root in [guest.installation.folder(), folder.path()] {
        for file in files_below(root) {
            let held = std::fs::read(&file).unwrap();
            for mark in completions.iter().map(String::as_str).chain([MARK]) {
                let found = held.windows(mark.len()).any(|window| window == mark.as_bytes());
                assert!(!found, "{mark:?} in {}", file.display());
            }
            files += 1;
        }
    }
    assert!(files > 3, "log, configuration, weights, tokenizer");
    // The control: the same search finds what is there.
    assert!(guest.log().contains("SIMULATED"));
}

/// Says `mark` in every place of a request that a client fills, at every path. Returns what the model said.
async fn marked(guest: &Guest, mark: &str) -> Vec<String> {
    let mut connection = Connection::open(guest.address).await;
    let whole = connection.chat(&question(mark, 50)).await.json();
    let mut streamed = question(&format!("{mark} again"), 50);
    streamed["stream"] = true.into();
    let streamed = connection.chat(&streamed).await;
    let deltas = String::from_utf8(streamed.body).unwrap();
    let deltas = deltas.lines().filter_map(|line| line.strip_prefix("data: ")).filter_map(|data| {
        let data: Value = serde_json::from_str(data).ok()?;
        Some(data["choices"][0]["delta"]["content"].as_str()?.to_owned())
    });
    let said = [whole["choices"][0]["message"]["content"].as_str().unwrap().to_owned(), deltas.collect()];
    let with = |name: &str, value: Value| {
        let mut body = question("x", 1);
        body[name] = value;
        body.to_string()
    };
    let refused = [
        json!({ mark: mark }).to_string(),
        question(&mark.repeat(100), 1).to_string(),
        with("model", json!(mark)),
        with("stop", json!({ mark: mark })),
        with("user", json!([mark])),
        with(mark, json!(1)),
        format!("{{\"messages\": \"{mark}"),
    ];
    for body in refused {
        assert!(connection.post(CHAT, JSON, body).await.status.is_client_error());
    }
    for (path, media_type) in [
        (ATTESTATION_PATH, CBOR),
        (CHAT, CBOR),
        ("/v1/models", JSON),
        ("/v1/completions", JSON),
        (format!("/v1/models/{mark}").as_str(), JSON),
        (format!("/{mark}?{mark}={mark}").as_str(), mark),
    ] {
        assert!(connection.post(path, media_type, mark).await.status.is_client_error(), "{path}");
    }
    assert_eq!(connection.get(&format!("/v1/models/{mark}")).await.status, StatusCode::NOT_FOUND);
    raw(guest, format!("{mark} / HTTP/1.1\r\n{mark}\r\n\r\n").as_bytes()).await;
    // A prompt that is under way when its client goes.
    let mut broken = connect(guest.address).await.unwrap();
    let head = format!("POST {CHAT} HTTP/1.1\r\nHost: {mark}\r\nContent-Length: 900\r\n\r\n{{\"{mark}");
    broken.write_all(head.as_bytes()).await.unwrap();
    drop(broken);
    for said in &said {
        assert!(said.len() > 16, "{said:?}");
    }
    said.to_vec()
}

fn files_below(root: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap());
    entries
        .flat_map(|entry| match entry.file_type().unwrap() {
            kind if kind.is_dir() => files_below(&entry.path()),
            kind if kind.is_file() => vec![entry.path()],
            other => panic!("{}: {other:?}", entry.path().display()),
        })
        .collect()
}

#[test]
fn no_process_of_the_same_user_reads_the_guests_memory() {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
    use std::os::unix::process::CommandExt as _;
    /// Whom these programs run as where the tests run as root, whom nothing is closed to.
    const NOBODY: u32 = 65_534;
    let installation = Installation::new(&model_files(7), "");
    let root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
    let folder = installation.config().parent().unwrap().to_owned();
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).unwrap();
    let drop_privileges = |command: &mut std::process::Command| {
        if root {
            command.uid(NOBODY).gid(NOBODY);
        }
    };
    let mut probe = harness::program();
    drop_privileges(&mut probe);
    if let Err(error) = probe.arg("--version").stdout(std::process::Stdio::null()).status() {
        println!(
            "not run: the guest as another user, who cannot start {}: {error}",
            env!("CARGO_BIN_EXE_confide-guest")
        );
        return;
    }
    if root {
        chown(&folder, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let guest = Guest::started_with(installation, drop_privileges);
    let read = |pid: u32| {
        let mut reader = std::process::Command::new("cat");
        drop_privileges(reader.arg(format!("/proc/{pid}/maps")));
        reader.output().unwrap()
    };
    let mut open = std::process::Command::new("sleep");
    drop_privileges(open.arg("60"));
    let mut open = open.spawn().unwrap();
    let readable = read(open.id());
    open.kill().unwrap();
    open.wait().unwrap();
    assert!(
        readable.status.success(),
        "an ordinary process of this user can be read, which the test rests on"
    );
    for pid in [guest.pid(), guest.engine()] {
        let refused = read(pid);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && said.contains("Permission denied"), "{said}");
    }
}

#[tokio::test]
async fn receipts_of_a_guest_hold_and_count_the_answers_to_all_its_clients() {
    let guest = Guest::start("");
    let kept = Arc::<Mutex<Vec<VerifiedReceipt>>>::default();
    let clients = [Protocols::Http1, Protocols::Http2OrHttp1].map(|protocols| {
        let kept = Arc::clone(&kept);
        let keep = move |receipt: &VerifiedReceipt| {
            kept.lock().unwrap().push(receipt.clone());
            Ok(())
        };
        guest.builder().protocols(protocols).receipts(Receipts::Required).keep_receipts(keep).build()
    });
    let ask = || ChatRequest::new(MODEL).turn(Turn::user("abc")).max_tokens(4);
    for client in clients.iter().cycle().take(4) {
        client.chat(ask()).await.unwrap();
        let mut stream = client.chat_stream(ask()).await.unwrap();
        while stream.next().await.unwrap().is_some() {}
    }
    let kept = kept.lock().unwrap().clone();
    assert!(kept.iter().map(|receipt| receipt.receipt.sequence).eq(0..8));
    assert!(kept.iter().all(|receipt| receipt.receipt.usage.completion_tokens == 4));
    let document = Connection::open(guest.address).await.attest(1).await.0;
    let voucher = Voucher::of(&document);
    for receipt in &kept {
        voucher.check(&receipt.receipt, &receipt.bodies, &ALGORITHMS).unwrap();
    }
    let other = Guest::start("");
    let other = Voucher::of(&Connection::open(other.address).await.attest(1).await.0);
    let [receipt, ..] = &kept[..] else { panic!("no receipt") };
    assert!(other.check(&receipt.receipt, &receipt.bodies, &ALGORITHMS).is_err(), "of another boot");
}
