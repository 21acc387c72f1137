//! JSON objects whose names differ, and base64url: what tokens and key sets are made of.

use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// The most members of one object. Recorded claims have fewer than 40.
pub const MAX_NRAS_MEMBERS: usize = 256;

/// The members of a JSON object in their order, values unread. A name that occurs twice is refused: readers differ in which
/// of the two they take.
#[derive(Debug)]
pub(super) struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Members<'a> {
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        self.0.iter().map(|(name, value)| (name.as_ref(), *value))
    }

    pub(super) fn find(&self, name: &str) -> Option<&'a RawValue> {
        self.iter().find(|(found, _)| *found == name).map(|(_, value)| value)
    }

    /// The member of this name, where it is there and of this type.
    pub(super) fn read<T: Deserialize<'a>>(&self, name: &str) -> Option<T> {
        serde_json::from_str(self.find(name)?.get()).ok()
    }

    /// The text of the member of this name.
    pub(super) fn text(&self, name: &str) -> Option<Cow<'a, str>> {
        self.read::<Text<'a>>(name).map(|Text(text)| text)
    }
}

/// A string, borrowed where nothing in it is escaped.
#[derive(Deserialize)]
pub(super) struct Text<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members: Vec<(Cow<'de, str>, &'de RawValue)> = Vec::new();
        while let Some((Text(name), value)) = map.next_entry::<Text<'de>, &'de RawValue>()? {
            if members.len() >= MAX_NRAS_MEMBERS {
                return Err(A::Error::custom(format_args!("more than {MAX_NRAS_MEMBERS} members")));
            }
            if members.iter().any(|(before, _)| *before == name) {
                return Err(A::Error::custom(format_args!("the member {name:?} twice")));
            }
            members.push((name, value));
        }
        Ok(Members(members))
    }
}

/// Decodes base64url without padding (RFC 4648 section 5, RFC 7515 section 2): no other letter, and no bit that is left over
/// and set, so that each content has one text.
pub(super) fn base64url(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let (mut held, mut bits) = (0_u32, 0_u32);
    for letter in text.bytes() {
        let value = match letter {
            b'A'..=b'Z' => letter.wrapping_sub(b'A'),
            b'a'..=b'z' => letter.wrapping_sub(b'a').wrapping_add(26),
            b'0'..=b'9' => letter.wrapping_sub(b'0').wrapping_add(52),
            b'-' => 62,
            b'_' => 63,
            _ => return None,
        };
        held = held << 6 | u32::from(value);
        bits = bits.wrapping_add(6);
        if bits >= 8 {
            bits = bits.wrapping_sub(8);
            let [.., byte] = held.wrapping_shr(bits).to_be_bytes();
            out.push(byte);
            held &= 1_u32.wrapping_shl(bits).wrapping_sub(1);
        }
    }
    (bits < 6 && held == 0).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64url_has_one_text_for_each_content() {
        // RFC 4648 section 10, and the letters by which the two alphabets differ.
        for (text, bytes) in [
            ("", &b""[..]),
            ("Zg", b"f"),
            ("Zm8", b"fo"),
            ("Zm9v", b"foo"),
            ("Zm9vYmE", b"fooba"),
            ("-_8", b"\xfb\xff"),
        ] {
            assert_eq!(base64url(text).as_deref(), Some(bytes), "{text}");
        }
        for text in ["Z", "Zh", "Zm9=", "Zg==", "Zm9", "+/8", "Zm 9v", "Zm9v\n", "Zm9vZ"] {
            assert_eq!(base64url(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_name_that_occurs_twice_is_refused_however_it_is_written() {
        fn read(text: &str) -> Result<usize, String> {
            let members: Result<Members<'_>, _> = serde_json::from_str(text);
            members.map(|members| members.iter().count()).map_err(|error| error.to_string())
        }
        assert_eq!(read(r#"{"a":1,"b":{"a":2,"a":3}}"#), Ok(2));
        for text in [r#"{"a":1,"a":1}"#, r#"{"a":1,"b":2,"\u0061":3}"#] {
            assert!(read(text).unwrap_err().contains("twice"), "{text}");
        }
        for text in ["[]", "null", r#"{"a":1"#, r#"{"a":1} x"#] {
            assert!(read(text).is_err(), "{text}");
        }
        let many: Vec<String> = (0..=MAX_NRAS_MEMBERS).map(|at| format!("\"{at}\":0")).collect();
        assert_eq!(read(&format!("{{{}}}", many[1..].join(","))), Ok(MAX_NRAS_MEMBERS));
        assert!(read(&format!("{{{}}}", many.join(","))).unwrap_err().contains("more than 256"));
    }
}
