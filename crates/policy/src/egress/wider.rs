//! Serving is never wider than bootstrap.

use super::{NamePattern, Network, Rule, To, Transport};
use std::collections::BTreeMap;

/// What rules are compared by: two of these are apart, equal, or one is within the other. So the destinations for which the same
/// rules decide are those of one of them less those within it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Set<'a> {
    Names(&'a NamePattern),
    Addresses(&'a Network, Transport),
}

impl Set<'_> {
    fn contains(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Names(pattern), Self::Names(other)) => pattern.contains(other),
            (Self::Addresses(network, over), Self::Addresses(other, other_over)) => {
                over == other_over && network.contains(other)
            }
            _ => false,
        }
    }
}

impl To {
    fn set(&self) -> Set<'_> {
        match self {
            Self::Name { pattern, .. } => Set::Names(pattern),
            Self::Network { network, transport } => Set::Addresses(network, *transport),
        }
    }

    /// How few destinations a rule is for: of two rules for the same destination that of the higher number decides.
    pub(super) fn specificity(&self) -> u8 {
        match self {
            Self::Name { pattern: NamePattern::OneLabel(_), .. } => 0,
            Self::Name { pattern: NamePattern::Exact(_), .. } => 1,
            Self::Network { network, .. } => network.prefix(),
        }
    }
}

/// Two rules of one phase of which nothing says which decides: the same destinations, and a port of both.
pub(super) fn ambiguous(rules: &[Rule]) -> Option<(&Rule, &Rule)> {
    rules.iter().enumerate().find_map(|(place, rule)| {
        let mut before = rules.iter().take(place);
        let same = before.find(|other| {
            other.to.set() == rule.to.set() && other.ports.iter().any(|port| rule.ports.contains(port))
        });
        same.map(|other| (other, rule))
    })
}

/// A serving rule that allows what no bootstrap rule does, or more of it, or in a weaker way.
///
/// Each destination is in some smallest set of either phase, and what decides about that set decides about the destination: so
/// the sets of both phases stand for all destinations.
pub(super) fn wider<'a>(bootstrap: &'a [Rule], serving: &'a [Rule]) -> Option<&'a Rule> {
    let mut sets = bootstrap.iter().chain(serving).map(|rule| rule.to.set());
    sets.find_map(|set| {
        let allowed = deciding(bootstrap, &set);
        let covered =
            |port: &u16, rule: &Rule| allowed.get(port).is_some_and(|allowed| covers(allowed, rule));
        deciding(serving, &set).into_iter().find(|(port, rule)| !covered(port, rule)).map(|(_, rule)| rule)
    })
}

/// The rules that decide about the destinations of a set, less those within it, by their ports.
fn deciding<'a>(rules: &'a [Rule], set: &Set<'_>) -> BTreeMap<u16, &'a Rule> {
    let mut rules: Vec<&Rule> = rules.iter().filter(|rule| rule.to.set().contains(set)).collect();
    rules.sort_by_key(|rule| rule.to.specificity());
    // Of the same port the last one stays, which is the most specific.
    rules.into_iter().flat_map(|rule| rule.ports.iter().map(move |port| (*port, rule))).collect()
}

/// Whether the first rule allows all that the second does with a destination of both.
fn covers(allowed: &Rule, rule: &Rule) -> bool {
    let no_weaker = match (&allowed.to, &rule.to) {
        (To::Name { mode: allowed, .. }, To::Name { mode, .. }) => mode <= allowed,
        _ => true,
    };
    no_weaker && rule.caps.within(&allowed.caps)
}
