//! Attested channels to one guest, kept for further requests. Nothing beneath a pool dials or retries.

use crate::ALGORITHMS;
use crate::appraised::Appraised;
use crate::client;
use crate::endorsing::Endorsing;
use crate::endpoint::Endpoint;
use crate::error::ClientError;
use crate::keys::Keys;
use crate::open_files;
use crate::policy::PolicyText;
use crate::receipts::{Ledger, ReceiptError, Receipts, Sent, VerifiedReceipt};
use crate::refusals::{PassedOver, Refusals};
use crate::response::Response;
use confide_channel::{
    Answer, AttestedChannel, Challenged, ChannelError, KeyExchange, Moment, Protocols, Request, SendError,
    UnattestedChannel, Verdict,
};
use confide_endorser::EndorserError;
use confide_evidence::document::{Endorsements, EvidenceDocument};
use confide_evidence::record::{RecordedReferences, SecondOpinion};
use confide_policy::{AppraisalPolicy, Attest};
use confide_verifier::{
    Appraisal, AttestationResult, Attested, Challenge, Memo, PreparedReferences, Rejection, appraise,
};
use rustix::net::sockopt;
use rustls_pki_types::UnixTime;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tracing::{debug, warn};

/// How long a dial may take.
const DIAL_LIMIT: Duration = Duration::from_secs(10);
/// How long a guest may be silent before its host is asked for a sign of life, and how long between two such questions.
/// Answers may take far longer; the guest's kernel gives the sign.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// How many such questions may stay without an answer.
const KEEP_ALIVE_PROBES: u32 = 3;
/// How long an idle connection may take to become ready: its last answer has already been read.
const READY_LIMIT: Duration = Duration::from_millis(100);
/// The most idle connections, and the most that carry several requests at once. As many as requests that one program has at
/// once.
const MAX_IDLE: usize = 64;
/// The most names of models that are remembered of one address. Behind it stand a few guests with one model each.
const MAX_KNOWN_MODELS: usize = 64;
/// The longest time before its end at which a verdict is renewed.
const RENEW_AHEAD: Duration = Duration::from_secs(60);

/// Keeps every appraisal, accepted or not, before anything rests on it.
pub(crate) type Recorder = Box<dyn Fn(&Appraised) -> io::Result<()> + Send + Sync>;

/// Keeps every receipt that holds, before the end of its answer is handed over.
pub(crate) type Keeper = Box<dyn Fn(&VerifiedReceipt) -> io::Result<()> + Send + Sync>;

/// Told of every appraisal, accepted or not.
pub(crate) type Observer = Box<dyn Fn(&Appraised) + Send + Sync>;

/// Asked for its finding before every appraisal.
pub(crate) type SecondVerifier = Box<dyn Fn(&client::Question<'_>) -> Option<SecondOpinion> + Send + Sync>;

/// How many idle connections a pool keeps. Clones say the same.
#[derive(Clone, Debug)]
pub(crate) struct MostIdle(Arc<AtomicUsize>);

impl Default for MostIdle {
    fn default() -> Self {
        Self(Arc::new(AtomicUsize::new(MAX_IDLE)))
    }
}

impl MostIdle {
    fn now(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// From now on each of so many pools keeps its part of what all may keep together.
    pub(crate) fn deal(&self, pools: usize) {
        self.0.store(open_files::idle_connections(pools, MAX_IDLE), Ordering::Relaxed);
    }
}

/// What a pool is made from.
pub(crate) struct Target {
    pub(crate) endpoint: Endpoint,
    pub(crate) protocols: Protocols,
    pub(crate) policy: Arc<PolicyText>,
    pub(crate) policy_text: Arc<str>,
    pub(crate) endorsements: Arc<Endorsements>,
    pub(crate) endorsing: Option<Endorsing>,
    pub(crate) observers: Vec<Observer>,
    pub(crate) recorder: Option<Recorder>,
    /// How much of what is refused goes to it.
    pub(crate) refusals: Refusals,
    pub(crate) receipts: Receipts,
    pub(crate) keeper: Option<Keeper>,
    pub(crate) second_verifier: Option<SecondVerifier>,
    /// The receipts that came.
    pub(crate) ledger: Arc<Ledger>,
    /// What is known of guests' keys, here and by those that share it.
    pub(crate) keys: Arc<Keys>,
    /// How many idle connections are kept.
    pub(crate) most_idle: MostIdle,
    pub(crate) references: Option<Arc<RecordedReferences>>,
    /// The same, its signature verified.
    pub(crate) prepared_references: Option<PreparedReferences>,
}

pub(crate) struct Pool {
    target: Target,
    /// What earlier appraisals have established of the guest's platform, its collateral and its devices' endorsements.
    memo: Memo,
    state: Mutex<State>,
    /// One connection at a time is made for requests that may share it.
    opening: Turn,
}

#[derive(Default)]
struct State {
    idle: Vec<AttestedChannel>,
    /// A handle on each connection that carries several requests at once.
    shared: Vec<AttestedChannel>,
    /// Whether the guest was found to speak HTTP/1.1 alone.
    unshared: bool,
    latest: Option<Arc<Appraised>>,
    /// The verdict that was made last, whatever key it is about, or another one that holds.
    standing: Option<Arc<Verdict>>,
    last_use: Option<Instant>,
    /// By key: a peer that is slow to attest holds up nobody who reached another.
    turns: Vec<([u8; 32], Weak<Turn>)>,
    /// The verdicts that this pool renews before their end.
    renewed: Vec<Weak<Verdict>>,
    /// The names of the models that verdicts about guests here attested.
    models: Vec<String>,
}

/// Attempts at what several wait for, such as the attestation of one key, one at a time.
#[derive(Default)]
struct Turn {
    /// How many have begun.
    begun: AtomicU64,
    /// Why the last one failed. Held by the one under way.
    failure: tokio::sync::Mutex<Option<ClientError>>,
}

/// Who may make the next attempt.
struct Next<'a> {
    turn: &'a Turn,
    failure: tokio::sync::MutexGuard<'a, Option<ClientError>>,
    /// How many had begun when the wait for this one began.
    seen: u64,
}

impl Turn {
    /// Waits for the attempt under way.
    async fn next(&self) -> Next<'_> {
        let seen = self.begun.load(Ordering::Acquire);
        Next { turn: self, failure: self.failure.lock().await, seen }
    }
}

impl Next<'_> {
    /// Makes an attempt. Those who waited while one was made that failed have its failure.
    async fn attempt<T>(
        mut self,
        work: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        if self.turn.begun.load(Ordering::Acquire) > self.seen
            && let Some(failure) = &*self.failure
        {
            return Err(failure.clone());
        }
        self.turn.begun.fetch_add(1, Ordering::AcqRel);
        *self.failure = None;
        let made = work.await;
        *self.failure = made.as_ref().err().cloned();
        made
    }
}

/// An attested channel on loan from a pool. It returns there when the answer has been read, or when nothing was sent.
pub struct Lease {
    channel: Option<AttestedChannel>,
    pool: Arc<Pool>,
}

/// What a peer showed, and what it was asked.
struct Asked {
    document: Vec<u8>,
    challenge: Challenge,
    endorsements: Arc<Endorsements>,
    asked: Moment,
    key_exchange: KeyExchange,
}

/// What came of it.
struct Judged {
    verdict: Result<Attested, Rejection>,
    appraised: Appraised,
    recorded: Result<(), ClientError>,
}

impl Target {
    /// Appraises, and records. Both take their time.
    fn judge(&self, asked: Asked, memo: &Memo) -> Judged {
        let Asked { document, challenge, endorsements, asked, key_exchange } = asked;
        let now = asked.wall();
        let recorded = challenge.recorded();
        let second_opinion = self.second_opinion(&document, &endorsements, now);
        let appraisal = Appraisal {
            document: &document,
            endorsements: &endorsements,
            prepared: None,
            prepared_devices: None,
            memo: Some(memo),
            second_opinion: second_opinion.as_ref(),
            references: self.prepared_references.as_ref(),
            policy: self.policy.policy(),
            now,
            algorithms: &ALGORITHMS,
        };
        let verdict = appraise(&appraisal, challenge);
        let result = match &verdict {
            Ok(attested) => attested.result().clone(),
            Err(rejection) => AttestationResult::clone(&rejection.result),
        };
        let appraised = Appraised {
            result,
            document,
            endorsements,
            policy: Arc::clone(&self.policy_text),
            challenge: recorded,
            time: now,
            second_opinion,
            references: self.references.clone(),
            key_exchange,
            elapsed: Duration::ZERO,
        };
        let recorded = self.record(&appraised);
        Judged { verdict, appraised, recorded }
    }

    /// Records an appraisal. Nothing rests on one that is refused, so that of those no more is recorded than there is room for.
    fn record(&self, appraised: &Appraised) -> Result<(), ClientError> {
        let Some(recorder) = &self.recorder else { return Ok(()) };
        if !appraised.result.accepted()
            && let Err(PassedOver) = self.refusals.room(appraised.document.len(), Instant::now())
        {
            return Ok(());
        }
        recorder(appraised).map_err(|error| ClientError::NotRecorded(Arc::new(error)))
    }

    fn second_opinion(
        &self,
        document: &[u8],
        endorsements: &Endorsements,
        now: UnixTime,
    ) -> Option<SecondOpinion> {
        let verifier = self.second_verifier.as_ref()?;
        let document = EvidenceDocument::decode(document).ok()?;
        let policy = self.policy.policy();
        verifier(&client::Question { document: &document, endorsements, policy, now })
    }
}

impl Pool {
    pub(crate) fn new(target: Target) -> Arc<Self> {
        Arc::new(Self { target, memo: Memo::new(), state: Mutex::default(), opening: Turn::default() })
    }

    /// What is done about receipts.
    pub(crate) fn receipts(&self) -> Receipts {
        self.target.receipts
    }

    pub(crate) fn ledger(&self) -> &Ledger {
        &self.target.ledger
    }

    pub(crate) fn keeps_receipts(&self) -> bool {
        self.target.keeper.is_some()
    }

    /// Keeps a receipt. It takes its time.
    pub(crate) fn keep_receipt(&self, receipt: &VerifiedReceipt) -> Result<(), ReceiptError> {
        let kept = self.target.keeper.as_ref().map_or(Ok(()), |keep| keep(receipt));
        kept.map_err(|error| ReceiptError::NotKept(Arc::new(error)))
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.target.endpoint
    }

    /// How many refusals were not recorded.
    pub(crate) fn unrecorded_refusals(&self) -> u64 {
        self.target.refusals.passed_over()
    }

    /// The last appraisal, accepted or not.
    pub(crate) fn latest(&self) -> Option<Arc<Appraised>> {
        self.state().latest.clone()
    }

    /// The verdict that was made last, or a younger one about its key, where it still holds.
    pub(crate) fn standing(&self) -> Option<Arc<Verdict>> {
        let mut state = self.state();
        let standing = state.standing.clone()?;
        let now = Moment::now();
        let left = standing.left(now);
        if let Some(younger) =
            self.target.keys.verdict_for(standing.spki()).filter(|one| one.left(now) > left)
        {
            state.standing = Some(Arc::clone(&younger));
            return Some(younger);
        }
        (!left.is_zero()).then_some(standing)
    }

    /// Takes a verdict that holds for the standing one, where that has ended: there may be several keys behind an address.
    /// One that was made elsewhere is renewed from here, too: whoever made it may be gone by then.
    fn stand_on(self: &Arc<Self>, verdict: &Arc<Verdict>) {
        let mut state = self.state();
        if state.standing.as_ref().is_none_or(|standing| standing.left(Moment::now()).is_zero()) {
            state.standing = Some(Arc::clone(verdict));
        }
        let is_new = state.notes(verdict);
        drop(state);
        if is_new && self.target.policy.policy().freshness.attest == Attest::PerKey {
            tokio::spawn(renew_ahead(Arc::downgrade(self), Arc::clone(verdict), Made::Elsewhere));
        }
    }

    /// What is known of guests' keys.
    pub(crate) fn keys(&self) -> &Keys {
        &self.target.keys
    }

    /// Whether a verdict about a guest here has attested a model of this name; nothing where there was no verdict yet.
    pub(crate) fn has_attested(&self, model: &str) -> Option<bool> {
        let state = self.state();
        (!state.models.is_empty()).then(|| state.models.iter().any(|known| known == model))
    }

    pub(crate) fn policy(&self) -> &AppraisalPolicy {
        self.target.policy.policy()
    }

    /// An attested channel: one that is there, or a new one.
    pub(crate) async fn lease(self: &Arc<Self>) -> Result<Lease, ClientError> {
        self.state().last_use = Some(Instant::now());
        let channel = match self.take_idle().await {
            Some(channel) => channel,
            // In a box, so that not every request is as large as what opens a channel.
            None => Box::pin(self.open_for_all()).await?,
        };
        self.stand_on(channel.verdict());
        Ok(Lease { channel: Some(channel), pool: Arc::clone(self) })
    }

    /// An attested channel over a connection that is dialled now. Those that are there are given up: whoever asks for this
    /// has seen one break off.
    pub(crate) async fn lease_anew(self: &Arc<Self>) -> Result<Lease, ClientError> {
        let before = {
            let mut state = self.state();
            state.last_use = Some(Instant::now());
            (std::mem::take(&mut state.idle), std::mem::take(&mut state.shared))
        };
        drop(before);
        let channel = match self.target.protocols {
            Protocols::Http1 => Box::pin(self.open()).await?,
            _ => Box::pin(self.open_shared()).await?,
        };
        self.stand_on(channel.verdict());
        Ok(Lease { channel: Some(channel), pool: Arc::clone(self) })
    }

    /// Keeps a channel for further requests.
    pub(crate) fn put(&self, channel: AttestedChannel) {
        let mut state = self.state();
        // One that carries several requests is kept from its beginning.
        if !channel.is_multiplexed() && !channel.is_closed() && state.idle.len() < self.target.most_idle.now()
        {
            state.idle.push(channel);
        }
    }

    /// Keeps a handle on a connection that carries several requests at once, in the place of an earlier one.
    fn keep_shared(&self, channel: &AttestedChannel) {
        let mut state = self.state();
        state.unshared = !channel.is_multiplexed();
        state.shared.retain(|kept| !kept.is_beside(channel));
        if state.shared.len() < MAX_IDLE
            && let Some(kept) = channel.share()
        {
            state.shared.push(kept);
        }
    }

    async fn take_idle(&self) -> Option<AttestedChannel> {
        if let Some(channel) = self.state().share(&self.target.keys) {
            return Some(channel);
        }
        loop {
            let channel = self.state().idle.pop()?;
            if let Ok(Ok(channel)) = tokio::time::timeout(READY_LIMIT, channel.ready()).await
                && let Some(channel) = freshen(channel, &self.target.keys)
            {
                return Some(channel);
            }
        }
    }

    /// A new channel, or a handle on one that others made meanwhile. Those who ask at the same time make one connection,
    /// where the guest lets them share it.
    async fn open_for_all(self: &Arc<Self>) -> Result<AttestedChannel, ClientError> {
        if self.target.protocols == Protocols::Http1 {
            return self.open().await;
        }
        if self.state().unshared {
            return self.open_shared().await;
        }
        let next = self.opening.next().await;
        if let Some(channel) = self.state().share(&self.target.keys) {
            return Ok(channel);
        }
        next.attempt(self.open_shared()).await
    }

    /// A new channel, kept where several requests can share it.
    async fn open_shared(self: &Arc<Self>) -> Result<AttestedChannel, ClientError> {
        let channel = self.open().await?;
        self.keep_shared(&channel);
        Ok(channel)
    }

    async fn open(self: &Arc<Self>) -> Result<AttestedChannel, ClientError> {
        let channel = self.dial().await?;
        match self.target.policy.policy().freshness.attest {
            Attest::EveryConnection => self.attest(channel).await,
            Attest::PerKey => self.ride_or_attest(channel).await,
        }
    }

    async fn dial(&self) -> Result<UnattestedChannel, ClientError> {
        let endpoint = &self.target.endpoint;
        let to = || endpoint.authority().to_string();
        let limit = DIAL_LIMIT;
        let stream = tokio::time::timeout(limit, TcpStream::connect(endpoint.dial_address())).await;
        let stream = stream.map_err(|_| ClientError::DialTimedOut { to: to(), limit })?;
        let stream = stream.map_err(|error| ClientError::Dial { to: to(), source: Arc::new(error) })?;
        tune(&stream);
        Ok(UnattestedChannel::connect(stream, endpoint.authority(), self.target.protocols).await?)
    }

    /// Rides on a verdict about the connection's key, or makes one that others can ride on. Those who ask at the same
    /// time share one attestation, and also its failure.
    async fn ride_or_attest(
        self: &Arc<Self>,
        channel: UnattestedChannel,
    ) -> Result<AttestedChannel, ClientError> {
        if let Some(verdict) = self.target.keys.verdict_for(channel.spki()) {
            return Ok(AttestedChannel::ride(channel, &verdict)?);
        }
        let turn = self.turn(channel.spki());
        let next = turn.next().await;
        if let Some(verdict) = self.target.keys.verdict_for(channel.spki()) {
            return Ok(AttestedChannel::ride(channel, &verdict)?);
        }
        next.attempt(self.attest(channel)).await
    }

    fn turn(&self, spki: &[u8; 32]) -> Arc<Turn> {
        let mut state = self.state();
        state.turns.retain(|(_, turn)| turn.strong_count() > 0);
        let known = state.turns.iter().find(|(key, _)| key == spki).and_then(|(_, turn)| turn.upgrade());
        known.unwrap_or_else(|| {
            let turn = Arc::default();
            state.turns.push((*spki, Arc::downgrade(&turn)));
            turn
        })
    }

    async fn attest(self: &Arc<Self>, channel: UnattestedChannel) -> Result<AttestedChannel, ClientError> {
        self.appraise(channel.attest().await?).await
    }

    /// Appraises what a peer answered and opens its channel.
    async fn appraise(self: &Arc<Self>, challenged: Challenged) -> Result<AttestedChannel, ClientError> {
        let Challenged { channel, document, challenge } = challenged;
        let now = channel.asked().wall();
        let (endorsements, unfetched) = match self.endorsements(&document, now).await {
            Ok(endorsements) => (endorsements, None),
            // What there is is appraised all the same, so that records hold what the guest showed.
            Err(error) => (Arc::clone(&self.target.endorsements), Some(error)),
        };
        let (asked, key_exchange) = (channel.asked(), channel.key_exchange());
        let question = Asked { document, challenge, endorsements, asked, key_exchange };
        let pool = Arc::clone(self);
        let judged = tokio::task::spawn_blocking(move || pool.target.judge(question, &pool.memo)).await;
        let Judged { verdict, appraised, recorded } = judged.map_err(|_| ClientError::Internal)?;
        let appraised = self.note(Appraised { elapsed: Moment::now().since(asked), ..appraised });
        match (verdict, unfetched) {
            (Ok(attested), _) => {
                recorded?;
                self.admit(channel, attested)
            }
            // The service is to blame, not the guest: what rests on its earlier evidence stays.
            (Err(_), Some(error)) if lacks_collateral(&appraised.result) => {
                recorded?;
                Err(error.into())
            }
            (Err(_), _) => {
                self.expel(channel.spki());
                recorded?;
                Err(ClientError::Rejected(appraised))
            }
        }
    }

    /// The endorsements beside those that are stapled.
    async fn endorsements(&self, document: &[u8], now: UnixTime) -> Result<Arc<Endorsements>, EndorserError> {
        let given = &self.target.endorsements;
        let Some(endorsing) = self.target.endorsing.as_ref().filter(|_| given.tdx.is_none()) else {
            return Ok(Arc::clone(given));
        };
        Ok(match endorsing.for_document(document, self.target.policy.policy(), now).await? {
            Some(tdx) => Arc::new(Endorsements { tdx: Some(tdx), ..Endorsements::clone(given) }),
            None => Arc::clone(given),
        })
    }

    fn note(&self, appraised: Appraised) -> Arc<Appraised> {
        self.target.observers.iter().for_each(|observer| observer(&appraised));
        let appraised = Arc::new(appraised);
        self.state().latest = Some(Arc::clone(&appraised));
        appraised
    }

    fn admit(
        self: &Arc<Self>,
        channel: confide_channel::ChallengedChannel,
        attested: Attested,
    ) -> Result<AttestedChannel, ClientError> {
        let attest = self.target.policy.policy().freshness.attest;
        let channel = AttestedChannel::open(channel, attested, attest)?;
        self.target.keys.insert(channel.verdict());
        {
            let mut state = self.state();
            state.standing = Some(Arc::clone(channel.verdict()));
            state.notes(channel.verdict());
        }
        tokio::spawn(renew_ahead(Arc::downgrade(self), Arc::clone(channel.verdict()), Made::Here));
        Ok(channel)
    }

    /// Ends what rests on an earlier verdict about a key whose evidence is no longer accepted, wherever it is.
    fn expel(&self, spki: &[u8; 32]) {
        self.target.keys.revoke(spki);
        let mut state = self.state();
        state.idle.retain(|channel| channel.verdict().spki() != spki);
        state.shared.retain(|channel| channel.verdict().spki() != spki);
    }

    /// Attests again before a verdict ends, off the path of any request, where nobody else has done so.
    pub(crate) async fn renew(self: &Arc<Self>, verdict: &Arc<Verdict>) -> Result<(), ClientError> {
        let now = Moment::now();
        let younger = self.target.keys.verdict_for(verdict.spki());
        if younger.is_some_and(|one| one.left(now) > verdict.left(now)) {
            return Ok(());
        }
        let rests = |channel: &AttestedChannel| Arc::ptr_eq(channel.verdict(), verdict);
        let (beside, resting) = {
            let mut state = self.state();
            let beside = state.shared.iter().find(|channel| rests(channel));
            match beside.and_then(AttestedChannel::challenge_beside) {
                Some(asking) => (Some(asking), None),
                None => {
                    let place = state.idle.iter().position(rests);
                    (None, place.map(|place| state.idle.swap_remove(place)))
                }
            }
        };
        let challenged = match (beside, resting, self.target.policy.policy().freshness.attest) {
            (Some(asking), ..) => asking.await?,
            (None, Some(channel), _) => channel.challenge().await?,
            (None, None, Attest::PerKey) => {
                let channel = self.dial().await?;
                if channel.spki() != verdict.spki() {
                    return Ok(());
                }
                channel.attest().await?
            }
            // The verdict's one connection is in use or gone.
            (None, None, Attest::EveryConnection) => return Ok(()),
        };
        let channel = self.appraise(challenged).await?;
        if channel.is_multiplexed() {
            self.keep_shared(&channel);
        }
        self.put(channel);
        Ok(())
    }

    fn is_used_since(&self, start: Instant) -> Option<()> {
        self.state().last_use.filter(|last| *last > start).map(|_| ())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Takes a verdict to be renewed from here, and notes what it attests. Whether it is new.
    fn notes(&mut self, verdict: &Arc<Verdict>) -> bool {
        if self.renewed.iter().any(|known| known.as_ptr() == Arc::as_ptr(verdict)) {
            return false;
        }
        self.renewed.retain(|known| known.strong_count() > 0);
        self.renewed.push(Arc::downgrade(verdict));
        let name = &verdict.claims().model.name;
        if !self.models.contains(name) && self.models.len() < MAX_KNOWN_MODELS {
            self.models.push(name.clone());
        }
        true
    }

    /// A handle on a connection that has room for one more request.
    fn share(&mut self, keys: &Keys) -> Option<AttestedChannel> {
        let mut shared = std::mem::take(&mut self.shared);
        shared.retain(|channel| !channel.is_closed() && !left(channel, keys).is_zero());
        let found = shared.iter().filter_map(AttestedChannel::share).find_map(|found| freshen(found, keys));
        self.shared = shared;
        found
    }
}

/// How long a channel may still be used: as long as the youngest verdict about its key holds.
fn left(channel: &AttestedChannel, keys: &Keys) -> Duration {
    let now = Moment::now();
    let younger = keys.verdict_for(channel.verdict().spki());
    channel.verdict().left(now).max(younger.map_or(Duration::ZERO, |younger| younger.left(now)))
}

/// Lets a channel rest on the youngest verdict about its key. `None` when no verdict holds any more.
fn freshen(channel: AttestedChannel, keys: &Keys) -> Option<AttestedChannel> {
    let now = Moment::now();
    let left = channel.verdict().left(now);
    let younger = keys.verdict_for(channel.verdict().spki());
    match younger.filter(|younger| younger.left(now) > left) {
        Some(younger) => channel.renew(&younger).ok(),
        None => (!left.is_zero()).then_some(channel),
    }
}

/// Whether a guest is refused for want of collateral before anything else; only with it is the rest of the verdict final.
fn lacks_collateral(result: &AttestationResult) -> bool {
    matches!(result.code, Some("collateral_present" | "validity"))
}

/// Lets streamed answers through in small pieces, and notices a guest that is gone without a word. A socket that refuses
/// is slower and no less right.
fn tune(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let _ = sockopt::set_socket_keepalive(stream, true);
    let _ = sockopt::set_tcp_keepidle(stream, KEEP_ALIVE);
    let _ = sockopt::set_tcp_keepintvl(stream, KEEP_ALIVE);
    let _ = sockopt::set_tcp_keepcnt(stream, KEEP_ALIVE_PROBES);
}

/// Where a verdict was made that a pool rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Made {
    Here,
    /// By a client that shares what is known of keys, and renews it before.
    Elsewhere,
}

impl Made {
    /// How long before its end a verdict is renewed of which so much is left.
    fn ahead(self, left: Duration) -> Duration {
        let part = |time: Duration, number| time.checked_div(number).unwrap_or_default();
        let here = RENEW_AHEAD.min(part(left, 4));
        match self {
            Self::Here => here,
            Self::Elsewhere => part(here, 2),
        }
    }
}

/// Waits until a verdict is near its end and renews it, where it has been used since.
async fn renew_ahead(pool: Weak<Pool>, verdict: Arc<Verdict>, made: Made) {
    let start = Instant::now();
    let left = verdict.left(Moment::now());
    tokio::time::sleep(left.saturating_sub(made.ahead(left))).await;
    let Some(pool) = pool.upgrade() else { return };
    if pool.is_used_since(start).is_none() {
        return;
    }
    match Box::pin(pool.renew(&verdict)).await {
        Ok(()) => debug!(endpoint = %pool.endpoint(), "verdict renewed"),
        Err(error) => warn!(endpoint = %pool.endpoint(), code = error.code(), "verdict not renewed"),
    }
}

impl Lease {
    /// The verdict that the channel rests on.
    ///
    /// # Panics
    /// Never: a lease holds its channel until it is sent or dropped.
    #[must_use]
    pub fn verdict(&self) -> &Arc<Verdict> {
        self.channel.as_ref().expect("a lease holds its channel until it is sent or dropped").verdict()
    }

    /// Sends a request. One of which nothing was written, because the guest had closed the idle connection or its
    /// verdict no longer holds, is sent over another attested channel, once. That one may rest on another verdict under
    /// the same policy: the response has it.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn send(mut self, request: Request) -> Result<Response, ClientError> {
        let mut sent = Sent::of(&request);
        let answer = match self.send_once(request).await {
            Ok(answer) => answer,
            Err(SendError {
                error:
                    ChannelError::Connection(_) | ChannelError::VerdictExpired | ChannelError::VerdictRevoked,
                unsent: Some(request),
            }) => {
                let mut other = self.pool.lease().await?;
                sent = sent.again();
                other.send_once(request).await.map_err(|failure| ClientError::from(failure.error))?
            }
            Err(failure) => return Err(failure.error.into()),
        };
        self.response(answer, sent).await
    }

    /// The response of an answer to what was sent over this lease's channel.
    pub(crate) async fn response(&self, answer: Answer, sent: Sent) -> Result<Response, ClientError> {
        Response::new(answer, sent, Arc::clone(&self.pool))?.verified_first().await
    }

    /// Sends a request over this channel alone. The lease is used up.
    pub(crate) async fn send_once(&mut self, request: Request) -> Result<Answer, SendError> {
        let channel = self.channel.take().expect("a lease holds its channel until it is sent or dropped");
        let request = match self.pool.receipts() {
            Receipts::NotAsked => request.without_trailers(),
            Receipts::WherePresent | Receipts::Required => request,
        };
        channel.send(request).await
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(channel) = self.channel.take() {
            self.pool.put(channel);
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("channel", &self.channel).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Client;
    use crate::keys::KeyRing;
    use confide_policy::Loaded;
    use confide_testkit::guest::{self, Attestation, Guest};

    /// A guest at two addresses, and somebody else who has no evidence for its own key.
    #[tokio::test]
    async fn a_refusal_ends_what_rests_on_its_key_at_every_address_and_nothing_else() {
        let one = Guest::new(0).unwrap().listen().await.unwrap();
        let two = one.guest.clone().listen().await.unwrap();
        let other = Guest::new(0).unwrap().attesting(Attestation::OtherKey).listen().await.unwrap();
        let ring = KeyRing::default();
        let [one_client, two_client, other_client] = [&one, &two, &other].map(|guest| {
            let policy = PolicyText::parse(guest::policy("per-key", 300), Loaded::AsDanger).unwrap();
            Client::builder(&guest.url(), policy).unwrap().key_ring(&ring).build()
        });
        let lease = one_client.lease().await.unwrap();
        assert!(Arc::ptr_eq(lease.verdict(), &two_client.verdict().await.unwrap()));
        drop(one_client.lease().await.unwrap());
        assert_eq!((one.guest.attestations(), one_client.pool().state().idle.len()), (1, 1));
        let attest = async |client: &Client| {
            let channel = client.pool().dial().await.unwrap();
            client.pool().attest(channel).await.unwrap_err().code()
        };
        let left = || lease.verdict().left(Moment::now());
        let revoked = one_client.pool().keys().revocations();
        assert_eq!(attest(&other_client).await, "report_data");
        assert!(
            !left().is_zero() && !revoked.has_changed().unwrap(),
            "another key's evidence changes nothing"
        );

        let _ = one.guest.clone().attesting(Attestation::OtherKey);
        assert_eq!(attest(&two_client).await, "report_data");
        assert!(left().is_zero() && revoked.has_changed().unwrap());
        assert!(one_client.standing().is_none() && one_client.pool().take_idle().await.is_none());
    }

    /// Whoever was attested at an address that is given up is renewed from the others.
    #[tokio::test]
    async fn a_verdict_that_was_made_elsewhere_is_renewed_from_here() {
        let one = Guest::new(0).unwrap().listen().await.unwrap();
        let two = one.guest.clone().listen().await.unwrap();
        let ring = KeyRing::default();
        let [one_client, two_client] = [&one, &two].map(|guest| {
            let policy = PolicyText::parse(guest::policy("per-key", 4), Loaded::AsDanger).unwrap();
            Client::builder(&guest.url(), policy).unwrap().key_ring(&ring).build()
        });
        let first = one_client.verdict().await.unwrap();
        let shared = two_client.verdict().await.unwrap();
        assert!(Arc::ptr_eq(&first, &shared));
        drop((one_client, one));
        // A verdict that nobody uses is not renewed.
        tokio::time::sleep(Duration::from_millis(50)).await;
        two_client.verdict().await.unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while two.guest.attestations() < 2 {
            assert!(Instant::now() < deadline, "nobody renews it");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The second appraisal finds collateral and platform known.
    #[tokio::test]
    async fn what_an_appraisal_established_is_kept_for_the_next() {
        let guest = Guest::new(0).unwrap().listen().await.unwrap();
        let policy = guest::policy("every-connection", 300);
        let policy = PolicyText::parse(policy, Loaded::AsDanger).unwrap();
        let client = Client::builder(&guest.url(), policy).unwrap().build();
        let pool = client.pool();
        let mut held = Vec::new();
        for _ in 0..2 {
            held.push(pool.lease().await.unwrap());
            assert_eq!((pool.memo.collaterals(), pool.memo.platforms()), (1, 1));
        }
        assert_eq!(guest.guest.attestations(), 2);
    }
}
