//! The PCK certificate and its SGX extension (Intel SGX PCK Certificate and CRL Profile Specification, 1.5).

use rcgen::{
    BasicConstraints, CertificateParams, CrlDistributionPoint, CustomExtension, IsCa, Issuer,
    KeyUsagePurpose, PublicKeyData as _, SerialNumber, date_time_ymd,
};
use sha2::{Digest, Sha256};

use super::platform::{FMSPC, PCEID, PckFlags, PckProfile, PlatformOptions};
use crate::authority::{Authority, intel_style_name};
use crate::ecdsa::Curve;
use crate::keys::{SigningKey, seeded_array};
use crate::text::date_time;
use crate::{SimulatorError, der};

/// Arcs of the SGX extension, 1.2.840.113741.1.13.1.
const SGX_EXTENSION: [u64; 7] = [1, 2, 840, 113_741, 1, 13, 1];
/// `SGXType` standard: one package.
const STANDARD: u8 = 0;
/// `SGXType` scalable: a multi-package platform.
const SCALABLE: u8 = 1;

/// The CA that has certified a platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PckCa {
    /// The Platform CA, of platforms whose packages can change: their certificates name instance and configuration.
    Platform,
    /// The Processor CA, of single packages. Made from a derived key under the committed root, not committed itself.
    Processor,
}

impl PckCa {
    /// The CA's certificate, PEM.
    pub(super) fn pem(self) -> Result<String, SimulatorError> {
        match self {
            Self::Platform => Ok(Authority::PckCa.pem().to_owned()),
            Self::Processor => {
                let params = processor_ca()?;
                Ok(params.signed_by(&processor_key()?, &Authority::TdxRoot.issuer()?)?.pem())
            }
        }
    }

    /// What signs in the CA's name.
    pub(super) fn issuer(self) -> Result<Issuer<'static, SigningKey>, SimulatorError> {
        self.issuer_with(self.key()?)
    }

    /// What signs with any key in the CA's name.
    fn issuer_with<S: rcgen::SigningKey>(self, key: S) -> Result<Issuer<'static, S>, SimulatorError> {
        match self {
            Self::Platform => Ok(Authority::PckCa.issuer_with(key)),
            Self::Processor => Ok(Issuer::new(processor_ca()?, key)),
        }
    }

    /// The CA's own key.
    pub(super) fn key(self) -> Result<SigningKey, SimulatorError> {
        match self {
            Self::Platform => Authority::PckCa.key(),
            Self::Processor => processor_key(),
        }
    }

    /// Serial number of the CA's certificate.
    pub(super) fn serial_number(self) -> Result<SerialNumber, SimulatorError> {
        Ok(SerialNumber::from_slice(&Sha256::digest(self.key()?.der_bytes())[..16]))
    }
}

fn processor_key() -> Result<SigningKey, SimulatorError> {
    SigningKey::derive(Curve::P256, "PCK Processor CA", 0)
}

fn processor_ca() -> Result<CertificateParams, SimulatorError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = intel_style_name("SIMULATED SGX PCK Processor CA");
    params.serial_number = Some(PckCa::Processor.serial_number()?);
    params.not_before = date_time_ymd(2018, 5, 21);
    params.not_after = date_time_ymd(2049, 12, 31);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// Serial number of the PCK certificate of this platform.
pub(crate) fn serial_number(seed: u64) -> SerialNumber {
    let mut serial: [u8; 20] = seeded_array("PCK serial", seed);
    // Positive and of full length in DER.
    serial[0] = serial[0] & 0x3f | 0x40;
    SerialNumber::from_slice(&serial)
}

/// The platform's PCK certificate, PEM, signed with `signer` in the PCK CA's name.
pub(crate) fn certificate(
    key: &SigningKey,
    signer: &SigningKey,
    options: &PlatformOptions,
) -> Result<String, SimulatorError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = intel_style_name("SIMULATED SGX PCK Certificate");
    params.serial_number = Some(serial_number(options.seed));
    params.not_before = date_time(options.windows.pck_certificate.from)?;
    params.not_after = date_time(options.windows.pck_certificate.until)?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::ContentCommitment];
    params.use_authority_key_identifier_extension = true;
    params.crl_distribution_points =
        vec![CrlDistributionPoint { uris: vec!["https://simulated.invalid/pck.crl".into()] }];
    if options.pck_profile != PckProfile::WithoutSgxExtension {
        params.custom_extensions =
            vec![CustomExtension::from_oid_content(&SGX_EXTENSION, sgx_extension(options))];
    }
    if options.pck_profile == PckProfile::Authority {
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    }
    Ok(params.signed_by(key, &options.pck_ca.issuer_with(signer)?)?.pem())
}

/// The value of the SGX extension: a SEQUENCE of (OID, value) pairs.
fn sgx_extension(options: &PlatformOptions) -> Vec<u8> {
    let ppid: [u8; 16] = seeded_array("PPID", options.seed);
    let usual_type = match options.pck_ca {
        PckCa::Platform => SCALABLE,
        PckCa::Processor => STANDARD,
    };
    let mut entries = vec![
        entry(&[1], der::octets(&ppid)),
        entry(&[2], tcb(&options.sgx_svn, options.pce_svn)),
        entry(&[3], der::octets(&PCEID)),
        entry(&[4], der::octets(&FMSPC)),
        entry(&[5], der::enumerated(options.sgx_type.unwrap_or(usual_type))),
    ];
    let other = options.pck_profile == PckProfile::OfTheOtherCa;
    if (options.pck_ca == PckCa::Platform) != other {
        let instance: [u8; 16] = seeded_array("platform instance", options.seed);
        let PckFlags { dynamic_platform, cached_keys, smt_enabled } = options.pck_flags;
        let configuration = [
            entry(&[7, 1], der::boolean(dynamic_platform)),
            entry(&[7, 2], der::boolean(cached_keys)),
            entry(&[7, 3], der::boolean(smt_enabled)),
        ];
        entries.push(entry(&[6], der::octets(&instance)));
        entries.push(entry(&[7], der::sequence(&configuration)));
    }
    der::sequence(&entries)
}

/// The TCB: 16 component SVNs, the PCE's SVN and the raw CPUSVN.
fn tcb(sgx_svn: &[u8; 16], pce_svn: u16) -> Vec<u8> {
    let components = (1..).zip(sgx_svn).map(|(index, svn)| entry(&[2, index], der::integer(u64::from(*svn))));
    let rest = [entry(&[2, 17], der::integer(u64::from(pce_svn))), entry(&[2, 18], der::octets(sgx_svn))];
    der::sequence(&components.chain(rest).collect::<Vec<_>>())
}

/// One (OID, value) pair; `arcs` continue the extension's own OID.
fn entry(arcs: &[u64], value: Vec<u8>) -> Vec<u8> {
    der::sequence(&[der::oid(&[&SGX_EXTENSION, arcs].concat()), value])
}
