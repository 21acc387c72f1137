//! What the attester needs of a CPU and of a GPU.

use confide_evidence::document::{DeviceEvidence, Endorsements};
use confide_evidence::event::DeviceInUse;

use crate::error::AttesterError;

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
