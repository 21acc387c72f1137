//! A software machine: nothing that it signs proves anything.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use confide_evidence::bytes::{Bytes, Digest};
use confide_evidence::document::{DeviceEvidence, DeviceKind, Endorsements, TdxCollateral};
use confide_evidence::event::DeviceInUse;
use confide_evidence::hash::sha256;
use confide_evidence::pem;
use confide_simulator::{
    Collateral, PlatformOptions, SimulatedBootLog, SimulatedGpu, SimulatedPlatform, SimulatedTd,
};

use crate::attester::Attester;
use crate::device::{Cpu, Device, Nature};
use crate::error::AttesterError;

/// Which software machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SimulatedMachine {
    /// Tells machines apart: the keys of the platform and of its GPUs follow from it.
    pub seed: u32,
    /// How many GPUs it has, at most 32.
    pub gpus: u8,
    /// How long a quote takes beside its signature, as a host's quoting service would take.
    pub quote_time: Duration,
}

impl Attester {
    /// A software machine whose keys everybody has. It staples collateral that is valid from now on for 29 days.
    ///
    /// # Errors
    /// [`AttesterError::Simulator`].
    pub fn simulated(machine: SimulatedMachine) -> Result<Self, AttesterError> {
        let seed = u64::from(machine.seed);
        let platform = SimulatedPlatform::new(PlatformOptions { seed, ..PlatformOptions::at(now()) })?;
        let cpu = SimulatedCpu {
            endorsements: endorsements(platform.collateral()),
            platform,
            td: SimulatedTd::default(),
            quote_time: machine.quote_time,
        };
        let mut devices: Vec<Box<dyn Device>> = Vec::new();
        for position in 0..machine.gpus.min(64) {
            // 256 seeds for each machine, so that no two machines share a GPU.
            devices.push(Box::new(SimulatedDevice::new(
                seed.wrapping_mul(256).wrapping_add(u64::from(position)),
            )?));
        }
        Ok(Self::new(Box::new(cpu), devices))
    }
}

struct SimulatedCpu {
    platform: SimulatedPlatform,
    td: SimulatedTd,
    endorsements: Endorsements,
    quote_time: Duration,
}

impl Cpu for SimulatedCpu {
    fn nature(&self) -> Nature {
        Nature::Simulated
    }

    fn extend_rtmr3(&mut self, digest: &[u8; 48]) -> Result<(), AttesterError> {
        self.td.extend_rtmr3(digest);
        Ok(())
    }

    fn quote(&mut self, report_data: &[u8; 64]) -> Result<Vec<u8>, AttesterError> {
        std::thread::sleep(self.quote_time);
        Ok(self.platform.quote(&self.td.report(*report_data)))
    }

    fn boot_log(&self) -> Option<Vec<u8>> {
        Some(SimulatedBootLog::default().to_bytes())
    }

    fn endorsements(&self) -> Option<Endorsements> {
        Some(self.endorsements.clone())
    }

    fn hand_to(&mut self, _user: u32) -> Result<(), AttesterError> {
        Ok(())
    }
}

struct SimulatedDevice {
    gpu: SimulatedGpu,
    chain: String,
    leaf: Digest,
}

impl SimulatedDevice {
    fn new(seed: u64) -> Result<Self, AttesterError> {
        let gpu = SimulatedGpu::new(seed)?;
        let chain = gpu.chain_pem();
        let certificates = pem::certificates(chain.as_bytes()).expect("the simulator writes valid PEM");
        let leaf = sha256(certificates.first().expect("a chain begins with its leaf"));
        Ok(Self { gpu, chain, leaf })
    }
}

impl Device for SimulatedDevice {
    fn in_use(&self) -> DeviceInUse {
        DeviceInUse { mode: "spt".to_owned(), certificate: self.leaf }
    }

    fn environment(&self) -> &'static str {
        "SIMULATED"
    }

    fn evidence(&mut self, nonce: &[u8; 32]) -> Result<DeviceEvidence, AttesterError> {
        Ok(DeviceEvidence {
            kind: DeviceKind::NvidiaGpu,
            chain: self.chain.as_bytes().into(),
            report: self.gpu.report(*nonce).into(),
        })
    }
}

fn endorsements(collateral: &Collateral) -> Endorsements {
    let tdx = TdxCollateral {
        early: None,
        pck_crl: collateral.pck_crl.clone().into(),
        tcb_info: collateral.tcb_info.clone(),
        qe_identity: collateral.qe_identity.clone(),
        root_ca_crl: collateral.root_ca_crl.clone().into(),
        tcb_info_signature: signature(&collateral.tcb_info_signature),
        pck_crl_issuer_chain: collateral.pck_crl_issuer_chain.clone(),
        pck_certificate_chain: Some(collateral.pck_certificate_chain.clone()),
        qe_identity_signature: signature(&collateral.qe_identity_signature),
        tcb_info_issuer_chain: collateral.tcb_info_issuer_chain.clone(),
        qe_identity_issuer_chain: collateral.qe_identity_issuer_chain.clone(),
    };
    Endorsements { tdx: Some(tdx), ..Endorsements::default() }
}

fn signature(bytes: &[u8]) -> Bytes<64> {
    bytes.try_into().expect("ECDSA P-256 signatures have 64 bytes")
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(seed: u32, gpus: u8) -> Attester {
        Attester::simulated(SimulatedMachine { seed, gpus, quote_time: Duration::ZERO }).unwrap()
    }

    #[test]
    fn the_pck_chain_is_that_of_the_quotes() {
        let chain = machine(1, 0).pck_chain().unwrap();
        let names: Vec<_> = pem::certificates(&chain)
            .unwrap()
            .iter()
            .map(|der| confide_evidence::x509::Certificate::parse(der).unwrap().common_name)
            .collect();
        assert_eq!(names.len(), 3);
        assert_eq!(names[1..], ["SIMULATED SGX PCK Platform CA", "SIMULATED SGX Root CA"]);
    }

    #[test]
    fn machines_and_their_gpus_are_told_apart_by_seed() {
        let (one, two) = (machine(1, 2), machine(2, 2));
        assert_eq!(one.nature(), Nature::Simulated);
        let mut leaves: Vec<_> = [one.devices_in_use(), two.devices_in_use()]
            .iter()
            .flat_map(|list| list.devices.iter().map(|device| device.certificate))
            .collect();
        leaves.sort();
        leaves.dedup();
        assert_eq!(leaves.len(), 4);
        assert_eq!(one.gpus().environment, "SIMULATED");
        assert_eq!(machine(1, 0).gpus().count, 0);
    }
}
