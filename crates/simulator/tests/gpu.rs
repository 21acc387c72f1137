//! Simulated GPU evidence, checked by byte offsets and by signatures made with other code than the encoders'.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use aws_lc_rs::signature::{ECDSA_P384_SHA384_ASN1, ECDSA_P384_SHA384_FIXED, UnparsedPublicKey};
use confide_simulator::{GPU_ROOT_SPKI_SHA256, GpuOptions, SimulatedGpu, gpu_root_certificate};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};

const NONCE: [u8; 32] = [0x5a; 32];

fn chain(gpu: &SimulatedGpu) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(gpu.chain_pem().as_bytes()).collect::<Result<_, _>>().unwrap()
}

fn parsed(der: &CertificateDer<'static>) -> X509Certificate<'static> {
    X509Certificate::from_der(Box::leak(der.to_vec().into_boxed_slice())).unwrap().1
}

#[test]
fn a_report_has_the_layout_of_a_hopper() {
    let report = SimulatedGpu::new(0).unwrap().report(NONCE);
    assert_eq!(report[..4], [0x11, 0xe0, 0x01, 0xff]);
    assert_eq!(report[4..36], NONCE);
    let response = &report[37..];
    assert_eq!(response[..8], [0x11, 0x60, 0, 0, 64, 0xc0, 0x0d, 0]);
    for index in 0..64 {
        let block = &response[8 + index * 55..8 + (index + 1) * 55];
        assert_eq!(block[..7], [index as u8 + 1, 1, 51, 0, 1, 48, 0]);
    }
    let opaque_at = 8 + 3520 + 32;
    let length = usize::from(u16::from_le_bytes([response[opaque_at], response[opaque_at + 1]]));
    assert_eq!(response.len(), opaque_at + 2 + length + 96);
    let mut opaque = &response[opaque_at + 2..][..length];
    let mut order = Vec::new();
    let mut records = BTreeMap::new();
    while !opaque.is_empty() {
        let id = u16::from_le_bytes([opaque[0], opaque[1]]);
        let size = usize::from(u16::from_le_bytes([opaque[2], opaque[3]]));
        order.push(id);
        records.insert(id, &opaque[4..4 + size]);
        opaque = &opaque[4 + size..];
    }
    assert_eq!(order, [6, 14, 15, 16, 17, 18, 19, 3, 4, 12, 13, 11, 20, 21, 34, 36]);
    assert_eq!(records[&3], b"580.95.05\0");
    assert_eq!((records[&21], records[&34], records[&36]), (&[0x55][..], &[1, 0][..], &[0, 0][..]));
    assert_eq!(records[&12].len(), 256);
    assert_eq!(records[&20], GpuOptions::hopper(0).certificate_fwid);
}

#[test]
fn the_leaf_key_signs_everything_before_the_signature() {
    let gpu = SimulatedGpu::new(0).unwrap();
    let report = gpu.report(NONCE);
    let (signed, signature) = report.split_at(report.len() - 96);
    let chain = chain(&gpu);
    let leaf = parsed(&chain[0]);
    let key =
        UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, leaf.public_key().subject_public_key.data.as_ref());
    key.verify(signed, signature).unwrap();
    let mut tampered = signed.to_vec();
    tampered[4] ^= 1;
    assert!(key.verify(&tampered, signature).is_err());
    assert!(key.verify(&tampered, &gpu.resign(&[&tampered, signature].concat())[tampered.len()..]).is_ok());
}

#[test]
fn five_certificates_lead_to_the_committed_root() {
    let gpu = SimulatedGpu::new(3).unwrap();
    let chain = chain(&gpu);
    assert_eq!(chain.len(), 5);
    assert_eq!(chain[4].as_ref(), gpu_root_certificate());
    let certificates: Vec<_> = chain.iter().map(parsed).collect();
    assert_eq!(<[u8; 32]>::from(Sha256::digest(certificates[4].public_key().raw)), GPU_ROOT_SPKI_SHA256);
    for (position, certificate) in certificates.iter().enumerate() {
        let issuer = certificates.get(position + 1).unwrap_or(certificate);
        assert_eq!(certificate.issuer().as_raw(), issuer.subject().as_raw());
        let key = issuer.public_key().subject_public_key.data.as_ref();
        UnparsedPublicKey::new(&ECDSA_P384_SHA384_ASN1, key)
            .verify(certificate.tbs_certificate.as_ref(), certificate.signature_value.data.as_ref())
            .unwrap();
        assert!(certificate.subject().to_string().contains("SIMULATED"));
        let usage = certificate.key_usage().unwrap().unwrap().value;
        let constraints = certificate.basic_constraints().unwrap();
        assert_eq!(position == 0, usage.digital_signature());
        assert_eq!(position > 0, usage.key_cert_sign());
        assert_eq!(position > 0, constraints.is_some_and(|found| found.value.ca));
    }
    assert_eq!(certificates[1].raw_serial(), [&[0x41][..], &gpu.pdi()].concat());
    let fwid = certificates[0]
        .extensions()
        .iter()
        .find(|extension| extension.oid.to_id_string() == "2.23.133.5.4.1")
        .unwrap();
    assert!(!fwid.critical);
    assert_eq!(fwid.value.len(), 189, "as long as on genuine Hopper devices");
    assert!(fwid.value.ends_with(&GpuOptions::hopper(0).certificate_fwid));
}

#[test]
fn seeds_tell_devices_apart_and_name_them_again() {
    let (first, again, second) =
        (SimulatedGpu::new(1).unwrap(), SimulatedGpu::new(1).unwrap(), SimulatedGpu::new(2).unwrap());
    assert_ne!(first.pdi(), second.pdi());
    assert_eq!(first.pdi(), again.pdi());
    let key = |gpu: &SimulatedGpu| parsed(&chain(gpu)[0]).public_key().raw.to_vec();
    let serial = |gpu: &SimulatedGpu| parsed(&chain(gpu)[0]).raw_serial().to_vec();
    assert_eq!(key(&first), key(&again));
    assert_ne!(key(&first), key(&second));
    assert_ne!(serial(&first), serial(&second));
}

#[test]
fn knobs_change_the_report_alone_or_the_certificate_alone() {
    let options = GpuOptions { report_fwid: Some([9; 48]), ..GpuOptions::hopper(0) };
    let gpu = SimulatedGpu::with_options(options).unwrap();
    let report = gpu.report(NONCE);
    assert!(report.windows(48).any(|window| window == [9; 48]));
    assert!(!gpu.report(NONCE).windows(48).any(|window| window == GpuOptions::hopper(0).certificate_fwid));
    let options = GpuOptions { report_fwid: None, ..GpuOptions::hopper(0) };
    let shorter = SimulatedGpu::with_options(options).unwrap().report(NONCE);
    assert_eq!(shorter.len() + 52, report.len());
}
