//! PEM certificate chains (RFC 7468), read strictly.

use thiserror::Error;

/// The most certificates that a chain in a quote, in collateral or in GPU evidence may hold.
///
/// Intel's chains have three, NVIDIA's five; the limit leaves room for one more level.
pub const MAX_CHAIN: usize = 6;
/// The largest PEM chain accepted, in bytes. Recorded chains are under 6 KiB.
pub const MAX_PEM: usize = 64 * 1024;

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";
/// RFC 7468 section 6.
const BEGIN_CRL: &str = "-----BEGIN X509 CRL-----";
const END_CRL: &str = "-----END X509 CRL-----";

/// Why a PEM chain could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PemError {
    /// The text is larger than [`MAX_PEM`].
    #[error("a PEM chain of {0} bytes, at most {MAX_PEM} are accepted")]
    TooLarge(usize),
    /// The text is not UTF-8.
    #[error("a PEM chain that is not text")]
    NotText,
    /// Something other than white space stands outside the certificates.
    #[error("text outside of the certificates of a PEM chain")]
    Stray,
    /// A certificate has no end line.
    #[error("a certificate without its END line")]
    Unterminated,
    /// The body is not canonical base64.
    #[error("a certificate whose base64 is broken")]
    Base64,
    /// More certificates than [`MAX_CHAIN`].
    #[error("more than {MAX_CHAIN} certificates in a chain")]
    TooMany,
    /// No certificate at all.
    #[error("a PEM chain without a certificate")]
    Empty,
}

/// Reads the DER of every certificate of a PEM chain, in the order given.
///
/// White space around certificates and trailing NUL bytes (Intel ends the chain inside a quote with one) are
/// allowed; any other text is not.
///
/// # Errors
/// [`PemError`] names what is wrong; nothing is skipped.
pub fn certificates(pem: &[u8]) -> Result<Vec<Vec<u8>>, PemError> {
    bodies(pem)?.into_iter().map(base64).collect()
}

/// Reads the DER of every revocation list of a PEM text, in the order given, as strictly as [`certificates`].
///
/// # Errors
/// [`PemError`].
pub fn revocation_lists(pem: &[u8]) -> Result<Vec<Vec<u8>>, PemError> {
    blocks(pem, BEGIN_CRL, END_CRL)?.into_iter().map(base64).collect()
}

/// Reads the DER of every block with this label of a PEM text (RFC 7468 section 2), as strictly as [`certificates`].
///
/// # Errors
/// [`PemError`], also for a block of another label.
pub(crate) fn labelled(pem: &[u8], label: &str) -> Result<Vec<Vec<u8>>, PemError> {
    let (begin, end) = (format!("-----BEGIN {label}-----"), format!("-----END {label}-----"));
    blocks(pem, &begin, &end)?.into_iter().map(base64).collect()
}

/// The base64 bodies of a PEM chain, in the order given: equal bodies are equal certificates.
///
/// # Errors
/// [`PemError`], all but [`PemError::Base64`].
pub fn bodies(pem: &[u8]) -> Result<Vec<&str>, PemError> {
    blocks(pem, BEGIN, END)
}

fn blocks<'p>(pem: &'p [u8], begin: &str, end: &str) -> Result<Vec<&'p str>, PemError> {
    if pem.len() > MAX_PEM {
        return Err(PemError::TooLarge(pem.len()));
    }
    let text = std::str::from_utf8(pem).map_err(|_| PemError::NotText)?;
    let mut rest = text.trim_end_matches('\0').trim();
    let mut found = Vec::new();
    while !rest.is_empty() {
        let body_on = rest.strip_prefix(begin).ok_or(PemError::Stray)?;
        // Base64 has no hyphen: the first one begins the END line.
        let hyphen = body_on.find('-').ok_or(PemError::Unterminated)?;
        let (body, after) = body_on.split_at_checked(hyphen).ok_or(PemError::Unterminated)?;
        let after = after.strip_prefix(end).ok_or(PemError::Unterminated)?;
        if found.len() >= MAX_CHAIN {
            return Err(PemError::TooMany);
        }
        found.push(body);
        rest = after.trim_start();
    }
    if found.is_empty() { Err(PemError::Empty) } else { Ok(found) }
}

/// Writes DER certificates as a PEM chain with lines of 64 characters (RFC 7468 section 2).
#[must_use]
pub fn encode(certificates: &[Vec<u8>]) -> String {
    let mut out = String::new();
    for der in certificates {
        out.push_str(BEGIN);
        out.push('\n');
        let mut column = 0_u32;
        for character in base64_text(der).chars() {
            out.push(character);
            column = column.wrapping_add(1);
            if column.is_multiple_of(64) {
                out.push('\n');
            }
        }
        if !column.is_multiple_of(64) {
            out.push('\n');
        }
        out.push_str(END);
        out.push('\n');
    }
    out
}

/// Decodes standard base64 (RFC 4648 section 4), ignoring white space, refusing non-canonical padding.
///
/// # Errors
/// [`PemError::Base64`].
pub fn base64(text: &str) -> Result<Vec<u8>, PemError> {
    let mut out = Vec::with_capacity((text.len() / 4).saturating_mul(3));
    let mut group = 0_u32;
    let mut filled = 0_u32;
    let mut padding = 0_u32;
    let mut rest = text.as_bytes();
    // How many bytes lie behind a line that is none: before them no other is tried, so that each byte is looked at twice.
    let mut untried = usize::MAX;
    loop {
        if filled == 0 && padding == 0 && rest.len() <= untried {
            rest = rest.trim_ascii_start();
            if let Some((line, after)) = rest.split_first_chunk() {
                if let Some(bytes) = whole_line(line) {
                    out.extend_from_slice(&bytes);
                    rest = after;
                    continue;
                }
                untried = after.len();
            }
        }
        // A line's end, the last line, padding, or what is no base64: byte by byte.
        let Some((&byte, after)) = rest.split_first() else { break };
        rest = after;
        if byte.is_ascii_whitespace() {
            continue;
        }
        if byte == b'=' {
            padding = padding.saturating_add(1);
            continue;
        }
        let value = sextet(byte).ok_or(PemError::Base64)?;
        if padding > 0 {
            return Err(PemError::Base64);
        }
        group = (group << 6) | value;
        filled = filled.wrapping_add(1);
        if filled == 4 {
            let [_, a, b, c] = group.to_be_bytes();
            out.extend_from_slice(&[a, b, c]);
            (group, filled) = (0, 0);
        }
    }
    match (filled, padding) {
        (0, 0) => {}
        (2, 2) if group & 0xf == 0 => out.push((group >> 4).to_be_bytes()[3]),
        (3, 1) if group & 0x3 == 0 => {
            let [_, _, a, b] = (group >> 2).to_be_bytes();
            out.extend_from_slice(&[a, b]);
        }
        _ => return Err(PemError::Base64),
    }
    Ok(out)
}

/// A whole line (RFC 7468 section 2) at once; nothing where it has anything but digits.
fn whole_line(line: &[u8; 64]) -> Option<[u8; 48]> {
    let (mut bytes, mut all) = ([0; 48], 0);
    let (groups, _) = bytes.as_chunks_mut::<3>();
    let (quads, _) = line.as_chunks::<4>();
    for (group, [a, b, c, d]) in groups.iter_mut().zip(quads) {
        let bits = place(0, *a) | place(1, *b) | place(2, *c) | place(3, *d);
        all |= bits;
        let [_, first, second, third] = bits.to_be_bytes();
        *group = [first, second, third];
    }
    (all < NO_GROUP).then_some(bytes)
}

/// The value of a digit in its place of four, or a bit above all of them where the byte is no digit.
fn place(place: usize, byte: u8) -> u32 {
    PLACES.get(place).and_then(|values| values.get(usize::from(byte))).copied().unwrap_or(NO_GROUP)
}

/// Encodes standard base64 with padding (RFC 4648 section 4).
#[must_use]
pub fn base64_text(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3).saturating_mul(4));
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let group = byte(0) << 16 | byte(1) << 8 | byte(2);
        for (at, shift) in [18, 12, 6, 0].into_iter().enumerate() {
            out.push(if at > chunk.len() { '=' } else { letter((group >> shift) & 0x3f) });
        }
    }
    out
}

/// What [`PLACES`] has for a byte that is no base64 digit: more than four digits are together.
const NO_GROUP: u32 = 1 << 24;

/// The value of every byte as the first to the fourth digit of a group.
static PLACES: [[u32; 256]; 4] = {
    let mut table = [[NO_GROUP; 256]; 4];
    let mut place = 0;
    while place < 4 {
        let mut value = 0;
        while value < 64 {
            #[expect(clippy::indexing_slicing, clippy::as_conversions, reason = "evaluated by the compiler")]
            {
                table[place][digit(value) as usize] = (value as u32) << (18 - 6 * place);
            }
            value += 1;
        }
        place += 1;
    }
    table
};

fn sextet(byte: u8) -> Option<u32> {
    Some(place(3, byte)).filter(|value| *value < NO_GROUP)
}

fn letter(sextet: u32) -> char {
    let [.., byte] = sextet.to_be_bytes();
    char::from(digit(byte))
}

const fn digit(sextet: u8) -> u8 {
    match sextet {
        0..=25 => b'A'.wrapping_add(sextet),
        26..=51 => b'a'.wrapping_add(sextet).wrapping_sub(26),
        52..=61 => b'0'.wrapping_add(sextet).wrapping_sub(52),
        62 => b'+',
        _ => b'/',
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn base64_round_trips(bytes: Vec<u8>) {
            prop_assert_eq!(base64(&base64_text(&bytes)).unwrap(), bytes);
        }

        #[test]
        fn chains_round_trip(chain in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 1..=MAX_CHAIN)) {
            prop_assert_eq!(certificates(encode(&chain).as_bytes()).unwrap(), chain);
        }
    }

    #[test]
    fn known_answers() {
        // RFC 4648 section 10.
        for (plain, text) in [("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64_text(plain.as_bytes()), text);
            assert_eq!(base64(text).unwrap(), plain.as_bytes());
        }
    }

    #[test]
    fn broken_chains_are_named() {
        let good = encode(&[vec![1, 2, 3]]);
        assert_eq!(certificates(b""), Err(PemError::Empty));
        assert_eq!(certificates(format!("x{good}").as_bytes()), Err(PemError::Stray));
        assert_eq!(certificates(format!("{good}x").as_bytes()), Err(PemError::Stray));
        assert_eq!(certificates(good.replace(END, "").as_bytes()), Err(PemError::Unterminated));
        assert_eq!(certificates(good.replace("AQID", "AQI*").as_bytes()), Err(PemError::Base64));
        assert_eq!(certificates(good.repeat(7).as_bytes()), Err(PemError::TooMany));
        assert_eq!(certificates(&[0xff]), Err(PemError::NotText));
        assert_eq!(certificates(&vec![b' '; MAX_PEM + 1]), Err(PemError::TooLarge(MAX_PEM + 1)));
        assert!(certificates(format!("{good}\0").as_bytes()).is_ok());
        assert_eq!(
            base64("Zm9v\r\n Ym\tFy\n"),
            Ok(b"foobar".to_vec()),
            "white space between and within groups"
        );
        for bad in
            ["A", "AA", "AAA", "AB==", "AA=A", "AAAA=", "AAAA=AAA", "AAAA\u{e9}A", "AAA=AAAA", "AAAA-AAA"]
        {
            assert_eq!(base64(bad), Err(PemError::Base64), "{bad}");
        }
    }
}
