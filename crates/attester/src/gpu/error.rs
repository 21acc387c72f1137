//! Why GPUs give no evidence, or do not become ready.

use std::path::PathBuf;

use confide_evidence::document::MAX_DEVICES;
use confide_evidence::nvidia::{ChainError, ReportError};

use crate::codes;

/// Why a node gives no evidence, or does not become ready. Where nothing else is said, its GPUs are not ready.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GpuError {
    /// A library of the driver cannot be loaded.
    #[error("{path} cannot be loaded")]
    Library {
        /// What was asked of the loader.
        path: PathBuf,
        /// What the loader said.
        #[source]
        source: libloading::Error,
    },
    /// A library of the driver lacks a function.
    #[error("{library} has no {function}: the driver is older than 550")]
    Function {
        /// Which library.
        library: &'static str,
        /// What it lacks.
        function: &'static str,
    },
    /// A call failed.
    #[error("{call}{} failed with code {code}{}", of(.device), said(.meaning))]
    Call {
        /// The function of NVML, or the path of NSCQ.
        call: &'static str,
        /// Which device, by its position among its kind.
        device: Option<usize>,
        /// `nvmlReturn_t` or `nscq_rc_t`.
        code: i64,
        /// The code's name; empty where it is not known.
        meaning: &'static str,
    },
    /// A GPU that was there is gone.
    #[error("GPU {device} is lost: {call} failed with code {code}")]
    Lost {
        /// Its index.
        device: usize,
        /// The call that failed.
        call: &'static str,
        /// `nvmlReturn_t`.
        code: i64,
    },
    /// The driver gives a size that its buffer does not have.
    #[error("{call}{} says that it wrote {found} bytes, of 1 to {most}", of(.device))]
    Size {
        /// The function of NVML, or the path of NSCQ.
        call: &'static str,
        /// Which device, by its position among its kind.
        device: Option<usize>,
        /// The size given.
        found: u32,
        /// The size of the buffer in bytes.
        most: usize,
    },
    /// The driver gives a number that has no meaning.
    #[error("the driver says {found} for {field}, which has no meaning")]
    Value {
        /// What the number says.
        field: &'static str,
        /// The number.
        found: u32,
    },
    /// More devices than an evidence document lists.
    #[error("more than {MAX_DEVICES} GPUs and switches")]
    TooMany,
    /// The GPUs are in no confidential mode.
    #[error("the confidential-computing mode of the GPUs is off")]
    ModeOff,
    /// The GPUs let tools look into them.
    #[error("the GPUs' device tools mode is on")]
    DevTools,
    /// There are not as many devices as there were.
    #[error("there were {before} {kind}, now there are {now}")]
    CountChanged {
        /// `GPUs` or `switches`.
        kind: &'static str,
        /// As they were found.
        before: usize,
        /// As they are now.
        now: usize,
    },
    /// The mode of the GPUs is not what it was when they were found.
    #[error("the mode of the GPUs changed since they were found")]
    EnvironmentChanged,
    /// The ready state is not what it was set to.
    #[error("the GPUs' ready state was set to {asked}, and reads {found}")]
    ReadyState {
        /// What was set: 0 or 1.
        asked: u32,
        /// What was read.
        found: u32,
    },
    /// A switch was asked once and did not answer once.
    #[error("{path} was answered {found} times, not once")]
    Answers {
        /// The path of NSCQ.
        path: &'static str,
        /// How often.
        found: usize,
    },
    /// A switch's name does not fit in a path.
    #[error("a switch's name is not of 1 to 63 letters, digits and hyphens")]
    SwitchName,
    /// A call did not return.
    #[error("{call} did not return within {seconds} seconds")]
    Hung {
        /// What was tried.
        call: &'static str,
        /// How long it was waited for.
        seconds: u64,
    },
    /// The thread of a call cannot be started, or it panicked.
    #[error("the thread that calls the driver failed")]
    Thread,
    /// An earlier failure ended this node.
    #[error("an earlier failure ended the use of these GPUs")]
    Ended,
    /// A report that the appraisal accepted cannot be read.
    #[error("the report of device {device} cannot be read")]
    Report {
        /// Its position.
        device: usize,
        /// What is wrong with it.
        #[source]
        source: ReportError,
    },
    /// A chain that the appraisal accepted cannot be read.
    #[error("the certificate chain of device {device} cannot be read")]
    Chain {
        /// Its position.
        device: usize,
        /// What is wrong with it.
        #[source]
        source: ChainError,
    },
    /// The GPUs could not be set back: they still take work.
    #[error("the GPUs could not be set back to not ready ({unset}) after a failure")]
    StillReady {
        /// Why they should not be ready.
        #[source]
        reason: Box<GpuError>,
        /// Why they still are.
        unset: Box<GpuError>,
    },
}

impl GpuError {
    /// Stable code, one of [`CODES`](crate::CODES).
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Library { .. } => codes::GPU_LIBRARY_MISSING,
            Self::Function { .. } => codes::GPU_DRIVER_OLD,
            Self::Call { .. } => codes::GPU_CALL_FAILED,
            Self::Lost { .. } => codes::GPU_LOST,
            Self::Size { .. } => codes::GPU_SIZE_INVALID,
            Self::Value { .. } => codes::GPU_VALUE_UNKNOWN,
            Self::TooMany => codes::GPU_TOO_MANY,
            Self::ModeOff => codes::GPU_MODE_OFF,
            Self::DevTools => codes::GPU_DEV_TOOLS,
            Self::CountChanged { .. } => codes::GPU_COUNT_CHANGED,
            Self::EnvironmentChanged => codes::GPU_ENVIRONMENT_CHANGED,
            Self::ReadyState { .. } => codes::GPU_READY_STATE,
            Self::Answers { .. } | Self::SwitchName => codes::SWITCH_ANSWER_INVALID,
            Self::Hung { .. } => codes::GPU_DRIVER_HUNG,
            Self::Thread => codes::GPU_THREAD_FAILED,
            Self::Ended => codes::GPU_ENDED,
            Self::Report { .. } | Self::Chain { .. } => codes::GPU_EVIDENCE_UNREADABLE,
            Self::StillReady { .. } => codes::GPU_STILL_READY,
        }
    }
}

fn of(device: &Option<usize>) -> String {
    device.map_or_else(String::new, |device| format!(" of device {device}"))
}

fn said(meaning: &str) -> String {
    if meaning.is_empty() { String::new() } else { format!(" ({meaning})") }
}

/// Why a node was not appraised.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppraisalError<E> {
    /// The appraisal refused the devices. They are not ready.
    #[error("the GPUs were refused: {0}")]
    Refused(E),
    /// The appraisal accepted evidence that cannot be read.
    #[error(transparent)]
    Gpu(#[from] GpuError),
}

impl<E> AppraisalError<E> {
    /// Stable code, one of [`CODES`](crate::CODES).
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Refused(_) => codes::GPU_REFUSED,
            Self::Gpu(error) => error.code(),
        }
    }
}
