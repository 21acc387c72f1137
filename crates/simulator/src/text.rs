//! Hexadecimal and times.

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
