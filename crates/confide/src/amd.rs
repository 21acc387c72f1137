//! AMD's Key Distribution Service, as commands about SEV-SNP reports ask it.

use crate::endorser::{self, Keeping};
use crate::guest::block_on;
use crate::status::{Failure, Status};
use confide_endorser::{Amd, BaseUrl, Origin, SnpKey, SnpPlatform};
use confide_evidence::document::SnpEndorsements;
use confide_evidence::snp::{Product, Report};
use rustls_pki_types::UnixTime;
use std::path::{Path, PathBuf};

/// Which of AMD's services is asked, and about which product.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct AmdFlags {
    /// Product of the processor, Milan, Genoa or Turin: reports of version 2 do not name it
    #[arg(long, value_name = "PRODUCT", value_parser = product, requires = "report")]
    product: Option<Product>,
    /// Service to ask in place of AMD's Key Distribution Service, https://HOST[:PORT]
    #[arg(long, value_name = "URL", requires = "report")]
    kds: Option<BaseUrl>,
    /// Certificate that this service shows, PEM: exactly this one is trusted, in place of the web authorities
    #[arg(long, value_name = "FILE", requires = "kds")]
    kds_certificate: Option<PathBuf>,
}

impl AmdFlags {
    /// The service.
    pub(crate) fn amd(&self) -> Result<Amd, Failure> {
        let Some(base) = self.kds.clone() else { return Ok(Amd::kds()) };
        Ok(Amd::kds_at(Origin { base, trust: endorser::trust(self.kds_certificate.as_deref())? }))
    }

    /// The key that signs the report of this file.
    pub(crate) fn platform(&self, report: &Report<'_>, file: &Path) -> Result<SnpPlatform, Failure> {
        SnpPlatform::of_report(report, self.product).map_err(|error| {
            Failure::new(Status::Malformed, "snp_report_platform", format!("{}: {error}", file.display()))
        })
    }
}

/// Where the endorsements of a report come from that no file gives.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Fetching {
    #[command(flatten)]
    amd: AmdFlags,
    #[command(flatten)]
    keeping: Keeping,
}

impl Fetching {
    /// The endorsements of the key that signs the report of this file. `None` for bytes that are no report: the verifier says
    /// why.
    pub(crate) fn endorsements(
        &self,
        report: &[u8],
        file: &Path,
        at: UnixTime,
    ) -> Result<Option<SnpEndorsements>, Failure> {
        let Ok(report) = Report::parse(report) else { return Ok(None) };
        let platform = self.amd.platform(&report, file)?;
        if platform.key == SnpKey::Vlek {
            let message =
                format!("{}: signed by a VLEK, whose certificate AMD does not give", file.display());
            return Err(Failure::new(Status::Usage, "snp_vlek_certificate", message));
        }
        block_on(self.keeping.snp(self.amd.amd()?, platform, at)).map(Some)
    }
}

fn product(text: &str) -> Result<Product, String> {
    Product::from_name(text).ok_or_else(|| "expected Milan, Genoa or Turin".to_owned())
}
