//! One instance of a fleet: its client, what is known of it, and what keeps its verdict young.

use super::backoff::{Backoff, jittered, later};
use super::event::{FleetEvent, Listener};
use super::meters::Meters;
use crate::client::{Client, ClientBuilder};
use crate::error::ClientError;
use crate::keys::KeyRing;
use crate::pool::MostIdle;
use crate::receipts::Ledger;
use crate::response::Watch;
use confide_channel::{ChannelError, Moment, Verdict};
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// The shortest time between two looks at a verdict that holds.
const SOONEST_LOOK: Duration = Duration::from_secs(1);

/// One instance: a guest at one address, or several behind it.
pub struct Instance {
    id: String,
    client: Client,
    rules: Rules,
    shared: Arc<Shared>,
    in_flight: AtomicUsize,
    status: Mutex<Status>,
    /// The keeper looks again.
    wake: Notify,
    keeper: Mutex<Option<AbortHandle>>,
    pub(crate) meters: Meters,
}

/// What holds for every instance of a fleet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub(super) max_in_flight: usize,
    pub(super) quarantine: Backoff,
    pub(super) unreachable: Backoff,
}

/// What the instances of a fleet tell.
pub(super) struct Shared {
    /// Whoever waits for an instance looks again.
    pub(super) changed: watch::Sender<()>,
    pub(super) listener: Option<Listener>,
    /// The receipts that came from any of them: one guest may stand behind several addresses.
    pub(super) ledger: Arc<Ledger>,
    /// What is known of guests' keys, at whatever address they were met.
    pub(super) key_ring: KeyRing,
    /// How many idle connections each instance's client keeps.
    pub(super) most_idle: MostIdle,
}

impl Shared {
    pub(super) fn tell(&self, event: &FleetEvent) {
        if let Some(listener) = &self.listener {
            listener(event);
        }
    }
}

#[derive(Default)]
struct Status {
    hold: Option<Hold>,
    /// Refused evidence and lost connections in a row, since the last verdict.
    refusals: u32,
    losses: u32,
    overloaded: Option<Instant>,
    /// How often the keeper has tried.
    attempts: u64,
    /// How often something was found against the instance.
    failures: u64,
}

/// What the keeper knew when it began to try.
#[derive(Clone, Copy)]
struct Attempt {
    /// How often something had been found against the instance.
    failures: u64,
    /// What is held against it.
    trouble: Option<Trouble>,
}

/// Why an instance is not used for now.
struct Hold {
    trouble: Trouble,
    error: ClientError,
    tried: Instant,
    until: Instant,
}

/// What keeps an instance from being used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    /// Its evidence was refused.
    Refused,
    /// It does not answer.
    Lost,
}

impl Trouble {
    /// What an error says of its instance; nothing where the instance has no part in it, or a verdict has merely ended.
    fn of(error: &ClientError) -> Option<Self> {
        match error {
            ClientError::Channel(ChannelError::VerdictExpired | ChannelError::VerdictRevoked) => None,
            ClientError::Request(_)
            | ClientError::Answered { .. }
            | ClientError::Receipt(_)
            | ClientError::Endpoint(_) => None,
            error if error.exit_status() >= 10 => Some(Self::Refused),
            _ => Some(Self::Lost),
        }
    }
}

/// What an instance is good for at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InstanceState {
    /// A verdict about it holds.
    Attested,
    /// A verdict holds, and the instance asked to be left alone.
    Overloaded,
    /// It is being attested.
    Pending,
    /// Its evidence was not accepted.
    Quarantined,
    /// It could not be reached, or broke off.
    Unreachable,
}

impl InstanceState {
    /// Every state.
    pub const ALL: [Self; 5] =
        [Self::Attested, Self::Overloaded, Self::Pending, Self::Quarantined, Self::Unreachable];

    /// The word in status and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Attested => "attested",
            Self::Overloaded => "overloaded",
            Self::Pending => "pending",
            Self::Quarantined => "quarantined",
            Self::Unreachable => "unreachable",
        }
    }
}

/// What is known of an instance at a moment.
#[derive(Clone, Debug)]
pub struct InstanceView {
    /// What it is good for.
    pub state: InstanceState,
    /// Why it is not used, where it is quarantined or unreachable.
    pub reason: Option<ClientError>,
    /// When it is tried again, or no longer taken for overloaded.
    pub retry_in: Option<Duration>,
    /// The verdict, where one holds.
    pub verdict: Option<Arc<Verdict>>,
}

impl Instance {
    pub(super) fn new(builder: ClientBuilder, rules: Rules, shared: &Arc<Shared>) -> Arc<Self> {
        Arc::new_cyclic(|this: &std::sync::Weak<Self>| {
            let id = builder.endpoint().authority().to_string();
            let told = this.clone();
            let builder = builder.on_appraisal(move |appraised| {
                let Some(instance) = told.upgrade() else { return };
                let result = &appraised.result;
                instance.meters.appraised(result, appraised.elapsed);
                if !result.accepted() {
                    // A verdict that was renewed in vain has ended: the keeper says what follows.
                    instance.wake.notify_one();
                }
            });
            Self {
                id,
                client: builder
                    .ledger(Arc::clone(&shared.ledger))
                    .key_ring(&shared.key_ring)
                    .most_idle(shared.most_idle.clone())
                    .build(),
                rules,
                shared: Arc::clone(shared),
                in_flight: AtomicUsize::new(0),
                status: Mutex::default(),
                wake: Notify::new(),
                keeper: Mutex::new(None),
                meters: Meters::default(),
            }
        })
    }

    /// Host and port, by which the instance is named.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its client. What is sent past the fleet is not counted.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Requests under way.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// The most requests that may be under way.
    #[must_use]
    pub fn max_in_flight(&self) -> usize {
        self.rules.max_in_flight
    }

    /// What is known of it now.
    #[must_use]
    pub fn view(&self) -> InstanceView {
        let now = Instant::now();
        let verdict = self.client.standing();
        let status = self.status();
        if let Some(hold) = &status.hold {
            let state = match hold.trouble {
                Trouble::Refused => InstanceState::Quarantined,
                Trouble::Lost => InstanceState::Unreachable,
            };
            let (reason, retry_in) = (Some(hold.error.clone()), Some(hold.until.duration_since(now)));
            return InstanceView { state, reason, retry_in, verdict };
        }
        let overloaded = status.overloaded.filter(|until| *until > now);
        let state = match (&verdict, overloaded) {
            (None, _) => InstanceState::Pending,
            (Some(_), Some(_)) => InstanceState::Overloaded,
            (Some(_), None) => InstanceState::Attested,
        };
        let retry_in = overloaded.map(|until| until.duration_since(now));
        InstanceView { state, reason: None, retry_in, verdict }
    }

    /// The verdict that a request may rest on now, where nothing speaks against the instance.
    pub(super) fn attested(&self) -> Option<Arc<Verdict>> {
        if self.status().hold.is_some() {
            return None;
        }
        self.client.standing()
    }

    /// How much longer the instance wants to be left alone.
    pub(super) fn overloaded(&self) -> Option<Duration> {
        let now = Instant::now();
        let until = self.status().overloaded.filter(|until| *until > now)?;
        Some(until.duration_since(now))
    }

    /// Takes one of the requests that may be under way at once.
    pub(crate) fn slot(self: &Arc<Self>) -> Option<Slot> {
        let most = self.rules.max_in_flight;
        let more = |now: usize| (now < most).then(|| now.saturating_add(1));
        self.in_flight.fetch_update(Ordering::AcqRel, Ordering::Relaxed, more).ok()?;
        Some(Slot { instance: Arc::clone(self) })
    }

    /// Leaves the instance alone for a time, as it asked.
    pub(super) fn overload(&self, time: Duration) {
        let until = later(Instant::now(), time);
        let mut status = self.status();
        // Of several answers the one that asks for the longest time counts.
        status.overloaded = Some(status.overloaded.map_or(until, |before| before.max(until)));
    }

    /// Whether its evidence is refused for now.
    pub(super) fn is_quarantined(&self) -> bool {
        self.status().hold.as_ref().is_some_and(|hold| hold.trouble == Trouble::Refused)
    }

    /// How often the keeper has tried, where an attempt may yet bring a verdict: one is under way, or soon will be. An
    /// instance that is merely not reached is tried again at once; refused evidence waits for its time.
    pub(super) fn awaited(&self) -> Option<u64> {
        let mut status = self.status();
        let attempts = status.attempts;
        match &mut status.hold {
            None => Some(attempts),
            Some(Hold { trouble: Trouble::Refused, .. }) => None,
            Some(hold) => {
                hold.until = hold.until.min(later(hold.tried, self.rules.unreachable.first));
                self.wake.notify_one();
                Some(attempts)
            }
        }
    }

    /// Notes an error of the instance.
    pub(super) fn failed(&self, error: &ClientError) {
        let Some(trouble) = Trouble::of(error) else { return };
        let now = Instant::now();
        let event = {
            let mut status = self.status();
            let before = status.hold.as_ref().map(|hold| (hold.trouble, hold.until));
            match (before, trouble) {
                // What fails besides while the instance is left alone prolongs nothing.
                (Some((Trouble::Refused, until)), _) | (Some((_, until)), Trouble::Lost) if now < until => {
                    return;
                }
                _ => {}
            }
            let wait = match trouble {
                Trouble::Refused => {
                    status.refusals = status.refusals.saturating_add(1);
                    self.rules.quarantine.after(status.refusals)
                }
                Trouble::Lost => {
                    status.losses = status.losses.saturating_add(1);
                    // A connection that broke while a verdict holds says little: the keeper sees at once.
                    let first = status.losses == 1 && self.client.standing().is_some();
                    if first { Duration::ZERO } else { self.rules.unreachable.after(status.losses) }
                }
            };
            status.failures = status.failures.wrapping_add(1);
            let until = later(now, wait);
            status.hold = Some(Hold { trouble, error: error.clone(), tried: now, until });
            (before.map(|(trouble, _)| trouble) != Some(trouble)).then(|| self.event(trouble, error, wait))
        };
        if let Some(event) = event {
            if trouble == Trouble::Refused {
                self.meters.quarantines.add(1);
            }
            self.shared.tell(&event);
        }
        self.wake.notify_one();
        self.shared.changed.send_replace(());
    }

    fn event(&self, trouble: Trouble, error: &ClientError, retry_in: Duration) -> FleetEvent {
        let (instance, code, message) = (self.id.clone(), error.code(), error.to_string());
        match trouble {
            Trouble::Refused => FleetEvent::Quarantined { instance, code, message, retry_in },
            Trouble::Lost => FleetEvent::Unreachable { instance, code, message, retry_in },
        }
    }

    /// The keeper begins to try.
    fn begin(&self) -> Attempt {
        let status = self.status();
        Attempt { failures: status.failures, trouble: status.hold.as_ref().map(|hold| hold.trouble) }
    }

    /// Notes that a verdict about the instance holds, where nothing was found against it since the attempt began.
    fn recovered(&self, attempt: Attempt) {
        let held = {
            let mut status = self.status();
            if status.failures != attempt.failures {
                return;
            }
            (status.refusals, status.losses) = (0, 0);
            status.hold.take().is_some()
        };
        if held {
            self.shared.tell(&FleetEvent::Recovered { instance: self.id.clone() });
        }
    }

    /// Begins to keep the instance attested, until [`Self::retire`].
    pub(super) fn keep(self: &Arc<Self>) {
        let task = tokio::spawn(keep(Arc::clone(self)));
        let mut keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = keeper.replace(task.abort_handle()) {
            before.abort();
        }
    }

    /// Lets the instance's verdict end. Requests under way go on.
    pub(super) fn retire(&self) {
        if let Some(keeper) = self.keeper.lock().unwrap_or_else(PoisonError::into_inner).take() {
            keeper.abort();
        }
    }

    /// Waits until the instance may be tried.
    async fn held(&self) {
        loop {
            let until = self.status().hold.as_ref().map(|hold| hold.until);
            let Some(until) = until.filter(|until| *until > Instant::now()) else { return };
            tokio::select! {
                () = tokio::time::sleep_until(until) => {}
                () = self.wake.notified() => {}
            }
        }
    }

    fn status(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Attests the instance, and again before each verdict ends: asking for the verdict counts as a use of it, which has the
/// client renew it ahead of its end.
async fn keep(instance: Arc<Instance>) {
    let mut revoked = instance.client.pool().keys().revocations();
    loop {
        instance.held().await;
        revoked.borrow_and_update();
        let attempt = instance.begin();
        let verdict = match attempt.trouble {
            // A connection that is there says nothing of whether another one can be had.
            Some(Trouble::Lost) => instance.client.verdict_anew().await,
            _ => instance.client.verdict().await,
        };
        let look = match verdict {
            Ok(verdict) => {
                instance.recovered(attempt);
                verdict.left(Moment::now()).checked_div(2).unwrap_or_default().max(SOONEST_LOOK)
            }
            Err(error) => {
                instance.meters.not_attested(&error);
                instance.failed(&error);
                jittered(SOONEST_LOOK)
            }
        };
        {
            let mut status = instance.status();
            status.attempts = status.attempts.wrapping_add(1);
        }
        instance.shared.changed.send_replace(());
        tokio::select! {
            () = tokio::time::sleep(look) => {}
            () = instance.wake.notified() => {}
            // It may have been that of this instance, by evidence that another address gave.
            _ = revoked.changed() => {}
        }
    }
}

impl Watch for Instance {
    /// An instance that breaks off amid an answer gets nothing more before it has been dialled again, which the keeper does
    /// at once. Further answers that break off with it say nothing more.
    fn broke_off(&self, error: &ClientError) {
        let is_known = self.status().hold.is_some();
        if !is_known {
            self.failed(error);
        }
    }
}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Instance").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A request under way at an instance. Over when dropped.
pub struct Slot {
    instance: Arc<Instance>,
}

impl Slot {
    /// The instance.
    #[must_use]
    pub fn instance(&self) -> &Arc<Instance> {
        &self.instance
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.instance.in_flight.fetch_sub(1, Ordering::AcqRel);
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").field("instance", &self.instance.id).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::Fleet;
    use crate::policy::PolicyText;
    use confide_policy::Loaded;
    use confide_testkit::guest;
    use std::io;

    fn rules() -> Rules {
        Rules {
            max_in_flight: 2,
            quarantine: Backoff { first: Duration::from_secs(5), longest: Duration::from_secs(600) },
            unreachable: Backoff { first: Duration::from_millis(250), longest: Duration::from_secs(30) },
        }
    }

    fn instance() -> Arc<Instance> {
        instance_with(rules())
    }

    fn instance_with(rules: Rules) -> Arc<Instance> {
        let policy = PolicyText::parse(guest::policy("per-key", 300), Loaded::AsDanger).unwrap();
        let builder = Client::builder("https://127.0.0.1:1", policy).unwrap();
        let shared = Arc::new(Shared {
            changed: watch::Sender::new(()),
            listener: None,
            ledger: Arc::default(),
            key_ring: KeyRing::default(),
            most_idle: MostIdle::default(),
        });
        Instance::new(builder, rules, &shared)
    }

    fn lost() -> ClientError {
        let source = Arc::new(io::Error::other("refused"));
        ClientError::Dial { to: "127.0.0.1:1".to_owned(), source }
    }

    fn refused() -> ClientError {
        ClientError::Channel(ChannelError::KeyNotHeld)
    }

    fn waits(instance: &Instance) -> (InstanceState, u64) {
        let view = instance.view();
        (view.state, view.retry_in.map_or(0, |time| time.as_secs()))
    }

    #[tokio::test(start_paused = true)]
    async fn an_instance_may_be_held_for_the_longest_time_that_can_be_said() {
        let mut rules = rules();
        let longest = Backoff { first: Duration::MAX, longest: Duration::MAX };
        (rules.quarantine, rules.unreachable) = (longest, longest);
        let day = Duration::from_hours(24);
        for (error, state) in [(refused(), InstanceState::Quarantined), (lost(), InstanceState::Unreachable)]
        {
            let instance = instance_with(rules);
            instance.failed(&error);
            assert_eq!(instance.view().state, state);
            assert!(instance.view().retry_in.is_some_and(|time| time > day), "{state:?}");
            instance.awaited();
            assert!(instance.view().retry_in.is_some_and(|time| time > day), "{state:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn quarantine_grows_with_each_refusal_and_with_nothing_else() {
        let instance = instance();
        assert_eq!(instance.view().state, InstanceState::Pending);
        let mut before = Duration::ZERO;
        for (failures, least) in [(1, 5), (2, 10), (3, 20), (4, 40), (5, 80)] {
            instance.failed(&refused());
            let wait = instance.view().retry_in.unwrap();
            assert!(wait >= Duration::from_secs(least) && wait > before, "{failures}: {wait:?}");
            before = wait;
            for error in [refused(), lost()] {
                instance.failed(&error);
                assert_eq!(instance.view().retry_in, Some(wait), "within the interval nothing is prolonged");
            }
            assert_eq!(instance.view().reason.unwrap().code(), "tls_key_not_held");
            tokio::time::advance(wait).await;
        }
        instance.recovered(instance.begin());
        instance.failed(&refused());
        assert_eq!(waits(&instance).0, InstanceState::Quarantined);
        assert!(instance.view().retry_in.unwrap() < Duration::from_secs(7), "a verdict begins anew");
        assert_eq!(instance.meters.quarantines.value(), 2, "one for each time that it began");
    }

    /// Whoever answers in turn with refused evidence and broken connections does not shorten its quarantine.
    #[tokio::test(start_paused = true)]
    async fn a_lost_connection_does_not_make_up_for_refused_evidence() {
        let instance = instance();
        for least in [5, 10, 20] {
            instance.failed(&refused());
            let wait = instance.view().retry_in.unwrap();
            assert!(wait >= Duration::from_secs(least), "{wait:?}");
            tokio::time::advance(wait).await;
            instance.failed(&lost());
            assert_eq!(instance.view().state, InstanceState::Unreachable);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_has_an_unreachable_instance_tried_again_and_not_a_quarantined_one() {
        let instance = instance();
        for _ in 0..12 {
            instance.failed(&lost());
            tokio::time::advance(instance.view().retry_in.unwrap()).await;
        }
        instance.failed(&lost());
        assert!(instance.view().retry_in.unwrap() >= Duration::from_secs(30));
        assert_eq!(instance.awaited(), Some(0));
        assert!(instance.view().retry_in.unwrap() <= Duration::from_millis(250));
        instance.failed(&refused());
        assert_eq!(instance.awaited(), None);
        assert!(instance.view().retry_in.unwrap() >= Duration::from_secs(5));
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_requests_are_under_way_than_may_be() {
        let instance = instance();
        let (first, second) = (instance.slot().unwrap(), instance.slot().unwrap());
        assert!(instance.slot().is_none());
        drop(first);
        let third = instance.slot().unwrap();
        assert_eq!((instance.in_flight(), third.instance().id()), (2, "127.0.0.1:1"));
        drop((second, third));
        assert_eq!(instance.in_flight(), 0);
    }

    /// What was asked before is no answer to what was found meanwhile.
    #[tokio::test(start_paused = true)]
    async fn an_attempt_that_began_before_a_loss_does_not_make_up_for_it() {
        let instance = instance();
        let early = instance.begin();
        instance.broke_off(&lost());
        instance.recovered(early);
        assert_eq!(instance.view().state, InstanceState::Unreachable);
        let late = instance.begin();
        assert_eq!(late.trouble, Some(Trouble::Lost));
        // A second answer that broke off with the first one.
        let wait = instance.view().retry_in.unwrap();
        tokio::time::advance(wait).await;
        instance.broke_off(&lost());
        instance.recovered(late);
        assert_eq!(instance.view().state, InstanceState::Pending);
    }

    /// It would be asked in two minutes and a half else, and a request that needs it would wait for that.
    #[tokio::test]
    async fn an_instance_whose_key_is_refused_at_another_address_is_asked_at_once() {
        let one = guest::Guest::new(0).unwrap().listen().await.unwrap();
        let two = one.guest.clone().listen().await.unwrap();
        let policy = PolicyText::parse(guest::policy("per-key", 300), Loaded::AsDanger).unwrap();
        let fleet = Fleet::builder(move |endpoint| Client::builder(&endpoint.to_string(), policy.clone()));
        let fleet = fleet.upstream(&one.url()).unwrap().upstream(&two.url()).unwrap().build().unwrap();
        let instances = fleet.instances();
        let until = async |what: &str, is_so: &dyn Fn() -> bool| {
            let deadline = std::time::Instant::now() + Duration::from_secs(20);
            while !is_so() {
                assert!(std::time::Instant::now() < deadline, "not so: {what}");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        until("both are attested", &|| instances.iter().all(|one| one.attested().is_some())).await;
        let _ = one.guest.clone().attesting(guest::Attestation::OtherKey);
        let verdict = instances[1].client().standing().unwrap();
        instances[1].client().pool().renew(&verdict).await.unwrap_err();
        until("both are quarantined", &|| instances.iter().all(|one| one.is_quarantined())).await;
    }

    #[tokio::test(start_paused = true)]
    async fn of_several_answers_the_one_that_asks_for_the_longest_time_counts() {
        let instance = instance();
        for seconds in [30, 1] {
            instance.overload(Duration::from_secs(seconds));
            assert_eq!(instance.overloaded(), Some(Duration::from_secs(30)));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_overload_ends_by_itself() {
        let instance = instance();
        instance.overload(Duration::from_secs(7));
        assert_eq!(instance.overloaded(), Some(Duration::from_secs(7)));
        tokio::time::advance(Duration::from_secs(7)).await;
        assert_eq!(instance.overloaded(), None);
    }

    #[test]
    fn what_is_no_fault_of_an_instance_holds_nothing_against_it() {
        for error in [
            ClientError::Channel(ChannelError::VerdictExpired),
            ClientError::Channel(ChannelError::VerdictRevoked),
            ClientError::Request(confide_channel::RequestError::Target),
            ClientError::Answered { status: 404, code: None, message: String::new() },
        ] {
            assert_eq!(Trouble::of(&error), None, "{error}");
        }
        assert_eq!(
            (Trouble::of(&refused()), Trouble::of(&lost())),
            (Some(Trouble::Refused), Some(Trouble::Lost))
        );
    }
}
