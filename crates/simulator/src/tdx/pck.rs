//! The PCK certificate and its SGX extension (Intel SGX PCK Certificate and CRL Profile Specification, 1.5).

use rcgen::{
    BasicConstraints, CertificateParams, CrlDistributionPoint, CustomExtension, IsCa, KeyUsagePurpose,
    SerialNumber,
};

use super::platform::{FMSPC, PCEID, PckProfile, PlatformOptions};
use crate::authority::{Authority, intel_style_name};
use crate::keys::{SigningKey, seeded_array};
use crate::text::date_time;
use crate::{SimulatorError, der};

/// Arcs of the SGX extension, 1.2.840.113741.1.13.1.
const SGX_EXTENSION: [u64; 7] = [1, 2, 840, 113_741, 1, 13, 1];
/// `SGXType` scalable: a multi-package platform.
const SCALABLE: u8 = 1;

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
    Ok(params.signed_by(key, &Authority::PckCa.issuer_with(signer))?.pem())
}

/// The value of the SGX extension: a SEQUENCE of (OID, value) pairs.
fn sgx_extension(options: &PlatformOptions) -> Vec<u8> {
    let ppid: [u8; 16] = seeded_array("PPID", options.seed);
    let instance: [u8; 16] = seeded_array("platform instance", options.seed);
    let configuration = [
        entry(&[7, 1], der::boolean(true)),
        entry(&[7, 2], der::boolean(false)),
        entry(&[7, 3], der::boolean(true)),
    ];
    der::sequence(&[
        entry(&[1], der::octets(&ppid)),
        entry(&[2], tcb(&options.sgx_svn, options.pce_svn)),
        entry(&[3], der::octets(&PCEID)),
        entry(&[4], der::octets(&FMSPC)),
        entry(&[5], der::enumerated(SCALABLE)),
        entry(&[6], der::octets(&instance)),
        entry(&[7], der::sequence(&configuration)),
    ])
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
