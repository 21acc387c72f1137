//! AMD's side: reports, certificates and revocation lists, from the descriptions in AMD publications 56860 and 57230.

mod certificate;
mod crl;
mod platform;
mod report;

pub use certificate::{SnpAuthority, SnpCertificate, SnpExtension, SnpKey};
pub use crl::SnpRevocationList;
pub use platform::{SimulatedSnp, SnpLevels, SnpOptions, SnpProduct, SnpSigningKey};
pub use report::SnpReport;

/// SHA-256 of the SubjectPublicKeyInfo of the simulated AMD root key, one for all products.
pub const SNP_ROOT_SPKI_SHA256: [u8; 32] =
    crate::authority::array_from_hex(b"d95dca50a509e081f4430d84882a4af65a06e81f30762ab7e146c0cda12a16f2");
