//! Endorsements for a guest that staples none, or some that are over.

use crate::ALGORITHMS;
use confide_endorser::{Endorser, EndorserError, TdxPlatform, Update};
use confide_evidence::document::{CpuEvidence, EvidenceDocument, TdxCollateral};
use confide_evidence::tdx::{Padding, Quote, collateral_windows};
use confide_evidence::time::seconds;
use confide_policy::AppraisalPolicy;
use confide_verifier::verify_origin;
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
    /// `None`, too, where the quote's own signatures do not hold up to a root that `policy` accepts: whoever answers in
    /// the place of a guest would else choose what this machine asks a service for. So only platforms are asked about
    /// whose certificate that root's owner has issued.
    ///
    /// # Errors
    /// [`EndorserError`].
    pub async fn for_document(
        &self,
        document: &[u8],
        policy: &AppraisalPolicy,
        at: UnixTime,
    ) -> Result<Option<TdxCollateral>, EndorserError> {
        let Some(platform) = in_need(document, policy, at) else { return Ok(None) };
        match self.endorser.tdx(platform, self.update, at).await {
            Err(EndorserError::Offline { .. }) => Ok(None),
            found => found.map(Some),
        }
    }
}

/// The platform of a document that needs collateral and that a platform has signed.
fn in_need(document: &[u8], policy: &AppraisalPolicy, at: UnixTime) -> Option<TdxPlatform> {
    let document = EvidenceDocument::decode(document).ok()?;
    let stapled = document.endorsements.as_ref().and_then(|stapled| stapled.tdx.as_ref());
    if stapled.is_some_and(|stapled| is_valid(stapled, at)) {
        return None;
    }
    let CpuEvidence::Tdx { quote } = &document.cpu else { return None };
    let quote = Quote::parse(quote.as_bytes(), Padding::Refused).ok()?;
    verify_origin(&quote, policy, &ALGORITHMS).ok()?;
    TdxPlatform::of_quote(&quote).ok()
}

fn is_valid(collateral: &TdxCollateral, at: UnixTime) -> bool {
    let at = seconds(at);
    collateral_windows(collateral).is_ok_and(|windows| windows.iter().all(|window| window.contains(at)))
}
