//! Signature verification through algorithms that the caller brings.

use confide_evidence::x509::{Certificate, KeyAlgorithm, SignatureAlgorithm};
use rustls_pki_types::SignatureVerificationAlgorithm;

/// The signature algorithms that appraisal needs.
///
/// Native programs pass those of aws-lc-rs, portable builds those of ring (both from `rustls-webpki`). They decide the
/// same: a test holds the verdict bytes of both against each other.
#[derive(Debug, Clone, Copy)]
pub struct Algorithms {
    /// ECDSA on P-256 with SHA-256.
    pub ecdsa_p256_sha256: &'static dyn SignatureVerificationAlgorithm,
    /// ECDSA on P-384 with SHA-384.
    pub ecdsa_p384_sha384: &'static dyn SignatureVerificationAlgorithm,
    /// ECDSA on P-384 with SHA-256, which NVIDIA's revocation lists are signed with.
    pub ecdsa_p384_sha256: &'static dyn SignatureVerificationAlgorithm,
    /// Ed25519, for signed reference values and receipts.
    pub ed25519: &'static dyn SignatureVerificationAlgorithm,
    /// RSASSA-PSS with SHA-384, MGF1 with SHA-384 and 48 bytes of salt.
    pub rsa_pss_sha384: &'static dyn SignatureVerificationAlgorithm,
    /// RSASSA-PKCS1-v1_5 with SHA-256, for the certificates of NVIDIA's attestation service.
    pub rsa_pkcs1_sha256: &'static dyn SignatureVerificationAlgorithm,
}

/// Why a signature does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SignatureFault {
    /// Another algorithm or key than the profile says.
    Algorithm,
    /// The signature is not the key's over these bytes.
    Invalid,
}

impl SignatureFault {
    pub(crate) fn describe(self) -> &'static str {
        match self {
            Self::Algorithm => "an algorithm or key that the profile does not allow",
            Self::Invalid => "the signature does not verify",
        }
    }
}

impl Algorithms {
    /// Verifies a raw r ‖ s signature on P-256 with SHA-256; the key is x ‖ y.
    pub(crate) fn p256_raw(
        &self,
        key: &[u8; 64],
        message: &[u8],
        signature: &[u8; 64],
    ) -> Result<(), SignatureFault> {
        let mut point = [0x04; 65];
        if let Some(xy) = point.get_mut(1..) {
            xy.copy_from_slice(key);
        }
        self.p256_raw_point(&point, message, signature)
    }

    /// As [`Self::p256_raw`], with the key as an uncompressed point.
    pub(crate) fn p256_raw_point(
        &self,
        point: &[u8],
        message: &[u8],
        signature: &[u8; 64],
    ) -> Result<(), SignatureFault> {
        let (r, s) = signature.split_at(32);
        let signature = ecdsa_sig_value(r, s);
        self.ecdsa_p256_sha256
            .verify_signature(point, message, &signature)
            .map_err(|_| SignatureFault::Invalid)
    }

    /// Verifies a raw r ‖ s signature on P-384 with SHA-384; the key is an uncompressed point.
    pub(crate) fn p384_raw(
        &self,
        point: &[u8],
        message: &[u8],
        signature: &[u8; 96],
    ) -> Result<(), SignatureFault> {
        let (r, s) = signature.split_at(48);
        let signature = ecdsa_sig_value(r, s);
        self.ecdsa_p384_sha384
            .verify_signature(point, message, &signature)
            .map_err(|_| SignatureFault::Invalid)
    }

    /// Verifies the signature of a certificate or revocation list under an issuer's key.
    pub(crate) fn issued(
        &self,
        issuer: &Certificate,
        algorithm: SignatureAlgorithm,
        tbs: &[u8],
        signature: &[u8],
    ) -> Result<(), SignatureFault> {
        let verifier = match (issuer.key_algorithm, algorithm) {
            (KeyAlgorithm::P256, SignatureAlgorithm::EcdsaSha256) => self.ecdsa_p256_sha256,
            (KeyAlgorithm::P384, SignatureAlgorithm::EcdsaSha384) => self.ecdsa_p384_sha384,
            (KeyAlgorithm::Rsa4096, SignatureAlgorithm::RsaPssSha384) => self.rsa_pss_sha384,
            _ => return Err(SignatureFault::Algorithm),
        };
        verifier.verify_signature(&issuer.public_key, tbs, signature).map_err(|_| SignatureFault::Invalid)
    }

    /// As [`Self::certificate`], of a key of NVIDIA's attestation service: its authorities have RSA keys of 2048 bits and keys
    /// on P-384 or P-256. No other chain has certificates under RSASSA-PKCS1-v1_5.
    pub(crate) fn service_certificate(
        &self,
        issuer: &Certificate,
        subject: &Certificate,
    ) -> Result<(), SignatureFault> {
        let verifier = match (issuer.key_algorithm, subject.signature_algorithm) {
            (KeyAlgorithm::Rsa2048, SignatureAlgorithm::RsaPkcs1Sha256) => self.rsa_pkcs1_sha256,
            (KeyAlgorithm::P384, SignatureAlgorithm::EcdsaSha256) => self.ecdsa_p384_sha256,
            _ => return self.certificate(issuer, subject),
        };
        verifier
            .verify_signature(&issuer.public_key, subject.tbs(), &subject.signature)
            .map_err(|_| SignatureFault::Invalid)
    }

    /// Verifies that `issuer` signed `subject`.
    pub(crate) fn certificate(
        &self,
        issuer: &Certificate,
        subject: &Certificate,
    ) -> Result<(), SignatureFault> {
        self.issued(issuer, subject.signature_algorithm, subject.tbs(), &subject.signature)
    }
}

/// DER of `Ecdsa-Sig-Value ::= SEQUENCE { r INTEGER, s INTEGER }` (RFC 3279 section 2.2.3) from fixed-width halves of
/// at most 48 bytes each, so that every length fits the short form.
pub(crate) fn ecdsa_sig_value(r: &[u8], s: &[u8]) -> Vec<u8> {
    let (r, s) = (DerInteger::of(r), DerInteger::of(s));
    let body = r.size().saturating_add(s.size()).saturating_add(4);
    let mut out = Vec::with_capacity(body.saturating_add(2));
    out.extend_from_slice(&[0x30, short(body)]);
    r.write(&mut out);
    s.write(&mut out);
    out
}

/// The content of a DER INTEGER that is not negative.
struct DerInteger<'a> {
    /// Whether a zero byte keeps the first digit from being a sign.
    sign: bool,
    digits: &'a [u8],
}

impl<'a> DerInteger<'a> {
    fn of(big_endian: &'a [u8]) -> Self {
        let start = big_endian.iter().position(|byte| *byte != 0).unwrap_or(big_endian.len());
        let digits = big_endian.get(start..).unwrap_or_default();
        Self { sign: digits.first().is_none_or(|byte| *byte >= 0x80), digits }
    }

    fn size(&self) -> usize {
        self.digits.len().saturating_add(usize::from(self.sign))
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0x02, short(self.size())]);
        if self.sign {
            out.push(0);
        }
        out.extend_from_slice(self.digits);
    }
}

/// A length in the short form.
fn short(length: usize) -> u8 {
    u8::try_from(length).unwrap_or(u8::MAX)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use confide_evidence::pem;

    /// Those of ring.
    pub(crate) fn algorithms() -> Algorithms {
        Algorithms {
            ecdsa_p256_sha256: webpki::ring::ECDSA_P256_SHA256,
            ecdsa_p384_sha384: webpki::ring::ECDSA_P384_SHA384,
            ecdsa_p384_sha256: webpki::ring::ECDSA_P384_SHA256,
            ed25519: webpki::ring::ED25519,
            rsa_pss_sha384: webpki::ring::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
            rsa_pkcs1_sha256: webpki::ring::RSA_PKCS1_2048_8192_SHA256,
        }
    }

    /// Key on P-384, signed by itself with SHA-256:
    /// `openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-384 -sha256`.
    const P384_WITH_SHA256: &str = "\
-----BEGIN CERTIFICATE-----
MIIBszCCATigAwIBAgIUKUi1dMDOWltQ9N3jMKdlgxKBffQwCgYIKoZIzj0EAwIw
DzENMAsGA1UEAwwEVEVTVDAgFw0yNjExMjMxNTQ0MDlaGA8yMDU0MDQxMDE1NDQw
OVowDzENMAsGA1UEAwwEVEVTVDB2MBAGByqGSM49AgEGBSuBBAAiA2IABPbYOO2n
FNohPMrC5aNt81BCdFE2NDfq/vxgoZQLz61HRULAM18mM641WxVAIaXy62sldfQV
zrPkiK9gJ/SMJxM/Ar4++TdCGHes4MoXQeFzA4B6mwSgNog7OuMGq09tyaNTMFEw
HQYDVR0OBBYEFHCm4EgAo2gehzqlwiQRNtTMX6qaMB8GA1UdIwQYMBaAFHCm4EgA
o2gehzqlwiQRNtTMX6qaMA8GA1UdEwEB/wQFMAMBAf8wCgYIKoZIzj0EAwIDaQAw
ZgIxANj7BZWa0EARIezuXUcxeOogrkbLa1+NA2CZEdfKGscZHvYB5UTSh0LBts2d
qDpwMQIxAOLirwZX7JFJSi4Fzm5Bl6gT5s4oZtIx+CROg0bKeVpdrU9uftCAfuqz
OZzXBJUU5Q==
-----END CERTIFICATE-----
";

    #[test]
    fn certificates_of_the_service_alone_may_be_under_p_384_with_sha_256() {
        let der = pem::certificates(P384_WITH_SHA256.as_bytes()).unwrap().remove(0);
        let mut own = Certificate::parse(&der).unwrap();
        assert_eq!(algorithms().service_certificate(&own, &own), Ok(()));
        assert_eq!(algorithms().certificate(&own, &own), Err(SignatureFault::Algorithm));
        own.signature[10] ^= 1;
        assert_eq!(algorithms().service_certificate(&own, &own), Err(SignatureFault::Invalid));
    }

    #[test]
    fn der_integers_are_minimal_and_positive() {
        assert_eq!(ecdsa_sig_value(&[0, 0, 1], &[0x80, 0]), [0x30, 8, 2, 1, 1, 2, 3, 0, 0x80, 0]);
        assert_eq!(ecdsa_sig_value(&[0], &[0x7f]), [0x30, 6, 2, 1, 0, 2, 1, 0x7f]);
    }

    #[test]
    fn a_fault_says_whether_the_algorithm_or_the_signature_is_wrong() {
        let invalid = algorithms().p256_raw(&[1; 64], b"message", &[1; 64]).unwrap_err();
        assert_eq!(invalid.describe(), "the signature does not verify");
        assert_eq!(
            SignatureFault::Algorithm.describe(),
            "an algorithm or key that the profile does not allow"
        );
    }
}
