//! Vendors' services in this process: what Intel's PCS, a PCCS, AMD's KDS or NVIDIA's services would answer, from given
//! endorsements, honest or misbehaving in chosen ways. And a proxy on the way to them.

mod answer;
mod connect;
mod platform;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Result, anyhow};
use confide_evidence::document::TdxCollateral;
use confide_evidence::ocsp::OcspResponse;
use confide_evidence::pem;
use confide_evidence::x509::Crl;
use confide_simulator::SimulatedNode;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivateKeyDer;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::gpu::GpuEvidence;
use crate::snp::SnpEvidence;
pub use confide_simulator::{FMSPC, PlatformOptions, Window};
pub use connect::ConnectProxy;
pub use platform::Platform;

/// Words of the issuers of the lists that NVIDIA publishes, and where they are.
const NVIDIA_CRLS: [(&str, &str); 4] = [
    ("Device Identity CA", "/crl/l1-root.crl"),
    ("GH100 Identity", "/crl/l2-gh100.crl"),
    ("GB100 Identity", "/crl/l2-gb100.crl"),
    ("CoRIM signing Root CA", "/crl-corim/l1-corim"),
];

/// In whose manner a service answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Intel's PCS: lists as DER, the root CA's in a place of its own.
    Pcs,
    /// A PCCS: lists as hexadecimal digits, the root CA's beside the rest.
    Pccs,
}

/// Which TLS versions a service speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsVersions {
    /// 1.2 and 1.3.
    #[default]
    Both,
    /// 1.2 alone.
    Only12,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Endpoint {
    /// TCB info.
    TcbInfo,
    /// QE identity.
    QeIdentity,
    /// A PCK CRL.
    PckCrl,
    /// The root CA's CRL.
    RootCaCrl,
    /// The certificate of a VCEK, a file of [`Vendor::file`].
    Vcek,
    /// AMD's certificates above a signing key, such a file.
    AmdChain,
    /// The list of AMD's root key, such a file.
    AmdCrl,
    /// A RIM of NVIDIA's, such a file.
    Rim,
    /// The list of NVIDIA's RIMs, such a file.
    RimIds,
    /// What NVIDIA's OCSP responder says: [`Vendor::answering`].
    Ocsp,
    /// A revocation list of NVIDIA's, a file.
    NvidiaCrl,
    /// Any other such file.
    File,
}

/// What a service does with one request.
#[derive(Clone, Debug)]
pub enum Misdeed {
    /// A status and a header field, without a body.
    Status(u16, Option<(&'static str, String)>),
    /// The honest answer after a pause.
    Late(Duration),
    /// Nothing, for as long as the connection is open.
    Silent,
    /// The honest answer, one byte at a time with this pause between.
    Drip(Duration),
    /// Half of the announced body, then the connection ends.
    Truncated,
    /// Half of the body, of which no length was announced.
    Cut,
    /// Closes the connection without an answer.
    HangUp,
    /// The honest answer with this media type.
    MediaType(&'static str),
    /// The honest answer with a field that claims an encoding.
    ContentEncoding(&'static str),
    /// Bytes without end.
    Endless,
    /// Announces a body of this length.
    Announced(usize),
    /// The honest answer with the issuer chain as it is.
    RawChain,
    /// The honest answer with the issuer chain encoded twice.
    ChainEncodedTwice,
    /// The honest answer without issuer chain.
    NoChain,
    /// The honest answer with the issuer chain twice.
    TwoChains,
    /// Other bytes in place of the body.
    Body(Vec<u8>),
}

/// A service. Clones are the same one.
#[derive(Clone)]
pub struct Vendor {
    inner: Arc<Inner>,
}

struct Inner {
    manner: Manner,
    tls: Arc<ServerConfig>,
    certificate: String,
    authority: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// By update (`standard`, `early`).
    collateral: BTreeMap<String, TdxCollateral>,
    /// By path and query: media type and body.
    files: BTreeMap<String, (&'static str, Vec<u8>)>,
    /// What happens to the next requests.
    script: BTreeMap<Endpoint, VecDeque<Misdeed>>,
    /// What happens to all requests after those.
    habit: BTreeMap<Endpoint, Misdeed>,
    /// By serial number of the certificate that they are about.
    answers: BTreeMap<Vec<u8>, Vec<u8>>,
    requests: Vec<String>,
    /// Media types and bodies.
    posted: Vec<(String, Vec<u8>)>,
}

/// A service that listens on 127.0.0.1; it stops when dropped.
pub struct ListeningVendor {
    /// The service.
    pub vendor: Vendor,
    /// Where it listens.
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

impl Vendor {
    /// A service with a TLS certificate of its own for 127.0.0.1 and localhost. It has nothing yet.
    ///
    /// # Errors
    /// When keys or certificates cannot be made.
    pub fn new(manner: Manner) -> Result<Self> {
        Self::speaking(manner, TlsVersions::Both)
    }

    /// As [`new`](Self::new), of chosen TLS versions.
    ///
    /// # Errors
    /// As there.
    pub fn speaking(manner: Manner, versions: TlsVersions) -> Result<Self> {
        let authority_key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let mut authority = CertificateParams::default();
        authority.distinguished_name.push(DnType::CommonName, "Confide test authority");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let authority_pem = authority.self_signed(&authority_key)?.pem();
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let certificate =
            CertificateParams::new(names)?.signed_by(&key, &Issuer::new(authority, authority_key))?;
        let versions: &[_] = match versions {
            TlsVersions::Both => &[&rustls::version::TLS12, &rustls::version::TLS13],
            TlsVersions::Only12 => &[&rustls::version::TLS12],
        };
        let private = PrivateKeyDer::try_from(key.serialize_der()).map_err(|error| anyhow!(error))?;
        let tls = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(versions)?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], private)?;
        let inner = Inner {
            manner,
            tls: Arc::new(tls),
            certificate: certificate.pem(),
            authority: authority_pem,
            state: Mutex::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// From now on has this collateral as the set `update` (`standard`, `early`) of the platforms that its TCB info
    /// names.
    #[must_use]
    pub fn endorsing(self, update: &str, collateral: TdxCollateral) -> Self {
        lock(&self.inner.state).collateral.insert(update.to_owned(), collateral);
        self
    }

    /// From now on has AMD's certificates and list for the key that signs this report, at their addresses.
    #[must_use]
    pub fn endorsing_report(self, evidence: &SnpEvidence) -> Self {
        let SnpEvidence { certificates: [key, issuer, root], list, vcek, folder, .. } = evidence;
        let chain = pem::encode(&[issuer.clone(), root.clone()]).into_bytes();
        let served = self.file(&format!("{folder}/cert_chain"), "application/x-pem-file", chain).file(
            &format!("{folder}/crl"),
            "application/pkix-crl",
            list.clone(),
        );
        match vcek {
            Some(target) => served.file(target, "application/pkix-cert", key.clone()),
            None => served,
        }
    }

    /// From now on has a file at this path and query.
    #[must_use]
    pub fn file(self, target: &str, media_type: &'static str, body: Vec<u8>) -> Self {
        lock(&self.inner.state).files.insert(target.to_owned(), (media_type, body));
        self
    }

    /// From now on has this RIM under this id, and in its list.
    #[must_use]
    pub fn rim(self, id: &str, document: &[u8]) -> Self {
        let served = self.file(&answer::rim_target(id), "application/json", answer::rim(id, document));
        let ids = {
            let state = lock(&served.inner.state);
            answer::rim_ids(state.files.keys())
        };
        served.file(answer::RIM_IDS, "application/json", ids)
    }

    /// From now on answers this, DER, to whoever asks about the certificate of this serial number. About others it says
    /// `unauthorized`, as NVIDIA's responder does.
    #[must_use]
    pub fn answering(self, serial: &[u8], answer: Vec<u8>) -> Self {
        lock(&self.inner.state).answers.insert(serial.to_vec(), answer);
        self
    }

    /// From now on has the RIMs of simulated devices, good OCSP answers about their certificates and the RIMs', and empty
    /// lists of their issuers, of this time, Unix seconds.
    ///
    /// # Errors
    /// When the simulator refuses to sign.
    pub fn endorsing_node(self, node: &SimulatedNode, time: u64) -> Result<Self> {
        let rims = node.gpus.iter().flat_map(|gpu| gpu.rims(time));
        let rims = rims.chain(node.switches.iter().map(|switch| switch.rim(time)));
        let mut served = self;
        for options in rims {
            served = served.rim(&options.id, &options.encode()?);
        }
        let GpuEvidence { answers, lists, .. } = GpuEvidence::of(node, [0; 32], time)?;
        for answer in answers {
            let about = OcspResponse::parse(&answer)?.responses.first().map(|one| one.cert_id.serial.clone());
            served = served.answering(&about.unwrap_or_default(), answer);
        }
        for list in lists {
            let issuer = Crl::parse(&list)?.issuer_common_name;
            if let Some((_, target)) = NVIDIA_CRLS.iter().find(|(words, _)| issuer.contains(words)) {
                served = served.file(target, "application/pkix-crl", list);
            }
        }
        Ok(served)
    }

    /// The set `update` of its collateral.
    #[must_use]
    pub fn collateral(&self, update: &str) -> Option<TdxCollateral> {
        lock(&self.inner.state).collateral.get(update).cloned()
    }

    /// Does this with the next request for an endpoint that nothing was chosen for yet.
    pub fn next(&self, endpoint: Endpoint, misdeed: Misdeed) {
        lock(&self.inner.state).script.entry(endpoint).or_default().push_back(misdeed);
    }

    /// Does this with all later requests for an endpoint.
    pub fn always(&self, endpoint: Endpoint, misdeed: Misdeed) {
        lock(&self.inner.state).habit.insert(endpoint, misdeed);
    }

    /// Is honest from now on.
    pub fn reform(&self) {
        let mut state = lock(&self.inner.state);
        state.script.clear();
        state.habit.clear();
    }

    /// Path and query of every request so far.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        lock(&self.inner.state).requests.clone()
    }

    /// Media type and body of every request that had one.
    #[must_use]
    pub fn posted(&self) -> Vec<(String, Vec<u8>)> {
        lock(&self.inner.state).posted.clone()
    }

    /// How many requests for an endpoint came.
    #[must_use]
    pub fn count(&self, endpoint: Endpoint) -> usize {
        self.requests().iter().filter(|target| answer::endpoint(target) == endpoint).count()
    }

    /// The TLS certificate, PEM.
    #[must_use]
    pub fn certificate(&self) -> &str {
        &self.inner.certificate
    }

    /// The certificate of the authority that issued it, PEM.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.inner.authority
    }

    /// Listens on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// When there is none.
    pub async fn listen(self) -> Result<ListeningVendor> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let vendor = self.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let inner = Arc::clone(&vendor.inner);
                // How a connection ends is the client's to judge.
                tokio::spawn(async move { drop(serve(inner, stream).await) });
            }
        });
        Ok(ListeningVendor { vendor: self, address, task })
    }
}

impl ListeningVendor {
    /// `https://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }
}

impl Drop for ListeningVendor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(inner: Arc<Inner>, stream: tokio::net::TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    let tls = TlsAcceptor::from(Arc::clone(&inner.tls)).accept(stream).await?;
    let service = service_fn(move |request| answer::answer(Arc::clone(&inner), request));
    Ok(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(tls), service).await?)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
