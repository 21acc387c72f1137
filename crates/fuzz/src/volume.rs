//! Headers of volumes. The bytes are the JSON of one, or its fields: the checksum is put right, as anybody can who holds the disk.

use confide_evidence::hash::sha256;
use confide_release::Profile;
use confide_volume::{HEADER_BYTES, HeaderCopy};
use std::io::Cursor;
use std::ops::Range;

/// Bytes of one copy of a header, of which the first 4096 are binary.
const COPY: usize = 16 * 1024;
const BINARY: usize = 4096;
/// Where the checksum lies, of which SHA-256 takes the first half.
const CHECKSUM: Range<usize> = 448..512;
const UUID: &str = "12345678-1234-4234-8234-123456789abc";

/// The JSON of an honest header of each profile.
pub(crate) const SEEDS: [&str; 2] = [
    r#"{"keyslots":{"0":{"type":"luks2","key_size":64,"af":{"type":"luks1","stripes":4000,"hash":"sha256"},"area":{"type":"raw","offset":"32768","size":"258048","encryption":"aes-xts-plain64","key_size":64},"kdf":{"type":"pbkdf2","hash":"sha256","iterations":1000,"salt":"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE="}}},"tokens":{"0":{"type":"confide","keyslots":["0"],"broker":"broker.example:8443","volume":"weights"}},"segments":{"0":{"type":"crypt","offset":"1048576","size":"dynamic","iv_tweak":"0","encryption":"aes-xts-plain64","sector_size":4096}},"digests":{"0":{"type":"pbkdf2","keyslots":["0"],"segments":["0"],"hash":"sha256","iterations":1000,"salt":"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=","digest":"AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI="}},"config":{"json_size":"12288","keyslots_size":"1015808"}}"#,
    r#"{"keyslots":{"1":{"type":"luks2","key_size":96,"priority":1,"af":{"type":"luks1","stripes":4000,"hash":"sha256"},"area":{"type":"raw","offset":"417792","size":"385024","encryption":"aes-xts-plain64","key_size":64},"kdf":{"type":"pbkdf2","hash":"sha256","iterations":2000,"salt":"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE="}}},"tokens":{},"segments":{"0":{"type":"crypt","offset":"16777216","size":"4096","iv_tweak":"0","encryption":"aes-xts-plain64","sector_size":4096,"integrity":{"type":"hmac(sha256)","journal_encryption":"none","journal_integrity":"none"}}},"digests":{"0":{"type":"pbkdf2","keyslots":["1"],"segments":["0"],"hash":"sha256","iterations":1000,"salt":"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=","digest":"AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI="}},"config":{"json_size":"12288","keyslots_size":"16744448","flags":[],"requirements":{}}}"#,
];

/// The fields before the JSON of an honest header, without its checksum.
fn fields() -> Vec<u8> {
    let mut fields = b"LUKS\xba\xbe\0\x02\0\0\0\0\0\0\x40\0".to_vec();
    fields.resize(72, 0);
    fields.extend(b"sha256");
    fields.resize(168, 0);
    fields.extend(UUID.as_bytes());
    fields
}

/// The first MiB of a disk whose primary header has these fields and this JSON, and a right checksum.
fn disk(fields: &[u8], json: &[u8]) -> Vec<u8> {
    let mut copy = fields[..fields.len().min(BINARY)].to_vec();
    copy.resize(BINARY, 0);
    copy.extend(&json[..json.len().min(COPY - BINARY)]);
    copy.resize(COPY, 0);
    copy[CHECKSUM].fill(0);
    let checksum = sha256(&copy);
    copy[CHECKSUM][..32].copy_from_slice(&checksum.0);
    copy.resize(usize::try_from(HEADER_BYTES).expect("1 MiB fits"), 0);
    copy
}

/// The JSON of a header.
pub(crate) fn header(bytes: &[u8]) {
    for uuid in read(&disk(&fields(), bytes)) {
        assert_eq!(uuid, UUID);
    }
}

/// What stands before it.
pub(crate) fn binary(bytes: &[u8]) {
    for json in SEEDS {
        for uuid in read(&disk(bytes, json.as_bytes())) {
            let plain = |byte: u8| byte.is_ascii_hexdigit() || byte == b'-';
            assert!(uuid.len() == UUID.len() && uuid.bytes().all(plain), "{uuid:?}");
        }
    }
}

/// The UUIDs of the headers that are read of a disk, one for each profile at most.
fn read(disk: &[u8]) -> Vec<String> {
    let copy = HeaderCopy::read(&mut Cursor::new(disk)).expect("the disk is long enough");
    let mut uuids = Vec::new();
    for profile in [Profile::Model, Profile::State] {
        let Ok(header) = copy.primary(profile) else {
            assert!(copy.check(profile, &[]).is_err());
            continue;
        };
        let offset = header.data_offset();
        assert!(offset.is_multiple_of(HEADER_BYTES) && (HEADER_BYTES..=64 * HEADER_BYTES).contains(&offset));
        let digest = header.digest();
        let found = copy.check(profile, &[digest]).expect("what is read is found by its digest");
        assert_eq!((found.digest(), found.profile()), (digest, profile));
        assert!(copy.check(profile, &[]).is_err(), "nothing was released");
        uuids.push(header.uuid().to_owned());
    }
    uuids
}

/// The fields of an honest header, and with a label and a subsystem.
pub(crate) fn binary_seeds() -> Vec<Vec<u8>> {
    let mut labelled = fields();
    labelled.resize(BINARY, 0);
    labelled[24..31].copy_from_slice(b"a label");
    labelled[208..219].copy_from_slice(b"a subsystem");
    vec![fields(), labelled]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seeds_are_headers_of_their_profiles() {
        for (seed, profile) in SEEDS.into_iter().zip([Profile::Model, Profile::State]) {
            for fields in binary_seeds() {
                let copy = HeaderCopy::read(&mut Cursor::new(disk(&fields, seed.as_bytes()))).unwrap();
                copy.primary(profile).unwrap();
            }
        }
    }
}
