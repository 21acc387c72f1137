//! Hexadecimal text (RFC 4648 section 8): written in lower case, read in either.

/// Writes bytes as lower-case hexadecimal digits.
#[must_use]
pub fn encode(bytes: &[u8]) -> String {
    let mut digits = vec![0; bytes.len().saturating_mul(2)];
    let (pairs, _) = digits.as_chunks_mut();
    for (pair, byte) in pairs.iter_mut().zip(bytes) {
        *pair = PAIRS.get(usize::from(*byte)).copied().unwrap_or_default();
    }
    String::from_utf8(digits).unwrap_or_default()
}

/// The digits of every byte.
static PAIRS: [[u8; 2]; 256] = {
    let mut pairs = [[0; 2]; 256];
    let mut byte = 0;
    while byte < pairs.len() {
        #[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
        {
            pairs[byte] = [DIGITS[byte >> 4], DIGITS[byte & 0xf]];
        }
        byte += 1;
    }
    pairs
};
const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Reads hexadecimal digits; `None` for an odd count or any other character.
#[must_use]
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let (pairs, []) = text.as_bytes().as_chunks() else { return None };
    pairs.iter().map(byte).collect()
}

/// Reads exactly `N` bytes.
#[must_use]
pub fn decode_array<const N: usize>(text: &str) -> Option<[u8; N]> {
    let (pairs, []) = text.as_bytes().as_chunks() else { return None };
    if pairs.len() != N {
        return None;
    }
    let mut bytes = [0; N];
    for (place, pair) in bytes.iter_mut().zip(pairs) {
        *place = byte(pair)?;
    }
    Some(bytes)
}

fn byte([high, low]: &[u8; 2]) -> Option<u8> {
    Some(nibble(*high)? << 4 | nibble(*low)?)
}

const fn nibble(character: u8) -> Option<u8> {
    Some(match character {
        b'0'..=b'9' => character.wrapping_sub(b'0'),
        b'a'..=b'f' => character.wrapping_sub(b'a').wrapping_add(10),
        b'A'..=b'F' => character.wrapping_sub(b'A').wrapping_add(10),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trips(bytes: Vec<u8>) {
            prop_assert_eq!(decode(&encode(&bytes)), Some(bytes.clone()));
            prop_assert_eq!(decode(&encode(&bytes).to_uppercase()), Some(bytes));
        }
    }

    #[test]
    fn known_answers() {
        // RFC 4648 section 10.
        assert_eq!(encode(b"foobar"), "666f6f626172");
        assert_eq!(encode(&[0x00, 0x9a, 0xbc, 0xde, 0xff]), "009abcdeff");
        assert_eq!(decode("66 6F"), None);
        assert_eq!(decode("666F"), Some(b"fo".to_vec()));
    }

    #[test]
    fn refuses_what_is_not_hex() {
        for bad in ["a", "0g", "+1", "0x", "é1"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
        assert_eq!(decode_array::<2>("0102"), Some([1, 2]));
        assert_eq!(decode_array::<2>("01"), None);
    }
}
