//! What was refused and dropped, and who hears what the engine asked of the kernel in vain.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use confide_egress::seccomp::{Attempt, Supervisor};
use confide_egress::{BrokerView, Pace, Packets};
use tokio::time::{Duration, Instant};

/// Attempts that are logged at once, and how long until another one may be: a hostile engine makes them as fast as it can. All are
/// counted.
const LOGGED: u32 = 10;
const PAUSE: Duration = Duration::from_secs(6);

/// What was refused and dropped so far. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Drops {
    /// System calls that the engine was refused.
    pub(crate) calls: Refused,
    /// Packets that the rules have dropped, where `boot` has put some into force.
    pub(crate) packets: Option<Packets>,
    /// What the egress broker has dropped, where there is one.
    pub(crate) broker: Option<BrokerView>,
}

impl Drops {
    /// How much, whatever it was.
    pub(crate) fn total(&self) -> u64 {
        let packets = self.packets.as_ref().map_or(0, Packets::count);
        let broker = self.broker.as_ref().map_or(0, BrokerView::dropped);
        self.calls.count().saturating_add(packets).saturating_add(broker)
    }
}

/// How many attempts were refused so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Refused(Arc<AtomicU64>);

impl Refused {
    /// Attempts since the engine started.
    pub(crate) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Hears of refused calls on a thread of its own, until the engine has ended.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub(crate) fn hear(&self, listener: OwnedFd) -> io::Result<()> {
        let refused = self.clone();
        std::thread::Builder::new()
            .name("supervisor".to_owned())
            .spawn(move || refused.run(&listener.into()))?;
        Ok(())
    }

    fn run(&self, supervisor: &Supervisor) {
        let mut log = Log { pace: Pace::new(LOGGED, PAUSE), left_out: 0 };
        loop {
            match supervisor.next() {
                Ok(Some(attempt)) => {
                    self.0.fetch_add(1, Ordering::Relaxed);
                    log.tell(&attempt, Instant::now());
                }
                Ok(None) => return,
                // Without a supervisor what must be refused still fails.
                Err(error) => {
                    tracing::error!(%error, "nobody hears any more what the engine is refused");
                    return;
                }
            }
        }
    }
}

/// Logs some of many attempts, and how many it left out.
struct Log {
    pace: Pace,
    left_out: u64,
}

impl Log {
    fn tell(&mut self, attempt: &Attempt, now: Instant) {
        if self.pace.admits(now) {
            let left_out = std::mem::take(&mut self.left_out);
            tracing::warn!(call = %attempt, thread = attempt.thread, left_out, "the engine was refused a system call");
        } else {
            self.left_out = self.left_out.saturating_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use confide_egress::seccomp::{Reach, confine};
    use confide_policy::egress::LogLevel;

    #[test]
    fn every_refused_call_is_counted() {
        let refused = Refused::default();
        let (sender, receiver) = std::sync::mpsc::channel();
        let engine = std::thread::spawn(move || {
            sender.send(confine(Reach::Nothing).unwrap().into()).unwrap();
            let attempts: Vec<_> = (0..30).map(|_| std::net::UdpSocket::bind("127.0.0.1:0")).collect();
            attempts.into_iter().all(|attempt| attempt.is_err())
        });
        let listener: OwnedFd = receiver.recv().unwrap();
        refused.run(&listener.into());
        assert!(engine.join().unwrap());
        assert_eq!(refused.count(), 30);
    }

    #[test]
    fn what_is_left_out_of_the_log_is_told_with_what_comes_next() {
        let mut log = Log { pace: Pace::new(1, PAUSE), left_out: 0 };
        let (start, attempt) = (Instant::now(), Attempt { thread: 1, call: "socket", arguments: [0; 6] });
        (0..5).for_each(|_| log.tell(&attempt, start));
        assert_eq!(log.left_out, 4);
        log.tell(&attempt, start + PAUSE);
        assert_eq!(log.left_out, 0);
    }

    #[test]
    fn all_that_is_dropped_counts() {
        let drops = Drops { packets: Some(Packets::new(LogLevel::Drops)), ..Drops::default() };
        assert_eq!(drops.total(), 0);
        drops.calls.0.store(3, Ordering::Relaxed);
        assert_eq!(drops.clone().total(), 3);
    }
}
