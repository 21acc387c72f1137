//! An NVSwitch (LS10) with its keys.

use std::collections::BTreeMap;

use super::chain::{DeviceDeviation, Family, Identity};
use super::device::{FwidKey, LeafUsage};
use super::golden::Golden;
use super::report::Report;
use super::rim::{RimOptions, RimProduct};
use super::{chain, report};
use crate::SimulatorError;
use crate::keys::{SigningKey, seeded_array};
use crate::tdx::simulated_measurement;
use crate::text::certificate_pem;

/// Blocks of a switch's report.
const BLOCKS: u8 = 31;
/// Blocks (1-based) that a recorded switch fills.
const FILLED: [u8; 24] =
    [1, 2, 3, 4, 5, 7, 9, 10, 11, 12, 15, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31];
/// Measurements counted in MSRSCNT.
const COUNTED: u8 = 27;
/// GPUs that a switch can list.
pub(super) const LISTED_GPUS: usize = 8;
/// Ports of a switch.
pub(super) const PORTS: usize = 64;
/// GPU index of a port that leads to none.
pub(super) const UNUSED_PORT: u8 = 0xff;

/// What can be chosen about a switch. Start from [`SwitchOptions::ls10`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwitchOptions {
    /// Tells switches apart: keys, serial numbers and PDI follow from it.
    pub seed: u64,
    /// VBIOS_VERSION (opaque field 6): 14 characters.
    pub bios_version: String,
    /// DEVICE_PDI (opaque field 22); by default that of the BROM certificate.
    pub device_pdi: [u8; 8],
    /// PDIs of the GPUs that the switch is linked to (first half of opaque field 26), at most eight.
    pub gpu_pdis: Vec<[u8; 8]>,
    /// For each port the index of its GPU in `gpu_pdis`, or 0xff (second half of opaque field 26).
    pub gpu_ports: [u8; PORTS],
    /// DISABLED_PORTS (opaque field 23).
    pub disabled_ports: [u8; 2],
    /// POSITION_ID (opaque field 24).
    pub position_id: u16,
    /// LOCK_SWITCH_STATUS (opaque field 25): 1 locked.
    pub lock_status: u16,
    /// The FWID in the leaf certificate; reports carry none.
    pub certificate_fwid: [u8; 48],
    /// Measurements of other value than the usual one, by index from 0 to 30; the manifest keeps the usual ones.
    pub measurements: BTreeMap<u8, [u8; 48]>,
    /// Opaque fields that are left out.
    pub omitted_records: Vec<u16>,
    /// Opaque fields, type and value, that follow all others.
    pub added_records: Vec<(u16, Vec<u8>)>,
    /// What the leaf certificate's key may do.
    pub leaf_usage: LeafUsage,
}

impl SwitchOptions {
    /// A locked switch that is linked to no GPU.
    #[must_use]
    pub fn ls10(seed: u64) -> Self {
        Self {
            seed,
            bios_version: "96.10.73.00.01".into(),
            device_pdi: chain::pdi(Family::Ls10, seed),
            gpu_pdis: Vec::new(),
            gpu_ports: [UNUSED_PORT; PORTS],
            disabled_ports: [0xec, 0],
            position_id: 0,
            lock_status: 1,
            certificate_fwid: seeded_array("LS10 FWID", 0),
            measurements: BTreeMap::new(),
            omitted_records: Vec::new(),
            added_records: Vec::new(),
            leaf_usage: LeafUsage::DigitalSignature,
        }
    }

    /// Id of the manifest, as NVIDIA's service names it.
    #[must_use]
    pub fn rim_id(&self) -> String {
        format!("NV_SWITCH_BIOS_5612_0002_890_{}", self.bios_version.replace('.', ""))
    }

    fn report(&self) -> Report {
        let mut blocks = usual_blocks();
        for (index, value) in &self.measurements {
            blocks[usize::from(*index)] = *value;
        }
        let mut records = self.records();
        records.retain(|(id, _)| !self.omitted_records.contains(id));
        records.extend(self.added_records.iter().cloned());
        Report { device: "LS10".into(), seed: self.seed, blocks, records }
    }

    /// The opaque records in the order in which the firmware writes them.
    fn records(&self) -> Vec<(u16, Vec<u8>)> {
        let counters =
            (1..=COUNTED).flat_map(|index| u32::from(FILLED.contains(&index)).to_le_bytes()).collect();
        let mut links: Vec<u8> = self.gpu_pdis.concat();
        links.resize(LISTED_GPUS * 8, 0);
        links.extend(self.gpu_ports);
        vec![
            (6, self.bios_version.clone().into_bytes()),
            (22, self.device_pdi.to_vec()),
            (12, counters),
            (26, links),
            (23, self.disabled_ports.to_vec()),
            (24, self.position_id.to_le_bytes().to_vec()),
            (25, self.lock_status.to_le_bytes().to_vec()),
        ]
    }
}

/// The blocks' values without edits.
fn usual_blocks() -> Vec<[u8; 48]> {
    let block = |index: u8| match FILLED.contains(&index) {
        true => simulated_measurement(&format!("LS10 block {index}")),
        false => [0; 48],
    };
    (1..=BLOCKS).map(block).collect()
}

/// A switch that reports. Switches with different seeds have different keys, serial numbers and PDIs.
#[derive(Debug)]
pub struct SimulatedSwitch {
    options: SwitchOptions,
    leaf_key: SigningKey,
    chain: Vec<Vec<u8>>,
}

impl SimulatedSwitch {
    /// The switch of this seed with the options of [`SwitchOptions::ls10`].
    ///
    /// # Errors
    /// [`SimulatorError`] if a key or certificate cannot be made.
    pub fn new(seed: u64) -> Result<Self, SimulatorError> {
        Self::with_options(SwitchOptions::ls10(seed))
    }

    /// A switch with these options.
    ///
    /// # Errors
    /// [`SimulatorError`] if a key or certificate cannot be made.
    pub fn with_options(options: SwitchOptions) -> Result<Self, SimulatorError> {
        let identity = Identity {
            family: Family::Ls10,
            seed: options.seed,
            deviation: DeviceDeviation::default(),
            fwid: options.certificate_fwid,
            tcb: (0, [0; 4]),
            fwid_key: FwidKey::Brom,
            leaf_usage: options.leaf_usage,
            leaf_window: Family::Ls10.window(),
            flawed: None,
        };
        let keys = identity.keys()?;
        let chain = chain::issue(&keys, &identity)?;
        let [_, leaf_key] = keys;
        Ok(Self { options, leaf_key, chain })
    }

    /// The options of this switch.
    #[must_use]
    pub fn options(&self) -> &SwitchOptions {
        &self.options
    }

    /// What NSCQ returns as attestation report, with this nonce in the request.
    ///
    /// # Panics
    /// If the options name a measurement above 30.
    #[must_use]
    pub fn report(&self, nonce: [u8; 32]) -> Vec<u8> {
        self.options.report().encode(&self.leaf_key, &nonce)
    }

    /// What NSCQ returns as attestation certificate chain: five PEM certificates, leaf first.
    #[must_use]
    pub fn chain_pem(&self) -> String {
        self.chain.iter().map(|der| certificate_pem(der)).collect()
    }

    /// The five certificates, DER, leaf first.
    #[must_use]
    pub fn certificates(&self) -> &[Vec<u8>] {
        &self.chain
    }

    /// The switch's eight-byte PDI, which its BROM certificate's serial number carries.
    #[must_use]
    pub fn pdi(&self) -> [u8; 8] {
        chain::pdi(Family::Ls10, self.options.seed)
    }

    /// The manifest, which matches the report of a switch without edited measurements, good at this time.
    #[must_use]
    pub fn rim(&self, now_unix: u64) -> RimOptions {
        let active: Vec<u8> = (0..BLOCKS).collect();
        let alternatives: Vec<(u8, u8)> = (9..=25).map(|index| (index, 4)).collect();
        let golden = Golden {
            product: RimProduct::Ls10,
            blocks: &usual_blocks(),
            active: &active,
            alternatives: &alternatives,
            unmatched: None,
        };
        golden.manifest(&self.options.rim_id(), &self.options.bios_version, now_unix)
    }

    /// Signs an edited report anew: replaces its last 96 bytes.
    ///
    /// # Panics
    /// If the report is shorter than a signature.
    #[must_use]
    pub fn resign(&self, report: &[u8]) -> Vec<u8> {
        report::resigned(report, &self.leaf_key)
    }
}
