//! `confide-broker volume`: what the owner of volumes does at the command line.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use confide_evidence::bytes::Bytes;
use confide_evidence::text::escape_json;
use confide_evidence::time::format_seconds;
use confide_policy::AppraisalPolicy;
use confide_release::{Profile, Secret, Verity, VolumeId};
use serde_json::json;
use zeroize::Zeroizing;

use crate::broker::now;
use crate::cli::{Configured, bytes32, note, print, print_warnings, runtime};
use crate::config::Config;
use crate::error::BrokerError;
use crate::identity::{IdentityError, secret_file};
use crate::image;
use crate::kek::Kek;
use crate::owner::{Image, Owner};
use crate::policy::{self, PolicyFlags, PolicyText};
use crate::store::{Store, Volume};

/// Work with volumes.
// A variant's own comment would hide that of its arguments, whose further paragraphs are for `--help`.
#[derive(Debug, Subcommand)]
pub(crate) enum VolumeCommand {
    Add(Box<Add>),
    /// Pack a folder into a new image and add it as a volume of profile model
    ///
    /// The image needs neither root nor device-mapper to make, and the programs mke2fs and debugfs. Owners, groups and times of
    /// files are left out. A database that is not there yet is made.
    Create {
        /// Name of the volume
        id: VolumeId,
        /// Folder to pack: files and folders alone
        #[arg(long, value_name = "DIR")]
        from: PathBuf,
        /// New image
        #[arg(long, value_name = "FILE")]
        file: PathBuf,
        /// Where guests reach the broker, as a hint in the image's header; nothing rests on it
        #[arg(long, value_name = "HOST:PORT")]
        address: Option<String>,
        #[command(flatten)]
        policy: PolicyFlags,
        #[command(flatten)]
        configured: Configured,
    },
    /// Give an image a new header and secret, as the next generation, and refuse the old one from then on
    ///
    /// Run it where the image is. What an interrupted rotation left is ended first. Whoever kept a copy of the old header and
    /// its secret could still open a copy of the old image: --encrypt-to writes the image anew under another volume key.
    Rotate {
        /// Name of the volume
        id: VolumeId,
        /// Image, which is written to
        #[arg(long, value_name = "FILE", required_unless_present = "abandon")]
        file: Option<PathBuf>,
        /// New image under a new volume key, of a volume model; the old one is left as it is
        #[arg(long, value_name = "FILE", conflicts_with = "abandon")]
        encrypt_to: Option<PathBuf>,
        /// Give up the rotation that is under way
        #[arg(long)]
        abandon: bool,
        #[command(flatten)]
        configured: Configured,
    },
    /// List volumes, their generations and alarms
    ///
    /// A rotation that has been open for a day is overdue: until it is committed or given up, two generations open.
    List {
        #[command(flatten)]
        configured: Configured,
        /// Print one JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Give a volume another appraisal policy
    Policy {
        /// Name of the volume
        id: VolumeId,
        #[command(flatten)]
        policy: PolicyFlags,
        #[command(flatten)]
        configured: Configured,
    },
    /// Release a volume no more, for good
    ///
    /// A guest that has its keys keeps them until it ends. The name is not given again.
    Revoke {
        /// Name of the volume
        id: VolumeId,
        #[command(flatten)]
        configured: Configured,
    },
}

/// Add a volume whose image exists, or one of profile state that its guest formats
///
/// Without --file or --header, a secret is drawn, and the guest formats the volume at its first attested boot. A database that is
/// not there yet is made.
#[derive(Debug, clap::Args)]
pub(crate) struct Add {
    /// Name: 1 to 64 bytes of a-z, 0-9, '.', '_' and '-', the first one a letter or a digit
    id: VolumeId,
    /// How it is protected
    #[arg(long, value_enum)]
    profile: Kind,
    /// Bytes of the opened device, a multiple of 512
    #[arg(long, value_name = "BYTES", value_parser = size)]
    size: u64,
    /// Image, whose header is read
    #[arg(long, value_name = "FILE", requires = "secret", conflicts_with = "header")]
    file: Option<PathBuf>,
    /// SHA-256 of the header, where the image is elsewhere
    #[arg(long, value_name = "HEX", value_parser = bytes32, requires = "secret")]
    header: Option<[u8; 32]>,
    /// File with the keyslot secret, 64 bytes, which only its user may read
    #[arg(long, value_name = "FILE")]
    secret: Option<PathBuf>,
    /// Root hash of the hash tree, of a volume model
    #[arg(long, value_name = "HEX", value_parser = bytes32, requires = "verity_salt")]
    verity_root: Option<[u8; 32]>,
    /// Salt of the hash tree
    #[arg(long, value_name = "HEX", value_parser = bytes32, requires = "verity_blocks")]
    verity_salt: Option<[u8; 32]>,
    /// Blocks of data under the hash tree, of 4096 bytes
    #[arg(long, value_name = "NUMBER", requires = "verity_root")]
    verity_blocks: Option<u64>,
    #[command(flatten)]
    policy: PolicyFlags,
    #[command(flatten)]
    configured: Configured,
}

/// Parses the size of a device, in bytes.
fn size(text: &str) -> Result<u64, String> {
    let size = text.parse().ok().filter(|size: &u64| *size > 0 && size.is_multiple_of(512));
    size.ok_or_else(|| {
        "expected a number of bytes, a multiple of 512 above zero, such as 1073741824 for 1 GiB".to_owned()
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    /// Read-only: AES-XTS, with a hash tree inside
    Model,
    /// Writable: authenticated encryption
    State,
}

impl From<Kind> for Profile {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Model => Self::Model,
            Kind::State => Self::State,
        }
    }
}

impl VolumeCommand {
    pub(crate) fn run(self) -> Result<(), BrokerError> {
        let config = Config::load(&self.configured().config)?;
        runtime()?.block_on(async {
            let (url, connections) = (config.storage.url()?, config.storage.connections.get());
            let kek = config.kek.kek()?;
            let store = match &self {
                Self::Add(_) | Self::Create { .. } => Store::open(&url, connections).await?,
                _ => Store::open_existing(&url, connections).await?,
            };
            let done = self.with(kek, store.clone()).await;
            // Else SQLite leaves its log of changes behind.
            store.close().await;
            done
        })
    }

    async fn with(self, kek: Kek, store: Store) -> Result<(), BrokerError> {
        self.work(&Owner::new(store, kek).await?).await
    }

    fn configured(&self) -> &Configured {
        match self {
            Self::Add(add) => &add.configured,
            Self::List { configured, .. }
            | Self::Create { configured, .. }
            | Self::Rotate { configured, .. }
            | Self::Policy { configured, .. }
            | Self::Revoke { configured, .. } => configured,
        }
    }

    async fn work(self, owner: &Owner) -> Result<(), BrokerError> {
        match self {
            Self::Add(add) => add.run(owner).await,
            Self::Create { id, from, file, address, policy, .. } => {
                let policy = policy.load()?.for_keys()?;
                std::fs::read_dir(&from)
                    .map_err(|source| BrokerError::Folder { path: from.clone(), source })?;
                image::create(owner, &id, &from, &file, address.as_deref(), &policy.text)
                    .await
                    .map_err(|error| error.of_image(&file))?;
                let words = policy.in_words();
                print(&format!("{id}: packed into {} and added under {words}", file.display()))?;
                print_warnings(&policy.policy)
            }
            Self::Rotate { id, file, abandon: true, .. } => {
                let path = file.as_deref().unwrap_or(Path::new("the image"));
                let generation = image::abandon(owner, &id, file.as_deref())
                    .await
                    .map_err(|error| error.of_image(path))?;
                print(&format!("{id}: generation {generation} given up"))
            }
            Self::Rotate { id, file, encrypt_to, .. } => {
                // Without --abandon there is one: clap asks for it.
                let file = file.unwrap_or_default();
                let rotated = match &encrypt_to {
                    Some(to) => image::reencrypt(owner, &id, &file, to).await,
                    None => image::rotate(owner, &id, &file).await,
                };
                let generation = rotated.map_err(|error| error.of_image(&file))?;
                let now = encrypt_to.map_or_else(String::new, |to| {
                    format!(": the image is {} from now on, and {} is refused", to.display(), file.display())
                });
                print(&format!("{id}: generation {generation} committed{now}"))
            }
            Self::List { json, .. } => {
                let (now, volumes) = (now(), owner.volumes().await?);
                if volumes.is_empty() {
                    note("there are no volumes in this database");
                }
                for volume in volumes {
                    print(&if json { in_json(&volume, now)? } else { in_words(&volume, now)? })?;
                }
                Ok(())
            }
            Self::Policy { id, policy, .. } => {
                let policy = policy.load()?.for_keys()?;
                owner.set_policy(&id, &policy.text).await?;
                print(&format!("{id}: {}", policy.in_words()))?;
                print_warnings(&policy.policy)
            }
            Self::Revoke { id, .. } => {
                owner.revoke(&id).await?;
                print(&format!("{id}: revoked"))
            }
        }
    }
}

impl Add {
    async fn run(self, owner: &Owner) -> Result<(), BrokerError> {
        let policy = self.policy.load()?.for_keys()?;
        let secret = match &self.secret {
            Some(path) => read_secret(path)?,
            None => draw_secret()?,
        };
        let verity = match (self.verity_root, self.verity_salt, self.verity_blocks) {
            (Some(root), Some(salt), Some(data_blocks)) => {
                Some(Verity { root: Bytes(root), salt: Bytes(salt), data_blocks })
            }
            _ => None,
        };
        let header = match &self.file {
            Some(path) => Some(image::header(path, self.profile.into())?),
            None => self.header.map(Bytes),
        };
        if self.secret.is_some() != header.is_some() {
            let message = "--secret goes with --file or --header".to_owned();
            return Err(BrokerError::Volume { code: crate::codes::VOLUME_SETTINGS, message });
        }
        let image = Image { header, secret, size: self.size, verity };
        owner.add(&self.id, self.profile.into(), &image, &policy.text).await?;
        let formatted = if image.header.is_some() { "" } else { ", to be formatted by its guest" };
        print(&format!("{}: added under {}{formatted}", self.id, policy.in_words()))?;
        print_warnings(&policy.policy)
    }
}

/// Says what the owner surely does not mean.
fn read_secret(path: &Path) -> Result<Secret, BrokerError> {
    let unusable = |message: String| BrokerError::Volume { code: crate::codes::VOLUME_SETTINGS, message };
    let other = || unusable(format!("{}: expected a keyslot secret of 64 bytes", path.display()));
    let bytes = secret_file(path, 64).map_err(|error| match error {
        IdentityError::Unreadable { path, source } => BrokerError::Unreadable { path, source },
        IdentityError::Invalid { .. } => other(),
        error => unusable(error.to_string()),
    })?;
    let mut secret = Zeroizing::new([0; 64]);
    if bytes.len() != secret.len() {
        return Err(other());
    }
    secret.copy_from_slice(&bytes);
    Ok(Secret::new(secret))
}

fn draw_secret() -> Result<Secret, BrokerError> {
    let mut secret = Zeroizing::new([0; 64]);
    getrandom::fill(&mut *secret).map_err(BrokerError::Random)?;
    Ok(Secret::new(secret))
}

fn time(seconds: u64) -> String {
    format_seconds(i64::try_from(seconds).unwrap_or(i64::MAX))
}

/// What needs the owner's attention.
fn alarms(volume: &Volume, now: u64) -> Vec<String> {
    let told = |generation: u64, since: u64| {
        format!("the rotation to generation {generation} is overdue: it was begun at {}", time(since))
    };
    volume.overdue(now).map(|prepared| told(prepared.generation, prepared.since)).into_iter().collect()
}

/// The policy of a volume; nothing where this build reads none of its kind.
fn policy_of(volume: &Volume) -> Option<PolicyText> {
    let policy = AppraisalPolicy::parse_recorded(&volume.policy).ok()?;
    Some(PolicyText { text: volume.policy.clone(), policy })
}

/// Whether guests without hardware get the keys.
fn is_danger(policy: Option<&PolicyText>) -> bool {
    policy.is_some_and(|policy| policy.policy.danger.is_some())
}

fn in_words(volume: &Volume, now: u64) -> Result<String, BrokerError> {
    let committed = volume.committed()?;
    let mut text = format!(
        "{} {} {} bytes, generation {}",
        volume.id, volume.profile, volume.size, committed.generation
    );
    match committed.header {
        Some(header) => text.push_str(&format!(", header {header}")),
        None => text.push_str(", not formatted yet"),
    }
    if let Some(prepared) = volume.prepared() {
        text.push_str(&format!(", generation {} prepared at {}", prepared.generation, time(prepared.since)));
    }
    if let Some(revoked) = volume.revoked_at {
        text.push_str(&format!(", REVOKED at {}", time(revoked)));
    }
    let policy = policy_of(volume);
    text.push_str(&policy.as_ref().map_or(", a policy that this build does not read".to_owned(), |policy| {
        format!(", {}", policy.in_words())
    }));
    if is_danger(policy.as_ref()) {
        text.push_str(", SIMULATED guests by a danger policy");
    }
    for alarm in alarms(volume, now) {
        text.push_str(&format!(", ALARM: {alarm}"));
    }
    Ok(text)
}

fn in_json(volume: &Volume, now: u64) -> Result<String, BrokerError> {
    let committed = volume.committed()?;
    let version = |version: &crate::store::StoredVersion| {
        json!({
            "generation": version.generation,
            "state": version.state.name(),
            "header": version.header.map(|header| header.to_string()),
            "since": time(version.since),
        })
    };
    let policy = policy_of(volume);
    let value = json!({
        "name": volume.id.as_str(),
        "profile": volume.profile.name(),
        "size": volume.size,
        "verity_root": volume.verity.as_ref().map(|verity| verity.root.to_string()),
        "generation": committed.generation,
        "versions": volume.versions.iter().map(version).collect::<Vec<_>>(),
        "revoked_at": volume.revoked_at.map(time),
        "policy": policy.as_ref().map(|policy| &policy.policy.name),
        "waivers": policy.as_ref().map(|policy| policy::waived(&policy.policy)),
        "danger_policy": is_danger(policy.as_ref()),
        "alarms": alarms(volume, now),
    });
    Ok(escape_json(value.to_string()))
}
