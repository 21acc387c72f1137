//! `cargo xtask test`: everything that CI checks, one stage after the other, with the seconds of each.

mod stages;
mod tally;

use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::packages::{self, Needed};
use crate::{cargo, process};
use stages::STAGES;
pub(crate) use stages::{LACKING, counted, tallied, with_simulator};
pub(crate) use tally::Tally;

/// One stage: its name on the command line, what it shows, and how it runs.
struct Stage {
    name: &'static str,
    about: &'static str,
    /// Debian packages.
    needs: &'static [&'static [Needed]],
    run: fn(Length) -> Result<Tally>,
}

/// Which form of the stages to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Length {
    /// What fits in CI: long checks run their 20-second forms.
    Ci,
    /// Everything, with results for `docs/long-runs/`.
    Long,
}

/// What to run.
pub(crate) struct Selection {
    pub(crate) length: Length,
    /// Stage names; empty means all of them.
    pub(crate) only: Vec<String>,
    /// Stage names to leave out, by the caller's own decision.
    pub(crate) skip: Vec<String>,
}

/// What became of one stage.
struct Outcome {
    name: &'static str,
    seconds: Duration,
    result: Result<Tally>,
}

impl Outcome {
    /// The stage's tests; a stage that broke before it could count them is one failure.
    fn tally(&self) -> Tally {
        self.result.as_ref().copied().unwrap_or(Tally { failed: 1, ..Tally::default() })
    }
}

/// Runs the selected stages and prints, last of all, `N passed, M failed, K skipped`; the exit status says the same.
///
/// # Errors
/// When a name is no stage.
pub(crate) fn run(selection: &Selection) -> Result<ExitCode> {
    let stages = selected(selection)?;
    // All at once, before hours of work: who cannot install is told one line for all stages.
    packages::require(&needed(&stages))?;
    let started = Instant::now();
    let mut outcomes = Vec::new();
    for (index, stage) in stages.iter().enumerate() {
        println!("\n[{}/{}] {}: {}", index + 1, stages.len(), stage.name, stage.about);
        outcomes.push(time(stage, selection.length));
    }
    let table = table(&outcomes, started.elapsed());
    println!("\n{table}");
    if selection.length == Length::Long {
        keep(&table, &outcomes, selection)?;
    }
    Ok(conclude(&outcomes))
}

/// Prints the names and purposes of all stages.
pub(crate) fn list() {
    for stage in STAGES {
        println!("{:<12} {}", stage.name, stage.about);
    }
}

fn selected(selection: &Selection) -> Result<Vec<&'static Stage>> {
    for name in selection.only.iter().chain(&selection.skip) {
        if !STAGES.iter().any(|stage| stage.name == name) {
            bail!("no stage is called {name}; `cargo xtask test --list` names them");
        }
    }
    let named = |names: &[String], stage: &Stage| names.iter().any(|name| name == stage.name);
    let wanted = |stage: &&Stage| {
        (selection.only.is_empty() || named(&selection.only, stage)) && !named(&selection.skip, stage)
    };
    Ok(STAGES.iter().filter(wanted).collect())
}

/// What the stages need, each once.
fn needed(stages: &[&Stage]) -> Vec<Needed> {
    let mut needed: Vec<Needed> = Vec::new();
    for one in stages.iter().flat_map(|stage| stage.needs).copied().flatten() {
        if !needed.iter().any(|other| other.package == one.package) {
            needed.push(*one);
        }
    }
    needed
}

fn time(stage: &Stage, length: Length) -> Outcome {
    let started = Instant::now();
    let result = (stage.run)(length);
    let outcome = Outcome { name: stage.name, seconds: started.elapsed(), result };
    match &outcome.result {
        Ok(tally) if tally.failed == 0 => {
            println!("{}: ok, {:.1} s", stage.name, outcome.seconds.as_secs_f64())
        }
        Ok(tally) => eprintln!("{}: {} tests failed", stage.name, tally.failed),
        Err(error) => eprintln!("{}: failed: {error:#}", stage.name),
    }
    outcome
}

fn table(outcomes: &[Outcome], total: Duration) -> String {
    let row = |outcome: &Outcome| {
        let word = if outcome.tally().failed == 0 { "ok" } else { "FAILED" };
        format!("{:<12} {:>7.1} s  {word}\n", outcome.name, outcome.seconds.as_secs_f64())
    };
    let rows: String = outcomes.iter().map(row).collect();
    format!("{rows}{:<12} {:>7.1} s", "total", total.as_secs_f64())
}

/// What stages measured, for the page of a long run.
static NOTES: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Prints a line and keeps it for the page of a long run.
pub(crate) fn note(line: String) {
    println!("{line}");
    NOTES.lock().expect("no holder panics").push(line);
}

/// What failed tests print, to be repeated where the last lines are all that is kept of a run.
static FAILURES: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// The most lines of [`FAILURES`] that are repeated.
const FAILURES_SHOWN: usize = 400;

/// Keeps a line to be repeated at the end.
fn failure(line: String) {
    FAILURES.lock().expect("no holder panics").push(line);
}

/// Writes the result of a long run to `docs/long-runs/`, with date, commit and the stages that it had.
fn keep(table: &str, outcomes: &[Outcome], selection: &Selection) -> Result<()> {
    let folder = cargo::root().join("docs/long-runs");
    std::fs::create_dir_all(&folder)?;
    let (date, commit) = (process::date()?, process::commit()?);
    let Tally { passed, failed, ignored, not_run } = outcomes.iter().map(Outcome::tally).sum();
    let notes: String =
        NOTES.lock().expect("no holder panics").iter().map(|note| format!("- {note}\n")).collect();
    let flags = |flag: &str, names: &[String]| -> String {
        names.iter().map(|name| format!(" --{flag} {name}")).collect()
    };
    let stages = flags("stage", &selection.only) + &flags("skip", &selection.skip);
    let text = format!(
        "# Long run of {date}\n\n`cargo xtask test --long{stages}` on commit {commit}: {passed} passed, {failed} \
         failed, {ignored} ignored, {not_run} not run.\n\n```text\n{table}\n```\n\n{notes}"
    );
    let file = folder.join(page_name(&date, &commit, &selection.only));
    // A second run of the same stages is told below the first.
    let earlier = std::fs::read_to_string(&file).map(|page| format!("{page}\n")).unwrap_or_default();
    std::fs::write(&file, earlier + &text)?;
    println!("written to {}", file.display());
    Ok(())
}

/// Runs of some stages alone have pages of their own.
fn page_name(date: &str, commit: &str, only: &[String]) -> String {
    let stages: String = only.iter().map(|stage| format!("-{stage}")).collect();
    format!("{date}-{commit}{stages}.md")
}

fn conclude(outcomes: &[Outcome]) -> ExitCode {
    let sum: Tally = outcomes.iter().map(Outcome::tally).sum();
    if sum.ignored > 0 {
        println!("{} tests are marked as ignored and did not run", sum.ignored);
    }
    let notes = NOTES.lock().expect("no holder panics");
    for line in notes.iter().filter(|note| stages::lacks(note)) {
        println!("{line}");
    }
    for line in FAILURES.lock().expect("no holder panics").iter().take(FAILURES_SHOWN) {
        println!("{line}");
    }
    for outcome in outcomes {
        if let Err(error) = &outcome.result {
            println!("{}: {error:#}", outcome.name);
        }
    }
    println!("{} passed, {} failed, {} not run for the reasons above", sum.passed, sum.failed, sum.not_run);
    println!("{sum}");
    if sum.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(only: &[&str], skip: &[&str]) -> Selection {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        Selection { length: Length::Ci, only: owned(only), skip: owned(skip) }
    }

    fn names(selection: &Selection) -> Vec<&'static str> {
        selected(selection).unwrap().iter().map(|stage| stage.name).collect()
    }

    #[test]
    fn all_stages_run_unless_told_otherwise() {
        assert_eq!(names(&selection(&[], &[])).len(), STAGES.len());
        assert_eq!(names(&selection(&["layers", "fmt"], &[])), ["fmt", "layers"]);
        assert!(!names(&selection(&[], &["deny"])).contains(&"deny"));
    }

    #[test]
    fn what_the_stages_need_is_asked_for_together_and_once() {
        let packages = |only: &[&str]| -> Vec<&str> {
            needed(&selected(&selection(only, &[])).unwrap()).iter().map(|one| one.package).collect()
        };
        assert_eq!(packages(&["fmt"]), [""; 0]);
        let (all, some) = (packages(&[]), packages(&["test", "openai", "vm"]));
        for package in ["gcc", "postgresql", "python3-venv", "nftables", "e2fsprogs"] {
            for packages in [&all, &some] {
                assert_eq!(packages.iter().filter(|one| **one == package).count(), 1, "{package}");
            }
        }
    }

    #[test]
    fn runs_of_other_stages_on_one_commit_have_other_pages() {
        assert_eq!(page_name("2026-01-02", "abc", &[]), "2026-01-02-abc.md");
        let only = ["mutants".to_owned(), "fuzz".to_owned()];
        assert_eq!(page_name("2026-01-02", "abc", &only), "2026-01-02-abc-mutants-fuzz.md");
    }

    #[test]
    fn an_unknown_stage_is_an_error() {
        assert!(selected(&selection(&["layer"], &[])).is_err());
        assert!(selected(&selection(&[], &["layer"])).is_err());
    }

    #[test]
    fn a_stage_that_broke_counts_as_a_failure() {
        let broken =
            Outcome { name: "fmt", seconds: Duration::ZERO, result: Err(anyhow::anyhow!("no rustfmt")) };
        let good = Outcome {
            name: "test",
            seconds: Duration::ZERO,
            result: Ok(Tally { passed: 3, ..Tally::default() }),
        };
        let sum: Tally = [broken.tally(), good.tally()].into_iter().sum();
        assert_eq!(sum, Tally { passed: 3, failed: 1, ignored: 0, not_run: 0 });
        assert!(table(&[broken, good], Duration::ZERO).contains("fmt              0.0 s  FAILED"));
    }
}
