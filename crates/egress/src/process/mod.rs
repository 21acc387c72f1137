//! The egress broker in a process of its own.
//!
//! The guest starts its own program again, as a user of its own and without any capability, with one Unix socket as standard
//! input. Over it the guest hands over the policy, and what was opened in the workload's network: listeners, and a socket by which the
//! kernel is asked whose a connection is. Later it says that it is locked.
//! The broker's end ends the guest, and the guest's end ends the broker.

mod child;
mod control;
mod parent;
mod sys;

pub use child::run_broker;
#[cfg(test)]
pub(crate) use child::run_trusting;
pub(crate) use control::Purpose;
pub use parent::{BrokerCommand, BrokerView};
pub(crate) use parent::{BrokerProcess, Handed};
