//! The guest's own GPUs and switches: appraised as a whole, and only then made ready.
//!
//! A guest does not judge itself. Its GPUs are the exception: they are no part of it, and would see its memory. Who gives it
//! GPUs is the host, and nobody but the guest can hold them back before they take work. What is found here has no
//! authority over anybody else: clients appraise the same devices under their own nonces, policy and clock. The clock here
//! is the machine's, which the host sets: with a wrong one the host can pass off as current what was over. This is the one
//! module of the program that may use the verifier.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

#[cfg(feature = "danger-simulator")]
use confide_attester::gpu::Libraries;
use confide_attester::gpu::{AppraisalError, Deadlines, Found, GpuError, Node, Ready};
use confide_evidence::document::{DeviceEvidence, Endorsements, NvidiaEndorsements};
use confide_policy::{AppraisalPolicy, Loaded, MAX_POLICY, PolicyError};
use confide_verifier::{Algorithms, AttestationResult, Inputs, Status, Subject, evaluate};

use crate::boot::random;
use crate::config::{Config, Platform};
use crate::error::GuestError;
use crate::gpu_endorsements::read;

static ALGORITHMS: Algorithms = Algorithms {
    ecdsa_p256_sha256: webpki::aws_lc_rs::ECDSA_P256_SHA256,
    ecdsa_p384_sha384: webpki::aws_lc_rs::ECDSA_P384_SHA384,
    ecdsa_p384_sha256: webpki::aws_lc_rs::ECDSA_P384_SHA256,
    ed25519: webpki::aws_lc_rs::ED25519,
    rsa_pss_sha384: webpki::aws_lc_rs::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
    rsa_pkcs1_sha256: webpki::aws_lc_rs::RSA_PKCS1_2048_8192_SHA256,
};

/// What the configuration says of the GPUs. Everything that the operator can have got wrong has been looked at.
pub(crate) struct Gpus {
    policy: AppraisalPolicy,
    endorsements: Arc<NvidiaEndorsements>,
    deadlines: Deadlines,
    #[cfg(feature = "danger-simulator")]
    emulated: Option<Libraries>,
}

/// The appraisal accepted the node. Only [`Gpus::appraise`] makes it.
pub(crate) struct Accepted(());

/// The first check that the node's devices failed.
#[derive(Debug, thiserror::Error)]
#[error("the GPUs were refused by the policy {policy}: {found} (expected: {expected})")]
pub struct GpuRefusal {
    pub(crate) code: &'static str,
    pub(crate) policy: String,
    pub(crate) found: String,
    pub(crate) expected: String,
    pub(crate) remedy: String,
}

impl GpuRefusal {
    /// The code of the check, one of the verifier's rules.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> &str {
        &self.remedy
    }

    fn of(result: &AttestationResult) -> Self {
        let failed = result.checks.iter().find(|check| check.status == Status::Fail);
        let text = |of: fn(&confide_verifier::Check) -> String| failed.map(of).unwrap_or_default();
        Self {
            code: failed.map_or(AppraisalError::Refused(()).code(), |check| check.code),
            policy: result.policy.clone(),
            found: text(|check| check.actual.to_string()),
            expected: text(|check| check.expected.to_string()),
            remedy: text(|check| check.remedy.as_deref().unwrap_or_default().to_owned()),
        }
    }
}

impl Gpus {
    /// Reads what the configuration names; nothing where it has no table of GPUs.
    pub(crate) fn of(config: &Config) -> Result<Option<Self>, GuestError> {
        let Some(gpus) = &config.gpus else { return Ok(None) };
        Ok(Some(Self {
            policy: policy(&gpus.policy, config.platform)?,
            endorsements: Arc::new(read(&gpus.endorsements)?),
            deadlines: gpus.deadlines(),
            #[cfg(feature = "danger-simulator")]
            emulated: config.simulated.as_ref().and_then(crate::config::Simulated::libraries),
        }))
    }

    /// What the devices are appraised with.
    pub(crate) fn endorsements(&self) -> Arc<NvidiaEndorsements> {
        Arc::clone(&self.endorsements)
    }

    /// Takes every GPU and switch of this machine to the ready state: found, asked, appraised together, ready.
    ///
    /// # Errors
    /// Whatever stands in the way. The GPUs are then not ready.
    pub(crate) async fn make_ready(self) -> Result<Node<Ready<Accepted>>, GuestError> {
        let working = tokio::task::spawn_blocking(move || self.ready());
        working.await.map_err(|_| GpuError::Thread)?
    }

    fn ready(&self) -> Result<Node<Ready<Accepted>>, GuestError> {
        let node = self.find()?;
        if node.gpus() == 0 {
            return Err(GuestError::NoGpu);
        }
        let nonces = nonces(node.gpus().saturating_add(node.switches()))?;
        let nonce = |position: u32| {
            let nonce = usize::try_from(position).ok().and_then(|position| nonces.get(position));
            *nonce.expect("a node has as many devices as were found, or gives no evidence")
        };
        let node = node.collect(nonce)?;
        let appraised = node.appraise(|devices, _| self.appraise(devices, &nonces));
        let node = appraised.map_err(|error| match error {
            AppraisalError::Refused(refusal) => GuestError::GpusRefused(Box::new(refusal)),
            AppraisalError::Gpu(error) => GuestError::Gpus(error),
            // Whatever it says, there is no appraised node.
            _ => GuestError::Gpus(GpuError::Ended),
        })?;
        Ok(node.set_ready()?)
    }

    fn find(&self) -> Result<Node<Found>, GpuError> {
        #[cfg(feature = "danger-simulator")]
        if let Some(libraries) = &self.emulated {
            return Node::danger_find_with(libraries.clone(), self.deadlines);
        }
        Node::find(self.deadlines)
    }

    /// Appraises the devices under the policy's `[devices]`, at this machine's time.
    fn appraise(&self, devices: &[DeviceEvidence], nonces: &[[u8; 32]]) -> Result<Accepted, GpuRefusal> {
        let nvidia = Some(NvidiaEndorsements::clone(&self.endorsements));
        let verdict = evaluate(&Inputs {
            subject: Subject::Devices { devices, nonces, rim_at: None, nras: None },
            endorsements: &Endorsements { nvidia, ..Endorsements::default() },
            prepared: None,
            prepared_devices: None,
            memo: None,
            second_opinion: None,
            references: None,
            policy: &self.policy,
            challenge: None,
            now: confide_endorser::now(),
            algorithms: &ALGORITHMS,
        });
        match verdict {
            Ok(result) => {
                let waived = result.checks.iter().filter(|check| check.status == Status::Waived).count();
                let (policy, devices) = (&result.policy, devices.len());
                tracing::info!(devices, policy, waived, simulated = result.simulated, "GPUs accepted");
                Ok(Accepted(()))
            }
            Err(rejection) => {
                tell(&rejection.result);
                Err(GpuRefusal::of(&rejection.result))
            }
        }
    }
}

/// Tells every check that failed: the guest ends with the first of them.
fn tell(result: &AttestationResult) {
    for check in result.checks.iter().filter(|check| check.status == Status::Fail) {
        let (found, expected) = (check.actual.to_string(), check.expected.to_string());
        let remedy = check.remedy.as_deref().unwrap_or_default();
        tracing::warn!(code = check.code, found, expected, remedy, "GPUs refused");
    }
}

/// The policy of a file. A danger policy is for simulated platforms alone: on another one, it could let emulated GPUs pass.
fn policy(path: &Path, platform: Platform) -> Result<AppraisalPolicy, GuestError> {
    let unreadable = |source| GuestError::GpuPolicyUnreadable { path: path.to_owned(), source };
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(MAX_POLICY as u64 + 1).read_to_string(&mut text));
    read.map_err(unreadable)?;
    let read = match (AppraisalPolicy::parse(&text, Loaded::Normally), platform) {
        (Err(PolicyError::DangerNotAsked), Platform::Simulated) => {
            AppraisalPolicy::parse(&text, Loaded::AsDanger)
        }
        (Err(PolicyError::DangerNotAsked | PolicyError::DangerNotBuilt), _) => {
            return Err(GuestError::GpuDangerPolicy { path: path.to_owned() });
        }
        (read, _) => read,
    };
    read.map_err(|source| GuestError::GpuPolicy { path: path.to_owned(), source })
}

/// Nonces from the system's random source, one for each device.
fn nonces(devices: usize) -> Result<Vec<[u8; 32]>, GuestError> {
    std::iter::repeat_with(random).take(devices).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_danger_policy_is_for_simulated_platforms_alone() {
        let file = |name| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies").join(name);
        let danger = file("danger-simulator.toml");
        let refused = policy(&danger, Platform::Tdx).unwrap_err();
        assert_eq!(refused.code(), "gpu_policy_danger");
        assert!(refused.to_string().contains("danger-simulator.toml"), "{refused}");
        if cfg!(feature = "danger-simulator") {
            assert!(policy(&danger, Platform::Simulated).unwrap().danger.is_some());
        }
        for platform in [Platform::Tdx, Platform::Simulated] {
            assert_eq!(policy(&file("client.toml"), platform).unwrap().name, "client");
            assert_eq!(policy(&file("none.toml"), platform).unwrap_err().code(), "gpu_policy_unreadable");
        }
    }

    #[test]
    fn nonces_are_drawn_anew_for_each_device() {
        let mut drawn = [nonces(12).unwrap(), nonces(12).unwrap()].concat();
        drawn.sort_unstable();
        drawn.dedup();
        assert_eq!(drawn.len(), 24);
    }
}
