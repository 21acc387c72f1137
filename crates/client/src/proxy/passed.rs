//! The body of an answer as it is passed on.

use super::events::Events;
use crate::error::ClientError;
use crate::fleet::Slot;
use crate::openai::ErrorBody;
use crate::response::ResponseBody;
use bytes::Bytes;
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use hyper::body::{Body, Frame, SizeHint};
use std::pin::Pin;
use std::task::{Context, Poll};

/// An answer's body on its way to a local program.
///
/// A stream of server-sent events that the guest breaks off ends with an error event: a program that reads to the end of
/// the connection would take what came for the whole answer. Whole events alone are passed on ([`Events`]), so that one
/// can follow wherever the stream breaks off. Every other body that breaks off breaks the connection, a stream of
/// announced length among them, which has no room for an event, and a compressed one.
pub(super) struct PassedBody {
    body: Option<ResponseBody>,
    /// Of an event stream that is not compressed and without an announced length.
    events: Option<Events>,
    /// Why it broke off, told once what came before is written.
    failure: Option<ClientError>,
    /// Whether something was handed over, the answer's head among it, since the connection last had time to write.
    unwritten: bool,
    /// Counts the request as under way, and the bytes of its answer.
    slot: Slot,
}

impl PassedBody {
    pub(super) fn new(body: ResponseBody, headers: &HeaderMap, slot: Slot) -> Self {
        let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        // Of a compressed stream nobody here can tell where an event ends.
        let is_plain = kind.starts_with("text/event-stream") && !headers.contains_key(CONTENT_ENCODING);
        let events = (is_plain && body.size_hint().exact().is_none()).then(Events::new);
        Self { body: Some(body), events, failure: None, unwritten: true, slot }
    }

    /// What comes next of the guest's answer.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ClientError>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        Pin::new(body).poll_frame(cx)
    }

    /// What follows the break: an event, or the break itself.
    fn broken(&mut self, error: ClientError) -> Result<Frame<Bytes>, ClientError> {
        self.body = None;
        // What is held of them was seen by nobody.
        if !self.events.take().is_some_and(|events| events.are_whole()) {
            return Err(error);
        }
        let body = ErrorBody::new("upstream_error", error.code(), &error.to_string()).to_json();
        Ok(Frame::data([b"data: ".as_slice(), &body, b"\n\n"].concat().into()))
    }

    /// Takes a frame of the body, and gives what is to be passed on now.
    fn take(&mut self, frame: Frame<Bytes>) -> Option<Frame<Bytes>> {
        let data = match (frame.into_data(), &self.events) {
            (Ok(data), _) => data,
            // No field of a trailer is announced to programs: what comes before it would have to be passed on first.
            (Err(_), Some(_)) => return None,
            (Err(frame), None) => return Some(frame),
        };
        self.slot.instance().meters.received.add(data.len() as u64);
        let data = match &mut self.events {
            Some(events) => events.take(data)?,
            None => data,
        };
        Some(Frame::data(data))
    }

    /// What is left when the body has ended.
    fn rest(&mut self) -> Option<Frame<Bytes>> {
        self.body = None;
        self.events.as_mut().and_then(Events::rest).map(Frame::data)
    }
}

impl Body for PassedBody {
    type Data = Bytes;
    type Error = ClientError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ClientError>>> {
        if let Some(error) = self.failure.take() {
            return Poll::Ready(Some(self.broken(error)));
        }
        loop {
            let Poll::Ready(frame) = self.poll_next(cx) else {
                self.unwritten = false;
                return Poll::Pending;
            };
            match frame {
                // A connection that is broken writes nothing more of what it has.
                Some(Err(error)) if self.unwritten => {
                    self.unwritten = false;
                    self.failure = Some(error);
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Some(Err(error)) => return Poll::Ready(Some(self.broken(error))),
                None => return Poll::Ready(self.rest().map(Ok)),
                Some(Ok(frame)) => {
                    if let Some(frame) = self.take(frame) {
                        self.unwritten = true;
                        return Poll::Ready(Some(Ok(frame)));
                    }
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.failure.is_none()
            && self.events.as_ref().is_none_or(Events::is_empty)
            && self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.body, &self.events) {
            (Some(_), Some(_)) => SizeHint::new(),
            (Some(body), None) => body.size_hint(),
            (None, _) => SizeHint::with_exact(0),
        }
    }
}
