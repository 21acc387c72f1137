//! The audit of a folder of records: both chains, every verdict again, every receipt with what vouches for it.

use crate::chain::{Entries, Link};
use crate::folder::{APPRAISALS, RECEIPTS};
use crate::{Agreement, EVALUATOR, RecordError, Replayed, replay};
use confide_evidence::bytes::{Bytes, Digest};
use confide_evidence::document::EvidenceDocument;
use confide_evidence::hash::sha256;
use confide_evidence::head::{ChainHead, SignedHead};
use confide_evidence::receipt::KeptReceipt;
use confide_evidence::record::{FIRST, Record, Subject};
use confide_evidence::time::parse_rfc3339;
use confide_verifier::{
    Algorithms, AttestationResult, Outcome, ReceiptFault, SaltedBodies, Status, Voucher, rules,
};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom};
use std::path::Path;
use thiserror::Error;

/// By how many seconds a client's clock may be set back between an appraisal and a request that rests on it.
const CLOCK_STEP: u64 = 60;

/// What an audit found.
#[derive(Debug, Clone)]
pub struct Audit {
    /// How far the chain of records goes.
    pub records: ChainHead,
    /// How far the chain of kept receipts goes.
    pub receipts: ChainHead,
    /// Bytes at the end of the file of records that are part of none: a program was stopped amid an append.
    pub torn_records: usize,
    /// The same of the file of kept receipts.
    pub torn_receipts: usize,
    /// How many records are of evidence whose chain ends in another trust anchor than the vendor's.
    pub simulated: u64,
    /// Counts of verdicts, by outcome and code.
    pub verdicts: BTreeMap<(&'static str, Option<&'static str>), Span>,
    /// Counts of verdicts by the SHA-256 of the SubjectPublicKeyInfo of the key that they are about.
    pub instances: BTreeMap<Vec<u8>, Verdicts>,
    /// Counts of verdicts by the SHA-256 of the text of the policy that they were made by.
    pub policies: BTreeMap<Digest, ByPolicy>,
    /// Counts of verdicts by the digest of the model manifest in the document's claims, which a verdict that accepts holds
    /// against its policy.
    pub models: BTreeMap<Digest, Verdicts>,
    /// Kept receipts by boot id and digest of the key set.
    pub boots: BTreeMap<(Bytes<16>, Digest), Numbers>,
    /// Everything that is wrong, in the order of the files.
    pub findings: Vec<Finding>,
}

/// How many there are of something, and when the first and the last were, Unix seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Span {
    /// How many.
    pub count: u64,
    /// When the first was.
    pub first: u64,
    /// When the last was.
    pub last: u64,
}

/// What a folder is held against besides itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct Against<'a> {
    /// A head of it, whose signature is the caller's to verify.
    pub head: Option<&'a SignedHead>,
    /// Text of the policy that every verdict is to be made by.
    pub policy: Option<&'a str>,
}

/// Verdicts by one policy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ByPolicy {
    /// The policy's name.
    pub name: String,
    /// The verdicts.
    pub verdicts: Verdicts,
}

/// Verdicts about one key or model, or by one policy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Verdicts {
    /// All of them.
    pub all: Span,
    /// How many of them accept.
    pub accepted: u64,
}

/// The sequence numbers of one boot.
///
/// A guest counts the receipts of all its clients: those that a folder lacks between two of its own went to others, or were
/// not kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Numbers {
    seen: BTreeSet<u64>,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Where.
    pub place: Place,
    /// What.
    pub fault: Fault,
}

/// A place in a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A record, by its position from 0.
    Record(usize),
    /// A kept receipt, by its position from 0.
    Receipt(usize),
    /// The file of records as a whole.
    Records,
    /// What a signed head says of the records.
    HeadOfRecords,
    /// What a signed head says of the receipts.
    HeadOfReceipts,
}

/// What can be wrong.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Fault {
    /// What stands here is no entry; nothing behind it can be read.
    #[error("not an entry of this file: {0}; nothing behind it can be read")]
    Format(String),
    /// An entry does not follow the one before it.
    #[error("prev is {found}, the entry before it hashes to {expected}")]
    Chain {
        /// Hash of the entry before it, or 32 zero bytes.
        expected: String,
        /// What the entry says.
        found: String,
    },
    /// There is a file of receipts and none of records.
    #[error("{RECEIPTS} is there and {APPRAISALS} is missing")]
    NoAppraisals,
    /// The recorded policy cannot be read.
    #[error("the recorded policy cannot be read: {0}")]
    Policy(String),
    /// The record was made by another policy than it is to be.
    #[error("its policy has the SHA-256 {found}, expected {expected}")]
    OtherPolicy {
        /// SHA-256 of the policy's text that was given.
        expected: String,
        /// SHA-256 of the recorded one.
        found: String,
    },
    /// The recorded policy accepts simulated evidence, and this build does not.
    #[error("the recorded policy accepts simulated evidence, which this build does not read")]
    Danger,
    /// The stored outcome is not what the inputs give.
    #[error("the stored outcome, written by {recorded_by}, is not what {EVALUATOR} finds")]
    Outcome {
        /// The evaluator that wrote the record.
        recorded_by: String,
    },
    /// No record has this hash.
    #[error("no record of the folder has the hash {0}, which it names as what vouches for its key")]
    NoRecord(String),
    /// The record accepts nothing that vouches for a key.
    #[error("record {0} accepts no evidence that vouches for a receipt key")]
    NotAccepted(usize),
    /// The request was not sent while the verdict held.
    #[error(
        "the request was sent at {sent}, the verdict of record {record} held from {from} to {until} (Unix seconds)"
    )]
    Time {
        /// Position of the record.
        record: usize,
        /// When the request was sent.
        sent: u64,
        /// When the evidence was appraised.
        from: u64,
        /// Until when the verdict held.
        until: u64,
    },
    /// The receipt does not hold against the evidence that it names.
    #[error("it does not hold against record {record}: {fault}")]
    Receipt {
        /// Position of the record.
        record: usize,
        /// Why.
        fault: ReceiptFault,
    },
    /// Two receipts of a boot have one number.
    #[error("it has the number {0}, which another receipt of the same boot has")]
    Repeated(u64),
    /// There are fewer entries than the head says.
    #[error("the signed head has {expected} entries, the folder {found}: it was truncated")]
    Truncated {
        /// Entries in the head.
        expected: u64,
        /// Entries in the folder.
        found: u64,
    },
    /// The entry that the head ends with is another one.
    #[error("entry {index} hashes to {found}, the signed head has {expected}: the folder was written anew")]
    Rewritten {
        /// Position of the entry.
        index: u64,
        /// Hash in the head.
        expected: String,
        /// Hash in the folder.
        found: String,
    },
}

impl Audit {
    fn empty() -> Self {
        let nothing = ChainHead { last: FIRST, count: 0 };
        Self {
            records: nothing,
            receipts: nothing,
            torn_records: 0,
            torn_receipts: 0,
            simulated: 0,
            verdicts: BTreeMap::new(),
            instances: BTreeMap::new(),
            policies: BTreeMap::new(),
            models: BTreeMap::new(),
            boots: BTreeMap::new(),
            findings: Vec::new(),
        }
    }
}

impl Numbers {
    /// How many receipts.
    #[must_use]
    pub fn count(&self) -> usize {
        self.seen.len()
    }

    /// The lowest and the highest number.
    #[must_use]
    pub fn range(&self) -> Option<(u64, u64)> {
        Some((*self.seen.first()?, *self.seen.last()?))
    }

    /// How many numbers between the lowest and the highest are not there.
    #[must_use]
    pub fn missing(&self) -> u64 {
        let among = |(first, last): (u64, u64)| {
            last.saturating_sub(first)
                .saturating_add(1)
                .saturating_sub(self.seen.len().try_into().unwrap_or(u64::MAX))
        };
        self.range().map_or(0, among)
    }
}

impl Verdicts {
    fn add(&mut self, time: u64, result: &AttestationResult) {
        self.all.add(time);
        self.accepted = self.accepted.saturating_add(u64::from(result.accepted()));
    }
}

impl Span {
    fn add(&mut self, time: u64) {
        (self.first, self.last) = match self.count {
            0 => (time, time),
            _ => (self.first.min(time), self.last.max(time)),
        };
        self.count = self.count.saturating_add(1);
    }
}

/// What an accepted record vouches for.
struct Vouching {
    index: usize,
    /// Nothing where its evidence is not accepted, or vouches for no key.
    voucher: Option<Voucher>,
    from: u64,
    until: u64,
}

/// Audits a folder: holds it against itself, and against what else is given.
///
/// # Errors
/// [`RecordError::Io`], which names the file, where one cannot be read, and where there is neither. A file of receipts may be
/// missing; everything else that is wrong is a [`Finding`].
pub fn audit(folder: &Path, against: Against<'_>, algorithms: &Algorithms) -> Result<Audit, RecordError> {
    // A program may be writing: what vouches for a receipt is recorded before it, so that is read later.
    let receipts = receipts(folder)?;
    let Against { head, policy } = against;
    let policy = policy.map(|text| sha256(text.as_bytes()));
    let mut auditor = Auditor { audit: Audit::empty(), records: HashMap::new(), policy, algorithms };
    let file: Box<dyn Read> = match File::open(folder.join(APPRAISALS)) {
        Ok(file) => Box::new(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound && receipts.is_some() => {
            auditor.find(Place::Records, Fault::NoAppraisals);
            Box::new(io::empty())
        }
        Err(error) => return Err(named(APPRAISALS, &error).into()),
    };
    auditor.records(file, head.map(|head| head.records))?;
    let receipts = receipts.unwrap_or_else(|| Box::new(io::empty()));
    auditor.receipts(receipts, head.map(|head| head.receipts))?;
    Ok(auditor.audit)
}

/// An error of reading, with the name of the file.
fn named(file: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{file}: {error}"))
}

/// The kept receipts that there are now; nothing where there is no file of them.
fn receipts(folder: &Path) -> io::Result<Option<Box<dyn Read>>> {
    match File::open(folder.join(RECEIPTS)) {
        Ok(mut file) => {
            let length = file.seek(SeekFrom::End(0))?;
            file.seek(SeekFrom::Start(0))?;
            Ok(Some(Box::new(file.take(length))))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(named(RECEIPTS, &error)),
    }
}

struct Auditor<'a> {
    audit: Audit,
    records: HashMap<Digest, Vouching>,
    /// SHA-256 of the policy's text that every record is to have.
    policy: Option<Digest>,
    algorithms: &'a Algorithms,
}

impl Auditor<'_> {
    fn find(&mut self, place: Place, fault: Fault) {
        self.audit.findings.push(Finding { place, fault });
    }

    fn records(&mut self, file: impl Read, head: Option<ChainHead>) -> Result<(), RecordError> {
        let mut entries = Entries::<_, Record>::new(file);
        let mut held = Held::against(head, Place::HeadOfRecords);
        while let Some(link) = entries.next() {
            let place = Place::Record(usize::try_from(entries.head().count).unwrap_or(usize::MAX));
            match link {
                Ok(link) => {
                    held.pass(link.index, link.hash);
                    self.record(&link);
                }
                Err(error) => self.unreadable(place, error)?,
            }
        }
        self.audit.torn_records = entries.torn();
        self.audit.records = entries.head();
        self.audit.findings.extend(held.finish(entries.head()));
        Ok(())
    }

    fn record(&mut self, link: &Link<Record>) {
        let Link { entry: record, index, hash, .. } = link;
        let place = Place::Record(*index);
        if let Err(RecordError::Chain { expected, found, .. }) = link.check() {
            self.find(place, Fault::Chain { expected, found });
        }
        let policy = sha256(record.policy.as_bytes());
        if let Some(expected) = self.policy
            && expected != policy
        {
            let (expected, found) = (expected.to_string(), policy.to_string());
            self.find(place, Fault::OtherPolicy { expected, found });
        }
        let mut vouching = Vouching { index: *index, voucher: None, from: record.time, until: record.time };
        match replay(*index, record, self.algorithms) {
            Ok(Replayed { result, agreement }) => {
                if let Agreement::Differs { recorded_by } = agreement {
                    self.find(place, Fault::Outcome { recorded_by });
                }
                self.count(record, policy, &result);
                vouching.voucher = voucher(record, &result);
                vouching.until = until(&result).unwrap_or(record.time);
            }
            Err(RecordError::Policy { source: confide_policy::PolicyError::DangerNotBuilt, .. }) => {
                self.find(place, Fault::Danger);
            }
            Err(error) => self.find(place, Fault::Policy(error.to_string())),
        }
        self.records.insert(*hash, vouching);
    }

    fn count(&mut self, record: &Record, policy: Digest, result: &AttestationResult) {
        let outcome = match result.outcome {
            Outcome::Accepted => "accepted",
            Outcome::Rejected => "rejected",
            Outcome::Unsupported => "unsupported",
            Outcome::Malformed => "malformed",
        };
        self.audit.simulated = self.audit.simulated.saturating_add(u64::from(result.simulated));
        self.audit.verdicts.entry((outcome, result.code)).or_default().add(record.time);
        let by = self.audit.policies.entry(policy).or_default();
        by.name.clone_from(&result.policy);
        by.verdicts.add(record.time, result);
        if let Some(manifest) = manifest(record) {
            self.audit.models.entry(manifest).or_default().add(record.time, result);
        }
        if let Some(challenge) = &record.challenge {
            self.audit.instances.entry(challenge.spki.0.clone()).or_default().add(record.time, result);
        }
    }

    fn receipts(&mut self, file: impl Read, head: Option<ChainHead>) -> Result<(), RecordError> {
        let mut entries = Entries::<_, KeptReceipt>::new(file);
        let mut held = Held::against(head, Place::HeadOfReceipts);
        while let Some(link) = entries.next() {
            let place = Place::Receipt(usize::try_from(entries.head().count).unwrap_or(usize::MAX));
            match link {
                Ok(link) => {
                    held.pass(link.index, link.hash);
                    self.receipt(&link);
                }
                Err(error) => self.unreadable(place, error)?,
            }
        }
        self.audit.torn_receipts = entries.torn();
        self.audit.receipts = entries.head();
        self.audit.findings.extend(held.finish(entries.head()));
        Ok(())
    }

    fn receipt(&mut self, link: &Link<KeptReceipt>) {
        let place = Place::Receipt(link.index);
        if let Err(RecordError::Chain { expected, found, .. }) = link.check() {
            self.find(place, Fault::Chain { expected, found });
        }
        let receipt = &link.entry.receipt;
        let numbers = self.audit.boots.entry((receipt.boot_id, receipt.key_set)).or_default();
        if !numbers.seen.insert(receipt.sequence) {
            self.find(place, Fault::Repeated(receipt.sequence));
        }
        if let Err(fault) = self.vouched(&link.entry) {
            self.find(place, fault);
        }
    }

    /// Holds a receipt against the record that it names.
    fn vouched(&self, kept: &KeptReceipt) -> Result<(), Fault> {
        let named = self.records.get(&kept.record);
        let Vouching { index, voucher, from, until } =
            named.ok_or_else(|| Fault::NoRecord(kept.record.to_string()))?;
        let voucher = voucher.as_ref().ok_or(Fault::NotAccepted(*index))?;
        let bodies = SaltedBodies { request: kept.request, response: kept.response };
        let held = voucher.check(&kept.receipt, &bodies, self.algorithms);
        held.map_err(|fault| Fault::Receipt { record: *index, fault })?;
        let (sent, from, until) = (kept.sent, *from, *until);
        if from <= sent.saturating_add(CLOCK_STEP) && sent <= until {
            return Ok(());
        }
        Err(Fault::Time { record: *index, sent, from, until })
    }

    /// Notes what cannot be read as what it should be.
    fn unreadable(&mut self, place: Place, error: RecordError) -> Result<(), RecordError> {
        match error {
            RecordError::Format { source, .. } => self.find(place, Fault::Format(source.to_string())),
            error => return Err(error),
        }
        Ok(())
    }
}

/// What a record's evidence vouches for: it is an accepted document whose quote covers its keys.
fn voucher(record: &Record, result: &AttestationResult) -> Option<Voucher> {
    let Subject::Document(document) = &record.subject else { return None };
    let covered = |check: &confide_verifier::Check| {
        check.code == rules::REPORT_DATA.code && check.status == Status::Pass
    };
    if !result.accepted() || !result.checks.iter().any(covered) {
        return None;
    }
    EvidenceDocument::decode(document.as_bytes()).ok().map(|document| Voucher::of(&document))
}

/// The model manifest that a document claims, where it can be read.
fn manifest(record: &Record) -> Option<Digest> {
    let Subject::Document(document) = &record.subject else { return None };
    EvidenceDocument::decode(document.as_bytes()).ok().map(|document| document.claims.model.manifest)
}

fn until(result: &AttestationResult) -> Option<u64> {
    parse_rfc3339(result.valid_until.as_deref()?).map(|time| time.as_secs())
}

/// A chain as it is held against a head.
struct Held {
    head: Option<ChainHead>,
    place: Place,
    /// The hash at the position of the head's last entry.
    found: Digest,
}

impl Held {
    fn against(head: Option<ChainHead>, place: Place) -> Self {
        Self { head, place, found: FIRST }
    }

    fn pass(&mut self, index: usize, hash: Digest) {
        let count = u64::try_from(index).unwrap_or(u64::MAX).saturating_add(1);
        if self.head.is_some_and(|head| head.count == count) {
            self.found = hash;
        }
    }

    fn finish(self, end: ChainHead) -> Option<Finding> {
        let (head, found) = (self.head?, self.found);
        let fault = match () {
            () if end.count < head.count => Fault::Truncated { expected: head.count, found: end.count },
            () if found != head.last => Fault::Rewritten {
                index: head.count.saturating_sub(1),
                expected: head.last.to_string(),
                found: found.to_string(),
            },
            () => return None,
        };
        Some(Finding { place: self.place, fault })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_are_not_there_are_counted() {
        let numbers = |seen: &[u64]| Numbers { seen: seen.iter().copied().collect() };
        for (seen, range, missing) in [
            (&[][..], None, 0),
            (&[5], Some((5, 5)), 0),
            (&[0, 1, 2], Some((0, 2)), 0),
            (&[3, 9, 4], Some((3, 9)), 4),
            (&[0, u64::MAX], Some((0, u64::MAX)), u64::MAX - 2),
        ] {
            assert_eq!((numbers(seen).range(), numbers(seen).missing()), (range, missing), "{seen:?}");
        }
    }

    #[test]
    fn a_span_has_the_first_and_the_last_time() {
        let mut span = Span::default();
        [5, 3, 9].into_iter().for_each(|time| span.add(time));
        assert_eq!(span, Span { count: 3, first: 3, last: 9 });
    }

    #[test]
    fn a_head_speaks_of_a_prefix() {
        let hash = |at: u64| Bytes([u8::try_from(at).unwrap() + 1; 32]);
        let chain = |count: u64| ChainHead { last: if count == 0 { FIRST } else { hash(count - 1) }, count };
        for (head, end, right) in [
            (chain(0), 0, true),
            (chain(0), 3, true),
            (chain(2), 2, true),
            (chain(2), 5, true),
            (chain(3), 2, false),
            (ChainHead { last: hash(7), count: 2 }, 3, false),
            (ChainHead { last: hash(7), count: 0 }, 3, false),
        ] {
            let mut held = Held::against(Some(head), Place::HeadOfRecords);
            for index in 0..end {
                held.pass(usize::try_from(index).unwrap(), hash(index));
            }
            assert_eq!(held.finish(chain(end)).is_none(), right, "{head:?} of {end}");
        }
    }
}
