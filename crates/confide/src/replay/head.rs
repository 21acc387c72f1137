//! What was kept elsewhere of a record file, and shows that its end was removed or that it was written anew.

use crate::audit;
use crate::input;
use crate::status::{Failure, Status};
use confide_evidence::bytes::Bytes;
use confide_evidence::head::{ChainHead, SignedHead};
use confide_evidence::record::Record;
use std::path::{Path, PathBuf};

/// What was kept elsewhere. With a key it is a file, as for `confide audit`; without one it is a hash.
#[derive(Debug, clap::Args)]
pub(crate) struct HeadFlags {
    /// What was kept elsewhere, and shows truncation and rewriting: with --head-key the file of a signed head, as `confide audit
    /// --sign-head` writes it, else the hash of the last record, 64 hexadecimal digits
    #[arg(long, value_name = "FILE|HEX")]
    head: Option<PathBuf>,
    /// Ed25519 public key, PEM, that signs heads
    #[arg(long, value_name = "PEM", requires = "head")]
    head_key: Option<PathBuf>,
}

/// What a record file is held against.
pub(super) enum Head {
    /// Hash of the last record.
    Last(Bytes<32>),
    /// A prefix, whose signature holds.
    Signed(SignedHead),
}

impl HeadFlags {
    /// Reads what is named; nothing where nothing is.
    pub(super) fn load(&self) -> Result<Option<Head>, Failure> {
        let Some(head) = &self.head else { return Ok(None) };
        if let Some(key) = &self.head_key {
            return audit::read_head(head, key).map(|head| Some(Head::Signed(head)));
        }
        match head.to_str().map(input::bytes32) {
            Some(Ok(hash)) => Ok(Some(Head::Last(Bytes(hash)))),
            _ => {
                let message = format!("--head {}: neither a hash nor a file with --head-key", head.display());
                Err(Failure::new(Status::Usage, "head_key_missing", message))
            }
        }
    }
}

impl Head {
    /// Holds the records of a file against it.
    pub(super) fn hold(&self, file: &Path, records: &[Record]) -> Result<(), Failure> {
        match self {
            Self::Last(head) => match records.last().map(Record::hash) {
                Some(found) if found != *head => {
                    let message = format!("the last record hashes to {found}, --head says {head}");
                    Err(Failure::new(Status::Rejected, "replay_head", message))
                }
                _ => Ok(()),
            },
            Self::Signed(SignedHead { records: head, .. }) => prefix(head, file, records),
        }
    }
}

/// Holds that a chain begins as the head has it.
fn prefix(head: &ChainHead, file: &Path, records: &[Record]) -> Result<(), Failure> {
    let ChainHead { last, count } = head;
    let Some(before) = count.checked_sub(1) else { return Ok(()) };
    let found = usize::try_from(before).ok().and_then(|before| records.get(before)).map(Record::hash);
    let (code, why) = match found {
        Some(found) if found == *last => return Ok(()),
        Some(found) => {
            ("head_rewritten", format!("record {before} hashes to {found}, the signed head has {last}"))
        }
        None => ("head_truncated", format!("{} records, the signed head has {count}", records.len())),
    };
    Err(Failure::new(Status::Rejected, code, format!("{}: {why}", file.display())))
}
