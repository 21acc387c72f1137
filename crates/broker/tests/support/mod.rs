//! A broker's files, its databases, and guests on simulated machines.
#![allow(dead_code, unreachable_pub, reason = "each test uses a part of it")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

pub mod authority;
pub mod client;
pub mod postgres;

use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use confide_attester::{Attester, SimulatedMachine};
use confide_broker::identity::Identity;
use confide_broker::owner::{Image, Owner};
use confide_broker::store::Store;
use confide_broker::{Broker, Config, DangerPolicies, Denial};
use confide_evidence::bytes::{ByteString, Bytes, Digest};
use confide_evidence::document::{
    Build, Changing, Claims, Egress, EgressMode, Engine, EvidenceDocument, KeySet, Model,
};
use confide_evidence::event::{Boot, Configuration, RuntimeEvent};
use confide_evidence::hash::sha256;
use confide_evidence::transcript::Binding;
use confide_release::{
    Profile, RecipientKey, ReleaseAnswer, ReleaseRequest, Secret, Verity, VolumeId, VolumeSecrets,
};
use zeroize::Zeroizing;

/// Where a test's requests come from.
pub const PEER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// The deciding configuration of the guests here.
pub fn configuration() -> Digest {
    sha256(b"broker's tests")
}

/// The simulator's policy, for guests that ask for keys.
pub fn policy() -> String {
    policy_for(&configuration())
}

/// The same for another configuration.
pub fn policy_for(configuration: &Digest) -> String {
    let text = include_str!("../../../../policies/danger-simulator.toml");
    let lines = text.lines().map(|line| match line.split_once(" = ") {
        Some(("name", _)) => "name = \"danger-key-release\"".to_owned(),
        Some(("model", _)) => "model = { waive = \"it lies on a volume that is not open yet\" }".to_owned(),
        Some(("configuration", _)) => format!("configuration = {{ any_of = [\"{configuration}\"] }}"),
        Some(("batch", _)) => "batch = \"refuse\"".to_owned(),
        _ => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// A folder with a broker's keys, and where its database is.
pub struct Home {
    pub folder: tempfile::TempDir,
    pub url: String,
}

impl Home {
    /// With a database of SQLite.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("broker.db").display());
        Self::at(folder, url)
    }

    /// With a database elsewhere.
    pub fn with(url: String) -> Self {
        Self::at(tempfile::tempdir().unwrap(), url)
    }

    fn at(folder: tempfile::TempDir, url: String) -> Self {
        let home = Self { folder, url };
        Identity::make(&home.path("identity.pem")).unwrap();
        home.secret("kek", &[7; 32]);
        home
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A file that only its user may read.
    pub fn secret(&self, name: &str, bytes: &[u8]) -> PathBuf {
        use std::io::Write as _;
        let path = self.path(name);
        let _ = std::fs::remove_file(&path);
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create_new(true).mode(0o600).open(&path).unwrap().write_all(bytes).unwrap();
        path
    }

    /// The text of a configuration, with further lines.
    pub fn config_text(&self, more: &str) -> String {
        let Self { url, .. } = self;
        let path = |name: &str| self.path(name).display().to_string();
        format!(
            "listen = \"127.0.0.1:0\"\nidentity = \"{}\"\n[storage]\nurl = \"{url}\"\n[kek]\nfile = \"{}\"\n{more}\n",
            path("identity.pem"),
            path("kek"),
        )
    }

    pub fn config(&self, more: &str) -> Config {
        let text = self.config_text(more);
        confide_service::config::parse(text.as_bytes(), Path::new("broker.toml")).unwrap()
    }

    /// Writes the configuration, and gives its path.
    pub fn config_file(&self, more: &str) -> PathBuf {
        let path = self.path("broker.toml");
        std::fs::write(&path, self.config_text(more)).unwrap();
        path
    }

    pub fn identity(&self) -> Identity {
        Identity::read(&self.path("identity.pem")).unwrap()
    }

    /// A broker on this database. Several are replicas.
    pub async fn broker(&self) -> Broker {
        self.broker_with("").await
    }

    pub async fn broker_with(&self, more: &str) -> Broker {
        Broker::open(&self.config(more), DangerPolicies::Taken).await.unwrap()
    }

    pub async fn owner(&self) -> Owner {
        let config = self.config("");
        let store = Store::open(&self.url, 4).await.unwrap();
        Owner::new(store, config.kek.kek().unwrap()).await.unwrap()
    }

    pub async fn store(&self) -> Store {
        Store::open(&self.url, 4).await.unwrap()
    }
}

pub fn id(name: &str) -> VolumeId {
    name.parse().unwrap()
}

pub fn secret(byte: u8) -> Secret {
    Secret::new(Zeroizing::new([byte; 64]))
}

/// An image of profile `model` whose header and secret follow from a number.
pub fn model_image(byte: u8) -> Image {
    Image {
        header: Some(Bytes([byte; 32])),
        secret: secret(byte),
        size: 1 << 20,
        verity: Some(Verity { root: Bytes([8; 32]), salt: Bytes([9; 32]), data_blocks: 250 }),
    }
}

/// A volume of profile `state` that is yet to be formatted.
pub fn state_image() -> Image {
    Image { header: None, secret: secret(5), size: 1 << 20, verity: None }
}

/// Adds the volume `model`, generation 1 with header and secret of 1.
pub async fn add_model(owner: &Owner) {
    owner.add(&id("model"), Profile::Model, &model_image(1), &policy()).await.unwrap();
}

/// A guest that has measured its boot and its configuration.
pub struct Guest {
    pub attester: Attester,
    pub recipient: RecipientKey,
    pub claims: Claims,
}

impl Guest {
    /// A guest that is configured with this broker's key.
    pub fn new(broker: &Identity) -> Self {
        Self::with(Some(broker.public().to_der()), configuration())
    }

    /// A guest with another key or configuration.
    pub fn with(broker_key: Option<ByteString>, configuration: Digest) -> Self {
        let machine = SimulatedMachine { seed: 7, gpus: 1, quote_time: Duration::ZERO };
        let attester = Attester::simulated(machine).unwrap();
        let build = Build { image: None, version: "0.0.0".to_owned(), revision: "test".to_owned() };
        let boot = Boot { build: build.clone(), boot_id: Bytes([0x0b; 16]), broker_key };
        attester.measure(RuntimeEvent::Boot(boot)).unwrap();
        attester.measure(RuntimeEvent::Configuration(Configuration { digest: configuration })).unwrap();
        let claims = Claims {
            gpus: attester.gpus(),
            build,
            model: Model { name: "m".to_owned(), manifest: Bytes([0; 32]) },
            egress: Egress {
                mode: EgressMode::Locked,
                policy: None,
                allowed: Vec::new(),
                ruleset: None,
                host_visible: Vec::new(),
            },
            engine: Engine { kind: "builtin".to_owned(), flags: Vec::new(), environment: Vec::new() },
            volumes: Vec::new(),
            changing: Changing { drops: 0, locked_at: None, guest_time: 0 },
            configuration,
        };
        Self { attester, recipient: RecipientKey::draw(), claims }
    }

    /// Evidence of the role `key-release`.
    pub fn evidence(&self, nonce: &Bytes<32>) -> EvidenceDocument {
        let keys = KeySet::Recipient(self.recipient.public().clone());
        self.attester.attest(&Binding::KeyRelease { nonce: *nonce }, &keys, &self.claims).unwrap()
    }

    pub fn request(&self, nonce: &Bytes<32>, volumes: &[&str]) -> ReleaseRequest {
        let document = self.evidence(nonce).encode().unwrap().into();
        let volumes = volumes.iter().map(|name| id(name)).collect();
        ReleaseRequest { nonce: *nonce, volumes, document }
    }

    /// Challenge, evidence, request and answer, verified and opened as a guest does.
    pub async fn ask(
        &self,
        broker: &Broker,
        identity: &Identity,
        volumes: &[&str],
    ) -> Result<Vec<(VolumeId, VolumeSecrets)>, Denial> {
        let nonce = broker.challenge(PEER).await?.nonce;
        let request = self.request(&nonce, volumes);
        let answer = broker.release(&request.encode(), PEER).await?;
        let answer = ReleaseAnswer::decode(&answer).unwrap();
        let verified = answer.verify(identity.public(), &request, &self.recipient).unwrap();
        Ok(verified.open(&self.recipient).unwrap())
    }
}

/// The code of a denial.
pub fn code(denial: &Denial) -> &str {
    &denial.refusal.error.code
}
