//! Certificates and revocation lists written by hand: purposes, and times and reasons of entries.
#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, clippy::indexing_slicing, reason = "tests")]

#[path = "support/der.rs"]
mod der_of;

use confide_evidence::time;
use confide_evidence::x509::{Certificate, Crl, OCSP_NO_CHECK, OCSP_SIGNING, Reason, Revocation, X509Error};
use der_of::{certificate, extension, revocation_list, seq, tlv};

/// id-ce-extKeyUsage.
const EXTENDED_KEY_USAGE: [u8; 3] = [0x55, 0x1d, 0x25];
/// id-pkix-ocsp-nocheck.
const NO_CHECK: [u8; 9] = [0x2b, 6, 1, 5, 5, 7, 0x30, 1, 5];

/// id-kp and a number.
fn purpose(number: u8) -> Vec<u8> {
    tlv(6, &[0x2b, 6, 1, 5, 5, 7, 3, number])
}

fn with(extensions: &[Vec<u8>]) -> Result<Certificate, X509Error> {
    Certificate::parse(&certificate("a certificate", 7, extensions))
}

fn purposes(value: &[u8]) -> Result<Vec<String>, X509Error> {
    with(&[extension(&EXTENDED_KEY_USAGE, true, value)]).map(|certificate| certificate.extended_key_usage)
}

#[test]
fn every_purpose_is_kept_in_order_with_those_that_have_names() {
    let any = tlv(6, &[0x55, 0x1d, 0x25, 0]);
    let others = [1, 2, 3, 4, 8, 9].map(purpose).concat();
    let found = purposes(&seq(&[&tlv(6, &NO_CHECK), &any, &others])).unwrap();
    let named = [1, 2, 3, 4, 8, 9].map(|number| format!("1.3.6.1.5.5.7.3.{number}"));
    assert_eq!(found[..2], [OCSP_NO_CHECK, "2.5.29.37.0"]);
    assert_eq!(found[2..], named);
    assert_eq!(found[7], OCSP_SIGNING);
    assert_eq!(with(&[]).unwrap().extended_key_usage, [""; 0]);
}

#[test]
fn purposes_that_cannot_be_read_are_no_certificate() {
    let long = tlv(6, &[0x2a; 65]);
    for (what, value) in [
        ("none at all", seq(&[])),
        ("no sequence", purpose(9)),
        ("bytes behind", [seq(&[&purpose(9)]), vec![0]].concat()),
        ("another type", seq(&[&purpose(9), &[5, 0]])),
        ("an empty identifier", seq(&[&tlv(6, &[])])),
        ("a long identifier", seq(&[&long])),
        ("nothing", Vec::new()),
    ] {
        assert_eq!(purposes(&value), Err(X509Error::Der("a certificate")), "{what}");
    }
}

#[test]
fn no_check_is_seen_as_an_extension_and_as_a_purpose() {
    let as_extension = with(&[extension(&NO_CHECK, false, &[5, 0])]).unwrap();
    assert!(as_extension.has_ocsp_no_check() && as_extension.extension(OCSP_NO_CHECK).is_some());
    let purposes = seq(&[&purpose(9), &tlv(6, &NO_CHECK)]);
    let as_purpose = with(&[extension(&EXTENDED_KEY_USAGE, true, &purposes)]).unwrap();
    assert!(as_purpose.has_ocsp_no_check() && as_purpose.extension(OCSP_NO_CHECK).is_none());
    let signing = with(&[extension(&EXTENDED_KEY_USAGE, true, &seq(&[&purpose(9)]))]).unwrap();
    assert!(!signing.has_ocsp_no_check());
}

/// An entry of a list.
fn entry(serial: &[u8], time: &[u8], extensions: &[Vec<u8>]) -> Vec<u8> {
    let list = seq(&[&extensions.concat()]);
    seq(&[&tlv(2, serial), time, if extensions.is_empty() { &[] } else { &list }])
}

fn reason(value: &[u8]) -> Vec<u8> {
    extension(&[0x55, 0x1d, 0x15], false, value)
}

fn numbered(number: u8) -> Vec<u8> {
    reason(&tlv(0x0a, &[number]))
}

fn seconds(text: &str) -> i64 {
    time::parse_seconds(text).unwrap()
}

#[test]
fn entries_have_their_time_and_reason() {
    let utc = tlv(0x17, b"260102030405Z");
    let early = tlv(0x17, b"991231235959Z");
    let late = der_of::time("20500101000000Z");
    let list = revocation_list(&[
        entry(&[9], &utc, &[numbered(6)]),
        entry(&[0, 0x80], &early, &[]),
        entry(&[1], &late, &[extension(&[0x55, 0x1d, 0x18], false, b"another"), numbered(1)]),
    ]);
    let list = Crl::parse(&list).unwrap();
    let hold = Revocation { time: seconds("2026-01-02T03:04:05Z"), reason: Some(Reason::CertificateHold) };
    assert_eq!(list.entry(&[9]), Some(hold));
    assert_eq!(list.entry(&[0x80]), Some(Revocation { time: seconds("1999-12-31T23:59:59Z"), reason: None }));
    let compromised =
        Revocation { time: seconds("2050-01-01T00:00:00Z"), reason: Some(Reason::KeyCompromise) };
    assert_eq!(list.entry(&[1]), Some(compromised));
    assert!(list.entries().map(|(serial, _)| serial).eq([&[1][..], &[9], &[0x80]]));
    for other in [&[][..], &[0], &[2], &[0xff], &[1, 0]] {
        assert_eq!(list.entry(other), None);
        assert!(!list.revokes(other));
    }
}

#[test]
fn all_reasons_of_rfc_5280_are_read_and_no_other() {
    let time = der_of::time("20260102030405Z");
    let of = |extension: Vec<u8>| {
        let list = Crl::parse(&revocation_list(&[entry(&[9], &time, &[extension])]))?;
        Ok(list.entry(&[9]).unwrap().reason.unwrap())
    };
    for (number, expected) in [
        (0, Reason::Unspecified),
        (1, Reason::KeyCompromise),
        (2, Reason::CaCompromise),
        (3, Reason::AffiliationChanged),
        (4, Reason::Superseded),
        (5, Reason::CessationOfOperation),
        (6, Reason::CertificateHold),
        (8, Reason::RemoveFromCrl),
        (9, Reason::PrivilegeWithdrawn),
        (10, Reason::AaCompromise),
    ] {
        assert_eq!(of(numbered(number)), Ok(expected), "{}", expected.name());
    }
    let refused = Err(X509Error::Der("a revocation list"));
    for value in [tlv(0x0a, &[7]), tlv(0x0a, &[11]), tlv(0x0a, &[]), tlv(0x0a, &[0, 1]), tlv(2, &[1]), vec![]]
    {
        assert_eq!(of(reason(&value)), refused, "{value:?}");
    }
    assert_eq!(of([numbered(1), numbered(6)].concat()), refused, "two reasons");
}

#[test]
fn of_several_entries_for_one_certificate_the_one_that_lasts_counts() {
    let time = der_of::time("20260102030405Z");
    let [hold, compromise, unstated] =
        [&[numbered(6)][..], &[numbered(1)], &[]].map(|extensions| entry(&[9], &time, extensions));
    let of = |entries: &[Vec<u8>]| {
        let list = Crl::parse(&revocation_list(entries)).unwrap();
        assert!(list.revokes(&[9]));
        list.entry(&[9]).unwrap().reason
    };
    for other in [entry(&[8], &time, &[]), entry(&[10], &time, &[])] {
        assert_eq!(of(&[hold.clone(), compromise.clone(), other.clone()]), Some(Reason::KeyCompromise));
        assert_eq!(of(&[compromise.clone(), hold.clone(), other.clone()]), Some(Reason::KeyCompromise));
        assert_eq!(of(&[hold.clone(), unstated.clone(), other.clone()]), None);
        assert_eq!(of(&[hold.clone(), hold.clone(), other]), Some(Reason::CertificateHold));
    }
}

#[test]
fn entries_with_impossible_times_are_refused() {
    let list = |tag: u8, text: &[u8]| Crl::parse(&revocation_list(&[entry(&[9], &tlv(tag, text), &[])]));
    assert!(list(0x17, b"260102030405Z").is_ok() && list(0x18, b"20260102030405Z").is_ok());
    for (tag, text) in [
        (0x17, &b"260229030405Z"[..]),
        (0x17, b"2601020304Z"),
        (0x17, b"260102030405+0000"),
        (0x17, b"20260102030405Z"),
        (0x18, b"260102030405Z"),
        (0x18, b"20260102030405.5Z"),
        (0x18, b"20260102030460Z"),
        (0x18, b"20260102030405"),
        (0x04, b"20260102030405Z"),
    ] {
        assert_eq!(list(tag, text), Err(X509Error::Der("a revocation list")), "{tag}: {text:?}");
    }
}
