//! Hexadecimal, base64, PEM and times.

use time::OffsetDateTime;

use crate::SimulatorError;

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Upper-case hexadecimal, as Intel's JSON writes fields.
pub(crate) fn hex_upper(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

/// The digits of base64 (RFC 4648 section 4).
const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Base64 with padding.
pub(crate) fn base64(bytes: &[u8]) -> String {
    bytes.chunks(3).flat_map(base64_group).collect()
}

/// Four digits for one to three bytes.
fn base64_group(bytes: &[u8]) -> [char; 4] {
    let bits = (0..3).fold(0, |bits, at| bits << 8 | usize::from(bytes.get(at).copied().unwrap_or(0)));
    [0, 1, 2, 3].map(|at| match at {
        at if at > bytes.len() => '=',
        at => char::from(BASE64[bits >> (18 - 6 * at) & 0x3f]),
    })
}

/// Lines of 64 characters, each ended.
pub(crate) fn lines_of_64(text: &str) -> String {
    let lines = text.as_bytes().chunks(64).flat_map(|line| [line, b"\n"]);
    lines.flatten().copied().map(char::from).collect()
}

/// A certificate, PEM (RFC 7468), as the committed files are written.
pub(crate) fn certificate_pem(der: &[u8]) -> String {
    let lines = lines_of_64(&base64(der));
    format!("-----BEGIN CERTIFICATE-----\n{lines}-----END CERTIFICATE-----\n")
}

/// The bytes of one committed PEM block.
pub(crate) fn pem_content(pem: &str) -> Vec<u8> {
    let digits = pem.lines().filter(|line| !line.starts_with("-----")).flat_map(str::bytes);
    let (mut out, mut bits, mut held) = (Vec::new(), 0_u32, 0_u32);
    for digit in digits.filter_map(|digit| BASE64.iter().position(|known| *known == digit)) {
        bits = bits << 6 | digit as u32;
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held) as u8);
            bits &= (1 << held) - 1;
        }
    }
    out
}

/// A time that certificates and CRLs can express: before the year 10000.
pub(crate) fn date_time(unix: u64) -> Result<OffsetDateTime, SimulatorError> {
    i64::try_from(unix)
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .ok_or(SimulatorError::Time(unix))
}

/// `YYYY-MM-DDThh:mm:ssZ` (RFC 3339).
pub(crate) fn rfc3339(unix: u64) -> Result<String, SimulatorError> {
    let at = date_time(unix)?;
    Ok(format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
        at.year(),
        u8::from(at.month()),
        at.day(),
        at.hour(),
        at.minute(),
        at.second()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_rfc_4648() {
        let cases = ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"];
        for (length, text) in cases.iter().enumerate() {
            let bytes = &b"foobar"[..length];
            assert_eq!(base64(bytes), *text);
            assert_eq!(pem_content(&format!("-----BEGIN X-----\n{text}\n-----END X-----\n")), bytes);
        }
    }

    #[test]
    fn times_are_written_as_rfc_3339() {
        let cases = [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_700_000_000, "2023-11-14T22:13:20Z"),
            (253_402_300_799, "9999-12-31T23:59:59Z"),
        ];
        for (unix, text) in cases {
            assert_eq!(rfc3339(unix).expect("before the year 10000"), text);
        }
        assert!(matches!(rfc3339(253_402_300_800), Err(SimulatorError::Time(253_402_300_800))));
    }
}
