//! The guest's half.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use confide_evidence::bytes::Digest;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{
    capabilities, clear_ambient_capability_set, remove_capability_from_bounding_set, set_no_new_privs,
};

use super::control::{self, Answer, Purpose, Request};
use crate::broker::MAX_CONNECTIONS;
use crate::error::EgressError;
use crate::plan::BROKER_USER;
use crate::record::Status;

/// How long the broker may take for an answer, its first one included. Machines may be busy, and a broker that hangs is of no use.
const ANSWER_TIME: Duration = Duration::from_secs(30);
/// Between two looks at what it has dropped.
const LOOK: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };
/// Descriptors that it may have open: two of each connection, and some.
#[expect(clippy::as_conversions, reason = "of a constant, and no other conversion can be used in one")]
const DESCRIPTORS: u64 = 2 * MAX_CONNECTIONS as u64 + 256;

/// How an egress broker is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerCommand {
    /// A program that calls [`run_broker`](super::run_broker).
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
}

/// A socket of the workload's network, and what it is for.
pub(crate) type Handed = (Purpose, OwnedFd);

/// A running egress broker. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct BrokerProcess {
    control: UnixStream,
    child: Child,
}

impl BrokerProcess {
    /// Starts a broker as its own user in this thread's network, and waits until it serves at these sockets by this policy, which
    /// must have this digest. It takes CAP_SETUID, CAP_SETGID and CAP_SETPCAP.
    pub(crate) fn start(
        command: &BrokerCommand,
        handed: &[Handed],
        policy: &str,
        digest: Digest,
    ) -> Result<Self, EgressError> {
        let (ours, theirs) = UnixStream::pair().map_err(EgressError::system("make a socket"))?;
        admit_descriptors();
        let child = spawn(command, theirs).map_err(EgressError::system("start the egress broker"))?;
        let mut broker = Self { control: ours, child };
        let timed = broker.control.set_read_timeout(Some(ANSWER_TIME));
        let timed = timed.and_then(|()| broker.control.set_write_timeout(Some(ANSWER_TIME)));
        timed.map_err(EgressError::system("make a socket"))?;
        let descriptors: Vec<BorrowedFd<'_>> =
            handed.iter().map(|(_, descriptor)| descriptor.as_fd()).collect();
        control::hand_over(&broker.control, &descriptors).map_err(lost)?;
        let handed = handed.iter().map(|(purpose, _)| *purpose).collect();
        match broker.ask(&Request::Begin { policy: policy.to_owned(), handed })? {
            Answer::Begun { digest: found } if found == digest.to_string() => Ok(broker),
            Answer::Begun { digest: found } => {
                Err(EgressError::BrokerLost(format!("it serves by the policy {found}, expected {digest}")))
            }
            _ => Err(unexpected()),
        }
    }

    /// Lets it enter the phase `serving`, and waits until it has.
    pub(crate) fn lock(&mut self) -> Result<(), EgressError> {
        match self.ask(&Request::Lock)? {
            Answer::Locked => Ok(()),
            _ => Err(unexpected()),
        }
    }

    /// What it has dropped and let through so far.
    pub(crate) fn status(&mut self) -> Result<Status, EgressError> {
        match self.ask(&Request::Status)? {
            Answer::Status(message) => {
                Status::try_from(message).map_err(|error| EgressError::BrokerLost(error.to_owned()))
            }
            _ => Err(unexpected()),
        }
    }

    /// Looks at it again and again, until it ends or does not answer.
    pub(crate) fn attend(mut self, view: &BrokerView) -> EgressError {
        loop {
            match self.status() {
                Ok(status) => view.set(status),
                Err(error) => return error,
            }
            let mut ends = [PollFd::new(&self.control, PollFlags::IN)];
            match poll(&mut ends, Some(&LOOK)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => {
                    return EgressError::BrokerLost("it ended, or speaks without being asked".to_owned());
                }
                Err(error) => return EgressError::system("look at the egress broker")(error.into()),
            }
        }
    }

    /// The number of its process.
    #[cfg(test)]
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    fn ask(&mut self, request: &Request) -> Result<Answer, EgressError> {
        control::write(&self.control, request).map_err(lost)?;
        let answer = control::read(&self.control).map_err(lost)?;
        answer.ok_or_else(|| EgressError::BrokerLost("it ended".to_owned()))
    }
}

impl Drop for BrokerProcess {
    fn drop(&mut self) {
        // Whoever has ended already needs no signal.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lost(error: io::Error) -> EgressError {
    EgressError::BrokerLost(match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            format!("it did not answer within {} seconds", ANSWER_TIME.as_secs())
        }
        _ => error.to_string(),
    })
}

fn unexpected() -> EgressError {
    EgressError::BrokerLost("it answers something else than it was asked".to_owned())
}

/// What a broker was last seen to have dropped and let through: a second ago, or two. Clones see the same.
#[derive(Clone, Debug, Default)]
pub struct BrokerView(Arc<Mutex<Status>>);

impl BrokerView {
    /// It all.
    #[must_use]
    pub fn status(&self) -> Status {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How much it has dropped, whatever the reasons.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        let status = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        status.dropped.iter().fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }

    fn set(&self, status: Status) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = status;
    }
}

/// Lets programs that this process starts allow themselves as many descriptors as a broker needs. One that has fewer carries fewer
/// connections at a time.
fn admit_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let Some(most) = limit.maximum.filter(|most| *most < DESCRIPTORS) else { return };
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { maximum: Some(DESCRIPTORS), ..limit }) {
        tracing::warn!(%error, descriptors = most, "the egress broker may carry fewer connections than it could");
    }
}

/// Starts the child by a thread that has nothing to pass on: the child has no capability, and no program that it might start gets
/// one.
fn spawn(command: &BrokerCommand, socket: UnixStream) -> io::Result<Child> {
    let mut starting = Command::new(&command.program);
    starting.args(&command.arguments).env_clear().uid(BROKER_USER).gid(BROKER_USER);
    starting.stdin(Stdio::from(OwnedFd::from(socket))).stdout(Stdio::null());
    let start = move || {
        set_no_new_privs(true)?;
        clear_ambient_capability_set()?;
        for capability in capabilities(None)?.permitted.iter() {
            remove_capability_from_bounding_set(capability)?;
        }
        starting.spawn()
    };
    let starting = thread::Builder::new().name("starting".to_owned()).spawn(start)?;
    starting.join().unwrap_or_else(|_| Err(io::Error::other("the starting thread panicked")))
}
