//! The five-certificate device chain: FMC leaf, BROM, provisioner, identity, root.

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, DnValue, IsCa, Issuer,
    KeyIdMethod, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};

use super::device::{FwidKey, LeafUsage};
use super::flaw::{self, FlawedCertificate};
use crate::authority::{Authority, nvidia_style_name};
use crate::ecdsa::Curve;
use crate::keys::{SigningKey, seeded_array};
use crate::text::{date_time, hex_upper};
use crate::{SimulatorError, Window, der};

/// 2020-10-17, which NVIDIA writes into every certificate of Hopper devices and switches.
const NOT_BEFORE: u64 = 1_602_892_800;
/// 2023-06-20, which it writes into those of Blackwell devices.
const NOT_BEFORE_BLACKWELL: u64 = 1_687_219_200;
/// 9999-12-31T23:59:59Z: no expiry (RFC 5280 section 4.1.2.5).
const NOT_AFTER: u64 = 253_402_300_799;
/// TCG RIoT CompositeDeviceID.
const COMPOSITE_DEVICE_ID: [u64; 6] = [2, 23, 133, 5, 4, 1];
/// TCG DICE TcbInfo.
const TCB_INFO: [u64; 7] = [2, 23, 133, 5, 4, 1, 1];
/// DMTF device information in a subject alternative name (DSP0274 section 10.8.2).
const DMTF_DEVICE_INFO: [u64; 9] = [1, 3, 6, 1, 4, 1, 412, 274, 1];
/// SHA-384.
const SHA384: [u64; 9] = [2, 16, 840, 1, 101, 3, 4, 2, 2];
/// X.520 serialNumber.
const SERIAL_NUMBER: [u64; 4] = [2, 5, 4, 5];
/// Subject key identifier.
const SUBJECT_KEY_IDENTIFIER: [u64; 4] = [2, 5, 29, 14];

/// Families of devices, which certificates name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    Gh100,
    Gb100,
    Gb20x,
    Ls10,
}

impl Family {
    /// How common names begin.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Gh100 => "GH100",
            Self::Gb100 => "GB100",
            Self::Gb20x => "GB20X",
            Self::Ls10 => "LS_10",
        }
    }

    /// The processor that measures and signs.
    fn processor(self) -> &'static str {
        match self {
            Self::Ls10 => "FSP",
            _ => "GSP",
        }
    }

    /// First byte of a BROM certificate's serial number; the PDI follows.
    fn serial_prefix(self) -> u8 {
        match self {
            Self::Ls10 => 0x50,
            _ => 0x41,
        }
    }

    /// notBefore and notAfter of a device's own certificates.
    pub(super) fn window(self) -> Window {
        let from = match self {
            Self::Gh100 | Self::Ls10 => NOT_BEFORE,
            Self::Gb100 | Self::Gb20x => NOT_BEFORE_BLACKWELL,
        };
        Window { from, until: NOT_AFTER }
    }

    /// Issuer of the BROM certificate, and that issuer's.
    fn authorities(self) -> [Authority; 2] {
        match self {
            Self::Gh100 => [Authority::GpuProvisioner, Authority::GpuIdentity],
            Self::Gb100 => [Authority::Gb100Provisioner, Authority::Gb100Identity],
            Self::Gb20x => [Authority::Gb20xProvisioner, Authority::Gb20xIdentity],
            Self::Ls10 => [Authority::Ls10Provisioner, Authority::GpuIdentity],
        }
    }

    /// What tells the derived things of one family from another's.
    pub(super) fn label(self, of: &str) -> String {
        match self {
            Self::Gh100 => of.to_owned(),
            _ => format!("{} {of}", self.name()),
        }
    }
}

/// What a device's own two certificates say that its family and seed do not. By default nothing.
///
/// A seed stands for another device of the family: what follows from it is then that device's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceDeviation {
    /// Whose key the leaf certificate is for, and signs reports.
    pub leaf_key_seed: Option<u64>,
    /// Whose serial number the leaf certificate bears.
    pub leaf_serial_seed: Option<u64>,
    /// Whose BROM, key and certificate, issues the leaf certificate.
    pub brom_seed: Option<u64>,
    /// The leaf certificate's common name, before the word that says that it is simulated.
    pub leaf_name: Option<String>,
    /// The BROM certificate's, likewise.
    pub brom_name: Option<String>,
    /// First byte of the BROM certificate's serial number, 0x01 to 0x7f: 0x41 says a GPU, 0x50 a switch.
    pub brom_serial_prefix: Option<u8>,
}

/// What a device's own two certificates say.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    pub(super) family: Family,
    pub(super) seed: u64,
    pub(super) deviation: DeviceDeviation,
    pub(super) fwid: [u8; 48],
    /// svn and flags of TcbInfo, of Blackwell alone.
    pub(super) tcb: (u8, [u8; 4]),
    /// The key beside the FWID, of Hopper devices and switches alone.
    pub(super) fwid_key: FwidKey,
    pub(super) leaf_usage: LeafUsage,
    pub(super) leaf_window: Window,
    pub(super) flawed: Option<FlawedCertificate>,
}

impl Identity {
    /// The seed that the BROM follows from.
    fn brom_seed(&self) -> u64 {
        self.deviation.brom_seed.unwrap_or(self.seed)
    }

    /// The keys of BROM and leaf.
    pub(super) fn keys(&self) -> Result<[SigningKey; 2], SimulatorError> {
        let key = |of, seed| SigningKey::derive(Curve::P384, &self.family.label(of), seed);
        let leaf = self.deviation.leaf_key_seed.unwrap_or(self.seed);
        Ok([key("BROM key", self.brom_seed())?, key("FMC key", leaf)?])
    }
}

/// The device's PDI.
pub(super) fn pdi(family: Family, seed: u64) -> [u8; 8] {
    seeded_array(&family.label("PDI"), seed)
}

/// The chain, DER, leaf first, for the keys of BROM and leaf.
pub(super) fn issue(
    [brom, leaf]: &[SigningKey; 2],
    identity: &Identity,
) -> Result<Vec<Vec<u8>>, SimulatorError> {
    let [provisioner, above] = identity.family.authorities();
    let flaw = |at| FlawedCertificate::of(identity.flawed, at);
    let brom_params = brom_certificate(identity)?;
    let brom_certificate = flaw::issue(brom_params.clone(), brom, &provisioner.issuer()?, flaw(1))?;
    let issuer = Issuer::new(brom_params, brom);
    let leaf = flaw::issue(leaf_certificate(brom, identity)?, leaf, &issuer, flaw(0))?;
    let above = flaw::authorities(&[provisioner, above, Authority::GpuRoot], 2, identity.flawed)?;
    Ok([vec![leaf, brom_certificate], above].concat())
}

fn brom_certificate(identity: &Identity) -> Result<CertificateParams, SimulatorError> {
    let family = identity.family;
    let prefix = identity.deviation.brom_serial_prefix.unwrap_or(family.serial_prefix());
    let serial = [&[prefix][..], &pdi(family, identity.brom_seed())].concat();
    let name = common_name(identity.deviation.brom_name.as_ref(), family, "BROM");
    let mut params = device_certificate(&name, &serial, family.window())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    Ok(params)
}

fn leaf_certificate(brom: &SigningKey, identity: &Identity) -> Result<CertificateParams, SimulatorError> {
    let family = identity.family;
    let seed = identity.deviation.leaf_serial_seed.unwrap_or(identity.seed);
    let mut serial: [u8; 20] = seeded_array(&family.label("FMC serial"), seed);
    // Positive and of full length in DER.
    serial[0] = serial[0] & 0x3f | 0x40;
    let name = common_name(identity.deviation.leaf_name.as_ref(), family, "FMC LF");
    let mut params = device_certificate(&name, &serial, identity.leaf_window)?;
    params.key_usages = vec![match identity.leaf_usage {
        LeafUsage::DigitalSignature => KeyUsagePurpose::DigitalSignature,
        LeafUsage::CertificateSigning => KeyUsagePurpose::KeyCertSign,
    }];
    let unit: [u8; 5] = seeded_array(&family.label("unit"), identity.seed);
    // 48B02D is NVIDIA's OUI, which a simulated device has no right to.
    let device = format!("SIMULATED:{}:000000{}", family.name(), hex_upper(&unit));
    params.subject_alt_names = vec![SanType::OtherName((DMTF_DEVICE_INFO.to_vec(), device.into()))];
    params.key_identifier_method = KeyIdMethod::PreSpecified(serial.to_vec());
    let fwid = match family {
        Family::Gh100 | Family::Ls10 => {
            let key = match identity.fwid_key {
                FwidKey::Brom => brom.subject_public_key_info(),
                FwidKey::Another => {
                    SigningKey::derive(Curve::P384, "FWID of another key", 0)?.subject_public_key_info()
                }
            };
            CustomExtension::from_oid_content(&COMPOSITE_DEVICE_ID, composite_device_id(key, &identity.fwid))
        }
        Family::Gb100 | Family::Gb20x => CustomExtension::from_oid_content(&TCB_INFO, tcb_info(identity)),
    };
    params.custom_extensions =
        vec![CustomExtension::from_oid_content(&SUBJECT_KEY_IDENTIFIER, der::octets(&serial)), fwid];
    Ok(params)
}

/// The common name that is chosen, or the usual one.
fn common_name(chosen: Option<&String>, family: Family, of: &str) -> String {
    let usual = || format!("{} A01 {} {of}", family.name(), family.processor());
    chosen.cloned().unwrap_or_else(usual) + " SIMULATED"
}

/// What leaf and BROM certificate share.
fn device_certificate(
    common_name: &str,
    serial: &[u8],
    window: Window,
) -> Result<CertificateParams, SimulatorError> {
    let mut name = DistinguishedName::new();
    name.push(DnType::CustomDnType(SERIAL_NUMBER.to_vec()), DnValue::Utf8String(hex_upper(serial)));
    for (kind, value) in nvidia_style_name(common_name).iter() {
        name.push(kind.clone(), value.clone());
    }
    let mut params = CertificateParams::default();
    params.distinguished_name = name;
    params.serial_number = Some(SerialNumber::from_slice(serial));
    params.not_before = date_time(window.from)?;
    params.not_after = date_time(window.until)?;
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// CompositeDeviceID { version 1, the BROM's SubjectPublicKeyInfo, FWID { sha384, digest } }.
fn composite_device_id(key: Vec<u8>, fwid: &[u8; 48]) -> Vec<u8> {
    der::sequence(&[der::integer(1), key, sha384_fwid(fwid)])
}

/// DiceTcbInfo (TCG DICE Attestation Architecture 1.1, section 6.1.1) with the fields that NVIDIA writes.
fn tcb_info(identity: &Identity) -> Vec<u8> {
    let (svn, flags) = identity.tcb;
    let fwids = [sha384_fwid(&identity.fwid), sha384_fwid(&[0; 48])].concat();
    der::sequence(&[
        der::tagged(0x80, b"NVIDIA"),
        der::tagged(0x81, format!("{} A01 GSP", identity.family.name()).as_bytes()),
        der::tagged(0x82, b"01"),
        der::tagged(0x83, &[svn]),
        der::tagged(0x84, &[0]),
        der::tagged(0x85, &[0]),
        der::tagged(0xa6, &fwids),
        der::tagged(0x87, &[&[0], &flags[..]].concat()),
        der::tagged(0x88, &[0xc0]),
        der::tagged(0x89, &[0]),
    ])
}

/// FWID { sha384, digest }.
fn sha384_fwid(digest: &[u8; 48]) -> Vec<u8> {
    der::sequence(&[der::oid(&SHA384), der::octets(digest)])
}
