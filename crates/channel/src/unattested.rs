//! Channels before the verdict.

use crate::ATTESTATION_LIMIT;
use crate::clock::Moment;
use crate::error::ChannelError;
use crate::live::{KeyExchange, Live};
use crate::request::Body;
use bytes::Bytes;
use confide_evidence::bytes::Bytes as FixedBytes;
use confide_evidence::document::{
    ATTESTATION_PATH, AttestationRequest, MAX_DOCUMENT, MEDIA_TYPE, REQUEST_MEDIA_TYPE,
};
use confide_verifier::Challenge;
use http::uri::Authority;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use std::fmt;
use tokio::io::{AsyncRead, AsyncWrite};

/// A TLS connection to a peer of which nothing is known but the key that it holds. It can send the attestation request
/// and nothing else.
pub struct UnattestedChannel {
    live: Live,
}

/// A connection whose peer has answered the attestation request. It sends nothing until
/// [`crate::AttestedChannel::open`] has taken it together with a witness.
pub struct ChallengedChannel {
    live: Live,
    nonce: [u8; 32],
    asked: Moment,
}

/// The peer's answer to the attestation request.
#[derive(Debug)]
pub struct Challenged {
    /// The connection.
    pub channel: ChallengedChannel,
    /// The evidence document as it came, at most [`MAX_DOCUMENT`] bytes: not looked at yet.
    pub document: Vec<u8>,
    /// What the document must be bound to. An appraisal consumes it.
    pub challenge: Challenge,
}

impl UnattestedChannel {
    /// Performs the TLS handshake on a connected stream.
    ///
    /// `authority` names the peer (SNI, `Host`) and carries no trust: the peer proves that it holds the key of the
    /// certificate that it presents, and its evidence must then speak for that key.
    ///
    /// # Errors
    /// [`ChannelError`] of the handshake, which may take [`crate::HANDSHAKE_LIMIT`].
    pub async fn connect<S>(stream: S, authority: &Authority) -> Result<Self, ChannelError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        Ok(Self { live: Live::connect(stream, authority).await? })
    }

    /// SHA-256 of the SubjectPublicKeyInfo of the key that the peer holds.
    #[must_use]
    pub fn spki(&self) -> &[u8; 32] {
        self.live.spki()
    }

    /// Asks the peer for evidence bound to this connection and to a nonce drawn now.
    ///
    /// # Errors
    /// [`ChannelError`]; the connection is then closed. The peer may take [`ATTESTATION_LIMIT`].
    pub async fn attest(self) -> Result<Challenged, ChannelError> {
        challenge(self.live).await
    }

    pub(crate) fn into_live(self) -> Live {
        self.live
    }
}

impl ChallengedChannel {
    /// When the nonce was drawn: the time of the appraisal, from which a verdict's age counts.
    #[must_use]
    pub fn asked(&self) -> Moment {
        self.asked
    }

    /// SHA-256 of the SubjectPublicKeyInfo of the key that the peer holds.
    #[must_use]
    pub fn spki(&self) -> &[u8; 32] {
        self.live.spki()
    }

    /// The key exchange of the connection.
    #[must_use]
    pub fn key_exchange(&self) -> KeyExchange {
        self.live.key_exchange()
    }

    pub(crate) fn nonce(&self) -> &[u8; 32] {
        &self.nonce
    }

    /// The exporter of the live connection for its own nonce.
    pub(crate) fn exporter(&self) -> Result<[u8; 32], ChannelError> {
        self.live.export(&self.nonce)
    }

    pub(crate) fn into_live(self) -> Live {
        self.live
    }
}

/// Sends the attestation request on a connection and reads the whole answer.
pub(crate) async fn challenge(mut live: Live) -> Result<Challenged, ChannelError> {
    let mut nonce = [0; 32];
    getrandom::fill(&mut nonce).map_err(ChannelError::Random)?;
    let asked = Moment::now();
    let limit = ATTESTATION_LIMIT;
    let document = tokio::time::timeout(limit, ask(&mut live, nonce)).await;
    let document = document.map_err(|_| ChannelError::TimedOut { step: "the peer's evidence", limit })??;
    let exporter = live.export(&nonce)?;
    let challenge = Challenge::serve(nonce, exporter, *live.spki());
    Ok(Challenged { channel: ChallengedChannel { live, nonce, asked }, document, challenge })
}

async fn ask(live: &mut Live, nonce: [u8; 32]) -> Result<Vec<u8>, ChannelError> {
    live.ready().await?;
    let answer = live.send(attestation_request(nonce)).await.map_err(|(error, _)| error)?;
    check_head(&answer)?;
    let body =
        Limited::new(answer.into_body(), MAX_DOCUMENT).collect().await.map_err(|error| match error
            .downcast::<hyper::Error>(
        ) {
            Ok(error) => ChannelError::connection(*error),
            Err(error) => {
                debug_assert!(error.is::<LengthLimitError>(), "the only other error of a limited body");
                ChannelError::DocumentTooLarge
            }
        })?;
    Ok(body.to_bytes().into())
}

fn attestation_request(nonce: [u8; 32]) -> Request<Body> {
    let body = AttestationRequest { nonce: FixedBytes(nonce) }.encode();
    let mut request = Request::new(Body::new(Bytes::from(body)));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = Uri::from_static(ATTESTATION_PATH);
    let headers = request.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(REQUEST_MEDIA_TYPE));
    headers.insert(header::ACCEPT, HeaderValue::from_static(MEDIA_TYPE));
    request
}

fn check_head(answer: &Response<Incoming>) -> Result<(), ChannelError> {
    if answer.status() != StatusCode::OK {
        return Err(ChannelError::AttestationStatus(answer.status().as_u16()));
    }
    if answer.headers().get(header::CONTENT_TYPE).is_none_or(|found| found != MEDIA_TYPE) {
        return Err(ChannelError::AttestationMediaType);
    }
    let announced = hyper::body::Body::size_hint(answer.body()).lower();
    if usize::try_from(announced).is_ok_and(|announced| announced <= MAX_DOCUMENT) {
        Ok(())
    } else {
        Err(ChannelError::DocumentTooLarge)
    }
}

impl fmt::Debug for UnattestedChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnattestedChannel").finish_non_exhaustive()
    }
}

impl fmt::Debug for ChallengedChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChallengedChannel").finish_non_exhaustive()
    }
}
