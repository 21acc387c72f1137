//! Work that may never end, on threads of their own.

use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

/// Why there is no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unfinished {
    /// It was not there in time.
    Late,
    /// The thread could not be started, or it panicked.
    Thread,
}

/// What `work` returns, if it does so in time. A thread that hangs in the kernel or in a driver cannot be ended: it is left
/// behind.
pub(crate) fn run<T: Send + 'static>(
    thread: &str,
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Unfinished> {
    let (sender, receiver) = sync_channel(1);
    let started = thread::Builder::new().name(thread.to_owned()).spawn(move || {
        // Nobody listens after the deadline.
        let _ = sender.send(work());
    });
    started.map_err(|_| Unfinished::Thread)?;
    receiver.recv_timeout(limit).map_err(|error| match error {
        RecvTimeoutError::Timeout => Unfinished::Late,
        RecvTimeoutError::Disconnected => Unfinished::Thread,
    })
}
