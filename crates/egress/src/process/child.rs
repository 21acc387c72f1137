//! The broker's half.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use confide_policy::egress::{EgressPolicy, Transport};
use rustix::net::getsockname;
use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};
use rustix::thread::{capabilities, set_no_new_privs};
use tokio::runtime::{Builder, Runtime};

use super::control::{self, Answer, Purpose, Request};
use super::sys::close_inherited;
use crate::broker::Broker;
use crate::error::EgressError;
use crate::network::Network;
use crate::original::original_destination;
use crate::owner::Owners;
use crate::seccomp::{self, Reach};
use crate::tls::Roots;

/// Runs as the egress broker of a guest: the socket to it is standard input. Returns when the guest closes it.
///
/// Closes every other descriptor first, but for standard output and error: to be called before the program has opened any.
/// Serves without any capability, or not at all.
///
/// # Errors
/// [`EgressError::System`]; [`EgressError::BrokerLost`] where the guest breaks the protocol.
pub fn run_broker() -> Result<(), EgressError> {
    run_trusting(&Roots::web())
}

/// As [`run_broker`], with these authorities.
pub(crate) fn run_trusting(roots: &Roots) -> Result<(), EgressError> {
    confine().map_err(EgressError::system("confine the egress broker"))?;
    let control = io::stdin().as_fd().try_clone_to_owned().map(UnixStream::from);
    let control = control.map_err(EgressError::system("use standard input"))?;
    serve(&control, roots)
}

/// Gives up what a broker does not need, and what would let others look at it.
fn confine() -> io::Result<()> {
    close_inherited()?;
    set_no_new_privs(true)?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    let descriptors = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: descriptors.maximum, ..descriptors })?;
    let held = capabilities(None)?;
    if !(held.effective | held.permitted | held.inheritable).is_empty() {
        return Err(io::Error::other(format!("it was started with capabilities: {:?}", held.permitted)));
    }
    // What it is refused fails and has no record: nobody hears of it.
    drop(seccomp::confine(Reach::Broker)?);
    Ok(())
}

fn serve(control: &UnixStream, roots: &Roots) -> Result<(), EgressError> {
    let lost = |error: io::Error| EgressError::BrokerLost(format!("the guest's socket: {error}"));
    let unexpected = || EgressError::BrokerLost("the guest asks for something out of order".to_owned());
    let descriptors = control::take_over(control).map_err(lost)?;
    let Some(Request::Begin { policy, handed }) = control::read(control).map_err(lost)? else {
        return Err(unexpected());
    };
    if handed.len() != descriptors.len() {
        return Err(unexpected());
    }
    let policy = EgressPolicy::parse(&policy)
        .map_err(|error| EgressError::BrokerLost(format!("the guest's policy: {error}")))?;
    let digest = policy.digest().to_string();
    let runtime = Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build();
    let runtime = runtime.map_err(EgressError::system("start threads"))?;
    let (owners, listeners): (Vec<_>, Vec<_>) =
        handed.into_iter().zip(descriptors).partition(|(purpose, _)| *purpose == Purpose::Owners);
    let owners = owners.into_iter().next().map(|(_, socket)| Owners::of(socket));
    warn_of_silence(owners.as_ref(), &listeners);
    let broker = Broker::on(Arc::new(policy), roots, Network::System, owners);
    for (purpose, descriptor) in listeners {
        listen(&runtime, &broker, purpose, descriptor).map_err(EgressError::system("listen"))?;
    }
    control::write(control, &Answer::Begun { digest }).map_err(lost)?;
    while let Some(request) = control::read(control).map_err(lost)? {
        let answer = match request {
            Request::Begin { .. } => return Err(unexpected()),
            Request::Lock => {
                runtime.block_on(broker.lock());
                Answer::Locked
            }
            Request::Status => Answer::Status(broker.status().into()),
        };
        control::write(control, &answer).map_err(lost)?;
    }
    Ok(())
}

/// Says so where the kernel does not tell whose sockets are: it is asked for the listeners.
fn warn_of_silence(owners: Option<&Owners>, listeners: &[(Purpose, OwnedFd)]) {
    let told = |(purpose, listener): &(Purpose, OwnedFd)| {
        let own = SocketAddr::try_from(getsockname(listener).ok()?).ok()?;
        let anybody = match own.ip() {
            IpAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::from(Ipv6Addr::UNSPECIFIED),
        };
        let transport = if *purpose == Purpose::Names { Transport::Udp } else { Transport::Tcp };
        owners?.user(transport, own, SocketAddr::new(anybody, 0))
    };
    if !listeners.iter().all(|listener| told(listener).is_some()) {
        tracing::warn!(
            "drop records name no user: the kernel does not tell whose sockets are, for want of tcp_diag or udp_diag"
        );
    }
}

/// Threads that carry connections.
const WORKERS: usize = 2;

fn listen(runtime: &Runtime, broker: &Broker, purpose: Purpose, descriptor: OwnedFd) -> io::Result<()> {
    // Sockets enter the runtime that is entered here.
    let _entered = runtime.enter();
    let broker = broker.clone();
    if purpose == Purpose::Names {
        let socket = UdpSocket::from(descriptor);
        socket.set_nonblocking(true)?;
        let socket = tokio::net::UdpSocket::from_std(socket)?;
        runtime.spawn(async move { broker.names(socket).await });
        return Ok(());
    }
    let listener = TcpListener::from(descriptor);
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    runtime.spawn(async move {
        if purpose == Purpose::Proxy {
            broker.proxy(listener).await;
        } else {
            broker.transparent(listener, original_destination).await;
        }
    });
    Ok(())
}
