//! What the guest says.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context as Task, Poll};
use std::time::Duration;

use anyhow::{Context, Result};
use confide_evidence::bytes::Bytes as Fixed;
use confide_evidence::document::{ATTESTATION_PATH, AttestationRequest, MAX_DOCUMENT, MEDIA_TYPE};
use confide_evidence::receipt::RECEIPT_FIELD;
use confide_evidence::transcript::{Binding, batch_leaf};
use confide_simulator::QuoteFlaw;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, TRAILER};
use hyper::rt::{Read, Write};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response, Version};
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use super::evidence::Staple;
use super::{Attestation, Chat, Inner, MODEL, Place, Race, Raw, Receipts, SeenRequest, Then, WORDS, lock};

type Answer = Response<BoxBody<Bytes, io::Error>>;

/// One TLS connection, in reach beside HTTP.
pub(super) trait Line: Send + Sync {
    /// The exporter of this connection for a nonce.
    fn export(&self, nonce: &Fixed<32>) -> Result<Fixed<32>>;
    /// Writes bytes past HTTP.
    fn poll_write(&self, task: &mut Task<'_>, bytes: &[u8]) -> Poll<io::Result<usize>>;
    /// Hands over all that was written.
    fn poll_flush(&self, task: &mut Task<'_>) -> Poll<io::Result<()>>;
    /// Ends the connection, with TLS's goodbye or without it.
    fn poll_end(&self, task: &mut Task<'_>, end: Then) -> Poll<io::Result<()>>;
}

/// Writes bytes past HTTP, and what follows them.
pub(super) async fn write(line: &dyn Line, Raw { bytes, then }: &Raw) -> io::Result<()> {
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let written = poll_fn(|task| line.poll_write(task, rest)).await?;
        rest = &rest[written..];
    }
    poll_fn(|task| line.poll_flush(task)).await?;
    match then {
        Then::Wait => Ok(()),
        end => poll_fn(|task| line.poll_end(task, *end)).await,
    }
}

/// Writes bytes in the place of an answer.
async fn instead(line: &dyn Line, raw: &Raw) -> Result<Answer> {
    write(line, raw).await?;
    std::future::pending().await
}

pub(super) async fn serve<IO>(
    inner: Arc<Inner>,
    place: usize,
    line: Arc<dyn Line>,
    (io, version): (IO, Version),
) -> Result<()>
where
    IO: Read + Write + Unpin + Send + 'static,
{
    let service = service_fn(|request: Request<Incoming>| {
        let (inner, line) = (Arc::clone(&inner), Arc::clone(&line));
        async move {
            let answered = respond(&inner, place, &*line, request).await;
            let answer =
                answered.unwrap_or_else(|error| json_answer(500, &json!({ "error": error.to_string() })));
            Ok::<_, Infallible>(answer)
        }
    });
    match version {
        Version::HTTP_2 => {
            http2::Builder::new(TokioExecutor::new())
                .max_concurrent_streams(inner.http2.load(Relaxed))
                .serve_connection(io, service)
                .await?;
        }
        _ => http1::Builder::new().serve_connection(io, service).await?,
    }
    Ok(())
}

async fn respond(inner: &Inner, place: usize, line: &dyn Line, request: Request<Incoming>) -> Result<Answer> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let headers = head.headers.iter().map(|(name, value)| {
        (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    });
    lock(&inner.seen)[place].requests.push(SeenRequest {
        line: format!("{} {}", head.method, head.uri.path_and_query().map_or("", |target| target.as_str())),
        authority: head.uri.authority().map(ToString::to_string),
        headers: headers.collect(),
        body: body.to_vec(),
    });
    match head.uri.path() {
        ATTESTATION_PATH => attest(inner, line, &body).await,
        "/v1/models" => Ok(json_answer(200, &models(inner.machine.model()))),
        _ => chat(inner, line, &body).await,
    }
}

async fn attest(inner: &Inner, line: &dyn Line, request: &[u8]) -> Result<Answer> {
    let nonce = AttestationRequest::decode(request)?.nonce;
    let binding = Binding::Serve { nonce, exporter: line.export(&nonce)?, tls_spki: inner.identity.spki };
    let attestation = lock(&inner.attestation).clone();
    let stapled = |binding, staple| inner.machine.document(binding, &[], staple);
    let bound = |binding| stapled(binding, Staple::Valid);
    let document = match attestation {
        Attestation::OtherExporter => bound(other(binding, |_, exporter, _| exporter.0[0] ^= 1))?,
        Attestation::OtherNonce => bound(other(binding, |nonce, _, _| nonce.0[0] ^= 1))?,
        Attestation::OtherKey => bound(other(binding, |_, _, spki| spki.0[0] ^= 1))?,
        Attestation::ForeignSigner => {
            inner.machine.document(binding, &[QuoteFlaw::QuoteSigner], Staple::Valid)?
        }
        Attestation::Unstapled => stapled(binding, Staple::Nothing)?,
        Attestation::StapledOver => stapled(binding, Staple::Over)?,
        Attestation::Fixed(document) => document,
        Attestation::Busy(busy)
            if busy.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok() =>
        {
            let mut later = json_answer(503, &json!({ "error": { "message": "later" } }));
            later.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
            return Ok(later);
        }
        Attestation::Status(status) => {
            return Ok(json_answer(status, &json!({ "error": { "message": "no" } })));
        }
        Attestation::MediaType(found) => return Ok(answer(200, found, full(bound(binding)?))),
        Attestation::TooLarge => return Ok(answer(200, MEDIA_TYPE, full(vec![0; MAX_DOCUMENT + 1]))),
        Attestation::Endless => return Ok(answer(200, MEDIA_TYPE, endless())),
        Attestation::Silent => std::future::pending().await,
        Attestation::Dripping => return Ok(answer(200, MEDIA_TYPE, dripping())),
        Attestation::Raw(raw) => return instead(line, &raw).await,
        Attestation::Torn => {
            let mut document = bound(binding)?;
            document.truncate(document.len() / 2);
            return Ok(answer(200, MEDIA_TYPE, torn(vec![document.into()])));
        }
        Attestation::Batched(race) => {
            batched(inner, &race, batch_leaf(&nonce, &line.export(&nonce)?))?.await?
        }
        Attestation::Honest | Attestation::Eager(_) | Attestation::Busy(_) => bound(binding)?,
    };
    Ok(answer(200, MEDIA_TYPE, full(document)))
}

/// Where the document of a connection with this leaf comes from: once there is a second one.
fn batched(inner: &Inner, race: &Race, leaf: Fixed<64>) -> Result<oneshot::Receiver<Vec<u8>>> {
    let (own, document) = oneshot::channel();
    let mut waiting = lock(&race.waiting);
    let Some((first, other)) = waiting.take() else {
        *waiting = Some((leaf, own));
        return Ok(document);
    };
    let documents = inner.machine.batch(vec![first, leaf], inner.identity.spki)?;
    let takers = match race.place {
        Place::Own => [other, own],
        Place::Other => [own, other],
    };
    // Who has left takes none.
    takers.into_iter().zip(documents).for_each(|(taker, document)| drop(taker.send(document)));
    Ok(document)
}

fn other(binding: Binding, change: impl Fn(&mut Fixed<32>, &mut Fixed<32>, &mut Fixed<32>)) -> Binding {
    match binding {
        Binding::Serve { mut nonce, mut exporter, mut tls_spki } => {
            change(&mut nonce, &mut exporter, &mut tls_spki);
            Binding::Serve { nonce, exporter, tls_spki }
        }
        binding => binding,
    }
}

fn models(model: &str) -> Value {
    json!({ "object": "list", "data": [{ "id": model, "object": "model", "created": 0, "owned_by": "testkit" }] })
}

async fn chat(inner: &Inner, line: &dyn Line, body: &[u8]) -> Result<Answer> {
    let request: Value = serde_json::from_slice(body).unwrap_or_default();
    let streamed = request["stream"] == true;
    let chat = lock(&inner.chat).clone();
    Ok(match chat {
        Chat::Raw(raw) => return instead(line, &raw).await,
        Chat::Endless => answer(200, "text/event-stream", forever(events().next().unwrap_or_default())),
        Chat::Refuse(status) => json_answer(
            status,
            &json!({ "error": { "message": "refused", "type": "x", "param": null, "code": "no_such_model" } }),
        ),
        Chat::Torn => answer(200, "text/event-stream", torn(events().take(2).collect())),
        Chat::TornEvent => {
            let mut pieces: Vec<Bytes> = events().take(2).collect();
            let half = pieces[1].len() / 2;
            pieces[1].truncate(half);
            answer(200, "text/event-stream", torn(pieces))
        }
        Chat::Gated(gate) => answer(200, "text/event-stream", gated(gate)),
        Chat::Close => {
            let mut closing = json_answer(200, &completion(inner.machine.model()));
            closing.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            closing
        }
        Chat::Answer if streamed => signed_stream(inner, body)?,
        Chat::Answer => signed(inner, body)?,
    })
}

/// A whole answer with its receipt.
fn signed(inner: &Inner, request: &[u8]) -> Result<Answer> {
    let completion = completion(inner.machine.model());
    let receipts = *lock(&inner.receipts);
    let receipt = inner.machine.receipt(receipts, request, completion.to_string().as_bytes())?;
    let mut answer = json_answer(200, &completion);
    if let Some(receipt) = receipt {
        answer.headers_mut().insert(RECEIPT_FIELD, receipt.parse()?);
    }
    Ok(answer)
}

/// A stream with its receipt in the trailers.
fn signed_stream(inner: &Inner, request: &[u8]) -> Result<Answer> {
    let stream: Vec<u8> = events().flatten().collect();
    let receipts = *lock(&inner.receipts);
    if receipts == Receipts::None {
        return Ok(answer(200, "text/event-stream", full(stream)));
    }
    let mut frames: VecDeque<Frame<Bytes>> = events().map(Frame::data).collect();
    if let Some(receipt) = inner.machine.receipt(receipts, request, &stream)? {
        frames.push_back(Frame::trailers(HeaderMap::from_iter([(RECEIPT_NAME, receipt.parse()?)])));
    }
    let mut answer = answer(200, "text/event-stream", Frames(frames).boxed());
    answer.headers_mut().insert(TRAILER, RECEIPT_NAME.into());
    Ok(answer)
}

/// The name of a receipt's field.
const RECEIPT_NAME: HeaderName = HeaderName::from_static(RECEIPT_FIELD);

/// A body of frames, of unknown length.
struct Frames(VecDeque<Frame<Bytes>>);

impl Body for Frames {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Task<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        Poll::Ready(self.0.pop_front().map(Ok))
    }
}

fn completion(model: &str) -> Value {
    let message = json!({ "role": "assistant", "content": WORDS.concat() });
    json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 0, "model": model,
        "choices": [{ "index": 0, "message": message, "finish_reason": "stop" }],
        "usage": { "prompt_tokens": 5, "completion_tokens": 4, "total_tokens": 9 },
    })
}

/// The events of a streamed answer.
fn events() -> impl Iterator<Item = Bytes> {
    let chunk = |choices: Value, usage: Value| {
        let chunk = json!({
            "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 0, "model": MODEL,
            "choices": choices, "usage": usage,
        });
        Bytes::from(format!("data: {chunk}\n\n"))
    };
    let delta = move |delta: Value, finish: Value| {
        chunk(json!([{ "index": 0, "delta": delta, "finish_reason": finish }]), Value::Null)
    };
    let words = WORDS.into_iter().map(move |word| delta(json!({ "content": word }), Value::Null));
    let usage = json!({ "prompt_tokens": 5, "completion_tokens": 4, "total_tokens": 9 });
    let end = [delta(json!({}), json!("stop")), chunk(json!([]), usage), Bytes::from("data: [DONE]\n\n")];
    words.chain(end)
}

fn json_answer(status: u16, value: &Value) -> Answer {
    answer(status, "application/json", full(value.to_string().into_bytes()))
}

fn answer(status: u16, media_type: &'static str, body: BoxBody<Bytes, io::Error>) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = status.try_into().unwrap_or_default();
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    answer
}

fn full(bytes: Vec<u8>) -> BoxBody<Bytes, io::Error> {
    Full::from(bytes).map_err(|never| match never {}).boxed()
}

fn endless() -> BoxBody<Bytes, io::Error> {
    forever(Bytes::from_static(&[0; 65_536]))
}

fn forever(piece: Bytes) -> BoxBody<Bytes, io::Error> {
    let (sender, pieces) = mpsc::channel(1);
    tokio::spawn(async move { while sender.send(Ok(piece.clone())).await.is_ok() {} });
    Pieces(pieces).boxed()
}

fn dripping() -> BoxBody<Bytes, io::Error> {
    let (sender, pieces) = mpsc::channel(1);
    tokio::spawn(async move {
        while sender.send(Ok(Bytes::from_static(&[0]))).await.is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    Pieces(pieces).boxed()
}

fn torn(whole: Vec<Bytes>) -> BoxBody<Bytes, io::Error> {
    let (sender, pieces) = mpsc::channel(1);
    tokio::spawn(async move {
        for piece in whole {
            let _ = sender.send(Ok(piece)).await;
        }
        let _ = sender.send(Err(io::Error::other("torn"))).await;
    });
    Pieces(pieces).boxed()
}

fn gated(gate: Arc<tokio::sync::Semaphore>) -> BoxBody<Bytes, io::Error> {
    let (sender, pieces) = mpsc::channel(1);
    tokio::spawn(async move {
        for event in events() {
            let permit = gate.acquire().await.context("the gate is never closed")?;
            permit.forget();
            sender.send(Ok(event)).await.context("the client has left")?;
        }
        anyhow::Ok(())
    });
    Pieces(pieces).boxed()
}

/// A body whose pieces come through a channel.
struct Pieces(mpsc::Receiver<io::Result<Bytes>>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.0.poll_recv(task).map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}
