//! DNS messages (RFC 1035), as far as a client needs them that asks for addresses alone.
//!
//! Own code, of two functions for each direction: [`query`] and [`answer`] face the resolvers that the policy names,
//! [`Question::read`] and [`Question::reply`] the workload. Nothing that the workload sends is ever passed on: what goes out is
//! encoded anew from a name that the policy allows.

mod message;
mod question;
mod reader;

pub(crate) use message::{Answer, AnswerError, MAX_ANSWER, query};
pub(crate) use question::{Outcome, Question};

pub(crate) use message::answer;

/// The longest name as text, in bytes (RFC 1035 section 2.3.4: 255 octets with the length of each label and the root's).
pub(crate) const MAX_NAME: usize = 253;
/// The longest label, in bytes (RFC 1035 section 2.3.4).
pub(crate) const MAX_LABEL: usize = 63;
/// The octets of the header (RFC 1035 section 4.1.1).
const HEADER: usize = 12;
/// The class of the internet (RFC 1035 section 3.2.4).
const IN: u16 = 1;

/// What kind of address is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// `A` (RFC 1035 section 3.4.1).
    V4,
    /// `AAAA` (RFC 3596).
    V6,
}

impl Family {
    /// The number of the record type.
    pub(crate) fn record_type(self) -> u16 {
        match self {
            Self::V4 => 1,
            Self::V6 => 28,
        }
    }
}

/// Appends a name as labels. The name is one of the policy's or one that was read here: every label has 1 to 63 bytes.
fn write_name(message: &mut Vec<u8>, name: &str) {
    for label in name.split('.') {
        debug_assert!((1..=MAX_LABEL).contains(&label.len()), "{name}");
        message.push(u8::try_from(label.len()).unwrap_or_default());
        message.extend_from_slice(label.as_bytes());
    }
    message.push(0);
}
