//! Accepting connections, and binding evidence to one of them.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use confide_evidence::bytes::{Bytes, Digest};
use confide_evidence::transcript::{Binding, EXPORTER_LABEL, batch_leaf};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::error::ChannelError;
use crate::keys::{GuestKeys, HTTP_2};

/// Ends TLS with the guest's keys. Clones share it.
#[derive(Clone)]
pub struct Acceptor {
    tls: TlsAcceptor,
    spki: Digest,
}

impl Acceptor {
    /// An acceptor with these keys.
    ///
    /// # Errors
    /// When the TLS key cannot be certified.
    pub fn new(keys: &GuestKeys) -> Result<Self, ChannelError> {
        Ok(Self { tls: TlsAcceptor::from(Arc::new(keys.server_config()?)), spki: keys.tls_spki() })
    }

    /// Performs the handshake on a connected stream. The caller limits its time.
    ///
    /// # Errors
    /// [`ChannelError::Handshake`].
    pub async fn accept<S>(&self, stream: S) -> Result<GuestConnection<S>, ChannelError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let stream = self.tls.accept(stream).await.map_err(ChannelError::Handshake)?;
        let protocol = match stream.get_ref().1.alpn_protocol() {
            Some(HTTP_2) => Protocol::Http2,
            _ => Protocol::Http1,
        };
        Ok(GuestConnection { tls: Arc::new(Mutex::new(stream)), spki: self.spki, protocol })
    }
}

/// What is spoken inside a connection: the handshake has settled it (ALPN, RFC 7301).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1, also where the client has named no protocol.
    Http1,
    /// HTTP/2.
    Http2,
}

/// One TLS connection: what is sent and received on it is plaintext to this process alone.
pub struct GuestConnection<S> {
    tls: Shared<S>,
    spki: Digest,
    protocol: Protocol,
}

/// Whoever speaks HTTP owns the stream, while the attestation handler exports from it. Neither waits for the network
/// under the lock.
type Shared<S> = Arc<Mutex<TlsStream<S>>>;

impl<S> GuestConnection<S> {
    /// What is spoken inside the connection.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// A handle that binds nonces to this connection while another owner reads and writes it.
    pub fn exporter(&self) -> ConnectionExporter<S> {
        ConnectionExporter { tls: Arc::clone(&self.tls), spki: self.spki }
    }
}

/// Binds nonces to one connection.
pub struct ConnectionExporter<S> {
    tls: Shared<S>,
    spki: Digest,
}

impl<S> ConnectionExporter<S> {
    /// What evidence for this nonce, on this connection, has to be bound to.
    ///
    /// # Errors
    /// [`ChannelError::Exporter`].
    pub fn bind(&self, nonce: Bytes<32>) -> Result<BoundNonce, ChannelError> {
        let stream = lock(&self.tls);
        let exporter = stream
            .get_ref()
            .1
            .export_keying_material([0; 32], EXPORTER_LABEL, Some(&nonce.0))
            .map_err(ChannelError::Exporter)?;
        Ok(BoundNonce { nonce, exporter: Bytes(exporter), tls_spki: self.spki })
    }
}

/// A nonce with the connection over which it came: what evidence for it has to be bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BoundNonce {
    /// Chosen by the client.
    pub nonce: Bytes<32>,
    /// The TLS exporter of the connection, under [`EXPORTER_LABEL`] with the nonce as context.
    pub exporter: Bytes<32>,
    /// SHA-256 of the DER SubjectPublicKeyInfo of the guest's TLS key: the same for all connections.
    pub tls_spki: Digest,
}

impl BoundNonce {
    /// What a quote for this connection alone is bound to.
    pub fn alone(&self) -> Binding {
        let Self { nonce, exporter, tls_spki } = *self;
        Binding::Serve { nonce, exporter, tls_spki }
    }

    /// Its leaf in the tree of a batch.
    pub fn leaf(&self) -> Bytes<64> {
        batch_leaf(&self.nonce, &self.exporter)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for GuestConnection<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *lock(&self.tls)).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for GuestConnection<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *lock(&self.tls)).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *lock(&self.tls)).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *lock(&self.tls)).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *lock(&self.tls)).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        lock(&self.tls).is_write_vectored()
    }
}

/// A panic of the TLS library under the lock breaks this connection alone.
fn lock<S>(tls: &Shared<S>) -> MutexGuard<'_, TlsStream<S>> {
    tls.lock().unwrap_or_else(PoisonError::into_inner)
}
