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

/// Reads the fourteen digits `YYYYMMDDhhmmss` in UTC as seconds since the Unix epoch; `None` for anything else, an
/// impossible date, a leap second, a year before 1970.
pub(crate) fn parse_digits(digits: &[u8]) -> Option<i64> {
    let [a, b, c, d, rest @ ..] = digits else { return None };
    let [e, f, g, h, i, j, k, l, m, n] = rest else { return None };
    let pair = |tens: &u8, ones: &u8| {
        let pair = [*tens, *ones];
        pair.iter().all(u8::is_ascii_digit).then(|| decimal(&pair))
    };
    let year = pair(a, b)?.checked_mul(100)?.checked_add(pair(c, d)?)?;
    let days = days_from_civil(year, pair(e, f)?, pair(g, h)?)?;
    let (hour, minute, second) = (pair(i, j)?, pair(k, l)?, pair(m, n)?);
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let clock = hour.checked_mul(3600)?.checked_add(minute.checked_mul(60)?)?.checked_add(second)?;
    days.checked_mul(DAY)?.checked_add(clock)
}

/// The value of a few ASCII digits.
fn decimal(digits: &[u8]) -> i64 {
    digits
        .iter()
        .fold(0, |sum: i64, digit| sum.saturating_mul(10).saturating_add(i64::from(digit.wrapping_sub(b'0'))))
}

/// Writes seconds since the Unix epoch as `YYYY-MM-DDThh:mm:ssZ`; times outside the years 1970 to 9999 become the
/// nearest end of that range.
#[must_use]
pub fn format_seconds(seconds: i64) -> String {
    let seconds = seconds.clamp(0, LAST);
    let (days, clock) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
    let (year, month, day) = civil_from_days(days);
    let ([a, b], [c, d]) = (two_digits(year / 100), two_digits(year % 100));
    let ([e, f], [g, h]) = (two_digits(month), two_digits(day));
    let ([i, j], [k, l]) = (two_digits(clock / 3600), two_digits(clock / 60 % 60));
    let [m, n] = two_digits(clock % 60);
    let text = [a, b, c, d, b'-', e, f, b'-', g, h, b'T', i, j, b':', k, l, b':', m, n, b'Z'];
    String::from_utf8(text.to_vec()).unwrap_or_default()
}

/// The last two decimal digits of a number that is not negative.
fn two_digits(number: i64) -> [u8; 2] {
    let digit = |value: i64| b'0'.wrapping_add(u8::try_from(value % 10).unwrap_or_default());
    [digit(number / 10), digit(number)]
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
    let months = (1..month).try_fold(0_i64, |sum, at| sum.checked_add(days_in(year, at)))?;
    days_before(year).checked_add(months)?.checked_add(day)?.checked_sub(1)
}

/// Year, month and day of a day from 1970-01-01 to 9999-12-31, counted from 0.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    // An estimate that is never too late and at most 22 years early.
    let mut year = 1970_i64.saturating_add(days / 366);
    let mut first = days_before(year);
    while days.saturating_sub(first) >= days_in_year(year) {
        first = first.saturating_add(days_in_year(year));
        year = year.saturating_add(1);
    }
    let mut day = days.saturating_sub(first);
    let mut month = 1;
    while day >= days_in(year, month) {
        day = day.saturating_sub(days_in(year, month));
        month = month.saturating_add(1);
    }
    (year, month, day.saturating_add(1))
}

/// Days from 1970-01-01 to the first day of a year from 1970 to 9999.
fn days_before(year: i64) -> i64 {
    let before = year.saturating_sub(1);
    // Leap years up to the end of 1969: 477.
    let leaps = (before / 4).saturating_sub(before / 100).saturating_add(before / 400).saturating_sub(477);
    year.saturating_sub(1970).saturating_mul(365).saturating_add(leaps)
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

    #[test]
    fn digits_are_the_same_time_as_text() {
        assert_eq!(parse_digits(b"20260608113235"), parse_seconds("2026-06-08T11:32:35Z"));
        for wrong in [
            &b""[..],
            b"2026060811323",
            b"202606081132350",
            b"20260229000000",
            b"20261301000000",
            b"20260608240000",
            b"20260608116000",
            b"20260608113260",
            b"19691231235959",
            b"2026060811323x",
            b"+0260608113235",
        ] {
            assert_eq!(parse_digits(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let (mut year, mut month, mut day) = (1970, 1, 1);
        for days in 0..=LAST / DAY {
            assert_eq!(civil_from_days(days), (year, month, day));
            assert_eq!(days_from_civil(year, month, day), Some(days));
            day += 1;
            if day > days_in(year, month) {
                (month, day) = (month + 1, 1);
            }
            if month > 12 {
                (year, month) = (year + 1, 1);
            }
        }
    }

    proptest! {
        #[test]
        fn round_trips(seconds in 0..=LAST) {
            let text = format_seconds(seconds);
            prop_assert_eq!(parse_seconds(&text), Some(seconds));
            let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_digit).collect();
            prop_assert_eq!(parse_digits(&digits), Some(seconds));
        }
    }
}
