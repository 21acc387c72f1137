//! Time as a verdict's life is measured by.

use rustix::time::{ClockId, clock_gettime};
use rustls_pki_types::UnixTime;
use std::time::Duration;

/// One moment on two clocks: the wall clock, which anybody with the right may set, and one that only runs forward and
/// counts the time that the machine spends suspended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    wall: UnixTime,
    running: Duration,
}

#[cfg(any(target_os = "linux", target_os = "android"))]
const RUNNING: ClockId = ClockId::Boottime;
/// Apple's monotonic clock counts suspension.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const RUNNING: ClockId = ClockId::Monotonic;

impl Moment {
    /// Now.
    #[must_use]
    pub fn now() -> Self {
        let running = clock_gettime(RUNNING);
        let seconds = u64::try_from(running.tv_sec).unwrap_or_default();
        let nanoseconds = u32::try_from(running.tv_nsec).unwrap_or_default();
        Self { wall: UnixTime::now(), running: Duration::new(seconds, nanoseconds) }
    }

    /// The wall clock, for an appraisal.
    #[must_use]
    pub fn wall(self) -> UnixTime {
        self.wall
    }

    /// How long ago `start` was, suspension included; nothing where it is to come.
    #[must_use]
    pub fn since(self, start: Self) -> Duration {
        self.running.saturating_sub(start.running)
    }

    /// How much is left at this moment of a span that began at `start` and ends at `end` by the wall clock. The shorter
    /// of what the two clocks say: setting the wall clock back prolongs nothing.
    #[must_use]
    pub fn left_until(self, end: UnixTime, start: Self) -> Duration {
        let span = wall(end).saturating_sub(wall(start.wall));
        let run = self.running.saturating_sub(start.running);
        span.saturating_sub(run).min(wall(end).saturating_sub(wall(self.wall)))
    }
}

fn wall(time: UnixTime) -> Duration {
    Duration::from_secs(time.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(wall: u64, running: u64) -> Moment {
        Moment {
            wall: UnixTime::since_unix_epoch(Duration::from_secs(wall)),
            running: Duration::from_secs(running),
        }
    }

    fn left(now: Moment) -> u64 {
        let end = UnixTime::since_unix_epoch(Duration::from_secs(1300));
        now.left_until(end, at(1000, 50)).as_secs()
    }

    #[test]
    fn the_clocks_agree() {
        assert_eq!(left(at(1000, 50)), 300);
        assert_eq!(left(at(1299, 349)), 1);
        assert_eq!(left(at(1300, 350)), 0);
        assert_eq!(left(at(5000, 4050)), 0);
    }

    #[test]
    fn a_wall_clock_set_back_prolongs_nothing() {
        assert_eq!(left(at(900, 349)), 1);
        assert_eq!(left(at(900, 350)), 0);
    }

    #[test]
    fn a_wall_clock_set_forward_ends_the_verdict() {
        assert_eq!(left(at(1300, 51)), 0);
    }

    #[test]
    fn time_runs() {
        let (first, second) = (Moment::now(), Moment::now());
        assert!(first.running <= second.running && first.running > Duration::ZERO);
        assert_eq!(
            (at(9, 5).since(at(0, 3)), at(0, 3).since(at(9, 5))),
            (Duration::from_secs(2), Duration::ZERO)
        );
    }
}
