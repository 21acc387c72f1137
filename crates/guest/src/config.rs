//! The configuration file of `serve`.

use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::time::Duration;

use confide_attester::gpu::Deadlines;
use confide_endorser::{BaseUrl, Update, UrlError};
use confide_evidence::document::MAX_DEVICES;
use confide_service::logging::{Filter, Format};
use serde::{Deserialize, Deserializer};

use crate::error::GuestError;

/// The longest model name, in bytes. Published names have under 100.
const MAX_NAME: usize = 128;

/// What `serve` is told. Unknown fields are errors.
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
    /// What is logged.
    #[serde(default)]
    pub log: Log,
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

/// What is served.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// The name that requests use: 1 to 128 bytes, no white space or control characters.
    pub name: ModelName,
    /// A folder in Hugging Face layout. All of its files are measured.
    pub directory: PathBuf,
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
    /// Seconds for a TLS handshake, for the head of a request, for its body, and for a peer to take what it is sent.
    pub read_seconds: NonZeroU32,
    /// Seconds for loading the model.
    pub load_seconds: NonZeroU32,
    /// Seconds that the engine may be silent while it has requests. Then it counts as hung, and the guest ends.
    pub engine_seconds: NonZeroU32,
    /// Seconds that running requests get after SIGTERM.
    pub drain_seconds: NonZeroU32,
}

impl Default for Limits {
    fn default() -> Self {
        let size = |value| NonZeroUsize::new(value).expect("a default above zero");
        let seconds = |value| NonZeroU32::new(value).expect("a default above zero");
        Self {
            connections: size(256),
            requests: size(confide_engine::process::MAX_ACTIVE),
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
    /// A folder with NVIDIA's manifests, OCSP answers and revocation lists. They are stapled to evidence, too.
    pub endorsements: PathBuf,
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
        Deadlines { start: call * START, call }
    }

    /// Between readings of the folder.
    pub(crate) fn refresh_time(&self) -> Duration {
        time(self.refresh_seconds)
    }
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
    /// The form and the filter of events.
    ///
    /// # Errors
    /// When the form or the filter is none.
    pub fn parse(&self) -> Result<(Format, Filter), GuestError> {
        Ok((self.format.parse()?, self.filter.parse()?))
    }
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
        let config: Self = confide_service::config::load(path)?;
        config.log.parse()?;
        match config.platform {
            Platform::Tdx if config.simulated.is_some() => Err(GuestError::SimulatedTable),
            Platform::Simulated if cfg!(not(feature = "danger-simulator")) => {
                Err(GuestError::SimulatorNotBuilt)
            }
            Platform::Simulated if config.gpus.is_some() != config.emulates_gpus() => {
                Err(GuestError::SimulatedGpus)
            }
            Platform::Tdx | Platform::Simulated => Ok(config),
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
            (format!("{SMALLEST}[volumes]\n"), "guest.toml:6:2: volumes: unknown field `volumes`"),
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
                format!("{SMALLEST}[gpus]\npolicy = \"p\"\n"),
                "guest.toml:6:1: gpus: missing field `endorsements`",
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
    fn gpus_have_the_deadlines_of_the_attester_by_default() {
        let text = format!("{SMALLEST}[gpus]\npolicy = \"p\"\nendorsements = \"e\"\n");
        let gpus = load(&text).unwrap().gpus.unwrap();
        assert_eq!(gpus.deadlines(), Deadlines::default());
        assert_eq!(gpus.refresh_time(), Duration::from_secs(600));
        assert_eq!(load(SMALLEST).unwrap().gpus, None);
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

    #[test]
    fn a_log_filter_that_is_none_is_refused() {
        let error = load(&format!("{SMALLEST}[log]\nfilter = \"a=b=c\"\n")).unwrap_err();
        assert_eq!(error.code(), "log_filter_invalid");
    }
}
