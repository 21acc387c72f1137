//! `confide-guest serve`.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use confide_attester::Nature;
use confide_attester::gpu::GpuError;
use confide_channel_guest::Acceptor;
use confide_engine::process::{EngineProcess, close_to_debuggers};
use confide_service::Lifecycle;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::api::{Api, ModelFacts};
use crate::attestation::{Attestation, Staples};
use crate::boot::{self, Booted};
use crate::config::{self, Config};
use crate::endorsements::{Prepared, Stapling};
use crate::error::GuestError;
use crate::gpu_endorsements::GpuStapling;
use crate::gpus::Gpus;
use crate::marking;
use crate::receipts::{ReceiptFacts, Receipts};
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
    let gpus = Gpus::of(&config)?;
    let attester = boot::attester(&config)?;
    let (format, filter) = config.log.parse()?;
    marking::install(format, filter, attester.nature())?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(GuestError::Runtime)?;
    runtime.block_on(async {
        let first = gpus.as_ref().map(Gpus::endorsements);
        let mut signals = Signals::new()?;
        let booted = tokio::select! {
            booted = boot::boot(&config, attester, gpus) => booted?,
            // The GPUs are waited for where they are on their way, and then set back.
            () = signals.any() => return Ok(()),
        };
        let listener = listen(config.listen).await?;
        let collateral = match prepared {
            Some(prepared) => Some(prepared.begin(&booted.attester).await),
            None => None,
        };
        let begin = |(first, table): (_, &config::Gpus)| {
            GpuStapling::begin(first, table.endorsements.clone(), table.refresh_time())
        };
        let stapling = Staplings { collateral, gpus: first.zip(config.gpus.as_ref()).map(begin) };
        serve(&config, booted, stapling, (listener, signals)).await
    })
}

/// What asks the guest to end. Without somebody who listens they would end it at once, and leave its GPUs ready.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Self, GuestError> {
        let listen = |kind| signal(kind).map_err(GuestError::Runtime);
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    async fn any(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// What is kept fresh while the guest serves.
struct Staplings {
    collateral: Option<Stapling>,
    gpus: Option<GpuStapling>,
}

impl Staplings {
    fn staples(&self) -> Staples {
        Staples {
            collateral: self.collateral.as_ref().map(Stapling::staple),
            gpus: self.gpus.as_ref().map(GpuStapling::staple),
        }
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener, GuestError> {
    TcpListener::bind(address).await.map_err(|source| GuestError::Listen { address, source })
}

async fn serve(
    config: &Config,
    mut booted: Booted,
    stapling: Staplings,
    (listener, mut signals): (TcpListener, Signals),
) -> Result<(), GuestError> {
    let address = listener.local_addr().map_err(GuestError::Runtime)?;
    let lifecycle = Lifecycle::new();
    let (gpus_ended, mut gpus_end) = mpsc::channel(1);
    let server = Arc::new(Server {
        acceptor: Acceptor::new(&booted.keys)?,
        attestation: Attestation::new(&booted, stapling.staples(), gpus_ended, &config.limits),
        api: api(&booted, config, &lifecycle),
        limits: config.limits,
        lifecycle: lifecycle.clone(),
        requests: server::places(&config.limits),
    });
    lifecycle.ready();
    announce(&booted, address)?;
    let serving = tokio::spawn(server::serve(listener, server));
    let outcome = tokio::select! {
        () = signals.any() => Ok(()),
        error = lost(&mut booted.engine) => Err(error),
        error = ended(&mut gpus_end) => Err(error),
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

/// Waits until the GPUs are of no use any more. They are not ready then, and claims cannot change while keys live.
async fn ended(gpus: &mut mpsc::Receiver<GpuError>) -> GuestError {
    match gpus.recv().await {
        Some(error) => GuestError::Gpus(error),
        // Nobody is left who asks them.
        None => std::future::pending().await,
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
    let receipts = receipts(booted);
    #[cfg(feature = "danger-simulator")]
    if let Some(answers) = config.fixed_answers() {
        return Api::new(answers, model, config.limits.api(), receipts, lifecycle.clone());
    }
    Api::new(engine, model, config.limits.api(), receipts, lifecycle.clone())
}

fn receipts(booted: &Booted) -> Receipts {
    let keys = Arc::clone(&booted.keys);
    let facts = ReceiptFacts {
        boot_id: booted.boot_id,
        key_set: keys.key_set().digest(),
        manifest: booted.claims.model.manifest,
        configuration: booted.claims.configuration,
    };
    Receipts::new(facts, move |input| keys.sign_receipt(input))
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
