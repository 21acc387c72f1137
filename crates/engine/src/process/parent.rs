//! The guest's half: starts the child, sends requests, hands out what happens.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use confide_evidence::manifest::ModelManifest;
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::{Child, Command};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::Instant;

use super::handing::take_over;
use crate::engine::ModelInfo;
use crate::prefix::KeyHolder;
use crate::protocol::{self, Event, Failure, Frame, FromEngine, ProtocolError, Ready, RequestId, ToEngine};
use crate::request::ChatRequest;

/// How an engine process is started: with `environment` and no other variable of the guest's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineCommand {
    /// The program: `confide-guest` itself.
    pub program: PathBuf,
    /// Its arguments: `engine` and the model folder.
    pub arguments: Vec<OsString>,
    /// The environment that the child is started with, which is part of the claims.
    pub environment: Vec<(String, String)>,
    /// How long the child may say nothing while it has requests. Then it counts as hung.
    pub patience: Duration,
    /// User and group of the child, without any other group; those of this process where there is none. To start it as another
    /// one takes the capabilities CAP_SETUID and CAP_SETGID, to end it CAP_KILL.
    pub user: Option<u32>,
}

/// Why there is no engine process.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProcessError {
    /// The program cannot be started.
    #[error("the engine process cannot be started")]
    Spawn(#[source] io::Error),
    /// The child said why it cannot load the model.
    #[error("the engine cannot load the model: {0}")]
    Refused(Failure),
    /// The child ended before it said anything.
    #[error("the engine process ended before it was ready")]
    Exited,
    /// The child broke the protocol.
    #[error("the engine process broke the protocol")]
    Protocol(#[from] ProtocolError),
}

/// A running engine process. Dropping it kills the child.
pub struct EngineProcess {
    client: EngineClient,
    child: Child,
    supervisor: Option<OwnedFd>,
}

impl EngineProcess {
    /// Starts the child and waits until it has loaded its model. Needs a tokio runtime with I/O and time; set a limit
    /// on the time with [`tokio::time::timeout`]. The child is killed when the calling thread ends.
    ///
    /// Compare [`EngineClient::manifest`] with the expected one before sending anything.
    ///
    /// # Errors
    /// Any [`ProcessError`]; the child is then killed.
    pub async fn spawn(command: &EngineCommand) -> Result<Self, ProcessError> {
        let (ours, theirs) = StdUnixStream::pair().map_err(ProcessError::Spawn)?;
        let child = start(command, theirs).map_err(ProcessError::Spawn)?;
        ours.set_nonblocking(true).map_err(ProcessError::Spawn)?;
        let ours = UnixStream::from_std(ours).map_err(ProcessError::Spawn)?;
        let supervisor = take_over(&ours).await.map_err(ProtocolError::from)?.ok_or(ProcessError::Exited)?;
        let client = EngineClient::over(ours, command.patience).await?;
        Ok(Self { client, child, supervisor: Some(supervisor) })
    }

    /// What the child's function `confine` returned ([`super::run_child`]), once.
    pub fn supervisor(&mut self) -> Option<OwnedFd> {
        self.supervisor.take()
    }

    /// The connection to the child. Clones of it fail once the child is gone.
    pub fn client(&self) -> &EngineClient {
        &self.client
    }

    /// Process id, while the child runs.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Waits until the child has ended.
    ///
    /// # Errors
    /// The system does not tell.
    pub async fn exited(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }
}

/// The child with `socket` as its standard input. Nothing of it stays open here: a child that ends is noticed by that.
fn start(command: &EngineCommand, socket: StdUnixStream) -> io::Result<Child> {
    let mut starting = Command::new(&command.program);
    if let Some(user) = command.user {
        starting.uid(user).gid(user);
    }
    starting
        .args(&command.arguments)
        .env_clear()
        .envs(command.environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::from(OwnedFd::from(socket)))
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
}

/// A connection to an engine process. Clones share it.
#[derive(Clone)]
pub struct EngineClient(Arc<Shared>);

struct Shared {
    ready: Ready,
    outgoing: UnboundedSender<Frame>,
    requests: Arc<Mutex<Requests>>,
}

/// The requests in flight.
struct Requests {
    last: u64,
    /// When the engine last said anything, or began to have requests.
    heard: Instant,
    /// Streams are bounded by the context of the model, so that their channels need no bound of their own.
    streams: HashMap<RequestId, UnboundedSender<Event>>,
    /// Why no request can be made any more.
    ended: Option<Failure>,
}

impl EngineClient {
    /// Waits on `socket` until the engine at its other end has loaded its model. From then on it counts as hung when
    /// it says nothing for `patience` while it has requests.
    ///
    /// # Errors
    /// [`ProcessError::Refused`], [`ProcessError::Exited`] or [`ProcessError::Protocol`].
    pub async fn connect(socket: StdUnixStream, patience: Duration) -> Result<Self, ProcessError> {
        socket.set_nonblocking(true).map_err(ProtocolError::from)?;
        Self::over(UnixStream::from_std(socket).map_err(ProtocolError::from)?, patience).await
    }

    /// As [`connect`](Self::connect), on a socket of tokio's.
    async fn over(socket: UnixStream, patience: Duration) -> Result<Self, ProcessError> {
        let (mut incoming, outgoing) = socket.into_split();
        let ready = match protocol::read_async(&mut incoming).await {
            Ok(Some(FromEngine::Ready(ready))) => ready,
            Ok(Some(FromEngine::Refused(failure))) => return Err(ProcessError::Refused(failure)),
            Ok(Some(FromEngine::Event { .. } | FromEngine::Working)) => {
                return Err(ProtocolError::Unexpected("an event before the model").into());
            }
            Ok(None) => return Err(ProcessError::Exited),
            Err(ProtocolError::Socket(error)) if error.kind() == io::ErrorKind::ConnectionReset => {
                return Err(ProcessError::Exited);
            }
            Err(error) => return Err(error.into()),
        };
        let (sender, frames) = unbounded_channel();
        let requests = Arc::new(Mutex::new(Requests::new()));
        let writing = tokio::spawn(write(outgoing, frames));
        let shared = Arc::clone(&requests);
        tokio::spawn(async move {
            let failure = tokio::select! {
                failure = dispatch(incoming, &shared) => failure,
                () = silence(&shared, patience) => Failure::stalled(patience),
            };
            lock(&shared).end(&failure);
            // Closes the socket, which ends a child that broke the protocol.
            writing.abort();
        });
        Ok(Self(Arc::new(Shared { ready, outgoing: sender, requests })))
    }

    /// What is known of the model.
    pub fn info(&self) -> &ModelInfo {
        &self.0.ready.info
    }

    /// Hashes of the model files that the child read.
    pub fn manifest(&self) -> &ModelManifest {
        &self.0.ready.manifest
    }

    /// Sends a request of `holder`. Requests run side by side; dropping the stream stops this one.
    ///
    /// # Errors
    /// The request is too large, or the engine is gone.
    pub fn chat(&self, holder: Option<KeyHolder>, request: ChatRequest) -> Result<ChatStream, Failure> {
        let (sender, events) = unbounded_channel();
        let id = lock(&self.0.requests).register(sender)?;
        let stream = ChatStream { id, events, client: self.clone() };
        let frame =
            Frame::encode(&ToEngine::Chat { id, holder, request }).map_err(|_| Failure::too_large())?;
        // Where the engine is gone, the stream is told by whoever noticed.
        let _ = self.0.outgoing.send(frame);
        Ok(stream)
    }

    /// Waits until the engine is gone, and says why.
    pub async fn closed(&self) -> Failure {
        self.0.outgoing.closed().await;
        lock(&self.0.requests).ended.clone().unwrap_or_else(Failure::exited)
    }
}

/// What happens to one request, in order; ends after [`Event::Finished`] or [`Event::Failed`].
pub struct ChatStream {
    id: RequestId,
    events: UnboundedReceiver<Event>,
    client: EngineClient,
}

impl ChatStream {
    /// Waits for the next event. May be dropped and called again.
    pub async fn next(&mut self) -> Option<Event> {
        self.events.recv().await
    }

    /// As [`next`](Self::next), for implementations of `Stream`.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Event>> {
        self.events.poll_recv(context)
    }
}

impl Drop for ChatStream {
    fn drop(&mut self) {
        let running = lock(&self.client.0.requests).streams.remove(&self.id).is_some();
        if let Ok(frame) = Frame::encode(&ToEngine::Cancel { id: self.id })
            && running
        {
            let _ = self.client.0.outgoing.send(frame);
        }
    }
}

impl Requests {
    fn new() -> Self {
        Self { last: 0, heard: Instant::now(), streams: HashMap::new(), ended: None }
    }

    fn register(&mut self, stream: UnboundedSender<Event>) -> Result<RequestId, Failure> {
        if let Some(failure) = &self.ended {
            return Err(failure.clone());
        }
        if self.streams.is_empty() {
            self.heard = Instant::now();
        }
        self.last = self.last.wrapping_add(1);
        let id = RequestId(self.last);
        self.streams.insert(id, stream);
        Ok(id)
    }

    /// Since when the engine owes a word.
    fn waiting_since(&self) -> Option<Instant> {
        (!self.streams.is_empty()).then_some(self.heard)
    }

    /// Hands an event to its stream. Events of dropped streams were on their way when they were cancelled.
    fn deliver(&mut self, id: RequestId, event: Event) {
        let over = !matches!(event, Event::Text(_));
        if let Some(stream) = self.streams.get(&id) {
            let _ = stream.send(event);
        }
        if over {
            self.streams.remove(&id);
        }
    }

    /// Fails every request, now and from now on.
    fn end(&mut self, failure: &Failure) {
        for (_, stream) in self.streams.drain() {
            let _ = stream.send(Event::Failed(failure.clone()));
        }
        self.ended = Some(failure.clone());
    }
}

/// Writes frames until nobody can send any more.
async fn write(mut socket: OwnedWriteHalf, mut frames: UnboundedReceiver<Frame>) {
    while let Some(frame) = frames.recv().await {
        if socket.write_all(frame.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Reads events until the socket ends, and says why it did.
async fn dispatch(mut socket: OwnedReadHalf, requests: &Mutex<Requests>) -> Failure {
    loop {
        let message = protocol::read_async(&mut socket).await;
        lock(requests).heard = Instant::now();
        match message {
            Ok(Some(FromEngine::Event { id, event })) => lock(requests).deliver(id, event),
            Ok(Some(FromEngine::Working)) => {}
            Ok(Some(FromEngine::Ready(_) | FromEngine::Refused(_))) => {
                return Failure::protocol(&ProtocolError::Unexpected("a second first message"));
            }
            Ok(None) | Err(ProtocolError::Truncated | ProtocolError::Socket(_)) => return Failure::exited(),
            Err(error) => return Failure::protocol(&error),
        }
    }
}

/// Waits until the engine has had requests and said nothing for `patience`.
async fn silence(requests: &Mutex<Requests>, patience: Duration) {
    loop {
        let since = lock(requests).waiting_since();
        let Some(end) = since.unwrap_or_else(Instant::now).checked_add(patience) else {
            // No clock comes so far.
            return std::future::pending().await;
        };
        if end <= Instant::now() {
            return;
        }
        tokio::time::sleep_until(end).await;
    }
}

/// The lock is never held where something can panic.
fn lock(requests: &Mutex<Requests>) -> MutexGuard<'_, Requests> {
    requests.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_engine_may_be_waited_for_as_long_as_can_be_said() {
        let requests = Requests { last: 0, heard: Instant::now(), streams: HashMap::new(), ended: None };
        let requests = Mutex::new(requests);
        tokio::select! {
            biased;
            () = silence(&requests, Duration::MAX) => panic!("it has an end"),
            () = std::future::ready(()) => {}
        }
    }
}
