//! Endorsements that a guest's evidence lacks: of the CPU from Intel's service, from a caching service, or from a file; of GPUs
//! from a folder.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use confide_client::Endorsing;
use confide_endorser::{
    Cache, Endorser, EndorserError, GpuFolderError, Intel, Origin, Trust, gpu_endorsements,
};
use confide_evidence::document::{EvidenceDocument, NvidiaEndorsements, TdxCollateral};
use confide_evidence::pem::MAX_PEM;
use confide_evidence::tdx::{MAX_COLLATERAL, collateral_from_json};
use confide_policy::AppraisalPolicy;
use rustls_pki_types::UnixTime;

use crate::config::{self, EndorsementSource};
use crate::error::BrokerError;

/// Where endorsements come from that are not stapled to a document.
pub(crate) enum Source {
    /// A vendor's service, or a cache before it.
    Service(Endorsing),
    /// A file, which is read for each appraisal: somebody else replaces it in time.
    File(PathBuf),
    /// Nowhere: a guest has to staple them.
    Stapled,
}

/// Where the endorsements of GPUs come from that are not stapled to a document.
#[derive(Clone)]
pub(crate) enum GpuSource {
    /// A folder, which is read for each appraisal: somebody else replaces its files in time.
    Folder(PathBuf),
    /// Nowhere: a guest has to staple them.
    Stapled,
}

impl GpuSource {
    /// As the configuration has it. A folder is read once, so that its mistakes show at the start.
    pub(crate) fn of(table: Option<&config::GpuEndorsements>) -> Result<Self, BrokerError> {
        let Some(config::GpuEndorsements { folder }) = table else { return Ok(Self::Stapled) };
        gpu_endorsements(folder)?;
        Ok(Self::Folder(folder.clone()))
    }

    /// What the folder has, for a document with devices whose endorsements it does not staple. Nobody has judged either.
    pub(crate) fn for_document(&self, document: &[u8]) -> Result<Option<NvidiaEndorsements>, GpuFolderError> {
        let Self::Folder(folder) = self else { return Ok(None) };
        // What is no document is for the appraisal to refuse.
        let Ok(document) = EvidenceDocument::decode(document) else { return Ok(None) };
        let stapled = document.endorsements.is_some_and(|stapled| stapled.nvidia.is_some());
        if document.devices.is_empty() || stapled { Ok(None) } else { gpu_endorsements(folder).map(Some) }
    }
}

/// Why there are none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SourceError {
    #[error(transparent)]
    Service(#[from] EndorserError),
    #[error("{0}")]
    File(String),
    #[error(transparent)]
    Gpus(#[from] GpuFolderError),
}

impl Source {
    /// As the configuration has it. A file is read once, so that its mistakes show at the start.
    pub(crate) fn of(table: Option<&config::Endorsements>) -> Result<Self, BrokerError> {
        let Some(table) = table else { return Ok(Self::Stapled) };
        let intel = match &table.source {
            EndorsementSource::File(path) => {
                read(path)?;
                return Ok(Self::File(path.clone()));
            }
            EndorsementSource::Intel => Intel::pcs(),
            EndorsementSource::Pccs { url, certificate } => {
                let trust = match certificate {
                    None => Trust::web(),
                    Some(path) => Trust::pinned(&bounded(path, MAX_PEM)?, path)?,
                };
                Intel::pccs(Origin { base: url.clone(), trust })
            }
        };
        let endorser = Endorser::builder().intel(intel).cache(table.cache.clone().map(Cache::at)).build();
        Ok(Self::Service(Endorsing::new(Arc::new(endorser), table.update)))
    }

    /// What a document lacks, or what takes the place of what it staples.
    pub(crate) async fn for_document(
        &self,
        document: &[u8],
        policy: &AppraisalPolicy,
        at: UnixTime,
    ) -> Result<Option<TdxCollateral>, SourceError> {
        match self {
            Self::Stapled => Ok(None),
            Self::Service(endorsing) => Ok(endorsing.for_document(document, policy, at).await?),
            Self::File(path) => {
                let collateral = read(path).map_err(|error| SourceError::File(error.sentence()))?;
                Ok(Some(collateral))
            }
        }
    }
}

fn read(path: &Path) -> Result<TdxCollateral, BrokerError> {
    let bytes = bounded(path, MAX_COLLATERAL)?;
    collateral_from_json(&bytes).map_err(|source| BrokerError::Collateral { path: path.to_owned(), source })
}

/// A file up to one byte more than `limit`: the parser then names the size.
fn bounded(path: &Path, limit: usize) -> Result<Vec<u8>, BrokerError> {
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(most).read_to_end(&mut bytes))
        .map_err(|source| BrokerError::Unreadable { path: path.to_owned(), source })?;
    Ok(bytes)
}
