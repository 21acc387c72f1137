//! Counting what test programs report.

use std::fmt;
use std::iter::Sum;

/// Tests counted in one stage or in all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Tests that ran and held.
    pub(crate) passed: u64,
    /// Tests that ran and did not hold.
    pub(crate) failed: u64,
    /// Tests that did not run.
    pub(crate) ignored: u64,
    /// Lines in which tests that passed say what they could not run here.
    pub(crate) not_run: u64,
}

impl Tally {
    /// One check that held.
    pub(crate) const ONE: Self = Self { passed: 1, failed: 0, ignored: 0, not_run: 0 };

    /// What one line says, where it is the summary line of a Rust test program:
    /// `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
    pub(crate) fn of_line(line: &str) -> Option<Self> {
        let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
        let count = |noun: &str| {
            let field = counts.split(';').map(str::trim).find_map(|field| field.strip_suffix(noun))?;
            field.trim().parse().ok()
        };
        Some(Self {
            passed: count("passed")?,
            failed: count("failed")?,
            ignored: count("ignored")?,
            not_run: 0,
        })
    }

    /// What one line says, where it is one of the two summary lines of Python's `unittest`: `Ran 3 tests in 0.1s`
    /// counts all as passed, `FAILED (failures=1, errors=1, skipped=1)` takes back those that did not.
    pub(crate) fn update_from_unittest(&mut self, line: &str) {
        let ran = line.strip_prefix("Ran ").and_then(|rest| rest.split(' ').next()?.parse::<u64>().ok());
        if let Some(ran) = ran {
            self.passed += ran;
            return;
        }
        let Some(counts) = line.strip_suffix(')').and_then(|line| line.split_once('(')) else { return };
        if !matches!(counts.0.trim(), "OK" | "FAILED") {
            return;
        }
        for (noun, count) in counts.1.split(", ").filter_map(|field| field.split_once('=')) {
            let count = count.parse().unwrap_or(0);
            self.passed = self.passed.saturating_sub(count);
            match noun {
                "skipped" => self.ignored += count,
                _ => self.failed += count,
            }
        }
    }
}

/// `N passed, N failed, N skipped`, for programs to read. Skipped is all that did not run, for whichever reason.
impl fmt::Display for Tally {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { passed, failed, ignored, not_run } = self;
        write!(formatter, "{passed} passed, {failed} failed, {} skipped", ignored + not_run)
    }
}

impl Sum for Tally {
    fn sum<I: Iterator<Item = Self>>(tallies: I) -> Self {
        tallies.fold(Self::default(), |sum, one| Self {
            passed: sum.passed + one.passed,
            failed: sum.failed + one.failed,
            ignored: sum.ignored + one.ignored,
            not_run: sum.not_run + one.not_run,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_line_is_counted() {
        let line = "test result: FAILED. 12 passed; 2 failed; 3 ignored; 0 measured; 0 filtered out; finished in 0.01s";
        assert_eq!(Tally::of_line(line), Some(Tally { passed: 12, failed: 2, ignored: 3, not_run: 0 }));
    }

    #[test]
    fn the_summary_of_unittest_is_counted() {
        let mut tally = Tally::default();
        for line in [
            "test_a (test.Case) ... ok",
            "Ran 11 tests in 2.104s",
            "FAILED (failures=1, errors=2, skipped=3)",
        ] {
            tally.update_from_unittest(line);
        }
        assert_eq!(tally, Tally { passed: 5, failed: 3, ignored: 3, not_run: 0 });
        let mut tally = Tally::default();
        ["Ran 1 test in 0.001s", "", "OK"].into_iter().for_each(|line| tally.update_from_unittest(line));
        assert_eq!(tally, Tally { passed: 1, failed: 0, ignored: 0, not_run: 0 });
    }

    #[test]
    fn what_did_not_run_is_skipped_for_whichever_reason() {
        let sum: Tally = [
            Tally { passed: 1470, failed: 0, ignored: 1, not_run: 0 },
            Tally { passed: 8, failed: 2, ignored: 0, not_run: 2 },
        ]
        .into_iter()
        .sum();
        assert_eq!(sum.to_string(), "1478 passed, 2 failed, 3 skipped");
    }

    #[test]
    fn another_line_is_not() {
        for line in [
            "test a::b ... ok",
            "running 3 tests",
            "test result: strange",
            "",
            "12 passed; 2 failed; 3 ignored",
        ] {
            assert_eq!(Tally::of_line(line), None, "{line}");
        }
    }
}
