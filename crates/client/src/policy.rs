//! A policy with the text that it was read from.

use confide_policy::{AppraisalPolicy, Loaded, PolicyError};

/// An appraisal policy and its text: records keep the text.
#[derive(Clone, Debug)]
pub struct PolicyText {
    text: String,
    policy: AppraisalPolicy,
}

impl PolicyText {
    /// Reads and checks a policy.
    ///
    /// # Errors
    /// As [`AppraisalPolicy::parse`].
    pub fn parse(text: String, loaded: Loaded) -> Result<Self, PolicyError> {
        let policy = AppraisalPolicy::parse(&text, loaded)?;
        Ok(Self { text, policy })
    }

    /// A policy that was read before, with the text that it was read from.
    #[must_use]
    pub fn new(text: String, policy: AppraisalPolicy) -> Self {
        Self { text, policy }
    }

    /// The text as it was given.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The policy.
    #[must_use]
    pub fn policy(&self) -> &AppraisalPolicy {
        &self.policy
    }
}
