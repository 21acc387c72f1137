//! What earlier appraisals have established and what neither time nor policy can change.
//!
//! A platform repeats most of its quotes: the same PCK chain and, between restarts of its quoting enclave, the same
//! attestation key, QE report and QE authentication data. These bytes are a closed certificate: once their signatures
//! have been verified, the same bytes need no second look. So is collateral, whose signatures say nothing about time.
//!
//! A memo keeps exact bytes and compares exact bytes. It is written only after a whole appraisal has accepted, so
//! nobody fills it but the owner of an accepted machine, and it never grows beyond [`MAX_PLATFORMS`] and
//! [`MAX_COLLATERALS`]. No signature covers the white space in a quote's PEM chain, which anybody on the way can change:
//! a platform has one entry however its chain is written, and so have TCB info and QE identity with the chains and lists
//! beside them, so that other spellings displace no other platform and no other collateral.
//! Windows, revocation, identities and TCB levels are appraised each time.

use crate::tdx::{Platform, PreparedCollateral};
use confide_evidence::document::TdxCollateral;
use confide_evidence::tdx::Quote;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The most platforms that a memo keeps, each with a PCK chain of under 6 KiB in practice and 64 KiB at most.
/// More than the instances of one service; 2 MiB in practice.
pub const MAX_PLATFORMS: usize = 256;
/// The most enclave parts that a memo keeps for one platform: a new one appears when its quoting enclave restarts.
pub const MAX_ENCLAVE_PARTS: usize = 4;
/// The most sets of collateral that a memo keeps: one for each FMSPC and CA in use.
pub const MAX_COLLATERALS: usize = 8;

/// Facts that later appraisals need not establish again. The least recently used make way.
///
/// It belongs to its caller, who may share it between threads and throw it away at any time. A verdict is the same,
/// byte for byte, with and without it.
#[derive(Default)]
pub struct Memo {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Counts accesses: the order of use.
    turn: u64,
    /// By the bytes of the PCK chain as they stand in quotes, each PCK certificate once.
    platforms: BTreeMap<Box<[u8]>, Kept>,
    collaterals: Vec<KeptCollateral>,
}

struct Kept {
    platform: Arc<Platform>,
    /// Enclave parts under this PCK, the oldest first.
    enclaves: Vec<Box<[u8]>>,
    used: u64,
}

struct KeptCollateral {
    collateral: TdxCollateral,
    prepared: Arc<PreparedCollateral>,
    used: u64,
}

/// What a memo knows of a quote's platform: its PCK chain holds.
pub(crate) struct Known {
    pub(crate) platform: Arc<Platform>,
    /// QE report signature and attestation key binding hold, too.
    pub(crate) enclave: bool,
}

/// The bytes of a quote's PCK chain, those of its quoting enclave, and what they mean.
type LearnedPlatform = (Box<[u8]>, Box<[u8]>, Arc<Platform>);

/// What one appraisal has established, to be kept once the whole of it has accepted.
#[derive(Default)]
pub(crate) struct Learned {
    platform: Option<LearnedPlatform>,
    collateral: Option<(TdxCollateral, Arc<PreparedCollateral>)>,
}

impl Learned {
    pub(crate) fn platform(&mut self, quote: &Quote<'_>, platform: &Arc<Platform>) {
        let signature = &quote.signature;
        self.platform =
            Some((signature.pck_chain.into(), signature.enclave_part.into(), Arc::clone(platform)));
    }

    pub(crate) fn collateral(&mut self, collateral: &TdxCollateral, prepared: &Arc<PreparedCollateral>) {
        self.collateral = Some((collateral.clone(), Arc::clone(prepared)));
    }
}

impl Memo {
    /// An empty memo.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many platforms it knows.
    #[must_use]
    pub fn platforms(&self) -> usize {
        self.state().platforms.len()
    }

    /// How many sets of collateral it knows.
    #[must_use]
    pub fn collaterals(&self) -> usize {
        self.state().collaterals.len()
    }

    /// What is known of a quote's platform under the authorities of this collateral.
    pub(crate) fn platform(&self, quote: &Quote<'_>, collateral: &PreparedCollateral) -> Option<Known> {
        let mut state = self.state();
        let turn = state.next_turn();
        let kept = state.platforms.get_mut(quote.signature.pck_chain)?;
        if !kept.platform.is_under(collateral) {
            return None;
        }
        kept.used = turn;
        let enclave = kept.enclaves.iter().any(|part| **part == *quote.signature.enclave_part);
        Some(Known { platform: Arc::clone(&kept.platform), enclave })
    }

    /// Collateral of the same bytes that was prepared under the same trust anchors.
    pub(crate) fn collateral(
        &self,
        collateral: &TdxCollateral,
        anchors: &[[u8; 32]],
    ) -> Option<Arc<PreparedCollateral>> {
        let mut state = self.state();
        let turn = state.next_turn();
        let mut known = state.collaterals.iter_mut();
        let kept = known.find(|kept| kept.prepared.is_under(anchors) && kept.collateral == *collateral)?;
        kept.used = turn;
        Some(Arc::clone(&kept.prepared))
    }

    pub(crate) fn keep(&self, learned: Learned) {
        let mut state = self.state();
        if let Some((chain, enclave, platform)) = learned.platform {
            state.keep_platform(chain, enclave, platform);
        }
        if let Some((collateral, prepared)) = learned.collateral {
            state.keep_collateral(collateral, prepared);
        }
    }

    /// No panic happens while the lock is held, and no state in between is worse than a smaller memo.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn next_turn(&mut self) -> u64 {
        self.turn = self.turn.saturating_add(1);
        self.turn
    }

    fn keep_platform(&mut self, chain: Box<[u8]>, enclave: Box<[u8]>, platform: Arc<Platform>) {
        let used = self.next_turn();
        if !self.platforms.contains_key(&chain) {
            self.make_room(&platform);
        }
        let fresh = || Kept { platform: Arc::clone(&platform), enclaves: Vec::new(), used };
        let kept = self.platforms.entry(chain).or_insert_with(fresh);
        if !Arc::ptr_eq(&kept.platform, &platform) {
            // The same chain under other authorities: what was known rests on the former ones.
            *kept = fresh();
        }
        kept.used = used;
        if kept.enclaves.contains(&enclave) {
            return;
        }
        if kept.enclaves.len() >= MAX_ENCLAVE_PARTS {
            kept.enclaves.remove(0);
        }
        kept.enclaves.push(enclave);
    }

    /// Removes the same platform under another spelling of its chain, or else the one used least recently where there are
    /// as many as there may be.
    fn make_room(&mut self, platform: &Platform) {
        let spelt = self.platforms.iter().find(|(_, kept)| kept.platform.is_same(platform));
        let oldest = || {
            let full = self.platforms.len() >= MAX_PLATFORMS;
            self.platforms.iter().filter(|_| full).min_by_key(|(_, kept)| kept.used)
        };
        if let Some(chain) = spelt.or_else(oldest).map(|(chain, _)| chain.clone()) {
            self.platforms.remove(&chain);
        }
    }

    fn keep_collateral(&mut self, collateral: TdxCollateral, prepared: Arc<PreparedCollateral>) {
        let used = self.next_turn();
        let known = |kept: &KeptCollateral| {
            let kept = &kept.collateral;
            kept.tcb_info == collateral.tcb_info && kept.qe_identity == collateral.qe_identity
        };
        // Of the same editions, or else the one used least recently where there are as many as there may be.
        let spelt = self.collaterals.iter().position(known);
        let oldest = || {
            let full = self.collaterals.len() >= MAX_COLLATERALS;
            let kept = self.collaterals.iter().enumerate().filter(|_| full);
            kept.min_by_key(|(_, kept)| kept.used).map(|(place, _)| place)
        };
        if let Some(place) = spelt.or_else(oldest) {
            self.collaterals.swap_remove(place);
        }
        self.collaterals.push(KeptCollateral { collateral, prepared, used });
    }
}

impl fmt::Debug for Memo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memo")
            .field("platforms", &self.platforms())
            .field("collaterals", &self.collaterals())
            .finish()
    }
}
