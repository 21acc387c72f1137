//! `confide-guest serve`.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::Duration;

use confide_attester::Nature;
use confide_attester::gpu::GpuError;
use confide_channel_guest::Acceptor;
use confide_egress::{BrokerView, Packets};
use confide_engine::process::{EngineProcess, close_to_debuggers};
use confide_service::Lifecycle;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::api::{Api, ModelFacts};
use crate::attestation::{Attestation, Staples};
use crate::boot::{self, BootError, Booted, Console, Watch, Way};
use crate::config::{self, Config};
use crate::confinement;
use crate::endorsements::{Prepared, Stapling};
use crate::error::GuestError;
use crate::gpu_staple::GpuStapling;
use crate::gpus::{Devices, Gpus};
use crate::marking;
use crate::receipts::{ReceiptFacts, Receipts};
use crate::server::{self, Server};
use crate::status::{self, Metrics, Source};
use crate::supervision::Drops;

/// For a process whose socket is closed to end by itself, and for requests in progress to be told that their engine is gone.
const EXIT_TIME: Duration = Duration::from_secs(1);
/// For calls of devices that are under way when the guest has to end at once.
const END_TIME: Duration = Duration::from_secs(10);

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
pub(crate) fn run(config: &Config) -> Result<(), GuestError> {
    if config.needs_boot() {
        return Err(GuestError::BootNeeded);
    }
    // The engine runs as the same user, and must not read keys out of this process.
    close_to_debuggers().map_err(GuestError::Closing)?;
    let memory = confinement::lock_memory();
    let collateral = config.endorsements.as_ref().map(Prepared::of).transpose()?;
    let gpus = Gpus::of(config)?;
    let attester = boot::attester(config)?;
    let (format, filter) = config.log.parse()?;
    marking::install(format, filter, attester.nature())?;
    if let Err(error) = memory {
        tracing::warn!(%error, "memory is NOT locked: keys and prompts may be swapped out");
    }
    let prepared = boot::prepare(config, attester, gpus)?;
    let status = status_socket(config)?;
    confinement::enter(config, Way::Serve)?;
    start(config, prepared, collateral, status, None)
}

/// The socket for root of this machine, where there is to be one. What is confined makes none any more.
pub(crate) fn status_socket(config: &Config) -> Result<Option<UnixListener>, GuestError> {
    config.status.as_ref().map(|table| status::listen(&table.socket)).transpose()
}

/// What only a guest has that `boot` brought up.
pub(crate) struct Attended<'a> {
    /// Where its steps are told.
    pub(crate) console: &'a mut Console,
    /// Who hears of devices that come, of changed rules and of the egress broker's end.
    pub(crate) watch: Watch,
}

/// Loads the model and serves until SIGTERM or SIGINT, or until what was attested is so no longer.
pub(crate) fn start(
    config: &Config,
    prepared: boot::Prepared,
    collateral: Option<Prepared>,
    status: Option<UnixListener>,
    attended: Option<Attended<'_>>,
) -> Result<(), GuestError> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(GuestError::Runtime)?;
    let outcome = runtime.block_on(async {
        let first = prepared.gpus.as_ref().and_then(Devices::endorsements);
        let (console, watch) = attended.map(|attended| (attended.console, attended.watch)).unzip();
        let mut signals = Signals::new()?;
        let booted = tokio::select! {
            booted = boot::finish(config, prepared, console) => booted?,
            // The GPUs are waited for where they are on their way, and then set back.
            () = signals.any() => return Ok(()),
        };
        let listener = listen(config.listen).await?;
        let collateral = match collateral {
            Some(collateral) => Some(collateral.begin(&booted.attester).await),
            None => None,
        };
        let begin = |(first, table): (_, &config::Gpus)| {
            GpuStapling::begin(first, table.endorsements.clone(), table.refresh_time())
        };
        let stapling = Staplings { collateral, gpus: first.zip(config.gpus.as_ref()).map(begin) };
        let source = Arc::new(source(&booted));
        if let Some(listener) = status {
            let listener = tokio::net::UnixListener::from_std(listener).map_err(GuestError::Runtime)?;
            let source = Arc::clone(&source);
            tokio::spawn(async move { status::answer(listener, &source).await });
        }
        serve(config, booted, stapling, source, (listener, signals, watch)).await
    });
    if outcome.is_err() {
        // A device that does not answer holds no end up.
        runtime.shutdown_timeout(END_TIME);
    }
    outcome
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
    source: Arc<Source>,
    (listener, mut signals, watch): (TcpListener, Signals, Option<Watch>),
) -> Result<(), GuestError> {
    let address = listener.local_addr().map_err(GuestError::Runtime)?;
    let lifecycle = Lifecycle::new();
    let (gpus_ended, mut gpus_end) = mpsc::channel(1);
    let server = Arc::new(Server {
        acceptor: Acceptor::new(&booted.keys)?,
        attestation: Attestation::new(&booted, stapling.staples(), gpus_ended, &config.limits),
        api: api(&booted, config, &lifecycle),
        source,
        metrics: Metrics::new(),
        limits: config.limits,
        lifecycle: lifecycle.clone(),
        requests: server::places(&config.limits),
    });
    confinement::close_calls(config)?;
    lifecycle.ready();
    announce(&booted, address)?;
    let mut serving = tokio::spawn(server::serve(listener, server));
    let outcome = tokio::select! {
        () = signals.any() => Ok(()),
        error = lost(&mut booted.engine) => Err(error),
        error = ended(&mut gpus_end) => Err(error),
        error = broken(watch) => Err(error.into()),
    };
    tracing::info!(requests = lifecycle.work(), "draining");
    lifecycle.drain();
    if tokio::time::timeout(patience(&outcome, &config.limits), &mut serving).await.is_err() {
        tracing::warn!(requests = lifecycle.work(), "ending with requests in progress");
        serving.abort();
    }
    outcome
}

/// How long requests in progress get. Who is asked to end lets them come to theirs. What was attested no longer holds where a device
/// came, or GPUs are not ready any more: nothing is computed then, however long the host would have it. Without an engine there is
/// only to say so.
fn patience(outcome: &Result<(), GuestError>, limits: &config::Limits) -> Duration {
    match outcome {
        Ok(()) => limits.drain_time(),
        Err(GuestError::EngineExited(_) | GuestError::EngineLost(_)) => EXIT_TIME,
        Err(_) => Duration::ZERO,
    }
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

/// Waits until a device comes that nobody has attested, or egress is no longer kept to its policy. Without a watch nobody hears
/// of it.
async fn broken(watch: Option<Watch>) -> BootError {
    match watch {
        Some(watch) => watch.ended().await,
        None => std::future::pending().await,
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

/// Who knows what left the guest.
fn source(booted: &Booted) -> Source {
    let (drops, claims) = (booted.drops.clone(), &booted.claims);
    let Drops { calls, packets, broker } = drops;
    Source::new(
        claims.egress.clone(),
        claims.changing.locked_at,
        move || calls.count(),
        move || packets.as_ref().map(Packets::status),
        move || broker.as_ref().map(BrokerView::status),
    )
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_alone_let_requests_come_to_their_end() {
        let limits = config::Limits::default();
        assert_eq!(patience(&Ok(()), &limits), limits.drain_time());
        let device = || "/devices/pci0000:00/0000:00:07.0".to_owned();
        for attested_no_longer in [
            GuestError::Boot(BootError::Hotplug { device: device() }),
            GuestError::Boot(BootError::Uevents(io::ErrorKind::UnexpectedEof.into())),
            GuestError::Gpus(GpuError::TooMany),
        ] {
            assert_eq!(patience(&Err(attested_no_longer), &limits), Duration::ZERO);
        }
        assert_eq!(patience(&Err(GuestError::EngineExited("signal: 9".to_owned())), &limits), EXIT_TIME);
    }
}
