//! Small streamed answers of one guest, over several ways: directly, and through programs that take plain HTTP.

use std::net::SocketAddr;
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, ensure};
use confide_client::{Client, PolicyText, Prompt, Request};
use http_body_util::BodyExt;
use tokio::net::TcpStream;

use crate::http::{Connection, post};
use crate::{percentile, print_times, processor_time};

const PATH: &str = "/v1/chat/completions";
const QUESTION: &str =
    r#"{"model":"tiny","stream":true,"messages":[{"role":"user","content":"What is an RTMR?"}]}"#;
/// How often the contenders take turns.
const ROUNDS: usize = 20;
/// Requests of a turn, one after the other.
const IN_A_ROW: usize = 200;
/// Connections of a turn at the same time, and how long it lasts.
const CONNECTIONS: usize = 64;
const TURN: Duration = Duration::from_millis(1500);

/// A program in front of the guest: `NAME=ADDRESS=PROCESS`.
pub(crate) struct Way {
    name: String,
    address: SocketAddr,
    process: u32,
}

impl FromStr for Way {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut parts = text.split('=');
        let mut part = || parts.next().context("expected NAME=ADDRESS=PROCESS");
        Ok(Self { name: part()?.to_owned(), address: part()?.parse()?, process: part()?.parse()? })
    }
}

/// What a way carried under load.
#[derive(Default)]
struct Carried {
    /// Answers a second, of each turn.
    rates: Vec<u64>,
    answers: u64,
    processor: Duration,
}

pub(crate) async fn compare(guest: SocketAddr, policy: PolicyText, ways: Vec<Way>) -> Result<()> {
    let client = Client::builder(&format!("https://{guest}"), policy)?.build();
    client.verdict().await.context("the guest was refused")?;
    let request = post(PATH, "application/json", QUESTION.as_bytes());
    in_a_row(&client, &ways, &request).await?;
    under_load(&ways, &request).await
}

/// The time of one request after the other.
async fn in_a_row(client: &Client, ways: &[Way], request: &[u8]) -> Result<()> {
    let mut direct = Vec::new();
    let mut times = vec![Vec::new(); ways.len()];
    for round in 0..=ROUNDS {
        let counts = round > 0;
        for _ in 0..IN_A_ROW {
            let started = Instant::now();
            ask_directly(client).await?;
            direct.extend(counts.then(|| started.elapsed()));
        }
        for (way, times) in ways.iter().zip(&mut times) {
            let mut connection = connect(way.address).await?;
            for _ in 0..IN_A_ROW {
                let started = Instant::now();
                check(connection.ask(request).await?)?;
                times.extend(counts.then(|| started.elapsed()));
            }
        }
    }
    print_times("latency\tdirect", &mut direct);
    for (way, times) in ways.iter().zip(&mut times) {
        print_times(&format!("latency\t{}", way.name), times);
    }
    Ok(())
}

async fn ask_directly(client: &Client) -> Result<()> {
    let prompt = Prompt::from(QUESTION.to_owned());
    let request = Request::post(PATH, prompt)?.header("content-type", b"application/json")?;
    let answer = client.send(request).await?;
    check(&answer.body.collect().await?.to_bytes())
}

/// Many connections at once, each with one request after the other.
async fn under_load(ways: &[Way], request: &[u8]) -> Result<()> {
    let mut carried: Vec<Carried> = ways.iter().map(|_| Carried::default()).collect();
    for round in 0..=ROUNDS {
        for (way, carried) in ways.iter().zip(&mut carried) {
            let before = processor_time(way.process)?;
            let answers = turn(way.address, request).await?;
            if round > 0 {
                carried.rates.push(answers * 1_000_000 / u64::try_from(TURN.as_micros())?);
                carried.answers += answers;
                carried.processor += processor_time(way.process)?.saturating_sub(before);
            }
        }
    }
    for (way, mut carried) in ways.iter().zip(carried) {
        let mut at = |percent| percentile(&mut carried.rates, percent).unwrap_or_default();
        let (median, low, high) = (at(50), at(10), at(90));
        let each = carried.processor.as_secs_f64() * 1e6 / carried.answers as f64;
        println!("load\t{}\t{median}\t{low}\t{high}\t{each:.1}", way.name);
    }
    Ok(())
}

/// Answers that came whole within a turn.
async fn turn(address: SocketAddr, request: &[u8]) -> Result<u64> {
    let mut workers = tokio::task::JoinSet::new();
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(connect(address).await?);
    }
    let end = Instant::now() + TURN;
    for mut connection in connections {
        let request = request.to_vec();
        workers.spawn(async move {
            let mut answers = 0;
            loop {
                check(connection.ask(&request).await?)?;
                if Instant::now() >= end {
                    return anyhow::Ok(answers);
                }
                answers += 1;
            }
        });
    }
    let mut answers = 0;
    while let Some(worker) = workers.join_next().await {
        answers += worker??;
    }
    Ok(answers)
}

async fn connect(address: SocketAddr) -> Result<Connection<TcpStream>> {
    let stream = TcpStream::connect(address).await.with_context(|| format!("connecting to {address}"))?;
    stream.set_nodelay(true)?;
    Ok(Connection::new(stream))
}

/// An answer that is a whole stream.
fn check(body: &[u8]) -> Result<()> {
    let end = b"data: [DONE]";
    ensure!(body.windows(end.len()).any(|window| window == end), "a stream that was cut short");
    Ok(())
}
