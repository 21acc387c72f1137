//! Fields of a policy, for those who list them: waivers, comparison, explanation.

use crate::{Expect, ExpectBound, Require};
use std::fmt::Debug;

/// What a field of a policy says, whatever its type.
pub trait Expectation: Debug {
    /// The reason, where the field is waived.
    fn waiver(&self) -> Option<&str>;
}

impl<T: Debug> Expectation for Expect<T> {
    fn waiver(&self) -> Option<&str> {
        self.waiver()
    }
}

impl<T: Debug> Expectation for ExpectBound<T> {
    fn waiver(&self) -> Option<&str> {
        self.waiver()
    }
}

impl Expectation for Require {
    fn waiver(&self) -> Option<&str> {
        self.waiver()
    }
}

/// One field of a policy.
#[derive(Debug, Clone, Copy)]
pub struct Field<'a> {
    /// Table and name, as in `tdx.mr_td`.
    pub path: &'static str,
    expectation: &'a dyn Expectation,
}

impl<'a> Field<'a> {
    /// A field of a table.
    pub(crate) fn new(path: &'static str, expectation: &'a dyn Expectation) -> Self {
        Self { path, expectation }
    }

    /// The reason, where the field is waived.
    #[must_use]
    pub fn waiver(&self) -> Option<&'a str> {
        self.expectation.waiver()
    }
}
