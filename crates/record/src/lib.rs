//! Records of appraisals: every input and the outcome, chained by hash, replayed to the same bytes.
//!
//! A record shows that its inputs lead to its outcome. It does not show that the session or its time was real. The chain
//! finds gaps and edits of earlier records; truncation and rewriting show only against a head that was kept elsewhere.
//! Replay never mints a witness.
//!
//! A [`Folder`] holds records and the receipts that they vouch for; [`audit()`] holds all of it against each other.

#![cfg_attr(
    not(test),
    warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)
)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests"))]

mod audit;
mod chain;
mod folder;

pub use audit::{Against, Audit, ByPolicy, Fault, Finding, Numbers, Place, Span, Verdicts, audit};
pub use chain::{Entries, Entry, Link};
pub use folder::{APPRAISALS, FileEnd, Folder, Keep, RECEIPTS, SetAside, resume_file};

use confide_evidence::cbor::CborError;
use confide_evidence::document::Endorsements;
use confide_evidence::record::{
    FIRST, MAX_RECORD, Record, RecordedChallenge, RecordedReferences, SecondOpinion, Subject, read_all,
};
use confide_policy::{AppraisalPolicy, PolicyError};
use confide_verifier::{Algorithms, AttestationResult, Inputs, PreparedReferences, evaluate};
use rustls_pki_types::UnixTime;
use std::io::{self, Write};
use std::time::Duration;
use thiserror::Error;

/// The evaluator that this build is: a replay by another one may differ, and says so.
pub const EVALUATOR: &str = concat!("confide-verifier ", env!("CARGO_PKG_VERSION"));
/// The largest record file accepted, in bytes. It is read into memory; thousands of appraisals of 30 KiB fit.
pub const MAX_FILE: usize = 256 * 1024 * 1024;

/// Why a record could not be written or replayed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The file is larger than [`MAX_FILE`].
    #[error("a record file of {0} bytes, at most {MAX_FILE} are accepted")]
    TooLarge(usize),
    /// A record is larger than [`MAX_RECORD`].
    #[error("a record of {0} bytes, at most {MAX_RECORD} are accepted")]
    Oversized(usize),
    /// No record in the file.
    #[error("the file holds no record")]
    Empty,
    /// A record is not canonical CBOR of the record format.
    #[error("record {index}: {source}")]
    Format {
        /// Position in the file, from 0.
        index: usize,
        /// What is wrong.
        source: CborError,
    },
    /// A record does not follow the one before it.
    #[error("record {index}: prev is {found}, the record before it hashes to {expected}")]
    Chain {
        /// Position in the file, from 0.
        index: usize,
        /// Hash of the record before it, or 32 zero bytes.
        expected: String,
        /// What the record says.
        found: String,
    },
    /// The recorded policy cannot be read.
    #[error("record {index}: {source}")]
    Policy {
        /// Position in the file, from 0.
        index: usize,
        /// What is wrong.
        source: PolicyError,
    },
    /// Another process writes to the folder.
    #[error("another program records in the folder")]
    InUse,
    /// A receipt rests on an appraisal that the folder has not recorded.
    #[error("the folder has no record of the appraisal that vouches for the receipt")]
    Unvouched,
    /// Reading or writing failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The inputs of one appraisal, as a record keeps them.
#[derive(Debug, Clone)]
pub struct Recording<'a> {
    /// Evidence document, bare quote or report, or devices.
    pub subject: Subject,
    /// Endorsements from elsewhere than the document.
    pub endorsements: Endorsements,
    /// Text of the policy file.
    pub policy: &'a str,
    /// The challenge, for documents.
    pub challenge: Option<RecordedChallenge>,
    /// Time of the appraisal.
    pub time: UnixTime,
    /// The signed file of reference values, where the policy names one.
    pub references: Option<RecordedReferences>,
    /// What another verifier found, where one was asked.
    pub second_opinion: Option<SecondOpinion>,
}

impl Recording<'_> {
    /// Makes the record that follows `previous`.
    #[must_use]
    pub fn record(self, result: &AttestationResult, previous: Option<&Record>) -> Record {
        Record {
            prev: previous.map_or(FIRST, Record::hash),
            time: self.time.as_secs(),
            policy: self.policy.to_owned(),
            outcome: Some(result.to_json()),
            subject: self.subject,
            challenge: self.challenge,
            evaluator: EVALUATOR.to_owned(),
            references: self.references,
            endorsements: self.endorsements,
            second_opinion: self.second_opinion,
        }
    }
}

/// Writes one record.
///
/// # Errors
/// [`RecordError::Io`], and [`RecordError::Oversized`] for a record that no reader would take: it must not end the file
/// for those that follow.
pub fn append(mut to: impl Write, record: &Record) -> Result<(), RecordError> {
    let bytes = record.encode();
    if bytes.len() > MAX_RECORD {
        return Err(RecordError::Oversized(bytes.len()));
    }
    to.write_all(&bytes)?;
    Ok(to.flush()?)
}

/// Reads a record file and checks the chain.
///
/// # Errors
/// [`RecordError`]: size, format, chain; an empty file is one.
pub fn read(bytes: &[u8]) -> Result<Vec<Record>, RecordError> {
    if bytes.len() > MAX_FILE {
        return Err(RecordError::TooLarge(bytes.len()));
    }
    let mut records: Vec<Record> = Vec::new();
    for (index, record) in read_all(bytes).enumerate() {
        let record = record.map_err(|source| RecordError::Format { index, source })?;
        let expected = records.last().map_or(FIRST, Record::hash);
        if record.prev != expected {
            let (expected, found) = (expected.to_string(), record.prev.to_string());
            return Err(RecordError::Chain { index, expected, found });
        }
        records.push(record);
    }
    if records.is_empty() { Err(RecordError::Empty) } else { Ok(records) }
}

/// A recorded subject as the verifier takes it.
#[must_use]
pub fn borrowed(subject: &Subject) -> confide_verifier::Subject<'_> {
    use confide_verifier::Subject as Borrowed;
    match subject {
        Subject::Quote(quote) => Borrowed::Quote(quote.as_bytes()),
        Subject::QuoteWithLog { quote, boot_log } => {
            Borrowed::QuoteWithLog { quote: quote.as_bytes(), boot_log: boot_log.as_bytes() }
        }
        Subject::Document(document) => Borrowed::Document(document.as_bytes()),
        Subject::SnpReport(report) => Borrowed::SnpReport(report.as_bytes()),
        Subject::Devices { nonces, devices, rim_time, nras } => {
            Borrowed::Devices { devices, nonces, rim_at: rim_time.map(at), nras: nras.as_ref() }
        }
    }
}

/// Unix seconds as the verifier takes them.
fn at(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

/// What a replay found.
#[derive(Debug, Clone)]
pub struct Replayed {
    /// The result that the inputs give now.
    pub result: AttestationResult,
    /// How it compares with the stored outcome.
    pub agreement: Agreement,
}

/// Whether a replay reproduces the stored outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Agreement {
    /// Byte for byte.
    Same,
    /// The record stores no outcome.
    NotStored,
    /// The stored outcome differs.
    Differs {
        /// The evaluator that wrote the record.
        recorded_by: String,
    },
}

/// Appraises the inputs of a record again, with no network and no clock.
///
/// # Errors
/// [`RecordError::Policy`] where the recorded policy cannot be read.
pub fn replay(index: usize, record: &Record, algorithms: &Algorithms) -> Result<Replayed, RecordError> {
    let policy = AppraisalPolicy::parse_recorded(&record.policy)
        .map_err(|source| RecordError::Policy { index, source })?;
    let prepare = |given| PreparedReferences::new(given, &policy, algorithms);
    let references = record.references.as_ref().map(prepare);
    let inputs = Inputs {
        subject: borrowed(&record.subject),
        endorsements: &record.endorsements,
        prepared: None,
        prepared_devices: None,
        memo: None,
        second_opinion: record.second_opinion.as_ref(),
        references: references.as_ref(),
        policy: &policy,
        challenge: record.challenge.as_ref(),
        now: at(record.time),
        algorithms,
    };
    let result = evaluate(&inputs).unwrap_or_else(|rejection| *rejection.result);
    let agreement = match &record.outcome {
        None => Agreement::NotStored,
        Some(outcome) if *outcome == result.to_json() => Agreement::Same,
        Some(_) => Agreement::Differs { recorded_by: record.evaluator.clone() },
    };
    Ok(Replayed { result, agreement })
}
