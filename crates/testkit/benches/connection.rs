//! An attested connection to a running guest: time from TCP connect to verdict, and bytes on the wire.
//!
//! `cargo xtask bench` runs it with the guest's address and a danger policy as arguments, and reads one line for each
//! figure, fields separated by tabs: name, median, 10th and 90th percentile in microseconds, or name and bytes.
#![expect(clippy::print_stdout, reason = "a program that measures")]

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use confide_client::{Client, PolicyText};
use confide_policy::Loaded;

const WARM_UP: usize = 5;
const ROUNDS: usize = 100;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let [guest, policy] = arguments.as_slice() else { bail!("arguments: GUEST-ADDRESS DANGER-POLICY") };
    let guest: SocketAddr = guest.parse()?;
    let policy = PolicyText::parse(std::fs::read_to_string(policy)?, Loaded::AsDanger)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let mut attested = Vec::new();
        let mut handshakes = Vec::new();
        for round in 0..WARM_UP + ROUNDS {
            let (one, other) = (time_to_verdict(guest, &policy).await?, time_of_handshake(guest).await?);
            if round >= WARM_UP {
                attested.push(one);
                handshakes.push(other);
            }
        }
        print_times("TCP connect to verdict", attested);
        print_times("TCP connect and TLS handshake alone", handshakes);
        print_bytes(guest, &policy).await
    })
}

async fn time_to_verdict(guest: SocketAddr, policy: &PolicyText) -> Result<Duration> {
    let client = Client::builder(&format!("https://{guest}"), policy.clone())?.build();
    let started = Instant::now();
    client.verdict().await.context("the guest was refused")?;
    Ok(started.elapsed())
}

async fn time_of_handshake(guest: SocketAddr) -> Result<Duration> {
    let started = Instant::now();
    let _connection = confide_testkit::attacker::connect(guest).await?;
    Ok(started.elapsed())
}

async fn print_bytes(guest: SocketAddr, policy: &PolicyText) -> Result<()> {
    let counter = Counter::start(guest)?;
    time_to_verdict(counter.address, policy).await?;
    println!("client to guest\t{}", counter.sent.load(Ordering::SeqCst));
    println!("guest to client\t{}", counter.received.load(Ordering::SeqCst));
    Ok(())
}

fn print_times(name: &str, mut samples: Vec<Duration>) {
    samples.sort_unstable();
    let percentile = |percent: usize| {
        samples.get(samples.len() * percent / 100).map_or(0.0, |sample| sample.as_secs_f64() * 1e6)
    };
    println!("{name}\t{:.1}\t{:.1}\t{:.1}", percentile(50), percentile(10), percentile(90));
}

/// A loopback forwarder that counts the bytes of the TCP streams.
struct Counter {
    address: SocketAddr,
    sent: Arc<AtomicU64>,
    received: Arc<AtomicU64>,
}

impl Counter {
    fn start(guest: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let (sent, received) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let counters = (Arc::clone(&sent), Arc::clone(&received));
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), Ok(guest)) = (client, TcpStream::connect(guest)) else { return };
                let (Ok(client_2), Ok(guest_2)) = (client.try_clone(), guest.try_clone()) else { return };
                let (sent, received) = counters.clone();
                std::thread::spawn(move || copy(client, guest, &sent));
                std::thread::spawn(move || copy(guest_2, client_2, &received));
            }
        });
        Ok(Self { address, sent, received })
    }
}

/// Copies until the end, counting as it goes: the client reads its verdict while its connection stays open.
fn copy(mut from: TcpStream, mut to: TcpStream, count: &AtomicU64) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = io::Read::read(&mut from, &mut buffer).unwrap_or(0);
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
        count.fetch_add(read as u64, Ordering::SeqCst);
        if io::Write::write_all(&mut to, bytes).is_err() {
            break;
        }
    }
    // The other half may have closed the stream already.
    let _ = to.shutdown(Shutdown::Write);
}
