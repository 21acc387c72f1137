//! Certificates as AMD's key distribution service writes them: templates whose every field a test may change before they
//! are signed.

use std::collections::BTreeMap;
use std::sync::{LazyLock, Mutex, PoisonError};

use sha2::{Digest as _, Sha256};

use crate::ecdsa::Curve;
use crate::keys::SigningKey;
use crate::rsa::RsaKey;
use crate::{SimulatorError, Window, der};

/// OBJECT IDENTIFIER 1.3.6.1.4.1.3704.1, below which AMD's extensions stand.
pub(crate) const AMD: [u64; 8] = [1, 3, 6, 1, 4, 1, 3704, 1];
const KEY_USAGE: [u64; 4] = [2, 5, 29, 15];
const BASIC_CONSTRAINTS: [u64; 4] = [2, 5, 29, 19];
const COMMON_NAME: [u64; 4] = [2, 5, 4, 3];
const ORGANIZATION: [u64; 4] = [2, 5, 4, 10];
const SHA384: [u64; 9] = [2, 16, 840, 1, 101, 3, 4, 2, 2];

const NULL: u8 = 0x05;
const UTF8_STRING: u8 = 0x0c;
const IA5_STRING: u8 = 0x16;
const SET: u8 = 0x31;

/// The committed authorities: RSA keys of 4096 bits, the same for all products.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnpAuthority {
    /// Root key.
    Ark,
    /// Issuer of VCEK certificates.
    Ask,
    /// Issuer of VLEK certificates.
    Asvk,
}

/// Signatures by authority and SHA-256 of the message.
type Signatures = BTreeMap<(u8, [u8; 32]), Vec<u8>>;

impl SnpAuthority {
    fn key(self) -> &'static RsaKey {
        static KEYS: LazyLock<[RsaKey; 3]> = LazyLock::new(|| {
            [
                include_str!("../../../../fixtures/simulator/snp-ark.key.pem"),
                include_str!("../../../../fixtures/simulator/snp-ask.key.pem"),
                include_str!("../../../../fixtures/simulator/snp-asvk.key.pem"),
            ]
            .map(|pem| RsaKey::from_pem(pem).expect("the committed file is a key, as a test shows"))
        });
        &KEYS[self as usize]
    }

    /// Signs, once for each message: signatures follow from key and message, and tests sign the same certificates again
    /// and again.
    pub(crate) fn sign(self, message: &[u8]) -> Vec<u8> {
        static SIGNED: Mutex<Signatures> = Mutex::new(BTreeMap::new());
        let signed = || SIGNED.lock().unwrap_or_else(PoisonError::into_inner);
        let name = (self as u8, Sha256::digest(message).into());
        if let Some(signature) = signed().get(&name) {
            return signature.clone();
        }
        let signature = self.key().sign(message);
        signed().insert(name, signature.clone());
        signature
    }
}

/// The key that a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnpKey {
    /// A committed RSA key.
    Authority(SnpAuthority),
    /// A P-384 key that follows from the seed.
    Endorsement {
        /// Any number.
        seed: u64,
    },
}

/// An extension of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnpExtension {
    /// Arcs of the object identifier.
    pub oid: Vec<u64>,
    /// The critical flag.
    pub critical: bool,
    /// What stands in the octet string.
    pub value: Vec<u8>,
}

/// A certificate before it is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnpCertificate {
    /// Subject common name, as in `SEV-VCEK`.
    pub subject: String,
    /// Issuer common name, as in `SEV-Milan`.
    pub issuer: String,
    /// Serial number; zero in every genuine VCEK and VLEK certificate.
    pub serial: u64,
    /// notBefore and notAfter.
    pub window: Window,
    /// The certified key.
    pub key: SnpKey,
    /// The key that signs.
    pub signer: SnpAuthority,
    /// Whether the signature algorithm writes its default trailer field out, as AMD's older certificates do.
    pub trailer: bool,
    /// Extensions in order.
    pub extensions: Vec<SnpExtension>,
}

impl SnpCertificate {
    /// An authority's certificate.
    pub(crate) fn authority(
        subject: String,
        issuer: String,
        serial: u64,
        keys: [SnpAuthority; 2],
        window: Window,
    ) -> Self {
        let [key, signer] = keys;
        let root = key == signer;
        let constraints =
            if root { vec![der::boolean(true)] } else { vec![der::boolean(true), der::integer(0)] };
        let extension = |oid: &[u64], value| SnpExtension { oid: oid.to_vec(), critical: true, value };
        // Bits 5 and 6 of a root, keyCertSign and cRLSign; bit 5 of the others.
        let usage = if root { [1, 0x06] } else { [2, 0x04] };
        Self {
            subject,
            issuer,
            serial,
            window,
            key: SnpKey::Authority(key),
            signer,
            trailer: true,
            extensions: vec![
                extension(&KEY_USAGE, der::tagged(der::BIT_STRING, &usage)),
                extension(&BASIC_CONSTRAINTS, der::sequence(&constraints)),
            ],
        }
    }

    /// Signs: the certificate, DER.
    ///
    /// # Errors
    /// [`SimulatorError::Time`] for a window beyond the year 9999, [`SimulatorError::Key`] for a key that the library
    /// refuses.
    pub fn sign(&self) -> Result<Vec<u8>, SimulatorError> {
        let algorithm = rsa_pss(self.trailer);
        let extensions: Vec<Vec<u8>> = self.extensions.iter().map(SnpExtension::der).collect();
        let body = der::sequence(&[
            der::tagged(0xa0, &der::integer(2)),
            der::integer(self.serial),
            algorithm.clone(),
            name(&self.issuer),
            der::sequence(&[der::time(self.window.from)?, der::time(self.window.until)?]),
            name(&self.subject),
            self.spki()?,
            der::tagged(0xa3, &der::sequence(&extensions)),
        ]);
        let signature = der::bits(&self.signer.sign(&body));
        Ok(der::sequence(&[body, algorithm, signature]))
    }

    /// SubjectPublicKeyInfo, DER.
    pub(crate) fn spki(&self) -> Result<Vec<u8>, SimulatorError> {
        Ok(match self.key {
            SnpKey::Authority(authority) => der::sequence(&[
                der::sequence(&[der::oid(&[1, 2, 840, 113_549, 1, 1, 1]), der::tagged(NULL, &[])]),
                der::bits(authority.key().public()),
            ]),
            SnpKey::Endorsement { seed } => der::sequence(&[
                der::sequence(&[der::oid(&[1, 2, 840, 10_045, 2, 1]), der::oid(&[1, 3, 132, 0, 34])]),
                der::bits(&[&[4], endorsement_key(seed)?.public_point()].concat()),
            ]),
        })
    }

    /// The extension with this object identifier.
    pub fn extension(&mut self, oid: &[u64]) -> Option<&mut SnpExtension> {
        self.extensions.iter_mut().find(|extension| extension.oid == oid)
    }
}

impl SnpExtension {
    /// One of AMD's: `arcs` continue 1.3.6.1.4.1.3704.1.
    #[must_use]
    pub fn amd(arcs: &[u64], value: Vec<u8>) -> Self {
        Self { oid: [&AMD, arcs].concat(), critical: false, value }
    }

    pub(crate) fn der(&self) -> Vec<u8> {
        let critical = if self.critical { der::boolean(true) } else { Vec::new() };
        der::sequence(&[der::oid(&self.oid), critical, der::octets(&self.value)])
    }
}

/// The P-384 key of this seed.
pub(crate) fn endorsement_key(seed: u64) -> Result<SigningKey, SimulatorError> {
    SigningKey::derive(Curve::P384, "SNP endorsement key", seed)
}

/// A patch level, as an extension's value.
pub(crate) fn level(level: u8) -> Vec<u8> {
    der::integer(u64::from(level))
}

/// An IA5String.
pub(crate) fn ia5(text: &str) -> Vec<u8> {
    der::tagged(IA5_STRING, text.as_bytes())
}

/// Organisation and common name. AMD's names have more parts; this organisation says whose certificate it is.
pub(crate) fn name(common_name: &str) -> Vec<u8> {
    let part = |oid: &[u64], text: &str| {
        der::tagged(SET, &der::sequence(&[der::oid(oid), der::tagged(UTF8_STRING, text.as_bytes())]))
    };
    der::sequence(&[part(&ORGANIZATION, "Confide SIMULATED platform"), part(&COMMON_NAME, common_name)])
}

/// AlgorithmIdentifier of RSASSA-PSS with SHA-384 throughout and 48 bytes of salt (RFC 4055 section 3.1).
pub(crate) fn rsa_pss(trailer: bool) -> Vec<u8> {
    let sha384 = der::sequence(&[der::oid(&SHA384), der::tagged(NULL, &[])]);
    let mgf1 = der::sequence(&[der::oid(&[1, 2, 840, 113_549, 1, 1, 8]), sha384.clone()]);
    let trailer = if trailer { der::tagged(0xa3, &der::integer(1)) } else { Vec::new() };
    let parameters = der::sequence(&[
        der::tagged(0xa0, &sha384),
        der::tagged(0xa1, &mgf1),
        der::tagged(0xa2, &der::integer(48)),
        trailer,
    ]);
    der::sequence(&[der::oid(&[1, 2, 840, 113_549, 1, 1, 10]), parameters])
}
