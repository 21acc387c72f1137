//! Many streams at once through a proxy with several upstreams, of which guests are killed and come back, and one is an
//! attacker from the start. Every answer is whole, or ends with a clear error; none hangs; the attacker gets no byte of a
//! request.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::api::{Delivery, request};
use crate::programs::{Flavour, Programs};
use crate::running::{self, Running};
use crate::test::{Length, Tally, note};
use crate::{demo, process, traffic};

const QUESTION: &str = "What is an RTMR?";
/// An answer of 20 tokens that takes a second.
const GUEST: &str = "\n[simulated.answers]\ntokens = 20\nmilliseconds = 50\n\n\
    [limits]\nconnections = 4096\nrequests = 2048\nattestations = 2048\n";
/// How long an answer may be silent before it counts as hung.
const SILENCE: Duration = Duration::from_secs(30);
/// Between two kills, and how long a guest stays away.
const BETWEEN: Duration = Duration::from_secs(3);
const AWAY: Duration = Duration::from_secs(3);
/// What a thread that reads one answer needs.
const STACK: usize = 128 * 1024;

/// What became of all streams.
#[derive(Default)]
struct Ends {
    whole: AtomicUsize,
    /// Refused before the first byte of an answer, with a code.
    refused: AtomicUsize,
    /// Ended by an error event.
    told: AtomicUsize,
    /// Broken off: no answer, or a stream without an end, which no HTTP client takes for a whole one.
    broken: AtomicUsize,
}

/// How one stream ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Whole,
    Refused,
    Told,
    Broken,
}

/// Runs the streams: 100 for 20 seconds in CI, 1,000 for a minute in the long form.
///
/// # Errors
/// When a stream hangs or ends in silence, the attacker got something, or nothing was answered between two kills.
pub(crate) fn run(length: Length) -> Result<Tally> {
    let (streams, duration) = match length {
        Length::Ci => (100, Duration::from_secs(20)),
        Length::Long => (1000, Duration::from_secs(60)),
    };
    let programs = Programs::build(Flavour::Simulator)?;
    let folder = running::folder("failover")?;
    let policy = folder.join("danger-failover.toml");
    std::fs::write(&policy, traffic::accepting("per-key")?)?;
    let mut guests = [guest(None, &programs, &folder)?, guest(None, &programs, &folder)?];
    let attacker = Running::attacker(&programs, "relay", guests[0].address(), &folder)?;
    let upstreams = [attacker.address(), guests[0].address(), guests[1].address()];
    let records = folder.join("records");
    std::fs::create_dir_all(&records)?;
    let mut proxy = Running::proxy_of(&upstreams, Some(&records), &programs, &policy, &folder)?;

    let ends = Ends::default();
    let end = Instant::now() + duration;
    let mut kills = 0;
    std::thread::scope(|scope| {
        let mut workers = Vec::new();
        for _ in 0..streams {
            let (ends, address) = (&ends, proxy.address());
            let worker = std::thread::Builder::new().stack_size(STACK);
            workers.push(worker.spawn_scoped(scope, move || work(address, end, ends))?);
        }
        while Instant::now() + BETWEEN + AWAY < end {
            std::thread::sleep(BETWEEN);
            let before = ends.whole.load(Ordering::Relaxed);
            let place = guests[kills % 2].address();
            guests[kills % 2].kill();
            std::thread::sleep(AWAY);
            guests[kills % 2] = guest(Some(place), &programs, &folder)?;
            let served = ends.whole.load(Ordering::Relaxed) - before;
            ensure!(served > 0, "no stream was whole while one of two guests was away");
            kills += 1;
        }
        for worker in workers {
            worker.join().expect("a worker returns its errors")?;
        }
        anyhow::Ok(())
    })?;
    proxy.require_alive().context("the proxy")?;
    proxy.kill();
    // Killed in the middle of whatever it did, it has left a folder in which everything fits.
    let audit = process::output(programs.confide().args(["audit", "--json"]).arg(&records))?;
    let audit: Value = serde_json::from_str(&audit).context("an audit")?;
    let seen = demo::seen(attacker)?;
    ensure!(seen.beyond_attestation == 0, "the attacker got {} bytes", seen.beyond_attestation);
    let count = |one: &AtomicUsize| one.load(Ordering::Relaxed);
    let receipts = audit["receipts"]["count"].as_u64().context("an audit without receipts")?;
    ensure!(
        receipts >= count(&ends.whole) as u64,
        "{receipts} receipts of {} whole answers",
        count(&ends.whole)
    );
    note(format!(
        "{streams} streams at once for {} s, {kills} kills: {} whole, {} refused with a code, {} ended by an error event, {} \
         broken off; none in silence, none hung, no byte of a request at the attacker; {receipts} receipts \
         audited",
        duration.as_secs(),
        count(&ends.whole),
        count(&ends.refused),
        count(&ends.told),
        count(&ends.broken)
    ));
    ensure!(count(&ends.whole) > streams, "hardly a stream was whole");
    Ok(Tally::ONE)
}

fn guest(place: Option<SocketAddr>, programs: &Programs, folder: &Path) -> Result<Running> {
    let folder: PathBuf = match place {
        Some(place) => folder.join(place.port().to_string()),
        None => folder.join("first"),
    };
    std::fs::create_dir_all(&folder)?;
    Running::guest_with(place, GUEST, programs, &folder)
}

/// One stream after the other.
fn work(address: SocketAddr, end: Instant, ends: &Ends) -> Result<()> {
    while Instant::now() < end {
        let count = match ask(address)? {
            End::Whole => &ends.whole,
            End::Told => &ends.told,
            End::Broken => &ends.broken,
            End::Refused => {
                // As the answer asks for, or less.
                std::thread::sleep(Duration::from_millis(500));
                &ends.refused
            }
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// One stream, to its end.
fn ask(address: SocketAddr) -> Result<End> {
    let body = request(QUESTION, Delivery::Stream);
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(SILENCE))?;
    let length = body.len();
    write!(
        stream,
        "POST /v1/chat/completions HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )?;
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) => {}
        // A connection that is broken off says so.
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => return Err(error).context("a stream hung"),
    }
    judge(&String::from_utf8_lossy(&answer))
}

/// What an answer says of its end.
fn judge(answer: &str) -> Result<End> {
    if answer.is_empty() {
        // The guest broke off before the head of its answer was out.
        return Ok(End::Broken);
    }
    let (head, body) = answer.split_once("\r\n\r\n").with_context(|| format!("no answer: {answer:?}"))?;
    let status = head.split(' ').nth(1).unwrap_or_default();
    if status != "200" {
        let error: Value =
            serde_json::from_str(body).with_context(|| format!("status {status}: {body:?}"))?;
        ensure!(error["error"]["code"].is_string(), "status {status}, and an error without a code: {body:?}");
        return Ok(End::Refused);
    }
    let Some(whole) = body.strip_suffix("0\r\n\r\n") else { return Ok(End::Broken) };
    let last = whole.rsplit("data: ").next().unwrap_or_default().trim_end();
    if last == "[DONE]" {
        return Ok(End::Whole);
    }
    let error: Value = serde_json::from_str(last).with_context(|| format!("an end in silence: {last:?}"))?;
    ensure!(error["error"]["code"].is_string(), "an error without a code: {last:?}");
    Ok(End::Told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_ends_in_silence_is_told_from_every_other() {
        let streamed = |body: &str| judge(&format!("HTTP/1.1 200 OK\r\n\r\n{body}"));
        assert_eq!(streamed("5\r\ndata: x\n\n\r\ne\r\ndata: [DONE]\n\n\r\n0\r\n\r\n").unwrap(), End::Whole);
        let told = "data: {\"error\":{\"code\":\"connection_lost\"}}\n\n\r\n0\r\n\r\n";
        assert_eq!(streamed(told).unwrap(), End::Told);
        assert_eq!(streamed("5\r\ndata: x\n\n\r\n").unwrap(), End::Broken);
        assert!(streamed("5\r\ndata: {\"choices\":[]}\n\n\r\n0\r\n\r\n").is_err(), "as if it were whole");
        let refused = "HTTP/1.1 503 Unavailable\r\n\r\n{\"error\":{\"code\":\"no_attested_instances\"}}";
        assert_eq!(judge(refused).unwrap(), End::Refused);
        assert!(judge("HTTP/1.1 503 Unavailable\r\n\r\n{}").is_err());
        assert_eq!(judge("").unwrap(), End::Broken, "which every client takes for a lost connection");
        assert!(judge("HTTP/1.1 200 OK\r\n").is_err());
    }
}
