//! Who signs manifests: a root, two levels for each product, and a signer certificate for about two years.

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, IsCa, Issuer,
    KeyUsagePurpose, SerialNumber,
};

use super::flaw::{self, FlawedCertificate};
use super::rim::{RimFlaw, RimOptions, RimProduct};
use crate::authority::{Authority, nvidia_style_name};
use crate::ecdsa::Curve;
use crate::keys::{SigningKey, seeded_array};
use crate::text::date_time;
use crate::{SimulatorError, der};

/// Authority information access (RFC 5280 section 4.2.2.1).
const AUTHORITY_INFORMATION_ACCESS: [u64; 9] = [1, 3, 6, 1, 5, 5, 7, 1, 1];
/// id-ad-ocsp.
const OCSP: [u64; 9] = [1, 3, 6, 1, 5, 5, 7, 48, 1];
/// Tag of a GeneralName that is a URI.
const URI: u8 = 0x86;

/// A key and the certificates that stand in a manifest.
pub(super) struct RimSigner {
    pub(super) key: SigningKey,
    /// DER, in the order of the document.
    pub(super) certificates: Vec<Vec<u8>>,
}

impl RimSigner {
    /// Of a manifest's product, with what its flaws change about the chain.
    pub(super) fn new(options: &RimOptions) -> Result<Self, SimulatorError> {
        let RimOptions { signer: product, flaw, flawed, .. } = *options;
        let key = SigningKey::derive(Curve::P384, "RIM signer", product as u64)?;
        let (second, third) = levels(product);
        let honest = || flaw::authorities(&[third, second, Authority::RimRoot], 1, flawed);
        let mut issuer_name = third.name();
        let (issuer_key, above) = match flaw {
            RimFlaw::ForeignRoot => foreign_levels(second, third)?,
            RimFlaw::SignerOfAnotherKey => {
                (SigningKey::derive(Curve::P384, "RIM issuer of another key", 0)?, honest()?)
            }
            RimFlaw::DebugIssuer => {
                let common_name = third.common_name().replace("SIMULATED", "Debug SIMULATED");
                issuer_name = nvidia_style_name(&common_name);
                let mut params = flaw::level(third)?;
                params.distinguished_name = issuer_name.clone();
                params.serial_number = Some(serial(&common_name, 0));
                let mut above = honest()?;
                above[0] = flaw::issue(params, &third.key()?, &second.issuer()?, None)?;
                (third.key()?, above)
            }
            _ => (third.key()?, honest()?),
        };
        let mut issuer = CertificateParams::default();
        issuer.distinguished_name = issuer_name;
        let params = signer_certificate(options)?;
        let flaw_of_leaf = FlawedCertificate::of(flawed, 0);
        let signer = flaw::issue(params, &key, &Issuer::new(issuer, issuer_key), flaw_of_leaf)?;
        let mut certificates = [vec![signer], above].concat();
        match flaw {
            RimFlaw::SwappedCertificates => certificates.swap(1, 2),
            RimFlaw::WithoutRoot => certificates.truncate(3),
            RimFlaw::FifthCertificate => certificates.push(Authority::GpuRoot.certificate()),
            _ => {}
        }
        Ok(Self { key, certificates })
    }
}

/// The second and the third level.
fn levels(product: RimProduct) -> (Authority, Authority) {
    match product {
        RimProduct::Gh100 => (Authority::RimGh100, Authority::RimGh100Issuer),
        RimProduct::Gb100 => (Authority::RimGb100, Authority::RimGb100Issuer),
        RimProduct::Gb20x => (Authority::RimGb20x, Authority::RimGb20xIssuer),
        RimProduct::Ls10 => (Authority::RimLs10, Authority::RimLs10Issuer),
    }
}

/// The key of a third level under another root, and the levels: the same names, other keys.
fn foreign_levels(second: Authority, third: Authority) -> Result<(SigningKey, Vec<Vec<u8>>), SimulatorError> {
    let mut issuer = (Authority::RimRoot, foreign_key(Authority::RimRoot)?);
    let root = foreign(Authority::RimRoot)?;
    let mut certificates = vec![root.self_signed(&issuer.1)?.der().to_vec()];
    for authority in [second, third] {
        let key = foreign_key(authority)?;
        let issued = foreign(authority)?.signed_by(&key, &issuer.0.issuer_with(issuer.1))?;
        certificates.insert(0, issued.der().to_vec());
        issuer = (authority, key);
    }
    Ok((issuer.1, certificates))
}

fn foreign_key(authority: Authority) -> Result<SigningKey, SimulatorError> {
    SigningKey::derive(Curve::P384, authority.common_name(), 0)
}

/// A certificate like the committed one.
fn foreign(authority: Authority) -> Result<CertificateParams, SimulatorError> {
    let mut params = flaw::level(authority)?;
    params.serial_number = Some(serial(authority.common_name(), 0));
    Ok(params)
}

/// The signer's certificate, level 4.
fn signer_certificate(options: &RimOptions) -> Result<CertificateParams, SimulatorError> {
    let RimOptions { signer: product, window, flaw, .. } = *options;
    let common_name = match product {
        RimProduct::Ls10 => "Reference Value L4 LS10 SIMULATED",
        _ => "HCC RIM L4 Signer SIMULATED",
    };
    let mut params = CertificateParams::default();
    params.distinguished_name = signer_name(common_name);
    params.serial_number = Some(serial(common_name, product as u64));
    params.not_before = date_time(window.from)?;
    params.not_after = date_time(window.until)?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    let access = der::sequence(&[der::oid(&OCSP), der::tagged(URI, b"http://ocsp.simulated.invalid")]);
    params.custom_extensions =
        vec![CustomExtension::from_oid_content(&AUTHORITY_INFORMATION_ACCESS, der::sequence(&[access]))];
    match flaw {
        RimFlaw::SignerMayCertify => params.key_usages = vec![KeyUsagePurpose::KeyCertSign],
        RimFlaw::SignerIsAuthority => params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)),
        _ => {}
    }
    Ok(params)
}

/// Country, state, locality, organisation and common name, as in NVIDIA's signer certificates.
fn signer_name(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    for (kind, value) in nvidia_style_name(common_name).iter() {
        name.push(kind.clone(), value.clone());
        if *kind == DnType::CountryName {
            name.push(DnType::StateOrProvinceName, "NA");
            name.push(DnType::LocalityName, "Nowhere");
        }
    }
    name
}

/// Positive and of full length in DER.
fn serial(name: &str, number: u64) -> SerialNumber {
    let mut serial: [u8; 16] = seeded_array(name, number);
    serial[0] = serial[0] & 0x3f | 0x40;
    SerialNumber::from_slice(&serial)
}
