//! A running local endpoint, and a plain program that talks to it.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]

use bytes::Bytes;
use confide_client::fleet::{Backoff, Fleet, FleetBuilder};
use confide_client::proxy::{Access, Exposure, Proxy};
use confide_client::{Client, PolicyText};
use confide_policy::Loaded;
use confide_testkit::guest::Guest;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub const SECRET: &str = "the secret question";
pub const CHAT: &str = "/v1/chat/completions";
/// How long anything that must come to pass may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

pub type Answer = http::Response<hyper::body::Incoming>;

pub fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// A fleet under a policy, impatient where a user's is patient.
pub fn fleet(policy: String, urls: &[String]) -> FleetBuilder {
    let policy = PolicyText::parse(policy, Loaded::AsDanger).unwrap();
    let begin =
        move |endpoint: &confide_client::Endpoint| Client::builder(&endpoint.to_string(), policy.clone());
    let soon = Backoff { first: Duration::from_millis(20), longest: Duration::from_millis(100) };
    let builder = Fleet::builder(begin).quarantine(soon).unreachable(soon);
    urls.iter().fold(builder, |builder, url| builder.upstream(url).unwrap())
}

/// A listening endpoint; it ends when dropped.
pub struct Endpoint {
    pub address: SocketAddr,
    pub fleet: Fleet,
    /// Its end begins a drain.
    pub stop: Option<oneshot::Sender<()>>,
    /// Its end cuts what is under way then.
    pub cut: Option<oneshot::Sender<()>>,
    /// Gives how many requests were cut.
    pub served: JoinHandle<usize>,
}

impl Endpoint {
    pub async fn new(fleet: Fleet) -> Self {
        Self::guarded(fleet, Access::open()).await
    }

    pub async fn guarded(fleet: Fleet, access: Access) -> Self {
        let proxy = Proxy::bind(fleet.clone(), access, loopback(), Exposure::Loopback).await.unwrap();
        let address = proxy.address();
        let (stop, stopped) = oneshot::channel();
        let (cut, limit) = oneshot::channel::<()>();
        #[expect(clippy::async_yields_async, reason = "what limits the drain begins with it")]
        let end = async {
            drop(stopped.await);
            async { drop(limit.await) }
        };
        let served = tokio::spawn(proxy.serve(end));
        Self { address, fleet, stop: Some(stop), cut: Some(cut), served }
    }

    pub async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Answer {
        send(self.address, method, path, headers, body).await
    }

    pub async fn ask(&self, model: &str) -> Answer {
        self.send("POST", CHAT, &[("content-type", "application/json")], question(model)).await
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        let answer = self.send("GET", path, &[], vec![]).await;
        (answer.status().as_u16(), serde_json::from_slice(&whole(answer).await).unwrap())
    }

    pub async fn status(&self) -> Value {
        self.get("/_confide/status").await.1
    }

    /// What the status says of an instance.
    pub async fn instance(&self, address: SocketAddr) -> Value {
        let status = self.status().await;
        let instances = status["instances"].as_array().unwrap();
        let instance = instances.iter().find(|one| one["instance"] == address.to_string());
        instance.unwrap_or_else(|| panic!("{address} in {status}")).clone()
    }

    /// Waits until the status says that an instance is in a state.
    pub async fn until(&self, address: SocketAddr, state: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let instance = self.instance(address).await;
            if instance["state"] == state {
                return;
            }
            assert!(Instant::now() < deadline, "not {state}: {instance}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub async fn metrics(&self) -> String {
        let answer = self.send("GET", "/_confide/metrics", &[], vec![]).await;
        assert_eq!(answer.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
        String::from_utf8(whole(answer).await).unwrap()
    }
}

/// Waits until something is so.
pub async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not so: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub fn question(model: &str) -> Vec<u8> {
    json!({ "model": model, "messages": [{ "role": "user", "content": SECRET }] }).to_string().into_bytes()
}

pub async fn send(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Vec<u8>,
) -> Answer {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake::<_, Full<Bytes>>(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut request = http::Request::builder().method(method).uri(path);
    if !headers.iter().any(|(name, _)| *name == "host") {
        request = request.header("host", address.to_string());
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    sender.send_request(request.body(Full::from(body)).unwrap()).await.unwrap()
}

pub async fn whole(answer: Answer) -> Vec<u8> {
    answer.into_body().collect().await.unwrap().to_bytes().to_vec()
}

/// Holds an answer against the form of the OpenAI API's errors; gives its fields.
pub async fn fields(answer: Answer, status: u16) -> Value {
    let found = answer.status();
    let headers = answer.headers().clone();
    let text = String::from_utf8(whole(answer).await).unwrap();
    assert_eq!(found, status, "{text}");
    assert_eq!(headers["content-type"], "application/json");
    assert!(!headers.contains_key("x-confide-verdict"));
    let body: Value = serde_json::from_str(&text).unwrap();
    let fields = body["error"].as_object().unwrap();
    let mut names: Vec<&str> = fields.keys().map(String::as_str).filter(|name| *name != "check").collect();
    names.sort_unstable();
    assert_eq!(names, ["code", "message", "param", "type"]);
    assert!(fields["param"].is_null() && !fields["message"].as_str().unwrap().is_empty());
    body["error"].clone()
}

/// Type and code of an error.
pub async fn error(answer: Answer, status: u16) -> (String, String) {
    let fields = fields(answer, status).await;
    let text = |name: &str| fields[name].as_str().unwrap().to_owned();
    (text("type"), text("code"))
}

/// Whether all that a guest got was attestation requests.
pub fn was_only_attested(guest: &Guest) -> bool {
    guest.requests().len() == guest.attestations() && !guest.saw(SECRET.as_bytes())
}
