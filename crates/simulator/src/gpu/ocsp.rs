//! OCSP responses (RFC 6960) as NVIDIA's responder gives them: one certificate, signed by a delegated responder.

use aws_lc_rs::digest;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose,
    PublicKeyData as _, SerialNumber,
};

use super::flaw::{self, CertificateFlaw};
use crate::authority::{Authority, nvidia_style_name};
use crate::certificate::Fields;
use crate::ecdsa::Curve;
use crate::keys::{SigningKey, seeded_array};
use crate::text::date_time;
use crate::{SimulatorError, Window, der};

/// id-pkix-ocsp-nocheck (RFC 6960 section 4.2.2.2.1).
const NO_CHECK: [u64; 10] = [1, 3, 6, 1, 5, 5, 7, 48, 1, 5];
/// id-pkix-ocsp-basic.
const BASIC: [u64; 10] = [1, 3, 6, 1, 5, 5, 7, 48, 1, 1];
/// id-pkix-ocsp-nonce.
const NONCE: [u64; 10] = [1, 3, 6, 1, 5, 5, 7, 48, 1, 2];
/// ecdsa-with-SHA384.
const ECDSA_WITH_SHA384: [u64; 7] = [1, 2, 840, 10_045, 4, 3, 3];
/// ecdsa-with-SHA256.
const ECDSA_WITH_SHA256: [u64; 7] = [1, 2, 840, 10_045, 4, 3, 2];
/// NULL.
const NULL: [u8; 2] = [0x05, 0x00];
/// One day in seconds.
const DAY: u64 = 86_400;

/// The hash of a CertID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OcspHash {
    /// SHA-1, as NVIDIA's C++ tool asks.
    Sha1,
    /// SHA-256.
    Sha256,
    /// SHA-384, as NVIDIA's Python tool and Google's ask.
    Sha384,
}

impl OcspHash {
    fn oid(self) -> Vec<u8> {
        der::oid(match self {
            Self::Sha1 => &[1, 3, 14, 3, 2, 26],
            Self::Sha256 => &[2, 16, 840, 1, 101, 3, 4, 2, 1],
            Self::Sha384 => &[2, 16, 840, 1, 101, 3, 4, 2, 2],
        })
    }

    fn digest(self, message: &[u8]) -> Vec<u8> {
        let algorithm = match self {
            Self::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => &digest::SHA256,
            Self::Sha384 => &digest::SHA384,
        };
        digest::digest(algorithm, message).as_ref().to_vec()
    }
}

/// What a response says of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OcspStatus {
    /// Not revoked.
    Good,
    /// Revoked.
    Revoked {
        /// revocationTime, Unix seconds.
        at: u64,
        /// CRLReason (RFC 5280 section 5.3.1): 1 keyCompromise, 6 certificateHold.
        reason: Option<u8>,
    },
    /// Not known to the responder.
    Unknown,
}

/// A way in which a response is wrong although everything that the flaw leaves alone still holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OcspFlaw {
    /// Nothing is wrong.
    #[default]
    None,
    /// The responder's certificate is issued by another authority of the simulator than the checked certificate's.
    ResponderOfAnotherAuthority,
    /// The responder's certificate bears the issuer's name, but another key has signed it.
    ResponderOfAnotherKey,
    /// The responder's certificate has no extended key usage.
    ResponderWithoutUsage,
    /// The responder's certificate is for TLS servers.
    ResponderOfAnotherUsage,
    /// The responder's certificate lacks id-pkix-ocsp-nocheck.
    ResponderWithoutNoCheck,
    /// The responder's certificate is for signing certificates.
    ResponderMayNotSign,
    /// The responder's certificate says that it is an authority's.
    ResponderIsAuthority,
    /// The responder's certificate has an extension that nobody knows and that is critical.
    ResponderUnknownCriticalExtension,
    /// The responder's certificate is signed over SHA-256.
    ResponderOverSha256,
    /// The responder's key is on P-256.
    ResponderOnP256,
    /// The response is signed over SHA-256.
    SignedOverSha256,
    /// The response is signed by another key than the responder certificate's.
    Signature,
    /// The response carries no certificate.
    WithoutCertificate,
    /// The CertID has another serial number, by one bit.
    Serial,
    /// The CertID hashes another issuer's name.
    IssuerName,
    /// The CertID hashes another issuer's key.
    IssuerKey,
    /// The answer says `unauthorized` and nothing else.
    Unauthorized,
}

/// A response before it is signed. Start from [`OcspOptions::good`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OcspOptions {
    /// What is said.
    pub status: OcspStatus,
    /// The hash of the CertID.
    pub hash: OcspHash,
    /// producedAt, Unix seconds.
    pub produced_at: u64,
    /// thisUpdate, Unix seconds.
    pub this_update: u64,
    /// nextUpdate, Unix seconds; `None` leaves it out.
    pub next_update: Option<u64>,
    /// The responder certificate's notBefore and notAfter.
    pub responder_window: Window,
    /// The request's nonce, which the answer repeats.
    pub nonce: Option<Vec<u8>>,
    /// What is wrong.
    pub flaw: OcspFlaw,
}

impl OcspOptions {
    /// A good answer given at this time, for a day, by SHA-384.
    #[must_use]
    pub fn good(now_unix: u64) -> Self {
        Self {
            status: OcspStatus::Good,
            hash: OcspHash::Sha384,
            produced_at: now_unix,
            this_update: now_unix,
            next_update: Some(now_unix.saturating_add(DAY)),
            responder_window: Window {
                from: now_unix.saturating_sub(365 * DAY),
                until: now_unix.saturating_add(2 * 365 * DAY),
            },
            nonce: None,
            flaw: OcspFlaw::None,
        }
    }

    /// An answer that says that the certificate was revoked a day before, with this reason.
    #[must_use]
    pub fn revoked(now_unix: u64, reason: Option<u8>) -> Self {
        let status = OcspStatus::Revoked { at: now_unix.saturating_sub(DAY), reason };
        Self { status, ..Self::good(now_unix) }
    }

    /// The response about this certificate, DER, whose issuer is one of the simulator's authorities for devices or
    /// manifests.
    ///
    /// # Errors
    /// [`SimulatorError::Authority`] for another issuer, as that of a device's leaf certificate is;
    /// [`SimulatorError::Time`] for a time beyond the year 9999.
    ///
    /// # Panics
    /// If `certificate` is not one of the simulator's certificates, DER.
    pub fn answer(&self, certificate: &[u8]) -> Result<Vec<u8>, SimulatorError> {
        if self.flaw == OcspFlaw::Unauthorized {
            return Ok(ocsp_unauthorized());
        }
        let subject = Fields::of(certificate);
        let issuer = Authority::of_name(&subject.issuer)?;
        let curve = match self.flaw {
            OcspFlaw::ResponderOnP256 => Curve::P256,
            _ => Curve::P384,
        };
        let responder = SigningKey::derive(curve, "OCSP responder", issuer as u64)?;
        let body = self.body(&subject, issuer, &responder)?;
        let (algorithm, signature) = match self.flaw {
            OcspFlaw::Signature => {
                (&ECDSA_WITH_SHA384, SigningKey::derive(Curve::P384, "OCSP of another key", 0)?.sign(&body))
            }
            OcspFlaw::ResponderOnP256 | OcspFlaw::SignedOverSha256 => {
                (&ECDSA_WITH_SHA256, responder.sign_sha256(&body))
            }
            _ => (&ECDSA_WITH_SHA384, responder.sign(&body)),
        };
        let certificates = match self.flaw {
            OcspFlaw::WithoutCertificate => Vec::new(),
            _ => der::tagged(0xa0, &der::sequence(&[self.responder_certificate(issuer, &responder)?])),
        };
        let basic = der::sequence(&[
            body,
            der::sequence(&[der::oid(algorithm)]),
            der::bits(&SigningKey::encoded(&signature)),
            certificates,
        ]);
        let bytes = der::sequence(&[der::oid(&BASIC), der::octets(&basic)]);
        Ok(der::sequence(&[der::enumerated(0), der::tagged(0xa0, &bytes)]))
    }

    /// One response for each certificate of a chain, DER and leaf first, that has an authority of the simulator as issuer:
    /// all but the root and a device's leaf.
    ///
    /// # Errors
    /// [`SimulatorError::Time`] for a time beyond the year 9999.
    ///
    /// # Panics
    /// If the chain holds anything but the simulator's certificates.
    pub fn answers(&self, chain: &[Vec<u8>]) -> Result<Vec<Vec<u8>>, SimulatorError> {
        let below_root = chain.split_last().map_or(&[][..], |(_, below)| below);
        let served = |certificate: &Vec<u8>| match self.answer(certificate) {
            Err(SimulatorError::Authority) => None,
            answer => Some(answer),
        };
        below_root.iter().filter_map(served).collect()
    }

    /// ResponseData.
    fn body(
        &self,
        subject: &Fields,
        issuer: Authority,
        responder: &SigningKey,
    ) -> Result<Vec<u8>, SimulatorError> {
        let key_hash = OcspHash::Sha1.digest(responder.der_bytes());
        let nonce = self.nonce.as_ref().map(|nonce| {
            let extension = der::sequence(&[der::oid(&NONCE), der::octets(&der::octets(nonce))]);
            der::tagged(0xa1, &der::sequence(&[extension]))
        });
        let single = der::sequence(&[
            self.cert_id(subject, issuer),
            self.status()?,
            der::generalized_time(self.this_update)?,
            match self.next_update {
                Some(at) => der::tagged(0xa0, &der::generalized_time(at)?),
                None => Vec::new(),
            },
        ]);
        Ok(der::sequence(&[
            der::tagged(0xa2, &der::octets(&key_hash)),
            der::generalized_time(self.produced_at)?,
            der::sequence(&[single]),
            nonce.unwrap_or_default(),
        ]))
    }

    fn cert_id(&self, subject: &Fields, issuer: Authority) -> Vec<u8> {
        let certificate = Fields::of(&issuer.certificate());
        let mut serial = subject.serial.clone();
        let (mut name, mut key) = (certificate.subject, certificate.public_key);
        let wrong = match self.flaw {
            OcspFlaw::Serial => Some(&mut serial),
            OcspFlaw::IssuerName => Some(&mut name),
            OcspFlaw::IssuerKey => Some(&mut key),
            _ => None,
        };
        if let Some(last) = wrong.and_then(|bytes| bytes.last_mut()) {
            *last ^= 1;
        }
        der::sequence(&[
            der::sequence(&[self.hash.oid(), NULL.to_vec()]),
            der::octets(&self.hash.digest(&name)),
            der::octets(&self.hash.digest(&key)),
            serial,
        ])
    }

    fn status(&self) -> Result<Vec<u8>, SimulatorError> {
        Ok(match self.status {
            OcspStatus::Good => der::tagged(0x80, &[]),
            OcspStatus::Unknown => der::tagged(0x82, &[]),
            OcspStatus::Revoked { at, reason } => {
                let reason = reason.map(|reason| der::tagged(0xa0, &der::enumerated(reason)));
                der::tagged(0xa1, &[der::generalized_time(at)?, reason.unwrap_or_default()].concat())
            }
        })
    }

    fn responder_certificate(
        &self,
        issuer: Authority,
        responder: &SigningKey,
    ) -> Result<Vec<u8>, SimulatorError> {
        let name = format!("OCSP Responder {}", issuer.common_name());
        let mut params = CertificateParams::default();
        params.distinguished_name = nvidia_style_name(&name);
        let mut serial: [u8; 16] = seeded_array(&name, 0);
        serial[0] = serial[0] & 0x3f | 0x40;
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        params.not_before = date_time(self.responder_window.from)?;
        params.not_after = date_time(self.responder_window.until)?;
        params.is_ca = match self.flaw {
            OcspFlaw::ResponderIsAuthority => IsCa::Ca(BasicConstraints::Constrained(0)),
            _ => IsCa::ExplicitNoCa,
        };
        params.key_usages = vec![match self.flaw {
            OcspFlaw::ResponderMayNotSign => KeyUsagePurpose::KeyCertSign,
            _ => KeyUsagePurpose::DigitalSignature,
        }];
        params.use_authority_key_identifier_extension = true;
        params.extended_key_usages = match self.flaw {
            OcspFlaw::ResponderWithoutUsage => vec![],
            OcspFlaw::ResponderOfAnotherUsage => vec![ExtendedKeyUsagePurpose::ServerAuth],
            _ => vec![ExtendedKeyUsagePurpose::OcspSigning],
        };
        if self.flaw != OcspFlaw::ResponderWithoutNoCheck {
            params.custom_extensions = vec![CustomExtension::from_oid_content(&NO_CHECK, NULL.to_vec())];
        }
        if self.flaw == OcspFlaw::ResponderUnknownCriticalExtension {
            params.custom_extensions.push(flaw::unknown_extension());
        }
        let signer = match self.flaw {
            OcspFlaw::ResponderOfAnotherAuthority => issuer.sibling().issuer()?,
            OcspFlaw::ResponderOfAnotherKey => {
                issuer.issuer_with(SigningKey::derive(Curve::P384, "OCSP issuer of another key", 0)?)
            }
            _ => issuer.issuer()?,
        };
        let flaw = match self.flaw {
            OcspFlaw::ResponderOverSha256 => Some(CertificateFlaw::OverSha256),
            _ => None,
        };
        flaw::issue(params, responder, &signer, flaw)
    }
}

/// What NVIDIA's responder says about devices' leaf certificates, which it does not serve: `unauthorized` (RFC 6960
/// section 2.3).
#[must_use]
pub fn ocsp_unauthorized() -> Vec<u8> {
    der::sequence(&[der::enumerated(6)])
}
