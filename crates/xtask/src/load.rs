//! Load on guest and proxy: many clients at once, some of which hang up or talk nonsense. Whoever asks properly must
//! get the answer that one client alone gets, and both servers must live to the end without growing.

use std::io::Read;
use std::net::{Shutdown, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::api::{Delivery, ask, post, request, send};
use crate::cargo;
use crate::programs::{Flavour, Programs};
use crate::running::{self, Running};
use crate::test::{Length, Tally, note};

const WORKERS: usize = 8;
const QUESTIONS: [&str; 3] = ["What is an RTMR?", "What is a quote?", "What is attestation?"];
/// What a server may grow by, in KiB, after the first requests have been answered.
const GROWTH: u64 = 64 * 1024;

/// Runs the load: 20 seconds in CI, 5 minutes in the long form.
///
/// # Errors
/// When an answer differs, or a server ends or grows.
pub(crate) fn run(length: Length) -> Result<Tally> {
    let duration = match length {
        Length::Ci => Duration::from_secs(20),
        Length::Long => Duration::from_secs(5 * 60),
    };
    let programs = Programs::build(Flavour::Simulator)?;
    let folder = running::folder("load")?;
    let mut guest = Running::guest(&programs, &folder)?;
    let policy = cargo::root().join("policies/danger-simulator.toml");
    let mut proxy = Running::proxy(&programs, guest.address(), &policy, &folder)?;
    let address = proxy.address();
    let expected: Vec<String> =
        QUESTIONS.iter().map(|question| ask(address, question)).collect::<Result<_>>()?;
    let before = [guest.memory()?, proxy.memory()?];

    let deadline = Instant::now() + duration;
    let mut times = under_load(address, &expected, deadline)?;
    guest.require_alive().context("the guest")?;
    proxy.require_alive().context("the proxy")?;
    ensure!(ask(address, QUESTIONS[0])? == expected[0], "another answer after the load than before");
    let after = [guest.memory()?, proxy.memory()?];
    for (name, (before, after)) in ["guest", "proxy"].iter().zip(before.iter().zip(after)) {
        note(format!("{name}: {before} KiB resident before the load, {after} KiB after"));
        ensure!(after < before + GROWTH, "the {name} grew from {before} to {after} KiB");
    }
    times.sort_unstable();
    let percentile = |percent: usize| times.get(times.len() * percent / 100).map_or(0, Duration::as_millis);
    let each_second = times.len() as f64 / duration.as_secs_f64();
    note(format!(
        "{} answers of {WORKERS} clients, {each_second:.1} a second; median {} ms, 99 % {} ms",
        times.len(),
        percentile(50),
        percentile(99)
    ));
    Ok(Tally::ONE)
}

/// All workers until `deadline`; gives the time of each answer.
fn under_load(address: SocketAddr, expected: &[String], deadline: Instant) -> Result<Vec<Duration>> {
    let worker = |number: usize| move || work(number, address, expected, deadline);
    let results: Vec<Result<Vec<Duration>>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..WORKERS).map(|number| scope.spawn(worker(number))).collect();
        threads.into_iter().map(|thread| thread.join().expect("a worker returns its errors")).collect()
    });
    let mut times = Vec::new();
    for result in results {
        times.extend(result?);
    }
    ensure!(!times.is_empty(), "no request was answered");
    Ok(times)
}

/// One client: mostly questions, now and then one who hangs up or one who talks nonsense.
fn work(number: usize, address: SocketAddr, expected: &[String], deadline: Instant) -> Result<Vec<Duration>> {
    let mut times = Vec::new();
    for turn in 0.. {
        if Instant::now() >= deadline {
            break;
        }
        let which = (number + turn) % QUESTIONS.len();
        match turn % 5 {
            3 => hang_up(address)?,
            4 => nonsense(address)?,
            _ => {
                let started = Instant::now();
                let answer = ask(address, QUESTIONS[which])?;
                ensure!(
                    answer == expected[which],
                    "{:?} got another answer under load: {answer}",
                    QUESTIONS[which]
                );
                times.push(started.elapsed());
            }
        }
    }
    Ok(times)
}

/// Asks for a stream and closes the connection after its first bytes.
fn hang_up(address: SocketAddr) -> Result<()> {
    let mut stream = send(address, &request(QUESTIONS[0], Delivery::Stream))?;
    let mut first = [0; 64];
    stream.read_exact(&mut first)?;
    Ok(stream.shutdown(Shutdown::Both)?)
}

/// What is no request gets an error of the API.
fn nonsense(address: SocketAddr) -> Result<()> {
    let (status, body) = post(address, "{\"messages\": 7")?;
    ensure!(status == 400, "status {status} for nonsense: {body}");
    let error: Value = serde_json::from_str(&body)?;
    ensure!(error["error"]["code"].is_string(), "an error without a code: {body}");
    Ok(())
}
