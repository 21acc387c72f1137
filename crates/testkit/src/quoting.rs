//! A host's quoting service for guests in QEMU that play TDX guests: it signs what QEMU was really started with.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use confide_simulator::{
    PlatformOptions, SimulatedBootLog, SimulatedPlatform, SimulatedTd, TdMeasurements, simulated_measurement,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha384};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

/// A request: report data, then RTMR3.
const REQUEST: usize = 64 + 48;
/// EBUSY, EIO (asm-generic/errno-base.h).
const EBUSY: i32 = 16;
const EIO: i32 = 5;
/// Size of the table that holds the log, in bytes.
const TABLE: usize = 65_536;

/// What the service does with requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Behaviour {
    /// Answers each with a quote.
    #[default]
    Honest,
    /// Is busy with somebody else's request twice, then honest.
    Busy,
    /// Fails.
    Fault,
    /// Never answers.
    Silent,
    /// Answers the second and each later request with the quote of the first.
    Repeat,
}

/// What a virtual machine starts with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// SHA-384 of the kernel's file.
    kernel: [u8; 48],
    /// SHA-384 of the file of the initial file system.
    initrd: [u8; 48],
    /// SHA-384 of the command line in UTF-16 with its end, as a UEFI loader measures its load options.
    command_line: [u8; 48],
}

impl Launch {
    /// Measures files and command line.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn measure(kernel: &Path, initrd: &Path, command_line: &str) -> Result<Self> {
        let file = |path: &Path| {
            let bytes = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
            Ok::<[u8; 48], anyhow::Error>(Sha384::digest(bytes).into())
        };
        let options = command_line.encode_utf16().chain([0]).flat_map(u16::to_le_bytes);
        let command_line = Sha384::digest(options.collect::<Vec<u8>>()).into();
        Ok(Self { kernel: file(kernel)?, initrd: file(initrd)?, command_line })
    }

    /// Measures what a running QEMU was started with: its own arguments, as the kernel shows them.
    ///
    /// # Errors
    /// When it has ended, or was started with no kernel of its own.
    pub fn of_process(id: u32) -> Result<Self> {
        let arguments = fs::read(format!("/proc/{id}/cmdline")).context("the arguments of QEMU")?;
        let arguments: Vec<&OsStr> = arguments.split(|byte| *byte == 0).map(OsStr::from_bytes).collect();
        let value = |option: &str| {
            let place = arguments.iter().position(|argument| *argument == option);
            let value = place.and_then(|place| arguments.get(place + 1));
            value.copied().with_context(|| format!("QEMU was started without {option}"))
        };
        let command_line = value("-append")?.to_str().context("a command line in UTF-8")?;
        let folder = PathBuf::from(format!("/proc/{id}/cwd"));
        Self::measure(&folder.join(value("-kernel")?), &folder.join(value("-initrd")?), command_line)
    }

    /// The log that firmware would have left of it.
    #[must_use]
    pub fn boot_log(&self) -> SimulatedBootLog {
        let mut log = SimulatedBootLog::default();
        for (name, digest) in [
            ("kernel image", self.kernel),
            ("initial file system", self.initrd),
            ("command line", self.command_line),
        ] {
            let simulated = simulated_measurement(name);
            let events = log.events.iter_mut().filter(|event| event.digest == simulated);
            events.for_each(|event| event.digest = digest);
        }
        log
    }

    /// The measurements that a quote signs: RTMR0 to RTMR2 as the log replays to them. No firmware is measured: MRTD is that
    /// of every simulated TD.
    #[must_use]
    pub fn measurements(&self) -> TdMeasurements {
        TdMeasurements { rtmr: self.boot_log().replay(), ..TdMeasurements::default() }
    }

    /// The measurements in the words of a policy, hexadecimal.
    #[must_use]
    pub fn reference_values(&self) -> Value {
        let TdMeasurements { mrtd, rtmr: [rtmr0, rtmr1, rtmr2, _], .. } = self.measurements();
        let hex = |register: [u8; 48]| confide_evidence::hex::encode(&register);
        json!({ "mr_td": hex(mrtd), "rtmr0": hex(rtmr0), "rtmr1": hex(rtmr1), "rtmr2": hex(rtmr2) })
    }

    /// The log in its table, as memory holds it at an address, and the body of the ACPI table CCEL that points to it (UEFI
    /// specification 2.10, section 38.4).
    #[must_use]
    pub fn event_log_tables(&self, address: u64) -> (Vec<u8>, Vec<u8>) {
        let log = self.boot_log().table(TABLE);
        // Intel TDX; no subtype; reserved.
        let mut pointer = vec![2, 0, 0, 0];
        pointer.extend((log.len() as u64).to_le_bytes());
        pointer.extend(address.to_le_bytes());
        (log, pointer)
    }
}

/// A platform that signs for the virtual machines of one host.
pub struct QuotingService {
    platform: SimulatedPlatform,
    behaviour: Behaviour,
    requests: u64,
    first: Option<Vec<u8>>,
}

impl QuotingService {
    /// A platform that is up to date at this time, Unix seconds.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new(behaviour: Behaviour, unix_seconds: u64) -> Result<Self> {
        let platform = SimulatedPlatform::new(PlatformOptions::at(unix_seconds))?;
        Ok(Self { platform, behaviour, requests: 0, first: None })
    }

    /// What endorses the platform, as a `QuoteCollateralV3` JSON object.
    #[must_use]
    pub fn collateral(&self) -> String {
        self.platform.collateral_json()
    }

    /// Serves the virtual machines that connect, one after the other, for as long as the process lives.
    ///
    /// # Errors
    /// When the socket fails, or a peer is no QEMU.
    pub async fn serve(&mut self, listener: &UnixListener) -> Result<()> {
        loop {
            let (stream, _) = listener.accept().await.context("accepting a virtual machine")?;
            let id = stream.peer_cred()?.pid().context("a peer without a process")?;
            let launch = Launch::of_process(u32::try_from(id)?)?;
            self.answer(stream, &launch).await?;
        }
    }

    /// Answers one virtual machine's requests until it ends.
    async fn answer(&mut self, mut stream: UnixStream, launch: &Launch) -> Result<()> {
        let mut request = [0; REQUEST];
        while stream.read_exact(&mut request).await.is_ok() {
            let answer = match self.answer_to(&request, launch) {
                Some(Ok(quote)) => [&i32::try_from(quote.len())?.to_le_bytes()[..], &quote].concat(),
                Some(Err(errno)) => (-errno).to_le_bytes().to_vec(),
                None => continue,
            };
            if stream.write_all(&answer).await.is_err() {
                break;
            }
        }
        Ok(())
    }

    /// A quote, the number of an error, or nothing.
    fn answer_to(&mut self, request: &[u8; REQUEST], launch: &Launch) -> Option<Result<Vec<u8>, i32>> {
        self.requests += 1;
        match self.behaviour {
            Behaviour::Busy if self.requests <= 2 => return Some(Err(EBUSY)),
            Behaviour::Fault => return Some(Err(EIO)),
            Behaviour::Silent => return None,
            Behaviour::Honest | Behaviour::Busy | Behaviour::Repeat => {}
        }
        let quote = self.quote(request, launch);
        let first = self.first.get_or_insert_with(|| quote.clone()).clone();
        Some(Ok(if self.behaviour == Behaviour::Repeat { first } else { quote }))
    }

    fn quote(&self, request: &[u8; REQUEST], launch: &Launch) -> Vec<u8> {
        let (report_data, rtmr3) = request.split_at(64);
        let mut measurements = launch.measurements();
        let [.., register] = &mut measurements.rtmr;
        register.copy_from_slice(rtmr3);
        let report_data = report_data.try_into().expect("64 bytes of a request");
        self.platform.quote(&SimulatedTd::new(measurements).report(report_data))
    }
}

/// Listens at a path where nothing may be yet.
///
/// # Errors
/// When something is there, or the socket cannot be made.
pub fn listen(socket: &Path) -> Result<UnixListener> {
    if socket.exists() {
        bail!("{} is there already", socket.display());
    }
    UnixListener::bind(socket).with_context(|| format!("listening at {}", socket.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use confide_evidence::tdx::{Padding, Quote};

    fn launch(command_line: &str) -> Launch {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        Launch::measure(&here.join("Cargo.toml"), &here.join("src/quoting.rs"), command_line).unwrap()
    }

    fn ask(service: &mut QuotingService, fill: u8) -> Option<Result<Vec<u8>, i32>> {
        let mut request = [fill; REQUEST];
        request[64..].fill(fill + 1);
        service.answer_to(&request, &launch("quiet"))
    }

    fn service(behaviour: Behaviour) -> QuotingService {
        QuotingService::new(behaviour, 1_790_812_800).unwrap()
    }

    #[test]
    fn a_quote_signs_the_launch_and_what_the_guest_sent() {
        let quote = ask(&mut service(Behaviour::Honest), 1).unwrap().unwrap();
        let quote = Quote::parse(&quote, Padding::Refused).unwrap();
        let [rtmr0, rtmr1, rtmr2, _] = launch("quiet").measurements().rtmr;
        assert_eq!(quote.report.report_data, &[1; 64]);
        assert_eq!(quote.report.rtmr, [&rtmr0, &rtmr1, &rtmr2, &[2; 48]]);
    }

    #[test]
    fn one_bit_of_the_command_line_changes_rtmr2_alone() {
        let [one, other] = ["quiet", "quieu"].map(|line| launch(line).measurements().rtmr);
        assert_eq!((one[0], one[1], one[3]), (other[0], other[1], other[3]));
        assert_ne!(one[2], other[2]);
        assert_ne!(one[1], TdMeasurements::default().rtmr[1], "the kernel is measured");
    }

    #[test]
    fn a_log_stands_in_its_table_at_its_address() {
        let (log, pointer) = launch("quiet").event_log_tables(0x2e00_0000);
        assert_eq!(log.len(), TABLE);
        assert_eq!(pointer, [2, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0x2e, 0, 0, 0, 0]);
    }

    #[test]
    fn the_service_misbehaves_as_told() {
        let mut busy = service(Behaviour::Busy);
        assert_eq!(ask(&mut busy, 1), Some(Err(EBUSY)));
        assert_eq!(ask(&mut busy, 1), Some(Err(EBUSY)));
        assert!(matches!(ask(&mut busy, 1), Some(Ok(_))));
        assert_eq!(ask(&mut service(Behaviour::Fault), 1), Some(Err(EIO)));
        assert_eq!(ask(&mut service(Behaviour::Silent), 1), None);
        let mut repeating = service(Behaviour::Repeat);
        assert_eq!(ask(&mut repeating, 1), ask(&mut repeating, 2));
    }
}
