//! Stable codes of this crate's errors. Users, tools and documents refer to them; sentences may change.

/// Declares each code once: a constant, and its row in [`CODES`].
macro_rules! codes {
    ($($name:ident = $code:literal, $meaning:literal, $action:literal;)*) => {
        $(pub(crate) const $name: &str = $code;)*
        /// Every code: the code, what it means, what to do.
        pub const CODES: &[(&str, &str, &str)] = &[$(($name, $meaning, $action)),*];
    };
}

codes! {
    PLATFORM_MISSING = "platform_missing", "the kernel offers no TDX quoting interface or no runtime register",
        "boot the image as a TDX guest, with Linux 6.16 or later and configfs mounted";
    PLATFORM_WRONG = "platform_wrong", "the kernel's quotes are of another platform than TDX",
        "boot the image as a TDX guest";
    DEVICE_FAILED = "device_failed", "the kernel or the host refused to measure or to quote",
        "look in the log for the file and the system's error; on the host, check the quoting service";
    QUOTING_BUSY = "quoting_busy", "the host's quoting service did not become free in time",
        "check the quoting service on the host";
    QUOTING_INTERFERENCE = "quoting_interference", "another process wrote to the same quoting request",
        "let no other process of this machine use configfs-tsm requests of the guest";
    QUOTING_REFUSED = "quoting_refused", "the host's quote generation service refused to quote",
        "look in the service's log on the host: it runs as `qgsd`, and its platform must be registered";
    QUOTING_LATE = "quoting_late", "the host's quote generation service did not answer in time",
        "check the quote generation service on the host";
    QUOTING_MALFORMED = "quoting_malformed", "what the host's quote generation service said is no answer of its protocol",
        "check that the quote generation service listens on the configured port of the host, and its version";
    QUOTE_INVALID = "quote_invalid", "the host's quoting service returned no TDX quote",
        "check the version of the quoting service on the host";
    EVENTS_INVALID = "events_invalid", "a measured event may not stand where it does, or one is missing",
        "report it: this is a fault of the guest";
    REGISTER_USED = "register_used", "RTMR3 was extended before this guest started",
        "power the virtual machine off and boot it again; let nothing else extend RTMR3";
    REGISTER_UNKNOWN = "register_unknown", "an earlier measurement failed midway, so that RTMR3 is unknown",
        "power the virtual machine off and boot it again";
    BOOT_LOG_UNUSABLE = "boot_log_unusable", "the firmware's event log (ACPI table CCEL) is none that a verifier could read",
        "use firmware that writes a crypto-agile TCG event log of at most 1 MiB";
    DOCUMENT_INVALID = "document_invalid", "the evidence document breaks one of its own limits",
        "report it: this is a fault of the guest, or the machine has more devices than a document lists";
    GPU_LIBRARY_MISSING = "gpu_library_missing", "NVIDIA's library NVML cannot be loaded, or NSCQ is there and cannot be",
        "install the NVIDIA driver in the image: NVML (libnvidia-ml.so.1), and NSCQ (libnvidia-nscq.so.2) where there are switches";
    GPU_DRIVER_OLD = "gpu_driver_old", "the NVIDIA driver's libraries lack a function of confidential computing",
        "install an NVIDIA driver of version 550 or later in the image";
    GPU_CALL_FAILED = "gpu_call_failed", "the NVIDIA driver refused a call",
        "look in the log for the call and its code; run the guest as root, and power the virtual machine off and boot it again";
    GPU_LOST = "gpu_lost", "a GPU that was there is gone",
        "check the GPU on the host, then power the virtual machine off and boot it again";
    GPU_SIZE_INVALID = "gpu_size_invalid", "the NVIDIA driver says that it wrote nothing, or more than its buffer holds",
        "install an NVIDIA driver of version 550 or later; do not use this one";
    GPU_VALUE_UNKNOWN = "gpu_value_unknown", "the NVIDIA driver gives a number that has no meaning",
        "use a driver that this version of the guest knows, or a newer guest";
    GPU_TOO_MANY = "gpu_too_many", "there are more GPUs and switches than an evidence document lists",
        "give the virtual machine at most 32 of them";
    GPU_MODE_OFF = "gpu_mode_off", "the confidential-computing mode of the GPUs is off",
        "on the host, switch the mode on (nvidia_gpu_tools.py --set-cc-mode=on, or --set-ppcie-mode=on for eight GPUs with switches) and reset the GPUs";
    GPU_DEV_TOOLS = "gpu_dev_tools_on", "the GPUs' device tools mode is on: tools may look into them",
        "on the host, set the mode to on instead of devtools and reset the GPUs";
    GPU_COUNT_CHANGED = "gpu_count_changed", "GPUs or switches came or went since they were found",
        "let nothing attach or detach devices of a running virtual machine; power it off and boot it again";
    GPU_ENVIRONMENT_CHANGED = "gpu_environment_changed", "the mode of the GPUs, or the set of switches, changed since they were found",
        "let nothing change the GPUs of a running virtual machine; power it off and boot it again";
    GPU_READY_STATE = "gpu_ready_state", "the GPUs' ready state is not what it was set to",
        "let nothing else set the ready state (nvidia-smi conf-compute -srs); power the virtual machine off and boot it again";
    SWITCH_ANSWER_INVALID = "switch_answer_invalid", "NSCQ answered for a switch with no name of one, or not once",
        "install the NSCQ library of the driver's own version";
    GPU_DRIVER_HUNG = "gpu_driver_hung", "the NVIDIA driver did not answer in time",
        "look in the kernel's log for Xid errors, then power the virtual machine off and boot it again";
    GPU_THREAD_FAILED = "gpu_thread_failed", "a thread that calls the NVIDIA driver cannot run",
        "raise the limits of the guest's service on threads and memory";
    GPU_ENDED = "gpu_ended", "an earlier failure ended the use of the GPUs",
        "look in the log for the earlier failure and do what its code says";
    GPU_EVIDENCE_UNREADABLE = "gpu_evidence_unreadable", "a device's evidence was accepted and cannot be read",
        "report it: this is a fault of the guest";
    GPU_STILL_READY = "gpu_still_ready", "the GPUs could not be set back after a failure and still take work",
        "power the virtual machine off";
    GPU_REFUSED = "gpu_refused", "the guest's own appraisal refused its GPUs",
        "look in the log for the rule that failed and do what its code says";
    SIMULATOR_FAILED = "simulator_failed", "the SIMULATED machine cannot be made",
        "report it: this is a fault of the simulator";
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::AttesterError;
    use crate::gpu::{AppraisalError, GpuError};
    use confide_evidence::event::EventLogError;
    use std::collections::BTreeSet;
    use std::io;

    #[test]
    fn every_error_has_a_listed_code() {
        let (path, source) = (|| "p".into(), || io::Error::from(io::ErrorKind::NotFound));
        let truncated = confide_evidence::tdx::Quote::parse(&[], confide_evidence::tdx::Padding::Refused);
        let all = [
            AttesterError::NoPlatform { path: path(), source: source() },
            AttesterError::Provider { found: "f".into() },
            AttesterError::Device { action: "read", path: path(), source: source() },
            AttesterError::Busy { seconds: 1 },
            AttesterError::Interference { before: 0, found: 2 },
            AttesterError::Quote(truncated.unwrap_err()),
            AttesterError::Events(EventLogError::Missing("boot")),
            AttesterError::RegisterUsed,
            AttesterError::RegisterUnknown,
            AttesterError::BootLog {
                path: path(),
                source: confide_evidence::boot_log::BootLog::parse(&[]).map(|_| ()).unwrap_err(),
            },
        ];
        let gpu: Vec<AttesterError> = gpu_errors().into_iter().map(AttesterError::from).collect();
        let all: Vec<_> = all.into_iter().chain(gpu).collect();
        let mut codes: BTreeSet<&str> = all.iter().map(AttesterError::code).collect();
        assert_eq!(codes.len(), all.len(), "one code for each");
        assert!(codes.insert(AppraisalError::Refused("reason").code()));
        assert_eq!(AppraisalError::<()>::Gpu(GpuError::Ended).code(), GPU_ENDED);
        let listed: BTreeSet<&str> = CODES.iter().map(|(code, ..)| *code).collect();
        assert_eq!(listed.len(), CODES.len());
        assert!(codes.is_subset(&listed));
    }

    /// One for each code.
    fn gpu_errors() -> Vec<GpuError> {
        let source = || confide_evidence::nvidia::Report::parse(&[]).map(drop).unwrap_err();
        vec![
            GpuError::Function { library: "NVML", function: "f" },
            GpuError::Call { call: "c", device: None, code: 1, meaning: "" },
            GpuError::Lost { device: 0, call: "c", code: 15 },
            GpuError::Size { call: "c", device: None, found: 0, most: 1 },
            GpuError::Value { field: "f", found: 9 },
            GpuError::TooMany,
            GpuError::ModeOff,
            GpuError::DevTools,
            GpuError::CountChanged { kind: "GPUs", before: 1, now: 0 },
            GpuError::EnvironmentChanged,
            GpuError::ReadyState { asked: 1, found: 0 },
            GpuError::SwitchName,
            GpuError::Hung { call: "c", seconds: 1 },
            GpuError::Thread,
            GpuError::Ended,
            GpuError::Report { device: 0, source: source() },
            GpuError::StillReady { reason: Box::new(GpuError::Ended), unset: Box::new(GpuError::Thread) },
        ]
    }
}
