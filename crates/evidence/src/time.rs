//! Times as seconds since the Unix epoch, and their RFC 3339 text in UTC.

use rustls_pki_types::UnixTime;
use std::time::Duration;

const DAY: i64 = 86_400;
/// 9999-12-31T23:59:59Z, the last second that the text form can name.
pub const LAST: i64 = 253_402_300_799;

/// Reads an RFC 3339 date-time (section 5.6): `Z` or a numeric offset, fraction of a second dropped.
///
/// Returns `None` for anything else: a missing field, an impossible date, a leap second, a year before 1970.
#[must_use]
pub fn parse_rfc3339(text: &str) -> Option<UnixTime> {
    let seconds = parse_seconds(text)?;
    u64::try_from(seconds).ok().map(|seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
}

/// As [`parse_rfc3339`], as signed seconds since the Unix epoch.
#[must_use]
pub fn parse_seconds(text: &str) -> Option<i64> {
    let (date, rest) = text.split_at_checked(10)?;
    let mut parts = date.split('-');
    let (year, month, day) =
        (digits(parts.next()?, 4)?, digits(parts.next()?, 2)?, digits(parts.next()?, 2)?);
    if parts.next().is_some() || !rest.starts_with(['T', 't']) {
        return None;
    }
    let (clock, rest) = rest.get(1..)?.split_at_checked(8)?;
    let mut parts = clock.split(':');
    let (hour, minute, second) =
        (digits(parts.next()?, 2)?, digits(parts.next()?, 2)?, digits(parts.next()?, 2)?);
    if parts.next().is_some() || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let offset = offset_seconds(after_fraction(rest)?)?;
    let days = days_from_civil(year, month, day)?;
    let clock = hour.checked_mul(3600)?.checked_add(minute.checked_mul(60)?)?.checked_add(second)?;
    days.checked_mul(DAY)?.checked_add(clock)?.checked_sub(offset)
}

/// Writes seconds since the Unix epoch as `YYYY-MM-DDThh:mm:ssZ`; times outside the years 1970 to 9999 become the
/// nearest end of that range.
#[must_use]
pub fn format_seconds(seconds: i64) -> String {
    let seconds = seconds.clamp(0, LAST);
    let (days, clock) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
    let (year, month, day) = civil_from_days(days);
    let (hour, minute, second) = (clock / 3600, clock / 60 % 60, clock % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Writes a time as `YYYY-MM-DDThh:mm:ssZ`.
#[must_use]
pub fn format_rfc3339(time: UnixTime) -> String {
    format_seconds(seconds(time))
}

/// A time as signed seconds since the Unix epoch.
#[must_use]
pub fn seconds(time: UnixTime) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

fn digits(text: &str, count: usize) -> Option<i64> {
    (text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

fn after_fraction(rest: &str) -> Option<&str> {
    let Some(fraction) = rest.strip_prefix('.') else { return Some(rest) };
    let end = fraction.find(|character: char| !character.is_ascii_digit())?;
    (1..=9).contains(&end).then(|| fraction.get(end..))?
}

fn offset_seconds(text: &str) -> Option<i64> {
    if matches!(text, "Z" | "z") {
        return Some(0);
    }
    let sign = match text.get(..1)? {
        "+" => 1,
        "-" => -1,
        _ => return None,
    };
    let (hours, minutes) = text.get(1..)?.split_once(':')?;
    let (hours, minutes) = (digits(hours, 2)?, digits(minutes, 2)?);
    if hours > 23 || minutes > 59 {
        return None;
    }
    hours.checked_mul(3600)?.checked_add(minutes.checked_mul(60)?)?.checked_mul(sign)
}

/// Days since 1970-01-01 of a date in the proleptic Gregorian calendar, years 1970 to 9999.
fn days_from_civil(year: i64, month: i64, day: i64) -> Option<i64> {
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || day < 1 || day > days_in(year, month) {
        return None;
    }
    let years = year.checked_sub(1970)?;
    let before =
        (0..years).try_fold(0_i64, |sum, at| sum.checked_add(days_in_year(at.checked_add(1970)?)))?;
    let months = (1..month).try_fold(0_i64, |sum, at| sum.checked_add(days_in(year, at)))?;
    before.checked_add(months)?.checked_add(day)?.checked_sub(1)
}

fn civil_from_days(mut days: i64) -> (i64, i64, i64) {
    let mut year = 1970;
    while days >= days_in_year(year) {
        days = days.saturating_sub(days_in_year(year));
        year = year.saturating_add(1);
    }
    let mut month = 1;
    while days >= days_in(year, month) {
        days = days.saturating_sub(days_in(year, month));
        month = month.saturating_add(1);
    }
    (year, month, days.saturating_add(1))
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in_year(year: i64) -> i64 {
    if is_leap(year) { 366 } else { 365 }
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_times() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T12:00:00Z", 951_825_600),
            ("2026-06-08T11:32:35Z", 1_780_918_355),
            ("2026-06-08T13:32:35.25+02:00", 1_780_918_355),
            ("9999-12-31T23:59:59Z", LAST),
        ] {
            assert_eq!(parse_seconds(text), Some(seconds), "{text}");
        }
        assert_eq!(format_seconds(951_825_600), "2000-02-29T12:00:00Z");
        assert_eq!(format_seconds(i64::MAX), "9999-12-31T23:59:59Z");
    }

    #[test]
    fn refused_texts() {
        for text in [
            "",
            "2026-06-08",
            "2026-06-08T11:32:35",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "1969-12-31T23:59:59Z",
            "2026-06-08T24:00:00Z",
            "2026-06-08T11:32:60Z",
            "2026-06-08 11:32:35Z",
            "2026-06-08T11:32:35.Z",
            "2026-06-08T11:32:35+2:00",
            "2026-06-08T11:32:35Zx",
            "+026-06-08T11:32:35Z",
            "2026-06-08T1é:32:35Z",
        ] {
            assert_eq!(parse_seconds(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn round_trips(seconds in 0..=LAST) {
            prop_assert_eq!(parse_seconds(&format_seconds(seconds)), Some(seconds));
        }
    }
}
