//! Expectations: what a field must be, or why it is not looked at.

use confide_evidence::hex;
use serde::{Deserialize, Deserializer};

/// What a policy expects of one field.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Expect<T> {
    /// One of these values. An empty set accepts nothing.
    AnyOf(Vec<T>),
    /// Not looked at, for this reason. Every verdict repeats the waiver.
    Waive(String),
}

/// What a policy expects of a field that the verifier can recompute from an evidence document.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ExpectBound<T> {
    /// One of these values.
    AnyOf(Vec<T>),
    /// What the verifier recomputes from the evidence document and the challenge. A bare quote cannot meet this.
    From(Source),
    /// Not looked at, for this reason.
    Waive(String),
}

/// What a policy expects of a field that reference sets have values for.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ExpectReference<T> {
    /// One of these values. An empty set accepts nothing.
    AnyOf(Vec<T>),
    /// The value of the reference set that the evidence matches, in this and every other field of this kind.
    From(ReferenceSource),
    /// Not looked at, for this reason.
    Waive(String),
}

impl<T> ExpectReference<T> {
    /// The reason, where the field is waived.
    #[must_use]
    pub fn waiver(&self) -> Option<&str> {
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
    pub fn waiver(&self) -> Option<&str> {
        match self {
            Self::Waive(reason) => Some(reason),
            Self::AnyOf(_) => None,
        }
    }
}

impl<T> ExpectBound<T> {
    /// The reason, where the field is waived.
    #[must_use]
    pub fn waiver(&self) -> Option<&str> {
        match self {
            Self::Waive(reason) => Some(reason),
            Self::AnyOf(_) | Self::From(_) => None,
        }
    }
}

impl Require {
    /// The reason, where the check is waived.
    #[must_use]
    pub fn waiver(&self) -> Option<&str> {
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
    Waive(String),
}

/// A check of something that evidence may lack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequireGiven {
    /// It must be there, and the check must pass.
    Required,
    /// Where it is there, the check must pass; that it is absent is not held against the evidence.
    WhenGiven,
    /// The check may fail or be impossible, for this reason.
    Waive(String),
}

impl RequireGiven {
    /// The reason, where the check is waived.
    #[must_use]
    pub fn waiver(&self) -> Option<&str> {
        match self {
            Self::Waive(reason) => Some(reason),
            Self::Required | Self::WhenGiven => None,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Waiver {
    waive: String,
}

impl<'de> Deserialize<'de> for Require {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "\"required\" or { waive = \"reason\" }")]
        enum Form {
            Word(Word),
            Waiver(Waiver),
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "snake_case")]
        enum Word {
            Required,
        }
        Ok(match Form::deserialize(deserializer)? {
            Form::Word(Word::Required) => Self::Required,
            Form::Waiver(waiver) => Self::Waive(waiver.waive),
        })
    }
}

impl<'de> Deserialize<'de> for RequireGiven {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "\"required\", \"when-given\" or { waive = \"reason\" }")]
        enum Form {
            Word(Word),
            Waiver(Waiver),
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "kebab-case")]
        enum Word {
            Required,
            WhenGiven,
        }
        Ok(match Form::deserialize(deserializer)? {
            Form::Word(Word::Required) => Self::Required,
            Form::Word(Word::WhenGiven) => Self::WhenGiven,
            Form::Waiver(waiver) => Self::Waive(waiver.waive),
        })
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
