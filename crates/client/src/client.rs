//! The client.

use crate::ALGORITHMS;
use crate::appraised::Appraised;
use crate::endorsing::Endorsing;
use crate::endpoint::Endpoint;
use crate::error::ClientError;
use crate::keys::{KeyRing, Keys};
use crate::policy::PolicyText;
use crate::pool::{Keeper, Lease, MostIdle, Observer, Pool, Recorder, SecondVerifier, Target};
use crate::receipts::{Ledger, Receipts, VerifiedReceipt};
use crate::refusals::Refusals;
use crate::response::Response;
use confide_channel::{Protocols, Request, Verdict};
use confide_evidence::document::{Endorsements, EvidenceDocument};
use confide_evidence::record::{RecordedReferences, SecondOpinion};
use confide_policy::{AppraisalPolicy, Attest};
use confide_verifier::PreparedReferences;
use rustls_pki_types::UnixTime;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Instant;

/// A client of one guest, or of several behind one address, under one policy. Cheap to clone; clones share channels
/// and verdicts. Its methods need a Tokio runtime.
#[derive(Clone)]
pub struct Client {
    pool: Arc<Pool>,
}

/// Settings of a [`Client`].
pub struct ClientBuilder {
    endpoint: Endpoint,
    policy: PolicyText,
    protocols: Option<Protocols>,
    endorsements: Endorsements,
    endorsing: Option<Endorsing>,
    observers: Vec<Observer>,
    recorder: Option<Recorder>,
    receipts: Receipts,
    keeper: Option<Keeper>,
    second_verifier: Option<SecondVerifier>,
    references: Option<RecordedReferences>,
    ledger: Arc<Ledger>,
    keys: Arc<Keys>,
    most_idle: MostIdle,
}

/// What a second verifier is asked: the quote of a guest's evidence document.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The document, well formed and not appraised yet.
    pub document: &'a EvidenceDocument,
    /// Endorsements from elsewhere than the document. What is missing is taken from those stapled to it.
    pub endorsements: &'a Endorsements,
    /// The policy, which names the trust anchors.
    pub policy: &'a AppraisalPolicy,
    /// Time of the appraisal.
    pub now: UnixTime,
}

impl Client {
    /// Begins a client of the guest at `https://host[:port]`.
    ///
    /// # Errors
    /// [`ClientError::Endpoint`]: among others, plain http is refused.
    pub fn builder(url: &str, policy: PolicyText) -> Result<ClientBuilder, ClientError> {
        Ok(ClientBuilder {
            endpoint: url.parse()?,
            policy,
            protocols: None,
            endorsements: Endorsements::default(),
            endorsing: None,
            observers: Vec::new(),
            recorder: None,
            receipts: Receipts::default(),
            keeper: None,
            second_verifier: None,
            references: None,
            ledger: Arc::default(),
            keys: Arc::default(),
            most_idle: MostIdle::default(),
        })
    }

    /// The verdict that a request sent now would rest on. The guest is attested first where none holds.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn verdict(&self) -> Result<Arc<Verdict>, ClientError> {
        let lease = self.lease().await?;
        Ok(Arc::clone(lease.verdict()))
    }

    /// The last appraisal, accepted or not, with its inputs: what a record keeps.
    #[must_use]
    pub fn latest_appraisal(&self) -> Option<Arc<Appraised>> {
        self.pool.latest()
    }

    /// How many refused appraisals were not recorded: see [`ClientBuilder::record_appraisals`].
    #[must_use]
    pub fn unrecorded_refusals(&self) -> u64 {
        self.pool.unrecorded_refusals()
    }

    /// An attested channel, for one request that is made ready only once the channel is there.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn lease(&self) -> Result<Lease, ClientError> {
        self.pool.lease().await
    }

    /// Sends a request over an attested channel.
    ///
    /// # Errors
    /// [`ClientError`]. Where the guest's evidence was not accepted, nothing of the request has left the client.
    pub async fn send(&self, request: Request) -> Result<Response, ClientError> {
        self.lease().await?.send(request).await
    }

    /// The verdict that was made last, where it still holds. Nothing is asked for it.
    #[must_use]
    pub fn standing(&self) -> Option<Arc<Verdict>> {
        self.pool.standing()
    }

    /// As [`Self::verdict`], over a connection that is dialled now.
    pub(crate) async fn verdict_anew(&self) -> Result<Arc<Verdict>, ClientError> {
        let lease = self.pool.lease_anew().await?;
        Ok(Arc::clone(lease.verdict()))
    }

    /// The policy that every verdict is made by.
    #[must_use]
    pub fn policy(&self) -> &AppraisalPolicy {
        self.pool.policy()
    }

    pub(crate) fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// Where the guest listens.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        self.pool.endpoint()
    }
}

impl ClientBuilder {
    /// Where the guest listens.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Which versions of HTTP are offered to the guest.
    ///
    /// Without this, it is HTTP/1.1 where the policy says `per-key`: further connections cost no attestation, and one
    /// request at a time on each is the faster way. Where it says `every-connection`, it is HTTP/2 before HTTP/1.1: one
    /// attestation then serves all requests that share a connection.
    #[must_use]
    pub fn protocols(mut self, protocols: Protocols) -> Self {
        self.protocols = Some(protocols);
        self
    }

    /// Endorsements from elsewhere than the guest. What is missing is taken from those stapled to its evidence.
    #[must_use]
    pub fn endorsements(mut self, endorsements: Endorsements) -> Self {
        self.endorsements = endorsements;
        self
    }

    /// Fetches collateral for guests that staple none or some that is over, where [`endorsements`](Self::endorsements)
    /// has none either. Without this nobody but the guest is asked.
    #[must_use]
    pub fn endorsing(mut self, endorsing: Endorsing) -> Self {
        self.endorsing = Some(endorsing);
        self
    }

    /// The signed file of reference values that the policy names. Its signature is verified once, here.
    #[must_use]
    pub fn references(mut self, references: RecordedReferences) -> Self {
        self.references = Some(references);
        self
    }

    /// Gives appraisals, accepted or not, to `recorder` before anything rests on them. One that is not recorded opens
    /// nothing: whoever wanted it gets [`ClientError::NotRecorded`].
    ///
    /// Whoever answers at the guest's address may show documents of 4 MiB that are refused. Of those, 64 MiB are recorded at
    /// once and as much again in a day, each counted with at least 64 KiB; [`Client::unrecorded_refusals`] counts the others.
    /// Nothing rests on them.
    ///
    /// There is no queue. Each appraisal waits for its own record, on a thread for work that blocks, so that a recorder
    /// that is slow holds new channels up; those that are open go on.
    #[must_use]
    pub fn record_appraisals(
        mut self,
        recorder: impl Fn(&Appraised) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        self.recorder = Some(Box::new(recorder));
        self
    }

    /// What is done about receipts: see [`ResponseBody`](crate::ResponseBody) for when an answer is handed over.
    #[must_use]
    pub fn receipts(mut self, receipts: Receipts) -> Self {
        self.receipts = receipts;
        self
    }

    /// Gives every receipt that holds to `keeper` before the end of its answer is handed over. An answer whose receipt is
    /// not kept ends with [`ReceiptError::NotKept`](crate::ReceiptError::NotKept) in the place of its end.
    ///
    /// Each answer waits for its own receipt alone, on a thread for work that blocks. What vouches for the receipt has been
    /// recorded before, where the client records.
    #[must_use]
    pub fn keep_receipts(
        mut self,
        keeper: impl Fn(&VerifiedReceipt) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        self.keeper = Some(Box::new(keeper));
        self
    }

    /// Tells `observer` of every appraisal, accepted or not, once it is recorded. It must not block. There may be several.
    #[must_use]
    pub fn on_appraisal(mut self, observer: impl Fn(&Appraised) + Send + Sync + 'static) -> Self {
        self.observers.push(Box::new(observer));
        self
    }

    /// Asks a second verifier before every appraisal. Where its finding differs, the guest is refused with the code
    /// `cross_check_disagrees`.
    #[must_use]
    pub fn second_verifier(
        mut self,
        verifier: impl Fn(&Question<'_>) -> Option<SecondOpinion> + Send + Sync + 'static,
    ) -> Self {
        self.second_verifier = Some(Box::new(verifier));
        self
    }

    /// Remembers receipts in a ledger that it shares with other clients.
    pub(crate) fn ledger(mut self, ledger: Arc<Ledger>) -> Self {
        self.ledger = ledger;
        self
    }

    /// Takes part in what other clients of a fleet know of guests' keys, those under the same policy.
    pub(crate) fn key_ring(mut self, ring: &KeyRing) -> Self {
        self.keys = ring.under(self.policy.text(), self.references.as_ref());
        self
    }

    /// Keeps so many idle connections.
    pub(crate) fn most_idle(mut self, most_idle: MostIdle) -> Self {
        self.most_idle = most_idle;
        self
    }

    /// The client. It connects when it is first used.
    #[must_use]
    pub fn build(self) -> Client {
        let prepare = |given| PreparedReferences::new(given, self.policy.policy(), &ALGORITHMS);
        let preferred = match self.policy.policy().freshness.attest {
            Attest::PerKey => Protocols::Http1,
            Attest::EveryConnection => Protocols::Http2OrHttp1,
        };
        let pool = Pool::new(Target {
            protocols: self.protocols.unwrap_or(preferred),
            prepared_references: self.references.as_ref().map(prepare),
            references: self.references.map(Arc::new),
            endpoint: self.endpoint,
            policy_text: self.policy.text().into(),
            policy: Arc::new(self.policy),
            endorsements: Arc::new(self.endorsements),
            endorsing: self.endorsing,
            observers: self.observers,
            recorder: self.recorder,
            refusals: Refusals::new(Instant::now()),
            receipts: self.receipts,
            keeper: self.keeper,
            second_verifier: self.second_verifier,
            ledger: self.ledger,
            keys: self.keys,
            most_idle: self.most_idle,
        });
        Client { pool }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("endpoint", self.endpoint()).finish_non_exhaustive()
    }
}
