//! What a person asks: prompts, keys and the requests that carry them. None of it can be shown or copied.

use crate::clock::Moment;
use crate::error::ChannelError;
use crate::verdict::Verdict;
use bytes::Bytes;
use confide_evidence::bytes::Digest;
use confide_evidence::hash::sha256;
use http::header::{self, HeaderName};
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Uri};
use hyper::body::{Frame, SizeHint};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use thiserror::Error;
use tokio::sync::oneshot;
use zeroize::Zeroizing;

/// The body of a request: what must not be seen by anybody but an attested guest.
///
/// Neither `Debug`, `Display` nor `Clone`. The memory is zeroed when the prompt has been sent or dropped; what TLS and
/// the kernel hold meanwhile is theirs.
pub struct Prompt(Bytes);

impl Prompt {
    /// Takes the bytes without copying them.
    #[must_use]
    pub fn new(bytes: Zeroizing<Vec<u8>>) -> Self {
        Self(Bytes::from_owner(bytes))
    }

    /// The prompt of a request without a body.
    #[must_use]
    pub fn empty() -> Self {
        Self(Bytes::new())
    }

    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<String> for Prompt {
    fn from(text: String) -> Self {
        Self::new(Zeroizing::new(text.into_bytes()))
    }
}

impl From<Vec<u8>> for Prompt {
    fn from(bytes: Vec<u8>) -> Self {
        Self::new(Zeroizing::new(bytes))
    }
}

/// An `Authorization` value. Neither `Debug`, `Display` nor `Clone`; zeroed when dropped.
pub struct ApiKey(HeaderValue);

impl ApiKey {
    /// A bearer token (RFC 6750 section 2.1).
    ///
    /// # Errors
    /// [`RequestError::Header`] for a token with control characters.
    pub fn bearer(token: &str) -> Result<Self, RequestError> {
        const BEARER: &[u8] = b"Bearer ";
        let mut value = Zeroizing::new(Vec::with_capacity(token.len().saturating_add(BEARER.len())));
        value.extend_from_slice(BEARER);
        value.extend_from_slice(token.as_bytes());
        Self::authorization(value)
    }

    /// A whole `Authorization` value of any scheme.
    ///
    /// # Errors
    /// [`RequestError::Header`] for a value with control characters.
    pub fn authorization(value: Zeroizing<Vec<u8>>) -> Result<Self, RequestError> {
        let value = HeaderValue::from_maybe_shared(Bytes::from_owner(value));
        let mut value = value.map_err(|_| RequestError::Header("authorization".to_owned()))?;
        value.set_sensitive(true);
        Ok(Self(value))
    }
}

/// Why a request cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The target is no absolute path with an optional query.
    #[error("the request target is no absolute path")]
    Target,
    /// A field that the channel sets itself, or whose name or value no header may have.
    #[error("the header field {0:?} cannot be sent")]
    Header(String),
    /// A method that changes or mirrors the connection, or that the API does not have.
    #[error("the method {0} is not sent: GET, HEAD, POST, PUT, PATCH and DELETE are")]
    Method(Method),
}

/// The methods that requests may have (RFC 9110 section 9.3, RFC 5789). CONNECT would change what the connection is,
/// TRACE would mirror it, and OPTIONS asks for what no client of this crate needs.
const METHODS: [Method; 6] =
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];

/// One request. Only an [`crate::AttestedChannel`] takes it. Neither `Debug` nor `Clone`.
pub struct Request(pub(crate) http::Request<Body>);

impl Request {
    /// A `GET` of an absolute path with an optional query.
    ///
    /// # Errors
    /// [`RequestError::Target`].
    pub fn get(target: &str) -> Result<Self, RequestError> {
        Self::new(Method::GET, target, Prompt::empty())
    }

    /// A `POST` to an absolute path with an optional query.
    ///
    /// # Errors
    /// [`RequestError::Target`].
    pub fn post(target: &str, prompt: Prompt) -> Result<Self, RequestError> {
        Self::new(Method::POST, target, prompt)
    }

    /// A request of an absolute path with an optional query.
    ///
    /// # Errors
    /// [`RequestError::Target`]; [`RequestError::Method`] for methods other than GET, HEAD, POST, PUT, PATCH and DELETE.
    pub fn new(method: Method, target: &str, prompt: Prompt) -> Result<Self, RequestError> {
        if !METHODS.contains(&method) {
            return Err(RequestError::Method(method));
        }
        let target: PathAndQuery = target.parse().map_err(|_| RequestError::Target)?;
        if !target.as_str().starts_with('/') {
            return Err(RequestError::Target);
        }
        let mut request = http::Request::new(Body::new(prompt.0));
        *request.method_mut() = method;
        *request.uri_mut() = Uri::from(target);
        // Receipts of streamed answers are trailer fields (RFC 9110 section 6.5.1).
        request.headers_mut().insert(header::TE, HeaderValue::from_static("trailers"));
        Ok(Self(request))
    }

    /// The same request once more, for another attested channel where the first one did not answer.
    ///
    /// The two share the bytes of the prompt, which are zeroed when the last of them is gone. Like any request it is taken
    /// by an [`crate::AttestedChannel`] alone, and what the first one rested on does not pass to it.
    #[must_use]
    pub fn again(&self) -> Self {
        let mut again = http::Request::new(Body::new(self.0.body().bytes.clone()));
        *again.method_mut() = self.0.method().clone();
        *again.uri_mut() = self.0.uri().clone();
        *again.headers_mut() = self.0.headers().clone();
        Self(again)
    }

    /// Sets a header field.
    ///
    /// # Errors
    /// [`RequestError::Header`] for what frames the message or names its target: the channel sets those fields.
    pub fn header(mut self, name: &str, value: &[u8]) -> Result<Self, RequestError> {
        let refused = || RequestError::Header(name.to_owned());
        let field = HeaderName::from_bytes(name.as_bytes()).map_err(|_| refused())?;
        if RESERVED.contains(&field) {
            return Err(refused());
        }
        let value = HeaderValue::from_bytes(value).map_err(|_| refused())?;
        self.0.headers_mut().insert(field, value);
        Ok(self)
    }

    /// The same request, to a peer that is not told that trailer fields are taken (RFC 9110 section 10.1.4): a guest signs no
    /// receipt for a streamed answer then.
    #[must_use]
    pub fn without_trailers(mut self) -> Self {
        self.0.headers_mut().remove(header::TE);
        self
    }

    /// Length of the body in bytes.
    #[must_use]
    pub fn body_len(&self) -> usize {
        self.0.body().bytes.len()
    }

    /// SHA-256 of the body's octets.
    #[must_use]
    pub fn body_digest(&self) -> Digest {
        sha256(&self.0.body().bytes)
    }

    /// Sets the `Authorization` field.
    #[must_use]
    pub fn authorize(mut self, key: ApiKey) -> Self {
        self.0.headers_mut().insert(header::AUTHORIZATION, key.0);
        self
    }
}

/// Fields that frame a message, switch its protocol or name its target (RFC 9112, RFC 9110 section 7.6.1), and the one
/// that has a type of its own.
const RESERVED: [HeaderName; 9] = [
    header::AUTHORIZATION,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::EXPECT,
    header::HOST,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// The most bytes of a body that are handed over at a time. What rests on a verdict is asked about before each piece:
/// a peer may be slow to take a prompt.
const PIECE: usize = 64 * 1024;

/// A request's body.
pub(crate) struct Body {
    bytes: Bytes,
    /// What must hold while it is sent.
    verdict: Option<Arc<Verdict>>,
    /// Dropped when the head is on its way: over HTTP/2 nobody asks for the body before.
    held: Option<oneshot::Sender<Infallible>>,
}

impl Body {
    pub(crate) fn new(bytes: Bytes) -> Self {
        Self { bytes, verdict: None, held: None }
    }

    /// Sends no piece once this verdict no longer holds.
    pub(crate) fn rest_on(&mut self, verdict: &Arc<Verdict>) {
        self.verdict = Some(Arc::clone(verdict));
        self.held = None;
    }

    /// Resolves when the request's stream (RFC 9113 section 5.1) is open, or the request is no more. For HTTP/2: an empty
    /// body is then sent as one, as the end of the stream would otherwise go with the head, and nothing would tell.
    pub(crate) fn opened(&mut self) -> oneshot::Receiver<Infallible> {
        let (held, opened) = oneshot::channel();
        self.held = Some(held);
        opened
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = ChannelError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ChannelError>>> {
        self.held = None;
        if self.bytes.is_empty() {
            return Poll::Ready(None);
        }
        if let Some(Err(error)) = self.verdict.as_ref().map(|verdict| verdict.check(Moment::now())) {
            return Poll::Ready(Some(Err(error)));
        }
        let length = self.bytes.len().min(PIECE);
        Poll::Ready(Some(Ok(Frame::data(self.bytes.split_to(length)))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_empty() && self.held.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.len().try_into().unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn targets_are_absolute_paths() {
        for target in ["", "v1/models", "https://other/v1", "/v1 models", "*", "/v1\r\nx: y"] {
            assert_eq!(Request::get(target).err(), Some(RequestError::Target), "{target:?}");
        }
        assert!(Request::get("/v1/models?limit=1").is_ok());
    }

    #[test]
    fn methods_that_change_or_mirror_a_connection_are_refused() {
        for method in [Method::CONNECT, Method::TRACE, Method::OPTIONS, Method::from_bytes(b"BREW").unwrap()]
        {
            let refused = Request::new(method.clone(), "/v1/files", Prompt::empty());
            assert_eq!(refused.err(), Some(RequestError::Method(method)));
        }
        for method in METHODS {
            assert!(Request::new(method, "/v1/files", Prompt::empty()).is_ok());
        }
    }

    #[test]
    fn a_request_made_again_shares_the_prompt_and_has_the_same_head() {
        let bytes = Zeroizing::new(b"secret".to_vec());
        let place = bytes.as_ptr();
        let request = Request::new(Method::PUT, "/v1/files?x=1", Prompt::new(bytes)).unwrap();
        let request = request.header("accept", b"a/b").unwrap().authorize(ApiKey::bearer("sk-1").unwrap());
        let again = request.again();
        assert_eq!(again.0.body().bytes.as_ptr(), place, "not one more copy in memory");
        assert_eq!((again.0.method(), again.0.uri()), (request.0.method(), request.0.uri()));
        assert_eq!(again.0.headers(), request.0.headers());
        assert!(again.0.headers()["authorization"].is_sensitive());
        drop(request);
        assert_eq!(&again.0.body().bytes[..], b"secret");
    }

    #[test]
    fn framing_fields_are_refused() {
        for name in ["Host", "content-length", "Transfer-Encoding", "connection", "authorization", "a b", ""]
        {
            let request = Request::get("/v1/models").unwrap();
            assert_eq!(request.header(name, b"x").err(), Some(RequestError::Header(name.to_owned())));
        }
        let request = Request::get("/v1/models").unwrap();
        assert!(request.header("accept", b"x\r\nhost: y").is_err());
    }

    #[test]
    fn a_prompt_keeps_the_bytes_that_it_was_given() {
        let bytes = Zeroizing::new(b"secret".to_vec());
        let place = bytes.as_ptr();
        let prompt = Prompt::new(bytes);
        assert_eq!((prompt.0.as_ptr(), prompt.len()), (place, 6));
    }

    #[test]
    fn an_api_key_is_a_sensitive_value_without_control_characters() {
        assert!(ApiKey::bearer("sk-1").unwrap().0.is_sensitive());
        assert!(ApiKey::bearer("sk\n1").is_err());
    }

    /// What `Bytes::from_owner` promises and [`Prompt`] rests on: the owner is dropped, and so zeroed, with the last
    /// reference to its bytes.
    #[test]
    fn the_owner_of_the_bytes_is_dropped_with_them() {
        struct Owner(Arc<AtomicBool>);
        impl AsRef<[u8]> for Owner {
            fn as_ref(&self) -> &[u8] {
                b"secret"
            }
        }
        impl Drop for Owner {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let dropped = Arc::new(AtomicBool::new(false));
        let prompt = Prompt(Bytes::from_owner(Owner(Arc::clone(&dropped))));
        assert!(!dropped.load(Ordering::Relaxed));
        drop(prompt);
        assert!(dropped.load(Ordering::Relaxed));
    }
}
