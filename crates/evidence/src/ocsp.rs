//! Answers of OCSP responders (RFC 6960 section 4.2.1), read as the one DER encoding that their values have.
//!
//! Only the basic response (id-pkix-ocsp-basic) is read, and only one whose answers are all about certificates of one
//! issuer. Parsing establishes no trust: signature, responder, windows and freshness are the verifier's work.
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)
)]

use crate::x509::{
    Certificate, MAX_OID, Reason, SignatureAlgorithm, X509Error, der_value, dotted_of, generalized_time,
    sequence, serial, signature_algorithm_of, whole_sequence,
};
use sha1::Sha1;
use sha2::{Digest as _, Sha256, Sha384};
use thiserror::Error;

/// The largest answer accepted, in bytes. NVIDIA's recorded ones have under 1.1 KiB; one with [`MAX_OCSP_CERTIFICATES`]
/// certificates of the largest recorded size, 1.3 KiB, and [`MAX_OCSP_RESPONSES`] answers has under 8 KiB.
pub const MAX_OCSP: usize = 16 * 1024;
/// The most certificates that one answer may tell of. NVIDIA's responder answers one; a request for the BROM
/// certificates of a board of eight GPUs, which one authority issues, would have eight.
pub const MAX_OCSP_RESPONSES: usize = 8;
/// The most certificates that an answer may carry. NVIDIA's have one, the delegated responder's; a chain has three more.
pub const MAX_OCSP_CERTIFICATES: usize = 4;
/// The longest nonce accepted, in bytes (RFC 9654 section 2.1).
pub const MAX_OCSP_NONCE: usize = 128;
/// The longest serial number accepted, in bytes (RFC 5280 section 4.1.2.2).
pub const MAX_SERIAL: usize = 20;

const BOOLEAN: u8 = 0x01;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const NULL: u8 = 0x05;
const OBJECT_IDENTIFIER: u8 = 0x06;
const ENUMERATED: u8 = 0x0a;
const GENERALIZED_TIME: u8 = 0x18;
const SET: u8 = 0x31;
/// [0], primitive.
const GOOD: u8 = 0x80;
/// [1], constructed: RevokedInfo.
const REVOKED: u8 = 0xa1;
/// [2], primitive.
const UNKNOWN: u8 = 0x82;
/// [0] to [2], constructed.
const CONTEXT_0: u8 = 0xa0;
const CONTEXT_1: u8 = 0xa1;
const CONTEXT_2: u8 = 0xa2;

/// id-pkix-ocsp-basic, 1.3.6.1.5.5.7.48.1.1, the content of its DER as of the other identifiers.
const OCSP_BASIC: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x01];
/// id-pkix-ocsp-nonce, 1.3.6.1.5.5.7.48.1.2.
const OCSP_NONCE: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x02];
/// id-sha1, 1.3.14.3.2.26.
const SHA1: &[u8] = &[0x2b, 0x0e, 0x03, 0x02, 0x1a];
/// id-sha256, 2.16.840.1.101.3.4.2.1.
const SHA256: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];
/// id-sha384, 2.16.840.1.101.3.4.2.2.
const SHA384: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02];

/// Why an answer could not be read, or is none.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum OcspError {
    /// Larger than [`MAX_OCSP`].
    #[error("an OCSP answer of {0} bytes, at most {MAX_OCSP} are accepted")]
    TooLarge(usize),
    /// The responder did not answer what it was asked.
    #[error("the OCSP responder answered {0}")]
    Unsuccessful(ResponseStatus),
    /// Not the DER of the structure.
    #[error("{0} that is not DER of the expected form")]
    Der(&'static str),
    /// A response of another type than id-pkix-ocsp-basic.
    #[error("an OCSP answer of another type than the basic one")]
    Type,
    /// A hash algorithm that identifies no issuer here.
    #[error("an issuer named by another digest than SHA-1, SHA-256 or SHA-384")]
    Hash,
    /// An answer about no certificate.
    #[error("an OCSP answer about no certificate")]
    Empty,
    /// More single responses than [`MAX_OCSP_RESPONSES`].
    #[error("more than {MAX_OCSP_RESPONSES} certificates in an OCSP answer")]
    TooManyResponses,
    /// More certificates than [`MAX_OCSP_CERTIFICATES`].
    #[error("more than {MAX_OCSP_CERTIFICATES} certificates beside an OCSP answer")]
    TooManyCertificates,
    /// Single responses about certificates of different issuers.
    #[error("an OCSP answer about certificates of several issuers")]
    SeveralIssuers,
    /// Two single responses about one certificate.
    #[error("two OCSP answers about one serial number")]
    DuplicateSerial,
    /// The same extension twice in one list.
    #[error("an OCSP answer with a duplicate extension")]
    DuplicateExtension,
    /// Critical extensions that are not read here (RFC 5280 section 4.2): all of them, dotted.
    #[error("an OCSP answer with the critical extensions {}", .0.join(", "))]
    CriticalExtensions(Vec<String>),
    /// A certificate beside the answer cannot be read.
    #[error("certificate {index} beside an OCSP answer: {source}")]
    Certificate {
        /// Its position, from 0.
        index: usize,
        /// Why.
        source: X509Error,
    },
}

/// Why a responder did not answer (RFC 6960 section 4.2.1, OCSPResponseStatus).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ResponseStatus {
    /// malformedRequest (1).
    MalformedRequest,
    /// internalError (2).
    InternalError,
    /// tryLater (3).
    TryLater,
    /// sigRequired (5).
    SigRequired,
    /// unauthorized (6): NVIDIA's answer about the leaf certificates of devices.
    Unauthorized,
}

impl ResponseStatus {
    /// The name of RFC 6960.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::MalformedRequest => "malformedRequest",
            Self::InternalError => "internalError",
            Self::TryLater => "tryLater",
            Self::SigRequired => "sigRequired",
            Self::Unauthorized => "unauthorized",
        }
    }
}

impl std::fmt::Display for ResponseStatus {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name())
    }
}

/// Who signs an answer (RFC 6960 section 4.2.1, ResponderID).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Responder {
    /// byName: the subject name, DER.
    Name(Vec<u8>),
    /// byKey: SHA-1 of the content of the subjectPublicKey bit string.
    KeyHash([u8; 20]),
}

impl Responder {
    /// Whether this is the name or the key of a certificate. It identifies and proves nothing.
    #[must_use]
    pub fn is(&self, certificate: &Certificate) -> bool {
        match self {
            Self::Name(name) => *name == certificate.subject,
            // RFC 6960 gives no other digest. It only identifies: the signature is checked with the key itself.
            Self::KeyHash(hash) => hash[..] == Sha1::digest(&certificate.public_key)[..],
        }
    }
}

/// The digest by which an issuer is named (RFC 6960 section 4.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HashAlgorithm {
    /// SHA-1, 20 bytes. It only identifies here: who finds a second issuer of the same hashes still signs nothing in
    /// the name of the first.
    Sha1,
    /// SHA-256, 32 bytes.
    Sha256,
    /// SHA-384, 48 bytes.
    Sha384,
}

impl HashAlgorithm {
    fn digest(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha1 => Sha1::digest(bytes).to_vec(),
            Self::Sha256 => Sha256::digest(bytes).to_vec(),
            Self::Sha384 => Sha384::digest(bytes).to_vec(),
        }
    }

    /// Size of a digest, in bytes.
    fn size(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
        }
    }
}

/// Which certificate is told of (RFC 6960 section 4.1.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertId {
    /// The digest of the two hashes.
    pub hash_algorithm: HashAlgorithm,
    /// Hash of the DER of the issuer's name.
    pub issuer_name_hash: Vec<u8>,
    /// Hash of the content of the issuer's subjectPublicKey bit string.
    pub issuer_key_hash: Vec<u8>,
    /// The certificate's serial number, in the form of [`Certificate::serial`]; never empty.
    pub serial: Vec<u8>,
}

impl CertId {
    /// Whether the certificate told of is one that `issuer` issued: name and key are its.
    #[must_use]
    pub fn is_of(&self, issuer: &Certificate) -> bool {
        self.issuer_name_hash == self.hash_algorithm.digest(&issuer.subject)
            && self.issuer_key_hash == self.hash_algorithm.digest(&issuer.public_key)
    }

    fn has_issuer_of(&self, other: &Self) -> bool {
        self.hash_algorithm == other.hash_algorithm
            && self.issuer_name_hash == other.issuer_name_hash
            && self.issuer_key_hash == other.issuer_key_hash
    }
}

/// What an answer says of a certificate (RFC 6960 section 2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertStatus {
    /// Not revoked.
    Good,
    /// Revoked, perhaps for a time.
    Revoked {
        /// Since when, seconds since the Unix epoch.
        time: i64,
        /// Why, where the answer says it.
        reason: Option<Reason>,
    },
    /// The responder does not know the certificate.
    Unknown,
}

/// The answer about one certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SingleResponse {
    /// Which certificate.
    pub cert_id: CertId,
    /// What of it.
    pub status: CertStatus,
    /// When this was known to be right, seconds since the Unix epoch.
    pub this_update: i64,
    /// By when there will be newer information, seconds since the Unix epoch. Optional in the syntax.
    pub next_update: Option<i64>,
}

/// A parsed successful answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OcspResponse {
    /// When it was signed, seconds since the Unix epoch.
    pub produced_at: i64,
    /// Who signed it, as it says itself.
    pub responder: Responder,
    /// The signed part (ResponseData), DER.
    pub tbs: Vec<u8>,
    /// The signature: for ECDSA the DER of `Ecdsa-Sig-Value`.
    pub signature: Vec<u8>,
    /// How it is signed.
    pub signature_algorithm: SignatureAlgorithm,
    /// One to [`MAX_OCSP_RESPONSES`] answers about certificates of one issuer, sorted by serial number, no number twice.
    pub responses: Vec<SingleResponse>,
    /// The nonce of the request (RFC 9654), where the responder repeats it.
    pub nonce: Option<Vec<u8>>,
    /// Certificates beside the answer, which the signature does not cover.
    pub certificates: Vec<Certificate>,
}

impl OcspResponse {
    /// Parses one DER answer.
    ///
    /// # Errors
    /// [`OcspError`]: size, an unsuccessful status, DER, trailing bytes, another type, duplicates, several issuers,
    /// critical extensions that are not read.
    pub fn parse(der: &[u8]) -> Result<Self, OcspError> {
        const WHAT: OcspError = OcspError::Der("an OCSP answer");
        if der.len() > MAX_OCSP {
            return Err(OcspError::TooLarge(der.len()));
        }
        let (response_type, response) = response_bytes(der)?;
        if response_type != OCSP_BASIC {
            return Err(OcspError::Type);
        }
        let (basic, []) = sequence(response).ok_or(WHAT)? else { return Err(WHAT) };
        let (tbs, after) = whole_sequence(basic).ok_or(WHAT)?;
        let (algorithm, after) = whole_sequence(after).ok_or(WHAT)?;
        algorithm_identifier(algorithm).ok_or(WHAT)?;
        let Some((BIT_STRING, [0, signature @ ..], after)) = der_value(after) else { return Err(WHAT) };
        Ok(Self {
            tbs: tbs.to_vec(),
            signature: signature.to_vec(),
            signature_algorithm: signature_algorithm_of(algorithm),
            ..Self::data(tbs, certificates(after)?)?
        })
    }

    /// Reads ResponseData; what signs it is left empty.
    fn data(tbs: &[u8], certificates: Vec<Certificate>) -> Result<Self, OcspError> {
        const WHAT: OcspError = OcspError::Der("ResponseData");
        // The version has a default, which DER leaves away, and no other value.
        let (fields, []) = sequence(tbs).ok_or(WHAT)? else { return Err(WHAT) };
        let (responder, rest) = responder(fields).ok_or(WHAT)?;
        let (produced_at, rest) = time(rest).ok_or(WHAT)?;
        let (list, rest) = sequence(rest).ok_or(WHAT)?;
        let mut critical = Vec::new();
        let responses = single_responses(list, &mut critical)?;
        let mut nonce = None;
        for extension in extensions(rest)? {
            if extension.oid == OCSP_NONCE {
                nonce = Some(nonce_of(extension.value).ok_or(OcspError::Der("a nonce"))?);
            } else {
                extension.note_critical(&mut critical);
            }
        }
        if !critical.is_empty() {
            return Err(OcspError::CriticalExtensions(critical));
        }
        Ok(Self {
            produced_at,
            responder,
            tbs: Vec::new(),
            signature: Vec::new(),
            signature_algorithm: SignatureAlgorithm::Other,
            responses,
            nonce,
            certificates,
        })
    }

    /// The answer about the certificate of this serial number (in the form of [`Certificate::serial`]) that `issuer`
    /// issued.
    #[must_use]
    pub fn single(&self, serial: &[u8], issuer: &Certificate) -> Option<&SingleResponse> {
        self.responses.iter().find(|single| single.cert_id.serial == serial && single.cert_id.is_of(issuer))
    }

    /// The certificate beside the answer that its responder names.
    #[must_use]
    pub fn responder_certificate(&self) -> Option<&Certificate> {
        self.certificates.iter().find(|certificate| self.responder.is(certificate))
    }
}

/// Whether this is an AlgorithmIdentifier (RFC 5280 section 4.1.1.2), of whatever algorithm.
fn algorithm_identifier(der: &[u8]) -> Option<()> {
    let (content, []) = sequence(der)? else { return None };
    let (_, parameters) = identifier(content)?;
    let alone = |(_, _, rest): (u8, &[u8], &[u8])| rest.is_empty();
    (parameters.is_empty() || der_value(parameters).is_some_and(alone)).then_some(())
}

/// Reads an OBJECT IDENTIFIER from the front: its content.
fn identifier(input: &[u8]) -> Option<(&[u8], &[u8])> {
    match der_value(input)? {
        (OBJECT_IDENTIFIER, oid, rest) if is_identifier(oid) => Some((oid, rest)),
        _ => None,
    }
}

/// Whether the content of an object identifier is in its one encoding (X.690 section 8.19.2): the last number ends with
/// it, and none begins with zeros.
fn is_identifier(oid: &[u8]) -> bool {
    let mut before = 0_u8;
    let shortest = oid.iter().all(|byte| {
        let first = before & 0x80 == 0;
        before = *byte;
        !(first && *byte == 0x80)
    });
    shortest && !oid.is_empty() && oid.len() <= MAX_OID && before & 0x80 == 0
}

/// Reads OCSPResponse: the type of the response in it and its DER.
fn response_bytes(der: &[u8]) -> Result<(&[u8], &[u8]), OcspError> {
    const WHAT: OcspError = OcspError::Der("an OCSP answer");
    let (outer, []) = sequence(der).ok_or(WHAT)? else { return Err(WHAT) };
    let Some((ENUMERATED, [status], rest)) = der_value(outer) else { return Err(WHAT) };
    let refusal = match status {
        0 => None,
        1 => Some(ResponseStatus::MalformedRequest),
        2 => Some(ResponseStatus::InternalError),
        3 => Some(ResponseStatus::TryLater),
        5 => Some(ResponseStatus::SigRequired),
        6 => Some(ResponseStatus::Unauthorized),
        _ => return Err(WHAT),
    };
    match (refusal, rest) {
        (None, _) => basic_bytes(rest).ok_or(WHAT),
        (Some(status), []) => Err(OcspError::Unsuccessful(status)),
        (Some(_), _) => Err(WHAT),
    }
}

/// Reads ResponseBytes in its explicit tag.
fn basic_bytes(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let (CONTEXT_0, explicit, []) = der_value(rest)? else { return None };
    let (content, []) = sequence(explicit)? else { return None };
    let (oid, rest) = identifier(content)?;
    let (OCTET_STRING, response, []) = der_value(rest)? else { return None };
    Some((oid, response))
}

/// Reads the optional certificates at the end of BasicOCSPResponse.
fn certificates(rest: &[u8]) -> Result<Vec<Certificate>, OcspError> {
    const WHAT: OcspError = OcspError::Der("the certificates of an OCSP answer");
    if rest.is_empty() {
        return Ok(Vec::new());
    }
    let Some((CONTEXT_0, explicit, [])) = der_value(rest) else { return Err(WHAT) };
    let (mut list, []) = sequence(explicit).ok_or(WHAT)? else { return Err(WHAT) };
    let mut certificates = Vec::new();
    while !list.is_empty() {
        let index = certificates.len();
        if index >= MAX_OCSP_CERTIFICATES {
            return Err(OcspError::TooManyCertificates);
        }
        let (der, after) = whole_sequence(list).ok_or(WHAT)?;
        certificates
            .push(Certificate::parse(der).map_err(|source| OcspError::Certificate { index, source })?);
        list = after;
    }
    Ok(certificates)
}

fn responder(input: &[u8]) -> Option<(Responder, &[u8])> {
    match der_value(input)? {
        (CONTEXT_1, explicit, rest) => {
            let (names, []) = sequence(explicit)? else { return None };
            relative_names(names)?;
            Some((Responder::Name(explicit.to_vec()), rest))
        }
        (CONTEXT_2, explicit, rest) => {
            let (OCTET_STRING, hash, []) = der_value(explicit)? else { return None };
            Some((Responder::KeyHash(hash.try_into().ok()?), rest))
        }
        _ => None,
    }
}

/// Walks the relative names of a Name (RFC 5280 section 4.1.2.4): SETs of one type with one value or several.
fn relative_names(mut names: &[u8]) -> Option<()> {
    while !names.is_empty() {
        let (SET, mut attributes @ [_, ..], after) = der_value(names)? else { return None };
        while !attributes.is_empty() {
            let (attribute, rest) = sequence(attributes)?;
            let (_, value) = identifier(attribute)?;
            let (_, _, []) = der_value(value)? else { return None };
            attributes = rest;
        }
        names = after;
    }
    Some(())
}

/// Reads a GeneralizedTime from the front.
fn time(input: &[u8]) -> Option<(i64, &[u8])> {
    let (GENERALIZED_TIME, content, rest) = der_value(input)? else { return None };
    Some((generalized_time(content)?, rest))
}

/// Reads the single responses; what critical extensions they have is added.
fn single_responses(mut list: &[u8], critical: &mut Vec<String>) -> Result<Vec<SingleResponse>, OcspError> {
    let mut responses: Vec<SingleResponse> = Vec::new();
    while !list.is_empty() {
        if responses.len() >= MAX_OCSP_RESPONSES {
            return Err(OcspError::TooManyResponses);
        }
        let (fields, after) = sequence(list).ok_or(OcspError::Der("SingleResponse"))?;
        let single = single_response(fields, critical)?;
        if responses.first().is_some_and(|first| !first.cert_id.has_issuer_of(&single.cert_id)) {
            return Err(OcspError::SeveralIssuers);
        }
        responses.push(single);
        list = after;
    }
    if responses.is_empty() {
        return Err(OcspError::Empty);
    }
    responses.sort_unstable_by(|one, other| one.cert_id.serial.cmp(&other.cert_id.serial));
    if !responses.is_sorted_by(|one, next| one.cert_id.serial < next.cert_id.serial) {
        return Err(OcspError::DuplicateSerial);
    }
    Ok(responses)
}

fn single_response(fields: &[u8], critical: &mut Vec<String>) -> Result<SingleResponse, OcspError> {
    const WHAT: OcspError = OcspError::Der("SingleResponse");
    let (id, rest) = sequence(fields).ok_or(WHAT)?;
    let cert_id = cert_id(id)?;
    let (status, rest) = cert_status(rest).ok_or(WHAT)?;
    let (this_update, mut rest) = time(rest).ok_or(WHAT)?;
    let mut next_update = None;
    if let Some((CONTEXT_0, explicit, after)) = der_value(rest) {
        let (found, []) = time(explicit).ok_or(WHAT)? else { return Err(WHAT) };
        (next_update, rest) = (Some(found), after);
    }
    for extension in extensions(rest)? {
        extension.note_critical(critical);
    }
    Ok(SingleResponse { cert_id, status, this_update, next_update })
}

fn cert_id(content: &[u8]) -> Result<CertId, OcspError> {
    const WHAT: OcspError = OcspError::Der("CertID");
    let (algorithm, rest) = sequence(content).ok_or(WHAT)?;
    let hash_algorithm = hash_algorithm(algorithm)?;
    let hash = |input| match der_value(input) {
        Some((OCTET_STRING, hash, rest)) if hash.len() == hash_algorithm.size() => Ok((hash.to_vec(), rest)),
        _ => Err(WHAT),
    };
    let (issuer_name_hash, rest) = hash(rest)?;
    let (issuer_key_hash, rest) = hash(rest)?;
    let Some((INTEGER, number, [])) = der_value(rest) else { return Err(WHAT) };
    let serial = positive(number).ok_or(WHAT)?;
    Ok(CertId { hash_algorithm, issuer_name_hash, issuer_key_hash, serial })
}

/// The content of an AlgorithmIdentifier of a digest: parameters are absent or NULL (RFC 5754 section 2).
fn hash_algorithm(content: &[u8]) -> Result<HashAlgorithm, OcspError> {
    const WHAT: OcspError = OcspError::Der("the digest of CertID");
    let (oid, parameters) = identifier(content).ok_or(WHAT)?;
    if !matches!(parameters, [] | [NULL, 0]) {
        return Err(WHAT);
    }
    match oid {
        SHA1 => Ok(HashAlgorithm::Sha1),
        SHA256 => Ok(HashAlgorithm::Sha256),
        SHA384 => Ok(HashAlgorithm::Sha384),
        _ => Err(OcspError::Hash),
    }
}

/// The content of an INTEGER above zero, in its shortest form, as a serial number.
fn positive(content: &[u8]) -> Option<Vec<u8>> {
    let number = serial(content);
    let shortest = match (content, number.first()) {
        ([0, rest @ ..], Some(0x80..)) => rest == number,
        (_, Some(..0x80)) => content == number,
        _ => false,
    };
    (shortest && number.len() <= MAX_SERIAL).then_some(number)
}

fn cert_status(input: &[u8]) -> Option<(CertStatus, &[u8])> {
    match der_value(input)? {
        (GOOD, [], rest) => Some((CertStatus::Good, rest)),
        (UNKNOWN, [], rest) => Some((CertStatus::Unknown, rest)),
        (REVOKED, info, rest) => {
            let (time, given) = time(info)?;
            let reason = match given {
                [] => None,
                _ => Some(explicit_reason(given)?),
            };
            Some((CertStatus::Revoked { time, reason }, rest))
        }
        _ => None,
    }
}

fn explicit_reason(input: &[u8]) -> Option<Reason> {
    let (CONTEXT_0, explicit, []) = der_value(input)? else { return None };
    Reason::of(explicit)
}

/// One extension (RFC 5280 section 4.1).
struct Extension<'a> {
    /// The content of the object identifier's DER.
    oid: &'a [u8],
    critical: bool,
    /// The content of the octet string.
    value: &'a [u8],
}

impl Extension<'_> {
    /// Adds the name of a critical extension, which nothing here reads.
    fn note_critical(&self, critical: &mut Vec<String>) {
        if self.critical {
            critical.push(dotted_of(self.oid));
        }
    }
}

/// Reads the optional extensions at the end of a structure, none twice.
fn extensions(rest: &[u8]) -> Result<Vec<Extension<'_>>, OcspError> {
    const WHAT: OcspError = OcspError::Der("the extensions of an OCSP answer");
    if rest.is_empty() {
        return Ok(Vec::new());
    }
    let Some((CONTEXT_1, explicit, [])) = der_value(rest) else { return Err(WHAT) };
    let (mut list, []) = sequence(explicit).ok_or(WHAT)? else { return Err(WHAT) };
    let mut found: Vec<Extension<'_>> = Vec::new();
    while !list.is_empty() {
        let (one, after) = extension(list).ok_or(WHAT)?;
        found.push(one);
        list = after;
    }
    let mut oids: Vec<&[u8]> = found.iter().map(|extension| extension.oid).collect();
    oids.sort_unstable();
    if !oids.is_sorted_by(|one, next| one < next) {
        return Err(OcspError::DuplicateExtension);
    }
    // RFC 5280 section 4.1: one at least.
    if found.is_empty() { Err(WHAT) } else { Ok(found) }
}

fn extension(input: &[u8]) -> Option<(Extension<'_>, &[u8])> {
    let (content, after) = sequence(input)?;
    let (oid, rest) = identifier(content)?;
    // DER writes TRUE as 0xff, and leaves FALSE away, which is the default.
    let (critical, rest) = match der_value(rest)? {
        (BOOLEAN, [0xff], rest) => (true, rest),
        _ => (false, rest),
    };
    let (OCTET_STRING, value, []) = der_value(rest)? else { return None };
    Some((Extension { oid, critical, value }, after))
}

/// The nonce in the value of its extension (RFC 9654 section 2.1).
fn nonce_of(value: &[u8]) -> Option<Vec<u8>> {
    match der_value(value)? {
        (OCTET_STRING, nonce @ [_, ..], []) if nonce.len() <= MAX_OCSP_NONCE => Some(nonce.to_vec()),
        _ => None,
    }
}
