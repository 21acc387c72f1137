//! The SPDM 1.1 GET_MEASUREMENTS request and its MEASUREMENTS response (DMTF DSP0274 1.1.0, tables 30 to 33).

use sha2::{Digest, Sha256};

use crate::keys::SigningKey;

/// Length of the signature that ends a report: r and s of P-384.
const SIGNATURE_LENGTH: usize = 96;

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
/// Measurement specification DMTF.
const DMTF: u8 = 0x01;
/// DMTF value type: mutable firmware, raw bit clear, as NVIDIA's devices say for each block.
const FIRMWARE: u8 = 0x01;

/// What a device reports.
pub(super) struct Report {
    /// What the responder nonce follows from, beside the request: devices draw it.
    pub(super) device: String,
    pub(super) seed: u64,
    /// SHA-384 values in the order of their index.
    pub(super) blocks: Vec<[u8; 48]>,
    /// Type and value of each opaque record.
    pub(super) records: Vec<(u16, Vec<u8>)>,
}

impl Report {
    /// Request ‖ response, signed by the leaf key over everything before the signature.
    pub(super) fn encode(&self, leaf: &SigningKey, nonce: &[u8; 32]) -> Vec<u8> {
        let mut report = request(nonce);
        report.extend(self.response(nonce));
        let signature = leaf.sign(&report);
        report.extend(signature);
        report
    }

    /// The response without its signature.
    fn response(&self, nonce: &[u8; 32]) -> Vec<u8> {
        let record = self.measurement_record();
        let opaque: Vec<u8> = self.records.iter().flat_map(|(id, value)| opaque_record(*id, value)).collect();
        let responder_nonce = Sha256::new()
            .chain_update(b"SIMULATED responder nonce")
            .chain_update(&self.device)
            .chain_update(self.seed.to_be_bytes())
            .chain_update(nonce)
            .finalize();

        let mut response = vec![SPDM_1_1, MEASUREMENTS, 0, 0, self.blocks.len() as u8];
        response.extend(&(record.len() as u32).to_le_bytes()[..3]);
        response.extend(record);
        response.extend(responder_nonce);
        response.extend((opaque.len() as u16).to_le_bytes());
        response.extend(opaque);
        response
    }

    /// Blocks of 55 bytes: a seven-byte header and a SHA-384 value.
    fn measurement_record(&self) -> Vec<u8> {
        let mut record = Vec::with_capacity(self.blocks.len() * 55);
        for (index, value) in (1..).zip(&self.blocks) {
            record.extend([index, DMTF]);
            record.extend(51_u16.to_le_bytes());
            record.push(FIRMWARE);
            record.extend(48_u16.to_le_bytes());
            record.extend(value);
        }
        record
    }
}

/// An edited report with another signature.
pub(super) fn resigned(report: &[u8], leaf: &SigningKey) -> Vec<u8> {
    let signed = &report[..report.len() - SIGNATURE_LENGTH];
    [signed, &leaf.sign(signed)].concat()
}

/// The 37-byte request that the driver sent.
fn request(nonce: &[u8; 32]) -> Vec<u8> {
    let mut request = vec![SPDM_1_1, GET_MEASUREMENTS, SIGNED, ALL_BLOCKS];
    request.extend(nonce);
    // Slot 0.
    request.push(0);
    request
}

/// Type, size, value; both numbers little endian.
fn opaque_record(id: u16, value: &[u8]) -> Vec<u8> {
    let mut out = id.to_le_bytes().to_vec();
    out.extend((value.len() as u16).to_le_bytes());
    out.extend(value);
    out
}
