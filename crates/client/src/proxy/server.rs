//! The listener.

use super::accepting::{Accepting, Refusal};
use super::access::Access;
use super::forward;
use crate::fleet::Fleet;
use crate::open_files;
use confide_service::refusals;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tracing::{debug, warn};

/// The most local connections at once, or a third of the files that the process may have open; further ones wait. Programs
/// of one user open a few dozen, those of a team behind one endpoint a thousand.
const MAX_CONNECTIONS: usize = 2048;
/// How long a local program may take over a request's head.
const HEAD_LIMIT: Duration = Duration::from_secs(30);
/// The most bytes of a request's head. Usual servers take 8 to 64 KiB.
const MAX_HEAD: usize = 64 * 1024;
/// How long open requests may take after the shutdown was asked for.
const DRAIN_LIMIT: Duration = Duration::from_secs(20);

/// Who can reach the listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposure {
    /// Programs of this machine alone: the address must be a loopback address.
    Loopback,
    /// Whoever reaches the address. Prompts then cross a network in the clear.
    Anybody,
}

/// Why a proxy does not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ProxyError {
    /// The address is reachable from elsewhere and that was not asked for.
    #[error("{0} is no loopback address: prompts would cross a network in the clear")]
    NotLoopback(SocketAddr),
    /// Whoever reaches the address could use the endpoint.
    #[error("{0} is reachable from other machines, and no token is asked for")]
    TokenMissing(SocketAddr),
    /// The system does not give the address.
    #[error("listening on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// A local endpoint in front of a [`Fleet`].
#[derive(Debug)]
pub struct Proxy {
    listener: TcpListener,
    endpoint: Endpoint,
}

/// What every request to the endpoint is answered from.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) fleet: Fleet,
    pub(super) access: Access,
    /// Where it listens.
    pub(super) local: SocketAddr,
    pub(super) started: Instant,
    draining: AtomicBool,
}

impl Endpoint {
    /// Whether it finishes what it has and takes nothing new.
    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }
}

impl ProxyError {
    /// A stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotLoopback(_) => "listen_not_loopback",
            Self::TokenMissing(_) => "token_missing",
            Self::Listen { .. } => "listen_failed",
        }
    }
}

impl Proxy {
    /// Listens.
    ///
    /// # Errors
    /// [`ProxyError`].
    pub async fn bind(
        fleet: Fleet,
        access: Access,
        address: SocketAddr,
        exposure: Exposure,
    ) -> Result<Self, ProxyError> {
        match (address.ip().is_loopback(), exposure) {
            (false, Exposure::Loopback) => return Err(ProxyError::NotLoopback(address)),
            (false, Exposure::Anybody) if !access.is_guarded() => {
                return Err(ProxyError::TokenMissing(address));
            }
            _ => {}
        }
        let failed = |source| ProxyError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let local = listener.local_addr().map_err(failed)?;
        let (started, draining) = (Instant::now(), AtomicBool::new(false));
        Ok(Self { listener, endpoint: Endpoint { fleet, access, local, started, draining } })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.endpoint.local
    }

    /// Serves until `shutdown` resolves, then lets open requests end.
    pub async fn serve(self, shutdown: impl Future<Output = ()> + Send) {
        let endpoint = Arc::new(self.endpoint);
        let slots = Arc::new(Semaphore::new(open_files::local_connections(MAX_CONNECTIONS)));
        let (stop, stopped) = watch::channel(());
        let (mut connections, mut accepting) = (JoinSet::new(), Accepting::default());
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            while connections.try_join_next().is_some() {}
            let slot = Arc::clone(&slots).acquire_owned();
            let accepted = async {
                let slot = slot.await;
                (self.listener.accept().await, slot)
            };
            tokio::select! {
                () = &mut shutdown => break,
                (accepted, slot) = accepted => match accepted {
                    Ok((stream, _)) => {
                        accepting.accepted();
                        let serving = serve_connection(stream, Arc::clone(&endpoint), stopped.clone());
                        connections.spawn(async move {
                            serving.await;
                            drop(slot);
                        });
                    }
                    Err(error) => {
                        let Refusal { wait, is_first } = accepting.refused();
                        if is_first {
                            warn!(%error, "no connection is accepted");
                        }
                        tokio::time::sleep(wait).await;
                    }
                },
            }
        }
        endpoint.draining.store(true, Ordering::Relaxed);
        drop(self.listener);
        drop(stop);
        let drained = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN_LIMIT, drained).await.is_err() {
            warn!(limit_s = DRAIN_LIMIT.as_secs(), "requests were still open");
        }
    }
}

async fn serve_connection(stream: TcpStream, endpoint: Arc<Endpoint>, mut stop: watch::Receiver<()>) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request: Request<Incoming>| {
        let endpoint = Arc::clone(&endpoint);
        async move { Ok::<_, Infallible>(forward::answer(&endpoint, request).await) }
    });
    let (stream, service) = refusals::answer(stream, service);
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .max_buf_size(MAX_HEAD)
        // The pieces of a stream that are there together are written together, however small they are.
        .writev(false)
        .serve_connection(TokioIo::new(stream), service);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        // The sender is dropped, never sent to.
        _ = stop.changed() => {
            std::pin::Pin::new(&mut connection).graceful_shutdown();
            (&mut connection).await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "local connection ended");
        refusals::conclude(connection.into_parts(), &error).await;
    }
}
