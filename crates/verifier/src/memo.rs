//! What earlier appraisals have established and what neither time nor policy can change.
//!
//! A platform repeats most of its quotes: the same PCK chain and, between restarts of its quoting enclave, the same
//! attestation key, QE report and QE authentication data. These bytes are a closed certificate: once their signatures
//! have been verified, the same bytes need no second look. So is collateral, whose signatures say nothing about time.
//!
//! NVIDIA's endorsements are parsed and their signatures verified once, too: those of a machine's devices are the same bytes
//! for a day, its manifests for months. A document whose endorsements are known as a whole needs no parsing of them; in one
//! that has other answers, the manifests are still recognised, each by the SHA-256 of its file.
//!
//! A memo keeps exact bytes and compares exact bytes, of NVIDIA's endorsements their SHA-256. It is written only after a
//! whole appraisal has accepted, so nobody fills it but the owner of an accepted machine, and it never grows beyond
//! [`MAX_PLATFORMS`], [`MAX_COLLATERALS`] and [`MAX_DEVICE_ENDORSEMENTS`]. Of NVIDIA's endorsements there is one set for
//! each device that was the first of accepted ones: whatever its owner staples beside it, it displaces that of no other
//! device while there is room. A machine is known by that device, so that the owner of one with eight GPUs, who puts
//! another first each time, takes eight places and no more. No signature covers the white space in a quote's PEM chain,
//! which anybody on the way can change: a platform has one entry however its chain is written, and so have TCB info and QE
//! identity with the chains and lists beside them, so that other spellings displace no other platform and no other
//! collateral.
//! Windows, revocation, identities and TCB levels are appraised each time.

use crate::nvidia::{Fingerprint, Manifest, PreparedDevices};
use crate::tdx::{Platform, PreparedCollateral};
use confide_evidence::document::{NvidiaEndorsements, TdxCollateral};
use confide_evidence::hash::sha256;
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
/// The most machines whose NVIDIA endorsements a memo keeps, one set each. Machines that staple the same share it.
pub const MAX_DEVICE_ENDORSEMENTS: usize = 16;
/// The most bytes of NVIDIA endorsements that a memo keeps as one set: larger ones are parsed each time. Those of eight GPUs
/// and four switches have under 200 KiB.
pub const MAX_KEPT_ENDORSEMENTS: usize = 1024 * 1024;

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
    /// By machine, which is known by its first device.
    devices: BTreeMap<[u8; 32], KeptDevices>,
    /// The manifests of all of them that are verified, by the SHA-256 of the file.
    manifests: BTreeMap<[u8; 32], Arc<Manifest>>,
}

struct KeptDevices {
    noted: NotedDevices,
    used: u64,
}

/// NVIDIA's endorsements, by the SHA-256 of all of them.
#[derive(Clone)]
pub(crate) struct NotedDevices {
    sha256: [u8; 32],
    pub(crate) prepared: Arc<PreparedDevices>,
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
    devices: Option<([u8; 32], NotedDevices)>,
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

    pub(crate) fn devices(&mut self, machine: [u8; 32], noted: &NotedDevices) {
        self.devices = Some((machine, noted.clone()));
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

    /// How many machines it knows NVIDIA's endorsements of.
    #[must_use]
    pub fn device_endorsements(&self) -> usize {
        self.state().devices.len()
    }

    /// Whether a reference integrity manifest of these bytes is known: it is not parsed and its chain and signature are not
    /// verified again. Whether its root is trusted, and time and revocation, are looked at each time.
    #[must_use]
    pub fn knows_manifest(&self, document: &[u8]) -> bool {
        self.manifest(&sha256(document).0).is_some()
    }

    fn manifest(&self, sha256: &[u8; 32]) -> Option<Arc<Manifest>> {
        self.state().manifests.get(sha256).map(Arc::clone)
    }

    /// Whether endorsements are of a size that is kept.
    pub(crate) fn takes(&self, endorsements: &NvidiaEndorsements) -> bool {
        let NvidiaEndorsements { crls, ocsp, rims } = endorsements;
        let all = [crls, ocsp, rims].into_iter().flatten();
        all.map(|bytes| bytes.as_bytes().len()).sum::<usize>() <= MAX_KEPT_ENDORSEMENTS
    }

    /// NVIDIA's endorsements, as far as they are known. The appraisal that uses them changes nothing here before it has
    /// accepted.
    pub(crate) fn devices(&self, endorsements: &NvidiaEndorsements) -> NotedDevices {
        let Fingerprint { manifests, whole } = Fingerprint::new(endorsements);
        if let Some(known) = self.state().devices_of(&whole) {
            return known;
        }
        let recalled: Vec<_> = manifests.iter().map(|sha256| self.manifest(sha256)).collect();
        let prepared = Arc::new(PreparedDevices::recalling(endorsements, &recalled));
        NotedDevices { sha256: whole, prepared }
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
        if let Some((machine, noted)) = learned.devices {
            state.keep_devices(machine, noted);
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

    fn devices_of(&self, sha256: &[u8; 32]) -> Option<NotedDevices> {
        self.devices.values().find(|kept| kept.noted.sha256 == *sha256).map(|kept| kept.noted.clone())
    }

    /// Puts a machine's endorsements in the place of its earlier ones, or else of the ones used least recently where there are
    /// as many as there may be.
    fn keep_devices(&mut self, machine: [u8; 32], noted: NotedDevices) {
        let used = self.next_turn();
        if let Some(kept) = self.devices.get_mut(&machine)
            && kept.noted.sha256 == noted.sha256
        {
            kept.used = used;
            return;
        }
        if !self.devices.contains_key(&machine) && self.devices.len() >= MAX_DEVICE_ENDORSEMENTS {
            let oldest = self.devices.iter().min_by_key(|(_, kept)| kept.used).map(|(machine, _)| *machine);
            oldest.map(|machine| self.devices.remove(&machine));
        }
        // Of two that were prepared at the same time, one is enough.
        let noted = self.devices_of(&noted.sha256).unwrap_or(noted);
        self.devices.insert(machine, KeptDevices { noted, used });
        let kept = self.devices.values().flat_map(|kept| kept.noted.prepared.verified_manifests());
        self.manifests = kept.map(|(sha256, manifest)| (sha256, Arc::clone(manifest))).collect();
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
            .field("endorsements", &self.device_endorsements())
            .finish()
    }
}
