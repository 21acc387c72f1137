//! The few functions of NVML that are needed, with every number of the driver checked.
//!
//! Through `nvml-wrapper-sys` alone. `nvml-wrapper` (0.13.0) believes the driver, which is the host's here: on opening it already
//! asks for the driver's version and reads up to a NUL that the driver need not have written, past the 80 bytes that it has; it
//! slices reports and certificates by the sizes that the driver gives, and panics where they lie; it panics on closing where the
//! library has no `nvmlShutdown`. Without the version, reports and certificates, two calls would be left for it.
#![expect(unsafe_code, reason = "NVML is a C library")]

use std::os::raw::{c_char, c_uint};
use std::path::Path;

use confide_evidence::document::{DeviceEvidence, DeviceKind, MAX_DEVICES};
use nvml_wrapper_sys::bindings::{
    NvmlLib, nvmlConfComputeGpuAttestationReport_t, nvmlConfComputeGpuCertificate_t, nvmlDevice_t,
    nvmlReturn_t, nvmlSystemConfComputeSettings_t,
};

use super::environment::{ReadyState, Settings};
use super::error::GpuError;

/// `nvmlSystemConfComputeSettings_v1`: the size of the structure and its version.
const SETTINGS_VERSION: c_uint = 20 | 1 << 24;

/// `NVML_SYSTEM_DRIVER_VERSION_BUFFER_SIZE`.
const VERSION: usize = 80;

/// What each code of `nvmlReturn_t` means, as far as these calls return it.
const CODES: &[(nvmlReturn_t, &str)] = &[
    (1, "uninitialized"),
    (2, "invalid argument"),
    (3, "not supported"),
    (4, "no permission"),
    (6, "not found"),
    (9, "driver not loaded"),
    (10, "timeout"),
    (13, "function not found"),
    (15, "GPU is lost"),
    (16, "reset required"),
    (17, "refused by the operating system"),
    (18, "library and driver differ in version"),
    (25, "other version of the argument"),
    (27, "not ready"),
    (28, "GPU not found"),
    (29, "invalid state"),
    (999, "unknown"),
];
/// `NVML_ERROR_NOT_SUPPORTED`: to the settings, of GPUs that have no confidential mode.
const NOT_SUPPORTED: nvmlReturn_t = 3;
/// `NVML_ERROR_NOT_FOUND`, `_GPU_IS_LOST` and `_GPU_NOT_FOUND` of a device that was counted.
const LOST: [nvmlReturn_t; 3] = [6, 15, 28];

// What NVML writes to has the layout of its header.
const _: () = assert!(size_of::<nvmlSystemConfComputeSettings_t>() == 20);
const _: () = assert!(size_of::<nvmlConfComputeGpuCertificate_t>() == 8 + 0x1000 + 0x1400);
const _: () = assert!(size_of::<nvmlConfComputeGpuAttestationReport_t>() == 12 + 32 + 0x2000 + 0x1000);

type DeviceCall<T> = unsafe extern "C" fn(nvmlDevice_t, *mut T) -> nvmlReturn_t;
type SystemCall<T> = unsafe extern "C" fn(*mut T) -> nvmlReturn_t;

/// NVML, initialised. Its functions may be called from several threads (NVML API reference, "Thread safety").
pub(super) struct Nvml {
    count: SystemCall<c_uint>,
    handle: unsafe extern "C" fn(c_uint, *mut nvmlDevice_t) -> nvmlReturn_t,
    settings: SystemCall<nvmlSystemConfComputeSettings_t>,
    certificate: DeviceCall<nvmlConfComputeGpuCertificate_t>,
    report: DeviceCall<nvmlConfComputeGpuAttestationReport_t>,
    ready: SystemCall<c_uint>,
    set_ready: unsafe extern "C" fn(c_uint) -> nvmlReturn_t,
    /// Keeps the functions in memory, and has those that nothing depends on.
    library: NvmlLib,
}

impl Nvml {
    /// Loads the library and initialises it.
    pub(super) fn open(path: &Path) -> Result<Self, GpuError> {
        // SAFETY: loading runs the library's initialisers. It is the driver's own, named by this crate.
        let library = unsafe { NvmlLib::new(path) };
        let library = library.map_err(|source| GpuError::Library { path: path.to_owned(), source })?;
        let init = function(&library.nvmlInit_v2, "nvmlInit_v2")?;
        let nvml = Self {
            count: function(&library.nvmlDeviceGetCount_v2, "nvmlDeviceGetCount_v2")?,
            handle: function(&library.nvmlDeviceGetHandleByIndex_v2, "nvmlDeviceGetHandleByIndex_v2")?,
            settings: function(
                &library.nvmlSystemGetConfComputeSettings,
                "nvmlSystemGetConfComputeSettings",
            )?,
            certificate: function(
                &library.nvmlDeviceGetConfComputeGpuCertificate,
                "nvmlDeviceGetConfComputeGpuCertificate",
            )?,
            report: function(
                &library.nvmlDeviceGetConfComputeGpuAttestationReport,
                "nvmlDeviceGetConfComputeGpuAttestationReport",
            )?,
            ready: function(
                &library.nvmlSystemGetConfComputeGpusReadyState,
                "nvmlSystemGetConfComputeGpusReadyState",
            )?,
            set_ready: function(
                &library.nvmlSystemSetConfComputeGpusReadyState,
                "nvmlSystemSetConfComputeGpusReadyState",
            )?,
            library,
        };
        // SAFETY: takes no argument, and the library is loaded.
        check("nvmlInit_v2", None, unsafe { init() })?;
        Ok(nvml)
    }

    /// How many GPUs there are.
    pub(super) fn count(&self) -> Result<usize, GpuError> {
        let mut count = 0;
        // SAFETY: writes one number to the place given; NVML is initialised.
        check("nvmlDeviceGetCount_v2", None, unsafe { (self.count)(&mut count) })?;
        usize::try_from(count).ok().filter(|count| *count <= MAX_DEVICES).ok_or(GpuError::TooMany)
    }

    /// The driver's version; nothing where it does not say, or says no text.
    pub(super) fn driver_version(&self) -> Option<String> {
        let call = function(&self.library.nvmlSystemGetDriverVersion, "nvmlSystemGetDriverVersion").ok()?;
        let mut text: [c_char; VERSION] = [0; VERSION];
        // SAFETY: writes at most as many characters as it is told to the place given; NVML is initialised.
        let code = unsafe { call(text.as_mut_ptr(), c_uint::try_from(VERSION).ok()?) };
        check("nvmlSystemGetDriverVersion", None, code).ok()?;
        let bytes: Vec<u8> =
            text.iter().map_while(|one| u8::try_from(*one).ok().filter(|one| *one > 0)).collect();
        String::from_utf8(bytes)
            .ok()
            .filter(|text| !text.is_empty() && text.bytes().all(|one| one.is_ascii_graphic()))
    }

    /// The architecture of the GPU with this index; nothing where the driver does not say.
    pub(super) fn architecture(&self, index: usize) -> Option<u32> {
        let call = function(&self.library.nvmlDeviceGetArchitecture, "nvmlDeviceGetArchitecture").ok()?;
        let device = self.handle(index).ok()?;
        let mut found = 0;
        // SAFETY: writes one number to the place given; the handle is NVML's own.
        check("nvmlDeviceGetArchitecture", Some(index), unsafe { call(device, &mut found) }).ok()?;
        Some(found)
    }

    /// The mode of all GPUs.
    pub(super) fn settings(&self) -> Result<Settings, GpuError> {
        let mut found = nvmlSystemConfComputeSettings_t {
            version: SETTINGS_VERSION,
            environment: 0,
            ccFeature: 0,
            devToolsMode: 0,
            multiGpuMode: 0,
        };
        // SAFETY: writes a structure of the size that its version names; NVML is initialised.
        let code = unsafe { (self.settings)(&mut found) };
        if code == NOT_SUPPORTED {
            return Err(GpuError::ModeOff);
        }
        check("nvmlSystemGetConfComputeSettings", None, code)?;
        Ok(Settings {
            environment: found.environment,
            feature: found.ccFeature,
            dev_tools: found.devToolsMode,
            multi_gpu: found.multiGpuMode,
        })
    }

    /// Certificate chain and report of the GPU with this index.
    pub(super) fn evidence(&self, index: usize, nonce: &[u8; 32]) -> Result<DeviceEvidence, GpuError> {
        let device = self.handle(index)?;
        Ok(DeviceEvidence {
            kind: DeviceKind::NvidiaGpu,
            chain: self.chain(index, device)?.into(),
            report: self.report(index, device, nonce)?.into(),
        })
    }

    fn handle(&self, index: usize) -> Result<nvmlDevice_t, GpuError> {
        let number = c_uint::try_from(index).map_err(|_| GpuError::TooMany)?;
        let mut device: nvmlDevice_t = std::ptr::null_mut();
        // SAFETY: writes one handle to the place given; NVML is initialised.
        let code = unsafe { (self.handle)(number, &mut device) };
        check("nvmlDeviceGetHandleByIndex_v2", Some(index), code)?;
        Ok(device)
    }

    fn chain(&self, index: usize, device: nvmlDevice_t) -> Result<Vec<u8>, GpuError> {
        const CALL: &str = "nvmlDeviceGetConfComputeGpuCertificate";
        let mut found = Box::new(nvmlConfComputeGpuCertificate_t {
            certChainSize: 0,
            attestationCertChainSize: 0,
            certChain: [0; 0x1000],
            attestationCertChain: [0; 0x1400],
        });
        // SAFETY: writes to a structure of its header's layout, asserted above; the handle is NVML's own.
        check(CALL, Some(index), unsafe { (self.certificate)(device, &mut *found) })?;
        cut(CALL, Some(index), &found.attestationCertChain, found.attestationCertChainSize)
    }

    fn report(&self, index: usize, device: nvmlDevice_t, nonce: &[u8; 32]) -> Result<Vec<u8>, GpuError> {
        const CALL: &str = "nvmlDeviceGetConfComputeGpuAttestationReport";
        let mut found = Box::new(nvmlConfComputeGpuAttestationReport_t {
            isCecAttestationReportPresent: 0,
            attestationReportSize: 0,
            cecAttestationReportSize: 0,
            nonce: *nonce,
            attestationReport: [0; 0x2000],
            cecAttestationReport: [0; 0x1000],
        });
        // SAFETY: writes to a structure of its header's layout, asserted above; the handle is NVML's own.
        check(CALL, Some(index), unsafe { (self.report)(device, &mut *found) })?;
        cut(CALL, Some(index), &found.attestationReport, found.attestationReportSize)
    }

    /// Whether the GPUs take work.
    pub(super) fn ready(&self) -> Result<ReadyState, GpuError> {
        let mut found = 0;
        // SAFETY: writes one number to the place given; NVML is initialised.
        let code = unsafe { (self.ready)(&mut found) };
        check("nvmlSystemGetConfComputeGpusReadyState", None, code)?;
        match found {
            0 => Ok(ReadyState::NotReady),
            1 => Ok(ReadyState::Ready),
            found => Err(GpuError::Value { field: "the ready state", found }),
        }
    }

    /// Sets whether the GPUs take work, and reads it back.
    pub(super) fn set_ready(&self, asked: ReadyState) -> Result<(), GpuError> {
        // SAFETY: takes a number; NVML is initialised.
        let code = unsafe { (self.set_ready)(asked.number()) };
        check("nvmlSystemSetConfComputeGpusReadyState", None, code)?;
        let found = self.ready()?;
        if found != asked {
            return Err(GpuError::ReadyState { asked: asked.number(), found: found.number() });
        }
        Ok(())
    }
}

fn function<F: Copy>(found: &Result<F, libloading::Error>, function: &'static str) -> Result<F, GpuError> {
    found.as_ref().copied().map_err(|_| GpuError::Function { library: "NVML", function })
}

fn check(call: &'static str, device: Option<usize>, code: nvmlReturn_t) -> Result<(), GpuError> {
    match (code, device) {
        (0, _) => Ok(()),
        (code, Some(device)) if LOST.contains(&code) => {
            Err(GpuError::Lost { device, call, code: code.into() })
        }
        (code, device) => {
            let meaning = CODES.iter().find(|(listed, _)| *listed == code).map_or("", |(_, meaning)| meaning);
            Err(GpuError::Call { call, device, code: code.into(), meaning })
        }
    }
}

/// The first `size` bytes of a buffer that the driver says it wrote.
pub(super) fn cut(
    call: &'static str,
    device: Option<usize>,
    buffer: &[u8],
    size: u32,
) -> Result<Vec<u8>, GpuError> {
    let written = usize::try_from(size).ok().filter(|size| *size > 0).and_then(|size| buffer.get(..size));
    let written = written.ok_or(GpuError::Size { call, device, found: size, most: buffer.len() })?;
    Ok(written.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_held_against_its_buffer() {
        let buffer = [1, 2, 3, 4];
        assert_eq!(cut("call", None, &buffer, 1).unwrap(), [1]);
        assert_eq!(cut("call", None, &buffer, 4).unwrap(), buffer);
        for size in [0, 5, u32::MAX] {
            let refused = cut("call", Some(3), &buffer, size);
            assert!(
                matches!(refused, Err(GpuError::Size { device: Some(3), found, most: 4, .. }) if found == size),
                "{refused:?}"
            );
        }
    }

    #[test]
    fn a_lost_gpu_is_told_from_a_failed_call() {
        assert!(check("call", Some(1), 0).is_ok());
        for code in LOST {
            assert!(matches!(check("call", Some(1), code), Err(GpuError::Lost { device: 1, .. })));
            assert!(matches!(check("call", None, code), Err(GpuError::Call { .. })));
        }
        let refused = check("call", Some(1), 4).unwrap_err();
        assert_eq!(refused.to_string(), "call of device 1 failed with code 4 (no permission)");
        assert_eq!(check("call", None, 77).unwrap_err().to_string(), "call failed with code 77");
    }
}
