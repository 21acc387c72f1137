//! The attestation report (56860, ATTESTATION_REPORT), field by field at its offset.

use crate::simulated_measurement;

/// Length of a report, in bytes.
const REPORT: usize = 0x4a0;
/// Length of what is signed, in bytes.
pub(crate) const SIGNED: usize = 0x2a0;

/// The fields of a report. Names are AMD's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnpReport {
    /// VERSION. Fields that came later than it are left zero.
    pub version: u32,
    /// GUEST_SVN.
    pub guest_svn: u32,
    /// POLICY; bit 16 SMT, 17 reserved one, 18 MIGRATE_MA, 19 DEBUG.
    pub policy: u64,
    /// FAMILY_ID.
    pub family_id: [u8; 16],
    /// IMAGE_ID.
    pub image_id: [u8; 16],
    /// VMPL.
    pub vmpl: u32,
    /// SIGNATURE_ALGO.
    pub signature_algo: u32,
    /// CURRENT_TCB.
    pub current_tcb: [u8; 8],
    /// PLATFORM_INFO.
    pub platform_info: u64,
    /// The word at 0x48: AUTHOR_KEY_EN, MASK_CHIP_KEY, SIGNING_KEY.
    pub key_info: u32,
    /// REPORT_DATA.
    pub report_data: [u8; 64],
    /// MEASUREMENT.
    pub measurement: [u8; 48],
    /// HOST_DATA.
    pub host_data: [u8; 32],
    /// ID_KEY_DIGEST.
    pub id_key_digest: [u8; 48],
    /// AUTHOR_KEY_DIGEST.
    pub author_key_digest: [u8; 48],
    /// REPORT_ID.
    pub report_id: [u8; 32],
    /// REPORT_ID_MA.
    pub report_id_ma: [u8; 32],
    /// REPORTED_TCB.
    pub reported_tcb: [u8; 8],
    /// CPUID_FAM_ID, CPUID_MOD_ID, CPUID_STEP.
    pub cpuid: [u8; 3],
    /// CHIP_ID.
    pub chip_id: [u8; 64],
    /// COMMITTED_TCB.
    pub committed_tcb: [u8; 8],
    /// CURRENT_BUILD, CURRENT_MINOR, CURRENT_MAJOR.
    pub current_version: [u8; 3],
    /// COMMITTED_BUILD, COMMITTED_MINOR, COMMITTED_MAJOR.
    pub committed_version: [u8; 3],
    /// LAUNCH_TCB.
    pub launch_tcb: [u8; 8],
    /// LAUNCH_MIT_VECTOR.
    pub launch_mit_vector: u64,
    /// CURRENT_MIT_VECTOR.
    pub current_mit_vector: u64,
    /// Bytes that are written over the rest before it is signed: (offset, value).
    pub patches: Vec<(usize, u8)>,
}

impl SnpReport {
    /// What the firmware signs for a guest that was launched without an id block. TCB versions, CPUID and CHIP_ID are the
    /// platform's: [`crate::SimulatedSnp::guest`] fills them in.
    pub(crate) fn new(report_data: [u8; 64]) -> Self {
        Self {
            version: 5,
            guest_svn: 0,
            policy: 1 << 17 | 1 << 16,
            family_id: [0; 16],
            image_id: [0; 16],
            vmpl: 0,
            signature_algo: 1,
            current_tcb: [0; 8],
            // SMT, ECC, aliases checked.
            platform_info: 0x25,
            key_info: 0,
            report_data,
            measurement: simulated_measurement("MEASUREMENT"),
            host_data: [0; 32],
            id_key_digest: [0; 48],
            author_key_digest: [0; 48],
            report_id: [0x5a; 32],
            report_id_ma: [0xff; 32],
            reported_tcb: [0; 8],
            cpuid: [0; 3],
            chip_id: [0; 64],
            committed_tcb: [0; 8],
            current_version: [40, 55, 1],
            committed_version: [40, 55, 1],
            launch_tcb: [0; 8],
            launch_mit_vector: 0x3f,
            current_mit_vector: 0x3f,
            patches: Vec::new(),
        }
    }

    /// The bytes, without a signature.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; REPORT];
        let mut put = |offset: usize, bytes: &[u8]| out[offset..offset + bytes.len()].copy_from_slice(bytes);
        put(0x00, &self.version.to_le_bytes());
        put(0x04, &self.guest_svn.to_le_bytes());
        put(0x08, &self.policy.to_le_bytes());
        put(0x10, &self.family_id);
        put(0x20, &self.image_id);
        put(0x30, &self.vmpl.to_le_bytes());
        put(0x34, &self.signature_algo.to_le_bytes());
        put(0x38, &self.current_tcb);
        put(0x40, &self.platform_info.to_le_bytes());
        put(0x48, &self.key_info.to_le_bytes());
        put(0x50, &self.report_data);
        put(0x90, &self.measurement);
        put(0xc0, &self.host_data);
        put(0xe0, &self.id_key_digest);
        put(0x110, &self.author_key_digest);
        put(0x140, &self.report_id);
        put(0x160, &self.report_id_ma);
        put(0x180, &self.reported_tcb);
        if self.version >= 3 {
            put(0x188, &self.cpuid);
        }
        put(0x1a0, &self.chip_id);
        put(0x1e0, &self.committed_tcb);
        put(0x1e8, &self.current_version);
        put(0x1ec, &self.committed_version);
        put(0x1f0, &self.launch_tcb);
        if self.version >= 5 {
            put(0x1f8, &self.launch_mit_vector.to_le_bytes());
            put(0x200, &self.current_mit_vector.to_le_bytes());
        }
        for (offset, value) in &self.patches {
            put(*offset, &[*value]);
        }
        out
    }
}
