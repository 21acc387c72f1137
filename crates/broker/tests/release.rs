//! From a challenge to opened secrets, and everything that must not get that far.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, reason = "tests")]

mod support;

use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;

use confide_broker::audit::{self, Entry, Fault, Note, What};
use confide_broker::store::{Change, StoreError};
use confide_broker::{Broker, DangerPolicies};
use confide_evidence::bytes::Bytes;
use confide_evidence::document::KeySet;
use confide_evidence::event::RuntimeEvent;
use confide_evidence::record::Record;
use confide_evidence::transcript::Binding;
use confide_release::{Failure, Formatted, Profile, ReleaseRequest};
use support::*;

/// A home with the volume `model`, a broker on it, and a guest that knows it.
async fn ready() -> (Home, Broker, Guest) {
    let home = Home::new();
    add_model(&home.owner().await).await;
    let (broker, guest) = (home.broker().await, Guest::new(&home.identity()));
    (home, broker, guest)
}

async fn entries(home: &Home) -> Vec<Entry> {
    let entries = home.store().await.entries(0).await.unwrap();
    entries.iter().map(|(_, _, bytes)| Entry::decode(bytes).unwrap()).collect()
}

#[tokio::test]
async fn an_attested_guest_gets_its_keys_and_the_log_says_why() {
    let (home, broker, guest) = ready().await;
    let secrets = guest.ask(&broker, &home.identity(), &["model"]).await.unwrap();
    let [(name, model)] = &secrets[..] else { panic!("{secrets:?}") };
    assert_eq!(name.as_str(), "model");
    assert_eq!((model.profile, model.size), (Profile::Model, 1 << 20));
    assert_eq!(model.verity.unwrap().root, Bytes([8; 32]));
    let [version] = &model.versions[..] else { panic!("{model:?}") };
    assert_eq!((version.generation, version.header), (1, Some(Bytes([1; 32]))));
    assert_eq!(version.secret.expose(), &[1; 64]);
    let entries = entries(&home).await;
    let [added, released] = &entries[..] else { panic!("{entries:?}") };
    assert_eq!((added.what, released.what), (What::VolumeAdded, What::Released));
    assert_eq!(released.volumes, [("model".to_owned(), vec![1])]);
    assert_eq!((released.boot_id, released.peer.as_deref()), (Some(Bytes([0x0b; 16])), Some("127.0.0.1")));
    let record = home.store().await.record(&released.records[0]).await.unwrap().unwrap();
    let record = Record::decode(&record).unwrap();
    assert!(record.outcome.unwrap().contains("\"outcome\":\"accepted\""));
    let verified = audit::verify(&home.store().await, None).await.unwrap().unwrap();
    assert_eq!((verified.count, verified.records), (2, 1));
}

#[tokio::test]
async fn a_request_that_is_sent_again_is_refused() {
    let (home, broker, guest) = ready().await;
    let nonce = broker.challenge(PEER).await.unwrap().nonce;
    let request = guest.request(&nonce, &["model"]).encode();
    broker.release(&request, PEER).await.unwrap();
    let denial = broker.release(&request, PEER).await.unwrap_err();
    assert_eq!((denial.status.as_u16(), code(&denial)), (403, "challenge_unknown"));
    let last = entries(&home).await.pop().unwrap();
    assert_eq!((last.what, last.code.as_deref()), (What::Refused, Some("challenge_unknown")));
}

#[tokio::test]
async fn a_challenge_is_used_up_by_a_refused_request_too() {
    let (_home, broker, guest) = ready().await;
    let nonce = broker.challenge(PEER).await.unwrap().nonce;
    let denial = broker.release(&guest.request(&nonce, &["other"]).encode(), PEER).await.unwrap_err();
    assert_eq!(code(&denial), "volume_unknown");
    let denial = broker.release(&guest.request(&nonce, &["model"]).encode(), PEER).await.unwrap_err();
    assert_eq!(code(&denial), "challenge_unknown");
}

#[tokio::test]
async fn a_nonce_that_was_never_drawn_is_refused() {
    let (_home, broker, guest) = ready().await;
    let denial =
        broker.release(&guest.request(&Bytes([3; 32]), &["model"]).encode(), PEER).await.unwrap_err();
    assert_eq!(code(&denial), "challenge_unknown");
}

#[tokio::test]
async fn evidence_for_another_challenge_is_refused() {
    let (_home, broker, guest) = ready().await;
    let (one, other) =
        (broker.challenge(PEER).await.unwrap().nonce, broker.challenge(PEER).await.unwrap().nonce);
    let request = ReleaseRequest { nonce: other, ..guest.request(&one, &["model"]) };
    let denial = broker.release(&request.encode(), PEER).await.unwrap_err();
    assert_eq!((denial.status.as_u16(), code(&denial)), (403, "report_data"));
    assert!(denial.refusal.error.expected.is_some() && denial.refusal.error.actual.is_some());
}

#[tokio::test]
async fn a_challenge_is_over_after_its_time() {
    let home = Home::new();
    add_model(&home.owner().await).await;
    let broker = home.broker_with("[limits]\nchallenge_seconds = 1").await;
    let guest = Guest::new(&home.identity());
    let nonce = broker.challenge(PEER).await.unwrap().nonce;
    tokio::time::sleep(std::time::Duration::from_millis(2100)).await;
    let denial = broker.release(&guest.request(&nonce, &["model"]).encode(), PEER).await.unwrap_err();
    assert_eq!(code(&denial), "challenge_expired");
}

#[tokio::test]
async fn another_configuration_is_refused_by_the_name_of_its_rule() {
    let (home, broker, _) = ready().await;
    let guest = Guest::with(Some(home.identity().public().to_der()), Bytes([9; 32]));
    let denial = guest.ask(&broker, &home.identity(), &["model"]).await.unwrap_err();
    assert_eq!((denial.status.as_u16(), code(&denial)), (403, "configuration"));
    assert!(denial.refusal.error.actual.as_ref().unwrap().contains(&"09".repeat(32)), "{denial:?}");
    let last = entries(&home).await.pop().unwrap();
    assert_eq!((last.what, last.records.len()), (What::Refused, 1));
    audit::verify(&home.store().await, None).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_guest_that_measured_another_broker_or_none_is_refused() {
    let (home, broker, _) = ready().await;
    let other = Home::new().identity().public().to_der();
    for key in [Some(other), None] {
        let guest = Guest::with(key, configuration());
        let denial = guest.ask(&broker, &home.identity(), &["model"]).await.unwrap_err();
        assert_eq!((denial.status.as_u16(), code(&denial)), (403, "broker_key"));
    }
}

#[tokio::test]
async fn evidence_of_the_role_serve_is_refused() {
    let (_home, broker, guest) = ready().await;
    let nonce = broker.challenge(PEER).await.unwrap().nonce;
    guest.attester.measure(RuntimeEvent::NoVolumes).unwrap();
    let model = confide_evidence::event::LoadedModel { manifest: guest.claims.model.manifest };
    guest.attester.measure(RuntimeEvent::Model(model)).unwrap();
    guest.attester.measure(RuntimeEvent::Devices(guest.attester.devices_in_use())).unwrap();
    guest.attester.measure(RuntimeEvent::Open).unwrap();
    let claims = confide_evidence::document::Claims {
        egress: confide_evidence::document::Egress {
            mode: confide_evidence::document::EgressMode::Open,
            ..guest.claims.egress.clone()
        },
        ..guest.claims.clone()
    };
    let binding = Binding::Serve { nonce, exporter: Bytes([1; 32]), tls_spki: Bytes([2; 32]) };
    let keys = KeySet::Recipient(guest.recipient.public().clone());
    let document = guest.attester.attest(&binding, &keys, &claims).unwrap();
    let document = document.encode().unwrap().into();
    let request = ReleaseRequest { nonce, volumes: vec![id("model")], document };
    let denial = broker.release(&request.encode(), PEER).await.unwrap_err();
    assert_eq!(code(&denial), "report_data");
}

#[tokio::test]
async fn evidence_with_a_batch_path_is_refused() {
    use confide_evidence::transcript::BatchTree;
    let (_home, broker, guest) = ready().await;
    let nonce = broker.challenge(PEER).await.unwrap().nonce;
    let mut document = guest.evidence(&nonce);
    document.batch = BatchTree::new(vec![Bytes([1; 64]), Bytes([2; 64])]).unwrap().path(0);
    let document = document.encode().unwrap().into();
    let request = ReleaseRequest { nonce, volumes: vec![id("model")], document };
    let denial = broker.release(&request.encode(), PEER).await.unwrap_err();
    assert_eq!(code(&denial), "challenge");
}

#[tokio::test]
async fn after_released_nothing_can_ask_for_keys_again() {
    let (home, broker, guest) = ready().await;
    let released = confide_evidence::event::Released { volumes: vec!["model".to_owned()] };
    guest.attester.measure(RuntimeEvent::Released(released)).unwrap();
    let nonce = broker.challenge(PEER).await.unwrap().nonce;
    // The attester refuses by itself; a compromised one leaves the event out of its log.
    let keys = KeySet::Recipient(guest.recipient.public().clone());
    assert!(guest.attester.attest(&Binding::KeyRelease { nonce }, &keys, &guest.claims).is_err());
    let fresh = Guest::new(&home.identity());
    let mut document = fresh.evidence(&nonce);
    let mut events = confide_evidence::event::EventLog::new();
    for event in document.events.events() {
        events.push(event.clone()).unwrap();
    }
    events
        .push(RuntimeEvent::Released(confide_evidence::event::Released { volumes: vec!["model".to_owned()] }))
        .unwrap();
    document.events = events;
    let document = document.encode().unwrap().into();
    let request = ReleaseRequest { nonce, volumes: vec![id("model")], document };
    let denial = broker.release(&request.encode(), PEER).await.unwrap_err();
    assert_eq!(code(&denial), "rtmr3");
}

#[tokio::test]
async fn every_policy_of_the_volumes_that_are_asked_for_must_accept() {
    let (home, broker, guest) = ready().await;
    let owner = home.owner().await;
    let other = policy_for(&Bytes([4; 32]));
    owner.add(&id("secret"), Profile::State, &state_image(), &other).await.unwrap();
    let denial = guest.ask(&broker, &home.identity(), &["model", "secret"]).await.unwrap_err();
    assert_eq!(code(&denial), "configuration");
    owner.set_policy(&id("secret"), &policy()).await.unwrap();
    assert_eq!(guest.ask(&broker, &home.identity(), &["model", "secret"]).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_revoked_volume_is_released_no_more() {
    let (home, broker, guest) = ready().await;
    home.owner().await.revoke(&id("model")).await.unwrap();
    let denial = guest.ask(&broker, &home.identity(), &["model"]).await.unwrap_err();
    assert_eq!((denial.status.as_u16(), code(&denial)), (403, "volume_revoked"));
    assert_eq!(home.owner().await.revoke(&id("model")).await.unwrap_err().code(), "volume_revoked");
    let again = home.owner().await.add(&id("model"), Profile::Model, &model_image(2), &policy()).await;
    assert_eq!(again.unwrap_err().code(), "volume_name_taken");
}

#[tokio::test]
async fn a_danger_policy_is_taken_only_where_the_broker_was_told_so() {
    let (home, _, guest) = ready().await;
    let broker = Broker::open(&home.config(""), DangerPolicies::Refused).await.unwrap();
    let denial = guest.ask(&broker, &home.identity(), &["model"]).await.unwrap_err();
    assert_eq!((denial.status.as_u16(), code(&denial)), (403, "danger_policy"));
}

#[tokio::test]
async fn simulated_evidence_gets_nothing_by_the_built_in_policy() {
    let (home, broker, guest) = ready().await;
    home.owner().await.set_policy(&id("model"), confide_policy::KEY_RELEASE).await.unwrap();
    let denial = guest.ask(&broker, &home.identity(), &["model"]).await.unwrap_err();
    assert_eq!(denial.status.as_u16(), 403);
    assert_eq!(code(&denial), "root_anchor");
}

#[tokio::test]
async fn bodies_that_are_cut_trailed_or_of_another_kind_are_refused() {
    let (_home, broker, guest) = ready().await;
    let nonce = broker.challenge(PEER).await.unwrap().nonce;
    let whole = guest.request(&nonce, &["model"]).encode();
    let bodies = [
        vec![],
        b"{}".to_vec(),
        whole[..whole.len() - 1].to_vec(),
        whole[..60].to_vec(),
        [whole.clone(), vec![0]].concat(),
        guest.request(&nonce, &[]).encode(),
        guest.request(&nonce, &["model", "model"]).encode(),
        Failure::new("x", Bytes([0; 16]), "y").encode(),
    ];
    for body in bodies {
        let denial = broker.release(&body, PEER).await.unwrap_err();
        assert_eq!((denial.status.as_u16(), code(&denial)), (400, "release_request_malformed"));
        let failed = broker.failure(&body[..body.len().min(20)], PEER).await.unwrap_err();
        assert_eq!((failed.status.as_u16(), code(&failed)), (400, "message_malformed"));
        assert_eq!(code(&broker.formatted(&body, PEER).await.unwrap_err()), "message_malformed");
    }
    // None of them has used the challenge up.
    broker.release(&whole, PEER).await.unwrap();
    let rest = ReleaseRequest { document: vec![1, 2, 3].into(), ..guest.request(&nonce, &["model"]) };
    let rest = ReleaseRequest { nonce: broker.challenge(PEER).await.unwrap().nonce, ..rest };
    assert_eq!(code(&broker.release(&rest.encode(), PEER).await.unwrap_err()), "document_format");
}

#[tokio::test]
async fn a_guest_formats_its_volume_once() {
    let home = Home::new();
    let owner = home.owner().await;
    owner.add(&id("state"), Profile::State, &state_image(), &policy()).await.unwrap();
    let (broker, guest) = (home.broker().await, Guest::new(&home.identity()));
    let secrets = guest.ask(&broker, &home.identity(), &["state"]).await.unwrap();
    let token = secrets[0].1.format_token.unwrap();
    assert_eq!(secrets[0].1.versions[0].header, None);
    let report =
        |token, header| Formatted { token, header: Bytes([header; 32]), volume: id("state") }.encode();
    let denial = broker.formatted(&report(Bytes([0; 32]), 1), PEER).await.unwrap_err();
    assert_eq!((denial.status.as_u16(), code(&denial)), (403, "format_token"));
    broker.formatted(&report(token, 1), PEER).await.unwrap();
    // The answer was lost, and the guest tells it again; another guest tells something else.
    broker.formatted(&report(token, 1), PEER).await.unwrap();
    let denial = broker.formatted(&report(token, 2), PEER).await.unwrap_err();
    assert_eq!((denial.status.as_u16(), code(&denial)), (409, "formatted_otherwise"));
    let secrets = guest.ask(&broker, &home.identity(), &["state"]).await.unwrap();
    assert_eq!(secrets[0].1.format_token, None);
    assert_eq!(secrets[0].1.versions[0].header, Some(Bytes([1; 32])));
    assert_eq!(secrets[0].1.versions[0].secret.expose(), &[5; 64]);
    let denial = broker
        .formatted(&Formatted { token, header: Bytes([1; 32]), volume: id("other") }.encode(), PEER)
        .await
        .unwrap_err();
    assert_eq!(code(&denial), "format_token");
}

#[tokio::test]
async fn while_a_rotation_is_open_both_versions_are_released_and_then_the_new_one_alone() {
    let (home, broker, guest) = ready().await;
    let owner = home.owner().await;
    let (old, new) = (Bytes([1; 32]), Bytes([2; 32]));
    let standing = owner.begin(&id("model"), &old).await.unwrap();
    assert_eq!(standing.secret.expose(), &[1; 64]);
    assert_eq!(owner.prepare(&standing.volume, &new, &secret(2)).await.unwrap(), 2);
    let both = guest.ask(&broker, &home.identity(), &["model"]).await.unwrap();
    let generations: Vec<u64> = both[0].1.versions.iter().map(|version| version.generation).collect();
    assert_eq!(generations, [1, 2]);
    assert_eq!(owner.begin(&id("model"), &old).await.unwrap_err().code(), "rotation_open");
    // The image that the owner has at hand is still the old one: nothing was written.
    assert_eq!(owner.commit(&id("model"), &old).await.unwrap_err().code(), "volume_header");
    assert_eq!(owner.commit(&id("model"), &new).await.unwrap(), 2);
    assert_eq!(owner.commit(&id("model"), &new).await.unwrap(), 2, "once more changes nothing");
    let one = guest.ask(&broker, &home.identity(), &["model"]).await.unwrap();
    let [version] = &one[0].1.versions[..] else { panic!("{one:?}") };
    assert_eq!((version.generation, version.header), (2, Some(new)));
    assert_eq!(version.secret.expose(), &[2; 64]);
}

#[tokio::test]
async fn an_image_that_a_rotation_has_replaced_is_refused_as_rolled_back() {
    let (home, _, _) = ready().await;
    let owner = home.owner().await;
    let (old, new) = (Bytes([1; 32]), Bytes([2; 32]));
    let standing = owner.begin(&id("model"), &old).await.unwrap();
    owner.prepare(&standing.volume, &new, &secret(2)).await.unwrap();
    owner.commit(&id("model"), &new).await.unwrap();
    assert_eq!(owner.begin(&id("model"), &old).await.unwrap_err().code(), "volume_rolled_back");
    assert_eq!(owner.commit(&id("model"), &old).await.unwrap_err().code(), "volume_rolled_back");
    assert_eq!(owner.begin(&id("model"), &Bytes([3; 32])).await.unwrap_err().code(), "volume_header");
    let volume = owner.volume(&id("model")).await.unwrap();
    assert_eq!(volume.versions[0].secret, None, "the secret of the old version is forgotten");
    // An old header is never prepared again, either.
    assert_eq!(owner.prepare(&volume, &old, &secret(1)).await.unwrap_err().code(), "volume_header");
}

#[tokio::test]
async fn a_rotation_that_is_given_up_leaves_the_committed_version() {
    let (home, broker, guest) = ready().await;
    let owner = home.owner().await;
    let standing = owner.begin(&id("model"), &Bytes([1; 32])).await.unwrap();
    owner.prepare(&standing.volume, &Bytes([2; 32]), &secret(2)).await.unwrap();
    owner.abandon(&id("model"), 2).await.unwrap();
    assert_eq!(owner.abandon(&id("model"), 2).await.unwrap_err().code(), "rotation_missing");
    assert_eq!(owner.commit(&id("model"), &Bytes([2; 32])).await.unwrap_err().code(), "volume_rolled_back");
    let one = guest.ask(&broker, &home.identity(), &["model"]).await.unwrap();
    assert_eq!(one[0].1.versions.len(), 1);
    let standing = owner.begin(&id("model"), &Bytes([1; 32])).await.unwrap();
    assert_eq!(owner.prepare(&standing.volume, &Bytes([3; 32]), &secret(3)).await.unwrap(), 3);
}

#[tokio::test]
async fn the_rotation_of_somebody_else_is_neither_given_up_nor_committed() {
    let (home, _, _) = ready().await;
    let (one, two) = (home.owner().await, home.owner().await);
    let (old, first, second) = (Bytes([1; 32]), Bytes([2; 32]), Bytes([3; 32]));
    let standing = one.begin(&id("model"), &old).await.unwrap();
    assert_eq!(one.prepare(&standing.volume, &first, &secret(2)).await.unwrap(), 2);
    // Another run takes it for an interrupted one, and begins its own.
    two.abandon(&id("model"), 2).await.unwrap();
    let standing = two.begin(&id("model"), &old).await.unwrap();
    assert_eq!(two.prepare(&standing.volume, &second, &secret(3)).await.unwrap(), 3);
    let refused = one.commit(&id("model"), &first).await.unwrap_err();
    assert_eq!(refused.code(), "volume_rolled_back");
    assert!(refused.to_string().contains("generation 2 of model was given up"), "{refused}");
    assert_eq!(one.abandon(&id("model"), 2).await.unwrap_err().code(), "rotation_missing");
    // Nor by a statement that is of a generation which is not the prepared one.
    let (store, volume) = (home.store().await, one.volume(&id("model")).await.unwrap());
    for change in [Change::Commit(&volume, 2, 1), Change::Abandon(&volume, 2, 1)] {
        let refused = store.append(Note::new(What::RotationCommitted, 1), &[], &change).await.unwrap_err();
        assert!(matches!(refused, StoreError::Conflict), "{change:?}: {refused}");
    }
    assert_eq!(two.commit(&id("model"), &second).await.unwrap(), 3);
}

#[tokio::test]
async fn a_reported_failure_is_noted_as_what_somebody_says() {
    let (home, broker, _) = ready().await;
    let failure = Failure::new("volume_rolled_back", Bytes([6; 16]), "the header is an old one");
    broker.failure(&failure.encode(), PEER).await.unwrap();
    let last = entries(&home).await.pop().unwrap();
    assert_eq!(last.what, What::FailureReported);
    assert_eq!((last.code.as_deref(), last.boot_id), (Some("volume_rolled_back"), Some(Bytes([6; 16]))));
}

#[tokio::test]
async fn as_many_challenges_are_open_as_may_be() {
    let home = Home::new();
    let broker = home.broker_with("[limits]\nchallenges = 2").await;
    let [one, other, third] = [1, 2, 3].map(|number| IpAddr::V4([198, 51, 100, number].into()));
    broker.challenge(one).await.unwrap();
    broker.challenge(other).await.unwrap();
    let denial = broker.challenge(third).await.unwrap_err();
    assert_eq!((denial.status.as_u16(), code(&denial)), (503, "challenges_exhausted"));
    assert!(denial.retry_after.is_some());
}

#[tokio::test]
async fn another_key_encryption_key_is_found_before_it_does_anything() {
    let (home, broker, _) = ready().await;
    broker.ready().await.unwrap();
    home.secret("kek", &[8; 32]);
    let error = Broker::open(&home.config(""), DangerPolicies::Taken).await.map(|_| ()).unwrap_err();
    assert_eq!(error.code(), "kek_wrong");
    let store = home.store().await;
    let kek = home.config("").kek.kek().unwrap();
    let error = confide_broker::owner::Owner::new(store, kek).await.map(|_| ()).unwrap_err();
    assert_eq!(error.code(), "kek_wrong");
}

#[tokio::test]
async fn the_database_holds_no_secret_in_the_clear() {
    let (home, broker, guest) = ready().await;
    home.owner().await.add(&id("state"), Profile::State, &state_image(), &policy()).await.unwrap();
    let secrets = guest.ask(&broker, &home.identity(), &["state"]).await.unwrap();
    let token = secrets[0].1.format_token.unwrap();
    drop(broker);
    for entry in std::fs::read_dir(home.folder.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_string_lossy().starts_with("broker.db") {
            let bytes = std::fs::read(&path).unwrap();
            let holds = |secret: &[u8]| bytes.windows(16).any(|window| window == secret);
            assert!(!holds(&[5; 16]) && !holds(&token.0[..16]), "{}", path.display());
            let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{}", path.display());
        }
    }
}

/// Changes the database with SQL of its own, and says what the log is found to be.
async fn tampered(home: &Home, statement: &'static str) -> Fault {
    sqlx::any::install_default_drivers();
    let pool = sqlx::AnyPool::connect(&home.url).await.unwrap();
    let done = sqlx::query(statement).execute(&pool).await.unwrap();
    assert!(done.rows_affected() > 0, "{statement}");
    pool.close().await;
    audit::verify(&home.store().await, None).await.unwrap().unwrap_err()
}

#[tokio::test]
async fn a_log_that_somebody_has_changed_does_not_hold() {
    for (statement, expected) in [
        ("DELETE FROM audit WHERE seq = 1", "stands in the place of"),
        ("DELETE FROM records", "is missing or was changed"),
        ("UPDATE records SET record = substr(record, 2)", "is missing or was changed"),
        ("UPDATE audit SET hash = (SELECT hash FROM audit WHERE seq = 0) WHERE seq = 1", "does not follow"),
        (
            "UPDATE audit SET entry = (SELECT entry FROM audit WHERE seq = 0) WHERE seq = 1",
            "stands in the place of",
        ),
        ("UPDATE audit SET seq = 9 WHERE seq = 2", "stands in the place of"),
        ("UPDATE audit SET entry = substr(entry, 2) WHERE seq = 0", "is none"),
    ] {
        let (home, broker, guest) = ready().await;
        guest.ask(&broker, &home.identity(), &["model"]).await.unwrap();
        guest.ask(&broker, &home.identity(), &["model"]).await.unwrap();
        let fault = tampered(&home, statement).await.to_string();
        assert!(fault.contains(expected), "{statement}: {fault}");
    }
}

#[tokio::test]
async fn a_log_that_was_truncated_or_written_anew_shows_against_a_head() {
    let (home, broker, guest) = ready().await;
    guest.ask(&broker, &home.identity(), &["model"]).await.unwrap();
    let store = home.store().await;
    let found = audit::verify(&store, None).await.unwrap().unwrap();
    let identity = home.identity();
    let input = audit::SignedHead::signing_input(&found.last, 1, found.count);
    let (last, count, signature) = (found.last, found.count, identity.sign(&input));
    let head = audit::SignedHead { last, time: 1, count, signature };
    assert!(audit::SignedHead { count: 1, ..head.clone() }.signed_by(identity.public()).is_none());
    assert!(head.clone().signed_by(Home::new().identity().public()).is_none());
    let head = head.signed_by(identity.public()).unwrap();
    audit::verify(&store, Some(&head)).await.unwrap().unwrap();
    // What comes later leaves the head valid.
    guest.ask(&broker, &home.identity(), &["model"]).await.unwrap();
    audit::verify(&store, Some(&head)).await.unwrap().unwrap();
    let rewritten = audit::SignedHead { last: Bytes([1; 32]), ..head.clone() };
    let fault = audit::verify(&store, Some(&rewritten)).await.unwrap().unwrap_err();
    assert_eq!(fault, Fault::Rewritten(1));
    let longer = audit::SignedHead { count: 9, ..head };
    let fault = audit::verify(&store, Some(&longer)).await.unwrap().unwrap_err();
    assert_eq!(fault, Fault::Truncated { expected: 9, found: 3 });
}
