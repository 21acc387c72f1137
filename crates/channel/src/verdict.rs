//! A verdict as a channel holds it: a witness, and when it was asked for.

use crate::clock::Moment;
use crate::error::ChannelError;
use confide_evidence::document::{Claims, KeySet};
use confide_policy::Attest;
use confide_verifier::{AttestationResult, Attested, Voucher};
use rustls_pki_types::UnixTime;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::Notify;

/// What a channel rests on: the witness of an appraisal that one connection was opened with.
///
/// Made by [`crate::AttestedChannel::open`] alone; shared, never copied.
pub struct Verdict {
    attested: Attested,
    /// Of the same evidence.
    voucher: Voucher,
    asked: Moment,
    attest: Attest,
    /// Whether later evidence for the same key was refused.
    revoked: AtomicBool,
    /// Tells those who wait for that.
    revocation: Notify,
}

/// How long a wait for a verdict's end lasts before the clocks are asked again: a timer knows neither of a suspension nor of a
/// wall clock that is set.
const LOOK: Duration = Duration::from_secs(1);

impl Verdict {
    pub(crate) fn new(attested: Attested, asked: Moment, attest: Attest) -> Self {
        let voucher = Voucher::new(attested.boot_id(), attested.claims(), attested.key_set());
        Self { attested, voucher, asked, attest, revoked: AtomicBool::new(false), revocation: Notify::new() }
    }

    /// SHA-256 of the SubjectPublicKeyInfo of the TLS key that the verdict is about.
    #[must_use]
    pub fn spki(&self) -> &[u8; 32] {
        self.attested.spki()
    }

    /// The nonce that the evidence was asked with, 32 bytes: no other appraisal has it.
    #[must_use]
    pub fn nonce(&self) -> &[u8; 32] {
        self.attested.nonce()
    }

    /// The whole result.
    #[must_use]
    pub fn result(&self) -> &AttestationResult {
        self.attested.result()
    }

    /// What vouches for receipts of the guest.
    #[must_use]
    pub fn voucher(&self) -> &Voucher {
        &self.voucher
    }

    /// The appraised claims.
    #[must_use]
    pub fn claims(&self) -> &Claims {
        self.attested.claims()
    }

    /// The appraised key set.
    #[must_use]
    pub fn key_set(&self) -> &KeySet {
        self.attested.key_set()
    }

    /// Until when the verdict holds, by the wall clock.
    #[must_use]
    pub fn valid_until(&self) -> UnixTime {
        self.attested.valid_until()
    }

    /// Until when what endorses the evidence holds, by the wall clock: the earliest end of a certificate, a revocation list or
    /// other collateral that the verdict rests on, or of the age that the policy allows it. Younger evidence does not prolong
    /// it.
    #[must_use]
    pub fn endorsed_until(&self) -> UnixTime {
        self.attested.endorsed_until()
    }

    /// How long what endorses the evidence still holds at a moment, by the two clocks that [`left`](Self::left) goes by.
    #[must_use]
    pub fn endorsed_for(&self, now: Moment) -> Duration {
        now.left_until(self.attested.endorsed_until(), self.asked)
    }

    /// When the evidence was asked for.
    #[must_use]
    pub fn asked(&self) -> Moment {
        self.asked
    }

    /// How long the verdict still holds at a moment; zero when its time is over or it has been revoked.
    #[must_use]
    pub fn left(&self, now: Moment) -> Duration {
        if self.revoked.load(Ordering::Acquire) {
            return Duration::ZERO;
        }
        now.left_until(self.attested.valid_until(), self.asked)
    }

    /// # Errors
    /// [`ChannelError::VerdictRevoked`], [`ChannelError::VerdictExpired`].
    pub(crate) fn check(&self, now: Moment) -> Result<(), ChannelError> {
        match self.left(now) {
            _ if self.revoked.load(Ordering::Acquire) => Err(ChannelError::VerdictRevoked),
            Duration::ZERO => Err(ChannelError::VerdictExpired),
            _ => Ok(()),
        }
    }

    /// Waits until the verdict no longer holds.
    pub(crate) async fn end(&self) -> ChannelError {
        loop {
            let revoked = self.revocation.notified();
            let now = Moment::now();
            if let Err(error) = self.check(now) {
                return error;
            }
            let _ = tokio::time::timeout(self.left(now).min(LOOK), revoked).await;
        }
    }

    /// Whether a further connection to `spki` may rest on this verdict.
    pub(crate) fn check_ride(&self, spki: &[u8; 32], now: Moment) -> Result<(), ChannelError> {
        if self.attest == Attest::EveryConnection {
            return Err(ChannelError::EveryConnection);
        }
        if self.spki() != spki {
            return Err(ChannelError::KeyMismatch);
        }
        self.check(now)
    }
}

impl fmt::Debug for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verdict")
            .field("spki", &confide_evidence::hex::encode(self.spki()))
            .finish_non_exhaustive()
    }
}

/// The verdicts that further connections may ride on, one a key. For one policy: verdicts under another belong into
/// another cache. Which address a key was met at does not matter: a verdict is about the key.
#[derive(Debug, Default)]
pub struct VerdictCache {
    verdicts: BTreeMap<[u8; 32], Arc<Verdict>>,
    /// Every verdict that something still rests on: channels keep theirs when a younger one takes its place here.
    resting: Vec<Weak<Verdict>>,
}

/// The most keys that a cache holds; the verdict with the least time left makes way. The largest fleet has 128 addresses,
/// behind each of which several guests may stand.
const MAX_VERDICTS: usize = 1024;

impl VerdictCache {
    /// Keeps a verdict, in the place of an earlier one about the same key. Verdicts that no connection may ride on are
    /// not kept, and can be revoked all the same.
    pub fn insert(&mut self, verdict: Arc<Verdict>) {
        let now = Moment::now();
        self.resting.retain(|verdict| verdict.strong_count() > 0);
        self.resting.push(Arc::downgrade(&verdict));
        self.verdicts.retain(|_, kept| !kept.left(now).is_zero());
        let spki = *verdict.spki();
        if verdict.check_ride(&spki, now).is_err() {
            self.verdicts.remove(&spki);
            return;
        }
        if self.verdicts.len() >= MAX_VERDICTS && !self.verdicts.contains_key(&spki) {
            let shortest = self.verdicts.iter().min_by_key(|(_, kept)| kept.left(now)).map(|(key, _)| *key);
            shortest.and_then(|key| self.verdicts.remove(&key));
        }
        self.verdicts.insert(spki, verdict);
    }

    /// The verdict that a connection to this key may ride on now.
    #[must_use]
    pub fn verdict_for(&self, spki: &[u8; 32]) -> Option<Arc<Verdict>> {
        let kept = self.verdicts.get(spki)?;
        kept.check_ride(spki, Moment::now()).is_ok().then(|| Arc::clone(kept))
    }

    /// Revokes every verdict about a key that was ever inserted: its evidence is no longer accepted. Channels that rest
    /// on one of them send nothing more. Says how many ended before their time.
    pub fn revoke(&mut self, spki: &[u8; 32]) -> usize {
        let now = Moment::now();
        let mut ended: usize = 0;
        let resting = self.resting.iter().filter_map(Weak::upgrade);
        for verdict in resting.filter(|verdict| verdict.spki() == spki) {
            ended = ended.saturating_add(usize::from(!verdict.left(now).is_zero()));
            verdict.revoked.store(true, Ordering::Release);
            verdict.revocation.notify_waiters();
        }
        self.verdicts.remove(spki);
        ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The forgery of the crate's documentation, in the one place whose privacy does not stop it: a field that is renamed
    /// stops this from compiling, so that the documentation cannot forbid what no longer exists.
    #[test]
    fn the_forgery_of_the_documentation_compiles_where_the_fields_can_be_seen() {
        fn forge(attested: Attested, genuine: Verdict) -> Verdict {
            Verdict { attested, ..genuine }
        }
        let _: fn(Attested, Verdict) -> Verdict = forge;
        let (here, documentation) = (include_str!("verdict.rs"), include_str!("lib.rs"));
        let line = "Verdict { attested, ..genuine }";
        assert_eq!(documentation.matches(&format!("//! {line}\n")).count(), 1);
        assert_eq!(here.matches(&format!("            {line}\n")).count(), 1);
    }
}
