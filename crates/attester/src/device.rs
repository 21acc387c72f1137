//! What the attester needs of a CPU and of a GPU.

use std::sync::{Mutex, PoisonError};

use confide_evidence::document::{DeviceEvidence, Endorsements, Gpus};
use confide_evidence::event::{DeviceInUse, DevicesInUse};

use crate::error::AttesterError;
use crate::gpu::{Node, Ready};

/// Whether evidence comes from hardware.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nature {
    /// From a confidential VM's hardware.
    Hardware,
    /// From software whose keys everybody has. Every output must say `SIMULATED`.
    Simulated,
}

/// The quoting device and runtime register of a TDX guest.
pub(crate) trait Cpu: Send {
    fn nature(&self) -> Nature;

    /// RTMR3 := SHA-384(RTMR3 ‖ digest).
    fn extend_rtmr3(&mut self, digest: &[u8; 48]) -> Result<(), AttesterError>;

    /// A quote over this report data, without padding. Blocks while the host makes it.
    fn quote(&mut self, report_data: &[u8; 64]) -> Result<Vec<u8>, AttesterError>;

    /// The firmware's event log, if the machine has one. It is complete before this process starts.
    fn boot_log(&self) -> Option<Vec<u8>>;

    /// What the platform can staple to its quotes.
    fn endorsements(&self) -> Option<Endorsements>;

    /// Lets this process go on as another user without privileges.
    fn hand_to(&mut self, user: u32) -> Result<(), AttesterError>;
}

/// A GPU or switch that signs reports.
pub(crate) trait Device: Send {
    /// What the event `devices` says of it.
    fn in_use(&self) -> DeviceInUse;

    /// The environment, as NVML names it.
    fn environment(&self) -> &'static str;

    /// A report that signs this nonce. Blocks while the device makes it.
    fn evidence(&mut self, nonce: &[u8; 32]) -> Result<DeviceEvidence, AttesterError>;
}

/// All GPUs and switches of a machine, in the order of their evidence.
pub(crate) trait Devices: Send + Sync {
    /// What the event `devices` says of them.
    fn in_use(&self) -> DevicesInUse;

    /// The GPU facts of the claims.
    fn gpus(&self) -> Gpus;

    /// A report of each over the nonce of its position. Blocks while the devices make them.
    fn evidence(&self, nonces: &dyn Fn(u32) -> [u8; 32]) -> Result<Vec<DeviceEvidence>, AttesterError>;
}

/// Devices that have no state but being ready. Each serves one caller at a time.
pub(crate) struct Separate(Vec<Mutex<Box<dyn Device>>>);

impl Separate {
    pub(crate) fn new(devices: Vec<Box<dyn Device>>) -> Self {
        Self(devices.into_iter().map(Mutex::new).collect())
    }

    /// The devices, free of what a panic may have left.
    fn each<T>(&self, mut of: impl FnMut(&mut dyn Device) -> T) -> impl Iterator<Item = T> {
        self.0.iter().map(move |device| of(&mut **device.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl Devices for Separate {
    fn in_use(&self) -> DevicesInUse {
        DevicesInUse { devices: self.each(|device| device.in_use()).collect() }
    }

    fn gpus(&self) -> Gpus {
        let environment = self.each(|device| device.environment()).next().unwrap_or_default();
        Gpus {
            count: u64::try_from(self.0.len()).unwrap_or(u64::MAX),
            ready: !self.0.is_empty(),
            dev_tools: false,
            environment: environment.to_owned(),
        }
    }

    fn evidence(&self, nonces: &dyn Fn(u32) -> [u8; 32]) -> Result<Vec<DeviceEvidence>, AttesterError> {
        let mut position: u32 = 0;
        let report = |device: &mut dyn Device| {
            let nonce = nonces(position);
            position = position.saturating_add(1);
            device.evidence(&nonce)
        };
        self.each(report).collect()
    }
}

impl<W: Send + Sync> Devices for Node<Ready<W>> {
    fn in_use(&self) -> DevicesInUse {
        self.devices_in_use().clone()
    }

    fn gpus(&self) -> Gpus {
        self.claims()
    }

    fn evidence(&self, nonces: &dyn Fn(u32) -> [u8; 32]) -> Result<Vec<DeviceEvidence>, AttesterError> {
        Ok(Node::evidence(self, nonces)?)
    }
}
