//! Many streams at once through a proxy with several upstreams, of which guests are killed and come back, and one is an
//! attacker from the start. Every answer is whole, or ends with a clear error and its code: a status before the first byte, an
//! error event after it. None breaks off otherwise, none hangs, none comes without a verdict, and the attacker gets no byte of a
//! request.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::api::{Delivery, request};
use crate::programs::{Flavour, Programs};
use crate::running::{self, Running};
use crate::test::{Length, Tally, note};
use crate::{cargo, demo, process, traffic};

const QUESTION: &str = "What is an RTMR?";
/// An answer of 20 tokens that takes a second.
const GUEST: &str = "\n[simulated.answers]\ntokens = 20\nmilliseconds = 50\n\n\
    [limits]\nconnections = 4096\nrequests = 2048\nattestations = 2048\n";
/// How long an answer may be silent before it counts as hung.
const SILENCE: Duration = Duration::from_secs(30);
/// How long an answer may take altogether: as long as a request may wait for an instance, and again.
const LONGEST: Duration = Duration::from_secs(180);
/// Between two kills, and how long a guest stays away.
const BETWEEN: Duration = Duration::from_secs(3);
const AWAY: Duration = Duration::from_secs(3);
/// What a thread that reads one answer needs.
const STACK: usize = 128 * 1024;

/// The field with which the proxy says that an answer came over an attested channel.
const VERIFIED: &str = "x-confide-verdict: accepted, SIMULATED";
/// The codes that the programs document.
const CODES: &str = "docs/errors.md";
/// Streams without an end as it should be of which is told what was wrong.
const SHOWN: usize = 5;

/// What became of all streams.
#[derive(Default)]
struct Ends {
    whole: usize,
    /// Refused before the first byte of an answer, by code.
    refused: Codes,
    /// Cut after the first byte and ended by an error event, by its code.
    told: Codes,
    /// Everything else, which should not be: what it was.
    wrong: Vec<String>,
}

type Codes = BTreeMap<String, usize>;

/// How one stream ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Whole,
    Refused(String),
    Told(String),
    Wrong(String),
}

impl Ends {
    fn count(&mut self, end: End) {
        match end {
            End::Whole => self.whole += 1,
            End::Refused(code) => *self.refused.entry(code).or_default() += 1,
            End::Told(code) => *self.told.entry(code).or_default() += 1,
            End::Wrong(what) => self.wrong.push(what),
        }
    }

    /// # Errors
    /// When a stream ended as none should.
    fn require_clear(&self) -> Result<()> {
        let shown: Vec<&str> = self.wrong.iter().take(SHOWN).map(String::as_str).collect();
        ensure!(
            shown.is_empty(),
            "{} streams ended without a clear error, among them:\n{}",
            self.wrong.len(),
            shown.join("\n")
        );
        Ok(())
    }
}

/// How many there were, and how many of each.
fn told(codes: &Codes) -> String {
    let each: Vec<String> = codes.iter().map(|(code, count)| format!("{code} {count}")).collect();
    match codes.values().sum::<usize>() {
        0 => "none".to_owned(),
        all => format!("{all} ({})", each.join(", ")),
    }
}

/// Runs the streams: 100 for 20 seconds in CI, 1,000 for a minute in the long form.
///
/// # Errors
/// When a stream hangs, or ends otherwise than whole or with a code, the attacker got something, or nothing was answered
/// between two kills.
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
    let recording = [OsStr::new("--record"), records.as_os_str()];
    let mut proxy = Running::proxy_of(&upstreams, &recording, &programs, &policy, &folder)?;

    let codes = std::fs::read_to_string(cargo::root().join(CODES)).context(CODES)?;
    let ends = Mutex::new(Ends::default());
    let whole = || ends.lock().expect("no worker panics").whole;
    let end = Instant::now() + duration;
    let mut kills = 0;
    std::thread::scope(|scope| {
        let mut workers = Vec::new();
        for _ in 0..streams {
            let (ends, codes, address) = (&ends, codes.as_str(), proxy.address());
            let worker = std::thread::Builder::new().stack_size(STACK);
            workers.push(worker.spawn_scoped(scope, move || work(address, end, codes, ends))?);
        }
        while Instant::now() + BETWEEN + AWAY < end {
            std::thread::sleep(BETWEEN);
            let before = whole();
            let place = guests[kills % 2].address();
            guests[kills % 2].kill();
            std::thread::sleep(AWAY);
            guests[kills % 2] = guest(Some(place), &programs, &folder)?;
            let served = whole() - before;
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
    let ends = ends.into_inner().expect("no worker panics");
    ends.require_clear()?;
    let receipts = audit["receipts"]["count"].as_u64().context("an audit without receipts")?;
    ensure!(receipts >= ends.whole as u64, "{receipts} receipts of {} whole answers", ends.whole);
    note(format!(
        "{streams} streams at once for {} s, {kills} kills: {} whole; refused before the first byte of an answer, with a \
         code: {}; cut after it, each with an error event: {}; none ended otherwise, none hung, no answer without a verdict, no \
         byte of a request at the attacker; {receipts} receipts audited",
        duration.as_secs(),
        ends.whole,
        told(&ends.refused),
        told(&ends.told),
    ));
    ensure!(ends.whole > streams, "hardly a stream was whole");
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
fn work(address: SocketAddr, end: Instant, codes: &str, ends: &Mutex<Ends>) -> Result<()> {
    while Instant::now() < end {
        let found = judge(&ask(address)?, codes);
        let refused = matches!(found, End::Refused(_));
        ends.lock().expect("no worker panics").count(found);
        if refused {
            // As the answer asks for, or less.
            std::thread::sleep(Duration::from_millis(500));
        }
    }
    Ok(())
}

/// What came of one stream, and how its connection ended.
struct Answer {
    bytes: Vec<u8>,
    /// Nothing where it was closed in order.
    broken: Option<std::io::Error>,
}

/// One stream, to its end.
///
/// # Errors
/// When it hangs.
fn ask(address: SocketAddr) -> Result<Answer> {
    let body = request(QUESTION, Delivery::Stream);
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(SILENCE))?;
    let length = body.len();
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes())?;
    let begun = Instant::now();
    let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        match stream.read(&mut piece) {
            Ok(0) => return Ok(Answer { bytes, broken: None }),
            Ok(read) => bytes.extend_from_slice(&piece[..read]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Err(error).context("a stream hung");
            }
            Err(error) => return Ok(Answer { bytes, broken: Some(error) }),
        }
        ensure!(begun.elapsed() < LONGEST, "a stream did not end");
    }
}

/// What an answer says of its end, where `codes` has the codes that are documented.
fn judge(answer: &Answer, codes: &str) -> End {
    let text = String::from_utf8_lossy(&answer.bytes);
    let wrong = |what: &str| End::Wrong(format!("{what}: {text:?}"));
    if let Some(error) = &answer.broken {
        return wrong(&format!("the connection broke ({error})"));
    }
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return wrong("no head of an answer") };
    let code = |text: &str| {
        let error: Value = serde_json::from_str(text).ok()?;
        let code = error["error"]["code"].as_str()?;
        codes.contains(&format!("| `{code}` |")).then(|| code.to_owned())
    };
    let status = head.split(' ').nth(1).unwrap_or_default();
    if status != "200" {
        return code(body).map_or_else(|| wrong("a status and no code that is documented"), End::Refused);
    }
    if !head.lines().any(|line| line == VERIFIED) {
        return wrong("an answer without a verdict");
    }
    let Some(stream) = unchunked(body) else { return wrong("cut without an error event") };
    let Some(events) = stream.strip_suffix("\n\n") else { return wrong("an end within an event") };
    let mut events: Vec<&str> =
        events.split("\n\n").map(|event| event.trim_start_matches("data: ")).collect();
    let last = events.pop().unwrap_or_default();
    let is_piece = |event: &&str| {
        serde_json::from_str(event).is_ok_and(|event: Value| event["object"] == "chat.completion.chunk")
    };
    match (events.iter().all(is_piece), last) {
        (false, _) => wrong("an event that is no piece of an answer"),
        (true, "[DONE]") => End::Whole,
        (true, last) => code(last).map_or_else(|| wrong("an end in silence"), End::Told),
    }
}

/// What a chunked body has in it (RFC 9112 section 7.1); nothing where its end is missing.
fn unchunked(body: &str) -> Option<String> {
    let (mut rest, mut whole) = (body, String::new());
    loop {
        let (size, after) = rest.split_once("\r\n")?;
        let size = usize::from_str_radix(size, 16).ok()?;
        if size == 0 {
            return (after == "\r\n").then_some(whole);
        }
        whole.push_str(after.get(..size)?);
        rest = after.get(size..)?.strip_prefix("\r\n")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &str =
        "| `connection_failed` | it broke | ask again |\n| `no_attested_instances` | nobody | see why |\n";

    fn judged(bytes: &str) -> End {
        judge(&Answer { bytes: bytes.as_bytes().to_vec(), broken: None }, KNOWN)
    }

    fn streamed(events: &[&str], end: &str) -> String {
        let chunk = |event: &&str| format!("{:x}\r\n{event}\r\n", event.len());
        let chunks: String = events.iter().map(chunk).collect();
        format!("HTTP/1.1 200 OK\r\n{VERIFIED}\r\n\r\n{chunks}{end}")
    }

    const PIECE: &str = "data: {\"object\":\"chat.completion.chunk\"}\n\n";
    const TOLD: &str = "data: {\"error\":{\"code\":\"connection_failed\"}}\n\n";
    const DONE: &str = "data: [DONE]\n\n";
    const END: &str = "0\r\n\r\n";

    #[test]
    fn an_end_that_is_clear_is_told_from_every_other() {
        assert_eq!(judged(&streamed(&[PIECE, DONE], END)), End::Whole);
        let code = || "connection_failed".to_owned();
        assert_eq!(judged(&streamed(&[PIECE, TOLD], END)), End::Told(code()));
        assert_eq!(judged(&streamed(&[TOLD], END)), End::Told(code()), "before the first piece");
        let refused = "HTTP/1.1 503 Unavailable\r\n\r\n{\"error\":{\"code\":\"no_attested_instances\"}}";
        assert_eq!(judged(refused), End::Refused("no_attested_instances".to_owned()));
    }

    #[test]
    fn whatever_else_becomes_of_a_stream_is_wrong() {
        let unknown = TOLD.replace("connection_failed", "something");
        for (bytes, what) in [
            (String::new(), "no head of an answer"),
            ("HTTP/1.1 200 OK\r\n".to_owned(), "no head of an answer"),
            ("HTTP/1.1 503 Unavailable\r\n\r\n{}".to_owned(), "no code that is documented"),
            (streamed(&[PIECE, DONE], ""), "cut without an error event"),
            (streamed(&[PIECE, DONE], "5\r\nda"), "cut without an error event"),
            (streamed(&[PIECE], END), "an end in silence"),
            (streamed(&[PIECE, &unknown], END), "an end in silence"),
            (streamed(&[], END), "an end within an event"),
            (streamed(&[PIECE, "data: {\"obj"], END), "an end within an event"),
            (streamed(&["data: {\"obj\n\n", TOLD], END), "no piece of an answer"),
            (streamed(&[PIECE, DONE], END).replace(VERIFIED, "x: y"), "without a verdict"),
        ] {
            let End::Wrong(found) = judged(&bytes) else { panic!("{what}: {bytes:?}") };
            assert!(found.contains(what), "{found}");
        }
        let broken = Some(ErrorKind::ConnectionReset.into());
        let reset = Answer { bytes: streamed(&[PIECE, TOLD], END).into(), broken };
        assert!(matches!(judge(&reset, KNOWN), End::Wrong(what) if what.contains("the connection broke")));
    }

    #[test]
    fn one_stream_that_ends_otherwise_fails_all() {
        let mut ends = Ends::default();
        for end in
            [End::Whole, End::Told("a".to_owned()), End::Told("b".to_owned()), End::Told("a".to_owned())]
        {
            ends.count(end);
        }
        assert_eq!((told(&ends.told), told(&ends.refused)), ("3 (a 2, b 1)".to_owned(), "none".to_owned()));
        ends.require_clear().unwrap();
        ends.count(End::Wrong("cut".to_owned()));
        assert!(ends.require_clear().unwrap_err().to_string().contains("1 streams ended"));
    }
}
