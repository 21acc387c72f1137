//! AMD's Key Distribution Service (AMD publication 57230, chapter 4).
//!
//! | object | path |
//! |---|---|
//! | VCEK certificate, DER | `/vcek/v1/PRODUCT/HWID?blSPL=…&teeSPL=…&snpSPL=…&ucodeSPL=…`; of Turin `fmcSPL` before them, and a hardware id of 8 bytes |
//! | ASK and ARK certificates, PEM | `/vcek/v1/PRODUCT/cert_chain` |
//! | ASVK and ARK certificates, PEM | `/vlek/v1/PRODUCT/cert_chain` |
//! | the ARK's CRL, DER | `/vcek/v1/PRODUCT/crl` or `/vlek/v1/PRODUCT/crl` |
//!
//! A VLEK's own certificate is the cloud provider's to give.

use std::fmt;

use confide_evidence::hex;
use confide_evidence::pem::MAX_PEM;
use confide_evidence::snp::{Product, Report, SigningKey, TcbVersion};
use confide_evidence::x509::{MAX_CERTIFICATE, MAX_CRL};

use crate::fetch::{Ask, Sent};
use crate::intel::{Intel, Origin, cache_name};
use crate::nvidia::Nvidia;
use crate::trust::Trust;

/// AMD's own service.
const KDS: &str = "https://kdsintf.amd.com";

/// What services call a DER certificate; the last two are file stores' words for a file of which they know nothing.
const CERTIFICATE: &[&str] = &[
    "application/pkix-cert",
    "application/x-x509-ca-cert",
    "application/octet-stream",
    "binary/octet-stream",
];
const CHAIN: &[&str] = &[
    "application/x-pem-file",
    "application/pem-certificate-chain",
    "application/octet-stream",
    "binary/octet-stream",
];
const CRL: &[&str] =
    &["application/pkix-crl", "application/x-pkcs7-crl", "application/octet-stream", "binary/octet-stream"];

/// AMD's service, or a cache of it.
#[derive(Clone, Debug)]
pub struct Amd {
    origin: Origin,
}

/// The vendors' services.
#[derive(Clone, Debug)]
pub(crate) struct Services {
    pub(crate) intel: Intel,
    pub(crate) amd: Amd,
    pub(crate) nvidia: Nvidia,
}

/// What AMD's service needs to know of the key that signs a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SnpPlatform {
    /// Product.
    pub product: Product,
    /// The key.
    pub key: SnpKey,
}

/// A key that signs reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SnpKey {
    /// The VCEK of a chip at a TCB version.
    Vcek {
        /// CHIP_ID.
        chip_id: [u8; 64],
        /// REPORTED_TCB, as the product lays it out.
        tcb: [u8; 8],
    },
    /// The VLEK of some cloud provider.
    Vlek,
}

/// Why a report does not say which key signs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SnpPlatformError {
    /// A report of version 2 names no product, and nobody else did.
    #[error("the report does not name its product: Milan, Genoa or Turin")]
    NoProduct,
    /// Family and model of no known product.
    #[error("a processor of family {0:#x} and model {1:#x}, which is no known product")]
    UnknownProcessor(u8, u8),
    /// The product that the caller named is not the report's.
    #[error("the report is of {report}, not of {named}")]
    OtherProduct {
        /// The report's.
        report: Product,
        /// The caller's.
        named: Product,
    },
    /// CHIP_ID is masked: nobody can tell whose VCEK it is.
    #[error("CHIP_ID is masked: the report does not say of which chip it is")]
    MaskedChipId,
    /// Neither VCEK nor VLEK signs the report.
    #[error("no VCEK or VLEK signs the report (SIGNING_KEY {0})")]
    NotSigned(u32),
}

impl SnpPlatform {
    /// The key that a report says it is signed with. Nothing is verified: a report that lies gets certificates that do not
    /// fit it. `named` stands in for the product that a report of version 2 leaves out.
    ///
    /// # Errors
    /// [`SnpPlatformError`].
    pub fn of_report(report: &Report<'_>, named: Option<Product>) -> Result<Self, SnpPlatformError> {
        let product = match (report.family_model, named) {
            (None, None) => return Err(SnpPlatformError::NoProduct),
            (None, Some(named)) => named,
            (Some((family, model)), named) => {
                let found = Product::from_cpuid(family, model)
                    .ok_or(SnpPlatformError::UnknownProcessor(family, model))?;
                match named {
                    Some(named) if named != found => {
                        return Err(SnpPlatformError::OtherProduct { report: found, named });
                    }
                    _ => found,
                }
            }
        };
        let key = match report.key_info.signing_key() {
            0 if report.masks_chip_id() => return Err(SnpPlatformError::MaskedChipId),
            0 => SnpKey::Vcek { chip_id: *report.chip_id, tcb: report.reported_tcb },
            1 => SnpKey::Vlek,
            other => return Err(SnpPlatformError::NotSigned(other)),
        };
        Ok(Self { product, key })
    }
}

impl SnpKey {
    /// The kind of key.
    #[must_use]
    pub fn kind(self) -> SigningKey {
        match self {
            Self::Vcek { .. } => SigningKey::Vcek,
            Self::Vlek => SigningKey::Vlek,
        }
    }
}

impl fmt::Display for SnpPlatform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.key.kind(), self.product)
    }
}

impl Amd {
    /// AMD's own service.
    ///
    /// # Panics
    /// Never: its address is a URL, as a test shows.
    #[must_use]
    pub fn kds() -> Self {
        let base = KDS.parse().expect("the address of AMD's service is a URL");
        Self::kds_at(Origin { base, trust: Trust::web() })
    }

    /// What speaks as AMD's own service does, elsewhere.
    #[must_use]
    pub fn kds_at(origin: Origin) -> Self {
        Self { origin }
    }

    pub(crate) fn cache_name(&self) -> String {
        cache_name("kds", &self.origin.base)
    }

    pub(crate) fn vcek(&self, product: Product, chip_id: &[u8; 64], tcb: [u8; 8]) -> Ask<'_> {
        let (TcbVersion { fmc, bootloader, tee, snp, microcode }, _) = TcbVersion::from_bytes(product, tcb);
        let (hardware_id, fmc) = match fmc {
            Some(fmc) => (chip_id.get(..8).unwrap_or_default(), format!("fmcSPL={fmc:02}&")),
            None => (&chip_id[..], String::new()),
        };
        let hardware_id = hex::encode(hardware_id);
        let levels =
            format!("{fmc}blSPL={bootloader:02}&teeSPL={tee:02}&snpSPL={snp:02}&ucodeSPL={microcode:02}");
        let path = format!("/vcek/v1/{product}/{hardware_id}?{levels}");
        Ask {
            origin: &self.origin,
            path,
            sent: Sent::Nothing,
            media_types: CERTIFICATE,
            limit: MAX_CERTIFICATE,
        }
    }

    pub(crate) fn chain(&self, product: Product, key: SigningKey) -> Ask<'_> {
        let path = format!("/{}/v1/{product}/cert_chain", segment(key));
        Ask { origin: &self.origin, path, sent: Sent::Nothing, media_types: CHAIN, limit: MAX_PEM }
    }

    pub(crate) fn crl(&self, product: Product, key: SigningKey) -> Ask<'_> {
        let path = format!("/{}/v1/{product}/crl", segment(key));
        Ask { origin: &self.origin, path, sent: Sent::Nothing, media_types: CRL, limit: MAX_CRL }
    }
}

/// The kind of key in a path, and in a file's name.
pub(crate) fn segment(key: SigningKey) -> &'static str {
    match key {
        SigningKey::Vcek => "vcek",
        SigningKey::Vlek => "vlek",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amds_own_addresses() {
        let kds = Amd::kds();
        let url = |ask: Ask<'_>| format!("{}{}", ask.origin.base, ask.path);
        let chip_id = std::array::from_fn(|at| u8::try_from(at).unwrap());
        let digits: String = chip_id.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            url(kds.vcek(Product::Milan, &chip_id, [4, 0, 0, 0, 0, 0, 24, 219])),
            format!(
                "https://kdsintf.amd.com/vcek/v1/Milan/{digits}?blSPL=04&teeSPL=00&snpSPL=24&ucodeSPL=219"
            )
        );
        assert_eq!(
            url(kds.vcek(Product::Turin, &chip_id, [1, 2, 3, 4, 0, 0, 0, 81])),
            "https://kdsintf.amd.com/vcek/v1/Turin/0001020304050607?fmcSPL=01&blSPL=02&teeSPL=03&snpSPL=04&ucodeSPL=81"
        );
        assert_eq!(
            url(kds.chain(Product::Genoa, SigningKey::Vlek)),
            "https://kdsintf.amd.com/vlek/v1/Genoa/cert_chain"
        );
        assert_eq!(
            url(kds.crl(Product::Genoa, SigningKey::Vcek)),
            "https://kdsintf.amd.com/vcek/v1/Genoa/crl"
        );
        assert!(kds.cache_name().starts_with("kds-kdsintf.amd.com-"), "{}", kds.cache_name());
    }
}
