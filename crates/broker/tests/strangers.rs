//! What somebody can use up who reaches the broker and has no evidence that a policy accepts.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, reason = "tests")]

mod support;

use std::io::{BufRead as _, BufReader};
use std::net::{IpAddr, Ipv4Addr};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use confide_broker::Broker;
use confide_broker::audit::{self, Entry, What};
use confide_evidence::bytes::Bytes;
use confide_evidence::document::NvidiaEndorsements;
use confide_release::{
    CHALLENGE_PATH, Failure, Formatted, MAX_REQUEST, MEDIA_TYPE, Profile, RELEASE_PATH, ReleaseRequest,
};
use support::client::Client;
use support::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(20);

async fn entries(home: &Home) -> Vec<Entry> {
    let store = home.store().await;
    let mut entries: Vec<Entry> = Vec::new();
    loop {
        let page = store.entries(entries.len() as u64).await.unwrap();
        if page.is_empty() {
            return entries;
        }
        entries.extend(page.iter().map(|(_, _, bytes)| Entry::decode(bytes).unwrap()));
    }
}

/// Bytes of the database, once its log of changes is written into it.
async fn size(home: &Home) -> u64 {
    sqlx::any::install_default_drivers();
    let pool = sqlx::AnyPool::connect(&home.url).await.unwrap();
    sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&pool).await.unwrap();
    pool.close().await;
    let files = std::fs::read_dir(home.folder.path()).unwrap().map(Result::unwrap);
    let files = files.filter(|file| file.file_name().to_string_lossy().starts_with("broker.db"));
    files.map(|file| file.metadata().unwrap().len()).sum()
}

fn garbage(nonce: Bytes<32>) -> Vec<u8> {
    let document = vec![0xa5; MAX_REQUEST - 8192].into();
    ReleaseRequest { nonce, volumes: vec![id("model")], document }.encode()
}

#[tokio::test]
async fn documents_that_nobody_has_signed_do_not_fill_the_database() {
    let home = Home::new();
    add_model(&home.owner().await).await;
    let broker = home.broker().await;
    let before = size(&home).await;
    let requests = 12;
    for _ in 0..requests {
        let nonce = broker.challenge(PEER).await.unwrap().nonce;
        let denial = broker.release(&garbage(nonce), PEER).await.unwrap_err();
        assert_eq!(code(&denial), "document_format");
    }
    let grown = size(&home).await - before;
    assert!(grown < requests * 4096, "{grown} bytes");
    let refused = entries(&home).await.split_off(1);
    assert_eq!(refused.len() as u64, requests);
    for entry in refused {
        assert_eq!((entry.what, entry.code.as_deref()), (What::Refused, Some("document_format")));
        assert!(entry.records.is_empty() && entry.document.is_some(), "digest and code alone");
    }
    audit::verify(&home.store().await, None).await.unwrap().unwrap();
}

#[tokio::test]
async fn what_nothing_vouches_for_is_counted_beyond_so_many_entries() {
    let home = Home::new();
    add_model(&home.owner().await).await;
    let (broker, guest) = (home.broker().await, Guest::new(&home.identity()));
    let other = IpAddr::V4([198, 51, 100, 1].into());
    let names: Vec<String> = (0..64).map(|number| format!("{number:x>64}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let request = guest.request(&Bytes([1; 32]), &names).encode();
    for _ in 0..50 {
        assert_eq!(code(&broker.release(&request, PEER).await.unwrap_err()), "challenge_unknown");
    }
    for _ in 0..10 {
        broker.failure(&Failure::new("x", Bytes([0; 16]), "y").encode(), PEER).await.unwrap();
    }
    let noted = entries(&home).await.split_off(1);
    assert_eq!(noted.len(), 20);
    assert!(noted.iter().all(|entry| entry.volumes.len() == 4), "not all names");
    broker.note_counted().await.unwrap();
    let last = entries(&home).await.pop().unwrap();
    let said = last.sentence.unwrap();
    assert_eq!((last.what, last.code), (What::Refused, None));
    assert!(said.starts_with("40 more") && said.contains("challenge_unknown 30"), "{said}");
    assert!(said.contains("failure-reported 10"), "{said}");
    // Somebody else's network has an allowance of its own, and who is attested needs none.
    assert_eq!(code(&broker.release(&request, other).await.unwrap_err()), "challenge_unknown");
    assert_eq!(entries(&home).await.pop().unwrap().code.as_deref(), Some("challenge_unknown"));
    refused_with_evidence(&home, &broker).await;
    guest.ask(&broker, &home.identity(), &["model"]).await.unwrap();
    audit::verify(&home.store().await, None).await.unwrap().unwrap();
}

#[tokio::test]
async fn records_of_genuine_evidence_that_is_refused_have_so_many_bytes() {
    let home = Home::new();
    add_model(&home.owner().await).await;
    let broker = home.broker().await;
    let guest = Guest::with(Some(home.identity().public().to_der()), Bytes([9; 32]));
    for _ in 0..8 {
        let nonce = broker.challenge(PEER).await.unwrap().nonce;
        let mut document = guest.evidence(&nonce);
        // No signature covers what is stapled.
        let stapled = NvidiaEndorsements { rims: vec![vec![b' '; 3 << 20].into()], ..Default::default() };
        document.endorsements.get_or_insert_default().nvidia = Some(stapled);
        let document = document.encode().unwrap().into();
        let request = ReleaseRequest { nonce, volumes: vec![id("model")], document };
        broker.release(&request.encode(), PEER).await.unwrap_err();
    }
    let refused = entries(&home).await.split_off(1);
    let kept: Vec<usize> = refused.iter().map(|entry| entry.records.len()).collect();
    assert_eq!(kept, [1, 1, 1, 1, 1, 0, 0, 0]);
    assert!(refused[7].sentence.as_ref().unwrap().contains("the record is not kept"));
    audit::verify(&home.store().await, None).await.unwrap().unwrap();
}

/// A refusal of evidence that is genuine has its entry and its record.
async fn refused_with_evidence(home: &Home, broker: &Broker) {
    let guest = Guest::with(Some(home.identity().public().to_der()), Bytes([9; 32]));
    let denial = guest.ask(broker, &home.identity(), &["model"]).await.unwrap_err();
    assert_eq!(code(&denial), "configuration");
    let last = entries(home).await.pop().unwrap();
    assert_eq!((last.code.as_deref(), last.records.len()), (Some("configuration"), 1));
}

/// The program, which is ended when dropped.
struct Serving {
    child: Child,
    client: Client,
}

impl Serving {
    fn start(home: &Home, limits: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_confide-broker"));
        command.args(["serve", "--config"]).arg(home.config_file(&format!("[limits]\n{limits}")));
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: serde_json::Value = serde_json::from_str(&line).unwrap();
        let address = ready["listen"].as_str().unwrap().strip_prefix("https://").unwrap().parse().unwrap();
        Self { child, client: Client { address, key: *home.identity().public() } }
    }

    async fn from(&self, last: [u8; 2]) -> TlsStream<TcpStream> {
        let source = Ipv4Addr::new(127, 0, last[0], last[1]);
        timeout(LONG, self.client.connect_from(source)).await.unwrap().unwrap()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What is answered to a request: its head and as much of the body as comes with it.
async fn ask(stream: &mut TlsStream<TcpStream>, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    told(stream).await
}

async fn told(stream: &mut TlsStream<TcpStream>) -> String {
    let mut answer = vec![0; 4096];
    let count = timeout(LONG, stream.read(&mut answer)).await.unwrap().unwrap();
    String::from_utf8_lossy(&answer[..count]).into_owned()
}

/// Whether the other side has ended a connection.
async fn ended(stream: &mut TlsStream<TcpStream>) -> bool {
    let mut byte = [0; 1];
    matches!(timeout(Duration::from_secs(5), stream.read(&mut byte)).await, Ok(Ok(0) | Err(_)))
}

fn challenge() -> String {
    format!("POST {CHALLENGE_PATH} HTTP/1.1\r\nhost: b\r\ncontent-length: 0\r\n\r\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_who_hold_all_connections_keep_nobody_out() {
    let home = Home::new();
    let serving = Serving::start(&home, "connections = 4\nconnections_per_address = 2");
    let mut held = Vec::new();
    for source in [[3, 2], [3, 2], [3, 3], [3, 3]] {
        let mut stream = serving.from(source).await;
        assert!(ask(&mut stream, &challenge()).await.starts_with("HTTP/1.1 200 "));
        held.push(stream);
    }
    let mut guest = serving.from([9, 9]).await;
    assert!(ask(&mut guest, &challenge()).await.starts_with("HTTP/1.1 200 "));
    assert!(ended(&mut held[0]).await, "the oldest of the largest network made room");
    assert!(ask(&mut held[3], &challenge()).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_takes_nothing_off_an_allowance_ends_its_connection() {
    let home = Home::new();
    let serving = Serving::start(&home, "requests_per_minute = 1");
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: b\r\n\r\n");
    for (request, status) in
        [(get("/healthz"), 200), (get("/readyz"), 200), (get("/other"), 404), (get(CHALLENGE_PATH), 405)]
    {
        let mut stream = serving.from([3, 2]).await;
        let answer = ask(&mut stream, &request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert!(answer.contains("connection: close") && ended(&mut stream).await, "{answer}");
    }
    let mut stream = serving.from([3, 2]).await;
    let answer = ask(&mut stream, &challenge()).await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && !answer.contains("connection: close"), "{answer}");
    let answer = ask(&mut stream, &challenge()).await;
    assert!(answer.starts_with("HTTP/1.1 429 ") && ended(&mut stream).await, "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_has_an_age_and_a_number_of_requests() {
    let home = Home::new();
    let serving = Serving::start(&home, "connection_seconds = 2");
    let mut old = serving.from([3, 2]).await;
    let mut many = serving.from([3, 3]).await;
    for number in 1..=16 {
        let answer = ask(&mut many, &challenge()).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert_eq!(answer.contains("connection: close"), number == 16, "{number}");
    }
    assert!(ended(&mut many).await);
    assert!(ask(&mut old, &challenge()).await.starts_with("HTTP/1.1 200 "));
    assert!(ended(&mut old).await, "long before read_seconds are over");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_have_so_many_bytes_together() {
    let home = Home::new();
    let serving = Serving::start(&home, "bodies_mib = 8");
    let drip = |length: usize| {
        format!(
            "POST {RELEASE_PATH} HTTP/1.1\r\nhost: b\r\ncontent-type: {MEDIA_TYPE}\r\ncontent-length: {length}\r\n\r\nabc"
        )
    };
    let mut held = Vec::new();
    for source in [[3, 2], [4, 2]] {
        let mut stream = serving.from(source).await;
        stream.write_all(drip(4_000_000).as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        held.push(stream);
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut third = serving.from([5, 2]).await;
    let answer = ask(&mut third, &drip(4_000_000)).await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("broker_busy"), "{answer}");
    assert!(answer.contains("retry-after"), "{answer}");
    // An address has less than all of it.
    let mut again = serving.from([3, 2]).await;
    assert!(ask(&mut again, &drip(300_000)).await.starts_with("HTTP/1.1 503 "));
    // What is small has room, and so has everybody once a body is given up.
    let mut small = serving.from([6, 2]).await;
    assert!(ask(&mut small, &drip(3)).await.starts_with("HTTP/1.1 400 "));
    drop(held.pop());
    for _ in 0..50 {
        let mut fourth = serving.from([7, 2]).await;
        fourth.write_all(drip(4_000_000).as_bytes()).await.unwrap();
        let mut byte = [0; 1];
        if timeout(Duration::from_millis(300), fourth.read(&mut byte)).await.is_err() {
            return;
        }
    }
    panic!("the room of a body that was given up is not given again");
}

#[tokio::test]
async fn open_challenges_are_shared_among_networks() {
    let home = Home::new();
    let broker = home.broker_with("[limits]\nchallenges = 4\nchallenge_seconds = 1").await;
    let [one, other, third] = [1, 20, 40].map(|number| IpAddr::V4([198, 51, 100, number].into()));
    for stranger in [one, other] {
        broker.challenge(stranger).await.unwrap();
        assert_eq!(code(&broker.challenge(stranger).await.unwrap_err()), "challenges_exhausted");
    }
    broker.challenge(third).await.unwrap();
    let mapped = IpAddr::V6("::ffff:198.51.100.40".parse().unwrap());
    assert_eq!(code(&broker.challenge(mapped).await.unwrap_err()), "challenges_exhausted");
    // Those whose time is over do not count, though they are remembered.
    tokio::time::sleep(Duration::from_millis(2100)).await;
    broker.challenge(one).await.unwrap();
}

#[tokio::test]
async fn who_has_no_evidence_learns_nothing_of_volumes() {
    let home = Home::new();
    let owner = home.owner().await;
    add_model(&owner).await;
    owner.add(&id("gone"), Profile::State, &state_image(), &policy()).await.unwrap();
    owner.revoke(&id("gone")).await.unwrap();
    let (broker, guest) = (home.broker().await, Guest::new(&home.identity()));
    // Of another challenge, and of nobody.
    let replayed = guest.request(&Bytes([1; 32]), &["model"]).document;
    for document in [replayed, vec![1].into()] {
        let mut told = Vec::new();
        for volumes in [&["model"][..], &["other"], &["gone"], &["other", "model"]] {
            let nonce = broker.challenge(PEER).await.unwrap().nonce;
            let volumes = volumes.iter().map(|name| id(name)).collect();
            let request = ReleaseRequest { nonce, volumes, document: document.clone() };
            let denial = broker.release(&request.encode(), PEER).await.unwrap_err();
            assert!(!denial.refusal.error.message.contains("danger-key-release"), "{denial:?}");
            let error = denial.refusal.error;
            told.push((denial.status, error.code, error.message));
        }
        assert!(told.windows(2).all(|pair| pair[0] == pair[1]), "{told:?}");
    }
    let report =
        |volume: &str| Formatted { token: Bytes([1; 32]), header: Bytes([1; 32]), volume: id(volume) };
    let [known, unknown] = ["gone", "other"].map(|volume| report(volume).encode());
    let told = [&known, &unknown].map(|report| broker.formatted(report, PEER));
    let [known, unknown] = told;
    assert_eq!(known.await.unwrap_err(), unknown.await.unwrap_err());
    // A guest is told what its operator got wrong, whether a policy accepts it or not.
    let other = Guest::with(Some(home.identity().public().to_der()), Bytes([9; 32]));
    for guest in [guest, other] {
        for (volume, expected) in [("other", "volume_unknown"), ("gone", "volume_revoked")] {
            let denial = guest.ask(&broker, &home.identity(), &[volume]).await.unwrap_err();
            assert_eq!(code(&denial), expected);
        }
    }
}
