//! The configuration file of `serve` and `boot`.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Component, Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

use confide_attester::gpu::Deadlines;
use confide_endorser::{BaseUrl, Update, UrlError};
use confide_evidence::bytes::{Bytes, Digest};
use confide_evidence::document::{MAX_DEVICES, MAX_VOLUMES};
use confide_evidence::{hex, pem};
use confide_policy::egress::EgressPolicy;
use confide_release::{IdentityKey, VolumeId};
use confide_service::logging::{Filter, Format};
use serde::{Deserialize, Deserializer};

use crate::egress;
use crate::error::GuestError;

/// The longest model name, in bytes. Published names have under 100.
const MAX_NAME: usize = 128;

/// The most seconds for which the guest waits for a peer, for requests that it is to end with, and for its broker. No digest covers
/// them, and the configuration may be the host's: it is not to hold up a guest that should end. Usual drains take 30 seconds.
const MAX_SECONDS: u32 = 300;

fn short<'de, D: Deserializer<'de>>(deserializer: D) -> Result<NonZeroU32, D::Error> {
    let seconds = NonZeroU32::deserialize(deserializer)?;
    if seconds.get() <= MAX_SECONDS {
        return Ok(seconds);
    }
    Err(serde::de::Error::custom(format!("{seconds} seconds, expected at most {MAX_SECONDS}")))
}

/// What `serve` or `boot` is told. Unknown fields are errors.
///
/// ```toml
/// listen = "127.0.0.1:8443"
/// platform = "tdx"
///
/// [model]
/// name = "tiny"
/// directory = "/models/tiny"
/// ```
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where to listen; port 0 for any free one.
    #[serde(deserialize_with = "address")]
    pub listen: SocketAddr,
    /// Where evidence comes from.
    pub platform: Platform,
    /// Whom the guest asks for quotes; the kernel's configfs-tsm where this table is missing. For `platform = "tdx"` alone.
    pub quoting: Option<Quoting>,
    /// What is served.
    pub model: Model,
    /// Bounds on what peers can use up.
    #[serde(default)]
    pub limits: Limits,
    /// The keys drawn at boot.
    #[serde(default)]
    pub keys: Keys,
    /// What is stapled to evidence; nothing where this table is missing.
    pub endorsements: Option<Endorsements>,
    /// The GPUs that the guest appraises and makes ready; none is looked for where this table is missing.
    pub gpus: Option<Gpus>,
    /// The network device; left as it is where this table is missing. For `boot` alone.
    pub network: Option<Network>,
    /// What may leave the guest; nothing where this table is missing. For `boot` alone.
    pub egress: Option<Egress>,
    /// Who releases the keys of volumes. For `boot` alone.
    pub broker: Option<Broker>,
    /// Encrypted volumes. For `boot` alone.
    #[serde(default)]
    pub volumes: Vec<Volume>,
    /// What is logged.
    #[serde(default)]
    pub log: Log,
    /// Where root of this machine learns what leaves the guest; nowhere where this table is missing.
    pub status: Option<Status>,
    /// Which software machine; for `platform = "simulated"` alone.
    pub simulated: Option<Simulated>,
}

/// An IP address with a port. The standard library's own error does not say what is expected.
fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(deserializer)?;
    let expected = "expected IP:PORT, such as 0.0.0.0:8443 or [::]:8443; names are not looked up";
    text.parse().map_err(|_| serde::de::Error::custom(expected))
}

/// Where evidence comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Platform {
    /// Intel TDX hardware.
    Tdx,
    /// Software whose keys everybody has.
    Simulated,
}

/// Whom the guest asks for quotes in the place of the kernel. It is the host either way: a quote proves itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quoting {
    /// The port of the host's quote generation service on vsock. Intel's listens on 4050.
    pub vsock_port: u32,
}

/// What is served.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// The name that requests use: 1 to 128 bytes, no white space or control characters.
    pub name: ModelName,
    /// A folder in Hugging Face layout. All of its files are measured.
    pub directory: PathBuf,
    /// SHA-256 of the model manifest. Where it is given, the guest serves no other model.
    #[serde(default, deserialize_with = "digest")]
    pub manifest: Option<Digest>,
}

fn digest<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Digest>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let expected = || serde::de::Error::custom("expected a SHA-256 as 64 hexadecimal digits");
    Ok(Some(Bytes(hex::decode_array(&text).ok_or_else(expected)?)))
}

/// The name of a model.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct ModelName(String);

impl ModelName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ModelName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let plain = |character: char| !character.is_whitespace() && !character.is_control();
        if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(plain) {
            return Err(format!(
                "a model name has 1 to {MAX_NAME} bytes and no white space or control characters"
            ));
        }
        Ok(Self(name))
    }
}

/// Bounds on what peers can use up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Connections at a time; further ones wait. Also requests over HTTP/2 at a time, on all connections together; further ones
    /// are refused.
    pub connections: NonZeroUsize,
    /// Completions at a time.
    pub requests: NonZeroUsize,
    /// Completions that wait for one of those places; one more is refused.
    pub waiting_requests: usize,
    /// Seconds that they wait before they are refused.
    pub wait_seconds: NonZeroU32,
    /// Attestations that wait for the devices, which then share one quote: as many as connections, and at most
    /// [`MAX_BATCH`](confide_evidence::transcript::MAX_BATCH). One more is refused.
    pub attestations: NonZeroUsize,
    /// Bytes of a request body.
    pub body_bytes: NonZeroUsize,
    /// Seconds for a TLS handshake, for the head of a request, for its body, and for a peer to take what it is sent; at most
    /// 300.
    #[serde(deserialize_with = "short")]
    pub read_seconds: NonZeroU32,
    /// Seconds for loading the model.
    pub load_seconds: NonZeroU32,
    /// Seconds that the engine may be silent while it has requests. Then it counts as hung, and the guest ends.
    pub engine_seconds: NonZeroU32,
    /// Seconds that running requests get after SIGTERM; at most 300.
    #[serde(deserialize_with = "short")]
    pub drain_seconds: NonZeroU32,
}

impl Default for Limits {
    fn default() -> Self {
        let size = |value| NonZeroUsize::new(value).expect("a default above zero");
        let seconds = |value| NonZeroU32::new(value).expect("a default above zero");
        Self {
            connections: size(256),
            requests: size(confide_engine::MAX_ACTIVE),
            waiting_requests: 64,
            wait_seconds: seconds(20),
            attestations: size(256),
            body_bytes: size(4 << 20),
            read_seconds: seconds(30),
            load_seconds: seconds(600),
            engine_seconds: seconds(300),
            drain_seconds: seconds(30),
        }
    }
}

impl Limits {
    /// For a TLS handshake, for the head of a request, for its body, and for a peer to take what it is sent.
    pub(crate) fn read_time(&self) -> Duration {
        time(self.read_seconds)
    }

    /// For the engine to say something.
    pub(crate) fn engine_time(&self) -> Duration {
        time(self.engine_seconds)
    }

    /// For requests in progress after SIGTERM.
    pub(crate) fn drain_time(&self) -> Duration {
        time(self.drain_seconds)
    }

    /// Those of the API.
    pub(crate) fn api(&self) -> crate::api::Limits {
        crate::api::Limits {
            body: self.body_bytes.get(),
            body_time: self.read_time(),
            running: self.requests.get(),
            waiting: self.waiting_requests,
            wait: time(self.wait_seconds),
        }
    }
}

fn time(seconds: NonZeroU32) -> Duration {
    Duration::from_secs(u64::from(seconds.get()))
}

/// The keys drawn at boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Keys {
    /// Seconds after which clients stop relying on them. They live as long as the process.
    pub lifetime_seconds: NonZeroU32,
}

impl Default for Keys {
    fn default() -> Self {
        Self { lifetime_seconds: NonZeroU32::new(24 * 60 * 60).expect("a day has seconds") }
    }
}

/// What is stapled to evidence, so that clients need nobody else.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "EndorsementsTable")]
pub struct Endorsements {
    /// Where collateral comes from.
    pub source: EndorsementSource,
    /// Which set of TCB levels is asked for.
    pub update: Update,
    /// Folder in which collateral is kept between starts; none where it is missing.
    pub cache: Option<PathBuf>,
    /// Seconds between refreshes.
    pub refresh_seconds: NonZeroU32,
}

/// Where collateral comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndorsementSource {
    /// Intel's own service.
    Intel,
    /// A Provisioning Certificate Caching Service.
    Pccs {
        /// Its address, `https://host[:port]`.
        url: BaseUrl,
        /// The certificate that it shows, PEM; without one it must come from a web authority.
        certificate: Option<PathBuf>,
    },
    /// A file in the form `QuoteCollateralV3`, which somebody else replaces in time. No network is used.
    File(PathBuf),
}

/// The table as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EndorsementsTable {
    source: SourceName,
    pccs: Option<String>,
    pccs_certificate: Option<PathBuf>,
    file: Option<PathBuf>,
    update: Option<String>,
    cache: Option<PathBuf>,
    refresh_seconds: Option<NonZeroU32>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum SourceName {
    Intel,
    Pccs,
    File,
}

impl Endorsements {
    /// Between refreshes.
    pub(crate) fn refresh_time(&self) -> Duration {
        time(self.refresh_seconds)
    }
}

impl TryFrom<EndorsementsTable> for Endorsements {
    type Error = String;

    fn try_from(table: EndorsementsTable) -> Result<Self, String> {
        let EndorsementsTable { source, pccs, pccs_certificate, file, update, cache, refresh_seconds } =
            table;
        let beside = [
            ("pccs", pccs.is_some(), source == SourceName::Pccs),
            ("pccs_certificate", pccs_certificate.is_some(), source == SourceName::Pccs),
            ("file", file.is_some(), source == SourceName::File),
            ("update", update.is_some(), source != SourceName::File),
            ("cache", cache.is_some(), source != SourceName::File),
        ];
        if let Some((field, ..)) = beside.into_iter().find(|(_, given, fits)| *given && !fits) {
            return Err(format!("{field} does not go with this source"));
        }
        let source = match source {
            SourceName::Intel => EndorsementSource::Intel,
            SourceName::File => {
                EndorsementSource::File(file.ok_or("source = \"file\" needs the field file")?)
            }
            SourceName::Pccs => {
                let url = pccs.ok_or("source = \"pccs\" needs the field pccs, its address")?;
                let url = url.parse().map_err(|error: UrlError| format!("pccs: {error}"))?;
                EndorsementSource::Pccs { url, certificate: pccs_certificate }
            }
        };
        let default = if matches!(source, EndorsementSource::File(_)) { FILE_REFRESH } else { REFRESH };
        let update = update.map_or(Ok(Update::default()), |text| text.parse());
        Ok(Self {
            source,
            update: update.map_err(|error| format!("update: {error}"))?,
            cache,
            refresh_seconds: refresh_seconds.unwrap_or(default),
        })
    }
}

/// Seconds between refreshes from a service: a revocation or a TCB recovery can come on any day.
const REFRESH: NonZeroU32 = NonZeroU32::new(24 * 60 * 60).expect("a day has seconds");
/// Seconds after which a file is read again.
const FILE_REFRESH: NonZeroU32 = NonZeroU32::new(10 * 60).expect("minutes have seconds");

/// The machine's own GPUs and switches.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gpus {
    /// An appraisal policy. The guest holds its GPUs to the table `[devices]` of it before they take work.
    pub policy: PathBuf,
    /// A folder with NVIDIA's manifests, OCSP answers and revocation lists. They are stapled to evidence, too. Without one the
    /// guest has what its broker gives.
    pub endorsements: Option<PathBuf>,
    /// Seconds that the driver gets for a call. The first one, which initialises every GPU, gets six times as many.
    #[serde(default = "deadline")]
    pub deadline_seconds: NonZeroU32,
    /// Seconds after which the folder is read again, for what is stapled.
    #[serde(default = "file_refresh")]
    pub refresh_seconds: NonZeroU32,
}

/// How many times the seconds of another call the driver gets for its first one.
const START: u32 = 6;

fn deadline() -> NonZeroU32 {
    NonZeroU32::new(30).expect("a default above zero")
}

fn file_refresh() -> NonZeroU32 {
    FILE_REFRESH
}

impl Gpus {
    /// Of the driver's calls.
    pub(crate) fn deadlines(&self) -> Deadlines {
        let call = time(self.deadline_seconds);
        Deadlines { start: call.saturating_mul(START), call }
    }

    /// Between readings of the folder.
    pub(crate) fn refresh_time(&self) -> Duration {
        time(self.refresh_seconds)
    }
}

/// The guest's one network device, set up without asking anybody: what a network says of itself is the host's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// Its address with the length of the prefix, `10.0.2.15/24`.
    pub address: Ipv4Net,
    /// Where packets for other networks go; nowhere without one.
    pub gateway: Option<Ipv4Addr>,
}

/// An IPv4 address with the length of its network's prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Ipv4Net {
    /// The address.
    pub address: Ipv4Addr,
    /// Bits of the prefix, 1 to 32.
    pub prefix: u8,
}

impl TryFrom<String> for Ipv4Net {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let parts = text.split_once('/').and_then(|(address, prefix)| {
            let prefix = prefix.parse().ok().filter(|bits| (1..=32).contains(bits))?;
            Some(Self { address: address.parse().ok()?, prefix })
        });
        parts.ok_or_else(|| "expected ADDRESS/PREFIX of IPv4, such as 10.0.2.15/24".to_owned())
    }
}

/// What may leave the guest.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "EgressTable")]
pub struct Egress {
    /// The egress policy, as it was read from the table or from a file of the image.
    policy: EgressPolicy,
    /// Its text.
    text: String,
}

/// The table as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EgressTable {
    policy: Option<PathBuf>,
    inline: Option<String>,
}

/// Where a policy lies that belongs to the image and is measured with it.
const ETC: &str = "/etc/confide";
/// How a configuration is checked on a machine without the policy's file.
const OFF_THE_IMAGE: &str =
    "where this is not the image, give the file's text in the field inline instead: the digests are the same";

impl TryFrom<EgressTable> for Egress {
    type Error = String;

    fn try_from(table: EgressTable) -> Result<Self, String> {
        let (policy, text) = match (table.policy, table.inline) {
            (Some(path), None) if !is_plain(&path, Path::new(ETC)) => {
                return Err(format!("policy: expected a path below {ETC} without . or ..; {OFF_THE_IMAGE}"));
            }
            (Some(path), None) => egress::read(&path).map_err(|error| match error {
                GuestError::EgressPolicyUnreadable { .. } => {
                    format!("{}; {OFF_THE_IMAGE}", error.sentence())
                }
                error => error.sentence(),
            })?,
            (None, Some(text)) => {
                let policy = EgressPolicy::parse(&text).map_err(|error| format!("inline: {error}"))?;
                egress::check(&policy).map_err(|error| format!("inline: {error}"))?;
                (policy, text)
            }
            _ => return Err("expected exactly one of policy, inline".to_owned()),
        };
        Ok(Self { policy, text })
    }
}

/// Who releases the keys of volumes.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Broker {
    /// Where it listens, IP:PORT.
    #[serde(deserialize_with = "address")]
    pub address: SocketAddr,
    /// Its Ed25519 key, in the file the standard base64 of the DER SubjectPublicKeyInfo. It is measured, and nothing else of the
    /// broker is trusted.
    #[serde(deserialize_with = "identity")]
    pub identity: IdentityKey,
    /// Seconds for which faults of the transport are tried again; at most 300.
    #[serde(default = "patience", deserialize_with = "short")]
    pub patience_seconds: NonZeroU32,
}

fn identity<'de, D: Deserializer<'de>>(deserializer: D) -> Result<IdentityKey, D::Error> {
    let text = String::deserialize(deserializer)?;
    let expected = || {
        serde::de::Error::custom("expected an Ed25519 key (RFC 8410) as the base64 of its 44 bytes of DER")
    };
    let der = pem::base64(text.trim()).map_err(|_| expected())?;
    IdentityKey::from_der(&der).map_err(|_| expected())
}

fn patience() -> NonZeroU32 {
    NonZeroU32::new(60).expect("a default above zero")
}

impl Broker {
    /// For which faults of the transport are tried again.
    pub(crate) fn patience(&self) -> Duration {
        time(self.patience_seconds)
    }
}

/// An encrypted volume.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "VolumeTable")]
pub struct Volume {
    /// Its name, at the broker and in the claims.
    pub name: VolumeId,
    /// What it is for.
    pub role: Role,
    /// The block device, below `/dev`. What is on it is not trusted, and so its name need not be.
    pub device: PathBuf,
    /// Where it is mounted: a folder directly below `/volumes`.
    pub mount: PathBuf,
}

/// What a volume is for. It decides how the volume has to be protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Weights of the model: read-only, under a verity root.
    Weights,
    /// Programs: read-only, under a verity root.
    Code,
    /// What the guest keeps between boots: writable, each sector authenticated.
    State,
    /// What it keeps for this boot: a random key that nobody else has, each sector authenticated.
    Scratch,
}

impl Role {
    /// The name in the deciding configuration.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Weights => "weights",
            Self::Code => "code",
            Self::State => "state",
            Self::Scratch => "scratch",
        }
    }
}

/// The table as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VolumeTable {
    name: String,
    role: Role,
    device: PathBuf,
    mount: Option<PathBuf>,
}

/// Where volumes are mounted: nothing else lies there, so that none can cover what is measured.
const VOLUMES: &str = "/volumes";

impl TryFrom<VolumeTable> for Volume {
    type Error = String;

    fn try_from(table: VolumeTable) -> Result<Self, String> {
        let VolumeTable { name, role, device, mount } = table;
        let name = VolumeId::try_from(name).map_err(|error| error.to_string())?;
        if !is_plain(&device, Path::new("/dev")) {
            return Err("device: expected a path below /dev without . or ..".to_owned());
        }
        let mount = mount.unwrap_or_else(|| Path::new(VOLUMES).join(name.as_str()));
        if !is_plain(&mount, Path::new(VOLUMES)) || mount.components().count() != 3 {
            return Err(format!("mount: expected a folder directly below {VOLUMES}"));
        }
        Ok(Self { name, role, device, mount })
    }
}

/// Whether a path leads below `root`, and says so in the one way there is.
fn is_plain(path: &Path, root: &Path) -> bool {
    let rest = path.strip_prefix(root).ok();
    let plain = |rest: &Path| {
        let mut parts = rest.components().peekable();
        parts.peek().is_some() && parts.all(|part| matches!(part, Component::Normal(_)))
    };
    rest.is_some_and(plain) && path.components().collect::<PathBuf>().as_os_str() == path.as_os_str()
}

/// What is logged, to standard error.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// `text` or `json`.
    format: String,
    /// `info`, `debug`, `confide_guest=debug,info`.
    filter: String,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: "text".to_owned(), filter: "info".to_owned() }
    }
}

impl Log {
    /// The arguments by which a child of this program logs as it does.
    pub(crate) fn arguments(&self) -> [OsString; 4] {
        ["--log-format", &self.format, "--log-filter", &self.filter].map(Into::into)
    }

    /// The form and the filter of events.
    ///
    /// # Errors
    /// When the form or the filter is none.
    pub fn parse(&self) -> Result<(Format, Filter), GuestError> {
        Ok((self.format.parse()?, self.filter.parse()?))
    }
}

/// Where root of this machine learns what leaves the guest.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Status {
    /// A Unix socket, `/run/confide/status.sock` where the field is missing. Its folder is made where that is missing.
    #[serde(default = "status_socket")]
    pub socket: PathBuf,
}

fn status_socket() -> PathBuf {
    crate::status::SOCKET.into()
}

/// Which software machine.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "SimulatedTable")]
pub struct Simulated {
    /// Tells machines apart: the keys of platform and GPUs follow from it.
    pub seed: u32,
    /// Its GPUs.
    pub gpus: SimulatedGpus,
    /// Milliseconds that a quote takes beside its signature. A host's quoting service takes about 40.
    pub quote_milliseconds: u32,
    /// What is answered in place of the model's answers.
    pub answers: Option<FixedAnswers>,
}

/// The same answer to every request, for measuring all that is around a model. The claims then name the engine `fixed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FixedAnswers {
    /// Its tokens.
    pub tokens: NonZeroU32,
    /// Milliseconds before each of them.
    #[serde(default)]
    pub milliseconds: u32,
}

/// The GPUs of a software machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SimulatedGpus {
    /// So many that need no driver, at most [`MAX_DEVICES`].
    Software(u8),
    /// Those of a driver's emulated libraries, for tests: whoever names the libraries decides what the GPUs say.
    Emulated {
        /// In place of NVML.
        nvml: PathBuf,
        /// In place of NSCQ.
        nscq: PathBuf,
    },
}

/// The table as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
struct SimulatedTable {
    seed: u32,
    #[serde(deserialize_with = "gpus")]
    gpus: Option<u8>,
    nvml: Option<PathBuf>,
    nscq: Option<PathBuf>,
    quote_milliseconds: u32,
    answers: Option<FixedAnswers>,
}

impl TryFrom<SimulatedTable> for Simulated {
    type Error = String;

    fn try_from(table: SimulatedTable) -> Result<Self, String> {
        let SimulatedTable { seed, gpus, nvml, nscq, quote_milliseconds, answers } = table;
        let gpus = match (gpus, nvml, nscq) {
            (count, None, None) => SimulatedGpus::Software(count.unwrap_or(1)),
            (None, Some(nvml), Some(nscq)) => SimulatedGpus::Emulated { nvml, nscq },
            (None, ..) => return Err("nvml and nscq are named together".to_owned()),
            (Some(_), ..) => return Err("gpus does not go with nvml and nscq".to_owned()),
        };
        Ok(Self { seed, gpus, quote_milliseconds, answers })
    }
}

impl Simulated {
    /// GPUs that need no driver.
    #[cfg(feature = "danger-simulator")]
    pub(crate) fn software_gpus(&self) -> u8 {
        match self.gpus {
            SimulatedGpus::Software(count) => count,
            SimulatedGpus::Emulated { .. } => 0,
        }
    }

    /// The driver's emulated libraries.
    #[cfg(feature = "danger-simulator")]
    pub(crate) fn libraries(&self) -> Option<confide_attester::gpu::Libraries> {
        match self.gpus.clone() {
            SimulatedGpus::Software(_) => None,
            SimulatedGpus::Emulated { nvml, nscq } => Some(confide_attester::gpu::Libraries { nvml, nscq }),
        }
    }
}

fn gpus<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u8>, D::Error> {
    let count = u8::deserialize(deserializer)?;
    if usize::from(count) <= MAX_DEVICES {
        Ok(Some(count))
    } else {
        let error = format!("{count} GPUs, at most {MAX_DEVICES} fit into an evidence document");
        Err(serde::de::Error::custom(error))
    }
}

impl Default for Simulated {
    fn default() -> Self {
        Self { seed: 0, gpus: SimulatedGpus::Software(1), quote_milliseconds: 0, answers: None }
    }
}

impl Config {
    /// What is answered in place of the model's answers.
    pub(crate) fn fixed_answers(&self) -> Option<FixedAnswers> {
        self.simulated.as_ref()?.answers
    }

    /// Reads a configuration file.
    ///
    /// # Errors
    /// When the file cannot be read or is no configuration, naming field and line; when it asks for the simulator
    /// and this program has none.
    pub fn load(path: &Path) -> Result<Self, GuestError> {
        Self::checked(confide_service::config::load(path)?)
    }

    /// Reads a configuration from the bytes that `path` gave.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub(crate) fn parse(bytes: &[u8], path: &Path) -> Result<Self, GuestError> {
        Self::checked(confide_service::config::parse(bytes, path)?)
    }

    fn checked(config: Self) -> Result<Self, GuestError> {
        config.log.parse()?;
        config.check_volumes()?;
        if config.gpus.as_ref().is_some_and(|gpus| gpus.endorsements.is_none())
            && config.released_volumes().next().is_none()
        {
            return Err(GuestError::GpuEndorsementsMissing);
        }
        match config.platform {
            Platform::Tdx if config.simulated.is_some() => Err(GuestError::SimulatedTable),
            Platform::Simulated if cfg!(not(feature = "danger-simulator")) => {
                Err(GuestError::SimulatorNotBuilt)
            }
            Platform::Simulated if config.quoting.is_some() => Err(GuestError::QuotingTable),
            Platform::Simulated if config.gpus.is_some() != config.emulates_gpus() => {
                Err(GuestError::SimulatedGpus)
            }
            Platform::Tdx | Platform::Simulated => Ok(config),
        }
    }

    /// Volumes whose keys a broker releases, in their order.
    pub(crate) fn released_volumes(&self) -> impl Iterator<Item = &Volume> {
        self.volumes.iter().filter(|volume| volume.role != Role::Scratch)
    }

    /// What may leave the guest under `boot`.
    pub(crate) fn egress_policy(&self) -> &EgressPolicy {
        static NOTHING: LazyLock<EgressPolicy> = LazyLock::new(EgressPolicy::deny_all);
        self.egress.as_ref().map_or(&NOTHING, |egress| &egress.policy)
    }

    /// Its text; nothing where the configuration names none.
    pub(crate) fn egress_text(&self) -> &str {
        self.egress.as_ref().map_or("", |egress| &egress.text)
    }

    /// Whether only `boot` can do what this says.
    pub(crate) fn needs_boot(&self) -> bool {
        self.network.is_some() || self.egress.is_some() || self.broker.is_some() || !self.volumes.is_empty()
    }

    /// What `boot` refuses and `serve` does not: the lock has no exception for vendors' services.
    ///
    /// # Errors
    /// [`GuestError::EndorsementsLocked`] where endorsements are to come from a service.
    pub(crate) fn check_boot(&self) -> Result<(), GuestError> {
        match self.endorsements.as_ref().map(|endorsements| &endorsements.source) {
            None | Some(EndorsementSource::File(_)) => Ok(()),
            Some(EndorsementSource::Intel | EndorsementSource::Pccs { .. }) => {
                Err(GuestError::EndorsementsLocked)
            }
        }
    }

    fn check_volumes(&self) -> Result<(), GuestError> {
        let fault = |reason: String| Err(GuestError::VolumesTable { reason });
        if self.volumes.len() > MAX_VOLUMES {
            return fault(format!(
                "{} volumes, at most {MAX_VOLUMES} stand in the claims",
                self.volumes.len()
            ));
        }
        for (position, volume) in self.volumes.iter().enumerate() {
            for earlier in self.volumes.iter().take(position) {
                let name = volume.name.as_str();
                if earlier.name == volume.name {
                    return fault(format!("two volumes have the name {name}"));
                }
                if earlier.mount == volume.mount || earlier.device == volume.device {
                    return fault(format!("the volume {name} has the mount or the device of another one"));
                }
            }
        }
        match (&self.broker, self.released_volumes().next()) {
            (None, Some(volume)) => {
                fault(format!("the volume {} needs the table [broker]", volume.name.as_str()))
            }
            (Some(_), None) => {
                fault("the table [broker] is there, and no volume whose key it releases".to_owned())
            }
            _ => Ok(()),
        }
    }

    fn emulates_gpus(&self) -> bool {
        let gpus = self.simulated.as_ref().map(|simulated| &simulated.gpus);
        matches!(gpus, Some(SimulatedGpus::Emulated { .. }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use confide_service::config::parse;

    const SMALLEST: &str =
        "listen = \"127.0.0.1:0\"\nplatform = \"tdx\"\n[model]\nname = \"m\"\ndirectory = \"/m\"\n";

    fn refusal(text: &str) -> String {
        parse::<Config>(text.as_bytes(), Path::new("guest.toml")).unwrap_err().to_string()
    }

    #[test]
    fn the_smallest_configuration_has_defaults() {
        let config: Config = parse(SMALLEST.as_bytes(), Path::new("guest.toml")).unwrap();
        assert_eq!((config.limits, config.keys), (Limits::default(), Keys::default()));
        assert_eq!(config.model.name.as_str(), "m");
        config.log.parse().unwrap();
    }

    #[test]
    fn the_committed_configuration_shows_the_defaults() {
        let text = include_bytes!("../../../deploy/guest.toml");
        let config: Config = parse(text, Path::new("guest.toml")).unwrap();
        assert_eq!((config.limits, config.keys), (Limits::default(), Keys::default()));
        let endorsements = config.endorsements.unwrap();
        assert_eq!(endorsements.refresh_seconds, REFRESH);
        assert_eq!(endorsements.source, EndorsementSource::Intel);
    }

    #[test]
    fn unknown_fields_and_wrong_values_are_named_with_their_line() {
        let cases = [
            (format!("{SMALLEST}path = \"x\"\n"), "guest.toml:6:1: model.path: unknown field `path`"),
            (format!("{SMALLEST}[limits]\nbody = 1\n"), "guest.toml:7:1: limits.body: unknown field `body`"),
            (SMALLEST.replacen('\n', "\nport = 1\n", 1), "guest.toml:2:1: port: unknown field `port`"),
            (format!("{SMALLEST}[keys]\nage = 1\n"), "guest.toml:7:1: keys.age: unknown field `age`"),
            (
                format!("{SMALLEST}[endorsements]\nsource = \"intel\"\nproxy = \"x\"\n"),
                "guest.toml:8:1: endorsements.proxy: unknown field `proxy`",
            ),
            (
                format!("{SMALLEST}[log]\nlevel = \"info\"\n"),
                "guest.toml:7:1: log.level: unknown field `level`",
            ),
            (
                format!("{SMALLEST}[simulated]\nseed = 1\ncpus = 2\n"),
                "guest.toml:8:1: simulated.cpus: unknown field `cpus`",
            ),
            (
                format!("{SMALLEST}[simulated]\ngpus = 33\n"),
                "guest.toml:7:8: simulated.gpus: 33 GPUs, at most 32 fit into an evidence document",
            ),
            (
                format!("{SMALLEST}[gpus]\npolicy = \"p\"\nendorsements = \"e\"\nocsp = \"o\"\n"),
                "guest.toml:9:1: gpus.ocsp: unknown field `ocsp`",
            ),
            (
                format!("{SMALLEST}[gpus]\nendorsements = \"e\"\n"),
                "guest.toml:6:1: gpus: missing field `policy`",
            ),
            (
                format!("{SMALLEST}[gpus]\npolicy = \"p\"\nendorsements = \"e\"\ndeadline_seconds = 0\n"),
                "guest.toml:9:20: gpus.deadline_seconds: invalid value",
            ),
            (
                format!("{SMALLEST}[simulated]\nnvml = \"n\"\n"),
                "guest.toml:6:1: simulated: nvml and nscq are named together",
            ),
            (
                format!("{SMALLEST}[simulated]\nnvml = \"n\"\nnscq = \"n\"\ngpus = 1\n"),
                "guest.toml:6:1: simulated: gpus does not go with nvml and nscq",
            ),
            (
                format!("{SMALLEST}[limits]\nrequests = 0\n"),
                "guest.toml:7:12: limits.requests: invalid value",
            ),
            (
                format!("{SMALLEST}[limits]\ndrain_seconds = 301\n"),
                "guest.toml:7:17: limits.drain_seconds: 301 seconds, expected at most 300",
            ),
            (
                format!("{SMALLEST}[limits]\nread_seconds = 4294967295\n"),
                "guest.toml:7:16: limits.read_seconds: 4294967295 seconds, expected at most 300",
            ),
            (
                format!(
                    "{SMALLEST}[broker]\naddress = \"127.0.0.1:1\"\nidentity = \"{KEY}\"\npatience_seconds = 301\n"
                ),
                "guest.toml:9:20: broker.patience_seconds: 301 seconds, expected at most 300",
            ),
            (
                SMALLEST.replace("127.0.0.1:0", "localhost"),
                "guest.toml:1:10: listen: expected IP:PORT, such as 0.0.0.0:8443 or [::]:8443",
            ),
            (
                SMALLEST.replace("127.0.0.1:0", "127.0.0.1"),
                "guest.toml:1:10: listen: expected IP:PORT, such as 0.0.0.0:8443 or [::]:8443",
            ),
            (SMALLEST.replace("\"127.0.0.1:0\"", "8443"), "guest.toml:1:10: listen: invalid type: integer"),
            (SMALLEST.replace("\"tdx\"", "\"sgx\""), "guest.toml:2:12: platform: unknown variant `sgx`"),
            (
                SMALLEST.replace("\"m\"", "\"a b\""),
                "guest.toml:4:8: model.name: a model name has 1 to 128 bytes",
            ),
            (SMALLEST.replace("name = \"m\"\n", ""), "guest.toml:3:1: model: missing field `name`"),
        ];
        for (text, expected) in cases {
            let found = refusal(&text);
            assert!(found.starts_with(expected), "{found}\nexpected {expected}");
        }
    }

    fn endorsements(table: &str) -> Result<Option<Endorsements>, String> {
        let text = format!("{SMALLEST}[endorsements]\n{table}");
        let config = parse::<Config>(text.as_bytes(), Path::new("guest.toml"));
        config.map(|config| config.endorsements).map_err(|error| error.to_string())
    }

    #[test]
    fn endorsements_come_from_one_source() {
        let config: Config = parse(SMALLEST.as_bytes(), Path::new("guest.toml")).unwrap();
        assert_eq!(config.endorsements, None);
        let found = endorsements("source = \"intel\"\n").unwrap().unwrap();
        assert_eq!((found.source, found.update), (EndorsementSource::Intel, Update::Standard));
        assert_eq!(found.refresh_seconds.get(), 86_400);
        let found = endorsements(
            "source = \"pccs\"\npccs = \"https://a.example:8081/\"\npccs_certificate = \"/a.pem\"\nupdate = \"early\"\ncache = \"/c\"\n",
        );
        let found = found.unwrap().unwrap();
        let url = "https://a.example:8081".parse().unwrap();
        assert_eq!(found.source, EndorsementSource::Pccs { url, certificate: Some("/a.pem".into()) });
        assert_eq!((found.update, found.cache), (Update::Early, Some("/c".into())));
        let found =
            endorsements("source = \"file\"\nfile = \"/c.json\"\nrefresh_seconds = 5\n").unwrap().unwrap();
        assert_eq!(
            (found.source, found.refresh_seconds.get()),
            (EndorsementSource::File("/c.json".into()), 5)
        );
    }

    #[test]
    fn endorsements_of_two_minds_are_refused() {
        for (table, expected) in [
            ("", "missing field `source`"),
            ("source = \"amd\"\n", "unknown variant `amd`"),
            ("source = \"file\"\n", "source = \"file\" needs the field file"),
            ("source = \"pccs\"\n", "source = \"pccs\" needs the field pccs"),
            ("source = \"intel\"\nfile = \"/c\"\n", "file does not go with this source"),
            ("source = \"file\"\nfile = \"/c\"\nupdate = \"early\"\n", "update does not go with this source"),
            (
                "source = \"intel\"\npccs_certificate = \"/c\"\n",
                "pccs_certificate does not go with this source",
            ),
            (
                "source = \"pccs\"\npccs = \"http://a.example\"\n",
                "pccs: the address does not begin with https://",
            ),
            ("source = \"intel\"\nupdate = \"late\"\n", "update: expected standard, early, both or"),
            ("source = \"intel\"\nrefresh_seconds = 0\n", "invalid value"),
            ("source = \"intel\"\nproxy = \"x\"\n", "unknown field `proxy`"),
        ] {
            let found = endorsements(table).unwrap_err();
            assert!(found.contains(expected), "{found}\nexpected {expected}");
            assert!(found.starts_with("guest.toml:"), "{found}");
        }
    }

    fn load(text: &str) -> Result<Config, GuestError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("guest.toml");
        std::fs::write(&path, text).unwrap();
        Config::load(&path)
    }

    #[test]
    fn the_simulated_platform_is_taken_exactly_where_it_is_built_in() {
        let found = load(&SMALLEST.replace("\"tdx\"", "\"simulated\"")).map(|config| config.platform);
        if cfg!(feature = "danger-simulator") {
            assert_eq!(found.unwrap(), Platform::Simulated);
        } else {
            assert_eq!(found.unwrap_err().code(), "simulator_not_built");
        }
    }

    #[test]
    fn the_simulated_table_is_for_the_simulated_platform() {
        let error = load(&format!("{SMALLEST}[simulated]\nseed = 1\n")).unwrap_err();
        assert!(matches!(error, GuestError::SimulatedTable));
    }

    #[test]
    fn a_quoting_service_over_vsock_is_for_hardware() {
        assert_eq!(load(SMALLEST).unwrap().quoting, None);
        let table = "[quoting]\nvsock_port = 4050\n";
        let found = load(&format!("{SMALLEST}{table}")).unwrap().quoting;
        assert_eq!(found, Some(Quoting { vsock_port: 4050 }));
        let simulated = SMALLEST.replace("\"tdx\"", "\"simulated\"");
        let expected =
            if cfg!(feature = "danger-simulator") { "quoting_table" } else { "simulator_not_built" };
        assert_eq!(load(&format!("{simulated}{table}")).unwrap_err().code(), expected);
        assert_eq!(
            load(&format!("{SMALLEST}[quoting]\nvsock_port = -1\n")).unwrap_err().code(),
            "config_invalid"
        );
    }

    #[test]
    fn gpus_have_the_deadlines_of_the_attester_by_default() {
        let text = format!("{SMALLEST}[gpus]\npolicy = \"p\"\nendorsements = \"e\"\n");
        let gpus = load(&text).unwrap().gpus.unwrap();
        assert_eq!(gpus.deadlines(), Deadlines::default());
        assert_eq!(gpus.refresh_time(), Duration::from_secs(600));
        assert_eq!(load(SMALLEST).unwrap().gpus, None);
    }

    #[test]
    fn gpus_without_a_folder_of_endorsements_need_a_broker_that_gives_them() {
        let gpus = "[gpus]\npolicy = \"p\"\n";
        assert_eq!(load(&format!("{SMALLEST}{gpus}")).unwrap_err().code(), "gpu_endorsements_missing");
        let volumes = volume("w", "weights", "device = \"/dev/vda\"\n");
        let config = load(&format!("{SMALLEST}{gpus}{}{volumes}", broker())).unwrap();
        assert_eq!(config.gpus.unwrap().endorsements, None);
        let scratch = volume("s", "scratch", "device = \"/dev/vda\"\n");
        let refused = load(&format!("{SMALLEST}{gpus}{scratch}")).unwrap_err();
        assert_eq!(refused.code(), "gpu_endorsements_missing");
    }

    #[test]
    fn the_committed_configuration_shows_a_table_of_gpus() {
        let text = include_str!("../../../deploy/guest.toml");
        let (_, table) = text.split_once("# [gpus]\n").unwrap();
        let lines = table.lines().map_while(|line| line.strip_prefix("# "));
        let table = lines.fold("[gpus]\n".to_owned(), |table, line| table + line + "\n");
        let config: Config = parse(format!("{text}\n{table}").as_bytes(), Path::new("guest.toml")).unwrap();
        let gpus = config.gpus.unwrap();
        assert_eq!((gpus.deadlines(), gpus.refresh_seconds), (Deadlines::default(), FILE_REFRESH));
    }

    #[test]
    fn a_simulated_machine_has_gpus_to_appraise_exactly_where_they_are_emulated() {
        if cfg!(not(feature = "danger-simulator")) {
            return;
        }
        let simulated = SMALLEST.replace("\"tdx\"", "\"simulated\"");
        let gpus = "[gpus]\npolicy = \"p\"\nendorsements = \"e\"\n";
        let emulated = "[simulated]\nnvml = \"n\"\nnscq = \"n\"\n";
        assert!(load(&format!("{simulated}{gpus}{emulated}")).is_ok());
        for tables in [gpus.to_owned(), emulated.to_owned(), format!("{gpus}[simulated]\ngpus = 1\n")] {
            let refused = load(&format!("{simulated}{tables}")).unwrap_err();
            assert_eq!(refused.code(), "simulated_gpus", "{tables}");
        }
    }

    const KEY: &str = "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=";

    fn broker() -> String {
        format!("[broker]\naddress = \"10.0.2.2:8444\"\nidentity = \"{KEY}\"\n")
    }

    fn volume(name: &str, role: &str, rest: &str) -> String {
        format!("[[volumes]]\nname = \"{name}\"\nrole = \"{role}\"\n{rest}")
    }

    #[test]
    fn the_committed_configuration_shows_the_tables_of_a_boot() {
        let text = include_str!("../../../deploy/guest.toml");
        let (before, tables) = text.split_once("# [network]\n").unwrap();
        let lines = tables.lines().map_while(|line| line.strip_prefix('#')).map(str::trim_start);
        let tables = lines.filter(|line| line.starts_with('[') || line.contains(" = "));
        let tables = tables.fold("[network]\n".to_owned(), |tables, line| tables + line + "\n");
        let config = load(&format!("{before}\n{tables}")).unwrap();
        assert_eq!(config.network.unwrap().gateway, Some(Ipv4Addr::new(10, 0, 2, 2)));
        assert_eq!(config.broker.as_ref().unwrap().patience(), Duration::from_secs(60));
        assert_eq!(config.volumes.len(), 1);
        assert_eq!(
            (config.volumes[0].role, config.volumes[0].mount.as_path()),
            (Role::Weights, Path::new("/volumes/model"))
        );
        assert!(config.needs_boot() && !load(text).unwrap().needs_boot());
    }

    const EGRESS: &str = "format = \"confide-egress-policy/1\"\nname = \"own\"\nlog = \"drops\"\n";

    #[test]
    fn an_egress_policy_is_the_images_or_stands_in_the_configuration() {
        let nothing = load(SMALLEST).unwrap();
        assert_eq!(nothing.egress_policy(), &EgressPolicy::deny_all());
        let inline = |text: &str| {
            format!("{SMALLEST}[egress]\ninline = \"\"\"\n{}\"\"\"\n", text.replace('"', "\\\""))
        };
        let config = load(&inline(EGRESS)).unwrap();
        assert_eq!(config.egress_policy().name(), "own");
        assert!(config.needs_boot());
        let udp = "[[bootstrap]]\ncidr = \"192.0.2.0/24\"\nports = [53]\nprotocol = \"udp\"\n";
        for (text, expected) in [
            (format!("{SMALLEST}[egress]\n"), "expected exactly one of policy, inline"),
            (format!("{SMALLEST}[egress]\npolicy = \"/tmp/e.toml\"\n"), "expected a path below /etc/confide"),
            (
                format!("{SMALLEST}[egress]\npolicy = \"/etc/confide/../shadow\"\n"),
                "expected a path below /etc/confide",
            ),
            (
                format!("{SMALLEST}[egress]\npolicy = \"/etc/confide/nonexistent.toml\"\n"),
                "/etc/confide/nonexistent.toml: the egress policy cannot be read",
            ),
            (format!("{SMALLEST}[egress]\nmode = \"open\"\n"), "unknown field `mode`"),
            (inline(&EGRESS.replace("drops", "some")), "egress: inline: TOML parse error at line 3"),
            (inline(&format!("{EGRESS}{udp}")), "carries TCP alone"),
        ] {
            let found = refusal(&text);
            assert!(found.contains(expected), "{found}\nexpected {expected}");
        }
    }

    #[test]
    fn the_committed_configuration_shows_where_an_egress_policy_is() {
        let text = include_str!("../../../deploy/guest.toml");
        let (_, table) = text.split_once("# [egress]\n").unwrap();
        let lines = table.lines().map_while(|line| line.strip_prefix("# "));
        let table = lines.fold("[egress]\n".to_owned(), |table, line| table + line + "\n");
        let found = refusal(&format!("{text}\n{table}"));
        assert!(found.contains("/etc/confide/egress.toml: the egress policy"), "{found}");
    }

    #[test]
    fn volumes_have_names_roles_and_places_of_their_own() {
        let device = |letter: char| format!("device = \"/dev/vd{letter}\"\n");
        let model = volume("model", "weights", &device('a'));
        let config = load(&format!("{SMALLEST}{}{model}", broker())).unwrap();
        assert_eq!(config.volumes[0].mount, Path::new("/volumes/model"));
        assert_eq!(config.released_volumes().count(), 1);
        let scratch = volume("heap", "scratch", &device('b'));
        assert_eq!(load(&format!("{SMALLEST}{scratch}")).unwrap().released_volumes().count(), 0);
        let other = volume("state", "state", &format!("{}mount = \"/volumes/model\"\n", device('b')));
        for (tables, expected) in [
            (model.clone(), "the volume model needs the table [broker]"),
            (broker(), "no volume whose key it releases"),
            (format!("{}{scratch}", broker()), "no volume whose key it releases"),
            (format!("{}{model}{model}", broker()), "two volumes have the name model"),
            (format!("{}{model}{other}", broker()), "the mount or the device of another one"),
            (format!("{}{model}{}", broker(), volume("state", "state", &device('a'))), "of another one"),
        ] {
            let refused = load(&format!("{SMALLEST}{tables}")).unwrap_err();
            assert_eq!(refused.code(), "volumes_invalid");
            assert!(refused.to_string().contains(expected), "{refused}");
        }
        let many: String = (0..=MAX_VOLUMES)
            .map(|number| {
                volume(&format!("v{number}"), "scratch", &format!("device = \"/dev/vd{number}\"\n"))
            })
            .collect();
        assert_eq!(load(&format!("{SMALLEST}{many}")).unwrap_err().code(), "volumes_invalid");
    }

    #[test]
    fn a_hosts_configuration_reaches_no_other_place_than_those_of_volumes() {
        for (rest, expected) in [
            ("device = \"/etc/shadow\"\n", "device: expected a path below /dev"),
            ("device = \"/dev/../etc/shadow\"\n", "device: expected a path below /dev"),
            ("device = \"/dev/./vda\"\n", "device: expected a path below /dev"),
            ("device = \"/dev\"\n", "device: expected a path below /dev"),
            ("device = \"/dev/vda\"\nmount = \"/etc\"\n", "mount: expected a folder directly below /volumes"),
            ("device = \"/dev/vda\"\nmount = \"/volumes\"\n", "mount: expected"),
            ("device = \"/dev/vda\"\nmount = \"/volumes/..\"\n", "mount: expected"),
            ("device = \"/dev/vda\"\nmount = \"/volumes/a/b\"\n", "mount: expected"),
            ("device = \"/dev/vda\"\nmount = \"volumes/a\"\n", "mount: expected"),
            ("device = \"/dev/vda\"\nkey = \"k\"\n", "unknown field `key`"),
        ] {
            let found = refusal(&format!("{SMALLEST}{}", volume("model", "weights", rest)));
            assert!(found.contains(expected), "{found}\nexpected {expected}");
        }
        for name in ["", "../etc", "A", ".model"] {
            let found = refusal(&format!("{SMALLEST}{}", volume(name, "weights", "device = \"/dev/vda\"\n")));
            assert!(found.contains("a volume's name has 1 to 64 bytes"), "{found}");
        }
        let found = refusal(&format!("{SMALLEST}{}", volume("m", "boot", "device = \"/dev/vda\"\n")));
        assert!(found.contains("unknown variant `boot`"), "{found}");
    }

    #[test]
    fn a_network_has_an_address_with_a_prefix() {
        for address in ["10.0.2.15", "10.0.2.15/33", "10.0.2.15/0", "10.0.2/24", "::1/64", "10.0.2.15/24/1"] {
            let found = refusal(&format!("{SMALLEST}[network]\naddress = \"{address}\"\n"));
            assert!(found.contains("network.address: expected ADDRESS/PREFIX of IPv4"), "{found}");
        }
    }

    #[test]
    fn a_broker_has_an_identity_of_its_one_form() {
        for identity in ["", "AAAA", "no base64", &KEY[..40]] {
            let table = broker().replace(KEY, identity);
            let found = refusal(&format!("{SMALLEST}{table}"));
            assert!(found.contains("broker.identity: expected an Ed25519 key (RFC 8410)"), "{found}");
        }
        let found = refusal(&format!("{SMALLEST}{}", broker().replace("10.0.2.2:8444", "broker.example:1")));
        assert!(found.contains("broker.address: expected IP:PORT"), "{found}");
    }

    #[test]
    fn a_manifest_has_64_digits() {
        let digest = "0a".repeat(32);
        let text = SMALLEST.replace("name = \"m\"", &format!("name = \"m\"\nmanifest = \"{digest}\""));
        assert_eq!(load(&text).unwrap().model.manifest, Some(Bytes([0x0a; 32])));
        let found = refusal(&text.replace(&digest, &digest[2..]));
        assert!(found.contains("model.manifest: expected a SHA-256 as 64 hexadecimal digits"), "{found}");
    }

    #[test]
    fn a_log_filter_that_is_none_is_refused() {
        let error = load(&format!("{SMALLEST}[log]\nfilter = \"a=b=c\"\n")).unwrap_err();
        assert_eq!(error.code(), "log_filter_invalid");
    }
}
