//! `confide replay`: the verdicts of a record file, again.

use crate::input::{self, ALGORITHMS};
use crate::render::{self, Shown};
use crate::status::{Failure, Status};
use confide_evidence::bytes::Bytes;
use confide_record::{Agreement, MAX_FILE, RecordError};
use std::path::PathBuf;

/// Reproduce the verdicts of a record file, without network and clock
///
/// Every record's inputs are appraised again at the recorded time. Exit status: that of the last verdict, or 10 with
/// replay_mismatch where a stored outcome is not reproduced byte for byte.
#[derive(Debug, clap::Args)]
pub(crate) struct Replay {
    /// The record file
    file: PathBuf,
    #[command(flatten)]
    shown: Shown,
    /// Hash of the last record, 32 bytes in hexadecimal digits, kept elsewhere: shows truncation and rewriting
    #[arg(long, value_name = "HEX", value_parser = input::bytes32)]
    head: Option<[u8; 32]>,
}

impl Replay {
    pub(crate) fn run(self) -> Result<Status, Failure> {
        let bytes = input::read(&self.file, MAX_FILE)?;
        let records = confide_record::read(&bytes).map_err(fault)?;
        if let (Some(head), Some(last)) = (&self.head, records.last()) {
            let (head, found) = (Bytes(*head), last.hash());
            if head != found {
                let message = format!("the last record hashes to {found}, --head says {head}");
                return Err(Failure::new(Status::Rejected, "replay_head", message));
            }
        }
        let mut status = Status::Accepted;
        for (index, record) in records.iter().enumerate() {
            let replayed = confide_record::replay(index, record, &ALGORITHMS).map_err(fault)?;
            render::verdict(&replayed.result, self.shown.form());
            if let Agreement::Differs { recorded_by } = replayed.agreement {
                let message = format!(
                    "record {index}: the stored outcome, written by {recorded_by}, is not what {} finds",
                    confide_record::EVALUATOR
                );
                return Err(Failure::new(Status::Rejected, "replay_mismatch", message)
                    .hint("the record was altered, or another version of the evaluator wrote it"));
            }
            status = Status::from(&replayed.result);
        }
        Ok(status)
    }
}

pub(crate) fn fault(error: RecordError) -> Failure {
    let (status, code) = match error {
        RecordError::Io(_) => (Status::Internal, "file_unwritable"),
        RecordError::Chain { .. } => (Status::Rejected, "record_chain"),
        RecordError::Policy { source: confide_policy::PolicyError::DangerNotBuilt, .. } => {
            (Status::Unsupported, "danger_policy_unsupported")
        }
        _ => (Status::Malformed, "record_malformed"),
    };
    let message = match &error {
        RecordError::Format { index: 0, .. } => format!("this is no record file: {error}"),
        _ => error.to_string(),
    };
    Failure::new(status, code, message)
}
