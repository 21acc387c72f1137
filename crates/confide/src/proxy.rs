//! `confide proxy`: an OpenAI-compatible endpoint on this machine that attests first and then forwards.

use crate::cross_check::CrossCheck;
use crate::endorser::EndorserFlags;
use crate::guest::{self, Clients, ReceiptFlags};
use crate::input::{self, Otherwise, PolicyFlags};
use crate::recorder::Recorder;
use crate::render;
use crate::status::{Failure, Status};
use confide_client::fleet::{Fleet, FleetSetupError, MAX_IN_FLIGHT};
use confide_client::proxy::{Access, CODES, Exposure, Proxy as Endpoint, ProxyError};
use confide_client::{Appraised, ClientBuilder, ClientError};
use serde::Serialize;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::signal::unix::{SignalKind, signal};
use zeroize::Zeroizing;

/// The longest token or key, in bytes. Keys of services have under 200; tokens that carry claims have a few thousand.
const MAX_SECRET: usize = 16 * 1024;

/// Serve an OpenAI-compatible endpoint on this machine that appraises first and then forwards
///
/// Point any OpenAI client at http://ADDRESS/v1. No byte of a request is forwarded to an instance before its evidence has been
/// accepted. With several instances a request goes to one that is attested to have its model, and to another one where that
/// is overloaded or gone. Refused evidence is answered with status 502, no attested instance with 503, each with the reason.
/// Status, verdicts, metrics and health are below /_confide/ (docs/proxy.md). When it listens, it prints one JSON line to
/// standard output.
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
        guest::block_on(async move {
            let shutdown = shutdown()?;
            let fleet = builder.build().map_err(|error| unusable(&error))?;
            let endpoint = Endpoint::bind(fleet.clone(), access, self.listen, exposure).await;
            let endpoint = endpoint.map_err(|error| fault(&error))?;
            ready(&endpoint, &fleet);
            let end = async {
                tokio::select! {
                    () = shutdown => {}
                    // Nothing is forwarded that the record does not account for.
                    () = recorder.lost() => {}
                }
            };
            endpoint.serve(end).await;
            recorder.check().map_err(Failure::at_work)?;
            Ok(Status::Accepted)
        })
    }

    fn access(&self) -> Result<Access, Failure> {
        let mut access = Access::open();
        if let Some(file) = &self.token_file {
            access = access.token(&secret(file, "token_file")?);
        }
        if let Some(file) = &self.upstream_key_file {
            let code = "upstream_key_file";
            access = access.guests_key(&secret(file, code)?).map_err(|error| {
                Failure::new(Status::Malformed, code, format!("{}: {error}", file.display()))
            })?;
        }
        Ok(access)
    }
}

/// Parses a number of things of which there must be some.
fn at_least_one(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| "expected a whole number, 1 or more".to_owned())
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

fn shutdown() -> Result<impl Future<Output = ()> + Send, Failure> {
    let listen = |kind| {
        signal(kind).map_err(|error| Failure::new(Status::Internal, "signal_failed", error.to_string()))
    };
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
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
