//! Whether a program is starting, ready or draining, and what a drain waits for.

use std::sync::Arc;

use tokio::sync::watch;

/// What a program does with new work. Phases only go forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// It cannot take work yet.
    Starting,
    /// It takes work.
    Ready,
    /// It finishes what it has and takes nothing new.
    Draining,
}

impl Phase {
    /// The name in health answers and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Draining => "draining",
        }
    }
}

/// The phase of a program and its work in progress. Clones share both.
#[derive(Clone, Debug)]
pub struct Lifecycle(Arc<watch::Sender<State>>);

#[derive(Clone, Copy, Debug)]
struct State {
    phase: Phase,
    work: usize,
}

/// A piece of work that a drain waits for. Over when dropped.
#[derive(Debug)]
#[must_use = "the work is over when this is dropped"]
pub struct Work(Arc<watch::Sender<State>>);

impl Lifecycle {
    /// A program that is [starting](Phase::Starting).
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(State { phase: Phase::Starting, work: 0 })))
    }

    /// The phase now.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.0.borrow().phase
    }

    /// Pieces of work in progress.
    #[must_use]
    pub fn work(&self) -> usize {
        self.0.borrow().work
    }

    /// Takes work from now on. Does nothing once the program drains.
    pub fn ready(&self) {
        self.advance(Phase::Ready);
    }

    /// Takes no new work from now on.
    pub fn drain(&self) {
        self.advance(Phase::Draining);
    }

    /// Begins a piece of work.
    ///
    /// # Errors
    /// The phase, where it is not [`Phase::Ready`].
    pub fn begin(&self) -> Result<Work, Phase> {
        let mut phase = Phase::Ready;
        let begun = self.0.send_if_modified(|state| {
            phase = state.phase;
            if phase == Phase::Ready {
                state.work = state.work.saturating_add(1);
            }
            phase == Phase::Ready
        });
        if begun { Ok(Work(Arc::clone(&self.0))) } else { Err(phase) }
    }

    /// Waits until the program drains.
    pub async fn draining(&self) {
        self.until(|state| state.phase == Phase::Draining).await;
    }

    /// Waits until the program drains and all work is over. Bound it with a timeout: work may never end.
    pub async fn drained(&self) {
        self.until(|state| state.phase == Phase::Draining && state.work == 0).await;
    }

    fn advance(&self, phase: Phase) {
        self.0.send_if_modified(|state| {
            let forward = state.phase < phase;
            if forward {
                state.phase = phase;
            }
            forward
        });
    }

    async fn until(&self, reached: impl FnMut(&State) -> bool) {
        // Fails only when every sender is gone, and `self` holds one.
        let _ = self.0.subscribe().wait_for(reached).await;
    }
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.0.send_modify(|state| state.work = state.work.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    async fn within<T>(future: impl Future<Output = T>) -> Option<T> {
        tokio::time::timeout(Duration::from_millis(50), future).await.ok()
    }

    #[test]
    fn phases_only_go_forward() {
        let lifecycle = Lifecycle::new();
        assert_eq!(lifecycle.phase(), Phase::Starting);
        lifecycle.ready();
        assert_eq!(lifecycle.phase(), Phase::Ready);
        lifecycle.drain();
        lifecycle.ready();
        assert_eq!(lifecycle.phase(), Phase::Draining);
    }

    #[test]
    fn work_begins_only_when_ready() {
        let lifecycle = Lifecycle::new();
        assert_eq!(lifecycle.begin().unwrap_err(), Phase::Starting);
        lifecycle.ready();
        let work = lifecycle.begin().unwrap();
        assert_eq!(lifecycle.work(), 1);
        lifecycle.drain();
        assert_eq!(lifecycle.begin().unwrap_err(), Phase::Draining);
        drop(work);
        assert_eq!(lifecycle.work(), 0);
    }

    #[tokio::test]
    async fn a_drain_waits_for_work() {
        let lifecycle = Lifecycle::new();
        lifecycle.ready();
        let work = lifecycle.begin().unwrap();
        assert!(within(lifecycle.draining()).await.is_none(), "nobody asked for a drain");
        lifecycle.clone().drain();
        assert!(within(lifecycle.draining()).await.is_some());
        assert!(within(lifecycle.drained()).await.is_none(), "work is in progress");
        let waiting = tokio::spawn({
            let lifecycle = lifecycle.clone();
            async move { lifecycle.drained().await }
        });
        drop(work);
        assert!(within(waiting).await.is_some());
    }

    #[tokio::test]
    async fn no_work_does_not_drain_by_itself() {
        let lifecycle = Lifecycle::new();
        lifecycle.ready();
        drop(lifecycle.begin().unwrap());
        assert!(within(lifecycle.drained()).await.is_none());
    }
}
