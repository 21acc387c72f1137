//! Reports made byte by byte: one of each kind is read, and each byte of the form that is another is refused by its name.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

use confide_evidence::nvidia::{DeviceKind, MAX_REPORT, Report, ReportError};

/// Length of the request.
const REQUEST: usize = 37;
/// Offset of the first measurement block.
const BLOCKS: usize = REQUEST + 8;
/// Length of a measurement block.
const BLOCK: usize = 55;

/// A report of this many blocks, whose opaque data name the driver; nobody has signed it.
fn report(blocks: u8) -> Vec<u8> {
    let mut report = vec![0x11, 0xe0, 0x01, 0xff];
    report.extend([0x5a; 32]);
    report.push(0);
    assert_eq!(report.len(), REQUEST);
    report.extend([0x11, 0x60, 0, 0, blocks]);
    report.extend(&(u32::from(blocks) * 55).to_le_bytes()[..3]);
    assert_eq!(report.len(), BLOCKS);
    for index in 1..=blocks {
        report.extend([index, 1, 51, 0, 1, 48, 0]);
        report.extend([index; 48]);
    }
    report.extend([0xa5; 32]);
    let opaque = [&[3, 0, 10, 0][..], b"580.95.05\0"].concat();
    report.extend(u16::try_from(opaque.len()).unwrap().to_le_bytes());
    report.extend(opaque);
    report.extend([0x77; 96]);
    report
}

/// The report of a GPU with other bytes at an offset.
fn with(offset: usize, bytes: &[u8]) -> Vec<u8> {
    let mut report = report(64);
    let place = &mut report[offset..offset + bytes.len()];
    assert_ne!(place, bytes, "offset {offset}: nothing is changed");
    place.copy_from_slice(bytes);
    report
}

fn unexpected(field: &'static str, found: u32, expected: u32) -> ReportError {
    ReportError::Unexpected { field, found, expected }
}

#[test]
fn a_report_of_each_kind_is_read() {
    for (blocks, kind) in [(64, DeviceKind::Gpu), (31, DeviceKind::Switch)] {
        let bytes = report(blocks);
        let read = Report::parse(&bytes).unwrap();
        assert_eq!((read.kind, read.nonce), (kind, &[0x5a; 32]));
        assert_eq!((read.responder_nonce, read.signature), (&[0xa5; 32], &[0x77; 96]));
        assert_eq!(read.signed, &bytes[..bytes.len() - 96]);
        assert_eq!(read.opaque.driver_version, Some("580.95.05"));
        let values: Vec<_> = read.blocks.iter().map(|block| (block.index, *block.value)).collect();
        assert_eq!(values, (1..=blocks).map(|index| (index, [index; 48])).collect::<Vec<_>>());
    }
}

#[test]
fn every_fixed_field_of_request_and_response_has_its_one_value() {
    for (offset, byte, field, expected) in [
        (1, 0xe1, "request code", 0xe0),
        (2, 0x00, "request parameter 1", 0x01),
        (3, 0x00, "request parameter 2", 0xff),
        (3, 0xfe, "request parameter 2", 0xff),
        (36, 0x01, "slot", 0),
        (36, 0x0f, "slot", 0),
        (REQUEST + 1, 0x7f, "response code", 0x60),
        (REQUEST + 1, 0xe0, "response code", 0x60),
        (REQUEST + 2, 0x01, "response parameter 1", 0),
        (REQUEST + 3, 0x01, "response parameter 2", 0),
    ] {
        let error = Report::parse(&with(offset, &[byte])).unwrap_err();
        assert_eq!(error, unexpected(field, byte.into(), expected), "offset {offset}");
        assert!(!error.is_unsupported(), "offset {offset}");
    }
}

#[test]
fn other_versions_and_numbers_of_blocks_are_not_supported() {
    for (offset, field) in [(0, "request version"), (REQUEST, "response version")] {
        for byte in [0x10, 0x12] {
            let error = Report::parse(&with(offset, &[byte])).unwrap_err();
            assert!(error.is_unsupported(), "{field}");
            let supported = "0x11 (SPDM 1.1)";
            assert_eq!(error, ReportError::Unsupported { field, found: byte, supported });
        }
    }
    for blocks in [0, 1, 30, 32, 63, 65, 128] {
        let error = Report::parse(&report(blocks)).unwrap_err();
        assert!(error.is_unsupported(), "{blocks} blocks");
        let supported = "64 (GPU) or 31 (LS10 switch)";
        assert_eq!(error, ReportError::Unsupported { field: "number of blocks", found: blocks, supported });
    }
}

#[test]
fn a_measurement_record_has_the_length_of_its_blocks() {
    for found in [3519_u32, 3521, 3520 - 55, 3520 + 55, 3520 + 0x1_0000, 0] {
        let error = Report::parse(&with(REQUEST + 5, &found.to_le_bytes()[..3])).unwrap_err();
        assert_eq!(error, unexpected("measurement record length", found, 3520));
    }
}

#[test]
fn the_header_of_every_block_is_that_of_a_sha_384_value() {
    for at in [1, 2, 33, 64] {
        let header = BLOCKS + BLOCK * (at - 1);
        for (offset, bytes, field, found, expected) in [
            (1, &[0x00][..], "measurement specification", 0, 1),
            (1, &[0x02], "measurement specification", 2, 1),
            (2, &[50, 0], "block size", 50, 51),
            (2, &[52, 0], "block size", 52, 51),
            (2, &[51, 1], "block size", 0x0133, 51),
            (4, &[0x00], "measurement value type", 0, 1),
            (4, &[0x02], "measurement value type", 2, 1),
            (4, &[0x81], "measurement value type", 0x81, 1),
            (5, &[47, 0], "measurement value size", 47, 48),
            (5, &[49, 0], "measurement value size", 49, 48),
            (5, &[48, 1], "measurement value size", 0x0130, 48),
        ] {
            let error = Report::parse(&with(header + offset, bytes)).unwrap_err();
            assert_eq!(error, unexpected(field, found, expected), "block {at}");
        }
    }
}

#[test]
fn blocks_stand_in_order_from_1_and_none_twice() {
    let index = |at: usize| BLOCKS + BLOCK * (at - 1);
    for (at, found) in [(1, 0), (1, 2), (2, 1), (2, 3), (64, 63), (64, 65)] {
        let error = Report::parse(&with(index(at), &[found])).unwrap_err();
        let expected = unexpected("block index", found.into(), u32::try_from(at).unwrap());
        assert_eq!(error, expected, "block {at}");
    }
    // Two that have changed places.
    let mut swapped = with(index(7), &[8]);
    swapped[index(8)] = 7;
    assert_eq!(Report::parse(&swapped).unwrap_err(), unexpected("block index", 8, 7));
}

#[test]
fn nothing_is_missing_and_nothing_follows_the_signature() {
    let whole = report(64);
    for length in 0..whole.len() {
        let error = Report::parse(&whole[..length]).unwrap_err();
        let ReportError::Truncated { offset, needed, left, .. } = error else { panic!("{length}: {error}") };
        assert!(offset + left == length && needed > left, "{length}: {error}");
    }
    for more in [1, 2, 96] {
        let longer = [&whole[..], &vec![0; more]].concat();
        assert_eq!(Report::parse(&longer).unwrap_err(), ReportError::TrailingBytes(more));
    }
    let large = vec![0x11; MAX_REPORT + 1];
    assert_eq!(Report::parse(&large).unwrap_err(), ReportError::TooLarge(MAX_REPORT + 1));
}
