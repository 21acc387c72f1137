//! The broker's client: who releases the keys of volumes, under the one identity that this boot has measured.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes as Body;
use confide_evidence::bytes::{ByteString, Bytes};
use confide_evidence::document::NvidiaEndorsements;
use confide_release::{
    CHALLENGE_PATH, Challenge, FAILURE_PATH, FORMATTED_PATH, Failure, Formatted, IdentityKey, MAX_ANSWER,
    MAX_MESSAGE, MAX_REFUSAL, MEDIA_TYPE, RELEASE_PATH, RecipientKey, Refusal, ReleaseAnswer, ReleaseError,
    ReleaseRequest, VolumeId, VolumeSecrets,
};
use http::header::{CONTENT_TYPE, HOST};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, PeerIncompatible,
    SignatureScheme,
};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::error::BootError;
use crate::boot::random;
use crate::codes;
use crate::config;
use crate::error::GuestError;

/// For connecting and for the handshake.
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// For the answer to one request. A broker appraises evidence meanwhile. The guest's clock is at most this far behind.
const ANSWER_TIME: Duration = Duration::from_secs(30);
/// For telling the broker of a failure: the guest ends either way.
const FAREWELL_TIME: Duration = Duration::from_secs(5);
/// Before the second attempt; doubled before each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// The longest code of a broker that is passed on, in bytes: as long as one that a broker takes from a guest. Ours have under 40.
const MAX_CODE: usize = 64;

/// A broker at an address, under its identity.
pub(crate) struct Broker {
    address: SocketAddr,
    identity: IdentityKey,
    patience: Duration,
    tls: TlsConnector,
}

/// What the broker released to this boot. Its signature has been verified.
pub(crate) struct Keys {
    /// The broker's time, Unix seconds.
    pub(crate) time: u64,
    /// NVIDIA's endorsements of this machine's GPUs, if the broker has them. Nobody has judged them.
    pub(crate) endorsements: Option<NvidiaEndorsements>,
    /// The secrets of each volume that was asked for, in that order.
    pub(crate) secrets: Vec<(VolumeId, VolumeSecrets)>,
}

/// Why an attempt came to nothing.
enum Trouble {
    /// The transport's fault: another attempt may fare better.
    Transport(String),
    /// No attempt will fare better.
    Final(GuestError),
}

impl From<BootError> for Trouble {
    fn from(error: BootError) -> Self {
        Self::Final(error.into())
    }
}

impl Broker {
    /// The broker of a configuration.
    pub(crate) fn new(config: &config::Broker) -> Self {
        let tls = TlsConnector::from(Arc::new(tls_config(config.identity)));
        Self { address: config.address, identity: config.identity, patience: config.patience(), tls }
    }

    /// The keys of `volumes`. `evidence` gives the document of role `key-release` for a nonce and the recipient key. Each attempt
    /// has a challenge and evidence of its own; faults of the transport alone are tried again.
    ///
    /// # Errors
    /// [`BootError::Refused`] with the broker's reason, and whatever else keeps an honest broker's answer from being used.
    pub(crate) async fn release(
        &self,
        volumes: &[VolumeId],
        recipient: &RecipientKey,
        evidence: impl Fn(Bytes<32>) -> Result<ByteString, GuestError>,
    ) -> Result<Keys, GuestError> {
        self.patiently(|| self.attempt(volumes, recipient, &evidence)).await
    }

    /// Tells the header of a volume that this boot has formatted. The broker takes it any number of times.
    ///
    /// # Errors
    /// As [`Broker::release`].
    pub(crate) async fn formatted(&self, message: &Formatted) -> Result<(), GuestError> {
        let message = Body::from(message.encode());
        self.patiently(|| async {
            let mut connection = self.connect().await?;
            connection.post(FORMATTED_PATH, message.clone(), MAX_MESSAGE).await.map(drop)
        })
        .await
    }

    /// Tells why this boot ends, once and as far as that is possible: the console has it, too.
    pub(crate) async fn tell(&self, failure: &Failure) {
        let telling = async {
            let mut connection = self.connect().await?;
            connection.post(FAILURE_PATH, failure.encode().into(), MAX_MESSAGE).await.map(drop)
        };
        match timeout(FAREWELL_TIME, telling).await {
            Ok(Ok(())) => {}
            Ok(Err(Trouble::Transport(reason))) => tracing::warn!(reason, "the broker was not told"),
            Ok(Err(Trouble::Final(error))) => tracing::warn!(%error, "the broker was not told"),
            Err(_) => tracing::warn!("the broker was not told in time"),
        }
    }

    async fn attempt(
        &self,
        volumes: &[VolumeId],
        recipient: &RecipientKey,
        evidence: impl Fn(Bytes<32>) -> Result<ByteString, GuestError>,
    ) -> Result<Keys, Trouble> {
        let mut connection = self.connect().await?;
        let challenge = connection.post(CHALLENGE_PATH, Body::new(), MAX_MESSAGE).await?;
        let Challenge { nonce, .. } = Challenge::decode(&challenge).map_err(BootError::Answer)?;
        let document = evidence(nonce).map_err(Trouble::Final)?;
        let request = ReleaseRequest { nonce, volumes: volumes.to_vec(), document };
        let answer = connection.post(RELEASE_PATH, request.encode().into(), MAX_ANSWER).await?;
        let answer = ReleaseAnswer::decode(&answer).map_err(BootError::Answer)?;
        let verified = answer.verify(&self.identity, &request, recipient).map_err(unusable)?;
        let (time, endorsements) = (verified.time(), verified.endorsements().cloned());
        let secrets = verified.open(recipient).map_err(unusable)?;
        Ok(Keys { time, endorsements, secrets })
    }

    async fn connect(&self) -> Result<Connection, Trouble> {
        let connecting = async {
            let stream = TcpStream::connect(self.address).await.map_err(transport)?;
            // The name is not sent for an address, and not looked at in the certificate.
            let name = ServerName::IpAddress(self.address.ip().into());
            let stream = self.tls.connect(name, stream).await.map_err(|error| self.handshake(&error))?;
            let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(transport)?;
            // It ends with the sender.
            tokio::spawn(connection);
            Ok(Connection { sender, host: self.address.to_string() })
        };
        match timeout(CONNECT_TIME, connecting).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Trouble::Transport("connecting took too long".to_owned())),
        }
    }

    fn handshake(&self, error: &std::io::Error) -> Trouble {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>());
        match tls {
            Some(TlsError::InvalidCertificate(_) | TlsError::PeerIncompatible(_)) => {
                BootError::BrokerIdentity { address: self.address, reason: error.to_string() }.into()
            }
            _ => transport(error),
        }
    }

    /// Tries again, with longer and longer pauses of random length, while the transport is at fault and patience lasts.
    async fn patiently<T, F: Future<Output = Result<T, Trouble>>>(
        &self,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, GuestError> {
        let begun = Instant::now();
        let (mut attempts, mut longest) = (0_u32, FIRST_PAUSE);
        loop {
            attempts = attempts.saturating_add(1);
            let last = match attempt().await {
                Ok(outcome) => return Ok(outcome),
                Err(Trouble::Final(error)) => return Err(error),
                Err(Trouble::Transport(last)) => last,
            };
            let pause = jittered(longest, random()?);
            if begun.elapsed().saturating_add(pause) > self.patience {
                let (address, seconds) = (self.address, self.patience.as_secs());
                return Err(BootError::BrokerUnreachable { address, seconds, attempts, last }.into());
            }
            tracing::warn!(reason = last, attempts, "the broker is asked again");
            tokio::time::sleep(pause).await;
            longest = next(longest);
        }
    }
}

/// The longest pause after one of at most `longest`.
fn next(longest: Duration) -> Duration {
    longest.saturating_mul(2).min(LONGEST_PAUSE)
}

/// Between half of `longest` and all of it, so that guests that fail together do not come back together.
fn jittered(longest: Duration, random: [u8; 1]) -> Duration {
    let [random] = random;
    let half = longest.checked_div(2).unwrap_or_default();
    let part = half.saturating_mul(u32::from(random)).checked_div(u32::from(u8::MAX));
    half.saturating_add(part.unwrap_or_default())
}

fn transport(error: impl std::fmt::Display) -> Trouble {
    Trouble::Transport(error.to_string())
}

fn unusable(error: ReleaseError) -> BootError {
    match error {
        ReleaseError::Signature => BootError::Unverified(error),
        _ => BootError::Answer(error),
    }
}

/// One connection, for the requests of one attempt.
struct Connection {
    sender: SendRequest<Full<Body>>,
    host: String,
}

impl Connection {
    /// The body of the answer, of at most `limit` bytes.
    async fn post(&mut self, path: &str, body: Body, limit: usize) -> Result<Body, Trouble> {
        match timeout(ANSWER_TIME, self.exchange(path, body, limit)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Trouble::Transport(format!("the answer to {path} took too long"))),
        }
    }

    async fn exchange(&mut self, path: &str, body: Body, limit: usize) -> Result<Body, Trouble> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(HOST, &self.host)
            .header(CONTENT_TYPE, MEDIA_TYPE)
            .body(Full::new(body))
            .expect("paths and addresses are valid in a request");
        let (head, body) = self.sender.send_request(request).await.map_err(transport)?.into_parts();
        let limit = if head.status.is_success() { limit } else { MAX_REFUSAL };
        let body = Limited::new(body, limit).collect().await.map_err(transport)?.to_bytes();
        if head.status.is_success() { Ok(body) } else { Err(refused(head.status, &body)) }
    }
}

/// What is no success. A broker that is overloaded or lacks its database says nothing about this boot; all else is its decision.
fn refused(status: StatusCode, body: &[u8]) -> Trouble {
    let refusal = Refusal::from_json(body);
    if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() {
        let code = refusal.map(|refusal| refusal.error.code).unwrap_or_default();
        return Trouble::Transport(format!("the broker answers {status} {code}"));
    }
    let Some(Refusal { error }) = refusal else {
        let (code, message) = (codes::BROKER_REFUSED.to_owned(), format!("it answers {status}"));
        return BootError::Refused { code, message }.into();
    };
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    let known = (1..=MAX_CODE).contains(&error.code.len()) && error.code.bytes().all(plain);
    let code = if known { error.code } else { codes::BROKER_REFUSED.to_owned() };
    let mut message = error.message;
    for (word, value) in [("found", error.actual), ("expected", error.expected)] {
        if let Some(value) = value {
            message = format!("{message}; {word} {value}");
        }
    }
    BootError::Refused { code, message }.into()
}

fn tls_config(identity: IdentityKey) -> ClientConfig {
    let provider = aws_lc_rs::default_provider();
    let algorithms = provider.signature_verification_algorithms;
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the provider has cipher suites and key exchanges of TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Pinned { identity, algorithms }))
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    config
}

/// Accepts whoever holds the identity key. Nothing else of a certificate counts: it has no names, dates or issuer that anybody
/// vouches for.
#[derive(Debug)]
struct Pinned {
    identity: IdentityKey,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let spki = ParsedCertificate::try_from(end_entity)?.subject_public_key_info();
        match IdentityKey::from_der(&spki) {
            Ok(found) if found == self.identity => Ok(ServerCertVerified::assertion()),
            _ => Err(CertificateError::ApplicationVerificationFailure.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        Err(PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig.into())
    }

    /// CertificateVerify, RFC 8446 section 4.4.3: under the key that was compared above.
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_become_longer_up_to_a_bound_and_are_of_random_length() {
        let longest: Vec<_> =
            std::iter::successors(Some(FIRST_PAUSE), |pause| Some(next(*pause))).take(9).collect();
        let milliseconds: Vec<_> = longest.iter().map(Duration::as_millis).collect();
        assert_eq!(milliseconds, [200, 400, 800, 1600, 3200, 6400, 10_000, 10_000, 10_000]);
        for longest in longest {
            assert_eq!((jittered(longest, [0]), jittered(longest, [u8::MAX])), (longest / 2, longest));
            assert!(jittered(longest, [100]) < jittered(longest, [200]));
        }
    }
}
