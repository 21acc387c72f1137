//! The guest's answer, streamed; its channel returns to the pool when it has been read.

use crate::error::ClientError;
use crate::openai;
use crate::pool::Pool;
use crate::receipts::{Expected, ReceiptError, Sent};
use bytes::Bytes;
use confide_channel::{Answer, AnswerBody, Verdict};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Frame, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::task::JoinHandle;

/// The largest answer that is read as a whole, in bytes. Streamed answers have no limit.
pub(crate) const MAX_ANSWER: usize = 16 * 1024 * 1024;

/// The longest answer whose receipt is verified before any of it is handed over, in bytes. A completion of 100,000 tokens
/// takes about half of it.
const MAX_VERIFIED_FIRST: u64 = 1024 * 1024;

/// How long an error's sentence may take.
const ERROR_LIMIT: Duration = Duration::from_secs(5);

/// The guest's answer. Not `Debug`: it may repeat the prompt.
pub struct Response {
    /// Status.
    pub status: StatusCode,
    /// Header fields.
    pub headers: HeaderMap,
    /// The verdict that the channel rests on.
    pub verdict: Arc<Verdict>,
    /// Body.
    pub body: ResponseBody,
}

/// The body of an answer.
///
/// Where the guest gives a receipt, the body's last octets are handed over once that has been verified, and kept where the
/// client keeps them: those that complete an announced length, or the `data: [DONE]` of an event stream. An answer whose
/// receipt does not hold ends with [`ClientError::Receipt`] in their place. Short answers that come whole are not handed over
/// at all before.
pub struct ResponseBody {
    body: Option<AnswerBody>,
    pool: Arc<Pool>,
    receipt: Receipt,
    /// Octets that wait for the receipt, or that come next where there is none to wait for.
    held: Option<Bytes>,
    /// The last octets of an event stream.
    tail: Option<Tail>,
    watch: Option<Arc<dyn Watch>>,
}

/// Who wants to know of an answer that breaks off.
pub(crate) trait Watch: Send + Sync {
    /// Told before the error is handed over, once.
    fn broke_off(&self, error: &ClientError);
}

/// Where the receipt of an answer stands.
enum Receipt {
    /// It comes, or has come, with what else comes of the answer.
    Expected(Box<Expected>),
    /// It holds, and is being kept.
    Keeping(JoinHandle<Result<(), ReceiptError>>),
    /// It holds and is kept, or there is none.
    Settled,
}

impl Response {
    pub(crate) fn new(answer: Answer, sent: Sent, pool: Arc<Pool>) -> Result<Self, ClientError> {
        let Answer { status, headers, body } = answer;
        let verdict = Arc::clone(body.verdict());
        let (receipt, tail) = match Expected::of(sent, status, &headers, pool.receipts())? {
            Some(expected) => (Receipt::Expected(Box::new(expected)), Tail::of(&headers)),
            None => (Receipt::Settled, None),
        };
        let body = ResponseBody { body: Some(body), pool, receipt, held: None, tail, watch: None };
        Ok(Self { status, headers, verdict, body })
    }

    /// The same answer, its receipt verified already where that came with the head and the answer is short.
    ///
    /// # Errors
    /// [`ClientError::Receipt`], and when the connection breaks.
    pub(crate) async fn verified_first(mut self) -> Result<Self, ClientError> {
        let body = &mut self.body;
        let in_head = matches!(&body.receipt, Receipt::Expected(expected) if expected.is_in_head());
        if !in_head || body.size_hint().upper().is_none_or(|length| length > MAX_VERIFIED_FIRST) {
            return Ok(self);
        }
        let mut whole = Vec::new();
        while let Some(frame) = body.frame().await {
            whole.extend_from_slice(frame?.data_ref().map_or(&[], |octets| octets));
        }
        body.held = (!whole.is_empty()).then(|| whole.into());
        Ok(self)
    }

    /// The same answer, where the guest accepted the request.
    ///
    /// # Errors
    /// [`ClientError::Answered`] with what the guest says within [`ERROR_LIMIT`], for every status but 200.
    pub(crate) async fn accepted(self) -> Result<Self, ClientError> {
        match self.status {
            StatusCode::OK => Ok(self),
            status => {
                let body = tokio::time::timeout(ERROR_LIMIT, self.whole()).await;
                Err(openai::read_error(status, &body.ok().and_then(Result::ok).unwrap_or_default()))
            }
        }
    }

    /// All bytes of the answer.
    ///
    /// # Errors
    /// [`ClientError`] when the connection breaks, or beyond [`MAX_ANSWER`].
    pub(crate) async fn whole(self) -> Result<Bytes, ClientError> {
        match Limited::new(self.body, MAX_ANSWER).collect().await {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) => Err(match error.downcast::<ClientError>() {
                Ok(error) => *error,
                Err(_) => ClientError::Answer("too large"),
            }),
        }
    }
}

impl ResponseBody {
    fn finish(&mut self) {
        if let Some(channel) = self.body.take().and_then(AnswerBody::reclaim) {
            self.pool.put(channel);
        }
    }

    /// Tells `watch` where the answer breaks off.
    pub(crate) fn watched_by(&mut self, watch: Arc<dyn Watch>) {
        self.watch = Some(watch);
    }

    /// Ends with an error. The channel is closed.
    fn fail(&mut self, error: impl Into<ClientError>) -> Poll<Option<Result<Frame<Bytes>, ClientError>>> {
        let error = error.into();
        if let Some(watch) = self.watch.take() {
            watch.broke_off(&error);
        }
        self.body = None;
        self.held = None;
        self.receipt = Receipt::Settled;
        Poll::Ready(Some(Err(error)))
    }

    /// Whether there is no receipt to wait for any more.
    pub(crate) fn is_settled(&self) -> bool {
        matches!(self.receipt, Receipt::Settled)
    }

    /// Verifies the receipt at the end of the answer, and begins to keep it.
    fn settle(&mut self, expected: Expected) -> Result<Receipt, ReceiptError> {
        let Some(body) = &self.body else { return Ok(Receipt::Settled) };
        let verified = expected.settle(body.verdict(), self.pool.ledger())?;
        if !self.pool.keeps_receipts() {
            return Ok(Receipt::Settled);
        }
        let pool = Arc::clone(&self.pool);
        Ok(Receipt::Keeping(tokio::task::spawn_blocking(move || pool.keep_receipt(&verified))))
    }

    /// Takes a frame of the body. What is given back is to be handed over at once.
    fn take(&mut self, frame: Frame<Bytes>) -> Option<Frame<Bytes>> {
        let Receipt::Expected(expected) = &mut self.receipt else { return Some(frame) };
        let octets = match frame.into_data() {
            Ok(octets) => octets,
            Err(frame) => {
                // No other trailer field means anything to anybody here.
                if let Ok(mut trailers) = frame.into_trailers() {
                    expected.take_from(&mut trailers);
                }
                return None;
            }
        };
        expected.update(&octets);
        let ended = self.body.as_ref().is_none_or(has_ended);
        let last = self.tail.as_mut().map_or(0, |tail| tail.last(&octets));
        let mut now = match self.held.take() {
            // It was no end.
            Some(held) => [held, octets].concat().into(),
            None => octets,
        };
        let held = if ended { now.len() } else { last.min(now.len()) };
        self.held = (held > 0).then(|| now.split_off(now.len().saturating_sub(held)));
        (!now.is_empty()).then(|| Frame::data(now))
    }
}

/// Whether no octet follows. HTTP/2 may tell the end of a stream after all octets that were announced.
fn has_ended(body: &AnswerBody) -> bool {
    body.is_end_stream() || body.size_hint().exact() == Some(0)
}

/// What ends an event stream of the OpenAI API, as guests write it.
const DONE: &[u8] = b"data: [DONE]\n\n";

/// The last octets of an event stream: at most as many as [`DONE`] has.
#[derive(Default)]
struct Tail(Vec<u8>);

impl Tail {
    fn of(headers: &HeaderMap) -> Option<Self> {
        let kind = headers.get(CONTENT_TYPE)?.to_str().ok()?;
        kind.starts_with("text/event-stream").then(Self::default)
    }

    /// Takes further octets, and says how many at the end of all are [`DONE`]: all of it or none.
    fn last(&mut self, octets: &[u8]) -> usize {
        let end = octets.last_chunk::<{ DONE.len() }>().map_or(octets, |end| end.as_slice());
        self.0.extend_from_slice(end);
        self.0.drain(..self.0.len().saturating_sub(DONE.len()));
        if self.0 == DONE { DONE.len() } else { 0 }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = ClientError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ClientError>>> {
        loop {
            if let Receipt::Keeping(keeping) = &mut self.receipt {
                match ready!(Pin::new(keeping).poll(cx)) {
                    Ok(Ok(())) => self.receipt = Receipt::Settled,
                    Ok(Err(error)) => return self.fail(error),
                    Err(_) => return self.fail(ClientError::Internal),
                }
            }
            if let Receipt::Settled = self.receipt
                && let Some(held) = self.held.take()
            {
                return Poll::Ready(Some(Ok(Frame::data(held))));
            }
            let Some(body) = &mut self.body else { return Poll::Ready(None) };
            match ready!(Pin::new(body).poll_frame(cx)).transpose() {
                Err(error) => {
                    self.finish();
                    return self.fail(error);
                }
                Ok(None) => match std::mem::replace(&mut self.receipt, Receipt::Settled) {
                    Receipt::Expected(expected) => match self.settle(*expected) {
                        Ok(receipt) => {
                            self.receipt = receipt;
                            self.finish();
                        }
                        Err(error) => return self.fail(error),
                    },
                    _ => self.finish(),
                },
                Ok(Some(frame)) => {
                    if let Some(frame) = self.take(frame) {
                        return Poll::Ready(Some(Ok(frame)));
                    }
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.is_settled() && self.held.is_none() && self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let held = self.held.as_ref().map_or(0, Bytes::len).try_into().unwrap_or(u64::MAX);
        let rest = self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint);
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(held));
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(held));
        }
        hint
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        self.finish();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_stream_is_known_however_it_is_cut() {
        let stream = [b"data: {}\n\n", DONE].concat();
        for cut in 0..=stream.len() {
            for second in cut..=stream.len() {
                let mut tail = Tail::default();
                let pieces = [&stream[..cut], &stream[cut..second], &stream[second..]];
                let found = pieces.map(|piece| tail.last(piece));
                assert_eq!(found[2], DONE.len(), "{cut}, {second}");
                assert_eq!(tail.last(b"\n"), 0);
            }
        }
    }
}
