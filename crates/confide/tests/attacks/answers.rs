//! Accepted guests, or whoever owns the network to them, that break answers.

use crate::rig::{BOTH, Over, Victim};
use confide_testkit::guest::{Attestation, Chat, Guest, Listening, Raw, Then, WORDS};

async fn chatting(chat: Chat) -> Listening {
    Guest::new(0).unwrap().with_http2(100).chatting(chat).listen().await.unwrap()
}

/// A frame of HTTP/2 (RFC 9113 section 4.1) on the stream of the first request after the attestation's.
fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags, 0, 0, 0, 3], payload].concat()
}

/// A whole answer: two events, and what ends the stream.
const EVENTS: &str = concat!(
    "data: {\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"half\"},\"finish_reason\":null}]}\n\n",
    "data: {\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n",
    "data: [DONE]\n\n",
);

/// The beginning of the answer, up to a place between two events or within one.
fn begun(over: Over, end: usize) -> Vec<u8> {
    let events = &EVENTS.as_bytes()[..end];
    match over {
        Over::Http1 => {
            let head =
                "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
            let chunk = [format!("{:x}\r\n", events.len()).as_bytes(), events, b"\r\n"].concat();
            [head.as_bytes(), &chunk].concat()
        }
        Over::Http2 => {
            // `:status: 200`, and content-type as a literal of the 31st entry (RFC 7541 appendix A).
            let fields = [&[0x88, 0x0f, 0x10, 17][..], b"text/event-stream"].concat();
            [frame(1, 4, &fields), frame(0, 0, events)].concat()
        }
    }
}

/// How an answer may break off: by whoever owns the network, by TLS's goodbye alone, or in the framing of HTTP.
fn breaks(over: Over) -> Vec<(&'static str, Vec<u8>, Then)> {
    let mut breaks =
        vec![("the connection is cut", Vec::new(), Then::Cut), ("TLS ends", Vec::new(), Then::Close)];
    match over {
        Over::Http1 => breaks.push(("a broken chunk", b"zz\r\n".to_vec(), Then::Wait)),
        Over::Http2 => {
            for (what, reason) in [("reset without an error", 0), ("cancelled", 8), ("reset", 2)] {
                breaks.push((what, frame(3, 0, &u32::to_be_bytes(reason)), Then::Wait));
            }
        }
    }
    breaks
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_cut_short_is_an_error_and_no_answer() {
    let between = EVENTS.find("\n\n").unwrap() + 2;
    for over in BOTH {
        let victim = Victim::over(over);
        for (what, end, then) in breaks(over) {
            // The last place is behind all that was to be said: only the end of the answer is missing.
            for place in [between, between + 9, EVENTS.len()] {
                let bytes = [begun(over, place), end.clone()].concat();
                let guest = chatting(Chat::Raw(Raw { bytes, then })).await;
                let told = format!("{over:?}, {what} at {place}");
                let answer = victim.proxy(&guest.url()).ask();
                let finished = answer.looks_finished() && answer.whole;
                assert!(!finished, "{told}: {answer:?}");
                if place < EVENTS.len() {
                    let outcome = victim.chat(&guest.url());
                    assert_ne!(outcome.status, 0, "{told}: {}", outcome.told);
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_ends_as_it_should_is_an_answer() {
    for over in BOTH {
        let end = match over {
            Over::Http1 => b"0\r\n\r\n".to_vec(),
            Over::Http2 => frame(0, 1, b""),
        };
        let bytes = [begun(over, EVENTS.len()), end].concat();
        let guest = chatting(Chat::Raw(Raw { bytes, then: Then::Wait })).await;
        let answer = Victim::over(over).proxy(&guest.url()).ask();
        assert!(answer.looks_finished(), "{over:?}: {answer:?}");
        assert_eq!(answer.text(), EVENTS);
    }
}

/// Zeros in DEFLATE with the fixed codes (RFC 1951 section 3.2.6), within gzip (RFC 1952): 13 bits for every 258 of them.
fn bomb(pieces: usize) -> Vec<u8> {
    let mut bits = vec![true, true, false];
    let mut code = |code: u16, length: u16| {
        bits.extend((0..length).rev().map(|place| code >> place & 1 == 1));
    };
    code(0b0011_0000, 8);
    for _ in 0..pieces {
        // Length 258, distance 1.
        code(0b1100_0101, 8);
        code(0, 5);
    }
    code(0, 7);
    let deflated = bits
        .chunks(8)
        .map(|bits| bits.iter().enumerate().fold(0, |byte, (place, bit)| byte | u8::from(*bit) << place));
    let mut bytes = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    bytes.extend(deflated);
    // CRC-32 and length: whoever expands it sees them last.
    bytes.extend([0; 8]);
    bytes
}

/// 256 MiB in under 2 MiB. Nothing is ever expanded: what is compressed is no evidence, and an answer passes as it came.
#[tokio::test(flavor = "multi_thread")]
async fn a_decompression_bomb_is_not_expanded() {
    let bomb = bomb(1 << 20);
    assert!((1 << 20..2 << 20).contains(&bomb.len()), "{} bytes", bomb.len());
    let answer = |kind: &str| {
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n",
            bomb.len()
        );
        Raw { bytes: [head.as_bytes(), &bomb].concat(), then: Then::Wait }
    };
    let victim = Victim::new();
    let document = Attestation::Raw(answer("application/vnd.confide.evidence+cbor"));
    let guest = Guest::new(0).unwrap().attesting(document).listen().await.unwrap();
    victim.chat(&guest.url()).refused(30, "document_format");
    crate::rig::got_nothing(&guest.guest);
    let guest = chatting(Chat::Raw(answer("application/json"))).await;
    let passed = victim.proxy(&guest.url()).ask();
    assert!(passed.head.contains("\r\ncontent-encoding: gzip"), "{}", passed.head);
    assert!(passed.whole && passed.body == bomb, "{} bytes", passed.body.len());
    assert_ne!(victim.chat(&guest.url()).status, 0, "the program reads no compressed answer");
    let guest = chatting(Chat::Answer).await;
    assert_eq!(victim.chat(&guest.url()).answered(), WORDS.concat(), "the control");
}
