use super::*;
use crate::binary::Draft;
use crate::draw::Draw;
use crate::write;
use std::io::{self, Cursor};

struct Made {
    bytes: Vec<u8>,
    digest: Digest,
    secret: Secret,
}

fn made(seed: u8) -> Made {
    let draw = &mut Draw::danger_seeded([seed; 32]);
    let key = VolumeKey::draw(Profile::Model, draw).unwrap();
    let secret = write::secret(draw).unwrap();
    let beginning = write::beginning(&key, &secret, None, draw).unwrap();
    Made { bytes: beginning.bytes, digest: beginning.digest, secret }
}

fn copy(bytes: &[u8]) -> HeaderCopy {
    HeaderCopy::read(&mut Cursor::new(bytes)).unwrap()
}

fn checked(bytes: &[u8], released: &Digest) -> Result<Header, VolumeError> {
    copy(bytes).check(Profile::Model, &[*released])
}

/// Writes a changed JSON to a copy under a right checksum, as anybody can who holds the disk.
fn forge(bytes: &mut [u8], place: Place, from: &str, to: &str) {
    let read = copy(bytes);
    let old = read.copy(place).unwrap();
    let json = String::from_utf8(old.json().unwrap().to_vec()).unwrap();
    assert!(json.contains(from));
    let forged = old.rewritten(old.sequence(), json.replace(from, to).as_bytes());
    let at = usize::try_from(place.offset()).unwrap();
    bytes[at..at + COPY].copy_from_slice(forged.at(place, &[0; 64]).as_slice());
}

#[test]
fn a_null_cipher_under_a_right_checksum_is_refused_by_name() {
    let mut made = made(1);
    for place in Place::BOTH {
        forge(
            &mut made.bytes,
            place,
            "\"encryption\":\"aes-xts-plain64\",\"sector_size\"",
            "\"encryption\":\"cipher_null-ecb\",\"sector_size\"",
        );
    }
    assert_eq!(checked(&made.bytes, &made.digest).unwrap_err().code(), "volume_null_cipher");
}

#[test]
fn a_header_that_was_not_released_is_rolled_back() {
    let made = made(1);
    let error = checked(&made.bytes, &Bytes([0; 32])).unwrap_err();
    assert!(matches!(error, VolumeError::RolledBack { found } if found == made.digest));
    assert_eq!(error.code(), "volume_rolled_back");
    assert!(copy(&made.bytes).check(Profile::Model, &[]).is_err(), "nothing was released");
    let both = [Bytes([0; 32]), made.digest];
    assert_eq!(copy(&made.bytes).check(Profile::Model, &both).unwrap().digest(), made.digest);
}

#[test]
fn a_change_of_anything_that_is_used_is_another_header() {
    let made = made(1);
    type Change = fn(&mut Vec<u8>);
    let changes: [(&str, Change); 4] = [
        ("the first byte of the keyslot", |bytes| bytes[32768] ^= 1),
        ("the last byte of the split key", |bytes| bytes[32768 + 255_999] ^= 1),
        ("the last byte of the area", |bytes| bytes[32768 + 258_047] ^= 1),
        ("iterations, in both copies", |bytes| {
            for place in Place::BOTH {
                forge(bytes, place, "\"iterations\":1000", "\"iterations\":1001");
            }
        }),
    ];
    for (what, change) in changes {
        let mut bytes = made.bytes.clone();
        change(&mut bytes);
        let error = checked(&bytes, &made.digest).unwrap_err();
        assert_eq!(error.code(), "volume_rolled_back", "{what}");
    }
    // Nothing is read of what lies behind the keyslot.
    let mut unused = made.bytes.clone();
    unused[32768 + 258_048] ^= 1;
    checked(&unused, &made.digest).unwrap();
}

#[test]
fn a_torn_or_older_primary_copy_is_passed_over_for_the_released_secondary_one() {
    let (old, mut new) = (made(1), made(2));
    // The old header stands first, the new one second with its keyslot.
    new.bytes[..COPY].copy_from_slice(&old.bytes[..COPY]);
    assert_eq!(checked(&new.bytes, &new.digest).unwrap().digest(), new.digest);
    new.bytes[5000] ^= 1;
    let header = checked(&new.bytes, &new.digest).unwrap();
    header.unlock(&new.secret).unwrap();
    // The one that was not released does not open, whatever its place.
    assert!(checked(&new.bytes, &old.digest).is_err());
    let owner = copy(&new.bytes).primary(Profile::Model).unwrap_err();
    assert_eq!(owner.code(), "volume_header_checksum", "an owner adds the primary copy alone");
}

#[test]
fn where_neither_copy_is_a_header_the_primary_ones_fault_is_told() {
    let mut bytes = made(1).bytes;
    bytes[..32768].fill(0);
    assert_eq!(checked(&bytes, &Bytes([0; 32])).unwrap_err().code(), "volume_not_luks2");
    let short = HeaderCopy::read(&mut Cursor::new(&bytes[..bytes.len() - 1])).map(drop);
    assert_eq!(short.unwrap_err().code(), "volume_unreadable");
}

/// A disk that answers each read with another header.
struct Swapped<'a> {
    answers: [&'a [u8]; 2],
    at: u64,
    /// How often each byte was read.
    reads: Vec<u8>,
}

impl io::Read for Swapped<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let from = usize::try_from(self.at).unwrap();
        // In small parts, so that every one is another read.
        let length = buffer.len().min(65536).min(self.reads.len() - from);
        for (at, to) in (from..from + length).zip(buffer.iter_mut()) {
            *to = self.answers[usize::from(self.reads[at].min(1))][at];
            self.reads[at] += 1;
        }
        self.at += length as u64;
        Ok(length)
    }
}

impl io::Seek for Swapped<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let SeekFrom::Start(at) = to else { panic!("seeks to places") };
        self.at = at;
        Ok(at)
    }
}

#[test]
fn every_byte_is_read_once_so_that_a_swap_between_reads_changes_nothing() {
    let (first, second) = (made(1), made(2));
    let reads = vec![0; first.bytes.len()];
    let mut disk = Swapped { answers: [&first.bytes, &second.bytes], at: 0, reads };
    let copy = HeaderCopy::read(&mut disk).unwrap();
    let header = copy.check(Profile::Model, &[first.digest]).unwrap();
    header.unlock(&first.secret).unwrap();
    assert!(disk.reads.iter().all(|count| *count == 1));
}

#[test]
fn nothing_is_shown_of_a_keyslot() {
    let made = made(1);
    let header = checked(&made.bytes, &made.digest).unwrap();
    let shown = format!("{header:?} {:?}", copy(&made.bytes));
    assert!(shown.len() < 250, "{shown}");
}

#[test]
fn a_new_header_begins_with_what_luks2_says() {
    let draft = Draft::new("12345678-1234-4234-8234-123456789abc", b"{}");
    assert_eq!(&draft.at(Place::Primary, &[0; 64])[..8], b"LUKS\xba\xbe\0\x02");
    assert_eq!(&draft.at(Place::Secondary, &[0; 64])[..8], b"SKUL\xba\xbe\0\x02");
}
