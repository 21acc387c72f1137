//! Channels to a guest in this process, over streams in memory.
#![allow(clippy::unwrap_used, dead_code, unreachable_pub, reason = "tests; each test program uses its part")]

use confide_channel::{
    AttestedChannel, Challenged, ChallengedChannel, ChannelError, Protocols, UnattestedChannel,
};
use confide_evidence::document::Endorsements;
use confide_policy::{AppraisalPolicy, Attest, Loaded};
use confide_testkit::guest::{self, Guest};
use confide_verifier::{Algorithms, Appraisal, Attested, Challenge, Rejection, appraise};
use tokio::task::JoinHandle;

pub static ALGORITHMS: Algorithms = Algorithms {
    ecdsa_p256_sha256: webpki::aws_lc_rs::ECDSA_P256_SHA256,
    ecdsa_p384_sha384: webpki::aws_lc_rs::ECDSA_P384_SHA384,
    ecdsa_p384_sha256: webpki::aws_lc_rs::ECDSA_P384_SHA256,
    ed25519: webpki::aws_lc_rs::ED25519,
    rsa_pss_sha384: webpki::aws_lc_rs::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
    rsa_pkcs1_sha256: webpki::aws_lc_rs::RSA_PKCS1_2048_8192_SHA256,
};

/// The longest age of a verdict, in seconds, where a test does not wait for its end.
pub const LONG: u64 = 300;

/// A TLS connection to a guest.
pub async fn connect(guest: &Guest) -> Result<UnattestedChannel, ChannelError> {
    connect_watched(guest).await.0
}

/// A TLS connection to a guest, and the guest's work on it: when that has ended, the guest has seen all that was sent.
pub async fn connect_watched(guest: &Guest) -> (Result<UnattestedChannel, ChannelError>, JoinHandle<()>) {
    connect_offering(guest, Protocols::Http1).await
}

/// The same, offering these protocols.
pub async fn connect_offering(
    guest: &Guest,
    protocols: Protocols,
) -> (Result<UnattestedChannel, ChannelError>, JoinHandle<()>) {
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let guest = guest.clone();
    let served = tokio::spawn(async move { guest.serve(theirs).await });
    (UnattestedChannel::connect(ours, &"guest.invalid:8443".parse().unwrap(), protocols).await, served)
}

/// A connection to a guest that has answered the attestation request.
pub async fn challenged(guest: &Guest) -> Challenged {
    connect(guest).await.unwrap().attest().await.unwrap()
}

/// The simulator's policy.
pub fn policy(attest: Attest, max_age_seconds: u64) -> AppraisalPolicy {
    let attest = match attest {
        Attest::PerKey => "per-key",
        Attest::EveryConnection => "every-connection",
    };
    AppraisalPolicy::parse(&guest::policy(attest, max_age_seconds), Loaded::AsDanger).unwrap()
}

/// Appraises a document for a challenge now.
pub fn judge(
    channel: &ChallengedChannel,
    document: &[u8],
    challenge: Challenge,
    policy: &AppraisalPolicy,
) -> Result<Attested, Rejection> {
    let endorsements = Endorsements::default();
    let now = channel.asked().wall();
    let appraisal = Appraisal {
        document,
        endorsements: &endorsements,
        prepared: None,
        prepared_devices: None,
        memo: None,
        second_opinion: None,
        references: None,
        policy,
        now,
        algorithms: &ALGORITHMS,
    };
    appraise(&appraisal, challenge)
}

/// A channel to an honest guest, opened.
pub async fn open(guest: &Guest, attest: Attest, max_age_seconds: u64) -> AttestedChannel {
    opened(challenged(guest).await, attest, max_age_seconds)
}

/// The same over HTTP/2.
pub async fn open_http2(guest: &Guest, attest: Attest, max_age_seconds: u64) -> AttestedChannel {
    let connection = connect_offering(guest, Protocols::Http2OrHttp1).await.0.unwrap();
    opened(connection.attest().await.unwrap(), attest, max_age_seconds)
}

/// A channel whose peer has answered as an honest guest does.
pub fn opened(challenged: Challenged, attest: Attest, max_age_seconds: u64) -> AttestedChannel {
    let Challenged { channel, document, challenge } = challenged;
    let attested = judge(&channel, &document, challenge, &policy(attest, max_age_seconds)).unwrap();
    AttestedChannel::open(channel, attested, attest).unwrap()
}
