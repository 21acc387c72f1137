//! Requests for evidence that come while the devices are at work share the next quote.
//!
//! A host makes one quote at a time, some 25 a second. Who asks of an idle guest gets a quote of its own (role `serve`) with
//! no added wait. All that ask while the devices work are one batch, which closes when they become free: one tree over
//! their nonces and exporters, one quote over its root (role `batch`), and for each its own path.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use confide_attester::AttesterError;
use confide_channel_guest::BoundNonce;
use confide_evidence::document::{DocumentError, EvidenceDocument};
use confide_evidence::shared::SharedDocument;
use confide_evidence::transcript::{BatchError, BatchPath, BatchTree, Binding, MAX_BATCH};
use tokio::sync::{Notify, oneshot};
use tokio::task::AbortHandle;

/// The batch that waits for the devices.
pub(crate) struct Batches {
    queue: Arc<Queue>,
    worker: AbortHandle,
}

/// Those that wait, and room for them.
struct Queue {
    room: usize,
    waiting: Mutex<Vec<Waiting>>,
    /// Somebody waits since it was last looked.
    came: Notify,
}

/// Who waits for evidence.
struct Waiting {
    asked: BoundNonce,
    /// Takes the encoded document.
    answer: oneshot::Sender<Bytes>,
}

/// Why there is no evidence.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    /// As many wait as may.
    Full,
    /// The devices gave none.
    Failed,
}

/// Why a batch got no evidence.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BatchFailure {
    #[error(transparent)]
    Attester(#[from] AttesterError),
    #[error(transparent)]
    Document(#[from] DocumentError),
    #[error(transparent)]
    Batch(#[from] BatchError),
}

impl Batches {
    /// Batches of requests, of which at most `room` wait, and at most [`MAX_BATCH`], beside those that the devices work for.
    ///
    /// `gather` blocks while the devices work. A failure goes to `failed` once, however many waited. Runs until this
    /// value is dropped.
    pub(crate) fn start(
        room: usize,
        gather: impl Fn(&Binding) -> Result<EvidenceDocument, AttesterError> + Send + Sync + 'static,
        failed: impl Fn(BatchFailure) + Send + Sync + 'static,
    ) -> Self {
        let room = room.clamp(1, usize::try_from(MAX_BATCH).unwrap_or(usize::MAX));
        let queue = Arc::new(Queue { room, waiting: Mutex::default(), came: Notify::new() });
        let (asked, gather) = (Arc::clone(&queue), Arc::new(gather));
        let worker = tokio::spawn(async move {
            loop {
                asked.came.notified().await;
                let batch = asked.take();
                let gather = Arc::clone(&gather);
                // A panic says so itself, and drops those that wait for an answer.
                let answered = tokio::task::spawn_blocking(move || answer(batch, &*gather)).await;
                if let Ok(Err(failure)) = answered {
                    failed(failure);
                }
            }
        });
        Self { queue, worker: worker.abort_handle() }
    }

    /// The encoded evidence document for one connection. Its quote is for that connection alone, or for the batch that it
    /// is in. Who does not wait to the end gives up the place.
    pub(crate) async fn evidence(&self, asked: BoundNonce) -> Result<Bytes, Denied> {
        let (answer, document) = oneshot::channel();
        self.queue.add(Waiting { asked, answer })?;
        document.await.map_err(|_| Denied::Failed)
    }
}

impl Drop for Batches {
    fn drop(&mut self) {
        self.worker.abort();
    }
}

impl Queue {
    fn add(&self, waiting: Waiting) -> Result<(), Denied> {
        let mut all = self.lock();
        if all.len() >= self.room {
            all.retain(|waiting| !waiting.answer.is_closed());
        }
        if all.len() >= self.room {
            return Err(Denied::Full);
        }
        all.push(waiting);
        drop(all);
        self.came.notify_one();
        Ok(())
    }

    /// All that wait, without those that went away.
    fn take(&self) -> Vec<Waiting> {
        let mut all = std::mem::take(&mut *self.lock());
        all.retain(|waiting| !waiting.answer.is_closed());
        all
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gathers evidence for one batch, and answers all that are in it.
fn answer(
    batch: Vec<Waiting>,
    gather: &dyn Fn(&Binding) -> Result<EvidenceDocument, AttesterError>,
) -> Result<(), BatchFailure> {
    // An answer that nobody waits for any more is dropped.
    match batch.as_slice() {
        [] => {}
        [alone] => {
            let document = Bytes::from(gather(&alone.asked.alone())?.encode()?);
            batch.into_iter().for_each(|alone| drop(alone.answer.send(document.clone())));
        }
        [first, ..] => {
            let tree = BatchTree::new(batch.iter().map(|waiting| waiting.asked.leaf()).collect())?;
            let binding = Binding::Batch { root: tree.root(), tls_spki: first.asked.tls_spki };
            let document = SharedDocument::new(gather(&binding)?)?;
            let paths: Vec<BatchPath> = (0..batch.len()).filter_map(|place| tree.path(place)).collect();
            for (waiting, path) in batch.into_iter().zip(&paths) {
                drop(waiting.answer.send(Bytes::from(document.encode(path))));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use confide_evidence::bytes::Bytes as Fixed;
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::time::Duration;

    fn asked(fill: u8) -> BoundNonce {
        BoundNonce { nonce: Fixed([fill; 32]), exporter: Fixed([fill ^ 0xff; 32]), tls_spki: Fixed([3; 32]) }
    }

    /// Devices that say what they are asked for, wait until they may go on, and fail.
    struct Devices {
        batches: Arc<Batches>,
        asked_for: Receiver<Binding>,
        go: Sender<()>,
        failures: Arc<Mutex<usize>>,
    }

    impl Devices {
        fn start(room: usize) -> Self {
            let ((asking, asked_for), (go, gone)) = (channel(), channel());
            let failures = Arc::new(Mutex::new(0));
            let (gone, counted) = (Mutex::new(gone), Arc::clone(&failures));
            let gather = move |binding: &Binding| {
                asking.send(*binding).unwrap();
                gone.lock().unwrap().recv().expect("a panic of the devices");
                Err(AttesterError::RegisterUnknown)
            };
            let failed = move |_| *counted.lock().unwrap() += 1;
            Self { batches: Arc::new(Batches::start(room, gather, failed)), asked_for, go, failures }
        }

        fn ask(&self, fill: u8) -> tokio::task::JoinHandle<Denied> {
            let batches = Arc::clone(&self.batches);
            tokio::spawn(async move { batches.evidence(asked(fill)).await.unwrap_err() })
        }

        /// Asks, and comes back once it has its place: the next one comes behind it.
        async fn queue(&self, fill: u8) -> tokio::task::JoinHandle<Denied> {
            let task = self.ask(fill);
            let waits = |waiting: &Waiting| waiting.asked.nonce == asked(fill).nonce;
            while !self.batches.queue.lock().iter().any(waits) {
                tokio::task::yield_now().await;
            }
            task
        }

        /// What the devices are asked for next.
        async fn next(&self) -> Binding {
            loop {
                match self.asked_for.try_recv() {
                    Ok(binding) => return binding,
                    Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
                }
            }
        }
    }

    fn together(fills: &[u8]) -> Binding {
        let leaves = fills.iter().map(|fill| asked(*fill).leaf()).collect();
        let root = BatchTree::new(leaves).unwrap().root();
        Binding::Batch { root, tls_spki: asked(0).tls_spki }
    }

    #[tokio::test]
    async fn who_comes_while_the_devices_work_shares_the_next_quote() {
        let devices = Devices::start(8);
        let first = devices.ask(1);
        assert_eq!(devices.next().await, asked(1).alone(), "an idle guest's quote is for who asks alone");
        let mut waiting = Vec::new();
        for fill in 2..6 {
            waiting.push(devices.queue(fill).await);
        }
        devices.go.send(()).unwrap();
        assert_eq!(devices.next().await, together(&[2, 3, 4, 5]));
        devices.go.send(()).unwrap();
        for task in waiting.into_iter().chain([first]) {
            assert_eq!(task.await.unwrap(), Denied::Failed);
        }
        // It is told once those who asked have been let go.
        let told = async {
            while *devices.failures.lock().unwrap() < 2 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), told).await.expect("a failure is told for each batch");
        assert_eq!(*devices.failures.lock().unwrap(), 2, "a failure is told once for each batch");
    }

    #[tokio::test]
    async fn who_went_away_is_in_no_batch() {
        let devices = Devices::start(8);
        let first = devices.ask(1);
        devices.next().await;
        let (gone, stays) = (devices.queue(2).await, devices.queue(3).await);
        gone.abort();
        assert!(gone.await.unwrap_err().is_cancelled());
        devices.go.send(()).unwrap();
        assert_eq!(devices.next().await, asked(3).alone());
        devices.go.send(()).unwrap();
        assert_eq!((first.await.unwrap(), stays.await.unwrap()), (Denied::Failed, Denied::Failed));
    }

    #[tokio::test]
    async fn no_more_wait_than_there_is_room_for() {
        let devices = Devices::start(2);
        let first = devices.ask(1);
        devices.next().await;
        let waiting = [devices.queue(2).await, devices.queue(3).await];
        assert_eq!(devices.ask(4).await.unwrap(), Denied::Full);
        devices.go.send(()).unwrap();
        assert_eq!(devices.next().await, together(&[2, 3]));
        devices.go.send(()).unwrap();
        for task in waiting.into_iter().chain([first]) {
            assert_eq!(task.await.unwrap(), Denied::Failed);
        }
    }

    #[tokio::test]
    async fn who_went_away_holds_no_place() {
        let devices = Devices::start(2);
        let first = devices.ask(1);
        devices.next().await;
        for fill in 2..20 {
            let gone = devices.queue(fill).await;
            gone.abort();
            assert!(gone.await.unwrap_err().is_cancelled());
        }
        let stays = [devices.queue(20).await, devices.queue(21).await];
        devices.go.send(()).unwrap();
        assert_eq!(devices.next().await, together(&[20, 21]));
        devices.go.send(()).unwrap();
        for task in stays.into_iter().chain([first]) {
            assert_eq!(task.await.unwrap(), Denied::Failed);
        }
    }

    #[tokio::test]
    async fn a_panic_of_the_devices_is_a_failure_of_their_batch_alone() {
        let Devices { batches, asked_for, go, failures } = Devices::start(2);
        drop(go);
        for fill in 1..3 {
            assert_eq!(batches.evidence(asked(fill)).await, Err(Denied::Failed));
            assert_eq!(asked_for.recv().unwrap(), asked(fill).alone());
        }
        assert_eq!(*failures.lock().unwrap(), 0);
    }
}
