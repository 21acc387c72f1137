//! Intel TDX through the kernel: quotes by configfs-tsm (Documentation/ABI/testing/configfs-tsm-report), RTMR3 by
//! the measurement files of the tdx_guest device (Linux 6.16).

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use confide_evidence::document::Endorsements;
use confide_evidence::tdx::{MAX_QUOTE, Padding, Quote};

use crate::boot_log;
use crate::device::{Cpu, Nature};
use crate::error::AttesterError;

/// Where the kernel makes reports.
pub(crate) const REPORTS: &str = "/sys/kernel/config/tsm/report";
/// What extends RTMR3 when exactly 48 bytes are written to it.
pub(crate) const RTMR3: &str = "/sys/devices/virtual/misc/tdx_guest/measurements/rtmr3:sha384";
/// What evidence of hardware is made by writing to: a folder, in which others are made and removed, and a file.
pub const WRITTEN: [&str; 2] = [REPORTS, RTMR3];
/// What the kernel calls TDX.
pub(crate) const PROVIDER: &str = "tdx_guest";
/// How long to wait for a quoting service that is busy with an earlier request. The kernel gives up on one request
/// after 30 seconds.
const PATIENCE: Duration = Duration::from_secs(40);
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(20);

/// Makes and removes the directories that stand for requests, and reads what the kernel answers. The kernel fills a new one
/// with its files.
pub(crate) trait Requests: Send + Sync {
    fn create(&self, request: &Path) -> io::Result<()>;
    fn remove(&self, request: &Path) -> io::Result<()>;

    /// The answer; at most one byte more than a quote may have, so that the parser sees that it is too long.
    fn outblob(&self, request: &Path) -> io::Result<Vec<u8>> {
        read_bounded(&request.join("outblob"))
    }
}

pub(crate) struct Configfs;

impl Requests for Configfs {
    fn create(&self, request: &Path) -> io::Result<()> {
        fs::create_dir(request)
    }

    fn remove(&self, request: &Path) -> io::Result<()> {
        fs::remove_dir(request)
    }
}

/// The TDX module, as the kernel offers it.
pub(crate) struct ConfigfsTdx {
    reports: PathBuf,
    register: Register,
    boot_log: Option<Vec<u8>>,
    requests: Box<dyn Requests>,
    patience: Duration,
    /// Requests so far: names each one's directory.
    count: u64,
    /// The one request of a process that may make no others.
    kept: Option<PathBuf>,
}

impl ConfigfsTdx {
    /// Events replay from a register of zeros: where something was extended before, evidence of this boot would convince
    /// nobody.
    pub(crate) fn open() -> Result<Self, AttesterError> {
        let mut tdx = Self::at(REPORTS.into(), RTMR3.into(), Box::new(Configfs), PATIENCE)?;
        tdx.boot_log = boot_log::read(Path::new(boot_log::CCEL))?;
        Ok(tdx)
    }

    fn at(
        reports: PathBuf,
        rtmr3: PathBuf,
        requests: Box<dyn Requests>,
        patience: Duration,
    ) -> Result<Self, AttesterError> {
        require(&reports)?;
        let register = Register::unused(rtmr3)?;
        Ok(Self { reports, register, boot_log: None, requests, patience, count: 0, kept: None })
    }

    /// A name that no other process uses: the kernel shares the directory between all of them.
    fn next_request(&mut self) -> PathBuf {
        self.count = self.count.wrapping_add(1);
        self.reports.join(format!("confide-{}-{}", std::process::id(), self.count))
    }
}

impl Cpu for ConfigfsTdx {
    fn nature(&self) -> Nature {
        Nature::Hardware
    }

    fn extend_rtmr3(&mut self, digest: &[u8; 48]) -> Result<(), AttesterError> {
        self.register.extend(digest)
    }

    fn quote(&mut self, report_data: &[u8; 64]) -> Result<Vec<u8>, AttesterError> {
        let request = match &self.kept {
            Some(path) => Request::kept(path.clone(), self.requests.as_ref()),
            None => {
                let path = self.next_request();
                Request::create(path, self.requests.as_ref())?
            }
        };
        let provider = request.provider()?;
        if provider != PROVIDER {
            return Err(AttesterError::Provider { found: provider });
        }
        without_padding(request.answer(report_data, self.patience)?)
    }

    fn boot_log(&self) -> Option<Vec<u8>> {
        self.boot_log.clone()
    }

    fn endorsements(&self) -> Option<Endorsements> {
        None
    }

    /// The kernel lets root alone make requests and write to a new one: one request is made now, and kept.
    fn hand_to(&mut self, user: u32) -> Result<(), AttesterError> {
        let path = self.next_request();
        let mut request = Request::create(path.clone(), self.requests.as_ref())?;
        give(&request.path.join(INBLOB), user)?;
        self.register.hand_to(user)?;
        // Nobody could make another.
        request.kept = true;
        drop(request);
        self.kept = Some(path);
        Ok(())
    }
}

/// Makes a file one of `user`.
fn give(path: &Path, user: u32) -> Result<(), AttesterError> {
    chown(path, Some(user), None).map_err(|source| AttesterError::Device {
        action: "hand over",
        path: path.to_owned(),
        source,
    })
}

/// The file of RTMR3.
pub(crate) struct Register(PathBuf);

impl Register {
    /// The register in this file, which nobody has extended before.
    pub(crate) fn unused(file: PathBuf) -> Result<Self, AttesterError> {
        require(&file)?;
        let fault = |source| AttesterError::Device { action: "read", path: file.clone(), source };
        if fs::read(&file).map_err(fault)? != [0; 48] {
            return Err(AttesterError::RegisterUsed);
        }
        Ok(Self(file))
    }

    /// Lets another user extend it.
    pub(crate) fn hand_to(&self, user: u32) -> Result<(), AttesterError> {
        give(&self.0, user)
    }

    /// RTMR3 := SHA-384(RTMR3 ‖ digest).
    pub(crate) fn extend(&self, digest: &[u8; 48]) -> Result<(), AttesterError> {
        write_once(&self.0, digest)
    }
}

fn require(path: &Path) -> Result<(), AttesterError> {
    let fault = |source| AttesterError::NoPlatform { path: path.to_owned(), source };
    fs::metadata(path).map(drop).map_err(fault)
}

/// A quote without the zeros behind it.
pub(crate) fn without_padding(mut quote: Vec<u8>) -> Result<Vec<u8>, AttesterError> {
    let padding = Quote::parse(&quote, Padding::Zeros)?.padding;
    quote.truncate(quote.len().saturating_sub(padding));
    Ok(quote)
}

/// The file of a request that report data are written to.
const INBLOB: &str = "inblob";

/// One request to the kernel; its directory is removed at the end, whatever happened, unless it is one that is kept.
pub(crate) struct Request<'a> {
    path: PathBuf,
    requests: &'a dyn Requests,
    kept: bool,
}

impl<'a> Request<'a> {
    pub(crate) fn create(path: PathBuf, requests: &'a dyn Requests) -> Result<Self, AttesterError> {
        match requests.create(&path) {
            Ok(()) => Ok(Self { path, requests, kept: false }),
            // ENXIO: configfs-tsm is there, but no driver offers reports.
            Err(source) if source.raw_os_error() == Some(6) => {
                Err(AttesterError::NoPlatform { path, source })
            }
            Err(source) => Err(AttesterError::Device { action: "create", path, source }),
        }
    }

    /// One that is there.
    fn kept(path: PathBuf, requests: &'a dyn Requests) -> Self {
        Self { path, requests, kept: true }
    }

    /// Whose evidence the kernel gives: `tdx_guest`, `sev_guest`.
    pub(crate) fn provider(&self) -> Result<String, AttesterError> {
        self.text("provider")
    }

    /// The evidence over this report data, as the kernel gives it.
    pub(crate) fn answer(
        &self,
        report_data: &[u8; 64],
        patience: Duration,
    ) -> Result<Vec<u8>, AttesterError> {
        let before = self.generation()?;
        write_once(&self.path.join(INBLOB), report_data)?;
        let evidence = self.outblob(patience)?;
        let found = self.generation()?;
        if before.checked_add(1) != Some(found) {
            return Err(AttesterError::Interference { before, found });
        }
        Ok(evidence)
    }

    /// How often the request was written to. What is not a number is none that the kernel gives.
    fn generation(&self) -> Result<u64, AttesterError> {
        const FILE: &str = "generation";
        self.text(FILE)?.parse().map_err(|_| AttesterError::Device {
            action: "read",
            path: self.path.join(FILE),
            source: io::ErrorKind::InvalidData.into(),
        })
    }

    fn text(&self, attribute: &str) -> Result<String, AttesterError> {
        let path = self.path.join(attribute);
        let text = fs::read_to_string(&path).map_err(|source| AttesterError::Device {
            action: "read",
            path,
            source,
        })?;
        Ok(text.trim_end().to_owned())
    }

    /// Reading makes the quote. The driver says busy while the host still holds an earlier request that timed out.
    fn outblob(&self, patience: Duration) -> Result<Vec<u8>, AttesterError> {
        patiently(patience, || self.requests.outblob(&self.path)).map_err(|source| {
            match is_transient(&source) {
                true => AttesterError::Busy { seconds: patience.as_secs() },
                false => AttesterError::Device { action: "read", path: self.path.join("outblob"), source },
            }
        })
    }
}

impl Drop for Request<'_> {
    fn drop(&mut self) {
        if !self.kept {
            // What stays behind is an empty request of this process, which nobody reads.
            let _ = self.requests.remove(&self.path);
        }
    }
}

/// Tries again while the fault is transient and patience lasts.
fn patiently<T>(patience: Duration, mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let begun = Instant::now();
    loop {
        match attempt() {
            Err(error) if is_transient(&error) && begun.elapsed() < patience => thread::sleep(PAUSE),
            outcome => return outcome,
        }
    }
}

fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ResourceBusy | io::ErrorKind::Interrupted)
}

/// Writes all bytes in one call: the kernel takes a value from one write.
fn write_once(path: &Path, bytes: &[u8]) -> Result<(), AttesterError> {
    let written = OpenOptions::new().write(true).open(path).and_then(|mut file| file.write(bytes));
    let source = match written {
        Ok(count) if count == bytes.len() => return Ok(()),
        Ok(_) => io::Error::from(io::ErrorKind::WriteZero),
        Err(error) => error,
    };
    Err(AttesterError::Device { action: "write", path: path.to_owned(), source })
}

/// Reads at most one byte more than a quote may have.
fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(MAX_QUOTE).unwrap_or(u64::MAX).saturating_add(1);
    fs::File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use confide_simulator::{PlatformOptions, SimulatedPlatform, SimulatedTd};
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    use tempfile::TempDir;

    /// Fills a new directory as the kernel does. `outblob` is a pipe: opening it to read lets the quote be made.
    struct Emulated {
        provider: &'static str,
        /// What each request adds to the generation.
        writes: u64,
        padding: usize,
        fault: Option<i32>,
    }

    const KERNEL: Emulated = Emulated { provider: "tdx_guest\n", writes: 1, padding: 0, fault: None };

    impl Requests for Emulated {
        fn create(&self, request: &Path) -> io::Result<()> {
            if let Some(errno) = self.fault {
                return Err(io::Error::from_raw_os_error(errno));
            }
            fs::create_dir(request)?;
            fs::write(request.join("provider"), self.provider)?;
            fs::write(request.join("generation"), "0\n")?;
            fs::write(request.join("inblob"), "")?;
            mknodat(CWD, request.join("outblob"), FileType::Fifo, Mode::RWXU, 0)?;
            let (request, writes, padding) = (request.to_owned(), self.writes, self.padding);
            thread::spawn(move || {
                let mut generation = 0;
                // Until the request is removed.
                while let Ok(report_data) = fs::read(request.join(INBLOB)) {
                    let Ok(report_data) = report_data.try_into() else {
                        thread::sleep(Duration::from_millis(1));
                        continue;
                    };
                    let outblob = OpenOptions::new().write(true).open(request.join("outblob"));
                    let Ok(mut outblob) = outblob else { return };
                    fs::write(request.join(INBLOB), "").unwrap();
                    generation += writes;
                    fs::write(request.join("generation"), format!("{generation}\n")).unwrap();
                    let mut quote = quote_over(report_data);
                    quote.resize(quote.len() + padding, 0);
                    outblob.write_all(&quote).unwrap();
                }
            });
            Ok(())
        }

        fn remove(&self, request: &Path) -> io::Result<()> {
            fs::remove_dir_all(request)
        }
    }

    fn quote_over(report_data: [u8; 64]) -> Vec<u8> {
        let platform = SimulatedPlatform::new(PlatformOptions::at(1_780_000_000)).unwrap();
        platform.quote(&SimulatedTd::default().report(report_data))
    }

    fn tdx(kernel: Emulated) -> (ConfigfsTdx, TempDir) {
        let root = tempfile::tempdir().unwrap();
        let (reports, rtmr3) = (root.path().join("report"), root.path().join("rtmr3:sha384"));
        fs::create_dir(&reports).unwrap();
        fs::write(&rtmr3, [0; 48]).unwrap();
        (ConfigfsTdx::at(reports, rtmr3, Box::new(kernel), Duration::from_millis(50)).unwrap(), root)
    }

    fn remaining_requests(root: &TempDir) -> usize {
        fs::read_dir(root.path().join("report")).unwrap().count()
    }

    #[test]
    fn a_quote_signs_the_report_data_and_loses_its_padding() {
        for padding in [0, 3000] {
            let (mut tdx, root) = tdx(Emulated { padding, ..KERNEL });
            for fill in [1, 2] {
                let quote = tdx.quote(&[fill; 64]).unwrap();
                let parsed = Quote::parse(&quote, Padding::Refused).unwrap();
                assert_eq!(parsed.report.report_data, &[fill; 64]);
            }
            assert_eq!(remaining_requests(&root), 0);
        }
    }

    #[test]
    fn who_hands_over_keeps_one_request_that_the_other_user_writes_to() {
        // Handing over to oneself takes no privileges.
        let own = rustix::process::geteuid().as_raw();
        let (mut tdx, root) = tdx(KERNEL);
        tdx.quote(&[1; 64]).unwrap();
        tdx.hand_to(own).unwrap();
        assert_eq!(remaining_requests(&root), 1);
        // From now on none is made: the folder is another user's.
        let reports = root.path().join("report");
        for fill in [2, 3, 4] {
            let quote = tdx.quote(&[fill; 64]).unwrap();
            let parsed = Quote::parse(&quote, Padding::Refused).unwrap();
            assert_eq!(parsed.report.report_data, &[fill; 64]);
            let names: Vec<_> =
                fs::read_dir(&reports).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            assert_eq!(names, [format!("confide-{}-2", std::process::id()).as_str()]);
        }
        if !rustix::process::geteuid().is_root() {
            println!("not run: handing over to another user: these tests do not run as root");
            return;
        }
        use std::os::unix::fs::MetadataExt as _;
        let (mut tdx, root) = self::tdx(KERNEL);
        tdx.hand_to(992).unwrap();
        let request = root.path().join(format!("report/confide-{}-1", std::process::id()));
        let owner = |path: PathBuf| fs::metadata(path).unwrap().uid();
        assert_eq!([owner(request.join(INBLOB)), owner(root.path().join("rtmr3:sha384"))], [992, 992]);
        assert_eq!([owner(request.join("generation")), owner(root.path().join("report"))], [0, 0]);
    }

    #[test]
    fn a_kept_request_that_somebody_else_wrote_to_is_refused() {
        let (mut tdx, root) = tdx(KERNEL);
        tdx.hand_to(rustix::process::geteuid().as_raw()).unwrap();
        tdx.quote(&[1; 64]).unwrap();
        let request = root.path().join(format!("report/confide-{}-1", std::process::id()));
        // The kernel has counted a write of somebody else, and then ours.
        fs::write(request.join("generation"), "0\n").unwrap();
        let error = tdx.quote(&[2; 64]).unwrap_err();
        assert!(matches!(error, AttesterError::Interference { before: 0, found: 2 }), "{error}");
    }

    #[test]
    fn another_provider_is_refused() {
        let (mut tdx, root) = tdx(Emulated { provider: "sev_guest\n", ..KERNEL });
        let error = tdx.quote(&[1; 64]).unwrap_err();
        assert!(matches!(error, AttesterError::Provider { found } if found == "sev_guest"));
        assert_eq!(remaining_requests(&root), 0);
    }

    #[test]
    fn a_request_that_somebody_else_wrote_to_is_refused() {
        let (mut tdx, _root) = tdx(Emulated { writes: 2, ..KERNEL });
        let error = tdx.quote(&[1; 64]).unwrap_err();
        assert!(matches!(error, AttesterError::Interference { before: 0, found: 2 }));
    }

    #[test]
    fn a_machine_without_tdx_is_told_apart_from_a_fault() {
        let (mut tdx, _root) = self::tdx(Emulated { fault: Some(6), ..KERNEL });
        assert!(matches!(tdx.quote(&[1; 64]), Err(AttesterError::NoPlatform { .. })));
        let (mut tdx, _root) = self::tdx(Emulated { fault: Some(13), ..KERNEL });
        assert!(matches!(tdx.quote(&[1; 64]), Err(AttesterError::Device { action: "create", .. })));
        let missing = ConfigfsTdx::at("/nonexistent/a".into(), RTMR3.into(), Box::new(Configfs), PATIENCE);
        assert!(
            matches!(missing.err(), Some(AttesterError::NoPlatform { path, .. }) if path == Path::new("/nonexistent/a"))
        );
    }

    #[test]
    fn a_register_that_was_extended_before_is_refused() {
        let (mut tdx, root) = tdx(KERNEL);
        let (reports, rtmr3) = (root.path().join("report"), root.path().join("rtmr3:sha384"));
        let open = || ConfigfsTdx::at(reports.clone(), rtmr3.clone(), Box::new(KERNEL), PATIENCE).err();
        assert!(open().is_none());
        tdx.extend_rtmr3(&[9; 48]).unwrap();
        assert!(matches!(open(), Some(AttesterError::RegisterUsed)));
        for length in [0, 47, 49] {
            fs::write(&rtmr3, vec![0; length]).unwrap();
            assert!(matches!(open(), Some(AttesterError::RegisterUsed)), "{length} bytes are no SHA-384");
        }
    }

    #[test]
    fn a_busy_service_is_tried_again_until_patience_ends() {
        let busy = || io::Error::from_raw_os_error(16);
        let (mut attempts, begun) = (0, Instant::now());
        let outcome = patiently(PATIENCE, || {
            attempts += 1;
            if attempts < 3 { Err(busy()) } else { Ok(attempts) }
        });
        assert_eq!(outcome.unwrap(), 3);
        assert!(begun.elapsed() < Duration::from_secs(1), "no quote waits for the next second");
        let error = patiently(Duration::from_millis(30), || Err::<(), _>(busy())).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(16));
    }

    #[test]
    fn a_fault_of_the_service_is_not_tried_again() {
        let mut attempts = 0;
        let error = patiently(PATIENCE, || {
            attempts += 1;
            Err::<(), _>(io::Error::from_raw_os_error(5))
        });
        assert_eq!((error.unwrap_err().raw_os_error(), attempts), (Some(5), 1));
    }

    #[test]
    fn rtmr3_is_extended_by_one_write_of_48_bytes() {
        let (mut tdx, root) = tdx(KERNEL);
        tdx.extend_rtmr3(&[9; 48]).unwrap();
        assert_eq!(fs::read(root.path().join("rtmr3:sha384")).unwrap(), [9; 48]);
        fs::remove_file(root.path().join("rtmr3:sha384")).unwrap();
        assert!(matches!(tdx.extend_rtmr3(&[9; 48]), Err(AttesterError::Device { action: "write", .. })));
    }
}
