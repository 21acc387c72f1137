//! `confide replay`: the verdicts of a record file, again, or under another policy or at another time.

mod difference;
mod head;

use crate::input::{self, ALGORITHMS, LoadedPolicy};
use crate::render::{self, Form, Shown, harmless};
use crate::status::{Failure, Status};
use crate::verify;
use confide_evidence::bytes::Digest;
use confide_evidence::cbor::CborError;
use confide_evidence::record::Record;
use confide_evidence::text::escape_json;
use confide_policy::Loaded;
use confide_record::{Agreement, MAX_FILE, RecordError, Replayed};
use confide_verifier::AttestationResult;
use difference::{Change, changes};
use head::HeadFlags;
use rustls_pki_types::UnixTime;
use serde::Serialize;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Reproduce the verdicts of a record file, without network and clock
///
/// Every record's inputs are appraised again at the recorded time, and a stored outcome must be found again byte for byte:
/// where it is not, the program ends with 10 and replay_mismatch. Else it ends as the last verdict has it, with a replacement
/// as the last new one.
///
/// With --at, --policy or --danger-policy each is then appraised once more, at that time or by that policy, and what
/// changes is shown: outcome, code, fields such as valid_until, and every check whose status, expectation or finding is
/// another. Evidence, endorsements, challenge and reference values stay those of the record; a second opinion was formed
/// over the recorded time, and counts for no other. With --format ear the new verdicts are shown instead.
#[derive(Debug, clap::Args)]
pub(crate) struct Replay {
    /// The record file
    file: PathBuf,
    #[command(flatten)]
    other: Other,
    #[command(flatten)]
    shown: Shown,
    #[command(flatten)]
    head: HeadFlags,
}

/// What is put in the place of what was recorded.
#[derive(Debug, clap::Args)]
struct Other {
    /// Appraise each record at this time too, RFC 3339, and show what changes
    #[arg(long, value_name = "TIME", value_parser = input::time)]
    at: Option<UnixTime>,
    /// Appraise each record by this policy (TOML) too, and show what changes
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// The same with a policy that accepts simulated evidence: a file danger-*.toml with a [danger] table
    #[arg(long, value_name = "FILE", conflicts_with = "policy")]
    danger_policy: Option<PathBuf>,
}

/// What replaces the recorded policy and time.
struct Replacement {
    policy: Option<LoadedPolicy>,
    at: Option<UnixTime>,
}

/// What `--json` prints of a record that was appraised twice.
#[derive(Serialize)]
struct Compared<'a> {
    /// Position in the file, from 0.
    record: usize,
    hash: Digest,
    before: &'a AttestationResult,
    after: &'a AttestationResult,
    changes: Vec<Change>,
}

impl Replay {
    pub(crate) fn run(self) -> Result<Status, Failure> {
        let replaying = format!("appraising every record of {} again", self.file.display());
        render::while_working(&replaying, || self.replay())
    }

    fn replay(self) -> Result<Status, Failure> {
        let (replacement, head) = (self.other.load()?, self.head.load()?);
        let bytes = input::read_entries(&self.file, MAX_FILE)?;
        let fault = |error| fault(&self.file, error);
        let records = confide_record::read(&bytes).map_err(fault)?;
        if let Some(head) = head {
            head.hold(&self.file, &records)?;
        }
        let mut status = Status::Accepted;
        for (index, record) in records.iter().enumerate() {
            let form = self.shown.form();
            let unusable = |error| {
                let is_policy = matches!(error, RecordError::Policy { .. });
                let failure = fault(error);
                if is_policy {
                    let at = UnixTime::since_unix_epoch(Duration::from_secs(record.time));
                    verify::show_unusable(&failure, Some(policy_name(&self.file, index)), at, form);
                }
                failure
            };
            let Replayed { result, agreement } =
                confide_record::replay(index, record, &ALGORITHMS).map_err(unusable)?;
            let mismatch = mismatch(index, agreement);
            status = match &replacement {
                // The verdict is told before the mismatch: that is what its inputs give.
                None => {
                    render::verdict(&result, form);
                    if let (Some(failure), Form::Json) = (&mismatch, form) {
                        render::failure_line(failure);
                    }
                    mismatch.map_or_else(|| Ok(Status::from(&result)), Err)?
                }
                Some(replacement) => {
                    mismatch.map_or(Ok(()), Err)?;
                    let changed = replacement.in_place_of(record);
                    let again = confide_record::replay(index, &changed, &ALGORITHMS).map_err(fault)?.result;
                    compared(index, record, &result, &again).show(form);
                    Status::from(&again)
                }
            };
        }
        Ok(status)
    }
}

impl Other {
    /// Reads what is named; nothing where nothing is.
    fn load(&self) -> Result<Option<Replacement>, Failure> {
        let policy = match (&self.policy, &self.danger_policy) {
            (Some(path), _) => Some(input::load(path, Loaded::Normally)?),
            (None, Some(path)) => Some(input::load_danger(path)?),
            (None, None) => None,
        };
        let any = policy.is_some() || self.at.is_some();
        Ok(any.then_some(Replacement { policy, at: self.at }))
    }
}

impl Replacement {
    /// The record with these inputs in place of its own. It has no outcome: nobody has found one for them.
    fn in_place_of(&self, record: &Record) -> Record {
        Record {
            policy: self.policy.as_ref().map_or_else(|| record.policy.clone(), |policy| policy.text.clone()),
            time: self.at.map_or(record.time, |at| at.as_secs()),
            outcome: None,
            ..record.clone()
        }
    }
}

fn mismatch(index: usize, agreement: Agreement) -> Option<Failure> {
    let Agreement::Differs { recorded_by } = agreement else { return None };
    let message = format!(
        "record {index}: the stored outcome, written by {recorded_by}, is not what {} finds",
        confide_record::EVALUATOR
    );
    let failure = Failure::new(Status::Rejected, "replay_mismatch", message);
    Some(failure.hint("the record was altered, or another version of the evaluator wrote it"))
}

fn compared<'a>(
    record: usize,
    of: &Record,
    before: &'a AttestationResult,
    after: &'a AttestationResult,
) -> Compared<'a> {
    let value = |result: &AttestationResult| -> Value {
        serde_json::from_str(&result.to_json()).expect("a verdict is written as JSON")
    };
    Compared { record, hash: of.hash(), before, after, changes: changes(&value(before), &value(after)) }
}

impl Compared<'_> {
    fn show(&self, form: Form) {
        match form {
            Form::Text => self.lines().iter().for_each(|line| render::line(line)),
            Form::Json => {
                let json = serde_json::to_string(self).expect("strings, lists and structs always serialise");
                render::line(&escape_json(json));
            }
            Form::Ear => render::verdict(self.after, form),
        }
    }

    fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!("record {}: {}", self.record, self.step())];
        if self.changes.is_empty() {
            lines.push("  nothing changes".to_owned());
        }
        let mut check = None;
        for change in &self.changes {
            if let (Some(code), Some(number)) = (&change.check, change.number) {
                if check != Some((code, number)) {
                    let number = if number == 0 {
                        String::new()
                    } else {
                        format!(", number {}", number.saturating_add(1))
                    };
                    lines.push(format!("  check {code}{number}"));
                }
                check = Some((code, number));
            }
            let indent = if change.check.is_some() { "    " } else { "  " };
            let (before, after) = (shown(&change.before), shown(&change.after));
            lines.push(format!("{indent}{}: {before} -> {after}", change.field));
        }
        lines
    }

    /// Both outcomes: `accepted -> rejected (validity)`.
    fn step(&self) -> String {
        let outcome = |result: &AttestationResult| {
            let simulated = if result.simulated { "SIMULATED " } else { "" };
            let code = result.code.map(|code| format!(" ({code})")).unwrap_or_default();
            format!("{simulated}{}{code}", render::outcome(result.outcome))
        };
        format!("{} -> {}", outcome(self.before), outcome(self.after))
    }
}

/// A value on one line; text that evidence or a policy may have chosen moves no terminal.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::String(text) => harmless(text),
        other => harmless(&other.to_string()),
    }
}

/// What errors call the policy of a record.
fn policy_name(path: &Path, index: usize) -> String {
    format!("{}: the policy of record {index}", path.display())
}

/// What is wrong with a record file, as a failure of the program.
pub(crate) fn fault(path: &Path, error: RecordError) -> Failure {
    if let RecordError::Policy { index, source } = &error {
        return input::refused_policy(&policy_name(path, *index), source);
    }
    let (status, code) = match &error {
        RecordError::Io(_) => (Status::Internal, "file_unwritable"),
        RecordError::Chain { .. } => (Status::Rejected, "record_chain"),
        _ => (Status::Malformed, "record_malformed"),
    };
    let message = match &error {
        RecordError::Format { index: 0, .. } => format!("this is no record file: {error}"),
        _ => error.to_string(),
    };
    let failure = Failure::new(status, code, format!("{}: {message}", path.display()));
    match error {
        RecordError::Format { index: 1.., source: CborError::Truncated { .. } } => failure.hint(
            "its end was cut off, or a program was stopped as it recorded: record to the file once more, and the part of a \
             record moves into a file beside it; the records before it are whole",
        ),
        RecordError::TooLarge(_) => failure.hint(
            "begin a new file, or record to a folder, a path that ends with a slash, which `confide audit` reads whole",
        ),
        _ => failure,
    }
}
