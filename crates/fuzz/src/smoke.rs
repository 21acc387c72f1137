//! Fuzzing on the stable toolchain: every seed and kept input, then random changes of them.

use crate::mutate::{Random, mutated};
use crate::{LIMIT, MAX_INPUT, Target, is_optimised, seeds};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// What became of one target.
#[derive(Debug, Clone)]
pub struct Smoke {
    /// Inputs of the corpus: seeds and kept ones.
    pub corpus: usize,
    /// Inputs that were run, those of the corpus among them.
    pub runs: u64,
    /// The longest processor time that one took.
    pub slowest: Duration,
}

/// The inputs that fuzzing a target begins with: its seeds, then those that are kept under `tests/fuzz/corpus`, in the order
/// of their names.
///
/// # Panics
/// Where the folder of kept inputs cannot be read: every target has one.
#[must_use]
pub fn corpus(target: &Target) -> Vec<Vec<u8>> {
    seeds::of(target.name).into_iter().chain(kept_inputs(target)).collect()
}

/// The inputs of a target that are kept in files: those that once found something, that reach what no seed does, and
/// those that took longest.
///
/// # Panics
/// As [`corpus`].
#[must_use]
pub fn kept_inputs(target: &Target) -> Vec<Vec<u8>> {
    let folder = folder().join("corpus").join(target.name);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("a readable folder").path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).expect("a readable file")).collect()
}

/// `tests/fuzz`.
#[must_use]
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz")
}

/// Runs every input of `corpus`, then changes of them until `budget` is over.
///
/// # Panics
/// Where the target panics or takes longer than [`LIMIT`] in an optimised build; the input is in a file that the message
/// names.
#[must_use]
pub fn run(target: &Target, corpus: &[Vec<u8>], budget: Duration, seed: u64) -> Smoke {
    let mut smoke = Smoke { corpus: corpus.len(), runs: 0, slowest: Duration::ZERO };
    for input in corpus {
        smoke.add(target, input);
    }
    let end = Instant::now() + budget;
    let mut random = Random::of(seed);
    while Instant::now() < end && !corpus.is_empty() {
        let input = &corpus[random.below(corpus.len())];
        let other = &corpus[random.below(corpus.len())];
        let mut changed = mutated(input, other, &mut random);
        changed.truncate(MAX_INPUT);
        smoke.add(target, &changed);
    }
    smoke
}

impl Smoke {
    fn add(&mut self, target: &Target, input: &[u8]) {
        self.runs += 1;
        self.slowest = self.slowest.max(checked(target, input));
    }
}

/// The processor time that one input takes: of several tries the shortest, where the first is too long.
///
/// # Panics
/// As [`run`].
pub fn checked(target: &Target, input: &[u8]) -> Duration {
    let timed = || {
        let started = spent();
        let ended = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
        (spent().saturating_sub(started), ended)
    };
    let (mut taken, ended) = timed();
    if ended.is_err() {
        panic!("{} panics with {}", target.name, written(target, input));
    }
    for _ in 0..4 {
        if taken > LIMIT {
            taken = taken.min(timed().0);
        }
    }
    assert!(
        taken <= LIMIT || !is_optimised(),
        "{} takes {taken:?} with {}",
        target.name,
        written(target, input)
    );
    taken
}

/// How long this thread has run on a processor: other work on the machine does not count. Where the kernel does not tell
/// (proc(5), `/proc/thread-self/schedstat`), the time that has passed.
fn spent() -> Duration {
    static STARTED: LazyLock<Instant> = LazyLock::new(Instant::now);
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = told.as_deref().and_then(|text| text.split(' ').next()?.parse().ok());
    nanoseconds.map_or_else(|| STARTED.elapsed(), Duration::from_nanos)
}

/// Writes an input to a file, for whoever mends what it found.
fn written(target: &Target, input: &[u8]) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/fuzz-findings");
    let name = input.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let file = folder.join(format!("{}-{name:016x}", target.name));
    match std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&file, input)) {
        Ok(()) => format!("the input in {}", file.display()),
        Err(error) => format!("an input of {} bytes that could not be kept: {error}", input.len()),
    }
}
