//! The model's owner: a packed model volume, a broker with its key, and the policies that name what may have it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::workbench::{Digests, Driver, Workbench, with_settings};
use super::{host, machine};
use crate::running::Running;
use crate::{cargo, process};

/// Where the broker listens, on the loopback interface outside the guest.
pub(super) const BROKER_PORT: u16 = 18_444;
/// Where the guest sees that interface (QEMU, user mode network).
const OUTSIDE: &str = "10.0.2.2";
/// The volume's name.
pub(super) const VOLUME: &str = "model";
/// The name of a volume that the guest formats.
pub(super) const STATE: &str = "state";
/// Bytes that such a volume offers, and bytes of its disk, which has room for tags and a journal.
const STATE_SIZE: u64 = 8 << 20;
pub(super) const STATE_DISK: u64 = 16 << 20;
/// The tables of writable volumes.
const WRITABLE: &str = "\n[[volumes]]\nname = \"state\"\nrole = \"state\"\ndevice = \"/dev/vdb\"\n\n\
    [[volumes]]\nname = \"scratch\"\nrole = \"scratch\"\ndevice = \"/dev/vdc\"\n";
/// An egress policy that lets a name through, for which nobody is here.
const EGRESS: &str = "\n[egress]\ninline = '''\nformat = \"confide-egress-policy/1\"\nname = \"one-name\"\nlog = \"drops\"\n\
    [dns]\nupstreams = [{ protocol = \"tls\", name = \"dns.example.net\", addresses = [\"192.0.2.53\"] }]\n\
    [[bootstrap]]\nname = \"api.example.com\"\nports = [443]\n\
    [[serving]]\nname = \"api.example.com\"\nports = [443]\n'''\n";
/// Its rule, as claims have it.
const EGRESS_RULE: &str = "terminate api.example.com:443";
/// How long guests try again to reach the broker, in seconds.
const PATIENCE: u32 = 5;
/// Bytes of the disk that holds a configuration.
const CONFIGURATION_DISK: usize = 65_536;

/// What the guest is configured with, and where its configuration is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A model; the configuration is in the image, and measured with it.
    Model,
    /// The same; the configuration is on a disk of the host's, and an event measures it.
    ModelByDisk,
    /// A model, and an egress policy that lets a name through; configured in the image.
    Reaching,
    /// A model, a volume that the guest formats at its first boot, and one that is new in each boot; configured in the image.
    Writable,
}

/// What all cases begin with. Each works on copies.
pub(super) struct Owner {
    folder: PathBuf,
    /// The guest's configuration.
    pub(super) configuration: String,
    /// The image whose measurements the policies name.
    pub(super) image: PathBuf,
    /// What a client demands.
    pub(super) client_policy: PathBuf,
}

/// One case's copy: a database, a volume, and the broker's configuration.
pub(super) struct Copy {
    pub(super) volume: PathBuf,
    /// The broker's key.
    pub(super) identity: PathBuf,
    configuration: PathBuf,
    folder: PathBuf,
}

impl Owner {
    /// Draws keys, builds the image, packs the model and adds it to a broker's database under a policy that names all of this.
    ///
    /// # Errors
    /// When a step fails.
    pub(super) fn new(bench: &Workbench, kind: Kind) -> Result<Self> {
        let name = match kind {
            Kind::Model => "owner",
            Kind::ModelByDisk => "owner-by-disk",
            Kind::Reaching => "owner-of-a-name",
            Kind::Writable => "owner-of-state",
        };
        let folder = bench.case(name)?;
        let identity = folder.join("identity.pem");
        let key = process::line(bench.programs.broker().args(["identity", "make", "--out"]).arg(&identity))?;
        let mut random = Command::new("sh");
        process::run(
            random.args(["-ec", "umask 077; head -c 32 /dev/urandom >\"$1\"", "sh"]).arg(folder.join("kek")),
        )?;
        let mut configuration = configuration(&key, &model_digest()?);
        match kind {
            Kind::Writable => configuration.push_str(WRITABLE),
            Kind::Reaching => configuration.push_str(EGRESS),
            Kind::Model | Kind::ModelByDisk => {}
        }
        let in_image = (kind != Kind::ModelByDisk).then_some(configuration.as_str());
        let image = bench.image(name, Driver::Simulated, in_image)?;
        let command_line = machine::command_line();
        let measured = host::measure(&bench.programs, &bench.kernel.image(), &image, &command_line, &folder)?;
        let digests = bench.digests(&configuration)?;
        let owner = Self { client_policy: folder.join("danger-client.toml"), folder, configuration, image };
        owner.write_policies(kind, &measured, &digests)?;
        let copy = owner.packed(bench, &cargo::root().join("fixtures/models/tiny"), &owner.folder)?;
        if kind == Kind::Writable {
            let policy = owner.release_policy().display().to_string();
            let size = STATE_SIZE.to_string();
            let arguments = ["add", STATE, "--profile", "state", "--size", &size, "--danger-policy", &policy];
            copy.volume(bench, &arguments)?;
        }
        Ok(owner)
    }

    /// The policies of release and of clients: those for demonstrations, with what this guest is measured as.
    fn write_policies(&self, kind: Kind, measured: &Value, digests: &Digests) -> Result<()> {
        let base = fs::read_to_string(cargo::root().join("policies/danger-simulator.toml"))?;
        let one = |value: &str| format!("{{ any_of = [\"{value}\"] }}");
        let register =
            |name: &str| Ok::<_, anyhow::Error>(one(measured[name].as_str().context("a register")?));
        let (rtmr0, rtmr1, rtmr2) = (register("rtmr0")?, register("rtmr1")?, register("rtmr2")?);
        let (digest, egress) = (one(&digests.configuration), one(&digests.egress));
        let allowed = match kind {
            Kind::Reaching => one(EGRESS_RULE),
            Kind::Model | Kind::ModelByDisk | Kind::Writable => "{ any_of = [] }".to_owned(),
        };
        let waive = |reason: &str| format!("{{ waive = \"{reason}\" }}");
        let roots = waive("the manifest names the model");
        let release = waive("stands behind the configuration");
        let settings = [
            ("rtmr0", rtmr0.as_str()),
            ("rtmr1", &rtmr1),
            ("rtmr2", &rtmr2),
            ("configuration", &digest),
            ("gpu_count", "{ any_of = [0] }"),
        ];
        let client = [
            ("egress_mode", "{ any_of = [\"locked\"] }"),
            ("egress_policy", &egress),
            ("egress_allowed", &allowed),
            ("verity_roots", &roots),
        ];
        let broker = [
            ("egress_mode", release.as_str()),
            ("egress_policy", &release),
            ("egress_allowed", &release),
            ("model", &release),
            ("verity_roots", &release),
        ];
        fs::write(&self.client_policy, with_settings(&with_settings(&base, &settings)?, &client)?)?;
        let release = with_settings(&with_settings(&base, &settings)?, &broker)?;
        Ok(fs::write(self.release_policy(), release)?)
    }

    fn release_policy(&self) -> PathBuf {
        self.folder.join("danger-key-release.toml")
    }

    /// Packs a model into a volume of its own in an empty folder, with a database that has it.
    ///
    /// # Errors
    /// When it cannot be packed.
    pub(super) fn packed(&self, bench: &Workbench, model: &Path, folder: &Path) -> Result<Copy> {
        let copy = self.copy_at(bench, folder)?;
        let mut command = bench.programs.broker();
        command.args(["volume", "create", VOLUME, "--from"]).arg(model).arg("--file").arg(&copy.volume);
        command.args(["--address", &format!("{OUTSIDE}:{BROKER_PORT}"), "--danger-policy"]);
        process::run(command.arg(self.release_policy()).arg("--config").arg(&copy.configuration))?;
        Ok(copy)
    }

    fn copy_at(&self, bench: &Workbench, folder: &Path) -> Result<Copy> {
        let copy = Copy {
            volume: folder.join("model.img"),
            identity: self.folder.join("identity.pem"),
            configuration: folder.join("broker.toml"),
            folder: folder.to_path_buf(),
        };
        copy.write_configuration(&self.folder, &bench.collateral)?;
        Ok(copy)
    }

    /// A copy for one case, in its folder.
    ///
    /// # Errors
    /// When files cannot be copied.
    pub(super) fn copy(&self, bench: &Workbench, folder: &Path) -> Result<Copy> {
        for entry in fs::read_dir(&self.folder)? {
            let from = entry?.path();
            let name = from.file_name().context("a file with a name")?;
            if name.to_string_lossy().starts_with("broker.db") || name == "model.img" {
                fs::copy(&from, folder.join(name))?;
            }
        }
        self.copy_at(bench, folder)
    }

    /// The configuration as a disk has it: the text, then zeros.
    ///
    /// # Errors
    /// When it cannot be written, or is too long.
    pub(super) fn write_disk(text: &str, file: &Path) -> Result<()> {
        let mut bytes = text.as_bytes().to_vec();
        ensure!(bytes.len() <= CONFIGURATION_DISK, "a configuration of {} bytes", bytes.len());
        bytes.resize(CONFIGURATION_DISK, 0);
        Ok(fs::write(file, bytes)?)
    }
}

impl Copy {
    /// Keys are the owner's; the database is the copy's.
    fn write_configuration(&self, keys: &Path, collateral: &Path) -> Result<()> {
        let (keys, database, collateral) = (keys.display(), self.folder.display(), collateral.display());
        let text = format!(
            "listen = \"127.0.0.1:{BROKER_PORT}\"\nidentity = \"{keys}/identity.pem\"\n\n\
             [storage]\nurl = \"sqlite:{database}/broker.db\"\n\n[kek]\nfile = \"{keys}/kek\"\n\n\
             [endorsements]\nsource = \"file\"\nfile = \"{collateral}\"\n"
        );
        Ok(fs::write(&self.configuration, text)?)
    }

    /// Starts the broker.
    ///
    /// # Errors
    /// When it does not listen.
    pub(super) fn serve(&self, bench: &Workbench) -> Result<Running> {
        Running::broker(&bench.programs, &self.configuration, &self.folder)
    }

    /// Runs a subcommand of `confide-broker volume` on this copy's database.
    ///
    /// # Errors
    /// When it fails.
    pub(super) fn volume(&self, bench: &Workbench, arguments: &[&str]) -> Result<()> {
        let mut command = bench.programs.broker();
        process::run(command.arg("volume").args(arguments).arg("--config").arg(&self.configuration))
    }

    /// A rotation of the model's volume.
    pub(super) fn rotation(&self, bench: &Workbench) -> Command {
        let mut command = bench.programs.broker();
        command.args(["volume", "rotate", VOLUME, "--file"]).arg(&self.volume);
        command.arg("--config").arg(&self.configuration);
        command
    }

    /// Lets the broker have another identity than the one that guests are configured with.
    ///
    /// # Errors
    /// When none can be made.
    pub(super) fn impersonate(&self, bench: &Workbench) -> Result<()> {
        let identity = self.folder.join("other.pem");
        process::line(bench.programs.broker().args(["identity", "make", "--out"]).arg(&identity))?;
        self.configure("identity", &identity.display().to_string())
    }

    /// Lets the broker listen on a port that no guest knows.
    ///
    /// # Errors
    /// When its configuration cannot be written.
    pub(super) fn hide(&self) -> Result<()> {
        self.configure("listen", "127.0.0.1:0")
    }

    fn configure(&self, setting: &str, value: &str) -> Result<()> {
        let text = fs::read_to_string(&self.configuration)?;
        let value = format!("\"{value}\"");
        Ok(fs::write(&self.configuration, with_settings(&text, &[(setting, &value)])?)?)
    }

    /// The entries of the broker's audit log, each an object.
    ///
    /// # Errors
    /// When it does not hold together.
    pub(super) fn audit(&self, bench: &Workbench) -> Result<Vec<Value>> {
        let mut command = bench.programs.broker();
        command.args(["audit", "show", "--json", "--config"]).arg(&self.configuration);
        let text = process::output(&mut command)?;
        text.lines().map(|line| serde_json::from_str(line).context("an entry of the audit log")).collect()
    }
}

/// The guest's configuration.
fn configuration(broker: &str, manifest: &str) -> String {
    format!(
        "listen = \"0.0.0.0:8443\"\nplatform = \"tdx\"\n\n\
         [model]\nname = \"tiny\"\ndirectory = \"/volumes/{VOLUME}\"\nmanifest = \"{manifest}\"\n\n\
         [network]\naddress = \"10.0.2.15/24\"\ngateway = \"{OUTSIDE}\"\n\n\
         [broker]\naddress = \"{OUTSIDE}:{BROKER_PORT}\"\nidentity = \"{broker}\"\npatience_seconds = {PATIENCE}\n\n\
         [[volumes]]\nname = \"{VOLUME}\"\nrole = \"weights\"\ndevice = \"/dev/vda\"\n\n\
         [endorsements]\nsource = \"file\"\nfile = \"{}\"\n",
        super::image::COLLATERAL
    )
}

/// The digest of the tiny model's manifest, as the policy for demonstrations names it.
fn model_digest() -> Result<String> {
    let policy = fs::read_to_string(cargo::root().join("policies/danger-simulator.toml"))?;
    let value = policy.lines().find_map(|line| line.strip_prefix("model = { any_of = [\""));
    let digest = value.and_then(|value| value.split('"').next());
    Ok(digest.context("the policy names the tiny model")?.to_owned())
}
