//! What the guest staples to its evidence, so that its clients need nobody else.

use std::path::PathBuf;
use std::sync::Arc;

use confide_attester::Attester;
use confide_endorser::{
    Cache, Endorser, FindPlatform, Intel, Origin, Pace, Source, Staple, Stapler, TdxPlatform, Trust, Update,
};
use tokio::task::JoinHandle;

use crate::config::{EndorsementSource, Endorsements};
use crate::error::GuestError;

/// What a configuration asks for. Everything that the operator can have got wrong has been looked at.
pub(crate) struct Prepared {
    from: From,
    pace: Pace,
}

enum From {
    File(PathBuf),
    Service(Arc<Endorser>, Update),
}

/// A staple that is kept fresh for as long as this is.
pub(crate) struct Stapling {
    staple: Staple,
    work: JoinHandle<()>,
}

impl Prepared {
    /// Reads what the configuration names.
    pub(crate) fn of(config: &Endorsements) -> Result<Self, GuestError> {
        let pace = Pace { refresh: config.refresh_time(), ..Pace::default() };
        let intel = match &config.source {
            EndorsementSource::File(path) => return Ok(Self { from: From::File(path.clone()), pace }),
            EndorsementSource::Intel => Intel::pcs(),
            EndorsementSource::Pccs { url, certificate } => {
                let trust = match certificate {
                    None => Trust::web(),
                    Some(path) => {
                        let unreadable = |source| GuestError::PccsCertificate { path: path.clone(), source };
                        Trust::pinned(&std::fs::read(path).map_err(unreadable)?, path)?
                    }
                };
                Intel::pccs(Origin { base: url.clone(), trust })
            }
        };
        // What is kept may be half as old as what is stapled gets, so that a refresh is one.
        let endorser = Endorser::builder()
            .intel(intel)
            .cache(config.cache.clone().map(Cache::at))
            .fresh(config.refresh_time().checked_div(2).unwrap_or_default())
            .build();
        Ok(Self { from: From::Service(Arc::new(endorser), config.update), pace })
    }

    /// Begins to staple. A file is read before anybody asks; a service is asked in the background, and the guest serves
    /// meanwhile.
    pub(crate) async fn begin(self, attester: &Arc<Attester>) -> Stapling {
        let (source, at_once) = match self.from {
            From::File(path) => (Source::File(path), true),
            From::Service(endorser, update) => {
                let attester = Arc::clone(attester);
                let platform: FindPlatform =
                    Arc::new(move || Ok(TdxPlatform::of_pck_chain(&attester.pck_chain()?)?));
                (Source::Service { endorser, update, platform }, false)
            }
        };
        let mut stapler = Stapler::new(source, self.pace);
        let staple = stapler.staple();
        let first = if at_once { Some(stapler.refresh().await) } else { None };
        let work = tokio::spawn(async move {
            if let Some(pause) = first {
                tokio::time::sleep(pause).await;
            }
            stapler.run().await;
        });
        Stapling { staple, work }
    }
}

impl Stapling {
    /// What is stapled.
    pub(crate) fn staple(&self) -> Staple {
        self.staple.clone()
    }
}

impl Drop for Stapling {
    fn drop(&mut self) {
        self.work.abort();
    }
}
