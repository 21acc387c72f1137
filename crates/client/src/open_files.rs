//! How many connections there may be at once, by how many files this process may have open.
//!
//! A local connection that is accepted and then finds no descriptor left for its guest is worth less than one that waits
//! to be accepted. So the descriptors are dealt out before: as many for local connections as for the connections of their
//! requests to guests, and as many again for idle connections to guests.

use rustix::process::{Resource, getrlimit};

/// The most files that are open beside connections. The runtime, standard streams, the listener and records take about
/// sixteen, and fetched collateral and the discovery file a few at times.
const MAX_OTHER_FILES: usize = 32;

/// Each of the three kinds of connections gets this part of what is left.
fn share(open_files: usize) -> usize {
    (open_files.saturating_sub(MAX_OTHER_FILES) / 3).max(1)
}

/// How many files this process may have open.
fn limit() -> usize {
    let limit = getrlimit(Resource::Nofile).current;
    limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX)
}

/// How many local connections there may be, where there should be no more than `most`.
pub(crate) fn local_connections(most: usize) -> usize {
    share(limit()).min(most)
}

/// How many idle connections to each of so many instances are kept, where there should be no more than `most`.
pub(crate) fn idle_connections(instances: usize, most: usize) -> usize {
    idle_of(limit(), instances, most)
}

fn idle_of(open_files: usize, instances: usize, most: usize) -> usize {
    share(open_files).checked_div(instances).unwrap_or(most).clamp(1, most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_connections_together_leave_files_for_the_rest() {
        for open_files in [64, 256, 1024, 4096, 65_536] {
            for instances in [1, 2, 16, 128] {
                let local = share(open_files).min(2048);
                let idle = idle_of(open_files, instances, 64);
                // With more instances than that, each keeps the one connection that it is attested on.
                if instances <= share(open_files) {
                    let all = local * 2 + idle * instances;
                    assert!(all + MAX_OTHER_FILES <= open_files, "{open_files} {instances}: {all}");
                }
                assert!((1..=64).contains(&idle));
            }
        }
    }

    #[test]
    fn however_few_files_there_may_be_one_connection_is_taken() {
        assert_eq!((share(0), share(MAX_OTHER_FILES), idle_of(0, 128, 64)), (1, 1, 1));
        assert_eq!(idle_of(usize::MAX, 128, 64), 64, "no limit");
        assert_eq!(idle_of(1024, 0, 64), 64, "nobody yet");
        assert!(local_connections(2) <= 2);
    }
}
