//! The simulated GPU: a Hopper in single pass-through mode, its certificate chain and its SPDM reports.

mod chain;
mod device;
mod report;

pub use device::{GpuOptions, LeafUsage, SimulatedGpu};
