//! Why the program does not do what it is asked.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use confide_endorser::{GpuFolderError, SetupError};
use confide_evidence::tdx::CollateralError;
use confide_evidence::text::steers;
use confide_policy::PolicyError;
use confide_service::ConfigError;
use confide_service::config::in_one_line;
use confide_service::logging::LogError;
use confide_verifier::Outcome;
use confide_volume::VolumeError;

use crate::audit;
use crate::codes;
use crate::identity::IdentityError;
use crate::kek::{KekError, VaultError};
use crate::store::StoreError;

/// Why the program ends with something else than success.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BrokerError {
    /// The configuration is not one.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The identity key.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The key-encryption key.
    #[error(transparent)]
    Kek(#[from] KekError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file with the database's address is too long, or others may read it.
    #[error("storage.url_file: {}", of_address(.0))]
    StorageFile(IdentityError),
    /// Endorsements cannot be fetched as they are configured.
    #[error(transparent)]
    Endorser(#[from] SetupError),
    /// The folder with the endorsements of GPUs cannot be used.
    #[error(transparent)]
    GpuEndorsements(#[from] GpuFolderError),
    /// A file of endorsements is none.
    #[error("{path}: {source}")]
    Collateral {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: CollateralError,
    },
    /// A policy is none.
    #[error("{name}: the policy is none that the broker takes: {source}")]
    Policy {
        /// The file, or whose policy it is.
        name: String,
        /// What is wrong with it.
        source: PolicyError,
    },
    /// A policy that this program cannot appraise by.
    #[error("{name}: {reason}")]
    PolicyUse {
        /// The file.
        name: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// A danger policy where none is taken, or the other way round.
    #[error("{0}")]
    Danger(String),
    /// Records cannot be appraised again.
    #[error("{path}: {reason}")]
    Records {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// What is asked of a volume cannot be done.
    #[error("{message}")]
    Volume {
        /// One of [`codes::CODES`](crate::codes::CODES).
        code: &'static str,
        /// What is wrong.
        message: String,
    },
    /// An image is not what it should be, or cannot be made or written.
    #[error(transparent)]
    Image(#[from] VolumeError),
    /// The same of a named file.
    #[error("{path}: {}", image_fault(source))]
    ImageAt {
        /// The image.
        path: PathBuf,
        /// What is wrong with it.
        source: VolumeError,
    },
    /// The image of a volume cannot be opened to be read and changed.
    #[error("{path}: the image cannot be opened to be read and written")]
    ImageUnopened {
        /// The image.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The folder that is to be packed cannot be read.
    #[error("{path}: the folder to pack (--from) cannot be read")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The audit log does not hold.
    #[error("the audit log does not hold: {0}")]
    Audit(#[from] audit::Fault),
    /// A signed head cannot be used.
    #[error("{path}: {reason}")]
    Head {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// There is no such entry of the audit log.
    #[error("there is no entry {0} in the audit log")]
    Entry(u64),
    /// An entry of the audit log that no appraisal stands behind.
    #[error("entry {seq} of the audit log ({what}) has no record: no evidence was appraised for it")]
    NoRecord {
        /// Its place in the log, from 0.
        seq: u64,
        /// What it tells of.
        what: &'static str,
    },
    /// Evidence is not accepted by a policy that is tested.
    #[error("the policy does not accept the evidence")]
    Refused(Outcome),
    /// A file cannot be read.
    #[error("{path}: the file cannot be read")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("{path}: the file cannot be written")]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Events cannot be logged.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Debuggers and core dumps are not kept out.
    #[error("this process cannot be closed to debuggers and core dumps")]
    Closing(#[source] io::Error),
    /// The asynchronous runtime or its signals failed.
    #[error("the runtime failed")]
    Runtime(#[source] io::Error),
    /// The system's random source failed.
    #[error("the system's random source failed")]
    Random(#[source] getrandom::Error),
    /// Standard output cannot be written.
    #[error("standard output cannot be written")]
    Output(#[source] io::Error),
}

/// What is wrong with an image, where the system's own words do not say it.
fn image_fault(error: &VolumeError) -> String {
    match error {
        VolumeError::Io { source, .. } if source.kind() == io::ErrorKind::UnexpectedEof => {
            "too short to be the image of a volume, whose header alone has 1 MiB".to_owned()
        }
        error => error.to_string(),
    }
}

/// The code of a database's error.
pub(crate) fn store_code(error: &StoreError) -> &'static str {
    match error {
        StoreError::Address => codes::STORAGE_ADDRESS,
        StoreError::Newer { .. } => codes::STORAGE_NEWER,
        StoreError::Corrupt(_) => codes::STORAGE_CORRUPT,
        StoreError::Full => codes::CHALLENGES_EXHAUSTED,
        StoreError::Conflict => codes::VOLUME_BUSY,
        StoreError::Exists => codes::VOLUME_EXISTS,
        StoreError::Missing { .. } => codes::STORAGE_MISSING,
        StoreError::Database(_) | StoreError::Unreachable { .. } => codes::STORAGE_FAILED,
    }
}

/// What is wrong with the file of an address.
fn of_address(error: &IdentityError) -> String {
    match error {
        IdentityError::Invalid { path } => format!("{}: expected at most 4096 bytes", path.display()),
        error => error.to_string(),
    }
}

fn kek_code(error: &KekError) -> &'static str {
    match error {
        KekError::File(_) | KekError::Invalid { .. } | KekError::Half { .. } | KekError::Cryptography => {
            codes::KEK_UNUSABLE
        }
        KekError::Wrong | KekError::Kind | KekError::Vault(VaultError::Undecipherable) => codes::KEK_WRONG,
        KekError::Vault(VaultError::File(_) | VaultError::Token { .. } | VaultError::Trust(_)) => {
            codes::KEK_VAULT_FILE
        }
        KekError::Vault(_) | KekError::Unbound => codes::KEK_VAULT,
        KekError::Store(error) => store_code(error),
    }
}

impl BrokerError {
    /// Stable code: one of [`codes::CODES`](crate::codes::CODES), or of the crates that the broker is made of.
    #[must_use]
    pub fn code(&self) -> &str {
        match self {
            Self::Config(error) => error.code(),
            Self::Identity(_) => codes::IDENTITY_KEY_UNUSABLE,
            Self::Kek(error) => kek_code(error),
            Self::Store(error) => store_code(error),
            Self::StorageFile(_) => codes::STORAGE_URL_FILE,
            Self::Endorser(error) => error.code(),
            Self::GpuEndorsements(error) => error.code(),
            Self::Collateral { .. } => codes::COLLATERAL_UNUSABLE,
            Self::Policy { source, .. } => match source {
                PolicyError::DangerNotAsked | PolicyError::NotDanger => codes::DANGER_POLICY,
                PolicyError::DangerNotBuilt => codes::DANGER_POLICY_NOT_BUILT,
                _ => codes::POLICY_UNUSABLE,
            },
            Self::PolicyUse { .. } => codes::POLICY_UNUSABLE,
            Self::Danger(_) => codes::DANGER_POLICY,
            Self::Records { .. } => codes::RECORD_UNUSABLE,
            Self::Volume { code, .. } => code,
            Self::Image(error) | Self::ImageAt { source: error, .. } => error.code(),
            Self::ImageUnopened { .. } => codes::IMAGE_UNOPENED,
            Self::Audit(_) => codes::AUDIT_FAULT,
            Self::Head { .. } => codes::AUDIT_HEAD,
            Self::Entry(_) | Self::NoRecord { .. } => codes::AUDIT_ENTRY,
            // The verdict was printed.
            Self::Refused(_) => "",
            Self::Unreadable { .. } | Self::Folder { .. } => codes::FILE_UNREADABLE,
            Self::Unwritable { .. } => codes::FILE_UNWRITABLE,
            Self::Listen { .. } => codes::LISTEN_FAILED,
            Self::Log(error) => error.code(),
            Self::Closing(_) | Self::Runtime(_) | Self::Random(_) => codes::RUNTIME_FAILED,
            Self::Output(_) => codes::OUTPUT_FAILED,
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn action(&self) -> Option<&'static str> {
        codes::what_to_do(self.code())
    }

    /// The whole chain of causes, in one line that no terminal obeys.
    #[must_use]
    pub fn sentence(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            let said = error.to_string();
            // A transparent error says what its cause says.
            if !text.ends_with(&said) {
                text.push_str(": ");
                text.push_str(&said);
            }
            cause = error.source();
        }
        in_one_line(&text).chars().map(|one| if steers(one) { ' ' } else { one }).collect()
    }

    /// 2 for wrong usage and configuration, with the files of endorsements that it names, 10 for what was looked at and refused, 30 for malformed input, else 1.
    #[must_use]
    pub fn status(&self) -> u8 {
        match self {
            Self::Config(ConfigError::Unreadable { .. }) => 1,
            Self::Config(_) | Self::Log(_) | Self::Danger(_) | Self::Store(StoreError::Address) => 2,
            Self::Policy { source: PolicyError::DangerNotAsked | PolicyError::NotDanger, .. } => 2,
            // A file that the configuration names, and that is there, is a part of it.
            Self::GpuEndorsements(GpuFolderError::Unreadable { .. }) | Self::Endorser(SetupError::Tls(_)) => {
                1
            }
            Self::GpuEndorsements(_) | Self::Endorser(_) | Self::Collateral { .. } => 2,
            Self::Policy { source: PolicyError::DangerNotBuilt, .. } => 20,
            Self::Refused(Outcome::Unsupported) => 20,
            Self::Refused(Outcome::Malformed) => 30,
            Self::Volume { code: codes::VOLUME_SETTINGS, .. } => 2,
            Self::Audit(_) | Self::Refused(_) | Self::Volume { .. } => 10,
            // Looked at, and refused: an image that a rotation has replaced, and one in the way of a new one.
            Self::Image(error) | Self::ImageAt { source: error, .. }
                if [codes::VOLUME_ROLLED_BACK, codes::IMAGE_EXISTS].contains(&error.code()) =>
            {
                10
            }
            Self::Policy { .. } | Self::PolicyUse { .. } | Self::Records { .. } | Self::Head { .. } => 30,
            _ => 1,
        }
    }

    /// The same error, with the image that it is about.
    #[must_use]
    pub(crate) fn of_image(self, path: &Path) -> Self {
        match self {
            Self::Image(source) => Self::ImageAt { path: path.to_owned(), source },
            other => other,
        }
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.status())
    }
}
