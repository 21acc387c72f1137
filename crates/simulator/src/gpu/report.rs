//! The SPDM 1.1 GET_MEASUREMENTS request and its MEASUREMENTS response (DMTF DSP0274 1.1.0, tables 30 to 33).

use sha2::{Digest, Sha256};

use super::device::GpuOptions;
use crate::keys::SigningKey;
use crate::tdx::simulated_measurement;

/// Length of the signature that ends a report: r and s of P-384.
pub(crate) const SIGNATURE_LENGTH: usize = 96;

/// SPDM version 1.1.
const SPDM_1_1: u8 = 0x11;
/// Request code GET_MEASUREMENTS.
const GET_MEASUREMENTS: u8 = 0xe0;
/// Response code MEASUREMENTS.
const MEASUREMENTS: u8 = 0x60;
/// Request attributes: a signature is requested.
const SIGNED: u8 = 0x01;
/// Operation: all measurement blocks.
const ALL_BLOCKS: u8 = 0xff;
/// Blocks of a GPU.
const BLOCKS: u8 = 64;
/// Measurement specification DMTF.
const DMTF: u8 = 0x01;
/// NVLinks of a Hopper.
const NVLINKS: usize = 18;
/// DMTF value type: mutable firmware, raw bit clear, as NVIDIA's devices say for each block.
const FIRMWARE: u8 = 0x01;

/// Blocks (1-based) that a Hopper fills; the others hold zeros.
const FILLED: [u8; 33] = [
    2, 3, 4, 5, 6, 7, 8, 10, 12, 22, 23, 26, 27, 28, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 48,
    49, 50, 51, 52, 53,
];

/// Request ‖ response, signed by the leaf key over everything before the signature.
pub(crate) fn encode(options: &GpuOptions, leaf: &SigningKey, nonce: &[u8; 32]) -> Vec<u8> {
    let mut report = request(nonce);
    report.extend(response(options, nonce));
    let signature = leaf.sign(&report);
    report.extend(signature);
    report
}

/// The 37-byte request that the driver sent.
fn request(nonce: &[u8; 32]) -> Vec<u8> {
    let mut request = vec![SPDM_1_1, GET_MEASUREMENTS, SIGNED, ALL_BLOCKS];
    request.extend(nonce);
    // Slot 0.
    request.push(0);
    request
}

/// The response without its signature.
fn response(options: &GpuOptions, nonce: &[u8; 32]) -> Vec<u8> {
    let record = measurement_record();
    let opaque = opaque_data(options);
    // Devices draw it; here it follows from device and request, as everything does.
    let responder_nonce = Sha256::new()
        .chain_update(b"SIMULATED responder nonce")
        .chain_update(options.seed.to_be_bytes())
        .chain_update(nonce)
        .finalize();

    let mut response = vec![SPDM_1_1, MEASUREMENTS, 0, 0, BLOCKS];
    response.extend(&(record.len() as u32).to_le_bytes()[..3]);
    response.extend(record);
    response.extend(responder_nonce);
    response.extend((opaque.len() as u16).to_le_bytes());
    response.extend(opaque);
    response
}

/// 64 blocks of 55 bytes: a seven-byte header and a SHA-384 value.
fn measurement_record() -> Vec<u8> {
    let mut record = Vec::with_capacity(usize::from(BLOCKS) * 55);
    for index in 1..=BLOCKS {
        record.extend([index, DMTF]);
        record.extend(51_u16.to_le_bytes());
        record.push(FIRMWARE);
        record.extend(48_u16.to_le_bytes());
        let value = if FILLED.contains(&index) {
            simulated_measurement(&format!("GH100 block {index}"))
        } else {
            [0; 48]
        };
        record.extend(value);
    }
    record
}

/// The opaque records of a Hopper in the order in which its firmware writes them.
fn opaque_data(options: &GpuOptions) -> Vec<u8> {
    let driver_version = [options.driver_version.as_bytes(), &[0]].concat();
    let counters: Vec<u8> =
        (1..=BLOCKS).flat_map(|index| u32::from(FILLED.contains(&index)).to_le_bytes()).collect();
    let mut records: Vec<(u16, &[u8])> = vec![
        (6, &options.vbios_version),
        (14, &[0xa1, 0x04, 0, 0]),
        (15, b"000\0\0\0\0\0\0"),
        (16, b"0\0\0\0\0"),
        (17, b"SIM0\0"),
        (18, b"0000\0"),
        (19, &[0, 0]),
        (3, &driver_version),
        (4, &[0x80, 0x01, 0, 0, 0, 0, 0, 0]),
        (12, &counters),
        (13, &[0, 0xc0, 0x01, 0]),
        (11, std::slice::from_ref(&options.nvdec0)),
    ];
    if let Some(fwid) = &options.report_fwid {
        records.push((20, fwid));
    }
    records.push((21, std::slice::from_ref(&options.protected_pcie)));
    // A GPU writes one PDI for each NVLink, with its bytes reversed, and zeros where a link is off.
    let mut pdis: Vec<u8> = options.switch_pdis.iter().flat_map(|pdi| pdi.iter().rev().copied()).collect();
    if !pdis.is_empty() {
        pdis.resize(NVLINKS * 8, 0);
        records.push((22, &pdis));
    }
    records.push((34, &[1, 0]));
    let feature_flag = options.feature_flag.to_le_bytes();
    records.push((36, &feature_flag));
    records.into_iter().flat_map(|(id, value)| record(id, value)).collect()
}

/// Type, size, value; both numbers little endian.
fn record(id: u16, value: &[u8]) -> Vec<u8> {
    let mut out = id.to_le_bytes().to_vec();
    out.extend((value.len() as u16).to_le_bytes());
    out.extend(value);
    out
}
