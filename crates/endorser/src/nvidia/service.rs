//! Where NVIDIA's services are, and how they are asked.

use bytes::Bytes;
use confide_evidence::ocsp::MAX_OCSP;
use confide_evidence::x509::MAX_CRL;

use super::crl::NvidiaCrl;
use super::id::RimId;
use super::request::OcspSubject;
use super::rim::{MAX_RIM_ANSWER, MAX_RIM_LIST};
use crate::fetch::{Ask, Sent};
use crate::intel::Origin;
use crate::trust::Trust;

const RIMS: &str = "https://rim.attestation.nvidia.com";
/// Certificates name it with http://, and it answers with https://, too.
const OCSP: &str = "https://ocsp.ndis.nvidia.com";
/// As there.
const CRLS: &str = "https://crl.ndis.nvidia.com";

const JSON: &[&str] = &["application/json"];
/// RFC 6960 appendix A.
const OCSP_REQUEST: &str = "application/ocsp-request";
const OCSP_RESPONSE: &[&str] = &["application/ocsp-response"];
/// What services call a DER list; the last two are file stores' words for a file of which they know nothing.
const CRL: &[&str] =
    &["application/pkix-crl", "application/x-pkcs7-crl", "application/octet-stream", "binary/octet-stream"];

/// NVIDIA's services, or what stands in for them.
#[derive(Clone, Debug)]
pub struct Nvidia {
    rims: Origin,
    ocsp: Origin,
    crls: Origin,
}

impl Nvidia {
    /// NVIDIA's own services.
    ///
    /// # Panics
    /// Never: their addresses are URLs, as a test shows.
    #[must_use]
    pub fn public() -> Self {
        let origin = |text: &str| Origin {
            base: text.parse().expect("the addresses of NVIDIA's services are URLs"),
            trust: Trust::web(),
        };
        Self { rims: origin(RIMS), ocsp: origin(OCSP), crls: origin(CRLS) }
    }

    /// Asks there for RIMs.
    #[must_use]
    pub fn rims_at(self, rims: Origin) -> Self {
        Self { rims, ..self }
    }

    /// Asks there about certificates.
    #[must_use]
    pub fn ocsp_at(self, ocsp: Origin) -> Self {
        Self { ocsp, ..self }
    }

    /// Asks there for revocation lists.
    #[must_use]
    pub fn crls_at(self, crls: Origin) -> Self {
        Self { crls, ..self }
    }

    pub(super) fn rim(&self, id: &RimId) -> Ask<'_> {
        let path = format!("/v1/rim/{id}");
        Ask { origin: &self.rims, path, sent: Sent::Nothing, media_types: JSON, limit: MAX_RIM_ANSWER }
    }

    pub(super) fn rim_ids(&self) -> Ask<'_> {
        let path = "/v1/rim/ids".to_owned();
        Ask { origin: &self.rims, path, sent: Sent::Nothing, media_types: JSON, limit: MAX_RIM_LIST }
    }

    pub(super) fn ocsp(&self, subject: &OcspSubject<'_>) -> Ask<'_> {
        let sent = Sent::Body(OCSP_REQUEST, Bytes::from(subject.request()));
        Ask { origin: &self.ocsp, path: "/".to_owned(), sent, media_types: OCSP_RESPONSE, limit: MAX_OCSP }
    }

    pub(super) fn crl(&self, list: NvidiaCrl) -> Ask<'_> {
        let path = list.path().to_owned();
        Ask { origin: &self.crls, path, sent: Sent::Nothing, media_types: CRL, limit: MAX_CRL }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nvidias_own_addresses() {
        let nvidia = Nvidia::public();
        let url = |ask: Ask<'_>| format!("{}{}", ask.origin.base, ask.path);
        let id = "NV_GPU_DRIVER_GH100_550.90.07".parse().unwrap();
        assert_eq!(
            url(nvidia.rim(&id)),
            "https://rim.attestation.nvidia.com/v1/rim/NV_GPU_DRIVER_GH100_550.90.07"
        );
        assert_eq!(url(nvidia.rim_ids()), "https://rim.attestation.nvidia.com/v1/rim/ids");
        assert_eq!(
            NvidiaCrl::ALL.map(|list| url(nvidia.crl(list))),
            [
                "https://crl.ndis.nvidia.com/crl/l1-root.crl",
                "https://crl.ndis.nvidia.com/crl/l2-gh100.crl",
                "https://crl.ndis.nvidia.com/crl/l2-gb100.crl",
                "https://crl.ndis.nvidia.com/crl-corim/l1-corim",
            ]
        );
    }
}
