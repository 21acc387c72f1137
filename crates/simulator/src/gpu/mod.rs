//! Simulated devices of NVIDIA's kind: their certificate chains, their SPDM reports, and what endorses them, which is
//! manifests, OCSP responses and revocation lists.

mod c14n;
mod chain;
mod crl;
mod device;
mod flaw;
mod golden;
mod node;
mod nras;
mod ocsp;
mod report;
mod rim;
mod rim_signer;
mod switch;

pub use c14n::{CanonicalRim, canonical_rim};
pub use chain::DeviceDeviation;
pub use crl::{GpuCrlFlaw, GpuCrlHash, GpuRevocation, GpuRevocationList};
pub use device::{FwidKey, GpuChip, GpuOptions, LeafUsage, SimulatedGpu};
pub use flaw::{CertificateFlaw, FlawedCertificate};
pub use node::{NodeOptions, SimulatedNode};
pub use nras::{NrasAuthority, NrasDevice, NrasFlaw, NrasOptions};
pub use ocsp::{OcspFlaw, OcspHash, OcspOptions, OcspStatus, ocsp_unauthorized};
pub use rim::{RimActivity, RimFlaw, RimMeasurement, RimOptions, RimProduct};
pub use switch::{SimulatedSwitch, SwitchOptions};
