//! What guest and broker send each other, apart from the answer.

use confide_evidence::bytes::{ByteString, Bytes, Digest};
use confide_evidence::cbor;
use confide_evidence::document::MAX_DOCUMENT;
use serde::{Deserialize, Serialize};

use crate::error::ReleaseError;
use crate::volume::{MAX_VOLUMES, VolumeId};

/// Media type of every message here.
pub const MEDIA_TYPE: &str = "application/vnd.confide.release+cbor";
/// `POST` without a body gives a [`Challenge`].
pub const CHALLENGE_PATH: &str = "/v1/challenge";
/// `POST` of a [`ReleaseRequest`] gives a [`ReleaseAnswer`](crate::ReleaseAnswer).
pub const RELEASE_PATH: &str = "/v1/release";
/// `POST` of a [`Formatted`] gives 204 without a body.
pub const FORMATTED_PATH: &str = "/v1/formatted";
/// `POST` of a [`Failure`] gives 204 without a body.
pub const FAILURE_PATH: &str = "/v1/failure";

/// The largest [`ReleaseRequest`], in bytes: a document and at most 64 names of 64 bytes.
pub const MAX_REQUEST: usize = MAX_DOCUMENT + 8 * 1024;
/// The largest [`ReleaseAnswer`](crate::ReleaseAnswer), in bytes: GPU endorsements as a document may staple them, and under
/// 2 KiB for each of 64 volumes.
pub const MAX_ANSWER: usize = MAX_DOCUMENT + 64 * 2 * 1024;
/// The largest of the other messages, in bytes: a [`Failure`] with its sentence.
pub const MAX_MESSAGE: usize = 1024;
/// Bytes of a failure's code. The longest of `docs/errors.md` has about 40.
const MAX_CODE: usize = 64;
/// Bytes of a failure's sentence. A line of a console; what is longer is cut.
const MAX_SENTENCE: usize = 512;

/// A nonce that the broker takes once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Challenge {
    /// Field 3 of the transcript.
    pub nonce: Bytes<32>,
    /// When the broker forgets it, Unix seconds of the broker's clock.
    pub expires_at: u64,
}

impl Challenge {
    /// The canonical encoding.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        own(self)
    }

    /// Reads a challenge.
    ///
    /// # Errors
    /// [`ReleaseError::Malformed`].
    pub fn decode(bytes: &[u8]) -> Result<Self, ReleaseError> {
        Ok(cbor::from_canonical_within(bytes, MAX_MESSAGE)?)
    }
}

/// One boot's request for the keys of all its volumes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseRequest {
    /// The challenge that the evidence answers.
    pub nonce: Bytes<32>,
    /// 1 to 64 volumes, each once.
    pub volumes: Vec<VolumeId>,
    /// The evidence document, role `key-release`, at most 4 MiB.
    pub document: ByteString,
}

impl ReleaseRequest {
    /// The canonical encoding.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        own(self)
    }

    /// Reads a request. The document is not looked into.
    ///
    /// # Errors
    /// [`ReleaseError::Malformed`]; [`ReleaseError::Rule`] for no volume, too many, or one that is named twice.
    pub fn decode(bytes: &[u8]) -> Result<Self, ReleaseError> {
        let request: Self = cbor::from_canonical_within(bytes, MAX_REQUEST)?;
        distinct(request.volumes.iter())?;
        Ok(request)
    }
}

/// The header of a `state` volume that a guest has formatted, at the first attested boot with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Formatted {
    /// [`VolumeSecrets::format_token`](crate::VolumeSecrets::format_token).
    pub token: Bytes<32>,
    /// Digest of the header as it stands on the disk.
    pub header: Digest,
    /// The volume.
    pub volume: VolumeId,
}

impl Formatted {
    /// The canonical encoding.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        own(self)
    }

    /// Reads the message.
    ///
    /// # Errors
    /// [`ReleaseError::Malformed`].
    pub fn decode(bytes: &[u8]) -> Result<Self, ReleaseError> {
        Ok(cbor::from_canonical_within(bytes, MAX_MESSAGE)?)
    }
}

/// Why a boot ended. Nothing vouches for it: whoever reaches the broker can send it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failure {
    /// The stable code, at most 64 bytes of `a-z`, `0-9` and `_`.
    pub code: String,
    /// The boot.
    pub boot_id: Bytes<16>,
    /// One sentence, at most 512 bytes, without control characters.
    pub sentence: String,
}

impl Failure {
    /// A failure with as much of `sentence` as the format takes.
    #[must_use]
    pub fn new(code: &str, boot_id: Bytes<16>, sentence: &str) -> Self {
        let mut kept: String = sentence.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        kept.truncate(kept.floor_char_boundary(MAX_SENTENCE));
        Self { code: code.to_owned(), boot_id, sentence: kept }
    }

    /// The canonical encoding.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        own(self)
    }

    /// Reads the message.
    ///
    /// # Errors
    /// [`ReleaseError::Malformed`]; [`ReleaseError::Rule`] for a code or a sentence that is longer or has other characters.
    pub fn decode(bytes: &[u8]) -> Result<Self, ReleaseError> {
        let failure: Self = cbor::from_canonical_within(bytes, MAX_MESSAGE)?;
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        if failure.code.is_empty() || failure.code.len() > MAX_CODE || !failure.code.bytes().all(plain) {
            return Err(ReleaseError::Rule("a code has 1 to 64 bytes of a-z, 0-9 and _"));
        }
        if failure.sentence.len() > MAX_SENTENCE || failure.sentence.chars().any(char::is_control) {
            return Err(ReleaseError::Rule("a sentence has at most 512 bytes and no control characters"));
        }
        Ok(failure)
    }
}

/// The encoding of a message of ours.
pub(crate) fn own<T: Serialize>(message: &T) -> Vec<u8> {
    cbor::to_canonical(message).expect("messages declare their fields in canonical order")
}

/// 1 to [`MAX_VOLUMES`] volumes, each once.
pub(crate) fn distinct<'a>(ids: impl ExactSizeIterator<Item = &'a VolumeId>) -> Result<(), ReleaseError> {
    let count = ids.len();
    if count == 0 || count > MAX_VOLUMES {
        return Err(ReleaseError::Rule("1 to 64 volumes"));
    }
    let names: std::collections::BTreeSet<_> = ids.collect();
    if names.len() == count { Ok(()) } else { Err(ReleaseError::Rule("each volume once")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> VolumeId {
        VolumeId::try_from(name.to_owned()).unwrap()
    }

    fn request(volumes: &[&str]) -> ReleaseRequest {
        let volumes = volumes.iter().map(|name| id(name)).collect();
        ReleaseRequest { nonce: Bytes([1; 32]), volumes, document: vec![2; 9].into() }
    }

    #[test]
    fn messages_are_read_as_they_are_written() {
        let challenge = Challenge { nonce: Bytes([1; 32]), expires_at: 7 };
        assert_eq!(Challenge::decode(&challenge.encode()), Ok(challenge));
        let request = request(&["model", "state"]);
        assert_eq!(ReleaseRequest::decode(&request.encode()), Ok(request));
        let formatted = Formatted { token: Bytes([3; 32]), header: Bytes([4; 32]), volume: id("state") };
        assert_eq!(Formatted::decode(&formatted.encode()), Ok(formatted));
        let failure = Failure::new("header_digest", Bytes([5; 16]), "the header is another one");
        assert_eq!(Failure::decode(&failure.encode()), Ok(failure));
    }

    #[test]
    fn a_request_names_1_to_64_volumes_each_once() {
        assert!(ReleaseRequest::decode(&request(&[]).encode()).is_err());
        assert!(ReleaseRequest::decode(&request(&["model", "model"]).encode()).is_err());
        let names: Vec<_> = (0..65).map(|index| format!("v{index}")).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        assert!(ReleaseRequest::decode(&request(&names).encode()).is_err());
        assert!(ReleaseRequest::decode(&request(&names[..64]).encode()).is_ok());
    }

    #[test]
    fn what_is_cut_trailed_or_too_long_is_refused() {
        let whole = request(&["model"]).encode();
        for length in 0..whole.len() {
            assert!(ReleaseRequest::decode(&whole[..length]).is_err(), "{length} bytes");
        }
        assert!(ReleaseRequest::decode(&[whole, vec![0]].concat()).is_err());
        let large = ReleaseRequest { document: vec![0; MAX_REQUEST].into(), ..request(&["model"]) };
        assert!(ReleaseRequest::decode(&large.encode()).is_err());
    }

    #[test]
    fn a_failure_is_one_printable_line() {
        let long = Failure::new("x", Bytes([0; 16]), &"é\n".repeat(400));
        assert!(long.sentence.len() <= MAX_SENTENCE && !long.sentence.contains('\n'));
        assert!(Failure::decode(&long.encode()).is_ok());
        for (code, sentence) in [("", "s"), ("A", "s"), ("a b", "s"), ("a", "line\nline"), ("a", "\u{1b}[2J")]
        {
            let failure = Failure { code: code.into(), boot_id: Bytes([0; 16]), sentence: sentence.into() };
            assert!(Failure::decode(&failure.encode()).is_err(), "{code:?} {sentence:?}");
        }
        let code = "a".repeat(MAX_CODE + 1);
        assert!(Failure::decode(&Failure::new(&code, Bytes([0; 16]), "s").encode()).is_err());
    }
}
