//! What is counted of one instance.

use crate::error::ClientError;
use confide_service::metrics::{Counter, Histogram, Tally};
use confide_verifier::{AttestationResult, Outcome};
use std::time::Duration;

/// From evidence that is at hand to a quote that waits for others, in seconds.
const ATTESTATION: [f64; 10] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];
/// From a guest beside this machine to a long prompt on a busy one, in seconds.
const FIRST_BYTE: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0, 60.0];

/// Counters of one instance.
#[derive(Debug)]
pub(crate) struct Meters {
    /// Appraisals by outcome and code.
    pub(crate) verdicts: Tally<2>,
    /// Attempts that came to no appraisal, by code.
    pub(crate) errors: Tally<1>,
    /// From the question for evidence to the verdict.
    pub(crate) attestation: Histogram,
    /// From the choice of the instance to the head of its answer.
    pub(crate) first_byte: Histogram,
    /// Bytes of prompts that were sent.
    pub(crate) sent: Counter,
    /// Bytes of answers' bodies.
    pub(crate) received: Counter,
    /// Requests that went on to another instance, by the reason.
    pub(crate) failovers: Tally<1>,
    /// How often a quarantine began.
    pub(crate) quarantines: Counter,
}

impl Default for Meters {
    fn default() -> Self {
        Self {
            verdicts: Tally::default(),
            errors: Tally::default(),
            attestation: Histogram::new(&ATTESTATION),
            first_byte: Histogram::new(&FIRST_BYTE),
            sent: Counter::default(),
            received: Counter::default(),
            failovers: Tally::default(),
            quarantines: Counter::default(),
        }
    }
}

impl Meters {
    pub(super) fn appraised(&self, result: &AttestationResult, elapsed: Duration) {
        let outcome = match result.outcome {
            Outcome::Accepted => "accepted",
            Outcome::Rejected => "rejected",
            Outcome::Unsupported => "unsupported",
            Outcome::Malformed => "malformed",
        };
        self.verdicts.count([outcome, result.code.unwrap_or_default()]);
        self.attestation.observe(elapsed);
    }

    /// Notes an attempt that came to no appraisal.
    pub(super) fn not_attested(&self, error: &ClientError) {
        if !matches!(error, ClientError::Rejected(_)) {
            self.errors.count([error.code()]);
        }
    }
}
