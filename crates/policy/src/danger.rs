//! The `[danger]` table: trust anchors of the simulator in place of the vendors'.

use crate::{HexBytes, PolicyError, vendor_roots};
use serde::Deserialize;

/// Trust anchors other than the vendors', named by an explicitly loaded danger policy.
///
/// Everything that is accepted under them is `SIMULATED`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Danger {
    /// Why this policy exists.
    pub reason: String,
    /// SHA-256 of the DER SubjectPublicKeyInfo of roots accepted in place of the Intel SGX Root CA.
    pub tdx_root_spki_sha256: Vec<HexBytes<32>>,
    /// SHA-256 of the DER SubjectPublicKeyInfo of roots accepted in place of the NVIDIA Device Identity CA.
    pub gpu_root_spki_sha256: Vec<HexBytes<32>>,
    /// SHA-256 of the DER SubjectPublicKeyInfo of roots accepted in place of the NVIDIA CoRIM signing Root CA.
    pub rim_root_spki_sha256: Vec<HexBytes<32>>,
    /// SHA-256 of the DER SubjectPublicKeyInfo of authorities accepted in place of those that issue the certificates of
    /// NVIDIA's attestation service.
    pub nras_root_spki_sha256: Vec<HexBytes<32>>,
    /// SHA-256 of the DER SubjectPublicKeyInfo of roots accepted in place of AMD's root keys (ARK).
    pub snp_root_spki_sha256: Vec<HexBytes<32>>,
}

impl Danger {
    pub(crate) fn check(&self) -> Result<(), PolicyError> {
        if !cfg!(feature = "danger-simulator") {
            return Err(PolicyError::DangerNotBuilt);
        }
        if self.reason.trim().is_empty() {
            return Err(PolicyError::NoReason("danger".to_owned()));
        }
        let Self {
            tdx_root_spki_sha256,
            gpu_root_spki_sha256,
            rim_root_spki_sha256,
            nras_root_spki_sha256,
            snp_root_spki_sha256,
            ..
        } = self;
        let named = [
            tdx_root_spki_sha256,
            gpu_root_spki_sha256,
            rim_root_spki_sha256,
            nras_root_spki_sha256,
            snp_root_spki_sha256,
        ];
        if named.iter().any(|roots| roots.is_empty()) {
            return Err(PolicyError::MixedAnchors);
        }
        if named.into_iter().flatten().any(|root| vendor_roots().contains(&root.0)) {
            return Err(PolicyError::VendorAnchor);
        }
        Ok(())
    }
}
