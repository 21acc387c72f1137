//! The body of an answer as it is passed on.

use super::server::UnderWay;
use crate::error::ClientError;
use crate::fleet::Slot;
use crate::openai::ErrorBody;
use crate::response::ResponseBody;
use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
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
/// A stream of server-sent events that the guest breaks off, or that is cut as the endpoint ends, ends with an error event, where it broke off between two
/// events: a program that reads to the end of the connection would take what came for the whole answer. Every other
/// body that breaks off breaks the connection, a stream of announced length among them, which has no room for an event.
pub(super) struct PassedBody {
    body: Option<ResponseBody>,
    /// The last two bytes that were passed on, of an event stream without an announced length.
    events: Option<[u8; 2]>,
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
        // Before the first byte of a stream an event may begin, as after an empty line.
        let open = kind.starts_with("text/event-stream") && body.size_hint().exact().is_none();
        let events = open.then_some(BETWEEN);
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
        if self.events != Some(BETWEEN) {
            return Err(error);
        }
        let (kind, code) = error.kind_and_code();
        let body = ErrorBody::new(kind, code, &error.to_string()).to_json();
        Ok(Frame::data([b"data: ".as_slice(), &body, b"\n\n"].concat().into()))
    }
}

/// The end of an event, as guests write it.
const BETWEEN: [u8; 2] = *b"\n\n";

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
        let Poll::Ready(frame) = self.poll_next(cx) else {
            self.unwritten = false;
            return Poll::Pending;
        };
        let frame = match frame {
            // A connection that is broken writes nothing more of what it has.
            Some(Err(error)) if self.unwritten => {
                self.unwritten = false;
                self.failure = Some(error);
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Some(Err(error)) => return Poll::Ready(Some(self.broken(error))),
            frame => frame,
        };
        self.unwritten = true;
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            self.slot.instance().meters.received.add(data.len() as u64);
            if let Some(last) = &mut self.events {
                *last = last_two(*last, data);
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.failure.is_none() && self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

/// The last two bytes of what ended in `last` and goes on with `data`.
fn last_two(last: [u8; 2], data: &[u8]) -> [u8; 2] {
    match data {
        [] => last,
        [one] => [last[1], *one],
        [.., one, two] => [*one, *two],
    }
}

#[cfg(test)]
mod tests {
    use super::last_two;

    #[test]
    fn the_last_two_bytes_are_kept_however_they_come() {
        let pieces: [(&[u8], &[u8; 2]); 5] =
            [(b"data: x\n", b"x\n"), (b"", b"x\n"), (b"\n", b"\n\n"), (b"d", b"\nd"), (b"ata\n\n", b"\n\n")];
        let mut last = *b"\n\n";
        for (piece, expected) in pieces {
            last = last_two(last, piece);
            assert_eq!(&last, expected);
        }
    }
}
