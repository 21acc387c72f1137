//! Answers over an attested channel, streamed.

use crate::attested::AttestedChannel;
use crate::error::ChannelError;
use crate::protocol::Received;
use crate::verdict::Verdict;
use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use hyper::body::{Body, Frame, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// The answer to a request. Not `Debug`: it may repeat the prompt.
pub struct Answer {
    /// Status.
    pub status: StatusCode,
    /// Header fields.
    pub headers: HeaderMap,
    /// Body.
    pub body: AnswerBody,
}

/// The body of an answer, and the channel that it comes over.
pub struct AnswerBody {
    incoming: Received,
    channel: AttestedChannel,
    end: End,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    NotReached,
    Reached,
}

impl Answer {
    pub(crate) fn new(response: Response<Received>, channel: AttestedChannel) -> Self {
        let (head, incoming) = response.into_parts();
        let end = if incoming.is_end_stream() { End::Reached } else { End::NotReached };
        Self { status: head.status, headers: head.headers, body: AnswerBody { incoming, channel, end } }
    }
}

impl AnswerBody {
    /// The verdict that the channel rests on.
    #[must_use]
    pub fn verdict(&self) -> &Arc<Verdict> {
        self.channel.verdict()
    }

    /// The channel for its next request, where the body has been read to its end. Otherwise the connection is closed.
    #[must_use]
    pub fn reclaim(self) -> Option<AttestedChannel> {
        (self.end == End::Reached && !self.channel.is_closed()).then_some(self.channel)
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = ChannelError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ChannelError>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.incoming).poll_frame(cx));
        if frame.is_none() || this.incoming.is_end_stream() {
            this.end = End::Reached;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
