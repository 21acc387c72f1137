//! Expectations: what a field must be, or why it is not looked at.

use crate::Reason;
use crate::form::{self, WordOrTable};
use confide_evidence::hex;
use serde::{Deserialize, Deserializer};

/// What a policy expects of one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expect<T> {
    /// One of these values. An empty set accepts nothing.
    AnyOf(Vec<T>),
    /// Not looked at, for this reason. Every verdict repeats the waiver.
    Waive(Reason),
}

/// What a policy expects of a field that the verifier can recompute from an evidence document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExpectBound<T> {
    /// One of these values.
    AnyOf(Vec<T>),
    /// What the verifier recomputes from the evidence document and the challenge. A bare quote cannot meet this.
    From(Source),
    /// Not looked at, for this reason.
    Waive(Reason),
}

/// What a policy expects of a field that reference sets have values for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExpectReference<T> {
    /// One of these values. An empty set accepts nothing.
    AnyOf(Vec<T>),
    /// The value of the reference set that the evidence matches, in this and every other field of this kind.
    From(ReferenceSource),
    /// Not looked at, for this reason.
    Waive(Reason),
}

impl<T> ExpectReference<T> {
    /// The reason, where the field is waived.
    #[must_use]
    pub fn waiver(&self) -> Option<&Reason> {
        match self {
            Self::Waive(reason) => Some(reason),
            Self::AnyOf(_) | Self::From(_) => None,
        }
    }

    /// Whether the value is taken from a reference set.
    #[must_use]
    pub fn is_from_reference(&self) -> bool {
        matches!(self, Self::From(_))
    }
}

impl<T> Expect<T> {
    /// The reason, where the field is waived.
    #[must_use]
    pub fn waiver(&self) -> Option<&Reason> {
        match self {
            Self::Waive(reason) => Some(reason),
            Self::AnyOf(_) => None,
        }
    }
}

impl<T> ExpectBound<T> {
    /// The reason, where the field is waived.
    #[must_use]
    pub fn waiver(&self) -> Option<&Reason> {
        match self {
            Self::Waive(reason) => Some(reason),
            Self::AnyOf(_) | Self::From(_) => None,
        }
    }
}

impl Require {
    /// The reason, where the check is waived.
    #[must_use]
    pub fn waiver(&self) -> Option<&Reason> {
        match self {
            Self::Waive(reason) => Some(reason),
            Self::Required => None,
        }
    }
}

/// Where a recomputed value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Source {
    /// The evidence document's transcript or runtime events.
    #[serde(rename = "document")]
    Document,
}

/// Where the values of a reference set are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum ReferenceSource {
    /// The policy's `[reference.NAME]` tables, and the signed file that it names.
    #[serde(rename = "reference")]
    Reference,
}

/// A check that is made, or waived with a reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Require {
    /// The check must pass.
    Required,
    /// The check may fail or be impossible, for this reason.
    Waive(Reason),
}

/// A check of something that evidence may lack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequireGiven {
    /// It must be there, and the check must pass.
    Required,
    /// Where it is there, the check must pass; that it is absent is not held against the evidence.
    WhenGiven,
    /// The check may fail or be impossible, for this reason.
    Waive(Reason),
}

impl RequireGiven {
    /// The reason, where the check is waived.
    #[must_use]
    pub fn waiver(&self) -> Option<&Reason> {
        match self {
            Self::Waive(reason) => Some(reason),
            Self::Required | Self::WhenGiven => None,
        }
    }
}

/// The table form of a waiver.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Waiver {
    waive: Reason,
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Expect<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields, bound = "T: Deserialize<'de>")]
        struct Form<T> {
            any_of: Option<Vec<T>>,
            waive: Option<Reason>,
        }
        let form = Form::deserialize(deserializer)?;
        form::one([form.any_of.map(Self::AnyOf), form.waive.map(Self::Waive)], "any_of, waive")
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for ExpectBound<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let form = Sourced::<T, Source>::deserialize(deserializer)?;
        form::one(
            [form.any_of.map(Self::AnyOf), form.from.map(Self::From), form.waive.map(Self::Waive)],
            "any_of, from, waive",
        )
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for ExpectReference<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let form = Sourced::<T, ReferenceSource>::deserialize(deserializer)?;
        form::one(
            [form.any_of.map(Self::AnyOf), form.from.map(Self::From), form.waive.map(Self::Waive)],
            "any_of, from, waive",
        )
    }
}

/// The table form of an expectation that may name where its value comes from.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, bound = "T: Deserialize<'de>, S: Deserialize<'de>")]
struct Sourced<T, S> {
    any_of: Option<Vec<T>>,
    from: Option<S>,
    waive: Option<Reason>,
}

impl WordOrTable for Require {
    type Table = Waiver;
    const EXPECTED: &'static str = "\"required\" or { waive = \"reason\" }";

    fn word(word: &str) -> Option<Self> {
        (word == "required").then_some(Self::Required)
    }

    fn table(table: Waiver) -> Self {
        Self::Waive(table.waive)
    }
}

impl<'de> Deserialize<'de> for Require {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        form::word_or_table(deserializer)
    }
}

impl WordOrTable for RequireGiven {
    type Table = Waiver;
    const EXPECTED: &'static str = "\"required\", \"when-given\" or { waive = \"reason\" }";

    fn word(word: &str) -> Option<Self> {
        match word {
            "required" => Some(Self::Required),
            "when-given" => Some(Self::WhenGiven),
            _ => None,
        }
    }

    fn table(table: Waiver) -> Self {
        Self::Waive(table.waive)
    }
}

impl<'de> Deserialize<'de> for RequireGiven {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        form::word_or_table(deserializer)
    }
}

/// `N` bytes, written in a policy as hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HexBytes<const N: usize>(pub [u8; N]);

impl<const N: usize> std::fmt::Debug for HexBytes<N> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&hex::encode(&self.0))
    }
}

impl<const N: usize> std::fmt::Display for HexBytes<N> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&hex::encode(&self.0))
    }
}

impl<'de, const N: usize> Deserialize<'de> for HexBytes<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        hex::decode_array(&text).map(Self).ok_or_else(|| {
            let digits = N.saturating_mul(2);
            serde::de::Error::custom(format!("{text:?} is not {digits} hexadecimal digits"))
        })
    }
}
