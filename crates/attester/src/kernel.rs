//! What the kernel says of this machine, without changing anything: for who wants to know why a guest or host does not attest.
//!
//! | file | source |
//! |---|---|
//! | `/proc/cpuinfo`, flags `tdx_guest`, `tdx_host_platform`, `sev_snp`, `hypervisor` | arch/x86/include/asm/cpufeatures.h |
//! | `/sys/kernel/config/tsm/report` | Documentation/ABI/testing/configfs-tsm-report |
//! | `/sys/devices/virtual/misc/tdx_guest/measurements` | Documentation/ABI/testing/sysfs-devices-virtual-misc-tdx_guest |
//! | `/sys/devices/faux/tdx_host/version` | Documentation/ABI/testing/sysfs-devices-faux-tdx-host |
//! | `/sys/devices/system/cpu/sev/vmpl` | Documentation/ABI/testing/sysfs-devices-system-cpu |
//! | `/sys/module/kvm_intel/parameters/tdx`, `/sys/module/kvm_amd/parameters/sev_snp` | arch/x86/kvm |
//! | `/sys/bus/pci/devices` | Documentation/ABI/testing/sysfs-bus-pci |
//! | `/run/tdx-qgs/qgs.socket` | Intel TDX DCAP, Quote Generation Service |
//! | `/run/systemd/timesync/synchronized` | systemd-timesyncd.service(8) |

use std::fs;
use std::io::{self, Read as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use confide_evidence::hash::{length_prefixed, sha256};
use confide_evidence::hex;

use crate::boot_log;
use crate::deadline::{Unfinished, run};
use crate::error::AttesterError;
use crate::tsm::{Configfs, PROVIDER, REPORTS, RTMR3, Request, Requests, without_padding};

/// Where configfs is mounted.
const CONFIGFS: &str = "/sys/kernel/config";
/// What the report data of a trial quote begins with: no evidence document has such report data.
const TRIAL_DOMAIN: &[u8] = b"confide/trial-quote/v1";
/// The largest file of the kernel that is read, in bytes: `/proc/cpuinfo` of a thousand processors.
const MAX_KERNEL_FILE: u64 = 4 * 1024 * 1024;
/// The most functions of PCI devices that are looked at. Large machines have some thousand.
const MAX_PCI_FUNCTIONS: usize = 65_536;
/// The most processes that are looked at: the highest process number that Linux gives.
const MAX_PROCESSES: usize = 4_194_304;
/// For connecting to a socket of this machine.
const CONNECT: Duration = Duration::from_secs(5);

/// The kernel of this machine.
#[derive(Clone)]
pub struct Kernel {
    root: PathBuf,
    requests: Arc<dyn Requests>,
}

/// What kind of machine this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A virtual machine under Intel TDX.
    TdxGuest,
    /// A virtual machine under AMD SEV-SNP.
    SnpGuest,
    /// A machine that can run TDX guests, or whose platform could.
    TdxHost,
    /// A machine that can run SEV-SNP guests, or whose platform could.
    SnpHost,
    /// None of these.
    Other,
}

/// The place of configfs-tsm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reports {
    /// There is no `/sys/kernel/config`: the kernel has no configfs, or it is not mounted.
    NoConfigfs,
    /// Configfs is there and has no `tsm/report`: no driver of a guest is loaded, or the kernel is older than 6.7.
    NoReports,
    /// Requests can be made there.
    Present,
}

/// What RTMR3 is, as the measurement files of Linux 6.16 and later show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    /// There is no file for it.
    Missing,
    /// It cannot be read.
    Unreadable,
    /// Nothing was extended since the boot.
    Zeros,
    /// Something was extended.
    Extended,
}

/// The service of a TDX host that signs quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QuotingService {
    /// Its socket takes connections.
    Listens(PathBuf),
    /// A process of its name runs, and has no socket in the usual place: it may listen on vsock.
    Runs,
    /// Its socket is there and takes no connection.
    Refuses(PathBuf),
    /// There is neither.
    Missing,
}

/// What the kernel says of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survey {
    /// What kind of machine it is.
    pub place: Place,
    /// Whether it runs under a hypervisor.
    pub virtual_machine: bool,
    /// Parameter `tdx` of the module `kvm_intel`, where the module is loaded and knows it.
    pub kvm_tdx: Option<String>,
    /// Parameter `sev_snp` of the module `kvm_amd`, as that.
    pub kvm_snp: Option<String>,
    /// Whether the processor and its firmware offer TDX to a host: flag `tdx_host_platform`.
    pub tdx_platform: bool,
    /// Whether the processor offers SEV-SNP: flag `sev_snp`.
    pub snp_platform: bool,
    /// Version of the TDX module of a host, where the kernel shows it.
    pub tdx_module: Option<String>,
    /// Whether the kernel found itself in a TDX guest: flag `tdx_guest`.
    pub tdx_guest: bool,
    /// Whether `/dev/tdx_guest` is there.
    pub tdx_device: bool,
    /// Whether `/dev/sev-guest` is there.
    pub snp_device: bool,
    /// Configfs-tsm.
    pub reports: Reports,
    /// RTMR3.
    pub register: Register,
    /// Display controllers of NVIDIA on the PCI bus: GPUs. `None` where the bus cannot be read.
    pub nvidia_gpus: Option<usize>,
    /// Whether systemd-timesyncd says that the clock was set by the network. `None` where that service does not run: it
    /// says nothing about others.
    pub time_synchronized: Option<bool>,
}

/// Evidence over report data that no challenge has.
#[derive(Clone, PartialEq, Eq)]
pub struct Trial {
    /// Who gave it: `tdx_guest`, `sev_guest`.
    pub provider: String,
    /// A TDX quote without padding; of other providers what the kernel gave.
    pub evidence: Vec<u8>,
    /// What it must have signed.
    pub report_data: [u8; 64],
    /// How long the kernel and the host took.
    pub took: Duration,
}

/// Why there is no trial quote.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrialError {
    /// The kernel or the host refused.
    #[error(transparent)]
    Refused(#[from] AttesterError),
    /// Nobody answered.
    #[error("no answer within {} seconds", .0.as_secs_f32())]
    Late(Duration),
    /// The thread that waits for the answer cannot run.
    #[error("the thread that waits for the quote failed")]
    Thread,
}

impl Kernel {
    /// That under which this process runs.
    #[must_use]
    pub fn running() -> Self {
        Self { root: "/".into(), requests: Arc::new(Configfs) }
    }

    /// A folder with the files of a made-up kernel: whoever writes them decides what the machine seems to be. Requests to its
    /// configfs-tsm are served by another process, which fills their folders.
    #[cfg(feature = "danger-simulator")]
    #[must_use]
    pub fn danger_at(root: PathBuf) -> Self {
        Self { root, requests: Arc::new(crate::served::Served) }
    }

    /// What it says.
    #[must_use]
    pub fn survey(&self) -> Survey {
        let flags = self.cpu_flags();
        let has = |flag: &str| flags.iter().any(|one| one == flag);
        let mut survey = Survey {
            place: Place::Other,
            virtual_machine: has("hypervisor"),
            kvm_tdx: self.text("sys/module/kvm_intel/parameters/tdx"),
            kvm_snp: self.text("sys/module/kvm_amd/parameters/sev_snp"),
            tdx_platform: has("tdx_host_platform"),
            snp_platform: has("sev_snp"),
            tdx_module: self.text("sys/devices/faux/tdx_host/version"),
            tdx_guest: has("tdx_guest"),
            tdx_device: self.at("dev/tdx_guest").exists(),
            snp_device: self.at("dev/sev-guest").exists(),
            reports: self.reports(),
            register: self.register(),
            nvidia_gpus: self.nvidia_gpus(),
            time_synchronized: self
                .at("run/systemd/timesync")
                .is_dir()
                .then(|| self.at("run/systemd/timesync/synchronized").exists()),
        };
        let snp_guest = survey.snp_device || self.at("sys/devices/system/cpu/sev/vmpl").exists();
        survey.place = place(&survey, snp_guest);
        survey
    }

    /// The service that signs quotes for the guests of this host. Connects to its socket, where there is one.
    #[must_use]
    pub fn quoting_service(&self) -> QuotingService {
        let socket = self.at("run/tdx-qgs/qgs.socket");
        if !socket.exists() {
            return if self.runs("qgs") { QuotingService::Runs } else { QuotingService::Missing };
        }
        let target = socket.clone();
        match run("quoting-service", CONNECT, move || UnixStream::connect(target)) {
            Ok(Ok(_)) => QuotingService::Listens(socket),
            _ => QuotingService::Refuses(socket),
        }
    }

    /// The firmware's event log; nothing where the firmware or the kernel offers none.
    ///
    /// # Errors
    /// [`AttesterError::BootLog`] and [`AttesterError::Device`].
    pub fn boot_log(&self) -> Result<Option<Vec<u8>>, AttesterError> {
        boot_log::read(&self.at(boot_log::CCEL))
    }

    /// Asks for evidence through configfs-tsm and waits `limit` for it. The report data is a hash of a word of its own and of
    /// the nonce, so that the evidence answers no challenge and stands in no evidence document.
    ///
    /// The kernel itself gives up on a TDX host after 30 seconds.
    ///
    /// # Errors
    /// [`TrialError`]. After [`TrialError::Late`] the thread that waits is left behind, and, where the process ends
    /// before the kernel gives up, an empty request that nobody reads.
    pub fn trial(&self, nonce: &[u8; 32], limit: Duration) -> Result<Trial, TrialError> {
        let mut report_data = [0; 64];
        report_data[..32].copy_from_slice(&sha256(&length_prefixed(&[TRIAL_DOMAIN, nonce])).0);
        let requests = Arc::clone(&self.requests);
        // A request that nobody answered in time stays behind: the next one has another name.
        let name = hex::encode(&report_data[..8]);
        let path = self.at(REPORTS).join(format!("confide-trial-{name}"));
        let begun = Instant::now();
        // Somewhat less, so that what made the host busy is told, and not only that it was.
        let patience = limit.saturating_sub(limit.checked_div(8).unwrap_or_default());
        let asked = move || {
            let request = Request::create(path, requests.as_ref())?;
            let provider = request.provider()?;
            let evidence = request.answer(&report_data, patience)?;
            let evidence = if provider == PROVIDER { without_padding(evidence)? } else { evidence };
            Ok::<_, AttesterError>((provider, evidence))
        };
        match run("trial-quote", limit, asked) {
            Ok(Ok((provider, evidence))) => {
                Ok(Trial { provider, evidence, report_data, took: begun.elapsed() })
            }
            Ok(Err(error)) => Err(error.into()),
            Err(Unfinished::Late) => Err(TrialError::Late(limit)),
            Err(Unfinished::Thread) => Err(TrialError::Thread),
        }
    }

    /// A path of the kernel's.
    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// The text of a file without its line end; nothing where it cannot be read.
    fn text(&self, path: &str) -> Option<String> {
        bounded(&self.at(path)).ok().map(|text| text.trim_end().to_owned()).filter(|text| !text.is_empty())
    }

    /// The flags of the first processor.
    fn cpu_flags(&self) -> Vec<String> {
        let text = bounded(&self.at("proc/cpuinfo")).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("flags")?.trim_start().strip_prefix(':'));
        line.into_iter().flat_map(str::split_whitespace).map(str::to_owned).collect()
    }

    fn reports(&self) -> Reports {
        // An unmounted mount point is an empty folder.
        let mounted = || fs::read_dir(self.at(CONFIGFS)).is_ok_and(|mut entries| entries.next().is_some());
        match () {
            () if self.at(REPORTS).is_dir() => Reports::Present,
            () if mounted() => Reports::NoReports,
            () => Reports::NoConfigfs,
        }
    }

    fn register(&self) -> Register {
        match fs::read(self.at(RTMR3)) {
            Ok(register) if register == [0; 48] => Register::Zeros,
            Ok(_) => Register::Extended,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Register::Missing,
            Err(_) => Register::Unreadable,
        }
    }

    /// Functions of the vendor 0x10de and of the class 0x03, display controllers.
    fn nvidia_gpus(&self) -> Option<usize> {
        let entries = fs::read_dir(self.at("sys/bus/pci/devices")).ok()?;
        let of_nvidia = |function: &Path| {
            let read = |name: &str| bounded(&function.join(name)).unwrap_or_default();
            read("vendor").trim() == "0x10de" && read("class").starts_with("0x03")
        };
        Some(entries.flatten().take(MAX_PCI_FUNCTIONS).filter(|entry| of_nvidia(&entry.path())).count())
    }

    /// Whether a process of this name runs.
    fn runs(&self, name: &str) -> bool {
        let Ok(entries) = fs::read_dir(self.at("proc")) else { return false };
        let is_it = |process: &Path| bounded(&process.join("comm")).is_ok_and(|comm| comm.trim_end() == name);
        let number = |entry: &fs::DirEntry| {
            entry.file_name().to_str().is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
        };
        entries.flatten().take(MAX_PROCESSES).filter(number).any(|entry| is_it(&entry.path()))
    }
}

/// Guests first: a guest may see flags of its host's processor.
fn place(survey: &Survey, snp_guest: bool) -> Place {
    let on = |parameter: &Option<String>| parameter.as_deref() == Some("Y");
    match survey {
        _ if survey.tdx_guest || survey.tdx_device => Place::TdxGuest,
        _ if snp_guest => Place::SnpGuest,
        _ if on(&survey.kvm_tdx) || survey.tdx_platform && !survey.virtual_machine => Place::TdxHost,
        _ if on(&survey.kvm_snp) || survey.snp_platform && !survey.virtual_machine => Place::SnpHost,
        _ => Place::Other,
    }
}

fn bounded(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    fs::File::open(path)?.take(MAX_KERNEL_FILE).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use confide_evidence::transcript::REPORT_DATA_DOMAIN;

    fn survey() -> Survey {
        Survey {
            place: Place::Other,
            virtual_machine: false,
            kvm_tdx: None,
            kvm_snp: None,
            tdx_platform: false,
            snp_platform: false,
            tdx_module: None,
            tdx_guest: false,
            tdx_device: false,
            snp_device: false,
            reports: Reports::NoConfigfs,
            register: Register::Missing,
            nvidia_gpus: Some(0),
            time_synchronized: None,
        }
    }

    #[test]
    fn each_kind_of_machine_is_told_by_its_own_signs() {
        let yes = || Some("Y".to_owned());
        let no = || Some("N".to_owned());
        for (survey, snp_guest, expected) in [
            (Survey { tdx_guest: true, virtual_machine: true, ..survey() }, false, Place::TdxGuest),
            (Survey { tdx_device: true, ..survey() }, false, Place::TdxGuest),
            (Survey { snp_platform: true, virtual_machine: true, ..survey() }, true, Place::SnpGuest),
            (Survey { kvm_tdx: yes(), ..survey() }, false, Place::TdxHost),
            (Survey { tdx_platform: true, kvm_tdx: no(), ..survey() }, false, Place::TdxHost),
            (Survey { kvm_snp: yes(), ..survey() }, false, Place::SnpHost),
            (Survey { snp_platform: true, kvm_snp: no(), ..survey() }, false, Place::SnpHost),
            // What an ordinary virtual machine sees of its host's processor.
            (Survey { tdx_platform: true, virtual_machine: true, ..survey() }, false, Place::Other),
            (Survey { snp_platform: true, virtual_machine: true, ..survey() }, false, Place::Other),
            (Survey { kvm_tdx: no(), kvm_snp: no(), ..survey() }, false, Place::Other),
        ] {
            assert_eq!(place(&survey, snp_guest), expected, "{survey:?}");
        }
    }

    #[test]
    fn a_trial_has_a_domain_of_its_own() {
        assert_ne!(TRIAL_DOMAIN, REPORT_DATA_DOMAIN);
        assert!(
            !TRIAL_DOMAIN.starts_with(REPORT_DATA_DOMAIN) && !REPORT_DATA_DOMAIN.starts_with(TRIAL_DOMAIN)
        );
    }

    /// Of whatever machine runs this test.
    #[test]
    fn the_running_kernel_is_surveyed() {
        let survey = Kernel::running().survey();
        assert!(survey.place != Place::TdxGuest || survey.tdx_guest || survey.tdx_device, "{survey:?}");
    }

    #[test]
    fn a_machine_without_configfs_has_no_trial() {
        let folder = tempfile::tempdir().unwrap();
        let kernel = Kernel { root: folder.path().to_owned(), requests: Arc::new(Configfs) };
        let refused = kernel.trial(&[1; 32], Duration::from_secs(60));
        assert!(
            matches!(refused, Err(TrialError::Refused(AttesterError::Device { action: "create", .. }))),
            "there is no folder for requests"
        );
    }
}
