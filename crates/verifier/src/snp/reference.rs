//! A report's fields against the policy's reference values.

use super::Levels;
use crate::check::{Checks, Rule, Status};
use crate::platform::listed;
use crate::references::{Choice, Columns, Found, Of};
use crate::rules;
use crate::tdx::bound;
use confide_evidence::snp::{EndorsementKey, Product, Report, TcbVersion};
use confide_policy::{Bits, Floor, HexBytes, SnpPolicy, TcbFloors};
use std::fmt::Display;

const MEASUREMENT: Of<48> = |set| &set.measurement;
const HOST_DATA: Of<32> = |set| &set.host_data;
const FAMILY_ID: Of<16> = |set| &set.family_id;
const IMAGE_ID: Of<16> = |set| &set.image_id;
const ID_KEY_DIGEST: Of<48> = |set| &set.id_key_digest;
const AUTHOR_KEY_DIGEST: Of<48> = |set| &set.author_key_digest;

fn one<const N: usize>(value: &[u8; N]) -> Found<N> {
    Found::One(Some(HexBytes(*value)))
}

/// The fields that the policy takes from reference sets.
pub(super) fn columns(report: &Report<'_>, policy: &SnpPolicy, columns: &mut Columns<'_>) {
    columns.add("measurement", &policy.measurement, one(report.measurement), MEASUREMENT);
    columns.add("host_data", &policy.host_data, one(report.host_data), HOST_DATA);
    columns.add("family_id", &policy.family_id, one(report.family_id), FAMILY_ID);
    columns.add("image_id", &policy.image_id, one(report.image_id), IMAGE_ID);
    columns.add("id_key_digest", &policy.id_key_digest, one(report.id_key_digest), ID_KEY_DIGEST);
    columns.add(
        "author_key_digest",
        &policy.author_key_digest,
        one(report.author_key_digest),
        AUTHOR_KEY_DIGEST,
    );
}

/// Holds every field of a report whose signature holds against the policy, and against the reference set of the choice.
pub(super) fn values(
    report: &Report<'_>,
    levels: &Levels,
    key: &EndorsementKey,
    policy: &SnpPolicy,
    choice: &Choice<'_>,
    checks: &mut Checks,
) {
    checks.expect(&rules::SNP_REPORT_VERSION, &policy.report_version, &report.version);
    signer(key, policy, checks);
    guest_policy(report, policy, checks);
    platform(report, policy, checks);
    firmware(report, levels, key.product, policy, checks);
    identity(report, policy, choice, checks);
}

fn signer(key: &EndorsementKey, policy: &SnpPolicy, checks: &mut Checks) {
    checks.expect(&rules::SNP_PRODUCT, &policy.product, &key.product);
    checks.expect(&rules::SNP_SIGNING_KEY, &policy.signing_key, &key.kind);
    match &key.csp_id {
        Some(csp_id) => checks.expect(&rules::SNP_CSP_ID, &policy.csp_id, csp_id),
        None => checks.pass(&rules::SNP_CSP_ID, "a VCEK, which names no provider"),
    }
}

fn guest_policy(report: &Report<'_>, policy: &SnpPolicy, checks: &mut Checks) {
    let bits = report.policy;
    checks.expect(&rules::SNP_DEBUG, &policy.debug, &bits.allows_debug());
    checks.expect(&rules::SNP_MIGRATION_AGENT, &policy.migration_agent, &bits.allows_migration_agent());
    checks.expect(&rules::SNP_SMT, &policy.smt, &bits.allows_smt());
    checks.expect(&rules::SNP_SINGLE_SOCKET, &policy.single_socket, &bits.requires_single_socket());
    checks.expect(&rules::SNP_CXL, &policy.cxl, &bits.allows_cxl());
    checks.expect(&rules::SNP_AES_256_XTS, &policy.aes_256_xts, &bits.requires_aes_256_xts());
    checks.expect(&rules::SNP_RAPL_DISABLED, &policy.rapl_disabled, &bits.requires_rapl_disabled());
    checks.expect(
        &rules::SNP_CIPHERTEXT_HIDING,
        &policy.ciphertext_hiding,
        &bits.requires_ciphertext_hiding(),
    );
    checks.expect(&rules::SNP_PAGE_SWAP_DISABLED, &policy.page_swap_disabled, &bits.disables_page_swap());
    floor(&rules::SNP_ABI, &policy.abi, &bits.abi(), checks);
    floor(&rules::SNP_GUEST_SVN, &policy.guest_svn, &report.guest_svn, checks);
    checks.expect(&rules::SNP_VMPL, &policy.vmpl, &report.vmpl);
}

fn platform(report: &Report<'_>, policy: &SnpPolicy, checks: &mut Checks) {
    let info = report.platform_info;
    checks.expect(&rules::SNP_PLATFORM_SMT, &policy.platform_smt, &info.smt());
    checks.expect(&rules::SNP_PLATFORM_TSME, &policy.platform_tsme, &info.tsme());
    checks.expect(&rules::SNP_PLATFORM_ECC, &policy.platform_ecc, &info.ecc());
    checks.expect(&rules::SNP_PLATFORM_RAPL_DISABLED, &policy.platform_rapl_disabled, &info.rapl_disabled());
    let hidden = info.ciphertext_hiding();
    checks.expect(&rules::SNP_PLATFORM_CIPHERTEXT_HIDING, &policy.platform_ciphertext_hiding, &hidden);
    checks.expect(
        &rules::SNP_PLATFORM_ALIAS_CHECK,
        &policy.platform_alias_check,
        &info.alias_check_complete(),
    );
    let safe = info.iommu_write_safe();
    checks.expect(&rules::SNP_PLATFORM_IOMMU_WRITE_SAFE, &policy.platform_iommu_write_safe, &safe);
    checks.expect(&rules::SNP_PLATFORM_TIO, &policy.platform_tio, &info.tio());
}

fn firmware(report: &Report<'_>, levels: &Levels, product: Product, policy: &SnpPolicy, checks: &mut Checks) {
    for (rule, floors, actual) in [
        (&rules::SNP_REPORTED_TCB, &policy.reported_tcb, &levels.reported),
        (&rules::SNP_COMMITTED_TCB, &policy.committed_tcb, &levels.committed),
        (&rules::SNP_CURRENT_TCB, &policy.current_tcb, &levels.current),
        (&rules::SNP_LAUNCH_TCB, &policy.launch_tcb, &levels.launch),
    ] {
        tcb(rule, floors, product, actual, checks);
    }
    floor(&rules::SNP_CURRENT_FIRMWARE, &policy.current_firmware, &report.current_firmware, checks);
    floor(&rules::SNP_COMMITTED_FIRMWARE, &policy.committed_firmware, &report.committed_firmware, checks);
    let provisional =
        levels.current != levels.committed || report.current_firmware != report.committed_firmware;
    checks.expect(&rules::SNP_PROVISIONAL_FIRMWARE, &policy.provisional_firmware, &provisional);
    mitigations(
        &rules::SNP_LAUNCH_MITIGATIONS,
        &policy.launch_mitigations,
        report.launch_mitigations,
        checks,
    );
    mitigations(
        &rules::SNP_CURRENT_MITIGATIONS,
        &policy.current_mitigations,
        report.current_mitigations,
        checks,
    );
}

fn identity(report: &Report<'_>, policy: &SnpPolicy, choice: &Choice<'_>, checks: &mut Checks) {
    let measurement = one(report.measurement);
    choice.expect(&rules::SNP_MEASUREMENT, &policy.measurement, &measurement, MEASUREMENT, checks);
    choice.expect(&rules::SNP_HOST_DATA, &policy.host_data, &one(report.host_data), HOST_DATA, checks);
    choice.expect(&rules::SNP_FAMILY_ID, &policy.family_id, &one(report.family_id), FAMILY_ID, checks);
    choice.expect(&rules::SNP_IMAGE_ID, &policy.image_id, &one(report.image_id), IMAGE_ID, checks);
    checks.expect(&rules::SNP_AUTHOR_KEY, &policy.author_key, &report.key_info.author_key());
    let id_key = one(report.id_key_digest);
    choice.expect(&rules::SNP_ID_KEY_DIGEST, &policy.id_key_digest, &id_key, ID_KEY_DIGEST, checks);
    let author_key = one(report.author_key_digest);
    choice.expect(
        &rules::SNP_AUTHOR_KEY_DIGEST,
        &policy.author_key_digest,
        &author_key,
        AUTHOR_KEY_DIGEST,
        checks,
    );
    checks.expect(&rules::SNP_REPORT_ID, &policy.report_id, &HexBytes(*report.report_id));
    checks.expect(&rules::SNP_REPORT_ID_MA, &policy.report_id_ma, &HexBytes(*report.report_id_ma));
    checks.expect(&rules::SNP_MASKED_CHIP_ID, &policy.masked_chip_id, &report.masks_chip_id());
    let chip_id = (!report.masks_chip_id()).then_some(HexBytes(*report.chip_id));
    listed(&rules::SNP_CHIP_ID, &policy.chip_id, chip_id, checks);
    // No evidence document rests on an SEV-SNP report, so that nothing is recomputed.
    bound(&rules::SNP_REPORT_DATA, &policy.report_data, None, HexBytes(*report.report_data), checks);
}

fn floor<T: Ord + Display>(rule: &'static Rule, expected: &Floor<T>, actual: &T, checks: &mut Checks) {
    match expected {
        Floor::Waive(reason) => checks.waive(rule, reason, actual.to_string()),
        Floor::AtLeast(least) => {
            let status = if actual >= least { Status::Pass } else { Status::Fail };
            checks.push(rule, status, format!("at least {least}"), actual.to_string());
        }
    }
}

fn tcb(
    rule: &'static Rule,
    expected: &Floor<TcbFloors>,
    product: Product,
    actual: &TcbVersion,
    checks: &mut Checks,
) {
    match expected {
        Floor::Waive(reason) => checks.waive(rule, reason, actual.to_string()),
        Floor::AtLeast(floors) => match floors.of(product) {
            Some(least) => {
                let status = if actual.reaches(&least) { Status::Pass } else { Status::Fail };
                checks.push(rule, status, format!("at least {least}"), actual.to_string());
            }
            None => {
                let expected = format!("a product with a floor: the policy names none for {product}");
                checks.push(rule, Status::Fail, expected, actual.to_string());
            }
        },
    }
}

fn mitigations(rule: &'static Rule, expected: &Bits, actual: Option<u64>, checks: &mut Checks) {
    let told =
        actual.map_or_else(|| "none, in a report before version 5".to_owned(), |bits| format!("{bits:#x}"));
    match expected {
        Bits::Waive(reason) => checks.waive(rule, reason, told),
        Bits::AllOf(mask) => {
            let missing = mask & !actual.unwrap_or_default();
            let status = if missing == 0 { Status::Pass } else { Status::Fail };
            checks.push(rule, status, format!("all bits of {mask:#x}"), told);
        }
    }
}
