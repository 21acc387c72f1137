//! Channels before the verdict.

use crate::ATTESTATION_LIMIT;
use crate::clock::Moment;
use crate::error::ChannelError;
use crate::live::{KeyExchange, Live};
use crate::protocol::{Protocols, Received};
use crate::request::Body;
use bytes::Bytes;
use confide_evidence::bytes::Bytes as FixedBytes;
use confide_evidence::document::{
    ATTESTATION_PATH, AttestationRequest, MAX_DOCUMENT, MEDIA_TYPE, REQUEST_MEDIA_TYPE,
};
use confide_verifier::Challenge;
use http::uri::Authority;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Limited};
use std::fmt;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

/// The longest error that is read to its end before the peer is asked again, in bytes. Guests write under 200.
const MAX_ERROR: usize = 64 * 1024;

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
    /// certificate that it presents, and its evidence must then speak for that key. `protocols` are offered to it.
    ///
    /// # Errors
    /// [`ChannelError`] of the handshake, which may take [`crate::HANDSHAKE_LIMIT`].
    pub async fn connect<S>(
        stream: S,
        authority: &Authority,
        protocols: Protocols,
    ) -> Result<Self, ChannelError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        Ok(Self { live: Live::connect(stream, authority, protocols).await? })
    }

    /// SHA-256 of the SubjectPublicKeyInfo of the key that the peer holds.
    #[must_use]
    pub fn spki(&self) -> &[u8; 32] {
        self.live.spki()
    }

    /// Asks the peer for evidence bound to this connection and to a nonce drawn now. A peer that answers 503 with a
    /// `Retry-After` in seconds (RFC 9110 section 10.2.3) is asked again after that time and up to half of it more, with
    /// another nonce.
    ///
    /// # Errors
    /// [`ChannelError`]; the connection is then closed. The peer may take [`ATTESTATION_LIMIT`] in all:
    /// [`ChannelError::AttestationPostponed`] where it wants to be asked again only later.
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
    let limit = ATTESTATION_LIMIT;
    #[expect(clippy::arithmetic_side_effects, reason = "the clock holds a constant of seconds more")]
    let end = Instant::now() + limit;
    loop {
        let mut nonce = [0; 32];
        getrandom::fill(&mut nonce).map_err(ChannelError::Random)?;
        let asked = Moment::now();
        let said = tokio::time::timeout_at(end, Box::pin(ask(&mut live, nonce))).await;
        match said.map_err(|_| ChannelError::TimedOut { step: "the peer's evidence", limit })?? {
            Said::Document(document) => {
                let challenge = Challenge::serve(nonce, live.export(&nonce)?, *live.spki());
                return Ok(Challenged {
                    channel: ChallengedChannel { live, nonce, asked },
                    document,
                    challenge,
                });
            }
            Said::Later(after) => {
                let again = Instant::now().checked_add(jittered(after)?).filter(|again| *again < end);
                let again = again.ok_or(ChannelError::AttestationPostponed { after })?;
                tokio::time::sleep_until(again).await;
            }
        }
    }
}

/// What a peer answers to the attestation request.
enum Said {
    Document(Vec<u8>),
    /// It is to be asked again after this time.
    Later(Duration),
}

async fn ask(live: &mut Live, nonce: [u8; 32]) -> Result<Said, ChannelError> {
    live.ready().await?;
    let answer = live.send(attestation_request(nonce)).await.map_err(|(error, _)| error)?;
    if let Some(after) = retry_after(&answer) {
        // What it says beside that is of no use; only behind it the connection is ready again.
        let told = Limited::new(answer.into_body(), MAX_ERROR).collect().await;
        told.map_err(|error| cut(error, ChannelError::AttestationPostponed { after }))?;
        return Ok(Said::Later(after));
    }
    check_head(&answer)?;
    let body = Limited::new(answer.into_body(), MAX_DOCUMENT).collect().await;
    let body = body.map_err(|error| cut(error, ChannelError::DocumentTooLarge))?;
    Ok(Said::Document(body.to_bytes().into()))
}

/// Why a body was not read to its end: the channel's error, or `too_long`, the only other one of a limited body.
fn cut(error: Box<dyn std::error::Error + Send + Sync>, too_long: ChannelError) -> ChannelError {
    error.downcast().map_or(too_long, |error| *error)
}

/// When a peer that has no evidence now wants to be asked again: not at once.
fn retry_after(answer: &Response<Received>) -> Option<Duration> {
    if answer.status() != StatusCode::SERVICE_UNAVAILABLE {
        return None;
    }
    let seconds = answer.headers().get(header::RETRY_AFTER)?.to_str().ok()?.parse::<u32>().ok()?;
    Some(Duration::from_secs(seconds.max(1).into()))
}

/// A time and up to half of it more, so that those who were sent away together do not come back together.
fn jittered(time: Duration) -> Result<Duration, ChannelError> {
    let drawn = getrandom::u32().map_err(ChannelError::Random)?;
    Ok(time.saturating_add(time.mul_f64(f64::from(drawn) / f64::from(u32::MAX) / 2.0)))
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

fn check_head(answer: &Response<Received>) -> Result<(), ChannelError> {
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
