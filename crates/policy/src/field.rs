//! Fields of a policy, for those who list them: waivers, comparison, explanation, documentation.

use crate::{Expect, ExpectBound, ExpectReference, Reason, Require, RequireGiven, Says};
use std::borrow::Cow;
use std::fmt::{Debug, Display};

/// What a field of a policy says, whatever its type.
pub trait Expectation: Debug {
    /// The reason, where the field is waived.
    fn waiver(&self) -> Option<&Reason> {
        None
    }

    /// The field in a form that can be compared and told.
    fn says(&self) -> Says;
}

impl<T: Debug + Display> Expectation for Expect<T> {
    fn waiver(&self) -> Option<&Reason> {
        self.waiver()
    }

    fn says(&self) -> Says {
        match self {
            Self::AnyOf(values) => Says::any_of(values),
            Self::Waive(reason) => Says::Waived(reason.to_string()),
        }
    }
}

impl<T: Debug + Display> Expectation for ExpectBound<T> {
    fn waiver(&self) -> Option<&Reason> {
        self.waiver()
    }

    fn says(&self) -> Says {
        match self {
            Self::AnyOf(values) => Says::any_of(values),
            Self::From(_) => Says::Recomputed,
            Self::Waive(reason) => Says::Waived(reason.to_string()),
        }
    }
}

impl<T: Debug + Display> Expectation for ExpectReference<T> {
    fn waiver(&self) -> Option<&Reason> {
        self.waiver()
    }

    fn says(&self) -> Says {
        match self {
            Self::AnyOf(values) => Says::any_of(values),
            Self::From(_) => Says::Reference,
            Self::Waive(reason) => Says::Waived(reason.to_string()),
        }
    }
}

impl Expectation for Require {
    fn waiver(&self) -> Option<&Reason> {
        self.waiver()
    }

    fn says(&self) -> Says {
        match self {
            Self::Required => Says::Required,
            Self::Waive(reason) => Says::Waived(reason.to_string()),
        }
    }
}

impl Expectation for RequireGiven {
    fn waiver(&self) -> Option<&Reason> {
        self.waiver()
    }

    fn says(&self) -> Says {
        match self {
            Self::Required => {
                Says::Choice { word: "required", meaning: "it must be there and hold", looseness: 0 }
            }
            Self::WhenGiven => {
                Says::Choice { word: "when-given", meaning: "it must hold where it is there", looseness: 1 }
            }
            Self::Waive(reason) => Says::Waived(reason.to_string()),
        }
    }
}

/// A field that every policy has: nothing of it is made for the occasion, since each verdict looks for waivers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Listed<'a> {
    path: &'static str,
    code: &'static str,
    subject: &'static str,
    expectation: &'a dyn Expectation,
}

impl<'a> Listed<'a> {
    /// A field that drives a check.
    pub(crate) fn new(
        path: &'static str,
        code: &'static str,
        subject: &'static str,
        expectation: &'a dyn Expectation,
    ) -> Self {
        Self { path, code, subject, expectation }
    }

    /// The waiver, where the field is waived.
    pub(crate) fn waived(self) -> Option<Waived<'a>> {
        let Self { path, code, .. } = self;
        self.expectation.waiver().map(|reason| Waived { path, code, reason })
    }
}

/// A field that a policy waives.
#[derive(Debug, Clone, Copy)]
pub struct Waived<'a> {
    /// Table and name, as in `tdx.mr_td`.
    pub path: &'static str,
    /// The stable code of the check that the field drives.
    pub code: &'static str,
    /// Why it is waived.
    pub reason: &'a Reason,
}

impl<'a> From<Listed<'a>> for Field<'a> {
    fn from(Listed { path, code, subject, expectation }: Listed<'a>) -> Self {
        Self::new(path, code, subject, expectation)
    }
}

/// One field of a policy.
#[derive(Debug, Clone)]
pub struct Field<'a> {
    /// Table and name, as in `tdx.mr_td`.
    pub path: Cow<'static, str>,
    /// The stable code of the check that the field drives; nothing where it is no check's.
    pub code: Option<&'static str>,
    /// What the field is about: a noun phrase, or for checks that are required or waived what must hold.
    pub subject: Cow<'static, str>,
    value: Value<'a>,
}

#[derive(Debug, Clone)]
enum Value<'a> {
    Of(&'a dyn Expectation),
    Said(Box<Says>),
}

impl<'a> Field<'a> {
    /// A field that drives a check.
    pub(crate) fn new(
        path: &'static str,
        code: &'static str,
        subject: &'static str,
        expectation: &'a dyn Expectation,
    ) -> Self {
        Self { path: path.into(), code: Some(code), subject: subject.into(), value: Value::Of(expectation) }
    }

    /// A field of an entry with a name of its own.
    pub(crate) fn named(
        path: String,
        code: &'static str,
        subject: String,
        expectation: &'a dyn Expectation,
    ) -> Self {
        Self { path: path.into(), code: Some(code), subject: subject.into(), value: Value::Of(expectation) }
    }

    /// A field that is never waived, whose meaning is made here.
    pub(crate) fn owned(path: &'static str, code: &'static str, subject: &'static str, says: Says) -> Self {
        Self {
            path: path.into(),
            code: Some(code),
            subject: subject.into(),
            value: Value::Said(Box::new(says)),
        }
    }

    /// A field that drives no check of its own.
    pub(crate) fn setting(
        path: &'static str,
        subject: &'static str,
        expectation: &'a dyn Expectation,
    ) -> Self {
        Self { path: path.into(), code: None, subject: subject.into(), value: Value::Of(expectation) }
    }

    /// The reason, where the field is waived.
    #[must_use]
    pub fn waiver(&self) -> Option<&'a Reason> {
        match self.value {
            Value::Of(expectation) => expectation.waiver(),
            Value::Said(_) => None,
        }
    }

    /// The field in a form that can be compared and told.
    #[must_use]
    pub fn says(&self) -> Says {
        match &self.value {
            Value::Of(expectation) => expectation.says(),
            Value::Said(says) => says.as_ref().clone(),
        }
    }
}
