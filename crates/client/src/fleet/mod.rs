//! Several instances behind one client: each attested before use, chosen by what its verdict attests.
//!
//! A list or a discovery file suggests addresses. Everything else that decides where a request goes comes from a
//! verdict: which model an instance has, and whether it is used at all.
//!
//! ```no_run
//! use confide_client::fleet::{Fleet, ModelChoice, Repeat};
//! use confide_client::{Client, PolicyText, Request};
//! use confide_policy::Loaded;
//!
//! # async fn ask() -> Result<(), Box<dyn std::error::Error>> {
//! let policy = PolicyText::parse(std::fs::read_to_string("policies/client.toml")?, Loaded::Normally)?;
//! let fleet = Fleet::builder(move |endpoint| Client::builder(&endpoint.to_string(), policy.clone()))
//!     .upstream("https://a.example:8443")?
//!     .upstream("https://b.example:8443")?
//!     .build()?;
//! let body = r#"{"model": "Qwen/Qwen3-0.6B", "prompt": "An RTMR is"}"#.to_owned();
//! let request = Request::post("/v1/completions", body.into())?;
//! let delivery = fleet.send(ModelChoice::Named("Qwen/Qwen3-0.6B"), Repeat::Harmless, request).await?;
//! println!("{} from {}", delivery.response.status, delivery.slot.instance().id());
//! # Ok(())
//! # }
//! ```

mod backoff;
pub(crate) mod discovery;
mod error;
mod event;
mod instance;
mod meters;
mod model;

pub use backoff::Backoff;
pub use discovery::{DiscoveryError, read as read_discovery};
pub use error::{CODES, FleetError, FleetSetupError};
pub use event::FleetEvent;
pub use instance::{Instance, InstanceState, InstanceView, Slot};
pub use model::ModelChoice;

use crate::client::ClientBuilder;
use crate::endpoint::Endpoint;
use crate::error::ClientError;
use crate::keys::KeyRing;
use crate::pool::{Lease, MostIdle};
use crate::receipts::Sent;
use crate::response::{Response, Watch};
use backoff::{jittered, later};
use confide_channel::{ChannelError, Request, SendError, Verdict};
use confide_evidence::bytes::Digest;
use discovery::Edition;
use event::Listener;
use http::StatusCode;
use instance::{Rules, Shared};
use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, SystemTime};
use tokio::sync::watch;
use tokio::time::Instant;

/// The most instances of a fleet. Each is attested every few minutes, which takes a client a few milliseconds; a
/// larger fleet stands behind fewer addresses.
pub const MAX_INSTANCES: usize = 128;
/// The most requests that may be under way at an instance where nobody says otherwise. Guests refuse by themselves what
/// is too much for them: this bounds sockets and memory here.
pub const MAX_IN_FLIGHT: usize = 1024;
/// Intervals between attempts at an instance whose evidence was refused.
const QUARANTINE: Backoff = Backoff { first: Duration::from_secs(5), longest: Duration::from_secs(600) };
/// Intervals between attempts at an instance that was not reached.
const UNREACHABLE: Backoff = Backoff { first: Duration::from_millis(250), longest: Duration::from_secs(30) };
/// How long a request waits for an instance that is being attested: dial, handshake and evidence at their longest.
const PATIENCE: Duration = Duration::from_secs(90);
/// How long an instance is asked to wait that has as many requests as it may have.
const FULL: Duration = Duration::from_secs(1);
/// How long a request waits for a channel of an instance while another attested one has its model: a guest that cannot attest
/// now asks to come again later, for up to a minute.
const ELSEWHERE: Duration = Duration::from_secs(2);
/// How long the rest of a refusal may take, so that its connection can be used again.
const REFUSAL_LIMIT: Duration = Duration::from_millis(250);

/// A fleet. Cheap to clone; clones are the same fleet. Its instances are kept attested for as long as it lives.
#[derive(Clone)]
pub struct Fleet {
    inner: Arc<Inner>,
}

/// Begins the client of an instance, from its address.
type Begin = dyn Fn(&Endpoint) -> Result<ClientBuilder, ClientError> + Send + Sync;

struct Inner {
    begin: Box<Begin>,
    rules: Rules,
    shared: Arc<Shared>,
    instances: RwLock<Arc<[Arc<Instance>]>>,
    /// Those that no discovery file can remove.
    listed: BTreeSet<String>,
    /// One change of the list at a time.
    changing: Mutex<()>,
    discovery: Option<PathBuf>,
    /// Why the discovery file is not used as it is now.
    refused: Mutex<Option<String>>,
    /// Where the search for the least busy instance begins.
    turn: AtomicUsize,
}

/// Settings of a [`Fleet`].
pub struct FleetBuilder {
    begin: Box<Begin>,
    listed: Vec<Endpoint>,
    discovery: Option<PathBuf>,
    rules: Rules,
    listener: Option<Listener>,
}

/// Whether a request may be sent again after it may have reached a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// It may: answering it twice does no harm.
    Harmless,
    /// It may not.
    Never,
}

/// An answer, and the request under way that it belongs to.
pub struct Delivery {
    /// The answer.
    pub response: Response,
    /// Counts as under way until it is dropped: keep it until the answer has been read.
    pub slot: Slot,
}

/// Why an instance did not answer.
struct Missed {
    error: ClientError,
    reached: Reached,
}

/// How far a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reached {
    /// Nothing of it was written.
    Nobody,
    /// It may have reached the guest.
    Guest,
    /// The guest has begun to answer.
    Answer,
}

/// Where a request goes.
struct Place {
    slot: Slot,
    /// For a request that names no model, the manifest that all attested instances had: the channel's own verdict must
    /// have it.
    manifest: Option<Digest>,
}

/// What a look at all instances comes to.
enum Look {
    Go(Place),
    Wait,
    Stop(FleetError),
}

/// What a request waits for.
struct Waiting {
    until: Instant,
    /// How often each instance had been tried when the request first looked.
    seen: Vec<(usize, u64)>,
}

impl Fleet {
    /// Begins a fleet whose clients `begin` makes, one for each instance. All must have the same policy, and do the same
    /// with appraisals: clients with one policy share verdicts, so that a guest behind several addresses is attested once.
    pub fn builder(
        begin: impl Fn(&Endpoint) -> Result<ClientBuilder, ClientError> + Send + Sync + 'static,
    ) -> FleetBuilder {
        let rules = Rules { max_in_flight: MAX_IN_FLIGHT, quarantine: QUARANTINE, unreachable: UNREACHABLE };
        FleetBuilder { begin: Box::new(begin), listed: Vec::new(), discovery: None, rules, listener: None }
    }

    /// All instances now, in the order of the list and then of the discovery file.
    #[must_use]
    pub fn instances(&self) -> Arc<[Arc<Instance>]> {
        self.inner.instances()
    }

    /// The discovery file, where there is one.
    #[must_use]
    pub fn discovery(&self) -> Option<&std::path::Path> {
        self.inner.discovery.as_deref()
    }

    /// Why the discovery file is not used as it is now: what it said before goes on.
    #[must_use]
    pub fn discovery_error(&self) -> Option<String> {
        self.inner.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether requests are always for one and the same instance, and its own word on models is as good as any: there is
    /// no other instance, none can be discovered, and the policy has no table of models.
    #[must_use]
    pub fn is_single(&self) -> bool {
        let instances = self.instances();
        self.inner.discovery.is_none()
            && matches!(&instances[..], [only] if only.client().policy().models.is_none())
    }

    /// The names of all models that attested instances have, sorted, each with a verdict that attests it.
    #[must_use]
    pub fn models(&self) -> Vec<(String, Arc<Verdict>)> {
        model::all(&self.instances())
    }

    /// Waits until an instance is attested, where one may yet be.
    ///
    /// # Errors
    /// [`FleetError::NoAttestedInstances`], [`FleetError::Refused`]; [`FleetError::Client`] where this machine is at
    /// fault.
    pub async fn attested(&self) -> Result<(), FleetError> {
        let look = |waiting: &mut Waiting| {
            let instances = self.instances();
            if instances.iter().any(|instance| instance.attested().is_some()) {
                return Ok(Some(()));
            }
            match waiting.awaits(instances.iter()) {
                true => Ok(None),
                false => Err(self.none_attested(&instances)),
            }
        };
        self.wait(look).await
    }

    /// Sends a request to the least busy of the attested instances that have its model, and to another one where that
    /// does not answer: it is overloaded, cannot be reached, or breaks off before the head of its answer.
    ///
    /// Where a request may have reached a guest that broke off, or was answered with 503 or 429, it goes on to another one
    /// only if `repeat` says that this does no harm: else such an answer is handed over. Once the head of another answer is
    /// there, nothing is sent again.
    ///
    /// # Errors
    /// [`FleetError`].
    pub async fn send(
        &self,
        model: ModelChoice<'_>,
        repeat: Repeat,
        request: Request,
    ) -> Result<Delivery, FleetError> {
        let mut sent = Sent::of(&request);
        let mut tried: Vec<Arc<Instance>> = Vec::new();
        let mut last: Option<FleetError> = None;
        loop {
            let Place { slot, manifest } = match self.place(model, &tried).await {
                Ok(place) => place,
                Err(error) => return Err(last.map_or(error, |last| self.conclude(last))),
            };
            let instance = Arc::clone(slot.instance());
            if last.is_some()
                && let Some(before) = tried.last()
            {
                before.meters.failovers.count([reason(last.as_ref())]);
            }
            match self.try_at((&instance, &tried), (model, manifest), &request, &mut sent).await {
                Ok(Some(mut response)) => match refuses(response.status) {
                    false => {
                        let watch: Arc<dyn Watch> = Arc::<Instance>::clone(&instance);
                        response.body.watched_by(watch);
                        return Ok(Delivery { response, slot });
                    }
                    true => {
                        let retry_in = backoff::retry_after(&response.headers, SystemTime::now());
                        instance.overload(retry_in);
                        // What answers so may stand behind the guest's API, and the request have had its effect.
                        if repeat == Repeat::Never {
                            return Ok(Delivery { response, slot });
                        }
                        finish(response).await;
                        last = Some(FleetError::Overloaded { retry_in });
                    }
                },
                // Behind its address there are guests with several models.
                Ok(None) => {}
                Err(Missed { error, reached }) => {
                    instance.failed(&error);
                    let is_final = matches!(
                        error,
                        ClientError::Request(_)
                            | ClientError::NotRecorded(_)
                            | ClientError::Receipt(_)
                            | ClientError::Internal
                    );
                    let may_repeat = match reached {
                        Reached::Nobody => true,
                        Reached::Guest => repeat == Repeat::Harmless,
                        Reached::Answer => false,
                    };
                    if is_final || !may_repeat {
                        return Err(error.into());
                    }
                    last = Some(error.into());
                }
            }
            tried.push(instance);
        }
    }

    /// Sends a request over a channel whose own verdict attests the model, and the manifest; nothing where it does not. A
    /// request of which nothing was written, because the guest had closed the idle connection or its verdict no longer
    /// holds, is sent over another channel, once.
    async fn try_at(
        &self,
        (instance, tried): (&Arc<Instance>, &[Arc<Instance>]),
        (model, manifest): (ModelChoice<'_>, Option<Digest>),
        request: &Request,
        sent: &mut Sent,
    ) -> Result<Option<Response>, Missed> {
        let unsent = |error| Missed { error, reached: Reached::Nobody };
        let mut stale = false;
        loop {
            let mut lease = self.lease(instance, tried, model).await.map_err(unsent)?;
            let attested = lease.verdict();
            if !model.fits(instance.client().policy(), attested)
                || manifest.is_some_and(|manifest| manifest != attested.claims().model.manifest)
            {
                return Ok(None);
            }
            *sent = sent.again();
            match lease.send_once(request.again()).await {
                Ok(answer) => {
                    let answered = lease.response(answer, *sent).await;
                    return answered.map(Some).map_err(|error| Missed { error, reached: Reached::Answer });
                }
                Err(SendError {
                    error:
                        ChannelError::Connection(_) | ChannelError::VerdictExpired | ChannelError::VerdictRevoked,
                    unsent: Some(_),
                }) if !stale => stale = true,
                Err(SendError { error, unsent }) => {
                    let reached = if unsent.is_some() { Reached::Nobody } else { Reached::Guest };
                    return Err(Missed { error: error.into(), reached });
                }
            }
        }
    }

    /// A channel of an instance. It is not waited for longer than [`ELSEWHERE`] where another instance could answer.
    async fn lease(
        &self,
        instance: &Arc<Instance>,
        tried: &[Arc<Instance>],
        model: ModelChoice<'_>,
    ) -> Result<Lease, ClientError> {
        let others = async {
            loop {
                tokio::time::sleep(ELSEWHERE).await;
                let instances = self.instances();
                let passed = |one: &Arc<Instance>| {
                    Arc::ptr_eq(one, instance) || tried.iter().any(|tried| Arc::ptr_eq(tried, one))
                };
                let has = |one: &Arc<Instance>| {
                    one.attested().is_some_and(|verdict| model.fits(one.client().policy(), &verdict))
                };
                if instances.iter().any(|one| !passed(one) && one.overloaded().is_none() && has(one)) {
                    return;
                }
            }
        };
        tokio::select! {
            // A channel that is there costs no timer.
            biased;
            lease = instance.client().lease() => lease,
            () = others => Err(ChannelError::TimedOut { step: "an attested channel", limit: ELSEWHERE }.into()),
        }
    }

    /// A place at the least busy attested instance that has the model.
    async fn place(&self, model: ModelChoice<'_>, tried: &[Arc<Instance>]) -> Result<Place, FleetError> {
        let look = |waiting: &mut Waiting| match self.look(model, tried, waiting) {
            Look::Go(place) => Ok(Some(place)),
            Look::Wait => Ok(None),
            Look::Stop(error) => Err(error),
        };
        self.wait(look).await
    }

    /// Looks until there is something to see, each time that something has changed.
    async fn wait<T>(
        &self,
        mut look: impl FnMut(&mut Waiting) -> Result<Option<T>, FleetError>,
    ) -> Result<T, FleetError> {
        let mut waiting = Waiting { until: later(Instant::now(), PATIENCE), seen: Vec::new() };
        if let Some(found) = look(&mut waiting)? {
            return Ok(found);
        }
        let mut changed = self.inner.shared.changed.subscribe();
        loop {
            changed.borrow_and_update();
            if let Some(found) = look(&mut waiting)? {
                return Ok(found);
            }
            if !matches!(tokio::time::timeout_at(waiting.until, changed.changed()).await, Ok(Ok(()))) {
                return Err(self.none_attested(&self.instances()));
            }
        }
    }

    fn look(&self, model: ModelChoice<'_>, tried: &[Arc<Instance>], waiting: &mut Waiting) -> Look {
        let instances = self.instances();
        let attested: Vec<(&Arc<Instance>, Arc<Verdict>)> =
            instances.iter().filter_map(|one| Some((one, one.attested()?))).collect();
        let has =
            |(one, verdict): &&(&Arc<Instance>, Arc<Verdict>)| model.fits(one.client().policy(), verdict);
        let having: Vec<&(&Arc<Instance>, Arc<Verdict>)> = attested.iter().filter(has).collect();
        if model == ModelChoice::Unnamed && model::differ(having.iter().map(|(_, verdict)| verdict)) {
            return Look::Stop(self.model_required());
        }
        let untried = |one: &&Arc<Instance>| !tried.iter().any(|tried| Arc::ptr_eq(tried, one));
        let able: Vec<&Arc<Instance>> = having.iter().map(|(one, _)| *one).filter(untried).collect();
        if !able.is_empty() {
            let manifest = match model {
                ModelChoice::Named(_) => None,
                ModelChoice::Unnamed => having.first().map(|(_, verdict)| verdict.claims().model.manifest),
            };
            return match self.least_busy(&able) {
                Ok(slot) => Look::Go(Place { slot, manifest }),
                Err(error) => Look::Stop(error),
            };
        }
        if model::is_unknown(model, &instances) {
            return Look::Stop(self.not_found(model));
        }
        let is_attested = |one: &Arc<Instance>| attested.iter().any(|(known, _)| Arc::ptr_eq(known, one));
        let mut may_come = instances.iter().filter(|one| !is_attested(one) && model::may_have(model, one));
        if waiting.awaits(may_come.clone().filter(untried)) {
            return Look::Wait;
        }
        // Behind the address of one there are guests with several models.
        if model == ModelChoice::Unnamed && !having.is_empty() {
            return Look::Stop(self.model_required());
        }
        match may_come.next().is_none() && !instances.is_empty() {
            true => Look::Stop(self.not_found(model)),
            false => Look::Stop(self.none_attested(&instances)),
        }
    }

    fn least_busy(&self, able: &[&Arc<Instance>]) -> Result<Slot, FleetError> {
        let mut retry_in = None::<Duration>;
        let mut free: Vec<&Arc<Instance>> = Vec::with_capacity(able.len());
        for one in able {
            match one.overloaded() {
                Some(time) => retry_in = Some(retry_in.map_or(time, |before| before.min(time))),
                None => free.push(one),
            }
        }
        // Of those that are equally busy each has its turn.
        let turn = self.inner.turn.fetch_add(1, Ordering::Relaxed);
        if let Some(turn) = turn.checked_rem(free.len()) {
            free.rotate_left(turn);
        }
        free.sort_by_key(|one| one.in_flight());
        if let Some(slot) = free.iter().find_map(|one| one.slot()) {
            return Ok(slot);
        }
        let retry_in = if free.is_empty() { retry_in.unwrap_or(FULL) } else { jittered(FULL) };
        Err(FleetError::Overloaded { retry_in })
    }

    fn model_required(&self) -> FleetError {
        FleetError::ModelRequired { models: self.models().into_iter().map(|(name, _)| name).collect() }
    }

    fn not_found(&self, model: ModelChoice<'_>) -> FleetError {
        let known = self.models().into_iter().map(|(name, _)| name).collect();
        let refused = |one: &Arc<Instance>| {
            let InstanceView { state: InstanceState::Quarantined, reason: Some(error), .. } = one.view()
            else {
                return None;
            };
            Some(format!("{} is quarantined ({})", one.id(), error.code()))
        };
        let quarantined = self.instances().iter().filter_map(refused).collect();
        FleetError::ModelNotFound { model: model.shown(), known, quarantined }
    }

    /// Why nobody is attested.
    fn none_attested(&self, instances: &[Arc<Instance>]) -> FleetError {
        let views: Vec<(&Arc<Instance>, InstanceView)> =
            instances.iter().map(|one| (one, one.view())).collect();
        if let [(_, InstanceView { reason: Some(error), state, .. })] = &views[..] {
            if matches!(error, ClientError::NotRecorded(_) | ClientError::Internal) {
                return FleetError::Client(error.clone());
            }
            if *state == InstanceState::Quarantined {
                return FleetError::Refused(error.clone());
            }
        }
        let retry_in = views.iter().filter_map(|(_, view)| view.retry_in).min().unwrap_or_default();
        let reason = |(one, view): &(&Arc<Instance>, InstanceView)| {
            let (id, state) = (one.id(), view.state.as_str());
            match &view.reason {
                Some(error) => format!("{id} is {state} ({}): {error}", error.code()),
                None => format!("{id} is {state}"),
            }
        };
        let mut reasons: Vec<String> = views.iter().map(reason).collect();
        if reasons.is_empty() {
            reasons.push("the discovery file names none".to_owned());
        }
        let code = match &views[..] {
            [(_, view)] => view.reason.as_ref().map(ClientError::code),
            _ => None,
        };
        FleetError::NoAttestedInstances { reasons, code, retry_in: retry_in.max(FULL) }
    }

    /// What is told of a request that no further instance took.
    fn conclude(&self, last: FleetError) -> FleetError {
        let FleetError::Client(error) = last else { return last };
        match error {
            // Broken off after the request: the guest may have seen it.
            ClientError::Channel(
                ChannelError::Connection(_) | ChannelError::VerdictExpired | ChannelError::VerdictRevoked,
            ) => FleetError::Client(error),
            error if error.exit_status() >= 10 && self.instances().len() == 1 => FleetError::Refused(error),
            _ => self.none_attested(&self.instances()),
        }
    }
}

/// Whether a status asks to come back later (RFC 9110 section 15.6.4, RFC 6585 section 4). Neither says that the request has
/// had no effect.
fn refuses(status: StatusCode) -> bool {
    matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS)
}

/// Reads the rest of a refusal, so that its connection can be used again.
async fn finish(response: Response) {
    let _ = tokio::time::timeout(REFUSAL_LIMIT, response.whole()).await;
}

/// Why a request goes on to another instance, in a word.
fn reason(last: Option<&FleetError>) -> &'static str {
    match last {
        Some(FleetError::Client(error)) => error.code(),
        _ => "overloaded",
    }
}

impl Waiting {
    /// Whether one of these instances, which are not attested, may yet be: an attempt is under way that began after this
    /// request first looked, or soon will.
    fn awaits<'a>(&mut self, instances: impl Iterator<Item = &'a Arc<Instance>>) -> bool {
        let mut any = false;
        for one in instances {
            let Some(attempts) = one.awaited() else { continue };
            let key = Arc::as_ptr(one).addr();
            match self.seen.iter().find(|(seen, _)| *seen == key) {
                // An attempt may have been under way at the first look, and have failed for a reason that is past.
                Some((_, before)) => any |= attempts.wrapping_sub(*before) < 2,
                None => {
                    self.seen.push((key, attempts));
                    any = true;
                }
            }
        }
        any
    }
}

impl Inner {
    fn instances(&self) -> Arc<[Arc<Instance>]> {
        Arc::clone(&self.instances.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Notes whether the discovery file could be used, and tells of it where it could not.
    fn note_discovery(&self, taken: Result<(), String>) {
        let refused = taken.err();
        (*self.refused.lock().unwrap_or_else(PoisonError::into_inner)).clone_from(&refused);
        if let Some(message) = refused {
            self.shared.tell(&FleetEvent::DiscoveryRefused { message });
        }
    }

    /// Takes the instances that the discovery file names now, in the place of those that it named before.
    fn discover(&self, found: Vec<Endpoint>) -> Result<(), FleetSetupError> {
        let _one: MutexGuard<'_, ()> = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.instances();
        let mut next: Vec<Arc<Instance>> =
            before.iter().filter(|one| self.listed.contains(one.id())).cloned().collect();
        let mut added = Vec::new();
        for endpoint in found {
            let id = endpoint.authority().as_str();
            if self.listed.contains(id) {
                continue;
            }
            match before.iter().find(|one| one.id() == id) {
                Some(known) => next.push(Arc::clone(known)),
                None => {
                    let instance = Instance::new((self.begin)(&endpoint)?, self.rules, &self.shared);
                    added.push(Arc::clone(&instance));
                    next.push(instance);
                }
            }
        }
        if next.len() > MAX_INSTANCES {
            return Err(FleetSetupError::TooMany(next.len()));
        }
        self.shared.most_idle.deal(next.len());
        let stays = |one: &Arc<Instance>| next.iter().any(|other| Arc::ptr_eq(one, other));
        let removed: Vec<Arc<Instance>> = before.iter().filter(|one| !stays(one)).cloned().collect();
        *self.instances.write().unwrap_or_else(PoisonError::into_inner) = next.into();
        for one in &removed {
            one.retire();
            self.shared.tell(&FleetEvent::Removed { instance: one.id().to_owned() });
        }
        for one in &added {
            one.keep();
            self.shared.tell(&FleetEvent::Added { instance: one.id().to_owned() });
        }
        self.shared.changed.send_replace(());
        Ok(())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.instances().iter().for_each(|one| one.retire());
    }
}

impl FleetBuilder {
    /// Adds an instance at `https://host[:port]`.
    ///
    /// # Errors
    /// [`ClientError::Endpoint`]: among others, plain http is refused.
    pub fn upstream(mut self, url: &str) -> Result<Self, ClientError> {
        self.listed.push(url.parse()?);
        Ok(self)
    }

    /// Follows a file that lists further instances: TOML, `[[instance]]` with one field `url` each. It is read again when
    /// it changes, at most once a second. While it cannot be used, what it said before goes on.
    #[must_use]
    pub fn discovery(mut self, file: PathBuf) -> Self {
        self.discovery = Some(file);
        self
    }

    /// The most requests that may be under way at one instance, [`MAX_IN_FLIGHT`] if this is not called.
    #[must_use]
    pub fn max_in_flight(mut self, most: usize) -> Self {
        self.rules.max_in_flight = most;
        self
    }

    /// Intervals between attempts at an instance whose evidence was refused: 5 seconds to 10 minutes if this is not
    /// called.
    #[must_use]
    pub fn quarantine(mut self, backoff: Backoff) -> Self {
        self.rules.quarantine = backoff;
        self
    }

    /// Intervals between attempts at an instance that was not reached: a quarter of a second to 30 seconds if this is not
    /// called. A request that finds no attested instance has it tried again after the first.
    #[must_use]
    pub fn unreachable(mut self, backoff: Backoff) -> Self {
        self.rules.unreachable = backoff;
        self
    }

    /// Tells `listener` of every change. It must not block.
    #[must_use]
    pub fn on_event(mut self, listener: impl Fn(&FleetEvent) + Send + Sync + 'static) -> Self {
        self.listener = Some(Box::new(listener));
        self
    }

    /// The fleet, which begins to attest its instances. Call it within a Tokio runtime.
    ///
    /// # Errors
    /// [`FleetSetupError`].
    pub fn build(self) -> Result<Fleet, FleetSetupError> {
        let Self { begin, listed, discovery, rules, listener } = self;
        if listed.is_empty() && discovery.is_none() {
            return Err(FleetSetupError::Empty);
        }
        let known = discovery.as_deref().map(Edition::of);
        let found = discovery.as_deref().map(discovery::read).transpose()?.unwrap_or_default();
        if listed.len() > MAX_INSTANCES {
            return Err(FleetSetupError::TooMany(listed.len()));
        }
        let shared = Arc::new(Shared {
            changed: watch::Sender::new(()),
            listener,
            ledger: Arc::default(),
            key_ring: KeyRing::default(),
            most_idle: MostIdle::default(),
        });
        let mut ids = BTreeSet::new();
        let mut instances = Vec::with_capacity(listed.len());
        for endpoint in &listed {
            let id = endpoint.authority().to_string();
            if !ids.insert(id.clone()) {
                return Err(FleetSetupError::Twice(id));
            }
            instances.push(Instance::new(begin(endpoint)?, rules, &shared));
        }
        instances.iter().for_each(Instance::keep);
        let inner = Arc::new(Inner {
            begin,
            rules,
            shared,
            instances: RwLock::new(instances.into()),
            listed: ids,
            changing: Mutex::new(()),
            discovery,
            refused: Mutex::default(),
            turn: AtomicUsize::new(0),
        });
        inner.discover(found)?;
        if let (Some(file), Some(known)) = (inner.discovery.clone(), known) {
            tokio::spawn(discovery::follow(Arc::downgrade(&inner), file, known));
        }
        Ok(Fleet { inner })
    }
}

impl fmt::Debug for Fleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fleet").field("instances", &self.instances()).finish_non_exhaustive()
    }
}

impl fmt::Debug for FleetBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { listed, discovery, rules, .. } = self;
        f.debug_struct("FleetBuilder")
            .field("listed", listed)
            .field("discovery", discovery)
            .field("rules", rules)
            .finish_non_exhaustive()
    }
}
