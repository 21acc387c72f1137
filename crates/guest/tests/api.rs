//! The HTTP API with a scripted engine, in memory and over a connection.
#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use confide_engine::process::EngineClient;
use confide_engine::protocol::{Blame, Event, Failure};
use confide_engine::{ChatRequest, FinishReason, KeyHolder, ModelDirectory, Usage};
use confide_evidence::bytes::Bytes as Fixed;
use confide_evidence::hash::sha256;
use confide_evidence::pem;
use confide_evidence::receipt::{RECEIPT_FIELD, Receipt, salted_hash};
use confide_guest::api::{Api, Body, Events, Generator, Limits, ModelFacts};
use confide_guest::receipts::{ReceiptFacts, Receipts};
use confide_service::Lifecycle;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, TE, TRAILER};
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Full};
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

const MODEL: &str = "confide/tiny";
const CHAT: &str = "/v1/chat/completions";

/// What the engine does with the next request.
#[derive(Clone)]
enum Step {
    Text(&'static str),
    Finish(FinishReason),
    Fail(&'static str, Blame),
    /// Waits until the test gives a permit.
    Hold,
    /// Never comes.
    Never,
}

use Step::{Fail, Finish, Hold, Never, Text};

/// An engine that plays a script, and says what happened to it.
#[derive(Clone, Default)]
struct Script(Arc<Played>);

struct Played {
    steps: Mutex<Vec<Step>>,
    requests: Mutex<Vec<ChatRequest>>,
    failure: Mutex<Option<Failure>>,
    gate: Arc<Semaphore>,
    running: AtomicUsize,
}

impl Default for Played {
    fn default() -> Self {
        Self {
            steps: Mutex::default(),
            requests: Mutex::default(),
            failure: Mutex::default(),
            gate: Arc::new(Semaphore::new(0)),
            running: AtomicUsize::new(0),
        }
    }
}

impl Script {
    fn new(steps: &[Step]) -> Self {
        let script = Self::default();
        *script.0.steps.lock().unwrap() = steps.to_vec();
        script
    }

    /// Completions that were started and neither ended nor dropped.
    fn running(&self) -> usize {
        self.0.running.load(Ordering::SeqCst)
    }

    fn requests(&self) -> std::sync::MutexGuard<'_, Vec<ChatRequest>> {
        self.0.requests.lock().unwrap()
    }

    async fn until_running(&self, count: usize) {
        let reached = async {
            while self.running() != count {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(10), reached).await;
        waited.unwrap_or_else(|_| panic!("{} completions run, expected {count}", self.running()));
    }
}

fn failure(code: &str, blame: Blame) -> Failure {
    Failure { code: code.to_owned(), message: format!("said {code}"), blame }
}

impl Generator for Script {
    fn generate(&self, _: Option<KeyHolder>, request: ChatRequest) -> Result<Events, Failure> {
        self.requests().push(request);
        self.0.running.fetch_add(1, Ordering::SeqCst);
        let running = Running(Arc::clone(&self.0));
        let steps: VecDeque<Step> = self.0.steps.lock().unwrap().clone().into();
        let gate = Arc::clone(&self.0.gate);
        let events = futures_util::stream::unfold((steps, running), move |(mut steps, running)| {
            let gate = Arc::clone(&gate);
            async move {
                loop {
                    let event = match steps.pop_front()? {
                        Text(text) => Event::Text(text.to_owned()),
                        Finish(reason) => Event::Finished {
                            reason,
                            usage: Usage { prompt_tokens: 7, cached_tokens: 2, completion_tokens: 3 },
                        },
                        Fail(code, blame) => Event::Failed(failure(code, blame)),
                        Hold => {
                            gate.acquire().await.unwrap().forget();
                            continue;
                        }
                        Never => std::future::pending().await,
                    };
                    return Some((event, (steps, running)));
                }
            }
        });
        Ok(Box::pin(events))
    }

    fn failure(&self) -> Option<Failure> {
        self.0.failure.lock().unwrap().clone()
    }
}

/// Lives as long as a completion.
struct Running(Arc<Played>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

fn answering() -> Script {
    Script::new(&[Text("Hello"), Text(", \"wörld\"\n"), Finish(FinishReason::Stop)])
}

fn facts() -> ModelFacts {
    ModelFacts { name: MODEL.to_owned(), created: 1_700_000_000, manifest: [0xab; 32], context_tokens: 4096 }
}

/// Receipts whose signatures are no signatures: what is signed stands in them, hashed.
fn receipts() -> Receipts {
    let digest = |fill| Fixed([fill; 32]);
    let facts = ReceiptFacts {
        boot_id: Fixed([1; 16]),
        key_set: digest(2),
        manifest: digest(0xab),
        configuration: digest(3),
    };
    Receipts::new(facts, signature)
}

fn signature(signed: &[u8]) -> Fixed<64> {
    let half = sha256(signed).0;
    Fixed([half, half].concat().try_into().unwrap())
}

fn ready() -> Lifecycle {
    let lifecycle = Lifecycle::new();
    lifecycle.ready();
    lifecycle
}

fn api(script: &Script, limits: Limits) -> Api {
    Api::new(script.clone(), facts(), limits, receipts(), ready())
}

fn get(path: &str) -> Request<Full<Bytes>> {
    Request::get(path).body(Full::default()).unwrap()
}

fn post(body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    let request = Request::post(CHAT).header(CONTENT_TYPE, "application/json");
    request.body(Full::new(body.into())).unwrap()
}

/// A valid request with other or further parameters; `null` removes none.
fn chat(changes: Value) -> Value {
    let mut request = json!({"model": MODEL, "messages": [{"role": "user", "content": "What is an RTMR?"}]});
    for (name, value) in changes.as_object().unwrap() {
        request[name] = value.clone();
    }
    request
}

async fn text(response: Response<Body>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

/// An answer in JSON and its status.
async fn answer(api: &Api, request: Request<Full<Bytes>>) -> (u16, Value) {
    let response = api.handle(request).await;
    let status = response.status().as_u16();
    assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
    (status, serde_json::from_str(&text(response).await).unwrap())
}

/// Status, code and parameter of an error, whose form is checked.
async fn refusal(api: &Api, request: Request<Full<Bytes>>) -> (u16, String, Option<String>) {
    let (status, body) = answer(api, request).await;
    let (code, param) = error(&body).unwrap_or_else(|| panic!("no error: {body}"));
    (status, code, param)
}

/// Code and parameter, where the body is an error in the form of OpenAI's API.
fn error(body: &Value) -> Option<(String, Option<String>)> {
    let [error] = body.as_object()?.values().collect::<Vec<_>>()[..] else { return None };
    let fields = error.as_object()?;
    let names: BTreeSet<&str> = fields.keys().map(String::as_str).collect();
    let is_form = body.get("error").is_some()
        && names == BTreeSet::from(["code", "message", "param", "type"])
        && !fields["message"].as_str()?.is_empty()
        && ["invalid_request_error", "rate_limit_error", "server_error"].contains(&fields["type"].as_str()?);
    is_form.then(|| Some((fields["code"].as_str()?.to_owned(), fields["param"].as_str().map(Into::into))))?
}

/// The data of every server-sent event.
async fn events(response: Response<Body>) -> Vec<String> {
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()[CONTENT_TYPE], "text/event-stream");
    assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
    let body = text(response).await;
    let events: Vec<_> = body.strip_suffix("\n\n").expect("a whole event").split("\n\n").collect();
    events.iter().map(|event| event.strip_prefix("data: ").expect("an event of data").to_owned()).collect()
}

#[tokio::test]
async fn models_are_listed_and_found() {
    let api = api(&answering(), Limits::default());
    let model = json!({"id": MODEL, "object": "model", "created": 1_700_000_000, "owned_by": "confide",
        "max_model_len": 4096});
    let list = json!({"object": "list", "data": [model]});
    assert_eq!(answer(&api, get("/v1/models")).await, (200, list));
    assert_eq!(answer(&api, get("/v1/models/confide/tiny")).await, (200, model.clone()));
    assert_eq!(answer(&api, get("/v1/models/confide%2Ftiny?x=1")).await, (200, model));
    let (status, body) = answer(&api, get("/v1/models/gpt")).await;
    assert_eq!((status, &body["error"]["code"]), (404, &json!("model_not_found")));
    assert!(body["error"]["message"].as_str().unwrap().contains(MODEL), "{body}");
}

#[tokio::test]
async fn unknown_routes_and_wrong_methods_are_refused() {
    let api = api(&answering(), Limits::default());
    for path in ["/", "/v1/completions", "/v1/chat/completions/x", "/.well-known/confide", "/metrics"] {
        assert_eq!(refusal(&api, get(path)).await, (404, "unknown_route".into(), None), "{path}");
    }
    for (method, path, allowed) in [
        ("GET", CHAT, "POST"),
        ("GET", "/.well-known/confide/attestation", "POST"),
        ("OPTIONS", CHAT, "POST"),
        ("DELETE", "/v1/models/confide/tiny", "GET, HEAD"),
        ("POST", "/healthz", "GET, HEAD"),
        ("BREW", "/readyz", "GET, HEAD"),
    ] {
        let request = Request::builder().method(method).uri(path).body(Full::<Bytes>::default()).unwrap();
        let response = api.handle(request).await;
        assert_eq!((response.status().as_u16(), response.headers()[ALLOW].to_str().unwrap()), (405, allowed));
        let body = serde_json::from_str(&text(response).await).unwrap();
        assert_eq!(error(&body).unwrap().0, "method_not_allowed");
    }
}

#[tokio::test]
async fn a_completion_comes_in_one_piece() {
    let (status, mut body) =
        answer(&api(&answering(), Limits::default()), post(chat(json!({})).to_string())).await;
    assert_eq!(status, 200);
    let id = body["id"].take();
    let id = id.as_str().unwrap().strip_prefix("chatcmpl-").expect("the prefix of completions");
    assert!(id.len() == 32 && id.bytes().all(|digit| digit.is_ascii_hexdigit()), "{id}");
    assert!(body["created"].take().as_u64().unwrap() > 1_700_000_000);
    let expected = json!({
        "id": null, "created": null, "object": "chat.completion", "model": MODEL,
        "system_fingerprint": "fp_abababababababab",
        "choices": [{"index": 0, "logprobs": null, "finish_reason": "stop",
            "message": {"role": "assistant", "content": "Hello, \"wörld\"\n", "refusal": null}}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10,
            "prompt_tokens_details": {"cached_tokens": 2}}
    });
    assert_eq!(body, expected);
}

#[tokio::test]
async fn identifiers_differ() {
    let api = api(&answering(), Limits::default());
    let mut ids = BTreeSet::new();
    for _ in 0..20 {
        ids.insert(answer(&api, post(chat(json!({})).to_string())).await.1["id"].to_string());
    }
    assert_eq!(ids.len(), 20);
}

#[tokio::test]
async fn a_completion_comes_as_a_stream() {
    for (options, with_usage) in [
        (json!(null), false),
        (json!({"include_usage": false}), false),
        (json!({"include_usage": true}), true),
    ] {
        let api = api(&answering(), Limits::default());
        let request = chat(json!({"stream": true, "stream_options": options}));
        let events = events(api.handle(post(request.to_string())).await).await;
        assert_eq!(events.last().unwrap(), "[DONE]");
        let mut chunks: Vec<Value> =
            events[..events.len() - 1].iter().map(|event| serde_json::from_str(event).unwrap()).collect();
        let id = chunks[0]["id"].clone();
        for chunk in &mut chunks {
            assert_eq!((&chunk["object"], &chunk["model"]), (&json!("chat.completion.chunk"), &json!(MODEL)));
            assert_eq!((&chunk["id"], &chunk["system_fingerprint"]), (&id, &json!("fp_abababababababab")));
        }
        if with_usage {
            let last = chunks.pop().unwrap();
            assert_eq!(last["choices"], json!([]));
            assert_eq!(
                last["usage"],
                json!({"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10,
            "prompt_tokens_details": {"cached_tokens": 2}})
            );
        }
        let choice = |delta: Value, reason: Value| json!([{"index": 0, "delta": delta, "logprobs": null, "finish_reason": reason}]);
        let choices: Vec<&Value> = chunks.iter().map(|chunk| &chunk["choices"]).collect();
        let expected = [
            choice(json!({"role": "assistant", "content": ""}), json!(null)),
            choice(json!({"content": "Hello"}), json!(null)),
            choice(json!({"content": ", \"wörld\"\n"}), json!(null)),
            choice(json!({}), json!("stop")),
        ];
        assert_eq!(choices, expected.iter().collect::<Vec<_>>());
        for chunk in &chunks {
            assert_eq!(chunk.get("usage"), with_usage.then_some(&Value::Null));
        }
    }
}

#[tokio::test]
async fn an_empty_completion_is_one_too() {
    let script = Script::new(&[Finish(FinishReason::Length)]);
    let api = api(&script, Limits::default());
    let (_, body) = answer(&api, post(chat(json!({})).to_string())).await;
    assert_eq!(body["choices"][0]["message"]["content"], "");
    assert_eq!(body["choices"][0]["finish_reason"], "length");
    let events = events(api.handle(post(chat(json!({"stream": true})).to_string())).await).await;
    assert_eq!(events.len(), 3, "role, end, [DONE]");
}

#[tokio::test]
async fn parameters_reach_the_engine() {
    let script = answering();
    let api = api(&script, Limits::default());
    let request = chat(json!({
        "messages": [
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "name": "x"},
            {"role": "assistant", "content": "", "refusal": null, "tool_calls": [], "annotations": []},
            {"role": "user", "content": "\u{1f512} \"q\""},
        ],
        "temperature": 0.5, "top_p": 0.25, "seed": -1, "max_completion_tokens": 12, "stop": ["x", "y"],
    }));
    assert_eq!(answer(&api, post(request.to_string())).await.0, 200);
    let defaults = chat(json!({"max_tokens": 5_000_000_000_u64, "stop": "end", "seed": u64::MAX}));
    assert_eq!(answer(&api, post(defaults.to_string())).await.0, 200);
    let requests = script.requests();
    let messages: Vec<_> =
        requests[0].messages.iter().map(|message| (message.role(), message.content())).collect();
    let expected =
        [("system", "Be brief."), ("user", "a\nb"), ("assistant", ""), ("user", "\u{1f512} \"q\"")];
    assert_eq!(messages, expected);
    let sampling =
        |temperature, top_p, seed| confide_engine::Sampling::new(temperature, top_p, Some(seed)).unwrap();
    assert_eq!(requests[0].sampling, sampling(0.5, 0.25, u64::MAX));
    assert_eq!(requests[0].max_tokens, Some(12));
    assert_eq!(requests[0].stop.as_slice(), ["x", "y"]);
    assert_eq!(requests[1].sampling, sampling(1.0, 1.0, u64::MAX));
    assert_eq!(requests[1].max_tokens, Some(u32::MAX), "which no context has, so that the engine refuses it");
    assert_eq!(requests[1].stop.as_slice(), ["end"]);
}

#[tokio::test]
async fn parameters_that_ask_for_nothing_are_accepted() {
    let api = api(&answering(), Limits::default());
    for changes in [
        json!({"user": "u", "safety_identifier": "s", "service_tier": "auto", "prompt_cache_key": "k"}),
        json!({"metadata": {"a": "b"}, "store": true, "parallel_tool_calls": true}),
        json!({"prediction": {"type": "content", "content": "x"}}),
        json!({"n": 1, "logprobs": false, "top_logprobs": 0, "presence_penalty": 0, "frequency_penalty": 0.0}),
        json!({"logit_bias": {}, "tools": [], "functions": [], "tool_choice": "none", "function_call": "auto"}),
        json!({"response_format": {"type": "text"}, "modalities": ["text"]}),
        json!({"reasoning_effort": "none", "verbosity": "medium"}),
        json!({"audio": null, "web_search_options": null, "tools": null, "n": null, "stop": null, "seed": null}),
        json!({"stream": false, "temperature": null, "top_p": null, "max_tokens": null, "made_up": null}),
        json!({"max_tokens": 5, "max_completion_tokens": 5, "stop": [], "temperature": 2, "top_p": 1}),
        json!({"messages": [{"role": "user", "content": ""}]}),
    ] {
        assert_eq!(answer(&api, post(chat(changes.clone()).to_string())).await.0, 200, "{changes}");
    }
    for head in ["application/json; charset=utf-8", "Application/JSON"] {
        let mut request = post(chat(json!({})).to_string());
        request.headers_mut().insert(CONTENT_TYPE, head.parse().unwrap());
        assert_eq!(answer(&api, request).await.0, 200);
    }
    let mut request = post(chat(json!({})).to_string());
    request.headers_mut().remove(CONTENT_TYPE);
    request.headers_mut().insert("content-encoding", "identity".parse().unwrap());
    assert_eq!(answer(&api, request).await.0, 200);
}

#[tokio::test]
async fn bad_bodies_are_refused() {
    let script = answering();
    let api = api(&script, Limits { body: 4096, ..Limits::default() });
    let valid = chat(json!({})).to_string();
    let deep = "[".repeat(2000);
    for (body, status, code, param) in [
        (&b""[..], 400, "invalid_json", None),
        (b" \n", 400, "invalid_json", None),
        (b"{", 400, "invalid_json", None),
        (&valid.as_bytes()[..valid.len() - 1], 400, "invalid_json", None),
        (&[valid.as_bytes(), b"x"].concat(), 400, "invalid_json", None),
        (&[valid.as_bytes(), valid.as_bytes()].concat(), 400, "invalid_json", None),
        (b"{'model': 1}", 400, "invalid_json", None),
        (b"{\"model\": NaN}", 400, "invalid_json", None),
        (b"\xef\xbb\xbf{}", 400, "invalid_json", None),
        (b"{\"model\": \"\xff\"}", 400, "invalid_utf8", None),
        (b"PK\x03\x04\xfe\xff", 400, "invalid_utf8", None),
        (deep.as_bytes(), 400, "invalid_json", None),
        (b"{\"model\": \"\\ud800\"}", 400, "invalid_json", Some("model")),
        (b"{\"\\ud800\": 1}", 400, "invalid_json", Some("the body")),
        (b"[]", 400, "invalid_type", Some("the body")),
        (b"null", 400, "invalid_type", Some("the body")),
        (b"\"text\"", 400, "invalid_type", Some("the body")),
        (b"-1.5e3", 400, "invalid_type", Some("the body")),
        (b"{}", 400, "missing_parameter", Some("messages")),
        (b"{\"model\": \"a\", \"model\": \"b\"}", 400, "duplicate_parameter", Some("model")),
        (b"{\"model\": \"a\", \"mod\\u0065l\": \"b\"}", 400, "duplicate_parameter", Some("model")),
        (&[b' '; 4097], 413, "request_too_large", None),
        (&[&[b' '; 4090], valid.as_bytes()].concat(), 413, "request_too_large", None),
    ] {
        let expected = (status, code.to_owned(), param.map(Into::into));
        assert_eq!(refusal(&api, post(body.to_vec())).await, expected, "{}", String::from_utf8_lossy(body));
    }
    let members: serde_json::Map<_, _> = (0..200).map(|index| (index.to_string(), json!(0))).collect();
    let many = refusal(&api, post(json!(members).to_string())).await;
    assert_eq!(many, (400, "invalid_value".into(), Some("the body".into())));
    for media in
        ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "json", ""]
    {
        let mut request = post(valid.clone());
        request.headers_mut().insert(CONTENT_TYPE, media.parse().unwrap());
        assert_eq!(refusal(&api, request).await, (415, "unsupported_media_type".into(), None), "{media}");
    }
    let mut request = post(valid.clone());
    request.headers_mut().insert("content-encoding", "gzip".parse().unwrap());
    assert_eq!(refusal(&api, request).await, (415, "unsupported_content_encoding".into(), None));
    assert!(script.requests().is_empty(), "nothing of it reached the engine");
}

#[tokio::test]
async fn bad_parameters_are_refused_by_name() {
    let script = answering();
    let api = api(&script, Limits::default());
    let user = |content: Value| json!({"messages": [{"role": "user", "content": content}]});
    let message = |message: Value| json!({"messages": [{"role": "user", "content": "x"}, message]});
    let types = [
        ("model", json!(5)),
        ("messages", json!("x")),
        ("messages", json!({})),
        ("stream", json!("true")),
        ("stream", json!(1)),
        ("stream_options", json!(true)),
        ("temperature", json!("0")),
        ("top_p", json!([])),
        ("max_tokens", json!("5")),
        ("max_tokens", json!(1.5)),
        ("max_completion_tokens", json!(1e3)),
        ("seed", json!(1.0)),
        ("seed", json!("1")),
        ("stop", json!(5)),
        ("stop", json!({})),
        ("user", json!(5)),
        ("metadata", json!("x")),
        ("store", json!("yes")),
        ("n", json!("1")),
        ("logprobs", json!(0)),
        ("tools", json!({})),
        ("logit_bias", json!([])),
        ("tool_choice", json!(5)),
        ("response_format", json!("text")),
        ("modalities", json!("text")),
        ("presence_penalty", json!("0")),
    ];
    for (name, value) in types {
        let expected = (400, "invalid_type".to_owned(), Some(name.to_owned()));
        assert_eq!(
            refusal(&api, post(chat(json!({name: value})).to_string())).await,
            expected,
            "{name}: {value}"
        );
    }
    let cases = [
        (json!({"model": null}), 400, "missing_parameter", "model"),
        (json!({"messages": null}), 400, "missing_parameter", "messages"),
        (json!({"model": "gpt-4o"}), 404, "model_not_found", "model"),
        (json!({"model": ""}), 404, "model_not_found", "model"),
        (json!({"messages": []}), 400, "invalid_value", "messages"),
        (
            json!({"messages": vec![json!({"role": "user", "content": ""}); 4097]}),
            400,
            "invalid_value",
            "messages",
        ),
        (json!({"messages": ["hello"]}), 400, "invalid_type", "messages[0]"),
        (message(json!({})), 400, "missing_parameter", "messages[1].role"),
        (message(json!({"role": "user"})), 400, "missing_parameter", "messages[1].content"),
        (message(json!({"content": "x"})), 400, "missing_parameter", "messages[1].role"),
        (message(json!({"role": 5, "content": "x"})), 400, "invalid_type", "messages[1].role"),
        (message(json!({"role": "root", "content": "x"})), 400, "invalid_value", "messages[1].role"),
        (message(json!({"role": "User", "content": "x"})), 400, "invalid_value", "messages[1].role"),
        (message(json!({"role": "", "content": "x"})), 400, "invalid_value", "messages[1].role"),
        (message(json!({"role": "tool", "content": "x"})), 400, "unsupported_parameter", "messages[1].role"),
        (
            message(json!({"role": "user", "content": "x", "weight": 1})),
            400,
            "unknown_parameter",
            "messages[1].weight",
        ),
        (
            message(json!({"role": "assistant", "content": "x", "tool_calls": [{}]})),
            400,
            "unsupported_parameter",
            "messages[1].tool_calls",
        ),
        (
            message(json!({"role": "assistant", "content": "x", "refusal": "no"})),
            400,
            "unsupported_parameter",
            "messages[1].refusal",
        ),
        (user(json!(5)), 400, "invalid_type", "messages[0].content"),
        (user(json!({"type": "text", "text": "x"})), 400, "invalid_type", "messages[0].content"),
        (user(json!(["x"])), 400, "invalid_type", "messages[0].content[0]"),
        (user(json!([{"text": "x"}])), 400, "missing_parameter", "messages[0].content[0].type"),
        (user(json!([{"type": "text"}])), 400, "missing_parameter", "messages[0].content[0].text"),
        (user(json!([{"type": "text", "text": 5}])), 400, "invalid_type", "messages[0].content[0].text"),
        (user(json!([{"type": "poem", "text": "x"}])), 400, "invalid_value", "messages[0].content[0].type"),
        (
            user(json!([{"type": "text", "text": "x", "cache": 1}])),
            400,
            "unknown_parameter",
            "messages[0].content[0].cache",
        ),
        (
            user(json!([{"type": "image_url", "image_url": {"url": "x"}}])),
            400,
            "unsupported_parameter",
            "messages[0].content[0].type",
        ),
        (json!({"temperature": -0.1}), 400, "invalid_value", "temperature"),
        (json!({"temperature": 2.1}), 400, "invalid_value", "temperature"),
        (json!({"temperature": 1e300}), 400, "invalid_value", "temperature"),
        (json!({"top_p": 0}), 400, "invalid_value", "top_p"),
        (json!({"top_p": 1.1}), 400, "invalid_value", "top_p"),
        (json!({"top_p": -1}), 400, "invalid_value", "top_p"),
        (json!({"max_tokens": 0}), 400, "invalid_value", "max_tokens"),
        (json!({"max_tokens": -1}), 400, "invalid_value", "max_tokens"),
        (json!({"max_completion_tokens": 0}), 400, "invalid_value", "max_completion_tokens"),
        (json!({"max_tokens": 5, "max_completion_tokens": 6}), 400, "invalid_value", "max_tokens"),
        (json!({"stop": ["a", "b", "c", "d", "e"]}), 400, "invalid_value", "stop"),
        (json!({"stop": ""}), 400, "invalid_value", "stop"),
        (json!({"stop": ["a", ""]}), 400, "invalid_value", "stop"),
        (json!({"stop": "x".repeat(257)}), 400, "invalid_value", "stop"),
        (json!({"stop": ["a", 5]}), 400, "invalid_type", "stop[1]"),
        (json!({"stream_options": {"include_usage": true}}), 400, "invalid_value", "stream_options"),
        (
            json!({"stream": true, "stream_options": {"include_usage": 1}}),
            400,
            "invalid_type",
            "stream_options.include_usage",
        ),
        (json!({"stream": true, "stream_options": {"x": 1}}), 400, "unknown_parameter", "stream_options.x"),
        (json!({"top_k": 5}), 400, "unknown_parameter", "top_k"),
        (json!({"n": 2}), 400, "unsupported_parameter", "n"),
        (json!({"n": 0}), 400, "unsupported_parameter", "n"),
        (json!({"logprobs": true}), 400, "unsupported_parameter", "logprobs"),
        (json!({"top_logprobs": 3}), 400, "unsupported_parameter", "top_logprobs"),
        (json!({"tools": [{"type": "function"}]}), 400, "unsupported_parameter", "tools"),
        (json!({"functions": [{}]}), 400, "unsupported_parameter", "functions"),
        (json!({"tool_choice": "required"}), 400, "unsupported_parameter", "tool_choice"),
        (json!({"tool_choice": {"type": "function"}}), 400, "unsupported_parameter", "tool_choice"),
        (
            json!({"response_format": {"type": "json_object"}}),
            400,
            "unsupported_parameter",
            "response_format",
        ),
        (json!({"response_format": {}}), 400, "missing_parameter", "response_format.type"),
        (json!({"logit_bias": {"50256": -100}}), 400, "unsupported_parameter", "logit_bias"),
        (json!({"presence_penalty": 0.1}), 400, "unsupported_parameter", "presence_penalty"),
        (json!({"frequency_penalty": -1}), 400, "unsupported_parameter", "frequency_penalty"),
        (json!({"modalities": ["text", "audio"]}), 400, "unsupported_parameter", "modalities"),
        (json!({"audio": {"voice": "x"}}), 400, "unsupported_parameter", "audio"),
        (json!({"reasoning_effort": "high"}), 400, "unsupported_parameter", "reasoning_effort"),
        (json!({"verbosity": "low"}), 400, "unsupported_parameter", "verbosity"),
        (json!({"web_search_options": {}}), 400, "unsupported_parameter", "web_search_options"),
    ];
    for (changes, status, code, param) in cases {
        let expected = (status, code.to_owned(), Some(param.to_owned()));
        let shown: String = changes.to_string().chars().take(200).collect();
        assert_eq!(refusal(&api, post(chat(changes).to_string())).await, expected, "{shown}");
    }
    let huge = chat(json!({})).to_string();
    for (name, number, code) in [
        ("temperature", "1e999", "invalid_value"),
        ("seed", "18446744073709551616", "invalid_value"),
        ("seed", "-9223372036854775809", "invalid_value"),
        ("seed", &"9".repeat(100), "invalid_value"),
        ("max_tokens", &"9".repeat(100), "invalid_value"),
    ] {
        let body = format!("{},\"{name}\":{number}}}", &huge[..huge.len() - 1]);
        assert_eq!(
            refusal(&api, post(body)).await,
            (400, code.to_owned(), Some(name.to_owned())),
            "{number}"
        );
    }
    assert!(script.requests().is_empty(), "nothing of it reached the engine");
}

#[tokio::test]
async fn an_unknown_model_is_told_the_known_one() {
    let api = api(&answering(), Limits::default());
    let (_, body) = answer(&api, post(chat(json!({"model": "gpt-4o"})).to_string())).await;
    assert!(body["error"]["message"].as_str().unwrap().contains(MODEL), "{body}");
}

#[tokio::test]
async fn failures_before_the_first_text_have_a_status() {
    for (code, blame, status, expected, param) in [
        ("context_length_exceeded", Blame::Request, 413, "context_length_exceeded", Some("messages")),
        ("chat_template_refused", Blame::Request, 400, "chat_template_refused", Some("messages")),
        ("request_invalid", Blame::Request, 400, "request_invalid", None),
        ("engine_busy", Blame::Engine, 429, "server_overloaded", None),
        ("engine_exited", Blame::Engine, 503, "engine_unavailable", None),
        ("model_not_finite", Blame::Engine, 500, "engine_failed", None),
    ] {
        for streamed in [false, true] {
            let api = api(&Script::new(&[Fail(code, blame)]), Limits::default());
            let (found, body) = answer(&api, post(chat(json!({"stream": streamed})).to_string())).await;
            assert_eq!((found, error(&body)), (status, Some((expected.to_owned(), param.map(Into::into)))));
            let message = body["error"]["message"].as_str().unwrap();
            assert_eq!(message.contains("said"), blame == Blame::Request, "{message}");
        }
    }
    for streamed in [false, true] {
        let api = api(&Script::new(&[]), Limits::default());
        let refused = refusal(&api, post(chat(json!({"stream": streamed})).to_string())).await;
        assert_eq!(refused, (503, "engine_unavailable".into(), None), "the engine ended without a word");
    }
}

#[tokio::test]
async fn failures_after_the_first_text_end_the_stream() {
    for (steps, code) in [
        (&[Text("a"), Fail("engine_exited", Blame::Engine)][..], "engine_unavailable"),
        (&[Text("a"), Fail("engine_compute", Blame::Engine), Text("b")], "engine_failed"),
        (&[Text("a")], "engine_unavailable"),
    ] {
        let api = api(&Script::new(steps), Limits::default());
        let streamed = events(api.handle(post(chat(json!({"stream": true})).to_string())).await).await;
        assert_eq!(streamed.len(), 3, "role, text, error, and no [DONE]: {streamed:?}");
        let last = serde_json::from_str(&streamed[2]).unwrap();
        assert_eq!(error(&last).unwrap().0, code);
        let refused = refusal(&api, post(chat(json!({})).to_string())).await;
        assert_eq!(refused.1, code, "a completion in one piece fails as a whole");
    }
}

#[tokio::test]
async fn an_engine_that_is_gone_is_unavailable() {
    let script = answering();
    *script.0.failure.lock().unwrap() = Some(failure("engine_exited", Blame::Engine));
    let api = api(&script, Limits::default());
    for request in [post(chat(json!({})).to_string()), get("/readyz")] {
        let response = api.handle(request).await;
        assert_eq!(
            (response.status().as_u16(), &response.headers()[RETRY_AFTER]),
            (503, &"5".parse().unwrap())
        );
        let body = serde_json::from_str(&text(response).await).unwrap();
        assert_eq!(error(&body).unwrap().0, "engine_unavailable");
    }
    assert_eq!(answer(&api, get("/healthz")).await.0, 200);
    assert_eq!(answer(&api, get("/v1/models")).await.0, 200);
}

#[tokio::test]
async fn health_follows_the_phase() {
    let lifecycle = Lifecycle::new();
    let api = Api::new(answering(), facts(), Limits::default(), receipts(), lifecycle.clone());
    let not_ready = (503, "not_ready".to_owned(), None);
    assert_eq!(refusal(&api, get("/readyz")).await, not_ready);
    assert_eq!(refusal(&api, post(chat(json!({})).to_string())).await, not_ready);
    lifecycle.ready();
    assert_eq!(answer(&api, get("/readyz")).await, (200, json!({"status": "ready"})));
    assert_eq!(answer(&api, post(chat(json!({})).to_string())).await.0, 200);
    lifecycle.drain();
    assert_eq!(refusal(&api, get("/readyz")).await, not_ready);
    let response = api.handle(post(chat(json!({})).to_string())).await;
    assert_eq!((response.status().as_u16(), &response.headers()[RETRY_AFTER]), (503, &"5".parse().unwrap()));
    assert_eq!(answer(&api, get("/healthz")).await, (200, json!({"status": "ok"})));
}

#[tokio::test]
async fn a_drain_waits_for_open_answers() {
    let script = Script::new(&[Text("a"), Hold, Finish(FinishReason::Stop)]);
    let lifecycle = ready();
    let api = Api::new(script.clone(), facts(), Limits::default(), receipts(), lifecycle.clone());
    let streamed = api.handle(post(chat(json!({"stream": true})).to_string())).await;
    let whole = tokio::spawn({
        let api = api.clone();
        async move { api.handle(post(chat(json!({})).to_string())).await }
    });
    script.until_running(2).await;
    lifecycle.drain();
    let drained = tokio::spawn({
        let lifecycle = lifecycle.clone();
        async move { lifecycle.drained().await }
    });
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(!drained.is_finished());
    script.0.gate.add_permits(2);
    assert_eq!(events(streamed).await.last().unwrap(), "[DONE]");
    let whole = whole.await.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(!drained.is_finished(), "an answer is not out yet");
    assert_eq!(text(whole).await.matches("chatcmpl-").count(), 1);
    tokio::time::timeout(Duration::from_secs(10), drained).await.expect("all answers are out").unwrap();
}

#[tokio::test]
async fn more_requests_wait_and_then_are_refused() {
    let script = Script::new(&[Hold, Finish(FinishReason::Stop)]);
    let limits = Limits { running: 2, waiting: 1, wait: Duration::from_secs(60), ..Limits::default() };
    let api = api(&script, limits);
    let start = || {
        let api = api.clone();
        tokio::spawn(async move { answer(&api, post(chat(json!({})).to_string())).await.0 })
    };
    let running = [start(), start()];
    script.until_running(2).await;
    let waiting = start();
    // One turn of this runtime takes the third request into the queue.
    tokio::time::sleep(Duration::from_millis(20)).await;
    let refused = api.handle(post(chat(json!({})).to_string())).await;
    assert_eq!((refused.status().as_u16(), &refused.headers()[RETRY_AFTER]), (429, &"1".parse().unwrap()));
    let body: Value = serde_json::from_str(&text(refused).await).unwrap();
    assert_eq!(
        (error(&body).unwrap().0.as_str(), &body["error"]["type"]),
        ("server_overloaded", &json!("rate_limit_error"))
    );
    assert_eq!(script.running(), 2, "what waits is not in the engine");
    script.0.gate.add_permits(3);
    for request in running.into_iter().chain([waiting]) {
        assert_eq!(request.await.unwrap(), 200);
    }
}

#[tokio::test]
async fn a_wait_is_bounded() {
    let script = Script::new(&[Never]);
    let limits = Limits { running: 1, waiting: 5, wait: Duration::from_millis(30), ..Limits::default() };
    let api = api(&script, limits);
    let first = tokio::spawn({
        let api = api.clone();
        async move { api.handle(post(chat(json!({})).to_string())).await }
    });
    script.until_running(1).await;
    let response = api.handle(post(chat(json!({})).to_string())).await;
    assert_eq!((response.status().as_u16(), &response.headers()[RETRY_AFTER]), (429, &"1".parse().unwrap()));
    first.abort();
}

#[tokio::test]
async fn dropping_an_answer_stops_its_completion() {
    let script = Script::new(&[Text("a"), Never]);
    let api = api(&script, Limits { running: 1, ..Limits::default() });
    let mut streamed = api.handle(post(chat(json!({"stream": true})).to_string())).await;
    streamed.body_mut().frame().await.unwrap().unwrap();
    script.until_running(1).await;
    drop(streamed);
    script.until_running(0).await;
    let whole = tokio::spawn({
        let api = api.clone();
        async move { api.handle(post(chat(json!({})).to_string())).await }
    });
    script.until_running(1).await;
    whole.abort();
    script.until_running(0).await;
    *script.0.steps.lock().unwrap() = vec![Finish(FinishReason::Stop)];
    assert_eq!(answer(&api, post(chat(json!({})).to_string())).await.0, 200, "the place is free again");
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_no_place() {
    let api = api(&answering(), Limits { running: 1, waiting: 0, ..Limits::default() });
    let unread = api.handle(post(chat(json!({"stream": true})).to_string())).await;
    let served = async {
        while answer(&api, post(chat(json!({})).to_string())).await.0 != 200 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), served).await.expect("the place is free");
    assert_eq!(events(unread).await.last().unwrap(), "[DONE]", "nothing of it was lost");
}

/// A body that stops in the middle, or breaks.
struct Broken(Option<io::Error>);

impl hyper::body::Body for Broken {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, io::Error>>> {
        self.0.take().map_or(Poll::Pending, |error| Poll::Ready(Some(Err(error))))
    }
}

#[tokio::test]
async fn bodies_that_do_not_arrive_are_refused() {
    let api = api(&answering(), Limits { body_time: Duration::from_millis(20), ..Limits::default() });
    for (body, status, code) in [
        (Broken(None), 408, "request_timeout"),
        (Broken(Some(io::ErrorKind::UnexpectedEof.into())), 400, "request_unreadable"),
    ] {
        let response = api.handle(Request::post(CHAT).body(body).unwrap()).await;
        assert_eq!(response.status().as_u16(), status);
        assert_eq!(error(&serde_json::from_str(&text(response).await).unwrap()).unwrap().0, code);
    }
}

#[tokio::test]
async fn a_body_in_pieces_is_read() {
    let api = api(&answering(), Limits { body: 400, ..Limits::default() });
    let pieces = |body: String| {
        let frames: Vec<_> = body
            .bytes()
            .map(|byte| Ok::<_, io::Error>(hyper::body::Frame::data(vec![byte].into())))
            .collect();
        http_body_util::StreamBody::new(
            futures_util::stream::iter::<Vec<Result<hyper::body::Frame<Bytes>, _>>>(frames),
        )
    };
    let request = Request::post(CHAT).body(pieces(chat(json!({})).to_string())).unwrap();
    assert_eq!(api.handle(request).await.status().as_u16(), 200);
    let request = Request::post(CHAT).body(pieces(" ".repeat(401))).unwrap();
    assert_eq!(api.handle(request).await.status().as_u16(), 413);
}

/// Serves one connection in memory and returns the client's end.
fn connect(api: &Api) -> tokio::io::DuplexStream {
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let api = api.clone();
    let service = hyper::service::service_fn(move |request| {
        let api = api.clone();
        async move { Ok::<_, std::convert::Infallible>(api.handle(request).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .serve_connection(hyper_util::rt::TokioIo::new(theirs), service);
    tokio::spawn(async move {
        let _ = connection.await;
    });
    ours
}

fn over_http(body: &Value) -> Vec<u8> {
    let body = body.to_string();
    format!("POST {CHAT} HTTP/1.1\r\nhost: guest\r\ncontent-length: {}\r\n\r\n{body}", body.len())
        .into_bytes()
}

#[tokio::test]
async fn a_client_that_goes_away_stops_its_completion() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let script = Script::new(&[Text("first"), Never]);
    let api = api(&script, Limits::default());
    for streamed in [true, false] {
        let mut socket = connect(&api);
        socket.write_all(&over_http(&chat(json!({"stream": streamed})))).await.unwrap();
        script.until_running(1).await;
        let mut seen = Vec::new();
        while streamed && !String::from_utf8_lossy(&seen).contains("first") {
            socket.read_buf(&mut seen).await.unwrap();
        }
        drop(socket);
        script.until_running(0).await;
    }
}

#[tokio::test]
async fn an_http_client_is_served() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let api = api(&answering(), Limits::default());
    let mut socket = connect(&api);
    socket.write_all(&over_http(&chat(json!({"stream": true})))).await.unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(b"\r\n0\r\n\r\n") {
        assert_ne!(socket.read_buf(&mut seen).await.unwrap(), 0);
    }
    let seen = String::from_utf8(seen).unwrap();
    assert!(seen.starts_with("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"), "{seen}");
    assert!(seen.contains("data: [DONE]\n\n"), "{seen}");
    socket.write_all(b"HEAD /v1/models HTTP/1.1\r\nhost: guest\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut head = String::new();
    socket.read_to_string(&mut head).await.unwrap();
    assert!(
        head.starts_with("HTTP/1.1 200 OK\r\n")
            && head.contains("content-length: ")
            && head.ends_with("\r\n\r\n"),
        "{head}"
    );
}

/// An API in front of the committed model, and the engine's end of the socket.
async fn tiny() -> (Api, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let kill = theirs.try_clone().unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/models/tiny");
    std::thread::spawn(move || {
        confide_engine::process::serve(theirs, ModelDirectory::open(&folder).unwrap())
    });
    let client = EngineClient::connect(ours, Duration::from_secs(60)).await.unwrap();
    (Api::new(client, facts(), Limits::default(), receipts(), ready()), kill)
}

#[tokio::test]
async fn a_real_engine_answers() {
    let (api, engine) = tiny().await;
    let question = json!({"temperature": 0, "max_tokens": 40});
    let (status, whole) = answer(&api, post(chat(question.clone()).to_string())).await;
    assert_eq!(status, 200);
    let content = whole["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(!content.is_empty());
    let streamed = chat(
        json!({"temperature": 0, "max_tokens": 40, "stream": true, "stream_options": {"include_usage": true}}),
    );
    let events = events(api.handle(post(streamed.to_string())).await).await;
    let chunks: Vec<Value> =
        events[..events.len() - 1].iter().map(|event| serde_json::from_str(event).unwrap()).collect();
    let joined: String =
        chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(joined, content, "a stream says the same");
    assert_eq!(chunks.last().unwrap()["usage"], whole["usage"]);

    let (status, body) = answer(&api, post(chat(json!({"max_tokens": 100_000})).to_string())).await;
    assert_eq!((status, error(&body).unwrap().0.as_str()), (413, "context_length_exceeded"));
    let message = body["error"]["message"].as_str().unwrap();
    assert!(message.contains("100000") && message.contains("the context holds"), "{message}");

    engine.shutdown(std::net::Shutdown::Both).unwrap();
    let gone = async {
        while answer(&api, get("/readyz")).await.0 != 503 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone).await.expect("the end of the engine is noticed");
    let refused = refusal(&api, post(chat(json!({})).to_string())).await;
    assert_eq!(refused, (503, "engine_unavailable".into(), None));
}

/// What is logged, at any level.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn content_is_never_logged() {
    const MARK: &str = "zq7-mark";
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    let logging = tracing::subscriber::set_default(subscriber);
    let failing = [Text("zq7-mark"), Fail("engine_compute", Blame::Engine)];
    for steps in [&[Text("zq7-mark"), Finish(FinishReason::Stop)][..], &failing, &failing[1..]] {
        // Another test may have come by a place that logs while nobody listened, just as this one began to.
        tracing::callsite::rebuild_interest_cache();
        let api = api(&Script::new(steps), Limits::default());
        let marked = json!([{"role": "user", "content": MARK}]);
        for changes in [
            json!({"messages": marked}),
            json!({"messages": marked, "stream": true}),
            json!({"messages": marked, "user": MARK, "stop": MARK, "metadata": {MARK: MARK}}),
            json!({"messages": marked, MARK: MARK}),
            json!({"messages": [{"role": MARK, "content": MARK}]}),
            json!({"messages": [{"role": "user", MARK: MARK}]}),
            json!({"messages": MARK}),
            json!({"model": MARK}),
            json!({"temperature": MARK}),
        ] {
            let _ = text(api.handle(post(chat(changes).to_string())).await).await;
        }
        let _ = text(api.handle(post(format!("{{\"{MARK}"))).await).await;
        let _ = text(api.handle(get("/zq7-mark")).await).await;
        let _ = text(api.handle(get("/v1/models/zq7-mark")).await).await;
    }
    drop(logging);
    let logged = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(logged.contains("completion failed") && logged.contains("chat_completions"), "{logged}");
    assert!(!logged.contains(MARK), "{logged}");
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Whatever the body, the answer is a completion, a stream or an error in the form of OpenAI's API.
fn check_any(body: Vec<u8>) -> Result<(), TestCaseError> {
    let api = api(&answering(), Limits::default());
    let (status, media, body) = block_on(async {
        let response = api.handle(post(body)).await;
        let media = response.headers()[CONTENT_TYPE].clone();
        (response.status().as_u16(), media, text(response).await)
    });
    if media == "text/event-stream" {
        prop_assert_eq!(status, 200);
        prop_assert!(body.ends_with("data: [DONE]\n\n"));
        return Ok(());
    }
    let json: Value = serde_json::from_str(&body).map_err(|_| TestCaseError::fail(body))?;
    match status {
        200 => prop_assert_eq!(&json["object"], "chat.completion"),
        400 | 404 => prop_assert!(error(&json).is_some(), "{}", json),
        _ => prop_assert!(false, "status {}: {}", status, json),
    }
    Ok(())
}

/// Any JSON, with the names and values of the API among it.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (-2..3i64).prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
        prop::sample::select(vec!["user", "system", "text", "tool", MODEL, "none", "auto"])
            .prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 48, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(any_name(), inner, 0..5)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn any_name() -> impl Strategy<Value = String> {
    const NAMES: [&str; 29] = [
        "model",
        "messages",
        "role",
        "content",
        "type",
        "text",
        "stream",
        "stream_options",
        "include_usage",
        "temperature",
        "top_p",
        "seed",
        "stop",
        "max_tokens",
        "max_completion_tokens",
        "n",
        "tools",
        "tool_choice",
        "response_format",
        "logprobs",
        "logit_bias",
        "metadata",
        "user",
        "store",
        "modalities",
        "name",
        "tool_calls",
        "presence_penalty",
        "reasoning_effort",
    ];
    prop_oneof![9 => prop::sample::select(NAMES.to_vec()).prop_map(String::from), 1 => ".{0,6}".prop_map(String::from)]
}

proptest! {
    #[test]
    fn any_bytes_get_an_answer(body: Vec<u8>) {
        check_any(body)?;
    }

    #[test]
    fn any_parameter_of_any_value_gets_an_answer(name in any_name(), value in any_json()) {
        check_any(chat(json!({name: value})).to_string().into_bytes())?;
    }

    #[test]
    fn any_message_gets_an_answer(message in any_json()) {
        check_any(chat(json!({"messages": [message]})).to_string().into_bytes())?;
    }

    #[test]
    fn any_change_of_a_byte_gets_an_answer(place: prop::sample::Index, byte: u8, stream: bool) {
        let request = chat(json!({"stream": stream, "stop": ["a"], "temperature": 0.5, "metadata": {"a": "b"}}));
        let mut body = request.to_string().into_bytes();
        let place = place.index(body.len());
        body[place] = byte;
        check_any(body)?;
    }

    #[test]
    fn any_truncation_is_invalid_json(place: prop::sample::Index) {
        let mut body = chat(json!({"metadata": {"a": "b"}})).to_string().into_bytes();
        body.truncate(place.index(body.len()));
        let api = api(&answering(), Limits::default());
        let refused = block_on(refusal(&api, post(body)));
        prop_assert_eq!(refused, (400, "invalid_json".to_owned(), None));
    }

    #[test]
    fn any_path_and_method_gets_an_answer(method in "[A-Z]{1,8}", path in "/(v1/)?(models/?)?[!-\"$-;=@-~]{0,20}") {
        let Ok(request) = Request::builder().method(method.as_str()).uri(&path).body(Full::<Bytes>::default()) else {
            return Ok(());
        };
        let api = api(&answering(), Limits::default());
        let (status, body) = block_on(answer(&api, request));
        prop_assert!(status == 200 || error(&body).is_some(), "{} {}: {}", method, path, body);
    }
}

/// The receipt in fields; its signature holds for these bodies.
fn receipt(fields: &HeaderMap, request: &[u8], response: &[u8]) -> Receipt {
    let values: Vec<_> = fields.get_all(RECEIPT_FIELD).iter().collect();
    let [value] = values[..] else { panic!("{} receipts", values.len()) };
    let receipt = Receipt::decode(&pem::base64(value.to_str().unwrap()).unwrap()).unwrap();
    let [request, response] = [request, response].map(|body| salted_hash(&receipt.salt, &sha256(body)));
    assert_eq!(receipt.signature, signature(&receipt.signing_input(&request, &response)));
    receipt
}

#[tokio::test]
async fn a_whole_answer_has_a_receipt_over_the_octets_of_both_bodies() {
    let api = api(&answering(), Limits::default());
    let mut salts = BTreeSet::new();
    for sequence in 0..3 {
        let request = chat(json!({ "max_tokens": 10 + sequence })).to_string();
        let response = api.handle(post(request.clone())).await;
        let fields = response.headers().clone();
        let body = text(response).await;
        let receipt = receipt(&fields, request.as_bytes(), body.as_bytes());
        assert_eq!(receipt.sequence, sequence);
        assert_eq!((receipt.usage.prompt_tokens, receipt.usage.completion_tokens), (7, 3));
        assert_eq!((receipt.boot_id, receipt.manifest), (Fixed([1; 16]), Fixed([0xab; 32])));
        let answer: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(answer["id"], receipt.request_id);
        salts.insert(receipt.salt);
    }
    assert_eq!(salts.len(), 3, "each has a salt of its own");
}

#[tokio::test]
async fn a_stream_ends_with_a_receipt_for_who_takes_trailers() {
    let api = api(&answering(), Limits::default());
    for (te, sequence) in [("trailers", Some(0)), ("gzip, Trailers", Some(1)), ("gzip", None), ("", None)] {
        let request = chat(json!({ "stream": true })).to_string();
        let mut asked = post(request.clone());
        asked.headers_mut().insert(TE, te.parse().unwrap());
        let response = api.handle(asked).await;
        assert!(!response.headers().contains_key(RECEIPT_FIELD));
        let announced = response.headers().get(TRAILER).map(|field| field.to_str().unwrap().to_owned());
        let body = response.into_body().collect().await.unwrap();
        let trailers = body.trailers().cloned();
        let body = body.to_bytes();
        assert!(body.ends_with(b"data: [DONE]\n\n"));
        match sequence {
            Some(sequence) => {
                assert_eq!(announced.as_deref(), Some(RECEIPT_FIELD));
                let receipt = receipt(&trailers.unwrap(), request.as_bytes(), &body);
                assert_eq!(receipt.sequence, sequence);
            }
            // Nothing is counted that nobody gets.
            None => assert_eq!((announced, trailers), (None, None)),
        }
    }
}

#[tokio::test]
async fn what_is_no_whole_answer_has_no_receipt_and_no_number() {
    let script = Script::new(&[Text("Hello"), Fail("engine_failed", Blame::Engine)]);
    let api = api(&script, Limits::default());
    for body in [chat(json!({})), chat(json!({ "stream": true })), json!({}), chat(json!({ "model": "x" }))] {
        let mut asked = post(body.to_string());
        asked.headers_mut().insert(TE, "trailers".parse().unwrap());
        let response = api.handle(asked).await;
        assert!(!response.headers().contains_key(RECEIPT_FIELD), "{body}");
        assert_eq!(response.into_body().collect().await.unwrap().trailers(), None, "{body}");
    }
    // A stream that is dropped amid its events.
    *script.0.steps.lock().unwrap() = vec![Text("Hello"), Never];
    let mut asked = post(chat(json!({ "stream": true })).to_string());
    asked.headers_mut().insert(TE, "trailers".parse().unwrap());
    let mut body = api.handle(asked).await.into_body();
    assert!(body.frame().await.unwrap().unwrap().is_data());
    drop(body);
    *script.0.steps.lock().unwrap() = vec![Text("Hello"), Finish(FinishReason::Stop)];
    let request = chat(json!({})).to_string();
    let response = api.handle(post(request.clone())).await;
    let fields = response.headers().clone();
    let body = text(response).await;
    assert_eq!(receipt(&fields, request.as_bytes(), body.as_bytes()).sequence, 0);
}
