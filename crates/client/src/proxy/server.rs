//! The listener.

use super::accepting::{Accepting, Refusal};
use super::access::Access;
use super::forward;
use crate::fleet::Fleet;
use crate::open_files;
use confide_service::{Lifecycle, Phase, Work, refusals};
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
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
/// The most bytes of a request's head, with the empty line at its end. Usual servers take 8 to 64 KiB.
const MAX_HEAD: usize = 64 * 1024;
/// How long the error of a request that is cut may take to be written.
const LAST_WORDS: Duration = Duration::from_secs(1);

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
    lifecycle: Lifecycle,
    /// Tells requests under way that they are cut.
    cut: watch::Sender<()>,
    uncut: watch::Receiver<()>,
}

impl Endpoint {
    /// Whether it finishes what it has and takes nothing new.
    pub(super) fn is_draining(&self) -> bool {
        self.lifecycle.phase() == Phase::Draining
    }

    /// Begins a request that a drain waits for; nothing while it drains.
    pub(super) fn begin(&self) -> Option<UnderWay> {
        let work = self.lifecycle.begin().ok()?;
        Some(UnderWay { _work: work, cut: Cut { told: self.uncut.clone(), waiting: None } })
    }
}

/// A request that a drain waits for, until this is dropped.
pub(super) struct UnderWay {
    _work: Work,
    pub(super) cut: Cut,
}

#[cfg(test)]
impl UnderWay {
    /// Of a request that nobody cuts.
    pub(super) fn alone() -> Self {
        let (lifecycle, (cut, told)) = (Lifecycle::new(), watch::channel(()));
        lifecycle.ready();
        // The sender outlives the process: without it every request would be cut.
        let _: &mut watch::Sender<()> = Box::leak(Box::new(cut));
        Self { _work: lifecycle.begin().unwrap(), cut: Cut { told, waiting: None } }
    }
}

/// Whether a request is cut, as the drain has taken too long.
pub(super) struct Cut {
    told: watch::Receiver<()>,
    waiting: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Cut {
    /// Whether it is.
    pub(super) fn is_cut(&self) -> bool {
        // The sender is gone with the endpoint alone.
        self.told.has_changed().unwrap_or(true)
    }

    /// Waits until it is.
    pub(super) fn wait(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut told = self.told.clone();
        async move {
            let _ = told.changed().await;
        }
    }

    /// The same in a poll, which is not to be repeated once it is ready.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.waiting.is_none() {
            self.waiting = Some(Box::pin(self.wait()));
        }
        self.waiting.as_mut().map_or(Poll::Pending, |waiting| waiting.as_mut().poll(cx))
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
        let (lifecycle, (cut, uncut)) = (Lifecycle::new(), watch::channel(()));
        lifecycle.ready();
        let started = Instant::now();
        let endpoint = Endpoint { fleet, access, local, started, lifecycle, cut, uncut };
        Ok(Self { listener, endpoint })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.endpoint.local
    }

    /// Serves until `shutdown` resolves, and then lets requests under way end until what it gave resolves, too: a limit, or a
    /// second signal. Meanwhile the endpoint says that it drains, and takes no further request. Gives how many requests were
    /// cut: a stream of events ends with an error event, a request without an answer is answered with an error, and any other
    /// answer breaks off.
    pub async fn serve<C>(self, shutdown: impl Future<Output = C> + Send) -> usize
    where
        C: Future<Output = ()> + Send,
    {
        let endpoint = Arc::new(self.endpoint);
        let (stop, stopped) = watch::channel(());
        let mut serving = Serving {
            listener: self.listener,
            endpoint: Arc::clone(&endpoint),
            slots: Arc::new(Semaphore::new(open_files::local_connections(MAX_CONNECTIONS))),
            stopped,
            connections: JoinSet::new(),
            accepting: Accepting::default(),
        };
        let mut limit = std::pin::pin!(serving.until(shutdown).await);
        endpoint.lifecycle.drain();
        let drain = async {
            tokio::select! {
                biased;
                () = endpoint.lifecycle.drained() => Drain::Over,
                () = &mut limit => Drain::Cut,
            }
        };
        let drain = serving.until(drain).await;
        let Serving { listener, mut connections, .. } = serving;
        drop(listener);
        drop(stop);
        let ended = async { while connections.join_next().await.is_some() {} };
        let cut = match drain {
            Drain::Over => {
                // Programs may still be reading the ends of their answers.
                tokio::select! {
                    () = ended => {}
                    () = limit => {}
                }
                0
            }
            Drain::Cut => {
                let open = endpoint.lifecycle.work();
                endpoint.cut.send_replace(());
                let _ = tokio::time::timeout(LAST_WORDS, ended).await;
                open
            }
        };
        while connections.try_join_next().is_some() {}
        cut.max(connections.len())
    }
}

/// How a drain ends.
enum Drain {
    /// No request is under way any more.
    Over,
    /// Requests that are still under way are to end now.
    Cut,
}

/// The listener at work.
struct Serving {
    listener: TcpListener,
    endpoint: Arc<Endpoint>,
    slots: Arc<Semaphore>,
    /// Tells connections to end with the request that they have.
    stopped: watch::Receiver<()>,
    connections: JoinSet<()>,
    accepting: Accepting,
}

impl Serving {
    /// Takes connections until `end` resolves.
    async fn until<T>(&mut self, end: impl Future<Output = T>) -> T {
        let mut end = std::pin::pin!(end);
        loop {
            while self.connections.try_join_next().is_some() {}
            let slot = Arc::clone(&self.slots).acquire_owned();
            let accepted = async {
                let slot = slot.await;
                (self.listener.accept().await, slot)
            };
            tokio::select! {
                end = &mut end => return end,
                (accepted, slot) = accepted => match accepted {
                    Ok((stream, _)) => {
                        self.accepting.accepted();
                        let endpoint = Arc::clone(&self.endpoint);
                        let serving = serve_connection(stream, endpoint, self.stopped.clone());
                        self.connections.spawn(async move {
                            serving.await;
                            drop(slot);
                        });
                    }
                    Err(error) => {
                        let Refusal { wait, is_first } = self.accepting.refused();
                        if is_first {
                            warn!(%error, "no connection is accepted");
                        }
                        tokio::time::sleep(wait).await;
                    }
                },
            }
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
        // Without it, a head that ends beyond the limit passes where its end is read together with the rest.
        .max_header_size(MAX_HEAD)
        // The pieces of a stream that are there together are written together, however small they are.
        .writev(false)
        .serve_connection(TokioIo::new(stream), service);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        // The sender is dropped, never sent to.
        _ = stop.changed() => {
            Pin::new(&mut connection).graceful_shutdown();
            (&mut connection).await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "local connection ended");
        refusals::conclude(connection.into_parts(), &error).await;
    }
}
