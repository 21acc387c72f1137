//! How many requests run and how many wait.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Limits;
use super::fault::Fault;

/// After how many seconds a request that found the queue full may come again.
const FULL_SECONDS: u64 = 1;

/// Bounds the requests in the engine, and the queue in front of it.
pub(super) struct Admission {
    running: Arc<Semaphore>,
    waiting: Semaphore,
    wait: Duration,
}

/// A place in the engine, free again when dropped.
pub(super) struct Slot {
    _place: OwnedSemaphorePermit,
}

impl Admission {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            running: Arc::new(Semaphore::new(limits.running.min(Semaphore::MAX_PERMITS))),
            waiting: Semaphore::new(limits.waiting.min(Semaphore::MAX_PERMITS)),
            wait: limits.wait,
        }
    }

    /// Waits for a place, first come first served.
    ///
    /// # Errors
    /// [`Fault::Overloaded`]: the queue is full, or the wait was too long.
    pub(super) async fn admit(&self) -> Result<Slot, Fault> {
        if let Ok(place) = Arc::clone(&self.running).try_acquire_owned() {
            return Ok(Slot { _place: place });
        }
        // Of a full queue the next place may be free at once, and who did not wait has lost nothing by asking again.
        let full = |_| Fault::Overloaded { retry_after: FULL_SECONDS };
        let _queued = self.waiting.try_acquire().map_err(full)?;
        let place = tokio::time::timeout(self.wait, Arc::clone(&self.running).acquire_owned()).await;
        let late = |_| Fault::Overloaded { retry_after: self.wait.as_secs().max(FULL_SECONDS) };
        let place = place.map_err(late)?.expect("the semaphore is never closed");
        Ok(Slot { _place: place })
    }
}
