//! `confide doctor` as an operator meets it: on made-up machines whose kernel is a folder of files, with the services of
//! Intel and NVIDIA played by local ones and NVML by an emulator.
//!
//! A folder is no configfs: that the kernel makes a request's files with its folder, takes a value from one write and answers
//! with these errors, a TDX guest alone can show, as [`a_tdx_guest_gets_a_quote_of_its_host`] does where it runs in one.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    dead_code,
    missing_docs,
    reason = "tests"
)]

mod support;

use confide_evidence::document::TdxCollateral;
use confide_evidence::tdx::collateral_from_json;
use confide_nvidia_emulator::{Effect, Scenario, VARIABLE, journal, library};
use confide_simulator::{PlatformOptions, SimulatedBootLog, SimulatedNode, SimulatedPlatform, SimulatedTd};
use confide_testkit::vendor::{Endpoint, ListeningVendor, Manner, Misdeed, Vendor};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use support::{json, status, stderr, stdout};
use tempfile::TempDir;

const REPORTS: &str = "sys/kernel/config/tsm/report";
const RTMR3: &str = "sys/devices/virtual/misc/tdx_guest/measurements/rtmr3:sha384";
const SYNCHRONIZED: &str = "run/systemd/timesync/synchronized";

/// A folder with the files of a kernel.
struct Machine {
    folder: TempDir,
}

impl Machine {
    /// Nothing but a processor of these flags.
    fn of(flags: &str) -> Self {
        let machine = Self { folder: tempfile::tempdir().unwrap() };
        machine.file("proc/cpuinfo", format!("processor\t: 0\nflags\t\t: fpu {flags}\nbugs\t\t:\n"));
        fs::create_dir_all(machine.path("sys/bus/pci/devices")).unwrap();
        machine
    }

    /// A TDX guest with everything.
    fn tdx_guest() -> Self {
        let machine = Self::of("hypervisor tdx_guest");
        machine.file("dev/tdx_guest", "");
        machine.file(RTMR3, [0; 48]);
        machine.file("sys/firmware/acpi/tables/data/CCEL", SimulatedBootLog::default().to_bytes());
        machine.file(SYNCHRONIZED, "");
        fs::create_dir_all(machine.path(REPORTS)).unwrap();
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("root").join(name)
    }

    fn file(&self, name: &str, contents: impl AsRef<[u8]>) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), contents).unwrap();
    }

    fn without(&self, name: &str) {
        let path = self.path(name);
        if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
    }

    /// Has so many GPUs on its PCI bus, and a display controller of somebody else's.
    fn gpus_on_bus(&self, count: usize) {
        let function = |bus: usize, vendor: &str, class: &str| {
            self.file(&format!("sys/bus/pci/devices/0000:{bus:02x}:00.0/vendor"), vendor);
            self.file(&format!("sys/bus/pci/devices/0000:{bus:02x}:00.0/class"), class);
        };
        function(0, "0x8086\n", "0x030000\n");
        (1..=count).for_each(|bus| function(bus, "0x10de\n", "0x030200\n"));
    }

    /// `confide doctor` on it, without a network.
    fn offline(&self) -> Command {
        let mut command = self.doctor();
        command.arg("--offline");
        command
    }

    fn doctor(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_confide"));
        for name in
            ["HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR", VARIABLE]
        {
            command.env_remove(name);
        }
        command.env("NO_COLOR", "1").env("XDG_CACHE_HOME", self.folder.path().join("cache"));
        command.args(["doctor", "--danger-root"]).arg(self.folder.path().join("root"));
        command
    }
}

/// What the kernel and the host do with a request.
#[derive(Clone, Copy)]
enum Conduct {
    Quote,
    /// A quote over other report data than was asked.
    OtherData,
    Bytes(&'static [u8]),
    Errno(i32),
    Silent,
    /// The quote, and a generation that tells of another writer.
    Generation(&'static str),
}

/// Serves a machine's configfs-tsm until it is dropped.
struct Kernel {
    stop: Arc<AtomicBool>,
}

impl Kernel {
    fn serve(
        machine: &Machine,
        provider: &'static str,
        platform: &Arc<SimulatedPlatform>,
        conduct: Conduct,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (ended, reports, platform) = (Arc::clone(&stop), machine.path(REPORTS), Arc::clone(platform));
        thread::spawn(move || {
            let mut seen = BTreeSet::new();
            while !ended.load(Ordering::Relaxed) {
                for entry in fs::read_dir(&reports).into_iter().flatten().flatten() {
                    if entry.path().is_dir() && seen.insert(entry.path()) {
                        fill(entry.path(), provider, Arc::clone(&platform), conduct);
                    }
                }
                thread::sleep(Duration::from_millis(2));
            }
        });
        Self { stop }
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Fills the folder of a request as the kernel does. `provider` comes last: then everything is there.
fn fill(request: PathBuf, provider: &str, platform: Arc<SimulatedPlatform>, conduct: Conduct) {
    fs::write(request.join("generation"), "0\n").unwrap();
    fs::write(request.join("inblob"), "").unwrap();
    mknodat(CWD, request.join("outblob"), FileType::Fifo, Mode::RWXU, 0).unwrap();
    if let Conduct::Errno(number) = conduct {
        fs::write(request.join("outblob.errno"), number.to_string()).unwrap();
    }
    let ready = request.join("provider.new");
    fs::write(&ready, provider).unwrap();
    fs::rename(ready, request.join("provider")).unwrap();
    if matches!(conduct, Conduct::Silent | Conduct::Errno(_)) {
        return;
    }
    thread::spawn(move || {
        // Opening it to read asks for the evidence.
        let Ok(mut outblob) = OpenOptions::new().write(true).open(request.join("outblob")) else { return };
        let asked: [u8; 64] = fs::read(request.join("inblob")).unwrap().try_into().unwrap();
        let generation = if let Conduct::Generation(text) = conduct { text } else { "1\n" };
        fs::write(request.join("generation"), generation).unwrap();
        let td = SimulatedTd::default();
        let answer = match conduct {
            Conduct::Bytes(bytes) => bytes.to_vec(),
            Conduct::OtherData => platform.quote(&td.report([7; 64])),
            _ => platform.quote(&td.report(asked)),
        };
        outblob.write_all(&answer).unwrap();
    });
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn simulated(change: impl FnOnce(&mut PlatformOptions)) -> Arc<SimulatedPlatform> {
    let mut options = PlatformOptions::at(now());
    change(&mut options);
    Arc::new(SimulatedPlatform::new(options).unwrap())
}

fn collateral(platform: &SimulatedPlatform) -> TdxCollateral {
    let collateral = collateral_from_json(platform.collateral_json().as_bytes()).unwrap();
    TdxCollateral { pck_certificate_chain: None, ..collateral }
}

/// A TDX guest, its kernel, and a PCCS that endorses its platform.
struct Rig {
    machine: Machine,
    platform: Arc<SimulatedPlatform>,
    service: ListeningVendor,
    _kernel: Kernel,
}

impl Rig {
    async fn new() -> Self {
        Self::with(|_| (), Conduct::Quote).await
    }

    async fn with(change: impl FnOnce(&mut PlatformOptions), conduct: Conduct) -> Self {
        let (machine, platform) = (Machine::tdx_guest(), simulated(change));
        let vendor = Vendor::new(Manner::Pccs).unwrap().endorsing("standard", collateral(&platform));
        let service = vendor.listen().await.unwrap();
        fs::write(machine.folder.path().join("pccs.pem"), service.vendor.certificate()).unwrap();
        let kernel = Kernel::serve(&machine, "tdx_guest\n", &platform, conduct);
        Self { machine, platform, service, _kernel: kernel }
    }

    /// `confide doctor` under the policy of the simulator, asking the PCCS.
    fn doctor(&self) -> Command {
        let mut command = self.machine.doctor();
        command.arg("--danger-policy").arg(danger_policy());
        command.args(["--json", "--pccs", &self.service.url(), "--pccs-certificate"]);
        command.arg(self.machine.folder.path().join("pccs.pem"));
        command
    }
}

fn danger_policy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies/danger-simulator.toml")
}

/// The findings of a command that ends with this status, in JSON.
#[track_caller]
fn told(command: &mut Command, expected: i32) -> Value {
    let output = run(command, expected);
    let told = json(&output);
    let codes: Vec<&str> = told["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|finding| finding["code"].as_str().unwrap())
        .collect();
    let all: Vec<&str> = confide::DOCTOR.iter().map(|(code, ..)| *code).collect();
    assert_eq!(codes, all, "every check is told of, in its order");
    let any = |status| told["findings"].as_array().unwrap().iter().any(|finding| finding["status"] == status);
    let (failed, complete) = (any("fail"), !any("not_run"));
    let said = (&told["complete"], &told["healthy"]);
    assert_eq!(said, (&Value::from(complete), &Value::from(complete && !failed)));
    // Without a failure 10 is for a TDX guest alone, whose TCB could not be told.
    assert!(if failed {
        expected == 10
    } else {
        expected == 0 || told["machine"] == "tdx_guest" && !complete
    });
    told
}

#[track_caller]
fn run(command: &mut Command, expected: i32) -> Output {
    let output = command.output().unwrap();
    assert_eq!(status(&output), expected, "{command:?}\n{}\n{}", stdout(&output), stderr(&output));
    output
}

/// Holds one finding: its status, words of what was found, and that a remedy is there where one must be.
#[track_caller]
fn holds(told: &Value, code: &str, status: &str, words: &str) {
    let finding =
        told["findings"].as_array().unwrap().iter().find(|finding| finding["code"] == code).unwrap();
    assert_eq!(finding["status"], status, "{finding}");
    assert!(finding["found"].as_str().unwrap().contains(words), "{finding}");
    let remedy = finding["remedy"].as_str().unwrap_or_default();
    if ["warn", "fail"].contains(&status) {
        assert!(!remedy.is_empty(), "{finding}");
    }
}

#[track_caller]
fn remedy(told: &Value, code: &str) -> String {
    let finding =
        told["findings"].as_array().unwrap().iter().find(|finding| finding["code"] == code).unwrap();
    finding["remedy"].as_str().unwrap_or_default().to_owned()
}

const OF_TDX: [&str; 10] = [
    "doctor_tdx_module",
    "doctor_tdx_device",
    "doctor_runtime_register",
    "doctor_boot_log",
    "doctor_configfs_tsm",
    "doctor_quote_signature",
    "doctor_platform",
    "doctor_collateral",
    "doctor_tcb",
    "doctor_appraisal",
];

#[test]
fn a_machine_without_a_tee_is_told_so_and_every_check_gives_its_reason() {
    let machine = Machine::of("hypervisor");
    let told = told(machine.offline().arg("--json"), 10);
    assert_eq!((&told["machine"], &told["simulated"]), (&Value::from("none"), &Value::from(true)));
    holds(&told, "doctor_tee", "fail", "no TEE: a virtual machine, no kvm_intel.tdx, no kvm_amd.sev_snp");
    for code in OF_TDX.into_iter().chain(["doctor_sev_snp", "doctor_quoting_service"]) {
        holds(&told, code, "not_applicable", "no TEE was found");
    }
    for code in ["doctor_gpu_driver", "doctor_gpu_mode", "doctor_gpu_rim"] {
        holds(&told, code, "not_applicable", "no GPU of NVIDIA's");
    }
    holds(&told, "doctor_clock", "warn", "nothing else says the time");
    let off = Machine::of("");
    off.file("sys/module/kvm_intel/parameters/tdx", "N\n");
    off.file("sys/module/kvm_amd/parameters/sev_snp", "N\n");
    let told = self::told(off.offline().arg("--json"), 10);
    holds(&told, "doctor_tee", "fail", "no hypervisor, kvm_intel.tdx is N, kvm_amd.sev_snp is N");
}

/// This very machine, whatever it is: what is found is not known, that all is told is.
#[test]
fn the_machine_of_this_test_is_told_of() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_confide"));
    command.env("XDG_CACHE_HOME", "/nonexistent").args([
        "doctor",
        "--offline",
        "--json",
        "--quote-timeout",
        "5",
    ]);
    let output = command.output().unwrap();
    assert!([0, 10].contains(&status(&output)), "{}{}", stdout(&output), stderr(&output));
    let told = json(&output);
    assert_eq!(told["simulated"], false);
    assert_eq!(told["findings"].as_array().unwrap().len(), confide::DOCTOR.len());
    assert!(stderr(&output).is_empty(), "progress is for terminals: {}", stderr(&output));
}

#[test]
fn a_tdx_guest_gets_a_quote_of_its_host() {
    let place = confide_attester::kernel::Kernel::running().survey().place;
    if place != confide_attester::kernel::Place::TdxGuest {
        println!(
            "not run: a quote through the kernel's own configfs-tsm: this machine is no TDX guest ({place:?})"
        );
        return;
    }
    let output =
        Command::new(env!("CARGO_BIN_EXE_confide")).args(["doctor", "--json", "--offline"]).output().unwrap();
    let told = json(&output);
    assert_eq!((&told["machine"], &told["simulated"]), (&Value::from("tdx_guest"), &Value::from(false)));
    for code in ["doctor_tdx_module", "doctor_tdx_device", "doctor_configfs_tsm", "doctor_quoting_service"] {
        holds(&told, code, "ok", "");
    }
    holds(&told, "doctor_quote_signature", "ok", "up to an accepted root");
}

#[test]
fn a_host_is_looked_at_as_a_host() {
    let host = Machine::of("tdx_host_platform");
    let told = told(host.offline().arg("--json"), 10);
    assert_eq!(told["machine"], "tdx_host");
    holds(&told, "doctor_tdx_module", "fail", "kvm_intel, where it is loaded, knows no tdx");
    holds(&told, "doctor_quoting_service", "fail", "neither /run/tdx-qgs/qgs.socket nor a process qgs");
    for code in ["doctor_tdx_device", "doctor_configfs_tsm", "doctor_sev_snp"] {
        holds(&told, code, "not_applicable", "");
    }
    for code in
        ["doctor_quote_signature", "doctor_platform", "doctor_collateral", "doctor_tcb", "doctor_appraisal"]
    {
        holds(&told, code, "not_run", "only guests have one");
        assert_eq!(remedy(&told, code), "run it in a guest of this host");
    }
    host.file("sys/module/kvm_intel/parameters/tdx", "N\n");
    holds(&self::told(host.offline().arg("--json"), 10), "doctor_tdx_module", "fail", "kvm_intel.tdx is N");

    host.file("sys/module/kvm_intel/parameters/tdx", "Y\n");
    host.file("proc/12/comm", "qgs\n");
    host.file(SYNCHRONIZED, "");
    let told = self::told(host.offline().arg("--json"), 0);
    holds(&told, "doctor_tdx_module", "ok", "does not show the module's version");
    holds(&told, "doctor_quoting_service", "ok", "the process qgs runs");
    host.file("sys/devices/faux/tdx_host/version", "1.5.16\n");
    fs::create_dir_all(host.path("run/tdx-qgs")).unwrap();
    let socket = UnixListener::bind(host.path("run/tdx-qgs/qgs.socket")).unwrap();
    let told = self::told(host.offline().arg("--json"), 0);
    holds(&told, "doctor_tdx_module", "ok", "TDX module 1.5.16");
    holds(&told, "doctor_quoting_service", "ok", "qgs.socket takes connections");
    drop(socket);
    let told = self::told(host.offline().arg("--json"), 10);
    holds(&told, "doctor_quoting_service", "fail", "takes no connection");
}

#[test]
fn a_host_of_sev_snp_is_told_what_it_lacks() {
    let host = Machine::of("sev_snp");
    let told = told(host.offline().arg("--json"), 10);
    assert_eq!(told["machine"], "snp_host");
    holds(&told, "doctor_tee", "warn", "confide-guest serves on Intel TDX alone");
    holds(&told, "doctor_sev_snp", "fail", "kvm_amd is not loaded");
    host.file("sys/module/kvm_amd/parameters/sev_snp", "N\n");
    holds(&self::told(host.offline().arg("--json"), 10), "doctor_sev_snp", "fail", "kvm_amd.sev_snp is N");
    host.file("sys/module/kvm_amd/parameters/sev_snp", "Y\n");
    let told = self::told(host.offline().arg("--json"), 0);
    holds(&told, "doctor_sev_snp", "ok", "kvm_amd.sev_snp is Y");
    holds(&told, "doctor_quoting_service", "not_applicable", "the processor signs reports itself");
    holds(&told, "doctor_tdx_module", "not_applicable", "AMD SEV-SNP host");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_healthy_guest_is_healthy() {
    let rig = Rig::new().await;
    let told = told(&mut rig.doctor(), 0);
    assert_eq!((&told["machine"], &told["simulated"]), (&Value::from("tdx_guest"), &Value::from(true)));
    for code in OF_TDX.into_iter().chain(["doctor_tee", "doctor_quoting_service"]) {
        holds(&told, code, "ok", "");
    }
    holds(&told, "doctor_configfs_tsm", "ok", "provider tdx_guest");
    holds(&told, "doctor_quoting_service", "ok", " ms");
    holds(&told, "doctor_platform", "ok", "FMSPC 53494d000000 under the platform CA");
    holds(&told, "doctor_collateral", "ok", "expires first: ");
    holds(&told, "doctor_tcb", "ok", "UpToDate");
    holds(&told, "doctor_sev_snp", "not_applicable", "this is an Intel TDX guest");
    holds(&told, "doctor_clock", "ok", "(HTTP Date)");
    let requests: Vec<_> = fs::read_dir(rig.machine.path(REPORTS)).unwrap().collect();
    assert!(requests.is_empty(), "the request is removed");
    // The cache does for the next one.
    let told = self::told(rig.doctor().arg("--offline"), 0);
    holds(&told, "doctor_collateral", "ok", "");
    holds(&told, "doctor_clock", "ok", "systemd-timesyncd");
    rig.machine.without(SYNCHRONIZED);
    let told = self::told(rig.doctor().arg("--offline"), 0);
    holds(&told, "doctor_clock", "warn", "within the window of Intel's collateral");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_people_read_says_the_same() {
    let rig = Rig::new().await;
    let mut command = rig.machine.offline();
    let text = stdout(&run(&mut command, 10));
    assert!(text.starts_with("SIMULATED TO BE MENDED: "), "{text}");
    assert!(text.contains("├─ machine: Intel TDX guest\n"), "{text}");
    assert!(text.contains("   ✗ doctor_quote_signature\n       expected "), "{text}");
    assert!(
        text.contains("root_anchor"),
        "the simulator's root is none that policies/inspect.toml accepts: {text}"
    );
    assert!(text.contains("   · doctor_tcb: not run: the quote's signatures do not hold\n"), "{text}");
    for (code, ..) in confide::DOCTOR {
        assert!(text.contains(code), "{code}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_guest_lacks_is_named() {
    type Change = fn(&Machine);
    let cases: [(Change, &str, &str, &str); 7] = [
        (|machine| machine.without("dev/tdx_guest"), "doctor_tdx_device", "fail", "no /dev/tdx_guest"),
        (|machine| machine.without(RTMR3), "doctor_runtime_register", "fail", "rtmr3:sha384"),
        (
            |machine| machine.file(RTMR3, [1; 48]),
            "doctor_runtime_register",
            "ok",
            "was extended since the boot",
        ),
        (
            |machine| machine.file("sys/firmware/acpi/tables/data/CCEL", "no log"),
            "doctor_boot_log",
            "fail",
            "cannot be used",
        ),
        (
            |machine| machine.without("sys/firmware/acpi/tables/data/CCEL"),
            "doctor_boot_log",
            "warn",
            "policies that ask for the events",
        ),
        (
            |machine| machine.file("proc/cpuinfo", "flags\t\t: fpu hypervisor\n"),
            "doctor_tdx_module",
            "fail",
            "no flag tdx_guest",
        ),
        (|machine| machine.without(SYNCHRONIZED), "doctor_clock", "ok", "(HTTP Date)"),
    ];
    for (change, code, status, words) in cases {
        let rig = Rig::new().await;
        change(&rig.machine);
        // Without a log the policy of the simulator refuses the quote, too.
        let refused = status == "fail" || words.contains("policies that ask");
        let told = told(&mut rig.doctor(), if refused { 10 } else { 0 });
        holds(&told, code, status, words);
    }
}

#[test]
fn configfs_tsm_that_takes_no_request_is_told_by_its_cause() {
    let machine = Machine::tdx_guest();
    machine.without("sys/kernel/config/tsm");
    let told_now = || told(machine.offline().arg("--json"), 10);
    let told = told_now();
    holds(&told, "doctor_configfs_tsm", "fail", "/sys/kernel/config is missing or empty");
    assert!(remedy(&told, "doctor_configfs_tsm").contains("mount -t configfs"));
    holds(&told, "doctor_quoting_service", "not_run", "takes no request");
    holds(&told, "doctor_tcb", "not_run", "there is no quote");
    fs::create_dir_all(machine.path("sys/kernel/config/nullb")).unwrap();
    holds(&told_now(), "doctor_configfs_tsm", "fail", "configfs has no tsm/report");
    fs::create_dir_all(machine.path(REPORTS)).unwrap();
    for (errno, words, what_to_do) in
        [("6", "ENXIO", "modprobe tdx_guest"), ("13", "EACCES", "as root"), ("1", "EPERM", "as root")]
    {
        machine.file(&format!("{REPORTS}/create.errno"), errno);
        let told = told_now();
        holds(&told, "doctor_configfs_tsm", "fail", words);
        assert!(remedy(&told, "doctor_configfs_tsm").contains(what_to_do), "{told}");
        holds(&told, "doctor_quoting_service", "not_run", "");
    }
}

#[test]
fn a_quote_that_does_not_come_is_told_by_its_cause() {
    let platform = simulated(|_| ());
    for (conduct, words, what_to_do) in [
        (Conduct::Errno(110), "ETIMEDOUT", "quote-generation-socket"),
        (Conduct::Errno(4), "stayed busy", "start it again"),
        (Conduct::Errno(16), "stayed busy", "start it again"),
        (Conduct::Errno(5), "EIO", "sgx_default_qcnl.conf"),
        (Conduct::Errno(19), "ENODEV", "without quote-generation-socket"),
        (Conduct::Errno(22), "EINVAL", "without quote-generation-socket"),
        (Conduct::Errno(27), "EFBIG", "newer kernel"),
        (Conduct::Errno(12), "os error 12", "systemctl status qgsd"),
        (Conduct::Silent, "no answer within 1 seconds", "systemctl status qgsd"),
        (Conduct::Generation("2\n"), "generation 2 after 0", "no other process"),
        (Conduct::Bytes(b"no quote"), "no TDX quote", "version of the quoting service"),
    ] {
        let machine = Machine::tdx_guest();
        let _kernel = Kernel::serve(&machine, "tdx_guest\n", &platform, conduct);
        let told = told(machine.offline().args(["--json", "--quote-timeout", "1"]), 10);
        holds(&told, "doctor_quoting_service", "fail", words);
        assert!(remedy(&told, "doctor_quoting_service").contains(what_to_do), "{told}");
        holds(&told, "doctor_configfs_tsm", "ok", "takes requests");
        for code in ["doctor_quote_signature", "doctor_platform", "doctor_tcb"] {
            holds(&told, code, "not_run", "there is no quote");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quote_of_something_else_is_refused() {
    let rig = Rig::with(|_| (), Conduct::OtherData).await;
    let told = told(&mut rig.doctor(), 10);
    holds(&told, "doctor_quote_signature", "fail", "signs other report data");
    holds(&told, "doctor_tcb", "not_run", "");
    let machine = Machine::tdx_guest();
    let _kernel = Kernel::serve(&machine, "sev_guest\n", &simulated(|_| ()), Conduct::Quote);
    let told = self::told(machine.offline().arg("--json"), 10);
    holds(&told, "doctor_configfs_tsm", "fail", "provider sev_guest");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_tcb_status_has_its_finding_and_remedy() {
    for (status, what_to_do) in [
        ("SWHardeningNeeded", "hardened"),
        ("ConfigurationNeeded", "hyper-threading"),
        ("ConfigurationAndSWHardeningNeeded", "hardened against them"),
        ("OutOfDate", "BIOS, microcode"),
        ("OutOfDateConfigurationNeeded", "change the BIOS"),
        ("Revoked", "do not use this platform"),
    ] {
        let change = |options: &mut PlatformOptions| {
            options.tcb_levels[0].verdict.status = status.to_owned();
            options.tcb_levels[0].verdict.advisory_ids = vec!["INTEL-SA-09999".to_owned()];
        };
        let rig = Rig::with(change, Conduct::Quote).await;
        let told = told(&mut rig.doctor(), 10);
        holds(&told, "doctor_tcb", "fail", status);
        holds(&told, "doctor_tcb", "fail", "INTEL-SA-09999");
        assert!(remedy(&told, "doctor_tcb").contains(what_to_do), "{told}");
        holds(&told, "doctor_appraisal", "ok", "");
        // A policy that accepts the status, of which an operator should know all the same.
        if status != "Revoked" {
            let text = fs::read_to_string(danger_policy()).unwrap();
            let accepting = text.replace("[\"UpToDate\"]", &format!("[\"UpToDate\", \"{status}\"]"));
            assert_ne!(text, accepting);
            let file = rig.machine.folder.path().join("danger-accepting.toml");
            fs::write(&file, accepting).unwrap();
            let mut command = rig.machine.offline();
            let told = self::told(command.arg("--json").arg("--danger-policy").arg(file).args(pccs(&rig)), 0);
            holds(&told, "doctor_tcb", "warn", status);
        }
    }
}

/// The flags of the PCCS, under whose name the cache keeps what it gave.
fn pccs(rig: &Rig) -> [String; 4] {
    let certificate = rig.machine.folder.path().join("pccs.pem").display().to_string();
    ["--pccs".to_owned(), rig.service.url(), "--pccs-certificate".to_owned(), certificate]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tcb_recovery_that_comes_is_warned_of() {
    let rig = Rig::new().await;
    let early = simulated(|options| {
        options.tcb_levels[0].verdict.status = "OutOfDate".to_owned();
        options.evaluation_data_number += 1;
    });
    let vendor = Vendor::new(Manner::Pccs).unwrap();
    let vendor =
        vendor.endorsing("standard", collateral(&rig.platform)).endorsing("early", collateral(&early));
    let service = vendor.listen().await.unwrap();
    let rig = Rig { service, ..rig };
    fs::write(rig.machine.folder.path().join("pccs.pem"), rig.service.vendor.certificate()).unwrap();
    let told = told(rig.doctor().args(["--update", "both"]), 0);
    holds(&told, "doctor_tcb", "warn", "UpToDate; becomes OutOfDate with the next TCB recovery");
    assert!(remedy(&told, "doctor_tcb").contains("BIOS, microcode"));
}

#[tokio::test(flavor = "multi_thread")]
async fn collateral_that_is_not_to_be_had_is_a_warning_and_says_why() {
    let rig = Rig::new().await;
    let told = told(rig.doctor().arg("--offline"), 0);
    holds(&told, "doctor_collateral", "warn", "[endorsement_offline]");
    holds(&told, "doctor_tcb", "not_run", "there is no collateral");
    // What was not to be asked is no failure. What was asked and not told is one.
    rig.service.vendor.always(Endpoint::TcbInfo, Misdeed::Status(404, None));
    let told = self::told(&mut rig.doctor(), 10);
    assert_eq!((&told["complete"], &told["healthy"]), (&Value::from(false), &Value::from(false)));
    holds(&told, "doctor_collateral", "warn", "[endorsement_not_found]");
    holds(&told, "doctor_clock", "ok", "(HTTP Date)");
    rig.service.vendor.always(Endpoint::TcbInfo, Misdeed::MediaType("text/html"));
    let told = self::told(&mut rig.doctor(), 10);
    holds(&told, "doctor_collateral", "warn", "[endorsement_malformed]");
    let mut command = rig.machine.offline();
    let text = stdout(&run(command.arg("--danger-policy").arg(danger_policy()), 0));
    assert!(text.starts_with("SIMULATED INCOMPLETE, not run: 2, warnings: 1\n"), "{text}");
}

#[test]
fn a_guest_of_sev_snp_is_told_what_it_can_be_used_for() {
    let machine = Machine::of("hypervisor");
    machine.file("dev/sev-guest", "");
    machine.file(SYNCHRONIZED, "");
    fs::create_dir_all(machine.path(REPORTS)).unwrap();
    let _kernel = Kernel::serve(&machine, "sev_guest\n", &simulated(|_| ()), Conduct::Bytes(b"no report"));
    let told = told(machine.offline().arg("--json"), 10);
    assert_eq!(told["machine"], "snp_guest");
    holds(&told, "doctor_tee", "warn", "AMD SEV-SNP guest; confide-guest serves on Intel TDX alone");
    holds(&told, "doctor_sev_snp", "ok", "/dev/sev-guest");
    holds(&told, "doctor_configfs_tsm", "ok", "provider sev_guest");
    holds(&told, "doctor_quoting_service", "ok", "9 bytes");
    holds(&told, "doctor_platform", "fail", "no SEV-SNP report");
    holds(&told, "doctor_tcb", "not_applicable", "AMD publishes no list");
    let without = Machine::of("hypervisor");
    without.file("sys/devices/system/cpu/sev/vmpl", "0\n");
    let told = self::told(without.offline().arg("--json"), 10);
    holds(&told, "doctor_sev_snp", "fail", "no /dev/sev-guest");
    holds(&told, "doctor_configfs_tsm", "fail", "/sys/kernel/config is missing");
}

#[test]
fn bad_flags_are_wrong_usage() {
    let machine = Machine::of("");
    for words in [
        &["--quote-timeout", "0"][..],
        &["--quote-timeout", "601"],
        &["--quote-timeout", "soon"],
        &["--rim-service", "http://localhost"],
        &["--rim-service-certificate", "a.pem"],
        &["--pccs-certificate", "a.pem"],
        &["--root", "/"],
        &["--update", "never"],
    ] {
        run(machine.offline().args(words), 2);
    }
    let missing = machine.folder.path().join("missing.toml");
    let output = run(machine.offline().arg("--policy").arg(missing), 1);
    assert!(stderr(&output).contains("[file_unreadable]"), "{}", stderr(&output));
}

/// A machine with simulated GPUs, and a service of NVIDIA's that publishes their manifests.
struct Gpus {
    machine: Machine,
    service: ListeningVendor,
    scenario: PathBuf,
}

impl Gpus {
    async fn new(scenario: &Scenario) -> Self {
        let machine = Machine::of("hypervisor");
        machine.gpus_on_bus(scenario.gpus.len().max(1));
        let node = SimulatedNode {
            gpus: vec![confide_simulator::SimulatedGpu::new(0).unwrap()],
            switches: Vec::new(),
        };
        let vendor = Vendor::new(Manner::Pcs).unwrap().endorsing_node(&node, now()).unwrap();
        let service = vendor.listen().await.unwrap();
        fs::write(machine.folder.path().join("nvidia.pem"), service.vendor.certificate()).unwrap();
        let path = machine.folder.path().join("scenario.json");
        fs::write(&path, serde_json::to_vec(scenario).unwrap()).unwrap();
        Self { machine, service, scenario: path }
    }

    fn doctor(&self) -> Command {
        let mut command = self.machine.doctor();
        command.env(VARIABLE, &self.scenario).arg("--danger-nvml").arg(library().unwrap());
        command.args(["--json", "--rim-service", &self.service.url(), "--rim-service-certificate"]);
        command.arg(self.machine.folder.path().join("nvidia.pem"));
        command
    }

    /// The findings; the machine has no TEE, so that something always fails.
    #[track_caller]
    fn told(&self) -> Value {
        let told = told(&mut self.doctor(), 10);
        let calls = fs::read_to_string(journal(&self.scenario)).unwrap();
        assert!(
            !calls.contains("nvmlSystemSetConfComputeGpusReadyState"),
            "the ready state is left alone: {calls}"
        );
        told
    }
}

const OF_GPUS: [&str; 7] = [
    "doctor_gpu_driver",
    "doctor_gpu_mode",
    "doctor_gpu_dev_tools",
    "doctor_gpu_environment",
    "doctor_gpu_ready_state",
    "doctor_gpu_evidence",
    "doctor_gpu_rim",
];

#[tokio::test(flavor = "multi_thread")]
async fn healthy_gpus_are_healthy_and_keep_their_ready_state() {
    for ready in [0, 1] {
        let gpus = Gpus::new(&Scenario { ready, ..Scenario::of_gpus(2) }).await;
        let told = gpus.told();
        for code in OF_GPUS {
            holds(&told, code, "ok", "");
        }
        holds(&told, "doctor_gpu_driver", "ok", "driver 580.95.05, GPUs: 2, architecture Hopper");
        holds(
            &told,
            "doctor_gpu_ready_state",
            "ok",
            if ready == 0 { "not ready: " } else { "ready: the GPUs" },
        );
        holds(&told, "doctor_gpu_evidence", "ok", "driver 580.95.05, VBIOS ");
        holds(&told, "doctor_gpu_rim", "ok", "NV_GPU_DRIVER_GH100_580.95.05 (published)");
        holds(&told, "doctor_gpu_rim", "ok", "NV_GPU_VBIOS_");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn machines_with_switches_and_blackwells_are_read() {
    let gpus = Gpus::new(&Scenario::protected_pcie(8, 4)).await;
    let told = gpus.told();
    holds(&told, "doctor_gpu_mode", "ok", "protected PCIe");
    holds(&told, "doctor_gpu_evidence", "ok", "devices that report: 12");
    holds(&told, "doctor_gpu_rim", "fail", "NVIDIA publishes none for NV_SWITCH_BIOS_");
    let gpus = Gpus::new(&Scenario::multi_passthrough(2)).await;
    let told = gpus.told();
    holds(&told, "doctor_gpu_driver", "ok", "architecture Blackwell");
    holds(&told, "doctor_gpu_mode", "ok", "encrypted NVLink");
    holds(&told, "doctor_gpu_rim", "fail", "NVIDIA publishes none for ");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_gpus_lack_is_named() {
    const SETTINGS: &str = "nvmlSystemGetConfComputeSettings";
    const READY: &str = "nvmlSystemGetConfComputeGpusReadyState";
    const REPORT: &str = "nvmlDeviceGetConfComputeGpuAttestationReport";
    const COUNT: &str = "nvmlDeviceGetCount_v2";
    let one = || Scenario::of_gpus(1);
    for (scenario, code, words) in [
        (
            Scenario { feature: 0, ..one() },
            "doctor_gpu_mode",
            "confidential-computing mode of the GPUs is off",
        ),
        (one().with(SETTINGS, 1, Effect::Return(3)), "doctor_gpu_mode", "[gpu_mode_off]"),
        (one().with(SETTINGS, 1, Effect::Return(999)), "doctor_gpu_mode", "[gpu_call_failed]"),
        (Scenario { dev_tools: 1, ..one() }, "doctor_gpu_dev_tools", "tools may look into the GPUs"),
        (Scenario { environment: 1, ..one() }, "doctor_gpu_environment", "SIM"),
        (one().with(READY, 1, Effect::Return(4)), "doctor_gpu_ready_state", "[gpu_call_failed]"),
        (one().with(REPORT, 1, Effect::Return(15)), "doctor_gpu_evidence", "[gpu_lost]"),
        (one().with(REPORT, 1, Effect::Number(100)), "doctor_gpu_evidence", "device 0: its report: "),
        (one().with(COUNT, 1, Effect::Return(999)), "doctor_gpu_driver", "[gpu_call_failed]"),
        (one().with("nvmlInit_v2", 1, Effect::Return(9)), "doctor_gpu_driver", "driver not loaded"),
        (one().with("nvmlDeviceGetArchitecture", 1, Effect::Number(8)), "doctor_gpu_driver", "number 8"),
        (Scenario::of_gpus(0), "doctor_gpu_driver", "counts no GPU, and 1 GPU on the PCI bus"),
    ] {
        let gpus = Gpus::new(&scenario).await;
        let told = gpus.told();
        holds(&told, code, "fail", words);
        assert!(!told["findings"].to_string().contains("panicked"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn gpus_that_the_driver_does_not_count_are_missed() {
    let gpus = Gpus::new(&Scenario::of_gpus(1)).await;
    gpus.machine.gpus_on_bus(2);
    let told = gpus.told();
    holds(&told, "doctor_gpu_driver", "fail", "GPUs: 1, architecture Hopper; 2 GPUs on the PCI bus");
    assert!(remedy(&told, "doctor_gpu_driver").contains("the GPU that is missing"));
    gpus.machine.without("sys/bus/pci/devices");
    let told = gpus.told();
    holds(&told, "doctor_gpu_driver", "not_run", "the PCI bus cannot be read");
    holds(&told, "doctor_gpu_mode", "ok", "");
}

#[test]
fn a_bus_that_cannot_be_read_is_not_taken_for_one_without_gpus() {
    let machine = Machine::of("hypervisor");
    machine.without("sys/bus/pci/devices");
    let missing = ["--danger-nvml", "/nonexistent/libnvidia-ml.so.1", "--json"];
    let told = told(machine.offline().args(missing), 10);
    for code in OF_GPUS {
        holds(&told, code, "not_run", "there is no NVML, and the PCI bus cannot be read");
        assert!(remedy(&told, code).contains("mount sysfs"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_is_looked_for_in_the_store_and_then_at_nvidias() {
    let gpus = Gpus::new(&Scenario::of_gpus(1)).await;
    let store = gpus.machine.folder.path().join("store");
    let offline = |store: &Path| told(gpus.doctor().arg("--offline").arg("--rim-store").arg(store), 10);
    let told = offline(&store);
    holds(&told, "doctor_gpu_rim", "not_run", "not in a store: NV_GPU_DRIVER_GH100_580.95.05");
    assert!(remedy(&told, "doctor_gpu_rim").contains("--rim-store"));
    gpus.service.vendor.always(Endpoint::RimIds, Misdeed::Status(404, None));
    let told = gpus.told();
    holds(&told, "doctor_gpu_rim", "warn", "[endorsement_not_found]");
    gpus.service.vendor.always(Endpoint::RimIds, Misdeed::Body(br#"{"ids": []}"#.to_vec()));
    let told = gpus.told();
    holds(
        &told,
        "doctor_gpu_rim",
        "fail",
        "NVIDIA publishes none for NV_GPU_DRIVER_GH100_580.95.05, NV_GPU_VBIOS_",
    );
    // What `confide rim fetch` keeps is found without a network.
    let ids: Vec<String> = words_of(&told, "doctor_gpu_rim");
    let mut fetch = Command::new(env!("CARGO_BIN_EXE_confide"));
    fetch.args(["rim", "fetch", "--rim-service", &gpus.service.url(), "--service-certificate"]);
    fetch
        .arg(gpus.machine.folder.path().join("nvidia.pem"))
        .arg("--store")
        .arg(&store)
        .arg("--id")
        .args(&ids);
    run(&mut fetch, 0);
    let told = offline(&store);
    holds(&told, "doctor_gpu_rim", "ok", "NV_GPU_DRIVER_GH100_580.95.05 (store)");
}

/// The ids of manifests in what was found.
fn words_of(told: &Value, code: &str) -> Vec<String> {
    let finding =
        told["findings"].as_array().unwrap().iter().find(|finding| finding["code"] == code).unwrap();
    let words = finding["found"].as_str().unwrap().split([' ', ',', ';']);
    words.filter(|word| word.starts_with("NV_GPU_")).map(str::to_owned).collect()
}

#[test]
fn a_gpu_without_a_driver_is_told_where_one_is_needed() {
    let missing = ["--danger-nvml", "/nonexistent/libnvidia-ml.so.1", "--json"];
    let guest = Machine::of("hypervisor");
    guest.gpus_on_bus(1);
    let told = told(guest.offline().args(missing), 10);
    holds(&told, "doctor_gpu_driver", "fail", "[gpu_library_missing]; 1 GPU on the PCI bus");
    assert!(remedy(&told, "doctor_gpu_driver").contains("install the NVIDIA driver"));
    holds(&told, "doctor_gpu_mode", "not_run", "the driver does not answer");
    let host = Machine::of("tdx_host_platform");
    host.gpus_on_bus(1);
    let told = self::told(host.offline().args(missing), 10);
    for code in OF_GPUS {
        holds(&told, code, "not_applicable", "the guests that it gives its GPUs to");
    }
}
