//! Recorded real evidence for everyone: the samples of the published crate `dcap-qvl`.

use std::path::PathBuf;

use anyhow::{Result, ensure};

use crate::cargo;

/// One recorded quote with its collateral and a time at which both were valid.
pub(crate) struct Sample {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) quote: PathBuf,
    pub(crate) collateral: PathBuf,
    /// RFC 3339.
    pub(crate) time: &'static str,
    pub(crate) unix_seconds: u64,
}

/// A quote of version 4, with collateral of 2025-06-19 to 2025-07-19.
pub(crate) fn version_4() -> Result<Sample> {
    sample("tdx_quote", "TDX quote version 4", "2025-06-20T00:00:00Z", 1_750_377_600)
}

/// A quote of version 5, with collateral of 2026-10-08 to 2026-11-06.
pub(crate) fn version_5() -> Result<Sample> {
    sample(
        "tdx_quote_td15ex",
        "TDX quote version 5, extended TD 1.5 body",
        "2026-10-09T00:00:00Z",
        1_791_504_000,
    )
}

/// A quote of version 4 whose platform is behind, with collateral of 2026-02-18 to 2026-03-20.
pub(crate) fn outdated() -> Result<Sample> {
    sample(
        "tdx_quote_outdated",
        "TDX quote version 4 of an outdated platform",
        "2026-02-19T00:00:00Z",
        1_771_459_200,
    )
}

/// Those that are accepted.
///
/// # Errors
/// When the crate's files are not where Cargo keeps them.
pub(crate) fn all() -> Result<[Sample; 2]> {
    Ok([version_4()?, version_5()?])
}

fn sample(name: &'static str, about: &'static str, time: &'static str, unix_seconds: u64) -> Result<Sample> {
    let folder = cargo::package_folder("dcap-qvl")?.join("sample");
    let quote = folder.join(name);
    let collateral = folder.join(format!("{name}_collateral.json"));
    ensure!(quote.exists() && collateral.exists(), "no {name} in {}", folder.display());
    Ok(Sample { name, about, quote, collateral, time, unix_seconds })
}
