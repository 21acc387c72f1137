//! Boots with GPUs of which the machine itself knows nothing: what NVIDIA says of them comes from a real broker, with the keys.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use confide_broker::identity::Identity as Key;
use confide_broker::owner::{Image, Owner};
use confide_broker::store::Store;
use confide_broker::{Broker, DangerPolicies};
use confide_evidence::document::EgressMode;
use confide_release::{Profile, Secret, Verity, VolumeId};
use confide_simulator::{SimulatedGpu, SimulatedNode};
use confide_testkit::gpu::GpuEvidence;
use zeroize::Zeroizing;

use super::sequence_tests::{
    MANIFEST, MODEL, Outcome, POLICY, Told, booted, code, config, gpu_tables, times_ready,
    with_an_emulated_gpu,
};
use super::standin::{COMMITTED, Decision, Identity, Standin};
use super::*;

/// A policy with this in the place of a field's value.
fn with(policy: &str, fields: &[(&str, &str)]) -> String {
    let line = |line: &str| {
        let field = line.split_once(" = ").map(|(field, _)| field);
        let found = fields.iter().find(|(name, _)| Some(*name) == field);
        found.map_or_else(|| line.to_owned(), |(name, value)| format!("{name} = {value}"))
    };
    policy.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// Asks for manifests and for answers about certificates.
const REQUIRED: [(&str, &str); 2] = [("rim", "\"required\""), ("revocation", "\"required\"")];

/// A broker's folder: its keys, its database with the volume `model`, and `gpus` with what NVIDIA says.
struct Home {
    folder: tempfile::TempDir,
}

impl Home {
    fn new() -> Self {
        let home = Self { folder: tempfile::tempdir().unwrap() };
        Key::make(&home.path("identity.pem")).unwrap();
        let mut options = std::fs::OpenOptions::new();
        let mut kek = options.write(true).create_new(true).mode(0o600).open(home.path("kek")).unwrap();
        kek.write_all(&[7; 32]).unwrap();
        std::fs::create_dir(home.path("gpus")).unwrap();
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn config(&self, tables: &str) -> confide_broker::Config {
        let folder = self.folder.path().display();
        let text = format!(
            "listen = \"127.0.0.1:0\"\nidentity = \"{folder}/identity.pem\"\n[storage]\nurl = \"sqlite:{folder}/broker.db\"\n\
             [kek]\nfile = \"{folder}/kek\"\n{tables}"
        );
        confide_service::config::parse(text.as_bytes(), Path::new("broker.toml")).unwrap()
    }

    async fn owner(&self) -> Owner {
        let config = self.config("");
        let store = Store::open(&config.storage.url().unwrap(), 1).await.unwrap();
        Owner::new(store, config.kek.kek().unwrap()).await.unwrap()
    }

    /// Adds the volume `model` under this policy.
    async fn add(&self, policy: &str) {
        let secret = Secret::new(Zeroizing::new([9; 64]));
        let verity = Some(Verity { root: Bytes([8; 32]), salt: Bytes([2; 32]), data_blocks: 250 });
        let image = Image { header: Some(COMMITTED), secret, size: 1 << 20, verity };
        self.owner().await.add(&model(), Profile::Model, &image, policy).await.unwrap();
    }

    /// A boot of a machine with these tables, whose keys a broker with those has.
    async fn boots(&self, machine: &str, broker: &str) -> (Outcome, Config) {
        let identity = Key::read(&self.path("identity.pem")).unwrap();
        let broker = Broker::open(&self.config(broker), DangerPolicies::Taken).await.unwrap();
        let shown = Identity::read(&self.path("identity.pem"));
        let standin = Standin::start(shown, Decision::Real(Arc::new(broker))).await;
        let config = config(machine, Some((&standin, identity.public())));
        (booted(&config, Told::default()).await, config)
    }

    /// Writes what endorses the emulated GPU.
    fn endorse(&self) -> (usize, usize) {
        let node = SimulatedNode { gpus: vec![SimulatedGpu::new(0).unwrap()], switches: Vec::new() };
        let GpuEvidence { manifests, answers, .. } = GpuEvidence::of(&node, [0; 32], now()).unwrap();
        for (kind, files) in [("xml", &manifests), ("ocsp", &answers)] {
            for (place, bytes) in files.iter().enumerate() {
                std::fs::write(self.path("gpus").join(format!("{place}.{kind}")), bytes).unwrap();
            }
        }
        (manifests.len(), answers.len())
    }
}

fn model() -> VolumeId {
    "model".parse().unwrap()
}

/// The policy of the volume, for a guest with this configuration.
fn release_policy(config: &Config) -> String {
    let configuration = format!("{{ any_of = [\"{}\"] }}", settings(config, Way::Boot).digest());
    let fields = [
        ("name", "\"danger-key-release\""),
        ("model", "{ waive = \"it lies on a volume that is not open yet\" }"),
        ("configuration", configuration.as_str()),
        ("gpu_environment", "{ any_of = [\"PROD\"] }"),
        ("batch", "\"refuse\""),
    ];
    with(POLICY, &fields)
}

#[test]
fn what_the_broker_has_of_nvidia_is_enough_for_the_keys_and_for_the_ready_state() {
    const NAME: &str =
        "boot::endorsed_tests::what_the_broker_has_of_nvidia_is_enough_for_the_keys_and_for_the_ready_state";
    with_an_emulated_gpu(NAME, || async {
        let (home, machine) = (Home::new(), tempfile::tempdir().unwrap());
        let tables = format!("{MODEL}{}", gpu_tables(machine.path(), &with(POLICY, &REQUIRED), None));
        let table = format!("[gpu_endorsements]\nfolder = \"{}\"", home.path("gpus").display());
        // Where the broker is does not decide.
        let anywhere = Standin::start(Identity::draw(), Decision::Babbles(0)).await;
        let policy = release_policy(&config(&tables, Some((&anywhere, &Identity::draw().public()))));
        home.add(&with(&policy, &REQUIRED)).await;

        for broker in ["", table.as_str()] {
            let (refused, _) = home.boots(&tables, broker).await;
            assert_eq!(code(&refused), "device_rim", "without the table, and from an empty folder");
            assert_eq!(refused.machine.done, ["entropy"], "no key was released");
        }

        let (manifests, answers) = home.endorse();
        let (outcome, config) = home.boots(&tables, &table).await;
        let prepared = outcome.result.unwrap();
        assert!(outcome.machine.done.contains(&"open model model".to_owned()), "{:?}", outcome.machine.done);
        let given = prepared.gpus.as_ref().and_then(Devices::endorsements).unwrap();
        assert_eq!((given.rims.len(), given.ocsp.len(), given.crls.len()), (manifests, answers, 0));
        assert_eq!(times_ready(), 0);
        let Finished { attester, claims, .. } = open(&config, prepared, MANIFEST, None).await.unwrap();
        assert_eq!((times_ready(), claims.gpus.count, claims.gpus.ready), (1, 1, true));
        assert_eq!((claims.model.manifest, claims.volumes[0].header), (MANIFEST, COMMITTED));
        attester.log().unwrap().serving(EgressMode::Locked).unwrap();

        // A broker may ask for less, and have nothing: then the guest does not take its GPU.
        home.owner().await.set_policy(&model(), &policy).await.unwrap();
        let (outcome, config) = home.boots(&tables, "").await;
        let prepared = outcome.result.unwrap();
        assert!(prepared.gpus.as_ref().and_then(Devices::endorsements).is_none());
        let refused = open(&config, prepared, MANIFEST, None).await;
        assert_eq!((refused.err().unwrap().code(), times_ready()), ("device_rim", 1));
    });
}
