//! The decrypted side of a victim's connection: what is read is kept, and the TLS exporter stays in reach while HTTP
//! owns the stream.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use confide_evidence::bytes::Bytes;
use confide_evidence::transcript::EXPORTER_LABEL;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// Takes what is decrypted.
type OnRead = dyn Fn(&[u8]) + Send + Sync;

/// A handle on the stream; clones share it.
#[derive(Clone)]
pub(super) struct Tapped {
    stream: Arc<Mutex<TlsStream<TcpStream>>>,
    on_read: Arc<OnRead>,
}

impl Tapped {
    /// Calls `on_read` with all that is decrypted.
    pub(super) fn new(stream: TlsStream<TcpStream>, on_read: impl Fn(&[u8]) + Send + Sync + 'static) -> Self {
        Self { stream: Arc::new(Mutex::new(stream)), on_read: Arc::new(on_read) }
    }

    /// The exporter of this connection, as an honest guest would compute it.
    pub(super) fn exporter(&self, nonce: &Bytes<32>) -> Result<Bytes<32>, rustls::Error> {
        let stream = self.lock();
        let (_, connection) = stream.get_ref();
        connection.export_keying_material([0; 32], EXPORTER_LABEL, Some(&nonce.0)).map(Bytes)
    }

    fn lock(&self) -> MutexGuard<'_, TlsStream<TcpStream>> {
        self.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsyncRead for Tapped {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut *self.lock()).poll_read(context, buffer);
        let read = buffer.filled().get(before..).unwrap_or_default();
        if !read.is_empty() {
            (self.on_read)(read);
        }
        polled
    }
}

impl AsyncWrite for Tapped {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.lock()).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.lock()).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.lock()).poll_shutdown(context)
    }
}
