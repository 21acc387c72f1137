//! Percent-encoding (RFC 3986 section 2.1), read.

/// Reads percent-encoded text; `None` for a percent sign without two hexadecimal digits behind it. A plus sign stands
/// for itself: this is not the encoding of HTML forms.
#[must_use]
pub fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.iter().copied();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        let value = digit(rest.next())?.checked_mul(16)?.checked_add(digit(rest.next())?)?;
        out.push(u8::try_from(value).ok()?);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_answers() {
        for (text, bytes) in [("", &b""[..]), ("a+b", b"a+b"), ("%2Ba%2f%00", b"+a/\0"), ("%25", b"%")] {
            assert_eq!(decode(text.as_bytes()).as_deref(), Some(bytes), "{text}");
        }
    }

    #[test]
    fn broken_escapes_are_refused() {
        for text in ["%", "%2", "a%", "%g0", "%0g", "%%20", "%+1"] {
            assert_eq!(decode(text.as_bytes()), None, "{text}");
        }
    }
}
