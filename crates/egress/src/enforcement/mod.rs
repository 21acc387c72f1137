//! From a guest whose network lets everything through to one that is locked.
//!
//! ```text
//! begin       the rules of the phase `bootstrap`, before there is a network to the outside; the workload's network;
//!             what hears of changed rules and of dropped packets
//! start_broker
//! lock        the rules of the phase `serving`; what is in force is compared; the broker enters the phase
//!             (the guest gives up its privileges)
//! guards      changed rules, packets that nobody hears of, and a lost broker are told, without any privilege
//! ```

use std::io;

use confide_evidence::bytes::Digest;
use confide_policy::egress::{EgressPolicy, Phase};

use crate::error::EgressError;
use crate::namespace::NetworkThread;
use crate::nft;
use crate::packets::{PacketLog, Packets};
use crate::plan::{self, LISTENERS, Ruleset};
use crate::process::{BrokerCommand, BrokerProcess, BrokerView, Handed};
use crate::watch::{RuleWatch, Side, first_change};
use crate::workload;

/// What keeps the guest and its workload to the egress policy.
#[derive(Debug)]
pub struct Enforcement {
    workload: NetworkThread,
    rules: Ruleset,
    /// For the broker, until the lock.
    handed: Vec<Handed>,
    watches: Vec<RuleWatch>,
    logs: Vec<PacketLog>,
    packets: Packets,
    broker: Option<(BrokerProcess, BrokerView)>,
}

/// Waits until something no longer holds, and says what. To be run on a thread of its own.
pub type Guard = Box<dyn FnOnce() -> EgressError + Send>;

impl Enforcement {
    /// Puts the rules of the policy's phase `bootstrap` into force in this thread's network, and makes the workload's. It takes
    /// CAP_NET_ADMIN and CAP_SYS_ADMIN.
    ///
    /// # Errors
    /// [`EgressError::System`].
    pub fn begin(policy: &EgressPolicy, bootstrap: &Ruleset) -> Result<Self, EgressError> {
        // Who hears of packets is there before the first rule that tells of one.
        let guest = ears(Side::Guest)?;
        nft::load(bootstrap).map_err(EgressError::system("put rules into force"))?;
        let fault = EgressError::system("make the workload's network");
        let rules = plan::workload(needs_broker(policy).then_some(LISTENERS));
        let (network, handed) = workload::open(&rules).map_err(&fault)?;
        let workload = network.run(|| ears(Side::Workload)).map_err(&fault)??;
        let (watches, logs) = [guest, workload].into_iter().unzip();
        let packets = Packets::new(policy.log());
        Ok(Self { workload: network, rules, handed, watches, logs, packets, broker: None })
    }

    /// Starts the egress broker in this thread's network, where [`needs_broker`] says so.
    ///
    /// # Errors
    /// [`EgressError::System`], [`EgressError::BrokerLost`].
    pub fn start_broker(
        &mut self,
        command: &BrokerCommand,
        policy: &str,
        digest: Digest,
    ) -> Result<(), EgressError> {
        let broker = BrokerProcess::start(command, &self.handed, policy, digest)?;
        self.broker = Some((broker, BrokerView::default()));
        Ok(())
    }

    /// The thread on which the workload is started: its network is the workload's.
    #[must_use]
    pub fn workload(&self) -> &NetworkThread {
        &self.workload
    }

    /// What the rules of both networks have dropped.
    #[must_use]
    pub fn packets(&self) -> Packets {
        self.packets.clone()
    }

    /// What the egress broker has dropped and let through, where there is one.
    #[must_use]
    pub fn broker(&self) -> Option<BrokerView> {
        self.broker.as_ref().map(|(_, view)| view.clone())
    }

    /// Puts the rules of the phase `serving` into force in this thread's network, makes sure that they and those of the workload's
    /// network are what is in force, and lets the broker enter the phase. From here on any change is told by the [`guards`](Self::guards).
    ///
    /// # Errors
    /// [`EgressError::System`], [`EgressError::RulesDiffer`], [`EgressError::BrokerLost`]: the guest must not serve.
    pub fn lock(&mut self, serving: &Ruleset) -> Result<(), EgressError> {
        // The broker has its own by now. Nobody asks at the listeners where nobody listens.
        self.handed.clear();
        nft::load(serving).map_err(EgressError::system("put rules into force"))?;
        // What was heard up to here is forgotten before it is compared: a change is either seen, or heard later.
        for watch in &self.watches {
            watch.forget()?;
        }
        compare(Side::Guest, nft::is_in_force(serving))?;
        let rules = self.rules.clone();
        let found = self.workload.run(move || nft::is_in_force(&rules));
        compare(Side::Workload, found.flatten())?;
        match &mut self.broker {
            Some((broker, _)) => broker.lock(),
            None => Ok(()),
        }
    }

    /// What is to be run while the guest serves, each with a name for its thread. Whoever has started something on the workload's
    /// thread keeps that.
    #[must_use]
    pub fn guards(self) -> Vec<(&'static str, Guard)> {
        let Self { watches, logs, packets, broker, .. } = self;
        let mut guards: Vec<(&str, Guard)> = vec![
            ("rules", Box::new(move || first_change(&watches))),
            ("packets", Box::new(move || packets.hear(&logs))),
        ];
        if let Some((broker, view)) = broker {
            guards.push(("egress-broker", Box::new(move || broker.attend(&view))));
        }
        guards
    }
}

/// What hears of this thread's network.
fn ears(side: Side) -> Result<(RuleWatch, PacketLog), EgressError> {
    Ok((RuleWatch::open(side)?, PacketLog::open(side)?))
}

/// Whether there is anything to let through, in any phase.
#[must_use]
pub fn needs_broker(policy: &EgressPolicy) -> bool {
    [Phase::Bootstrap, Phase::Serving].into_iter().any(|phase| !policy.allows_nothing(phase))
}

fn compare(side: Side, found: io::Result<bool>) -> Result<(), EgressError> {
    match found {
        Ok(true) => Ok(()),
        Ok(false) => Err(EgressError::RulesDiffer { side }),
        Err(source) => Err(EgressError::system("read the rules that are in force")(source)),
    }
}

#[cfg(test)]
pub(crate) mod tests;
