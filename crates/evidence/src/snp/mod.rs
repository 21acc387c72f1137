//! AMD SEV-SNP: attestation reports and what the certificates of their signing keys say.
//!
//! Sources: *SEV Secure Nested Paging Firmware ABI Specification* (AMD publication 56860) and *Versioned Chip Endorsement
//! Key (VCEK) Certificate and KDS Interface Specification* (57230). Parsing establishes no trust.

mod bits;
mod certificate;
mod files;
mod product;
mod report;
mod show;
mod tcb;

pub use bits::{AbiVersion, FirmwareVersion, GuestPolicy, KeyInfo, PlatformInfo};
pub use certificate::{EndorsementError, EndorsementKey, HardwareId, MAX_CSP_ID};
pub use files::{FileError, MAX_FILE, certificates, revocation_lists};
pub use product::{Product, SigningKey};
pub use report::{REPORT, Report, ReportError, SIGNED};
pub use tcb::TcbVersion;

/// The most certificates that an appraisal takes: signing key, ASK or ASVK, ARK.
pub const MAX_CERTIFICATES: usize = 3;
/// The most revocation lists that an appraisal takes. AMD publishes one for each product and kind of signing key.
pub const MAX_CRLS: usize = 4;
