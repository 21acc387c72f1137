//! HashiCorp Vault's transit engine (its HTTP API, version 1): encrypt and decrypt under a key that Vault keeps.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use confide_evidence::pem::{self, base64, base64_text};
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

use crate::identity::{IdentityError, secret_file};

/// What an answer may take, connection included.
const TIME: Duration = Duration::from_secs(10);
/// The most bytes of an answer. Ours have under 1 KiB.
const MAX_ANSWER: usize = 64 * 1024;
/// The largest file with a token, in bytes. Vault's have under 200.
const MAX_TOKEN: u64 = 4096;
/// The largest file with certificates, in bytes: a system's whole store of authorities has under 300 KiB.
const MAX_PEM: u64 = 1024 * 1024;

/// Why Vault does not do what it is asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VaultError {
    /// The file with the token, or with the authority's certificate, cannot be used.
    #[error(transparent)]
    File(#[from] IdentityError),
    /// The token has characters that no header field takes.
    #[error("{path}: expected Vault's token, in one line of visible ASCII characters")]
    Token {
        /// The file.
        path: PathBuf,
    },
    /// There is no certificate authority to trust.
    #[error("{0}")]
    Trust(String),
    /// Nobody answers, or not in time, or not in HTTP.
    #[error("Vault at {0} does not answer: {1}")]
    Unreachable(String, String),
    /// The token may not use the key, or is over.
    #[error("Vault refuses the token (status 403)")]
    Denied,
    /// What was to be decrypted was not encrypted under this key for this place.
    #[error("Vault cannot decrypt what the database holds (status 400)")]
    Undecipherable,
    /// Another answer.
    #[error("Vault answers with status {0}")]
    Status(u16),
    /// An answer of success in another form.
    #[error("Vault answers in another form than its transit engine does")]
    Form,
}

/// Where Vault is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct VaultAddress {
    scheme: Scheme,
    host: String,
    port: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
}

impl TryFrom<String> for VaultAddress {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let expected = "expected https://HOST[:PORT], or http://127.0.0.1:PORT for an agent on this machine";
        let uri: Uri = text.parse().map_err(|_| expected)?;
        let host = uri.host().ok_or(expected)?.to_owned();
        let scheme = match uri.scheme_str() {
            Some("https") => Scheme::Https,
            Some("http") if ["127.0.0.1", "[::1]", "localhost"].contains(&host.as_str()) => Scheme::Http,
            _ => return Err(expected),
        };
        let plain = matches!(uri.path(), "" | "/") && uri.query().is_none();
        if !plain || uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err(expected);
        }
        Ok(Self { scheme, host, port: uri.port_u16().unwrap_or(8200) })
    }
}

impl fmt::Display for VaultAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.scheme == Scheme::Http { "http" } else { "https" };
        write!(f, "{scheme}://{}:{}", self.host, self.port)
    }
}

/// How Vault is asked.
#[derive(Clone, Debug)]
pub struct VaultSettings {
    /// Where it is.
    pub address: VaultAddress,
    /// Where the transit engine is mounted.
    pub mount: String,
    /// The key's name: of a type with associated data, such as `aes256-gcm96`.
    pub key: String,
    /// The namespace, in Vault Enterprise.
    pub namespace: Option<String>,
    /// The file with the token. It is read for each request: agents renew it.
    pub token: PathBuf,
    /// Certificate authorities, PEM; without them those of the system.
    pub ca_certificate: Option<PathBuf>,
}

/// A key of Vault's.
pub struct Vault {
    settings: VaultSettings,
    tls: Option<TlsConnector>,
}

#[derive(Serialize)]
struct Encrypt<'a> {
    plaintext: &'a str,
    associated_data: &'a str,
}

#[derive(Serialize)]
struct Decrypt<'a> {
    ciphertext: &'a str,
    associated_data: &'a str,
}

/// Other members of the answer are not looked at.
#[derive(Deserialize)]
struct Answer<T> {
    data: T,
}

#[derive(Deserialize)]
struct Ciphertext {
    ciphertext: String,
}

/// Borrowed, so that the secret stands in one buffer, which is overwritten.
#[derive(Deserialize)]
struct Plaintext<'a> {
    #[serde(borrow)]
    plaintext: &'a str,
}

impl Vault {
    /// A key of Vault's. Nobody is asked yet.
    ///
    /// # Errors
    /// [`VaultError::Trust`], and [`VaultError::File`] where the certificates cannot be read.
    pub fn new(settings: VaultSettings) -> Result<Self, VaultError> {
        let tls = match settings.address.scheme {
            Scheme::Http => None,
            Scheme::Https => Some(TlsConnector::from(Arc::new(client_config(&settings)?))),
        };
        Ok(Self { settings, tls })
    }

    /// Encrypts, and gives Vault's own form of it (`vault:v1:…`).
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn encrypt(&self, secret: &[u8], associated_data: &[u8]) -> Result<String, VaultError> {
        let (plaintext, associated_data) =
            (Zeroizing::new(base64_text(secret)), base64_text(associated_data));
        let body = json(&Encrypt { plaintext: &plaintext, associated_data: &associated_data })?;
        let answer = self.post("encrypt", body).await?;
        let answer: Answer<Ciphertext> = serde_json::from_slice(&answer).map_err(|_| VaultError::Form)?;
        Ok(answer.data.ciphertext)
    }

    /// Decrypts what [`Self::encrypt`] gave, for the same associated data.
    ///
    /// # Errors
    /// [`VaultError`]: [`VaultError::Undecipherable`] for anything else.
    pub async fn decrypt(
        &self,
        ciphertext: &str,
        associated_data: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        let associated_data = base64_text(associated_data);
        let body = json(&Decrypt { ciphertext, associated_data: &associated_data })?;
        let answer = self.post("decrypt", body).await.map_err(|error| match error {
            VaultError::Status(400) => VaultError::Undecipherable,
            error => error,
        })?;
        let answer: Answer<Plaintext<'_>> = serde_json::from_slice(&answer).map_err(|_| VaultError::Form)?;
        base64(answer.data.plaintext).map(Zeroizing::new).map_err(|_| VaultError::Form)
    }

    async fn post(&self, what: &str, body: Vec<u8>) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        let request = self.request(what, body)?;
        let unreachable = |why: String| VaultError::Unreachable(self.settings.address.to_string(), why);
        let asked = tokio::time::timeout(TIME, self.ask(request)).await;
        let (status, body) =
            asked.map_err(|_| unreachable("no answer in time".to_owned()))?.map_err(unreachable)?;
        match status {
            StatusCode::OK => Ok(body),
            StatusCode::FORBIDDEN => Err(VaultError::Denied),
            other => Err(VaultError::Status(other.as_u16())),
        }
    }

    fn request(&self, what: &str, body: Vec<u8>) -> Result<Request<Full<Bytes>>, VaultError> {
        let VaultSettings { address, mount, key, namespace, token, .. } = &self.settings;
        let form = || VaultError::Token { path: token.clone() };
        let bytes = secret_file(token, MAX_TOKEN).map_err(|error| match error {
            IdentityError::Invalid { .. } => form(),
            error => error.into(),
        })?;
        let line = bytes.trim_ascii();
        if line.is_empty() || !line.iter().all(u8::is_ascii_graphic) {
            return Err(form());
        }
        let mut value = HeaderValue::from_bytes(line).map_err(|_| form())?;
        value.set_sensitive(true);
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(format!("/v1/{mount}/{what}/{key}"))
            .header(HOST, format!("{}:{}", address.host, address.port))
            .header(CONTENT_TYPE, "application/json")
            .header("x-vault-request", "true")
            .header("x-vault-token", value);
        if let Some(namespace) = namespace {
            request = request.header("x-vault-namespace", namespace);
        }
        request.body(Full::new(body.into())).map_err(|_| VaultError::Form)
    }

    async fn ask(&self, request: Request<Full<Bytes>>) -> Result<(StatusCode, Zeroizing<Vec<u8>>), String> {
        let VaultAddress { host, port, .. } = &self.settings.address;
        let bare = host.trim_matches(['[', ']']);
        let stream = TcpStream::connect((bare, *port)).await.map_err(|error| error.to_string())?;
        match &self.tls {
            None => exchange(stream, request).await,
            Some(tls) => {
                let name = ServerName::try_from(bare.to_owned()).map_err(|error| error.to_string())?;
                let stream = tls.connect(name, stream).await.map_err(|error| error.to_string())?;
                exchange(stream, request).await
            }
        }
    }
}

async fn exchange<S>(
    stream: S,
    request: Request<Full<Bytes>>,
) -> Result<(StatusCode, Zeroizing<Vec<u8>>), String>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    let work = tokio::spawn(connection);
    let answered = async {
        let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
        let body = body.map_err(|error| error.to_string())?.to_bytes();
        Ok((status, Zeroizing::new(body.to_vec())))
    };
    let answered = answered.await;
    work.abort();
    answered
}

fn json(body: &impl Serialize) -> Result<Vec<u8>, VaultError> {
    serde_json::to_vec(body).map_err(|_| VaultError::Form)
}

fn client_config(settings: &VaultSettings) -> Result<ClientConfig, VaultError> {
    let mut roots = RootCertStore::empty();
    match &settings.ca_certificate {
        Some(path) => {
            let text =
                read_pem(path).map_err(|error| VaultError::Trust(format!("{}: {error}", path.display())))?;
            for certificate in text {
                roots
                    .add(CertificateDer::from(certificate))
                    .map_err(|error| VaultError::Trust(format!("{}: {error}", path.display())))?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        return Err(VaultError::Trust(
            "no certificate authority is there to verify Vault's certificate".to_owned(),
        ));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| VaultError::Trust(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

fn read_pem(path: &std::path::Path) -> Result<Vec<Vec<u8>>, String> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    file.take(MAX_PEM.saturating_add(1)).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > MAX_PEM) {
        return Err(format!("expected at most {MAX_PEM} bytes"));
    }
    pem::certificates(&bytes).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_https_or_this_machine() {
        for good in
            ["https://vault.example", "https://vault.example:443/", "http://127.0.0.1:8200", "http://[::1]:1"]
        {
            assert!(VaultAddress::try_from(good.to_owned()).is_ok(), "{good}");
        }
        let address = VaultAddress::try_from("https://vault.example".to_owned()).unwrap();
        assert_eq!(address.to_string(), "https://vault.example:8200");
        for wrong in [
            "http://vault.example",
            "vault.example",
            "https://",
            "https://v/x",
            "https://v?x",
            "https://u@v",
            "ftp://v",
        ] {
            assert!(VaultAddress::try_from(wrong.to_owned()).is_err(), "{wrong}");
        }
    }
}
