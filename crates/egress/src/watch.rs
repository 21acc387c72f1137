//! Who hears that rules change, without any privilege.
//!
//! To read the rules takes CAP_NET_ADMIN, with each request (`nfnetlink_rcv` in the kernel), and whoever has it can change them.
//! To *open* a socket that hears of changes takes it, too (`netlink_bind`), but not to go on hearing: so that is done before the
//! lock. The kernel tells each transaction to the group of nf_tables before the one who made it hears that it is done.

use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::netlink::NETFILTER;
use rustix::net::{RecvFlags, recv};

use crate::error::EgressError;
use crate::netlink;

/// The group `NFNLGRP_NFTABLES` (7) as a bit.
const OF_RULES: u32 = 1 << 6;

/// Whose network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The guest's own, which has the device to the outside.
    Guest,
    /// The workload's.
    Workload,
}

impl Side {
    /// The word in records and messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Guest => "guest",
            Self::Workload => "workload",
        }
    }
}

/// Hears of changes to the rules of one network.
#[derive(Debug)]
pub(crate) struct RuleWatch {
    socket: OwnedFd,
    side: Side,
}

impl RuleWatch {
    /// Of this thread's network, from now on.
    pub(crate) fn open(side: Side) -> Result<Self, EgressError> {
        let socket =
            netlink::open(Some(NETFILTER), OF_RULES).map_err(EgressError::system("hear of rules"))?;
        Ok(Self { socket, side })
    }

    /// Forgets what was heard so far, lost messages included.
    pub(crate) fn forget(&self) -> Result<(), EgressError> {
        loop {
            match recv(&self.socket, &mut [0; 8192][..], RecvFlags::DONTWAIT) {
                Err(Errno::AGAIN) => return Ok(()),
                Ok(_) | Err(Errno::INTR | Errno::NOBUFS) => {}
                Err(error) => return Err(EgressError::system("hear of rules")(error.into())),
            }
        }
    }
}

/// Waits for the first change of rules, and says where it was. A message that was lost may have told of one, and counts.
pub(crate) fn first_change(watches: &[RuleWatch]) -> EgressError {
    loop {
        let mut ends: Vec<PollFd<'_>> =
            watches.iter().map(|watch| PollFd::new(&watch.socket, PollFlags::IN)).collect();
        match poll(&mut ends, None) {
            Err(Errno::INTR) => continue,
            Err(error) => return EgressError::system("hear of rules")(error.into()),
            Ok(_) => {}
        }
        let changed = ends.iter().zip(watches).find(|(end, _)| !end.revents().is_empty());
        if let Some((_, watch)) = changed {
            return EgressError::RulesChanged { side: watch.side };
        }
    }
}
