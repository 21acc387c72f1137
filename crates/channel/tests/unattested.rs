//! Before the verdict: what leaves the client, and which peers are refused for how they speak.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod common;

use common::{connect_offering, connect_watched};
use confide_channel::{ChannelError, Protocols, UnattestedChannel};
use confide_evidence::document::AttestationRequest;
use confide_testkit::guest::{Attestation, Guest, Raw, Then, Tls};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use tokio::io::AsyncReadExt;
use tokio::time::Instant;

#[tokio::test]
async fn only_the_attestation_request_leaves_before_a_verdict() {
    let guest = Guest::new(0).unwrap();
    let (channel, served) = connect_watched(&guest).await;
    let challenged = channel.unwrap().attest().await.unwrap();
    drop(challenged.channel);
    served.await.unwrap();

    let seen = guest.seen();
    assert_eq!(seen.len(), 1);
    let [request] = &seen[0].requests[..] else { panic!("{} requests", seen[0].requests.len()) };
    assert_eq!(request.line, "POST /.well-known/confide/attestation");
    let mut headers: Vec<_> =
        request.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    headers.sort_unstable();
    assert_eq!(
        headers,
        [
            ("accept", "application/vnd.confide.evidence+cbor"),
            ("content-length", "41"),
            ("content-type", "application/cbor"),
            ("host", "guest.invalid:8443"),
        ]
    );
    let nonce = AttestationRequest::decode(&request.body).unwrap().nonce;
    assert_eq!(nonce, challenged.challenge.recorded().nonce);
    let head_end = seen[0].plaintext.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    assert_eq!(seen[0].plaintext.len(), head_end + request.body.len(), "nothing beside the one request");
}

#[tokio::test]
async fn every_challenge_has_a_nonce_and_an_exporter_of_its_own() {
    let guest = Guest::new(0).unwrap();
    let first = common::challenged(&guest).await.challenge.recorded();
    let second = common::challenged(&guest).await.challenge.recorded();
    assert_eq!(first.spki, second.spki);
    assert_ne!(first.nonce, second.nonce);
    assert_ne!(first.exporter, second.exporter);
}

#[tokio::test]
async fn the_right_certificate_with_the_wrong_key_is_refused() {
    let guest = Guest::with_tls(0, Tls::OtherKey).unwrap();
    let (refused, served) = connect_watched(&guest).await;
    assert!(matches!(refused, Err(ChannelError::KeyNotHeld)), "{refused:?}");
    served.await.unwrap();
    assert_eq!(guest.seen()[0].plaintext, b"", "nothing was said to a peer that does not hold its key");
}

#[tokio::test]
async fn tls_1_2_is_refused() {
    let guest = Guest::with_tls(0, Tls::Version12).unwrap();
    let (refused, served) = connect_watched(&guest).await;
    assert!(matches!(refused, Err(ChannelError::TlsVersion)), "{refused:?}");
    served.await.unwrap();
    let wire = &guest.seen()[0].wire;
    assert_eq!(record_types(wire), [22, 21], "a ClientHello and an alert");
}

#[tokio::test]
async fn an_answer_in_the_clear_is_refused() {
    let guest = Guest::with_tls(0, Tls::None).unwrap();
    let (refused, served) = connect_watched(&guest).await;
    assert!(matches!(refused, Err(ChannelError::Handshake(_))), "{refused:?}");
    served.await.unwrap();
    assert_eq!(record_types(&guest.seen()[0].wire), [22, 21], "a ClientHello and an alert");
}

const BOTH: [Protocols; 2] = [Protocols::Http1, Protocols::Http2OrHttp1];

/// A connection to a guest that answers the attestation request this way.
async fn connected(attestation: Attestation, protocols: Protocols) -> UnattestedChannel {
    let guest = Guest::new(0).unwrap().with_http2(100).attesting(attestation);
    connect_offering(&guest, protocols).await.0.unwrap()
}

#[tokio::test]
async fn what_is_no_evidence_document_is_refused() {
    for (attestation, code) in [
        (Attestation::Status(404), "attestation_status"),
        (Attestation::Status(503), "attestation_status"),
        (Attestation::Status(302), "attestation_status"),
        (Attestation::MediaType("application/cbor"), "attestation_media_type"),
        (Attestation::MediaType("text/html"), "attestation_media_type"),
        (Attestation::TooLarge, "evidence_too_large"),
        (Attestation::Endless, "evidence_too_large"),
        (Attestation::Torn, "connection_failed"),
    ] {
        for protocols in BOTH {
            let refused = connected(attestation.clone(), protocols).await.attest().await.unwrap_err();
            assert_eq!(refused.code(), code, "{attestation:?}, {protocols:?}: {refused}");
        }
    }
}

/// Time stands still but for what everybody waits for.
#[tokio::test(start_paused = true)]
async fn a_guest_that_never_answers_or_never_ends_is_given_up() {
    for attestation in [Attestation::Silent, Attestation::Dripping] {
        for protocols in BOTH {
            let refused = connected(attestation.clone(), protocols).await.attest().await.unwrap_err();
            assert!(
                matches!(refused, ChannelError::TimedOut { limit: confide_channel::ATTESTATION_LIMIT, .. }),
                "{refused}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_asks_to_wait_is_asked_again_on_the_same_connection() {
    for protocols in BOTH {
        let busy = Attestation::Busy(Arc::new(AtomicUsize::new(3)));
        let guest = Guest::new(0).unwrap().with_http2(100).attesting(busy);
        let start = Instant::now();
        let connection = connect_offering(&guest, protocols).await.0.unwrap();
        let challenged = connection.attest().await.unwrap();
        let waited = start.elapsed().as_secs_f32();
        assert!((3.0..4.6).contains(&waited), "a second and up to half of one more, three times: {waited}");
        let nonces: BTreeSet<Vec<u8>> = guest.requests().into_iter().map(|request| request.body).collect();
        assert_eq!((guest.seen().len(), guest.requests().len(), nonces.len()), (1, 4, 4), "each has its own");
        let last = AttestationRequest::decode(&guest.requests()[3].body).unwrap().nonce;
        assert_eq!(challenged.challenge.recorded().nonce, last);
    }
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_asks_to_wait_for_ever_is_given_up_in_time() {
    let start = Instant::now();
    let busy = Attestation::Busy(Arc::new(AtomicUsize::new(usize::MAX)));
    let refused = connected(busy, Protocols::Http1).await.attest().await.unwrap_err();
    assert_eq!(refused.code(), "attestation_postponed", "{refused}");
    assert!(start.elapsed() <= confide_channel::ATTESTATION_LIMIT, "{:?}", start.elapsed());
    let hours = "HTTP/1.1 503 x\r\nretry-after: 7200\r\ncontent-length: 0\r\n\r\n".into();
    let hours = Attestation::Raw(Raw { bytes: hours, then: Then::Wait });
    let start = Instant::now();
    let refused = connected(hours, Protocols::Http1).await.attest().await.unwrap_err();
    assert_eq!((refused.code(), start.elapsed().as_secs()), ("attestation_postponed", 0), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_never_shakes_hands_is_given_up() {
    let (ours, _theirs) = tokio::io::duplex(1 << 16);
    let refused = UnattestedChannel::connect(ours, &"guest.invalid".parse().unwrap(), Protocols::Http1)
        .await
        .unwrap_err();
    assert!(
        matches!(refused, ChannelError::TimedOut { limit: confide_channel::HANDSHAKE_LIMIT, .. }),
        "{refused}"
    );
}

#[tokio::test]
async fn the_client_hello_offers_tls_1_3_alone_and_no_resumption() {
    offers(Protocols::Http1, b"\0\x09\x08http/1.1").await;
    offers(Protocols::Http2OrHttp1, b"\0\x0c\x02h2\x08http/1.1").await;
}

async fn offers(protocols: Protocols, alpn: &[u8]) {
    let (ours, mut theirs) = tokio::io::duplex(1 << 16);
    let connecting = tokio::spawn(async move {
        UnattestedChannel::connect(ours, &"guest.invalid".parse().unwrap(), protocols).await
    });
    let mut header = [0; 5];
    theirs.read_exact(&mut header).await.unwrap();
    let mut hello = vec![0; usize::from(u16::from_be_bytes([header[3], header[4]]))];
    theirs.read_exact(&mut hello).await.unwrap();
    drop(theirs);
    assert!(connecting.await.unwrap().is_err());

    let extensions = extensions(&hello);
    let find = |kind: u16| extensions.iter().find(|(found, _)| *found == kind).map(|(_, data)| *data);
    assert_eq!(find(43), Some(&[2, 3, 4][..]), "supported_versions: TLS 1.3");
    assert_eq!(find(10).map(|groups| &groups[2..]), Some(&[0x11, 0xec, 0, 29][..]), "X25519MLKEM768, x25519");
    assert_eq!(find(51).map(|shares| &shares[2..4]), Some(&[0x11, 0xec][..]), "the first key share");
    assert_eq!(find(16), Some(alpn), "ALPN");
    for (kind, name) in [(35, "session_ticket"), (41, "pre_shared_key"), (42, "early_data")] {
        assert_eq!(find(kind), None, "{name}");
    }
}

/// The content types of TLS records (RFC 8446 section 5.1).
fn record_types(mut wire: &[u8]) -> Vec<u8> {
    let mut types = Vec::new();
    while let [kind, _, _, high, low, rest @ ..] = wire {
        types.push(*kind);
        wire = rest.get(usize::from(u16::from_be_bytes([*high, *low]))..).unwrap_or_default();
    }
    types
}

/// The extensions of a ClientHello (RFC 8446 section 4.1.2).
fn extensions(hello: &[u8]) -> Vec<(u16, &[u8])> {
    let two = |at: usize| u16::from_be_bytes([hello[at], hello[at + 1]]);
    let session = 4 + 2 + 32;
    let suites = session + 1 + usize::from(hello[session]);
    let compression = suites + 2 + usize::from(two(suites));
    let mut at = compression + 1 + usize::from(hello[compression]) + 2;
    let mut extensions = Vec::new();
    while at < hello.len() {
        let (kind, length) = (two(at), usize::from(two(at + 2)));
        extensions.push((kind, &hello[at + 4..at + 4 + length]));
        at += 4 + length;
    }
    extensions
}
