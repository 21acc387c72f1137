//! One appraisal as data: what went in and what came out, for verdicts and records.

use confide_channel::KeyExchange;
use confide_evidence::document::Endorsements;
use confide_evidence::record::{FIRST, Record, RecordedChallenge, Subject};
use confide_verifier::AttestationResult;
use std::fmt;
use std::sync::Arc;

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
    /// Time of the appraisal, Unix seconds: when the nonce was drawn.
    pub time: u64,
    /// The key exchange of the connection.
    pub key_exchange: KeyExchange,
}

impl Appraised {
    /// The record of this appraisal, to be chained to the one before it: `prev` is that of a file's first record.
    /// `evaluator` names the program that appraised, and its version.
    #[must_use]
    pub fn record(&self, evaluator: &str) -> Record {
        Record {
            prev: FIRST,
            time: self.time,
            policy: self.policy.to_string(),
            outcome: Some(self.result.to_json()),
            subject: Subject::Document(self.document.clone().into()),
            challenge: Some(self.challenge.clone()),
            evaluator: evaluator.to_owned(),
            endorsements: Endorsements::clone(&self.endorsements),
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
