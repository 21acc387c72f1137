//! Endorsements for a guest that staples none, or some that are over.

use confide_endorser::{Endorser, EndorserError, TdxPlatform, Update};
use confide_evidence::document::{CpuEvidence, EvidenceDocument, TdxCollateral};
use confide_evidence::tdx::{Padding, Quote, collateral_windows};
use confide_evidence::time::seconds;
use rustls_pki_types::UnixTime;
use std::sync::Arc;

/// Fetches what a guest does not staple. Clones share the endorser.
#[derive(Clone, Debug)]
pub struct Endorsing {
    endorser: Arc<Endorser>,
    update: Update,
}

impl Endorsing {
    /// Asks this endorser for this set of TCB levels.
    #[must_use]
    pub fn new(endorser: Arc<Endorser>, update: Update) -> Self {
        Self { endorser, update }
    }

    /// The collateral for an evidence document whose stapled collateral is missing or not valid at `at`. `None` where
    /// what is stapled will do, and where there is none offline or the document does not say of which platform it is:
    /// the verifier says what is missing.
    ///
    /// # Errors
    /// [`EndorserError`].
    pub async fn for_document(
        &self,
        document: &[u8],
        at: UnixTime,
    ) -> Result<Option<TdxCollateral>, EndorserError> {
        let Some(platform) = in_need(document, at) else { return Ok(None) };
        match self.endorser.tdx(platform, self.update, at).await {
            Err(EndorserError::Offline { .. }) => Ok(None),
            found => found.map(Some),
        }
    }
}

/// The platform of a document that needs collateral.
fn in_need(document: &[u8], at: UnixTime) -> Option<TdxPlatform> {
    let document = EvidenceDocument::decode(document).ok()?;
    let stapled = document.endorsements.as_ref().and_then(|stapled| stapled.tdx.as_ref());
    if stapled.is_some_and(|stapled| is_valid(stapled, at)) {
        return None;
    }
    let CpuEvidence::Tdx { quote } = &document.cpu else { return None };
    TdxPlatform::of_quote(&Quote::parse(quote.as_bytes(), Padding::Refused).ok()?).ok()
}

fn is_valid(collateral: &TdxCollateral, at: UnixTime) -> bool {
    let at = seconds(at);
    collateral_windows(collateral).is_ok_and(|windows| windows.iter().all(|window| window.contains(at)))
}
