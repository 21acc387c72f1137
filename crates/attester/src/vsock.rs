//! Intel TDX without configfs-tsm: a report from `/dev/tdx_guest` (Linux, `uapi/linux/tdx-guest.h`), sent to the host's quote
//! generation service over vsock. For hosts whose hypervisor passes on no hypercall for quotes, and for quotes that need not
//! wait until the kernel's driver looks again.
#![expect(
    unsafe_code,
    reason = "no safe call exists for a report and for a vsock address; each one says why it is sound"
)]

use std::fs::{File, OpenOptions};
use std::io;
use std::mem::{offset_of, size_of};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use confide_evidence::document::Endorsements;
use rustix::ioctl::{Opcode, Updater, ioctl, opcode};
use rustix::net::addr::{SocketAddrArg, SocketAddrLen, SocketAddrOpaque};
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};

use crate::boot_log;
use crate::device::{Cpu, Nature};
use crate::error::AttesterError;
use crate::qgs::{self, REPORT};
use crate::tsm::{self, Register};

/// The device that makes reports.
const DEVICE: &str = "/dev/tdx_guest";
/// How errors name the service.
pub(crate) const SERVICE: &str = "the quote generation service over vsock";
/// The host, for every guest (`VMADDR_CID_HOST`).
const HOST: u32 = 2;
/// The longest that an exchange takes. The kernel's own driver gives up after this time, too.
const PATIENCE: Duration = Duration::from_secs(30);

/// `struct tdx_report_req`.
#[repr(C)]
struct ReportRequest {
    report_data: [u8; 64],
    report: [u8; REPORT],
}

const _: () = assert!(size_of::<ReportRequest>() == 64 + REPORT && offset_of!(ReportRequest, report) == 64);

/// `TDX_CMD_GET_REPORT0`.
const GET_REPORT: Opcode = opcode::read_write::<ReportRequest>(b'T', 1);

/// Where reports and connections come from.
pub(crate) trait Machine: Send {
    fn report(&self, report_data: &[u8; 64]) -> io::Result<[u8; REPORT]>;
    fn connect(&self) -> io::Result<OwnedFd>;
}

/// The machine that this process runs on.
struct Kernel {
    device: File,
    port: u32,
}

impl Machine for Kernel {
    fn report(&self, report_data: &[u8; 64]) -> io::Result<[u8; REPORT]> {
        let mut request = ReportRequest { report_data: *report_data, report: [0; REPORT] };
        // SAFETY: the opcode is that of a call which reads and writes one `struct tdx_report_req`, whose layout the type has
        // (asserted above), and nothing else.
        let call = unsafe { Updater::<GET_REPORT, ReportRequest>::new(&mut request) };
        // SAFETY: the descriptor is open for as long as `self` is borrowed, and the pointer of `call` for as long as `request`
        // is. A device that does not know the opcode answers ENOTTY: the size is part of it.
        unsafe { ioctl(&self.device, call) }?;
        Ok(request.report)
    }

    /// The kernel gives up after two seconds.
    fn connect(&self) -> io::Result<OwnedFd> {
        let socket = socket_with(AddressFamily::VSOCK, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        connect(&socket, &Vsock::new(HOST, self.port))?;
        Ok(socket)
    }
}

/// `struct sockaddr_vm` (`uapi/linux/vm_sockets.h`).
#[repr(C)]
struct Vsock {
    family: u16,
    reserved: u16,
    port: u32,
    cid: u32,
    flags: u8,
    zero: [u8; 3],
}

const _: () = assert!(size_of::<Vsock>() == 16 && offset_of!(Vsock, cid) == 8);

impl Vsock {
    fn new(cid: u32, port: u32) -> Self {
        Self { family: AddressFamily::VSOCK.as_raw(), reserved: 0, port, cid, flags: 0, zero: [0; 3] }
    }
}

// SAFETY: the pointer is of an initialised `struct sockaddr_vm` without padding, which `self` holds for the call, and the length
// is its size.
unsafe impl SocketAddrArg for Vsock {
    unsafe fn with_sockaddr<R>(&self, f: impl FnOnce(*const SocketAddrOpaque, SocketAddrLen) -> R) -> R {
        #[expect(clippy::as_conversions, reason = "16 bytes, which `Vsock` asserts")]
        const LENGTH: SocketAddrLen = size_of::<Vsock>() as SocketAddrLen;
        f(std::ptr::from_ref(self).cast(), LENGTH)
    }
}

/// The TDX module by its report, and the host's service.
pub(crate) struct VsockTdx {
    machine: Box<dyn Machine>,
    register: Register,
    boot_log: Option<Vec<u8>>,
    patience: Duration,
}

impl VsockTdx {
    /// As with configfs-tsm, RTMR3 must not have been extended. The service listens on this port of the host; it is first asked
    /// with the first quote.
    pub(crate) fn open(port: u32) -> Result<Self, AttesterError> {
        let path = PathBuf::from(DEVICE);
        let opened = OpenOptions::new().read(true).write(true).open(&path);
        let device = opened.map_err(|source| AttesterError::NoPlatform { path, source })?;
        let machine = Box::new(Kernel { device, port });
        let register = Register::unused(tsm::RTMR3.into())?;
        let boot_log = boot_log::read(Path::new(boot_log::CCEL))?;
        Ok(Self { machine, register, boot_log, patience: PATIENCE })
    }
}

impl Cpu for VsockTdx {
    fn nature(&self) -> Nature {
        Nature::Hardware
    }

    fn extend_rtmr3(&mut self, digest: &[u8; 48]) -> Result<(), AttesterError> {
        self.register.extend(digest)
    }

    fn quote(&mut self, report_data: &[u8; 64]) -> Result<Vec<u8>, AttesterError> {
        let fault = |action, path: &'static str| {
            move |source| AttesterError::Device { action, path: path.into(), source }
        };
        let report = self.machine.report(report_data).map_err(fault("get a report from", DEVICE))?;
        let service = self.machine.connect().map_err(fault("connect to", SERVICE))?;
        tsm::without_padding(qgs::ask(&service, &report, self.patience)?)
    }

    fn boot_log(&self) -> Option<Vec<u8>> {
        self.boot_log.clone()
    }

    fn endorsements(&self) -> Option<Endorsements> {
        None
    }

    /// The device that makes reports is open.
    fn hand_to(&mut self, user: u32) -> Result<(), AttesterError> {
        self.register.hand_to(user)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::qgs::tests::{answer, framed, pair, read_request};
    use confide_evidence::tdx::{Padding, Quote};
    use confide_simulator::{PlatformOptions, SimulatedPlatform, SimulatedTd};
    use rustix::net::{accept, bind, listen};
    use std::thread;

    /// REPORTDATA in a TDREPORT (Intel TDX module ABI specification, REPORTMACSTRUCT).
    const REPORT_DATA: usize = 128;

    /// A machine without TDX: reports hold report data alone, and the service signs what it is sent.
    struct Emulated;

    fn serve(service: &OwnedFd) {
        let request = read_request(service);
        let report_data = request[28 + REPORT_DATA..][..64].try_into().unwrap();
        let platform = SimulatedPlatform::new(PlatformOptions::at(1_780_000_000)).unwrap();
        let mut quote = platform.quote(&SimulatedTd::default().report(report_data));
        quote.resize(quote.len() + 100, 0);
        let bytes = framed(&answer(&[3; 32], &quote));
        assert_eq!(rustix::io::write(service, &bytes), Ok(bytes.len()));
    }

    fn report_over(report_data: &[u8; 64]) -> [u8; REPORT] {
        let mut report = [0; REPORT];
        report[REPORT_DATA..][..64].copy_from_slice(report_data);
        report
    }

    impl Machine for Emulated {
        fn report(&self, report_data: &[u8; 64]) -> io::Result<[u8; REPORT]> {
            Ok(report_over(report_data))
        }

        fn connect(&self) -> io::Result<OwnedFd> {
            let (ours, theirs) = pair();
            thread::spawn(move || serve(&theirs));
            Ok(ours)
        }
    }

    fn tdx(machine: impl Machine + 'static) -> (VsockTdx, tempfile::TempDir) {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("rtmr3:sha384");
        std::fs::write(&path, [0; 48]).unwrap();
        let register = Register::unused(path).unwrap();
        (VsockTdx { machine: Box::new(machine), register, boot_log: None, patience: PATIENCE }, root)
    }

    #[test]
    fn a_quote_signs_the_report_data_and_loses_its_padding() {
        let (mut tdx, _root) = tdx(Emulated);
        for fill in [1, 2] {
            let quote = tdx.quote(&[fill; 64]).unwrap();
            assert_eq!(Quote::parse(&quote, Padding::Refused).unwrap().report.report_data, &[fill; 64]);
        }
    }

    #[test]
    fn the_calls_number_is_that_of_the_kernel() {
        // _IOWR('T', 1, struct tdx_report_req), of 1088 bytes.
        assert_eq!(GET_REPORT, 0xc440_5401);
    }

    #[test]
    fn a_machine_without_the_device_is_told_apart_from_a_fault() {
        if Path::new(DEVICE).exists() {
            println!("not run: a machine without {DEVICE}, for this one has it");
            return;
        }
        assert!(matches!(VsockTdx::open(4050).err(), Some(AttesterError::NoPlatform { .. })));
        // A device that makes no reports.
        let device = OpenOptions::new().read(true).write(true).open("/dev/null").unwrap();
        let (mut tdx, _root) = tdx(Kernel { device, port: 4050 });
        let refused = tdx.quote(&[1; 64]).unwrap_err();
        assert!(matches!(refused, AttesterError::Device { action: "get a report from", .. }), "{refused:?}");
    }

    /// The kernel's own vsock, from this machine to itself.
    #[test]
    fn the_service_is_reached_over_vsock() {
        const LOCAL: u32 = 1;
        const PORT: u32 = 40_500;
        let open = || socket_with(AddressFamily::VSOCK, SocketType::STREAM, SocketFlags::CLOEXEC, None);
        let listening = open().and_then(|listener| {
            bind(&listener, &Vsock::new(LOCAL, PORT))?;
            listen(&listener, 1)?;
            Ok(listener)
        });
        let listener = match listening {
            Ok(listener) => listener,
            Err(error) => {
                println!("not run: the kernel's vsock to this machine itself (vsock_loopback): {error}");
                return;
            }
        };
        let service = thread::spawn(move || serve(&accept(&listener).unwrap()));
        let socket = open().unwrap();
        connect(&socket, &Vsock::new(LOCAL, PORT)).unwrap();
        let quote = qgs::ask(&socket, &report_over(&[8; 64]), PATIENCE).unwrap();
        assert_eq!(Quote::parse(&quote, Padding::Zeros).unwrap().report.report_data, &[8; 64]);
        service.join().unwrap();
    }
}
