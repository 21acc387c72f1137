//! `confide proxy`: an OpenAI-compatible endpoint on this machine that attests first and then forwards.

use crate::cross_check::CrossCheck;
use crate::endorser::EndorserFlags;
use crate::guest::{self, ReceiptFlags};
use crate::input::{self, Otherwise, PolicyFlags};
use crate::recorder::Recorder;
use crate::render;
use crate::status::{Failure, Status};
use confide_client::proxy::{CODES, Exposure, Proxy as Endpoint, ProxyError};
use confide_client::{Appraised, Client};
use serde::Serialize;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::signal::unix::{SignalKind, signal};

/// Serve an OpenAI-compatible endpoint on this machine that appraises first and then forwards
///
/// Point any OpenAI client at http://ADDRESS/v1. No byte of a request is forwarded before the guest's evidence has been
/// accepted; while it is refused, requests are answered with status 502 and the reason. The verdict is at
/// /confide/verdict. When it listens, it prints one JSON line to standard output.
#[derive(Debug, clap::Args)]
pub(crate) struct Proxy {
    /// The guest, https://HOST:PORT
    #[arg(long, value_name = "URL")]
    upstream: String,
    /// Address to listen on, with port 0 on any free port
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:8787", value_parser = input::listen_address)]
    listen: SocketAddr,
    /// Listen on an address that other machines reach: prompts then cross the network in the clear
    #[arg(long)]
    danger_listen_anywhere: bool,
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
    /// at its end; any other path is a file, which gets the appraisals alone
    #[arg(long, value_name = "DIR")]
    record: Option<PathBuf>,
}

/// What is printed when the endpoint listens.
#[derive(Serialize)]
struct Ready<'a> {
    event: &'a str,
    listen: SocketAddr,
    base_url: String,
    upstream: String,
}

impl Proxy {
    pub(crate) fn run(self) -> Result<Status, Failure> {
        let policy = self.policy.load(Otherwise::Client, input::now())?;
        let recorder = Recorder::new(self.record);
        recorder.check()?;
        let builder = guest::client(&self.upstream, policy, &self.endorser, self.cross_check)?;
        let builder = recorder.watch(self.receipts.watch(builder));
        let client = builder.on_appraisal(note_renewals()).build();
        let exposure = if self.danger_listen_anywhere { Exposure::Anybody } else { Exposure::Loopback };
        guest::block_on(async move {
            let endpoint =
                Endpoint::bind(client.clone(), self.listen, exposure).await.map_err(|error| fault(&error))?;
            let shutdown = shutdown()?;
            ready(&endpoint, &client);
            let first = tokio::spawn(first_verdict(client));
            let end = async {
                tokio::select! {
                    () = shutdown => {}
                    // Nothing is forwarded that the record does not account for.
                    () = recorder.lost() => {}
                }
            };
            endpoint.serve(end).await;
            first.abort();
            recorder.check()?;
            Ok(Status::Accepted)
        })
    }
}

fn ready(endpoint: &Endpoint, client: &Client) {
    let listen = endpoint.address();
    let upstream = client.endpoint().to_string();
    let ready = Ready { event: "ready", listen, base_url: format!("http://{listen}/v1"), upstream };
    let mut line = serde_json::to_vec(&ready).expect("strings and addresses always serialise");
    line.push(b'\n');
    let mut out = io::stdout().lock();
    let _ = out.write_all(&line).and_then(|()| out.flush());
}

/// Attests before the first request, so that the person who started the endpoint sees the verdict.
async fn first_verdict(client: Client) {
    match client.verdict().await {
        Ok(verdict) => render::verdict_to_stderr(verdict.result()),
        Err(error) => {
            if let Err(failure) = guest::report(error) {
                render::failure(&failure);
            }
        }
    }
}

/// Tells of every appraisal but the first, which [`first_verdict`] shows whole.
fn note_renewals() -> impl Fn(&Appraised) + Send + Sync + 'static {
    let shown = AtomicBool::new(false);
    move |appraised| {
        if shown.swap(true, Ordering::Relaxed) {
            note(appraised);
        }
    }
}

fn note(appraised: &Appraised) {
    let result = &appraised.result;
    let simulated = if result.simulated { "SIMULATED " } else { "" };
    let outcome = if result.accepted() { "accepted" } else { "refused" };
    let code = result.code.map(|code| format!(" ({code})")).unwrap_or_default();
    let _ = writeln!(io::stderr(), "{} {simulated}{outcome}{code}", result.time);
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
        ProxyError::NotLoopback(_) => Status::Usage,
        _ => Status::Internal,
    };
    let failure = Failure::new(status, error.code(), error.to_string());
    match CODES.iter().find(|(code, ..)| *code == error.code()) {
        Some((_, _, what_to_do)) => failure.hint(*what_to_do),
        None => failure,
    }
}
