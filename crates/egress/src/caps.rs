//! How much a rule may be used: connections at a time, bytes a second, bytes in all.
//!
//! The destinations of a rule share its caps: a wildcard's many names are no way around them. What is counted is what crosses
//! the network, so TLS and heads too.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use confide_policy::egress::Caps;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Duration, Instant, Sleep};

use crate::gate::Place;

/// The most bytes that are written at once: a fast connection leaves the others of its rule their turn.
const MAX_WRITE: usize = 64 * 1024;

/// What a rule was used for.
#[derive(Debug)]
pub(crate) struct Account {
    caps: Caps,
    connections: Arc<Semaphore>,
    bytes: AtomicU64,
    bucket: Mutex<Bucket>,
}

impl Account {
    pub(crate) fn new(caps: Caps) -> Arc<Self> {
        let connections = usize::try_from(caps.connections).unwrap_or(Semaphore::MAX_PERMITS);
        Arc::new(Self {
            caps,
            connections: Arc::new(Semaphore::new(connections.min(Semaphore::MAX_PERMITS))),
            bytes: AtomicU64::new(0),
            bucket: Mutex::new(Bucket {
                level: i64::try_from(caps.bytes_per_second).unwrap_or(i64::MAX),
                at: Instant::now(),
            }),
        })
    }

    /// Takes the place of one connection; none, where all are taken.
    pub(crate) fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.connections).try_acquire_owned().ok()
    }

    /// Bytes so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Connections that are open.
    pub(crate) fn open(&self) -> u32 {
        let free = u32::try_from(self.connections.available_permits()).unwrap_or(u32::MAX);
        self.caps.connections.saturating_sub(free)
    }

    /// Whether nothing is left.
    pub(crate) fn is_spent(&self) -> bool {
        self.bytes() >= self.caps.total_bytes
    }

    /// Takes up to `wanted` bytes of what is left in all.
    fn take(&self, wanted: u64) -> u64 {
        let mut taken = 0;
        let most = self.caps.total_bytes;
        // The closure always gives a value.
        let _ = self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            taken = wanted.min(most.saturating_sub(used));
            Some(used.saturating_add(taken))
        });
        taken
    }

    fn give_back(&self, bytes: u64) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// How long until something may be moved; none, where it may now.
    fn wait(&self) -> Option<Duration> {
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        bucket.fill(self.caps.bytes_per_second, Instant::now());
        bucket.wait(self.caps.bytes_per_second)
    }

    fn moved(&self, bytes: u64) {
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        bucket.level = bucket.level.saturating_sub(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}

/// Bytes that may be moved now: as many as a second brings, at most. Below zero, what was moved is waited for.
#[derive(Debug)]
struct Bucket {
    level: i64,
    at: Instant,
}

impl Bucket {
    fn fill(&mut self, rate: u64, now: Instant) {
        let micros = now.saturating_duration_since(self.at).as_micros();
        let more = u128::from(rate).saturating_mul(micros) / 1_000_000;
        // What makes no whole byte yet is left to the next time.
        if more > 0 {
            let most = i64::try_from(rate).unwrap_or(i64::MAX);
            self.level = self.level.saturating_add(i64::try_from(more).unwrap_or(i64::MAX)).min(most);
            self.at = now;
        }
    }

    fn wait(&self, rate: u64) -> Option<Duration> {
        let missing = u64::try_from(1_i64.saturating_sub(self.level)).ok().filter(|missing| *missing > 0)?;
        let micros = missing.saturating_mul(1_000_000).checked_div(rate.max(1)).unwrap_or(u64::MAX);
        // At least a millisecond: timers are no finer.
        Some(Duration::from_micros(micros).max(Duration::from_millis(1)))
    }
}

/// What the outgoing connections of one incoming connection have done.
#[derive(Debug, Default)]
pub(crate) struct Use {
    bytes: AtomicU64,
    cut: AtomicBool,
}

impl Use {
    /// Bytes in both directions.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether it was cut because the rule's bytes were used up.
    pub(crate) fn was_cut(&self) -> bool {
        self.cut.load(Ordering::Relaxed)
    }
}

/// A connection whose bytes are counted and held back.
#[derive(Debug)]
pub(crate) struct Metered<S, P = Place> {
    stream: S,
    account: Arc<Account>,
    used: Arc<Use>,
    reading: Option<Pin<Box<Sleep>>>,
    writing: Option<Pin<Box<Sleep>>>,
    /// Held as long as the connection is.
    _place: P,
}

impl<S, P> Metered<S, P> {
    pub(crate) fn new(stream: S, account: Arc<Account>, place: P, used: Arc<Use>) -> Self {
        Self { stream, account, used, reading: None, writing: None, _place: place }
    }

    fn spent<T>(&self) -> Poll<io::Result<T>> {
        self.used.cut.store(true, Ordering::Relaxed);
        Poll::Ready(Err(io::Error::other("the bytes that the rule allows in all are used up")))
    }

    fn count(&self, bytes: u64) {
        self.used.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.account.moved(bytes);
    }
}

/// Waits until the account lets something be moved.
fn poll_pace(account: &Account, sleep: &mut Option<Pin<Box<Sleep>>>, context: &mut Context<'_>) -> Poll<()> {
    loop {
        if let Some(waiting) = sleep {
            ready!(waiting.as_mut().poll(context));
            *sleep = None;
        }
        match account.wait() {
            None => return Poll::Ready(()),
            Some(wait) => *sleep = Some(Box::pin(tokio::time::sleep(wait))),
        }
    }
}

/// A number of bytes as accounts count them.
fn whole(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

impl<S: AsyncRead + Unpin, P: Unpin> AsyncRead for Metered<S, P> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.account.is_spent() {
            return this.spent();
        }
        ready!(poll_pace(&this.account, &mut this.reading, context));
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(context, buffer))?;
        let read = whole(buffer.filled().len().saturating_sub(before));
        this.count(read);
        // What came in beyond the cap has come; nobody gets it.
        if this.account.take(read) < read {
            buffer.set_filled(before);
            return this.spent();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin, P: Unpin> AsyncWrite for Metered<S, P> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(poll_pace(&this.account, &mut this.writing, context));
        let taken = this.account.take(whole(bytes.len().min(MAX_WRITE)));
        if taken == 0 && !bytes.is_empty() {
            return this.spent();
        }
        let allowed = usize::try_from(taken).ok().and_then(|taken| bytes.get(..taken)).unwrap_or_default();
        let written = Pin::new(&mut this.stream).poll_write(context, allowed);
        let moved = match &written {
            Poll::Ready(Ok(moved)) => whole(*moved),
            _ => 0,
        };
        this.account.give_back(taken.saturating_sub(moved));
        this.count(moved);
        written
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    fn account(connections: u32, bytes_per_second: u64, total_bytes: u64) -> Arc<Account> {
        Account::new(Caps { connections, bytes_per_second, total_bytes })
    }

    fn metered(account: &Arc<Account>) -> (Metered<DuplexStream, OwnedSemaphorePermit>, DuplexStream) {
        let (near, far) = duplex(1 << 20);
        (Metered::new(near, Arc::clone(account), account.place().unwrap(), Arc::default()), far)
    }

    #[tokio::test]
    async fn connections_at_a_time_are_bounded() {
        let account = account(2, 1000, 1000);
        let (first, _far) = metered(&account);
        let _second = metered(&account);
        assert!(account.place().is_none() && account.open() == 2);
        drop(first);
        assert!(account.open() == 1 && account.place().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn not_a_byte_more_than_the_total_goes_out() {
        let account = account(2, 1 << 20, 1000);
        let ((mut first, mut far), (mut second, mut other_far)) = (metered(&account), metered(&account));
        first.write_all(&[0; 600]).await.unwrap();
        let used = Arc::clone(&second.used);
        assert!(second.write_all(&[0; 600]).await.is_err() && used.was_cut() && account.is_spent());
        assert!(first.write(&[0]).await.is_err());
        drop((first, second));
        let (mut read, mut other) = (Vec::new(), Vec::new());
        far.read_to_end(&mut read).await.unwrap();
        other_far.read_to_end(&mut other).await.unwrap();
        assert_eq!((read.len(), other.len()), (600, 400));
        assert_eq!((account.bytes(), used.bytes()), (1000, 400));
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_in_beyond_the_total_is_given_to_nobody() {
        let account = account(1, 1 << 20, 1000);
        let (mut near, mut far) = metered(&account);
        far.write_all(&[1; 1001]).await.unwrap();
        let mut read = [0; 2000];
        assert!(near.read(&mut read).await.is_err() && near.used.was_cut());
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_a_second_hold_for_both_directions_and_all_connections() {
        let account = account(2, 100_000, u64::MAX);
        let ((mut first, mut far), (mut second, mut other_far)) = (metered(&account), metered(&account));
        other_far.write_all(&vec![0; 300_000]).await.unwrap();
        let began = Instant::now();
        let sent = async {
            first.write_all(&vec![0; 300_000]).await.unwrap();
        };
        let received = async {
            second.read_exact(&mut vec![0; 300_000]).await.unwrap();
        };
        let taken = async {
            far.read_exact(&mut vec![0; 300_000]).await.unwrap();
        };
        tokio::join!(sent, received, taken);
        // 600,000 bytes, of which the first 100,000 and up to one reading of each direction need not wait.
        let took = began.elapsed();
        assert!(took > Duration::from_secs(1) && took < Duration::from_secs(6), "{took:?}");
    }
}
