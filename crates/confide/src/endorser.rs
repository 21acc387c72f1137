//! Where endorsements come from that no file and no guest gives.

use crate::input::ALGORITHMS;
use crate::render;
use crate::status::{Failure, Status};
use confide_client::Endorsing;
use confide_endorser::{
    Amd, BaseUrl, Cache, Endorser, EndorserBuilder, EndorserError, Intel, Network, Nvidia, Origin,
    PlatformError, SetupError, SnpPlatform, TdxPlatform, Trust, Update,
};
use confide_evidence::document::{SnpEndorsements, TdxCollateral};
use confide_evidence::pem::MAX_PEM;
use confide_evidence::tdx::{Padding, Quote};
use confide_policy::AppraisalPolicy;
use confide_verifier::verify_origin;
use rustls_pki_types::UnixTime;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What is waited for where Intel's collateral is fetched.
pub(crate) const COLLATERAL: &str = "asking for Intel's collateral";

/// Where endorsements come from that no file and no guest gives.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct EndorserFlags {
    #[command(flatten)]
    keeping: Keeping,
    /// Provisioning Certificate Caching Service to ask in place of Intel's own service, https://HOST[:PORT]
    #[arg(long, value_name = "URL")]
    pccs: Option<BaseUrl>,
    /// Certificate that the PCCS shows, PEM: exactly this one is trusted, in place of the web authorities
    #[arg(long, value_name = "FILE", requires = "pccs")]
    pccs_certificate: Option<PathBuf>,
    /// TCB levels to ask for: standard, early (those of the latest TCB recovery, from its first day), both (the verdict
    /// rests on the standard ones and warns of the early ones), or a tcbEvaluationDataNumber
    #[arg(long, value_name = "UPDATE", default_value = "standard")]
    update: Update,
}

/// Whether services are asked, and where what they give is kept.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Keeping {
    /// Do not ask any vendor's service: the cache has to do
    #[arg(long)]
    offline: bool,
    #[command(flatten)]
    cache: CacheFlag,
}

/// Where endorsements are kept.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct CacheFlag {
    /// Folder of the cache; without it $XDG_CACHE_HOME/confide/endorsements or ~/.cache/confide/endorsements
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
}

impl CacheFlag {
    /// The cache. There is none where nothing names its place.
    pub(crate) fn cache(&self) -> Option<Cache> {
        self.cache.clone().map(Cache::at).or_else(Cache::of_user)
    }

    /// The cache, of a command that is about it.
    pub(crate) fn required(&self) -> Result<Cache, Failure> {
        self.cache().ok_or_else(|| {
            Failure::new(Status::Usage, "cache_unknown", "neither XDG_CACHE_HOME nor HOME is set")
                .hint("name the cache's folder with --cache DIR")
        })
    }
}

impl Keeping {
    fn builder(&self) -> EndorserBuilder {
        Endorser::builder().cache(self.cache.cache()).network(self.network())
    }

    fn network(&self) -> Network {
        if self.offline { Network::Offline } else { Network::Online }
    }

    /// AMD's endorsements of the key that signs a report.
    pub(crate) async fn snp(
        &self,
        amd: Amd,
        platform: SnpPlatform,
        at: UnixTime,
    ) -> Result<SnpEndorsements, Failure> {
        let endorser = self.builder().amd(amd).build();
        let fetched =
            render::with_progress("asking for AMD's certificates and list", endorser.snp(platform, at));
        fetched.await.map_err(|error| failure(&error))
    }
}

impl EndorserFlags {
    /// The endorser. It asks nobody yet.
    fn endorser(&self) -> Result<Arc<Endorser>, Failure> {
        Ok(Arc::new(self.keeping.builder().intel(self.intel()?).build()))
    }

    /// The endorser, which asks these services of NVIDIA's.
    pub(crate) fn endorser_with(&self, nvidia: Nvidia) -> Result<Endorser, Failure> {
        Ok(self.keeping.builder().intel(self.intel()?).nvidia(nvidia).build())
    }

    /// Which TCB levels are asked for.
    pub(crate) fn update(&self) -> Update {
        self.update
    }

    /// Whether services are asked.
    pub(crate) fn network(&self) -> Network {
        self.keeping.network()
    }

    /// Whether services are asked, and where what they give is kept.
    pub(crate) fn keeping(&self) -> &Keeping {
        &self.keeping
    }

    /// What fetches collateral for guests that staple none.
    pub(crate) fn endorsing(&self) -> Result<Endorsing, Failure> {
        Ok(Endorsing::new(self.endorser()?, self.update))
    }

    /// The collateral of a platform.
    pub(crate) async fn collateral(
        &self,
        platform: TdxPlatform,
        at: UnixTime,
    ) -> Result<TdxCollateral, Failure> {
        let endorser = self.endorser()?;
        let fetching = endorser.tdx(platform, self.update, at);
        render::with_progress(COLLATERAL, fetching).await.map_err(|error| failure(&error))
    }

    fn intel(&self) -> Result<Intel, Failure> {
        let Some(base) = self.pccs.clone() else { return Ok(Intel::pcs()) };
        Ok(Intel::pccs(Origin { base, trust: trust(self.pccs_certificate.as_deref())? }))
    }
}

/// Trust in the one certificate of a file; without a file, in the web authorities.
pub(crate) fn trust(certificate: Option<&Path>) -> Result<Trust, Failure> {
    let Some(path) = certificate else { return Ok(Trust::web()) };
    let pem = crate::input::read(path, MAX_PEM)?;
    Trust::pinned(&pem, path).map_err(|error| unusable(&error))
}

/// The platform that a quote is of, whose own signatures hold up to a root that the policy accepts. `None` for anything
/// else: the verifier says why.
pub(crate) fn signed_platform(
    quote: &[u8],
    policy: &AppraisalPolicy,
) -> Result<Option<TdxPlatform>, Failure> {
    let Ok(parsed) = Quote::parse(quote, Padding::Zeros) else { return Ok(None) };
    if verify_origin(&parsed, policy, &ALGORITHMS).is_err() {
        return Ok(None);
    }
    platform(quote)
}

/// The platform that a quote says it is of. `None` for bytes that are no quote.
pub(crate) fn platform(quote: &[u8]) -> Result<Option<TdxPlatform>, Failure> {
    let Ok(quote) = Quote::parse(quote, Padding::Zeros) else { return Ok(None) };
    let malformed = |error: PlatformError| {
        Failure::new(Status::Malformed, "quote_platform", format!("the quote's platform: {error}"))
    };
    TdxPlatform::of_quote(&quote).map(Some).map_err(malformed)
}

/// An endorser's error as a failure of the program.
pub(crate) fn failure(error: &EndorserError) -> Failure {
    Failure::new(Status::Internal, error.code(), error.to_string()).hint(error.hint())
}

/// A file that holds no certificate is malformed input, like any other file.
fn unusable(error: &SetupError) -> Failure {
    let status = match error {
        SetupError::Pin { .. } => Status::Malformed,
        _ => Status::Internal,
    };
    Failure::new(status, error.code(), error.to_string())
}
