//! The appraisal: any bytes at all, and valid evidence with small changes, signed anew so that they are looked at.

use crate::edits::Edits;
use crate::guest::{ALGORITHMS, FOR_DOCUMENTS, FOR_QUOTES, GPU, NOW, PLATFORM, Parts, challenge, now};
use crate::snp::{HONEST, SIGNED as SIGNED_OF_REPORT};
use confide_evidence::boot_log::BootLog;
use confide_evidence::bytes::{ByteString, Bytes};
use confide_evidence::document::{
    EgressMode, Endorsements, EvidenceDocument, KeySet, SnpEndorsements, TdxCollateral, Volume,
};
use confide_evidence::event::{LoadedModel, RuntimeEvent};
use confide_evidence::record::RecordedChallenge;
use confide_evidence::snp;
use confide_evidence::tdx::collateral_from_json;
use confide_evidence::transcript::{BatchPath, Role};
use confide_policy::AppraisalPolicy;
use confide_simulator::{BootEvent, SimulatedBootLog, SimulatedTd, TdMeasurements};
use confide_verifier::{AttestationResult, Inputs, Outcome, Status, Subject, evaluate, rules};
use rustls_pki_types::UnixTime;
use std::sync::LazyLock;
use std::time::Duration;

/// The most bytes of a verdict: evidence cannot fill it.
const MAX_VERDICT: usize = 512 * 1024;

static COLLATERAL: LazyLock<TdxCollateral> = LazyLock::new(|| {
    collateral_from_json(PLATFORM.collateral_json().as_bytes()).expect("the simulator's collateral")
});

fn appraise(
    subject: Subject<'_>,
    tdx: Option<TdxCollateral>,
    policy: &AppraisalPolicy,
    challenge: Option<&RecordedChallenge>,
    now: UnixTime,
) -> AttestationResult {
    appraise_with(subject, &Endorsements { tdx, ..Endorsements::default() }, policy, challenge, now)
}

fn appraise_with(
    subject: Subject<'_>,
    endorsements: &Endorsements,
    policy: &AppraisalPolicy,
    challenge: Option<&RecordedChallenge>,
    now: UnixTime,
) -> AttestationResult {
    let inputs = Inputs {
        subject,
        endorsements,
        prepared: None,
        memo: None,
        second_opinion: None,
        references: None,
        policy,
        challenge,
        now,
        algorithms: &ALGORITHMS,
    };
    let result = evaluate(&inputs).unwrap_or_else(|rejection| *rejection.result);
    consistent(&result);
    result
}

/// A verdict's outcome, code and checks agree.
fn consistent(result: &AttestationResult) {
    let first = result.checks.iter().find(|check| check.status == Status::Fail).map(|check| check.code);
    assert_eq!(result.code, first);
    assert_eq!(result.accepted(), result.outcome == Outcome::Accepted);
    assert!(result.accepted() != result.code.is_some(), "{:?} with {:?}", result.outcome, result.code);
    assert_eq!(result.accepted(), result.valid_until.is_some());
    for check in &result.checks {
        assert!(rules::ALL.iter().any(|rule| rule.code == check.code), "{} is no rule", check.code);
    }
    let size = result.to_json().len();
    assert!(size < MAX_VERDICT, "a verdict of {size} bytes");
}

/// The verdict on a quote of no bytes.
pub(crate) fn refused() -> AttestationResult {
    appraise(Subject::Quote(&[]), None, &FOR_QUOTES, None, now())
}

/// Any bytes as quote and as document.
pub(crate) fn bytes(bytes: &[u8]) {
    let collateral = || Some(COLLATERAL.clone());
    let _ = appraise(Subject::Quote(bytes), collateral(), &FOR_QUOTES, None, now());
    let challenge = challenge();
    let _ = appraise(Subject::Document(bytes), collateral(), &FOR_DOCUMENTS, Some(&challenge), now());
}

/// The quote of an honest TD.
static QUOTE: LazyLock<Vec<u8>> = LazyLock::new(|| PLATFORM.quote(&SimulatedTd::default().report([7; 64])));

/// Length of what a quote of version 4 signs: header and body.
const SIGNED: usize = 48 + 584;

/// An honest quote with changes; every second time the signatures over header, body and QE report are made anew.
pub(crate) fn quote(bytes: &[u8]) {
    let mut edits = Edits::of(bytes);
    let mut quote = QUOTE.clone();
    let signed_anew = edits.byte() % 2 == 1;
    while !edits.is_over() {
        edits.change(&mut quote);
    }
    if signed_anew {
        quote = PLATFORM.resign(&quote);
    }
    let result = appraise(Subject::Quote(&quote), Some(COLLATERAL.clone()), &FOR_QUOTES, None, now());
    if result.accepted() && !signed_anew {
        assert_eq!(quote[..SIGNED], QUOTE[..SIGNED], "what nobody signed is not accepted");
    }
}

/// The quote of an honest TD beside its boot log, with changes of the log: of its bytes, or of its events before they are
/// measured, so that the registers are those of the changed log.
pub(crate) fn log(bytes: &[u8]) {
    let mut edits = Edits::of(bytes);
    let mut log = SimulatedBootLog::default();
    let measured = edits.byte();
    for _ in 0..measured {
        if edits.is_over() {
            break;
        }
        change_event(&mut log, &mut edits);
    }
    let td = SimulatedTd::new(TdMeasurements { rtmr: log.replay(), ..TdMeasurements::default() });
    let mut table = log.to_bytes();
    while !edits.is_over() {
        edits.change(&mut table);
    }
    let quote = PLATFORM.quote(&td.report([7; 64]));
    let subject = Subject::QuoteWithLog { quote: &quote, boot_log: &table };
    let result = appraise(subject, Some(COLLATERAL.clone()), &FOR_QUOTES, None, now());
    if result.accepted() {
        let parsed = BootLog::parse(&table).expect("an accepted log can be read");
        let registers = td.measurements().rtmr;
        assert_eq!(parsed.replay()[..3], registers[..3], "an accepted log replays to the registers");
    }
}

/// One change of what the firmware measures.
fn change_event(log: &mut SimulatedBootLog, edits: &mut Edits<'_>) {
    let at = edits.below(log.events.len());
    match edits.byte() % 8 {
        0 => {
            let event = BootEvent {
                register: edits.below(6) as u32,
                event_type: edits.below(16) as u32 | u32::from(edits.byte() & 1) << 31,
                digest: [edits.byte(); 48],
                data: edits.take(256).to_vec(),
            };
            log.events.insert(at, event);
        }
        1 if !log.events.is_empty() => drop(log.events.remove(at)),
        kind => {
            let Some(event) = log.events.get_mut(at) else { return };
            match kind {
                2 => event.register = edits.below(6) as u32,
                3 => event.event_type = edits.below(1 << 24) as u32 | u32::from(edits.byte() & 1) << 31,
                4 => event.digest = [edits.byte(); 48],
                5 => event.data.resize(edits.below(1 << 16), edits.byte()),
                _ => edits.change(&mut event.data),
            }
        }
    }
}

/// An honest SEV-SNP report with changes, also of its endorsements and of the time; every second time its signature is made
/// anew.
pub(crate) fn snp(bytes: &[u8]) {
    let mut edits = Edits::of(bytes);
    let mut report = HONEST.report.clone();
    let SnpEndorsements { mut certificates, mut crls } = HONEST.endorsements.clone();
    let mut time = NOW;
    let signed_anew = edits.byte() % 2 == 1;
    while !edits.is_over() {
        match edits.byte() % 12 {
            0..=5 => edits.change(&mut report),
            6 | 7 => {
                let at = edits.below(certificates.len());
                if let Some(certificate) = certificates.get_mut(at) {
                    edits.change(&mut certificate.0);
                }
            }
            8 => {
                let at = edits.below(certificates.len());
                let certificate = certificates.get(at).cloned();
                certificates.extend(certificate);
            }
            9 => {
                let at = edits.below(certificates.len());
                if at < certificates.len() {
                    certificates.remove(at);
                }
            }
            10 => {
                if let Some(list) = crls.first_mut() {
                    edits.change(&mut list.0);
                }
            }
            _ => time = NOW.wrapping_add((edits.below(1 << 24) as u64) << 6).wrapping_sub(1 << 29),
        }
    }
    if signed_anew && let Some(signed) = HONEST.signed_anew(&report) {
        report = signed;
    }
    let now = UnixTime::since_unix_epoch(Duration::from_secs(time));
    let endorsements = Endorsements {
        snp: Some(SnpEndorsements { certificates: certificates.clone(), crls: crls.clone() }),
        ..Endorsements::default()
    };
    let result = appraise_with(Subject::SnpReport(&report), &endorsements, &FOR_QUOTES, None, now);
    if result.accepted() {
        let honest = &HONEST.endorsements;
        let known = certificates.iter().all(|certificate| honest.certificates.contains(certificate));
        assert!(known && crls.iter().all(|list| honest.crls.contains(list)), "what nobody signed");
        let signed = report[..SIGNED_OF_REPORT] == HONEST.report[..SIGNED_OF_REPORT];
        assert!(signed || signed_anew, "what nobody signed is not accepted");
    }
}

/// Any bytes as the files of a report's endorsements: of lists beside the honest certificates, or of certificates.
pub(crate) fn snp_files(bytes: &[u8]) {
    let Some((kind, file)) = bytes.split_first() else { return };
    let mut given = HONEST.endorsements.clone();
    let (read, part) = if kind % 2 == 0 {
        (snp::revocation_lists(file), &mut given.crls)
    } else {
        (snp::certificates(file), &mut given.certificates)
    };
    let Ok(elements) = read else { return };
    *part = elements.into_iter().map(ByteString).collect();
    let endorsements = Endorsements { snp: Some(given), ..Endorsements::default() };
    let subject = Subject::SnpReport(&HONEST.report);
    let _ = appraise_with(subject, &endorsements, &FOR_QUOTES, None, now());
}

/// Honest collateral with changes, also of the time. The signatures of TCB info and QE identity may be made anew.
pub(crate) fn collateral(bytes: &[u8]) {
    let mut edits = Edits::of(bytes);
    let honest = PLATFORM.collateral();
    let mut collateral = honest.clone();
    let mut time = NOW;
    let signed_anew = edits.byte();
    while !edits.is_over() {
        match edits.byte() % 12 {
            0 => edits.change_text(&mut collateral.pck_crl_issuer_chain),
            1 => edits.change_text(&mut collateral.tcb_info_issuer_chain),
            2 => edits.change_text(&mut collateral.qe_identity_issuer_chain),
            3 => edits.change(&mut collateral.root_ca_crl),
            4 => edits.change(&mut collateral.pck_crl),
            5 => edits.change(&mut collateral.tcb_info_signature),
            6 => edits.change(&mut collateral.qe_identity_signature),
            7 | 8 => edits.change_text(&mut collateral.tcb_info),
            9 | 10 => edits.change_text(&mut collateral.qe_identity),
            _ => time = NOW.wrapping_add((edits.below(1 << 24) as u64) << 6).wrapping_sub(1 << 29),
        }
    }
    if signed_anew & 1 == 1 {
        collateral.sign_tcb_info(collateral.tcb_info.clone());
    }
    if signed_anew & 2 == 2 {
        collateral.sign_qe_identity(collateral.qe_identity.clone());
    }
    let Ok(changed) = collateral_from_json(collateral.to_json().as_bytes()) else { return };
    let now = UnixTime::since_unix_epoch(Duration::from_secs(time));
    let result = appraise(Subject::Quote(&QUOTE), Some(changed), &FOR_QUOTES, None, now);
    if result.accepted() && signed_anew & 3 == 0 {
        assert_eq!(collateral.tcb_info, honest.tcb_info, "what nobody signed is not accepted");
        assert_eq!(collateral.qe_identity, honest.qe_identity, "what nobody signed is not accepted");
    }
}

/// An honest document with changes before its TD quotes it, and changes after that.
pub(crate) fn document(bytes: &[u8]) {
    let mut edits = Edits::of(bytes);
    let mut parts = Parts::honest();
    let before = edits.byte() % 8;
    for _ in 0..before {
        change_parts(&mut parts, &mut edits);
    }
    let mut document = parts.document();
    let untouched = document.clone();
    let mut challenge = challenge();
    while !edits.is_over() {
        change_document(&mut document, &mut challenge, &mut edits);
    }
    let Ok(bytes) = document.encode() else { return };
    let result = appraise(Subject::Document(&bytes), None, &FOR_DOCUMENTS, Some(&challenge), now());
    if result.accepted() {
        assert_eq!(document.claims, untouched.claims, "a claim that no quote covers");
        assert_eq!(document.events, untouched.events, "an event that no quote covers");
        assert_eq!(document.devices, untouched.devices, "a device that no quote covers");
        assert_eq!(document.key_set, untouched.key_set, "a key that no quote covers");
        assert_eq!(document.boot_id, untouched.boot_id, "a boot id that no quote covers");
    }
}

/// One change of what the guest measures and claims.
fn change_parts(parts: &mut Parts, edits: &mut Edits<'_>) {
    let claims = &mut parts.claims;
    match edits.byte() % 16 {
        0 => edits.change_text(&mut claims.engine.kind),
        1 => claims.engine.flags.resize(edits.below(300), "--flag".to_owned()),
        2 => claims.egress.host_visible.resize(edits.below(300), "example.org".to_owned()),
        3 => claims.egress.mode = EgressMode::Locked,
        4 => {
            let volume = Volume {
                name: "weights".to_owned(),
                header: Bytes([edits.byte(); 32]),
                integrity: "verity".to_owned(),
                generation: u64::MAX,
                verity_root: Some(Bytes([edits.byte(); 32])),
            };
            claims.volumes.resize(edits.below(70), volume);
        }
        5 => claims.gpus.count = edits.below(1 << 20) as u64,
        6 => claims.gpus.environment = "x".repeat(edits.below(1 << 20)),
        7 => claims.changing.guest_time = u64::MAX,
        8 => claims.model.manifest = Bytes([edits.byte(); 32]),
        9 => {
            let at = edits.below(parts.events.len());
            if at < parts.events.len() {
                parts.events.remove(at);
            }
        }
        10 => {
            let model = RuntimeEvent::Model(LoadedModel { manifest: Bytes([edits.byte(); 32]) });
            parts.events.insert(edits.below(parts.events.len() + 1), model);
        }
        11 => {
            let device = parts.devices.first().cloned();
            parts.devices.extend(std::iter::repeat_n(device, edits.below(6)).flatten());
        }
        12 => {
            if let Some(device) = parts.devices.first_mut() {
                edits.change(&mut device.report.0);
            }
        }
        13 => {
            if let Some(device) = parts.devices.first_mut()
                && device.report.0.len() > 96
            {
                edits.change(&mut device.report.0);
                if device.report.0.len() > 96 {
                    device.report = ByteString(GPU.resign(&device.report.0));
                }
            }
        }
        14 => {
            if let Some(device) = parts.devices.first_mut() {
                edits.change(&mut device.chain.0);
            }
        }
        _ => {
            if let KeySet::Serving(keys) = &mut parts.key_set {
                keys.not_after = (edits.below(1 << 24) as u64) << 40 | u64::from(edits.byte());
            }
        }
    }
}

/// One change of a document that has been quoted, or of what the client asked.
fn change_document(
    document: &mut EvidenceDocument,
    challenge: &mut RecordedChallenge,
    edits: &mut Edits<'_>,
) {
    match edits.byte() % 12 {
        0 => {
            if let confide_evidence::document::CpuEvidence::Tdx { quote } = &mut document.cpu {
                edits.change(&mut quote.0);
            }
        }
        1 => document.boot_id = Bytes([edits.byte(); 16]),
        2 => document.devices.truncate(edits.below(3)),
        3 => {
            let path = vec![Bytes([edits.byte(); 64]); edits.below(14)];
            let (index, size) = (edits.below(5000) as u64, edits.below(5000) as u64);
            document.batch = Some(BatchPath { path, size, index });
        }
        4 => document.endorsements = None,
        5 => {
            if let Some(tdx) = document.endorsements.as_mut().and_then(|stapled| stapled.tdx.as_mut()) {
                edits.change_text(&mut tdx.tcb_info);
            }
        }
        6 => {
            if let Some(tdx) = document.endorsements.as_mut().and_then(|stapled| stapled.tdx.as_mut()) {
                edits.change(&mut tdx.pck_crl.0);
            }
        }
        7 => document.claims.changing.drops = edits.below(1 << 24) as u64,
        8 => document.boot_log = Some(ByteString(edits.take(4096).to_vec())),
        9 => challenge.nonce = Bytes([edits.byte(); 32]),
        10 => challenge.exporter = ByteString(edits.take(40).to_vec()),
        _ => {
            challenge.role = match edits.byte() % 3 {
                0 => Role::Serve,
                1 => Role::Batch,
                _ => Role::KeyRelease,
            };
        }
    }
}
