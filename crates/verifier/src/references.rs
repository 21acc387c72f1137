//! Reference sets: which one the evidence matches, in every field that the policy takes from them.

use crate::check::{Checks, Rule, Status, any_of, told};
use crate::rules;
use crate::text::Text;
use confide_policy::{ExpectReference, HexBytes, Name, ReferenceSet};
use std::fmt;

/// A reference set and where it comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate<'a> {
    pub(crate) name: &'a Name,
    pub(crate) origin: &'static str,
    pub(crate) set: &'a ReferenceSet,
}

/// A field that the policy takes from reference sets, with what the evidence has in it.
pub(crate) struct Column<'a> {
    field: &'static str,
    matches: Box<dyn Fn(&ReferenceSet) -> bool + 'a>,
}

/// A field of reference sets.
pub(crate) type Of<const N: usize> = fn(&ReferenceSet) -> &[HexBytes<N>];

/// The columns of one appraisal.
#[derive(Default)]
pub(crate) struct Columns<'a>(Vec<Column<'a>>);

impl<'a> Columns<'a> {
    /// Adds a field, if the policy takes it from reference sets.
    pub(crate) fn add<const N: usize>(
        &mut self,
        field: &'static str,
        expected: &ExpectReference<HexBytes<N>>,
        actual: Found<N>,
        of: Of<N>,
    ) {
        if expected.is_from_reference() {
            self.0.push(Column { field, matches: Box::new(move |set| actual.is_in(of(set))) });
        }
    }

    /// The candidate that matches in every column, or the one that differs in the fewest.
    pub(crate) fn choose<'c>(&self, candidates: &[Candidate<'c>]) -> Choice<'c> {
        let differing = |candidate: &Candidate<'c>| -> Vec<&'static str> {
            let differs = self.0.iter().filter(|column| !(column.matches)(candidate.set));
            differs.map(|column| column.field).collect()
        };
        let nearest = candidates
            .iter()
            .map(|candidate| (*candidate, differing(candidate)))
            .min_by_key(|(_, differing)| differing.len());
        let others = nearest.iter().flat_map(|(_, differing)| differing).map(|field| {
            let column = self.0.iter().find(|column| column.field == *field);
            let has =
                |candidate: &&Candidate<'c>| column.is_some_and(|column| (column.matches)(candidate.set));
            (*field, candidates.iter().find(has).map(|candidate| candidate.name))
        });
        let others = others.collect();
        Choice { asked: !self.0.is_empty(), nearest, others }
    }
}

/// What the evidence has in a field.
#[derive(Debug, Clone)]
pub(crate) enum Found<const N: usize> {
    /// One value. Where it is missing, it is in no list.
    One(Option<HexBytes<N>>),
    /// Any number of values, each of which must be in the list.
    Each(Vec<HexBytes<N>>),
}

impl<const N: usize> Found<N> {
    fn is_in(&self, values: &[HexBytes<N>]) -> bool {
        self.outside(values).is_none()
    }

    /// What is found that is not among `values`, in words.
    fn outside(&self, values: &[HexBytes<N>]) -> Option<String> {
        match self {
            Self::One(Some(value)) => (!values.contains(value)).then(|| value.to_string()),
            Self::One(None) => Some(self.to_string()),
            Self::Each(found) => {
                let unknown = found.iter().find(|value| !values.contains(value))?;
                Some(format!("{unknown}, which is not listed"))
            }
        }
    }
}

impl<const N: usize> fmt::Display for Found<N> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values = match self {
            Self::One(Some(value)) => return value.fmt(formatter),
            Self::One(None) => return formatter.write_str("none"),
            Self::Each(values) if values.is_empty() => return formatter.write_str("none"),
            Self::Each(values) => values,
        };
        formatter.write_str(&values.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
    }
}

/// Which reference set the evidence is held against.
#[derive(Debug, Default)]
pub(crate) struct Choice<'a> {
    asked: bool,
    nearest: Option<(Candidate<'a>, Vec<&'static str>)>,
    /// For each field that differs, another set that has what the evidence has.
    others: Vec<(&'static str, Option<&'a Name>)>,
}

impl<'a> Choice<'a> {
    /// The set that the evidence matches as a whole.
    pub(crate) fn matched(&self) -> Option<&'a Name> {
        let (candidate, differing) = self.nearest.as_ref().filter(|_| self.asked)?;
        differing.is_empty().then_some(candidate.name)
    }

    /// Tells which set the evidence matches, if the policy takes any field from one.
    pub(crate) fn report(&self, checks: &mut Checks) {
        match &self.nearest {
            _ if !self.asked => {}
            None => checks.fail(&rules::REFERENCE_SET, "there is no reference set"),
            Some((candidate, differing)) if differing.is_empty() => {
                checks.pass(&rules::REFERENCE_SET, format!("{} {}", candidate.name, candidate.origin));
            }
            Some((candidate, _)) => {
                let differing: Vec<String> = self
                    .others
                    .iter()
                    .map(|(field, other)| match other {
                        Some(name) => format!("{field}, which is that of {name}"),
                        None => (*field).to_owned(),
                    })
                    .collect();
                let (name, origin) = (candidate.name, candidate.origin);
                let actual =
                    format!("none; {name} {origin} comes nearest and differs in {}", differing.join("; "));
                checks.fail(&rules::REFERENCE_SET, actual);
            }
        }
    }

    /// Holds what was found against the policy's values, or against those of the nearest set.
    pub(crate) fn expect<const N: usize>(
        &self,
        rule: &'static Rule,
        expected: &ExpectReference<HexBytes<N>>,
        found: &Found<N>,
        of: Of<N>,
        checks: &mut Checks,
    ) {
        let nearest = self.nearest.as_ref().map(|(candidate, _)| candidate);
        let (values, whose) = match expected {
            ExpectReference::Waive(reason) => return checks.waive(rule, reason, told(found)),
            ExpectReference::AnyOf(values) => (values.as_slice(), None),
            ExpectReference::From(_) => (nearest.map_or(&[][..], |candidate| of(candidate.set)), nearest),
        };
        let wanted: Text = match (found, whose) {
            (Found::Each(_), None) => rule.expected.into(),
            (Found::One(_), None) => any_of(values),
            (_, Some(set)) => {
                let (one, name) = (matches!(found, Found::One(_)), set.name.clone());
                let values = if one { any_of(values) } else { rule.expected.into() };
                Text::later_in_full(move || format!("{values}, of the reference set {name}"))
            }
        };
        match found.outside(values) {
            None => checks.push(rule, Status::Pass, wanted, told(found)),
            Some(actual) => checks.push(rule, Status::Fail, wanted, actual),
        }
    }
}
