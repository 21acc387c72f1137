//! HTTP/1.1 over TLS 1.3: connections, routes, bodies, each within its limits.

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use confide_release::{
    CHALLENGE_PATH, FAILURE_PATH, FORMATTED_PATH, MAX_MESSAGE, MAX_REQUEST, MEDIA_TYPE, RELEASE_PATH,
};
use confide_service::{Lifecycle, WriteLimit, refusals};
use http::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use crate::broker::Broker;
use crate::codes;
use crate::config::Limits;
use crate::denial::Denial;
use crate::rate::{Allowance, Connections, Place, Room};

/// The most bytes that the head of a request takes. A guest's have under 1 KiB.
const MAX_HEAD: usize = 16 * 1024;
/// The most header fields of a request. A guest sends under ten.
const MAX_HEADERS: usize = 32;
/// The most requests on one connection. A boot needs two.
const MAX_REQUESTS: u32 = 16;
/// After a failed accept, so that a lack of descriptors does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What every connection needs.
pub(crate) struct Server {
    pub(crate) broker: Broker,
    pub(crate) tls: TlsAcceptor,
    pub(crate) limits: Limits,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) requests: Allowance,
    pub(crate) failures: Allowance,
    pub(crate) connections: Connections,
    /// Bytes of bodies.
    pub(crate) bodies: Room,
    pub(crate) readiness: Readiness,
}

/// What the last look at database and key-encryption key has found. Whoever asks often makes nobody look often.
#[derive(Default)]
pub(crate) struct Readiness(tokio::sync::Mutex<Option<(Instant, bool)>>);

/// For so long a look at database and key-encryption key holds.
const LOOK: Duration = Duration::from_secs(5);

impl Readiness {
    async fn of(&self, broker: &Broker) -> bool {
        let mut last = self.0.lock().await;
        if let Some((at, ready)) = *last
            && at.elapsed() < LOOK
        {
            return ready;
        }
        let found = broker.ready().await;
        if let Err(error) = &found {
            tracing::error!(code = error.code(), error = error.sentence(), "not ready");
        }
        *last = Some((Instant::now(), found.is_ok()));
        found.is_ok()
    }
}

/// Where a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    Challenge,
    Release,
    Formatted,
    Failure,
    Health,
    Ready,
}

impl Route {
    fn of(path: &str) -> Option<Self> {
        match path {
            CHALLENGE_PATH => Some(Self::Challenge),
            RELEASE_PATH => Some(Self::Release),
            FORMATTED_PATH => Some(Self::Formatted),
            FAILURE_PATH => Some(Self::Failure),
            "/healthz" => Some(Self::Health),
            "/readyz" => Some(Self::Ready),
            _ => None,
        }
    }

    fn allowed(self) -> &'static str {
        match self {
            Self::Health | Self::Ready => "GET, HEAD",
            _ => "POST",
        }
    }

    fn takes(self, method: &Method) -> bool {
        match self {
            Self::Health | Self::Ready => matches!(*method, Method::GET | Method::HEAD),
            _ => *method == Method::POST,
        }
    }

    /// The most bytes of the body.
    fn limit(self) -> usize {
        match self {
            Self::Release => MAX_REQUEST,
            Self::Formatted | Self::Failure => MAX_MESSAGE,
            Self::Challenge | Self::Health | Self::Ready => 0,
        }
    }
}

/// Accepts connections until the broker drains, then waits for the open ones.
pub(crate) async fn serve(listener: TcpListener, server: Arc<Server>) {
    let mut open = JoinSet::new();
    let mut draining = pin!(server.lifecycle.draining());
    loop {
        let accepted = tokio::select! {
            () = &mut draining => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let address = peer.ip();
                let Some(place) = server.connections.enter(address) else {
                    tracing::debug!(%peer, "too many connections of one network");
                    continue;
                };
                let peer = Arc::new(Peer { address, place, asked: AtomicU32::new(0) });
                open.spawn(connection(stream, peer, Arc::clone(&server)));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
        while open.try_join_next().is_some() {}
    }
    drop(listener);
    while open.join_next().await.is_some() {}
}

/// Who is at the other end of a connection.
struct Peer {
    address: IpAddr,
    place: Place,
    /// Requests so far.
    asked: AtomicU32,
}

/// One connection, until it has ended or another one has its place.
async fn connection(stream: TcpStream, peer: Arc<Peer>, server: Arc<Server>) {
    tokio::select! {
        () = talk(stream, Arc::clone(&peer), server) => {}
        () = peer.place.lost() => {
            tracing::debug!(peer = %peer.address, "the connection's place is needed for another network");
        }
    }
}

/// A peer's failure is no event beyond `debug`.
async fn talk(stream: TcpStream, peer: Arc<Peer>, server: Arc<Server>) {
    let limit = server.limits.read_time();
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot turn off Nagle's algorithm");
    }
    let handshake = server.tls.accept(WriteLimit::new(stream, limit));
    let tls = match tokio::time::timeout(limit, handshake).await {
        Ok(Ok(tls)) => tls,
        Ok(Err(error)) => return tracing::debug!(%error, "no connection"),
        Err(_) => return tracing::debug!("no handshake in time"),
    };
    let (lifecycle, age) = (server.lifecycle.clone(), server.limits.connection_time());
    let service = service_fn(move |request| {
        let (server, peer) = (Arc::clone(&server), Arc::clone(&peer));
        async move { Ok::<_, Infallible>(server.answer(request, &peer).await) }
    });
    let (stream, service) = refusals::answer(tls, service);
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limit)
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    let ended = tokio::select! {
        outcome = &mut connection => Some(outcome),
        () = lifecycle.draining() => None,
        () = tokio::time::sleep(age) => None,
    };
    let outcome = match ended {
        Some(outcome) => outcome,
        // What is under way is answered, and nothing more.
        None => {
            Pin::new(&mut connection).graceful_shutdown();
            (&mut connection).await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "connection ended");
        refusals::conclude(connection.into_parts(), &error).await;
    }
}

impl Server {
    /// Answers one request; every outcome is an answer. What takes nothing off an allowance is the last one of its connection.
    async fn answer(&self, request: Request<Incoming>, peer: &Peer) -> Response<Full<Bytes>> {
        let route = Route::of(request.uri().path()).filter(|route| route.takes(request.method()));
        let counted = route.is_some_and(|route| !matches!(route, Route::Health | Route::Ready));
        let asked = peer.asked.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let mut answer = self.handle(request, peer).await.unwrap_or_else(denied);
        if !counted || asked >= MAX_REQUESTS || answer.status() == StatusCode::TOO_MANY_REQUESTS {
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        answer
    }

    async fn handle(&self, request: Request<Incoming>, peer: &Peer) -> Result<Response<Full<Bytes>>, Denial> {
        let (head, body) = request.into_parts();
        let route = Route::of(head.uri.path()).ok_or_else(|| {
            Denial::new(StatusCode::NOT_FOUND, codes::UNKNOWN_PATH, "there is nothing at this path")
        })?;
        if !route.takes(&head.method) {
            let message = format!("the path takes {}", route.allowed());
            let mut answer =
                denied(Denial::new(StatusCode::METHOD_NOT_ALLOWED, codes::WRONG_METHOD, message));
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static(route.allowed()));
            return Ok(answer);
        }
        if route == Route::Health {
            return Ok(json(StatusCode::OK, r#"{"status":"running"}"#));
        }
        if route != Route::Ready {
            let rates = if route == Route::Failure { &self.failures } else { &self.requests };
            rates.take(peer.address, 1, Instant::now()).map_err(limited)?;
        }
        let Ok(_work) = self.lifecycle.begin() else {
            return Err(Denial::busy(codes::BROKER_BUSY, "the broker is starting or draining", 5));
        };
        if route == Route::Ready {
            return if self.readiness.of(&self.broker).await {
                Ok(json(StatusCode::OK, r#"{"status":"ready"}"#))
            } else {
                let message =
                    "database or key-encryption key do not do their work: the broker's log names the cause";
                Err(Denial::busy(codes::BROKER_FAULT, message, 10))
            };
        }
        is_ours(route, &head.headers)?;
        let most = announced(&body, route.limit())?;
        let Some(_room) = self.bodies.take(peer.address, most) else {
            return Err(Denial::busy(codes::BROKER_BUSY, "as many bytes of requests are held as may be", 5));
        };
        let body = read(body, route.limit(), self.limits.read_time()).await?;
        let Some(_working) = peer.place.work() else {
            return Err(Denial::busy(codes::BROKER_BUSY, "another network needs the connection's place", 1));
        };
        let peer = peer.address;
        match route {
            Route::Challenge => Ok(message(self.broker.challenge(peer).await?.encode())),
            Route::Release => Ok(message(self.broker.release(&body, peer).await?)),
            Route::Formatted => self.broker.formatted(&body, peer).await.map(|()| nothing()),
            _ => self.broker.failure(&body, peer).await.map(|()| nothing()),
        }
    }
}

/// Whether the body is announced as what the path takes.
fn is_ours(route: Route, headers: &HeaderMap) -> Result<(), Denial> {
    let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    let typed = route == Route::Challenge || kind == Some(MEDIA_TYPE.as_bytes());
    if typed && !headers.contains_key(CONTENT_ENCODING) {
        return Ok(());
    }
    let message = format!("the path takes {MEDIA_TYPE}, without Content-Encoding");
    Err(Denial::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, codes::WRONG_MEDIA_TYPE, message))
}

/// The most bytes that a body can turn out to have: what is announced, else the limit.
fn announced(body: &Incoming, limit: usize) -> Result<u64, Denial> {
    let (hint, most) = (body.size_hint(), u64::try_from(limit).unwrap_or(u64::MAX));
    if hint.lower() > most { Err(too_large(limit)) } else { Ok(hint.upper().unwrap_or(most).min(most)) }
}

fn too_large(limit: usize) -> Denial {
    let message = format!("a body of more than {limit} bytes");
    Denial::new(StatusCode::PAYLOAD_TOO_LARGE, codes::BODY_TOO_LARGE, message)
}

async fn read(body: Incoming, limit: usize, time: Duration) -> Result<Bytes, Denial> {
    let unreadable = |status, message| Denial::new(status, codes::BODY_UNREADABLE, message);
    match tokio::time::timeout(time, Limited::new(body, limit).collect()).await {
        Err(_) => Err(unreadable(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time")),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large(limit)),
        Ok(Err(_)) => Err(unreadable(StatusCode::BAD_REQUEST, "the body ended before its announced length")),
        Ok(Ok(body)) => Ok(body.to_bytes()),
    }
}

fn limited(pause: Duration) -> Denial {
    Denial {
        retry_after: Some(pause.as_secs().saturating_add(1)),
        ..Denial::new(StatusCode::TOO_MANY_REQUESTS, codes::RATE_LIMITED, "this address has asked too often")
    }
}

fn denied(Denial { status, refusal, retry_after }: Denial) -> Response<Full<Bytes>> {
    let mut answer = response(status, "application/json", refusal.to_json(status.as_u16()).into());
    if let Some(seconds) = retry_after {
        answer.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    answer
}

fn json(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    response(status, "application/json", Bytes::from_static(text.as_bytes()))
}

fn message(body: Vec<u8>) -> Response<Full<Bytes>> {
    response(StatusCode::OK, MEDIA_TYPE, body.into())
}

fn nothing() -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = StatusCode::NO_CONTENT;
    answer
}

fn response(status: StatusCode, media_type: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_a_closed_list() {
        for (path, route, method, limit) in [
            ("/v1/challenge", Route::Challenge, Method::POST, 0),
            ("/v1/release", Route::Release, Method::POST, MAX_REQUEST),
            ("/v1/formatted", Route::Formatted, Method::POST, MAX_MESSAGE),
            ("/v1/failure", Route::Failure, Method::POST, MAX_MESSAGE),
            ("/healthz", Route::Health, Method::GET, 0),
            ("/readyz", Route::Ready, Method::HEAD, 0),
        ] {
            assert_eq!(Route::of(path), Some(route));
            assert!(route.takes(&method) && !route.takes(&Method::PUT), "{path}");
            assert_eq!(route.limit(), limit);
        }
        for path in ["/", "/v1/release/", "/V1/release", "/v1", "/metrics", "//v1/release"] {
            assert_eq!(Route::of(path), None, "{path}");
        }
    }
}
