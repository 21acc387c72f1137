//! Two brokers on one database: SQLite, and PostgreSQL.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, reason = "tests")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use confide_broker::audit::{self, Entry, What};
use confide_broker::store::{Consumed, Store, StoreError};
use confide_evidence::bytes::Bytes;
use support::authority::Authority;
use support::postgres::Postgres;
use support::*;

/// What holds for several brokers on one database.
async fn replicas(home: Home) {
    one_wins_a_challenge(&home).await;
    of_one_request_at_two_brokers_one_is_answered(&home).await;
    of_two_rotations_one_is_prepared(&home).await;
    releases_and_rotations_are_in_one_order(&home).await;
    starting_at_the_same_time_is_no_fault(&home).await;
    audit::verify(&home.store().await, None).await.unwrap().unwrap();
}

async fn one_wins_a_challenge(home: &Home) {
    let stores = [home.store().await, home.store().await];
    for round in 0..8 {
        let nonce = Bytes([round; 32]);
        stores[0].issue(&nonce, 100, 50, 1000, PEER).await.unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        for place in 0..16 {
            let store = stores[place % 2].clone();
            tasks.spawn(async move { store.consume(&nonce, 60).await.unwrap() });
        }
        let told = tasks.join_all().await;
        assert_eq!(told.iter().filter(|one| **one == Consumed::Now).count(), 1, "{told:?}");
        assert_eq!(told.iter().filter(|one| **one == Consumed::Unknown).count(), 15);
    }
    stores[0].issue(&Bytes([99; 32]), 100, 50, 1000, PEER).await.unwrap();
    assert_eq!(stores[1].consume(&Bytes([99; 32]), 101).await.unwrap(), Consumed::Expired);
    assert_eq!(stores[1].consume(&Bytes([99; 32]), 60).await.unwrap(), Consumed::Unknown);
}

async fn of_one_request_at_two_brokers_one_is_answered(home: &Home) {
    add_model(&home.owner().await).await;
    let (one, two) = (Arc::new(home.broker().await), Arc::new(home.broker().await));
    let guest = Guest::new(&home.identity());
    for _ in 0..4 {
        let nonce = one.challenge(PEER).await.unwrap().nonce;
        let request = Arc::new(guest.request(&nonce, &["model"]).encode());
        let mut tasks = tokio::task::JoinSet::new();
        for place in 0..6 {
            let (broker, request) =
                (Arc::clone(if place % 2 == 0 { &one } else { &two }), Arc::clone(&request));
            tasks.spawn(async move { broker.release(&request, PEER).await });
        }
        let told = tasks.join_all().await;
        assert_eq!(told.iter().filter(|answer| answer.is_ok()).count(), 1);
        for denial in told.iter().filter_map(|answer| answer.as_ref().err()) {
            assert_eq!(code(denial), "challenge_unknown");
        }
    }
}

async fn of_two_rotations_one_is_prepared(home: &Home) {
    let (one, two) = (home.owner().await, home.owner().await);
    let old = Bytes([1; 32]);
    let (first, second) =
        (one.begin(&id("model"), &old).await.unwrap(), two.begin(&id("model"), &old).await.unwrap());
    let (header, other) = (Bytes([20; 32]), Bytes([21; 32]));
    let (secret_one, secret_two) = (secret(20), secret(21));
    let (a, b) = tokio::join!(
        one.prepare(&first.volume, &header, &secret_one),
        two.prepare(&second.volume, &other, &secret_two),
    );
    let codes: Vec<_> =
        [&a, &b].iter().map(|done| done.as_ref().err().map(|error| error.code().to_owned())).collect();
    assert_eq!(codes.iter().flatten().collect::<Vec<_>>(), ["volume_busy"], "{codes:?}");
    let prepared = if a.is_ok() { header } else { other };
    let name = id("model");
    let (a, b) = tokio::join!(one.commit(&name, &prepared), two.commit(&name, &prepared));
    // One commits; the other finds that done, or finds that somebody is at it.
    let done = [a, b].into_iter().filter_map(|done| match done {
        Ok(generation) => Some(generation),
        Err(error) => {
            assert_eq!(error.code(), "volume_busy");
            None
        }
    });
    let done: Vec<u64> = done.collect();
    assert!(!done.is_empty() && done.iter().all(|generation| *generation == 2));
    assert_eq!(one.commit(&id("model"), &prepared).await.unwrap(), 2);
}

/// While guests ask at both brokers, the volume is rotated. What the log tells in its order must be what was released: never
/// an old generation after the new one was committed.
async fn releases_and_rotations_are_in_one_order(home: &Home) {
    let (one, two) = (Arc::new(home.broker().await), Arc::new(home.broker().await));
    let guest = Arc::new(Guest::new(&home.identity()));
    let mut tasks = tokio::task::JoinSet::new();
    for broker in [one, two] {
        let (guest, identity) = (Arc::clone(&guest), home.identity());
        tasks.spawn(async move {
            for _ in 0..6 {
                let released = guest.ask(&broker, &identity, &["model"]).await;
                if let Err(denial) = released {
                    assert_eq!(code(&denial), "volume_busy");
                }
            }
        });
    }
    let owner = home.owner().await;
    let mut header = owner.volume(&id("model")).await.unwrap().committed().unwrap().header.unwrap();
    for round in 0..4_u8 {
        let next = Bytes([40 + round; 32]);
        let standing = owner.begin(&id("model"), &header).await.unwrap();
        owner.prepare(&standing.volume, &next, &secret(40 + round)).await.unwrap();
        owner.commit(&id("model"), &next).await.unwrap();
        header = next;
    }
    tasks.join_all().await;
    let mut committed = 0;
    for entry in all(&home.store().await).await {
        match entry.what {
            What::RotationCommitted => committed = entry.volumes[0].1[0],
            What::Released if committed > 0 => {
                assert_eq!(entry.volumes[0].1[0], committed, "entry {}", entry.seq);
            }
            _ => {}
        }
    }
    assert_eq!(committed, 6);
}

async fn all(store: &Store) -> Vec<Entry> {
    let mut entries = Vec::new();
    loop {
        let page = store.entries(entries.len() as u64).await.unwrap();
        if page.is_empty() {
            return entries;
        }
        entries.extend(page.iter().map(|(_, _, bytes)| Entry::decode(bytes).unwrap()));
    }
}

async fn starting_at_the_same_time_is_no_fault(home: &Home) {
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..6 {
        let url = home.url.clone();
        tasks.spawn(async move { Store::open(&url, 1).await.unwrap().ping().await.unwrap() });
    }
    tasks.join_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_brokers_on_one_database_of_sqlite() {
    replicas(Home::new()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_brokers_on_one_database_of_postgresql() {
    let Some(server) = Postgres::start("two brokers on PostgreSQL") else { return };
    replicas(Home::with(server.url())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn brokers_that_start_at_the_same_time_make_one_schema() {
    let mut urls = vec![Home::new()];
    let server = Postgres::start("the schema of PostgreSQL");
    urls.extend(server.as_ref().map(|server| Home::with(server.url())));
    for home in urls {
        starting_at_the_same_time_is_no_fault(&home).await;
    }
}

#[tokio::test]
async fn a_database_of_a_later_version_is_left_alone() {
    let home = Home::new();
    drop(home.store().await);
    let pool = sqlx::AnyPool::connect(&home.url).await.unwrap();
    sqlx::query("UPDATE schema_version SET version = 99").execute(&pool).await.unwrap();
    let error = Store::open(&home.url, 1).await.unwrap_err();
    assert!(matches!(error, StoreError::Newer { found: 99, .. }), "{error}");
}

#[tokio::test]
async fn an_address_of_another_database_is_none() {
    for url in ["mysql://x", "broker.db", "", "/var/lib/x"] {
        assert!(matches!(Store::open(url, 1).await, Err(StoreError::Address)), "{url}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn postgresql_is_spoken_to_over_tls_under_the_configured_authority_alone() {
    let (authority, other) = (Authority::new(), Authority::new());
    let Some(server) = Postgres::start_tls("PostgreSQL over TLS", &authority) else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    authority.write_ca(&path("ca.pem"));
    other.write_ca(&path("other.pem"));
    let home = Home::with(server.tls_url("127.0.0.1", &path("ca.pem")));
    add_model(&home.owner().await).await;
    let guest = Guest::new(&home.identity());
    let (broker, identity) = (home.broker().await, home.identity());
    assert_eq!(guest.ask(&broker, &identity, &["model"]).await.unwrap().len(), 1);
    // Another authority, and a name that the certificate is not for.
    for url in [server.tls_url("127.0.0.1", &path("other.pem")), server.tls_url("localhost", &path("ca.pem"))]
    {
        let error = Store::open(&url, 1).await.unwrap_err();
        assert!(matches!(error, StoreError::Unreachable { .. }), "{error}");
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains("certificate"), "{url}: {cause}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_without_a_brokers_tables_is_missing_in_postgresql_too() {
    let Some(server) = Postgres::start("PostgreSQL without a broker's tables") else { return };
    let url = server.url();
    assert!(matches!(Store::open_existing(&url, 1).await, Err(StoreError::Missing { .. })));
    drop(Store::open(&url, 1).await.unwrap());
    Store::open_existing(&url, 1).await.unwrap().ping().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_not_there_is_told_at_once_with_its_address_and_without_its_password() {
    // A port that nothing listens on: it was just free.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let begun = std::time::Instant::now();
    let error = Store::open(&format!("postgres://broker:hidden@127.0.0.1:{port}/keys"), 1).await.unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let said = confide_broker::BrokerError::from(error).sentence();
    assert!(said.contains(&format!("postgres://127.0.0.1:{port}/keys")), "{said}");
    assert!(said.contains("refused") && !said.contains("hidden"), "{said}");
}
