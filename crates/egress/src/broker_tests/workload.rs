//! What a hostile workload tries.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::world::{API, CDN, FRONTED, World, exchange, head, rest, said};
use super::{PASSTHROUGH, PLAIN, TERMINATE, allowed, code, get};
use crate::OriginalDestination;
use crate::dns::{self, AnswerError, Family};

/// The server of the allowed names, over TLS and without.
const TLS: &str = "93.184.215.14:443";
const OPEN: &str = "93.184.215.14:80";
/// Another owner's.
const OF_ANOTHER: &str = "45.33.32.156:443";

const WILDCARD: &str = "[[bootstrap]]\nname = \"*.wild.example.com\"\nports = [443]\n";

#[tokio::test]
async fn what_is_not_listed_is_refused_and_recorded() {
    let datagrams = "[[bootstrap]]\ncidr = \"10.0.0.0/24\"\nports = [80]\nprotocol = \"udp\"\n";
    let world = World::new(&[TERMINATE, datagrams].concat()).await;
    for (target, refusal) in [
        ("evil.example.org:443", "host_not_listed"),
        ("sub.api.example.com:443", "host_not_listed"),
        ("example.com:443", "host_not_listed"),
        ("api.example.com.evil.example.org:443", "host_not_listed"),
        ("api.example.com:8443", "port_not_listed"),
        ("api.example.com:22", "port_not_listed"),
        ("93.184.215.14:443", "host_not_listed"),
        ("45.33.32.156:443", "host_not_listed"),
        ("[2606:4700::1111]:443", "host_not_listed"),
        ("[::ffff:93.184.215.14]:443", "host_not_listed"),
        ("10.0.0.5:80", "protocol_not_listed"),
        ("127.0.0.1:443", "host_not_listed"),
        ("169.254.169.254:80", "host_not_listed"),
        ("localhost:443", "proxy_request_form"),
        ("api.example.com.:443", "proxy_request_form"),
        ("0x5db8d70e:443", "proxy_request_form"),
    ] {
        let before = world.dropped().len();
        let answer = world.tunnel(target).await.unwrap_err();
        assert_eq!(code(&answer), Some(refusal), "{target}: {answer}");
        let record = world.status().latest.pop().unwrap();
        assert_eq!((world.dropped().len(), record.reason.code()), (before + 1, refusal), "{target}");
        // With the transport, where the destination was understood.
        assert_eq!(record.destination.trim_end_matches("/tcp"), target);
    }
    for far in [&world.cdn, &world.open, &world.evil, &world.inside] {
        assert_eq!(far.connections(), 0);
    }
    assert_eq!(world.zone.questions(), []);
    assert!(world.send(allowed()).await.ends_with("you reached api.example.com"));
}

#[tokio::test]
async fn requests_that_can_be_read_in_two_ways_reach_nobody() {
    let world = World::new(TERMINATE).await;
    let long = "a".repeat(crate::session::MAX_REQUEST_HEAD);
    let many = "X: y\r\n".repeat(200);
    let connect = "CONNECT api.example.com:443 HTTP/1.1\r\nHost: api.example.com:443\r\n";
    let post = "POST http://api.example.com:443/ HTTP/1.1\r\nHost: api.example.com\r\n";
    let target = |target: &str| get(target, API);
    let (form, body, mismatch, malformed) =
        ("proxy_request_form", "proxy_request_body", "proxy_host_mismatch", "proxy_request_malformed");
    let attempts = [
        ("a CONNECT with a length", format!("{connect}Content-Length: 3\r\n\r\nabc"), body),
        ("a CONNECT with a length of nothing", format!("{connect}Content-Length: 0\r\n\r\n"), body),
        ("a chunked CONNECT", format!("{connect}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), body),
        ("a CONNECT without a port", target("/").replace("GET /", "CONNECT api.example.com"), form),
        (
            "a CONNECT with user information",
            target("/").replace("GET /", "CONNECT a@api.example.com:443"),
            form,
        ),
        ("a CONNECT whose Host is another", connect.replace("Host: api", "Host: evil") + "\r\n", mismatch),
        ("user information", target("http://user:key@api.example.com:443/"), form),
        ("user information like the name", target("http://api.example.com:443@evil.example.org/"), form),
        ("a path alone", target("/"), form),
        ("another scheme", target("ftp://api.example.com:443/"), form),
        ("another Host", get("http://api.example.com:443/", FRONTED), mismatch),
        ("a Host with another port", get("http://api.example.com:443/", "api.example.com:80"), mismatch),
        ("two Hosts", format!("{post}Host: {FRONTED}\r\n\r\n"), mismatch),
        ("no Host", post.replace("Host: api.example.com\r\n", "") + "\r\n", mismatch),
        (
            "a list of Hosts",
            get("http://api.example.com:443/", "api.example.com, evil.example.org"),
            mismatch,
        ),
        ("an unlisted port by default", target("http://api.example.com/"), "port_not_listed"),
        ("HTTP/2 by prior knowledge", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), malformed),
        ("TLS", "\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}\r\n\r\n".to_owned(), malformed),
        ("a line that is folded", format!("{post}X: a\r\n b\r\n\r\n"), malformed),
        ("a space before the colon", format!("{post}Transfer-Encoding : chunked\r\n\r\n"), malformed),
        ("a length that is no number", format!("{post}Content-Length: +3\r\n\r\nabc"), malformed),
        ("two lengths", format!("{post}Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"), malformed),
        ("an unknown encoding", format!("{post}Transfer-Encoding: gzip\r\n\r\nabc"), malformed),
        ("a head that is too large", format!("{post}X: {long}\r\n\r\n"), malformed),
        ("a target that is too long", target(&format!("http://api.example.com:443/{long}")), malformed),
        ("too many fields", format!("{post}{many}\r\n"), malformed),
    ];
    // Unprotected, each gets to the far side, whatever that makes of it.
    for (_, request, _) in &attempts {
        world.arrives(&world.cdn, TLS, Some(API), request).await;
    }
    world.forget();
    for (what, request, refusal) in attempts {
        let before = world.dropped().len();
        let answer = world.send(&request).await;
        assert!(!answer.contains("200"), "{what}: {answer}");
        assert_eq!(world.dropped_when(before + 1).await[before..], [refusal], "{what}: {answer}");
    }
    assert_eq!((world.cdn.connections(), world.evil.connections()), (0, 0));
    assert!(world.send(allowed()).await.ends_with("you reached api.example.com"));
}

/// What a lenient reader takes for a second request stays within the first one's body.
#[tokio::test]
async fn nothing_is_smuggled_past_the_framing() {
    let world = World::new(TERMINATE).await;
    let smuggled = get("/smuggled", FRONTED);
    let begin = "POST http://api.example.com:443/ HTTP/1.1\r\nHost: api.example.com\r\n";
    let length = format!("Content-Length: {}\r\n", smuggled.len());
    let chunked = "Transfer-Encoding: chunked\r\n";
    let attempts = [
        (
            "two framings",
            format!("Content-Length: {}\r\n{chunked}\r\n0\r\n\r\n", smuggled.len() + 5),
            format!("{chunked}\r\n0\r\n\r\n"),
        ),
        (
            "two framings, the other way around",
            format!("{chunked}Content-Length: 5\r\n\r\n0\r\n\r\n"),
            "Content-Length: 5\r\n\r\n0\r\n\r\n".to_owned(),
        ),
        (
            "a length that is to be forgotten",
            format!("Connection: close, content-length\r\n{length}\r\n"),
            "\r\n".to_owned(),
        ),
    ];
    // Unprotected, behind a proxy that passes on one framing of the two, or forgets the field, each brings a request more.
    for (what, _, passed_on) in &attempts {
        world.arrives(&world.cdn, TLS, Some(API), format!("{begin}{passed_on}{smuggled}")).await;
        let seen = world.cdn.requests();
        let second = seen.get(1).unwrap_or_else(|| panic!("{what}: {seen:?}"));
        assert_eq!((second.line.as_str(), second.host.as_str()), ("GET /smuggled", FRONTED), "{what}");
        world.forget();
    }
    for (what, framing, _) in attempts {
        world.send(format!("{begin}{framing}{smuggled}")).await;
        let seen = world.cdn.requests();
        assert!(seen.iter().all(|seen| seen.line == "POST /" && seen.host == API), "{what}: {seen:?}");
        assert!(seen.iter().all(|seen| seen.fields.len() == 1), "{what}: {seen:?}");
    }
    assert!(!world.cdn.requests().is_empty());
}

#[tokio::test]
async fn fields_of_one_connection_go_no_further() {
    let world = World::new(TERMINATE).await;
    let request = "GET http://api.example.com:443/ HTTP/1.1\r\nHost: api.example.com\r\nConnection: close, x-secret\r\n\
                   X-Secret: a\r\nProxy-Authorization: b\r\nTE: trailers\r\nUpgrade: h2c\r\nKeep-Alive: c\r\n\
                   X-Kept: d\r\n\r\n";
    assert!(world.send(request).await.starts_with("HTTP/1.1 200"));
    assert_eq!(world.cdn.requests()[0].fields, ["x-kept"]);
}

#[tokio::test]
async fn another_host_is_not_fronted_where_the_broker_speaks_tls() {
    let world = World::new(TERMINATE).await;
    let attempts = [
        ("another Host", get("/", FRONTED)),
        ("two Hosts", format!("GET / HTTP/1.1\r\nHost: {API}\r\nHost: {FRONTED}\r\n\r\n")),
        ("no Host", "GET / HTTP/1.1\r\n\r\n".to_owned()),
        ("an absolute target", get(&format!("http://{FRONTED}/"), API)),
        ("a target of the same name", get(&format!("http://{API}/"), API)),
        ("a tunnel in the tunnel", format!("CONNECT {API}:443 HTTP/1.1\r\nHost: {API}:443\r\n\r\n")),
    ];
    // Unprotected, each arrives behind the name of the listed host, and the other host answers.
    for (_, request) in &attempts {
        world.arrives(&world.cdn, TLS, Some(API), request).await;
    }
    let answer = world.arrives(&world.cdn, TLS, Some(API), get("/", FRONTED)).await;
    assert!(answer.ends_with("you reached fronted.example.org"), "{answer}");
    world.forget();
    for (what, request) in attempts {
        let tunnel = world.tunnel("api.example.com:443").await.unwrap();
        let before = world.dropped().len();
        let answer = exchange(tunnel, request.as_bytes()).await;
        assert!(
            matches!(code(&answer), Some("proxy_host_mismatch" | "proxy_request_form")),
            "{what}: {answer}"
        );
        assert_eq!(world.dropped().len(), before + 1, "{what}");
    }
    // The far side would have answered.
    assert_eq!(world.cdn.requests(), []);
    let tunnel = world.tunnel("api.example.com:443").await.unwrap();
    assert!(exchange(tunnel, get("/", API).as_bytes()).await.ends_with("you reached api.example.com"));
}

#[tokio::test]
async fn tls_within_the_brokers_tls_is_refused() {
    let world = World::new(TERMINATE).await;
    world.arrives(&world.cdn, TLS, Some(API), get("/", API)).await;
    world.forget();
    let tunnel = world.tunnel("api.example.com:443").await.unwrap();
    assert!(world.tls_inside(tunnel, API).await.is_err());
    assert_eq!(world.dropped_when(1).await, ["proxy_tls_inside"]);
    assert_eq!(world.cdn.requests(), []);
}

#[tokio::test]
async fn tls_of_the_workloads_own_must_name_the_host() {
    let world = World::new(PASSTHROUGH).await;
    // A message that promises more than is read.
    let record = [&[22, 3, 1, 0x40, 0, 1, 0, 0xff, 0xff][..], &[0; 0x4000 - 4]].concat().repeat(2);
    // Unprotected, each gets to the far side, and where that has a certificate of the name, it answers.
    for name in [API, FRONTED] {
        world.arrives(&world.cdn, TLS, Some(name), get("/", name)).await;
    }
    for name in ["evil.example.org", "sub.tls.example.com", CDN] {
        assert!(world.tls_inside(world.unprotected(TLS).await, name).await.is_err(), "{name}");
    }
    for bytes in [get("/", "tls.example.com").as_bytes(), &record] {
        said(world.unprotected(TLS).await, bytes).await;
    }
    assert_eq!(world.cdn.connections(), 7);
    world.forget();
    for name in [API, FRONTED, "evil.example.org", "sub.tls.example.com"] {
        let tunnel = world.tunnel("tls.example.com:443").await.unwrap();
        assert!(world.tls_inside(tunnel, name).await.is_err(), "{name}");
    }
    // An address has no name.
    let tunnel = world.tunnel("tls.example.com:443").await.unwrap();
    assert!(world.tls_inside(tunnel, "93.184.215.14").await.is_err());
    let tunnel = world.tunnel("tls.example.com:443").await.unwrap();
    assert_eq!(exchange(tunnel, get("/", "tls.example.com").as_bytes()).await, "");
    let mut tunnel = world.tunnel("tls.example.com:443").await.unwrap();
    let _ = tunnel.write_all(&record).await;
    assert_eq!(rest(&mut tunnel).await, "");
    let dropped = world.dropped_when(7).await;
    let (mismatch, nothing) = ("proxy_host_mismatch", "proxy_no_server_name");
    assert_eq!(dropped, [mismatch, mismatch, mismatch, mismatch, nothing, nothing, nothing]);
    assert_eq!((world.cdn.connections(), world.zone.questions()), (0, vec![]));
    let answer = world.send(get("http://tls.example.com:443/", "tls.example.com")).await;
    assert_eq!(code(&answer), Some("proxy_scheme"));
}

/// The warning about the mode is true: the broker cannot see the Host within TLS of the workload's own.
#[tokio::test]
async fn passthrough_does_not_stop_domain_fronting() {
    let world = World::new(PASSTHROUGH).await;
    assert_eq!(code(&world.tunnel(&format!("{FRONTED}:443")).await.unwrap_err()), Some("host_not_listed"));
    let tunnel = world.tunnel("tls.example.com:443").await.unwrap();
    let inside = world.tls_inside(tunnel, "tls.example.com").await.unwrap();
    let answer = exchange(inside, get("/", FRONTED).as_bytes()).await;
    assert!(answer.ends_with("you reached fronted.example.org"), "{answer}");
    assert_eq!(world.cdn.requests()[0].host, FRONTED);
}

#[tokio::test]
async fn a_redirect_is_passed_on_and_where_it_leads_is_decided_anew() {
    let world = World::new(TERMINATE).await;
    // Unprotected, it is followed to another owner.
    let answer = world.arrives(&world.cdn, TLS, Some(API), get("/redirect", API)).await;
    assert!(answer.starts_with("HTTP/1.1 302"), "{answer}");
    let elsewhere = get("/", "evil.example.org");
    let answer = world.arrives(&world.evil, OF_ANOTHER, Some("evil.example.org"), elsewhere).await;
    assert!(answer.ends_with("you reached evil.example.org"), "{answer}");
    world.forget();
    let answer = world.send(get("http://api.example.com:443/redirect", API)).await;
    assert!(answer.starts_with("HTTP/1.1 302"), "{answer}");
    assert!(answer.contains("location: http://evil.example.org:443/\r\n"), "{answer}");
    let evil = get("http://evil.example.org:443/", "evil.example.org");
    assert_eq!(code(&world.send(&evil).await), Some("host_not_listed"));
    // Over the connection of the first one, too.
    let mut stream = world.connect().await;
    let first = "GET http://api.example.com:443/bytes/0 HTTP/1.1\r\nHost: api.example.com\r\n\r\n";
    stream.write_all(first.as_bytes()).await.unwrap();
    assert!(head(&mut stream).await.starts_with("HTTP/1.1 200"));
    assert_eq!(code(&exchange(stream, evil.as_bytes()).await), Some("host_not_listed"));
    assert_eq!(world.evil.connections(), 0);
}

#[tokio::test]
async fn what_was_meant_for_tls_does_not_go_out_without() {
    let world = World::new(PLAIN).await;
    let https = get("https://plain.example.com:80/secret", "plain.example.com:80");
    world.arrives(&world.open, OPEN, None, &https).await;
    world.forget();
    assert_eq!(code(&world.send(&https).await), Some("proxy_scheme"));
    // Nor over a connection that is open already.
    let mut stream = world.connect().await;
    let first = "GET http://plain.example.com/bytes/0 HTTP/1.1\r\nHost: plain.example.com\r\n\r\n";
    stream.write_all(first.as_bytes()).await.unwrap();
    assert!(head(&mut stream).await.starts_with("HTTP/1.1 200"));
    assert_eq!(code(&exchange(stream, https.as_bytes()).await), Some("proxy_scheme"));
    assert_eq!(world.open.requests().len(), 1);
}

#[tokio::test]
async fn the_workload_learns_made_up_addresses_of_allowed_names_alone() {
    let world = World::new(&[TERMINATE, WILDCARD].concat()).await;
    let secret = "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV";
    let tunnels = [
        format!("{secret}.evil.example.org"),
        format!("{secret}.api.example.com"),
        format!("{secret}.{secret}.wild.example.com"),
        format!("{}evil.example.org", "a.".repeat(110)),
        "com".to_owned(),
        "_api.wild.example.com".to_owned(),
    ];
    // TXT, ANY, NULL, MX, CNAME of an allowed name.
    let other_types = [16, 255, 10, 15, 5].map(|record_type| {
        let mut question = dns::query(5, API, Family::V4);
        question[30] = record_type;
        (record_type, question)
    });
    // A label that is too long, a message that is too long, and what is no message.
    let mut long = dns::query(5, API, Family::V4);
    long[12] = 64;
    let malformed = [long, vec![0; 513], b"junk".to_vec()];
    // Unprotected, all of them reach a DNS server, which learns each name and type.
    for name in &tunnels {
        world.question_arrives(&dns::query(5, name, Family::V4)).await;
        assert_eq!(world.zone.questions().pop(), Some((name.clone(), 1)));
    }
    for (record_type, question) in &other_types {
        world.question_arrives(question).await;
        assert_eq!(world.zone.questions().pop(), Some((API.to_owned(), u16::from(*record_type))));
    }
    for message in &malformed {
        world.question_arrives(message).await;
    }
    world.forget();
    let socket = world.resolver().await;
    let ask = async |message: &[u8]| {
        socket.send(message).await.unwrap();
        let mut reply = [0; 512];
        let length = timeout(Duration::from_secs(10), socket.recv(&mut reply)).await.unwrap().unwrap();
        reply[..length].to_vec()
    };
    let mut given = Vec::new();
    for name in [API, "x.wild.example.com", API] {
        let reply = ask(&dns::query(5, name, Family::V4)).await;
        given.extend(dns::answer(&reply, 5, name, Family::V4).unwrap().addresses);
        let reply = ask(&dns::query(6, name, Family::V6)).await;
        assert!(dns::answer(&reply, 6, name, Family::V6).unwrap().addresses.is_empty());
    }
    let made_up = [1, 2, 1].map(|last| Ipv4Addr::new(198, 18, 0, last).into());
    assert_eq!((given, world.dropped()), (made_up.to_vec(), vec![]));
    for name in tunnels {
        let reply = ask(&dns::query(5, &name, Family::V4)).await;
        assert_eq!(dns::answer(&reply, 5, &name, Family::V4), Err(AnswerError::Failed(5)), "{name}");
    }
    for (record_type, question) in other_types {
        assert_eq!(ask(&question).await[3] & 15, 5, "{record_type}");
    }
    assert_eq!(world.dropped(), [&["host_not_listed"; 6][..], &["dns_type_refused"; 5]].concat());
    // No reply, but a record.
    for message in malformed {
        socket.send(&message).await.unwrap();
    }
    assert_eq!(world.dropped_when(14).await[11..], ["dns_question_malformed"; 3]);
    // None of it was asked of anybody.
    assert_eq!(world.zone.questions(), []);
}

#[tokio::test]
async fn a_connection_to_a_made_up_address_is_one_to_its_name() {
    let network = "[[bootstrap]]\ncidr = \"10.0.0.0/24\"\nports = [80]\nprotocol = \"tcp\"\n";
    let world = World::new(&[TERMINATE, PASSTHROUGH, network].concat()).await;
    let socket = world.resolver().await;
    for name in [API, "tls.example.com"] {
        socket.send(&dns::query(5, name, Family::V4)).await.unwrap();
        socket.recv(&mut [0; 512]).await.unwrap();
    }
    let to = async |listener: SocketAddr| TcpStream::connect(listener).await.unwrap();
    let api = world.transparent(|_| Ok(SocketAddr::from(([198, 18, 0, 1], 443)))).await;
    let answer = exchange(to(api).await, get("/", API).as_bytes()).await;
    assert!(answer.ends_with("you reached api.example.com"), "{answer}");
    let fronted = exchange(to(api).await, get("/", FRONTED).as_bytes()).await;
    assert_eq!(code(&fronted), Some("proxy_host_mismatch"));
    assert!(world.tls_inside(to(api).await, API).await.is_err());
    let tls = world.transparent(|_| Ok(SocketAddr::from(([198, 18, 0, 2], 443)))).await;
    let inside = world.tls_inside(to(tls).await, "tls.example.com").await.unwrap();
    let answer = exchange(inside, get("/", "tls.example.com").as_bytes()).await;
    assert!(answer.ends_with("you reached tls.example.com"), "{answer}");
    let network = world.transparent(|_| Ok(SocketAddr::from(([10, 0, 0, 5], 80)))).await;
    let answer = exchange(to(network).await, get("/", "anyone").as_bytes()).await;
    assert!(answer.ends_with("you reached anyone"), "{answer}");
    assert_eq!(world.dropped_when(2).await, ["proxy_host_mismatch", "proxy_tls_inside"]);
    // The real address of an allowed name, made-up ones of no name, other ports, other hosts, and what nobody can tell.
    let nowhere: [OriginalDestination; 6] = [
        |_| Ok(SocketAddr::from(([93, 184, 215, 14], 443))),
        |_| Ok(SocketAddr::from(([198, 18, 0, 3], 443))),
        |_| Ok(SocketAddr::from(([198, 18, 0, 1], 80))),
        |_| Ok(SocketAddr::from(([198, 18, 0, 0], 443))),
        |_| Ok(SocketAddr::from(([10, 0, 1, 5], 80))),
        |_| Err(std::io::ErrorKind::NotFound.into()),
    ];
    let reached = [&world.cdn, &world.evil, &world.inside].map(|far| far.connections());
    for meant in nowhere {
        let listener = world.transparent(meant).await;
        assert_eq!(exchange(to(listener).await, get("/", API).as_bytes()).await, "");
    }
    assert_eq!([&world.cdn, &world.evil, &world.inside].map(|far| far.connections()), reached);
    let (host, port) = ("host_not_listed", "port_not_listed");
    assert_eq!(world.dropped_when(8).await[2..], [host, host, port, host, host, "destination_unknown"]);
}

in_a_guest! {
    requests_that_can_be_read_in_two_ways_reach_nobody,
    nothing_is_smuggled_past_the_framing,
    another_host_is_not_fronted_where_the_broker_speaks_tls,
    tls_within_the_brokers_tls_is_refused,
    tls_of_the_workloads_own_must_name_the_host,
    passthrough_does_not_stop_domain_fronting,
    a_redirect_is_passed_on_and_where_it_leads_is_decided_anew,
    what_was_meant_for_tls_does_not_go_out_without,
    the_workload_learns_made_up_addresses_of_allowed_names_alone,
}
