//! Answers of Intel's Provisioning Certification Service, version 4, and of the caches that speak its language (PCCS).
//!
//! Reading an answer establishes no trust: signatures, windows and anchors are the verifier's work.

use crate::bytes::Bytes;
use crate::pem::{self, PemError};
use crate::tdx::{CollateralError, MAX_SIGNED_JSON};
use crate::x509::{Crl, MAX_CRL};
use crate::{hex, percent};
use serde::Deserialize;
use serde_json::value::RawValue;
use thiserror::Error;

/// The largest answer that holds a signed object, in bytes: the object, its signature and their names.
pub const MAX_SIGNED_ANSWER: usize = MAX_SIGNED_JSON + 1024;
/// The largest answer that holds a revocation list, in bytes: PCCS may write it as hexadecimal digits.
pub const MAX_CRL_ANSWER: usize = 2 * MAX_CRL + 1024;

/// Why an issuer chain in a header field could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum IssuerChainError {
    /// The value holds no percent-encoding at all: PEM has line ends, which a header field cannot hold.
    #[error("an issuer chain that is not URL-encoded")]
    NotEncoded,
    /// The decoded text is itself URL-encoded.
    #[error("an issuer chain that is URL-encoded twice")]
    EncodedTwice,
    /// A percent sign without two hexadecimal digits behind it (RFC 3986 section 2.1).
    #[error("an issuer chain whose URL-encoding is broken")]
    Encoding,
    /// The decoded text is no chain of certificates.
    #[error(transparent)]
    Pem(#[from] PemError),
}

/// A signed object as it was served: its exact bytes, over which the signature is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedObject {
    /// The inner JSON object, exactly as it stood in the answer.
    pub text: String,
    /// ECDSA P-256 signature over the bytes of `text`, r ‖ s.
    pub signature: Bytes<64>,
}

/// Reads the answer to `GET /tdx/certification/v4/tcb`: `{"tcbInfo": {…}, "signature": "…"}`.
///
/// # Errors
/// [`CollateralError`]: too large, not JSON of this form.
pub fn tcb_info_answer(body: &[u8]) -> Result<SignedObject, CollateralError> {
    #[derive(Deserialize)]
    struct Answer<'a> {
        #[serde(rename = "tcbInfo", borrow)]
        object: &'a RawValue,
        signature: &'a str,
    }
    const WHAT: &str = "the answer with TCB info";
    let Answer { object, signature } = answer(WHAT, body)?;
    signed(WHAT, object, signature)
}

/// Reads the answer to `GET /tdx/certification/v4/qe/identity`: `{"enclaveIdentity": {…}, "signature": "…"}`.
///
/// # Errors
/// [`CollateralError`]: too large, not JSON of this form.
pub fn qe_identity_answer(body: &[u8]) -> Result<SignedObject, CollateralError> {
    #[derive(Deserialize)]
    struct Answer<'a> {
        #[serde(rename = "enclaveIdentity", borrow)]
        object: &'a RawValue,
        signature: &'a str,
    }
    const WHAT: &str = "the answer with the QE identity";
    let Answer { object, signature } = answer(WHAT, body)?;
    signed(WHAT, object, signature)
}

/// Reads an answer that is a revocation list: DER, or, as PCCS may write it, the hexadecimal digits of the DER.
///
/// # Errors
/// [`CollateralError::X509`] when it is neither; [`CollateralError::TooLarge`].
pub fn crl_answer(what: &'static str, body: &[u8]) -> Result<Vec<u8>, CollateralError> {
    if body.len() > MAX_CRL_ANSWER {
        return Err(CollateralError::TooLarge { what, size: body.len(), limit: MAX_CRL_ANSWER });
    }
    // The DER of a list begins with the tag 0x30, its digits with the character `3`, which is 0x33.
    let digits = std::str::from_utf8(body).ok().map(str::trim).and_then(hex::decode);
    let der = digits.unwrap_or_else(|| body.to_vec());
    Crl::parse(&der).map_err(|source| CollateralError::X509 { what, source })?;
    Ok(der)
}

/// Reads an issuer chain from a header field (`TCB-Info-Issuer-Chain` and its like): URL-encoded PEM. Gives the PEM.
///
/// # Errors
/// [`IssuerChainError`].
pub fn issuer_chain(header: &[u8]) -> Result<String, IssuerChainError> {
    if !header.contains(&b'%') {
        return Err(IssuerChainError::NotEncoded);
    }
    let decoded = percent::decode(header).ok_or(IssuerChainError::Encoding)?;
    if decoded.windows(3).any(|three| matches!(three, b"%0A" | b"%0a" | b"%20" | b"%2B" | b"%2b" | b"%2D")) {
        return Err(IssuerChainError::EncodedTwice);
    }
    pem::certificates(&decoded)?;
    String::from_utf8(decoded).map_err(|_| IssuerChainError::Pem(PemError::NotText))
}

fn answer<'a, T: Deserialize<'a>>(what: &'static str, body: &'a [u8]) -> Result<T, CollateralError> {
    if body.len() > MAX_SIGNED_ANSWER {
        return Err(CollateralError::TooLarge { what, size: body.len(), limit: MAX_SIGNED_ANSWER });
    }
    serde_json::from_slice(body).map_err(|error| CollateralError::Json { what, reason: error.to_string() })
}

fn signed(what: &'static str, object: &RawValue, signature: &str) -> Result<SignedObject, CollateralError> {
    let signature = hex::decode_array(signature).map(Bytes).ok_or_else(|| CollateralError::Json {
        what,
        reason: "the signature is not 64 bytes of hexadecimal digits".to_owned(),
    })?;
    Ok(SignedObject { text: object.get().to_owned(), signature })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(text: &str) -> String {
        let keep = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        text.bytes()
            .map(|byte| if keep(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
            .collect()
    }

    #[test]
    fn an_url_encoded_chain_is_read() {
        // 0xfb 0xff: base64 with a plus sign and a slash.
        let chain = pem::encode(&[vec![0xfb, 0xff, 0xfe, 1], vec![2]]);
        assert!(chain.contains('+') && chain.contains('/'));
        assert_eq!(issuer_chain(encoded(&chain).as_bytes()).unwrap(), chain);
        // Encoders differ in what they leave as it is.
        let spaced = chain.replace(' ', "%20").replace('\n', "%0a");
        assert_eq!(issuer_chain(spaced.as_bytes()).unwrap(), chain);
    }

    #[test]
    fn chains_in_another_encoding_are_named() {
        let chain = pem::encode(&[vec![1, 2, 3]]);
        let cases: [(&str, String, IssuerChainError); 6] = [
            ("raw PEM", chain.replace('\n', ""), IssuerChainError::NotEncoded),
            ("nothing", String::new(), IssuerChainError::NotEncoded),
            ("twice", encoded(&encoded(&chain)), IssuerChainError::EncodedTwice),
            ("half an escape", format!("{}%2", encoded(&chain)), IssuerChainError::Encoding),
            ("no escape", format!("{}%zz", encoded(&chain)), IssuerChainError::Encoding),
            ("other text", encoded("no certificate at all"), IssuerChainError::Pem(PemError::Stray)),
        ];
        for (name, header, expected) in cases {
            assert_eq!(issuer_chain(header.as_bytes()), Err(expected), "{name}");
        }
    }

    #[test]
    fn the_signed_bytes_are_those_served() {
        let signature = "ab".repeat(64);
        for inner in ["{\"id\" : \"TDX\",\"x\":[1, 2]}", "{}"] {
            let tcb = format!("{{\"tcbInfo\":{inner},\"signature\":\"{signature}\"}}");
            let identity = format!("{{\"signature\":\"{signature}\", \"enclaveIdentity\": {inner} }}");
            let expected = SignedObject { text: inner.to_owned(), signature: Bytes([0xab; 64]) };
            assert_eq!(tcb_info_answer(tcb.as_bytes()).unwrap(), expected);
            assert_eq!(qe_identity_answer(identity.as_bytes()).unwrap(), expected);
            assert!(qe_identity_answer(tcb.as_bytes()).is_err());
            assert!(tcb_info_answer(tcb.get(..tcb.len() - 1).unwrap().as_bytes()).is_err());
            let short = tcb.replace(&signature, "abab");
            assert!(tcb_info_answer(short.as_bytes()).unwrap_err().to_string().contains("64 bytes"));
        }
        let error = tcb_info_answer(&vec![b' '; MAX_SIGNED_ANSWER + 1]).unwrap_err();
        assert!(matches!(error, CollateralError::TooLarge { .. }));
    }

    #[test]
    fn what_is_no_revocation_list_is_refused() {
        for body in [&b""[..], b"3082", b"30 82", &[0x30, 0x03, 1, 2, 3], b"-----BEGIN X509 CRL-----"] {
            assert!(matches!(crl_answer("a list", body), Err(CollateralError::X509 { .. })), "{body:?}");
        }
        let error = crl_answer("a list", &vec![0; MAX_CRL_ANSWER + 1]).unwrap_err();
        assert!(matches!(error, CollateralError::TooLarge { .. }));
    }

    proptest! {
        #[test]
        fn any_chain_survives_its_encoding(der in prop::collection::vec(any::<u8>(), 1..400)) {
            let chain = pem::encode(&[der]);
            prop_assert_eq!(issuer_chain(encoded(&chain).as_bytes()).unwrap(), chain);
        }

        #[test]
        fn no_header_and_no_body_panics(bytes: Vec<u8>) {
            let _ = issuer_chain(&bytes);
            let _ = tcb_info_answer(&bytes);
            let _ = qe_identity_answer(&bytes);
            let _ = crl_answer("a list", &bytes);
        }
    }
}
