//! Checks: what a verdict is made of.

use crate::text::Text;
use confide_policy::{Expect, Reason, Require};
use serde::Serialize;
use std::fmt::Display;

/// As many as a verdict over a quote has, with the waivers of what it has nothing of: room is made for them at once.
const USUAL_CHECKS: usize = 128;

/// A rule that a verdict checks. Its code is stable: users and documents refer to it.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// Stable code, also the verdict's code when this is the first rule that fails.
    pub code: &'static str,
    /// What must hold, in words. Reference values of the policy replace it.
    pub expected: &'static str,
    /// The standard and section, or the design decision, that the rule follows.
    pub reference: &'static str,
    /// What to do where the rule does not hold, one sentence without a capital or a full stop.
    pub remedy: &'static str,
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
    /// Not looked at, because something that it rests on failed, or because what it is about was not given.
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
    pub expected: Text,
    /// What was found.
    pub actual: Text,
    /// Standard and section.
    pub reference: &'static str,
    /// What to do. Failed checks have it, and only they.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<Text>,
}

/// The checks of one appraisal, in the order in which they were made.
#[derive(Debug, Clone)]
pub(crate) struct Checks {
    list: Vec<Check>,
}

impl Default for Checks {
    fn default() -> Self {
        Self { list: Vec::with_capacity(USUAL_CHECKS) }
    }
}

/// A rule failed on which everything after it rests. The failure stands in the [`Checks`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stop;

/// A rough summary of codes: says of most others at once that they are not among them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Codes(u128);

impl Codes {
    pub(crate) fn may_have(self, code: &str) -> bool {
        self.0 & Self::bit(code) != 0
    }

    fn bit(code: &str) -> u128 {
        // Length and four letters tell codes apart well enough.
        let bytes = code.as_bytes();
        let end = bytes.len().saturating_sub(1);
        let letter = |place: usize| bytes.get(place).copied().map_or(0, u32::from);
        let sum = letter(0)
            .wrapping_add(letter(end / 3).wrapping_mul(5))
            .wrapping_add(letter(end / 2).wrapping_mul(23))
            .wrapping_add(letter(end).wrapping_mul(61));
        1_u128.wrapping_shl(sum.wrapping_add(u32::try_from(end).unwrap_or_default().wrapping_mul(11)))
    }
}

impl Checks {
    pub(crate) fn pass(&mut self, rule: &'static Rule, actual: impl Into<Text>) {
        self.push(rule, Status::Pass, rule.expected, actual);
    }

    pub(crate) fn fail(&mut self, rule: &'static Rule, actual: impl Into<Text>) {
        self.push(rule, Status::Fail, rule.expected, actual);
    }

    /// Records a check that later ones rest on: an error stops.
    pub(crate) fn need<T, D: Into<Text>>(
        &mut self,
        rule: &'static Rule,
        found: Result<T, impl Into<Text>>,
        describe: impl FnOnce(&T) -> D,
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

    /// As [`Self::need`], of a check whose finding is its text.
    pub(crate) fn need_text(
        &mut self,
        rule: &'static Rule,
        found: Result<impl Into<Text>, impl Into<Text>>,
    ) -> Result<(), Stop> {
        match found {
            Ok(actual) => {
                self.pass(rule, actual);
                Ok(())
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
    pub(crate) fn expect<T: PartialEq + Told>(
        &mut self,
        rule: &'static Rule,
        expected: &Expect<T>,
        actual: &T,
    ) {
        self.expect_each(rule, expected, std::slice::from_ref(actual), told(actual));
    }

    /// Holds several values, each of which must be in the policy's set. `shown` is what the verdict says was found.
    pub(crate) fn expect_each<T: PartialEq + Told>(
        &mut self,
        rule: &'static Rule,
        expected: &Expect<T>,
        actual: &[T],
        shown: impl Into<Text>,
    ) {
        match expected {
            Expect::Waive(reason) => self.waive(rule, reason, shown),
            Expect::AnyOf(values) => {
                let all = actual.iter().all(|value| values.contains(value));
                let status = if all { Status::Pass } else { Status::Fail };
                self.push(rule, status, any_of(values), shown);
            }
        }
    }

    /// Records a required check that the policy may waive.
    pub(crate) fn require(
        &mut self,
        rule: &'static Rule,
        require: &Require,
        found: Result<impl Into<Text>, impl Into<Text>>,
    ) {
        let found: Result<Text, Text> = found.map(Into::into).map_err(Into::into);
        match (require, found) {
            (Require::Required, Ok(actual)) => self.pass(rule, actual),
            (Require::Required, Err(actual)) => self.fail(rule, actual),
            (Require::Waive(reason), Ok(actual) | Err(actual)) => self.waive(rule, reason, actual),
        }
    }

    pub(crate) fn waive(&mut self, rule: &'static Rule, reason: &Reason, actual: impl Into<Text>) {
        self.push(rule, Status::Waived, reason, actual);
    }

    pub(crate) fn not_run(&mut self, rule: &'static Rule, why: impl Into<Text>) {
        self.push(rule, Status::NotRun, rule.expected, why);
    }

    /// Replaces the rule's general remedy by one for this case, if the check made last has failed and there is one.
    pub(crate) fn advise<R: Into<Text>>(&mut self, remedy: impl FnOnce() -> Option<R>) {
        let failed = self.list.last_mut().filter(|check| check.status == Status::Fail);
        if let Some((check, remedy)) = failed.and_then(|check| Some((check, remedy()?))) {
            check.remedy = Some(remedy.into().bounded());
        }
    }

    /// Marks every rule of `rules` that has no entry yet as not run.
    pub(crate) fn not_reached(&mut self, rules: &[&'static Rule]) {
        for rule in rules {
            if !self.has(rule.code) {
                self.not_run(rule, "not reached: an earlier check failed");
            }
        }
    }

    /// Whether a rule has an entry, by its code.
    pub(crate) fn has(&self, code: &str) -> bool {
        self.place_of(code, 0).is_some()
    }

    /// The place of a rule's entry, by its code. The search begins at `from`: who looks for many in about the order of
    /// the entries finds each of them soon.
    pub(crate) fn place_of(&self, code: &str, from: usize) -> Option<usize> {
        let (before, after) = self.list.split_at_checked(from)?;
        let is = |check: &Check| check.code == code;
        after
            .iter()
            .position(is)
            .map(|place| place.saturating_add(from))
            .or_else(|| before.iter().position(is))
    }

    /// A rough summary of the codes that have an entry.
    pub(crate) fn codes(&self) -> Codes {
        Codes(self.list.iter().fold(0, |bits, check| bits | Codes::bit(check.code)))
    }

    pub(crate) fn extend(&mut self, checks: &[Check]) {
        self.list.extend_from_slice(checks);
    }

    pub(crate) fn has_failed(&self, rule: &Rule) -> bool {
        self.list.iter().any(|check| check.code == rule.code && check.status == Status::Fail)
    }

    pub(crate) fn has_passed(&self, rule: &Rule) -> bool {
        self.list.iter().any(|check| check.code == rule.code && check.status == Status::Pass)
    }

    pub(crate) fn first_failure(&self) -> Option<&'static str> {
        self.list.iter().find(|check| check.status == Status::Fail).map(|check| check.code)
    }

    /// A place in the list, for [`Self::first_failure_since`].
    pub(crate) fn mark(&self) -> usize {
        self.list.len()
    }

    /// The first check that failed of those made since a mark.
    pub(crate) fn first_failure_since(&self, mark: usize) -> Option<&'static str> {
        self.list.iter().skip(mark).find(|check| check.status == Status::Fail).map(|check| check.code)
    }

    /// As [`Self::into_list`], to be copied into many verdicts.
    pub(crate) fn into_shared_list(self) -> Vec<Check> {
        let share = |check: Check| Check {
            expected: check.expected.shared(),
            actual: check.actual.shared(),
            ..check
        };
        self.list.into_iter().map(share).collect()
    }

    pub(crate) fn into_list(self) -> Vec<Check> {
        self.list
    }

    pub(crate) fn push(
        &mut self,
        rule: &'static Rule,
        status: Status,
        expected: impl Into<Text>,
        actual: impl Into<Text>,
    ) {
        self.list.push(Check {
            code: rule.code,
            status,
            expected: expected.into(),
            actual: actual.into().bounded(),
            reference: rule.reference,
            remedy: (status == Status::Fail).then(|| rule.remedy.into()),
        });
    }
}

/// A value that a text can keep until somebody looks at it.
pub(crate) trait Told: Display + Clone + Send + Sync + 'static {}

impl<T: Display + Clone + Send + Sync + 'static> Told for T {}

/// A value as a verdict tells it.
pub(crate) fn told(value: &impl Told) -> Text {
    let value = value.clone();
    Text::later(move || value.to_string())
}

/// The values that the policy accepts.
pub(crate) fn any_of<T: Told>(values: &[T]) -> Text {
    match values {
        [] => "one of no values: the policy names none".into(),
        [one] => {
            let one = one.clone();
            Text::later_in_full(move || one.to_string())
        }
        many => {
            let many = many.to_vec();
            Text::later_in_full(move || {
                let list: Vec<String> = many.iter().map(ToString::to_string).collect();
                format!("one of {}", list.join(", "))
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_of_codes_misses_none_and_tells_most_others() {
        let mut checks = Checks::default();
        let (entered, others) = crate::rules::ALL.split_at(40);
        entered.iter().for_each(|rule| checks.pass(rule, ""));
        let codes = checks.codes();
        assert!(entered.iter().all(|rule| codes.may_have(rule.code)));
        let mistaken = others.iter().filter(|rule| codes.may_have(rule.code)).count();
        assert!(mistaken < others.len() / 2, "{mistaken} of {}", others.len());
    }

    #[test]
    fn a_failed_check_says_what_to_do_and_no_other_does() {
        let mut checks = Checks::default();
        let rule = &crate::rules::TD_DEBUG;
        checks.pass(rule, "false");
        checks.advise(|| -> Option<Text> { panic!("unused: the check has passed") });
        checks.waive(rule, &"a reason".into(), "true");
        checks.not_run(rule, "a reason");
        checks.fail(rule, "true");
        checks.fail(rule, "true");
        checks.advise(|| None::<Text>);
        assert_eq!(checks.list.last().and_then(|check| check.remedy.as_deref()), Some(rule.remedy));
        checks.advise(|| Some("a remedy for this case"));
        let list = checks.into_list();
        let remedies: Vec<Option<&str>> = list.iter().map(|check| check.remedy.as_deref()).collect();
        assert_eq!(remedies, [None, None, None, Some(rule.remedy), Some("a remedy for this case")]);
    }

    #[test]
    fn every_rule_has_a_code_of_its_own_and_says_what_to_do() {
        let mut codes: Vec<&str> = crate::rules::ALL.iter().map(|rule| rule.code).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), crate::rules::ALL.len());
        for rule in crate::rules::ALL {
            for text in [rule.expected, rule.reference, rule.remedy] {
                assert!(!text.is_empty() && !text.ends_with('.'), "{}: {text:?}", rule.code);
            }
            assert!(rule.remedy.starts_with(char::is_lowercase), "{}: {}", rule.code, rule.remedy);
        }
    }
}
