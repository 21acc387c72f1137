//! Peers whose evidence is not their own, not new, or not evidence.

use crate::rig::{BOTH, Outcome, Over, SECRET, Victim, decrypted_nothing, got_nothing, until};
use confide_testkit::attacker::{Attack, Attacker};
use confide_testkit::guest::{self, Attestation, Chat, Guest, Listening, Place, Race, Raw, Then, Tls, WORDS};
use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};

async fn listening(attestation: Attestation) -> Listening {
    Guest::new(0).unwrap().with_http2(100).attesting(attestation).listen().await.unwrap()
}

/// A refused guest, asked by `chat` and through the proxy, over both versions of HTTP.
async fn refused(attestation: Attestation, status: i32, code: &str) {
    for over in BOTH {
        let guest = listening(attestation.clone()).await;
        let victim = Victim::over(over);
        victim.chat(&guest.url()).refused(status, code);
        victim.proxy(&guest.url()).ask().refused(code);
        got_nothing(&guest.guest);
        assert!(guest.guest.attestations() >= 2, "it was asked");
    }
}

/// An attacker's endpoint in front of an honest guest, asked in the same ways.
async fn refused_attack(attack: Attack, code: &str) {
    let honest = listening(Attestation::Honest).await;
    let attacker = attacker(&honest, attack).await;
    let (victim, url) = (Victim::new(), format!("https://{}", attacker.address()));
    victim.chat(&url).refused(10, code);
    victim.proxy(&url).ask().refused(code);
    decrypted_nothing(&attacker);
    got_nothing(&honest.guest);
}

async fn attacker(honest: &Listening, attack: Attack) -> Attacker {
    Attacker::start(SocketAddr::from(([127, 0, 0, 1], 0)), honest.address, attack).await.unwrap()
}

/// The counters count, and the policy accepts what is honest.
#[tokio::test(flavor = "multi_thread")]
async fn an_honest_guest_is_accepted_and_gets_the_question() {
    for over in BOTH {
        let guest = listening(Attestation::Honest).await;
        let victim = Victim::over(over);
        assert_eq!(victim.chat(&guest.url()).answered(), WORDS.concat());
        let answer = victim.proxy(&guest.url()).ask();
        assert!(answer.status == 200 && answer.looks_finished(), "{answer:?}");
        let requests = guest.guest.requests();
        assert!(requests.iter().all(|request| request.authority.is_some() == (over == Over::Http2)));
        assert!(requests.iter().filter(|request| request.body.ends_with(b"}")).count() >= 2, "{requests:?}");
    }
    let honest = listening(Attestation::Honest).await;
    let attacker = attacker(&honest, Attack::Honest).await;
    Victim::new().chat(&format!("https://{}", attacker.address())).answered();
    assert!(attacker.seen().iter().any(|connection| connection.contains(SECRET)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_of_another_connection_to_the_same_guest_is_refused() {
    refused(Attestation::OtherExporter, 10, "report_data").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn evidence_of_another_instance_is_refused() {
    refused_attack(Attack::Relay, "report_data").await;
    refused(Attestation::OtherKey, 10, "report_data").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_document_is_refused() {
    refused_attack(Attack::Replay, "report_data").await;
    refused(Attestation::OtherNonce, 10, "report_data").await;
}

/// The client's question comes back to it: signed for another use, or as it was.
#[tokio::test(flavor = "multi_thread")]
async fn the_clients_own_nonce_reflected_is_no_evidence() {
    refused_attack(Attack::Reflection, "report_data").await;
    let nonce =
        confide_evidence::document::AttestationRequest { nonce: confide_evidence::bytes::Bytes([7; 32]) };
    refused(Attestation::Fixed(nonce.encode()), 30, "document_format").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn swapped_keys_contents_and_devices_are_refused() {
    for (attack, code) in [
        (Attack::KeySwap, "report_data"),
        (Attack::Manifest, "model_manifest"),
        (Attack::GpuSwap, "report_data"),
        (Attack::GpuReplaced, "devices_event"),
    ] {
        refused_attack(attack, code).await;
    }
}

/// Passes the bytes of every connection on to a guest.
async fn tunnel(to: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut far = TcpStream::connect(to).await.unwrap();
                tokio::io::copy_bidirectional(&mut near, &mut far).await
            });
        }
    });
    address
}

/// A middlebox that passes bytes on sees none of them in the clear; one that ends TLS is refused, whatever it passes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_middlebox_that_ends_tls_is_refused() {
    let honest = listening(Attestation::Honest).await;
    let beyond = attacker(&honest, Attack::Relay).await;
    let (inside, outside) = (tunnel(honest.address).await, tunnel(beyond.address()).await);
    let victim = Victim::new();
    victim.chat(&format!("https://{outside}")).refused(10, "report_data");
    victim.proxy(&format!("https://{outside}")).ask().refused("report_data");
    decrypted_nothing(&beyond);
    got_nothing(&honest.guest);
    assert_eq!(victim.chat(&format!("https://{inside}")).answered(), WORDS.concat());
    let wire: Vec<u8> = honest.guest.seen().into_iter().flat_map(|seen| seen.wire).collect();
    assert!(!wire.windows(SECRET.len()).any(|window| window == SECRET.as_bytes()));
    assert!(honest.guest.saw(SECRET.as_bytes()), "the control: it is there after TLS");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_right_certificate_with_another_key_is_refused() {
    for over in BOTH {
        let guest = Guest::with_tls(0, Tls::OtherKey).unwrap().with_http2(100).listen().await.unwrap();
        let victim = Victim::over(over);
        victim.chat(&guest.url()).refused(10, "tls_key_not_held");
        victim.proxy(&guest.url()).ask().refused("tls_key_not_held");
        let seen = guest.guest.seen();
        assert!(seen.len() >= 2 && seen.iter().all(|connection| connection.plaintext.is_empty()));
    }
}

/// The pool's connection ends, and it dials again: whoever is there then is attested before a byte.
#[tokio::test(flavor = "multi_thread")]
async fn a_pool_that_redials_after_the_verdict_attests_a_new_key_first() {
    let first = Guest::new(0).unwrap().chatting(Chat::Close).listen().await.unwrap();
    let victim = Victim::new();
    let (proxy, address) = (victim.proxy(&first.url()), first.address);
    assert!(proxy.ask().is_answer());
    drop(first);
    let swapped = listen_again(&Guest::new(1).unwrap().chatting(Chat::Close), address).await;
    // A connection that the proxy had open besides still leads to the first one.
    until("the second guest", || proxy.ask().is_answer() && !swapped.guest.requests().is_empty());
    let lines: Vec<String> = swapped.guest.requests().into_iter().map(|request| request.line).collect();
    assert_eq!(
        lines[0], "POST /.well-known/confide/attestation",
        "a genuine guest with another key: {lines:?}"
    );
    drop(swapped);
    let impostor = listen_again(&Guest::new(2).unwrap().attesting(Attestation::OtherKey), address).await;
    until("the impostor", || proxy.ask().is_refused("report_data"));
    got_nothing(&impostor.guest);
}

/// The verdict is there, and the next connection shows another key: HTTP/2 is no other matter.
#[test]
fn a_key_swapped_after_the_verdict_ends_it() {
    let runtime = || tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    for over in BOTH {
        let victim = Victim::over(over);
        let (genuine, later) = (runtime(), runtime());
        let first = genuine.block_on(Guest::new(0).unwrap().with_http2(100).listen()).unwrap();
        let (proxy, address) = (victim.proxy(&first.url()), first.address);
        assert!(proxy.ask().looks_finished());
        drop(first);
        // With its runtime the guest's connections end.
        genuine.shutdown_timeout(Duration::from_secs(5));
        let swapped = Guest::new(1).unwrap().with_http2(100).attesting(Attestation::OtherKey);
        let impostor = later.block_on(listen_again(&swapped, address));
        until("the impostor", || proxy.ask().is_refused("report_data"));
        got_nothing(&impostor.guest);
        assert!(impostor.guest.attestations() >= 1);
    }
}

async fn listen_again(guest: &Guest, address: SocketAddr) -> Listening {
    let start = Instant::now();
    loop {
        match guest.clone().listen_on(address).await {
            Ok(listening) => return listening,
            Err(error) if start.elapsed() > Duration::from_secs(10) => panic!("{error}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// A record holds every value of an accepted exchange. Given back to a client it is refused, and replayed it opens nothing.
#[tokio::test(flavor = "multi_thread")]
async fn recorded_values_open_nothing() {
    let guest = listening(Attestation::Honest).await;
    let victim = Victim::new();
    let record = victim.path("record.cbor");
    Outcome::of(victim.question(&guest.url()).arg("--record").arg(&record)).answered();
    let bytes = std::fs::read(&record).unwrap();
    let recorded = confide_evidence::record::read_all(&bytes).next().unwrap().unwrap();
    let before = guest.guest.seen().len();
    let replayed =
        Outcome::of(Command::new(env!("CARGO_BIN_EXE_confide")).args(["replay", "--json"]).arg(&record));
    assert_eq!(replayed.status, 0, "the values are those of an accepted exchange: {}", replayed.told);
    assert_eq!(guest.guest.seen().len(), before, "nobody was connected to");
    let confide_evidence::record::Subject::Document(document) = recorded.subject else {
        panic!("no evidence document was recorded")
    };
    refused(Attestation::Fixed(document.as_bytes().to_vec()), 10, "report_data").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_of_more_than_4_mib_is_refused() {
    refused(Attestation::TooLarge, 30, "evidence_too_large").await;
    refused(Attestation::Endless, 30, "evidence_too_large").await;
}

/// Two programs in one batch: each has its own place in it, and that of the other is of no use.
#[tokio::test(flavor = "multi_thread")]
async fn two_clients_that_race_on_one_batch_have_a_place_each() {
    for place in [Place::Own, Place::Other] {
        let guest = listening(Attestation::Batched(Race::new(place))).await;
        let victims = [Victim::new(), Victim::new()];
        let asking = victims.map(|victim| {
            let url = guest.url();
            std::thread::spawn(move || victim.chat(&url))
        });
        for outcome in asking.map(|asking| asking.join().unwrap()) {
            match place {
                Place::Own => assert_eq!(outcome.answered(), WORDS.concat()),
                Place::Other => outcome.refused(10, "report_data"),
            }
        }
        assert_eq!(guest.guest.attestations(), 2);
        assert_eq!(guest.guest.saw(SECRET.as_bytes()), place == Place::Own);
    }
    let policy = guest::policy("per-key", 300).replace("batch = \"accept\"", "batch = \"refuse\"");
    let guest = listening(Attestation::Batched(Race::new(Place::Own))).await;
    let victims = [Victim::under(&policy), Victim::new()];
    let asking = victims.map(|victim| {
        let url = guest.url();
        std::thread::spawn(move || victim.chat(&url))
    });
    let [refusing, accepting] = asking.map(|asking| asking.join().unwrap());
    refusing.refused(10, "challenge");
    accepting.answered();
}

/// Bytes come one by one, or none: all three guests are given up when the time for evidence is over, and not before.
#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_drips_its_evidence_is_given_up_in_time() {
    const LIMIT: Duration = Duration::from_secs(60);
    let start = Instant::now();
    let dripping = [Attestation::Dripping, Attestation::Silent].map(|attestation| (attestation, Over::Http1));
    let dripping = dripping.into_iter().chain([(Attestation::Dripping, Over::Http2)]);
    let mut asking = Vec::new();
    for (attestation, over) in dripping {
        let guest = listening(attestation).await;
        let url = guest.url();
        asking.push((guest, std::thread::spawn(move || Victim::over(over).chat(&url))));
    }
    // A head that comes byte by byte, and never ends.
    let head = format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(100));
    let head = Attestation::Raw(Raw { bytes: head.into_bytes(), then: Then::Wait });
    let guest = listening(head).await;
    let url = guest.url();
    asking.push((guest, std::thread::spawn(move || Victim::new().chat(&url))));
    for (guest, asking) in asking {
        let outcome = asking.join().unwrap();
        outcome.refused(1, "timed_out");
        assert!(start.elapsed() < LIMIT * 2, "{:?}", start.elapsed());
        got_nothing(&guest.guest);
    }
    assert!(start.elapsed() >= LIMIT, "a guest has its time: {:?}", start.elapsed());
}

/// A guest that asks to come back in a second, as one whose quoting device is busy: it is asked again, with a new nonce.
#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_asks_to_wait_is_told_nothing_meanwhile() {
    let busy = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(usize::MAX));
    let guest = listening(Attestation::Busy(std::sync::Arc::clone(&busy))).await;
    let (victim, url) = (Victim::new(), guest.url());
    let asking = std::thread::spawn(move || victim.chat(&url).answered().to_owned());
    until("the second attestation request", || guest.guest.attestations() >= 2);
    got_nothing(&guest.guest);
    busy.store(0, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(asking.join().unwrap(), WORDS.concat());
}
