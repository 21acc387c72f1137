//! Receipts: what the guest signs for every whole answer of its model.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use confide_engine::Usage;
use confide_evidence::bytes::{Bytes, Digest};
use confide_evidence::hash::sha256;
use confide_evidence::pem::base64_text;
use confide_evidence::receipt::{self, BodyHasher, RECEIPT_FIELD, Receipt, salted_hash};
use http::header::{HeaderName, HeaderValue, TE};
use http::{HeaderMap, header};

/// The field that carries a receipt.
const FIELD: HeaderName = HeaderName::from_static(RECEIPT_FIELD);

/// What the receipts of one boot repeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceiptFacts {
    /// The boot.
    pub boot_id: Bytes<16>,
    /// Digest of the key set that holds the receipt key.
    pub key_set: Digest,
    /// Digest of the model manifest.
    pub manifest: Digest,
    /// Digest of the deciding configuration.
    pub configuration: Digest,
}

/// Signs the receipts of one boot. Clones share the count.
#[derive(Clone)]
pub struct Receipts(Arc<Boot>);

type Sign = dyn Fn(&[u8]) -> Bytes<64> + Send + Sync;

struct Boot {
    facts: ReceiptFacts,
    /// Ed25519 with the receipt key.
    sign: Box<Sign>,
    /// How many were signed.
    signed: AtomicU64,
}

/// A receipt for one answer that is being made. Dropped, it leaves no gap in the count.
pub(crate) struct Draft {
    receipts: Receipts,
    salt: Bytes<32>,
    request_id: String,
    /// SHA-256 of the request's body.
    request: Digest,
    response: BodyHasher,
}

impl Receipts {
    /// Receipts with these facts, under the key that `sign` has: Ed25519 (RFC 8032) over what it is given.
    pub fn new(facts: ReceiptFacts, sign: impl Fn(&[u8]) -> Bytes<64> + Send + Sync + 'static) -> Self {
        Self(Arc::new(Boot { facts, sign: Box::new(sign), signed: AtomicU64::new(0) }))
    }

    /// Begins the receipt for the answer to a request with this body.
    ///
    /// # Errors
    /// The operating system has no random numbers.
    pub(crate) fn begin(&self, request_id: &str, body: &[u8]) -> Result<Draft, getrandom::Error> {
        let mut salt = [0; 32];
        getrandom::fill(&mut salt)?;
        Ok(Draft {
            receipts: self.clone(),
            salt: Bytes(salt),
            request_id: request_id.to_owned(),
            request: sha256(body),
            response: BodyHasher::default(),
        })
    }
}

impl Draft {
    /// Takes octets of the answer's body, in the order in which they are sent.
    pub(crate) fn update(&mut self, octets: &[u8]) {
        self.response.update(octets);
    }

    /// Signs, at the end of the answer: the field that the client gets. `time` is in Unix seconds.
    pub(crate) fn sign(self, usage: Usage, time: u64) -> (HeaderName, HeaderValue) {
        let Self { receipts: Receipts(boot), salt, request_id, request, response } = self;
        let ReceiptFacts { boot_id, key_set, manifest, configuration } = boot.facts;
        let unsigned = Receipt {
            salt,
            time,
            usage: receipt::Usage {
                prompt_tokens: usage.prompt_tokens.into(),
                completion_tokens: usage.completion_tokens.into(),
            },
            boot_id,
            key_set,
            manifest,
            sequence: boot.signed.fetch_add(1, Ordering::Relaxed),
            signature: Bytes([0; 64]),
            request_id,
            configuration,
        };
        let [request, response] = [request, response.finish()].map(|body| salted_hash(&salt, &body));
        let signature = (boot.sign)(&unsigned.signing_input(&request, &response));
        let encoded = base64_text(&Receipt { signature, ..unsigned }.encode());
        (FIELD, HeaderValue::from_str(&encoded).expect("base64 has visible characters alone"))
    }
}

/// Whether who sends these fields takes trailer fields (RFC 9110 section 10.1.4).
pub(crate) fn takes_trailers(headers: &HeaderMap) -> bool {
    let values = headers.get_all(TE).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|coding| coding.trim().eq_ignore_ascii_case("trailers"))
}

/// Announces the receipt as a trailer field (RFC 9110 section 6.6.2).
pub(crate) fn announce(headers: &mut HeaderMap) {
    headers.insert(header::TRAILER, HeaderValue::from_static(RECEIPT_FIELD));
}
