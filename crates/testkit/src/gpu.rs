//! Simulated NVIDIA devices with everything that they are appraised with, as files hold it.

use anyhow::Result;
use confide_evidence::hex;
use confide_evidence::nvidia::Rim;
use confide_evidence::pem;
pub use confide_simulator::{GpuOptions, GpuRevocationList, NodeOptions, OcspOptions, RimOptions};
use confide_simulator::{SimulatedGpu, SimulatedNode, SimulatedSwitch};
use serde_json::json;

/// Honest devices and their endorsements.
#[derive(Debug, Clone)]
pub struct GpuEvidence {
    /// GPUs, then switches.
    pub devices: Vec<DeviceFiles>,
    /// Manifests, one of each that the devices need.
    pub manifests: Vec<Vec<u8>>,
    /// OCSP answers, DER, one about each certificate whose revocation counts: those between a device's leaf and its root,
    /// and those of the manifests' signers.
    pub answers: Vec<Vec<u8>>,
    /// Revocation lists of nothing, DER, one of each issuer of such a certificate.
    pub lists: Vec<Vec<u8>>,
}

/// One device.
#[derive(Debug, Clone)]
pub struct DeviceFiles {
    /// The architecture that evidence lists name: HOPPER, BLACKWELL or LS10.
    pub arch: &'static str,
    /// The nonce that it was asked with.
    pub nonce: [u8; 32],
    /// The attestation report, binary.
    pub report: Vec<u8>,
    /// The certificate chain, PEM, leaf first.
    pub chain: String,
    /// The same, DER.
    pub certificates: Vec<Vec<u8>>,
}

impl GpuEvidence {
    /// That of one simulated Hopper, asked with this nonce at this time, Unix seconds.
    ///
    /// # Errors
    /// When the simulator refuses its options.
    pub fn hopper(nonce: [u8; 32], time: u64) -> Result<Self> {
        let gpu = SimulatedGpu::new(0)?;
        Self::of(&SimulatedNode { gpus: vec![gpu], switches: Vec::new() }, nonce, time)
    }

    /// That of a simulated machine in protected PCIe mode.
    ///
    /// # Errors
    /// When the simulator refuses its options.
    pub fn machine(gpus: usize, switches: usize, nonce: [u8; 32], time: u64) -> Result<Self> {
        Self::of(&SimulatedNode::ppcie(gpus, switches)?, nonce, time)
    }

    /// That of these devices, each asked with the same nonce.
    ///
    /// # Errors
    /// When the simulator refuses to sign.
    pub fn of(node: &SimulatedNode, nonce: [u8; 32], time: u64) -> Result<Self> {
        let gpus = node.gpus.iter().map(|gpu| DeviceFiles::gpu(gpu, nonce));
        let switches = node.switches.iter().map(|switch| DeviceFiles::switch(switch, nonce));
        let devices: Vec<DeviceFiles> = gpus.chain(switches).collect();
        let wanted = node.gpus.iter().flat_map(|gpu| gpu.rims(time));
        let wanted: Vec<RimOptions> =
            wanted.chain(node.switches.iter().map(|switch| switch.rim(time))).collect();
        let mut manifests = Vec::new();
        for options in wanted {
            add(&mut manifests, options.encode()?);
        }
        let (mut subjects, mut issuers) = (Vec::new(), Vec::new());
        // The root is named by the policy, and a leaf's revocation is its issuer's, the device itself.
        for chain in devices.iter().map(|device| &device.certificates[1..]) {
            pairs(chain, &mut subjects, &mut issuers);
        }
        for manifest in &manifests {
            let chain = Rim::parse(manifest)?.certificates.map(|certificate| certificate.der);
            pairs(&chain, &mut subjects, &mut issuers);
        }
        let answers = subjects.iter().map(|subject| OcspOptions::good(time).answer(subject));
        let lists = issuers.iter().map(|issuer| GpuRevocationList::empty(time).sign(issuer));
        Ok(Self {
            devices,
            manifests,
            answers: answers.collect::<Result<_, _>>()?,
            lists: lists.collect::<Result<_, _>>()?,
        })
    }

    /// The devices as NVIDIA's tools write them.
    #[must_use]
    pub fn list(&self) -> String {
        evidence_list(&self.devices)
    }
}

impl DeviceFiles {
    fn gpu(gpu: &SimulatedGpu, nonce: [u8; 32]) -> Self {
        use confide_simulator::GpuChip;
        let arch = match gpu.options().chip {
            GpuChip::Gh100 => "HOPPER",
            GpuChip::Gb100 | GpuChip::Gb20x => "BLACKWELL",
        };
        let (report, chain, certificates) = (gpu.report(nonce), gpu.chain_pem(), gpu.certificates().to_vec());
        Self { arch, nonce, report, chain, certificates }
    }

    fn switch(switch: &SimulatedSwitch, nonce: [u8; 32]) -> Self {
        let (report, chain) = (switch.report(nonce), switch.chain_pem());
        Self { arch: "LS10", nonce, report, chain, certificates: switch.certificates().to_vec() }
    }
}

/// An evidence list as NVIDIA's tools write it.
#[must_use]
pub fn evidence_list(devices: &[DeviceFiles]) -> String {
    let item = |device: &DeviceFiles| {
        json!({
            "arch": device.arch,
            "nonce": hex::encode(&device.nonce),
            "evidence": pem::base64_text(&device.report),
            "certificate": pem::base64_text(device.chain.as_bytes()),
        })
    };
    devices.iter().map(item).collect::<serde_json::Value>().to_string()
}

/// Adds each certificate of a chain but the root, and its issuer.
fn pairs(chain: &[Vec<u8>], subjects: &mut Vec<Vec<u8>>, issuers: &mut Vec<Vec<u8>>) {
    for (subject, issuer) in chain.iter().zip(chain.iter().skip(1)) {
        add(subjects, subject.clone());
        add(issuers, issuer.clone());
    }
}

fn add(to: &mut Vec<Vec<u8>>, item: Vec<u8>) {
    if !to.contains(&item) {
        to.push(item);
    }
}
