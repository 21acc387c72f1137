//! What an attacker, or a careless caller, might try against the verifier: each must fail, and say so.
#![allow(
    clippy::unwrap_used,
    missing_docs,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    dead_code,
    reason = "tests"
)]

mod algorithms;
mod guest;

use algorithms::AWS;
use confide_evidence::bytes::Bytes;
use confide_evidence::document::{Endorsements, EvidenceDocument};
use confide_evidence::event::{EventLog, LoadedModel, RuntimeEvent};
use confide_evidence::tdx::{QeIdentity, TcbInfo, collateral_from_json};
use confide_evidence::x509::{Certificate, Crl, MAX_CRL};
use confide_policy::{AppraisalPolicy, Loaded};
use confide_verifier::{
    AttestationResult, Challenge, Inputs, Outcome, PreparedCollateral, Subject, appraise, evaluate,
};
use guest::{
    DANGER, EXPORTER, Guest, NONCE, SPKI, challenge, danger, failures, minting, now, verdict, verdict_of,
};

fn with_prepared(
    document: &[u8],
    prepared: &PreparedCollateral,
    policy: &AppraisalPolicy,
) -> AttestationResult {
    let inputs = Inputs {
        subject: Subject::Document(document),
        endorsements: &Endorsements::default(),
        prepared: Some(prepared),
        prepared_devices: None,
        memo: None,
        second_opinion: None,
        references: None,
        policy,
        challenge: Some(&challenge()),
        now: now(),
        algorithms: &AWS,
    };
    evaluate(&inputs).unwrap_or_else(|rejection| *rejection.result)
}

#[test]
fn reference_values_for_the_report_data_do_not_replace_the_challenge() {
    let document = Guest::new().document();
    let honest = verdict(&document, Some(&challenge()), &danger(DANGER)).report_data.unwrap();
    let pinned = DANGER.replace(
        "report_data = { from = \"document\" }",
        &format!("report_data = {{ any_of = [\"{honest}\"] }}"),
    );
    let policy = danger(&pinned);
    assert!(verdict(&document, Some(&challenge()), &policy).accepted(), "bound and listed");
    let bytes = document.encode().unwrap();
    let endorsements = Endorsements::default();
    let appraisal = minting(&bytes, &endorsements, &policy);
    let replayed = appraise(&appraisal, Challenge::serve([0xee; 32], EXPORTER, SPKI)).unwrap_err();
    assert_eq!(replayed.code(), "report_data", "a listed value is replayed to another challenge");
    let changed = EvidenceDocument { boot_id: Bytes([0xee; 16]), ..document };
    assert!(failures(&verdict(&changed, Some(&challenge()), &policy)).contains(&"report_data"));
    let other = danger(&pinned.replace(&honest.to_string(), &"11".repeat(64)));
    assert_eq!(failures(&verdict(&Guest::new().document(), Some(&challenge()), &other)), ["report_data"]);
}

#[test]
fn reference_values_for_rtmr3_do_not_replace_the_event_log() {
    let mut document = Guest::new().document();
    let honest = verdict(&document, Some(&challenge()), &danger(DANGER));
    let honest = honest.measurements.unwrap().tdx().unwrap().rtmr3;
    let policy = danger(
        &DANGER
            .replace("rtmr3 = { from = \"document\" }", &format!("rtmr3 = {{ any_of = [\"{honest}\"] }}"))
            .replace("events = \"required\"", "events = { waive = \"a test\" }"),
    );
    assert!(verdict(&document, Some(&challenge()), &policy).accepted());
    let mut events = EventLog::new();
    for event in document.events.events() {
        let changed = RuntimeEvent::Model(LoadedModel { manifest: Bytes([0xee; 32]) });
        events.push(if matches!(event, RuntimeEvent::Model(_)) { changed } else { event.clone() }).unwrap();
    }
    document.events = events;
    assert_eq!(failures(&verdict(&document, Some(&challenge()), &policy)), ["rtmr3"]);
}

#[test]
fn collateral_prepared_under_a_danger_policy_is_useless_under_another() {
    let document = Guest::new().document();
    let collateral = document.endorsements.clone().unwrap().tdx.unwrap();
    let prepared = PreparedCollateral::new(&collateral, &danger(DANGER), &AWS);
    // Everything but the trust anchors is as the simulator needs it: no other check stands in the way.
    let mut policy = danger(DANGER);
    policy.danger = None;
    let result = with_prepared(&document.encode().unwrap(), &prepared, &policy);
    assert_eq!((result.outcome, result.code), (Outcome::Rejected, Some("root_anchor")));
    assert_eq!((result.tcb_status, result.simulated), (None, true));
}

#[test]
fn a_refusal_after_the_simulators_root_says_simulated() {
    let mut document = Guest::new().document();
    if let Some(tdx) = document.endorsements.as_mut().and_then(|stapled| stapled.tdx.as_mut()) {
        tdx.tcb_info_signature.0[0] ^= 1;
    }
    let result = verdict(&document, Some(&challenge()), &danger(DANGER));
    assert_eq!(result.code, Some("tcb_info_signature"));
    assert!(result.simulated && result.assumptions[0].starts_with("SIMULATED"));
}

#[test]
fn evidence_cannot_fill_a_verdict() {
    let mut guest = Guest::new();
    guest.claims.engine.kind = "\u{1}".repeat(1 << 20);
    let result = verdict(&guest.document(), Some(&challenge()), &danger(DANGER));
    assert_eq!(failures(&result), ["engine_kind"]);
    assert!(result.to_json().len() < 64 * 1024, "{} bytes", result.to_json().len());
}

#[test]
fn a_document_of_a_million_empty_strings_is_refused_before_it_is_decoded() {
    let bytes = Guest::new().document().encode().unwrap();
    // The empty list of claims.egress.host_visible becomes one of 1,048,576 empty strings.
    let key = b"host_visible\x80";
    let at = bytes.windows(key.len()).position(|window| window == key).unwrap() + key.len() - 1;
    let many = [&[0x9a, 0, 0x10, 0, 0][..], &[0x60; 1 << 20]].concat();
    let bytes = [&bytes[..at], &many, &bytes[at + 1..]].concat();
    let result = verdict_of(&bytes, Some(&challenge()), &danger(DANGER));
    assert_eq!((result.outcome, result.code), (Outcome::Malformed, Some("document_format")));
    assert!(result.checks[0].actual.contains("items"), "{}", result.checks[0].actual);
}

#[test]
fn a_witness_is_for_one_connection_of_the_same_nonce() {
    let document = Guest::new().document().encode().unwrap();
    let policy = danger(DANGER);
    let endorsements = Endorsements::default();
    let appraisal = minting(&document, &endorsements, &policy);
    // Nonce and exporter swapped: length-prefixed fields do not slide into each other.
    assert_eq!(
        appraise(&appraisal, Challenge::serve(EXPORTER, NONCE, SPKI)).unwrap_err().code(),
        "report_data"
    );
}

/// Nested deeper than any parser's stack: an error, soon.
#[test]
fn nesting_is_no_stack_overflow() {
    let started = std::time::Instant::now();
    let deep = 500_000;
    let tomls = [
        format!("a = {}", "[".repeat(deep)),
        format!("a = {}", "{ a = ".repeat(deep / 6)),
        format!("{}a = 1", "a.".repeat(deep)),
        format!("[{}a]", "a.".repeat(deep)),
        format!("schema = 1\n{}a = 1", "a.".repeat(deep)),
        "[a]\n".repeat(deep / 4),
        "[[a]]\n".repeat(deep / 6),
        format!("a = \"{}\"", "\\u00e9".repeat(deep / 8)),
    ];
    for text in tomls {
        assert!(AppraisalPolicy::parse(&text, Loaded::Normally).is_err(), "{}", &text[..20]);
    }
    let jsons = [
        "[".repeat(4 << 20),
        format!("{{\"x\":{}", "[".repeat(4 << 20)),
        format!("{{\"x\":{}", "{\"a\":".repeat(800_000)),
        format!("{{\"pck_crl\":{}", "[".repeat(1 << 20)),
    ];
    for text in jsons {
        let text = &text.as_bytes()[..text.len().min(4 << 20)];
        assert!(collateral_from_json(text).is_err());
    }
    for json in ["[".repeat(500_000), format!("{{\"tcbLevels\":{}", "[".repeat(500_000))] {
        assert!(TcbInfo::parse(&json).is_err() && QeIdentity::parse(&json).is_err());
    }
    // Nested DER: every level of a constructed value is one more header.
    for head in [[0x30, 0x80], [0x30, 0x02], [0xa0, 0x80]] {
        let der = head.repeat(MAX_CRL / 2);
        assert!(Crl::parse(&der).is_err());
        assert!(Certificate::parse(&der[..16 * 1024]).is_err());
    }
    assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
}

fn der_element(tag: u8, content: &[u8]) -> Vec<u8> {
    let size = u32::try_from(content.len()).unwrap().to_be_bytes();
    let digits = size.iter().skip_while(|byte| **byte == 0).count().max(1);
    let head = if content.len() < 0x80 {
        vec![tag, size[3]]
    } else {
        [&[tag, 0x80 | u8::try_from(digits).unwrap()][..], &size[4 - digits..]].concat()
    };
    [head, content.to_vec()].concat()
}

/// A revocation list with these entries, which nobody signed.
fn revocation_list(entries: &[u8]) -> Vec<u8> {
    let algorithm = der_element(0x30, &der_element(0x06, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02]));
    let (version, issuer, time) =
        (der_element(0x02, &[1]), der_element(0x30, &[]), der_element(0x17, b"260101000000Z"));
    let entries = der_element(0x30, entries);
    let tbs = der_element(0x30, &[version, algorithm.clone(), issuer, time.clone(), time, entries].concat());
    der_element(0x30, &[tbs, algorithm, der_element(0x03, &[0, 0x30, 0])].concat())
}

#[test]
fn a_revocation_list_of_the_largest_size_is_read_in_linear_time() {
    let entry = der_element(0x30, &[der_element(0x02, &[7]), der_element(0x17, b"260101000000Z")].concat());
    let started = std::time::Instant::now();
    let list = Crl::parse(&revocation_list(&entry.repeat(50_000))).unwrap();
    assert_eq!(list.entries().len(), 50_000);
    assert!(list.revokes(&[7]) && !list.revokes(&[8]));
    assert!(started.elapsed().as_secs() < 5, "{:?}", started.elapsed());
}

/// A serial number and a time, and at most one SEQUENCE of extensions (RFC 5280 section 5.1): nothing else is skipped.
#[test]
fn each_entry_of_a_revocation_list_is_read_exactly() {
    let read = |parts: &[Vec<u8>]| Crl::parse(&revocation_list(&der_element(0x30, &parts.concat()))).is_ok();
    let (number, time) = (der_element(0x02, &[7]), der_element(0x17, b"260101000000Z"));
    let reason = [der_element(0x06, &[0x55, 0x1d, 0x15]), der_element(0x04, &[0x0a, 0x01, 0x01])].concat();
    let extensions = der_element(0x30, &der_element(0x30, &reason));
    assert!(read(&[number.clone(), time.clone()]));
    assert!(read(&[number.clone(), time.clone(), extensions.clone()]));
    assert!(
        read(&[number.clone(), der_element(0x18, b"20500101000000Z")]),
        "a year that UTCTime has no room for"
    );
    for bad in [vec![], der_element(0x02, &[]), der_element(0x04, &[7])] {
        assert!(!read(&[bad.clone(), time.clone()]), "serial number {bad:02x?}");
    }
    for bad in [
        vec![],
        der_element(0x17, b""),
        der_element(0x17, b"2601010000Z"),
        der_element(0x17, b"260101000000+"),
        der_element(0x17, b"26010100000xZ"),
        der_element(0x17, b"20500101000000Z"),
        der_element(0x18, b"260101000000Z"),
        der_element(0x18, b"20500101000000.5Z"),
        der_element(0x16, b"260101000000Z"),
    ] {
        assert!(!read(&[number.clone(), bad.clone()]), "time {bad:02x?}");
    }
    for bad in [der_element(0x30, &reason), number.clone(), [extensions.clone(), extensions.clone()].concat()]
    {
        assert!(!read(&[number.clone(), time.clone(), bad.clone()]), "extensions {bad:02x?}");
    }
}
