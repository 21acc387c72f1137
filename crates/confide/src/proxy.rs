//! `confide proxy`: an OpenAI-compatible endpoint on this machine that attests first and then forwards.

use crate::cross_check::CrossCheck;
use crate::endorser::EndorserFlags;
use crate::guest::{self, Clients, ReceiptFlags};
use crate::input::{self, Otherwise, PolicyFlags};
use crate::log::LogFlags;
use crate::recorder::Recorder;
use crate::render;
use crate::status::{Failure, Status};
use confide_client::fleet::{Fleet, FleetSetupError, MAX_IN_FLIGHT, read_discovery};
use confide_client::proxy::{Access, CODES, Exposure, Proxy as Endpoint, ProxyError};
use confide_client::{Appraised, ClientBuilder, ClientError};
use serde::Serialize;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use zeroize::Zeroizing;

/// The longest token or key, in bytes. Keys of services have under 200; tokens that carry claims have a few thousand.
const MAX_SECRET: usize = 16 * 1024;
/// The longest that requests under way are waited for once the endpoint is told to end, in seconds. Answers take minutes; one
/// in which the guest says nothing for 10 of them has broken off.
const MAX_DRAIN_SECONDS: u32 = 3600;
/// How long they are waited for where nobody says otherwise, in seconds. Service managers wait for 30 to 90 before they kill.
const DRAIN_SECONDS: u32 = 20;

/// Serve an OpenAI-compatible endpoint on this machine that appraises first and then forwards
///
/// Point any OpenAI client at http://ADDRESS/v1. No byte of a request is forwarded to an instance before its evidence has been
/// accepted. With several instances a request goes to one that is attested to have its model, and to another one where that
/// is overloaded or gone. Refused evidence is answered with status 502, no attested instance with 503, each with the reason.
/// Requests that may have had an effect at a guest are not sent twice: a POST to any other path than those of inference is answered
/// with what the guest says, 503 and 429 among it. Status, verdicts, metrics and health are below /_confide/ (docs/proxy.md). When
/// it listens, it prints one JSON line to standard output.
///
/// SIGTERM or SIGINT ends it, once requests under way have ended or --drain-seconds are over; a second one ends it at once. It ends
/// with status 1 where requests were cut.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("instances").required(true).multiple(true).args(["upstream", "upstreams"])))]
pub(crate) struct Proxy {
    /// A guest, https://HOST:PORT; may be given several times
    #[arg(long, value_name = "URL")]
    upstream: Vec<String>,
    /// File that lists further guests, [[instance]] with url = "https://HOST:PORT" each; it is read again when it changes
    #[arg(long, value_name = "FILE")]
    upstreams: Option<PathBuf>,
    /// The most requests under way at one instance
    #[arg(long, value_name = "NUMBER", default_value_t = MAX_IN_FLIGHT, value_parser = at_least_one)]
    max_in_flight: usize,
    /// How many seconds requests under way may take after the endpoint is told to end, 3600 at most
    #[arg(long, value_name = "SECONDS", default_value_t = DRAIN_SECONDS, value_parser = drain_seconds)]
    drain_seconds: u32,
    /// Address to listen on, with port 0 on any free port
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:8787", value_parser = input::listen_address)]
    listen: SocketAddr,
    /// Listen on an address that other machines reach, with --token-file: prompts then cross the network in the clear
    #[arg(long)]
    danger_listen_anywhere: bool,
    /// File with a token that programs must send as their API key; guests are not shown it
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// File with the key that the guests' owner asks for, in the place of what programs send
    #[arg(long, value_name = "FILE")]
    upstream_key_file: Option<PathBuf>,
    #[command(flatten)]
    policy: PolicyFlags,
    #[command(flatten)]
    cross_check: CrossCheck,
    #[command(flatten)]
    endorser: EndorserFlags,
    #[command(flatten)]
    receipts: ReceiptFlags,
    #[command(flatten)]
    pub(crate) log: LogFlags,
    /// Folder to record to: every appraisal before a request rests on it, every receipt before the end of its answer is
    /// handed over; where they cannot be written, the endpoint ends. A folder that is not there yet is named with a slash
    /// at its end; any other path is a file, which gets the appraisals alone, 256 MiB of them at most
    #[arg(long, value_name = "DIR")]
    record: Option<PathBuf>,
}

/// What is printed when the endpoint listens.
#[derive(Serialize)]
struct Ready<'a> {
    event: &'a str,
    listen: SocketAddr,
    base_url: String,
    /// The first one.
    upstream: Option<String>,
    upstreams: Vec<String>,
}

impl Proxy {
    pub(crate) fn run(self) -> Result<Status, Failure> {
        let access = self.access()?;
        let policy = self.policy.load(Otherwise::Client, input::now())?;
        let clients = Clients::new(policy, &self.endorser, self.cross_check)?;
        let recorder = Arc::new(Recorder::new(self.record));
        recorder.check()?;
        let single = self.upstream.len() == 1 && self.upstreams.is_none();
        let (recording, receipts) = (Arc::clone(&recorder), self.receipts);
        let first = Arc::new(AtomicBool::new(single));
        let begin = move |endpoint: &confide_client::Endpoint| -> Result<ClientBuilder, ClientError> {
            let url = endpoint.to_string();
            let builder = recording.watch(receipts.watch(clients.begin(&url)?));
            Ok(builder.on_appraisal(shown(Arc::clone(&first), endpoint.authority().to_string())))
        };
        let mut builder = Fleet::builder(begin)
            .max_in_flight(self.max_in_flight)
            .on_event(|event| render::note(&event.to_string()));
        for url in &self.upstream {
            builder = builder.upstream(url).map_err(|error| guest::failure(&error))?;
        }
        if let Some(file) = self.upstreams {
            builder = builder.discovery(file);
        }
        let exposure = if self.danger_listen_anywhere { Exposure::Anybody } else { Exposure::Loopback };
        raise_open_files();
        let limit = Duration::from_secs(self.drain_seconds.into());
        guest::block_on(async move {
            let mut signals = Signals::listen()?;
            let fleet = builder.build().map_err(|error| unusable(&error))?;
            let endpoint = Endpoint::bind(fleet.clone(), access, self.listen, exposure).await;
            let endpoint = endpoint.map_err(|error| fault(&error))?;
            ready(&endpoint, &fleet);
            let recording = Arc::clone(&recorder);
            #[expect(clippy::async_yields_async, reason = "what limits the drain begins with it")]
            let end = async move {
                tokio::select! {
                    () = signals.next() => {}
                    // Nothing is forwarded that the record does not account for.
                    () = recording.lost() => {}
                }
                async move {
                    let draining = "waiting for requests under way; a second signal ends them";
                    let over = tokio::time::timeout(limit, signals.next());
                    let _ = render::with_progress(draining, over).await;
                }
            };
            let cut = endpoint.serve(end).await;
            recorder.check().map_err(Failure::at_work)?;
            match cut {
                0 => Ok(Status::Accepted),
                cut => Err(requests_cut(cut)),
            }
        })
    }

    fn access(&self) -> Result<Access, Failure> {
        let mut access = Access::open();
        if let Some(file) = &self.token_file {
            access = access.token(&token(file)?);
        }
        match &self.upstream_key_file {
            Some(file) => with_guests_key(access, file),
            None => Ok(access),
        }
    }
}

/// Parses how long a drain may take.
fn drain_seconds(text: &str) -> Result<u32, String> {
    let number = text.parse().ok().filter(|number| *number <= MAX_DRAIN_SECONDS);
    number.ok_or_else(|| format!("expected a whole number of seconds, {MAX_DRAIN_SECONDS} at most"))
}

/// Parses a number of things of which there must be some.
fn at_least_one(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| "expected a whole number, 1 or more".to_owned())
}

/// The token that programs must send.
pub(crate) fn token(file: &Path) -> Result<Zeroizing<String>, Failure> {
    secret(file, "token_file")
}

/// Has guests shown the key of a file.
pub(crate) fn with_guests_key(access: Access, file: &Path) -> Result<Access, Failure> {
    let code = "upstream_key_file";
    access
        .guests_key(&secret(file, code)?)
        .map_err(|error| Failure::new(Status::Malformed, code, format!("{}: {error}", file.display())))
}

/// The instances of a discovery file.
pub(crate) fn upstreams(file: &Path) -> Result<Vec<confide_client::Endpoint>, Failure> {
    read_discovery(file).map_err(|error| unusable(&error.into()))
}

/// The one word of a file.
fn secret(file: &Path, code: &'static str) -> Result<Zeroizing<String>, Failure> {
    let bytes = Zeroizing::new(input::read(file, MAX_SECRET)?);
    let text = std::str::from_utf8(&bytes).unwrap_or_default().trim();
    if text.is_empty() || bytes.len() > MAX_SECRET || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        let message = format!(
            "{}: expected one word of visible ASCII characters, in at most {MAX_SECRET} bytes",
            file.display()
        );
        return Err(Failure::new(Status::Malformed, code, message));
    }
    Ok(Zeroizing::new(text.to_owned()))
}

/// Lets this process have as many files open as it may: each request takes two connections.
fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // Where the system refuses, the limit stays as it is, and connections beyond it wait.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

fn ready(endpoint: &Endpoint, fleet: &Fleet) {
    let listen = endpoint.address();
    let upstreams: Vec<String> =
        fleet.instances().iter().map(|one| one.client().endpoint().to_string()).collect();
    let upstream = upstreams.first().cloned();
    let ready =
        Ready { event: "ready", listen, base_url: format!("http://{listen}/v1"), upstream, upstreams };
    let mut line = serde_json::to_vec(&ready).expect("strings and addresses always serialise");
    line.push(b'\n');
    let mut out = io::stdout().lock();
    let _ = out.write_all(&line).and_then(|()| out.flush());
}

/// Tells of every appraisal: of the first one of a single guest whole, of all others in a line.
fn shown(first: Arc<AtomicBool>, instance: String) -> impl Fn(&Appraised) + Send + Sync + 'static {
    move |appraised| {
        if first.swap(false, Ordering::Relaxed) {
            render::verdict_to_stderr(&appraised.result);
        } else {
            note(&instance, appraised);
        }
    }
}

fn note(instance: &str, appraised: &Appraised) {
    let result = &appraised.result;
    let simulated = if result.simulated { "SIMULATED " } else { "" };
    let outcome = if result.accepted() { "accepted" } else { "refused" };
    let code = result.code.map(|code| format!(" ({code})")).unwrap_or_default();
    let _ = writeln!(io::stderr(), "{} {instance} {simulated}{outcome}{code}", result.time);
}

/// The signals that end the program.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn listen() -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind).map_err(|error| Failure::new(Status::Internal, "signal_failed", error.to_string()))
        };
        Ok(Self { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    /// Waits for the next one.
    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

fn requests_cut(cut: usize) -> Failure {
    let were = if cut == 1 { "was" } else { "were" };
    let message = format!("{} {were} cut: still under way at the end", render::counted(cut, "request"));
    Failure::new(Status::Internal, "requests_cut", message)
}

fn fault(error: &ProxyError) -> Failure {
    let status = match error {
        ProxyError::NotLoopback(_) | ProxyError::TokenMissing(_) => Status::Usage,
        _ => Status::Internal,
    };
    let failure = Failure::new(status, error.code(), error.to_string());
    match CODES.iter().find(|(code, ..)| *code == error.code()) {
        Some((_, _, what_to_do)) => failure.hint(*what_to_do),
        None => failure,
    }
}

fn unusable(error: &FleetSetupError) -> Failure {
    let status = match error {
        FleetSetupError::Client(error) => return guest::failure(error),
        _ if error.code() == "config_unreadable" => Status::Internal,
        _ => Status::Usage,
    };
    let failure = Failure::new(status, error.code(), error.to_string());
    match error.what_to_do() {
        Some(what_to_do) => failure.hint(what_to_do),
        None => failure,
    }
}
