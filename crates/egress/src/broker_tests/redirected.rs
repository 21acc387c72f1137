//! The workload in a network of its own, whose every connection and question the kernel leads to the broker's process; it knows no
//! proxy. What it tries there is what the cases of the other modules try by the proxy.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::world::{API, CDN, EVIL, FRONTED, INSIDE, World, exchange, head};
use super::{PASSTHROUGH, PLAIN, TERMINATE, address, code, get, run_in_a_guest};
use crate::dns::{self, Family};
use crate::plan::LISTENERS;

/// The address that the workload is given for a name, if it is.
async fn resolved(world: &World, name: &str) -> Option<IpAddr> {
    let resolver = world.resolver().await;
    resolver.send(&dns::query(5, name, Family::V4)).await.unwrap();
    let mut reply = [0; 512];
    let length = timeout(Duration::from_secs(10), resolver.recv(&mut reply)).await.unwrap().unwrap();
    Some(dns::answer(&reply[..length], 5, name, Family::V4).ok()?.addresses[0])
}

async fn open(world: &World, name: &str, port: u16) -> TcpStream {
    let address = resolved(world, name).await.unwrap();
    world.open(SocketAddr::new(address, port)).await
}

async fn ask(world: &World, name: &str, path: &str, host: &str) -> String {
    exchange(open(world, name, 443).await, get(path, host).as_bytes()).await
}

/// The code of the latest of so many records.
async fn latest(world: &World, count: usize) -> &'static str {
    let dropped = world.dropped_when(count).await;
    assert_eq!(dropped.len(), count, "{dropped:?}");
    dropped[count - 1]
}

#[test]
fn what_the_kernel_leads_to_the_broker_is_decided_as_what_its_proxy_is_asked_for() {
    run_in_a_guest(
        concat!(
            module_path!(),
            "::what_the_kernel_leads_to_the_broker_is_decided_as_what_its_proxy_is_asked_for"
        ),
        || tokio::runtime::Runtime::new().unwrap().block_on(decided_alike()),
    );
}

async fn decided_alike() {
    let world = World::new(&[TERMINATE, PASSTHROUGH, PLAIN].concat()).await;
    // Unprotected, what is tried below arrives: under another Host and under none, in TLS, by any name in SNI, where a redirect
    // leads, at another owner's server, and at one of the guest's neighbourhood.
    let (tls, evil) = ("93.184.215.14:443", "45.33.32.156:443");
    for (name, host) in [(API, FRONTED), (API, ""), (API, API), (FRONTED, FRONTED)] {
        world.arrives(&world.cdn, tls, Some(name), get("/", host)).await;
    }
    assert!(world.tls_inside(world.unprotected(tls).await, "evil.example.org").await.is_err());
    assert_eq!(world.cdn.connections(), 5);
    let answer = world.arrives(&world.cdn, tls, Some(API), get("/redirect", API)).await;
    assert!(answer.starts_with("HTTP/1.1 302"), "{answer}");
    world.arrives(&world.evil, evil, Some("evil.example.org"), get("/", "evil.example.org")).await;
    world.arrives(&world.inside, "10.0.0.5:443", Some(API), get("/", API)).await;
    world.arrives(&world.inside, "10.0.0.5:80", None, "secret").await;
    world.forget();
    world.zone.life.store(1, Ordering::SeqCst);
    assert!(ask(&world, API, "/", API).await.ends_with("you reached api.example.com"));
    // Host: of another name, and none.
    for host in [FRONTED, ""] {
        assert_eq!(code(&ask(&world, API, "/", host).await), Some("proxy_host_mismatch"), "{host:?}");
    }
    assert!(world.tls_inside(open(&world, API, 443).await, API).await.is_err());
    assert_eq!(latest(&world, 3).await, "proxy_tls_inside");
    // SNI: of another name. Behind that of the listed one nobody sees the Host.
    for name in [API, FRONTED, "evil.example.org"] {
        let stream = open(&world, "tls.example.com", 443).await;
        assert!(world.tls_inside(stream, name).await.is_err(), "{name}");
    }
    assert_eq!(latest(&world, 6).await, "proxy_host_mismatch");
    assert_eq!((world.cdn.connections(), world.cdn.requests().len()), (1, 1));
    let fronted = world.tls_inside(open(&world, "tls.example.com", 443).await, "tls.example.com").await;
    let answer = exchange(fronted.unwrap(), get("/", FRONTED).as_bytes()).await;
    assert!(answer.ends_with("you reached fronted.example.org"), "{answer}");
    // A redirect, and where it leads.
    let answer = ask(&world, API, "/redirect", API).await;
    assert!(answer.starts_with("HTTP/1.1 302"), "{answer}");
    assert_eq!(resolved(&world, "evil.example.org").await, None);
    assert_eq!(latest(&world, 7).await, "host_not_listed");
    // Connections that were opened by the answer before.
    let mut kept = open(&world, API, 443).await;
    kept.write_all(format!("GET /bytes/0 HTTP/1.1\r\nHost: {API}\r\n\r\n").as_bytes()).await.unwrap();
    assert!(head(&mut kept).await.starts_with("HTTP/1.1 200"));
    let mut plain = open(&world, "plain.example.com", 80).await;
    plain.write_all(b"GET /bytes/0 HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    assert!(head(&mut plain).await.starts_with("HTTP/1.1 200"));
    // The name server changes its mind: to another owner's server, and to one that only the guest reaches.
    let (requests, open_connections) = (world.cdn.requests().len(), world.open.connections());
    for (to, refusal) in [(EVIL, "certificate_refused"), (INSIDE, "dns_address_refused")] {
        world.zone.set(API, &[address(to)]);
        world.zone.set("plain.example.com", &[address(INSIDE)]);
        tokio::time::sleep(Duration::from_millis(1100)).await;
        let before = world.dropped().len();
        ask(&world, API, "/", API).await;
        assert_eq!(latest(&world, before + 1).await, refusal, "{to}");
        exchange(open(&world, "plain.example.com", 80).await, b"secret").await;
        assert_eq!(latest(&world, before + 2).await, "dns_address_refused", "{to}");
    }
    assert_eq!(
        (world.evil.connections(), world.evil.requests().len(), world.inside.connections()),
        (1, 0, 0)
    );
    assert_eq!((world.cdn.requests().len(), world.open.connections()), (requests, open_connections));
    kept.write_all(get("/", API).as_bytes()).await.unwrap();
    assert!(exchange(kept, b"").await.ends_with("you reached api.example.com"));
    plain.write_all(get("/", "plain").as_bytes()).await.unwrap();
    assert!(exchange(plain, b"").await.ends_with("you reached plain"));
    // Other ports, addresses, and the listener itself.
    let made_up = resolved(&world, API).await.unwrap();
    let listener = SocketAddr::from(([127, 0, 0, 1], LISTENERS.tcp));
    let cdn = SocketAddr::new(CDN.parse().unwrap(), 443);
    for (to, codes) in [
        (SocketAddr::new(made_up, 80), &["port_not_listed"][..]),
        (cdn, &["host_not_listed"]),
        (listener, &["host_not_listed", "destination_unknown"]),
    ] {
        let before = world.dropped().len();
        assert_eq!(exchange(world.open(to).await, get("/", API).as_bytes()).await, "", "{to}");
        let found = latest(&world, before + 1).await;
        assert!(codes.contains(&found), "{to}: {found}");
    }
    // Nobody was asked for another name than those that are listed.
    let questions = world.zone.questions();
    assert!(
        questions.iter().all(|(name, _)| [API, "tls.example.com", "plain.example.com"].contains(&&**name)),
        "{questions:?}"
    );
}

#[test]
fn ten_thousand_redirected_connections_leave_nothing_behind() {
    run_in_a_guest(
        concat!(module_path!(), "::ten_thousand_redirected_connections_leave_nothing_behind"),
        || tokio::runtime::Runtime::new().unwrap().block_on(ten_thousand()),
    );
}

async fn ten_thousand() {
    const WORKERS: usize = 25;
    const EACH: usize = 400;
    let world = Arc::new(World::new(PLAIN).await);
    let to = SocketAddr::new(resolved(&world, "plain.example.com").await.unwrap(), 80);
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..WORKERS {
        let world = Arc::clone(&world);
        workers.spawn(async move {
            for _ in 0..EACH {
                let answer = exchange(world.open(to).await, get("/", "plain.example.com").as_bytes()).await;
                assert!(
                    answer.ends_with("you reached plain.example.com"),
                    "{answer:?}, {:?}",
                    world.status().latest.pop()
                );
            }
        });
    }
    while let Some(worker) = workers.join_next().await {
        worker.unwrap();
    }
    assert_eq!((world.open.connections(), world.dropped()), (WORKERS * EACH, vec![]));
    while world.status().rules[0].open > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(world.status().connections, (WORKERS * EACH) as u64);
}
