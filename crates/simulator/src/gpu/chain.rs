//! The five-certificate device chain: FMC leaf, BROM, provisioner, identity, root.

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, DnValue, IsCa, Issuer,
    KeyIdMethod, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};

use super::device::{GpuOptions, LeafUsage};
use crate::authority::{Authority, nvidia_style_name};
use crate::keys::{SigningKey, seeded_array};
use crate::text::{date_time, hex_upper};
use crate::{SimulatorError, der};

/// 2020-10-17, which NVIDIA writes into every device certificate.
const NOT_BEFORE: u64 = 1_602_892_800;
/// 9999-12-31T23:59:59Z: no expiry (RFC 5280 section 4.1.2.5).
const NOT_AFTER: u64 = 253_402_300_799;
/// TCG RIoT CompositeDeviceID.
const COMPOSITE_DEVICE_ID: [u64; 6] = [2, 23, 133, 5, 4, 1];
/// DMTF device information in a subject alternative name (DSP0274 section 10.8.2).
const DMTF_DEVICE_INFO: [u64; 9] = [1, 3, 6, 1, 4, 1, 412, 274, 1];
/// SHA-384.
const SHA384: [u64; 9] = [2, 16, 840, 1, 101, 3, 4, 2, 2];
/// X.520 serialNumber.
const SERIAL_NUMBER: [u64; 4] = [2, 5, 4, 5];
/// Subject key identifier.
const SUBJECT_KEY_IDENTIFIER: [u64; 4] = [2, 5, 29, 14];
/// First byte of a GPU's BROM serial number; the PDI follows.
const GPU_SERIAL_PREFIX: u8 = 0x41;

/// The device's PDI.
pub(crate) fn pdi(seed: u64) -> [u8; 8] {
    seeded_array("PDI", seed)
}

/// The chain, PEM, leaf first.
pub(crate) fn issue(
    brom: &SigningKey,
    leaf: &SigningKey,
    options: &GpuOptions,
) -> Result<String, SimulatorError> {
    let brom_params = brom_certificate(options.seed)?;
    let brom_pem = brom_params.signed_by(brom, &Authority::GpuProvisioner.issuer()?)?.pem();
    let issuer = Issuer::new(brom_params, brom);
    let leaf_pem = leaf_certificate(brom, options)?.signed_by(leaf, &issuer)?.pem();
    Ok([
        &leaf_pem,
        &brom_pem,
        Authority::GpuProvisioner.pem(),
        Authority::GpuIdentity.pem(),
        Authority::GpuRoot.pem(),
    ]
    .concat())
}

fn brom_certificate(seed: u64) -> Result<CertificateParams, SimulatorError> {
    let serial = [&[GPU_SERIAL_PREFIX][..], &pdi(seed)].concat();
    let mut params = device_certificate("GH100 A01 GSP BROM SIMULATED", &serial)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    Ok(params)
}

fn leaf_certificate(brom: &SigningKey, options: &GpuOptions) -> Result<CertificateParams, SimulatorError> {
    let mut serial: [u8; 20] = seeded_array("FMC serial", options.seed);
    // Positive and of full length in DER.
    serial[0] = serial[0] & 0x3f | 0x40;
    let mut params = device_certificate("GH100 A01 GSP FMC LF SIMULATED", &serial)?;
    params.key_usages = vec![match options.leaf_usage {
        LeafUsage::DigitalSignature => KeyUsagePurpose::DigitalSignature,
        LeafUsage::CertificateSigning => KeyUsagePurpose::KeyCertSign,
    }];
    let unit: [u8; 5] = seeded_array("unit", options.seed);
    // 48B02D is NVIDIA's OUI, which a simulated device has no right to.
    let device = format!("SIMULATED:GH100:000000{}", hex_upper(&unit));
    params.subject_alt_names = vec![SanType::OtherName((DMTF_DEVICE_INFO.to_vec(), device.into()))];
    params.key_identifier_method = KeyIdMethod::PreSpecified(serial.to_vec());
    params.custom_extensions = vec![
        CustomExtension::from_oid_content(&SUBJECT_KEY_IDENTIFIER, der::octets(&serial)),
        CustomExtension::from_oid_content(&COMPOSITE_DEVICE_ID, composite_device_id(brom, options)),
    ];
    Ok(params)
}

/// What leaf and BROM certificate share.
fn device_certificate(common_name: &str, serial: &[u8]) -> Result<CertificateParams, SimulatorError> {
    let mut name = DistinguishedName::new();
    name.push(DnType::CustomDnType(SERIAL_NUMBER.to_vec()), DnValue::Utf8String(hex_upper(serial)));
    for (kind, value) in nvidia_style_name(common_name).iter() {
        name.push(kind.clone(), value.clone());
    }
    let mut params = CertificateParams::default();
    params.distinguished_name = name;
    params.serial_number = Some(SerialNumber::from_slice(serial));
    params.not_before = date_time(NOT_BEFORE)?;
    params.not_after = date_time(NOT_AFTER)?;
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// CompositeDeviceID { version 1, the BROM's SubjectPublicKeyInfo, FWID { sha384, digest } }.
fn composite_device_id(brom: &SigningKey, options: &GpuOptions) -> Vec<u8> {
    der::sequence(&[
        der::integer(1),
        brom.subject_public_key_info(),
        der::sequence(&[der::oid(&SHA384), der::octets(&options.certificate_fwid)]),
    ])
}
