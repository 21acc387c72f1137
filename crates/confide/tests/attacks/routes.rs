//! Ways to make the program speak elsewhere, in the clear, or for somebody else.

use crate::rig::{BOTH, Outcome, Over, Proxy, SECRET, Trap, Victim, got_nothing};
use confide_testkit::guest::{Attestation, Chat, Guest, Raw, Then, Tls, WORDS};
use std::process::Command;

/// An answer that leads to another origin.
fn redirect(trap: &Trap) -> Raw {
    let head = format!(
        "HTTP/1.1 307 Temporary Redirect\r\nlocation: https://{}/v1/chat/completions\r\ncontent-length: 0\r\n\r\n",
        trap.address
    );
    Raw { bytes: head.into_bytes(), then: Then::Wait }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_redirect_is_followed_or_passed_on() {
    let trap = Trap::set();
    let early = Guest::new(0).unwrap().attesting(Attestation::Raw(redirect(&trap))).listen().await.unwrap();
    let victim = Victim::new();
    victim.chat(&early.url()).refused(1, "attestation_status");
    victim.proxy(&early.url()).ask().refused("attestation_status");
    got_nothing(&early.guest);
    let late = Guest::new(0).unwrap().chatting(Chat::Raw(redirect(&trap))).listen().await.unwrap();
    assert_ne!(victim.chat(&late.url()).status, 0);
    let answer = victim.proxy(&late.url()).ask();
    assert!(answer.status >= 500 && !answer.head.contains("location"), "{answer:?}");
    assert!(
        late.guest.saw(SECRET.as_bytes()),
        "the control: this guest was accepted before it led elsewhere"
    );
    assert!(trap.caught().is_empty(), "nobody went there");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_weaker_protocol_is_spoken() {
    let trap = Trap::set();
    let plain = format!("http://{}", trap.address);
    let victim = Victim::new();
    victim.chat(&plain).refused(2, "plain_http_refused");
    let mut proxy = victim.command("proxy", "--upstream", &plain);
    Outcome::of(proxy.args(["--listen", "127.0.0.1:0"])).refused(2, "plain_http_refused");
    assert!(trap.caught().is_empty());
    for over in BOTH {
        for (tls, status, code) in [(Tls::Version12, 10, "tls_version"), (Tls::None, 1, "tls_failed")] {
            let guest = Guest::with_tls(0, tls).unwrap().with_http2(100).listen().await.unwrap();
            let victim = Victim::over(over);
            victim.chat(&guest.url()).refused(status, code);
            victim.proxy(&guest.url()).ask().refused(code);
            let wire: Vec<u8> = guest.guest.seen().into_iter().flat_map(|seen| seen.wire).collect();
            assert!(!wire.windows(SECRET.len()).any(|window| window == SECRET.as_bytes()));
            assert!(
                guest.guest.seen().iter().all(|seen| seen.plaintext.is_empty() && seen.requests.is_empty())
            );
        }
    }
}

/// A guest that speaks HTTP/1.1 alone gets no less care than was wanted over HTTP/2.
#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_takes_http_2_away_attests_every_connection_all_the_same() {
    let guest = Guest::new(0).unwrap().chatting(Chat::Close).listen().await.unwrap();
    let victim = Victim::over(Over::Http2);
    let proxy = victim.proxy(&guest.url());
    for _ in 0..3 {
        assert!(proxy.ask().is_answer());
    }
    for connection in guest.guest.seen().iter().filter(|connection| !connection.requests.is_empty()) {
        assert_eq!(connection.requests[0].line, "POST /.well-known/confide/attestation");
    }
}

/// Everything that programs read in the environment to find a proxy.
const VARIABLES: [&str; 8] = [
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "SOCKS_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "socks_proxy",
];

fn with_proxies(command: &mut Command, trap: &Trap) {
    for variable in VARIABLES {
        command.env(variable, format!("http://{}", trap.address));
    }
    command.env_remove("NO_PROXY").env_remove("no_proxy");
}

#[tokio::test(flavor = "multi_thread")]
async fn proxy_variables_of_the_environment_move_no_byte() {
    let trap = Trap::set();
    for over in BOTH {
        let guest = Guest::new(0).unwrap().with_http2(100).listen().await.unwrap();
        let victim = Victim::over(over);
        let mut chat = victim.question(&guest.url());
        with_proxies(&mut chat, &trap);
        assert_eq!(Outcome::of(&mut chat).answered(), WORDS.concat());
        let mut command = victim.command("proxy", "--upstream", &guest.url());
        with_proxies(&mut command, &trap);
        assert!(Proxy::start(&mut command).ask().looks_finished());
    }
    assert!(trap.caught().is_empty(), "no byte went there");
    // The control: the trap catches who is sent there.
    std::net::TcpStream::connect(trap.address).unwrap();
    crate::rig::until("the trap", || trap.caught().len() == 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_web_page_does_not_reach_the_guest_through_the_local_endpoint() {
    let guest = Guest::new(0).unwrap().listen().await.unwrap();
    let victim = Victim::new();
    let proxy = victim.proxy(&guest.url());
    for (fields, code) in [
        (&[("origin", "https://evil.example")][..], "origin_refused"),
        (&[("origin", "null")], "origin_refused"),
        (&[("origin", "http://localhost.evil.example")], "origin_refused"),
        (&[("sec-fetch-site", "cross-site")], "origin_refused"),
        (&[("host", "evil.example")], "host_refused"),
        (&[("host", "localhost.evil.example")], "host_refused"),
        (&[("host", "localhost"), ("host", "localhost")], "host_malformed"),
    ] {
        for method in ["POST", "OPTIONS", "GET"] {
            let answer = proxy.send(method, fields);
            assert!((400..500).contains(&answer.status), "{method} {fields:?}: {answer:?}");
            assert!(answer.text().contains(code), "{method} {fields:?}: {answer:?}");
            assert!(!answer.head.contains("access-control"), "no page may read it: {answer:?}");
        }
    }
    got_nothing(&guest.guest);
    let local = proxy.send("POST", &[("origin", "http://localhost:3000"), ("sec-fetch-site", "same-site")]);
    assert!(local.looks_finished() && !local.head.contains("access-control"), "{local:?}");
    assert!(guest.guest.saw(SECRET.as_bytes()), "the control: a page of this machine");
}
