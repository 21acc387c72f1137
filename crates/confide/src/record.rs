//! `confide record`: a whole appraisal in a file.

use crate::cli::Appraising;
use crate::cross_check::CrossCheck;
use crate::input::{self, ALGORITHMS, Otherwise, QuoteFiles};
use crate::live::LiveGuest;
use crate::status::{Failure, Status};
use crate::{gpu, render, replay, snp};
use clap::Subcommand;
use confide_evidence::document::Endorsements;
use confide_evidence::record::{Record, Subject};
use confide_record::{MAX_FILE, RecordError, Recording};
use confide_verifier::{AttestationResult, Inputs, evaluate};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Appraise a guest, or evidence from files, and write the whole appraisal to a file
///
/// Of a guest, the request for its evidence is all that is sent: nothing of a prompt. The record holds evidence, endorsements, policy, challenge, time and verdict, also of evidence that is refused. It is
/// appended to the file and chained by hash to the record before it.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct RecordCommand {
    #[command(subcommand)]
    from: Option<From>,
    #[command(flatten)]
    guest: LiveGuest,
    /// Record file to append to
    #[arg(long, value_name = "FILE", required = true)]
    out: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum From {
    /// Appraise a bare TDX quote and record that
    Quote {
        #[command(flatten)]
        files: QuoteFiles,
        #[command(flatten)]
        appraising: Appraising,
        #[command(flatten)]
        cross_check: CrossCheck,
        /// Record file to append to
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Appraise a bare SEV-SNP report and record that
    Snp {
        #[command(flatten)]
        files: snp::Files,
        #[command(flatten)]
        appraising: Appraising,
        /// Record file to append to
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Appraise NVIDIA GPUs and switches by themselves and record that
    #[command(
        override_usage = "confide record gpu [OPTIONS] --at TIME (--evidence FILE... | --report FILE --chain FILE --nonce HEX) \
                          --out FILE"
    )]
    Gpu {
        #[command(flatten)]
        files: gpu::Files,
        #[command(flatten)]
        appraising: Appraising,
        /// Record file to append to
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
}

impl RecordCommand {
    pub(crate) fn run(self) -> Result<Status, Failure> {
        match self.from {
            None => self.guest.run(self.out),
            Some(From::Quote { files, appraising, cross_check, out }) => {
                record_quote(&files, &appraising, cross_check, &out)
            }
            Some(From::Snp { files, appraising, out }) => snp::record(&files, &appraising, &out),
            Some(From::Gpu { files, appraising, out }) => gpu::record(&files, &appraising, &out),
        }
    }
}

fn quote_of(subject: &Subject) -> &[u8] {
    match subject {
        Subject::Quote(quote) | Subject::QuoteWithLog { quote, .. } => quote.as_bytes(),
        Subject::Document(_) | Subject::SnpReport(_) | Subject::Devices { .. } => &[],
    }
}

fn record_quote(
    files: &QuoteFiles,
    appraising: &Appraising,
    cross_check: CrossCheck,
    out: &Path,
) -> Result<Status, Failure> {
    let policy = appraising.policy.load(Otherwise::Inspect, appraising.at)?;
    let subject = files.subject()?;
    let tdx = files
        .collateral()?
        .map_err(|error| Failure::new(Status::Malformed, "collateral_file", error.to_string()))?;
    let second_opinion = cross_check.on_quote(quote_of(&subject), &tdx, &policy.policy, appraising.at);
    let endorsements = Endorsements { tdx: Some(tdx), ..Endorsements::default() };
    let inputs = Inputs {
        subject: confide_record::borrowed(&subject),
        endorsements: &endorsements,
        prepared: None,
        prepared_devices: None,
        memo: None,
        second_opinion: second_opinion.as_ref(),
        references: policy.prepared(),
        policy: &policy.policy,
        challenge: None,
        now: appraising.at,
        algorithms: &ALGORITHMS,
    };
    let result = evaluate(&inputs).unwrap_or_else(|rejection| *rejection.result);
    let recording = Recording {
        subject,
        endorsements,
        policy: &policy.text,
        challenge: None,
        time: appraising.at,
        references: policy.recorded(),
        second_opinion,
    };
    append(recording, &result, out)?;
    render::verdict(&result, appraising.shown.form());
    Ok(Status::from(&result))
}

/// How long is waited for another program that appends to the file: that takes milliseconds. A program that records in a
/// folder has its files until it ends.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often it is looked whether the file is free.
const LOOK: Duration = Duration::from_millis(5);

/// Appends a recording to a file, after the chain of what it already holds has been checked. The file is locked
/// meanwhile: another process that appends to it would break the chain. A new file is its user's alone (mode 0600).
pub(crate) fn append(
    recording: Recording<'_>,
    result: &AttestationResult,
    out: &Path,
) -> Result<(), Failure> {
    let mut file = locked(out)?;
    let Held { last, length } = held(out)?;
    let mut entry = Vec::new();
    let written = confide_record::append(&mut entry, &recording.record(result, last.as_ref()));
    written.map_err(|error| replay::fault(out, error))?;
    let whole = length.saturating_add(entry.len());
    if whole > MAX_FILE {
        // Nobody could read any of it any more.
        return Err(replay::fault(out, RecordError::TooLarge(whole)));
    }
    file.write_all(&entry).and_then(|()| file.sync_all()).map_err(|error| unwritable(out, &error))
}

/// Whether recordings can be appended to a file, which is made where it is missing.
///
/// # Errors
/// Of [`append`], before there is anything to append.
pub(crate) fn check(out: &Path) -> Result<(), Failure> {
    let _file = locked(out)?;
    held(out).map(drop)
}

/// Opens a file to append to it, and locks it.
fn locked(out: &Path) -> Result<File, Failure> {
    let opened = OpenOptions::new().create(true).append(true).mode(0o600).open(out);
    let file = opened.map_err(|error| unwritable(out, &error))?;
    let begun = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if begun.elapsed() < PATIENCE => std::thread::sleep(LOOK),
            Err(TryLockError::WouldBlock) => {
                let message = format!("{}: another program records to it", out.display());
                return Err(Failure::new(Status::Internal, "record_folder_in_use", message));
            }
            Err(TryLockError::Error(error)) => return Err(unwritable(out, &error)),
        }
    }
}

fn unwritable(out: &Path, error: &io::Error) -> Failure {
    Failure::new(Status::Internal, "file_unwritable", format!("{}: {error}", out.display()))
}

/// What a file holds.
struct Held {
    last: Option<Record>,
    /// In bytes.
    length: usize,
}

fn held(out: &Path) -> Result<Held, Failure> {
    let bytes = input::read(out, MAX_FILE)?;
    if bytes.is_empty() {
        return Ok(Held { last: None, length: 0 });
    }
    let records = confide_record::read(&bytes).map_err(|error| replay::fault(out, error));
    Ok(Held { last: records?.pop(), length: bytes.len() })
}
