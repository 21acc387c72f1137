//! What happens to a fleet, for whoever watches it.

use std::fmt;
use std::time::Duration;

/// Told of every change.
pub(super) type Listener = Box<dyn Fn(&FleetEvent) + Send + Sync>;

/// A change of a fleet. [`fmt::Display`] gives one line.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum FleetEvent {
    /// An instance's evidence was not accepted.
    Quarantined {
        /// The instance.
        instance: String,
        /// The code of the check that failed, or of the channel's error.
        code: &'static str,
        /// Why, in words.
        message: String,
        /// When it is tried again.
        retry_in: Duration,
    },
    /// An instance could not be reached, or broke off.
    Unreachable {
        /// The instance.
        instance: String,
        /// The error's code.
        code: &'static str,
        /// Why, in words.
        message: String,
        /// When it is tried again.
        retry_in: Duration,
    },
    /// A verdict holds again.
    Recovered {
        /// The instance.
        instance: String,
    },
    /// The discovery file names an instance that it did not name before.
    Added {
        /// The instance.
        instance: String,
    },
    /// The discovery file no longer names an instance.
    Removed {
        /// The instance.
        instance: String,
    },
    /// The discovery file cannot be used. What it said before goes on.
    DiscoveryRefused {
        /// Why.
        message: String,
    },
}

impl fmt::Display for FleetEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Quarantined { instance, code, message, retry_in } => {
                write!(f, "{instance} quarantined ({code}) for {} s: {message}", seconds(*retry_in))
            }
            Self::Unreachable { instance, code, message, retry_in } => {
                write!(
                    f,
                    "{instance} unreachable ({code}), tried again in {} s: {message}",
                    seconds(*retry_in)
                )
            }
            Self::Recovered { instance } => write!(f, "{instance} recovered: its evidence is accepted"),
            Self::Added { instance } => write!(f, "{instance} added by the discovery file"),
            Self::Removed { instance } => write!(f, "{instance} removed from the discovery file"),
            Self::DiscoveryRefused { message } => {
                write!(f, "the discovery file is not used, what it said before goes on: {message}")
            }
        }
    }
}

/// Seconds with one decimal.
fn seconds(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64())
}
