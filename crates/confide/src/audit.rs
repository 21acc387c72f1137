//! `confide audit`: a folder of records, held against itself and against a head that was kept elsewhere.

use crate::input::{self, ALGORITHMS};
use crate::policy::sign;
use crate::recorder;
use crate::render::{self, counted};
use crate::status::{Failure, Status};
use aws_lc_rs::signature::Ed25519KeyPair;
use confide_evidence::bytes::Bytes;
use confide_evidence::head::{ChainHead, MAX_HEAD, SignedHead};
use confide_evidence::hex;
use confide_evidence::text::escape_json;
use confide_evidence::time::format_seconds;
use confide_policy::ReferenceKey;
use confide_record::{Against, Audit as Found, Fault, Finding, Place, RECEIPTS, RecordError, Span};
use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject as _;
use serde::Serialize;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use zeroize::Zeroize as _;

/// The largest key file read, in bytes. An Ed25519 key in PEM has 113.
const MAX_KEY: usize = 16 * 1024;

/// Verify a folder of records: its chains, every verdict again, every receipt with the evidence that vouches for its key
///
/// The folder is what `confide proxy --record DIR/` and `confide chat --record DIR/` write. Edits, removed and exchanged
/// entries, repeated receipts and receipts that nothing vouches for are found in the folder itself; that it was truncated or
/// written anew shows against a signed head that was kept elsewhere. Exit status: 0 where nothing is wrong, 10 where
/// something is, 30 where a file cannot be read on.
#[derive(Debug, clap::Args)]
pub(crate) struct Audit {
    /// The folder
    folder: PathBuf,
    /// Appraisal policy that every verdict is to be made by, to the byte
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Signed head of the folder, kept elsewhere
    #[arg(long, value_name = "FILE", requires = "head_key")]
    head: Option<PathBuf>,
    /// Ed25519 public key, PEM, that signs heads
    #[arg(long, value_name = "PEM", requires = "head")]
    head_key: Option<PathBuf>,
    /// Ed25519 private key, PKCS#8 in PEM or DER, to sign a head with; it is written where nothing is wrong or torn
    #[arg(long, value_name = "FILE", requires = "out")]
    sign_head: Option<PathBuf>,
    /// File for the signed head
    #[arg(long, value_name = "FILE", requires = "sign_head")]
    out: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Audit {
    pub(crate) fn run(self) -> Result<Status, Failure> {
        let head = match (&self.head, &self.head_key) {
            (Some(head), Some(key)) => Some(read_head(head, key)?),
            _ => None,
        };
        // Before the work: a key that cannot sign is told at once.
        let signer = self.sign_head.as_deref().map(signer).transpose()?;
        if let Some(out) = self.out.as_deref().filter(|out| out.exists()) {
            return Err(occupied(out));
        }
        let policy = self.policy.as_deref().map(input::policy_text).transpose()?;
        let against = Against { head: head.as_ref(), policy: policy.as_deref() };
        let auditing = format!("verifying every record and receipt of {}", self.folder.display());
        let found = render::while_working(&auditing, || {
            confide_record::audit(&self.folder, against, &ALGORITHMS)
                .map_err(|error| unreadable(&self.folder, error))
        })?;
        let report = Report::of(&found, head.as_ref());
        if self.json {
            let json = serde_json::to_string(&report).expect("strings, numbers and lists always serialise");
            render::line(&escape_json(json));
        } else {
            report.print(&self.folder);
        }
        let status = status(&found.findings);
        if let (Status::Accepted, Some(signer), Some(out)) = (status, &signer, &self.out) {
            whole(&found)?;
            write_new(out, &signed(&found, signer).encode())?;
            render::note(&format!("the signed head is in {}", out.display()));
        }
        Ok(status)
    }
}

/// The worst of what was found: what cannot be read on hides what follows it.
fn status(findings: &[Finding]) -> Status {
    let statuses = || findings.iter().map(|finding| kind(&finding.fault).0);
    let is = |wanted| statuses().any(|status| status == wanted);
    match () {
        () if is(Status::Malformed) => Status::Malformed,
        () if is(Status::Rejected) => Status::Rejected,
        () if is(Status::Unsupported) => Status::Unsupported,
        () => Status::Accepted,
    }
}

/// Exit status and stable code of a fault.
fn kind(fault: &Fault) -> (Status, &'static str) {
    match fault {
        Fault::Format(_) | Fault::Policy(_) => (Status::Malformed, "record_malformed"),
        Fault::Danger => (Status::Unsupported, "danger_policy_unsupported"),
        Fault::Chain { .. } | Fault::NoAppraisals => (Status::Rejected, "record_chain"),
        Fault::OtherPolicy { .. } => (Status::Rejected, "record_policy"),
        Fault::Outcome { .. } => (Status::Rejected, "replay_mismatch"),
        Fault::NoRecord(_) | Fault::NotAccepted(_) | Fault::Time { .. } => {
            (Status::Rejected, "receipt_unvouched")
        }
        Fault::Receipt { .. } => (Status::Rejected, "receipt_invalid"),
        Fault::Repeated(_) => (Status::Rejected, "receipt_repeated"),
        Fault::Truncated { .. } => (Status::Rejected, "head_truncated"),
        Fault::Rewritten { .. } => (Status::Rejected, "head_rewritten"),
        // A kind of a later version of the audit: it is a finding all the same.
        _ => (Status::Rejected, "record_chain"),
    }
}

fn unreadable(folder: &Path, error: RecordError) -> Failure {
    match error {
        RecordError::Io(error) => {
            let hint = match error.kind() {
                io::ErrorKind::PermissionDenied => {
                    "give this user read access to the folder and what is in it"
                }
                _ => {
                    "give the folder that `confide proxy --record DIR/` wrote; a record file is for `confide replay`"
                }
            };
            Failure::new(Status::Internal, "file_unreadable", format!("{}: {error}", folder.display()))
                .hint(hint)
        }
        error => recorder::fault(folder, error),
    }
}

/// A head whose signature holds.
pub(crate) fn read_head(path: &Path, key: &Path) -> Result<SignedHead, Failure> {
    let malformed = |what: String| {
        let message = format!("{}: {what}", path.display());
        Failure::new(Status::Malformed, "head_malformed", message)
    };
    let head =
        SignedHead::decode(&input::read(path, MAX_HEAD)?).map_err(|error| malformed(error.to_string()))?;
    let public = public_key(key)?;
    let verified = ALGORITHMS.ed25519.verify_signature(&public, &head.signing_input(), &head.signature.0);
    verified.map_err(|_| {
        let message = format!("{}: its signature is not that of {}", path.display(), key.display());
        Failure::new(Status::Rejected, "head_signature", message)
    })?;
    Ok(head)
}

fn public_key(path: &Path) -> Result<[u8; 32], Failure> {
    let bytes = input::read(path, MAX_KEY)?;
    let spki = Some(&bytes).filter(|bytes| bytes.len() <= MAX_KEY);
    let spki = spki.and_then(|bytes| SubjectPublicKeyInfoDer::from_pem_slice(bytes).ok());
    match spki.and_then(|spki| ReferenceKey::from_spki(&spki)) {
        Some(ReferenceKey::Ed25519(key)) => Ok(key),
        _ => {
            let message = format!("{}: not an Ed25519 public key in PEM", path.display());
            Err(Failure::new(Status::Malformed, "head_key", message))
        }
    }
}

fn signer(path: &Path) -> Result<Ed25519KeyPair, Failure> {
    let unusable = || {
        let message = format!("{}: not an Ed25519 private key in PKCS#8", path.display());
        Failure::new(Status::Malformed, "signing_key", message)
    };
    let mut der = sign::pkcs8(path, unusable)?;
    let signer = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der());
    der.zeroize();
    signer.map_err(|_| unusable())
}

/// Whether both files end with whole entries. What is torn may be all that is left of entries that were: no head passes
/// over it.
fn whole(found: &Found) -> Result<(), Failure> {
    let torn = found.torn_records.saturating_add(found.torn_receipts);
    if torn == 0 {
        return Ok(());
    }
    let message = format!(
        "no head was signed: of the folder's files {} at the end are part of no entry",
        counted(torn, "byte")
    );
    Err(Failure::new(Status::Rejected, "head_torn", message))
}

/// The head of what was audited.
fn signed(found: &Found, signer: &Ed25519KeyPair) -> SignedHead {
    let unsigned = SignedHead {
        time: input::now().as_secs(),
        records: found.records,
        receipts: found.receipts,
        signature: Bytes([0; 64]),
    };
    let signature = signer.sign(&unsigned.signing_input());
    let signature = Bytes::try_from(signature.as_ref()).expect("an Ed25519 signature has 64 bytes");
    SignedHead { signature, ..unsigned }
}

/// Writes a file that is not there yet, to the disk.
fn write_new(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let created = File::options().write(true).create_new(true).open(path);
    let written = created.and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()));
    written.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => occupied(path),
        _ => Failure::new(Status::Internal, "file_unwritable", format!("{}: {error}", path.display())),
    })
}

/// An earlier head is not overwritten: it may be the only one.
fn occupied(path: &Path) -> Failure {
    let message = format!("{} is there already, and is left as it is", path.display());
    Failure::new(Status::Internal, "file_unwritable", message).hint("name another file with --out")
}

/// What is printed.
#[derive(Serialize)]
struct Report {
    /// Whether evidence of any record is simulated.
    simulated: bool,
    records: Chain,
    receipts: Chain,
    /// The head that the folder was held against.
    head: Option<Head>,
    verdicts: Vec<Verdicts>,
    policies: Vec<Policy>,
    models: Vec<Model>,
    instances: Vec<Instance>,
    boots: Vec<Boot>,
    findings: Vec<Shown>,
}

#[derive(Serialize)]
struct Chain {
    count: u64,
    last: String,
    torn_bytes: usize,
}

#[derive(Serialize)]
struct Head {
    time: String,
    records: u64,
    receipts: u64,
}

#[derive(Serialize)]
struct Verdicts {
    outcome: &'static str,
    code: Option<&'static str>,
    #[serde(flatten)]
    span: Times,
}

#[derive(Serialize)]
struct Policy {
    name: String,
    sha256: String,
    accepted: u64,
    #[serde(flatten)]
    span: Times,
}

#[derive(Serialize)]
struct Model {
    manifest: String,
    accepted: u64,
    #[serde(flatten)]
    span: Times,
}

#[derive(Serialize)]
struct Instance {
    spki: String,
    accepted: u64,
    #[serde(flatten)]
    span: Times,
}

#[derive(Serialize)]
struct Times {
    count: u64,
    first: String,
    last: String,
}

#[derive(Serialize)]
struct Boot {
    boot_id: String,
    key_set: String,
    receipts: usize,
    lowest: u64,
    highest: u64,
    missing: u64,
}

#[derive(Serialize)]
struct Shown {
    code: &'static str,
    #[serde(rename = "where")]
    place: String,
    message: String,
}

impl Report {
    fn of(found: &Found, head: Option<&SignedHead>) -> Self {
        let verdicts = found.verdicts.iter();
        let instances = found.instances.iter();
        let policies = found.policies.iter().map(|(sha256, by)| Policy {
            name: by.name.clone(),
            sha256: sha256.to_string(),
            accepted: by.verdicts.accepted,
            span: (&by.verdicts.all).into(),
        });
        let models = found.models.iter().map(|(manifest, one)| Model {
            manifest: manifest.to_string(),
            accepted: one.accepted,
            span: (&one.all).into(),
        });
        let boots = found.boots.iter().filter_map(|((boot_id, key_set), numbers)| {
            let (lowest, highest) = numbers.range()?;
            Some(Boot {
                boot_id: boot_id.to_string(),
                key_set: key_set.to_string(),
                receipts: numbers.count(),
                lowest,
                highest,
                missing: numbers.missing(),
            })
        });
        Self {
            simulated: found.simulated > 0,
            records: Chain::of(found.records, found.torn_records),
            receipts: Chain::of(found.receipts, found.torn_receipts),
            head: head.map(|head| Head {
                time: time(head.time),
                records: head.records.count,
                receipts: head.receipts.count,
            }),
            verdicts: verdicts
                .map(|((outcome, code), span)| Verdicts { outcome, code: *code, span: span.into() })
                .collect(),
            policies: policies.collect(),
            models: models.collect(),
            instances: instances
                .map(|(spki, one)| Instance {
                    spki: hex::encode(spki),
                    accepted: one.accepted,
                    span: (&one.all).into(),
                })
                .collect(),
            boots: boots.collect(),
            findings: found.findings.iter().map(Shown::of).collect(),
        }
    }

    fn print(&self, folder: &Path) {
        let outcome = if self.findings.is_empty() { "NOTHING WRONG" } else { "WRONG" };
        let simulated = if self.simulated { "SIMULATED " } else { "" };
        render::prose(&format!("{simulated}{outcome}  {}", folder.display()));
        self.records.print("record");
        self.receipts.print("receipt");
        if self.receipts.count == 0 {
            render::prose(&format!(
                "  without receipts no answer is accounted for: a folder that has lost {RECEIPTS} looks the same"
            ));
        }
        match &self.head {
            Some(Head { time, records, receipts }) => {
                let (records, receipts) = (counted(*records, "record"), counted(*receipts, "receipt"));
                render::prose(&format!("  head of {time}: {records}, {receipts}"));
            }
            None => {
                render::prose("  no head given: that the folder was truncated or written anew would not show")
            }
        }
        for Verdicts { outcome, code, span } in &self.verdicts {
            let code = code.map(|code| format!(" ({code})")).unwrap_or_default();
            render::prose(&format!("  {outcome}{code}: {span}"));
        }
        for Policy { name, sha256, accepted, span } in &self.policies {
            render::prose(&format!("  policy {name}, SHA-256 {sha256}: {accepted} accepted of {span}"));
        }
        for Model { manifest, accepted, span } in &self.models {
            render::prose(&format!("  model manifest {manifest}: {accepted} accepted of {span}"));
        }
        for Instance { spki, accepted, span } in &self.instances {
            render::prose(&format!("  key {spki}: {accepted} accepted of {span}"));
        }
        for Boot { boot_id, receipts, lowest, highest, missing, .. } in &self.boots {
            let missing = match missing {
                0 => "none between them is missing".to_owned(),
                missing => format!("{missing} between them went to others or were not kept"),
            };
            let numbers = match receipts {
                1 => format!("1 receipt, number {lowest}"),
                receipts => format!("{receipts} receipts, numbers {lowest} to {highest}"),
            };
            render::prose(&format!("  boot {boot_id}: {numbers}, {missing}"));
        }
        for Shown { code, place, message } in &self.findings {
            render::prose(&format!("  {place}: {message} [{code}]"));
        }
    }
}

impl Chain {
    fn of(head: ChainHead, torn_bytes: usize) -> Self {
        Self { count: head.count, last: head.last.to_string(), torn_bytes }
    }

    fn print(&self, what: &str) {
        let Self { count, last, torn_bytes } = self;
        let torn = match torn_bytes {
            0 => String::new(),
            torn => {
                format!(
                    "; {} behind the last: an entry that was never written to its end",
                    counted(*torn, "byte")
                )
            }
        };
        render::prose(&format!("  {}, the last hashes to {last}{torn}", counted(*count, what)));
    }
}

impl Shown {
    fn of(finding: &Finding) -> Self {
        let place = match finding.place {
            Place::Record(index) => format!("record {index}"),
            Place::Receipt(index) => format!("receipt {index}"),
            Place::Records | Place::HeadOfRecords => "records".to_owned(),
            Place::HeadOfReceipts => "receipts".to_owned(),
        };
        Self { code: kind(&finding.fault).1, place, message: finding.fault.to_string() }
    }
}

impl From<&Span> for Times {
    fn from(span: &Span) -> Self {
        Self { count: span.count, first: time(span.first), last: time(span.last) }
    }
}

impl std::fmt::Display for Times {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { count, first, last } = self;
        match count {
            1 => write!(f, "1, at {first}"),
            count => write!(f, "{count}, from {first} to {last}"),
        }
    }
}

fn time(seconds: u64) -> String {
    format_seconds(i64::try_from(seconds).unwrap_or(i64::MAX))
}
