//! Requests that wait for a place in the batch, in a fair order.
//!
//! The next one is of the key-holder who has the fewest requests running; of equals, the one that waits longest. A
//! key-holder with a thousand requests so cannot keep another one waiting for longer than one of them takes.

use std::collections::{BTreeMap, VecDeque};

use crate::prefix::KeyHolder;

/// Requests that wait. Those without a key count as one holder's.
pub(crate) struct Waiting<T> {
    /// None of them empty.
    queues: BTreeMap<Option<KeyHolder>, VecDeque<(u64, T)>>,
    /// Counts arrivals.
    arrivals: u64,
    length: usize,
}

impl<T> Waiting<T> {
    pub(crate) fn new() -> Self {
        Self { queues: BTreeMap::new(), arrivals: 0, length: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.length
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.queues.values().flatten().map(|(_, request)| request)
    }

    /// Adds a request behind the others of `holder`.
    pub(crate) fn push(&mut self, holder: Option<KeyHolder>, request: T) {
        self.arrivals = self.arrivals.saturating_add(1);
        self.length = self.length.saturating_add(1);
        self.queues.entry(holder).or_default().push_back((self.arrivals, request));
    }

    /// Takes the request whose turn it is; `running` tells how many of a holder run.
    pub(crate) fn pop(
        &mut self,
        running: impl Fn(Option<KeyHolder>) -> usize,
    ) -> Option<(Option<KeyHolder>, T)> {
        let turn = |(holder, queue): (&Option<KeyHolder>, &VecDeque<(u64, T)>)| {
            (running(*holder), queue.front().map(|(arrival, _)| *arrival), *holder)
        };
        let (.., holder) = self.queues.iter().map(turn).min()?;
        let queue = self.queues.get_mut(&holder)?;
        let (_, request) = queue.pop_front()?;
        if queue.is_empty() {
            self.queues.remove(&holder);
        }
        self.length = self.length.saturating_sub(1);
        Some((holder, request))
    }

    /// Forgets the requests that `gone` names.
    pub(crate) fn remove(&mut self, gone: impl Fn(&T) -> bool) {
        for queue in self.queues.values_mut() {
            queue.retain(|(_, request)| !gone(request));
        }
        self.queues.retain(|_, queue| !queue.is_empty());
        self.length = self.queues.values().map(VecDeque::len).sum();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn holder(name: u8) -> Option<KeyHolder> {
        (name > 0).then_some(KeyHolder([name; 16]))
    }

    #[test]
    fn the_holder_with_the_fewest_running_is_next_and_of_equals_the_one_who_waits_longest() {
        let mut waiting = Waiting::new();
        for (name, request) in [(1, 'a'), (1, 'b'), (2, 'c'), (0, 'd')] {
            waiting.push(holder(name), request);
        }
        let mut running = BTreeMap::from([(holder(1), 0), (holder(2), 0), (holder(0), 3)]);
        let mut order = Vec::new();
        while let Some((holder, request)) = waiting.pop(|holder| running[&holder]) {
            *running.get_mut(&holder).unwrap() += 1;
            order.push(request);
        }
        assert_eq!(order, ['a', 'c', 'b', 'd']);
        assert_eq!(waiting.len(), 0);
    }

    #[test]
    fn what_is_removed_is_not_handed_out() {
        let mut waiting = Waiting::new();
        (0..4).for_each(|request| waiting.push(holder(request % 2), request));
        waiting.remove(|request| *request == 1 || *request == 3);
        assert_eq!((waiting.len(), waiting.iter().count()), (2, 2));
        assert_eq!(waiting.pop(|_| 0).map(|(_, request)| request), Some(0));
        assert_eq!(waiting.pop(|_| 0).map(|(_, request)| request), Some(2));
        assert!(waiting.pop(|_| 0).is_none());
    }

    proptest! {
        #[test]
        fn nobody_is_passed_over_by_a_holder_with_more_running(
            arrivals in prop::collection::vec(0u8..4, 1..60)
        ) {
            let mut waiting = Waiting::new();
            for (request, name) in arrivals.iter().enumerate() {
                waiting.push(holder(*name), request);
            }
            let mut running: BTreeMap<_, usize> = BTreeMap::new();
            let mut seen = Vec::new();
            let mut left: Vec<u8> = arrivals.clone();
            while let Some((taken, request)) =
                waiting.pop(|holder| running.get(&holder).copied().unwrap_or(0))
            {
                let mine = running.get(&taken).copied().unwrap_or(0);
                for name in &left {
                    prop_assert!(mine <= running.get(&holder(*name)).copied().unwrap_or(0));
                }
                let place = left.iter().position(|name| holder(*name) == taken).unwrap();
                left.remove(place);
                *running.entry(taken).or_default() += 1;
                seen.push(request);
            }
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..arrivals.len()).collect::<Vec<_>>());
        }
    }
}
