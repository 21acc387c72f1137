//! Points in time, written as TOML writes them: `2026-12-31` or `2026-12-31T12:00:00Z`.

use confide_evidence::time::{format_seconds, parse_seconds};
use serde::{Deserialize, Deserializer};
use std::fmt;
use toml::value::Datetime;

/// The last second of something, in seconds since the Unix epoch. A day alone means its end in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Until(pub i64);

/// The first second of something, in seconds since the Unix epoch. A day alone means its beginning in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Since(pub i64);

impl<'de> Deserialize<'de> for Until {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        moment(deserializer, "23:59:59").map(Self)
    }
}

impl<'de> Deserialize<'de> for Since {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        moment(deserializer, "00:00:00").map(Self)
    }
}

impl fmt::Display for Until {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&format_seconds(self.0))
    }
}

impl fmt::Display for Since {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&format_seconds(self.0))
    }
}

fn moment<'de, D: Deserializer<'de>>(deserializer: D, of_day: &str) -> Result<i64, D::Error> {
    let given = Datetime::deserialize(deserializer)?;
    let text = match given {
        Datetime { date: Some(date), time: None, .. } => format!("{date}T{of_day}Z"),
        Datetime { date: Some(_), time: Some(_), offset: Some(_) } => given.to_string(),
        _ => String::new(),
    };
    parse_seconds(&text).ok_or_else(|| {
        let expected = "a day such as 2026-12-31, or a time with its offset such as 2026-12-31T12:00:00Z";
        serde::de::Error::custom(format!("{given} is not {expected}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Span {
        since: Since,
        until: Until,
    }

    fn read(since: &str, until: &str) -> Result<(String, String), String> {
        toml::from_str::<Span>(&format!("since = {since}\nuntil = {until}"))
            .map(|span| (span.since.to_string(), span.until.to_string()))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_day_lasts_from_its_first_to_its_last_second() {
        let span = read("2026-12-31", "2026-12-31").unwrap();
        assert_eq!(span, ("2026-12-31T00:00:00Z".to_owned(), "2026-12-31T23:59:59Z".to_owned()));
        let span = read("2026-12-31T12:00:00+02:00", "2026-12-31T12:00:00Z").unwrap();
        assert_eq!(span, ("2026-12-31T10:00:00Z".to_owned(), "2026-12-31T12:00:00Z".to_owned()));
    }

    #[test]
    fn a_time_that_is_no_point_in_time_is_refused() {
        for bad in ["2026-12-31T12:00:00", "12:00:00", "2026-02-30", "\"2026-12-31\"", "1798675200"] {
            assert!(read("2026-12-31", bad).is_err(), "{bad}");
        }
    }
}
