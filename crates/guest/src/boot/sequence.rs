//! The order of a boot with an egress lock and, where there are some, volumes: each step consumes the one before it, so that none
//! can be left out, repeated or exchanged.
//!
//! ```text
//! Begun → Measured → Released → Locked → Opened → the model, as without volumes
//!         boot,      released or  egress-  volumes
//!         configuration no-volumes locked
//! ```
//!
//! Only a `Measured` boot can ask for keys, and asking consumes it. What RTMR3 holds from `released` on is no evidence of role
//! `key-release` any more, whoever asks for it.

use std::net::SocketAddr;

use confide_attester::Attester;
use confide_egress::plan::SERVING_USER;
use confide_evidence::bytes::{ByteString, Bytes};
use confide_evidence::document::{Claims, Egress, EgressMode, KeySet, Model, Volume as OpenVolume};
use confide_evidence::event::{
    Boot, Configuration, EgressLocked, OpenVolumes, Released as ReleasedEvent, RuntimeEvent,
};
use confide_evidence::transcript::Binding;
use confide_policy::egress::Phase;
use confide_release::{Formatted, Profile, RecipientKey, VolumeId, VolumeSecrets};

use super::broker::Broker;
use super::console::Console;
use super::error::BootError;
use super::machine::{Fresh, Machine};
use super::privileges::Needs;
use super::{Facts, Prepared, changing, now};
use crate::config::{Config, Role, Volume};
use crate::egress;
use crate::error::GuestError;
use crate::gpus::{Devices, FoundGpus};

/// Nothing is measured yet.
pub(crate) struct Begun<'a> {
    pub(crate) config: &'a Config,
    pub(crate) attester: Attester,
    pub(crate) facts: Facts,
    pub(crate) gpus: Option<FoundGpus>,
}

/// `boot` and `configuration` are measured: keys can be asked for, once.
pub(crate) struct Measured<'a>(Begun<'a>);

/// `released` or `no-volumes` is measured: no evidence of this boot obtains a key from now on.
pub(crate) struct Released<'a> {
    begun: Begun<'a>,
    secrets: Vec<(VolumeId, VolumeSecrets)>,
}

/// `egress-locked` is measured.
pub(crate) struct Locked<'a> {
    released: Released<'a>,
    egress: Egress,
    locked_at: u64,
}

/// Every volume is open, `volumes` is measured where there are some, and what is no longer needed is given up.
pub(crate) struct Opened<'a> {
    begun: Begun<'a>,
    egress: Egress,
    locked_at: u64,
    volumes: Vec<OpenVolume>,
}

impl<'a> Begun<'a> {
    /// Measures what decides everything, before anybody is asked for anything.
    pub(crate) fn measure(self) -> Result<Measured<'a>, GuestError> {
        let Facts { build, boot_id, settings } = &self.facts;
        let broker_key = self.config.broker.as_ref().map(|broker| broker.identity.to_der());
        let boot = Boot { build: build.clone(), boot_id: *boot_id, broker_key };
        self.attester.measure(RuntimeEvent::Boot(boot))?;
        let digest = settings.digest();
        self.attester.measure(RuntimeEvent::Configuration(Configuration { digest }))?;
        Ok(Measured(self))
    }
}

impl<'a> Measured<'a> {
    /// Gets the keys of all volumes, and the time. Where the configuration has none to be released, nobody is asked, and the time
    /// stays the host's.
    pub(crate) async fn release(
        self,
        broker: Option<&Broker>,
        machine: &mut impl Machine,
        console: &mut Console,
    ) -> Result<Released<'a>, GuestError> {
        let Self(mut begun) = self;
        let volumes: Vec<VolumeId> =
            begun.config.released_volumes().map(|volume| volume.name.clone()).collect();
        let Some(broker) = broker.filter(|_| !volumes.is_empty()) else {
            tracing::warn!("the time is UNTRUSTED: no broker gives it, and the clock is the host's");
            begun.attester.measure(RuntimeEvent::NoVolumes)?;
            console.step("no-volumes");
            return Ok(Released { begun, secrets: Vec::new() });
        };
        machine.check_entropy(begun.attester.nature())?;
        let recipient = RecipientKey::draw();
        let keys = broker.release(&volumes, &recipient, |nonce| begun.evidence(nonce, &recipient)).await?;
        // It opens nothing else.
        drop(recipient);
        machine.set_time(keys.time, begun.attester.nature())?;
        for ((_, secrets), volume) in keys.secrets.iter().zip(begun.config.released_volumes()) {
            check_profile(volume, secrets)?;
        }
        begun.gpus = begun.gpus.map(|gpus| gpus.with_endorsements(keys.endorsements));
        let names = volumes.iter().map(|volume| volume.as_str().to_owned()).collect();
        begun.attester.measure(RuntimeEvent::Released(ReleasedEvent { volumes: names }))?;
        console.step("released");
        Ok(Released { begun, secrets: keys.secrets })
    }
}

impl Begun<'_> {
    /// The evidence document of role `key-release`.
    fn evidence(&self, nonce: Bytes<32>, recipient: &RecipientKey) -> Result<ByteString, GuestError> {
        let keys = KeySet::Recipient(recipient.public().clone());
        let claims = self.facts.claims(self.config, &self.attester, self.gpus.as_ref());
        let binding = Binding::KeyRelease { nonce };
        let document = match &self.gpus {
            Some(gpus) => self.attester.attest_with(&binding, &keys, &claims, gpus.node())?,
            None => self.attester.attest(&binding, &keys, &claims)?,
        };
        Ok(document.encode().map_err(confide_attester::AttesterError::from)?.into())
    }
}

impl Facts {
    /// What is claimed before anything is opened or locked: the model is the one that the configuration names, if it names one.
    fn claims(&self, config: &Config, attester: &Attester, gpus: Option<&FoundGpus>) -> Claims {
        Claims {
            gpus: gpus.map_or_else(|| attester.gpus(), |gpus| gpus.node().claims()),
            build: self.build.clone(),
            model: Model {
                name: config.model.name.as_str().to_owned(),
                manifest: config.model.manifest.unwrap_or(Bytes([0; 32])),
            },
            egress: Egress::open(),
            configuration: self.settings.digest(),
            engine: self.settings.engine.clone(),
            volumes: Vec::new(),
            changing: changing(None, 0),
        }
    }
}

/// A role asks for a profile; the broker does not choose which.
fn check_profile(volume: &Volume, secrets: &VolumeSecrets) -> Result<(), BootError> {
    let expected = match volume.role {
        Role::Weights | Role::Code => Profile::Model,
        Role::State | Role::Scratch => Profile::State,
    };
    let found = secrets.profile;
    if found == expected {
        return Ok(());
    }
    Err(BootError::Profile { volume: volume.name.clone(), role: volume.role.name(), expected, found })
}

impl<'a> Released<'a> {
    /// Locks egress, before anything is unlocked.
    pub(crate) fn lock(
        self,
        machine: &mut impl Machine,
        console: &mut Console,
    ) -> Result<Locked<'a>, GuestError> {
        let config = self.begun.config;
        let rules = egress::rules(config, Phase::Serving)?;
        machine.lock_egress(&rules)?;
        let (policy, ruleset) = (config.egress_policy().digest(), rules.digest());
        self.begun.attester.measure(RuntimeEvent::EgressLocked(EgressLocked { policy, ruleset }))?;
        console.step("egress-locked");
        let egress = Egress {
            mode: EgressMode::Locked,
            policy: Some(policy),
            allowed: config.egress_policy().allowed(Phase::Serving),
            ruleset: Some(ruleset),
            host_visible: config.egress_policy().host_visible(Phase::Serving),
        };
        Ok(Locked { released: self, egress, locked_at: now() })
    }
}

fn broker_address(config: &Config) -> Option<SocketAddr> {
    config.broker.as_ref().map(|broker| broker.address)
}

impl<'a> Locked<'a> {
    /// Opens and mounts every volume, tells the broker of those that were formatted, and gives up what is no longer needed.
    pub(crate) async fn open(
        self,
        broker: Option<&Broker>,
        machine: &mut impl Machine,
        console: &mut Console,
    ) -> Result<Opened<'a>, GuestError> {
        let Self { released: Released { begun, secrets }, egress, locked_at } = self;
        let config = begun.config;
        let hint = broker_address(config).map(|address| address.to_string()).unwrap_or_default();
        let mut volumes = Vec::new();
        if !secrets.is_empty() {
            // The kernel may have found its clock unstable since.
            machine.check_clock(begun.attester.nature())?;
        }
        for ((name, secrets), volume) in secrets.iter().zip(config.released_volumes()) {
            let unlocked = machine.open(volume, secrets, &hint)?;
            if let (Fresh::Formatted, Some(token), Some(broker)) =
                (unlocked.fresh, secrets.format_token, broker)
            {
                let message = Formatted { token, header: unlocked.header, volume: name.clone() };
                broker.formatted(&message).await?;
            }
            volumes.push(claimed(name, secrets, unlocked.header));
        }
        // The keys are in the kernel now, and nowhere else.
        drop(secrets);
        for volume in config.volumes.iter().filter(|volume| volume.role == Role::Scratch) {
            machine.open_scratch(volume)?;
        }
        if !volumes.is_empty() {
            let event = OpenVolumes { volumes: volumes.clone() };
            begun.attester.measure(RuntimeEvent::Volumes(event))?;
        }
        if !config.volumes.is_empty() {
            console.step("volumes");
        }
        begun.attester.hand_to(SERVING_USER)?;
        machine
            .drop_privileges(Needs { gpus: config.gpus.is_some(), low_port: config.listen.port() < 1024 })?;
        console.step("dropped");
        Ok(Opened { begun, egress, locked_at, volumes })
    }
}

/// What the claims and the event `volumes` say of an open volume.
fn claimed(name: &VolumeId, secrets: &VolumeSecrets, header: confide_evidence::bytes::Digest) -> OpenVolume {
    // A header that was made just now belongs to the version that has none yet.
    let version = secrets.version(&header).or_else(|| secrets.versions.first());
    OpenVolume {
        name: name.as_str().to_owned(),
        header,
        integrity: if secrets.verity.is_some() { "verity" } else { "aead" }.to_owned(),
        generation: version.map_or(0, |version| version.generation),
        verity_root: secrets.verity.map(|verity| verity.root),
    }
}

impl Opened<'_> {
    /// What every boot does from here on.
    pub(crate) fn prepared(self, machine: &impl Machine) -> Prepared {
        let Self { begun, egress, locked_at, volumes } = self;
        Prepared {
            attester: begun.attester,
            facts: begun.facts,
            gpus: begun.gpus.map(Devices::Found),
            egress,
            locked_at: Some(locked_at),
            volumes,
            engine_user: machine.engine_user(),
            workload: machine.workload(),
            drops: machine.drops(),
        }
    }
}
