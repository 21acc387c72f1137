//! `confide-guest serve`.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use confide_attester::Nature;
use confide_channel_guest::Acceptor;
use confide_engine::process::{EngineProcess, close_to_debuggers};
use confide_service::Lifecycle;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::api::{Api, ModelFacts};
use crate::attestation::Attestation;
use crate::boot::{self, Booted};
use crate::config::Config;
use crate::endorsements::{Prepared, Stapling};
use crate::error::GuestError;
use crate::marking;
use crate::server::{self, Server};

/// For a process whose socket is closed to end by itself.
const EXIT_TIME: Duration = Duration::from_secs(1);

/// The one line on standard output, for tools: the guest serves.
#[derive(Serialize)]
struct Ready<'a> {
    event: &'static str,
    listen: String,
    /// `tdx` or `SIMULATED`.
    platform: &'static str,
    model: &'a str,
    /// SHA-256 of the model manifest.
    manifest: String,
}

/// Boots and serves until SIGTERM or SIGINT.
pub(crate) fn run(config: Config) -> Result<(), GuestError> {
    // The engine runs as the same user, and must not read keys out of this process.
    close_to_debuggers().map_err(GuestError::Closing)?;
    let prepared = config.endorsements.as_ref().map(Prepared::of).transpose()?;
    let attester = boot::attester(&config)?;
    let (format, filter) = config.log.parse()?;
    marking::install(format, filter, attester.nature())?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(GuestError::Runtime)?;
    runtime.block_on(async {
        let booted = boot::boot(&config, attester).await?;
        let listener = listen(config.listen).await?;
        let stapling = match prepared {
            Some(prepared) => Some(prepared.begin(&booted.attester).await),
            None => None,
        };
        serve(&config, booted, stapling, listener).await
    })
}

async fn listen(address: SocketAddr) -> Result<TcpListener, GuestError> {
    TcpListener::bind(address).await.map_err(|source| GuestError::Listen { address, source })
}

async fn serve(
    config: &Config,
    mut booted: Booted,
    stapling: Option<Stapling>,
    listener: TcpListener,
) -> Result<(), GuestError> {
    let address = listener.local_addr().map_err(GuestError::Runtime)?;
    let lifecycle = Lifecycle::new();
    let server = Arc::new(Server {
        acceptor: Acceptor::new(&booted.keys)?,
        attestation: Attestation::new(&booted, stapling.as_ref().map(Stapling::staple), &config.limits),
        api: api(&booted, config, &lifecycle),
        limits: config.limits,
        lifecycle: lifecycle.clone(),
    });
    let mut terminate = signal(SignalKind::terminate()).map_err(GuestError::Runtime)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(GuestError::Runtime)?;
    lifecycle.ready();
    announce(&booted, address)?;
    let serving = tokio::spawn(server::serve(listener, server));
    let outcome = tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        error = lost(&mut booted.engine) => Err(error),
    };
    tracing::info!(requests = lifecycle.work(), "draining");
    lifecycle.drain();
    let patience = config.limits.drain_time();
    if tokio::time::timeout(patience, serving).await.is_err() {
        tracing::warn!(requests = lifecycle.work(), "ending with requests in progress");
    }
    outcome
}

/// Waits until there is no engine any more: its process ended, broke the protocol, or hangs.
async fn lost(engine: &mut EngineProcess) -> GuestError {
    let failure = engine.client().closed().await;
    // A process that ended is told apart by its status, which comes at about the same time.
    match tokio::time::timeout(EXIT_TIME, engine.exited()).await {
        Ok(Ok(status)) => GuestError::EngineExited(status.to_string()),
        Ok(Err(_)) | Err(_) => GuestError::EngineLost(failure),
    }
}

fn api(booted: &Booted, config: &Config, lifecycle: &Lifecycle) -> Api {
    let engine = booted.engine.client().clone();
    let model = ModelFacts {
        name: booted.claims.model.name.clone(),
        created: boot::now(),
        manifest: booted.claims.model.manifest.0,
        context_tokens: engine.info().context_tokens,
    };
    Api::new(engine, model, config.limits.api(), lifecycle.clone())
}

fn announce(booted: &Booted, address: SocketAddr) -> Result<(), GuestError> {
    let model = &booted.claims.model;
    let platform = match booted.attester.nature() {
        Nature::Hardware => "tdx",
        Nature::Simulated => "SIMULATED",
    };
    let listen = format!("https://{address}");
    tracing::info!(%address, model = model.name, manifest = %model.manifest, platform, "serving");
    let ready =
        Ready { event: "ready", listen, platform, model: &model.name, manifest: model.manifest.to_string() };
    let mut line = serde_json::to_vec(&ready).expect("strings always serialise");
    line.push(b'\n');
    let mut out = io::stdout().lock();
    out.write_all(&line).and_then(|()| out.flush()).map_err(GuestError::Output)
}
