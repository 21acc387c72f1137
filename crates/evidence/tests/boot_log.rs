//! The boot event log: what is read, and every way of being malformed.
#![allow(clippy::unwrap_used, reason = "tests")]

use confide_evidence::boot_log::{
    BootLog, BootLogError, EventType, MAX_ALGORITHMS, MAX_BOOT_LOG, MAX_DESCRIPTION, MAX_EVENT_DATA,
    Register, extend,
};
use proptest::prelude::*;
use sha2::{Digest, Sha384};

const SHA1: (u16, u16) = (4, 20);
const SHA384: (u16, u16) = (12, 48);

/// A header event over `data`.
fn header_over(data: &[u8]) -> Vec<u8> {
    let mut out = [1_u32.to_le_bytes(), 3_u32.to_le_bytes()].concat();
    out.extend([0; 20]);
    out.extend(u32::try_from(data.len()).unwrap().to_le_bytes());
    out.extend(data);
    out
}

fn specification(algorithms: &[(u16, u16)], vendor: &[u8]) -> Vec<u8> {
    let mut data = b"Spec ID Event03\0".to_vec();
    data.extend([0, 0, 0, 0, 0, 2, 0, 2]);
    data.extend(u32::try_from(algorithms.len()).unwrap().to_le_bytes());
    for (id, size) in algorithms {
        data.extend(id.to_le_bytes());
        data.extend(size.to_le_bytes());
    }
    data.push(u8::try_from(vendor.len()).unwrap());
    data.extend(vendor);
    data
}

fn header(algorithms: &[(u16, u16)]) -> Vec<u8> {
    header_over(&specification(algorithms, &[]))
}

/// An event with these (algorithm, digest) pairs.
fn event_with(index: u32, kind: u32, digests: &[(u16, Vec<u8>)], data: &[u8]) -> Vec<u8> {
    let mut out = [index.to_le_bytes(), kind.to_le_bytes()].concat();
    out.extend(u32::try_from(digests.len()).unwrap().to_le_bytes());
    for (id, digest) in digests {
        out.extend(id.to_le_bytes());
        out.extend(digest);
    }
    out.extend(u32::try_from(data.len()).unwrap().to_le_bytes());
    out.extend(data);
    out
}

fn event(index: u32, kind: u32, fill: u8, data: &[u8]) -> Vec<u8> {
    event_with(index, kind, &[(12, vec![fill; 48])], data)
}

fn log(events: &[Vec<u8>]) -> Vec<u8> {
    [header(&[SHA384]), events.concat()].concat()
}

fn error(bytes: &[u8]) -> BootLogError {
    BootLog::parse(bytes).expect_err("this log is malformed")
}

fn chain(digests: &[u8]) -> [u8; 48] {
    digests.iter().fold([0; 48], |register, fill| {
        Sha384::new().chain_update(register).chain_update([*fill; 48]).finalize().into()
    })
}

#[test]
fn events_replay_into_their_registers() {
    let events = [
        event(0, 3, 9, b"SP800-155 Event3"),
        event(1, 0x8000_000b, 1, b"\x09TdxTable\0"),
        event(2, 0x8000_0007, 2, b"Calling EFI Application from Boot Option"),
        event(1, 4, 3, &[0; 4]),
        event(3, 13, 4, b"grub_cmd: load_video\0"),
        event(4, 6, 5, b"runtime"),
        event(3, 3, 6, b"informs only"),
    ];
    let bytes = log(&events);
    let log = BootLog::parse(&bytes).unwrap();
    assert_eq!(log.replay(), [chain(&[1, 3]), chain(&[2]), chain(&[4]), chain(&[5])]);
    let registers: Vec<_> = log.events().map(|event| event.register).collect();
    use Register::*;
    assert_eq!(registers, [Mrtd, Rtmr0, Rtmr1, Rtmr0, Rtmr2, Rtmr3, Rtmr2]);
    assert_eq!(log.events().map(|event| event.number).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(log.events().filter(|event| !event.is_measured()).count(), 2);
    let mut register = [0; 48];
    extend(&mut register, &[1; 48]);
    assert_eq!(register, chain(&[1]));
}

#[test]
fn a_log_without_events_is_read() {
    let bytes = log(&[]);
    let log = BootLog::parse(&bytes).unwrap();
    assert_eq!((log.events().count(), log.replay()), (0, [[0; 48]; 4]));
}

#[test]
fn padding_is_left_out_and_changes_nothing() {
    let bare = log(&[event(1, 4, 1, &[0; 4])]);
    for filler in [0, 0xff] {
        for length in [1, 3, 11, 12, 13, 4096] {
            let padded = [bare.clone(), vec![filler; length]].concat();
            let log = BootLog::parse(&padded).unwrap();
            assert_eq!((log.bytes(), log.padding()), (&bare[..], length));
            assert_eq!(log.events().count(), 1);
        }
    }
}

#[test]
fn digests_of_other_algorithms_are_skipped_by_the_declared_size() {
    let header = header(&[SHA1, (0x7fff, 7), SHA384]);
    let all = [(4, vec![1; 20]), (0x7fff, vec![2; 7]), (12, vec![3; 48])];
    let some = [(12, vec![4; 48]), (4, vec![5; 20])];
    let bytes = [header, event_with(1, 4, &all, &[0; 4]), event_with(1, 4, &some, &[0; 4])].concat();
    let log = BootLog::parse(&bytes).unwrap();
    assert_eq!(log.replay()[0], chain(&[3, 4]));
}

#[test]
fn vendor_information_is_skipped() {
    let bytes = [header_over(&specification(&[SHA384], b"td-shim")), event(2, 4, 1, &[0; 4])].concat();
    assert_eq!(BootLog::parse(&bytes).unwrap().replay()[1], chain(&[1]));
}

#[test]
fn a_log_that_is_too_large_is_refused() {
    let mut bytes = log(&[event(1, 4, 1, &[0; 4])]);
    bytes.resize(MAX_BOOT_LOG, 0xff);
    assert!(BootLog::parse(&bytes).is_ok());
    bytes.push(0xff);
    assert_eq!(error(&bytes), BootLogError::TooLarge(MAX_BOOT_LOG + 1));
}

#[test]
fn a_log_cut_anywhere_but_between_events_is_truncated() {
    let first = event(1, 0x8000_0007, 1, b"Exit Boot Services Invocation");
    let bytes = log(&[first.clone(), event(2, 4, 2, &[0; 4])]);
    let boundary = [header(&[SHA384]).len(), header(&[SHA384]).len() + first.len()];
    for end in 0..bytes.len() {
        let parsed = BootLog::parse(&bytes[..end]);
        match boundary.contains(&end) {
            true => assert!(parsed.is_ok(), "{end}"),
            false => assert!(matches!(parsed, Err(BootLogError::Truncated { .. })), "{end}: {parsed:?}"),
        }
    }
}

#[test]
fn an_event_longer_than_the_log_is_truncated() {
    let mut bytes = log(&[event(1, 4, 1, &[0; 4])]);
    let size = bytes.len() - 8;
    bytes[size..size + 4].copy_from_slice(&5_u32.to_le_bytes());
    assert_eq!(
        error(&bytes),
        BootLogError::Truncated { field: "an event's data", offset: size + 4, needed: 5, left: 4 }
    );
}

#[test]
fn an_event_over_the_limit_is_refused() {
    let data = vec![1; MAX_EVENT_DATA];
    assert!(BootLog::parse(&log(&[event(1, 1, 1, &data)])).is_ok());
    for size in [MAX_EVENT_DATA + 1, u32::MAX as usize] {
        let mut bytes = log(&[event(1, 1, 1, &[])]);
        let field = bytes.len() - 4;
        bytes[field..].copy_from_slice(&u32::try_from(size).unwrap().to_le_bytes());
        assert_eq!(error(&bytes), BootLogError::EventTooLarge { event: 1, size });
    }
}

#[test]
fn another_kind_of_header_is_refused() {
    let good = specification(&[SHA384], &[]);
    let mut kind = header_over(&good);
    kind[4] = 4;
    assert_eq!(error(&kind), BootLogError::HeaderType(EventType::SEPARATOR));
    let mut digest = header_over(&good);
    digest[20] = 1;
    assert_eq!(error(&digest), BootLogError::HeaderDigest);
    let mut signature = good.clone();
    signature[14] = b'2';
    assert_eq!(error(&header_over(&signature)), BootLogError::HeaderSignature);
    let mut version = good.clone();
    version[21] = 1;
    assert_eq!(error(&header_over(&version)), BootLogError::Version { major: 1, minor: 0 });
    let trailing = [good, vec![0; 3]].concat();
    assert_eq!(error(&header_over(&trailing)), BootLogError::HeaderTrailing(3));
}

#[test]
fn algorithms_of_unacceptable_number_or_size_are_refused() {
    assert_eq!(error(&header(&[])), BootLogError::AlgorithmCount(0));
    let many: Vec<(u16, u16)> = (0..17).map(|at| (0x100 + at, 8)).chain([SHA384]).collect();
    assert_eq!(error(&header(&many)), BootLogError::AlgorithmCount(18));
    assert!(BootLog::parse(&header(&many[18 - MAX_ALGORITHMS..])).is_ok());
    let mut claimed = specification(&[SHA384], &[]);
    claimed[24..28].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(error(&header_over(&claimed)), BootLogError::AlgorithmCount(u32::MAX));
    assert_eq!(error(&header(&[SHA384, SHA1, SHA384])), BootLogError::AlgorithmTwice(12));
    for wrong in [(12, 47), (11, 20), (0x7fff, 0), (0x7fff, 65)] {
        let expected = BootLogError::DigestSize { algorithm: wrong.0, found: wrong.1 };
        assert_eq!(error(&header(&[SHA1, wrong])), expected);
    }
    assert_eq!(error(&header(&[SHA1, (11, 32)])), BootLogError::NoSha384);
}

#[test]
fn digests_that_do_not_fit_the_header_are_refused() {
    let with = |digests: &[(u16, Vec<u8>)]| {
        error(&[header(&[SHA1, SHA384]), event_with(1, 4, digests, &[0; 4])].concat())
    };
    let (sha1, sha384) = ((4, vec![1; 20]), (12, vec![1; 48]));
    assert_eq!(with(&[]), BootLogError::MissingDigest { event: 1 });
    assert_eq!(with(std::slice::from_ref(&sha1)), BootLogError::MissingDigest { event: 1 });
    assert_eq!(
        with(&[sha384.clone(), sha384.clone()]),
        BootLogError::DigestTwice { event: 1, algorithm: 12 }
    );
    assert_eq!(with(&[sha1.clone(), sha1.clone()]), BootLogError::DigestTwice { event: 1, algorithm: 4 });
    assert_eq!(
        with(&[(11, vec![1; 32]), sha384.clone()]),
        BootLogError::UnknownAlgorithm { event: 1, algorithm: 11 }
    );
    assert_eq!(
        with(&[sha1, sha384.clone(), sha384]),
        BootLogError::DigestCount { event: 1, found: 3, declared: 2 }
    );
}

#[test]
fn a_register_that_tdx_does_not_have_is_refused() {
    let bytes = log(&[event(4, 6, 1, b"ok"), event(5, 4, 2, &[0; 4])]);
    assert_eq!(error(&bytes), BootLogError::Register { event: 2, index: 5 });
}

#[test]
fn bytes_behind_the_padding_are_refused() {
    let bare = log(&[event(1, 4, 1, &[0; 4])]);
    for filler in [0, 0xff] {
        let mut bytes = [bare.clone(), vec![filler; 100]].concat();
        let offset = bytes.len();
        bytes.extend(event(1, 4, 2, &[0; 4]));
        assert_eq!(error(&bytes), BootLogError::TrailingBytes { offset });
    }
}

#[test]
fn descriptions_say_what_the_data_says() {
    let variable = |name: &str, data: &[u8]| {
        let mut out =
            vec![0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0, 0xe0, 0x98, 0x03, 0x2b, 0x8c];
        out.extend(u64::try_from(name.len()).unwrap().to_le_bytes());
        out.extend(u64::try_from(data.len()).unwrap().to_le_bytes());
        out.extend(name.encode_utf16().flat_map(u16::to_le_bytes));
        out.extend(data);
        out
    };
    let mut image = [0_u64, 4096, 0, 26].map(u64::to_le_bytes).concat();
    image.extend([4, 4, 22, 0]);
    image.extend("\\LINUX.EF".encode_utf16().flat_map(u16::to_le_bytes));
    image.extend([0x7f, 0xff, 4, 0]);
    let tag = [0x8f3b_22ed_u32.to_le_bytes().as_slice(), &8_u32.to_le_bytes(), b"options\0"].concat();
    for (kind, data, expected) in [
        (EventType::EFI_ACTION, b"Exit Boot Services Invocation".to_vec(), "Exit Boot Services Invocation"),
        (
            EventType::IPL,
            b"grub_cmd: \x1b[2J\xe9\0junk".to_vec(),
            "20 bytes: 677275625f636d643a201b5b324ae900...",
        ),
        (EventType::IPL, b"menuentry A {\n  linux\0".to_vec(), "menuentry A {\\u{a}  linux"),
        (EventType::SEPARATOR, vec![0; 4], "end of the pre-boot phase"),
        (EventType::SEPARATOR, vec![1, 0, 0, 0], "bytes 01000000"),
        (EventType::EFI_HANDOFF_TABLES2, b"\x09TdxTable\0\x01".to_vec(), "TdxTable"),
        (
            EventType::EFI_VARIABLE_DRIVER_CONFIG,
            variable("SecureBoot", &[1]),
            "SecureBoot of 8be4df61-93ca-11d2-aa0d-00e098032b8c, 1 bytes",
        ),
        (EventType::EFI_BOOT_SERVICES_APPLICATION, image, "image of 4096 bytes, \\LINUX.EF"),
        (EventType::EVENT_TAG, tag, "tag 8f3b22ed: options"),
        (EventType::POST_CODE, vec![], "bytes "),
    ] {
        let bytes = log(&[event(1, kind.0, 1, &data)]);
        let log = BootLog::parse(&bytes).unwrap();
        assert_eq!(log.events().next().unwrap().description(), expected, "{kind}");
    }
}

#[test]
fn a_description_counts_as_measured_only_where_the_digest_is_its_hash() {
    let data = b"Exit Boot Services Invocation";
    let covered = event_with(2, 0x8000_0007, &[(12, Sha384::digest(data).to_vec())], data);
    let bytes = log(&[covered, event(2, 0x8000_0007, 1, data)]);
    let log = BootLog::parse(&bytes).unwrap();
    assert_eq!(log.events().map(|event| event.data_is_measured()).collect::<Vec<_>>(), [true, false]);
    let json = log.to_json();
    assert_eq!(json["events"][0]["type"], "EV_EFI_ACTION");
    assert_eq!(json["events"][0]["register"], "RTMR1");
    assert_eq!(json["events"][0]["data_is_measured"], true);
    assert_eq!(json["events"][1]["description"], "Exit Boot Services Invocation");
    assert_eq!(json["replay"]["rtmr0"], "0".repeat(96));
}

#[test]
fn event_types_are_named_or_shown_as_numbers() {
    assert_eq!(EventType(4).to_string(), "EV_SEPARATOR");
    assert_eq!(EventType(0x8000_00e0).to_string(), "EV_EFI_VARIABLE_AUTHORITY");
    assert_eq!(EventType(0x8000_0099).to_string(), "0x80000099");
}

proptest! {
    #[test]
    fn descriptions_are_short_and_printable_whatever_the_data(
        kind in prop_oneof![0_u32..20, 0x8000_0000_u32..0x8000_0010, Just(0x8000_00e0)],
        data in proptest::collection::vec(any::<u8>(), 0..400),
    ) {
        let bytes = log(&[event(1, kind, 1, &data)]);
        let description = BootLog::parse(&bytes).unwrap().events().next().unwrap().description();
        prop_assert!(description.len() <= MAX_DESCRIPTION);
        prop_assert!(description.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{description:?}");
    }

    #[test]
    fn whatever_parses_is_read_to_its_end(
        events in proptest::collection::vec((0_u32..5, 0_u32..16, proptest::collection::vec(any::<u8>(), 0..40)), 0..8),
        flip in any::<(prop::sample::Index, u8)>(),
    ) {
        let events: Vec<_> = events.iter().map(|(index, kind, data)| event(*index, *kind, 7, data)).collect();
        let mut bytes = log(&events);
        let at = flip.0.index(bytes.len());
        bytes[at] ^= flip.1;
        if let Ok(log) = BootLog::parse(&bytes) {
            prop_assert_eq!(log.bytes().len() + log.padding(), bytes.len());
            let size: usize = log.events().map(|event| 66 + event.data.len()).sum();
            prop_assert_eq!(header(&[SHA384]).len() + size, log.bytes().len());
        }
    }
}
