//! The broker: listeners, phases, and an end to connections that outlive theirs.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use confide_policy::egress::{Destination, EgressPolicy, Host, Phase, Transport};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Duration, sleep};

use crate::exit::Exit;
use crate::gate::Rules;
use crate::names::Names;
use crate::network::Network;
use crate::owner::Owners;
use crate::record::{Asker, Reason, Records, RuleUse, Status, Way};
use crate::resolver::Resolver;
use crate::session::Session;
use crate::tls::{HTTP_1_1, Roots};

/// The most connections of the workload's at a time. Each takes two descriptors and up to 100 KiB.
pub(crate) const MAX_CONNECTIONS: usize = 12 * 1024;
/// How long a connection may be open without a byte to or from the outside. A model may think for minutes.
const IDLE_LIMIT: Duration = Duration::from_secs(15 * 60);
/// How long a listener rests that cannot accept, for want of descriptors.
const ACCEPT_REST: Duration = Duration::from_millis(100);
/// The largest question of the workload's, in bytes (RFC 1035 section 4.2.1).
const MAX_QUESTION: usize = 512;
/// Where the workload's questions are meant to go: whatever the server is, the kernel leads them here by this port.
const NAMES_PORT: u16 = 53;

/// Tells where a connection was meant to go before the kernel led it to the listener.
pub type OriginalDestination = fn(&TcpStream) -> io::Result<SocketAddr>;

/// The workload's only way out.
///
/// It begins in the phase `bootstrap`; [`Broker::lock`] ends that for good. Clones are the same broker.
#[derive(Clone, Debug)]
pub struct Broker(Arc<Shared>);

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Shared {
    policy: Arc<EgressPolicy>,
    rules: watch::Sender<Arc<Rules>>,
    /// Ends with the last that goes by the rules of the phase `bootstrap`.
    bootstrap: watch::Receiver<()>,
    names: Names,
    places: Arc<Semaphore>,
    /// Who knows whose the workload's sockets are, where somebody does.
    owners: Option<Owners>,
    pub(crate) exit: Exit,
    pub(crate) records: Records,
}

impl Broker {
    /// A broker that lets through what the policy allows, and takes the word of `roots` for who a server is: of destinations whose
    /// TLS it originates, and of the policy's DNS upstreams.
    #[must_use]
    pub fn new(policy: Arc<EgressPolicy>, roots: &Roots) -> Self {
        Self::on(policy, roots, Network::System, None)
    }

    /// As [`Broker::new`], whose records name the users that `owners` tells.
    pub(crate) fn on(
        policy: Arc<EgressPolicy>,
        roots: &Roots,
        network: Network,
        owners: Option<Owners>,
    ) -> Self {
        let resolver = Resolver::new(policy.dns(), &network, roots);
        let rules = Rules::new(Arc::clone(&policy), Phase::Bootstrap);
        Self(Arc::new(Shared {
            bootstrap: rules.in_use(),
            rules: watch::Sender::new(rules),
            names: Names::default(),
            places: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
            owners,
            records: Records::new(policy.log()),
            exit: Exit { resolver, network, tls: roots.config(HTTP_1_1) },
            policy,
        }))
    }

    /// Enters the phase `serving`, from which there is no way back. Connections that were opened before end, whether or not a
    /// rule of the new phase is for them, and what is counted begins anew. Once this returns none of them carries a byte.
    pub async fn lock(&self) {
        self.0.rules.send_if_modified(|rules| {
            let locks = rules.phase() == Phase::Bootstrap;
            if locks {
                *rules = Rules::new(Arc::clone(&self.0.policy), Phase::Serving);
            }
            locks
        });
        // Nothing is ever sent, so this waits until nobody is left to send.
        let _ = self.0.bootstrap.clone().changed().await;
    }

    /// The phase.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.0.rules.borrow().phase()
    }

    /// What was dropped and let through so far.
    #[must_use]
    pub fn status(&self) -> Status {
        let counted = |used: RuleUse| RuleUse { dropped: self.0.records.of_rule(&used.rule), ..used };
        let rules = self.0.rules.borrow().uses().into_iter().map(counted).collect();
        Status { rules, ..self.0.records.status() }
    }

    /// Serves the workload as an HTTP proxy, for good: CONNECT and requests with an absolute target.
    pub async fn proxy(&self, listener: TcpListener) {
        loop {
            let Ok((stream, from)) = listener.accept().await else {
                sleep(ACCEPT_REST).await;
                continue;
            };
            let uid = self.owner(from, stream.local_addr().into_iter());
            self.begin(stream, Asker { way: Way::Proxy, uid }, Session::proxy);
        }
    }

    /// Serves one connection to the proxy, until it ends.
    pub(crate) async fn proxied<S>(&self, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let rules = Arc::clone(&self.0.rules.borrow());
        let asker = Asker { way: Way::Proxy, uid: None };
        Session::new(Arc::clone(&self.0), rules, asker).proxy(stream).await;
    }

    /// Serves connections of the workload's that the kernel led here, for good. `original` tells where each was meant to go: to
    /// a made-up address of [`Broker::names`], or to an address that a rule may be for.
    pub async fn transparent(&self, listener: TcpListener, original: OriginalDestination) {
        loop {
            let Ok((stream, from)) = listener.accept().await else {
                sleep(ACCEPT_REST).await;
                continue;
            };
            let meant = original(&stream);
            // The workload's end speaks with whom it meant. Who came here without being led meant the listener.
            let uid = self.owner(from, meant.iter().copied().chain(stream.local_addr()));
            let asker = Asker { way: Way::Transparent, uid };
            let Ok(meant) = meant else {
                self.0.records.dropped(Reason::DestinationUnknown, &"", None, asker);
                continue;
            };
            let destination = self.meant(meant);
            self.begin(stream, asker, |session, stream| session.transparent(stream, destination));
        }
    }

    /// Answers the workload's DNS questions over UDP, for good: allowed names with made-up addresses, others not.
    pub async fn names(&self, socket: UdpSocket) {
        // One byte more shows what is too long.
        let mut buffer = [0; MAX_QUESTION + 1];
        loop {
            let Ok((length, from)) = socket.recv_from(&mut buffer).await else {
                sleep(ACCEPT_REST).await;
                continue;
            };
            let message =
                buffer.get(..length).filter(|message| message.len() <= MAX_QUESTION).unwrap_or_default();
            let rules = Arc::clone(&self.0.rules.borrow());
            let (reply, refusal) = self.0.names.answer(message, &rules);
            if let Some(refusal) = refusal {
                let asker = Asker { way: Way::Names, uid: self.asked_by(from) };
                self.0.records.dropped(refusal.reason, &refusal.destination, refusal.rule, asker);
            }
            if let Some(reply) = reply {
                // The workload asks again where a reply is lost.
                let _ = socket.send_to(&reply, from).await;
            }
        }
    }

    /// The user of the connection that came from here, and was meant for the first of these of which the kernel knows one.
    fn owner(&self, from: SocketAddr, mut meant: impl Iterator<Item = SocketAddr>) -> Option<u32> {
        let owners = self.0.owners.as_ref()?;
        meant.find_map(|meant| owners.user(Transport::Tcp, from, meant))
    }

    /// The user of the question that came from here. Where every address is local, a question over IPv4 comes from the address of the
    /// server that it is for, by which a connected socket is known; one over IPv6 does not.
    fn asked_by(&self, from: SocketAddr) -> Option<u32> {
        let owners = self.0.owners.as_ref()?;
        owners.user(Transport::Udp, from, SocketAddr::new(from.ip(), NAMES_PORT))
    }

    /// Who is meant by an address.
    fn meant(&self, address: SocketAddr) -> Destination {
        let ip = address.ip().to_canonical();
        let name = match ip {
            IpAddr::V4(made_up) => self.0.names.name(made_up),
            IpAddr::V6(_) => None,
        };
        let host = name.map_or(Host::Ip(ip), Host::Name);
        Destination { host, port: address.port(), transport: Transport::Tcp }
    }

    /// Serves one connection in a task of its own, until it ends, is idle for too long, or its phase is over.
    fn begin<S, F, T>(&self, stream: S, asker: Asker, serve: F)
    where
        S: Send + 'static,
        F: FnOnce(Arc<Session>, S) -> T,
        T: Future<Output = ()> + Send + 'static,
    {
        let mut phase = self.0.rules.subscribe();
        let rules = Arc::clone(&phase.borrow_and_update());
        let session = Session::new(Arc::clone(&self.0), rules, asker);
        let Ok(place) = Arc::clone(&self.0.places).try_acquire_owned() else {
            return session.dropped(&session.refusal(Reason::ConnectionsReached));
        };
        let served = serve(Arc::clone(&session), stream);
        tokio::spawn(watched(session, served, phase, place));
    }
}

async fn watched(
    session: Arc<Session>,
    served: impl Future<Output = ()>,
    mut phase: watch::Receiver<Arc<Rules>>,
    _place: OwnedSemaphorePermit,
) {
    let cut = tokio::select! {
        () = served => session.used.was_cut().then_some(Reason::BytesReached),
        _ = phase.changed() => Some(Reason::PhaseOver),
        () = idle(&session) => Some(Reason::Idle),
    };
    if let Some(reason) = cut {
        session.ended(reason);
    }
}

/// Ends when nothing was sent or received for the limit's time, or up to twice that.
async fn idle(session: &Session) {
    let mut bytes = session.used.bytes();
    loop {
        sleep(IDLE_LIMIT).await;
        let now = session.used.bytes();
        if now == bytes {
            return;
        }
        bytes = now;
    }
}
