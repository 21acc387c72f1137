//! Which model a request is for, and which instances have it.

use super::instance::Instance;
use confide_channel::Verdict;
use confide_policy::AppraisalPolicy;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The longest name of a model that an error repeats, in characters. Published names have under 100.
const MAX_SHOWN_MODEL: usize = 120;

/// The model of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelChoice<'a> {
    /// The name that the request gives.
    Named(&'a str),
    /// The request names none that can be read: any instance will do where all have the same model.
    Unnamed,
}

impl ModelChoice<'_> {
    /// Whether a verdict attests the model: its manifest is one that the policy lists under the name, or, where the policy
    /// has no table of models, its claims have this very name.
    pub(super) fn fits(self, policy: &AppraisalPolicy, verdict: &Verdict) -> bool {
        let Self::Named(name) = self else { return true };
        let attested = &verdict.claims().model;
        match &policy.models {
            Some(models) => models
                .manifests(name)
                .is_some_and(|digests| digests.iter().any(|digest| digest.0 == attested.manifest.0)),
            None => attested.name == name,
        }
    }

    /// The name, or its beginning.
    pub(super) fn shown(self) -> String {
        match self {
            Self::Named(name) => name.chars().take(MAX_SHOWN_MODEL).collect(),
            Self::Unnamed => String::new(),
        }
    }
}

/// Whether verdicts attest different models.
pub(super) fn differ<'a>(verdicts: impl Iterator<Item = &'a Arc<Verdict>>) -> bool {
    let mut manifests = verdicts.map(|verdict| &verdict.claims().model.manifest);
    let Some(first) = manifests.next() else { return false };
    manifests.any(|manifest| manifest != first)
}

/// Whether no instance whatever can have the model: the policies have tables of models, and none has the name.
pub(super) fn is_unknown(model: ModelChoice<'_>, instances: &[Arc<Instance>]) -> bool {
    let ModelChoice::Named(name) = model else { return false };
    let unknown = |one: &Arc<Instance>| {
        one.client().policy().models.as_ref().is_some_and(|models| models.manifests(name).is_none())
    };
    !instances.is_empty() && instances.iter().all(unknown)
}

/// The names of all models that attested instances have, each with a verdict that attests it.
pub(super) fn all(instances: &[Arc<Instance>]) -> Vec<(String, Arc<Verdict>)> {
    let mut found = BTreeMap::new();
    for instance in instances {
        let Some(verdict) = instance.attested() else { continue };
        let model = &verdict.claims().model;
        match &instance.client().policy().models {
            Some(models) => {
                for name in models.names(&model.manifest.0) {
                    found.entry(name.to_owned()).or_insert_with(|| Arc::clone(&verdict));
                }
            }
            None => {
                found.entry(model.name.clone()).or_insert_with(|| Arc::clone(&verdict));
            }
        }
    }
    found.into_iter().collect()
}
