//! A guest in this process, on simulated hardware: honest, or misbehaving in one chosen way.
//!
//! It writes down every byte that reaches it, before and after TLS, so that a test can say what a client gave away.
//! Its evidence is made with the simulator's encoders, not with the product's guest half.

mod evidence;
mod http;
mod receipt;
mod wire;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use confide_evidence::bytes::Bytes;
use confide_evidence::document::TdxCollateral;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;

pub use evidence::{manifest, policy, policy_for};

/// What a guest does about TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tls {
    /// TLS 1.3 with its own key and certificate.
    #[default]
    Honest,
    /// Shows its certificate and signs with another key.
    OtherKey,
    /// Chooses TLS 1.2, which was not offered.
    Version12,
    /// Answers in the clear.
    None,
}

/// What a guest answers to the attestation request.
#[derive(Clone, Debug, Default)]
pub enum Attestation {
    /// Evidence bound to the connection.
    #[default]
    Honest,
    /// Evidence bound to another connection with the same nonce and key.
    OtherExporter,
    /// Evidence bound to another nonce on the same connection.
    OtherNonce,
    /// Evidence that speaks for another TLS key.
    OtherKey,
    /// Evidence whose quote another key than the attestation key signed.
    ForeignSigner,
    /// Honest evidence to which nothing is stapled.
    Unstapled,
    /// Honest evidence to which collateral is stapled whose time is over.
    StapledOver,
    /// These bytes as the document.
    Fixed(Vec<u8>),
    /// Evidence that shares a quote with that of another connection.
    Batched(Arc<Race>),
    /// As many times more as this says, that it can attest in a second (503); then evidence.
    Busy(Arc<AtomicUsize>),
    /// Another status.
    Status(u16),
    /// Another media type.
    MediaType(&'static str),
    /// A length of 4 MiB and one byte, announced.
    TooLarge,
    /// Bytes without end, no length announced.
    Endless,
    /// Nothing.
    Silent,
    /// Half the document, then the connection breaks.
    Torn,
    /// A byte of a document each second, for ever.
    Dripping,
    /// These bytes in the place of an HTTP answer.
    Raw(Raw),
    /// These bytes as soon as TLS is up, before anything was asked.
    Eager(Vec<u8>),
}

/// Pairs of connections that share a quote: who asks first waits for a second one.
#[derive(Debug)]
pub struct Race {
    /// Whose place in the batch each of the two is given.
    pub place: Place,
    /// Who waits for a second one: its leaf, and where its document goes.
    pub(crate) waiting: Mutex<Option<(Bytes<64>, oneshot::Sender<Vec<u8>>)>>,
}

/// Whose place in a batch of two a connection is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Its own.
    Own,
    /// The other one's, document and all.
    Other,
}

impl Race {
    /// A race of no connections yet.
    #[must_use]
    pub fn new(place: Place) -> Arc<Self> {
        Arc::new(Self { place, waiting: Mutex::default() })
    }
}

/// Bytes that are written past HTTP, right after TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raw {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// What happens then.
    pub then: Then,
}

/// What follows raw bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Nothing more; the connection stays.
    Wait,
    /// The connection ends with TLS's goodbye (close_notify).
    Close,
    /// The connection ends without it, as whoever owns the network can end it.
    Cut,
}

/// What a guest answers to everything else.
#[derive(Clone, Debug, Default)]
pub enum Chat {
    /// [`WORDS`], streamed where asked for.
    #[default]
    Answer,
    /// [`WORDS`], streamed; each piece waits for a permit.
    Gated(Arc<Semaphore>),
    /// An error in the form of the OpenAI API.
    Refuse(u16),
    /// Two pieces of a stream, then the connection breaks.
    Torn,
    /// One piece and half of another, then the connection breaks.
    TornEvent,
    /// Answers, then closes the connection.
    Close,
    /// A stream without end.
    Endless,
    /// These bytes in the place of an HTTP answer.
    Raw(Raw),
}

/// What a guest signs for the answers of [`Chat::Answer`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Receipts {
    /// Nothing.
    #[default]
    None,
    /// What it received and what it sends.
    Honest,
    /// The same, under another key than its key set has.
    OtherKey,
    /// In the name of another boot.
    OtherBoot,
    /// In the name of another key set.
    OtherKeySet,
    /// In the name of another model.
    OtherManifest,
    /// In the name of another configuration.
    OtherConfiguration,
    /// A request that differs in one octet.
    OtherRequest,
    /// A response that differs in one octet.
    OtherResponse,
    /// What it received and what it sends, each time under the same number.
    OneNumber,
    /// Nothing, though a stream announces it.
    Withheld,
    /// Bytes that are no receipt.
    Garbage,
}

/// What the model says, in the pieces of a stream.
pub const WORDS: [&str; 4] = ["An RTMR ", "is a ", "measurement ", "register."];
/// The model's name.
pub const MODEL: &str = "confide-tiny";

/// A guest. Clones are the same guest.
#[derive(Clone)]
pub struct Guest {
    inner: Arc<Inner>,
}

struct Inner {
    identity: wire::Identity,
    machine: evidence::Machine,
    attestation: Mutex<Attestation>,
    chat: Mutex<Chat>,
    /// Requests at a time on an HTTP/2 connection; 0 where none is spoken.
    http2: AtomicU32,
    receipts: Mutex<Receipts>,
    seen: Mutex<Vec<Seen>>,
}

/// A guest that listens; it stops when dropped.
pub struct Listening {
    /// The guest.
    pub guest: Guest,
    /// Where it listens.
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

/// What one connection brought.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// All bytes as they came over the wire.
    pub wire: Vec<u8>,
    /// Whether TLS resumed an earlier session.
    pub resumed: bool,
    /// All bytes after TLS.
    pub plaintext: Vec<u8>,
    /// The requests that the plaintext made.
    pub requests: Vec<SeenRequest>,
}

/// One request.
#[derive(Clone, Debug)]
pub struct SeenRequest {
    /// Method and target, as in `POST /v1/chat/completions`.
    pub line: String,
    /// The authority of the target: over HTTP/2 alone, where it stands in the place of the field `host`.
    pub authority: Option<String>,
    /// Header fields, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Guest {
    /// An honest guest with a TLS key of its own, on the machine of this seed.
    ///
    /// # Errors
    /// When keys or certificates cannot be made.
    pub fn new(seed: u64) -> Result<Self> {
        Self::with_tls(seed, Tls::Honest)
    }

    /// An honest guest with another model than [`MODEL`].
    ///
    /// # Errors
    /// When keys or certificates cannot be made.
    pub fn serving(seed: u64, model: &str) -> Result<Self> {
        Self::made(seed, Tls::Honest, model)
    }

    /// A guest that is honest but for TLS.
    ///
    /// # Errors
    /// When keys or certificates cannot be made.
    pub fn with_tls(seed: u64, tls: Tls) -> Result<Self> {
        Self::made(seed, tls, MODEL)
    }

    fn made(seed: u64, tls: Tls, model: &str) -> Result<Self> {
        let inner = Inner {
            identity: wire::Identity::new(tls)?,
            machine: evidence::Machine::new(seed, model)?,
            attestation: Mutex::default(),
            chat: Mutex::default(),
            http2: AtomicU32::default(),
            receipts: Mutex::default(),
            seen: Mutex::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// From now on answers the attestation request this way.
    #[must_use]
    pub fn attesting(self, attestation: Attestation) -> Self {
        *lock(&self.inner.attestation) = attestation;
        self
    }

    /// From now on answers everything else this way.
    #[must_use]
    pub fn chatting(self, chat: Chat) -> Self {
        *lock(&self.inner.chat) = chat;
        self
    }

    /// From now on speaks HTTP/2 with whoever offers it, and takes so many requests at a time on a connection.
    #[must_use]
    pub fn with_http2(self, streams: u32) -> Self {
        self.inner.http2.store(streams, Ordering::Relaxed);
        self
    }

    /// From now on signs its answers this way.
    #[must_use]
    pub fn signing(self, receipts: Receipts) -> Self {
        *lock(&self.inner.receipts) = receipts;
        self
    }

    /// Listens on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// When there is none.
    pub async fn listen(self) -> Result<Listening> {
        self.listen_on(SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    /// Listens on an address.
    ///
    /// # Errors
    /// When it cannot be bound.
    pub async fn listen_on(self, address: SocketAddr) -> Result<Listening> {
        let listener = TcpListener::bind(address).await.with_context(|| format!("listening on {address}"))?;
        let address = listener.local_addr()?;
        let guest = self.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let guest = guest.clone();
                tokio::spawn(async move { guest.serve(stream).await });
            }
        });
        Ok(Listening { guest: self, address, task })
    }

    /// Serves one connection to its end. How it ends is the client's to judge.
    pub async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(&self, stream: S) {
        let _ = wire::serve(&self.inner, stream).await;
    }

    /// What endorses the guest's platform, as services give it.
    ///
    /// # Errors
    /// When the simulator's collateral cannot be read.
    pub fn collateral(&self) -> Result<TdxCollateral> {
        self.inner.machine.collateral()
    }

    /// What every connection so far brought, in the order of their opening.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.inner.seen).clone()
    }

    /// All requests of all connections.
    #[must_use]
    pub fn requests(&self) -> Vec<SeenRequest> {
        self.seen().into_iter().flat_map(|seen| seen.requests).collect()
    }

    /// How many attestation requests came.
    #[must_use]
    pub fn attestations(&self) -> usize {
        let asked =
            |request: &SeenRequest| request.line.ends_with(confide_evidence::document::ATTESTATION_PATH);
        self.requests().iter().filter(|request| asked(request)).count()
    }

    /// Whether `bytes` came in, on the wire or after TLS, on any connection.
    #[must_use]
    pub fn saw(&self, bytes: &[u8]) -> bool {
        let holds = |place: &[u8]| place.windows(bytes.len()).any(|window| window == bytes);
        self.seen().iter().any(|seen| holds(&seen.wire) || holds(&seen.plaintext))
    }
}

impl Listening {
    /// `https://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
