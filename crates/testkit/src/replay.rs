//! Who stands between guests and their broker with the broker's own key, and gives later boots what the first one had.
//!
//! The pinned identity is genuine, so that TLS refuses nothing: what refuses a recorded message is what it is bound to. The
//! first boot's exchange passes and is kept. Of the boots that follow
//!
//! | boot | challenge | its request | its answer |
//! |---|---|---|---|
//! | second | the broker's | the first boot's in its place | what the broker says to that |
//! | third | the broker's | kept back | the first boot's |
//! | fourth | the first boot's | kept back | the first boot's |
//!
//! and whoever connects after the fourth boot was answered gets the bytes that went over the network in the first boot's
//! connection.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{self, Poll};

use anyhow::{Context, Result};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::attacker;

/// The media type of a broker's messages, and the paths of the two that are kept. Others pass.
const MEDIA_TYPE: &str = "application/vnd.confide.release+cbor";
const CHALLENGE: &str = "/v1/challenge";
const RELEASE: &str = "/v1/release";
/// The last boot that TLS is spoken with.
const LAST: u32 = 4;

/// A stand-in for a broker, before that broker.
pub struct Replaying {
    broker: SocketAddr,
    tls: TlsAcceptor,
    kept: Mutex<Kept>,
}

/// What is known of the first boot, and how far the later ones are.
#[derive(Default)]
struct Kept {
    /// Challenges that were asked for: each boot asks for one.
    boots: u32,
    /// What went to the first boot in its first connection, as the network saw it.
    bytes: Vec<u8>,
    connections: u32,
    challenge: Option<Said>,
    request: Option<Bytes>,
    answer: Option<Said>,
    over: bool,
}

/// What a broker said.
#[derive(Clone)]
struct Said {
    status: StatusCode,
    body: Bytes,
}

impl Replaying {
    /// Stands before the broker at `broker` with its identity key, PKCS#8 in PEM.
    ///
    /// # Errors
    /// When the file is no such key.
    pub fn new(broker: SocketAddr, identity: &Path) -> Result<Arc<Self>> {
        let pem = std::fs::read_to_string(identity).with_context(|| identity.display().to_string())?;
        let key = KeyPair::from_pem(&pem)?;
        let certificate = CertificateParams::new(vec!["broker".to_owned()])?.self_signed(&key)?;
        let private = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], private)?;
        let tls = TlsAcceptor::from(Arc::new(config));
        Ok(Arc::new(Self { broker, tls, kept: Mutex::default() }))
    }

    /// Serves whoever connects, for as long as the process lives.
    ///
    /// # Errors
    /// When the listener fails.
    pub async fn serve(self: Arc<Self>, listener: TcpListener) -> Result<()> {
        loop {
            let (stream, _) = listener.accept().await.context("accepting a guest")?;
            // A guest that breaks off has heard enough.
            tokio::spawn(Arc::clone(&self).meet(stream));
        }
    }

    async fn meet(self: Arc<Self>, stream: TcpStream) -> Result<()> {
        let (number, recorded) = {
            let mut kept = self.kept();
            kept.connections += 1;
            (kept.connections, kept.over.then(|| kept.bytes.clone()))
        };
        match recorded {
            Some(bytes) => repeat(stream, &bytes).await,
            None => self.speak(Recorded { stream, of: (number == 1).then_some(&self) }).await,
        }
    }

    /// Ends TLS as the broker would.
    async fn speak(&self, stream: Recorded<'_>) -> Result<()> {
        let stream = TokioIo::new(self.tls.accept(stream).await?);
        let service = service_fn(|request| self.answer(request));
        Ok(hyper::server::conn::http1::Builder::new().serve_connection(stream, service).await?)
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>> {
        let path = request.uri().path().to_owned();
        let body = request.into_body().collect().await?.to_bytes();
        let Said { status, body } = match path.as_str() {
            CHALLENGE => self.challenge(body).await?,
            RELEASE => self.release(body).await?,
            _ => self.ask(&path, body).await?,
        };
        Ok(Response::builder().status(status).header(CONTENT_TYPE, MEDIA_TYPE).body(Full::new(body))?)
    }

    async fn challenge(&self, body: Bytes) -> Result<Said> {
        let (boot, first) = {
            let mut kept = self.kept();
            kept.boots += 1;
            (kept.boots, kept.challenge.clone())
        };
        if boot >= LAST {
            return first.context("no challenge was kept");
        }
        let said = self.ask(CHALLENGE, body).await?;
        self.kept().challenge.get_or_insert_with(|| said.clone());
        Ok(said)
    }

    async fn release(&self, body: Bytes) -> Result<Said> {
        let (boot, request, answer) = {
            let mut kept = self.kept();
            kept.over = kept.boots >= LAST;
            let request = kept.request.get_or_insert(body).clone();
            (kept.boots, request, kept.answer.clone())
        };
        match answer {
            Some(answer) if boot > 2 => Ok(answer),
            _ => {
                let said = self.ask(RELEASE, request).await?;
                self.kept().answer.get_or_insert_with(|| said.clone());
                Ok(said)
            }
        }
    }

    /// What the broker itself says.
    async fn ask(&self, path: &str, body: Bytes) -> Result<Said> {
        let stream = TokioIo::new(attacker::connect(self.broker).await?);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
        tokio::spawn(connection);
        let request = Request::post(path)
            .header(HOST, self.broker.to_string())
            .header(CONTENT_TYPE, MEDIA_TYPE)
            .body(Full::new(body))?;
        let (head, body) = sender.send_request(request).await?.into_parts();
        Ok(Said { status: head.status, body: body.collect().await?.to_bytes() })
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives bytes to whoever said something, and waits until it leaves.
async fn repeat(mut stream: TcpStream, bytes: &[u8]) -> Result<()> {
    let mut heard = [0; 1024];
    if stream.read(&mut heard).await? > 0 {
        stream.write_all(bytes).await?;
        while stream.read(&mut heard).await? > 0 {}
    }
    Ok(())
}

/// A connection whose outgoing bytes are kept, where somebody keeps them.
struct Recorded<'a> {
    stream: TcpStream,
    of: Option<&'a Replaying>,
}

impl AsyncRead for Recorded<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Recorded<'_> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        if let (Poll::Ready(Ok(written)), Some(replaying)) = (&polled, self.of) {
            replaying.kept().bytes.extend(bytes.iter().take(*written));
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
