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
    /// Whether it is for a platform of this status with these open advisories, whatever the time.
    ///
    /// Every open advisory must be listed. A platform of which no advisory is named is covered by an empty list alone: a
    /// grace for certain advisories says nothing of a shortcoming that nobody has named.
    #[must_use]
    pub fn covers(&self, status: TcbStatus, open: &[String]) -> bool {
        self.status == status
            && self.advisories.is_empty() == open.is_empty()
            && open.iter().all(|advisory| self.advisories.contains(advisory))
    }

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

    #[test]
    fn a_grace_covers_its_status_with_its_advisories_and_no_others() {
        let mut grace = Grace {
            name: "bios".to_owned(),
            status: TcbStatus::OutOfDate,
            advisories: ["INTEL-SA-1", "INTEL-SA-2"].map(str::to_owned).into(),
            until: Until(10),
            reason: "a test".to_owned(),
        };
        assert!(grace.covers(TcbStatus::OutOfDate, &open(&["INTEL-SA-1"])));
        assert!(grace.covers(TcbStatus::OutOfDate, &open(&["INTEL-SA-1", "INTEL-SA-2"])));
        assert!(!grace.covers(TcbStatus::OutOfDate, &open(&["INTEL-SA-1", "INTEL-SA-3"])));
        assert!(!grace.covers(TcbStatus::OutOfDate, &[]), "nobody has named why");
        assert!(!grace.covers(TcbStatus::OutOfDateConfigurationNeeded, &open(&["INTEL-SA-1"])));
        grace.advisories.clear();
        assert!(grace.covers(TcbStatus::OutOfDate, &[]));
        assert!(!grace.covers(TcbStatus::OutOfDate, &open(&["INTEL-SA-1"])));
        assert!(!grace.ended(10) && grace.ended(11));
    }
}
