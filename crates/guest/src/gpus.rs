//! The guest's own GPUs and switches: appraised as a whole, and only then made ready.
//!
//! A guest does not judge itself. Its GPUs are the exception: they are no part of it, and would see its memory. Who gives it
//! GPUs is the host, and nobody but the guest can hold them back before they take work. What is found here has no
//! authority over anybody else: clients appraise the same devices under their own nonces, policy and clock. The clock here
//! is the machine's. A broker's signed answer sets it; without one the host does, and with a wrong one can pass off as current
//! what was over. This is the one module of the program that may use the verifier.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

#[cfg(feature = "danger-simulator")]
use confide_attester::gpu::Libraries;
use confide_attester::gpu::{AppraisalError, Deadlines, Found, GpuError, Node, Ready};
use confide_endorser::gpu_endorsements;
use confide_evidence::document::{DeviceEvidence, Endorsements, NvidiaEndorsements};
use confide_policy::{AppraisalPolicy, Loaded, MAX_POLICY, PolicyError};
use confide_verifier::{Algorithms, AttestationResult, Inputs, Status, Subject, evaluate};

use crate::boot::random;
use crate::config::{Config, Platform};
use crate::error::GuestError;

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
    /// Those of the folder; else those that the broker gave.
    endorsements: Option<Arc<NvidiaEndorsements>>,
    deadlines: Deadlines,
    #[cfg(feature = "danger-simulator")]
    emulated: Option<Libraries>,
}

/// The GPUs of a guest on their way to the ready state.
pub(crate) enum Devices {
    /// Nobody has looked for them yet.
    Configured(Gpus),
    /// They have given evidence for the release of keys.
    Found(FoundGpus),
}

/// The machine's GPUs and switches, found and not ready.
pub(crate) struct FoundGpus {
    gpus: Gpus,
    node: Node<Found>,
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
            endorsements: gpus.endorsements.as_deref().map(gpu_endorsements).transpose()?.map(Arc::new),
            deadlines: gpus.deadlines(),
            #[cfg(feature = "danger-simulator")]
            emulated: config.simulated.as_ref().and_then(crate::config::Simulated::libraries),
        }))
    }

    /// What the devices are appraised with, if there is anything.
    pub(crate) fn endorsements(&self) -> Option<Arc<NvidiaEndorsements>> {
        self.endorsements.clone()
    }

    /// The same, with what the broker has where the guest has no folder of its own.
    fn with_endorsements(mut self, endorsements: Option<NvidiaEndorsements>) -> Self {
        self.endorsements = self.endorsements.or_else(|| endorsements.map(Arc::new));
        self
    }

    /// Looks for every GPU and switch of this machine. Blocks until the driver has initialised them.
    ///
    /// # Errors
    /// When there is none, or they cannot be used.
    pub(crate) fn found(self) -> Result<FoundGpus, GuestError> {
        let node = self.find()?;
        if node.gpus() == 0 {
            return Err(GuestError::NoGpu);
        }
        Ok(FoundGpus { gpus: self, node })
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
        let nvidia = self.endorsements.as_deref().cloned();
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

impl Devices {
    /// What the devices are appraised with, if there is anything.
    pub(crate) fn endorsements(&self) -> Option<Arc<NvidiaEndorsements>> {
        match self {
            Self::Configured(gpus) | Self::Found(FoundGpus { gpus, .. }) => gpus.endorsements(),
        }
    }

    /// Takes every GPU and switch of this machine to the ready state: found, asked, appraised together, ready.
    ///
    /// # Errors
    /// Whatever stands in the way. The GPUs are then not ready.
    pub(crate) async fn make_ready(self) -> Result<Node<Ready<Accepted>>, GuestError> {
        let working = tokio::task::spawn_blocking(move || match self {
            Self::Configured(gpus) => gpus.found()?.ready(),
            Self::Found(found) => found.ready(),
        });
        working.await.map_err(|_| GpuError::Thread)?
    }
}

impl FoundGpus {
    /// The devices, which can give evidence and no more.
    pub(crate) fn node(&self) -> &Node<Found> {
        &self.node
    }

    /// The same devices, appraised with what the broker has of them where the guest has no folder of its own. It comes from
    /// NVIDIA, as that of a folder does.
    pub(crate) fn with_endorsements(mut self, endorsements: Option<NvidiaEndorsements>) -> Self {
        self.gpus = self.gpus.with_endorsements(endorsements);
        self
    }

    fn ready(self) -> Result<Node<Ready<Accepted>>, GuestError> {
        let Self { gpus, node } = self;
        let nonces = nonces(node.gpus().saturating_add(node.switches()))?;
        let nonce = |position: u32| {
            let nonce = usize::try_from(position).ok().and_then(|position| nonces.get(position));
            *nonce.expect("a node has as many devices as were found, or gives no evidence")
        };
        let node = node.collect(nonce)?;
        let appraised = node.appraise(|devices, _| gpus.appraise(devices, &nonces));
        let node = appraised.map_err(|error| match error {
            AppraisalError::Refused(refusal) => GuestError::GpusRefused(Box::new(refusal)),
            AppraisalError::Gpu(error) => GuestError::Gpus(error),
            // Whatever it says, there is no appraised node.
            _ => GuestError::Gpus(GpuError::Ended),
        })?;
        Ok(node.set_ready()?)
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
    let mut bytes = Vec::new();
    let most = u64::try_from(MAX_POLICY).unwrap_or(u64::MAX).saturating_add(1);
    let read = File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes));
    read.map_err(unreadable)?;
    let text = String::from_utf8(bytes).map_err(|_| {
        let source = PolicyError::Toml("not UTF-8 text".to_owned());
        GuestError::GpuPolicy { path: path.to_owned(), source }
    })?;
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

    #[cfg(feature = "danger-simulator")]
    #[test]
    fn gpus_without_a_folder_are_appraised_with_what_the_broker_gives() {
        let now = confide_endorser::now().as_secs();
        let gpu = confide_simulator::SimulatedGpu::new(0).unwrap();
        let manifests = gpu.rims(now);
        let signers = manifests.iter().flat_map(|manifest| manifest.certificates().unwrap());
        let (nonce, kind) = ([7; 32], confide_evidence::document::DeviceKind::NvidiaGpu);
        let chain = gpu.chain_pem().into_bytes().into();
        let device = DeviceEvidence { kind, chain, report: gpu.report(nonce).into() };
        let good = confide_simulator::OcspOptions::good(now);
        let given = || NvidiaEndorsements {
            crls: Vec::new(),
            ocsp: gpu
                .certificates()
                .iter()
                .cloned()
                .chain(signers.clone())
                .filter_map(|certificate| good.answer(&certificate).ok().map(Into::into))
                .collect(),
            rims: manifests.iter().map(|manifest| manifest.encode().unwrap().into()).collect(),
        };
        let gpus = |endorsements| {
            let file = "../../policies/danger-simulator.toml";
            let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
            let text = text.lines().map(|line| match line.split_once(" = ") {
                Some((field @ ("rim" | "revocation"), _)) => format!("{field} = \"required\"\n"),
                _ => format!("{line}\n"),
            });
            let policy = AppraisalPolicy::parse(&text.collect::<String>(), Loaded::AsDanger).unwrap();
            Gpus { policy, endorsements, deadlines: Deadlines::default(), emulated: None }
        };
        let accepts = |gpus: &Gpus| {
            gpus.appraise(std::slice::from_ref(&device), &[nonce]).map_err(|refusal| refusal.code()).map(drop)
        };
        assert_eq!(accepts(&gpus(None)), Err("device_rim"));
        assert_eq!(accepts(&gpus(None).with_endorsements(None)), Err("device_rim"));
        assert_eq!(accepts(&gpus(None).with_endorsements(Some(given()))), Ok(()));
        // A folder of its own counts, even an empty one.
        let empty = NvidiaEndorsements { crls: Vec::new(), ocsp: Vec::new(), rims: Vec::new() };
        let own = gpus(Some(Arc::new(empty))).with_endorsements(Some(given()));
        assert_eq!(accepts(&own), Err("device_rim"));
    }

    #[test]
    fn nonces_are_drawn_anew_for_each_device() {
        let mut drawn = [nonces(12).unwrap(), nonces(12).unwrap()].concat();
        drawn.sort_unstable();
        drawn.dedup();
        assert_eq!(drawn.len(), 24);
    }
}
