//! The child's half: reads requests from the socket, runs them in turn, writes what happens.

use std::fs::File;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvError, Sender, TryRecvError, channel};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use rustix::stdio::{dup2_stderr, dup2_stdout};

use super::close_to_debuggers;
use super::handing::hand_over;
use super::inherited::close_inherited;
use crate::batch::{Batch, MAX_WAITING, Outcome};
use crate::engine::{Engine, Resources};
use crate::error::EngineError;
use crate::files::{MeasuredFiles, ModelDirectory, ModelFiles};
use crate::guard::{catch, is_guarded};
use crate::protocol::{self, Event, Failure, Frame, FromEngine, ProtocolError, Ready, RequestId, ToEngine};

/// How long the engine works without a word, so that the guest can tell a long prompt from an engine that hangs. One
/// step of a large model may take longer.
const SILENCE: Duration = Duration::from_secs(1);

/// Exit status after a panic, as Rust programs have it.
const PANICKED: i32 = 101;

/// Why the child ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChildError {
    /// Standard input is not a socket that can be used.
    #[error("standard input is not a socket")]
    NoSocket(#[source] io::Error),
    /// What the process was given beside its standard streams cannot be closed.
    #[error("the descriptors that the process was given cannot be closed")]
    Inherited(#[source] io::Error),
    /// The process cannot be closed to debuggers and core dumps, or tied to the guest.
    #[error("the process cannot be closed to debuggers")]
    Closing(#[source] io::Error),
    /// The process cannot be confined, or the guest cannot be told what it is refused.
    #[error("the process cannot be confined")]
    Confining(#[source] io::Error),
    /// The model cannot be loaded. The guest was told.
    #[error("the model cannot be loaded")]
    Model(#[from] EngineError),
    /// The guest broke the protocol, or the socket failed.
    #[error("the guest broke the protocol, or its socket failed")]
    Protocol(#[from] ProtocolError),
}

/// Runs as the engine process of a guest: the socket is standard input, the model is in the folder `model`.
/// Returns when the guest closes the socket. Closes every other descriptor first, but for standard output and error: call
/// it before the program has opened anything.
///
/// `confine` takes from this thread, and so from all that it starts, what an engine does not need. The guest is handed what it
/// returns ([`super::EngineProcess::supervisor`]).
///
/// From here on the process leaves no core dump and ends with the guest. What goes wrong up to here is told on standard error; before
/// a byte of the model is read that leads to `/dev/null`, as standard output does: whoever gets hold of this process by a checkpoint or
/// a prompt writes to nobody's log or console. A panic ends the process, unless it is one of a library on text of others.
///
/// # Errors
/// Any [`ChildError`].
pub fn run_child(model: &Path, confine: impl FnOnce() -> io::Result<OwnedFd>) -> Result<(), ChildError> {
    close_inherited().map_err(ChildError::Inherited)?;
    end_on_panic();
    close_to_debuggers().map_err(ChildError::Closing)?;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|error| ChildError::Closing(error.into()))?;
    let socket = io::stdin().as_fd().try_clone_to_owned().map_err(ChildError::NoSocket)?;
    let socket = UnixStream::from(socket);
    socket.peer_addr().map_err(ChildError::NoSocket)?;
    let supervisor = confine().map_err(ChildError::Confining)?;
    hand_over(&socket, supervisor).map_err(ChildError::Confining)?;
    fall_silent().map_err(ChildError::Confining)?;
    match ModelDirectory::open(model) {
        Ok(files) => serve(socket, files),
        Err(error) => refuse(&socket, error),
    }
}

/// Loads the model in `files`, says so, and answers requests until the guest closes the socket.
///
/// # Errors
/// Any [`ChildError`].
pub fn serve(socket: UnixStream, files: impl ModelFiles) -> Result<(), ChildError> {
    let (engine, ready) = match load(files) {
        Ok(loaded) => loaded,
        Err(error) => return refuse(&socket, error),
    };
    Frame::encode(&FromEngine::Ready(ready))?.write(&mut &socket)?;
    let (sender, commands) = channel();
    std::thread::scope(|scope| {
        scope.spawn(|| receive(&socket, sender));
        let result = Service::new(&engine, &socket).run(&commands);
        // Ends the reading thread. It fails only on a socket that is already closed.
        let _ = socket.shutdown(Shutdown::Both);
        Ok(result?)
    })
}

/// Loads a model and measures every file of its folder. Libraries panic on some files that no checkpoint has.
fn load(files: impl ModelFiles) -> Result<(Engine, Ready), EngineError> {
    let loading = || {
        let mut files = MeasuredFiles::new(files);
        let engine = Engine::load(&mut files, &Resources::of_this_machine())?;
        let ready = Ready { info: engine.info(), manifest: files.into_manifest()? };
        Ok((engine, ready))
    };
    catch(loading).unwrap_or(Err(EngineError::LoadPanicked))
}

/// Tells the guest why there is no model.
fn refuse(socket: &UnixStream, error: EngineError) -> Result<(), ChildError> {
    Frame::encode(&FromEngine::Refused(Failure::from(&error)))?.write(&mut &*socket)?;
    Err(error.into())
}

/// What the reading thread hands on. The sender is dropped at the end of the socket.
type Command = Result<ToEngine, ProtocolError>;

fn receive(mut socket: &UnixStream, commands: Sender<Command>) {
    while let Some(command) = protocol::read(&mut socket).transpose() {
        let failed = command.is_err();
        if commands.send(command).is_err() || failed {
            return;
        }
    }
}

/// Obeys the guest between any two steps of the batch.
struct Service<'a> {
    batch: Batch<'a, RequestId>,
    socket: &'a UnixStream,
    /// When the guest last heard of this engine.
    heard: Instant,
}

impl<'a> Service<'a> {
    fn new(engine: &'a Engine, socket: &'a UnixStream) -> Self {
        Self { batch: Batch::new(engine), socket, heard: Instant::now() }
    }

    /// Works until the guest closes the socket. All commands are looked at before every step, so that a cancelled request
    /// computes at most one more, and one that was cancelled before it was let in costs nothing.
    fn run(mut self, commands: &Receiver<Command>) -> Result<(), ProtocolError> {
        loop {
            if self.batch.is_idle() {
                match commands.recv() {
                    Ok(command) => self.obey(command?)?,
                    Err(RecvError) => return Ok(()),
                }
                self.heard = Instant::now();
            }
            loop {
                match commands.try_recv() {
                    Ok(command) => self.obey(command?)?,
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return Ok(()),
                }
            }
            for (id, outcome) in self.batch.step() {
                self.tell(id, outcome)?;
            }
            if self.heard.elapsed() >= SILENCE {
                self.write(&FromEngine::Working)?;
            }
        }
    }

    fn obey(&mut self, command: ToEngine) -> Result<(), ProtocolError> {
        match command {
            ToEngine::Chat { id, .. } if self.batch.knows(id) => {
                Err(ProtocolError::Unexpected("a request id is used twice"))
            }
            ToEngine::Chat { id, holder, request } => match self.batch.push(id, holder, request) {
                Ok(()) => Ok(()),
                Err(_) => self.say(id, Event::Failed(Failure::busy(MAX_WAITING))),
            },
            ToEngine::Cancel { id } => {
                self.batch.cancel(id);
                Ok(())
            }
        }
    }

    fn tell(&mut self, id: RequestId, outcome: Outcome) -> Result<(), ProtocolError> {
        match outcome {
            Outcome::Text(text) => self.say(id, Event::Text(text)),
            Outcome::Finished { text, reason, usage } => {
                if !text.is_empty() {
                    self.say(id, Event::Text(text))?;
                }
                self.say(id, Event::Finished { reason, usage })
            }
            Outcome::Failed(error) => self.say(id, Event::Failed(Failure::from(&error))),
        }
    }

    fn say(&mut self, id: RequestId, event: Event) -> Result<(), ProtocolError> {
        self.write(&FromEngine::Event { id, event })
    }

    fn write(&mut self, message: &FromEngine) -> Result<(), ProtocolError> {
        self.heard = Instant::now();
        Frame::encode(message)?.write(&mut &*self.socket)
    }
}

/// From here on nothing that this process prints is read by anybody.
fn fall_silent() -> io::Result<()> {
    let nowhere = File::options().write(true).open("/dev/null")?;
    dup2_stdout(&nowhere)?;
    Ok(dup2_stderr(&nowhere)?)
}

/// Makes a panic of any thread print its place alone, as long as anything is printed, and end the process where nobody catches it,
/// so that the guest learns of it.
fn end_on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        use std::io::Write as _;
        let place = panic.location().map_or_else(String::new, ToString::to_string);
        let _ = writeln!(io::stderr(), "the engine panicked at {place}");
        if !is_guarded() {
            std::process::exit(PANICKED);
        }
    }));
}
