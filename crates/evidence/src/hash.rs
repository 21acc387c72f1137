//! Hashes of several fields: each field is `u32 big-endian length ‖ bytes`, in the order given.

use sha2::{Digest as _, Sha256, Sha384, Sha512};

use crate::bytes::Digest;

/// The length-prefixed concatenation of `fields`.
///
/// # Panics
/// When a field is 4 GiB or longer; every format of this crate bounds its fields far below.
pub fn length_prefixed(fields: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::with_capacity(fields.iter().map(|field| field.len().saturating_add(4)).sum());
    for field in fields {
        out.extend_from_slice(&length(field).to_be_bytes());
        out.extend_from_slice(field);
    }
    out
}

/// SHA-256 of `bytes`.
pub fn sha256(bytes: &[u8]) -> Digest {
    Digest::from(<[u8; 32]>::from(Sha256::digest(bytes)))
}

/// SHA-256 of the length-prefixed `fields`.
pub(crate) fn sha256_of(fields: &[&[u8]]) -> Digest {
    sha256(&length_prefixed(fields))
}

/// SHA-384 of the length-prefixed `fields`.
pub(crate) fn sha384_of(fields: &[&[u8]]) -> [u8; 48] {
    Sha384::digest(length_prefixed(fields)).into()
}

/// SHA-512 of the length-prefixed `fields`.
pub(crate) fn sha512_of(fields: &[&[u8]]) -> [u8; 64] {
    Sha512::digest(length_prefixed(fields)).into()
}

fn length(field: &[u8]) -> u32 {
    u32::try_from(field.len()).expect("fields are bounded below 4 GiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_cannot_slide_into_each_other() {
        assert_eq!(length_prefixed(&[b"ab", b"", b"c"]), b"\0\0\0\x02ab\0\0\0\0\0\0\0\x01c");
        assert_ne!(sha256_of(&[b"ab", b"c"]), sha256_of(&[b"a", b"bc"]));
    }
}
