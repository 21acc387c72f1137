//! One connection of the workload's.
//!
//! The workload speaks HTTP/1.1 to the broker, which reads each request and writes a new one: what could be read in two ways
//! (request smuggling) does not reach a destination. Of the modes that carry bytes, those are carried as they are.

use std::convert::Infallible;
use std::fmt;
use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use confide_policy::egress::{Destination, Transport};
use http::header::{self, HeaderName};
use http::uri::Scheme;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use http_body_util::{Either, Full};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1 as client;
use hyper::server::conn::http1 as server;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Mutex;
use tokio::task::AbortHandle;
use tokio::time::Duration;

use crate::authority;
use crate::broker::Shared;
use crate::caps::Use;
use crate::gate::{Carriage, Permit, Refusal, Rules};
use crate::record::{Asker, Reason};
use crate::tunnel::{self, Begun, HANDSHAKE};

/// The largest head of a request, in bytes: names of files and tokens of access take a few kilobytes.
pub(crate) const MAX_REQUEST_HEAD: usize = 16 * 1024;
/// The largest head of an answer, in bytes: cookies of some services take more than requests do.
pub(crate) const MAX_ANSWER_HEAD: usize = 64 * 1024;
/// How long the head of a request may take, and how long a connection may wait for the next one.
const HEAD_LIMIT: Duration = Duration::from_secs(30);

/// Fields that concern one connection (RFC 9110 section 7.6.1), and those of proxies. `Expect` is answered here.
const OF_ONE_CONNECTION: [HeaderName; 9] = [
    header::CONNECTION,
    header::EXPECT,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

type Answer = Response<Either<Full<Bytes>, Incoming>>;

/// One connection of the workload's.
pub(crate) struct Session {
    pub(crate) shared: Arc<Shared>,
    /// Those of the phase in which it began. It ends with the phase.
    pub(crate) rules: Arc<Rules>,
    pub(crate) asker: Asker,
    pub(crate) used: Arc<Use>,
    /// The latest connection to the outside: its destination, and the rule.
    noted: Arc<std::sync::Mutex<Option<(Destination, String)>>>,
    /// Where all requests go; none on the proxy, whose requests say that themselves.
    bound: Option<Destination>,
    /// The connection to the destination of the last request.
    held: Mutex<Option<Held>>,
    /// What a CONNECT was allowed, to be carried out once it is answered.
    tunnel: std::sync::Mutex<Option<(OnUpgrade, Inside)>>,
}

/// A connection to a destination that speaks HTTP.
struct Held {
    destination: Destination,
    carriage: Carriage,
    sender: client::SendRequest<Incoming>,
    driver: AbortHandle,
}

/// What a tunnel carries.
enum Inside {
    /// HTTP, over the connection that is held already.
    Http(Destination, Held),
    /// TLS that begins with the permit's name.
    Tls(Permit),
    /// Bytes.
    Bytes(Box<crate::caps::Metered<tokio::net::TcpStream>>),
}

impl Drop for Held {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Session {
    pub(crate) fn new(shared: Arc<Shared>, rules: Arc<Rules>, asker: Asker) -> Arc<Self> {
        Arc::new(Self {
            shared,
            rules,
            asker,
            used: Arc::default(),
            noted: Arc::default(),
            bound: None,
            held: Mutex::default(),
            tunnel: std::sync::Mutex::default(),
        })
    }

    /// The same connection, whose requests all go to one destination.
    fn inside(&self, destination: Destination, held: Option<Held>) -> Arc<Self> {
        Arc::new(Self {
            shared: Arc::clone(&self.shared),
            rules: Arc::clone(&self.rules),
            asker: self.asker,
            used: Arc::clone(&self.used),
            noted: Arc::clone(&self.noted),
            bound: Some(destination),
            held: Mutex::new(held),
            tunnel: std::sync::Mutex::default(),
        })
    }

    /// Serves a connection to the proxy.
    pub(crate) async fn proxy<S>(self: Arc<Self>, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        self.http(stream).await;
        let tunnel = self.tunnel.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some((upgrade, inside)) = tunnel else { return };
        let Ok(upgraded) = upgrade.await else { return };
        let mut stream = TokioIo::new(upgraded);
        match inside {
            Inside::Http(destination, held) => self.inside(destination, Some(held)).terminated(stream).await,
            Inside::Tls(permit) => self.passed_through(stream, permit).await,
            Inside::Bytes(mut outside) => {
                // A side that breaks off ends both.
                let _ = tunnel::splice(&mut stream, &mut *outside, &[]).await;
            }
        }
    }

    /// Serves a connection to an address, of which the kernel led the workload here.
    pub(crate) async fn transparent<S>(self: Arc<Self>, mut stream: S, destination: Destination)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        // Nothing goes out before the mode has been looked at: this permit is given back, or used.
        let permit = match self.rules.permit(destination) {
            Ok(permit) => permit,
            Err(refusal) => return self.dropped(&refusal),
        };
        match permit.carriage {
            Carriage::Terminate => {
                let destination = permit.destination.clone();
                drop(permit);
                self.inside(destination, None).terminated(stream).await;
            }
            Carriage::Passthrough => self.passed_through(stream, permit).await,
            Carriage::Plain => match self.connect(permit).await {
                Ok(mut outside) => {
                    let _ = tunnel::splice(&mut stream, &mut outside, &[]).await;
                }
                Err(refusal) => self.dropped(&refusal),
            },
        }
    }

    /// Serves requests to the destination that this connection is bound to.
    async fn terminated<S>(self: Arc<Self>, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Some((first, stream)) = Begun::first_byte(stream).await else { return };
        if first == HANDSHAKE {
            return self.dropped(&self.refusal(Reason::TlsInTerminate));
        }
        self.http(stream).await;
    }

    /// Carries TLS of the workload's own, where it names the host that the permit is for.
    async fn passed_through<S>(&self, mut stream: S, permit: Permit)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let Some((begin, name)) = tunnel::client_hello(&mut stream).await else {
            return self.dropped(&permit.refused(Reason::NoServerName));
        };
        let named = authority::parse(&name).filter(|(_, port)| port.is_none()).map(|(host, _)| host);
        if named.as_ref() != Some(&permit.destination.host) {
            return self.dropped(&permit.refused(Reason::AuthorityMismatch));
        }
        match self.connect(permit).await {
            Ok(mut outside) => {
                let _ = tunnel::splice(&mut stream, &mut outside, &begin).await;
            }
            Err(refusal) => self.dropped(&refusal),
        }
    }

    async fn http<S>(self: &Arc<Self>, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service = service_fn(|request| {
            let session = Arc::clone(self);
            async move { Ok::<_, Infallible>(session.answer(request).await) }
        });
        let served = server::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_LIMIT)
            .max_buf_size(MAX_REQUEST_HEAD)
            .half_close(true)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades()
            .await;
        if let Err(error) = served
            && (error.is_parse() || error.is_parse_too_large())
        {
            self.dropped(&self.refusal(Reason::RequestMalformed));
        }
    }

    /// Answers one request. Every refusal is recorded.
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Answer {
        match self.handle(request).await {
            Ok(answer) => answer,
            Err(refusal) => {
                self.dropped(&refusal);
                refused(&refusal)
            }
        }
    }

    async fn handle(&self, request: Request<Incoming>) -> Result<Answer, Refusal> {
        if request.method() == Method::CONNECT {
            return self.tunnel(request).await;
        }
        let destination = self.destination(&request)?;
        if is_framed_twice(request.headers()) {
            return Err(Refusal::new(Reason::RequestBody, &destination));
        }
        if !names_alone(request.headers(), &destination) {
            return Err(Refusal::new(Reason::AuthorityMismatch, &destination));
        }
        let is_https = request.uri().scheme() == Some(&Scheme::HTTPS);
        let request = outgoing(request, &destination);
        self.forward(request, destination, is_https).await
    }

    /// Where a request other than CONNECT goes.
    fn destination(&self, request: &Request<Incoming>) -> Result<Destination, Refusal> {
        let uri = request.uri();
        let malformed = || self.refusal_for(Reason::RequestForm, &shown(uri));
        match &self.bound {
            Some(bound) if uri.authority().is_none() && uri.path().starts_with('/') => Ok(bound.clone()),
            Some(_) => Err(malformed()),
            None => {
                let authority = uri.authority().ok_or_else(malformed)?;
                let default = match uri.scheme_str() {
                    Some("http") => 80,
                    Some("https") => 443,
                    _ => return Err(malformed()),
                };
                let (host, port) = authority::parse(authority.as_str()).ok_or_else(malformed)?;
                Ok(Destination { host, port: port.unwrap_or(default), transport: Transport::Tcp })
            }
        }
    }

    /// Answers CONNECT (RFC 9110 section 9.3.6).
    async fn tunnel(&self, request: Request<Incoming>) -> Result<Answer, Refusal> {
        let malformed = || self.refusal_for(Reason::RequestForm, &shown(request.uri()));
        if self.bound.is_some() {
            return Err(malformed());
        }
        let authority = request.uri().authority().ok_or_else(malformed)?;
        let Some((host, Some(port))) = authority::parse(authority.as_str()) else { return Err(malformed()) };
        let destination = Destination { host, port, transport: Transport::Tcp };
        let headers = request.headers();
        if headers.contains_key(header::TRANSFER_ENCODING)
            || headers.contains_key(header::CONTENT_LENGTH)
            || !request.body().is_end_stream()
        {
            return Err(Refusal::new(Reason::RequestBody, &destination));
        }
        // Clients of HTTP/1.0 send no Host; what is sent is the target's.
        if headers.contains_key(header::HOST) && !names_alone(headers, &destination) {
            return Err(Refusal::new(Reason::AuthorityMismatch, &destination));
        }
        let permit = self.rules.permit(destination.clone())?;
        let inside = match permit.carriage {
            Carriage::Terminate => Inside::Http(destination, self.held(permit).await?),
            Carriage::Passthrough => Inside::Tls(permit),
            Carriage::Plain => Inside::Bytes(Box::new(self.connect(permit).await?)),
        };
        *self.tunnel.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((hyper::upgrade::on(request), inside));
        Ok(Response::new(Either::Left(Full::default())))
    }

    /// Sends a request over the held connection, or over a new one, which is decided anew.
    async fn forward(
        &self,
        mut request: Request<Incoming>,
        destination: Destination,
        is_https: bool,
    ) -> Result<Answer, Refusal> {
        let mut held = self.held.lock().await;
        if let Some(open) =
            held.as_mut().filter(|held| held.destination == destination && !held.sender.is_closed())
        {
            fits(open.carriage, is_https).map_err(|reason| Refusal::new(reason, &destination))?;
            match open.sender.try_send_request(request).await {
                Ok(answer) => return passed_on(answer, &destination),
                // The destination has closed the connection before it took anything of the request.
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(Refusal::new(Reason::AnswerMalformed, &destination)),
                },
            }
        }
        *held = None;
        let permit = self.rules.permit(destination.clone())?;
        fits(permit.carriage, is_https).map_err(|reason| permit.refused(reason))?;
        let fresh = held.insert(self.held(permit).await?);
        match fresh.sender.send_request(request).await {
            Ok(answer) => passed_on(answer, &destination),
            Err(_) => Err(Refusal::new(Reason::AnswerMalformed, &destination)),
        }
    }

    /// A new connection that speaks HTTP, over TLS where the rule says so.
    async fn held(&self, permit: Permit) -> Result<Held, Refusal> {
        let destination = permit.destination.clone();
        match permit.carriage {
            Carriage::Terminate => {
                let rule = permit.rule.clone();
                let stream = self.shared.exit.originate(permit, Arc::clone(&self.used)).await?;
                self.connected(&destination, rule);
                Held::new(stream, destination, Carriage::Terminate).await
            }
            carriage => Held::new(self.connect(permit).await?, destination, carriage).await,
        }
    }

    async fn connect(&self, permit: Permit) -> Result<crate::caps::Metered<tokio::net::TcpStream>, Refusal> {
        let (destination, rule) = (permit.destination.clone(), permit.rule.clone());
        let stream = self.shared.exit.connect(permit, Arc::clone(&self.used)).await?;
        self.connected(&destination, rule);
        Ok(stream)
    }

    fn connected(&self, destination: &Destination, rule: String) {
        self.shared.records.connected(destination, &rule, self.asker);
        *self.noted.lock().unwrap_or_else(PoisonError::into_inner) = Some((destination.clone(), rule));
    }

    /// Records why the whole connection was ended, by the latest of those to the outside that it led to.
    pub(crate) fn ended(&self, reason: Reason) {
        let noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.dropped(&match noted {
            Some((destination, rule)) => Refusal { rule: Some(rule), ..Refusal::new(reason, &destination) },
            None => self.refusal(reason),
        });
    }

    pub(crate) fn dropped(&self, refusal: &Refusal) {
        self.shared.records.dropped(refusal.reason, &refusal.destination, refusal.rule.clone(), self.asker);
    }

    /// A refusal of this connection, wherever it is bound to.
    pub(crate) fn refusal(&self, reason: Reason) -> Refusal {
        self.refusal_for(reason, &"")
    }

    fn refusal_for(&self, reason: Reason, meant: &dyn fmt::Display) -> Refusal {
        match &self.bound {
            Some(bound) => Refusal::new(reason, bound),
            None => Refusal::new(reason, meant),
        }
    }
}

impl Held {
    async fn new<S>(stream: S, destination: Destination, carriage: Carriage) -> Result<Self, Refusal>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let refused = |_| Refusal::new(Reason::AnswerMalformed, &destination);
        let shaken =
            client::Builder::new().max_buf_size(MAX_ANSWER_HEAD).handshake(TokioIo::new(stream)).await;
        let (sender, connection) = shaken.map_err(refused)?;
        // Ended with what is held. An error is also one of the request under way.
        let driver = tokio::spawn(async move { connection.await.unwrap_or_default() }).abort_handle();
        Ok(Self { destination, carriage, sender, driver })
    }
}

/// Whether a request of HTTP may be sent to a destination: nothing that was meant for TLS goes out without.
fn fits(carriage: Carriage, is_https: bool) -> Result<(), Reason> {
    match carriage {
        Carriage::Terminate => Ok(()),
        Carriage::Plain if !is_https => Ok(()),
        Carriage::Plain | Carriage::Passthrough => Err(Reason::SchemeNotServed),
    }
}

/// What a request's target shows of who is meant: without user information, which is a password, mostly.
fn shown(uri: &Uri) -> &str {
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    authority.rsplit_once('@').map_or(authority, |(_, host)| host)
}

/// Whether the length of a body is said in two ways, of which one reader may take the first and another the second.
fn is_framed_twice(headers: &HeaderMap) -> bool {
    let lengths = headers.get_all(header::CONTENT_LENGTH).iter().count();
    let encodings = headers.get_all(header::TRANSFER_ENCODING).iter().count();
    lengths.saturating_add(encodings) > 1
}

/// Whether the one field Host names the destination, with its port or none.
fn names_alone(headers: &HeaderMap, destination: &Destination) -> bool {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
    let Some((host, port)) = host.to_str().ok().and_then(authority::parse) else { return false };
    host == destination.host && port.is_none_or(|port| port == destination.port)
}

/// The request as the destination gets it: its target is a path, its Host the one that was decided about.
fn outgoing(request: Request<Incoming>, destination: &Destination) -> Request<Incoming> {
    let (mut head, body) = request.into_parts();
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
    head.uri = Uri::try_from(target).unwrap_or_default();
    head.version = Version::HTTP_11;
    strip(&mut head.headers);
    let host = match (&destination.host, destination.port) {
        (host, 80 | 443) => host.to_string(),
        (host, port) => format!("{host}:{port}"),
    };
    if let Ok(host) = HeaderValue::try_from(host) {
        head.headers.insert(header::HOST, host);
    }
    head.extensions.clear();
    Request::from_parts(head, body)
}

/// The answer as the workload gets it. A redirect is one like any other: who follows it opens another connection.
fn passed_on(answer: Response<Incoming>, destination: &Destination) -> Result<Answer, Refusal> {
    // Nobody asked for another protocol.
    if answer.status().is_informational() {
        return Err(Refusal::new(Reason::AnswerMalformed, destination));
    }
    let (mut head, body) = answer.into_parts();
    head.version = Version::HTTP_11;
    strip(&mut head.headers);
    head.extensions.clear();
    Ok(Response::from_parts(head, Either::Right(body)))
}

/// Removes the fields that concern one connection, those that it names itself too.
fn strip(headers: &mut HeaderMap) {
    let nominated: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| HeaderName::try_from(name.trim()).ok())
        // Lengths are no field of a connection, and a body without one would be of another length.
        .filter(|name| !matches!(*name, header::CONTENT_LENGTH | header::HOST))
        .collect();
    for name in nominated.iter().chain(&OF_ONE_CONNECTION) {
        headers.remove(name);
    }
}

/// The broker's own answer: JSON with the stable code.
fn refused(refusal: &Refusal) -> Answer {
    let reason = refusal.reason;
    let status = match reason {
        Reason::RequestMalformed | Reason::RequestForm | Reason::RequestBody => StatusCode::BAD_REQUEST,
        Reason::AuthorityMismatch => StatusCode::MISDIRECTED_REQUEST,
        Reason::ConnectionsReached | Reason::BytesReached => StatusCode::TOO_MANY_REQUESTS,
        Reason::NotResolved
        | Reason::AnswerRefused
        | Reason::Unreachable
        | Reason::CertificateRefused
        | Reason::AnswerMalformed => StatusCode::BAD_GATEWAY,
        _ => StatusCode::FORBIDDEN,
    };
    let body = format!(
        r#"{{"error":{{"message":"{}","type":"egress_error","param":null,"code":"{}"}}}}"#,
        reason.meaning(),
        reason.code()
    );
    let mut answer = Response::new(Either::Left(Full::from(body)));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    // A request whose body was not read cannot be followed by another one.
    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    answer
}
