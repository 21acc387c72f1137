//! Files of entries that are chained by hash: read one by one, whatever their size.

use crate::RecordError;
use confide_evidence::bytes::Digest;
use confide_evidence::cbor::{self, CborError};
use confide_evidence::head::ChainHead;
use confide_evidence::receipt::{KeptReceipt, MAX_KEPT_RECEIPT};
use confide_evidence::record::{FIRST, MAX_RECORD, Record};
use std::io::{self, Read};
use std::marker::PhantomData;

/// The least that is read of a file at a time, in bytes.
const PIECE: usize = 64 * 1024;

/// An entry of a chain.
pub trait Entry: Sized {
    /// The largest, in bytes.
    const MAX: usize;
    /// What every one begins with: a map of so many entries, and its first key.
    const START: &[u8];

    /// Reads one.
    ///
    /// # Errors
    /// Anything but its canonical encoding.
    fn decode(bytes: &[u8]) -> Result<Self, CborError>;

    /// The canonical encoding.
    fn encode(&self) -> Vec<u8>;

    /// Hash of the entry before.
    fn prev(&self) -> Digest;

    /// The hash that the next entry has as `prev`.
    fn hash(&self) -> Digest;
}

impl Entry for Record {
    const MAX: usize = MAX_RECORD;
    const START: &[u8] = b"\xaa\x64prev\x58\x20";

    fn decode(bytes: &[u8]) -> Result<Self, CborError> {
        Self::decode(bytes)
    }

    fn encode(&self) -> Vec<u8> {
        self.encode()
    }

    fn prev(&self) -> Digest {
        self.prev
    }

    fn hash(&self) -> Digest {
        self.hash()
    }
}

impl Entry for KeptReceipt {
    const MAX: usize = MAX_KEPT_RECEIPT;
    const START: &[u8] = b"\xa6\x64prev\x58\x20";

    fn decode(bytes: &[u8]) -> Result<Self, CborError> {
        Self::decode(bytes)
    }

    fn encode(&self) -> Vec<u8> {
        self.encode()
    }

    fn prev(&self) -> Digest {
        self.prev
    }

    fn hash(&self) -> Digest {
        self.hash()
    }
}

/// One entry as it stands in its file.
#[derive(Debug, Clone)]
pub struct Link<E> {
    /// The entry.
    pub entry: E,
    /// Its hash.
    pub hash: Digest,
    /// Its position, from 0.
    pub index: usize,
    /// Hash of the entry that stands before it; [`FIRST`] for the first.
    pub before: Digest,
}

impl<E: Entry> Link<E> {
    /// # Errors
    /// [`RecordError::Chain`] where the entry does not follow the one that stands before it.
    pub fn check(&self) -> Result<(), RecordError> {
        let (expected, found) = (self.before, self.entry.prev());
        if expected == found {
            return Ok(());
        }
        let (expected, found) = (expected.to_string(), found.to_string());
        Err(RecordError::Chain { index: self.index, expected, found })
    }
}

/// The entries of a file, in turn. Holds at most one of them and what is read ahead. After an error there are none.
///
/// Where a program was stopped amid an append, the file ends with a part of an entry, or with zeros that the file system
/// had not written over: [`Self::torn`] says how many bytes, and they are no error. Nothing rested on that entry. Appends
/// go one after the other, so no entry begins behind a torn one: where one does, a length was changed, and that is an error.
#[derive(Debug)]
pub struct Entries<R, E> {
    from: R,
    buffer: Vec<u8>,
    /// Where the next entry begins in the buffer.
    start: usize,
    end: End,
    last: Digest,
    count: usize,
    /// Bytes of the entries so far.
    length: u64,
    kind: PhantomData<E>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// There may be more in the file.
    NotRead,
    /// All of the file is in the buffer.
    Read,
    /// No entry follows.
    Over,
}

impl<R: Read, E: Entry> Entries<R, E> {
    /// The entries of a file.
    pub fn new(from: R) -> Self {
        let (buffer, kind) = (Vec::new(), PhantomData);
        Self { from, buffer, start: 0, end: End::NotRead, last: FIRST, count: 0, length: 0, kind }
    }

    /// How far the chain goes: after the last entry, to its head.
    pub fn head(&self) -> ChainHead {
        ChainHead { last: self.last, count: self.count.try_into().unwrap_or(u64::MAX) }
    }

    /// Bytes of the entries so far.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// After the last entry: how many bytes of the file are part of none.
    pub fn torn(&self) -> usize {
        self.rest().len()
    }

    /// After the last entry: the bytes that are part of none.
    pub(crate) fn rest(&self) -> &[u8] {
        self.buffer.get(self.start..).unwrap_or_default()
    }

    /// The bytes of the next entry.
    fn item(&mut self) -> Result<Option<Vec<u8>>, RecordError> {
        loop {
            if self.rest().first() == Some(&0) {
                // No entry begins so: they are maps.
                return self.zeros();
            }
            match (cbor::sequence(self.rest()).next(), self.end) {
                (_, End::Over) | (None, End::Read) => return Ok(None),
                (Some(Ok(item)), _) if item.len() <= E::MAX => return Ok(Some(item.to_vec())),
                (Some(Ok(item)), _) => return Err(self.oversized(item.len())),
                (Some(Err(CborError::Truncated { .. })), End::NotRead) if self.rest().len() > E::MAX => {
                    return Err(self.oversized(self.rest().len()));
                }
                (None | Some(Err(CborError::Truncated { .. })), End::NotRead) => self.read_on()?,
                (Some(Err(CborError::Truncated { .. })), End::Read) if self.begins() => return self.tear(),
                (Some(Err(source)), _) => return Err(RecordError::Format { index: self.count, source }),
            }
        }
    }

    /// Whether the rest of the file is the beginning of an entry, and not of something else.
    fn begins(&self) -> bool {
        self.rest().starts_with(E::START) || E::START.starts_with(self.rest())
    }

    /// Whether a part of an entry is all that is left. An entry whose length was changed so that it passes the end of the
    /// file has those that follow it in the rest; what is torn has none.
    fn tear(&self) -> Result<Option<Vec<u8>>, RecordError> {
        let within = self.rest().get(1..).unwrap_or_default();
        match within.windows(E::START.len()).position(|window| window == E::START) {
            None => Ok(None),
            Some(at) => {
                let what = format!(
                    "it ends behind the end of the file, and another entry begins {} bytes into it",
                    at.saturating_add(1)
                );
                Err(RecordError::Format { index: self.count, source: CborError::Shape(what) })
            }
        }
    }

    /// Whether zeros to the end of the file are what was never written.
    fn zeros(&mut self) -> Result<Option<Vec<u8>>, RecordError> {
        while self.end == End::NotRead && self.rest().len() <= E::MAX {
            self.read_on()?;
        }
        if self.end == End::Read && self.rest().iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let source = CborError::Shape("expected a map, found zeros".to_owned());
        Err(RecordError::Format { index: self.count, source })
    }

    fn oversized(&self, actual: usize) -> RecordError {
        RecordError::Format { index: self.count, source: CborError::TooLarge { limit: E::MAX, actual } }
    }

    /// Reads as much again as there is, so that an entry is walked through a few times at most.
    fn read_on(&mut self) -> io::Result<()> {
        self.buffer.drain(..self.start);
        self.start = 0;
        let more = self.buffer.len().max(PIECE).try_into().unwrap_or(u64::MAX);
        if (&mut self.from).take(more).read_to_end(&mut self.buffer)? == 0 {
            self.end = End::Read;
        }
        Ok(())
    }

    fn link(&mut self, bytes: &[u8]) -> Result<Link<E>, RecordError> {
        let index = self.count;
        let entry = E::decode(bytes).map_err(|source| RecordError::Format { index, source })?;
        let hash = entry.hash();
        let before = std::mem::replace(&mut self.last, hash);
        self.start = self.start.saturating_add(bytes.len());
        self.length = self.length.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        self.count = self.count.saturating_add(1);
        Ok(Link { entry, hash, index, before })
    }
}

impl<R: Read, E: Entry> Iterator for Entries<R, E> {
    type Item = Result<Link<E>, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.end == End::Over {
            return None;
        }
        let next = self.item().transpose()?.and_then(|bytes| self.link(&bytes));
        if next.is_err() {
            self.end = End::Over;
        }
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use confide_evidence::document::Endorsements;
    use confide_evidence::record::Subject;

    fn record(prev: Digest, quote: usize) -> Record {
        Record {
            prev,
            time: 1,
            policy: "p".into(),
            outcome: None,
            subject: Subject::Quote(vec![7; quote].into()),
            challenge: None,
            evaluator: "e".into(),
            references: None,
            endorsements: Endorsements::default(),
            second_opinion: None,
        }
    }

    fn two(first: usize, second: usize) -> [Record; 2] {
        let first = record(FIRST, first);
        let second = record(first.hash(), second);
        [first, second]
    }

    fn read(file: &[u8]) -> (Result<Vec<Record>, RecordError>, usize) {
        let mut entries = Entries::<_, Record>::new(file);
        let read = entries.by_ref().map(|link| link.map(|link| link.entry)).collect();
        (read, entries.torn())
    }

    #[test]
    fn entries_of_any_size_are_read_in_turn() {
        for sizes in [(1, 1), (PIECE, 1), (1, 3 * PIECE), (5 * PIECE, 5 * PIECE)] {
            let [first, second] = two(sizes.0, sizes.1);
            let file = [first.encode(), second.encode()].concat();
            let mut entries = Entries::<_, Record>::new(file.as_slice());
            for (index, expected) in [&first, &second].into_iter().enumerate() {
                let link = entries.next().unwrap().unwrap();
                link.check().unwrap();
                assert_eq!((&link.entry, link.index), (expected, index));
            }
            assert!(entries.next().is_none());
            assert_eq!(entries.head(), ChainHead { last: second.hash(), count: 2 });
            assert_eq!((entries.length(), entries.torn()), (file.len() as u64, 0));
        }
    }

    #[test]
    fn a_file_that_ends_inside_an_entry_has_the_entries_before_it_wherever_it_was_cut() {
        let [first, second] = two(100, 300);
        let (first, whole) = (first.encode(), [first.encode(), second.encode()].concat());
        for cut in 0..whole.len() {
            let (read, torn) = read(&whole[..cut]);
            let count = usize::from(cut >= first.len());
            assert_eq!(read.unwrap().len(), count, "cut at {cut}");
            assert_eq!(torn, cut - count * first.len(), "cut at {cut}");
        }
        let zeros = [whole.as_slice(), &[0; 1000]].concat();
        let (records, torn) = read(&zeros);
        assert_eq!((records.unwrap().len(), torn), (2, 1000));
    }

    #[test]
    fn an_entry_whose_length_passes_the_end_of_the_file_is_no_tear_while_others_follow() {
        let [first, second] = two(300, 300);
        let entries = [first.encode(), second.encode()];
        let file = entries.concat();
        let mut refused = 0;
        for (at, bit) in (0..file.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
            let mut changed = file.clone();
            changed[at] ^= 1 << bit;
            let (read, torn) = read(&changed);
            // What is changed in the last entry looks like a tear of that one; in the others it never does.
            let allowed = if at < entries[0].len() { 0 } else { entries[1].len() };
            assert!(torn <= allowed || read.is_err(), "bit {bit} of byte {at}: {torn} bytes torn");
            let passes = "ends behind the end of the file";
            refused += usize::from(read.is_err_and(|error| error.to_string().contains(passes)));
        }
        assert!(refused > 0, "no change made an entry pass the end");
        // With the last one torn besides.
        let mut changed = file[..file.len() - 50].to_vec();
        let quote = first.encode().windows(3).position(|window| window == [0x59, 0x01, 0x2c]).unwrap();
        changed[quote] = 0x5b;
        assert!(matches!(read(&changed).0, Err(RecordError::Format { index: 0, .. })));
    }

    #[test]
    fn what_is_no_part_of_an_entry_is_an_error() {
        let [first, _] = two(100, 1);
        for rest in [&b"\xff"[..], b"\x01", b"\0\x01", b"\xa0", b"\x80", b"text", b"\xaa\x64prex"] {
            let file = [first.encode().as_slice(), rest].concat();
            assert!(matches!(read(&file).0, Err(RecordError::Format { index: 1, .. })), "{rest:02x?}");
        }
        let large = record(FIRST, MAX_RECORD).encode();
        for file in [&large[..], &large[..MAX_RECORD + 10], &vec![0; MAX_RECORD + 2 * PIECE]] {
            assert!(matches!(read(file).0, Err(RecordError::Format { index: 0, .. })), "{}", file.len());
        }
    }

    #[test]
    fn an_entry_out_of_its_place_does_not_follow() {
        let [first, second] = two(1, 2);
        let file = [second.encode(), first.encode()].concat();
        let mut entries = Entries::<_, Record>::new(file.as_slice());
        let link = entries.next().unwrap().unwrap();
        assert!(matches!(link.check(), Err(RecordError::Chain { index: 0, .. })));
    }
}
