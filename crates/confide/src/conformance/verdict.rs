//! The verdict on a case, as JSON.

use super::case::{
    self, Blob, Builtin, Case, Challenge, Device, DeviceKind, Document, Evidence, Nras, NvidiaDevices,
    Object, Policy, SnpReport, TdxQuote,
};
use super::files::Files;
use crate::gpu;
use crate::input::{self, ALGORITHMS, DangerPolicies};
use crate::snp::{self, Malformed};
use crate::status::Failure;
use confide_evidence::boot_log::MAX_BOOT_LOG;
use confide_evidence::bytes::ByteString;
use confide_evidence::document::{
    DeviceEvidence, DeviceKind as Kind, Endorsements, MAX_DEVICE_CRLS, MAX_DEVICES, MAX_DOCUMENT,
    MAX_OCSP_ANSWERS, MAX_RIMS, NvidiaEndorsements, SnpEndorsements, TdxCollateral,
};
use confide_evidence::nvidia::{MAX_JWKS, MAX_NRAS_ANSWER};
use confide_evidence::record::{NrasOpinion, RecordedChallenge, RecordedReferences};
use confide_evidence::snp::{MAX_FILE, REPORT};
use confide_evidence::tdx::{CollateralError, MAX_COLLATERAL, MAX_QUOTE, collateral_from_json};
use confide_evidence::time::parse_rfc3339;
use confide_policy::{AppraisalPolicy, MAX_REFERENCE_FILE};
use confide_verifier::{
    AttestationResult, Inputs, PreparedReferences, Subject, evaluate, malformed_collateral, malformed_file,
};
use rustls_pki_types::UnixTime;
use serde_json::Value;

/// The most bytes of a detached signature that are read. Those of Ed25519 have 64, ECDSA ones in DER at most 72.
const MAX_SIGNATURE: usize = 1024;

/// Appraises a case.
///
/// # Errors
/// What keeps the appraisal from beginning: a file, policy or time that cannot be read, an unknown kind.
pub(super) fn of(
    case: &Case<'_>,
    evidence: &Evidence,
    files: &Files,
    danger: DangerPolicies,
) -> Result<Value, Failure> {
    let now = time(&case.time)?;
    let policy = &policy(&case.policy, files, danger)?;
    let references = references(case, files)?;
    let references = references.map(|given| PreparedReferences::new(&given, policy, &ALGORITHMS));
    let verdict = |subject, challenge: Option<&RecordedChallenge>| {
        let tdx = match collateral(case, files)? {
            Ok(tdx) => tdx,
            Err(error) => return Ok(json(&malformed_collateral(&error, policy, now))),
        };
        let snp = match snp_endorsements(case, files)? {
            Ok(snp) => snp,
            Err(Malformed { rule, error }) => return Ok(json(&malformed_file(rule, error, policy, now))),
        };
        let endorsements = Endorsements { tdx, snp, nvidia: nvidia_endorsements(case, files)? };
        let inputs = Inputs {
            subject,
            endorsements: &endorsements,
            prepared: None,
            prepared_devices: None,
            memo: None,
            second_opinion: None,
            references: references.as_ref(),
            policy,
            challenge,
            now,
            algorithms: &ALGORITHMS,
        };
        let opinion = case.second_opinion.as_ref().map(|Object(opinion)| opinion.on(&inputs));
        let inputs = Inputs { second_opinion: opinion.as_ref(), ..inputs };
        Ok(json(&evaluate(&inputs).unwrap_or_else(|rejection| *rejection.result)))
    };
    match evidence {
        Evidence::TdxQuote(TdxQuote { quote, boot_log, .. }) => {
            let quote = files.bytes(quote, MAX_QUOTE)?;
            let boot_log = boot_log.as_ref().map(|log| files.bytes(log, MAX_BOOT_LOG)).transpose()?;
            match &boot_log {
                Some(boot_log) => verdict(Subject::QuoteWithLog { quote: &quote, boot_log }, None),
                None => verdict(Subject::Quote(&quote), None),
            }
        }
        Evidence::SnpReport(SnpReport { report, .. }) => {
            verdict(Subject::SnpReport(&files.bytes(report, REPORT)?), None)
        }
        Evidence::Document(Document { document, challenge, .. }) => {
            let document = files.bytes(document, MAX_DOCUMENT)?;
            let challenge = challenge.as_ref().map(|Object(challenge)| recorded(challenge));
            verdict(Subject::Document(&document), challenge.as_ref())
        }
        Evidence::NvidiaDevices(NvidiaDevices { devices, rim_time, nras, .. }) => {
            let rim_at = rim_time.as_deref().map(time).transpose()?;
            let nonces: Vec<_> = devices.iter().map(|Object(device)| device.nonce.0).collect();
            let devices = nvidia_devices(devices, files)?;
            let nras = nras.as_ref().map(|Object(nras)| nras_opinion(nras, files)).transpose()?;
            let nras = nras.as_ref();
            verdict(Subject::Devices { devices: &devices, nonces: &nonces, rim_at, nras }, None)
        }
        Evidence::Unknown => {
            Err(case::unsupported("a kind of evidence that this build does not know".to_owned()))
        }
    }
}

fn policy(policy: &Policy, files: &Files, danger: DangerPolicies) -> Result<AppraisalPolicy, Failure> {
    match policy {
        Policy::Builtin(Builtin::Inspect) => Ok(AppraisalPolicy::inspect()),
        Policy::Builtin(Builtin::Client) => Ok(AppraisalPolicy::client()),
        Policy::Text(text) => input::parse_case_policy(text, "the case's policy", danger),
        Policy::File(name) => {
            let bytes = input::read(&files.path(name)?, confide_policy::MAX_POLICY)?;
            let text = String::from_utf8(bytes);
            let text = text.map_err(|_| case::malformed(format!("{name}: not UTF-8 text")))?;
            input::parse_case_policy(&text, name, danger)
        }
    }
}

/// The inner error is a malformed collateral file, which is a verdict.
type Collateral = Result<Option<TdxCollateral>, CollateralError>;

fn collateral(case: &Case<'_>, files: &Files) -> Result<Collateral, Failure> {
    let read = |blob: &Option<Blob>| {
        let bytes = blob.as_ref().map(|blob| files.bytes(blob, MAX_COLLATERAL)).transpose()?;
        Ok::<_, Failure>(bytes.map(|bytes| collateral_from_json(&bytes)).transpose())
    };
    let endorsements = &case.endorsements;
    let (standard, early) = (read(&endorsements.tdx_collateral)?, read(&endorsements.tdx_early_collateral)?);
    Ok(standard.and_then(|standard| {
        let early = early?.map(TdxCollateral::into_early);
        Ok(standard.map(|standard| TdxCollateral { early, ..standard }))
    }))
}

/// The most files with certificates, and with lists, of one case. A report has at most 3 and 4 that differ, and our own suite
/// names 5.
const MAX_ENDORSEMENT_FILES: usize = 8;

/// The inner error is a malformed file, which is a verdict.
fn snp_endorsements(
    case: &Case<'_>,
    files: &Files,
) -> Result<Result<Option<SnpEndorsements>, Malformed>, Failure> {
    let endorsements = &case.endorsements;
    if endorsements.snp_certificates.is_none() && endorsements.snp_crls.is_none() {
        return Ok(Ok(None));
    }
    let read = |field: &str, blobs: &Option<Vec<Blob>>| {
        let blobs = blobs.iter().flatten().enumerate();
        let named = |(at, blob)| Ok((format!("{field} {at}"), files.bytes(blob, MAX_FILE)?));
        blobs.map(named).collect::<Result<Vec<_>, Failure>>()
    };
    for (what, blobs) in [("certificate", &endorsements.snp_certificates), ("list", &endorsements.snp_crls)] {
        let count = blobs.as_ref().map_or(0, Vec::len);
        if count > MAX_ENDORSEMENT_FILES {
            let message = format!("{count} {what} files, at most {MAX_ENDORSEMENT_FILES} are accepted");
            return Err(case::malformed(message));
        }
    }
    let certificates = read("certificate file", &endorsements.snp_certificates)?;
    let lists = read("list file", &endorsements.snp_crls)?;
    Ok(snp::endorsements(&certificates, &lists).map(Some))
}

fn references(case: &Case<'_>, files: &Files) -> Result<Option<RecordedReferences>, Failure> {
    let Some(Object(given)) = &case.references else { return Ok(None) };
    Ok(Some(RecordedReferences {
        file: ByteString(files.bytes(&given.file, MAX_REFERENCE_FILE)?),
        last_seen: given.last_seen.as_ref().map(|Object(seen)| seen.clone()),
        signature: ByteString(files.bytes(&given.signature, MAX_SIGNATURE)?),
    }))
}

fn recorded(challenge: &Challenge) -> RecordedChallenge {
    RecordedChallenge {
        role: challenge.role,
        spki: challenge.spki.clone(),
        nonce: challenge.nonce,
        exporter: challenge.exporter.clone(),
    }
}

fn json(result: &AttestationResult) -> Value {
    serde_json::to_value(result).expect("strings, lists and structs always serialise")
}

fn nvidia_devices(devices: &[Object<Device>], files: &Files) -> Result<Vec<DeviceEvidence>, Failure> {
    if devices.len() > MAX_DEVICES {
        let message = format!("{} devices, at most {MAX_DEVICES} are accepted", devices.len());
        return Err(case::malformed(message));
    }
    let evidence = |Object(device): &Object<Device>| {
        let kind = match device.kind {
            DeviceKind::NvidiaGpu => Kind::NvidiaGpu,
            DeviceKind::NvidiaSwitch => Kind::NvidiaSwitch,
        };
        let bytes = |blob| files.bytes(blob, MAX_DOCUMENT).map(ByteString);
        Ok(DeviceEvidence { kind, chain: bytes(&device.chain)?, report: bytes(&device.report)? })
    };
    devices.iter().map(evidence).collect()
}

fn nras_opinion(nras: &Nras, files: &Files) -> Result<NrasOpinion, Failure> {
    if nras.answers.len() > MAX_DEVICES {
        let message = format!("{} answers, at most {MAX_DEVICES} are accepted", nras.answers.len());
        return Err(case::malformed(message));
    }
    let answer = |blob| files.bytes(blob, MAX_NRAS_ANSWER).map(ByteString);
    Ok(NrasOpinion {
        jwks: ByteString(files.bytes(&nras.jwks, MAX_JWKS)?),
        answers: nras.answers.iter().map(answer).collect::<Result<_, _>>()?,
    })
}

/// What is given of NVIDIA; nothing where a case has none of it.
fn nvidia_endorsements(case: &Case<'_>, files: &Files) -> Result<Option<NvidiaEndorsements>, Failure> {
    let endorsements = &case.endorsements;
    let read = |what: &str, blobs: &[Blob], most: usize, limit| {
        if blobs.len() > most {
            let message = format!("{} {what}, at most {most} are accepted", blobs.len());
            return Err(case::malformed(message));
        }
        blobs.iter().map(|blob| files.bytes(blob, limit)).collect::<Result<Vec<_>, Failure>>()
    };
    let rims = read("manifests", &endorsements.nvidia_rims, MAX_RIMS, gpu::RIM_FILE)?;
    let ocsp = read("OCSP answers", &endorsements.nvidia_ocsp, MAX_OCSP_ANSWERS, gpu::OCSP_FILE)?;
    let crls = read("revocation lists", &endorsements.nvidia_crls, MAX_DEVICE_CRLS, gpu::CRL_FILE)?;
    Ok(gpu::endorsements(rims, ocsp, crls))
}

fn time(text: &str) -> Result<UnixTime, Failure> {
    parse_rfc3339(text).ok_or_else(|| case::malformed(format!("{text:?} is not an RFC 3339 time")))
}
