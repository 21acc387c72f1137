//! `confide-guest serve`.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;

use confide_attester::Nature;
use confide_channel_guest::Acceptor;
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
        status = booted.engine.exited() => Err(GuestError::EngineExited(match status {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        })),
    };
    tracing::info!(requests = lifecycle.work(), "draining");
    lifecycle.drain();
    let patience = config.limits.drain_time();
    if tokio::time::timeout(patience, serving).await.is_err() {
        tracing::warn!(requests = lifecycle.work(), "ending with requests in progress");
    }
    outcome
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
