//! One `GET` or `POST` over HTTPS, within limits: HTTP/1.1, no redirects, no content encodings, a connection for each
//! request.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use confide_evidence::time::parse_seconds;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, AGE, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, DATE, HOST, HeaderName,
    PROXY_AUTHORIZATION, RETRY_AFTER, USER_AGENT,
};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::rt::{Read, Write};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;

use crate::error::{Fault, SetupError};
use crate::intel::Origin;
use crate::limits::{Limits, jitter};
use crate::proxy::{Proxy, ProxySettings};

/// The most bytes of an answer's head. Intel's issuer chains take some 5 KiB of it.
const MAX_HEAD: usize = 64 * 1024;
/// The most header fields of an answer. Intel's services send under 30.
const MAX_HEADERS: usize = 100;
/// After a 429 without `Retry-After` the pauses are this many times as long: such services count by the minute.
const BUSY_FACTOR: u32 = 4;
/// What services learn of this program.
const AGENT: &str = concat!("confide/", env!("CARGO_PKG_VERSION"));
/// Longer than anybody waits, and a time that every clock can add.
const CENTURY: Duration = Duration::from_hours(100 * 365 * 24);

/// Whoever asks services.
#[derive(Clone, Debug)]
pub(crate) struct Fetcher {
    pub(crate) limits: Limits,
    pub(crate) proxies: Result<ProxySettings, SetupError>,
    /// What the last answer said of the time.
    clock: Arc<Mutex<Option<ServiceTime>>>,
}

/// What a service said of the time, over a connection whose certificate was trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceTime {
    /// The service's host and port.
    pub from: String,
    /// Seconds since the Unix epoch: the field `Date` (RFC 9110 section 6.6.1), and `Age` where a cache answered.
    pub said: i64,
    /// This machine's clock when the answer came, as that.
    pub here: i64,
}

/// What is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Ask<'a> {
    pub(crate) origin: &'a Origin,
    /// Path and query, beneath the origin's prefix.
    pub(crate) path: String,
    pub(crate) sent: Sent,
    /// Media types that the answer may have.
    pub(crate) media_types: &'static [&'static str],
    /// The most bytes of its body.
    pub(crate) limit: usize,
}

/// What is sent along. Both may be asked twice: neither changes anything at a service.
#[derive(Clone, Debug)]
pub(crate) enum Sent {
    /// Nothing: a `GET`.
    Nothing,
    /// A body of a media type: a `POST`.
    Body(&'static str, Bytes),
}

/// An answer of status 200 and of one of the asked media types.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    /// The value of a header field that must stand there once.
    pub(crate) fn header(&self, field: &'static str) -> Result<&[u8], Fault> {
        let mut values = self.headers.get_all(HeaderName::from_static(field)).iter();
        match (values.next(), values.next()) {
            (Some(value), None) => Ok(value.as_bytes()),
            _ => Err(Fault::Header(field)),
        }
    }
}

impl Fetcher {
    pub(crate) fn new(limits: Limits, proxies: Result<ProxySettings, SetupError>) -> Self {
        Self { limits, proxies, clock: Arc::default() }
    }

    /// What the last answer of any service said of the time.
    pub(crate) fn service_time(&self) -> Option<ServiceTime> {
        self.clock.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note_time(&self, from: &str, headers: &HeaderMap) {
        let Some(said) = service_date(headers) else { return };
        let here = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let here = i64::try_from(here.as_secs()).unwrap_or(i64::MAX);
        let seen = ServiceTime { from: from.to_owned(), said, here };
        *self.clock.lock().unwrap_or_else(PoisonError::into_inner) = Some(seen);
    }

    /// Asks, and asks again after faults that pass.
    pub(crate) async fn ask(&self, ask: &Ask<'_>) -> Result<Answer, Fault> {
        let deadline = later(self.limits.total);
        let mut failed: u32 = 0;
        loop {
            let limit = deadline.min(later(self.limits.attempt));
            let fault = match timeout_at(limit, self.once(ask)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(fault)) => fault,
                Err(_) => Fault::TimedOut(self.limits.attempt),
            };
            failed = failed.saturating_add(1);
            let left = deadline.saturating_duration_since(Instant::now());
            match self.pause(&fault, failed) {
                Some(pause) if pause < left => {
                    tracing::debug!(%fault, failed, pause_ms = pause.as_millis(), "asking again");
                    tokio::time::sleep(pause).await;
                }
                _ => return Err(fault),
            }
        }
    }

    /// How long to wait before the next attempt, where one makes sense.
    fn pause(&self, fault: &Fault, failed: u32) -> Option<Duration> {
        if !fault.passes() || failed >= self.limits.attempts {
            return None;
        }
        let pause = self.limits.pause(failed, jitter());
        Some(match fault {
            Fault::Busy(Some(wanted)) => wanted.saturating_add(pause.min(self.limits.first_pause)),
            Fault::Busy(None) => pause.saturating_mul(BUSY_FACTOR),
            _ => pause,
        })
    }

    async fn once(&self, ask: &Ask<'_>) -> Result<Answer, Fault> {
        let base = &ask.origin.base;
        let mut connection = timeout(self.limits.connect, self.connect(ask.origin))
            .await
            .map_err(|_| Fault::TimedOut(self.limits.connect))??;
        let target = base.target(&ask.path);
        let (request, body) = match &ask.sent {
            Sent::Nothing => (Request::get(target), Bytes::new()),
            Sent::Body(media_type, body) => {
                (Request::post(target).header(CONTENT_TYPE, *media_type), body.clone())
            }
        };
        let request = request
            .header(HOST, base.authority().as_str())
            .header(ACCEPT, ask.media_types.join(", "))
            .header(ACCEPT_ENCODING, "identity")
            .header(USER_AGENT, AGENT)
            .body(Full::from(body))
            .expect("addresses are URLs, and paths are made of their characters");
        let response = connection.sender.send_request(request).await.map_err(Fault::connection)?;
        self.note_time(base.authority().as_str(), response.headers());
        check_status(&response)?;
        check_form(response.headers(), ask.media_types)?;
        let (head, body) = response.into_parts();
        let body = read(body, &head.headers, ask.limit).await?;
        Ok(Answer { headers: head.headers, body })
    }

    async fn connect(&self, origin: &Origin) -> Result<Connection, Fault> {
        let (host, _) = origin.base.dial_address();
        let name = ServerName::try_from(host.to_owned()).map_err(Fault::connection)?;
        let config = origin.trust.config()?;
        let tls = TlsConnector::from(config);
        match self.proxies.as_ref().map_err(Clone::clone)?.proxy_for(&origin.base) {
            None => {
                let stream = dial(origin.base.dial_address()).await?;
                handshake(tls.connect(name, stream).await.map_err(Fault::handshake)?).await
            }
            Some(proxy) => {
                let tunnel = tunnel(proxy, origin.base.dial_address()).await?;
                handshake(tls.connect(name, tunnel).await.map_err(Fault::handshake)?).await
            }
        }
    }
}

/// A connection whose work ends when it is dropped.
struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    work: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.work.abort();
    }
}

async fn dial(address: (&str, u16)) -> Result<TcpStream, Fault> {
    let stream = TcpStream::connect(address).await.map_err(Fault::connection)?;
    // A socket that refuses is slower and no less right.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

async fn handshake<S>(stream: S) -> Result<Connection, Fault>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = connection_on(TokioIo::new(stream)).await?;
    // How it ends, the request learns.
    let work = tokio::spawn(async move { drop(connection.await) });
    Ok(Connection { sender, work })
}

type Handshake<S> = (http1::SendRequest<Full<Bytes>>, http1::Connection<S, Full<Bytes>>);

async fn connection_on<S: Read + Write + Unpin + Send + 'static>(stream: S) -> Result<Handshake<S>, Fault> {
    let mut builder = http1::Builder::new();
    builder.max_buf_size(MAX_HEAD).max_headers(MAX_HEADERS);
    builder.handshake(stream).await.map_err(Fault::connection)
}

/// A way through a proxy to a host (RFC 9110 section 9.3.6).
async fn tunnel(
    proxy: &Proxy,
    (host, port): (&str, u16),
) -> Result<TokioIo<hyper::upgrade::Upgraded>, Fault> {
    let (mut sender, connection) = connection_on(TokioIo::new(dial(proxy.dial_address()).await?)).await?;
    tokio::spawn(async move { drop(connection.with_upgrades().await) });
    let bracketed = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let target = format!("{bracketed}:{port}");
    let mut request = Request::builder().method(Method::CONNECT).uri(&target).header(HOST, &target);
    if let Some(authorization) = proxy.authorization() {
        request = request.header(PROXY_AUTHORIZATION, authorization);
    }
    let request =
        request.body(Full::default()).expect("hosts and ports are URL characters, credentials base64");
    let response = sender.send_request(request).await.map_err(Fault::connection)?;
    if !response.status().is_success() {
        return Err(Fault::Proxy { proxy: proxy.to_string(), status: response.status().as_u16() });
    }
    Ok(TokioIo::new(hyper::upgrade::on(response).await.map_err(Fault::connection)?))
}

/// When a time from now has passed. No time is longer than a century.
fn later(time: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(time.min(CENTURY)).unwrap_or(now)
}

fn check_status(response: &Response<Incoming>) -> Result<(), Fault> {
    let status = response.status();
    Err(match status {
        StatusCode::OK => return Ok(()),
        StatusCode::TOO_MANY_REQUESTS => Fault::Busy(retry_after(response.headers())),
        StatusCode::SERVICE_UNAVAILABLE if response.headers().contains_key(RETRY_AFTER) => {
            Fault::Busy(retry_after(response.headers()))
        }
        StatusCode::NOT_FOUND | StatusCode::GONE => Fault::NotFound(status.as_u16()),
        _ if status.is_redirection() => Fault::Redirected(status.as_u16()),
        _ => Fault::Status(status.as_u16()),
    })
}

/// The form in seconds (RFC 9110 section 10.2.3), which the vendors use. A date is taken for no wish at all.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// When the answer was made, as the service says it: `Date` in the form that is sent (RFC 9110 section 5.6.7,
/// `Sun, 06 Nov 1994 08:49:37 GMT`), and how long a cache has had it since.
fn service_date(headers: &HeaderMap) -> Option<i64> {
    let text = headers.get(DATE)?.to_str().ok()?;
    let words: Vec<&str> = text.split(' ').collect();
    let [_, day, month, year, time, "GMT"] = words.as_slice() else { return None };
    let month = MONTHS.iter().position(|name| name == month)?.saturating_add(1);
    let date = parse_seconds(&format!("{year}-{month:02}-{day}T{time}Z"))?;
    let age = headers.get(AGE).and_then(|age| age.to_str().ok()?.parse::<u32>().ok()).unwrap_or_default();
    date.checked_add(i64::from(age))
}

/// RFC 9110 section 5.6.7.
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

fn check_form(headers: &HeaderMap, media_types: &[&str]) -> Result<(), Fault> {
    let text = |name: HeaderName| {
        let value = headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
        value.map(|value| value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
    };
    if let Some(encoding) = text(CONTENT_ENCODING).filter(|encoding| encoding != "identity") {
        return Err(Fault::ContentEncoding(encoding));
    }
    let found = text(CONTENT_TYPE).unwrap_or_default();
    if media_types.contains(&found.as_str()) { Ok(()) } else { Err(Fault::MediaType(found)) }
}

async fn read(body: Incoming, headers: &HeaderMap, limit: usize) -> Result<Bytes, Fault> {
    let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|announced| announced > limit) {
        return Err(Fault::TooLarge(limit));
    }
    match Limited::new(body, limit).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Fault::TooLarge(limit)),
        Err(error) => Err(Fault::Connection(Arc::from(error))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fetcher() -> Fetcher {
        Fetcher::new(Limits::default(), Ok(ProxySettings::none()))
    }

    #[test]
    fn a_limit_may_be_the_longest_time_that_can_be_said() {
        let day = Duration::from_hours(24);
        assert!(later(Duration::MAX).duration_since(Instant::now()) > day);
    }

    #[test]
    fn the_time_of_an_answer_is_its_date_and_its_age() {
        let headers = |date: &'static str, age: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            headers.insert(DATE, http::HeaderValue::from_static(date));
            age.map(|age| headers.insert(AGE, http::HeaderValue::from_static(age)));
            service_date(&headers)
        };
        assert_eq!(headers("Sun, 06 Nov 1994 08:49:37 GMT", None), Some(784_111_777));
        assert_eq!(headers("Sun, 06 Nov 1994 08:49:37 GMT", Some("60")), Some(784_111_837));
        for (date, age) in [
            ("Sunday, 06-Nov-94 08:49:37 GMT", None),
            ("Sun Nov  6 08:49:37 1994", None),
            ("Sun, 06 Nov 1994 08:49:37 CET", None),
            ("Sun, 31 Feb 1994 08:49:37 GMT", None),
            ("Sun, 06 nov 1994 08:49:37 GMT", None),
            ("", None),
        ] {
            assert_eq!(headers(date, age), None, "{date}");
        }
        assert_eq!(service_date(&HeaderMap::new()), None);
    }

    #[test]
    fn what_passes_is_asked_again_and_nothing_else() {
        let fetcher = fetcher();
        for fault in
            [Fault::TimedOut(Duration::ZERO), Fault::Status(500), Fault::Status(503), Fault::Busy(None)]
        {
            assert!(fetcher.pause(&fault, 1).is_some(), "{fault}");
            assert!(fetcher.pause(&fault, fetcher.limits.attempts).is_none(), "{fault}");
        }
        for fault in [
            Fault::Status(400),
            Fault::NotFound(404),
            Fault::Redirected(302),
            Fault::NoRoots,
            Fault::TooLarge(1),
        ] {
            assert!(fetcher.pause(&fault, 1).is_none(), "{fault}");
        }
    }

    #[test]
    fn a_wish_of_the_service_is_kept() {
        let fetcher = fetcher();
        let pause = fetcher.pause(&Fault::Busy(Some(Duration::from_secs(20))), 1).unwrap();
        assert!((20.0..=20.5).contains(&pause.as_secs_f32()), "{pause:?}");
        let unsaid = fetcher.pause(&Fault::Busy(None), 1).unwrap();
        assert!((1.0..=2.0).contains(&unsaid.as_secs_f32()), "{unsaid:?}");
    }
}
