//! `confide inspect`: fields without a verdict.

mod certificates;
mod collateral;
mod nvidia;
mod text;

use crate::input;
use crate::render::{self, harmless};
use crate::status::{Failure, Status};
use confide_evidence::boot_log::BootLog;
use confide_evidence::document::EvidenceDocument;
use confide_evidence::head::SignedHead;
use confide_evidence::hex;
use confide_evidence::nvidia::MAX_DECODED;
use confide_evidence::pem;
use confide_evidence::receipt::{KeptReceipt, Receipt};
use confide_evidence::record::{Record, Subject};
use confide_evidence::snp;
use confide_evidence::tdx::{Padding, Quote};
use confide_evidence::text::escape_json;
use confide_evidence::time::format_seconds;
use confide_record::{Entries, Link, MAX_FILE};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

/// Show evidence, endorsements, records or policies field by field, without appraising them
///
/// The form shows by the content: an evidence document, a record file, a receipt, the receipts or the signed head of a folder
/// of records, a boot event log (CCEL), a TDX quote, an SEV-SNP report, an NVIDIA report (binary, hexadecimal digits or base64) or a list of them (JSON), a reference integrity
/// manifest (XML), an answer (JSON) or token of NVIDIA's attestation service and its key set (JWKS), DCAP collateral
/// (QuoteCollateralV3), TCB info and QE identity, certificates and revocation lists (PEM or DER), an OCSP answer, an
/// appraisal policy, a file of reference values.
///
/// Nothing is verified: whoever made the file chose every word of it. What the events of a boot event log say of
/// themselves is the firmware's word: only digests are measured, and data where `data_is_measured` says so.
///
/// Of simulated evidence, records, claims and the names of certificates say SIMULATED, and then the first line does. A bare
/// SEV-SNP report has none of them: `confide verify snp` says it.
#[derive(Debug, clap::Args)]
pub(crate) struct Inspect {
    /// The file
    file: PathBuf,
    /// Print one JSON object a line in place of a line for each field
    #[arg(long)]
    json: bool,
}

/// Contents of a file in one of the forms that are known.
struct Form {
    name: &'static str,
    /// One value for each thing in the file; each is an object.
    shown: Vec<Value>,
}

impl Form {
    fn one(name: &'static str, shown: Value) -> Self {
        Self { name, shown: vec![shown] }
    }
}

impl Inspect {
    pub(crate) fn run(self) -> Result<Status, Failure> {
        let bytes = input::read_entries(&self.file, MAX_FILE)?;
        let Form { name, shown } = recognised(&bytes).ok_or_else(|| unknown(&self.file, &bytes))?;
        for shown in shown {
            let shown = with_its_form(name, shown);
            if self.json {
                render::line(&line(&shown));
            } else {
                fields(&shown, "", &mut |line| render::line(line));
            }
        }
        Ok(Status::Accepted)
    }
}

/// The lines that are printed of a file, as text and as JSON; none where it has no form.
pub(crate) fn lines(bytes: &[u8]) -> Vec<String> {
    let mut lines = Vec::new();
    let Some(Form { name, shown }) = recognised(bytes) else { return lines };
    for shown in shown {
        let shown = with_its_form(name, shown);
        fields(&shown, "", &mut |line| lines.push(line.to_owned()));
        lines.push(line(&shown));
    }
    lines
}

/// One JSON object.
fn line(shown: &Value) -> String {
    escape_json(shown.to_string())
}

/// What is shown, behind whether it is simulated, where that can be known, and the name of its form.
fn with_its_form(name: &str, shown: Value) -> Value {
    let mut whole = Map::new();
    match shown.get(SIMULATED_FIELD) {
        Some(said) => whole.insert(SIMULATED_FIELD.to_owned(), said.clone()),
        None if says_simulated(&shown) => whole.insert(SIMULATED_FIELD.to_owned(), json!(SIMULATED)),
        None => None,
    };
    whole.insert("form".to_owned(), json!(name));
    match shown {
        Value::Object(fields) => {
            let rest = fields.into_iter().filter(|(field, _)| field != SIMULATED_FIELD);
            whole.extend(rest);
        }
        other => drop(whole.insert("items".to_owned(), other)),
    }
    Value::Object(whole)
}

/// Whether any text in it has the word: the simulator writes it into every name that it gives.
fn says_simulated(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains(SIMULATED),
        Value::Array(inner) => inner.iter().any(says_simulated),
        Value::Object(inner) => inner.values().any(says_simulated),
        _ => false,
    }
}

/// Gives a line for each field below `path`: `report.policy.debug: false`. What is shown is of our own structure or JSON,
/// whose parser limits the depth.
fn fields(value: &Value, path: &str, print: &mut impl FnMut(&str)) {
    let below = |name: &str| {
        let name = harmless(name);
        if path.is_empty() { name } else { format!("{path}.{name}") }
    };
    match value {
        Value::Object(inner) if !inner.is_empty() => {
            inner.iter().for_each(|(name, value)| fields(value, &below(name), print));
        }
        Value::Array(inner) if !inner.is_empty() => {
            let numbered = inner.iter().enumerate();
            numbered.for_each(|(at, value)| fields(value, &below(&at.to_string()), print));
        }
        Value::String(text) => print(&format!("{path}: {}", harmless(text))),
        other => print(&format!("{path}: {other}")),
    }
}

/// The file's contents, by the first form that it has.
fn recognised(bytes: &[u8]) -> Option<Form> {
    let found = binary(bytes).or_else(|| text::form(bytes));
    found.or_else(|| encoded(bytes).and_then(|bytes| binary(&bytes)))
}

/// A form of bytes.
fn binary(bytes: &[u8]) -> Option<Form> {
    if let Ok(document) = EvidenceDocument::decode(bytes) {
        return Some(Form::one("evidence document", document.to_json()));
    }
    if let Ok(records) = confide_record::read(bytes) {
        return Some(Form { name: "record file", shown: records.iter().map(record).collect() });
    }
    if let Ok(receipt) = Receipt::decode(bytes) {
        return Some(Form::one("receipt", shown_receipt(&receipt)));
    }
    if let Ok(head) = SignedHead::decode(bytes) {
        return Some(Form::one("signed head of records", shown_head(&head)));
    }
    if let Some(receipts) = kept_receipts(bytes) {
        return Some(Form { name: "kept receipts", shown: receipts });
    }
    if let Ok(log) = BootLog::parse(bytes) {
        return Some(Form::one("boot event log", log.to_json()));
    }
    if let Ok(quote) = Quote::parse(bytes, Padding::Zeros) {
        return Some(Form::one("TDX quote", quote.to_json()));
    }
    if let Ok(report) = snp::Report::parse(bytes) {
        return Some(Form::one("SEV-SNP report", report.to_json()));
    }
    nvidia::report(bytes).or_else(|| certificates::der(bytes))
}

/// The bytes of hexadecimal digits or base64, where all of the file is that.
fn encoded(bytes: &[u8]) -> Option<Vec<u8>> {
    if bytes.len() > MAX_DECODED {
        return None;
    }
    let text = std::str::from_utf8(bytes).ok()?;
    let digits: String = text.chars().filter(|one| !one.is_ascii_whitespace()).collect();
    let bytes = hex::decode(&digits).or_else(|| pem::base64(&digits).ok())?;
    (!bytes.is_empty()).then_some(bytes)
}

fn shown_receipt(receipt: &Receipt) -> Value {
    json!({
        "request_id": receipt.request_id,
        "sequence": receipt.sequence,
        "time": time(receipt.time),
        "usage": receipt.usage,
        "boot_id": receipt.boot_id,
        "key_set": receipt.key_set,
        "manifest": receipt.manifest,
        "configuration": receipt.configuration,
        "salt": receipt.salt,
        "signature": receipt.signature,
    })
}

/// The receipts of a folder of records; nothing where the file holds anything else.
fn kept_receipts(bytes: &[u8]) -> Option<Vec<Value>> {
    let mut entries = Entries::<_, KeptReceipt>::new(bytes);
    let mut shown = Vec::new();
    for link in &mut entries {
        let Link { entry, hash, .. } = link.ok()?;
        shown.push(json!({
            "hash": hash,
            "prev": entry.prev,
            "sent": time(entry.sent),
            "record": entry.record,
            "request": entry.request,
            "response": entry.response,
            "receipt": shown_receipt(&entry.receipt),
        }));
    }
    (entries.torn() == 0 && !shown.is_empty()).then_some(shown)
}

fn shown_head(head: &SignedHead) -> Value {
    json!({
        "time": time(head.time),
        "records": head.records,
        "receipts": head.receipts,
        "signature": head.signature,
    })
}

/// Unix seconds as RFC 3339.
fn time(seconds: u64) -> String {
    format_seconds(i64::try_from(seconds).unwrap_or(i64::MAX))
}

fn record(record: &Record) -> Value {
    let mut shown = json!({ SIMULATED_FIELD: simulated(record), "hash": record.hash(), "record": record });
    let fields = shown.as_object_mut().expect("an object is written above");
    match &record.subject {
        Subject::QuoteWithLog { boot_log, .. } => {
            if let Ok(log) = BootLog::parse(boot_log.as_bytes()) {
                fields.insert("boot_log".to_owned(), log.to_json());
            }
        }
        Subject::SnpReport(report) => {
            if let Ok(report) = snp::Report::parse(report.as_bytes()) {
                fields.insert("report".to_owned(), report.to_json());
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
        Some(true) => json!(SIMULATED),
        Some(false) => json!(false),
        None => Value::Null,
    }
}

/// Why the file is of no form, as far as its first bytes tell what it was meant to be.
fn unknown(path: &Path, bytes: &[u8]) -> Failure {
    let why = text::why_not(bytes).unwrap_or_else(|| match EvidenceDocument::decode(bytes) {
        Err(error) => format!("as an evidence document: {error}"),
        Ok(_) => String::new(),
    });
    let message = format!("{}: of no form that is known ({why})", path.display());
    Failure::new(Status::Malformed, "document_format", message)
        .hint("`confide inspect --help` lists the forms; give the file as the guest, the kernel, the vendor or `confide` gave it")
}

/// The word that every name of the simulator has.
const SIMULATED: &str = "SIMULATED";
const SIMULATED_FIELD: &str = "simulated";
