//! Collateral that a guest staples to its evidence, kept fresh in the background.

use std::error::Error;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use confide_evidence::document::TdxCollateral;
use confide_evidence::hex;
use confide_evidence::tdx::{
    CollateralError, MAX_COLLATERAL, TcbInfo, collateral_from_json, collateral_windows,
};
use confide_evidence::time::{format_seconds, seconds};
use rustls_pki_types::UnixTime;

use crate::endorser::{Endorser, now};
use crate::error::EndorserError;
use crate::intel::Update;
use crate::limits::jitter;
use crate::platform::TdxPlatform;

/// The most bytes that are stapled. A document has 4 MiB, of which GPU evidence needs its part; Intel's collateral has
/// some 100 KiB.
pub const MAX_STAPLE: usize = 2 * 1024 * 1024;

/// What is stapled at present. Clones are the same staple.
#[derive(Clone, Debug, Default)]
pub struct Staple(Arc<RwLock<Option<Stapled>>>);

#[derive(Clone, Debug)]
struct Stapled {
    collateral: Arc<TdxCollateral>,
    /// The last second of its validity, since the Unix epoch.
    until: i64,
}

/// Where collateral to be stapled comes from.
#[derive(Clone)]
pub enum Source {
    /// A file in the form `QuoteCollateralV3`, which somebody else replaces in time.
    File(PathBuf),
    /// A service.
    Service {
        /// Who asks.
        endorser: Arc<Endorser>,
        /// For which set of TCB levels.
        update: Update,
        /// The guest's own platform. It may block, and is asked until it answers.
        platform: FindPlatform,
    },
}

/// Finds out a guest's own platform. It may block.
pub type FindPlatform = Arc<dyn Fn() -> Result<TdxPlatform, Box<dyn Error + Send + Sync>> + Send + Sync>;

/// How often collateral is refreshed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// After a refresh. Sooner, where what there is ends sooner.
    pub refresh: Duration,
    /// After a first failure; it doubles with each further one, up to `refresh`.
    pub retry: Duration,
}

/// Keeps a staple fresh.
pub struct Stapler {
    source: Source,
    pace: Pace,
    staple: Staple,
    platform: Option<TdxPlatform>,
    failures: u32,
    /// Whether it was told that there is nothing to staple any more.
    told_over: bool,
}

/// Why a staple was not refreshed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StapleError {
    /// The file cannot be read.
    #[error("{path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What there is cannot be read.
    #[error(transparent)]
    Malformed(#[from] CollateralError),
    /// What there is is valid at another time.
    #[error("{part} is valid from {} to {}", format_seconds(*from), format_seconds(*until))]
    NotValid {
        /// The first part that is not valid now.
        part: String,
        /// Start of its window, seconds since the Unix epoch.
        from: i64,
        /// End of its window.
        until: i64,
    },
    /// What there is is larger than [`MAX_STAPLE`].
    #[error("{0} bytes, more than {MAX_STAPLE}")]
    TooLarge(usize),
    /// The guest's own platform is not known.
    #[error("the platform is not known: {0}")]
    Platform(Box<dyn Error + Send + Sync>),
    /// The service.
    #[error(transparent)]
    Endorser(#[from] EndorserError),
}

impl StapleError {
    /// A stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "staple_unreadable",
            Self::Malformed(_) => "staple_malformed",
            Self::NotValid { .. } => "staple_not_valid",
            Self::TooLarge(_) => "staple_too_large",
            Self::Platform(_) => "staple_platform",
            Self::Endorser(error) => error.code(),
        }
    }
}

impl Default for Pace {
    fn default() -> Self {
        Self { refresh: Duration::from_secs(24 * 60 * 60), retry: Duration::from_secs(60) }
    }
}

impl Pace {
    /// The pause after a refresh of what is valid for `left`: a quarter of it at most, less up to a tenth that `part`
    /// (0..=1) draws, so that guests that began together do not ask together.
    fn after_success(&self, left: Duration, part: f64) -> Duration {
        let quarter = left.checked_div(4).unwrap_or_default();
        self.refresh.min(quarter).mul_f64(1.0 - part.clamp(0.0, 1.0) / 10.0)
    }

    /// The pause after the given number of failures in a row, one or more.
    fn after_failure(&self, failures: u32, part: f64) -> Duration {
        let doubled = self.retry.saturating_mul(1 << failures.saturating_sub(1).min(16));
        doubled.min(self.refresh).mul_f64(1.0 - part.clamp(0.0, 1.0) / 10.0)
    }
}

impl Staple {
    /// What is to be stapled at `at`: nothing before it was fetched, and nothing whose time is over.
    #[must_use]
    pub fn current(&self, at: UnixTime) -> Option<Arc<TdxCollateral>> {
        let stapled = self.0.read().unwrap_or_else(PoisonError::into_inner);
        stapled
            .as_ref()
            .filter(|stapled| seconds(at) <= stapled.until)
            .map(|stapled| Arc::clone(&stapled.collateral))
    }

    fn put(&self, stapled: Stapled) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(stapled);
    }
}

impl Stapler {
    /// Keeps a staple fresh that is empty yet.
    #[must_use]
    pub fn new(source: Source, pace: Pace) -> Self {
        Self { source, pace, staple: Staple::default(), platform: None, failures: 0, told_over: false }
    }

    /// The staple that it keeps fresh.
    #[must_use]
    pub fn staple(&self) -> Staple {
        self.staple.clone()
    }

    /// Refreshes the staple for as long as it is polled.
    pub async fn run(mut self) {
        loop {
            let pause = self.refresh().await;
            tokio::time::sleep(pause).await;
        }
    }

    /// Refreshes the staple once, and says how long to wait for the next time. Where nothing new is to be had, the staple
    /// stays as it is to the end of its validity; the first of several failures is told.
    pub async fn refresh(&mut self) -> Duration {
        match self.load().await {
            Ok(stapled) => {
                if std::mem::take(&mut self.failures) > 0 {
                    tracing::info!("stapled collateral refreshed again");
                }
                self.told_over = false;
                let left = stapled.until.saturating_sub(seconds(now()));
                self.staple.put(stapled);
                let left = Duration::from_secs(u64::try_from(left).unwrap_or_default());
                self.pace.after_success(left, jitter()).max(Duration::from_secs(1).min(self.pace.retry))
            }
            Err(error) => {
                self.failures = self.failures.saturating_add(1);
                self.tell(&error);
                self.pace.after_failure(self.failures, jitter())
            }
        }
    }

    fn tell(&mut self, error: &StapleError) {
        let code = error.code();
        if self.failures == 1 {
            tracing::warn!(code, %error, "stapled collateral not refreshed");
        } else {
            tracing::debug!(code, %error, failures = self.failures, "stapled collateral not refreshed");
        }
        if self.staple.current(now()).is_none() && !std::mem::replace(&mut self.told_over, true) {
            tracing::warn!("no collateral is stapled: clients have to fetch it themselves");
        }
    }

    async fn load(&mut self) -> Result<Stapled, StapleError> {
        let collateral = match self.source.clone() {
            Source::File(path) => read(path).await?,
            Source::Service { endorser, update, platform } => {
                let platform = self.platform(platform).await?;
                endorser.tdx(platform, update, now()).await?
            }
        };
        stapled(collateral)
    }

    async fn platform(&mut self, find: FindPlatform) -> Result<TdxPlatform, StapleError> {
        if let Some(platform) = self.platform {
            return Ok(platform);
        }
        let found = tokio::task::spawn_blocking(move || find()).await;
        let platform =
            found.map_err(|error| StapleError::Platform(error.into()))?.map_err(StapleError::Platform)?;
        Ok(*self.platform.insert(platform))
    }
}

async fn read(path: PathBuf) -> Result<TdxCollateral, StapleError> {
    let reading = tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        let most = u64::try_from(MAX_COLLATERAL).unwrap_or(u64::MAX).saturating_add(1);
        let read = File::open(&path).and_then(|file| file.take(most).read_to_end(&mut bytes));
        read.map_err(|source| StapleError::Unreadable { path, source })?;
        Ok(collateral_from_json(&bytes)?)
    });
    reading.await.map_err(|error| StapleError::Platform(error.into()))?
}

/// What may be stapled: what is valid now, and not too large.
fn stapled(collateral: TdxCollateral) -> Result<Stapled, StapleError> {
    let size = size(&collateral);
    if size > MAX_STAPLE {
        return Err(StapleError::TooLarge(size));
    }
    let (windows, present) = (collateral_windows(&collateral)?, seconds(now()));
    if let Some(window) = windows.iter().find(|window| !window.contains(present)) {
        let (part, from, until) = (window.part.clone(), window.from, window.until);
        return Err(StapleError::NotValid { part, from, until });
    }
    let fmspc = hex::encode(&TcbInfo::parse(&collateral.tcb_info)?.fmspc);
    let until = windows.iter().map(|window| window.until).min().unwrap_or(present);
    tracing::debug!(fmspc, until = format_seconds(until), "collateral stapled");
    Ok(Stapled { collateral: Arc::new(collateral), until })
}

fn size(collateral: &TdxCollateral) -> usize {
    let chains = [
        &collateral.pck_crl_issuer_chain,
        &collateral.tcb_info_issuer_chain,
        &collateral.qe_identity_issuer_chain,
    ];
    let early = collateral.early.as_ref();
    let texts = [&collateral.tcb_info, &collateral.qe_identity].into_iter().chain(chains);
    let texts = texts
        .chain(&collateral.pck_certificate_chain)
        .chain(early.into_iter().flat_map(|early| [&early.tcb_info, &early.qe_identity]));
    let lists = [collateral.pck_crl.as_bytes().len(), collateral.root_ca_crl.as_bytes().len()];
    texts.map(String::len).chain(lists).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_staple_is_refreshed_long_before_its_end() {
        let pace = Pace::default();
        let day = Duration::from_secs(86_400);
        assert_eq!(pace.after_success(29 * day, 0.0), day);
        assert_eq!(pace.after_success(29 * day, 1.0), day.mul_f64(0.9));
        assert_eq!(pace.after_success(2 * day, 0.0), day / 2);
        assert_eq!(pace.after_success(Duration::ZERO, 0.0), Duration::ZERO);
    }

    #[test]
    fn pauses_after_failures_double_up_to_that_of_refreshes() {
        let pace = Pace::default();
        let minutes: Vec<u64> =
            (1..=4).map(|failures| pace.after_failure(failures, 0.0).as_secs() / 60).collect();
        assert_eq!(minutes, [1, 2, 4, 8]);
        assert_eq!(pace.after_failure(u32::MAX, 0.0), pace.refresh);
        assert_eq!(pace.after_failure(1, 1.0), pace.retry.mul_f64(0.9));
    }
}
