//! `confide verify snp` and `confide record snp`: a bare SEV-SNP report from a file.

use crate::amd::Fetching;
use crate::cli::Appraising;
use crate::input::{self, ALGORITHMS, LoadedPolicy, Otherwise};
use crate::status::{Failure, Status};
use crate::{record, verify};
use confide_evidence::bytes::ByteString;
use confide_evidence::document::{Endorsements, SnpEndorsements};
use confide_evidence::record as records;
use confide_evidence::snp::{self, FileError, MAX_FILE, REPORT};
use confide_record::Recording;
use confide_verifier::{AttestationResult, Inputs, Rule, Subject, malformed_file, rules};
use rustls_pki_types::UnixTime;
use std::path::{Path, PathBuf};

/// A report and the endorsements of the key that signs it.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Files {
    /// The attestation report, binary, 1184 bytes
    #[arg(long, value_name = "FILE")]
    report: PathBuf,
    /// Certificates of the signing key (VCEK or VLEK) and of its issuer (ASK or ASVK), PEM or DER, one or several in a
    /// file; AMD's root certificate (ARK) may be left away. Without any, those of a VCEK are fetched, and the list
    #[arg(long = "cert", value_name = "FILE", num_args = 1.., conflicts_with_all = ["kds", "product"])]
    certificates: Vec<PathBuf>,
    /// Revocation lists, DER or PEM
    #[arg(long = "crl", value_name = "FILE", num_args = 1.., requires = "certificates")]
    lists: Vec<PathBuf>,
    #[command(flatten)]
    fetching: Fetching,
}

/// Appraise a bare SEV-SNP attestation report (versions 2 to 5) against the certificates of its signing key
///
/// The certificates come from the files, else from the cache, else from AMD's service; with them comes the revocation list.
///
/// The chain must end in AMD's root key (ARK) of the product. Without a policy, the built-in policies/inspect.toml is used:
/// it refuses debug guests and waives everything for which it has no reference values; a revocation list may be missing.
#[derive(Debug, clap::Args)]
pub(crate) struct Snp {
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    appraising: Appraising,
}

/// Files as read.
struct Read {
    report: Vec<u8>,
    endorsements: Endorsements,
}

/// A file that holds no certificates or lists: the rule that it breaks, and how.
pub(crate) struct Malformed {
    pub(crate) rule: &'static Rule,
    pub(crate) error: String,
}

impl Files {
    /// Reads the files, or fetches what none gives, valid at `at`. The outer error is a fault of that, the inner one a
    /// malformed file.
    fn read(&self, at: UnixTime) -> Result<Result<Read, Malformed>, Failure> {
        let report = input::read(&self.report, REPORT)?;
        if self.certificates.is_empty() {
            let snp = self.fetching.endorsements(&report, &self.report, at)?;
            return Ok(Ok(Read { report, endorsements: Endorsements { snp, ..Endorsements::default() } }));
        }
        let all = |paths: &[PathBuf]| {
            let named = |path: &PathBuf| Ok((path.display().to_string(), input::read(path, MAX_FILE)?));
            paths.iter().map(named).collect::<Result<Vec<_>, Failure>>()
        };
        let (certificates, lists) = (all(&self.certificates)?, all(&self.lists)?);
        Ok(endorsements(&certificates, &lists).map(|snp| Read {
            report,
            endorsements: Endorsements { snp: Some(snp), ..Endorsements::default() },
        }))
    }
}

/// A file: its name and its bytes.
type Named = (String, Vec<u8>);

/// The DER of each element of a file.
type Split = fn(&[u8]) -> Result<Vec<Vec<u8>>, FileError>;

/// The endorsements in these files of certificates and of revocation lists.
pub(crate) fn endorsements(certificates: &[Named], lists: &[Named]) -> Result<SnpEndorsements, Malformed> {
    Ok(SnpEndorsements {
        certificates: elements(certificates, snp::certificates, &rules::SNP_CERTIFICATE_FILE)?,
        crls: elements(lists, snp::revocation_lists, &rules::SNP_CRL_FILE)?,
    })
}

fn elements(files: &[Named], split: Split, rule: &'static Rule) -> Result<Vec<ByteString>, Malformed> {
    let mut found = Vec::new();
    for (name, file) in files {
        let told = |error| Malformed { rule, error: format!("{name}: {error}") };
        found.extend(split(file).map_err(told)?.into_iter().map(ByteString));
    }
    Ok(found)
}

impl Snp {
    pub(crate) fn run(self) -> Result<Status, Failure> {
        let Self { files, appraising } = self;
        let policy = verify::policy(&appraising, Otherwise::Inspect)?;
        let result = match files.read(appraising.at)? {
            Ok(Read { report, endorsements }) => appraise(&report, &endorsements, &policy, appraising.at),
            Err(Malformed { rule, error }) => malformed_file(rule, error, &policy.policy, appraising.at),
        };
        Ok(verify::show(&result, &appraising))
    }
}

/// Appraises a bare report and appends the record of that to a file.
pub(crate) fn record(files: &Files, appraising: &Appraising, out: &Path) -> Result<Status, Failure> {
    let policy = appraising.policy.load(Otherwise::Inspect, appraising.at)?;
    let Read { report, endorsements } = files
        .read(appraising.at)?
        .map_err(|Malformed { rule, error }| Failure::new(Status::Malformed, rule.code, error))?;
    let result = appraise(&report, &endorsements, &policy, appraising.at);
    let recording = Recording {
        subject: records::Subject::SnpReport(ByteString(report)),
        endorsements,
        policy: &policy.text,
        challenge: None,
        time: appraising.at,
        references: policy.recorded(),
        second_opinion: None,
    };
    record::append(recording, &result, out)?;
    Ok(verify::show(&result, appraising))
}

fn appraise(
    report: &[u8],
    endorsements: &Endorsements,
    policy: &LoadedPolicy,
    now: UnixTime,
) -> AttestationResult {
    verify::evaluated(&Inputs {
        subject: Subject::SnpReport(report),
        endorsements,
        prepared: None,
        prepared_devices: None,
        memo: None,
        second_opinion: None,
        references: policy.prepared(),
        policy: &policy.policy,
        challenge: None,
        now,
        algorithms: &ALGORITHMS,
    })
}
