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
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::sync::{Notify, oneshot, watch};

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
/// How long a connection that nobody needs any more may take to say goodbye.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// Where requests go in.
pub(crate) enum Sender {
    Http1(http1::SendRequest<Body>),
    Http2(http2::SendRequest<Body>, Arc<dyn Streams>),
}

/// What all handles on an HTTP/2 connection share.
pub(crate) trait Streams: Send + Sync {
    /// How many requests at a time the peer allows.
    fn allowed(&self) -> usize;

    /// Ends the connection at once: nothing that still waits is written.
    fn abort(&self);
}

/// Speaks HTTP/1.1 on a stream until it ends, or a while after `gone` is dropped.
pub(crate) async fn http1<S>(stream: S, gone: oneshot::Receiver<()>) -> Result<Sender, hyper::Error>
where
    S: Read + Write + Send + Unpin + 'static,
{
    let (sender, connection) =
        http1::Builder::new().max_buf_size(MAX_BUFFER).max_headers(MAX_HEADERS).handshake(stream).await?;
    // Whoever awaits an answer on this connection is told of its failure too, so that none is lost here.
    tokio::spawn(until(connection, gone));
    Ok(Sender::Http1(sender))
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

/// The body of an answer as it comes in. An answer that the peer breaks off ends with an error, however it does that.
pub(crate) struct Received {
    incoming: Incoming,
    version: http::Version,
}

impl Received {
    pub(crate) fn new(incoming: Incoming, version: http::Version) -> Self {
        Self { incoming, version }
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
        Poll::Ready(match ready!(Pin::new(&mut self.incoming).poll_frame(cx)) {
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
