//! Objects of NVIDIA's services into a store.

use confide_evidence::time::seconds;
use rustls_pki_types::UnixTime;

use super::id::RimId;
use super::object::{Content, NvidiaObject, check_window};
use super::rim;
use super::store::{Change, Kept, NvidiaStore};
use crate::endorser::{Endorser, Network, now};
use crate::error::{EndorserError, Fault, StoreError};

/// What became of an object that a store was to have.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Refreshed {
    /// The service gave it.
    Fetched(Kept, Change),
    /// It was fetched so lately that nobody was asked, or nobody may be asked.
    Kept(Kept),
    /// The service did not give it, and what is kept is still of the asked time.
    Instead(Kept, Fault),
}

impl Refreshed {
    /// The object in the store.
    #[must_use]
    pub fn object(&self) -> &Kept {
        match self {
            Self::Fetched(kept, _) | Self::Kept(kept) | Self::Instead(kept, _) => kept,
        }
    }
}

impl Endorser {
    /// Has a store hold an object that is of the time `at`: the present, as services have no past. What is kept is used while
    /// it is fresh. After that the service is asked, and what it gives comes beside what is kept; where it does not answer,
    /// what is kept is used.
    ///
    /// A RIM is of any time: whether its signer's certificate is over, the verifier says. The store's files are read and
    /// written on the calling task: they are few and small.
    ///
    /// # Errors
    /// [`EndorserError`].
    pub async fn refresh(
        &self,
        store: &NvidiaStore,
        object: NvidiaObject<'_>,
        at: UnixTime,
    ) -> Result<Refreshed, EndorserError> {
        let at = seconds(at);
        let kept = newest(store, &object, at)?;
        match (kept, self.network) {
            (Some(kept), Network::Offline) => Ok(Refreshed::Kept(kept)),
            (None, Network::Offline) => Err(EndorserError::Offline { object: object.to_string() }),
            (Some(kept), Network::Online) if self.is_lately(&kept) => Ok(Refreshed::Kept(kept)),
            (kept, Network::Online) => match self.fetched_from(&object, at).await {
                Ok((bytes, content, from)) => {
                    let (kept, change) = store.put(&content, &bytes, Some((seconds(now()), from)))?;
                    Ok(Refreshed::Fetched(kept, change))
                }
                Err((fault, from)) => match kept {
                    Some(kept) => {
                        let code = fault.code();
                        tracing::warn!(object = %object, code, %fault, "kept endorsement used");
                        Ok(Refreshed::Instead(kept, fault))
                    }
                    None => Err(EndorserError::Fetch { object: object.to_string(), from, fault }),
                },
            },
        }
    }

    /// The ids of all RIMs of GPUs and switches that NVIDIA's service has, sorted.
    ///
    /// # Errors
    /// [`EndorserError`].
    pub async fn rim_ids(&self) -> Result<Vec<RimId>, EndorserError> {
        let object = || "the list of RIMs".to_owned();
        if self.network == Network::Offline {
            return Err(EndorserError::Offline { object: object() });
        }
        let ask = self.services.nvidia.rim_ids();
        let found = self.fetcher.ask(&ask).await.and_then(|answer| rim::listed(&answer.body));
        let from = || ask.origin.base.authority().to_string();
        found.map_err(|fault| EndorserError::Fetch { object: object(), from: from(), fault })
    }

    /// Bytes, what they hold, and whose they are: host and port, which a fault comes with, too.
    async fn fetched_from(
        &self,
        object: &NvidiaObject<'_>,
        at: i64,
    ) -> Result<(Vec<u8>, Content, String), (Fault, String)> {
        let ask = object.request(&self.services.nvidia);
        let from = ask.origin.base.authority().to_string();
        let read = async {
            let answer = self.fetcher.ask(&ask).await?;
            let (bytes, content) = object.read(&answer.body)?;
            if !matches!(content, Content::Rim(..)) {
                check_window(&content.window(), at)?;
            }
            Ok((bytes, content))
        };
        match read.await {
            Ok((bytes, content)) => Ok((bytes, content, from)),
            Err(fault) => Err((fault, from)),
        }
    }

    fn is_lately(&self, kept: &Kept) -> bool {
        let Some((fetched, _)) = kept.fetched else { return false };
        let age = seconds(now()).saturating_sub(fetched);
        u64::try_from(age).is_ok_and(|age| age < self.fresh.as_secs())
    }
}

/// What was fetched last of what is kept of an object and is of the time `at`.
fn newest(store: &NvidiaStore, object: &NvidiaObject<'_>, at: i64) -> Result<Option<Kept>, StoreError> {
    let of_time = |content: &Content| {
        matches!(content, Content::Rim(..)) || check_window(&content.window(), at).is_ok()
    };
    let found = store.found(object)?.into_iter().filter(|(_, content)| of_time(content));
    Ok(found.map(|(kept, _)| kept).max_by_key(|kept| (kept.fetched.clone(), kept.window.from)))
}
