//! The boot event log of a simulated guest: what it must replay to, and what is said where it does not.
#![allow(clippy::unwrap_used, missing_docs, dead_code, reason = "tests")]

mod algorithms;
mod guest;

use algorithms::AWS;
use confide_evidence::bytes::ByteString;
use confide_evidence::document::{Endorsements, EvidenceDocument};
use confide_evidence::tdx::collateral_from_json;
use confide_policy::{AppraisalPolicy, ExpectReference, Loaded, RequireGiven};
use confide_simulator::{
    BootEvent, PlatformOptions, QuoteFlaw, SimulatedBootLog, SimulatedPlatform, SimulatedTd, TdMeasurements,
};
use confide_verifier::{AttestationResult, Check, Inputs, Outcome, Status, Subject, evaluate};
use guest::{DANGER, Guest, NOW, challenge, danger, failures, now, verdict};

const REQUIRED: &str = "boot_log = \"required\"";
const NO_REFERENCE: &str =
    "boot_events = { waive = \"RTMR0 to RTMR2 are held against reference values as wholes\" }";

/// The verdict on an honest guest's document with this boot log.
fn with_log(log: Option<Vec<u8>>, policy: &AppraisalPolicy) -> AttestationResult {
    let mut document = Guest::new().document();
    document.boot_log = log.map(ByteString);
    verdict(&document, Some(&challenge()), policy)
}

fn check<'a>(result: &'a AttestationResult, code: &str) -> &'a Check {
    let found = result.checks.iter().find(|check| check.code == code);
    found.unwrap_or_else(|| panic!("no check {code}: {:#?}", result.checks))
}

/// What is found where a changed log is refused, and only the log.
fn refused(change: impl FnOnce(&mut Vec<BootEvent>)) -> String {
    let mut log = SimulatedBootLog::default();
    change(&mut log.events);
    let result = with_log(Some(log.to_bytes()), &danger(DANGER));
    assert_eq!((result.outcome, failures(&result)), (Outcome::Rejected, vec!["boot_log"]));
    check(&result, "boot_log").actual.to_string()
}

/// The danger policy with one line replaced.
fn changed(from: &str, to: &str) -> AppraisalPolicy {
    assert!(DANGER.contains(from), "{from}");
    danger(&DANGER.replace(from, to))
}

#[test]
fn a_log_that_replays_is_accepted_with_and_without_padding() {
    let log = SimulatedBootLog::default();
    for bytes in [log.to_bytes(), log.table(65_536)] {
        let result = with_log(Some(bytes), &danger(DANGER));
        assert_eq!(result.outcome, Outcome::Accepted, "{:#?}", result.checks);
        let found = check(&result, "boot_log");
        assert_eq!(found.status, Status::Pass);
        assert_eq!(found.actual, "replays to RTMR0 over 13 events, RTMR1 over 5 events, RTMR2 over 2 events");
        assert!(check(&result, "boot_log_format").actual.starts_with("20 events in "));
    }
}

#[test]
fn a_changed_digest_is_refused_and_its_register_named() {
    let found = refused(|events| events[8].digest[0] ^= 1);
    assert!(
        found.starts_with("RTMR0 replays to ") && found.contains(" over 13 events, the quote has "),
        "{found}"
    );
    assert!(!found.contains("RTMR1"), "{found}");
    let both = refused(|events| {
        events[8].digest[0] ^= 1;
        events[16].digest[0] ^= 1;
    });
    assert!(both.contains("RTMR0 replays to") && both.contains("RTMR2 replays to"), "{both}");
}

#[test]
fn an_event_left_out_moved_or_said_twice_is_refused() {
    assert!(refused(|events| drop(events.remove(3))).starts_with("RTMR0 replays to "));
    assert!(refused(|events| events.swap(2, 3)).starts_with("RTMR0 replays to "));
    assert!(refused(|events| events.insert(3, events[3].clone())).starts_with("RTMR0 replays to "));
    let moved = refused(|events| events[3].register = 2);
    assert!(moved.contains("RTMR0 replays to") && moved.contains("RTMR1 replays to"), "{moved}");
}

#[test]
fn the_first_event_that_the_register_does_not_have_is_named() {
    let added = BootEvent {
        register: 2,
        event_type: 0x8000_0007,
        digest: [7; 48],
        data: b"Loading what nobody measured\x1b[2J".to_vec(),
    };
    let found = refused(|events| {
        events.push(added.clone());
        events.push(added);
    });
    assert_eq!(
        found,
        "RTMR1 has the events up to 20, but not event 21 (EV_EFI_ACTION \"32 bytes: \
         4c6f6164696e672077686174206e6f62...\")"
    );
    // A register that was never extended has the events up to none.
    let mut guest = Guest::new();
    guest.measurements.rtmr[2] = [0; 48];
    let result = verdict(&guest.document(), Some(&challenge()), &danger(DANGER));
    let found = &check(&result, "boot_log").actual;
    assert!(found.starts_with("RTMR2 has the events up to 0, but not event 17 (EV_EVENT_TAG "), "{found}");
}

#[test]
fn an_entry_for_rtmr3_is_refused_though_rtmr0_to_rtmr2_replay() {
    for event_type in [6, 3] {
        let found = refused(|events| {
            events.push(BootEvent { register: 4, event_type, digest: [7; 48], data: b"runtime".to_vec() });
        });
        assert!(found.starts_with("event 21 (EV_"), "{found}");
        assert!(found.ends_with("is for RTMR3, which the runtime alone extends"), "{found}");
    }
}

#[test]
fn a_measurement_into_mrtd_is_refused_and_an_informative_event_is_not() {
    let event = |event_type| BootEvent {
        register: 0,
        event_type,
        digest: [0; 48],
        data: b"SP800-155 Event3".to_vec(),
    };
    let found = refused(|events| events.insert(0, event(6)));
    assert!(found.ends_with("is for MRTD, which nothing extends"), "{found}");
    let mut log = SimulatedBootLog::default();
    log.events.insert(0, event(3));
    log.events.push(BootEvent { register: 1, ..event(3) });
    assert_eq!(with_log(Some(log.to_bytes()), &danger(DANGER)).outcome, Outcome::Accepted);
}

#[test]
fn many_misplaced_events_do_not_make_a_verdict_long() {
    let found = refused(|events| {
        let event = BootEvent { register: 4, event_type: 6, digest: [7; 48], data: vec![b'x'; 300] };
        events.extend(vec![event; 1000]);
    });
    assert_eq!(found.matches("RTMR3").count(), 4);
}

#[test]
fn a_malformed_log_is_malformed_evidence() {
    for bytes in [Vec::new(), vec![1; 40], SimulatedBootLog::default().to_bytes()[..500].to_vec()] {
        let result = with_log(Some(bytes), &danger(DANGER));
        assert_eq!((result.outcome, result.code), (Outcome::Malformed, Some("boot_log_format")));
        assert_eq!(check(&result, "boot_log").status, Status::NotRun);
    }
}

#[test]
fn the_policy_says_whether_a_log_must_be_there() {
    let absent = with_log(None, &danger(DANGER));
    assert_eq!((absent.outcome, absent.code), (Outcome::Rejected, Some("boot_log")));
    let when_given = changed(REQUIRED, "boot_log = \"when-given\"");
    let absent = with_log(None, &when_given);
    assert_eq!(absent.outcome, Outcome::Accepted);
    assert_eq!(check(&absent, "boot_log").status, Status::NotRun);
    let mut broken = SimulatedBootLog::default();
    broken.events.pop();
    assert_eq!(with_log(Some(broken.to_bytes()), &when_given).code, Some("boot_log"));
    let waived = changed(REQUIRED, "boot_log = { waive = \"a test\" }");
    for log in [None, Some(b"no log".to_vec())] {
        let result = with_log(log, &waived);
        assert_eq!(result.outcome, Outcome::Accepted);
        assert_eq!(check(&result, "boot_log").status, Status::Waived);
        assert_eq!(check(&result, "boot_log").expected, "waived: a test");
    }
}

#[test]
fn strict_policies_require_the_log() {
    assert_eq!(AppraisalPolicy::client().tdx.boot_log, RequireGiven::Required);
    assert_eq!(danger(DANGER).tdx.boot_log, RequireGiven::Required);
    assert_eq!(AppraisalPolicy::inspect().tdx.boot_log, RequireGiven::WhenGiven);
}

#[test]
fn no_log_is_read_before_the_quote_signatures_hold() {
    let guest = Guest::new();
    let mut document = guest.document();
    let report = SimulatedTd::default().report([0; 64]);
    let quote = guest.platform.flawed_quote(&report, &[QuoteFlaw::QuoteSigner]);
    document.cpu = confide_evidence::document::CpuEvidence::Tdx { quote: ByteString(quote) };
    document.boot_log = Some(ByteString(b"no log".to_vec()));
    let result = verdict(&document, Some(&challenge()), &danger(DANGER));
    assert_eq!((result.outcome, result.code), (Outcome::Rejected, Some("quote_signature")));
    assert!(result.checks.iter().all(|check| !check.code.starts_with("boot_")), "{:#?}", result.checks);
}

#[test]
fn no_byte_of_the_log_that_a_register_covers_may_change() {
    // Register index, type, digest count, algorithm, digest and size of every event; the data is the firmware's word.
    let log = SimulatedBootLog::default();
    let bytes = log.to_bytes();
    let mut start = 65;
    let (mut refused, mut ignored) = (0, 0);
    for event in &log.events {
        for at in (0..66).step_by(5) {
            let mut changed = bytes.clone();
            changed[start + at] ^= 0x40;
            let result = with_log(Some(changed), &danger(DANGER));
            // Another type is as good, unless it is the one that measures nothing.
            if (4..8).contains(&at) {
                ignored += 1;
                assert_eq!(result.outcome, Outcome::Accepted, "byte {at}");
            } else {
                refused += 1;
                assert_ne!(result.outcome, Outcome::Accepted, "byte {at}");
            }
        }
        start += 66 + event.data.len();
    }
    assert_eq!((start, refused, ignored), (bytes.len(), 20 * 13, 20));
}

/// The danger policy with references of these names and logs, for a guest whose registers nobody has a value for.
fn with_references(references: &[(&str, &SimulatedBootLog)]) -> AppraisalPolicy {
    let digests = |log: &SimulatedBootLog, register| {
        let of_register = log.events.iter().filter(|event| event.register == register);
        let quoted = of_register.map(|event| format!("{:?}", confide_evidence::hex::encode(&event.digest)));
        quoted.collect::<Vec<_>>().join(", ")
    };
    let tables: Vec<String> = references
        .iter()
        .map(|(name, log)| {
            format!(
                "{{ name = {name:?}, rtmr0 = [{}], rtmr1 = [{}], rtmr2 = [{}] }}",
                digests(log, 1),
                digests(log, 2),
                digests(log, 3)
            )
        })
        .collect();
    let text = DANGER.replace(NO_REFERENCE, &format!("boot_events = {{ any_of = [{}] }}", tables.join(", ")));
    assert_ne!(text, DANGER);
    danger(&text)
}

/// A guest that has booted with this log.
fn booted_with(log: &SimulatedBootLog) -> EvidenceDocument {
    let mut guest = Guest::new();
    let [rtmr0, rtmr1, rtmr2, _] = log.replay();
    guest.measurements.rtmr = [rtmr0, rtmr1, rtmr2, [0; 48]];
    let mut document = guest.document();
    document.boot_log = Some(ByteString(log.to_bytes()));
    document
}

/// What `boot_events` says of a guest that has booted otherwise than the references.
fn differs(change: impl FnOnce(&mut Vec<BootEvent>), references: &[(&str, &SimulatedBootLog)]) -> String {
    let mut log = SimulatedBootLog::default();
    change(&mut log.events);
    let result = verdict(&booted_with(&log), Some(&challenge()), &with_references(references));
    assert_eq!(result.outcome, Outcome::Rejected);
    assert_eq!(check(&result, "boot_log").status, Status::Pass, "the log itself is honest");
    let found = check(&result, "boot_events");
    assert_eq!(found.status, Status::Fail);
    found.actual.to_string()
}

#[test]
fn the_events_of_a_reference_are_accepted_and_the_reference_is_named() {
    let log = SimulatedBootLog::default();
    let result = with_log(Some(log.to_bytes()), &with_references(&[("image 1", &log)]));
    assert_eq!(result.outcome, Outcome::Accepted, "{:#?}", result.checks);
    assert_eq!(check(&result, "boot_events").actual, "those of \"image 1\"");
}

#[test]
fn the_first_event_that_is_not_the_references_is_named_with_its_description() {
    let reference = SimulatedBootLog::default();
    let found = differs(|events| events[9].digest = [7; 48], &[("image 1", &reference)]);
    let expected = confide_evidence::hex::encode(&reference.events[9].digest);
    assert_eq!(
        found,
        format!(
            "event 10 (EV_PLATFORM_CONFIG_FLAGS \"ACPI DATA\") extends RTMR0 with {}, \"image 1\" has {expected}",
            "07".repeat(48)
        )
    );
}

#[test]
fn an_event_too_many_and_one_too_few_are_named() {
    let reference = SimulatedBootLog::default();
    let added = reference.events[15].clone();
    let found = differs(|events| events.push(added), &[("image 1", &reference)]);
    assert_eq!(
        found,
        "event 21 (EV_SEPARATOR \"end of the pre-boot phase\") extends RTMR1, \"image 1\" has no further event for it"
    );
    let found = differs(|events| drop(events.remove(17)), &[("image 1", &reference)]);
    assert!(found.starts_with("the log has no further event for RTMR2, \"image 1\" has "), "{found}");
}

#[test]
fn the_nearest_reference_is_the_one_that_is_compared() {
    let near = SimulatedBootLog::default();
    let mut far = near.clone();
    far.events[0].digest = [9; 48];
    let found = differs(|events| events[9].digest = [7; 48], &[("far", &far), ("near", &near)]);
    assert!(found.contains("\"near\" has") && !found.contains("far"), "{found}");
    assert_eq!(differs(|_| {}, &[]), "the policy names no reference");
}

#[test]
fn a_log_changed_on_its_way_is_named_by_event_where_there_is_a_reference() {
    let reference = SimulatedBootLog::default();
    let mut log = reference.clone();
    log.events[4].digest = [7; 48];
    let result = with_log(Some(log.to_bytes()), &with_references(&[("image 1", &reference)]));
    assert_eq!(failures(&result), ["boot_log", "boot_events"]);
    let found = &check(&result, "boot_events").actual;
    assert!(found.starts_with("event 5 (EV_EFI_VARIABLE_DRIVER_CONFIG \"KEK of 8be4df61-"), "{found}");
}

#[test]
fn a_log_of_another_boot_meets_no_reference_also_where_the_log_is_waived() {
    let reference = SimulatedBootLog::default();
    let mut policy = with_references(&[("image 1", &reference)]);
    policy.tdx.boot_log = RequireGiven::Waive("a test".into());
    policy.tdx.rtmr0 = ExpectReference::Waive("a test".into());
    let mut booted = reference.clone();
    booted.events[9].digest = [7; 48];
    let mut document = booted_with(&booted);
    document.boot_log = Some(ByteString(reference.to_bytes()));
    let result = verdict(&document, Some(&challenge()), &policy);
    assert_eq!(failures(&result), ["boot_events"]);
    assert_eq!(check(&result, "boot_log").status, Status::Waived);
    document = booted_with(&reference);
    let result = verdict(&document, Some(&challenge()), &policy);
    assert_eq!((failures(&result), result.outcome), (vec![], Outcome::Accepted), "the log of this boot");
}

#[test]
fn references_without_a_log_are_not_met() {
    let reference = SimulatedBootLog::default();
    let result = with_log(None, &with_references(&[("image 1", &reference)]));
    assert_eq!(failures(&result), ["boot_log", "boot_events"]);
}

/// The verdict on a bare quote, with or without a log.
fn bare(log: Option<&[u8]>, text: &str) -> AttestationResult {
    let platform = SimulatedPlatform::new(PlatformOptions::at(NOW)).unwrap();
    let quote = platform.quote(&SimulatedTd::new(TdMeasurements::default()).report([7; 64]));
    let tdx = collateral_from_json(platform.collateral_json().as_bytes()).unwrap();
    let text = text.replace("rtmr3 = { from = \"document\" }", "rtmr3 = { waive = \"a bare quote\" }");
    let text =
        text.replace("report_data = { from = \"document\" }", "report_data = { waive = \"a bare quote\" }");
    let inputs = Inputs {
        subject: match log {
            Some(boot_log) => Subject::QuoteWithLog { quote: &quote, boot_log },
            None => Subject::Quote(&quote),
        },
        endorsements: &Endorsements { tdx: Some(tdx), ..Endorsements::default() },
        prepared: None,
        prepared_devices: None,
        memo: None,
        second_opinion: None,
        references: None,
        policy: &AppraisalPolicy::parse(&text, Loaded::AsDanger).unwrap(),
        challenge: None,
        now: now(),
        algorithms: &AWS,
    };
    evaluate(&inputs).unwrap_or_else(|rejection| *rejection.result)
}

#[test]
fn a_bare_quote_is_held_against_the_log_beside_it() {
    let log = SimulatedBootLog::default();
    let accepted = bare(Some(&log.table(65_536)), DANGER);
    assert_eq!(accepted.outcome, Outcome::Accepted, "{:#?}", accepted.checks);
    assert_eq!(check(&accepted, "boot_log").status, Status::Pass);
    let mut shorter = log;
    shorter.events.pop();
    assert_eq!(failures(&bare(Some(&shorter.to_bytes()), DANGER)), ["boot_log"]);
    assert_eq!(failures(&bare(None, DANGER)), ["boot_log"]);
    assert_eq!(bare(None, &DANGER.replace(REQUIRED, "boot_log = \"when-given\"")).outcome, Outcome::Accepted);
}
