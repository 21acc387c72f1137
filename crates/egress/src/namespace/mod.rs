//! A thread whose network is another one than its process'.
//!
//! A network namespace belongs to threads, and passes on to what a thread starts. So whatever is to be done in another network
//! is done on a thread that lives there: sockets that it opens belong to that network wherever they go, and programs that it
//! starts never see another one.

mod sys;

use std::io;
use std::sync::mpsc;
use std::thread;

use tokio::sync::oneshot;

type Job = Box<dyn FnOnce() + Send>;

/// A thread with a network of its own, which has a loopback device that is down, and nothing else. It ends, and the network
/// with it, once its value is dropped and nobody else holds anything of that network.
#[derive(Clone, Debug)]
pub struct NetworkThread(mpsc::Sender<Job>);

impl NetworkThread {
    /// Starts it. The thread has the capabilities of the one that starts it, until it is told to give them up.
    ///
    /// # Errors
    /// The kernel's: it takes CAP_SYS_ADMIN.
    pub fn start(name: &str) -> io::Result<Self> {
        let (jobs, orders) = mpsc::channel::<Job>();
        let (tell, told) = mpsc::channel();
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            let left = sys::leave_network();
            let failed = left.is_err();
            if tell.send(left).is_err() || failed {
                return;
            }
            orders.iter().for_each(|job| job());
        })?;
        told.recv().map_err(|_| gone())??;
        Ok(Self(jobs))
    }

    /// Does something on the thread, and waits until it is done.
    ///
    /// # Errors
    /// The thread is gone: something that it did before panicked, or this does.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
        let (tell, told) = mpsc::channel();
        // Whoever waits is there: this call does.
        self.0.send(Box::new(move || drop(tell.send(job())))).map_err(|_| gone())?;
        told.recv().map_err(|_| gone())
    }

    /// Lets a future make progress on the thread alone, by the runtime that this is called in, until it is done or nobody waits
    /// for it any more.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub async fn drive<T: Send + 'static, F: Future<Output = T>>(
        &self,
        future: impl FnOnce() -> F + Send + 'static,
    ) -> io::Result<T> {
        let runtime = tokio::runtime::Handle::current();
        let (mut tell, told) = oneshot::channel();
        let job = move || {
            let outcome = runtime.block_on(async {
                tokio::select! {
                    outcome = future() => Some(outcome),
                    () = tell.closed() => None,
                }
            });
            if let Some(outcome) = outcome {
                // Who has stopped waiting in between wants nothing of it.
                let _ = tell.send(outcome);
            }
        };
        self.0.send(Box::new(job)).map_err(|_| gone())?;
        told.await.map_err(|_| gone())
    }
}

fn gone() -> io::Error {
    io::Error::other("the thread of the network has ended")
}
