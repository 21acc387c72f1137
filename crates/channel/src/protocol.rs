//! HTTP on a connection: version 1.1, or version 2 with its limits.

use crate::error::ChannelError;
use crate::request::Body;
use hyper::body::{Body as _, Bytes, Frame, Incoming, SizeHint};
use hyper::client::conn::{http1, http2};
use hyper::rt::{Executor, Read, Write};
use hyper_util::rt::TokioTimer;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::{Instant, Sleep, sleep_until};

/// Which versions of HTTP are offered to a peer in the TLS handshake (ALPN, RFC 7301).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Protocols {
    /// HTTP/1.1 alone: one request at a time on a connection.
    #[default]
    Http1,
    /// HTTP/2, and HTTP/1.1 for peers that do not speak it: many requests at a time on one connection, which is attested
    /// once.
    Http2OrHttp1,
}

/// The most bytes that HTTP heads and read buffers take.
/// Twice the head that a guest takes, and room for the longest chunk header.
const MAX_BUFFER: usize = 128 * 1024;
/// The most header fields of an answer. Guests send under 20.
const MAX_HEADERS: usize = 64;
/// The most bytes of the header fields of an answer over HTTP/2, each counted with 32 more (RFC 9113 section 6.5.2).
const MAX_HEADER_LIST: u32 = 64 * 1024;
/// The most requests at a time on one HTTP/2 connection. RFC 9113 section 6.5.2 recommends peers to allow no fewer.
pub(crate) const MAX_STREAMS: usize = 100;
/// The most bytes of one answer that wait to be read. One that nobody reads holds up no other: together they fill the
/// window of the connection only when there are [`MAX_STREAMS`] of them.
const STREAM_WINDOW: u32 = 256 * 1024;
/// The most bytes that wait to be read on one HTTP/2 connection: 25 MiB.
const CONNECTION_WINDOW: u32 = 100 * STREAM_WINDOW;
/// The most bytes of one request that wait to be written. A piece of a prompt is as long.
const SEND_BUFFER: usize = 64 * 1024;
/// How long a guest with open requests may be silent before it is asked for a sign of life.
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// How long it may take over that sign.
const PING_LIMIT: Duration = Duration::from_secs(40);
/// How long a guest may be silent within an answer that it has begun. A guest ends by itself when its engine says nothing for
/// 300 seconds (`limits.engine_seconds`): this is twice as long. That its kernel answers, or HTTP/2's pings, is no sign that
/// anything will come.
const SILENCE_LIMIT: Duration = Duration::from_secs(600);
/// How long a connection that nobody needs any more may take to say goodbye.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// Where requests go in.
pub(crate) enum Sender {
    Http1(http1::SendRequest<Body>, Arc<dyn Work>),
    Http2(http2::SendRequest<Body>, Arc<dyn Streams>),
}

/// What all handles on an HTTP/2 connection share.
pub(crate) trait Streams: Send + Sync {
    /// How many requests at a time the peer allows.
    fn allowed(&self) -> usize;

    /// Ends the connection at once: nothing that still waits is written.
    fn abort(&self);
}

/// Work on an HTTP/1.1 connection in the task of whoever awaits an answer.
pub(crate) trait Work: Send + Sync {
    /// Reads and writes what can be read and written. From now on the caller alone works on the connection, until it says
    /// that it is [done](Work::done): it is woken where there is more to do.
    fn work(&self, cx: &mut Context<'_>);

    /// Leaves the connection to the task of its own.
    fn done(&self);
}

/// Speaks HTTP/1.1 on a stream until it ends, or a while after `gone` is dropped.
pub(crate) async fn http1<S>(stream: S, gone: oneshot::Receiver<()>) -> Result<Sender, hyper::Error>
where
    S: Read + Write + Send + Unpin + 'static,
{
    let (sender, connection) =
        http1::Builder::new().max_buf_size(MAX_BUFFER).max_headers(MAX_HEADERS).handshake(stream).await?;
    let connection = Some(connection);
    let shared = Arc::new(Single(Mutex::new(Progress { connection, taken: false, waiting: None })));
    let single = Arc::clone(&shared);
    tokio::spawn(async move {
        // Whoever awaits an answer on this connection is told of its failure too, so that none is lost here.
        until(single.run(), gone).await;
        single.end();
    });
    Ok(Sender::Http1(sender, shared))
}

/// An HTTP/1.1 connection: one request at a time.
///
/// hyper hands over an answer piece by piece, each only when the one before has been taken. Were the connection always
/// worked on by a task of its own, each piece would cost two turns of the scheduler, and those who pass answers on
/// would write each by itself. So whoever awaits an answer works on the connection; the task of its own does while
/// nobody does.
///
/// The lock is held for one poll at a time and never across an `await`.
struct Single<S>(Mutex<Progress<S>>)
where
    S: Read + Write + Send + Unpin + 'static;

struct Progress<S>
where
    S: Read + Write + Send + Unpin + 'static,
{
    /// Empty when it has ended.
    connection: Option<http1::Connection<S, Body>>,
    /// Whether somebody works on it who awaits an answer. The connection wakes whoever polled it last, so nobody else may.
    taken: bool,
    /// The task of its own, which waits meanwhile.
    waiting: Option<Waker>,
}

impl<S: Read + Write + Send + Unpin + 'static> Single<S> {
    async fn run(&self) {
        poll_fn(|cx| {
            let mut progress = self.lock();
            if progress.taken && progress.connection.is_some() {
                progress.waiting = Some(cx.waker().clone());
                return Poll::Pending;
            }
            progress.poll(cx)
        })
        .await;
    }

    fn end(&self) {
        let connection = self.lock().connection.take();
        drop(connection);
    }

    fn lock(&self) -> MutexGuard<'_, Progress<S>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Read + Write + Send + Unpin + 'static> Progress<S> {
    /// How it ends, those who await answers are told.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(connection) = &mut self.connection {
            let _ = ready!(Pin::new(connection).poll(cx));
            self.connection = None;
        }
        Poll::Ready(())
    }

    fn wake(&mut self) {
        if let Some(task) = self.waiting.take() {
            task.wake();
        }
    }
}

impl<S: Read + Write + Send + Unpin + 'static> Work for Single<S> {
    fn work(&self, cx: &mut Context<'_>) {
        let mut progress = self.lock();
        progress.taken = true;
        if progress.poll(cx).is_ready() {
            progress.wake();
        }
    }

    fn done(&self) {
        let mut progress = self.lock();
        if std::mem::take(&mut progress.taken) {
            progress.wake();
        }
    }
}

/// Works on a connection, for as long as an answer is awaited.
pub(crate) struct Working(Arc<dyn Work>);

impl Working {
    pub(crate) fn on(work: &Arc<dyn Work>) -> Self {
        Self(Arc::clone(work))
    }

    /// What `poll` gives, at once or after work on the connection.
    pub(crate) fn poll<T>(
        &self,
        cx: &mut Context<'_>,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        if let Poll::Ready(done) = poll(cx) {
            return Poll::Ready(done);
        }
        self.0.work(cx);
        poll(cx)
    }

    /// What `future` gives, with work on the connection while it is awaited.
    pub(crate) async fn until<T>(&self, future: impl Future<Output = T>) -> T {
        let mut future = std::pin::pin!(future);
        poll_fn(|cx| self.poll(cx, |cx| future.as_mut().poll(cx))).await
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.0.done();
    }
}

/// Speaks HTTP/2 on a stream until it ends, or a while after `gone` is dropped.
///
/// What hyper does by itself: pushed answers are switched off, and a peer that pushes loses its connection; pongs and
/// acknowledgements wait one at a time; header lists and their continuations are bounded.
pub(crate) async fn http2<S>(stream: S, gone: oneshot::Receiver<()>) -> Result<Sender, hyper::Error>
where
    S: Read + Write + Send + Unpin + 'static,
{
    let (end, ended) = watch::channel(());
    let (sender, connection) = http2::Builder::new(Tasks(ended))
        .timer(TokioTimer::new())
        .initial_max_send_streams(MAX_STREAMS)
        .max_concurrent_reset_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADER_LIST)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_LIMIT)
        .handshake(stream)
        .await?;
    let shared = Arc::new(Dispatch { connection: Mutex::new(Some(connection)), aborted: Notify::new() });
    let dispatch = Arc::clone(&shared);
    tokio::spawn(async move {
        let work = async {
            dispatch.run().await;
            // Answers under way are read to their end by tasks of their own.
            end.closed().await;
        };
        tokio::select! {
            biased;
            () = dispatch.aborted.notified() => {}
            () = until(work, gone) => {}
        }
        // With `end` whatever is left of them ends.
        drop(end);
    });
    Ok(Sender::Http2(sender, shared))
}

/// Works on a connection until it ends, or nobody needs it and it does not end in time.
async fn until(connection: impl Future, gone: oneshot::Receiver<()>) {
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        _ = &mut connection => {}
        _ = gone => {
            let _ = tokio::time::timeout(CLOSE_LIMIT, connection).await;
        }
    }
}

/// Runs the parts of one HTTP/2 connection, each until the other half of the channel is dropped.
#[derive(Clone)]
struct Tasks(watch::Receiver<()>);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Tasks {
    fn execute(&self, task: F) {
        let mut end = self.0.clone();
        tokio::spawn(async move {
            tokio::select! {
                // First, so that a task does nothing more after the end.
                biased;
                // Nothing is ever sent on it.
                _ = end.changed() => {}
                () = task => {}
            }
        });
    }
}

/// The half of an HTTP/2 connection that takes requests. Empty when it has ended.
///
/// The lock is held for one poll or one question at a time and never across an `await`.
struct Dispatch<S>
where
    S: Read + Write + Send + Unpin + 'static,
{
    connection: Mutex<Option<Connection<S>>>,
    aborted: Notify,
}

type Connection<S> = http2::Connection<S, Body, Tasks>;

impl<S: Read + Write + Send + Unpin + 'static> Dispatch<S> {
    async fn run(&self) {
        // How it ends, those who await answers are told.
        poll_fn(|cx| match &mut *self.lock() {
            Some(connection) => Pin::new(connection).poll(cx).map(drop),
            None => Poll::Ready(()),
        })
        .await;
        *self.lock() = None;
    }

    fn lock(&self) -> MutexGuard<'_, Option<Connection<S>>> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Read + Write + Send + Unpin + 'static> Streams for Dispatch<S> {
    fn allowed(&self) -> usize {
        self.lock().as_ref().map_or(0, |connection| connection.current_max_send_streams().min(MAX_STREAMS))
    }

    fn abort(&self) {
        self.aborted.notify_one();
        let connection = self.lock().take();
        drop(connection);
    }
}

/// The body of an answer as it comes in. An answer that the peer breaks off ends with an error, however it does that, and so
/// does one of which nothing comes for [`SILENCE_LIMIT`].
pub(crate) struct Received {
    incoming: Incoming,
    version: http::Version,
    /// Over HTTP/1.1, until the end has come.
    working: Option<Working>,
    silence: Silence,
}

/// How long nothing has come, counted from when somebody first waited for it.
#[derive(Default)]
struct Silence {
    /// When it began; nothing while something comes.
    since: Option<Instant>,
    /// Made once, at the first silence, and set anew only where it ends too early.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Silence {
    /// Resolves when it has lasted [`SILENCE_LIMIT`].
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let since = *self.since.get_or_insert_with(Instant::now);
        let end = since.checked_add(SILENCE_LIMIT).unwrap_or(since);
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(end)));
        loop {
            ready!(timer.as_mut().poll(cx));
            if timer.deadline() >= end {
                return Poll::Ready(());
            }
            timer.as_mut().reset(end);
        }
    }

    fn broken(&mut self) {
        self.since = None;
    }
}

impl Received {
    pub(crate) fn new(incoming: Incoming, version: http::Version, working: Option<Working>) -> Self {
        Self { incoming, version, working, silence: Silence::default() }
    }

    /// Whether the end that was reached is that of the answer.
    ///
    /// A peer may reset a stream without an error once it has answered early (RFC 9113 section 8.1), and hyper takes every
    /// such reset for an end. It is one only where all bytes that were announced have come.
    fn is_whole(&self) -> bool {
        self.version != http::Version::HTTP_2
            || self.incoming.is_end_stream()
            || self.incoming.size_hint().exact() == Some(0)
    }
}

impl hyper::body::Body for Received {
    type Data = Bytes;
    type Error = ChannelError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ChannelError>>> {
        let Self { incoming, working, .. } = &mut *self;
        let mut poll = |cx: &mut Context<'_>| Pin::new(&mut *incoming).poll_frame(cx);
        let polled = match working {
            Some(working) => working.poll(cx, poll),
            None => poll(cx),
        };
        let Poll::Ready(frame) = polled else {
            ready!(self.silence.poll(cx));
            let (step, limit) = ("the next piece of the answer", SILENCE_LIMIT);
            return Poll::Ready(Some(Err(ChannelError::TimedOut { step, limit })));
        };
        self.silence.broken();
        if !matches!(frame, Some(Ok(_))) {
            self.working = None;
        }
        Poll::Ready(match frame {
            Some(frame) => Some(frame.map_err(ChannelError::connection)),
            None if self.is_whole() => None,
            None => Some(Err(ChannelError::AnswerCut)),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
