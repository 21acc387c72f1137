//! Which platform endorsements are asked about.

use std::fmt;
use std::str::FromStr;

use confide_evidence::hex;
use confide_evidence::pem::{self, PemError};
use confide_evidence::tdx::{PckError, PckExtension, Quote};
use confide_evidence::x509::{Certificate, X509Error};

/// The CA below Intel's root that certified a platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PckCa {
    /// Platforms of one package.
    Processor,
    /// Platforms of several packages, and all with TDX so far.
    Platform,
}

/// What Intel's services need to know of a platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TdxPlatform {
    /// Family, model, stepping, platform type and custom SKU.
    pub fmspc: [u8; 6],
    /// Who certified it.
    pub ca: PckCa,
}

/// Why a quote does not say of which platform it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlatformError {
    /// The PCK chain.
    #[error("the PCK chain: {0}")]
    Pem(#[from] PemError),
    /// A certificate of it.
    #[error("the PCK chain: {0}")]
    Certificate(#[from] X509Error),
    /// The SGX extension of the PCK certificate.
    #[error(transparent)]
    Extension(#[from] PckError),
    /// The chain ends with the PCK certificate, or its issuer is neither of Intel's PCK CAs.
    #[error("the PCK certificate was issued by {0:?}, which is none of Intel's PCK CAs")]
    Issuer(String),
}

impl PckCa {
    /// Intel's name: `processor` or `platform`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Processor => "processor",
            Self::Platform => "platform",
        }
    }

    /// How the common name of the CA's certificate ends.
    pub(crate) fn common_name(self) -> &'static str {
        match self {
            Self::Processor => "PCK Processor CA",
            Self::Platform => "PCK Platform CA",
        }
    }
}

impl fmt::Display for PckCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for PckCa {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "processor" => Ok(Self::Processor),
            "platform" => Ok(Self::Platform),
            _ => Err("expected processor or platform".to_owned()),
        }
    }
}

impl fmt::Display for TdxPlatform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FMSPC {} under the {} CA", hex::encode(&self.fmspc), self.ca)
    }
}

impl TdxPlatform {
    /// The platform that a quote says it is of. Nothing is verified: a quote that lies gets collateral that does not
    /// fit it.
    ///
    /// # Errors
    /// [`PlatformError`].
    pub fn of_quote(quote: &Quote<'_>) -> Result<Self, PlatformError> {
        Self::of_pck_chain(quote.signature.pck_chain)
    }

    /// The platform that a PCK chain, PEM, leaf first, is of. Nothing is verified.
    ///
    /// # Errors
    /// [`PlatformError`].
    pub fn of_pck_chain(chain: &[u8]) -> Result<Self, PlatformError> {
        let chain = pem::certificates(chain)?;
        let leaf = chain.first().ok_or(PemError::Empty)?;
        let fmspc = PckExtension::from_certificate(&Certificate::parse(leaf)?)?.fmspc;
        let issuer = match chain.get(1) {
            Some(issuer) => Certificate::parse(issuer)?.common_name,
            None => String::new(),
        };
        let ca =
            [PckCa::Platform, PckCa::Processor].into_iter().find(|ca| issuer.ends_with(ca.common_name()));
        let ca = ca.ok_or(PlatformError::Issuer(issuer))?;
        Ok(Self { fmspc, ca })
    }
}
