//! Errors in the form of OpenAI's API for requests that never reach a service.
//!
//! hyper answers a request that it cannot parse by itself, with a status and no body, and closes the connection.
//! [`answer`] stands between hyper and the stream: it gives those answers a body with a stable code, and changes no
//! other byte. An answer is hyper's own exactly where it begins while no answer of the service is under way, so that
//! nothing that a service writes, in a head or in a body, can pass for one.
//!
//! Some connections hyper gives up without a word: HTTP/2 by prior knowledge, a head that does not arrive in time or
//! breaks off. [`conclude`] answers these.
//!
//! A peer that is still sending when the connection ends would lose the answer to a TCP reset. What it sends is
//! therefore discarded, for a short time, once our side is closed (RFC 9112 section 9.6).

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use http::{Request, Response, StatusCode};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::server::conn::http1::Parts;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::time::Sleep;

/// How long a peer's bytes are discarded after our side is closed. Long enough for a round trip and a reader.
const LINGER: Duration = Duration::from_secs(2);
/// Bytes that are discarded at a time.
const DISCARD: usize = 16 * 1024;

/// Stable codes of these answers: code, what it means, what to do.
pub const CODES: &[(&str, &str, &str)] = &[
    (
        "malformed_http",
        "the request is not HTTP/1.1: its request line, a header field or its framing cannot be read",
        "send the request with an HTTP library; HTTP/2 is not spoken here",
    ),
    (
        "request_target_too_long",
        "the path and query of the request are too long",
        "put the contents of the request in its body",
    ),
    (
        "request_head_too_large",
        "the header fields of the request are too large or too many",
        "send fewer or shorter header fields",
    ),
    (
        "http_version_unsupported",
        "the connection begins as one of HTTP/2, which is not spoken here",
        "send the request over HTTP/1.1, without prior knowledge of HTTP/2",
    ),
    (
        "request_head_timed_out",
        "the request line and the header fields did not arrive in time",
        "send the whole head of a request at once",
    ),
];

/// Code and sentence for a status of hyper's own.
fn told(status: &[u8]) -> (&'static str, &'static str) {
    let place = match status {
        b"414" => 1,
        b"431" => 2,
        _ => 0,
    };
    #[expect(clippy::indexing_slicing, reason = "`CODES` has a row for each place above")]
    let (code, meaning, _) = CODES[place];
    (code, meaning)
}

/// The body of an answer.
fn error_object((code, message): (&str, &str)) -> String {
    format!(
        r#"{{"error":{{"message":"{message}","type":"invalid_request_error","param":null,"code":"{code}"}}}}"#
    )
}

/// What hyper leaves without an answer though a request was on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unanswered {
    /// The preface of HTTP/2 (RFC 9113 section 3.4).
    Http2,
    /// The rest of a head did not come in time.
    Slow,
    /// The rest of a head never comes: the peer has closed its side.
    Cut,
}

impl Unanswered {
    /// What an error of hyper's means for a peer of which `unread` was received and not taken for a request. Nothing
    /// where the peer owes no request: between two of them it may be silent and may leave.
    fn of(error: &hyper::Error, unread: &[u8]) -> Option<Self> {
        match () {
            () if unread.is_empty() => None,
            () if error.is_parse_version_h2() => Some(Self::Http2),
            () if error.is_timeout() => Some(Self::Slow),
            () if error.is_incomplete_message() => Some(Self::Cut),
            () => None,
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::Http2 => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Self::Slow => StatusCode::REQUEST_TIMEOUT,
            Self::Cut => StatusCode::BAD_REQUEST,
        }
    }

    /// Code and sentence.
    fn told(self) -> (&'static str, &'static str) {
        let place = match self {
            Self::Http2 => 3,
            Self::Slow => 4,
            Self::Cut => 0,
        };
        #[expect(clippy::indexing_slicing, reason = "`CODES` has a row for each place above")]
        let (code, meaning, _) = CODES[place];
        (code, meaning)
    }

    /// The whole answer.
    fn answer(self) -> String {
        let (status, body) = (self.status(), error_object(self.told()));
        format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\ndate: {}\r\n\r\n{body}",
            body.len(),
            httpdate::fmt_http_date(SystemTime::now()),
        )
    }
}

/// Answers the request that hyper has given up with `error`, where it has not answered by itself, and closes the stream.
/// Takes at most 4 seconds. Nothing is written where the end of an earlier answer is still on its way.
pub async fn conclude<S, F>(ended: Parts<TokioIo<Stream<S>>, Service<F>>, error: &hyper::Error)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut stream = ended.io.into_inner();
    let Some(unanswered) = Unanswered::of(error, &ended.read_buf).filter(|_| stream.writes_by_itself())
    else {
        return;
    };
    let answer = async {
        stream.stream.write_all(unanswered.answer().as_bytes()).await?;
        stream.stream.flush().await?;
        stream.linger = Linger::Wanted;
        stream.shutdown().await
    };
    // A peer that does not read gets no answer.
    let _ = tokio::time::timeout(LINGER.saturating_mul(2), answer).await;
}

/// Puts bodies into hyper's own answers on this connection. Both halves must serve it: `stream` carries what hyper
/// reads and writes, and `service` is what hyper calls.
pub fn answer<S, F>(stream: S, service: F) -> (Stream<S>, Service<F>) {
    let ledger = Arc::new(Ledger::default());
    let stream = Stream {
        stream,
        ledger: Arc::clone(&ledger),
        settled: 0,
        instead: None,
        linger: Linger::Unknown,
        discarded: None,
    };
    (stream, Service { service, ledger })
}

/// What is under way on one connection.
#[derive(Debug, Default)]
struct Ledger {
    /// Requests that were given to the service.
    begun: AtomicU64,
    /// Those of them whose answer has not been written to its end, into hyper's buffer at least.
    open: AtomicU64,
}

impl Ledger {
    fn begun(&self) -> u64 {
        self.begun.load(Ordering::Acquire)
    }

    fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire) > 0
    }
}

/// One request and its answer: over when dropped.
#[derive(Debug)]
struct Exchange(Arc<Ledger>);

impl Exchange {
    fn begin(ledger: &Arc<Ledger>) -> Self {
        ledger.begun.fetch_add(1, Ordering::AcqRel);
        ledger.open.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(ledger))
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A service whose answers are known to the [`Stream`] of the same connection.
#[derive(Debug)]
pub struct Service<F> {
    service: F,
    ledger: Arc<Ledger>,
}

impl<F, B> hyper::service::Service<Request<Incoming>> for Service<F>
where
    F: hyper::service::Service<Request<Incoming>, Response = Response<B>>,
    F::Future: Send + 'static,
{
    type Response = Response<Answer<B>>;
    type Error = F::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, F::Error>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let exchange = Exchange::begin(&self.ledger);
        let answering = self.service.call(request);
        Box::pin(async move {
            let answer = answering.await?;
            Ok(answer.map(|body| Answer { body, _exchange: exchange }))
        })
    }
}

/// The body of an answer that is under way until it has been written.
#[derive(Debug)]
pub struct Answer<B> {
    body: B,
    _exchange: Exchange,
}

impl<B: Body + Unpin> Body for Answer<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The connection's stream as hyper sees it.
#[derive(Debug)]
pub struct Stream<S> {
    stream: S,
    ledger: Arc<Ledger>,
    /// How many requests had begun when the last byte of the service's answers had left hyper's buffer.
    settled: u64,
    /// What is written in the place of hyper's own answer.
    instead: Option<Instead>,
    linger: Linger,
    /// Room for what is discarded.
    discarded: Option<Box<[u8; DISCARD]>>,
}

#[derive(Debug)]
struct Instead {
    bytes: Vec<u8>,
    written: usize,
}

/// Whether a peer's bytes are still taken after our side is closed.
#[derive(Debug)]
enum Linger {
    /// Our side is open.
    Unknown,
    /// Hyper's own answer was written: the peer may still be sending what it was refused for.
    Wanted,
    /// Our side is closed.
    Until(Pin<Box<Sleep>>),
}

impl<S> Stream<S> {
    /// Whether what hyper writes now belongs to no answer of the service.
    fn writes_by_itself(&self) -> bool {
        !self.ledger.is_open() && self.ledger.begun() == self.settled
    }

    /// hyper flushes when its buffer is empty: what it writes next begins an answer, unless one is under way.
    fn note_flush(&mut self) {
        if !self.ledger.is_open() {
            self.settled = self.ledger.begun();
        }
    }
}

/// The answer with a body in the place of hyper's own; nothing where these bytes are not one.
fn with_body(own: &[u8]) -> Option<Vec<u8>> {
    const EMPTY: &[u8] = b"\r\ncontent-length: 0\r\n";
    const END: &[u8] = b"\r\n\r\n";
    let rest = own.strip_prefix(b"HTTP/1.1 ").or_else(|| own.strip_prefix(b"HTTP/1.0 "))?;
    let status = rest.get(..3).filter(|status| status.starts_with(b"4"))?;
    let at = own.windows(EMPTY.len()).position(|window| window == EMPTY)?;
    let (before, from) = own.split_at_checked(at)?;
    let behind = from.strip_prefix(EMPTY)?;
    let end = own.windows(END.len()).position(|window| window == END)?;
    if own.get(end..) != Some(END) {
        return None;
    }
    let body = error_object(told(status));
    let fields = format!("\r\ncontent-type: application/json\r\ncontent-length: {}\r\n", body.len());
    let mut answer = before.to_vec();
    answer.extend_from_slice(fields.as_bytes());
    answer.extend_from_slice(behind);
    answer.extend_from_slice(body.as_bytes());
    Some(answer)
}

impl<S: AsyncWrite + Unpin> Stream<S> {
    /// Writes what stands in the place of hyper's own answer, which is accepted as a whole.
    fn poll_instead(&mut self, cx: &mut Context<'_>, own: usize) -> Poll<io::Result<usize>> {
        if let Some(instead) = &mut self.instead {
            while let Some(rest) = instead.bytes.get(instead.written..).filter(|rest| !rest.is_empty()) {
                match ready!(Pin::new(&mut self.stream).poll_write(cx, rest))? {
                    0 => return Poll::Ready(Ok(0)),
                    written => instead.written = instead.written.saturating_add(written),
                }
            }
        }
        self.instead = None;
        Poll::Ready(Ok(own))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream<S> {
    /// Discards what the peer sends, until it ends or nothing more is worth waiting for.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let discarded = self.discarded.get_or_insert_with(|| Box::new([0; DISCARD]));
            let mut room = ReadBuf::new(&mut discarded[..]);
            match Pin::new(&mut self.stream).poll_read(cx, &mut room) {
                Poll::Ready(Ok(())) if !room.filled().is_empty() => {
                    if !matches!(self.linger, Linger::Until(_)) {
                        self.linger = Linger::Wanted;
                    }
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending if matches!(self.linger, Linger::Unknown) => return Poll::Ready(()),
                Poll::Pending => break,
            }
            if self.poll_deadline(cx).is_ready() {
                return Poll::Ready(());
            }
        }
        self.poll_deadline(cx)
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !matches!(self.linger, Linger::Until(_)) {
            self.linger = Linger::Until(Box::pin(tokio::time::sleep(LINGER)));
        }
        match &mut self.linger {
            Linger::Until(end) => end.as_mut().poll(cx),
            Linger::Unknown | Linger::Wanted => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Stream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.instead.is_none() && self.writes_by_itself() {
            self.instead = with_body(buf).map(|bytes| Instead { bytes, written: 0 });
        }
        if self.instead.is_some() {
            self.linger = Linger::Wanted;
            return self.poll_instead(cx, buf.len());
        }
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.instead.is_some() || self.writes_by_itself() {
            // hyper's own answer is one slice: heads are.
            let first = bufs.iter().find(|buf| !buf.is_empty()).map_or(&[][..], |buf| buf);
            return self.poll_write(cx, first);
        }
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.note_flush();
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !matches!(self.linger, Linger::Until(_)) {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
        }
        self.poll_linger(cx).map(Ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use http_body_util::combinators::UnsyncBoxBody;
    use http_body_util::{BodyExt as _, Full, StreamBody};
    use hyper::server::conn::http1;
    use hyper::service::service_fn;
    use hyper_util::rt::{TokioIo, TokioTimer};
    use std::convert::Infallible;
    use tokio::io::{AsyncReadExt as _, DuplexStream};
    use tokio::task::JoinHandle;

    /// What hyper itself answers, to the letter: contents that must not be mistaken for it.
    const OWN: &str = "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    const GOOD: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    /// What an HTTP/2 client with prior knowledge sends: the preface and an empty SETTINGS frame.
    const HTTP2: &str = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    const HEAD_LIMIT: Duration = Duration::from_secs(30);

    /// Serves one connection; each answer's body is `body`, in one piece or in chunks.
    fn serve(capacity: usize, body: &'static [u8], chunked: Chunked) -> (DuplexStream, JoinHandle<()>) {
        let (ours, theirs) = tokio::io::duplex(capacity);
        let body = Bytes::from_static(body);
        let service = service_fn(move |request: Request<Incoming>| answered(request, body.clone(), chunked));
        let (stream, service) = answer(ours, service);
        let serving = tokio::spawn(async move {
            let mut connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_LIMIT)
                .max_buf_size(8192)
                .max_headers(16)
                .serve_connection(TokioIo::new(stream), service);
            if let Err(error) = (&mut connection).await {
                conclude(connection.into_parts(), &error).await;
            }
        });
        (theirs, serving)
    }

    async fn answered(
        request: Request<Incoming>,
        body: Bytes,
        chunked: Chunked,
    ) -> Result<Response<UnsyncBoxBody<Bytes, Infallible>>, Infallible> {
        let _ = request.into_body().collect().await;
        Ok(Response::new(match chunked {
            Chunked::No => Full::new(body).boxed_unsync(),
            Chunked::Yes => {
                let pieces = [Ok(Frame::data(body.clone())), Ok(Frame::data(body))];
                StreamBody::new(futures_util::stream::iter(pieces)).boxed_unsync()
            }
        }))
    }

    #[derive(Clone, Copy)]
    enum Chunked {
        No,
        Yes,
    }

    async fn exchange(request: &[u8], body: &'static [u8], chunked: Chunked) -> String {
        let (mut stream, serving) = serve(1 << 20, body, chunked);
        stream.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        drop(stream);
        serving.await.unwrap();
        String::from_utf8(answer).unwrap()
    }

    /// Head and body of the one answer in `text`, held against its length.
    fn refusal(text: &str) -> (&str, serde_json::Value) {
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("\r\ncontent-length: {}\r\n", body.len())), "{text}");
        assert!(head.contains("\r\ncontent-type: application/json\r\n"), "{text}");
        assert!(head.contains("\r\nconnection: close"), "{text}");
        assert_eq!(head.matches("content-length").count(), 1, "{text}");
        (head, serde_json::from_str(body).unwrap())
    }

    #[tokio::test]
    async fn what_hyper_refuses_is_answered_in_the_form_of_the_api() {
        let long_field = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "a".repeat(9000));
        let many_fields = format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(17));
        let long_target = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(70_000));
        for (request, status, code) in [
            ("nonsense\r\n\r\n", 400, "malformed_http"),
            ("GET / HTTP/9.9\r\n\r\n", 400, "malformed_http"),
            ("GET / HTTP/1.1\r\nno colon\r\n\r\n", 400, "malformed_http"),
            ("POST / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", 400, "malformed_http"),
            ("POST / HTTP/1.1\r\ntransfer-encoding: x\r\n\r\n", 400, "malformed_http"),
            ("\u{16}\u{3}\u{1}\r\n\r\n", 400, "malformed_http"),
            (&long_field, 431, "request_head_too_large"),
            (&many_fields, 431, "request_head_too_large"),
            (&long_target, 431, "request_head_too_large"),
        ] {
            let answer = exchange(request.as_bytes(), b"", Chunked::No).await;
            let shown = &request[..request.len().min(60)];
            let (head, body) = refusal(&answer);
            assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{shown:?}: {head}");
            assert_eq!(body["error"]["code"], code, "{shown:?}");
            assert_eq!(body["error"]["type"], "invalid_request_error");
            assert!(body["error"]["param"].is_null() && body["error"]["message"].is_string());
        }
    }

    #[tokio::test]
    async fn http_2_by_prior_knowledge_is_told_that_it_is_not_spoken() {
        for before in ["", "\r\n", GOOD] {
            let answer = exchange(format!("{before}{HTTP2}").as_bytes(), b"fine", Chunked::No).await;
            let last = answer.rfind("HTTP/1.1 ").unwrap();
            assert_eq!(answer[..last].matches("HTTP/1.1 200 OK").count(), usize::from(before == GOOD));
            let (head, body) = refusal(&answer[last..]);
            assert!(head.starts_with("HTTP/1.1 505 HTTP Version Not Supported\r\n"), "{head}");
            assert!(head.contains("\r\ndate: "), "{head}");
            assert_eq!(body["error"]["code"], "http_version_unsupported");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_does_not_come_in_time_is_told_so() {
        for (sent, good) in [("GET / HTTP/1.1\r\nx: ", 0), ("G", 0), (&format!("{GOOD}GET"), 1)] {
            let (mut stream, serving) = serve(1 << 20, b"fine", Chunked::No);
            stream.write_all(sent.as_bytes()).await.unwrap();
            let start = tokio::time::Instant::now();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await.unwrap();
            assert_eq!(start.elapsed().as_secs(), HEAD_LIMIT.as_secs(), "{sent:?}");
            drop(stream);
            serving.await.unwrap();
            let answer = String::from_utf8(answer).unwrap();
            let last = answer.rfind("HTTP/1.1 ").unwrap();
            assert_eq!(answer[..last].matches("HTTP/1.1 200 OK").count(), good, "{answer}");
            let (head, body) = refusal(&answer[last..]);
            assert!(head.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{head}");
            assert_eq!(body["error"]["code"], "request_head_timed_out");
        }
    }

    /// It may send a request in the same moment, and would take an answer for that of its request.
    #[tokio::test(start_paused = true)]
    async fn a_peer_that_is_silent_between_requests_is_left_without_a_word() {
        for (sent, answers) in [("", 0), (GOOD, 1)] {
            let (mut stream, serving) = serve(1 << 20, b"fine", Chunked::No);
            stream.write_all(sent.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            serving.await.unwrap();
            let counted = (answer.matches("HTTP/1.1 ").count(), answer.matches("HTTP/1.1 200 OK").count());
            assert_eq!(counted, (answers, answers), "{answer}");
        }
    }

    #[tokio::test]
    async fn a_head_that_breaks_off_is_malformed() {
        for sent in ["GET", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nhost: a\r\n"] {
            let (mut stream, serving) = serve(1 << 20, b"", Chunked::No);
            stream.write_all(sent.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            serving.await.unwrap();
            let (head, body) = refusal(&answer);
            assert!(head.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{sent:?}: {head}");
            assert_eq!(body["error"]["code"], "malformed_http", "{sent:?}");
        }
    }

    #[tokio::test]
    async fn a_refusal_after_good_answers_comes_after_them() {
        let request = format!("{GOOD}{GOOD}nonsense\r\n\r\n");
        for chunked in [Chunked::No, Chunked::Yes] {
            let answer = exchange(request.as_bytes(), b"fine", chunked).await;
            let third = answer.rfind("HTTP/1.1 ").unwrap();
            assert_eq!(answer[..third].matches("HTTP/1.1 200 OK").count(), 2, "{answer}");
            let (head, body) = refusal(&answer[third..]);
            assert!(head.starts_with("HTTP/1.1 400 Bad Request"), "{head}");
            assert_eq!(body["error"]["code"], "malformed_http");
        }
    }

    #[tokio::test]
    async fn a_body_that_reads_like_hypers_own_answer_is_left_alone() {
        let request = format!("{GOOD}GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        for chunked in [Chunked::No, Chunked::Yes] {
            let answer = exchange(request.as_bytes(), OWN.as_bytes(), chunked).await;
            let copies = if matches!(chunked, Chunked::No) { 2 } else { 4 };
            assert_eq!(answer.matches(OWN).count(), copies, "{answer}");
            assert!(!answer.contains("malformed_http"), "{answer}");
        }
    }

    /// The peer reads so slowly that each write takes few bytes: however the bytes are cut, none changes.
    #[tokio::test]
    async fn a_slow_reader_gets_the_same_bytes() {
        let request = format!("{GOOD}{GOOD}nonsense\r\n\r\n");
        let whole = exchange(request.as_bytes(), OWN.as_bytes(), Chunked::Yes).await;
        let (stream, serving) = serve(7, OWN.as_bytes(), Chunked::Yes);
        let (mut reader, mut writer) = tokio::io::split(stream);
        let writing = tokio::spawn(async move {
            writer.write_all(request.as_bytes()).await.unwrap();
            writer
        });
        let mut answer = Vec::new();
        reader.read_to_end(&mut answer).await.unwrap();
        drop((reader, writing.await.unwrap()));
        serving.await.unwrap();
        let without_date = |text: &str| -> String {
            text.split_inclusive("\r\n").filter(|line| !line.starts_with("date: ")).collect()
        };
        assert_eq!(without_date(&String::from_utf8(answer).unwrap()), without_date(&whole));
    }

    #[tokio::test]
    async fn a_peer_that_still_sends_gets_the_answer_and_not_a_reset() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let served = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let service = service_fn(|_: Request<Incoming>| async {
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::new())))
            });
            let (stream, service) = answer(stream, service);
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let head = vec![b'a'; 4 << 20];
        stream.write_all(b"GET / HTTP/1.1\r\nx: ").await.unwrap();
        stream.write_all(&head).await.expect("everything is taken, though it was refused long ago");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert_eq!(refusal(&answer).1["error"]["code"], "request_head_too_large");
        drop(stream);
        served.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_never_ends_is_left_after_a_while() {
        let (mut stream, serving) = serve(1 << 20, b"", Chunked::No);
        stream.write_all(b"nonsense\r\n\r\n").await.unwrap();
        let start = tokio::time::Instant::now();
        serving.await.unwrap();
        assert_eq!(start.elapsed().as_secs(), LINGER.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_was_answered_and_is_silent_is_not_waited_for() {
        let (mut stream, serving) = serve(1 << 20, b"", Chunked::No);
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
        let start = tokio::time::Instant::now();
        serving.await.unwrap();
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    #[test]
    fn only_a_whole_and_empty_4xx_answer_is_hypers_own() {
        assert!(with_body(OWN.as_bytes()).is_some());
        assert!(with_body(OWN.replace("HTTP/1.1", "HTTP/1.0").as_bytes()).is_some());
        for other in [
            "",
            "HTTP/1.1",
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 100 Continue\r\n\r\n",
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 3\r\n\r\nabc",
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        ] {
            assert!(with_body(other.as_bytes()).is_none(), "{other:?}");
        }
    }

    #[test]
    fn every_status_has_a_code_of_the_list() {
        let of_hyper = [&b"400"[..], b"414", b"431"].map(|status| told(status).0);
        let left = [Unanswered::Http2, Unanswered::Slow].map(|one| one.told().0);
        let codes = [&of_hyper[..], &left].concat();
        assert_eq!(codes, CODES.iter().map(|(code, ..)| *code).collect::<Vec<_>>());
        for (_, meaning, what_to_do) in CODES {
            assert!(!meaning.is_empty() && !what_to_do.is_empty() && !meaning.contains(['"', '\\']));
        }
    }
}
