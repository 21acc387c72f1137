//! `confide-broker serve`.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use confide_evidence::pem::base64_text;
use confide_release::MAX_REQUEST;
use confide_service::{Lifecycle, logging};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_rustls::TlsAcceptor;

use crate::broker::{Broker, DangerPolicies};
use crate::config::{Config, Limits};
use crate::error::BrokerError;
use crate::identity::Identity;
use crate::notes::COUNTS;
use crate::rate::{Allowance, Connections, Room};
use crate::server::{self, Readiness, Server};

/// How often the broker looks for rotations that are overdue.
const ALARMS: Duration = Duration::from_secs(60 * 60);
/// For so long the allowances of requests are.
const MINUTE: Duration = Duration::from_secs(60);

/// The one line on standard output, for tools: the broker serves.
#[derive(Serialize)]
struct Ready {
    event: &'static str,
    listen: String,
    /// The identity key: base64 of its DER SubjectPublicKeyInfo.
    identity: String,
}

/// Serves until SIGTERM or SIGINT.
pub(crate) fn run(config: &Config, danger: DangerPolicies) -> Result<(), BrokerError> {
    let (format, filter) = config.logging()?;
    logging::install(format, filter)?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(BrokerError::Runtime)?;
    runtime.block_on(async {
        let mut signals = Signals::new()?;
        tokio::select! {
            ready = prepare(config, danger) => {
                let (listener, server) = ready?;
                serve(config, listener, server, &mut signals).await
            }
            () = signals.any() => Ok(()),
        }
    })
}

/// Everything that can be wrong shows before the ready line.
async fn prepare(config: &Config, danger: DangerPolicies) -> Result<(TcpListener, Arc<Server>), BrokerError> {
    let limits = config.limits;
    let broker = Broker::open(config, danger).await?;
    if danger == DangerPolicies::Taken {
        tracing::warn!(
            "SIMULATED: volumes with danger policies are released to guests without hardware behind them"
        );
    }
    let tls = TlsAcceptor::from(Arc::new(broker.identity.server_config()?));
    let listen = |source| BrokerError::Listen { address: config.listen, source };
    let listener = TcpListener::bind(config.listen).await.map_err(listen)?;
    let server = Server {
        broker,
        tls,
        limits,
        lifecycle: Lifecycle::new(),
        requests: Allowance::new(limits.requests_per_minute.get(), MINUTE),
        failures: Allowance::new(limits.failures_per_minute.get(), MINUTE),
        connections: Connections::new(limits.connections_per_address.get(), limits.connections.get()),
        bodies: bodies(&limits),
        readiness: Readiness::default(),
    };
    Ok((listener, Arc::new(server)))
}

/// Bytes of bodies: for all what is configured, for an address a sixteenth of it, and for either one body at least.
fn bodies(limits: &Limits) -> Room {
    let largest = u64::try_from(MAX_REQUEST).unwrap_or(u64::MAX);
    let most = u64::from(limits.bodies_mib.get()).saturating_mul(1024 * 1024);
    Room::new((most / 16).max(largest), most.max(largest))
}

async fn serve(
    config: &Config,
    listener: TcpListener,
    server: Arc<Server>,
    signals: &mut Signals,
) -> Result<(), BrokerError> {
    let address = listener.local_addr().map_err(BrokerError::Runtime)?;
    let (lifecycle, store) = (server.lifecycle.clone(), server.broker.store.clone());
    lifecycle.ready();
    announce(&server.broker.identity, address)?;
    let watching = tokio::spawn(watch(Arc::clone(&server)));
    let serving = tokio::spawn(server::serve(listener, Arc::clone(&server)));
    signals.any().await;
    watching.abort();
    tracing::info!(requests = lifecycle.work(), "draining");
    lifecycle.drain();
    if tokio::time::timeout(config.limits.drain_time(), serving).await.is_err() {
        tracing::warn!(requests = lifecycle.work(), "ending with requests in progress");
    }
    note_counted(&server).await;
    store.close().await;
    Ok(())
}

/// Looks for what needs the owner's attention, as long as it is not ended.
async fn watch(server: Arc<Server>) {
    let mut alarms = tokio::time::interval(ALARMS);
    let mut counts = tokio::time::interval(COUNTS);
    loop {
        tokio::select! {
            _ = alarms.tick() => server.broker.tell_overdue().await,
            _ = counts.tick() => note_counted(&server).await,
        }
    }
}

/// What strangers were refused beyond what is noted by itself.
async fn note_counted(server: &Server) {
    if let Err(error) = server.broker.note_counted().await {
        tracing::error!(%error, "cannot note how much was refused");
    }
}

fn announce(identity: &Identity, address: SocketAddr) -> Result<(), BrokerError> {
    let identity = base64_text(identity.public().to_der().as_bytes());
    tracing::info!(%address, identity, "serving");
    let ready = Ready { event: "ready", listen: format!("https://{address}"), identity };
    let mut line = serde_json::to_vec(&ready).expect("strings always serialise");
    line.push(b'\n');
    let mut out = io::stdout().lock();
    out.write_all(&line).and_then(|()| out.flush()).map_err(BrokerError::Output)
}

/// What asks the broker to end.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Self, BrokerError> {
        let listen = |kind| signal(kind).map_err(BrokerError::Runtime);
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    async fn any(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
