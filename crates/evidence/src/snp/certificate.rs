//! What the certificate of a signing key says of it (57230, section 3.1): AMD's extensions below 1.3.6.1.4.1.3704.1.

use super::{Product, SigningKey, TcbVersion};
use crate::x509::{Certificate, der_value};
use thiserror::Error;

/// The longest name of a cloud provider, in bytes. AWS's has 30; the limit is that of an X.520 common name, doubled.
pub const MAX_CSP_ID: usize = 128;

const STRUCT_VERSION: &str = "1.3.6.1.4.1.3704.1.1";
const PRODUCT_NAME: &str = "1.3.6.1.4.1.3704.1.2";
const LEVELS: &str = "1.3.6.1.4.1.3704.1.3.";
const HARDWARE_ID: &str = "1.3.6.1.4.1.3704.1.4";
const CSP_ID: &str = "1.3.6.1.4.1.3704.1.5";
const AMD: &str = "1.3.6.1.4.1.3704.";

const INTEGER: u8 = 0x02;
const IA5_STRING: u8 = 0x16;

/// Why AMD's extensions could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EndorsementError {
    /// The subject is neither SEV-VCEK nor SEV-VLEK.
    #[error("subject {0:?}, expected SEV-VCEK or SEV-VLEK")]
    Subject(String),
    /// An extension is missing.
    #[error("no extension {0}")]
    Missing(&'static str),
    /// An extension has another form than 57230 gives it.
    #[error("extension {0} that is not of the specified form")]
    Form(String),
    /// An extension that 57230 does not give this kind of key and product.
    #[error("an extension {0} that a {1} of {2} does not have")]
    Unknown(String, SigningKey, Product),
    /// A product that this crate does not know.
    #[error("product {0:?}, supported are Milan, Genoa and Turin")]
    Product(String),
    /// A structure version that does not belong to the product.
    #[error("structure version {0} for {1}")]
    StructVersion(u8, Product),
    /// A reserved patch level that is not zero.
    #[error("reserved patch level {0} is {1}, expected 0")]
    ReservedLevel(&'static str, u8),
}

/// The hardware id in a VCEK certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HardwareId {
    /// 64 bytes, of Milan and Genoa.
    Long([u8; 64]),
    /// 8 bytes, of Turin: the first of CHIP_ID, whose others are zero.
    Short([u8; 8]),
}

impl HardwareId {
    /// The CHIP_ID of the chip's reports.
    #[must_use]
    pub fn chip_id(&self) -> [u8; 64] {
        match self {
            Self::Long(id) => *id,
            Self::Short(id) => {
                let mut chip_id = [0; 64];
                if let Some(start) = chip_id.first_chunk_mut::<8>() {
                    *start = *id;
                }
                chip_id
            }
        }
    }
}

/// What a certificate says of a signing key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndorsementKey {
    /// VCEK or VLEK, by the subject.
    pub kind: SigningKey,
    /// The product, without the stepping that some names carry.
    pub product: Product,
    /// The TCB version that the key was derived for.
    pub tcb: TcbVersion,
    /// The chip, of a VCEK.
    pub hardware_id: Option<HardwareId>,
    /// The cloud provider, of a VLEK.
    pub csp_id: Option<String>,
}

impl EndorsementKey {
    /// Reads the extensions of a VCEK or VLEK certificate. Each that belongs to the kind and product is there once, and
    /// no other of AMD's.
    ///
    /// # Errors
    /// [`EndorsementError`].
    pub fn from_certificate(certificate: &Certificate) -> Result<Self, EndorsementError> {
        let kind = [SigningKey::Vcek, SigningKey::Vlek]
            .into_iter()
            .find(|kind| kind.common_name() == certificate.common_name)
            .ok_or_else(|| EndorsementError::Subject(certificate.common_name.clone()))?;
        let extensions = Extensions(certificate);
        let product = extensions.product(kind)?;
        let version = extensions.integer(STRUCT_VERSION, "1")?;
        if version != u8::from(product == Product::Turin) {
            return Err(EndorsementError::StructVersion(version, product));
        }
        extensions.only_known(kind, product)?;
        Ok(Self {
            kind,
            product,
            tcb: extensions.tcb(product)?,
            hardware_id: match kind {
                SigningKey::Vcek => Some(extensions.hardware_id(product)?),
                SigningKey::Vlek => None,
            },
            csp_id: match kind {
                SigningKey::Vcek => None,
                SigningKey::Vlek => Some(extensions.text(CSP_ID, "5 (cspID)", MAX_CSP_ID)?),
            },
        })
    }
}

struct Extensions<'a>(&'a Certificate);

impl Extensions<'_> {
    fn value(&self, oid: &str, name: &'static str) -> Result<&[u8], EndorsementError> {
        let extension = self.0.extension(oid).ok_or(EndorsementError::Missing(name))?;
        Ok(&extension.value)
    }

    /// A DER INTEGER from 0 to 255.
    fn integer(&self, oid: &str, name: &'static str) -> Result<u8, EndorsementError> {
        let form = || EndorsementError::Form(name.to_owned());
        match der_value(self.value(oid, name)?) {
            Some((INTEGER, [byte], [])) if *byte < 0x80 => Ok(*byte),
            Some((INTEGER, [0, byte], [])) if *byte >= 0x80 => Ok(*byte),
            _ => Err(form()),
        }
    }

    fn level(&self, last: u8, name: &'static str) -> Result<u8, EndorsementError> {
        self.integer(&format!("{LEVELS}{last}"), name)
    }

    fn reserved_level(&self, last: u8, name: &'static str) -> Result<(), EndorsementError> {
        match self.level(last, name)? {
            0 => Ok(()),
            found => Err(EndorsementError::ReservedLevel(name, found)),
        }
    }

    /// A printable IA5String.
    fn text(&self, oid: &str, name: &'static str, limit: usize) -> Result<String, EndorsementError> {
        let form = || EndorsementError::Form(name.to_owned());
        let Some((IA5_STRING, text, [])) = der_value(self.value(oid, name)?) else { return Err(form()) };
        let printable = text.iter().all(|byte| (0x20..0x7f).contains(byte));
        if text.is_empty() || text.len() > limit || !printable {
            return Err(form());
        }
        String::from_utf8(text.to_vec()).map_err(|_| form())
    }

    /// The product name: a VCEK's may carry a stepping, as in `Milan-B0`.
    fn product(&self, kind: SigningKey) -> Result<Product, EndorsementError> {
        let text = self.text(PRODUCT_NAME, "2 (productName)", 32)?;
        let name = match (kind, text.split_once('-')) {
            (SigningKey::Vcek, Some((name, stepping))) if !stepping.is_empty() => name,
            _ => &text,
        };
        Product::from_name(name).ok_or_else(|| EndorsementError::Product(text.clone()))
    }

    fn tcb(&self, product: Product) -> Result<TcbVersion, EndorsementError> {
        let fmc = match product {
            Product::Turin => Some(self.level(9, "3.9 (fmcSPL)")?),
            Product::Milan | Product::Genoa => {
                self.reserved_level(4, "3.4 (spl4)")?;
                None
            }
        };
        for (last, name) in [(5, "3.5 (spl5)"), (6, "3.6 (spl6)"), (7, "3.7 (spl7)")] {
            self.reserved_level(last, name)?;
        }
        Ok(TcbVersion {
            fmc,
            bootloader: self.level(1, "3.1 (blSPL)")?,
            tee: self.level(2, "3.2 (teeSPL)")?,
            snp: self.level(3, "3.3 (snpSPL)")?,
            microcode: self.level(8, "3.8 (ucodeSPL)")?,
        })
    }

    /// The octets of the hardware id stand in the extension as they are, without a DER element around them.
    fn hardware_id(&self, product: Product) -> Result<HardwareId, EndorsementError> {
        const NAME: &str = "4 (hwID)";
        let octets = self.value(HARDWARE_ID, NAME)?;
        let form = |_| EndorsementError::Form(NAME.to_owned());
        match product {
            Product::Turin => octets.try_into().map(HardwareId::Short).map_err(form),
            Product::Milan | Product::Genoa => octets.try_into().map(HardwareId::Long).map_err(form),
        }
    }

    fn only_known(&self, kind: SigningKey, product: Product) -> Result<(), EndorsementError> {
        let fourth = if product == Product::Turin { '9' } else { '4' };
        let known = |oid: &str| match (oid, oid.strip_prefix(LEVELS)) {
            (STRUCT_VERSION | PRODUCT_NAME, _) => true,
            (HARDWARE_ID, _) => kind == SigningKey::Vcek,
            (CSP_ID, _) => kind == SigningKey::Vlek,
            (_, Some("1" | "2" | "3" | "5" | "6" | "7" | "8")) => true,
            (_, Some(last)) => last.len() == 1 && last.starts_with(fourth),
            _ => false,
        };
        let mut extensions = self.0.extensions.iter().filter(|extension| extension.oid.starts_with(AMD));
        match extensions.find(|extension| !known(&extension.oid)) {
            Some(extension) => {
                Err(EndorsementError::Unknown(extension.oid.clone().into_owned(), kind, product))
            }
            None => Ok(()),
        }
    }
}
