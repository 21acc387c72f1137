//! The guest's devices to evidence.
//!
//! Layer 5. An [`Attester`] owns the CPU's quoting device, RTMR3 and the GPUs. It measures events and answers a
//! [`Binding`](confide_evidence::transcript::Binding) with an evidence document whose transcript it composes
//! itself: no interface signs report data that a caller chose. A [`gpu::Node`] takes the GPUs to the ready state.
//!
//! Two platforms exist: Intel TDX, whose quotes come through the kernel's configfs-tsm ([`Attester::tdx`]) or from the host's
//! service over vsock ([`Attester::tdx_over_vsock`]), and, behind the feature
//! `danger-simulator` that is off in every image, a software TDX module with software GPUs
//! (`Attester::simulated`). Neither falls back to the other.

#![cfg_attr(
    not(test),
    warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)
)]

mod attester;
mod boot_log;
mod codes;
mod deadline;
mod device;
pub mod entropy;
mod error;
pub mod gpu;
pub mod kernel;
mod qgs;
pub mod readers;
#[cfg(feature = "danger-simulator")]
mod served;
#[cfg(feature = "danger-simulator")]
mod simulated;
mod tsm;
mod vsock;

pub use attester::Attester;
pub use codes::CODES;
pub use device::Nature;
pub use error::AttesterError;
#[cfg(feature = "danger-simulator")]
pub use simulated::SimulatedMachine;
pub use tsm::WRITTEN;
