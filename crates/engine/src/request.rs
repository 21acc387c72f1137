//! What a caller asks of the engine, and what it learns beside the text.

use serde::{Deserialize, Serialize};
use zeroize::Zeroize as _;

use crate::sampling::Sampling;

/// Messages of one request. More than any context holds in practice.
pub const MAX_MESSAGES: usize = 4096;
/// Stop strings of one request. OpenAI's API allows four.
pub const MAX_STOPS: usize = 16;
/// Bytes of one stop string. A stop string is a word or a line.
pub const MAX_STOP_BYTES: usize = 256;
/// Bytes of a role name. The longest in use is `assistant`.
const MAX_ROLE_BYTES: usize = 64;

/// One message of a conversation. Overwritten with zeros when dropped; implements neither `Debug` nor
/// `Display`.
#[derive(Clone, Serialize, Deserialize)]
pub struct Message {
    role: String,
    content: String,
}

impl Message {
    /// A message of `role` (`system`, `user`, `assistant`, ...: the chat template decides) with `content`.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into() }
    }

    /// Who speaks.
    pub fn role(&self) -> &str {
        &self.role
    }

    /// What is said.
    pub fn content(&self) -> &str {
        &self.content
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        self.content.zeroize();
    }
}

/// Strings at which a completion ends. They are not part of it.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct StopStrings(Vec<String>);

impl StopStrings {
    /// Checks stop strings.
    ///
    /// # Errors
    /// More than [`MAX_STOPS`], an empty one, or one longer than [`MAX_STOP_BYTES`].
    pub fn new(stops: Vec<String>) -> Result<Self, RequestFault> {
        if stops.len() > MAX_STOPS {
            return Err(RequestFault::TooManyStops { count: stops.len() });
        }
        let mut lengths = stops.iter().map(String::len).enumerate();
        match lengths.find(|(_, bytes)| *bytes == 0 || *bytes > MAX_STOP_BYTES) {
            Some((index, bytes)) => Err(RequestFault::StopLength { index, bytes }),
            None => Ok(Self(stops)),
        }
    }

    /// The strings.
    pub fn as_slice(&self) -> &[String] {
        &self.0
    }
}

impl TryFrom<Vec<String>> for StopStrings {
    type Error = RequestFault;

    fn try_from(stops: Vec<String>) -> Result<Self, RequestFault> {
        Self::new(stops)
    }
}

impl From<StopStrings> for Vec<String> {
    fn from(mut stops: StopStrings) -> Self {
        std::mem::take(&mut stops.0)
    }
}

/// A conversation to continue.
///
/// Implements neither `Debug` nor `Display`.
#[derive(Clone, Serialize, Deserialize)]
pub struct ChatRequest {
    /// The conversation so far.
    pub messages: Vec<Message>,
    /// How tokens are drawn.
    pub sampling: Sampling,
    /// Tokens that the completion may have; `None` for as many as the context holds.
    pub max_tokens: Option<u32>,
    /// Where the completion ends.
    pub stop: StopStrings,
}

impl ChatRequest {
    /// A greedy request without limits.
    pub fn new(messages: Vec<Message>) -> Self {
        Self { messages, sampling: Sampling::greedy(), max_tokens: None, stop: StopStrings::default() }
    }

    /// Checks what no type checks.
    ///
    /// # Errors
    /// No messages or too many, an endless role name, or no room for a single token.
    pub(crate) fn check(&self) -> Result<(), RequestFault> {
        match self.messages.len() {
            0 => return Err(RequestFault::NoMessages),
            count if count > MAX_MESSAGES => return Err(RequestFault::TooManyMessages { count }),
            _ => {}
        }
        let mut lengths = self.messages.iter().map(|message| message.role.len()).enumerate();
        if let Some((index, bytes)) = lengths.find(|(_, bytes)| *bytes > MAX_ROLE_BYTES) {
            return Err(RequestFault::RoleLength { index, bytes });
        }
        match self.max_tokens {
            Some(0) => Err(RequestFault::NoTokens),
            _ => Ok(()),
        }
    }
}

/// Why a request is invalid whatever the model.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestFault {
    /// The conversation is empty.
    #[error("messages is empty")]
    NoMessages,
    /// The conversation is too long.
    #[error("{count} messages, at most {MAX_MESSAGES}")]
    TooManyMessages {
        /// How many.
        count: usize,
    },
    /// A role name is too long.
    #[error("the role of message {index} has {bytes} bytes, at most {MAX_ROLE_BYTES}")]
    RoleLength {
        /// Index of the message.
        index: usize,
        /// Bytes of its role.
        bytes: usize,
    },
    /// `max_tokens` is zero.
    #[error("max_tokens is 0")]
    NoTokens,
    /// Too many stop strings.
    #[error("{count} stop strings, at most {MAX_STOPS}")]
    TooManyStops {
        /// How many.
        count: usize,
    },
    /// A stop string is empty or too long.
    #[error("stop string {index} has {bytes} bytes, must have 1 to {MAX_STOP_BYTES}")]
    StopLength {
        /// Index of the string.
        index: usize,
        /// Its bytes.
        bytes: usize,
    },
    /// The temperature is out of range.
    #[error("temperature {value} is not between 0 and {max}", max = crate::sampling::MAX_TEMPERATURE)]
    Temperature {
        /// What was asked for.
        value: f32,
    },
    /// `top_p` is out of range.
    #[error("top_p {value} is not above 0 and at most 1")]
    TopP {
        /// What was asked for.
        value: f32,
    },
}

/// Tokens that a request took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the rendered prompt.
    pub prompt_tokens: u32,
    /// Those of them that an earlier request of the same key-holder had computed.
    pub cached_tokens: u32,
    /// Tokens drawn, the end token included.
    pub completion_tokens: u32,
}

/// Why a completion ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum FinishReason {
    /// The model drew an end token, or a stop string appeared.
    Stop,
    /// `max_tokens` or the context was reached.
    Length,
}

impl FinishReason {
    /// The name in OpenAI's API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
        }
    }
}
