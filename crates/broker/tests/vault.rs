//! Keys under HashiCorp Vault's transit engine, against a stand-in of its HTTP API: the product itself is not part of these
//! tests. The stand-in has the paths, fields and statuses of Vault's documentation, and encrypts with AES-256-GCM.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod support;

use confide_broker::BrokerError;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use support::authority::Authority;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use bytes::Bytes;
use confide_broker::kek::{Kek, KekError, Place, VaultError};
use confide_evidence::pem::{base64, base64_text};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use support::*;
use tokio::net::TcpListener;

const TOKEN: &str = "hvs.stand-in";
const PLACE: Place<'_> =
    Place { volume: "model", generation: 1, field: "secret", terms: confide_evidence::bytes::Bytes([1; 32]) };

/// What the stand-in does with requests.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mood {
    Honest,
    Sealed,
    Nonsense,
    Endless,
    /// It does not know the field associated_data.
    Deaf,
}

struct StandIn {
    key: RandomizedNonceKey,
    mood: Mutex<Mood>,
}

impl StandIn {
    async fn start() -> (Arc<Self>, SocketAddr) {
        Self::start_with(None).await
    }

    /// Over TLS, where there is an authority that certifies it.
    async fn start_with(authority: Option<&Authority>) -> (Arc<Self>, SocketAddr) {
        let key = RandomizedNonceKey::new(&AES_256_GCM, &[3; 32]).unwrap();
        let vault = Arc::new(Self { key, mood: Mutex::new(Mood::Honest) });
        let tls = authority.map(acceptor);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = Arc::clone(&vault);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (vault, tls) = (Arc::clone(&serving), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => vault.serve(stream).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                vault.serve(stream).await;
                            }
                        }
                    }
                });
            }
        });
        (vault, address)
    }

    async fn serve(self: Arc<Self>, stream: impl AsyncRead + AsyncWrite + Unpin) {
        let service = service_fn(move |request| {
            let vault = Arc::clone(&self);
            async move { Ok::<_, Infallible>(vault.answer(request).await) }
        });
        let _ =
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let mood = *self.mood.lock().unwrap();
        let answer = |status: u16, body: Vec<u8>| {
            Response::builder().status(status).body(Full::new(Bytes::from(body))).unwrap()
        };
        let errors =
            |status, text: &str| answer(status, json!({ "errors": [text] }).to_string().into_bytes());
        match mood {
            Mood::Sealed => return errors(503, "Vault is sealed"),
            Mood::Nonsense => return answer(200, b"<html>".to_vec()),
            Mood::Endless => return answer(200, vec![b' '; 1 << 20]),
            Mood::Honest | Mood::Deaf => {}
        }
        if request.headers().get("x-vault-token").is_none_or(|token| token != TOKEN) {
            return errors(403, "permission denied");
        }
        let path = request.uri().path().to_owned();
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap();
        let data = base64(body["associated_data"].as_str().unwrap()).unwrap();
        let data = if mood == Mood::Deaf { Vec::new() } else { data };
        match path.as_str() {
            "/v1/transit/encrypt/broker" => {
                let mut text = base64(body["plaintext"].as_str().unwrap()).unwrap();
                let nonce = self.key.seal_in_place_append_tag(Aad::from(&data), &mut text).unwrap();
                let sealed = [nonce.as_ref().as_slice(), &text].concat();
                let ciphertext = format!("vault:v1:{}", base64_text(&sealed));
                answer(
                    200,
                    json!({ "data": { "ciphertext": ciphertext, "key_version": 1 } })
                        .to_string()
                        .into_bytes(),
                )
            }
            "/v1/transit/decrypt/broker" => {
                let text = body["ciphertext"].as_str().unwrap().strip_prefix("vault:v1:");
                let Some(mut sealed) = text.and_then(|text| base64(text).ok()) else {
                    return errors(400, "invalid ciphertext");
                };
                let mut text = sealed.split_off(12);
                let nonce = Nonce::try_assume_unique_for_key(&sealed).unwrap();
                match self.key.open_in_place(nonce, Aad::from(&data), &mut text) {
                    Ok(plain) => {
                        let body = json!({ "data": { "plaintext": base64_text(plain) } });
                        answer(200, body.to_string().into_bytes())
                    }
                    Err(_) => errors(400, "cipher: message authentication failed"),
                }
            }
            _ => errors(404, "no handler for route"),
        }
    }
}

fn acceptor(authority: &Authority) -> TlsAcceptor {
    let certificate = CertificateDer::from_pem_slice(authority.certificate.as_bytes()).unwrap();
    let key = PrivatePkcs8KeyDer::from(authority.key.serialize_der()).into();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

fn kek(home: &Home, address: SocketAddr, key: &str) -> Kek {
    configured(home, &format!("address = \"http://{address}\", key = \"{key}\"")).unwrap()
}

fn configured(home: &Home, settings: &str) -> Result<Kek, BrokerError> {
    let token = home.path("token").display().to_string();
    let text = home.config_text("").replace(
        &format!("file = \"{}\"", home.path("kek").display()),
        &format!("vault = {{ {settings}, token = \"{token}\" }}"),
    );
    let path = std::path::Path::new("broker.toml");
    let config: confide_broker::Config = confide_service::config::parse(text.as_bytes(), path).unwrap();
    config.kek.kek()
}

#[tokio::test]
async fn a_secret_that_vault_encrypts_opens_at_its_place_alone() {
    let (_vault, address) = StandIn::start().await;
    let home = Home::new();
    home.secret("token", format!("{TOKEN}\n").as_bytes());
    let kek = kek(&home, address, "broker");
    let sealed = kek.seal(PLACE, b"secret").await.unwrap();
    assert!(sealed.windows(9).any(|window| window == b"vault:v1:"));
    assert_eq!(kek.open(PLACE, &sealed).await.unwrap().as_slice(), b"secret");
    let other = Place { generation: 2, ..PLACE };
    assert!(matches!(kek.open(other, &sealed).await, Err(KekError::Wrong)));
    let mut changed = sealed.clone();
    *changed.last_mut().unwrap() ^= 1;
    assert!(kek.open(PLACE, &changed).await.is_err());
    kek.check(&home.store().await).await.unwrap();
    // The key of a file does not open what Vault keeps.
    let local = home.config("").kek.kek().unwrap();
    assert!(matches!(local.check(&home.store().await).await, Err(KekError::Kind)));
}

#[tokio::test]
async fn what_vault_refuses_or_garbles_is_an_error_of_its_own() {
    let (vault, address) = StandIn::start().await;
    let home = Home::new();
    home.secret("token", TOKEN.as_bytes());
    let good = kek(&home, address, "broker");
    let sealed = good.seal(PLACE, b"secret").await.unwrap();
    for (mood, expected) in
        [(Mood::Sealed, "status 503"), (Mood::Nonsense, "another form"), (Mood::Endless, "does not answer")]
    {
        *vault.mood.lock().unwrap() = mood;
        for error in [good.seal(PLACE, b"s").await.unwrap_err(), good.open(PLACE, &sealed).await.unwrap_err()]
        {
            assert!(matches!(error, KekError::Vault(_)), "{error}");
            assert!(error.to_string().contains(expected), "{error}: {expected}");
        }
    }
    *vault.mood.lock().unwrap() = Mood::Honest;
    let missing = kek(&home, address, "another").seal(PLACE, b"s").await.unwrap_err();
    assert!(matches!(missing, KekError::Vault(VaultError::Status(404))), "{missing}");
    // The token is read each time: it may have been renewed, or taken away.
    home.secret("token", b"hvs.another");
    assert!(matches!(good.seal(PLACE, b"s").await, Err(KekError::Vault(VaultError::Denied))));
    home.secret("token", b"");
    assert!(matches!(good.seal(PLACE, b"s").await, Err(KekError::Vault(VaultError::Token { .. }))));
    home.secret("token", TOKEN.as_bytes());
    assert_eq!(good.open(PLACE, &sealed).await.unwrap().as_slice(), b"secret");
}

#[tokio::test]
async fn vault_that_does_not_bind_what_it_seals_to_its_place_is_refused() {
    let (vault, address) = StandIn::start().await;
    let home = Home::new();
    home.secret("token", TOKEN.as_bytes());
    *vault.mood.lock().unwrap() = Mood::Deaf;
    let error = kek(&home, address, "broker").check(&home.store().await).await.unwrap_err();
    assert!(matches!(error, KekError::Unbound), "{error}");
    assert_eq!(BrokerError::from(error).code(), "kek_vault");
    *vault.mood.lock().unwrap() = Mood::Honest;
    let home = Home::new();
    home.secret("token", TOKEN.as_bytes());
    kek(&home, address, "broker").check(&home.store().await).await.unwrap();
}

#[tokio::test]
async fn vault_that_is_not_there_is_named() {
    let home = Home::new();
    home.secret("token", TOKEN.as_bytes());
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = kek(&home, free, "broker").seal(PLACE, b"s").await.unwrap_err();
    assert!(matches!(error, KekError::Vault(VaultError::Unreachable(..))), "{error}");
    assert!(error.to_string().contains(&free.to_string()), "{error}");
}

#[tokio::test]
async fn vault_is_asked_over_tls_under_the_configured_authority_alone() {
    let (home, authority, other) = (Home::new(), Authority::new(), Authority::new());
    home.secret("token", TOKEN.as_bytes());
    authority.write_ca(&home.path("ca.pem"));
    other.write_ca(&home.path("other.pem"));
    let (_vault, address) = StandIn::start_with(Some(&authority)).await;
    let under = |host: &str, ca: &str| {
        let (ca, port) = (home.path(ca), address.port());
        let ca = ca.display();
        configured(
            &home,
            &format!("address = \"https://{host}:{port}\", key = \"broker\", ca_certificate = \"{ca}\""),
        )
    };
    let good = under("127.0.0.1", "ca.pem").unwrap();
    let sealed = good.seal(PLACE, b"secret").await.unwrap();
    assert_eq!(good.open(PLACE, &sealed).await.unwrap().as_slice(), b"secret");
    // Another authority, and a name that the certificate is not for.
    for kek in [under("127.0.0.1", "other.pem").unwrap(), under("localhost", "ca.pem").unwrap()] {
        let error = kek.seal(PLACE, b"s").await.unwrap_err();
        assert!(matches!(error, KekError::Vault(VaultError::Unreachable(..))), "{error}");
        assert!(error.to_string().contains("certificate"), "{error}");
    }
    // Those of the system do not know it either.
    let web = configured(&home, &format!("address = \"https://{address}\", key = \"broker\""));
    if let Ok(web) = web {
        assert!(web.seal(PLACE, b"s").await.is_err());
    }
    std::fs::write(home.path("none.pem"), "text").unwrap();
    assert_eq!(under("127.0.0.1", "none.pem").map(|_| ()).unwrap_err().code(), "kek_vault_file");
    assert_eq!(under("127.0.0.1", "missing.pem").map(|_| ()).unwrap_err().code(), "kek_vault_file");
}
