//! Certificates of devices and of manifests' signers that are wrong in one way.

use std::borrow::Borrow;

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyUsagePurpose, SerialNumber,
};

use crate::authority::Authority;
use crate::certificate::Fields;
use crate::ecdsa::Curve;
use crate::keys::SigningKey;
use crate::text::date_time;
use crate::{SimulatorError, Window, der};

/// 2023-03-16 to 2053-03-08: when authorities are valid that are issued anew.
const LEVELS: Window = Window { from: 1_678_924_800, until: 2_625_004_800 };
/// 1.3.6.1.4.1.412: the arc of the DMTF, which itself is no extension.
const UNKNOWN_EXTENSION: [u64; 7] = [1, 3, 6, 1, 4, 1, 412];
/// ecdsa-with-SHA256.
const ECDSA_WITH_SHA256: [u64; 7] = [1, 2, 840, 10_045, 4, 3, 2];

/// A way in which one certificate of a chain is wrong although everything that the flaw leaves alone still holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CertificateFlaw {
    /// Its issuer signs it over SHA-256.
    OverSha256,
    /// Its key is on P-256. Of a leaf alone: an authority keeps its key.
    OnP256,
    /// basicConstraints say that it is no authority's.
    NoAuthority,
    /// pathLenConstraint is 0: it has no authority below it.
    NoAuthorityBelow,
    /// Its key usage lacks keyCertSign.
    MayNotCertify,
    /// Its key usage lacks cRLSign.
    MayNotSignLists,
    /// It has an extension that nobody knows and that is critical.
    UnknownCriticalExtension,
    /// Its extended key usage is that of a TLS server.
    ForTlsServers,
    /// It is issued by the root, which then stands in the chain in the place of each authority above it. Of an authority
    /// alone.
    BelowRoot,
}

/// One certificate of a chain, and what is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlawedCertificate {
    /// Its position, 0 for the leaf.
    pub at: usize,
    /// What is wrong.
    pub flaw: CertificateFlaw,
}

impl FlawedCertificate {
    /// The flaw of the certificate at a position.
    pub(super) fn of(flawed: Option<Self>, at: usize) -> Option<CertificateFlaw> {
        flawed.filter(|flawed| flawed.at == at).map(|flawed| flawed.flaw)
    }
}

/// A certificate of these parameters for this key, DER, with what a flaw changes of it.
pub(super) fn issue<S: rcgen::SigningKey + Borrow<SigningKey>>(
    mut params: CertificateParams,
    key: &SigningKey,
    issuer: &Issuer<'_, S>,
    flaw: Option<CertificateFlaw>,
) -> Result<Vec<u8>, SimulatorError> {
    if let Some(flaw) = flaw {
        change(&mut params, flaw);
    }
    Ok(match flaw {
        Some(CertificateFlaw::OnP256) => {
            let key = SigningKey::derive(Curve::P256, "key of another curve", 0)?;
            params.signed_by(&key, issuer)?.der().to_vec()
        }
        Some(CertificateFlaw::OverSha256) => {
            over_sha256(params.signed_by(key, issuer)?.der(), Borrow::<SigningKey>::borrow(issuer.key()))
        }
        _ => params.signed_by(key, issuer)?.der().to_vec(),
    })
}

/// The certificates of authorities, DER, each issued by the next and the last by itself. The first stands at a position of
/// the chain, whose flaw may be one of theirs.
pub(super) fn authorities(
    levels: &[Authority],
    first: usize,
    flawed: Option<FlawedCertificate>,
) -> Result<Vec<Vec<u8>>, SimulatorError> {
    let Some(root) = levels.last() else { return Ok(Vec::new()) };
    let is_below_root =
        |at| matches!(flawed, Some(found) if found.flaw == CertificateFlaw::BelowRoot && found.at < at);
    let one = |(index, authority): (usize, &Authority)| {
        let at = first + index;
        match FlawedCertificate::of(flawed, at) {
            Some(CertificateFlaw::BelowRoot) => anew(*authority, *root, None),
            Some(flaw) => anew(*authority, *levels.get(index + 1).unwrap_or(root), Some(flaw)),
            None if is_below_root(at) => Ok(root.certificate()),
            None => Ok(authority.certificate()),
        }
    };
    levels.iter().enumerate().map(one).collect()
}

/// An authority's certificate issued anew, DER, with its own key and serial number.
fn anew(
    authority: Authority,
    issuer: Authority,
    flaw: Option<CertificateFlaw>,
) -> Result<Vec<u8>, SimulatorError> {
    if flaw == Some(CertificateFlaw::OnP256) {
        return Err(SimulatorError::Key);
    }
    let mut params = level(authority)?;
    // Tag and a length below 128 stand before the number.
    let serial = &Fields::of(&authority.certificate()).serial[2..];
    params.serial_number = Some(SerialNumber::from_slice(serial));
    issue(params, &authority.key()?, &issuer.issuer()?, flaw)
}

/// What an authority's certificate says, but for its serial number.
pub(super) fn level(authority: Authority) -> Result<CertificateParams, SimulatorError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = authority.name();
    params.not_before = date_time(LEVELS.from)?;
    params.not_after = date_time(LEVELS.until)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn change(params: &mut CertificateParams, flaw: CertificateFlaw) {
    match flaw {
        CertificateFlaw::NoAuthority => params.is_ca = IsCa::ExplicitNoCa,
        CertificateFlaw::NoAuthorityBelow => params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)),
        CertificateFlaw::MayNotCertify => without(params, KeyUsagePurpose::KeyCertSign),
        CertificateFlaw::MayNotSignLists => without(params, KeyUsagePurpose::CrlSign),
        CertificateFlaw::UnknownCriticalExtension => params.custom_extensions.push(unknown_extension()),
        CertificateFlaw::ForTlsServers => {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        }
        CertificateFlaw::OverSha256 | CertificateFlaw::OnP256 | CertificateFlaw::BelowRoot => {}
    }
}

/// Takes a usage away. One is left, as RFC 5280 section 4.2.1.3 asks.
fn without(params: &mut CertificateParams, usage: KeyUsagePurpose) {
    params.key_usages.retain(|found| *found != usage);
    if params.key_usages.is_empty() {
        params.key_usages.push(KeyUsagePurpose::DigitalSignature);
    }
}

/// A critical extension that nobody knows.
pub(super) fn unknown_extension() -> CustomExtension {
    let mut extension = CustomExtension::from_oid_content(&UNKNOWN_EXTENSION, der::integer(0));
    extension.set_criticality(true);
    extension
}

/// A certificate signed anew over SHA-256 by its issuer's P-384 key, which NVIDIA's sign lists with alone.
pub(super) fn over_sha256(certificate: &[u8], issuer: &SigningKey) -> Vec<u8> {
    let algorithm = der::sequence(&[der::oid(&ECDSA_WITH_SHA256)]);
    // Version and serial number stand before the algorithm (RFC 5280 section 4.1.2.3).
    let mut fields = der::elements(&der::elements(certificate)[0]);
    fields[2].clone_from(&algorithm);
    let body = der::sequence(&fields);
    let signature = der::bits(&SigningKey::encoded(&issuer.sign_sha256(&body)));
    der::sequence(&[body, algorithm, signature])
}
