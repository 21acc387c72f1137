//! A device with its keys.

use super::{chain, report};
use crate::SimulatorError;
use crate::ecdsa::Curve;
use crate::keys::{SigningKey, seeded_array};

/// What the leaf certificate's key may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LeafUsage {
    /// Sign reports.
    #[default]
    DigitalSignature,
    /// Sign certificates, which is wrong.
    CertificateSigning,
}

/// What can be chosen about a GPU. Start from [`GpuOptions::hopper`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuOptions {
    /// Tells devices apart: keys, serial numbers and PDI follow from it.
    pub seed: u64,
    /// DRIVER_VERSION (opaque field 3), without its final NUL.
    pub driver_version: String,
    /// VBIOS_VERSION (opaque field 6).
    pub vbios_version: [u8; 8],
    /// The FWID in the leaf certificate.
    pub certificate_fwid: [u8; 48],
    /// FWID (opaque field 20) in the report; `None` leaves the field out, as drivers before 550 do.
    pub report_fwid: Option<[u8; 48]>,
    /// NVDEC0_STATUS (opaque field 11): 0xaa enabled, 0x55 disabled.
    pub nvdec0: u8,
    /// PROTECTED_PCIE_STATUS (opaque field 21): 0xaa on, 0x55 off.
    pub protected_pcie: u8,
    /// FEATURE_FLAG (opaque field 36): 0 single pass-through, 1 multi pass-through, 2 protected PCIe.
    pub feature_flag: u16,
    /// PDIs of the switches that the GPU is linked to (opaque field 22, which is left out where there are none).
    pub switch_pdis: Vec<[u8; 8]>,
    /// What the leaf certificate's key may do.
    pub leaf_usage: LeafUsage,
}

impl GpuOptions {
    /// A Hopper in single pass-through mode with a driver of 2025.
    #[must_use]
    pub fn hopper(seed: u64) -> Self {
        let fwid = seeded_array("GH100 FWID", 0);
        Self {
            seed,
            driver_version: "580.95.05".into(),
            // Text form 96.00.D0.00.02.
            vbios_version: [0x00, 0xd0, 0x00, 0x96, 0x02, 0, 0, 0],
            certificate_fwid: fwid,
            report_fwid: Some(fwid),
            nvdec0: 0x55,
            protected_pcie: 0x55,
            feature_flag: 0,
            switch_pdis: Vec::new(),
            leaf_usage: LeafUsage::DigitalSignature,
        }
    }
}

/// A GPU that reports. Devices with different seeds have different keys, serial numbers and PDIs.
#[derive(Debug)]
pub struct SimulatedGpu {
    options: GpuOptions,
    leaf_key: SigningKey,
    chain: String,
}

impl SimulatedGpu {
    /// The device of this seed with the options of [`GpuOptions::hopper`].
    ///
    /// Everything follows from the seed: the same seed gives the same bytes.
    ///
    /// # Errors
    /// [`SimulatorError`] if a key or certificate cannot be made.
    pub fn new(seed: u64) -> Result<Self, SimulatorError> {
        Self::with_options(GpuOptions::hopper(seed))
    }

    /// A device with these options.
    ///
    /// # Errors
    /// [`SimulatorError`] if a key or certificate cannot be made.
    pub fn with_options(options: GpuOptions) -> Result<Self, SimulatorError> {
        let brom_key = SigningKey::derive(Curve::P384, "BROM key", options.seed)?;
        let leaf_key = SigningKey::derive(Curve::P384, "FMC key", options.seed)?;
        let chain = chain::issue(&brom_key, &leaf_key, &options)?;
        Ok(Self { options, leaf_key, chain })
    }

    /// What NVML returns as attestation report: SPDM request ‖ response, with this nonce in the request.
    #[must_use]
    pub fn report(&self, nonce: [u8; 32]) -> Vec<u8> {
        report::encode(&self.options, &self.leaf_key, &nonce)
    }

    /// What NVML returns as attestation certificate chain: five PEM certificates, leaf first.
    #[must_use]
    pub fn chain_pem(&self) -> String {
        self.chain.clone()
    }

    /// The device's eight-byte PDI, which its BROM certificate's serial number carries.
    #[must_use]
    pub fn pdi(&self) -> [u8; 8] {
        chain::pdi(self.options.seed)
    }

    /// Signs an edited report anew: replaces its last 96 bytes.
    ///
    /// # Panics
    /// If the report is shorter than a signature.
    #[must_use]
    pub fn resign(&self, report: &[u8]) -> Vec<u8> {
        let signed = &report[..report.len() - report::SIGNATURE_LENGTH];
        [signed, &self.leaf_key.sign(signed)].concat()
    }
}
