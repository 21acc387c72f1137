//! NVML: `nvml.h` of CUDA 12.4 and later, as far as attestation calls it. A handle is the GPU's index and one.
#![expect(unsafe_code, reason = "C programs call these functions")]

use std::ffi::c_void;

use crate::scenario::Machine;
use crate::state::{self, fill, number};

const SUCCESS: i32 = 0;
const UNINITIALIZED: i32 = 1;
const INVALID_ARGUMENT: i32 = 2;
const NOT_FOUND: i32 = 6;
const ARGUMENT_VERSION_MISMATCH: i32 = 25;
const UNKNOWN: i32 = 999;
/// The version that simulated devices report, with the zero that ends it.
const DRIVER: &[u8] = b"580.95.05\0";
/// `NVML_DEVICE_ARCH_HOPPER` and `NVML_DEVICE_ARCH_BLACKWELL`.
const HOPPER: u32 = 9;
const BLACKWELL: u32 = 10;
/// The size of the structure and its version.
const SETTINGS_VERSION: u32 = 0x0100_0014;

/// `nvmlSystemConfComputeSettings_v1_t`.
#[repr(C)]
pub(crate) struct Settings {
    version: u32,
    environment: u32,
    feature: u32,
    dev_tools: u32,
    multi_gpu: u32,
}

/// `nvmlConfComputeGpuCertificate_t`.
#[repr(C)]
pub(crate) struct Certificate {
    chain_size: u32,
    attestation_chain_size: u32,
    chain: [u8; 0x1000],
    attestation_chain: [u8; 0x1400],
}

/// `nvmlConfComputeGpuAttestationReport_t`.
#[repr(C)]
pub(crate) struct Report {
    has_cec: u32,
    size: u32,
    cec_size: u32,
    nonce: [u8; 32],
    report: [u8; 0x2000],
    cec: [u8; 0x1000],
}

fn code(result: Result<(), i32>) -> i32 {
    result.err().unwrap_or(SUCCESS)
}

/// The place that the caller gave.
///
/// # Errors
/// `NVML_ERROR_INVALID_ARGUMENT` for null.
///
/// # Safety
/// The pointer is null or points to a `T` that is the caller's own during the call.
unsafe fn place<'a, T>(pointer: *mut T) -> Result<&'a mut T, i32> {
    // SAFETY: the caller's.
    unsafe { pointer.as_mut() }.ok_or(INVALID_ARGUMENT)
}

/// The index of a handle.
fn index(device: *mut c_void) -> Result<usize, i32> {
    device.addr().checked_sub(1).ok_or(INVALID_ARGUMENT)
}

/// `nvmlInit_v2`.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn nvmlInit_v2() -> i32 {
    code(state::call("nvmlInit_v2", None, UNKNOWN).map(drop))
}

/// `nvmlDeviceGetCount_v2`.
///
/// # Safety
/// The argument is null or the caller's own.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn nvmlDeviceGetCount_v2(count: *mut u32) -> i32 {
    code((|| {
        let (state, effect) = state::call("nvmlDeviceGetCount_v2", None, UNINITIALIZED)?;
        // SAFETY: the caller's.
        *unsafe { place(count) }? = number(effect, state.scenario.gpus.len() as u32);
        Ok(())
    })())
}

/// `nvmlSystemGetDriverVersion`.
///
/// # Safety
/// The pointer is null or points to as many bytes of the caller's own as the number says.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn nvmlSystemGetDriverVersion(version: *mut u8, length: u32) -> i32 {
    code((|| {
        let (_state, effect) = state::call("nvmlSystemGetDriverVersion", None, UNINITIALIZED)?;
        if version.is_null() {
            return Err(INVALID_ARGUMENT);
        }
        // SAFETY: the caller's.
        let version = unsafe { std::slice::from_raw_parts_mut(version, length as usize) };
        fill(version, DRIVER, effect);
        Ok(())
    })())
}

/// `nvmlDeviceGetArchitecture`.
///
/// # Safety
/// The second argument is null or the caller's own.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn nvmlDeviceGetArchitecture(device: *mut c_void, found: *mut u32) -> i32 {
    code((|| {
        let (state, effect) = state::call("nvmlDeviceGetArchitecture", None, UNINITIALIZED)?;
        index(device)?;
        let own = match state.scenario.machine {
            Machine::Hopper(_) | Machine::ProtectedPcie(_) => HOPPER,
            Machine::MultiPassthrough(_) => BLACKWELL,
        };
        // SAFETY: the caller's.
        *unsafe { place(found) }? = number(effect, own);
        Ok(())
    })())
}

/// `nvmlDeviceGetHandleByIndex_v2`.
///
/// # Safety
/// The second argument is null or the caller's own.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn nvmlDeviceGetHandleByIndex_v2(index: u32, device: *mut *mut c_void) -> i32 {
    code((|| {
        let (state, _) = state::call("nvmlDeviceGetHandleByIndex_v2", Some(index), UNINITIALIZED)?;
        if index as usize >= state.scenario.gpus.len() {
            return Err(INVALID_ARGUMENT);
        }
        // SAFETY: the caller's.
        *unsafe { place(device) }? = std::ptr::without_provenance_mut(index as usize + 1);
        Ok(())
    })())
}

/// `nvmlSystemGetConfComputeSettings`.
///
/// # Safety
/// The argument is null or the caller's own.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn nvmlSystemGetConfComputeSettings(settings: *mut Settings) -> i32 {
    code((|| {
        let (state, effect) = state::call("nvmlSystemGetConfComputeSettings", None, UNINITIALIZED)?;
        // SAFETY: the caller's.
        let settings = unsafe { place(settings) }?;
        if settings.version != SETTINGS_VERSION {
            return Err(ARGUMENT_VERSION_MISMATCH);
        }
        settings.environment = state.scenario.environment;
        settings.feature = state.scenario.feature;
        settings.dev_tools = number(effect, state.scenario.dev_tools);
        settings.multi_gpu = state.scenario.multi_gpu;
        Ok(())
    })())
}

/// `nvmlDeviceGetConfComputeGpuCertificate`.
///
/// # Safety
/// The second argument is null or the caller's own.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn nvmlDeviceGetConfComputeGpuCertificate(
    device: *mut c_void,
    found: *mut Certificate,
) -> i32 {
    code((|| {
        let (state, effect) = state::call("nvmlDeviceGetConfComputeGpuCertificate", None, UNINITIALIZED)?;
        let chain = state.gpu_chain(index(device)?).ok_or(NOT_FOUND)?;
        // SAFETY: the caller's.
        let found = unsafe { place(found) }?;
        found.chain_size = 0;
        found.attestation_chain_size = fill(&mut found.attestation_chain, &chain, effect);
        Ok(())
    })())
}

/// `nvmlDeviceGetConfComputeGpuAttestationReport`.
///
/// # Safety
/// The second argument is null or the caller's own.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn nvmlDeviceGetConfComputeGpuAttestationReport(
    device: *mut c_void,
    found: *mut Report,
) -> i32 {
    code((|| {
        let (state, effect) =
            state::call("nvmlDeviceGetConfComputeGpuAttestationReport", None, UNINITIALIZED)?;
        // SAFETY: the caller's.
        let found = unsafe { place(found) }?;
        let report = state.gpu_report(index(device)?, found.nonce).ok_or(NOT_FOUND)?;
        (found.has_cec, found.cec_size) = (0, 0);
        found.size = fill(&mut found.report, &report, effect);
        Ok(())
    })())
}

/// `nvmlSystemGetConfComputeGpusReadyState`.
///
/// # Safety
/// The argument is null or the caller's own.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn nvmlSystemGetConfComputeGpusReadyState(ready: *mut u32) -> i32 {
    code((|| {
        let (state, effect) = state::call("nvmlSystemGetConfComputeGpusReadyState", None, UNINITIALIZED)?;
        // SAFETY: the caller's.
        *unsafe { place(ready) }? = number(effect, state.ready);
        Ok(())
    })())
}

/// `nvmlSystemSetConfComputeGpusReadyState`.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn nvmlSystemSetConfComputeGpusReadyState(ready: u32) -> i32 {
    code((|| {
        let (mut state, effect) =
            state::call("nvmlSystemSetConfComputeGpusReadyState", Some(ready), UNINITIALIZED)?;
        state.ready = number(effect, ready);
        Ok(())
    })())
}
