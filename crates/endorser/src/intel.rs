//! Intel's Provisioning Certification Service (PCS), API version 4, and the caches that speak its language (PCCS).
//!
//! | object | PCS | PCCS |
//! |---|---|---|
//! | TCB info | `/tdx/certification/v4/tcb`, header `TCB-Info-Issuer-Chain` | the same |
//! | QE identity | `/tdx/certification/v4/qe/identity`, header `SGX-Enclave-Identity-Issuer-Chain` | the same |
//! | PCK CRL | `/sgx/certification/v4/pckcrl?encoding=der`, header `SGX-PCK-CRL-Issuer-Chain` | the same; DER or its hexadecimal digits |
//! | root CA CRL | `https://certificates.trustedservices.intel.com/IntelSGXRootCA.der` | `/sgx/certification/v4/rootcacrl`; DER or its hexadecimal digits |

use std::fmt;
use std::str::FromStr;

use confide_evidence::hash::sha256;
use confide_evidence::hex;
use confide_evidence::tdx::{MAX_CRL_ANSWER, MAX_SIGNED_ANSWER};

use crate::fetch::{Ask, Sent};
use crate::platform::PckCa;
use crate::trust::Trust;
use crate::url::BaseUrl;

/// Intel's own service.
const PCS: &str = "https://api.trustedservices.intel.com";
/// Where Intel publishes the CRL of its root CA.
const CERTIFICATES: &str = "https://certificates.trustedservices.intel.com";

const JSON: &[&str] = &["application/json"];
/// What services call DER lists; `binary/octet-stream` is a file store's word for a file of which it knows nothing, and
/// PCCS calls its hexadecimal digits a PEM file.
const CRL: &[&str] = &[
    "application/pkix-crl",
    "application/x-pem-file",
    "application/x-pkcs7-crl",
    "application/x-x509-ca-cert",
    "application/pkix-cert",
    "application/octet-stream",
    "binary/octet-stream",
];

/// A service's address, and whose certificate it may show.
#[derive(Clone, Debug)]
pub struct Origin {
    /// Address.
    pub base: BaseUrl,
    /// Whose certificate.
    pub trust: Trust,
}

/// Which set of TCB levels is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Update {
    /// The set in force: that of the last TCB recovery whose grace time has ended.
    #[default]
    Standard,
    /// The set of the latest TCB recovery, from its first day.
    Early,
    /// The set in force, and beside it, where it differs and is to be had, that of the latest TCB recovery: the verdict rests
    /// on the first and can warn of the second.
    Both,
    /// The set with this `tcbEvaluationDataNumber`. PCCS does not know this parameter.
    Number(u32),
}

/// One set of TCB levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Set {
    Standard,
    Early,
    Number(u32),
}

/// Which of Intel's services, or a cache of it.
#[derive(Clone, Debug)]
pub struct Intel {
    api: Origin,
    root_ca_crl: RootCaCrl,
}

#[derive(Clone, Debug)]
enum RootCaCrl {
    /// In a place of its own.
    At(Origin),
    /// Beside the rest.
    Beside,
}

impl Intel {
    /// Intel's own service.
    ///
    /// # Panics
    /// Never: its addresses are URLs, as a test shows.
    #[must_use]
    pub fn pcs() -> Self {
        let origin = |text: &str| Origin {
            base: text.parse().expect("the address of Intel's service is a URL"),
            trust: Trust::web(),
        };
        Self::pcs_at(origin(PCS), origin(CERTIFICATES))
    }

    /// What speaks as Intel's own services do, elsewhere: the API, and the place of the root CA's CRL.
    #[must_use]
    pub fn pcs_at(api: Origin, certificates: Origin) -> Self {
        Self { api, root_ca_crl: RootCaCrl::At(certificates) }
    }

    /// A Provisioning Certificate Caching Service.
    #[must_use]
    pub fn pccs(origin: Origin) -> Self {
        Self { api: origin, root_ca_crl: RootCaCrl::Beside }
    }

    /// What this service's objects are kept under: its host for people, a digest of its address against others.
    pub(crate) fn cache_name(&self) -> String {
        let kind = match self.root_ca_crl {
            RootCaCrl::At(_) => "pcs",
            RootCaCrl::Beside => "pccs",
        };
        cache_name(kind, &self.api.base)
    }

    pub(crate) fn tcb_info(&self, fmspc: [u8; 6], set: Set) -> Ask<'_> {
        let fmspc = hex::encode(&fmspc);
        let path = format!("/tdx/certification/v4/tcb?fmspc={fmspc}&{}", set.query());
        Ask { origin: &self.api, path, sent: Sent::Nothing, media_types: JSON, limit: MAX_SIGNED_ANSWER }
    }

    pub(crate) fn qe_identity(&self, set: Set) -> Ask<'_> {
        let path = format!("/tdx/certification/v4/qe/identity?{}", set.query());
        Ask { origin: &self.api, path, sent: Sent::Nothing, media_types: JSON, limit: MAX_SIGNED_ANSWER }
    }

    pub(crate) fn pck_crl(&self, ca: PckCa) -> Ask<'_> {
        let path = format!("/sgx/certification/v4/pckcrl?ca={ca}&encoding=der");
        Ask { origin: &self.api, path, sent: Sent::Nothing, media_types: CRL, limit: MAX_CRL_ANSWER }
    }

    pub(crate) fn root_ca_crl(&self) -> Ask<'_> {
        let (origin, path) = match &self.root_ca_crl {
            RootCaCrl::At(origin) => (origin, "/IntelSGXRootCA.der"),
            RootCaCrl::Beside => (&self.api, "/sgx/certification/v4/rootcacrl"),
        };
        Ask { origin, path: path.to_owned(), sent: Sent::Nothing, media_types: CRL, limit: MAX_CRL_ANSWER }
    }
}

/// A folder's name for a service of a kind at an address.
pub(crate) fn cache_name(kind: &str, base: &BaseUrl) -> String {
    let (host, _) = base.dial_address();
    let plain = |character: char| {
        if character.is_ascii_alphanumeric() || character == '.' { character } else { '-' }
    };
    let host: String = host.chars().take(64).map(plain).collect();
    let digest = hex::encode(&sha256(base.to_string().as_bytes()).0);
    format!("{kind}-{}-{}", host.trim_matches('.'), digest.get(..8).unwrap_or_default())
}

impl Set {
    fn query(self) -> String {
        match self {
            Self::Standard | Self::Early => format!("update={self}"),
            Self::Number(number) => format!("tcbEvaluationDataNumber={number}"),
        }
    }
}

impl fmt::Display for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Standard => f.write_str("standard"),
            Self::Early => f.write_str("early"),
            Self::Number(number) => number.fmt(f),
        }
    }
}

impl FromStr for Set {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "standard" => Ok(Self::Standard),
            "early" => Ok(Self::Early),
            _ if text.starts_with('+') => Err(expected()),
            _ => text.parse().map(Self::Number).map_err(|_| expected()),
        }
    }
}

impl Update {
    /// The set on which the verdict rests.
    pub(crate) fn set(self) -> Set {
        match self {
            Self::Standard | Self::Both => Set::Standard,
            Self::Early => Set::Early,
            Self::Number(number) => Set::Number(number),
        }
    }
}

impl fmt::Display for Update {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Both => f.write_str("both"),
            _ => self.set().fmt(f),
        }
    }
}

impl FromStr for Update {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "both" {
            return Ok(Self::Both);
        }
        Ok(match text.parse()? {
            Set::Standard => Self::Standard,
            Set::Early => Self::Early,
            Set::Number(number) => Self::Number(number),
        })
    }
}

fn expected() -> String {
    "expected standard, early, both or a tcbEvaluationDataNumber".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intels_own_addresses() {
        let pcs = Intel::pcs();
        let fmspc = [0x90, 0xc0, 0x6f, 0, 0, 0];
        let url = |ask: Ask<'_>| format!("{}{}", ask.origin.base, ask.path);
        assert_eq!(
            url(pcs.tcb_info(fmspc, Set::Standard)),
            "https://api.trustedservices.intel.com/tdx/certification/v4/tcb?fmspc=90c06f000000&update=standard"
        );
        assert_eq!(
            url(pcs.qe_identity(Set::Number(17))),
            "https://api.trustedservices.intel.com/tdx/certification/v4/qe/identity?tcbEvaluationDataNumber=17"
        );
        assert_eq!(
            url(pcs.pck_crl(PckCa::Platform)),
            "https://api.trustedservices.intel.com/sgx/certification/v4/pckcrl?ca=platform&encoding=der"
        );
        assert_eq!(
            url(pcs.root_ca_crl()),
            "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"
        );
    }

    #[test]
    fn services_are_kept_apart() {
        let pccs =
            |url: &str| Intel::pccs(Origin { base: url.parse().unwrap(), trust: Trust::web() }).cache_name();
        let names = [Intel::pcs().cache_name(), pccs("https://a.example"), pccs("https://a.example:8081")];
        assert!(names[0].starts_with("pcs-api.trustedservices.intel.com-"), "{names:?}");
        assert!(names[1] != names[2] && names[1].starts_with("pccs-a.example-"), "{names:?}");
        assert!(!pccs("https://[::1]:8081").contains(':'));
    }

    #[test]
    fn updates_are_read() {
        for update in [Update::Standard, Update::Early, Update::Both, Update::Number(17)] {
            assert_eq!(update.to_string().parse(), Ok(update));
        }
        assert_eq!("17".parse(), Ok(Set::Number(17)));
        for text in ["", "Early", "-1", "+1", "4294967296"] {
            assert!(text.parse::<Update>().is_err(), "{text}");
        }
    }
}
