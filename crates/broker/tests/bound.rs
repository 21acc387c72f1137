//! What somebody can do who writes to the database and has not the key-encryption key.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, reason = "tests")]

mod support;

use confide_broker::audit::{self, Entry, Fault, Note, What};
use confide_broker::store::Change;
use confide_evidence::bytes::{Bytes, Digest};
use confide_release::Profile;
use support::postgres::Postgres;
use support::*;

/// Changes the database.
async fn sql(home: &Home, statement: &'static str) {
    sqlx::any::install_default_drivers();
    let pool = sqlx::AnyPool::connect(&home.url).await.unwrap();
    let done = sqlx::query(statement).execute(&pool).await.unwrap();
    assert!(done.rows_affected() > 0, "{statement}");
    pool.close().await;
}

async fn entries(home: &Home) -> Vec<Entry> {
    let entries = home.store().await.entries(0).await.unwrap();
    entries.iter().map(|(_, _, bytes)| Entry::decode(bytes).unwrap()).collect()
}

/// After `statement` the volumes `model` and `state` are not released together, though each policy accepts the guest.
async fn releases_nothing(home: &Home, statement: &'static str) {
    sql(home, statement).await;
    let (broker, guest) = (home.broker().await, Guest::new(&home.identity()));
    let denial = guest.ask(&broker, &home.identity(), &["model", "state"]).await.unwrap_err();
    assert_eq!((denial.status.as_u16(), code(&denial)), (500, "broker_fault"), "{statement}");
    assert!(entries(home).await.iter().all(|entry| entry.what != What::Released), "{statement}");
}

async fn two_volumes(home: &Home) {
    let owner = home.owner().await;
    add_model(&owner).await;
    owner.add(&id("state"), Profile::State, &state_image(), &policy()).await.unwrap();
}

const POLICY: &str =
    "UPDATE volumes SET policy = replace(policy, 'danger-key-release', 'danger-other') WHERE id = 'model'";
const SIZE: &str = "UPDATE volumes SET size = 2097152 WHERE id = 'state'";

#[tokio::test]
async fn a_row_that_was_changed_releases_nothing() {
    for statement in [
        POLICY,
        SIZE,
        "UPDATE volumes SET profile = 'model' WHERE id = 'state'",
        "UPDATE volumes SET verity_root = verity_salt WHERE id = 'model'",
        "UPDATE volumes SET verity_salt = verity_root WHERE id = 'model'",
        "UPDATE volumes SET verity_blocks = 1 WHERE id = 'model'",
        "UPDATE volumes SET verity_root = NULL, verity_salt = NULL, verity_blocks = NULL WHERE id = 'model'",
        "UPDATE volumes SET format_digest = (SELECT verity_root FROM volumes WHERE id = 'model') WHERE id = 'state'",
        "UPDATE versions SET header = (SELECT verity_root FROM volumes WHERE id = 'model')",
        "UPDATE versions SET header = NULL WHERE volume = 'model'",
        "UPDATE versions SET generation = 7 WHERE volume = 'model'",
        "UPDATE volumes SET format_token = (SELECT secret FROM versions WHERE volume = 'state') WHERE id = 'state'",
        "UPDATE versions SET secret = (SELECT secret FROM versions WHERE volume = 'model')",
    ] {
        let home = Home::new();
        two_volumes(&home).await;
        releases_nothing(&home, statement).await;
    }
    let Some(server) = Postgres::start("changed rows on PostgreSQL") else { return };
    let home = Home::with(server.url());
    two_volumes(&home).await;
    releases_nothing(&home, POLICY).await;
    releases_nothing(&home, SIZE).await;
}

#[tokio::test]
async fn a_revocation_that_is_taken_back_in_the_database_releases_nothing() {
    let home = Home::new();
    two_volumes(&home).await;
    home.owner().await.revoke(&id("model")).await.unwrap();
    releases_nothing(&home, "UPDATE volumes SET revoked_at = NULL").await;
    // What does not open can be revoked all the same.
    home.owner().await.revoke(&id("model")).await.unwrap();
}

#[tokio::test]
async fn what_the_owner_changes_is_sealed_for_it() {
    let home = Home::new();
    two_volumes(&home).await;
    let (owner, broker, guest) = (home.owner().await, home.broker().await, Guest::new(&home.identity()));
    let standing = owner.begin(&id("model"), &Bytes([1; 32])).await.unwrap();
    owner.prepare(&standing.volume, &Bytes([2; 32]), &secret(2)).await.unwrap();
    let other = policy().replace("danger-key-release", "danger-other");
    for volume in ["model", "state"] {
        owner.set_policy(&id(volume), &other).await.unwrap();
    }
    let secrets = guest.ask(&broker, &home.identity(), &["model", "state"]).await.unwrap();
    let generations: Vec<u64> = secrets[0].1.versions.iter().map(|version| version.generation).collect();
    assert_eq!(generations, [1, 2]);
    assert_eq!(secrets[0].1.versions[1].secret.expose(), &[2; 64]);
    assert!(secrets[1].1.format_token.is_some());
    audit::verify(&home.store().await, None).await.unwrap().unwrap();
}

#[tokio::test]
async fn volumes_that_are_otherwise_than_the_log_says_are_found() {
    for (statement, expected) in [
        (POLICY, "the policy is another one"),
        ("UPDATE volumes SET revoked_at = 1 WHERE id = 'model'", "revoked in one of them alone"),
        ("UPDATE versions SET generation = 4 WHERE volume = 'model'", "generations are other ones"),
        ("DELETE FROM versions", "generations are other ones"),
    ] {
        let home = Home::new();
        two_volumes(&home).await;
        audit::verify(&home.store().await, None).await.unwrap().unwrap();
        sql(&home, statement).await;
        let fault = audit::verify(&home.store().await, None).await.unwrap().unwrap_err();
        assert!(matches!(fault, Fault::Volume(..)) && fault.to_string().contains(expected), "{fault}");
    }
    let home = Home::new();
    two_volumes(&home).await;
    sql(&home, "DELETE FROM versions").await;
    sql(&home, "DELETE FROM volumes").await;
    let fault = audit::verify(&home.store().await, None).await.unwrap().unwrap_err();
    assert_eq!(fault, Fault::Volume("model".to_owned(), "the database has none"));
}

/// Makes a note tell something else.
type Forge = fn(Note, Digest) -> Note;

/// Appends a note to the log of a broker that has released `model` once, and gives the fault that is found.
async fn forged(forge: impl AsyncFnOnce(&Home, Note) -> Note) -> Fault {
    let home = Home::new();
    two_volumes(&home).await;
    let (broker, guest) = (home.broker().await, Guest::new(&home.identity()));
    guest.ask(&broker, &home.identity(), &["model"]).await.unwrap();
    let store = home.store().await;
    audit::verify(&store, None).await.unwrap().unwrap();
    let released = entries(&home).await.pop().unwrap();
    let record = store.record(&released.records[0]).await.unwrap().unwrap();
    let note = Note {
        nonce: released.nonce,
        boot_id: released.boot_id,
        volumes: released.volumes,
        document: released.document,
        ..Note::new(What::Released, released.time)
    };
    let note = forge(&home, note).await;
    store.append(note, &[record], &Change::None).await.unwrap();
    audit::verify(&store, None).await.unwrap().unwrap_err()
}

#[tokio::test]
async fn a_release_is_held_against_the_record_that_explains_it() {
    let other: Digest = Bytes([9; 32]);
    let cases: [(Forge, &str); 5] = [
        (|note, other| Note { document: Some(other), ..note }, "another evidence document"),
        (|note, other| Note { nonce: Some(other), ..note }, "another challenge"),
        (|note, _| Note { nonce: None, ..note }, "another challenge"),
        (|note, _| Note { time: note.time + 1, ..note }, "another time"),
        (|note, _| Note { boot_id: Some(Bytes([7; 16])), ..note }, "another boot"),
    ];
    for (change, expected) in cases {
        let fault = forged(async |_, note| change(note, other)).await;
        assert!(matches!(fault, Fault::Foreign(3, ..)) && fault.to_string().contains(expected), "{fault}");
    }
}

#[tokio::test]
async fn a_release_is_held_against_what_was_in_force() {
    let of = |volume: &str, generations: &[u64]| vec![(volume.to_owned(), generations.to_vec())];
    for (volumes, expected) in [
        (of("model", &[2]), "other generations"),
        (of("model", &[]), "other generations"),
        (of("none", &[1]), "was not added"),
        (vec![], "other policies"),
    ] {
        let fault = forged(async |_, note| Note { volumes, ..note }).await;
        assert!(matches!(fault, Fault::Course(3, _)) && fault.to_string().contains(expected), "{fault}");
    }
    // The policy was changed, or the volume was revoked, before the release that the entry tells of.
    let fault = forged(async |home, note| {
        let other = policy().replace("danger-key-release", "danger-other");
        home.owner().await.set_policy(&id("model"), &other).await.unwrap();
        note
    });
    let fault = fault.await;
    assert!(matches!(fault, Fault::Course(4, _)) && fault.to_string().contains("other policies"), "{fault}");
    let fault = forged(async |home, note| {
        home.owner().await.revoke(&id("model")).await.unwrap();
        note
    });
    let fault = fault.await;
    assert!(matches!(fault, Fault::Course(4, _)) && fault.to_string().contains("revoked"), "{fault}");
}
