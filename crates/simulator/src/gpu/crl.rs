//! Certificate revocation lists (RFC 5280 section 5) of the authorities for devices and manifests.

use rcgen::CertificateParams;

use crate::authority::Authority;
use crate::certificate::Fields;
use crate::crl::ListBody;
use crate::ecdsa::Curve;
use crate::keys::SigningKey;
use crate::{SimulatorError, Window, der};

/// CRL number.
const CRL_NUMBER: [u64; 4] = [2, 5, 29, 20];
/// Reason code of an entry.
const REASON_CODE: [u64; 4] = [2, 5, 29, 21];
/// Authority key identifier.
const AUTHORITY_KEY_IDENTIFIER: [u64; 4] = [2, 5, 29, 35];
/// One day in seconds.
const DAY: u64 = 86_400;

/// The hash that an authority's P-384 key signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GpuCrlHash {
    /// ecdsa-with-SHA256, as NVIDIA's lists have it.
    Sha256,
    /// ecdsa-with-SHA384, as its certificates have it.
    Sha384,
}

/// A way in which a list is wrong although everything that the flaw leaves alone still holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum GpuCrlFlaw {
    /// Nothing is wrong.
    #[default]
    None,
    /// Another key than the authority's has signed.
    Signature,
    /// The list has an extension that nobody knows and that is critical.
    UnknownCriticalExtension,
}

/// A revoked certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuRevocation {
    /// The certificate's serial number, big endian.
    pub serial: Vec<u8>,
    /// revocationDate, Unix seconds.
    pub at: u64,
    /// CRLReason (RFC 5280 section 5.3.1): 1 keyCompromise, 6 certificateHold; `None` leaves it out.
    pub reason: Option<u8>,
}

/// A revocation list before it is signed. Start from [`GpuRevocationList::empty`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuRevocationList {
    /// thisUpdate and nextUpdate.
    pub window: Window,
    /// cRLNumber.
    pub number: u64,
    /// Revoked certificates.
    pub revoked: Vec<GpuRevocation>,
    /// What is signed.
    pub hash: GpuCrlHash,
    /// What is wrong.
    pub flaw: GpuCrlFlaw,
}

impl GpuRevocationList {
    /// A list of nothing, ten days old at this time and good for sixty, as NVIDIA's are.
    #[must_use]
    pub fn empty(now_unix: u64) -> Self {
        let from = now_unix.saturating_sub(10 * DAY);
        Self {
            window: Window { from, until: from.saturating_add(60 * DAY) },
            number: 1,
            revoked: Vec::new(),
            hash: GpuCrlHash::Sha256,
            flaw: GpuCrlFlaw::None,
        }
    }

    /// A list of one certificate, given in DER, revoked a day before this time.
    ///
    /// # Panics
    /// If `certificate` is not one of the simulator's certificates, DER.
    #[must_use]
    pub fn of(certificate: &[u8], reason: Option<u8>, now_unix: u64) -> Self {
        // Tag and a length below 128 stand before the number.
        let serial = Fields::of(certificate).serial[2..].to_vec();
        let entry = GpuRevocation { serial, at: now_unix.saturating_sub(DAY), reason };
        Self { revoked: vec![entry], ..Self::empty(now_unix) }
    }

    /// Signs in the name of the authority whose certificate, DER, is given: the list, DER.
    ///
    /// # Errors
    /// [`SimulatorError::Authority`] if it is none of the simulator's authorities for devices or manifests;
    /// [`SimulatorError::Time`] for a time beyond the year 9999.
    ///
    /// # Panics
    /// If `issuer` is not one of the simulator's certificates, DER.
    pub fn sign(&self, issuer: &[u8]) -> Result<Vec<u8>, SimulatorError> {
        let issuer = Authority::of_name(&Fields::of(issuer).subject)?;
        let key = match self.flaw {
            GpuCrlFlaw::Signature => SigningKey::derive(Curve::P384, "CRL of another key", 0)?,
            _ => issuer.key()?,
        };
        let algorithm = match self.hash {
            GpuCrlHash::Sha256 => der::oid(&[1, 2, 840, 10_045, 4, 3, 2]),
            GpuCrlHash::Sha384 => der::oid(&[1, 2, 840, 10_045, 4, 3, 3]),
        };
        let entries = self.revoked.iter().map(GpuRevocation::der).collect::<Result<_, _>>()?;
        let body = ListBody {
            algorithm: der::sequence(&[algorithm]),
            issuer: Fields::of(&issuer.certificate()).subject,
            this_update: self.window.from,
            next_update: Some(self.window.until),
            entries,
            extensions: self.extensions(issuer)?,
        };
        body.sign(|body| {
            SigningKey::encoded(&match self.hash {
                GpuCrlHash::Sha256 => key.sign_sha256(body),
                GpuCrlHash::Sha384 => key.sign(body),
            })
        })
    }

    fn extensions(&self, issuer: Authority) -> Result<Vec<u8>, SimulatorError> {
        let identifier = CertificateParams::default().key_identifier(&issuer.key()?);
        let identifier = der::sequence(&[der::tagged(0x80, &identifier)]);
        let mut extensions = vec![
            der::sequence(&[der::oid(&AUTHORITY_KEY_IDENTIFIER), der::octets(&identifier)]),
            der::sequence(&[der::oid(&CRL_NUMBER), der::octets(&der::integer(self.number))]),
        ];
        if self.flaw == GpuCrlFlaw::UnknownCriticalExtension {
            // 1.3.6.1.4.1.412: the arc of the DMTF, whose extensions stand in no list.
            let oid = der::oid(&[1, 3, 6, 1, 4, 1, 412]);
            extensions.push(der::sequence(&[oid, der::boolean(true), der::octets(&der::integer(0))]));
        }
        Ok(der::sequence(&extensions))
    }
}

impl GpuRevocation {
    fn der(&self) -> Result<Vec<u8>, SimulatorError> {
        let reason = self.reason.map(|reason| {
            let extension = [der::oid(&REASON_CODE), der::octets(&der::enumerated(reason))];
            der::sequence(&[der::sequence(&extension)])
        });
        Ok(der::sequence(&[der::unsigned(&self.serial), der::time(self.at)?, reason.unwrap_or_default()]))
    }
}
