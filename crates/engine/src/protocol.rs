//! Frames between the guest and its engine process: `u32` big-endian length, then one CBOR message of at most
//! [`MAX_FRAME`] bytes. Both ends are the same measured program; limits and strictness are there so that a
//! fault on one side is an error on the other, not memory or a panic.

use std::io::{self, Read, Write};
use std::time::Duration;

use cbor4ii::core::dec::Read as _;
use cbor4ii::core::utils::SliceReader;
use confide_evidence::manifest::ModelManifest;
use confide_evidence::text::steers;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use zeroize::Zeroizing;

use crate::codes;
use crate::engine::ModelInfo;
use crate::error::EngineError;
use crate::prefix::KeyHolder;
use crate::request::{ChatRequest, FinishReason, Usage};

/// Bytes of one message: 16 MiB. A manifest takes 34 bytes for each 4 MiB of the model, so that this allows
/// two terabytes of weights.
pub const MAX_FRAME: usize = 16 * 1024 * 1024;

/// Characters of the sentence of a [`Failure`]. A sentence or two.
pub const MAX_SENTENCE: usize = 500;

/// Bytes of the length in front of each message.
const PREFIX: usize = 4;

/// Names a request on one socket; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RequestId(pub u64);

/// What the guest says to the engine.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum ToEngine {
    /// Continue a conversation.
    Chat {
        /// Name of the request.
        id: RequestId,
        /// Whose it is, to be served in turn with others and to use what their earlier requests computed.
        holder: Option<KeyHolder>,
        /// The conversation.
        request: ChatRequest,
    },
    /// Stop a request; nothing more is said about it. Unknown and finished requests are ignored.
    Cancel {
        /// Name of the request.
        id: RequestId,
    },
}

/// What the engine says to the guest.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum FromEngine {
    /// The first message: the model is loaded.
    Ready(Ready),
    /// The first and only message: the model cannot be loaded.
    Refused(Failure),
    /// What happened to a request.
    Event {
        /// Name of the request.
        id: RequestId,
        /// What happened.
        event: Event,
    },
    /// The engine works and has nothing to say yet: a long prompt is being read.
    Working,
}

/// The model that an engine process runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ready {
    /// What a caller may know of it.
    pub info: ModelInfo,
    /// Hashes of the bytes that it uses, and of every other file in the folder.
    pub manifest: ModelManifest,
}

/// What happened to a request. Completions implement neither `Debug` nor `Display`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Event {
    /// The completion goes on with this text, whole characters only.
    Text(String),
    /// The completion is over.
    Finished {
        /// Why.
        reason: FinishReason,
        /// Tokens that it took.
        usage: Usage,
    },
    /// The request failed.
    Failed(Failure),
}

/// Why a request failed or a model cannot be loaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(deny_unknown_fields)]
#[error("{message}")]
pub struct Failure {
    /// Stable code, one of [`codes::CODES`].
    pub code: String,
    /// A sentence without any text of the request, of at most [`MAX_SENTENCE`] characters, none of which
    /// a terminal obeys.
    pub message: String,
    /// Whose fault it is.
    pub blame: Blame,
}

/// Whose fault a failure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Blame {
    /// The request's: the same request fails again.
    Request,
    /// The engine's or the machine's.
    Engine,
}

impl Failure {
    pub(crate) fn busy(waiting: usize) -> Self {
        Self::engine(codes::ENGINE_BUSY, format!("{waiting} requests wait already"))
    }

    pub(crate) fn exited() -> Self {
        Self::engine(codes::ENGINE_EXITED, "the engine process is gone".to_owned())
    }

    pub(crate) fn protocol(error: &ProtocolError) -> Self {
        Self::engine(codes::ENGINE_PROTOCOL, error.to_string())
    }

    pub(crate) fn stalled(patience: Duration) -> Self {
        let message = format!("the engine process said nothing for {} seconds", patience.as_secs());
        Self::engine(codes::ENGINE_STALLED, message)
    }

    pub(crate) fn too_large() -> Self {
        let message = format!("the request has more than {MAX_FRAME} bytes");
        Self { code: codes::REQUEST_TOO_LARGE.to_owned(), message, blame: Blame::Request }
    }

    fn engine(code: &str, message: String) -> Self {
        Self { code: code.to_owned(), message, blame: Blame::Engine }
    }
}

impl From<&EngineError> for Failure {
    fn from(error: &EngineError) -> Self {
        let blame = if error.blames_request() { Blame::Request } else { Blame::Engine };
        Self { code: error.code().to_owned(), message: sentence(&causes(error)), blame }
    }
}

/// An error with what caused it.
fn causes(error: &EngineError) -> String {
    let first: &dyn std::error::Error = error;
    let causes = std::iter::successors(Some(first), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// A sentence about a model folder, which quotes names and text of its files: not all of a long one, and nothing that a
/// terminal obeys.
fn sentence(text: &str) -> String {
    let plain = |one: char| if steers(one) { char::REPLACEMENT_CHARACTER } else { one };
    text.chars().take(MAX_SENTENCE).map(plain).collect()
}

/// Why a frame cannot be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// The message is longer than [`MAX_FRAME`].
    #[error("a frame of {bytes} bytes, at most {MAX_FRAME}")]
    Oversized {
        /// Its length.
        bytes: usize,
    },
    /// The socket ended inside a frame.
    #[error("the socket ended inside a frame")]
    Truncated,
    /// The message is not the CBOR of a known one, or bytes follow it.
    #[error("a frame is malformed")]
    Malformed,
    /// A message that is not allowed now.
    #[error("a frame is out of order: {0}")]
    Unexpected(&'static str),
    /// The socket failed.
    #[error("the socket failed")]
    Socket(#[from] io::Error),
}

/// A message with its length in front. Overwritten with zeros when dropped.
pub struct Frame(Zeroizing<Vec<u8>>);

impl Frame {
    /// Encodes a message.
    ///
    /// # Errors
    /// [`ProtocolError::Oversized`].
    pub fn encode<T: Serialize>(message: &T) -> Result<Self, ProtocolError> {
        let bytes = cbor4ii::serde::to_vec(vec![0; PREFIX], message).map_err(|_| ProtocolError::Malformed)?;
        let mut bytes = Zeroizing::new(bytes);
        let length = bytes.len().saturating_sub(PREFIX);
        let prefix = u32::try_from(length).ok().filter(|_| length <= MAX_FRAME);
        let prefix = prefix.ok_or(ProtocolError::Oversized { bytes: length })?;
        *bytes.first_chunk_mut().ok_or(ProtocolError::Malformed)? = prefix.to_be_bytes();
        Ok(Self(bytes))
    }

    /// The bytes for the socket.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Writes the frame.
    ///
    /// # Errors
    /// The socket failed.
    pub fn write(&self, socket: &mut impl Write) -> Result<(), ProtocolError> {
        Ok(socket.write_all(&self.0)?)
    }
}

/// Reads one message, or `None` where the socket ended between two.
///
/// # Errors
/// Any [`ProtocolError`].
pub fn read<T: DeserializeOwned>(socket: &mut impl Read) -> Result<Option<T>, ProtocolError> {
    let mut prefix = [0; PREFIX];
    match socket.read(&mut prefix[..1])? {
        0 => return Ok(None),
        _ => socket.read_exact(&mut prefix[1..]).map_err(ended)?,
    }
    let mut message = buffer(prefix)?;
    socket.read_exact(&mut message).map_err(ended)?;
    decode(&message).map(Some)
}

/// As [`read`], without blocking the thread.
///
/// # Errors
/// Any [`ProtocolError`].
pub async fn read_async<T: DeserializeOwned>(
    socket: &mut (impl AsyncRead + Unpin),
) -> Result<Option<T>, ProtocolError> {
    let mut prefix = [0; PREFIX];
    match socket.read(&mut prefix[..1]).await? {
        0 => return Ok(None),
        _ => socket.read_exact(&mut prefix[1..]).await.map_err(ended)?,
    };
    let mut message = buffer(prefix)?;
    socket.read_exact(&mut message).await.map_err(ended)?;
    decode(&message).map(Some)
}

/// Room for a message of the announced length.
fn buffer(prefix: [u8; PREFIX]) -> Result<Zeroizing<Vec<u8>>, ProtocolError> {
    let bytes = usize::try_from(u32::from_be_bytes(prefix)).unwrap_or(usize::MAX);
    if bytes > MAX_FRAME {
        return Err(ProtocolError::Oversized { bytes });
    }
    Ok(Zeroizing::new(vec![0; bytes]))
}

/// Decodes one message and nothing after it.
fn decode<T: DeserializeOwned>(message: &[u8]) -> Result<T, ProtocolError> {
    let mut decoder = cbor4ii::serde::Deserializer::new(SliceReader::new(message));
    let value = T::deserialize(&mut decoder).map_err(|_| ProtocolError::Malformed)?;
    match decoder.into_inner().fill(1) {
        Ok(rest) if rest.as_ref().is_empty() => Ok(value),
        _ => Err(ProtocolError::Malformed),
    }
}

fn ended(error: io::Error) -> ProtocolError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => ProtocolError::Truncated,
        _ => ProtocolError::Socket(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Message;
    use proptest::prelude::*;
    use proptest::sample::Index;

    fn chat() -> ToEngine {
        let request = ChatRequest::new(vec![Message::new("user", "What is an RTMR?")]);
        ToEngine::Chat { id: RequestId(7), holder: Some(KeyHolder([7; 16])), request }
    }

    #[test]
    fn a_message_survives_the_socket() {
        let frame = Frame::encode(&chat()).unwrap();
        let Some(ToEngine::Chat { id, request, .. }) = read(&mut frame.as_bytes()).unwrap() else {
            panic!("another message came out")
        };
        assert_eq!(id, RequestId(7));
        assert_eq!(request.messages[0].content(), "What is an RTMR?");
    }

    #[test]
    fn the_end_between_frames_is_no_error() {
        assert!(read::<ToEngine>(&mut &[][..]).unwrap().is_none());
    }

    #[test]
    fn every_truncation_is_refused() {
        let frame = Frame::encode(&chat()).unwrap();
        for length in 1..frame.as_bytes().len() {
            let error = read::<ToEngine>(&mut &frame.as_bytes()[..length]).err();
            assert!(matches!(error, Some(ProtocolError::Truncated)), "{length} bytes");
        }
    }

    #[test]
    fn oversized_frames_are_refused_before_they_are_read() {
        let error = read::<ToEngine>(&mut &0x0100_0001u32.to_be_bytes()[..]).err();
        assert!(matches!(error, Some(ProtocolError::Oversized { bytes: 0x0100_0001 })));
        let request = ChatRequest::new(vec![Message::new("user", "x".repeat(MAX_FRAME))]);
        let error = Frame::encode(&ToEngine::Chat { id: RequestId(1), holder: None, request }).err();
        assert!(matches!(error, Some(ProtocolError::Oversized { .. })));
    }

    #[test]
    fn what_a_model_folder_says_is_short_and_printable() {
        let reason = format!("\u{1b}]0;title\u{7}\n{}", "x".repeat(MAX_FRAME));
        let failure = Failure::from(&EngineError::TokenizerInvalid { reason });
        assert_eq!(failure.message.chars().count(), MAX_SENTENCE);
        assert!(!failure.message.contains(steers), "{}", failure.message);
        Frame::encode(&FromEngine::Refused(failure)).unwrap();
    }

    /// What either side makes of a message that the other one sent.
    fn is_read_or_refused(message: &[u8]) {
        let frame = [&u32::try_from(message.len()).unwrap().to_be_bytes()[..], message].concat();
        let written = match read::<FromEngine>(&mut &frame[..]) {
            Ok(message) => Frame::encode(&message.unwrap()).map(drop),
            Err(error) => Err(error),
        };
        let read = read::<ToEngine>(&mut &frame[..]).map(drop);
        for outcome in [written, read] {
            assert!(matches!(outcome, Ok(()) | Err(ProtocolError::Malformed)), "{outcome:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_of_a_message_are_read_or_refused(bytes: Vec<u8>) {
            is_read_or_refused(&bytes);
        }

        #[test]
        fn any_change_of_a_message_is_read_or_refused(
            which in 0_usize..4, place: Index, length in 0_usize..4, piece in prop::collection::vec(any::<u8>(), 0..4),
        ) {
            let failure = Failure::engine(codes::ENGINE_BUSY, "busy".to_owned());
            let event = |event| Frame::encode(&FromEngine::Event { id: RequestId(7), event });
            let frame = match which {
                0 => Frame::encode(&chat()),
                1 => event(Event::Text("text".to_owned())),
                2 => event(Event::Failed(failure)),
                _ => Frame::encode(&FromEngine::Working),
            };
            let mut message = frame.unwrap().as_bytes()[PREFIX..].to_vec();
            let begin = place.index(message.len());
            message.splice(begin..(begin + length).min(message.len()), piece);
            is_read_or_refused(&message);
        }
    }

    #[test]
    fn garbage_and_trailing_bytes_are_refused() {
        let mut trailing = Frame::encode(&ToEngine::Cancel { id: RequestId(1) }).unwrap().as_bytes().to_vec();
        trailing.push(0);
        trailing[3] += 1;
        for frame in [&trailing[..], &[0, 0, 0, 1, 0xff], &[0, 0, 0, 0], &[0, 0, 0, 2, 0xa1, 0x61]] {
            assert!(matches!(read::<ToEngine>(&mut &frame[..]).err(), Some(ProtocolError::Malformed)));
        }
    }
}
