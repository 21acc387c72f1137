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
    SIMULATOR_FAILED = "simulator_failed", "the SIMULATED machine cannot be made",
        "report it: this is a fault of the simulator";
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::AttesterError;
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
            AttesterError::Interference { found: "f".into() },
            AttesterError::Quote(truncated.unwrap_err()),
            AttesterError::Events(EventLogError::Missing("boot")),
            AttesterError::RegisterUsed,
            AttesterError::RegisterUnknown,
            AttesterError::BootLog {
                path: path(),
                source: confide_evidence::boot_log::BootLog::parse(&[]).map(|_| ()).unwrap_err(),
            },
        ];
        let codes: BTreeSet<&str> = all.iter().map(AttesterError::code).collect();
        assert_eq!(codes.len(), all.len(), "one code for each");
        let listed: BTreeSet<&str> = CODES.iter().map(|(code, ..)| *code).collect();
        assert_eq!(listed.len(), CODES.len());
        assert!(codes.is_subset(&listed));
    }
}
