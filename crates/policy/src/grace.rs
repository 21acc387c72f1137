//! Graces: a TCB status that is accepted for a while, for named advisories, with a reason.

use crate::{Expectation, Field, PolicyError, Says, Until};
use confide_evidence::tdx::TcbStatus;
use serde::Deserialize;
use std::collections::BTreeSet;

/// A known shortcoming of platforms that is accepted until a day. Each use of it is a waiver in the verdict, and no
/// verdict that uses it holds for longer than it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grace {
    /// Its name in verdicts, unique in the policy.
    pub name: String,
    /// The one status that it accepts.
    pub status: TcbStatus,
    /// The advisories that may be open. An empty list is for levels of which the vendor names none.
    pub advisories: BTreeSet<String>,
    /// Its last second.
    pub until: Until,
    /// Why it is given.
    pub reason: String,
}

impl Grace {
    /// Whether it has ended at this time, in seconds since the Unix epoch.
    #[must_use]
    pub fn ended(&self, now: i64) -> bool {
        now > self.until.0
    }

    /// The grace as a field of the policy.
    #[must_use]
    pub fn field(&self) -> Field<'_> {
        let subject = "the TCB status".to_owned();
        Field::named(format!("tdx.grace.{}", self.name), "tcb_status", subject, self)
    }
}

/// The graces that together cover a platform of this status with these open advisories, whatever the time: each advisory
/// is covered by the one that names it and lasts longest. Nothing where one of them is named by none.
///
/// A platform of which no advisory is named is covered by an empty list alone: a grace for certain advisories says nothing
/// of a shortcoming that nobody has named.
#[must_use]
pub fn covering<'g>(graces: &'g [Grace], status: TcbStatus, open: &[String]) -> Option<Vec<&'g Grace>> {
    let longest = |fits: &dyn Fn(&Grace) -> bool| {
        let of_status = graces.iter().filter(|grace| grace.status == status);
        of_status.filter(|grace| fits(grace)).max_by_key(|grace| grace.until)
    };
    if open.is_empty() {
        return longest(&|grace| grace.advisories.is_empty()).map(|grace| vec![grace]);
    }
    let mut covering: Vec<&Grace> = Vec::new();
    for advisory in open {
        let grace = longest(&|grace| grace.advisories.contains(advisory))?;
        if !covering.contains(&grace) {
            covering.push(grace);
        }
    }
    Some(covering)
}

impl Expectation for Grace {
    fn says(&self) -> Says {
        Says::Grace { status: self.status.name(), advisories: self.advisories.clone(), until: self.until }
    }
}

/// Names and reasons of graces.
pub(crate) fn check(graces: &[Grace]) -> Result<(), PolicyError> {
    let mut names = BTreeSet::new();
    for grace in graces {
        if grace.reason.trim().is_empty() {
            return Err(PolicyError::NoReason(format!("tdx.grace.{}", grace.name)));
        }
        if grace.name.trim().is_empty() || !names.insert(&grace.name) {
            return Err(PolicyError::Name { field: "tdx.grace.name", found: grace.name.clone() });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(ids: &[&str]) -> Vec<String> {
        ids.iter().map(|id| (*id).to_owned()).collect()
    }

    fn grace(name: &str, advisories: &[&str], until: i64) -> Grace {
        Grace {
            name: name.to_owned(),
            status: TcbStatus::OutOfDate,
            advisories: advisories.iter().map(ToString::to_string).collect(),
            until: Until(until),
            reason: "a test".to_owned(),
        }
    }

    /// Names of the graces that cover a platform that is out of date, in the order of the advisories.
    fn names(graces: &[Grace], ids: &[&str]) -> Option<Vec<String>> {
        let found = covering(graces, TcbStatus::OutOfDate, &open(ids))?;
        Some(found.into_iter().map(|grace| grace.name.clone()).collect())
    }

    #[test]
    fn a_grace_covers_its_status_with_its_advisories_and_no_others() {
        let mut graces = [grace("bios", &["INTEL-SA-1", "INTEL-SA-2"], 10)];
        let bios = Some(vec!["bios".to_owned()]);
        assert_eq!(names(&graces, &["INTEL-SA-1"]), bios);
        assert_eq!(names(&graces, &["INTEL-SA-1", "INTEL-SA-2"]), bios);
        assert_eq!(names(&graces, &["INTEL-SA-1", "INTEL-SA-3"]), None);
        assert_eq!(names(&graces, &[]), None, "nobody has named why");
        let other = TcbStatus::OutOfDateConfigurationNeeded;
        assert_eq!(covering(&graces, other, &open(&["INTEL-SA-1"])), None);
        graces[0].advisories.clear();
        assert_eq!(names(&graces, &[]), bios);
        assert_eq!(names(&graces, &["INTEL-SA-1"]), None);
        assert!(!graces[0].ended(10) && graces[0].ended(11));
    }

    #[test]
    fn graces_for_different_advisories_cover_a_platform_together() {
        let graces = [
            grace("one", &["INTEL-SA-1"], 10),
            grace("two", &["INTEL-SA-2", "INTEL-SA-3"], 5),
            grace("two, for longer", &["INTEL-SA-2"], 20),
            grace("without a name", &[], 30),
        ];
        let together = |names: &[&str]| Some(names.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(names(&graces, &["INTEL-SA-1", "INTEL-SA-2"]), together(&["one", "two, for longer"]));
        assert_eq!(names(&graces, &["INTEL-SA-2", "INTEL-SA-3"]), together(&["two, for longer", "two"]));
        assert_eq!(names(&graces, &["INTEL-SA-1", "INTEL-SA-4"]), None, "none names the fourth");
        let mut other = graces.clone();
        other[0].status = TcbStatus::OutOfDateConfigurationNeeded;
        assert_eq!(names(&other, &["INTEL-SA-1", "INTEL-SA-2"]), None, "one is for another status");
    }
}
