//! The audit log: every decision of a broker, chained by hash, with the records of the appraisals that explain it. Its formats
//! are those of [`confide_release::audit`].

use std::collections::{BTreeMap, BTreeSet};

use confide_evidence::bytes::{Bytes, Digest};
use confide_evidence::cbor::CborError;
use confide_evidence::document::EvidenceDocument;
use confide_evidence::hash::sha256;
use confide_evidence::record::{FIRST, Record, Subject};
use confide_record::Agreement;
pub use confide_release::audit::{Entry, MAX_SIGNED_HEAD, SignedHead, What};

use crate::appraisal;
use crate::store::{Store, StoreError, Volume};

/// An entry that has no place in the log yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// As [`Entry::what`].
    pub what: What,
    /// As [`Entry::time`].
    pub time: u64,
    /// As [`Entry::code`].
    pub code: Option<String>,
    /// As [`Entry::peer`].
    pub peer: Option<String>,
    /// As [`Entry::nonce`].
    pub nonce: Option<Bytes<32>>,
    /// As [`Entry::boot_id`].
    pub boot_id: Option<Bytes<16>>,
    /// As [`Entry::volumes`].
    pub volumes: Vec<(String, Vec<u64>)>,
    /// As [`Entry::document`].
    pub document: Option<Digest>,
    /// As [`Entry::sentence`].
    pub sentence: Option<String>,
}

impl Note {
    /// A note that says no more than what happened when.
    #[must_use]
    pub fn new(what: What, time: u64) -> Self {
        Self {
            what,
            time,
            code: None,
            peer: None,
            nonce: None,
            boot_id: None,
            volumes: Vec::new(),
            document: None,
            sentence: None,
        }
    }

    pub(crate) fn entry(self, seq: u64, prev: Digest, records: Vec<Digest>) -> Entry {
        let Self { what, time, code, peer, nonce, boot_id, volumes, document, sentence } = self;
        Entry { seq, code, peer, prev, time, what, nonce, boot_id, records, volumes, document, sentence }
    }
}

/// What an entry names a record by.
#[must_use]
pub fn record_digest(record: &[u8]) -> Digest {
    sha256(record)
}

/// What is wrong with a log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// An entry is not the canonical encoding of one.
    #[error("entry {0} is none: {1}")]
    Format(u64, CborError),
    /// An entry is missing, doubled or out of its place.
    #[error("entry {found} stands in the place of entry {expected}")]
    Place {
        /// The place.
        expected: u64,
        /// What stands there.
        found: u64,
    },
    /// An entry does not follow the one before it, or is not what its hash says.
    #[error("entry {0} does not follow the one before it, or was changed")]
    Chain(u64),
    /// A record is missing or is not the one that the entry names.
    #[error("entry {0}: the record {1} is missing or was changed")]
    Record(u64, Digest),
    /// A record does not lead to its outcome.
    #[error("entry {0}: the record {1} does not lead to the outcome that it stores")]
    Outcome(u64, Digest),
    /// An entry cannot follow what the log says before it.
    #[error("entry {0} does not fit the entries before it: {1}")]
    Course(u64, &'static str),
    /// A record is of another request than the entry tells of.
    #[error("entry {0}: the record {1} is not of this request: {2}")]
    Foreign(u64, Digest, &'static str),
    /// The database has a volume otherwise than the log.
    #[error("the database has the volume {0} otherwise than the log: {1}")]
    Volume(String, &'static str),
    /// Keys were released on evidence that was not accepted.
    #[error("entry {0}: keys were released without an appraisal that accepted")]
    Unexplained(u64),
    /// There are fewer entries than the head says.
    #[error("the log has {found} entries, the head says {expected}: it was truncated")]
    Truncated {
        /// Of the head.
        expected: u64,
        /// Of the log.
        found: u64,
    },
    /// The entry that the head names is another one.
    #[error("entry {0} is another one than when the head was signed: the log was written anew")]
    Rewritten(u64),
}

/// What a log holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// How many entries there are.
    pub count: u64,
    /// Hash of the last one.
    pub last: Digest,
    /// How many records were appraised again.
    pub records: u64,
}

/// Follows the log from its first entry, appraises every record again, and holds each against its entry, each entry against those
/// before it, and the volumes of the database against all of them. Stops at the first fault.
///
/// # Errors
/// The outer error is one of reading, the inner one what is wrong.
pub async fn verify(store: &Store, head: Option<&SignedHead>) -> Result<Result<Verified, Fault>, StoreError> {
    let mut walk = Walk::new();
    loop {
        if let Err(fault) = walk.follow_to_end(store, head).await? {
            return Ok(Err(fault));
        }
        let mut volumes = Vec::new();
        for id in store.volume_ids().await? {
            volumes.extend(store.volume(&id).await?);
        }
        // What changes a volume is in the log by then: without a new entry, the volumes are those of the last one.
        if store.entries(walk.found.count).await?.is_empty() {
            let held = walk.course.holds(&volumes);
            return Ok(held.map(|()| walk.found));
        }
    }
}

/// A log that is followed.
struct Walk {
    found: Verified,
    seen: BTreeSet<Digest>,
    course: Course,
}

impl Walk {
    fn new() -> Self {
        let found = Verified { count: 0, last: FIRST, records: 0 };
        Self { found, seen: BTreeSet::new(), course: Course::default() }
    }

    async fn follow_to_end(
        &mut self,
        store: &Store,
        head: Option<&SignedHead>,
    ) -> Result<Result<(), Fault>, StoreError> {
        loop {
            let page = store.entries(self.found.count).await?;
            if page.is_empty() {
                break;
            }
            for (seq, hash, bytes) in page {
                let entry = match follow(&self.found, seq, &hash, &bytes) {
                    Ok(entry) => entry,
                    Err(fault) => return Ok(Err(fault)),
                };
                let mut policies = BTreeSet::new();
                for digest in &entry.records {
                    let record = store.record(digest).await?;
                    match self.record(&entry, digest, record.as_deref()) {
                        Ok(policy) => policies.insert(policy),
                        Err(fault) => return Ok(Err(fault)),
                    };
                }
                if entry.what == What::Released && entry.records.is_empty() {
                    return Ok(Err(Fault::Unexplained(seq)));
                }
                if let Err(why) = self.course.go_on(&entry, &policies) {
                    return Ok(Err(Fault::Course(seq, why)));
                }
                self.found.last = hash;
                self.found.count = seq.saturating_add(1);
                if let Some(head) = head
                    && head.count == self.found.count
                    && head.last != self.found.last
                {
                    return Ok(Err(Fault::Rewritten(seq)));
                }
            }
        }
        match head {
            Some(head) if head.count > self.found.count => {
                Ok(Err(Fault::Truncated { expected: head.count, found: self.found.count }))
            }
            _ => Ok(Ok(())),
        }
    }

    /// Appraises a record again and holds it against its entry. Gives the digest of its policy.
    fn record(&mut self, entry: &Entry, digest: &Digest, record: Option<&[u8]>) -> Result<Digest, Fault> {
        let (explained, record) = explains(entry.seq, digest, record)?;
        if entry.what == What::Released && !matches!(explained, Explained::Accepted) {
            return Err(Fault::Unexplained(entry.seq));
        }
        is_of(entry, &record).map_err(|why| Fault::Foreign(entry.seq, *digest, why))?;
        if self.seen.insert(*digest) {
            self.found.records = self.found.records.saturating_add(1);
        }
        Ok(sha256(record.policy.as_bytes()))
    }
}

/// Whether a record is of the request that an entry tells of.
fn is_of(entry: &Entry, record: &Record) -> Result<(), &'static str> {
    let Subject::Document(document) = &record.subject else { return Err("it is of no evidence document") };
    if entry.document != Some(sha256(document.as_bytes())) {
        return Err("it is of another evidence document");
    }
    if record.challenge != entry.nonce.map(appraisal::challenge) {
        return Err("it is of another challenge, or of another role");
    }
    if record.time != entry.time {
        return Err("it is of another time");
    }
    let boot = || EvidenceDocument::decode(document.as_bytes()).ok().map(|document| document.boot_id);
    if entry.what == What::Released && entry.boot_id != boot() {
        return Err("it is of another boot");
    }
    Ok(())
}

/// What a log says of the volumes, as far as it was followed.
#[derive(Default)]
struct Course(BTreeMap<String, Standing>);

/// What it says of one.
struct Standing {
    /// SHA-256 of the policy.
    policy: Digest,
    committed: u64,
    prepared: Option<u64>,
    /// The last generation that was counted.
    last: u64,
    revoked: bool,
}

impl Standing {
    fn generations(&self) -> Vec<u64> {
        [Some(self.committed), self.prepared].into_iter().flatten().collect()
    }
}

impl Course {
    /// Follows one more entry. `policies` are those of its records, by digest.
    fn go_on(&mut self, entry: &Entry, policies: &BTreeSet<Digest>) -> Result<(), &'static str> {
        match entry.what {
            What::Refused | What::FailureReported => Ok(()),
            What::Released => self.released(entry, policies),
            What::VolumeAdded => self.added(entry),
            _ => self.changed(entry),
        }
    }

    fn released(&self, entry: &Entry, policies: &BTreeSet<Digest>) -> Result<(), &'static str> {
        let mut in_force = BTreeSet::new();
        for (id, generations) in &entry.volumes {
            let standing = self.0.get(id).ok_or("the volume was not added")?;
            if standing.revoked {
                return Err("the volume was revoked");
            }
            if standing.generations() != *generations {
                return Err("other generations than those that were committed and prepared");
            }
            in_force.insert(standing.policy);
        }
        if in_force == *policies {
            Ok(())
        } else {
            Err("the appraisals are by other policies than were in force")
        }
    }

    fn added(&mut self, entry: &Entry) -> Result<(), &'static str> {
        let ([(id, generations)], Some(policy)) = (&entry.volumes[..], entry.document) else {
            return Err("a volume is added by name, with a policy");
        };
        if generations[..] != [1] {
            return Err("the first generation is 1");
        }
        let standing = Standing { policy, committed: 1, prepared: None, last: 1, revoked: false };
        match self.0.insert(id.clone(), standing) {
            None => Ok(()),
            Some(_) => Err("the volume was added already"),
        }
    }

    fn changed(&mut self, entry: &Entry) -> Result<(), &'static str> {
        let [(id, generations)] = &entry.volumes[..] else { return Err("one volume is changed at a time") };
        let standing = self.0.get_mut(id).ok_or("the volume was not added")?;
        if standing.revoked {
            return Err("the volume was revoked");
        }
        match (entry.what, &generations[..], standing.prepared) {
            (What::PolicyChanged, [], _) => {
                standing.policy = entry.document.ok_or("a policy has a digest")?;
            }
            (What::VolumeRevoked, [], _) => standing.revoked = true,
            (What::Formatted, [generation], _) if *generation == standing.committed => {}
            (What::RotationPrepared, [generation], None) if *generation > standing.last => {
                (standing.prepared, standing.last) = (Some(*generation), *generation);
            }
            (What::RotationCommitted, [generation], Some(prepared)) if *generation == prepared => {
                (standing.committed, standing.prepared) = (prepared, None);
            }
            (What::RotationAbandoned, [generation], Some(prepared)) if *generation == prepared => {
                standing.prepared = None;
            }
            _ => return Err("a generation that was not prepared, or was counted already"),
        }
        Ok(())
    }

    /// Whether the volumes of the database are those of the log.
    fn holds(&self, volumes: &[Volume]) -> Result<(), Fault> {
        for volume in volumes {
            let id = volume.id.as_str();
            let otherwise = |why| Err(Fault::Volume(id.to_owned(), why));
            let Some(standing) = self.0.get(id) else { return otherwise("the log has none") };
            let committed = volume.committed().map_or(0, |version| version.generation);
            let prepared = volume.prepared().map(|version| version.generation);
            match () {
                () if standing.policy != sha256(volume.policy.as_bytes()) => {
                    return otherwise("the policy is another one than was set last");
                }
                () if standing.revoked != volume.revoked_at.is_some() => {
                    return otherwise("it is revoked in one of them alone");
                }
                () if standing.committed != committed || standing.prepared != prepared => {
                    return otherwise("its generations are other ones");
                }
                () => {}
            }
        }
        let named: BTreeSet<&str> = volumes.iter().map(|volume| volume.id.as_str()).collect();
        match self.0.keys().find(|id| !named.contains(id.as_str())) {
            Some(id) => Err(Fault::Volume(id.clone(), "the database has none")),
            None => Ok(()),
        }
    }
}

fn follow(before: &Verified, seq: u64, hash: &Digest, bytes: &[u8]) -> Result<Entry, Fault> {
    let entry = Entry::decode(bytes).map_err(|error| Fault::Format(seq, error))?;
    if seq != before.count || entry.seq != seq {
        return Err(Fault::Place { expected: before.count, found: entry.seq });
    }
    if entry.prev != before.last || entry.hash() != *hash {
        return Err(Fault::Chain(seq));
    }
    Ok(entry)
}

/// What a record shows.
enum Explained {
    Accepted,
    Refused,
}

fn explains(seq: u64, digest: &Digest, record: Option<&[u8]>) -> Result<(Explained, Record), Fault> {
    let missing = || Fault::Record(seq, *digest);
    let bytes = record.filter(|bytes| record_digest(bytes) == *digest).ok_or_else(missing)?;
    let record = Record::decode(bytes).map_err(|_| missing())?;
    let replayed = confide_record::replay(0, &record, &confide_client::ALGORITHMS).map_err(|_| missing())?;
    let accepted = match replayed.agreement {
        Agreement::Same => replayed.result.accepted(),
        // Another evaluator may say more or less of it; the chain holds the record to what was said then.
        Agreement::Differs { recorded_by } if recorded_by != confide_record::EVALUATOR => {
            was_accepted(&record)
        }
        _ => return Err(Fault::Outcome(seq, *digest)),
    };
    Ok((if accepted { Explained::Accepted } else { Explained::Refused }, record))
}

/// What the stored verdict of a record says.
fn was_accepted(record: &Record) -> bool {
    let verdict =
        record.outcome.as_deref().and_then(|text| serde_json::from_str::<serde_json::Value>(text).ok());
    verdict.is_some_and(|verdict| verdict.get("outcome").is_some_and(|outcome| outcome == "accepted"))
}
