//! From the configuration to a guest that may serve: each step is measured before the next one relies on it.
//!
//! `serve` begins with a machine that somebody else has set up ([`prepare`]). `boot` sets it up itself, gets the keys of its
//! volumes from a broker and locks its egress ([`sequence`]); as process 1 it is the whole user space of its image ([`init`]).
//! From the model on both go the same way ([`finish`]).

mod broker;
mod clock;
mod console;
#[cfg(test)]
#[cfg(feature = "danger-simulator")]
mod endorsed_tests;
mod error;
mod hotplug;
pub(crate) mod init;
mod machine;
mod modules;
mod network;
mod privileges;
mod run;
mod sequence;
#[cfg(test)]
#[cfg(feature = "danger-simulator")]
mod sequence_tests;
mod source;
#[cfg(test)]
#[cfg(feature = "danger-simulator")]
mod standin;
mod watch;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use confide_attester::Attester;
use confide_channel_guest::GuestKeys;
use confide_egress::NetworkThread;
use confide_engine::process::{EngineCommand, EngineProcess};
use confide_evidence::bytes::{Bytes, Digest};
use confide_evidence::configuration::{
    DecidingConfiguration, EgressPhase, EgressPhases, PhaseMode, VolumeRole,
};
use confide_evidence::document::{Build, Changing, Claims, Egress, Engine, Model, Volume};
use confide_evidence::event::{Boot, Configuration, LoadedModel, RuntimeEvent};

use crate::config::{self, Config, Platform};
use crate::error::GuestError;
use crate::gpus::{Devices, Gpus};
use crate::supervision::Drops;

pub(crate) use console::Console;
pub use error::BootError;
pub(crate) use run::run;
pub(crate) use watch::Watch;

/// This program's own file, also when it has been replaced on the disk since it started.
pub(crate) const THIS_PROGRAM: &str = "/proc/self/exe";

/// A guest whose boot is measured up to `open`, with the keys drawn after it.
pub(crate) struct Booted {
    pub(crate) attester: Arc<Attester>,
    pub(crate) engine: EngineProcess,
    /// What was refused and dropped so far.
    pub(crate) drops: Drops,
    pub(crate) keys: Arc<GuestKeys>,
    pub(crate) boot_id: Bytes<16>,
    /// As they stand for this boot; `changing` is filled in for each document.
    pub(crate) claims: Claims,
}

/// The platform that the configuration names, and no other.
pub(crate) fn attester(config: &Config) -> Result<Attester, GuestError> {
    match config.platform {
        Platform::Tdx => Ok(match config.quoting {
            Some(quoting) => Attester::tdx_over_vsock(quoting.vsock_port)?,
            None => Attester::tdx()?,
        }),
        Platform::Simulated => simulated(config),
    }
}

#[cfg(feature = "danger-simulator")]
fn simulated(config: &Config) -> Result<Attester, GuestError> {
    let simulated = config.simulated.clone().unwrap_or_default();
    let (seed, gpus) = (simulated.seed, simulated.software_gpus());
    let quote_time = Duration::from_millis(u64::from(simulated.quote_milliseconds));
    Ok(Attester::simulated(confide_attester::SimulatedMachine { seed, gpus, quote_time })?)
}

#[cfg(not(feature = "danger-simulator"))]
fn simulated(_config: &Config) -> Result<Attester, GuestError> {
    Err(GuestError::SimulatorNotBuilt)
}

/// What a boot fixes first, and every document repeats.
pub(crate) struct Facts {
    pub(crate) build: Build,
    pub(crate) boot_id: Bytes<16>,
    pub(crate) settings: DecidingConfiguration,
}

impl Facts {
    fn draw(config: &Config, way: Way) -> Result<Self, GuestError> {
        Ok(Self { build: build(), boot_id: Bytes(random()?), settings: settings(config, way) })
    }
}

/// How a guest comes to serving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// `serve`: no volumes, and egress stays open.
    Serve,
    /// `boot`: egress is locked before anything is unlocked.
    Boot,
}

/// A boot up to the model: what comes next is the same, however it came here.
pub(crate) struct Prepared {
    pub(crate) attester: Attester,
    pub(crate) facts: Facts,
    pub(crate) gpus: Option<Devices>,
    pub(crate) egress: Egress,
    pub(crate) locked_at: Option<u64>,
    pub(crate) volumes: Vec<Volume>,
    /// The user as which the engine runs; this program's own where there is none.
    pub(crate) engine_user: Option<u32>,
    /// Where the engine is started, and its network with it; this program's own where there is none.
    pub(crate) workload: Option<NetworkThread>,
    pub(crate) drops: Drops,
}

/// Measures a boot without volumes whose egress stays open.
pub(crate) fn prepare(
    config: &Config,
    attester: Attester,
    gpus: Option<Gpus>,
) -> Result<Prepared, GuestError> {
    let facts = Facts::draw(config, Way::Serve)?;
    let (build, boot_id) = (facts.build.clone(), facts.boot_id);
    attester.measure(RuntimeEvent::Boot(Boot { build, boot_id, broker_key: None }))?;
    attester.measure(RuntimeEvent::Configuration(Configuration { digest: facts.settings.digest() }))?;
    attester.measure(RuntimeEvent::NoVolumes)?;
    let egress = Egress::open();
    let gpus = gpus.map(Devices::Configured);
    let volumes = Vec::new();
    let drops = Drops::default();
    Ok(Prepared {
        attester,
        facts,
        gpus,
        egress,
        locked_at: None,
        volumes,
        engine_user: None,
        workload: None,
        drops,
    })
}

/// Loads and measures the model, makes the GPUs ready that the guest accepts, and draws the keys last.
pub(crate) async fn finish(
    config: &Config,
    prepared: Prepared,
    console: Option<&mut Console>,
) -> Result<Booted, GuestError> {
    let boot_id = prepared.facts.boot_id;
    let mut engine = start_engine(config, &prepared).await?;
    let drops = prepared.drops.clone();
    if let Some(listener) = engine.supervisor() {
        drops.calls.hear(listener).map_err(GuestError::Runtime)?;
    }
    let manifest = engine.client().manifest().digest();
    let Finished { attester, keys, claims } = open(config, prepared, manifest, console).await?;
    Ok(Booted { attester: Arc::new(attester), engine, drops, keys: Arc::new(keys), boot_id, claims })
}

/// A boot that is measured up to `open`, but for its engine.
struct Finished {
    attester: Attester,
    keys: GuestKeys,
    claims: Claims,
}

/// What follows the loading of a model with this manifest.
async fn open(
    config: &Config,
    prepared: Prepared,
    manifest: Digest,
    mut console: Option<&mut Console>,
) -> Result<Finished, GuestError> {
    let Prepared { attester, facts, gpus, egress, locked_at, volumes, .. } = prepared;
    let Facts { build, boot_id: _, settings } = facts;
    let mut step = |done: &str| {
        if let Some(console) = console.as_deref_mut() {
            console.step(done);
        }
    };
    check_manifest(config, manifest)?;
    attester.measure(RuntimeEvent::Model(LoadedModel { manifest }))?;
    step("model");
    let attester = match gpus {
        Some(gpus) => attester.with_gpus(gpus.make_ready().await?),
        None => attester,
    };
    attester.measure(RuntimeEvent::Devices(attester.devices_in_use()))?;
    step("devices");
    machine::check_entropy(attester.nature())?;
    attester.measure(RuntimeEvent::Open)?;
    let not_after = now().saturating_add(u64::from(config.keys.lifetime_seconds.get()));
    let keys = GuestKeys::draw(&attester.log()?.serving(egress.mode)?, not_after)?;
    let claims = Claims {
        gpus: attester.gpus(),
        build,
        model: Model { name: config.model.name.as_str().to_owned(), manifest },
        egress,
        configuration: settings.digest(),
        engine: settings.engine,
        volumes,
        changing: changing(locked_at, 0),
    };
    step("open");
    Ok(Finished { attester, keys, claims })
}

fn check_manifest(config: &Config, found: Digest) -> Result<(), BootError> {
    match config.model.manifest {
        Some(expected) if expected != found => Err(BootError::Manifest { expected, found }),
        _ => Ok(()),
    }
}

/// Every setting that decides what happens to a prompt.
pub(crate) fn settings(config: &Config, way: Way) -> DecidingConfiguration {
    let kept = |mode| EgressPhase { mode, policy: Some(config.egress_policy().digest()) };
    let open = EgressPhase { mode: PhaseMode::Open, policy: None };
    let egress = match way {
        Way::Serve => EgressPhases { boot: open.clone(), serve: open },
        // The rules of the first phase are in force before there is a network.
        Way::Boot => EgressPhases { boot: kept(PhaseMode::Bootstrap), serve: kept(PhaseMode::Locked) },
    };
    let role = |volume: &config::Volume| VolumeRole {
        name: volume.name.as_str().to_owned(),
        role: volume.role.name().to_owned(),
    };
    let kind = if config.fixed_answers().is_some() { "fixed" } else { "builtin" };
    DecidingConfiguration {
        model: config.model.name.as_str().to_owned(),
        egress,
        engine: Engine { kind: kind.to_owned(), flags: Vec::new(), environment: Vec::new() },
        volumes: config.volumes.iter().map(role).collect(),
        manifest: config.model.manifest,
    }
}

fn build() -> Build {
    Build {
        image: None,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        revision: option_env!("CONFIDE_REVISION").unwrap_or("unknown").to_owned(),
    }
}

/// The model's folder is no flag of the engine: what is in it is measured, whatever its path.
async fn start_engine(config: &Config, prepared: &Prepared) -> Result<EngineProcess, GuestError> {
    let command = EngineCommand {
        program: THIS_PROGRAM.into(),
        arguments: vec!["engine".into(), config.model.directory.clone().into()],
        environment: prepared.facts.settings.engine.environment.clone(),
        patience: config.limits.engine_time(),
        user: prepared.engine_user,
    };
    let seconds = u64::from(config.limits.load_seconds.get());
    match &prepared.workload {
        Some(network) => {
            let started = network.drive(move || spawn_engine(command, seconds)).await;
            started.map_err(GuestError::Runtime)?
        }
        None => spawn_engine(command, seconds).await,
    }
}

async fn spawn_engine(command: EngineCommand, seconds: u64) -> Result<EngineProcess, GuestError> {
    match tokio::time::timeout(Duration::from_secs(seconds), EngineProcess::spawn(&command)).await {
        Ok(process) => Ok(process?),
        Err(_) => Err(GuestError::EngineSlow { seconds }),
    }
}

/// Claims that no register holds, as they are now.
pub(crate) fn changing(locked_at: Option<u64>, drops: u64) -> Changing {
    Changing { drops, locked_at, guest_time: now() }
}

/// Unix seconds of this machine's clock. The host sets it, until a broker's signed answer does: that is so where the log has the
/// event `released`.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Bytes from the system's random source.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], GuestError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(GuestError::Random)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn parsed(text: &str) -> Config {
        confide_service::config::parse(text.as_bytes(), Path::new("guest.toml")).unwrap()
    }

    fn digest(text: &str) -> String {
        settings(&parsed(text), Way::Serve).digest().to_string()
    }

    #[test]
    fn a_guest_that_boots_says_that_its_policy_is_in_force_in_both_phases() {
        let config = parsed(include_str!("../../../../deploy/guest-simulated.toml"));
        let policy = Some(config.egress_policy().digest());
        let EgressPhases { boot, serve } = settings(&config, Way::Boot).egress;
        assert_eq!(boot, EgressPhase { mode: PhaseMode::Bootstrap, policy });
        assert_eq!(serve, EgressPhase { mode: PhaseMode::Locked, policy });
        // Without boot nobody keeps anything to it.
        let EgressPhases { boot, serve } = settings(&config, Way::Serve).egress;
        assert_eq!([boot, serve].map(|phase| (phase.mode, phase.policy)), [(PhaseMode::Open, None); 2]);
    }

    #[test]
    fn the_policy_of_the_demonstration_names_its_configuration() {
        let digest = digest(include_str!("../../../../deploy/guest-simulated.toml"));
        let policy = include_str!("../../../../policies/danger-simulator.toml");
        let named = format!("configuration = {{ any_of = [\"{digest}\"] }}");
        assert!(
            policy.contains(&named),
            "policies/danger-simulator.toml must name the configuration {digest}"
        );
    }

    #[test]
    fn what_the_host_sets_beside_it_changes_no_digest_and_what_decides_does() {
        let sample = include_str!("../../../../deploy/guest-simulated.toml");
        for inert in
            [("127.0.0.1:8443", "[::]:1"), ("seed = 0", "seed = 9"), ("fixtures/models/tiny", "/elsewhere")]
        {
            let other = sample.replace(inert.0, inert.1);
            assert_ne!(other, sample, "{inert:?}");
            assert_eq!(digest(&other), digest(sample), "{inert:?}");
        }
        assert_eq!(digest(&format!("{sample}[limits]\nrequests = 1\n")), digest(sample));
        assert_eq!(digest(&format!("{sample}quote_milliseconds = 40\n")), digest(sample));
        assert_ne!(digest(&sample.replace("\"tiny\"", "\"other\"")), digest(sample));
        let fixed = format!("{sample}[simulated.answers]\ntokens = 8\n");
        assert_ne!(digest(&fixed), digest(sample), "answers that no model makes");
    }
}
