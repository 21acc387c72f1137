//! Key release: what a booting guest and a broker say to each other, how the keys are sealed, and the entries of the broker's
//! audit log.
//!
//! Layer 2, no I/O. The broker hands out a [`Challenge`]; the guest answers with a [`ReleaseRequest`] that carries evidence of
//! the role `key-release`; the broker appraises it, seals each volume's [`VolumeSecrets`] to the guest's recipient key, and
//! signs the [`ReleaseAnswer`]. The guest verifies that signature before it decrypts anything: only a
//! [`VerifiedAnswer`] opens. All messages are canonical CBOR, of the media type [`MEDIA_TYPE`]; refusals are JSON
//! ([`Refusal`]).

#![cfg_attr(
    not(test),
    warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)
)]

mod answer;
pub mod audit;
mod error;
mod identity;
mod message;
mod recipient;
mod refusal;
mod volume;

pub use answer::{ReleaseAnswer, SealedVolume, VerifiedAnswer, seal, signing_input};
pub use error::ReleaseError;
pub use identity::{IdentityKey, IdentityKeyError};
pub use message::{
    CHALLENGE_PATH, Challenge, FAILURE_PATH, FORMATTED_PATH, Failure, Formatted, MAX_ANSWER, MAX_MESSAGE,
    MAX_REQUEST, MEDIA_TYPE, RELEASE_PATH, ReleaseRequest,
};
pub use recipient::RecipientKey;
pub use refusal::{Fault, MAX_REFUSAL, Refusal};
pub use volume::{MAX_VOLUMES, Profile, Secret, Verity, Version, VolumeId, VolumeIdError, VolumeSecrets};
