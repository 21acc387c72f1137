//! The configuration file of `serve`.

use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::time::Duration;

use confide_service::logging::{Filter, Format};
use serde::Deserialize;

use crate::error::GuestError;

/// The longest model name, in bytes.
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
    /// What is logged.
    #[serde(default)]
    pub log: Log,
    /// Which software machine; for `platform = "simulated"` alone.
    pub simulated: Option<Simulated>,
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
    /// Connections at a time; further ones wait.
    pub connections: NonZeroUsize,
    /// Completions at a time.
    pub requests: NonZeroUsize,
    /// Completions that wait for one of those places; one more is refused.
    pub waiting_requests: usize,
    /// Seconds that they wait before they are refused.
    pub wait_seconds: NonZeroU32,
    /// Attestations at a time, waiting ones included; one more is refused.
    pub attestations: NonZeroUsize,
    /// Bytes of a request body.
    pub body_bytes: NonZeroUsize,
    /// Seconds for a TLS handshake, for the head of a request, and for its body.
    pub read_seconds: NonZeroU32,
    /// Seconds for loading the model.
    pub load_seconds: NonZeroU32,
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
            attestations: size(64),
            body_bytes: size(4 << 20),
            read_seconds: seconds(30),
            load_seconds: seconds(600),
            drain_seconds: seconds(30),
        }
    }
}

impl Limits {
    /// For a TLS handshake, for the head of a request, and for its body.
    pub(crate) fn read_time(&self) -> Duration {
        time(self.read_seconds)
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Simulated {
    /// Tells machines apart: the keys of platform and GPUs follow from it.
    pub seed: u32,
    /// GPUs, at most 64.
    pub gpus: u8,
}

impl Default for Simulated {
    fn default() -> Self {
        Self { seed: 0, gpus: 1 }
    }
}

impl Config {
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
            Platform::Tdx | Platform::Simulated => Ok(config),
        }
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
    }

    #[test]
    fn unknown_fields_and_wrong_values_are_named_with_their_line() {
        let cases = [
            (format!("{SMALLEST}path = \"x\"\n"), "guest.toml:6:1: model.path: unknown field `path`"),
            (format!("{SMALLEST}[limits]\nbody = 1\n"), "guest.toml:7:1: limits.body: unknown field `body`"),
            (
                format!("{SMALLEST}[limits]\nrequests = 0\n"),
                "guest.toml:7:12: limits.requests: invalid value",
            ),
            (
                SMALLEST.replace("127.0.0.1:0", "localhost"),
                "guest.toml:1:10: listen: invalid socket address syntax",
            ),
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
    fn a_log_filter_that_is_none_is_refused() {
        let error = load(&format!("{SMALLEST}[log]\nfilter = \"a=b=c\"\n")).unwrap_err();
        assert_eq!(error.code(), "log_filter_invalid");
    }
}
