//! `confide collateral fetch --report`: what AMD says of the key that signs an SEV-SNP report.

use super::{Fetch, Part, json, write};
use crate::amd::AmdFlags;
use crate::status::{Failure, Status};
use crate::{guest, input, render};
use confide_endorser::SnpPlatform;
use confide_evidence::document::SnpEndorsements;
use confide_evidence::pem;
use confide_evidence::snp::{Product, REPORT, Report};
use confide_evidence::tdx::{CollateralWindow, crl_window};
use confide_evidence::time::{format_seconds, seconds};
use confide_evidence::x509::Certificate;
use rustls_pki_types::UnixTime;
use serde::Serialize;
use std::path::PathBuf;

/// Which report, and whom to ask about it.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ReportFlags {
    /// An SEV-SNP report, whose signing key AMD is asked about
    #[arg(long, value_name = "FILE", conflicts_with_all = ["ca", "pccs", "update"], group = "platform")]
    report: Option<PathBuf>,
    #[command(flatten)]
    amd: AmdFlags,
    /// File to write the revocation list of AMD's root to, DER
    #[arg(long, value_name = "FILE", requires = "report", conflicts_with_all = ["quote", "fmspc"])]
    out_crl: Option<PathBuf>,
}

/// A key to ask about.
pub(super) struct Asked<'a> {
    flags: &'a ReportFlags,
    platform: SnpPlatform,
}

/// What is said of the endorsements of a signing key.
#[derive(Serialize)]
struct Shown {
    product: Product,
    signing_key: &'static str,
    at: String,
    parts: Vec<Part>,
    expires_first: String,
    valid_until: String,
}

impl ReportFlags {
    /// What to ask about, where a report is named.
    pub(super) fn asked(&self) -> Result<Option<Asked<'_>>, Failure> {
        let Some(path) = &self.report else { return Ok(None) };
        let bytes = input::read(path, REPORT)?;
        let report = Report::parse(&bytes).map_err(|error| {
            let status = if error.is_unsupported() { Status::Unsupported } else { Status::Malformed };
            Failure::new(status, "snp_report_format", format!("{}: {error}", path.display()))
        })?;
        let platform = self.amd.platform(&report, path)?;
        Ok(Some(Asked { flags: self, platform }))
    }
}

impl Asked<'_> {
    pub(super) fn fetch(&self, fetch: &Fetch, at: UnixTime) -> Result<Status, Failure> {
        let found = guest::block_on(fetch.endorser.keeping().snp(self.flags.amd.amd()?, self.platform, at))?;
        let shown = self.shown(&found, at).map_err(|error| malformed(&error))?;
        if let Some(out) = &fetch.out {
            let ders: Vec<Vec<u8>> = found.certificates.iter().map(|der| der.as_bytes().to_vec()).collect();
            write(out, pem::encode(&ders).as_bytes())?;
        }
        if let (Some(out), Some(list)) = (&self.flags.out_crl, found.crls.first()) {
            write(out, list.as_bytes())?;
        }
        shown.print(fetch.json);
        Ok(Status::Accepted)
    }

    fn shown(&self, found: &SnpEndorsements, at: UnixTime) -> Result<Shown, String> {
        let mut windows = Vec::new();
        for der in &found.certificates {
            let certificate = Certificate::parse(der.as_bytes()).map_err(|error| error.to_string())?;
            let part = format!("certificate {}", certificate.common_name);
            windows.push(CollateralWindow {
                part,
                from: certificate.not_before,
                until: certificate.not_after,
            });
        }
        for list in &found.crls {
            windows.push(crl_window("CRL of the ARK", list.as_bytes()).map_err(|error| error.to_string())?);
        }
        let first = windows.iter().min_by_key(|window| window.until);
        Ok(Shown {
            product: self.platform.product,
            signing_key: self.platform.key.kind().name(),
            at: format_seconds(seconds(at)),
            expires_first: first.map(|window| window.part.clone()).unwrap_or_default(),
            valid_until: first.map(|window| format_seconds(window.until)).unwrap_or_default(),
            parts: windows.iter().map(|window| Part::of(window, at)).collect(),
        })
    }
}

impl Shown {
    fn print(&self, as_json: bool) {
        if as_json {
            return render::line(&json(self));
        }
        render::line(&format!("{} of {}", self.signing_key, self.product));
        self.parts.iter().for_each(|part| render::line(&part.sentence()));
        render::line(&format!(
            "expires first: {}, {}",
            render::harmless(&self.expires_first),
            self.valid_until
        ));
        if self.signing_key == "VLEK" {
            render::line("the certificate of the VLEK itself is the cloud provider's to give");
        }
    }
}

fn malformed(error: &str) -> Failure {
    Failure::new(Status::Malformed, "snp_endorsements_format", error.to_owned())
}
