//! NVSwitches through NSCQ, the switches' configuration and query library: the few functions that attestation needs.
//!
//! Declarations follow NVIDIA's header `nscq.h`, API version 2.0, with the attestation types of driver 550.
#![expect(unsafe_code, reason = "NSCQ is a C library")]

use std::ffi::{CString, c_char, c_void};
use std::path::Path;
use std::ptr::NonNull;

use confide_evidence::document::{DeviceEvidence, DeviceKind, MAX_DEVICES};
use libloading::Library;

use super::error::GpuError;
use super::nvml::cut;

/// `NSCQ_SESSION_CREATE_MOUNT_DEVICES`.
const MOUNT_DEVICES: u32 = 1;
const OBSERVE: &str = "nscq_session_path_observe";
const UUIDS: &str = "/drv/nvswitch/{device}/uuid";
const CERTIFICATE: &str = "config/certificate";
const REPORT: &str = "config/attestation_report";
/// What each code of `nscq_rc_t` means. A positive one is a warning, which leaves open what was done: it is refused too.
const CODES: &[(i8, &str)] = &[
    (1, "RDT init failure"),
    (-1, "not implemented"),
    (-2, "invalid UUID"),
    (-3, "resource not mountable"),
    (-4, "overflow"),
    (-5, "unexpected value"),
    (-6, "unsupported driver"),
    (-7, "driver error"),
    (-8, "timeout"),
    (-127, "external error"),
    (-128, "unspecified"),
];

/// `nscq_uuid_t`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Uuid([u8; 16]);

/// `nscq_label_t`: text that ends in a NUL.
#[repr(C)]
struct Label([u8; 64]);

/// `nscq_session_result_t`.
#[repr(C)]
struct SessionResult {
    code: i8,
    session: *mut c_void,
}

/// `nscq_attestation_report_t`.
#[repr(C)]
#[derive(Clone, Copy)]
struct RawReport {
    size: u32,
    bytes: [u8; 0x2000],
}

/// `nscq_attestation_certificate_t`.
#[repr(C)]
#[derive(Clone, Copy)]
struct RawChain {
    bytes: [u8; 0x1400],
    size: u32,
}

const _: () = assert!(size_of::<RawReport>() == 4 + 0x2000);
const _: () = assert!(size_of::<RawChain>() == 0x1400 + 4);
const _: () = assert!(size_of::<SessionResult>() == 16);

type Create = unsafe extern "C" fn(u32) -> SessionResult;
/// What NSCQ calls with each answer: the device, a code, the value and what the caller gave.
type Answer<T> = extern "C" fn(*const Uuid, i8, T, *mut c_void);
/// `nscq_session_path_observe` with the callback that its path has.
type Observe<T> = unsafe extern "C" fn(*mut c_void, *const c_char, Answer<T>, *mut c_void, u32) -> i8;

/// A session with every switch. NSCQ does not say that its functions may be called from several threads at once.
pub(super) struct Nscq {
    session: NonNull<c_void>,
    observe_uuids: Observe<*const Uuid>,
    observe_chain: Observe<RawChain>,
    observe_report: Observe<RawReport>,
    set_input: unsafe extern "C" fn(*mut c_void, u32, *mut c_void, u32) -> i8,
    to_label: unsafe extern "C" fn(*const Uuid, *mut Label, u32) -> i8,
    /// Keeps the functions in memory.
    _library: Library,
}

// SAFETY: a session is an address that no thread owns; the exclusive references of its methods keep calls apart.
unsafe impl Send for Nscq {}

impl Nscq {
    /// Loads the library and opens a session; `None` where the machine has no such library.
    pub(super) fn open(path: &Path) -> Result<Option<Self>, GpuError> {
        // SAFETY: loading runs the library's initialisers. It is the driver's own, named by this crate.
        let library = match unsafe { Library::new(path) } {
            Ok(library) => library,
            Err(error) if is_missing(path, &error) => return Ok(None),
            Err(source) => return Err(GpuError::Library { path: path.to_owned(), source }),
        };
        // SAFETY: the type is that of the header for this name.
        let create: Create = unsafe { function(&library, "nscq_session_create")? };
        // SAFETY: takes flags, gives a structure by value.
        let SessionResult { code, session } = unsafe { create(MOUNT_DEVICES) };
        check("nscq_session_create", None, code)?;
        let session = NonNull::new(session).ok_or(GpuError::Value { field: "the NSCQ session", found: 0 })?;
        // SAFETY: the types are those of the header for these names; the callback's is that of the path it serves.
        unsafe {
            Ok(Some(Self {
                session,
                observe_uuids: function(&library, OBSERVE)?,
                observe_chain: function(&library, OBSERVE)?,
                observe_report: function(&library, OBSERVE)?,
                set_input: function(&library, "nscq_session_set_input")?,
                to_label: function(&library, "nscq_uuid_to_label")?,
                _library: library,
            }))
        }
    }

    /// The names of all switches, in NSCQ's order.
    pub(super) fn switches(&mut self) -> Result<Vec<String>, GpuError> {
        let uuids = self.observed::<Uuid>(self.observe_uuids, UUIDS, UUIDS)?;
        if uuids.len() > MAX_DEVICES {
            return Err(GpuError::TooMany);
        }
        uuids.into_iter().map(|found| self.label(found?)).collect()
    }

    /// Certificate chain and report of a switch.
    pub(super) fn evidence(
        &mut self,
        position: usize,
        name: &str,
        nonce: &[u8; 32],
    ) -> Result<DeviceEvidence, GpuError> {
        let device = Some(position);
        let chain = self.one::<RawChain>(self.observe_chain, name, CERTIFICATE, device)?;
        let chain = cut(CERTIFICATE, device, &chain.bytes, chain.size)?;
        let mut input = *nonce;
        // SAFETY: NSCQ copies as many bytes as the last argument says, from an array of that length.
        let code = unsafe { (self.set_input)(self.session.as_ptr(), 0, input.as_mut_ptr().cast(), 32) };
        check("nscq_session_set_input", device, code)?;
        let report = self.one::<RawReport>(self.observe_report, name, REPORT, device)?;
        let report = cut(REPORT, device, &report.bytes, report.size)?;
        Ok(DeviceEvidence { kind: DeviceKind::NvidiaSwitch, chain: chain.into(), report: report.into() })
    }

    fn label(&mut self, uuid: Uuid) -> Result<String, GpuError> {
        let mut label = Label([0; 64]);
        // SAFETY: reads and writes structures of the header's layout.
        let code = unsafe { (self.to_label)(&uuid, &mut label, 0) };
        check("nscq_uuid_to_label", None, code)?;
        name(&label.0)
    }

    /// The one answer of one switch to `/NAME/PATH`.
    fn one<T: Kept>(
        &mut self,
        observe: Observe<T::Passed>,
        name: &str,
        path: &'static str,
        device: Option<usize>,
    ) -> Result<T, GpuError> {
        let mut answers = self.observed::<T>(observe, path, &format!("/{name}/{path}"))?;
        match (answers.pop(), answers.len()) {
            (Some(answer), 0) => answer.map_err(|error| at(error, device)),
            (answer, others) => {
                Err(GpuError::Answers { path, found: others.saturating_add(usize::from(answer.is_some())) })
            }
        }
    }

    /// Every answer to a path.
    fn observed<T: Kept>(
        &mut self,
        observe: Observe<T::Passed>,
        call: &'static str,
        path: &str,
    ) -> Result<Vec<Result<T, GpuError>>, GpuError> {
        let path = CString::new(path).map_err(|_| GpuError::SwitchName)?;
        let mut answers: Answers<T> = Answers(Vec::new());
        let data: *mut Answers<T> = &mut answers;
        // SAFETY: the session is open, the path ends in a NUL, and the callback is the one of that path. It is called
        // before this returns, with the pointer given here, behind which an `Answers` of its type lies until then.
        let code = unsafe { observe(self.session.as_ptr(), path.as_ptr(), T::CALLBACK, data.cast(), 0) };
        check(call, None, code)?;
        Ok(answers
            .0
            .into_iter()
            .map(|(code, value)| {
                check(call, None, code)?;
                value.ok_or(GpuError::Answers { path: call, found: 0 })
            })
            .collect())
    }
}

/// What is kept of an answer.
trait Kept: Sized {
    /// What NSCQ passes.
    type Passed;
    /// Keeps it in the `Answers<Self>` behind its last argument.
    const CALLBACK: Answer<Self::Passed>;
}

impl Kept for Uuid {
    type Passed = *const Uuid;
    const CALLBACK: Answer<*const Uuid> = on_uuid;
}

impl Kept for RawChain {
    type Passed = Self;
    const CALLBACK: Answer<Self> = on_chain;
}

impl Kept for RawReport {
    type Passed = Self;
    const CALLBACK: Answer<Self> = on_report;
}

/// What a callback keeps: codes, and values where the code is success.
struct Answers<T>(Vec<(i8, Option<T>)>);

impl<T: Kept> Answers<T> {
    /// Keeps one answer more than there may be devices.
    fn push(&mut self, code: i8, value: Option<T>) {
        if self.0.len() <= MAX_DEVICES {
            self.0.push((code, value.filter(|_| code == 0)));
        }
    }
}

extern "C" fn on_uuid(_device: *const Uuid, code: i8, uuid: *const Uuid, answers: *mut c_void) {
    // SAFETY: NSCQ gives null or a UUID that lives during the call.
    let uuid = unsafe { uuid.as_ref() }.copied();
    keep(answers, code, uuid);
}

extern "C" fn on_chain(_device: *const Uuid, code: i8, chain: RawChain, answers: *mut c_void) {
    keep(answers, code, Some(chain));
}

extern "C" fn on_report(_device: *const Uuid, code: i8, report: RawReport, answers: *mut c_void) {
    keep(answers, code, Some(report));
}

fn keep<T: Kept>(answers: *mut c_void, code: i8, value: Option<T>) {
    // SAFETY: null, or the `Answers<T>` that `observed` gave with the callback of `T`; nothing else uses it now.
    if let Some(answers) = unsafe { answers.cast::<Answers<T>>().as_mut() } {
        answers.push(code, value);
    }
}

/// A function of the library.
///
/// # Safety
/// `F` is the function pointer type that the header gives to the name.
unsafe fn function<F: Copy>(library: &Library, name: &'static str) -> Result<F, GpuError> {
    // SAFETY: the caller's.
    let found = unsafe { library.get::<F>(name.as_bytes()) };
    found.map(|symbol| *symbol).map_err(|_| GpuError::Function { library: "NSCQ", function: name })
}

/// Whether there is no such file. A library that is there and cannot be loaded is another matter.
fn is_missing(path: &Path, error: &libloading::Error) -> bool {
    let libloading::Error::DlOpen { desc } = error else { return false };
    let said = format!("{desc:?}");
    let beginning = format!("{}: cannot open shared object file: No such file", path.display());
    said.trim_start_matches('"').starts_with(&beginning)
}

fn check(call: &'static str, device: Option<usize>, code: i8) -> Result<(), GpuError> {
    if code == 0 {
        return Ok(());
    }
    let meaning = CODES.iter().find(|(listed, _)| *listed == code).map_or("", |(_, meaning)| meaning);
    Err(GpuError::Call { call, device, code: code.into(), meaning })
}

fn at(error: GpuError, device: Option<usize>) -> GpuError {
    match error {
        GpuError::Call { call, code, meaning, .. } => GpuError::Call { call, device, code, meaning },
        other => other,
    }
}

/// A label's text, which becomes part of a path.
fn name(label: &[u8; 64]) -> Result<String, GpuError> {
    let end = label.iter().position(|byte| *byte == 0).filter(|end| *end > 0).ok_or(GpuError::SwitchName)?;
    let text = label.get(..end).unwrap_or_default();
    if !text.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-') {
        return Err(GpuError::SwitchName);
    }
    Ok(text.iter().copied().map(char::from).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(text: &[u8]) -> [u8; 64] {
        let mut label = [0; 64];
        label[..text.len()].copy_from_slice(text);
        label
    }

    #[test]
    fn a_label_that_fits_in_a_path_is_taken() {
        assert_eq!(name(&label(b"SWX-0A1b")).unwrap(), "SWX-0A1b");
        assert_eq!(name(&label(&[b'a'; 63])).unwrap().len(), 63);
    }

    #[test]
    fn a_label_that_leaves_its_place_in_a_path_is_refused() {
        for text in [&b""[..], &[b'a'; 64], b"a/b", b"..", b"{nvswitch}", b"a b", b"\xff"] {
            assert!(matches!(name(&label(text)), Err(GpuError::SwitchName)), "{text:?}");
        }
    }

    #[test]
    fn a_library_that_is_not_there_is_no_error_and_a_broken_one_is() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Nscq::open(&folder.path().join("libnone.so")).unwrap().is_none());
        assert!(Nscq::open(Path::new("libconfide-none.so.2")).unwrap().is_none());
        let broken = folder.path().join("libbroken.so");
        std::fs::write(&broken, "no ELF file").unwrap();
        assert!(matches!(Nscq::open(&broken), Err(GpuError::Library { .. })));
    }
}
