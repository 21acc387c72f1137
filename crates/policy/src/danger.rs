//! The `[danger]` table: trust anchors of the simulator in place of the vendors'.

use crate::HexBytes;
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
}
