//! A broker for tests: the messages and the sealing are those of `confide-release`, the decision is a test's.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes as Body;
use confide_evidence::bytes::{ByteString, Bytes};
use confide_evidence::document::{CpuEvidence, EvidenceDocument, KemKey, KeySet, devices_digest};
use confide_evidence::tdx::{Padding, Quote};
use confide_evidence::transcript::{Binding, Transcript};
use confide_release::{
    CHALLENGE_PATH, Challenge, FAILURE_PATH, FORMATTED_PATH, Failure, Formatted, IdentityKey, MEDIA_TYPE,
    Profile, RELEASE_PATH, Refusal, ReleaseAnswer, ReleaseRequest, SealedVolume, Secret, Verity, Version,
    VolumeSecrets, seal, signing_input,
};
use http::header::CONTENT_TYPE;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rcgen::{CertificateParams, KeyPair, PKCS_ED25519, PublicKeyData as _, SigningKey as _};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use zeroize::Zeroizing;

/// The time that it gives.
pub(super) const TIME: u64 = 1_795_000_000;
/// The digest of the committed header.
pub(super) const COMMITTED: Bytes<32> = Bytes([0xc0; 32]);
/// What a volume that is yet to be formatted is formatted under.
pub(super) const TOKEN: Bytes<32> = Bytes([0x70; 32]);

/// A broker's keys.
pub(super) struct Identity(KeyPair);

impl Identity {
    pub(super) fn draw() -> Self {
        Self(KeyPair::generate_for(&PKCS_ED25519).unwrap())
    }

    /// That of a broker's file.
    pub(super) fn read(file: &Path) -> Self {
        Self(KeyPair::from_pem(&std::fs::read_to_string(file).unwrap()).unwrap())
    }

    pub(super) fn public(&self) -> IdentityKey {
        IdentityKey::from_der(&self.0.subject_public_key_info()).unwrap()
    }

    /// The private key, PKCS #8.
    pub(super) fn key(&self) -> Vec<u8> {
        self.0.serialize_der()
    }

    fn certificate(&self) -> CertificateDer<'static> {
        CertificateParams::new(vec!["anything".to_owned()])
            .unwrap()
            .self_signed(&self.0)
            .unwrap()
            .der()
            .clone()
    }

    fn signed(&self, message: &[u8]) -> Bytes<64> {
        self.0.sign(message).unwrap().try_into().unwrap()
    }
}

/// What it does with a request that came to the right place.
#[derive(Clone)]
pub(super) enum Decision {
    /// Releases these secrets for each volume that is asked for.
    Release(fn(&str) -> VolumeSecrets),
    /// Refuses with a status and a code.
    Refuse(StatusCode, &'static str),
    /// Answers so many requests for a challenge with 503, then releases.
    Overloaded(u32, fn(&str) -> VolumeSecrets),
    /// Ends so many connections instead of releasing, then releases.
    BreaksOff(u32, fn(&str) -> VolumeSecrets),
    /// Gives the first answer again, whatever is asked.
    Replay(fn(&str) -> VolumeSecrets),
    /// Answers about another volume than the one that was asked for.
    OtherVolume(fn(&str) -> VolumeSecrets),
    /// Says so many bytes of nothing.
    Babbles(usize),
    /// What a real broker decides, which holds the same key.
    Real(Arc<confide_broker::Broker>),
}

/// What it has seen.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) challenges: Vec<Bytes<32>>,
    pub(super) documents: Vec<EvidenceDocument>,
    pub(super) volumes: Vec<Vec<String>>,
    pub(super) formatted: Vec<Formatted>,
    pub(super) failures: Vec<Failure>,
    answer: Option<Vec<u8>>,
}

/// A running broker.
pub(super) struct Standin {
    pub(super) address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    accepting: JoinHandle<()>,
}

impl Drop for Standin {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Standin {
    /// One that holds `identity`'s key, and shows its certificate.
    pub(super) async fn start(identity: Identity, decision: Decision) -> Self {
        let key = identity.key();
        Self::showing(identity, key, decision).await
    }

    /// One that shows `identity`'s certificate, and holds the key `key` (PKCS #8).
    pub(super) async fn showing(identity: Identity, key: Vec<u8>, decision: Decision) -> Self {
        let key = PrivateKeyDer::try_from(key).unwrap();
        let provider = aws_lc_rs::default_provider();
        let signer = provider.key_provider.load_private_key(key).unwrap();
        let certified = rustls::sign::CertifiedKey::new(vec![identity.certificate()], signer);
        let config = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(certified)));
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let shared = Arc::new((identity, decision, Arc::clone(&seen)));
        let accepting = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, shared) = (acceptor.clone(), Arc::clone(&shared));
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let answer = service_fn(|request| {
                        let shared = Arc::clone(&shared);
                        async move { answer(&shared.0, &shared.1, &shared.2, request).await }
                    });
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), answer)
                        .await;
                });
            }
        });
        Self { address, seen, accepting }
    }

    pub(super) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }
}

async fn answer(
    identity: &Identity,
    decision: &Decision,
    seen: &Mutex<Seen>,
    request: Request<Incoming>,
) -> Result<Response<Full<Body>>, std::io::Error> {
    let path = request.uri().path().to_owned();
    assert_eq!(request.headers()[CONTENT_TYPE], MEDIA_TYPE);
    let body = request.into_body().collect().await.unwrap().to_bytes();
    if let Decision::Real(broker) = decision {
        return Ok(of_a_broker(broker, &path, &body).await);
    }
    let mut seen = seen.lock().unwrap();
    let (status, body) = match path.as_str() {
        CHALLENGE_PATH => challenge(decision, &mut seen),
        RELEASE_PATH => match release(identity, decision, &mut seen, &body) {
            Some(answer) => answer,
            None => return Err(std::io::ErrorKind::ConnectionAborted.into()),
        },
        FORMATTED_PATH => {
            seen.formatted.push(Formatted::decode(&body).unwrap());
            (StatusCode::NO_CONTENT, Vec::new())
        }
        FAILURE_PATH => {
            seen.failures.push(Failure::decode(&body).unwrap());
            (StatusCode::NO_CONTENT, Vec::new())
        }
        path => panic!("no such path: {path}"),
    };
    Ok(Response::builder().status(status).body(Full::from(body)).unwrap())
}

async fn of_a_broker(broker: &confide_broker::Broker, path: &str, body: &[u8]) -> Response<Full<Body>> {
    let answered = match path {
        CHALLENGE_PATH => {
            broker.challenge(Ipv4Addr::LOCALHOST.into()).await.map(|challenge| challenge.encode())
        }
        RELEASE_PATH => broker.release(body, Ipv4Addr::LOCALHOST.into()).await,
        path => panic!("no boot here asks for {path}"),
    };
    let (status, body) = match answered {
        Ok(body) => (StatusCode::OK, body),
        Err(denial) => (denial.status, denial.refusal.to_json(denial.status.as_u16())),
    };
    Response::builder().status(status).body(Full::from(body)).unwrap()
}

fn challenge(decision: &Decision, seen: &mut Seen) -> (StatusCode, Vec<u8>) {
    if let Decision::Overloaded(times, _) = decision
        && seen.challenges.len() < *times as usize
    {
        seen.challenges.push(Bytes([0; 32]));
        return (StatusCode::SERVICE_UNAVAILABLE, Refusal::new("overloaded", "later").to_json(503));
    }
    let number = u8::try_from(seen.challenges.len()).unwrap();
    let nonce = Bytes([number.wrapping_add(1); 32]);
    seen.challenges.push(nonce);
    (StatusCode::OK, Challenge { nonce, expires_at: TIME + 60 }.encode())
}

fn release(
    identity: &Identity,
    decision: &Decision,
    seen: &mut Seen,
    body: &[u8],
) -> Option<(StatusCode, Vec<u8>)> {
    let request = ReleaseRequest::decode(body).unwrap();
    assert_eq!(
        Some(&request.nonce),
        seen.challenges.last(),
        "a challenge is answered once, and the newest one"
    );
    let (document, recipient) = appraised(&request, &identity.public());
    seen.documents.push(document);
    let names = request.volumes.iter().map(|name| name.as_str().to_owned()).collect();
    seen.volumes.push(names);
    let secrets = match decision {
        Decision::Refuse(status, code) => {
            return Some((*status, Refusal::new(code, "the evidence is refused").to_json(status.as_u16())));
        }
        Decision::BreaksOff(times, _) if seen.documents.len() <= *times as usize => return None,
        Decision::Babbles(bytes) => return Some((StatusCode::OK, vec![0x61; *bytes])),
        Decision::Replay(secrets) => {
            let answer = released(identity, &request, &recipient, *secrets);
            return Some((StatusCode::OK, seen.answer.get_or_insert(answer).clone()));
        }
        Decision::OtherVolume(secrets) => {
            let other = ReleaseRequest { volumes: vec!["other".parse().unwrap()], ..request };
            return Some((StatusCode::OK, released(identity, &other, &recipient, *secrets)));
        }
        Decision::Release(secrets) | Decision::Overloaded(_, secrets) | Decision::BreaksOff(_, secrets) => {
            secrets
        }
        Decision::Real(_) => unreachable!("it has answered"),
    };
    Some((StatusCode::OK, released(identity, &request, &recipient, *secrets)))
}

/// What any broker asks of evidence, short of the quote's signature: events, binding, and that the quote is over both.
fn appraised(request: &ReleaseRequest, identity: &IdentityKey) -> (EvidenceDocument, KemKey) {
    let document = EvidenceDocument::decode(request.document.as_bytes()).unwrap();
    let (boot, configuration) = document.events.key_release().unwrap();
    assert_eq!(boot.broker_key.as_ref().map(ByteString::as_bytes), Some(identity.to_der().as_bytes()));
    assert_eq!((boot.boot_id, configuration.digest), (document.boot_id, document.claims.configuration));
    let CpuEvidence::Tdx { quote } = &document.cpu else { panic!("{:?}", document.cpu) };
    let quote = Quote::parse(quote.as_bytes(), Padding::Refused).unwrap();
    let transcript = Transcript {
        binding: Binding::KeyRelease { nonce: request.nonce },
        keyset: document.key_set.digest(),
        devices: devices_digest(&document.devices),
        claims: document.claims.digest(),
        boot_id: document.boot_id,
    };
    assert_eq!(quote.report.report_data, &transcript.report_data());
    assert_eq!(quote.report.rtmr[3], &document.events.replay());
    let distinct: BTreeSet<_> = request.volumes.iter().collect();
    assert_eq!(distinct.len(), request.volumes.len());
    let KeySet::Recipient(recipient) = document.key_set.clone() else { panic!("{:?}", document.key_set) };
    (document, recipient)
}

fn released(
    identity: &Identity,
    request: &ReleaseRequest,
    recipient: &KemKey,
    secrets: fn(&str) -> VolumeSecrets,
) -> Vec<u8> {
    let sealed = |id| seal(recipient, &request.nonce, id, &secrets(id.as_str())).unwrap();
    let volumes: Vec<SealedVolume> = request.volumes.iter().map(sealed).collect();
    let signed = signing_input(request.document.as_bytes(), &request.nonce, recipient, TIME, &volumes);
    let signature = identity.signed(&signed);
    ReleaseAnswer { time: TIME, volumes, signature, endorsements: None }.encode()
}

fn version(header: Option<Bytes<32>>, generation: u64) -> Version {
    Version { header, secret: Secret::new(Zeroizing::new([9; 64])), generation }
}

/// Secrets of the profile that the volume's name begins with; `new` for a state that is yet to be formatted.
pub(super) fn secrets(name: &str) -> VolumeSecrets {
    let verity = Verity { root: Bytes([0x0a; 32]), salt: Bytes([2; 32]), data_blocks: 3 };
    let model = name.starts_with("model");
    let new = name.starts_with("new");
    VolumeSecrets {
        size: 4096,
        verity: model.then_some(verity),
        profile: if model { Profile::Model } else { Profile::State },
        versions: vec![version((!new).then_some(COMMITTED), 3)],
        format_token: new.then_some(TOKEN),
    }
}
