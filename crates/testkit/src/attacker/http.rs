//! What the attacker says to a victim.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use confide_evidence::document::{ATTESTATION_PATH, AttestationRequest, MEDIA_TYPE, REQUEST_MEDIA_TYPE};
use confide_evidence::transcript::Binding;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpStream;

use super::forgery::Attack;
use super::stream::Tapped;
use super::tls::{self, Identity};
use super::{Connection, Request};

/// One victim's connection.
pub(super) struct Victim {
    seen: Arc<Mutex<Vec<Connection>>>,
    identity: Arc<Identity>,
    honest: SocketAddr,
    attack: Attack,
}

impl Victim {
    pub(super) fn new(
        seen: Arc<Mutex<Vec<Connection>>>,
        identity: Arc<Identity>,
        honest: SocketAddr,
        attack: Attack,
    ) -> Self {
        Self { seen, identity, honest, attack }
    }

    pub(super) async fn serve(self, stream: TcpStream) -> Result<()> {
        let stream = self.identity.acceptor().accept(stream).await?;
        let ledger = Ledger::open(Arc::clone(&self.seen));
        let tapped = {
            let ledger = ledger.clone();
            Tapped::new(stream, move |bytes| ledger.update(|seen| seen.plaintext.extend(bytes)))
        };
        let service = service_fn(|request| self.respond(request, &tapped, &ledger));
        let io = TokioIo::new(tapped.clone());
        Ok(hyper::server::conn::http1::Builder::new().serve_connection(io, service).await?)
    }

    async fn respond(
        &self,
        request: hyper::Request<Incoming>,
        tapped: &Tapped,
        ledger: &Ledger,
    ) -> Result<hyper::Response<Full<Bytes>>> {
        let line = format!("{} {}", request.method(), request.uri());
        let path = request.uri().path().to_owned();
        let body = request.into_body().collect().await?.to_bytes();
        ledger.update(|seen| {
            let plaintext_end = seen.plaintext.len();
            seen.requests.push(Request { line, body: body.to_vec(), plaintext_end });
        });
        match path.as_str() {
            ATTESTATION_PATH => answer(MEDIA_TYPE, self.evidence(&body, tapped).await?),
            "/v1/models" => answer("application/json", models()),
            _ => completion(&body),
        }
    }

    /// Evidence for this victim's nonce, with the attack in it.
    async fn evidence(&self, request: &[u8], tapped: &Tapped) -> Result<Vec<u8>> {
        let document = fetch(self.honest, &self.attack.request(request))
            .await
            .context("asking the honest guest for evidence")?;
        let nonce = AttestationRequest::decode(request)?.nonce;
        let exporter = tapped.exporter(&nonce)?;
        let binding = Binding::Serve { nonce, exporter, tls_spki: self.identity.spki() };
        self.attack.evidence(document, binding)
    }
}

/// Where one connection's bytes are written down.
#[derive(Clone)]
struct Ledger {
    seen: Arc<Mutex<Vec<Connection>>>,
    index: usize,
}

impl Ledger {
    fn open(seen: Arc<Mutex<Vec<Connection>>>) -> Self {
        let index = {
            let mut all = lock(&seen);
            all.push(Connection::default());
            all.len() - 1
        };
        Self { seen, index }
    }

    fn update(&self, change: impl FnOnce(&mut Connection)) {
        if let Some(connection) = lock(&self.seen).get_mut(self.index) {
            change(connection);
        }
    }
}

fn lock(seen: &Mutex<Vec<Connection>>) -> MutexGuard<'_, Vec<Connection>> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Passes a victim's attestation request on to the honest guest.
async fn fetch(honest: SocketAddr, request: &[u8]) -> Result<Vec<u8>> {
    let stream = TokioIo::new(tls::connect(honest).await?);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
    tokio::spawn(connection);
    let request = hyper::Request::post(ATTESTATION_PATH)
        .header(HOST, honest.to_string())
        .header(CONTENT_TYPE, REQUEST_MEDIA_TYPE)
        .body(Full::new(Bytes::copy_from_slice(request)))?;
    let response = sender.send_request(request).await?;
    anyhow::ensure!(response.status().is_success(), "the honest guest answered {}", response.status());
    Ok(response.into_body().collect().await?.to_bytes().to_vec())
}

fn answer(content_type: &str, body: Vec<u8>) -> Result<hyper::Response<Full<Bytes>>> {
    Ok(hyper::Response::builder().header(CONTENT_TYPE, content_type).body(Full::new(body.into()))?)
}

fn models() -> Vec<u8> {
    json!({"object": "list", "data": [{"id": "stolen", "object": "model", "created": 0, "owned_by": "attacker"}]})
        .to_string()
        .into_bytes()
}

/// An answer in the form that was asked for, so that a deceived client notices nothing.
fn completion(request: &[u8]) -> Result<hyper::Response<Full<Bytes>>> {
    const TEXT: &str = "Thank you for your prompt.";
    let streamed =
        serde_json::from_slice(request).is_ok_and(|body: serde_json::Value| body["stream"] == true);
    let common = |object: &str, part: serde_json::Value| {
        let choice = json!({"index": 0, "finish_reason": "stop"});
        let mut choice = choice.as_object().cloned().unwrap_or_default();
        choice.extend(part.as_object().cloned().unwrap_or_default());
        json!({"id": "chatcmpl-0", "object": object, "created": 0, "model": "stolen", "choices": [choice]})
    };
    if streamed {
        let chunk = common("chat.completion.chunk", json!({"delta": {"role": "assistant", "content": TEXT}}));
        return answer("text/event-stream", format!("data: {chunk}\n\ndata: [DONE]\n\n").into_bytes());
    }
    let mut whole = common("chat.completion", json!({"message": {"role": "assistant", "content": TEXT}}));
    whole["usage"] = json!({"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2});
    answer("application/json", whole.to_string().into_bytes())
}
