//! Headers of volumes as they lie on a disk, and their digests.

use std::io::Cursor;

use confide_evidence::bytes::Digest;
use confide_evidence::hash::sha256;
use confide_release::Profile;
use confide_volume::{HEADER_BYTES, HeaderCopy};
use serde_json::{Value, json};

use super::forms::{bytes, vector};

/// Bytes of a copy of the header, of which the first 4096 are binary; of these the last 3584 are zeros.
const COPY: usize = 16 * 1024;
const BINARY: usize = 4096;
const FIELDS: usize = 512;
/// Where the checksum lies, 64 bytes of which SHA-256 takes 32.
const CHECKSUM: usize = 448;
/// Where keyslots begin.
const KEYSLOTS: usize = 2 * COPY;
/// What the area of a keyslot is filled with, again and again.
const AREA: &[u8] = b"the area of a keyslot";

/// A copy at its place.
#[derive(Clone, Copy)]
struct Place {
    name: &'static str,
    magic: &'static [u8; 6],
    offset: usize,
    /// The copies differ in it, and no digest has it.
    salt: u8,
}

const PRIMARY: Place = Place { name: "primary", magic: b"LUKS\xba\xbe", offset: 0, salt: 0x31 };
const SECONDARY: Place = Place { name: "secondary", magic: b"SKUL\xba\xbe", offset: COPY, salt: 0x32 };

pub(super) fn vectors() -> Vec<Value> {
    [(Profile::Model, PRIMARY), (Profile::Model, SECONDARY), (Profile::State, PRIMARY)]
        .map(|(profile, place)| {
            let copy = copy(profile, place);
            let inputs = json!({
                "fields": bytes(&copy[..FIELDS]),
                "json": metadata(profile),
                "area": { "repeat": bytes(AREA), "size": area_size(profile) },
            });
            let name = format!("header digest: {} copy of a {}", place.name, profile.name());
            vector("header-digest", &name, inputs, digest(profile, place).as_ref())
        })
        .to_vec()
}

/// The digest of the copy at a place, of a disk that has no other.
fn digest(profile: Profile, place: Place) -> Digest {
    let mut disk = vec![0; usize::try_from(HEADER_BYTES).expect("1 MiB fits")];
    disk[place.offset..place.offset + COPY].copy_from_slice(&copy(profile, place));
    let area = AREA.iter().copied().cycle();
    disk[KEYSLOTS..].iter_mut().zip(area).take(area_size(profile)).for_each(|(byte, filler)| *byte = filler);
    let header = HeaderCopy::read(&mut Cursor::new(disk)).expect("1 MiB is there");
    match place.offset {
        0 => header.primary(profile).expect("a header of its profile").digest(),
        // The one digest of a header, wherever it lies, finds it here.
        _ => header.check(profile, &[digest(profile, PRIMARY)]).expect("the same header").digest(),
    }
}

fn area_size(profile: Profile) -> usize {
    match profile {
        Profile::Model => 258_048,
        Profile::State => 385_024,
    }
}

/// LUKS2 On-Disk Format Specification 1.1.3, section 2.1.
fn copy(profile: Profile, place: Place) -> Vec<u8> {
    let mut copy = vec![0; COPY];
    let mut put = |at: usize, bytes: &[u8]| copy[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, place.magic);
    put(6, &2_u16.to_be_bytes());
    put(8, &16_384_u64.to_be_bytes());
    put(16, &7_u64.to_be_bytes());
    put(24, b"a label");
    put(72, b"sha256");
    put(104, &[place.salt; 64]);
    put(168, b"12345678-1234-4234-8234-123456789abc");
    put(256, &u64::try_from(place.offset).expect("16384 fits").to_be_bytes());
    put(BINARY, metadata(profile).as_bytes());
    let checksum = sha256(&copy);
    copy[CHECKSUM..CHECKSUM + 32].copy_from_slice(checksum.as_ref());
    copy
}

/// Section 3.
fn metadata(profile: Profile) -> String {
    let salt = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
    let (key_size, size) = (if profile == Profile::Model { 64 } else { 96 }, area_size(profile));
    let integrity = match profile {
        Profile::Model => "",
        Profile::State => {
            r#","integrity":{"type":"hmac(sha256)","journal_encryption":"none","journal_integrity":"none"}"#
        }
    };
    format!(
        r#"{{"keyslots":{{"0":{{"type":"luks2","key_size":{key_size},"af":{{"type":"luks1","stripes":4000,"hash":"sha256"}},"area":{{"type":"raw","offset":"32768","size":"{size}","encryption":"aes-xts-plain64","key_size":64}},"kdf":{{"type":"pbkdf2","hash":"sha256","iterations":1000,"salt":"{salt}"}}}}}},"tokens":{{}},"segments":{{"0":{{"type":"crypt","offset":"1048576","size":"dynamic","iv_tweak":"0","encryption":"aes-xts-plain64","sector_size":4096{integrity}}}}},"digests":{{"0":{{"type":"pbkdf2","keyslots":["0"],"segments":["0"],"hash":"sha256","iterations":1000,"salt":"{salt}","digest":"AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI="}}}},"config":{{"json_size":"12288","keyslots_size":"1015808"}}}}"#
    )
}
