//! The discovery file: where instances are. It suggests addresses and nothing else.

use super::{Inner, MAX_INSTANCES};
use crate::endpoint::Endpoint;
use confide_service::ConfigError;
use confide_service::config;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Weak;
use std::time::Duration;
use thiserror::Error;

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Why a discovery file is not used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DiscoveryError {
    /// It cannot be read, or is not of the form.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// It lists an instance twice.
    #[error("{}: the instance {instance} is listed twice", file.display())]
    Twice {
        /// The file.
        file: PathBuf,
        /// The instance.
        instance: String,
    },
    /// It lists too many.
    #[error("{}: {found} instances, at most {MAX_INSTANCES} are taken", file.display())]
    TooMany {
        /// The file.
        file: PathBuf,
        /// How many.
        found: usize,
    },
}

/// `[[instance]]`, any number of times.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    instance: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    url: Url,
}

/// `https://HOST[:PORT]`.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Url(Endpoint);

impl TryFrom<String> for Url {
    type Error = crate::endpoint::EndpointError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse().map(Self)
    }
}

/// The instances that a discovery file names, in its order.
///
/// # Errors
/// [`DiscoveryError`].
pub fn read(file: &Path) -> Result<Vec<Endpoint>, DiscoveryError> {
    listed(config::load(file)?, file)
}

/// The same of the bytes of a file.
pub(crate) fn parse(bytes: &[u8], file: &Path) -> Result<Vec<Endpoint>, DiscoveryError> {
    listed(config::parse(bytes, file)?, file)
}

fn listed(File { instance }: File, file: &Path) -> Result<Vec<Endpoint>, DiscoveryError> {
    let found: Vec<Endpoint> = instance.into_iter().map(|entry| entry.url.0).collect();
    if found.len() > MAX_INSTANCES {
        return Err(DiscoveryError::TooMany { file: file.to_owned(), found: found.len() });
    }
    let mut seen = BTreeSet::new();
    match found.iter().map(|endpoint| endpoint.authority().as_str()).find(|id| !seen.insert(*id)) {
        Some(twice) => Err(DiscoveryError::Twice { file: file.to_owned(), instance: twice.to_owned() }),
        None => Ok(found),
    }
}

/// What changes when a file is written or replaced; nothing for one that is not there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Edition(Option<(u64, u64, u64, i64, i64)>);

impl Edition {
    pub(super) fn of(file: &Path) -> Self {
        let metadata = std::fs::metadata(file).ok();
        Self(metadata.map(|of| (of.dev(), of.ino(), of.len(), of.mtime(), of.mtime_nsec())))
    }
}

/// Follows the file for as long as the fleet lives. One that cannot be used is told of once, and what the file said
/// before goes on.
pub(super) async fn follow(fleet: Weak<Inner>, file: PathBuf, mut known: Edition) {
    loop {
        tokio::time::sleep(LOOK).await;
        let path = file.clone();
        // Before it is read: what is written meanwhile is read again.
        let looked = tokio::task::spawn_blocking(move || {
            let edition = Edition::of(&path);
            (edition != known).then(|| (edition, read(&path)))
        });
        let Ok(Some((edition, found))) = looked.await else {
            if fleet.strong_count() == 0 {
                return;
            }
            continue;
        };
        known = edition;
        let Some(fleet) = fleet.upgrade() else { return };
        fleet.note_discovery(match found {
            Ok(found) => fleet.discover(found).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Vec<String>, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("fleet.toml");
        std::fs::write(&file, text).unwrap();
        let found = read(&file).map_err(|error| error.to_string());
        found.map(|found| found.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_file_names_addresses() {
        let text = "[[instance]]\nurl = \"https://a.example:8443\"\n[[instance]]\nurl = \"https://[::1]\"\n";
        assert_eq!(parsed(text).unwrap(), ["https://a.example:8443", "https://[::1]"]);
        assert!(parsed("").unwrap().is_empty());
    }

    #[test]
    fn a_file_says_nothing_else() {
        for (text, why) in [
            ("[[instance]]\nurl = \"https://a\"\nmodel = \"m\"\n", "unknown field `model`"),
            ("policy = \"any\"\n", "unknown field `policy`"),
            ("[[instance]]\n", "missing field `url`"),
            ("[[instance]]\nurl = \"http://a.example\"\n", "plain http is refused"),
            ("[[instance]]\nurl = \"https://key@a.example\"\n", "user name or password"),
            ("[[instance]]\nurl = \"https://a.example/v1\"\n", "has a path"),
            ("[[instance]]\nurl = \"https://a\"\n[[instance]]\nurl = \"https://a\"\n", "a is listed twice"),
            ("instance = \n", "fleet.toml:1:"),
        ] {
            let error = parsed(text).unwrap_err();
            assert!(error.contains(why), "{text:?}: {error}");
        }
        let many: String =
            (0..=MAX_INSTANCES).map(|n| format!("[[instance]]\nurl = \"https://a{n}\"\n")).collect();
        assert!(parsed(&many).unwrap_err().contains("129 instances, at most 128"));
    }

    #[test]
    fn an_edition_changes_with_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("fleet.toml");
        let missing = Edition::of(&file);
        std::fs::write(&file, "").unwrap();
        let empty = Edition::of(&file);
        assert!(missing != empty && empty == Edition::of(&file));
        std::fs::write(folder.path().join("new"), "").unwrap();
        std::fs::rename(folder.path().join("new"), &file).unwrap();
        assert!(empty != Edition::of(&file), "another file of the same length");
    }
}
