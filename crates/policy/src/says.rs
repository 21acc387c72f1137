//! What a field of a policy says, in one form for all types: to be compared and told in words.

use crate::Until;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// What a field says.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Says {
    /// Nothing stands there, so nothing is accepted by it: an entry that the other policy has.
    Nothing,
    /// One of these values. None of them: nothing is accepted.
    AnyOf(BTreeSet<String>),
    /// None of these values.
    NoneOf(BTreeSet<String>),
    /// What the verifier recomputes from the evidence document and the challenge.
    Recomputed,
    /// What the reference set has that the evidence matches.
    Reference,
    /// Everything.
    All,
    /// A TCB status until a time.
    Grace {
        /// Intel's name of the status.
        status: &'static str,
        /// The advisories that may be open.
        advisories: BTreeSet<String>,
        /// The last second.
        until: Until,
    },
    /// The check must pass.
    Required,
    /// Not looked at, for this reason.
    Waived(String),
    /// At least this.
    AtLeast(u64),
    /// At most this.
    AtMost(u64),
    /// Each of these at least its number, whose parts count from left to right, as in a version. What is not named is
    /// refused.
    Floors(BTreeMap<String, Vec<u64>>),
    /// One word of a closed list.
    Choice {
        /// The word in the policy.
        word: &'static str,
        /// What it means.
        meaning: &'static str,
        /// The looser of two words has the higher number.
        looseness: u8,
    },
}

/// How one policy's field compares with the same field of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It means the same.
    Same,
    /// It accepts the same; only the reason of a waiver reads differently.
    Reworded,
    /// It accepts less.
    Stricter,
    /// It accepts more.
    Looser,
    /// It accepts something that the other one refuses, and the other way round, or cannot be compared.
    Other,
}

impl Says {
    /// A set of values.
    pub(crate) fn any_of<T: ToString>(values: impl IntoIterator<Item = T>) -> Self {
        Self::AnyOf(values.into_iter().map(|value| value.to_string()).collect())
    }

    /// A set of refused values.
    pub(crate) fn none_of<T: ToString>(values: impl IntoIterator<Item = T>) -> Self {
        Self::NoneOf(values.into_iter().map(|value| value.to_string()).collect())
    }

    /// What changes for whoever goes from this to `next`.
    #[must_use]
    pub fn change_to(&self, next: &Self) -> Change {
        if self == next {
            return Change::Same;
        }
        match (self, next) {
            (Self::Waived(_), Self::Waived(_)) => Change::Reworded,
            (Self::AnyOf(before), Self::AnyOf(after)) => sets(before, after),
            (Self::NoneOf(before), Self::NoneOf(after)) => sets(after, before),
            (Self::AtLeast(before), Self::AtLeast(after)) => order(after.cmp(before)),
            (Self::AtMost(before), Self::AtMost(after)) => order(before.cmp(after)),
            (Self::Floors(before), Self::Floors(after)) => floors(before, after),
            (Self::Choice { looseness: before, .. }, Self::Choice { looseness: after, .. }) => {
                order(before.cmp(after))
            }
            (Self::Grace { .. }, Self::Grace { .. }) => graces(self, next),
            (Self::Nothing, Self::AnyOf(set)) | (Self::AnyOf(set), Self::Nothing) if set.is_empty() => {
                Change::Same
            }
            (Self::Nothing, Self::NoneOf(_)) => Change::Stricter,
            (Self::NoneOf(_), Self::Nothing) => Change::Looser,
            (Self::Waived(_), _) | (_, Self::Nothing) => Change::Stricter,
            (Self::Nothing | Self::AnyOf(_), Self::All) => Change::Looser,
            (Self::All, Self::AnyOf(_)) => Change::Stricter,
            (Self::Nothing, _) | (_, Self::Waived(_)) => Change::Looser,
            (Self::AnyOf(before), _) if before.is_empty() => Change::Looser,
            (_, Self::AnyOf(after)) if after.is_empty() => Change::Stricter,
            _ => Change::Other,
        }
    }
}

/// From one grace to another of the same name. An empty list of advisories is no subset of another: it covers levels of
/// which none is named.
fn graces(before: &Says, after: &Says) -> Change {
    let (
        Says::Grace { status, advisories, until },
        Says::Grace { status: next_status, advisories: next_advisories, until: next_until },
    ) = (before, after)
    else {
        return Change::Other;
    };
    if status != next_status || advisories.is_empty() != next_advisories.is_empty() {
        return Change::Other;
    }
    match (sets(advisories, next_advisories), order(until.cmp(next_until))) {
        (Change::Same, change) | (change, Change::Same) => change,
        (one, other) if one == other => one,
        _ => Change::Other,
    }
}

/// From one set of accepted values to another.
fn sets(before: &BTreeSet<String>, after: &BTreeSet<String>) -> Change {
    match (before.is_subset(after), after.is_subset(before)) {
        (true, true) => Change::Same,
        (true, false) => Change::Looser,
        (false, true) => Change::Stricter,
        (false, false) => Change::Other,
    }
}

/// From one set of floors to another: a floor that is missing is above every number.
fn floors(before: &BTreeMap<String, Vec<u64>>, after: &BTreeMap<String, Vec<u64>>) -> Change {
    let looser = |one: &BTreeMap<String, Vec<u64>>, other: &BTreeMap<String, Vec<u64>>| {
        one.iter().all(|(name, floor)| other.get(name).is_some_and(|lower| lower <= floor))
    };
    match (looser(before, after), looser(after, before)) {
        (true, true) => Change::Same,
        (true, false) => Change::Looser,
        (false, true) => Change::Stricter,
        (false, false) => Change::Other,
    }
}

/// Less means looser.
fn order(order: Ordering) -> Change {
    match order {
        Ordering::Less => Change::Looser,
        Ordering::Equal => Change::Same,
        Ordering::Greater => Change::Stricter,
    }
}

impl fmt::Display for Says {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => formatter.write_str("nothing"),
            Self::AnyOf(set) if set.is_empty() => formatter.write_str("any of no values"),
            Self::AnyOf(set) => write!(formatter, "any of {}", listed(set)),
            Self::NoneOf(set) if set.is_empty() => formatter.write_str("none denied"),
            Self::NoneOf(set) => write!(formatter, "none of {}", listed(set)),
            Self::Recomputed => formatter.write_str("recomputed"),
            Self::Reference => formatter.write_str("of the reference set"),
            Self::All => formatter.write_str("all"),
            Self::Grace { status, advisories, until } if advisories.is_empty() => {
                write!(formatter, "{status} without a named advisory until {until}")
            }
            Self::Grace { status, advisories, until } => {
                write!(formatter, "{status} with {} until {until}", listed(advisories))
            }
            Self::Required => formatter.write_str("required"),
            Self::Waived(reason) => write!(formatter, "waived: {reason}"),
            Self::AtLeast(bound) => write!(formatter, "at least {bound}"),
            Self::AtMost(bound) => write!(formatter, "at most {bound}"),
            Self::Floors(floors) if floors.is_empty() => formatter.write_str("at least what nothing reaches"),
            Self::Floors(floors) => {
                let told = floors.iter().map(|(name, floor)| {
                    let parts: Vec<String> = floor.iter().map(ToString::to_string).collect();
                    format!("{name} {}", parts.join("."))
                });
                write!(formatter, "at least {}", told.collect::<Vec<_>>().join(", "))
            }
            Self::Choice { word, .. } => formatter.write_str(word),
        }
    }
}

fn listed(set: &BTreeSet<String>) -> String {
    set.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_has_its_direction() {
        let (none, a, ab, c) = ([""; 0], ["a"], ["a", "b"], ["c"]);
        let waived = |reason: &str| Says::Waived(reason.to_owned());
        let grace = |status, advisories: &[&str], until| Says::Grace {
            status,
            advisories: advisories.iter().map(|id| (*id).to_owned()).collect(),
            until: Until(until),
        };
        let floors = |floors: &[(&str, &[u64])]| {
            Says::Floors(floors.iter().map(|(name, floor)| ((*name).to_owned(), floor.to_vec())).collect())
        };
        let choice = |looseness| Says::Choice { word: "w", meaning: "m", looseness };
        for (before, after, change) in [
            (Says::any_of(a), Says::any_of(ab), Change::Looser),
            (Says::any_of(["b", "a"]), Says::any_of(["a", "b", "a"]), Change::Same),
            (Says::any_of(a), Says::any_of(c), Change::Other),
            (Says::any_of(none), Says::any_of(a), Change::Looser),
            (Says::any_of(none), Says::Recomputed, Change::Looser),
            (Says::none_of(none), Says::none_of(a), Change::Stricter),
            (Says::none_of(a), Says::none_of(c), Change::Other),
            (Says::Recomputed, Says::any_of(a), Change::Other),
            (Says::Recomputed, waived("x"), Change::Looser),
            (Says::Required, waived("x"), Change::Looser),
            (Says::any_of(none), waived("x"), Change::Looser),
            (waived("x"), waived("y"), Change::Reworded),
            (Says::AtLeast(1), Says::AtLeast(2), Change::Stricter),
            (Says::AtMost(1), Says::AtMost(2), Change::Looser),
            (floors(&[("x", &[1, 9])]), floors(&[("x", &[2, 0])]), Change::Stricter),
            (floors(&[("x", &[1])]), floors(&[("x", &[1]), ("y", &[7])]), Change::Looser),
            (floors(&[("x", &[1]), ("y", &[2])]), floors(&[("x", &[2]), ("y", &[1])]), Change::Other),
            (choice(0), choice(1), Change::Looser),
            (grace("OutOfDate", &["a"], 1), grace("OutOfDate", &["a"], 2), Change::Looser),
            (grace("OutOfDate", &["a"], 1), grace("OutOfDate", &["a", "b"], 1), Change::Looser),
            (grace("OutOfDate", &["a"], 2), grace("OutOfDate", &["a", "b"], 1), Change::Other),
            (grace("OutOfDate", &[], 1), grace("OutOfDate", &["a"], 1), Change::Other),
            (grace("OutOfDate", &["a"], 1), grace("ConfigurationNeeded", &["a"], 1), Change::Other),
            (Says::Nothing, grace("OutOfDate", &["a"], 1), Change::Looser),
            (Says::Nothing, Says::any_of(none), Change::Same),
            (Says::any_of(a), Says::All, Change::Looser),
            (Says::Reference, Says::any_of(a), Change::Other),
            (Says::any_of(none), Says::Reference, Change::Looser),
            (Says::Nothing, Says::any_of(a), Change::Looser),
            (Says::Nothing, Says::none_of(a), Change::Stricter),
        ] {
            assert_eq!(before.change_to(&after), change, "{before:?} to {after:?}");
            let back = match change {
                Change::Looser => Change::Stricter,
                Change::Stricter => Change::Looser,
                other => other,
            };
            assert_eq!(after.change_to(&before), back, "{after:?} to {before:?}");
        }
    }
}
