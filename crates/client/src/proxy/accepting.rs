//! Connections that the system refuses to hand over, mostly for want of descriptors or memory.

use std::time::Duration;

/// How long to wait after the first refusal.
const SHORTEST: Duration = Duration::from_millis(50);
/// How long to wait at most: descriptors come back as soon as connections end.
const LONGEST: Duration = Duration::from_secs(1);

/// What becomes of refusals: each is waited out, longer each time, and the first in a row is told.
#[derive(Debug, Default)]
pub(super) struct Accepting {
    /// Refusals in a row.
    refusals: u32,
}

/// What to do about one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// How long to wait.
    pub(super) wait: Duration,
    /// Whether it is the first in a row.
    pub(super) is_first: bool,
}

impl Accepting {
    /// Notes a connection.
    pub(super) fn accepted(&mut self) {
        self.refusals = 0;
    }

    /// Notes a refusal.
    pub(super) fn refused(&mut self) -> Refusal {
        let wait = SHORTEST.saturating_mul(1 << self.refusals.min(16)).min(LONGEST);
        let is_first = self.refusals == 0;
        self.refusals = self.refusals.saturating_add(1);
        Refusal { wait, is_first }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_told_once_and_waited_out_longer_each_time() {
        let mut accepting = Accepting::default();
        for _ in 0..2 {
            let refusals: Vec<Refusal> = (0..40).map(|_| accepting.refused()).collect();
            let told: Vec<bool> = refusals.iter().map(|one| one.is_first).collect();
            assert!(told[0] && told[1..].iter().all(|told| !told));
            let millis: Vec<u128> = refusals[..7].iter().map(|one| one.wait.as_millis()).collect();
            assert_eq!(millis, [50, 100, 200, 400, 800, 1000, 1000]);
            assert_eq!(refusals[39].wait, LONGEST);
            accepting.accepted();
        }
    }
}
