//! The appraisal: any bytes at all, and valid evidence with small changes, signed anew so that they are looked at.

use crate::edits::Edits;
use crate::guest::{ALGORITHMS, FOR_DOCUMENTS, FOR_QUOTES, GPU, NOW, PLATFORM, Parts, challenge, now};
use crate::snp::{HONEST, SIGNED as SIGNED_OF_REPORT};
use crate::ways::{self, ENDORSEMENTS, QUOTE};
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
use confide_simulator::{BootEvent, Collateral, SimulatedBootLog, SimulatedTd, TdMeasurements};
use confide_verifier::{AttestationResult, Inputs, Subject};
use rustls_pki_types::UnixTime;
use std::time::Duration;

/// Evidence with its collateral and time, and nothing that is beside it.
pub(crate) fn inputs<'a>(
    subject: Subject<'a>,
    endorsements: &'a Endorsements,
    challenge: Option<&'a RecordedChallenge>,
    now: UnixTime,
) -> Inputs<'a> {
    let policy = if challenge.is_some() { &*FOR_DOCUMENTS } else { &*FOR_QUOTES };
    Inputs {
        subject,
        endorsements,
        prepared: None,
        prepared_devices: None,
        memo: None,
        second_opinion: None,
        references: None,
        policy,
        challenge,
        now,
        algorithms: &ALGORITHMS,
    }
}

/// The verdict on a quote of no bytes.
pub(crate) fn refused() -> AttestationResult {
    ways::cold(&inputs(Subject::Quote(&[]), &Endorsements::default(), None, now()))
}

/// The most bytes that are appraised in every way. The limit of time is that of one appraisal.
const MAX_EVERY_WAY: usize = 64 << 10;

/// Any bytes as quote, as quote with a log, as report and as document.
pub(crate) fn bytes(bytes: &[u8]) {
    let challenge = challenge();
    let verdict = if bytes.len() <= MAX_EVERY_WAY { ways::every } else { ways::cold };
    let endorsements = &*ENDORSEMENTS;
    let _ = verdict(&inputs(Subject::Quote(bytes), endorsements, None, now()));
    let with_log = Subject::QuoteWithLog { quote: &QUOTE, boot_log: bytes };
    let _ = verdict(&inputs(with_log, endorsements, None, now()));
    let _ = verdict(&inputs(Subject::SnpReport(bytes), endorsements, None, now()));
    let _ = verdict(&inputs(Subject::Document(bytes), endorsements, Some(&challenge), now()));
}

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
    let result = ways::every(&inputs(Subject::Quote(&quote), &ENDORSEMENTS, None, now()));
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
    let result = ways::every(&inputs(subject, &ENDORSEMENTS, None, now()));
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
    let result = ways::every(&inputs(Subject::SnpReport(&report), &endorsements, None, now));
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
    let _ = ways::cold(&inputs(subject, &endorsements, None, now()));
}

/// Honest collateral with changes, also of the time, with or without an early set: the collateral as it stood after some of
/// the changes. The signatures of TCB info and QE identity may be made anew.
pub(crate) fn collateral(bytes: &[u8]) {
    let mut edits = Edits::of(bytes);
    let honest = PLATFORM.collateral();
    let mut collateral = honest.clone();
    let mut time = NOW;
    let mut early = None;
    let signed_anew = edits.byte();
    while !edits.is_over() {
        match edits.byte() % 13 {
            0 => edits.change_text(&mut collateral.pck_crl_issuer_chain),
            1 => edits.change_text(&mut collateral.tcb_info_issuer_chain),
            2 => edits.change_text(&mut collateral.qe_identity_issuer_chain),
            3 => edits.change(&mut collateral.root_ca_crl),
            4 => edits.change(&mut collateral.pck_crl),
            5 => edits.change(&mut collateral.tcb_info_signature),
            6 => edits.change(&mut collateral.qe_identity_signature),
            7 | 8 => edits.change_text(&mut collateral.tcb_info),
            9 | 10 => edits.change_text(&mut collateral.qe_identity),
            11 => early = Some(collateral.clone()),
            _ => time = NOW.wrapping_add((edits.below(1 << 24) as u64) << 6).wrapping_sub(1 << 29),
        }
    }
    for changed in [Some(&mut collateral), early.as_mut()].into_iter().flatten() {
        if signed_anew & 1 == 1 {
            changed.sign_tcb_info(changed.tcb_info.clone());
        }
        if signed_anew & 2 == 2 {
            changed.sign_qe_identity(changed.qe_identity.clone());
        }
    }
    let read = |collateral: &Collateral| collateral_from_json(collateral.to_json().as_bytes()).ok();
    let Some(changed) = read(&collateral) else { return };
    let early = early.as_ref().and_then(read).map(TdxCollateral::into_early);
    let changed = TdxCollateral { early, ..changed };
    let now = UnixTime::since_unix_epoch(Duration::from_secs(time));
    let endorsements = Endorsements { tdx: Some(changed), ..Endorsements::default() };
    let result = ways::every(&inputs(Subject::Quote(&QUOTE), &endorsements, None, now));
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
    let endorsements = Endorsements::default();
    let subject = Subject::Document(&bytes);
    let result = ways::every(&inputs(subject, &endorsements, Some(&challenge), now()));
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
        2 => {
            let rules = vec!["plain example.org:80".to_owned(); edits.below(300)];
            if edits.byte().is_multiple_of(2) {
                claims.egress.allowed = rules
            } else {
                claims.egress.host_visible = rules
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Where it is not, nothing that the targets assert of accepted evidence is ever looked at.
    #[test]
    fn honest_evidence_of_each_kind_is_accepted() {
        let document = Parts::honest().document().encode().unwrap();
        let log = SimulatedBootLog::default().to_bytes();
        let snp = Endorsements { snp: Some(HONEST.endorsements.clone()), ..Endorsements::default() };
        let stapled = Endorsements::default();
        let challenge = challenge();
        for (subject, endorsements, challenge) in [
            (Subject::Quote(&QUOTE), &*ENDORSEMENTS, None),
            (Subject::QuoteWithLog { quote: &QUOTE, boot_log: &log }, &*ENDORSEMENTS, None),
            (Subject::SnpReport(&HONEST.report), &snp, None),
            (Subject::Document(&document), &stapled, Some(&challenge)),
        ] {
            let result = ways::every(&inputs(subject, endorsements, challenge, now()));
            assert_eq!((result.accepted(), result.code), (true, None));
        }
    }
}
