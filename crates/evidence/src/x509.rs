//! Fields of X.509 certificates and certificate revocation lists (RFC 5280).
//!
//! Parsing establishes no trust: signatures, windows and anchors are the verifier's work.

use thiserror::Error;
use x509_parser::asn1_rs::{Any, FromDer as _, Oid};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;
use x509_parser::revocation_list::CertificateRevocationList;
use x509_parser::x509::{AlgorithmIdentifier, X509Name};

/// The largest certificate accepted, in bytes. Intel's PCK certificates are about 1.3 KiB.
pub const MAX_CERTIFICATE: usize = 16 * 1024;
/// The largest revocation list accepted, in bytes. Intel's largest recorded one is under 100 KiB.
pub const MAX_CRL: usize = 1024 * 1024;

/// Why a certificate or revocation list could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum X509Error {
    /// Larger than [`MAX_CERTIFICATE`] or [`MAX_CRL`].
    #[error("{what} of {size} bytes, at most {limit} are accepted")]
    TooLarge {
        /// What was read.
        what: &'static str,
        /// Its size in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// Not the DER of the structure.
    #[error("{0} that is not DER of the expected form")]
    Der(&'static str),
    /// Bytes follow the structure.
    #[error("{0} with bytes after its end")]
    Trailing(&'static str),
    /// The inner and the outer signature algorithm differ (RFC 5280 section 4.1.1.2).
    #[error("{0} whose two signature algorithm fields differ")]
    AlgorithmMismatch(&'static str),
    /// The same extension twice (RFC 5280 section 4.2).
    #[error("{0} with a duplicate extension")]
    DuplicateExtension(&'static str),
}

/// A signature algorithm, as far as this project's chains use them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SignatureAlgorithm {
    /// ecdsa-with-SHA256 (RFC 5758 section 3.2).
    EcdsaSha256,
    /// ecdsa-with-SHA384 (RFC 5758 section 3.2).
    EcdsaSha384,
    /// Any other: nothing here verifies it.
    Other,
}

/// The kind of a public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyAlgorithm {
    /// id-ecPublicKey on secp256r1 (RFC 5480), an uncompressed point.
    P256,
    /// id-ecPublicKey on secp384r1 (RFC 5480), an uncompressed point.
    P384,
    /// Any other.
    Other,
}

/// Bits of the key usage extension (RFC 5280 section 4.2.1.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]

pub struct KeyUsage {
    /// digitalSignature (bit 0).
    pub digital_signature: bool,
    /// keyCertSign (bit 5).
    pub key_cert_sign: bool,
    /// cRLSign (bit 6).
    pub crl_sign: bool,
}

/// The basic constraints extension (RFC 5280 section 4.2.1.9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BasicConstraints {
    /// Whether the certificate is a CA's.
    pub ca: bool,
    /// How many intermediate certificates may follow.
    pub path_len: Option<u32>,
}

/// An extension as it stands in the certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extension {
    /// Dotted object identifier.
    pub oid: String,
    /// The critical flag.
    pub critical: bool,
    /// The DER inside the octet string.
    pub value: Vec<u8>,
}

/// A parsed certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The whole certificate, DER.
    pub der: Vec<u8>,
    /// The signed part, DER.
    pub tbs: Vec<u8>,
    /// The signature: for ECDSA the DER of `Ecdsa-Sig-Value`.
    pub signature: Vec<u8>,
    /// How it is signed.
    pub signature_algorithm: SignatureAlgorithm,
    /// Issuer name, DER.
    pub issuer: Vec<u8>,
    /// Subject name, DER.
    pub subject: Vec<u8>,
    /// Subject common name, empty where there is none.
    pub common_name: String,
    /// Serial number, big endian, without the leading zero that DER may add.
    pub serial: Vec<u8>,
    /// SubjectPublicKeyInfo, DER.
    pub spki: Vec<u8>,
    /// The content of the subjectPublicKey bit string: for EC keys the uncompressed point.
    pub public_key: Vec<u8>,
    /// The kind of key.
    pub key_algorithm: KeyAlgorithm,
    /// Start of validity, seconds since the Unix epoch.
    pub not_before: i64,
    /// End of validity (inclusive), seconds since the Unix epoch.
    pub not_after: i64,
    /// Basic constraints, where present.
    pub basic_constraints: Option<BasicConstraints>,
    /// Key usage, where present.
    pub key_usage: Option<KeyUsage>,
    /// Extended key usage object identifiers, dotted; empty where absent.
    pub extended_key_usage: Vec<String>,
    /// All extensions in order.
    pub extensions: Vec<Extension>,
}

impl Certificate {
    /// Parses one DER certificate.
    ///
    /// # Errors
    /// [`X509Error`]: size, DER, trailing bytes, differing algorithm fields, duplicate extensions.
    pub fn parse(der: &[u8]) -> Result<Self, X509Error> {
        const WHAT: &str = "a certificate";
        if der.len() > MAX_CERTIFICATE {
            return Err(X509Error::TooLarge { what: WHAT, size: der.len(), limit: MAX_CERTIFICATE });
        }
        let (rest, parsed) = X509Certificate::from_der(der).map_err(|_| X509Error::Der(WHAT))?;
        if !rest.is_empty() {
            return Err(X509Error::Trailing(WHAT));
        }
        if parsed.signature_algorithm != parsed.tbs_certificate.signature {
            return Err(X509Error::AlgorithmMismatch(WHAT));
        }
        parsed.tbs_certificate.extensions_map().map_err(|_| X509Error::DuplicateExtension(WHAT))?;
        let certificate = Self::from_parsed(der, &parsed);
        let algorithm = certificate.signature_algorithm;
        check_outer(WHAT, der, &certificate.tbs, algorithm, &certificate.signature)?;
        Ok(certificate)
    }

    fn from_parsed(der: &[u8], parsed: &X509Certificate<'_>) -> Self {
        let tbs = &parsed.tbs_certificate;
        let mut basic_constraints = None;
        let mut key_usage = None;
        let mut extended_key_usage = Vec::new();
        let mut extensions = Vec::with_capacity(tbs.extensions().len());
        for extension in tbs.extensions() {
            match extension.parsed_extension() {
                ParsedExtension::BasicConstraints(found) => {
                    basic_constraints =
                        Some(BasicConstraints { ca: found.ca, path_len: found.path_len_constraint });
                }
                ParsedExtension::KeyUsage(found) => {
                    key_usage = Some(KeyUsage {
                        digital_signature: found.digital_signature(),
                        key_cert_sign: found.key_cert_sign(),
                        crl_sign: found.crl_sign(),
                    });
                }
                ParsedExtension::ExtendedKeyUsage(found) => {
                    extended_key_usage = found.other.iter().map(Oid::to_id_string).collect();
                    if found.ocsp_signing {
                        extended_key_usage.push("1.3.6.1.5.5.7.3.9".to_owned());
                    }
                }
                _ => {}
            }
            extensions.push(Extension {
                oid: extension.oid.to_id_string(),
                critical: extension.critical,
                value: extension.value.to_vec(),
            });
        }
        Self {
            der: der.to_vec(),
            tbs: tbs.as_ref().to_vec(),
            signature: parsed.signature_value.data.to_vec(),
            signature_algorithm: signature_algorithm(&parsed.signature_algorithm),
            issuer: tbs.issuer.as_raw().to_vec(),
            subject: tbs.subject.as_raw().to_vec(),
            common_name: common_name(&tbs.subject),
            serial: serial(parsed.raw_serial()),
            spki: tbs.subject_pki.raw.to_vec(),
            public_key: tbs.subject_pki.subject_public_key.data.to_vec(),
            key_algorithm: key_algorithm(
                &tbs.subject_pki.algorithm,
                &tbs.subject_pki.subject_public_key.data,
            ),
            not_before: tbs.validity.not_before.timestamp(),
            not_after: tbs.validity.not_after.timestamp(),
            basic_constraints,
            key_usage,
            extended_key_usage,
            extensions,
        }
    }

    /// The extension with this dotted object identifier.
    #[must_use]
    pub fn extension(&self, oid: &str) -> Option<&Extension> {
        self.extensions.iter().find(|extension| extension.oid == oid)
    }

    /// Whether issuer and subject are the same name.
    #[must_use]
    pub fn is_self_issued(&self) -> bool {
        self.issuer == self.subject
    }
}

/// A parsed certificate revocation list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crl {
    /// The signed part, DER.
    pub tbs: Vec<u8>,
    /// The signature: for ECDSA the DER of `Ecdsa-Sig-Value`.
    pub signature: Vec<u8>,
    /// How it is signed.
    pub signature_algorithm: SignatureAlgorithm,
    /// Issuer name, DER.
    pub issuer: Vec<u8>,
    /// Time of issue, seconds since the Unix epoch.
    pub this_update: i64,
    /// Time of the next issue, seconds since the Unix epoch. Optional in RFC 5280's syntax.
    pub next_update: Option<i64>,
    /// Serial numbers of revoked certificates, in the form of [`Certificate::serial`].
    pub revoked: Vec<Vec<u8>>,
    /// Dotted object identifiers of critical extensions of the list.
    pub critical_extensions: Vec<String>,
}

impl Crl {
    /// Parses one DER revocation list.
    ///
    /// # Errors
    /// [`X509Error`]: size, DER, trailing bytes, differing algorithm fields.
    pub fn parse(der: &[u8]) -> Result<Self, X509Error> {
        const WHAT: &str = "a revocation list";
        if der.len() > MAX_CRL {
            return Err(X509Error::TooLarge { what: WHAT, size: der.len(), limit: MAX_CRL });
        }
        let (rest, parsed) = CertificateRevocationList::from_der(der).map_err(|_| X509Error::Der(WHAT))?;
        if !rest.is_empty() {
            return Err(X509Error::Trailing(WHAT));
        }
        let tbs = &parsed.tbs_cert_list;
        if parsed.signature_algorithm != tbs.signature {
            return Err(X509Error::AlgorithmMismatch(WHAT));
        }
        let algorithm = signature_algorithm(&parsed.signature_algorithm);
        check_outer(WHAT, der, tbs.as_ref(), algorithm, &parsed.signature_value.data)?;
        Ok(Self {
            tbs: tbs.as_ref().to_vec(),
            signature: parsed.signature_value.data.to_vec(),
            signature_algorithm: algorithm,
            issuer: tbs.issuer.as_raw().to_vec(),
            this_update: tbs.this_update.timestamp(),
            next_update: tbs.next_update.map(|time| time.timestamp()),
            revoked: tbs.revoked_certificates.iter().map(|entry| serial(entry.raw_serial())).collect(),
            critical_extensions: parsed
                .extensions()
                .iter()
                .filter(|extension| extension.critical)
                .map(|extension| extension.oid.to_id_string())
                .collect(),
        })
    }

    /// Whether the list revokes this serial number.
    #[must_use]
    pub fn revokes(&self, serial: &[u8]) -> bool {
        self.revoked.iter().any(|revoked| revoked == serial)
    }
}

/// Nothing signs the bytes around the signed part: they must be the one DER encoding (X.690 section 10) that the parts
/// have. Of an algorithm that nothing here verifies no encoding is expected.
fn check_outer(
    what: &'static str,
    der: &[u8],
    tbs: &[u8],
    algorithm: SignatureAlgorithm,
    signature: &[u8],
) -> Result<(), X509Error> {
    // SEQUENCE { OBJECT IDENTIFIER ecdsa-with-SHA256 or ecdsa-with-SHA384 }
    let last = match algorithm {
        SignatureAlgorithm::EcdsaSha256 => 2,
        SignatureAlgorithm::EcdsaSha384 => 3,
        SignatureAlgorithm::Other => return Ok(()),
    };
    let identifier = [0x30, 10, 0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, last];
    let no_unused_bits = [0];
    let bits = der_element(0x03, &[&no_unused_bits, signature]);
    if der_element(0x30, &[tbs, &identifier, &bits]) == der { Ok(()) } else { Err(X509Error::Der(what)) }
}

/// One DER element: tag, shortest definite length, contents.
fn der_element(tag: u8, contents: &[&[u8]]) -> Vec<u8> {
    let size = contents.iter().fold(0_usize, |sum, part| sum.saturating_add(part.len()));
    let mut out = vec![tag];
    match u8::try_from(size) {
        Ok(short) if short < 0x80 => out.push(short),
        _ => {
            let bytes = size.to_be_bytes();
            let digits =
                bytes.iter().position(|byte| *byte != 0).and_then(|at| bytes.get(at..)).unwrap_or_default();
            out.push(0x80 | u8::try_from(digits.len()).unwrap_or_default());
            out.extend_from_slice(digits);
        }
    }
    contents.iter().for_each(|part| out.extend_from_slice(part));
    out
}

fn serial(raw: &[u8]) -> Vec<u8> {
    let start = raw.iter().position(|byte| *byte != 0).unwrap_or(raw.len());
    raw.get(start..).unwrap_or_default().to_vec()
}

fn common_name(name: &X509Name<'_>) -> String {
    name.iter_common_name().next().and_then(|value| value.as_str().ok()).unwrap_or_default().to_owned()
}

fn signature_algorithm(algorithm: &AlgorithmIdentifier<'_>) -> SignatureAlgorithm {
    // RFC 5758 section 3.2: the parameters field is absent for ECDSA.
    if algorithm.parameters.is_some() {
        return SignatureAlgorithm::Other;
    }
    match algorithm.algorithm.to_id_string().as_str() {
        "1.2.840.10045.4.3.2" => SignatureAlgorithm::EcdsaSha256,
        "1.2.840.10045.4.3.3" => SignatureAlgorithm::EcdsaSha384,
        _ => SignatureAlgorithm::Other,
    }
}

fn key_algorithm(algorithm: &AlgorithmIdentifier<'_>, point: &[u8]) -> KeyAlgorithm {
    if algorithm.algorithm.to_id_string() != "1.2.840.10045.2.1" {
        return KeyAlgorithm::Other;
    }
    // Libraries differ in whether they take compressed points: verdicts must not.
    let curve = algorithm.parameters.as_ref().and_then(curve);
    match (curve.as_deref(), point.len(), point.first()) {
        (Some("1.2.840.10045.3.1.7"), 65, Some(0x04)) => KeyAlgorithm::P256,
        (Some("1.3.132.0.34"), 97, Some(0x04)) => KeyAlgorithm::P384,
        _ => KeyAlgorithm::Other,
    }
}

fn curve(parameters: &Any<'_>) -> Option<String> {
    Oid::try_from(parameters.clone()).ok().map(|oid| oid.to_id_string())
}

/// Reads one DER value from the front of `input`: (tag byte, content, rest). Single-byte tags only.
pub(crate) fn der_value(input: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (rest, any) = Any::from_der(input).ok()?;
    let tag = *input.first()?;
    Some((tag, any.data, rest))
}
