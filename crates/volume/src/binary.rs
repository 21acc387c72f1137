//! The binary header of LUKS2 (LUKS2 On-Disk Format Specification 1.1.3, section 2.1): 4096 bytes before the JSON.

use std::ops::Range;

use sha2::{Digest as _, Sha256};

use crate::error::VolumeError;

/// Bytes of one copy: the binary header and the JSON behind it. cryptsetup's default, and the one size that is read.
pub(crate) const COPY: usize = 16 * 1024;
/// [`COPY`] as it stands in headers.
pub(crate) const COPY_U64: u64 = 16 * 1024;
/// Bytes of the binary header.
pub(crate) const BINARY: usize = 4096;

const VERSION: Range<usize> = 6..8;
const SIZE: Range<usize> = 8..16;
const SEQUENCE: Range<usize> = 16..24;
const LABEL: Range<usize> = 24..72;
const CHECKSUM_ALGORITHM: Range<usize> = 72..104;
const SALT: Range<usize> = 104..168;
const UUID: Range<usize> = 168..208;
const SUBSYSTEM: Range<usize> = 208..256;
const OFFSET: Range<usize> = 256..264;
const PADDING: Range<usize> = 264..448;
const CHECKSUM: Range<usize> = 448..512;
const END: Range<usize> = 512..BINARY;
const MAGIC: Range<usize> = 0..6;

const _: () = assert!(END.end == BINARY && COPY > BINARY && OFFSET.end == PADDING.start);

/// Which of the two copies of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Primary,
    Secondary,
}

impl Place {
    pub(crate) const BOTH: [Self; 2] = [Self::Primary, Self::Secondary];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Secondary => "secondary",
        }
    }

    /// Where the copy begins, in bytes.
    pub(crate) const fn offset(self) -> u64 {
        match self {
            Self::Primary => 0,
            Self::Secondary => COPY_U64,
        }
    }

    const fn magic(self) -> [u8; 6] {
        match self {
            Self::Primary => *b"LUKS\xba\xbe",
            Self::Secondary => *b"SKUL\xba\xbe",
        }
    }
}

/// One copy whose binary header and checksum hold.
#[derive(Clone, Copy)]
pub(crate) struct Copy<'a> {
    bytes: &'a [u8; COPY],
}

impl<'a> Copy<'a> {
    /// Reads the copy at a place.
    pub(crate) fn parse(bytes: &'a [u8; COPY], place: Place) -> Result<Self, VolumeError> {
        let copy = Self { bytes };
        let field = |name, holds: bool| {
            if holds { Ok(()) } else { Err(VolumeError::BinaryField { field: name }) }
        };
        if copy.part(MAGIC) != place.magic() {
            return Err(VolumeError::NotLuks2 { copy: place.name() });
        }
        field("version", copy.part(VERSION) == [0, 2])?;
        let found = copy.number(SIZE);
        if found != COPY_U64 {
            return Err(VolumeError::HeaderSize { found, expected: COPY_U64 });
        }
        field("csum_alg", text(copy.part(CHECKSUM_ALGORITHM)) == Some("sha256"))?;
        if copy.part(CHECKSUM) != checksum(bytes) {
            return Err(VolumeError::Checksum { copy: place.name() });
        }
        field("hdr_offset", copy.number(OFFSET) == place.offset())?;
        field("uuid", is_uuid(copy.uuid()))?;
        field("label", text(copy.part(LABEL)).is_some())?;
        field("subsystem", text(copy.part(SUBSYSTEM)).is_some())?;
        let zeros = |range| copy.part(range).iter().all(|byte| *byte == 0);
        field("padding", zeros(PADDING) && zeros(END))?;
        Ok(copy)
    }

    /// The volume's UUID, in its text form.
    pub(crate) fn uuid(&self) -> &'a str {
        text(self.part(UUID)).unwrap_or_default()
    }

    /// Grows with each change of the header.
    pub(crate) fn sequence(&self) -> u64 {
        self.number(SEQUENCE)
    }

    /// The JSON, up to the zeros that fill its area.
    pub(crate) fn json(&self) -> Result<&'a [u8], VolumeError> {
        let (_, area) = self.bytes.split_at(BINARY);
        let end = area.iter().position(|byte| *byte == 0).unwrap_or(area.len());
        let (json, rest) = area.split_at(end);
        if rest.is_empty() || rest.iter().any(|byte| *byte != 0) {
            return Err(VolumeError::BinaryField { field: "JSON area" });
        }
        Ok(json)
    }

    /// Hashes the copy without what differs between the two copies and decides nothing: magic, salt, offset, checksum.
    pub(crate) fn hash_into(&self, hasher: &mut Sha256) {
        let mut plain = *self.bytes;
        for range in [MAGIC, SALT, OFFSET, CHECKSUM] {
            part_mut(&mut plain, range).fill(0);
        }
        hasher.update(plain);
    }

    /// The same header at a place, with a sequence number and a JSON text of its own.
    pub(crate) fn rewritten(&self, sequence: u64, json: &[u8]) -> Draft {
        let mut bytes = Box::new(*self.bytes);
        part_mut(&mut bytes, SEQUENCE).copy_from_slice(&sequence.to_be_bytes());
        put_json(&mut bytes, json);
        Draft { bytes }
    }

    /// The same header, unchanged.
    pub(crate) fn draft(&self) -> Draft {
        Draft { bytes: Box::new(*self.bytes) }
    }

    fn part(&self, range: Range<usize>) -> &'a [u8] {
        self.bytes.get(range).expect("ranges of the binary header lie in it")
    }

    fn number(&self, range: Range<usize>) -> u64 {
        u64::from_be_bytes(self.part(range).try_into().expect("fields of numbers have 8 bytes"))
    }
}

/// A header that is to be written at one of its places or at both.
pub(crate) struct Draft {
    bytes: Box<[u8; COPY]>,
}

impl Draft {
    /// A new header.
    pub(crate) fn new(uuid: &str, json: &[u8]) -> Self {
        let mut bytes = Box::new([0; COPY]);
        part_mut(&mut bytes, VERSION).copy_from_slice(&2_u16.to_be_bytes());
        part_mut(&mut bytes, SIZE).copy_from_slice(&COPY_U64.to_be_bytes());
        part_mut(&mut bytes, SEQUENCE).copy_from_slice(&1_u64.to_be_bytes());
        put_text(&mut bytes, CHECKSUM_ALGORITHM, "sha256");
        put_text(&mut bytes, UUID, uuid);
        put_json(&mut bytes, json);
        Self { bytes }
    }

    /// Its bytes at a place.
    pub(crate) fn at(&self, place: Place, salt: &[u8; 64]) -> Box<[u8; COPY]> {
        let mut bytes = self.bytes.clone();
        part_mut(&mut bytes, MAGIC).copy_from_slice(&place.magic());
        part_mut(&mut bytes, SALT).copy_from_slice(salt);
        part_mut(&mut bytes, OFFSET).copy_from_slice(&place.offset().to_be_bytes());
        let checksum = checksum(&bytes);
        part_mut(&mut bytes, CHECKSUM).copy_from_slice(&checksum);
        bytes
    }
}

fn part_mut(bytes: &mut [u8; COPY], range: Range<usize>) -> &mut [u8] {
    bytes.get_mut(range).expect("ranges of the binary header lie in it")
}

fn put_text(bytes: &mut [u8; COPY], range: Range<usize>, text: &str) {
    for (to, from) in part_mut(bytes, range).iter_mut().zip(text.bytes()) {
        *to = from;
    }
}

fn put_json(bytes: &mut [u8; COPY], json: &[u8]) {
    let (_, area) = bytes.split_at_mut(BINARY);
    area.fill(0);
    assert!(json.len() < area.len(), "our own JSON has about 1 KiB");
    for (to, from) in area.iter_mut().zip(json) {
        *to = *from;
    }
}

/// SHA-256 of the copy with zeros in the place of the checksum, then zeros.
fn checksum(bytes: &[u8; COPY]) -> [u8; 64] {
    let mut plain = *bytes;
    part_mut(&mut plain, CHECKSUM).fill(0);
    let mut field = [0; 64];
    let (digest, _) = field.split_at_mut(32);
    digest.copy_from_slice(&Sha256::digest(plain));
    field
}

/// Printable ASCII before zeros.
fn text(field: &[u8]) -> Option<&str> {
    let end = field.iter().position(|byte| *byte == 0)?;
    let (text, rest) = field.split_at(end);
    let plain = text.iter().all(|byte| (0x20..0x7f).contains(byte)) && rest.iter().all(|byte| *byte == 0);
    std::str::from_utf8(text).ok().filter(|_| plain)
}

/// Whether text is a UUID as it is written in lower case (RFC 9562, section 4).
fn is_uuid(text: &str) -> bool {
    let hyphen = |at| matches!(at, 8 | 13 | 18 | 23);
    let fits = |(at, byte): (usize, u8)| match hyphen(at) {
        true => byte == b'-',
        false => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
    };
    text.len() == 36 && text.bytes().enumerate().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "12345678-1234-4234-8234-123456789abc";

    fn copy(place: Place) -> Box<[u8; COPY]> {
        Draft::new(NAME, b"{}").at(place, &[7; 64])
    }

    fn changed(change: impl FnOnce(&mut [u8; COPY])) -> VolumeError {
        let mut bytes = copy(Place::Primary);
        change(&mut bytes);
        let sum = checksum(&bytes);
        bytes[CHECKSUM].copy_from_slice(&sum);
        Copy::parse(&bytes, Place::Primary).map(drop).unwrap_err()
    }

    #[test]
    fn what_is_written_is_read_at_its_place_alone() {
        for place in Place::BOTH {
            let bytes = copy(place);
            let read = Copy::parse(&bytes, place).unwrap();
            assert_eq!((read.uuid(), read.sequence(), read.json().unwrap()), (NAME, 1, &b"{}"[..]));
        }
        let moved = Copy::parse(&copy(Place::Secondary), Place::Primary).map(drop);
        assert!(matches!(moved, Err(VolumeError::NotLuks2 { copy: "primary" })));
    }

    #[test]
    fn a_changed_byte_anywhere_breaks_the_checksum() {
        for at in [20, 100, 150, 170, 300, 500, 600, 4096, COPY - 1] {
            let mut bytes = copy(Place::Primary);
            bytes[at] ^= 1;
            let error = Copy::parse(&bytes, Place::Primary).map(drop).unwrap_err();
            assert!(
                matches!(error, VolumeError::Checksum { .. } | VolumeError::BinaryField { .. }),
                "{at}: {error}"
            );
        }
    }

    #[test]
    fn each_field_is_held_to_its_values_under_a_right_checksum() {
        let field = |error| match error {
            VolumeError::BinaryField { field } => field,
            other => panic!("{other}"),
        };
        assert_eq!(field(changed(|bytes| bytes[7] = 1)), "version");
        assert_eq!(field(changed(|bytes| bytes[72] = b'b')), "csum_alg");
        assert_eq!(field(changed(|bytes| bytes[263] = 1)), "hdr_offset");
        assert_eq!(field(changed(|bytes| bytes[168] = b'G')), "uuid");
        assert_eq!(field(changed(|bytes| bytes[24] = 0x1b)), "label");
        assert_eq!(field(changed(|bytes| bytes[208..256].fill(b'a'))), "subsystem");
        assert_eq!(field(changed(|bytes| bytes[300] = 1)), "padding");
        assert_eq!(field(changed(|bytes| bytes[4000] = 1)), "padding");
        let size = changed(|bytes| bytes[8..16].copy_from_slice(&32768_u64.to_be_bytes()));
        assert!(matches!(size, VolumeError::HeaderSize { found: 32768, .. }));
        let magic = changed(|bytes| bytes[0] = b'l');
        assert!(matches!(magic, VolumeError::NotLuks2 { .. }));
    }

    #[test]
    fn nothing_follows_the_json() {
        let mut bytes = copy(Place::Primary);
        bytes[COPY - 1] = b' ';
        let sum = checksum(&bytes);
        bytes[CHECKSUM].copy_from_slice(&sum);
        let error = Copy::parse(&bytes, Place::Primary).unwrap().json().unwrap_err();
        assert!(matches!(error, VolumeError::BinaryField { field: "JSON area" }));
    }
}
