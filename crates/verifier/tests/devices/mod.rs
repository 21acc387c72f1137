//! Appraising devices by themselves.
#![allow(dead_code, reason = "no test uses all of it")]

use confide_evidence::document::{DeviceEvidence, Endorsements, NvidiaEndorsements};
use confide_evidence::record::NrasOpinion;
use confide_policy::AppraisalPolicy;
use confide_verifier::{Algorithms, AttestationResult, Inputs, Status, Subject, evaluate};
use rustls_pki_types::UnixTime;
use std::time::Duration;

/// A time in seconds since the Unix epoch.
pub(crate) fn at(seconds: i64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(seconds).unwrap()))
}

/// What devices are appraised with beside their evidence. All of it may be left away but nonces, policy and time.
#[derive(Clone)]
pub(crate) struct With<'a> {
    pub(crate) nonces: Vec<[u8; 32]>,
    pub(crate) endorsements: NvidiaEndorsements,
    pub(crate) policy: &'a AppraisalPolicy,
    pub(crate) algorithms: &'a Algorithms,
    pub(crate) now: i64,
    pub(crate) rim_at: Option<i64>,
}

impl With<'_> {
    pub(crate) fn appraise(&self, devices: &[DeviceEvidence]) -> AttestationResult {
        self.appraise_with(devices, None)
    }

    /// As [`Self::appraise`], with what NVIDIA's attestation service says of the devices.
    pub(crate) fn appraise_with(
        &self,
        devices: &[DeviceEvidence],
        nras: Option<&NrasOpinion>,
    ) -> AttestationResult {
        let endorsements =
            Endorsements { nvidia: Some(self.endorsements.clone()), ..Endorsements::default() };
        let inputs = Inputs {
            subject: Subject::Devices { devices, nonces: &self.nonces, rim_at: self.rim_at.map(at), nras },
            endorsements: &endorsements,
            prepared: None,
            prepared_devices: None,
            memo: None,
            second_opinion: None,
            references: None,
            policy: self.policy,
            challenge: None,
            now: at(self.now),
            algorithms: self.algorithms,
        };
        match evaluate(&inputs) {
            Ok(result) => result,
            Err(rejection) => *rejection.result,
        }
    }
}

/// How the checks of a code ended, in order.
pub(crate) fn status(result: &AttestationResult, code: &str) -> Vec<Status> {
    result.checks.iter().filter(|check| check.code == code).map(|check| check.status).collect()
}
