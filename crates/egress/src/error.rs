//! What keeps egress from being kept to its policy.

use std::io;

use thiserror::Error;

use crate::watch::Side;

/// What keeps egress from being kept to its policy.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EgressError {
    /// The authorities of TLS cannot be read.
    #[error("the web authorities cannot be read: {0}")]
    Roots(String),
    /// The system refuses something.
    #[error("egress cannot be kept to its policy: cannot {action}")]
    System {
        /// What was tried.
        action: &'static str,
        /// What the system or a program said.
        source: io::Error,
    },
    /// Other rules are in force than those that were put there.
    #[error("the rules of the {}'s network are not those that were put into force", .side.name())]
    RulesDiffer {
        /// Where.
        side: Side,
    },
    /// The rules were changed after the lock.
    #[error("the rules of the {}'s network were changed", .side.name())]
    RulesChanged {
        /// Where.
        side: Side,
    },
    /// The egress broker ended, or does not do as it is told.
    #[error("the egress broker is lost: {0}")]
    BrokerLost(String),
}

impl EgressError {
    /// Makes the system's error one of this.
    pub(crate) fn system(action: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::System { action, source }
    }

    /// The stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Roots(_) => "egress_authorities",
            Self::System { .. } => "egress_not_enforced",
            Self::RulesDiffer { .. } => "egress_rules_differ",
            Self::RulesChanged { .. } => "egress_rules_changed",
            Self::BrokerLost(_) => "egress_broker_lost",
        }
    }
}
