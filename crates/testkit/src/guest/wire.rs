//! The guest's streams: TLS, and what is written down of it.

use std::io;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::task::{Context as Task, Poll};

use anyhow::{Result, anyhow};
use confide_evidence::bytes::{Bytes, Digest};
use confide_evidence::hash::sha256;
use confide_evidence::transcript::EXPORTER_LABEL;
use hyper::Version;
use hyper_util::rt::TokioIo;
use rcgen::{CertificateParams, KeyPair, PublicKeyData};
use rustls::crypto::aws_lc_rs::{self, sign::any_supported_type};
use rustls::pki_types::PrivateKeyDer;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{HandshakeKind, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::{Attestation, Inner, Raw, Seen, Then, Tls, http, lock};

/// HTTP/2 in ALPN (RFC 9113 section 3.2).
const HTTP_2: &[u8] = b"h2";

/// A TLS key with its certificate.
pub(super) struct Identity {
    pub(super) tls: Tls,
    config: Arc<ServerConfig>,
    /// The same, for a guest that speaks HTTP/2 as well.
    with_http2: Arc<ServerConfig>,
    /// SHA-256 of the DER SubjectPublicKeyInfo of the certificate.
    pub(super) spki: Digest,
}

impl Identity {
    pub(super) fn new(tls: Tls) -> Result<Self> {
        let own = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let other = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let certificate = CertificateParams::new(vec!["guest.invalid".to_owned()])?.self_signed(&own)?;
        let signing = if tls == Tls::OtherKey { &other } else { &own };
        let key = PrivateKeyDer::try_from(signing.serialize_der()).map_err(|error| anyhow!(error))?;
        let certified = CertifiedKey::new(vec![certificate.der().clone()], any_supported_type(&key)?);
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // Offered to every client: one that resumed a session would send its first bytes under keys of the last one.
        config.max_early_data_size = u32::MAX;
        let mut with_http2 = config.clone();
        with_http2.alpn_protocols.insert(0, HTTP_2.to_vec());
        let (config, with_http2) = (Arc::new(config), Arc::new(with_http2));
        Ok(Self { tls, config, with_http2, spki: sha256(&own.subject_public_key_info()) })
    }
}

/// Serves one connection.
pub(super) async fn serve<S>(inner: &Arc<Inner>, stream: S) -> Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let place = {
        let mut seen = lock(&inner.seen);
        seen.push(Seen::default());
        seen.len() - 1
    };
    let note = {
        let inner = Arc::clone(inner);
        move |bytes: &[u8]| lock(&inner.seen)[place].wire.extend_from_slice(bytes)
    };
    let mut wire = Noted { stream, note };
    match inner.identity.tls {
        Tls::Version12 => return answer_with(&mut wire, &server_hello_12()).await,
        Tls::None => {
            return answer_with(&mut wire, b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await;
        }
        Tls::Honest | Tls::OtherKey => {}
    }
    let Identity { config, with_http2, .. } = &inner.identity;
    let config = if inner.http2.load(Ordering::Relaxed) > 0 { with_http2 } else { config };
    let tls = TlsAcceptor::from(Arc::clone(config)).accept(wire).await?;
    let version = match tls.get_ref().1.alpn_protocol() {
        Some(HTTP_2) => Version::HTTP_2,
        _ => Version::HTTP_11,
    };
    lock(&inner.seen)[place].resumed = tls.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
    let shared = Shared(Arc::new(Mutex::new(tls)));
    let note = {
        let inner = Arc::clone(inner);
        move |bytes: &[u8]| lock(&inner.seen)[place].plaintext.extend_from_slice(bytes)
    };
    let line = Arc::new(shared.clone());
    let eager = match &*lock(&inner.attestation) {
        Attestation::Eager(bytes) => Some(Raw { bytes: bytes.clone(), then: Then::Wait }),
        _ => None,
    };
    if let Some(eager) = eager {
        http::write(&*line, &eager).await?;
    }
    let io = TokioIo::new(Noted { stream: shared, note });
    http::serve(Arc::clone(inner), place, line, (io, version)).await
}

async fn answer_with<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, answer: &[u8]) -> Result<()> {
    let mut first = [0; 1];
    stream.read_exact(&mut first).await?;
    stream.write_all(answer).await?;
    stream.flush().await?;
    // Whatever the client still says is noted.
    while stream.read(&mut [0; 1024]).await? > 0 {}
    Ok(())
}

/// A ServerHello of TLS 1.2 without extensions (RFC 5246 section 7.4.1.3).
fn server_hello_12() -> Vec<u8> {
    let mut hello = vec![0x03, 0x03];
    hello.extend([0x5a; 32]);
    hello.extend([0x00, 0xc0, 0x2b, 0x00]);
    let mut record = vec![0x16, 0x03, 0x03, 0x00, 42, 0x02, 0x00, 0x00, 38];
    record.extend(hello);
    record
}

/// The TLS stream, in reach while HTTP owns it.
struct Shared<S>(Arc<Mutex<TlsStream<S>>>);

impl<S> Clone for Shared<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> http::Line for Shared<S> {
    fn export(&self, nonce: &Bytes<32>) -> Result<Bytes<32>> {
        let exporter =
            lock(&self.0).get_ref().1.export_keying_material([0; 32], EXPORTER_LABEL, Some(&nonce.0))?;
        Ok(Bytes(exporter))
    }

    fn poll_write(&self, task: &mut Task<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *lock(&self.0)).poll_write(task, bytes)
    }

    fn poll_flush(&self, task: &mut Task<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *lock(&self.0)).poll_flush(task)
    }

    fn poll_end(&self, task: &mut Task<'_>, end: Then) -> Poll<io::Result<()>> {
        let mut tls = lock(&self.0);
        match end {
            Then::Cut => Pin::new(tls.get_mut().0).poll_shutdown(task),
            Then::Wait | Then::Close => Pin::new(&mut *tls).poll_shutdown(task),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Shared<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        task: &mut Task<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *lock(&self.0)).poll_read(task, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Shared<S> {
    fn poll_write(self: Pin<&mut Self>, task: &mut Task<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *lock(&self.0)).poll_write(task, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *lock(&self.0)).poll_flush(task)
    }

    fn poll_shutdown(self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *lock(&self.0)).poll_shutdown(task)
    }
}

/// A stream of which all that is read is noted.
struct Noted<S, F> {
    stream: S,
    note: F,
}

impl<S: AsyncRead + Unpin, F: Fn(&[u8]) + Unpin> AsyncRead for Noted<S, F> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        task: &mut Task<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(task, buffer);
        (self.note)(&buffer.filled()[before..]);
        polled
    }
}

impl<S: AsyncWrite + Unpin, F: Unpin> AsyncWrite for Noted<S, F> {
    fn poll_write(mut self: Pin<&mut Self>, task: &mut Task<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(task, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(task)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(task)
    }
}
