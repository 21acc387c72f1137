//! Why there is no evidence.

use std::io;
use std::path::PathBuf;

use confide_evidence::boot_log::BootLogError;
use confide_evidence::document::DocumentError;
use confide_evidence::event::EventLogError;
use confide_evidence::tdx::QuoteError;

use crate::codes;
use crate::gpu::GpuError;

/// Why the attester cannot measure or attest.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttesterError {
    /// The kernel offers no quoting interface or no runtime register: this is no TDX guest, or its kernel is older
    /// than 6.16.
    #[error("{path} is missing: this machine is no TDX guest, or its kernel is older than 6.16")]
    NoPlatform {
        /// What is missing.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The kernel's quotes are of another platform.
    #[error("the kernel's attestation provider is {found:?}, not \"tdx_guest\"")]
    Provider {
        /// What the kernel calls it.
        found: String,
    },
    /// The firmware's event log is none that a verifier could read.
    #[error("the boot event log {path} cannot be used: {source}")]
    BootLog {
        /// Where the kernel shows it.
        path: PathBuf,
        /// What is wrong with it.
        source: BootLogError,
    },
    /// The kernel or the host refused.
    #[error("cannot {action} {path}")]
    Device {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The host's quoting service did not become free in time.
    #[error("the quoting service stayed busy for {seconds} seconds")]
    Busy {
        /// How long the attester tried.
        seconds: u64,
    },
    /// Another process wrote to the same request between its parts.
    #[error("the quote answers another request: generation {found} after {before}, and not one more")]
    Interference {
        /// The generation before the report data were written, as the kernel counts writes.
        before: u64,
        /// The generation after it.
        found: u64,
    },
    /// The host's quote generation service refused.
    #[error("the host's quote generation service refused, with the error {number:#x} of qgs_msg_lib.h")]
    QuotingRefused {
        /// Its number of the reason.
        number: u32,
    },
    /// The host's quote generation service did not answer in time.
    #[error("the host's quote generation service gave no whole answer within {seconds} seconds")]
    QuotingLate {
        /// How long the attester waited.
        seconds: u64,
    },
    /// What the host's quote generation service said is no answer.
    #[error("the answer of the host's quote generation service is none: {reason}")]
    QuotingMessage {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// What the quoting service returned is no quote.
    #[error("the quoting service returned no TDX quote")]
    Quote(#[from] QuoteError),
    /// An event that may not stand here, or evidence asked for before the events of its role are complete.
    #[error(transparent)]
    Events(#[from] EventLogError),
    /// RTMR3 does not begin at zero: a guest ran in this VM before, or something else extends the register.
    #[error("RTMR3 was extended before this guest started: power the VM off and boot it again")]
    RegisterUsed,
    /// An earlier extension failed midway: what RTMR3 holds is unknown until the next boot.
    #[error("an earlier measurement failed, so that RTMR3 is unknown until the next boot")]
    RegisterUnknown,
    /// The GPUs or switches give no evidence. They are not ready.
    #[error(transparent)]
    Gpu(#[from] GpuError),
    /// The document breaks one of its own limits.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// The software platform cannot be made.
    #[cfg(feature = "danger-simulator")]
    #[error("the SIMULATED machine cannot be made")]
    Simulator(#[from] confide_simulator::SimulatorError),
}

impl AttesterError {
    /// Stable code, one of [`CODES`](crate::CODES).
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoPlatform { .. } => codes::PLATFORM_MISSING,
            Self::Provider { .. } => codes::PLATFORM_WRONG,
            Self::BootLog { .. } => codes::BOOT_LOG_UNUSABLE,
            Self::Device { .. } => codes::DEVICE_FAILED,
            Self::Busy { .. } => codes::QUOTING_BUSY,
            Self::Interference { .. } => codes::QUOTING_INTERFERENCE,
            Self::QuotingRefused { .. } => codes::QUOTING_REFUSED,
            Self::QuotingLate { .. } => codes::QUOTING_LATE,
            Self::QuotingMessage { .. } => codes::QUOTING_MALFORMED,
            Self::Quote(_) => codes::QUOTE_INVALID,
            Self::Events(_) => codes::EVENTS_INVALID,
            Self::RegisterUsed => codes::REGISTER_USED,
            Self::RegisterUnknown => codes::REGISTER_UNKNOWN,
            Self::Gpu(error) => error.code(),
            Self::Document(_) => codes::DOCUMENT_INVALID,
            #[cfg(feature = "danger-simulator")]
            Self::Simulator(_) => codes::SIMULATOR_FAILED,
        }
    }
}
