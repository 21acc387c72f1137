//! Boots on a SIMULATED platform without device-mapper, against a broker that is none.

use std::io::{self, Write};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use confide_attester::{AttesterError, Nature};
use confide_egress::plan::{self, GuestNetwork, Ruleset};
use confide_egress::{EgressError, NetworkThread};
use confide_evidence::document::{EgressMode, KeySet};
use confide_evidence::event::{EventKind, EventLogError};
use confide_evidence::transcript::Binding;
use confide_nvidia_emulator::{Scenario, VARIABLE, journal, library};
use confide_policy::egress::{EgressPolicy, Phase};
use confide_release::{Failure, RecipientKey, VolumeSecrets};
use http::StatusCode;

use super::broker::Broker;
use super::machine::{Fresh, Machine, Unlocked};
use super::privileges::Needs;
use super::run::prepare;
use super::sequence::Begun;
use super::standin::{COMMITTED, Decision, Identity, Standin, TIME, TOKEN, secrets};
use super::*;
use crate::config::Network;

pub(super) const MODEL: &str = "[[volumes]]\nname = \"model\"\nrole = \"weights\"\ndevice = \"/dev/vda\"\n";
const NEW_STATE: &str = "[[volumes]]\nname = \"new\"\nrole = \"state\"\ndevice = \"/dev/vdb\"\n";
const SCRATCH: &str = "[[volumes]]\nname = \"heap\"\nrole = \"scratch\"\ndevice = \"/dev/vdc\"\n";

/// A machine that does nothing, and says what it was to do.
#[derive(Default)]
pub(super) struct Told {
    pub(super) done: Vec<String>,
    fails_at: Option<&'static str>,
    /// Of the disk that is there.
    header: Option<Digest>,
}

impl Told {
    fn does(&mut self, what: String) -> Result<(), BootError> {
        let fails = self.fails_at.is_some_and(|failing| what.starts_with(failing));
        self.done.push(what);
        if fails { Err(EgressError::BrokerLost("told to fail".to_owned()).into()) } else { Ok(()) }
    }
}

impl Machine for Told {
    fn set_up_network(&mut self, _: Option<&Network>) -> Result<(), BootError> {
        self.does("network".to_owned())
    }

    fn check_entropy(&mut self, nature: Nature) -> Result<(), BootError> {
        assert_eq!(nature, Nature::Simulated);
        self.does("entropy".to_owned())
    }

    fn set_time(&mut self, time: u64, _: Nature) -> Result<(), BootError> {
        self.does(format!("time {time}"))
    }

    fn check_clock(&mut self, _: Nature) -> Result<(), BootError> {
        self.does("clock".to_owned())
    }

    fn lock_egress(&mut self, rules: &Ruleset) -> Result<(), BootError> {
        assert!(rules.text().contains("policy drop;"));
        self.does("lock".to_owned())
    }

    fn open(
        &mut self,
        volume: &config::Volume,
        secrets: &VolumeSecrets,
        broker: &str,
    ) -> Result<Unlocked, BootError> {
        assert!(broker.starts_with("127.0.0.1:"));
        self.does(format!("open {} {}", volume.name, secrets.profile))?;
        let fresh = if secrets.format_token.is_some() { Fresh::Formatted } else { Fresh::Kept };
        let header = match (fresh, self.header) {
            (Fresh::Formatted, _) => Bytes([0xf0; 32]),
            (Fresh::Kept, header) => header.unwrap_or(COMMITTED),
        };
        Ok(Unlocked { header, fresh })
    }

    fn open_scratch(&mut self, volume: &config::Volume) -> Result<(), BootError> {
        self.does(format!("scratch {}", volume.name))
    }

    fn drop_privileges(&mut self, needs: Needs) -> Result<(), BootError> {
        self.does(format!("drop {needs:?}"))
    }

    fn engine_user(&self) -> Option<u32> {
        None
    }

    fn workload(&self) -> Option<NetworkThread> {
        None
    }

    fn drops(&self) -> Drops {
        Drops::default()
    }
}

/// What a console has shown.
#[derive(Clone, Default)]
struct Screen(Arc<Mutex<Vec<u8>>>);

impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Screen {
    fn lines(&self) -> Vec<serde_json::Value> {
        let bytes = self.0.lock().unwrap().clone();
        bytes
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect()
    }

    fn steps(&self) -> Vec<String> {
        self.lines().iter().map(|line| line["step"].as_str().unwrap().to_owned()).collect()
    }
}

pub(super) fn config(tables: &str, broker: Option<(&Standin, &confide_release::IdentityKey)>) -> Config {
    let broker = broker.map_or_else(String::new, |(standin, identity)| {
        let key = confide_evidence::pem::base64_text(identity.to_der().as_bytes());
        format!("[broker]\naddress = \"{}\"\nidentity = \"{key}\"\npatience_seconds = 2\n", standin.address)
    });
    let text = format!(
        "listen = \"127.0.0.1:8443\"\nplatform = \"simulated\"\n[model]\nname = \"m\"\ndirectory = \"/volumes/model\"\n{broker}{tables}"
    );
    Config::parse(text.as_bytes(), Path::new("guest.toml")).unwrap()
}

pub(super) struct Outcome {
    pub(super) result: Result<Prepared, GuestError>,
    pub(super) machine: Told,
    screen: Screen,
}

pub(super) async fn booted(config: &Config, mut machine: Told) -> Outcome {
    let facts = Facts::draw(config, Way::Boot).unwrap();
    let broker = config.broker.as_ref().map(Broker::new);
    let screen = Screen::default();
    let mut console = Console::on(Box::new(screen.clone()));
    let gpus = Gpus::of(config).unwrap().map(|gpus| gpus.found().unwrap());
    let begun = Begun { config, attester: attester(config).unwrap(), facts, gpus };
    let result = prepare(begun, broker.as_ref(), &mut machine, &mut console).await;
    Outcome { result, machine, screen }
}

async fn booted_by(decision: Decision, tables: &str) -> (Outcome, Standin, Config) {
    let identity = Identity::draw();
    let public = identity.public();
    let standin = Standin::start(identity, decision).await;
    let config = config(tables, Some((&standin, &public)));
    (booted(&config, Told::default()).await, standin, config)
}

pub(super) fn code(outcome: &Outcome) -> String {
    match &outcome.result {
        Ok(_) => "it booted".to_owned(),
        Err(error) => error.code().to_owned(),
    }
}

fn kinds(prepared: &Prepared) -> Vec<EventKind> {
    prepared.attester.log().unwrap().events().iter().map(RuntimeEvent::kind).collect()
}

#[tokio::test]
async fn each_step_is_measured_and_told_in_the_one_order() {
    let tables = format!("{SCRATCH}{MODEL}{NEW_STATE}");
    let (outcome, standin, config) = booted_by(Decision::Release(secrets), &tables).await;
    let prepared = outcome.result.unwrap();
    let expected = [
        EventKind::Boot,
        EventKind::Configuration,
        EventKind::Released,
        EventKind::EgressLocked,
        EventKind::Volumes,
    ];
    assert_eq!(kinds(&prepared), expected);
    let needs = Needs { gpus: false, low_port: false };
    let done = [
        "entropy".to_owned(),
        format!("time {TIME}"),
        "lock".to_owned(),
        "clock".to_owned(),
        "open model model".to_owned(),
        "open new state".to_owned(),
        "scratch heap".to_owned(),
        format!("drop {needs:?}"),
    ];
    assert_eq!(outcome.machine.done, done);
    assert_eq!(outcome.screen.steps(), ["measured", "released", "egress-locked", "volumes", "dropped"]);
    let seen = standin.seen();
    assert_eq!(seen.volumes, [["model", "new"]]);
    assert_eq!((seen.formatted.len(), seen.formatted[0].token), (1, TOKEN));
    assert_eq!((seen.formatted[0].volume.as_str(), seen.formatted[0].header), ("new", Bytes([0xf0; 32])));
    assert!(seen.failures.is_empty());
    let claimed = |name: &str, header, integrity: &str, verity_root| Volume {
        name: name.into(),
        header,
        integrity: integrity.into(),
        generation: 3,
        verity_root,
    };
    let model = claimed("model", COMMITTED, "verity", Some(Bytes([0x0a; 32])));
    assert_eq!(prepared.volumes, [model, claimed("new", Bytes([0xf0; 32]), "aead", None)]);
    let network = GuestNetwork { serving_port: config.listen.port(), key_broker: Some(standin.address) };
    let rules = plan::guest(&EgressPolicy::deny_all(), Phase::Serving, network).unwrap();
    let egress = &prepared.egress;
    assert_eq!((egress.mode, egress.policy), (EgressMode::Locked, Some(EgressPolicy::deny_all().digest())));
    assert_eq!(egress.ruleset, Some(rules.digest()));
    assert!(prepared.locked_at.is_some());
}

#[tokio::test]
async fn without_volumes_nobody_is_asked_and_egress_is_locked_all_the_same() {
    let config = config(SCRATCH, None);
    let outcome = booted(&config, Told::default()).await;
    let prepared = outcome.result.unwrap();
    let expected = [EventKind::Boot, EventKind::Configuration, EventKind::NoVolumes, EventKind::EgressLocked];
    assert_eq!(kinds(&prepared), expected);
    assert_eq!(outcome.machine.done[..2], ["lock", "scratch heap"]);
    assert_eq!(outcome.screen.steps(), ["measured", "no-volumes", "egress-locked", "volumes", "dropped"]);
    assert!(prepared.volumes.is_empty());
}

#[tokio::test]
async fn a_locked_guest_claims_each_rule_by_which_something_leaves() {
    let text = include_str!("../../../../policies/egress/example.toml");
    let visible = "[[serving]]\nname = \"mirror.example.org\"\nports = [443]\nmode = \"passthrough\"\n";
    let config = config(&format!("[egress]\ninline = '''\n{text}{visible}'''\n"), None);
    let before = now();
    let prepared = booted(&config, Told::default()).await.result.unwrap();
    let Egress { mode, policy, allowed, ruleset, host_visible } = &prepared.egress;
    assert_eq!((*mode, *policy), (EgressMode::Locked, Some(config.egress_policy().digest())));
    let both = ["passthrough mirror.example.org:443", "terminate search.tools.example.com:443"];
    let mut sorted = allowed.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, both);
    assert_eq!(host_visible[..], both[..1]);
    let network = GuestNetwork { serving_port: config.listen.port(), key_broker: None };
    let rules = plan::guest(config.egress_policy(), Phase::Serving, network).unwrap();
    assert_eq!(*ruleset, Some(rules.digest()));
    assert!(prepared.locked_at.is_some_and(|at| (before..=now()).contains(&at)));
    let log = prepared.attester.log().unwrap();
    let Some(RuntimeEvent::EgressLocked(locked)) = log.events().last() else { panic!("{:?}", log.events()) };
    assert_eq!((Some(locked.policy), Some(locked.ruleset)), (*policy, *ruleset), "as measured");
}

/// What a process could still do that has taken over the guest after its boot: it has the attester.
#[tokio::test]
async fn after_released_no_evidence_of_the_role_key_release_can_be_made() {
    let (outcome, standin, _) = booted_by(Decision::Release(secrets), MODEL).await;
    let prepared = outcome.result.unwrap();
    let claims = standin.seen().documents[0].claims.clone();
    let recipient = KeySet::Recipient(RecipientKey::draw().public().clone());
    let binding = Binding::KeyRelease { nonce: Bytes([7; 32]) };
    let refused = prepared.attester.attest(&binding, &recipient, &claims).unwrap_err();
    assert!(matches!(refused, AttesterError::Events(EventLogError::Unexpected("released"))), "{refused:?}");
    // Nor can it make the register what it was: each kind of event comes once, in its order.
    let again = RuntimeEvent::Configuration(Configuration { digest: claims.configuration });
    assert!(matches!(prepared.attester.measure(again), Err(AttesterError::Events(_))));
}

/// Runs `part` in a process of its own, this same program asked for this test alone, with a GPU of the emulated libraries.
pub(super) fn with_an_emulated_gpu<F: Future>(test: &str, part: impl FnOnce() -> F) {
    if std::env::var_os(VARIABLE).is_some() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(part());
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let scenario = folder.path().join("scenario.json");
    std::fs::write(&scenario, serde_json::to_vec(&Scenario::of_gpus(1)).unwrap()).unwrap();
    let mut process = Command::new(std::env::current_exe().unwrap());
    process.args(["--exact", test, "--nocapture"]).env(VARIABLE, &scenario);
    let output = process.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(journal(&scenario).is_file(), "the emulator was not asked");
}

/// How often the driver has been told that the GPUs are ready. That they are not is told to no harm.
pub(super) fn times_ready() -> usize {
    let scenario = std::path::PathBuf::from(std::env::var_os(VARIABLE).unwrap());
    let calls = std::fs::read_to_string(journal(&scenario)).unwrap();
    calls.lines().filter(|line| *line == "nvmlSystemSetConfComputeGpusReadyState 1").count()
}

/// The tables of emulated GPUs that are appraised by this policy. The guest's folder has this name, where it has one.
pub(super) fn gpu_tables(folder: &Path, policy: &str, endorsements: Option<&str>) -> String {
    std::fs::write(folder.join("policy.toml"), policy).unwrap();
    let (folder, library) = (folder.display(), library().unwrap());
    let own = endorsements.map_or_else(String::new, |name| format!("endorsements = \"{folder}/{name}\"\n"));
    format!(
        "[gpus]\npolicy = \"{folder}/policy.toml\"\n{own}deadline_seconds = 60\n\
         [simulated]\nnvml = \"{0}\"\nnscq = \"{0}\"\n",
        library.display()
    )
}

/// The policy for demonstrations.
pub(super) const POLICY: &str = include_str!("../../../../policies/danger-simulator.toml");

/// What stands in the place of the manifest of an engine's model.
pub(super) const MANIFEST: Digest = Bytes([0x3d; 32]);

/// A whole boot with a policy that asks for so many GPUs.
async fn opened(count: u32) -> (Result<Finished, GuestError>, Told, Standin) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("gpus")).unwrap();
    let policy =
        POLICY.replace("\ngpu_count = { any_of = [1] }", &format!("\ngpu_count = {{ any_of = [{count}] }}"));
    let tables = gpu_tables(folder.path(), &policy, Some("gpus"));
    let (outcome, standin, config) = booted_by(Decision::Release(secrets), &format!("{MODEL}{tables}")).await;
    let prepared = outcome.result.unwrap();
    assert_eq!(times_ready(), 0, "no GPU takes work before the model is measured");
    (open(&config, prepared, MANIFEST, None).await, outcome.machine, standin)
}

#[test]
fn gpus_report_for_the_keys_and_take_work_after_the_model_once_they_are_accepted() {
    const NAME: &str =
        "boot::sequence_tests::gpus_report_for_the_keys_and_take_work_after_the_model_once_they_are_accepted";
    with_an_emulated_gpu(NAME, || async {
        let (refused, _, standin) = opened(2).await;
        assert_eq!(refused.err().unwrap().code(), "gpu_count");
        assert_eq!(times_ready(), 0, "a GPU that is refused takes no work");
        assert_eq!(standin.seen().documents[0].devices.len(), 1);

        let (opened, machine, standin) = opened(1).await;
        let Finished { attester, claims, .. } = opened.unwrap();
        assert_eq!(times_ready(), 1);
        assert!(machine.done.last().unwrap().contains("gpus: true"), "{:?}", machine.done);
        let seen = standin.seen();
        let document = &seen.documents[0];
        let nonce = Binding::KeyRelease { nonce: seen.challenges[0] }.gpu_nonce(0);
        assert_eq!(document.devices[0].report.as_bytes()[4..36], nonce, "SPDM 1.1: the nonce of a request");
        assert_eq!((document.claims.gpus.count, document.claims.gpus.ready), (1, false));
        assert_eq!((claims.gpus.count, claims.gpus.ready), (1, true));
        let log = attester.log().unwrap();
        let expected = [
            EventKind::Boot,
            EventKind::Configuration,
            EventKind::Released,
            EventKind::EgressLocked,
            EventKind::Volumes,
            EventKind::Model,
            EventKind::Devices,
            EventKind::Open,
        ];
        assert_eq!(log.events().iter().map(RuntimeEvent::kind).collect::<Vec<_>>(), expected);
        assert_eq!(log.serving(EgressMode::Locked).unwrap().devices.devices[0].mode, "spt");
    });
}

#[tokio::test]
async fn a_refusal_ends_the_boot_with_the_brokers_code_and_nothing_is_locked_or_opened() {
    for refusal in ["mr_td", "report_data", "tcb_status"] {
        let (outcome, standin, _) = booted_by(Decision::Refuse(StatusCode::FORBIDDEN, refusal), MODEL).await;
        assert_eq!(code(&outcome), refusal);
        assert_eq!(standin.seen().documents.len(), 1, "a refusal is not tried again");
        assert_eq!(outcome.machine.done, ["entropy"]);
        assert_eq!(outcome.screen.steps(), ["measured"]);
        let error = outcome.result.err().unwrap();
        assert!(error.action().is_some() && error.sentence().contains("the evidence is refused"));
    }
    let (outcome, ..) = booted_by(Decision::Refuse(StatusCode::FORBIDDEN, "\u{1b}[2J no code"), MODEL).await;
    assert_eq!(code(&outcome), "broker_refused");
    assert!(!outcome.result.err().unwrap().sentence().contains('\u{1b}'));
}

#[tokio::test]
async fn faults_of_the_transport_alone_are_tried_again_each_with_a_challenge_and_a_quote_of_its_own() {
    let (outcome, standin, _) = booted_by(Decision::BreaksOff(2, secrets), MODEL).await;
    assert_eq!(code(&outcome), "it booted");
    {
        let seen = standin.seen();
        let mut nonces = seen.challenges.clone();
        nonces.dedup();
        assert_eq!((nonces.len(), seen.documents.len()), (3, 3));
        assert_ne!(seen.documents[0].cpu, seen.documents[1].cpu);
    }
    let (outcome, standin, _) = booted_by(Decision::Overloaded(1, secrets), MODEL).await;
    assert_eq!((code(&outcome).as_str(), standin.seen().documents.len()), ("it booted", 1));
}

#[tokio::test]
async fn a_broker_that_stays_away_ends_the_boot() {
    let (outcome, standin, _) = booted_by(Decision::BreaksOff(u32::MAX, secrets), MODEL).await;
    assert_eq!(code(&outcome), "broker_unreachable");
    // Pauses of at least 100, 200, 400 and 800 ms, and of at most twice that, within the 2 seconds of its patience.
    let attempts = standin.seen().challenges.len();
    assert!((2..=5).contains(&attempts), "{attempts} attempts");
    drop(standin);
    let identity = Identity::draw();
    let public = identity.public();
    let standin = Standin::start(identity, Decision::Release(secrets)).await;
    let config = config(MODEL, Some((&standin, &public)));
    drop(standin);
    tokio::time::sleep(Duration::from_millis(50)).await;
    let outcome = booted(&config, Told::default()).await;
    assert_eq!(code(&outcome), "broker_unreachable");
    assert!(outcome.machine.done == ["entropy"]);
}

#[tokio::test]
async fn who_does_not_hold_the_measured_key_is_told_nothing() {
    let standin = Standin::start(Identity::draw(), Decision::Release(secrets)).await;
    let config_of = |identity| config(MODEL, Some((&standin, identity)));
    let outcome = booted(&config_of(&Identity::draw().public()), Told::default()).await;
    assert_eq!(code(&outcome), "broker_identity_wrong");
    assert!(standin.seen().challenges.is_empty());
    // The broker's own certificate, and another key behind it.
    let (identity, other) = (Identity::draw(), Identity::draw());
    let public = identity.public();
    let standin = Standin::showing(identity, other.key(), Decision::Release(secrets)).await;
    let config = config(MODEL, Some((&standin, &public)));
    let outcome = booted(&config, Told::default()).await;
    assert_eq!(code(&outcome), "broker_identity_wrong");
    assert!(standin.seen().challenges.is_empty());
}

#[tokio::test]
async fn an_answer_to_an_earlier_boot_is_refused() {
    let (first, standin, config) = booted_by(Decision::Replay(secrets), MODEL).await;
    assert_eq!(code(&first), "it booted");
    let second = booted(&config, Told::default()).await;
    assert_eq!(code(&second), "release_unverified");
    assert_eq!(standin.seen().documents.len(), 2);
    assert_eq!(second.machine.done, ["entropy"], "not even the time of it is taken");
}

#[tokio::test]
async fn an_answer_of_another_shape_is_refused() {
    let (outcome, ..) = booted_by(Decision::OtherVolume(secrets), MODEL).await;
    assert_eq!(code(&outcome), "release_invalid");
    let (outcome, ..) = booted_by(Decision::Babbles(10), MODEL).await;
    assert_eq!(code(&outcome), "release_invalid");
    // What has no end is not read to one: it is a fault of the transport.
    let (outcome, ..) = booted_by(Decision::Babbles(confide_release::MAX_ANSWER + 1), MODEL).await;
    assert_eq!(code(&outcome), "broker_unreachable");
}

#[tokio::test]
async fn a_volume_of_another_profile_than_its_role_asks_for_is_not_opened() {
    for (name, role) in [("state", "weights"), ("state", "code"), ("model", "state")] {
        let table = format!("[[volumes]]\nname = \"{name}\"\nrole = \"{role}\"\ndevice = \"/dev/vda\"\n");
        let (outcome, ..) = booted_by(Decision::Release(secrets), &table).await;
        assert_eq!(code(&outcome), "volume_profile_wrong", "{name} as {role}");
        assert!(!outcome.machine.done.iter().any(|done| done.starts_with("open")));
    }
}

#[tokio::test]
async fn nothing_follows_a_step_that_failed() {
    let steps = ["entropy", "time", "lock", "clock", "open", "scratch", "drop"];
    for (position, step) in steps.into_iter().enumerate() {
        let identity = Identity::draw();
        let public = identity.public();
        let standin = Standin::start(identity, Decision::Release(secrets)).await;
        let config = config(&format!("{MODEL}{SCRATCH}"), Some((&standin, &public)));
        let outcome = booted(&config, Told { fails_at: Some(step), ..Told::default() }).await;
        assert_eq!(code(&outcome), "egress_broker_lost", "{step}");
        assert_eq!(outcome.machine.done.len(), position + 1, "{:?}", outcome.machine.done);
    }
}

#[tokio::test]
async fn the_broker_is_told_why_a_boot_ended() {
    let identity = Identity::draw();
    let public = identity.public();
    let standin = Standin::start(identity, Decision::Release(secrets)).await;
    let config = config(MODEL, Some((&standin, &public)));
    let error = GuestError::Boot(BootError::NoRdseed);
    let failure = Failure::new(error.code(), Bytes([5; 16]), &error.sentence());
    Broker::new(config.broker.as_ref().unwrap()).tell(&failure).await;
    assert_eq!(standin.seen().failures, [failure]);
}

#[test]
fn every_code_of_a_failure_is_one_that_a_broker_takes() {
    for (code, ..) in crate::codes::CODES {
        let failure = Failure::new(code, Bytes([0; 16]), "s");
        assert!(Failure::decode(&failure.encode()).is_ok(), "{code}");
    }
}

#[test]
fn a_console_shows_one_object_a_line_and_nothing_that_it_obeys() {
    let screen = Screen::default();
    let mut console = Console::on(Box::new(screen.clone()));
    console.step("measured");
    console.failed(&GuestError::VolumesTable { reason: "two\nlines \u{1b}[2J".into() });
    console.power_off();
    let lines = screen.lines();
    let events: Vec<_> = lines.iter().map(|line| line["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["boot", "failed", "power-off"]);
    assert!(lines[0]["milliseconds"].is_u64() && lines[0]["at"].is_u64());
    assert_eq!(lines[1]["code"], "volumes_invalid");
    assert!(!String::from_utf8(screen.0.lock().unwrap().clone()).unwrap().contains('\u{1b}'));
}
