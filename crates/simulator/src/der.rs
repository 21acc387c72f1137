//! The few DER encodings (ITU-T X.690) that the vendors' own certificate extensions need.

use crate::SimulatorError;
use crate::text::date_time;

/// Tag of an INTEGER.
const INTEGER: u8 = 0x02;
/// Tag of an OCTET STRING.
const OCTET_STRING: u8 = 0x04;
/// Tag of an OBJECT IDENTIFIER.
const OBJECT_IDENTIFIER: u8 = 0x06;
/// Tag of an ENUMERATED.
const ENUMERATED: u8 = 0x0a;
/// Tag of a BOOLEAN.
const BOOLEAN: u8 = 0x01;
/// Tag of a BIT STRING.
pub(crate) const BIT_STRING: u8 = 0x03;
/// Tag of a UTCTime.
const UTC_TIME: u8 = 0x17;
/// Tag of a GeneralizedTime.
const GENERALIZED_TIME: u8 = 0x18;
/// Tag of a SEQUENCE.
const SEQUENCE: u8 = 0x30;

/// Tag, length and content octets.
pub(crate) fn tagged(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    let length = content.len();
    if length < 0x80 {
        out.push(length as u8);
    } else {
        let octets = length.to_be_bytes();
        let first = octets.iter().position(|octet| *octet != 0).unwrap_or(octets.len() - 1);
        out.push(0x80 | (octets.len() - first) as u8);
        out.extend_from_slice(&octets[first..]);
    }
    out.extend_from_slice(content);
    out
}

/// A SEQUENCE of already encoded elements.
pub(crate) fn sequence(elements: &[Vec<u8>]) -> Vec<u8> {
    tagged(SEQUENCE, &elements.concat())
}

/// A non-negative INTEGER in its shortest form.
pub(crate) fn integer(value: u64) -> Vec<u8> {
    unsigned(&value.to_be_bytes())
}

/// An INTEGER from the big-endian bytes of a non-negative number.
pub(crate) fn unsigned(big_endian: &[u8]) -> Vec<u8> {
    let mut octets = vec![0];
    octets.extend(big_endian.iter().skip_while(|octet| **octet == 0));
    if octets.len() > 1 && octets[1] < 0x80 {
        octets.remove(0);
    }
    tagged(INTEGER, &octets)
}

/// An ENUMERATED below 128.
pub(crate) fn enumerated(value: u8) -> Vec<u8> {
    assert!(value < 0x80, "one content octet holds the values in use");
    tagged(ENUMERATED, &[value])
}

/// A BOOLEAN, true as DER's 0xff.
pub(crate) fn boolean(value: bool) -> Vec<u8> {
    tagged(BOOLEAN, &[if value { 0xff } else { 0 }])
}

/// A BIT STRING of whole octets.
pub(crate) fn bits(octets: &[u8]) -> Vec<u8> {
    tagged(BIT_STRING, &[&[0], octets].concat())
}

/// UTCTime before 2050, GeneralizedTime from then on (RFC 5280 section 4.1.2.5).
pub(crate) fn time(unix: u64) -> Result<Vec<u8>, SimulatorError> {
    let year = date_time(unix)?.year();
    let text = digits_of(unix)?;
    Ok(if year < 2050 { tagged(UTC_TIME, &text.as_bytes()[2..]) } else { generalized(&text) })
}

/// GeneralizedTime, as OCSP always writes times (RFC 6960 section 4.2.2.1).
pub(crate) fn generalized_time(unix: u64) -> Result<Vec<u8>, SimulatorError> {
    digits_of(unix).map(|text| generalized(&text))
}

fn generalized(text: &str) -> Vec<u8> {
    tagged(GENERALIZED_TIME, text.as_bytes())
}

/// `YYYYMMDDhhmmssZ`.
fn digits_of(unix: u64) -> Result<String, SimulatorError> {
    let at = date_time(unix)?;
    Ok(format!(
        "{:04}{:02}{:02}{:02}{:02}{:02}Z",
        at.year(),
        u8::from(at.month()),
        at.day(),
        at.hour(),
        at.minute(),
        at.second()
    ))
}

/// The elements that stand in a constructed one, each with its tag and length.
pub(crate) fn elements(constructed: &[u8]) -> Vec<Vec<u8>> {
    let (header, length) = header(constructed);
    let mut left = &constructed[header..header + length];
    let mut found = Vec::new();
    while !left.is_empty() {
        let (header, length) = self::header(left);
        let (element, more) = left.split_at(header + length);
        found.push(element.to_vec());
        left = more;
    }
    found
}

/// How many octets tag and length of the first element take, and its content.
fn header(der: &[u8]) -> (usize, usize) {
    let first = usize::from(der[1]);
    if first < 0x80 {
        return (2, first);
    }
    let octets = first & 0x7f;
    let length = der[2..2 + octets].iter().fold(0, |length, octet| length << 8 | usize::from(*octet));
    (2 + octets, length)
}

/// An OCTET STRING.
pub(crate) fn octets(value: &[u8]) -> Vec<u8> {
    tagged(OCTET_STRING, value)
}

/// An OBJECT IDENTIFIER of at least two arcs, the first of them 0, 1 or 2.
pub(crate) fn oid(arcs: &[u64]) -> Vec<u8> {
    let mut content = base128(arcs[0] * 40 + arcs[1]);
    for arc in &arcs[2..] {
        content.extend(base128(*arc));
    }
    tagged(OBJECT_IDENTIFIER, &content)
}

/// Seven bits an octet, most significant first, all but the last with the high bit set.
fn base128(mut value: u64) -> Vec<u8> {
    let mut octets = vec![(value & 0x7f) as u8];
    while value >= 0x80 {
        value >>= 7;
        octets.insert(0, 0x80 | (value & 0x7f) as u8);
    }
    octets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings_are_those_of_x690() {
        assert_eq!(integer(0), [0x02, 0x01, 0x00]);
        assert_eq!(integer(127), [0x02, 0x01, 0x7f]);
        assert_eq!(integer(128), [0x02, 0x02, 0x00, 0x80]);
        assert_eq!(integer(0x1234), [0x02, 0x02, 0x12, 0x34]);
        assert_eq!(boolean(true), [0x01, 0x01, 0xff]);
        assert_eq!(enumerated(1), [0x0a, 0x01, 0x01]);
        // sha384, from RFC 8017 appendix B.1.
        assert_eq!(
            oid(&[2, 16, 840, 1, 101, 3, 4, 2, 2]),
            [0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02]
        );
        let long = octets(&[0; 300]);
        assert_eq!(&long[..4], &[0x04, 0x82, 0x01, 0x2c]);
        assert_eq!(octets(&[0; 128])[..3], [0x04, 0x81, 0x80]);
        assert_eq!(sequence(&[integer(1), boolean(false)]), [0x30, 6, 2, 1, 1, 1, 1, 0]);
        assert_eq!(bits(&[1]), [0x03, 2, 0, 1]);
        assert_eq!(time(0).expect("a time"), b"\x17\x0d700101000000Z");
        assert_eq!(time(2_524_608_000).expect("a time"), b"\x18\x0f20500101000000Z");
        assert_eq!(generalized_time(0).expect("a time"), b"\x18\x0f19700101000000Z");
        let parts = [integer(1), octets(&[0; 300]), octets(&[0; 128])];
        assert_eq!(elements(&sequence(&parts)), parts);
    }
}
