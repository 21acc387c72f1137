//! After the verdict: which witness opens which connection, and for how long.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod common;

use bytes::Bytes;
use common::{LONG, challenged, connect, connect_offering, connect_watched, judge, open, opened, policy};
use confide_channel::{
    AnswerBody, AttestedChannel, Challenged, ChannelError, Prompt, Protocols, Request, UnattestedChannel,
    VerdictCache,
};
use confide_policy::Attest;
use confide_testkit::guest::{Attestation, Chat, Guest, WORDS};
use confide_verifier::Challenge;
use http_body_util::BodyExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Semaphore, watch};

const SECRET: &str = "the secret question";

fn prompt() -> Request {
    Request::post("/v1/chat/completions", Prompt::from(SECRET.to_owned())).unwrap()
}

#[tokio::test]
async fn an_attested_channel_carries_one_request_after_another() {
    let guest = Guest::new(0).unwrap();
    let mut channel = open(&guest, Attest::PerKey, LONG).await;
    assert!(channel.verdict().result().simulated);
    assert_eq!(channel.key_exchange().name(), "X25519MLKEM768");
    for _ in 0..3 {
        let mut answer = channel.send(prompt()).await.unwrap();
        assert_eq!(answer.status, 200);
        let body = (&mut answer.body).collect().await.unwrap().to_bytes();
        assert!(!body.is_empty());
        channel = answer.body.reclaim().unwrap().ready().await.unwrap();
    }
    let requests = guest.requests();
    assert_eq!(requests.len(), 4, "one attestation, three prompts, one connection: {}", guest.seen().len());
    assert!(requests[1..].iter().all(|request| request.body == SECRET.as_bytes()));
}

#[tokio::test]
async fn evidence_that_is_not_bound_to_this_connection_is_rejected() {
    for attestation in [
        Attestation::OtherExporter,
        Attestation::OtherNonce,
        Attestation::OtherKey,
        Attestation::ForeignSigner,
    ] {
        let guest = Guest::new(0).unwrap().attesting(attestation.clone());
        let Challenged { channel, document, challenge } = challenged(&guest).await;
        let rejected = judge(&channel, &document, challenge, &policy(Attest::PerKey, LONG)).unwrap_err();
        let code = match attestation {
            Attestation::ForeignSigner => "quote_signature",
            _ => "report_data",
        };
        assert_eq!(rejected.code(), code, "{attestation:?}: {rejected}");
    }
}

#[tokio::test]
async fn replayed_evidence_is_rejected() {
    let guest = Guest::new(0).unwrap();
    let earlier = challenged(&guest).await.document;
    let guest = guest.attesting(Attestation::Fixed(earlier));
    let Challenged { channel, document, challenge } = challenged(&guest).await;
    let rejected = judge(&channel, &document, challenge, &policy(Attest::PerKey, LONG)).unwrap_err();
    assert_eq!(rejected.code(), "report_data", "{rejected}");
}

#[tokio::test]
async fn a_witness_of_another_connection_opens_nothing() {
    let guest = Guest::new(0).unwrap();
    let first = challenged(&guest).await;
    let second = challenged(&guest).await;
    let witness =
        judge(&first.channel, &first.document, first.challenge, &policy(Attest::PerKey, LONG)).unwrap();
    let refused = AttestedChannel::open(second.channel, witness, Attest::PerKey).unwrap_err();
    assert!(matches!(refused, ChannelError::NonceMismatch), "{refused}");
}

/// Challenges are made of values, so anybody can make one again from a record. The live connection still tells.
#[tokio::test]
async fn a_witness_from_chosen_values_opens_nothing() {
    let flipped = |mut bytes: [u8; 32]| {
        bytes[0] ^= 1;
        bytes
    };
    for (attestation, code) in [
        (Attestation::OtherExporter, "channel_exporter_mismatch"),
        (Attestation::OtherNonce, "channel_nonce_mismatch"),
        (Attestation::OtherKey, "channel_key_mismatch"),
    ] {
        let guest = Guest::new(0).unwrap().attesting(attestation.clone());
        let Challenged { channel, document, challenge } = challenged(&guest).await;
        let live = challenge.recorded();
        let nonce = live.nonce.0;
        let exporter = live.exporter.as_bytes().try_into().unwrap();
        let spki = live.spki.as_bytes().try_into().unwrap();
        let chosen = match attestation {
            Attestation::OtherExporter => Challenge::serve(nonce, flipped(exporter), spki),
            Attestation::OtherNonce => Challenge::serve(flipped(nonce), exporter, spki),
            _ => Challenge::serve(nonce, exporter, flipped(spki)),
        };
        let witness = judge(&channel, &document, chosen, &policy(Attest::PerKey, LONG)).unwrap();
        let refused = AttestedChannel::open(channel, witness, Attest::PerKey).unwrap_err();
        assert_eq!(refused.code(), code, "{attestation:?}: {refused}");
    }
}

#[tokio::test]
async fn a_further_connection_rides_on_a_verdict_about_its_key() {
    let guest = Guest::new(0).unwrap();
    let channel = open(&guest, Attest::PerKey, LONG).await;
    let second = AttestedChannel::ride(connect(&guest).await.unwrap(), channel.verdict()).unwrap();
    assert_eq!(second.send(prompt()).await.unwrap().status, 200);
    assert_eq!((guest.attestations(), guest.seen().len()), (1, 2));
}

#[tokio::test]
async fn a_connection_to_another_key_does_not_ride() {
    let channel = open(&Guest::new(0).unwrap(), Attest::PerKey, LONG).await;
    let other = Guest::new(0).unwrap();
    let (connection, served) = connect_watched(&other).await;
    let refused = AttestedChannel::ride(connection.unwrap(), channel.verdict()).unwrap_err();
    assert!(matches!(refused, ChannelError::KeyMismatch), "{refused}");
    served.await.unwrap();
    assert!(other.seen()[0].plaintext.is_empty(), "the key is compared before any byte");
}

#[tokio::test]
async fn no_connection_rides_where_every_connection_is_attested() {
    let guest = Guest::new(0).unwrap();
    let channel = open(&guest, Attest::EveryConnection, LONG).await;
    let refused = AttestedChannel::ride(connect(&guest).await.unwrap(), channel.verdict()).unwrap_err();
    assert!(matches!(refused, ChannelError::EveryConnection), "{refused}");
    let mut cache = VerdictCache::default();
    cache.insert(Arc::clone(channel.verdict()));
    assert!(cache.verdict_for(channel.verdict().spki()).is_none());
}

#[tokio::test]
async fn nothing_is_sent_when_the_verdicts_time_is_over() {
    let guest = Guest::new(0).unwrap();
    let channel = open(&guest, Attest::PerKey, 3).await;
    let verdict = Arc::clone(channel.verdict());
    let mut cache = VerdictCache::default();
    cache.insert(Arc::clone(&verdict));
    assert!(cache.verdict_for(verdict.spki()).is_some());

    tokio::time::sleep(Duration::from_millis(3100)).await;
    let Err(failure) = channel.send(prompt()).await else { panic!("sent") };
    assert!(matches!(failure.error, ChannelError::VerdictExpired), "{}", failure.error);
    assert!(failure.unsent.is_some(), "the prompt comes back");
    assert!(!guest.saw(SECRET.as_bytes()));
    let refused = AttestedChannel::ride(connect(&guest).await.unwrap(), &verdict).unwrap_err();
    assert!(matches!(refused, ChannelError::VerdictExpired), "{refused}");
    assert!(cache.verdict_for(verdict.spki()).is_none());
}

#[tokio::test]
async fn a_live_connection_is_attested_again() {
    let guest = Guest::new(0).unwrap();
    let channel = open(&guest, Attest::PerKey, LONG).await;
    let idle = AttestedChannel::ride(connect(&guest).await.unwrap(), channel.verdict()).unwrap();
    let old = Arc::clone(channel.verdict());

    let Challenged { channel, document, challenge } = channel.challenge().await.unwrap();
    let witness = judge(&channel, &document, challenge, &policy(Attest::PerKey, LONG)).unwrap();
    let channel = AttestedChannel::open(channel, witness, Attest::PerKey).unwrap();
    assert!(!Arc::ptr_eq(&old, channel.verdict()));
    let idle = idle.renew(channel.verdict()).unwrap();
    assert!(Arc::ptr_eq(idle.verdict(), channel.verdict()));
    assert_eq!(channel.send(prompt()).await.unwrap().status, 200);
    assert_eq!((guest.attestations(), guest.seen().len()), (2, 2));
}

#[tokio::test]
async fn a_cache_keeps_one_verdict_a_key() {
    let guest = Guest::new(0).unwrap();
    let (first, second) = (open(&guest, Attest::PerKey, 30).await, open(&guest, Attest::PerKey, LONG).await);
    let other = open(&Guest::new(0).unwrap(), Attest::PerKey, LONG).await;
    let mut cache = VerdictCache::default();
    for channel in [&first, &other, &second] {
        cache.insert(Arc::clone(channel.verdict()));
    }
    let found = cache.verdict_for(first.verdict().spki()).unwrap();
    assert!(Arc::ptr_eq(&found, second.verdict()));
    assert!(cache.verdict_for(other.verdict().spki()).is_some());
}

/// As many keys as a large fleet has addresses, and more.
#[tokio::test]
async fn a_cache_keeps_a_verdict_for_each_key() {
    let mut cache = VerdictCache::default();
    let mut verdicts = Vec::new();
    for _ in 0..66 {
        let channel = open(&Guest::new(0).unwrap(), Attest::PerKey, LONG).await;
        cache.insert(Arc::clone(channel.verdict()));
        verdicts.push(Arc::clone(channel.verdict()));
    }
    for verdict in verdicts {
        assert!(Arc::ptr_eq(&cache.verdict_for(verdict.spki()).unwrap(), &verdict));
    }
}

#[tokio::test]
async fn nothing_rests_on_a_revoked_verdict() {
    let guest = Guest::new(0).unwrap();
    let (first, second) = (open(&guest, Attest::PerKey, 30).await, open(&guest, Attest::PerKey, LONG).await);
    let alone = open(&guest, Attest::EveryConnection, LONG).await;
    let other = open(&Guest::new(0).unwrap(), Attest::PerKey, LONG).await;
    let spki = *first.verdict().spki();
    let mut cache = VerdictCache::default();
    for channel in [&first, &second, &alone, &other] {
        cache.insert(Arc::clone(channel.verdict()));
    }
    let riding = AttestedChannel::ride(connect(&guest).await.unwrap(), second.verdict()).unwrap();
    assert_eq!((cache.revoke(&spki), cache.revoke(&spki)), (3, 0), "each ends once");
    assert!(cache.verdict_for(&spki).is_none());
    let refused = AttestedChannel::ride(connect(&guest).await.unwrap(), second.verdict()).unwrap_err();
    assert!(matches!(refused, ChannelError::VerdictRevoked), "{refused}");
    let before = guest.requests().len();
    for channel in [first, second, riding, alone] {
        let Err(failure) = channel.send(prompt()).await else { panic!("sent") };
        assert!(matches!(failure.error, ChannelError::VerdictRevoked), "{}", failure.error);
        assert!(failure.unsent.is_some(), "the prompt comes back");
    }
    assert_eq!(guest.requests().len(), before);
    assert_eq!(other.send(prompt()).await.unwrap().status, 200, "another key's verdict holds");
}

#[tokio::test]
async fn a_channel_comes_back_only_from_an_answer_that_was_read() {
    let guest = Guest::new(0).unwrap();
    let answer = open(&guest, Attest::PerKey, LONG).await.send(prompt()).await.unwrap();
    assert!(answer.body.reclaim().is_none());

    let guest = guest.chatting(Chat::Torn);
    let mut answer = open(&guest, Attest::PerKey, LONG).await.send(prompt()).await.unwrap();
    assert!((&mut answer.body).collect().await.is_err());
    assert!(answer.body.reclaim().is_none());
}

/// The next piece of a body, where one comes in this time.
async fn piece(mut body: AnswerBody, time: Duration) -> (AnswerBody, Option<Option<Bytes>>) {
    let waited = tokio::time::timeout(time, body.frame()).await;
    let data = waited.map(|frame| frame.map(|frame| frame.unwrap().into_data().unwrap_or_default()));
    (body, data.ok())
}

/// Who awaits a piece works on the connection itself (HTTP/1.1): what comes has to wake the task that waits now.
#[tokio::test]
async fn an_answer_is_read_by_other_tasks_than_the_one_that_asked() {
    const MOMENT: Duration = Duration::from_millis(20);
    for protocols in [Protocols::Http1, Protocols::Http2OrHttp1] {
        let gate = Arc::new(Semaphore::new(0));
        let guest = Guest::new(0).unwrap().with_http2(10).chatting(Chat::Gated(Arc::clone(&gate)));
        let connection = connect_offering(&guest, protocols).await.0.unwrap();
        let channel = opened(connection.attest().await.unwrap(), Attest::PerKey, LONG);
        assert_eq!(channel.is_multiplexed(), protocols == Protocols::Http2OrHttp1);
        let mut body = tokio::spawn(channel.send(prompt())).await.unwrap().unwrap().body;
        let (mut text, mut in_vain) = (Vec::new(), 0);
        loop {
            let (back, mut found) = tokio::spawn(piece(body, MOMENT)).await.unwrap();
            body = back;
            if found.is_none() {
                // One task has waited in vain, and has ended. Another one waits when the piece comes.
                in_vain += 1;
                let waiting = tokio::spawn(piece(body, Duration::from_secs(20)));
                tokio::time::sleep(MOMENT).await;
                gate.add_permits(1);
                (body, found) = waiting.await.unwrap();
            }
            let Some(data) = found.expect("the task that waits is woken") else { break };
            text.extend(data);
        }
        assert!(in_vain >= WORDS.len(), "{in_vain} of the pieces came to a task that waited");
        assert!(text.ends_with(b"data: [DONE]\n\n"), "{}", String::from_utf8_lossy(&text));
        gate.add_permits(1000);
        let channel = body.reclaim().unwrap();
        let again = tokio::spawn(async move { channel.ready().await.unwrap().send(prompt()).await });
        assert_eq!(again.await.unwrap().unwrap().status, 200);
        assert_eq!(guest.seen().len(), 1, "all of it over one connection");
    }
}

#[tokio::test]
async fn a_request_of_which_nothing_was_written_comes_back() {
    let guest = Guest::new(0).unwrap().chatting(Chat::Close);
    let mut answer = open(&guest, Attest::PerKey, LONG).await.send(prompt()).await.unwrap();
    (&mut answer.body).collect().await.unwrap();
    let Some(channel) = answer.body.reclaim() else { return };
    // The connection had not been seen to end yet.
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(channel.is_closed());
    let Err(failure) = channel.send(prompt()).await else { panic!("sent over a closed connection") };
    assert!(failure.unsent.is_some());
}

/// A peer that stops taking bytes gets the rest of a prompt only while the verdict holds.
#[tokio::test]
async fn the_rest_of_a_prompt_is_not_sent_once_the_verdict_is_revoked() {
    for protocols in [Protocols::Http1, Protocols::Http2OrHttp1] {
        the_rest_is_withheld(protocols).await;
    }
}

async fn the_rest_is_withheld(protocols: Protocols) {
    const END: &[u8] = b"the end of the secret";
    let guest = Guest::new(0).unwrap().with_http2(100);
    let (ours, client_side) = tokio::io::duplex(1 << 16);
    let (guest_side, theirs) = tokio::io::duplex(1 << 16);
    let served = tokio::spawn({
        let guest = guest.clone();
        async move { guest.serve(theirs).await }
    });
    let taken = Arc::new(AtomicUsize::new(0));
    let limit = watch::Sender::new(256 * 1024);
    let (mut from_client, mut to_client) = tokio::io::split(client_side);
    let (mut from_guest, mut to_guest) = tokio::io::split(guest_side);
    tokio::spawn(async move { tokio::io::copy(&mut from_guest, &mut to_client).await });
    let pump = tokio::spawn({
        let (taken, mut limit) = (Arc::clone(&taken), limit.subscribe());
        async move {
            let mut piece = vec![0; 4096];
            loop {
                let so_far = taken.load(Ordering::Relaxed);
                limit.wait_for(|limit| so_far < *limit).await.unwrap();
                let read = from_client.read(&mut piece).await.unwrap_or_default();
                if read == 0 || to_guest.write_all(&piece[..read]).await.is_err() {
                    let _ = to_guest.shutdown().await;
                    return;
                }
                taken.fetch_add(read, Ordering::Relaxed);
            }
        }
    });
    let authority = "guest.invalid".parse().unwrap();
    let connection = UnattestedChannel::connect(ours, &authority, protocols).await.unwrap();
    let Challenged { channel, document, challenge } = connection.attest().await.unwrap();
    let witness = judge(&channel, &document, challenge, &policy(Attest::PerKey, LONG)).unwrap();
    let channel = AttestedChannel::open(channel, witness, Attest::PerKey).unwrap();
    assert_eq!(channel.is_multiplexed(), protocols == Protocols::Http2OrHttp1);
    let mut cache = VerdictCache::default();
    cache.insert(Arc::clone(channel.verdict()));
    let spki = *channel.verdict().spki();
    let prompt = [SECRET.as_bytes(), &vec![b'a'; 4 << 20], END].concat();
    let sending = tokio::spawn(async move {
        let request = Request::post("/v1/chat/completions", Prompt::from(prompt)).unwrap();
        channel.send(request).await.map(|_| ())
    });
    while taken.load(Ordering::Relaxed) < 256 * 1024 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    cache.revoke(&spki);
    limit.send_replace(usize::MAX);
    let failure = sending.await.unwrap().err().unwrap();
    assert!(matches!(failure.error, ChannelError::VerdictRevoked), "{}", failure.error);
    assert!(failure.unsent.is_none(), "part of it was written: nobody may send it again unasked");
    pump.await.unwrap();
    served.await.unwrap();
    assert!(guest.saw(SECRET.as_bytes()), "the control: its beginning was sent while the verdict held");
    assert!(!guest.saw(END));
    let plaintext = guest.seen()[0].plaintext.len();
    assert!(plaintext < 1 << 20, "{plaintext} bytes: no more than buffers held");
}
