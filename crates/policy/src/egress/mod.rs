//! Egress policies: `policies/egress/*.toml` to a closed [`EgressPolicy`], and what it says of a destination.
//!
//! Everything is denied that no rule allows. A policy has two phases: `bootstrap`, until the guest locks, and `serving`, which
//! is never wider. Nothing here looks anything up: who resolves names and opens connections asks [`EgressPolicy::decide`].

mod canonical;
mod decide;
mod dns;
mod name;
mod network;
mod rule;
mod wider;

pub use decide::*;
pub use dns::{DnsProtocol, DnsUpstream};
pub use name::*;
pub use network::*;
pub use rule::*;

use crate::{MAX_POLICY, Name, PolicyError};
use serde::Deserialize;

/// The value of the field `format` of every egress policy: it tells one from other policies, and the form by its number.
pub const EGRESS_FORMAT: &str = "confide-egress-policy/1";
/// The largest egress policy accepted, in bytes. [`MAX_EGRESS_RULES`] in both phases take under 100 KiB.
pub const MAX_EGRESS_POLICY: usize = 256 * 1024;
/// The most rules of a phase. Each may stand in the claims, whose lists have at most 256 entries.
pub const MAX_EGRESS_RULES: usize = 128;

/// The policy that allows nothing, under which a guest is whose configuration names none.
pub const DENY_ALL: &str = include_str!("../../../../policies/egress/deny-all.toml");

/// What may leave a guest, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EgressPolicy {
    name: Name,
    log: LogLevel,
    dns: Vec<DnsUpstream>,
    bootstrap: Vec<Rule>,
    serving: Vec<Rule>,
}

/// Which rules hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Until the guest locks.
    Bootstrap,
    /// From then on, for good.
    Serving,
}

impl Phase {
    /// The table in policies.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Bootstrap => "bootstrap",
            Self::Serving => "serving",
        }
    }
}

/// Of what there are records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Of nothing. What is dropped is still counted.
    None,
    /// Of what is dropped.
    Drops,
    /// Of every connection.
    All,
}

impl LogLevel {
    /// The word in policies.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Drops => "drops",
            Self::All => "all",
        }
    }
}

/// The file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicyForm {
    format: String,
    name: Name,
    log: LogLevel,
    dns: Option<dns::DnsForm>,
    #[serde(default)]
    bootstrap: Vec<Rule>,
    #[serde(default)]
    serving: Vec<Rule>,
}

impl EgressPolicy {
    /// Reads and checks a policy.
    ///
    /// # Errors
    /// [`PolicyError`]; a TOML error names line, column and field.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        if text.len() > MAX_EGRESS_POLICY {
            return Err(PolicyError::EgressTooLarge(text.len()));
        }
        let form: PolicyForm = toml::from_str(text).map_err(|error| PolicyError::Toml(error.to_string()))?;
        if form.format != EGRESS_FORMAT {
            return Err(PolicyError::EgressFormat(form.format));
        }
        let rules = |phase: Phase, mut rules: Vec<Rule>| {
            most(phase, rules.len())?;
            rules.sort_unstable();
            match wider::ambiguous(&rules) {
                None => Ok(rules),
                Some((one, other)) => Err(PolicyError::EgressAmbiguous {
                    phase: phase.name(),
                    one: one.to_string(),
                    other: other.to_string(),
                }),
            }
        };
        let bootstrap = rules(Phase::Bootstrap, form.bootstrap)?;
        let serving = rules(Phase::Serving, form.serving)?;
        if let Some(rule) = wider::wider(&bootstrap, &serving) {
            return Err(PolicyError::EgressServingWider(rule.to_string()));
        }
        let names = bootstrap.iter().any(|rule| matches!(rule.to, To::Name { .. }));
        Ok(Self { name: form.name, log: form.log, dns: upstreams(form.dns, names)?, bootstrap, serving })
    }

    /// Whether a text says that it is an egress policy, be it a valid one or not.
    #[must_use]
    pub fn is_meant_by(text: &str) -> bool {
        #[derive(Deserialize)]
        struct Format {
            format: String,
        }
        let family = |format: &str| format.starts_with("confide-egress-policy/");
        text.len() <= MAX_POLICY && toml::from_str::<Format>(text).is_ok_and(|found| family(&found.format))
    }

    /// The built-in `policies/egress/deny-all.toml`.
    ///
    /// # Panics
    /// Never: a test reads it.
    #[must_use]
    pub fn deny_all() -> Self {
        Self::parse(DENY_ALL).expect("the built-in policy is read by a test")
    }

    /// A name for people.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name.as_str()
    }

    /// Of what there are records.
    #[must_use]
    pub fn log(&self) -> LogLevel {
        self.log
    }

    /// Who is asked for the addresses of names, in this order; nobody where no rule has a name.
    #[must_use]
    pub fn dns(&self) -> &[DnsUpstream] {
        &self.dns
    }

    /// The rules of a phase, sorted.
    #[must_use]
    pub fn rules(&self, phase: Phase) -> &[Rule] {
        match phase {
            Phase::Bootstrap => &self.bootstrap,
            Phase::Serving => &self.serving,
        }
    }

    /// The rules of a phase, as the claims state them.
    #[must_use]
    pub fn allowed(&self, phase: Phase) -> Vec<String> {
        self.rules(phase).iter().map(ToString::to_string).collect()
    }

    /// Those of them by which the host sees what leaves, or may answer it.
    #[must_use]
    pub fn host_visible(&self, phase: Phase) -> Vec<String> {
        self.rules(phase).iter().filter(|rule| rule.is_host_visible()).map(ToString::to_string).collect()
    }

    /// Whether a phase has no rule.
    #[must_use]
    pub fn allows_nothing(&self, phase: Phase) -> bool {
        self.rules(phase).is_empty()
    }
}

fn most(phase: Phase, found: usize) -> Result<(), PolicyError> {
    let field = match phase {
        Phase::Bootstrap => "the number of bootstrap rules",
        Phase::Serving => "the number of serving rules",
    };
    range(field, found, "at most 128", found <= MAX_EGRESS_RULES)
}

fn range(field: &'static str, found: usize, expected: &'static str, holds: bool) -> Result<(), PolicyError> {
    match holds {
        true => Ok(()),
        false => Err(PolicyError::Range { field, found: u64::try_from(found).unwrap_or(u64::MAX), expected }),
    }
}

/// Whoever allows names says who knows their addresses, and nobody else is asked anything.
fn upstreams(form: Option<dns::DnsForm>, names: bool) -> Result<Vec<DnsUpstream>, PolicyError> {
    let field = "the number of dns.upstreams";
    match (form, names) {
        (Some(form), true) => {
            form.upstreams().or_else(|found| range(field, found, "1 to 4", false).map(|()| Vec::new()))
        }
        (None, true) => Err(PolicyError::EgressNoDns),
        (Some(_), false) => Err(PolicyError::EgressIdleDns),
        (None, false) => Ok(Vec::new()),
    }
}

#[cfg(test)]
mod tests;
