//! An endpoint that ends TLS with a key of its own and pretends to be an honest guest.
//!
//! It counts and keeps every byte that it decrypts, so that a test can say what a victim gave away.

mod forgery;
mod http;
mod stream;
mod tls;

pub use forgery::Attack;
pub use tls::connect;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A running attacker; it stops when dropped.
#[derive(Debug)]
pub struct Attacker {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Connection>>>,
    serving: JoinHandle<()>,
}

/// What one connection of a victim gave away.
#[derive(Clone, Debug, Default)]
pub struct Connection {
    /// All decrypted bytes, in order.
    pub plaintext: Vec<u8>,
    /// The requests that the bytes made.
    pub requests: Vec<Request>,
}

/// One request of a victim.
#[derive(Clone, Debug)]
pub struct Request {
    /// Method and target, as in `POST /v1/chat/completions`.
    pub line: String,
    /// The body.
    pub body: Vec<u8>,
    /// Decrypted bytes of the connection up to the end of this request.
    pub plaintext_end: usize,
}

impl Attacker {
    /// Listens on `listen` and attacks whoever connects, with the evidence of the honest guest at `honest`.
    ///
    /// # Errors
    /// When the address cannot be bound or no key can be made.
    pub async fn start(listen: SocketAddr, honest: SocketAddr, attack: Attack) -> Result<Self> {
        let listener = TcpListener::bind(listen).await.with_context(|| format!("listening on {listen}"))?;
        let address = listener.local_addr()?;
        let identity = Arc::new(tls::Identity::new()?);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let serving = tokio::spawn(serve(listener, honest, attack, identity, Arc::clone(&seen)));
        Ok(Self { address, seen, serving })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What all connections gave away so far; each is added when TLS is up.
    #[must_use]
    pub fn seen(&self) -> Vec<Connection> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Attacker {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Connection {
    /// Decrypted bytes that belong to no attestation request: nothing, where a client does as it should.
    #[must_use]
    pub fn bytes_beyond_attestation(&self) -> usize {
        let attestation = self.requests.first().filter(|request| request.is_attestation());
        self.plaintext.len() - attestation.map_or(0, |request| request.plaintext_end)
    }

    /// Whether `text` stands anywhere in what was decrypted.
    #[must_use]
    pub fn contains(&self, text: &str) -> bool {
        self.plaintext.windows(text.len()).any(|window| window == text.as_bytes())
    }
}

impl Request {
    /// Whether this is the request that a client may make before a verdict.
    #[must_use]
    pub fn is_attestation(&self) -> bool {
        self.line == format!("POST {}", confide_evidence::document::ATTESTATION_PATH)
    }
}

async fn serve(
    listener: TcpListener,
    honest: SocketAddr,
    attack: Attack,
    identity: Arc<tls::Identity>,
    seen: Arc<Mutex<Vec<Connection>>>,
) {
    while let Ok((stream, _)) = listener.accept().await {
        let victim = http::Victim::new(Arc::clone(&seen), Arc::clone(&identity), honest, attack);
        // A victim that hangs up in the handshake or in the middle of a request has given away what is kept already.
        tokio::spawn(victim.serve(stream));
    }
}
