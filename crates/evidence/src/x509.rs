//! Fields of X.509 certificates and certificate revocation lists (RFC 5280).
//!
//! Parsing establishes no trust: signatures, windows and anchors are the verifier's work.

use crate::tdx::{SGX_EXTENSION, SGX_OID};
use crate::time;
use std::borrow::Cow;
use std::ops::Range;
use thiserror::Error;
use x509_parser::asn1_rs::{FromDer as _, Oid, Tag};
use x509_parser::extensions;
use x509_parser::time::ASN1Time;
use x509_parser::x509::{AlgorithmIdentifier, SubjectPublicKeyInfo, X509Name};

/// The largest certificate accepted, in bytes. Intel's PCK certificates are about 1.3 KiB.
pub const MAX_CERTIFICATE: usize = 16 * 1024;
/// The largest revocation list accepted, in bytes. Intel's largest recorded one is under 100 KiB.
pub const MAX_CRL: usize = 1024 * 1024;
/// The longest object identifier of an extension accepted, in bytes of its DER content. Recorded ones have 3 to 11.
pub const MAX_OID: usize = 64;

/// id-kp-OCSPSigning (RFC 6960 section 4.2.2.2): among [`Certificate::extended_key_usage`] of a delegated responder.
pub const OCSP_SIGNING: &str = "1.3.6.1.5.5.7.3.9";
/// id-pkix-ocsp-nocheck (RFC 6960 section 4.2.2.2.1), an extension; NVIDIA's responders have it among their purposes.
pub const OCSP_NO_CHECK: &str = "1.3.6.1.5.5.7.48.1.5";

const BOOLEAN: u8 = 0x01;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const OBJECT_IDENTIFIER: u8 = 0x06;
const ENUMERATED: u8 = 0x0a;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
/// [0], constructed.
const CONTEXT_0: u8 = 0xa0;
/// [3], constructed.
const CONTEXT_3: u8 = 0xa3;
/// [0], primitive.
const CONTEXT_0_PRIMITIVE: u8 = 0x80;

/// id-ce-authorityKeyIdentifier, 2.5.29.35.
const AUTHORITY_KEY_ID: &[u8] = &[0x55, 0x1d, 0x23];
/// id-ce-cRLNumber, 2.5.29.20.
const CRL_NUMBER: &[u8] = &[0x55, 0x1d, 0x14];
/// id-ce-cRLReasons, 2.5.29.21.
const REASON_CODE: &[u8] = &[0x55, 0x1d, 0x15];

/// 1.2.840.10045.4.3.2, the content of its DER as of the other identifiers.
const ECDSA_WITH_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
/// 1.2.840.10045.4.3.3.
const ECDSA_WITH_SHA384: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03];
/// 1.2.840.10045.2.1.
const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
/// 1.2.840.10045.3.1.7.
const SECP256R1: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// 1.3.132.0.34.
const SECP384R1: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
/// id-RSASSA-PSS, 1.2.840.113549.1.1.10.
const RSASSA_PSS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a];
/// sha256WithRSAEncryption, 1.2.840.113549.1.1.11.
const SHA256_WITH_RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b];
/// rsaEncryption, 1.2.840.113549.1.1.1.
const RSA_ENCRYPTION: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];

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
    /// id-RSASSA-PSS with SHA-384, MGF1 with SHA-384 and a salt of 48 bytes (RFC 4055 section 3.1).
    RsaPssSha384,
    /// sha256WithRSAEncryption: RSASSA-PKCS1-v1_5 with SHA-256 (RFC 4055 section 5), which NVIDIA's attestation service has.
    RsaPkcs1Sha256,
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
    /// rsaEncryption (RFC 3279 section 2.3.1), a modulus of 4096 bits, exponent 65537.
    Rsa4096,
    /// As [`Self::Rsa4096`], a modulus of 2048 bits.
    Rsa2048,
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
    pub oid: Cow<'static, str>,
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
    /// Where the signed part is in `der`.
    tbs: Range<usize>,
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
    /// Every purpose of the extended key usage extension (RFC 5280 section 4.2.1.12), dotted, in order; empty where the
    /// certificate has none.
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
        Ok(Self { der: der.to_vec(), ..Self::parse_fields(der)? })
    }

    /// As [`Self::parse`], of bytes that need not be copied.
    ///
    /// # Errors
    /// Those of [`Self::parse`].
    pub fn parse_owned(der: Vec<u8>) -> Result<Self, X509Error> {
        let fields = Self::parse_fields(&der)?;
        Ok(Self { der, ..fields })
    }

    /// Everything but `der`, which is left empty.
    fn parse_fields(der: &[u8]) -> Result<Self, X509Error> {
        const WHAT: &str = "a certificate";
        let Signed { fields, tbs, algorithm: outer, signature } = Signed::read(WHAT, der, MAX_CERTIFICATE)?;
        let (certificate, inner) = Self::fields(fields).ok_or(X509Error::Der(WHAT))?;
        if inner != outer {
            return Err(X509Error::AlgorithmMismatch(WHAT));
        }
        let mut oids: Vec<&str> = certificate.extensions.iter().map(|extension| &*extension.oid).collect();
        oids.sort_unstable();
        if !oids.is_sorted_by(|one, next| one < next) {
            return Err(X509Error::DuplicateExtension(WHAT));
        }
        let signature_algorithm = signature_algorithm(&outer);
        check_outer(WHAT, der, tbs, signature_algorithm, signature)?;
        Ok(Self {
            tbs: range_of(tbs, der),
            signature: signature.to_vec(),
            signature_algorithm,
            ..certificate
        })
    }

    /// Reads the fields of TBSCertificate (RFC 5280 section 4.1), and its signature algorithm.
    fn fields(rest: &[u8]) -> Option<(Self, AlgorithmIdentifier<'_>)> {
        // Version 3, which is written as 2: earlier ones have no extensions, and nobody in these chains has them.
        let (CONTEXT_0, version, rest) = der_value(rest)? else { return None };
        let (INTEGER, number @ [_, ..], rest) = der_value(rest)? else { return None };
        let (after, algorithm) = AlgorithmIdentifier::from_der(rest).ok()?;
        // An issuer's name is compared with a subject's, which is read.
        let (issuer, rest) = whole_sequence(after)?;
        let (validity, rest) = sequence(rest)?;
        let (validity, not_before) = ASN1Time::from_der(validity).ok()?;
        let (behind, not_after) = ASN1Time::from_der(validity).ok()?;
        let (subject, rest) = name(rest)?;
        let (rest, key) = SubjectPublicKeyInfo::from_der(rest).ok()?;
        if integer(version)? != [2] || !behind.is_empty() || key.subject_public_key.unused_bits != 0 {
            return None;
        }
        let mut certificate = Self {
            der: Vec::new(),
            tbs: 0..0,
            signature: Vec::new(),
            signature_algorithm: SignatureAlgorithm::Other,
            issuer: issuer.to_vec(),
            subject: subject.as_raw().to_vec(),
            common_name: common_name(&subject),
            serial: serial(number),
            spki: key.raw.to_vec(),
            public_key: key.subject_public_key.data.to_vec(),
            key_algorithm: key_algorithm(&key.algorithm, &key.subject_public_key.data),
            not_before: not_before.timestamp(),
            not_after: not_after.timestamp(),
            basic_constraints: None,
            key_usage: None,
            extended_key_usage: Vec::new(),
            extensions: Vec::new(),
        };
        if !rest.is_empty() {
            // Unique identifiers, which no CA may write (RFC 5280 section 4.1.2.8), have another tag.
            let (CONTEXT_3, explicit, []) = der_value(rest)? else { return None };
            let (list, []) = sequence(explicit)? else { return None };
            certificate.read_extensions(list)?;
        }
        Some((certificate, algorithm))
    }

    fn read_extensions(&mut self, mut rest: &[u8]) -> Option<()> {
        while !rest.is_empty() {
            let (found, after) = RawExtension::read(rest)?;
            let oid = extension_name(found.oid);
            match oid.as_ref() {
                "2.5.29.19" => self.basic_constraints = basic_constraints_of(found.value),
                "2.5.29.15" => self.key_usage = key_usage_of(found.value),
                "2.5.29.37" => self.extended_key_usage = extended_key_usage_of(found.value)?,
                _ => {}
            }
            self.extensions.push(Extension { oid, critical: found.critical, value: found.value.to_vec() });
            rest = after;
        }
        Some(())
    }

    /// The signed part, DER.
    #[must_use]
    pub fn tbs(&self) -> &[u8] {
        self.der.get(self.tbs.clone()).unwrap_or_default()
    }

    /// The extension with this dotted object identifier.
    #[must_use]
    pub fn extension(&self, oid: &str) -> Option<&Extension> {
        self.extensions.iter().find(|extension| extension.oid == oid)
    }

    /// The identifier of the certificate's own key (RFC 5280 section 4.2.1.2), where it names one.
    #[must_use]
    pub fn subject_key_id(&self) -> Option<&[u8]> {
        match der_value(&self.extension("2.5.29.14")?.value)? {
            (OCTET_STRING, id, []) => Some(id),
            _ => None,
        }
    }

    /// The identifier of the key that signs the certificate (RFC 5280 section 4.2.1.1), where it names one.
    #[must_use]
    pub fn authority_key_id(&self) -> Option<&[u8]> {
        key_id_of_authority(&self.extension("2.5.29.35")?.value)
    }

    /// Whether nobody need ask for the certificate's own revocation: it has [`OCSP_NO_CHECK`] as an extension or among
    /// its purposes.
    #[must_use]
    pub fn has_ocsp_no_check(&self) -> bool {
        self.extension(OCSP_NO_CHECK).is_some()
            || self.extended_key_usage.iter().any(|oid| oid == OCSP_NO_CHECK)
    }

    /// The issuer's common name, empty where there is none or the name cannot be read.
    #[must_use]
    pub fn issuer_common_name(&self) -> String {
        name(&self.issuer).map(|(issuer, _)| common_name(&issuer)).unwrap_or_default()
    }

    /// Whether issuer and subject are the same name.
    #[must_use]
    pub fn is_self_issued(&self) -> bool {
        self.issuer == self.subject
    }
}

fn basic_constraints_of(value: &[u8]) -> Option<BasicConstraints> {
    let (_, found) = extensions::BasicConstraints::from_der(value).ok()?;
    Some(BasicConstraints { ca: found.ca, path_len: found.path_len_constraint })
}

fn key_usage_of(value: &[u8]) -> Option<KeyUsage> {
    let (_, found) = extensions::KeyUsage::from_der(value).ok()?;
    Some(KeyUsage {
        digital_signature: found.digital_signature(),
        key_cert_sign: found.key_cert_sign(),
        crl_sign: found.crl_sign(),
    })
}

/// All purposes. What cannot be read is no certificate: an empty list would mean that every purpose is allowed.
fn extended_key_usage_of(value: &[u8]) -> Option<Vec<String>> {
    let (mut rest, []) = sequence(value)? else { return None };
    let mut purposes = Vec::new();
    while !rest.is_empty() {
        let (OBJECT_IDENTIFIER, oid @ [_, ..], after) = der_value(rest)? else { return None };
        if oid.len() > MAX_OID {
            return None;
        }
        purposes.push(dotted_of(oid));
        rest = after;
    }
    (!purposes.is_empty()).then_some(purposes)
}

/// Where a part of some bytes is in them.
fn range_of(part: &[u8], whole: &[u8]) -> Range<usize> {
    let start = part.as_ptr().addr().saturating_sub(whole.as_ptr().addr());
    start..start.saturating_add(part.len())
}

/// The extensions that every certificate of Intel's has: their names are not made anew for each.
const EXTENSIONS: [(&[u8], &str); 7] = [
    (AUTHORITY_KEY_ID, "2.5.29.35"),
    (&[0x55, 0x1d, 0x0e], "2.5.29.14"),
    (&[0x55, 0x1d, 0x0f], "2.5.29.15"),
    (&[0x55, 0x1d, 0x13], "2.5.29.19"),
    (&[0x55, 0x1d, 0x1f], "2.5.29.31"),
    (&[0x55, 0x1d, 0x25], "2.5.29.37"),
    (&SGX_OID, SGX_EXTENSION),
];

/// Dotted decimal form of an extension's object identifier.
fn extension_name(oid: &[u8]) -> Cow<'static, str> {
    match EXTENSIONS.iter().find(|(der, _)| *der == oid) {
        Some((_, name)) => Cow::Borrowed(*name),
        None => Cow::Owned(dotted(&Oid::new(oid.into()))),
    }
}

/// Dotted decimal form of an object identifier.
fn dotted(oid: &Oid<'_>) -> String {
    let Some(arcs) = oid.iter() else { return oid.to_id_string() };
    let mut out = String::with_capacity(32);
    for arc in arcs {
        if !out.is_empty() {
            out.push('.');
        }
        push_decimal(&mut out, arc);
    }
    out
}

/// Dotted decimal form of the content of an object identifier.
pub(crate) fn dotted_of(oid: &[u8]) -> String {
    dotted(&Oid::new(oid.into()))
}

fn push_decimal(out: &mut String, number: u64) {
    if number > 9 {
        push_decimal(out, number / 10);
    }
    let digit = u8::try_from(number % 10).unwrap_or_default();
    out.push(char::from(b'0'.wrapping_add(digit)));
}

/// Why a certificate is revoked (RFC 5280 section 5.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// unspecified (0).
    Unspecified,
    /// keyCompromise (1).
    KeyCompromise,
    /// cACompromise (2).
    CaCompromise,
    /// affiliationChanged (3).
    AffiliationChanged,
    /// superseded (4).
    Superseded,
    /// cessationOfOperation (5).
    CessationOfOperation,
    /// certificateHold (6): it may be lifted.
    CertificateHold,
    /// removeFromCRL (8), of delta lists alone.
    RemoveFromCrl,
    /// privilegeWithdrawn (9).
    PrivilegeWithdrawn,
    /// aACompromise (10).
    AaCompromise,
}

impl Reason {
    /// The name of RFC 5280.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::KeyCompromise => "keyCompromise",
            Self::CaCompromise => "cACompromise",
            Self::AffiliationChanged => "affiliationChanged",
            Self::Superseded => "superseded",
            Self::CessationOfOperation => "cessationOfOperation",
            Self::CertificateHold => "certificateHold",
            Self::RemoveFromCrl => "removeFromCRL",
            Self::PrivilegeWithdrawn => "privilegeWithdrawn",
            Self::AaCompromise => "aACompromise",
        }
    }

    /// Reads a CRLReason, an ENUMERATED that is all of `value`; nothing for a number without a name.
    pub(crate) fn of(value: &[u8]) -> Option<Self> {
        let (ENUMERATED, [number], []) = der_value(value)? else { return None };
        Some(match number {
            0 => Self::Unspecified,
            1 => Self::KeyCompromise,
            2 => Self::CaCompromise,
            3 => Self::AffiliationChanged,
            4 => Self::Superseded,
            5 => Self::CessationOfOperation,
            6 => Self::CertificateHold,
            8 => Self::RemoveFromCrl,
            9 => Self::PrivilegeWithdrawn,
            10 => Self::AaCompromise,
            _ => return None,
        })
    }

    /// Whether the reason may be lifted again.
    fn may_pass(self) -> bool {
        matches!(self, Self::CertificateHold | Self::RemoveFromCrl)
    }
}

/// When and why a certificate was revoked, as an entry of a list says (RFC 5280 section 5.1.2.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revocation {
    /// Seconds since the Unix epoch.
    pub time: i64,
    /// The reason code, where the entry gives one.
    pub reason: Option<Reason>,
}

/// One entry of a list, in 24 bytes: of small entries a list can have a hundred thousand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    /// Where the serial number stands in the signed part, in the form of [`Certificate::serial`].
    start: u32,
    length: u32,
    revocation: Revocation,
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
    /// Issuer common name, empty where there is none.
    pub issuer_common_name: String,
    /// Time of issue, seconds since the Unix epoch.
    pub this_update: i64,
    /// Time of the next issue, seconds since the Unix epoch. Optional in RFC 5280's syntax.
    pub next_update: Option<i64>,
    /// Sorted by serial number, and of one number the gravest first.
    entries: Vec<Entry>,
    /// Dotted object identifiers of critical extensions of the list and of its entries (RFC 5280 section 5.3).
    pub critical_extensions: Vec<String>,
    /// The identifier of the key that signs the list (RFC 5280 section 5.2.1), where it names one.
    pub authority_key_id: Option<Vec<u8>>,
    /// The list's number (RFC 5280 section 5.2.3), big endian, in the form of [`Certificate::serial`], where it has one.
    pub number: Option<Vec<u8>>,
}

impl Crl {
    /// Parses one DER revocation list.
    ///
    /// # Errors
    /// [`X509Error`]: size, DER, trailing bytes, differing algorithm fields.
    pub fn parse(der: &[u8]) -> Result<Self, X509Error> {
        const WHAT: &str = "a revocation list";
        let Signed { fields, tbs, algorithm: outer, signature } = Signed::read(WHAT, der, MAX_CRL)?;
        let (parsed, inner) = Self::fields(tbs, fields).ok_or(X509Error::Der(WHAT))?;
        if inner != outer {
            return Err(X509Error::AlgorithmMismatch(WHAT));
        }
        let signature_algorithm = signature_algorithm(&outer);
        check_outer(WHAT, der, tbs, signature_algorithm, signature)?;
        Ok(Self { signature: signature.to_vec(), signature_algorithm, ..parsed })
    }

    /// Reads the fields of TBSCertList (RFC 5280 section 5.1), and its signature algorithm.
    fn fields<'a>(tbs: &'a [u8], mut rest: &'a [u8]) -> Option<(Self, AlgorithmIdentifier<'a>)> {
        // Version 2 is written as 1; version 1 is left away.
        if let Some((INTEGER, version, after)) = der_value(rest) {
            rest = (version == [1]).then_some(after)?;
        }
        let (after, algorithm) = AlgorithmIdentifier::from_der(rest).ok()?;
        let (issuer, after) = name(after)?;
        let (after, this_update) = ASN1Time::from_der(after).ok()?;
        rest = after;
        let mut next_update = None;
        if let Some((UTC_TIME | GENERALIZED_TIME, ..)) = der_value(rest) {
            let (after, time) = ASN1Time::from_der(rest).ok()?;
            (next_update, rest) = (Some(time.timestamp()), after);
        }
        let (mut entries, mut critical_extensions) = (Vec::new(), Vec::new());
        let (mut authority_key_id, mut number) = (None, None);
        if let Some((SEQUENCE, list, after)) = der_value(rest) {
            entries = revoked_entries(tbs, list, &mut critical_extensions)?;
            rest = after;
        }
        if let Some((CONTEXT_0, explicit, after)) = der_value(rest) {
            let (list, []) = sequence(explicit)? else { return None };
            critical_of(list, &mut critical_extensions)?;
            authority_key_id =
                value_of(list, AUTHORITY_KEY_ID).and_then(key_id_of_authority).map(<[u8]>::to_vec);
            number = value_of(list, CRL_NUMBER).and_then(integer).map(serial);
            rest = after;
        }
        let parsed = Self {
            tbs: tbs.to_vec(),
            signature: Vec::new(),
            signature_algorithm: SignatureAlgorithm::Other,
            issuer: issuer.as_raw().to_vec(),
            issuer_common_name: common_name(&issuer),
            this_update: this_update.timestamp(),
            next_update,
            entries,
            critical_extensions,
            authority_key_id,
            number,
        };
        rest.is_empty().then_some((parsed, algorithm))
    }

    /// Every entry in the order of the serial numbers: the number, in the form of [`Certificate::serial`], and what the
    /// list says of it.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = (&[u8], Revocation)> {
        self.entries.iter().map(|entry| (entry.serial(&self.tbs), entry.revocation))
    }

    /// Whether the list revokes this serial number.
    #[must_use]
    pub fn revokes(&self, serial: &[u8]) -> bool {
        self.entry(serial).is_some()
    }

    /// What the list says of this serial number, where it revokes it. Of several entries for one number it is the
    /// gravest: one that lasts before a hold.
    #[must_use]
    pub fn entry(&self, serial: &[u8]) -> Option<Revocation> {
        let first = self.entries.partition_point(|entry| entry.serial(&self.tbs) < serial);
        let found = self.entries.get(first).filter(|entry| entry.serial(&self.tbs) == serial);
        found.map(|entry| entry.revocation)
    }
}

impl Entry {
    /// The serial number in the signed part that the entry is of.
    fn serial<'a>(&self, tbs: &'a [u8]) -> &'a [u8] {
        let after = usize::try_from(self.start).ok().and_then(|start| tbs.get(start..));
        let length = usize::try_from(self.length).ok();
        after.zip(length).and_then(|(after, length)| after.get(..length)).unwrap_or_default()
    }
}

/// Where a part of some bytes begins in them.
fn offset(whole: &[u8], part: &[u8]) -> Option<u32> {
    let start = part.as_ptr().addr().checked_sub(whole.as_ptr().addr())?;
    (start.checked_add(part.len())? <= whole.len()).then_some(start)?.try_into().ok()
}

/// Reads `revokedCertificates` (RFC 5280 section 5.1.2.6) of a signed part, sorted by serial number, and critical
/// extensions.
fn revoked_entries(tbs: &[u8], mut rest: &[u8], critical: &mut Vec<String>) -> Option<Vec<Entry>> {
    let mut revoked = Vec::new();
    while !rest.is_empty() {
        let (entry, after) = sequence(rest)?;
        let (INTEGER, number @ [_, ..], entry) = der_value(entry)? else { return None };
        let (tag, time, entry) = der_value(entry)?;
        let mut revocation = Revocation { time: time_of(tag, time)?, reason: None };
        if !entry.is_empty() {
            let (extensions, []) = sequence(entry)? else { return None };
            critical_of(extensions, critical)?;
            revocation.reason = reason_of(extensions)?;
        }
        let number = significant(number);
        revoked.push(Entry {
            start: offset(tbs, number)?,
            length: number.len().try_into().ok()?,
            revocation,
        });
        rest = after;
    }
    let passes = |revocation: Revocation| revocation.reason.is_some_and(Reason::may_pass);
    revoked.sort_unstable_by(|one, other| {
        let (first, second) = (one.revocation, other.revocation);
        let gravest = || (passes(first), first.time).cmp(&(passes(second), second.time));
        one.serial(tbs).cmp(other.serial(tbs)).then_with(gravest)
    });
    Some(revoked)
}

/// The reason code among the extensions of an entry, where there is one.
fn reason_of(mut rest: &[u8]) -> Option<Option<Reason>> {
    let mut reason = None;
    while !rest.is_empty() {
        let (found, after) = RawExtension::read(rest)?;
        if found.oid == REASON_CODE && reason.replace(Reason::of(found.value)?).is_some() {
            return None;
        }
        rest = after;
    }
    Some(reason)
}

/// A time to the second in UTC, with two digits of the year or with four (RFC 5280 section 4.1.2.5), in seconds since
/// the Unix epoch.
fn time_of(tag: u8, content: &[u8]) -> Option<i64> {
    match (tag, content) {
        (UTC_TIME, [decade @ b'5'..=b'9', rest @ .., b'Z']) => {
            time::parse_digits(&[b"19", &[*decade][..], rest].concat())
        }
        (UTC_TIME, [rest @ .., b'Z']) => time::parse_digits(&[b"20", rest].concat()),
        (GENERALIZED_TIME, _) => generalized_time(content),
        _ => None,
    }
}

/// The content of a GeneralizedTime to the second in UTC (RFC 5280 section 4.1.2.5.2), in seconds since the Unix epoch.
pub(crate) fn generalized_time(content: &[u8]) -> Option<i64> {
    time::parse_digits(content.strip_suffix(b"Z")?)
}

/// An extension as it stands in a certificate or a revocation list (RFC 5280 section 4.1).
struct RawExtension<'a> {
    /// The content of the object identifier's DER.
    oid: &'a [u8],
    critical: bool,
    /// The content of the octet string.
    value: &'a [u8],
}

impl<'a> RawExtension<'a> {
    /// Reads one from the front, and what follows it.
    fn read(input: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (extension, after) = sequence(input)?;
        let (OBJECT_IDENTIFIER, oid @ [_, ..], extension) = der_value(extension)? else { return None };
        if oid.len() > MAX_OID {
            return None;
        }
        let (critical, value) = match der_value(extension)? {
            (BOOLEAN, [flag], value) => (*flag != 0, value),
            _ => (false, extension),
        };
        let (OCTET_STRING, value, []) = der_value(value)? else { return None };
        Some((Self { oid, critical, value }, after))
    }
}

/// Collects the object identifiers of the critical ones among extensions.
fn critical_of(mut rest: &[u8], critical: &mut Vec<String>) -> Option<()> {
    while !rest.is_empty() {
        let (found, after) = RawExtension::read(rest)?;
        if found.critical {
            critical.push(dotted(&Oid::new(found.oid.into())));
        }
        rest = after;
    }
    Some(())
}

/// The value of the extension with this object identifier (the content of its DER), out of well-formed extensions.
fn value_of<'a>(mut rest: &'a [u8], wanted: &[u8]) -> Option<&'a [u8]> {
    while !rest.is_empty() {
        let (found, after) = RawExtension::read(rest)?;
        if found.oid == wanted {
            return Some(found.value);
        }
        rest = after;
    }
    None
}

/// The keyIdentifier of an AuthorityKeyIdentifier (RFC 5280 section 4.2.1.1).
fn key_id_of_authority(value: &[u8]) -> Option<&[u8]> {
    let (content, []) = sequence(value)? else { return None };
    match der_value(content)? {
        (CONTEXT_0_PRIMITIVE, id, _) => Some(id),
        _ => None,
    }
}

/// The content of an INTEGER that is all of `value`.
fn integer(value: &[u8]) -> Option<&[u8]> {
    match der_value(value)? {
        (INTEGER, content, []) => Some(content),
        _ => None,
    }
}

/// Reads a SEQUENCE from the front: its content, and what follows.
pub(crate) fn sequence(input: &[u8]) -> Option<(&[u8], &[u8])> {
    match der_value(input)? {
        (SEQUENCE, content, rest) => Some((content, rest)),
        _ => None,
    }
}

/// As [`sequence`], with the SEQUENCE's own DER.
pub(crate) fn whole_sequence(input: &[u8]) -> Option<(&[u8], &[u8])> {
    let (_, rest) = sequence(input)?;
    // By its length: a comparison of what follows would make a long row of values take the square of its length.
    input.split_at_checked(input.len().checked_sub(rest.len())?)
}

/// Reads a Name from the front, and what follows. The library's own reader leaves away what it cannot read.
fn name(input: &[u8]) -> Option<(X509Name<'_>, &[u8])> {
    let (whole, rest) = whole_sequence(input)?;
    let (_, name) = X509Name::from_der(whole).ok()?;
    (name.as_raw() == whole).then_some((name, rest))
}

/// What certificates and revocation lists have in common (RFC 5280 sections 4.1.1 and 5.1.1).
struct Signed<'a> {
    /// The content of the signed part.
    fields: &'a [u8],
    /// The signed part, DER.
    tbs: &'a [u8],
    algorithm: AlgorithmIdentifier<'a>,
    signature: &'a [u8],
}

impl<'a> Signed<'a> {
    fn read(what: &'static str, der: &'a [u8], limit: usize) -> Result<Self, X509Error> {
        if der.len() > limit {
            return Err(X509Error::TooLarge { what, size: der.len(), limit });
        }
        let (parts, rest) = sequence(der).ok_or(X509Error::Der(what))?;
        if !rest.is_empty() {
            return Err(X509Error::Trailing(what));
        }
        Self::of_parts(parts).ok_or(X509Error::Der(what))
    }

    fn of_parts(parts: &'a [u8]) -> Option<Self> {
        let (fields, after) = sequence(parts)?;
        let tbs = parts.strip_suffix(after)?;
        let (after, algorithm) = AlgorithmIdentifier::from_der(after).ok()?;
        let (BIT_STRING, [0, signature @ ..], []) = der_value(after)? else { return None };
        Some(Self { fields, tbs, algorithm, signature })
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
    let identifiers: &[&[u8]] = match algorithm {
        SignatureAlgorithm::EcdsaSha256 => &[&ECDSA_SHA256],
        SignatureAlgorithm::EcdsaSha384 => &[&ECDSA_SHA384],
        SignatureAlgorithm::RsaPssSha384 => &[&RSA_PSS_SHA384, &RSA_PSS_SHA384_TRAILER],
        SignatureAlgorithm::RsaPkcs1Sha256 => &[&RSA_PKCS1_SHA256],
        SignatureAlgorithm::Other => return Ok(()),
    };
    // Every length must be the shortest, as `der_value` asks.
    let outer = |identifier: &&[u8]| {
        let (content, []) = sequence(der)? else { return None };
        let bits = content.strip_prefix(tbs)?.strip_prefix(*identifier)?;
        let (BIT_STRING, [0, found @ ..], []) = der_value(bits)? else { return None };
        (found == signature).then_some(())
    };
    identifiers.iter().find_map(outer).ok_or(X509Error::Der(what))
}

/// SEQUENCE { OBJECT IDENTIFIER ecdsa-with-SHA256 }.
const ECDSA_SHA256: [u8; 12] = [0x30, 10, 0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 2];
/// SEQUENCE { OBJECT IDENTIFIER ecdsa-with-SHA384 }.
const ECDSA_SHA384: [u8; 12] = [0x30, 10, 0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 3];
/// SEQUENCE { OBJECT IDENTIFIER id-RSASSA-PSS, parameters } with the parameters of [`PSS_PARAMETERS`].
const RSA_PSS_SHA384: [u8; 67] = pss_identifier(52);
/// As [`RSA_PSS_SHA384`], with trailerField 1 written out. DER leaves that default value away; AMD's certificates of
/// 2020 to 2024 and its authorities' have it.
const RSA_PSS_SHA384_TRAILER: [u8; 72] = pss_identifier(57);
/// SEQUENCE { OBJECT IDENTIFIER sha256WithRSAEncryption, NULL }.
const RSA_PKCS1_SHA256: [u8; 15] =
    [0x30, 13, 0x06, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b, 0x05, 0];
/// RSASSA-PSS-params: hashAlgorithm sha384 with NULL, maskGenAlgorithm mgf1 with the same, saltLength 48, trailerField 1.
const PSS_PARAMETERS: [u8; 57] = [
    0xa0, 0x0f, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05,
    0x00, // hash
    0xa1, 0x1c, 0x30, 0x1a, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x08, // mgf1
    0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05,
    0x00, // of this hash
    0xa2, 0x03, 0x02, 0x01, 0x30, // salt
    0xa3, 0x03, 0x02, 0x01, 0x01, // trailer
];

/// An AlgorithmIdentifier with the first `length` bytes of [`PSS_PARAMETERS`].
#[expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "evaluated when this is compiled: a fault is an error of the compiler"
)]
const fn pss_identifier<const N: usize>(length: u8) -> [u8; N] {
    let oid = [0x06, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a];
    let mut out = [0; N];
    let mut at = 0;
    while at < N {
        out[at] = match at {
            0 | 13 => 0x30,
            1 => length + 13,
            2..=12 => oid[at - 2],
            14 => length,
            _ => PSS_PARAMETERS[at - 15],
        };
        at += 1;
    }
    out
}

pub(crate) fn serial(raw: &[u8]) -> Vec<u8> {
    significant(raw).to_vec()
}

/// The bytes from the first one on that is not zero.
fn significant(raw: &[u8]) -> &[u8] {
    let start = raw.iter().position(|byte| *byte != 0).unwrap_or(raw.len());
    raw.get(start..).unwrap_or_default()
}

fn common_name(name: &X509Name<'_>) -> String {
    name.iter_common_name().next().and_then(|value| value.as_str().ok()).unwrap_or_default().to_owned()
}

fn signature_algorithm(algorithm: &AlgorithmIdentifier<'_>) -> SignatureAlgorithm {
    // RFC 5758 section 3.2: the parameters field is absent for ECDSA.
    let parameters = algorithm.parameters.as_ref().map(|parameters| parameters.data);
    let null = is_null(algorithm);
    match (algorithm.algorithm.as_bytes(), parameters) {
        (ECDSA_WITH_SHA256, None) => SignatureAlgorithm::EcdsaSha256,
        (ECDSA_WITH_SHA384, None) => SignatureAlgorithm::EcdsaSha384,
        (SHA256_WITH_RSA, _) if null => SignatureAlgorithm::RsaPkcs1Sha256,
        (RSASSA_PSS, Some(parameters)) if is_pss_sha384(parameters) => SignatureAlgorithm::RsaPssSha384,
        _ => SignatureAlgorithm::Other,
    }
}

/// The algorithm of an AlgorithmIdentifier's whole DER, which must be the only encoding of it.
pub(crate) fn signature_algorithm_of(der: &[u8]) -> SignatureAlgorithm {
    if der == ECDSA_SHA256 {
        SignatureAlgorithm::EcdsaSha256
    } else if der == ECDSA_SHA384 {
        SignatureAlgorithm::EcdsaSha384
    } else if der == RSA_PSS_SHA384 {
        SignatureAlgorithm::RsaPssSha384
    } else {
        SignatureAlgorithm::Other
    }
}

fn is_pss_sha384(parameters: &[u8]) -> bool {
    let default_trailer = PSS_PARAMETERS.get(..52);
    parameters == PSS_PARAMETERS || Some(parameters) == default_trailer
}

fn key_algorithm(algorithm: &AlgorithmIdentifier<'_>, point: &[u8]) -> KeyAlgorithm {
    match algorithm.algorithm.as_bytes() {
        EC_PUBLIC_KEY => ec_key(algorithm, point),
        RSA_ENCRYPTION => rsa_key(algorithm, point),
        _ => KeyAlgorithm::Other,
    }
}

/// Libraries differ in the sizes and exponents that they take: only RSAPublicKey (RFC 8017 appendix A.1.1) with an odd
/// modulus of exactly 4096 or 2048 bits and the exponent 65537, in DER, is one here.
fn rsa_key(algorithm: &AlgorithmIdentifier<'_>, key: &[u8]) -> KeyAlgorithm {
    if !is_null(algorithm) {
        return KeyAlgorithm::Other;
    }
    let modulus = |header: &[u8]| {
        let modulus = key.strip_prefix(header)?.strip_suffix(&[0x02, 0x03, 0x01, 0x00, 0x01])?;
        matches!(modulus, [0x80..=0xff, .., last] if last & 1 == 1).then_some(modulus.len())
    };
    if modulus(&[0x30, 0x82, 0x02, 0x0a, 0x02, 0x82, 0x02, 0x01, 0x00]) == Some(512) {
        KeyAlgorithm::Rsa4096
    } else if modulus(&[0x30, 0x82, 0x01, 0x0a, 0x02, 0x82, 0x01, 0x01, 0x00]) == Some(256) {
        KeyAlgorithm::Rsa2048
    } else {
        KeyAlgorithm::Other
    }
}

/// Whether the parameters are NULL, as RSA's are.
fn is_null(algorithm: &AlgorithmIdentifier<'_>) -> bool {
    algorithm.parameters.as_ref().is_some_and(|found| found.tag() == Tag::Null && found.data.is_empty())
}

fn ec_key(algorithm: &AlgorithmIdentifier<'_>, point: &[u8]) -> KeyAlgorithm {
    // Libraries differ in whether they take compressed points: verdicts must not.
    let curve = algorithm.parameters.as_ref().filter(|parameters| parameters.tag() == Tag::Oid);
    match (curve.map(|curve| curve.data), point.len(), point.first()) {
        (Some(SECP256R1), 65, Some(0x04)) => KeyAlgorithm::P256,
        (Some(SECP384R1), 97, Some(0x04)) => KeyAlgorithm::P384,
        _ => KeyAlgorithm::Other,
    }
}

/// Reads one DER value from the front of `input`: (tag byte, content, rest). Single-byte tags only.
pub(crate) fn der_value(input: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = input.split_first()?;
    if tag & 0x1f == 0x1f {
        return None;
    }
    let (length, rest) = der_length(rest)?;
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// A definite length in its shortest form (X.690 section 10.1), below 16 MiB.
fn der_length(input: &[u8]) -> Option<(usize, &[u8])> {
    let (&first, rest) = input.split_first()?;
    let digits = match first {
        0..=0x7f => return Some((usize::from(first), rest)),
        0x81..=0x83 => usize::from(first & 0x7f),
        _ => return None,
    };
    let (digits, rest) = rest.split_at_checked(digits)?;
    let length = digits.iter().fold(0_usize, |sum, digit| sum << 8 | usize::from(*digit));
    let shortest = length >= 0x80 && digits.first() != Some(&0);
    shortest.then_some((length, rest))
}
