//! One DNS upstream: DNS over TLS (RFC 7858) or over HTTPS (RFC 8484).
//!
//! The connection is kept for further questions. It is TLS 1.3 to the pinned address, with a certificate for the pinned name:
//! who sits between cannot read a question, and can only keep it from being answered.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use confide_policy::egress::{DnsProtocol, DnsUpstream};
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use thiserror::Error;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Duration, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::FAMILIES;
use crate::dns::{self, Answer, AnswerError, MAX_ANSWER};
use crate::network::Network;
use crate::tls::{DOT, HTTP_2, Roots};

/// How long an upstream may take over a name, its connection included. Twice what stub resolvers commonly wait for one
/// attempt, and TCP may lose a segment.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// The media type of messages (RFC 8484 section 6).
const DNS_MESSAGE: &str = "application/dns-message";
/// Connections that are kept open without a question. As many questions are seldom under way at a time.
const MAX_IDLE: usize = 4;

/// Why an upstream gave no answer.
#[derive(Debug, Error)]
pub(crate) enum UpstreamError {
    #[error("it did not answer within {} seconds", ANSWER_LIMIT.as_secs())]
    Slow,
    #[error("the connection failed: {0}")]
    Connection(#[from] io::Error),
    #[error("the HTTP exchange failed: {0}")]
    Http(#[from] hyper::Error),
    #[error("its HTTP answer has status {0}, expected 200 with a DNS message of at most {MAX_ANSWER} bytes")]
    Status(StatusCode),
    #[error(transparent)]
    Answer(#[from] AnswerError),
}

/// One address of an upstream.
#[derive(Debug)]
pub(super) struct Upstream {
    address: SocketAddr,
    name: ServerName<'static>,
    tls: Arc<ClientConfig>,
    network: Network,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Tls(Mutex<Vec<TlsStream<TcpStream>>>),
    Https { target: String, held: Mutex<Option<http2::SendRequest<Full<Bytes>>>> },
}

impl Upstream {
    /// One for each address of the policy's.
    pub(super) fn each(upstream: &DnsUpstream, network: &Network, roots: &Roots) -> Vec<Self> {
        let one = |address: &std::net::IpAddr| {
            let name = ServerName::try_from(upstream.name.as_str().to_owned()).ok()?;
            let (kind, alpn) = match &upstream.protocol {
                DnsProtocol::Tls => (Kind::Tls(Mutex::default()), DOT),
                DnsProtocol::Https { path } => {
                    let target = format!("https://{}:{}{path}", upstream.name, upstream.port);
                    (Kind::Https { target, held: Mutex::default() }, HTTP_2)
                }
            };
            let address = SocketAddr::new(*address, upstream.port);
            Some(Self { address, name, tls: roots.config(alpn), network: network.clone(), kind })
        };
        upstream.addresses.iter().filter_map(one).collect()
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The addresses of a name, of each family.
    pub(super) async fn ask(&self, name: &str) -> Result<[Answer; 2], UpstreamError> {
        let asking = async {
            match &self.kind {
                Kind::Tls(idle) => self.over_tls(name, idle).await,
                Kind::Https { target, held } => self.over_https(name, target, held).await,
            }
        };
        timeout(ANSWER_LIMIT, asking).await.map_err(|_| UpstreamError::Slow)?
    }

    async fn over_tls(
        &self,
        name: &str,
        idle: &Mutex<Vec<TlsStream<TcpStream>>>,
    ) -> Result<[Answer; 2], UpstreamError> {
        let kept = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let kept = match kept {
            // The upstream may have closed it meanwhile: then a new one is asked.
            Some(mut stream) => exchange(&mut stream, name).await.ok().map(|answers| (answers, stream)),
            None => None,
        };
        let (answers, stream) = match kept {
            Some(answered) => answered,
            None => {
                let mut stream = self.connect().await?;
                (exchange(&mut stream, name).await?, stream)
            }
        };
        let answers = answers?;
        let mut idle = idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE {
            idle.push(stream);
        }
        Ok(answers)
    }

    async fn over_https(
        &self,
        name: &str,
        target: &str,
        held: &Mutex<Option<http2::SendRequest<Full<Bytes>>>>,
    ) -> Result<[Answer; 2], UpstreamError> {
        let kept = held.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let sender = match kept.filter(|sender| !sender.is_closed()) {
            Some(sender) => sender,
            None => {
                let stream = TokioIo::new(self.connect().await?);
                let (sender, connection) =
                    http2::Builder::new(TokioExecutor::new()).handshake(stream).await?;
                // It ends with its last sender, which is held here.
                tokio::spawn(async move {
                    if let Err(error) = connection.await {
                        tracing::debug!(%error, "a connection to a DNS upstream ended");
                    }
                });
                *held.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender.clone());
                sender
            }
        };
        let [v4, v6] = FAMILIES.map(|family| {
            let mut sender = sender.clone();
            async move {
                // The identifier is zero (RFC 8484 section 4.1).
                let message = posted(&mut sender, target, dns::query(0, name, family)).await?;
                Ok::<_, UpstreamError>(dns::answer(&message, 0, name, family)?)
            }
        });
        let (v4, v6) = tokio::join!(v4, v6);
        let answers = v4.and_then(|v4| Ok([v4, v6?]));
        if answers.as_ref().is_err_and(|error| !matches!(error, UpstreamError::Answer(_))) {
            *held.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        answers
    }

    async fn connect(&self) -> io::Result<TlsStream<TcpStream>> {
        let stream = self.network.connect(self.address).await?;
        TlsConnector::from(Arc::clone(&self.tls)).connect(self.name.clone(), stream).await
    }
}

/// Both questions at once, and their answers in any order (RFC 7858 section 3.3, RFC 7766 section 6.2.1.1). What fails the
/// connection and what is wrong with an answer are told apart: a new connection would not change the latter.
async fn exchange(
    stream: &mut TlsStream<TcpStream>,
    name: &str,
) -> io::Result<Result<[Answer; 2], AnswerError>> {
    let drawn = getrandom::u32().map_err(io::Error::other)?;
    let first = u16::try_from(drawn & 0xffff).unwrap_or_default();
    let ids = [first, first.wrapping_add(1)];
    let mut asked = Vec::new();
    for (id, family) in ids.into_iter().zip(FAMILIES) {
        let message = dns::query(id, name, family);
        asked.extend_from_slice(&u16::try_from(message.len()).unwrap_or_default().to_be_bytes());
        asked.extend_from_slice(&message);
    }
    stream.write_all(&asked).await?;
    let (one, other) = (received(stream).await?, received(stream).await?);
    let of_first = |message: &[u8]| message.starts_with(&first.to_be_bytes());
    let (v4, v6) = if of_first(&one) { (one, other) } else { (other, one) };
    let [first_id, second_id] = ids;
    let [first_family, second_family] = FAMILIES;
    let answers = dns::answer(&v4, first_id, name, first_family)
        .and_then(|v4| Ok([v4, dns::answer(&v6, second_id, name, second_family)?]));
    Ok(answers)
}

/// A message behind its length (RFC 1035 section 4.2.2).
async fn received(stream: &mut TlsStream<TcpStream>) -> io::Result<Vec<u8>> {
    let length = usize::from(stream.read_u16().await?);
    if length > MAX_ANSWER {
        return Err(io::Error::other(format!(
            "its answer has {length} bytes, expected at most {MAX_ANSWER}"
        )));
    }
    let mut message = vec![0; length];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

async fn posted(
    sender: &mut http2::SendRequest<Full<Bytes>>,
    target: &str,
    message: Vec<u8>,
) -> Result<Bytes, UpstreamError> {
    let request = Request::builder()
        .method(Method::POST)
        .uri(target)
        .header(header::ACCEPT, DNS_MESSAGE)
        .header(header::CONTENT_TYPE, DNS_MESSAGE)
        .body(Full::new(Bytes::from(message)))
        .map_err(io::Error::other)?;
    let answer = sender.send_request(request).await?;
    let status = answer.status();
    let of_dns = answer.headers().get(header::CONTENT_TYPE).is_some_and(|value| value == DNS_MESSAGE);
    if status != StatusCode::OK || !of_dns {
        return Err(UpstreamError::Status(status));
    }
    let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
    Ok(body.map_err(|_| UpstreamError::Status(status))?.to_bytes())
}
