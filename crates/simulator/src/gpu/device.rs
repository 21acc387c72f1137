//! A device with its keys.

use std::collections::BTreeMap;

use super::chain::{DeviceDeviation, Family, Identity};
use super::flaw::FlawedCertificate;
use super::golden::Golden;
use super::report::Report;
use super::rim::{RimOptions, RimProduct};
use super::{chain, report};
use crate::keys::{SigningKey, seeded_array};
use crate::tdx::simulated_measurement;
use crate::text::{certificate_pem, hex_upper};
use crate::{SimulatorError, Window};

/// Blocks of a GPU's report.
const BLOCKS: u8 = 64;
/// NVLinks of a Hopper.
const NVLINKS: usize = 18;
/// NVDEC0_STATUS of a GPU whose decoder is disabled.
const NVDEC_DISABLED: u8 = 0x55;
/// The measurement that is compared only if the decoder is enabled.
const NVDEC_MEASUREMENT: u8 = 35;

/// The chips that can be simulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GpuChip {
    /// Hopper.
    Gh100,
    /// Blackwell for data centres.
    Gb100,
    /// Blackwell for workstations and servers: a GB202.
    Gb20x,
}

/// Blocks (1-based) that a Hopper fills; the others hold zeros.
const HOPPER_FILLED: [u8; 33] = [
    2, 3, 4, 5, 6, 7, 8, 10, 12, 22, 23, 26, 27, 28, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 48,
    49, 50, 51, 52, 53,
];
/// Blocks that a recorded GB100 with a driver of 2026 fills.
const BLACKWELL_FILLED: [u8; 32] = [
    2, 3, 4, 5, 7, 9, 12, 13, 14, 15, 18, 19, 20, 21, 41, 42, 46, 47, 48, 49, 50, 51, 53, 54, 55, 56, 57, 59,
    60, 61, 62, 64,
];

/// Measurements (0-based) that driver manifests compare. Those of Blackwell are made up: none is recorded.
const HOPPER_DRIVER: [u8; 22] =
    [7, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41];
const BLACKWELL_DRIVER: [u8; 22] =
    [35, 40, 41, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63];
/// How many alternatives they name, where more than one.
const DRIVER_ALTERNATIVES: [(u8, u8); 6] = [(23, 2), (24, 2), (32, 2), (34, 2), (35, 4), (36, 2)];
/// Measurements that VBIOS manifests compare.
const HOPPER_VBIOS: [u8; 12] = [0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12];
const BLACKWELL_VBIOS: [u8; 20] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 15, 16, 17, 18, 19, 20];
/// How many alternatives they name, where more than one.
const VBIOS_ALTERNATIVES: [(u8, u8); 1] = [(12, 4)];

impl GpuChip {
    fn family(self) -> Family {
        match self {
            Self::Gh100 => Family::Gh100,
            Self::Gb100 => Family::Gb100,
            Self::Gb20x => Family::Gb20x,
        }
    }

    fn product(self) -> RimProduct {
        match self {
            Self::Gh100 => RimProduct::Gh100,
            Self::Gb100 => RimProduct::Gb100,
            Self::Gb20x => RimProduct::Gb20x,
        }
    }

    fn filled(self) -> &'static [u8] {
        match self {
            Self::Gh100 => &HOPPER_FILLED,
            Self::Gb100 | Self::Gb20x => &BLACKWELL_FILLED,
        }
    }
}

/// What the leaf certificate's key may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LeafUsage {
    /// Sign reports.
    #[default]
    DigitalSignature,
    /// Sign certificates, which is wrong.
    CertificateSigning,
}

/// Whose key the FWID extension of a Hopper's or a switch's leaf certificate names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FwidKey {
    /// The BROM's, which has issued it.
    #[default]
    Brom,
    /// That of nobody, which is wrong.
    Another,
}

/// What can be chosen about a GPU. Start from [`GpuOptions::hopper`], [`GpuOptions::blackwell`] or
/// [`GpuOptions::gb20x`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuOptions {
    /// Tells devices apart: keys, serial numbers and PDI follow from it.
    pub seed: u64,
    /// The chip that reports.
    pub chip: GpuChip,
    /// The chip that the certificates name.
    pub certificate_chip: GpuChip,
    /// DRIVER_VERSION (opaque field 3), without its final NUL.
    pub driver_version: String,
    /// VBIOS_VERSION (opaque field 6).
    pub vbios_version: [u8; 8],
    /// CHIP_SKU (opaque field 15), at most nine characters.
    pub chip_sku: String,
    /// PROJECT (opaque field 17), at most five characters.
    pub project: String,
    /// PROJECT_SKU (opaque field 18), at most five characters.
    pub project_sku: String,
    /// The FWID in the leaf certificate.
    pub certificate_fwid: [u8; 48],
    /// Whose key stands beside it, in the leaf certificate of a Hopper.
    pub fwid_key: FwidKey,
    /// svn of TcbInfo in the leaf certificate of a Blackwell, below 128.
    pub tcb_svn: u8,
    /// flags of TcbInfo in the leaf certificate of a Blackwell, the first bit the first byte's highest.
    pub tcb_flags: [u8; 4],
    /// FWID (opaque field 20) in the report; `None` leaves the field out, as drivers before 550 do.
    pub report_fwid: Option<[u8; 48]>,
    /// NVDEC0_STATUS (opaque field 11): 0xaa enabled, 0x55 disabled.
    pub nvdec0: u8,
    /// PROTECTED_PCIE_STATUS (opaque field 21) of a Hopper: 0xaa on, 0x55 off. A Blackwell has no such field.
    pub protected_pcie: u8,
    /// FEATURE_FLAG (opaque field 36): 0 single pass-through, 1 multi pass-through, 2 protected PCIe.
    pub feature_flag: u16,
    /// PDIs of the switches that a Hopper is linked to (opaque field 22, which is left out where there are none).
    pub switch_pdis: Vec<[u8; 8]>,
    /// SYS_ENABLE_STATUS (opaque field 33) of a Blackwell.
    pub sys_enable_status: [u8; 2],
    /// OPAQUE_DATA_VERSION (opaque field 34).
    pub opaque_data_version: u16,
    /// CHIP_INFO (opaque field 35) of a Blackwell, without its final NUL.
    pub chip_info: String,
    /// Measurements of other value than the chip's usual one, by index from 0 to 63; manifests keep the usual ones.
    pub measurements: BTreeMap<u8, [u8; 48]>,
    /// Opaque fields that are left out.
    pub omitted_records: Vec<u16>,
    /// Opaque fields, type and value, that follow all others.
    pub added_records: Vec<(u16, Vec<u8>)>,
    /// What the leaf certificate's key may do.
    pub leaf_usage: LeafUsage,
    /// notBefore and notAfter of the leaf certificate, Unix seconds.
    pub leaf_window: Window,
    /// What is wrong with one certificate of the chain.
    pub flawed: Option<FlawedCertificate>,
    /// What leaf and BROM certificate say that chip and seed do not.
    pub deviation: Box<DeviceDeviation>,
}

impl GpuOptions {
    /// A Hopper in single pass-through mode with a driver of 2025.
    #[must_use]
    pub fn hopper(seed: u64) -> Self {
        let fwid = seeded_array("GH100 FWID", 0);
        Self {
            seed,
            chip: GpuChip::Gh100,
            certificate_chip: GpuChip::Gh100,
            driver_version: "580.95.05".into(),
            // Text form 96.00.D0.00.02.
            vbios_version: [0x00, 0xd0, 0x00, 0x96, 0x02, 0, 0, 0],
            chip_sku: "000".into(),
            project: "SIM0".into(),
            project_sku: "0000".into(),
            certificate_fwid: fwid,
            fwid_key: FwidKey::Brom,
            tcb_svn: 1,
            tcb_flags: [0x80, 0, 0, 0x01],
            report_fwid: Some(fwid),
            nvdec0: NVDEC_DISABLED,
            protected_pcie: 0x55,
            feature_flag: 0,
            switch_pdis: Vec::new(),
            sys_enable_status: [7, 7],
            opaque_data_version: 1,
            chip_info: String::new(),
            measurements: BTreeMap::new(),
            omitted_records: Vec::new(),
            added_records: Vec::new(),
            leaf_usage: LeafUsage::DigitalSignature,
            leaf_window: Family::Gh100.window(),
            flawed: None,
            deviation: Box::default(),
        }
    }

    /// A GB100 in single pass-through mode with a driver of 2026.
    #[must_use]
    pub fn blackwell(seed: u64) -> Self {
        let fwid = seeded_array("GB100 FWID", 0);
        Self {
            chip: GpuChip::Gb100,
            certificate_chip: GpuChip::Gb100,
            driver_version: "590.48.01".into(),
            // Text form 97.00.D9.00.35.
            vbios_version: [0x00, 0xd9, 0x00, 0x97, 0x35, 0, 0, 0],
            project: "SIM1".into(),
            certificate_fwid: fwid,
            report_fwid: Some(fwid),
            nvdec0: 0xaa,
            chip_info: "GB100".into(),
            leaf_window: Family::Gb100.window(),
            ..Self::hopper(seed)
        }
    }

    /// A GB202, whose certificates are those of the family GB20X.
    #[must_use]
    pub fn gb20x(seed: u64) -> Self {
        Self {
            chip: GpuChip::Gb20x,
            certificate_chip: GpuChip::Gb20x,
            project: "SIM2".into(),
            sys_enable_status: [7, 0],
            chip_info: "GB202".into(),
            ..Self::blackwell(seed)
        }
    }

    /// The VBIOS version as text: `96.00.D0.00.02`.
    #[must_use]
    pub fn vbios_text(&self) -> String {
        let [b0, b1, b2, b3, b4, ..] = self.vbios_version;
        [b3, b2, b1, b0, b4].map(|byte| hex_upper(&[byte])).join(".")
    }

    /// Id of the driver's manifest, as NVIDIA's service names it.
    #[must_use]
    pub fn driver_rim_id(&self) -> String {
        match self.chip {
            GpuChip::Gh100 => format!("NV_GPU_DRIVER_GH100_{}", self.driver_version),
            GpuChip::Gb100 | GpuChip::Gb20x => {
                format!("NV_GPU_CC_DRIVER_{}_{}", self.chip_info, self.driver_version)
            }
        }
    }

    /// Id of the VBIOS' manifest, as NVIDIA's service names it.
    #[must_use]
    pub fn vbios_rim_id(&self) -> String {
        let version = self.vbios_text().replace('.', "");
        let Self { project, project_sku, chip_sku, .. } = self;
        format!("NV_GPU_VBIOS_{project}_{project_sku}_{chip_sku}_{version}").to_uppercase()
    }

    /// The blocks' values without edits.
    fn usual_blocks(&self) -> Vec<[u8; 48]> {
        let block = |index: u8| match self.chip.filled().contains(&index) {
            true => simulated_measurement(&format!("{} block {index}", self.chip.product().name())),
            false => [0; 48],
        };
        (1..=BLOCKS).map(block).collect()
    }

    fn report(&self) -> Report {
        let mut blocks = self.usual_blocks();
        for (index, value) in &self.measurements {
            blocks[usize::from(*index)] = *value;
        }
        let mut records = self.records();
        records.retain(|(id, _)| !self.omitted_records.contains(id));
        records.extend(self.added_records.iter().cloned());
        let device = match self.chip {
            GpuChip::Gh100 => String::new(),
            other => other.product().name().to_owned(),
        };
        Report { device, seed: self.seed, blocks, records }
    }

    /// The opaque records in the order in which the firmware writes them.
    fn records(&self) -> Vec<(u16, Vec<u8>)> {
        let filled = self.chip.filled();
        let counters =
            (1..=BLOCKS).flat_map(|index| u32::from(filled.contains(&index)).to_le_bytes()).collect();
        let mut records = vec![
            (6, self.vbios_version.to_vec()),
            (14, vec![0xa1, 0x04, 0, 0]),
            (15, padded(&self.chip_sku, 9)),
            (16, padded("0", 5)),
            (17, padded(&self.project, 5)),
            (18, padded(&self.project_sku, 5)),
            (19, vec![0, 0]),
            (3, padded(&self.driver_version, self.driver_version.len() + 1)),
            (4, vec![0x80, 0x01, 0, 0, 0, 0, 0, 0]),
            (12, counters),
            (13, vec![0, 0xc0, 0x01, 0]),
            (11, vec![self.nvdec0]),
        ];
        if let Some(fwid) = &self.report_fwid {
            records.push((20, fwid.to_vec()));
        }
        match self.chip {
            GpuChip::Gh100 => {
                records.push((21, vec![self.protected_pcie]));
                records.extend(self.switch_links().map(|links| (22, links)));
            }
            GpuChip::Gb100 | GpuChip::Gb20x => {
                records.push((33, self.sys_enable_status.to_vec()));
                records.push((35, padded(&self.chip_info, self.chip_info.len() + 1)));
            }
        }
        records.push((34, self.opaque_data_version.to_le_bytes().to_vec()));
        records.push((36, self.feature_flag.to_le_bytes().to_vec()));
        records
    }

    /// One PDI for each NVLink, with its bytes reversed, and zeros where a link is off.
    fn switch_links(&self) -> Option<Vec<u8>> {
        let mut pdis: Vec<u8> = self.switch_pdis.iter().flat_map(|pdi| pdi.iter().rev().copied()).collect();
        if pdis.is_empty() {
            return None;
        }
        pdis.resize(NVLINKS * 8, 0);
        Some(pdis)
    }
}

/// Text and NULs up to this length.
fn padded(text: &str, length: usize) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.resize(length, 0);
    bytes
}

/// A GPU that reports. Devices with different seeds have different keys, serial numbers and PDIs.
#[derive(Debug)]
pub struct SimulatedGpu {
    options: GpuOptions,
    leaf_key: SigningKey,
    chain: Vec<Vec<u8>>,
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
        let family = options.certificate_chip.family();
        let identity = Identity {
            family,
            seed: options.seed,
            deviation: (*options.deviation).clone(),
            fwid: options.certificate_fwid,
            tcb: (options.tcb_svn, options.tcb_flags),
            fwid_key: options.fwid_key,
            leaf_usage: options.leaf_usage,
            leaf_window: options.leaf_window,
            flawed: options.flawed,
        };
        let keys = identity.keys()?;
        let chain = chain::issue(&keys, &identity)?;
        let [_, leaf_key] = keys;
        Ok(Self { options, leaf_key, chain })
    }

    /// The options of this device.
    #[must_use]
    pub fn options(&self) -> &GpuOptions {
        &self.options
    }

    /// What NVML returns as attestation report: SPDM request ‖ response, with this nonce in the request.
    ///
    /// # Panics
    /// If the options name a measurement above 63.
    #[must_use]
    pub fn report(&self, nonce: [u8; 32]) -> Vec<u8> {
        self.options.report().encode(&self.leaf_key, &nonce)
    }

    /// What NVML returns as attestation certificate chain: five PEM certificates, leaf first.
    #[must_use]
    pub fn chain_pem(&self) -> String {
        self.chain.iter().map(|der| certificate_pem(der)).collect()
    }

    /// The five certificates, DER, leaf first.
    #[must_use]
    pub fn certificates(&self) -> &[Vec<u8>] {
        &self.chain
    }

    /// The device's eight-byte PDI, which its BROM certificate's serial number carries.
    #[must_use]
    pub fn pdi(&self) -> [u8; 8] {
        let seed = self.options.deviation.brom_seed.unwrap_or(self.options.seed);
        chain::pdi(self.options.certificate_chip.family(), seed)
    }

    /// The manifests of the driver and of the VBIOS, which match the report of a device without edited measurements,
    /// good at this time.
    ///
    /// Where the decoder is disabled, the driver's manifest names nothing that the report shows under index 35, which
    /// then is not compared.
    #[must_use]
    pub fn rims(&self, now_unix: u64) -> [RimOptions; 2] {
        let options = &self.options;
        let (driver, vbios): (&[u8], &[u8]) = match options.chip {
            GpuChip::Gh100 => (&HOPPER_DRIVER, &HOPPER_VBIOS),
            GpuChip::Gb100 | GpuChip::Gb20x => (&BLACKWELL_DRIVER, &BLACKWELL_VBIOS),
        };
        let blocks = options.usual_blocks();
        let product = options.chip.product();
        let driver = Golden {
            product,
            blocks: &blocks,
            active: driver,
            alternatives: &DRIVER_ALTERNATIVES,
            unmatched: (options.nvdec0 == NVDEC_DISABLED).then_some(NVDEC_MEASUREMENT),
        };
        let vbios = Golden {
            product,
            blocks: &blocks,
            active: vbios,
            alternatives: &VBIOS_ALTERNATIVES,
            unmatched: None,
        };
        [
            driver.manifest(&options.driver_rim_id(), &options.driver_version, now_unix),
            vbios.manifest(&options.vbios_rim_id(), &options.vbios_text(), now_unix),
        ]
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
