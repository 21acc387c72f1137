//! Connections: TLS first, then HTTP/1.1 or HTTP/2, each within its limits.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use confide_channel_guest::{Acceptor, ConnectionExporter, GuestConnection, Protocol};
use confide_service::{Lifecycle, WriteLimit, metrics, refusals};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Request, Response};
use http_body_util::{Either, Full};
use hyper::body::Body as HttpBody;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::api::{self, Api, Route};
use crate::attestation::Attestation;
use crate::config::Limits;
use crate::http2;
use crate::status::{Metrics, Source};

/// The most bytes that the head of a request takes. Usual servers take 8 to 64 KiB.
pub(crate) const MAX_HEAD: usize = 64 * 1024;
/// The most header fields of a request. Browsers and libraries send under 30.
const MAX_HEADERS: usize = 64;
/// After a failed accept, so that a lack of descriptors does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The body of an answer.
pub(crate) type Body = Either<Full<Bytes>, api::Body>;

/// What every connection needs.
pub(crate) struct Server {
    pub(crate) acceptor: Acceptor,
    pub(crate) attestation: Attestation,
    pub(crate) api: Api,
    pub(crate) source: Arc<Source>,
    pub(crate) metrics: Metrics,
    pub(crate) limits: Limits,
    pub(crate) lifecycle: Lifecycle,
    /// Requests over HTTP/2 whose answers are not out, on all connections together.
    pub(crate) requests: Arc<Semaphore>,
}

/// Accepts connections until the guest drains, then waits for the open ones.
pub(crate) async fn serve(listener: TcpListener, server: Arc<Server>) {
    let places = places(&server.limits);
    let mut connections = JoinSet::new();
    let mut draining = pin!(server.lifecycle.draining());
    loop {
        let accepted = tokio::select! {
            () = &mut draining => break,
            accepted = accept(&listener, &places) => accepted,
        };
        match accepted {
            Ok((stream, place)) => {
                let server = Arc::clone(&server);
                connections.spawn(async move {
                    connection(stream, server).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// One place for each connection that there may be.
pub(crate) fn places(limits: &Limits) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(limits.connections.get().min(Semaphore::MAX_PERMITS)))
}

impl Server {
    pub(crate) async fn answer<S, B>(
        &self,
        connection: &ConnectionExporter<S>,
        request: Request<B>,
    ) -> Response<Body>
    where
        B: HttpBody<Data = Bytes, Error = hyper::Error>,
    {
        match Route::new(request.method(), request.uri().path()) {
            Ok(Route::Attestation) => self.attestation.answer(connection, request).await.map(Either::Left),
            Ok(Route::Metrics) => self.metrics().map(Either::Left),
            _ => self.api.handle(request).await.map(Either::Right),
        }
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(self.metrics.page(&self.source, Instant::now())));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(metrics::CONTENT_TYPE));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

/// Waits for a place first: connections beyond the limit stay in the listener's queue.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, place))
}

/// One connection. A peer's failure is no event beyond `debug`.
async fn connection(stream: TcpStream, server: Arc<Server>) {
    let limit = server.limits.read_time();
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot turn off Nagle's algorithm");
    }
    let stream = WriteLimit::new(stream, limit);
    let tls = match tokio::time::timeout(limit, server.acceptor.accept(stream)).await {
        Ok(Ok(tls)) => tls,
        Ok(Err(error)) => return tracing::debug!(%error, "no connection"),
        Err(_) => return tracing::debug!("no handshake in time"),
    };
    match tls.protocol() {
        Protocol::Http1 => http1(tls, server).await,
        Protocol::Http2 => http2::serve(tls, server).await,
    }
}

async fn http1<S>(tls: GuestConnection<S>, server: Arc<Server>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let exporter = Arc::new(tls.exporter());
    let (lifecycle, limit) = (server.lifecycle.clone(), server.limits.read_time());
    let service = service_fn(move |request| {
        let (server, exporter) = (Arc::clone(&server), Arc::clone(&exporter));
        async move { Ok::<_, Infallible>(server.answer(&exporter, request).await) }
    });
    let (stream, service) = refusals::answer(tls, service);
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limit)
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        // The pieces of a stream that are there together are written in one record, however small they are.
        .writev(false)
        .serve_connection(TokioIo::new(stream), service);
    let outcome = tokio::select! {
        outcome = &mut connection => outcome,
        () = lifecycle.draining() => {
            std::pin::Pin::new(&mut connection).graceful_shutdown();
            (&mut connection).await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "connection ended");
        refusals::conclude(connection.into_parts(), &error).await;
    }
}
