//! Every target over its kept corpus and over random changes of it, and over the largest inputs that anyone knows.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    missing_docs,
    reason = "tests"
)]

use confide_fuzz::{LIMIT, TARGETS, is_optimised, smoke, worst};
use std::sync::Mutex;
use std::time::Duration;

/// What is fuzzed in each target where `CONFIDE_FUZZ_MILLISECONDS` says nothing else.
const USUAL: u64 = 50;

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).map_or(otherwise, |text| text.parse().unwrap())
}

/// Runs `work` for every target, on all processors.
fn for_each_target(work: impl Fn(usize) + Sync) {
    let next = Mutex::new(0..TARGETS.len());
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let Some(position) = next.lock().unwrap().next() else { return };
                    work(position);
                }
            });
        }
    });
}

#[test]
fn no_target_panics_on_its_corpus_and_on_changes_of_it() {
    let budget = Duration::from_millis(number("CONFIDE_FUZZ_MILLISECONDS", USUAL));
    let seed = number("CONFIDE_FUZZ_SEED", 1);
    println!("stable form, without coverage: each target for {budget:?}, seed {seed}");
    let lines = Mutex::new(Vec::new());
    for_each_target(|position| {
        let target = &TARGETS[position];
        let found = smoke::run(target, &smoke::corpus(target), budget, seed);
        let (corpus, runs, slowest) = (found.corpus, found.runs, found.slowest);
        lines
            .lock()
            .unwrap()
            .push(format!("{:<20} {corpus:>4} inputs {runs:>8} runs, slowest {slowest:?}", target.name));
    });
    let mut lines = lines.into_inner().unwrap();
    lines.sort();
    println!("{}", lines.join("\n"));
}

#[test]
fn no_input_of_4_mib_takes_more_than_a_quarter_of_a_second() {
    if !is_optimised() {
        println!("not run: the comparison with the limit of {LIMIT:?}: this build is not optimised");
    }
    let slowest = Mutex::new((Duration::ZERO, String::new()));
    for_each_target(|position| {
        let target = &TARGETS[position];
        for (what, input) in worst::of(target) {
            let taken = smoke::checked(target, &input);
            let mut slowest = slowest.lock().unwrap();
            if taken > slowest.0 {
                *slowest = (taken, format!("{} with {what}, {} bytes", target.name, input.len()));
            }
        }
    });
    let (taken, what) = slowest.into_inner().unwrap();
    println!("slowest of the large inputs: {what}: {taken:?}, the limit is {LIMIT:?}");
}

#[test]
fn every_target_has_its_file_and_its_entry_and_every_corpus_its_target() {
    let folder = smoke::folder();
    let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap();
    let mut names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    for name in &names {
        let file = std::fs::read_to_string(folder.join(format!("fuzz_targets/{name}.rs"))).unwrap();
        // That this compiles with libFuzzer is shown by the long form; that every file runs its function, here.
        let call = format!("libfuzzer_sys::fuzz_target!(|bytes: &[u8]| confide_fuzz::run({name:?}, bytes));");
        assert_eq!(file, format!("#![no_main]\n\n{call}\n"), "{name}");
        let paths = format!("name = {name:?}\npath = \"fuzz_targets/{name}.rs\"");
        let entry = format!("[[bin]]\n{paths}\ntest = false\ndoc = false\nbench = false\n");
        assert!(manifest.contains(&entry), "{name}");
        assert_eq!(confide_fuzz::target(name).unwrap().name, *name);
    }
    assert_eq!(manifest.matches("[[bin]]").count(), names.len());
    let listed = |sub: &str| -> Vec<String> {
        let entries = std::fs::read_dir(folder.join(sub)).unwrap();
        let mut found: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        found.sort();
        found
    };
    names.sort_unstable();
    assert_eq!(listed("corpus"), names);
    assert_eq!(listed("fuzz_targets"), names.iter().map(|name| format!("{name}.rs")).collect::<Vec<_>>());
}

#[test]
fn every_target_keeps_inputs_and_few() {
    let mut total = 0;
    for target in TARGETS {
        let corpus = smoke::kept_inputs(target);
        let bytes: usize = corpus.iter().map(Vec::len).sum();
        assert!(!corpus.is_empty(), "{} keeps no input", target.name);
        assert!(
            corpus.len() <= 64 && bytes <= 64 << 10,
            "{}: {} files, {bytes} bytes",
            target.name,
            corpus.len()
        );
        total += bytes;
    }
    assert!(total < 1536 << 10, "{total} bytes");
}
