//! Why a boot with volumes ends.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use confide_egress::EgressError;
use confide_evidence::bytes::Digest;
use confide_release::{Profile, ReleaseError, VolumeId};
use confide_volume::VolumeError;

use crate::codes;

/// Why `boot` does not come to serving.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BootError {
    /// Neither a configuration in the image nor a disk with one.
    #[error("there is neither {file} nor a disk whose serial is {serial:?}, after {seconds} seconds")]
    NoConfiguration {
        /// The file of the image.
        file: PathBuf,
        /// What the disk would be called.
        serial: &'static str,
        /// How long it was waited for.
        seconds: u64,
    },
    /// The disk with the configuration is none of the agreed form.
    #[error("{path}: {reason}")]
    ConfigurationDisk {
        /// The disk or file.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A file or device of this machine cannot be used.
    #[error("cannot {action} {path}")]
    System {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A kernel module cannot be loaded.
    #[error("{path}: the kernel module cannot be loaded")]
    Module {
        /// Its file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The list of kernel modules is none.
    #[error("{path}:{line}: expected the absolute path of a .ko file")]
    ModuleList {
        /// The list.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
    },
    /// A setting that closes the kernel cannot be made.
    #[error("{setting}: the kernel cannot be closed")]
    NotHardened {
        /// The setting.
        setting: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Memory may be written to a disk.
    #[error("swap is on: {found}")]
    Swap {
        /// The kernel's first line about it.
        found: String,
    },
    /// The network cannot be set up as configured.
    #[error("the network cannot be set up: {step}")]
    Network {
        /// What failed.
        step: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A device did not come.
    #[error("{device} did not appear within {seconds} seconds")]
    DeviceMissing {
        /// The device.
        device: PathBuf,
        /// How long it was waited for.
        seconds: u64,
    },
    /// The kernel counts time by what the host may set.
    #[error("the kernel counts time by {found:?}, not by the TSC")]
    Clock {
        /// The kernel's name of it.
        found: String,
    },
    /// The processor gives nothing by RDSEED: the kernel's random numbers could all be the host's.
    #[error("the processor gives no random numbers by RDSEED, which keys are drawn from")]
    NoRdseed,
    /// Nobody answers at the broker's address, or not to the end.
    #[error(
        "the broker at {address} did not answer within {seconds} seconds, in {attempts} attempts: {last}"
    )]
    BrokerUnreachable {
        /// The address.
        address: SocketAddr,
        /// How long it was tried.
        seconds: u64,
        /// How often.
        attempts: u32,
        /// Why the last attempt failed.
        last: String,
    },
    /// Who answers at the broker's address does not hold the key that was measured.
    #[error("whoever answers at {address} does not hold the broker's key: {reason}")]
    BrokerIdentity {
        /// The address.
        address: SocketAddr,
        /// What the TLS library found.
        reason: String,
    },
    /// The broker refuses.
    #[error("the broker refused: {message} [{code}]")]
    Refused {
        /// The broker's code, or ours where it gives none.
        code: String,
        /// The broker's sentence.
        message: String,
    },
    /// The broker's answer is not signed by the measured key, or answers another request.
    #[error("the broker's answer is not its own to this request")]
    Unverified(#[source] ReleaseError),
    /// The broker's answer is malformed, or seals what it should not.
    #[error("the broker's answer cannot be used")]
    Answer(#[source] ReleaseError),
    /// The broker protects a volume in another way than its role asks for.
    #[error("volume {volume}: the role {role} asks for the profile {expected}, the broker says {found}")]
    Profile {
        /// The volume.
        volume: VolumeId,
        /// What it is for.
        role: &'static str,
        /// The profile of that role.
        expected: Profile,
        /// The profile of the broker's answer.
        found: Profile,
    },
    /// Egress cannot be kept to its policy, or is so no longer.
    #[error(transparent)]
    Egress(#[from] EgressError),
    /// A volume cannot be opened.
    #[error("volume {volume}")]
    Volume {
        /// The volume.
        volume: VolumeId,
        /// What is wrong with it.
        #[source]
        source: VolumeError,
    },
    /// A volume cannot be given a file system.
    #[error("volume {volume}: a file system cannot be made: {reason}")]
    FileSystem {
        /// The volume.
        volume: VolumeId,
        /// What the program `mke2fs` or the system said.
        reason: String,
    },
    /// A volume cannot be mounted.
    #[error("volume {volume} cannot be mounted at {mount}")]
    Mount {
        /// The volume.
        volume: VolumeId,
        /// Where.
        mount: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Privileges cannot be dropped.
    #[error("privileges cannot be dropped")]
    Privileges(#[source] io::Error),
    /// The model is another than the configuration names.
    #[error("the model's manifest is {found}, expected {expected}")]
    Manifest {
        /// Of the configuration.
        expected: Digest,
        /// Of the model's files.
        found: Digest,
    },
    /// A device came while the guest serves.
    #[error("a device was attached to the running guest: {device}")]
    Hotplug {
        /// Its path below `/sys`.
        device: String,
    },
    /// The kernel's word about devices cannot be heard.
    #[error("the kernel's messages about devices cannot be read")]
    Uevents(#[source] io::Error),
}

impl BootError {
    /// Stable code, one of [`codes::CODES`](crate::codes::CODES), of the crates of volumes and of egress, or the broker's own.
    #[must_use]
    pub fn code(&self) -> &str {
        match self {
            Self::NoConfiguration { .. } => codes::CONFIGURATION_MISSING,
            Self::ConfigurationDisk { .. } => codes::CONFIGURATION_DISK,
            Self::System { .. } => codes::SYSTEM_FAILED,
            Self::Module { .. } | Self::ModuleList { .. } => codes::MODULE_FAILED,
            Self::NotHardened { .. } => codes::KERNEL_NOT_CLOSED,
            Self::Swap { .. } => codes::SWAP_ACTIVE,
            Self::Network { .. } => codes::NETWORK_FAILED,
            Self::DeviceMissing { .. } => codes::DEVICE_MISSING,
            Self::Clock { .. } => codes::CLOCK_UNTRUSTED,
            Self::NoRdseed => codes::RDSEED_MISSING,
            Self::BrokerUnreachable { .. } => codes::BROKER_UNREACHABLE,
            Self::BrokerIdentity { .. } => codes::BROKER_IDENTITY_WRONG,
            Self::Refused { code, .. } => code,
            Self::Unverified(_) => codes::RELEASE_UNVERIFIED,
            Self::Answer(_) => codes::RELEASE_INVALID,
            Self::Profile { .. } => codes::VOLUME_PROFILE_WRONG,
            Self::Egress(error) => error.code(),
            Self::Volume { source, .. } => source.code(),
            Self::FileSystem { .. } => codes::VOLUME_FILE_SYSTEM,
            Self::Mount { .. } => codes::VOLUME_NOT_MOUNTED,
            Self::Privileges(_) => codes::PRIVILEGES_KEPT,
            Self::Manifest { .. } => codes::MODEL_MANIFEST_WRONG,
            Self::Hotplug { .. } => codes::DEVICE_ATTACHED,
            Self::Uevents(_) => codes::DEVICES_UNWATCHED,
        }
    }
}
