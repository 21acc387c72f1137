//! Persistent threads for matrix work.

#![expect(
    unsafe_code,
    reason = "threads that live longer borrow the work of one call; each block says why it is sound"
)]
#![expect(clippy::arithmetic_side_effects, reason = "counts of threads and tasks")]

use std::any::Any;
use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::instructions::InstructionSet;

/// How long a thread looks for work, or for the end of it, before it sleeps: longer than what a decoder does
/// between two products, and short enough to cost nothing when there is no work.
const SPIN: Duration = Duration::from_micros(60);

/// Threads that share the tasks of a call with the thread that calls.
///
/// Tasks are handed out one by one, so a thread that the system holds up delays one task and not a share of the
/// work. Threads without work look for some for a few dozen microseconds, then sleep.
pub struct Threads {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// Held during a call that uses the workers.
    turn: Mutex<()>,
    instructions: InstructionSet,
}

impl Threads {
    /// That many threads, the caller of [`run`](Self::run) among them, with the best instructions of this
    /// processor. 0 counts as 1. Fewer are used where the system refuses to start one.
    pub fn new(count: usize) -> Self {
        Self::with_instructions(count, InstructionSet::best())
    }

    /// Threads that use certain instructions: for tests, and to compare.
    pub fn with_instructions(count: usize, instructions: InstructionSet) -> Self {
        let shared = Arc::new(Shared::default());
        let mut workers = Vec::new();
        for _ in 1..count.max(1) {
            let shared = Arc::clone(&shared);
            let builder = std::thread::Builder::new().name("matrix".to_owned());
            workers.extend(builder.spawn(move || shared.serve()));
        }
        Self { shared, workers, turn: Mutex::new(()), instructions }
    }

    /// How many threads there are, the caller's among them.
    pub fn count(&self) -> usize {
        self.workers.len() + 1
    }

    /// The instructions that the kernels use here.
    pub fn instructions(&self) -> InstructionSet {
        self.instructions
    }

    /// Calls `work` once with each number below `tasks`, on any of the threads, and returns when all calls have.
    ///
    /// From within `work`, or while another thread's call is at it, the tasks run on the calling thread alone.
    ///
    /// # Panics
    /// `work` panicked. Tasks that nobody had begun then are left out.
    pub fn run(&self, tasks: usize, work: &(dyn Fn(usize) + Sync)) {
        let turn = match self.turn.try_lock() {
            Ok(turn) => Some(turn),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        };
        if turn.is_none() || tasks < 2 || self.workers.is_empty() {
            (0..tasks).for_each(work);
            return;
        }
        self.shared.open(tasks, work);
        self.shared.share(tasks, work);
        self.shared.close();
        let panic = lock(&self.shared.panic).take();
        drop(turn);
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        drop(lock(&self.shared.sleep));
        self.shared.wake.notify_all();
        for worker in self.workers.drain(..) {
            // A worker catches the panics of its tasks and has none of its own.
            let _ = worker.join();
        }
    }
}

/// The work of one call, its lifetime forgotten.
#[derive(Clone, Copy)]
struct Job {
    tasks: usize,
    work: *const (dyn Fn(usize) + Sync),
}

/// Set in [`Shared::state`] while workers may enter.
const OPEN: u64 = 1 << 31;
/// One call more, in the upper half of [`Shared::state`].
const CALL: u64 = 1 << 32;
/// The workers within, in the lower bits of [`Shared::state`].
const WITHIN: u64 = OPEN - 1;

#[derive(Default)]
struct Shared {
    /// The number of the call, whether it is open, and how many workers are within: one word, so that a worker
    /// enters only what is open, and its entry is seen by who closes it.
    state: Padded<AtomicU64>,
    /// The next task.
    next: Padded<AtomicUsize>,
    /// Written only while no call is open and no worker within; read only by workers within.
    job: UnsafeCell<Option<Job>>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    stop: AtomicBool,
    /// Workers that sleep or are about to.
    sleepers: AtomicUsize,
    /// Whether the caller sleeps or is about to.
    caller_sleeps: AtomicBool,
    sleep: Mutex<()>,
    wake: Condvar,
    done: Condvar,
}

// SAFETY: of the fields, only `job` is not `Sync`, for its cell and its pointer. The cell is written between the
// moment when `close` saw no worker within and the one when `open` lets workers in, by the one thread that holds
// `Threads::turn`; workers read it while they are counted within. Entering acquires what `open` released, and
// leaving releases to `close`. What the pointer leads to is `Sync`.
unsafe impl Sync for Shared {}
// SAFETY: as above; the pointer is followed only during the call that put it there.
unsafe impl Send for Shared {}

/// What different threads write lies in different cache lines.
#[derive(Default)]
#[repr(align(128))]
struct Padded<T>(T);

impl Shared {
    /// Lets workers at the tasks.
    fn open(&self, tasks: usize, work: &(dyn Fn(usize) + Sync)) {
        // SAFETY: only the lifetime changes. The job is taken away by `close`, which waits for every worker that
        // has entered; `Threads::run` calls it before it returns, and nothing between the two unwinds.
        let work = unsafe {
            std::mem::transmute::<*const (dyn Fn(usize) + Sync + '_), *const (dyn Fn(usize) + Sync + 'static)>(
                work,
            )
        };
        self.next.0.store(0, Ordering::Relaxed);
        // SAFETY: the caller holds `turn`, and the last `close` left no worker within: nobody else reads or writes.
        unsafe { *self.job.get() = Some(Job { tasks, work }) };
        let state = self.state.0.load(Ordering::Relaxed);
        self.state.0.store(state.wrapping_add(CALL) | OPEN, Ordering::SeqCst);
        if self.sleepers.load(Ordering::SeqCst) > 0 {
            drop(lock(&self.sleep));
            self.wake.notify_all();
        }
    }

    /// Lets no worker in any more and waits for those within.
    fn close(&self) {
        self.state.0.fetch_and(!OPEN, Ordering::SeqCst);
        let within = || self.state.0.load(Ordering::SeqCst) & WITHIN > 0;
        if !spin_while(within) {
            self.caller_sleeps.store(true, Ordering::SeqCst);
            let mut guard = lock(&self.sleep);
            while within() {
                guard = self.done.wait(guard).unwrap_or_else(PoisonError::into_inner);
            }
            self.caller_sleeps.store(false, Ordering::SeqCst);
        }
        // SAFETY: as in `open`: no worker is within, and none can enter.
        unsafe { *self.job.get() = None };
    }

    /// Does tasks until there are none left. It does not unwind, for `close` must follow: the first panic of a
    /// task is kept, and ends the call.
    fn share(&self, tasks: usize, work: &(dyn Fn(usize) + Sync)) {
        let all = || {
            loop {
                let task = self.next.0.fetch_add(1, Ordering::Relaxed);
                if task >= tasks {
                    return;
                }
                work(task);
            }
        };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(all)) {
            self.next.0.store(tasks, Ordering::Relaxed);
            lock(&self.panic).get_or_insert(panic);
        }
    }

    /// What a worker does all its life.
    fn serve(&self) {
        let mut served = 0;
        while let Some(call) = self.enter(served) {
            served = call;
            // SAFETY: this worker is counted within, so nobody writes the job.
            let job = unsafe { *self.job.get() };
            if let Some(Job { tasks, work }) = job {
                // SAFETY: `close` waits until this worker has left, before the borrow of the work ends.
                self.share(tasks, unsafe { &*work });
            }
            self.leave();
        }
    }

    /// Waits for another call than the one served last and enters it: its number, or `None` at the end.
    fn enter(&self, served: u64) -> Option<u64> {
        let waits = || {
            let state = self.state.0.load(Ordering::SeqCst);
            (state & OPEN == 0 || state / CALL == served) && !self.stop.load(Ordering::SeqCst)
        };
        loop {
            if !spin_while(waits) {
                self.sleepers.fetch_add(1, Ordering::SeqCst);
                let mut guard = lock(&self.sleep);
                while waits() {
                    guard = self.wake.wait(guard).unwrap_or_else(PoisonError::into_inner);
                }
                drop(guard);
                self.sleepers.fetch_sub(1, Ordering::SeqCst);
            }
            if self.stop.load(Ordering::SeqCst) {
                return None;
            }
            let state = self.state.0.load(Ordering::SeqCst);
            let open = state & OPEN > 0 && state / CALL != served;
            if open
                && self.state.0.compare_exchange(state, state + 1, Ordering::SeqCst, Ordering::SeqCst).is_ok()
            {
                return Some(state / CALL);
            }
        }
    }

    fn leave(&self) {
        self.state.0.fetch_sub(1, Ordering::SeqCst);
        if self.caller_sleeps.load(Ordering::SeqCst) {
            drop(lock(&self.sleep));
            self.done.notify_all();
        }
    }
}

/// Waits a while for the end of a state: whether it has ended.
fn spin_while(lasts: impl Fn() -> bool) -> bool {
    let mut until = None;
    loop {
        for _ in 0..64 {
            if !lasts() {
                return true;
            }
            std::hint::spin_loop();
        }
        let now = Instant::now();
        if now > *until.get_or_insert(now + SPIN) {
            return false;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often each of the tasks ran.
    fn counts(threads: &Threads, tasks: usize) -> Vec<usize> {
        let counts: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
        threads.run(tasks, &|task| {
            counts[task].fetch_add(1, Ordering::Relaxed);
        });
        counts.into_iter().map(AtomicUsize::into_inner).collect()
    }

    #[test]
    fn every_task_runs_once_whatever_the_number_of_threads() {
        for count in [0, 1, 2, 3, 8] {
            let threads = Threads::new(count);
            assert_eq!(threads.count(), count.max(1));
            for round in 0..2000 {
                let tasks = round % 37;
                assert_eq!(counts(&threads, tasks), vec![1; tasks], "{count} threads, round {round}");
            }
        }
    }

    #[test]
    fn threads_that_sleep_are_woken() {
        let threads = Threads::new(3);
        for _ in 0..20 {
            while threads.shared.sleepers.load(Ordering::SeqCst) < 2 {
                std::thread::yield_now();
            }
            // The tasks wait for each other: one thread alone would not come to an end.
            let barrier = std::sync::Barrier::new(3);
            threads.run(3, &|_| {
                barrier.wait();
            });
        }
    }

    #[test]
    fn a_caller_that_waits_long_sleeps_and_is_woken() {
        let threads = Threads::new(2);
        let caller = std::thread::current().id();
        for _ in 0..20 {
            let begun = std::sync::Barrier::new(2);
            threads.run(2, &|_| {
                begun.wait();
                while std::thread::current().id() != caller
                    && !threads.shared.caller_sleeps.load(Ordering::SeqCst)
                {
                    std::thread::yield_now();
                }
            });
        }
        assert!(!threads.shared.caller_sleeps.load(Ordering::SeqCst));
    }

    #[test]
    fn calls_from_within_and_from_other_threads_run_all_their_tasks() {
        let threads = Threads::new(3);
        let total = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        threads.run(5, &|_| {
                            threads.run(4, &|_| {
                                total.fetch_add(1, Ordering::Relaxed);
                            });
                        });
                    }
                });
            }
        });
        assert_eq!(total.into_inner(), 3 * 200 * 5 * 4);
    }

    #[test]
    fn a_panic_of_any_task_reaches_the_caller_and_the_threads_go_on() {
        let threads = Threads::new(3);
        for bad in 0..20 {
            let call = || {
                threads.run(20, &|task| assert_ne!(task, bad, "the bad task"));
            };
            let panic = catch_unwind(AssertUnwindSafe(call)).unwrap_err();
            let text = panic.downcast::<String>().unwrap();
            assert!(text.contains("the bad task"), "{text}");
            assert_eq!(counts(&threads, 50), vec![1; 50]);
        }
    }
}
