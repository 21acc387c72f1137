//! OCSP answers written by hand: what is read, and one case of everything that is refused.
#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, clippy::indexing_slicing, reason = "tests")]

#[path = "support/der.rs"]
mod der_of;
#[path = "support/x509_ocsp.rs"]
mod oracle;

use confide_evidence::ocsp::{
    CertStatus, HashAlgorithm, MAX_OCSP, OcspError, OcspResponse, Responder, ResponseStatus,
};
use confide_evidence::x509::{Certificate, Reason, SignatureAlgorithm};
use confide_evidence::{hex, time};
use der_of::{
    Answer, DIGESTS, ECDSA_SHA384, Single, certificate, extension, extensions, name, nonce, seq, tlv,
};
use oracle::read_alike;
use proptest::prelude::*;
use sha2::Digest as _;

/// A hash function.
type Digest = fn(&[u8]) -> Vec<u8>;

/// An extension of nobody's, 2.5.29.9.9.
const NOBODYS: [u8; 4] = [0x55, 0x1d, 9, 9];

fn seconds(text: &str) -> i64 {
    time::parse_seconds(text).unwrap()
}

fn refused(answer: &Answer) -> OcspError {
    OcspResponse::parse(&answer.der()).unwrap_err()
}

#[test]
fn every_field_of_an_answer_is_read() {
    let revoked = tlv(0xa1, &[der_of::time("20251224180000Z"), tlv(0xa0, &tlv(0x0a, &[6]))].concat());
    let single = Single { next_update: Vec::new(), ..Single::with(revoked) };
    let answer = Answer { extensions: extensions(&[nonce(false, &[9; 32])]), ..Answer::of(vec![single]) };
    let answer = answer.beside(&[certificate("a responder", 7, &[])]);
    let read = OcspResponse::parse(&answer.der()).unwrap();
    assert_eq!(read.tbs, answer.tbs());
    assert_eq!(read.signature, [0x30, 0]);
    assert_eq!(read.signature_algorithm, SignatureAlgorithm::EcdsaSha384);
    assert_eq!(read.produced_at, seconds("2026-01-02T03:04:06Z"));
    assert_eq!(read.responder, Responder::Name(name("a responder")));
    assert_eq!(read.nonce, Some(vec![9; 32]));
    assert_eq!(read.responder_certificate().unwrap().common_name, "a responder");
    let [single] = &read.responses[..] else { panic!("{:?}", read.responses) };
    assert_eq!(single.cert_id.hash_algorithm, HashAlgorithm::Sha1);
    assert_eq!(single.cert_id.issuer_name_hash, [1; 20]);
    assert_eq!(single.cert_id.issuer_key_hash, [2; 20]);
    assert_eq!(single.cert_id.serial, [0x41, 7]);
    assert_eq!(single.this_update, seconds("2026-01-02T03:04:05Z"));
    assert_eq!(single.next_update, None);
    let time = seconds("2025-12-24T18:00:00Z");
    assert_eq!(single.status, CertStatus::Revoked { time, reason: Some(Reason::CertificateHold) });
    assert!(read_alike(&answer.der()));
}

#[test]
fn answers_are_sorted_by_serial_number() {
    let answer = Answer::of([&[9][..], &[0, 0x80], &[1, 0], &[3]].map(Single::about).to_vec());
    let read = OcspResponse::parse(&answer.der()).unwrap();
    let serials: Vec<&[u8]> = read.responses.iter().map(|single| &single.cert_id.serial[..]).collect();
    assert_eq!(serials, [&[1, 0][..], &[3], &[9], &[0x80]]);
    assert!(read_alike(&answer.der()));
}

#[test]
fn every_reason_is_read_and_no_other() {
    let status =
        |number: u8| tlv(0xa1, &[der_of::time("20251224180000Z"), tlv(0xa0, &tlv(0x0a, &[number]))].concat());
    for number in [0, 1, 2, 3, 4, 5, 6, 8, 9, 10] {
        let answer = Answer::of(vec![Single::with(status(number))]);
        let read = OcspResponse::parse(&answer.der()).unwrap();
        let CertStatus::Revoked { reason: Some(reason), .. } = read.responses[0].status else { panic!() };
        assert_eq!(oracle::number_of(reason), u32::from(number), "{}", reason.name());
        assert!(read_alike(&answer.der()));
    }
    for number in [7, 11, 255] {
        assert_eq!(
            refused(&Answer::of(vec![Single::with(status(number))])),
            OcspError::Der("SingleResponse")
        );
    }
    let unstated = tlv(0xa1, &der_of::time("20251224180000Z"));
    let read = OcspResponse::parse(&Answer::of(vec![Single::with(unstated)]).der()).unwrap();
    assert!(matches!(read.responses[0].status, CertStatus::Revoked { reason: None, .. }));
    let read = OcspResponse::parse(&Answer::of(vec![Single::with(vec![0x82, 0])]).der()).unwrap();
    assert_eq!(read.responses[0].status, CertStatus::Unknown);
}

#[test]
fn unsuccessful_answers_say_why() {
    for (number, status) in [
        (1, ResponseStatus::MalformedRequest),
        (2, ResponseStatus::InternalError),
        (3, ResponseStatus::TryLater),
        (5, ResponseStatus::SigRequired),
        (6, ResponseStatus::Unauthorized),
    ] {
        let bare = seq(&[&tlv(0x0a, &[number])]);
        assert_eq!(OcspResponse::parse(&bare), Err(OcspError::Unsuccessful(status)), "{status}");
        let with_bytes = Answer { status: tlv(0x0a, &[number]), ..Answer::default() };
        assert_eq!(refused(&with_bytes), OcspError::Der("an OCSP answer"), "{status} with an answer");
    }
    for number in [0, 4, 7, 255] {
        let bare = seq(&[&tlv(0x0a, &[number])]);
        assert_eq!(OcspResponse::parse(&bare), Err(OcspError::Der("an OCSP answer")), "{number}");
    }
}

#[test]
fn issuers_are_known_by_name_and_key_in_three_digests() {
    let issuer = Certificate::parse(&certificate("an issuer", 7, &[])).unwrap();
    let other_key = Certificate::parse(&certificate("an issuer", 8, &[])).unwrap();
    let other_name = Certificate::parse(&certificate("another issuer", 7, &[])).unwrap();
    let digests: [Digest; 3] = [
        |bytes| sha1::Sha1::digest(bytes).to_vec(),
        |bytes| sha2::Sha256::digest(bytes).to_vec(),
        |bytes| sha2::Sha384::digest(bytes).to_vec(),
    ];
    for (oid, digest) in DIGESTS.into_iter().zip(digests) {
        for parameters in [&[][..], &[5, 0]] {
            let single = Single {
                algorithm: seq(&[&tlv(6, oid), parameters]),
                name_hash: tlv(4, &digest(&issuer.subject)),
                key_hash: tlv(4, &digest(&issuer.public_key)),
                ..Single::default()
            };
            let answer = Answer::of(vec![single]);
            let read = OcspResponse::parse(&answer.der()).unwrap();
            let id = &read.responses[0].cert_id;
            assert!(id.is_of(&issuer));
            assert!(!id.is_of(&other_key) && !id.is_of(&other_name));
            assert!(read.single(&[0x41, 7], &issuer).is_some());
            assert!(read.single(&[0x41, 8], &issuer).is_none(), "another serial number");
            assert!(read.single(&[0x41, 7], &other_key).is_none(), "another issuer");
            assert!(read_alike(&answer.der()));
        }
    }
    // Of the key in `der_of::point`, by another implementation of SHA-1.
    let hash: [u8; 20] = hex::decode_array("c064c782a8c32eabdd30c0c07c03de7ffc377fad").unwrap();
    let by_key = Answer { responder: tlv(0xa2, &tlv(4, &hash)), ..Answer::default() };
    let read = OcspResponse::parse(&by_key.der()).unwrap();
    assert_eq!(read.responder, Responder::KeyHash(hash));
    assert!(read.responder.is(&issuer) && read.responder.is(&other_name) && !read.responder.is(&other_key));
    let by_name = Responder::Name(name("an issuer"));
    assert!(by_name.is(&issuer) && by_name.is(&other_key) && !by_name.is(&other_name));
    assert_eq!(read.responder_certificate(), None);
    assert!(read_alike(&by_key.der()));
}

#[test]
fn nonces_are_kept_and_bounded() {
    for critical in [false, true] {
        for size in [1, 32, 128] {
            let list = extensions(&[nonce(critical, &vec![5; size])]);
            let answer = Answer { extensions: list, ..Answer::default() };
            assert_eq!(OcspResponse::parse(&answer.der()).unwrap().nonce, Some(vec![5; size]));
        }
    }
    for value in [vec![], vec![5; 129]] {
        let answer = Answer { extensions: extensions(&[nonce(false, &value)]), ..Answer::default() };
        assert_eq!(refused(&answer), OcspError::Der("a nonce"));
    }
    let bare = extension(&[0x2b, 6, 1, 5, 5, 7, 0x30, 1, 2], false, &[5; 32]);
    let answer = Answer { extensions: extensions(&[bare]), ..Answer::default() };
    assert_eq!(refused(&answer), OcspError::Der("a nonce"), "an octet string is missing");
}

#[test]
fn extensions_that_nobody_reads_are_refused_where_critical() {
    let ignored = extensions(&[extension(&NOBODYS, false, b"x")]);
    let single = Single { extensions: ignored.clone(), ..Single::default() };
    let answer = Answer { extensions: ignored, ..Answer::of(vec![single]) };
    assert!(read_alike(&answer.der()));
    let critical = extensions(&[extension(&NOBODYS, true, b"x"), nonce(true, b"n")]);
    let single = Single { extensions: extensions(&[nonce(true, b"n")]), ..Single::default() };
    let answer = Answer { extensions: critical, ..Answer::of(vec![single]) };
    let names = ["1.3.6.1.5.5.7.48.1.2", "2.5.29.9.9"].map(str::to_owned).to_vec();
    assert_eq!(refused(&answer), OcspError::CriticalExtensions(names), "a nonce belongs to the whole answer");
    let twice = extensions(&[nonce(false, b"n"), nonce(false, b"n")]);
    let answer = Answer { extensions: twice, ..Answer::default() };
    assert_eq!(refused(&answer), OcspError::DuplicateExtension);
    let long = vec![0x2a; 65];
    let answer = Answer { extensions: extensions(&[extension(&long, true, b"x")]), ..Answer::default() };
    assert_eq!(refused(&answer), OcspError::Der("the extensions of an OCSP answer"));
}

#[test]
fn limits_hold() {
    let serials = |count: u8| (1..=count).map(|number| Single::about(&[number])).collect();
    assert!(OcspResponse::parse(&Answer::of(serials(8)).der()).is_ok());
    assert_eq!(refused(&Answer::of(serials(9))), OcspError::TooManyResponses);
    assert_eq!(refused(&Answer::of(Vec::new())), OcspError::Empty);
    let beside = |count: usize| Answer::default().beside(&vec![certificate("a responder", 7, &[]); count]);
    assert_eq!(OcspResponse::parse(&beside(4).der()).unwrap().certificates.len(), 4);
    assert_eq!(refused(&beside(5)), OcspError::TooManyCertificates);
    let broken = Answer::default().beside(&[certificate("a responder", 7, &[]), seq(&[])]);
    assert!(matches!(refused(&broken), OcspError::Certificate { index: 1, .. }));
    let large = extensions(&[extension(&NOBODYS, false, &vec![0; MAX_OCSP])]);
    let large = Answer { extensions: large, ..Answer::default() }.der();
    assert_eq!(OcspResponse::parse(&large), Err(OcspError::TooLarge(large.len())));
}

#[test]
fn answers_of_several_issuers_and_about_one_certificate_twice_are_refused() {
    let of = |other: Single| refused(&Answer::of(vec![Single::about(&[1]), other]));
    let default = Single::default;
    let several = OcspError::SeveralIssuers;
    assert_eq!(of(Single { name_hash: tlv(4, &[9; 20]), ..default() }), several);
    assert_eq!(of(Single { key_hash: tlv(4, &[9; 20]), ..default() }), several);
    let hash = tlv(4, &[1; 32]);
    let sha256 = seq(&[&tlv(6, DIGESTS[1])]);
    let other = Single { algorithm: sha256, name_hash: hash.clone(), key_hash: hash, ..default() };
    assert_eq!(of(other), several);
    assert_eq!(of(Single::about(&[1])), OcspError::DuplicateSerial);
    assert_eq!(of(Single { status: vec![0x82, 0], ..Single::about(&[1]) }), OcspError::DuplicateSerial);
}

#[test]
fn malformed_parts_are_named() {
    let answer = Answer::default;
    for (what, wrong, part) in [
        (
            "a version, which has its default",
            Answer { version: tlv(0xa0, &tlv(2, &[0])), ..answer() },
            "ResponseData",
        ),
        ("a responder without a name", Answer { responder: tlv(0xa1, &[]), ..answer() }, "ResponseData"),
        (
            "a name that is none",
            Answer { responder: tlv(0xa1, &seq(&[&[5, 0]])), ..answer() },
            "ResponseData",
        ),
        (
            "a responder of two names",
            Answer { responder: tlv(0xa1, &name("a").repeat(2)), ..answer() },
            "ResponseData",
        ),
        (
            "a key hash of 19 bytes",
            Answer { responder: tlv(0xa2, &tlv(4, &[1; 19])), ..answer() },
            "ResponseData",
        ),
        (
            "another choice of responder",
            Answer { responder: tlv(0xa3, &name("a")), ..answer() },
            "ResponseData",
        ),
        ("a UTCTime", Answer { produced_at: tlv(0x17, b"260102030405Z"), ..answer() }, "ResponseData"),
        ("a fraction", Answer { produced_at: der_of::time("20260102030405.1Z"), ..answer() }, "ResponseData"),
        (
            "an offset",
            Answer { produced_at: der_of::time("20260102030405+0000"), ..answer() },
            "ResponseData",
        ),
        ("no seconds", Answer { produced_at: der_of::time("202601020304Z"), ..answer() }, "ResponseData"),
        ("no such day", Answer { produced_at: der_of::time("20260229030405Z"), ..answer() }, "ResponseData"),
        (
            "no extension",
            Answer { extensions: extensions(&[]), ..answer() },
            "the extensions of an OCSP answer",
        ),
        (
            "another tag",
            Answer { extensions: tlv(0xa2, &[]), ..answer() },
            "the extensions of an OCSP answer",
        ),
        (
            "FALSE written out",
            Answer {
                extensions: extensions(&[seq(&[&tlv(6, &NOBODYS), &[1, 1, 0], &tlv(4, b"")])]),
                ..answer()
            },
            "the extensions of an OCSP answer",
        ),
        (
            "TRUE as 1",
            Answer {
                extensions: extensions(&[seq(&[&tlv(6, &NOBODYS), &[1, 1, 1], &tlv(4, b"")])]),
                ..answer()
            },
            "the extensions of an OCSP answer",
        ),
        (
            "bytes behind extensions",
            Answer { extensions: [extensions(&[nonce(false, b"n")]), vec![5, 0]].concat(), ..answer() },
            "the extensions of an OCSP answer",
        ),
        ("unused bits", Answer { signature: tlv(3, &[1, 0x30, 0]), ..answer() }, "an OCSP answer"),
        ("no bits", Answer { signature: tlv(3, &[]), ..answer() }, "an OCSP answer"),
        ("no algorithm", Answer { algorithm: Vec::new(), ..answer() }, "an OCSP answer"),
        (
            "certificates with another tag",
            Answer { certificates: tlv(0xa1, &seq(&[])), ..answer() },
            "the certificates of an OCSP answer",
        ),
        (
            "bytes behind certificates",
            Answer { certificates: [tlv(0xa0, &seq(&[])), vec![5, 0]].concat(), ..answer() },
            "the certificates of an OCSP answer",
        ),
        ("a status of two bytes", Answer { status: tlv(0x0a, &[0, 0]), ..answer() }, "an OCSP answer"),
        ("a status that is an integer", Answer { status: tlv(2, &[0]), ..answer() }, "an OCSP answer"),
    ] {
        assert_eq!(refused(&wrong), OcspError::Der(part), "{what}");
    }
    let other = Answer { kind: tlv(6, &[0x2b, 6, 1, 5, 5, 7, 0x30, 1, 2]), ..answer() };
    assert_eq!(refused(&other), OcspError::Type);
}

#[test]
fn malformed_single_responses_are_named() {
    let single = Single::default;
    for (what, wrong, part) in [
        ("no serial number", Single::about(&[]), "CertID"),
        ("the serial number 0", Single::about(&[0]), "CertID"),
        ("a negative serial number", Single::about(&[0x80]), "CertID"),
        ("a serial number with a zero too many", Single::about(&[0, 0x7f]), "CertID"),
        ("a serial number with two zeros", Single::about(&[0, 0, 0x80]), "CertID"),
        ("a serial number of 21 bytes", Single::about(&[1; 21]), "CertID"),
        ("a hash of another size", Single { key_hash: tlv(4, &[2; 32]), ..single() }, "CertID"),
        ("a hash that is none", Single { name_hash: tlv(3, &[2; 20]), ..single() }, "CertID"),
        (
            "parameters of a digest",
            Single { algorithm: seq(&[&tlv(6, DIGESTS[0]), &[5, 1, 0]]), ..single() },
            "the digest of CertID",
        ),
        ("good with content", Single::with(vec![0x80, 1, 0]), "SingleResponse"),
        ("unknown with content", Single::with(vec![0x82, 1, 0]), "SingleResponse"),
        ("revoked without a time", Single::with(vec![0xa1, 0]), "SingleResponse"),
        ("another status", Single::with(vec![0x83, 0]), "SingleResponse"),
        ("a UTCTime", Single { this_update: tlv(0x17, b"260102030405Z"), ..single() }, "SingleResponse"),
        (
            "two next updates",
            Single { next_update: tlv(0xa0, &der_of::time("20260103030405Z").repeat(2)), ..single() },
            "SingleResponse",
        ),
        (
            "bytes at the end",
            Single { extensions: vec![5, 0], ..single() },
            "the extensions of an OCSP answer",
        ),
    ] {
        assert_eq!(refused(&Answer::of(vec![wrong])), OcspError::Der(part), "{what}");
    }
    let sha512 = Single { algorithm: seq(&[&tlv(6, DIGESTS[3])]), ..single() };
    assert_eq!(refused(&Answer::of(vec![sha512])), OcspError::Hash);
    let longest = Answer::of(vec![Single::about(&[&[0][..], &[0x80; 20]].concat())]);
    assert!(read_alike(&longest.der()));
}

#[test]
fn lengths_are_the_shortest_and_nothing_follows() {
    let der = Answer::default().der();
    assert!(OcspResponse::parse(&der).is_ok());
    let trailing = [&der[..], &[0]].concat();
    assert_eq!(OcspResponse::parse(&trailing), Err(OcspError::Der("an OCSP answer")));
    assert_eq!(OcspResponse::parse(&der[..der.len() - 1]), Err(OcspError::Der("an OCSP answer")));
    assert_eq!(OcspResponse::parse(&[]), Err(OcspError::Der("an OCSP answer")));
    // 0x81 0xNN → 0x82 0x00 0xNN.
    assert_eq!(der[1], 0x81);
    let longer = [&[0x30, 0x82, 0][..], &der[2..]].concat();
    assert_eq!(OcspResponse::parse(&longer), Err(OcspError::Der("an OCSP answer")));
    let indefinite = [&[0x30, 0x80][..], &der[3..], &[0, 0]].concat();
    assert_eq!(OcspResponse::parse(&indefinite), Err(OcspError::Der("an OCSP answer")));
}

#[test]
fn algorithms_that_nothing_verifies_are_other() {
    let null = seq(&[&ECDSA_SHA384[2..], &[5, 0]]);
    let sha1 = seq(&[&tlv(6, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 1])]);
    for algorithm in [null, sha1] {
        let read = OcspResponse::parse(&Answer { algorithm, ..Answer::default() }.der()).unwrap();
        assert_eq!(read.signature_algorithm, SignatureAlgorithm::Other);
    }
}

proptest! {
    #[test]
    fn no_input_panics(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = OcspResponse::parse(&bytes);
    }

    #[test]
    fn a_changed_answer_is_what_x509_ocsp_reads(place in any::<usize>(), bit in 0..8_u32) {
        let revoked = tlv(0xa1, &[der_of::time("20251224180000Z"), tlv(0xa0, &tlv(0x0a, &[6]))].concat());
        let singles = vec![Single::about(&[1]), Single::with(revoked)];
        let answer = Answer { extensions: extensions(&[nonce(false, &[9; 32])]), ..Answer::of(singles) };
        let mut der = answer.der();
        prop_assert!(read_alike(&der));
        let place = place % der.len();
        der[place] ^= 1 << bit;
        read_alike(&der);
    }
}
