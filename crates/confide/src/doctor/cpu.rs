//! The platform: what kind of machine it is, and whether it gives quotes.

use super::finding::{BOOT_LOG, CONFIGFS, Finding, QUOTE, REGISTER, SNP, TDX_DEVICE, TDX_MODULE, TEE};
use confide_attester::AttesterError;
use confide_attester::kernel::{Kernel, Place, QuotingService, Register, Reports, Survey, Trial, TrialError};
use std::error::Error as _;
use std::io;

/// The name of a place in JSON.
pub(super) fn name(place: Place) -> &'static str {
    match place {
        Place::TdxGuest => "tdx_guest",
        Place::SnpGuest => "snp_guest",
        Place::TdxHost => "tdx_host",
        Place::SnpHost => "snp_host",
        Place::Other => "none",
    }
}

/// The name of a place for people.
pub(super) fn words(place: Place) -> &'static str {
    match place {
        Place::TdxGuest => "Intel TDX guest",
        Place::SnpGuest => "AMD SEV-SNP guest",
        Place::TdxHost => "Intel TDX host",
        Place::SnpHost => "AMD SEV-SNP host",
        Place::Other => "no TEE",
    }
}

pub(super) fn is_guest(place: Place) -> bool {
    matches!(place, Place::TdxGuest | Place::SnpGuest)
}

pub(super) fn tee(survey: &Survey) -> Finding {
    let words = words(survey.place);
    match survey.place {
        Place::TdxGuest | Place::TdxHost => TEE.ok(words),
        Place::SnpGuest | Place::SnpHost => TEE.warn_do(
            format!("{words}; confide-guest serves on Intel TDX alone"),
            "use a TDX machine for confide-guest; reports of this one are appraised by `confide verify snp`",
        ),
        Place::Other => {
            let mut seen = vec![if survey.virtual_machine { "a virtual machine" } else { "no hypervisor" }];
            match &survey.kvm_tdx {
                Some(value) if value == "N" => seen.push("kvm_intel.tdx is N"),
                Some(_) => {}
                None => seen.push("no kvm_intel.tdx"),
            }
            match &survey.kvm_snp {
                Some(value) if value == "N" => seen.push("kvm_amd.sev_snp is N"),
                Some(_) => {}
                None => seen.push("no kvm_amd.sev_snp"),
            }
            TEE.fail(format!("no TEE: {}, and neither /dev/tdx_guest nor /dev/sev-guest", seen.join(", ")))
        }
    }
}

pub(super) fn tdx_module(survey: &Survey) -> Finding {
    match survey.place {
        Place::TdxGuest if survey.tdx_guest => TDX_MODULE.ok("the kernel runs under a TDX module (flag tdx_guest)"),
        Place::TdxGuest => TDX_MODULE.fail_do(
            "the driver's device is there, and /proc/cpuinfo has no flag tdx_guest",
            "boot a kernel with CONFIG_INTEL_TDX_GUEST as a TDX guest",
        ),
        Place::TdxHost => match (survey.kvm_tdx.as_deref(), &survey.tdx_module) {
            (Some("Y"), Some(version)) => TDX_MODULE.ok(format!("kvm_intel.tdx is Y, TDX module {version}")),
            (Some("Y"), None) => TDX_MODULE.ok("kvm_intel.tdx is Y; this kernel does not show the module's version"),
            (Some(value), _) => TDX_MODULE.fail(format!(
                "the platform offers TDX (flag tdx_host_platform) and kvm_intel.tdx is {value}"
            )),
            (None, _) => TDX_MODULE.fail_do(
                "the platform offers TDX (flag tdx_host_platform) and kvm_intel, where it is loaded, knows no tdx",
                "boot Linux 6.16 or later with CONFIG_KVM_INTEL_TDX, load kvm_intel, and set kvm_intel.tdx=1",
            ),
        },
        place => TDX_MODULE.not_applicable(of_another(place)),
    }
}

pub(super) fn tdx_device(survey: &Survey) -> Finding {
    match survey.place {
        Place::TdxGuest if survey.tdx_device => TDX_DEVICE.ok("/dev/tdx_guest"),
        Place::TdxGuest => TDX_DEVICE.fail("no /dev/tdx_guest"),
        Place::TdxHost => TDX_DEVICE.not_applicable("guests have it, and this is a host"),
        place => TDX_DEVICE.not_applicable(of_another(place)),
    }
}

pub(super) fn register(survey: &Survey) -> Finding {
    match (survey.place, survey.register) {
        (Place::TdxGuest, Register::Zeros) => REGISTER.ok("RTMR3 is all zeros"),
        (Place::TdxGuest, Register::Extended) => REGISTER.ok(
            "RTMR3 was extended since the boot, as by a confide-guest that runs; it starts again only after another boot",
        ),
        (Place::TdxGuest, Register::Missing) => {
            REGISTER.fail("no /sys/devices/virtual/misc/tdx_guest/measurements/rtmr3:sha384")
        }
        (Place::TdxGuest, Register::Unreadable) => REGISTER.fail("the file of RTMR3 cannot be read"),
        (Place::TdxHost, _) => REGISTER.not_applicable("guests have it, and this is a host"),
        (place, _) => REGISTER.not_applicable(of_another(place)),
    }
}

pub(super) fn boot_log(place: Place, log: &Result<Option<Vec<u8>>, AttesterError>) -> Finding {
    match (place, log) {
        (Place::TdxGuest, Ok(Some(log))) => BOOT_LOG.ok(format!("{} bytes", log.len())),
        (Place::TdxGuest, Ok(None)) => {
            BOOT_LOG.warn("none: policies that ask for the events of the boot refuse this guest")
        }
        (Place::TdxGuest, Err(error)) => BOOT_LOG.fail(with_source(error)),
        (Place::TdxHost, _) => BOOT_LOG.not_applicable("guests have it, and this is a host"),
        (place, _) => BOOT_LOG.not_applicable(of_another(place)),
    }
}

pub(super) fn snp(survey: &Survey) -> Finding {
    match survey.place {
        Place::SnpGuest if survey.snp_device => SNP.ok("/dev/sev-guest"),
        Place::SnpGuest => SNP.fail("no /dev/sev-guest"),
        Place::SnpHost => match survey.kvm_snp.as_deref() {
            Some("Y") => SNP.ok("kvm_amd.sev_snp is Y"),
            Some(value) => SNP
                .fail(format!("the processor offers SEV-SNP (flag sev_snp) and kvm_amd.sev_snp is {value}")),
            None => SNP.fail(
                "the processor offers SEV-SNP (flag sev_snp) and kvm_amd is not loaded or does not know it",
            ),
        },
        place => SNP.not_applicable(of_another(place)),
    }
}

/// Why nothing is said of one platform's parts on another machine.
fn of_another(place: Place) -> String {
    match place {
        Place::Other => "no TEE was found".to_owned(),
        place => format!("this is an {}", words(place)),
    }
}

/// Configfs-tsm and the quoting service, from one trial.
pub(super) fn quoting(survey: &Survey, trial: &Result<Trial, TrialError>) -> [Finding; 2] {
    let refused = |configfs: Finding| [configfs, QUOTE.not_run("configfs-tsm takes no request")];
    match (survey.reports, trial) {
        (Reports::NoConfigfs, _) => refused(CONFIGFS.fail_do(
            "/sys/kernel/config is missing or empty",
            "mount configfs: mount -t configfs none /sys/kernel/config",
        )),
        (Reports::NoReports, _) => refused(CONFIGFS.fail_do(
            "configfs has no tsm/report",
            "load the guest's driver (modprobe tdx_guest), or use Linux 6.7 or later with CONFIG_TSM_REPORTS",
        )),
        (Reports::Present, Err(TrialError::Refused(error @ AttesterError::NoPlatform { .. }))) => {
            refused(CONFIGFS.fail_do(
                format!("no driver offers reports: {}", with_source(error)),
                "load the guest's driver: modprobe tdx_guest",
            ))
        }
        (
            Reports::Present,
            Err(TrialError::Refused(error @ AttesterError::Device { action: "create" | "write", .. })),
        ) => refused(CONFIGFS.fail(with_source(error))),
        (Reports::Present, Err(error)) => [CONFIGFS.ok("takes requests"), no_quote(error)],
        (Reports::Present, Ok(trial)) => {
            let quote = format!("{} bytes in {} ms", trial.evidence.len(), trial.took.as_millis());
            [provider(survey.place, &trial.provider), QUOTE.ok(quote)]
        }
    }
}

fn provider(place: Place, provider: &str) -> Finding {
    let found = format!("takes requests, provider {provider}");
    match (place, provider) {
        (Place::TdxGuest, "tdx_guest") | (Place::SnpGuest, "sev_guest") => CONFIGFS.ok(found),
        _ => CONFIGFS
            .fail_do(found, "load the driver of this platform: modprobe tdx_guest, or modprobe sev-guest"),
    }
}

/// Why there is no quote, and what that usually means (drivers/virt/coco/tdx-guest).
fn no_quote(error: &TrialError) -> Finding {
    let found = match error {
        TrialError::Refused(error) => with_source(error),
        error => error.to_string(),
    };
    const ADDRESS: &str = "on the host, look whether the quoting service runs (systemctl status qgsd) and whether the virtual machine has its \
         address: QEMU's object tdx-guest has quote-generation-socket, with vsock cid 2 and port 4050 or the path of a Unix \
         socket, as /etc/qgs.conf says";
    match error {
        TrialError::Late(_) => QUOTE.fail_do(found, ADDRESS),
        TrialError::Refused(AttesterError::Busy { .. }) => QUOTE.fail_do(
            found,
            "the host still holds an earlier request: look there whether the quoting service hangs, and start it again",
        ),
        TrialError::Refused(AttesterError::Interference { .. }) => {
            QUOTE.fail_do(found, "let no other process write to requests that it did not make")
        }
        TrialError::Refused(AttesterError::Quote(_)) => QUOTE
            .fail_do(found, "check the version of the quoting service on the host: it answered with no TDX quote"),
        TrialError::Refused(AttesterError::Device { source, .. }) => match source.raw_os_error() {
            // ETIMEDOUT, EINTR
            Some(110 | 4) => QUOTE.fail_do(found, ADDRESS),
            // EIO: the host said that GetQuote failed.
            Some(5) => QUOTE.fail_do(
                found,
                "the host refused: start the quoting service there (systemctl status qgsd, journalctl -u qgsd), and let it \
                 have the platform's PCK certificate from a PCCS (/etc/sgx_default_qcnl.conf)",
            ),
            // ENODEV, EINVAL, EOPNOTSUPP
            Some(19 | 22 | 95) => QUOTE.fail_do(
                found,
                "give the virtual machine a quoting service: QEMU's object tdx-guest without quote-generation-socket \
                 refuses every request",
            ),
            // EFBIG
            Some(27) => QUOTE.fail_do(found, "use a newer kernel in the guest, whose buffer holds such a quote"),
            _ => QUOTE.fail(found),
        },
        _ => QUOTE.fail(found),
    }
}

/// On a host: the service itself.
pub(super) fn quoting_of_host(place: Place, kernel: &Kernel) -> [Finding; 2] {
    let configfs = CONFIGFS.not_applicable(match place {
        Place::Other => "no TEE was found",
        _ => "guests ask through it, and this is a host",
    });
    let quote = match place {
        Place::TdxHost => match kernel.quoting_service() {
            QuotingService::Listens(socket) => QUOTE.ok(format!("{} takes connections", socket.display())),
            QuotingService::Runs => {
                QUOTE.ok("the process qgs runs; whether guests reach it over vsock, a guest tells")
            }
            QuotingService::Refuses(socket) => {
                QUOTE.fail_do(format!("{} takes no connection", socket.display()), START)
            }
            QuotingService::Missing => {
                QUOTE.fail_do("neither /run/tdx-qgs/qgs.socket nor a process qgs", START)
            }
        },
        Place::SnpHost => QUOTE.not_applicable("the processor signs reports itself"),
        _ => QUOTE.not_applicable("no TEE was found"),
    };
    [configfs, quote]
}

const START: &str = "install Intel's package tdx-qgs and start it: systemctl enable --now qgsd";

/// An error, and what the system said.
fn with_source(error: &AttesterError) -> String {
    let errno = |source: &io::Error| source.raw_os_error().and_then(errno);
    let cause = error.source().map(|source| match source.downcast_ref::<io::Error>() {
        Some(source) => match errno(source) {
            Some(name) => format!(": {name} ({source})"),
            None => format!(": {source}"),
        },
        None => format!(": {source}"),
    });
    format!("{error}{}", cause.unwrap_or_default())
}

/// The names of the errors that configfs-tsm and its drivers return.
fn errno(number: i32) -> Option<&'static str> {
    const NAMES: &[(i32, &str)] = &[
        (1, "EPERM"),
        (2, "ENOENT"),
        (4, "EINTR"),
        (5, "EIO"),
        (6, "ENXIO"),
        (13, "EACCES"),
        (16, "EBUSY"),
        (19, "ENODEV"),
        (22, "EINVAL"),
        (27, "EFBIG"),
        (95, "EOPNOTSUPP"),
        (110, "ETIMEDOUT"),
    ];
    NAMES.iter().find(|(listed, _)| *listed == number).map(|(_, name)| *name)
}
