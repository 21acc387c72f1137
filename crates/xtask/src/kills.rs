//! The guest killed while it answers, again and again. No answer may end early without saying so, an impostor that
//! takes the guest's address while it is gone gets no byte of a prompt, and the next guest is attested and serves.

use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::api::{Delivery, ask, post, receive, request, send};
use crate::cargo;
use crate::programs::{Flavour, Programs};
use crate::running::{self, Running};
use crate::test::{Length, Tally, note};

const QUESTION: &str = "What is an RTMR?";
/// Answers under way when the guest is killed.
const STREAMS: usize = 8;
/// The end of a stream that is whole.
const DONE: &str = "data: [DONE]\n\n";

/// Runs the kills: 20 seconds in CI, 5 minutes in the long form.
///
/// # Errors
/// When an answer ends early in silence, an impostor sees a prompt, or a new guest is not served from.
pub(crate) fn run(length: Length) -> Result<Tally> {
    let duration = match length {
        Length::Ci => Duration::from_secs(20),
        Length::Long => Duration::from_secs(5 * 60),
    };
    let programs = Programs::build(Flavour::Simulator)?;
    let folder = running::folder("kills")?;
    let mut guest = Running::guest(&programs, &folder)?;
    let policy = cargo::root().join("policies/danger-simulator.toml");
    let mut proxy = Running::proxy(&programs, guest.address(), &policy, &folder)?;
    let expected = ask(proxy.address(), QUESTION)?;

    let (mut rounds, mut cut) = (0, 0);
    let deadline = Instant::now() + duration;
    while Instant::now() < deadline {
        let place = guest.address();
        cut += kill(guest, proxy.address())?;
        impostor(place, proxy.address())?;
        guest = back(place, &programs, &folder)?;
        let answer = ask(proxy.address(), QUESTION)?;
        ensure!(answer == expected, "another answer after {rounds} kills: {answer}");
        rounds += 1;
    }
    proxy.require_alive().context("the proxy")?;
    note(format!("{rounds} kills cut {cut} of {} answers, none of them in silence", rounds * STREAMS));
    ensure!(cut > 0, "no kill met an answer under way");
    Ok(Tally::ONE)
}

/// Kills the guest while answers are under way and says how many it cut.
fn kill(guest: Running, proxy: SocketAddr) -> Result<usize> {
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        streams.push(send(proxy, &request(QUESTION, Delivery::Stream))?);
    }
    streams[0].peek(&mut [0])?;
    drop(guest);
    let mut cut = 0;
    for stream in streams {
        let (status, body) = receive(stream)?;
        if body.ends_with(DONE) {
            continue;
        }
        cut += 1;
        let event = body.trim_end().rsplit("data: ").next().unwrap_or_default();
        let error: Value = serde_json::from_str(event)
            .with_context(|| format!("status {status}, and an end without [DONE] or error: {body:?}"))?;
        ensure!(error["error"]["code"].is_string(), "status {status}, and an error without a code: {body:?}");
    }
    Ok(cut)
}

/// Somebody without evidence listens in the guest's place: the question is refused, and no byte of it arrives there.
fn impostor(place: SocketAddr, proxy: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(place).context("taking the guest's address")?;
    let heard = hear(listener.try_clone()?);
    let (status, body) = post(proxy, &request(QUESTION, Delivery::Whole))?;
    ensure!(status >= 500, "status {status} from an impostor's place: {body}");
    // One more connection, without a byte, so that the listening thread ends.
    drop(std::net::TcpStream::connect(place)?);
    let heard = heard.join().expect("the listener returns its errors")?;
    let question = QUESTION.as_bytes();
    ensure!(!heard.windows(question.len()).any(|bytes| bytes == question), "the impostor got the question");
    Ok(())
}

/// Collects the first bytes of each connection until one brings none.
fn hear(listener: TcpListener) -> JoinHandle<Result<Vec<u8>>> {
    std::thread::spawn(move || {
        let mut heard = Vec::new();
        loop {
            let (mut stream, _) = listener.accept()?;
            let mut bytes = [0; 16 * 1024];
            match stream.read(&mut bytes)? {
                0 => return Ok(heard),
                read => heard.extend_from_slice(&bytes[..read]),
            }
        }
    })
}

/// The guest starts anew at the same address, with new keys.
fn back(place: SocketAddr, programs: &Programs, folder: &Path) -> Result<Running> {
    Running::guest_at(place, programs, folder).context("starting the guest again")
}
