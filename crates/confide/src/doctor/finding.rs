//! What `confide doctor` looks at, and what it finds.

use serde::Serialize;
use std::borrow::Cow;

/// What became of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    /// As it should be.
    Ok,
    /// It works, and somebody should look at it.
    Warn,
    /// It must be mended.
    Fail,
    /// This machine has no such thing, and `found` says why.
    NotApplicable,
    /// It could not be looked at, and `found` says why.
    NotRun,
}

/// A check, what was found and what to do.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Finding {
    /// One of [`DOCTOR`].
    pub(super) code: &'static str,
    pub(super) status: State,
    pub(super) found: String,
    pub(super) expected: &'static str,
    /// What to do; nothing where there is nothing to do.
    pub(super) remedy: Option<Cow<'static, str>>,
}

/// Something that is looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Check {
    code: &'static str,
    expected: &'static str,
    remedy: &'static str,
}

impl Check {
    pub(super) fn ok(self, found: impl Into<String>) -> Finding {
        self.finding(State::Ok, found, None)
    }

    /// A warning with the remedy of the check.
    pub(super) fn warn(self, found: impl Into<String>) -> Finding {
        self.warn_do(found, self.remedy)
    }

    /// A warning with a remedy of its own.
    pub(super) fn warn_do(self, found: impl Into<String>, remedy: impl Into<Cow<'static, str>>) -> Finding {
        self.finding(State::Warn, found, Some(remedy.into()))
    }

    /// A failure with the remedy of the check.
    pub(super) fn fail(self, found: impl Into<String>) -> Finding {
        self.fail_do(found, self.remedy)
    }

    /// A failure with a remedy of its own.
    pub(super) fn fail_do(self, found: impl Into<String>, remedy: impl Into<Cow<'static, str>>) -> Finding {
        self.finding(State::Fail, found, Some(remedy.into()))
    }

    pub(super) fn not_applicable(self, reason: impl Into<String>) -> Finding {
        self.finding(State::NotApplicable, reason, None)
    }

    /// Not looked at, because of something that has a finding of its own.
    pub(super) fn not_run(self, reason: impl Into<String>) -> Finding {
        self.finding(State::NotRun, reason, None)
    }

    /// Not looked at, and what lets it be.
    pub(super) fn not_run_do(
        self,
        reason: impl Into<String>,
        remedy: impl Into<Cow<'static, str>>,
    ) -> Finding {
        self.finding(State::NotRun, reason, Some(remedy.into()))
    }

    pub(super) const fn code(self) -> &'static str {
        self.code
    }

    fn finding(self, status: State, found: impl Into<String>, remedy: Option<Cow<'static, str>>) -> Finding {
        Finding { code: self.code, status, found: found.into(), expected: self.expected, remedy }
    }
}

/// Declares each check once: a constant, and its row in [`DOCTOR`].
macro_rules! checks {
    ($($name:ident = $code:literal, $expected:literal, $remedy:literal;)*) => {
        $(pub(super) const $name: Check = Check { code: $code, expected: $expected, remedy: $remedy };)*
        /// What `confide doctor` looks at, in its order: stable code, what is expected, what to do where it is not so.
        pub const DOCTOR: &[(&str, &str, &str)] = &[$(($code, $expected, $remedy)),*];
    };
}

checks! {
    TEE = "doctor_tee", "a guest of Intel TDX, or a host of such guests",
        "boot the virtual machine as a TDX guest; on a host, switch TDX on in the BIOS (TME, MK-TME, SEAM loader, TDX) and boot Linux 6.16 or later with kvm_intel.tdx=1";
    TDX_MODULE = "doctor_tdx_module", "a TDX module that runs guests, or under which this guest runs",
        "switch TDX on in the BIOS, boot with kvm_intel.tdx=1, and look in the kernel's log for \"virt/tdx\" (as root: dmesg | grep -i tdx)";
    TDX_DEVICE = "doctor_tdx_device", "the device /dev/tdx_guest",
        "load the guest's driver (modprobe tdx_guest), or use a kernel with CONFIG_TDX_GUEST_DRIVER";
    REGISTER = "doctor_runtime_register", "a file that extends RTMR3, still all zeros when confide-guest starts",
        "use Linux 6.16 or later in the guest, and run this command as root";
    BOOT_LOG = "doctor_boot_log", "a boot event log (ACPI table CCEL) that a verifier can read",
        "use firmware (OVMF, TDVF) that writes a crypto-agile TCG event log of at most 1 MiB, and a kernel that shows /sys/firmware/acpi/tables/data/CCEL";
    SNP = "doctor_sev_snp", "where there is AMD SEV-SNP: the device /dev/sev-guest, or a host that runs such guests",
        "in a guest, load the driver (modprobe sev-guest); on a host, switch SEV-SNP on in the BIOS and boot with kvm_amd.sev_snp=1";
    CONFIGFS = "doctor_configfs_tsm", "configfs-tsm, of the platform's own driver, in which this user may make requests",
        "mount configfs (mount -t configfs none /sys/kernel/config), load the guest's driver (modprobe tdx_guest), and run this command as root";
    QUOTE = "doctor_quoting_service", "a quote in time",
        "on the host, start the quoting service (systemctl status qgsd) and give the virtual machine its address (QEMU: quote-generation-socket of the object tdx-guest)";
    SIGNATURE = "doctor_quote_signature", "a quote that the platform signed under a root that the policy accepts",
        "have the operator repair the host's quoting service and provision the platform's PCK certificate again; simulated platforms need a danger policy";
    PLATFORM = "doctor_platform", "a PCK certificate that says the platform's FMSPC and CA",
        "register the platform with Intel, and let the quoting service have its PCK certificate from the host's PCCS (PCKIDRetrievalTool)";
    COLLATERAL = "doctor_collateral", "Intel's collateral of this platform, of the present day",
        "let this machine reach Intel's service or a PCCS (--pccs), or carry a filled cache here (--cache)";
    TCB = "doctor_tcb", "a TCB status that the policy accepts",
        "bring BIOS, microcode, TDX module and quoting enclave of the host up to date";
    APPRAISAL = "doctor_appraisal", "nothing else of the quote that the policy refuses",
        "do what the checks named here ask for: docs/errors.md has each";
    GPU_DRIVER = "doctor_gpu_driver", "an NVIDIA driver that answers for every GPU of this machine",
        "install an NVIDIA driver of version 550 or later, with NVML (libnvidia-ml.so.1), and look in the kernel's log for its errors";
    GPU_MODE = "doctor_gpu_mode", "GPUs in a confidential-computing mode",
        "on the host, switch the mode on (nvidia_gpu_tools.py --set-cc-mode=on, or --set-ppcie-mode=on for eight GPUs with switches) and reset the GPUs";
    GPU_DEV_TOOLS = "doctor_gpu_dev_tools", "GPUs into which no tools may look",
        "on the host, set the mode to on instead of devtools and reset the GPUs";
    GPU_ENVIRONMENT = "doctor_gpu_environment", "the environment of production hardware (PROD)",
        "use production GPUs and a production driver: policies refuse others";
    GPU_READY = "doctor_gpu_ready_state", "a ready state that the driver tells",
        "look in the kernel's log for the driver's errors, and power the virtual machine off and boot it again";
    GPU_EVIDENCE = "doctor_gpu_evidence", "an attestation report and a certificate chain of every GPU and switch",
        "look in the kernel's log for the driver's errors, and power the virtual machine off and boot it again";
    GPU_RIM = "doctor_gpu_rim", "a manifest (RIM) of NVIDIA's for each driver, VBIOS and switch firmware that is in use",
        "install a driver and a VBIOS of which NVIDIA publishes manifests (confide rim fetch --id ID tells)";
    CLOCK = "doctor_clock", "a clock that is right to half a minute",
        "let chrony or systemd-timesyncd keep the clock, from servers that you trust: the host sets a guest's clock at its boot";
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_check_has_a_code_of_its_own_and_says_what_to_do() {
        let codes: BTreeSet<&str> = DOCTOR.iter().map(|(code, ..)| *code).collect();
        assert_eq!(codes.len(), DOCTOR.len());
        for (code, expected, remedy) in DOCTOR {
            assert!(code.starts_with("doctor_") && !expected.is_empty() && !remedy.is_empty(), "{code}");
        }
    }

    #[test]
    fn only_what_is_well_or_absent_has_no_remedy() {
        let has = |finding: Finding| finding.remedy.is_some();
        assert!(has(TEE.warn("f")) && has(TEE.fail("f")) && has(TEE.not_run_do("f", "r")));
        assert!(!has(TEE.ok("f")) && !has(TEE.not_applicable("f")) && !has(TEE.not_run("f")));
    }
}
