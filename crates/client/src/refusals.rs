//! How much of refused evidence is recorded. Whoever answers at an address, or can write one into a discovery file, may show
//! the largest document there is each time that it is asked: without a limit it would fill the disk, or the record file.

use confide_service::metrics::Counter;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The most bytes of refused evidence documents that are recorded of one guest at once, and again with each day: 16 of the
/// largest, or 1,000 of the usual size. A guest that is refused is asked again every 10 minutes in the end, so that usual
/// documents are all recorded.
const MAX_REFUSED: u64 = 64 * 1024 * 1024;
/// In which time the whole of it is there again.
const REFILL: Duration = Duration::from_secs(24 * 60 * 60);
/// What each document counts at least, in bytes: a record holds policy, verdict and endorsements besides.
const LEAST: u64 = 64 * 1024;

/// What may still be recorded of one guest's refused evidence.
#[derive(Debug)]
pub(crate) struct Refusals {
    left: Mutex<Left>,
    passed_over: Counter,
}

#[derive(Clone, Copy, Debug)]
struct Left {
    bytes: u64,
    at: Instant,
}

/// There is no room for the record: it is counted, and not written.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PassedOver;

impl Refusals {
    pub(crate) fn new(now: Instant) -> Self {
        Self { left: Mutex::new(Left { bytes: MAX_REFUSED, at: now }), passed_over: Counter::default() }
    }

    /// Makes room for the record of a document of so many bytes.
    pub(crate) fn room(&self, bytes: usize, now: Instant) -> Result<(), PassedOver> {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = now.saturating_duration_since(left.at).as_millis();
        let more = u128::from(MAX_REFUSED)
            .saturating_mul(passed)
            .checked_div(REFILL.as_millis())
            .unwrap_or_default();
        if more > 0 {
            let more = u64::try_from(more).unwrap_or(u64::MAX);
            *left = Left { bytes: left.bytes.saturating_add(more).min(MAX_REFUSED), at: now };
        }
        let wanted = u64::try_from(bytes).unwrap_or(u64::MAX).max(LEAST);
        match left.bytes.checked_sub(wanted) {
            Some(rest) => {
                left.bytes = rest;
                Ok(())
            }
            None => {
                self.passed_over.add(1);
                Err(PassedOver)
            }
        }
    }

    /// How many refusals were not recorded.
    pub(crate) fn passed_over(&self) -> u64 {
        self.passed_over.value()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LARGEST: usize = 4 * 1024 * 1024;

    #[test]
    fn as_much_is_recorded_at_once_and_the_same_again_in_a_day() {
        let begun = Instant::now();
        let refusals = Refusals::new(begun);
        let recorded = |now| (0..1000).filter(|_| refusals.room(LARGEST, now).is_ok()).count();
        assert_eq!(recorded(begun), 16);
        assert_eq!(recorded(begun + REFILL / 16), 1);
        assert_eq!(recorded(begun + REFILL * 100), 16, "a long time gives no more than a day");
        assert_eq!(refusals.passed_over(), 3000 - 33);
    }

    #[test]
    fn often_asked_it_fills_as_fast() {
        let begun = Instant::now();
        let refusals = Refusals::new(begun);
        while refusals.room(LARGEST, begun).is_ok() {}
        let times = (1..=24 * 60 * 60).map(|second| begun + Duration::from_secs(second));
        let recorded = times.filter(|now| refusals.room(LARGEST, *now).is_ok()).count();
        assert!((15..=16).contains(&recorded), "{recorded}");
    }

    #[test]
    fn a_small_document_counts_for_the_rest_of_its_record() {
        let begun = Instant::now();
        let refusals = Refusals::new(begun);
        assert_eq!((0..2000).filter(|_| refusals.room(0, begun).is_ok()).count(), 1024);
        assert_eq!(refusals.room(usize::MAX, begun), Err(PassedOver));
    }
}
