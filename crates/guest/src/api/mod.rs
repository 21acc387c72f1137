//! OpenAI's HTTP API in front of an engine.
//!
//! [`Api::handle`] answers requests over whatever carries them; TLS and the attestation endpoint are the listener's.
//! Routes, of which [`ROUTES`] is the whole list: `GET /v1/models`, `GET /v1/models/{id}`, `POST /v1/chat/completions`,
//! `GET /healthz`, `GET /readyz`.
//! Every other request, and every fault, gets an answer in the form of OpenAI's API with a stable code.
//!
//! Prompts and completions are never logged: no type here that holds them implements `Debug` or `Display`, and
//! logs name routes and codes.

mod admission;
mod answer;
mod body;
mod fault;
mod generator;
mod json;
mod request;
mod route;
mod stream;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use confide_engine::protocol::Event;
use confide_engine::{FinishReason, Usage};
use confide_service::{Lifecycle, Phase};
use futures_util::StreamExt as _;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, Request, Response, StatusCode};
use hyper::body::Body as HttpBody;
use serde::Serialize;
use zeroize::Zeroizing;

use self::admission::{Admission, Slot};
use self::answer::{Completion, Head, Health, ModelList, ModelObject, UsageMember};
pub use self::body::Body;
use self::body::read_body;
pub use self::fault::Fault;
pub use self::generator::{Events, Generator};
pub use self::json::Kind;
pub use self::request::{CompletionRequest, Delivery};
pub(crate) use self::route::Route;
pub use self::route::{Place, ROUTES};
use self::stream::EventStream;
use crate::receipts::{Draft, Receipts, announce, takes_trailers};

/// Bytes of the manifest digest that answers show as `system_fingerprint`. A hint: the verdict attests the model.
const FINGERPRINT_BYTES: usize = 8;

/// What is told of the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelFacts {
    /// Name that requests use.
    pub name: String,
    /// Since when it is served, in Unix seconds.
    pub created: u64,
    /// SHA-256 of its manifest.
    pub manifest: [u8; 32],
    /// Tokens of its context, prompt and completion together.
    pub context_tokens: u32,
}

impl ModelFacts {
    fn fingerprint(&self) -> String {
        format!("fp_{}", answer::hex(&self.manifest[..FINGERPRINT_BYTES]))
    }
}

/// What clients may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a body. A token takes about four, or six times as many where all is escaped: the default of 4 MiB
    /// is enough for 128 Ki tokens.
    pub body: usize,
    /// Time for a body to arrive.
    pub body_time: Duration,
    /// Requests in the engine at the same time.
    pub running: usize,
    /// Requests that wait for one of those places.
    pub waiting: usize,
    /// How long they wait before they are told to come again.
    pub wait: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body: 4 << 20,
            body_time: Duration::from_secs(30),
            running: confide_engine::MAX_ACTIVE,
            waiting: 64,
            wait: Duration::from_secs(20),
        }
    }
}

/// The API of one model. Clones share it.
#[derive(Clone)]
pub struct Api(Arc<Shared>);

struct Shared {
    engine: Box<dyn Generator>,
    model: ModelFacts,
    limits: Limits,
    admission: Admission,
    receipts: Receipts,
    lifecycle: Lifecycle,
}

impl Api {
    /// An API that answers prompts while `lifecycle` is ready, each whole answer with a receipt. A drain of `lifecycle`
    /// waits for open answers.
    pub fn new(
        engine: impl Generator,
        model: ModelFacts,
        limits: Limits,
        receipts: Receipts,
        lifecycle: Lifecycle,
    ) -> Self {
        let admission = Admission::new(&limits);
        Self(Arc::new(Shared { engine: Box::new(engine), model, limits, admission, receipts, lifecycle }))
    }

    /// Answers a request; every outcome is an answer. Needs a tokio runtime with time. Dropping the future, or the
    /// body of its answer, stops the completion.
    pub async fn handle<B: HttpBody>(&self, request: Request<B>) -> Response<Body> {
        let routed = Route::new(request.method(), request.uri().path());
        let name = routed.as_ref().map_or("none", Route::name);
        let answer = match routed {
            Ok(route) => self.0.answer(route, request).await,
            Err(fault) => Err(fault),
        };
        match answer {
            Ok(response) => {
                tracing::debug!(route = name, status = response.status().as_u16(), "answered");
                response
            }
            Err(fault) => {
                tracing::debug!(
                    route = name,
                    status = fault.status().as_u16(),
                    code = fault.code(),
                    "refused"
                );
                fault.into_response()
            }
        }
    }
}

/// The answer to a request for which the server has no place.
pub(crate) fn overloaded() -> Response<Body> {
    Fault::Overloaded { retry_after: fault::RETRY_SECONDS }.into_response()
}

impl Shared {
    async fn answer<B: HttpBody>(&self, route: Route, request: Request<B>) -> Result<Response<Body>, Fault> {
        match route {
            // Whoever knows the connection and the guest's egress has answered these.
            Route::Attestation | Route::Metrics => Err(Fault::UnknownRoute),
            Route::Models => Ok(ok(&ModelList::new(&self.model))),
            Route::Model(id) => {
                self.check_model(&id)?;
                Ok(ok(&ModelObject::new(&self.model)))
            }
            Route::Health => Ok(ok(&Health { status: "ok" })),
            Route::Ready => {
                self.check_phase(self.lifecycle.phase())?;
                self.check_engine()?;
                Ok(ok(&Health { status: Phase::Ready.as_str() }))
            }
            Route::ChatCompletions => {
                let work = self.lifecycle.begin().map_err(Fault::NotReady)?;
                let mut response = self.complete(request).await?;
                response.body_mut().hold(work);
                Ok(response)
            }
        }
    }

    async fn complete<B: HttpBody>(&self, request: Request<B>) -> Result<Response<Body>, Fault> {
        self.check_engine()?;
        check_media(request.headers())?;
        let trailers = takes_trailers(request.headers());
        let body = read_body(request.into_body(), self.limits.body, self.limits.body_time).await?;
        let CompletionRequest { model, chat, delivery } = CompletionRequest::parse(&body)?;
        self.check_model(&model)?;
        let head = Head::new(&self.model, unix_now())?;
        let receipt = self.receipts.begin(head.id(), &body).map_err(|_| Fault::Internal)?;
        drop(body);
        let slot = self.admission.admit().await?;
        let events = self.engine.generate(None, chat).map_err(failed)?;
        // What nobody takes is not signed.
        let trailer = |receipt: Draft| trailers.then_some(receipt);
        match delivery {
            Delivery::Whole => whole(&head, receipt, events).await,
            Delivery::Stream => stream(head, UsageMember::Absent, trailer(receipt), events, slot).await,
            Delivery::StreamWithUsage => {
                stream(head, UsageMember::Present, trailer(receipt), events, slot).await
            }
        }
    }

    fn check_model(&self, name: &str) -> Result<(), Fault> {
        if name == self.model.name {
            return Ok(());
        }
        Err(Fault::UnknownModel { known: self.model.name.clone() })
    }

    fn check_phase(&self, phase: Phase) -> Result<(), Fault> {
        if phase == Phase::Ready { Ok(()) } else { Err(Fault::NotReady(phase)) }
    }

    fn check_engine(&self) -> Result<(), Fault> {
        self.engine.failure().map_or(Ok(()), |failure| Err(failure.into()))
    }
}

/// Waits for a whole completion.
async fn whole(head: &Head, mut receipt: Draft, mut events: Events) -> Result<Response<Body>, Fault> {
    let mut content = Zeroizing::new(String::new());
    let (reason, usage): (FinishReason, Usage) = loop {
        match events.next().await.ok_or(Fault::EngineUnavailable)? {
            Event::Text(text) => content.push_str(&text),
            Event::Finished { reason, usage } => break (reason, usage),
            Event::Failed(failure) => return Err(failed(failure)),
        }
    };
    let json = to_json(&Completion::new(head, &content, reason, usage));
    receipt.update(&json);
    let mut response = Body::json(StatusCode::OK, json);
    response.headers_mut().extend([receipt.sign(usage, unix_now())]);
    Ok(response)
}

/// Streams a completion from its first event on, so that what fails at once fails with a status.
async fn stream(
    head: Head,
    usage: UsageMember,
    receipt: Option<Draft>,
    mut events: Events,
    slot: Slot,
) -> Result<Response<Body>, Fault> {
    match events.next().await.ok_or(Fault::EngineUnavailable)? {
        Event::Failed(failure) => Err(failed(failure)),
        first => {
            let announced = receipt.is_some();
            let mut response = Body::stream(EventStream::new(head, usage, receipt, first, events, slot));
            if announced {
                announce(response.headers_mut());
            }
            Ok(response)
        }
    }
}

/// An engine's failure as a fault. Its code and sentence hold no text of the request.
fn failed(failure: confide_engine::protocol::Failure) -> Fault {
    let fault = Fault::from(failure.clone());
    if fault.status().is_server_error() {
        tracing::warn!(code = failure.code, "completion failed");
    }
    fault
}

/// Refuses bodies that are something else than JSON by their own word. Browsers send JSON to another origin only
/// after asking, which is answered with 405.
fn check_media(headers: &HeaderMap) -> Result<(), Fault> {
    if headers.get(CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
        return Err(Fault::ContentEncoding);
    }
    let Some(media) = headers.get(CONTENT_TYPE) else { return Ok(()) };
    let essence = media.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") { Ok(()) } else { Err(Fault::MediaType) }
}

fn ok(value: &impl Serialize) -> Response<Body> {
    Body::json(StatusCode::OK, to_json(value))
}

fn to_json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("strings and numbers always serialise")
}

/// The guest's clock, which the host sets where no broker does.
fn unix_now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
