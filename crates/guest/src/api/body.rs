//! Bodies: those of requests read within limits, and those of answers.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use confide_service::Work;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use zeroize::Zeroizing;

use super::fault::Fault;
use super::stream::EventStream;

/// The body of an answer.
pub struct Body {
    inner: Inner,
    /// What a drain waits for until the answer is out.
    work: Option<Work>,
}

enum Inner {
    Whole(Option<Bytes>),
    Stream(Box<EventStream>),
}

impl Body {
    /// A whole answer in JSON. Answers are one client's alone, so that no cache keeps them.
    pub(super) fn json(status: StatusCode, json: Vec<u8>) -> Response<Self> {
        Self::answer(Inner::Whole(Some(json.into())), status, "application/json")
    }

    /// An answer as it is being made.
    pub(super) fn stream(events: EventStream) -> Response<Self> {
        Self::answer(Inner::Stream(Box::new(events)), StatusCode::OK, "text/event-stream")
    }

    /// Makes a drain wait until this body is out or dropped.
    pub(super) fn hold(&mut self, work: Work) {
        self.work = Some(work);
    }

    fn answer(inner: Inner, status: StatusCode, media_type: &'static str) -> Response<Self> {
        let mut response = Response::new(Self { inner, work: None });
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let frame = match &mut self.inner {
            Inner::Whole(bytes) => Poll::Ready(bytes.take().map(Frame::data)),
            Inner::Stream(events) => events.poll_frame(context),
        };
        frame.map(|frame| frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        match &self.inner {
            Inner::Whole(bytes) => bytes.is_none(),
            Inner::Stream(events) => events.is_over(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Inner::Whole(bytes) => SizeHint::with_exact(
                bytes.as_ref().map_or(0, |bytes| bytes.len().try_into().unwrap_or(u64::MAX)),
            ),
            Inner::Stream(_) => SizeHint::default(),
        }
    }
}

/// Reads the body of a request, of at most `limit` bytes within `time`. Our copy is overwritten when dropped.
///
/// # Errors
/// [`Fault::TooLarge`], [`Fault::BodyTimedOut`] or [`Fault::BodyUnreadable`].
pub(super) async fn read_body<B: HttpBody>(
    body: B,
    limit: usize,
    time: Duration,
) -> Result<Zeroizing<Vec<u8>>, Fault> {
    let reading = tokio::time::timeout(time, collect(body, limit)).await;
    reading.map_err(|_| Fault::BodyTimedOut { limit: time })?
}

async fn collect<B: HttpBody>(body: B, limit: usize) -> Result<Zeroizing<Vec<u8>>, Fault> {
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > limit {
        return Err(Fault::TooLarge { limit });
    }
    let mut body = pin!(body);
    let mut whole = Zeroizing::new(Vec::new());
    while let Some(frame) = body.frame().await {
        // Trailers are of no use here.
        let Ok(mut data) = frame.map_err(|_| Fault::BodyUnreadable)?.into_data() else { continue };
        if data.remaining() > limit.saturating_sub(whole.len()) {
            return Err(Fault::TooLarge { limit });
        }
        while data.has_remaining() {
            let piece = data.chunk();
            append(&mut whole, piece);
            data.advance(piece.len());
        }
    }
    Ok(whole)
}

/// Appends a piece, and overwrites the memory that the growing buffer leaves behind.
fn append(whole: &mut Zeroizing<Vec<u8>>, piece: &[u8]) {
    let length = whole.len().saturating_add(piece.len());
    if whole.capacity() < length {
        let mut grown = Zeroizing::new(Vec::with_capacity(length.saturating_mul(2)));
        grown.extend_from_slice(whole);
        *whole = grown;
    }
    whole.extend_from_slice(piece);
}
