//! Checks: what a verdict is made of.

use confide_policy::{Expect, Require};
use serde::Serialize;
use std::fmt::Display;

/// The most bytes of [`Check::actual`] that evidence can fill. The longest text of genuine evidence, a TCB status with
/// every component that falls short, has under 2,000.
const MAX_ACTUAL: usize = 4096;

/// A rule that a verdict checks. Its code is stable: users and documents refer to it.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// Stable code, also the verdict's code when this is the first rule that fails.
    pub code: &'static str,
    /// What must hold, in words. Reference values of the policy replace it.
    pub expected: &'static str,
    /// The standard and section, or the design decision, that the rule follows.
    pub reference: &'static str,
}

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// The rule holds.
    Pass,
    /// The rule does not hold.
    Fail,
    /// The policy does not ask for it; `expected` gives the policy's reason.
    Waived,
    /// Not looked at, because something that it rests on failed, or because this version cannot.
    NotRun,
}

/// One check of a verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// The rule's stable code.
    pub code: &'static str,
    /// How it ended.
    pub status: Status,
    /// What must hold, or the reason of a waiver.
    pub expected: String,
    /// What was found.
    pub actual: String,
    /// Standard and section.
    pub reference: &'static str,
}

/// The checks of one appraisal, in the order in which they were made.
#[derive(Debug, Clone, Default)]
pub(crate) struct Checks {
    list: Vec<Check>,
}

/// A rule failed on which everything after it rests. The failure stands in the [`Checks`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stop;

impl Checks {
    pub(crate) fn pass(&mut self, rule: &'static Rule, actual: impl Into<String>) {
        self.push(rule, Status::Pass, rule.expected.to_owned(), actual.into());
    }

    pub(crate) fn fail(&mut self, rule: &'static Rule, actual: impl Into<String>) {
        self.push(rule, Status::Fail, rule.expected.to_owned(), actual.into());
    }

    /// Records a check that later ones rest on: an error stops.
    pub(crate) fn need<T>(
        &mut self,
        rule: &'static Rule,
        found: Result<T, String>,
        describe: impl FnOnce(&T) -> String,
    ) -> Result<T, Stop> {
        match found {
            Ok(value) => {
                let actual = describe(&value);
                self.pass(rule, actual);
                Ok(value)
            }
            Err(actual) => {
                self.fail(rule, actual);
                Err(Stop)
            }
        }
    }

    /// Records an independent check with an expected value of its own.
    pub(crate) fn compare<T: PartialEq + Display + ?Sized>(
        &mut self,
        rule: &'static Rule,
        expected: &T,
        actual: &T,
    ) {
        let status = if expected == actual { Status::Pass } else { Status::Fail };
        self.push(rule, status, expected.to_string(), actual.to_string());
    }

    /// Holds a value against the policy's set of reference values.
    pub(crate) fn expect<T: PartialEq + Display>(
        &mut self,
        rule: &'static Rule,
        expected: &Expect<T>,
        actual: &T,
    ) {
        match expected {
            Expect::Waive(reason) => self.waive(rule, reason, actual.to_string()),
            Expect::AnyOf(values) => {
                let status = if values.contains(actual) { Status::Pass } else { Status::Fail };
                self.push(rule, status, any_of(values), actual.to_string());
            }
        }
    }

    /// Records a required check that the policy may waive.
    pub(crate) fn require(&mut self, rule: &'static Rule, require: &Require, found: Result<String, String>) {
        match (require, found) {
            (Require::Required, Ok(actual)) => self.pass(rule, actual),
            (Require::Required, Err(actual)) => self.fail(rule, actual),
            (Require::Waive(reason), Ok(actual) | Err(actual)) => self.waive(rule, reason, actual),
        }
    }

    pub(crate) fn waive(&mut self, rule: &'static Rule, reason: &str, actual: impl Into<String>) {
        self.push(rule, Status::Waived, format!("waived: {reason}"), actual.into());
    }

    pub(crate) fn not_run(&mut self, rule: &'static Rule, why: impl Into<String>) {
        self.push(rule, Status::NotRun, rule.expected.to_owned(), why.into());
    }

    /// Marks every rule of `rules` that has no entry yet as not run.
    pub(crate) fn not_reached(&mut self, rules: &[&'static Rule]) {
        for rule in rules {
            if !self.list.iter().any(|check| check.code == rule.code) {
                self.not_run(rule, "not reached: an earlier check failed");
            }
        }
    }

    pub(crate) fn extend(&mut self, checks: &[Check]) {
        self.list.extend_from_slice(checks);
    }

    pub(crate) fn first_failure(&self) -> Option<&'static str> {
        self.list.iter().find(|check| check.status == Status::Fail).map(|check| check.code)
    }

    pub(crate) fn into_list(self) -> Vec<Check> {
        self.list
    }

    pub(crate) fn push(&mut self, rule: &'static Rule, status: Status, expected: String, mut actual: String) {
        shorten(&mut actual);
        self.list.push(Check { code: rule.code, status, expected, actual, reference: rule.reference });
    }
}

/// Evidence chooses part of what is found: a verdict names its beginning.
fn shorten(text: &mut String) {
    let whole = text.len();
    if whole <= MAX_ACTUAL {
        return;
    }
    let end = (0..=MAX_ACTUAL).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
    text.truncate(end);
    text.push_str(&format!(" ... ({whole} bytes)"));
}

fn any_of<T: Display>(values: &[T]) -> String {
    match values {
        [] => "one of no values: the policy names none".to_owned(),
        [one] => one.to_string(),
        many => {
            let list: Vec<String> = many.iter().map(ToString::to_string).collect();
            format!("one of {}", list.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_found_is_shortened_between_characters() {
        let mut text = "é".repeat(4096);
        shorten(&mut text);
        assert_eq!(text, format!("{} ... (8192 bytes)", "é".repeat(2048)));
        let mut text = format!("a{}", "é".repeat(4096));
        shorten(&mut text);
        assert_eq!(text, format!("a{} ... (8193 bytes)", "é".repeat(2047)));
        let mut text = "x".repeat(MAX_ACTUAL);
        shorten(&mut text);
        assert_eq!(text, "x".repeat(MAX_ACTUAL));
    }
}
