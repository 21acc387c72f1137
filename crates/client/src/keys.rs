//! What is known of guests by their TLS keys: the verdicts that connections to them may rest on.
//!
//! A verdict is about a key and not about an address: whoever shows the key, and holds it, is the guest that drew it. The
//! clients of a fleet share what they know of keys, so that a guest behind several addresses is attested once, and
//! evidence for its key that is refused at one of them ends what rests on the key at all of them.
//!
//! Nobody can end a verdict about a key without holding it. Evidence is asked for once a handshake has shown that the peer
//! holds its key, and it comes over that very connection: an address that hands a connection on to another guest hands on
//! that guest's own evidence. It can delay it or cut it short, which is no refusal, and for which nobody at another address
//! waits: attempts are shared at one address alone. What a peer shows under a key of its own changes nothing about any other.

use confide_channel::{Verdict, VerdictCache};
use confide_evidence::record::RecordedReferences;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// What clients under one policy know of keys.
pub(crate) struct Keys {
    verdicts: Mutex<VerdictCache>,
    /// Told when a verdict has ended before its time.
    revoked: watch::Sender<()>,
}

impl Default for Keys {
    fn default() -> Self {
        Self { verdicts: Mutex::default(), revoked: watch::Sender::new(()) }
    }
}

impl Keys {
    /// The verdict that a connection to this key may ride on now.
    pub(crate) fn verdict_for(&self, spki: &[u8; 32]) -> Option<Arc<Verdict>> {
        self.verdicts().verdict_for(spki)
    }

    /// Keeps a verdict for further connections, where its policy lets them ride on it.
    pub(crate) fn insert(&self, verdict: &Arc<Verdict>) {
        self.verdicts().insert(Arc::clone(verdict));
    }

    /// Ends every verdict about a key whose evidence is no longer accepted.
    pub(crate) fn revoke(&self, spki: &[u8; 32]) {
        let ended = self.verdicts().revoke(spki);
        if ended > 0 {
            self.revoked.send_replace(());
        }
    }

    /// Tells of verdicts that end before their time.
    pub(crate) fn revocations(&self) -> watch::Receiver<()> {
        self.revoked.subscribe()
    }

    fn verdicts(&self) -> MutexGuard<'_, VerdictCache> {
        self.verdicts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the clients of a fleet know of keys, by what their verdicts are made by: a verdict under one policy says nothing
/// under another.
#[derive(Default)]
pub(crate) struct KeyRing(Mutex<Vec<Known>>);

struct Known {
    policy: Box<str>,
    references: Option<RecordedReferences>,
    keys: Arc<Keys>,
}

impl KeyRing {
    /// What is known under a policy, by its text, and the file of reference values that it names.
    pub(crate) fn under(&self, policy: &str, references: Option<&RecordedReferences>) -> Arc<Keys> {
        let mut ring = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known =
            ring.iter().find(|known| &*known.policy == policy && known.references.as_ref() == references);
        if let Some(known) = known {
            return Arc::clone(&known.keys);
        }
        let keys = Arc::<Keys>::default();
        ring.push(Known { policy: policy.into(), references: references.cloned(), keys: Arc::clone(&keys) });
        keys
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_under_one_policy_is_not_known_under_another() {
        let ring = KeyRing::default();
        let references =
            RecordedReferences { file: b"{}".to_vec().into(), last_seen: None, signature: Vec::new().into() };
        let known = [("a", None), ("b", None), ("a", Some(&references))];
        let keys = known.map(|(policy, references)| ring.under(policy, references));
        for (place, (policy, references)) in known.into_iter().enumerate() {
            let again = ring.under(policy, references);
            let same: Vec<bool> = keys.iter().map(|one| Arc::ptr_eq(one, &again)).collect();
            let expected: Vec<bool> = (0..keys.len()).map(|other| other == place).collect();
            assert_eq!(same, expected, "{policy}");
        }
    }
}
