//! `confide record`: a whole appraisal in a file.

use crate::cli::Appraising;
use crate::cross_check::CrossCheck;
use crate::input::{ALGORITHMS, Otherwise, QuoteFiles};
use crate::live::LiveGuest;
use crate::log::LogFlags;
use crate::status::{Failure, Status};
use crate::{gpu, recorder, render, replay, snp};
use clap::Subcommand;
use confide_evidence::document::Endorsements;
use confide_evidence::record::Subject;
use confide_record::{FileEnd, MAX_FILE, RecordError, Recording};
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
    /// Record file to append to, of at most 256 MiB
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
        /// Record file to append to, of at most 256 MiB
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Appraise a bare SEV-SNP report and record that
    Snp {
        #[command(flatten)]
        files: snp::Files,
        #[command(flatten)]
        appraising: Appraising,
        /// Record file to append to, of at most 256 MiB
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
        /// Record file to append to, of at most 256 MiB
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
}

impl RecordCommand {
    /// What is logged.
    pub(crate) fn log(&self) -> &LogFlags {
        &self.guest.log
    }

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
    render::while_working(&recorder::reading(out), || append_within(MAX_FILE, recording, result, out))
}

/// The same, to a file that may have so many bytes.
fn append_within(
    most: usize,
    recording: Recording<'_>,
    result: &AttestationResult,
    out: &Path,
) -> Result<(), Failure> {
    let mut file = locked(out)?;
    let FileEnd { last, length, .. } = end(&file, out, most)?;
    let mut record = recording.record(result, None);
    record.prev = last;
    let mut entry = Vec::new();
    confide_record::append(&mut entry, &record).map_err(|error| replay::fault(out, error))?;
    let whole = usize::try_from(length).unwrap_or(usize::MAX).saturating_add(entry.len());
    if whole > most {
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
    end(&locked(out)?, out, MAX_FILE).map(drop)
}

/// Opens a file to append to it, and locks it.
fn locked(out: &Path) -> Result<File, Failure> {
    let opened = OpenOptions::new().create(true).read(true).append(true).mode(0o600).open(out);
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

/// Where a file ends. A part of a record there is moved into a file beside it, which the person is told.
fn end(file: &File, out: &Path, most: usize) -> Result<FileEnd, Failure> {
    let length = file.metadata().map_err(|error| unwritable(out, &error))?.len();
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length > most {
        return Err(replay::fault(out, RecordError::TooLarge(length)));
    }
    let end = confide_record::resume_file(file, out).map_err(|error| replay::fault(out, error))?;
    end.set_aside.iter().for_each(recorder::tell);
    Ok(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use confide_policy::{AppraisalPolicy, INSPECT};
    use rustls_pki_types::UnixTime;

    /// A record of bytes that are no quote.
    fn appended(out: &Path, most: usize) -> Result<(), Failure> {
        let (subject, endorsements) = (Subject::Quote(vec![7; 100].into()), Endorsements::default());
        let (policy, time) = (AppraisalPolicy::inspect(), UnixTime::since_unix_epoch(Duration::from_secs(1)));
        let inputs = Inputs {
            subject: confide_record::borrowed(&subject),
            endorsements: &endorsements,
            prepared: None,
            prepared_devices: None,
            memo: None,
            second_opinion: None,
            references: None,
            policy: &policy,
            challenge: None,
            now: time,
            algorithms: &ALGORITHMS,
        };
        let result = evaluate(&inputs).unwrap_or_else(|rejection| *rejection.result);
        let recording = Recording {
            subject: subject.clone(),
            endorsements: endorsements.clone(),
            policy: INSPECT,
            challenge: None,
            time,
            references: None,
            second_opinion: None,
        };
        append_within(most, recording, &result, out)
    }

    #[test]
    fn no_record_is_appended_beyond_what_is_read_of_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("records.cbor");
        appended(&out, MAX_FILE).unwrap();
        let one = std::fs::read(&out).unwrap();
        let most = 2 * one.len();
        appended(&out, most).unwrap();
        let two = std::fs::read(&out).unwrap();
        assert_eq!(two.len(), most, "as much as may be");
        for (most, length) in [(most, most + one.len()), (most - 1, most)] {
            let failure = appended(&out, most).unwrap_err();
            assert_eq!((failure.status(), failure.code()), (Status::Malformed, "record_malformed"));
            let told = format!(
                "{}: a record file of {length} bytes, at most {MAX_FILE} are accepted",
                out.display()
            );
            assert_eq!(failure.message(), told);
            assert!(failure.what_to_do().unwrap().starts_with("begin a new file"));
        }
        assert_eq!(std::fs::read(&out).unwrap(), two, "the file is left as it was");
        assert_eq!(confide_record::read(&two).unwrap().len(), 2);
    }

    #[test]
    fn a_part_of_a_record_is_moved_aside_wherever_the_append_was_broken_off() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("records.cbor");
        for _ in 0..2 {
            appended(&out, MAX_FILE).unwrap();
        }
        let whole = std::fs::read(&out).unwrap();
        let one = whole.len() / 2;
        for cut in (1..whole.len()).step_by(97).chain([one - 1, one + 1, whole.len() - 1]) {
            std::fs::write(&out, &whole[..cut]).unwrap();
            appended(&out, MAX_FILE).unwrap();
            let before = if cut < one { 0 } else { one };
            assert_eq!(confide_record::read(&std::fs::read(&out).unwrap()).unwrap().len(), 1 + before / one);
            let others = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
            let aside: Vec<PathBuf> = others.filter(|path| *path != out).collect();
            assert_eq!(aside.len(), usize::from(cut != before), "cut at {cut}: {aside:?}");
            for path in aside {
                assert!(path.to_str().unwrap().contains("/records.cbor.torn-"), "{}", path.display());
                assert_eq!(std::fs::read(&path).unwrap(), whole[before..cut], "nothing is deleted");
                std::fs::remove_file(path).unwrap();
            }
        }
    }
}
