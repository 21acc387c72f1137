//! A software TDX platform, a software SEV-SNP platform, and software GPUs and NVSwitches that sign evidence in the
//! vendors' real formats, with what endorses them: collateral, manifests, OCSP responses, revocation lists.
//!
//! All end in roots whose private keys are committed in `fixtures/simulator/`. Everybody has those keys, so
//! nothing that ends in them proves anything: only a policy file named `danger-*.toml` that names the roots
//! accepts such evidence, and the subject names of every certificate contain `SIMULATED`.
//!
//! The same options always give the same bytes, signatures included.
//!
//! The encoders here are written from the formats' descriptions and share no code with `confide-evidence`, whose
//! parsers they test.
//!
//! ```
//! use confide_simulator::{PlatformOptions, SimulatedGpu, SimulatedPlatform, SimulatedTd};
//!
//! let platform = SimulatedPlatform::new(PlatformOptions::at(1_780_000_000))?;
//! let mut td = SimulatedTd::default();
//! td.extend_rtmr3(&[7; 48]);
//! let quote = platform.quote(&td.report([1; 64]));
//! assert_eq!(&quote[568..632], &[1; 64], "the report data of a version 4 quote");
//!
//! let gpu = SimulatedGpu::new(0)?;
//! assert_eq!(&gpu.report([2; 32])[4..36], &[2; 32], "the nonce of the SPDM request");
//!
//! let [driver, vbios] = gpu.rims(1_780_000_000);
//! assert_eq!(driver.id, "NV_GPU_DRIVER_GH100_580.95.05");
//! assert!(vbios.encode()?.starts_with(b"<SoftwareIdentity "));
//! # Ok::<(), confide_simulator::SimulatorError>(())
//! ```

mod authority;
mod certificate;
mod crl;
mod der;
mod ecdsa;
mod error;
mod gpu;
mod keys;
mod rsa;
mod snp;
mod tdx;
mod text;

pub use authority::{
    GPU_ROOT_SPKI_SHA256, NRAS_EC_SPKI_SHA256, NRAS_RSA_SPKI_SHA256, RIM_ROOT_SPKI_SHA256,
    TDX_ROOT_SPKI_SHA256, gpu_root_certificate, rim_root_certificate, tdx_root_certificate,
};
pub use error::SimulatorError;
pub use gpu::{
    CanonicalRim, CertificateFlaw, DeviceDeviation, FlawedCertificate, FwidKey, GpuChip, GpuCrlFlaw,
    GpuCrlHash, GpuOptions, GpuRevocation, GpuRevocationList, LeafUsage, NodeOptions, NrasAuthority,
    NrasDevice, NrasFlaw, NrasOptions, OcspFlaw, OcspHash, OcspOptions, OcspStatus, RimActivity, RimFlaw,
    RimMeasurement, RimOptions, RimProduct, SimulatedGpu, SimulatedNode, SimulatedSwitch, SwitchOptions,
    canonical_rim, ocsp_unauthorized,
};
pub use snp::{
    SNP_ROOT_SPKI_SHA256, SimulatedSnp, SnpAuthority, SnpCertificate, SnpExtension, SnpKey, SnpLevels,
    SnpOptions, SnpProduct, SnpReport, SnpRevocationList, SnpSigningKey,
};
pub use tdx::{
    BootEvent, Collateral, ExtendedMeasurements, FMSPC, ModuleIdentity, ModuleLevel, PCEID, PckCa, PckFlags,
    PckProfile, PlatformOptions, QeOptions, QuoteFlaw, QuoteForm, Revocable, RevocationList, SeamOptions,
    SimulatedBootLog, SimulatedPlatform, SimulatedTd, SvnLevel, TcbLevel, TdMeasurements, TdReport, Window,
    Windows, simulated_measurement,
};
