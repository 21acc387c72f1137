//! NSCQ: `nscq.h` of API version 2.0 with its attestation paths. A UUID is the switch's position, sixteen times.
#![expect(unsafe_code, reason = "C programs call these functions")]

use std::ffi::{CStr, c_char, c_void};

use crate::scenario::Effect;
use crate::state::{self, State, fill};

const INVALID_UUID: i32 = -2;
const UNEXPECTED_VALUE: i32 = -5;
const UNSPECIFIED: i32 = -128;

/// `nscq_uuid_t`.
#[repr(C)]
pub(crate) struct Uuid([u8; 16]);

/// `nscq_label_t`.
#[repr(C)]
pub(crate) struct Label([u8; 64]);

/// `nscq_session_result_t`.
#[repr(C)]
pub(crate) struct SessionResult {
    code: i8,
    session: *mut c_void,
}

/// `nscq_attestation_report_t`.
#[repr(C)]
struct Report {
    size: u32,
    report: [u8; 0x2000],
}

/// `nscq_attestation_certificate_t`.
#[repr(C)]
struct Certificate {
    chain: [u8; 0x1400],
    size: u32,
}

/// `nscq_fn_t`, which is cast to the type that its path has.
type Callback = extern "C" fn();
type Typed<T> = extern "C" fn(*const Uuid, i8, T, *mut c_void);

fn code(result: Result<(), i32>) -> i8 {
    result.map_or_else(|code| i8::try_from(code).unwrap_or(i8::MIN), |()| 0)
}

/// `nscq_session_create`.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn nscq_session_create(_flags: u32) -> SessionResult {
    match state::call("nscq_session_create", None, UNSPECIFIED) {
        Ok((_, Some(Effect::Number(session)))) => {
            SessionResult { code: 0, session: std::ptr::without_provenance_mut(session as usize) }
        }
        Ok(_) => SessionResult { code: 0, session: std::ptr::without_provenance_mut(1) },
        Err(error) => SessionResult { code: code(Err(error)), session: std::ptr::null_mut() },
    }
}

/// `nscq_session_set_input`.
///
/// # Safety
/// The third argument is null or points to as many bytes as the fourth says.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn nscq_session_set_input(
    _session: *mut c_void,
    _flags: u32,
    input: *mut c_void,
    size: u32,
) -> i8 {
    code((|| {
        let (mut state, _) = state::call("nscq_session_set_input", Some(size), UNSPECIFIED)?;
        if input.is_null() {
            return Err(UNEXPECTED_VALUE);
        }
        // SAFETY: the caller's.
        state.input = unsafe { std::slice::from_raw_parts(input.cast::<u8>(), size as usize) }.to_vec();
        Ok(())
    })())
}

/// `nscq_uuid_to_label`.
///
/// # Safety
/// The pointers are null or the caller's own.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn nscq_uuid_to_label(uuid: *const Uuid, label: *mut Label, _flags: u32) -> i8 {
    code((|| {
        let (state, _) = state::call("nscq_uuid_to_label", None, UNSPECIFIED)?;
        // SAFETY: the caller's.
        let (Some(uuid), Some(label)) = (unsafe { uuid.as_ref() }, unsafe { label.as_mut() }) else {
            return Err(UNEXPECTED_VALUE);
        };
        let switch = state.scenario.switches.get(usize::from(uuid.0[0])).ok_or(INVALID_UUID)?;
        label.0 = [0; 64];
        fill(&mut label.0, switch.label.as_bytes(), None);
        Ok(())
    })())
}

/// `nscq_session_path_observe`.
///
/// # Safety
/// The path ends in a NUL, and the callback is the one that the path has.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn nscq_session_path_observe(
    _session: *mut c_void,
    path: *const c_char,
    callback: Callback,
    data: *mut c_void,
    _flags: u32,
) -> i8 {
    // SAFETY: the caller's.
    let path = unsafe { CStr::from_ptr(path) }.to_string_lossy().into_owned();
    let last = path.rsplit('/').next().unwrap_or_default().to_owned();
    code((|| {
        let (state, effect) = state::call(&last, None, UNSPECIFIED)?;
        let answer = Answer::of(effect, data);
        match path.as_str() {
            "/drv/nvswitch/{device}/uuid" => {
                let count = state.scenario.switches.len() as u8;
                drop(state);
                // SAFETY: the callback is the one of this path.
                let callback = unsafe { std::mem::transmute::<Callback, Typed<*const Uuid>>(callback) };
                for position in 0..count {
                    let uuid = Uuid([position; 16]);
                    answer.give(callback, || std::ptr::from_ref(&uuid));
                }
                Ok(())
            }
            _ => observe_switch(&state, &path, callback, &answer),
        }
    })())
}

fn observe_switch(state: &State, path: &str, callback: Callback, answer: &Answer) -> Result<(), i32> {
    let find = |end: &str| {
        let label = path.strip_prefix('/')?.strip_suffix(end)?;
        state.scenario.switches.iter().position(|switch| switch.label == label)
    };
    if let Some(switch) = find("/config/certificate") {
        let chain = state.switch_chain(switch).ok_or(UNSPECIFIED)?;
        // SAFETY: the callback is the one of this path.
        let callback = unsafe { std::mem::transmute::<Callback, Typed<Certificate>>(callback) };
        answer.give(callback, || {
            let mut found = Certificate { chain: [0; 0x1400], size: 0 };
            found.size = fill(&mut found.chain, &chain, answer.effect);
            found
        });
        return Ok(());
    }
    let switch = find("/config/attestation_report").ok_or(UNEXPECTED_VALUE)?;
    let report = state.switch_report(switch).ok_or(UNSPECIFIED)?;
    // SAFETY: the callback is the one of this path.
    let callback = unsafe { std::mem::transmute::<Callback, Typed<Report>>(callback) };
    answer.give(callback, || {
        let mut found = Report { size: 0, report: [0; 0x2000] };
        found.size = fill(&mut found.report, &report, answer.effect);
        found
    });
    Ok(())
}

/// How a callback is called.
struct Answer {
    code: i8,
    times: u32,
    effect: Option<Effect>,
    data: *mut c_void,
}

impl Answer {
    fn of(effect: Option<Effect>, data: *mut c_void) -> Self {
        let (code, times) = match effect {
            Some(Effect::Answer(code)) => (code, 1),
            Some(Effect::Times(times)) => (0, times),
            _ => (0, 1),
        };
        Self { code, times, effect, data }
    }

    fn give<T>(&self, callback: Typed<T>, value: impl Fn() -> T) {
        for _ in 0..self.times {
            callback(std::ptr::null(), self.code, value(), self.data);
        }
    }
}
