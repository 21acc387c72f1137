//! One local request: checked, attested, forwarded, answered.

use super::gate;
use super::passed::PassedBody;
use crate::client::Client;
use crate::error::ClientError;
use crate::openai::ErrorBody;
use bytes::Bytes;
use confide_channel::{ApiKey, ChannelError, Prompt, Request as Outgoing, RequestError};
use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Either, Full};
use hyper::body::{Body, Incoming};
use std::net::SocketAddr;
use std::time::Duration;
use zeroize::Zeroizing;

/// The largest request body, in bytes.
const MAX_PROMPT: usize = 32 * 1024 * 1024;
/// How long a local program may pause within its body.
const BODY_PAUSE: Duration = Duration::from_secs(30);
/// Set on every answer that came over an attested channel.
const VERDICT: HeaderName = HeaderName::from_static("x-confide-verdict");
/// Set on every answer whose verdict ends in another anchor than the vendors'.
const SIMULATED: HeaderName = HeaderName::from_static("x-confide-simulated");
/// The path of this endpoint's own verdict.
const VERDICT_PATH: &str = "/confide/verdict";

/// Fields of a local request that are forwarded. What else a program says about itself stays here.
const FORWARDED: [HeaderName; 4] =
    [header::ACCEPT, header::CONTENT_ENCODING, header::CONTENT_TYPE, HeaderName::from_static("x-request-id")];

/// Fields of an answer that are not passed on: they concern one connection (RFC 9110 section 7.6.1), would let web
/// pages read the answer, or are this endpoint's to set.
const KEPT_BACK: [HeaderName; 14] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::SET_COOKIE,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::ALT_SVC,
    header::STRICT_TRANSPORT_SECURITY,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    VERDICT,
    SIMULATED,
];

pub(super) type Answer = Response<Either<Full<Bytes>, PassedBody>>;

/// An error of this endpoint, in the form of the OpenAI API.
struct Fault {
    status: StatusCode,
    kind: &'static str,
    code: String,
    message: String,
}

/// Answers one local request. Every outcome is an answer.
pub(super) async fn answer(client: &Client, local: SocketAddr, request: Request<Incoming>) -> Answer {
    match handle(client, local, request).await {
        Ok(answer) => answer,
        Err(fault) => fault.into_answer(),
    }
}

async fn handle(client: &Client, local: SocketAddr, request: Request<Incoming>) -> Result<Answer, Fault> {
    gate::check(request.headers(), local)
        .map_err(|refusal| Fault::refused(StatusCode::FORBIDDEN, refusal.code(), refusal.message()))?;
    match route(request.method(), request.uri())? {
        Route::Verdict => verdict(client).await,
        Route::Upstream => forward(client, request).await,
    }
}

enum Route {
    Verdict,
    Upstream,
}

fn route(method: &Method, uri: &Uri) -> Result<Route, Fault> {
    let path = uri.path();
    let is_models = path == "/v1/models" || path.starts_with("/v1/models/");
    match (method, path) {
        _ if walks(path) => Err(Fault::unknown_path()),
        (&Method::GET, VERDICT_PATH) => Ok(Route::Verdict),
        (&Method::GET, _) if is_models => Ok(Route::Upstream),
        (&Method::POST, _) if path.starts_with("/v1/") && !is_models => Ok(Route::Upstream),
        _ if path == VERDICT_PATH || path.starts_with("/v1/") => Err(Fault::refused(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            "this path does not take this method",
        )),
        _ => Err(Fault::unknown_path()),
    }
}

/// Whether a path could mean another one to whoever resolves dots and empty segments.
fn walks(path: &str) -> bool {
    path.contains("/.") || path.contains("//") || path.to_ascii_lowercase().contains("%2e")
}

async fn verdict(client: &Client) -> Result<Answer, Fault> {
    let (status, result) = match client.verdict().await {
        Ok(verdict) => (StatusCode::OK, verdict.result().to_json()),
        Err(ClientError::Rejected(appraised)) => (StatusCode::BAD_GATEWAY, appraised.result.to_json()),
        Err(error) => return Err(error.into()),
    };
    Ok(json(status, result.into_bytes()))
}

/// Attests first; only then is the body read, and its first byte sent.
async fn forward(client: &Client, request: Request<Incoming>) -> Result<Answer, Fault> {
    let (head, body) = request.into_parts();
    if usize::try_from(body.size_hint().lower()).is_ok_and(|length| length <= MAX_PROMPT) {
        let lease = client.lease().await?;
        let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
        let outgoing = match head.method {
            Method::GET => Outgoing::get(target),
            _ => Outgoing::post(target, read_prompt(body).await?),
        };
        let outgoing = outgoing.and_then(|outgoing| with_fields(outgoing, &head.headers))?;
        let response = lease.send(outgoing).await?;
        let body = PassedBody::new(response.body, &response.headers);
        let mut answer = Response::new(Either::Right(body));
        *answer.status_mut() = response.status;
        *answer.headers_mut() = passed_on(response.headers);
        answer.headers_mut().insert(VERDICT, HeaderValue::from_static("accepted"));
        if response.verdict.result().simulated {
            answer.headers_mut().insert(SIMULATED, HeaderValue::from_static("true"));
        }
        Ok(answer)
    } else {
        Err(Fault::too_large())
    }
}

fn with_fields(mut outgoing: Outgoing, headers: &HeaderMap) -> Result<Outgoing, RequestError> {
    for name in &FORWARDED {
        if let Some(value) = headers.get(name) {
            outgoing = outgoing.header(name.as_str(), value.as_bytes())?;
        }
    }
    match headers.get(header::AUTHORIZATION) {
        Some(value) => {
            Ok(outgoing.authorize(ApiKey::authorization(Zeroizing::new(value.as_bytes().to_vec()))?))
        }
        None => Ok(outgoing),
    }
}

fn passed_on(mut headers: HeaderMap) -> HeaderMap {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&KEPT_BACK) {
        headers.remove(name);
    }
    let cross_origin: Vec<HeaderName> =
        headers.keys().filter(|name| name.as_str().starts_with("access-control-")).cloned().collect();
    for name in &cross_origin {
        headers.remove(name);
    }
    headers
}

async fn read_prompt(mut body: Incoming) -> Result<Prompt, Fault> {
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
        let Some(frame) = frame else { return Ok(Prompt::new(prompt)) };
        let frame = frame.map_err(|_| {
            Fault::refused(StatusCode::BAD_REQUEST, "body_unreadable", "the request body ended early")
        })?;
        if let Ok(bytes) = frame.into_data() {
            if prompt.len() + bytes.len() > MAX_PROMPT {
                return Err(Fault::too_large());
            }
            append(&mut prompt, &bytes);
        }
    }
}

/// Appends a piece, and zeroes the memory that the growing buffer leaves behind.
fn append(prompt: &mut Zeroizing<Vec<u8>>, piece: &[u8]) {
    if prompt.capacity() - prompt.len() < piece.len() {
        let mut grown = Zeroizing::new(Vec::with_capacity((prompt.len() + piece.len()) * 2));
        grown.extend_from_slice(prompt);
        *prompt = grown;
    }
    prompt.extend_from_slice(piece);
}

impl Fault {
    fn refused(status: StatusCode, code: &str, message: &str) -> Self {
        let kind = "invalid_request_error";
        Self { status, kind, code: code.to_owned(), message: message.to_owned() }
    }

    fn unknown_path() -> Self {
        Self::refused(StatusCode::NOT_FOUND, "unknown_path", "this endpoint serves /v1/ and /confide/verdict")
    }

    fn too_large() -> Self {
        let message = format!("the request body is larger than {MAX_PROMPT} bytes");
        Self::refused(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", &message)
    }

    fn into_answer(self) -> Answer {
        json(self.status, ErrorBody::new(self.kind, &self.code, &self.message).to_json())
    }
}

impl From<ClientError> for Fault {
    fn from(error: ClientError) -> Self {
        let (status, kind) = match &error {
            ClientError::Request(_) => (StatusCode::BAD_REQUEST, "invalid_request_error"),
            ClientError::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "server_error"),
            ClientError::DialTimedOut { .. } | ClientError::Channel(ChannelError::TimedOut { .. }) => {
                (StatusCode::GATEWAY_TIMEOUT, "upstream_error")
            }
            _ if error.exit_status() >= 10 => (StatusCode::BAD_GATEWAY, "attestation_error"),
            _ => (StatusCode::BAD_GATEWAY, "upstream_error"),
        };
        Self { status, kind, code: error.code().to_owned(), message: error.to_string() }
    }
}

impl From<RequestError> for Fault {
    fn from(error: RequestError) -> Self {
        ClientError::from(error).into()
    }
}

fn json(status: StatusCode, body: Vec<u8>) -> Answer {
    let mut answer = Response::new(Either::Left(Full::from(body)));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routed(method: Method, path: &str) -> Result<&'static str, u16> {
        match route(&method, &path.parse().unwrap()) {
            Ok(Route::Verdict) => Ok("verdict"),
            Ok(Route::Upstream) => Ok("upstream"),
            Err(fault) => Err(fault.status.as_u16()),
        }
    }

    #[test]
    fn routes() {
        for (method, path, expected) in [
            (Method::GET, "/v1/models", Ok("upstream")),
            (Method::GET, "/v1/models/tiny", Ok("upstream")),
            (Method::GET, "/v1/models/Qwen%2FQwen3", Ok("upstream")),
            (Method::POST, "/v1/chat/completions", Ok("upstream")),
            (Method::POST, "/v1/embeddings?x=1", Ok("upstream")),
            (Method::GET, "/confide/verdict", Ok("verdict")),
            (Method::POST, "/confide/verdict", Err(405)),
            (Method::GET, "/v1/chat/completions", Err(405)),
            (Method::DELETE, "/v1/models/tiny", Err(405)),
            (Method::POST, "/v1/models", Err(405)),
            (Method::OPTIONS, "/v1/chat/completions", Err(405)),
            (Method::GET, "/", Err(404)),
            (Method::POST, "/.well-known/confide/attestation", Err(404)),
            (Method::POST, "/v1/../.well-known/confide/attestation", Err(404)),
            (Method::POST, "/v1/%2E%2e/x", Err(404)),
            (Method::POST, "/v1//x", Err(404)),
        ] {
            assert_eq!(routed(method.clone(), path), expected, "{method} {path}");
        }
    }

    #[test]
    fn an_answers_fields_of_one_connection_are_kept_back() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("content-type", "text/event-stream"),
            ("connection", "close, x-private"),
            ("x-private", "1"),
            ("transfer-encoding", "chunked"),
            ("access-control-allow-origin", "*"),
            ("x-confide-verdict", "forged"),
            ("x-confide-simulated", "false"),
            ("x-request-id", "7"),
        ] {
            headers.append(name, value.parse().unwrap());
        }
        let passed = passed_on(headers);
        let mut names: Vec<&str> = passed.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["content-type", "x-request-id"]);
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
