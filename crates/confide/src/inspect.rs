//! `confide inspect`: fields without a verdict.

use crate::input;
use crate::render;
use crate::status::{Failure, Status};
use confide_evidence::boot_log::BootLog;
use confide_evidence::document::{DocumentError, EvidenceDocument};
use confide_evidence::record::{Record, Subject};
use confide_evidence::snp;
use confide_evidence::tdx::{Padding, Quote};
use confide_evidence::text::escape_json;
use confide_record::MAX_FILE;
use serde_json::{Value, json};
use std::path::PathBuf;

/// Show an evidence document, record file, boot event log, TDX quote or SEV-SNP report as JSON, without appraising it
///
/// What the events of a boot event log say of themselves is the firmware's word: only digests are measured, and data where
/// `data_is_measured` says so.
///
/// Of simulated evidence, records, claims and the names of certificates say SIMULATED. A bare SEV-SNP report has none of
/// them: `confide verify snp` says it.
#[derive(Debug, clap::Args)]
pub(crate) struct Inspect {
    /// The file
    file: PathBuf,
    /// Print a line for each field in place of JSON
    #[arg(long)]
    text: bool,
}

impl Inspect {
    pub(crate) fn run(self) -> Result<Status, Failure> {
        let bytes = input::read(&self.file, MAX_FILE)?;
        for shown in shown(&bytes)? {
            if self.text {
                fields(&shown, "");
            } else {
                render::line(&escape_json(format!("{shown:#}")));
            }
        }
        Ok(Status::Accepted)
    }
}

/// Prints a line for each field below `path`: `report.policy.debug: false`. What is shown is of our own structure and a few
/// levels deep.
fn fields(value: &Value, path: &str) {
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match value {
        Value::Object(inner) if !inner.is_empty() => {
            inner.iter().for_each(|(name, value)| fields(value, &below(name)));
        }
        Value::Array(inner) if !inner.is_empty() => {
            inner.iter().enumerate().for_each(|(at, value)| fields(value, &below(&at.to_string())));
        }
        Value::String(text) => render::line(&format!("{path}: {}", render::harmless(text))),
        other => render::line(&format!("{path}: {other}")),
    }
}

/// The file's contents, by the first form that it has.
fn shown(bytes: &[u8]) -> Result<Vec<Value>, Failure> {
    let error = match EvidenceDocument::decode(bytes) {
        Ok(document) => return Ok(vec![document.to_json()]),
        Err(error) => error,
    };
    if let Ok(records) = confide_record::read(bytes) {
        return Ok(records.iter().map(record).collect());
    }
    if let Ok(log) = BootLog::parse(bytes) {
        return Ok(vec![log.to_json()]);
    }
    if let Ok(quote) = Quote::parse(bytes, Padding::Zeros) {
        return Ok(vec![quote.to_json()]);
    }
    if let Ok(report) = snp::Report::parse(bytes) {
        return Ok(vec![report.to_json()]);
    }
    Err(neither(&error))
}

fn record(record: &Record) -> Value {
    let mut shown = json!({ "simulated": simulated(record), "hash": record.hash(), "record": record });
    match &record.subject {
        Subject::QuoteWithLog { boot_log, .. } => {
            if let Ok(log) = BootLog::parse(boot_log.as_bytes()) {
                shown["boot_log"] = log.to_json();
            }
        }
        Subject::SnpReport(report) => {
            if let Ok(report) = snp::Report::parse(report.as_bytes()) {
                shown["report"] = report.to_json();
            }
        }
        Subject::Quote(_) | Subject::Document(_) | Subject::Devices { .. } => {}
    }
    shown
}

/// The word where the recorded verdict is about simulated evidence, else false; null where no verdict says it.
fn simulated(record: &Record) -> Value {
    let verdict = record.outcome.as_ref().and_then(|text| serde_json::from_str::<Value>(text).ok());
    match verdict.and_then(|verdict| verdict.get("simulated")?.as_bool()) {
        Some(true) => json!("SIMULATED"),
        Some(false) => json!(false),
        None => Value::Null,
    }
}

fn neither(error: &DocumentError) -> Failure {
    let message = format!(
        "neither an evidence document ({error}), a record file, a boot event log, a TDX quote nor an SEV-SNP report"
    );
    Failure::new(Status::Malformed, "document_format", message)
        .hint("give one of these in binary form, as the guest, the kernel or `confide record` gave it")
}
