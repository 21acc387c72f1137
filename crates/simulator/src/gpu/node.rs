//! Machines of several devices that name each other.

use super::chain::{self, Family};
use super::device::{GpuOptions, SimulatedGpu};
use super::switch::{LISTED_GPUS, SimulatedSwitch, SwitchOptions};
use crate::SimulatorError;

/// Which of a machine's four switches each of a GPU's 18 NVLinks leads to, as recorded.
const LINKS: [usize; 18] = [0, 0, 1, 1, 0, 0, 2, 2, 1, 1, 0, 2, 3, 3, 2, 2, 3, 3];
/// PROTECTED_PCIE_STATUS on.
const PROTECTED: u8 = 0xaa;
/// FEATURE_FLAG of protected PCIe.
const PPCIE: u16 = 2;
/// FEATURE_FLAG of multi pass-through.
const MPT: u16 = 1;

/// What can be chosen about a machine's devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeOptions {
    /// The GPUs.
    pub gpus: Vec<GpuOptions>,
    /// The switches.
    pub switches: Vec<SwitchOptions>,
}

impl NodeOptions {
    /// Hoppers in protected PCIe mode and the switches between them, which list each other. Devices have the seeds from
    /// `seed` on; give machines seeds that lie apart by more than the number of their devices.
    ///
    /// # Panics
    /// If there are more than eight GPUs, or no or more than four switches: no switch lists more.
    #[must_use]
    pub fn ppcie(seed: u64, gpus: usize, switches: usize) -> Self {
        assert!(gpus <= LISTED_GPUS, "a switch lists eight GPUs");
        assert!((1..=4).contains(&switches), "a GPU's links lead to at most four switches");
        let seeds = |count: usize| (seed..).take(count);
        let pdis = |family, count| seeds(count).map(|seed| chain::pdi(family, seed)).collect::<Vec<_>>();
        let (gpu_pdis, switch_pdis) = (pdis(Family::Gh100, gpus), pdis(Family::Ls10, switches));
        let links: Vec<usize> = LINKS.iter().map(|switch| switch % switches).collect();
        let gpu = |seed| GpuOptions {
            protected_pcie: PROTECTED,
            feature_flag: PPCIE,
            switch_pdis: links.iter().map(|switch| switch_pdis[*switch]).collect(),
            ..GpuOptions::hopper(seed)
        };
        let switch = |(at, seed)| {
            let mut options = SwitchOptions { gpu_pdis: gpu_pdis.clone(), ..SwitchOptions::ls10(seed) };
            let each = links.iter().filter(|switch| **switch == at).count();
            let used = (0..gpus).flat_map(|gpu| vec![gpu as u8; each]);
            // A single switch has fewer ports than eight GPUs have links: the last GPUs' then stay unnamed.
            for (port, gpu) in options.gpu_ports.iter_mut().zip(used) {
                *port = gpu;
            }
            options.position_id = at as u16;
            options
        };
        Self {
            gpus: seeds(gpus).map(gpu).collect(),
            switches: seeds(switches).enumerate().map(switch).collect(),
        }
    }

    /// GB100s in multi pass-through mode, whose switches no guest sees.
    #[must_use]
    pub fn mpt(seed: u64, gpus: usize) -> Self {
        let gpu = |seed| GpuOptions { feature_flag: MPT, ..GpuOptions::blackwell(seed) };
        Self { gpus: (seed..).take(gpus).map(gpu).collect(), switches: Vec::new() }
    }
}

/// A machine with GPUs and switches that report.
#[derive(Debug)]
pub struct SimulatedNode {
    /// The GPUs.
    pub gpus: Vec<SimulatedGpu>,
    /// The switches.
    pub switches: Vec<SimulatedSwitch>,
}

impl SimulatedNode {
    /// Hoppers in protected PCIe mode and their switches, as [`NodeOptions::ppcie`] of seed 0 has them.
    ///
    /// # Errors
    /// [`SimulatorError`] if a key or certificate cannot be made.
    ///
    /// # Panics
    /// As [`NodeOptions::ppcie`].
    pub fn ppcie(gpus: usize, switches: usize) -> Result<Self, SimulatorError> {
        Self::with_options(NodeOptions::ppcie(0, gpus, switches))
    }

    /// GB100s in multi pass-through mode, as [`NodeOptions::mpt`] of seed 0 has them.
    ///
    /// # Errors
    /// [`SimulatorError`] if a key or certificate cannot be made.
    pub fn mpt(gpus: usize) -> Result<Self, SimulatorError> {
        Self::with_options(NodeOptions::mpt(0, gpus))
    }

    /// A machine of devices with these options.
    ///
    /// # Errors
    /// [`SimulatorError`] if a key or certificate cannot be made.
    pub fn with_options(options: NodeOptions) -> Result<Self, SimulatorError> {
        Ok(Self {
            gpus: options.gpus.into_iter().map(SimulatedGpu::with_options).collect::<Result<_, _>>()?,
            switches: options
                .switches
                .into_iter()
                .map(SimulatedSwitch::with_options)
                .collect::<Result<_, _>>()?,
        })
    }
}
