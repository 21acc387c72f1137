//! Why a fleet does not answer, or cannot be made.

use super::discovery::DiscoveryError;
use crate::error::ClientError;
use std::borrow::Cow;
use std::time::Duration;
use thiserror::Error;

/// Why a fleet does not answer a request.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum FleetError {
    /// No attested instance has the model, and none that may yet be attested is known to, or could, have it.
    #[error(
        "no attested instance has {}{}{}",
        wanted(model.as_deref()),
        listed(" and there are ", known),
        listed("; ", quarantined)
    )]
    ModelNotFound {
        /// What the request named, or its beginning; nothing where it named none.
        model: Option<String>,
        /// The models that there are.
        known: Vec<String>,
        /// Of each instance whose evidence is refused its name, and the code of the reason.
        quarantined: Vec<String>,
    },
    /// The request names no model that can be read, and attested instances have several.
    #[error(
        "the request names no model in a JSON body, and the attested instances have several{}",
        listed(": ", models)
    )]
    ModelRequired {
        /// The models that there are.
        models: Vec<String>,
    },
    /// No attested instance could have the model.
    #[error("no attested instance: {}", reasons.join("; "))]
    NoAttestedInstances {
        /// Of each instance its name, and why it is not used.
        reasons: Vec<String>,
        /// The code of the reason, where there is one instance alone.
        code: Option<&'static str>,
        /// When one is tried again.
        retry_in: Duration,
    },
    /// The evidence of the only instance is not accepted.
    #[error(transparent)]
    Refused(ClientError),
    /// Each attested instance that has the model asked to be left alone, or has as many requests as it may have.
    #[error("every attested instance that has the model is overloaded")]
    Overloaded {
        /// When one is asked again.
        retry_in: Duration,
    },
    /// The request failed at an instance and may not be repeated, or there is no other.
    #[error(transparent)]
    Client(#[from] ClientError),
}

fn wanted(model: Option<&str>) -> String {
    model.map_or("a model of the policy's table".to_owned(), |name| format!("the model {name:?}"))
}

fn listed(before: &str, names: &[String]) -> String {
    if names.is_empty() { String::new() } else { format!("{before}{}", names.join(", ")) }
}

/// Why a fleet cannot be made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FleetSetupError {
    /// An instance's client cannot be made.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// An instance is listed twice.
    #[error("the instance {0} is listed twice")]
    Twice(String),
    /// More instances than a fleet has.
    #[error("{0} instances, at most {most} are taken", most = super::MAX_INSTANCES)]
    TooMany(usize),
    /// The discovery file cannot be used.
    #[error(transparent)]
    Discovery(#[from] DiscoveryError),
    /// Neither an instance nor a discovery file is named.
    #[error("no instance is named, and no discovery file")]
    Empty,
}

impl FleetSetupError {
    /// A stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Client(error) => error.code(),
            Self::Discovery(DiscoveryError::Config(error)) => error.code(),
            Self::Twice(_) | Self::Discovery(DiscoveryError::Twice { .. }) => "instance_twice",
            Self::TooMany(_) | Self::Discovery(DiscoveryError::TooMany { .. }) => "too_many_instances",
            Self::Empty => "no_instances",
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn what_to_do(&self) -> Option<Cow<'static, str>> {
        if let Self::Client(error) = self {
            return error.what_to_do();
        }
        let mut known = CODES.iter().chain(confide_service::config::CODES);
        known.find(|(code, ..)| *code == self.code()).map(|(_, _, what_to_do)| Cow::Borrowed(*what_to_do))
    }
}

/// Stable codes of [`FleetSetupError`], beside those of clients ([`crate::CODES`]) and configuration files
/// ([`confide_service::config::CODES`]): code, what it means, what to do.
pub const CODES: &[(&str, &str, &str)] = &[
    ("instance_twice", "an instance is listed twice", "list each instance once"),
    (
        "too_many_instances",
        "more than 128 instances are listed",
        "list fewer; several guests may stand behind one address",
    ),
    (
        "no_instances",
        "no instance is named, and no discovery file",
        "name an instance with --upstream, or a file with --upstreams",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    #[test]
    fn every_code_is_listed() {
        let file = PathBuf::new;
        let codes = [
            FleetSetupError::Twice(String::new()),
            FleetSetupError::TooMany(129),
            FleetSetupError::Empty,
            DiscoveryError::Twice { file: file(), instance: String::new() }.into(),
            DiscoveryError::TooMany { file: file(), found: 129 }.into(),
        ]
        .map(|error| error.code());
        for code in codes {
            assert!(CODES.iter().any(|(listed, ..)| *listed == code), "{code}");
        }
        assert!(CODES.iter().all(|(code, ..)| codes.contains(code)));
    }
}
