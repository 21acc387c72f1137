//! Runtime events: what the guest extends into RTMR3, in the only order that is allowed.
//!
//! An event is (kind, payload); the payload is the canonical CBOR map of its kind. The verifier replays the log from
//! 48 zero bytes and compares the result with the quoted RTMR3.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha384};

use crate::bytes::{ByteString, Bytes, Digest};
use crate::cbor::{self, CborError};
use crate::document::{Build, EgressMode, MAX_DOCUMENT, Volume};
use crate::hash::sha384_of;
use crate::transcript::Role;

/// First field of every event digest.
pub const EVENT_DOMAIN: &[u8] = b"confide/event/v1";

/// The most devices or volumes that one event may list.
/// As many as a document may have volumes; the largest machines have eight GPUs and four switches.
pub const MAX_LISTED: usize = 64;

/// The kinds of event, in the order in which they may occur.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum EventKind {
    /// `boot`: the boot begins.
    Boot,
    /// `configuration`: every deciding setting is fixed.
    Configuration,
    /// `released`: volume keys have been received.
    Released,
    /// `no-volumes`: this boot asks for no volume key.
    NoVolumes,
    /// `egress-locked`: only what the egress policy allows leaves the guest.
    EgressLocked,
    /// `volumes`: volumes are open.
    Volumes,
    /// `model`: the model's files are fixed.
    Model,
    /// `devices`: the guest has taken its GPUs and switches into use.
    Devices,
    /// `open`: the guest draws its keys and serves.
    Open,
}

impl EventKind {
    const ALL: [Self; 9] = [
        Self::Boot,
        Self::Configuration,
        Self::Released,
        Self::NoVolumes,
        Self::EgressLocked,
        Self::Volumes,
        Self::Model,
        Self::Devices,
        Self::Open,
    ];

    /// The kind's name in the log and in its digest.
    pub fn name(self) -> &'static str {
        match self {
            Self::Boot => "boot",
            Self::Configuration => "configuration",
            Self::Released => "released",
            Self::NoVolumes => "no-volumes",
            Self::EgressLocked => "egress-locked",
            Self::Volumes => "volumes",
            Self::Model => "model",
            Self::Devices => "devices",
            Self::Open => "open",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether `self` may stand somewhere after `earlier`. `released` and `no-volumes` exclude each other, and so do
    /// `no-volumes` and `volumes`.
    fn may_follow(self, earlier: Self) -> bool {
        match (earlier, self) {
            (Self::Released, Self::NoVolumes) | (Self::NoVolumes, Self::Volumes) => false,
            _ => self > earlier,
        }
    }
}

/// One runtime event.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RuntimeEvent {
    /// See [`EventKind::Boot`].
    Boot(Boot),
    /// See [`EventKind::Configuration`].
    Configuration(Configuration),
    /// See [`EventKind::Released`].
    Released(Released),
    /// See [`EventKind::NoVolumes`].
    NoVolumes,
    /// See [`EventKind::EgressLocked`].
    EgressLocked(EgressLocked),
    /// See [`EventKind::Volumes`].
    Volumes(OpenVolumes),
    /// See [`EventKind::Model`].
    Model(LoadedModel),
    /// See [`EventKind::Devices`].
    Devices(DevicesInUse),
    /// See [`EventKind::Open`].
    Open,
}

/// Payload of `boot`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Boot {
    /// What the guest was built from.
    pub build: Build,
    /// Random bytes drawn once at boot.
    pub boot_id: Bytes<16>,
    /// The key whose signature the guest demands on released secrets; `None` without a broker.
    pub broker_key: Option<ByteString>,
}

/// Payload of `configuration`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Configuration {
    /// SHA-256 of every deciding setting.
    pub digest: Digest,
}

/// Payload of `released`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Released {
    /// Names of the volumes whose keys were released.
    pub volumes: Vec<String>,
}

/// Payload of `egress-locked`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EgressLocked {
    /// SHA-256 of the egress policy.
    pub policy: Digest,
    /// SHA-256 of the ruleset in force.
    pub ruleset: Digest,
}

/// Payload of `volumes`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenVolumes {
    /// The open volumes, exactly as in the claims.
    pub volumes: Vec<Volume>,
}

/// Payload of `model`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoadedModel {
    /// SHA-256 of the model manifest.
    pub manifest: Digest,
}

/// Payload of `devices`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DevicesInUse {
    /// The devices, in the order of the evidence document's device list.
    pub devices: Vec<DeviceInUse>,
}

/// One device of [`DevicesInUse`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceInUse {
    /// The confidential-computing mode that the device's report signs: `spt`, `mpt`, `ppcie`, or `unknown` where it signs
    /// none, as switches do.
    pub mode: String,
    /// SHA-256 of the DER of the device's leaf certificate.
    pub certificate: Digest,
}

/// An empty payload.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Empty {}

impl RuntimeEvent {
    /// The event's kind.
    pub fn kind(&self) -> EventKind {
        match self {
            Self::Boot(_) => EventKind::Boot,
            Self::Configuration(_) => EventKind::Configuration,
            Self::Released(_) => EventKind::Released,
            Self::NoVolumes => EventKind::NoVolumes,
            Self::EgressLocked(_) => EventKind::EgressLocked,
            Self::Volumes(_) => EventKind::Volumes,
            Self::Model(_) => EventKind::Model,
            Self::Devices(_) => EventKind::Devices,
            Self::Open => EventKind::Open,
        }
    }

    /// The canonical encoding of the payload.
    pub fn payload(&self) -> Vec<u8> {
        match self {
            Self::Boot(payload) => cbor::to_canonical(payload),
            Self::Configuration(payload) => cbor::to_canonical(payload),
            Self::Released(payload) => cbor::to_canonical(payload),
            Self::EgressLocked(payload) => cbor::to_canonical(payload),
            Self::Volumes(payload) => cbor::to_canonical(payload),
            Self::Model(payload) => cbor::to_canonical(payload),
            Self::Devices(payload) => cbor::to_canonical(payload),
            Self::NoVolumes | Self::Open => cbor::to_canonical(&Empty {}),
        }
        .expect("payload types declare their fields in canonical order")
    }

    /// The 48 bytes that the guest extends into RTMR3: SHA-384 of the length-prefixed (domain, kind, payload).
    pub fn digest(&self) -> [u8; 48] {
        sha384_of(&[EVENT_DOMAIN, self.kind().name().as_bytes(), &self.payload()])
    }

    fn decode(kind: EventKind, payload: &[u8]) -> Result<Self, CborError> {
        Ok(match kind {
            EventKind::Boot => Self::Boot(decode_payload(payload)?),
            EventKind::Configuration => Self::Configuration(decode_payload(payload)?),
            EventKind::Released => Self::Released(decode_payload(payload)?),
            EventKind::NoVolumes => decode_payload(payload).map(|Empty {}| Self::NoVolumes)?,
            EventKind::EgressLocked => Self::EgressLocked(decode_payload(payload)?),
            EventKind::Volumes => Self::Volumes(decode_payload(payload)?),
            EventKind::Model => Self::Model(decode_payload(payload)?),
            EventKind::Devices => Self::Devices(decode_payload(payload)?),
            EventKind::Open => decode_payload(payload).map(|Empty {}| Self::Open)?,
        })
    }

    fn listed(&self) -> usize {
        match self {
            Self::Released(payload) => payload.volumes.len(),
            Self::Volumes(payload) => payload.volumes.len(),
            Self::Devices(payload) => payload.devices.len(),
            _ => 0,
        }
    }
}

/// Events in their allowed order, each at most once, beginning with `boot`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<(String, ByteString)>", into = "Vec<(String, ByteString)>")]
pub struct EventLog(Vec<RuntimeEvent>);

impl EventLog {
    /// A log without events.
    pub fn new() -> Self {
        Self::default()
    }

    /// The events.
    pub fn events(&self) -> &[RuntimeEvent] {
        &self.0
    }

    /// Adds the next event.
    ///
    /// # Errors
    /// When the grammar does not allow it here; the log is then unchanged.
    pub fn push(&mut self, event: RuntimeEvent) -> Result<(), EventLogError> {
        let kind = event.kind();
        let allowed = match self.0.first() {
            None => kind == EventKind::Boot,
            Some(_) => self.0.iter().all(|earlier| kind.may_follow(earlier.kind())),
        };
        if !allowed {
            let after = self.0.last().map_or("the start", |last| last.kind().name());
            return Err(EventLogError::Order { kind: kind.name(), after });
        }
        if event.listed() > MAX_LISTED {
            return Err(EventLogError::TooManyListed { kind: kind.name(), count: event.listed() });
        }
        self.0.push(event);
        Ok(())
    }

    /// The payload of `boot`, the first event.
    pub fn boot(&self) -> Option<&Boot> {
        self.0.first().and_then(RuntimeEvent::as_boot)
    }

    /// RTMR3 after these events: from 48 zero bytes, SHA-384(register ‖ event digest) for each.
    pub fn replay(&self) -> [u8; 48] {
        self.0.iter().fold([0; 48], |register, event| {
            Sha384::new().chain_update(register).chain_update(event.digest()).finalize().into()
        })
    }

    /// The payloads of a guest that serves: the log ends with `open` and lacks nothing before it.
    ///
    /// # Errors
    /// When an event is missing, or `egress-locked` does not fit `egress`, the mode of the claims.
    pub fn serving(&self, egress: EgressMode) -> Result<ServingEvents<'_>, EventLogError> {
        let events = ServingEvents {
            boot: self.find(EventKind::Boot, RuntimeEvent::as_boot)?,
            configuration: self.find(EventKind::Configuration, RuntimeEvent::as_configuration)?,
            released: self.0.iter().find_map(RuntimeEvent::as_released),
            egress_locked: self.0.iter().find_map(RuntimeEvent::as_egress_locked),
            volumes: self.0.iter().find_map(RuntimeEvent::as_volumes),
            model: self.find(EventKind::Model, RuntimeEvent::as_model)?,
            devices: self.find(EventKind::Devices, RuntimeEvent::as_devices)?,
        };
        self.require(EventKind::Open)?;
        match (events.released, events.volumes) {
            (None, _) => self.require(EventKind::NoVolumes)?,
            (Some(_), None) => return Err(EventLogError::Missing(EventKind::Volumes.name())),
            (Some(_), Some(_)) => {}
        }
        match (egress, events.egress_locked) {
            (EgressMode::Locked, None) => Err(EventLogError::Missing(EventKind::EgressLocked.name())),
            (EgressMode::Open, Some(_)) => Err(EventLogError::Unexpected(EventKind::EgressLocked.name())),
            _ => Ok(events),
        }
    }

    /// The payloads of a guest that asks for keys: exactly `boot`, `configuration`.
    ///
    /// # Errors
    /// When one of them is missing, or any other event is there.
    pub fn key_release(&self) -> Result<(&Boot, &Configuration), EventLogError> {
        let boot = self.find(EventKind::Boot, RuntimeEvent::as_boot)?;
        let configuration = self.find(EventKind::Configuration, RuntimeEvent::as_configuration)?;
        match self.0.get(2) {
            Some(extra) => Err(EventLogError::Unexpected(extra.kind().name())),
            None => Ok((boot, configuration)),
        }
    }

    /// Whether the log is complete for `role`.
    ///
    /// # Errors
    /// Those of [`EventLog::serving`] for `serve` and `batch`, of [`EventLog::key_release`] for `key-release`.
    pub fn check_complete(&self, role: Role, egress: EgressMode) -> Result<(), EventLogError> {
        match role {
            Role::Serve | Role::Batch => self.serving(egress).map(|_| ()),
            Role::KeyRelease => self.key_release().map(|_| ()),
        }
    }

    fn require(&self, kind: EventKind) -> Result<(), EventLogError> {
        let found = self.0.iter().any(|event| event.kind() == kind);
        if found { Ok(()) } else { Err(EventLogError::Missing(kind.name())) }
    }

    fn find<'a, T>(
        &'a self,
        kind: EventKind,
        payload: impl Fn(&'a RuntimeEvent) -> Option<&'a T>,
    ) -> Result<&'a T, EventLogError> {
        self.0.iter().find_map(payload).ok_or(EventLogError::Missing(kind.name()))
    }
}

/// The payloads of a complete log of a serving guest.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ServingEvents<'a> {
    /// Payload of `boot`.
    pub boot: &'a Boot,
    /// Payload of `configuration`.
    pub configuration: &'a Configuration,
    /// Payload of `released`; `None` when the log says `no-volumes`.
    pub released: Option<&'a Released>,
    /// Payload of `egress-locked`; there exactly when the claims say `locked`.
    pub egress_locked: Option<&'a EgressLocked>,
    /// Payload of `volumes`; there exactly when `released` is.
    pub volumes: Option<&'a OpenVolumes>,
    /// Payload of `model`.
    pub model: &'a LoadedModel,
    /// Payload of `devices`.
    pub devices: &'a DevicesInUse,
}

macro_rules! payload_accessors {
    ($($name:ident: $variant:ident => $payload:ty;)*) => {
        impl RuntimeEvent {
            $(fn $name(&self) -> Option<&$payload> {
                match self {
                    Self::$variant(payload) => Some(payload),
                    _ => None,
                }
            })*
        }
    };
}

fn decode_payload<T: Serialize + DeserializeOwned>(payload: &[u8]) -> Result<T, CborError> {
    cbor::from_canonical_within(payload, MAX_DOCUMENT)
}

payload_accessors! {
    as_boot: Boot => Boot;
    as_configuration: Configuration => Configuration;
    as_released: Released => Released;
    as_egress_locked: EgressLocked => EgressLocked;
    as_volumes: Volumes => OpenVolumes;
    as_model: Model => LoadedModel;
    as_devices: Devices => DevicesInUse;
}

impl From<EventLog> for Vec<(String, ByteString)> {
    fn from(log: EventLog) -> Self {
        log.0.iter().map(|event| (event.kind().name().to_owned(), event.payload().into())).collect()
    }
}

impl TryFrom<Vec<(String, ByteString)>> for EventLog {
    type Error = EventLogError;

    fn try_from(entries: Vec<(String, ByteString)>) -> Result<Self, Self::Error> {
        let mut log = Self::new();
        for (name, payload) in &entries {
            let kind = EventKind::from_name(name).ok_or_else(|| EventLogError::UnknownKind(name.clone()))?;
            let event = RuntimeEvent::decode(kind, payload.as_bytes())
                .map_err(|source| EventLogError::Payload { kind: kind.name(), source })?;
            log.push(event)?;
        }
        Ok(log)
    }
}

/// Why events are no valid log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EventLogError {
    /// A kind that is not in the closed list.
    #[error("unknown event kind {0:?}")]
    UnknownKind(String),
    /// A payload is not the canonical map of its kind.
    #[error("payload of event {kind}")]
    Payload {
        /// The event's kind.
        kind: &'static str,
        /// What is wrong with the payload.
        #[source]
        source: CborError,
    },
    /// An event that may not stand here: repeated, out of order, or excluded by an earlier one.
    #[error("event {kind} may not follow {after}")]
    Order {
        /// The refused event's kind.
        kind: &'static str,
        /// The kind before it.
        after: &'static str,
    },
    /// More devices or volumes than [`MAX_LISTED`].
    #[error("event {kind} lists {count} items, more than {MAX_LISTED}")]
    TooManyListed {
        /// The event's kind.
        kind: &'static str,
        /// How many it lists.
        count: usize,
    },
    /// The role or the claims ask for an event that is not there.
    #[error("event {0} is missing")]
    Missing(&'static str),
    /// The role or the claims exclude an event that is there.
    #[error("event {0} must not be there")]
    Unexpected(&'static str),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boot() -> RuntimeEvent {
        let build = Build { image: None, version: "1".into(), revision: "r".into() };
        RuntimeEvent::Boot(Boot { build, boot_id: Bytes([1; 16]), broker_key: None })
    }

    fn configuration() -> RuntimeEvent {
        RuntimeEvent::Configuration(Configuration { digest: Bytes([2; 32]) })
    }

    fn locked() -> RuntimeEvent {
        RuntimeEvent::EgressLocked(EgressLocked { policy: Bytes([3; 32]), ruleset: Bytes([4; 32]) })
    }

    fn released() -> RuntimeEvent {
        RuntimeEvent::Released(Released { volumes: vec!["weights".into()] })
    }

    fn volumes() -> RuntimeEvent {
        RuntimeEvent::Volumes(OpenVolumes { volumes: vec![] })
    }

    fn tail() -> [RuntimeEvent; 3] {
        [
            RuntimeEvent::Model(LoadedModel { manifest: Bytes([5; 32]) }),
            RuntimeEvent::Devices(DevicesInUse { devices: vec![] }),
            RuntimeEvent::Open,
        ]
    }

    fn log(events: impl IntoIterator<Item = RuntimeEvent>) -> Result<EventLog, EventLogError> {
        let mut log = EventLog::new();
        events.into_iter().try_for_each(|event| log.push(event))?;
        Ok(log)
    }

    fn serving(middle: Vec<RuntimeEvent>) -> EventLog {
        log([boot(), configuration()].into_iter().chain(middle).chain(tail())).unwrap()
    }

    #[test]
    fn a_complete_log_serves_in_either_egress_mode() {
        let without = serving(vec![RuntimeEvent::NoVolumes]);
        assert!(without.serving(EgressMode::Open).is_ok());
        let with = serving(vec![released(), locked(), volumes()]);
        let events = with.serving(EgressMode::Locked).unwrap();
        assert_eq!(events.released.unwrap().volumes, ["weights"]);
        assert!(with.check_complete(Role::Batch, EgressMode::Locked).is_ok());
    }

    #[test]
    fn egress_events_must_fit_the_claimed_mode() {
        let open = serving(vec![RuntimeEvent::NoVolumes]);
        assert_eq!(open.serving(EgressMode::Locked).unwrap_err(), EventLogError::Missing("egress-locked"));
        let locked = serving(vec![RuntimeEvent::NoVolumes, locked()]);
        assert_eq!(locked.serving(EgressMode::Open).unwrap_err(), EventLogError::Unexpected("egress-locked"));
    }

    #[test]
    fn missing_events_are_named() {
        let cases = [
            (serving(vec![]), "no-volumes"),
            (serving(vec![released()]), "volumes"),
            (log([boot(), configuration(), RuntimeEvent::NoVolumes, RuntimeEvent::Open]).unwrap(), "model"),
            (log([boot(), configuration()]).unwrap(), "model"),
            (log([boot()]).unwrap(), "configuration"),
            (EventLog::new(), "boot"),
        ];
        for (log, missing) in cases {
            assert_eq!(log.serving(EgressMode::Open).unwrap_err(), EventLogError::Missing(missing));
        }
        let unopened = log([boot(), configuration(), RuntimeEvent::NoVolumes]
            .into_iter()
            .chain(tail().into_iter().take(2)));
        assert_eq!(unopened.unwrap().serving(EgressMode::Open).unwrap_err(), EventLogError::Missing("open"));
    }

    #[test]
    fn events_out_of_order_repeated_or_excluded_are_refused() {
        let cases: [(Vec<RuntimeEvent>, &str, &str); 7] = [
            (vec![configuration()], "configuration", "the start"),
            (vec![boot(), boot()], "boot", "boot"),
            (vec![boot(), configuration(), boot()], "boot", "configuration"),
            (vec![boot(), released(), RuntimeEvent::NoVolumes], "no-volumes", "released"),
            (vec![boot(), RuntimeEvent::NoVolumes, released()], "released", "no-volumes"),
            (vec![boot(), RuntimeEvent::NoVolumes, locked(), volumes()], "volumes", "egress-locked"),
            (vec![boot(), RuntimeEvent::Open, locked()], "egress-locked", "open"),
        ];
        for (events, kind, after) in cases {
            assert_eq!(log(events), Err(EventLogError::Order { kind, after }));
        }
    }

    #[test]
    fn key_release_is_exactly_boot_and_configuration() {
        assert!(log([boot(), configuration()]).unwrap().key_release().is_ok());
        assert_eq!(
            log([boot()]).unwrap().key_release().unwrap_err(),
            EventLogError::Missing("configuration")
        );
        let later = log([boot(), configuration(), released()]).unwrap();
        assert_eq!(
            later.check_complete(Role::KeyRelease, EgressMode::Open).unwrap_err(),
            EventLogError::Unexpected("released")
        );
    }

    #[test]
    fn long_lists_are_refused() {
        let device = DeviceInUse { mode: "on".into(), certificate: Bytes([0; 32]) };
        let devices = RuntimeEvent::Devices(DevicesInUse { devices: vec![device; MAX_LISTED + 1] });
        assert_eq!(
            log([boot(), devices]),
            Err(EventLogError::TooManyListed { kind: "devices", count: MAX_LISTED + 1 })
        );
    }

    #[test]
    fn replay_folds_from_zero() {
        assert_eq!(EventLog::new().replay(), [0; 48]);
        let once: [u8; 48] =
            Sha384::new().chain_update([0; 48]).chain_update(boot().digest()).finalize().into();
        assert_eq!(log([boot()]).unwrap().replay(), once);
        assert_ne!(
            log([boot(), configuration()]).unwrap().replay(),
            log([boot(), released()]).unwrap().replay()
        );
    }

    #[test]
    fn unknown_kinds_and_foreign_payloads_are_refused_on_decoding() {
        let wire = |kind: &str, payload: &[u8]| {
            EventLog::try_from(vec![(kind.to_owned(), ByteString::from(payload))])
        };
        assert_eq!(wire("reboot", b"\xa0"), Err(EventLogError::UnknownKind("reboot".into())));
        for payload in [&b"\xa0"[..], b"", b"\xa1\x61x\x00", b"\xa0\x00"] {
            assert!(matches!(wire("boot", payload), Err(EventLogError::Payload { kind: "boot", .. })));
        }
        assert!(matches!(wire("open", b"\xa1\x61x\x00"), Err(EventLogError::Payload { kind: "open", .. })));
    }
}
