//! The rules of a phase, and what they let through.
//!
//! [`Rules::permit`] alone makes a [`Permit`], and nothing connects to the outside without one.

use std::fmt;
use std::sync::Arc;

use confide_policy::egress::{
    Decision, Destination, EgressPolicy, Host, HostName, Mode, NamePattern, Phase, Rule, To, Transport,
};
use tokio::sync::{OwnedSemaphorePermit, watch};

use crate::caps::Account;
use crate::record::{Reason, RuleUse};

/// The rules of one phase, with what each was used for.
#[derive(Debug)]
pub(crate) struct Rules {
    policy: Arc<EgressPolicy>,
    phase: Phase,
    /// One for each rule, in their order.
    accounts: Vec<Arc<Account>>,
    /// Nothing is ever sent: it ends with the last that goes by these rules.
    in_use: watch::Sender<()>,
}

/// The place of one connection: it counts for its rule, and its phase has not ended as long as it is held.
#[derive(Debug)]
pub(crate) struct Place {
    _of_rule: OwnedSemaphorePermit,
    rules: Arc<Rules>,
}

/// How an allowed destination is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carriage {
    /// HTTP, over TLS of the broker's own.
    Terminate,
    /// TLS of the workload's own, which begins with the host's name.
    Passthrough,
    /// Bytes.
    Plain,
}

/// One connection that a rule allows.
#[derive(Debug)]
pub(crate) struct Permit {
    pub(crate) destination: Destination,
    pub(crate) carriage: Carriage,
    /// The rule as claims state it.
    pub(crate) rule: String,
    pub(crate) account: Arc<Account>,
    pub(crate) place: Place,
}

/// Why a connection is not let through, or did not come about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) reason: Reason,
    /// The rule that allows the destination, where one does.
    pub(crate) rule: Option<String>,
    pub(crate) destination: String,
}

impl Refusal {
    pub(crate) fn new(reason: Reason, destination: &dyn fmt::Display) -> Self {
        Self { reason, rule: None, destination: destination.to_string() }
    }
}

impl Rules {
    pub(crate) fn new(policy: Arc<EgressPolicy>, phase: Phase) -> Arc<Self> {
        let accounts = policy.rules(phase).iter().map(|rule| Account::new(rule.caps)).collect();
        Arc::new(Self { policy, phase, accounts, in_use: watch::Sender::new(()) })
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    /// Its sender is gone once no session and no connection goes by these rules any more.
    pub(crate) fn in_use(&self) -> watch::Receiver<()> {
        self.in_use.subscribe()
    }

    /// Lets one connection to a destination through.
    pub(crate) fn permit(self: &Arc<Self>, destination: Destination) -> Result<Permit, Refusal> {
        let rule = match self.policy.decide(self.phase, &destination) {
            Decision::Allowed(rule) => rule,
            Decision::Denied(denial) => return Err(Refusal::new(denial.into(), &destination)),
        };
        let refused = |reason| Refusal { rule: Some(rule.to_string()), ..Refusal::new(reason, &destination) };
        let carriage = carriage(rule).ok_or_else(|| refused(Reason::NotOfOurs))?;
        let account = self.account(rule).ok_or_else(|| refused(Reason::HostNotListed))?;
        if account.is_spent() {
            return Err(refused(Reason::BytesReached));
        }
        let of_rule = account.place().ok_or_else(|| refused(Reason::ConnectionsReached))?;
        let place = Place { _of_rule: of_rule, rules: Arc::clone(self) };
        let rule = rule.to_string();
        Ok(Permit { destination, carriage, rule, account, place })
    }

    /// Whether a rule is for this name, on any port.
    pub(crate) fn knows(&self, name: &HostName) -> bool {
        self.policy.rules(self.phase).iter().any(|rule| match &rule.to {
            To::Name { pattern: NamePattern::Exact(exact), .. } => exact == name,
            To::Name { pattern, .. } => pattern.matches(name),
            To::Network { .. } => false,
        })
    }

    /// What each rule was used for.
    pub(crate) fn uses(&self) -> Vec<RuleUse> {
        let rules = self.policy.rules(self.phase).iter().zip(&self.accounts);
        rules
            .map(|(rule, account)| RuleUse {
                rule: rule.to_string(),
                open: account.open(),
                bytes: account.bytes(),
                dropped: 0,
            })
            .collect()
    }

    fn account(&self, rule: &Rule) -> Option<Arc<Account>> {
        let place = self.policy.rules(self.phase).iter().position(|one| std::ptr::eq(one, rule))?;
        self.accounts.get(place).cloned()
    }
}

impl Permit {
    /// The names that may stand between this destination's and its addresses: with TLS of the broker's own any, since the
    /// certificate says who answers; else those that are allowed on the same port themselves.
    pub(crate) fn admits_alias(&self, alias: &str) -> bool {
        if self.carriage == Carriage::Terminate {
            return true;
        }
        let Ok(name) = HostName::parse(alias) else { return false };
        let destination =
            Destination { host: Host::Name(name), port: self.destination.port, transport: Transport::Tcp };
        let rules = &self.place.rules;
        matches!(rules.policy.decide(rules.phase, &destination), Decision::Allowed(_))
    }

    pub(crate) fn refused(&self, reason: Reason) -> Refusal {
        Refusal { rule: Some(self.rule.clone()), ..Refusal::new(reason, &self.destination) }
    }
}

fn carriage(rule: &Rule) -> Option<Carriage> {
    match &rule.to {
        To::Name { mode: Mode::Terminate, .. } => Some(Carriage::Terminate),
        To::Name { mode: Mode::Passthrough, .. } => Some(Carriage::Passthrough),
        To::Name { mode: Mode::Plain, .. } | To::Network { transport: Transport::Tcp, .. } => {
            Some(Carriage::Plain)
        }
        To::Network { transport: Transport::Udp, .. } => None,
    }
}
