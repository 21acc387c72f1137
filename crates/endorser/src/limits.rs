//! How long a service may take, and how often it is asked.

use std::time::Duration;

/// How long a service may take, and how often it is asked.
///
/// A request is repeated after a fault of the transport, status 429 and statuses from 500: none of these says that the
/// object does not exist. Pauses double, up to a longest one, and half of each is drawn at random, so that many guests
/// that start together do not ask together. A `Retry-After` of the service is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// For the TCP connection, the proxy's answer and the TLS handshake together. TCP repeats its first segment after 1, 3
    /// and 7 seconds (RFC 6298): three lost ones are outlived.
    pub connect: Duration,
    /// For one request with its answer, connecting included. After the slowest connection there are 5 seconds left: for the
    /// largest answer, of 2 MiB, at 400 KiB a second.
    pub attempt: Duration,
    /// For one object, repetitions and their pauses included. As long as three attempts that all run out of time.
    pub total: Duration,
    /// How often one object is asked for, at least once. The pauses between five are 7.5 seconds at most: a service that
    /// starts anew is back by then.
    pub attempts: u32,
    /// The first pause. A single fault costs no more than a slow answer does.
    pub first_pause: Duration,
    /// The longest pause that is not the service's own wish. Five attempts do not reach it: it is for callers
    /// that ask more often.
    pub longest_pause: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            attempt: Duration::from_secs(15),
            total: Duration::from_secs(45),
            attempts: 5,
            first_pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(8),
        }
    }
}

impl Limits {
    /// The pause after the given number of failed attempts, one or more. `part` in 0..=1 places it in its random half.
    pub(crate) fn pause(&self, failed: u32, part: f64) -> Duration {
        let doublings = failed.saturating_sub(1).min(16);
        let whole = self.first_pause.saturating_mul(1 << doublings).min(self.longest_pause);
        whole.mul_f64(0.5 + part.clamp(0.0, 1.0) / 2.0)
    }
}

/// A random number from 0 to 1. Where the system has no random source, the middle.
pub(crate) fn jitter() -> f64 {
    getrandom::u32().map_or(0.5, |drawn| f64::from(drawn) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_vary_by_half() {
        let limits = Limits::default();
        let whole: Vec<u64> =
            (1..=7).map(|failed| limits.pause(failed, 1.0).as_millis().try_into().unwrap()).collect();
        assert_eq!(whole, [500, 1000, 2000, 4000, 8000, 8000, 8000]);
        assert_eq!(limits.pause(1, 0.0), Duration::from_millis(250));
        assert_eq!(limits.pause(u32::MAX, 0.0), Duration::from_secs(4));
        for _ in 0..100 {
            assert!((0.0..=1.0).contains(&jitter()));
        }
    }
}
