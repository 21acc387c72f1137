//! The few fields of a certificate that a CRL or an OCSP response about it repeats.

use crate::der;

/// Encoded fields of a certificate (RFC 5280 section 4.1), each with tag and length.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fields {
    /// The serial number, an INTEGER.
    pub(crate) serial: Vec<u8>,
    /// The issuer, a Name.
    pub(crate) issuer: Vec<u8>,
    /// The subject, a Name.
    pub(crate) subject: Vec<u8>,
    /// The public key without the BIT STRING's header: an uncompressed point.
    pub(crate) public_key: Vec<u8>,
}

impl Fields {
    /// The fields of a certificate of version 3, DER.
    ///
    /// # Panics
    /// If it is none: the simulator reads its own certificates alone.
    pub(crate) fn of(certificate: &[u8]) -> Self {
        let body = &der::elements(certificate)[0];
        let fields = der::elements(body);
        let key = &der::elements(&fields[6])[1];
        // Tag, length below 128 and the count of unused bits.
        let public_key = key[3..].to_vec();
        Self { serial: fields[1].clone(), issuer: fields[3].clone(), subject: fields[5].clone(), public_key }
    }
}
