//! One local request: checked, attested, forwarded, answered.

use super::gate;
use super::passed::PassedBody;
use crate::client::Client;
use crate::error::ClientError;
use crate::openai::ErrorBody;
use crate::response::ResponseBody;
use bytes::Bytes;
use confide_channel::{ApiKey, ChannelError, Prompt, Request as Outgoing, RequestError};
use confide_verifier::AttestationResult;
use http::header::{self, HeaderName};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Either, Full};
use hyper::body::{Body, Incoming};
use std::net::SocketAddr;
use std::time::Duration;
use zeroize::Zeroizing;

/// The largest request body, in bytes. A million tokens of text take about 4 MiB; JSON may write each character in six.
const MAX_PROMPT: usize = 32 * 1024 * 1024;
/// How long a local program may pause within its body.
const BODY_PAUSE: Duration = Duration::from_secs(30);
/// Set on every answer that came over an attested channel: `accepted`, or `accepted, SIMULATED`.
const VERDICT: HeaderName = HeaderName::from_static("x-confide-verdict");
/// Set on every answer whose verdict ends in another anchor than the vendors'.
const SIMULATED: HeaderName = HeaderName::from_static("x-confide-simulated");
/// Read by OpenAI's clients.
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
/// The type of errors for evidence that is not accepted.
const ATTESTATION_ERROR: &str = "attestation_error";
/// The path of this endpoint's own verdict.
const VERDICT_PATH: &str = "/confide/verdict";

/// Fields of a local request that are forwarded. What else a program says about itself stays here.
const FORWARDED: [HeaderName; 4] =
    [header::ACCEPT, header::CONTENT_ENCODING, header::CONTENT_TYPE, HeaderName::from_static("x-request-id")];

/// Fields of an answer that are passed on: what OpenAI's clients read. Others concern one connection (RFC 9110 section
/// 7.6.1), would let web pages read the answer, send a program elsewhere, or are this endpoint's to set.
const PASSED_ON: [HeaderName; 7] = [
    header::CACHE_CONTROL,
    header::CONTENT_ENCODING,
    header::CONTENT_TYPE,
    header::RETRY_AFTER,
    HeaderName::from_static("retry-after-ms"),
    HeaderName::from_static("x-request-id"),
    SHOULD_RETRY,
];
/// Beginnings of the names of further such fields.
const PASSED_ON_FAMILIES: [&str; 2] = ["openai-", "x-ratelimit-"];

pub(super) type Answer = Response<Either<Full<Bytes>, PassedBody>>;

/// An error of this endpoint, in the form of the OpenAI API.
struct Fault {
    status: StatusCode,
    kind: &'static str,
    code: String,
    message: String,
    /// The method that the path takes (RFC 9110 section 15.5.6).
    allow: Option<&'static str>,
}

/// Answers one local request. Every outcome is an answer.
pub(super) async fn answer(client: &Client, local: SocketAddr, request: Request<Incoming>) -> Answer {
    match handle(client, local, request).await {
        Ok(answer) => answer,
        Err(fault) => fault.into_answer(),
    }
}

async fn handle(client: &Client, local: SocketAddr, request: Request<Incoming>) -> Result<Answer, Fault> {
    let (head, body) = request.into_parts();
    gate::check(&head, local)
        .map_err(|refusal| Fault::refused(refusal.status(), refusal.code(), refusal.message()))?;
    match route(&head.method, &head.uri)? {
        Route::Verdict => verdict(client).await,
        Route::Upstream => forward(client, head, body).await,
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
        _ if path == VERDICT_PATH || is_models => Err(Fault::method("GET")),
        _ if path.starts_with("/v1/") => Err(Fault::method("POST")),
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
async fn forward(client: &Client, head: Parts, body: Incoming) -> Result<Answer, Fault> {
    if usize::try_from(body.size_hint().lower()).is_ok_and(|length| length <= MAX_PROMPT) {
        let lease = client.lease().await?;
        let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
        let outgoing = match head.method {
            Method::GET => Outgoing::get(target),
            _ => Outgoing::post(target, read_prompt(body).await?),
        };
        let outgoing = outgoing.and_then(|outgoing| with_fields(outgoing, &head.headers))?;
        let crate::response::Response { status, headers, body, verdict } = lease.send(outgoing).await?;
        pass(status, &headers, body, verdict.result())
    } else {
        Err(Fault::too_large())
    }
}

/// The guest's answer as local programs get it, with what is said of the verdict that it rests on.
fn pass(
    status: StatusCode,
    headers: &HeaderMap,
    body: ResponseBody,
    verdict: &AttestationResult,
) -> Result<Answer, Fault> {
    check_status(status)?;
    let mut answer = Response::new(Either::Right(PassedBody::new(body, headers)));
    *answer.status_mut() = status;
    *answer.headers_mut() = passed_on(headers);
    if verdict.simulated {
        answer.headers_mut().insert(VERDICT, HeaderValue::from_static("accepted, SIMULATED"));
        answer.headers_mut().insert(SIMULATED, HeaderValue::from_static("true"));
    } else {
        answer.headers_mut().insert(VERDICT, HeaderValue::from_static("accepted"));
    }
    Ok(answer)
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

fn passed_on(headers: &HeaderMap) -> HeaderMap {
    let known = |name: &HeaderName| {
        PASSED_ON.contains(name) || PASSED_ON_FAMILIES.iter().any(|family| name.as_str().starts_with(family))
    };
    let mut passed = HeaderMap::new();
    for (name, value) in headers.iter().filter(|(name, _)| known(name)) {
        passed.append(name.clone(), value.clone());
    }
    passed
}

/// An answer, not what leads elsewhere: OpenAI's clients follow a redirect and take the prompt with them.
fn check_status(status: StatusCode) -> Result<(), Fault> {
    if status.is_success() || status.is_client_error() || status.is_server_error() {
        return Ok(());
    }
    Err(ClientError::Answer("its status is neither success nor error").into())
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
        Self { status, kind, code: code.to_owned(), message: message.to_owned(), allow: None }
    }

    fn method(allow: &'static str) -> Self {
        let message = format!("this path takes {allow} alone");
        let refused = Self::refused(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", &message);
        Self { allow: Some(allow), ..refused }
    }

    fn unknown_path() -> Self {
        Self::refused(StatusCode::NOT_FOUND, "unknown_path", "this endpoint serves /v1/ and /confide/verdict")
    }

    fn too_large() -> Self {
        let message = format!("the request body is larger than {MAX_PROMPT} bytes");
        Self::refused(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", &message)
    }

    fn into_answer(self) -> Answer {
        let mut answer = json(self.status, ErrorBody::new(self.kind, &self.code, &self.message).to_json());
        if self.kind == ATTESTATION_ERROR {
            // OpenAI's clients ask again by themselves, and each time the guest would have to attest.
            answer.headers_mut().insert(SHOULD_RETRY, HeaderValue::from_static("false"));
        }
        if let Some(allow) = self.allow {
            answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allow));
        }
        answer
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
        Self { status, kind, code: error.code().to_owned(), message: error.to_string(), allow: None }
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
    use crate::policy::PolicyText;
    use confide_policy::Loaded;
    use confide_testkit::guest::{self, Guest};
    use hyper::server::conn::http1;
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

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
            (Method::TRACE, "/v1/chat/completions", Err(405)),
            (Method::HEAD, "/v1/models", Err(405)),
            (Method::OPTIONS, "*", Err(404)),
            (Method::CONNECT, "127.0.0.1:443", Err(404)),
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
        let client = Client::builder(&guest.url(), policy).unwrap().build();
        for (simulated, said) in [(false, "accepted"), (true, "accepted, SIMULATED")] {
            let response = client.send(Outgoing::get("/v1/models").unwrap()).await.unwrap();
            let verdict = AttestationResult { simulated, ..response.verdict.result().clone() };
            assert!(verdict.accepted());
            let passed = pass(response.status, &response.headers, response.body, &verdict);
            let answer = over_a_connection(passed.map_err(|fault| fault.code).unwrap()).await;
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
        for status in [200, 201, 204, 400, 404, 429, 500, 503] {
            assert!(check_status(StatusCode::from_u16(status).unwrap()).is_ok(), "{status}");
        }
        for status in [100, 101, 103, 300, 301, 302, 303, 307, 308, 600, 999] {
            let fault = check_status(StatusCode::from_u16(status).unwrap()).unwrap_err();
            assert_eq!((fault.status.as_u16(), fault.code.as_str()), (502, "invalid_answer"), "{status}");
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
