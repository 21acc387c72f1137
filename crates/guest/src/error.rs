//! Why the guest does not serve.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use confide_attester::AttesterError;
use confide_attester::gpu::GpuError;
use confide_channel_guest::ChannelError;
use confide_egress::plan::PlanError;
use confide_endorser::{GpuFolderError, SetupError};
use confide_engine::codes as engine;
use confide_engine::process::{ChildError, ProcessError};
use confide_engine::protocol::Failure;
use confide_evidence::event::EventLogError;
use confide_evidence::text::steers;
use confide_policy::PolicyError;
use confide_service::ConfigError;
use confide_service::config::in_one_line;
use confide_service::logging::LogError;

use crate::boot::BootError;
use crate::codes;
use crate::gpus::GpuRefusal;

/// Why the guest does not start, or stops.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GuestError {
    /// The process cannot be closed to debuggers and core dumps.
    #[error("the process cannot be closed to debuggers")]
    Closing(#[source] io::Error),
    /// The process that serves keeps what it does not need.
    #[error("the guest cannot be confined: {what}")]
    NotConfined {
        /// What it keeps.
        what: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The socket for root of this machine cannot be listened on.
    #[error("{}: the socket for reports cannot be listened on", path.display())]
    StatusSocket {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// No guest gives a report there.
    #[error("{}: no guest gives a report", path.display())]
    StatusUnreachable {
        /// The socket.
        path: PathBuf,
        /// What the system said, or what is no report.
        #[source]
        source: io::Error,
    },
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
    /// The table `[quoting]` stands beside a software machine.
    #[error("the table [quoting] is for platform = \"tdx\" alone")]
    QuotingTable,
    /// A configuration for `boot`.
    #[error("the tables [network], [egress], [broker] and [[volumes]] are for confide-guest boot")]
    BootNeeded,
    /// A boot whose locked egress would never let the guest reach the service that it is to ask.
    #[error(
        "[endorsements]: expected source = \"file\" under confide-guest boot, found a service, which the locked egress keeps \
         the guest from"
    )]
    EndorsementsLocked,
    /// The tables `[[volumes]]` and `[broker]` do not fit each other.
    #[error("{reason}")]
    VolumesTable {
        /// What is wrong.
        reason: String,
    },
    /// The file of the egress policy cannot be read.
    #[error("{}: the egress policy cannot be read", path.display())]
    EgressPolicyUnreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file is no egress policy.
    #[error("{}: the egress policy is none", path.display())]
    EgressPolicy {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: PolicyError,
    },
    /// A rule of the egress policy would not be carried out.
    #[error(transparent)]
    EgressPlan(#[from] PlanError),
    /// A step of `boot` failed.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// The tables `[gpus]` and `[simulated]` do not fit each other.
    #[error(
        "platform = \"simulated\" takes the table [gpus] exactly where [simulated] names the libraries nvml and nscq"
    )]
    SimulatedGpus,
    /// The policy that the guest holds its GPUs to cannot be read.
    #[error("{path}: the policy of the GPUs cannot be read")]
    GpuPolicyUnreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file is no policy.
    #[error("{path}: the policy of the GPUs is none")]
    GpuPolicy {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: PolicyError,
    },
    /// A danger policy outside of a simulation.
    #[error("{path}: a danger policy is for platform = \"simulated\" alone")]
    GpuDangerPolicy {
        /// The file.
        path: PathBuf,
    },
    /// NVIDIA's endorsements of the GPUs cannot be used.
    #[error(transparent)]
    GpuEndorsements(#[from] GpuFolderError),
    /// Nobody gives NVIDIA's endorsements of the GPUs.
    #[error(
        "the table [gpus] names no folder of endorsements, and no broker is asked for keys that could give them"
    )]
    GpuEndorsementsMissing,
    /// The configuration has a table of GPUs, the machine has none.
    #[error("the configuration has the table [gpus], and this machine has no GPU")]
    NoGpu,
    /// The GPUs or switches cannot be used. They are not ready.
    #[error("the GPUs cannot be used")]
    Gpus(#[from] GpuError),
    /// The guest's own appraisal refused its GPUs. They are not ready.
    #[error(transparent)]
    GpusRefused(Box<GpuRefusal>),
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
    /// The engine process broke the protocol, or hangs.
    #[error("the engine process is of no use any more: {0}")]
    EngineLost(Failure),
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
    /// The manual's pages cannot be written.
    #[error("{folder}: the manual's pages cannot be written")]
    Manual {
        /// The folder.
        folder: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl GuestError {
    /// Stable code: one of [`codes::CODES`](crate::codes::CODES), or of the crates that the guest is made of.
    #[must_use]
    pub fn code(&self) -> &str {
        match self {
            Self::Closing(_) => codes::PROCESS_NOT_CLOSED,
            Self::NotConfined { .. } => codes::NOT_CONFINED,
            Self::StatusSocket { .. } => codes::STATUS_SOCKET,
            Self::StatusUnreachable { .. } => codes::STATUS_UNREACHABLE,
            Self::Config(error) => error.code(),
            Self::SimulatorNotBuilt => codes::SIMULATOR_NOT_BUILT,
            Self::SimulatedTable => codes::SIMULATED_TABLE,
            Self::QuotingTable => codes::QUOTING_TABLE,
            Self::SimulatedGpus => codes::SIMULATED_GPUS,
            Self::BootNeeded => codes::BOOT_NEEDED,
            Self::EndorsementsLocked => codes::ENDORSEMENTS_LOCKED,
            Self::VolumesTable { .. } => codes::VOLUMES_INVALID,
            Self::EgressPolicyUnreadable { .. } => codes::EGRESS_POLICY_UNREADABLE,
            Self::EgressPolicy { source: PolicyError::EgressServingWider(_), .. } => {
                codes::EGRESS_SERVING_WIDER
            }
            Self::EgressPolicy { .. } | Self::EgressPlan(_) => codes::EGRESS_POLICY_INVALID,
            Self::Boot(error) => error.code(),
            Self::GpuPolicyUnreadable { .. } => codes::GPU_POLICY_UNREADABLE,
            Self::GpuPolicy { .. } => codes::GPU_POLICY_INVALID,
            Self::GpuDangerPolicy { .. } => codes::GPU_POLICY_DANGER,
            Self::GpuEndorsements(error) => error.code(),
            Self::GpuEndorsementsMissing => codes::GPU_ENDORSEMENTS_MISSING,
            Self::NoGpu => codes::GPUS_MISSING,
            Self::Gpus(error) => error.code(),
            Self::GpusRefused(refusal) => refusal.code(),
            Self::PccsCertificate { .. } => codes::PCCS_CERTIFICATE_UNREADABLE,
            Self::Endorser(error) => error.code(),
            Self::Log(error) => error.code(),
            Self::Attester(error) => error.code(),
            Self::Events(_) => codes::BOOT_INCOMPLETE,
            Self::Engine(ProcessError::Refused(failure)) | Self::EngineLost(failure) => &failure.code,
            Self::Engine(_) | Self::EngineSlow { .. } | Self::EngineChild(_) => codes::ENGINE_FAILED,
            Self::EngineExited(_) => engine::ENGINE_EXITED,
            Self::Keys(_) => codes::KEYS_FAILED,
            Self::Random(_) => codes::RANDOM_FAILED,
            Self::Listen { .. } => codes::LISTEN_FAILED,
            Self::Runtime(_) => codes::RUNTIME_FAILED,
            Self::Output(_) => codes::OUTPUT_FAILED,
            Self::Manual { .. } => codes::FILE_UNWRITABLE,
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn action(&self) -> Option<&str> {
        match self {
            // The verdict's own remedy says more than a table.
            Self::GpusRefused(refusal) => Some(refusal.remedy()),
            // The broker's code is one of its own, or of its verifier.
            Self::Boot(error @ BootError::Refused { .. }) => {
                codes::what_to_do(error.code()).or_else(|| codes::what_to_do(codes::BROKER_REFUSED))
            }
            _ => codes::what_to_do(self.code()),
        }
    }

    /// 2 for what the operator's configuration says, 30 for a malformed egress policy that is named by itself, else 1; also where
    /// a file that is named cannot be read.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Config(ConfigError::Unreadable { .. })
            | Self::GpuPolicyUnreadable { .. }
            | Self::EgressPolicyUnreadable { .. }
            | Self::GpuEndorsements(GpuFolderError::Unreadable { .. })
            | Self::PccsCertificate { .. } => ExitCode::from(1),
            Self::Config(_)
            | Self::SimulatorNotBuilt
            | Self::SimulatedTable
            | Self::QuotingTable
            | Self::SimulatedGpus
            | Self::BootNeeded
            | Self::EndorsementsLocked
            | Self::VolumesTable { .. }
            | Self::EgressPlan(_)
            | Self::GpuPolicy { .. }
            | Self::GpuDangerPolicy { .. }
            | Self::GpuEndorsements(_)
            | Self::GpuEndorsementsMissing
            | Self::Endorser(_)
            | Self::Boot(BootError::ConfigurationDisk { .. })
            | Self::Log(_) => ExitCode::from(2),
            // A file that is looked at for itself: one that a configuration names is a fault of the configuration.
            Self::EgressPolicy { .. } => ExitCode::from(30),
            _ => ExitCode::from(1),
        }
    }

    /// The error and its causes, in one sentence without anything that a terminal obeys: files of the model are quoted.
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
        in_one_line(&sentence)
            .chars()
            .map(|one| if steers(one) { char::REPLACEMENT_CHARACTER } else { one })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn io_error() -> io::Error {
        io::Error::other("an \u{1b}[2Jerror\nin two lines")
    }

    /// One error of each variant: a new one does not compile until it is here.
    fn every_error() -> Vec<GuestError> {
        let failure = || Failure {
            code: engine::ENGINE_STALLED.into(),
            message: "m".into(),
            blame: confide_engine::protocol::Blame::Engine,
        };
        let all = vec![
            GuestError::Closing(io_error()),
            GuestError::NotConfined { what: "files", source: io_error() },
            GuestError::StatusSocket { path: "p".into(), source: io_error() },
            GuestError::StatusUnreachable { path: "p".into(), source: io_error() },
            GuestError::Config(ConfigError::Unreadable { path: "p".into(), source: io_error() }),
            GuestError::SimulatorNotBuilt,
            GuestError::SimulatedTable,
            GuestError::QuotingTable,
            GuestError::SimulatedGpus,
            GuestError::BootNeeded,
            GuestError::EndorsementsLocked,
            GuestError::VolumesTable { reason: "r\u{1b}".into() },
            GuestError::EgressPolicyUnreadable { path: "p".into(), source: io_error() },
            GuestError::EgressPolicy { path: "p\u{1b}".into(), source: PolicyError::EgressNoDns },
            GuestError::EgressPolicy {
                path: "p".into(),
                source: PolicyError::EgressServingWider("plain a.example:80".into()),
            },
            GuestError::EgressPlan(PlanError::Udp("udp 192.0.2.0/24:53".into())),
            GuestError::Boot(BootError::NoRdseed),
            GuestError::GpuPolicyUnreadable { path: "p".into(), source: io_error() },
            GuestError::GpuPolicy { path: "p".into(), source: PolicyError::Schema(9) },
            GuestError::GpuDangerPolicy { path: "p".into() },
            GuestError::GpuEndorsements(GpuFolderError::TooMany { folder: "f".into() }),
            GuestError::GpuEndorsements(GpuFolderError::TooLarge { path: "p".into() }),
            GuestError::GpuEndorsements(GpuFolderError::Unreadable { path: "p".into(), source: io_error() }),
            GuestError::GpuEndorsementsMissing,
            GuestError::NoGpu,
            GuestError::Gpus(GpuError::ModeOff),
            GuestError::GpusRefused(Box::new(GpuRefusal {
                code: "gpu_refused",
                policy: "p\u{1b}".into(),
                found: "f".into(),
                expected: "e".into(),
                remedy: "r".into(),
            })),
            GuestError::PccsCertificate { path: "p".into(), source: io_error() },
            GuestError::Endorser(SetupError::Tls("t".into())),
            GuestError::Log(LogError::AlreadyInstalled),
            GuestError::Attester(AttesterError::RegisterUsed),
            GuestError::Events(EventLogError::Missing("boot")),
            GuestError::Engine(ProcessError::Refused(failure())),
            GuestError::Engine(ProcessError::Exited),
            GuestError::EngineSlow { seconds: 1 },
            GuestError::EngineExited("s".into()),
            GuestError::EngineLost(failure()),
            GuestError::EngineChild(ChildError::NoSocket(io_error())),
            GuestError::Keys(ChannelError::Keys),
            GuestError::Random(getrandom::Error::UNSUPPORTED),
            GuestError::Listen { address: ([127, 0, 0, 1], 1).into(), source: io_error() },
            GuestError::Runtime(io_error()),
            GuestError::Output(io_error()),
            GuestError::Manual { folder: "m".into(), source: io_error() },
        ];
        for error in &all {
            match error {
                GuestError::Closing(_)
                | GuestError::NotConfined { .. }
                | GuestError::StatusSocket { .. }
                | GuestError::StatusUnreachable { .. }
                | GuestError::Config(_)
                | GuestError::SimulatorNotBuilt
                | GuestError::SimulatedTable
                | GuestError::QuotingTable
                | GuestError::SimulatedGpus
                | GuestError::BootNeeded
                | GuestError::EndorsementsLocked
                | GuestError::VolumesTable { .. }
                | GuestError::EgressPolicyUnreadable { .. }
                | GuestError::EgressPolicy { .. }
                | GuestError::EgressPlan(_)
                | GuestError::Boot(_)
                | GuestError::GpuPolicyUnreadable { .. }
                | GuestError::GpuPolicy { .. }
                | GuestError::GpuDangerPolicy { .. }
                | GuestError::GpuEndorsements(_)
                | GuestError::GpuEndorsementsMissing
                | GuestError::NoGpu
                | GuestError::Gpus(_)
                | GuestError::GpusRefused(_)
                | GuestError::PccsCertificate { .. }
                | GuestError::Endorser(_)
                | GuestError::Log(_)
                | GuestError::Attester(_)
                | GuestError::Events(_)
                | GuestError::Engine(_)
                | GuestError::EngineSlow { .. }
                | GuestError::EngineExited(_)
                | GuestError::EngineLost(_)
                | GuestError::EngineChild(_)
                | GuestError::Keys(_)
                | GuestError::Random(_)
                | GuestError::Listen { .. }
                | GuestError::Runtime(_)
                | GuestError::Output(_)
                | GuestError::Manual { .. } => {}
            }
        }
        all
    }

    #[test]
    fn every_error_has_a_listed_code_and_a_sentence_that_no_terminal_obeys() {
        let tables = [
            codes::CODES,
            engine::CODES,
            confide_attester::CODES,
            confide_endorser::CODES,
            confide_service::config::CODES,
            confide_service::logging::CODES,
        ];
        for error in every_error() {
            let code = error.code();
            assert!(tables.concat().iter().any(|(listed, ..)| *listed == code), "{code}");
            let sentence = error.sentence();
            assert!(!sentence.is_empty() && !sentence.contains(steers), "{sentence:?}");
        }
    }
}
