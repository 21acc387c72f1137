//! HTTP/2 inside the channel: what one connection of it may take up is bounded as what many of HTTP/1.1 are.
//!
//! Of the frames hyper and h2 bound what a peer can make them keep: streams, header lists and their continuations, resets,
//! pongs and acknowledgements. The rest is here. Requests over HTTP/2 have places of their own, as many as connections
//! have. One attestation at a time is under way on a connection. A peer that all answers wait for, and that takes nothing of
//! any for too long, loses its connection, and so does one without requests: over HTTP/1.1 the socket tells, here flow
//! control hides it. One that reads some of its answers keeps it: they may be those of many users.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use confide_channel_guest::{ConnectionExporter, GuestConnection};
use confide_evidence::document::ATTESTATION_PATH;
use confide_service::Lifecycle;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Either};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

use crate::api;
use crate::server::{Body, MAX_HEAD, Server};

/// The most requests at a time on one connection. RFC 9113 section 6.5.2 recommends no fewer.
const MAX_STREAMS: u32 = 100;
/// The most bytes of one request that wait to be taken.
const STREAM_WINDOW: u32 = 256 * 1024;
/// The most bytes of all requests of a connection that wait to be taken. Handlers take them as they come.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// The most bytes of one answer that wait to be written.
const SEND_BUFFER: usize = 64 * 1024;
/// The most bytes of an answer that are handed over at a time: the largest frame that every peer takes (RFC 9113 section
/// 4.2). What is not handed over counts as not taken.
const PIECE: usize = 16 * 1024;
/// The most streams that a peer may reset before they were looked at (CVE-2023-44487). As many as it may have open: a client
/// that gives up all it has asked at once keeps its connection.
const MAX_EARLY_RESETS: usize = 100;
/// The most streams that are reset for what a peer did wrong on them. As many as it may have open: honest clients do nothing wrong.
const MAX_ERROR_RESETS: usize = 100;

/// The most bytes of a request that are taken after its answer was made without them. Two frames of the usual size.
const MAX_REST: usize = 32 * 1024;
/// How long they may take.
const REST_TIME: Duration = Duration::from_secs(2);

/// Serves one connection to its end.
pub(crate) async fn serve<S>(tls: GuestConnection<S>, server: Arc<Server>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (limit, lifecycle) = (server.limits.read_time(), server.lifecycle.clone());
    let (exporter, attesting) = (Arc::new(tls.exporter()), Arc::new(Semaphore::new(1)));
    let answering = move |request| {
        let (server, exporter, attesting) =
            (Arc::clone(&server), Arc::clone(&exporter), Arc::clone(&attesting));
        async move { answer(&server, &exporter, attesting, request).await }
    };
    serve_stream(tls, limit, lifecycle, answering).await;
}

/// An answer, and the place that it holds until the last of it is handed over.
type Held = (Response<Body>, Option<OwnedSemaphorePermit>);

async fn answer<S>(
    server: &Server,
    exporter: &ConnectionExporter<S>,
    attesting: Arc<Semaphore>,
    request: Request<Lingering>,
) -> Held {
    if request.uri().path() == ATTESTATION_PATH {
        let turn = attesting.acquire_owned().await.expect("it is never closed");
        return (server.answer(exporter, request).await, Some(turn));
    }
    match Arc::clone(&server.requests).try_acquire_owned() {
        Ok(place) => (server.answer(exporter, request).await, Some(place)),
        Err(_) => (api::overloaded().map(Either::Right), None),
    }
}

/// Speaks HTTP/2 on a stream. A peer that has no request open for `limit`, or takes nothing of any answer for as long while
/// all are for it to take, is given up.
async fn serve_stream<S, A, F>(stream: S, limit: Duration, lifecycle: Lifecycle, answering: A)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    A: Fn(Request<Lingering>) -> F,
    F: Future<Output = Held> + Send + 'static,
{
    let ledger = Arc::new(Ledger::new());
    let begun = Arc::clone(&ledger);
    let service = service_fn(move |request: Request<Incoming>| {
        let request = request.map(|body| Lingering(Some(body)));
        let (exchange, answer) = (Exchange::begin(&begun), answering(request));
        async move {
            let (answer, place) = answer.await;
            Ok::<_, Infallible>(answer.map(|body| Taken { body, rest: Bytes::new(), exchange, place }))
        }
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(u32::try_from(MAX_HEAD).unwrap_or(u32::MAX))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(MAX_EARLY_RESETS)
        .max_local_error_reset_streams(MAX_ERROR_RESETS)
        .keep_alive_interval(limit)
        .keep_alive_timeout(limit)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let mut looks = tokio::time::interval(limit.checked_div(4).unwrap_or(limit));
    let mut closing = false;
    loop {
        let close = tokio::select! {
            outcome = &mut connection => {
                if let Err(error) = outcome {
                    tracing::debug!(%error, "connection ended");
                }
                return;
            }
            () = lifecycle.draining(), if !closing => true,
            _ = looks.tick() => match ledger.peer(limit) {
                Peer::Busy => false,
                Peer::Idle if !closing => true,
                peer => return tracing::debug!(?peer, "connection given up"),
            },
        };
        if close {
            closing = true;
            ledger.rest();
            connection.as_mut().graceful_shutdown();
        }
    }
}

/// What the peer of a connection does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Peer {
    /// It has requests open, and the guest makes an answer or the peer takes one.
    Busy,
    /// It has had none open for too long.
    Idle,
    /// It has taken nothing of any answer for too long.
    Deaf,
}

/// What is under way on one connection.
struct Ledger(Mutex<Entries>);

struct Entries {
    open: usize,
    /// Of these, whose next piece was handed over, and is for the peer to take.
    handed: usize,
    /// When a request began or was over, or a piece was handed over or taken.
    moved: Instant,
}

impl Ledger {
    fn new() -> Self {
        Self(Mutex::new(Entries { open: 0, handed: 0, moved: Instant::now() }))
    }

    /// Counts idleness from now on.
    fn rest(&self) {
        self.lock().moved = Instant::now();
    }

    fn peer(&self, limit: Duration) -> Peer {
        let entries = self.lock();
        match () {
            () if entries.moved.elapsed() < limit || entries.handed < entries.open => Peer::Busy,
            () if entries.open == 0 => Peer::Idle,
            () => Peer::Deaf,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One request and its answer: over when dropped.
struct Exchange {
    ledger: Arc<Ledger>,
    /// Whether a piece of the answer is for the peer to take.
    handed: bool,
}

impl Exchange {
    fn begin(ledger: &Arc<Ledger>) -> Self {
        let mut entries = ledger.lock();
        entries.open = entries.open.saturating_add(1);
        entries.moved = Instant::now();
        Self { ledger: Arc::clone(ledger), handed: false }
    }

    /// It is for the peer to take a piece.
    fn handed(&mut self) {
        let mut entries = self.ledger.lock();
        entries.handed = entries.handed.saturating_add(usize::from(!self.handed));
        entries.moved = Instant::now();
        self.handed = true;
    }

    /// It is for the guest to make the next one.
    fn taken(&mut self) {
        if self.handed {
            let mut entries = self.ledger.lock();
            entries.handed = entries.handed.saturating_sub(1);
            entries.moved = Instant::now();
            self.handed = false;
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.taken();
        let mut entries = self.ledger.lock();
        entries.open = entries.open.saturating_sub(1);
        entries.moved = Instant::now();
    }
}

/// The body of a request. What nobody reads of it is taken all the same, within limits: a server may reset the stream of a
/// request that it answers early (RFC 9113 section 8.1), but clients that write their bodies while they wait lose the answer then.
struct Lingering(Option<Incoming>);

impl HttpBody for Lingering {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.0.as_mut().map_or(Poll::Ready(None), |body| Pin::new(body).poll_frame(cx))
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map(HttpBody::size_hint).unwrap_or_default()
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        if let Some(body) = self.0.take().filter(|body| !body.is_end_stream())
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(timeout(REST_TIME, take_rest(body)));
        }
    }
}

async fn take_rest(mut body: Incoming) {
    let mut left = MAX_REST;
    while let Some(Ok(frame)) = body.frame().await {
        let length = frame.data_ref().map_or(0, Bytes::len);
        let Some(less) = left.checked_sub(length) else { return };
        left = less;
    }
}

/// The body of an answer, in pieces: the next one is asked for when the peer has made room for the last one.
struct Taken {
    body: Body,
    /// What has not been handed over yet.
    rest: Bytes,
    exchange: Exchange,
    /// Given back before the peer can know that the answer is at its end: its next request finds it.
    place: Option<OwnedSemaphorePermit>,
}

impl HttpBody for Taken {
    type Data = Bytes;
    type Error = <Body as HttpBody>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.exchange.taken();
        if self.rest.is_empty() {
            let Some(frame) = ready!(Pin::new(&mut self.body).poll_frame(cx)?) else {
                self.place = None;
                return Poll::Ready(None);
            };
            match frame.into_data() {
                Ok(data) => self.rest = data,
                // Trailers stand outside of flow control, and nothing follows them.
                Err(trailers) => {
                    self.place = None;
                    return Poll::Ready(Some(Ok(trailers)));
                }
            }
        }
        self.exchange.handed();
        let length = self.rest.len().min(PIECE);
        let piece = self.rest.split_to(length);
        if self.is_end_stream() {
            self.place = None;
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.rest.is_empty() { self.body.size_hint() } else { SizeHint::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{Empty, Full};
    use hyper::client::conn::http2::{Builder as Client, SendRequest};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
    use tokio::task::JoinHandle;

    const LIMIT: Duration = Duration::from_secs(8);
    /// The client's preface and an empty SETTINGS frame (RFC 9113 sections 3.4 and 6.5).
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    const GOAWAY: u8 = 7;

    /// A connection on which every request is answered with this many bytes.
    fn serve(length: usize) -> (DuplexStream, JoinHandle<()>, Lifecycle) {
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        let lifecycle = Lifecycle::new();
        lifecycle.ready();
        let answering =
            move |_| async move { (Response::new(Either::Left(Full::from(vec![7; length]))), None) };
        let serving = tokio::spawn(serve_stream(theirs, LIMIT, lifecycle.clone(), answering));
        (ours, serving, lifecycle)
    }

    async fn client(stream: DuplexStream, window: u32) -> SendRequest<Empty<Bytes>> {
        let (sender, connection) = Client::new(TokioExecutor::new())
            .initial_stream_window_size(window)
            .handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        sender
    }

    fn get() -> Request<Empty<Bytes>> {
        Request::get("https://a/").body(Empty::new()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn answers_are_whole_whatever_window_they_pass() {
        for window in [1, 1000, 1 << 20] {
            let (stream, _serving, _) = serve(100_000);
            let answer = client(stream, window).await.send_request(get()).await.unwrap();
            assert_eq!(answer.headers()["content-length"], "100000");
            assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), vec![7; 100_000]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_of_an_answer_is_given_up() {
        let (stream, serving, _) = serve(100_000);
        let start = Instant::now();
        let mut sender = client(stream, 1000).await;
        let answer = sender.send_request(get()).await.unwrap();
        serving.await.unwrap();
        assert!((LIMIT..LIMIT * 2).contains(&start.elapsed()), "{:?}", start.elapsed());
        assert!(answer.into_body().collect().await.is_err(), "what was cut is an error");
    }

    /// One connection may carry the answers of many users, one of whom has stopped to read.
    #[tokio::test(start_paused = true)]
    async fn an_answer_that_nobody_reads_ends_no_other() {
        let (stream, serving, _) = serve(50_000);
        let mut sender = client(stream, 1000).await;
        let unread = sender.send_request(get()).await.unwrap();
        let start = Instant::now();
        while start.elapsed() < LIMIT * 5 {
            let mut body = sender.send_request(get()).await.unwrap().into_body();
            while let Some(frame) = body.frame().await {
                frame.unwrap();
                tokio::time::sleep(LIMIT / 60).await;
            }
        }
        assert!(!serving.is_finished());
        let start = Instant::now();
        serving.await.unwrap();
        assert!(start.elapsed() < LIMIT * 2, "{:?}: it is alone now", start.elapsed());
        assert!(unread.into_body().collect().await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_nobody_reads_ends_none_that_the_guest_still_makes() {
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        let lifecycle = Lifecycle::new();
        lifecycle.ready();
        let answering = |request: Request<Lingering>| async move {
            if request.uri().path() == "/slow" {
                tokio::time::sleep(LIMIT * 3).await;
            }
            (Response::new(Either::Left(Full::from(vec![7; 50_000]))), None)
        };
        tokio::spawn(serve_stream(theirs, LIMIT, lifecycle, answering));
        let mut sender = client(ours, 1000).await;
        let _unread = sender.send_request(get()).await.unwrap();
        let slow = Request::get("https://a/slow").body(Empty::new()).unwrap();
        let answer = sender.send_request(slow).await.unwrap();
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes().len(), 50_000);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_its_answer_slowly_is_not() {
        let (stream, serving, _) = serve(50_000);
        let mut sender = client(stream, 1000).await;
        let mut body = sender.send_request(get()).await.unwrap().into_body();
        let mut read = 0;
        while let Some(frame) = body.frame().await {
            read += frame.unwrap().into_data().unwrap().len();
            tokio::time::sleep(LIMIT / 60).await;
        }
        assert_eq!(read, 50_000);
        assert!(!serving.is_finished());
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_without_requests_is_given_up() {
        let start = Instant::now();
        let (stream, serving, _) = serve(1);
        let mut sender = client(stream, 1000).await;
        sender.send_request(get()).await.unwrap().into_body().collect().await.unwrap();
        serving.await.unwrap();
        assert!((LIMIT..LIMIT * 2).contains(&start.elapsed()), "{:?}", start.elapsed());
        // One that never speaks HTTP, or never says goodbye, gets no more than that twice.
        for said in [&b""[..], PREFACE, b"PRI * HTTP/2.0\r\n"] {
            let start = Instant::now();
            let (mut stream, serving, _) = serve(1);
            stream.write_all(said).await.unwrap();
            serving.await.unwrap();
            assert!(start.elapsed() <= LIMIT * 3, "{:?}", start.elapsed());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_lets_open_answers_end_and_takes_no_new_ones() {
        let (stream, serving, lifecycle) = serve(50_000);
        let mut sender = client(stream, 1000).await;
        let mut body = sender.send_request(get()).await.unwrap().into_body();
        let first = body.frame().await.unwrap().unwrap().into_data().unwrap().len();
        lifecycle.drain();
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(first + body.collect().await.unwrap().to_bytes().len(), 50_000);
        serving.await.unwrap();
        assert!(sender.send_request(get()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_gives_up_all_that_it_asked_keeps_its_connection() {
        let (stream, serving, _) = serve(1);
        let mut sender = client(stream, 1000).await;
        for _ in 0..20 {
            let asked: Vec<_> = (0..MAX_STREAMS).map(|_| sender.send_request(get())).collect();
            tokio::task::yield_now().await;
            drop(asked);
        }
        sender.send_request(get()).await.unwrap().into_body().collect().await.unwrap();
        assert!(!serving.is_finished());
    }

    /// A frame (RFC 9113 section 4.1).
    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    }

    /// The header fields of a GET in HPACK (RFC 7541): three of the static table, and `:authority: a`.
    const HEADERS: &[u8] = b"\x82\x87\x84\x41\x01a";

    /// What the guest says to these bytes, frame by frame, until it ends the connection.
    async fn said_to(bytes: Vec<u8>) -> Vec<(u8, Vec<u8>)> {
        let (stream, serving, _) = serve(1);
        let (mut reader, mut writer) = tokio::io::split(stream);
        let writing = tokio::spawn(async move {
            // The guest may hang up in the middle of it.
            let _ = writer.write_all(&bytes).await;
            writer
        });
        let mut said = Vec::new();
        reader.read_to_end(&mut said).await.unwrap();
        drop(writing.await.unwrap());
        serving.await.unwrap();
        let (mut frames, mut rest) = (Vec::new(), &said[..]);
        while let [a, b, c, kind, _, _, _, _, _, after @ ..] = rest {
            let length = usize::try_from(u32::from_be_bytes([0, *a, *b, *c])).unwrap();
            frames.push((*kind, after[..length].to_vec()));
            rest = &after[length..];
        }
        frames
    }

    /// The error codes of all RST_STREAM (RFC 9113 section 6.4).
    fn resets(frames: &[(u8, Vec<u8>)]) -> Vec<u32> {
        let resets = frames.iter().filter(|(kind, _)| *kind == 3);
        resets.map(|(_, code)| u32::from_be_bytes(code[..].try_into().unwrap())).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_is_answered_before_its_end_is_taken_whole_within_limits() {
        // Nobody reads the bodies of these requests.
        let data = |flags| frame(0, flags, 1, &[0; PIECE]);
        let begin = [PREFACE, &frame(1, 4, 1, HEADERS)].concat();
        let whole = said_to([begin.clone(), data(0), data(1)].concat()).await;
        assert_eq!(resets(&whole), [0; 0], "{whole:?}");
        let too_much = said_to([begin.clone(), data(0).repeat(3)].concat()).await;
        assert_eq!(resets(&too_much), [0], "{too_much:?}");
        // One that never ends.
        let start = Instant::now();
        let endless = said_to([begin, data(0)].concat()).await;
        assert_eq!(resets(&endless), [0], "{endless:?}");
        assert!(start.elapsed() < LIMIT * 3, "{:?}", start.elapsed());
        for frames in [whole, too_much, endless] {
            assert_eq!(frames.iter().filter(|(kind, _)| *kind == 1).count(), 1, "no answer: {frames:?}");
        }
    }

    /// The error code of the last GOAWAY (RFC 9113 section 6.8).
    fn reason(frames: &[(u8, Vec<u8>)]) -> Option<u32> {
        let (_, goaway) = frames.iter().rev().find(|(kind, _)| *kind == GOAWAY)?;
        Some(u32::from_be_bytes(goaway[4..8].try_into().unwrap()))
    }

    #[tokio::test(start_paused = true)]
    async fn floods_end_the_connection() {
        const ENHANCE_YOUR_CALM: u32 = 11;
        let resets = (0..1000).flat_map(|number| {
            let stream = 2 * number + 1;
            [frame(1, 4, stream, HEADERS), frame(3, 0, stream, &8_u32.to_be_bytes())].concat()
        });
        let continued = (0..1000).flat_map(|_| frame(9, 0, 1, &[0x00, 0x01, b'x', 0x01, b'y'].repeat(100)));
        let begun = frame(1, 0, 1, HEADERS);
        for (what, flood) in [
            ("rapid resets", resets.collect::<Vec<u8>>()),
            ("continuations without end", begun.into_iter().chain(continued).collect()),
        ] {
            let frames = said_to([PREFACE, &flood].concat()).await;
            assert_eq!(reason(&frames), Some(ENHANCE_YOUR_CALM), "{what}: {frames:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn broken_frames_end_the_connection() {
        for (what, bytes) in [
            ("a frame that is too long", [&[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1][..], &[0; 64]].concat()),
            ("data on a stream that is not open", frame(0, 0, 1, b"x")),
            ("an even stream", frame(1, 5, 2, HEADERS)),
            ("a push", frame(5, 4, 1, &[&[0, 0, 0, 2], HEADERS].concat())),
            ("a window beyond numbers", frame(8, 0, 0, &[0x7f, 0xff, 0xff, 0xff])),
        ] {
            let frames = said_to([PREFACE, &bytes].concat()).await;
            assert!(reason(&frames).is_some_and(|reason| reason != 0), "{what}: {frames:?}");
        }
    }

    /// The control of the floods: settings and pings are answered one by one, and a request behind them as well.
    #[tokio::test(start_paused = true)]
    async fn a_request_behind_many_settings_and_pings_is_answered() {
        let noise = [frame(4, 0, 0, &[]), frame(6, 0, 0, &[1; 8])].concat().repeat(2000);
        let frames = said_to([PREFACE, &noise, &frame(1, 5, 1, HEADERS)].concat()).await;
        let count = |wanted: u8| frames.iter().filter(|(kind, _)| *kind == wanted).count();
        assert_eq!((count(1), count(0)), (1, 1), "one head, one piece");
        assert!(count(6) >= 2000, "{} pongs", count(6));
    }
}
