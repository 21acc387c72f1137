//! A question to a resolver, and its answer.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use thiserror::Error;

use super::reader::{Malformed, Reader};
use super::{Family, HEADER, IN, write_name};

/// The largest answer that is read, in bytes: `MAX_RECORDS` addresses with uncompressed names of ordinary length, and twice
/// as much for what follows them.
pub(crate) const MAX_ANSWER: usize = 8 * 1024;
/// The most records of an answer. The largest public services answer with under 20.
pub(crate) const MAX_RECORDS: u16 = 64;
/// The longest chain of CNAME records. Content delivery networks have two to four.
pub(crate) const MAX_CHAIN: usize = 8;
/// Queries are padded to a multiple of so many bytes (RFC 8467 section 4.1), so that who sees their lengths does not learn
/// that of the name.
const PADDED: usize = 128;
/// Bytes of the option's fields before its padding: the length of all options, its code and its own length.
const OPTION_FIELDS: usize = 3 * size_of::<u16>();

/// `RD`: the resolver looks further (RFC 1035 section 4.1.1).
const RECURSION_DESIRED: u16 = 0x0100;
const RESPONSE: u16 = 0x8000;
const OPCODE: u16 = 0x7800;
const TRUNCATED: u16 = 0x0200;
const RCODE: u16 = 0x000f;
const NXDOMAIN: u16 = 3;
const CNAME: u16 = 5;
const OPT: u16 = 41;
/// The option of EDNS that pads (RFC 7830 section 3).
const PADDING: u16 = 12;
/// The payload that EDNS announces. It has no meaning over TCP (RFC 6891 section 6.2.3).
const PAYLOAD: u16 = 1232;

/// The addresses of a name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// None, where the name exists and has none of this family.
    pub(crate) addresses: Vec<IpAddr>,
    /// The names that the asked one leads to, in order; the addresses belong to the last one.
    pub(crate) chain: Vec<String>,
    /// How long this holds: the shortest life of its records (RFC 2181 section 8).
    pub(crate) ttl: Duration,
}

/// Why an answer is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum AnswerError {
    #[error("the answer cannot be read as a DNS message")]
    Malformed,
    #[error("the answer is to another question than the one asked")]
    OtherQuestion,
    #[error("the answer has more than {MAX_RECORDS} records")]
    TooManyRecords,
    #[error("the answer's chain of CNAME records has more than {MAX_CHAIN}")]
    ChainTooLong,
    #[error("the answer's CNAME records go in circles, or one name has several")]
    ChainAmbiguous,
    #[error("the answer has a record that does not belong to the asked name")]
    Unrelated,
    #[error("there is no such name")]
    NoSuchName,
    #[error("the resolver failed with response code {0}")]
    Failed(u16),
}

impl From<Malformed> for AnswerError {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

/// A query for the addresses of a name (RFC 1035 section 4, RFC 7830), padded.
pub(crate) fn query(id: u16, name: &str, family: Family) -> Vec<u8> {
    let mut message = Vec::with_capacity(3 * PADDED);
    for field in [id, RECURSION_DESIRED, 1, 0, 0, 1] {
        message.extend_from_slice(&field.to_be_bytes());
    }
    write_name(&mut message, name);
    for field in [family.record_type(), IN] {
        message.extend_from_slice(&field.to_be_bytes());
    }
    // The root's name, type, payload, extended code with version and flags, then the one option.
    message.push(0);
    for field in [OPT, PAYLOAD, 0, 0] {
        message.extend_from_slice(&field.to_be_bytes());
    }
    let length = message.len().saturating_add(OPTION_FIELDS);
    let padded = length.checked_next_multiple_of(PADDED).unwrap_or(length);
    let padding = u16::try_from(padded.saturating_sub(length)).unwrap_or_default();
    for field in [padding.saturating_add(4), PADDING, padding] {
        message.extend_from_slice(&field.to_be_bytes());
    }
    message.resize(padded, 0);
    message
}

/// Reads the answer to a query. Everything in its answer section must belong to the asked name; what follows that section is
/// not looked at.
pub(crate) fn answer(message: &[u8], id: u16, name: &str, family: Family) -> Result<Answer, AnswerError> {
    let mut reader = Reader::new(message);
    let records = header(&mut reader, id)?;
    let (asked, asked_type, asked_class) = (reader.name()?, reader.u16()?, reader.u16()?);
    if (asked.as_str(), asked_type, asked_class) != (name, family.record_type(), IN) {
        return Err(AnswerError::OtherQuestion);
    }
    let mut found = Records::default();
    for _ in 0..records {
        found.read(&mut reader, family)?;
    }
    found.follow(name)
}

/// The number of records in the answer section.
fn header(reader: &mut Reader<'_>, id: u16) -> Result<u16, AnswerError> {
    let (answered, flags, questions) = (reader.u16()?, reader.u16()?, reader.u16()?);
    let records = reader.u16()?;
    reader.take(HEADER - 8)?;
    if flags & RESPONSE == 0 || flags & (OPCODE | TRUNCATED) != 0 {
        return Err(AnswerError::Malformed);
    }
    if answered != id || questions != 1 {
        return Err(AnswerError::OtherQuestion);
    }
    match flags & RCODE {
        0 => {}
        NXDOMAIN => return Err(AnswerError::NoSuchName),
        code => return Err(AnswerError::Failed(code)),
    }
    if records > MAX_RECORDS {
        return Err(AnswerError::TooManyRecords);
    }
    Ok(records)
}

/// The records of an answer section that matter.
#[derive(Default)]
struct Records {
    /// Owner and target.
    aliases: Vec<(String, String)>,
    /// Owner and address.
    addresses: Vec<(String, IpAddr)>,
    /// In seconds.
    shortest_life: Option<u32>,
}

impl Records {
    fn read(&mut self, reader: &mut Reader<'_>, family: Family) -> Result<(), AnswerError> {
        let owner = reader.name()?;
        let (record_type, class, life) = (reader.u16()?, reader.u16()?, reader.u32()?);
        let length = usize::from(reader.u16()?);
        if class != IN {
            return Err(AnswerError::Malformed);
        }
        if record_type == CNAME {
            let mut target = reader.clone();
            let name = target.name()?;
            reader.take(length)?;
            self.aliases.push((owner, name));
        } else if record_type == family.record_type() {
            self.addresses.push((owner, address(reader.take(length)?, family)?));
        } else {
            // Signatures and the like: they say nothing that is used.
            reader.take(length)?;
            return Ok(());
        }
        // A life with its first bit set is none (RFC 2181 section 8).
        let life = if i32::try_from(life).is_err() { 0 } else { life };
        self.shortest_life = Some(self.shortest_life.map_or(life, |shortest| shortest.min(life)));
        Ok(())
    }

    /// From the asked name to the addresses, by way of every alias.
    fn follow(self, name: &str) -> Result<Answer, AnswerError> {
        let mut chain: Vec<String> = Vec::new();
        loop {
            let current = chain.last().map_or(name, String::as_str);
            let mut of_current = self.aliases.iter().filter(|(owner, _)| owner == current);
            let Some((_, target)) = of_current.next() else { break };
            if of_current.next().is_some() || target == name || chain.contains(target) {
                return Err(AnswerError::ChainAmbiguous);
            }
            if chain.len() == MAX_CHAIN {
                return Err(AnswerError::ChainTooLong);
            }
            chain.push(target.clone());
        }
        let last = chain.last().map_or(name, String::as_str);
        if chain.len() != self.aliases.len() || self.addresses.iter().any(|(owner, _)| owner != last) {
            return Err(AnswerError::Unrelated);
        }
        let mut addresses = Vec::new();
        for (_, address) in self.addresses {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        let ttl = Duration::from_secs(self.shortest_life.unwrap_or_default().into());
        Ok(Answer { addresses, chain, ttl })
    }
}

fn address(bytes: &[u8], family: Family) -> Result<IpAddr, AnswerError> {
    let address = match family {
        Family::V4 => <[u8; 4]>::try_from(bytes).map(|octets| Ipv4Addr::from(octets).into()),
        Family::V6 => <[u8; 16]>::try_from(bytes).map(|octets| Ipv6Addr::from(octets).into()),
    };
    address.map_err(|_| AnswerError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::Question;
    use proptest::collection::vec;
    use proptest::prelude::*;

    const ASKED: &str = "api.example.com";

    /// An answer as its parts: each record is owner, type, life and data.
    fn message(records: &[(&str, u16, u32, Vec<u8>)]) -> Vec<u8> {
        let mut message = Vec::new();
        for field in [7, RESPONSE | RECURSION_DESIRED, 1, u16::try_from(records.len()).unwrap(), 0, 0] {
            message.extend_from_slice(&field.to_be_bytes());
        }
        write_name(&mut message, ASKED);
        message.extend_from_slice(&[0, 1, 0, 1]);
        for (owner, record_type, life, data) in records {
            write_name(&mut message, owner);
            message.extend_from_slice(&record_type.to_be_bytes());
            message.extend_from_slice(&IN.to_be_bytes());
            message.extend_from_slice(&life.to_be_bytes());
            message.extend_from_slice(&u16::try_from(data.len()).unwrap().to_be_bytes());
            message.extend_from_slice(data);
        }
        message
    }

    fn alias(owner: &'static str, target: &str) -> (&'static str, u16, u32, Vec<u8>) {
        let mut data = Vec::new();
        write_name(&mut data, target);
        (owner, CNAME, 60, data)
    }

    fn a(owner: &'static str, octets: [u8; 4]) -> (&'static str, u16, u32, Vec<u8>) {
        (owner, 1, 300, octets.to_vec())
    }

    fn read(message: &[u8]) -> Result<Answer, AnswerError> {
        answer(message, 7, ASKED, Family::V4)
    }

    #[test]
    fn a_query_asks_one_question_and_its_length_tells_nothing() {
        for (name, length) in
            [("a.example", 128), (ASKED, 128), (&*format!("{}.example", "a".repeat(63)), 128)]
        {
            let query = query(7, name, Family::V6);
            assert_eq!(query.len(), length, "{name}");
            let mut reader = Reader::new(&query);
            assert_eq!(reader.take(HEADER).unwrap(), [0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
            assert_eq!(reader.name().unwrap(), name);
            assert_eq!((reader.u16(), reader.u16()), (Ok(28), Ok(IN)));
            assert_eq!(
                (reader.u8(), reader.u16(), reader.u16(), reader.u32()),
                (Ok(0), Ok(OPT), Ok(PAYLOAD), Ok(0))
            );
            let options = usize::from(reader.u16().unwrap());
            assert_eq!(reader.u16(), Ok(PADDING));
            let padding = usize::from(reader.u16().unwrap());
            assert_eq!(options, padding + 4);
            assert!(reader.take(padding).unwrap().iter().all(|byte| *byte == 0) && reader.is_at_end());
        }
    }

    #[test]
    fn addresses_are_read_at_the_end_of_their_chain() {
        let plain =
            read(&message(&[a(ASKED, [192, 0, 2, 1]), a(ASKED, [192, 0, 2, 2]), a(ASKED, [192, 0, 2, 1])]));
        let addresses = vec!["192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap()];
        assert_eq!(plain, Ok(Answer { addresses, chain: vec![], ttl: Duration::from_secs(300) }));
        // In any order, and in capitals.
        let chained = [
            a("edge.cdn.example", [192, 0, 2, 3]),
            alias("WWW.example.com", "Edge.cdn.example"),
            alias(ASKED, "www.example.com"),
        ];
        let chained = read(&message(&chained)).unwrap();
        assert_eq!(chained.chain, ["www.example.com", "edge.cdn.example"]);
        assert_eq!((chained.addresses.len(), chained.ttl), (1, Duration::from_secs(60)));
        assert_eq!(read(&message(&[])).unwrap().addresses, [] as [IpAddr; 0]);
        let mut endless = message(&[("api.example.com", 1, u32::MAX, vec![192, 0, 2, 1])]);
        assert_eq!(read(&endless).unwrap().ttl, Duration::ZERO);
        endless.extend_from_slice(b"more sections");
        assert!(read(&endless).is_ok());
    }

    #[test]
    fn records_that_do_not_belong_to_the_question_are_refused() {
        let longest = |names: usize| -> Vec<u8> {
            let names: Vec<&'static str> = (0..names).map(|n| &*format!("n{n}.example").leak()).collect();
            let mut records = vec![alias(ASKED, names[0])];
            records.extend(names.windows(2).map(|pair| alias(pair[0], pair[1])));
            records.push(a(names[names.len() - 1], [192, 0, 2, 1]));
            message(&records)
        };
        assert_eq!(read(&longest(MAX_CHAIN)).unwrap().chain.len(), MAX_CHAIN);
        let many: Vec<_> = (0..=MAX_RECORDS).map(|_| a(ASKED, [192, 0, 2, 1])).collect();
        let mut other_id = message(&[a(ASKED, [192, 0, 2, 1])]);
        other_id[1] = 8;
        let mut other_class = message(&[a(ASKED, [192, 0, 2, 1])]);
        let class = other_class.len() - 12;
        other_class[class..class + 2].copy_from_slice(&[0, 3]);
        let with_flags = |low: u8, high: u8| {
            let mut message = message(&[a(ASKED, [192, 0, 2, 1])]);
            (message[2], message[3]) = (high, low);
            message
        };
        let mut aaaa = message(&[]);
        let place = aaaa.len() - 3;
        aaaa[place] = 28;
        for (what, message, error) in [
            ("a chain that is too long", longest(MAX_CHAIN + 1), AnswerError::ChainTooLong),
            ("too many records", message(&many), AnswerError::TooManyRecords),
            (
                "an address of another name",
                message(&[a("evil.example", [192, 0, 2, 1])]),
                AnswerError::Unrelated,
            ),
            (
                "an address of the name before the chain",
                message(&[alias(ASKED, "b.example"), a(ASKED, [192, 0, 2, 1])]),
                AnswerError::Unrelated,
            ),
            (
                "an alias of another name",
                message(&[alias("x.example", "y.example"), a(ASKED, [192, 0, 2, 1])]),
                AnswerError::Unrelated,
            ),
            (
                "a circle",
                message(&[alias(ASKED, "b.example"), alias("b.example", ASKED)]),
                AnswerError::ChainAmbiguous,
            ),
            ("an alias of itself", message(&[alias(ASKED, ASKED)]), AnswerError::ChainAmbiguous),
            (
                "two aliases",
                message(&[alias(ASKED, "b.example"), alias(ASKED, "c.example")]),
                AnswerError::ChainAmbiguous,
            ),
            ("another id", other_id, AnswerError::OtherQuestion),
            ("another type in the question", aaaa, AnswerError::OtherQuestion),
            ("another class", other_class, AnswerError::Malformed),
            ("a query", with_flags(0, 1), AnswerError::Malformed),
            ("a truncated answer", with_flags(0, 0x83), AnswerError::Malformed),
            ("another opcode", with_flags(0, 0x91), AnswerError::Malformed),
            ("no such name", with_flags(3, 0x81), AnswerError::NoSuchName),
            ("a failure", with_flags(2, 0x81), AnswerError::Failed(2)),
            ("a short address", message(&[(ASKED, 1, 1, vec![1, 2, 3])]), AnswerError::Malformed),
            ("a name of other bytes", message(&[alias(ASKED, "a\u{1}b.example")]), AnswerError::Malformed),
        ] {
            assert_eq!(read(&message), Err(error), "{what}");
        }
        assert_eq!(
            answer(&message(&[]), 7, "other.example.com", Family::V4),
            Err(AnswerError::OtherQuestion)
        );
    }

    #[test]
    fn pointers_lead_backwards_alone() {
        let mut message = message(&[]);
        message[7] = 1;
        let record = message.len();
        // Owner by a pointer to the question.
        message.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 192, 0, 2, 9]);
        assert_eq!(read(&message).unwrap().ttl, Duration::from_secs(9));
        for target in [record, record + 1, 0x3fff] {
            message[record..record + 2]
                .copy_from_slice(&(0xc000 | u16::try_from(target).unwrap()).to_be_bytes());
            assert_eq!(read(&message), Err(AnswerError::Malformed), "{target}");
        }
        message[record] = 0x40;
        assert_eq!(read(&message), Err(AnswerError::Malformed));
    }

    #[test]
    fn every_cut_and_every_changed_byte_is_an_answer_or_an_error() {
        let whole = message(&[alias(ASKED, "b.example"), a("b.example", [192, 0, 2, 1])]);
        assert!(read(&whole).is_ok());
        for end in 0..whole.len() {
            assert!(read(&whole[..end]).is_err(), "{end}");
        }
        for place in 0..whole.len() {
            for value in 0..=u8::MAX {
                let mut changed = whole.clone();
                changed[place] = value;
                let _ = read(&changed);
            }
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_and_what_is_read_is_within_bounds(bytes in vec(any::<u8>(), 0..600), flags in 0_u8..16) {
            // Half of them as far as the records.
            let mut begun = message(&[]);
            (begun[3], begun[7]) = (begun[3] & 0xf0 | flags, flags);
            begun.extend_from_slice(&bytes);
            for candidate in [&bytes, &begun] {
                let _ = Question::read(candidate);
                if let Ok(answer) = read(candidate) {
                    prop_assert!(answer.addresses.len() <= usize::from(MAX_RECORDS) && answer.chain.len() <= MAX_CHAIN);
                    prop_assert!(answer.addresses.iter().all(IpAddr::is_ipv4));
                }
            }
        }
    }
}
