//! Requests to OCSP responders (RFC 6960 section 4.1).
//!
//! A request asks about one certificate, whose issuer it names by SHA-384 as NVIDIA's own tools do. It has no nonce and no
//! signature, so that an answer can be kept and carried on: its dates say how old it is.

use std::fmt;

use aws_lc_rs::digest::{SHA384, digest};
use confide_evidence::hex;
use confide_evidence::nvidia::{DeviceChain, Rim};
use confide_evidence::x509::Certificate;

const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const SEQUENCE: u8 = 0x30;
/// AlgorithmIdentifier of id-sha384 (2.16.840.1.101.3.4.2.2), whose parameters are NULL: so writes what NVIDIA's responder is
/// known to answer.
const SHA384_IDENTIFIER: &[u8] =
    &[SEQUENCE, 13, 0x06, 9, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05, 0x00];

/// A certificate that a responder is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OcspSubject<'a> {
    /// The certificate.
    pub certificate: &'a Certificate,
    /// Who issued it.
    pub issuer: &'a Certificate,
}

impl<'a> OcspSubject<'a> {
    /// Those of a device between its leaf and the root: BROM, provisioner and identity. NVIDIA's responder does not serve
    /// leaves.
    #[must_use]
    pub fn of_device(chain: &'a DeviceChain) -> [Self; 3] {
        let [_, brom, provisioner, identity, root] = chain.certificates();
        Self::links([brom, provisioner, identity, root])
    }

    /// Those of a RIM below the root: its signer and the two above.
    #[must_use]
    pub fn of_rim(rim: &'a Rim) -> [Self; 3] {
        Self::links(rim.certificates.each_ref())
    }

    fn links([first, second, third, root]: [&'a Certificate; 4]) -> [Self; 3] {
        let link = |certificate, issuer| Self { certificate, issuer };
        [link(first, second), link(second, third), link(third, root)]
    }

    /// The request, DER: `OCSPRequest`.
    pub(super) fn request(&self) -> Vec<u8> {
        let hashed = |bytes: &[u8]| value(OCTET_STRING, digest(&SHA384, bytes).as_ref());
        let cert_id = [
            SHA384_IDENTIFIER.to_vec(),
            hashed(&self.issuer.subject),
            hashed(&self.issuer.public_key),
            value(INTEGER, &integer(&self.certificate.serial)),
        ];
        let request = value(SEQUENCE, &value(SEQUENCE, &cert_id.concat()));
        let list = value(SEQUENCE, &request);
        value(SEQUENCE, &value(SEQUENCE, &list))
    }
}

impl fmt::Display for OcspSubject<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Certificate { common_name, serial, .. } = self.certificate;
        write!(f, "OCSP answer about {} ({common_name})", hex::encode(serial))
    }
}

/// The content of a positive INTEGER: a number whose first bit is set has a zero before it.
fn integer(number: &[u8]) -> Vec<u8> {
    match number.first() {
        Some(first) if *first < 0x80 => number.to_vec(),
        _ => [&[0], number].concat(),
    }
}

/// A DER value of at most 65,535 bytes: certificates, whose serial numbers are all that varies here, are far smaller.
fn value(tag: u8, content: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(content.len()).expect("serial numbers are far shorter").to_be_bytes();
    let head = match (high, low) {
        (0, ..0x80) => vec![tag, low],
        (0, _) => vec![tag, 0x81, low],
        _ => vec![tag, 0x82, high, low],
    };
    [head, content.to_vec()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_positive_and_lengths_shortest() {
        assert_eq!(integer(&[0x41, 0xff]), [0x41, 0xff]);
        assert_eq!(integer(&[0x80]), [0, 0x80]);
        assert_eq!(integer(&[]), [0]);
        for (length, head) in [
            (0, &[4, 0][..]),
            (127, &[4, 127]),
            (128, &[4, 0x81, 128]),
            (255, &[4, 0x81, 255]),
            (256, &[4, 0x82, 1, 0]),
        ] {
            assert_eq!(value(4, &vec![7; length])[..head.len()], *head, "{length}");
        }
    }
}
