//! The configuration file.

use std::fmt;
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::time::Duration;

use confide_endorser::{BaseUrl, Update, UrlError};
use confide_service::logging::{Filter, Format};
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::error::BrokerError;
use crate::identity::{IdentityError, secret_file};
use crate::kek::{Kek, KekError, Vault, VaultAddress, VaultSettings};

/// The longest address of a database, in bytes: host, role, password and options have under 1 KiB.
const MAX_URL: u64 = 4096;

/// The database where none is named: a file in the state directory of the service (systemd.exec(5), StateDirectory=).
const DEFAULT_DATABASE: &str = "sqlite:/var/lib/confide-broker/broker.db";

/// What the broker is told. Unknown fields are errors.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where to listen; port 0 for any free one.
    #[serde(deserialize_with = "address")]
    pub listen: SocketAddr,
    /// The identity key.
    pub identity: SecretFile,
    /// The database; [`DEFAULT_DATABASE`] where this table is missing.
    #[serde(default)]
    pub storage: Storage,
    /// The key-encryption key.
    pub kek: KekTable,
    /// Where endorsements come from that guests do not staple; nowhere where this table is missing.
    pub endorsements: Option<Endorsements>,
    /// NVIDIA's endorsements of guests' GPUs; nowhere where this table is missing.
    pub gpu_endorsements: Option<GpuEndorsements>,
    /// Bounds on what peers can use up.
    #[serde(default)]
    pub limits: Limits,
    /// What is logged.
    #[serde(default)]
    pub log: Log,
}

/// A file with a secret: a path, or the name of a systemd credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretFile {
    /// A path.
    Path(PathBuf),
    /// A file in `$CREDENTIALS_DIRECTORY` (systemd.exec(5), LoadCredential=).
    Credential(Credential),
}

/// The name of a systemd credential.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credential {
    /// A file name without a slash.
    pub credential: String,
}

/// By hand, as serde's own untagged enums do not say which field is wrong.
impl<'de> Deserialize<'de> for SecretFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SecretFileVisitor)
    }
}

struct SecretFileVisitor;

impl<'de> Visitor<'de> for SecretFileVisitor {
    type Value = SecretFile;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a path, or { credential = NAME }")
    }

    fn visit_str<E: serde::de::Error>(self, path: &str) -> Result<SecretFile, E> {
        Ok(SecretFile::Path(PathBuf::from(path)))
    }

    fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<SecretFile, A::Error> {
        Credential::deserialize(MapAccessDeserializer::new(table)).map(SecretFile::Credential)
    }
}

impl SecretFile {
    /// Where the file is.
    ///
    /// # Errors
    /// [`BrokerError::Unreadable`] where there is no `$CREDENTIALS_DIRECTORY`, or the name is none.
    pub fn path(&self) -> Result<PathBuf, BrokerError> {
        let name = match self {
            Self::Path(path) => return Ok(path.clone()),
            Self::Credential(Credential { credential }) => credential,
        };
        let missing = |why| BrokerError::Unreadable {
            path: PathBuf::from(name),
            source: std::io::Error::new(std::io::ErrorKind::NotFound, why),
        };
        if name.is_empty() || name.contains('/') || name.starts_with('.') {
            return Err(missing("the name of a credential is a file name without a slash"));
        }
        let folder = std::env::var_os("CREDENTIALS_DIRECTORY").ok_or_else(|| {
            missing("CREDENTIALS_DIRECTORY is not set: systemd sets it for a service with LoadCredential=")
        })?;
        Ok(Path::new(&folder).join(name))
    }
}

/// The database.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Storage {
    /// `sqlite:PATH` or `postgres://USER@HOST/NAME`.
    url: Option<String>,
    /// A file with that, where it has a password.
    url_file: Option<SecretFile>,
    /// Connections at a time.
    #[serde(default = "connections")]
    pub connections: NonZeroU32,
}

fn connections() -> NonZeroU32 {
    NonZeroU32::new(8).expect("a default above zero")
}

impl Default for Storage {
    fn default() -> Self {
        Self { url: Some(DEFAULT_DATABASE.to_owned()), url_file: None, connections: connections() }
    }
}

impl Storage {
    /// The address.
    ///
    /// # Errors
    /// [`BrokerError`] where the file cannot be read, and where there are both or none.
    pub fn url(&self) -> Result<String, BrokerError> {
        match (&self.url, &self.url_file) {
            (Some(url), None) => Ok(url.clone()),
            (None, Some(file)) => {
                let bytes = secret_file(&file.path()?, MAX_URL).map_err(|error| match error {
                    IdentityError::Unreadable { path, source } => BrokerError::Unreadable { path, source },
                    error => BrokerError::StorageFile(error),
                })?;
                let text = std::str::from_utf8(&bytes).map_err(|_| crate::store::StoreError::Address)?;
                Ok(text.trim().to_owned())
            }
            _ => Err(crate::store::StoreError::Address.into()),
        }
    }
}

/// The key-encryption key: exactly one of these.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "KekFields")]
pub enum KekTable {
    /// A file.
    File(PathBuf),
    /// A systemd credential.
    Credential(String),
    /// A key of HashiCorp Vault's transit engine.
    Vault(VaultTable),
}

/// The table `[kek]` as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KekFields {
    file: Option<PathBuf>,
    credential: Option<String>,
    vault: Option<VaultTable>,
}

impl TryFrom<KekFields> for KekTable {
    type Error = &'static str;

    fn try_from(fields: KekFields) -> Result<Self, Self::Error> {
        match fields {
            KekFields { file: Some(path), credential: None, vault: None } => Ok(Self::File(path)),
            KekFields { file: None, credential: Some(name), vault: None } => Ok(Self::Credential(name)),
            KekFields { file: None, credential: None, vault: Some(table) } => Ok(Self::Vault(table)),
            _ => Err("expected exactly one of the fields file, credential and vault"),
        }
    }
}

/// The table `[kek.vault]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VaultTable {
    address: VaultAddress,
    #[serde(default = "transit")]
    mount: UrlName,
    key: UrlName,
    namespace: Option<UrlName>,
    token: SecretFile,
    ca_certificate: Option<PathBuf>,
}

fn transit() -> UrlName {
    UrlName("transit".to_owned())
}

/// A name that stands in a path without escapes.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
struct UrlName(String);

impl TryFrom<String> for UrlName {
    type Error = &'static str;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'/');
        let parts = name.split('/').all(|part| !matches!(part, "" | "." | ".."));
        if name.len() <= 256 && name.bytes().all(plain) && parts {
            return Ok(Self(name));
        }
        Err("expected letters, digits, '-', '_', '.' and '/' between names")
    }
}

impl KekTable {
    /// The key.
    ///
    /// # Errors
    /// [`BrokerError`].
    pub fn kek(&self) -> Result<Kek, BrokerError> {
        match self {
            Self::File(path) => Ok(Kek::read(path)?),
            Self::Credential(credential) => {
                let file = SecretFile::Credential(Credential { credential: credential.clone() });
                Ok(Kek::read(&file.path()?)?)
            }
            Self::Vault(table) => {
                let settings = VaultSettings {
                    address: table.address.clone(),
                    mount: table.mount.0.clone(),
                    key: table.key.0.clone(),
                    namespace: table.namespace.clone().map(|name| name.0),
                    token: table.token.path()?,
                    ca_certificate: table.ca_certificate.clone(),
                };
                Ok(Kek::Vault(Vault::new(settings).map_err(KekError::from)?))
            }
        }
    }
}

/// An IP address with a port. The standard library's own error does not say what is expected.
fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(deserializer)?;
    let expected = "expected IP:PORT, such as 0.0.0.0:8444 or [::]:8444; names are not looked up";
    text.parse().map_err(|_| serde::de::Error::custom(expected))
}

/// The table `[gpu_endorsements]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GpuEndorsements {
    /// A folder with manifests, OCSP answers and revocation lists. It is read for each appraisal: somebody else replaces its
    /// files in time.
    pub folder: PathBuf,
}

/// Where endorsements come from.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "EndorsementsTable")]
pub struct Endorsements {
    /// The source of collateral.
    pub source: EndorsementSource,
    /// Which set of TCB levels is asked for.
    pub update: Update,
    /// Folder in which collateral is kept; none where it is missing.
    pub cache: Option<PathBuf>,
}

/// The source of collateral.
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
    /// A file in the form `QuoteCollateralV3`, which somebody else replaces in time.
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
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum SourceName {
    Intel,
    Pccs,
    File,
}

impl TryFrom<EndorsementsTable> for Endorsements {
    type Error = String;

    fn try_from(table: EndorsementsTable) -> Result<Self, String> {
        let EndorsementsTable { source, pccs, pccs_certificate, file, update, cache } = table;
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
        let update = update.map_or(Ok(Update::default()), |text| text.parse());
        Ok(Self { source, update: update.map_err(|error| format!("update: {error}"))?, cache })
    }
}

/// Bounds on what peers can use up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Connections at a time. A further one takes the place of an idle one of the network that has most.
    pub connections: NonZeroUsize,
    /// Connections of one address at a time; further ones are closed. Wider networks have twice and four times as many.
    pub connections_per_address: NonZeroUsize,
    /// Seconds after which a connection answers nothing more.
    pub connection_seconds: NonZeroU32,
    /// Requests of one address in a minute, but for reports of failures and questions for health. Wider networks have twice and
    /// four times as many.
    pub requests_per_minute: NonZeroU32,
    /// Reports of failures of one address in a minute; of wider networks as with requests.
    pub failures_per_minute: NonZeroU32,
    /// MiB that the bodies of all requests have in memory at a time; one more is refused.
    pub bodies_mib: NonZeroU32,
    /// Appraisals at a time; one more is refused.
    pub appraisals: NonZeroUsize,
    /// Challenges that are open at a time; a network has a part of them.
    pub challenges: NonZeroU32,
    /// Seconds for which a challenge is open: a boot makes its evidence in under ten.
    pub challenge_seconds: NonZeroU32,
    /// Seconds that a handshake, a head and a body each may take.
    pub read_seconds: NonZeroU32,
    /// Seconds that a drain waits for requests in progress.
    pub drain_seconds: NonZeroU32,
}

impl Default for Limits {
    fn default() -> Self {
        let count = |number| NonZeroUsize::new(number).expect("defaults are above zero");
        let number = |number| NonZeroU32::new(number).expect("defaults are above zero");
        Self {
            connections: count(256),
            connections_per_address: count(16),
            connection_seconds: number(60),
            requests_per_minute: number(60),
            failures_per_minute: number(6),
            bodies_mib: number(64),
            appraisals: count(8),
            challenges: number(10_000),
            challenge_seconds: number(120),
            read_seconds: number(15),
            drain_seconds: number(30),
        }
    }
}

impl Limits {
    pub(crate) fn read_time(&self) -> Duration {
        Duration::from_secs(self.read_seconds.get().into())
    }

    pub(crate) fn connection_time(&self) -> Duration {
        Duration::from_secs(self.connection_seconds.get().into())
    }

    pub(crate) fn drain_time(&self) -> Duration {
        Duration::from_secs(self.drain_seconds.get().into())
    }
}

/// What is logged, to standard error.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// `text` or `json`.
    format: String,
    /// `info`, `debug`, `confide_broker=debug,info`.
    filter: String,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: "text".to_owned(), filter: "info".to_owned() }
    }
}

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    /// [`BrokerError::Config`], and what [`Self::check`] finds.
    pub fn load(path: &Path) -> Result<Self, BrokerError> {
        let config: Self = confide_service::config::load(path)?;
        config.check()?;
        Ok(config)
    }

    /// What the form of the file alone does not show.
    fn check(&self) -> Result<(), BrokerError> {
        self.logging()?;
        if self.storage.url.is_some() == self.storage.url_file.is_some() {
            return Err(crate::store::StoreError::Address.into());
        }
        // What a file of its own holds shows when the broker starts.
        Ok(self.storage.url.as_deref().map_or(Ok(()), crate::store::check_address)?)
    }

    /// The form and the filter of events.
    ///
    /// # Errors
    /// When the form or the filter is none.
    pub fn logging(&self) -> Result<(Format, Filter), BrokerError> {
        Ok((self.log.format.parse()?, self.log.filter.parse()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALLEST: &str =
        "listen = \"127.0.0.1:0\"\nidentity = \"i\"\n[storage]\nurl = \"sqlite:b\"\n[kek]\nfile = \"k\"\n";

    fn parse(text: &str) -> Result<Config, String> {
        confide_service::config::parse(text.as_bytes(), Path::new("broker.toml"))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn the_sample_is_taken_and_shows_every_limit_with_its_default() {
        let text = include_str!("../../../deploy/broker.toml");
        let config = parse(text).unwrap();
        config.check().unwrap();
        assert_eq!(config.limits, Limits::default());
        for field in [
            "connections",
            "connections_per_address",
            "connection_seconds",
            "requests_per_minute",
            "failures_per_minute",
            "bodies_mib",
            "appraisals",
            "challenges",
            "challenge_seconds",
            "read_seconds",
            "drain_seconds",
        ] {
            assert!(text.lines().any(|line| line.starts_with(&format!("{field} = "))), "{field}");
        }
    }

    #[test]
    fn the_smallest_configuration_has_defaults() {
        let config = parse(SMALLEST).unwrap();
        assert_eq!(config.limits, Limits::default());
        assert!(config.endorsements.is_none());
        assert_eq!(config.storage.url().unwrap(), "sqlite:b");
        let unnamed = parse(&SMALLEST.replace("[storage]\nurl = \"sqlite:b\"\n", "")).unwrap();
        unnamed.check().unwrap();
        assert_eq!(unnamed.storage.url().unwrap(), "sqlite:/var/lib/confide-broker/broker.db");
        // The sample names it, and the service may write there.
        assert!(include_str!("../../../deploy/broker.toml").contains(DEFAULT_DATABASE));
        assert!(
            include_str!("../../../deploy/confide-broker.service")
                .contains("StateDirectory=confide-broker\n")
        );
        let neither = parse(&SMALLEST.replace("url = \"sqlite:b\"\n", "")).unwrap();
        assert_eq!(neither.check().unwrap_err().code(), "storage_address");
    }

    #[test]
    fn wrong_fields_are_named_with_their_line() {
        for (text, expected) in [
            (SMALLEST.replacen('\n', "\nport = 1\n", 1), "broker.toml:2:1: port: unknown field `port`"),
            (SMALLEST.replace("127.0.0.1:0", "localhost"), "broker.toml:1:10: listen: expected IP:PORT"),
            (
                format!("{SMALLEST}credential = \"c\"\n"),
                "broker.toml:5:1: kek: expected exactly one of the fields",
            ),
            (format!("{SMALLEST}vault = 1\n"), "broker.toml:7:9: kek.vault: invalid type: integer"),
            (
                SMALLEST.replace("\"i\"", "1"),
                "broker.toml:2:12: identity: invalid type: integer `1`, expected a path, or {",
            ),
            (SMALLEST.replace("file = \"k\"\n", ""), "broker.toml:5:1: kek"),
            (format!("{SMALLEST}[limits]\nappraisals = 0\n"), "broker.toml:8:14: limits.appraisals"),
            (
                SMALLEST.replace(
                    "file = \"k\"",
                    "vault = { address = \"http://vault.example\", key = \"k\", token = \"t\" }",
                ),
                "expected https://HOST[:PORT]",
            ),
            (
                SMALLEST.replace(
                    "file = \"k\"",
                    "vault = { address = \"https://v\", key = \"../sys\", token = \"t\" }",
                ),
                "expected letters, digits",
            ),
            (
                format!("{SMALLEST}[endorsements]\nsource = \"file\"\npccs = \"https://x\"\n"),
                "pccs does not go with this source",
            ),
        ] {
            let error = parse(&text).unwrap_err();
            assert!(error.contains(expected), "{error}: {expected}");
        }
    }

    #[test]
    fn a_database_is_named_once() {
        for text in [
            SMALLEST.replace("url = \"sqlite:b\"\n", ""),
            SMALLEST.replace("url = \"sqlite:b\"\n", "url = \"sqlite:b\"\nurl_file = \"f\"\n"),
            // `serve` would refuse it by its text alone.
            SMALLEST.replace("sqlite:b", "mysql://x/y"),
            SMALLEST.replace("sqlite:b", "sqlite::memory:"),
            SMALLEST.replace("sqlite:b", "broker.db"),
        ] {
            assert!(matches!(parse(&text).unwrap().check(), Err(BrokerError::Store(_))), "{text}");
        }
    }

    #[test]
    fn a_credential_is_a_name_and_no_path() {
        for name in ["", "../x", "a/b", ".x"] {
            let file = SecretFile::Credential(Credential { credential: name.to_owned() });
            assert!(file.path().is_err(), "{name:?}");
        }
    }
}
