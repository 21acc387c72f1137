//! How long to wait before something is tried again.

use http::{HeaderMap, header};
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// Growing intervals: the first one, then twice as long each time, up to the longest.
///
/// Each is prolonged by up to a quarter, at random, so that clients that failed together do not come back together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The first interval.
    pub first: Duration,
    /// The longest interval.
    pub longest: Duration,
}

impl Backoff {
    /// How long to wait after so many failures in a row.
    pub(super) fn after(self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        jittered(self.first.saturating_mul(1 << doublings).min(self.longest))
    }
}

/// How long a guest that says nothing of it is left alone.
const UNSAID: Duration = Duration::from_secs(1);
/// The shortest time: a guest that says 0 wants to be asked again, and is not asked in a circle.
const SHORTEST: Duration = Duration::from_millis(100);
/// The longest time: a guest cannot take itself out for longer by one answer.
const LONGEST: Duration = Duration::from_secs(60);
/// Longer than anybody waits, and a time that every clock can add.
const CENTURY: Duration = Duration::from_hours(100 * 365 * 24);

/// How long a guest wants to be left alone by its answer's `Retry-After` (RFC 9110 section 10.2.3) or `retry-after-ms`,
/// within bounds, with a random part on top.
pub(super) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Duration {
    let text = |name| headers.get(name).and_then(|value: &http::HeaderValue| value.to_str().ok());
    let millis = || Some(Duration::from_millis(text("retry-after-ms")?.parse().ok()?));
    let seconds = || Some(Duration::from_secs(text(header::RETRY_AFTER.as_str())?.parse().ok()?));
    let date = || {
        let date = httpdate::parse_http_date(text(header::RETRY_AFTER.as_str())?).ok()?;
        Some(date.duration_since(now).unwrap_or_default())
    };
    let said = millis().or_else(seconds).or_else(date).unwrap_or(UNSAID);
    jittered(said.clamp(SHORTEST, LONGEST))
}

/// At least `time`, and up to a quarter more.
pub(super) fn jittered(time: Duration) -> Duration {
    // The keys of each RandomState are drawn anew: enough for spreading, and for nothing else.
    let drawn = u16::try_from(RandomState::new().hash_one(0) % 1024).unwrap_or_default();
    time.saturating_add(time.mul_f64(f64::from(drawn) / 4096.0))
}

/// What a clock shows when `time` has passed. No time is longer than a century.
pub(super) fn later(now: Instant, time: Duration) -> Instant {
    now.checked_add(time.min(CENTURY)).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn within(found: Duration, expected: Duration) -> bool {
        found >= expected && found <= expected + expected / 4
    }

    #[test]
    fn intervals_double_up_to_the_longest() {
        let backoff = Backoff { first: Duration::from_secs(5), longest: Duration::from_secs(600) };
        for (failures, seconds) in [(1, 5), (2, 10), (3, 20), (7, 320), (8, 600), (9, 600), (u32::MAX, 600)] {
            let found = backoff.after(failures);
            assert!(within(found, Duration::from_secs(seconds)), "{failures}: {found:?}");
        }
    }

    #[test]
    fn clients_do_not_come_back_together() {
        let draws: std::collections::BTreeSet<Duration> =
            (0..64).map(|_| jittered(Duration::from_secs(100))).collect();
        assert!(draws.len() > 16, "{draws:?}");
        assert!(draws.iter().all(|drawn| within(*drawn, Duration::from_secs(100))));
    }

    #[test]
    fn a_guest_says_how_long_it_wants_to_be_left_alone() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777 - 5);
        for (fields, millis) in [
            (&[][..], 1000),
            (&[("retry-after", "7")], 7000),
            (&[("retry-after", "0")], 100),
            (&[("retry-after", "86400")], 60_000),
            (&[("retry-after", "-1")], 1000),
            (&[("retry-after", "soon")], 1000),
            (&[("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT")], 5000),
            (&[("retry-after", "Sun, 06 Nov 1994 08:49:00 GMT")], 100),
            (&[("retry-after", "7"), ("retry-after-ms", "250")], 250),
        ] {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.insert(*name, value.parse().unwrap());
            }
            let found = retry_after(&headers, now);
            assert!(within(found, Duration::from_millis(millis)), "{fields:?}: {found:?}");
        }
    }
}
