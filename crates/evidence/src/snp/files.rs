//! Certificates and revocation lists in the forms in which they are passed around: DER or PEM, one or several in a file.

use super::{MAX_CERTIFICATES, MAX_CRLS};
use crate::pem::{self, PemError};
use crate::x509::{MAX_CERTIFICATE, MAX_CRL, der_value};
use thiserror::Error;

/// The largest file accepted, in bytes: every list at its largest, as PEM.
pub const MAX_FILE: usize = 2 * MAX_CRLS * MAX_CRL;

const SEQUENCE: u8 = 0x30;

/// Why a file holds no certificates or lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FileError {
    /// Neither PEM nor a DER sequence.
    #[error("neither PEM nor DER")]
    Neither,
    /// Broken PEM.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// Larger than all that an appraisal takes.
    #[error("a file of {0} bytes, at most {1} are accepted")]
    TooLarge(usize, usize),
    /// More elements than an appraisal takes.
    #[error("more than {0} in one file")]
    TooMany(usize),
}

/// The DER of each certificate in a file.
///
/// # Errors
/// [`FileError`]. Whether each element is a certificate shows when it is parsed.
pub fn certificates(bytes: &[u8]) -> Result<Vec<Vec<u8>>, FileError> {
    elements(bytes, pem::certificates, MAX_CERTIFICATES, MAX_CERTIFICATE)
}

/// The DER of each revocation list in a file.
///
/// # Errors
/// [`FileError`]. Whether each element is a revocation list shows when it is parsed.
pub fn revocation_lists(bytes: &[u8]) -> Result<Vec<Vec<u8>>, FileError> {
    elements(bytes, pem::revocation_lists, MAX_CRLS, MAX_CRL)
}

/// Reads a PEM text.
type Decode = fn(&[u8]) -> Result<Vec<Vec<u8>>, PemError>;

fn elements(bytes: &[u8], decode: Decode, most: usize, size: usize) -> Result<Vec<Vec<u8>>, FileError> {
    // Base64 makes four bytes of three, lines and labels add less than the rest.
    let limit = size.saturating_mul(most).saturating_mul(2);
    if bytes.len() > limit {
        return Err(FileError::TooLarge(bytes.len(), limit));
    }
    let found = if bytes.first() == Some(&SEQUENCE) { sequences(bytes, most)? } else { text(bytes, decode)? };
    if found.len() > most { Err(FileError::TooMany(most)) } else { Ok(found) }
}

fn text(bytes: &[u8], decode: Decode) -> Result<Vec<Vec<u8>>, FileError> {
    let begins = bytes.trim_ascii_start().starts_with(b"-----BEGIN ");
    if begins { Ok(decode(bytes)?) } else { Err(FileError::Neither) }
}

fn sequences(mut rest: &[u8], most: usize) -> Result<Vec<Vec<u8>>, FileError> {
    let mut found = Vec::new();
    while !rest.is_empty() {
        let Some((SEQUENCE, _, after)) = der_value(rest) else { return Err(FileError::Neither) };
        let length = rest.len().saturating_sub(after.len());
        found.push(rest.get(..length).unwrap_or_default().to_vec());
        if found.len() > most {
            return Err(FileError::TooMany(most));
        }
        rest = after;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn der_and_pem_hold_one_or_several() {
        let (one, two) = (vec![0x30, 1, 7], vec![0x30, 2, 8, 9]);
        assert_eq!(certificates(&one).unwrap(), std::slice::from_ref(&one));
        assert_eq!(certificates(&[&one[..], &two].concat()).unwrap(), [one.clone(), two.clone()]);
        let pem = pem::encode(&[one.clone(), two.clone()]);
        assert_eq!(certificates(pem.as_bytes()).unwrap(), [one.clone(), two]);
        let list = pem::encode(std::slice::from_ref(&one)).replace("CERTIFICATE", "X509 CRL");
        assert_eq!(revocation_lists(list.as_bytes()).unwrap(), std::slice::from_ref(&one));
        assert_eq!(revocation_lists(&one).unwrap(), [one]);
    }

    #[test]
    fn other_contents_are_refused() {
        for wrong in [&b""[..], b"text", b"\xff\xfe", b"\x30", b"\x30\x05\x01", b"\x30\x01\x00\x00"] {
            assert_eq!(certificates(wrong), Err(FileError::Neither), "{wrong:?}");
        }
        let four = [0x30, 1, 7].repeat(4);
        assert_eq!(certificates(&four), Err(FileError::TooMany(3)));
        let list = pem::encode(&[vec![1]]).replace("CERTIFICATE", "X509 CRL");
        assert!(matches!(certificates(list.as_bytes()), Err(FileError::Pem(_))));
        let huge = vec![0x30; MAX_CERTIFICATE * 6 + 1];
        assert!(matches!(certificates(&huge), Err(FileError::TooLarge(..))));
    }
}
