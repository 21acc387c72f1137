//! One local request: checked, routed, forwarded to an attested instance, answered.

use super::gate;
use super::own;
use super::passed::{Broken, PassedBody};
use super::server::{Endpoint, UnderWay};
use crate::error::ClientError;
use crate::fleet::{Delivery, FleetError, ModelChoice, Repeat};
use crate::openai::ErrorBody;
use bytes::Bytes;
use confide_channel::{ChannelError, Prompt, Request as Outgoing, RequestError};
use confide_evidence::percent;
use confide_verifier::AttestationResult;
use http::header::{self, HeaderName};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Either, Full};
use hyper::body::{Body, Incoming};
use serde::Deserialize;
use std::borrow::Cow;
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// The largest request body, in bytes. A million tokens of text take about 4 MiB; JSON may write each character in six.
const MAX_PROMPT: usize = 32 * 1024 * 1024;
/// How long a local program may pause within its body.
const BODY_PAUSE: Duration = Duration::from_secs(30);
/// Set on every answer that came over an attested channel: `accepted`, or `accepted, SIMULATED`.
const VERDICT: HeaderName = HeaderName::from_static("x-confide-verdict");
/// Set on every answer whose verdict ends in another anchor than the vendors'.
pub(super) const SIMULATED: HeaderName = HeaderName::from_static("x-confide-simulated");
/// Read by OpenAI's clients.
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
/// The type of errors for evidence that is not accepted.
const ATTESTATION_ERROR: &str = "attestation_error";
/// The beginning of this endpoint's own paths.
const OWN: &str = "/_confide/";
/// The methods that its own paths take.
const READING: &str = "GET, HEAD";
/// The methods that are passed through. OPTIONS is for pages of other origins, which get no word, CONNECT and TRACE for
/// proxies of the web.
const PASSED_THROUGH: &str = "GET, HEAD, POST, PUT, PATCH, DELETE";
/// What may be asked twice without harm, though its method is not idempotent (RFC 9110 section 9.2.2): the guest
/// computes an answer and keeps nothing.
const INFERENCE: [&str; 6] = [
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/moderations",
    "/v1/rerank",
    "/v1/score",
];

/// Fields of a local request that are forwarded: what says how the content is written and which answer is wanted, which part
/// or version of a file is meant, and by what a request is known. What else a program says about itself or its user stays
/// here, cookies, languages and kinds of machines among it.
const FORWARDED: [HeaderName; 15] = [
    header::ACCEPT,
    header::CONTENT_DISPOSITION,
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    header::CONTENT_RANGE,
    header::CONTENT_TYPE,
    HeaderName::from_static("idempotency-key"),
    header::IF_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_NONE_MATCH,
    header::IF_RANGE,
    header::IF_UNMODIFIED_SINCE,
    header::RANGE,
    HeaderName::from_static("x-client-request-id"),
    HeaderName::from_static("x-request-id"),
];
/// Beginnings of the names of further such fields: organisation, project and version of the API, as OpenAI's clients name them.
const FORWARDED_FAMILIES: [&str; 1] = ["openai-"];

/// Fields of an answer that are passed on: what OpenAI's clients read, and what says which part or version of a file this
/// is. Others concern one connection (RFC 9110 section 7.6.1), would let web pages read the answer, send a program
/// elsewhere, or are this endpoint's to set.
const PASSED_ON: [HeaderName; 17] = [
    header::ACCEPT_RANGES,
    header::ALLOW,
    header::CACHE_CONTROL,
    header::CONTENT_DISPOSITION,
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    header::CONTENT_RANGE,
    header::CONTENT_TYPE,
    header::ETAG,
    header::EXPIRES,
    header::LAST_MODIFIED,
    header::RETRY_AFTER,
    HeaderName::from_static("retry-after-ms"),
    header::VARY,
    HeaderName::from_static("x-client-request-id"),
    HeaderName::from_static("x-request-id"),
    SHOULD_RETRY,
];
/// Beginnings of the names of further such fields.
const PASSED_ON_FAMILIES: [&str; 2] = ["openai-", "x-ratelimit-"];

pub(super) type Answer = Response<Either<Full<Bytes>, PassedBody>>;

/// An error of this endpoint, in the form of the OpenAI API.
pub(super) struct Fault {
    status: StatusCode,
    kind: &'static str,
    code: &'static str,
    message: String,
    /// The check that failed, of evidence that is not accepted, or what else keeps the only instance from being attested.
    check: Option<&'static str>,
    /// The methods that the path takes (RFC 9110 section 15.5.6).
    allow: Option<&'static str>,
    /// When it may be otherwise.
    retry_in: Option<Duration>,
}

/// Answers one local request. Every outcome is an answer.
pub(super) async fn answer(endpoint: &Endpoint, request: Request<Incoming>) -> Answer {
    let mut answer = handle(endpoint, request).await.unwrap_or_else(Fault::into_answer);
    if endpoint.is_draining() {
        answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}

async fn handle(endpoint: &Endpoint, request: Request<Incoming>) -> Result<Answer, Fault> {
    let (head, body) = request.into_parts();
    gate::check(&head, endpoint.local)
        .map_err(|refusal| Fault::refused(refusal.status(), refusal.code(), refusal.message()))?;
    let route = route(&head.method, &head.uri);
    // That the program runs may be asked by whoever reaches it: probes know no token.
    if !matches!(route, Ok(Route::Live)) && !endpoint.access.admits(&head.headers) {
        return Err(Fault::token());
    }
    let fleet = &endpoint.fleet;
    match route? {
        Route::Live => Ok(own::live()),
        Route::Ready => Ok(own::ready(endpoint)),
        Route::Attested => Ok(own::attested(fleet)),
        Route::Status => Ok(own::status(endpoint)),
        Route::Metrics => Ok(own::metrics(endpoint)),
        Route::Verdict(instance) => own::verdict(fleet, instance),
        route => {
            let under_way = endpoint.begin().ok_or_else(Fault::draining)?;
            let cut = under_way.cut.wait();
            tokio::select! {
                answer = serve(endpoint, route, &head, body, under_way) => answer,
                () = cut => Err(Fault::cut()),
            }
        }
    }
}

/// Answers what a drain waits for.
async fn serve(
    endpoint: &Endpoint,
    route: Route<'_>,
    head: &Parts,
    body: Incoming,
    under_way: UnderWay,
) -> Result<Answer, Fault> {
    let fleet = &endpoint.fleet;
    match route {
        Route::Models(name) if !fleet.is_single() => {
            if !matches!(head.method, Method::GET | Method::HEAD) {
                return Err(Fault::method(READING));
            }
            fleet.attested().await?;
            name.map_or_else(|| Ok(own::models(fleet)), |name| own::one_model(fleet, name))
        }
        _ => forward(endpoint, head, body, under_way).await,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route<'a> {
    Live,
    Ready,
    Attested,
    Status,
    Metrics,
    /// Of one instance.
    Verdict(&'a str),
    /// All, or one.
    Models(Option<&'a str>),
    Upstream,
}

fn route<'a>(method: &Method, uri: &'a Uri) -> Result<Route<'a>, Fault> {
    let path = uri.path();
    if walks(path) {
        return Err(Fault::ambiguous_path());
    }
    if let Some(own) = path.strip_prefix(OWN) {
        let route = own_route(own).ok_or_else(Fault::unknown_path)?;
        return match *method {
            Method::GET | Method::HEAD => Ok(route),
            _ => Err(Fault::method(READING)),
        };
    }
    let Some(below) = path.strip_prefix("/v1/").filter(|below| !below.is_empty()) else {
        return Err(Fault::unknown_path());
    };
    match *method {
        Method::GET | Method::HEAD | Method::POST | Method::PUT | Method::PATCH | Method::DELETE => {}
        _ => return Err(Fault::method(PASSED_THROUGH)),
    }
    Ok(match below.strip_prefix("models") {
        Some("") => Route::Models(None),
        Some(rest) if rest.len() > 1 && rest.starts_with('/') => Route::Models(rest.strip_prefix('/')),
        _ => Route::Upstream,
    })
}

fn own_route(path: &str) -> Option<Route<'_>> {
    match path {
        "health/live" => Some(Route::Live),
        "health/ready" => Some(Route::Ready),
        "health/attested" => Some(Route::Attested),
        "status" => Some(Route::Status),
        "metrics" => Some(Route::Metrics),
        _ => path.strip_prefix("verdicts/").filter(|name| !name.is_empty()).map(Route::Verdict),
    }
}

/// Whether a path could mean another one to whoever resolves dots and empty segments (RFC 3986 sections 5.2.4 and 6.2.3),
/// before or after percent-decoding. An empty segment at its end is none of them.
fn walks(path: &str) -> bool {
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        if segment.is_empty() && segments.peek().is_some() {
            return true;
        }
        let Some(decoded) = percent::decode(segment.as_bytes()) else { return true };
        // What is decoded first may part segments itself, and what follows a semicolon is no part of a name.
        let mut pieces = decoded.split(|byte| matches!(byte, b'/' | b'\\'));
        if pieces.any(|piece| matches!(piece.split(|byte| *byte == b';').next(), Some(b"." | b".."))) {
            return true;
        }
    }
    false
}

/// Waits until an instance is attested; only then is the body read, and its first byte sent.
async fn forward(
    endpoint: &Endpoint,
    head: &Parts,
    body: Incoming,
    under_way: UnderWay,
) -> Result<Answer, Fault> {
    if usize::try_from(body.size_hint().lower()).is_ok_and(|length| length <= MAX_PROMPT) {
        endpoint.fleet.attested().await?;
        // Content of GET and HEAD has no meaning (RFC 9110 sections 9.3.1 and 9.3.2), and is not passed on.
        let prompt = match head.method {
            Method::GET | Method::HEAD => Zeroizing::default(),
            _ => read_prompt(body).await?,
        };
        let started = Instant::now();
        let (length, model) = (prompt.len(), named(&prompt));
        let model = model.as_deref().map_or(ModelChoice::Unnamed, ModelChoice::Named);
        let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
        let outgoing = Outgoing::new(head.method.clone(), target, Prompt::new(prompt))?;
        let outgoing = with_fields(outgoing, &head.headers)?;
        let outgoing = match endpoint.access.for_guests(&head.headers)? {
            Some(key) => outgoing.authorize(key),
            None => outgoing,
        };
        let repeat = repeat(&head.method, head.uri.path());
        let Delivery { response, slot } = endpoint.fleet.send(model, repeat, outgoing).await?;
        let meters = &slot.instance().meters;
        meters.first_byte.observe(started.elapsed());
        meters.sent.add(u64::try_from(length).unwrap_or(u64::MAX));
        let crate::response::Response { status, headers, body, verdict } = response;
        check_status(status)?;
        let body = PassedBody::new(body, &headers, slot, under_way);
        let mut answer = pass(status, &headers, body, verdict.result());
        // Of a body that is not sent the length is told all the same (RFC 9110 section 9.3.2).
        if head.method == Method::HEAD
            && answer.body().is_end_stream()
            && let Some(length) = length_of(&headers)
        {
            answer.headers_mut().insert(header::CONTENT_LENGTH, length.into());
        }
        Ok(answer)
    } else {
        Err(Fault::too_large())
    }
}

/// The length that an answer announces.
fn length_of(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Whether a request may be sent again that a guest may have seen.
fn repeat(method: &Method, path: &str) -> Repeat {
    match method.is_idempotent() || INFERENCE.contains(&path) {
        true => Repeat::Harmless,
        false => Repeat::Never,
    }
}

/// The model that a body names: `model` of a JSON object. Nothing else of it is looked at.
pub(crate) fn named(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Named<'a> {
        #[serde(borrow)]
        model: Cow<'a, str>,
    }
    // A structure may also be read from an array, by position.
    if !body.trim_ascii_start().starts_with(b"{") {
        return None;
    }
    serde_json::from_slice::<Named<'_>>(body).ok().map(|named| named.model.into_owned())
}

/// The guest's answer as local programs get it, with what is said of the verdict that it rests on.
fn pass(status: StatusCode, headers: &HeaderMap, body: PassedBody, verdict: &AttestationResult) -> Answer {
    let mut answer = Response::new(Either::Right(body));
    *answer.status_mut() = status;
    *answer.headers_mut() = passed_on(headers);
    if verdict.simulated {
        answer.headers_mut().insert(VERDICT, HeaderValue::from_static("accepted, SIMULATED"));
        answer.headers_mut().insert(SIMULATED, HeaderValue::from_static("true"));
    } else {
        answer.headers_mut().insert(VERDICT, HeaderValue::from_static("accepted"));
    }
    answer
}

fn with_fields(mut outgoing: Outgoing, headers: &HeaderMap) -> Result<Outgoing, RequestError> {
    for name in headers.keys().filter(|name| is_forwarded(name) && !is_nominated(name, headers)) {
        // Several fields of a name are one list (RFC 9110 section 5.3).
        let values: Vec<&[u8]> = headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
        outgoing = outgoing.header(name.as_str(), &values.join(&b", "[..]))?;
    }
    Ok(outgoing)
}

fn is_forwarded(name: &HeaderName) -> bool {
    FORWARDED.contains(name) || FORWARDED_FAMILIES.iter().any(|family| name.as_str().starts_with(family))
}

/// Whether the field `Connection` says that another field concerns this connection alone (RFC 9110 section 7.6.1).
fn is_nominated(name: &HeaderName, headers: &HeaderMap) -> bool {
    let options = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    options.flat_map(|value| value.split(',')).any(|option| option.trim().eq_ignore_ascii_case(name.as_str()))
}

fn passed_on(headers: &HeaderMap) -> HeaderMap {
    let known = |name: &HeaderName| {
        PASSED_ON.contains(name) || PASSED_ON_FAMILIES.iter().any(|family| name.as_str().starts_with(family))
    };
    let mut passed = HeaderMap::new();
    for (name, value) in headers.iter().filter(|(name, _)| known(name) && !is_nominated(name, headers)) {
        passed.append(name.clone(), value.clone());
    }
    passed
}

/// An answer, not what leads elsewhere: OpenAI's clients follow a redirect and take the prompt with them. That what a program
/// has is still the same leads nowhere.
fn check_status(status: StatusCode) -> Result<(), Fault> {
    if status == StatusCode::NOT_MODIFIED
        || status.is_success()
        || status.is_client_error()
        || status.is_server_error()
    {
        return Ok(());
    }
    Err(ClientError::Answer("its status is neither success nor error").into())
}

async fn read_prompt(mut body: Incoming) -> Result<Zeroizing<Vec<u8>>, Fault> {
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or_default();
    let mut prompt = Zeroizing::new(Vec::with_capacity(announced));
    loop {
        let frame = tokio::time::timeout(BODY_PAUSE, body.frame()).await.map_err(|_| {
            Fault::refused(
                StatusCode::REQUEST_TIMEOUT,
                "body_timed_out",
                "the request body did not arrive in time",
            )
        })?;
        let Some(frame) = frame else { return Ok(prompt) };
        let frame = frame.map_err(|_| {
            Fault::refused(StatusCode::BAD_REQUEST, "body_unreadable", "the request body ended early")
        })?;
        if let Ok(bytes) = frame.into_data() {
            if prompt.len().saturating_add(bytes.len()) > MAX_PROMPT {
                return Err(Fault::too_large());
            }
            append(&mut prompt, &bytes);
        }
    }
}

/// Appends a piece, and zeroes the memory that the growing buffer leaves behind.
fn append(prompt: &mut Zeroizing<Vec<u8>>, piece: &[u8]) {
    let length = prompt.len().saturating_add(piece.len());
    if prompt.capacity() < length {
        let mut grown = Zeroizing::new(Vec::with_capacity(length.saturating_mul(2)));
        grown.extend_from_slice(prompt);
        *prompt = grown;
    }
    prompt.extend_from_slice(piece);
}

impl Fault {
    pub(super) fn refused(status: StatusCode, code: &'static str, message: &str) -> Self {
        Self::new(status, "invalid_request_error", code, message.to_owned())
    }

    pub(super) fn new(status: StatusCode, kind: &'static str, code: &'static str, message: String) -> Self {
        Self { status, kind, code, message, check: None, allow: None, retry_in: None }
    }

    fn method(allow: &'static str) -> Self {
        let message = format!("this path takes {allow} alone");
        let refused = Self::refused(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", &message);
        Self { allow: Some(allow), ..refused }
    }

    fn unknown_path() -> Self {
        let message = "this endpoint serves /v1/, and of its own /_confide/status, /_confide/verdicts/INSTANCE, /_confide/metrics and \
                       /_confide/health/live, ready and attested";
        Self::refused(StatusCode::NOT_FOUND, "unknown_path", message)
    }

    fn ambiguous_path() -> Self {
        let message = "the path has an empty segment, one of dots alone, or a percent sign without two hexadecimal digits";
        Self::refused(StatusCode::BAD_REQUEST, "path_ambiguous", message)
    }

    fn draining() -> Self {
        let message = "the endpoint was told to end, and takes no further request";
        let (status, kind, code) = (StatusCode::SERVICE_UNAVAILABLE, "server_error", "endpoint_draining");
        let fault = Self::new(status, kind, code, message.to_owned());
        Self { retry_in: Some(Duration::from_secs(1)), ..fault }
    }

    fn cut() -> Self {
        let (kind, code) = Broken::Cut.kind_and_code();
        Self::new(StatusCode::SERVICE_UNAVAILABLE, kind, code, Broken::Cut.to_string())
    }

    fn token() -> Self {
        let message = "this endpoint asks for its own token, as the API key of a program";
        Self::refused(StatusCode::UNAUTHORIZED, "invalid_api_key", message)
    }

    fn too_large() -> Self {
        let message = format!("the request body is larger than {MAX_PROMPT} bytes");
        Self::refused(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", &message)
    }

    fn into_answer(self) -> Answer {
        let body = ErrorBody::new(self.kind, self.code, &self.message).check(self.check);
        let mut answer = json(self.status, body.to_json());
        let headers = answer.headers_mut();
        if self.kind == ATTESTATION_ERROR {
            // OpenAI's clients ask again by themselves, and the answer would be the same.
            headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
        }
        if let Some(allow) = self.allow {
            headers.insert(header::ALLOW, HeaderValue::from_static(allow));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(time) = self.retry_in {
            let seconds = time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0));
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        answer
    }
}

impl From<FleetError> for Fault {
    fn from(error: FleetError) -> Self {
        let message = error.to_string();
        match error {
            FleetError::ModelNotFound { .. } => {
                Self::refused(StatusCode::NOT_FOUND, "model_not_found", &message)
            }
            FleetError::ModelRequired { .. } => {
                Self::refused(StatusCode::BAD_REQUEST, "model_required", &message)
            }
            FleetError::NoAttestedInstances { retry_in, code, .. } => {
                let status = StatusCode::SERVICE_UNAVAILABLE;
                let fault = Self::new(status, "upstream_error", "no_attested_instances", message);
                Self { retry_in: Some(retry_in), check: code, ..fault }
            }
            FleetError::Overloaded { retry_in } => {
                let status = StatusCode::TOO_MANY_REQUESTS;
                let fault = Self::new(status, "upstream_error", "upstream_overloaded", message);
                Self { retry_in: Some(retry_in), ..fault }
            }
            FleetError::Refused(refused) => {
                let fault =
                    Self::new(StatusCode::BAD_GATEWAY, ATTESTATION_ERROR, "attestation_failed", message);
                Self { check: Some(refused.code()), ..fault }
            }
            FleetError::Client(error) => error.into(),
        }
    }
}

impl From<ClientError> for Fault {
    fn from(error: ClientError) -> Self {
        let (status, kind) = match &error {
            ClientError::Request(_) => (StatusCode::BAD_REQUEST, "invalid_request_error"),
            ClientError::Internal | ClientError::NotRecorded(_) => {
                (StatusCode::INTERNAL_SERVER_ERROR, "server_error")
            }
            ClientError::DialTimedOut { .. } | ClientError::Channel(ChannelError::TimedOut { .. }) => {
                (StatusCode::GATEWAY_TIMEOUT, "upstream_error")
            }
            _ if error.exit_status() >= 10 => (StatusCode::BAD_GATEWAY, ATTESTATION_ERROR),
            _ => (StatusCode::BAD_GATEWAY, "upstream_error"),
        };
        Self::new(status, kind, error.code(), error.to_string())
    }
}

impl From<RequestError> for Fault {
    fn from(error: RequestError) -> Self {
        ClientError::from(error).into()
    }
}

pub(super) fn json(status: StatusCode, body: Vec<u8>) -> Answer {
    let mut answer = Response::new(Either::Left(Full::from(body)));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Client;
    use crate::fleet::Fleet;
    use crate::policy::PolicyText;
    use confide_policy::Loaded;
    use confide_testkit::guest::{self, Guest};
    use hyper::server::conn::http1;
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    fn routed(method: Method, path: &str) -> Result<String, u16> {
        match route(&method, &path.parse().unwrap()) {
            Ok(route) => Ok(format!("{route:?}")),
            Err(fault) => Err(fault.status.as_u16()),
        }
    }

    #[test]
    fn routes() {
        for (method, path, expected) in [
            (Method::GET, "/v1/models", Ok("Models(None)")),
            (Method::HEAD, "/v1/models", Ok("Models(None)")),
            (Method::GET, "/v1/models/tiny", Ok(r#"Models(Some("tiny"))"#)),
            (Method::GET, "/v1/models/Qwen%2FQwen3", Ok(r#"Models(Some("Qwen%2FQwen3"))"#)),
            (Method::DELETE, "/v1/models/tiny", Ok(r#"Models(Some("tiny"))"#)),
            (Method::GET, "/v1/modelsx", Ok("Upstream")),
            (Method::POST, "/v1/chat/completions", Ok("Upstream")),
            (Method::POST, "/v1/embeddings?x=1", Ok("Upstream")),
            (Method::GET, "/v1/files/1", Ok("Upstream")),
            (Method::PUT, "/v1/files/1", Ok("Upstream")),
            (Method::PATCH, "/v1/files/1", Ok("Upstream")),
            (Method::DELETE, "/v1/files/1", Ok("Upstream")),
            (Method::HEAD, "/v1/files/1", Ok("Upstream")),
            (Method::GET, "/_confide/status", Ok("Status")),
            (Method::HEAD, "/_confide/status", Ok("Status")),
            (Method::GET, "/_confide/metrics", Ok("Metrics")),
            (Method::GET, "/_confide/health/live", Ok("Live")),
            (Method::GET, "/_confide/health/ready", Ok("Ready")),
            (Method::GET, "/_confide/health/attested", Ok("Attested")),
            (Method::GET, "/_confide/verdicts/a.example:8443", Ok(r#"Verdict("a.example:8443")"#)),
            (Method::POST, "/_confide/status", Err(405)),
            (Method::DELETE, "/_confide/verdicts/a", Err(405)),
            (Method::GET, "/_confide/verdicts/", Err(404)),
            (Method::GET, "/_confide/", Err(404)),
            (Method::GET, "/confide/verdict", Err(404)),
            (Method::OPTIONS, "/v1/chat/completions", Err(405)),
            (Method::TRACE, "/v1/chat/completions", Err(405)),
            (Method::OPTIONS, "*", Err(404)),
            (Method::CONNECT, "127.0.0.1:443", Err(404)),
            (Method::GET, "/", Err(404)),
            (Method::GET, "/v1/", Err(404)),
            (Method::POST, "/.well-known/confide/attestation", Err(404)),
            (Method::POST, "/v1/../.well-known/confide/attestation", Err(400)),
            (Method::GET, "/v1/files/a%2Eb", Ok("Upstream")),
            (Method::GET, "/v1/files/a.b/.c/..d/e..", Ok("Upstream")),
            (Method::GET, "/v1/files/%252e%252e", Ok("Upstream")),
            (Method::GET, "/v1/files/", Ok("Upstream")),
            (Method::GET, "/_confide/../v1/models", Err(400)),
        ] {
            let found = routed(method.clone(), path);
            assert_eq!(found.as_deref().map_err(|status| *status), expected, "{method} {path}");
        }
    }

    /// Whatever the guest decodes first, and resolves then: it stays below what it was asked for.
    #[test]
    fn a_path_that_could_mean_another_one_is_refused() {
        for walk in [
            "..",
            ".",
            "%2E%2e",
            ".%2e",
            "%2e",
            "",
            "..;a=b",
            "%2e%2e;a",
            "a%2F..",
            "..%2fa",
            "a%5c..%5Cb",
            "a%2F.%2Fb",
            "%",
            "%2",
            "%zz",
        ] {
            for path in [format!("/v1/{walk}/x"), format!("/v1/a/{walk}/x"), format!("/{walk}/v1/x")] {
                let refused = route(&Method::POST, &path.parse().unwrap()).unwrap_err();
                assert_eq!((refused.status.as_u16(), refused.code), (400, "path_ambiguous"), "{path}");
            }
            if !walk.is_empty() {
                assert_eq!(routed(Method::POST, &format!("/v1/{walk}")), Err(400), "{walk}");
            }
        }
    }

    #[test]
    fn a_model_is_read_from_a_json_object_and_from_nothing_else() {
        for (body, model) in [
            (r#"{"model":"tiny","messages":[{"model":"other"}]}"#, Some("tiny")),
            (r#"{"messages":[],"model":"Qwen\/Qwen3"}"#, Some("Qwen/Qwen3")),
            (r#"{"model":""}"#, Some("")),
            (r#"{"model":"a","model":"b"}"#, None),
            (r#"{"model":5}"#, None),
            (r#"{"model":null}"#, None),
            (r#"{"messages":[]}"#, None),
            (r#"{"model":"tiny""#, None),
            (r#"{"model":"tiny"} {}"#, None),
            (r#"["tiny"]"#, None),
            ("\u{feff}{\"model\":\"tiny\"}", None),
            ("--boundary", None),
            ("", None),
        ] {
            assert_eq!(named(body.as_bytes()).as_deref(), model, "{body}");
        }
    }

    #[test]
    fn what_may_change_something_at_a_guest_is_not_asked_twice() {
        for (method, path, expected) in [
            (Method::POST, "/v1/chat/completions", Repeat::Harmless),
            (Method::POST, "/v1/embeddings", Repeat::Harmless),
            (Method::GET, "/v1/files", Repeat::Harmless),
            (Method::PUT, "/v1/files/1", Repeat::Harmless),
            (Method::DELETE, "/v1/files/1", Repeat::Harmless),
            (Method::POST, "/v1/files", Repeat::Never),
            (Method::POST, "/v1/responses", Repeat::Never),
            (Method::PATCH, "/v1/files/1", Repeat::Never),
        ] {
            assert_eq!(repeat(&method, path), expected, "{method} {path}");
        }
    }

    /// What a `Connection` field names concerns that connection alone.
    #[test]
    fn fields_that_concern_one_connection_stay_there() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, X-Request-Id"),
            ("connection", "retry-after"),
            ("x-request-id", "7"),
            ("retry-after", "1"),
        ] {
            headers.append(name, value.parse().unwrap());
        }
        assert!(passed_on(&headers).is_empty());
        let nominated = HeaderName::from_static("x-request-id");
        assert!(is_nominated(&nominated, &headers) && !is_nominated(&header::ACCEPT, &headers));
    }

    #[test]
    fn of_an_answers_fields_those_are_passed_on_that_clients_read() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("content-type", "text/event-stream"),
            ("x-ratelimit-remaining-requests", "1"),
            ("openai-processing-ms", "1"),
            ("x-request-id", "7"),
            ("retry-after", "1"),
            ("connection", "close, x-private"),
            ("x-private", "1"),
            ("etag", "\"1\""),
            ("content-length", "5"),
            ("transfer-encoding", "chunked"),
            ("trailer", "x-later"),
            ("upgrade", "websocket"),
            ("access-control-allow-origin", "*"),
            ("cross-origin-resource-policy", "cross-origin"),
            ("location", "http://evil.example/"),
            ("refresh", "0; url=http://evil.example/"),
            ("link", "<http://evil.example/>; rel=preload"),
            ("set-cookie", "a=b"),
            ("alt-svc", "h2=\"evil.example:443\""),
            ("www-authenticate", "Basic"),
            ("x-confide-verdict", "forged"),
            ("x-confide-simulated", "false"),
        ] {
            headers.append(name, value.parse().unwrap());
        }
        let passed = passed_on(&headers);
        let mut names: Vec<&str> = passed.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        let expected = [
            "content-type",
            "etag",
            "openai-processing-ms",
            "retry-after",
            "x-ratelimit-remaining-requests",
            "x-request-id",
        ];
        assert_eq!(names, expected);
    }

    /// Genuine evidence is not to be had in a test. The verdict says the same of it but for one field.
    #[tokio::test]
    async fn local_programs_are_told_of_genuine_and_of_simulated_guests() {
        let guest = Guest::new(0).unwrap().listen().await.unwrap();
        let policy = PolicyText::parse(guest::policy("per-key", 300), Loaded::AsDanger).unwrap();
        let fleet = Fleet::builder(move |endpoint| Client::builder(&endpoint.to_string(), policy.clone()));
        let fleet = fleet.upstream(&guest.url()).unwrap().build().unwrap();
        let client = fleet.instances()[0].client().clone();
        for (simulated, said) in [(false, "accepted"), (true, "accepted, SIMULATED")] {
            let response = client.send(Outgoing::get("/v1/models").unwrap()).await.unwrap();
            let verdict = AttestationResult { simulated, ..response.verdict.result().clone() };
            assert!(verdict.accepted());
            let slot = fleet.instances()[0].slot().unwrap();
            let body = PassedBody::new(response.body, &response.headers, slot, UnderWay::alone());
            let answer = over_a_connection(pass(response.status, &response.headers, body, &verdict)).await;
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            let of_ours: Vec<&str> =
                head.lines().filter(|line| line.to_ascii_lowercase().starts_with("x-confide")).collect();
            let verdict = format!("x-confide-verdict: {said}");
            match simulated {
                false => assert_eq!(of_ours, [verdict]),
                true => assert_eq!(of_ours, [verdict.as_str(), "x-confide-simulated: true"]),
            }
            assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && body.contains(guest::MODEL), "{answer}");
        }
    }

    /// The bytes of an answer, as a local program reads them.
    async fn over_a_connection(answer: Answer) -> String {
        let (local, mut program) = tokio::io::duplex(1 << 16);
        let answer = std::sync::Mutex::new(Some(answer));
        let service = service_fn(move |_: Request<Incoming>| {
            let answer = answer.lock().unwrap().take().unwrap();
            async move { Ok::<_, std::convert::Infallible>(answer) }
        });
        let serving = tokio::spawn(async move {
            http1::Builder::new().serve_connection(TokioIo::new(local), service).await.unwrap();
        });
        program.write_all(b"GET / HTTP/1.1\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut read = String::new();
        program.read_to_string(&mut read).await.unwrap();
        serving.await.unwrap();
        read
    }

    #[test]
    fn only_success_and_errors_are_answers() {
        for status in [200, 201, 204, 206, 304, 400, 416, 404, 429, 500, 503] {
            assert!(check_status(StatusCode::from_u16(status).unwrap()).is_ok(), "{status}");
        }
        for status in [100, 101, 103, 300, 301, 302, 303, 307, 308, 600, 999] {
            let fault = check_status(StatusCode::from_u16(status).unwrap()).unwrap_err();
            assert_eq!((fault.status.as_u16(), fault.code), (502, "invalid_answer"), "{status}");
        }
    }

    #[test]
    fn pieces_are_appended_however_they_come() {
        let mut prompt = Zeroizing::new(Vec::new());
        for piece in ["", "a", "bc", "defghijklmnop"] {
            append(&mut prompt, piece.as_bytes());
        }
        assert_eq!(&**prompt, b"abcdefghijklmnop");
    }
}
