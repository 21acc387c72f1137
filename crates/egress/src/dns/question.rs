//! A question of the workload, and what it is told.

use std::net::Ipv4Addr;

use super::reader::{Malformed, Reader};
use super::{Family, HEADER, IN, write_name};

const RECURSION_DESIRED: u16 = 0x0100;
const RECURSION_AVAILABLE: u16 = 0x0080;
const RESPONSE: u16 = 0x8000;
/// A compressed name: a pointer to the question's, which follows the header.
#[expect(clippy::as_conversions, reason = "a constant, 12")]
const THE_QUESTIONS_NAME: u16 = 0xc000 | HEADER as u16;

/// One question.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Question {
    id: u16,
    /// Whether recursion is desired: a reply repeats that.
    recursion: u16,
    record_type: u16,
    /// In lower case.
    pub(crate) name: String,
}

/// What a question is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// One address, for so many seconds.
    Address(Ipv4Addr, u32),
    /// The name exists and has no record of this type.
    NoData,
    /// `SERVFAIL`.
    Failed,
    /// `REFUSED`.
    Refused,
}

impl Question {
    /// Reads a message that asks one question of the class IN. Whatever stands behind the question is left unread.
    pub(crate) fn read(message: &[u8]) -> Option<Self> {
        Self::parse(message).ok()
    }

    fn parse(message: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(message);
        let (id, flags, questions) = (reader.u16()?, reader.u16()?, reader.u16()?);
        let (answers, authorities) = (reader.u16()?, reader.u16()?);
        reader.u16()?;
        // A response, or another operation than a query.
        if flags & 0xf800 != 0 || (questions, answers, authorities) != (1, 0, 0) {
            return Err(Malformed);
        }
        let name = reader.name()?;
        let record_type = reader.u16()?;
        if reader.u16()? != IN {
            return Err(Malformed);
        }
        Ok(Self { id, recursion: flags & RECURSION_DESIRED, record_type, name })
    }

    /// The kind of address that is asked for; none, where it is another record.
    pub(crate) fn family(&self) -> Option<Family> {
        [Family::V4, Family::V6].into_iter().find(|family| family.record_type() == self.record_type)
    }

    /// The reply, encoded from scratch.
    pub(crate) fn reply(&self, outcome: Outcome) -> Vec<u8> {
        let (code, records) = match outcome {
            Outcome::Address(..) => (0, 1),
            Outcome::NoData => (0, 0),
            Outcome::Failed => (2, 0),
            Outcome::Refused => (5, 0),
        };
        let flags = RESPONSE | RECURSION_AVAILABLE | self.recursion | code;
        let mut message = Vec::with_capacity(512);
        for field in [self.id, flags, 1, records, 0, 0] {
            message.extend_from_slice(&field.to_be_bytes());
        }
        write_name(&mut message, &self.name);
        for field in [self.record_type, IN] {
            message.extend_from_slice(&field.to_be_bytes());
        }
        if let Outcome::Address(address, seconds) = outcome {
            for field in [THE_QUESTIONS_NAME, Family::V4.record_type(), IN] {
                message.extend_from_slice(&field.to_be_bytes());
            }
            message.extend_from_slice(&seconds.to_be_bytes());
            message.extend_from_slice(&4_u16.to_be_bytes());
            message.extend_from_slice(&address.octets());
        }
        message
    }
}

#[cfg(test)]
mod tests {
    use super::super::{answer, query};
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_question_is_read_and_answered() {
        let asked = query(9, "api.example.com", Family::V4);
        let question = Question::read(&asked).unwrap();
        assert_eq!((question.name.as_str(), question.family()), ("api.example.com", Some(Family::V4)));
        let address = Ipv4Addr::new(198, 18, 0, 1);
        let told =
            answer(&question.reply(Outcome::Address(address, 60)), 9, "api.example.com", Family::V4).unwrap();
        assert_eq!((told.addresses, told.ttl), (vec![address.into()], Duration::from_secs(60)));
        let nothing = answer(&question.reply(Outcome::NoData), 9, "api.example.com", Family::V4).unwrap();
        assert!(nothing.addresses.is_empty());
        for (outcome, code) in [(Outcome::Refused, 5), (Outcome::Failed, 2)] {
            assert_eq!(question.reply(outcome)[3] & 15, code);
        }
    }

    #[test]
    fn what_is_no_question_about_a_host_is_not_read() {
        let asked = query(9, "api.example.com", Family::V6);
        let with = |changes: &[(usize, u8)]| {
            let mut changed = asked.clone();
            for (place, value) in changes {
                changed[*place] = *value;
            }
            changed
        };
        for (what, message) in [
            ("a response", with(&[(2, 0x81)])),
            ("a notification", with(&[(2, 0x21)])),
            ("two questions", with(&[(5, 2)])),
            ("an answer", with(&[(7, 1)])),
            ("an authority", with(&[(9, 1)])),
            ("the root", with(&[(12, 0)])),
            ("another class", with(&[(32, 3)])),
            ("a space in a label", with(&[(13, b' ')])),
            ("a pointer to itself", with(&[(12, 0xc0), (13, 12)])),
            ("nothing", vec![]),
        ] {
            assert_eq!(Question::read(&message), None, "{what}");
        }
        // TXT.
        assert_eq!(Question::read(&with(&[(30, 16)])).unwrap().family(), None);
    }
}
