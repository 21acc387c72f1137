//! Why the guest does not serve.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use confide_attester::AttesterError;
use confide_channel_guest::ChannelError;
use confide_endorser::SetupError;
use confide_engine::process::{ChildError, ProcessError};
use confide_evidence::event::EventLogError;
use confide_service::ConfigError;
use confide_service::logging::LogError;

/// Why the guest does not start, or stops.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GuestError {
    /// The configuration is not one.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Simulated evidence was asked of a program that cannot make any.
    #[error(
        "platform = \"simulated\": this program was built without the feature danger-simulator, as every image is"
    )]
    SimulatorNotBuilt,
    /// The table `[simulated]` stands beside another platform.
    #[error("the table [simulated] is for platform = \"simulated\" alone")]
    SimulatedTable,
    /// The certificate of the PCCS cannot be read.
    #[error("{path}: the certificate of the PCCS cannot be read")]
    PccsCertificate {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Endorsements cannot be fetched as they are configured.
    #[error("endorsements cannot be fetched")]
    Endorser(#[from] SetupError),
    /// Events cannot be logged.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The platform gives no evidence.
    #[error("the platform gives no evidence")]
    Attester(#[from] AttesterError),
    /// The measured events are no complete boot: a fault of this program.
    #[error("the boot is not complete")]
    Events(#[from] EventLogError),
    /// The engine did not start.
    #[error("the engine did not start")]
    Engine(#[from] ProcessError),
    /// The engine took too long to load the model.
    #[error("the engine did not load the model within {seconds} seconds")]
    EngineSlow {
        /// The limit.
        seconds: u64,
    },
    /// The engine process ended. Claims cannot change while keys live: the guest ends with it.
    #[error("the engine process ended: {0}")]
    EngineExited(String),
    /// The engine process failed in itself.
    #[error("the engine failed")]
    EngineChild(#[from] ChildError),
    /// Keys or certificate cannot be made.
    #[error("the guest's keys cannot be made")]
    Keys(#[from] ChannelError),
    /// The system's random source failed.
    #[error("the system's random source failed")]
    Random(#[source] getrandom::Error),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The asynchronous runtime or its signals failed.
    #[error("the runtime failed")]
    Runtime(#[source] io::Error),
    /// Standard output cannot be written.
    #[error("cannot write to standard output")]
    Output(#[source] io::Error),
}

impl GuestError {
    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &str {
        match self {
            Self::Config(error) => error.code(),
            Self::SimulatorNotBuilt => "simulator_not_built",
            Self::SimulatedTable => "config_invalid",
            Self::PccsCertificate { .. } => "pccs_certificate_unreadable",
            Self::Endorser(error) => error.code(),
            Self::Log(error) => error.code(),
            Self::Attester(AttesterError::NoPlatform { .. }) => "platform_missing",
            Self::Attester(_) => "attestation_failed",
            Self::Events(_) => "boot_incomplete",
            Self::Engine(ProcessError::Refused(failure)) => &failure.code,
            Self::Engine(_) | Self::EngineSlow { .. } | Self::EngineChild(_) => "engine_failed",
            Self::EngineExited(_) => "engine_exited",
            Self::Keys(_) => "keys_failed",
            Self::Random(_) => "random_failed",
            Self::Listen { .. } => "listen_failed",
            Self::Runtime(_) => "runtime_failed",
            Self::Output(_) => "output_failed",
        }
    }

    /// 2 for what the operator's configuration says, else 1.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Config(_)
            | Self::SimulatorNotBuilt
            | Self::SimulatedTable
            | Self::PccsCertificate { .. }
            | Self::Endorser(_)
            | Self::Log(_) => ExitCode::from(2),
            _ => ExitCode::from(1),
        }
    }

    /// The error and its causes, in one sentence.
    #[must_use]
    pub fn sentence(&self) -> String {
        let mut sentence = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            let text = error.to_string();
            if !sentence.ends_with(&text) {
                sentence.push_str(": ");
                sentence.push_str(&text);
            }
            cause = error.source();
        }
        sentence
    }
}
