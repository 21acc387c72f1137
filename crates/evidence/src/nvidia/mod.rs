//! NVIDIA GPU and NVSwitch evidence: SPDM 1.1 measurement reports, device certificate chains and reference integrity
//! manifests.
//!
//! A report is what NVML (GPU) or NSCQ (NVSwitch) returns: the 37-byte GET_MEASUREMENTS request that the driver sent,
//! followed by the device's MEASUREMENTS response (DMTF DSP0274 1.1.0, sections 10.11.1 and 10.11.2). Parsing
//! establishes no trust: the verifier checks signature, chain, nonce and firmware id.
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)
)]

mod chain;
mod fwid;
mod list;
mod nras;
mod opaque;
mod report;
mod rim;
mod version;

pub use chain::{CHAIN_LENGTH, ChainError, DeviceChain, Family};
pub use fwid::{Fwid, FwidError, MAX_FLAGS, OperationalFlag, TcbInfo};
pub use list::{
    Architecture, FileError, ItemError, ListError, ListedDevice, MAX_DECODED, MAX_EVIDENCE_LIST, decoded,
    decoded_rim, device_of, evidence_list,
};
pub use nras::{
    Jwk, JwkKey, Jwks, JwksError, MAX_JWKS, MAX_JWKS_KEYS, MAX_KEY_ID, MAX_NRAS_ANSWER, MAX_NRAS_MEMBERS,
    MAX_NRAS_TOKEN, NrasAnswer, NrasError, Overall, Stamp, Submodule, SubmoduleName, Token, TokenError,
};
pub use opaque::{Mode, Opaque, OpaqueError, Record, SwitchGpus, Toggle};
pub use report::{Block, DeviceKind, MAX_REPORT, Report, ReportError};
pub use rim::{
    Activity, Edition, MAX_ALTERNATIVES, MAX_MEASUREMENTS, MAX_RIM, MAX_XML_ATTRIBUTES, MAX_XML_DEPTH,
    MAX_XML_ELEMENTS, MAX_XML_NAME, MAX_XML_PREFIXES, Measurement, RIM_CHAIN_LENGTH, Rim, RimError, XmlFault,
    canonical_xml,
};
pub use version::{DriverVersion, VbiosVersion, VersionError};
