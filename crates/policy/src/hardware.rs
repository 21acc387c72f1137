//! Lists of hardware: which machines are accepted, and which never are.

use crate::{Expect, Expectation, Reason, Says};
use serde::{Deserialize, Deserializer};
use std::fmt::{Debug, Display};

/// Machines or kinds of machines by an identifier `T`, such as PPID, FMSPC or CHIP_ID:
/// `{ any_of = [...], deny = [...] }` or `{ waive = "reason", deny = [...] }`.
///
/// What is denied is refused, also where it is in `any_of`, and also where `any_of` is waived. `deny` may be left away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HardwareList<T> {
    /// What is accepted.
    pub allow: Expect<T>,
    /// What is refused.
    pub deny: Denied<T>,
}

/// Identifiers that are refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied<T>(pub Vec<T>);

/// What a [`HardwareList`] says of one identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listing<'a> {
    /// Denied by name.
    Denied,
    /// Allowed by name.
    Allowed,
    /// Not among those allowed.
    NotListed,
    /// Not denied, and the policy does not ask for more, for this reason.
    Waived(&'a Reason),
}

impl<T: PartialEq> HardwareList<T> {
    /// Looks an identifier up. Nothing stands for evidence that names none: it is refused where there is anything to
    /// compare it with, as what is not named may be what is denied.
    #[must_use]
    pub fn listing(&self, found: Option<&T>) -> Listing<'_> {
        let denied = match found {
            Some(found) => self.deny.0.contains(found),
            None => !self.deny.0.is_empty(),
        };
        match (&self.allow, found) {
            _ if denied => Listing::Denied,
            (Expect::Waive(reason), _) => Listing::Waived(reason),
            (Expect::AnyOf(allowed), Some(found)) if allowed.contains(found) => Listing::Allowed,
            (Expect::AnyOf(_), _) => Listing::NotListed,
        }
    }
}

impl<T: Debug + Display> Expectation for Denied<T> {
    fn says(&self) -> Says {
        Says::none_of(&self.0)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for HardwareList<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields, bound = "T: Deserialize<'de>")]
        struct Form<T> {
            any_of: Option<Vec<T>>,
            waive: Option<Reason>,
            #[serde(default = "Vec::new")]
            deny: Vec<T>,
        }
        let form = Form::deserialize(deserializer)?;
        let allow = match (form.any_of, form.waive) {
            (Some(values), None) => Expect::AnyOf(values),
            (None, Some(reason)) => Expect::Waive(reason),
            _ => return Err(serde::de::Error::custom("expected either any_of or waive, beside deny")),
        };
        Ok(Self { allow, deny: Denied(form.deny) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Table {
        list: HardwareList<u8>,
    }

    fn list(text: &str) -> HardwareList<u8> {
        toml::from_str::<Table>(&format!("list = {text}")).unwrap().list
    }

    #[test]
    fn what_is_denied_is_refused_also_where_it_is_allowed() {
        let both = list("{ any_of = [1, 2], deny = [2] }");
        assert_eq!(both.listing(Some(&1)), Listing::Allowed);
        assert_eq!(both.listing(Some(&2)), Listing::Denied);
        assert_eq!(both.listing(Some(&3)), Listing::NotListed);
        let open = list("{ waive = \"any\", deny = [2] }");
        assert_eq!(open.listing(Some(&1)), Listing::Waived(&"any".into()));
        assert_eq!(open.listing(Some(&2)), Listing::Denied);
    }

    #[test]
    fn evidence_that_names_no_hardware_is_refused_where_there_is_a_list() {
        assert_eq!(list("{ any_of = [1] }").listing(None), Listing::NotListed);
        assert_eq!(list("{ waive = \"any\", deny = [2] }").listing(None), Listing::Denied);
        assert_eq!(list("{ waive = \"any\" }").listing(None), Listing::Waived(&"any".into()));
    }

    #[test]
    fn a_list_allows_or_waives_and_not_both_or_neither() {
        for bad in ["{ deny = [1] }", "{ any_of = [1], waive = \"x\" }", "{ any_of = [1], allow = [2] }"] {
            assert!(toml::from_str::<Table>(&format!("list = {bad}")).is_err(), "{bad}");
        }
    }
}
