//! One live TLS connection with HTTP on it, whatever it may be used for.

use crate::error::ChannelError;
use crate::protocol::{self, Protocols, Received, Sender, Streams, Working};
use crate::request::Body;
use crate::verdict::Verdict;
use crate::{HANDSHAKE_LIMIT, tls};
use confide_evidence::transcript::EXPORTER_LABEL;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Response, Uri, Version, header};
use hyper_util::rt::TokioIo;
use rustls::{NamedGroup, ProtocolVersion};
use rustls_pki_types::ServerName;
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot::{self, error::TryRecvError};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// The key exchange of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyExchange {
    /// X25519MLKEM768: hybrid, so that a recording of the connection is of no use to a later quantum computer.
    X25519MlKem768,
    /// X25519.
    X25519,
}

impl KeyExchange {
    /// The group's name (RFC 8446 section 4.2.7 and its registry).
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::X25519MlKem768 => "X25519MLKEM768",
            Self::X25519 => "x25519",
        }
    }
}

/// A handle on one live connection. The types around it decide what it may send.
pub(crate) struct Live {
    sender: Sender,
    connection: Arc<Connection>,
}

/// What all handles on a connection share.
struct Connection {
    exporter: Arc<dyn Exporter>,
    facts: Facts,
    authority: Authority,
    /// How many handles there are.
    handles: AtomicUsize,
    /// Dropped with the connection: its driver then has a moment left.
    _needed: oneshot::Sender<()>,
}

/// What the handshake has established.
struct Facts {
    spki: [u8; 32],
    key_exchange: KeyExchange,
    version: Version,
}

/// Derives keying material of one TLS connection (RFC 8446 section 7.5).
trait Exporter: Send + Sync {
    fn export(&self, nonce: &[u8; 32]) -> Result<[u8; 32], rustls::Error>;
}

impl Live {
    /// Performs the handshakes on a connected stream. `authority` names the peer in SNI and the `Host` field, and
    /// carries no trust.
    pub(crate) async fn connect<S>(
        stream: S,
        authority: &Authority,
        protocols: Protocols,
    ) -> Result<Self, ChannelError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let limit = HANDSHAKE_LIMIT;
        // In a box, as the whole of it is large, and in every future of whoever connects.
        let handshake = Box::pin(Self::handshake(stream, authority, protocols));
        match tokio::time::timeout(limit, handshake).await {
            Ok(live) => live,
            Err(_) => Err(ChannelError::TimedOut { step: "the TLS handshake", limit }),
        }
    }

    async fn handshake<S>(
        stream: S,
        authority: &Authority,
        protocols: Protocols,
    ) -> Result<Self, ChannelError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let connector = TlsConnector::from(tls::client_config(protocols));
        let tls =
            connector.connect(server_name(authority)?, stream).await.map_err(ChannelError::handshake)?;
        let facts = facts(tls.get_ref().1)?;
        let tls = SharedTls(Arc::new(Mutex::new(tls)));
        let exporter = Arc::new(tls.clone());
        let (needed, gone) = oneshot::channel();
        let sender = match facts.version {
            Version::HTTP_2 => protocol::http2(TokioIo::new(tls), gone).await,
            _ => protocol::http1(TokioIo::new(tls), gone).await,
        };
        let sender = sender.map_err(ChannelError::connection)?;
        let (authority, handles) = (authority.clone(), AtomicUsize::new(1));
        let connection = Arc::new(Connection { exporter, facts, authority, handles, _needed: needed });
        Ok(Self { sender, connection })
    }

    pub(crate) fn spki(&self) -> &[u8; 32] {
        &self.connection.facts.spki
    }

    pub(crate) fn key_exchange(&self) -> KeyExchange {
        self.connection.facts.key_exchange
    }

    /// The exporter of this very connection for a nonce.
    pub(crate) fn export(&self, nonce: &[u8; 32]) -> Result<[u8; 32], ChannelError> {
        let exported = self.connection.exporter.export(nonce);
        exported.map_err(|error| ChannelError::handshake(io::Error::other(error)))
    }

    /// Whether several requests may be under way on the connection.
    pub(crate) fn is_multiplexed(&self) -> bool {
        matches!(self.sender, Sender::Http2(..))
    }

    /// Whether both are handles on one connection.
    pub(crate) fn is_beside(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.connection, &other.connection)
    }

    /// A further handle on the connection, where it carries several requests at a time and the peer allows one more.
    pub(crate) fn share(&self) -> Option<Self> {
        let Sender::Http2(_, streams) = &self.sender else { return None };
        let room = self.connection.handles.load(Ordering::Relaxed) < streams.allowed();
        if room && !self.is_closed() { self.another() } else { None }
    }

    /// A further handle on the connection, where it carries several requests at a time: what it sends beyond what the
    /// peer allows waits.
    pub(crate) fn another(&self) -> Option<Self> {
        let Sender::Http2(sender, streams) = &self.sender else { return None };
        self.connection.handles.fetch_add(1, Ordering::Relaxed);
        let sender = Sender::Http2(sender.clone(), Arc::clone(streams));
        Some(Self { sender, connection: Arc::clone(&self.connection) })
    }

    /// Whether the connection has ended.
    pub(crate) fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender, _) => sender.is_closed(),
            Sender::Http2(sender, _) => sender.is_closed(),
        }
    }

    /// Waits until the connection takes a request: over HTTP/1.1, until the answer before has been read to its end.
    pub(crate) async fn ready(&mut self) -> Result<(), ChannelError> {
        let ready = match &mut self.sender {
            Sender::Http1(sender, work) => Working::on(work).until(sender.ready()).await,
            Sender::Http2(sender, _) => sender.ready().await,
        };
        ready.map_err(ChannelError::connection)
    }

    /// What ends an HTTP/2 connection while a request waits for the peer to allow its stream, or was given up while it did,
    /// and its verdict ends: hyper would send it whenever the peer allows it, even when nobody waits for it any more.
    pub(crate) fn hold(&self, body: &mut Body, verdict: &Arc<Verdict>) -> Held {
        let Sender::Http2(_, streams) = &self.sender else { return Held { waiting: None } };
        let (streams, verdict) = (Arc::clone(streams), Arc::clone(verdict));
        Held { waiting: Some(Waiting { opened: body.opened(), streams, verdict }) }
    }

    /// Sends one request. The error carries the request where nothing of it was written.
    pub(crate) async fn send(
        &mut self,
        mut request: http::Request<Body>,
    ) -> Result<Response<Received>, (ChannelError, Option<http::Request<Body>>)> {
        self.connection.address(&mut request);
        let (answer, working) = match &mut self.sender {
            Sender::Http1(sender, work) => {
                let working = Working::on(work);
                (working.until(sender.try_send_request(request)).await, Some(working))
            }
            Sender::Http2(sender, _) => (sender.try_send_request(request).await, None),
        };
        let version = self.connection.facts.version;
        match answer {
            Ok(answer) => Ok(answer.map(|incoming| Received::new(incoming, version, working))),
            Err(mut failure) => {
                let unsent = failure.take_message();
                Err((ChannelError::connection(failure.into_error()), unsent))
            }
        }
    }
}

/// A request that may wait for its stream.
pub(crate) struct Held {
    waiting: Option<Waiting>,
}

struct Waiting {
    opened: oneshot::Receiver<Infallible>,
    streams: Arc<dyn Streams>,
    verdict: Arc<Verdict>,
}

impl Held {
    /// Resolves when the verdict ended first, and the connection with it; never where the stream was open before.
    pub(crate) async fn ended(&mut self) -> ChannelError {
        if let Some(waiting) = &mut self.waiting {
            let outcome = waiting.outcome().await;
            self.waiting = None;
            if let Some(error) = outcome {
                return error;
            }
        }
        std::future::pending().await
    }

    /// The request was answered or came back.
    pub(crate) fn settle(&mut self) {
        self.waiting = None;
    }
}

impl Waiting {
    async fn outcome(&mut self) -> Option<ChannelError> {
        let error = tokio::select! {
            biased;
            _ = &mut self.opened => return None,
            error = self.verdict.end() => error,
        };
        self.streams.abort();
        Some(error)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let Some(mut waiting) = self.waiting.take() else { return };
        if waiting.opened.try_recv() == Err(TryRecvError::Closed) {
            return;
        }
        // Given up before its stream was open.
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(async move { waiting.outcome().await })),
            Err(_) => waiting.streams.abort(),
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.connection.handles.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Connection {
    /// Names the peer in a request: in the field `Host` over HTTP/1.1, in `:authority` over HTTP/2 (RFC 9113 section
    /// 8.3.1).
    fn address(&self, request: &mut http::Request<Body>) {
        let target = request.uri().path_and_query().cloned();
        let target = target.unwrap_or_else(|| PathAndQuery::from_static("/"));
        *request.version_mut() = self.facts.version;
        // It may have been made ready for another connection before.
        request.headers_mut().remove(header::HOST);
        request.headers_mut().remove(header::CONNECTION);
        let mut parts = http::uri::Parts::default();
        parts.path_and_query = Some(target);
        if self.facts.version == Version::HTTP_2 {
            parts.scheme = Some(Scheme::HTTPS);
            parts.authority = Some(self.authority.clone());
        } else {
            let host = HeaderValue::from_str(self.authority.as_str());
            request
                .headers_mut()
                .insert(header::HOST, host.expect("an authority has the characters of a URI alone"));
            if request.headers().contains_key(header::TE) {
                // Asked for by HTTP/1.1 (RFC 9110 section 10.1.4), and no field of HTTP/2 (RFC 9113 section 8.2.2).
                request.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("te"));
            }
        }
        *request.uri_mut() = Uri::from_parts(parts).expect("a path alone, or all three parts");
    }
}

fn server_name(authority: &Authority) -> Result<ServerName<'static>, ChannelError> {
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    ServerName::try_from(host.to_owned()).map_err(|_| unusable("not a host name"))
}

fn facts(connection: &rustls::ClientConnection) -> Result<Facts, ChannelError> {
    if connection.protocol_version() != Some(ProtocolVersion::TLSv1_3) {
        return Err(ChannelError::TlsVersion);
    }
    // What was not offered, rustls has refused.
    let version = match connection.alpn_protocol() {
        None | Some(tls::HTTP_1_1) => Version::HTTP_11,
        Some(tls::HTTP_2) => Version::HTTP_2,
        Some(_) => return Err(unusable("the peer chose a protocol that was not offered")),
    };
    let key_exchange = match connection.negotiated_key_exchange_group().map(|group| group.name()) {
        Some(NamedGroup::X25519MLKEM768) => KeyExchange::X25519MlKem768,
        Some(NamedGroup::X25519) => KeyExchange::X25519,
        _ => return Err(unusable("the peer chose a key exchange that was not offered")),
    };
    let certificate = connection.peer_certificates().and_then(<[_]>::first);
    let certificate = certificate.ok_or_else(|| unusable("the peer presented no certificate"))?;
    let spki =
        tls::spki_digest(certificate).map_err(|error| ChannelError::handshake(io::Error::other(error)))?;
    Ok(Facts { spki, key_exchange, version })
}

fn unusable(why: &'static str) -> ChannelError {
    ChannelError::handshake(io::Error::other(why))
}

/// The TLS stream, shared between HTTP, which moves its bytes, and the exporter.
///
/// The lock is held for one poll or one derivation at a time and never across an `await`.
struct SharedTls<S>(Arc<Mutex<TlsStream<S>>>);

impl<S> SharedTls<S> {
    fn lock(&self) -> MutexGuard<'_, TlsStream<S>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S> Clone for SharedTls<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S: Send> Exporter for SharedTls<S> {
    fn export(&self, nonce: &[u8; 32]) -> Result<[u8; 32], rustls::Error> {
        self.lock().get_ref().1.export_keying_material([0; 32], EXPORTER_LABEL, Some(nonce))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for SharedTls<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.lock()).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for SharedTls<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.lock()).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.lock()).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.lock()).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.lock()).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.lock().is_write_vectored()
    }
}
