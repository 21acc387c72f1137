//! What the libraries answer.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A machine with GPUs and switches, and what goes wrong with them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What the simulated ones among the devices are.
    pub machine: Machine,
    /// GPUs, by index.
    pub gpus: Vec<Source>,
    /// Switches, in NSCQ's order.
    pub switches: Vec<Device>,
    /// `environment` of the settings: 0 unavailable, 1 simulation, 2 production.
    pub environment: u32,
    /// `ccFeature` of the settings: 1 on.
    pub feature: u32,
    /// `devToolsMode` of the settings: 1 on.
    pub dev_tools: u32,
    /// `multiGpuMode` of the settings: 1 protected PCIe, 2 NVLink encryption.
    pub multi_gpu: u32,
    /// The ready state before the first call.
    pub ready: u32,
    /// What goes wrong; the first that fits a call holds.
    pub faults: Vec<Fault>,
}

/// A named device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// Its label, cut at 64 bytes.
    pub label: String,
    /// Its evidence.
    pub source: Source,
}

/// A simulated machine of as many GPUs and switches as the scenario has, whose devices have the seeds from this one on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum Machine {
    /// Hoppers that work alone, without switches.
    Hopper(u64),
    /// Hoppers and LS10 switches that list each other: at most eight, and one to four.
    ProtectedPcie(u64),
    /// GB100s with encrypted NVLink, without switches.
    MultiPassthrough(u64),
}

/// Where a device's evidence comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum Source {
    /// The device at this place of the simulated machine. It signs the caller's nonce.
    Simulated,
    /// Files of a report and of a PEM chain. They are given to every nonce.
    Recorded {
        /// SPDM request ‖ response.
        report: PathBuf,
        /// PEM, leaf first.
        chain: PathBuf,
    },
}

/// What goes wrong with a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// The function of NVML or NSCQ; of `nscq_session_path_observe`, the last part of its path.
    pub call: String,
    /// The first call of that name that it holds for, from 1. It holds for all later ones too.
    pub from: u32,
    /// The effect.
    pub effect: Effect,
}

/// The effect of a [`Fault`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum Effect {
    /// The call returns this code and does nothing.
    Return(i32),
    /// The call never returns.
    Hang,
    /// The call gives this number instead of its own: a count, a size, a state, or the settings' `devToolsMode`. It does
    /// nothing where it sets one.
    Number(u32),
    /// The callback of a path gets this code.
    Answer(i8),
    /// The callback of a path is called this many times.
    Times(u32),
}

impl Scenario {
    /// A production machine in single pass-through mode with so many Hoppers, and nothing wrong.
    #[must_use]
    pub fn of_gpus(count: usize) -> Self {
        Self {
            machine: Machine::Hopper(0),
            gpus: vec![Source::Simulated; count],
            switches: Vec::new(),
            environment: 2,
            feature: 1,
            dev_tools: 0,
            multi_gpu: 0,
            ready: 0,
            faults: Vec::new(),
        }
    }

    /// Hoppers and switches in the protected-PCIe mode, and nothing wrong.
    #[must_use]
    pub fn protected_pcie(gpus: usize, switches: usize) -> Self {
        let switch = |number| Device { label: format!("SWX-{number:08X}"), source: Source::Simulated };
        Self {
            machine: Machine::ProtectedPcie(0),
            switches: (0..switches).map(switch).collect(),
            feature: 0,
            multi_gpu: 1,
            ..Self::of_gpus(gpus)
        }
    }

    /// GB100s in multi pass-through mode, and nothing wrong.
    #[must_use]
    pub fn multi_passthrough(gpus: usize) -> Self {
        Self { machine: Machine::MultiPassthrough(0), multi_gpu: 2, ..Self::of_gpus(gpus) }
    }

    /// The same with a fault before all others.
    #[must_use]
    pub fn with(mut self, call: &str, from: u32, effect: Effect) -> Self {
        self.faults.insert(0, Fault { call: call.to_owned(), from, effect });
        self
    }
}
