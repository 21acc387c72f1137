//! `POST /.well-known/confide/attestation`: evidence for a nonce, bound to the connection that asks.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use confide_attester::AttesterError;
use confide_attester::gpu::GpuError;
use confide_channel_guest::ConnectionExporter;
use confide_endorser::Staple;
use confide_evidence::document::{
    AttestationRequest, Claims, Endorsements, EvidenceDocument, MAX_REQUEST, MEDIA_TYPE, NvidiaEndorsements,
    REQUEST_MEDIA_TYPE, TdxCollateral,
};
use confide_evidence::transcript::Binding;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Body;
use serde_json::json;
use tokio::sync::mpsc;

use crate::batches::{BatchFailure, Batches, Denied};
use crate::boot::{self, Booted};
use crate::codes;
use crate::config::Limits;
use crate::gpu_staple::GpuStaple;

/// Answers attestation requests.
pub(crate) struct Attestation {
    batches: Batches,
    body_time: Duration,
}

/// What takes the place of the platform's own endorsements, where the configuration says so.
pub(crate) struct Staples {
    /// Of the CPU.
    pub(crate) collateral: Option<Staple>,
    /// Of GPUs and switches.
    pub(crate) gpus: Option<GpuStaple>,
}

impl Attestation {
    pub(crate) fn new(
        booted: &Booted,
        staples: Staples,
        gpus_ended: mpsc::Sender<GpuError>,
        limits: &Limits,
    ) -> Self {
        let attester = Arc::clone(&booted.attester);
        let (key_set, claims) = (booted.keys.key_set().clone(), booted.claims.clone());
        let drops = booted.drops.clone();
        let gather = move |binding: &Binding| {
            let changing = boot::changing(claims.changing.locked_at, drops.total());
            let claims = Claims { changing, ..claims.clone() };
            let document = attester.attest(binding, &key_set, &claims)?;
            Ok(staples.add_to(document))
        };
        let failed = move |failure: BatchFailure| {
            failed(&failure);
            // A failure of the GPUs ends the guest, too. One is enough.
            if let BatchFailure::Attester(AttesterError::Gpu(error)) = failure {
                let _ = gpus_ended.try_send(error);
            }
        };
        Self {
            batches: Batches::start(limits.attestations.get(), gather, failed),
            body_time: limits.read_time(),
        }
    }

    /// Answers one request; every outcome is an answer.
    pub(crate) async fn answer<S, B>(
        &self,
        connection: &ConnectionExporter<S>,
        request: Request<B>,
    ) -> Response<Full<Bytes>>
    where
        B: Body<Data = Bytes, Error = hyper::Error>,
    {
        match self.document(connection, request).await {
            Ok(document) => response(StatusCode::OK, MEDIA_TYPE, document),
            Err(refusal) => refusal.into_response(),
        }
    }

    async fn document<S, B>(
        &self,
        connection: &ConnectionExporter<S>,
        request: Request<B>,
    ) -> Result<Bytes, Refusal>
    where
        B: Body<Data = Bytes, Error = hyper::Error>,
    {
        check_media(request.headers())?;
        let reading = tokio::time::timeout(self.body_time, read(request.into_body()));
        let body = reading.await.map_err(|_| Refusal::TimedOut)??;
        let AttestationRequest { nonce } =
            AttestationRequest::decode(&body).map_err(|error| Refusal::Malformed(error.to_string()))?;
        let asked = connection.bind(nonce).map_err(|error| failed(&error))?;
        self.batches.evidence(asked).await.map_err(|denied| match denied {
            Denied::Full => Refusal::Overloaded,
            Denied::Failed => Refusal::Failed,
        })
    }
}

impl Staples {
    /// The document with what is stapled to it now beside the endorsements of its devices.
    fn add_to(&self, mut document: EvidenceDocument) -> EvidenceDocument {
        if let Some(staple) = &self.collateral {
            document.endorsements = stapled(staple, document.endorsements);
        }
        if let Some(staple) = &self.gpus {
            let nvidia = Some(NvidiaEndorsements::clone(&staple.current()));
            document.endorsements.get_or_insert_default().nvidia = nvidia;
        }
        document
    }
}

/// What is stapled to a document beside the endorsements of its devices.
fn stapled(staple: &Staple, own: Option<Endorsements>) -> Option<Endorsements> {
    let tdx = staple.current(confide_endorser::now()).map(|collateral| TdxCollateral::clone(&collateral));
    let nvidia = own.and_then(|own| own.nvidia);
    (tdx.is_some() || nvidia.is_some()).then_some(Endorsements { tdx, nvidia, ..Endorsements::default() })
}

/// Devices fail by the host's doing: the operator learns why, the peer only that.
fn failed(error: &(dyn std::error::Error + 'static)) -> Refusal {
    tracing::warn!(error, "attestation failed");
    Refusal::Failed
}

fn check_media(headers: &HeaderMap) -> Result<(), Refusal> {
    let media = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = media.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case(REQUEST_MEDIA_TYPE) { Ok(()) } else { Err(Refusal::MediaType) }
}

async fn read<B>(body: B) -> Result<Bytes, Refusal>
where
    B: Body<Data = Bytes, Error = hyper::Error>,
{
    if usize::try_from(body.size_hint().lower()).map_or(true, |least| least > MAX_REQUEST) {
        return Err(Refusal::TooLarge);
    }
    match Limited::new(body, MAX_REQUEST).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Refusal::TooLarge),
        Err(_) => Err(Refusal::Unreadable),
    }
}

/// Why there is no document, in the form of the errors of the API beside it.
enum Refusal {
    MediaType,
    TooLarge,
    TimedOut,
    Unreadable,
    Malformed(String),
    Overloaded,
    Failed,
}

impl Refusal {
    fn code(&self) -> &'static str {
        match self {
            Self::MediaType => codes::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLarge => confide_engine::codes::REQUEST_TOO_LARGE,
            Self::TimedOut => codes::REQUEST_TIMEOUT,
            Self::Unreadable => codes::REQUEST_UNREADABLE,
            Self::Malformed(_) => codes::MALFORMED_ATTESTATION_REQUEST,
            Self::Overloaded => codes::ATTESTATION_OVERLOADED,
            Self::Failed => codes::ATTESTATION_FAILED,
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::MediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TimedOut => StatusCode::REQUEST_TIMEOUT,
            Self::Unreadable | Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::Overloaded | Self::Failed => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn message(&self) -> String {
        match self {
            Self::MediaType => format!("the body must be {REQUEST_MEDIA_TYPE}"),
            Self::TooLarge => format!("the request has more than {MAX_REQUEST} bytes"),
            Self::TimedOut => "the body did not arrive in time".to_owned(),
            Self::Unreadable => "the body ended early".to_owned(),
            Self::Malformed(reason) => {
                format!("the body is not the canonical CBOR of {{\"nonce\": 32 bytes}}: {reason}")
            }
            Self::Overloaded => "too many connections attest at the same time".to_owned(),
            Self::Failed => "the guest's devices gave no evidence".to_owned(),
        }
    }

    fn into_response(self) -> Response<Full<Bytes>> {
        let status = self.status();
        let kind = if status.is_server_error() { "server_error" } else { "invalid_request_error" };
        let error = json!({ "message": self.message(), "type": kind, "param": null, "code": self.code() });
        let mut answer = response(status, "application/json", json!({ "error": error }).to_string().into());
        if let Self::Overloaded = self {
            // Some twenty quotes later; devices that fail are asked again by nobody who waits.
            answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        answer
    }
}

fn response(status: StatusCode, media_type: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
