//! The table `[tdx]`: a TDX quote.

use crate::field::Listed;
use crate::grace::{self, Grace};
use crate::{
    AgeLimit, Expect, ExpectBound, ExpectReference, Field, HardwareList, HexBytes, Minimum, PolicyError,
    Require, RequireGiven,
};
use confide_evidence::tdx::{SgxType, TcbStatus};
use serde::Deserialize;
use std::fmt;

/// Expectations of a TDX quote.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TdxPolicy {
    /// TCB statuses that are accepted, by Intel's names.
    pub tcb_status: Expect<TcbStatus>,
    /// TCB statuses that are accepted for a while.
    #[serde(default)]
    pub grace: Vec<Grace>,
    /// TCB statuses that are accepted of the early collateral, which shows what the next TCB recovery brings.
    pub early_tcb_status: Expect<TcbStatus>,
    /// The lowest `tcbEvaluationDataNumber` of TCB info and QE identity.
    pub tcb_evaluation: Minimum,
    /// Age of TCB info by its issue date.
    pub tcb_info_age: AgeLimit,
    /// Age of QE identity by its issue date.
    pub qe_identity_age: AgeLimit,
    /// Age of the PCK revocation list by its `thisUpdate`.
    pub pck_crl_age: AgeLimit,
    /// Age of the root revocation list by its `thisUpdate`.
    pub root_crl_age: AgeLimit,
    /// Platforms, by the PPID of their PCK certificate.
    pub ppid: HardwareList<HexBytes<16>>,
    /// Kinds of platforms, by the FMSPC of their PCK certificate.
    pub fmspc: HardwareList<HexBytes<6>>,
    /// TDATTRIBUTES debug bit.
    pub debug: Expect<bool>,
    /// TDATTRIBUTES migratable bit.
    pub migratable: Expect<bool>,
    /// TDATTRIBUTES, all 8 bytes in memory order.
    pub td_attributes: Expect<HexBytes<8>>,
    /// XFAM, all 8 bytes in memory order.
    pub xfam: Expect<HexBytes<8>>,
    /// No bit of TDATTRIBUTES and XFAM is set for which the TDX module's specification has no name.
    pub reserved_bits: Require,
    /// MRSEAM.
    pub mr_seam: Expect<HexBytes<48>>,
    /// MRSIGNERSEAM, beside the signer that TCB info names: zero for Intel's modules.
    pub mr_signer_seam: Expect<HexBytes<48>>,
    /// SEAMATTRIBUTES, all 8 bytes in memory order, beside those that TCB info names under its mask.
    pub seam_attributes: Expect<HexBytes<8>>,
    /// MRTD.
    pub mr_td: ExpectReference<HexBytes<48>>,
    /// RTMR0: firmware configuration, among it ACPI tables that the host supplies.
    pub rtmr0: ExpectReference<HexBytes<48>>,
    /// RTMR1: kernel.
    pub rtmr1: ExpectReference<HexBytes<48>>,
    /// RTMR2: command line and initial file system.
    pub rtmr2: ExpectReference<HexBytes<48>>,
    /// RTMR3: runtime events.
    pub rtmr3: ExpectBound<HexBytes<48>>,
    /// The boot event log replays to RTMR0, RTMR1 and RTMR2.
    pub boot_log: RequireGiven,
    /// The measured events of the boot event log: a list of them names the first one that differs.
    pub boot_events: Expect<BootReference>,
    /// MRCONFIGID.
    pub mr_config_id: Expect<HexBytes<48>>,
    /// MROWNER.
    pub mr_owner: Expect<HexBytes<48>>,
    /// MROWNERCONFIG.
    pub mr_owner_config: Expect<HexBytes<48>>,
    /// MRSERVICETD, of bodies that have it; in the extended body also the hashes of the service TDs bound at the TD's
    /// creation and now.
    pub mr_service_td: Expect<HexBytes<48>>,
    /// REPORTDATA.
    pub report_data: ExpectBound<HexBytes<64>>,
    /// Whether another verifier must have appraised the quote, too. Where one has, it must agree in any case.
    pub cross_check: Require,
    /// What the quoting enclave says of itself and of its platform.
    pub quote: QuotePolicy,
    /// What the PCK certificate says of the kind of platform.
    pub platform: PlatformPolicy,
    /// Fields of the extended TD 1.5 body.
    pub extended: ExtendedPolicy,
}

/// Expectations of what the quoting enclave writes beside the TD report, and of its own report beside what QE identity covers.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuotePolicy {
    /// Bytes 8 to 11 of the quote header, which are reserved.
    pub reserved: Expect<HexBytes<4>>,
    /// User data of the quote header.
    pub user_data: Expect<HexBytes<20>>,
    /// MRENCLAVE of the quoting enclave.
    pub mr_enclave: Expect<HexBytes<32>>,
    /// CPUSVN in the quoting enclave's report.
    pub cpu_svn: Expect<HexBytes<16>>,
}

impl QuotePolicy {
    fn listed(&self) -> [Listed<'_>; 4] {
        let Self { reserved, user_data, mr_enclave, cpu_svn } = self;
        [
            Listed::new(
                "tdx.quote.reserved",
                "quote_reserved",
                "the reserved bytes of the quote header",
                reserved,
            ),
            Listed::new(
                "tdx.quote.user_data",
                "quote_user_data",
                "the user data of the quote header",
                user_data,
            ),
            Listed::new(
                "tdx.quote.mr_enclave",
                "qe_mr_enclave",
                "MRENCLAVE of the quoting enclave",
                mr_enclave,
            ),
            Listed::new("tdx.quote.cpu_svn", "qe_cpu_svn", "CPUSVN of the quoting enclave", cpu_svn),
        ]
    }
}

/// Expectations of what a PCK certificate says of the kind of platform. Certificates of the Processor CA have no flags.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlatformPolicy {
    /// SGX type.
    pub sgx_type: Expect<SgxType>,
    /// Whether packages can be added after provisioning.
    pub dynamic_platform: Expect<bool>,
    /// Whether Intel caches the platform's root keys.
    pub cached_keys: Expect<bool>,
    /// Whether simultaneous multithreading is on.
    pub smt_enabled: Expect<bool>,
    /// Platform instance id.
    pub instance_id: Expect<HexBytes<16>>,
}

impl PlatformPolicy {
    fn listed(&self) -> [Listed<'_>; 5] {
        let Self { sgx_type, dynamic_platform, cached_keys, smt_enabled, instance_id } = self;
        [
            Listed::new("tdx.platform.sgx_type", "sgx_type", "the SGX type of the platform", sgx_type),
            Listed::new(
                "tdx.platform.dynamic_platform",
                "dynamic_platform",
                "whether packages can be added to the platform",
                dynamic_platform,
            ),
            Listed::new(
                "tdx.platform.cached_keys",
                "cached_keys",
                "whether Intel caches the platform's root keys",
                cached_keys,
            ),
            Listed::new(
                "tdx.platform.smt_enabled",
                "smt_enabled",
                "whether simultaneous multithreading is on",
                smt_enabled,
            ),
            Listed::new(
                "tdx.platform.instance_id",
                "platform_instance",
                "the platform instance by its id",
                instance_id,
            ),
        ]
    }
}

/// The events that a boot must measure: the SHA-384 digests of each register, in their order.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BootReference {
    /// A name for verdicts, such as that of the image and the shape of the machine.
    pub name: String,
    /// Events of RTMR0.
    pub rtmr0: Vec<HexBytes<48>>,
    /// Events of RTMR1.
    pub rtmr1: Vec<HexBytes<48>>,
    /// Events of RTMR2.
    pub rtmr2: Vec<HexBytes<48>>,
}

/// Name and digests, all of them: two references of one name and different events are two values.
impl fmt::Display for BootReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.name)?;
        for (register, digests) in [("RTMR0", &self.rtmr0), ("RTMR1", &self.rtmr1), ("RTMR2", &self.rtmr2)] {
            write!(f, " {register} of {} events", digests.len())?;
            digests.iter().try_for_each(|digest| write!(f, " {digest}"))?;
        }
        Ok(())
    }
}

/// Expectations of what the extended TD 1.5 body adds. Reports of other forms have none of these fields.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExtendedPolicy {
    /// Index of the VM that asked for the report: 0 for a TD that is not partitioned.
    pub vm_id: Expect<u8>,
    /// Id of this instance of the TD.
    pub td_id: Expect<HexBytes<32>>,
    /// Hash over the information about devices assigned to the TD.
    pub device_info: Expect<HexBytes<48>>,
    /// Attributes of the service TDs bound at the TD's creation and now, 8 bytes in memory order.
    pub service_td_attributes: Expect<HexBytes<8>>,
    /// CPUSVN of the platform that the TD was created on: zero but for TDs with SERVTD_EXT.
    pub init_cpu_svn: Expect<HexBytes<16>>,
    /// TEE_TCB_SVN of the platform that the TD was created on: zero but for TDs with SERVTD_EXT.
    pub init_tee_tcb_svn: Expect<HexBytes<16>>,
    /// FMSPC of the platform that the TD was created on: zero but for TDs with SERVTD_EXT.
    pub init_fmspc: Expect<HexBytes<12>>,
}

impl ExtendedPolicy {
    fn listed(&self) -> [Listed<'_>; 7] {
        let Self {
            vm_id,
            td_id,
            device_info,
            service_td_attributes,
            init_cpu_svn,
            init_tee_tcb_svn,
            init_fmspc,
        } = self;
        [
            Listed::new(
                "tdx.extended.vm_id",
                "td_vm_id",
                "the index of the VM that asked for the report",
                vm_id,
            ),
            Listed::new("tdx.extended.td_id", "td_id", "the id of this instance of the TD", td_id),
            Listed::new(
                "tdx.extended.device_info",
                "device_info",
                "the hash over the TD's devices",
                device_info,
            ),
            Listed::new(
                "tdx.extended.service_td_attributes",
                "service_td_attributes",
                "the attributes of service TDs",
                service_td_attributes,
            ),
            Listed::new(
                "tdx.extended.init_cpu_svn",
                "init_cpu_svn",
                "the CPUSVN that the TD was created on",
                init_cpu_svn,
            ),
            Listed::new(
                "tdx.extended.init_tee_tcb_svn",
                "init_tee_tcb_svn",
                "the TEE_TCB_SVN that the TD was created on",
                init_tee_tcb_svn,
            ),
            Listed::new(
                "tdx.extended.init_fmspc",
                "init_fmspc",
                "the FMSPC that the TD was created on",
                init_fmspc,
            ),
        ]
    }
}

impl TdxPolicy {
    /// Every expectation of the table, in the order of the type.
    pub(crate) fn fields(&self) -> Vec<Field<'_>> {
        let mut fields = Vec::new();
        self.each_listed(|listed| fields.push(listed.into()));
        fields.extend(self.grace.iter().map(Grace::field));
        fields
    }

    /// Takes every field but the graces, which are never waived.
    pub(crate) fn each_listed<'p>(&'p self, mut take: impl FnMut(Listed<'p>)) {
        self.listed().into_iter().for_each(&mut take);
        self.quote.listed().into_iter().for_each(&mut take);
        self.platform.listed().into_iter().for_each(&mut take);
        self.extended.listed().into_iter().for_each(take);
    }

    /// Every expectation but the quoting enclave's, the platform's, the extended body's and the graces.
    fn listed(&self) -> [Listed<'_>; 32] {
        let Self {
            tcb_status,
            grace: _,
            early_tcb_status,
            tcb_evaluation,
            tcb_info_age,
            qe_identity_age,
            pck_crl_age,
            root_crl_age,
            ppid,
            fmspc,
            debug,
            migratable,
            td_attributes,
            xfam,
            reserved_bits,
            mr_seam,
            mr_signer_seam,
            seam_attributes,
            mr_td,
            rtmr0,
            rtmr1,
            rtmr2,
            rtmr3,
            boot_log,
            boot_events,
            mr_config_id,
            mr_owner,
            mr_owner_config,
            mr_service_td,
            report_data,
            cross_check,
            quote: _,
            platform: _,
            extended: _,
        } = self;
        [
            Listed::new("tdx.tcb_status", "tcb_status", "the TCB status", tcb_status),
            Listed::new(
                "tdx.early_tcb_status",
                "early_tcb_status",
                "the TCB status by the early collateral",
                early_tcb_status,
            ),
            Listed::new(
                "tdx.tcb_evaluation",
                "tcb_evaluation",
                "the lower tcbEvaluationDataNumber of TCB info and QE identity",
                tcb_evaluation,
            ),
            Listed::new("tdx.tcb_info_age", "tcb_info_age", "the age of TCB info in days", tcb_info_age),
            Listed::new(
                "tdx.qe_identity_age",
                "qe_identity_age",
                "the age of QE identity in days",
                qe_identity_age,
            ),
            Listed::new(
                "tdx.pck_crl_age",
                "pck_crl_age",
                "the age of the PCK revocation list in days",
                pck_crl_age,
            ),
            Listed::new(
                "tdx.root_crl_age",
                "root_crl_age",
                "the age of the root revocation list in days",
                root_crl_age,
            ),
            Listed::new("tdx.ppid", "ppid", "the platform by its PPID", &ppid.allow),
            Listed::new("tdx.ppid.deny", "ppid", "the platform by its PPID", &ppid.deny),
            Listed::new("tdx.fmspc", "platform_kind", "the kind of platform by its FMSPC", &fmspc.allow),
            Listed::new("tdx.fmspc.deny", "platform_kind", "the kind of platform by its FMSPC", &fmspc.deny),
            Listed::new("tdx.debug", "td_debug", "the DEBUG bit of TDATTRIBUTES", debug),
            Listed::new("tdx.migratable", "td_migratable", "the MIGRATABLE bit of TDATTRIBUTES", migratable),
            Listed::new("tdx.td_attributes", "td_attributes", "TDATTRIBUTES", td_attributes),
            Listed::new("tdx.xfam", "xfam", "XFAM", xfam),
            Listed::new(
                "tdx.reserved_bits",
                "td_reserved_bits",
                "no reserved bit of TDATTRIBUTES or XFAM is set",
                reserved_bits,
            ),
            Listed::new("tdx.mr_seam", "mr_seam", "MRSEAM, the measurement of the TDX module", mr_seam),
            Listed::new(
                "tdx.mr_signer_seam",
                "mr_signer_seam",
                "MRSIGNERSEAM, the signer of the TDX module",
                mr_signer_seam,
            ),
            Listed::new("tdx.seam_attributes", "seam_attributes", "SEAMATTRIBUTES", seam_attributes),
            Listed::new("tdx.mr_td", "mr_td", "MRTD, the measurement of the TD's firmware", mr_td),
            Listed::new("tdx.rtmr0", "rtmr0", "RTMR0, the firmware's configuration", rtmr0),
            Listed::new("tdx.rtmr1", "rtmr1", "RTMR1, the kernel", rtmr1),
            Listed::new("tdx.rtmr2", "rtmr2", "RTMR2, the command line and the initial file system", rtmr2),
            Listed::new("tdx.rtmr3", "rtmr3", "RTMR3, the runtime events", rtmr3),
            Listed::new(
                "tdx.boot_log",
                "boot_log",
                "the boot event log replays to RTMR0, RTMR1 and RTMR2",
                boot_log,
            ),
            Listed::new("tdx.boot_events", "boot_events", "the measured boot events", boot_events),
            Listed::new("tdx.mr_config_id", "mr_config_id", "MRCONFIGID", mr_config_id),
            Listed::new("tdx.mr_owner", "mr_owner", "MROWNER", mr_owner),
            Listed::new("tdx.mr_owner_config", "mr_owner_config", "MROWNERCONFIG", mr_owner_config),
            Listed::new(
                "tdx.mr_service_td",
                "mr_service_td",
                "MRSERVICETD, of TD 1.5 reports",
                mr_service_td,
            ),
            Listed::new("tdx.report_data", "report_data", "REPORTDATA", report_data),
            Listed::new("tdx.cross_check", "cross_check", "a second verifier finds the same", cross_check),
        ]
    }

    /// Names and reasons of the graces.
    pub(crate) fn check(&self) -> Result<(), PolicyError> {
        grace::check(&self.grace)
    }

    /// A field that accepts the status `Revoked`, where there is one.
    pub(crate) fn admits_revoked(&self) -> Option<String> {
        let lists = |expect: &Expect<TcbStatus>| matches!(expect, Expect::AnyOf(set) if set.contains(&TcbStatus::Revoked));
        if lists(&self.tcb_status) {
            return Some("tdx.tcb_status".to_owned());
        }
        if lists(&self.early_tcb_status) {
            return Some("tdx.early_tcb_status".to_owned());
        }
        let grace = self.grace.iter().find(|grace| grace.status == TcbStatus::Revoked)?;
        Some(format!("tdx.grace.{}", grace.name))
    }
}
