//! One live TLS connection with HTTP/1.1 on it, whatever it may be used for.

use crate::error::ChannelError;
use crate::request::Body;
use crate::{HANDSHAKE_LIMIT, tls};
use confide_evidence::transcript::EXPORTER_LABEL;
use http::uri::Authority;
use http::{HeaderValue, Response, header};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::{NamedGroup, ProtocolVersion};
use rustls_pki_types::ServerName;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// The most bytes that HTTP heads and read buffers take.
/// Twice the head that a guest takes, and room for the longest chunk header.
const MAX_BUFFER: usize = 128 * 1024;
/// The most header fields of an answer. Guests send under 20.
const MAX_HEADERS: usize = 64;
/// How long a connection that nobody needs any more may take to say goodbye.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

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

/// One live connection. The types around it decide what it may send.
pub(crate) struct Live {
    sender: SendRequest<Body>,
    exporter: Arc<dyn Exporter>,
    spki: [u8; 32],
    key_exchange: KeyExchange,
    authority: HeaderValue,
    /// Dropped with the connection: its driver then has [`CLOSE_LIMIT`] left.
    _needed: oneshot::Sender<()>,
}

/// Derives keying material of one TLS connection (RFC 8446 section 7.5).
trait Exporter: Send + Sync {
    fn export(&self, nonce: &[u8; 32]) -> Result<[u8; 32], rustls::Error>;
}

impl Live {
    /// Performs the handshakes on a connected stream. `authority` names the peer in SNI and the `Host` field, and
    /// carries no trust.
    pub(crate) async fn connect<S>(stream: S, authority: &Authority) -> Result<Self, ChannelError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let limit = HANDSHAKE_LIMIT;
        match tokio::time::timeout(limit, Self::handshake(stream, authority)).await {
            Ok(live) => live,
            Err(_) => Err(ChannelError::TimedOut { step: "the TLS handshake", limit }),
        }
    }

    async fn handshake<S>(stream: S, authority: &Authority) -> Result<Self, ChannelError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let connector = TlsConnector::from(tls::client_config());
        let tls =
            connector.connect(server_name(authority)?, stream).await.map_err(ChannelError::handshake)?;
        let (spki, key_exchange) = facts(tls.get_ref().1)?;
        let tls = SharedTls(Arc::new(Mutex::new(tls)));
        let exporter = Arc::new(tls.clone());
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(MAX_BUFFER)
            .max_headers(MAX_HEADERS)
            .handshake(TokioIo::new(tls))
            .await
            .map_err(ChannelError::connection)?;
        let (needed, gone) = oneshot::channel::<()>();
        tokio::spawn(drive(connection, gone));
        let authority = HeaderValue::from_str(authority.as_str()).map_err(|_| unusable("not a host name"))?;
        Ok(Self { sender, exporter, spki, key_exchange, authority, _needed: needed })
    }

    pub(crate) fn spki(&self) -> &[u8; 32] {
        &self.spki
    }

    pub(crate) fn key_exchange(&self) -> KeyExchange {
        self.key_exchange
    }

    /// The exporter of this very connection for a nonce.
    pub(crate) fn export(&self, nonce: &[u8; 32]) -> Result<[u8; 32], ChannelError> {
        self.exporter.export(nonce).map_err(|error| ChannelError::handshake(io::Error::other(error)))
    }

    /// Whether the connection has ended.
    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Waits until the answer before has been read to its end.
    pub(crate) async fn ready(&mut self) -> Result<(), ChannelError> {
        self.sender.ready().await.map_err(ChannelError::connection)
    }

    /// Sends one request. The error carries the request where nothing of it was written.
    pub(crate) async fn send(
        &mut self,
        mut request: http::Request<Body>,
    ) -> Result<Response<Incoming>, (ChannelError, Option<http::Request<Body>>)> {
        request.headers_mut().insert(header::HOST, self.authority.clone());
        if request.headers().contains_key(header::TE) {
            // HTTP/1.1 asks for it (RFC 9110 section 10.1.4), and HTTP/2 has no such field.
            request.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("te"));
        }
        let answer = self.sender.try_send_request(request).await;
        answer.map_err(|mut failure| {
            let unsent = failure.take_message();
            (ChannelError::connection(failure.into_error()), unsent)
        })
    }
}

/// Moves the connection's bytes until it ends, or nobody needs it and it does not end in time.
async fn drive<S>(connection: http1::Connection<TokioIo<SharedTls<S>>, Body>, gone: oneshot::Receiver<()>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    // Whoever awaits an answer on this connection is told of its failure too, so that none is lost here.
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        _ = &mut connection => {}
        _ = gone => {
            let _ = tokio::time::timeout(CLOSE_LIMIT, connection).await;
        }
    }
}

fn server_name(authority: &Authority) -> Result<ServerName<'static>, ChannelError> {
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    ServerName::try_from(host.to_owned()).map_err(|_| unusable("not a host name"))
}

fn facts(connection: &rustls::ClientConnection) -> Result<([u8; 32], KeyExchange), ChannelError> {
    if connection.protocol_version() != Some(ProtocolVersion::TLSv1_3) {
        return Err(ChannelError::TlsVersion);
    }
    if connection.alpn_protocol().is_some_and(|protocol| protocol != tls::HTTP_1_1) {
        return Err(unusable("the peer chose another protocol than HTTP/1.1"));
    }
    let key_exchange = match connection.negotiated_key_exchange_group().map(|group| group.name()) {
        Some(NamedGroup::X25519MLKEM768) => KeyExchange::X25519MlKem768,
        Some(NamedGroup::X25519) => KeyExchange::X25519,
        _ => return Err(unusable("the peer chose a key exchange that was not offered")),
    };
    let certificate = connection.peer_certificates().and_then(<[_]>::first);
    let certificate = certificate.ok_or_else(|| unusable("the peer presented no certificate"))?;
    let spki =
        tls::spki_digest(certificate).map_err(|error| ChannelError::handshake(io::Error::other(error)))?;
    Ok((spki, key_exchange))
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
