//! From the configuration to a guest that may serve: each step is measured before the next one relies on it.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use confide_attester::Attester;
use confide_channel_guest::GuestKeys;
use confide_engine::process::{EngineCommand, EngineProcess};
use confide_evidence::bytes::Bytes;
use confide_evidence::configuration::{DecidingConfiguration, EgressPhase, EgressPhases};
use confide_evidence::document::{Build, Changing, Claims, Egress, EgressMode, Engine, Model};
use confide_evidence::event::{Boot, Configuration, LoadedModel, RuntimeEvent};

use crate::config::{Config, Platform};
use crate::error::GuestError;
use crate::gpus::Gpus;

/// This program's own file, also when it has been replaced on the disk since it started.
const THIS_PROGRAM: &str = "/proc/self/exe";

/// A guest whose boot is measured up to `open`, with the keys drawn after it.
pub(crate) struct Booted {
    pub(crate) attester: Arc<Attester>,
    pub(crate) engine: EngineProcess,
    pub(crate) keys: Arc<GuestKeys>,
    pub(crate) boot_id: Bytes<16>,
    /// As they stand for this boot; `changing` is filled in for each document.
    pub(crate) claims: Claims,
}

/// The platform that the configuration names, and no other.
pub(crate) fn attester(config: &Config) -> Result<Attester, GuestError> {
    match config.platform {
        Platform::Tdx => Ok(Attester::tdx()?),
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

/// Measures the boot, loads the model in between, makes the GPUs ready that the guest accepts, and draws the keys last.
pub(crate) async fn boot(
    config: &Config,
    attester: Attester,
    gpus: Option<Gpus>,
) -> Result<Booted, GuestError> {
    let settings = settings(config);
    let build = build();
    let boot_id = Bytes(random()?);
    attester.measure(RuntimeEvent::Boot(Boot { build: build.clone(), boot_id, broker_key: None }))?;
    attester.measure(RuntimeEvent::Configuration(Configuration { digest: settings.digest() }))?;
    attester.measure(RuntimeEvent::NoVolumes)?;
    let engine = start_engine(config, &settings.engine).await?;
    let manifest = engine.client().manifest().digest();
    attester.measure(RuntimeEvent::Model(LoadedModel { manifest }))?;
    let attester = match gpus {
        Some(gpus) => attester.with_gpus(gpus.make_ready().await?),
        None => attester,
    };
    attester.measure(RuntimeEvent::Devices(attester.devices_in_use()))?;
    attester.measure(RuntimeEvent::Open)?;
    let not_after = now().saturating_add(u64::from(config.keys.lifetime_seconds.get()));
    let keys = GuestKeys::draw(&attester.log()?.serving(EgressMode::Open)?, not_after)?;
    let claims = Claims {
        gpus: attester.gpus(),
        build,
        model: Model { name: config.model.name.as_str().to_owned(), manifest },
        egress: Egress { mode: EgressMode::Open, policy: None, ruleset: None, host_visible: Vec::new() },
        configuration: settings.digest(),
        engine: settings.engine,
        volumes: Vec::new(),
        changing: changing(),
    };
    Ok(Booted { attester: Arc::new(attester), engine, keys: Arc::new(keys), boot_id, claims })
}

/// Every setting that decides what happens to a prompt. This guest locks no egress and opens no volume.
fn settings(config: &Config) -> DecidingConfiguration {
    let open = EgressPhase { mode: EgressMode::Open, policy: None };
    let kind = if config.fixed_answers().is_some() { "fixed" } else { "builtin" };
    DecidingConfiguration {
        model: config.model.name.as_str().to_owned(),
        egress: EgressPhases { boot: open.clone(), serve: open },
        engine: Engine { kind: kind.to_owned(), flags: Vec::new(), environment: Vec::new() },
        volumes: Vec::new(),
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
async fn start_engine(config: &Config, claimed: &Engine) -> Result<EngineProcess, GuestError> {
    let command = EngineCommand {
        program: THIS_PROGRAM.into(),
        arguments: vec!["engine".into(), config.model.directory.clone().into()],
        environment: claimed.environment.clone(),
        patience: config.limits.engine_time(),
    };
    let seconds = u64::from(config.limits.load_seconds.get());
    match tokio::time::timeout(Duration::from_secs(seconds), EngineProcess::spawn(&command)).await {
        Ok(process) => Ok(process?),
        Err(_) => Err(GuestError::EngineSlow { seconds }),
    }
}

/// Claims that no register holds, as they are now. Without an egress ruleset nothing is dropped or locked.
pub(crate) fn changing() -> Changing {
    Changing { drops: 0, locked_at: None, guest_time: now() }
}

/// Unix seconds of this machine's clock, which the host sets.
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

    fn digest(text: &str) -> String {
        let config: Config =
            confide_service::config::parse(text.as_bytes(), Path::new("guest.toml")).unwrap();
        settings(&config).digest().to_string()
    }

    #[test]
    fn the_policy_of_the_demonstration_names_its_configuration() {
        let digest = digest(include_str!("../../../deploy/guest-simulated.toml"));
        let policy = include_str!("../../../policies/danger-simulator.toml");
        let named = format!("configuration = {{ any_of = [\"{digest}\"] }}");
        assert!(
            policy.contains(&named),
            "policies/danger-simulator.toml must name the configuration {digest}"
        );
    }

    #[test]
    fn what_the_host_sets_beside_it_changes_no_digest_and_what_decides_does() {
        let sample = include_str!("../../../deploy/guest-simulated.toml");
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
