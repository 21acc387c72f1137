//! Why a volume does not open.

use std::io;
use std::path::PathBuf;

use confide_evidence::bytes::Digest;
use confide_release::Profile;

use crate::codes;

/// Why a volume does not open, cannot be made, or cannot be rotated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VolumeError {
    /// The disk or file cannot be read or written.
    #[error("cannot {action} the volume: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The beginning is no LUKS2 header.
    #[error("the {copy} header is no LUKS2 header")]
    NotLuks2 {
        /// `primary` or `secondary`.
        copy: &'static str,
    },
    /// A header of another size than the one that is read.
    #[error("the header has {found} bytes, not {expected}")]
    HeaderSize {
        /// What the header says, in bytes.
        found: u64,
        /// The one size that is read, in bytes.
        expected: u64,
    },
    /// A field of the binary header that has no such value.
    #[error("the header's field {field} is invalid")]
    BinaryField {
        /// Its name in the LUKS2 format.
        field: &'static str,
    },
    /// The header's own checksum does not fit: it is torn or changed.
    #[error("the {copy} header's checksum is not that of its bytes")]
    Checksum {
        /// `primary` or `secondary`.
        copy: &'static str,
    },
    /// JSON that is none, or has a field that no profile has, or lacks one.
    #[error("the header's JSON is not that of a volume: {reason}")]
    Json {
        /// What is wrong, in printable ASCII.
        reason: String,
    },
    /// A flag or a requirement, such as an interrupted re-encryption.
    #[error("the header asks for {what}, which no volume needs")]
    Requirement {
        /// Its kind.
        what: &'static str,
    },
    /// More or fewer of something than a profile has.
    #[error("the header has {found} {what}, not {expected}")]
    Count {
        /// What is counted.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// How many there may be.
        expected: usize,
    },
    /// A part of the header that is of another kind.
    #[error("the header's {what} is of the type {found:?}, not {expected:?}")]
    Type {
        /// Which part.
        what: &'static str,
        /// Its type.
        found: String,
        /// The one that is read.
        expected: &'static str,
    },
    /// A cipher that encrypts nothing.
    #[error("the header's {what} is encrypted by {found:?}: it is not encrypted at all")]
    NullCipher {
        /// Which part.
        what: &'static str,
        /// What the header says.
        found: String,
    },
    /// Another cipher than that of both profiles.
    #[error("the header's {what} is encrypted by {found:?}, not {expected:?}")]
    Cipher {
        /// Which part.
        what: &'static str,
        /// What the header says.
        found: String,
        /// The one that is read.
        expected: &'static str,
    },
    /// Integrity tags where the profile has none, other ones, or none where it has them.
    #[error("the header's segment has the integrity tags {found:?}, which volumes `{profile}` do not have")]
    Integrity {
        /// What the header says.
        found: Option<String>,
        /// The profile asked for.
        profile: Profile,
    },
    /// Another hash function than SHA-256.
    #[error("the header's {what} uses the hash function {found:?}, not \"sha256\"")]
    Hash {
        /// Which part.
        what: &'static str,
        /// What the header says.
        found: String,
    },
    /// A number that is fixed by the profile has another value.
    #[error("the header's {what} is {found}, not {expected}")]
    Number {
        /// Which number.
        what: &'static str,
        /// What the header says.
        found: u64,
        /// The value of the profile.
        expected: u64,
    },
    /// So many iterations that a guest would stand still, or too few.
    #[error("the header's {what} asks for {found} iterations, not {least} to {most}")]
    Iterations {
        /// Which part.
        what: &'static str,
        /// What the header says.
        found: u64,
        /// The least.
        least: u64,
        /// The most.
        most: u64,
    },
    /// A salt or a digest of another length.
    #[error("the header's {what} has {found} bytes, not {expected}")]
    Length {
        /// Which part.
        what: &'static str,
        /// Its length in bytes.
        found: usize,
        /// The length that is read.
        expected: usize,
    },
    /// An area that is larger or smaller than a keyslot.
    #[error("the keyslot's area has {found} bytes, not {expected}")]
    AreaSize {
        /// What the header says, in bytes.
        found: u64,
        /// The bytes of the profile's keyslot.
        expected: u64,
    },
    /// An area that lies over the headers, or beyond what is read.
    #[error("the keyslot's area at {offset} does not lie between the headers and byte {end}")]
    AreaBounds {
        /// Where it begins, in bytes.
        offset: u64,
        /// Where keyslots must end, in bytes.
        end: u64,
    },
    /// An offset that is no multiple of a block.
    #[error("the header's {what} is {found}, which is no multiple of {unit}")]
    Alignment {
        /// Which offset.
        what: &'static str,
        /// What the header says, in bytes.
        found: u64,
        /// The unit, in bytes.
        unit: u64,
    },
    /// The encrypted data begin before the header ends, or far behind it.
    #[error("the encrypted data begin at byte {found}, not between {least} and {most}")]
    SegmentOffset {
        /// What the header says, in bytes.
        found: u64,
        /// The least, in bytes.
        least: u64,
        /// The most, in bytes.
        most: u64,
    },
    /// Keyslot, digest and segment do not name each other.
    #[error("the header's {what} names other parts than those that are there")]
    Reference {
        /// Which part.
        what: &'static str,
    },
    /// A token of another program.
    #[error("the header has a token of the type {found:?}, not {expected:?}")]
    ForeignToken {
        /// Its type.
        found: String,
        /// The type of ours.
        expected: &'static str,
    },
    /// Our token holds what is no address, or no name of a volume.
    #[error("the header's token has no usable {field}")]
    Token {
        /// Its field.
        field: &'static str,
    },
    /// A header that the broker did not release: an older one, or one that somebody changed.
    #[error(
        "the broker did not release this header (digest {found}): it is an older one, or somebody changed it"
    )]
    RolledBack {
        /// The digest of the header that is there.
        found: Digest,
    },
    /// The secret opens no keyslot of the header.
    #[error("the secret does not open this volume")]
    SecretWrong,
    /// The volume is smaller than what is on it.
    #[error("the volume has {found} bytes after its header, fewer than {needed}")]
    TooSmall {
        /// What there is, in bytes.
        found: u64,
        /// What is needed, in bytes.
        needed: u64,
    },
    /// A size or a number of blocks in the broker's answer that cannot be.
    #[error("the released {what} cannot be that of a volume: {found}")]
    Released {
        /// Which number.
        what: &'static str,
        /// What the answer says.
        found: u64,
    },
    /// A name that no mapping may have.
    #[error("{found:?} is no name of a volume")]
    Name {
        /// The name.
        found: String,
    },
    /// What should be a disk is none.
    #[error("{path} is no block device")]
    NoDisk {
        /// Its path.
        path: PathBuf,
    },
    /// The kernel refused a device-mapper call.
    #[error("the kernel refused to {action} the {target} mapping {name}: {source}")]
    Mapping {
        /// What was tried.
        action: &'static str,
        /// The target: `crypt`, `verity` or `integrity`.
        target: &'static str,
        /// The mapping's name.
        name: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel offers no device-mapper, or one of another version.
    #[error("the kernel's device-mapper cannot be used: {source}")]
    NoDeviceMapper {
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel did not take the volume key.
    #[error("the kernel did not take the volume's key: {source}")]
    Keyring {
        /// What the kernel said.
        source: io::Error,
    },
    /// A block that is not the one that was written.
    #[error("the volume is damaged or was changed at byte {offset}: {source}")]
    Corrupted {
        /// Where, in bytes of the opened volume.
        offset: u64,
        /// What the kernel said.
        source: io::Error,
    },
    /// A block, of data or of the tree, that does not have its hash.
    #[error("block {block} of the volume does not have its hash: it is damaged or was changed")]
    Verity {
        /// Its number, in blocks of 4096 bytes from the beginning of the data.
        block: u64,
    },
    /// The operating system gives no random bytes.
    #[error("the operating system gives no random bytes")]
    Random,
    /// A program of e2fsprogs is missing or failed.
    #[error("{program} failed: {reason}")]
    Tool {
        /// Which program.
        program: &'static str,
        /// Its last words, or the system's.
        reason: String,
    },
    /// Something in the folder that is packed which no volume holds: a link, a socket, a device.
    #[error("{path} is neither a file nor a folder, so it cannot be packed")]
    Source {
        /// What it is.
        path: PathBuf,
    },
    /// An image that another program works on.
    #[error("{path}: another program works on this image")]
    Locked {
        /// Which file.
        path: PathBuf,
    },
    /// A file that would be overwritten.
    #[error("{path} exists already, and is not overwritten")]
    Exists {
        /// Which file.
        path: PathBuf,
    },
}

impl VolumeError {
    /// Stable code, one of [`CODES`](crate::CODES).
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Io { .. } => codes::IO,
            Self::NotLuks2 { .. } => codes::NOT_LUKS2,
            Self::HeaderSize { .. } => codes::HEADER_SIZE,
            Self::BinaryField { .. } => codes::BINARY_FIELD,
            Self::Checksum { .. } => codes::CHECKSUM,
            Self::Json { .. } => codes::JSON,
            Self::Requirement { .. } => codes::REQUIREMENT,
            Self::Count { .. } => codes::COUNT,
            Self::Type { .. } => codes::TYPE,
            Self::NullCipher { .. } => codes::NULL_CIPHER,
            Self::Cipher { .. } => codes::CIPHER,
            Self::Integrity { .. } => codes::INTEGRITY,
            Self::Hash { .. } => codes::HASH,
            Self::Number { .. } => codes::NUMBER,
            Self::Iterations { .. } => codes::ITERATIONS,
            Self::Length { .. } => codes::LENGTH,
            Self::AreaSize { .. } => codes::AREA_SIZE,
            Self::AreaBounds { .. } => codes::AREA_BOUNDS,
            Self::Alignment { .. } => codes::ALIGNMENT,
            Self::SegmentOffset { .. } => codes::SEGMENT_OFFSET,
            Self::Reference { .. } => codes::REFERENCE,
            Self::ForeignToken { .. } => codes::FOREIGN_TOKEN,
            Self::Token { .. } => codes::TOKEN,
            Self::RolledBack { .. } => codes::ROLLED_BACK,
            Self::SecretWrong => codes::SECRET_WRONG,
            Self::TooSmall { .. } => codes::TOO_SMALL,
            Self::Released { .. } => codes::RELEASED,
            Self::Name { .. } => codes::NAME,
            Self::NoDisk { .. } => codes::NO_DISK,
            Self::Mapping { .. } => codes::MAPPING,
            Self::NoDeviceMapper { .. } => codes::NO_DEVICE_MAPPER,
            Self::Keyring { .. } => codes::KEYRING,
            Self::Corrupted { .. } => codes::CORRUPTED,
            Self::Verity { .. } => codes::VERITY,
            Self::Random => codes::RANDOM,
            Self::Tool { .. } => codes::TOOL,
            Self::Source { .. } => codes::SOURCE,
            Self::Locked { .. } => codes::LOCKED,
            Self::Exists { .. } => codes::EXISTS,
        }
    }
}

/// Names what was tried, for `map_err`.
pub(crate) fn io(action: &'static str) -> impl FnOnce(io::Error) -> VolumeError {
    move |source| VolumeError::Io { action, source }
}
