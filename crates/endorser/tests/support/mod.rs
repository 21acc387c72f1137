//! A service of simulated collateral, and endorsers that ask it.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use confide_endorser::{
    BaseUrl, Endorser, EndorserBuilder, EndorserError, Intel, Limits, Origin, ProxySettings, TdxPlatform,
    Trust, Update, now,
};
use confide_evidence::document::TdxCollateral;
use confide_evidence::tdx::{Padding, Quote};
use confide_testkit::vendor::{ListeningVendor, Manner, Platform, PlatformOptions, Vendor};

/// Short enough for tests, long enough for a busy machine.
pub(crate) const LIMITS: Limits = Limits {
    connect: Duration::from_secs(5),
    attempt: Duration::from_secs(5),
    total: Duration::from_secs(20),
    attempts: 3,
    first_pause: Duration::from_millis(10),
    longest_pause: Duration::from_millis(20),
};

/// A service that endorses one platform.
pub(crate) struct Rig {
    pub(crate) service: ListeningVendor,
    pub(crate) platform: Platform,
    pub(crate) asked: TdxPlatform,
    pub(crate) manner: Manner,
}

impl Rig {
    pub(crate) async fn new(manner: Manner) -> Self {
        Self::with(manner, |_| ()).await
    }

    pub(crate) async fn with(manner: Manner, change: impl FnOnce(&mut PlatformOptions)) -> Self {
        Self::of(Vendor::new(manner).unwrap(), manner, change).await
    }

    pub(crate) async fn of(
        vendor: Vendor,
        manner: Manner,
        change: impl FnOnce(&mut PlatformOptions),
    ) -> Self {
        let platform = Platform::new(change).unwrap();
        let quote = Quote::parse(&platform.quote, Padding::Refused).unwrap();
        let asked = TdxPlatform::of_quote(&quote).unwrap();
        let service = vendor.endorsing("standard", platform.served()).listen().await.unwrap();
        Self { service, platform, asked, manner }
    }

    pub(crate) fn vendor(&self) -> &Vendor {
        &self.service.vendor
    }

    pub(crate) fn intel(&self) -> Intel {
        intel(&self.service, self.manner)
    }

    pub(crate) fn builder(&self) -> EndorserBuilder {
        Endorser::builder().intel(self.intel()).limits(LIMITS).proxies(ProxySettings::none())
    }

    pub(crate) async fn ask(&self, endorser: &Endorser) -> Result<TdxCollateral, EndorserError> {
        endorser.tdx(self.asked, Update::Standard, now()).await
    }

    /// Asks without a cache.
    pub(crate) async fn fetch(&self) -> Result<TdxCollateral, EndorserError> {
        self.ask(&self.builder().build()).await
    }
}

pub(crate) fn intel(service: &ListeningVendor, manner: Manner) -> Intel {
    let origin = origin(service);
    match manner {
        Manner::Pcs => Intel::pcs_at(origin.clone(), origin),
        Manner::Pccs => Intel::pccs(origin),
    }
}

pub(crate) fn origin(service: &ListeningVendor) -> Origin {
    let base: BaseUrl = service.url().parse().unwrap();
    let trust = Trust::pinned(service.vendor.certificate().as_bytes(), Path::new("vendor.pem")).unwrap();
    Origin { base, trust }
}

pub(crate) fn code<T>(result: Result<T, EndorserError>) -> &'static str {
    result.map_or_else(|error| error.code(), |_| "ok")
}

/// Collects what is logged at `warn` and above on this thread.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub(crate) fn install(&self) -> tracing::subscriber::DefaultGuard {
        let log = self.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_max_level(tracing::Level::INFO)
            .with_writer(move || log.clone())
            .finish();
        tracing::subscriber::set_default(subscriber)
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().map(str::to_owned).collect()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
