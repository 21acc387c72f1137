//! SEV-SNP reports with what they are appraised with.

use confide_evidence::bytes::ByteString;
use confide_evidence::document::{Endorsements, SnpEndorsements};
use confide_policy::{AppraisalPolicy, Loaded};
use confide_verifier::{Algorithms, AttestationResult, Inputs, Status, Subject, evaluate};
use rustls_pki_types::UnixTime;
use std::time::Duration;

/// A report, its certificates and lists, and a time.
#[derive(Clone)]
pub(crate) struct Case {
    pub(crate) report: Vec<u8>,
    pub(crate) certificates: Vec<Vec<u8>>,
    pub(crate) lists: Vec<Vec<u8>>,
    pub(crate) seconds: u64,
}

impl Case {
    pub(crate) fn appraise(&self, policy: &AppraisalPolicy, algorithms: &Algorithms) -> AttestationResult {
        let strings = |ders: &[Vec<u8>]| ders.iter().cloned().map(ByteString).collect();
        let snp = SnpEndorsements { certificates: strings(&self.certificates), crls: strings(&self.lists) };
        let inputs = Inputs {
            subject: Subject::SnpReport(&self.report),
            endorsements: &Endorsements { snp: Some(snp), ..Endorsements::default() },
            prepared: None,
            prepared_devices: None,
            memo: None,
            second_opinion: None,
            references: None,
            policy,
            challenge: None,
            now: UnixTime::since_unix_epoch(Duration::from_secs(self.seconds)),
            algorithms,
        };
        evaluate(&inputs).unwrap_or_else(|rejection| *rejection.result)
    }
}

/// The policy of the simulator.
pub(crate) const DANGER: &str = include_str!("../../../../policies/danger-simulator.toml");

pub(crate) fn danger(text: &str) -> AppraisalPolicy {
    AppraisalPolicy::parse(text, Loaded::AsDanger).unwrap()
}

/// The status of the check with this code.
pub(crate) fn status(result: &AttestationResult, code: &str) -> Option<Status> {
    result.checks.iter().find(|check| check.code == code).map(|check| check.status)
}
