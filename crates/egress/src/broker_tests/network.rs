//! What a hostile network tries: name servers, routers, whoever is at an address.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::TcpStream;

use super::world::{API, CDN, EVIL, INSIDE, Record, World, exchange};
use super::{PLAIN, TERMINATE, address, allowed, code, get};

/// Answers of a life of nothing are used for a second.
async fn until_asked_anew() {
    tokio::time::sleep(Duration::from_millis(1100)).await;
}

#[tokio::test]
async fn a_name_does_not_lead_to_addresses_that_only_the_guest_reaches() {
    let world = World::new(&[TERMINATE, PLAIN].concat()).await;
    world.zone.life.store(0, Ordering::SeqCst);
    // Unprotected, it is reached.
    let inside = world.unprotected("10.0.0.5:80").await;
    assert!(exchange(inside, get("/", "plain.example.com").as_bytes()).await.contains("you reached"));
    assert_eq!(world.inside.connections(), 1);
    for records in [
        vec![address(INSIDE)],
        vec![address(CDN), address(INSIDE)],
        vec![address("127.0.0.1")],
        vec![address("169.254.169.254")],
        vec![address(CDN), address("::1")],
        vec![address("::ffff:93.184.215.14")],
        vec![address("fd00:ec2::254")],
        vec![address("198.18.0.1")],
    ] {
        world.zone.set(API, &records);
        world.zone.set("plain.example.com", &records);
        assert_eq!(code(&world.send(allowed()).await), Some("dns_address_refused"), "{records:?}");
        let refused = world.tunnel("plain.example.com:80").await.unwrap_err();
        assert_eq!(code(&refused), Some("dns_address_refused"), "{records:?}");
    }
    assert_eq!((world.inside.connections(), world.cdn.connections(), world.open.connections()), (1, 0, 0));
    assert_eq!(world.dropped().len(), 16);
    // Honest first, then not: the second answer is looked at as the first one was.
    world.zone.set(API, &[address(CDN)]);
    assert!(world.send(allowed()).await.ends_with("you reached api.example.com"));
    world.zone.set(API, &[address(INSIDE)]);
    until_asked_anew().await;
    assert_eq!(code(&world.send(allowed()).await), Some("dns_address_refused"));
    assert_eq!(world.inside.connections(), 1);
}

#[tokio::test]
async fn a_name_that_leads_to_another_owner_is_refused_by_the_certificate() {
    let world = World::new(TERMINATE).await;
    // Unprotected, it gets what it is sent, whoever it was meant for.
    let to_another = get("/", API).replace("Connection", "Authorization: Bearer secret\r\nConnection");
    let answer = world.arrives(&world.evil, "45.33.32.156:443", Some("evil.example.org"), to_another).await;
    assert!(answer.ends_with("you reached api.example.com"), "{answer}");
    world.forget();
    world.zone.set(API, &[address(EVIL)]);
    let request = allowed().replace("Connection", "Authorization: Bearer secret\r\nConnection");
    let answer = world.send(request).await;
    assert!(answer.starts_with("HTTP/1.1 502") && code(&answer) == Some("certificate_refused"), "{answer}");
    assert_eq!(code(&world.tunnel("api.example.com:443").await.unwrap_err()), Some("certificate_refused"));
    // It was reached, and got nothing.
    assert_eq!((world.evil.connections(), world.evil.requests()), (2, vec![]));
    assert_eq!(world.dropped(), ["certificate_refused"; 2]);
}

#[tokio::test]
async fn aliases_are_followed_as_far_as_something_else_proves_the_host() {
    let listed = "[[bootstrap]]\nname = \"edge.example.net\"\nports = [80]\nmode = \"plain\"\n";
    let world = World::new(&[TERMINATE, PLAIN, listed].concat()).await;
    world.zone.life.store(0, Ordering::SeqCst);
    for name in ["edge.example.net", "unlisted.example.net"] {
        world.zone.set(name, &[address(CDN)]);
    }
    // The certificate says who answers.
    world.zone.set(API, &[Record::Alias("unlisted.example.net")]);
    assert!(world.send(allowed()).await.ends_with("you reached api.example.com"));
    // Nothing does but the list.
    world.zone.set("plain.example.com", &[Record::Alias("unlisted.example.net")]);
    assert_eq!(code(&world.tunnel("plain.example.com:80").await.unwrap_err()), Some("dns_chain_not_listed"));
    assert_eq!(world.open.connections(), 0);
    until_asked_anew().await;
    world.zone.set("plain.example.com", &[Record::Alias("edge.example.net")]);
    assert!(world.tunnel("plain.example.com:80").await.is_ok());
    assert_eq!(world.open.connections(), 1);
}

#[tokio::test]
async fn answers_that_are_no_answer_lead_nowhere() {
    let world = World::new(TERMINATE).await;
    let links: Vec<&'static str> = (0..12).map(|link| &*format!("n{link}.example.net").leak()).collect();
    for pair in links.windows(2) {
        world.zone.set(pair[0], &[Record::Alias(pair[1])]);
    }
    world.zone.set(links[11], &[address(CDN)]);
    world.zone.set("circle.example.net", &[Record::Alias("circle.example.net")]);
    let many: Vec<Record> = (0..=64).map(|last| address(&format!("93.184.215.{last}"))).collect();
    for (what, records, refusal) in [
        ("a chain that is too long", vec![Record::Alias(links[0])], "dns_answer_refused"),
        ("a circle", vec![Record::Alias("circle.example.net")], "dns_answer_refused"),
        (
            "two aliases",
            vec![Record::Alias("n11.example.net"), Record::Alias("n10.example.net")],
            "dns_answer_refused",
        ),
        ("too many addresses", many, "dns_answer_refused"),
        ("no address", vec![], "dns_not_resolved"),
        ("an address where nobody is", vec![address("192.42.116.1")], "destination_unreachable"),
    ] {
        world.zone.set(API, &records);
        assert_eq!(code(&world.send(allowed()).await), Some(refusal), "{what}");
    }
    let world = World::new(TERMINATE).await;
    world.zone.records.lock().unwrap().remove(API);
    assert_eq!(code(&world.send(allowed()).await), Some("dns_not_resolved"));
    assert_eq!(world.cdn.connections(), 0);
}

#[tokio::test]
async fn nobody_but_the_pinned_name_answers_questions() {
    let (one, other) = (World::new(TERMINATE).await, World::new(TERMINATE).await);
    // Another authority vouches for the DNS server that is found.
    let proxy = one.broker_elsewhere(&other).await;
    let answer = exchange(TcpStream::connect(proxy).await.unwrap(), allowed().as_bytes()).await;
    assert_eq!(code(&answer), Some("dns_not_resolved"));
    assert_eq!((other.zone.questions(), other.cdn.connections()), (vec![], 0));
}

in_a_guest! {
    a_name_does_not_lead_to_addresses_that_only_the_guest_reaches,
    a_name_that_leads_to_another_owner_is_refused_by_the_certificate,
}
