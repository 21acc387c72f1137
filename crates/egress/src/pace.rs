//! How much of many things is told.

use tokio::time::{Duration, Instant};

/// A bucket of things that may be told: so many at once, and another one with each pause.
#[derive(Debug)]
pub struct Pace {
    most: u32,
    pause: Duration,
    left: u32,
    /// Since when what is left grows.
    since: Instant,
}

impl Pace {
    /// A full bucket for `most` things, which takes another one each `pause`.
    #[must_use]
    pub fn new(most: u32, pause: Duration) -> Self {
        Self { most, pause, left: most, since: Instant::now() }
    }

    /// Whether one more may be told now.
    pub fn admits(&mut self, now: Instant) -> bool {
        self.fill(now);
        let admitted = self.left.checked_sub(1);
        self.left = admitted.unwrap_or_default();
        admitted.is_some()
    }

    /// What is earned so far. Of a pause that has begun nothing is forgotten, but where the bucket is full.
    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.since);
        let pauses = passed.as_nanos().checked_div(self.pause.as_nanos()).unwrap_or(u128::MAX);
        match u32::try_from(pauses) {
            Ok(earned) if earned < self.most.saturating_sub(self.left) => {
                self.left = self.left.saturating_add(earned);
                // These pauses have passed, so that the clock holds them.
                self.since = self.since.checked_add(self.pause.saturating_mul(earned)).unwrap_or(now);
            }
            _ => {
                self.left = self.most;
                self.since = now;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_secs(1);

    fn admitted(pace: &mut Pace, at: Instant, tries: u32) -> usize {
        (0..tries).filter(|_| pace.admits(at)).count()
    }

    #[test]
    fn so_many_at_once_and_one_more_each_pause() {
        let mut pace = Pace::new(10, PAUSE);
        let start = pace.since;
        assert_eq!(admitted(&mut pace, start, 100), 10);
        assert_eq!(admitted(&mut pace, start + PAUSE / 2, 100), 0);
        assert_eq!(admitted(&mut pace, start + 3 * PAUSE, 100), 3);
        assert_eq!(admitted(&mut pace, start + 3600 * PAUSE, 100), 10);
        // Time that goes backwards earns nothing.
        assert_eq!(admitted(&mut pace, start, 100), 0);
    }

    #[test]
    fn what_has_passed_of_a_pause_is_not_forgotten() {
        let mut pace = Pace::new(2, PAUSE);
        let start = pace.since;
        assert_eq!(admitted(&mut pace, start, 5), 2);
        // Asked again and again, all the time.
        let quarter = PAUSE / 4;
        let many: usize = (1..=40).map(|quarters| admitted(&mut pace, start + quarters * quarter, 1)).sum();
        assert_eq!(many, 10);
        assert_eq!(admitted(&mut pace, start + 10 * PAUSE + PAUSE * 3 / 4, 1), 0);
        assert_eq!(admitted(&mut pace, start + 11 * PAUSE + PAUSE * 3 / 4, 1), 1);
        assert_eq!(admitted(&mut pace, start + 12 * PAUSE, 1), 1);
    }
}
