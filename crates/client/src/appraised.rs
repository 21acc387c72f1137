//! One appraisal as data: what went in and what came out, for verdicts and records.

use confide_channel::KeyExchange;
use confide_evidence::document::Endorsements;
use confide_evidence::record::{RecordedChallenge, RecordedReferences, SecondOpinion, Subject};
use confide_record::Recording;
use confide_verifier::AttestationResult;
use rustls_pki_types::UnixTime;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The inputs and the outcome of one appraisal, accepted or not. It opens nothing.
#[derive(Clone)]
pub struct Appraised {
    /// The result.
    pub result: AttestationResult,
    /// The evidence document as the peer sent it.
    pub document: Vec<u8>,
    /// Endorsements from elsewhere than the document.
    pub endorsements: Arc<Endorsements>,
    /// The policy's text.
    pub policy: Arc<str>,
    /// What the evidence had to be bound to.
    pub challenge: RecordedChallenge,
    /// Time of the appraisal: when the nonce was drawn.
    pub time: UnixTime,
    /// What the second verifier found, where the client has one.
    pub second_opinion: Option<SecondOpinion>,
    /// The signed file of reference values, where the policy names one.
    pub references: Option<Arc<RecordedReferences>>,
    /// The key exchange of the connection.
    pub key_exchange: KeyExchange,
    /// How long it took from the question for evidence to the verdict, fetched endorsements and record included.
    pub elapsed: Duration,
}

impl Appraised {
    /// The inputs as a record keeps them.
    #[must_use]
    pub fn recording(&self) -> Recording<'_> {
        Recording {
            subject: Subject::Document(self.document.clone().into()),
            endorsements: Endorsements::clone(&self.endorsements),
            policy: &self.policy,
            challenge: Some(self.challenge.clone()),
            time: self.time,
            references: self.references.as_deref().cloned(),
            second_opinion: self.second_opinion.clone(),
        }
    }
}

impl fmt::Debug for Appraised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Appraised")
            .field("outcome", &self.result.outcome)
            .field("code", &self.result.code)
            .field("time", &self.time)
            .finish_non_exhaustive()
    }
}
