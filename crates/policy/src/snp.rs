//! The table `[snp]`: an AMD SEV-SNP attestation report.

use crate::field::Listed;
use crate::{
    AgeLimit, Bits, Expect, ExpectBound, ExpectReference, Floor, HardwareList, HexBytes, Require, TcbFloors,
};
use confide_evidence::snp::{AbiVersion, FirmwareVersion, Product, SigningKey};
use serde::Deserialize;

/// Expectations of an SEV-SNP report. Names in capitals are those of AMD publication 56860.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnpPolicy {
    /// VERSION of the report. From version 3 on the report itself names the product, from version 5 on the mitigations.
    pub report_version: Expect<u32>,
    /// Processor product, by report and certificates.
    pub product: Expect<Product>,
    /// Kind of the key that signs: a VCEK is a chip's, a VLEK a cloud provider's.
    pub signing_key: Expect<SigningKey>,
    /// Cloud provider that a VLEK was issued to. A VCEK names none and passes.
    pub csp_id: Expect<String>,
    /// A revocation list of the root is there. Lists that are given count in any case.
    pub revocation: Require,
    /// Age of the oldest revocation list of the root.
    pub crl_age: AgeLimit,
    /// POLICY: the host may debug the guest.
    pub debug: Expect<bool>,
    /// POLICY: the guest may be tied to a migration agent.
    pub migration_agent: Expect<bool>,
    /// POLICY: the host may have SMT enabled.
    pub smt: Expect<bool>,
    /// POLICY: the guest must run on one socket.
    pub single_socket: Expect<bool>,
    /// POLICY: CXL may be populated.
    pub cxl: Expect<bool>,
    /// POLICY: memory must be encrypted with AES-256 XTS.
    pub aes_256_xts: Expect<bool>,
    /// POLICY: the running average power limit must be off.
    pub rapl_disabled: Expect<bool>,
    /// POLICY: ciphertext must be hidden from the host.
    pub ciphertext_hiding: Expect<bool>,
    /// POLICY: the host may not move or swap pages.
    pub page_swap_disabled: Expect<bool>,
    /// POLICY: ABI version that the guest asks of firmware, as in `1.55`.
    pub abi: Floor<AbiVersion>,
    /// GUEST_SVN.
    pub guest_svn: Floor<u32>,
    /// VMPL of the requester, 0 the most privileged.
    pub vmpl: Expect<u32>,
    /// PLATFORM_INFO: SMT is enabled.
    pub platform_smt: Expect<bool>,
    /// PLATFORM_INFO: transparent memory encryption is enabled.
    pub platform_tsme: Expect<bool>,
    /// PLATFORM_INFO: memory has error correction.
    pub platform_ecc: Expect<bool>,
    /// PLATFORM_INFO: the running average power limit is off.
    pub platform_rapl_disabled: Expect<bool>,
    /// PLATFORM_INFO: ciphertext is hidden from the host.
    pub platform_ciphertext_hiding: Expect<bool>,
    /// PLATFORM_INFO: memory has been checked for aliases (AMD-SB-3015).
    pub platform_alias_check: Expect<bool>,
    /// PLATFORM_INFO: the IOMMU's writes are safe (AMD-SB-3016).
    pub platform_iommu_write_safe: Expect<bool>,
    /// PLATFORM_INFO: trusted I/O is enabled.
    pub platform_tio: Expect<bool>,
    /// REPORTED_TCB, the version that the signing key was derived for.
    pub reported_tcb: Floor<TcbFloors>,
    /// COMMITTED_TCB, below which the firmware cannot be rolled back.
    pub committed_tcb: Floor<TcbFloors>,
    /// CURRENT_TCB.
    pub current_tcb: Floor<TcbFloors>,
    /// LAUNCH_TCB, the version when the guest was launched or imported.
    pub launch_tcb: Floor<TcbFloors>,
    /// Version of the firmware that runs, as in `1.55.29`.
    pub current_firmware: Floor<FirmwareVersion>,
    /// Version below which the firmware cannot be rolled back.
    pub committed_firmware: Floor<FirmwareVersion>,
    /// The firmware that runs is not committed: it can be rolled back.
    pub provisional_firmware: Expect<bool>,
    /// LAUNCH_MIT_VECTOR, of reports from version 5 on.
    pub launch_mitigations: Bits,
    /// CURRENT_MIT_VECTOR, of reports from version 5 on.
    pub current_mitigations: Bits,
    /// MEASUREMENT.
    pub measurement: ExpectReference<HexBytes<48>>,
    /// HOST_DATA.
    pub host_data: ExpectReference<HexBytes<32>>,
    /// FAMILY_ID.
    pub family_id: ExpectReference<HexBytes<16>>,
    /// IMAGE_ID.
    pub image_id: ExpectReference<HexBytes<16>>,
    /// AUTHOR_KEY_EN: the id key was certified by an author key.
    pub author_key: Expect<bool>,
    /// ID_KEY_DIGEST.
    pub id_key_digest: ExpectReference<HexBytes<48>>,
    /// AUTHOR_KEY_DIGEST.
    pub author_key_digest: ExpectReference<HexBytes<48>>,
    /// REPORT_ID.
    pub report_id: Expect<HexBytes<32>>,
    /// REPORT_ID_MA, all ones without a migration agent.
    pub report_id_ma: Expect<HexBytes<32>>,
    /// CHIP_ID is masked: all zero.
    pub masked_chip_id: Expect<bool>,
    /// Chips, by CHIP_ID. A masked one names none.
    pub chip_id: HardwareList<HexBytes<64>>,
    /// REPORT_DATA.
    pub report_data: ExpectBound<HexBytes<64>>,
}

impl SnpPolicy {
    /// Every expectation of the table, in the order of the type.
    pub(crate) fn listed(&self) -> Vec<Listed<'_>> {
        let Self {
            report_version,
            product,
            signing_key,
            csp_id,
            revocation,
            crl_age,
            debug,
            migration_agent,
            smt,
            single_socket,
            cxl,
            aes_256_xts,
            rapl_disabled,
            ciphertext_hiding,
            page_swap_disabled,
            abi,
            guest_svn,
            vmpl,
            platform_smt,
            platform_tsme,
            platform_ecc,
            platform_rapl_disabled,
            platform_ciphertext_hiding,
            platform_alias_check,
            platform_iommu_write_safe,
            platform_tio,
            reported_tcb,
            committed_tcb,
            current_tcb,
            launch_tcb,
            current_firmware,
            committed_firmware,
            provisional_firmware,
            launch_mitigations,
            current_mitigations,
            measurement,
            host_data,
            family_id,
            image_id,
            author_key,
            id_key_digest,
            author_key_digest,
            report_id,
            report_id_ma,
            masked_chip_id,
            chip_id,
            report_data,
        } = self;
        vec![
            Listed::new(
                "snp.report_version",
                "snp_report_version",
                "the version of the SEV-SNP report",
                report_version,
            ),
            Listed::new("snp.product", "snp_product", "the processor's product", product),
            Listed::new(
                "snp.signing_key",
                "snp_signing_key",
                "the kind of key that signs the report",
                signing_key,
            ),
            Listed::new("snp.csp_id", "snp_csp_id", "the cloud provider that a VLEK was issued to", csp_id),
            Listed::new(
                "snp.revocation",
                "snp_revocation",
                "a revocation list of AMD's root is there and lists no certificate of the chain",
                revocation,
            ),
            Listed::new(
                "snp.crl_age",
                "snp_crl_age",
                "the age of the root's revocation list in days",
                crl_age,
            ),
            Listed::new("snp.debug", "snp_debug", "the DEBUG bit of POLICY", debug),
            Listed::new(
                "snp.migration_agent",
                "snp_migration_agent",
                "the MIGRATE_MA bit of POLICY",
                migration_agent,
            ),
            Listed::new("snp.smt", "snp_smt", "the SMT bit of POLICY", smt),
            Listed::new(
                "snp.single_socket",
                "snp_single_socket",
                "the SINGLE_SOCKET bit of POLICY",
                single_socket,
            ),
            Listed::new("snp.cxl", "snp_cxl", "the CXL_ALLOW bit of POLICY", cxl),
            Listed::new(
                "snp.aes_256_xts",
                "snp_aes_256_xts",
                "the MEM_AES_256_XTS bit of POLICY",
                aes_256_xts,
            ),
            Listed::new(
                "snp.rapl_disabled",
                "snp_rapl_disabled",
                "the RAPL_DIS bit of POLICY",
                rapl_disabled,
            ),
            Listed::new(
                "snp.ciphertext_hiding",
                "snp_ciphertext_hiding",
                "the CIPHERTEXT_HIDING_DRAM bit of POLICY",
                ciphertext_hiding,
            ),
            Listed::new(
                "snp.page_swap_disabled",
                "snp_page_swap_disabled",
                "the PAGE_SWAP_DISABLE bit of POLICY",
                page_swap_disabled,
            ),
            Listed::new("snp.abi", "snp_abi", "the ABI version that POLICY asks of the firmware", abi),
            Listed::new("snp.guest_svn", "snp_guest_svn", "GUEST_SVN", guest_svn),
            Listed::new("snp.vmpl", "snp_vmpl", "VMPL, the privilege level of the requester", vmpl),
            Listed::new(
                "snp.platform_smt",
                "snp_platform_smt",
                "the SMT_EN bit of PLATFORM_INFO",
                platform_smt,
            ),
            Listed::new(
                "snp.platform_tsme",
                "snp_platform_tsme",
                "the TSME_EN bit of PLATFORM_INFO",
                platform_tsme,
            ),
            Listed::new(
                "snp.platform_ecc",
                "snp_platform_ecc",
                "the ECC_EN bit of PLATFORM_INFO",
                platform_ecc,
            ),
            Listed::new(
                "snp.platform_rapl_disabled",
                "snp_platform_rapl_disabled",
                "the RAPL_DIS bit of PLATFORM_INFO",
                platform_rapl_disabled,
            ),
            Listed::new(
                "snp.platform_ciphertext_hiding",
                "snp_platform_ciphertext_hiding",
                "the CIPHERTEXT_HIDING_DRAM_EN bit of PLATFORM_INFO",
                platform_ciphertext_hiding,
            ),
            Listed::new(
                "snp.platform_alias_check",
                "snp_platform_alias_check",
                "the ALIAS_CHECK_COMPLETE bit of PLATFORM_INFO",
                platform_alias_check,
            ),
            Listed::new(
                "snp.platform_iommu_write_safe",
                "snp_platform_iommu_write_safe",
                "bit 6 of PLATFORM_INFO, safe writes of the IOMMU",
                platform_iommu_write_safe,
            ),
            Listed::new(
                "snp.platform_tio",
                "snp_platform_tio",
                "the TIO_EN bit of PLATFORM_INFO",
                platform_tio,
            ),
            Listed::new("snp.reported_tcb", "snp_reported_tcb", "REPORTED_TCB", reported_tcb),
            Listed::new("snp.committed_tcb", "snp_committed_tcb", "COMMITTED_TCB", committed_tcb),
            Listed::new("snp.current_tcb", "snp_current_tcb", "CURRENT_TCB", current_tcb),
            Listed::new("snp.launch_tcb", "snp_launch_tcb", "LAUNCH_TCB", launch_tcb),
            Listed::new(
                "snp.current_firmware",
                "snp_current_firmware",
                "the version of the firmware that runs",
                current_firmware,
            ),
            Listed::new(
                "snp.committed_firmware",
                "snp_committed_firmware",
                "the version below which the firmware cannot be rolled back",
                committed_firmware,
            ),
            Listed::new(
                "snp.provisional_firmware",
                "snp_provisional_firmware",
                "whether the firmware that runs can be rolled back",
                provisional_firmware,
            ),
            Listed::new(
                "snp.launch_mitigations",
                "snp_launch_mitigations",
                "LAUNCH_MIT_VECTOR",
                launch_mitigations,
            ),
            Listed::new(
                "snp.current_mitigations",
                "snp_current_mitigations",
                "CURRENT_MIT_VECTOR",
                current_mitigations,
            ),
            Listed::new("snp.measurement", "snp_measurement", "MEASUREMENT, the launch digest", measurement),
            Listed::new("snp.host_data", "snp_host_data", "HOST_DATA", host_data),
            Listed::new("snp.family_id", "snp_family_id", "FAMILY_ID", family_id),
            Listed::new("snp.image_id", "snp_image_id", "IMAGE_ID", image_id),
            Listed::new("snp.author_key", "snp_author_key", "AUTHOR_KEY_EN", author_key),
            Listed::new("snp.id_key_digest", "snp_id_key_digest", "ID_KEY_DIGEST", id_key_digest),
            Listed::new(
                "snp.author_key_digest",
                "snp_author_key_digest",
                "AUTHOR_KEY_DIGEST",
                author_key_digest,
            ),
            Listed::new("snp.report_id", "snp_report_id", "REPORT_ID", report_id),
            Listed::new("snp.report_id_ma", "snp_report_id_ma", "REPORT_ID_MA", report_id_ma),
            Listed::new(
                "snp.masked_chip_id",
                "snp_masked_chip_id",
                "whether CHIP_ID is masked",
                masked_chip_id,
            ),
            Listed::new("snp.chip_id", "snp_chip_id", "the chip by its CHIP_ID", &chip_id.allow),
            Listed::new("snp.chip_id.deny", "snp_chip_id", "the chip by its CHIP_ID", &chip_id.deny),
            Listed::new("snp.report_data", "snp_report_data", "REPORT_DATA", report_data),
        ]
    }
}
