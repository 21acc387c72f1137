//! The guest's answer, streamed; its channel returns to the pool when it has been read.

use crate::error::ClientError;
use crate::openai;
use crate::pool::Pool;
use bytes::Bytes;
use confide_channel::{Answer, AnswerBody, ChannelError, Verdict};
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Frame, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// The largest answer that is read as a whole, in bytes. Streamed answers have no limit.
pub(crate) const MAX_ANSWER: usize = 16 * 1024 * 1024;

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
pub struct ResponseBody {
    body: Option<AnswerBody>,
    pool: Arc<Pool>,
}

impl Response {
    pub(crate) fn new(answer: Answer, pool: Arc<Pool>) -> Self {
        let Answer { status, headers, body } = answer;
        let verdict = Arc::clone(body.verdict());
        Self { status, headers, verdict, body: ResponseBody { body: Some(body), pool } }
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
            Err(error) => Err(match error.downcast::<ChannelError>() {
                Ok(error) => ClientError::Channel(*error),
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
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = ChannelError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ChannelError>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(body).poll_frame(cx));
        if frame.as_ref().is_none_or(Result::is_err) {
            self.finish();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        self.finish();
    }
}
