//! Evidence documents of a simulated guest: accepted for the challenge that they were made for, refused for every other
//! and for every change.
#![allow(clippy::unwrap_used, missing_docs, clippy::disallowed_methods, dead_code, reason = "tests")]

mod algorithms;
mod counting;
mod guest;

use algorithms::AWS;
use confide_evidence::bytes::{ByteString, Bytes};
use confide_evidence::document::{
    CpuEvidence, DeviceEvidence, DeviceKind, EgressMode, Endorsements, EvidenceDocument, KemAlgorithm,
    KemKey, KeySet, MAX_DEVICES, Platform, Volume,
};
use confide_evidence::event::{EventLog, LoadedModel, OpenVolumes, Released, RuntimeEvent};
use confide_evidence::record::RecordedChallenge;
use confide_evidence::transcript::{BatchTree, Binding, Role, batch_leaf};
use confide_policy::{AppraisalPolicy, BrokerKey, HexBytes, Machine, Machines, Require};
use confide_simulator::{PlatformOptions, SimulatedGpu, SimulatedPlatform};
use confide_verifier::{
    Challenge, DeviceOutcome, Inputs, Outcome, PreparedCollateral, Status, Subject, appraise, evaluate,
};
use counting::{COUNTING, documented, verifications};
use guest::{
    DANGER, EXPORTER, Guest, NONCE, NOW, SPKI, challenge, danger, failures, minting, now, serve, verdict,
    verdict_of,
};

fn failures_of(change: impl FnOnce(&mut EvidenceDocument)) -> Vec<String> {
    let mut document = Guest::new().document();
    change(&mut document);
    let result = verdict(&document, Some(&challenge()), &danger(DANGER));
    assert_eq!(result.outcome, Outcome::Rejected);
    failures(&result).into_iter().map(str::to_owned).collect()
}

#[test]
fn an_honest_document_is_accepted_and_called_simulated() {
    let result = verdict(&Guest::new().document(), Some(&challenge()), &danger(DANGER));
    assert_eq!((result.outcome, result.code), (Outcome::Accepted, None), "{:#?}", result.checks);
    assert!(result.simulated);
    assert!(result.assumptions[0].starts_with("SIMULATED"));
    assert!(result.to_json().contains("SIMULATED") && result.to_ear().contains("SIMULATED"));
    assert_eq!(result.platform_binding, Some("shared_transcript"));
    assert_eq!(result.valid_until.as_deref(), Some("2026-10-01T00:05:00Z"), "five minutes, the policy's age");
}

#[test]
fn a_witness_is_minted_for_the_same_inputs() {
    let document = Guest::new().document().encode().unwrap();
    let policy = danger(DANGER);
    let endorsements = Endorsements::default();
    let inputs = minting(&document, &endorsements, &policy);
    let attested = appraise(&inputs, Challenge::serve(NONCE, EXPORTER, SPKI)).unwrap();
    assert_eq!((attested.nonce(), attested.exporter(), attested.spki()), (&NONCE, &EXPORTER, &SPKI));
    assert_eq!(attested.valid_until().as_secs(), NOW + 300);
    // The collateral's, whatever the age that the policy allows the evidence, and the guest's own keys.
    let text = DANGER.replace("max_age_seconds = 300", "max_age_seconds = 60");
    assert_ne!(text, DANGER);
    let (endless, brief) = (attested.endorsed_until(), danger(&text));
    assert!(endless > attested.valid_until());
    let inputs_of_brief = minting(&document, &endorsements, &brief);
    let younger = appraise(&inputs_of_brief, Challenge::serve(NONCE, EXPORTER, SPKI)).unwrap();
    assert_eq!((younger.valid_until().as_secs(), younger.endorsed_until()), (NOW + 60, endless));
    assert_eq!(attested.result(), &verdict_of(&document, Some(&challenge()), &policy));
    let elsewhere = Challenge::serve(NONCE, [0xee; 32], SPKI);
    assert_eq!(appraise(&inputs, elsewhere).unwrap_err().code(), "report_data");
}

#[test]
fn prepared_collateral_gives_the_same_verdict() {
    let document = Guest::new().document();
    let collateral = document.endorsements.clone().unwrap().tdx.unwrap();
    for policy in [danger(DANGER), AppraisalPolicy::client()] {
        let prepared = PreparedCollateral::new(&collateral, &policy, &AWS);
        let bytes = document.encode().unwrap();
        let inputs = Inputs {
            subject: Subject::Document(&bytes),
            endorsements: &Endorsements::default(),
            prepared: Some(&prepared),
            prepared_devices: None,
            memo: None,
            second_opinion: None,
            references: None,
            policy: &policy,
            challenge: Some(&challenge()),
            now: now(),
            algorithms: &AWS,
        };
        let with = evaluate(&inputs).unwrap_or_else(|rejection| *rejection.result);
        assert_eq!(with.to_json(), verdict(&document, Some(&challenge()), &policy).to_json());
    }
}

#[test]
fn no_ordinary_policy_accepts_a_simulated_guest() {
    for policy in [AppraisalPolicy::client(), AppraisalPolicy::inspect()] {
        let result = verdict(&Guest::new().document(), Some(&challenge()), &policy);
        assert_eq!(
            (result.outcome, result.code),
            (Outcome::Rejected, Some("root_anchor")),
            "{}",
            policy.name
        );
        assert_eq!(result.tcb_status, None);
    }
}

#[test]
fn evidence_for_another_challenge_is_refused() {
    let document = Guest::new().document();
    let cases = [
        ("nonce: replay", Challenge::serve([0xee; 32], EXPORTER, SPKI)),
        ("exporter: relay over another connection", Challenge::serve(NONCE, [0xee; 32], SPKI)),
        ("key: another TLS key", Challenge::serve(NONCE, EXPORTER, [0xee; 32])),
    ];
    for (what, other) in cases {
        let result = verdict(&document, Some(&other.recorded()), &danger(DANGER));
        assert_eq!(result.outcome, Outcome::Rejected, "{what}");
        assert!(failures(&result).contains(&"report_data"), "{what}: {:?}", failures(&result));
    }
}

#[test]
fn a_document_without_a_challenge_is_refused() {
    let result = verdict(&Guest::new().document(), None, &danger(DANGER));
    assert_eq!((result.outcome, result.code), (Outcome::Rejected, Some("challenge")));
}

#[test]
fn evidence_of_one_role_is_useless_for_another() {
    let mut guest = Guest::new();
    guest.binding = Binding::KeyRelease { nonce: Bytes(NONCE) };
    let result = verdict(&guest.document(), Some(&challenge()), &danger(DANGER));
    assert!(failures(&result).contains(&"report_data"), "{:?}", failures(&result));
    let key_release = RecordedChallenge {
        role: Role::KeyRelease,
        spki: ByteString(Vec::new()),
        nonce: Bytes(NONCE),
        exporter: ByteString(Vec::new()),
    };
    let result = verdict(&Guest::new().document(), Some(&key_release), &danger(DANGER));
    for code in ["report_data", "event_log", "key_set"] {
        assert!(failures(&result).contains(&code), "{code}: {:?}", failures(&result));
    }
}

#[test]
fn a_changed_claim_is_refused() {
    assert_eq!(failures_of(|document| document.claims.changing.drops = 1), ["report_data"]);
    assert_eq!(
        failures_of(|document| document.claims.model.manifest = Bytes([0xee; 32])),
        ["report_data", "event_claims"]
    );
    assert_eq!(
        failures_of(|document| document.claims.configuration = Bytes([0xee; 32])),
        ["report_data", "event_claims"]
    );
    assert_eq!(
        failures_of(|document| document.claims.build.version = "9".into()),
        ["report_data", "event_claims"]
    );
    assert_eq!(
        failures_of(|document| document.claims.egress.mode = EgressMode::Locked),
        ["report_data", "event_log"]
    );
    assert_eq!(failures_of(|document| document.claims.gpus.ready = false), ["report_data", "gpu_claims"]);
}

#[test]
fn a_changed_event_is_refused() {
    let changed = |document: &mut EvidenceDocument| {
        let mut events = EventLog::new();
        for event in document.events.events() {
            events
                .push(match event {
                    RuntimeEvent::Model(_) => {
                        RuntimeEvent::Model(LoadedModel { manifest: Bytes([0xee; 32]) })
                    }
                    other => other.clone(),
                })
                .unwrap();
        }
        document.events = events;
    };
    assert_eq!(failures_of(changed), ["rtmr3", "event_claims"]);
}

#[test]
fn events_and_claims_that_agree_must_also_be_in_rtmr3() {
    let failures = failures_of(|document| {
        let mut events = EventLog::new();
        for event in document.events.events() {
            events
                .push(match event {
                    RuntimeEvent::Model(_) => {
                        RuntimeEvent::Model(LoadedModel { manifest: Bytes([0xee; 32]) })
                    }
                    other => other.clone(),
                })
                .unwrap();
        }
        document.events = events;
        document.claims.model.manifest = Bytes([0xee; 32]);
    });
    assert_eq!(failures, ["rtmr3", "report_data"]);
}

/// A guest whose processes an attacker has taken over has the quoting device, and RTMR3 as it is by then.
#[test]
fn from_released_on_no_document_is_evidence_for_the_release_of_keys() {
    let mut guest = Guest::new();
    guest.binding = Binding::KeyRelease { nonce: Bytes(NONCE) };
    guest.keys = KeySet::Recipient(KemKey { alg: KemAlgorithm::XWing, public: Bytes([8; 1216]) });
    let nothing = ByteString::default;
    let challenge = RecordedChallenge {
        role: Role::KeyRelease,
        spki: nothing(),
        nonce: Bytes(NONCE),
        exporter: nothing(),
    };
    let serving = guest.events.split_off(2);
    let asking = guest.events.clone();
    let refused = |document: &EvidenceDocument| {
        let result = verdict(document, Some(&challenge), &danger(DANGER));
        failures(&result).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert!(refused(&guest.document()).is_empty());
    let released = RuntimeEvent::Released(Released { volumes: vec!["weights".into()] });
    for later in [vec![released], serving[..1].to_vec(), serving] {
        guest.events = [asking.clone(), later].concat();
        let mut document = guest.document();
        assert_eq!(refused(&document), ["event_log"], "the log as it is");
        document.events = EventLog::new();
        for event in &asking {
            document.events.push(event.clone()).unwrap();
        }
        assert_eq!(refused(&document), ["rtmr3"], "the log that it would have to be");
    }
}

#[test]
fn a_missing_open_event_is_refused_even_if_quoted() {
    let mut guest = Guest::new();
    guest.events.pop();
    let result = verdict(&guest.document(), Some(&challenge()), &danger(DANGER));
    assert_eq!(failures(&result), ["event_log"]);
}

#[test]
fn a_changed_key_or_boot_id_is_refused() {
    assert_eq!(failures_of(|document| document.boot_id = Bytes([0xee; 16])), ["report_data", "event_claims"]);
    let other_key = |document: &mut EvidenceDocument| {
        if let KeySet::Serving(keys) = &mut document.key_set {
            keys.kem.public = Bytes([0xee; 1216]);
        }
    };
    assert_eq!(failures_of(other_key), ["report_data"]);
}

#[test]
fn an_expired_key_set_is_refused() {
    let mut guest = Guest::new();
    if let KeySet::Serving(keys) = &mut guest.keys {
        keys.not_after = NOW - 1;
    }
    let result = verdict(&guest.document(), Some(&challenge()), &danger(DANGER));
    assert_eq!(failures(&result), ["key_set"]);
}

#[test]
fn evidence_of_another_genuine_gpu_is_refused() {
    let other = SimulatedGpu::new(8).unwrap();
    let failures = failures_of(|document| document.devices = vec![Guest::device(&other, &serve())]);
    assert_eq!(failures, ["report_data"]);
    let failures = failures_of(|document| document.devices.clear());
    assert_eq!(failures, ["report_data", "gpu_count", "gpu_claims"]);
}

#[test]
fn another_gpu_than_the_measured_one_is_refused_even_if_quoted() {
    let mut guest = Guest::new();
    guest.gpu = SimulatedGpu::new(8).unwrap();
    let result = verdict(&guest.document(), Some(&challenge()), &danger(DANGER));
    assert_eq!(failures(&result), ["devices_event"]);
}

/// The serial number of the BROM certificate of a simulated GPU: 41, then the PDI.
fn brom(gpu: &SimulatedGpu) -> HexBytes<9> {
    let chain = confide_evidence::nvidia::DeviceChain::parse(gpu.chain_pem().as_bytes()).unwrap();
    HexBytes(chain.brom().serial.as_slice().try_into().unwrap())
}

fn machine(name: &str, ppid: [u8; 16], devices: Vec<HexBytes<9>>) -> Machine {
    Machine { name: name.into(), ppid: HexBytes(ppid), devices }
}

#[test]
fn a_gpu_must_be_beside_the_cpu_that_the_policy_has_registered_for_it() {
    let guest = Guest::new();
    let (ppid, own, other) = (guest.platform.ppid(), brom(&guest.gpu), brom(&SimulatedGpu::new(8).unwrap()));
    let under = |machines: Vec<Machine>| {
        let mut policy = danger(DANGER);
        policy.devices.machine = Machines(machines);
        verdict(&guest.document(), Some(&challenge()), &policy)
    };
    // A guest may have some of the machine's devices.
    let result = under(vec![machine("another", [7; 16], vec![]), machine("its own", ppid, vec![other, own])]);
    assert_eq!((result.outcome, result.code), (Outcome::Accepted, None), "{:#?}", result.checks);
    assert_eq!(result.platform_binding, Some("registered_hardware"));
    let shown = |result: &confide_verifier::AttestationResult| {
        let check = result.checks.iter().find(|check| check.code == "device_registry").unwrap();
        check.actual.to_string()
    };
    let hex = confide_evidence::hex::encode(&ppid);
    assert_eq!(shown(&result), format!("PPID {hex}, 1 devices of its own"));
    for (machines, actual) in [
        (
            vec![machine("another", [7; 16], vec![own])],
            format!("PPID {hex}, which no registered machine has"),
        ),
        (
            vec![machine("its own", ppid, vec![other]), machine("another", [7; 16], vec![own])],
            format!("device 0: BROM serial {own}, which is not registered for its own"),
        ),
    ] {
        let result = under(machines);
        assert_eq!(failures(&result), ["device_registry"]);
        assert_eq!(shown(&result), actual);
        assert_eq!(result.platform_binding, Some("shared_transcript"));
    }
}

#[test]
fn a_document_under_a_policy_that_needs_the_services_opinion_is_told_where_opinions_are_appraised() {
    let mut policy = danger(DANGER);
    policy.devices.nras = Require::Required;
    let result = verdict(&Guest::new().document(), Some(&challenge()), &policy);
    assert_eq!(failures(&result), ["nras"]);
    let check = result.checks.iter().find(|check| check.code == "nras").unwrap();
    assert!(check.actual.ends_with("for devices by themselves: verify gpu"), "{}", check.actual);
    let remedy = check.remedy.as_ref().unwrap();
    assert!(remedy.starts_with("waive devices.nras"), "{remedy}");
}

/// The same devices, accepted by a quote of another exchange.
#[test]
fn devices_under_waived_report_data_are_bound_to_no_cpu() {
    let guest = Guest::new();
    let text = DANGER.replace(
        "report_data = { from = \"document\" }",
        "report_data = { waive = \"a quote of another exchange\" }",
    );
    assert_ne!(text, DANGER);
    let elsewhere = Challenge::serve(NONCE, EXPORTER, [0xee; 32]).recorded();
    for registered in [false, true] {
        let mut policy = danger(&text);
        if registered {
            let devices = vec![brom(&guest.gpu)];
            policy.devices.machine = Machines(vec![machine("its own", guest.platform.ppid(), devices)]);
        }
        let result = verdict(&guest.document(), Some(&elsewhere), &policy);
        assert_eq!(result.devices.len(), 1, "{:#?}", result.checks);
        assert_eq!(result.platform_binding, None);
    }
}

#[test]
fn a_registry_says_nothing_of_a_guest_without_devices_and_of_devices_that_no_quote_covers() {
    let mut policy = danger(DANGER);
    policy.devices.machine = Machines(vec![machine("another", [7; 16], vec![])]);
    let elsewhere = Challenge::serve(NONCE, EXPORTER, [0xee; 32]).recorded();
    let result = verdict(&Guest::new().document(), Some(&elsewhere), &policy);
    assert_eq!(result.code, Some("report_data"));
    let registry = result.checks.iter().filter(|check| check.code == "device_registry");
    assert_eq!(registry.map(|check| check.status).collect::<Vec<_>>(), [Status::NotRun]);
    let mut document = Guest::new().document();
    document.devices.clear();
    let result = verdict(&document, Some(&challenge()), &policy);
    assert!(result.checks.iter().all(|check| check.code != "device_registry"));
    assert_eq!(result.platform_binding, None);
}

/// Signatures of devices cost more than the comparison that tells that the quote signs other ones.
#[test]
fn devices_that_the_quote_does_not_cover_are_not_looked_at() {
    let elsewhere = Challenge::serve(NONCE, EXPORTER, [0xee; 32]).recorded();
    let mut document = Guest::new().document();
    document.devices.push(DeviceEvidence {
        kind: DeviceKind::NvidiaGpu,
        chain: ByteString(b"no chain".to_vec()),
        report: ByteString(b"no report".to_vec()),
    });
    for (document, challenge) in [(&Guest::new().document(), &elsewhere), (&document, &challenge())] {
        let result = verdict(document, Some(challenge), &danger(DANGER));
        assert_eq!((result.outcome, result.code), (Outcome::Rejected, Some("report_data")));
        let device = |check: &&confide_verifier::Check| check.code.starts_with("device");
        let of_devices: Vec<_> = result.checks.iter().filter(device).collect();
        assert_eq!(of_devices.len(), 1 + 22 * document.devices.len() + 3, "{of_devices:?}");
        for check in of_devices {
            assert_eq!(check.status, confide_verifier::Status::NotRun, "{}", check.code);
        }
        let expected = |position| (position, DeviceOutcome::NotRun, None, None);
        let found: Vec<_> = result
            .devices
            .iter()
            .map(|device| (device.position, device.outcome, device.code, device.facts.clone()))
            .collect();
        assert_eq!(found, (0..).take(document.devices.len()).map(expected).collect::<Vec<_>>());
    }
}

#[test]
fn a_verdicts_json_holds_nothing_that_a_terminal_obeys() {
    let mut guest = Guest::new();
    guest.claims.engine.kind = "\u{9b}2J\u{85}\u{7f}\u{202e}".into();
    let result = verdict(&guest.document(), Some(&challenge()), &danger(DANGER));
    assert_eq!(failures(&result), ["engine_kind"]);
    let json = result.to_json();
    assert!(json.contains(r"\u009b2J\u0085\u007f\u202e"), "{json}");
    assert!(!json.contains(confide_evidence::text::steers), "{json}");
}

/// A guest whose `devices` event says this mode; its GPU signs `spt`.
fn guest_in_mode(mode: &str) -> Guest {
    let mut guest = Guest::new();
    for event in &mut guest.events {
        if let RuntimeEvent::Devices(devices) = event {
            devices.devices[0].mode = mode.to_owned();
        }
    }
    guest
}

#[test]
fn a_mode_other_than_the_signed_one_is_refused() {
    let result = verdict(&guest_in_mode("spt").document(), Some(&challenge()), &danger(DANGER));
    assert_eq!(result.code, None, "{:?}", failures(&result));
    for mode in ["ppcie", "mpt", "unknown", "SPT", ""] {
        let result = verdict(&guest_in_mode(mode).document(), Some(&challenge()), &danger(DANGER));
        assert_eq!(failures(&result), ["devices_event"], "{mode:?}");
        let check = result.checks.iter().find(|check| check.code == "devices_event").unwrap();
        assert_eq!(check.actual, format!("device 0: mode spt in the signed report, the event says {mode}"));
    }
}

/// A guest that says that it opened `open`, and for whose volumes `released` keys were released.
fn guest_with_volumes(open: &[&str], released: &[&str]) -> Guest {
    let volume = |name: &&str| Volume {
        name: (*name).to_owned(),
        header: Bytes([3; 32]),
        integrity: "hmac".into(),
        generation: 1,
        verity_root: None,
    };
    let mut guest = Guest::new();
    let volumes: Vec<Volume> = open.iter().map(volume).collect();
    guest.claims.volumes.clone_from(&volumes);
    let names = released.iter().map(|name| (*name).to_owned()).collect();
    let events =
        [RuntimeEvent::Released(Released { volumes: names }), RuntimeEvent::Volumes(OpenVolumes { volumes })];
    guest.events.splice(2..3, events);
    guest
}

/// A guest with a volume whose broker has this key.
fn guest_of_broker(key: BrokerKey) -> Guest {
    let mut guest = guest_with_volumes(&["a"], &["a"]);
    let RuntimeEvent::Boot(boot) = &mut guest.events[0] else { panic!("the first event is `boot`") };
    boot.broker_key = Some(key.spki().into());
    guest
}

/// The danger policy for guests of these brokers.
fn naming(keys: &[BrokerKey]) -> AppraisalPolicy {
    let keys: Vec<String> = keys.iter().map(|key| format!("\"{key}\"")).collect();
    let field = format!("broker = {{ any_of = [{}] }}", keys.join(", "));
    danger(&with_line(DANGER, "broker", &field))
}

/// A policy with another line for one field.
fn with_line(text: &str, field: &str, line: &str) -> String {
    let lines = text.lines().map(|old| if old.starts_with(&format!("{field} = ")) { line } else { old });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn whose_word_the_guests_time_is_shows_in_the_verdict() {
    let nobodys = "the guest's time is untrusted: no broker gave it";
    let anybodys = "the guest's time is untrusted: a broker gave it that the policy does not name";
    let told = |guest: &Guest, policy: &AppraisalPolicy| {
        let result = verdict(&guest.document(), Some(&challenge()), policy);
        assert!(result.accepted(), "{:?}", failures(&result));
        [nobodys, anybodys].map(|line| {
            let told = result.assumptions.iter().any(|assumption| assumption.starts_with(line));
            assert_eq!((result.to_json().contains(line), result.to_ear().contains(line)), (told, told));
            told
        })
    };
    let (key, waiving) = (BrokerKey([0x0b; 32]), danger(DANGER));
    assert_eq!(told(&Guest::new(), &waiving), [true, false], "the log has no-volumes");
    assert_eq!(told(&guest_of_broker(key), &waiving), [false, true], "the policy names no broker");
    assert_eq!(told(&guest_of_broker(key), &naming(&[key])), [false, false]);
    // A guest may obey a broker and have no volumes: nobody gave it the time.
    let mut guest = guest_of_broker(key);
    guest.claims.volumes.clear();
    guest.events.splice(2..4, [RuntimeEvent::NoVolumes]);
    assert_eq!(told(&guest, &naming(&[key])), [true, false]);
}

#[test]
fn a_guest_of_a_broker_that_the_policy_does_not_name_is_refused_and_its_key_shown() {
    let (ours, hosts) = (BrokerKey([0x0b; 32]), BrokerKey([0x0c; 32]));
    let found = |guest: &Guest, policy: &AppraisalPolicy| {
        let result = verdict(&guest.document(), Some(&challenge()), policy);
        let check = result.checks.iter().find(|check| check.code == "guest_broker").unwrap();
        let failed: Vec<String> = failures(&result).into_iter().map(str::to_owned).collect();
        (failed, check.actual.to_string())
    };
    let refused = vec!["guest_broker".to_owned()];
    assert_eq!(found(&guest_of_broker(hosts), &naming(&[ours])), (refused.clone(), hosts.to_string()));
    assert_eq!(found(&guest_of_broker(hosts), &naming(&[])), (refused.clone(), hosts.to_string()));
    let (failed, none) = found(&Guest::new(), &naming(&[ours]));
    assert_eq!((failed, none.starts_with("none")), (refused.clone(), true), "{none}");
    let mut guest = guest_of_broker(ours);
    let RuntimeEvent::Boot(boot) = &mut guest.events[0] else { panic!("the first event is `boot`") };
    boot.broker_key = Some(vec![0x0b; 44].into());
    let (failed, other) = found(&guest, &naming(&[ours]));
    assert_eq!((failed, other.as_str()), (refused, "no Ed25519 key, but 44 other bytes"));
    // One of several, and any one, which the verdict shows.
    assert_eq!(found(&guest_of_broker(ours), &naming(&[hosts, ours])).0, Vec::<String>::new());
    assert_eq!(found(&guest_of_broker(hosts), &danger(DANGER)), (Vec::new(), hosts.to_string()));
}

#[test]
fn volumes_other_than_the_released_ones_are_refused() {
    for (open, released) in [(&["a", "b"][..], &["a", "b"][..]), (&["a", "b"], &["b", "a"]), (&[], &[])] {
        let document = guest_with_volumes(open, released).document();
        let result = verdict(&document, Some(&challenge()), &danger(DANGER));
        assert_eq!(result.code, None, "{open:?} {released:?}: {:?}", failures(&result));
    }
    for (open, released) in [
        (&["a", "b"][..], &["a"][..]),
        (&["a"], &["a", "b"]),
        (&["a"], &["b"]),
        (&["a"], &["a", "a"]),
        (&["a"], &[]),
        (&[], &["a"]),
    ] {
        let document = guest_with_volumes(open, released).document();
        let result = verdict(&document, Some(&challenge()), &danger(DANGER));
        assert_eq!(failures(&result), ["event_claims"], "{open:?} {released:?}");
        let check = result.checks.iter().find(|check| check.code == "event_claims").unwrap();
        assert_eq!(check.actual, "differing: released volumes");
    }
}

#[test]
fn a_debug_td_is_refused_and_mints_no_witness() {
    let mut guest = Guest::new();
    guest.measurements.td_attributes = [1, 0, 0, 0x10, 0, 0, 0, 0];
    let result = verdict(&guest.document(), Some(&challenge()), &danger(DANGER));
    assert_eq!(failures(&result), ["td_debug", "td_attributes"]);
}

#[test]
fn a_shared_quote_is_accepted_where_the_policy_says_so() {
    let mut guest = Guest::new();
    let leaves = vec![
        batch_leaf(&Bytes([0xaa; 32]), &Bytes([0xbb; 32])),
        batch_leaf(&Bytes(NONCE), &Bytes(EXPORTER)),
        batch_leaf(&Bytes([0xcc; 32]), &Bytes([0xdd; 32])),
    ];
    let tree = BatchTree::new(leaves).unwrap();
    guest.binding = Binding::Batch { root: tree.root(), tls_spki: Bytes(SPKI) };
    let mut document = guest.document();
    document.batch = tree.path(1);
    let result = verdict(&document, Some(&challenge()), &danger(DANGER));
    assert_eq!(result.code, None, "{:?}", failures(&result));
    document.batch = tree.path(0);
    let result = verdict(&document, Some(&challenge()), &danger(DANGER));
    assert!(failures(&result).contains(&"report_data"));
    let refusing = danger(&DANGER.replace("batch = \"accept\"", "batch = \"refuse\""));
    assert_eq!(verdict(&document, Some(&challenge()), &refusing).code, Some("challenge"));
}

/// What is wrong with a platform, and the code of the check that says so.
type Wrong = (&'static str, fn(&mut PlatformOptions));

/// One platform for each check that the TCB status rests on though every signature holds.
const UNFOUNDED: [Wrong; 4] = [
    ("validity", |options| options.windows.tcb_info.until = NOW - 1),
    ("fmspc", |options| options.tcb_info_fmspc = [7; 6]),
    ("qe_identity", |options| options.qe.isv_prod_id = 1),
    ("tdx_module_identity", |options| options.module_identities[0].mr_signer = [7; 48]),
];

#[test]
fn what_rests_on_no_failed_check_is_reported_and_mints_no_witness() {
    let policy = danger(DANGER);
    for (code, change) in UNFOUNDED {
        let mut options = PlatformOptions::at(NOW);
        change(&mut options);
        let mut guest = Guest::new();
        guest.platform = SimulatedPlatform::new(options).unwrap();
        guest.measurements.mrtd = [0xee; 48];
        guest.claims.engine.kind = "another".into();
        guest.events.pop();
        if let KeySet::Serving(keys) = &mut guest.keys {
            keys.not_after = NOW - 1;
        }
        let document = guest.document().encode().unwrap();
        let result = verdict_of(&document, Some(&challenge()), &policy);
        assert_eq!(failures(&result), [code, "mr_td", "key_set", "event_log", "engine_kind"], "{code}");
        assert_eq!((result.outcome, result.code), (Outcome::Rejected, Some(code)));
        assert_eq!(
            (result.tcb_status, &result.tcb_date, &result.valid_until),
            (None, &None, &None),
            "{code}"
        );
        let not_run = |check: &&confide_verifier::Check| check.status == confide_verifier::Status::NotRun;
        let not_run: Vec<&str> = result.checks.iter().filter(not_run).map(|check| check.code).collect();
        let module: &[&str] = if code == "fmspc" { &["tdx_module_identity"] } else { &[] };
        let levels = ["tcb_status", "present_tcb", "early_tcb_status"];
        let expected = [
            module,
            &levels,
            &["event_claims", "guest_broker"],
            &["device_rim", "device_measurements", "device_revocation", "device_hold"],
        ]
        .concat();
        assert_eq!(not_run, expected, "{code}");
        for passed in ["tcb_info_age", "sgx_type", "td_debug", "report_data", "device_report_signature"] {
            let check = result.checks.iter().find(|check| check.code == passed).unwrap();
            assert_eq!(check.status, confide_verifier::Status::Pass, "{code} {passed}");
        }
        let endorsements = Endorsements::default();
        let inputs = minting(&document, &endorsements, &policy);
        let rejection = appraise(&inputs, Challenge::serve(NONCE, EXPORTER, SPKI)).unwrap_err();
        assert_eq!(*rejection.result, result, "{code}");
    }
}

#[test]
fn a_platform_of_which_nothing_is_known_is_enough_to_refuse_a_document() {
    for (code, change) in UNFOUNDED {
        let mut options = PlatformOptions::at(NOW);
        change(&mut options);
        let mut guest = Guest::new();
        guest.platform = SimulatedPlatform::new(options).unwrap();
        let result = verdict(&guest.document(), Some(&challenge()), &danger(DANGER));
        assert_eq!((result.outcome, failures(&result)), (Outcome::Rejected, vec![code]));
    }
}

#[test]
fn bytes_behind_the_quote_or_the_document_are_refused() {
    let mut document = Guest::new().document();
    if let CpuEvidence::Tdx { quote } = &mut document.cpu {
        quote.0.push(0);
    }
    let result = verdict(&document, Some(&challenge()), &danger(DANGER));
    assert_eq!((result.outcome, result.code), (Outcome::Malformed, Some("quote_format")));
    let mut bytes = Guest::new().document().encode().unwrap();
    bytes.push(0);
    let result = verdict_of(&bytes, Some(&challenge()), &danger(DANGER));
    assert_eq!((result.outcome, result.code), (Outcome::Malformed, Some("document_format")));
}

#[test]
fn sev_snp_documents_are_unsupported() {
    let mut document = Guest::new().document();
    document.platform = Platform::SevSnp;
    document.cpu = CpuEvidence::SevSnp { report: ByteString(vec![0; 1184]), certificates: Vec::new() };
    let result = verdict(&document, Some(&challenge()), &danger(DANGER));
    assert_eq!((result.outcome, result.code), (Outcome::Unsupported, Some("document_platform")));
}

#[test]
fn a_waiver_of_the_binding_mints_no_witness_outside_a_danger_policy() {
    // The same waivers: a danger policy names itself in the verdict, an ordinary one is refused its witness.
    let waived =
        DANGER.replace("report_data = { from = \"document\" }", "report_data = { waive = \"a test\" }");
    let elsewhere = Challenge::serve(NONCE, EXPORTER, [0xee; 32]).recorded();
    let result = verdict(&Guest::new().document(), Some(&elsewhere), &danger(&waived));
    assert_eq!(result.code, None, "{:?}", failures(&result));
    let witness = result.checks.iter().find(|check| check.code == "witness").unwrap();
    assert_eq!(witness.status, confide_verifier::Status::Waived);
    assert!(witness.actual.contains("tdx.report_data"));
}

#[test]
fn every_field_of_a_document_is_covered() {
    // Each byte of the canonical document flipped: no flip is accepted, but of the line feeds between the certificates of
    // the quote's PCK chain, where other white space may stand as well (RFC 7468 section 3).
    let document = Guest::new().document();
    let stapled = document.endorsements.clone().unwrap();
    // The boot event log has a test of its own: what it says beside its digests is covered by nothing.
    let bare = EvidenceDocument { endorsements: None, boot_log: None, ..document };
    let bytes = bare.encode().unwrap();
    let policy = danger(&DANGER.replace("boot_log = \"required\"", "boot_log = \"when-given\""));
    let challenge = challenge();
    let prepared = PreparedCollateral::new(stapled.tdx.as_ref().unwrap(), &policy, &AWS);
    let accepted = |document: &[u8]| {
        let inputs = Inputs {
            subject: Subject::Document(document),
            endorsements: &stapled,
            prepared: Some(&prepared),
            prepared_devices: None,
            memo: None,
            second_opinion: None,
            references: None,
            policy: &policy,
            challenge: Some(&challenge),
            now: now(),
            algorithms: &AWS,
        };
        evaluate(&inputs).is_ok()
    };
    assert!(accepted(&bytes));
    let may_change: Vec<usize> = (0..bytes.len())
        .filter(|at| {
            let mut changed = bytes.clone();
            changed[*at] ^= 1;
            accepted(&changed)
        })
        .collect();
    let between = may_change.iter().filter(|at| {
        let (before, rest) = bytes.split_at(**at);
        before.ends_with(b"-----END CERTIFICATE-----") && rest.starts_with(b"\n")
    });
    assert_eq!(between.count(), may_change.len(), "{may_change:?} of {} may change", bytes.len());
    assert!(may_change.len() <= 3, "{may_change:?}");
}

#[test]
fn an_appraisal_verifies_as_many_signatures_as_the_page_of_limits_says() {
    let guest = Guest::new();
    let policy = danger(DANGER);
    let count = |devices: u64, early: bool| {
        let device = |index| Guest::device(&SimulatedGpu::new(7 + index).unwrap(), &guest.binding);
        let mut document = guest.document_of((0..devices).map(device).collect());
        let tdx = document.endorsements.as_mut().unwrap().tdx.as_mut().unwrap();
        tdx.early = early.then(|| tdx.clone().into_early());
        let bytes = document.encode().unwrap();
        let appraise = || {
            let inputs = Inputs {
                subject: Subject::Document(&bytes),
                endorsements: &Endorsements::default(),
                prepared: None,
                prepared_devices: None,
                memo: None,
                second_opinion: None,
                references: None,
                policy: &policy,
                challenge: Some(&challenge()),
                now: now(),
                algorithms: &COUNTING,
            };
            let result = evaluate(&inputs).unwrap_or_else(|rejection| *rejection.result);
            assert_eq!(
                result.checks.iter().find(|check| check.code == "quote_signature").unwrap().status,
                Status::Pass
            );
        };
        verifications(appraise)
    };
    let early = count(0, true);
    assert_eq!(early, count(0, false) + 2);
    // The simulator signs QE identity with the certificate that signs TCB info: another one is one more.
    assert_eq!(early + 1, documented("signature verifications of a TDX quote with its collateral"));
    let of_each = documented("signature verifications of a GPU or switch");
    for devices in [1, 2, 3] {
        // Provisioner, identity and root are those of the first.
        let shared = 3 * (devices - 1);
        assert_eq!(
            count(devices, true),
            early + usize::try_from(devices).unwrap() * of_each - usize::try_from(shared).unwrap()
        );
    }
    let endorsements = documented("signature verifications of NVIDIA's endorsements");
    let whole = early + 1 + MAX_DEVICES * of_each + endorsements;
    assert_eq!(whole, documented("signature verifications of an evidence document"));
}
