//! The guest's only way out.
//!
//! Layer 5. The workload runs in a network of its own that leads nowhere but to a [`Broker`], and the broker lets through
//! what an egress policy allows. It resolves names itself, asks no one but the DNS upstreams of the policy, and originates
//! TLS itself: the host is the network, so that neither an address nor a name in a message of the workload proves anything,
//! and a certificate for the listed name does. `docs/egress.md` says what that holds against, and what not.
//!
//! [`plan`] writes the rules by which the kernel keeps both to it, and [`Enforcement`] puts them into force, up to the lock and
//! beyond.
//!
//! Both sides are hostile. What the workload can lengthen, and what the network can, has a limit.

#![cfg_attr(
    not(test),
    warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)
)]
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]

mod address;
mod authority;
mod broker;
#[cfg(test)]
mod broker_tests;
mod caps;
mod dns;
mod enforcement;
mod error;
mod exit;
#[cfg(test)]
mod far_side;
mod gate;
pub mod landlock;
mod names;
mod namespace;
pub mod netlink;
mod network;
mod nft;
mod original;
mod owner;
mod pace;
mod packets;
pub mod plan;
mod process;
pub mod readers;
mod record;
mod resolver;
pub mod seccomp;
mod session;
mod tls;
mod tunnel;
mod watch;
mod workload;

pub use broker::{Broker, OriginalDestination};
pub use enforcement::{Enforcement, Guard, needs_broker};
pub use error::EgressError;
pub use namespace::NetworkThread;
pub use original::original_destination;
pub use pace::Pace;
pub use packets::{PacketStatus, Packets};
pub use process::{BrokerCommand, BrokerView, run_broker};
pub use record::{CODES, DropRecord, Reason, RuleUse, Status, Way};
pub use tls::Roots;
pub use watch::Side;
