//! The SGX extension of PCK certificates (Intel SGX PCK Certificate and CRL Profile Specification, section 1.3.5).

use crate::x509::{Certificate, der_value};
use serde::Deserialize;
use std::fmt;
use thiserror::Error;

/// Dotted object identifier of the SGX extension.
pub const SGX_EXTENSION: &str = "1.2.840.113741.1.13.1";

/// DER content of [`SGX_EXTENSION`] as an object identifier.
pub(crate) const SGX_OID: [u8; 9] = [0x2a, 0x86, 0x48, 0x86, 0xf8, 0x4d, 0x01, 0x0d, 0x01];

const BOOLEAN: u8 = 0x01;
const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const OBJECT_IDENTIFIER: u8 = 0x06;
const ENUMERATED: u8 = 0x0a;
const SEQUENCE: u8 = 0x30;

/// Why the SGX extension could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PckError {
    /// The certificate has no SGX extension.
    #[error("the certificate has no SGX extension ({SGX_EXTENSION})")]
    Absent,
    /// A field is missing.
    #[error("the SGX extension has no {0}")]
    Missing(&'static str),
    /// A field stands twice.
    #[error("the SGX extension has {0} twice")]
    Duplicate(&'static str),
    /// A field has another form than the profile says.
    #[error("{0} of the SGX extension has the wrong form")]
    Form(&'static str),
}

/// How many packages a platform has, and how its memory is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SgxType {
    /// One processor package (0).
    Standard,
    /// Several packages (1).
    Scalable,
    /// Several packages with memory integrity (2).
    ScalableWithIntegrity,
}

impl SgxType {
    /// The profile's name, in lower case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Scalable => "scalable",
            Self::ScalableWithIntegrity => "scalable-with-integrity",
        }
    }
}

impl fmt::Display for SgxType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Configuration flags of platforms under the Platform CA.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PckConfiguration {
    /// Packages can be added after provisioning.
    pub dynamic_platform: Option<bool>,
    /// Intel caches the platform's root keys.
    pub cached_keys: Option<bool>,
    /// Simultaneous multithreading is on.
    pub smt_enabled: Option<bool>,
}

/// The SGX extension of a PCK certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PckExtension {
    /// PPID: encrypted platform provisioning id.
    pub ppid: [u8; 16],
    /// SGX TCB components 1 to 16.
    pub components: [u8; 16],
    /// PCESVN.
    pub pce_svn: u16,
    /// CPUSVN.
    pub cpu_svn: [u8; 16],
    /// PCEID.
    pub pce_id: [u8; 2],
    /// FMSPC: family, model, stepping, platform type and custom SKU.
    pub fmspc: [u8; 6],
    /// SGX type.
    pub sgx_type: SgxType,
    /// Platform instance id, of platforms under the Platform CA.
    pub platform_instance_id: Option<[u8; 16]>,
    /// Configuration flags, of platforms under the Platform CA.
    pub configuration: Option<PckConfiguration>,
}

impl PckExtension {
    /// Reads the extension of a PCK certificate.
    ///
    /// # Errors
    /// [`PckError`]: absent, missing or duplicate fields, wrong form.
    pub fn from_certificate(certificate: &Certificate) -> Result<Self, PckError> {
        let extension = certificate.extension(SGX_EXTENSION).ok_or(PckError::Absent)?;
        Self::parse(&extension.value)
    }

    fn parse(der: &[u8]) -> Result<Self, PckError> {
        let fields = Fields::parse(sequence(der, "the extension")?, &SGX_OID)?;
        let tcb = Fields::parse(fields.content(2, "TCB", SEQUENCE)?, &nested(2))?;
        let mut components = [0; 16];
        for (id, component) in (1_u8..).zip(&mut components) {
            *component = u8::try_from(tcb.integer(id, "a TCB component")?)
                .map_err(|_| PckError::Form("a TCB component"))?;
        }
        Ok(Self {
            ppid: fields.octets(1, "PPID")?,
            components,
            pce_svn: tcb.integer(17, "PCESVN")?,
            cpu_svn: tcb.octets(18, "CPUSVN")?,
            pce_id: fields.octets(3, "PCEID")?,
            fmspc: fields.octets(4, "FMSPC")?,
            sgx_type: sgx_type(fields.content(5, "SGX type", ENUMERATED)?)?,
            platform_instance_id: fields.optional(6, |f| f.octets(6, "platform instance id"))?,
            configuration: fields.optional(7, configuration)?,
        })
    }
}

fn configuration(fields: &Fields<'_>) -> Result<PckConfiguration, PckError> {
    let flags = Fields::parse(fields.content(7, "configuration", SEQUENCE)?, &nested(7))?;
    Ok(PckConfiguration {
        dynamic_platform: flags.optional(1, |f| f.boolean(1, "dynamic platform"))?,
        cached_keys: flags.optional(2, |f| f.boolean(2, "cached keys"))?,
        smt_enabled: flags.optional(3, |f| f.boolean(3, "SMT enabled"))?,
    })
}

fn sgx_type(content: &[u8]) -> Result<SgxType, PckError> {
    match content {
        [0] => Ok(SgxType::Standard),
        [1] => Ok(SgxType::Scalable),
        [2] => Ok(SgxType::ScalableWithIntegrity),
        _ => Err(PckError::Form("SGX type")),
    }
}

fn nested(id: u8) -> [u8; 10] {
    let [a, b, c, d, e, f, g, h, i] = SGX_OID;
    [a, b, c, d, e, f, g, h, i, id]
}

fn sequence<'a>(der: &'a [u8], what: &'static str) -> Result<&'a [u8], PckError> {
    match der_value(der) {
        Some((SEQUENCE, content, [])) => Ok(content),
        _ => Err(PckError::Form(what)),
    }
}

/// `SEQUENCE OF SEQUENCE { OBJECT IDENTIFIER prefix.id, value }`, each id once.
struct Fields<'a>(Vec<(u8, u8, &'a [u8])>);

impl<'a> Fields<'a> {
    fn parse(mut rest: &'a [u8], prefix: &[u8]) -> Result<Self, PckError> {
        const FORM: PckError = PckError::Form("a field");
        // The table of TCB components has the most: 18.
        let mut fields: Vec<(u8, u8, &[u8])> = Vec::with_capacity(18);
        while !rest.is_empty() {
            let (SEQUENCE, pair, after) = der_value(rest).ok_or(FORM)? else { return Err(FORM) };
            let (OBJECT_IDENTIFIER, oid, value) = der_value(pair).ok_or(FORM)? else { return Err(FORM) };
            let (tag, content, []) = der_value(value).ok_or(FORM)? else { return Err(FORM) };
            let Some([id]) = oid.strip_prefix(prefix) else {
                return Err(PckError::Form("an object identifier"));
            };
            if fields.iter().any(|(known, ..)| known == id) {
                return Err(PckError::Duplicate("a field"));
            }
            fields.push((*id, tag, content));
            rest = after;
        }
        Ok(Self(fields))
    }

    fn content(&self, id: u8, name: &'static str, expected: u8) -> Result<&'a [u8], PckError> {
        match self.0.iter().find(|(known, ..)| *known == id) {
            Some((_, tag, content)) if *tag == expected => Ok(content),
            Some(_) => Err(PckError::Form(name)),
            None => Err(PckError::Missing(name)),
        }
    }

    fn octets<const N: usize>(&self, id: u8, name: &'static str) -> Result<[u8; N], PckError> {
        self.content(id, name, OCTET_STRING)?.try_into().map_err(|_| PckError::Form(name))
    }

    fn integer(&self, id: u8, name: &'static str) -> Result<u16, PckError> {
        match self.content(id, name, INTEGER)? {
            [low] if *low < 0x80 => Ok(u16::from(*low)),
            [0, low] if *low >= 0x80 => Ok(u16::from(*low)),
            [high, low] if (1..0x80).contains(high) => Ok(u16::from_be_bytes([*high, *low])),
            [0, high, low] if *high >= 0x80 => Ok(u16::from_be_bytes([*high, *low])),
            _ => Err(PckError::Form(name)),
        }
    }

    fn boolean(&self, id: u8, name: &'static str) -> Result<bool, PckError> {
        match self.content(id, name, BOOLEAN)? {
            [0] => Ok(false),
            [0xff] => Ok(true),
            _ => Err(PckError::Form(name)),
        }
    }

    fn optional<T>(
        &self,
        id: u8,
        read: impl FnOnce(&Self) -> Result<T, PckError>,
    ) -> Result<Option<T>, PckError> {
        if self.0.iter().any(|(known, ..)| *known == id) { read(self).map(Some) } else { Ok(None) }
    }
}
