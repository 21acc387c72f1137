//! The broker in a made-up internet, with an attacker in the workload's place or on the network, and counters at the far side.

/// Cases that run in this process, and once more in a guest: in namespaces, with the kernel's rules, the broker's process as it is
/// really started, and servers at the far side.
macro_rules! in_a_guest {
    ($($case:ident),+ $(,)?) => {
        mod in_a_guest {
            $(
                #[test]
                fn $case() {
                    const NAME: &str = concat!(module_path!(), "::", stringify!($case));
                    crate::broker_tests::run_in_a_guest(NAME, super::$case);
                }
            )+
        }
    };
}

mod network;
mod redirected;
mod workload;
pub(crate) mod world;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::enforcement::tests::acts_as_broker_of_a_world;
use crate::far_side::in_a_network_with_users;
use world::{API, EVIL, Record, Upstream, World, head, rest};

/// `API` over the broker's TLS, in both phases.
pub(crate) const TERMINATE: &str = "\
[[bootstrap]]
name = \"api.example.com\"
ports = [443]
[[serving]]
name = \"api.example.com\"
ports = [443]
";
const PLAIN: &str = "\
[[bootstrap]]
name = \"plain.example.com\"
ports = [80]
mode = \"plain\"
";
const PASSTHROUGH: &str = "\
[[bootstrap]]
name = \"tls.example.com\"
ports = [443]
mode = \"passthrough\"
";

/// Runs a case in a guest. The test's path begins with the crate's name.
fn run_in_a_guest(path: &str, case: fn()) {
    if !acts_as_broker_of_a_world() {
        let (_, name) = path.split_once("::").unwrap();
        in_a_network_with_users(name, case);
    }
}

fn get(target: &str, host: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
}

/// The request that is allowed under `TERMINATE`.
fn allowed() -> String {
    get("http://api.example.com:443/hello", API)
}

/// The code of one of the broker's own answers.
fn code(answer: &str) -> Option<&str> {
    answer.split("\"code\":\"").nth(1)?.split('"').next()
}

fn address(text: &str) -> Record {
    Record::Address(text.parse().unwrap())
}

#[tokio::test]
async fn a_request_reaches_the_allowed_name_over_tls_of_the_brokers() {
    for upstream in [Upstream::Tls, Upstream::Https] {
        let world = World::asking(upstream, TERMINATE).await;
        for _ in 0..2 {
            let answer = world.send(allowed()).await;
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
            assert!(
                answer.ends_with("you reached api.example.com") && !answer.contains("keep-alive"),
                "{answer}"
            );
        }
        let seen = world.cdn.requests();
        assert_eq!((seen.len(), seen[0].line.as_str(), seen[0].host.as_str()), (2, "GET /hello", API));
        assert_eq!(seen[0].fields, [""; 0]);
        // Both families of one name, once.
        let mut questions = world.zone.questions();
        questions.sort();
        assert_eq!(questions, [(API.to_owned(), 1), (API.to_owned(), 28)]);
        let status = world.status();
        assert_eq!((world.dropped(), status.connections), (vec![], 2));
        assert_eq!(status.rules[0].rule, "terminate api.example.com:443");
        assert!(status.rules[0].bytes > 1000, "{:?}", status.rules);
    }
}

#[tokio::test]
async fn several_requests_travel_through_one_tunnel() {
    let world = World::new(TERMINATE).await;
    let mut tunnel = world.tunnel("api.example.com:443").await.unwrap();
    for _ in 0..3 {
        tunnel.write_all(b"GET /bytes/5 HTTP/1.1\r\nHost: api.example.com:443\r\n\r\n").await.unwrap();
        assert!(head(&mut tunnel).await.starts_with("HTTP/1.1 200"));
        tunnel.read_exact(&mut [0; 5]).await.unwrap();
    }
    assert_eq!((world.cdn.connections(), world.cdn.requests().len()), (1, 3));
}

#[tokio::test]
async fn bodies_stream_both_ways_at_a_time() {
    let world = World::new(TERMINATE).await;
    let mut stream = world.connect().await;
    let request = "POST http://api.example.com:443/echo HTTP/1.1\r\nHost: api.example.com\r\nConnection: close\r\n\
                   Transfer-Encoding: chunked\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.write_all(b"4\r\nping\r\n").await.unwrap();
    // The answer begins before the request has ended.
    assert!(head(&mut stream).await.starts_with("HTTP/1.1 200"));
    for _ in 0..3 {
        let mut piece = [0; 9];
        timeout(Duration::from_secs(10), stream.read_exact(&mut piece)).await.unwrap().unwrap();
        assert_eq!(&piece, b"4\r\nping\r\n");
        stream.write_all(b"4\r\nping\r\n").await.unwrap();
    }
    stream.write_all(b"0\r\n\r\n").await.unwrap();
    assert_eq!(rest(&mut stream).await, "4\r\nping\r\n0\r\n\r\n");
}

#[tokio::test]
async fn a_side_of_a_connection_may_end_before_the_other() {
    let world = World::new(&[TERMINATE, PLAIN].concat()).await;
    let mut tunnel = world.tunnel("plain.example.com:80").await.unwrap();
    tunnel.write_all(get("/bytes/100000", "plain.example.com").as_bytes()).await.unwrap();
    let mut stream = world.connect().await;
    stream.write_all(get("http://api.example.com:443/bytes/100000", API).as_bytes()).await.unwrap();
    for stream in [&mut tunnel, &mut stream] {
        stream.shutdown().await.unwrap();
        assert!(rest(stream).await.ends_with(&"x".repeat(100_000)));
    }
    assert_eq!((world.open.connections(), world.cdn.connections()), (1, 1));
}

#[tokio::test]
async fn downloads_run_in_parallel() {
    let world = Arc::new(World::new(TERMINATE).await);
    let mut downloads = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let world = Arc::clone(&world);
        downloads.spawn(async move {
            world.send(get("http://api.example.com:443/bytes/1000000", API)).await.len()
        });
    }
    while let Some(length) = downloads.join_next().await {
        assert!(length.unwrap() > 1_000_000);
    }
    // All waited for one answer.
    assert_eq!((world.cdn.connections(), world.zone.questions().len()), (16, 2));
}

#[tokio::test]
async fn ten_thousand_connections_leave_nothing_behind() {
    let world = Arc::new(World::new(PLAIN).await);
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let world = Arc::clone(&world);
        workers.spawn(async move {
            for _ in 0..200 {
                let answer = world.send(get("http://plain.example.com/", "plain.example.com")).await;
                assert!(answer.ends_with("you reached plain.example.com"), "{answer}");
            }
        });
    }
    while let Some(worker) = workers.join_next().await {
        worker.unwrap();
    }
    assert_eq!((world.open.connections(), world.dropped()), (10_000, vec![]));
    while world.status().rules[0].open > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(world.status().connections, 10_000);
}

#[tokio::test]
async fn a_connection_outlives_the_answer_that_it_was_opened_by() {
    let world = World::new(TERMINATE).await;
    world.zone.life.store(1, Ordering::SeqCst);
    let mut tunnel = world.tunnel("api.example.com:443").await.unwrap();
    world.zone.set(API, &[address(EVIL)]);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    tunnel.write_all(get("/", API).as_bytes()).await.unwrap();
    assert!(rest(&mut tunnel).await.ends_with("you reached api.example.com"));
    // A new connection is decided by a new answer.
    assert_eq!(code(&world.send(allowed()).await), Some("certificate_refused"));
    assert_eq!((world.zone.questions().len(), world.evil.requests().len()), (4, 0));
}

#[tokio::test]
async fn caps_end_what_goes_beyond_them() {
    let rule = "[[bootstrap]]\nname = \"*.wild.example.com\"\nports = [443]\nconnections = 1\ntotal_bytes = 100000\n";
    let world = World::new(rule).await;
    for name in ["one.wild.example.com", "two.wild.example.com"] {
        world.zone.set(name, &[address(world::CDN)]);
    }
    let ask = |name: &str, bytes: usize| get(&format!("http://{name}:443/bytes/{bytes}"), name);
    // Another name of the same rule is no way around its connections.
    let held = world.tunnel("one.wild.example.com:443").await.unwrap();
    let answer = world.send(ask("two.wild.example.com", 1)).await;
    assert!(answer.starts_with("HTTP/1.1 429") && code(&answer) == Some("cap_connections"), "{answer}");
    assert_eq!(world.cdn.connections(), 1);
    drop(held);
    while world.status().rules[0].open > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let answer = world.send(ask("one.wild.example.com", 1_000_000)).await;
    assert!(answer.len() < 100_500, "{}", answer.len());
    assert_eq!(world.dropped_when(2).await, ["cap_connections", "cap_total_bytes"]);
    let record = world.status().latest.pop().unwrap();
    assert_eq!(record.destination, "one.wild.example.com:443/tcp");
    assert_eq!(record.rule.as_deref(), Some("terminate *.wild.example.com:443"));
    // Nor around its bytes.
    let connections = world.cdn.connections();
    let answer = world.send(ask("two.wild.example.com", 1)).await;
    assert_eq!((code(&answer), world.cdn.connections()), (Some("cap_total_bytes"), connections));
}

#[tokio::test]
async fn the_lock_ends_what_was_opened_before_it() {
    let world = World::new(&[TERMINATE, PLAIN].concat()).await;
    let mut plain = world.tunnel("plain.example.com:80").await.unwrap();
    let mut allowed_later = world.tunnel("api.example.com:443").await.unwrap();
    let mut without_request = world.connect().await;
    without_request
        .write_all(b"GET http://api.example.com:443/bytes/0 HTTP/1.1\r\nHost: api.example.com\r\n\r\n")
        .await
        .unwrap();
    assert!(head(&mut without_request).await.starts_with("HTTP/1.1 200"));
    world.broker().lock().await;
    assert_eq!(
        world.status().dropped.iter().find(|(code, _)| *code == "phase_over"),
        Some(&("phase_over", 3))
    );
    world.broker().lock().await;
    for (stream, request) in [
        (&mut plain, get("/after", "plain.example.com")),
        (&mut allowed_later, get("/after", API)),
        (&mut without_request, allowed()),
    ] {
        let _ = stream.write_all(request.as_bytes()).await;
        assert_eq!(rest(stream).await, "");
    }
    assert_eq!(world.dropped_when(3).await, ["phase_over"; 3]);
    assert_eq!((world.open.requests().len(), world.cdn.requests().len()), (0, 1));
    let answer = world.tunnel("plain.example.com:80").await.unwrap_err();
    assert_eq!(code(&answer), Some("host_not_listed"));
    assert!(world.send(allowed()).await.ends_with("you reached api.example.com"));
}

#[tokio::test]
async fn who_is_slow_or_silent_is_given_up() {
    let world = World::new(PLAIN).await;
    let mut tunnel = world.tunnel("plain.example.com:80").await.unwrap();
    let mut slow = world.connect().await;
    slow.write_all(b"GET http://plain.example.com/ HTTP/1.1\r\nHost:").await.unwrap();
    let mut silent = world.connect().await;
    tokio::time::pause();
    let begun = tokio::time::Instant::now();
    let mut read = Vec::new();
    for stream in [&mut slow, &mut silent] {
        let _ = stream.read_to_end(&mut read).await;
    }
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    let _ = tunnel.read_to_end(&mut read).await;
    assert!(begun.elapsed() > Duration::from_secs(14 * 60), "{:?}", begun.elapsed());
    assert_eq!((world.dropped(), world.open.requests()), (vec!["connection_idle"], vec![]));
    let record = world.status().latest.pop().unwrap();
    assert_eq!(record.destination, "plain.example.com:80/tcp");
    assert_eq!(record.rule.as_deref(), Some("plain plain.example.com:80"));
}

in_a_guest! {
    downloads_run_in_parallel,
    bodies_stream_both_ways_at_a_time,
    a_connection_outlives_the_answer_that_it_was_opened_by,
}
