//! The table `[models]`: which model a request may name, and which files it then is answered from.

use crate::{Expectation, HexBytes, PolicyError, Says};
use confide_evidence::text::steers;
use serde::Deserialize;
use std::collections::BTreeMap;

/// The most names of the table. A fleet serves a few dozen models: aliases and earlier versions still fit.
const MAX_MODELS: usize = 1024;
/// The longest name, in bytes. Published names have under 100, with their owner before a slash.
const MAX_MODEL_NAME: usize = 256;
/// The most manifests of one name. One is usual: a second one while a fleet changes to it.
const MAX_MANIFESTS: usize = 64;

/// The SHA-256 digests of model manifests, by the names that requests give.
///
/// It decides no verdict: `claims.model` does. It decides which attested guest may answer a request, so that a name
/// stands for files that the policy's author chose, and not for what a guest calls them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Models(BTreeMap<String, Vec<HexBytes<32>>>);

impl Models {
    /// Digests of the manifests that a name stands for; nothing for a name that is not in the table.
    #[must_use]
    pub fn manifests(&self, name: &str) -> Option<&[HexBytes<32>]> {
        self.0.get(name).map(Vec::as_slice)
    }

    /// The names that stand for a manifest with this digest, sorted.
    pub fn names(&self, manifest: &[u8; 32]) -> impl Iterator<Item = &str> {
        let stands = |digests: &Vec<HexBytes<32>>| digests.iter().any(|digest| digest.0 == *manifest);
        self.0.iter().filter(move |(_, digests)| stands(digests)).map(|(name, _)| name.as_str())
    }

    /// Each name with the digests that it stands for, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[HexBytes<32>])> {
        self.0.iter().map(|(name, digests)| (name.as_str(), digests.as_slice()))
    }

    /// # Errors
    /// [`PolicyError::Range`] beyond a limit; [`PolicyError::ModelName`].
    pub(crate) fn check(&self) -> Result<(), PolicyError> {
        let most = |field, expected, found: usize, limit| match found <= limit {
            true => Ok(()),
            false => Err(PolicyError::Range { field, found: found.try_into().unwrap_or(u64::MAX), expected }),
        };
        most("the number of models", "at most 1024", self.0.len(), MAX_MODELS)?;
        for (name, digests) in &self.0 {
            if name.is_empty() || name.len() > MAX_MODEL_NAME || name.contains(steers) {
                return Err(PolicyError::ModelName(name.clone()));
            }
            most("the number of a model's manifests", "at most 64", digests.len(), MAX_MANIFESTS)?;
        }
        Ok(())
    }
}

/// Pairs of name and digest. Without the table every name is taken that a guest claims.
impl Expectation for Option<Models> {
    fn says(&self) -> Says {
        let Some(Models(models)) = self else { return Says::All };
        let pairs =
            models.iter().flat_map(|(name, digests)| digests.iter().map(move |digest| (name, digest)));
        Says::any_of(pairs.map(|(name, digest)| format!("{name} = {digest}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AppraisalPolicy, CLIENT, Change, Loaded};

    const ONE: &str = "9519000000000000000000000000000000000000000000000000000000000ce3";
    const TWO: &str = "11ff000000000000000000000000000000000000000000000000000000000022";

    fn with(table: &str) -> Result<AppraisalPolicy, PolicyError> {
        AppraisalPolicy::parse(&format!("{CLIENT}\n[models]\n{table}\n"), Loaded::Normally)
    }

    fn models(table: &str) -> Option<Models> {
        with(table).unwrap().models
    }

    #[test]
    fn a_name_stands_for_the_manifests_of_the_table() {
        let models =
            models(&format!("tiny = [\"{ONE}\"]\n\"Qwen/Qwen3-0.6B\" = [\"{TWO}\", \"{ONE}\"]\nnone = []"))
                .unwrap();
        let digests = models.manifests("Qwen/Qwen3-0.6B").unwrap();
        assert_eq!(digests.iter().map(ToString::to_string).collect::<Vec<_>>(), [TWO, ONE]);
        assert_eq!(models.manifests("none").map(<[_]>::len), Some(0));
        assert!(models.manifests("Tiny").is_none(), "names are compared byte by byte");
        let one = models.manifests("tiny").unwrap()[0].0;
        assert_eq!(models.names(&one).collect::<Vec<_>>(), ["Qwen/Qwen3-0.6B", "tiny"]);
        assert_eq!(models.names(&[0; 32]).count(), 0);
    }

    #[test]
    fn a_policy_without_the_table_has_none_and_one_with_an_empty_table_allows_no_model() {
        assert_eq!(AppraisalPolicy::client().models, None);
        assert_eq!(models(""), Some(Models::default()));
    }

    #[test]
    fn what_is_no_table_of_digests_is_refused() {
        for table in [
            "tiny = \"00\"".to_owned(),
            "tiny = [\"00\"]".to_owned(),
            "tiny = { any_of = [] }".to_owned(),
            format!("tiny = [\"{ONE}\"]\ntiny = [\"{TWO}\"]"),
        ] {
            assert!(matches!(with(&table), Err(PolicyError::Toml(_))), "{table}");
        }
        for name in [String::new(), "a".repeat(MAX_MODEL_NAME + 1), "\\u001b[2J".to_owned()] {
            let refused = with(&format!("\"{name}\" = []"));
            assert!(matches!(refused, Err(PolicyError::ModelName(_))), "{name:?}: {refused:?}");
        }
        let digests = vec![format!("\"{ONE}\""); MAX_MANIFESTS + 1].join(", ");
        assert!(matches!(with(&format!("a = [{digests}]")), Err(PolicyError::Range { .. })));
        let names: String = (0..=MAX_MODELS).map(|number| format!("m{number} = []\n")).collect();
        assert!(matches!(with(&names), Err(PolicyError::Range { .. })));
    }

    #[test]
    fn a_table_is_stricter_than_none_and_a_further_name_looser() {
        let [none, one, two] = [
            None,
            models(&format!("tiny = [\"{ONE}\"]")),
            models(&format!("tiny = [\"{ONE}\"]\nbig = [\"{TWO}\"]")),
        ]
        .map(|table| table.says());
        assert_eq!(none.change_to(&one), Change::Stricter);
        assert_eq!(one.change_to(&two), Change::Looser);
        assert_eq!(two.change_to(&none), Change::Looser);
        assert_eq!(one.to_string(), format!("any of tiny = {ONE}"));
    }
}
