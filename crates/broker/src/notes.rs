//! How much strangers may have written to the audit log.
//!
//! Anybody who reaches the broker can be refused, as often as the limits on requests allow. A refusal of evidence whose
//! signatures lead to a root of a policy is noted with its record, as far as an allowance of bytes goes. Whatever nothing vouches
//! for is noted by itself as far as an allowance of entries goes; what is beyond that is counted, and the counts are noted.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::rate::Allowance;

/// Entries that an address has in [`ENTRY_PERIOD`] for what nothing vouches for.
const ENTRIES: u32 = 20;
/// Entries that all have together in that time. Each takes under 2 KiB.
const ALL_ENTRIES: u32 = 300;
/// For so long these are.
const ENTRY_PERIOD: Duration = Duration::from_secs(10 * 60);
/// Bytes of records that an address has in a day for refusals. An honest guest's have some 50 KiB.
const RECORDS: u32 = 16 * 1024 * 1024;
/// Bytes that all have together in that time.
const ALL_RECORDS: u32 = 256 * 1024 * 1024;
/// For so long these are.
const RECORD_PERIOD: Duration = Duration::from_secs(24 * 60 * 60);
/// The most names of volumes in an entry that nothing vouches for: whoever asks chooses them.
pub(crate) const MAX_STRANGERS_NAMES: usize = 4;
/// How often counts are noted.
pub(crate) const COUNTS: Duration = Duration::from_secs(60);

/// What strangers have had of the audit log.
pub(crate) struct Notes {
    entries: Allowance,
    records: Allowance,
    /// By code.
    counted: Mutex<BTreeMap<String, u64>>,
}

impl Notes {
    pub(crate) fn new() -> Self {
        Self {
            entries: Allowance::new(ENTRIES, ENTRY_PERIOD).of_all(ALL_ENTRIES),
            records: Allowance::new(RECORDS, RECORD_PERIOD).of_all(ALL_RECORDS),
            counted: Mutex::default(),
        }
    }

    /// Whether one more thing that nothing vouches for is noted by itself. Where it is not, it is counted.
    pub(crate) fn takes_entry(&self, peer: IpAddr, code: &str) -> bool {
        let taken = self.entries.take(peer, 1, Instant::now()).is_ok();
        if !taken {
            let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
            let count = counted.entry(code.to_owned()).or_default();
            *count = count.saturating_add(1);
        }
        taken
    }

    /// Whether the records of a refusal are kept.
    pub(crate) fn takes_records(&self, peer: IpAddr, records: &[Vec<u8>]) -> bool {
        let bytes = records.iter().map(Vec::len).sum::<usize>();
        u32::try_from(bytes).is_ok_and(|bytes| self.records.take(peer, bytes, Instant::now()).is_ok())
    }

    /// What was counted since this was asked last, in a sentence; nothing where there is nothing.
    pub(crate) fn counted(&self) -> Option<String> {
        let counted = std::mem::take(&mut *self.counted.lock().unwrap_or_else(PoisonError::into_inner));
        let all: u64 = counted.values().sum();
        let each: Vec<String> = counted.iter().map(|(code, count)| format!("{code} {count}")).collect();
        (all > 0).then(|| {
            format!("{all} more that nothing vouches for, not noted one by one: {}", each.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_beyond_the_allowance_of_entries_is_counted_once() {
        let notes = Notes::new();
        let peer = "192.0.2.1".parse().unwrap();
        let taken = (0..ENTRIES + 3).filter(|_| notes.takes_entry(peer, "challenge_unknown")).count();
        assert_eq!(taken, usize::try_from(ENTRIES).unwrap());
        assert!(!notes.takes_entry(peer, "volume_unknown"));
        let said = notes.counted().unwrap();
        assert!(
            said.starts_with("4 more") && said.ends_with("challenge_unknown 3, volume_unknown 1"),
            "{said}"
        );
        assert_eq!(notes.counted(), None);
    }

    #[test]
    fn records_are_kept_within_the_allowance_of_bytes() {
        let notes = Notes::new();
        let (one, other) = ("192.0.2.1".parse().unwrap(), "198.51.100.1".parse().unwrap());
        let records = vec![vec![0; 6 * 1024 * 1024]];
        assert!(notes.takes_records(one, &records) && notes.takes_records(one, &records));
        assert!(!notes.takes_records(one, &records) && notes.takes_records(other, &records));
    }
}
