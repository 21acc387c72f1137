//! Fresh attestations: a nonce of its own for each, on connections that are there. Of every answer the path from its leaf
//! to the report data of the quote is checked; one of a hundred is appraised in full.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use confide_client::{ALGORITHMS, PolicyText};
use confide_evidence::bytes::Bytes;
use confide_evidence::document::{
    ATTESTATION_PATH, AttestationRequest, CpuEvidence, Endorsements, EvidenceDocument, REQUEST_MEDIA_TYPE,
    devices_digest,
};
use confide_evidence::hash::sha256;
use confide_evidence::record::RecordedChallenge;
use confide_evidence::tdx::{Padding, Quote};
use confide_evidence::transcript::{Binding, EXPORTER_LABEL, Role, Transcript, batch_leaf};
use confide_verifier::{Inputs, Memo, Subject, evaluate};
use rustls::pki_types::UnixTime;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::client::TlsStream;

use crate::http::{Connection, post};
use crate::{percentile, print_times};

/// Connections, each with one attestation after the other.
const CONNECTIONS: usize = 192;
/// Before it counts, and while it does.
const WARM_UP: Duration = Duration::from_secs(1);
const TURN: Duration = Duration::from_secs(10);
/// One of so many is appraised in full.
const APPRAISED: u64 = 100;

/// What all connections share.
struct Shared {
    policy: PolicyText,
    memo: Memo,
    /// Nonces: any that were not used before will do for a measurement.
    drawn: AtomicU64,
    appraised: AtomicU64,
    largest_batch: AtomicU64,
    starts: Instant,
    times: Mutex<Vec<Duration>>,
}

pub(crate) async fn measure(guest: SocketAddr, policy: PolicyText) -> Result<()> {
    let mut handshakes = Vec::new();
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        let started = Instant::now();
        connections.push(Connection::new(confide_testkit::attacker::connect(guest).await?));
        handshakes.push(started.elapsed());
    }
    let shared = Arc::new(Shared {
        policy,
        memo: Memo::new(),
        drawn: AtomicU64::new(0),
        appraised: AtomicU64::new(0),
        largest_batch: AtomicU64::new(0),
        starts: Instant::now() + WARM_UP,
        times: Mutex::default(),
    });
    let mut workers = JoinSet::new();
    for connection in connections {
        workers.spawn(attest_on(connection, Arc::clone(&shared)));
    }
    while let Some(worker) = workers.join_next().await {
        worker??;
    }
    let mut times = std::mem::take(&mut *shared.times.lock().expect("nobody panics"));
    let rate = times.len() as f64 / TURN.as_secs_f64();
    println!("rate\t{rate:.0}");
    println!("appraised\t{}", shared.appraised.load(Ordering::Relaxed));
    println!("largest batch\t{}", shared.largest_batch.load(Ordering::Relaxed));
    println!("connections\t{CONNECTIONS}");
    ensure!(percentile(&mut times, 50).is_some(), "no attestation");
    print_times("time\tan attestation on a connection that is there", &mut times);
    print_times("time\tTCP connect and TLS handshake", &mut handshakes);
    Ok(())
}

async fn attest_on(mut connection: Connection<TlsStream<TcpStream>>, shared: Arc<Shared>) -> Result<()> {
    let end = shared.starts + TURN;
    loop {
        let place = shared.drawn.fetch_add(1, Ordering::Relaxed);
        let nonce = Bytes(sha256(&place.to_be_bytes()).0);
        let (exporter, spki) = facts(&connection.stream, &nonce)?;
        let request = post(ATTESTATION_PATH, REQUEST_MEDIA_TYPE, &AttestationRequest { nonce }.encode());
        let started = Instant::now();
        let document = connection.ask(&request).await?;
        let took = started.elapsed();
        check(document, nonce, exporter, spki, &shared)?;
        if place.is_multiple_of(APPRAISED) {
            appraise(document, nonce, exporter, spki, &shared)?;
        }
        let now = Instant::now();
        if now >= end {
            return Ok(());
        }
        if started >= shared.starts {
            shared.times.lock().expect("nobody panics").push(took);
        }
    }
}

/// Exporter and key of a connection.
fn facts(stream: &TlsStream<TcpStream>, nonce: &Bytes<32>) -> Result<(Bytes<32>, Bytes<32>)> {
    let tls = stream.get_ref().1;
    let exporter = tls.export_keying_material([0; 32], EXPORTER_LABEL, Some(&nonce.0))?;
    let certificate = tls.peer_certificates().and_then(<[_]>::first).context("no certificate")?;
    let spki = rustls::server::ParsedCertificate::try_from(certificate)?.subject_public_key_info();
    Ok((Bytes(exporter), sha256(&spki)))
}

/// Follows the path from the leaf of this connection and nonce to what the quote signs.
fn check(
    document: &[u8],
    nonce: Bytes<32>,
    exporter: Bytes<32>,
    spki: Bytes<32>,
    shared: &Shared,
) -> Result<()> {
    let document = EvidenceDocument::decode(document)?;
    let binding = match &document.batch {
        None => Binding::Serve { nonce, exporter, tls_spki: spki },
        Some(path) => {
            shared.largest_batch.fetch_max(path.size, Ordering::Relaxed);
            Binding::Batch { root: path.root(&batch_leaf(&nonce, &exporter))?, tls_spki: spki }
        }
    };
    let transcript = Transcript {
        binding,
        keyset: document.key_set.digest(),
        devices: devices_digest(&document.devices),
        claims: document.claims.digest(),
        boot_id: document.boot_id,
    };
    let CpuEvidence::Tdx { quote } = &document.cpu else { anyhow::bail!("no TDX quote") };
    let quote = Quote::parse(quote.as_bytes(), Padding::Refused)?;
    ensure!(*quote.report.report_data == transcript.report_data(), "the quote signs something else");
    Ok(())
}

fn appraise(
    document: &[u8],
    nonce: Bytes<32>,
    exporter: Bytes<32>,
    spki: Bytes<32>,
    shared: &Shared,
) -> Result<()> {
    let challenge = RecordedChallenge {
        role: Role::Serve,
        nonce,
        exporter: exporter.0.to_vec().into(),
        spki: spki.0.to_vec().into(),
    };
    let inputs = Inputs {
        subject: Subject::Document(document),
        endorsements: &Endorsements::default(),
        prepared: None,
        prepared_devices: None,
        memo: Some(&shared.memo),
        second_opinion: None,
        references: None,
        policy: shared.policy.policy(),
        challenge: Some(&challenge),
        now: UnixTime::now(),
        algorithms: &ALGORITHMS,
    };
    let result =
        evaluate(&inputs).map_err(|refused| anyhow::anyhow!("refused: {:?}", refused.result.code))?;
    ensure!(result.accepted(), "not accepted");
    shared.appraised.fetch_add(1, Ordering::Relaxed);
    Ok(())
}
