//! A guest as a running process on the loopback interface, and a client that sends what it likes.

#[path = "../../../engine/tests/support/mod.rs"]
#[allow(unused_imports, reason = "shared with the engine's tests")]
pub(crate) mod checkpoint;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use confide_client::{Client, ClientBuilder, PolicyText, Protocols};
use confide_evidence::bytes::{Bytes as Fixed, Digest};
use confide_evidence::document::{
    ATTESTATION_PATH, AttestationRequest, EvidenceDocument, REQUEST_MEDIA_TYPE,
};
use confide_evidence::hash::sha256;
use confide_evidence::transcript::{Binding, EXPORTER_LABEL};
use confide_evidence::x509::Certificate;
use confide_policy::Loaded;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// The name under which tests serve their model.
pub(crate) const MODEL: &str = "random";

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A small random model whose completions run to their limit.
pub(crate) fn model_files(seed: u64) -> BTreeMap<String, Vec<u8>> {
    let mut config = checkpoint::config("LlamaForCausalLM");
    config["eos_token_id"] = Value::Null;
    checkpoint::checkpoint(&config, seed)
}

/// A folder with a configuration and a model.
pub(crate) struct Installation {
    folder: TempDir,
}

impl Installation {
    pub(crate) fn new(files: &BTreeMap<String, Vec<u8>>, tables: &str) -> Self {
        let installation = Self { folder: tempfile::tempdir().unwrap() };
        for (name, content) in files {
            let path = installation.model().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        let model = installation.model();
        let config = format!(
            "listen = \"127.0.0.1:0\"\nplatform = \"simulated\"\n[model]\nname = \"{MODEL}\"\ndirectory = \"{}\"\n{tables}",
            model.display()
        );
        std::fs::write(installation.config(), config).unwrap();
        installation
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn model(&self) -> PathBuf {
        self.folder.path().join("model")
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.folder.path().join("guest.toml")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.folder.path().join("guest.log")
    }
}

/// A running guest. Dropping it kills it.
pub(crate) struct Guest {
    child: Child,
    pub(crate) ready: Value,
    pub(crate) address: SocketAddr,
    pub(crate) installation: Installation,
}

impl Guest {
    /// A guest with the usual model.
    pub(crate) fn start(tables: &str) -> Self {
        Self::with(Installation::new(&model_files(7), tables))
    }

    pub(crate) fn with(installation: Installation) -> Self {
        Self::started_with(installation, |_| {})
    }

    /// A guest whose command is changed before it is started.
    pub(crate) fn started_with(installation: Installation, change: impl FnOnce(&mut Command)) -> Self {
        let log = std::fs::File::create(installation.log()).unwrap();
        let mut command = program();
        command.arg("serve").arg("--config").arg(installation.config());
        change(command.stdout(Stdio::piped()).stderr(log));
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap_or_else(|error| {
            let _ = child.kill();
            panic!("no ready line ({error}): {line:?}\n{}", read(&installation.log()))
        });
        let address = ready["listen"].as_str().unwrap().strip_prefix("https://").unwrap().parse().unwrap();
        Self { child, ready, address, installation }
    }

    pub(crate) fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    pub(crate) fn log(&self) -> String {
        read(&self.installation.log())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The engine process: the guest's only child.
    pub(crate) fn engine(&self) -> u32 {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap();
        let children: String = tasks
            .map(|task| std::fs::read_to_string(task.unwrap().path().join("children")).unwrap())
            .collect();
        let children: Vec<u32> = children.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
        assert_eq!(children.len(), 1, "{children:?}");
        children[0]
    }

    /// Waits until the guest has ended.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(begun.elapsed() < PATIENCE, "the guest does not end\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// The client's SDK under the danger policy.
    pub(crate) fn client(&self) -> Client {
        self.client_offering(Protocols::Http1)
    }

    /// The same, which offers these protocols.
    pub(crate) fn client_offering(&self, protocols: Protocols) -> Client {
        self.builder().protocols(protocols).build()
    }

    /// A client's settings under the danger policy.
    pub(crate) fn builder(&self) -> ClientBuilder {
        let policy = PolicyText::parse(policy(), Loaded::AsDanger).unwrap();
        Client::builder(&self.url(), policy).unwrap()
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_confide-guest"))
}

pub(crate) fn signal(name: &str, pid: u32) {
    // The shell's own `kill`: a bare Debian has no program of that name.
    let status = Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]).status().unwrap();
    assert!(status.success());
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

/// The committed danger policy, for any model under any name, and the numbers of GPUs that tests have.
fn policy() -> String {
    let text = include_str!("../../../../policies/danger-simulator.toml");
    let lines = text.lines().map(|line| match line.split_once(" = ") {
        Some(("model", _)) => "model = { waive = \"a random model\" }",
        Some(("configuration", _)) => "configuration = { waive = \"a random model\" }",
        Some(("gpu_count", _)) => "gpu_count = { any_of = [1, 32] }",
        _ => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// One connection on which anything can be sent.
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    /// Keying material by nonce, taken before HTTP took the stream.
    exported: BTreeMap<[u8; 32], [u8; 32]>,
    spki: Digest,
}

/// An answer.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| {
            panic!("{error}: {} {}", self.status, String::from_utf8_lossy(&self.body))
        })
    }

    /// Status and code of an error in the form of the OpenAI API.
    pub(crate) fn refusal(&self) -> (u16, String) {
        let error = &self.json()["error"];
        assert!(error["message"].is_string() && error["type"].is_string(), "{error}");
        assert!(error.as_object().unwrap().contains_key("param"), "{error}");
        (self.status.as_u16(), error["code"].as_str().unwrap().to_owned())
    }
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> Self {
        let stream = connect(address).await.unwrap();
        let connection = stream.get_ref().1;
        let spki = sha256(&Certificate::parse(&connection.peer_certificates().unwrap()[0]).unwrap().spki);
        let mut exported = BTreeMap::new();
        for fill in 0..=u8::MAX {
            let nonce = [fill; 32];
            let material = connection.export_keying_material([0; 32], EXPORTER_LABEL, Some(&nonce)).unwrap();
            exported.insert(nonce, material);
        }
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self { sender, exported, spki }
    }

    pub(crate) async fn send(&mut self, request: Request<Full<Bytes>>) -> Answer {
        self.sender.ready().await.unwrap();
        let answer =
            tokio::time::timeout(PATIENCE, self.sender.send_request(request)).await.unwrap().unwrap();
        let (parts, body) = answer.into_parts();
        let body = tokio::time::timeout(PATIENCE, body.collect()).await.unwrap().unwrap().to_bytes().to_vec();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        self.send(request(Method::GET, path, None, Vec::new())).await
    }

    pub(crate) async fn post(&mut self, path: &str, media_type: &str, body: impl Into<Vec<u8>>) -> Answer {
        self.send(request(Method::POST, path, Some(media_type), body.into())).await
    }

    pub(crate) async fn chat(&mut self, body: &Value) -> Answer {
        self.post("/v1/chat/completions", "application/json", body.to_string()).await
    }

    /// The document for a nonce of one repeated byte, and what it must be bound to.
    pub(crate) async fn attest(&mut self, fill: u8) -> (EvidenceDocument, Binding) {
        let nonce = Fixed([fill; 32]);
        let body = AttestationRequest { nonce }.encode();
        let answer = self.post(ATTESTATION_PATH, REQUEST_MEDIA_TYPE, body).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", String::from_utf8_lossy(&answer.body));
        let binding = Binding::Serve { nonce, exporter: Fixed(self.exported[&nonce.0]), tls_spki: self.spki };
        (EvidenceDocument::decode(&answer.body).unwrap(), binding)
    }
}

pub(crate) fn request(
    method: Method,
    path: &str,
    media_type: Option<&str>,
    body: Vec<u8>,
) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method(method).uri(path).header("host", "localhost");
    if let Some(media_type) = media_type {
        request = request.header("content-type", media_type);
    }
    request.body(Full::from(body)).unwrap()
}

/// A TLS connection to whoever holds the key of its certificate.
pub(crate) async fn connect(address: SocketAddr) -> std::io::Result<TlsStream<TcpStream>> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(HeldKey(provider)))
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, TcpStream::connect(address).await?).await
}

#[derive(Debug)]
struct HeldKey(Arc<CryptoProvider>);

impl ServerCertVerifier for HeldKey {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        unreachable!("TLS 1.2 is not offered")
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
