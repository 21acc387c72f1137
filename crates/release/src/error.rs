//! Why a message is not what it should be.

use confide_evidence::cbor::CborError;

use crate::volume::VolumeId;

/// Why a message is refused, or secrets cannot be sealed or opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReleaseError {
    /// Not the canonical encoding of the message.
    #[error("the message is malformed")]
    Malformed(#[from] CborError),
    /// A rule of the format that its encoding does not show.
    #[error("the message breaks a rule of its format: {0}")]
    Rule(&'static str),
    /// The signature is not the broker's over this answer to this request.
    #[error("the answer is not signed by the broker whose key is measured, or answers another request")]
    Signature,
    /// The answer is about other volumes than those that were asked for.
    #[error("the answer holds {found}, expected {expected}")]
    Volumes {
        /// The volumes asked for, with commas between.
        expected: String,
        /// The volumes of the answer.
        found: String,
    },
    /// What is sealed for a volume was not sealed to this recipient for this challenge and volume.
    #[error(
        "the secrets of volume {0} were sealed to another key, for another challenge or for another volume"
    )]
    Open(VolumeId),
    /// The recipient's key is none, or the random source failed.
    #[error("cannot seal to the recipient's key")]
    Seal,
}
