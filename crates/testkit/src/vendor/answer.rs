//! What a service answers.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Task, Poll};
use std::time::Duration;

use confide_evidence::document::TdxCollateral;
use confide_evidence::hash::sha256;
use confide_evidence::pem;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Method, Request, Response};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{Endpoint, Inner, Manner, Misdeed, lock};

type Answer = Response<BoxBody<Bytes, io::Error>>;

const ROOT_OF_PCS: &str = "/IntelSGXRootCA.der";
const ROOT_OF_PCCS: &str = "/sgx/certification/v4/rootcacrl";
const RIMS: &str = "/v1/rim/";
pub(super) const RIM_IDS: &str = "/v1/rim/ids";
const OCSP_REQUEST: &str = "application/ocsp-request";
/// OCSPResponse with the status unauthorized (RFC 6960 section 4.2.1).
const UNAUTHORIZED: [u8; 5] = [0x30, 3, 0x0a, 1, 6];

/// What an honest service sends.
struct Honest {
    media_type: &'static str,
    /// Header field of the issuer chain, and the chain, PEM.
    chain: Option<(&'static str, String)>,
    body: Vec<u8>,
}

/// What a request target is about.
pub(super) fn endpoint(target: &str) -> Endpoint {
    match target.split('?').next().unwrap_or_default() {
        "/tdx/certification/v4/tcb" => Endpoint::TcbInfo,
        "/tdx/certification/v4/qe/identity" => Endpoint::QeIdentity,
        "/sgx/certification/v4/pckcrl" => Endpoint::PckCrl,
        ROOT_OF_PCS | ROOT_OF_PCCS => Endpoint::RootCaCrl,
        path if path.starts_with("/vcek/v1/") || path.starts_with("/vlek/v1/") => {
            match path.rsplit('/').next() {
                Some("cert_chain") => Endpoint::AmdChain,
                Some("crl") => Endpoint::AmdCrl,
                _ => Endpoint::Vcek,
            }
        }
        RIM_IDS => Endpoint::RimIds,
        path if path.starts_with(RIMS) => Endpoint::Rim,
        path if path.starts_with("/crl/") || path.starts_with("/crl-corim/") => Endpoint::NvidiaCrl,
        "/" => Endpoint::Ocsp,
        _ => Endpoint::File,
    }
}

/// Where the RIM of an id is.
pub(super) fn rim_target(id: &str) -> String {
    format!("{RIMS}{id}")
}

/// What NVIDIA's service says of a RIM.
pub(super) fn rim(id: &str, document: &[u8]) -> Vec<u8> {
    let answer = json!({
        "id": id,
        "rim": pem::base64_text(document),
        "sha256": hex(&sha256(document).0),
        "last_updated": "2026-01-30T09:05:11.595000",
        "rim_format": "TCG",
        "request_id": "54922519-b87e-4057-b323-33b9a2bb9743",
    });
    answer.to_string().into_bytes()
}

/// The list of the RIMs among these targets, and one of a network card.
pub(super) fn rim_ids<'a>(targets: impl Iterator<Item = &'a String>) -> Vec<u8> {
    let mut ids: Vec<&str> =
        targets.filter(|target| *target != RIM_IDS).filter_map(|target| target.strip_prefix(RIMS)).collect();
    ids.push("NV_NIC_FIRMWARE_CX7_28.39.4082-LTS_MCX713104AC-ADA");
    json!({ "ids": ids, "last_updated": "2026-01-30T09:05:11.595000", "request_id": "1" })
        .to_string()
        .into_bytes()
}

/// What the responder says about the certificate whose serial number stands in a request.
fn ocsp(answers: &BTreeMap<Vec<u8>, Vec<u8>>, request: &[u8]) -> Vec<u8> {
    let asked = |serial: &[u8]| request.windows(serial.len()).any(|window| window == serial);
    let known = answers.iter().find(|(serial, _)| !serial.is_empty() && asked(serial));
    known.map_or_else(|| UNAUTHORIZED.to_vec(), |(_, answer)| answer.clone())
}

/// Answers one request.
///
/// # Errors
/// Where the service hangs up.
pub(super) async fn answer(inner: Arc<Inner>, request: Request<Incoming>) -> io::Result<Answer> {
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str()).to_owned();
    let endpoint = endpoint(&target);
    let posted = request.method() == Method::POST;
    let media_type =
        request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = media_type.to_owned();
    let body = request.into_body().collect().await.map_err(io::Error::other)?.to_bytes();
    let (misdeed, honest) = {
        let mut state = lock(&inner.state);
        state.requests.push(target.clone());
        if posted {
            state.posted.push((media_type.clone(), body.to_vec()));
        }
        let scripted = state.script.get_mut(&endpoint).and_then(std::collections::VecDeque::pop_front);
        let misdeed = scripted.or_else(|| state.habit.get(&endpoint).cloned());
        let collateral: Vec<_> =
            state.collateral.iter().map(|(update, one)| (update.clone(), one.clone())).collect();
        let file = state.files.get(&target).cloned();
        let honest = match endpoint {
            Endpoint::Ocsp if posted && media_type == OCSP_REQUEST => Some(Honest {
                media_type: "application/ocsp-response",
                chain: None,
                body: ocsp(&state.answers, &body),
            }),
            // Only the responder takes a body.
            Endpoint::Ocsp => None,
            _ if posted => None,
            Endpoint::File
            | Endpoint::Vcek
            | Endpoint::AmdChain
            | Endpoint::AmdCrl
            | Endpoint::Rim
            | Endpoint::RimIds
            | Endpoint::NvidiaCrl => file.map(|(media_type, body)| Honest { media_type, chain: None, body }),
            _ => honest(inner.manner, &target, &collateral),
        };
        (misdeed, honest)
    };
    match misdeed {
        None => Ok(whole(honest)),
        Some(misdeed) => misbehave(misdeed, honest).await,
    }
}

async fn misbehave(misdeed: Misdeed, honest: Option<Honest>) -> io::Result<Answer> {
    let honest =
        honest.unwrap_or(Honest { media_type: "application/json", chain: None, body: b"{}".to_vec() });
    let media = HeaderValue::from_static(honest.media_type);
    let half = honest.body.len() / 2;
    let size = honest.body.len();
    Ok(match misdeed {
        Misdeed::Status(status, field) => {
            let mut answer = empty(status);
            if let Some((name, value)) = field {
                let value = HeaderValue::from_str(&value).map_err(io::Error::other)?;
                answer.headers_mut().insert(HeaderName::from_static(name), value);
            }
            answer
        }
        Misdeed::Late(pause) => {
            tokio::time::sleep(pause).await;
            whole(Some(honest))
        }
        Misdeed::Silent => std::future::pending().await,
        Misdeed::HangUp => return Err(io::Error::other("hung up")),
        Misdeed::Drip(pause) => with_body(honest, |body| drip(body, pause)),
        Misdeed::Truncated => {
            let mut answer = with_body(honest, |body| torn(body, half));
            answer.headers_mut().insert(CONTENT_LENGTH, size.into());
            answer
        }
        Misdeed::Cut => with_body(honest, |body| torn(body, half)),
        Misdeed::MediaType(found) => {
            let mut answer = whole(Some(honest));
            answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(found));
            answer
        }
        Misdeed::ContentEncoding(found) => {
            let mut answer = whole(Some(honest));
            answer.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static(found));
            answer
        }
        Misdeed::Endless => with_body(honest, |_| endless()),
        Misdeed::Announced(size) => {
            let mut answer = with_body(honest, |body| torn(body, half));
            answer.headers_mut().insert(CONTENT_LENGTH, size.into());
            answer
        }
        Misdeed::RawChain => chained(honest, media, |chain| vec![chain.replace('\n', "")]),
        Misdeed::ChainEncodedTwice => chained(honest, media, |chain| vec![encoded(&encoded(chain))]),
        Misdeed::NoChain => chained(honest, media, |_| Vec::new()),
        Misdeed::TwoChains => chained(honest, media, |chain| vec![encoded(chain); 2]),
        Misdeed::Body(body) => whole(Some(Honest { body, ..honest })),
    })
}

fn honest(manner: Manner, target: &str, collateral: &[(String, TdxCollateral)]) -> Option<Honest> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let parameter = |name: &str| {
        query
            .split('&')
            .find_map(|pair| pair.split_once('=').filter(|(key, _)| *key == name))
            .map(|(_, value)| value)
    };
    let number = |text: &str| {
        let parsed: Value = serde_json::from_str(text).ok()?;
        Some(parsed["tcbEvaluationDataNumber"].to_string())
    };
    // The set that the request names, of the given signed object.
    let of_set = |object: fn(&TdxCollateral) -> &str| {
        let found = collateral.iter().find(|(update, one)| match parameter("tcbEvaluationDataNumber") {
            Some(asked) if manner == Manner::Pcs => number(object(one)).as_deref() == Some(asked),
            _ => parameter("update").unwrap_or("standard") == update,
        });
        found.map(|(_, one)| one)
    };
    let (_, any) = collateral.first()?;
    match endpoint(target) {
        Endpoint::TcbInfo => {
            let one = of_set(|one| &one.tcb_info)?;
            let info: Value = serde_json::from_str(&one.tcb_info).ok()?;
            let asked = parameter("fmspc")?;
            if !info["fmspc"].as_str()?.eq_ignore_ascii_case(asked) {
                return None;
            }
            Some(Honest {
                media_type: "application/json",
                chain: Some(("tcb-info-issuer-chain", one.tcb_info_issuer_chain.clone())),
                body: signed("tcbInfo", &one.tcb_info, &one.tcb_info_signature.0),
            })
        }
        Endpoint::QeIdentity => {
            let one = of_set(|one| &one.qe_identity)?;
            Some(Honest {
                media_type: "application/json",
                chain: Some(("sgx-enclave-identity-issuer-chain", one.qe_identity_issuer_chain.clone())),
                body: signed("enclaveIdentity", &one.qe_identity, &one.qe_identity_signature.0),
            })
        }
        Endpoint::PckCrl if parameter("ca") == Some("platform") => Some(Honest {
            media_type: if manner == Manner::Pcs { "application/pkix-crl" } else { "application/x-pem-file" },
            chain: Some(("sgx-pck-crl-issuer-chain", any.pck_crl_issuer_chain.clone())),
            body: list(manner, any.pck_crl.as_bytes()),
        }),
        Endpoint::RootCaCrl if path == root(manner) => Some(Honest {
            media_type: if manner == Manner::Pcs {
                "binary/octet-stream"
            } else {
                "application/pkix-crl; charset=utf-8"
            },
            chain: None,
            body: list(manner, any.root_ca_crl.as_bytes()),
        }),
        _ => None,
    }
}

fn root(manner: Manner) -> &'static str {
    match manner {
        Manner::Pcs => ROOT_OF_PCS,
        Manner::Pccs => ROOT_OF_PCCS,
    }
}

fn list(manner: Manner, der: &[u8]) -> Vec<u8> {
    match manner {
        Manner::Pcs => der.to_vec(),
        Manner::Pccs => hex(der).into_bytes(),
    }
}

fn signed(name: &str, object: &str, signature: &[u8]) -> Vec<u8> {
    format!("{{\"{name}\":{object},\"signature\":\"{}\"}}", hex(signature)).into_bytes()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// URL-encoded, as Intel writes its chains: all but letters, digits and `-._~`.
fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

fn whole(honest: Option<Honest>) -> Answer {
    match honest {
        None => empty(404),
        Some(honest) => with_body(honest, full),
    }
}

fn with_body(honest: Honest, body: impl FnOnce(Vec<u8>) -> BoxBody<Bytes, io::Error>) -> Answer {
    let mut answer = Response::new(body(honest.body));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(honest.media_type));
    if let Some((field, chain)) = honest.chain
        && let Ok(value) = HeaderValue::from_str(&encoded(&chain))
    {
        answer.headers_mut().insert(HeaderName::from_static(field), value);
    }
    answer
}

fn chained(honest: Honest, media: HeaderValue, chains: impl FnOnce(&str) -> Vec<String>) -> Answer {
    let mut answer = Response::new(full(honest.body));
    answer.headers_mut().insert(CONTENT_TYPE, media);
    if let Some((field, chain)) = honest.chain {
        for value in chains(&chain).iter().filter_map(|value| HeaderValue::from_str(value).ok()) {
            answer.headers_mut().append(HeaderName::from_static(field), value);
        }
    }
    answer
}

fn empty(status: u16) -> Answer {
    let mut answer = Response::new(full(Vec::new()));
    *answer.status_mut() = status.try_into().unwrap_or_default();
    answer
}

fn full(bytes: Vec<u8>) -> BoxBody<Bytes, io::Error> {
    Full::from(bytes).map_err(|never| match never {}).boxed()
}

fn torn(mut bytes: Vec<u8>, at: usize) -> BoxBody<Bytes, io::Error> {
    bytes.truncate(at);
    pieces(|sender| async move {
        let _ = sender.send(Ok(Bytes::from(bytes))).await;
        let _ = sender.send(Err(io::Error::other("torn"))).await;
    })
}

fn drip(bytes: Vec<u8>, pause: Duration) -> BoxBody<Bytes, io::Error> {
    pieces(move |sender| async move {
        for byte in bytes {
            if sender.send(Ok(Bytes::from(vec![byte]))).await.is_err() {
                return;
            }
            tokio::time::sleep(pause).await;
        }
    })
}

fn endless() -> BoxBody<Bytes, io::Error> {
    pieces(
        |sender| async move { while sender.send(Ok(Bytes::from_static(&[b' '; 65_536]))).await.is_ok() {} },
    )
}

fn pieces<F>(work: impl FnOnce(mpsc::Sender<io::Result<Bytes>>) -> F) -> BoxBody<Bytes, io::Error>
where
    F: Future<Output = ()> + Send + 'static,
{
    let (sender, pieces) = mpsc::channel(1);
    tokio::spawn(work(sender));
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
