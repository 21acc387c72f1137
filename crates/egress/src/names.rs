//! What the workload is told of names: made-up addresses for allowed ones.
//!
//! The workload's resolver asks here. No question is passed on, so that no name carries anything out (a DNS tunnel); the
//! made-up address leads a connection to the broker, which knows the name by it and resolves it itself.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::{Mutex, PoisonError};

use confide_policy::egress::HostName;

use crate::dns::{Family, Outcome, Question};
use crate::gate::{Refusal, Rules};
use crate::record::Reason;

/// The most names that have an address. Policies have at most 128 rules a phase; wildcards bring more names.
pub(crate) const MAX_NAMES: usize = 4096;
/// The first address: 198.18.0.0/15 is for benchmarks inside a network (RFC 2544), and is never routed outside one.
const FIRST: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
/// How long a resolver may keep a made-up address, in seconds. It holds as long as the broker runs.
const LIFE: u32 = 60;

/// The names that have an address. An address is never another name's later.
#[derive(Debug, Default)]
pub(crate) struct Names(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    by_name: HashMap<HostName, Ipv4Addr>,
    by_place: Vec<HostName>,
}

impl Names {
    /// The name that a made-up address stands for.
    pub(crate) fn name(&self, address: Ipv4Addr) -> Option<HostName> {
        let place = usize::try_from(address.to_bits().checked_sub(FIRST.to_bits())?).ok()?;
        self.table().by_place.get(place).cloned()
    }

    /// The reply to a message of the workload's, if any, and why it is refused, if it is.
    pub(crate) fn answer(&self, message: &[u8], rules: &Rules) -> (Option<Vec<u8>>, Option<Refusal>) {
        let Some(question) = Question::read(message) else {
            return (None, Some(Refusal::new(Reason::QuestionMalformed, &"")));
        };
        let (outcome, reason) = match (HostName::parse(&question.name), question.family()) {
            (Ok(name), Some(family)) if rules.knows(&name) => match (family, self.address(name)) {
                (Family::V6, _) => (Outcome::NoData, None),
                (Family::V4, Some(address)) => (Outcome::Address(address, LIFE), None),
                (Family::V4, None) => (Outcome::Failed, Some(Reason::NamesExhausted)),
            },
            (_, Some(_)) => (Outcome::Refused, Some(Reason::HostNotListed)),
            (_, None) => (Outcome::Refused, Some(Reason::RecordTypeRefused)),
        };
        let refusal = reason.map(|reason| Refusal::new(reason, &question.name));
        (Some(question.reply(outcome)), refusal)
    }

    /// The address of a name, for good.
    fn address(&self, name: HostName) -> Option<Ipv4Addr> {
        let mut table = self.table();
        if let Some(address) = table.by_name.get(&name) {
            return Some(*address);
        }
        let place = table.by_place.len();
        if place >= MAX_NAMES {
            return None;
        }
        let address = Ipv4Addr::from_bits(FIRST.to_bits().checked_add(u32::try_from(place).ok()?)?);
        table.by_place.push(name.clone());
        table.by_name.insert(name, address);
        Some(address)
    }

    fn table(&self) -> std::sync::MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
