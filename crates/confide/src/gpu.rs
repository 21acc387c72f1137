//! `confide verify gpu` and `confide record gpu`: NVIDIA devices from files, without a CPU.

use crate::cli::Appraising;
use crate::input::{self, ALGORITHMS, LoadedPolicy, Otherwise};
use crate::status::{Failure, Status};
use crate::{record, render, verify};
use confide_evidence::bytes::ByteString;
use confide_evidence::document::{
    DeviceEvidence, DeviceKind, Endorsements, MAX_DEVICE_CRLS, MAX_DEVICES, MAX_LIST, MAX_OCSP_ANSWERS,
    MAX_RIMS, NvidiaEndorsements,
};
use confide_evidence::nvidia::{
    FileError, ItemError, ListError, ListedDevice, MAX_DECODED, MAX_EVIDENCE_LIST, MAX_JWKS, MAX_NRAS_ANSWER,
    MAX_REPORT, MAX_RIM, decoded, decoded_rim, device_of, evidence_list,
};
use confide_evidence::ocsp::MAX_OCSP;
use confide_evidence::pem::MAX_PEM;
use confide_evidence::record::{self as records, NrasOpinion};
use confide_record::Recording;
use confide_verifier::{AttestationResult, Inputs, Outcome, Subject, malformed_file, rules};
use rustls_pki_types::UnixTime;
use std::path::{Path, PathBuf};

/// The largest file of a report in hexadecimal digits with line ends, in bytes.
const REPORT_FILE: usize = 3 * MAX_REPORT;
/// The largest file of a chain whose PEM stands in hexadecimal digits with line ends, in bytes.
const CHAIN_FILE: usize = 3 * MAX_PEM;
/// The largest file of a manifest in hexadecimal digits with line ends, in bytes.
pub(crate) const RIM_FILE: usize = 3 * MAX_RIM;
/// The largest file of an OCSP answer in hexadecimal digits with line ends, in bytes.
pub(crate) const OCSP_FILE: usize = 3 * MAX_OCSP;
/// The largest file of a revocation list, in bytes.
pub(crate) const CRL_FILE: usize = MAX_DECODED;

/// Devices and what endorses them.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Files {
    /// Evidence lists as NVIDIA's tools write them, JSON [{arch, nonce, evidence, certificate}]; of several files the devices
    /// are taken together, GPUs before switches, at most 32
    #[arg(long, value_name = "FILE", num_args = 1.., required_unless_present = "report", conflicts_with = "report")]
    evidence: Vec<PathBuf>,
    /// Attestation report of one device (SPDM): binary, hexadecimal digits or base64
    #[arg(long, value_name = "FILE", requires_all = ["chain", "nonce"])]
    report: Option<PathBuf>,
    /// The five certificates of the device that has signed the report, leaf first: PEM or DER
    #[arg(long, value_name = "FILE", requires = "report")]
    chain: Option<PathBuf>,
    /// Reference integrity manifests of driver, VBIOS and switch firmware, one in a file: XML, hexadecimal digits, base64 or PEM
    #[arg(long = "rim", value_name = "FILE", num_args = 1..)]
    manifests: Vec<PathBuf>,
    /// OCSP answers, one in a file: DER, hexadecimal digits, base64 or PEM
    #[arg(long = "ocsp", value_name = "FILE", num_args = 1..)]
    answers: Vec<PathBuf>,
    /// Revocation lists, one in a file: DER, hexadecimal digits, base64 or PEM
    #[arg(long = "crl", value_name = "FILE", num_args = 1..)]
    lists: Vec<PathBuf>,
    /// The nonce that every device was asked with, 32 bytes in hexadecimal digits; needed with --report. Without it, the evidence
    /// lists' own nonces are taken, and the verdict does not show that the evidence is fresh
    #[arg(long, value_name = "HEX", value_parser = input::bytes32)]
    nonce: Option<[u8; 32]>,
    /// Another time for manifests and the revocation of their signers, RFC 3339: for recorded sets whose endorsements were
    /// taken at another time
    #[arg(long, value_name = "TIME", value_parser = input::time)]
    rim_at: Option<UnixTime>,
    /// Answers of NVIDIA's remote attestation service (NRAS) about these devices, JSON [["JWT", token], {"GPU-0": token}], at
    /// most 32: a second opinion, which must be about each device and agree
    #[arg(long, value_name = "FILE", num_args = 1.., requires = "jwks")]
    nras: Vec<PathBuf>,
    /// The key set (JWKS) that the service published when it answered
    #[arg(long, value_name = "FILE", requires = "nras")]
    jwks: Option<PathBuf>,
}

/// Appraise NVIDIA GPUs and switches by themselves against their manifests and the revocation of their certificates
///
/// Chains must end in NVIDIA's device root, manifests in its manifest root. Nothing is fetched: a manifest or an answer that
/// is not given counts as missing.
///
/// The verdict shows neither which machine the devices sit in nor that a guest uses them: evidence documents do.
///
/// Without a policy, the built-in policies/inspect.toml is used: it needs manifests and revocation and accepts any number,
/// mode and version of devices.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "confide verify gpu [OPTIONS] --at TIME (--evidence FILE... | --report FILE --chain FILE --nonce HEX)"
)]
pub(crate) struct Gpu {
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    appraising: Appraising,
}

/// Devices and the nonce that each must have been asked with.
struct Devices {
    devices: Vec<DeviceEvidence>,
    nonces: Vec<[u8; 32]>,
}

/// Files as read.
struct Read {
    devices: Devices,
    endorsements: Endorsements,
    rim_at: Option<UnixTime>,
    nras: Option<NrasOpinion>,
}

/// Files that hold no devices: why, and whether they are of another format or broken.
struct NoDevices {
    error: String,
    outcome: Outcome,
}

impl NoDevices {
    fn malformed(error: String) -> Self {
        Self { error, outcome: Outcome::Malformed }
    }

    fn result(self, policy: &LoadedPolicy, now: UnixTime) -> AttestationResult {
        let Self { error, outcome } = self;
        let result = malformed_file(&rules::GPU_EVIDENCE_FILE, error, &policy.policy, now);
        AttestationResult { outcome, ..result }
    }

    fn failure(self) -> Failure {
        let status = match self.outcome {
            Outcome::Unsupported => Status::Unsupported,
            _ => Status::Malformed,
        };
        Failure::new(status, rules::GPU_EVIDENCE_FILE.code, self.error)
    }
}

impl Files {
    /// Reads the files. The outer error is a fault of that, the inner one says why files hold no devices.
    fn read(&self) -> Result<Result<Read, NoDevices>, Failure> {
        let Self { evidence, manifests, answers, lists, rim_at, .. } = self;
        for (flag, files, limit) in [
            ("--evidence", evidence, MAX_LIST),
            ("--rim", manifests, MAX_RIMS),
            ("--ocsp", answers, MAX_OCSP_ANSWERS),
            ("--crl", lists, MAX_DEVICE_CRLS),
            ("--nras", &self.nras, MAX_DEVICES),
        ] {
            at_most(limit, flag, files)?;
        }
        let devices = match self.devices()? {
            Ok(devices) => devices,
            Err(error) => return Ok(Err(error)),
        };
        let all = |paths: &[PathBuf], limit| {
            paths.iter().map(|path| input::read(path, limit)).collect::<Result<Vec<_>, Failure>>()
        };
        let nvidia = endorsements(all(manifests, RIM_FILE)?, all(answers, OCSP_FILE)?, all(lists, CRL_FILE)?);
        let endorsements = Endorsements { nvidia, ..Endorsements::default() };
        Ok(Ok(Read { devices, endorsements, rim_at: *rim_at, nras: self.nras()? }))
    }

    /// What NVIDIA's attestation service says, where it was asked. The verifier says what is wrong with a file.
    fn nras(&self) -> Result<Option<NrasOpinion>, Failure> {
        let Some(jwks) = &self.jwks else { return Ok(None) };
        let answer = |path: &PathBuf| input::read(path, MAX_NRAS_ANSWER).map(ByteString);
        Ok(Some(NrasOpinion {
            jwks: ByteString(input::read(jwks, MAX_JWKS)?),
            answers: self.nras.iter().map(answer).collect::<Result<_, _>>()?,
        }))
    }

    fn devices(&self) -> Result<Result<Devices, NoDevices>, Failure> {
        match (&self.report, &self.chain, self.nonce) {
            (Some(report), Some(chain), Some(nonce)) => single(report, chain, nonce),
            _ => self.listed(),
        }
    }

    /// The devices of the lists, GPUs first, as evidence documents and NVIDIA's tools have them.
    fn listed(&self) -> Result<Result<Devices, NoDevices>, Failure> {
        let mut all: Vec<ListedDevice> = Vec::new();
        for path in &self.evidence {
            match evidence_list(&input::read(path, MAX_EVIDENCE_LIST)?) {
                Ok(list) => all.extend(list),
                Err(error) => return Ok(Err(of_list(path, &error))),
            }
            if all.len() > MAX_DEVICES {
                let error = format!("{} devices, at most {MAX_DEVICES} are accepted", all.len());
                return Ok(Err(NoDevices::malformed(error)));
            }
        }
        all.sort_by_key(|listed| listed.device.kind != DeviceKind::NvidiaGpu);
        let nonces = all.iter().map(|listed| self.nonce.unwrap_or(listed.nonce)).collect();
        Ok(Ok(Devices { devices: all.into_iter().map(|listed| listed.device).collect(), nonces }))
    }

    /// Says what a verdict over these files does not show.
    fn note(&self) {
        if self.nonce.is_none() {
            render::note(
                "without --nonce each device is held against the nonce of its own list: the verdict does not show that \
                 the evidence is fresh, nor who asked for it",
            );
        }
    }
}

fn of_list(path: &Path, error: &ListError) -> NoDevices {
    let outcome = match error {
        ListError::Item { source: ItemError::Version(_) | ItemError::Architecture(_), .. } => {
            Outcome::Unsupported
        }
        _ => Outcome::Malformed,
    };
    NoDevices { error: format!("{}: {error}", path.display()), outcome }
}

/// A kind of files of which more than `limit` are given is wrong usage.
fn at_most(limit: usize, flag: &str, files: &[PathBuf]) -> Result<(), Failure> {
    if files.len() <= limit {
        return Ok(());
    }
    let message = format!("{flag}: {} files, at most {limit} are accepted", files.len());
    Err(Failure::new(Status::Usage, "too_many_files", message))
}

/// One device out of two files.
fn single(report: &Path, chain: &Path, nonce: [u8; 32]) -> Result<Result<Devices, NoDevices>, Failure> {
    let files = [(report, REPORT_FILE), (chain, CHAIN_FILE)];
    let [report_bytes, chain_bytes] = files.map(|(path, limit)| input::read(path, limit));
    let (report_bytes, chain_bytes) = (report_bytes?, chain_bytes?);
    for ((path, limit), bytes) in files.iter().zip([&report_bytes, &chain_bytes]) {
        if bytes.len() > *limit {
            let error = format!("{}: at most {limit} bytes are accepted", path.display());
            return Ok(Err(NoDevices::malformed(error)));
        }
    }
    Ok(match device_of(&report_bytes, &chain_bytes) {
        Ok(device) => Ok(Devices { devices: vec![device], nonces: vec![nonce] }),
        Err(error) => {
            let outcome = match &error {
                FileError::Report(error) if error.is_unsupported() => Outcome::Unsupported,
                _ => Outcome::Malformed,
            };
            let error = format!("{} and {}: {error}", report.display(), chain.display());
            Err(NoDevices { error, outcome })
        }
    })
}

/// NVIDIA's endorsements out of these files; nothing where there are none.
pub(crate) fn endorsements(
    manifests: Vec<Vec<u8>>,
    answers: Vec<Vec<u8>>,
    lists: Vec<Vec<u8>>,
) -> Option<NvidiaEndorsements> {
    if manifests.is_empty() && answers.is_empty() && lists.is_empty() {
        return None;
    }
    Some(NvidiaEndorsements {
        crls: lists.into_iter().map(|file| content(file, CRL_FILE, decoded)).collect(),
        ocsp: answers.into_iter().map(|file| content(file, OCSP_FILE, decoded)).collect(),
        rims: manifests.into_iter().map(|file| content(file, RIM_FILE, decoded_rim)).collect(),
    })
}

/// The content of a file; the file itself where it is too large or nothing is recognised: the verifier says why.
fn content(file: Vec<u8>, limit: usize, decoded: impl Fn(&[u8]) -> Result<Vec<u8>, FileError>) -> ByteString {
    let content = if file.len() > limit { None } else { decoded(&file).ok() };
    ByteString(content.unwrap_or(file))
}

impl Gpu {
    pub(crate) fn run(self) -> Result<Status, Failure> {
        let Self { files, appraising } = self;
        let policy = verify::policy(&appraising, Otherwise::Inspect)?;
        let result = match files.read()? {
            Ok(read) => appraise(&read, &policy, appraising.at),
            Err(no_devices) => no_devices.result(&policy, appraising.at),
        };
        files.note();
        Ok(verify::show(&result, &appraising))
    }
}

/// Appraises devices and appends the record of that to a file.
pub(crate) fn record(files: &Files, appraising: &Appraising, out: &Path) -> Result<Status, Failure> {
    let policy = appraising.policy.load(Otherwise::Inspect, appraising.at)?;
    let read = files.read()?.map_err(NoDevices::failure)?;
    let result = appraise(&read, &policy, appraising.at);
    let Read { devices: Devices { devices, nonces }, endorsements, rim_at, nras } = read;
    let rim_time = rim_at.map(|time| time.as_secs());
    let recording = Recording {
        subject: records::Subject::Devices { nonces, devices, rim_time, nras },
        endorsements,
        policy: &policy.text,
        challenge: None,
        time: appraising.at,
        references: policy.recorded(),
        second_opinion: None,
    };
    record::append(recording, &result, out)?;
    files.note();
    Ok(verify::show(&result, appraising))
}

fn appraise(read: &Read, policy: &LoadedPolicy, now: UnixTime) -> AttestationResult {
    let Devices { devices, nonces } = &read.devices;
    verify::evaluated(&Inputs {
        subject: Subject::Devices { devices, nonces, rim_at: read.rim_at, nras: read.nras.as_ref() },
        endorsements: &read.endorsements,
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
