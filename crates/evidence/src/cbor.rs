//! Canonical CBOR: RFC 8949 section 4.2.1 (deterministic encoding), the subset that Confide's formats use.
//!
//! Values are unsigned integers, byte strings, text strings, arrays, maps with text keys, `true`, `false` and `null`.
//! [`from_canonical`] first walks the bytes by rules of its own, then decodes, re-encodes and compares: any other
//! encoding of the same value is refused.

use cbor4ii::core::error::DecodeError as Core;
use cbor4ii::serde::DecodeError;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The deepest nesting that any format needs, with room: evidence documents use 6 levels, records 4.
pub const MAX_DEPTH: usize = 12;

/// The most items, map keys included, of what [`from_canonical_within`] reads.
///
/// A decoded item takes up to 48 bytes of memory where one byte encodes it. Evidence documents at all their limits have
/// under 4,096 items, records under 1,024.
pub const MAX_ITEMS: usize = 16 * 1024;

/// Why bytes are not the canonical encoding of the wanted value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CborError {
    /// The input is longer than its format allows.
    #[error("{actual} bytes are more than the limit of {limit}")]
    TooLarge {
        /// The most bytes that the format allows.
        limit: usize,
        /// The bytes that were given.
        actual: usize,
    },
    /// Arrays and maps nest deeper than [`MAX_DEPTH`].
    #[error("nested deeper than {MAX_DEPTH} levels at byte {offset}")]
    TooDeep {
        /// Where the item that is too deep starts.
        offset: usize,
    },
    /// More items than [`MAX_ITEMS`].
    #[error("more than {MAX_ITEMS} items at byte {offset}")]
    TooManyItems {
        /// Where the item that is too many starts.
        offset: usize,
    },
    /// The input ends inside an item.
    #[error("input ends inside the item at byte {offset}")]
    Truncated {
        /// Where the item starts.
        offset: usize,
    },
    /// Bytes follow the item.
    #[error("{count} bytes follow the item, which ends at byte {offset}")]
    Trailing {
        /// Where the item ends.
        offset: usize,
        /// How many bytes follow.
        count: usize,
    },
    /// Well-formed CBOR, but not the deterministic encoding.
    #[error("not canonical at byte {offset}: {rule}")]
    NotCanonical {
        /// Where the item starts.
        offset: usize,
        /// The rule of RFC 8949 section 4.2.1 that is broken.
        rule: CanonicalRule,
    },
    /// A tag, float, negative integer or other item that no format uses.
    #[error("unsupported item with initial byte {initial:#04x} at byte {offset}")]
    Unsupported {
        /// Where the item starts.
        offset: usize,
        /// Its initial byte.
        initial: u8,
    },
    /// Canonical CBOR of another shape than the format's.
    #[error("wrong shape: {0}")]
    Shape(String),
    /// The value was decoded, but encodes to other bytes (for example `null` where an optional entry must be absent).
    #[error("the value encodes to other bytes")]
    NotReproduced,
}

/// A rule of deterministic encoding, RFC 8949 section 4.2.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CanonicalRule {
    /// An integer or a length is written in more bytes than it needs.
    #[error("integer or length is not in its shortest form")]
    Shortest,
    /// A string, array or map of indefinite length.
    #[error("indefinite length")]
    DefiniteLength,
    /// A map key stands after one that sorts behind it.
    #[error("map keys are not in bytewise order")]
    KeyOrder,
    /// A map key occurs twice.
    #[error("duplicate map key")]
    DuplicateKey,
}

/// The canonical encoding of `value`.
///
/// # Errors
/// [`CborError::Shape`] when the type cannot be encoded, and the errors of the canonical walk when the type does not
/// declare its fields in canonical order.
pub fn to_canonical<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, CborError> {
    let bytes =
        cbor4ii::serde::to_vec(Vec::new(), &value).map_err(|error| CborError::Shape(error.to_string()))?;
    check_single(&bytes)?;
    Ok(bytes)
}

/// The value whose canonical encoding `bytes` is.
///
/// # Errors
/// Every deviation from the canonical encoding, and every deviation from the type's shape.
pub fn from_canonical<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Result<T, CborError> {
    check_single(bytes)?;
    let value: T = cbor4ii::serde::from_slice(bytes).map_err(|error| CborError::Shape(told(error)))?;
    let again = cbor4ii::serde::to_vec(Vec::with_capacity(bytes.len()), &value)
        .map_err(|error| CborError::Shape(error.to_string()))?;
    if again == bytes { Ok(value) } else { Err(CborError::NotReproduced) }
}

/// What the decoder found, in words: its own are those of its source.
fn told<E>(error: DecodeError<E>) -> String {
    match error {
        DecodeError::Custom(words) => words.into(),
        DecodeError::Core(Core::Mismatch { name, found }) => {
            format!("expected {name}, found an item with initial byte {found:#04x}")
        }
        DecodeError::Core(_) => "an item is not of the type that stands there in the format".to_owned(),
    }
}

/// [`from_canonical`] for what a peer sends: inputs of more than `limit` bytes are refused before looking at them, and
/// those of more than [`MAX_ITEMS`] items before decoding them.
///
/// # Errors
/// [`CborError::TooLarge`], [`CborError::TooManyItems`], and the errors of [`from_canonical`].
pub fn from_canonical_within<T: Serialize + DeserializeOwned>(
    bytes: &[u8],
    limit: usize,
) -> Result<T, CborError> {
    if bytes.len() > limit {
        return Err(CborError::TooLarge { limit, actual: bytes.len() });
    }
    Walk { bytes, items: MAX_ITEMS }.item(0, 0)?;
    from_canonical(bytes)
}

/// The canonical items of a CBOR sequence (RFC 8742), one slice each.
///
/// After an error the sequence ends: where the next item starts is unknown.
pub fn sequence(bytes: &[u8]) -> Sequence<'_> {
    Sequence { bytes, offset: 0 }
}

/// Iterator of [`sequence`].
#[derive(Clone, Debug)]
pub struct Sequence<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Iterator for Sequence<'a> {
    type Item = Result<&'a [u8], CborError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.offset >= self.bytes.len() {
            return None;
        }
        let start = self.offset;
        match item_end(self.bytes, start) {
            Ok(end) => {
                self.offset = end;
                self.bytes.get(start..end).map(Ok)
            }
            Err(error) => {
                self.offset = self.bytes.len();
                Some(Err(error))
            }
        }
    }
}

fn check_single(bytes: &[u8]) -> Result<(), CborError> {
    let end = item_end(bytes, 0)?;
    if end < bytes.len() {
        return Err(CborError::Trailing { offset: end, count: bytes.len().saturating_sub(end) });
    }
    Ok(())
}

/// Where the canonical item that starts at `start` ends.
fn item_end(bytes: &[u8], start: usize) -> Result<usize, CborError> {
    Walk { bytes, items: usize::MAX }.item(start, 0)
}

/// A walk over the items of an encoding, with what is left of their number.
struct Walk<'a> {
    bytes: &'a [u8],
    items: usize,
}

impl Walk<'_> {
    fn count(&mut self, offset: usize) -> Result<(), CborError> {
        self.items = self.items.checked_sub(1).ok_or(CborError::TooManyItems { offset })?;
        Ok(())
    }

    /// Where the item that starts at `start` ends.
    fn item(&mut self, start: usize, depth: usize) -> Result<usize, CborError> {
        if depth > MAX_DEPTH {
            return Err(CborError::TooDeep { offset: start });
        }
        let head = Head::read(self.bytes, start)?;
        self.count(start)?;
        match head.major {
            Major::Unsigned | Major::Simple => Ok(head.end),
            Major::Bytes => string_end(self.bytes, start, &head).map(|(end, _)| end),
            Major::Text => text_end(self.bytes, start, &head),
            Major::Array => {
                let mut at = head.end;
                for _ in 0..head.argument {
                    at = self.item(at, depth.saturating_add(1))?;
                }
                Ok(at)
            }
            Major::Map => self.map(&head, depth),
        }
    }

    fn map(&mut self, head: &Head, depth: usize) -> Result<usize, CborError> {
        let mut at = head.end;
        let mut previous: &[u8] = &[];
        for _ in 0..head.argument {
            let key_start = at;
            let key_head = Head::read(self.bytes, key_start)?;
            if key_head.major != Major::Text {
                return Err(CborError::Shape("map key is no text string".to_owned()));
            }
            self.count(key_start)?;
            let key_end = text_end(self.bytes, key_start, &key_head)?;
            let key = self.bytes.get(key_start..key_end).unwrap_or_default();
            check_order(previous, key, key_start)?;
            previous = key;
            at = self.item(key_end, depth.saturating_add(1))?;
        }
        Ok(at)
    }
}

fn check_order(previous: &[u8], key: &[u8], offset: usize) -> Result<(), CborError> {
    let rule = match previous.cmp(key) {
        std::cmp::Ordering::Less => return Ok(()),
        std::cmp::Ordering::Equal => CanonicalRule::DuplicateKey,
        std::cmp::Ordering::Greater => CanonicalRule::KeyOrder,
    };
    Err(CborError::NotCanonical { offset, rule })
}

fn string_end<'a>(bytes: &'a [u8], start: usize, head: &Head) -> Result<(usize, &'a [u8]), CborError> {
    let length = usize::try_from(head.argument).map_err(|_| CborError::Truncated { offset: start })?;
    let end = head.end.checked_add(length).ok_or(CborError::Truncated { offset: start })?;
    let content = bytes.get(head.end..end).ok_or(CborError::Truncated { offset: start })?;
    Ok((end, content))
}

fn text_end(bytes: &[u8], start: usize, head: &Head) -> Result<usize, CborError> {
    let (end, content) = string_end(bytes, start, head)?;
    if std::str::from_utf8(content).is_err() {
        return Err(CborError::Shape(format!("text string at byte {start} is not UTF-8")));
    }
    Ok(end)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Major {
    Unsigned,
    Bytes,
    Text,
    Array,
    Map,
    Simple,
}

/// The initial byte of an item and its argument, RFC 8949 section 3.
struct Head {
    major: Major,
    argument: u64,
    end: usize,
}

impl Head {
    fn read(bytes: &[u8], start: usize) -> Result<Self, CborError> {
        let initial = *bytes.get(start).ok_or(CborError::Truncated { offset: start })?;
        let unsupported = CborError::Unsupported { offset: start, initial };
        let additional = initial & 0x1f;
        let major = match initial >> 5 {
            0 => Major::Unsigned,
            2 => Major::Bytes,
            3 => Major::Text,
            4 => Major::Array,
            5 => Major::Map,
            7 if (20..=22).contains(&additional) => {
                return Ok(Self { major: Major::Simple, argument: 0, end: start.saturating_add(1) });
            }
            _ => return Err(unsupported),
        };
        let width = match additional {
            0..=23 => {
                return Ok(Self { major, argument: u64::from(additional), end: start.saturating_add(1) });
            }
            24 => 1,
            25 => 2,
            26 => 4,
            27 => 8,
            31 if major != Major::Unsigned => {
                return Err(CborError::NotCanonical { offset: start, rule: CanonicalRule::DefiniteLength });
            }
            _ => return Err(unsupported),
        };
        let from = start.saturating_add(1);
        let end = from.saturating_add(width);
        let argument = bytes.get(from..end).ok_or(CborError::Truncated { offset: start })?;
        let argument = argument.iter().fold(0u64, |value, byte| value << 8 | u64::from(*byte));
        let shortest = match width {
            1 => argument >= 24,
            2 => argument > 0xff,
            4 => argument > 0xffff,
            _ => argument > 0xffff_ffff,
        };
        if !shortest {
            return Err(CborError::NotCanonical { offset: start, rule: CanonicalRule::Shortest });
        }
        Ok(Self { major, argument, end })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bytes::{ByteString, Bytes};
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        a: u64,
        b: Option<Bytes<2>>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cc: Option<String>,
    }

    fn sample() -> Sample {
        Sample { a: 24, b: Some(Bytes([1, 2])), cc: None }
    }

    fn not_canonical(bytes: &[u8], rule: CanonicalRule) {
        match from_canonical::<Sample>(bytes) {
            Err(CborError::NotCanonical { rule: found, .. }) => assert_eq!(found, rule, "{bytes:02x?}"),
            other => panic!("{bytes:02x?}: {other:?}"),
        }
    }

    #[test]
    fn canonical_bytes_round_trip() {
        let bytes = to_canonical(&sample()).unwrap();
        assert_eq!(bytes, b"\xa2\x61a\x18\x18\x61b\x42\x01\x02");
        assert_eq!(from_canonical::<Sample>(&bytes).unwrap(), sample());
    }

    #[test]
    fn other_encodings_of_the_same_value_are_refused() {
        not_canonical(b"\xa2\x61a\x19\x00\x18\x61b\x42\x01\x02", CanonicalRule::Shortest);
        not_canonical(b"\xb8\x02\x61a\x18\x18\x61b\x42\x01\x02", CanonicalRule::Shortest);
        not_canonical(b"\xbf\x61a\x18\x18\x61b\x42\x01\x02\xff", CanonicalRule::DefiniteLength);
        not_canonical(b"\xa2\x61a\x18\x18\x61b\x5f\x42\x01\x02\xff", CanonicalRule::DefiniteLength);
        not_canonical(b"\xa2\x61b\x42\x01\x02\x61a\x18\x18", CanonicalRule::KeyOrder);
        not_canonical(b"\xa2\x61a\x18\x18\x61a\x18\x18", CanonicalRule::DuplicateKey);
    }

    #[test]
    fn null_for_an_absent_entry_and_an_absent_nullable_entry_are_refused() {
        let explicit_null = b"\xa3\x61a\x18\x18\x61b\x42\x01\x02\x62cc\xf6";
        assert_eq!(from_canonical::<Sample>(explicit_null), Err(CborError::NotReproduced));
        assert_eq!(from_canonical::<Sample>(b"\xa1\x61a\x18\x18"), Err(CborError::NotReproduced));
    }

    #[test]
    fn unknown_entries_and_wrong_types_are_refused() {
        for bytes in
            [&b"\xa3\x61a\x00\x61b\xf6\x61z\x00"[..], b"\xa2\x61a\x61x\x61b\xf6", b"\xa1\x00\x00", b"\x80"]
        {
            assert!(matches!(from_canonical::<Sample>(bytes), Err(CborError::Shape(_))), "{bytes:02x?}");
        }
    }

    #[test]
    fn trailing_truncated_and_unsupported_items_are_refused() {
        let bytes = to_canonical(&sample()).unwrap();
        for end in 0..bytes.len() {
            assert!(
                matches!(from_canonical::<Sample>(&bytes[..end]), Err(CborError::Truncated { .. })),
                "{end}"
            );
        }
        let trailing = [bytes.as_slice(), &[0]].concat();
        assert_eq!(
            from_canonical::<Sample>(&trailing),
            Err(CborError::Trailing { offset: bytes.len(), count: 1 })
        );
        for initial in [0x20u8, 0xc0, 0xe0, 0xf7, 0xf8, 0xf9, 0xfa, 0xfb, 0xff, 0x1c, 0x1f, 0x5c] {
            let bytes = [initial, 0, 0, 0, 0, 0, 0, 0, 0];
            assert_eq!(from_canonical::<u64>(&bytes), Err(CborError::Unsupported { offset: 0, initial }));
        }
    }

    #[test]
    fn lengths_that_overflow_and_deep_nesting_are_refused() {
        let huge = b"\x5b\xff\xff\xff\xff\xff\xff\xff\xff";
        assert_eq!(from_canonical::<ByteString>(huge), Err(CborError::Truncated { offset: 0 }));
        let many = b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff";
        assert_eq!(from_canonical::<Vec<u64>>(many), Err(CborError::Truncated { offset: 9 }));
        let deep = vec![0x81u8; 4096];
        assert_eq!(from_canonical::<Vec<u64>>(&deep), Err(CborError::TooDeep { offset: MAX_DEPTH + 1 }));
    }

    #[test]
    fn size_limit_comes_first() {
        assert_eq!(
            from_canonical_within::<u64>(&[0; 3], 2),
            Err(CborError::TooLarge { limit: 2, actual: 3 })
        );
    }

    #[test]
    fn an_input_of_a_peer_has_few_items() {
        let list = |count: usize| to_canonical(&vec![0_u64; count]).unwrap();
        assert!(from_canonical_within::<Vec<u64>>(&list(MAX_ITEMS - 1), usize::MAX).is_ok());
        let many = from_canonical_within::<Vec<u64>>(&list(MAX_ITEMS), usize::MAX);
        assert_eq!(many, Err(CborError::TooManyItems { offset: MAX_ITEMS + 2 }));
        assert!(from_canonical::<Vec<u64>>(&list(MAX_ITEMS)).is_ok());
    }

    #[test]
    fn a_sequence_yields_its_items_and_stops_at_the_first_error() {
        let items: Vec<_> = sequence(b"\x01\x41\x02\x80").collect::<Result<_, _>>().unwrap();
        assert_eq!(items, [&b"\x01"[..], b"\x41\x02", b"\x80"]);
        let mut broken = sequence(b"\x01\x42\x02");
        assert_eq!(broken.next(), Some(Ok(&b"\x01"[..])));
        assert_eq!(broken.next(), Some(Err(CborError::Truncated { offset: 1 })));
        assert_eq!(broken.next(), None);
        assert_eq!(sequence(b"").next(), None);
    }

    #[test]
    fn a_type_with_fields_out_of_order_cannot_be_encoded() {
        #[derive(Serialize)]
        struct Unordered {
            bb: u64,
            a: u64,
        }
        let error = to_canonical(&Unordered { bb: 1, a: 2 }).unwrap_err();
        assert!(matches!(error, CborError::NotCanonical { rule: CanonicalRule::KeyOrder, .. }));
    }
}
