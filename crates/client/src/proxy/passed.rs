//! The body of an answer as it is passed on.

use super::events::Events;
use super::server::UnderWay;
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
use thiserror::Error;

/// Why an answer ends before its end.
#[derive(Debug, Error)]
pub(super) enum Broken {
    /// The guest's part of it.
    #[error(transparent)]
    Guest(#[from] ClientError),
    /// The endpoint ends.
    #[error("the endpoint was told to end, and the answer was not whole in time")]
    Cut,
}

impl Broken {
    /// Type and stable code.
    pub(super) fn kind_and_code(&self) -> (&'static str, &'static str) {
        match self {
            Self::Guest(error) => ("upstream_error", error.code()),
            Self::Cut => ("server_error", "endpoint_ended"),
        }
    }
}

/// An answer's body on its way to a local program.
///
/// A stream of server-sent events that the guest breaks off, or that is cut as the endpoint ends, ends with an error event: a
/// program that reads to the end of the connection would take what came for the whole answer. Whole events alone are passed
/// on ([`Events`]), so that one can follow wherever the stream breaks off. Every other body that breaks off breaks the
/// connection, a stream of announced length among them, which has no room for an event, and a compressed one.
pub(super) struct PassedBody {
    body: Option<ResponseBody>,
    /// Of an event stream that is not compressed and without an announced length.
    events: Option<Events>,
    /// Why it broke off, told once what came before is written.
    failure: Option<Broken>,
    /// Whether something was handed over, the answer's head among it, since the connection last had time to write.
    unwritten: bool,
    /// Counts the request as under way, and the bytes of its answer.
    slot: Slot,
    under_way: UnderWay,
}

impl PassedBody {
    pub(super) fn new(body: ResponseBody, headers: &HeaderMap, slot: Slot, under_way: UnderWay) -> Self {
        let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        // Of a compressed stream nobody here can tell where an event ends.
        let is_plain = kind.starts_with("text/event-stream") && !headers.contains_key(CONTENT_ENCODING);
        let events = (is_plain && body.size_hint().exact().is_none()).then(Events::new);
        Self { body: Some(body), events, failure: None, unwritten: true, slot, under_way }
    }

    /// What comes next of the guest's answer, while this one is not cut.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        if self.under_way.cut.is_cut() {
            return Poll::Ready(Some(Err(Broken::Cut)));
        }
        match Pin::new(body).poll_frame(cx) {
            Poll::Ready(frame) => Poll::Ready(frame.map(|frame| frame.map_err(Broken::Guest))),
            Poll::Pending => self.under_way.cut.poll(cx).map(|()| Some(Err(Broken::Cut))),
        }
    }

    /// What follows the break: an event, or the break itself.
    fn broken(&mut self, error: Broken) -> Result<Frame<Bytes>, Broken> {
        self.body = None;
        // What is held of them was seen by nobody.
        if !self.events.take().is_some_and(|events| events.are_whole()) {
            return Err(error);
        }
        let (kind, code) = error.kind_and_code();
        let body = ErrorBody::new(kind, code, &error.to_string()).to_json();
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
        self.slot.instance().meters.received.add(u64::try_from(data.len()).unwrap_or(u64::MAX));
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
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
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
